"""What roles, dissimilarities and comparators are called, in figures and in sentences."""

from __future__ import annotations

from brainrdl._core.constants import PARTIAL

KINDS = {
    "student": "fitted student",
    "ensemble": "fitted student",
    "unfitted": "control",
    "permuted": "control",
    "category": "category model",
    "model": "model",
}

MEASURES = {
    "correlation": "correlation distance (1 - r)",
    "cosine": "cosine distance (1 - cos)",
    "euclidean": "squared Euclidean distance / channel",
    "mahalanobis": "squared Mahalanobis distance / channel",
    "crossnobis": "crossnobis distance / channel",
    "poisson": "symmetrised Poisson KL divergence",
}

_SIMILARITIES = {
    "cosine": "cosine similarity",
    "corr": "Pearson correlation",
    "spearman": "Spearman correlation",
    "tau-a": "Kendall's tau-a",
    "rho-a": "Spearman's rho-a",
    "corr_cov": "whitened Pearson correlation",
    "cosine_cov": "whitened cosine similarity",
    "cka": "centred kernel alignment",
    "soft-spearman": "soft Spearman correlation",
}

AGAINST_LABELS = {"subjects": "single subjects' RDMs", "mean": "the subjects' mean RDM"}


def similarity_label(comparator: str) -> str:
    """Name a comparator in words.

    Examples
    --------
    >>> similarity_label("tau-a"), similarity_label("partial spearman")
    ("Kendall's tau-a", 'partial Spearman correlation')
    """
    name = comparator.removeprefix(PARTIAL)
    return (PARTIAL if name != comparator else "") + _SIMILARITIES.get(name, name)


def measure_label(dissimilarity: str | None) -> str:
    """Name a dissimilarity in words; one of the user's own stands as it is called."""
    return MEASURES.get(str(dissimilarity), str(dissimilarity or "dissimilarity"))
