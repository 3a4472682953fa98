"""The Pearson correlation of the default loss in one step, from patterns through their RDM, with its gradient.

For small students, starting many operations costs more than the arithmetic. Here the student's RDM stays a square
matrix with a diagonal of 0, so pairs need not be gathered or scattered, the layers that are matched with one RDM share
the operations, and the gradient is written out. The result equals `corr(dissimilarity(x), teacher)`, which is tested.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

from brainrdl.dissimilarity.pairs import square_of, to_square
from brainrdl.dissimilarity.products import centred, channel_centred, inverse_lengths, matmul
from brainrdl.similarity.pair_sums import unit

KINDS = ("euclidean", "correlation", "cosine")

_AT_MOST = 16  # teacher RDMs whose directions are kept

# A teacher may answer with the same tensors in each step. Entries go with the tensors.
_KNOWN: MutableMapping[Tensor, tuple[tuple[Any, ...], Tensor | None]] = WeakTensorKeyDictionary()


class _RDMCorrelations(torch.autograd.Function):
    """Correlations of several layers with one RDM, from a stack of square matrices that is changed in place.

    For cosines, the matrices hold similarities: neither the 1 of 1 - cosine nor the sign needs other matrices.
    """

    @staticmethod
    def forward(ctx: Any, direction: Tensor, kind: str, *layers: Tensor) -> Tensor:
        n = len(direction)
        inverse = None
        if kind != "euclidean":
            layers, floors = zip(*(_vectors(x, kind == "correlation") for x in layers), strict=True)
        squares = torch.stack([matmul(x, x.mT) for x in layers])
        diagonal = squares.diagonal(dim1=1, dim2=2)
        if kind == "euclidean":
            own = diagonal.clone()
            squares.mul_(-2).add_(own.unsqueeze(1)).add_(own.unsqueeze(2))
        else:
            inverse = inverse_lengths(diagonal, torch.stack(floors))
            squares.mul_(inverse.unsqueeze(1)).mul_(inverse.unsqueeze(2))
        diagonal.zero_()
        n_entries = n * (n - 1)  # each pair occurs twice
        mean = squares.sum((1, 2)) / n_entries
        squares.sub_(mean[:, None, None])
        diagonal.zero_()
        norm = torch.linalg.vector_norm(squares, dim=(1, 2))
        constant = norm <= mean.abs() * (8 * torch.finfo(squares.dtype).eps * n_entries**0.5)
        norm = norm.masked_fill(constant, torch.inf)
        r = matmul(squares.flatten(1), direction.flatten()) / norm
        ctx.save_for_backward(squares, direction, mean, norm, r, inverse, *layers)
        return r if inverse is None else -r

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        squares, direction, mean, norm, r, inverse, *layers = ctx.saved_tensors
        slope = torch.addcmul(direction, squares, (r / -norm)[:, None, None])
        diagonal = slope.diagonal(dim1=1, dim2=2)
        if inverse is None:
            diagonal.sub_(slope.sum(-1))
            slope.mul_((gradient * -4 / norm)[:, None, None])
        else:
            # A change of length does not change an angle; cosines are `squares` and the mean that was subtracted.
            diagonal.sub_(torch.linalg.vecdot(slope, squares).add_(slope.sum(-1) * mean[:, None]))
            slope.mul_((inverse * (gradient * -2 / norm)[:, None]).unsqueeze(2)).mul_(inverse.unsqueeze(1))
        return None, None, *(matmul(one, x) for one, x in zip(slope, layers, strict=True))


def _vectors(x: Tensor, centre: bool) -> tuple[Tensor, Tensor]:
    """Return the vectors between which angles are measured, and their squared lengths that are only rounding."""
    return channel_centred(x) if centre else (x, x.new_full((len(x),), torch.finfo(x.dtype).tiny))


def direction_of(teacher: Float[Tensor, "*n_rdms n_pairs"]) -> Float[Tensor, "n_conditions n_conditions"] | None:
    """Return a square matrix; its product with an RDM, centred and of length 1, is the mean correlation.

    The mean of Pearson correlations with several RDMs equals one product with the mean of those RDMs, each centred and
    of length 1. The part that depends only on the teacher is computed here once, for all layers matched with it, and
    again only if the tensor is another one or was changed.

    Parameters
    ----------
    teacher : Tensor (n_pairs,) or (n_rdms, n_pairs)
        RDMs, any unit. They receive no gradient.

    Returns
    -------
    Tensor (n_conditions, n_conditions), or None
        No unit. None if a value is NaN or infinite.
    """
    if teacher.is_inference():  # it has no version
        return _direction_of(teacher)
    state = _state_of(teacher)
    known, direction = _KNOWN.get(teacher, (None, None))
    if known != state:
        if len(_KNOWN) >= _AT_MOST:
            _KNOWN.clear()
        with torch.inference_mode(False):  # a matrix made in that mode could never be saved for a backward pass
            direction = _direction_of(teacher)
        _KNOWN[teacher] = state, direction
    return direction


def _state_of(teacher: Tensor) -> tuple[Any, ...]:
    """Return what changes when a tensor is written to: its version; through NumPy or ``.data``, its place and ends."""
    if teacher.device.type != "cpu" or not teacher.numel():
        return teacher._version, teacher.data_ptr()
    flat = teacher.detach().reshape(-1)
    return teacher._version, teacher.data_ptr(), float(flat[0]), float(flat[-1])


def _direction_of(teacher: Tensor) -> Tensor | None:
    teacher = teacher.detach().reshape(-1, teacher.shape[-1])
    teacher = teacher if teacher.dtype in (torch.float32, torch.float64) else teacher.float()
    if len(teacher) == 1 and teacher.device.type == "cpu":
        direction = _direction_of_one(teacher[0].numpy())
        if direction is not None:
            return direction
    direction = to_square(unit(teacher)[0].mean(0))
    # both triangles together have the length of `unit`
    return None if math.isnan(direction.sum()) else direction.mul_(0.5**0.5)


def _direction_of_one(pairs: npt.NDArray[Any]) -> Tensor | None:
    """Compute the same in NumPy, which starts an operation several times faster; None if this is not accurate."""
    with np.errstate(all="ignore"):  # of infinite values
        mean = float(pairs.sum()) / len(pairs)
        difference = pairs - pairs.dtype.type(mean)
        length = float(difference.dot(difference)) ** 0.5
    limits = np.finfo(pairs.dtype)
    rounding = 8 * limits.eps * abs(mean) * len(pairs) ** 0.5
    if not max(rounding, limits.tiny**0.25) < length < limits.max**0.25:
        return None
    difference *= 0.5**0.5 / length
    return torch.from_numpy(square_of(difference))


def rdm_correlations(
    layers: Sequence[Float[Tensor, "n_conditions n_channels"]],
    direction: Float[Tensor, "n_conditions n_conditions"],
    kind: str,
) -> Float[Tensor, " n_layers"]:
    """Return the mean Pearson correlation of each layer's RDM with the teacher's, in [-1, 1]; 0 if one is constant.

    Parameters
    ----------
    layers : sequence of Tensor (n_conditions, n_channels)
        Patterns of at least 2 conditions, any unit; half precision is computed in float32.
    direction : Tensor (n_conditions, n_conditions)
        The result of `direction_of` for the teacher.
    kind : {"euclidean", "correlation", "cosine"}
        Dissimilarity of the RDMs.

    Returns
    -------
    Tensor (n_layers,)
    """
    dtype = torch.float64 if any(x.dtype == torch.float64 for x in layers) else torch.float32
    given = (x.to(dtype) for x in layers)
    shown = [centred(x) for x in given] if kind == "euclidean" else given
    r: Tensor = _RDMCorrelations.apply(direction.to(layers[0].device, dtype), kind, *shown)
    return r
