"""Influences of many models and subjects at once, in closed form where the comparator has one.

`brainrdl.inference.influence` differentiates any comparator automatically. Here are the same numbers for RDMs without
unknown pairs: what depends on one RDM (ranks, norms, condition effects) is computed once for each RDM, not once for
each pair of RDMs. Other comparators, and RDMs with unknown pairs, are differentiated automatically.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl.dissimilarity.pairs import n_conditions_of, pair_indices, to_square
from brainrdl.inference.influence import Influence, influence, scale_for_few
from brainrdl.inference.pairwise import comparison_of, is_constant
from brainrdl.similarity.pair_sums import scaled, unit
from brainrdl.similarity.ranks import cumulative, take
from brainrdl.similarity.registry import SIMILARITIES
from brainrdl.similarity.sorting import stable_order

_NOTHING_LEFT = 1e-12  # of an RDM's sum of squares; what is left without a condition is then a rounding error


class Prepared:
    """RDMs ``(n_models, n_rdms, n_pairs)`` with what a comparator computes once for each of them.

    Examples
    --------
    >>> Prepared("spearman", torch.rand(2, 1, 15, dtype=torch.float64)).rdms.shape
    torch.Size([2, 1, 15])
    """

    def __init__(self, comparator: str, rdms: Float[Tensor, "*batch n_pairs"]) -> None:
        form = _FORMS.get(comparator)
        self.comparator, self.rdms = comparator, rdms
        self.parts = form.prepare(rdms) if form and not torch.isnan(rdms.sum()) else None
        self.constant = is_constant(rdms, SIMILARITIES[comparator].centred)

    def block(self, start: int, stop: int) -> Prepared:
        """Return the RDMs `start` to `stop` of the second dimension; all of them if there is only one for all."""
        if self.rdms.shape[1] == 1:
            return self
        cut = object.__new__(Prepared)
        cut.comparator, cut.rdms = self.comparator, self.rdms[:, start:stop]
        cut.constant = self.constant[:, start:stop]
        cut.parts = None if self.parts is None else tuple(part[:, start:stop] for part in self.parts)
        return cut


def has_closed_form(comparator: str, rdms: Float[Tensor, "*batch n_pairs"]) -> bool:
    """Say whether the influences on this similarity with these RDMs are fast.

    Examples
    --------
    >>> has_closed_form("corr", torch.rand(2, 15)), has_closed_form("tau-a", torch.rand(2, 15))
    (True, False)
    """
    return comparator in _FORMS and not bool(torch.isnan(rdms.sum()))


def influences(comparator: str, a: Tensor | Prepared, b: Tensor | Prepared) -> Influence:
    """Compute similarities with their influences, as `brainrdl.inference.influence.influence` but faster.

    Parameters
    ----------
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.
    a, b : Tensor (..., n_pairs) or Prepared
        RDMs, float64; leading dimensions broadcast.

    Returns
    -------
    Influence
        The value is NaN if an RDM is constant (for cosines and CKA, 0 everywhere).

    Notes
    -----
    Similarities are cosines x.y / sqrt(x.x y.y) of the RDMs themselves, of what is left after subtracting the mean or
    the condition effects, or of ranks. A weight of pair p changes x.y by x_p y_p, and through the fitted mean and
    condition effects not at all, because the residuals are orthogonal to them. It changes every rank above and below p,
    which sums to a cumulative sum in the order of the other RDM.

    Examples
    --------
    >>> a, b = torch.rand(2, 3, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> found = influences("spearman", a[:, None], b[None])
    >>> found.value.shape, found.pairs.shape, found.conditions.shape
    (torch.Size([3, 3]), torch.Size([3, 3, 15]), torch.Size([3, 3, 6]))
    """
    a, b = (x if isinstance(x, Prepared) else Prepared(comparator, x) for x in (a, b))
    similarity = SIMILARITIES[comparator]
    if a.parts is None or b.parts is None:
        return influence(comparison_of(comparator), a.rdms, b.rdms, similarity)
    value, pairs, conditions = _FORMS[comparator].join(a.parts, b.parts)
    value = torch.where(a.constant | b.constant, torch.nan, value)
    scale = scale_for_few(n_conditions_of(a.rdms.shape[-1]), similarity.ranks)
    pairs = pairs.mul_(scale)
    if not similarity.centred:
        return Influence(value, pairs, _centred_changes(value, conditions))
    return Influence(value, pairs, _sums_by_condition(pairs) + scale * conditions)


def _sums_by_condition(pairs: Tensor) -> Tensor:
    """Sum the pairs of each condition, without the square matrix: the larger conditions of a pair are consecutive."""
    first, order, second = _places_by_condition(n_conditions_of(pairs.shape[-1]))
    values = pairs.numpy()
    sums = np.zeros((*values.shape[:-1], len(first) + 1))
    sums[..., :-1] = np.add.reduceat(values, first, -1)
    sums[..., 1:] += np.add.reduceat(values.take(order, -1), second, -1)
    return torch.from_numpy(sums)


@lru_cache(maxsize=8)
def _places_by_condition(n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the pairs with each first condition start, pairs in the order of the second, and where these start."""
    i, j = (side.numpy() for side in pair_indices(n))
    order = j.argsort(kind="stable")
    return np.searchsorted(i, np.arange(n - 1)), order, np.searchsorted(j[order], np.arange(1, n))


def _centred_changes(value: Tensor, without: Tensor) -> Tensor:
    """Change of the similarity when each condition is left out, minus the mean change."""
    changes = value[..., None] - without
    return (changes - changes.mean(-1, keepdim=True)).nan_to_num()


# Forms: `prepare` computes what depends on one RDM. `join` returns values, derivatives by the weights of pairs, and
# either the derivatives by the weights of conditions (centred comparators) or the values without each condition.

_Parts = tuple[Tensor, ...]


class _Form(NamedTuple):
    prepare: Callable[[Tensor], _Parts]
    join: Callable[[_Parts, _Parts], tuple[Tensor, Tensor, Tensor]]


_NONE = torch.zeros((), dtype=torch.float64)


def _of_cosine(x: Tensor, y: Tensor, xx: Tensor, yy: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine of two vectors of length 1 (or 0), and its derivatives by the weights; xx and yy are half the squares."""
    products = x * y
    value = products.sum(-1)
    return value, products.sub_(value[..., None] * (xx + yy))


def _with_squares(x: Tensor) -> _Parts:
    return x, x * x / 2


def _prepare_corr(rdms: Tensor) -> _Parts:
    return _with_squares(unit(rdms)[0])


def _corr(a: _Parts, b: _Parts) -> tuple[Tensor, Tensor, Tensor]:
    return *_of_cosine(a[0], b[0], a[1], b[1]), _NONE


def _length_1(x: Tensor) -> Tensor:
    x = scaled(x)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norm.masked_fill(norm == 0, torch.inf)


def _prepare_cosine(rdms: Tensor) -> _Parts:
    x, half = _with_squares(_length_1(rdms))
    return x, half, 1 - 2 * to_square(half).sum(-1)


def _cosine(a: _Parts, b: _Parts) -> tuple[Tensor, Tensor, Tensor]:
    value, of_pairs = _of_cosine(a[0], b[0], a[1], b[1])
    shared = to_square(a[0] * b[0]).sum(-1)
    return value, of_pairs, _cosine_left(value[..., None] - shared, a[2], b[2])


def _cosine_left(xy: Tensor, xx: Tensor, yy: Tensor) -> Tensor:
    """Cosine from sums of products of which a part was subtracted; 0 if nothing is left of a vector."""
    ok = (xx > _NOTHING_LEFT) & (yy > _NOTHING_LEFT)
    return torch.where(ok, xy, 0) / (torch.where(ok, xx, 1) * torch.where(ok, yy, 1)).sqrt()


def _prepare_ranks(rdms: Tensor) -> _Parts:
    """Centred ranks; order; places of the first and behind the last equal value; and own derivatives over squares."""
    order, ordered = map(torch.from_numpy, stable_order(rdms.numpy()))
    places = torch.arange(rdms.shape[-1]).expand_as(order)
    first, behind = places, places + 1
    new = ordered[..., 1:] > ordered[..., :-1]
    if not new.all():
        starts = torch.nn.functional.pad(new, (1, 0), value=True)
        first = torch.where(starts, places, 0).cummax(-1).values
        ends = torch.nn.functional.pad(new, (0, 1), value=True)
        behind = torch.where(ends, places + 1, rdms.shape[-1]).flip(-1).cummin(-1).values.flip(-1)
    below, upto = (torch.empty_like(order).scatter_(-1, order, edge) for edge in (first, behind))
    ranks = (below + upto - rdms.shape[-1]).to(rdms.dtype)
    squares = ranks.square().sum(-1, keepdim=True)
    own = (ranks.square() + 2 * _changes(ranks, order, below, upto)) / (2 * squares.clamp(min=1))
    return ranks, order, below, upto, squares, own


def _changes(others: Tensor, order: Tensor, below: Tensor, upto: Tensor) -> Tensor:
    """Sum of `others` (which sum to 0) over larger pairs, minus that over smaller pairs, for each pair."""
    sums = cumulative(take(others, order))
    return -take(sums, upto).add_(take(sums, below))


def _rank_products(a: _Parts, b: _Parts) -> tuple[Tensor, Tensor]:
    products = a[0] * b[0]
    value = products.sum(-1)
    return value, products.add_(_changes(b[0], *a[1:4])).add_(_changes(a[0], *b[1:4]))


def _centred_rows(of_pairs: Tensor) -> Tensor:
    return of_pairs.sub_(of_pairs.mean(-1, keepdim=True))


def _spearman(a: _Parts, b: _Parts) -> tuple[Tensor, Tensor, Tensor]:
    products, changes = _rank_products(a, b)
    ok = (a[4] > 0) & (b[4] > 0)
    norm = torch.where(ok, a[4] * b[4], torch.inf).sqrt()
    value = products / norm[..., 0]
    return value, _centred_rows(changes.div_(norm).sub_(value[..., None] * (a[5] + b[5]))), _NONE


def _rho_a(a: _Parts, b: _Parts) -> tuple[Tensor, Tensor, Tensor]:
    products, changes = _rank_products(a, b)
    n = changes.shape[-1]
    factor = 3 / (n**2 * (n - 1 / n))
    return factor * products, _centred_rows(changes.mul_(factor)), _NONE


def _prepare_effects(rdms: Tensor) -> _Parts:
    """Residuals of length 1, half their squares, the RDM as a square, its sums, total, and the length of residuals."""
    square = to_square(scaled(rdms))
    n = square.shape[-1]
    sums = square.sum(-1)
    total = sums.sum(-1, keepdim=True)
    effects = (sums - total / (2 * n)) / n
    i, j = pair_indices(n)
    # a pair counts twice and the diagonal once, as in `brainrdl.similarity.whitening`
    residuals = torch.cat([square[..., i, j] - effects[..., i] - effects[..., j], -(2**0.5) * effects], -1)
    norm = torch.linalg.vector_norm(residuals, dim=-1, keepdim=True)
    return *_with_squares(residuals / norm.masked_fill(norm == 0, torch.inf)), square, sums, total, norm


def _without_each(a: _Parts, b: _Parts) -> Tensor:
    """Sum of products of the residuals of two RDMs, if each condition is left out in turn."""
    (square_a, sums_a, total_a), (square_b, sums_b, total_b) = a[2:5], b[2:5]
    m = sums_a.shape[-1] - 1
    shared = (square_a * square_b).sum(-1)
    crossed = torch.einsum("...ij,...j->...i", square_a, sums_b) + torch.einsum("...ij,...j->...i", square_b, sums_a)
    squares = (sums_a * sums_b).sum(-1, keepdim=True) - sums_a * sums_b - crossed + shared
    totals = (total_a - 2 * sums_a) * (total_b - 2 * sums_b)
    return shared.sum(-1, keepdim=True) / 2 - shared - (squares - totals / (2 * m)) / m


def _cosine_cov(a: _Parts, b: _Parts) -> tuple[Tensor, Tensor, Tensor]:
    value, changes = _of_cosine(a[0], b[0], a[1], b[1])
    xy, xx, yy = _without_each(a, b), _without_each(a, a), _without_each(b, b)
    scales = [x[5].square().masked_fill(x[5] == 0, torch.inf) for x in (a, b)]
    left = _cosine_left(xy / (scales[0] * scales[1]).sqrt(), xx / scales[0], yy / scales[1])
    return value, changes[..., : -xy.shape[-1]], left


def _prepare_corr_cov(rdms: Tensor) -> _Parts:
    """Add the centred RDM in units of the length of the residuals, and the mean of these."""
    pairs = unit(rdms)[0]
    parts = _prepare_effects(pairs)
    norm = parts[5].masked_fill(parts[5] == 0, torch.inf)
    return *parts, scaled(pairs) / norm, parts[0][..., : pairs.shape[-1]].mean(-1, keepdim=True)


def _corr_cov(a: _Parts, b: _Parts) -> tuple[Tensor, Tensor, Tensor]:
    value, changes = _of_cosine(a[0], b[0], a[1], b[1])
    n, r = a[6].shape[-1], value[..., None]
    # the mean that is subtracted first changes with the weights too, and the residuals of the pairs do not sum to 0
    of_mean = a[6] * (b[7] - r * a[7]) + b[6] * (a[7] - r * b[7])
    return value, changes[..., :n] - of_mean, changes[..., n:]


_FORMS: Mapping[str, _Form] = {
    "corr": _Form(_prepare_corr, _corr),
    "cosine": _Form(_prepare_cosine, _cosine),
    "spearman": _Form(_prepare_ranks, _spearman),
    "rho-a": _Form(_prepare_ranks, _rho_a),
    "cosine_cov": _Form(_prepare_effects, _cosine_cov),
    "cka": _Form(_prepare_effects, _cosine_cov),
    "corr_cov": _Form(_prepare_corr_cov, _corr_cov),
}
