"""Locks on folders: of two processes that would write the same results, the second one is refused.

A lock is a file in the folder that says which process holds it: computer, process id, start of the process. On the same
computer the operating system knows as well (``flock``), and it forgets a process that was killed. A lock that such a
process left behind is recognised and used again. Whether a process on another computer still runs cannot be known: its
lock is refused, with a message that says which file to delete.
"""

from __future__ import annotations

import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from brainrdl._core.errors import refuse
from brainrdl._core.files import reason

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"

_PAUSE = 0.2  # seconds between two looks at whether a lock is free

_SAME = 5.0  # seconds: the start of a process is computed from the clock, which may have been corrected since


@contextmanager
def locked(folder: Path, *, waiting: str = "") -> Iterator[None]:
    """Hold the lock of a folder during a block.

    Parameters
    ----------
    folder : Path
        An existing folder.
    waiting : str
        If another process holds the lock, wait until it ends, with this warning; by default refuse.

    Raises
    ------
    BrainrdlError
        If another process, or another block of this one, holds the lock (the message says which), or if the folder
        cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with locked(folder), locked(folder):
    ...     pass
    Traceback (most recent call last):
    brainrdl.BrainrdlError: folder '...' is in use by process ... on this computer since ...; wait until it has ...
    """
    path = Path(folder) / LOCK
    opened = _acquire(path, waiting)
    try:
        yield
    finally:
        with suppress(OSError):
            if _is_at(opened, path):  # the folder may have been moved
                path.unlink()
        os.close(opened)


def _acquire(path: Path, waiting: str) -> int:
    told = False
    while True:
        opened, new = _open(path)
        free = _flock(opened)
        if free is not False and not _is_at(opened, path):  # deleted by its last holder after we opened it
            os.close(opened)
            continue
        holder = _read(opened)
        if free is False or not (_has_ended(holder, free) if holder else free or new):
            os.close(opened)
            if not waiting:
                _refuse(path, holder)
            if not told:
                warnings.warn(f"{waiting}: {_who(holder)}{_gone(path, holder)}", stacklevel=5)
            told = True
            time.sleep(_PAUSE)
            continue
        os.ftruncate(opened, 0)
        os.pwrite(opened, json.dumps(_this_process()).encode(), 0)
        return opened


def _open(path: Path) -> tuple[int, bool]:
    """Open the file; also say whether it is new, which is the lock where the operating system has none."""
    try:
        with suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666), False
    except (OSError, ValueError) as error:
        refuse(f"cannot write {str(path)!r}: {reason(error)}")


def _flock(opened: int) -> bool | None:
    """Ask the operating system for the lock: True if it is ours, False if another has it, None if it cannot say."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return None
    return True


def _is_at(opened: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except OSError:
        return False


def _read(opened: int) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        holder = json.loads(os.pread(opened, 4096, 0))
        return holder if isinstance(holder, dict) else {}
    return {}


def _has_ended(holder: dict[str, Any], free: bool | None) -> bool:
    if holder.get("host") != socket.gethostname():
        return False
    return free is True or not _runs(holder)


def _runs(holder: dict[str, Any]) -> bool:
    """Whether the process still runs: the id of one that has ended may be in use by another, which started later."""
    import psutil

    try:
        return abs(psutil.Process(int(holder["pid"])).create_time() - float(holder["started"])) < _SAME
    except (psutil.Error, KeyError, ValueError, TypeError):
        return False


@cache
def _started(pid: int) -> float:
    import psutil

    return float(psutil.Process(pid).create_time())


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "pid": pid, "started": _started(pid), "since": since}


def _is_here(holder: dict[str, Any]) -> bool:
    return holder.get("host") == socket.gethostname() or not holder


def _who(holder: dict[str, Any]) -> str:
    host, pid, since = (holder.get(key, "unknown") for key in ("host", "pid", "since"))
    return f"process {pid} on {'this computer' if _is_here(holder) else f'computer {host!r}'} since {since}"


def _gone(path: Path, holder: dict[str, Any]) -> str:
    return "" if _is_here(holder) else f"; if that process has ended, delete {str(path)!r}"


def _refuse(path: Path, holder: dict[str, Any]) -> NoReturn:
    refuse(
        f"folder {str(path.parent)!r} is in use by {_who(holder)}; wait until it has ended, or choose another folder"
        f"{_gone(path, holder)}"
    )
