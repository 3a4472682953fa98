"""The run folder: what is written comes back, whole or not at all, and what does not belong there is refused."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
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

from brainrdl import rdms, result
from brainrdl._checks import BrainrdlError
from brainrdl.loss import Decay, RDMLoss
from brainrdl.result import FitResult, State
from brainrdl.student import Readout, Student

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
    with result.atomic(target) as part:
        part.write_text("old")
    with pytest.raises(KeyError), result.atomic(target) as part:  # noqa: PT012
        part.write_text("half of the n")
        raise KeyError
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_an_atomic_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    with result.atomic(tmp_path / "a.txt") as part:
        part.write_text("a")
    (tmp_path / "b.txt").write_text("b")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_json_comes_back(tmp_path: Path) -> None:
    result.write_json(tmp_path / "a.json", SETTINGS)
    assert result.read_json(tmp_path / "a.json") == SETTINGS


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot read '.*a.json': No such file"), ("{", "a.json' is not JSON"), ("[]", "JSON object, got list")],
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(BrainrdlError, match=message):
        result.read_json(tmp_path / "a.json")


def test_rdms_come_back_with_their_names(tmp_path: Path) -> None:
    given = rdms.from_array([[0.1, 0.2, 0.3]], ["a", "b", "c"], descriptors={"roi": ["IT"]})
    result.write_rdms(tmp_path / "a.h5", given)
    found = result.read_rdms(tmp_path / "a.h5")
    assert rdms.names(found) == ("a", "b", "c")
    assert list(found.rdm_descriptors["roi"]) == ["IT"]
    np.testing.assert_array_equal(found.dissimilarities, given.dissimilarities)


def test_rdms_that_are_not_there_or_damaged_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrainrdlError, match=r"there is no file '.*a.h5'"):
        result.read_rdms(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_text("no HDF5")
    with pytest.raises(BrainrdlError, match=r"cannot read '.*a.h5' as RDMs"):
        result.read_rdms(tmp_path / "a.h5")


# The folder


def a_run(folder: Path) -> Path:
    folder.mkdir()
    for name in (result.SETTINGS, result.PROVENANCE):
        (folder / name).write_text("{}")
    (folder / "fits").mkdir()
    return folder


def test_a_new_folder_is_made_and_an_empty_one_taken(tmp_path: Path) -> None:
    assert result.open_folder(tmp_path / "a" / "b").is_dir()
    assert result.open_folder(tmp_path / "a" / "b").is_dir()


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrainrdlError, match=r"run folder '.*run' exists and is not empty; resume or overwrite it"):
        result.open_folder(a_run(tmp_path / "run"))


def test_resuming_leaves_a_folder_as_it_is(tmp_path: Path) -> None:
    folder = result.open_folder(a_run(tmp_path / "run"), resume=True)
    assert (folder / result.SETTINGS).exists()


def test_overwriting_empties_a_run_folder(tmp_path: Path) -> None:
    assert not list(result.open_folder(a_run(tmp_path / "run"), overwrite=True).iterdir())


@pytest.mark.parametrize("name", [result.SETTINGS, result.PROVENANCE, "thesis.tex"])
def test_overwriting_refuses_a_folder_that_is_no_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(
        BrainrdlError, match=r"holds no (settings|provenance).json, so it is no run and is not overwritten"
    ):
        result.open_folder(tmp_path, overwrite=True)
    assert (tmp_path / name).exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(BrainrdlError, match=r"run folder '.*run' is a file; choose another"):
        result.open_folder(tmp_path / "run", overwrite=True)


# Provenance and settings


def test_provenance_has_versions_git_and_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = result.provenance(stimuli="ab12")
    assert found["hashes"] == {"stimuli": "ab12"}
    assert found["versions"]["torch"] == metadata.version("torch")
    assert found["versions"]["brainrdl"][0].isdigit()
    monkeypatch.chdir(tmp_path)
    assert result.provenance()["git"] == "not a git repository"


def test_provenance_tells_a_commit_from_changes_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    identity = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for key, value in identity.items():
        monkeypatch.setenv(key, value)
    (tmp_path / "a.txt").write_text("a")
    if os.system("git init -q && git add a.txt && git commit -qm a"):
        pytest.skip("git is not installed")
    clean = result.provenance()["git"]
    (tmp_path / "a.txt").write_text("b")
    assert re.fullmatch("[0-9a-f]{40}", clean)
    assert result.provenance()["git"] == f"{clean} with changes"


def test_a_missing_package_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "_PACKAGES", ("no-such-package",))
    assert result.provenance()["versions"] == {"no-such-package": "not installed"}


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
    assert result.digest(other) != result.digest({"a": torch.zeros(2, 3)})


def test_a_digest_does_not_depend_on_order_or_layout() -> None:
    square, scalar = torch.arange(4.0).view(2, 2), torch.tensor(1, dtype=torch.bfloat16)
    transposed = square.T.contiguous().T
    assert result.digest({"a": square, "b": scalar}) == result.digest({"b": scalar, "a": transposed})


def test_words_are_told_apart_by_their_bounds() -> None:
    assert result.hash_words(["ab", "c"]) != result.hash_words(["a", "bc"])


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
    assert json.loads(json.dumps(result.describe(value))) == words


def test_a_tensor_is_described_by_its_content() -> None:
    first, again, other = (result.describe(torch.full((2,), value)) for value in (1.0, 1.0, 2.0))
    assert first == again != other


def test_a_loss_is_described_by_its_parameters() -> None:
    found = result.describe(RDMLoss.rdl2016(half_life=5, match={"a": "IT"}))
    assert (found["form"], found["schedule"], found["match"]) == ("mse", {"kind": "Decay", "half_life": 5}, {"a": "IT"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.2}, r"'run' was written with lr=0.1, now lr=0.2; resume with the settings of the run"),
        ({"loss": {"form": "similarity", "seed": 0}}, r"with loss.form='mse', now loss.form='similarity'"),
        ({"new": 1}, r"with new=None, now new=1"),
        ({"train": ["long name"] * 99}, r"now train=\['long name', .{60,75}\.\.\.;"),
    ],
)
def test_settings_that_differ_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        result.check_same_settings(SETTINGS | change, SETTINGS, "run")


def test_settings_that_went_through_json_are_the_same() -> None:
    stored = json.loads(json.dumps(SETTINGS))
    result.check_same_settings({**SETTINGS, "train": ("a", "b")}, stored, "run")


# Weights


def test_weights_come_back_into_a_student_that_is_not_calibrated(tmp_path: Path) -> None:
    given, fresh = calibrated(), student(seed=1)
    result.save_weights(tmp_path / "w.safetensors", given, best_step=12)
    assert result.load_weights(tmp_path / "w.safetensors", fresh) == 12
    assert same(given, fresh)


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    def tied() -> Student:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return Student(model, ["1"])

    given, fresh = tied(), tied()
    result.save_weights(tmp_path / "w.safetensors", given)
    result.load_weights(tmp_path / "w.safetensors", fresh)
    assert same(given, fresh)


def test_weights_of_another_student_are_refused(tmp_path: Path) -> None:
    result.save_weights(tmp_path / "w.safetensors", Student(nn.Sequential(nn.Linear(4, 3)), ["0"]))
    with pytest.raises(BrainrdlError, match=r"w.safetensors' does not fit this student: [^$]*Missing key"):
        result.load_weights(tmp_path / "w.safetensors", student())


def test_pickled_weights_are_refused_and_not_unpickled(tmp_path: Path) -> None:
    torch.save(student().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(BrainrdlError, match=r"damaged or not safetensors .* pickled files are refused"):
        result.load_weights(tmp_path / "w.safetensors", student())


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrainrdlError, match=r"there is no file '.*w.safetensors'"):
        result.load_weights(tmp_path / "w.safetensors", student())


def test_a_finished_run_comes_back(tmp_path: Path) -> None:
    history = pd.DataFrame({"step": [0, 10], "loss": [np.nan, 1 / 3]})
    given = FitResult(calibrated(), history, 10, SETTINGS, {"hashes": {}}, tmp_path)
    (tmp_path / result.CHECKPOINT).write_text("no longer needed")
    result.write_json(tmp_path / result.SETTINGS, given.settings)
    result.write_json(tmp_path / result.PROVENANCE, given.provenance)
    result.save_fit(given)
    found = result.load_fit(tmp_path, student(seed=1), SETTINGS)
    assert same(found.student, given.student)
    pd.testing.assert_frame_equal(found.history, history)
    assert (found.best_step, found.settings, found.provenance) == (10, SETTINGS, {"hashes": {}})
    assert not (tmp_path / result.CHECKPOINT).exists()
    with pytest.raises(BrainrdlError, match=r"settings.json' was written with lr=0.1, now lr=0.3"):
        result.load_fit(tmp_path, student(), SETTINGS | {"lr": 0.3})


def test_a_result_without_folder_cannot_be_saved() -> None:
    with pytest.raises(BrainrdlError, match="this result has no run folder; give `out` to fit"):
        result.save_fit(FitResult(student(), pd.DataFrame(), 0))


# Checkpoints


@pytest.mark.parametrize(
    "optimizer",
    [torch.optim.Adam, partial(torch.optim.SGD, momentum=0.9), torch.optim.SGD, torch.optim.RMSprop, torch.optim.AdamW],
)
def test_a_run_goes_on_from_its_checkpoint_as_if_nothing_had_happened(
    tmp_path: Path, optimizer: Callable[..., torch.optim.Optimizer]
) -> None:
    path, moving, fresh = tmp_path / "c.safetensors", moved(optimizer=optimizer), moved(1, optimizer, steps=0)
    result.save_checkpoint(path, State(step=3), *moving, SETTINGS)
    for _step in range(4):
        step_once(*moving)
    assert not same(moving[0], fresh[0])
    result.load_checkpoint(path, *fresh, SETTINGS)  # random state included: the images of the coming steps are the same
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
    result.save_checkpoint(path, State(step=3), *moving, SETTINGS)
    result.load_checkpoint(path, *fresh, SETTINGS)
    rates = []
    for part in (moving, fresh):
        rates.append([])
        for _step in range(4):
            step_once(*part)
            rates[-1].append(part[2].get_last_lr())
    assert rates[0] == rates[1]


def test_a_checkpoint_keeps_what_the_run_has_seen(tmp_path: Path) -> None:
    moving = moved()
    state = State(step=3, seconds=0.1, losses=[[1 / 3, 0.5, float("nan")]], history=[{"step": 0, "loss": 1 / 7}])
    state.remember(0.25, moving[0])
    best = {key: value.clone() for key, value in moving[0].state_dict().items()}
    step_once(*moving)
    result.save_checkpoint(tmp_path / "c.safetensors", state, *moving, SETTINGS)
    found = result.load_checkpoint(tmp_path / "c.safetensors", *moved(1), SETTINGS)
    assert (found.step, found.seconds, found.history, found.best_score) == (3, 0.1, [{"step": 0, "loss": 1 / 7}], 0.25)
    np.testing.assert_array_equal(found.losses, state.losses)
    assert found.best is not None
    assert all(torch.equal(found.best[key], value) for key, value in best.items())


def test_the_loss_scale_of_fp16_comes_back(tmp_path: Path) -> None:
    scaler, fresh = (torch.amp.GradScaler("cpu", init_scale=scale) for scale in (1024.0, 65536.0))
    result.save_checkpoint(tmp_path / "c.safetensors", State(), *moved(), SETTINGS, scaler)
    result.load_checkpoint(tmp_path / "c.safetensors", *moved(), SETTINGS, fresh)
    assert fresh.get_scale() == 1024


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_checkpoint_that_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "c.safetensors"
    result.save_checkpoint(path, State(), *moved(), SETTINGS)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(BrainrdlError, match=r"c.safetensors' is cut short, damaged or not safetensors .* Delete it"):
        result.load_checkpoint(path, *moved(), SETTINGS)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    result.save_checkpoint(tmp_path / "c.safetensors", State(), *moved(), SETTINGS)
    with pytest.raises(BrainrdlError, match=r"c.safetensors' was written with lr=0.1, now lr=0.2"):
        result.load_checkpoint(tmp_path / "c.safetensors", *moved(), SETTINGS | {"lr": 0.2})


def test_a_foreign_safetensors_file_is_no_checkpoint(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "c.safetensors")
    with pytest.raises(BrainrdlError, match=r"c.safetensors' is no checkpoint of brainrdl"):
        result.load_checkpoint(tmp_path / "c.safetensors", *moved(), SETTINGS)


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
