"""The comparators by name; the names load no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brainrdl._core.registry import Registry

if TYPE_CHECKING:
    from typing import Any

    from brainrdl.similarity.traits import Comparator

SIMILARITIES: Registry[Comparator[Any]] = Registry(
    "brainrdl.similarity.comparators",
    {
        "cosine": "cosine",
        "corr": "corr",
        "spearman": "spearman",
        "tau-a": "tau_a",
        "tau-b": "tau_b",
        "rho-a": "rho_a",
        "corr_cov": "corr_cov",
        "cosine_cov": "cosine_cov",
        "cka": "cka",
        "cka_unbiased": "brainrdl.similarity.kernels:cka_unbiased",
        "cka_rbf": "brainrdl.similarity.kernels:cka_rbf",
        "rv": "brainrdl.similarity.kernels:rv",
        "bures": "brainrdl.similarity.kernels:bures",
        "bures_metric": "brainrdl.similarity.kernels:bures_metric",
        "riemannian": "brainrdl.similarity.kernels:riemannian",
        "soft-spearman": "soft_spearman",
    },
)
"""The comparators by name."""
