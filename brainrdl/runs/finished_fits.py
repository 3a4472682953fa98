"""A finished fit: the result in memory, and its files, which are written completely or not at all.

The weights are written last and mark the run as finished. They hold the checksums of the history and of the settings,
so that files of another run or fold are recognised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from brainrdl._core.errors import quote, refuse
from brainrdl._core.files import (
    check_digests,
    digests_of,
    read_csv,
    read_json,
    read_safetensors,
    write_csv,
    write_safetensors,
)
from brainrdl.models.fitted import student_facts
from brainrdl.models.student import Student
from brainrdl.models.trained_on import TrainedOn, check_network, stored_images
from brainrdl.models.weights import STUDENT
from brainrdl.runs.checkpoint import check_same_settings
from brainrdl.runs.fingerprint import images_of
from brainrdl.runs.run_folder import CHECKPOINT, HISTORY, PROVENANCE, SETTINGS, WEIGHTS


@dataclass(repr=False)
class FitResult:
    """Result of `fit`: the fitted student and how it was fitted.

    Attributes
    ----------
    student : Student
        The network at its best step (at the last step if there are no validation stimuli).
    history : pandas.DataFrame
        One row per evaluation: step; loss, rdm_loss, task_loss (means over the steps since the last evaluation); lr;
        seconds spent in steps so far; and, for train (the conditions of the next step) and for validation, _similarity
        (RDM correlation, -1 to 1), _accuracy (0 to 1) and _n_constant (number of constant patterns). NaN if a value
        cannot be measured.
    best_step : int
        Number of optimiser steps that led to the weights of `student`.
    settings, provenance : dict
        As in the run folder.
    path : Path, optional
        The run folder, if `out` was given.

    Examples
    --------
    >>> import pandas as pd, torch
    >>> from brainrdl import Student
    >>> student = Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> FitResult(student, pd.DataFrame({"step": [0]}), best_step=0).path is None
    True
    """

    student: Student
    history: pd.DataFrame
    best_step: int
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def __repr__(self) -> str:
        """Summarise in one line what was fitted and how well: settings and history are long."""
        last = self.history.loc[self.history["step"] == self.best_step] if "step" in self.history else self.history
        measured = [column for column in ("train_similarity", "validation_similarity") if column in last]
        scores = {column: float(last[column].iloc[-1]) for column in measured if len(last)}
        said = [f"{column}={value:.3f}" for column, value in scores.items() if value == value]
        sizes = [f"n_{part}={len(self.settings[part])}" for part in ("train", "validation") if self.settings.get(part)]
        where = [] if self.path is None else [f"path={str(self.path)!r}"]
        layers = f"layers={list(self.student.layers)}"
        return f"FitResult({', '.join([layers, f'best_step={self.best_step}', *sizes, *said, *where])})"


def save_fit(fitted: FitResult) -> None:
    """Write the results of a finished run into its folder: history, then weights, which mark the run as finished.

    Parameters
    ----------
    fitted : FitResult
        Result with a run folder.

    Raises
    ------
    BrainrdlError
        If the result has no folder.

    Examples
    --------
    >>> import pathlib, tempfile, torch
    >>> from brainrdl import Student
    >>> student = Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> save_fit(FitResult(student, pd.DataFrame({"step": [0]}), best_step=0, path=folder))
    >>> sorted(path.name for path in folder.iterdir())
    ['history.csv', 'weights.safetensors']
    """
    if fitted.path is None:
        refuse("this result has no run folder; give `out` to fit")
    write_csv(fitted.path / HISTORY, fitted.history)
    files = digests_of(fitted.path, [name for name in (SETTINGS, HISTORY) if (fitted.path / name).exists()])
    save_weights(fitted.path / WEIGHTS, fitted.student, fitted.best_step, files, images_of(fitted.settings))
    (fitted.path / CHECKPOINT).unlink(missing_ok=True)


def load_fit(folder: Path | str, student: Student, settings: Mapping[str, Any] | None = None) -> FitResult:
    """Read a finished run into a student of the same architecture.

    Parameters
    ----------
    folder : path
        The run folder.
    student : Student
        Made in the same way as the fitted one; its weights are replaced.
    settings : mapping, optional
        If given, they must equal those of the run.

    Returns
    -------
    FitResult

    Raises
    ------
    BrainrdlError
        If a file is missing or damaged, has changed since it was written, belongs to another run, does not fit the
        student, or the settings differ.

    Examples
    --------
    >>> load_fit("no/such/run", None)
    Traceback (most recent call last):
    brainrdl.BrainrdlError: cannot read 'no/such/run/settings.json': No such file or directory
    """
    folder = Path(folder)
    stored = read_json(folder / SETTINGS)
    if settings is not None:
        check_same_settings(settings, stored, str(folder / SETTINGS))
    facts = read_json(folder / PROVENANCE)
    tensors, known = read_safetensors(folder / WEIGHTS)
    _check_files(folder, known)
    best_step = _restore(folder / WEIGHTS, student, tensors, known)
    return FitResult(student, read_csv(folder / HISTORY), best_step, stored, facts, folder)


def read_history(folder: Path) -> pd.DataFrame:
    """Read the history of a run; that of a finished run must have the checksum that is stored with the run's weights.

    Raises
    ------
    BrainrdlError
        If the history is missing, is not a table, has changed since it was written, or belongs to another run.

    Examples
    --------
    >>> read_history(Path("no/such/run"))
    Traceback (most recent call last):
    brainrdl.BrainrdlError: cannot read 'no/such/run/history.csv': No such file or directory
    """
    if (folder / WEIGHTS).exists():
        _check_files(folder, read_safetensors(folder / WEIGHTS)[1])
    return read_csv(folder / HISTORY)


def _check_files(folder: Path, facts: Mapping[str, Any]) -> None:
    own = digests_of(folder, [SETTINGS]) if (folder / SETTINGS).exists() else {}
    if facts.get("files", {}).get(SETTINGS) != own.get(SETTINGS):
        refuse(
            f"{str(folder / WEIGHTS)!r} does not belong to {str(folder / SETTINGS)!r}: it is of a run or fold with "
            "other settings, or the settings were changed; restore both from a copy, or delete "
            f"{WEIGHTS!r} and resume the run"
        )
    advice = f"restore it from a copy, or delete {WEIGHTS!r} and resume the run"
    check_digests(folder, facts.get("files", {}), advice)


def save_weights(
    path: Path,
    student: Student,
    best_step: int = 0,
    files: Mapping[str, str] | None = None,
    images: TrainedOn | None = None,
) -> None:
    """Write a student's state as safetensors, atomically.

    Parameters
    ----------
    path : Path
        File to write.
    student : Student
        Network, projections and z-scores.
    best_step : int
        Number of optimiser steps that led to these weights.
    files : mapping of name to SHA-256, optional
        Checksums of files that belong to these weights.
    images : TrainedOn, optional
        The images that the student was trained on; others are refused when the weights are read.

    Raises
    ------
    BrainrdlError
        If the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile, torch
    >>> from brainrdl import Student
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "weights.safetensors"
    >>> save_weights(target, Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"]))
    >>> target.exists()
    True
    """
    facts = {"best_step": best_step, **student_facts(student, images)} | ({"files": dict(files)} if files else {})
    write_safetensors(path, student.state_dict(), facts)


def load_weights(path: Path, student: Student) -> int:
    """Load weights written by `save_weights` into a student of the same architecture; return the number of steps.

    Parameters
    ----------
    path : Path
        File written by `save_weights`.
    student : Student
        Student of the same architecture, calibrated or not; its weights are replaced.

    Returns
    -------
    int
        Number of optimiser steps that led to these weights.

    Raises
    ------
    BrainrdlError
        If the file is missing, truncated, not safetensors, has changed since it was written, or is of another student,
        also one that reads other layers or in another way.

    Examples
    --------
    >>> import pathlib, tempfile, torch
    >>> from brainrdl import Student
    >>> student = Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "weights.safetensors"
    >>> save_weights(target, student, best_step=12)
    >>> load_weights(target, student)
    12
    """
    return _restore(path, student, *read_safetensors(path))


def _restore(path: Path, student: Student, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> int:
    if "best_step" not in facts:
        refuse(f"{str(path)!r} does not hold weights of a student; write them with brainrdl.runs.save_weights")
    _check_readouts(path, facts, student)
    try:
        student.load_state_dict(tensors)
    except RuntimeError as error:
        refuse(f"{str(path)!r} does not fit this student: {error}")
    told = facts.get(STUDENT, {})
    check_network(student.model, told, repr(str(path)))
    student.trained_on = stored_images(told)
    return int(facts["best_step"])


def _check_readouts(path: Path, facts: Mapping[str, Any], student: Student) -> None:
    """Refuse a student that would read the fitted network in another way; its state may fit nevertheless."""
    stored, own = (of.get(STUDENT, {}).get("readouts", {}) for of in (facts, student_facts(student)))
    if stored and stored != own:
        differ = sorted(layer for layer in stored | own if stored.get(layer) != own.get(layer))
        refuse(
            f"{str(path)!r} does not fit this student: the readouts of layers {quote(differ)} differ; it was fitted "
            f"with {stored}, and this student has {own}"
        )
