"""Do what a recipe says: build its stimuli, teacher, student and loss, fit and score, all into a run folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import nn

from brainrdl import _checkpoint, _files
from brainrdl import result as _result
from brainrdl._advice import advice
from brainrdl._checks import BrainrdlError, check_conditions, check_option, quote, refuse
from brainrdl._schema import EvaluationSection, StimuliSection, TeacherSection
from brainrdl.cross_validation import CONTROLS, cross_validate
from brainrdl.distributed import check_one_process
from brainrdl.evaluation import Evaluation
from brainrdl.folds import Splitter
from brainrdl.loss import Decay, RDMLoss
from brainrdl.models import Network, build
from brainrdl.readers import read
from brainrdl.recipe import RECIPE, Recipe, load, save, spelled
from brainrdl.result import FitResult
from brainrdl.sampling import split
from brainrdl.stimuli import ImageTransform, Stimuli, default_transform
from brainrdl.student import Readout, Student
from brainrdl.teachers import NetworkTeacher, RDMTeacher, Teacher, control
from brainrdl.training import fit


def _network(recipe: Recipe) -> Network:
    return build(recipe.student.model, recipe.student.weights)


def make_stimuli(recipe: Recipe) -> Stimuli:
    """Stimuli of a recipe, transformed as the student network expects.

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
    brainrdl._checks.BrainrdlError: stimulus folder 'images' does not exist...
    """
    section, network = recipe.stimuli, _network(recipe)
    transform = network.transform
    if section.size is not None and section.size != network.size:
        transform = _resized(transform, section.size, network)
    if section.folder is not None:
        stimuli = Stimuli.from_folder(section.folder, transform, section.labels)
    elif section.arrays is not None:
        stimuli = _from_npz(section.arrays).with_transform(transform)
    else:
        stimuli = _from_torchvision(section).with_transform(transform)
    if section.labels is not None and section.folder is None:
        stimuli = stimuli.with_labels(section.labels)
    if section.first is not None:
        stimuli = stimuli.select(stimuli.names[: section.first])
    return stimuli.cached() if section.cached else stimuli


def _resized(transform: Any, size: int, network: Network) -> Any:
    if transform is None:
        return default_transform(size, channels=network.channels)
    if not isinstance(transform, ImageTransform):
        refuse(
            f"stimuli.size={size} cannot be put into {transform!r}, which the student's weights come with; leave it out"
        )
    return replace(transform, size=size)


def _from_npz(path: Path) -> Stimuli:
    try:
        # opened here, because NumPy leaves a damaged zip open
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            content = {key: file[key] for key in ("images", "names", "labels") if key in file}
    except (OSError, ValueError, TypeError, BadZipFile) as error:  # TypeError: a .npy file is one array, no archive
        refuse(f"cannot read stimuli.arrays {str(path)!r}: {error}; it should be .npz with images and names, no pickle")
    if missing := {"images", "names"} - set(content):
        refuse(f"stimuli.arrays {str(path)!r} lacks {sorted(missing)}; it should hold images, names, and labels if any")
    labels = [str(label) for label in content["labels"]] if "labels" in content else None
    return Stimuli.from_arrays(content["images"], [str(name) for name in content["names"]], labels=labels)


_DATASETS = {
    "mnist": "MNIST",
    "fashionmnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}


def _from_torchvision(section: StimuliSection) -> Stimuli:
    from torchvision import datasets

    name = _DATASETS[check_option(str(section.dataset), _DATASETS, "stimuli.dataset")]
    try:
        return Stimuli.from_dataset(getattr(datasets, name)(section.root or ".", train=section.train, download=False))
    except (RuntimeError, OSError) as error:
        refuse(f"cannot read {name} below stimuli.root {str(section.root)!r} in torchvision's layout: {error}")


def make_teacher(recipe: Recipe, stimuli: Stimuli) -> Teacher:
    """Teacher of a recipe, or its control.

    Raises
    ------
    BrainrdlError
        If the file or network cannot be read, or a control lacks what it needs.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> student, network = ({key: "small_cnn", "layers": ["pool"]} for key in ("model", "network"))
    >>> example = {"stimuli": {"folder": "images"}, "teacher": network, "student": student}
    >>> stimuli = Stimuli.from_arrays(torch.rand(6, 1, 8, 8), list("abcdef"))
    >>> make_teacher(check(example), stimuli).targets
    ('pool',)
    """
    section = recipe.teacher
    teacher: Teacher
    if section.rdms is not None:
        keys = {"by": section.by, "target_by": section.target_by, "subject_by": section.subject_by}
        with advice(of=f"file {str(section.rdms)!r}"):
            found = read(section.rdms, names=section.names, by=section.by, **section.options)
            teacher = RDMTeacher(found, name=section.rdms.stem, combine=section.combine, **keys)  # type: ignore[arg-type]
            teacher = teacher if section.subjects is None else teacher.only_subjects(map(str, section.subjects))
    else:
        teacher = _network_teacher(section, stimuli)
    if section.control is None:
        return teacher
    return control(section.control, teacher=teacher, stimuli=stimuli, conditions=stimuli.names)


def _network_teacher(section: TeacherSection, stimuli: Stimuli) -> NetworkTeacher:
    """Give the teacher network the images as its own weights expect them, not as the student's do."""
    name, network = str(section.network), build(str(section.network), section.weights)
    shown = stimuli if network.transform is None else stimuli.with_transform(network.transform)
    _check_takes(network.module, shown, f"teacher.network {name!r}")
    return NetworkTeacher(
        network.module,
        section.layers,
        dissimilarity=section.dissimilarity,
        pool=section.pool,
        stimuli=shown,
        cache=section.cache,
        name=name,
    )


def make_student(recipe: Recipe) -> Student:
    """Student of a recipe, with fresh weights.

    Raises
    ------
    BrainrdlError
        If the network, its weights or a layer are unknown.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> student = {"model": "small_cnn", "layers": ["pool"]}
    >>> example = {"stimuli": {"folder": "images"}, "teacher": {"rdms": "it.h5"}, "student": student}
    >>> make_student(check(example)).layers
    ('pool',)
    """
    section = recipe.student
    readout = Readout(section.pool, section.standardise, section.projection)
    layers, network = section.layers, _network(recipe).module
    return Student(network, layers, readout=readout, trainable=section.trainable, batchnorm=section.batchnorm)


def _check_takes(module: nn.Module, stimuli: Stimuli, what: str) -> None:
    """Refuse images that a network cannot take, before any work."""
    image = stimuli.images(stimuli.names[:1])
    try:
        with torch.no_grad():
            module.eval()(image)
    except Exception as error:  # its forward is anyone's code
        refuse(
            f"{what} cannot take the images, of shape {tuple(image.shape[1:])} (channels, height, width): "
            f"{type(error).__name__}: {' '.join(str(error).split())}; choose another stimuli.size, or let its factory "
            "return a brainrdl.models.Network with the transform that it needs"
        )


def make_loss(recipe: Recipe) -> RDMLoss:
    """Loss of a recipe.

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


def run(
    recipe: Recipe, out: Path | str, *, resume: bool = False, overwrite: bool = False, progress: bool = True
) -> Evaluation | FitResult:
    """Do what a recipe says, into a run folder.

    Parameters
    ----------
    recipe : Recipe
    out : path
        Run folder; the recipe that was first run is kept there.
    resume, overwrite : bool
        What to do when it exists.
    progress : bool
        Show progress bars.

    Returns
    -------
    Evaluation or FitResult
        An evaluation if the recipe holds stimuli out (`folds` or `held_out`), else the fit to all stimuli.

    Raises
    ------
    BrainrdlError
        As `fit` and `cross_validate`; also when stimuli and RDM conditions differ, a run is resumed with a recipe
        that differs in what was fitted, or there are several processes. A run that is refused before it has begun
        leaves no folder behind.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> student = {"model": "small_cnn", "layers": ["pool"]}
    >>> example = {"stimuli": {"folder": "images"}, "teacher": {"rdms": "it.h5"}, "student": student}
    >>> run(check(example), "runs/example")
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: stimulus folder 'images' does not exist...
    """
    with advice(spelled(), "in the recipe"):
        check_one_process("a recipe")
        return _run(recipe, Path(out), resume, overwrite, progress)


def _run(recipe: Recipe, out: Path, resume: bool, overwrite: bool, progress: bool) -> Evaluation | FitResult:
    torch.manual_seed(recipe.evaluation.seeds[0])
    stimuli = make_stimuli(recipe)
    teacher = make_teacher(recipe, stimuli)
    if isinstance(teacher, RDMTeacher):
        stimuli = stimuli.align(teacher.conditions, recipe.stimuli.allow_missing)
    _check_takes(make_student(recipe).model, stimuli, f"student.model {recipe.student.model!r}")
    options = {"loss": make_loss(recipe), "progress": progress, **recipe.fit.model_dump()}
    section = recipe.evaluation
    _check_controls(section, stimuli)
    folds = section.folds or _one_fold(section, stimuli)
    _check_unseen(recipe, stimuli, folds)
    with _result.opened(out, resume=resume, overwrite=overwrite) as folder, _kept(recipe, folder):
        if folds is None:
            student, seed = make_student(recipe), section.seeds[0]
            return fit(student, teacher, stimuli, seed=seed, out=folder, resume=True, **options)
        chosen = section.model_dump(exclude={"folds", "held_out", "controls"})
        controls = CONTROLS if section.controls is None else section.controls
        make = partial(make_student, recipe)
        return cross_validate(
            make, teacher, stimuli, folds=folds, controls=controls, out=folder, resume=True,
            facts={"recipe_student": recipe.student.model_dump()}, **chosen, **options,
        )  # fmt: skip


def _check_unseen(recipe: Recipe, stimuli: Stimuli, folds: object) -> None:
    """Refuse weights of a run that was fitted to what is held out now: its scores would not be of new stimuli."""
    weights = Path(recipe.student.weights or "no weights")
    beside = weights.with_name(_result.SETTINGS)
    if folds is None or not (weights.is_file() and beside.is_file()):
        return
    told = _files.read_json(beside)
    seen = sorted({*told.get("train", ()), *told.get("validation", ())} & set(stimuli.names))
    if seen:
        refuse(
            f"student.weights {str(weights)!r} were fitted to {len(seen)} of these stimuli, {quote(seen)}: held-out "
            "ones would not be new to them. Take other weights, or hold nothing out; if only the names are the same, "
            "copy the weights out of their run folder"
        )


def _check_controls(section: EvaluationSection, stimuli: Stimuli) -> None:
    categories = sorted(set((stimuli.labels or {}).values()))
    if "category" in (section.controls or ()) and len(categories) < 2:
        refuse(
            f"evaluation.controls asks for 'category', which needs stimuli of two categories or more, and they have "
            f"{quote(categories) if categories else 'no labels'}; give stimuli.labels, or leave that control out"
        )


_MAY_CHANGE = {  # between a run and its resumption: how it is computed and judged, not what is fitted
    "stimuli": {"cached"},
    "fit": {"device"},
    "evaluation": {"comparators", "controls", "n_bootstrap"},
}


@contextmanager
def _kept(recipe: Recipe, folder: Path) -> Iterator[None]:
    """Keep the recipe in the run folder, but not that of a run which has not begun when the block ends."""
    path = folder / RECIPE
    ours = not path.exists()
    _keep(recipe, folder)
    try:
        yield
    finally:
        if ours and not (folder / _result.SETTINGS).exists():
            path.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()


def _keep(recipe: Recipe, folder: Path) -> None:
    """Save the recipe of a new run; refuse another in a run that has begun: its fits would be taken for the other's."""
    path = folder / RECIPE
    if path.exists() and (folder / _result.SETTINGS).exists():
        asked, stored = (made.model_dump(mode="json", exclude=_MAY_CHANGE) for made in (recipe, load(path)))
        _checkpoint.check_same_settings(asked, stored, str(path))
    else:
        save(recipe, path)


def _one_fold(section: EvaluationSection, stimuli: Stimuli) -> Splitter | None:
    """Make a splitter that holds out the conditions asked for, once; None if none are."""
    from sklearn.model_selection import PredefinedSplit

    if section.held_out is None:
        return None
    share = section.held_out
    names = set(split(stimuli.names, share, section.seeds[0])[1] if isinstance(share, float) else share)
    check_conditions(names, stimuli.names, "the stimuli")
    return PredefinedSplit([0 if name in names else -1 for name in stimuli.names])


def evaluate_run(folder: Path | str, comparators: Sequence[str] = ()) -> Evaluation:
    """Score a finished run again, with its own comparators or others; what was fitted is loaded, not fitted anew.

    Nothing is written; `Evaluation.save` does that.

    Raises
    ------
    BrainrdlError
        If the folder is no finished run of a recipe, or the recipe holds nothing out.

    Examples
    --------
    >>> evaluate_run("no/such/run")
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: cannot read recipe 'no/such/run/recipe.yaml': No such file or directory; ...
    """
    folder = Path(folder)
    if (folder / "evaluation.json").exists() and not (folder / RECIPE).exists():
        refuse(
            f"run {str(folder)!r} was made in Python, not by a recipe: score it again there, with "
            "cross_validate(..., resume=True, comparators=[...])"
        )
    recipe = load(folder / RECIPE)
    section = recipe.evaluation
    if section.folds is None and section.held_out is None:
        refuse(f"run {str(folder)!r} holds nothing out, so there is nothing to score; set evaluation.folds or held_out")
    if not (folder / "evaluation.json").exists():
        refuse(f"run {str(folder)!r} is not finished; go on with it first: `brainrdl fit` with --resume")
    if comparators:
        recipe = recipe.model_copy(update={"evaluation": section.model_copy(update={"comparators": list(comparators)})})
    with _shadow(folder) as shadow:
        return run(recipe, shadow, resume=True, progress=False)  # type: ignore[return-value]


@contextmanager
def _shadow(folder: Path) -> Iterator[Path]:
    """Give a temporary run folder with the fits of another, which stays as it is."""
    with tempfile.TemporaryDirectory(prefix="brainrdl-") as made:
        shadow = Path(made)
        for name in (RECIPE, _result.SETTINGS, _result.PROVENANCE):
            shutil.copy(folder / name, shadow)
        (shadow / "fits").mkdir()
        for fitted in (folder / "fits").iterdir():
            (shadow / "fits" / fitted.name).symlink_to(fitted.resolve())
        try:
            yield shadow
        except BrainrdlError as error:
            raise BrainrdlError(str(error).replace(made, str(folder))) from error
