"""Sums over pairs, centring, scaling and the guarded cosine, shared by the RDM comparators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Sum of products over pairs; einsum multiplies broadcast operands as matrices and never expands them in memory."""
    if y.ndim == 1 and x.ndim > 1:
        return torch.mv(x.flatten(0, -2), y).view(x.shape[:-1])
    sums: Tensor = torch.linalg.vecdot(x, y) if x.shape == y.shape else torch.einsum("...p,...p->...", x, y)
    return sums


def squares_of(x: Tensor) -> Tensor:
    """Sum of squares over pairs, without a copy of `x`."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return norm * norm


def scale_is_safe(squares: Tensor) -> bool:
    """Whether sums of squares are so far from 0 and infinity that no scaling is needed; asked only on a processor."""
    if squares.device.type != "cpu" or not squares.numel():
        return False
    limits = torch.finfo(squares.dtype)
    low, high = torch.aminmax(squares.detach())
    return bool(low.item() > limits.tiny**0.5 and high.item() < limits.max**0.5)


def total_of(weights: Tensor) -> Tensor:
    """Sum of weights; the pair dimension is kept."""
    return weights.sum(-1, keepdim=True)


def scaled(x: Tensor, at_least: Tensor | float = 0.0) -> Tensor:
    """Scale x to a largest magnitude of 1, so that squares of values as small as 1e-26 (MEG) are not 0.

    A vector whose largest magnitude is not above `at_least` becomes 0.
    """
    largest = torch.linalg.vector_norm(x.detach(), ord=torch.inf, dim=-1, keepdim=True)
    factor: Tensor = (largest > at_least) / largest.clamp_min(torch.finfo(x.dtype).tiny)
    return x * factor


def mean_of(x: Tensor, weights: Tensor | None) -> Tensor:
    """Weighted mean over pairs; the pair dimension is kept; 0 if all weights are 0."""
    if weights is None:
        return x.mean(-1, keepdim=True)
    return dot(weights, x)[..., None] / total_of(weights).clamp_min(torch.finfo(x.dtype).tiny)


def centred(x: Tensor, weights: Tensor | None) -> Tensor:
    """Subtract the mean and scale; values that are constant up to rounding or have weight 0 become exactly 0."""
    mean = mean_of(x, weights)
    difference = x - mean if weights is None else (x - mean) * (weights > 0)
    return scaled(difference, 8 * torch.finfo(x.dtype).eps * mean.detach().abs())


def ratio(xy: Tensor, xx: Tensor, yy: Tensor, ok: Tensor) -> Tensor:
    """Return xy / sqrt(xx yy), and 0 with gradient 0 where `ok` is false."""
    root = torch.where(ok, xx, 1).sqrt() * torch.where(ok, yy, 1).sqrt()
    return torch.where(ok, xy, 0) / root


def cosine_of(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of two vectors in any unit, without weights."""
    xx, yy = squares_of(x), squares_of(y)
    if scale_is_safe(xx) and scale_is_safe(yy):
        return dot(x, y) / (xx.sqrt() * yy.sqrt())
    return weighted_cosine(scaled(x), scaled(y), None)


def weighted_cosine(x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
    """Cosine of two vectors of pairs, both scaled to magnitudes near 1 (see `scaled`); 0 if either is 0."""
    if weights is None:
        xx, yy, xy = squares_of(x), squares_of(y), dot(x, y)
    else:
        xx, yy, xy = dot(weights, x * x), dot(weights, y * y), dot(weights, x * y)
    return ratio(xy, xx, yy, (xx > 0) & (yy > 0))


class PlainCorrelation(torch.autograd.Function):
    """Pearson correlation without weights in few operations, because overhead dominates its time in training."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        """Correlate the last dimensions of `x` and `y`."""
        (x_unit, x_norm), (y_unit, y_norm) = unit(x), unit(y)
        r = dot(x_unit, y_unit)
        ctx.save_for_backward(x_unit, y_unit, x_norm, y_norm, r)
        ctx.shapes = x.shape, y.shape
        return r

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the part of the other vector orthogonal to this vector, divided by the norm of this vector."""
        x, y, x_norm, y_norm, r = ctx.saved_tensors
        gradient, r = gradient[..., None], r[..., None]
        dx = (gradient * (y - r * x) / x_norm).sum_to_size(ctx.shapes[0]) if ctx.needs_input_grad[0] else None
        dy = (gradient * (x - r * y) / y_norm).sum_to_size(ctx.shapes[1]) if ctx.needs_input_grad[1] else None
        return dx, dy


def unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Centre x and scale it to length 1; also return its length before (infinite, for a gradient of 0, if constant)."""
    mean = x.mean(-1, keepdim=True)
    x = x - mean
    rounding = 8 * torch.finfo(x.dtype).eps * mean.abs()
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    if scale_is_safe(norm * norm) and not (norm <= rounding * x.shape[-1] ** 0.5).any():
        return x.div_(norm), norm
    largest = torch.linalg.vector_norm(x, ord=torch.inf, dim=-1, keepdim=True)
    constant = largest <= rounding
    x = x / largest.masked_fill(constant, torch.inf)  # near 1, because squares of 1e-26 (MEG) would be 0
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norm.masked_fill(constant, torch.inf), (norm * largest).masked_fill(constant, torch.inf)


def weighted_corr(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Pearson correlation from moments around a mean shared by all resamples: one matrix product for all of them.

    The mean of each resample is then a small correction, so float32 stays accurate with a large offset.
    """
    shared = weights.reshape(-1, weights.shape[-1]).mean(0)
    x, y = centred(x, shared), centred(y, shared)
    total = weights.sum(-1).clamp_min(torch.finfo(x.dtype).tiny)
    mean_x, mean_y = dot(weights, x) / total, dot(weights, y) / total
    square_x, square_y = dot(weights, x * x) / total, dot(weights, y * y) / total
    xx, yy = square_x - mean_x**2, square_y - mean_y**2
    rounding = 8 * torch.finfo(x.dtype).eps
    ok = (xx > rounding * square_x) & (yy > rounding * square_y)
    return ratio(dot(weights, x * y) / total - mean_x * mean_y, xx, yy, ok)
