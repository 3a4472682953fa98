"""Recipes with several brains: each has its own images and RDMs; and with other controls than the usual ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from brainrdl import BrainrdlError, rdms, recipe
from brainrdl._core.files import write_rdms
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.recipe import building, running
from brainrdl.teachers.joint_teacher import JointTeacher
from brainrdl.teachers.rdm_teacher import RDMTeacher

NAMES = {"human": [f"face_{k}" for k in range(9)], "other": [f"tool_{k}" for k in range(8)] + ["face_8"]}


@pytest.fixture
def content(tmp_path: Path) -> dict:
    """Two brains that saw different images, except one."""
    rng = np.random.default_rng(0)
    pixels = {name: rng.integers(0, 255, (8, 8, 3), np.uint8) for names in NAMES.values() for name in names}
    for label, names in NAMES.items():
        (tmp_path / label).mkdir()
        for name in names:
            Image.fromarray(pixels[name]).save(tmp_path / label / f"{name}.png")
        pairs = rng.random((3, len(names) * (len(names) - 1) // 2))
        described = {"subject": [f"s{k}" for k in range(3)], "roi": ["IT"] * 3}
        write_rdms(tmp_path / f"{label}.h5", rdms.from_array(pairs, names, descriptors=described))
    return {
        "stimuli": {"several": {label: {"folder": str(tmp_path / label)} for label in NAMES}},
        "teacher": {"several": {label: {"rdms": str(tmp_path / f"{label}.h5")} for label in NAMES}},
        "student": {"model": "small_cnn", "layers": {"pool": {"human/IT": 3, "other/IT": 1}}},
        "fit": {"steps": 2, "device": "cpu"},
        "evaluation": {"folds": 2, "controls": []},
    }


def test_a_recipe_of_two_brains_fits_and_scores_both(content: dict, tmp_path: Path) -> None:
    result = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert isinstance(result, Evaluation)
    assert set(result.summary["target"]) == {"human/IT", "other/IT"}
    assert recipe.load(tmp_path / "run" / "recipe.yaml") == recipe.check(content)


def test_teachers_of_a_recipe_are_those_of_their_files(content: dict, tmp_path: Path) -> None:
    content["teacher"]["several"]["other"] |= {"combine": "all", "subjects": ["s1"]}
    checked = recipe.check(content)
    stimuli = building.make_stimuli(checked)
    assert stimuli.names == (*NAMES["human"], *(name for name in NAMES["other"] if name != "face_8"))
    human = RDMTeacher(tmp_path / "human.h5")
    other = RDMTeacher(tmp_path / "other.h5", combine="all").only_subjects(["s1"])
    asked = stimuli.batch(stimuli.names[3:12])
    found = building.make_teacher(checked, stimuli).rdms(asked)
    for target, expected in JointTeacher({"human": human, "other": other}).rdms(asked).items():
        torch.testing.assert_close(found[target], expected, rtol=0, atol=0, equal_nan=True)


def test_weights_of_the_brains_are_those_of_the_layers(content: dict) -> None:
    assert building.make_loss(recipe.check(content)).match == {"pool": {"human/IT": 3, "other/IT": 1}}


def test_a_network_as_one_of_the_brains_sees_the_images_with_its_label(content: dict) -> None:
    content["teacher"]["several"]["other"] = {"network": "small_cnn", "layers": ["pool"]}
    checked = recipe.check(content)
    teacher = building.make_teacher(checked, building.make_stimuli(checked))
    assert set(teacher.strata["other"]) == set(NAMES["other"])


def test_names_without_an_image_are_refused(content: dict) -> None:
    del content["stimuli"]["several"]["other"]
    with pytest.raises(BrainrdlError, match=r"8 only in the RDMs: \['tool_0'|tool_0"):
        running.run(recipe.check(content), "no run", progress=False)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("teacher", "rdms", "it.h5", "exactly one of rdms, features, network, several, got rdms, several"),
        ("stimuli", "folder", "images", "exactly one of folder, arrays, dataset, several, got folder, several"),
    ],
)
def test_one_source_or_several(content: dict, section: str, key: str, value: str, message: str) -> None:
    content[section][key] = value
    with pytest.raises(BrainrdlError, match=message):
        recipe.check(content)


def test_a_part_has_no_parts_and_no_control(content: dict) -> None:
    for key, value in (("control", "permuted"), ("several", {})):
        wrong = {**content, "teacher": {"several": {"human": {"rdms": "it.h5", key: value}}}}
        with pytest.raises(BrainrdlError, match=rf"teacher\.several\.human\.{key}"):
            recipe.check(wrong)


def test_a_mistake_in_one_of_the_brains_is_found_by_its_key(content: dict, tmp_path: Path) -> None:
    np.save(tmp_path / "square.npy", 1.0 * np.abs(np.subtract.outer(np.arange(4), np.arange(4))))
    content["teacher"]["several"]["other"] = {"rdms": str(tmp_path / "square.npy")}
    checked = recipe.check(content)
    with pytest.raises(BrainrdlError, match=r"teacher\.several\.other\.names"):
        building.make_teacher(checked, building.make_stimuli(checked))


def test_controls_of_a_recipe_include_those_of_teachers(content: dict, tmp_path: Path) -> None:
    content["stimuli"] = {"folder": str(tmp_path / "human"), "labels": str(tmp_path / "labels.csv")}
    rows = [f"{name},{'ab'[k % 2]}" for k, name in enumerate(NAMES["human"])]
    (tmp_path / "labels.csv").write_text("\n".join(["stimulus,category", *rows]))
    content["teacher"] = {"rdms": str(tmp_path / "human.h5")}
    content["student"]["layers"] = ["pool"]
    asked = ["permuted_within_class", "spectrum", "pixels"]
    content["evaluation"] = {"held_out": 0.5, "controls": asked}
    found = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert set(found.summary["student"]) == {"fitted", *asked}
