"""The training loop, readable on one page: `fit` moves a student's RDMs towards a teacher's.

Everything random is a function of (seed, step) or kept in the checkpoint, so an interrupted run can be resumed
with the same result. Images that are held out for testing are never shown to the network; validation stimuli are used
for evaluation and never for training. Accelerate provides the device, autocast and loss scaling; `brainrdl.training`
lists the other modules.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import pandas as pd
import torch
from torch import Tensor

from brainrdl._core import files as _files
from brainrdl._core.options import check_known, complete, lists_options
from brainrdl._core.signals import Stopped, deferred
from brainrdl._core.threads import threads_for
from brainrdl.loss.rdm_loss import RDMLoss
from brainrdl.models.student import Student
from brainrdl.runs import checkpoint as _checkpoint, finished_fits, run_folder
from brainrdl.runs.checkpoint import State
from brainrdl.runs.finished_fits import FitResult
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.teachers.protocol import Teacher
from brainrdl.training.callbacks import Callback, called
from brainrdl.training.display import event_writer, progress_bar
from brainrdl.training.distributed import anywhere, start_alike
from brainrdl.training.frozen_features import FrozenFeatures
from brainrdl.training.optimizers import make_accelerator
from brainrdl.training.options import FitOptions
from brainrdl.training.preparation import Prepared, check_kinds, identify, plan, prepare
from brainrdl.training.task import Task
from brainrdl.training.terms import Term

if TYPE_CHECKING:
    from accelerate import Accelerator


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
    task: Task | None = None,
    terms: Mapping[str, Term | Callable[..., Tensor]] | None = None,
    callbacks: Sequence[Callback] = (),
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    features: FrozenFeatures | None = None,
    **options: Unpack[FitOptions],
) -> FitResult:
    """Train `student` in place so that its RDMs approach the teacher's, alone or together with a task.

    Each step draws one batch of conditions for the RDM and, if the task has images of its own, one batch for the task.
    Both pass through the student together if their images have one shape, otherwise one after the other. The total loss
    is ``rdm_weight`` x RDM loss + ``task.weight`` x task loss + the weighted `terms`.

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
    task : Task, optional
        A task to learn as well, on the images of the RDM or on images of its own; see `brainrdl.Task`.
    terms : mapping of name to Term or callable, optional
        More terms of the loss; see `brainrdl.training.Term`.
    callbacks : sequence of Callback
        Objects that are called after steps and evaluations and may stop the run; see `brainrdl.training.Callback`.
    out : path, optional
        Run folder, see `brainrdl.runs`; without it nothing is written.
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
        See `brainrdl.training.FitOptions`. Of functions and objects among them (also in `loss`, `task` and the
        transforms of `stimuli`), the code, the values they use and the public attributes must be the same to resume a
        run; attributes whose names begin with an underscore are not compared.

    Returns
    -------
    FitResult

    Raises
    ------
    BrainrdlError
        For unknown names or options, leaking stimuli, fewer than 4 conditions in a part, an unavailable device, an
        existing run folder, one that another process uses, a file in it that has changed since it was written, or a
        checkpoint that is damaged or of another run.
    DivergedError
        If the loss or a pattern becomes NaN or Inf (the message names step, layer and conditions), or the learning rate
        is too large for the optimiser. It is a `BrainrdlError`. A pattern that is NaN before
        any step is a wrong input: a plain `BrainrdlError`.
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
    check_kinds(student, teacher, stimuli, task)
    check_known(options, fit)
    asked = complete(FitOptions, options)
    planned = plan(student, teacher, stimuli, train, validation, tuple(held_out), loss, task, terms, features, asked)
    accelerator = make_accelerator(asked["device"], asked["mixed_precision"])
    folder = None if out is None else Path(out)
    if out is not None and accelerator.is_main_process:
        run_folder.check_folder(out, resume=resume, overwrite=overwrite)
    student.to(accelerator.device)
    start_alike(student)
    settings, facts = identify(planned, accelerator.device)
    if folder and resume and (folder / run_folder.WEIGHTS).exists():
        fitted = finished_fits.load_fit(folder, student, settings)
        called(callbacks, "on_end", fitted)
        return fitted

    with _restored(student), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        prepared = prepare(planned, accelerator, settings, facts)
        run = prepared.run
        with (
            threads_for(run.flops()),
            closing(run),
            _opened(out, resume, overwrite, accelerator) as target,
            deferred() if folder else nullcontext(()) as asked_to_stop,
        ):
            accelerator.wait_for_everyone()  # until the folder is ready
            if folder and (folder / run_folder.WEIGHTS).exists():  # finished by another process before the lock
                fitted = finished_fits.load_fit(folder, student, settings)
            else:
                state = _start(prepared, folder, target)
                shown = progress and accelerator.is_main_process
                _train(prepared, state, callbacks, folder, target, asked_to_stop, shown)
                fitted = _finish(prepared, student, state, folder)
                if target:
                    finished_fits.save_fit(fitted)
    accelerator.wait_for_everyone()  # the folder is complete when `fit` returns on any rank
    called(callbacks, "on_end", fitted)
    return fitted


def _start(prepared: Prepared, folder: Path | None, target: Path | None) -> State:
    """Write the settings of the run; return its state, from the checkpoint if there is one."""
    state = State()
    if folder and (folder / run_folder.CHECKPOINT).exists():
        state = _checkpoint.load_checkpoint(folder / run_folder.CHECKPOINT, *prepared.moving)
        prepared.run.resume(state.places)
    # all ranks check for the checkpoint before the first rank writes
    prepared.run.accelerator.wait_for_everyone()
    if target:
        _files.write_json(target / run_folder.PROVENANCE, prepared.facts)
        _files.write_json(target / run_folder.SETTINGS, prepared.settings)
    return state


def _train(
    prepared: Prepared,
    state: State,
    callbacks: Sequence[Callback],
    folder: Path | None,
    target: Path | None,
    asked_to_stop: Sequence[int],
    shown: bool,
) -> None:
    """Do steps and evaluations until the end of the run, a callback or a signal."""
    run, options = prepared.run, prepared.run.options
    steps, patience = options["steps"], options["patience"]
    run.student.train()
    with progress_bar(steps, state.step, shown) as show, event_writer(target) as write:
        while True:
            ended = state.step == steps or state.stopped
            if state.step % options["evaluate_every"] == 0 or ended:
                row = run.look(state)
                show(row)
                write(row)
                ended = called(callbacks, "on_look", row) or ended
            if ended or (patience is not None and state.looks_since_best >= patience):
                return
            run.step(state)
            state.stopped = bool(callbacks) and called(callbacks, "on_step", state.step, run.latest(state))
            stop = bool(folder) and anywhere(bool(asked_to_stop), run.device)
            if target and (stop or state.step % options["checkpoint_every"] == 0):
                run.check()
                state.places = run.places()
                _checkpoint.save_checkpoint(target / run_folder.CHECKPOINT, state, *prepared.moving)
            if stop:
                raise Stopped(
                    next(iter(asked_to_stop), signal.SIGTERM),
                    f"{state.step} of {steps} steps are in {str(folder)!r}; continue with resume=True",
                )


def _finish(prepared: Prepared, student: Student, state: State, folder: Path | None) -> FitResult:
    """Return the result, with the weights of the best evaluation in the student."""
    run = prepared.run
    run.student.load_state_dict(run.evaluated.state_dict() if state.best is None else state.best)
    best_step = state.step if state.best is None else state.best_step
    history = pd.DataFrame(state.history)
    return FitResult(student, history, best_step, prepared.settings, prepared.facts, folder)


@contextmanager
def _restored(student: Student) -> Iterator[None]:
    """Restore the mode of a student, and the parameters that a learning rate of 0 freezes, however the block ends."""
    mode = student.training
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    try:
        yield
    finally:
        student.train(mode)
        for parameter in trained:
            parameter.requires_grad_(True)


def _opened(
    out: Path | str | None, resume: bool, overwrite: bool, accelerator: Accelerator
) -> AbstractContextManager[Path | None]:
    """Open the run folder on the first rank; the others do not write."""
    if out is None or not accelerator.is_main_process:
        return nullcontext()
    return run_folder.opened(out, resume=resume, overwrite=overwrite)
