"""The order of pairs: row-major upper triangle, as in `torch.triu_indices`, SciPy's `squareform` and rsatoolbox."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl._core.tensor_checks import check_ndim


def pair_indices(n: int, device: torch.device | str | None = None) -> Int[Tensor, "2 n_pairs"]:
    """Return the row and column of each pair, as ``torch.triu_indices(n, n, 1)``; cached, so do not write to it.

    Parameters
    ----------
    n : int
        Number of conditions, at least 2.
    device : torch.device or str, optional
        Device of the indices (default: CPU).

    Returns
    -------
    Tensor (2, n_pairs), int64

    Raises
    ------
    BrainrdlError
        If there are fewer than 2 conditions.

    Examples
    --------
    >>> pair_indices(3)
    tensor([[0, 0, 1],
            [1, 2, 2]])
    """
    check_n_conditions(n)
    return _pair_indices(n, torch.device(device or "cpu"))


def n_conditions_of(n_pairs: int) -> int:
    """Return the number of conditions that make `n_pairs` pairs.

    Parameters
    ----------
    n_pairs : int
        Number of pairs, ``n_conditions * (n_conditions - 1) / 2``.

    Returns
    -------
    int

    Raises
    ------
    BrainrdlError
        If `n_pairs` is not ``n (n - 1) / 2`` for a whole `n` of at least 2.

    Examples
    --------
    >>> n_conditions_of(6)
    4
    """
    n = (1 + math.isqrt(1 + 8 * max(n_pairs, 0))) // 2
    if n_pairs < 1 or n * (n - 1) // 2 != n_pairs:
        refuse(f"n_pairs must be n (n - 1) / 2 for n conditions (1, 3, 6, ...), got {n_pairs}; pass a condensed RDM")
    return n


def to_square(pairs: Float[Tensor, "*batch n_pairs"]) -> Float[Tensor, "*batch n_conditions n_conditions"]:
    """Turn condensed pairs into symmetric matrices with a zero diagonal; differentiable.

    Parameters
    ----------
    pairs : Tensor (..., n_pairs)
        Dissimilarities in row-major upper-triangle order, any unit.

    Returns
    -------
    Tensor (..., n_conditions, n_conditions)
        In the unit of `pairs`.

    Raises
    ------
    BrainrdlError
        If the last dimension is not ``n (n - 1) / 2`` for a whole `n` of at least 2.

    Examples
    --------
    >>> to_square(torch.tensor([1.0, 2.0, 3.0]))
    tensor([[0., 1., 2.],
            [1., 0., 3.],
            [2., 3., 0.]])
    """
    check_ndim(pairs, 1, "pairs", "(..., n_pairs)")
    n = n_conditions_of(pairs.shape[-1])
    padded = torch.nn.functional.pad(pairs, (0, 1))  # the diagonal reads this zero
    return padded.index_select(-1, _square_index(n, pairs.device)).view(*pairs.shape[:-1], n, n)


def to_pairs(square: Tensor) -> Tensor:
    n = square.shape[-1]
    return square.flatten(-2).index_select(-1, _flat_index(n, square.device))


# The caches are filled outside inference mode: an index made there could never be saved for a backward pass.
@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _pair_indices(n: int, device: torch.device) -> Tensor:
    return torch.triu_indices(n, n, 1, device=device)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _flat_index(n: int, device: torch.device) -> Tensor:
    row, column = _pair_indices(n, device)
    index: Tensor = row * n + column
    return index.to(torch.int32)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _square_index(n: int, device: torch.device) -> Tensor:
    row, column = _pair_indices(n, device)
    index = torch.full((n, n), row.numel(), dtype=torch.int32, device=device)
    index[row, column] = index[column, row] = torch.arange(row.numel(), dtype=torch.int32, device=device)
    return index.flatten()


def check_n_conditions(n: int) -> None:
    if n < 2:
        refuse(f"an RDM needs at least 2 conditions, got {n}")
