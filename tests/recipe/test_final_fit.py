"""A recipe can end in a fit to all stimuli, for as many steps as the folds have chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from brainrdl import BrainrdlError, recipe
from brainrdl._core.files import read_json, read_safetensors, write_safetensors
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.recipe import running
from brainrdl.recipe.final_fit import chosen_steps

NAMES = [f"face_{i:02d}" for i in range(12)]


def _fold(run: Path, name: str, best_step: int) -> None:
    (run / "fits" / name).mkdir(parents=True)
    write_safetensors(run / "fits" / name / "weights.safetensors", {"a": torch.zeros(1)}, {"best_step": best_step})


def test_the_steps_are_the_lower_median_of_the_fitted_students(tmp_path: Path) -> None:
    for fold, steps in enumerate([30, 4, 8, 12]):
        _fold(tmp_path, f"fitted-seed0-fold{fold}", steps)
        _fold(tmp_path, f"permuted-seed0-fold{fold}", 0)
        _fold(tmp_path, f"fitted-seed0-fold{fold}-inner0", 1000)
    assert chosen_steps(tmp_path) == 8
    _fold(tmp_path, "fitted-seed1-fold0-without-s1", 12)
    assert chosen_steps(tmp_path) == 12


@pytest.mark.slow
def test_inner_folds_choose_the_steps_of_the_final_fit_to_all_stimuli(content: dict, tmp_path: Path) -> None:
    content["fit"] |= {"lr": 0.05, "evaluate_every": 1}
    content["evaluation"] = {"folds": 3, "inner_folds": 2, "controls": [], "seeds": [5, 6], "final": True}
    del content["stimuli"]["labels"]
    result = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert isinstance(result, Evaluation)
    last = result.histories[result.histories["inner"] == -1].groupby(["seed", "fold"])["step"].max()
    stored = read_json(tmp_path / "run" / "final" / "settings.json")
    assert stored["steps"] == sorted(last)[2]
    assert (sorted(stored["train"]), stored["validation"], stored["seed"]) == (NAMES, [], 5)


def test_the_final_fit_trains_on_all_images_of_a_task_and_keeps_its_last_step(content: dict, tmp_path: Path) -> None:
    names = [f"task_{k:02d}" for k in range(20)]
    pixels = np.random.default_rng(0).integers(0, 255, (20, 10, 10, 1), dtype=np.uint8)
    np.savez(tmp_path / "task.npz", images=pixels, names=names, labels=["dark", "light"] * 10)
    content["task"] = {"stimuli": {"arrays": str(tmp_path / "task.npz")}, "validation": 0.25}
    content["fit"] |= {"steps": 3, "evaluate_every": 1, "monitor": "task loss", "device": "cpu"}
    content["evaluation"] = {"folds": 2, "controls": [], "final": True}
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    final = pd.read_csv(tmp_path / "run" / "final" / "history.csv")
    assert final["validation_accuracy"].isna().all()
    assert final["step"].max() == chosen_steps(tmp_path / "run") > 0
    best = read_safetensors(tmp_path / "run" / "final" / "weights.safetensors")[1]["best_step"]
    assert int(best) == final["step"].max()


def test_a_final_fit_of_no_steps_is_warned_about(content: dict, tmp_path: Path) -> None:
    content["fit"] |= {"steps": 0}
    content["evaluation"] = {"folds": 2, "controls": [], "final": True}
    with pytest.warns(UserWarning, match="the folds have chosen 0 steps"):
        running.run(recipe.check(content), tmp_path / "run", progress=False)


@pytest.mark.slow
def test_a_final_fit_can_be_added_to_a_finished_run_without_fitting_the_folds_again(
    content: dict, tmp_path: Path
) -> None:
    content["evaluation"] |= {"controls": ["unfitted"]}
    content["fit"] |= {"validation": 0.5, "patience": 1}
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "final").exists()
    folds = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "fits").rglob("weights.safetensors")}
    content["evaluation"]["final"] = True
    with pytest.warns(UserWarning, match="the folds have chosen 0 steps"):
        running.run(recipe.check(content), tmp_path / "run", resume=True, progress=False)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "fits").rglob("*.safetensors")} == folds
    stored = read_json(tmp_path / "run" / "final" / "settings.json")
    assert (len(stored["train"]), stored["validation"], stored["patience"]) == (12, [], None)


def test_scoring_again_fits_nothing(content: dict, tmp_path: Path) -> None:
    content["evaluation"] = {"held_out": NAMES[:4], "controls": [], "final": True}
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    weights = tmp_path / "run" / "final" / "weights.safetensors"
    weights.unlink()
    running.evaluate_run(tmp_path / "run", ["tau-a"])
    assert not weights.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluation": {"final": True}}, "without folds or held_out the only fit is one"),
        (
            {"evaluation": {"folds": 3, "final": True}, "fit": {"validation": 0.5, "schedule": "cosine"}},
            "fit.schedule: cosine depends on that number; use fit.schedule: constant",
        ),
        ({"evaluation": {"folds": 3, "final": "yes"}}, "evaluation.final: should be true or false, got 'yes'"),
    ],
)
def test_a_final_fit_that_cannot_be_is_refused(content: dict, change: dict, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        recipe.check(content | change)


def test_a_run_without_finished_folds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrainrdlError, match="there are no finished fits in"):
        chosen_steps(tmp_path)


@pytest.mark.filterwarnings("ignore:the folds have chosen 0 steps")  # they do for random pixels
def test_a_final_fit_learns_all_images_of_a_task_that_had_some_for_validation(content: dict, tmp_path: Path) -> None:
    content["task"] = {"stimuli": dict(content["stimuli"], folder=str(_others(tmp_path))), "validation": 0.5}
    del content["task"]["stimuli"]["labels"]
    content["fit"] |= {"validation": 0.5}
    content["evaluation"] |= {"controls": [], "final": True}
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    history = pd.read_csv(tmp_path / "run" / "final" / "history.csv")
    assert history["validation_task_loss"].isna().all()
    assert history["train_task_loss"].iloc[-1] > 0


def _others(folder: Path) -> Path:
    random = np.random.default_rng(1)
    for place in range(8):
        path = folder / "others" / "ab"[place % 2] / f"image{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (10, 10), dtype=np.uint8)).save(path)
    return folder / "others"
