"""The training loop, readable on one page: `fit` moves a student's RDMs towards a teacher's.

Everything random is a function of (seed, step) or kept in the checkpoint, so an interrupted run can be resumed
with the same result. Images that are held out for testing are never shown to the network; validation stimuli are used
for evaluation and never for training. Accelerate provides the device, autocast and loss scaling; `brainrdl.training`
lists the other modules.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from brainrdl._core import files as _files
from brainrdl._core.errors import arg, check_conditions, refuse
from brainrdl._core.options import check_known, complete, free, lists_options
from brainrdl._core.signals import Stopped, deferred
from brainrdl._core.threads import count_flops, threads_for
from brainrdl.loss.rdm_loss import RDMLoss
from brainrdl.models.hooks import evaluating
from brainrdl.models.student import Student
from brainrdl.stimuli.categories import groups_of
from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.teachers.protocol import Teacher, check_stored, cut_down, known_conditions
from brainrdl.training import checkpoint as _checkpoint, provenance, run_folder
from brainrdl.training.checkpoint import State
from brainrdl.training.display import event_writer, progress_bar
from brainrdl.training.distributed import (
    agreed,
    anywhere,
    average_gradients,
    check_same_buffers,
    gather,
    n_processes,
    own,
    own_random_numbers,
    start_alike,
)
from brainrdl.training.fingerprint import hashes_of, settings_of
from brainrdl.training.frozen_features import FrozenFeatures
from brainrdl.training.looks import check_loss, look, to_device
from brainrdl.training.optimizers import make_accelerator, make_optimizer, make_schedule, step_schedule
from brainrdl.training.options import FitOptions
from brainrdl.training.run_folder import FitResult
from brainrdl.training.sampling import Batches
from brainrdl.training.stimulus_lists import calibration_names, training_names

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

_FEW = 4  # images that show whether gradients reach the network


@lists_options(FitOptions)
def fit(
    student: Student,
    teacher: Teacher | None,
    stimuli: Stimuli,
    *,
    train: Sequence[str] | None = None,
    validation: Sequence[str] | float = (),
    held_out: Iterable[str] = (),
    loss: RDMLoss | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    features: FrozenFeatures | None = None,
    **options: Unpack[FitOptions],
) -> FitResult:
    """Train `student` in place so that its RDMs approach the teacher's, with or without a classification task.

    Parameters
    ----------
    student : Student
        Network to fit: calibrated on training stimuli, and trained in place.
    teacher : Teacher or None
        Source of the RDMs; None to train only on a task (``rdm_weight=0``).
    stimuli : Stimuli
        Images of all conditions named below.
    train : sequence of str, optional
        Names to train on; by default all stimuli that are neither in `validation` nor in `held_out`.
    validation : sequence of str, or float
        Names for validation, or the fraction of `train` to use for it. With validation, the weights of the best
        evaluation are returned.
    held_out : iterable of str
        Names reserved for testing, never used here. The fit is refused if one of these names, a byte-identical image,
        or an image of the same group is among the others.
    loss : RDMLoss, optional
        ``RDMLoss()`` by default; a loss without `match` uses that of the student.
    out : path, optional
        Run folder, see `brainrdl.training`; without it nothing is written.
    resume, overwrite : bool
        What to do if the run folder exists. With a folder, Ctrl-C, SIGTERM and SIGHUP write a checkpoint at the end of
        the step before they stop the run. The checkpoint stores only torch's random state: if your network or
        transform draws from NumPy or Python's `random`, a resumed run draws other numbers.
    progress : bool
        Show a progress bar with the current RDM correlations.
    features : FrozenFeatures, optional
        Stored outputs of frozen networks. If only the read-outs of a student are trained, its network's outputs are
        computed once per stimulus; several fits to the same stimuli can share them.
    **options
        See `brainrdl.training.FitOptions`.

    Returns
    -------
    FitResult

    Raises
    ------
    BrainrdlError
        For unknown names or options, leaking stimuli, fewer than 4 conditions in a part, an unavailable device, an
        existing run folder, one that another process uses, a file in it that has changed since it was written, a
        checkpoint that is damaged or of another run, or a loss that is NaN or Inf (the message names step, layer and
        conditions).
    KeyboardInterrupt
        If the run was asked to stop; the checkpoint is written.

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
    _check_kinds(student, teacher, stimuli)
    check_known(options, fit)
    asked = complete(FitOptions, options)
    _check_together(student, teacher, asked)
    stimuli.check_repeatable()
    seed, steps, patience = asked["seed"], asked["steps"], asked["patience"]
    groups = asked["groups"] = groups_of(asked["groups"], stimuli.names)
    train, validation = training_names(stimuli, train, validation, held_out, seed, groups)
    _check_known(teacher, (*train, *validation))
    if teacher is not None:
        # Weights of subjects must not depend on held-out or validation conditions.
        teacher = cut_down(teacher, (*train, *validation), weigh_by=train)
    batches = Batches(train, asked["batch_size"], seed)
    loss, features = loss or RDMLoss(), features or FrozenFeatures(stimuli)
    features.check(stimuli)
    loss = replace(loss, match=student.match) if loss.match is None else loss

    accelerator = make_accelerator(asked["device"], asked["mixed_precision"])
    _check_statistics(student)  # now the number of processes is known
    if out is not None and accelerator.is_main_process:
        run_folder.check_folder(out, resume=resume, overwrite=overwrite)
    student.to(accelerator.device)
    start_alike(student)
    with_labels = bool(asked["task_weight"]) or asked["monitor"] == "accuracy"
    hashes = hashes_of(teacher, stimuli, (*train, *validation), with_labels)
    settings = provenance.describe({name: value for name, value in asked.items() if name not in free(FitOptions)})
    settings |= settings_of(student, teacher, stimuli, loss, train, validation)
    settings |= {"hashes": hashes}
    facts = provenance.gather_provenance(**hashes) | {"device": str(accelerator.device)}
    folder = None if out is None else Path(out)
    if folder and resume and (folder / run_folder.WEIGHTS).exists():
        return run_folder.load_fit(folder, student, settings)

    mode = student.training
    torch.manual_seed(seed)
    learner, shown_stimuli = student, stimuli
    if not asked["task_weight"] and features.serves(student, teacher):
        learner, shown_stimuli = features.of(student, (*train, *validation))
    learner.calibrate(shown_stimuli.images(calibration_names(train)))
    optim = make_optimizer(asked["optimizer"], learner.trainable_parameters(), asked["lr"], asked["weight_decay"])
    if asked["rdm_weight"]:
        learner.check_gradients(shown_stimuli.images(batches.at(0)[:_FEW]))
    scheduler = make_schedule(asked["schedule"], optim, steps)
    run = _Run(
        learner, teacher, shown_stimuli, batches, validation, loss, asked, accelerator, accelerator.prepare(optim),
        scheduler,
    )  # fmt: skip
    state, moving = State(), (learner, optim, scheduler, settings, accelerator.scaler)
    shown = progress and accelerator.is_main_process
    with (
        threads_for(run.flops()),
        _opened(out, resume, overwrite, accelerator) as target,
        deferred() if folder else nullcontext(()) as asked_to_stop,
    ):
        accelerator.wait_for_everyone()  # until the folder is ready
        if folder and (folder / run_folder.WEIGHTS).exists():  # finished by another process before this one locked it
            student.train(mode)
            return run_folder.load_fit(folder, student, settings)
        if folder and (folder / run_folder.CHECKPOINT).exists():
            state = _checkpoint.load_checkpoint(folder / run_folder.CHECKPOINT, *moving)
        accelerator.wait_for_everyone()  # all ranks check for the checkpoint before the first rank writes
        if target:
            _files.write_json(target / run_folder.PROVENANCE, facts)
            _files.write_json(target / run_folder.SETTINGS, settings)
        learner.train()
        with progress_bar(steps, state.step, shown) as show, event_writer(target) as write:
            while True:
                if state.step % asked["evaluate_every"] == 0 or state.step == steps:
                    row = run.look(state)
                    show(row)
                    write(row)
                if state.step == steps or (patience is not None and state.looks_since_best >= patience):
                    break
                run.step(state)
                stop = bool(folder) and anywhere(bool(asked_to_stop), accelerator.device)
                if target and (stop or state.step % asked["checkpoint_every"] == 0):
                    _checkpoint.save_checkpoint(target / run_folder.CHECKPOINT, state, *moving)
                if stop:
                    raise Stopped(
                        next(iter(asked_to_stop), signal.SIGTERM),
                        f"{state.step} of {steps} steps are in {str(folder)!r}; continue with resume=True",
                    )

        if state.best is not None:
            learner.load_state_dict(state.best)
        student.train(mode)
        best_step = state.step if state.best is None else state.best_step
        fitted = FitResult(student, pd.DataFrame(state.history), best_step, settings, facts, folder)
        if target:
            run_folder.save_fit(fitted)
    accelerator.wait_for_everyone()  # the folder is complete when `fit` returns on any rank
    return fitted


def _opened(
    out: Path | str | None, resume: bool, overwrite: bool, accelerator: Accelerator
) -> AbstractContextManager[Path | None]:
    """Open the run folder on the first rank; the others do not write."""
    if out is None or not accelerator.is_main_process:
        return nullcontext()
    return run_folder.opened(out, resume=resume, overwrite=overwrite)


@dataclass
class _Run:
    """The parts of one run that change, and its two operations: a training step and an evaluation."""

    student: Student
    teacher: Teacher | None
    stimuli: Stimuli
    batches: Batches
    validation: tuple[str, ...]
    loss: RDMLoss
    options: FitOptions
    accelerator: Accelerator
    optimizer: AcceleratedOptimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler

    def flops(self) -> float:
        """Estimate the floating-point operations of a forward pass on the CPU; infinity on another device."""
        if self.accelerator.device.type != "cpu":
            return math.inf
        names, channels = self.batches.at(0), 0

        def forward() -> None:
            nonlocal channels
            patterns = self.student(self.stimuli.images(names[:1])).patterns
            channels = sum(rows.shape[1] for rows in patterns.values())

        with evaluating(self.student):
            count_flops(forward)  # the first pass through a layer tests its rows, which is not part of a step
            one_image = count_flops(forward)
        return len(names) * (one_image + 2 * len(names) * channels)

    def step(self, state: State) -> None:
        """Do one optimiser step."""
        started = time.perf_counter()
        batch = self._batch(self.batches.at(state.step), state.step, augmented=True)
        n = len(batch.names)
        rdm_weight, task_weight, clip = self.options["rdm_weight"], self.options["task_weight"], self.options["clip"]
        draws = own_random_numbers(self.options["seed"], state.step, self.accelerator.device)
        with self.accelerator.autocast(), draws:
            output = self.student(own(batch.images))
        if state.step == 0:
            check_same_buffers(self.student)
        patterns = {layer: gather(rows, n) for layer, rows in output.patterns.items()}
        targets = self.teacher.rdms(batch) if self.teacher and rdm_weight else {}
        rdm_loss = self.loss(patterns, targets, state.step) if rdm_weight else None
        task_loss = _task_loss(output.logits, batch, len(self.stimuli.categories)) if task_weight else None
        total = _weighted_sum((rdm_weight, rdm_loss), (task_weight, task_loss))
        seen = _numbers(total, rdm_loss, task_loss)
        check_loss(seen[0], patterns, targets, batch)
        self.optimizer.zero_grad()
        self.accelerator.backward(total)
        average_gradients(self.student.parameters())
        if clip is not None:
            self.accelerator.clip_grad_norm_(self.student.parameters(), clip)
        self._move(state.step)
        if not self.optimizer.step_was_skipped:  # fp16 skips steps until its loss scale fits
            step_schedule(self.scheduler, seen[0])
        state.losses.append(seen)
        state.step += 1
        state.seconds += time.perf_counter() - started

    def _move(self, step: int) -> None:
        try:
            self.optimizer.step()
        except RuntimeError as error:
            if "overflow" not in str(error):
                raise
            lr = self.scheduler.get_last_lr()[0]
            refuse(f"lr={lr!r} is too large for the optimiser at step {step}: {error}; lower lr")

    def look(self, state: State) -> dict[str, float]:
        """Evaluate on the conditions of the next step and of validation, and remember the best student."""
        losses = dict(zip(("loss", "rdm_loss", "task_loss"), _column_means(state.losses), strict=True))
        lr = float(self.scheduler.get_last_lr()[0])
        row = {"step": state.step, **losses, "lr": lr, "seconds": state.seconds}
        for part, names in (("train", self.batches.at(state.step)), ("validation", self.validation)):
            row |= {f"{part}_{what}": value for what, value in self._measure(names, state.step).items()}
        state.losses.clear()
        state.history.append(row)
        if self.validation:
            state.remember(self._score(row), self.student)
        return row

    def _score(self, row: Mapping[str, float]) -> float:
        monitor = self.options["monitor"]
        score = agreed(row[f"validation_{monitor}"], self.accelerator.device)
        if math.isnan(score):
            needs = "a teacher" if monitor == "similarity" else "labels of the stimuli and logits"
            refuse(f"monitor={monitor!r} is NaN on the validation stimuli at step {row['step']}; it needs {needs}")
        return score

    def _measure(self, names: tuple[str, ...], step: int) -> dict[str, float]:
        if not names:
            return {"similarity": math.nan, "accuracy": math.nan, "n_constant": math.nan}
        return look(self.student, self.teacher, self._batch(names, step), self.loss)

    def _batch(self, names: tuple[str, ...], step: int, augmented: bool = False) -> Batch:
        return to_device(self.stimuli.batch(names, step, augmented), self.accelerator.device)


def _check_kinds(student: object, teacher: object, stimuli: object) -> None:
    """Refuse arguments of another kind, which would cause an unclear error later."""
    if not isinstance(student, Student):
        refuse(f"student must be a Student, got {type(student).__name__}; wrap a network: Student(network, [layer])")
    if teacher is not None and not isinstance(teacher, Teacher):
        refuse(f"teacher must have name, targets and rdms, got {teacher!r}; make one of a file: RDMTeacher('it.h5')")
    if not isinstance(stimuli, Stimuli):
        refuse(f"stimuli must be Stimuli, got {type(stimuli).__name__}; for a folder of images: Stimuli.from_folder")


def _check_together(student: Student, teacher: Teacher | None, options: FitOptions) -> None:
    """Refuse combinations of options that cannot work."""
    if not options["rdm_weight"] and not options["task_weight"]:
        refuse("there is nothing to learn: rdm_weight and task_weight are both 0")
    if teacher is None and options["rdm_weight"]:
        refuse(
            f"there is no teacher for {arg('rdm_weight', options['rdm_weight'])}; give one, or set "
            f"{arg('rdm_weight', 0)}"
        )
    if student.trainable == "projection" and options["task_weight"]:
        refuse("trainable='projection' does not change the network, so task_weight has no effect; set it to 0")
    if student.frozen and options["monitor"] == "accuracy":
        refuse(
            f"{arg('monitor', 'accuracy')} does not change if the network is frozen; use {arg('monitor', 'similarity')}"
        )


def _check_statistics(student: Student) -> None:
    if student.batchnorm == "train" and n_processes() > 1:
        refuse(
            f"{arg('batchnorm', 'train')} uses separate statistics in each process; with several processes use "
            f"{arg('batchnorm', 'eval')}"
        )


def _check_known(teacher: Teacher | None, names: Sequence[str]) -> None:
    if teacher is None:
        return
    check_stored(teacher)
    known = known_conditions(teacher)
    if known is not None:
        check_conditions(names, known, f"teacher {teacher.name!r}")


def _task_loss(logits: Tensor | None, batch: Batch, n_categories: int) -> Tensor:
    if logits is None or batch.labels is None:
        missing = (
            "logits from the student (n, n_classes), as a tensor or a field `logits`"
            if logits is None
            else "labels of the stimuli"
        )
        refuse(f"task_weight asks for a classification task, but there are no {missing}")
    if logits.shape[1] < n_categories:
        refuse(
            f"the student has {logits.shape[1]} logits for {n_categories} categories; give its last layer more outputs"
        )
    return functional.cross_entropy(gather(logits, len(batch.names)).float(), batch.labels)


def _weighted_sum(*terms: tuple[float, Tensor | None]) -> Tensor:
    return torch.stack([weight * term for weight, term in terms if term is not None]).sum()


def _numbers(*values: Tensor | None) -> list[float]:
    """Fetch scalars from the device together (waiting for it once); NaN for None."""
    known = iter(torch.stack([value.detach() for value in values if value is not None]).tolist())
    return [math.nan if value is None else next(known) for value in values]


def _column_means(rows: Sequence[Sequence[float]]) -> list[float]:
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 3).mean(0).tolist()
