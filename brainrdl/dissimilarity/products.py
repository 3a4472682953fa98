"""Sums of products and cosine distances for all pairs of rows, from one matrix product, with their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from brainrdl.dissimilarity.pairs import row_blocks, to_pairs, to_square
from brainrdl.dissimilarity.small import ROUNDING, is_small, small_cosine_distances, small_squared_distances

_LARGE = 2048  # conditions from which the Gram matrix is computed in blocks, if no gradient needs it

_AT_ONCE = 2**20  # pairs in a block


def outside_autocast(x: Tensor) -> AbstractContextManager[Any]:
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def matmul(a: Tensor, b: Tensor) -> Tensor:
    with outside_autocast(a):  # autocast would lower the precision of this operation only, forward and backward
        return torch.matmul(a, b)


def centred(x: Tensor) -> Tensor:
    return x - x.mean(-2, keepdim=True).detach()  # the mean cancels in differences and in their gradients


class _PairProducts(torch.autograd.Function):
    """``scale * sum_channels (x_i - x_j) (y_i - y_j)``; `y` None means `x`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, scale: float) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.scale = scale
        gram = matmul(x, (x if y is None else y).mT)
        own = gram.diagonal(dim1=-2, dim2=-1)
        both = own.unsqueeze(-1) + own.unsqueeze(-2)
        if y is None:
            return to_pairs(both.sub_(gram, alpha=2)).mul_(scale).clamp_min_(0)  # a sum of squares
        return to_pairs(both.sub_(gram).sub_(gram.mT)).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        square = to_square(gradient * (2 * ctx.scale if y is None else ctx.scale))
        laplacian = square.sum(-1).diag_embed() - square
        needs_x, needs_y, _ = ctx.needs_input_grad
        return (
            matmul(laplacian, x if y is None else y) if needs_x else None,
            matmul(laplacian, x) if needs_y else None,
            None,
        )


class _CosineDistances(torch.autograd.Function):
    """``1 - cos(x_i, x_j)``, of patterns centred across channels where `centre` is true."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, centre: bool) -> Tensor:
        vectors, inverse, cosines = all_cosines(x, centre)
        ctx.save_for_backward(x, vectors, inverse, cosines)
        ctx.centre = centre
        return _distances(to_pairs(cosines))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, vectors, inverse, cosines = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: a second derivative needs the graph of these values
            vectors, inverse, cosines = all_cosines(x, ctx.centre)
        square = to_square(gradient)
        tangent = (square * cosines).sum(-1).diag_embed() - square  # a change of length does not change an angle
        # Centring needs no separate backward step: this sum of centred vectors is centred already.
        return matmul(tangent * inverse.unsqueeze(-1) * inverse.unsqueeze(-2), vectors), None


def all_cosines(x: Tensor, centre: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return vectors, their inverse lengths, and cosines; all 0, with gradient 0, if a vector is too short."""
    vectors, floor = channel_centred(x) if centre else (x, torch.finfo(x.dtype).tiny)
    gram = matmul(vectors, vectors.mT)
    squares = gram.diagonal(dim1=-2, dim2=-1)
    inverse = inverse_lengths(squares, floor)
    return vectors, inverse, gram.mul_(inverse.unsqueeze(-1)).mul_(inverse.unsqueeze(-2))


def inverse_lengths(squares: Tensor, floor: Tensor | float) -> Tensor:
    """Return inverse lengths; 0 for vectors that are too short."""
    return squares.masked_fill(squares <= floor, torch.inf).rsqrt()


def _distances(cosines: Tensor) -> Tensor:
    return cosines.neg_().add_(1).clamp_min_(0)


def pair_products(x: Tensor, y: Tensor | None, scale: float) -> Tensor:
    if _in_blocks(x, y):
        return joined(x, pair_product_blocks(x, y, scale))
    pairs: Tensor = _PairProducts.apply(x, y, scale)
    return pairs


def squared_distances(x: Tensor) -> Tensor:
    """Return squared Euclidean distances divided by the number of channels."""
    if is_small(x):
        return torch.from_numpy(small_squared_distances(x.detach().numpy()))
    return pair_products(centred(x), None, 1 / x.shape[-1])


def cosine_distances(x: Tensor, centre: bool) -> Tensor:
    if is_small(x):
        return torch.from_numpy(small_cosine_distances(x.detach().numpy(), centre))
    if _in_blocks(x, None):
        return joined(x, cosine_distance_blocks(x, centre))
    pairs: Tensor = _CosineDistances.apply(x, centre)
    return pairs


def _in_blocks(x: Tensor, y: Tensor | None) -> bool:
    needs_gradient = torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in (x, y))
    return x.shape[-2] > _LARGE and not needs_gradient


def joined(x: Tensor, parts: Iterator[tuple[slice, Tensor]]) -> Tensor:
    """Put the blocks of all pairs of patterns together."""
    n = x.shape[-2]
    pairs = x.new_empty(*x.shape[:-2], n * (n - 1) // 2)
    for part, found in parts:
        pairs[..., part] = found
    return pairs


def pair_product_blocks(x: Tensor, y: Tensor | None, scale: float) -> Iterator[tuple[slice, Tensor]]:
    """Yield the result of `pair_products` in blocks of pairs, without gradient."""
    own = (x * (x if y is None else y)).sum(-1)

    def block(rows: slice, columns: slice) -> Tensor:
        both = own[..., rows].unsqueeze(-1) + own[..., columns].unsqueeze(-2)
        if y is None:
            product = matmul(x[..., rows, :], x[..., columns, :].mT)
            return both.sub_(product, alpha=2).mul_(scale).clamp_min_(0)
        both.sub_(matmul(x[..., rows, :], y[..., columns, :].mT))
        return both.sub_(matmul(y[..., rows, :], x[..., columns, :].mT)).mul_(scale)

    return _blocks(x, block)


def cosine_distance_blocks(x: Tensor, centre: bool) -> Iterator[tuple[slice, Tensor]]:
    """Yield the result of `cosine_distances` in blocks of pairs, without gradient."""
    vectors, floor = channel_centred(x) if centre else (x, torch.finfo(x.dtype).tiny)
    unit = vectors * inverse_lengths(vectors.square().sum(-1), floor).unsqueeze(-1)
    return _blocks(x, lambda rows, columns: _distances(matmul(unit[..., rows, :], unit[..., columns, :].mT)))


def _blocks(x: Tensor, block: Callable[[slice, slice], Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """Yield pairs in blocks of the upper triangle: a few rows, and the columns from the first of these rows on."""
    for part, first, last in row_blocks(x.shape[-2], _AT_ONCE):
        found = block(slice(first, last), slice(first, None))
        # Rows are cut and joined without an index: indices need more memory than dissimilarities.
        pairs = torch.cat([found[..., row, row + 1 :] for row in range(last - first)], dim=-1)
        del found
        yield part, pairs
        del pairs


def channel_centred(x: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract the mean of each pattern; also return the squared norm below which the rest is rounding of that mean."""
    mean = x.mean(-1, keepdim=True)
    limits = torch.finfo(x.dtype)
    floor = mean.detach().squeeze(-1).mul(ROUNDING * limits.eps * x.shape[-1] ** 0.5).square_().clamp_min_(limits.tiny)
    return x - mean, floor
