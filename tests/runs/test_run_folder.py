"""The run folder: what is written can be read again, files are complete, and folders of other kinds are refused."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LambdaLR, LRScheduler, MultiStepLR, OneCycleLR

from brainrdl import rdms
from brainrdl._core import files as _files
from brainrdl._core.errors import BrainrdlError
from brainrdl.loss.rdm_loss import Decay, RDMLoss
from brainrdl.models.readout import Readout
from brainrdl.models.student import Student
from brainrdl.runs import checkpoint as _checkpoint, finished_fits, provenance, run_folder
from brainrdl.runs.checkpoint import State
from brainrdl.runs.finished_fits import FitResult

SETTINGS = {"lr": 0.1, "train": ["a", "b"], "loss": {"form": "mse", "seed": 0}}

HALVING = partial(LambdaLR, lr_lambda=lambda step: 0.5**step)


def student(seed: int = 0) -> Student:
    torch.manual_seed(seed)
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 6)), ["1"], readout=Readout("flatten", True, "square"))


def calibrated(seed: int = 0) -> Student:
    made = student(seed)
    made.calibrate(torch.rand(8, 1, 4, 4))
    return made


def same(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def moved(
    seed: int = 0,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    schedule: Callable[..., LRScheduler] = HALVING,
    steps: int = 3,
) -> tuple[Student, torch.optim.Optimizer, LRScheduler]:
    made = calibrated(seed)
    optim = optimizer(made.trainable_parameters(), lr=1e-3)
    scheduler = schedule(optim)
    for _step in range(steps):
        step_once(made, optim, scheduler)
    return made, optim, scheduler


def step_once(made: Student, optim: torch.optim.Optimizer, scheduler: LRScheduler) -> None:
    optim.zero_grad()
    made(torch.rand(8, 1, 4, 4)).patterns["1"].square().mean().backward()
    optim.step()
    scheduler.step()


# Files


def test_an_atomic_file_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    with _files.atomic(target) as part:
        part.write_text("old")
    with pytest.raises(KeyError), _files.atomic(target) as part:  # noqa: PT012
        part.write_text("half of the n")
        raise KeyError
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_an_atomic_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    with _files.atomic(tmp_path / "a.txt") as part:
        part.write_text("a")
    (tmp_path / "b.txt").write_text("b")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_an_atomic_file_leaves_the_umask_of_other_threads_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def umask(mask: int) -> int:
        raise AssertionError("the umask of the process was set")

    monkeypatch.setattr(os, "umask", umask)
    _files.write_json(tmp_path / "a.json", {})


def test_weights_have_the_permissions_of_any_other_file(tmp_path: Path) -> None:
    finished_fits.save_weights(tmp_path / "a.safetensors", student())
    (tmp_path / "b.txt").write_text("b")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows over 1000 bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: _files.write_json(path, {"long": "word" * 1000}),
        lambda path: _files.write_csv(path, pd.DataFrame({"a": range(9999)})),
        lambda path: _files.write_rdms(path, rdms.from_array(np.arange(2016.0), [f"n{i}" for i in range(64)])),
        lambda path: finished_fits.save_weights(path, Student(nn.Sequential(nn.Linear(99, 9)), ["0"])),
    ],
)
def test_a_file_that_cannot_be_written_is_named_with_the_reason(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "run").mkdir()
    with full_disk(), pytest.raises(BrainrdlError, match=r"^cannot write '.*/run/a.x': .*File too large") as caught:
        write(tmp_path / "run" / "a.x")
    assert str(caught.value).count(str(tmp_path)) == 1  # nor is the temporary file named
    assert not list((tmp_path / "run").iterdir())
    (tmp_path / "b").write_text("")
    with pytest.raises(BrainrdlError, match=r"^cannot write '.*/b/a.x': (Not a directory|File exists)$"):
        write(tmp_path / "b" / "a.x")


def test_json_comes_back(tmp_path: Path) -> None:
    _files.write_json(tmp_path / "a.json", SETTINGS)
    assert _files.read_json(tmp_path / "a.json") == SETTINGS


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot read '.*a.json': No such file"), ("{", "a.json' is not JSON"), ("[]", "JSON object, got list")],
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(BrainrdlError, match=message):
        _files.read_json(tmp_path / "a.json")


def test_rdms_come_back_with_their_names(tmp_path: Path) -> None:
    given = rdms.from_array([[0.1, 0.2, 0.3]], ["a", "b", "c"], descriptors={"roi": ["IT"]})
    _files.write_rdms(tmp_path / "a.h5", given)
    found = _files.read_rdms(tmp_path / "a.h5")
    assert rdms.names(found) == ("a", "b", "c")
    assert list(found.rdm_descriptors["roi"]) == ["IT"]
    np.testing.assert_array_equal(found.dissimilarities, given.dissimilarities)


@pytest.mark.parametrize("n", [4, 5000])  # more names than an attribute of older HDF5 holds
def test_names_in_any_script_come_back_here_and_in_rsatoolbox(tmp_path: Path, n: int) -> None:
    from rsatoolbox.rdm.rdms import load_rdm

    names = ["Käse", "日本", "a b", "cat", *(f"é{i}" for i in range(n - 4))]
    descriptors = {"subject": [np.str_("Zoë"), "s2"], "session": [1, 2]}
    given = rdms.from_array(np.random.default_rng(0).random((2, 6)), names[:4], descriptors=descriptors)
    if n > 4:
        given.descriptors["all"] = names
    given.descriptors["study"] = "Größe"
    given.dissimilarity_measure = "µ"
    _files.write_rdms(tmp_path / "a.h5", given)
    for found in (_files.read_rdms(tmp_path / "a.h5"), load_rdm(str(tmp_path / "a.h5"))):
        assert rdms.names(found) == tuple(names[:4])
        assert list(found.rdm_descriptors["subject"]) == ["Zoë", "s2"]
        assert list(found.rdm_descriptors["session"]) == [1, 2]
        assert (found.descriptors["study"], found.dissimilarity_measure) == ("Größe", "µ")
        assert n == 4 or list(found.descriptors["all"]) == names
        np.testing.assert_array_equal(found.dissimilarities, given.dissimilarities)


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    for name, reason in [("a.csv", "No columns to parse"), ("b.csv", "No such file")]:
        with pytest.raises(BrainrdlError, match=rf"^cannot read '.*{name}': {reason}"):
            _files.read_csv(tmp_path / name)
    with pytest.raises(BrainrdlError, match=r"^cannot read '.*b.csv': No such file or directory$"):
        _files.digest_file(tmp_path / "b.csv")


def test_rdms_that_are_not_there_or_damaged_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrainrdlError, match=r"there is no file '.*a.h5'"):
        _files.read_rdms(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_text("no HDF5")
    with pytest.raises(BrainrdlError, match=r"cannot read '.*a.h5' as RDMs"):
        _files.read_rdms(tmp_path / "a.h5")


# The folder


def a_run(folder: Path) -> Path:
    folder.mkdir()
    for name in (run_folder.SETTINGS, run_folder.PROVENANCE):
        (folder / name).write_text("{}")
    (folder / "fits").mkdir()
    return folder


def test_a_new_folder_is_made_and_an_empty_one_is_used(tmp_path: Path) -> None:
    assert run_folder.open_folder(tmp_path / "a" / "b").is_dir()
    assert run_folder.open_folder(tmp_path / "a" / "b").is_dir()


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    message = "exists and is not empty; resume or overwrite it with resume=True or overwrite=True"
    with pytest.raises(BrainrdlError, match=r"run folder '.*run' " + re.escape(message)):
        run_folder.open_folder(a_run(tmp_path / "run"))


def test_resuming_leaves_a_folder_as_it_is(tmp_path: Path) -> None:
    folder = run_folder.open_folder(a_run(tmp_path / "run"), resume=True)
    assert (folder / run_folder.SETTINGS).exists()


@pytest.mark.parametrize("names", [["thesis.tex"], [".git"], ["recipe.yaml", "thesis.tex"], ["settings.json", "a.csv"]])
def test_resuming_refuses_a_folder_that_is_no_run(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(
        BrainrdlError, match=r"holds no (settings|provenance).json, so it is not a run folder and cannot be resumed"
    ):
        run_folder.open_folder(tmp_path, resume=True)
    assert {path.name for path in tmp_path.iterdir()} == set(names)


@pytest.mark.parametrize("name", ["recipe.yaml", "settings.json", "provenance.json", ""])
def test_a_run_that_died_at_once_is_resumed(tmp_path: Path, name: str) -> None:
    def killed() -> None:
        with _files.atomic(tmp_path / "settings.json") as part:
            shutil.copy(part, tmp_path / "kept")
            left.append(part)

    left: list[Path] = []
    killed()
    (tmp_path / "kept").rename(left[0])  # the temporary file of a process that was killed
    (tmp_path / "settings.json").unlink()
    if name:
        (tmp_path / name).write_text("{}")
    assert run_folder.open_folder(tmp_path, resume=True) == tmp_path
    if not name:
        assert run_folder.open_folder(tmp_path) == tmp_path


def test_overwriting_empties_a_run_folder(tmp_path: Path) -> None:
    with run_folder.opened(a_run(tmp_path / "run"), overwrite=True) as folder:
        assert [path.name for path in folder.iterdir()] == [".lock"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("error", [BrainrdlError, KeyboardInterrupt, ZeroDivisionError])
def test_an_old_run_stays_when_the_new_one_fails_before_it_has_fitted_anything(
    tmp_path: Path, error: type[BaseException]
) -> None:
    old = a_run(tmp_path / "run")
    kept = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    with pytest.raises(error), run_folder.opened(old, overwrite=True) as folder:  # noqa: PT012
        (folder / "settings.json").write_text("new")
        raise error("stopped")
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == kept
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_old_run_goes_when_the_new_one_has_fitted_something(tmp_path: Path) -> None:
    with pytest.raises(BrainrdlError), run_folder.opened(a_run(tmp_path / "run"), overwrite=True) as folder:  # noqa: PT012
        (folder / "weights.safetensors").write_text("")
        raise BrainrdlError("no")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["weights.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def killed_while_overwriting(old: Path, *, begun: bool) -> None:
    """Leave what a process leaves that is killed while it overwrites a run."""
    opening = run_folder.opened(old, overwrite=True)
    folder = opening.__enter__()
    (folder / "settings.json").write_text("new")
    if begun:
        (folder / "checkpoint.safetensors").write_text("")
    kept = old.with_name("kept")
    shutil.copytree(old.parent, kept)  # as it is now; then the process ends
    opening.__exit__(None, None, None)
    shutil.rmtree(old)
    for path in kept.iterdir():
        path.rename(old.parent / path.name)
    kept.rmdir()


def test_an_old_run_is_named_and_put_back_after_a_process_was_killed_that_overwrote_it(tmp_path: Path) -> None:
    old = a_run(tmp_path / "run")
    (old / "weights.safetensors").write_text("old")
    killed_while_overwriting(old, begun=False)
    assert (old / "settings.json").read_text() == "new"
    message = r"not empty \(the run that it was to replace is kept in '.*/\.run\.overwritten'\); resume or overwrite"
    with pytest.raises(BrainrdlError, match=message), run_folder.opened(old):
        pass
    with run_folder.opened(old, overwrite=True) as folder:
        assert (tmp_path / ".run.overwritten" / "weights.safetensors").read_text() == "old"
        assert [path.name for path in folder.iterdir()] == [".lock"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("gone", [True, False])
def test_an_old_run_is_back_when_it_is_resumed(tmp_path: Path, gone: bool) -> None:
    old = a_run(tmp_path / "run")
    (old / "weights.safetensors").write_text("old")
    killed_while_overwriting(old, begun=False)
    if gone:  # killed before the new folder was made
        shutil.rmtree(old)
    with (  # noqa: PT031
        pytest.warns(UserWarning, match=r"run' was stopped before it had fitted anything: the old run is back"),
        run_folder.opened(old, resume=True) as folder,
    ):
        assert (folder / "weights.safetensors").read_text() == "old"
        assert (folder / "settings.json").read_text() == "{}"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_new_run_is_continued_after_a_process_was_killed_that_overwrote_another_with_it(tmp_path: Path) -> None:
    old = a_run(tmp_path / "run")
    killed_while_overwriting(old, begun=True)
    (old / "provenance.json").write_text("new")
    with run_folder.opened(old, resume=True) as folder:
        assert (folder / "checkpoint.safetensors").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_folder_that_is_open_is_refused(tmp_path: Path) -> None:
    with run_folder.opened(tmp_path / "run") as folder:
        (folder / "settings.json").write_text("{}")
        (folder / "provenance.json").write_text("{}")
        for options in ({"resume": True}, {"overwrite": True}):
            with (
                pytest.raises(BrainrdlError, match=f"run' is in use by process {os.getpid()} on this computer"),
                run_folder.opened(folder, **options),
            ):
                pytest.fail("it was opened twice")
        assert {path.name for path in folder.iterdir()} == {"settings.json", "provenance.json", ".lock"}
    with run_folder.opened(tmp_path / "run", resume=True):
        pass


def test_the_lock_of_a_process_that_was_killed_is_no_content(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("{}")
    with run_folder.opened(tmp_path):
        pass


@pytest.mark.parametrize("name", [run_folder.SETTINGS, run_folder.PROVENANCE, "thesis.tex"])
def test_overwriting_refuses_a_folder_that_is_no_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(
        BrainrdlError, match=r"holds no (settings|provenance).json, so it is not a run folder and cannot be overwritten"
    ):
        run_folder.check_folder(tmp_path, overwrite=True)
    assert (tmp_path / name).exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(BrainrdlError, match=r"run folder '.*run' is a file; choose another"):
        run_folder.check_folder(tmp_path / "run", overwrite=True)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file/run", r"cannot make run folder '.*file/run': Not a directory; choose another"),
        ("a" * 300, "run folder '.*aaa' cannot be used: File name too long; choose another"),
        ("a\0b", r"run folder '.*a\\x00b'.*embedded null"),
        (5, r"run folder 5 cannot be used: .*int"),
    ],
)
def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, out: Any, message: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrainrdlError, match=message):
        run_folder.open_folder(f"{tmp_path}/{out}" if isinstance(out, str) else out)


def test_a_refused_run_leaves_nothing_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "recipe.yaml").write_text("{}")
    for folder, left in [("deep/er", []), ("early", ["recipe.yaml"])]:
        with pytest.raises(BrainrdlError, match="no"), run_folder.opened(tmp_path / folder, resume=True) as run:  # noqa: PT012
            (run / "fits").mkdir()
            (run / "settings.json").write_text("{}")
            raise BrainrdlError("no")
        found = tmp_path / folder
        assert (sorted(path.name for path in found.iterdir()) if found.exists() else []) == left
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize(("error", "name"), [(BrainrdlError, "weights.safetensors"), (KeyboardInterrupt, "events")])
def test_a_run_that_has_fitted_or_was_interrupted_stays(tmp_path: Path, error: type[BaseException], name: str) -> None:
    with pytest.raises(error), run_folder.opened(tmp_path / "run") as run:  # noqa: PT012
        (run / "fits").mkdir()
        (run / "fits" / name).write_text("")
        raise error("stopped")
    assert (tmp_path / "run" / "fits" / name).exists()


# Provenance and settings


def test_provenance_has_versions_git_and_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = provenance.gather_provenance(stimuli="ab12")
    assert found["hashes"] == {"stimuli": "ab12"}
    assert found["versions"]["torch"] == metadata.version("torch")
    assert found["versions"]["brainrdl"][0].isdigit()
    monkeypatch.chdir(tmp_path)
    assert provenance.gather_provenance()["git"] == "not a git repository"

    def slow(*words: object, **options: object) -> None:
        raise provenance.subprocess.TimeoutExpired("git", 10)

    monkeypatch.setattr(provenance.subprocess, "run", slow)
    assert provenance.gather_provenance()["git"] == "unknown, because git took longer than 10 seconds"


def test_provenance_tells_a_commit_from_changes_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    identity = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for key, value in identity.items():
        monkeypatch.setenv(key, value)
    (tmp_path / "a.txt").write_text("a")
    if os.system("git init -q && git add a.txt && git commit -qm a"):
        pytest.skip("git is not installed")
    clean = provenance.gather_provenance()["git"]
    (tmp_path / "a.txt").write_text("b")
    assert re.fullmatch("[0-9a-f]{40}", clean)
    assert provenance.gather_provenance()["git"] == f"{clean} with changes"


def test_a_missing_package_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PACKAGES", ("no-such-package",))
    assert provenance.gather_provenance()["versions"] == {"no-such-package": "not installed"}


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.ones(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3, dtype=torch.float64)},
        {"b": torch.zeros(2, 3)},
    ],
)
def test_a_digest_tells_tensors_apart(other: dict[str, Tensor]) -> None:
    assert _files.digest(other) != _files.digest({"a": torch.zeros(2, 3)})


def test_a_digest_does_not_depend_on_order_or_layout() -> None:
    square, scalar = torch.arange(4.0).view(2, 2), torch.tensor(1, dtype=torch.bfloat16)
    transposed = square.T.contiguous().T
    assert _files.digest({"a": square, "b": scalar}) == _files.digest({"b": scalar, "a": transposed})


def test_words_are_told_apart_by_their_bounds() -> None:
    assert _files.hash_words(["ab", "c"]) != _files.hash_words(["a", "bc"])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.optim.SGD, "torch.optim.sgd.SGD"),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        ((1, None), [1, None]),
        (Decay(3), {"kind": "Decay", "half_life": 3}),
        (
            partial(torch.optim.SGD, momentum=0.9),
            {"kind": "partial", "func": "torch.optim.sgd.SGD", "args": [], "keywords": {"momentum": 0.9}},
        ),
        (nn.ReLU(), "torch.nn.modules.activation.ReLU"),
    ],
)
def test_a_value_is_described_in_words_json_knows(value: Any, words: Any) -> None:
    assert json.loads(json.dumps(provenance.describe(value))) == words


def test_a_tensor_is_described_by_its_content() -> None:
    first, again, other = (provenance.describe(torch.full((2,), value)) for value in (1.0, 1.0, 2.0))
    assert first == again != other


def test_a_loss_is_described_by_its_parameters() -> None:
    found = provenance.describe(RDMLoss.rdl2016(half_life=5, match={"a": "IT"}))
    assert (found["form"], found["schedule"], found["match"]) == ("mse", {"kind": "Decay", "half_life": 5}, {"a": "IT"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.2}, r"'run' was written with lr=0.1, now lr=0.2; resume with the settings of the run"),
        ({"loss": {"form": "similarity", "seed": 0}}, r"with loss.form='mse', now loss.form='similarity'"),
        ({"new": 1}, r"with new=None, now new=1"),
        (
            {"hashes": {"stimuli": "b"}},
            "^the images have changed since the run began: .*; restore them, or start another",
        ),
        ({"hashes": {"teacher": "b"}}, "^the teacher's RDMs have changed since the run began: "),
        ({"hashes": {"labels": "b"}}, "^the stimuli's labels have changed since the run began: "),
        (
            {"path": "/home/it.h5"},
            "; if both are the same file, write its path as the run did; resume with the settings",
        ),
        ({"path": "data/v1.h5"}, "now path='data/v1.h5'; resume with the settings"),
        ({"train": ["long name"] * 99}, r"now train=\['long name', .{60,75}\.\.\.;"),
    ],
)
def test_settings_that_differ_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        _checkpoint.check_same_settings(
            SETTINGS | change, SETTINGS | {"path": "data/it.h5"} if "path" in change else SETTINGS, "run"
        )


def test_settings_that_went_through_json_are_the_same() -> None:
    stored = json.loads(json.dumps(SETTINGS))
    _checkpoint.check_same_settings({**SETTINGS, "train": ("a", "b")}, stored, "run")


# Weights


def test_weights_come_back_into_a_student_that_is_not_calibrated(tmp_path: Path) -> None:
    given, fresh = calibrated(), student(seed=1)
    finished_fits.save_weights(tmp_path / "w.safetensors", given, best_step=12)
    assert finished_fits.load_weights(tmp_path / "w.safetensors", fresh) == 12
    assert same(given, fresh)


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    def tied() -> Student:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return Student(model, ["1"])

    given, fresh = tied(), tied()
    finished_fits.save_weights(tmp_path / "w.safetensors", given)
    finished_fits.load_weights(tmp_path / "w.safetensors", fresh)
    assert same(given, fresh)


def test_weights_of_another_student_are_refused(tmp_path: Path) -> None:
    finished_fits.save_weights(tmp_path / "w.safetensors", Student(nn.Sequential(nn.Linear(4, 3)), ["0"]))
    with pytest.raises(BrainrdlError, match=r"w.safetensors' does not fit this student: the readouts of layers"):
        finished_fits.load_weights(tmp_path / "w.safetensors", student())


def test_pickled_weights_are_refused_and_not_unpickled(tmp_path: Path) -> None:
    torch.save(student().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(BrainrdlError, match=r"damaged or not safetensors .* pickled files are refused"):
        finished_fits.load_weights(tmp_path / "w.safetensors", student())


def test_a_file_that_is_not_of_a_student_is_refused(tmp_path: Path) -> None:
    save_file(student().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(BrainrdlError, match=r"w.safetensors' does not hold weights of a student"):
        finished_fits.load_weights(tmp_path / "w.safetensors", student())


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrainrdlError, match=r"there is no file '.*w.safetensors'"):
        finished_fits.load_weights(tmp_path / "w.safetensors", student())


def test_a_finished_run_comes_back(tmp_path: Path) -> None:
    history = pd.DataFrame({"step": [0, 10], "loss": [np.nan, 1 / 3]})
    given = FitResult(calibrated(), history, 10, SETTINGS, {"hashes": {}}, tmp_path)
    (tmp_path / run_folder.CHECKPOINT).write_text("no longer needed")
    _files.write_json(tmp_path / run_folder.SETTINGS, given.settings)
    _files.write_json(tmp_path / run_folder.PROVENANCE, given.provenance)
    finished_fits.save_fit(given)
    found = finished_fits.load_fit(tmp_path, student(seed=1), SETTINGS)
    assert same(found.student, given.student)
    pd.testing.assert_frame_equal(found.history, history)
    assert (found.best_step, found.settings, found.provenance) == (10, SETTINGS, {"hashes": {}})
    assert not (tmp_path / run_folder.CHECKPOINT).exists()
    with pytest.raises(BrainrdlError, match=r"settings.json' was written with lr=0.1, now lr=0.3"):
        finished_fits.load_fit(tmp_path, student(), SETTINGS | {"lr": 0.3})
    (tmp_path / run_folder.HISTORY).write_text("")
    with pytest.raises(BrainrdlError, match=r"history.csv' has changed since it was written"):
        finished_fits.load_fit(tmp_path, student(), SETTINGS)


def test_a_result_without_folder_cannot_be_saved() -> None:
    with pytest.raises(BrainrdlError, match="this result has no run folder; give `out` to fit"):
        finished_fits.save_fit(FitResult(student(), pd.DataFrame(), 0))


# Checkpoints


@pytest.mark.parametrize(
    "optimizer",
    [torch.optim.Adam, partial(torch.optim.SGD, momentum=0.9), torch.optim.SGD, torch.optim.RMSprop, torch.optim.AdamW],
)
def test_a_run_goes_on_from_its_checkpoint_as_if_nothing_had_happened(
    tmp_path: Path, optimizer: Callable[..., torch.optim.Optimizer]
) -> None:
    path, moving, fresh = tmp_path / "c.safetensors", moved(optimizer=optimizer), moved(1, optimizer, steps=0)
    _checkpoint.save_checkpoint(path, State(step=3), *moving, SETTINGS)
    for _step in range(4):
        step_once(*moving)
    assert not same(moving[0], fresh[0])
    _checkpoint.load_checkpoint(
        path, *fresh, SETTINGS
    )  # random state included: the images of the coming steps are the same
    for _step in range(4):
        step_once(*fresh)
    assert same(moving[0], fresh[0])
    assert moving[2].get_last_lr() == fresh[2].get_last_lr()


@pytest.mark.parametrize(
    "schedule",
    [
        partial(OneCycleLR, max_lr=0.5, total_steps=10),
        partial(MultiStepLR, milestones=[2, 5]),
        partial(CosineAnnealingWarmRestarts, T_0=4),
    ],
)
def test_a_schedule_of_the_users_own_goes_on(tmp_path: Path, schedule: Callable[..., LRScheduler]) -> None:
    path, moving, fresh = tmp_path / "c.safetensors", moved(schedule=schedule), moved(1, schedule=schedule, steps=0)
    _checkpoint.save_checkpoint(path, State(step=3), *moving, SETTINGS)
    _checkpoint.load_checkpoint(path, *fresh, SETTINGS)
    rates = []
    for part in (moving, fresh):
        rates.append([])
        for _step in range(4):
            step_once(*part)
            rates[-1].append(part[2].get_last_lr())
    assert rates[0] == rates[1]


def test_a_checkpoint_keeps_what_the_run_has_seen(tmp_path: Path) -> None:
    moving = moved()
    losses = [torch.tensor([1 / 3, 0.5, float("nan")])]
    state = State(step=3, seconds=0.1, losses=losses, history=[{"step": 0, "loss": 1 / 7}])
    state.remember(0.25, moving[0])
    best = {key: value.clone() for key, value in moving[0].state_dict().items()}
    step_once(*moving)
    _checkpoint.save_checkpoint(tmp_path / "c.safetensors", state, *moving, SETTINGS)
    found = _checkpoint.load_checkpoint(tmp_path / "c.safetensors", *moved(1), SETTINGS)
    assert (found.step, found.seconds, found.history, found.best_score) == (3, 0.1, [{"step": 0, "loss": 1 / 7}], 0.25)
    torch.testing.assert_close(torch.stack(found.losses), torch.stack(state.losses), rtol=0, atol=0, equal_nan=True)
    assert found.best is not None
    assert all(torch.equal(found.best[key], value) for key, value in best.items())


def test_the_loss_scale_of_fp16_comes_back(tmp_path: Path) -> None:
    scaler, fresh = (torch.amp.GradScaler("cpu", init_scale=scale) for scale in (1024.0, 65536.0))
    _checkpoint.save_checkpoint(tmp_path / "c.safetensors", State(), *moved(), SETTINGS, scaler)
    _checkpoint.load_checkpoint(tmp_path / "c.safetensors", *moved(), SETTINGS, fresh)
    assert fresh.get_scale() == 1024


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_checkpoint_that_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "c.safetensors"
    _checkpoint.save_checkpoint(path, State(), *moved(), SETTINGS)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(BrainrdlError, match=r"c.safetensors' is truncated, damaged or not safetensors .* Delete it"):
        _checkpoint.load_checkpoint(path, *moved(), SETTINGS)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    _checkpoint.save_checkpoint(tmp_path / "c.safetensors", State(), *moved(), SETTINGS)
    with pytest.raises(BrainrdlError, match=r"c.safetensors' was written with lr=0.1, now lr=0.2"):
        _checkpoint.load_checkpoint(tmp_path / "c.safetensors", *moved(), SETTINGS | {"lr": 0.2})


def test_a_foreign_safetensors_file_is_no_checkpoint(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "c.safetensors")
    with pytest.raises(BrainrdlError, match=r"c.safetensors' is not a checkpoint of brainrdl"):
        _checkpoint.load_checkpoint(tmp_path / "c.safetensors", *moved(), SETTINGS)


def test_the_best_student_is_a_copy_and_only_a_better_one_replaces_it() -> None:
    made, state = calibrated(), State(step=1)
    state.remember(0.5, made)
    kept = state.best
    with torch.no_grad():
        made.heads["layer:1"].weight.zero_()  # type: ignore[union-attr,operator]
    state.step = 2
    state.remember(0.5, made)  # equally good: the earlier stays
    assert (state.best is kept, state.best_step, state.looks_since_best) == (True, 1, 1)
    assert kept is not None
    assert kept["heads.layer:1.weight"].any()
    state.remember(0.6, made)
    assert (state.best_step, state.best_score, state.looks_since_best) == (2, 0.6, 0)
