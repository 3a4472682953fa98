"""From the files of the human IT example to a report: the main job, smaller (one seed, 96 pixels, steps not nested)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from brainrdl import cross_validate, recipe, report
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.recipe import building

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
FITTING = {"optimizer": "momentum", "lr": 0.2, "steps": 12, "evaluate_every": 12, "device": "cpu"}


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The example as a module."""
    pytest.importorskip("efficientnet_lite_pytorch", reason="extra 'demo' is not installed")
    found = importlib.util.spec_from_file_location("human_it", EXAMPLES / "human_it.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prepared(example: ModuleType, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, labels and RDMs, as the example writes them."""
    return example.prepare(data_folder, tmp_path_factory.mktemp("human_it"))


@pytest.fixture(scope="module")
def evaluation(example: ModuleType, prepared: Path) -> Evaluation:
    """One cross-validation of the projection."""
    stimuli, teacher = example.load(prepared, 96)
    return cross_validate(
        example.projection, teacher, stimuli, controls=("unfitted", "category"), models=example.animacy(stimuli),
        n_bootstrap=20, progress=False, **FITTING,
    )  # fmt: skip


def _score(evaluation: Evaluation, student: str, comparator: str = "spearman") -> float:
    table = evaluation.summary
    row = table[(table["student"] == student) & (table["comparator"] == comparator) & (table["against"] == "mean")]
    return float(row["score"].iloc[0])


def test_fitting_to_human_it_helps_on_held_out_images(evaluation: Evaluation) -> None:
    assert _score(evaluation, "fitted") > _score(evaluation, "unfitted") + 0.1


def test_fitted_network_knows_more_than_categories(evaluation: Evaluation) -> None:
    assert _score(evaluation, "fitted", "partial spearman") > 0.1


def test_category_structure_of_human_it_is_what_the_paper_reports(evaluation: Evaluation) -> None:
    assert 0.5 < _score(evaluation, "animacy") < 0.7
    assert _score(evaluation, "category lookup") > _score(evaluation, "category")


def test_scores_stand_beside_their_own_ceiling(evaluation: Evaluation) -> None:
    ceilings = evaluation.summary[evaluation.summary["comparator"] == "spearman"].groupby("against")["ceiling_lower"]
    assert ceilings.nunique().eq(1).all()
    assert ceilings.first()["subjects"] < 0.5 < 0.7 < ceilings.first()["mean"]


def test_report_of_the_run_is_one_page(evaluation: Evaluation, tmp_path: Path) -> None:
    page = report(evaluation, tmp_path / "report.html").read_text()
    assert "human IT" in page
    assert 'src="http' not in page


def test_recipe_of_the_example_is_valid_and_makes_the_same_student(example: ModuleType) -> None:
    made = building.make_student(recipe.load(EXAMPLES / "human_it.yaml"))
    assert made.layers == example.projection().layers
    assert made.frozen
    assert recipe.load(EXAMPLES / "human_it.yaml").evaluation.inner_folds == 4


def test_recipe_of_the_mnist_example_is_valid() -> None:
    assert recipe.load(EXAMPLES / "mnist_distillation.yaml").fit.task_weight == 1.0
