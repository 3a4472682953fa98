"""The run folder: settings, history, checkpoint, weights and provenance, each written whole or not at all.

Layout::

    run/
      settings.json            what was asked for
      provenance.json          versions, git state, data hashes, device
      history.csv              one row per look at the run
      checkpoint.safetensors   model, best model, optimiser, random state; replaced every k steps
      weights.safetensors      the fitted student; there only when the run has ended (the checkpoint goes then)

Nothing here is a pickle. A checkpoint keeps its numbers as tensors and everything else as JSON in the file's header.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from brainrdl._checks import BrainrdlError, refuse
from brainrdl.student import Student

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

SETTINGS, PROVENANCE, HISTORY = "settings.json", "provenance.json", "history.csv"
CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "weights.safetensors"
_EARLY = {SETTINGS, PROVENANCE, "recipe.yaml"}  # what a run writes before anything else
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}(\..*)?")  # what `atomic` leaves behind when the process is killed
_SHOWN = 80  # characters of a setting in an error: a list of conditions may be long
_PACKAGES = ("brainrdl", "torch", "torchvision", "rsatoolbox", "numpy", "accelerate")


@dataclass
class FitResult:
    """What `fit` returns: the fitted student and how it came about.

    Attributes
    ----------
    student : Student
        The network at its best step (at the last one without validation stimuli).
    history : pandas.DataFrame
        One row per look: step; loss, rdm_loss, task_loss (means over the steps since the last look); lr; seconds spent
        in steps so far; and, of train (the conditions of the coming step) and of validation, _similarity (RDM
        correlation), _accuracy and _n_constant (constant patterns). NaN where there is nothing to measure.
    best_step : int
        Number of optimiser steps behind the weights of `student`.
    settings, provenance : dict
        As in the run folder.
    path : Path, optional
        The run folder, if one was asked for.

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


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` and move it there when the block ends well; leave nothing when it does not.

    Raises
    ------
    BrainrdlError
        If the file cannot be written: no permission, no space.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
    >>> with atomic(target) as part:
    ...     _ = part.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    path = Path(path)
    part = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch(exist_ok=False)
        mode = part.stat().st_mode  # as the umask has it: some writers make the file anew, for its owner alone
        yield part
        part.chmod(mode)
        part.replace(path)
    except (OSError, SafetensorError) as error:
        refuse(f"cannot write {str(path)!r}: {_reason(error)}")
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as JSON, atomically; what JSON does not know becomes its text.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.json"
    >>> write_json(target, {"lr": 0.1})
    >>> read_json(target)
    {'lr': 0.1}
    """
    with atomic(path) as part:
        part.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    BrainrdlError
        If the file is missing, not JSON, or holds no object.

    Examples
    --------
    >>> import pathlib
    >>> read_json(pathlib.Path("no/settings.json"))
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: cannot read 'no/settings.json': No such file or directory
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        refuse(f"cannot read {str(path)!r}: {error.strerror}")
    except ValueError as error:
        refuse(f"{str(path)!r} is not JSON: {error}")
    if not isinstance(content, dict):
        refuse(f"{str(path)!r} should hold a JSON object, got {type(content).__name__}")
    return content


def write_csv(path: Path, table: pd.DataFrame, sep: str = ",") -> None:
    r"""Write `table` as CSV (or with another separator) without its index, atomically.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
    >>> write_csv(target, pd.DataFrame({"step": [0]}))
    >>> target.read_text()
    'step\n0\n'
    """
    with atomic(path) as part:
        table.to_csv(part, index=False, sep=sep)


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """Read a table.

    Parameters
    ----------
    path : Path
    **options
        Of `pandas.read_csv`.

    Raises
    ------
    BrainrdlError
        If the file is missing or is no table.

    Examples
    --------
    >>> import pathlib
    >>> read_csv(pathlib.Path("no/history.csv"))
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: cannot read 'no/history.csv': No such file or directory
    """
    try:
        return pd.read_csv(path, **options)
    except (OSError, ValueError) as error:
        refuse(f"cannot read {str(path)!r}: {_reason(error)}")


def write_rdms(path: Path, rdms: RDMs) -> None:
    """Write RDMs as rsatoolbox HDF5, atomically; names may be in any script, and rsatoolbox's `load_rdm` reads them.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from brainrdl import rdms
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "rdms.h5"
    >>> write_rdms(target, rdms.from_array([1.0, 2.0, 3.0], ["a", "b", "c"]))
    >>> read_rdms(target).n_cond
    3
    """
    import h5py
    from rsatoolbox.io.hdf5 import write_dict_hdf5

    content = {key: _in_unicode(part) if isinstance(part, dict) else part for key, part in rdms.to_dict().items()}
    whole = io.BytesIO()  # HDF5 that meets a full disk on the way can crash the process
    with h5py.File(whole, "w", libver="latest") as file:  # older versions hold no more than 4000 names in an attribute
        write_dict_hdf5(file.id, content)
    with atomic(path) as part:
        part.write_bytes(whole.getvalue())


def _in_unicode(descriptors: Mapping[str, Any]) -> dict[str, Any]:
    """Make tuples of names that are not in ASCII: rsatoolbox casts lists to bytes, and keeps tuples as they are."""
    return {
        key: tuple(map(str, values))
        if not isinstance(values, str) and not "".join(map(str, values)).isascii()
        else values
        for key, values in descriptors.items()
    }


def read_rdms(path: Path) -> RDMs:
    """Read what `write_rdms` wrote.

    Raises
    ------
    BrainrdlError
        If the file is missing or damaged.

    Examples
    --------
    >>> read_rdms("no/such.h5")
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: there is no file 'no/such.h5'
    """
    from rsatoolbox.rdm.rdms import load_rdm

    if not Path(path).is_file():
        refuse(f"there is no file {str(path)!r}")
    try:
        return load_rdm(str(path), file_type="hdf5")
    except (OSError, KeyError, ValueError) as error:
        refuse(f"cannot read {str(path)!r} as RDMs: {error}")


def check_folder(out: Path | str, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Refuse what `open_folder` would refuse, and touch nothing. Parameters as there.

    Raises
    ------
    BrainrdlError
        As `open_folder`.

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
        refuse(f"run folder {out!r} cannot be used: {_reason(error)}; choose another")
    if is_file:
        refuse(f"run folder {str(folder)!r} is a file; choose another")
    found = {name for name in entries if not _TEMPORARY.fullmatch(name)}
    missing = [name for name in (SETTINGS, PROVENANCE) if name not in found]
    if found and not resume and not overwrite:
        refuse(
            f"run folder {str(folder)!r} exists and is not empty; resume or overwrite it: resume=True / overwrite=True "
            "(--resume / --overwrite), or choose another"
        )
    if found and missing and not (resume and found <= _EARLY):
        done = "resumed" if resume else "overwritten"
        refuse(f"{str(folder)!r} holds no {missing[0]}, so it is no run and is not {done}; choose another")
    return folder


def open_folder(out: Path | str, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Make the run folder, or refuse to touch one that exists.

    Parameters
    ----------
    out : path
    resume : bool
        Go on in an existing run folder; it must hold settings.json and provenance.json, or nothing but the first files
        of a run that died at once.
    overwrite : bool
        Delete an existing run folder first, with all that is in it; it must hold settings.json and provenance.json.

    Returns
    -------
    Path

    Raises
    ------
    BrainrdlError
        If the folder exists, is not empty and neither was asked for, it is no run, or it cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> open_folder(tempfile.mkdtemp()).is_dir()
    True
    """
    folder = check_folder(out, resume=resume, overwrite=overwrite)
    try:
        if overwrite and not resume and folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        refuse(f"cannot make run folder {str(folder)!r}: {_reason(error)}; choose another")
    return folder


@contextmanager
def opened(out: Path | str, *, resume: bool = False, overwrite: bool = False) -> Iterator[Path]:
    """Open the run folder for a block; one that is refused before it has fitted anything leaves nothing of its own.

    Parameters as of `open_folder`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "runs" / "first"
    >>> with opened(folder) as run:
    ...     refuse("no such optimiser")
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: no such optimiser
    >>> folder.parent.exists()
    False
    """
    folder = check_folder(out, resume=resume, overwrite=overwrite)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    open_folder(folder, resume=resume, overwrite=overwrite)
    found = set(folder.iterdir())
    try:
        yield folder
    except BrainrdlError:
        if not any(folder.rglob("*.safetensors")):
            _remove(set(folder.iterdir()) - found, made)
        raise


def _remove(new: Iterable[Path], folders: Iterable[Path]) -> None:
    for path in new:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def provenance(**hashes: str) -> dict[str, Any]:
    """Versions of the packages, git state of the working folder, platform, and the data hashes given.

    Returns
    -------
    dict

    Examples
    --------
    >>> sorted(provenance(stimuli="ab12"))
    ['git', 'hashes', 'platform', 'python', 'versions']
    """
    return {
        "versions": {name: _version(name) for name in _PACKAGES},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "git": _git_state(),
        "hashes": hashes,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git_state() -> str:
    def ask(*words: str) -> str:
        answer = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10)
        return answer.stdout.strip()

    try:
        return ask("rev-parse", "HEAD") + (" with changes" if ask("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return "not a git repository"


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, types and bytes of tensors, independent of their order.

    Examples
    --------
    >>> digest({"a": torch.zeros(2)}) == digest({"a": torch.zeros(2)})
    True
    """
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        total.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file.

    Raises
    ------
    BrainrdlError
        If it cannot be read.

    Examples
    --------
    >>> digest_file("no/such.csv")
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: cannot read 'no/such.csv': No such file or directory
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        refuse(f"cannot read {str(path)!r}: {_reason(error)}")


def hash_words(words: Iterable[str]) -> str:
    """SHA-256 over words in order.

    Examples
    --------
    >>> hash_words(["a"])[:8]
    '87428fc5'
    """
    return hashlib.sha256("\n".join([*words, ""]).encode()).hexdigest()


def describe(value: Any) -> Any:
    """Say `value` in words JSON knows, the same in every process: functions by name, dataclasses by their fields.

    Examples
    --------
    >>> describe({"optimizer": torch.optim.SGD, "lr": 0.1})
    {'optimizer': 'torch.optim.sgd.SGD', 'lr': 0.1}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__} | {f.name: describe(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, Tensor):
        return digest({"tensor": value})
    if isinstance(value, partial):
        return {"kind": "partial"} | {key: describe(getattr(value, key)) for key in ("func", "args", "keywords")}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def save_fit(fitted: FitResult) -> None:
    """Write the end of a run into its folder: history, then weights, whose presence says that the run has ended.

    Raises
    ------
    BrainrdlError
        If the result has no folder.

    Examples
    --------
    >>> import pathlib, tempfile
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
    save_weights(fitted.path / WEIGHTS, fitted.student, best_step=fitted.best_step)
    (fitted.path / CHECKPOINT).unlink(missing_ok=True)


def load_fit(folder: Path | str, student: Student, settings: Mapping[str, Any] | None = None) -> FitResult:
    """Read a run that has ended, into a student of the same make.

    Parameters
    ----------
    folder : path
    student : Student
        Made as the one that was fitted; its weights are replaced.
    settings : mapping, optional
        If given, they must equal those of the run.

    Returns
    -------
    FitResult

    Raises
    ------
    BrainrdlError
        If a file is missing or damaged, does not fit the student, or the settings differ.

    Examples
    --------
    >>> load_fit("no/such/run", None)
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: cannot read 'no/such/run/settings.json': No such file or directory
    """
    folder = Path(folder)
    stored = read_json(folder / SETTINGS)
    if settings is not None:
        check_same_settings(settings, stored, str(folder / SETTINGS))
    facts = read_json(folder / PROVENANCE)
    best_step = load_weights(folder / WEIGHTS, student)
    return FitResult(student, read_csv(folder / HISTORY), best_step, stored, facts, folder)


def save_weights(path: Path, student: Student, best_step: int = 0) -> None:
    """Write a student's state as safetensors, atomically.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from brainrdl import Student
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "weights.safetensors"
    >>> save_weights(target, Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"]))
    >>> target.exists()
    True
    """
    with atomic(path) as part:
        save_file(_owned(student.state_dict()), part, metadata={"best_step": str(best_step)})


def load_weights(path: Path, student: Student) -> int:
    """Load what `save_weights` wrote into a student of the same make, calibrated or not; return its number of steps.

    Raises
    ------
    BrainrdlError
        If the file is missing, cut short, not safetensors, or of another student.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from brainrdl import Student
    >>> student = Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "weights.safetensors"
    >>> save_weights(target, student, best_step=12)
    >>> load_weights(target, student)
    12
    """
    tensors, header = _read_safetensors(path)
    try:
        student.load_state_dict(tensors)
    except RuntimeError as error:
        refuse(f"{str(path)!r} does not fit this student: {error}")
    return int(header.get("best_step", 0))


@dataclass
class State:
    """What a run has done and seen so far.

    Examples
    --------
    >>> from brainrdl import Student
    >>> state = State(step=10)
    >>> state.remember(0.5, Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"]))
    >>> state.best_step, state.best_score
    (10, 0.5)
    """

    step: int = 0
    seconds: float = 0.0
    losses: list[list[float]] = field(default_factory=list)  # total, RDM, task: of each step since the last look
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    best_step: int = 0
    best_score: float = -float("inf")
    looks_since_best: int = 0

    def remember(self, score: float, student: Student) -> None:
        """Keep a copy of the student if `score` is the best so far."""
        self.looks_since_best += 1
        if self.best is None or score > self.best_score:
            self.best = {key: value.detach().clone() for key, value in student.state_dict().items()}
            self.best_score, self.best_step, self.looks_since_best = score, self.step, 0


_PLAIN_STATE = ("step", "seconds", "losses", "history", "best_step", "best_score", "looks_since_best")


def save_checkpoint(
    path: Path,
    state: State,
    student: Student,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    settings: Mapping[str, Any],
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Write all that a run needs to go on, in one safetensors file, atomically.

    Parameters
    ----------
    path : Path
    state : State
    student : Student
    optimizer : torch.optim.Optimizer
    scheduler : torch.optim.lr_scheduler.LRScheduler
    settings : mapping
        What was asked for; only the same settings may go on from here.
    scaler : torch.amp.GradScaler, optional
        Loss scaling of fp16.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from brainrdl import Student
    >>> student = Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> optimizer = torch.optim.Adam(student.parameters())
    >>> scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "checkpoint.safetensors"
    >>> save_checkpoint(path, State(step=7), student, optimizer, scheduler, {"lr": 1e-3})
    >>> load_checkpoint(path, student, optimizer, scheduler, {"lr": 1e-3}).step
    7
    """
    moments, groups = _optimizer_parts(optimizer)
    tensors = {
        **{f"model/{key}": value for key, value in student.state_dict().items()},
        **{f"best/{key}": value for key, value in (state.best or {}).items()},
        **{f"optimizer/{key}": value for key, value in moments.items()},
        **_random_states(),
    }
    facts = {
        "state": {name: getattr(state, name) for name in _PLAIN_STATE},
        "groups": groups,
        "scheduler": _plain(scheduler.state_dict()),
        "scaler": scaler.state_dict() if scaler else {},
        "settings": settings,
    }
    with atomic(path) as part:
        save_file(_owned(tensors), part, metadata={"brainrdl": json.dumps(facts, default=str)})


def load_checkpoint(
    path: Path,
    student: Student,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    settings: Mapping[str, Any],
    scaler: torch.amp.GradScaler | None = None,
) -> State:
    """Restore model, optimiser, schedule and random state; return the rest. Parameters as in `save_checkpoint`.

    Raises
    ------
    BrainrdlError
        If the file is cut short, no checkpoint, or was written under other settings (the first that differs is quoted).

    Examples
    --------
    >>> load_checkpoint("no/checkpoint.safetensors", None, None, None, {})
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: there is no file 'no/checkpoint.safetensors'
    """
    tensors, header = _read_safetensors(path)
    if "brainrdl" not in header:
        refuse(f"{str(path)!r} is no checkpoint of brainrdl")
    facts = json.loads(header["brainrdl"])
    check_same_settings(settings, facts["settings"], str(path))
    student.load_state_dict(_under("model/", tensors))
    _restore_optimizer(optimizer, _under("optimizer/", tensors), facts["groups"])
    scheduler.load_state_dict(scheduler.state_dict() | facts["scheduler"])
    if scaler and facts["scaler"]:
        scaler.load_state_dict(facts["scaler"])
    _restore_random_states(tensors)
    return State(**facts["state"], best=_under("best/", tensors) or None)


def check_same_settings(asked: Mapping[str, Any], stored: Mapping[str, Any], where: str) -> None:
    """Refuse to resume under settings that differ from the stored ones, naming the first that does.

    Raises
    ------
    BrainrdlError
        If a value differs.

    Examples
    --------
    >>> check_same_settings({"lr": 0.1}, {"lr": 0.2}, "run/checkpoint.safetensors")
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: 'run/checkpoint.safetensors' was written with lr=0.2, now lr=0.1; resume with ...
    """
    then, now = _flat(stored), _flat(json.loads(json.dumps(asked, default=str)))
    for key in [*then, *now]:
        if now.get(key) != then.get(key):
            written = f"{where!r} was written with {key}={_brief(then.get(key))}, now {key}={_brief(now.get(key))}"
            data = next((what for end, what in _DATA.items() if key.endswith(end)), None)
            if data:
                refuse(f"{data} have changed since the run began: {written}; put them back, or start another run")
            hint = _same_path(then.get(key), now.get(key))
            refuse(f"{written}; {hint}resume with the settings of the run, or start another")


_DATA = {
    "hashes.stimuli": "the images", "hashes.teacher": "the teacher's RDMs", "hashes.labels": "the stimuli's labels",
}  # fmt: skip


def _same_path(then: Any, now: Any) -> str:
    if not isinstance(then, str) or not isinstance(now, str) or Path(then).name != Path(now).name:
        return ""
    return "if both are the same file, write its path as the run did; "


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not Path(path).is_file():
        refuse(f"there is no file {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        refuse(
            f"{str(path)!r} is cut short, damaged or not safetensors ({error}); pickled files are refused, for loading "
            "one can run code. Delete it to start afresh"
        )


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _owned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory (tied weights): each gets its own copy.
    return {key: value.detach().clone().contiguous() for key, value in tensors.items()}


def _optimizer_parts(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    content = optimizer.state_dict()
    slots = ((index, key, value) for index, slot in content["state"].items() for key, value in slot.items())
    moments = {f"{index}/{key}": torch.as_tensor(value) for index, key, value in slots if value is not None}
    return moments, {"param_groups": content["param_groups"]}


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor], groups: Mapping[str, Any]
) -> None:
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        index, key = name.split("/", 1)
        slots.setdefault(int(index), {})[key] = value
    param_groups = [_with_tuples(group) for group in groups["param_groups"]]
    optimizer.load_state_dict({"state": slots, "param_groups": param_groups})


def _with_tuples(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) and key != "params" else value for key, value in group.items()}


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    kinds = (int, float, str, bool, list, type(None))
    return {key: value for key, value in content.items() if isinstance(value, kinds) and key != "lr_lambdas"}


def _random_states() -> dict[str, Tensor]:
    states = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["random/cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_random_states(tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors["random/cpu"])
    if "random/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random/cuda"])
