"""Dissimilarities of conditions: of their means over all observations, or cross-validated over runs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from brainrdl._core.errors import arg, quote, refuse
from brainrdl.dissimilarity.blockwise import IN_BLOCKS, in_blocks
from brainrdl.dissimilarity.cross_validated import is_reliable
from brainrdl.dissimilarity.measures import Dissimilarity, crossnobis, mahalanobis, resolve
from brainrdl.rdms.noise import inverted, root, whitened, whitened_by_run
from brainrdl.rdms.observations import averaged, check_finite
from brainrdl.rdms.run_pairs import mean_over_run_pairs

NEEDS_NOISE = f"dissimilarity 'mahalanobis' needs {arg('noise')}, a method or a noise precision; or use 'euclidean'"

_UNEQUAL = 0.01  # of a pattern: smaller effects of unequal whitening are not worth a warning

_MANY = 4000  # conditions, whose pairs may need longer than two seconds


def averaged_pairs(
    measured: Tensor,
    names: Sequence[str],
    codes: npt.NDArray[np.int64],
    run_codes: npt.NDArray[np.int64],
    dissimilarity: str | Dissimilarity,
    precision: Tensor | None,
    progress: bool = False,
) -> Tensor:
    """Compute a dissimilarity of the means of all observations of each condition."""
    if precision is not None and precision.shape[1] > 1:
        _warn_of_unequal_whitening(precision, names, codes, run_codes)
        measured, precision = whitened_by_run(measured, precision, run_codes), None
        dissimilarity = "euclidean" if dissimilarity == "mahalanobis" else dissimilarity
    patterns = averaged(measured, codes)
    check_finite(patterns, measured)
    pairs = _dissimilarities(patterns, dissimilarity, None if precision is None else precision[:, 0], progress)
    if "correlation" in (dissimilarity, getattr(dissimilarity, "__name__", "")):
        check_constant(patterns, names)
    return pairs


def cross_validated_pairs(
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
    patterns = averaged(measured, places)
    check_finite(patterns, measured)
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
                _check_reliable(whole if alone is None else whitened(whole, alone), names)
            return _dissimilarities(whole, dissimilarity, alone)
        patterns = patterns if alone is None else whitened(patterns, alone)
        covariances = None
    else:
        covariances = 1 / precision if precision.ndim == 3 else inverted(precision)

    def of_two_runs(two: Tensor, r: int, s: int) -> Tensor:
        if covariances is None:
            return _dissimilarities(two, dissimilarity, None)
        mean = (covariances[:, r] + covariances[:, s]) / 2
        return _dissimilarities(two, dissimilarity, 1 / mean if mean.ndim == 2 else inverted(mean))

    run_of, condition_of = np.divmod(cells, n_conditions)
    bounds = np.searchsorted(run_of, np.arange(len(run_names) + 1))
    parts = [slice(start, end) for start, end in pairwise(bounds)]
    in_runs = [patterns[:, part] for part in parts]
    return mean_over_run_pairs(in_runs, [condition_of[part] for part in parts], n_conditions, of_two_runs)


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
        precision.sqrt() if precision.ndim == 3 else torch.stack([torch.stack([*map(root, one)]) for one in precision])
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


def _dissimilarities(
    patterns: Tensor, dissimilarity: str | Dissimilarity, precision: Tensor | None, progress: bool = False
) -> Tensor:
    """Compute dissimilarities; precisions are (n_windows or 1, n_channels, n_channels), or diagonals of such."""
    if precision is None or len(precision) == 1:
        return _of_window(patterns, dissimilarity, None if precision is None else precision[0], progress)
    parts = zip(patterns.split(1), precision, strict=True)
    return torch.cat([_of_window(part, dissimilarity, own) for part, own in parts])


def _of_window(
    patterns: Tensor, dissimilarity: str | Dissimilarity, precision: Tensor | None, progress: bool = False
) -> Tensor:
    if dissimilarity == "mahalanobis" and precision is None:
        refuse(NEEDS_NOISE)
    if precision is None:
        return _of_patterns(patterns, dissimilarity, progress)
    if precision.ndim == 2 and dissimilarity == "mahalanobis":
        return _mahalanobis(patterns, precision, progress)
    if precision.ndim == 2 and dissimilarity == "crossnobis":
        return crossnobis(patterns, precision)
    white = whitened(patterns, precision[None])
    return _of_patterns(white, "euclidean" if dissimilarity == "mahalanobis" else dissimilarity, progress)


def _of_patterns(patterns: Tensor, dissimilarity: str | Dissimilarity, progress: bool) -> Tensor:
    if progress and _is_long(patterns) and isinstance(dissimilarity, str) and dissimilarity in IN_BLOCKS:
        return in_blocks(patterns[0], dissimilarity)[None]
    return resolve(dissimilarity)(patterns)


def _mahalanobis(patterns: Tensor, precision: Tensor, progress: bool) -> Tensor:
    if progress and _is_long(patterns):
        return in_blocks(patterns[0], "mahalanobis", precision)[None]
    return mahalanobis(patterns, precision)


def _is_long(patterns: Tensor) -> bool:
    return len(patterns) == 1 and patterns.shape[-2] >= _MANY


def _check_reliable(patterns: Tensor, names: Sequence[str]) -> None:
    unlike = (~is_reliable(patterns)).flatten(0, -2).any(0).tolist()
    if any(unlike):
        found = [name for name, is_unlike in zip(names, unlike, strict=True) if is_unlike]
        refuse(
            f"the patterns of conditions {quote(found)} do not agree between runs (their covariance is not above 0), "
            "so they have no cross-validated correlation; leave them out, or use crossnobis"
        )


def check_constant(patterns: Tensor, names: Sequence[str]) -> None:
    values = patterns.numpy()
    high, low = values.max(-1), values.min(-1)
    flat = (high - low <= 1e-12 * np.maximum(np.abs(high), np.abs(low))).reshape(-1, len(names)).any(0)
    if flat.any():
        constant = [name for name, is_flat in zip(names, flat.tolist(), strict=True) if is_flat]
        refuse(f"conditions {quote(constant)} have the same value in all channels, so they have no correlation")
