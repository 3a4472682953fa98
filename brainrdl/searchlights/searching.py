"""The searchlight: RDMs around each centre, compared with models where they are computed.

Centres are sorted by the number of their channels, so that spheres of one size are computed together. Blocks do not
depend on the number of workers, and each is computed by one thread, so the result is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from brainrdl._core.errors import arg, check_whole, refuse
from brainrdl._core.progress import track_slow
from brainrdl.dissimilarity.measures import Dissimilarity, traits_of
from brainrdl.rdms.by_name import joined_rdms
from brainrdl.searchlights.kernels import Kernel, kernel_of
from brainrdl.searchlights.maps import SearchlightMap
from brainrdl.searchlights.measurements import Measurements, Values, measurements_of
from brainrdl.searchlights.neighbourhoods import Neighbourhoods, Places
from brainrdl.searchlights.scoring import Scorer, place_of, scorer_of

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

    from brainrdl.similarity.traits import Similarity
DONE, UNUSABLE, SMALL, FLAT, SINGULAR, CONSTANT, EMPTY = range(7)

REASONS = {
    UNUSABLE: "the channel of the centre cannot be used",
    SMALL: "too few channels",
    FLAT: "a condition has the same value in all channels, or does not agree between runs, so it has no correlation",
    SINGULAR: "the noise covariance cannot be inverted",
    CONSTANT: "all dissimilarities are equal",
    EMPTY: "no dissimilarity is known",
}

_PER_JOB = 512  # centres; enough work for the time that a worker needs to receive it

_SCANNED = 4096  # centres whose sizes are counted at a time


def searchlight(
    data: Any,
    neighbourhoods: Neighbourhoods,
    models: RDMs | Mapping[str, RDMs] | Sequence[RDMs] | None = None,
    *,
    dissimilarity: str | Dissimilarity = "correlation",
    comparator: str | Similarity = "corr",
    by: str | Sequence[str] = "stimulus",
    runs: str | Sequence[str] = "run",
    noise: str | None = None,
    common: bool = False,
    min_channels: int = 5,
    keep_rdms: bool = False,
    n_jobs: int | None = None,
    progress: bool = True,
) -> SearchlightMap:
    """Compute the RDM of the channels around each centre, and its similarity to model RDMs.

    Parameters
    ----------
    data : rsatoolbox Dataset or TemporalDataset, nibabel image (x, y, z, n_observations), or array
        Measurements of one subject, any unit; an array is (n_observations, n_channels[, n_times]). The channels of a
        dataset are found by their descriptors (voxels ``i, j, k``, vertices ``vertex``, sensors ``channel``), otherwise
        by position.
    neighbourhoods : Neighbourhoods
        Centres and the channels around each: `volume_neighbourhoods`, `surface_neighbourhoods`,
        `sensor_neighbourhoods`, and `over_time` of these.
    models : rsatoolbox RDMs, sequence of such, or mapping of name to RDMs, optional
        Model RDMs; their conditions are paired with those of the data by name.
    dissimilarity : str or callable
        A name in `brainrdl.dissimilarity.DISSIMILARITIES`, or a function ``(..., n_conditions, n_channels) ->
        (..., n_pairs)``, which is called with batches of spheres.
    comparator : str or callable
        A name in `brainrdl.similarity.SIMILARITIES`, or such a function.
    by : str or sequence of str
        Descriptor that names the conditions (of data and models), or the condition of each observation.
    runs : str or sequence of str
        Descriptor of the run, or the run of each observation, for cross-validated dissimilarities.
    noise : {"diag", "full", "shrinkage_diag", "shrinkage_eye"}, optional
        Estimator of the noise covariance of the channels in each sphere, as in `brainrdl.calc_rdm`: from the residuals
        that a dataset of raw data has, otherwise from deviations of observations from the mean of their condition.
    common : bool
        Compare on the conditions that models and data have in common; by default, other conditions are refused.
    min_channels : int
        Centres with fewer channels that can be used are left out.
    keep_rdms : bool
        Also return the RDMs. Without it, the memory does not grow with centres times pairs.
    n_jobs : int, optional
        Number of joblib's workers, -1 for one per core; by default 1, or as in ``joblib.parallel_config``, with which
        work also goes to threads or to a cluster. The result is the same.
    progress : bool
        Show progress and the time left on stderr if it takes longer than two seconds.

    Returns
    -------
    SearchlightMap
        Scores (centres x models), NaN for centres that were left out; it says how many, and why.

    Raises
    ------
    BrainrdlError
        If data and neighbourhoods do not fit, conditions of models and data differ, runs or noise are lacking, or no
        centre is left.

    Warns
    -----
    UserWarning
        If conditions occur together in fewer than two runs, so that dissimilarities are NaN, which scores leave out.

    Notes
    -----
    Every RDM is the one that `brainrdl.calc_rdm` gives for the channels of that sphere, up to rounding (and for
    correlation, cosine, euclidean, mahalanobis and crossnobis the one of rsatoolbox).

    References
    ----------
    Kriegeskorte, Goebel & Bandettini (2006), PNAS 103:3863-3868, doi 10.1073/pnas.0600244103.

    Examples
    --------
    >>> from brainrdl import rdms, searchlight, searchlights
    >>> near = searchlights.volume_neighbourhoods(np.ones((4, 4, 4)), 3.0, affine=np.diag([2.0, 2.0, 2.0, 1.0]))
    >>> measured = np.random.default_rng(0).normal(size=(5, 64))
    >>> model = rdms.from_array(np.arange(10.0), list("abcde"))
    >>> found = searchlight(measured, near, {"my model": model}, by=list("abcde"))
    >>> found.scores.shape, found.scores.columns.tolist()
    ((64, 1), ['my model'])
    """
    check_whole(min_channels, "min_channels", 1)
    if models is None and not keep_rdms:
        refuse(f"there is nothing to return: give model RDMs, or {arg('keep_rdms', True)}")
    measured = measurements_of(data, neighbourhoods, by, runs)
    names_by = by if isinstance(by, str) else "stimulus"
    scorer, used = None, list(measured.names)
    if models is not None:
        scorer, used = scorer_of(models, measured.names, comparator, names_by, common)
    places = None if used == measured.names else place_of(measured.names, used)
    kernel = kernel_of(measured, dissimilarity, noise)
    measured = _without_silent(measured, kernel)
    _warn_of_missing(kernel, measured, dissimilarity)
    states, jobs = _plan(neighbourhoods, measured, min_channels)
    work = _Work(neighbourhoods, measured.usable, kernel, scorer, places, keep_rdms)
    n_models = 0 if scorer is None else len(scorer.labels)
    scores = np.full((len(states), n_models), np.nan)
    kept: dict[int, Values] = {}
    for centres, found in _results(work, jobs, n_jobs, progress):
        states[centres], scores[centres] = found.states, found.scores
        if found.pairs is not None:
            kept |= dict(zip(centres.tolist(), found.pairs, strict=True))
    _refuse_nothing(states)
    label = dissimilarity if isinstance(dissimilarity, str) else getattr(dissimilarity, "__name__", repr(dissimilarity))
    return SearchlightMap(
        neighbourhoods=neighbourhoods,
        values=scores,
        models=() if scorer is None else scorer.labels,
        states=states,
        left_out={
            "channels": measured.left_out,
            "centres": {why: int((states == code).sum()) for code, why in REASONS.items() if (states == code).any()},
        },
        settings={
            "dissimilarity": label,
            "comparator": comparator if isinstance(comparator, str) else getattr(comparator, "__name__", "own"),
            "noise": noise,
            "min_channels": min_channels,
            "conditions": used,
            **measured.descriptors,
        },
        rdms=_rdms(kept, states, measured, names_by, label) if keep_rdms else None,
    )


@dataclass(frozen=True, eq=False)
class _Found:
    states: npt.NDArray[np.int8]
    scores: Values
    pairs: Values | None


@dataclass(frozen=True, eq=False)
class _Work:
    """What a worker needs to compute centres."""

    where: Neighbourhoods
    usable: npt.NDArray[np.bool_]
    kernel: Kernel
    scorer: Scorer | None
    places: Places | None
    keep: bool

    def __call__(self, blocks: Sequence[Places]) -> list[tuple[Places, _Found]]:
        """Compute blocks of centres, whose spheres have the same size within a block."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            return [(centres, self._block(centres)) for centres in blocks]

    def _block(self, centres: Places) -> _Found:
        near = _used(self.where, self.usable, centres)
        channels = near[near >= 0].reshape(len(centres), -1)
        pairs, flat, singular = self.kernel(channels)
        compared = pairs if self.places is None else pairs[:, self.places]
        states = _states(compared, flat, singular)
        bad = states != DONE
        pairs[bad] = np.nan
        scores = np.empty((len(centres), 0))
        if self.scorer is not None:
            scores = np.full((len(centres), len(self.scorer.labels)), np.nan)
            if not bad.all():
                scores[~bad] = self.scorer(compared[~bad])
        return _Found(states, scores, pairs if self.keep else None)


def _states(pairs: Values, flat: npt.NDArray[np.bool_], singular: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8]:
    """Say which RDMs can be used; a sum is only finite if all pairs are."""
    states = np.full(len(pairs), DONE, np.int8)
    low, high = np.fmin.reduce(pairs, axis=1), np.fmax.reduce(pairs, axis=1)
    states[low == high] = CONSTANT
    states[np.isnan(low) | np.isinf(low) | np.isinf(high)] = EMPTY
    states[flat] = FLAT
    states[singular] = SINGULAR
    return states


def _used(where: Neighbourhoods, usable: npt.NDArray[np.bool_], centres: Places) -> Places:
    """Return the channels of centres, -1 for those that cannot be used."""
    near = where.members(centres)
    return np.where(np.append(usable, False)[near], near, -1)


def _plan(
    where: Neighbourhoods, measured: Measurements, min_channels: int
) -> tuple[npt.NDArray[np.int8], list[Places]]:
    """Return the state of each centre so far, and the centres to compute, sorted by their number of channels."""
    n = len(where.centres)
    sizes = np.concatenate(
        [
            (_used(where, measured.usable, np.arange(first, min(n, first + _SCANNED))) >= 0).sum(1)
            for first in range(0, n, _SCANNED)
        ]
    )
    states = np.full(n, DONE, np.int8)
    states[sizes < min_channels] = SMALL
    states[~measured.usable[where.own]] = UNUSABLE
    if not (states == DONE).any():
        refuse(
            f"no centre is left: the largest neighbourhood has {sizes.max()} channels that can be used, and "
            f"{arg('min_channels', min_channels)} are needed; choose a larger radius, or fewer channels"
        )
    order = np.argsort(sizes, kind="stable")
    order = order[states[order] == DONE]
    bounds = np.flatnonzero(np.diff(sizes[order])) + 1
    return states, np.split(order, bounds)


def _jobs(groups: Sequence[Places], work: _Work) -> list[list[Places]]:
    """Divide groups of one size into blocks, and join blocks to jobs, whatever the number of workers."""
    jobs: list[list[Places]] = [[]]
    n = 0
    for group in groups:
        size = int((_used(work.where, work.usable, group[:1]) >= 0).sum())
        for first in range(0, len(group), work.kernel.at_once(size)):
            block = group[first : first + work.kernel.at_once(size)]
            if n >= _PER_JOB:
                jobs.append([])
                n = 0
            jobs[-1].append(block)
            n += len(block)
    return jobs


def _results(
    work: _Work, groups: Sequence[Places], n_jobs: int | None, progress: bool
) -> Iterator[tuple[Places, _Found]]:
    from joblib import Parallel, delayed, effective_n_jobs

    if n_jobs == 0:
        refuse(f"{arg('n_jobs', 0)} is not a number of workers; use 1, 2, ..., or -1 for one per core")
    jobs = _jobs(groups, work)
    if effective_n_jobs(n_jobs) == 1 or len(jobs) == 1:
        results: Iterator[list[tuple[Places, _Found]]] = map(work, jobs)
    else:
        results = Parallel(n_jobs=n_jobs, return_as="generator")(delayed(work)(job) for job in jobs)
    for found in track_slow(results, "searchlight", len(jobs), progress):
        yield from found


def _without_silent(measured: Measurements, kernel: Kernel) -> Measurements:
    """Leave out channels that cannot be whitened, because their noise has no variance."""
    if kernel.silent is None or not (lost := int((measured.usable & kernel.silent).sum())):
        return measured
    left_out = {**measured.left_out, "no variance of the noise": lost}
    return replace(measured, usable=measured.usable & ~kernel.silent, left_out=left_out)


def _refuse_nothing(states: npt.NDArray[np.int8]) -> None:
    if not (states == DONE).any():
        counts = "; ".join(
            f"{int((states == code).sum())}: {why}" for code, why in REASONS.items() if (states == code).any()
        )
        refuse(f"none of {len(states)} centres has an RDM that can be compared ({counts})")


def _warn_of_missing(kernel: Kernel, measured: Measurements, dissimilarity: str | Dissimilarity) -> None:
    """Warn once about pairs that have no cross-validated dissimilarity; the same pairs in all spheres."""
    import torch

    from brainrdl.rdms.run_pairs import mean_over_run_pairs, report_missing

    if kernel.present:
        parts = [torch.zeros(1, len(part), 1) for part in kernel.present]
        known = mean_over_run_pairs(parts, kernel.present, kernel.n_conditions, lambda two, r, s: _zeros(two))
        report_missing(known, measured.names, traits_of(dissimilarity).label)


def _zeros(two: Any) -> Any:
    n = two.shape[2]
    return two.new_zeros(1, n * (n - 1) // 2)


def _rdms(kept: dict[int, Values], states: Any, measured: Measurements, by: str, label: str) -> RDMs:
    centres = np.flatnonzero(states == DONE)
    return joined_rdms(
        np.stack([kept[int(centre)] for centre in centres]),
        measure=label,
        rdm_descriptors={"centre": centres.tolist()},
        pattern_descriptors={by: measured.names},
    )
