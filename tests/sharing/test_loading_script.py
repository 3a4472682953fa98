"""The script that loads a model names a constructor only if it makes the same network."""

from __future__ import annotations

import compileall
from pathlib import Path

import pytest
import torch

from brainrdl.models import build
from brainrdl.sharing import script_of
from brainrdl.sharing.loading_script import network_source
from brainrdl.stimuli import default_transform


@pytest.mark.parametrize(
    ("name", "package", "needs"),
    [
        ("squeezenet1_1", "torchvision", "torchvision"),
        ("timm/test_vit", "timm", "timm"),
        ("efficientnet_lite0", "efficientnet_lite_pytorch", "efficientnet_lite_pytorch"),
    ],
)
def test_networks_of_packages_are_built_by_their_constructors(
    name: str, package: str, needs: str, tmp_path: Path
) -> None:
    pytest.importorskip(needs)
    network = build(name)
    source = network_source(name, network.module.state_dict())
    assert source is not None
    assert source["package"] == package
    (tmp_path / "load.py").write_text(script_of(source, network.transform))
    assert compileall.compile_file(tmp_path / "load.py", quiet=2)
    assert f"import {package}\n" in (tmp_path / "load.py").read_text()


def test_a_network_whose_parameters_differ_from_those_of_the_constructor_is_not_named() -> None:
    network = build("squeezenet1_1").module
    network.classifier[1] = torch.nn.Conv2d(512, 10, 1)
    assert network_source("squeezenet1_1", network.state_dict()) is None
    assert network_source("my.module:factory", network.state_dict()) is None
    assert network_source(None, network.state_dict()) is None


def test_googlenet_without_its_auxiliary_classifiers_is_found() -> None:
    import torchvision

    network = torchvision.models.googlenet(init_weights=False, aux_logits=False)
    source = network_source("googlenet", network.state_dict())
    assert source is not None
    assert source["options"] == {"init_weights": False, "aux_logits": False}


def test_a_transform_that_is_not_known_is_named_in_a_comment() -> None:
    def halve(image: object) -> object:
        return image

    lines = script_of(None, halve).splitlines()
    assert lines[-1].startswith("transform = None  # apply to each image what the fit applied: <function ")
    assert len(script_of(None, default_transform(8)).splitlines()) <= 10
