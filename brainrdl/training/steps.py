"""What a run does: a training step, from the batches of its streams to the optimiser, and an evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from brainrdl._core.errors import DivergedError, arg, refuse
from brainrdl._core.threads import count_flops
from brainrdl.loss.rdm_loss import RDMLoss
from brainrdl.models.hooks import evaluating
from brainrdl.models.student import Student, StudentOutput
from brainrdl.runs.checkpoint import State
from brainrdl.stimuli.inputs import Images, joined
from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.teachers.protocol import Teacher, uses_images, view_of
from brainrdl.training.batch_statistics import check_shares, passed_in_turn, shared_statistics
from brainrdl.training.distributed import (
    agreed,
    average_gradients,
    check_same_buffers,
    gather,
    own,
    own_random_numbers,
)
from brainrdl.training.gradient_caching import cached_backward
from brainrdl.training.loading import Loader
from brainrdl.training.looks import Guard, batches_of, check_loss, look, look_at_task, to_device
from brainrdl.training.optimizers import step_schedule, tf32
from brainrdl.training.options import FitOptions
from brainrdl.training.pattern_memory import PatternMemory
from brainrdl.training.sampling import Batches
from brainrdl.training.stratified import StratifiedBatches
from brainrdl.training.streaming import PassingStream, Place
from brainrdl.training.task import Task
from brainrdl.training.terms import RDM, TASK, Balance, Term

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer


@dataclass
class Stream:
    """Images of one kind: those of the RDM, or those of the task.

    Parameters
    ----------
    stimuli : Stimuli
    batches : Batches or StratifiedBatches
        Names of each step.
    validation : tuple of str
        Names for validation.
    loader : Loader
        Loads the batch of a step.
    """

    stimuli: Stimuli
    batches: Batches | StratifiedBatches
    validation: tuple[str, ...]
    loader: Loader

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories of the images, in the order of their numbers."""
        return self.stimuli.categories

    @property
    def augmented(self) -> bool:
        """Whether the images of a step are changed at random."""
        return self.stimuli.augmentation is not None

    def names(self, step: int) -> tuple[str, ...]:
        """Names of the images of a step."""
        return self.batches.at(step)

    def few(self, n: int) -> Batch:
        """Load the first `n` images of the first step, without augmentation."""
        return self.stimuli.batch(self.batches.at(0)[:n])

    def shown(self, part: str, step: int, device: torch.device) -> Iterator[Batch]:
        """Load the images of an evaluation at `step`, of training or validation, without augmentation."""
        names = self.names(step) if part == "train" else self.validation
        return batches_of(self.stimuli, names, device, step)


@dataclass
class Run:
    """The parts of a run that change, and its two operations: a training step and an evaluation.

    `streams` has the stream "rdm" and, if the task is on other images, the stream "task".
    """

    student: Student
    teacher: Teacher | None
    streams: Mapping[str, Stream | PassingStream]
    task: Task | None
    terms: Mapping[str, Term]
    loss: RDMLoss
    balance: Balance
    options: FitOptions
    accelerator: Accelerator
    optimizer: torch.optim.Optimizer | AcceleratedOptimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    average: AveragedModel | None = None
    guard: Guard = field(default_factory=Guard)
    targets: dict[str, Tensor] = field(default_factory=dict)  # the teacher's RDMs of the last step

    @property
    def device(self) -> torch.device:
        """Device of the run."""
        return self.accelerator.device

    @property
    def evaluated(self) -> Student:
        """The student that is evaluated and returned: the averaged one, if weights are averaged."""
        return self.student if self.average is None else cast(Student, self.average.module)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the losses of a step."""
        return ("loss", "rdm_loss", "task_loss", *(f"{name}_loss" for name in self.terms))

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories of the task."""
        return self.streams.get(TASK, self.streams[RDM]).categories

    @property
    def rdm_stream(self) -> Stream:
        """Images of the RDM, which have names."""
        return cast(Stream, self.streams[RDM])

    def flops(self) -> float:
        """Estimate the floating-point operations of a forward pass on the CPU; infinity on another device."""
        if self.device.type != "cpu":
            return math.inf
        stream, channels = self.rdm_stream, 0
        n = len(stream.batches.at(0))

        def forward() -> None:
            nonlocal channels
            patterns = self.student(stream.stimuli.images(stream.batches.at(0)[:1])).patterns
            channels = sum(rows.shape[1] for rows in patterns.values())

        with evaluating(self.student):
            one_image = count_flops(forward)
        n_images = sum(len(self.streams[name].names(0)) for name in self._drawn())
        return n_images * one_image + 2 * n * n * channels

    def _drawn(self) -> tuple[str, ...]:
        """Return the streams of which a step needs images."""
        if TASK not in self.streams:
            return (RDM,)
        needed = self.options["rdm_weight"] or any(term.on == RDM for term in self.terms.values())
        return (RDM, TASK) if needed else (TASK,)

    def step(self, state: State) -> None:
        """Do one optimiser step."""
        started = time.perf_counter()
        step = state.step
        batches = {name: self.streams[name].loader.at(step) for name in self._drawn()}
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        shared = self.student.trainable_parameters() if self.balance.kind == "gradient norms" else []
        losses: dict[str, Tensor] = {}

        def total_of(outputs: Mapping[str, StudentOutput]) -> Tensor:
            losses.update(self._losses(batches, outputs, state))
            total = self.balance(losses, self._weights(step), shared, step)
            self._watch(total, outputs, batches, step)
            return total

        self.optimizer.zero_grad()
        with own_random_numbers(self.options["seed"], step, self.device):
            total = self._passes(batches, total_of)
        if step == 0:
            check_same_buffers(self.student)
        average_gradients(parameters)
        if self.options["clip"] is not None:
            self._clip(parameters, self.options["clip"])
        self._move(step)
        if not getattr(self.optimizer, "step_was_skipped", False):  # fp16 skips steps until its loss scale fits
            step_schedule(self.scheduler, total)
            if self.average is not None:
                self.average.update_parameters(self.student)
        state.losses.append(_row(total, *(losses.get(name) for name in (RDM, TASK, *self.terms))))
        state.step += 1
        state.seconds += time.perf_counter() - started

    def _passes(
        self, batches: Mapping[str, Batch], total_of: Callable[[Mapping[str, StudentOutput]], Tensor]
    ) -> Tensor:
        """Compute the total loss of the student's output for all streams, and its gradient."""
        images = {name: self._laid_out(own(batch.images)) for name, batch in batches.items()}
        micro_batch = self.options["micro_batch"]
        if micro_batch is None:
            with self._precision():
                outputs = self._outputs(images, batches)
            total = total_of(self._gathered(outputs, batches))
            self._backward(total)
            return total
        sizes = {name: len(each) for name, each in images.items()}
        _, total = cached_backward(
            self.student,
            self._joined(images),
            lambda output: total_of(self._gathered(_parted(output, sizes), batches)),
            micro_batch,
            self._backward,
            around=self._precision,
            around_backward=self._products,
        )
        return total

    def _outputs(self, images: Mapping[str, Images], batches: Mapping[str, Batch]) -> dict[str, StudentOutput]:
        """Pass the images of all streams through the student, together if they have one shape."""
        sizes = {name: len(batch.names) for name, batch in batches.items()}
        whole = None if self.student.batchnorm == "task" else joined(list(images.values()))
        if whole is None:
            passes = {name: partial(self._pass, name, each, sizes[name]) for name, each in images.items()}
            if self.student.batchnorm == "task":
                return {name: run() for name, run in passes.items()}
            return passed_in_turn(self.student, passes, sizes)
        check_shares(sizes, self.student)
        with shared_statistics(self.student, sum(sizes.values())):
            return _parted(self.student(whole), {name: len(each) for name, each in images.items()})

    def _joined(self, images: Mapping[str, Images]) -> Images:
        whole = joined(list(images.values()))
        if whole is None:
            shapes = {name: tuple(each.shape[1:]) for name, each in images.items()}
            refuse(
                f"{arg('micro_batch', self.options['micro_batch'])} needs images of one shape in all streams, got "
                f"{shapes}; give RDM and task images one transform"
            )
        return whole

    def _pass(self, stream: str, images: Images, n: int) -> StudentOutput:
        stored = stream == RDM and self.student.batchnorm == "task"
        with self.student.stored_statistics() if stored else shared_statistics(self.student, n):
            output: StudentOutput = self.student(images)
        return output

    def _gathered(self, outputs: Mapping[str, StudentOutput], batches: Mapping[str, Batch]) -> dict[str, StudentOutput]:
        """Join the rows of all processes; a task without images is on those of the RDM."""
        found = {name: _gathered(output, len(batches[name].names)) for name, output in outputs.items()}
        return found if TASK in self.streams else {RDM: found[RDM], TASK: found[RDM]}

    def _laid_out(self, images: Images) -> Images:
        if isinstance(images, Tensor) and self.options["channels_last"] and images.ndim == 4:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def _rdm_loss(self, batch: Batch, patterns: Mapping[str, Tensor], state: State) -> Tensor:
        """Compare the patterns of the batch, and of the conditions of earlier steps that are remembered."""
        if not self.options["memory"]:
            self.targets = self._targets(batch, (), state.step)
            return self.loss(patterns, self.targets, state.step)
        memory = PatternMemory(state.remembered, state.memory)
        others = memory.without(batch.names)
        self.targets = others.compared(self._targets(batch, others.names, state.step))
        memory = memory.after(batch.names, patterns, self.options["memory"])
        state.remembered, state.memory = memory.names, dict(memory.patterns)
        return self.loss(others.added_to(patterns), self.targets, state.step)

    def _targets(self, batch: Batch, remembered: tuple[str, ...], step: int) -> dict[str, Tensor]:
        """Ask the teacher for its RDMs of the batch and the remembered conditions, of the images it should be given."""
        if self.teacher is None:
            return {}
        stimuli, names = self.rdm_stream.stimuli, (*batch.names, *remembered)
        if remembered:
            if uses_images(self.teacher):
                return self.teacher.rdms(to_device(stimuli.batch(names, step), self.device))
            return self.teacher.rdms(Batch(names, torch.empty(0, device=self.device), None, step))
        if stimuli.augmentation is not None and uses_images(self.teacher) and view_of(self.teacher) == "clean":
            batch = to_device(stimuli.batch(batch.names, step), self.device)
        return self.teacher.rdms(batch)

    def _losses(
        self, batches: Mapping[str, Batch], outputs: Mapping[str, StudentOutput], state: State
    ) -> dict[str, Tensor]:
        shown = {TASK: batches[next(iter(batches))], **batches}
        losses = {}
        if self.options["rdm_weight"]:
            losses[RDM] = self._rdm_loss(batches[RDM], outputs[RDM].patterns, state)
        if self.task is not None:
            losses[TASK] = self.task.loss(outputs[TASK].logits, shown[TASK], self.categories)
        return losses | {name: term(outputs[term.on], shown[term.on], state.step) for name, term in self.terms.items()}

    def _weights(self, step: int) -> dict[str, float]:
        own_terms = {name: term.weight for name, term in self.terms.items()}
        task = {} if self.task is None else {TASK: self.task.weight(step)}
        return {RDM: self.options["rdm_weight"], **task, **own_terms}

    def _watch(
        self, total: Tensor, outputs: Mapping[str, StudentOutput], batches: Mapping[str, Batch], step: int
    ) -> None:
        """Check the loss: at once on the CPU; on other devices at the next evaluation, so that no step waits."""
        first = next(iter(self._drawn()))
        if self.device.type == "cpu":
            check_loss(total, outputs[first].patterns, self.targets, batches[first])
        else:
            self.guard.see(step, total, outputs[first].patterns)

    def check(self) -> None:
        """Refuse a run whose loss was NaN or Inf in a step before."""
        self.guard.check(self.streams[next(iter(self._drawn()))].names)

    def _clip(self, parameters: Sequence[Tensor], norm: float) -> None:
        if self.accelerator.scaler is None:
            torch.nn.utils.clip_grad_norm_(parameters, norm)
        else:
            self.accelerator.clip_grad_norm_(parameters, norm)  # which undoes the scale of the loss

    def _precision(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass of the network."""
        return self._reduced() if self.options["tf32"] or self.options["mixed_precision"] != "no" else nullcontext()

    @contextmanager
    def _reduced(self) -> Iterator[None]:
        with self.accelerator.autocast(), self._products():
            yield

    def _products(self) -> AbstractContextManager[None]:
        """Return the context of a backward pass of the network."""
        return tf32(self.options["tf32"], self.device)

    def _backward(self, total: Tensor) -> None:
        with self._products():
            # Accelerate looks for optional packages at each call, which takes longer than a small network's pass.
            if self.accelerator.scaler is None:
                total.backward()
            else:
                self.accelerator.backward(total)

    def _move(self, step: int) -> None:
        try:
            self.optimizer.step()
        except RuntimeError as error:
            if "overflow" not in str(error):
                raise
            lr = self.scheduler.get_last_lr()[0]
            message = f"lr={lr!r} is too large for the optimiser at step {step}: {error}; lower lr"
            raise DivergedError(message) from error

    def look(self, state: State) -> dict[str, float]:
        """Evaluate on the conditions of the next step and of validation, and remember the best student."""
        self.check()
        losses = dict(zip(self.columns, _column_means(state.losses, len(self.columns)), strict=True))
        lr = float(self.scheduler.get_last_lr()[0])
        row = {"step": state.step, **losses, "lr": lr, "seconds": state.seconds}
        for part in ("train", "validation"):
            row |= {f"{part}_{what}": value for what, value in self._measure(part, state.step).items()}
        state.losses.clear()
        state.history.append(row)
        if any(stream.validation for stream in self.streams.values()):
            state.remember(self._score(row), self.evaluated)
        return row

    def _score(self, row: Mapping[str, float]) -> float:
        monitor = self.options["monitor"]
        score = agreed(monitored(row, monitor), self.device)
        if math.isnan(score):
            needs = {
                "similarity": f"a teacher and {arg('validation')} stimuli of the RDM; {arg('monitor', 'accuracy')} "
                "uses the validation images of the task",
                "task loss": "a task with validation images",
            }.get(
                monitor,
                "validation images of the task: Task(..., validation=0.2), or of a stream Task(..., validation=stimuli)"
                if TASK in self.streams
                else "labels of the validation images and logits",
            )
            refuse(
                f"{arg('monitor', monitor)} is NaN on the validation stimuli at step {row['step']}; it needs {needs}"
            )
        return score

    def _measure(self, part: str, step: int) -> dict[str, float]:
        measured = dict.fromkeys(("similarity", "accuracy", "task_loss", "n_constant"), math.nan)
        for name, stream in self.streams.items():
            names = stream.names(step) if part == "train" else stream.validation
            if not names:
                continue
            if name == TASK and self.task is not None:
                batches = stream.shown(part, step, self.device)
                measured |= look_at_task(self.evaluated, self.task, batches, self.categories)
            else:
                batch = to_device(self.rdm_stream.stimuli.batch(names, step), self.device)
                task = None if TASK in self.streams else self.task
                found = look(self.evaluated, self.teacher, batch, self.loss, task, self.categories)
                # The logits are for the categories of the task, not for those of these images.
                measured |= found | ({"accuracy": math.nan} if TASK in self.streams else {})
        return measured

    def latest(self, state: State) -> dict[str, Tensor]:
        """Return the losses of the last step, on their device."""
        return dict(zip(self.columns, state.losses[-1], strict=True))

    def places(self) -> dict[str, Place]:
        """Return where the last step was in streams without names, for a checkpoint."""
        return {name: s.loader.place() for name, s in self.streams.items() if isinstance(s, PassingStream)}

    def resume(self, places: Mapping[str, Place]) -> None:
        """Read streams without names up to where a checkpoint was written."""
        for name, place in places.items():
            stream = self.streams[name]
            if isinstance(stream, PassingStream):
                stream.loader.resume(place)

    def close(self) -> None:
        """Stop loading images."""
        for stream in self.streams.values():
            stream.loader.close()


def monitored(row: Any, monitor: str) -> Any:
    """Return the measure of the validation stimuli that chooses the best step, higher is better.

    Parameters
    ----------
    row : mapping of column to float, or DataFrame
        A row of the history, or a history.
    monitor : {"similarity", "accuracy", "task loss", "both"}

    Examples
    --------
    >>> monitored({"validation_task_loss": 0.5}, "task loss")
    -0.5
    """
    if monitor == "task loss":
        return -row["validation_task_loss"]
    similarity, accuracy = (f"validation_{what}" for what in ("similarity", "accuracy"))
    return row[similarity] + row[accuracy] if monitor == "both" else row[f"validation_{monitor}"]


def _parted(output: StudentOutput, sizes: Mapping[str, int]) -> dict[str, StudentOutput]:
    """Divide the output of a joint pass among the streams, in order."""
    if len(sizes) == 1:
        return dict.fromkeys(sizes, output)
    lengths = list(sizes.values())
    patterns = {layer: rows.split(lengths) for layer, rows in output.patterns.items()}
    logits = [None] * len(lengths) if output.logits is None else output.logits.split(lengths)
    return {
        name: StudentOutput({layer: rows[k] for layer, rows in patterns.items()}, logits[k])
        for k, name in enumerate(sizes)
    }


def _gathered(output: StudentOutput, n: int) -> StudentOutput:
    patterns = {layer: gather(rows, n) for layer, rows in output.patterns.items()}
    return StudentOutput(patterns, None if output.logits is None else gather(output.logits, n))


def _row(*losses: Tensor | None) -> Tensor:
    """Losses of a step, on their device; NaN for None."""
    missing = _missing(next(loss.device for loss in losses if loss is not None))
    return torch.stack([missing if loss is None else loss.detach().float() for loss in losses])


@cache
def _missing(device: torch.device) -> Tensor:
    return torch.full((), math.nan, device=device)


def _column_means(rows: Sequence[Tensor], n: int) -> list[float]:
    if not rows:
        return [math.nan] * n
    means: list[float] = torch.stack(list(rows)).double().mean(0).tolist()
    return means
