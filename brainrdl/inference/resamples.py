"""Similarities of RDMs in many resamples of the conditions, of all models and subjects at once.

A resample is a count of each condition: a pair counts as the product of the counts of its two conditions, and a pair
of a condition with itself does not count, as in rsatoolbox. Cosines and correlations of all resamples are then a few
matrix products, with or without whitening; ranks are weighted cumulative sums over RDMs that were sorted once
(`brainrdl.inference.rank_resamples`). Other comparators, and RDMs with unknown pairs, are compared directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import NamedTuple, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl.dissimilarity.pairs import n_conditions_of, pair_indices, to_square
from brainrdl.inference.pairwise import Compare, Comparison, is_constant, resampled
from brainrdl.inference.rank_resamples import MOST_PAIRS, resampled_rho_a, resampled_spearman, resampled_tau_a
from brainrdl.similarity.pair_sums import unit
from brainrdl.similarity.registry import SIMILARITIES

_BLOCK = 2**20  # numbers compared at once

_IN_CACHE = 2**18  # weights at once, which then stay in the cache for the matrix product

_AT_ONCE = 2**24  # numbers at once in memory, with very many RDMs or pairs

_MOST_SUBJECTS = 32  # whose products are summed for each two of them; with more, mean RDMs are faster

_FEWEST = 3  # different conditions, which are 3 different pairs, as in `brainrdl.inference.pairwise`

_TINY = 2.0**-1000  # keeps a quotient finite

_CANCELLED = 1e-6  # of a sum of squares; if less is left, the resample is compared without the closed form


def resample_subjects(
    compare: Compare,
    a: Float[Tensor, "n_a n_pairs"],
    b: Float[Tensor, "n_b n_pairs"],
    counts: Float[Tensor, "n_draws n_conditions"],
) -> Float[Tensor, "n_a n_b n_draws"]:
    """Compare each RDM of `a` with each RDM of `b` in every resample of the conditions.

    Parameters
    ----------
    compare : Compare
        Comparator; fast if it is from `brainrdl.inference.pairwise.comparison_of`.
    a, b : Tensor
        RDMs, float64; NaN for an unknown pair.
    counts : Tensor
        How often each condition was drawn: whole numbers.

    Returns
    -------
    Tensor
        NaN if fewer than three different conditions were drawn, or an RDM is constant.

    Examples
    --------
    >>> from brainrdl.inference.pairwise import comparison_of
    >>> rdms = torch.rand(3, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> counts = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [2.0, 0.0, 2.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    >>> resample_subjects(comparison_of("corr"), rdms[:1], rdms[1:], counts).shape
    torch.Size([1, 2, 2])
    """
    if not _is_plain(compare, a, b):
        return _subjects_directly(compare, a, b, counts)
    if compare.comparator in _BY_SUMS:
        return _subjects_by_sums(compare, a, b, counts)
    form = _BY_RANKS.get(compare.comparator)
    if form is None or a.shape[-1] > form.most_pairs:
        return _subjects_directly(compare, a, b, counts)
    return _defined(compare, a, b, counts, form.compute(a, b, counts))


def resample_means(
    compare: Compare,
    a: Float[Tensor, "n_a n_pairs"],
    b: Float[Tensor, "n_b n_pairs"],
    drawn: Float[Tensor, "n_draws n_b"],
    counts: Float[Tensor, "n_draws n_conditions"] | None,
) -> Float[Tensor, "n_a n_draws"]:
    """Compare each RDM of `a` with the mean of the RDMs of `b` that each resample drew.

    Parameters
    ----------
    compare, a, b, counts
        As in `resample_subjects`; without `counts`, all conditions count once.
    drawn : Tensor
        How often each RDM of `b` was drawn.

    Examples
    --------
    >>> from brainrdl.inference.pairwise import comparison_of
    >>> rdms = torch.rand(3, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> drawn = torch.tensor([[1.0, 1.0], [2.0, 0.0]], dtype=torch.float64)
    >>> found = resample_means(comparison_of("corr"), rdms[:1], rdms[1:], drawn, None)
    >>> torch.allclose(found[0, 1], comparison_of("corr")(rdms[0], rdms[1]))
    True
    """
    if not _is_plain(compare, a, b):
        return _means_directly(compare, a, b, drawn, counts)
    if compare.comparator in _BY_SUMS and len(b) <= _MOST_SUBJECTS:
        return _means_by_sums(compare, a, b, drawn, counts)
    if SIMILARITIES[compare.comparator].ranks and counts is not None:
        return _means_of_drawn_pairs(compare, a, b, drawn, counts)
    return _means_directly(compare, a, b, drawn, counts)


def _is_plain(compare: Compare, a: Tensor, b: Tensor) -> TypeGuard[Comparison]:
    return isinstance(compare, Comparison) and compare.given is None and not torch.isnan(a.sum() + b.sum())


def _subjects_directly(compare: Compare, a: Tensor, b: Tensor, counts: Tensor) -> Tensor:
    rows = b.split(max(1, _AT_ONCE // max(a.numel(), 1)))
    size = max(1, _BLOCK // max(len(a) * b.numel(), 1))
    blocks = [
        torch.cat([resampled(compare, a[:, None, None], some[:, None], part) for some in rows], 1)
        for part in counts.split(size)
    ]
    return torch.cat(blocks, -1)


def _means_directly(compare: Compare, a: Tensor, b: Tensor, drawn: Tensor, counts: Tensor | None) -> Tensor:
    found, size = [], max(1, _BLOCK // max(a.numel(), 1))
    known, values = (~b.isnan()).double(), b.nan_to_num()
    for start in range(0, len(drawn), size):
        some = slice(start, start + size)
        means = (drawn[some] @ values) / (drawn[some] @ known)  # NaN if no subject knows the pair
        found.append(resampled(compare, a[:, None], means, None if counts is None else counts[some]))
    return torch.cat(found, 1)


def _means_of_drawn_pairs(compare: Comparison, a: Tensor, b: Tensor, drawn: Tensor, counts: Tensor) -> Tensor:
    """Compare ranks of the pairs that were drawn, about 40 % of all, in blocks with equal numbers of conditions."""
    n, n_drawn = counts.shape[-1], (counts > 0).sum(-1)
    found = a.new_full((len(a), len(drawn)), torch.nan)
    for m in n_drawn[n_drawn >= _FEWEST].unique().tolist():
        i, j = pair_indices(m)
        for some in (n_drawn == m).nonzero()[:, 0].split(max(1, _BLOCK // (len(a) * len(i)))):
            kept = (counts[some] > 0).nonzero()[:, 1].view(-1, m)
            first, second = kept[:, i], kept[:, j]
            places = first * n - first * (first + 1) // 2 + second - first - 1
            weights = counts[some].gather(1, first) * counts[some].gather(1, second)
            means = (drawn[some] @ b) / drawn[some].sum(1, keepdim=True)
            values = SIMILARITIES[compare.comparator](a[:, places], means.gather(1, places), weights)
            flat = is_constant(a)[:, None] | is_constant(means)
            found[:, some] = torch.where(flat, torch.nan, values)
    return found


def _defined(compare: Comparison, a: Tensor, b: Tensor, counts: Tensor, values: Tensor) -> Tensor:
    """NaN if too few conditions were drawn, or an RDM is constant."""
    centred = SIMILARITIES[compare.comparator].centred
    flat = is_constant(a, centred)[:, None] | is_constant(b, centred)
    return torch.where(_few(counts) | flat[..., None], torch.nan, values)


def _few(counts: Tensor) -> Tensor:
    return (counts > 0).sum(-1) < _FEWEST


class _Ranks(NamedTuple):
    compute: Callable[[Tensor, Tensor, Tensor], Tensor]
    most_pairs: float = inf


_BY_SUMS = ("corr", "cosine", "corr_cov", "cosine_cov", "cka", "rv")

_BY_RANKS: Mapping[str, _Ranks] = {
    "spearman": _Ranks(resampled_spearman),
    "rho-a": _Ranks(resampled_rho_a),
    "tau-a": _Ranks(resampled_tau_a, MOST_PAIRS),
}


# Cosines from weighted sums


def _subjects_by_sums(compare: Comparison, a: Tensor, b: Tensor, counts: Tensor) -> Tensor:
    own = torch.arange(len(b))
    found, safe = [], []
    for sums in _sums(compare, a, b, (own, own), counts):
        xx, yy = sums.xx.value, sums.yy.value
        found.append(sums.xy / (xx[:, None] * yy).clamp(min=_TINY).sqrt())
        safe.append(sums.solved & sums.xx.safe.all(0) & sums.yy.safe.all(0))
    values = _defined(compare, a, b, counts, torch.cat(found, -1))
    again = ~torch.cat(safe) & ~_few(counts)
    if again.any():
        values[..., again] = _subjects_directly(compare, a, b, counts[again])
    return values


def _means_by_sums(compare: Comparison, a: Tensor, b: Tensor, drawn: Tensor, counts: Tensor | None) -> Tensor:
    first, second = torch.triu_indices(len(b), len(b))
    everything = torch.ones(1, n_conditions_of(a.shape[-1]), dtype=a.dtype)
    found, safe, start = [], [], 0
    for sums in _sums(compare, a, b, (first, second), everything if counts is None else counts):
        n = len(drawn) if counts is None else sums.xy.shape[-1]
        mixed = drawn[start : start + n].T * sums.scale_b
        start += n
        twice = torch.where(first == second, 1.0, 2.0)[:, None] * mixed[first] * mixed[second]
        yy, before = ((twice * part).sum(0) for part in (sums.yy.value, sums.yy.before))
        found.append((sums.xy * mixed).sum(1) / (sums.xx.value * yy).clamp(min=_TINY).sqrt())
        safe.append(sums.solved & sums.xx.safe.all(0) & (yy > _CANCELLED * before))
    values = torch.cat(found, -1)
    values = torch.where(is_constant(a, SIMILARITIES[compare.comparator].centred)[:, None], torch.nan, values)
    again = ~torch.cat(safe)
    if counts is not None:
        values = torch.where(_few(counts), torch.nan, values)
        again &= ~_few(counts)
    if again.any():
        values[:, again] = _means_directly(compare, a, b, drawn[again], None if counts is None else counts[again])
    return values


class _Squares(NamedTuple):
    value: Tensor
    before: Tensor  # before anything was subtracted
    flat: Tensor | None = None  # rows that are 0 and need no second computation

    @property
    def safe(self) -> Tensor:
        """Whether enough is left of the sum of squares."""
        enough = self.value > _CANCELLED * self.before
        return enough if self.flat is None else enough | self.flat[:, None]


class _Sums(NamedTuple):
    """Sums of products over the pairs of each resample, of residuals if the comparator is centred or whitened."""

    xx: _Squares  # (n_a, n_draws)
    yy: _Squares  # (n_pairs_of_b, n_draws)
    xy: Tensor  # (n_a, n_b, n_draws)
    solved: Tensor  # (n_draws,), false where the closed form of whitening divides by 0
    scale_b: Tensor  # (n_b, 1), the unit of each RDM of b


def _sums(
    compare: Comparison, a: Tensor, b: Tensor, pairs_of_b: tuple[Tensor, Tensor], counts: Tensor
) -> Iterator[_Sums]:
    """Yield the sums of one block of resamples after the other."""
    similarity = SIMILARITIES[compare.comparator]
    (a, _), (b, scale) = (_rescaled(x, similarity.centred) for x in (a, b))
    flat_a, flat_b = (is_constant(x, centred=False) for x in (a, b))
    first, second = pairs_of_b
    size = max(1, _BLOCK // ((len(a) + len(b)) * counts.shape[-1]))
    for columns in (part.T.contiguous() for part in counts.split(size)):
        total, x, y, xx, yy, xy = _weighted_sums(a, b, first, second, columns)
        before_xx, before_yy = xx, yy
        of_a = of_b = None
        if similarity.centred:
            of_a, of_b = x / total.clamp(min=1), y / total.clamp(min=1)
            xx, yy = xx - total * of_a * of_a, yy - total * of_b[first] * of_b[second]
            xy = xy - total * of_a[:, None] * of_b
        solved = torch.ones(columns.shape[-1], dtype=torch.bool)
        if similarity.whitened:
            effects = _Effects.of(columns)
            u, v = effects.sides(a, of_a), effects.sides(b, of_b)
            xx, xy = xx - effects.explained(u, u).diagonal().T, xy - effects.explained(u, v)
            yy, solved = yy - effects.explained(v, v)[first, second], effects.solved
        squares = _Squares(xx, before_xx, flat_a), _Squares(yy, before_yy, flat_b if len(first) == len(b) else None)
        yield _Sums(*squares, xy, solved, scale)


def _rescaled(rdms: Tensor, centred: bool) -> tuple[Tensor, Tensor]:
    """RDMs near 1 (centred for a comparator that ignores the mean), and their units relative to the largest."""
    if centred:
        rescaled, norms = unit(rdms)
    else:
        norms = rdms.abs().amax(-1, keepdim=True)
        rescaled = rdms / norms.masked_fill(norms == 0, torch.inf)
    norms = torch.where(norms.isinf(), 0, norms)
    return rescaled, norms / norms.amax().clamp(min=_TINY)


def _weighted_sums(a: Tensor, b: Tensor, first: Tensor, second: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    """Sum weights, values and products over the pairs, for each column of counts."""
    n_a, n_b, n_draws = len(a), len(b), columns.shape[-1]
    lengths = [1, n_a, n_b, n_a, len(first), n_a * n_b]
    sums = a.new_zeros(sum(lengths), n_draws)
    i, j = pair_indices(len(columns))
    step = max(1, min(_IN_CACHE // n_draws, _AT_ONCE // sum(lengths)))
    for part in (slice(start, start + step) for start in range(0, a.shape[-1], step)):
        x, y = a[:, part], b[:, part]
        products = x * x, y[first] * y[second], (x[:, None] * y).flatten(0, 1)
        sums += torch.cat([torch.ones_like(x[:1]), x, y, *products]) @ (columns[i[part]] * columns[j[part]])
    *found, xy = sums.split(lengths)
    return *found, xy.view(n_a, n_b, n_draws)


class _Effects(NamedTuple):
    """Weighted least squares of condition effects in closed form, for pair weights that are products of counts.

    The matrix of the normal equations is then diagonal plus the outer product of the counts, which the formula of
    Sherman and Morrison inverts.
    """

    columns: Tensor  # counts, (n_conditions, n_draws)
    diagonal: Tensor
    solved: Tensor  # (n_draws,)

    @classmethod
    def of(cls, columns: Tensor) -> _Effects:
        """Make the matrix of the normal equations: a pair counts once, and the 0 on the diagonal twice."""
        diagonal = torch.where(columns > 0, columns * (columns.sum(0) - 2 * columns + 2), 1)
        solved = (diagonal != 0).all(0)
        return cls(columns, torch.where(diagonal == 0, 1, diagonal), solved)

    def sides(self, rdms: Tensor, means: Tensor | None) -> Tensor:
        """Right sides of the normal equations, (n_rdms, n_conditions, n_draws), after subtracting the means."""
        sides = to_square(rdms) @ self.columns * self.columns
        if means is not None:
            sides -= means[:, None] * (self.columns * (self.columns.sum(0) - self.columns))
        return sides

    def explained(self, u: Tensor, v: Tensor) -> Tensor:
        """Sum products of what the condition effects of RDMs explain, (n_u, n_v, n_draws), from their right sides."""
        share = self.columns / self.diagonal
        products = (u / self.diagonal).permute(2, 0, 1) @ v.permute(2, 1, 0)
        through = (u * share).sum(-2)[:, None] * (v * share).sum(-2) / (1 + (self.columns * share).sum(0))
        return products.permute(1, 2, 0) - through
