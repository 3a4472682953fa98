"""Compute RDMs from measurements: rsatoolbox datasets in, rsatoolbox RDMs out, with `brainrdl.dissimilarity`.

The observations of each condition are averaged (within each run if the dissimilarity is cross-validated over runs).
Noise normalisation whitens channels with an estimate of their noise covariance. Time windows are averaged before
everything else, so that the noise is estimated from the same values that are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from brainrdl._core.constants import NOISE
from brainrdl._core.errors import arg, check_option, check_unique, nearest, quote, read_arg, refuse
from brainrdl.dissimilarity.measures import Dissimilarity, crossnobis, mahalanobis, resolve, traits_of
from brainrdl.rdms.by_name import FEWEST_CONDITIONS, concat_same
from brainrdl.rdms.conversion import check, from_tensor
from brainrdl.rdms.naming import checked_names

if TYPE_CHECKING:
    from rsatoolbox.data.base import DatasetBase
    from rsatoolbox.rdm.rdms import RDMs
RESIDUALS, RESIDUAL_DOF = "residuals", "residual_dof"

_SLACK = 0.01  # as a fraction of the sampling step, for rounded times: those in a file may be float32

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
    noise: str | npt.ArrayLike | None = None,
    windows: Sequence[tuple[float, float]] | None = None,
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
        Observation descriptor of the run, for ``"crossnobis"`` and ``"poisson_cv"``. Every condition must occur in
        every run. All runs have the same weight, however many observations they have.
    noise : {"diag", "full", "shrinkage_diag", "shrinkage_eye"} or array (n_channels, n_channels), optional
        Estimator of the noise covariance (rsatoolbox's names), or the noise precision itself, in the inverse squared
        unit of the measurements. The covariance is estimated from the residuals that a reader of raw data has kept,
        otherwise from the deviations of observations from the mean of their condition. Crossnobis and mahalanobis use
        the precision; for any other dissimilarity, the patterns are whitened with its symmetric root.
    windows : sequence of (start, end), optional
        Time windows in seconds, both ends included, over which measurements with time are averaged (default: an RDM
        for each time point). For Poisson dissimilarities, spike counts are summed instead, so that the width of the
        bins does not matter, and rates are refused. The noise is estimated from all windows together, so compute
        windows of different lengths in separate calls.

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
        If `data` is not a dataset, a descriptor is missing, there are NaN or Inf, a condition is missing from a run,
        there are too few observations to estimate the noise, a constant pattern has no correlation, a window contains
        no time point or extends beyond the first or last one by more than half a sampling step, or the datasets have
        different conditions.

    Notes
    -----
    ``rsatoolbox.rdm.calc_rdm`` sorts conditions as text, and ``rsatoolbox.rdm.compare`` pairs them by position, without
    looking at names. Before you compare RDMs there, bring them to one order with `brainrdl.rdms.align`.

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
    found = [_calc_one(each, dissimilarity, by, runs, noise, windows) for each in datasets]
    return found[0] if len(found) == 1 else concat_same(found, by)


def _check_dataset(data: object, by: str) -> None:
    from rsatoolbox.data.base import DatasetBase

    if not isinstance(data, DatasetBase):
        shape = f" of shape {data.shape}" if isinstance(data, np.ndarray) else ""
        refuse(
            f"calc_rdm needs rsatoolbox's Dataset or TemporalDataset, got {type(data).__name__}{shape}; an array "
            f"(n_observations, n_channels) becomes one with rsatoolbox.data.Dataset(array, obs_descriptors={{{by!r}: "
            "names})"
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
    return _precision(data, _windowed(data, None)[0], method, by)


def _precision(data: DatasetBase, measured: Tensor, method: str, by: str) -> npt.NDArray[np.float64]:
    """Estimate the precision from kept residuals, or from `measured` (n_windows, n_observations, n_channels)."""
    from rsatoolbox.data.noise import prec_from_residuals

    residuals, dof = _residuals_of(data) or _around_conditions(measured, *_coded(data, by), method)
    try:
        precision = prec_from_residuals(residuals, dof=dof, method=method)
    except np.linalg.LinAlgError as error:
        refuse(f"the noise covariance of {residuals.shape[1]} channels cannot be inverted ({error}); use shrinkage")
    if not np.isfinite(precision).all():
        refuse(f"noise={method!r} gives a precision that is not finite: a channel is constant; leave that channel out")
    return np.asarray((precision + precision.T) / 2)


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
    noise: str | npt.ArrayLike | None,
    windows: Sequence[tuple[float, float]] | None,
) -> RDMs:
    names, codes = _coded(data, by)
    if len(names) < FEWEST_CONDITIONS:
        refuse(f"there are {len(names)} conditions, {quote(names)}; an RDM needs at least {FEWEST_CONDITIONS}")
    traits = traits_of(dissimilarity)
    summed = traits.of_counts
    if summed and noise is not None:
        refuse("noise= whitens channels, and whitened counts are not counts: leave it out for Poisson dissimilarities")
    measured, times = _windowed(data, windows, summed)
    if isinstance(noise, str):
        check_option(noise, NOISE, "noise normalisation")
        noise = _precision(data, measured, noise, by)
    precision = None if noise is None else _checked_precision(noise, measured.shape[-1])
    fold = _coded(data, runs) if traits.cross_validated else None
    patterns = _averaged(measured, codes) if fold is None else _averaged_in_runs(measured, names, codes, *fold)
    if not bool(patterns.sum().isfinite()):  # averages keep NaN and Inf, and are fewer than the measurements
        _refuse_not_finite(measured)
    pairs = _dissimilarities(patterns, dissimilarity, precision)
    label = dissimilarity if isinstance(dissimilarity, str) else getattr(dissimilarity, "__name__", repr(dissimilarity))
    descriptors: dict[str, list[Any]]
    descriptors = {key: [value] * len(pairs) for key, value in data.descriptors.items() if _describes(key, value)}
    descriptors |= {} if times is None else {"time": times}
    rdms = from_tensor(pairs, names, by=by, measure=label, descriptors=descriptors, copy=False)
    rdms.pattern_descriptors.update(_of_conditions(data, by, codes))
    _check_constant(patterns, names, label)
    check(rdms, f"the {label} RDM of {len(names)} conditions and {measured.shape[-1]} channels")
    return rdms


def _describes(key: str, value: Any) -> bool:
    """Say whether a descriptor of a dataset says what it is of, not how many channels or degrees of freedom it has."""
    counted = key == RESIDUAL_DOF or key.startswith("n_")
    return not counted and (isinstance(value, str | int | float | np.generic) or key == "subject")


def _of_conditions(data: DatasetBase, by: str, codes: npt.NDArray[np.int64]) -> dict[str, list[Any]]:
    """Return the observation descriptors that have one value in all observations of each condition."""
    first = np.unique(codes, return_index=True)[1]
    found: dict[str, list[Any]] = {}
    for key, values in data.obs_descriptors.items():
        listed = list(values)
        kept = [listed[k] for k in first]
        if key not in (by, "index") and all(_equal(kept[c], value) for c, value in zip(codes, listed, strict=True)):
            found[key] = kept
    return found


def _equal(a: Any, b: Any) -> bool:
    return np.ndim(a) == 0 and type(a) is type(b) and str(a) == str(b)  # NaN equals NaN


def _checked_precision(noise: npt.ArrayLike, n_channels: int) -> Tensor:
    found = np.asarray(noise)
    if found.dtype.kind not in "iuf" or found.shape != (n_channels, n_channels):
        refuse(
            f"noise= must be one of {', '.join(NOISE)} or a precision of numbers ({n_channels}, {n_channels}), as many "
            f"as channels; got {found.dtype} of shape {found.shape}"
        )
    if not (np.diag(found) > 0).all():  # a necessary condition that is quick to check in a large precision
        refuse(f"noise= has {np.diag(found).min():g} on its diagonal; a noise precision must be positive definite")
    return torch.as_tensor(found, dtype=torch.float64)


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
    data: DatasetBase, windows: Sequence[tuple[float, float]] | None, summed: bool = False
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
    put_together = [part.sum(2) if summed else part.mean(2) for part in parts]
    return torch.stack(put_together), [_centre(start, end) for start, end in checked]


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
        return measured[:, torch.as_tensor(codes.argsort())]
    # a sparse product, because torch's index_add_ is many times slower when threads share cores
    members = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    sums = [torch.as_tensor(members @ each) for each in measured.numpy()]
    return (sums[0][None] if len(sums) == 1 else torch.stack(sums)).div_(torch.as_tensor(counts)[:, None])


def _averaged_in_runs(
    measured: Tensor,
    names: Sequence[str],
    codes: npt.NDArray[np.int64],
    run_names: Sequence[str],
    run_codes: npt.NDArray[np.int64],
) -> Tensor:
    """Average over the observations of each condition in each run, (..., n_runs, n_conditions, n_channels)."""
    cells = run_codes * len(names) + codes
    missing = sorted(set(range(len(names) * len(run_names))) - set(cells.tolist()))
    if missing:
        run, condition = divmod(missing[0], len(names))
        refuse(
            f"condition {names[condition]!r} has no observation in run {run_names[run]!r} (and {len(missing) - 1} more "
            "such gaps); leave out the condition or the run, or merge runs"
        )
    return _averaged(measured, cells).unflatten(1, (len(run_names), len(names)))


def _dissimilarities(patterns: Tensor, dissimilarity: str | Dissimilarity, precision: Tensor | None) -> Tensor:
    if dissimilarity == "mahalanobis":
        if precision is None:
            refuse(
                f"dissimilarity 'mahalanobis' needs {arg('noise')}, a method or a noise precision; or use 'euclidean'"
            )
        return mahalanobis(patterns, precision)
    if dissimilarity == "crossnobis":
        return crossnobis(patterns, precision)
    if precision is not None:
        patterns = patterns @ _root(precision.to(patterns))
    return resolve(dissimilarity)(patterns)


def _root(precision: Tensor) -> Tensor:
    """Return the symmetric root of a noise precision; of all whitenings it changes the channels least."""
    values, vectors = torch.linalg.eigh(precision)
    if float(values.min()) < -1e-8 * float(values.max()):
        refuse(f"the noise precision has a negative eigenvalue, {float(values.min()):g}; it must be positive definite")
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT


def _check_constant(patterns: Tensor, names: Sequence[str], label: str) -> None:
    if label != "correlation":
        return
    spread = patterns.amax(-1) - patterns.amin(-1)
    flat = (spread <= 1e-12 * patterns.abs().amax(-1)).flatten(0, -2).any(0)
    if bool(flat.any()):
        constant = [name for name, is_flat in zip(names, flat.tolist(), strict=True) if is_flat]
        refuse(f"conditions {quote(constant)} have the same value in all channels, so they have no correlation")
