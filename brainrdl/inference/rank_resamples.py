"""Rank correlations of RDMs in many resamples of the conditions; see `brainrdl.inference.resamples`.

All numbers are counts, so the results are exact. Each RDM is sorted once: the rank of a pair in a resample is then a
cumulative sum of weights in this order. Concordance (Kendall) is a quadratic form of the weights whose matrix of signs
does not change from resample to resample: pairs are divided into groups by their rank in either RDM, the order within
a group is a product with a small matrix of signs, and that between groups a cumulative sum over a table of groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl.dissimilarity.pairs import pair_indices
from brainrdl.similarity.ranks import cumulative, sorted_edges, take

Rows = Float[Tensor, "n_rdms n_pairs"]

Counts = Float[Tensor, "n_draws n_conditions"]

Scores = Float[Tensor, "n_a n_b n_draws"]

MOST_PAIRS = 2**16  # of concordance; with more, the matrices of signs need too much memory

_IN_CACHE = 2**17  # numbers at once, which then stay in the cache

_AT_ONCE = 2**24  # ranks at once, with very many RDMs

_TABLE = 2**20  # weights at once for concordance

_KEPT = 2**25  # weights of pairs in memory

_EXACT_32 = 2**24  # whole numbers below are exact in single precision

Array = npt.NDArray[Any]


def resampled_spearman(a: Rows, b: Rows, counts: Counts) -> Scores:
    """Spearman correlations of each RDM of `a` with each of `b` in each resample, 0 where one is constant.

    Examples
    --------
    >>> rdms = torch.tensor([[1.0, 2.0, 9.0], [0.1, 0.3, 0.2]], dtype=torch.float64)
    >>> resampled_spearman(rdms[:1], rdms[1:], torch.ones(1, 3, dtype=torch.float64))
    tensor([[[0.5000]]], dtype=torch.float64)
    """
    blocks = [products / (xx[:, None] * yy).clamp(min=1).sqrt() for products, xx, yy, _ in _rank_sums(a, b, counts)]
    return torch.cat(blocks, -1)


def resampled_rho_a(a: Rows, b: Rows, counts: Counts) -> Scores:
    """Spearman's rho-a of each RDM of `a` with each of `b` in each resample.

    Examples
    --------
    >>> rdms = torch.tensor([[1.0, 1.0, 9.0], [0.1, 0.2, 0.3]], dtype=torch.float64)
    >>> resampled_rho_a(rdms[:1], rdms[1:], torch.ones(1, 3, dtype=torch.float64))
    tensor([[[0.7500]]], dtype=torch.float64)
    """
    blocks = [3 * products / (total**3 - total).clamp(min=1) for products, _, _, total in _rank_sums(a, b, counts)]
    return torch.cat(blocks, -1)


def _rank_sums(a: Rows, b: Rows, counts: Counts) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Sum products of twice the centred ranks (of a and b, a alone, b alone), and weights; in blocks."""
    n_a, rdms = len(a), torch.cat([a, b])
    n_pairs = rdms.shape[-1]
    order, first, last = sorted_edges(rdms)
    places = torch.empty_like(order).scatter_(-1, order, torch.arange(n_pairs).expand_as(order))
    untied = (last - first == 1).all(-1).tolist()
    i, j = pair_indices(counts.shape[-1])
    for block in counts.split(max(1, min(_IN_CACHE // n_pairs, _AT_ONCE // rdms.numel()))):
        weights = take(block, i) * take(block, j)
        total = weights.sum(-1)
        ranks = weights.new_empty(len(block), len(rdms), n_pairs)
        for k in range(len(rdms)):
            mass = cumulative(take(weights, order[k]))
            twice = mass[:, 1:] + mass[:, :-1] if untied[k] else take(mass, first[k]) + take(mass, last[k])
            ranks[:, k] = take(twice.sub_(total[:, None]), places[k])
        weighted = ranks * weights[:, None]
        squares = torch.linalg.vecdot(weighted, ranks).T
        products = weighted[:, :n_a] @ ranks[:, n_a:].mT
        yield products.permute(1, 2, 0), squares[:n_a], squares[n_a:], total


def resampled_tau_a(a: Rows, b: Rows, counts: Counts) -> Scores:
    """Kendall's tau-a of each RDM of `a` with each of `b` in each resample.

    Examples
    --------
    >>> rdms = torch.tensor([[1.0, 2.0, 9.0], [0.1, 0.3, 0.2]], dtype=torch.float64)
    >>> resampled_tau_a(rdms[:1], rdms[1:], torch.ones(1, 3, dtype=torch.float64))
    tensor([[[0.3333]]], dtype=torch.float64)
    """
    i, j = pair_indices(counts.shape[-1])
    found = a.new_zeros(len(a), len(b), len(counts))
    for start in range(0, len(counts), size := max(1, _KEPT // a.shape[-1])):
        some = slice(start, start + size)
        columns = counts[some].T
        weights = (columns[i] * columns[j]).contiguous()
        for k, m in np.ndindex(len(a), len(b)):
            found[k, m, some] = _Order.of(a[k].numpy(), b[m].numpy()).score(weights)
    total = (counts.sum(-1).square() - counts.square().sum(-1)) / 2
    return 2 * found / (total * (total - 1)).clamp(min=1)


class _Order(NamedTuple):
    """The order of pairs in two RDMs, with ties ordered as in the other RDM, and the ties."""

    by_a: Tensor  # pairs in the order of a, (n_groups, size); n_pairs for a place that is not used
    by_b: Tensor
    signs_a: Tensor  # signs of the order in b, (n_groups, size, size), for the groups of a
    signs_b: Tensor  # signs of the order in a, for the groups of b; 0 within a group of a, which `signs_a` counts
    cells: Tensor  # group of a and group of b of each pair, as one number
    ties: list[tuple[int, Tensor, Tensor]]  # signs with which ties count, the tied pairs, and their groups

    @classmethod
    def of(cls, a: Array, b: Array) -> _Order:
        """Order the pairs."""
        n = len(a)
        order = np.lexsort((b, a))
        places_a, places_b = np.empty((2, n), dtype=np.int64)
        places_a[order] = np.arange(n)
        by_b = np.lexsort((places_a, b))
        places_b[by_b] = np.arange(n)
        size = int(np.ceil(np.sqrt(n)))
        n_groups = -(-n // size)
        groups_a, groups_b = (_padded(found, n_groups, size, n) for found in (order, by_b))
        signs_a, signs_b = _signs(places_b, groups_a), _signs(places_a, groups_b)
        group_of = np.append(places_a // size, n_groups)[groups_b]
        signs_b[group_of[:, :, None] == group_of[:, None]] = 0
        cells = places_a // size * n_groups + places_b // size
        order_a, order_b, of_a, of_b, of_pairs = map(torch.from_numpy, (groups_a, groups_b, signs_a, signs_b, cells))
        return cls(order_a, order_b, of_a, of_b, of_pairs, _ties(a, b))

    def score(self, weights: Float[Tensor, "n_pairs n_draws"]) -> Float[Tensor, " n_draws"]:
        """Weights of concordant pairs of pairs minus those of discordant ones, for each column of weights."""
        found = torch.cat([self._untied(part.float()) for part in weights.split(max(1, _TABLE // len(weights)), 1)])
        for sign, tied, groups in self.ties:
            rows = weights[tied]
            together = rows.new_zeros(int(groups.max()) + 1, rows.shape[1]).index_add_(0, groups, rows)
            found += sign * (together.square().sum(0) - rows.square().sum(0)) / 2
        return found

    def _untied(self, weights: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(weights, (0, 0, 0, 1))
        by_a, by_b = padded[self.by_a], padded[self.by_b]
        heaviest = torch.stack([by_a.sum(1).amax(), by_b.sum(1).amax()]).amax() * weights.sum(0).amax()
        if weights.dtype == torch.float32 and heaviest >= _EXACT_32:
            return self._untied(weights.double())
        within = _dot(by_a, self.signs_a.to(by_a) @ by_a) + _dot(by_b, self.signs_b.to(by_b) @ by_b)
        n_groups, n_draws = len(self.by_a), weights.shape[1]
        table = weights.new_zeros(n_groups * n_groups, n_draws).index_add_(0, self.cells, weights)
        table = table.view(n_groups, n_groups, n_draws)
        before = table.cumsum(0)[:-1]  # sums over earlier groups of a
        up_to = before.cumsum(1)
        # groups of b before this one minus those behind it
        signed = up_to.mul(2).sub_(before).sub_(up_to[:, -1:])
        return within / 2 + _dot(table[1:], signed)


def _padded(order: Array, n_groups: int, size: int, filling: int) -> Array:
    filled = np.full(n_groups * size, filling)
    filled[: len(order)] = order
    return filled.reshape(n_groups, size)


def _signs(places: Array, groups: Array) -> Array:
    """1 where two pairs of a group, which is ordered by one RDM, have the same order in the other, -1 otherwise."""
    of_groups = np.append(places, len(places)).astype(np.int32)[groups]
    later = np.sign(np.subtract.outer(np.arange(groups.shape[1]), np.arange(groups.shape[1])))
    return (np.sign(of_groups[:, :, None] - of_groups[:, None]) * later).astype(np.float32)


def _ties(a: Array, b: Array) -> list[tuple[int, Tensor, Tensor]]:
    """Find the pairs that are tied in a and in b (subtracted, as the order counts them), and in both."""
    groups_a, groups_b = (np.unique(x, return_inverse=True)[1] for x in (a, b))
    found = []
    for sign, groups in ((-1, groups_a), (-1, groups_b), (1, groups_a * len(a) + groups_b)):
        _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        tied = np.flatnonzero(sizes[numbers] > 1)
        if len(tied):
            together = np.unique(numbers[tied], return_inverse=True)[1]
            found.append((sign, torch.from_numpy(tied), torch.from_numpy(together)))
    return found


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Sum of products over the first two dimensions."""
    return y.mul_(x).sum(1).sum(0, dtype=torch.float64)
