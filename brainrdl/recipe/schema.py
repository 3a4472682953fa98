"""Every key of a recipe, with its allowed values and its default."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    create_model,
    field_validator,
    model_validator,
)

from brainrdl._core.constants import TeacherControl
from brainrdl._core.errors import quote
from brainrdl._core.options import Names, Option, for_files, members, options_of
from brainrdl.evaluation.options import EvaluationOptions
from brainrdl.models.pools import check_pool
from brainrdl.training.options import TaskOptions, TrainingOptions


def _expanded(path: Path) -> Path:
    return Path(os.path.expandvars(path)).expanduser()


def _number(value: Any) -> Any:
    """Convert the text 1e-4 to a number, as in YAML 1.2: PyYAML follows YAML 1.1 and reads it as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


DataPath = Annotated[Path, Field(strict=False), AfterValidator(_expanded)]

Share = Annotated[float, BeforeValidator(_number)]

Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


Measure = Annotated[str, Names("brainrdl.dissimilarity.registry:DISSIMILARITIES")]

Comparator = Annotated[str, Names("brainrdl.similarity.registry:SIMILARITIES")]

Pool = Annotated[str, Names("brainrdl.models.pools:POOLS"), AfterValidator(check_pool)]

TORCHVISION = {  # names of its classes
    "mnist": "MNIST",
    "fashionmnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", protected_namespaces=(), strict=True
    )  # so that true and "5" are not numbers


def _changed(section: BaseModel) -> list[str]:
    """Keys of a section that are given and differ from their defaults."""
    fields = type(section).model_fields
    given = [key for key in fields if key in section.model_fields_set]
    values = ((key, getattr(section, key), fields[key].get_default(call_default_factory=True)) for key in given)
    return [key for key, value, default in values if value != default and (value or default)]  # [] is ()


def _check_used(section: BaseModel, users: Mapping[str, Sequence[str]]) -> None:
    """Refuse keys of a section that only apply to sources which it does not have."""
    for key in _changed(section):
        sources = users.get(key)
        if sources is not None and all(getattr(section, source, None) is None for source in sources):
            raise ValueError(
                f"{key} only applies to {' or '.join(sources)}, which is not given here; "
                f"leave it out, got {getattr(section, key)!r}"
            )


def _keys(section: str, options: type, optional: Sequence[str] = ()) -> Any:
    """Make the keys of a section from options, with their defaults and help, checked as in Python.

    Keys in `optional` are null by default.
    """
    fields: dict[str, Any] = {}
    for name, option in options_of(options).items():
        option = for_files(option)
        if name in optional:
            option = replace(option, default=None, kind=option.kind | None)
        default = list(option.default) if isinstance(option.default, tuple) else option.default
        checked = PlainValidator(partial(_checked, option, f"{section}.{name}"))
        fields[name] = (Annotated[Any, option, checked], Field(default, description=option.help))
    return create_model(f"_{section.title()}Keys", __base__=_Section, **fields)


def _checked(option: Option, place: str, value: Any) -> Any:
    value = "no" if value is False and "no" in get_args(option.kind) else value  # YAML 1.1 reads no as false
    found = option.check(_number(value) if float in members(option.kind) else value, place)
    return _expanded(found) if isinstance(found, Path) else found


Changes = dict[Literal["crop", "flip", "brightness", "contrast"], bool | int | float] | None


class StimuliSource(_Section):
    """Images of one brain: a folder, an .npz file with images and names, or a torchvision data set on disk."""

    sources: ClassVar[tuple[str, ...]] = ("folder", "arrays", "dataset")
    users: ClassVar[Mapping[str, Sequence[str]]] = {
        "root": ("dataset",),
        "train": ("dataset",),
        "first": sources,
        "labels": sources,
    }

    folder: DataPath | None = Field(None, description="Folder with one image per condition, named by the file's stem.")
    arrays: DataPath | None = Field(None, description="NumPy file (.npz) with images, names and, optionally, labels.")
    dataset: Annotated[str, Names("brainrdl.recipe.schema:TORCHVISION")] | None = Field(
        None, description="Name of a torchvision data set."
    )
    root: DataPath | None = Field(
        None, description="Folder of the torchvision data set; the current folder by default."
    )
    train: bool = Field(True, description="Use the training part of the torchvision data set; false for the test part.")
    first: int | None = Field(None, gt=0, description="Use only this many stimuli, from the first one; all by default.")
    labels: DataPath | None = Field(
        None,
        description="CSV file with columns stimulus and category, for stratified folds, category models and tasks.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> StimuliSource:
        _exactly_one(self, *self.sources)
        _check_used(self, self.users)
        return self


class StimuliSection(StimuliSource):
    """The images: a folder, an .npz file, a torchvision data set on disk, or several of these."""

    sources: ClassVar[tuple[str, ...]] = (*StimuliSource.sources, "several")

    several: dict[str, StimuliSource] | None = Field(
        None,
        description="Several sets of images by label, for example those of several brains (teacher.several), each with "
        "the keys above; a name in two sets must be the same image.",
    )
    allow_missing: bool = Field(
        False,
        description="If stimuli and RDM conditions differ, use the names that both have; by default this is an error.",
    )
    drop: list[str] = Field(
        default_factory=list, description="Stimuli to leave out, for example all but one of identical images."
    )
    size: int | None = Field(
        None, gt=0, description="Side of the images in pixels; by default the size that the student's network expects."
    )
    cached: bool = Field(True, description="Keep the resized images in memory.")
    augmentation: Changes = Field(
        None,
        description="Random changes of the images in training steps, for example {crop: 4, flip: true}: crops after "
        "padding by this number of pixels, flips, and factors of brightness and contrast up to 1 +- a value.",
    )


class TeacherSource(_Section):
    """The RDMs of one brain: a file of RDMs (rdms) or of patterns (features), or a network."""

    sources: ClassVar[tuple[str, ...]] = ("rdms", "features", "network")
    users: ClassVar[Mapping[str, Sequence[str]]] = {
        **dict.fromkeys(("target_by", "subject_by", "average_over", "combine", "subjects"), ("rdms",)),
        **dict.fromkeys(("names", "by", "options"), ("rdms", "features")),
        **dict.fromkeys(("pool", "dissimilarity"), ("features", "network")),
        **dict.fromkeys(("weights", "layers", "step", "cache", "view", "cache_precision"), ("network",)),
    }

    rdms: DataPath | None = Field(None, description="File with RDMs, in any format that `brainrdl.read` reads.")
    features: DataPath | dict[str, DataPath] | None = Field(
        None,
        description="File with one pattern per condition, in any format that `brainrdl.read` reads, or the file of "
        "each target, for example {V1: v1.npy, IT: it.npy}; RDMs are computed for each batch, so there may be tens of "
        "thousands of conditions.",
    )
    name: str | None = Field(
        None,
        min_length=1,
        description="Name of the teacher in figures and reports, for example human IT; by default that of the file or "
        "network. A run is resumed only with the same name.",
    )
    names: DataPath | list[str] | None = Field(
        None,
        description="Condition names for a file without them: a list, a text file, or a folder of files with these "
        "names.",
    )
    by: str = Field("stimulus", description="Descriptor in the file that names the conditions.")
    target_by: str | list[str] | None = Field(
        None,
        description="Descriptors of RDMs that make them different targets; by default all in which they differ, except "
        "the subject.",
    )
    subject_by: str = Field("subject", description="Descriptor of RDMs that names the subjects.")
    average_over: str | list[str] = Field(
        default_factory=list,
        description="Descriptors of RDMs over which each subject's RDMs are averaged, for example session.",
    )
    combine: Literal["mean", "reliability", "sample", "all"] = Field(
        "mean",
        description="How subjects are combined: their mean RDM, the mean weighted by reliability, one subject drawn at "
        "each step (sample), or all subjects, with the loss averaged over them.",
    )
    subjects: list[str | int] | None = Field(None, min_length=1, description="Use only these subjects.")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of the file's reader, for example {variable: IT_RDMs} for a MATLAB file.",
    )
    network: str | None = Field(
        None, description="Use a network as the teacher instead of a file; a name as in student.model."
    )
    weights: str | None = Field(None, description="Weights of the teacher network, as in student.weights.")
    layers: list[str] = Field(default_factory=list, description="Layers of the teacher network; each is a target.")
    pool: Pool | None = Field(
        None,
        description="How outputs of the teacher network, or features with positions, become patterns, as in "
        "student.pool; flatten by default, or as the run was fitted whose weights are used.",
    )
    step: int | None = Field(
        None, description="Call of modules of the teacher network that run several times, as in student.step."
    )
    dissimilarity: Measure = Field("correlation", description="Dissimilarity of the RDMs of a network or of features.")
    cache: bool | DataPath = Field(
        False,
        description="Compute the patterns of the teacher network only once, and store them in memory (true) or in a "
        "folder, which other runs can use.",
    )
    view: Literal["same", "clean"] = Field(
        "clean",
        description="If the stimuli have an augmentation: show the teacher network the images without it (clean), or "
        "the images that the student sees (same), which cannot be stored.",
    )
    cache_precision: Literal["float32", "float16"] = Field("float32", description="Type of the stored patterns.")

    @field_validator("options")
    @classmethod
    def _readers_own(cls, options: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted({"path", "names", "by"} & set(options)):
            raise ValueError(f"{taken[0]!r} is not an option of a reader; write rdms, names and by as keys of teacher")
        return options

    @model_validator(mode="after")
    def _one_source(self) -> TeacherSource:
        _exactly_one(self, *self.sources)
        _check_used(self, self.users)
        return self


class TeacherSection(TeacherSource):
    """The source of the teacher's RDMs: a file of RDMs (rdms) or of patterns (features), a network, or several."""

    sources: ClassVar[tuple[str, ...]] = (*TeacherSource.sources, "several")

    several: dict[str, TeacherSource] | None = Field(
        None,
        description="Several teachers by label, each with the keys above and RDMs of its own conditions, for example "
        "{human: {rdms: it92.h5}, other: {rdms: it118.h5}}. Their targets are called label/target (human/IT); "
        "student.layers gives them layers and weights. Their images are those of stimuli.several.",
    )
    control: TeacherControl | None = Field(
        None,
        description="Use a control instead of the teacher: its RDMs under shuffled names, or under names shuffled "
        "within each category; its network with random weights; random RDMs with its spectrum; categories; pixels.",
    )


class StudentSection(_Section):
    """The network to fit, its layers to read out, and the part of it that is trained."""

    model: str = Field(
        description="Network by name, as in `brainrdl layers`; or `package.module:factory`, which imports and runs "
        "code: run only recipes that you trust."
    )
    weights: str | None = Field(
        None,
        description="Pretrained weights: a name of torchvision (DEFAULT selects the best ones), or a file, which may "
        "be weights.safetensors of a run, with its readouts; random weights by default.",
    )
    layers: list[str] | dict[str, str | dict[str, Number]] = Field(
        description="Layers to read out, for example [layer3], or the target of each layer, for example {layer1: V1}, "
        "or several targets with their weights, for example {layer1: {V1: 1, V2: 0.5}}."
    )
    pool: Pool = Field(
        "flatten",
        description="How outputs become patterns: all units (flatten), the mean over positions (avgpool; avgpool_first "
        "or avgpool_last if the dimension of the channels is not known), the mean in each cell of a grid (grid:4 for "
        "4 x 4 cells), or, of tokens, their mean, the mean over patches, or the class token (cls). `brainrdl layers` "
        "says what each gives.",
    )
    step: int = Field(
        -1, description="Call of modules that run several times in one pass: 0 is the first, -1 the last."
    )
    standardise: bool = Field(False, description="Z-score each channel on the training stimuli.")
    projection: int | Literal["square", "diagonal"] | None = Field(
        None,
        description="Train a linear map of the patterns to this number of channels, or to the same number (square), or "
        "a non-negative weight for each channel (diagonal).",
    )
    trainable: str | None = Field(
        None,
        description="Part that is trained: all, as is (what the network does not freeze), projection, from:LAYER (this "
        "layer and later ones), or none; by default all, or as is if parts of the network are frozen.",
    )
    batchnorm: Literal["eval", "train", "task"] | None = Field(
        None,
        description="Batch normalisation uses its stored statistics (eval), those of each batch (train), or, for the "
        "images of the task only, those of each batch (task); by default train for a network that is trained from "
        "scratch, otherwise eval.",
    )


class LossSection(_Section):
    """Distance of the student's RDM from the teacher's. Keys that are null follow the preset."""

    preset: Literal["default", "rdl2016"] = Field(
        "default",
        description="Loss: 1 minus the Pearson correlation of the RDMs, or the loss of McClure & Kriegeskorte (2016).",
    )
    dissimilarity: Measure | None = Field(None, description="Dissimilarity of the student's patterns.")
    similarity: Comparator | None = Field(None, description="Similarity of RDMs; it must have a gradient.")
    form: Literal["similarity", "mse"] | None = Field(
        None, description="Form of the loss: 1 minus the similarity, or the mean squared difference of the RDMs (mse)."
    )
    scale: Literal["mean", "none"] | None = Field(None, description="Divide RDMs by their mean before the mse.")
    layer_weights: dict[str, Number] | None = Field(None, description="Weight of each layer; equal by default.")
    n_pairs: int | None = Field(None, description="Number of pairs drawn at each step; all by default.")
    half_life: Number | None = Field(
        None, gt=0, description="Number of steps after which the weight of the RDM loss is halved; constant by default."
    )


class StreamSection(_Section):
    """Images of a task without names, for example a WebDataset, made by a function in a package."""

    factory: str = Field(
        description="`package.module:factory`, which imports and runs code: run only recipes that you trust. It is "
        "called with options, and returns an iterable of (image, label) that starts again with each iter()."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Arguments of the factory.")
    classes: list[str] | None = Field(
        None, description="Names of the classes, in the order of the logits; by default those of the iterable."
    )
    columns: list[str] | None = Field(
        None, description="Of items that are mappings: the key of the image, and that of the label if there is one."
    )
    buffer: int = Field(
        1000, ge=1, description="Number of images in memory from which the next one is drawn; 1 keeps the order."
    )
    size: int | None = Field(
        None, gt=0, description="Side of the images in pixels; by default the size that the student's network expects."
    )
    augmentation: Changes = Field(None, description="Random changes of the images in steps, as in stimuli.")
    validation: StimuliSection | None = Field(
        None,
        description="Other images for validation, with labels, as in stimuli; no part of a stream can be split off.",
    )


_TaskKeys: Any = _keys("task", TaskOptions)


class TaskSection(_TaskKeys):
    """A task that is learned together with the RDM."""

    stimuli: StimuliSection | None = Field(
        None, description="Images of the task, with labels, as in stimuli; by default those of the RDM."
    )
    stream: StreamSection | None = Field(
        None, description="Instead of stimuli: images without names that a function of a package gives one by one."
    )
    validation: Share | list[str] = Field(
        default_factory=list,
        description="Names of task images for validation, or the fraction of them; the RDM's own if the images are the "
        "same.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> TaskSection:
        if self.stimuli is not None and self.stream is not None:
            raise ValueError("give stimuli or stream, not both")
        if self.stream is not None and self.stream.validation is not None and self.validation:
            raise ValueError("give task.stream.validation (other images) or task.validation, not both")
        for images in (self.stimuli, None if self.stream is None else self.stream.validation):
            if images is not None and images.allow_missing:
                raise ValueError("allow_missing has no effect on images of a task, which need no RDM; leave it out")
        return self


class TermSection(_Section):
    """A term of the loss, made by a function in a package."""

    factory: str = Field(
        description="`package.module:factory`, which imports and runs code: run only recipes that you trust. It is "
        "called with options, and returns a function (output, batch, step) -> loss."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Arguments of the factory.")
    weight: Number = Field(1.0, ge=0, description="Weight of the term in the total loss.")
    on: Literal["rdm", "task"] = Field("rdm", description="Batch that the function is given.")


_FitKeys: Any = _keys("fit", TrainingOptions)

_EvaluationKeys: Any = _keys("evaluation", EvaluationOptions, optional=("folds",))


class FitSection(_FitKeys):
    """Options of `brainrdl.fit`."""

    terms: dict[str, TermSection] = Field(
        default_factory=dict,
        description="More terms of the loss by name, each with factory, options, weight and on (rdm or task), for "
        "example {hint: {factory: 'my_package.losses:make_hint', weight: 0.1}}.",
    )

    validation: Share | list[str] = Field(
        default_factory=list,
        description="Names for validation during training, or the fraction of the training stimuli to use for it.",
    )


class EvaluationSection(_EvaluationKeys):
    """Held-out stimuli and their scoring: folds for cross-validation, or one held_out list or fraction.

    With neither, the student is fitted to all stimuli.
    """

    held_out: Share | list[str] | None = Field(
        None, description="Names to hold out, or the fraction of the stimuli to hold out, drawn with the first seed."
    )
    final: bool = Field(
        False,
        description="After the scores, also fit one student to all stimuli (first seed, all subjects), for the median "
        "of the numbers of steps that the folds have chosen: the model to take away. It has no held-out score itself.",
    )

    @field_validator("held_out")
    @classmethod
    def _some(cls, held_out: float | list[str] | None) -> float | list[str] | None:
        wrong = not 0 < held_out < 1 if isinstance(held_out, float) else held_out == []
        if wrong:
            raise ValueError(f"give names, or a fraction between 0 and 1, or leave it out; got {held_out!r}")
        return held_out

    @model_validator(mode="after")
    def _resamples_only_for_a_bootstrap(self) -> EvaluationSection:
        if self.n_bootstrap is not None and self.intervals != "dual-bootstrap":
            raise ValueError(
                f"evaluation.n_bootstrap: {self.n_bootstrap} has no effect with evaluation.intervals: "
                f"{self.intervals}; leave it out, or use evaluation.intervals: dual-bootstrap"
            )
        return self

    @field_validator("inner_folds")
    @classmethod
    def _none_or_several(cls, inner_folds: int) -> int:
        if inner_folds == 1:
            raise ValueError("one fold leaves no stimuli for training; give 0 for no folds, or 2 or more; got 1")
        return inner_folds

    @model_validator(mode="after")
    def _one_way(self) -> EvaluationSection:
        if self.folds is not None and self.held_out is not None:
            raise ValueError("give folds or held_out, not both")
        if self.folds is not None or self.held_out is not None:
            return self
        if self.final:
            raise ValueError("final: true adds a fit to all stimuli, but without folds or held_out the only fit is one")
        idle = [name for name in _changed(self) if name not in ("seeds", "groups")]
        if idle := [*(["seeds"] if len(self.seeds) > 1 else []), *idle]:
            raise ValueError(
                f"{quote(idle)} have no effect without folds or held_out, because one student is fitted to all stimuli "
                f"and nothing is scored; set folds or held_out, or leave out {quote(idle)}"
            )
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

    stimuli: StimuliSection
    teacher: TeacherSection
    student: StudentSection
    loss: LossSection = LossSection()
    task: TaskSection | None = None
    fit: FitSection = FitSection()
    evaluation: EvaluationSection = EvaluationSection()

    @model_validator(mode="after")
    def _one_schedule(self) -> Recipe:
        if self.evaluation.final and self.fit.validation and self.fit.schedule != "constant":
            raise ValueError(
                f"evaluation.final: true fits for as many steps as fit.validation has chosen, and fit.schedule: "
                f"{self.fit.schedule} depends on that number; use fit.schedule: constant, or a fixed number of steps"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _without_empty_sections(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        return {section: keys for section, keys in content.items() if keys is not None}


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section in the annotation of a key, which may be optional; None for a key of another kind.

    Examples
    --------
    >>> section_of(TaskSection | None) is TaskSection, section_of(int)
    (True, None)
    """
    for one in members(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def labelled_section(annotation: Any) -> type[BaseModel] | None:
    """Return the section of which a key holds several by label; None for a key of another kind.

    Examples
    --------
    >>> labelled_section(dict[str, TermSection]) is TermSection, labelled_section(dict[str, int])
    (True, None)
    """
    values = [get_args(one)[1] for one in members(annotation) if get_origin(one) is dict]
    return section_of(values[0]) if values else None


def _exactly_one(section: BaseModel, *keys: str) -> None:
    given = [key for key in keys if getattr(section, key) is not None]
    if len(given) != 1:
        raise ValueError(f"give exactly one of {', '.join(keys)}, got {', '.join(given) or 'none'}")
