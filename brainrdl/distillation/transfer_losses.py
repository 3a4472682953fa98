"""Losses between the patterns of two networks for the same images, from their Gram matrices, with their gradients.

Each of these losses depends on the student's patterns only through the products of all pairs of patterns. One matrix
product gives the Gram matrix, the loss and its slope come from the Gram matrix in closed form, and one more product
gives the gradient. Values and gradients equal those of the published formulas, which is tested.

The patterns of the other network are constants: they receive no gradient. Patterns of half precision are computed in
float32, also under autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import smooth_l1_loss

from brainrdl._core.errors import refuse
from brainrdl._core.tensor_checks import check_ndim
from brainrdl.dissimilarity.products import centred, matmul

Slope = Callable[[Tensor], tuple[Tensor, Tensor]]  # Gram matrix -> loss, and its derivative by the Gram matrix

_AT_ONCE = 2**17  # angles in a block: what a block computes stays in the cache of a core

_ROUNDING = 8.0  # squared distances below this many rounding errors of the squared lengths are those of duplicates

_EPS = 1e-7  # added to probabilities, as in the authors' code of probabilistic transfer


class _OfGram(torch.autograd.Function):
    """A loss of the Gram matrix of `x`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Slope) -> Tensor:
        value, slope = loss(matmul(x, x.mT))
        ctx.save_for_backward(x, slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, slope = ctx.saved_tensors
        return matmul((slope + slope.mT) * gradient, x), None


def relational_loss(
    x: Float[Tensor, "n n_channels"], y: Float[Tensor, "n n_other"], distance: float = 1.0, angle: float = 2.0
) -> Float[Tensor, ""]:
    """Return the loss of relational knowledge distillation, >= 0: Huber loss between distances and between angles.

    Distances are Euclidean, divided by their mean over all pairs. Angles are cosines at each pattern between the
    directions to two others. Both losses are means over all n^2 pairs and all n^3 triplets, as in the authors' code.

    Parameters
    ----------
    x : Tensor (n, n_channels)
        Patterns of the student, with gradient, any unit.
    y : Tensor (n, n_other)
        Patterns of the other network for the same images in the same order, any unit.
    distance, angle : float
        Weights of the two parts. The time for angles grows with n^3.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    BrainrdlError
        If `x` and `y` are not matrices with the same number of rows.

    Notes
    -----
    The distance between duplicates is 0; it counts neither in the mean nor in the gradient. Angles with a duplicate of
    the pattern at which they are measured are 0.

    References
    ----------
    Park, Kim, Lu & Cho (2019), CVPR, doi 10.1109/CVPR.2019.00409.

    Examples
    --------
    >>> x = torch.randn(6, 20)
    >>> relational_loss(3 * x + 1, x) < 1e-6
    tensor(True)
    """
    x, y = _checked(x, y)
    theirs = _squared_distances(_gram(centred(y)))

    def loss(gram: Tensor) -> tuple[Tensor, Tensor]:
        squared = _squared_distances(gram)
        value, slope = gram.new_zeros(()), torch.zeros_like(gram)
        for weight, part in ((distance, _distance_part), (angle, _angle_part)):
            if weight:
                one, by_squared = part(squared, theirs)
                value, slope = value + weight * one, slope.add_(by_squared, alpha=weight)
        own = slope.sum(0) + slope.sum(1)  # a squared distance is own_i + own_j - 2 gram_ij
        slope.mul_(-2).diagonal().add_(own)
        return value, slope

    return _applied(centred(x), loss)


def _squared_distances(gram: Tensor) -> Tensor:
    own = gram.diagonal()
    both = own.unsqueeze(1) + own
    squared = (both - 2 * gram).fill_diagonal_(0)
    return squared.masked_fill_(squared <= _ROUNDING * torch.finfo(gram.dtype).eps * both, 0)


def _over_mean(distances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return distances over their mean, the mean, and the number of distances that are not 0."""
    count = distances.count_nonzero().clamp_min(1)
    mean = distances.sum() / count
    mean = torch.where(mean > 0, mean, 1)
    return distances / mean, mean, count


def _distance_part(squared: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Huber loss between normalised distances, and its derivative by the squared distances."""
    distances = squared.sqrt()
    ours, mean, count = _over_mean(distances)
    difference = ours - _over_mean(theirs.sqrt())[0]
    by_ours = difference.clamp(-1, 1) / difference.numel()
    by_distance = (by_ours - (by_ours * ours).sum() / count) / mean
    return _huber(difference) / difference.numel(), by_distance * _inverse(distances) / 2


def _angle_part(squared: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Huber loss between the cosines of angles, and its derivative by the squared distances.

    With u = 1 / distance, the cosine at i between j and k is (S_ij + S_ik - S_jk) u_ij u_ik / 2.
    """
    n = len(squared)
    inverse, inverse_theirs = _inverse(squared.sqrt()), _inverse(theirs.sqrt())
    total, slope = squared.new_zeros(()), torch.zeros_like(squared)
    at_once = max(1, _AT_ONCE // n**2)
    for start in range(0, n, at_once):
        rows = slice(start, start + at_once)
        lengths = inverse[rows].unsqueeze(2) * inverse[rows].unsqueeze(1)
        cosines = _cosines(squared, rows).mul_(lengths)
        other = _cosines(theirs, rows).mul_(inverse_theirs[rows].unsqueeze(2)).mul_(inverse_theirs[rows].unsqueeze(1))
        difference = other.neg_().add_(cosines)
        total = total + _huber(difference)
        by_cosine = difference.clamp_(-1, 1)
        slope[rows].sub_(torch.linalg.vecdot(by_cosine, cosines).mul_(inverse[rows].square()))
        by_cosine.mul_(lengths)
        slope[rows].add_(by_cosine.sum(2))
        slope.sub_(by_cosine.sum(0), alpha=0.5)
    return total / n**3, slope.div_(n**3)


def _cosines(squared: Tensor, rows: slice) -> Tensor:
    """Return half of S_ij + S_ik - S_jk for some i."""
    return (squared[rows].unsqueeze(2) + squared[rows].unsqueeze(1)).sub_(squared).mul_(0.5)


def _huber(difference: Tensor) -> Tensor:
    return smooth_l1_loss(difference, torch.zeros_like(difference), reduction="sum")


def _inverse(distances: Tensor) -> Tensor:
    return distances.masked_fill(distances == 0, torch.inf).reciprocal_()


def similarity_preserving_loss(x: Float[Tensor, "n n_channels"], y: Float[Tensor, "n n_other"]) -> Float[Tensor, ""]:
    """Return the mean squared difference of two Gram matrices whose rows are scaled to length 1, in [0, 4 / n].

    Patterns are not centred, so an offset matters.

    Parameters
    ----------
    x : Tensor (n, n_channels)
        Patterns of the student, with gradient, any unit.
    y : Tensor (n, n_other)
        Patterns of the other network for the same images in the same order, any unit.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    BrainrdlError
        If `x` and `y` are not matrices with the same number of rows.

    Notes
    -----
    Rows are divided by their Euclidean length, as in the paper. torchdistill 1.1.5 divides them by the sum of their
    absolute values, which gives another loss.

    References
    ----------
    Tung & Mori (2019), ICCV, doi 10.1109/ICCV.2019.00145.

    Examples
    --------
    >>> x = torch.eye(4)
    >>> similarity_preserving_loss(x, x), similarity_preserving_loss(x, torch.ones(4, 1))
    (tensor(0.), tensor(0.2500))
    """
    x, y = _checked(x, y)
    theirs = torch.nn.functional.normalize(_gram(y), dim=1)

    def loss(gram: Tensor) -> tuple[Tensor, Tensor]:
        length = torch.linalg.vector_norm(gram, dim=1, keepdim=True).clamp_min(torch.finfo(gram.dtype).tiny)
        ours = gram / length
        difference = ours - theirs
        by_ours = difference * (2 / gram.numel())
        along = torch.linalg.vecdot(by_ours, ours).unsqueeze(1)
        return difference.square().mean(), (by_ours - along * ours) / length

    return _applied(x, loss)


def probabilistic_loss(x: Float[Tensor, "n n_channels"], y: Float[Tensor, "n n_other"]) -> Float[Tensor, ""]:
    """Return the loss of probabilistic knowledge transfer, >= 0 up to rounding.

    The cosines of a pattern with all patterns, moved to [0, 1] and divided by their sum, are the probabilities that
    another pattern is its neighbour. The loss is the mean over all n^2 entries of p log(p / q), with p from the other
    network and q from the student.

    Parameters
    ----------
    x : Tensor (n, n_channels)
        Patterns of the student, with gradient, any unit.
    y : Tensor (n, n_other)
        Patterns of the other network for the same images in the same order, any unit.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    BrainrdlError
        If `x` and `y` are not matrices with the same number of rows.

    Notes
    -----
    As in the authors' code, 1e-7 is added to the probabilities. A pattern of zeros has the cosine 0 with all others.

    References
    ----------
    Passalis & Tefas (2018), ECCV, doi 10.1007/978-3-030-01252-6_17.

    Examples
    --------
    >>> x = torch.randn(6, 20)
    >>> probabilistic_loss(5 * x, x).abs() < 1e-6
    tensor(True)
    """
    x, y = _checked(x, y)
    theirs, *_ = _neighbours(_gram(y))

    def loss(gram: Tensor) -> tuple[Tensor, Tensor]:
        ours, total, cosines, inverse = _neighbours(gram)
        value = (theirs * ((theirs + _EPS) / (ours + _EPS)).log()).mean()
        by_ours = theirs / (ours + _EPS) / -gram.numel()
        by_cosine = (by_ours - torch.linalg.vecdot(by_ours, ours).unsqueeze(1)) / (2 * total)
        lengths = by_cosine * cosines
        slope = by_cosine * inverse.unsqueeze(1) * inverse
        slope.diagonal().sub_((lengths.sum(0) + lengths.sum(1)) * inverse.square() / 2)
        return value, slope

    return _applied(x, loss)


def _neighbours(gram: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the probabilities, the sums by which they were divided, the cosines, and inverse lengths."""
    own = gram.diagonal()
    inverse = own.masked_fill(own <= torch.finfo(gram.dtype).tiny, torch.inf).rsqrt()
    cosines = gram * inverse.unsqueeze(1) * inverse
    near = (cosines + 1) / 2
    total = near.sum(1, keepdim=True)
    return near / total, total, cosines, inverse


def _gram(y: Tensor) -> Tensor:
    return matmul(y, y.mT)


def _applied(x: Tensor, loss: Slope) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        value: Tensor = _OfGram.apply(x, loss)
    return value


def _checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    for patterns in (x, y):
        check_ndim(patterns, 2, "patterns", "(n, n_channels)")
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        refuse(
            "patterns of two networks must have one row for each image, (n, n_channels), got shapes "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    return x, y.detach().to(x)
