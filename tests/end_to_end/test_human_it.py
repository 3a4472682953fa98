"""From the files of the human IT example to a report: the main job, smaller (one seed, 96 pixels, steps not nested)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

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
def fetched(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The example fetches its data from the offline copies into an empty cache."""
    if not (data_folder / "kriegeskorte92.tar.gz").exists():
        pytest.skip("kriegeskorte92.tar.gz is not in BRAINRDL_DATA (CONTRIBUTING.md, Real data)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def evaluation(example: ModuleType, fetched: None) -> Evaluation:
    """One cross-validation of the projection."""
    stimuli, teacher = example.load(96)
    return cross_validate(
        example.projection, teacher, stimuli, controls=("unfitted", "category"), models=example.animacy(stimuli),
        progress=False, **FITTING,
    )  # fmt: skip


def _score(evaluation: Evaluation, student: str, comparator: str = "spearman") -> float:
    table = evaluation.summary
    row = table[(table["student"] == student) & (table["comparator"] == comparator) & (table["against"] == "mean")]
    return float(row["score"].iloc[0])


@pytest.mark.slow
def test_fitting_to_human_it_helps_on_held_out_images(evaluation: Evaluation) -> None:
    assert _score(evaluation, "fitted") > _score(evaluation, "unfitted") + 0.1


@pytest.mark.slow
def test_fitted_network_knows_more_than_categories(evaluation: Evaluation) -> None:
    assert _score(evaluation, "fitted", "partial spearman") > 0.1


@pytest.mark.slow
def test_category_structure_of_human_it_is_what_the_paper_reports(evaluation: Evaluation) -> None:
    assert 0.5 < _score(evaluation, "animacy") < 0.7
    assert _score(evaluation, "category lookup") > _score(evaluation, "category")


@pytest.mark.slow
def test_scores_stand_beside_their_own_ceiling(evaluation: Evaluation) -> None:
    ceilings = evaluation.summary[evaluation.summary["comparator"] == "spearman"].groupby("against")["ceiling_lower"]
    assert ceilings.nunique().eq(1).all()
    assert ceilings.first()["subjects"] < 0.5 < 0.7 < ceilings.first()["mean"]


@pytest.mark.slow
def test_report_of_the_run_is_one_page(evaluation: Evaluation, tmp_path: Path) -> None:
    page = report(evaluation, tmp_path / "report.html").read_text()
    assert "human IT" in page
    assert 'src="http' not in page


def test_recipe_of_the_example_makes_the_same_student_and_teacher(
    example: ModuleType, fetched: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe.load(EXAMPLES / "human_it.yaml")
    student = building.make_student(made)
    assert student.layers == example.projection().layers
    assert student.frozen
    assert made.evaluation.inner_folds == 4
    monkeypatch.chdir(tmp_path)
    example.prepare(Path("runs/human_it/data"))
    read = building.make_stimuli(made.model_copy(update={"stimuli": made.stimuli.model_copy(update={"size": 64})}))
    stimuli, teacher = example.load(64)
    assert read.labels == stimuli.labels
    assert torch.equal(read.images(), stimuli.images())
    batch = stimuli.batch(stimuli.names)
    own, its = (source.rdms(batch)["hIT"] for source in (building.make_teacher(made, read), teacher))
    torch.testing.assert_close(own, its)
