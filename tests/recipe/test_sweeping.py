"""A sweep: one run folder per point, one table, and nothing that is run twice."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brainrdl import BrainrdlError, recipe
from brainrdl._core.signals import Stopped
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.recipe import running, sweeping
from brainrdl.runs.run_folder import WEIGHTS

KEY = "fit.rdm_weight"


@pytest.fixture
def swept(content: dict[str, Any], tmp_path: Path) -> recipe.Recipe:
    """The recipe of the other tests with a task on images of its own, of two categories."""
    names = [f"task_{i:02d}" for i in range(24)]
    random = np.random.default_rng(1)
    pixels = random.integers(0, 100, (24, 10, 10, 1), dtype=np.uint8)
    pixels[::2] += 150
    np.savez(tmp_path / "task.npz", images=pixels, names=names, labels=["bright", "dark"] * 12)
    content["task"] = {"stimuli": {"arrays": str(tmp_path / "task.npz")}, "validation": 0.25, "batch_size": 8}
    content["fit"] = {"steps": 8, "evaluate_every": 4, "monitor": "task loss", "lr": 0.01, "device": "cpu"}
    content["evaluation"] = {"folds": 2, "controls": [], "comparators": ["spearman"]}
    return recipe.check(content)


def sweep(made: recipe.Recipe, out: Path, values: Any = (0, 1), **options: Any) -> pd.DataFrame:
    return sweeping.sweep(made, {KEY: list(values)}, out, progress=False, **options)


def stored(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob(WEIGHTS)}


@pytest.mark.slow
def test_each_point_is_the_run_of_its_recipe_and_a_row_of_the_table(swept: recipe.Recipe, tmp_path: Path) -> None:
    table = sweep(swept, tmp_path / "sweep")
    assert table[KEY].tolist() == [0, 1]
    assert table["folder"].tolist() == ["points/fit.rdm_weight_0", "points/fit.rdm_weight_1"]
    assert (tmp_path / "sweep" / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "sweep" / "pareto.pdf").read_bytes().startswith(b"%PDF")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "sweep" / "table.csv"), table, check_dtype=False)
    fit = swept.fit.model_copy(update={"rdm_weight": 1})
    alone = running.run(swept.model_copy(update={"fit": fit}), tmp_path / "alone", progress=False)
    kept = Evaluation.load(tmp_path / "sweep" / "points" / "fit.rdm_weight_1")
    pd.testing.assert_frame_equal(kept.scores, alone.scores)
    rows = alone.summary.query("role == 'student' and comparator == 'spearman' and against == 'subjects'")
    for column in ("score", "low", "high", "ceiling", "ceiling_lower", "ceiling_upper"):
        assert table[column].iloc[1] == pytest.approx(rows[column].iloc[0], nan_ok=True)


def test_accuracy_is_that_of_the_chosen_steps_over_folds(swept: recipe.Recipe, tmp_path: Path) -> None:
    row = sweep(swept, tmp_path / "sweep", [1]).iloc[0]
    histories = Evaluation.load(tmp_path / "sweep" / "points" / "fit.rdm_weight_1").histories
    runs = histories[histories["role"] == "student"].groupby(["seed", "fold"])
    best = pd.DataFrame([run.loc[run["validation_task_loss"].idxmin()] for _, run in runs])
    assert row["n_fits"] == len(best) == 2
    assert row["accuracy"] == pytest.approx(best["validation_accuracy"].mean())
    assert row["accuracy_sd"] == pytest.approx(best["validation_accuracy"].std())
    assert row["task_loss"] == pytest.approx(best["validation_task_loss"].mean())


@pytest.mark.slow
def test_an_interrupted_sweep_is_resumed_without_repeating_a_fit_and_may_grow(
    swept: recipe.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "sweep", running.run

    def interrupted(made: recipe.Recipe, *words: Any, **options: Any) -> Any:
        if made.fit.rdm_weight == 1:
            raise Stopped(15)
        return real(made, *words, **options)

    monkeypatch.setattr(sweeping, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(swept, out)
    monkeypatch.undo()
    before = stored(out)
    assert len(before) == 2
    assert not (out / "table.csv").exists()
    table = sweep(swept, out, [0, 1, 5], resume=True)
    assert table[KEY].tolist() == [0, 1, 5]
    assert before.items() <= stored(out).items()
    with pytest.raises(BrainrdlError, match="exists; resume or overwrite it with resume=True or overwrite=True"):
        sweep(swept, out)
    longer = swept.model_copy(update={"fit": swept.fit.model_copy(update={"steps": 9})})
    with pytest.raises(BrainrdlError, match=r"was written with .*steps"):
        sweep(longer, out, resume=True)
    sweep(longer, out, [0], overwrite=True)
    assert not before.items() & stored(out).items()


@pytest.mark.slow
def test_points_in_several_processes_give_the_same_numbers(swept: recipe.Recipe, tmp_path: Path) -> None:
    one, two = (sweep(swept, tmp_path / str(n), n_jobs=n) for n in (1, 2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_all_combinations_of_several_keys_are_points(swept: recipe.Recipe) -> None:
    values = sweeping.parse_values([f"{KEY}=0,.1", "fit.lr=1e-3,0.1", "student.layers=[pool],[conv1]"])
    found = sweeping.points(swept, values)
    assert len({point.name for point in found}) == 8
    assert [point.values["fit.lr"] for point in found[::2]] == [0.001, 0.1, 0.001, 0.1]
    assert (found[-1].recipe.fit.lr, found[-1].recipe.student.layers) == (0.1, ["conv1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit.rdm_wieght=0,1"], "unknown key fit.rdm_wieght; nearest: 'rdm_weight'"),
        (["fit.steps=3,many"], "fit.steps, value 'many': fit.steps must be a whole number"),
        (["fit.rdm_weight=0,1,1"], "occur more than once in the points of the sweep"),
        (["fit.rdm_weight="], "a sweep over fit.rdm_weight needs a list of values"),
        (["fit.rdm_weight"], "expects section.key=value,value"),
        (["fit.lr=1,2", "fit.lr=3"], "key fit.lr is given twice"),
        ([], "a sweep needs a key and its values"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_runs(
    swept: recipe.Recipe, tmp_path: Path, words: list[str], message: str
) -> None:
    with pytest.raises(BrainrdlError, match=message):
        sweeping.sweep(swept, sweeping.parse_values(words), tmp_path / "sweep", progress=False)
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_without_held_out_stimuli_or_into_another_folder_is_refused(
    swept: recipe.Recipe, tmp_path: Path
) -> None:
    all_stimuli = swept.model_copy(update={"evaluation": type(swept.evaluation)()})
    with pytest.raises(BrainrdlError, match=r"set evaluation.folds or evaluation.held_out"):
        sweep(all_stimuli, tmp_path / "sweep")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    for how in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(BrainrdlError, match=r"holds no sweep.json, so it is not the folder of a sweep"):
            sweep(swept, tmp_path / "mine", **how)


def test_a_sweep_whose_first_point_is_refused_leaves_no_folder(content: dict[str, Any], tmp_path: Path) -> None:
    content["stimuli"]["folder"] = str(tmp_path / "nowhere")
    with pytest.raises(BrainrdlError, match=r"point fit.rdm_weight_0: .*'.*nowhere' does not exist"):
        sweep(recipe.check(content), tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_without_a_task_has_scores_alone(content: dict[str, Any], tmp_path: Path) -> None:
    content["evaluation"] = {"folds": 2, "controls": []}
    made = recipe.check(content)
    table = sweeping.sweep(made, {"fit.lr": [0.01]}, tmp_path / "sweep", against="mean", progress=False)
    assert math.isnan(table["accuracy"].iloc[0])
    assert table["against"].tolist() == ["mean"]
    assert not (tmp_path / "sweep" / "pareto.png").exists()
