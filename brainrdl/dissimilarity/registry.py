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
        "poisson": "poisson",
        "poisson_cv": "poisson_cv",
    },
)
