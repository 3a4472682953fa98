"""The Pearson correlation of the default loss in one step, from patterns through their RDM, with its gradient.

For small students, starting many operations costs more than the arithmetic. Here the student's RDM stays a square
matrix with a diagonal of 0, so pairs need not be gathered or scattered, and the gradient is written out. The result
equals `corr(dissimilarity(x), teacher)`, which is tested.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from brainrdl.dissimilarity.pairs import to_square
from brainrdl.dissimilarity.products import all_cosines, centred, matmul
from brainrdl.similarity.pair_sums import unit

KINDS = ("euclidean", "correlation", "cosine")


class _RDMCorrelation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, direction: Tensor, kind: str) -> Tensor:
        saved: tuple[Tensor, ...]
        if kind == "euclidean":
            gram = matmul(x, x.mT)
            own = gram.diagonal()
            rdm = (own.unsqueeze(1) + own).sub_(gram, alpha=2).fill_diagonal_(0)
            saved = (x,)
        else:
            vectors, inverse, cosines = all_cosines(x, kind == "correlation")
            rdm = -cosines.fill_diagonal_(0)  # the 1 of 1 - cosine does not change a correlation
            saved = (vectors, inverse, cosines)
        n_entries = len(rdm) * (len(rdm) - 1)  # each pair occurs twice
        mean = rdm.sum() / n_entries
        rdm = (rdm - mean).fill_diagonal_(0)
        norm = torch.linalg.vector_norm(rdm)
        constant = norm <= mean.abs() * (8 * torch.finfo(rdm.dtype).eps * n_entries**0.5)
        norm = norm.masked_fill(constant, torch.inf)
        r = torch.dot(direction.flatten(), rdm.flatten()) / norm
        ctx.save_for_backward(rdm, norm, direction, r, *saved)
        return r

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rdm, norm, direction, r, *saved = ctx.saved_tensors
        pairs = direction - rdm * (r / norm)
        scale = gradient * -2 / norm
        if len(saved) == 1:
            pairs.diagonal().sub_(pairs.sum(-1))
            return matmul(pairs, saved[0]) * (2 * scale), None, None
        vectors, inverse, cosines = saved
        pairs.diagonal().sub_(torch.linalg.vecdot(pairs, cosines))
        return matmul(pairs * (inverse * scale).unsqueeze(1) * inverse, vectors), None, None


def direction_of(teacher: Float[Tensor, "*n_rdms n_pairs"]) -> Float[Tensor, "n_conditions n_conditions"]:
    """Return a square matrix; its product with an RDM, centred and of length 1, is the mean correlation.

    The mean of Pearson correlations with several RDMs equals one product with the mean of those RDMs, each centred and
    of length 1. The part that depends only on the teacher is computed here once, for all layers matched with it.

    Parameters
    ----------
    teacher : Tensor (n_pairs,) or (n_rdms, n_pairs)
        RDMs, any unit; one NaN makes the whole result NaN. They receive no gradient.

    Returns
    -------
    Tensor (n_conditions, n_conditions)
        No unit.
    """
    teacher = teacher.detach().reshape(-1, teacher.shape[-1])
    teacher = teacher if teacher.dtype in (torch.float32, torch.float64) else teacher.float()
    return to_square(unit(teacher)[0].mean(0)) * 0.5**0.5  # both triangles together have the length of `unit`


def rdm_correlation(
    x: Float[Tensor, "n_conditions n_channels"], direction: Float[Tensor, "n_conditions n_conditions"], kind: str
) -> Float[Tensor, ""]:
    """Return the mean Pearson correlation between the RDM of `x` and the teacher's, in [-1, 1]; 0 if one is constant.

    Parameters
    ----------
    x : Tensor (n_conditions, n_channels)
        Patterns of at least 2 conditions, any unit; half precision is computed in float32.
    direction : Tensor (n_conditions, n_conditions)
        The result of `direction_of` for the teacher.
    kind : {"euclidean", "correlation", "cosine"}
        Dissimilarity of the RDM.

    Returns
    -------
    Tensor, scalar
    """
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    r: Tensor = _RDMCorrelation.apply(centred(x) if kind == "euclidean" else x, direction.to(x), kind)
    return r
