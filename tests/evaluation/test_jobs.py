"""Jobs in worker processes: the same results, whatever happens to a worker; a signal stops all at the end of a step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from torch import nn

from brainrdl import RDMTeacher, Readout, Stimuli, Student, rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.evaluation import jobs
from brainrdl.evaluation.cross_validation import cross_validate
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.evaluation.jobs import count_workers, run_jobs
from brainrdl.runs.run_folder import CHECKPOINT, WEIGHTS

NAMES = [f"n{i:02d}" for i in range(16)]
OPTIONS: dict[str, Any] = {"folds": 3, "device": "cpu", "progress": False, "evaluate_every": 2}


def data() -> tuple[RDMTeacher, Stimuli]:
    pixels = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    subjects = {"subject": ["s0", "s1"]}
    pairs = np.random.default_rng(1).random((2, 120))
    return RDMTeacher(rdms.from_array(pairs, NAMES, descriptors=subjects)), Stimuli.from_arrays(pixels, NAMES)


def students(kill: Path | None = None) -> dict[str, Callable[[], Student]]:
    """A network with dropout, and a readout of a frozen one; the first worker that makes a student kills itself."""
    parent = os.getpid()

    def dropout() -> Student:
        if kill is not None and os.getpid() != parent and not kill.exists():
            kill.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.2)), ["2"])

    def frozen() -> Student:
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8))
        return Student(network, ["1"], readout=Readout(projection=4, standardise=True), trainable="projection")

    return {"dropout": dropout, "frozen": lambda: frozen()}


@pytest.fixture(scope="module")
def serial() -> Evaluation:
    with warnings.catch_warnings():  # of the reweighted control, which is constant in a fold
        warnings.simplefilter("ignore", UserWarning)
        return cross_validate(students(), *data(), steps=6, inner_folds=2, **OPTIONS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, list[str], Path]:
    """Evaluation, warnings and folder of the same in two processes, one of which is killed."""
    folder = tmp_path_factory.mktemp("workers")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        makers = students(kill=folder / "killed")
        found = cross_validate(makers, *data(), steps=6, inner_folds=2, n_jobs=2, out=folder / "run", **OPTIONS)
    return found, [str(one.message) for one in told], folder


@pytest.mark.slow
def test_results_are_the_same_bit_for_bit_in_processes_one_of_which_was_killed(
    serial: Evaluation, run: tuple[Evaluation, list[str], Path]
) -> None:
    found, told, folder = run
    assert (folder / "killed").exists()
    assert any(message.startswith("a worker process was killed; ") for message in told)
    for table in ("scores", "summary", "contrasts"):
        pd.testing.assert_frame_equal(getattr(found, table), getattr(serial, table), check_exact=True)
    with_seconds = (serial.histories, found.histories)
    pd.testing.assert_frame_equal(*(one.drop(columns="seconds") for one in with_seconds), check_exact=True)
    np.testing.assert_array_equal(found.students.dissimilarities, serial.students.dissimilarities)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:scores are undefined:UserWarning")
def test_a_run_of_several_processes_is_resumed_in_one(
    serial: Evaluation, run: tuple[Evaluation, list[str], Path]
) -> None:
    folder = run[2] / "run"
    times = {path: path.stat().st_mtime_ns for path in folder.rglob(WEIGHTS)}
    assert len(times) == 12
    again = cross_validate(students(), *data(), steps=6, inner_folds=2, out=folder, resume=True, **OPTIONS)
    assert times == {path: path.stat().st_mtime_ns for path in folder.rglob(WEIGHTS)}
    pd.testing.assert_frame_equal(again.scores, serial.scores)


def long_run(folder: str) -> None:
    makers = {"dropout": students()["dropout"]}
    options = {**OPTIONS, "steps": 100_000, "checkpoint_every": 100_000, "controls": [], "n_jobs": 2}
    cross_validate(makers, *data(), out=folder, **options)


def begun(folder: Path) -> list[Path]:
    return [path.parent for path in folder.rglob("settings.json") if path.parent.parent.name == "fits"]


def members(group: int) -> list[psutil.Process]:
    """Processes of a group that run."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.slow
def test_a_signal_lets_all_workers_write_their_checkpoints(tmp_path: Path) -> None:
    """Ctrl-C reaches the workers as well, which are in the same process group."""
    folder = tmp_path / "run"
    code = f"import runpy; runpy.run_path({__file__!r})['long_run']({str(folder)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.PIPE, text=True)
    for _ in range(1200):
        if len(begun(folder)) == 2 or process.poll() is not None:
            break
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert "stopped by SIGINT: 0 of 3 jobs are in" in said, said
    stopped = begun(folder)
    assert len(stopped) == 2
    assert all((path / CHECKPOINT).exists() and not (path / WEIGHTS).exists() for path in stopped)
    _, left = psutil.wait_procs(members(process.pid), timeout=20)
    assert not left


@pytest.mark.slow
def test_work_that_ends_its_process_each_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_ATTEMPTS", 1)
    with pytest.raises(BrainrdlError, match=r"worker processes were killed 1 times before any of 2 jobs .* n_jobs="):
        run_jobs(lambda number: os.kill(os.getpid(), signal.SIGKILL), [(1,), (2,)], n_jobs=2, progress=False)


@pytest.mark.slow
def test_a_workers_warning_is_shown_once_and_its_error_raised() -> None:
    def work(number: int) -> int:
        warnings.warn("the patterns are constant", stacklevel=1)
        if number == 3:
            raise BrainrdlError("loss is nan", place="student 'a'")
        return torch.get_num_threads() * number

    with pytest.warns(UserWarning, match="the patterns are constant") as told:
        assert run_jobs(work, [(1,), (2,)], n_jobs=2, progress=False) == [1, 2]
    assert len(told) == 1
    with pytest.warns(UserWarning, match="constant"), pytest.raises(BrainrdlError, match="student 'a': loss is nan"):
        run_jobs(work, [(3,), (1,), (1,)], n_jobs=2, progress=False)


def test_the_number_of_workers_is_that_of_joblib_and_not_above_the_jobs() -> None:
    assert [count_workers(n_jobs, 9) for n_jobs in (None, 1, 4)] == [1, 1, 4]
    assert count_workers(-1, 100) == joblib.cpu_count()
    with joblib.parallel_config(n_jobs=3):
        assert count_workers(None, 9) == 3
        assert count_workers(None, 2) == 2


def test_numbers_of_processes_that_cannot_be_and_threads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrainrdlError, match="n_jobs=0 is not a number of processes"):
        cross_validate(students(), *data(), n_jobs=0, out=tmp_path / "run", **OPTIONS)
    with pytest.raises(BrainrdlError, match="n_jobs must be a whole number, at least -1, got -2"):
        cross_validate(students(), *data(), n_jobs=-2, out=tmp_path / "run", **OPTIONS)
    with (
        joblib.parallel_config("threading", n_jobs=2),
        pytest.raises(BrainrdlError, match="threads of one process share torch's random numbers"),
    ):
        cross_validate(students(), *data(), out=tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run").exists()
