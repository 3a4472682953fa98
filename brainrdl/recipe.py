"""A whole experiment as one YAML file: checked before any work starts, then turned into arguments of the Python API.

Paths in a recipe are relative to the folder where the command is run. Environment variables (``$NAME``) and ``~`` are
expanded. A network named ``package.module:factory`` is imported, which runs its code: run only recipes that you trust.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal
from zipfile import BadZipFile

import numpy as np
import torch
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from torch import nn

from brainrdl import _checkpoint, _files
from brainrdl import result as _result
from brainrdl._checks import BrainrdlError, check_conditions, check_option, quote, refuse
from brainrdl.cross_validation import CONTROLS, cross_validate
from brainrdl.distributed import check_one_process
from brainrdl.evaluation import Evaluation
from brainrdl.folds import Splitter
from brainrdl.loss import Decay, RDMLoss
from brainrdl.models import Network, build
from brainrdl.readers import read
from brainrdl.result import FitResult
from brainrdl.sampling import split
from brainrdl.stimuli import ImageTransform, Stimuli, default_transform
from brainrdl.student import Readout, Student
from brainrdl.teachers import NetworkTeacher, RDMTeacher, Teacher, control
from brainrdl.training import fit

RECIPE = "recipe.yaml"
_EXAMPLE = {
    "stimuli": {"folder": "images"},
    "teacher": {"rdms": "it.h5"},
    "student": {"model": "small_cnn", "layers": ["pool"]},
}


def _expanded(path: Path) -> Path:
    return Path(os.path.expandvars(path)).expanduser()


def _number(value: Any) -> Any:
    """Take 1e-4 for a number, as YAML 1.2 does: PyYAML, which keeps to YAML 1.1, gives it as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


DataPath = Annotated[Path, Field(strict=False), AfterValidator(_expanded)]
Share = Annotated[float, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy takes


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=(), strict=True)  # neither true nor "5" is a number


class _StimuliSection(_Section):
    """Where the images are: a folder, an .npz file with images and names, or a torchvision data set on disk."""

    folder: DataPath | None = None
    arrays: DataPath | None = None
    dataset: str | None = None
    root: DataPath | None = None
    train: bool = True
    first: int | None = Field(None, gt=0, description="Keep only the first so many stimuli.")
    labels: DataPath | None = None
    allow_missing: bool = Field(False, description="Keep the common names where stimuli and RDM conditions differ.")
    size: int | None = Field(None, gt=0, description="Side in pixels; the student network's own by default.")
    cached: bool = Field(True, description="Keep the transformed images in memory.")

    @model_validator(mode="after")
    def _one_source(self) -> _StimuliSection:
        _exactly_one(self, "folder", "arrays", "dataset")
        return self


class _TeacherSection(_Section):
    """Where the teacher's RDMs come from: a file, or a network."""

    rdms: DataPath | None = None
    names: DataPath | list[str] | None = None
    by: str = "stimulus"
    target_by: str = "roi"
    subject_by: str = "subject"
    combine: Literal["mean", "reliability", "sample", "all"] = "mean"
    subjects: list[str | int] | None = Field(None, min_length=1, description="Keep these subjects alone.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the file's reader, e.g. variable: IT_RDMs."
    )
    network: str | None = None
    weights: str | None = None
    layers: list[str] = Field(default_factory=list)
    pool: Literal["flatten", "avgpool"] = "flatten"
    dissimilarity: str = "correlation"
    cache: bool = False
    control: Literal["permuted", "random", "category", "pixels"] | None = None

    @field_validator("options")
    @classmethod
    def _readers_own(cls, options: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted({"path", "names", "by"} & set(options)):
            raise ValueError(f"{taken[0]!r} is no option of a reader; give rdms, names and by beside options")
        return options

    @model_validator(mode="after")
    def _one_source(self) -> _TeacherSection:
        _exactly_one(self, "rdms", "network")
        return self


class _StudentSection(_Section):
    """Which network is fitted, where it is read out, and what of it trains."""

    model: str
    weights: str | None = None
    layers: list[str] | dict[str, str]
    pool: Literal["flatten", "avgpool"] = "flatten"
    standardise: bool = False
    projection: int | Literal["square"] | None = None
    trainable: str = "all"
    batchnorm: Literal["eval", "train"] = "eval"


class _LossSection(_Section):
    """How far the student's RDM is from the teacher's."""

    preset: Literal["default", "rdl2016"] = "default"
    dissimilarity: str | None = None
    similarity: str | None = None
    form: Literal["similarity", "mse"] | None = None
    scale: Literal["mean", "none"] | None = None
    layer_weights: dict[str, Number] | None = None
    n_pairs: int | None = None
    half_life: Number | None = Field(None, gt=0)


class _FitSection(_Section):
    """Options of `brainrdl.fit`."""

    steps: int = Field(200, ge=0)
    batch_size: int | None = None
    rdm_weight: Number = Field(1.0, ge=0)
    task_weight: Number = Field(0.0, ge=0)
    optimizer: Literal["adam", "adamw", "sgd", "momentum", "rmsprop"] = "adam"
    lr: Number = Field(1e-3, gt=0)
    weight_decay: Number = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    clip: Number | None = Field(None, gt=0)
    validation: Share | list[str] = Field(default_factory=list)
    patience: int | None = Field(None, gt=0)
    monitor: Literal["similarity", "accuracy"] = "similarity"
    evaluate_every: int = Field(10, gt=0)
    checkpoint_every: int = Field(100, gt=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"


class _EvaluationSection(_Section):
    """What is held out, and how it is scored: `folds` for cross-validation, or one `held_out` list or share."""

    folds: int | None = Field(None, ge=2)
    held_out: Share | list[str] | None = None  # names, or the share to draw with the first seed
    seeds: list[Seed] = Field(default_factory=lambda: [0], min_length=1)
    stratify: bool = True
    inner_folds: int = Field(0, ge=0)
    subjects: Literal["all", "leave-one-out"] = "all"
    comparators: list[str] = Field(default_factory=lambda: ["spearman", "corr"], min_length=1)
    # None: all that apply. Those asked for by name must apply.
    controls: list[Literal["unfitted", "permuted", "category"]] | None = None
    n_bootstrap: int = Field(1000, ge=0)

    @field_validator("held_out")
    @classmethod
    def _some(cls, held_out: float | list[str] | None) -> float | list[str] | None:
        wrong = not 0 < held_out < 1 if isinstance(held_out, float) else held_out == []
        if wrong:
            raise ValueError(f"give names, or a share between 0 and 1, or leave it out; got {held_out!r}")
        return held_out

    @field_validator("inner_folds")
    @classmethod
    def _none_or_several(cls, inner_folds: int) -> int:
        if inner_folds == 1:
            raise ValueError("one fold leaves nothing to train on; give 0 for none, or 2 or more; got 1")
        return inner_folds

    @model_validator(mode="after")
    def _one_way(self) -> _EvaluationSection:
        if self.folds is not None and self.held_out is not None:
            raise ValueError("give folds or held_out, not both")
        return self


class Recipe(_Section):
    """One experiment; see `template` for a commented example.

    Examples
    --------
    >>> Recipe.model_validate(
    ...     {
    ...         "stimuli": {"folder": "images"},
    ...         "teacher": {"rdms": "it.h5"},
    ...         "student": {"model": "resnet18", "layers": ["layer4"]},
    ...     }
    ... ).fit.steps
    200
    """

    stimuli: _StimuliSection
    teacher: _TeacherSection
    student: _StudentSection
    loss: _LossSection = _LossSection()
    fit: _FitSection = _FitSection()
    evaluation: _EvaluationSection = _EvaluationSection()

    @model_validator(mode="before")
    @classmethod
    def _without_empty_sections(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        return {section: keys for section, keys in content.items() if keys is not None}


def _exactly_one(section: BaseModel, *keys: str) -> None:
    given = [key for key in keys if getattr(section, key) is not None]
    if len(given) != 1:
        raise ValueError(f"give exactly one of {', '.join(keys)}, got {', '.join(given) or 'none'}")


def load(path: Path | str, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    path : path
        YAML file.
    changes : sequence of str
        ``"section.key=value"``, the value in YAML, applied before the check.

    Returns
    -------
    Recipe

    Raises
    ------
    BrainrdlError
        If the file is missing or no YAML, or a key or value is wrong; unknown keys come with the nearest valid one.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "recipe.yaml"
    >>> _ = path.write_text(template())
    >>> load(path, ["fit.steps=5"]).fit.steps
    5
    """
    where = f"recipe {str(path)!r}"
    try:
        content = _parsed(Path(path).read_text(encoding="utf-8"), where)
    except OSError as error:
        refuse(f"cannot read {where}: {error.strerror}; see 'brainrdl recipe --template'")
    except UnicodeDecodeError as error:
        refuse(f"{where} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8")
    if not isinstance(content, dict):
        refuse(f"{where} should hold sections (stimuli, teacher, student, ...), got {type(content).__name__}")
    for change in changes:
        _apply(content, change)
    return check(content, where)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but for a key that stands twice: of its two values one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            before = first.setdefault(str(key.value), key)
            if before is not key:
                refuse(f"key {key.value!r} stands twice, in {_line(before)} and in {_line(key)}; keep one of them")
        return super().construct_mapping(node, deep)


def _line(node: yaml.Node) -> str:
    mark = node.start_mark
    return f"line {mark.line + 1} ({(mark.buffer or '').splitlines()[mark.line].strip()!r})"


def _parsed(text: str, where: str) -> Any:
    try:
        with advice(of=where):
            return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        tab = "; indent with spaces, not with tabs" if r"'\t'" in str(error) else ""
        told = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        refuse(f"{where} is not YAML: {told}{tab}")


def _apply(content: dict[str, Any], change: str) -> None:
    key, found, value = change.partition("=")
    if not found:
        refuse(f"--set expects section.key=value, got {change!r}")
    parsed = _parsed(value, f"--set {change!r}: {value!r}")
    *sections, last = key.strip().split(".")
    for section in sections:
        if content.get(section) is None:
            content[section] = {}
        content = content[section]
        if not isinstance(content, dict):
            refuse(f"--set {change!r}: {section!r} holds {content!r}, no section")
    content[last] = parsed


def check(content: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Check the content of a recipe.

    Raises
    ------
    BrainrdlError
        As `load`; every fault is named with its place.

    Examples
    --------
    >>> check({"stimuli": {"foldr": "images"}})
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: recipe: unknown key stimuli.foldr; nearest: 'folder'; teacher: Field required; ...
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        places: dict[str, list[Mapping[str, Any]]] = {}  # a value that may be of several types has a fault for each
        for fault in error.errors():
            places.setdefault(_place(fault["loc"]), []).append(dict(fault))
        refuse(f"{where}: " + "; ".join(_worded(place, faults) for place, faults in places.items()))


_SHOULD = {
    "int_type": "should be a whole number",
    "float_type": "should be a number",
    "bool_type": "should be true or false",
    "string_type": "should be text",
    "list_type": "should be a list",
    "dict_type": "should be a mapping",
    "path_type": "should be a path",
    "model_type": "should be a section of keys",
}
_TYPE = re.compile(r"int|float|str|.*[\[(].*")  # what pydantic puts into a place for each type that a value may have


def _place(loc: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in loc if isinstance(part, int) or not _TYPE.fullmatch(part))


def _worded(place: str, faults: Sequence[Mapping[str, Any]]) -> str:
    fault = faults[0]
    if fault["type"] == "extra_forbidden":
        keys = _keys_at(fault["loc"][:-1])
        close = difflib.get_close_matches(str(fault["loc"][-1]), keys, 1, 0.5)
        return f"unknown key {place}" + (f"; nearest: {close[0]!r}" if close else f" (known: {', '.join(keys)})")
    messages = (_SHOULD.get(fault["type"], fault["msg"].removeprefix("Value error, ")) for fault in faults)
    told = "" if fault["type"] in ("value_error", "missing") else f", got {fault['input']!r}"
    return f"{place}: {' or '.join(messages).replace(' or should be', ' or')}{told}"


def _keys_at(place: Sequence[str | int]) -> list[str]:
    model: Any = Recipe
    for part in place:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def template() -> str:
    """Give a commented recipe to start from, as YAML text.

    Examples
    --------
    >>> check(yaml.safe_load(template())).student.model
    'resnet18'
    """
    return (Path(__file__).parent / "templates" / RECIPE).read_text(encoding="utf-8")


# Python arguments that messages of the package advise, and the keys of a recipe that stand for them; `_keys` adds those
# that have the same name.
_SPELLED = {
    "variable=": "teacher.options.variable",
    "axes=": "teacher.options.axes",
    "delimiter=": "teacher.options.delimiter",
    "reader=": "teacher.options.reader",
    "names=": "teacher.names",
    "dissimilarity=": "teacher.dissimilarity",
    "NetworkTeacher(": "teacher.network",
    "only_subjects(": "teacher.subjects",
    "match=": "student.layers: {layer: target}",
    "with_labels(": "stimuli.labels",
    "default_transform(": "stimuli.size",
}


def _keys() -> dict[str, str]:
    sections = {section: field.annotation for section, field in Recipe.model_fields.items()}
    same = {f"{key}=": f"{section}.{key}" for section, made in sections.items() for key in made.model_fields}  # type: ignore[union-attr]
    return same | _SPELLED


@contextmanager
def advice(keys: Mapping[str, str] = MappingProxyType({}), where: str = "", of: str = "") -> Iterator[None]:
    """Add to a refusal what it is about, and how the Python arguments that it advises are spelled elsewhere.

    Parameters
    ----------
    keys : mapping of str to str, optional
        What the message may advise, and how that is spelled.
    where : str
        Where it is spelled so.
    of : str
        Put before a message that does not hold it.

    Raises
    ------
    BrainrdlError
        The refusal, with these words.

    Examples
    --------
    >>> with advice({"by=": "teacher.by"}, "in the recipe", of="file 'it.h5'"):
    ...     refuse("choose one with by=")
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: file 'it.h5': choose one with by= (in the recipe: teacher.by)
    """
    try:
        yield
    except BrainrdlError as error:
        message = str(error)
        spelled = [keys[words] for words in keys if re.search(rf"(?<![\w.]){re.escape(words)}", message)]
        before = f"{of}: " if of not in message else ""
        after = f" ({where}: {', '.join(spelled)})" if spelled else ""
        raise BrainrdlError(f"{before}{message}{after}") from error


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
    >>> make_stimuli(check(_EXAMPLE))
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


def _from_torchvision(section: _StimuliSection) -> Stimuli:
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
    >>> network = {"network": "small_cnn", "layers": ["pool"]}
    >>> stimuli = Stimuli.from_arrays(torch.rand(6, 1, 8, 8), list("abcdef"))
    >>> make_teacher(check(_EXAMPLE | {"teacher": network}), stimuli).targets
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


def _network_teacher(section: _TeacherSection, stimuli: Stimuli) -> NetworkTeacher:
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
    >>> make_student(check(_EXAMPLE)).layers
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
    >>> make_loss(check(_EXAMPLE)).similarity
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
    >>> run(check(_EXAMPLE), "runs/example")
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: stimulus folder 'images' does not exist...
    """
    with advice(_keys(), "in the recipe"):
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


def _check_controls(section: _EvaluationSection, stimuli: Stimuli) -> None:
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


def _one_fold(section: _EvaluationSection, stimuli: Stimuli) -> Splitter | None:
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


def dump(recipe: Recipe) -> str:
    """Write out a recipe as YAML text, every default spelled out.

    Examples
    --------
    >>> "inner_folds: 4" in dump(check(yaml.safe_load(template())))
    True
    """
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def save(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML, atomically.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / RECIPE
    >>> save(check(_EXAMPLE), path)
    >>> load(path) == check(_EXAMPLE)
    True
    """
    with _files.atomic(path) as part:
        part.write_text(dump(recipe), encoding="utf-8")
