"""How much each pair and each condition changes a similarity: the parts of its sampling variance over stimuli.

The influence of a pair is the derivative of the similarity with respect to the weight of this pair. A condition acts
through all of its pairs, so its influence is the sum of theirs. Cosines do not subtract the mean dissimilarity, and
they change with the square of a condition's effect, which a derivative misses in small folds: for them, the influence
of a condition is the change of the similarity when this condition is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl.dissimilarity.pairs import n_conditions_of, to_square
from brainrdl.inference.pairwise import Compare, resampled
from brainrdl.similarity.traits import Comparator


class Influence(NamedTuple):
    """Similarities, and the influence of pairs and conditions on each.

    Attributes
    ----------
    value : Tensor (...)
        Similarities; NaN if too few pairs are known.
    pairs : Tensor (..., n_pairs)
        Influence of each pair, in units of the similarity.
    conditions : Tensor (..., n_conditions)
        Influence of each condition through all of its pairs.
    """

    value: Float[Tensor, "*batch"]
    pairs: Float[Tensor, "*batch n_pairs"]
    conditions: Float[Tensor, "*batch n_conditions"]


def scale_for_few(n_conditions: int, ranks: bool) -> float:
    """Return the factor of influences that makes a variance right for few conditions; see `influence`.

    Examples
    --------
    >>> round(scale_for_few(12, ranks=False), 3), round(scale_for_few(12, ranks=True), 3)
    (1.219, 1.112)
    """
    n_pairs = n_conditions * (n_conditions - 1) / 2
    return float((n_conditions / (n_conditions - 2)) ** (0.5 if ranks else 1) * (n_pairs / (n_pairs - 2)) ** 0.5)


def influence(compare: Compare, a: Tensor, b: Tensor, similarity: Comparator[Any]) -> Influence:
    """Compute similarities with their influences, scaled for a variance that is right for few conditions.

    Parameters
    ----------
    compare : Compare
        Similarity of RDMs with weights.
    a, b : Tensor (..., n_pairs)
        RDMs, float64; leading dimensions broadcast.
    similarity : Comparator
        The comparator that `compare` is made from: if an offset of an RDM changes its value (cosines), conditions are
        left out one at a time.

    Returns
    -------
    Influence

    Notes
    -----
    Leaving out one of m conditions changes a mean over pairs m / (m - 2) times as much as the derivative says, and a
    correlation of n pairs has n - 2 degrees of freedom: influences are multiplied by m / (m - 2) sqrt(n / (n - 2)).
    Ranks limit how much one condition can change: for rank comparators the first factor is sqrt(m / (m - 2)). These
    factors were chosen by the coverage in simulations (docs/validity.md).

    Examples
    --------
    >>> from brainrdl.inference.pairwise import comparison_of
    >>> from brainrdl.similarity.registry import SIMILARITIES
    >>> a, b = torch.rand(2, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> found = influence(comparison_of("corr"), a, b, SIMILARITIES["corr"])
    >>> abs(found.pairs.sum().item()) < 1e-12  # equal weights of all pairs leave the similarity unchanged
    True
    """
    a, b = torch.broadcast_tensors(a, b)
    m = n_conditions_of(a.shape[-1])
    weights = torch.ones_like(a).requires_grad_()
    counts = a.new_ones(*a.shape[:-1], m).requires_grad_()
    with torch.enable_grad():
        value = compare(a, b, weights, counts)
        of_pairs, of_counts = _derivatives(value, weights, counts)
    scale = scale_for_few(m, similarity.ranks)
    if not similarity.whitened:  # counts of tau-a and rho-a are ties too, which moves all derivatives by a constant
        known = ~(a.isnan() | b.isnan())
        of_pairs = (of_pairs - of_pairs.sum(-1, keepdim=True) / known.sum(-1, keepdim=True).clamp(min=1)) * known
    pairs = scale * of_pairs
    if similarity.centred:
        conditions = to_square(pairs).sum(-1) + (0 if of_counts is None else scale * of_counts)
    else:
        conditions = _left_out_one(compare, a, b, value.detach(), m)
    return Influence(value.detach(), pairs, conditions)


def _derivatives(value: Tensor, weights: Tensor, counts: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return derivatives by weights of pairs and by counts; 0 for pairs if only whole RDMs can be compared."""
    if not value.requires_grad:
        return torch.zeros_like(weights), None
    of_pairs, of_counts = torch.autograd.grad(value.sum(), [weights, counts], allow_unused=True)
    return torch.zeros_like(weights) if of_pairs is None else of_pairs, of_counts


def _left_out_one(compare: Compare, a: Tensor, b: Tensor, value: Tensor, m: int) -> Tensor:
    """Change of the similarity when each condition is left out, minus the mean change."""
    counts = 1 - torch.eye(m, dtype=a.dtype)
    changes = value[..., None] - resampled(compare, a[..., None, :], b[..., None, :], counts)
    return (changes - changes.nanmean(-1, keepdim=True)).nan_to_num()


def dyadic(pairs: Float[Tensor, "*batch n_pairs"], conditions: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Variance of a sum of pairs over conditions drawn at random: pairs that share a condition are correlated.

    Squares of the conditions' influences count each pair twice, so its square is subtracted once; at least half of the
    pairs' own variance remains.

    Parameters
    ----------
    pairs, conditions : Tensor
        Influences, as in `Influence`.

    References
    ----------
    Aronow, Samii & Assenova (2015), Political Analysis 23:564-577, doi 10.1093/pan/mpv018.

    Examples
    --------
    >>> dyadic(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0]))
    tensor(1.)
    """
    alone = pairs.square().sum(-1)
    return torch.maximum(conditions.square().sum(-1) - alone, alone / 2)
