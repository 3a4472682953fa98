"""Compute RDMs from measurements: rsatoolbox datasets in, rsatoolbox RDMs out, with `brainrdl.dissimilarity`.

The observations of each condition are averaged (within each run if the dissimilarity is cross-validated over runs).
Noise normalisation whitens channels with an estimate of their noise covariance. Time windows are averaged before
everything else, so that the noise is estimated from the same values that are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from brainrdl._core.errors import arg, check_option, named, quote, refuse
from brainrdl._core.files import write_rdm_in_parts
from brainrdl._core.progress import track_slow
from brainrdl.dissimilarity.blockwise import IN_BLOCKS, dissimilarity_blocks, with_progress
from brainrdl.dissimilarity.measures import Dissimilarity, traits_of
from brainrdl.rdms.by_name import FEWEST_CONDITIONS, concat_same, joined_rdms
from brainrdl.rdms.condition_pairs import NEEDS_NOISE, averaged_pairs, check_constant, cross_validated_pairs
from brainrdl.rdms.conversion import check, from_tensor
from brainrdl.rdms.mapped import MappedFile
from brainrdl.rdms.noise import RESIDUAL_DOF, check_samples, precision_of, whitened
from brainrdl.rdms.observations import averaged, check_finite, coded, windowed
from brainrdl.rdms.run_pairs import report_missing

if TYPE_CHECKING:
    from rsatoolbox.data.base import DatasetBase
    from rsatoolbox.rdm.rdms import RDMs

_NOT_WHITENED = "noise= whitens channels, and whitened counts are not counts: leave it out for Poisson dissimilarities"


def calc_rdm(
    data: DatasetBase | Sequence[DatasetBase],
    dissimilarity: str | Dissimilarity = "correlation",
    *,
    by: str = "stimulus",
    runs: str = "run",
    noise: str | npt.ArrayLike | Mapping[str, npt.ArrayLike] | None = None,
    noise_per: Literal["run", "window"] | None = None,
    windows: Sequence[tuple[float, float]] | None = None,
    window_as: Literal["mean", "samples"] = "mean",
    out: str | Path | None = None,
    progress: bool = True,
) -> RDMs:
    """Compute RDMs from measurements, one for each dataset and time window.

    Parameters
    ----------
    data : rsatoolbox Dataset or TemporalDataset, or sequence of such
        Measurements (n_observations, n_channels[, n_time]), any unit. Several datasets (for example one per region or
        subject) must have the same conditions.
    dissimilarity : str or callable
        A name in `brainrdl.dissimilarity.DISSIMILARITIES`, or a function
        ``(..., n_conditions, n_channels) -> (..., n_pairs)``.
    by : str
        Observation descriptor that names the conditions.
    runs : str
        Observation descriptor of the run, for ``"crossnobis"``, ``"poisson_cv"`` and noise per run. The observations
        of a condition in a run are averaged, and all runs have the same weight, however many observations they have.
        Conditions may be missing from runs; see Notes.
    noise : {"diag", "full", "shrinkage_diag", "shrinkage_eye"}, array, or mapping of run to array, optional
        Estimator of the noise covariance (rsatoolbox's names), or the noise precision itself, in the inverse squared
        unit of the measurements: (n_channels, n_channels), or (n_windows, n_channels, n_channels) if it differs between
        time windows, or one such array for each run, by the run's name. The covariance is estimated from the residuals
        that a reader of raw data has kept, otherwise from the deviations of observations from the mean of their
        condition. Crossnobis and mahalanobis use the precision; for any other dissimilarity, the patterns are whitened
        with its symmetric root.
    noise_per : {"run", "window"}, optional
        Estimate the noise in each run (from the deviations of observations from the mean of their condition in that
        run), or in each time window (or time point), instead of in all data. Not from residuals that a reader has kept.
    windows : sequence of (start, end), optional
        Time windows in seconds, both ends included, over which measurements with time are averaged (default: an RDM
        for each time point). For Poisson dissimilarities, spike counts are summed instead, so that the width of the
        bins does not matter, and rates are refused. The noise is estimated from all windows together, so for windows
        of different lengths use ``noise_per="window"``.
    window_as : {"mean", "samples"}
        Average (or sum) over each window, or keep its samples: the pattern of a condition is then that of all channels
        at all time points of the window, (n_channels * n_samples,), as in MNE-RSA. Windows must then have the same
        number of samples.
    out : path, optional
        HDF5 file to which the RDM is written while it is computed, in single precision, so that its pairs need not fit
        in memory (20,000 conditions make 200 million). The RDMs that are returned stay in this file, as with
        ``read(out, memory_map=True)``. For one dataset without time, and a dissimilarity that is not cross-validated.
    progress : bool
        Show progress and the time left on stderr if several datasets, or the pairs of a large one, need longer than
        two seconds (not for dissimilarities that are cross-validated, ranked, or your own).

    Returns
    -------
    rsatoolbox.rdm.RDMs
        In float64. Conditions are in the order in which they first appear in the (first) dataset, not sorted. The
        pattern descriptors are `by` and those observation descriptors that have one value in all observations of each
        condition, such as a category. The rdm descriptors are the single values that describe a dataset (subject, roi,
        session, task, ...; not counts, named ``n_...``), and ``time``: the time points as they are, or the centres of
        the windows, in s. Values keep their types.

    Raises
    ------
    BrainrdlError
        If `data` is not a dataset, a descriptor is missing, there are NaN or Inf, no two conditions occur together in
        two runs, there are too few observations to estimate the noise, a run has no noise precision, a constant pattern
        has no correlation, a window contains no time point or extends beyond the first or last one by more than half a
        sampling step, or the datasets have different conditions.

    Warns
    -----
    UserWarning
        If some pairs of conditions occur together in fewer than two runs; their cross-validated dissimilarity is NaN.
        If noise differs between runs, and conditions were not measured equally often in each, so that a dissimilarity
        that is not cross-validated is biased; the message says by how much patterns differ.

    Notes
    -----
    **Designs that are not balanced.** Let ``b(i, r)`` be the mean of the observations of condition i in run r, and
    ``R(i, j)`` the n runs in which conditions i and j both occur. The crossnobis distance is the mean over pairs of
    different runs in ``R(i, j)``::

        d(i, j) = sum over r != s of (b(i, r) - b(j, r))' P(r, s) (b(i, s) - b(j, s)) / (n (n - 1) n_channels)

    ``P(r, s)`` is the noise precision, and with a precision ``P(r)`` for each run the inverse of the mean of their
    covariances, ``inv((inv(P(r)) + inv(P(s))) / 2)``, as in rsatoolbox. Its expected value is the mean over these pairs
    of runs of ``(b_i - b_j)' P(r, s) (b_i - b_j) / n_channels`` for the true patterns, whichever conditions are missing
    and however often each is observed, if noise is independent between runs and the precisions are given; unequal
    repetitions change only its variance. A pattern that is added to all conditions of a run has no effect.
    ``rsatoolbox.rdm.calc_rdm_unbalanced`` has the same expected value if runs have no such offset, and equal values if
    both conditions occur once in the same runs. For ``"poisson_cv"`` and your own cross-validated dissimilarity, the
    same mean over pairs of runs is computed (`brainrdl.rdms.run_pairs`); the expected value of ``"poisson_cv"`` depends
    slightly on the numbers of observations, because it uses the logarithm of mean counts. It is 0 for equal rates.

    Dissimilarities that are not cross-validated average all observations of a condition. With a noise precision for
    each run, each observation is first whitened with the root of the precision of its run. If conditions were then
    measured in other runs, or not equally often in each, equal patterns become different: the mean of condition i is
    whitened by ``sum over r of f(i, r) P(r)^(1/2)``, with the share f(i, r) of its observations in run r. A warning
    says how much this changes patterns at most. Crossnobis has no such bias.

    **Order of conditions.** ``rsatoolbox.rdm.calc_rdm`` sorts conditions as text, and ``rsatoolbox.rdm.compare`` pairs
    them by position, without looking at names. Before you compare RDMs there, bring them to one order with
    `brainrdl.rdms.align`.

    References
    ----------
    Walther et al. (2016), NeuroImage 137:188-200, doi 10.1016/j.neuroimage.2015.12.012.

    Examples
    --------
    >>> from rsatoolbox.data import Dataset
    >>> measured = np.random.default_rng(0).normal(size=(12, 50))
    >>> data = Dataset(measured, obs_descriptors={"stimulus": list("abcd") * 3, "run": np.repeat([1, 2, 3], 4)})
    >>> calc_rdm(data, "crossnobis").n_cond
    4
    """
    datasets = list(data) if isinstance(data, Sequence) else [data]
    if not datasets:
        refuse("no dataset was given to calc_rdm")
    for each in datasets:
        _check_dataset(each, by)
    if not isinstance(by, str):
        refuse(f"{named('by')} must be the name of an observation descriptor, got {_shown(by)}")
    check_option(window_as, ("mean", "samples"), "window_as")
    if window_as == "samples" and windows is None:
        refuse(f"{arg('window_as', 'samples')} keeps the samples of time windows; give {arg('windows')} too")
    if out is not None:
        return _calc_to_file(datasets, dissimilarity, by, noise, noise_per, windows, Path(out), progress)
    how = (dissimilarity, by, runs, noise, noise_per, windows, window_as, progress)
    found = [_calc_one(each, *how) for each in track_slow(datasets, "RDMs", len(datasets), progress)]
    return found[0] if len(found) == 1 else concat_same(found, by)


def _shown(given: object) -> str:
    return quote(given) if isinstance(given, list | tuple | np.ndarray) else repr(given)


def _check_dataset(data: object, by: object) -> None:
    from rsatoolbox.data.base import DatasetBase

    if not isinstance(data, DatasetBase):
        shape = f" of shape {data.shape}" if isinstance(data, np.ndarray) else ""
        refuse(
            f"calc_rdm needs rsatoolbox's Dataset or TemporalDataset, got {type(data).__name__}{shape}; an array "
            "(n_observations, n_channels) becomes one with rsatoolbox.data.Dataset(array, obs_descriptors="
            f"{{{(by if isinstance(by, str) else 'stimulus')!r}: names}}), where names are those of the conditions"
        )


def _calc_one(
    data: DatasetBase,
    dissimilarity: str | Dissimilarity,
    by: str,
    runs: str,
    noise: str | npt.ArrayLike | Mapping[str, npt.ArrayLike] | None,
    noise_per: str | None,
    windows: Sequence[tuple[float, float]] | None,
    window_as: str,
    progress: bool,
) -> RDMs:
    names, codes = coded(data, by)
    _check_enough(names)
    traits = traits_of(dissimilarity)
    summed = traits.of_counts
    if summed and noise is not None:
        refuse(_NOT_WHITENED)
    if window_as == "samples":
        check_samples(data, noise)
    measured, times = windowed(data, windows, summed, window_as == "samples")
    precision = precision_of(data, measured, noise, noise_per, by, runs)
    label = dissimilarity if isinstance(dissimilarity, str) else getattr(dissimilarity, "__name__", repr(dissimilarity))
    in_runs = traits.cross_validated or (precision is not None and precision.shape[1] > 1)
    fold = coded(data, runs) if in_runs else (["all"], np.zeros_like(codes))
    if traits.cross_validated:
        pairs = cross_validated_pairs(measured, names, codes, fold, dissimilarity, precision)
        report_missing(pairs, names, label)
    else:
        pairs = averaged_pairs(measured, names, codes, fold[1], dissimilarity, precision, progress)
    descriptors: dict[str, list[Any]]
    descriptors = {key: [value] * len(pairs) for key, value in data.descriptors.items() if _describes(key, value)}
    descriptors |= {} if times is None else {"time": times}
    rdms = from_tensor(pairs, names, by=by, measure=label, descriptors=descriptors, copy=False)
    rdms.pattern_descriptors.update(_of_conditions(data, by, codes))
    check(rdms, f"the {label} RDM of {len(names)} conditions and {measured.shape[-1]} channels")
    return rdms


def _check_enough(names: Sequence[str]) -> None:
    if len(names) < FEWEST_CONDITIONS:
        refuse(f"there are {len(names)} conditions, {quote(names)}; an RDM needs at least {FEWEST_CONDITIONS}")


def _calc_to_file(
    datasets: Sequence[DatasetBase],
    dissimilarity: str | Dissimilarity,
    by: str,
    noise: str | npt.ArrayLike | Mapping[str, npt.ArrayLike] | None,
    noise_per: str | None,
    windows: object,
    out: Path,
    progress: bool,
) -> RDMs:
    """Write the RDM of one dataset while it is computed."""
    data = datasets[0]
    _check_can_be_written(datasets, dissimilarity, noise, noise_per, windows)
    measure = str(dissimilarity)
    names, codes = coded(data, by)
    _check_enough(names)
    patterns, precision = _patterns(data, names, codes, measure, noise, by)
    columns = {by: names, **_of_conditions(data, by, codes)}
    described = {
        "descriptors": {},
        "rdm_descriptors": {key: [value] for key, value in data.descriptors.items() if _describes(key, value)},
        "pattern_descriptors": {key: np.array(values) if key != by else values for key, values in columns.items()},
        "dissimilarity_measure": measure,
    }
    del data, datasets
    n_pairs = len(names) * (len(names) - 1) // 2
    blocks = with_progress(dissimilarity_blocks(patterns, measure, precision), n_pairs, progress)
    offset = write_rdm_in_parts(out, described, n_pairs, (found.numpy() for _, found in blocks))
    values = MappedFile(str(out.resolve()), offset, "<f4", (1, n_pairs)).values()
    rdms = joined_rdms(
        values,
        measure=measure,
        rdm_descriptors=described["rdm_descriptors"],  # type: ignore[arg-type]
        pattern_descriptors=columns,
    )
    check(rdms, f"the {measure} RDM in {str(out)!r}")
    return rdms


def _check_can_be_written(
    datasets: Sequence[DatasetBase], dissimilarity: object, noise: object, noise_per: object, windows: object
) -> None:
    """Refuse what cannot be written while it is computed."""
    instead = f"leave out {arg('out')}, and save the RDMs that are returned"
    if len(datasets) > 1 or np.ndim(datasets[0].measurements) != 2 or windows is not None:
        refuse(f"{arg('out')} is for one dataset without time; {instead}")
    if dissimilarity not in IN_BLOCKS:
        refuse(f"{arg('out')} is for the dissimilarities {quote(IN_BLOCKS)}, got {dissimilarity!r}; {instead}")
    if isinstance(noise, Mapping) or noise_per is not None:
        refuse(f"{arg('out')} needs one noise precision for all data, not one for each run; {instead}")


def _patterns(
    data: DatasetBase,
    names: Sequence[str],
    codes: npt.NDArray[np.int64],
    measure: str,
    noise: str | npt.ArrayLike | Mapping[str, npt.ArrayLike] | None,
    by: str,
) -> tuple[Tensor, Tensor | None]:
    """Return the mean pattern of each condition, whitened, and the precision if the measure needs it as a matrix."""
    if measure == "poisson" and noise is not None:
        refuse(_NOT_WHITENED)
    if measure == "mahalanobis" and noise is None:
        refuse(NEEDS_NOISE)
    measured, _ = windowed(data, None)
    precision = precision_of(data, measured, noise, None, by, "run")
    patterns = averaged(measured, codes)
    check_finite(patterns, measured)
    if measure == "correlation":
        check_constant(patterns, names)
    if precision is None:
        return patterns[0], None
    if measure == "mahalanobis" and precision.ndim == 4:
        return patterns[0], precision[0, 0]
    return whitened(patterns, precision[:, 0])[0], None


def _describes(key: str, value: Any) -> bool:
    """Say whether a descriptor of a dataset says what it is of, not how many channels or degrees of freedom it has."""
    counted = key == RESIDUAL_DOF or key.startswith("n_")
    return not counted and (isinstance(value, str | int | float | np.generic) or key == "subject")


def _of_conditions(data: DatasetBase, by: str, codes: npt.NDArray[np.int64]) -> dict[str, list[Any]]:
    """Return the observation descriptors that have one value in all observations of each condition."""
    others = {key: list(values) for key, values in data.obs_descriptors.items() if key not in (by, "index")}
    found: dict[str, list[Any]] = {}
    first = np.unique(codes, return_index=True)[1] if others else ()
    for key, listed in others.items():
        kept = [listed[k] for k in first]
        if all(_equal(kept[c], value) for c, value in zip(codes, listed, strict=True)):
            found[key] = kept
    return found


def _equal(a: Any, b: Any) -> bool:
    return np.ndim(a) == 0 and type(a) is type(b) and str(a) == str(b)  # NaN equals NaN
