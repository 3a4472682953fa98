"""Noise precisions of channels, estimated or given, and patterns that are whitened with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from brainrdl._core.constants import NOISE
from brainrdl._core.errors import about, arg, check_option, named, nearest, quote, refuse
from brainrdl._core.given_values import as_float64, as_text
from brainrdl.rdms.observations import averaged, coded, windowed

if TYPE_CHECKING:
    from rsatoolbox.data.base import DatasetBase

RESIDUALS, RESIDUAL_DOF = "residuals", "residual_dof"

_ASYMMETRY = 1e-5  # of a precision, relative to its largest value, that float32 arithmetic can leave


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
    found = _precision(data, windowed(data, None)[0], method, by).numpy()
    return np.diag(found) if method == "diag" else found


def precision_of(
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
        given = {as_text(run): precision for run, precision in noise.items()}
        names = coded(data, runs)[0]
        if lacking := [name for name in names if name not in given]:
            refuse(
                f"noise= has no precision for run {quote(lacking)}{nearest(lacking[0], given)} (it has {quote(given)})"
            )
        precisions = [_checked_precision(given[name], n_windows, n_channels) for name in names]
        longest = max(map(len, precisions))
        return torch.stack([each.expand(longest, -1, -1) for each in precisions], dim=1)
    return _checked_precision(noise, n_windows, n_channels)[:, None]


def _precision(data: DatasetBase, measured: Tensor, method: str, by: str) -> Tensor:
    """Estimate the precision from kept residuals, or from `measured` (n_windows, n_observations, n_channels)."""
    residuals, dof = _residuals_of(data) or _around_conditions(measured, *coded(data, by), method)
    return _inverse(residuals, dof, method)


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
    (names, codes), (run_names, run_codes) = coded(data, by), coded(data, runs)
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
    square = (n_channels, n_channels)
    found = as_float64(noise, f"noise= (one of {', '.join(NOISE)}, or a precision of numbers {square})")
    if found.shape not in (square, (n_windows, *square)):
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
    return torch.as_tensor(found).reshape(-1, *square)


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
    residuals = measured - averaged(measured, codes)[:, codes]
    return residuals.reshape(-1, n_channels).numpy(), n_times * (n_observations - len(names))


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


def check_samples(data: DatasetBase, noise: object) -> None:
    """Refuse residuals, which have the channels of a single sample."""
    if isinstance(noise, str) and RESIDUALS in data.channel_descriptors:
        refuse(
            f"{named('window_as')} 'samples' cannot use the residuals that this dataset has, which are of channels; "
            f"give {arg('noise')} a precision (n_channels * n_samples, n_channels * n_samples), or leave it out"
        )


def _inverse(residuals: npt.NDArray[np.float64], dof: float | None, method: str) -> Tensor:
    """Return the precision of residuals (n, n_channels); of ``"diag"`` its diagonal."""
    from rsatoolbox.data.noise import prec_from_residuals

    if method == "diag":  # rsatoolbox would invert the whole matrix
        squares = np.square(residuals - residuals.mean(0)).sum(0)
        with np.errstate(divide="ignore"):
            return _finite_precision((len(residuals) - 1 if dof is None else dof) / squares, method)
    if residuals.shape[1] == 1 and method != "full":
        refuse(f"noise={method!r} shrinks covariances of channels, and there is one channel; use 'diag'")
    try:
        precision = prec_from_residuals(residuals, dof=dof, method=method)
    except np.linalg.LinAlgError as error:
        refuse(f"the noise covariance of {residuals.shape[1]} channels cannot be inverted ({error}); use shrinkage")
    return _finite_precision((precision + precision.T) / 2, method)


def _finite_precision(precision: npt.NDArray[np.float64], method: str) -> Tensor:
    if not np.isfinite(precision).all():
        refuse(f"noise={method!r} gives a precision that is not finite: a channel is constant; leave that channel out")
    return torch.as_tensor(precision)


def whitened(patterns: Tensor, precision: Tensor) -> Tensor:
    """Whiten patterns (n_windows, ..., n_channels) with precisions as in `_dissimilarities`."""
    if precision.ndim == 2:
        return patterns * precision.sqrt().unflatten(0, (-1, *[1] * (patterns.ndim - 2)))
    roots = torch.stack([root(each) for each in precision])
    return patterns @ roots.unflatten(0, (-1, *[1] * (patterns.ndim - 3)))


def whitened_by_run(measured: Tensor, precision: Tensor, run_codes: npt.NDArray[np.int64]) -> Tensor:
    found = torch.empty_like(measured)
    for number in range(precision.shape[1]):
        inside = torch.as_tensor(run_codes == number)
        found[:, inside] = whitened(measured[:, inside], precision[:, number])
    return found


def root(precision: Tensor) -> Tensor:
    """Return the symmetric root of a noise precision; of all whitenings it changes the channels least."""
    values, vectors = torch.linalg.eigh(precision)
    if float(values.min()) < -1e-8 * float(values.max()):
        refuse(f"the noise precision has a negative eigenvalue, {float(values.min()):g}; it must be positive definite")
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT


def inverted(matrices: Tensor) -> Tensor:
    try:
        return torch.linalg.inv(matrices)
    except torch.linalg.LinAlgError as error:
        refuse(f"the noise precision of a run cannot be inverted ({error}); use shrinkage")
