"""Batch normalisation across processes: its statistics are those of all images of a step, as in one process.

`torch.nn.SyncBatchNorm` does this on GPUs only, and would count the rows that only fill the last process's share
(`own_rows`) as images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from brainrdl._core.errors import arg, refuse
from brainrdl.training.distributed import count_own_rows, n_processes, own_rows

T = TypeVar("T")


@contextmanager
def shared_statistics(module: nn.Module, n: int) -> Iterator[None]:
    """During the block, batch normalisation in training mode uses the statistics of the rows of all processes.

    Forward pass, gradient and running statistics are those of one process. In a single process nothing changes.

    Parameters
    ----------
    module : nn.Module
        Network; its modules of batch normalisation are used as they are, also their parameters and buffers.
    n : int
        Number of conditions of the step, in all processes.

    Raises
    ------
    BrainrdlError
        In the pass, if a process has rows that only fill its share and an input whose first dimension is not that of
        the images: they cannot be left out of the statistics.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    >>> with shared_statistics(network, 5):
    ...     network(torch.rand(5, 4)).shape
    torch.Size([5, 3])
    """
    if n_processes() == 1:
        yield
        return
    found = [one for one in module.modules() if isinstance(one, _BatchNorm) and one.training]
    for one in found:
        one.forward = partial(_normalise, one, n)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for one in found:
            del one.forward


def check_shares(sizes: Mapping[str, int], module: nn.Module) -> None:
    """Refuse streams of images whose joint statistics would count the rows that fill the last process's share.

    Parameters
    ----------
    sizes : mapping of stream to int
        Number of images of each stream in a step.
    module : nn.Module
        Network, whose modules of batch normalisation are in training mode or not.

    Raises
    ------
    BrainrdlError
        If there are several streams and processes, and a number of images is not a multiple of that of processes.

    Examples
    --------
    >>> check_shares({"rdm": 5, "task": 7}, nn.BatchNorm1d(3))
    """
    uneven = {stream: n for stream, n in sizes.items() if n % n_processes()}
    if len(sizes) < 2 or not uneven:
        return
    if any(isinstance(one, _BatchNorm) and one.training for one in module.modules()):
        refuse(
            f"batch statistics over two streams and {n_processes()} processes need batches whose sizes are "
            f"multiples of {n_processes()}, got {uneven}; choose such {arg('batch_size')}s, or use "
            f"{arg('batchnorm', 'task')}"
        )


def passed_in_turn(module: nn.Module, passes: Mapping[str, Callable[[], T]], sizes: Mapping[str, int]) -> dict[str, T]:
    """Call passes of a network; batch normalisation in training mode updates its running statistics once for all.

    Each pass is normalised by its own statistics. The update is the mean of those of the passes, weighted by their
    numbers of images, as one pass of all images would weigh them.

    Parameters
    ----------
    module : nn.Module
        Network.
    passes : mapping of stream to function
    sizes : mapping of stream to int
        Number of images of each stream.

    Returns
    -------
    dict of stream to result

    Examples
    --------
    >>> norm = nn.BatchNorm1d(1)
    >>> images = {"rdm": torch.full((3, 1), 2.0), "task": torch.full((9, 1), 4.0)}
    >>> passes = {stream: partial(norm, rows) for stream, rows in images.items()}
    >>> _ = passed_in_turn(norm, passes, {"rdm": 3, "task": 9})
    >>> norm.running_mean, int(norm.num_batches_tracked)
    (tensor([0.3500]), 1)
    """
    found = [one for one in module.modules() if isinstance(one, _BatchNorm) and one.training]
    before = [dict(one._buffers) for one in found]
    results, after = {}, []
    try:
        for stream, run in passes.items():
            after.append([_copied(one, buffers) for one, buffers in zip(found, before, strict=True)])
            results[stream] = run()
    finally:
        # The buffers of a pass may be needed for its gradient, so they are not changed; the first ones are.
        for one, buffers in zip(found, before, strict=True):
            one._buffers.update(buffers)
    shares = [sizes[stream] / sum(sizes.values()) for stream in passes]
    for position, buffers in enumerate(before):
        for name, value in buffers.items():
            if value is not None:
                moved = [each[position][name] for each in after]
                mean = torch.stack([share * each for share, each in zip(shares, moved, strict=True)]).sum(0)
                value.copy_(mean if value.is_floating_point() else moved[0])
    return results


def _copied(module: nn.Module, buffers: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Give a module copies of buffers, and return them."""
    own = {name: value.clone() for name, value in buffers.items() if value is not None}
    module._buffers.update(own)
    return own


class _Sum(torch.autograd.Function):
    """Sum over processes, with gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def _normalise(module: _BatchNorm, n: int, x: Tensor) -> Tensor:
    if not module.training:  # switched during the block, to test the rows of a layer
        return type(module).forward(module, x)
    module._check_input_dim(x)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    rows = _counted(wide, n)
    others = [0, *range(2, x.ndim)]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    count = rows.new_tensor([rows.numel() // x.shape[1]])
    totals = _Sum.apply(torch.cat([rows.sum(others), count]))
    count = totals[-1].detach()
    mean = totals[:-1] / count
    # deviations from the mean, not the mean of squares: float32 would lose what a large mean covers
    variance = _Sum.apply((rows - mean.view(shape)).square().sum(others)) / count
    _remember(module, mean.detach(), variance.detach() * count / (count - 1))
    normal = (wide - mean.view(shape)) * (variance + module.eps).rsqrt().view(shape)
    if module.affine:
        normal = normal * module.weight.view(shape) + module.bias.view(shape)
    return normal.to(x.dtype)


def _counted(x: Tensor, n: int) -> Tensor:
    """Leave out the rows that only fill this process's share."""
    share, counted = len(own_rows(n)), count_own_rows(n)
    if counted < share != len(x):
        refuse(
            f"batch normalisation has an input of {len(x)} rows for {share} images, {share - counted} of which only "
            f"fill the share of this process; use {arg('batchnorm', 'eval')}, or steps whose number of conditions is a "
            f"multiple of the {n_processes()} processes, with {arg('batch_size')}"
        )
    return x[:counted] if counted < share else x


@torch.no_grad()
def _remember(module: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics as torch does."""
    if module.running_mean is None or module.running_var is None or module.num_batches_tracked is None:
        return
    module.num_batches_tracked.add_(1)
    share = 1 / float(module.num_batches_tracked) if module.momentum is None else module.momentum
    module.running_mean.lerp_(mean.to(module.running_mean.dtype), share)
    module.running_var.lerp_(variance.to(module.running_var.dtype), share)
