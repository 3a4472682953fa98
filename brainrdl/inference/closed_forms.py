"""Influences of many models and subjects at once, in closed form where the comparator has one.

`brainrdl.inference.influence` differentiates any comparator automatically. Here are the same numbers for RDMs without
unknown pairs: what depends on one RDM (ranks, norms, condition effects) is computed once for each RDM, not once for
each pair of RDMs. Other comparators, and RDMs with unknown pairs, are differentiated automatically.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl.dissimilarity.pairs import n_conditions_of, to_square
from brainrdl.inference.influence import Influence, influence
from brainrdl.inference.pairwise import comparison_of
from brainrdl.similarity.pair_sums import scaled, unit
from brainrdl.similarity.ranks import below_and_upto, cumulative, take
from brainrdl.similarity.registry import SIMILARITIES

_NOTHING_LEFT = 1e-12  # of an RDM's sum of squares; what is left without a condition is then a rounding error


def influences(comparator: str, a: Float[Tensor, "*#batch n_pairs"], b: Float[Tensor, "*#batch n_pairs"]) -> Influence:
    """Compute similarities with their influences, as `brainrdl.inference.influence.influence` but faster.

    Parameters
    ----------
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.
    a, b : Tensor (..., n_pairs)
        RDMs, float64; leading dimensions broadcast.

    Returns
    -------
    Influence

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
    form = _FORMS.get(comparator)
    similarity = SIMILARITIES[comparator]
    if form is None or torch.isnan(a.sum() + b.sum()):
        return influence(comparison_of(comparator), a, b, similarity)
    value, pairs, conditions = form(a, b)
    m, n_pairs = n_conditions_of(a.shape[-1]), a.shape[-1]
    scale = (m / (m - 2)) ** (0.5 if similarity.ranks else 1) * (n_pairs / (n_pairs - 2)) ** 0.5
    pairs = scale * pairs
    if not similarity.centred:
        return Influence(value, pairs, _centred_changes(value, conditions))
    return Influence(value, pairs, to_square(pairs).sum(-1) + scale * conditions)


def _centred_changes(value: Tensor, without: Tensor) -> Tensor:
    """Change of the similarity when each condition is left out, minus the mean change."""
    changes = value[..., None] - without
    return changes - changes.mean(-1, keepdim=True)


# Forms: each returns values, derivatives by the weights of pairs, and either the derivatives by the weights of
# conditions (centred comparators) or the values without each condition (cosines).

_Form = tuple[Tensor, Tensor, Tensor]

_NONE = torch.zeros((), dtype=torch.float64)


def _of_cosine(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine of two vectors of length 1 (or 0), and its derivatives by the weights of their elements."""
    products = x * y
    value = products.sum(-1)
    return value, products - value[..., None] / 2 * (x * x + y * y)


def _corr(a: Tensor, b: Tensor) -> _Form:
    value, of_pairs = _of_cosine(unit(a)[0], unit(b)[0])
    return value, of_pairs, _NONE


def _length_1(x: Tensor) -> Tensor:
    x = scaled(x)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norm.masked_fill(norm == 0, torch.inf)


def _cosine(a: Tensor, b: Tensor) -> _Form:
    x, y = _length_1(a), _length_1(b)
    value, of_pairs = _of_cosine(x, y)
    xx, yy, xy = (to_square(z).sum(-1) for z in (x * x, y * y, x * y))
    return value, of_pairs, _cosine_left(value[..., None] - xy, 1 - xx, 1 - yy)


def _cosine_left(xy: Tensor, xx: Tensor, yy: Tensor) -> Tensor:
    """Cosine from sums of products of which a part was subtracted; 0 if nothing is left of a vector."""
    ok = (xx > _NOTHING_LEFT) & (yy > _NOTHING_LEFT)
    return torch.where(ok, xy, 0) / (torch.where(ok, xx, 1) * torch.where(ok, yy, 1)).sqrt()


class _Ranked:
    """Ranks of RDMs, and how a weight of a pair changes the ranks of all other pairs."""

    def __init__(self, x: Tensor) -> None:
        self.below, self.upto, total = below_and_upto(x, None)
        self.order = x.argsort(-1)
        self.ranks = (self.below + self.upto - total).to(x.dtype)
        self.squares = self.ranks.square().sum(-1, keepdim=True)

    def changes(self, others: Tensor) -> Tensor:
        """Sum of `others` (which sum to 0) over larger pairs, minus that over smaller pairs, for each pair."""
        sums = cumulative(take(others, self.order))
        return -take(sums, self.upto) - take(sums, self.below)


def _rank_products(a: Tensor, b: Tensor) -> tuple[_Ranked, _Ranked, Tensor, Tensor]:
    x, y = _Ranked(a), _Ranked(b)
    products = x.ranks * y.ranks
    return x, y, products.sum(-1), products + x.changes(y.ranks) + y.changes(x.ranks)


def _centred_rows(of_pairs: Tensor) -> Tensor:
    return of_pairs - of_pairs.mean(-1, keepdim=True)


def _spearman(a: Tensor, b: Tensor) -> _Form:
    x, y, products, changes = _rank_products(a, b)
    ok = (x.squares > 0) & (y.squares > 0)
    norm = torch.where(ok, x.squares * y.squares, torch.inf).sqrt()
    value = products / norm[..., 0]
    own = [(z.ranks.square() + 2 * z.changes(z.ranks)) / z.squares.clamp(min=1) for z in (x, y)]
    of_pairs = changes / norm - value[..., None] / 2 * (own[0] + own[1])
    return value, _centred_rows(of_pairs), _NONE


def _rho_a(a: Tensor, b: Tensor) -> _Form:
    *_, products, changes = _rank_products(a, b)
    n = a.shape[-1]
    factor = 3 / (n**2 * (n - 1 / n))
    return factor * products, _centred_rows(factor * changes), _NONE


class _Effects:
    """RDMs whose condition effects are subtracted, and the sums that a left-out condition changes."""

    def __init__(self, x: Tensor) -> None:
        self.square = to_square(scaled(x))
        self.n = self.square.shape[-1]
        self.sums = self.square.sum(-1)
        self.total = self.sums.sum(-1, keepdim=True)
        effects = (self.sums - self.total / (2 * self.n)) / self.n
        left = self.square - effects[..., None, :] - effects[..., :, None]
        i, j = torch.triu_indices(self.n, self.n, 1)
        # a pair counts twice and the diagonal once, as in `brainrdl.similarity.whitening`
        residuals = torch.cat([left[..., i, j], -(2**0.5) * effects], -1)
        self.norm = torch.linalg.vector_norm(residuals, dim=-1, keepdim=True)
        self.unit = residuals / self.norm.masked_fill(self.norm == 0, torch.inf)

    def without_each(self, other: _Effects) -> Tensor:
        """Sum of products of the residuals of two RDMs, if each condition is left out in turn."""
        m = self.n - 1
        shared = (self.square * other.square).sum(-1)
        crossed = torch.einsum("...ij,...j->...i", self.square, other.sums)
        crossed = crossed + torch.einsum("...ij,...j->...i", other.square, self.sums)
        squares = (self.sums * other.sums).sum(-1, keepdim=True) - self.sums * other.sums - crossed + shared
        totals = (self.total - 2 * self.sums) * (other.total - 2 * other.sums)
        return shared.sum(-1, keepdim=True) / 2 - shared - (squares - totals / (2 * m)) / m


def _cosine_cov(a: Tensor, b: Tensor) -> _Form:
    x, y = _Effects(a), _Effects(b)
    value, changes = _of_cosine(x.unit, y.unit)
    xy, xx, yy = x.without_each(y), x.without_each(x), y.without_each(y)
    scales = [norm.square().masked_fill(norm == 0, torch.inf) for norm in (x.norm, y.norm)]
    left = _cosine_left(xy / (scales[0] * scales[1]).sqrt(), xx / scales[0], yy / scales[1])
    return value, changes[..., : a.shape[-1]], left


def _corr_cov(a: Tensor, b: Tensor) -> _Form:
    n = a.shape[-1]
    a, b = unit(a)[0], unit(b)[0]
    x, y = _Effects(a), _Effects(b)
    value, changes = _of_cosine(x.unit, y.unit)
    # the mean that is subtracted first changes with the weights too, and the residuals of the pairs do not sum to 0
    slopes = [_centre_slope(pairs, effects) for pairs, effects in ((a, x), (b, y))]
    sums = [z.unit[..., :n].sum(-1, keepdim=True) / n for z in (x, y)]
    of_mean = slopes[0] * (sums[1] - value[..., None] * sums[0]) + slopes[1] * (sums[0] - value[..., None] * sums[1])
    return value, changes[..., :n] - of_mean, changes[..., n:]


def _centre_slope(pairs: Tensor, effects: _Effects) -> Tensor:
    """Centred dissimilarities in units of the length of the residuals."""
    return scaled(pairs) / effects.norm.masked_fill(effects.norm == 0, torch.inf)


_FORMS: Mapping[str, Callable[[Tensor, Tensor], _Form]] = {
    "corr": _corr,
    "cosine": _cosine,
    "spearman": _spearman,
    "rho-a": _rho_a,
    "cosine_cov": _cosine_cov,
    "cka": _cosine_cov,
    "corr_cov": _corr_cov,
}
