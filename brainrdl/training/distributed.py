"""Patterns across devices: every pair of conditions counts, even if its conditions are on different ranks.

The loss is computed on all patterns on every rank. Gathering has a gradient: the backward pass sums the gradients of
all ranks and keeps the rank's own rows, so that after averaging over ranks the gradient equals that of one process.

In a network's pass over its rows each rank draws different random numbers (dropout), from seed, step and rank. All
other random numbers (batches, augmentations, subjects, pairs) are the same on every rank. So a fit has the loss and, up
to rounding, the weights of a fit in one process, unless the network draws random numbers. Batch normalisation shares
its statistics (`batch_statistics`). Buffers that depend on the images of one rank are refused.

Decisions that depend on files are those of the first rank, which is also the only one that writes.

`torch.nn.parallel.DistributedDataParallel` cannot be used here: it waits for a gradient of every output of the network,
and logits have none if no task uses them.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from math import ceil
from os import PathLike
from pathlib import Path

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from brainrdl._core.errors import refuse
from brainrdl._core.files import digest_tensor
from brainrdl._core.random_numbers import seed_all
from brainrdl.loss.pair_sampling import generator
from brainrdl.runs import run_folder


def n_processes() -> int:
    """Return the number of processes that train together; 1 without torch.distributed.

    Examples
    --------
    >>> n_processes()
    1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def join(device: str = "auto") -> None:
    """Join the processes that ``torchrun`` started, if there are several and this one has not joined them.

    At the end of this process it leaves them.

    Parameters
    ----------
    device : str
        As in `fit`.

    Raises
    ------
    BrainrdlError
        If the device is not available.

    Examples
    --------
    >>> join("cpu")
    """
    if int(os.environ.get("WORLD_SIZE") or 1) == 1 or n_processes() > 1:
        return
    from brainrdl.training.optimizers import make_accelerator

    make_accelerator(device)
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the first of those that train together: the one that writes.

    Examples
    --------
    >>> is_first()
    True
    """
    return _rank() == 0


def wait_for_all() -> None:
    """Wait until all processes that train together are here.

    Examples
    --------
    >>> wait_for_all()
    """
    if n_processes() > 1:
        dist.barrier()


@contextmanager
def opened_by_first(out: PathLike[str] | str, *, resume: bool = False, overwrite: bool = False) -> Iterator[Path]:
    """Open a run folder as `run_folder.opened` does, but only in the first process; the others wait for it.

    They also wait until it is closed, so that it is complete for all.

    Examples
    --------
    >>> import tempfile
    >>> with opened_by_first(tempfile.mkdtemp()) as folder:
    ...     folder.is_dir()
    True
    """
    with run_folder.opened(out, resume=resume, overwrite=overwrite) if is_first() else nullcontext(Path(out)) as folder:
        wait_for_all()
        yield folder
    wait_for_all()


def _rank() -> int:
    return dist.get_rank() if n_processes() > 1 else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        rows = [torch.empty_like(x) for _ in range(n_processes())]
        dist.all_gather(rows, x.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)  # autograd may use the incoming gradient elsewhere
        dist.all_reduce(grad)
        return grad.chunk(n_processes())[_rank()]


def own_rows(n: int) -> list[int]:
    """Rows of a step's `n` conditions that this rank computes: equal shares in order, padded by repeating the last row.

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
    size = ceil(n / n_processes())
    start = _rank() * size
    return [min(row, n - 1) for row in range(start, start + size)]


def count_own_rows(n: int) -> int:
    """Return how many of `own_rows` are conditions of this rank, without those that repeat the last one.

    Examples
    --------
    >>> count_own_rows(3)
    3
    """
    size = ceil(n / n_processes())
    return min(size, max(0, n - _rank() * size))


def gather(x: Float[Tensor, "n_own ..."], n: int) -> Float[Tensor, "n ..."]:
    """Rows of all ranks in order, with gradient; the padding of `own_rows` is removed.

    Parameters
    ----------
    x : Tensor (n_own, ...)
        This rank's rows, the same number on every rank.
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
    return x if n_processes() == 1 else _Gather.apply(x)[:n]


def own(x: Float[Tensor, "n ..."]) -> Float[Tensor, "n_own ..."]:
    """Rows of `x` that this rank computes, see `own_rows`; `x` itself in a single process.

    Examples
    --------
    >>> own(torch.eye(3)).shape
    torch.Size([3, 3])
    """
    return x if n_processes() == 1 else x[own_rows(len(x))]


def start_alike(module: nn.Module) -> None:
    """Give every rank the parameters and buffers of the first.

    Examples
    --------
    >>> start_alike(nn.Linear(2, 2))
    """
    if n_processes() > 1:
        for value in module.state_dict().values():
            dist.broadcast(value, src=0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over ranks, in one message; parameters without a gradient have none on any rank.

    Examples
    --------
    >>> average_gradients(nn.Linear(2, 2).parameters())
    """
    if n_processes() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for gradient, mean in zip(gradients, average(gradients), strict=True):
        if mean is not gradient:
            gradient.copy_(mean)


def average(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the means of tensors over ranks, in one message; the tensors themselves in a single process.

    Examples
    --------
    >>> average([torch.ones(2)])
    [tensor([1., 1.])]
    """
    if n_processes() == 1 or not tensors:
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= n_processes()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for tensor, part in zip(tensors, parts, strict=True)]


def agreed(value: float, device: torch.device | str | None = None) -> float:
    """Return the first rank's value on every rank, so that rounding errors cannot lead to different decisions.

    Parameters
    ----------
    value : float
    device : torch.device or str, optional
        Device of this rank; by default one on which the processes can communicate.

    Returns
    -------
    float

    Examples
    --------
    >>> agreed(0.5)
    0.5
    """
    if n_processes() == 1:
        return value
    # every device has float32; the value is only compared with others that were sent like this
    shared = torch.tensor([value], dtype=torch.float32, device=device or _meeting_place())
    dist.broadcast(shared, src=0)
    return float(shared)


def _meeting_place() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"


def anywhere(value: bool, device: torch.device | str = "cpu") -> bool:
    """Whether `value` is True on any rank; every rank gets the same answer.

    Parameters
    ----------
    value : bool
    device : torch.device or str
        Device of this rank.

    Returns
    -------
    bool

    Examples
    --------
    >>> anywhere(False)
    False
    """
    if n_processes() == 1:
        return value
    shared = torch.tensor([value], dtype=torch.int32, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return bool(shared)


def differs(digest: str, device: torch.device | str = "cpu") -> bool:
    """Whether a SHA-256 (hex) differs between ranks; every rank gets the same answer.

    Examples
    --------
    >>> differs("00" * 32)
    False
    """
    if n_processes() == 1:
        return False
    own_bytes = torch.tensor(list(bytes.fromhex(digest)), dtype=torch.int32, device=device)
    first = own_bytes.clone()
    dist.broadcast(first, src=0)
    return anywhere(not torch.equal(first, own_bytes), device)


@contextmanager
def own_random_numbers(seed: int, step: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """During the block, torch's global generators follow from seed, step and rank, so that ranks draw differently.

    Afterwards the generators continue as if nothing had been drawn. In a single process nothing changes.

    Parameters
    ----------
    seed, step : int
        Seed of the run and step of training.
    device : torch.device or str
        Device of this rank.

    Examples
    --------
    >>> with own_random_numbers(seed=0, step=3):
    ...     _ = torch.rand(1)
    """
    if n_processes() == 1:
        yield
        return
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        seed_all(generator(seed, step, _rank()).initial_seed())
        yield


def check_same_buffers(module: nn.Module) -> None:
    """Refuse a module whose buffers differ between ranks after a step: they depend on the images of a rank.

    Raises
    ------
    BrainrdlError
        On every rank, with the name of the buffer.

    Examples
    --------
    >>> check_same_buffers(nn.BatchNorm1d(2))
    """
    if n_processes() == 1:
        return
    for name, value in module.named_buffers():
        first = value.clone()
        dist.broadcast(first, src=0)
        if anywhere(digest_tensor(first) != digest_tensor(value), value.device):
            refuse(
                f"buffer {name!r} of the network depends on the images that a process computes, so it differs between "
                f"the {n_processes()} processes; train in one process, or put this module into evaluation mode"
            )
