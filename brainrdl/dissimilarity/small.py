"""Dissimilarities of few patterns, by NumPy: for them, each operation of torch needs longer than its arithmetic.

The formulas are those of `brainrdl.dissimilarity.products`, for patterns on a processor that need no gradient. Patterns
in single precision, such as those of networks, are left to torch, so that scoring gives the same bits as training.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

ROUNDING = 4.0  # a spread over channels below this many rounding errors of the mean is only rounding

_SMALL = 2**14  # numbers in all patterns

_EPS, _TINY = float(np.finfo(float).eps), float(np.finfo(float).tiny)

Values = npt.NDArray[np.float64]


def is_small(x: Tensor) -> bool:
    """Say whether NumPy computes the dissimilarities of these patterns faster, and without losing a gradient."""
    small = type(x) is Tensor and x.dtype == torch.float64 and x.numel() <= _SMALL
    return small and x.device.type == "cpu" and not (x.requires_grad and torch.is_grad_enabled())


def small_squared_distances(x: Values) -> Values:
    """Return squared Euclidean distances of patterns (..., n_conditions, n_channels), divided by n_channels."""
    with np.errstate(all="ignore"):  # NaN and Inf are results, as in torch
        x = x - np.add.reduce(x, axis=-2, keepdims=True) / x.shape[-2]
        gram = x @ x.swapaxes(-2, -1)
        own = np.diagonal(gram, axis1=-2, axis2=-1).copy()
        gram *= -2
        gram += own[..., None]
        gram += own[..., None, :]
        found = _pairs(gram)
        found *= 1 / x.shape[-1]
        return np.maximum(found, 0, out=found)


def small_cosine_distances(x: Values, centre: bool) -> Values:
    """Return ``1 - cos(x_i, x_j)`` of patterns (..., n_conditions, n_channels), centred across channels if asked to."""
    floor: Any = _TINY
    with np.errstate(all="ignore"):
        if centre:
            mean = np.add.reduce(x, axis=-1, keepdims=True) / x.shape[-1]
            x = x - mean
            floor = np.maximum(np.square(mean[..., 0] * (ROUNDING * _EPS * x.shape[-1] ** 0.5)), _TINY)
        gram = x @ x.swapaxes(-2, -1)
        squares = np.diagonal(gram, axis1=-2, axis2=-1)
        inverse = 1 / np.sqrt(np.where(squares <= floor, np.inf, squares))
        gram *= inverse[..., None]
        gram *= inverse[..., None, :]
        found = _pairs(gram)
        np.subtract(1, found, out=found)
        return np.maximum(found, 0, out=found)


def _pairs(square: Values) -> Values:
    n = square.shape[-1]
    return square.reshape(*square.shape[:-2], n * n).take(_places(n), axis=-1)


@lru_cache(maxsize=8)
def _places(n: int) -> npt.NDArray[np.int64]:
    first, second = np.triu_indices(n, 1)
    places: npt.NDArray[np.int64] = first * n + second
    return places
