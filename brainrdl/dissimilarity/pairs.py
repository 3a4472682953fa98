"""The order of pairs: row-major upper triangle, as in `torch.triu_indices`, SciPy's `squareform` and rsatoolbox."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl._core.tensor_checks import check_ndim

_FEW = 512  # conditions of which the indices of all pairs are kept: 2 MB


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


def square_of(pairs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Do the same as `to_square` for one array (n_pairs,).

    Examples
    --------
    >>> square_of(np.array([1.0, 2.0, 3.0])).tolist()
    [[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]]
    """
    n = n_conditions_of(len(pairs))
    padded = np.zeros(len(pairs) + 1, pairs.dtype)
    padded[:-1] = pairs
    return padded.take(_square_index(n, torch.device("cpu")).numpy()).reshape(n, n)


def pairs_of(squares: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the pairs (n_rdms, n_pairs) of square matrices (n_rdms, n, n).

    Examples
    --------
    >>> pairs_of(square_of(np.array([1.0, 2.0, 3.0]))[None]).tolist()
    [[1.0, 2.0, 3.0]]
    """
    index = _flat_index(squares.shape[-1], torch.device("cpu")).numpy()
    return squares.reshape(len(squares), -1).take(index, 1)


def to_pairs(square: Tensor) -> Tensor:
    n = square.shape[-1]
    return square.flatten(-2).index_select(-1, _flat_index(n, square.device))


def pair_blocks(n: int, at_most: int = 2**20) -> Iterator[tuple[slice, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield all pairs of `n` conditions in blocks of whole rows, because their indices need more memory than an RDM.

    Parameters
    ----------
    n : int
        Number of conditions.
    at_most : int
        Number of pairs in a block, unless a single row has more.

    Yields
    ------
    slice, rows, columns
        Where the block is among all pairs, and the two conditions of each of its pairs.

    Examples
    --------
    >>> [(part, rows.tolist(), columns.tolist()) for part, rows, columns in pair_blocks(4, at_most=3)]
    [(slice(0, 3, None), [0, 0, 0], [1, 2, 3]), (slice(3, 6, None), [1, 1, 2], [2, 3, 3])]
    """
    for part, first, last in row_blocks(n, at_most):
        lengths = np.arange(n - 1 - first, n - 1 - last, -1)
        rows = np.repeat(np.arange(first, last), lengths)
        columns = np.arange(part.stop - part.start)
        columns -= np.repeat(np.cumsum(lengths) - lengths, lengths)
        columns += rows
        columns += 1
        yield part, rows, columns
        del rows, columns  # before the next ones are made


def row_blocks(n: int, at_most: int) -> Iterator[tuple[slice, int, int]]:
    """Yield blocks of whole rows of the upper triangle: where its pairs are among all, its first row, and the next one.

    Examples
    --------
    >>> list(row_blocks(4, at_most=3))
    [(slice(0, 3, None), 0, 1), (slice(3, 6, None), 1, 3)]
    """
    starts = np.concatenate([[0], np.cumsum(np.arange(n - 1, 0, -1))])
    first = 0
    while first < n - 1:
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + at_most, "right")) - 1)
        yield slice(int(starts[first]), int(starts[last])), first, last
        first = last


def places_of(chosen: npt.NDArray[np.int64], n: int) -> Iterator[tuple[slice, npt.NDArray[np.int64]]]:
    """Yield, in blocks, where the pairs of the conditions `chosen` are among the pairs of all `n`.

    Examples
    --------
    >>> [(part, places.tolist()) for part, places in places_of(np.array([3, 0, 1]), 4)]
    [(slice(0, 3, None), [2, 4, 0])]
    """
    blocks = _few_pairs(len(chosen)) if len(chosen) <= _FEW else pair_blocks(len(chosen))
    for part, rows, columns in blocks:
        yield part, place_of(chosen[rows], chosen[columns], n)


@lru_cache(maxsize=4)
def _few_pairs(n: int) -> list[tuple[slice, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    return list(pair_blocks(n))


def place_of(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """Return where the pairs of two conditions, in any order, are among the pairs of all `n`.

    Examples
    --------
    >>> place_of(np.array([3, 0]), np.array([2, 1]), 4)
    array([5, 0])
    """
    places: npt.NDArray[np.int64] = _before_rows(n)[np.minimum(one, other)]
    places += np.maximum(one, other)
    return places


@lru_cache(maxsize=4)
def _before_rows(n: int) -> npt.NDArray[np.int64]:
    """Return what to add to a pair's column for its place: the number of pairs in rows before, minus row + 1."""
    rows = np.arange(n)
    return rows * n - rows * (rows + 1) // 2 - rows - 1


def conditions_at(places: npt.NDArray[np.int64], n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the two conditions of the pairs at `places` among the pairs of all `n`.

    Examples
    --------
    >>> conditions_at(np.array([5, 0]), 4)
    (array([2, 0]), array([3, 1]))
    """

    def start(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return rows * (2 * n - rows - 1) // 2

    rows = ((2 * n - 1 - np.sqrt((2.0 * n - 1) ** 2 - 8.0 * places)) / 2).astype(np.int64)
    rows -= start(rows) > places  # the root is rounded
    rows += start(rows + 1) <= places
    return rows, places - start(rows) + rows + 1


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
