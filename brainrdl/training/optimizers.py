"""Device, optimiser and learning-rate schedule of a training run, by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from brainrdl._core.errors import arg, check_number, check_option, nearest, refuse
from brainrdl._core.options import complete
from brainrdl.models.student import Student
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
"""The optimisers by name."""

SCHEDULES: dict[str, Callable[[float], float]] = {  # fraction of the run that is done -> factor on the learning rate
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
}
"""The schedules of the learning rate by name."""


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


def parameter_groups(
    student: Student, others: Iterable[Parameter], lr_of: Mapping[str, float] | None
) -> list[dict[str, Any]]:
    """Group the parameters to train by their learning rate, as optimisers of torch accept them.

    Parameters
    ----------
    student : Student
        Its trainable parameters are grouped. Those with a learning rate of 0 are frozen.
    others : iterable of Parameter
        More parameters, with the learning rate of the optimiser.
    lr_of : mapping of pattern to float, or None
        Learning rates by name of the network's parameters, with ``*`` for any text. The first pattern that fits counts.

    Returns
    -------
    list of dict
        The first group has the learning rate of the optimiser.

    Raises
    ------
    BrainrdlError
        If a learning rate is negative, or a pattern fits no parameter that is trained.

    Examples
    --------
    >>> from brainrdl import Student
    >>> student = Student(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)), ["1"])
    >>> [(len(group["params"]), group.get("lr")) for group in parameter_groups(student, [], {"0.*": 0, "1.bias": 0.1})]
    [(1, None), (1, 0.1)]
    """
    names = {id(parameter): name for name, parameter in student.model.named_parameters()}
    groups: dict[str | None, list[Parameter]] = {None: []}
    for parameter in student.trainable_parameters():
        name = names.get(id(parameter), "")
        fits = next((pattern for pattern in lr_of or () if name and fnmatchcase(name, pattern)), None)
        groups.setdefault(fits, []).append(parameter)
    for pattern, lr in (lr_of or {}).items():
        check_number(lr, f"the learning rate of {pattern!r} in lr_of", at_least=0)
        if pattern not in groups:
            known = [name for name, parameter in student.model.named_parameters() if parameter.requires_grad]
            refuse(f"lr_of: {pattern!r} fits no parameter that is trained{nearest(pattern, known)}")
        for parameter in groups[pattern] if lr == 0 else ():
            parameter.requires_grad_(False)
    rates = {pattern: lr for pattern, lr in (lr_of or {}).items() if lr > 0}
    first: dict[str, Any] = {"params": [*groups[None], *others]}
    found = [first, *({"params": groups[pattern], "lr": lr} for pattern, lr in rates.items())]
    return [group for group in found if group["params"]]


def make_optimizer(
    optimizer: str | Callable[..., Optimizer],
    parameters: Iterable[Parameter] | Iterable[dict[str, Any]],
    lr: float,
    weight_decay: float,
    fused: bool = False,
) -> Optimizer:
    """Make an optimiser by name or from a function ``(parameters, lr=, weight_decay=) -> Optimizer``.

    Parameters
    ----------
    optimizer : str or callable
        Name in ``OPTIMIZERS``, or a function.
    parameters : iterable of Parameter, or of groups
        Parameters to train; see `parameter_groups`.
    lr, weight_decay : float
        Learning rate (above 0) and weight decay (at least 0).
    fused : bool
        Use torch's fused implementation of an optimiser by name.

    Returns
    -------
    torch.optim.Optimizer

    Raises
    ------
    BrainrdlError
        If the name is unknown, there are no trainable parameters, the function accepts other arguments, the optimiser
        needs a closure, or there is no fused implementation.

    Examples
    --------
    >>> type(make_optimizer("sgd", torch.nn.Linear(2, 2).parameters(), 0.1, 0.0)).__name__
    'SGD'
    """
    make = OPTIMIZERS[check_option(optimizer, OPTIMIZERS, "optimizer")] if isinstance(optimizer, str) else optimizer
    make = _fused(optimizer, make) if fused else make
    trained: list[Any] = list(parameters)
    if not trained:
        refuse("the student has no trainable parameters; choose another `trainable` or add a projection")
    try:
        made = make(trained, lr=lr, weight_decay=weight_decay)
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


def _fused(optimizer: str | Callable[..., Optimizer], make: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    if not isinstance(optimizer, str) or "fused" not in inspect.signature(make).parameters:
        refuse(
            f"{arg('fused', True)} is for the optimisers adam, adamw, sgd and momentum, got {optimizer!r}; leave it "
            "out, or let your own function make a fused optimiser"
        )
    return partial(make, fused=True)


def tf32(wanted: bool, device: torch.device) -> AbstractContextManager[None]:
    """During the block, compute matrix products and convolutions in TensorFloat-32 on a GPU, if that is wanted.

    If it is not wanted, torch's settings stay as they are. By default torch uses TensorFloat-32 for convolutions, and
    not for matrix products.

    Examples
    --------
    >>> with tf32(True, torch.device("cpu")):
    ...     torch.get_float32_matmul_precision()
    'highest'
    """
    return _in_tf32() if wanted and device.type == "cuda" else nullcontext()


@contextmanager
def _in_tf32() -> Iterator[None]:
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def averaged(student: Student, decay: float) -> AveragedModel:
    """Return a copy of a student whose weights follow the exponential moving average of the student's.

    Parameters
    ----------
    student : Student
    decay : float
        Share of the average that is kept at each update, from 0 to below 1. Statistics of batch normalisation are
        those of the student.

    Returns
    -------
    torch.optim.swa_utils.AveragedModel
        Call ``update_parameters(student)`` after each step; ``module`` is the averaged student.

    Examples
    --------
    >>> from brainrdl import Student
    >>> student = Student(torch.nn.Sequential(torch.nn.Linear(1, 1)), ["0"])
    >>> average = averaged(student, 0.9)
    >>> type(average.module).__name__
    'Student'
    """
    return AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(decay))


def make_schedule(
    schedule: str | Callable[[Optimizer], LRScheduler], optimizer: Optimizer, steps: int, warmup: int = 0
) -> LRScheduler:
    """Make a learning-rate schedule over `steps` by name, or from a function ``optimizer -> LRScheduler``.

    Parameters
    ----------
    schedule : str or callable
        Name in ``SCHEDULES``, or a function.
    optimizer : torch.optim.Optimizer
        Optimiser whose learning rate is scheduled.
    steps : int
        Number of optimiser steps of the run.
    warmup : int
        Number of first steps in which the learning rate rises linearly to that of the schedule.

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
        if warmup:
            refuse(f"{arg('warmup', warmup)} is for schedules by name; let your own schedule begin with small values")
        made = schedule(optimizer)
        if not isinstance(made, LRScheduler):
            refuse(f"schedule must be a function that returns a scheduler of torch, got {type(made).__name__}")
        total = getattr(made, "total_steps", None)
        if total is not None and total < steps:
            refuse(f"schedule {type(made).__name__} ends after {total} steps, and the fit has {steps}; make it as long")
        return made
    factor = SCHEDULES[check_option(schedule, SCHEDULES, "schedule")]

    def rate(step: int) -> float:
        return factor(min(step / max(steps, 1), 1.0)) * min((step + 1) / (warmup + 1), 1.0)

    return LambdaLR(optimizer, rate)


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
