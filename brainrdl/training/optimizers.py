"""Device, optimiser and learning-rate schedule of a training run, by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from brainrdl._core.errors import check_option, refuse
from brainrdl._core.options import complete
from brainrdl.training.options import FitOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

_OPTIONAL = inspect.Parameter("closure", inspect.Parameter.KEYWORD_ONLY, default=None)

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "rmsprop": torch.optim.RMSprop,
}

SCHEDULES: dict[str, Callable[[float], float]] = {  # fraction of the run that is done -> factor on the learning rate
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
}


def make_accelerator(device: str = "auto", mixed_precision: str = "no") -> Accelerator:
    """Return an Accelerator for `device`; "auto" chooses the fastest device that is available.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.
    mixed_precision : {"no", "fp16", "bf16"}
        Precision of the network.

    Returns
    -------
    accelerate.Accelerator

    Raises
    ------
    BrainrdlError
        If a name is unknown, the device is not available, or fp16 is requested on a CPU.

    Examples
    --------
    >>> make_accelerator("cpu").device.type
    'cpu'
    """
    complete(FitOptions, {"device": device, "mixed_precision": mixed_precision})
    if mixed_precision == "fp16" and (device == "cpu" or not _has_gpu()):
        refuse("mixed_precision 'fp16' needs a GPU; use 'bf16' or 'no' on the CPU")
    if not _is_there(device):
        refuse(f"device {device!r} is not available to torch {torch.__version__} on this machine; use 'auto' or 'cpu'")
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # Accelerate keeps one state per process, but successive fits may use different devices and precisions.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed_precision)


def _has_gpu() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _is_there(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_available()
    return device != "mps" or torch.backends.mps.is_available()


def make_optimizer(
    optimizer: str | Callable[..., Optimizer], parameters: Iterable[Parameter], lr: float, weight_decay: float
) -> Optimizer:
    """Make an optimiser by name or from a function ``(parameters, lr=, weight_decay=) -> Optimizer``.

    Parameters
    ----------
    optimizer : str or callable
        Name in ``OPTIMIZERS``, or a function.
    parameters : iterable of Parameter
        Parameters to train.
    lr, weight_decay : float
        Learning rate (above 0) and weight decay (at least 0).

    Returns
    -------
    torch.optim.Optimizer

    Raises
    ------
    BrainrdlError
        If the name is unknown, there are no trainable parameters, the function accepts other arguments, or the
        optimiser needs a closure.

    Examples
    --------
    >>> type(make_optimizer("sgd", torch.nn.Linear(2, 2).parameters(), 0.1, 0.0)).__name__
    'SGD'
    """
    make = OPTIMIZERS[check_option(optimizer, OPTIMIZERS, "optimizer")] if isinstance(optimizer, str) else optimizer
    parameters = list(parameters)
    if not parameters:
        refuse("the student has no trainable parameters; choose another `trainable` or add a projection")
    try:
        made = make(parameters, lr=lr, weight_decay=weight_decay)
    except TypeError as error:
        name = getattr(make, "__name__", repr(make))
        refuse(
            f"optimizer {name} must accept (parameters, lr=, weight_decay=): {error}; wrap it in a function that does, "
            "for example lambda parameters, lr, weight_decay: torch.optim.Rprop(parameters, lr=lr)"
        )
    if inspect.signature(made.step).parameters.get("closure", _OPTIONAL).default is inspect.Parameter.empty:
        refuse(
            f"optimizer {type(made).__name__} computes the loss several times per step, with a closure, which `fit` "
            "does not offer; choose another, for example 'adam'"
        )
    return made


def make_schedule(schedule: str | Callable[[Optimizer], LRScheduler], optimizer: Optimizer, steps: int) -> LRScheduler:
    """Make a learning-rate schedule over `steps` by name, or from a function ``optimizer -> LRScheduler``.

    Parameters
    ----------
    schedule : str or callable
        Name in ``SCHEDULES``, or a function.
    optimizer : torch.optim.Optimizer
        Optimiser whose learning rate is scheduled.
    steps : int
        Number of optimiser steps of the run.

    Returns
    -------
    torch.optim.lr_scheduler.LRScheduler

    Raises
    ------
    BrainrdlError
        If the name is unknown, the function returns no scheduler, or the schedule ends before `steps`.

    Examples
    --------
    >>> optimizer = make_optimizer("sgd", torch.nn.Linear(2, 2).parameters(), 0.1, 0.0)
    >>> make_schedule("cosine", optimizer, 100).get_last_lr()
    [0.1]
    """
    if not isinstance(schedule, str):
        made = schedule(optimizer)
        if not isinstance(made, LRScheduler):
            refuse(f"schedule must be a function that returns a scheduler of torch, got {type(made).__name__}")
        total = getattr(made, "total_steps", None)
        if total is not None and total < steps:
            refuse(f"schedule {type(made).__name__} ends after {total} steps, and the fit has {steps}; make it as long")
        return made
    factor = SCHEDULES[check_option(schedule, SCHEDULES, "schedule")]
    return LambdaLR(optimizer, lambda step: factor(min(step / max(steps, 1), 1.0)))


def step_schedule(scheduler: LRScheduler, loss: Tensor | float) -> None:
    """Move a schedule by one step; ``ReduceLROnPlateau`` is given the loss of the step.

    Examples
    --------
    >>> optimizer = make_optimizer("sgd", torch.nn.Linear(2, 2).parameters(), 1.0, 0.0)
    >>> schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    >>> for loss in (1.0, 1.0):
    ...     step_schedule(schedule, loss)
    >>> schedule.get_last_lr()
    [0.1]
    """
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(float(loss))
    else:
        scheduler.step()
