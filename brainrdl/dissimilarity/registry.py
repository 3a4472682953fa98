"""The dissimilarities by name; the names load no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brainrdl._core.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

DISSIMILARITIES: Registry[Callable[..., Tensor]] = Registry(
    "brainrdl.dissimilarity.measures",
    {
        "euclidean": "euclidean",
        "correlation": "correlation",
        "cosine": "cosine",
        "mahalanobis": "mahalanobis",
        "crossnobis": "crossnobis",
        "euclidean_cv": "brainrdl.dissimilarity.cross_validated:euclidean_cv",
        "correlation_cv": "brainrdl.dissimilarity.cross_validated:correlation_cv",
        "poisson": "poisson",
        "poisson_cv": "poisson_cv",
        "cityblock": "brainrdl.dissimilarity.channelwise:cityblock",
        "chebyshev": "brainrdl.dissimilarity.channelwise:chebyshev",
        "braycurtis": "brainrdl.dissimilarity.channelwise:braycurtis",
        "canberra": "brainrdl.dissimilarity.channelwise:canberra",
        "jaccard": "brainrdl.dissimilarity.channelwise:jaccard",
        "hamming": "brainrdl.dissimilarity.channelwise:hamming",
    },
)
"""The dissimilarities by name."""
