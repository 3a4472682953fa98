"""Every key of a recipe: what it may hold, and what it is if it is left out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator


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


class StimuliSection(_Section):
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
    def _one_source(self) -> StimuliSection:
        _exactly_one(self, "folder", "arrays", "dataset")
        return self


class TeacherSection(_Section):
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
    def _one_source(self) -> TeacherSection:
        _exactly_one(self, "rdms", "network")
        return self


class StudentSection(_Section):
    """Which network is fitted, where it is read out, and what of it trains."""

    model: str
    weights: str | None = None
    layers: list[str] | dict[str, str]
    pool: Literal["flatten", "avgpool"] = "flatten"
    standardise: bool = False
    projection: int | Literal["square"] | None = None
    trainable: str = "all"
    batchnorm: Literal["eval", "train"] = "eval"


class LossSection(_Section):
    """How far the student's RDM is from the teacher's."""

    preset: Literal["default", "rdl2016"] = "default"
    dissimilarity: str | None = None
    similarity: str | None = None
    form: Literal["similarity", "mse"] | None = None
    scale: Literal["mean", "none"] | None = None
    layer_weights: dict[str, Number] | None = None
    n_pairs: int | None = None
    half_life: Number | None = Field(None, gt=0)


class FitSection(_Section):
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


class EvaluationSection(_Section):
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
    def _one_way(self) -> EvaluationSection:
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

    stimuli: StimuliSection
    teacher: TeacherSection
    student: StudentSection
    loss: LossSection = LossSection()
    fit: FitSection = FitSection()
    evaluation: EvaluationSection = EvaluationSection()

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
