"""The training loop, readable on one page: `fit` moves a student's RDMs towards a teacher's.

Everything random is a function of (seed, step) or kept in the checkpoint, so an interrupted run can be resumed
with the same result. Images that are held out for testing are never shown to the network; validation stimuli are used
for evaluation and never for training. Accelerate provides the device, autocast and loss scaling; `brainrdl.training`
lists the other modules.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import pandas as pd
import torch
from torch import Tensor, nn

from brainrdl._core import files as _files
from brainrdl._core.errors import arg, check_conditions, refuse
from brainrdl._core.options import check_known, complete, free, lists_options
from brainrdl._core.signals import Stopped, deferred
from brainrdl._core.threads import threads_for
from brainrdl.loss.rdm_loss import RDMLoss, check_rdm_loss
from brainrdl.models.hooks import evaluating
from brainrdl.models.student import Student
from brainrdl.runs import checkpoint as _checkpoint, provenance, run_folder
from brainrdl.runs.checkpoint import State
from brainrdl.runs.fingerprint import hash_task, hashes_of, settings_of
from brainrdl.runs.run_folder import FitResult
from brainrdl.stimuli.categories import groups_of
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.teachers.protocol import Teacher, check_stored, cut_down, known_conditions, strata_of
from brainrdl.training.callbacks import Callback, called
from brainrdl.training.display import event_writer, progress_bar
from brainrdl.training.distributed import anywhere, start_alike
from brainrdl.training.frozen_features import FrozenFeatures
from brainrdl.training.loading import Loader
from brainrdl.training.looks import to_device
from brainrdl.training.optimizers import averaged, make_accelerator, make_optimizer, make_schedule, parameter_groups
from brainrdl.training.options import FitOptions
from brainrdl.training.sampling import Batches
from brainrdl.training.steps import Run, Stream
from brainrdl.training.stimulus_lists import calibration_names, check_sets_apart, training_names
from brainrdl.training.stratified import StratifiedBatches
from brainrdl.training.task import Task
from brainrdl.training.terms import RDM, TASK, Balance, Term, check_terms

if TYPE_CHECKING:
    from accelerate import Accelerator

_FEW = 4  # images that show whether gradients reach the network

_TASK_BATCH = 128  # task images per step, unless the task says otherwise


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
    _check_kinds(student, teacher, stimuli, task)
    check_known(options, fit)
    asked = complete(FitOptions, options)
    terms = check_terms(terms, has_task=task is not None)
    _check_together(student, teacher, stimuli, task, terms, asked)
    stimuli.check_repeatable()
    seed, steps, patience = asked["seed"], asked["steps"], asked["patience"]
    groups = asked["groups"] = groups_of(asked["groups"], stimuli.names)
    held_out = tuple(held_out)
    train, validation = training_names(stimuli, train, validation, held_out, seed, groups)
    _check_known(teacher, (*train, *validation))
    if teacher is not None:
        # Weights of subjects must not depend on held-out or validation conditions.
        teacher = cut_down(teacher, (*train, *validation), weigh_by=train)
    loss, features = check_rdm_loss(loss), features or FrozenFeatures(stimuli)
    features.check(stimuli)
    loss = replace(loss, match=student.match) if loss.match is None else loss
    names = {RDM: (train, validation)}
    if task is not None:
        student.read_logits(task.layer)
        names |= _names_of_task(task, stimuli, names[RDM], held_out, seed)

    accelerator = make_accelerator(asked["device"], asked["mixed_precision"])
    if out is not None and accelerator.is_main_process:
        run_folder.check_folder(out, resume=resume, overwrite=overwrite)
    student.to(accelerator.device)
    start_alike(student)
    with_labels = task is not None or bool(terms) or asked["monitor"] in ("accuracy", "both")
    hashes = hashes_of(teacher, stimuli, (*train, *validation), with_labels)
    hashes |= hash_task(None if task is None else task.stimuli, names.get(TASK))
    settings = provenance.describe({name: value for name, value in asked.items() if name not in free(FitOptions)})
    settings |= settings_of(student, teacher, stimuli, loss, train, validation)
    settings |= {"task": provenance.describe(task), "terms": provenance.describe(terms), "hashes": hashes}
    facts = provenance.gather_provenance(**hashes) | {"device": str(accelerator.device)}
    folder = None if out is None else Path(out)
    if folder and resume and (folder / run_folder.WEIGHTS).exists():
        return run_folder.load_fit(folder, student, settings)

    mode = student.training
    torch.manual_seed(seed)
    learner, shown_stimuli = student, stimuli
    if task is None and not terms and features.serves(student, teacher):
        learner, shown_stimuli = features.of(student, (*train, *validation))
    if asked["channels_last"]:
        learner.to(memory_format=torch.channels_last)
    learner.calibrate(shown_stimuli.images(calibration_names(train)))
    streams = {RDM: _rdm_stream(teacher, shown_stimuli, names[RDM], asked, accelerator.device)}
    if task is not None and task.stimuli is not None and TASK in names:
        batches = Batches(names[TASK][0], task.options["batch_size"] or min(_TASK_BATCH, len(names[TASK][0])), seed, 1)
        streams[TASK] = _stream(task.stimuli, batches, names[TASK][1], asked, accelerator.device)
    _prepare(terms, learner, streams)
    balance = Balance(asked["balance"], _weighted(asked, task, terms)).to(accelerator.device)
    others = _modules_of(terms, balance).to(accelerator.device)
    beside = [parameter for parameter in others.parameters() if parameter.requires_grad]
    was_trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    trained = parameter_groups(learner, beside, asked["lr_of"])
    optim = make_optimizer(asked["optimizer"], trained, asked["lr"], asked["weight_decay"])
    average = None if asked["ema"] is None else averaged(learner, asked["ema"])
    if asked["rdm_weight"]:
        learner.check_gradients(shown_stimuli.images(streams[RDM].batches.at(0)[:_FEW]))
    scheduler = make_schedule(asked["schedule"], optim, steps, asked["warmup"])
    moved = optim if accelerator.scaler is None else accelerator.prepare(optim)
    run = Run(learner, teacher, streams, task, terms, loss, balance, asked, accelerator, moved, scheduler, average)
    state, moving = State(), (learner, optim, scheduler, settings, accelerator.scaler, _kept(others, average))
    shown = progress and accelerator.is_main_process
    with (
        threads_for(run.flops()),
        closing(run),
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
                ended = state.step == steps or state.stopped
                if state.step % asked["evaluate_every"] == 0 or ended:
                    row = run.look(state)
                    show(row)
                    write(row)
                    ended = called(callbacks, "on_look", row) or ended
                if ended or (patience is not None and state.looks_since_best >= patience):
                    break
                run.step(state)
                state.stopped = called(callbacks, "on_step", state.step, run.latest(state))
                stop = bool(folder) and anywhere(bool(asked_to_stop), accelerator.device)
                if target and (stop or state.step % asked["checkpoint_every"] == 0):
                    run.check()
                    _checkpoint.save_checkpoint(target / run_folder.CHECKPOINT, state, *moving)
                if stop:
                    raise Stopped(
                        next(iter(asked_to_stop), signal.SIGTERM),
                        f"{state.step} of {steps} steps are in {str(folder)!r}; continue with resume=True",
                    )

        learner.load_state_dict(run.evaluated.state_dict() if state.best is None else state.best)
        student.train(mode)
        for parameter in was_trained:  # a learning rate of 0 freezes for this fit only
            parameter.requires_grad_(True)
        best_step = state.step if state.best is None else state.best_step
        fitted = FitResult(student, pd.DataFrame(state.history), best_step, settings, facts, folder)
        if target:
            run_folder.save_fit(fitted)
    accelerator.wait_for_everyone()  # the folder is complete when `fit` returns on any rank
    called(callbacks, "on_end", fitted)
    return fitted


def _names_of_task(
    task: Task, stimuli: Stimuli, rdm: tuple[tuple[str, ...], tuple[str, ...]], held_out: tuple[str, ...], seed: int
) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Names of task images for training and validation; none if the task is on the images of the RDM."""
    if task.stimuli is None or task.stimuli is stimuli:
        task.check(stimuli, (*rdm[0], *rdm[1]))
        return {}
    task.stimuli.check_repeatable()
    found = training_names(task.stimuli, None, task.validation, (), seed, minimum=1)
    task.check(task.stimuli, (*found[0], *found[1]))
    check_sets_apart(task.stimuli, found[0], stimuli, (*rdm[1], *held_out))
    return {TASK: found}


def _rdm_stream(
    teacher: Teacher | None,
    stimuli: Stimuli,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    options: FitOptions,
    device: torch.device,
) -> Stream:
    """Return the stream of the RDM's images; each batch has conditions of every part of a teacher that has parts."""
    train, validation = names
    size, seed = options["batch_size"], options["seed"]
    strata = {} if teacher is None else strata_of(teacher, train)
    if strata and size is not None and size < len(train):
        return _stream(stimuli, StratifiedBatches(strata, size, seed), validation, options, device)
    return _stream(stimuli, Batches(train, size, seed), validation, options, device)


def _stream(
    stimuli: Stimuli,
    batches: Batches | StratifiedBatches,
    validation: tuple[str, ...],
    options: FitOptions,
    device: torch.device,
) -> Stream:
    seed, workers = options["seed"], options["workers"]
    loader = Loader(stimuli, batches.at, seed=seed, augmented=True, workers=workers, device=device)
    return Stream(stimuli, batches, validation, loader)


@torch.no_grad()
def _prepare(terms: Mapping[str, Term], student: Student, streams: Mapping[str, Stream]) -> None:
    """Let terms build parameters that depend on the sizes of the patterns."""
    for term in terms.values():
        if hasattr(term.function, "prepare"):
            stream = streams.get(term.on, streams[RDM])
            batch = to_device(stream.stimuli.batch(stream.batches.at(0)[:_FEW]), student.device)
            with evaluating(student):
                term.function.prepare(student(batch.images), batch)


def _kept(others: nn.ModuleDict, average: nn.Module | None) -> nn.Module:
    """Return what a checkpoint keeps beside the student."""
    return others if average is None else nn.ModuleList([others, average])


def _weighted(options: FitOptions, task: Task | None, terms: Mapping[str, Term]) -> tuple[str, ...]:
    """Names of the terms of the total loss."""
    return (*([RDM] if options["rdm_weight"] else []), *([TASK] if task else []), *terms)


def _modules_of(terms: Mapping[str, Term], balance: Balance) -> nn.ModuleDict:
    """Modules that are trained beside the student."""
    own = {f"term {name}".replace(".", " "): term.function for name, term in terms.items()}
    return nn.ModuleDict({"balance": balance, **{k: f for k, f in own.items() if isinstance(f, nn.Module)}})


def _opened(
    out: Path | str | None, resume: bool, overwrite: bool, accelerator: Accelerator
) -> AbstractContextManager[Path | None]:
    """Open the run folder on the first rank; the others do not write."""
    if out is None or not accelerator.is_main_process:
        return nullcontext()
    return run_folder.opened(out, resume=resume, overwrite=overwrite)


def _check_kinds(student: object, teacher: object, stimuli: object, task: object) -> None:
    """Refuse arguments of another kind, which would cause an unclear error later."""
    if not isinstance(student, Student):
        refuse(f"student must be a Student, got {type(student).__name__}; wrap a network: Student(network, [layer])")
    if teacher is not None and not isinstance(teacher, Teacher):
        refuse(f"teacher must have name, targets and rdms, got {teacher!r}; make one of a file: RDMTeacher('it.h5')")
    if not isinstance(stimuli, Stimuli):
        refuse(f"stimuli must be Stimuli, got {type(stimuli).__name__}; for a folder of images: Stimuli.from_folder")
    if task is not None and not isinstance(task, Task):
        refuse(f"task must be a Task, got {task!r}; make one: Task(stimuli), or Task() for the images of the RDM")


def _check_together(
    student: Student,
    teacher: Teacher | None,
    stimuli: Stimuli,
    task: Task | None,
    terms: Mapping[str, Term],
    options: FitOptions,
) -> None:
    """Refuse combinations of options that cannot work."""
    if not options["rdm_weight"] and task is None and not terms:
        refuse(f"there is nothing to learn: {arg('rdm_weight', 0)}, and there is no task")
    if teacher is None and options["rdm_weight"]:
        refuse(
            f"there is no teacher for {arg('rdm_weight', options['rdm_weight'])}; give one, or set "
            f"{arg('rdm_weight', 0)}"
        )
    if student.trainable == "projection" and task is not None:
        refuse(f"{arg('trainable', 'projection')} does not change the network, so a task has no effect; leave task out")
    if student.batchnorm == "task" and (task is None or task.stimuli in (None, stimuli)):
        refuse(
            f"{arg('batchnorm', 'task')} uses the statistics of the images of a task; give a task with its own stimuli"
        )
    if options["micro_batch"] is not None and options["balance"] == "gradient norms":
        refuse(
            f"{arg('balance', 'gradient norms')} needs the gradients of each loss, which {arg('micro_batch')} does not "
            f"keep; use {arg('balance', 'fixed')}"
        )
    if student.frozen and options["monitor"] in ("accuracy", "both", "task loss"):
        refuse(
            f"{arg('monitor', options['monitor'])} does not change if the network is frozen; use "
            f"{arg('monitor', 'similarity')}"
        )


def _check_known(teacher: Teacher | None, names: Sequence[str]) -> None:
    if teacher is None:
        return
    check_stored(teacher)
    known = known_conditions(teacher)
    if known is not None:
        check_conditions(names, known, f"teacher {teacher.name!r}")
