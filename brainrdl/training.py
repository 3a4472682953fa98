"""The training loop, readable on one page: `fit` moves a student's RDMs towards a teacher's.

Everything random is a function of (seed, step), so a run that was interrupted goes on as if nothing had happened. Stimuli that
are held out for testing are never asked for; validation stimuli are looked at, and never trained on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from brainrdl import result as _result
from brainrdl._checks import check_conditions, check_option, check_unique, quote, refuse
from brainrdl.distributed import gather, own_rows
from brainrdl.engine import make_accelerator, make_optimizer, make_schedule
from brainrdl.loss import RDMLoss
from brainrdl.monitor import check_loss, event_writer, look, progress_bar, to_device
from brainrdl.result import FitResult, State
from brainrdl.sampling import MIN_CONDITIONS, Batches, split
from brainrdl.stimuli import Batch, Stimuli
from brainrdl.student import Student
from brainrdl.teachers import RDMTeacher, Teacher

if TYPE_CHECKING:
    from accelerate import Accelerator

MONITORS = ("similarity", "accuracy")
_NOT_SETTINGS = ("student", "teacher", "stimuli", "train", "validation", "held_out", "out", "resume", "overwrite", "progress", "device")
_CALIBRATION = 512  # training stimuli that set the z-scores and lazy shapes; more would not change them noticeably


def fit(
    student: Student,
    teacher: Teacher | None,
    stimuli: Stimuli,
    *,
    train: Sequence[str] | None = None,
    validation: Sequence[str] | float = (),
    held_out: Iterable[str] = (),
    loss: RDMLoss | None = None,
    rdm_weight: float = 1.0,
    task_weight: float = 0.0,
    steps: int = 200,
    batch_size: int | None = None,
    optimizer: str | Callable[..., torch.optim.Optimizer] = "adam",
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    schedule: str | Callable[..., torch.optim.lr_scheduler.LRScheduler] = "constant",
    clip: float | None = None,
    patience: int | None = None,
    monitor: str = "similarity",
    evaluate_every: int = 10,
    checkpoint_every: int = 100,
    seed: int = 0,
    device: str = "auto",
    mixed_precision: str = "no",
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> FitResult:
    """Train `student` in place so that its RDMs approach the teacher's, alone or beside a classification task.

    Parameters
    ----------
    student : Student
        Calibrated here on training stimuli, and trained in place.
    teacher : Teacher or None
        Where the RDMs come from; None for a task alone (``rdm_weight=0``).
    stimuli : Stimuli
        Holds every name used here.
    train : sequence of str, optional
        Names to train on; by default all stimuli that are neither in `validation` nor in `held_out`.
    validation : sequence of str, or float
        Names to watch, or the share of `train` to set aside for it. With validation, the best look becomes the result.
    held_out : iterable of str
        Names kept for testing, never used here; a name or byte-identical image of theirs among the others is refused.
    loss : RDMLoss, optional
        ``RDMLoss(match=student.match)`` by default.
    rdm_weight, task_weight : float
        Weights of the RDM loss, and of the cross-entropy between the student's logits and the stimuli's labels.
    steps : int
        Optimiser steps.
    batch_size : int, optional
        Conditions that meet in a step; all training conditions by default.
    optimizer : {"adam", "adamw", "sgd", "rmsprop"} or callable
        A name, or a function ``(parameters, lr=, weight_decay=) -> Optimizer``.
    lr, weight_decay : float
        Learning rate and weight decay of the optimiser.
    schedule : {"constant", "cosine", "linear"} or callable
        A name, or a function ``optimizer -> LRScheduler``; stepped once a step.
    clip : float, optional
        Largest norm of the gradient.
    patience : int, optional
        Stop after this many looks at the validation stimuli without a better one; never by default.
    monitor : {"similarity", "accuracy"}
        What makes a look better: the RDM correlation, or the task's accuracy, on validation stimuli.
    evaluate_every, checkpoint_every : int
        Steps between looks, and between checkpoints in `out`.
    seed : int
        Seeds torch's global generator and every draw here.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to train; several devices when started with ``torchrun`` or ``accelerate launch``.
    mixed_precision : {"no", "fp16", "bf16"}
        Precision of the network; RDMs are computed in float32 always.
    out : path, optional
        Run folder, see `brainrdl.result`; nothing is written without.
    resume, overwrite : bool
        What to do when the run folder exists.
    progress : bool
        Show a bar with live RDM correlations.

    Returns
    -------
    FitResult

    Raises
    ------
    BrainrdlError
        For unknown names or options, leaking stimuli, fewer than 4 conditions in a part, a device that is not there, an existing
        run folder, a damaged or foreign checkpoint, or a loss that is NaN or Inf (step, layer and conditions are named).

    Examples
    --------
    >>> import numpy as np, torch
    >>> from brainrdl import RDMTeacher, Stimuli, Student, fit, rdms
    >>> names = [f"image{i}" for i in range(8)]
    >>> teacher = RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 28)), names))
    >>> stimuli = Stimuli.from_arrays(torch.rand(8, 1, 8, 8), names)
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16)), ["1"])
    >>> history = fit(student, teacher, stimuli, steps=20, device="cpu", progress=False).history
    >>> bool(history.train_similarity.iloc[-1] > history.train_similarity.iloc[0])
    True
    """
    settings = _result.describe({key: value for key, value in locals().items() if key not in _NOT_SETTINGS})
    check_option(monitor, MONITORS, "monitor")
    if teacher is None and rdm_weight:
        refuse(f"there is no teacher for rdm_weight={rdm_weight!r}; give one, or set rdm_weight=0")
    train, validation = training_names(stimuli, train, validation, held_out, seed)
    batches = Batches(train, batch_size, seed)
    settings |= {"train": list(train), "validation": list(validation), "layers": list(student.layers)}
    settings |= {"teacher": getattr(teacher, "name", None), "student": _result.digest(student.state_dict())}
    folder = None if out is None else _result.open_folder(out, resume=resume, overwrite=overwrite)
    if folder and (folder / _result.WEIGHTS).exists():
        return _result.load_fit(folder, student, settings)

    accelerator = make_accelerator(device, mixed_precision)
    torch.manual_seed(seed)
    student.to(accelerator.device)
    student.calibrate(stimuli.images(train[:_CALIBRATION]).to(accelerator.device))
    optim = make_optimizer(optimizer, student.trainable_parameters(), lr, weight_decay)
    scheduler = make_schedule(schedule, optim, steps)
    model, optim = accelerator.prepare(student, optim)
    run = _Run(
        student, model, teacher if rdm_weight else None, stimuli, batches, validation, loss or RDMLoss(match=student.match),
        rdm_weight, task_weight, clip, monitor, accelerator, optim, scheduler,
    )  # fmt: skip
    writes = folder is not None and accelerator.is_main_process
    state = State()
    if folder and (folder / _result.CHECKPOINT).exists():
        state = _result.load_checkpoint(folder / _result.CHECKPOINT, student, optim, scheduler, settings)
    facts = _provenance(teacher, stimuli, train, str(accelerator.device))
    if writes:
        _result.write_json(folder / _result.SETTINGS, settings)
        _result.write_json(folder / _result.PROVENANCE, facts)

    events = folder if writes else None
    with progress_bar(steps, state.step, progress and accelerator.is_main_process) as show, event_writer(events) as write:
        while True:
            if state.step % evaluate_every == 0 or state.step == steps:
                row = run.look(state)
                show(row)
                write(row)
            if state.step == steps or (patience is not None and state.looks_since_best >= patience):
                break
            run.step(state)
            if writes and state.step % checkpoint_every == 0:
                _result.save_checkpoint(folder / _result.CHECKPOINT, state, student, optim, scheduler, settings)

    accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # takes the mixed-precision wrapper off the student's forward
    if state.best is not None:
        student.load_state_dict(state.best)
    best_step = state.step if state.best is None else state.best_step
    fitted = FitResult(student, pd.DataFrame(state.history), best_step, settings, facts, folder)
    if writes:
        _result.save_fit(fitted)
    return fitted


@dataclass
class _Run:
    """The moving parts of one run, and its two motions: a step of training, a look."""

    student: Student
    model: torch.nn.Module  # the student as Accelerate wraps it
    teacher: Teacher | None
    stimuli: Stimuli
    batches: Batches
    validation: tuple[str, ...]
    loss: RDMLoss
    rdm_weight: float
    task_weight: float
    clip: float | None
    monitor: str
    accelerator: Accelerator
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler

    def step(self, state: State) -> None:
        """One optimiser step."""
        started = time.perf_counter()
        batch = self._batch(self.batches.at(state.step), state.step)
        self.model.train()
        output = self.model(batch.images[own_rows(len(batch.names))])
        patterns = {layer: gather(rows, len(batch.names)) for layer, rows in output.patterns.items()}
        targets = self.teacher.rdms(batch) if self.teacher else {}
        rdm_loss = self.loss(patterns, targets, state.step) if self.teacher else None
        task_loss = _task_loss(output.logits, batch) if self.task_weight else None
        total = _weighted_sum((self.rdm_weight, rdm_loss), (self.task_weight, task_loss))
        check_loss(total, patterns, targets, batch)
        self.optimizer.zero_grad()
        self.accelerator.backward(total)
        if self.clip is not None:
            self.accelerator.clip_grad_norm_(self.student.parameters(), self.clip)
        self.optimizer.step()
        self.scheduler.step()
        state.losses.append([_number(total), _number(rdm_loss), _number(task_loss)])
        state.step += 1
        state.seconds += time.perf_counter() - started

    def look(self, state: State) -> dict[str, float]:
        """Measure on the step's training conditions and on the validation ones; remember the best student."""
        row = dict(zip(("loss", "rdm_loss", "task_loss"), _column_means(state.losses), strict=True))
        row = {"step": state.step, **row, "lr": self.scheduler.get_last_lr()[0], "seconds": state.seconds}
        for part, names in (("train", self.batches.at(state.step)), ("validation", self.validation)):
            row |= {f"{part}_{what}": value for what, value in self._measure(names, state.step).items()}
        state.losses.clear()
        state.history.append(row)
        if self.validation:
            state.remember(row[f"validation_{self.monitor}"], self.student)
        return row

    def _measure(self, names: tuple[str, ...], step: int) -> dict[str, float]:
        if not names:
            return {"similarity": float("nan"), "accuracy": float("nan"), "n_constant": float("nan")}
        return look(self.student, self.teacher, self._batch(names, step), self.loss)

    def _batch(self, names: tuple[str, ...], step: int) -> Batch:
        return to_device(self.stimuli.batch(names, step), self.accelerator.device)


def training_names(
    stimuli: Stimuli,
    train: Sequence[str] | None = None,
    validation: Sequence[str] | float = (),
    held_out: Iterable[str] = (),
    seed: int = 0,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names to train on and to validate on; refuses any that leak into one another or into the held-out ones.

    Parameters
    ----------
    stimuli, train, validation, held_out, seed
        As in `fit`.

    Returns
    -------
    tuple of two tuples of str

    Raises
    ------
    BrainrdlError
        If a name is unknown, doubled or in two parts, an image of one part is byte-identical to one of another, or a part that is
        asked for holds fewer than 4 conditions.

    Examples
    --------
    >>> import torch
    >>> stimuli = Stimuli.from_arrays(torch.rand(10, 1, 4, 4), list("abcdefghij"))
    >>> train, validation = training_names(stimuli, validation=0.4, held_out=[])
    >>> len(train), len(validation)
    (6, 4)
    """
    held_out = tuple(held_out)
    watched = () if isinstance(validation, float) else tuple(validation)
    train = tuple(train) if train is not None else tuple(n for n in stimuli.names if n not in {*held_out, *watched})
    if isinstance(validation, float):
        train, watched = split(train, validation, seed)
    parts = {"train": train, "validation": watched, "held_out": held_out}
    for part, names in parts.items():
        check_unique(names, f"the {part} list")
        check_conditions(names, stimuli.names, "the stimuli")
    if watched and len(watched) < MIN_CONDITIONS:
        refuse(f"validation needs at least {MIN_CONDITIONS} conditions, got {len(watched)}: {quote(watched)}")
    check_no_leak(stimuli, parts)
    return train, watched


def check_no_leak(stimuli: Stimuli, parts: Mapping[str, Sequence[str]]) -> None:
    """Refuse a name, or a byte-identical image, that stands in two parts.

    Parameters
    ----------
    stimuli : Stimuli
    parts : mapping of part to names

    Raises
    ------
    BrainrdlError
        If parts overlap; the names of both are quoted.

    Examples
    --------
    >>> import torch
    >>> stimuli = Stimuli.from_arrays(torch.zeros(2, 1, 4, 4), ["a", "b"])
    >>> check_no_leak(stimuli, {"train": ["a"], "held_out": ["b"]})
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: 'b' of held_out is byte-identical to 'a' of train; drop one of them
    """
    if sum(bool(names) for names in parts.values()) < 2:
        return
    digests = stimuli.select(dict.fromkeys(name for names in parts.values() for name in names)).digests()
    first: dict[str, tuple[str, str]] = {}
    for part, names in parts.items():
        for name in names:
            other, other_name = first.setdefault(digests[name], (part, name))
            if other == part:
                continue
            if other_name == name:
                refuse(f"{name!r} stands in {other} and in {part}; the parts must not share stimuli")
            refuse(f"{name!r} of {part} is byte-identical to {other_name!r} of {other}; drop one of them")


def _task_loss(logits: Tensor | None, batch: Batch) -> Tensor:
    if logits is None or batch.labels is None:
        missing = "logits from the student" if logits is None else "labels of the stimuli"
        refuse(f"task_weight asks for a classification task, but there are no {missing}")
    return functional.cross_entropy(gather(logits, len(batch.names)).float(), batch.labels)


def _weighted_sum(*terms: tuple[float, Tensor | None]) -> Tensor:
    known = [weight * term for weight, term in terms if term is not None]
    if not known:
        refuse("there is nothing to learn: rdm_weight and task_weight are both 0")
    return torch.stack(known).sum()


def _number(value: Tensor | None) -> float:
    return float("nan") if value is None else value.item()


def _column_means(rows: Sequence[Sequence[float]]) -> list[float]:
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 3).mean(0).tolist()


def _provenance(teacher: Teacher | None, stimuli: Stimuli, train: tuple[str, ...], device: str) -> dict[str, Any]:
    digests = stimuli.select(train).digests()
    hashes = {"stimuli": _result.hash_words(digests.values())}
    if isinstance(teacher, RDMTeacher):
        batch = Batch(train, torch.empty(0), None)
        hashes["teacher"] = _result.digest(teacher.rdms(batch))
    return _result.provenance(**hashes) | {"device": device}
