"""Scales on which the mean of several RDMs is the RDM most similar to all of them; each comparator names its own.

RDMs that know different pairs cannot be rescaled one by one: one that knows only large dissimilarities would be shifted
down. They are rescaled until each has the mean and spread of the pooled RDM on the pairs that it knows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl.dissimilarity.pairs import n_conditions_of, to_square
from brainrdl.similarity.ranks import centred_ranks

RDMStack = Float[Tensor, "n_rdms n_pairs"]

_ROUNDS, _SETTLED = 500, 1e-12  # of rescaling RDMs that know different pairs


def as_ranks(rdms: RDMStack) -> RDMStack:
    """Rank the known pairs of each RDM, for rank comparators (for tau-a the mean rank is nearly the optimum).

    Examples
    --------
    >>> as_ranks(torch.tensor([[0.1, 0.7, float("nan"), 0.3]]))
    tensor([[-2.,  2., nan,  0.]])
    """
    known = ~rdms.isnan()
    ranks = torch.where(known, centred_ranks(rdms.nan_to_num(), known.to(rdms.dtype)), torch.nan)
    return _on_one_scale(ranks / _root_mean_square(ranks), centred=True) if _has_gaps(rdms) else ranks


def as_z_scores(rdms: RDMStack) -> RDMStack:
    """Subtract the mean of each RDM and divide by its standard deviation, for correlations.

    Examples
    --------
    >>> as_z_scores(torch.tensor([[1.0, 3.0, float("nan")]]))
    tensor([[-1.,  1., nan]])
    """
    centred = rdms - rdms.nanmean(-1, keepdim=True)
    scores = centred / _root_mean_square(centred)
    return _on_one_scale(scores, centred=True) if _has_gaps(rdms) else scores


def over_root_mean_square(rdms: RDMStack) -> RDMStack:
    """Divide each RDM by its root mean square, for cosines.

    Examples
    --------
    >>> over_root_mean_square(torch.tensor([[3.0, 3.0, -3.0, float("nan")]]))
    tensor([[ 1.,  1., -1., nan]])
    """
    scaled = rdms / _root_mean_square(rdms)
    return _on_one_scale(scaled, centred=False) if _has_gaps(rdms) else scaled


def over_mean(rdms: RDMStack) -> RDMStack:
    """Divide each RDM by the magnitude of its mean, to which the trace of its kernel is proportional.

    Examples
    --------
    >>> over_mean(torch.tensor([[1.0, 3.0, float("nan")]]))
    tensor([[0.5000, 1.5000,    nan]])
    """
    mean = rdms.nanmean(-1, keepdim=True).abs()
    if _has_gaps(rdms):
        return over_root_mean_square(rdms)
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

    RDMs with unknown pairs are rescaled as by `as_z_scores`.

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


def means_of_others(rdms: RDMStack, pool: Callable[[RDMStack], RDMStack] = unchanged) -> RDMStack:
    """Pool the RDMs of the others, for each RDM; NaN if no other knows a pair.

    Parameters
    ----------
    rdms : Tensor (n_rdms, n_pairs)
        At least 2.
    pool : callable
        How RDMs are rescaled before their mean: ``SIMILARITIES[name].poolable``; by default they are not.

    Notes
    -----
    Each mean is computed from the others alone. The sum of all minus one would be faster, but its rounding errors
    depend on the one that is left out: pairs that are equal in all others would not be tied.

    Examples
    --------
    >>> means_of_others(torch.tensor([[1.0, 4.0], [3.0, 2.0], [5.0, float("nan")]]))
    tensor([[4., 2.],
            [3., 4.],
            [2., 3.]])
    """
    rdms, pool = pooled_once(rdms, pool)
    others = (torch.cat([rdms[:s], rdms[s + 1 :]]) for s in range(len(rdms)))
    if rdms.isnan().any():
        return torch.stack([pool(rest).nanmean(0) for rest in others])
    return torch.stack([rest.mean(0) for rest in others])


def pooled_once(
    rdms: RDMStack, pool: Callable[[RDMStack], RDMStack]
) -> tuple[RDMStack, Callable[[RDMStack], RDMStack]]:
    """Rescale RDMs before any of them are left out, if each is rescaled by itself; return what remains to be done.

    Examples
    --------
    >>> rows, pool = pooled_once(torch.tensor([[1.0, 4.0, 1.0], [3.0, 2.0, 4.0]]), as_ranks)
    >>> rows[0].tolist(), pool is unchanged
    ([-1.0, 2.0, -1.0], True)
    """
    return (rdms, pool) if _has_gaps(rdms) else (pool(rdms), unchanged)


def _root_mean_square(rdms: RDMStack) -> Tensor:
    return rdms.square().nanmean(-1, keepdim=True).sqrt()


def _has_gaps(rdms: RDMStack) -> bool:
    """Whether some RDMs know pairs that others do not."""
    unknown = rdms.isnan()
    return rdms.ndim > 1 and bool((unknown != unknown[..., :1, :]).any())


def _on_one_scale(rdms: RDMStack, centred: bool) -> RDMStack:
    """Shift (if `centred`) and scale RDMs to the mean and spread of the pooled RDM, each on the pairs that it knows.

    Each RDM has a root mean square of 1 (and a mean of 0). If all know the same pairs, nothing changes.
    """
    dtype, known, rdms = rdms.dtype, ~rdms.isnan(), rdms.double()
    counts, somewhere = known.sum(-1, keepdim=True).clamp(min=1), known.any(-2, keepdim=True)

    def moments(pooled: Tensor, where: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.where(where, pooled, 0).sum(-1, keepdim=True) / n if centred else torch.zeros(())
        return mean, (torch.where(where, pooled - mean, 0).square().sum(-1, keepdim=True) / n).sqrt()

    pooled, rescaled = rdms.nanmean(-2, keepdim=True), rdms
    for _ in range(_ROUNDS):
        mean, spread = moments(pooled, known, counts)
        rescaled = rdms * spread + mean
        after = rescaled.nanmean(-2, keepdim=True)
        mean, spread = moments(after, somewhere, somewhere.sum(-1, keepdim=True))
        after = (after - mean) / spread
        settled = bool((after - pooled).abs().nan_to_num().max() < _SETTLED)
        pooled = after
        if settled:
            break
    return rescaled.to(dtype)
