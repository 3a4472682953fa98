"""The plan of a cross-validation: who is fitted, what is held out; what cannot go well is refused before any fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from brainrdl._core.errors import arg, check_conditions, check_option, check_unique, check_whole, quote, refuse
from brainrdl.evaluation.folds import Splitter, stimulus_folds
from brainrdl.models.student import Student
from brainrdl.similarity import comparators as _similarity
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.teachers.protocol import Teacher
from brainrdl.teachers.rdm_teacher import RDMTeacher
from brainrdl.training.loop import check_seed, fit
from brainrdl.training.stimulus_lists import check_no_leak

CONTROLS = ("unfitted", "permuted", "category")

_FIT_OPTIONS = inspect.getfullargspec(fit).kwonlyargs

_OURS = ("train", "held_out", "seed")  # options of `fit` that the folds and seeds decide

_ALONE = "fitted"


@dataclass(frozen=True)
class Candidate:
    """A way to make and fit a student, one of several to be cross-validated on the same folds.

    Parameters
    ----------
    make : callable
        ``() -> Student``, called anew for each fit, right after torch's generator was seeded with the fold seed. It
        builds the network too: what one fit trains must not serve the next. A network that stays frozen may be shared.
    options : mapping
        Options of `fit` that differ from those given to `cross_validate`.
    controls : sequence of {"unfitted", "permuted"}, optional
        Controls of this candidate, if they differ from those given to `cross_validate`.
    inner_folds : int, optional
        Likewise.

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


@dataclass(frozen=True)
class Split:
    """What one fit may see (train) and what it is scored on (test; against `left_out` alone if there is one)."""

    seed: int
    fold: int
    train: tuple[str, ...]
    test: tuple[str, ...]
    left_out: str = ""

    def cut(self, teacher: Teacher) -> Teacher:
        """Give the teacher without the held-out conditions and subject, as far as it can be cut."""
        if not isinstance(teacher, RDMTeacher):
            return teacher
        others = [subject for subject in teacher.subjects if subject != self.left_out]
        return teacher.only_subjects(others).select(self.train)

    def slug(self, label: str) -> str:
        words = [label, f"seed{self.seed}", f"fold{self.fold}", self.left_out and f"without-{self.left_out}"]
        return "-".join("".join(c if c.isalnum() or c in "_.-" else "_" for c in word) for word in words if word)


def named_candidates(
    students: Callable[[], Student] | Candidate | Mapping[str, Callable[[], Student] | Candidate],
) -> dict[str, Candidate]:
    named = students if isinstance(students, Mapping) else {_ALONE: students}
    for label, made in named.items():
        if isinstance(made, Student) or not (callable(made) or isinstance(made, Candidate)):
            refuse(
                f"student {label!r} is a {type(made).__name__}; give a function that makes a new Student for each fit, "
                "network and all"
            )
    if not named:
        refuse("there is no student to cross-validate; give a function that makes one")
    return {label: made if isinstance(made, Candidate) else Candidate(made) for label, made in named.items()}


def display(label: str, role: str) -> str:
    if role == "student":
        return label
    return role if label == _ALONE else f"{label}, {role}"


def subjects_to_leave_out(teacher: Teacher, subjects: str) -> tuple[str, ...]:
    if subjects == "all":
        return ("",)
    held = getattr(teacher, "subjects", ())
    if not isinstance(teacher, RDMTeacher) or len(held) < 2:
        refuse(f"subjects='leave-one-out' needs a teacher with at least 2 subjects; {teacher.name!r} has {quote(held)}")
    return held


def splits_of(
    stimuli: Stimuli, folds: int | Splitter, seeds: Sequence[int], stratify: bool, left_out: Sequence[str]
) -> Iterator[Split]:
    labels = stimuli.labels if stratify else None
    for seed in seeds:
        table = stimulus_folds(stimuli.names, folds, labels=labels, seed=seed)
        for fold, part in table.groupby("fold"):
            test = tuple(part["stimulus"])
            train = tuple(name for name in stimuli.names if name not in set(test))
            check_no_leak(stimuli, {"train": train, "held_out": test})
            for subject in left_out:
                yield Split(seed, int(str(fold)), train, test, subject)


def check_options(
    candidates: Mapping[str, Candidate],
    controls: Sequence[str],
    seeds: Sequence[int],
    comparators: Sequence[str],
    fit_options: Mapping[str, Any],
) -> None:
    for what, given in {"seeds": seeds, "comparators": comparators, "controls": controls}.items():
        if not isinstance(given, Sequence | np.ndarray) or isinstance(given, str):
            refuse(f"{what} should be a list, got {given!r}; write [{given!r}]")
        check_unique([str(one) for one in given], what)
        if not len(given) and what != "controls":
            refuse(f"{what} is empty; give at least one")
    for name in controls:
        check_option(name, CONTROLS, "control")
    for comparator in comparators:
        check_option(comparator, _similarity.SIMILARITIES, "comparator")
    for seed in seeds:
        check_seed(seed, "each of seeds")
    for label, candidate in candidates.items():
        for name in candidate.controls or ():
            check_option(name, CONTROLS[:2], f"control of student {label!r}")
        for name in {**fit_options, **candidate.options}:
            check_option(name, _FIT_OPTIONS, "option of cross_validate or fit")
            if name in _OURS:
                refuse(
                    f"fit's option {name!r} is set for each fold; leave it out, and say {arg('seeds')} or "
                    f"{arg('folds')} instead"
                )


def check_inner(candidates: Mapping[str, Candidate], inner_folds: int, fit_options: Mapping[str, Any]) -> None:
    """Refuse what does not go with a number of steps that inner folds choose."""
    for label, candidate in candidates.items():
        n_folds = inner_folds if candidate.inner_folds is None else candidate.inner_folds
        check_whole(n_folds, "inner_folds", 0)
        options = {**fit_options, **candidate.options}
        validation, schedule = options.get("validation"), options.get("schedule", "constant")
        if n_folds > 1 and isinstance(schedule, str) and schedule != "constant":
            refuse(
                f"student {label!r} has {arg('inner_folds', n_folds)}, which choose the number of steps, and "
                f"{arg('schedule', schedule)}, which would be squeezed into those; use {arg('schedule', 'constant')}, "
                "or fixed steps"
            )
        if n_folds > 1 and validation:
            refuse(
                f"student {label!r} has {arg('inner_folds', n_folds)}, which choose the number of steps, and "
                f"validation={validation!r}, which does too; leave one of them out"
            )


def check_inner_sizes(
    splits: Sequence[Split],
    candidates: Mapping[str, Candidate],
    inner_folds: int,
    labels: Mapping[str, str] | None,
) -> None:
    asked = {inner_folds if one.inner_folds is None else one.inner_folds for one in candidates.values()}
    for split in splits:
        for n_folds in asked - {0, 1}:
            stimulus_folds(split.train, n_folds, labels=labels, seed=split.seed, what="inner_folds")


def check_slugs(splits: Sequence[Split], labels: Iterable[str]) -> None:
    """Refuse fits that would share a folder: the second would be taken for the first, finished."""
    rows = [display(label, role) for label in labels for role in ("student", "permuted")]
    check_unique([split.slug(row) for split in splits for row in rows], "the folders of the fits")


def check_rows(
    candidates: Mapping[str, Any], ensembles: Mapping[str, Sequence[str]], models: Mapping[str, Any]
) -> None:
    """Refuse two rows of one name, and members of ensembles that are no students."""
    for members in ensembles.values():
        check_conditions(members, candidates, "the students of an ensemble")
    fitted = [display(label, role) for label in candidates for role in ("student", "unfitted", "permuted")]
    averaged = [display(label, role) for label in ensembles for role in ("student", "unfitted")]
    check_unique([*fitted, *averaged, *models, "category", "category lookup"], "the rows of the evaluation")
