"""Means of RDMs that know different pairs: their scales are made equal first.

Where each subject judged other conditions, each pair of the mean comes from other subjects. If one subject's values are
twice as large as another's, the mean then shows who judged a pair, not how different its conditions are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from brainrdl._core.errors import arg, refuse

_MOST_ROUNDS, _SAME = 10_000, 1e-20  # rounds, and squared change of an estimate of unit length

_AT_ONCE = 2**17  # pairs: RDMs of thousands of conditions are not copied whole


@runtime_checkable
class Later(Protocol):
    """Pairs that are not in memory, of which those of some conditions can be chosen."""

    shape: torch.Size

    def __getitem__(self, places: slice | Tensor, /) -> Tensor: ...

    def of(self, positions: npt.NDArray[np.int64]) -> Later:
        """Return the pairs of some conditions, by position, in that order."""


class Pairs(Protocol):
    """The pairs of one RDM, (n_pairs,): a tensor, or an object that reads or computes them when it is indexed."""

    shape: torch.Size

    def __getitem__(self, places: slice | Tensor, /) -> Tensor: ...


class Mask(Protocol):
    """Which pairs are used: True or False for each pair of a slice."""

    def __getitem__(self, places: slice, /) -> Tensor: ...


def blocks(rows: Sequence[Pairs] | Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield the RDMs block by block of their pairs, (n_rdms, n_pairs of the block).

    Examples
    --------
    >>> [(part, block.shape) for part, block in blocks([torch.zeros(3), torch.ones(3)])]
    [(slice(0, 3, None), torch.Size([2, 3]))]
    """
    n_pairs = rows[0].shape[-1]
    for start, stop in pairwise((*range(0, n_pairs, _AT_ONCE), n_pairs)):
        part = slice(start, stop)
        yield part, rows[:, part] if isinstance(rows, Tensor) else torch.stack([row[part] for row in rows])


def has_gaps(rows: Float[Tensor, "n_rdms n_pairs"] | Sequence[Pairs]) -> bool:
    """Say whether some RDMs know pairs that others do not.

    Examples
    --------
    >>> has_gaps(torch.tensor([[1.0, torch.nan], [2.0, torch.nan]]))  # both know the first pair only
    False
    """
    unknown = (block.isnan() for _, block in blocks(rows) if _some_unknown(block))
    return any(bool((each != each[:1]).any()) for each in unknown)


def _some_unknown(block: Tensor) -> bool:
    return bool(block.sum().isnan())  # several times faster than a look at each value


def comparable(
    rows: Float[Tensor, "n_rdms n_pairs"], where: str = "the RDMs", on: Bool[Tensor, " n_pairs"] | None = None
) -> Float[Tensor, "n_rdms n_pairs"]:
    """Bring RDMs that know different pairs to one scale, by the pairs that they share.

    Parameters
    ----------
    rows : Tensor, shape (n_rdms, n_pairs)
        Dissimilarities, any unit; NaN for pairs that were not measured.
    where : str
        Name of the RDMs in error messages.
    on : Tensor, shape (n_pairs,), optional
        Which pairs the factors are computed from; by default all.

    Returns
    -------
    Tensor, shape (n_rdms, n_pairs)
        The same object if all RDMs know the same pairs. Otherwise each row times a factor, so that it is as large as
        the mean on the pairs that it knows; the root mean square of all values stays the same.

    Raises
    ------
    BrainrdlError
        If RDMs share no pair with the others, also not through further RDMs: their scale is not known.

    Notes
    -----
    The iteration is that of ``rsatoolbox.rdm.combine.rescale`` with ``method="simple"``.

    Examples
    --------
    >>> rows = torch.tensor([[1.0, 2.0, 3.0, torch.nan], [torch.nan, 20.0, 30.0, 40.0]])
    >>> scaled = comparable(rows)
    >>> bool(torch.allclose(scaled[0, 1:3], scaled[1, 1:3], rtol=1e-4))
    True
    """
    scales = factors(rows, where, on)
    return rows if scales is None else rows * scales[:, None].to(rows.dtype)


def factors(
    rows: Float[Tensor, "n_rdms n_pairs"] | Sequence[Pairs],
    where: str = "the RDMs",
    on: Bool[Tensor, " n_pairs"] | Mask | None = None,
) -> Float[Tensor, " n_rdms"] | None:
    """Return the factors of `comparable`, in float64; None if all RDMs know the same pairs.

    Examples
    --------
    >>> factors([torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 4.0])]) is None
    True
    """
    if len(rows) < 2 or not has_gaps(rows):
        return None
    if not isinstance(rows[0], Tensor):
        refuse(
            f"{where}: these RDMs know different pairs (NaN), and to make their scales equal, all pairs are needed in "
            f"memory; read the file without memory_map, or use {arg('combine', 'all')} or {arg('combine', 'sample')}"
        )
    shared = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    lengths = torch.zeros(len(rows), dtype=torch.float64)
    for block in chosen_blocks(rows, on):
        known = (~block.isnan()).double()
        shared += known @ known.mT
        lengths += block.nan_to_num().square().sum(1)
    _refuse_islands(shared > 0, where)
    lengths = lengths.sqrt()
    per_length = torch.where(lengths > 0, 1 / lengths, 0.0)
    estimate = torch.empty(rows[0].shape, dtype=torch.float64)
    _point_to_mean(estimate, rows, on, torch.ones_like(lengths))
    for _ in range(_MOST_ROUNDS):
        sizes = torch.zeros_like(lengths)
        for (_, part), block in zip(blocks([estimate]), chosen_blocks(rows, on), strict=True):
            sizes += torch.where(block.isnan(), 0.0, part.square()).sum(1)
        sizes = sizes.sqrt()
        if _point_to_mean(estimate, rows, on, sizes * per_length) <= _SAME:
            break
    found = torch.where(lengths > 0, sizes * per_length, 1.0)
    return found * lengths.norm() / (lengths * found).norm()


def chosen_blocks(rows: Sequence[Pairs] | Tensor, on: Tensor | Mask | None) -> Iterator[Tensor]:
    """Yield the blocks in float64, NaN in the pairs that are not `on`."""
    for part, block in blocks(rows):
        yield block.double() if on is None else block.double().masked_fill(~on[part], torch.nan)


def _point_to_mean(
    estimate: Tensor, rows: Sequence[Pairs] | Tensor, on: Tensor | Mask | None, weights: Tensor
) -> float:
    """Set `estimate` to the mean of the rows times weights, divided by its length; return its squared change."""
    means = torch.empty_like(estimate)
    for (part, _), block in zip(blocks([estimate]), chosen_blocks(rows, on), strict=True):
        means[part] = weights @ block.nan_to_num() / (~block.isnan()).sum(0).clamp(min=1)
    means /= means.norm()
    change = float(estimate.sub_(means).square_().sum())
    estimate.copy_(means)
    return change


def mean_rdm(rows: Float[Tensor, "n_rdms n_pairs"] | Sequence[Pairs], where: str = "the RDMs") -> Pairs:
    """Average RDMs over the pairs that each knows, on one scale if they know different pairs (see `comparable`).

    Examples
    --------
    >>> mean_rdm(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([2., 3.])
    """
    if len(rows) == 1:
        return rows[0]
    scales = factors(rows, where)
    return weighted_mean(rows, torch.ones(len(rows), dtype=torch.float64), scales)


def weighted_mean(
    rows: Float[Tensor, "n_rdms n_pairs"] | Sequence[Pairs],
    weights: Float[Tensor, " n_rdms"],
    scales: Float[Tensor, " n_rdms"] | None = None,
) -> Pairs:
    """Average RDMs, times `scales`, over the pairs that each knows; NaN where none with a weight knows the pair.

    The mean of RDMs that are not tensors is not a tensor either: it is computed for the pairs that are asked for.

    Examples
    --------
    >>> weighted_mean([torch.tensor([1.0, 2.0]), torch.tensor([3.0, torch.nan])], torch.tensor([3.0, 1.0]))
    tensor([1.5000, 2.0000])
    """
    if not isinstance(rows[0], Tensor):
        return LaterMean(tuple(rows), weights, scales)
    mean, weights = torch.empty_like(rows[0]), weights.double()
    each = weights if scales is None else weights * scales
    for part, block in blocks(rows):
        mean[part] = _mean_of_block(block.double(), each, weights)
    return mean


def _mean_of_block(block: Tensor, each: Tensor, weights: Tensor) -> Tensor:
    """Average row after row: the last bit of a matrix product depends on how many pairs are computed together."""
    unknown = _some_unknown(block)
    total = torch.zeros_like(block[0])
    known = torch.zeros_like(total if unknown else weights[0])
    for row, factor, weight in zip(block, each, weights, strict=True):
        total += factor * (row.nan_to_num() if unknown else row)
        known += weight * ~row.isnan() if unknown else weight
    return total / known


class LaterMean:
    """The mean of RDMs that are not in memory, for the pairs that are asked for; see `weighted_mean`.

    Examples
    --------
    >>> later = LaterMean([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])], torch.ones(2))
    >>> later[1:]
    tensor([3.])
    """

    def __init__(self, rows: Sequence[Pairs], weights: Tensor, scales: Tensor | None = None) -> None:
        self._rows, self._weights, self._scales = rows, weights, scales
        self.shape = rows[0].shape

    def __getitem__(self, places: slice | Tensor) -> Tensor:
        found = weighted_mean([row[places] for row in self._rows], self._weights, self._scales)
        return found[:]

    def of(self, positions: npt.NDArray[np.int64]) -> LaterMean:
        """Return the mean for some conditions, by position, in that order."""
        return LaterMean(
            [row.of(positions) for row in self._rows if isinstance(row, Later)], self._weights, self._scales
        )


def _refuse_islands(share: Tensor, where: str) -> None:
    """Refuse RDMs of which some share no pair with the others, directly or through further RDMs; (n_rdms, n_rdms)."""
    joined = share[0]
    while not bool((further := share[joined].any(0)).equal(joined)) and bool(further.any()):
        joined = further
    if not bool(joined.all()):
        apart = [index for index, is_joined in enumerate(joined.tolist()) if not is_joined]
        refuse(
            f"{len(apart)} of the {len(joined)} RDMs of {where} (the first is number {apart[0]}, counted from 0) share "
            "no pair with the others, so that it is not known how their scales compare, and they have no mean; leave "
            "them out, or measure some pairs in all"
        )
