"""The parts that a recipe is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brainrdl import recipe
from brainrdl.models import build
from brainrdl.recipe import transform_of
from brainrdl.recipe.building import make_stimuli, make_teacher
from brainrdl.stimuli import ImageTransform


def test_the_transform_has_the_size_of_the_recipe_or_of_the_network(content: dict) -> None:
    network = build("small_cnn")
    assert transform_of(recipe.check(content), network) is network.transform
    content["stimuli"]["size"] = 20
    assert transform_of(recipe.check(content), network) == ImageTransform(20, (), (), 1)


@pytest.mark.parametrize("kind", ["rdms", "features", "network"])
def test_a_teacher_has_the_name_that_the_recipe_gives_it(content: dict, tmp_path: Path, kind: str) -> None:
    names = make_stimuli(recipe.check(content)).names
    np.savez(tmp_path / "patterns.npz", patterns=np.eye(len(names), 20), names=names)
    source = {
        "rdms": ({"rdms": content["teacher"]["rdms"]}, Path(content["teacher"]["rdms"]).stem),
        "features": ({"features": str(tmp_path / "patterns.npz")}, "patterns"),
        "network": ({"network": "small_cnn", "layers": ["pool"]}, "small_cnn"),
    }
    content["teacher"], default = source[kind]
    for name in (None, "human IT"):
        content["teacher"]["name"] = name
        asked = recipe.check(content)
        assert make_teacher(asked, make_stimuli(asked)).name == (name or default)


def test_joint_teachers_have_the_name_that_the_recipe_gives_them(content: dict) -> None:
    rdms = content["teacher"]["rdms"]
    content["teacher"] = {"several": {"a": {"rdms": rdms}, "b": {"rdms": rdms}}, "name": "human IT"}
    asked = recipe.check(content)
    assert make_teacher(asked, make_stimuli(asked)).name == "human IT"
