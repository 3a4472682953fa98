"""Make the stimuli, teacher, student and loss of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from torch import nn

from brainrdl._core.errors import about, arg, check_option, refuse
from brainrdl._core.factories import load_factory
from brainrdl._core.given_values import as_text
from brainrdl._core.packed import check_archive
from brainrdl.loss.rdm_loss import Decay, RDMLoss
from brainrdl.models.fitted import build_fitted, read_fitted, reader
from brainrdl.models.hooks import evaluating
from brainrdl.models.networks import Network
from brainrdl.models.readout import Readout, asked_readout
from brainrdl.models.student import Student
from brainrdl.readers.reading import read
from brainrdl.recipe.schema import TORCHVISION, Recipe, StimuliSection, StimuliSource, StreamSection, TeacherSource
from brainrdl.recipe.spelling import in_recipe
from brainrdl.stimuli.augmentation import Augmentation
from brainrdl.stimuli.joining import join_stimuli
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.streams import ImageStream
from brainrdl.teachers.controls import control
from brainrdl.teachers.feature_teacher import FeatureTeacher
from brainrdl.teachers.joint_teacher import JointTeacher
from brainrdl.teachers.network_teacher import NetworkTeacher
from brainrdl.teachers.protocol import Teacher
from brainrdl.teachers.rdm_teacher import RDMTeacher
from brainrdl.training.task import Task
from brainrdl.training.terms import Term


def make_network(recipe: Recipe) -> Network:
    """Build the network of a recipe's student, with its initial weights but no readout; see `make_student`.

    Parameters
    ----------
    recipe : Recipe
        A checked recipe, see `load`.

    Returns
    -------
    Network

    Raises
    ------
    BrainrdlError
        If the network or its weights are unknown.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> student = {"model": "small_cnn", "layers": ["pool"]}
    >>> example = {"stimuli": {"folder": "images"}, "teacher": {"rdms": "it.h5"}, "student": student}
    >>> make_network(check(example)).channels
    1
    """
    return build_fitted(recipe.student.model, recipe.student.weights)[0]


@about(spelling=in_recipe("stimuli"))
def make_stimuli(recipe: Recipe, network: Network | None = None) -> Stimuli:
    """Make the stimuli of a recipe, transformed as the student's network expects.

    Parameters
    ----------
    recipe : Recipe
    network : Network, optional
        The student's network, if it is already built.

    Raises
    ------
    BrainrdlError
        If files are missing or unreadable, or the data set is unknown.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> student = {"model": "small_cnn", "layers": ["pool"]}
    >>> example = {"stimuli": {"folder": "images"}, "teacher": {"rdms": "it.h5"}, "student": student}
    >>> make_stimuli(check(example))
    Traceback (most recent call last):
    brainrdl.BrainrdlError: stimulus folder 'images' does not exist...
    """
    return _images(recipe.stimuli, network or make_network(recipe))


def _images(section: StimuliSection, network: Network) -> Stimuli:
    transform = _transform(section, network)
    if section.several is None:
        stimuli = _source(section, transform)
    else:
        stimuli = join_stimuli(*(_labelled(label, part, transform) for label, part in section.several.items()))
    if section.augmentation is not None:
        stimuli = stimuli.with_augmentation(_augmentation(section.augmentation))
    return stimuli.cached() if section.cached else stimuli


def _of_task(section: StimuliSection, network: Network) -> Stimuli:
    return _images(section, network).drop(section.drop)


def _labelled(label: str, section: StimuliSource, transform: Callable[..., Any] | None) -> Stimuli:
    with about(spelling=in_recipe(f"stimuli.several.{label}")):
        return _source(section, transform)


def _source(section: StimuliSource, transform: Callable[..., Any] | None) -> Stimuli:
    if section.folder is not None:
        stimuli = Stimuli.from_folder(section.folder, transform, section.labels)
    elif section.arrays is not None:
        stimuli = _from_npz(section.arrays).with_transform(transform)
    else:
        stimuli = _from_torchvision(section).with_transform(transform)
    if section.labels is not None and section.folder is None:
        stimuli = stimuli.with_labels(section.labels)
    return stimuli if section.first is None else stimuli.select(stimuli.names[: section.first])


@about(spelling=lambda argument: f"stimuli.augmentation.{argument.name}")
def _augmentation(changes: Mapping[Any, Any]) -> Augmentation:
    return Augmentation(**changes)


def transform_of(recipe: Recipe, network: Network) -> Callable[..., Any] | None:
    """Return the transform from an image to what the network of a recipe expects; None if it takes images as they are.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> student = {"model": "small_cnn", "layers": ["pool"]}
    >>> example = {"stimuli": {"folder": "images"}, "teacher": {"rdms": "it.h5"}, "student": student}
    >>> transform_of(check(example), make_network(check(example)))
    ImageTransform(size=8, mean=(), std=(), channels=1)
    """
    return _transform(recipe.stimuli, network)


def _transform(section: StimuliSection, network: Network) -> Callable[..., Any] | None:
    return network.transform if section.size is None else network.transform_for(section.size)


def _from_npz(path: Path) -> Stimuli:
    try:
        check_archive(path)
        # opened here, because NumPy does not close a damaged zip file
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            content = {key: file[key] for key in ("images", "names", "labels") if key in file}
    except (OSError, ValueError, TypeError, BadZipFile) as error:  # TypeError: a .npy file is one array, not an archive
        refuse(f"cannot read stimuli.arrays {str(path)!r}: {error}; it should be .npz with images and names")
    if missing := {"images", "names"} - set(content):
        refuse(f"stimuli.arrays {str(path)!r} lacks {sorted(missing)}; it needs images and names, and may have labels")
    labels = [as_text(label) for label in content["labels"]] if "labels" in content else None
    return Stimuli.from_arrays(content["images"], [as_text(name) for name in content["names"]], labels=labels)


def _from_torchvision(section: StimuliSource) -> Stimuli:
    from torchvision import datasets

    name = TORCHVISION[check_option(str(section.dataset), TORCHVISION, "stimuli.dataset")]
    try:
        return Stimuli.from_dataset(getattr(datasets, name)(section.root or ".", train=section.train, download=False))
    except (RuntimeError, OSError) as error:
        refuse(f"cannot read {name} in torchvision's layout from stimuli.root {str(section.root)!r}: {error}")


@about(spelling=in_recipe("task"))
def make_task(recipe: Recipe, network: Network | None = None) -> Task | None:
    """Make the task of a recipe; None if it has none.

    Parameters
    ----------
    recipe : Recipe
    network : Network, optional
        The student's network, if it is already built.

    Raises
    ------
    BrainrdlError
        If its images are missing or unreadable, or options do not go together.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> student = {"model": "small_cnn", "layers": ["pool"]}
    >>> example = {"stimuli": {"folder": "images"}, "teacher": {"rdms": "it.h5"}, "student": student}
    >>> make_task(check({**example, "task": {"weight": 0.5}}))
    Task(the images of the RDM, cross-entropy, weight 0.5)
    """
    if recipe.task is None:
        return None
    section = recipe.task
    options = section.model_dump(exclude={"stimuli", "stream", "validation"})
    if section.stream is not None:
        network = network or make_network(recipe)
        watched = None if section.stream.validation is None else _of_task(section.stream.validation, network)
        return Task(_stream(section.stream, network), validation=watched or section.validation, **options)
    images = None if section.stimuli is None else _of_task(section.stimuli, network or make_network(recipe))
    return Task(images, validation=section.validation, **options)


@about(spelling=in_recipe("task.stream"))
def _stream(section: StreamSection, network: Network) -> ImageStream:
    changes = section.augmentation
    return ImageStream(
        _called(section.factory, section.options, "stream", "task.stream"),
        section.classes,
        section.columns,
        section.buffer,
        network.transform if section.size is None else network.transform_for(section.size),
        None if changes is None else _augmentation(changes),
    )


@about(spelling=in_recipe("fit"))
def make_terms(recipe: Recipe) -> dict[str, Term]:
    """Make the additional terms of the loss of a recipe, which imports and runs the code of their factories.

    Parameters
    ----------
    recipe : Recipe

    Raises
    ------
    BrainrdlError
        If a factory cannot be imported or fails.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> student = {"model": "small_cnn", "layers": ["pool"]}
    >>> example = {"stimuli": {"folder": "images"}, "teacher": {"rdms": "it.h5"}, "student": student}
    >>> make_terms(check(example))
    {}
    """
    return {
        name: Term(_called(term.factory, term.options, f"term {name!r}:", f"the term {name!r}"), term.weight, term.on)
        for name, term in recipe.fit.terms.items()
    }


def _called(factory: str, options: Mapping[str, Any], what: str, where: str) -> Any:
    make = load_factory(factory, what)
    try:
        return make(**options)
    except TypeError as error:
        refuse(f"{factory!r} cannot be called with {dict(options)}: {error}; see options of {where}")


@about(spelling=in_recipe("teacher"))
def make_teacher(recipe: Recipe, stimuli: Stimuli) -> Teacher:
    """Make the teacher of a recipe, or its control.

    Parameters
    ----------
    recipe : Recipe
        A checked recipe, see `load`.
    stimuli : Stimuli
        The recipe's stimuli, for a network or a control as the teacher.

    Returns
    -------
    Teacher

    Raises
    ------
    BrainrdlError
        If the file or network cannot be read, or an argument of a control is missing.

    Examples
    --------
    >>> import torch
    >>> from brainrdl.recipe import check
    >>> student, network = ({key: "small_cnn", "layers": ["pool"]} for key in ("model", "network"))
    >>> example = {"stimuli": {"folder": "images"}, "teacher": network, "student": student}
    >>> stimuli = Stimuli.from_arrays(torch.rand(6, 1, 8, 8), list("abcdef"))
    >>> make_teacher(check(example), stimuli).targets
    ('pool',)
    """
    section = recipe.teacher
    teacher = (
        _teacher(section, stimuli)
        if section.several is None
        else _joint(recipe, section.several, stimuli, section.name)
    )
    if section.control is None:
        return teacher
    return control(section.control, teacher=teacher, stimuli=stimuli, conditions=stimuli.names)


def _joint(recipe: Recipe, parts: Mapping[str, TeacherSource], stimuli: Stimuli, name: str | None) -> JointTeacher:
    teachers = {}
    for label, part in parts.items():
        with about(spelling=in_recipe(f"teacher.several.{label}")):
            teachers[label] = _teacher(part, _own(recipe, label, stimuli) if part.network else stimuli)
    return JointTeacher(teachers, name=name)


def _own(recipe: Recipe, label: str, stimuli: Stimuli) -> Stimuli:
    """Choose the images of a network with the same label."""
    parts = recipe.stimuli.several or {}
    return stimuli if label not in parts else stimuli.select(_labelled(label, parts[label], None).names)


def _teacher(section: TeacherSource, stimuli: Stimuli) -> Teacher:
    teacher: Teacher
    if section.rdms is not None:
        keys = {key: getattr(section, key) for key in ("by", "target_by", "subject_by", "average_over")}
        with about(f"file {str(section.rdms)!r}"):
            found = read(section.rdms, names=section.names, by=section.by, **section.options)
            name = section.name or section.rdms.stem
            teacher = RDMTeacher(found, name=name, combine=section.combine, **keys)  # type: ignore[arg-type]
            teacher = teacher if section.subjects is None else teacher.only_subjects(map(str, section.subjects))
    elif section.features is not None:
        teacher = _feature_teacher(section)
    else:
        teacher = _network_teacher(section, stimuli)
    return teacher


def _feature_teacher(section: TeacherSource) -> FeatureTeacher:
    return FeatureTeacher(
        section.features,
        names=section.names,
        name=section.name,
        by=section.by,
        dissimilarity=section.dissimilarity,
        pool=section.pool or "flatten",
        **section.options,
    )


def _network_teacher(section: TeacherSource, stimuli: Stimuli) -> NetworkTeacher:
    """Return the images as the weights of the teacher's network expect them, not those of the student's."""
    name = str(section.network)
    network, fitted = build_fitted(name, section.weights)
    shown = stimuli if network.transform is None else stimuli.with_transform(network.transform)
    check_takes(network.module, shown, f"teacher.network {name!r}")
    same = section.view == "same"
    if same and repr(shown.transform) != repr(stimuli.transform):
        refuse(
            f"{arg('view', 'same')} shows the student's images to the teacher, but the weights of its network {name!r} "
            f"expect images prepared in another way: {shown.transform!r}; use {arg('view', 'clean')}"
        )
    readout = asked_readout(section.pool, section.step)
    return NetworkTeacher(
        reader(network.module, section.layers, readout, fitted),
        section.layers,
        dissimilarity=section.dissimilarity,
        stimuli=None if same else shown,
        view=section.view,
        cache=section.cache,
        cache_precision=section.cache_precision,
        name=section.name or name,
    )


@about(spelling=in_recipe("student"))
def make_student(recipe: Recipe, network: Network | None = None) -> Student:
    """Make the student of a recipe, with initial weights; those of a fitted run include its readouts.

    Parameters
    ----------
    recipe : Recipe
    network : Network, optional
        The student's network, if it is already built.

    Raises
    ------
    BrainrdlError
        If the network, its weights or a layer are unknown, or the weights are of a run with other readouts.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> student = {"model": "small_cnn", "layers": ["pool"]}
    >>> example = {"stimuli": {"folder": "images"}, "teacher": {"rdms": "it.h5"}, "student": student}
    >>> make_student(check(example)).layers
    ('pool',)
    """
    section = recipe.student
    readout = Readout(section.pool, section.standardise, section.projection, section.step)
    layers, module = section.layers, (network or make_network(recipe)).module
    student = Student(module, layers, readout=readout, trainable=section.trainable, batchnorm=section.batchnorm)
    fitted = read_fitted(section.weights)
    if fitted is not None:
        fitted.load(student)
    return student


def check_takes(module: nn.Module, stimuli: Stimuli, what: str) -> None:
    """Refuse images that a network cannot process, before any work."""
    image = stimuli.images(stimuli.names[:1])
    try:
        with evaluating(module):
            module(image)
    except Exception as error:  # forward is the user's code and may raise anything
        refuse(
            f"{what} cannot process the images, of shape {tuple(image.shape[1:])} (channels, height, width): "
            f"{type(error).__name__}: {' '.join(str(error).split())}; choose another stimuli.size, or let its factory "
            "return a brainrdl.models.Network with the transform that it needs"
        )


@about(spelling=in_recipe("loss"))
def make_loss(recipe: Recipe) -> RDMLoss:
    """Make the loss of a recipe.

    Parameters
    ----------
    recipe : Recipe
        A checked recipe, see `load`.

    Returns
    -------
    RDMLoss

    Raises
    ------
    BrainrdlError
        If a name is unknown or the similarity has no gradient.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> student = {"model": "small_cnn", "layers": ["pool"]}
    >>> example = {"stimuli": {"folder": "images"}, "teacher": {"rdms": "it.h5"}, "student": student}
    >>> make_loss(check(example)).similarity
    'corr'
    """
    section = recipe.loss
    given = section.model_dump(exclude={"preset", "half_life", "n_pairs"}, exclude_none=True)
    match = recipe.student.layers if isinstance(recipe.student.layers, dict) else None
    if section.preset == "rdl2016":
        return RDMLoss.rdl2016(n_pairs=section.n_pairs, half_life=section.half_life, match=match, **given)
    schedule = Decay(section.half_life) if section.half_life is not None else None
    return RDMLoss(match=match, n_pairs=section.n_pairs, schedule=schedule, **given)
