"""The recipes of the experiments are valid, and their networks can be built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from brainrdl import Student, recipe
from brainrdl.models import build

RECIPES = sorted((Path(__file__).parents[2] / "docs" / "experiments" / "recipes").glob("*.yaml"))


_LONG = ("resnet56", "wrn_40_2")  # large networks, like others of their kind


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if path.stem in _LONG else ()) for path in RECIPES],
    ids=lambda path: path.stem,
)
def test_a_recipe_names_networks_that_exist_and_layers_that_they_have(path: Path) -> None:
    found = recipe.load(path)
    for name, layers in ((found.student.model, found.student.layers), (found.teacher.network, found.teacher.layers)):
        network = build(name)
        images = torch.zeros((1, 1, 28, 28) if path.stem == "mnist" else (1, 3, 32, 32))
        output = Student(network.module.eval(), list(layers), trainable="none")(images)
        assert output.logits.shape == (1, 10 if path.stem == "mnist" else 100)


@pytest.mark.parametrize(
    ("name", "n"), [("resnet20", 278_324), ("resnet56", 861_620), ("wrn_16_2", 703_284), ("wrn_40_2", 2_255_156)]
)
def test_networks_have_their_published_sizes(name: str, n: int) -> None:
    module = build(f"docs.experiments.gpu:{name}").module
    assert sum(parameter.numel() for parameter in module.parameters()) == n
    published = {"resnet20": 0.28, "resnet56": 0.86, "wrn_16_2": 0.70, "wrn_40_2": 2.26}  # millions, Tian et al. 2020
    assert n / 1e6 == pytest.approx(published[name], abs=0.01)
