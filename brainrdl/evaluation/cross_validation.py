"""`cross_validate`: fit on some stimuli (and subjects), score on the others, and compare with controls.

Nothing is chosen on the held-out stimuli. The teacher of a fold is first reduced to the training conditions, z-scores
are computed from training stimuli, and with ``inner_folds`` the number of steps is chosen by cross-validation within
the training stimuli.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import pandas as pd
import torch
from torch import Tensor

from brainrdl._core import files as _files
from brainrdl._core.errors import refuse
from brainrdl._core.options import complete, free, lists_options
from brainrdl._core.rows import Role
from brainrdl.evaluation.baselines import averaged_rows, baseline_rows, constant_rows, reweighted_rows
from brainrdl.evaluation.fresh_students import Maker, with_new_terms, without_choice
from brainrdl.evaluation.held_out import Evaluation, assemble, student_rdms, teacher_rdms, write_evaluation
from brainrdl.evaluation.jobs import count_workers, run_jobs
from brainrdl.evaluation.options import CrossValidationOptions, EvaluationOptions, resamples
from brainrdl.evaluation.plan import (
    FITTED_CONTROLS,
    Candidate,
    Split,
    check_candidates,
    check_controls,
    check_inner,
    check_inner_sizes,
    check_rows,
    check_slugs,
    check_targets,
    check_teachers,
    check_validation,
    controls_for,
    display,
    fitted_control,
    inner_folds_of,
    named_candidates,
    settings_of_teachers,
    splits_of,
    subjects_to_leave_out,
)
from brainrdl.evaluation.scores import HeldOut
from brainrdl.evaluation.simple_models import model_rdms
from brainrdl.loss.matching import match_layers
from brainrdl.loss.rdm_loss import RDMLoss, check_rdm_loss
from brainrdl.models.student import Student
from brainrdl.runs import checkpoint as _checkpoint, provenance, run_folder
from brainrdl.runs.fingerprint import hashes_of, source_settings, student_settings
from brainrdl.stimuli.categories import groups_of
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.teachers.controls import pixel_rdm
from brainrdl.teachers.protocol import Teacher, check_stored
from brainrdl.training.distributed import agreed, is_first, join, opened_by_first, start_alike, wait_for_all
from brainrdl.training.frozen_features import FrozenFeatures
from brainrdl.training.loop import fit
from brainrdl.training.options import FitOptions
from brainrdl.training.preparation import code_of_run, hashes_of_task, settled_code
from brainrdl.training.steps import monitored
from brainrdl.training.stimulus_lists import calibration_names
from brainrdl.training.task import Task
from brainrdl.training.terms import Term

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs


@lists_options(CrossValidationOptions)
def cross_validate(
    students: Callable[[], Student] | Candidate | Mapping[str, Callable[[], Student] | Candidate],
    teacher: Teacher,
    stimuli: Stimuli,
    *,
    validation: Sequence[str] | float = (),
    loss: RDMLoss | None = None,
    task: Task | None = None,
    terms: Mapping[str, Term | Callable[..., Tensor]] | None = None,
    models: Mapping[str, RDMs] | None = None,
    ensembles: Mapping[str, Sequence[str]] | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    facts: Mapping[str, Any] | None = None,
    **options: Unpack[CrossValidationOptions],
) -> Evaluation:
    """Fit students on training stimuli and score them on pairs of stimuli that were held out together.

    With several processes (``torchrun``), all of them compute each fit together and have the result; the first one
    writes.

    Parameters
    ----------
    students : callable, Candidate, or mapping of label to such
        Functions that make the students; a single one is labelled "fitted".
    teacher : Teacher
        Source of the RDMs to fit and to score against.
    stimuli : Stimuli
        Images with the teacher's conditions as names (see `Stimuli.align`).
    validation : sequence of str, or float
        As in `fit`: names for validation, or the fraction of each training fold to use for it.
    loss : RDMLoss, optional
        As in `fit`.
    task, terms
        As in `fit`: every fit learns the task as well. Task images that are byte-identical to held-out stimuli are
        refused.
    models : mapping of name to RDMs, optional
        Model RDMs to score on the same pairs.
    ensembles : mapping of label to labels, optional
        Students whose held-out RDMs are z-scored and averaged to form an additional row.
    out : path, optional
        Run folder: the evaluation, and one folder per fit under ``fits/``.
    resume, overwrite : bool
        What to do if the run folder exists; resuming skips finished fits, and may use another device.
    progress : bool
        Show progress bars.
    facts : mapping, optional
        Additional settings for the report: ``simulated=True`` says that the teacher's RDMs are not measured.
    **options
        See `brainrdl.evaluation.CrossValidationOptions`. The seed of each fit is one of `seeds`, and its training
        stimuli follow from `folds`.

    Returns
    -------
    Evaluation

    Raises
    ------
    BrainrdlError
        As in `fit`; also for stimuli that are not the teacher's conditions, byte-identical images or groups in two
        parts, folds of fewer than 4 conditions, an unknown option, two rows with the same name, students that share
        weights that training changes, or resuming with another design.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from brainrdl import RDMTeacher, Stimuli, Student, cross_validate, rdms
    >>> names = [f"image{i}" for i in range(12)]
    >>> teacher = RDMTeacher(rdms.from_array(np.random.default_rng(0).random((2, 66)), names), subject_by="index")
    >>> stimuli = Stimuli.from_arrays(torch.rand(12, 1, 4, 4), names)
    >>> def make():
    ...     return Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8)), ["1"])
    >>> result = cross_validate(make, teacher, stimuli, folds=3, steps=5, device="cpu", progress=False)
    >>> sorted(result.summary.student.unique())
    ['fitted', 'permuted', 'reweighted', 'unfitted']
    """
    join(options.get("device", "auto"))
    if out is not None and is_first():
        run_folder.check_folder(out, resume=resume, overwrite=overwrite)
    candidates = named_candidates(students)
    _check_kinds(teacher, stimuli)
    check_stored(teacher)
    asked = complete(EvaluationOptions, options)
    n_bootstrap = resamples(asked["intervals"], asked["n_bootstrap"])
    count_workers(asked["n_jobs"], n=2)  # refuse a wrong number before hours of preparation
    seeds, stratify, inner_folds = asked["seeds"], asked["stratify"], asked["inner_folds"]
    groups = asked["groups"] = groups_of(asked["groups"], stimuli.names)
    controls = asked["controls"] = controls_for(asked["controls"], stimuli)
    fit_options: dict[str, Any] = {"loss": check_rdm_loss(loss), "validation": validation}
    fit_options |= {name: value for name, value in {"task": task, "terms": terms}.items() if value}
    fit_options |= {name: value for name, value in options.items() if name not in asked}
    check_candidates(candidates, fit_options, cross_validate)
    check_teachers(candidates, stimuli.names)
    check_inner(candidates, inner_folds, fit_options)
    code = _code_of(stimuli, fit_options, candidates)  # before any of these functions is used
    models = _with_pixels(models or {}, stimuli) if "pixels" in controls else models
    check_rows(candidates, ensembles or {}, models or {})
    model_rdms(models or {}, None, ("",), stimuli.names, seed=0, fold=0)  # refuse wrong models before hours of fitting
    hashes = hashes_of(teacher, stimuli, stimuli.names, labels=True)
    fitting = {
        **{name: value for name, value in asked.items() if name not in free(EvaluationOptions)},
        **source_settings(teacher, stimuli, stimuli.names),
        "hashes": {what: digest for what, digest in hashes.items() if stratify or what != "labels"}
        | hashes_of_task(task),
        "students": candidates, "teachers": settings_of_teachers(candidates, stimuli), "fit": fit_options,
    }  # fmt: skip
    fitting |= {"code": code} if code else {}
    judging = {
        **{name: value for name, value in asked.items() if name in free(EvaluationOptions)},
        "ensembles": ensembles, "models": list(models or {}), "n_stimuli": len(stimuli), "n_bootstrap": n_bootstrap,
    }  # fmt: skip
    left_out = subjects_to_leave_out(teacher, asked["subjects"])
    splits = list(splits_of(stimuli, asked["folds"], seeds, stratify, groups, left_out))
    check_slugs(splits, candidates)
    check_controls(candidates, controls, teacher, stimuli, splits)
    check_inner_sizes(splits, candidates, inner_folds, stimuli.labels if stratify else None, groups, stimuli)
    check_validation(splits, candidates, fit_options, groups, stimuli)
    made = Maker()
    first = made.first({label: candidate.make for label, candidate in candidates.items()}, seeds[0])
    check_targets(candidates, first, fit_options)
    fitting["networks"] = {label: student_settings(student) for label, student in first.items()}
    del first
    read_only = run_folder.is_read_only(out)
    with nullcontext() if out is None else opened_by_first(out, resume=resume, overwrite=overwrite) as folder:
        if folder and is_first():
            _store_settings(folder, provenance.describe(fitting), hashes)
        features = FrozenFeatures(stimuli, together=True)  # so that they do not depend on which fit is the first
        shared = {"progress": False, "features": features, "groups": groups, **fit_options}
        work = _Work(
            candidates,
            teacher,
            stimuli,
            tuple(controls),
            inner_folds,
            stratify,
            folder,
            read_only,
            shared,
            code,
            made,
        )
        jobs = [(split, label) for split in splits for label in candidates]
        done = run_jobs(
            work.run, jobs, n_jobs=asked["n_jobs"], what="cross-validation", progress=progress and is_first(),
            out=None if read_only else folder,
        )  # fmt: skip
        held_out = [one for found, _ in done for one in found]
        histories = [history for _, several in done for history in several]
        targets = tuple(dict.fromkeys(one.target for one in held_out))
        truth = teacher_rdms(teacher, stimuli, stimuli.names, targets)
        held_out += averaged_rows(held_out, ensembles or {})
        for split in splits:
            held_out += baseline_rows(split, truth, stimuli, models or {}, "category" in controls)
        evaluation = assemble(
            held_out, truth, asked["comparators"], asked["intervals"], asked["n_bootstrap"], seeds[0],
            histories=pd.concat(histories, ignore_index=True), labels=stimuli.labels,
            settings=fitting | judging | {"constant": constant_rows(held_out)} | dict(facts or {}),
            progress=progress and is_first(),
        )  # fmt: skip
        if folder and not read_only and is_first():
            write_evaluation(evaluation, folder)
    return evaluation


@dataclass(frozen=True)
class _Work:
    """Fits and scores one candidate on one split."""

    candidates: Mapping[str, Candidate]
    teacher: Teacher
    stimuli: Stimuli
    controls: tuple[str, ...]
    inner_folds: int
    stratify: bool
    folder: Path | None
    read_only: bool  # finished fits are read from the folder; nothing is fitted or written
    options: Mapping[str, Any]
    code: Mapping[str, Any]  # the user's functions, described before any fit
    made: Maker

    def run(self, split: Split, label: str) -> tuple[list[HeldOut], list[pd.DataFrame]]:
        candidate = self.candidates[label]
        controls = self.controls if candidate.controls is None else candidate.controls
        teacher = split.cut(self.teacher if candidate.teacher is None else candidate.teacher)
        student, histories = self._fit(split, label, Role.STUDENT, candidate, teacher)
        found = self._held_out(split, label, Role.STUDENT, candidate, student)
        if "unfitted" in controls or "reweighted" in controls:
            before = self._unfitted(split, label, candidate, student.device)
            if "unfitted" in controls:
                found += self._held_out(split, label, Role.UNFITTED, candidate, before)
            if "reweighted" in controls:
                found += self._reweighted(split, label, candidate, before, teacher)
        for name in (name for name in controls if name in FITTED_CONTROLS):
            other, role = fitted_control(name, teacher, self.stimuli, split), FITTED_CONTROLS[name]
            student, more = self._fit(split, label, role, candidate, other)
            found += self._held_out(split, label, role, candidate, student)
            histories += more
        return found, histories

    def _fit(
        self, split: Split, label: str, role: Role, candidate: Candidate, teacher: Teacher
    ) -> tuple[Student, list[pd.DataFrame]]:
        label = display(label, role)
        options = {**self.options, **candidate.options, "seed": split.seed, "held_out": split.test}
        out = self.folder / "fits" / split.slug(label) if self.folder else None
        histories: list[pd.DataFrame] = []
        if (self.inner_folds if candidate.inner_folds is None else candidate.inner_folds) > 1:
            histories, options["steps"] = self._choose_steps(split, label, candidate, teacher, options, out)
            options = without_choice(options)
        if out:
            self._check_there(out / run_folder.WEIGHTS)
        student = self.made.by(label, candidate.make, split.seed)
        with settled_code(self.code):
            fitted = fit(
                student, teacher, self.stimuli, train=split.train, out=out, resume=True, **with_new_terms(options)
            )
        histories.append(fitted.history.assign(inner=-1))
        columns: dict[str, str | int] = {"student": label, "role": role.value}
        columns |= {"seed": split.seed, "fold": split.fold, "left_out": split.left_out}
        return fitted.student, [history.assign(**columns) for history in histories]

    def _choose_steps(
        self,
        split: Split,
        label: str,
        candidate: Candidate,
        teacher: Teacher,
        options: Mapping[str, Any],
        out: Path | None,
    ) -> tuple[list[pd.DataFrame], int]:
        stored = out.parent / f"{out.name}-inner.csv" if out else None
        # The first process decides: it may be ahead, so that it has written the table when another one looks for it.
        known = bool(agreed(stored is not None and _is_stored(stored)))
        # after all processes have met: the first one has written the settings before
        run = _files.digest_file(self.folder / run_folder.SETTINGS) if self.folder else ""
        if stored and known:
            table = _stored_table(stored, run)
        else:
            if stored:
                self._check_there(stored, _record(stored))
            table = pd.concat(self._inner_histories(split, label, candidate, teacher, options, out), ignore_index=True)
            if stored and is_first():
                _store_table(stored, table, run)
        wait_for_all()
        if out and not self.read_only and is_first():
            for folder in out.parent.glob(f"{out.name}-inner[0-9]*"):  # the table holds all that is needed of them
                shutil.rmtree(folder, ignore_errors=True)
        scores = table.assign(score=monitored(table, options.get("monitor", "similarity")))
        curves = scores.pivot(index="step", columns="inner", values="score").dropna()
        steps = int(curves.index[int(curves.mean(axis=1).argmax())])
        return [table], int(agreed(steps))

    def _check_there(self, *paths: Path) -> None:
        for path in paths:
            if self.read_only and not path.exists():
                refuse(f"there is no file {str(path)!r}, so this run is not finished; resume it first")

    def _inner_histories(
        self,
        split: Split,
        label: str,
        candidate: Candidate,
        teacher: Teacher,
        options: Mapping[str, Any],
        out: Path | None,
    ) -> Iterator[pd.DataFrame]:
        n_folds = self.inner_folds if candidate.inner_folds is None else candidate.inner_folds
        labels = self.stimuli.labels if self.stratify else None
        inner = inner_folds_of(split, n_folds, labels, self.options["groups"])
        for k, part in inner.groupby("fold"):
            validation = tuple(part["stimulus"])
            train = tuple(name for name in split.train if name not in set(validation))
            student = self.made.by(label, candidate.make, split.seed)
            kept = {"out": out.with_name(f"{out.name}-inner{k}"), "resume": True} if out else {}
            with settled_code(self.code):
                fitted = fit(
                    student, teacher, self.stimuli,
                    **{**with_new_terms(options), **kept, "train": train, "validation": validation},
                )  # fmt: skip
            yield fitted.history.assign(inner=k)

    def _unfitted(self, split: Split, label: str, candidate: Candidate, device: torch.device) -> Student:
        student = self.made.by(label, candidate.make, split.seed).to(device)
        start_alike(student)
        shown_first = calibration_names(split.train)
        light, shown = self._light(student, shown_first)
        light.calibrate(shown.images(shown_first))
        return student

    def _reweighted(
        self, split: Split, label: str, candidate: Candidate, student: Student, teacher: Teacher
    ) -> list[HeldOut]:
        loss = {**self.options, **candidate.options}["loss"]
        names = (*split.train, *split.test)
        light, images = self._light(student, names)
        matched = match_layers(student.layers, self.teacher.targets, loss.match or student.match)
        wanted = {target for targets in matched.values() for target in targets} & set(teacher.targets)
        truth = teacher_rdms(teacher, self.stimuli, split.train, sorted(wanted))
        patterns = light.patterns(images, names)
        return reweighted_rows(
            split, label, patterns, names, matched, truth, loss.dissimilarity, self.options["groups"]
        )

    def _light(self, student: Student, names: tuple[str, ...]) -> tuple[Student, Stimuli]:
        features = self.options["features"]
        return features.of(student, names) if features.serves(student, None) else (student, self.stimuli)

    def _held_out(self, split: Split, label: str, role: Role, candidate: Candidate, student: Student) -> list[HeldOut]:
        loss = {**self.options, **candidate.options}["loss"]
        light, images = self._light(student, split.test)
        found = student_rdms(light, self.teacher, images, split.test, loss.dissimilarity, loss.match)
        return [
            HeldOut(
                student=display(label, role),
                role=role,
                base=display(label, Role.UNFITTED),
                layer=layer,
                target=target,
                names=split.test,
                pairs=pairs,
                seed=split.seed,
                fold=split.fold,
                left_out=split.left_out,
            )
            for (layer, target), pairs in found.items()
        ]


def _with_pixels(models: Mapping[str, RDMs], stimuli: Stimuli) -> dict[str, RDMs]:
    if "pixels" in models:
        refuse("there are a model and a control with the name 'pixels'; rename the model, or leave out the control")
    return {"pixels": pixel_rdm(stimuli), **models}


def _check_kinds(teacher: object, stimuli: object) -> None:
    """Refuse arguments in another order, which would cause an unclear error later."""
    for what, given, kind in (("teacher", teacher, Teacher), ("stimuli", stimuli, Stimuli)):
        if not isinstance(given, kind):
            refuse(
                f"{what} should be a {kind.__name__}, got {type(given).__name__}; the order is "
                "cross_validate(students, teacher, stimuli)"
            )


def _record(table: Path) -> Path:
    """Name the file that holds the checksum of a table; it is written last, so the table is whole if it exists."""
    return table.with_suffix(".json")


def _store_table(path: Path, table: pd.DataFrame, run: str) -> None:
    _files.write_csv(path, table)
    _files.write_json(_record(path), {"files": _files.digests_of(path.parent, [path.name]), "run": run})


def _is_stored(path: Path) -> bool:
    return path.exists() and _record(path).exists()


def _stored_table(path: Path, run: str) -> pd.DataFrame:
    """Read the table of a fit; `run` is the digest of the settings of the run."""
    record = _record(path)
    told = _files.read_json(record)
    if [*told["files"]] != [path.name] or told.get("run") != run:
        refuse(f"{str(record)!r} is of another run or fold; delete it, and resume the run")
    _files.check_digests(path.parent, told["files"], "delete it, and resume the run")
    return _files.read_csv(path)


def _code_of(stimuli: Stimuli, fit_options: Mapping[str, Any], candidates: Mapping[str, Candidate]) -> dict[str, Any]:
    """Describe the user's functions, on which all fits and the tables of inner folds depend."""
    shared = _code_in(stimuli, fit_options)
    own = {label: _code_in(stimuli, candidate.options).items() for label, candidate in candidates.items()}
    differing = {label: {name: code for name, code in each if shared.get(name) != code} for label, each in own.items()}
    return shared | {label: code for label, code in differing.items() if code}


def _code_in(stimuli: Stimuli, options: Mapping[str, Any]) -> dict[str, Any]:
    task, terms, loss = (options.get(name) for name in ("task", "terms", "loss"))
    plain = {f"term {name}": term for name, term in (terms or {}).items() if not isinstance(term, Term)}
    rest = {name: value for name, value in options.items() if name not in ("task", "terms", "loss")}
    return code_of_run(stimuli, loss, task, rest | plain)


def _store_settings(folder: Path, settings: Mapping[str, Any], hashes: Mapping[str, str]) -> None:
    path = folder / run_folder.SETTINGS
    if path.exists():
        stored = _files.read_json(path)
        _checkpoint.check_same_settings(_compared(settings), _compared(stored), str(path))
    else:
        _files.write_json(path, settings)
        _files.write_json(folder / run_folder.PROVENANCE, provenance.gather_provenance(**hashes))


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out how fits are computed and shown: a run may be resumed on another device."""

    def cut(options: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in options.items() if key not in {"progress", *free(FitOptions)}}

    students = settings.get("students", {}).items()  # a folder of another kind of run has no students
    cut_students = {label: {**made, "options": cut(made["options"])} for label, made in students}
    return {**settings, "fit": cut(settings.get("fit", {})), "students": cut_students}
