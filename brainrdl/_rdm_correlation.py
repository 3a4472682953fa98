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

from brainrdl._pair_sums import unit
from brainrdl.dissimilarity import _centred, _cosines, _matmul, to_square

KINDS = ("euclidean", "correlation", "cosine")


class _RDMCorrelation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, teacher: Tensor, kind: str) -> Tensor:
        saved: tuple[Tensor, ...]
        if kind == "euclidean":
            gram = _matmul(x, x.mT)
            own = gram.diagonal()
            rdm = (own.unsqueeze(1) + own).sub_(gram, alpha=2)
            saved = (x,)
        else:
            vectors, inverse, gram = _cosines(x, kind == "correlation")
            rdm = 1 - gram
            saved = (vectors, inverse, gram)
        rdm = rdm.fill_diagonal_(0)
        n = len(rdm)
        mean = rdm.sum() / (n * (n - 1))
        rdm = (rdm - mean).fill_diagonal_(0)
        norm = torch.linalg.vector_norm(rdm) * 0.5**0.5  # each pair stands twice
        constant = norm <= 8 * torch.finfo(rdm.dtype).eps * mean.abs() * (n * (n - 1) / 2) ** 0.5
        norm = norm.masked_fill(constant, torch.inf)
        rdm = rdm / norm
        target = to_square(unit(teacher)[0])
        r = (target * rdm).sum((-2, -1)) / 2
        ctx.save_for_backward(rdm, norm, target, r, *saved)
        return r

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rdm, norm, target, r, *saved = ctx.saved_tensors
        pairs = ((gradient[:, None, None] * target).sum(0) - (gradient * r).sum() * rdm) / norm
        if len(saved) == 1:
            laplacian = pairs.sum(-1).diag_embed().sub_(pairs)
            return _matmul(laplacian, saved[0]) * 2, None, None
        vectors, inverse, gram = saved
        tangent = (pairs * gram).sum(-1).diag_embed().sub_(pairs)
        return _matmul(tangent * inverse.unsqueeze(1) * inverse, vectors), None, None


def rdm_correlation(
    x: Float[Tensor, "n_conditions n_channels"], teacher: Float[Tensor, "*n_rdms n_pairs"], kind: str
) -> Float[Tensor, " n_rdms"]:
    """Pearson correlation of the RDM of `x` with each of the teacher's, in [-1, 1]; 0 where either is constant.

    Parameters
    ----------
    x : Tensor, shape (n_conditions, n_channels)
        Patterns, at least 2; half precision is computed in float32.
    teacher : Tensor, shape (n_pairs,) or (n_rdms, n_pairs)
        RDMs without NaN; they get no gradient.
    kind : {"euclidean", "correlation", "cosine"}
        Dissimilarity.
    """
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    teacher = teacher.detach().to(x).reshape(-1, teacher.shape[-1])
    found: Tensor = _RDMCorrelation.apply(_centred(x) if kind == "euclidean" else x, teacher, kind)
    return found
