"""Patterns across devices: every pair of conditions counts, also when its two conditions sit on different ranks.

The loss is computed on all patterns on every rank. Gathering has a gradient: the backward pass sums what each rank says of a
pattern and keeps the rank's own rows, so that with the usual averaging over ranks the result equals a single process.
"""

from __future__ import annotations

from math import ceil

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if _world_size() > 1 else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        rows = [torch.empty_like(x) for _ in range(_world_size())]
        dist.all_gather(rows, x.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:  # type: ignore[override]
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad.chunk(_world_size())[_rank()]


def own_rows(n: int) -> list[int]:
    """Rows of a step's `n` conditions that this rank computes: equal shares in order, the last row repeated where they do not divide.

    Parameters
    ----------
    n : int
        Number of conditions in the step, equal on every rank.

    Returns
    -------
    list of int

    Examples
    --------
    >>> own_rows(3)  # one process
    [0, 1, 2]
    """
    size = ceil(n / _world_size())
    start = _rank() * size
    return [min(row, n - 1) for row in range(start, start + size)]


def gather(x: Float[Tensor, "n_own *rest"], n: int) -> Float[Tensor, "n *rest"]:
    """Rows of all ranks in order, with gradient; the padding of `own_rows` is cut off.

    Parameters
    ----------
    x : Tensor (n_own, ...)
        This rank's rows, equally many on every rank.
    n : int
        Number of conditions in the step.

    Returns
    -------
    Tensor (n, ...)

    Examples
    --------
    >>> gather(torch.eye(3), 3).shape
    torch.Size([3, 3])
    """
    return x if _world_size() == 1 else _Gather.apply(x)[:n]
