"""The default loss's correlation in one step: patterns -> RDM -> Pearson correlation with a teacher's, and back.

For small students the number of operations costs more than their arithmetic. Here the student's RDM stays a square
matrix whose diagonal is 0, so pairs are neither gathered nor scattered, and the gradient is written out. The result
equals `corr(dissimilarity(x), teacher)`; a test says so.
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
        n_entries = len(rdm) * (len(rdm) - 1)  # each pair stands twice
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
    """Return the square matrix whose product with an RDM, centred and of length 1, is its mean correlation.

    The mean of Pearson correlations with several RDMs is one product with the mean of those RDMs, each centred and of
    length 1. What depends on the teacher alone is computed once here, however many layers approach it.

    Parameters
    ----------
    teacher : Tensor, shape (n_pairs,) or (n_rdms, n_pairs)
        RDMs; one NaN makes NaN of all. They get no gradient.
    """
    teacher = teacher.detach().reshape(-1, teacher.shape[-1])
    teacher = teacher if teacher.dtype in (torch.float32, torch.float64) else teacher.float()
    return to_square(unit(teacher)[0].mean(0)) * 0.5**0.5  # both triangles of it, so that its length is that of `unit`


def rdm_correlation(
    x: Float[Tensor, "n_conditions n_channels"], direction: Float[Tensor, "n_conditions n_conditions"], kind: str
) -> Float[Tensor, ""]:
    """Mean Pearson correlation of the RDM of `x` with the teacher's, in [-1, 1]; 0 where either is constant.

    Parameters
    ----------
    x : Tensor, shape (n_conditions, n_channels)
        Patterns, at least 2; half precision is computed in float32.
    direction : Tensor, shape (n_conditions, n_conditions)
        The teacher's, from `direction_of`.
    kind : {"euclidean", "correlation", "cosine"}
        Dissimilarity.
    """
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    r: Tensor = _RDMCorrelation.apply(centred(x) if kind == "euclidean" else x, direction.to(x), kind)
    return r
