"""Compute RDMs from measurements: rsatoolbox datasets in, rsatoolbox RDMs out, with `brainrdl.dissimilarity`.

The observations of each condition are averaged (within each run if the dissimilarity is cross-validated over runs).
Noise normalisation whitens channels with an estimate of their noise covariance. Time windows are averaged before
everything else, so that the noise is estimated from the same values that are compared.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from brainrdl._core.constants import NOISE
from brainrdl._core.errors import (
    about,
    arg,
    check_option,
    check_unique,
    named,
    nearest,
    quote,
    read_arg,
    refuse,
)
from brainrdl._core.files import write_rdm_in_parts
from brainrdl._core.progress import slow_progress, track_slow
from brainrdl.dissimilarity.blockwise import IN_BLOCKS, dissimilarity_blocks
from brainrdl.dissimilarity.cross_validated import is_reliable
from brainrdl.dissimilarity.measures import Dissimilarity, crossnobis, mahalanobis, resolve, traits_of
from brainrdl.rdms.by_name import FEWEST_CONDITIONS, concat_same, joined_rdms
from brainrdl.rdms.conversion import check, from_tensor
from brainrdl.rdms.mapped import MappedFile
from brainrdl.rdms.naming import checked_names
from brainrdl.rdms.run_pairs import mean_over_run_pairs, report_missing

if TYPE_CHECKING:
    from rsatoolbox.data.base import DatasetBase
    from rsatoolbox.rdm.rdms import RDMs
RESIDUALS, RESIDUAL_DOF = "residuals", "residual_dof"

_ASYMMETRY = 1e-5  # of a precision, relative to its largest value, that float32 arithmetic can leave

_SLACK = 0.01  # as a fraction of the sampling step, for rounded times: those in a file may be float32

_UNEQUAL = 0.01  # of a pattern: smaller effects of unequal whitening are not worth a warning

_NOT_WHITENED = "noise= whitens channels, and whitened counts are not counts: leave it out for Poisson dissimilarities"

_NEEDS_NOISE = f"dissimilarity 'mahalanobis' needs {arg('noise')}, a method or a noise precision; or use 'euclidean'"

_REMEDIES = {
    "run": f"; if the file has runs, read them with {read_arg('run_column')}",
    "stimulus": f"; read them with {read_arg('condition_column')}, or give {read_arg('names')}",
}


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
        Show progress and the time left on stderr if several datasets, or the pairs that are written to `out`, need
        longer than two seconds.

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
    how = (dissimilarity, by, runs, noise, noise_per, windows, window_as)
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


def noise_precision(data: DatasetBase, method: str, by: str = "stimulus") -> npt.NDArray[np.float64]:
    """Estimate the noise precision of channels with rsatoolbox's estimators.

    Parameters
    ----------
    data : rsatoolbox Dataset
        Measurements (n_observations, n_channels), any unit. If its channel descriptor ``"residuals"`` contains
        residuals (n_channels, n_timepoints), these are used, with the degrees of freedom in its descriptor
        ``"residual_dof"``; otherwise the deviations of observations from the mean of their condition.
    method : {"diag", "full", "shrinkage_diag", "shrinkage_eye"}
        Estimator of the covariance.
    by : str
        Observation descriptor that names the conditions.

    Returns
    -------
    numpy.ndarray (n_channels, n_channels)
        In the inverse squared unit of the measurements.

    Raises
    ------
    BrainrdlError
        If the method is unknown, the residuals are in another descriptor or have another shape, no condition is
        observed twice, or the covariance cannot be inverted.

    Examples
    --------
    >>> from rsatoolbox.data import Dataset
    >>> measured = np.random.default_rng(0).normal(size=(12, 3))
    >>> noise_precision(Dataset(measured, obs_descriptors={"stimulus": list("abcd") * 3}), "shrinkage_eye").shape
    (3, 3)
    """
    check_option(method, NOISE, "noise normalisation")
    found = _precision(data, _windowed(data, None)[0], method, by).numpy()
    return np.diag(found) if method == "diag" else found


def _precision(data: DatasetBase, measured: Tensor, method: str, by: str) -> Tensor:
    """Estimate the precision from kept residuals, or from `measured` (n_windows, n_observations, n_channels)."""
    residuals, dof = _residuals_of(data) or _around_conditions(measured, *_coded(data, by), method)
    return _inverse(residuals, dof, method)


def _inverse(residuals: npt.NDArray[np.float64], dof: float | None, method: str) -> Tensor:
    """Return the precision of residuals (n, n_channels); of ``"diag"`` its diagonal."""
    from rsatoolbox.data.noise import prec_from_residuals

    if method == "diag":  # rsatoolbox would invert the whole matrix
        squares = np.square(residuals - residuals.mean(0)).sum(0)
        with np.errstate(divide="ignore"):
            return _finite_precision((len(residuals) - 1 if dof is None else dof) / squares, method)
    try:
        precision = prec_from_residuals(residuals, dof=dof, method=method)
    except np.linalg.LinAlgError as error:
        refuse(f"the noise covariance of {residuals.shape[1]} channels cannot be inverted ({error}); use shrinkage")
    return _finite_precision((precision + precision.T) / 2, method)


def _finite_precision(precision: npt.NDArray[np.float64], method: str) -> Tensor:
    if not np.isfinite(precision).all():
        refuse(f"noise={method!r} gives a precision that is not finite: a channel is constant; leave that channel out")
    return torch.as_tensor(precision)


def _residuals_of(data: DatasetBase) -> tuple[npt.NDArray[np.float64], float | None] | None:
    """Return the residuals (n_timepoints, n_channels) kept by a reader of raw data, and their degrees of freedom."""
    if RESIDUALS in data.descriptors:
        refuse(f"{RESIDUALS!r} must be a channel descriptor (n_channels, n_timepoints), not one of the whole dataset")
    if RESIDUALS not in data.channel_descriptors:
        return None
    residuals = np.asarray(data.channel_descriptors[RESIDUALS], dtype=np.float64)
    if residuals.ndim != 2:
        refuse(f"channel descriptor {RESIDUALS!r} must be (n_channels, n_timepoints), got shape {residuals.shape}")
    dof = data.descriptors.get(RESIDUAL_DOF)
    return residuals.T, None if dof is None else float(dof)


def _around_conditions(
    measured: Tensor, names: Sequence[str], codes: npt.NDArray[np.int64], method: str
) -> tuple[npt.NDArray[np.float64], int]:
    """Return deviations from condition means (n_times * n_observations, n_channels) and their degrees of freedom."""
    n_times, n_observations, n_channels = measured.shape
    if n_observations == len(names):
        refuse(
            f"noise={method!r} needs residuals of a first-level model, or conditions observed more than once; each of "
            f"the {len(names)} conditions is observed once: give a noise precision, or leave noise= out"
        )
    residuals = measured - _averaged(measured, codes)[:, codes]
    return residuals.reshape(-1, n_channels).numpy(), n_times * (n_observations - len(names))


def _calc_one(
    data: DatasetBase,
    dissimilarity: str | Dissimilarity,
    by: str,
    runs: str,
    noise: str | npt.ArrayLike | Mapping[str, npt.ArrayLike] | None,
    noise_per: str | None,
    windows: Sequence[tuple[float, float]] | None,
    window_as: str,
) -> RDMs:
    names, codes = _coded(data, by)
    _check_enough(names)
    traits = traits_of(dissimilarity)
    summed = traits.of_counts
    if summed and noise is not None:
        refuse(_NOT_WHITENED)
    if window_as == "samples":
        _check_samples(data, noise)
    measured, times = _windowed(data, windows, summed, window_as == "samples")
    precision = _noise(data, measured, noise, noise_per, by, runs)
    label = dissimilarity if isinstance(dissimilarity, str) else getattr(dissimilarity, "__name__", repr(dissimilarity))
    in_runs = traits.cross_validated or (precision is not None and precision.shape[1] > 1)
    fold = _coded(data, runs) if in_runs else (["all"], np.zeros_like(codes))
    if traits.cross_validated:
        pairs = _cross_validated(measured, names, codes, fold, dissimilarity, precision)
        report_missing(pairs, names, label)
    else:
        pairs = _averaged_pairs(measured, names, codes, fold[1], dissimilarity, precision)
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
    names, codes = _coded(data, by)
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
    blocks = dissimilarity_blocks(patterns, measure, precision)
    offset = write_rdm_in_parts(out, described, n_pairs, _tracked(blocks, n_pairs, progress))
    values = MappedFile(str(out.resolve()), offset, "<f4", (1, n_pairs)).values()
    rdms = joined_rdms(
        values,
        measure=measure,
        rdm_descriptors=described["rdm_descriptors"],  # type: ignore[arg-type]
        pattern_descriptors=columns,
    )
    check(rdms, f"the {measure} RDM in {str(out)!r}")
    return rdms


def _tracked(
    blocks: Iterator[tuple[slice, Tensor]], n_pairs: int, progress: bool
) -> Iterator[npt.NDArray[np.floating]]:
    """Yield blocks of pairs as arrays, and show progress after each."""
    with slow_progress("pairs of conditions", n_pairs, progress) as advance:
        for part, found in blocks:
            yield found.numpy()
            advance(part.stop, "")


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
        refuse(_NEEDS_NOISE)
    measured, _ = _windowed(data, None)
    precision = _noise(data, measured, noise, None, by, "run")
    patterns = _averaged(measured, codes)
    _check_finite(patterns, measured)
    if measure == "correlation":
        _check_constant(patterns, names)
    if precision is None:
        return patterns[0], None
    if measure == "mahalanobis" and precision.ndim == 4:
        return patterns[0], precision[0, 0]
    return _whitened(patterns, precision[:, 0])[0], None


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


def _noise(
    data: DatasetBase,
    measured: Tensor,
    noise: str | npt.ArrayLike | Mapping[str, npt.ArrayLike] | None,
    per: str | None,
    by: str,
    runs: str,
) -> Tensor | None:
    """Return noise precisions (n_windows or 1, n_runs or 1, n_channels, n_channels); or diagonals, without the last."""
    if per is not None:
        check_option(per, ("run", "window"), "noise_per")
        if not isinstance(noise, str):
            refuse(
                f"{named('noise_per')} {per!r} says where noise is estimated; set {arg('noise')} to {', '.join(NOISE)}"
            )
    if noise is None:
        return None
    n_windows, _, n_channels = measured.shape
    if isinstance(noise, str):
        check_option(noise, NOISE, "noise normalisation")
        if per == "run":
            return _precision_of_runs(data, measured, noise, by, runs)
        if per == "window":
            return _precision_of_windows(data, measured, noise, by)
        return _precision(data, measured, noise, by)[None, None]
    if isinstance(noise, Mapping):
        given = {str(run): precision for run, precision in noise.items()}
        names = _coded(data, runs)[0]
        if lacking := [name for name in names if name not in given]:
            refuse(
                f"noise= has no precision for run {quote(lacking)}{nearest(lacking[0], given)} (it has {quote(given)})"
            )
        precisions = [_checked_precision(given[name], n_windows, n_channels) for name in names]
        longest = max(map(len, precisions))
        return torch.stack([each.expand(longest, -1, -1) for each in precisions], dim=1)
    return _checked_precision(noise, n_windows, n_channels)[:, None]


def _precision_of_windows(data: DatasetBase, measured: Tensor, method: str, by: str) -> Tensor:
    if np.ndim(data.measurements) == 2:
        refuse(
            f"{arg('noise_per', 'window')} needs measurements with time; these have shape {np.shape(data.measurements)}"
        )
    if RESIDUALS in data.channel_descriptors:
        refuse(
            f"{arg('noise_per', 'window')} cannot use the residuals that this dataset has, which are of no window; "
            f"give {arg('noise')} precisions (n_windows, n_channels, n_channels), or leave {arg('noise_per')} out"
        )
    return torch.stack([_precision(data, window[None], method, by) for window in measured])[:, None]


def _precision_of_runs(data: DatasetBase, measured: Tensor, method: str, by: str, runs: str) -> Tensor:
    """Estimate the precision in each run from the deviations of observations from their condition's mean there."""
    if RESIDUALS in data.channel_descriptors:
        refuse(
            f"{arg('noise_per', 'run')} cannot use the residuals that this dataset has, which are those of all runs "
            f"together; give {arg('noise')} a mapping of run to precision, or leave {arg('noise_per')} out"
        )
    (names, codes), (run_names, run_codes) = _coded(data, by), _coded(data, runs)
    found = []
    for number, run in enumerate(run_names):
        inside = run_codes == number
        present, own = np.unique(codes[inside], return_inverse=True)
        with about(f"run {run!r}"):
            around = _around_conditions(measured[:, inside], [names[k] for k in present], own, method)
            found.append(_inverse(*around, method))
    return torch.stack(found)[None]


def _checked_precision(noise: npt.ArrayLike, n_windows: int, n_channels: int) -> Tensor:
    """Return a precision (1 or n_windows, n_channels, n_channels)."""
    found = np.asarray(noise)
    square = (n_channels, n_channels)
    if found.dtype.kind not in "iuf" or found.shape not in (square, (n_windows, *square)):
        refuse(
            f"noise= must be one of {', '.join(NOISE)} or a precision of numbers ({n_channels}, {n_channels}), as many "
            f"as channels (for each of {n_windows} windows, or for each run by name, if it differs between them); got "
            f"{found.dtype} of shape {found.shape}"
        )
    if not np.isfinite(found).all():
        refuse("noise= holds NaN or Inf; a noise precision must be finite and positive definite")
    gap, largest = float(np.abs(found - np.swapaxes(found, -2, -1)).max()), float(np.abs(found).max())
    if gap > _ASYMMETRY * largest:
        refuse(f"noise= is not symmetric (largest difference {gap:g}); a noise precision must be positive definite")
    diagonals = np.diagonal(found, axis1=-2, axis2=-1)
    if not (diagonals > 0).all():  # a necessary condition that is quick to check in a large precision
        refuse(f"noise= has {diagonals.min():g} on its diagonal; a noise precision must be positive definite")
    return torch.as_tensor(found, dtype=torch.float64).reshape(-1, *square)


def _coded(data: DatasetBase, key: str) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the values of an observation descriptor in order of first appearance, and the code of each observation."""
    held: Mapping[str, Any] = data.obs_descriptors
    if key not in held:
        known = [name for name in held if name != "index"]
        there_are, remedy = f"{nearest(key, known)} (they have {quote(known)})", _REMEDIES.get(key, "")
        refuse(f"observations have no descriptor {key!r}{there_are}{remedy}")
    values = checked_names(held[key], f"observation descriptor {key!r}")
    names = list(dict.fromkeys(values))
    number = {name: index for index, name in enumerate(names)}
    return names, np.array([number[value] for value in values])


def _windowed(
    data: DatasetBase, windows: Sequence[tuple[float, float]] | None, summed: bool = False, samples: bool = False
) -> tuple[Tensor, list[float] | None]:
    """Return measurements (n_windows, n_observations, n_channels) and window centres; one window without time."""
    measured = torch.as_tensor(np.asarray(data.measurements), dtype=torch.float64)
    if measured.ndim == 2:
        if windows is not None:
            refuse(f"windows={windows!r} need measurements with time; these have shape {tuple(measured.shape)}")
        return measured[None], None
    held: Any = data
    given = np.asarray(held.time_descriptors["time"])
    times = given.astype(np.float64)
    if windows is None:
        return measured.permute(2, 0, 1), [float(str(time)) for time in given]  # 0.1 of float32 stays 0.1
    checked = _checked_windows(windows)
    if summed:
        _check_counts(measured)
    parts = [measured[:, :, torch.as_tensor(_inside(times, *window))] for window in checked]
    if samples and len({part.shape[2] for part in parts}) > 1:
        counts = ", ".join(f"{part.shape[2]} in {window} s" for part, window in zip(parts, checked, strict=True))
        refuse(f"windows whose samples are kept must have equally many, got {counts}; choose windows of one length")
    put_together = [part.flatten(1) if samples else part.sum(2) if summed else part.mean(2) for part in parts]
    return torch.stack(put_together), [_centre(start, end) for start, end in checked]


def _check_samples(data: DatasetBase, noise: object) -> None:
    """Refuse residuals, which have the channels of a single sample."""
    if isinstance(noise, str) and RESIDUALS in data.channel_descriptors:
        refuse(
            f"{named('window_as')} 'samples' cannot use the residuals that this dataset has, which are of channels; "
            f"give {arg('noise')} a precision (n_channels * n_samples, n_channels * n_samples), or leave it out"
        )


def _checked_windows(windows: object) -> list[tuple[float, float]]:
    try:
        found = np.asarray(windows)
    except ValueError:  # of different lengths
        found = np.empty(0)
    numbers = found.dtype.kind in "iuf"
    if not numbers or found.ndim != 2 or found.shape[1] != 2 or not len(found):
        meant = tuple(found.tolist()) if numbers and found.shape == (2,) else (0.05, 0.1)
        refuse(
            f"{arg('windows')} must be a list of (start, end) in seconds, got {windows!r}; use "
            f"{arg('windows', [meant])}, or leave it out for an RDM of each time point"
        )
    listed = [(float(start), float(end)) for start, end in found]
    check_unique([f"{_centre(*window):.12g} s" for window in listed], f"the centres of {arg('windows')}")
    return listed


def _centre(start: float, end: float) -> float:
    return round((start + end) / 2, 12)  # (0.05 + 0.1) / 2 is 0.075, not 0.07500000000000001


def _check_counts(measured: Tensor) -> None:
    """Refuse values that are not counts: rates cannot be summed over a window."""
    known = measured[measured.isfinite()]
    whole = bool(((known >= 0) & (known == known.round())).all())
    step = int(np.gcd.reduce(known.long().numpy())) if whole else 0
    if not whole or step > 1:
        what = f"are all multiples of {step}" if whole else "are not whole numbers of at least 0"
        refuse(
            f"Poisson dissimilarities sum counts over a window, but these measurements {what}: give counts, not "
            "rates, or average the windows yourself"
        )


def _inside(times: npt.NDArray[np.float64], start: float, end: float) -> npt.NDArray[np.bool_]:
    """Mark the times inside a window, with a tolerance of a hundredth of the sampling step."""
    ordered = np.sort(times)
    step = float(np.median(np.diff(ordered))) if len(times) > 1 else 0.0
    slack, low, high = _SLACK * step, float(ordered[0]), float(ordered[-1])
    inside = (times >= start - slack) & (times <= end + slack)
    reach = step / 2 + slack
    if not low - reach <= start <= end <= high + reach:
        problem = "extends beyond the data" if start <= end else "ends before it starts"
    elif not inside.any():
        problem = "contains no time point"
    else:
        return inside
    refuse(f"window {(start, end)} s {problem}; times go from {low:g} to {high:g} s")


def _refuse_not_finite(measured: Tensor) -> None:
    bad = ~measured.isfinite().all(0)
    channels, observations = (f"{int(bad.any(axis).sum())} of {bad.shape[1 - axis]}" for axis in (0, 1))
    refuse(
        f"{channels} channels and {observations} observations contain NaN or Inf (or sum to Inf); leave out those "
        "channels or observations"
    )


def _averaged(measured: Tensor, codes: npt.NDArray[np.int64]) -> Tensor:
    """Average over the observations of each code, (..., n_codes, n_channels)."""
    counts = np.bincount(codes)
    if len(counts) == len(codes):
        return measured if (np.diff(codes) > 0).all() else measured[:, torch.as_tensor(codes.argsort())]
    # a sparse product, because torch's index_add_ is many times slower when threads share cores
    members = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    sums = [torch.as_tensor(members @ each) for each in measured.numpy()]
    return (sums[0][None] if len(sums) == 1 else torch.stack(sums)).div_(torch.as_tensor(counts)[:, None])


def _averaged_pairs(
    measured: Tensor,
    names: Sequence[str],
    codes: npt.NDArray[np.int64],
    run_codes: npt.NDArray[np.int64],
    dissimilarity: str | Dissimilarity,
    precision: Tensor | None,
) -> Tensor:
    """Compute a dissimilarity of the means of all observations of each condition."""
    if precision is not None and precision.shape[1] > 1:
        _warn_of_unequal_whitening(precision, names, codes, run_codes)
        measured, precision = _whitened_by_run(measured, precision, run_codes), None
        dissimilarity = "euclidean" if dissimilarity == "mahalanobis" else dissimilarity
    patterns = _averaged(measured, codes)
    _check_finite(patterns, measured)
    pairs = _dissimilarities(patterns, dissimilarity, None if precision is None else precision[:, 0])
    if "correlation" in (dissimilarity, getattr(dissimilarity, "__name__", "")):
        _check_constant(patterns, names)
    return pairs


def _warn_of_unequal_whitening(
    precision: Tensor, names: Sequence[str], codes: npt.NDArray[np.int64], run_codes: npt.NDArray[np.int64]
) -> None:
    """Warn if conditions are averaged over other runs, whose whitening makes patterns of other sizes.

    The mean of condition i is whitened by the mean of the runs' whitenings, ``sum_r f(i, r) W(r)``, where f is the
    share of its observations in run r. The difference of two such matrices is that of two patterns that are equal.
    """
    shares = torch.zeros(len(names), precision.shape[1], dtype=torch.float64)
    shares.index_put_((torch.as_tensor(codes), torch.as_tensor(run_codes)), torch.ones((), dtype=torch.float64), True)
    shares, kind = torch.unique(shares / shares.sum(1, keepdim=True), dim=0, return_inverse=True)
    if len(shares) < 2:
        return
    roots = (
        precision.sqrt() if precision.ndim == 3 else torch.stack([torch.stack([*map(_root, one)]) for one in precision])
    )
    flat = roots.flatten(2)
    products = shares @ (flat @ flat.mT).mean(0) @ shares.mT
    squares = products.diagonal()
    change = (2 * (squares + squares[:, None] - 2 * products).clamp(min=0) / (squares + squares[:, None])).sqrt()
    largest = float(change.max())
    if largest > _UNEQUAL:
        first, second = divmod(int(change.argmax()), len(shares))
        one, other = (names[k] for k in sorted(int((kind == number).nonzero()[0]) for number in (first, second)))
        warnings.warn(
            f"noise differs between runs, and conditions were not measured equally often in each run: if {one!r} and "
            f"{other!r} had the same pattern in all runs, it would differ by {100 * largest:.0f} % after whitening, "
            "and this dissimilarity, which is not cross-validated, would be too large. Use crossnobis, one noise= for "
            "all runs, or only runs with all conditions (no bias arises if responses grow with the noise of runs)",
            stacklevel=4,
        )


def _whitened_by_run(measured: Tensor, precision: Tensor, run_codes: npt.NDArray[np.int64]) -> Tensor:
    found = torch.empty_like(measured)
    for number in range(precision.shape[1]):
        inside = torch.as_tensor(run_codes == number)
        found[:, inside] = _whitened(measured[:, inside], precision[:, number])
    return found


def _cross_validated(
    measured: Tensor,
    names: Sequence[str],
    codes: npt.NDArray[np.int64],
    fold: tuple[Sequence[str], npt.NDArray[np.int64]],
    dissimilarity: str | Dissimilarity,
    precision: Tensor | None,
) -> Tensor:
    """Compute a cross-validated dissimilarity of the means of each condition in each run."""
    run_names, run_codes = fold
    n_conditions = len(names)
    cells, places = np.unique(run_codes * n_conditions + codes, return_inverse=True)
    patterns = _averaged(measured, places)
    _check_finite(patterns, measured)
    balanced = len(cells) == len(run_names) * n_conditions
    is_ratio = "correlation_cv" in (dissimilarity, getattr(dissimilarity, "__name__", ""))
    if is_ratio and not (balanced and (precision is None or precision.shape[1] == 1)):
        refuse(
            "correlation_cv divides by what is shared by all runs, so it needs all conditions in all runs, and one "
            "noise precision for all; leave out conditions or runs, or use crossnobis"
        )
    if precision is None or precision.shape[1] == 1:
        alone = None if precision is None else precision[:, 0]
        if balanced or len(run_names) < 2:
            whole = patterns.unflatten(1, (len(run_names), -1))
            if is_ratio:
                _check_reliable(whole if alone is None else _whitened(whole, alone), names)
            return _dissimilarities(whole, dissimilarity, alone)
        patterns = patterns if alone is None else _whitened(patterns, alone)
        covariances = None
    else:
        covariances = 1 / precision if precision.ndim == 3 else _inverted(precision)

    def of_two_runs(two: Tensor, r: int, s: int) -> Tensor:
        if covariances is None:
            return _dissimilarities(two, dissimilarity, None)
        mean = (covariances[:, r] + covariances[:, s]) / 2
        return _dissimilarities(two, dissimilarity, 1 / mean if mean.ndim == 2 else _inverted(mean))

    run_of, condition_of = np.divmod(cells, n_conditions)
    bounds = np.searchsorted(run_of, np.arange(len(run_names) + 1))
    parts = [slice(start, end) for start, end in pairwise(bounds)]
    in_runs = [patterns[:, part] for part in parts]
    return mean_over_run_pairs(in_runs, [condition_of[part] for part in parts], n_conditions, of_two_runs)


def _inverted(matrices: Tensor) -> Tensor:
    try:
        return torch.linalg.inv(matrices)
    except torch.linalg.LinAlgError as error:
        refuse(f"the noise precision of a run cannot be inverted ({error}); use shrinkage")


def _check_finite(patterns: Tensor, measured: Tensor) -> None:
    if not math.isfinite(patterns.sum().item()):  # averages keep NaN and Inf, and are fewer than the measurements
        _refuse_not_finite(measured)


def _dissimilarities(patterns: Tensor, dissimilarity: str | Dissimilarity, precision: Tensor | None) -> Tensor:
    """Compute dissimilarities; precisions are (n_windows or 1, n_channels, n_channels), or diagonals of such."""
    if precision is None or len(precision) == 1:
        return _of_window(patterns, dissimilarity, None if precision is None else precision[0])
    parts = zip(patterns.split(1), precision, strict=True)
    return torch.cat([_of_window(part, dissimilarity, own) for part, own in parts])


def _of_window(patterns: Tensor, dissimilarity: str | Dissimilarity, precision: Tensor | None) -> Tensor:
    if dissimilarity == "mahalanobis" and precision is None:
        refuse(_NEEDS_NOISE)
    if precision is None:
        return resolve(dissimilarity)(patterns)
    if precision.ndim == 2 and dissimilarity == "mahalanobis":
        return mahalanobis(patterns, precision)
    if precision.ndim == 2 and dissimilarity == "crossnobis":
        return crossnobis(patterns, precision)
    return resolve("euclidean" if dissimilarity == "mahalanobis" else dissimilarity)(
        _whitened(patterns, precision[None])
    )


def _whitened(patterns: Tensor, precision: Tensor) -> Tensor:
    """Whiten patterns (n_windows, ..., n_channels) with precisions as in `_dissimilarities`."""
    if precision.ndim == 2:
        return patterns * precision.sqrt().unflatten(0, (-1, *[1] * (patterns.ndim - 2)))
    roots = torch.stack([_root(each) for each in precision])
    return patterns @ roots.unflatten(0, (-1, *[1] * (patterns.ndim - 3)))


def _root(precision: Tensor) -> Tensor:
    """Return the symmetric root of a noise precision; of all whitenings it changes the channels least."""
    values, vectors = torch.linalg.eigh(precision)
    if float(values.min()) < -1e-8 * float(values.max()):
        refuse(f"the noise precision has a negative eigenvalue, {float(values.min()):g}; it must be positive definite")
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT


def _check_reliable(patterns: Tensor, names: Sequence[str]) -> None:
    unlike = (~is_reliable(patterns)).flatten(0, -2).any(0).tolist()
    if any(unlike):
        found = [name for name, is_unlike in zip(names, unlike, strict=True) if is_unlike]
        refuse(
            f"the patterns of conditions {quote(found)} do not agree between runs (their covariance is not above 0), "
            "so they have no cross-validated correlation; leave them out, or use crossnobis"
        )


def _check_constant(patterns: Tensor, names: Sequence[str]) -> None:
    values = patterns.numpy()
    high, low = values.max(-1), values.min(-1)
    flat = (high - low <= 1e-12 * np.maximum(np.abs(high), np.abs(low))).reshape(-1, len(names)).any(0)
    if flat.any():
        constant = [name for name, is_flat in zip(names, flat.tolist(), strict=True) if is_flat]
        refuse(f"conditions {quote(constant)} have the same value in all channels, so they have no correlation")
