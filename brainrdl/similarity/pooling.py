"""Scales on which the mean of several RDMs is the RDM most similar to all of them; each comparator names its own."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl.dissimilarity.pairs import n_conditions_of, to_square
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


def over_mean(rdms: RDMStack) -> RDMStack:
    """Divide each RDM by the magnitude of its mean, to which the trace of its kernel is proportional.

    Examples
    --------
    >>> over_mean(torch.tensor([[1.0, 3.0, float("nan")]]))
    tensor([[0.5000, 1.5000,    nan]])
    """
    mean = rdms.nanmean(-1, keepdim=True).abs()
    return rdms / torch.where(mean > 0, mean, 1)


def unchanged(rdms: RDMStack) -> RDMStack:
    """Return RDMs as they are, for comparators to which the unit matters.

    Examples
    --------
    >>> unchanged(torch.tensor([[1.0, 3.0]]))
    tensor([[1., 3.]])
    """
    return rdms


def as_residuals(rdms: RDMStack) -> RDMStack:
    """Divide each RDM by the root mean square that remains without the effects of conditions, for unbiased CKA.

    Unknown pairs are left as they are, and their RDM is divided by its standard deviation.

    Examples
    --------
    >>> as_residuals(torch.tensor([[1.0, 3.0, 2.0, 2.0, 5.0, 1.0]])).isfinite().all()
    tensor(True)
    """
    n = n_conditions_of(rdms.shape[-1])
    if n < 4 or rdms.isnan().any():
        return as_z_scores(rdms)
    sums = to_square(rdms).sum(-1)
    effects = (sums - sums.sum(-1, keepdim=True) / (2 * n - 2)) / (n - 2)
    i, j = torch.triu_indices(n, n, 1)
    return rdms / (rdms - effects[..., i] - effects[..., j]).square().mean(-1, keepdim=True).sqrt()
