"""Scales on which the mean of several RDMs is the RDM most similar to all of them; each comparator names its own."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl.similarity.ranks import centred_ranks

RDMStack = Float[Tensor, "n_rdms n_pairs"]


def as_ranks(rdms: RDMStack) -> RDMStack:
    """Rank the known pairs of each RDM, for rank comparators (for tau-a the mean rank is nearly the optimum).

    Examples
    --------
    >>> as_ranks(torch.tensor([[0.1, 0.7, float("nan"), 0.3]]))
    tensor([[-2.,  2., nan,  0.]])
    """
    known = ~rdms.isnan()
    return torch.where(known, centred_ranks(rdms.nan_to_num(), known.to(rdms.dtype)), torch.nan)


def as_z_scores(rdms: RDMStack) -> RDMStack:
    """Subtract the mean of each RDM and divide by its standard deviation, for correlations.

    Examples
    --------
    >>> as_z_scores(torch.tensor([[1.0, 3.0, float("nan")]]))
    tensor([[-1.,  1., nan]])
    """
    return over_root_mean_square(rdms - rdms.nanmean(-1, keepdim=True))


def over_root_mean_square(rdms: RDMStack) -> RDMStack:
    """Divide each RDM by its root mean square, for cosines.

    Examples
    --------
    >>> over_root_mean_square(torch.tensor([[3.0, 3.0, -3.0, float("nan")]]))
    tensor([[ 1.,  1., -1., nan]])
    """
    return rdms / rdms.square().nanmean(-1, keepdim=True).sqrt()
