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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from uuid import uuid4

from brainrdl._core.errors import BrainrdlError, arg, refuse
from brainrdl._core.files import (
    reason,
)
from brainrdl._core.locks import LOCK, locked
from brainrdl._core.signals import interrupting

SETTINGS, PROVENANCE, HISTORY = "settings.json", "provenance.json", "history.csv"

CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "weights.safetensors"

_EARLY = {SETTINGS, PROVENANCE, "recipe.yaml"}  # files that a run writes first

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}(\..*)?")  # temporary files of `atomic`, which remain if the process is killed


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
