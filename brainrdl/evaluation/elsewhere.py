"""Score a fitted student on other images and other subjects: `evaluate_elsewhere`.

The images must be new to the student. An image counts as seen if the student was fitted to one of the same name, the
same bytes or the same group, or to one that looks nearly the same (see `brainrdl.stimuli.near_duplicates`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.errors import arg, check_text, check_unique, check_whole, quote, refuse
from brainrdl._core.rows import Role
from brainrdl.dissimilarity import measures
from brainrdl.evaluation.held_out import Evaluation, assemble, student_rdms, teacher_rdms
from brainrdl.evaluation.options import COMPARATORS, Intervals, resamples
from brainrdl.evaluation.scores import HeldOut
from brainrdl.evaluation.simple_models import model_rdms
from brainrdl.models.student import Student
from brainrdl.rdms.naming import stem_of
from brainrdl.stimuli.categories import groups_of
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.near_duplicates import similar_between
from brainrdl.teachers.protocol import Teacher, check_stored

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

_SIMILAR = "nearly the same"

_COLUMNS = ["stimulus", "seen", "reason"]


def seen_images(
    stimuli: Stimuli, seen: Stimuli, groups: Mapping[str, str] | None = None, *, same_names: bool = False
) -> pd.DataFrame:
    """List the stimuli that are not new to a student that was fitted to `seen`.

    Parameters
    ----------
    stimuli : Stimuli
        Images to score a student on.
    seen : Stimuli
        Images that it was fitted to.
    groups : mapping of name to group, optional
        Groups of stimuli of both sets, for example objects or videos.
    same_names : bool
        Equal names in the two sets are names of different images, so that only what they show is compared.

    Returns
    -------
    pandas.DataFrame
        Columns stimulus, seen (name of the image that the student was fitted to) and reason: "same name",
        "byte-identical", "same group" or "nearly the same"; one row per pair and reason.

    Raises
    ------
    BrainrdlError
        If an image cannot be read.

    Examples
    --------
    >>> import torch
    >>> images = torch.rand(3, 1, 8, 8)
    >>> seen = Stimuli.from_arrays(images[:2], ["cat", "dog"])
    >>> seen_images(Stimuli.from_arrays(images[1:], ["hound", "cat"]), seen).values.tolist()
    [['hound', 'dog', 'byte-identical'], ['cat', 'cat', 'same name']]
    """
    rows = [*_identical(stimuli, seen), *([] if same_names else _of_one_name(stimuli, seen))]
    rows += [*_of_one_group(stimuli, seen, groups or {})]
    known = {(row[0], row[1]) for row in rows if row[2] == "byte-identical"}
    found = similar_between(seen, stimuli)
    pairs = zip(found["second"], found["first"], strict=True)
    rows += [(name, other, _SIMILAR) for name, other in pairs if (name, other) not in known]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _identical(stimuli: Stimuli, seen: Stimuli) -> Iterator[tuple[str, str, str]]:
    known = {digest: name for name, digest in reversed(seen.digests().items())}
    for name, digest in stimuli.digests().items():
        if digest in known:
            yield name, known[digest], "byte-identical"


def _of_one_name(stimuli: Stimuli, seen: Stimuli) -> Iterator[tuple[str, str, str]]:
    yield from ((name, name, "same name") for name in stimuli.names if name in seen)
    pairs = dict.fromkeys(_ending(stimuli.names, seen.names))
    pairs |= dict.fromkeys((new, old) for old, new in _ending(seen.names, stimuli.names))
    yield from ((new, old, "same name") for new, old in pairs if new != old)


def _ending(files: Sequence[str], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs of an image file and a name with which its path ends, both without the ending of an image file."""
    named: dict[str, list[str]] = {}
    for name in names:
        named.setdefault(stem_of(name) or name.replace("\\", "/"), []).append(name)
    for file in files:
        path = (stem_of(file) or "").split("/")
        for n_folders in range(len(path)):
            yield from ((file, name) for name in named.get("/".join(path[n_folders:]), ()))


def _of_one_group(stimuli: Stimuli, seen: Stimuli, groups: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    first: dict[str, str] = {}
    for name in seen.names:
        if name in groups:
            first.setdefault(groups[name], name)
    for name in stimuli.names:
        if name in groups and groups[name] in first:
            yield name, first[groups[name]], "same group"


def evaluate_elsewhere(
    student: Student,
    teacher: Teacher,
    stimuli: Stimuli,
    seen: Stimuli,
    *,
    unfitted: Student | None = None,
    match: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | Path | str | None = None,
    same_names: bool = False,
    drop_seen: bool = False,
    comparators: Sequence[str] = COMPARATORS,
    dissimilarity: str | measures.Dissimilarity = "correlation",
    models: Mapping[str, RDMs] | None = None,
    intervals: Intervals = "dyadic",
    n_bootstrap: int | None = None,
    seed: int = 0,
    facts: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score a fitted student on images that it was not fitted to, against RDMs of any subjects.

    Parameters
    ----------
    student : Student
        Fitted student.
    teacher : Teacher
        Source of the RDMs to score against.
    stimuli : Stimuli
        Images of the teacher's conditions, transformed as for the fit, and their categories if known; with categories,
        a category model is scored as well.
    seen : Stimuli
        Images that the student was fitted to, or that chose its number of steps.
    unfitted : Student, optional
        The student before it was fitted, calibrated on `seen`; it is scored as a control.
    match : mapping of layer to target, optional
        Target of each layer; by default that of the student, if the teacher has these targets, or else the teacher's
        only target.
    groups : mapping of name to group, or path, optional
        Groups of stimuli of both sets, or a CSV file with columns stimulus and group.
    same_names : bool
        Equal names in `stimuli` and `seen` are names of different images.
    drop_seen : bool
        Leave out the stimuli that the student has seen, instead of refusing them.
    comparators, dissimilarity, models, intervals, n_bootstrap, seed, progress
        As in `evaluate`.
    facts : mapping, optional
        Additional settings for the report.

    Returns
    -------
    Evaluation
        As from `evaluate`; the student is labelled "fitted".

    Raises
    ------
    BrainrdlError
        As in `evaluate`; also if stimuli are byte-identical to images that the student has seen, or have the name or
        group of one, and `drop_seen` is not set.

    Warns
    -----
    UserWarning
        If stimuli look nearly the same as images that the student has seen; with `drop_seen`, which were left out.

    Examples
    --------
    >>> import torch
    >>> from brainrdl import RDMTeacher, rdms
    >>> seen, names = Stimuli.from_arrays(torch.rand(6, 1, 4, 4), list("ABCDEF")), list("abcdef")
    >>> teacher = RDMTeacher(rdms.from_array(torch.rand(3, 15).numpy(), names), subject_by="index")
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8)), ["1"])
    >>> result = evaluate_elsewhere(student, teacher, Stimuli.from_arrays(torch.rand(6, 1, 4, 4), names), seen)
    >>> result.settings["elsewhere"]["n_seen"], list(result.summary["student"].unique())
    (6, ['fitted'])
    """
    judging = {"intervals": intervals, "n_bootstrap": resamples(intervals, n_bootstrap)}
    check_whole(seed, "seed", 0, 2**32)
    check_text(models or (), "the models")
    check_unique(["fitted", "unfitted", *(models or ()), "category", "category lookup"], "the rows of the evaluation")
    check_stored(teacher)
    stimuli, dropped = _new(stimuli, seen, groups_of(groups, (*seen.names, *stimuli.names)), same_names, drop_seen)
    names = stimuli.names
    matched = _match(student, teacher, match)
    held_out: list[HeldOut] = []
    for label, role, scored in (("fitted", Role.STUDENT, student), ("unfitted", Role.UNFITTED, unfitted)):
        given = (teacher, stimuli, names, dissimilarity, matched, progress)
        found = {} if scored is None else student_rdms(scored, *given)
        held_out += [
            HeldOut(student=label, role=role, base="unfitted", layer=layer, target=target, names=names, pairs=pairs)
            for (layer, target), pairs in found.items()
        ]
    targets = tuple(dict.fromkeys(one.target for one in held_out))
    held_out += model_rdms(models or {}, stimuli.labels, targets, names, seed=0, fold=0)
    settings = {
        "teacher": teacher.name, "held_out": list(names), "comparators": list(comparators), **judging,
        "elsewhere": {"n_seen": len(seen), "dropped": dropped}, **(facts or {}),
    }  # fmt: skip
    truth = teacher_rdms(teacher, stimuli, names, targets)
    return assemble(
        held_out, truth, comparators, intervals, n_bootstrap, seed, labels=stimuli.labels, settings=settings,
        progress=progress,
    )  # fmt: skip


def _new(
    stimuli: Stimuli, seen: Stimuli, groups: Mapping[str, str] | None, same_names: bool, drop_seen: bool
) -> tuple[Stimuli, list[str]]:
    """Return the stimuli that are new to the student, and the names of the others; refuse those unless asked not to."""
    found = seen_images(stimuli, seen, groups, same_names=same_names)
    sure, similar = found[found["reason"] != _SIMILAR], found[found["reason"] == _SIMILAR]
    names = list(dict.fromkeys(found["stimulus"]))
    left = [name for name in stimuli.names if name not in set(names)] if drop_seen else list(stimuli.names)
    if len(sure) and not drop_seen:
        named = "" if "same name" not in set(sure["reason"]) else f" (different images: {arg('same_names', True)})"
        refuse(
            f"{sure['stimulus'].nunique()} of the {len(stimuli)} stimuli are not new to the student: {_listed(sure)}; "
            f"leave them out with {arg('drop_seen', True)}{named}"
        )
    known = f": {_listed(found)}" if names else ""
    if len(left) < MIN_CONDITIONS:
        refuse(
            f"scoring needs at least {MIN_CONDITIONS} stimuli that are new to the student, got {len(left)} of "
            f"{len(stimuli)}{known}"
        )
    if names and drop_seen:
        warnings.warn(f"{len(names)} of the {len(stimuli)} stimuli were left out as not new{known}", stacklevel=3)
    elif names:
        warnings.warn(
            f"{similar['stimulus'].nunique()} of the {len(stimuli)} stimuli look nearly the same as images that the "
            f"student was fitted to, so the score may be too high{known}; leave them out with drop_seen=True "
            "(--drop-seen)",
            stacklevel=3,
        )
    return (stimuli.select(left), names) if drop_seen else (stimuli, [])


def _listed(found: pd.DataFrame) -> str:
    words = {"byte-identical": "byte-identical to"}
    rows = found.itertuples(index=False)
    return quote(f"{row[0]} ({words.get(row[2], f'{row[2]} as')} {row[1]})" for row in rows).replace("'", "")


def _match(student: Student, teacher: Teacher, match: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Return the targets that are asked for, or else the student's own, if the teacher has them."""
    if match is not None or student.match is None or set(student.match.values()) <= set(teacher.targets):
        return match
    return dict.fromkeys(student.layers, teacher.targets[0]) if len(teacher.targets) == 1 else None
