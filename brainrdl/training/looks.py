"""Evaluations during training ("looks"): a student on training and validation stimuli, and checks of the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

import torch
from torch import Tensor

from brainrdl._core.errors import DivergedError, arg, quote, refuse
from brainrdl.dissimilarity import measures
from brainrdl.loss.matching import match_layers
from brainrdl.loss.rdm_loss import RDMLoss
from brainrdl.models.hooks import evaluating
from brainrdl.models.rows import warn_if_same
from brainrdl.models.student import Student
from brainrdl.similarity import comparators as _similarity
from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.teachers.protocol import Teacher
from brainrdl.training.task import Task

_CHUNK = 256  # images per forward pass of an evaluation: a whole validation set at once could fill the memory


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to a device.

    Examples
    --------
    >>> to_device(Batch(("a",), torch.zeros(1, 1, 2, 2), None), torch.device("cpu")).names
    ('a',)
    """
    labels = None if batch.labels is None else batch.labels.to(device)
    return Batch(batch.names, batch.images.to(device), labels, batch.step)


def batches_of(stimuli: Stimuli, names: Sequence[str], device: torch.device, step: int = 0) -> Iterator[Batch]:
    """Load the stimuli of an evaluation, a part at a time, without augmentation.

    Parameters
    ----------
    stimuli : Stimuli
    names : sequence of str
    device : torch.device
    step : int
        Step of training.

    Yields
    ------
    Batch
        Of at most 256 images.

    Examples
    --------
    >>> stimuli = Stimuli.from_arrays(torch.zeros(3, 1, 2, 2), list("abc"))
    >>> [batch.names for batch in batches_of(stimuli, ["c", "a"], torch.device("cpu"))]
    [('c', 'a')]
    """
    for start in range(0, len(names), _CHUNK):
        yield to_device(stimuli.batch(names[start : start + _CHUNK], step), device)


@torch.no_grad()
def look(
    student: Student,
    teacher: Teacher | None,
    batch: Batch,
    loss: RDMLoss,
    task: Task | None = None,
    categories: Sequence[str] = (),
) -> dict[str, float]:
    """Measure a student on a batch, in evaluation mode and full precision.

    Parameters
    ----------
    student : Student
        Network to evaluate; its mode is restored afterwards.
    teacher : Teacher or None
        Source of the RDMs to compare with.
    batch : Batch
        Images and, for the accuracy, labels, on the student's device.
    loss : RDMLoss
        Defines how patterns become RDMs, and which layer is matched with which target.
    task : Task, optional
        A task on the same images.
    categories : sequence of str
        Categories of the labels, in the order of their numbers.

    Returns
    -------
    dict
        similarity (mean Pearson correlation of student and teacher RDMs over layers and the teacher's RDMs; NaN without
        a teacher), n_constant (patterns without variance, in all layers), accuracy (NaN without labels or logits) and
        task_loss (NaN without a task).

    Raises
    ------
    DivergedError
        If a pattern is NaN or Inf; layer and conditions are named. Before the first step it is a `BrainrdlError`.

    Examples
    --------
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten()), ["0"])
    >>> look(student, None, Batch(tuple("abc"), torch.eye(3).view(3, 1, 3, 1), torch.tensor([0, 1, 0])), RDMLoss())
    {'similarity': nan, 'n_constant': 0.0, 'accuracy': 0.666..., 'task_loss': nan}
    """
    with evaluating(student):
        passes = [student(part) for part in batch.images.split(_CHUNK)]
    patterns = {layer: torch.cat([output.patterns[layer] for output in passes]) for layer in student.layers}
    logits = [output.logits for output in passes if output.logits is not None]
    check_patterns(batch.step, patterns, batch.names)
    warn_if_same(patterns)
    n_constant = sum(int(measures.count_constant(pattern)) for pattern in patterns.values())
    similarity = math.nan if teacher is None else _mean_similarity(patterns, teacher.rdms(batch), loss)
    measured = _measured(torch.cat(logits) if logits else None, batch, task, categories)
    return {"similarity": similarity, "n_constant": float(n_constant), **measured}


@torch.no_grad()
def look_at_task(
    student: Student, task: Task, batches: Iterable[Batch], categories: Sequence[str] = ()
) -> dict[str, float]:
    """Measure a student on a task with its own images, in evaluation mode and full precision.

    Parameters
    ----------
    student : Student
        Network to evaluate; its mode is restored afterwards.
    task : Task
        The task.
    batches : iterable of Batch
        Images, on the student's device.
    categories : sequence of str
        Categories of the labels, in the order of their numbers.

    Returns
    -------
    dict
        accuracy (NaN without labels) and task_loss: means over the images.

    Examples
    --------
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten()), ["0"])
    >>> stimuli = Stimuli.from_arrays(torch.eye(3).view(3, 1, 3, 1), list("abc"), labels=list("010"))
    >>> found = look_at_task(student, Task(stimuli), [stimuli.batch(stimuli.names)], stimuli.categories)
    >>> round(found["accuracy"], 3)
    0.667
    """
    sizes: list[int] = []
    found: list[dict[str, float]] = []
    with evaluating(student):
        for batch in batches:
            sizes.append(len(batch.names))
            found.append(_measured(student(batch.images).logits, batch, task, categories))
    shares = [size / sum(sizes) for size in sizes]
    return {
        what: sum(share * one[what] for share, one in zip(shares, found, strict=True))
        for what in ("accuracy", "task_loss")
    }


def _measured(logits: Tensor | None, batch: Batch, task: Task | None, categories: Sequence[str]) -> dict[str, float]:
    accuracy = math.nan
    if logits is not None and batch.labels is not None:
        accuracy = float(logits.argmax(-1).eq(batch.labels).float().mean())
    return {
        "accuracy": accuracy,
        "task_loss": math.nan if task is None else float(task.loss(logits, batch, categories)),
    }


def _mean_similarity(patterns: Mapping[str, Tensor], teacher_rdms: Mapping[str, Tensor], loss: RDMLoss) -> float:
    calc = measures.resolve(loss.dissimilarity)
    matched = match_layers(patterns, teacher_rdms, loss.match)
    values = []
    for layer, targets in matched.items():
        own = calc(patterns[layer]).cpu()
        for target in targets:
            rdms = teacher_rdms[target].cpu()
            known = rdms[~rdms.isnan().all(-1)]  # of some brains of a JointTeacher there may be no pair
            values += [_similarity.corr(own, known).mean()] if len(known) else []
    return float(torch.stack(values).mean()) if values else math.nan


def check_loss(
    total: Tensor | float, patterns: Mapping[str, Tensor], teacher_rdms: Mapping[str, Tensor], batch: Batch
) -> None:
    """Refuse a loss that is NaN or Inf, and name the step, the layer and the conditions.

    Parameters
    ----------
    total : Tensor, scalar, or float
        The loss.
    patterns : mapping of layer to Tensor (n_conditions, n_channels)
    teacher_rdms : mapping of target to Tensor (n_rdms, n_pairs)
    batch : Batch
        Conditions and images of the step.

    Raises
    ------
    DivergedError
        If `total` is not finite.
    BrainrdlError
        If it is not finite before any step, or the teacher's RDMs are the reason.

    Examples
    --------
    >>> patterns = {"fc": torch.tensor([[0.0], [torch.nan]])}
    >>> check_loss(float("nan"), patterns, {}, Batch(("a", "b"), torch.zeros(2, 1, 1, 1), step=7))
    Traceback (most recent call last):
    brainrdl.DivergedError: loss is nan at step 7: patterns of layer 'fc' are NaN or Inf for conditions ['b'];
    lower lr, or set clip
    """
    value = float(total.detach()) if isinstance(total, Tensor) else total
    if math.isfinite(value):
        return
    where = f"loss is {value} at step {batch.step}"
    infinite = [target for target, rdm in teacher_rdms.items() if rdm.isinf().any()]
    if infinite:
        refuse(f"{where}: the teacher's RDMs of targets {quote(infinite)} hold Inf; repair them first")
    check_patterns(batch.step, patterns, batch.names, f"{where}: ")
    if math.isnan(value) and teacher_rdms and all(rdm.isnan().all() for rdm in teacher_rdms.values()):
        refuse(
            f"{where}: the teacher knows no pair of the conditions {quote(batch.names)}; choose a larger "
            f"{arg('batch_size')}, or conditions that were measured together"
        )
    _stop(
        batch.step,
        f"{where} for conditions {quote(batch.names)}, though the patterns of layers {quote(patterns)} are finite",
    )


def _stop(step: int, message: str) -> NoReturn:
    """Raise `DivergedError`, or at step 0, when nothing was trained, `BrainrdlError`."""
    if step == 0:
        refuse(f"{message}, before any training; check the weights, the images and the loss")
    raise DivergedError(f"{message}; lower lr, or set clip")


def check_patterns(step: int, patterns: Mapping[str, Tensor], names: Sequence[str], reason: str = "") -> None:
    """Refuse patterns that are NaN or Inf, and name step, layer and conditions.

    Parameters
    ----------
    step : int
        Steps done so far.
    patterns : mapping of layer to Tensor (n_conditions, n_channels)
    names : sequence of str
        Conditions.
    reason : str, optional
        Beginning of the message, if it already gives the step.

    Raises
    ------
    DivergedError
        If a pattern is NaN or Inf after a step.
    BrainrdlError
        If a pattern is NaN or Inf before any step.

    Examples
    --------
    >>> check_patterns(3, {"fc": torch.ones(2, 2)}, ["a", "b"])
    """
    where = reason or f"at step {step} "
    for layer, pattern in patterns.items():
        bad = (~torch.isfinite(pattern)).any(-1).tolist()
        if any(bad):
            listed = quote(name for name, is_bad in zip(names, bad, strict=True) if is_bad)
            _stop(step, f"{where}patterns of layer {layer!r} are NaN or Inf for conditions {listed}")


class Guard:
    """Remembers the first step with a loss that is NaN or Inf on the device, so that no step waits for the device.

    Examples
    --------
    >>> guard = Guard()
    >>> guard.see(4, torch.tensor(torch.nan), {"fc": torch.ones(2, 2)})
    >>> guard.check(lambda step: ("a", "b"))
    Traceback (most recent call last):
    brainrdl.DivergedError: loss is NaN or Inf at step 4 (conditions ['a', 'b']); lower lr, or set clip
    """

    def __init__(self) -> None:
        self._step: Tensor | None = None
        self._layers: tuple[str, ...] = ()
        self._bad = torch.zeros(0)

    def see(self, step: int, total: Tensor, patterns: Mapping[str, Tensor]) -> None:
        """Record a step: its loss, and which layers hold NaN or Inf."""
        broken = ~torch.isfinite(torch.stack([total.detach(), *(p.detach().float().sum() for p in patterns.values())]))
        if self._step is None:
            self._layers = tuple(patterns)
            self._step, self._bad = torch.full_like(broken[0], -1, dtype=torch.long), torch.zeros_like(broken)
        first = broken[0] & (self._step < 0)
        self._step = torch.where(first, step, self._step)
        self._bad = torch.where(first, broken, self._bad)

    def check(self, names_at: Callable[[int], Sequence[str]]) -> None:
        """Raise `DivergedError` if a step was bad; `names_at` gives the conditions of a step."""
        step = -1 if self._step is None else int(self._step)
        if step < 0:
            return
        layers = [layer for layer, bad in zip(self._layers, self._bad[1:].tolist(), strict=True) if bad]
        where = f", patterns of layers {quote(layers)}" if layers else ""
        _stop(step, f"loss is NaN or Inf at step {step}{where} (conditions {quote(names_at(step))})")
