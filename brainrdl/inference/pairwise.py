"""Comparators over weighted pairs, also if subjects lack some pairs.

A constant RDM has no correlation with another one: its score is undefined. It is not 0, the score of an unrelated RDM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from brainrdl.dissimilarity.pairs import pair_indices
from brainrdl.inference.partial_correlation import partial
from brainrdl.similarity.pair_sums import dot
from brainrdl.similarity.registry import SIMILARITIES

_MIN_PAIRS = 3  # two stimuli give one pair, three give three; rsatoolbox drops resamples of fewer as well

_ROUNDING = 8  # times the precision of the type, as in `brainrdl.similarity.pair_sums`


@runtime_checkable
class Compare(Protocol):
    """Similarity of RDMs with weights of pairs and, where it matters, of conditions.

    NaN, because it is undefined, if too few pairs are left or an RDM is constant (for cosines and CKA, 0 everywhere).
    """

    def __call__(
        self, a: Tensor, b: Tensor, weights: Tensor | None = None, conditions: Tensor | None = None
    ) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Comparison:
    """A comparator by its name, or its partial correlation if RDMs are given; it is a `Compare`.

    Attributes
    ----------
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.
    given : Tensor (n_rdms, n_pairs), optional
        RDMs to hold constant.

    Examples
    --------
    >>> Comparison("corr")(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([7.0, 9.0, 8.0]))
    tensor(0.5000)
    """

    comparator: str
    given: Tensor | None = None

    def __call__(self, a: Tensor, b: Tensor, weights: Tensor | None = None, conditions: Tensor | None = None) -> Tensor:
        """Compare RDMs; see `Compare`."""
        similarity = SIMILARITIES[self.comparator]
        if self.given is not None:
            value = partial(a, b, self.given, self.comparator, weights)
        elif similarity.whitened and conditions is not None:
            value = similarity(a, b, weights, condition_weights=conditions)
        else:
            value = similarity(a, b, weights)
        known = ~(a.isnan() | b.isnan())
        if not known.all():  # an RDM may be constant among the pairs that both know
            a, b = (torch.where(known, x, torch.nan) for x in (a, b))
        n_left = known.sum(-1) if weights is None else dot(known.double(), (weights > 0).double())
        undefined = (n_left < _MIN_PAIRS) | is_constant(a, similarity.centred) | is_constant(b, similarity.centred)
        return torch.where(undefined, torch.nan, value)


def comparison_of(comparator: str, given: Tensor | None = None) -> Comparison:
    """Make a comparator from its name, or a partial correlation if RDMs are given."""
    return Comparison(comparator, given)


def is_constant(pairs: Float[Tensor, "*batch n_pairs"], centred: bool = True) -> Bool[Tensor, "*batch"]:
    """Say which RDMs distinguish nothing: all known pairs are equal up to rounding, or 0 if `centred` is false.

    Examples
    --------
    >>> rdms = torch.tensor([[1.0, 1.0, torch.nan], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    >>> is_constant(rdms).tolist(), is_constant(rdms, centred=False).tolist()
    ([True, True, False], [False, True, False])
    """
    known, pairs = ~pairs.isnan(), pairs.detach()
    largest = pairs.abs().nan_to_num().amax(-1)
    if not centred:
        return known.any(-1) & (largest == 0)
    highest = torch.where(known, pairs, -torch.inf).amax(-1)
    lowest = torch.where(known, pairs, torch.inf).amin(-1)
    return known.any(-1) & (highest - lowest <= _ROUNDING * torch.finfo(pairs.dtype).eps * largest)


def resampled(compare: Compare, a: Tensor, b: Tensor, counts: Float[Tensor, "n_draws n_conditions"] | None) -> Tensor:
    """Compare RDMs if condition i was drawn ``counts[..., i]`` times: a pair counts as the product of both."""
    if counts is None:
        return compare(a, b)
    i, j = pair_indices(counts.shape[-1])
    return compare(a, b, counts[..., i] * counts[..., j], counts)
