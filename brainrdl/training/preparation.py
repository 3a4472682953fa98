"""From the arguments of `fit` to a run that can start: the checks, the names of all parts, and what is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from brainrdl._core.errors import arg, check_conditions, refuse
from brainrdl._core.options import free
from brainrdl._core.random_numbers import seed_all
from brainrdl.loss.rdm_loss import RDMLoss, check_rdm_loss
from brainrdl.models.hooks import evaluating
from brainrdl.models.student import Student
from brainrdl.runs import provenance
from brainrdl.runs.callables import identify_callables, identify_loss
from brainrdl.runs.fingerprint import hash_task, hashes_of, settings_of
from brainrdl.stimuli.categories import groups_of
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.streams import ImageStream
from brainrdl.teachers.protocol import Teacher, check_stored, cut_down, known_conditions, strata_of
from brainrdl.training.frozen_features import FrozenFeatures
from brainrdl.training.loading import Loader
from brainrdl.training.looks import to_device
from brainrdl.training.optimizers import averaged, make_optimizer, make_schedule, parameter_groups
from brainrdl.training.options import FitOptions
from brainrdl.training.pattern_memory import check_memory
from brainrdl.training.sampling import Batches
from brainrdl.training.steps import Run, Stream
from brainrdl.training.stimulus_lists import calibration_names, check_sets_apart, same_images, training_names
from brainrdl.training.stratified import StratifiedBatches
from brainrdl.training.streaming import PassingStream, StreamLoader
from brainrdl.training.task import Task
from brainrdl.training.terms import RDM, TASK, Balance, Term, check_terms, check_views

if TYPE_CHECKING:
    from accelerate import Accelerator

Parts = tuple[tuple[str, ...], tuple[str, ...]]  # names for training and for validation

_SETTLED: ContextVar[Mapping[str, Any] | None] = ContextVar("settled", default=None)

_FEW = 4  # images that show whether gradients reach the network

_TASK_BATCH = 128  # task images per step, unless the task says otherwise


@dataclass(frozen=True)
class Plan:
    """What a fit trains, and on what: the checked arguments of `fit`. Nothing is built, moved or written yet.

    Attributes
    ----------
    names : mapping of stream to names for training and for validation
        "rdm" and, if the task is on images of its own, "task"; images of a stream have no names.
    held_out : tuple of str
        Names of stimuli that must stay new to the student.
    """

    student: Student
    teacher: Teacher | None
    stimuli: Stimuli
    loss: RDMLoss
    task: Task | None
    terms: dict[str, Term]
    features: FrozenFeatures
    options: FitOptions
    names: dict[str, Parts]
    held_out: tuple[str, ...]

    @property
    def conditions(self) -> tuple[str, ...]:
        """Conditions of the RDM, for training and for validation."""
        return (*self.names[RDM][0], *self.names[RDM][1])


@dataclass(frozen=True)
class Prepared:
    """A run that can start.

    Attributes
    ----------
    run : Run
    settings, facts : dict
        As in the run folder.
    moving : tuple
        What a checkpoint stores, as arguments of `brainrdl.runs.checkpoint.save_checkpoint`.
    """

    run: Run
    settings: dict[str, Any]
    facts: dict[str, Any]
    moving: tuple[Any, ...]


def plan(
    student: Student,
    teacher: Teacher | None,
    stimuli: Stimuli,
    train: Sequence[str] | None,
    validation: Sequence[str] | float,
    held_out: tuple[str, ...],
    loss: RDMLoss | None,
    task: Task | None,
    terms: Mapping[str, Term | Callable[..., Tensor]] | None,
    features: FrozenFeatures | None,
    options: FitOptions,
) -> Plan:
    """Check the arguments of `fit` and find out what is trained on which stimuli."""
    checked = check_terms(terms, has_task=task is not None)
    _check_together(student, teacher, stimuli, task, checked, options)
    stimuli.check_repeatable()
    seed = options["seed"]
    groups = options["groups"] = groups_of(options["groups"], stimuli.names)
    parts = training_names(stimuli, train, validation, held_out, seed, groups)
    _check_known(teacher, (*parts[0], *parts[1]))
    if teacher is not None:
        # Weights of subjects must not depend on held-out or validation conditions.
        teacher = cut_down(teacher, (*parts[0], *parts[1]), weigh_by=parts[0])
    loss, features = check_rdm_loss(loss), features or FrozenFeatures(stimuli)
    features.check(stimuli)
    loss = replace(loss, match=student.match) if loss.match is None else loss
    if options["memory"]:
        check_memory(options, loss, teacher, stimuli, len(parts[0]))
    names = {RDM: parts}
    if task is not None:
        student.read_logits(task.layer)
        names |= _names_of_task(task, stimuli, parts, held_out, seed)
    return Plan(student, teacher, stimuli, loss, task, checked, features, options, names, held_out)


@contextmanager
def settled_code(code: Mapping[str, Any]) -> Iterator[None]:
    """Let fits store this description of the user's functions instead of their own.

    It was made before any fit of a run. The fits of a run use the same functions, which may remember something in a
    public attribute: then a later fit would find others than the same fit in a run that is resumed.

    Examples
    --------
    >>> with settled_code({}):
    ...     pass
    """
    token = _SETTLED.set(code)
    try:
        yield
    finally:
        _SETTLED.reset(token)


def identify(planned: Plan, device: torch.device) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a run, which identify it, and its provenance."""
    student, teacher, stimuli, task, options = (
        planned.student,
        planned.teacher,
        planned.stimuli,
        planned.task,
        planned.options,
    )
    with_labels = task is not None or bool(planned.terms) or options["monitor"] in ("accuracy", "both")
    hashes = hashes_of(teacher, stimuli, planned.conditions, with_labels)
    hashes |= hash_task(_named_images(task), planned.names.get(TASK)) | _hash_stream(planned, device)
    without = free(FitOptions)
    settings = provenance.describe({name: value for name, value in options.items() if name not in without})
    settings |= settings_of(student, teacher, stimuli, planned.loss, *planned.names[RDM])
    settings |= {
        "task": provenance.describe(task),
        "task_images": _sizes(planned),
        "hashes": hashes,
    }
    settled = _SETTLED.get()
    if settled is None:
        terms, code = provenance.describe(planned.terms), code_of_run(stimuli, planned.loss, task, options)
    else:
        terms, code = (
            {name: {"weight": term.weight, "on": term.on} for name, term in planned.terms.items()},
            dict(settled),
        )
    settings["terms"] = terms
    settings |= {"code": code} if code else {}
    return settings, provenance.gather_provenance(**hashes) | {"device": str(device)}


def code_of_run(
    stimuli: Stimuli, loss: RDMLoss | None, task: Task | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe the user's functions and objects in a run, of which other settings have only the names.

    Parameters
    ----------
    stimuli : Stimuli
    loss : RDMLoss or None
    task : Task or None
    options : mapping
        Options of `fit`; others than functions are left out.

    Returns
    -------
    dict
        Empty if there are none. Terms of the loss describe themselves.

    Examples
    --------
    >>> code_of_run(Stimuli.from_arrays(torch.zeros(1, 1, 2, 2), ["a"]), None, None, {"optimizer": "adam"})
    {}
    """
    of_task = {} if task is None else {f"task {name}": value for name, value in task.options.items()}
    sources = {"": stimuli, "task ": None if task is None else task.stimuli}
    views = {
        f"{whose}{what}": getattr(source, what)
        for whose, source in sources.items()
        if source is not None
        for what in ("transform", "augmentation")
    }
    of_loss = {} if loss is None else identify_loss(loss)
    return identify_callables({**options, **of_task, **views}) | ({"loss": of_loss} if of_loss else {})


def hashes_of_task(task: Task | None) -> dict[str, str]:
    """Digests of all images of a task that have names, and of their labels; empty if there are none.

    Examples
    --------
    >>> hashes_of_task(None)
    {}
    """
    images = _named_images(task)
    return hash_task(images, None if images is None else (images.names, ()))


def _hash_stream(planned: Plan, device: torch.device) -> dict[str, str]:
    """Digest of the first images of a stream; a checkpoint has that of its last batch."""
    task = planned.task
    if task is None or not isinstance(task.stimuli, ImageStream):
        return {}
    return {"task_stream": _passing_stream(planned, task, task.stimuli, device).loader.first_digest()}


def _named_images(task: Task | None) -> Stimuli | None:
    """Return the task's own images that have names: of a stream, those for validation."""
    for images in () if task is None else (task.stimuli, task.validation):
        if isinstance(images, Stimuli):
            return images
    return None


def _sizes(planned: Plan) -> dict[str, int | None] | None:
    """Numbers of the task's own images, without those that were dropped; None for a stream."""
    found = planned.names.get(TASK)
    if found is None:
        return None
    stream = planned.task is not None and isinstance(planned.task.stimuli, ImageStream)
    return {"train": None if stream else len(found[0]), "validation": len(found[1])}


def prepare(planned: Plan, accelerator: Accelerator, settings: dict[str, Any], facts: dict[str, Any]) -> Prepared:
    """Calibrate the student and build what a step needs: streams of images, optimiser, schedule."""
    teacher, task, terms, options = planned.teacher, planned.task, planned.terms, planned.options
    seed_all(options["seed"])
    learner, stimuli = _learner(planned)
    if options["channels_last"]:
        learner.to(memory_format=torch.channels_last)
    learner.calibrate(stimuli.images(calibration_names(planned.names[RDM][0])))
    streams = _streams(planned, stimuli, accelerator.device)
    check_views(terms, {on: streams.get(on, streams[RDM]).augmented for on in (RDM, TASK)})
    _prepare_terms(terms, learner, streams)
    balance = Balance(options["balance"], _weighted(options, task, terms)).to(accelerator.device)
    others = _modules_of(terms, balance).to(accelerator.device)
    beside = [parameter for parameter in others.parameters() if parameter.requires_grad]
    trained = parameter_groups(learner, beside, options["lr_of"])
    optimizer = make_optimizer(options["optimizer"], trained, options["lr"], options["weight_decay"], options["fused"])
    average = None if options["ema"] is None else averaged(learner, options["ema"])
    if options["rdm_weight"]:
        learner.check_gradients(stimuli.images(streams[RDM].names(0)[:_FEW]))
    scheduler = make_schedule(options["schedule"], optimizer, options["steps"], options["warmup"])
    scaler = accelerator.scaler
    moved = optimizer if scaler is None else accelerator.prepare(optimizer)
    run = Run(
        learner, teacher, streams, task, terms, planned.loss, balance, options, accelerator, moved, scheduler, average
    )
    return Prepared(run, settings, facts, (learner, optimizer, scheduler, settings, scaler, _kept(others, average)))


def _learner(planned: Plan) -> tuple[Student, Stimuli]:
    """Return the student that is trained and its stimuli: features, if only the read-outs change."""
    student, stimuli, features = planned.student, planned.stimuli, planned.features
    if planned.task is None and not planned.terms and features.serves(student, planned.teacher):
        return features.of(student, planned.conditions)
    return student, stimuli


def _streams(planned: Plan, stimuli: Stimuli, device: torch.device) -> dict[str, Stream | PassingStream]:
    task, names, options = planned.task, planned.names, planned.options
    streams: dict[str, Stream | PassingStream] = {
        RDM: _rdm_stream(planned.teacher, stimuli, names[RDM], options, device)
    }
    if task is not None and isinstance(task.stimuli, ImageStream):
        streams[TASK] = _passing_stream(planned, task, task.stimuli, device)
    elif task is not None and isinstance(task.stimuli, Stimuli) and TASK in names:
        train, validation = names[TASK]
        size = task.options["batch_size"] or min(_TASK_BATCH, len(train))
        streams[TASK] = _stream(task.stimuli, Batches(train, size, options["seed"], 1), validation, options, device)
    return streams


def _passing_stream(planned: Plan, task: Task, stream: ImageStream, device: torch.device) -> PassingStream:
    held_out = task.check_classes(stream)
    kept = _pixels_of(
        planned.stimuli, (*planned.names[RDM][1], *planned.held_out), "the held-out or validation stimulus"
    )
    kept |= {} if held_out is None else _pixels_of(held_out, held_out.names, "the task's validation image")
    size, drop = task.options["batch_size"] or _TASK_BATCH, task.options["overlap"] == "drop"
    loader = StreamLoader(stream, size, seed=planned.options["seed"], device=device, kept=kept, drop=drop)
    return PassingStream(stream, loader, size, held_out)


def _pixels_of(stimuli: Stimuli, names: Sequence[str], what: str) -> dict[str, str]:
    """Describe images by the digest of their pixels."""
    if not stimuli.has_images:
        return {}
    return {digest: f"{what} {name!r}" for name, digest in stimuli.pixel_digests(names).items()}


def _names_of_task(task: Task, stimuli: Stimuli, rdm: Parts, held_out: tuple[str, ...], seed: int) -> dict[str, Parts]:
    """Names of task images for training and validation; none if the task is on the images of the RDM."""
    if task.stimuli is None or task.stimuli is stimuli:
        task.check(stimuli, (*rdm[0], *rdm[1]))
        return {}
    if isinstance(task.stimuli, ImageStream):
        watched = task.check_classes(task.stimuli)
        if watched is not None:
            check_sets_apart(watched, watched.names, stimuli, held_out)
        return {TASK: ((), () if watched is None else watched.names)}
    task.stimuli.check_repeatable()
    found = training_names(task.stimuli, None, task.validation, (), seed, minimum=1)  # type: ignore[arg-type]
    if task.options["overlap"] == "drop":
        found = _without_held_out(task.stimuli, found, stimuli, rdm[1], held_out)
    task.check(task.stimuli, (*found[0], *found[1]))
    check_sets_apart(task.stimuli, found[0], stimuli, (*rdm[1], *held_out))
    check_sets_apart(task.stimuli, found[1], stimuli, held_out)
    return {TASK: found}


def _without_held_out(
    task: Stimuli, parts: Parts, stimuli: Stimuli, validation: tuple[str, ...], held_out: tuple[str, ...]
) -> Parts:
    """Drop task images that are held out of the RDM, and from those for training also its validation stimuli."""
    dropped = [
        same_images(task, names, stimuli, kept)
        for names, kept in zip(parts, ((*validation, *held_out), held_out), strict=True)
    ]
    train, chosen = (
        tuple(name for name in names if name not in same) for names, same in zip(parts, dropped, strict=True)
    )
    if not train:
        refuse(
            f"all {len(parts[0])} images of the task are validation or held-out stimuli of the RDM, so that none is "
            "left; give the task more images"
        )
    if parts[1] and not chosen:
        refuse(
            f"all {len(parts[1])} validation images of the task are held-out stimuli of the RDM, so that none is left; "
            "give the task other images for validation"
        )
    return train, chosen


def _rdm_stream(
    teacher: Teacher | None,
    stimuli: Stimuli,
    names: Parts,
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
def _prepare_terms(terms: Mapping[str, Term], student: Student, streams: Mapping[str, Stream | PassingStream]) -> None:
    """Let terms build parameters that depend on the sizes of the patterns."""
    for term in terms.values():
        if hasattr(term.function, "prepare"):
            stream = streams.get(term.on, streams[RDM])
            batch = to_device(stream.few(_FEW), student.device)
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


def check_kinds(student: object, teacher: object, stimuli: object, task: object) -> None:
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
