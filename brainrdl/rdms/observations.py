"""Observations of a dataset: their conditions and runs, their time windows, and the mean of each condition."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from brainrdl._core.errors import arg, check_unique, nearest, quote, read_arg, refuse
from brainrdl._core.given_values import SLACK, as_float64, in_span, step_of
from brainrdl.rdms.naming import checked_names

if TYPE_CHECKING:
    from rsatoolbox.data.base import DatasetBase


_REMEDIES = {
    "run": f"; if the file has runs, read them with {read_arg('run_column')}",
    "stimulus": f"; read them with {read_arg('condition_column')}, or give {read_arg('names')}",
}


def coded(data: DatasetBase, key: str) -> tuple[list[str], npt.NDArray[np.int64]]:
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


def windowed(
    data: DatasetBase, windows: Sequence[tuple[float, float]] | None, summed: bool = False, samples: bool = False
) -> tuple[Tensor, list[float] | None]:
    """Return measurements (n_windows, n_observations, n_channels) and window centres; one window without time."""
    measured = torch.as_tensor(as_float64(data.measurements, "measurements"))
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
    step, low, high = step_of(times), float(times.min()), float(times.max())
    inside, reach = in_span(times, start, end), (0.5 + SLACK) * step
    if not low - reach <= start <= end <= high + reach:
        problem = "extends beyond the data" if start <= end else "ends before it starts"
    elif not inside.any():
        problem = "contains no time point"
    else:
        return inside
    refuse(f"window {(start, end)} s {problem}; times go from {low:g} to {high:g} s")


def averaged(measured: Tensor, codes: npt.NDArray[np.int64]) -> Tensor:
    """Average over the observations of each code, (..., n_codes, n_channels)."""
    counts = np.bincount(codes)
    if len(counts) == len(codes):
        return measured if (np.diff(codes) > 0).all() else measured[:, torch.as_tensor(codes.argsort())]
    # a sparse product, because torch's index_add_ is many times slower when threads share cores
    members = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    sums = [torch.as_tensor(members @ each) for each in measured.numpy()]
    return (sums[0][None] if len(sums) == 1 else torch.stack(sums)).div_(torch.as_tensor(counts)[:, None])


def check_finite(patterns: Tensor, measured: Tensor) -> None:
    if not math.isfinite(patterns.sum().item()):  # averages keep NaN and Inf, and are fewer than the measurements
        _refuse_not_finite(measured)


def _refuse_not_finite(measured: Tensor) -> None:
    bad = ~measured.isfinite().all(0)
    channels, observations = (f"{int(bad.any(axis).sum())} of {bad.shape[1 - axis]}" for axis in (0, 1))
    refuse(
        f"{channels} channels and {observations} observations contain NaN or Inf (or sum to Inf); leave out those "
        "channels or observations"
    )
