"""Locks: one holder, known by computer, process and start; what a process that has ended left behind is used again."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from brainrdl._core import locks
from brainrdl._core.errors import BrainrdlError
from brainrdl._core.locks import LOCK, locked

HOLD = """
import sys, time
from pathlib import Path
from brainrdl._core.locks import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def written(folder: Path, **changes: Any) -> None:
    facts = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "since": "then",
    }
    (folder / LOCK).write_text(json.dumps(facts | changes))


def test_a_second_process_is_refused_with_the_name_of_the_first_until_it_is_killed(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        message = rf"folder '{re.escape(str(tmp_path))}' is in use by process {process.pid} on this computer since 20"
        with pytest.raises(BrainrdlError, match=message), locked(tmp_path):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_lock_of_this_process_counts_too(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(BrainrdlError, match=f"in use by process {os.getpid()} on this computer"), locked(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        pass


def test_a_lock_of_another_computer_is_refused_with_the_file_to_delete(tmp_path: Path) -> None:
    written(tmp_path, host="node7", pid=12)
    message = r"process 12 on computer 'node7' since then; wait .*; if that process has ended, delete '.*/\.lock'$"
    with pytest.raises(BrainrdlError, match=message), locked(tmp_path):
        pass
    (tmp_path / LOCK).unlink()
    with locked(tmp_path):
        pass


def without_system_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_flock", lambda opened: None)


@pytest.mark.parametrize(
    "changes", [{"pid": 2**22 + 1}, {"started": 1.0}], ids=["it has ended", "its number was given to another process"]
)
def test_without_locks_of_the_system_a_process_is_known_by_number_and_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    without_system_locks(monkeypatch)
    written(tmp_path)
    with pytest.raises(BrainrdlError, match=f"in use by process {os.getpid()} on this computer"), locked(tmp_path):
        pass
    written(tmp_path, **changes)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "no JSON", "[]"])
def test_without_locks_of_the_system_a_lock_that_names_nobody_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (tmp_path / LOCK).write_text(content)
    with locked(tmp_path):  # the system knows that nobody holds it
        pass
    without_system_locks(monkeypatch)
    (tmp_path / LOCK).write_text(content)
    with pytest.raises(BrainrdlError, match="in use by process unknown"), locked(tmp_path):
        pass


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: folder.write_text("a file")])
def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "run")
    with pytest.raises(BrainrdlError, match=r"cannot write '.*/run/\.lock': "), locked(tmp_path / "run"):
        pass


def test_the_lock_of_a_folder_that_was_moved_is_not_taken_from_the_next_holder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    first = locked(tmp_path / "run")
    first.__enter__()
    (tmp_path / "run").rename(tmp_path / "aside")
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"):
        first.__exit__(None, None, None)
        assert (tmp_path / "run" / LOCK).exists()
