"""The run folder: settings, history, checkpoint, weights and provenance, each written completely or not at all.

Layout::

    run/
      settings.json            the options of the run
      provenance.json          versions, git state, data hashes, device
      history.csv              one row per evaluation
      checkpoint.safetensors   model, best model, optimiser, random state; replaced every k steps
      weights.safetensors      the fitted student; written at the end of the run, which deletes the checkpoint

None of these files is a pickle. A checkpoint stores numbers as tensors and everything else as JSON in its header. Each
file has a checksum, which is compared when the file is read. Those of the history and of the settings are stored with
the weights, so that files of another run or fold are recognised.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
from torch import Tensor

from brainrdl._core.errors import BrainrdlError, arg, quote, refuse
from brainrdl._core.files import (
    check_digests,
    digests_of,
    read_csv,
    read_json,
    read_safetensors,
    reason,
    write_csv,
    write_safetensors,
)
from brainrdl._core.locks import LOCK, locked
from brainrdl._core.signals import interrupting
from brainrdl.models.fitted import student_facts
from brainrdl.models.student import Student
from brainrdl.models.trained_on import TrainedOn, check_network, stored_images
from brainrdl.models.weights import STUDENT
from brainrdl.runs.checkpoint import check_same_settings
from brainrdl.runs.fingerprint import images_of

SETTINGS, PROVENANCE, HISTORY = "settings.json", "provenance.json", "history.csv"

CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "weights.safetensors"

_EARLY = {SETTINGS, PROVENANCE, "recipe.yaml"}  # files that a run writes first

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}(\..*)?")  # temporary files of `atomic`, which remain if the process is killed


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


@dataclass(frozen=True)
class OpenFolder:
    """A run folder that is already open: `fit` and `cross_validate` accept it as `out` and do not open it again.

    Attributes
    ----------
    path : Path
        The folder.
    read_only : bool
        Whether finished fits are read from it and nothing is written (`cross_validate` only).

    Examples
    --------
    >>> Path(OpenFolder(Path("runs/it"), read_only=True)).name
    'it'
    """

    path: Path
    read_only: bool = False

    def __fspath__(self) -> str:
        return str(self.path)


def is_read_only(out: object) -> bool:
    """Whether `out` is a run folder that was opened for reading only.

    Examples
    --------
    >>> is_read_only("runs/it")
    False
    """
    return isinstance(out, OpenFolder) and out.read_only


def check_folder(out: PathLike[str] | str, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Refuse a folder that `opened` would refuse, without changing anything.

    Parameters
    ----------
    out : path
    resume : bool
        As in `open_folder`.
    overwrite : bool
        Replace an existing run folder; it must hold settings.json and provenance.json.

    Raises
    ------
    BrainrdlError
        If the folder is not empty and neither option is set, if it is not a run folder, or if it cannot be used.

    Examples
    --------
    >>> check_folder("no/such/folder").exists()
    False
    """
    try:
        folder = Path(out)
        entries = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        is_file = folder.is_file()
    except (OSError, TypeError, ValueError) as error:
        refuse(f"run folder {out!r} cannot be used: {reason(error)}; choose another")
    if is_file:
        refuse(f"run folder {str(folder)!r} is a file; choose another")
    found = {name for name in entries if name != LOCK and not _TEMPORARY.fullmatch(name)}
    missing = [name for name in (SETTINGS, PROVENANCE) if name not in found]
    aside = _aside(folder)
    replaces = aside.exists()
    if found and not resume and not overwrite:
        kept = f" (the run that it was to replace is kept in {str(aside)!r})" if replaces else ""
        refuse(
            f"run folder {str(folder)!r} exists and is not empty{kept}; resume or overwrite it with "
            f"{arg('resume', True)} or {arg('overwrite', True)}, or choose another"
        )
    if found and missing and not ((resume or replaces) and found <= _EARLY):
        done = "resumed" if resume else "overwritten"
        refuse(f"{str(folder)!r} holds no {missing[0]}, so it is not a run folder and cannot be {done}; choose another")
    return folder


def open_folder(out: Path | str, *, resume: bool = False) -> Path:
    """Make the run folder, or refuse to touch one that exists.

    Parameters
    ----------
    out : path
    resume : bool
        Resume an existing run folder; it must hold settings.json and provenance.json, or only the first files of a run
        that failed at once.

    Returns
    -------
    Path

    Raises
    ------
    BrainrdlError
        If the folder is not empty and `resume` is not set, if it is not a run folder, or if it cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> open_folder(tempfile.mkdtemp()).is_dir()
    True
    """
    folder = check_folder(out, resume=resume)
    _make(folder)
    return folder


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        refuse(f"cannot make run folder {str(folder)!r}: {reason(error)}; choose another")


@contextmanager
def opened(out: PathLike[str] | str, *, resume: bool = False, overwrite: bool = False) -> Iterator[Path]:
    """Open and lock the run folder for a block; if a run fails before it has fitted anything, the folder is restored.

    Parameters as in `check_folder`. A run that is overwritten is kept until the new one has fitted something; if the
    process is killed before, the old run is put back when the folder is opened next. A folder that is already open
    (`OpenFolder`) is returned unchanged. During the block SIGTERM and SIGHUP act like Ctrl-C.

    Raises
    ------
    BrainrdlError
        As `check_folder`; also if another process has opened the folder.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "runs" / "first"
    >>> with opened(folder) as run:
    ...     refuse("no such optimiser")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: no such optimiser
    >>> folder.parent.exists()
    False
    """
    if isinstance(out, OpenFolder):
        yield out.path
        return
    folder = check_folder(out, resume=resume, overwrite=overwrite)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    replaces = overwrite and not resume
    with interrupting(), _empty_removed(missing):
        _prepare(folder, replaces)
        open_folder(folder, resume=resume)
        with locked(folder), _replacing(folder) if replaces else _extending(folder, resume):
            yield folder


@contextmanager
def _empty_removed(folders: Iterable[Path]) -> Iterator[None]:
    """Remove folders that are empty after a refusal: they were made for a run that did not begin."""
    try:
        yield
    except BrainrdlError:
        for folder in folders:
            with suppress(OSError):
                folder.rmdir()
        raise


def _prepare(folder: Path, replaces: bool) -> None:
    """Put a run back that a process was replacing when it was killed, and move a run away that is to be replaced.

    The lock moves with the folder, so it ends here. Until the folder is locked again, another process may lock it, and
    this one is refused.
    """
    if not _aside(folder).exists() and not (replaces and folder.is_dir()):
        return
    _make(folder)
    with locked(folder):
        if _put_back(folder) and not replaces:
            warnings.warn(
                f"a run that was to replace {str(folder)!r} was stopped before it had fitted anything: the old run is "
                "back",
                stacklevel=2,
            )
        if replaces:
            _put_aside(check_folder(folder, overwrite=True))


@contextmanager
def _extending(folder: Path, resume: bool) -> Iterator[None]:
    """Delete what a run has written that is refused before it has fitted anything."""
    check_folder(folder, resume=resume)  # again, because now no other process can use it
    found = set(folder.iterdir())
    try:
        yield
    except BrainrdlError:
        for path in set(folder.iterdir()) - found if not _has_begun(folder) else ():
            _remove(path)
        raise


@contextmanager
def _replacing(folder: Path) -> Iterator[None]:
    """Delete the old run at the end, or put it back if the new one has fitted nothing."""
    try:
        yield
    except BaseException as error:
        if _put_back(folder):
            error.add_note(f"the old run is back in {str(folder)!r}, because the new one had not fitted anything")
        raise
    _discard(_aside(folder))


def _aside(folder: Path) -> Path:
    """Name the place of a run that is being replaced."""
    folder = folder.absolute()
    return folder.with_name(f".{folder.name}.overwritten")


def _has_begun(folder: Path) -> bool:
    return any(folder.rglob("*.safetensors"))


def _put_aside(folder: Path) -> None:
    try:
        folder.rename(_aside(folder))
    except OSError as error:
        refuse(f"cannot replace run folder {str(folder)!r}: {reason(error)}; choose another")
    (_aside(folder) / LOCK).unlink(missing_ok=True)


def _put_back(folder: Path) -> bool:
    """Put the run back that was to be replaced, unless the new one has fitted something; say whether it is back."""
    aside = _aside(folder)
    if _has_begun(folder):
        _discard(aside)
        return False
    if not aside.exists():
        return False
    _discard(folder)
    with suppress(OSError):  # another process has made the folder meanwhile: the next one that opens it tries again
        aside.rename(folder)
        return True
    return False


def _discard(folder: Path) -> None:
    """Delete a folder under another name: if the process is killed meanwhile, no part of it is mistaken for a run."""
    trash = folder.absolute().with_name(f".{uuid4().hex}")
    with suppress(OSError):
        folder.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
