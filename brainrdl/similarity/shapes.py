"""Comparisons of patterns that need the patterns, not their RDMs: rotate one onto the other.

These functions are not comparators of RDMs and have no name in `SIMILARITIES`. For squared Euclidean distances the same
values follow from RDMs: `brainrdl.similarity.bures` and `bures_metric`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl._core.tensor_checks import check_finite, check_ndim

Patterns = Float[Tensor, "*#batch n_conditions n_channels"]


def procrustes(x: Patterns, y: Patterns) -> Float[Tensor, "..."]:
    """Largest cosine between two sets of patterns over all rotations and reflections of one, in [0, 1].

    Patterns are centred over conditions first, and may have different numbers of channels. Scale and offset have no
    effect.

    Parameters
    ----------
    x, y
        Patterns ``(..., n_conditions, n_channels)`` of the same conditions in the same order, any unit.

    Returns
    -------
    Tensor
        Similarity ``(...)``; 0 if all conditions have the same pattern. Differentiable.

    Raises
    ------
    BrainrdlError
        If the patterns have fewer than 2 dimensions, different numbers of conditions, or NaN or Inf.

    Notes
    -----
    Equal to ``bures(euclidean(x), euclidean(y))``, but more accurate, and faster for few channels.

    References
    ----------
    Williams et al. 2021, NeurIPS, doi 10.48550/arXiv.2110.14739

    Examples
    --------
    >>> x = torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 3.0]])
    >>> procrustes(x, x.flip(-1))  # channels in another order
    tensor(1.)
    """
    x, y = _checked(x, y)
    found = torch.linalg.svdvals(x.mT @ y).sum(-1)
    ok = (x.detach().abs().amax((-2, -1)) > 0) & (y.detach().abs().amax((-2, -1)) > 0)
    return torch.where(ok, found, 0)


def shape_distance(x: Patterns, y: Patterns) -> Float[Tensor, "..."]:
    """Angular Procrustes distance of two sets of patterns, the arc cosine of `procrustes`, from 0 to pi / 2.

    A metric: symmetric, 0 for patterns that differ only by a rotation, scale and offset, and with the triangle
    inequality. In contrast to comparators, a higher value means less similar patterns. Parameters and Raises as in
    `procrustes`; the gradient is infinite at a distance of 0.

    Returns
    -------
    Tensor
        Distance ``(...)`` in radians.

    References
    ----------
    Williams et al. 2021, NeurIPS, doi 10.48550/arXiv.2110.14739

    Examples
    --------
    >>> shape_distance(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [0.0]]))
    tensor(1.5708)
    """
    return procrustes(x, y).clamp(-1, 1).arccos()


def _checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Centre both over conditions and scale them to length 1; 0 if there is nothing to scale."""
    for patterns in (x, y):
        check_ndim(patterns, 2, "patterns", "(..., n_conditions, n_channels)")
        check_finite(patterns, "patterns to compare")
    if x.shape[-2] != y.shape[-2]:
        refuse(
            f"patterns to compare must have the same number of conditions, got shapes {tuple(x.shape)} and "
            f"{tuple(y.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return _unit(x.to(dtype)), _unit(y.to(dtype))


def _unit(x: Tensor) -> Tensor:
    mean = x.mean(-2, keepdim=True)
    x = x - mean
    largest = x.detach().abs().amax((-2, -1), keepdim=True)
    rounding = 8 * torch.finfo(x.dtype).eps * mean.detach().abs().amax((-2, -1), keepdim=True)
    x = x / largest.masked_fill(largest <= rounding, torch.inf)
    length = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    return x / torch.where(length > 0, length, 1)
