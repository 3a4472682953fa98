"""A run is scored on other images and other subjects; images that it was fitted to are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainrdl import BrainrdlError, RDMTeacher, Stimuli, rdms, recipe, report
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.sharing import evaluate_run_elsewhere, load_run

from .conftest import NAMES, OTHERS


@pytest.fixture(scope="module")
def scored(world: Path) -> Evaluation:
    images = Stimuli.from_folder(world / "other")
    return evaluate_run_elsewhere(world / "run", RDMTeacher(world / "other.h5", name="others"), images)


def test_the_score_is_that_of_the_students_rdm(world: Path, scored: Evaluation) -> None:
    run = load_run(world / "run")
    images = Stimuli.from_folder(world / "other", run.transform)
    own = run.student.rdms(images, dissimilarity="euclidean").get_vectors()[0]
    truth = rdms.select(RDMTeacher(world / "other.h5").combined("IT"), OTHERS).get_vectors()[0]
    rows = scored.summary.query("student == 'fitted' and comparator == 'corr' and against == 'mean'")
    assert float(rows["score"].iloc[0]) == pytest.approx(np.corrcoef(own, truth)[0, 1], abs=1e-6)
    assert set(scored.summary["student"]) == {"fitted", "unfitted"}
    assert set(scored.summary["comparator"]) == {"corr"}  # that of the recipe
    assert scored.summary["gain"].notna().any()
    assert scored.summary["low"].notna().all()


@pytest.mark.slow
def test_the_page_says_that_the_images_were_not_used_for_the_fit(scored: Evaluation, tmp_path: Path) -> None:
    scored.save(tmp_path / "scores")
    page = report(tmp_path / "scores").read_text(encoding="utf-8")
    assert "On 8 stimuli that were not used for the fit, the fitted network" in page
    assert "The network was fitted to 12 other stimuli (“it”)" in page
    assert "stimuli were held out, subjects were not" not in page
    assert "No stimulus had the name, the bytes or the group of one that it was fitted to." in page


def test_images_that_the_run_was_fitted_to_are_refused_or_left_out(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "other", tmp_path / "mixed")
    shutil.copy(world / "images" / f"{NAMES[0]}.png", tmp_path / "mixed" / f"{OTHERS[0]}.png")
    images, teacher = Stimuli.from_folder(tmp_path / "mixed"), RDMTeacher(world / "other.h5")
    words = (
        r"1 of the 8 stimuli are not new to the student: \[tool_00 \(byte-identical to face_00\)\]; .*drop_seen=True"
    )
    with pytest.raises(BrainrdlError, match=words):
        evaluate_run_elsewhere(world / "run", teacher, images, control=False)
    with pytest.warns(UserWarning, match=r"1 of the 8 stimuli were left out as not new: \[tool_00"):
        result = evaluate_run_elsewhere(world / "run", teacher, images, control=False, drop_seen=True)
    assert result.settings["elsewhere"] == {"n_seen": 12, "dropped": ["tool_00"]}
    assert "tool_00" not in result.teacher.pattern_descriptors["stimulus"]


def test_groups_across_the_two_sets_are_respected(world: Path) -> None:
    images, teacher = Stimuli.from_folder(world / "other"), RDMTeacher(world / "other.h5")
    groups = {NAMES[2]: "cup", OTHERS[5]: "cup"}
    with pytest.raises(BrainrdlError, match=r"\[tool_05 \(same group as face_02\)\]"):
        evaluate_run_elsewhere(world / "run", teacher, images, control=False, groups=groups)


def test_an_unknown_option_gets_the_nearest(world: Path) -> None:
    images, teacher = Stimuli.from_folder(world / "other"), RDMTeacher(world / "other.h5")
    with pytest.raises(BrainrdlError, match="'drop_sen' is not known; nearest: 'drop_seen'"):
        evaluate_run_elsewhere(world / "run", teacher, images, drop_sen=True)
    with pytest.raises(BrainrdlError, match="give a Teacher and Stimuli to score on, got Stimuli and RDMTeacher"):
        evaluate_run_elsewhere(world / "run", images, teacher)  # type: ignore[arg-type]


def test_images_of_the_task_of_a_run_are_not_new_to_its_student(content: dict, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    for place in range(8):
        path = tmp_path / "task" / "ab"[place % 2] / f"t{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(path)
    content["task"] = {"stimuli": {"folder": str(tmp_path / "task")}}
    del content["evaluation"]
    recipe.run(recipe.check(content), tmp_path / "run", progress=False)
    stimuli = Stimuli.from_folder(tmp_path / "task").select([f"{'ab'[place % 2]}/t{place}" for place in range(8)])
    teacher = RDMTeacher(rdms.from_array(random.random((2, 28)), stimuli.names, descriptors={"subject": ["x", "y"]}))
    with pytest.raises(BrainrdlError, match="8 images are byte-identical to images of the task"):
        evaluate_run_elsewhere(tmp_path / "run", teacher, stimuli)
