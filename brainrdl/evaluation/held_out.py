"""Score a student on held-out conditions: `evaluate` and its result, `Evaluation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from brainrdl._core.constants import FOLD, MIN_CONDITIONS
from brainrdl._core.errors import check_text, check_unique, check_whole, refuse
from brainrdl._core.files import (
    check_digests,
    digests_of,
    read_csv,
    read_json,
    read_rdms,
    reason,
    write_csv,
    write_json,
    write_rdms,
)
from brainrdl._core.locks import locked
from brainrdl._core.rows import Role
from brainrdl.dissimilarity import measures, pairs
from brainrdl.evaluation.options import COMPARATORS, Intervals, resamples
from brainrdl.evaluation.scores import HeldOut, TeacherRDMs, score
from brainrdl.evaluation.simple_models import model_rdms
from brainrdl.loss.matching import Match, match_layers
from brainrdl.models.student import Student
from brainrdl.rdms import conversion
from brainrdl.rdms.partial import comparable
from brainrdl.runs.provenance import describe
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.teachers.protocol import SubjectRDMs, Teacher, check_stored, rdms_by_subject

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

_WORDS = (
    "student", "role", "base", "layer", "target", "comparator", "against", "subject",
    "other", "other_role", "other_layer", "left_out",
)  # fmt: skip

_TABLES = ("scores", "summary", "contrasts", "histories")

_RDM_FILES = ("teacher", "students")

_FILES = (*(f"{name}.csv" for name in _TABLES), *(f"{name}.h5" for name in _RDM_FILES))

FACTS = ("labels", "settings", "files")


@dataclass(repr=False)
class Evaluation:
    """Held-out scores of students, controls and models, with everything needed to plot and report them.

    Attributes
    ----------
    scores : pandas.DataFrame
        One row per student x layer x target x comparator x against ("mean" or "subjects") x subject x seed x fold:
        score, ceiling_lower, ceiling_upper, n_conditions, n_pairs.
    summary : pandas.DataFrame
        One row per student x layer x target x comparator x against: score, 95% interval (low, high), ceiling (the
        score that a perfect model is expected to reach), bounds of the noise ceiling (ceiling_lower, ceiling_upper),
        share of the ceiling (NaN if it is near 0), gain over the unfitted student (column base) with its interval.
    contrasts : pandas.DataFrame
        Differences between each fitted student and its controls, all models and the other students: student, other,
        layer, target, comparator, against, difference, low, high, p, p_corrected (Holm, over the contrasts with the
        same comparator and reference), role, other_role, other_layer.
    teacher : rsatoolbox.rdm.RDMs
        Mean RDM of each target; rdm descriptor "target".
    students : rsatoolbox.rdm.RDMs
        Held-out RDMs, NaN if a pair was not held out together; rdm descriptors student, role, base, layer, target,
        seed, left_out. Pattern descriptors "fold of seed 0" and so on: the fold of each condition as in `scores`, -1
        for those that were never held out. A seed whose folds share conditions has none.
    histories : pandas.DataFrame
        Training histories; columns student, role, seed, fold and left_out in addition to those of `FitResult.history`.
    labels : mapping of name to category, optional
        Categories of the stimuli.
    settings : dict
        How students were fitted and scored.

    Examples
    --------
    >>> from brainrdl.evaluation import Evaluation
    >>> Evaluation.load("no/such/run")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: cannot read 'no/such/run/evaluation.json': No such file or directory
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    contrasts: pd.DataFrame
    teacher: RDMs
    students: RDMs
    histories: pd.DataFrame = field(default_factory=pd.DataFrame)
    labels: Mapping[str, str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Summarise in one line what was scored: tables, RDMs and settings are long."""
        shown = [
            f"{column}s={list(dict.fromkeys(self.summary[column]))}"
            for column in ("student", "target", "comparator")
            if column in self.summary
        ]
        return f"Evaluation({', '.join([f'n_stimuli={self.teacher.n_cond}', *shown])})"

    def save(self, folder: Path | str) -> Path:
        """Write tables as CSV, RDMs as rsatoolbox HDF5, settings as JSON; return the folder.

        JSON changes some settings: tuples become lists, and functions become their names.

        Raises
        ------
        BrainrdlError
            If the folder cannot be written, or another process writes into it.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            refuse(f"cannot make folder {str(folder)!r}: {reason(error)}; choose another")
        with locked(folder):
            write_evaluation(self, folder)
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> Evaluation:
        """Read an evaluation from a folder written by `save`.

        Raises
        ------
        BrainrdlError
            If a file is missing, damaged, truncated, or was not written by `save`.
        """
        folder = Path(folder)
        facts = read_json(folder / "evaluation.json")
        if set(facts) != set(FACTS):
            refuse(f"{str(folder / 'evaluation.json')!r} should hold {list(FACTS)}, got {list(facts)}")
        check_digests(
            folder, facts["files"], "score the run again: cross_validate(..., resume=True), or `brainrdl evaluate`"
        )
        scores, summary, contrasts, histories = (_read_table(folder / f"{name}.csv") for name in _TABLES)
        teacher, students = (read_rdms(folder / f"{name}.h5") for name in _RDM_FILES)
        return cls(scores, summary, contrasts, teacher, students, histories, facts["labels"], facts["settings"])


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write an evaluation into a folder that is locked; the file with the checksums is the last one.

    Examples
    --------
    >>> write_evaluation.__name__  # used by Evaluation.save and cross_validate
    'write_evaluation'
    """
    for name in _TABLES:
        write_csv(folder / f"{name}.csv", getattr(evaluation, name))
    for name in _RDM_FILES:
        write_rdms(folder / f"{name}.h5", getattr(evaluation, name))
    settings = describe(evaluation.settings)
    facts = {"labels": evaluation.labels, "settings": settings, "files": digests_of(folder, _FILES)}
    write_json(folder / "evaluation.json", facts)


def _read_table(path: Path) -> pd.DataFrame:
    if not path.read_text(encoding="utf-8").strip():
        return pd.DataFrame()
    columns = read_csv(path, nrows=0).columns
    words = dict.fromkeys(columns.intersection(list(_WORDS)), str)
    unknown = {column: [""] for column in columns.difference(list(_WORDS))}  # a subject may have the name "NA"
    return read_csv(path, dtype=words, keep_default_na=False, na_values=unknown)


def evaluate(
    student: Student,
    teacher: Teacher,
    stimuli: Stimuli,
    names: Sequence[str] | None = None,
    *,
    comparators: Sequence[str] = COMPARATORS,
    dissimilarity: str | measures.Dissimilarity = "correlation",
    models: Mapping[str, RDMs] | None = None,
    intervals: Intervals = "dyadic",
    n_bootstrap: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Score a student on conditions it was not fitted to.

    Parameters
    ----------
    student : Student
        Fitted student; its ``match`` says which layer is compared with which target.
    teacher : Teacher
        Source of the RDMs to score against.
    stimuli : Stimuli
        Images of the conditions, and their categories if known; with categories, a category model is scored as well.
    names : sequence of str, optional
        The held-out conditions, at least 4; all stimuli by default. Make sure that they were held out: give
        `fit` the same list as `held_out`, which it checks.
    comparators : sequence of str
        Names of `brainrdl.similarity.SIMILARITIES`.
    dissimilarity : str or callable
        Dissimilarity of the student's patterns.
    models : mapping of name to RDMs, optional
        Model RDMs to score on the same pairs, one RDM each.
    intervals : {"dyadic", "dual-bootstrap", "none"}
        How 95% intervals and p-values are computed; see `brainrdl.inference.intervals`.
    n_bootstrap : int, optional
        Number of resamples of stimuli and subjects for the dual bootstrap, at least 2; by default 1000. Other intervals
        need none, and refuse a number.
    seed : int
        Seed of the resampling.
    progress : bool
        Show progress and the time left on stderr if it takes longer than two seconds.

    Returns
    -------
    Evaluation

    Raises
    ------
    BrainrdlError
        For unknown names or comparators, fewer than 4 conditions, or a number that is not whole.

    Examples
    --------
    >>> import torch
    >>> from brainrdl import RDMTeacher, Stimuli, Student, rdms
    >>> names = list("abcdef")
    >>> teacher = RDMTeacher(rdms.from_array(torch.rand(3, 15).numpy(), names), subject_by="index")
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8)), ["1"])
    >>> result = evaluate(student, teacher, Stimuli.from_arrays(torch.rand(6, 1, 4, 4), names))
    >>> sorted(result.summary.against.unique())
    ['mean', 'subjects']
    """
    judging = {"intervals": intervals, "n_bootstrap": resamples(intervals, n_bootstrap)}
    check_whole(seed, "seed", 0, 2**32)
    names = tuple(stimuli.names if names is None else names)
    check_stored(teacher)
    check_text(models or (), "the models")
    check_unique(["student", *(models or ()), "category", "category lookup"], "the rows of the evaluation")
    if len(names) < MIN_CONDITIONS:
        refuse(f"scoring needs at least {MIN_CONDITIONS} conditions, got {len(names)}: {list(names)}")
    found = student_rdms(student, teacher, stimuli, names, dissimilarity, progress=progress)
    held_out = [
        HeldOut(student="student", role=Role.STUDENT, layer=layer, target=target, names=names, pairs=pairs)
        for (layer, target), pairs in found.items()
    ]
    targets = tuple(dict.fromkeys(target for _, target in found))
    held_out += model_rdms(models or {}, stimuli.labels, targets, names, seed=0, fold=0)
    settings = {"held_out": list(names), "comparators": list(comparators), **judging}
    truth = teacher_rdms(teacher, stimuli, names, targets)
    return assemble(
        held_out,
        truth,
        comparators,
        intervals,
        n_bootstrap,
        seed,
        labels=stimuli.select(names).labels,
        settings=settings,
        progress=progress,
    )


def student_rdms(
    student: Student,
    teacher: Teacher,
    stimuli: Stimuli,
    names: tuple[str, ...],
    dissimilarity: str | measures.Dissimilarity,
    match: Match | None = None,
    progress: bool = False,
) -> dict[tuple[str, str], torch.Tensor]:
    """Compute the pairs of each (layer, target) of a student for `names`, float64 on the CPU.

    Layers and targets are matched as in `fit`: by `match` (of the loss), else by that of the student.

    Examples
    --------
    >>> from brainrdl import RDMTeacher, Stimuli, Student, rdms
    >>> teacher = RDMTeacher(rdms.from_array([1.0, 2.0, 3.0], list("abc")))
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten()), ["0"])
    >>> images = Stimuli.from_arrays(torch.eye(3).reshape(3, 1, 3, 1), list("abc"))
    >>> {key: pairs.round(decimals=6).tolist() for key, pairs in student_rdms(
    ...     student, teacher, images, ("a", "b", "c"), "correlation").items()}
    {('0', 'rdm'): [1.5, 1.5, 1.5]}
    """
    matched = match_layers(student.layers, teacher.targets, match or student.match)
    pairs = conversion.to_tensor(student.rdms(stimuli, names, dissimilarity, progress), dtype=torch.float64)
    rows = zip(student.layers, pairs, strict=True)
    return {(layer, target): row for layer, row in rows for target in matched[layer]}


def teacher_rdms(
    teacher: Teacher, stimuli: Stimuli, names: Sequence[str], targets: Sequence[str]
) -> dict[str, TeacherRDMs]:
    """Get every subject's RDM of each target for `names`; the RDMs of a teacher without subjects count as subjects.

    Examples
    --------
    >>> from brainrdl import RDMTeacher, Stimuli, rdms
    >>> both = rdms.from_array([[1.0, 2.0, 3.0], [3.0, 2.0, 2.0]], list("abc"), descriptors={"subject": ["s1", "s2"]})
    >>> truth = teacher_rdms(RDMTeacher(both), None, ("c", "b", "a"), ["rdm"])
    >>> truth["rdm"].subjects, truth["rdm"].pairs.tolist()
    (('s1', 's2'), [[3.0, 2.0, 1.0], [2.0, 2.0, 3.0]])
    """
    names = tuple(names)
    found = rdms_by_subject(teacher, names, lambda: stimuli.batch(names))
    return {target: TeacherRDMs(target, names, *_on_one_scale(target, found[target])) for target in targets}


def _on_one_scale(target: str, found: SubjectRDMs) -> SubjectRDMs:
    """Make the scales of subjects equal who know different pairs, because their mean is scored too."""
    return found._replace(pairs=comparable(found.pairs, f"target {target!r}"))


def assemble(
    held_out: Sequence[HeldOut],
    truth: Mapping[str, TeacherRDMs],
    comparators: Sequence[str],
    intervals: Intervals,
    n_bootstrap: int | None,
    seed: int,
    *,
    progress: bool = False,
    **parts: Any,
) -> Evaluation:
    """Score held-out RDMs and collect them, by name, in an `Evaluation`.

    Examples
    --------
    >>> truth = TeacherRDMs("IT", tuple("abcd"), ("s1",), torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]))
    >>> row = HeldOut(student="fitted", role=Role.STUDENT, target="IT", names=tuple("abcd"), pairs=truth.pairs[0])
    >>> assemble([row], {"IT": truth}, ["corr"], "dyadic", None, 0).summary["score"].round(6).tolist()
    [1.0, 1.0]
    """
    tables = score(
        held_out, truth, comparators, intervals=intervals, n_bootstrap=n_bootstrap, seed=seed, progress=progress
    )
    names = next(iter(truth.values())).names
    means = torch.stack([teacher.pairs.double().nanmean(0) for teacher in truth.values()])
    measures = {one.measure for one in truth.values()}
    measure = measures.pop() if len(measures) == 1 else None
    teacher = conversion.from_tensor(means, names, measure=measure, descriptors={"target": list(truth)})
    return Evaluation(*tables, teacher, _gathered(held_out, names), **parts)


_SAME_RDM = ("student", "role", "base", "layer", "target", "seed", "left_out")


def _gathered(held_out: Sequence[HeldOut], names: tuple[str, ...]) -> RDMs:
    """One RDM per student, layer, target and seed: the pairs of its folds, NaN between folds."""
    position = {name: i for i, name in enumerate(names)}
    squares: dict[tuple[Any, ...], torch.Tensor] = {}
    for one in held_out:
        key = tuple(getattr(one, what) for what in _SAME_RDM)
        square = squares.setdefault(key, torch.full((len(names),) * 2, torch.nan, dtype=torch.float64))
        rows = torch.tensor([position[name] for name in one.names])
        square[rows[:, None], rows] = pairs.to_square(one.pairs.double().cpu())
    i, j = pairs.pair_indices(len(names))
    rows_of_pairs = torch.stack([square[i, j] for square in squares.values()])
    described = {what: [key[k] for key in squares] for k, what in enumerate(_SAME_RDM)}
    described["role"] = [role.value for role in described["role"]]
    found = conversion.from_tensor(rows_of_pairs, names, descriptors=described)
    found.pattern_descriptors |= {f"{FOLD}{seed}": folds for seed, folds in _folds(held_out, names).items()}
    return found


def _folds(held_out: Sequence[HeldOut], names: tuple[str, ...]) -> dict[int, list[int]]:
    """Return the fold of each condition for each seed of which no two folds share a condition."""
    of: dict[int, dict[str, set[int]]] = {}
    for one in held_out:
        for name in one.names:
            of.setdefault(one.seed, {}).setdefault(name, set()).add(one.fold)
    return {
        seed: [min(folds.get(name, {-1})) for name in names]
        for seed, folds in of.items()
        if all(len(found) == 1 for found in folds.values())
    }
