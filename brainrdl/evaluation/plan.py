"""The plan of a cross-validation: what is fitted and what is held out; impossible plans are refused before any fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from brainrdl._core.errors import (
    about,
    arg,
    check_conditions,
    check_option,
    check_text,
    check_unique,
    check_whole,
    quote,
    refuse,
)
from brainrdl._core.files import slug
from brainrdl._core.options import check_known, complete
from brainrdl._core.rows import Role
from brainrdl.evaluation.folds import stimulus_folds
from brainrdl.evaluation.options import CONTROLS, MODEL_CONTROLS, Control, Splitter
from brainrdl.loss.matching import match_layers
from brainrdl.models.student import Student
from brainrdl.runs.fingerprint import hash_teacher, source_settings
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.teachers.controls import control
from brainrdl.teachers.protocol import Teacher, check_stored, cut_down, known_conditions, subjects_of, without_subject
from brainrdl.training.loop import fit
from brainrdl.training.options import FitOptions
from brainrdl.training.stimulus_lists import check_partitions, training_names

_OURS = ("train", "held_out", "seed", "groups", "out", "resume", "overwrite")  # set for each fold

_ALONE = "fitted"

_DEFAULT: tuple[Control, ...] = ("unfitted", "reweighted", "permuted", "category")

OF_STUDENTS = tuple(name for name in CONTROLS if name not in MODEL_CONTROLS)

FITTED_CONTROLS = {name: Role(name) for name in OF_STUDENTS if name not in ("unfitted", "reweighted")}


@dataclass(frozen=True)
class Candidate:
    """A way to make and fit a student, one of several to be cross-validated on the same folds.

    Parameters
    ----------
    make : callable
        ``() -> Student``, called for each fit, after torch's generator was seeded with the fold seed. It builds the
        network too, because fits must not share trained weights. A frozen network may be shared.
    options : mapping
        Options of `fit` that differ from those given to `cross_validate`.
    controls : sequence of str, optional
        Controls of this candidate, if they differ from those given to `cross_validate`; without "category" and
        "pixels", which do not depend on the student.
    inner_folds : int, optional
        Inner folds of this candidate, if they differ from those given to `cross_validate`.
    teacher : Teacher, optional
        Teacher that this candidate is fitted to, if it differs from the one given to `cross_validate`; for example a
        control. Its scores are still computed with the RDMs of the teacher given to `cross_validate`.

    Examples
    --------
    >>> import torch
    >>> from brainrdl import Student
    >>> candidate = Candidate(lambda: Student(torch.nn.Sequential(torch.nn.Linear(4, 2)), ["0"]), {"steps": 10})
    >>> candidate.options["steps"]
    10
    """

    make: Callable[[], Student]
    options: Mapping[str, Any] = field(default_factory=dict)
    controls: Sequence[str] | None = None
    inner_folds: int | None = None
    teacher: Teacher | None = None


@dataclass(frozen=True)
class Split:
    """Training and test conditions of one fit; if there is a left-out subject, only that one is scored against."""

    seed: int
    fold: int
    train: tuple[str, ...]
    test: tuple[str, ...]
    left_out: str = ""

    def cut(self, teacher: Teacher) -> Teacher:
        """Return the teacher without the held-out conditions and, if it has it, subject, if it can be reduced."""
        left_out = self.left_out if self.left_out in subjects_of(teacher) else ""
        return cut_down(without_subject(teacher, left_out), self.train)

    def slug(self, label: str) -> str:
        return slug(label, f"seed{self.seed}", f"fold{self.fold}", self.left_out and f"without-{self.left_out}")


def named_candidates(
    students: Callable[[], Student] | Candidate | Mapping[str, Callable[[], Student] | Candidate],
) -> dict[str, Candidate]:
    named = students if isinstance(students, Mapping) else {_ALONE: students}
    for label, made in named.items():
        if isinstance(made, Student) or not (callable(made) or isinstance(made, Candidate)):
            refuse(
                f"student {label!r} is a {type(made).__name__}; give a function that makes a new Student for each fit, "
                "with a new network"
            )
    if not named:
        refuse("there is no student to cross-validate; give a function that makes one")
    return {label: made if isinstance(made, Candidate) else Candidate(made) for label, made in named.items()}


def display(label: str, role: Role) -> str:
    if role.fitted:
        return label
    return role.value if label == _ALONE else f"{label}, {role.value}"


def subjects_to_leave_out(teacher: Teacher, subjects: str) -> tuple[str, ...]:
    if subjects == "all":
        return ("",)
    held = subjects_of(teacher)
    if len(held) < 2:
        refuse(f"subjects='leave-one-out' needs a teacher with at least 2 subjects; {teacher.name!r} has {quote(held)}")
    return held


def splits_of(
    stimuli: Stimuli,
    folds: int | Splitter,
    seeds: Sequence[int],
    stratify: bool,
    groups: Mapping[str, str] | None,
    left_out: Sequence[str],
) -> Iterator[Split]:
    labels = stimuli.labels if stratify else None
    tables = [stimulus_folds(stimuli.names, folds, labels=labels, groups=groups, seed=seed) for seed in seeds]
    check_partitions(stimuli, [_partition(table, stimuli.names) for table in tables], groups)
    for seed, table in zip(seeds, tables, strict=True):
        for fold, part in table.groupby("fold"):
            test = tuple(part["stimulus"])
            train = tuple(name for name in stimuli.names if name not in set(test))
            for subject in left_out:
                yield Split(seed, int(str(fold)), train, test, subject)


def _partition(table: pd.DataFrame, names: Sequence[str]) -> dict[str, str]:
    """Return the part of each name: its fold, or that it is never held out."""
    several = table["fold"].nunique() > 1
    rows = zip(table["stimulus"], table["fold"], strict=True)
    fold = {name: f"fold {number}" if several else "held_out" for name, number in rows}
    return {name: fold.get(name, "train") for name in names}


def check_candidates(
    candidates: Mapping[str, Candidate], fit_options: Mapping[str, Any], function: Callable[..., Any]
) -> None:
    """Refuse options that neither `function` nor `fit` accepts, that `fit` would refuse, or that the folds set."""
    check_known(fit_options, function, fit)
    for label, candidate in candidates.items():
        for name in candidate.controls or ():
            check_option(name, OF_STUDENTS, f"control of student {label!r}")
        check_known(candidate.options, fit)
        options = {**fit_options, **candidate.options}
        for name in _OURS:
            if name in options:
                refuse(
                    f"fit's option {name!r} is set for each fold; leave it out, and use {arg('seeds')} or "
                    f"{arg('folds')} instead"
                )
        complete(FitOptions, options)


def check_teachers(candidates: Mapping[str, Candidate], names: Sequence[str]) -> None:
    """Refuse teachers of candidates that are not teachers, or that do not know all stimuli."""
    for label, candidate in candidates.items():
        teacher = candidate.teacher
        if teacher is None:
            continue
        if not isinstance(teacher, Teacher):
            refuse(f"the teacher of student {label!r} should be a Teacher, got {type(teacher).__name__}")
        check_stored(teacher)
        check_conditions(names, known_conditions(teacher) or names, f"teacher {teacher.name!r} of student {label!r}")


def check_targets(
    candidates: Mapping[str, Candidate], students: Mapping[str, Student], fit_options: Mapping[str, Any]
) -> None:
    """Refuse teachers of candidates whose targets do not match the layers of their students."""
    for label, candidate in candidates.items():
        if candidate.teacher is not None:
            match = {**fit_options, **candidate.options}["loss"].match or students[label].match
            with about(f"teacher {candidate.teacher.name!r} of student {label!r}"):
                match_layers(students[label].layers, candidate.teacher.targets, match)


def settings_of_teachers(candidates: Mapping[str, Candidate], stimuli: Stimuli) -> dict[str, Any]:
    """Return what identifies the teachers of candidates; a run can only be resumed with the same."""
    own = {label: candidate.teacher for label, candidate in candidates.items() if candidate.teacher is not None}
    return {
        label: {**source_settings(teacher, stimuli, stimuli.names), "hashes": hash_teacher(teacher)}
        for label, teacher in own.items()
    }


def fitted_control(name: str, teacher: Teacher, stimuli: Stimuli, split: Split) -> Teacher:
    """Return the teacher that a control is fitted to; it knows the training stimuli of the split only."""
    with about(f"control {name!r}", spelling=lambda argument: argument.name):
        return control(name, teacher=teacher, stimuli=stimuli, conditions=split.train, seed=split.seed)


def check_controls(
    candidates: Mapping[str, Candidate],
    controls: Sequence[str],
    teacher: Teacher,
    stimuli: Stimuli,
    splits: Sequence[Split],
) -> None:
    """Refuse, before any fit, controls that cannot be made."""
    for candidate in candidates.values():
        source = teacher if candidate.teacher is None else candidate.teacher
        for name in controls if candidate.controls is None else candidate.controls:
            # a random RDM or network that can be made for one split can be made for others
            for split in splits if name == "permuted_within_class" else splits[:1]:
                if name in FITTED_CONTROLS:
                    fitted_control(name, split.cut(source), stimuli, split)


def controls_for(controls: Sequence[Control] | None, stimuli: Stimuli) -> list[Control]:
    """Return the requested controls, which must be possible, or else all possible ones."""
    categories = set((stimuli.labels or {}).values())
    if controls is None:
        return [name for name in _DEFAULT if name != "category" or len(categories) > 1]
    if "category" in controls and len(categories) < 2:
        refuse(
            "control 'category' needs labels of two or more categories, which the stimuli lack; add labels, or leave it"
        )
    return list(controls)


def check_inner(candidates: Mapping[str, Candidate], inner_folds: int, fit_options: Mapping[str, Any]) -> None:
    """Refuse options that conflict with a number of steps that is chosen by inner folds."""
    for label, candidate in candidates.items():
        n_folds = inner_folds if candidate.inner_folds is None else candidate.inner_folds
        check_whole(n_folds, "inner_folds", 0)
        options = {**fit_options, **candidate.options}
        validation, schedule = options.get("validation"), options.get("schedule", "constant")
        if n_folds > 1 and isinstance(schedule, str) and schedule != "constant":
            refuse(
                f"student {label!r} has {arg('inner_folds', n_folds)}, which choose the number of steps, and "
                f"{arg('schedule', schedule)}, which depends on that number; use {arg('schedule', 'constant')}, "
                "or a fixed number of steps"
            )
        if n_folds > 1 and validation:
            refuse(
                f"student {label!r} has {arg('inner_folds', n_folds)}, which choose the number of steps, and "
                f"validation={validation!r}, which also chooses it; leave one of them out"
            )


def check_inner_sizes(
    splits: Sequence[Split],
    candidates: Mapping[str, Candidate],
    inner_folds: int,
    labels: Mapping[str, str] | None,
    groups: Mapping[str, str] | None,
    stimuli: Stimuli,
) -> None:
    asked = {inner_folds if one.inner_folds is None else one.inner_folds for one in candidates.values()}
    for split in splits:
        for n_folds in asked - {0, 1}:
            inner = inner_folds_of(split, n_folds, labels, groups)
            check_partitions(stimuli, [_partition(inner, split.train)], groups)


def check_validation(
    splits: Sequence[Split],
    candidates: Mapping[str, Candidate],
    fit_options: Mapping[str, Any],
    groups: Mapping[str, str] | None,
    stimuli: Stimuli,
) -> None:
    """Refuse validation stimuli of any fold that `fit` would refuse, for example too few or an identical image."""
    for candidate in candidates.values():
        validation = {**fit_options, **candidate.options}["validation"]
        for split in splits if isinstance(validation, int | float) or len(validation) else ():
            training_names(stimuli, split.train, validation, split.test, split.seed, groups)


def inner_folds_of(
    split: Split, n_folds: int, labels: Mapping[str, str] | None, groups: Mapping[str, str] | None
) -> pd.DataFrame:
    """Divide the training stimuli of a split."""
    inside = None if groups is None else {name: groups[name] for name in split.train if name in groups}
    return stimulus_folds(split.train, n_folds, labels=labels, groups=inside, seed=split.seed, what="inner_folds")


def check_slugs(splits: Sequence[Split], labels: Iterable[str]) -> None:
    """Refuse fits that would share a folder: the second one would be mistaken for the finished first one."""
    rows = [display(label, role) for label in labels for role in (Role.STUDENT, *FITTED_CONTROLS.values())]
    check_unique([split.slug(row) for split in splits for row in rows], "the folders of the fits")


def check_rows(
    candidates: Mapping[str, Any], ensembles: Mapping[str, Sequence[str]], models: Mapping[str, Any]
) -> None:
    """Refuse rows with names that are equal or cannot be stored, and members of ensembles that are not students."""
    check_text([*candidates, *ensembles, *models], "the rows of the evaluation")
    for members in ensembles.values():
        check_conditions(members, candidates, "the students of an ensemble")
        check_unique(members, "the students of an ensemble")
    fitted = [display(label, role) for label in candidates for role in (Role.STUDENT, *map(Role, OF_STUDENTS))]
    averaged = [display(label, role) for label in ensembles for role in (Role.ENSEMBLE, Role.UNFITTED)]
    check_unique([*fitted, *averaged, *models, "category", "category lookup"], "the rows of the evaluation")
