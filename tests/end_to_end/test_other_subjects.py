"""The example of docs/how_to/take_the_model_away.md on the real data, with a small network and few steps."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from brainrdl import BrainrdlError, export, recipe
from brainrdl.sharing import evaluate_run_elsewhere, load_run

EXAMPLE = Path(__file__).parents[2] / "docs/examples/other_subjects.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("other_subjects", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_run_on_half_of_the_92_images_is_scored_on_the_other_half_and_other_subjects(
    example: ModuleType, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # the example fetches its data from offline copies
    for name in ("kriegeskorte92.tar.gz", "algonauts92.tar.gz"):
        if not (data_folder / name).is_file():
            pytest.skip(f"{name} is not in BRAINRDL_DATA (CONTRIBUTING.md, Real data)")
    content = example.prepare(tmp_path / "data").model_dump(mode="json")
    content["student"] = {"model": "small_cnn", "layers": ["pool"], "standardise": True, "projection": 8}
    content["fit"] = {"steps": 4, "evaluate_every": 2, "device": "cpu"}
    content["evaluation"] = {"held_out": 0.25, "controls": ["unfitted"], "final": True}
    recipe.run(recipe.check(content), tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run")
    teacher, images, objects = example.test_set()
    with pytest.raises(
        BrainrdlError, match=r"46 of the 92 stimuli are not new .*image_01 \(same group as stimulus_01\)"
    ):
        evaluate_run_elsewhere(run, teacher, images, groups=objects)
    with pytest.warns(UserWarning, match="46 of the 92 stimuli were left out"):
        result = evaluate_run_elsewhere(run, teacher, images, groups=objects, drop_seen=True)
    assert set(result.teacher.pattern_descriptors["stimulus"]) == {f"image_{k:02d}" for k in range(2, 93, 2)}
    assert set(result.summary["student"]) == {"fitted", "unfitted", "category"}
    assert set(result.summary["n_subjects"]) == {15}
    ceilings = result.summary.query("comparator == 'spearman' and student == 'fitted'").set_index("against")["ceiling"]
    assert ceilings["mean"] == pytest.approx(0.919, abs=0.001)
    assert export(run, tmp_path / "model", scores=result).files
