"""Runs that are killed, stopped, damaged or started twice: the tables in docs/reliability.md, with smaller numbers.

Run it as ``python tests/training/test_reliability.py`` (about ten minutes of processor time): it prints the tables.
Each trial is a process of its own, a fork of this one. "Wrong" is a result that differs from that of an undisturbed run
and is not refused, and a run that cannot be resumed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from brainrdl import rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl._core.files import digest, hash_words
from brainrdl.evaluation.cross_validation import cross_validate
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.models.readout import Readout
from brainrdl.models.student import Student
from brainrdl.runs.finished_fits import FitResult
from brainrdl.runs.run_folder import CHECKPOINT
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.teachers.network_teacher import NetworkTeacher
from brainrdl.teachers.rdm_teacher import RDMTeacher
from brainrdl.training.loop import fit

pytestmark = pytest.mark.slow

NAMES = tuple(f"s{i:02d}" for i in range(16))
STEPS = 40
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
FORK = multiprocessing.get_context("fork")


# What is run


class Passes(nn.Module):
    """Appends a byte to a file for each training pass, and makes it last a while."""

    def __init__(self, log: Path | None = None) -> None:
        super().__init__()
        self._log = log

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            time.sleep(0.005)
        if self.training and self._log:
            with self._log.open("ab") as file:
                file.write(b".")
        return x

    def __repr__(self) -> str:
        return "Passes()"  # the log is not part of the settings of the run


def stimuli() -> Stimuli:
    images = torch.rand(len(NAMES), 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return Stimuli.from_arrays(images, NAMES)


def teacher() -> RDMTeacher:
    described = {"subject": ["a", "b"]}
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((2, 120)), NAMES, descriptors=described))


def student(log: Path | None = None) -> Student:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.Dropout(0.3), Passes(log), nn.Linear(12, 6))
    return Student(network, ["4"], readout=Readout(standardise=True, projection=4))


def one_fit(out: Path, lr: float = 1e-2, log: Path | None = None, **options: Any) -> str:
    """Fit a student with dropout and validation stimuli; return a digest of the result."""
    asked = {"validation": 0.3, "steps": STEPS, "evaluate_every": 4, "checkpoint_every": 3, "schedule": "cosine"}
    return digest_of(
        fit(student(log), teacher(), stimuli(), out=out, lr=lr, device="cpu", progress=False, **asked | options)
    )


def one_evaluation(out: Path, **options: Any) -> str:
    """Cross-validate a student with inner folds and a control; return a digest of the result."""
    asked = {"folds": 2, "inner_folds": 2, "steps": 6, "evaluate_every": 3, "checkpoint_every": 2}
    asked |= {"controls": ["unfitted"], "device": "cpu", "progress": False}
    return digest_of(cross_validate(student, teacher(), stimuli(), out=out, **asked | options))


def digest_of(result: FitResult | Evaluation) -> str:
    if isinstance(result, FitResult):
        history = result.history.drop(columns="seconds").to_csv(index=False)
        return hash_words([digest(result.student.state_dict()), history, str(result.best_step)])
    tables = (result.scores, result.summary, result.histories.drop(columns="seconds"))
    return hash_words([*(table.round(12).to_csv(index=False) for table in tables)])


def reading(cache: Path) -> str:
    """Compare patterns that are read from a cache, or computed one by one, with those computed at once."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 8))
    found, expected = (
        NetworkTeacher(network, ["1"], stimuli=stimuli(), cache=kept).patterns(stimuli().batch(NAMES))["1"]
        for kept in (cache, False)
    )
    return "equal" if torch.allclose(found, expected, rtol=0, atol=1e-6) else "not equal"


# Processes


@cache
def warm_up() -> None:
    """Import what runs import when they begin: a fork has it already, and is killed while it fits."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        one_fit(Path(folder, "fit"), steps=1)
        one_evaluation(Path(folder, "evaluation"), steps=1)


def start(work: Callable[[], str], answer: Path) -> Any:
    """Start a process that writes the answer of `work`, or the message of its error, into a file."""

    warm_up()

    def run() -> None:
        warnings.simplefilter("ignore")
        try:
            told = {"done": work()}
        except (BrainrdlError, KeyboardInterrupt) as error:
            told = {type(error).__name__: str(error)}
        except Exception as error:
            told = {"crashed": f"{type(error).__name__}: {error}"}
        answer.write_text(json.dumps(told))
        os._exit(0)

    process = FORK.Process(target=run)
    process.start()
    return process


def finished(work: Callable[[], str]) -> dict[str, str]:
    """Run `work` in a process of its own and return its answer."""
    with tempfile.TemporaryDirectory() as folder:
        process = start(work, Path(folder, "answer"))
        process.join()
        return json.loads(Path(folder, "answer").read_text())


def killed(work: Callable[[], str], after: float, signum: int = signal.SIGKILL) -> dict[str, str]:
    """Run `work` in a process that gets a signal after some seconds; return its answer, if it has one."""
    with tempfile.TemporaryDirectory() as folder:
        process = start(work, Path(folder, "answer"))
        process.join(after)
        if process.is_alive():
            os.kill(process.pid, signum)
        process.join()
        path = Path(folder, "answer")
        return json.loads(path.read_text()) if path.exists() and path.stat().st_size else {}


def dying_at(operation: int | None, work: Callable[[], str]) -> str:
    """Do `work` until the file operation with this number (from 0), and die there; None returns their number."""
    done = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal done
            if done == operation:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return function(*args, **options)

        return wrapped

    for name in ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir", "pwrite"):
        setattr(os, name, counted(getattr(os, name)))
    result = work()
    return str(done) if operation is None else result


def operations(work: Callable[[], str], n: int) -> list[int]:
    """Choose file operations of `work` at random."""
    total = int(finished(partial(dying_at, None, work))["done"])
    return random.Random(0).sample(range(total), min(n, total))


def seconds(work: Callable[[], str]) -> float:
    started = time.perf_counter()
    finished(work)
    return time.perf_counter() - started


# The tables: each row counts what came of its trials


def kills(n: int) -> Iterator[tuple[str, Counter[str]]]:
    """Kill runs up to three times at random moments, or once before a random file operation, then resume them."""
    for name, run in (("`fit`", one_fit), ("`cross_validate`", one_evaluation)):
        with tempfile.TemporaryDirectory() as folder:
            expected = finished(partial(run, Path(folder, "whole")))["done"]
            usual = seconds(partial(run, Path(folder, "timed")))
        draw = random.Random(0)
        yield f"{name}, at random moments", Counter(_killed_and_resumed(run, expected, usual, draw) for _ in range(n))
        yield f"{name}, at file operations", Counter(_killed_at_operations(run, expected, 2 * n))
    yield "`fit` with `overwrite=True`, at file operations", Counter(_killed_while_overwriting(3 * n))


def _killed_and_resumed(run: Callable[..., str], expected: str, usual: float, draw: random.Random) -> str:
    with tempfile.TemporaryDirectory() as folder:
        work = partial(run, Path(folder, "run"), resume=True)
        for _ in range(draw.randint(1, 3)):
            killed(work, draw.uniform(0, usual))
        return _judged(finished(work), expected)


def _killed_at_operations(run: Callable[..., str], expected: str, n: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        chosen = operations(partial(run, Path(folder, "run"), resume=True), n)
    for operation in chosen:
        with tempfile.TemporaryDirectory() as folder:
            work = partial(run, Path(folder, "run"), resume=True)
            killed(partial(dying_at, operation, work), 600)
            yield _judged(finished(work), expected)


def _killed_while_overwriting(n: int) -> Iterator[str]:
    """Afterwards, either the old or the new run must be there, whole."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "kept")
        old = finished(partial(one_fit, kept, steps=6))["done"]
        new = finished(partial(one_fit, Path(folder, "new"), steps=9))["done"]
        shutil.copytree(kept, Path(folder, "counted"))
        for operation in operations(partial(one_fit, Path(folder, "counted"), steps=9, overwrite=True), n):
            out = Path(folder, f"{operation}", "run")
            shutil.copytree(kept, out)
            killed(partial(dying_at, operation, partial(one_fit, out, steps=9, overwrite=True)), 600)
            resumed = finished(partial(one_fit, out, steps=9, resume=True))
            if resumed.get("done") == new:
                yield "same result"
            elif "steps=6, now steps=9" in resumed.get("BrainrdlError", ""):
                again = finished(partial(one_fit, out, steps=6, resume=True))
                yield "old run back" if again.get("done") == old else f"wrong: {again}"
            else:
                yield f"wrong: {resumed}"


def _judged(answer: dict[str, str], expected: str) -> str:
    return "same result" if answer.get("done") == expected else f"wrong: {answer}"


def flips(n: int) -> Iterator[tuple[str, Counter[str]]]:
    """Flip one random bit of one random file of a run, and use the run again."""
    with tempfile.TemporaryDirectory() as folder:
        whole, stopped, scored, cache = (Path(folder, name) for name in ("whole", "stopped", "scored", "cache"))
        fitted = finished(partial(one_fit, whole))["done"]
        finished(partial(dying_after_steps, stopped, 20))
        evaluated = finished(partial(one_evaluation, scored))["done"]
        patterns = finished(partial(reading, cache))["done"]
        resumed_fit, resumed_evaluation = partial(one_fit, resume=True), partial(one_evaluation, resume=True)
        for name, run, use, expected in (
            ("a finished fit", whole, resumed_fit, fitted),
            ("an interrupted fit", stopped, resumed_fit, fitted),
            ("an interrupted fit, its checkpoint", stopped, resumed_fit, fitted),
            ("a cross-validation, resumed", scored, resumed_evaluation, evaluated),
            ("a cross-validation, loaded", scored, lambda out: digest_of(Evaluation.load(out)), None),
            ("a feature cache", cache, reading, patterns),
        ):
            expected = expected or finished(partial(use, run))["done"]
            yield name, Counter(_flipped(run, use, expected, seed, "checkpoint" in name) for seed in range(n))


def dying_after_steps(out: Path, steps: int) -> str:
    """Stop a fit by a signal after so many steps."""
    log = out.with_name("log")
    log.write_bytes(b"")
    made = student(log)
    real = made.model[3].forward  # type: ignore[union-attr]

    def forward(x: Tensor) -> Tensor:
        if len(log.read_bytes()) == steps:
            signal.raise_signal(signal.SIGTERM)
        return real(x)

    made.model[3].forward = forward  # type: ignore[union-attr]
    asked = {"validation": 0.3, "steps": STEPS, "evaluate_every": 4, "checkpoint_every": 3, "schedule": "cosine"}
    fit(made, teacher(), stimuli(), out=out, lr=1e-2, device="cpu", progress=False, **asked)
    return "not stopped"


def _flipped(run: Path, use: Callable[[Path], str], expected: str, seed: int, checkpoint: bool) -> str:
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "run")
        shutil.copytree(run, copy)
        paths = sorted(path for path in copy.rglob("*") if path.is_file() and not path.name.startswith("events"))
        path = copy / CHECKPOINT if checkpoint else draw.choice(paths)
        content = bytearray(path.read_bytes())
        bit = draw.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        answer = finished(partial(use, copy))
        if path.name in answer.get("BrainrdlError", ""):
            return "refused by name"
        return "same result" if answer.get("done") == expected else f"wrong: {path.name}, {answer}"


def races(n: int) -> Iterator[tuple[str, Counter[str]]]:
    """Start two processes with different learning rates and one folder; afterwards it must hold one of the two runs."""
    with tempfile.TemporaryDirectory() as folder:
        expected = {lr: finished(partial(one_fit, Path(folder, str(lr)), lr))["done"] for lr in (0.01, 0.02)}
    for name, options in (
        ("both new", ({}, {})),
        ("both `resume=True`", ({"resume": True}, {"resume": True})),
        ("both `overwrite=True`", ({"overwrite": True}, {"overwrite": True})),
        ("`resume=True` and `overwrite=True`", ({"resume": True}, {"overwrite": True})),
    ):
        yield name, Counter(_raced(options, expected, seed) for seed in range(n))
    yield "a feature cache, read and written by both", Counter(_cached_by_two() for _ in range(n))


def _raced(options: tuple[dict[str, bool], ...], expected: dict[float, str], seed: int) -> str:
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        if "overwrite" in options[1]:
            finished(partial(one_fit, out, 0.01, steps=3))
        processes = []
        for k, lr in enumerate(expected):
            processes.append(start(partial(one_fit, out, lr, **options[k]), Path(folder, f"answer{k}")))
            time.sleep(draw.uniform(0, 0.1))
        for process in processes:
            process.join()
        answers = [json.loads(Path(folder, f"answer{k}").read_text()) for k in range(2)]
        done = [lr for lr, answer in zip(expected, answers, strict=True) if answer.get("done") == expected[lr]]
        refused = [answer for answer in answers if "BrainrdlError" in answer]
        kept = [lr for lr in expected if finished(partial(one_fit, out, lr, resume=True)).get("done") == expected[lr]]
        if len(done) + len(refused) == 2 and len(kept) == 1 and kept[0] in done:
            return "one refused" if refused else "one after the other"
        return f"wrong: {answers}, kept {kept}"


def _cached_by_two() -> str:
    with tempfile.TemporaryDirectory() as folder:
        expected = finished(partial(reading, Path(folder, "alone")))
        both = [start(partial(reading, Path(folder, "cache")), Path(folder, f"answer{k}")) for k in range(2)]
        for process in both:
            process.join()
        answers = [json.loads(Path(folder, f"answer{k}").read_text()) for k in range(2)]
        answers.append(finished(partial(reading, Path(folder, "cache"))))
        return "same result" if answers == [expected] * 3 else f"wrong: {answers}"


def signals(n: int) -> Iterator[tuple[str, Counter[str]]]:
    """Stop a run that writes no other checkpoint twice, at random moments, then end it: no step is repeated."""
    with tempfile.TemporaryDirectory() as folder:
        expected = finished(partial(one_fit, Path(folder, "whole"), checkpoint_every=1000))["done"]
        usual = seconds(partial(one_fit, Path(folder, "timed"), checkpoint_every=1000))
    for signum in SIGNALS:
        yield f"{signum.name} during `fit`", Counter(_stopped(signum, expected, usual, seed) for seed in range(n))
    yield "`brainrdl fit`, a signal of each kind", Counter(_stopped_command(signum) for signum in SIGNALS)


def _stopped(signum: signal.Signals, expected: str, usual: float, seed: int) -> str:
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        log, starts = Path(folder, "log"), 0
        log.write_bytes(b"")
        work = partial(one_fit, Path(folder, "run"), log=log, checkpoint_every=1000, resume=True)
        for last in (False, False, True):
            before = len(log.read_bytes())
            answer = finished(work) if last else killed(work, draw.uniform(0.3, 1) * usual, signum)
            starts += len(log.read_bytes()) > before  # a start has one pass more, which tests the gradients
        repeated = len(log.read_bytes()) - starts - STEPS
        return "same result, no step repeated" if answer.get("done") == expected and not repeated else (
            f"wrong: {answer}, {repeated} steps repeated"
        )  # fmt: skip


def _stopped_command(signum: signal.Signals) -> str:
    with tempfile.TemporaryDirectory() as folder:
        recipe = _recipe(Path(folder))
        command = [sys.executable, "-m", "brainrdl", "fit", str(recipe), "--out", f"{folder}/run", "--quiet"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and not (Path(folder) / "run" / "settings.json").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signum)
        told = process.communicate()[1]
        advice = told.rpartition("continue with `brainrdl ")[2].partition("`")[0].split()
        if process.returncode != 128 + signum or not advice or not list(Path(folder, "run").rglob("*.safetensors")):
            return f"wrong: status {process.returncode}, {told}"
        again = subprocess.run([sys.executable, "-m", "brainrdl", *advice], stdout=subprocess.DEVNULL, check=False)
        return "continued with the command shown" if again.returncode == 0 else f"wrong: status {again.returncode}"


def _recipe(folder: Path) -> Path:
    (folder / "images").mkdir()
    for k, name in enumerate(NAMES):
        Image.fromarray(np.full((8, 8), 10 * k, dtype=np.uint8)).save(folder / "images" / f"{name}.png")
    rdms.from_array(np.random.default_rng(0).random((1, 120)), NAMES).save(str(folder / "it.h5"), file_type="hdf5")
    content = {
        "stimuli": {"folder": str(folder / "images")},
        "teacher": {"rdms": str(folder / "it.h5")},
        "student": {"model": "small_cnn", "layers": {"pool": "rdm"}},
        "fit": {"steps": 1000, "evaluate_every": 1000, "checkpoint_every": 1000, "device": "cpu"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    return folder / "recipe.yaml"


TABLES: dict[str, tuple[Callable[[int], Iterator[tuple[str, Counter[str]]]], int]] = {  # and trials per row
    "Killed runs": (kills, 12),
    "Flipped bits": (flips, 50),
    "Races": (races, 12),
    "Signals": (signals, 12),
}


@pytest.mark.parametrize("name", TABLES)
def test_nothing_is_wrong(name: str) -> None:
    table, _ = TABLES[name]
    for row, counts in table(3):
        assert not [what for what in counts if what.startswith("wrong")], (row, counts)


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=float, default=1, help="how many times the usual number of trials")
    parser.add_argument("--only", choices=TABLES, nargs="*", default=list(TABLES))
    asked = parser.parse_args()
    for name in asked.only:
        table, n = TABLES[name]
        print(f"\n## {name}\n\n| case | tried | result | wrong |\n|---|---|---|---|", flush=True)
        for row, counts in table(max(1, round(n * asked.times))):
            wrong = {what: count for what, count in counts.items() if what.startswith("wrong")}
            good = ", ".join(f"{what}: {count}" for what, count in counts.most_common() if what not in wrong)
            print(f"| {row} | {counts.total()} | {good} | {sum(wrong.values())} |", flush=True)
            for what in wrong:
                print(what, file=sys.stderr)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
