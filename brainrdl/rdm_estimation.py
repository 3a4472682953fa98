"""From measurements to RDMs: rsatoolbox's datasets in, rsatoolbox's RDMs out, computed by `brainrdl.dissimilarity`.

Observations of one condition are averaged (within each run, where the dissimilarity is cross-validated over runs).
Noise normalisation whitens channels with a shrunk estimate of their noise covariance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from brainrdl._checks import check_option, nearest, quote, refuse
from brainrdl.dissimilarity import CROSS_VALIDATED, Dissimilarity, crossnobis, mahalanobis, resolve
from brainrdl.rdms import check, concat, from_tensor

if TYPE_CHECKING:
    from rsatoolbox.data.base import DatasetBase
    from rsatoolbox.rdm.rdms import RDMs

NOISE = ("diag", "full", "shrinkage_diag", "shrinkage_eye")
RESIDUALS, RESIDUAL_DOF = "residuals", "residual_dof"
_SLACK = 1e-9  # s: rounding of the times in a file
_KEPT = ("subject", "roi", "session", "time")


def calc_rdm(
    data: DatasetBase | Sequence[DatasetBase],
    dissimilarity: str | Dissimilarity = "correlation",
    *,
    by: str = "stimulus",
    runs: str = "run",
    noise: str | npt.ArrayLike | None = None,
    windows: Sequence[tuple[float, float]] | None = None,
) -> RDMs:
    """Compute RDMs of measurements, one for each dataset and time window.

    Parameters
    ----------
    data : rsatoolbox Dataset or TemporalDataset, or sequence of such
        Measurements (n_observations, n_channels[, n_time]); of several, for example one a region or subject, the
        conditions must be the same.
    dissimilarity : str or callable
        A name of `brainrdl.dissimilarity.DISSIMILARITIES`, or a function of patterns.
    by : str
        Observation descriptor that names the conditions.
    runs : str
        Observation descriptor of the run, for ``"crossnobis"`` and ``"poisson_cv"``: every condition must be in every
        run. Each run counts the same, however many observations it has.
    noise : {"diag", "full", "shrinkage_diag", "shrinkage_eye"} or array (n_channels, n_channels), optional
        How to estimate the noise covariance (rsatoolbox's names), or the noise precision itself. Estimated from the
        residuals that a reader of raw data has kept, else from the spread of observations around the mean of their
        condition. Crossnobis and mahalanobis use the precision; for any other dissimilarity the patterns are
        whitened with its symmetric root.
    windows : sequence of (start, end), optional
        Time windows in seconds, both ends included, over which measurements with time are averaged; each time point
        by default.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        In float64; conditions in the order in which they first appear. Rdm descriptors subject, roi and session as
        far as the datasets know them, and ``time`` (centre of the window, s).

    Raises
    ------
    BrainrdlError
        If `data` is no dataset, a descriptor is missing, there are NaN, a condition lacks a run, too few observations
        to estimate noise, a constant pattern has no correlation, a window holds no time, or the datasets hold different
        conditions.

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
    return found[0] if len(found) == 1 else concat(found, by)


def _check_dataset(data: object, by: str) -> None:
    from rsatoolbox.data.base import DatasetBase

    if not isinstance(data, DatasetBase):
        shape = f" of shape {data.shape}" if isinstance(data, np.ndarray) else ""
        refuse(
            f"calc_rdm needs rsatoolbox's Dataset or TemporalDataset, got {type(data).__name__}{shape}; an array "
            f"(n_observations, n_channels) becomes one by rsatoolbox.data.Dataset(array, obs_descriptors={{{by!r}: "
            "names})"
        )


def noise_precision(data: DatasetBase, method: str, by: str = "stimulus") -> npt.NDArray[np.float64]:
    """Estimate the noise precision of channels, (n_channels, n_channels), with rsatoolbox's estimators.

    Parameters
    ----------
    data : rsatoolbox Dataset
        If its descriptor ``"residuals"`` holds residuals (n_timepoints, n_channels), those are used, with the degrees
        of freedom in ``"residual_dof"``; else its observations around the mean of their condition.
    method : {"diag", "full", "shrinkage_diag", "shrinkage_eye"}
        Estimator of the covariance.
    by : str
        Observation descriptor that names the conditions.

    Returns
    -------
    numpy.ndarray
        In units of the inverse squared measurements.

    Raises
    ------
    BrainrdlError
        If the method is unknown, no condition is observed twice, or the covariance cannot be inverted.

    Examples
    --------
    >>> from rsatoolbox.data import Dataset
    >>> measured = np.random.default_rng(0).normal(size=(12, 3))
    >>> noise_precision(Dataset(measured, obs_descriptors={"stimulus": list("abcd") * 3}), "shrinkage_eye").shape
    (3, 3)
    """
    from rsatoolbox.data.noise import prec_from_residuals

    check_option(method, NOISE, "noise normalisation")
    residuals, dof = data.descriptors.get(RESIDUALS), data.descriptors.get(RESIDUAL_DOF)
    if residuals is None:
        residuals, dof = _around_conditions(data, method, by)
    try:
        precision = prec_from_residuals(np.asarray(residuals, dtype=np.float64), dof=dof, method=method)
    except np.linalg.LinAlgError as error:
        refuse(
            f"the noise covariance of {np.shape(residuals)[1]} channels cannot be inverted ({error}); take a shrunk one"
        )
    if not np.isfinite(precision).all():
        refuse(f"noise={method!r} gives a precision that is not finite: a channel is constant; leave it out")
    return np.asarray((precision + precision.T) / 2)


def _around_conditions(data: DatasetBase, method: str, by: str) -> tuple[npt.NDArray[np.float64], int]:
    """Observations around the mean of their condition (n_times * n_observations, n_channels), degrees of freedom."""
    (names, codes), (measured, _) = _coded(data, by), _windowed(data, None)
    n_times, n_observations, n_channels = measured.shape
    if n_observations == len(names):
        refuse(
            f"noise={method!r} needs residuals of a first-level model, or conditions observed more than once; each of "
            f"the {len(names)} conditions is observed once: give a noise precision, or leave it out"
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
    measured, times = _windowed(data, windows)
    precision = noise_precision(data, noise, by) if isinstance(noise, str) else noise
    fold = _coded(data, runs) if dissimilarity in CROSS_VALIDATED else None
    patterns = _averaged(measured, codes) if fold is None else _averaged_in_runs(measured, names, codes, *fold)
    if not bool(patterns.sum().isfinite()):  # of the means, which are few: NaN and Inf survive averaging
        _refuse_not_finite(measured)
    pairs = _dissimilarities(patterns, dissimilarity, None if precision is None else torch.as_tensor(precision))
    label = dissimilarity if isinstance(dissimilarity, str) else getattr(dissimilarity, "__name__", repr(dissimilarity))
    descriptors: dict[str, list[Any]]
    descriptors = {key: [str(data.descriptors[key])] * len(pairs) for key in _KEPT if key in data.descriptors}
    descriptors |= {} if times is None else {"time": times}
    rdms = from_tensor(pairs, names, by=by, measure=label, descriptors=descriptors)
    _check_constant(patterns, names, label)
    check(rdms, f"the {label} RDM of {len(names)} conditions and {measured.shape[-1]} channels")
    return rdms


def _coded(data: DatasetBase, key: str) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Values of an observation descriptor in the order of their first appearance, and each observation's number."""
    held: Mapping[str, Any] = data.obs_descriptors
    if key not in held:
        known = [name for name in held if name != "index"]
        refuse(f"observations have no descriptor {key!r}{nearest(key, known)} (they have {quote(known)})")
    values = [str(value) for value in held[key]]
    names = list(dict.fromkeys(values))
    number = {name: index for index, name in enumerate(names)}
    return names, np.array([number[value] for value in values])


def _windowed(data: DatasetBase, windows: Sequence[tuple[float, float]] | None) -> tuple[Tensor, list[float] | None]:
    """Measurements (n_windows, n_observations, n_channels) and the centres of the windows; one window without time."""
    measured = torch.as_tensor(np.asarray(data.measurements), dtype=torch.float64)
    if measured.ndim == 2:
        if windows is not None:
            refuse(f"windows={list(windows)!r} need measurements with time, these have shape {tuple(measured.shape)}")
        return measured[None], None
    held: Any = data
    times = np.asarray(held.time_descriptors["time"], dtype=np.float64)
    if windows is None:
        return measured.permute(2, 0, 1), [round(float(time), 6) for time in times]
    inside = [np.logical_and(times >= start - _SLACK, times <= end + _SLACK) for start, end in windows]
    for window, chosen in zip(windows, inside, strict=True):
        if not chosen.any():
            refuse(f"window {window!r} s holds no time point; times go from {times.min():g} to {times.max():g} s")
    means = torch.stack([measured[:, :, torch.as_tensor(chosen)].mean(2) for chosen in inside])
    return means, [round((start + end) / 2, 6) for start, end in windows]


def _refuse_not_finite(measured: Tensor) -> None:
    bad = ~measured.isfinite().all(0)
    channels, observations = (f"{int(bad.any(axis).sum())} of {bad.shape[1 - axis]}" for axis in (0, 1))
    refuse(
        f"{channels} channels and {observations} observations hold NaN or Inf (or sum up to Inf); leave those channels "
        "or observations out"
    )


def _averaged(measured: Tensor, codes: npt.NDArray[np.int64]) -> Tensor:
    """Mean over the observations of each code, (..., n_codes, n_channels)."""
    counts = np.bincount(codes)
    if len(counts) == len(codes):
        return measured[:, torch.as_tensor(codes.argsort())]
    # a sparse product: torch's index_add_ is many times slower where threads share cores
    members = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    sums = torch.stack([torch.as_tensor(members @ each) for each in measured.numpy()])
    return sums.div_(torch.as_tensor(counts)[:, None])


def _averaged_in_runs(
    measured: Tensor,
    names: Sequence[str],
    codes: npt.NDArray[np.int64],
    run_names: Sequence[str],
    run_codes: npt.NDArray[np.int64],
) -> Tensor:
    """Mean over the observations of each condition in each run, (..., n_runs, n_conditions, n_channels)."""
    cells = run_codes * len(names) + codes
    missing = sorted(set(range(len(names) * len(run_names))) - set(cells.tolist()))
    if missing:
        run, condition = divmod(missing[0], len(names))
        refuse(
            f"condition {names[condition]!r} has no observation in run {run_names[run]!r} (and {len(missing) - 1} more "
            "such gaps); leave the condition or the run out, or merge runs"
        )
    return _averaged(measured, cells).unflatten(1, (len(run_names), len(names)))


def _dissimilarities(patterns: Tensor, dissimilarity: str | Dissimilarity, precision: Tensor | None) -> Tensor:
    if dissimilarity == "mahalanobis":
        if precision is None:
            refuse("dissimilarity 'mahalanobis' needs noise=, a method or a noise precision; without: 'euclidean'")
        return mahalanobis(patterns, precision)
    if dissimilarity == "crossnobis":
        return crossnobis(patterns, precision)
    if precision is not None:
        patterns = patterns @ _root(precision.to(patterns))
    return resolve(dissimilarity)(patterns)


def _root(precision: Tensor) -> Tensor:
    """Symmetric root of a noise precision, which leaves each channel as much like itself as whitening can."""
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
