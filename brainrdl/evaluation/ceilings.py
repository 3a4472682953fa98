"""Noise ceilings: how well any model could predict the RDMs of these subjects."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_option
from brainrdl.evaluation.pairwise import comparison_of
from brainrdl.similarity.registry import SIMILARITIES

NO_CEILING = (float("nan"), float("nan"))


def noise_ceiling(rdms: Float[Tensor, "n_subjects n_pairs"], comparator: str) -> tuple[float, float]:
    """Leave-one-subject-out noise ceiling (lower, upper) of single-subject scores, as in rsatoolbox.

    Parameters
    ----------
    rdms : Tensor (n_subjects, n_pairs)
        One RDM per subject; NaN marks an unknown pair.
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.

    Returns
    -------
    tuple of two floats
        Mean similarity of each subject with the pooled others, and with all subjects pooled; NaN for fewer than 2
        subjects. RDMs are pooled by the mean of their ranks, z-scores, or values divided by their root mean square,
        depending on the comparator.

    Raises
    ------
    BrainrdlError
        If the comparator is unknown.

    References
    ----------
    Nili et al. (2014), PLoS Comput. Biol. 10(4):e1003553, doi 10.1371/journal.pcbi.1003553.

    Examples
    --------
    >>> lower, upper = noise_ceiling(torch.rand(4, 15, generator=torch.Generator().manual_seed(0)), "corr")
    >>> lower <= upper
    True
    """
    check_option(comparator, SIMILARITIES, "comparator")
    if len(rdms) < 2:
        return NO_CEILING
    rdms = rdms.double()
    comparable, compare = SIMILARITIES[comparator].poolable(rdms), comparison_of(comparator)
    others = torch.stack([torch.cat([comparable[:s], comparable[s + 1 :]]).nanmean(0) for s in range(len(rdms))])
    return float(compare(others, rdms).nanmean()), float(compare(comparable.nanmean(0), rdms).nanmean())


def ceiling_for_mean(between_subjects: Tensor | float, n_subjects: int) -> float:
    """Ceiling for the mean RDM: expected correlation of a perfect model with the mean RDM of n subjects, 0 to 1.

    It is the square root of the reliability of the mean RDM, which the Spearman-Brown formula predicts.

    Parameters
    ----------
    between_subjects : float
        Mean correlation between the RDMs of two subjects, -1 to 1; negative values count as 0.
    n_subjects : int
        Number of subjects in the mean.

    Returns
    -------
    float

    Examples
    --------
    >>> round(ceiling_for_mean(0.25, 4), 3)
    0.756
    """
    r = max(float(between_subjects), 0.0)
    return float((n_subjects * r / (1 + (n_subjects - 1) * r)) ** 0.5)
