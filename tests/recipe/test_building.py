"""The parts that a recipe is made of."""

from __future__ import annotations

from brainrdl import recipe
from brainrdl.models import build
from brainrdl.recipe import transform_of
from brainrdl.stimuli import ImageTransform


def test_the_transform_has_the_size_of_the_recipe_or_of_the_network(content: dict) -> None:
    network = build("small_cnn")
    assert transform_of(recipe.check(content), network) is network.transform
    content["stimuli"]["size"] = 20
    assert transform_of(recipe.check(content), network) == ImageTransform(20, (), (), 1)
