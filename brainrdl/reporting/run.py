"""The run that a report is about, and look-ups in its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from brainrdl._core.constants import PARTIAL
from brainrdl._core.options import free, options_of
from brainrdl._core.rows import Against, Role
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.rdms.by_name import names
from brainrdl.reporting.target_names import named_evaluation
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.training.options import FitOptions

SHOWN = 4  # students in sentences and figures; the tables contain all of them

_FIT = {"loss", "task", "terms", *options_of(FitOptions)} - free(FitOptions)


@dataclass(frozen=True)
class Run:
    """What a report is about: an evaluation or a fit, with its settings and provenance."""

    evaluation: Evaluation | None = None
    histories: pd.DataFrame = field(default_factory=pd.DataFrame)
    best_step: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] | None = None
    folder: Path | None = None
    final: Mapping[str, Any] | None = None  # settings of the final fit to all stimuli
    recorded: Mapping[str, Any] = field(default_factory=dict)  # options that all fits of a cross-validation recorded
    devices: tuple[str, ...] = ()
    stimuli: Stimuli | None = None  # whose images may become part of the page

    def __post_init__(self) -> None:
        if self.evaluation is not None:
            object.__setattr__(self, "evaluation", named_evaluation(self.evaluation))

    @property
    def fit_options(self) -> dict[str, Any]:
        """Options of `fit`, from a cross-validation's settings or a fit's own."""
        nested = self.settings.get("fit")
        given = nested if isinstance(nested, Mapping) else self.settings
        return {key: value for key, value in given.items() if key in _FIT and value is not None}

    @property
    def was_fitted(self) -> bool:
        """Whether the settings say that students were fitted; `evaluate` also scores networks that were not."""
        return bool({"fit", "train", "folds"} & set(self.settings))

    @property
    def elsewhere(self) -> Mapping[str, Any] | None:
        """What is known about a score on other stimuli than those of the fit; None for other runs."""
        found = self.settings.get("elsewhere")
        return found if isinstance(found, Mapping) else None

    @property
    def dissimilarity(self) -> str:
        """Dissimilarity of the student's RDMs; "" if the settings do not name it."""
        loss = self.fit_options.get("loss")
        return str(loss.get("dissimilarity", "")) if isinstance(loss, Mapping) else ""


def shown_keys(summary: pd.DataFrame) -> list[tuple[str, str, str]]:
    """List (student, layer, target) of fitted students and ensembles, in the order of the table, never by score."""
    fitted = summary[is_fitted(summary)]
    return list(dict.fromkeys(zip(fitted["student"], fitted["layer"], fitted["target"], strict=True)))


def kinds_of(summary: pd.DataFrame) -> list[Against]:
    """List what RDMs were compared with; a single RDM is its own mean, and is named once."""
    found = [against for against in Against if (summary["against"] == against.value).any()]
    return [Against.MEAN] if len(found) > 1 and summary["n_subjects"].max() < 2 else found


def is_fitted(summary: pd.DataFrame) -> pd.Series[bool]:
    return summary["role"].isin([role.value for role in Role if role.fitted])


def students_of(summary: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(student for student, *_ in shown_keys(summary)))


def comparators_of(summary: pd.DataFrame) -> list[str]:
    return [name for name in dict.fromkeys(summary["comparator"]) if not str(name).startswith(PARTIAL)]


def rows_of(summary: pd.DataFrame, **wanted: str) -> list[dict[str, Any]]:
    chosen = pd.Series(True, index=summary.index)
    for column, value in wanted.items():
        chosen &= summary[column] == value
    return [{str(k): v for k, v in row.items()} for row in summary[chosen].to_dict("records")]


def categories_of(evaluation: Evaluation) -> dict[str, str] | None:
    labels, conditions = evaluation.labels, names(evaluation.teacher)
    known = labels and all(name in labels for name in conditions)
    return {name: labels[name] for name in conditions} if labels and known else None
