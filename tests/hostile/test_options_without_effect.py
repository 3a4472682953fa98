"""An option that would change nothing is refused, so that nobody believes that it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import brainrdl
from brainrdl import BrainrdlError, RDMTeacher, Task, rdms, recipe
from brainrdl.inference import cluster_test

NAMES = list("abcdefgh")
STUDENT = {"model": "small_cnn", "layers": ["pool"]}
RECIPE: dict[str, Any] = {"stimuli": {"folder": "images"}, "teacher": {"rdms": "it.h5"}, "student": STUDENT}


def made(n: int = 3, seed: int = 0) -> Any:
    pairs = np.random.default_rng(seed).random((n, 28))
    return rdms.from_array(pairs, NAMES, descriptors={"subject": [f"s{k}" for k in range(n)]})


@pytest.mark.parametrize(
    ("section", "keys", "message"),
    [
        ("evaluation", {"seeds": [3, 4]}, r"'seeds'\] have no effect without folds or held_out"),
        ("evaluation", {"controls": ["permuted"]}, r"'controls'\] have no effect without folds or held_out"),
        ("evaluation", {"inner_folds": 4}, r"'inner_folds'\] have no effect without folds or held_out"),
        ("stimuli", {"folder": "images", "root": "here"}, "root only applies to dataset, which is not given here"),
        (
            "stimuli",
            {"several": {"a": {"folder": "a"}}, "labels": "no.csv"},
            "labels only applies to folder",
        ),
        ("teacher", {"rdms": "it.h5", "dissimilarity": "euclidean"}, "dissimilarity only applies to features or netw"),
        ("teacher", {"features": "it.npy", "combine": "all"}, "combine only applies to rdms"),
        ("teacher", {"network": "small_cnn", "average_over": "session"}, "average_over only applies to rdms"),
        ("teacher", {"several": {"a": {"rdms": "a.h5"}}, "subjects": ["s1"]}, "subjects only applies to rdms"),
    ],
)
def test_keys_of_a_recipe(section: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        recipe.check({**RECIPE, section: keys})


def test_keys_of_a_recipe_at_their_defaults_pass() -> None:
    teacher = {"rdms": "it.h5", "dissimilarity": "correlation", "cache": False}
    recipe.check({**RECIPE, "teacher": teacher, "evaluation": {"seeds": [3], "controls": []}})


def test_images_of_a_task_are_left_out(tmp_path: Path) -> None:
    for k in range(6):
        from PIL import Image

        Image.new("L", (8, 8), 20 * k).save(tmp_path / f"t{k}.png")
    section = {"folder": str(tmp_path), "drop": ["t0", "t5"]}
    task = recipe.make_task(recipe.check({**RECIPE, "task": {"stimuli": section, "loss": "cross-entropy"}}))
    assert task is not None
    assert task.stimuli.names == ("t1", "t2", "t3", "t4")
    with pytest.raises(BrainrdlError, match="nonsense"):
        recipe.make_task(recipe.check({**RECIPE, "task": {"stimuli": section | {"drop": ["nonsense"]}}}))
    with pytest.raises(BrainrdlError, match="allow_missing has no effect on images of a task"):
        recipe.check({**RECIPE, "task": {"stimuli": section | {"allow_missing": True}}})


@pytest.mark.parametrize(
    "options", [{"average_over": "session"}, {"subject_by": "who"}, {"target_by": "roi"}, {"names": NAMES}]
)
def test_options_of_the_data_if_an_rsa_gets_a_teacher(options: dict[str, Any]) -> None:
    with pytest.raises(BrainrdlError, match=rf"{list(options)} only apply to RDMs".replace("[", r"\[")):
        brainrdl.rsa({"m": made(1)}, RDMTeacher(made()), progress=False, **options)


@pytest.mark.parametrize("options", [{"dissimilarity": "euclidean"}, {"weights": "DEFAULT"}])
def test_options_of_networks_if_all_models_are_rdms(options: dict[str, Any]) -> None:
    with pytest.raises(BrainrdlError, match=r"(dissimilarity only applies|weights only apply) to networks"):
        brainrdl.rsa({"m": made(1)}, made(), progress=False, **options)


def test_empty_options_of_the_data_pass_with_a_teacher() -> None:
    model = rdms.from_array(np.random.default_rng(1).random((1, 28)), NAMES)
    assert len(brainrdl.rsa({"m": model}, RDMTeacher(made()), progress=False, average_over=[], target_by=()).summary)


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"class_weights": {"a": 2.0}}])
def test_options_of_cross_entropy_with_another_loss(options: dict[str, Any]) -> None:
    with pytest.raises(BrainrdlError, match="only apply to loss='cross-entropy'"):
        Task(values=dict.fromkeys(NAMES, 1.0), loss="mse", **options)


@pytest.mark.parametrize("options", [{"p_threshold": 0.01}, {"t_threshold": 2.0}])
def test_thresholds_of_an_enhancement_that_has_none(options: dict[str, Any]) -> None:
    with pytest.raises(BrainrdlError, match="has no threshold"):
        cluster_test(np.random.default_rng(0).normal(size=(8, 20)), method="tfce", **options)
