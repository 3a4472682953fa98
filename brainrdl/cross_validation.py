"""`cross_validate`: fit on some stimuli (and subjects), score on the others, beside controls that give a score meaning.

Nothing is chosen on the held-out stimuli. The teacher that a fold trains on is cut down to the training conditions
first, z-scores come from training stimuli, and with ``inner_folds`` the number of steps comes from folds inside the
training stimuli.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.batchnorm import _BatchNorm

from brainrdl import _checkpoint, _files
from brainrdl import result as _result
from brainrdl import similarity as _similarity
from brainrdl._checks import check_conditions, check_option, check_unique, check_whole, quote, refuse
from brainrdl.dissimilarity import pair_indices
from brainrdl.distributed import check_one_process
from brainrdl.evaluation import COMPARATORS, Evaluation, assemble, model_rdms, student_rdms, teacher_rdms
from brainrdl.folds import Splitter, stimulus_folds
from brainrdl.frozen import FrozenFeatures
from brainrdl.loss import RDMLoss
from brainrdl.monitor import track
from brainrdl.scoring import HeldOut, TeacherRDMs
from brainrdl.stimuli import Stimuli
from brainrdl.student import Student
from brainrdl.teachers import PermutedTeacher, RDMTeacher, Teacher
from brainrdl.training import (
    calibration_names,
    check_no_leak,
    check_seed,
    fit,
    hash_labels,
    hash_teacher,
    source_settings,
    student_settings,
)

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

CONTROLS = ("unfitted", "permuted", "category")
SUBJECTS = ("all", "leave-one-out")
_FIT_OPTIONS = inspect.getfullargspec(fit).kwonlyargs
_OURS = ("train", "held_out", "seed")  # options of `fit` that the folds and seeds decide


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


def cross_validate(
    students: Callable[[], Student] | Candidate | Mapping[str, Callable[[], Student] | Candidate],
    teacher: Teacher,
    stimuli: Stimuli,
    *,
    folds: int | Splitter = 5,
    seeds: Sequence[int] = (0,),
    stratify: bool = True,
    inner_folds: int = 0,
    subjects: str = "all",
    comparators: Sequence[str] = COMPARATORS,
    controls: Sequence[str] = CONTROLS,
    models: Mapping[str, RDMs] | None = None,
    ensembles: Mapping[str, Sequence[str]] | None = None,
    n_bootstrap: int = 1000,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    facts: Mapping[str, Any] | None = None,
    **fit_options: Any,
) -> Evaluation:
    """Fit students on training stimuli and score them on pairs of stimuli that were held out together.

    Parameters
    ----------
    students : callable, Candidate, or mapping of label to such
        How to make the student(s); one alone is labelled "fitted".
    teacher : Teacher
        What to approach, and what to be scored against.
    stimuli : Stimuli
        Its names must be the teacher's conditions (see `Stimuli.align`).
    folds : int or scikit-learn splitter
        Folds over stimuli.
    seeds : sequence of int
        The whole cross-validation is repeated with each: folds, initial weights and batches change.
    stratify : bool
        Spread the stimuli's categories evenly over the folds, inner ones too.
    inner_folds : int
        If above 1: choose the number of steps for each training fold by cross-validation inside it (the best look of
        the mean validation curve, step 0 included), then fit on the whole training fold for that many steps. The
        learning rate must not follow a schedule by name, which would be squeezed into the chosen steps.
    subjects : {"all", "leave-one-out"}
        Train on the RDMs of all subjects, or hold out one subject at a time as well, and score against that one alone.
    comparators : sequence of str
        Names of `brainrdl.similarity.SIMILARITIES`.
    controls : sequence of {"unfitted", "permuted", "category"}
        Rows beside each student: the same before fitting; fitted in the same way to a teacher whose names are shuffled
        among the training stimuli; and category models (0/1, and the look-up of the training fold's mean dissimilarity
        for each pair of categories), in folds whose pairs they tell apart.
    models : mapping of name to RDMs, optional
        Model RDMs to score on the same pairs.
    ensembles : mapping of label to labels, optional
        Students whose held-out RDMs are z-scored and averaged to one more row.
    n_bootstrap : int
        Resamples of stimuli and subjects behind the 95 % intervals.
    out : path, optional
        Run folder: the evaluation, and one folder per fit under ``fits/``.
    resume, overwrite : bool
        What to do when the run folder exists; resuming skips what was finished, and may use another device.
    progress : bool
        Show progress bars.
    facts : mapping, optional
        More to write into the settings, for the report: ``simulated=True`` says that the teacher's RDMs are not
        measured.
    **fit_options
        Passed to `fit`; `train`, `held_out` and `seed` are set here.

    Returns
    -------
    Evaluation

    Raises
    ------
    BrainrdlError
        As `fit`; and for stimuli that are not the teacher's conditions, byte-identical images, folds of fewer than 4
        conditions, an option that is unknown, two rows of one name, students that share weights which training
        changes, resuming with another design, or several processes.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from brainrdl import RDMTeacher, Stimuli, Student, cross_validate, rdms
    >>> names = [f"image{i}" for i in range(12)]
    >>> teacher = RDMTeacher(rdms.from_array(np.random.default_rng(0).random((2, 66)), names))
    >>> stimuli = Stimuli.from_arrays(torch.rand(12, 1, 4, 4), names)
    >>> def make():
    ...     return Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8)), ["1"])
    >>> result = cross_validate(make, teacher, stimuli, folds=3, steps=5, n_bootstrap=10, device="cpu", progress=False)
    >>> sorted(result.summary.student.unique())
    ['fitted', 'permuted', 'unfitted']
    """
    check_one_process("cross-validation")
    if out is not None:
        _result.check_folder(out, resume=resume, overwrite=overwrite)
    candidates = _candidates(students)
    _check_kinds(teacher, stimuli)
    if controls is not CONTROLS and "category" in controls and len(set((stimuli.labels or {}).values())) < 2:
        refuse(
            "control 'category' was asked for, but the stimuli have no labels of two categories; give them, or leave it"
        )
    fit_options = {"loss": RDMLoss(), **fit_options}  # spelled out, for the settings and the report
    check_option(subjects, SUBJECTS, "subjects")
    _check_options(candidates, controls, seeds, comparators, fit_options)
    check_whole(n_bootstrap, "n_bootstrap", 0)
    _check_inner(candidates, inner_folds, fit_options)
    _check_rows(candidates, ensembles or {}, models or {})
    model_rdms(models or {}, None, ("",), stimuli.names, seed=0, fold=0)  # refuse what is wrong before hours of fitting
    fitting = {
        "folds": folds, "seeds": list(seeds), "stratify": stratify, "inner_folds": inner_folds, "subjects": subjects,
        **source_settings(teacher, stimuli, stimuli.names), "hashes": _hashes(teacher, stimuli, stratify),
        "students": candidates, "fit": fit_options,
    }  # fmt: skip
    judging = {
        "comparators": list(comparators), "controls": list(controls), "ensembles": ensembles,
        "n_bootstrap": n_bootstrap, "models": list(models or {}), "n_stimuli": len(stimuli),
    }  # fmt: skip
    splits = list(_splits(stimuli, folds, seeds, stratify, _left_out(teacher, subjects)))
    _check_slugs(splits, candidates)
    _check_inner_sizes(splits, candidates, inner_folds, stimuli.labels if stratify else None)
    made = _Made()
    # a second one of each tells what they share, before hours of fitting
    first, _ = ({label: made.by(label, candidates[label], seeds[0]) for label in candidates} for _ in range(2))
    fitting["networks"] = {label: student_settings(student) for label, student in first.items()}
    del first
    with nullcontext() if out is None else _result.opened(out, resume=resume, overwrite=overwrite) as folder:
        if folder:
            _store_settings(folder, _result.describe(fitting))
        shared = {"progress": False, "features": FrozenFeatures(stimuli), **fit_options}
        work = _Work(teacher, stimuli, tuple(controls), inner_folds, stratify, folder, shared, made)
        held_out: list[HeldOut] = []
        histories: list[pd.DataFrame] = []
        jobs = [(split, label, candidate) for split in splits for label, candidate in candidates.items()]
        for split, label, candidate in track(jobs, "cross-validation", progress):
            found, history = work.run(split, label, candidate)
            held_out += found
            histories += history
        targets = tuple(dict.fromkeys(one.target for one in held_out))
        truth = teacher_rdms(teacher, stimuli, stimuli.names, targets)
        held_out += _ensembles(held_out, ensembles or {})
        for split in splits:
            held_out += _baselines(split, truth, stimuli, models or {}, "category" in controls)
        flat = _constant(held_out)
        if flat:
            warnings.warn(f"{'; '.join(flat)}: a score of 0 there says that the network died", stacklevel=2)
        evaluation = assemble(
            held_out, truth, comparators, n_bootstrap, seeds[0],
            histories=pd.concat(histories, ignore_index=True), labels=stimuli.labels,
            settings=fitting | judging | {"constant": flat} | dict(facts or {}),
        )  # fmt: skip
        if folder:
            evaluation.save(folder)
    return evaluation


class _Made:
    """Makes students, and refuses one that shares with another what a fit changes: it would know what that one saw.

    Memory is known by weak references: they keep no network alive, and no address is used again while one is held.
    """

    def __init__(self) -> None:
        self._used: dict[StorageWeakRef, str] = {}
        self._changed: set[StorageWeakRef] = set()

    def by(self, label: str, candidate: Candidate, seed: int) -> Student:
        """Make a student right after torch's generator was seeded."""
        torch.manual_seed(seed)
        student = candidate.make()
        if not isinstance(student, Student):
            refuse(f"the function that makes student {label!r} should return a Student, got {type(student).__name__}")
        self._used = {ref: owner for ref, owner in self._used.items() if not ref.expired()}
        used = {StorageWeakRef(tensor.untyped_storage()) for tensor in _tensors(student)}
        changed = {StorageWeakRef(tensor.untyped_storage()) for tensor in _changing(student)}
        shared = [ref for ref in self._used if (ref in used and ref in self._changed) or ref in changed]
        if shared:
            refuse(
                f"student {label!r} was made with weights of an earlier student {self._used[shared[0]]!r} that "
                "training changes: what one fold learned would serve the next; build the network inside the function "
                "that makes the student"
            )
        self._used |= dict.fromkeys(used, label)
        self._changed = {ref for ref in self._changed | changed if not ref.expired()}
        return student


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _changing(student: Student) -> Iterator[torch.Tensor]:
    """Yield what a fit changes: trained parameters, calibrated readouts, buffers of a network that is not frozen."""
    yield from (parameter for parameter in student.parameters() if parameter.requires_grad)
    for head in student.readout_heads():
        yield from _tensors(head) if head.readout.needs_calibration else ()
    for module in student.model.modules() if not student.frozen else ():
        if student.batchnorm == "train" or not isinstance(module, _BatchNorm):
            yield from module.buffers(recurse=False)


@dataclass(frozen=True)
class _Split:
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


@dataclass(frozen=True)
class _Work:
    """Fits and scores one candidate on one split."""

    teacher: Teacher
    stimuli: Stimuli
    controls: tuple[str, ...]
    inner_folds: int
    stratify: bool
    folder: Path | None
    options: Mapping[str, Any]
    made: _Made

    def run(self, split: _Split, label: str, candidate: Candidate) -> tuple[list[HeldOut], list[pd.DataFrame]]:
        controls = self.controls if candidate.controls is None else candidate.controls
        teacher = split.cut(self.teacher)
        student, histories = self._fit(split, label, candidate, teacher)
        found = self._held_out(split, label, "student", candidate, student)
        if "unfitted" in controls:
            before = self._unfitted(split, label, candidate, student.device)
            found += self._held_out(split, label, "unfitted", candidate, before)
        if "permuted" in controls:
            shuffled = PermutedTeacher(teacher, split.train, seed=split.seed)
            student, more = self._fit(split, _display(label, "permuted"), candidate, shuffled)
            found += self._held_out(split, label, "permuted", candidate, student)
            histories += more
        return found, histories

    def _fit(
        self, split: _Split, label: str, candidate: Candidate, teacher: Teacher
    ) -> tuple[Student, list[pd.DataFrame]]:
        options = {**self.options, **candidate.options, "seed": split.seed, "held_out": split.test}
        out = self.folder / "fits" / split.slug(label) if self.folder else None
        histories: list[pd.DataFrame] = []
        if (self.inner_folds if candidate.inner_folds is None else candidate.inner_folds) > 1:
            histories, options["steps"] = self._choose_steps(split, label, candidate, teacher, options, out)
        student = self.made.by(label, candidate, split.seed)
        fitted = fit(student, teacher, self.stimuli, train=split.train, out=out, resume=True, **options)
        histories.append(fitted.history.assign(inner=-1))
        return fitted.student, [h.assign(student=label, seed=split.seed, fold=split.fold) for h in histories]

    def _choose_steps(
        self,
        split: _Split,
        label: str,
        candidate: Candidate,
        teacher: Teacher,
        options: Mapping[str, Any],
        out: Path | None,
    ) -> tuple[list[pd.DataFrame], int]:
        stored = out.parent / f"{out.name}-inner.csv" if out else None
        if stored and stored.exists():
            table = _files.read_csv(stored)
        else:
            table = pd.concat(self._inner_histories(split, label, candidate, teacher, options), ignore_index=True)
            if stored:
                _files.write_csv(stored, table)
        curves = table.pivot(index="step", columns="inner", values="validation_similarity").dropna()
        return [table], int(curves.index[int(curves.mean(axis=1).argmax())])

    def _inner_histories(
        self, split: _Split, label: str, candidate: Candidate, teacher: Teacher, options: Mapping[str, Any]
    ) -> Iterator[pd.DataFrame]:
        n_folds = self.inner_folds if candidate.inner_folds is None else candidate.inner_folds
        labels = self.stimuli.labels if self.stratify else None
        inner = stimulus_folds(split.train, n_folds, labels=labels, seed=split.seed, what="inner_folds")
        for k, part in inner.groupby("fold"):
            validation = tuple(part["stimulus"])
            train = tuple(name for name in split.train if name not in set(validation))
            student = self.made.by(label, candidate, split.seed)
            fitted = fit(student, teacher, self.stimuli, **{**options, "train": train, "validation": validation})
            yield fitted.history.assign(inner=k)

    def _unfitted(self, split: _Split, label: str, candidate: Candidate, device: torch.device) -> Student:
        student = self.made.by(label, candidate, split.seed).to(device)
        shown_first = calibration_names(split.train)
        light, shown = self._light(student, shown_first)
        light.calibrate(shown.images(shown_first))
        return student

    def _light(self, student: Student, names: tuple[str, ...]) -> tuple[Student, Stimuli]:
        features = self.options["features"]
        return features.of(student, names) if features.serves(student, None) else (student, self.stimuli)

    def _held_out(self, split: _Split, label: str, role: str, candidate: Candidate, student: Student) -> list[HeldOut]:
        loss = {**self.options, **candidate.options}["loss"]
        light, images = self._light(student, split.test)
        found = student_rdms(light, self.teacher, images, split.test, loss.dissimilarity, loss.match)
        shown, base = _display(label, role), _display(label, "unfitted")
        return [
            HeldOut(shown, role, base, layer, target, split.seed, split.fold, split.test, pairs, split.left_out)
            for (layer, target), pairs in found.items()
        ]


def _constant(held_out: Sequence[HeldOut]) -> list[str]:
    """Say which fitted students tell no held-out stimulus from another, and in how many folds."""
    fitted = [one for one in held_out if one.role == "student"]
    keys = dict.fromkeys((one.student, one.layer) for one in fitted)
    told = []
    for student, layer in keys:
        spans = [one.pairs.max() - one.pairs.min() for one in fitted if (one.student, one.layer) == (student, layer)]
        if dead := sum(float(span) == 0 for span in spans):
            told.append(
                f"{student} at layer {layer} gives one pattern for all held-out stimuli in {dead} of {len(spans)} folds"
            )
    return told


def _check_kinds(teacher: object, stimuli: object) -> None:
    """Refuse arguments in another order: they would fail somewhere inside."""
    for what, given, kind in (("teacher", teacher, Teacher), ("stimuli", stimuli, Stimuli)):
        if not isinstance(given, kind):
            refuse(
                f"{what} should be a {kind.__name__}, got {type(given).__name__}; the order is "
                "cross_validate(students, teacher, stimuli)"
            )


def _check_options(
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
                refuse(f"fit's option {name!r} is set for each fold; leave it out, and say seeds= or folds= instead")


def _check_inner(candidates: Mapping[str, Candidate], inner_folds: int, fit_options: Mapping[str, Any]) -> None:
    """Refuse what does not go with a number of steps that inner folds choose."""
    for label, candidate in candidates.items():
        n_folds = inner_folds if candidate.inner_folds is None else candidate.inner_folds
        check_whole(n_folds, "inner_folds", 0)
        options = {**fit_options, **candidate.options}
        validation, schedule = options.get("validation"), options.get("schedule", "constant")
        if n_folds > 1 and isinstance(schedule, str) and schedule != "constant":
            refuse(
                f"student {label!r} has inner_folds={n_folds}, which choose the number of steps, and schedule="
                f"{schedule!r}, which would be squeezed into those; use schedule='constant', or fixed steps"
            )
        if n_folds > 1 and validation:
            refuse(
                f"student {label!r} has inner_folds={n_folds}, which choose the number of steps, and "
                f"validation={validation!r}, which does too; leave one of them out"
            )


def _check_inner_sizes(
    splits: Sequence[_Split],
    candidates: Mapping[str, Candidate],
    inner_folds: int,
    labels: Mapping[str, str] | None,
) -> None:
    asked = {inner_folds if one.inner_folds is None else one.inner_folds for one in candidates.values()}
    for split in splits:
        for n_folds in asked - {0, 1}:
            stimulus_folds(split.train, n_folds, labels=labels, seed=split.seed, what="inner_folds")


def _check_slugs(splits: Sequence[_Split], labels: Iterable[str]) -> None:
    """Refuse fits that would share a folder: the second would be taken for the first, finished."""
    rows = [_display(label, role) for label in labels for role in ("student", "permuted")]
    check_unique([split.slug(row) for split in splits for row in rows], "the folders of the fits")


def _check_rows(
    candidates: Mapping[str, Any], ensembles: Mapping[str, Sequence[str]], models: Mapping[str, Any]
) -> None:
    """Refuse two rows of one name, and members of ensembles that are no students."""
    for members in ensembles.values():
        check_conditions(members, candidates, "the students of an ensemble")
    fitted = [_display(label, role) for label in candidates for role in ("student", "unfitted", "permuted")]
    averaged = [_display(label, role) for label in ensembles for role in ("student", "unfitted")]
    check_unique([*fitted, *averaged, *models, "category", "category lookup"], "the rows of the evaluation")


_ALONE = "fitted"
_CONSTANT = 1e-12  # spread of an RDM that tells no pairs apart but for rounding


def _candidates(
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


def _display(label: str, role: str) -> str:
    if role == "student":
        return label
    return role if label == _ALONE else f"{label}, {role}"


def _left_out(teacher: Teacher, subjects: str) -> tuple[str, ...]:
    if subjects == "all":
        return ("",)
    held = getattr(teacher, "subjects", ())
    if not isinstance(teacher, RDMTeacher) or len(held) < 2:
        refuse(f"subjects='leave-one-out' needs a teacher with at least 2 subjects; {teacher.name!r} has {quote(held)}")
    return held


def _splits(
    stimuli: Stimuli, folds: int | Splitter, seeds: Sequence[int], stratify: bool, left_out: Sequence[str]
) -> Iterator[_Split]:
    labels = stimuli.labels if stratify else None
    for seed in seeds:
        table = stimulus_folds(stimuli.names, folds, labels=labels, seed=seed)
        for fold, part in table.groupby("fold"):
            test = tuple(part["stimulus"])
            train = tuple(name for name in stimuli.names if name not in set(test))
            check_no_leak(stimuli, {"train": train, "held_out": test})
            for subject in left_out:
                yield _Split(seed, int(str(fold)), train, test, subject)


def _store_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    path = folder / _result.SETTINGS
    if path.exists():
        stored = _files.read_json(path)
        _checkpoint.check_same_settings(_compared(settings), _compared(stored), str(path))
    else:
        _files.write_json(path, settings)
        _files.write_json(folder / _result.PROVENANCE, _result.provenance())


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out how fits are computed and shown: a run may go on on another device."""

    def cut(options: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in options.items() if key not in ("device", "progress")}

    students = settings.get("students", {}).items()  # a folder of another kind of run has none
    told = {label: {**made, "options": cut(made["options"])} for label, made in students}
    return {**settings, "fit": cut(settings.get("fit", {})), "students": told}


def _hashes(teacher: Teacher, stimuli: Stimuli, labels: bool) -> dict[str, str]:
    """Digests of the data, for a run must not go on with others; of labels too if the folds follow them."""
    hashes = {"stimuli": _files.hash_words(f"{name} {digest}" for name, digest in stimuli.digests().items())}
    return hashes | hash_teacher(teacher) | (hash_labels(stimuli, stimuli.names) if labels else {})


def _ensembles(held_out: Sequence[HeldOut], ensembles: Mapping[str, Sequence[str]]) -> list[HeldOut]:
    """Average z-scored RDMs over the members of each ensemble, fitted and unfitted."""
    rows = []
    for label, members in ensembles.items():
        for role in ("student", "unfitted"):
            shown = {_display(member, role) for member in members}
            groups: dict[tuple[Any, ...], list[HeldOut]] = {}
            for one in held_out:
                if one.student in shown:
                    groups.setdefault((one.target, one.seed, one.fold, one.left_out), []).append(one)
            complete = [group for group in groups.values() if {one.student for one in group} == shown]
            rows += [_averaged(group, label, role) for group in complete]
    return rows


def _averaged(group: Sequence[HeldOut], label: str, role: str) -> HeldOut:
    centred = torch.stack([one.pairs - one.pairs.mean() for one in group])
    pairs = (centred / centred.std(-1, keepdim=True).clamp(min=_CONSTANT)).mean(0)
    kind = "ensemble" if role == "student" else role
    shown, base = _display(label, role), _display(label, "unfitted")
    return replace(group[0], student=shown, role=kind, base=base, layer="", pairs=pairs)


def _baselines(
    split: _Split, truth: Mapping[str, TeacherRDMs], stimuli: Stimuli, models: Mapping[str, RDMs], category: bool
) -> list[HeldOut]:
    targets = tuple(truth)
    labels = stimuli.labels if category else None
    rows = model_rdms(models, labels, targets, split.test, seed=split.seed, fold=split.fold)
    if labels:
        where = ("category lookup", "category", "", "")
        looked_up = {target: _look_up(split, truth[target], labels) for target in targets}
        rows += [
            HeldOut(*where, target, split.seed, split.fold, split.test, pairs)
            for target, pairs in looked_up.items()
            if pairs.max() - pairs.min() > _CONSTANT * pairs.abs().max()
        ]
    return [replace(row, left_out=split.left_out) for row in rows]


def _look_up(split: _Split, truth: TeacherRDMs, labels: Mapping[str, str]) -> torch.Tensor:
    """Predict each held-out pair by the training fold's mean dissimilarity between the two categories."""
    kept = [s for s, subject in enumerate(truth.subjects) if subject != split.left_out]
    seen = truth.of(split.train)[kept].nanmean(0)
    code = {category: k for k, category in enumerate(sorted(set(labels.values())))}

    def cells(names: tuple[str, ...]) -> torch.Tensor:
        codes = torch.tensor([code[labels[name]] for name in names])
        a, b = codes[pair_indices(len(names))]
        return torch.minimum(a, b) * len(code) + torch.maximum(a, b)

    known = ~seen.isnan()
    table = torch.full((len(code) ** 2,), float(seen[known].mean()), dtype=torch.float64)
    table = table.scatter_reduce(0, cells(split.train)[known], seen[known], "mean", include_self=False)
    return table[cells(split.test)]
