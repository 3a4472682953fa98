"""Comparators over weighted pairs, also if subjects lack some pairs."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl.dissimilarity.pairs import pair_indices
from brainrdl.inference.partial_correlation import partial
from brainrdl.similarity.pair_sums import dot
from brainrdl.similarity.registry import SIMILARITIES

_MIN_PAIRS = 3  # two stimuli give one pair, three give three; rsatoolbox drops resamples of fewer as well


@runtime_checkable
class Compare(Protocol):
    """Similarity of RDMs with weights of pairs and, where it matters, of conditions; NaN if too few pairs are left."""

    def __call__(
        self, a: Tensor, b: Tensor, weights: Tensor | None = None, conditions: Tensor | None = None
    ) -> Tensor: ...


def comparison_of(comparator: str, given: Tensor | None = None) -> Compare:
    """Make a comparator from its name, or a partial correlation if RDMs are given."""
    similarity = SIMILARITIES[comparator]

    def compare(a: Tensor, b: Tensor, weights: Tensor | None = None, conditions: Tensor | None = None) -> Tensor:
        if given is not None:
            value = partial(a, b, given, comparator, weights)
        elif similarity.whitened and conditions is not None:
            value = similarity(a, b, weights, condition_weights=conditions)
        else:
            value = similarity(a, b, weights)
        known = ~(a.isnan() | b.isnan())
        n_left = known.sum(-1) if weights is None else dot(known.double(), (weights > 0).double())
        return torch.where(n_left < _MIN_PAIRS, torch.nan, value)

    return compare


def resampled(compare: Compare, a: Tensor, b: Tensor, counts: Float[Tensor, "n_draws n_conditions"] | None) -> Tensor:
    """Compare RDMs if condition i was drawn ``counts[..., i]`` times: a pair counts as the product of both."""
    if counts is None:
        return compare(a, b)
    i, j = pair_indices(counts.shape[-1])
    return compare(a, b, counts[..., i] * counts[..., j], counts)
