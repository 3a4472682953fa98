"""The example of a task and a brain, smaller: few photographs and steps, one seed."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from brainrdl import recipe
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.recipe import building

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture(scope="module")
def example(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The example as a module, with its data in an empty cache."""
    for name in ("kriegeskorte92.tar.gz", "cifar100_mini.npz"):
        if not (data_folder / name).exists():
            pytest.skip(f"{name} is not in BRAINRDL_DATA (CONTRIBUTING.md, Real data)")
    found = importlib.util.spec_from_file_location("task_and_brain", EXAMPLES / "task_and_brain.py")
    module = importlib.util.module_from_spec(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setitem(sys.modules, "task_and_brain", module)  # where dataclasses look up their module
        found.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def run(example: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, Evaluation, Path]:
    out = tmp_path_factory.mktemp("run")
    settings = example.Settings((0.1, 1.0), (1.0,), seeds=(0,), folds=2, steps=10, n_images=100, n_test=100)
    return settings, example.run(out, settings, progress=False), out


@pytest.mark.slow
def test_the_table_has_every_teacher_and_weight_with_accuracy_score_and_ceiling(
    example: ModuleType, run: tuple[object, Evaluation, Path]
) -> None:
    settings, evaluation, out = run
    table = example.table(evaluation, out, settings)
    points = set(zip(table["teacher"], table["weight"], strict=True))
    controls = {(name, 1.0) for name in ("permuted", "random RDM", "categories")}
    assert points == {("human IT", weight) for weight in (0.0, 0.1, 1.0)} | controls
    assert table[["accuracy", "score", "low", "high", "ceiling"]].notna().all().all()
    assert table["n_fits"].eq(2).all()
    assert table["ceiling_lower"].between(0.3, 0.45).all()
    assert table["score"].nunique() == len(table)
    example.draw(table, out / "figure.png")
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_contrasts_are_those_of_human_it_with_its_controls(
    example: ModuleType, run: tuple[object, Evaluation, Path]
) -> None:
    settings, evaluation, _ = run
    contrasts = example.contrasts(evaluation, settings)
    assert set(contrasts["student"]) == {"human IT, weight 1"}
    assert set(contrasts["other"]) == {*example.controls_of(1.0).values()}
    summary = evaluation.summary[evaluation.summary["against"] == "subjects"].set_index("student")["score"]
    expected = [summary["human IT, weight 1"] - summary[other] for other in contrasts["other"]]
    np.testing.assert_allclose(contrasts["difference"], expected, atol=1e-9)
    assert contrasts["difference"].between(contrasts["low"], contrasts["high"]).all()
    assert (contrasts["p_corrected"] >= contrasts["p"]).all()


def test_photographs_are_balanced_and_none_of_the_test_part_is_nearly_one_for_training(example: ModuleType) -> None:
    stimuli, test = example.photographs(200, 100)
    train = [name for name in stimuli.names if name not in set(test)]
    assert set(Counter(stimuli.labels[name] for name in train).values()) == {2}
    assert len(stimuli.categories) == 100
    assert example.similar_images(stimuli).empty


def test_recipe_of_the_example_makes_the_same_student_and_task(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe.load(EXAMPLES / "task_and_brain.yaml")
    monkeypatch.syspath_prepend(str(EXAMPLES.parents[1]))
    student = building.make_student(made)
    assert student.layers == example.make().layers
    assert [p.shape for p in student.parameters()] == [p.shape for p in example.make().parameters()]
    assert made.fit.steps == example.Settings().steps
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(example, "photographs", lambda *_, real=example.photographs: real(200, 100))
    example.prepare(Path("runs/task_and_brain/data"))
    task = building.make_task(made)
    assert len(task.stimuli.categories) == 100
    stimuli, teacher = example.brain()
    assert building.make_stimuli(made).labels == stimuli.labels
    assert building.make_teacher(made, stimuli).targets == teacher.targets
