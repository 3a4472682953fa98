"""The script that loads a model names a constructor only if it makes the same network."""

from __future__ import annotations

import compileall
from functools import partial
from pathlib import Path

import pytest
from torch import nn

from brainrdl.models import build
from brainrdl.sharing import script_of
from brainrdl.sharing.loading_script import network_source
from brainrdl.stimuli import default_transform


def _same_parameters(one: nn.Module, other: nn.Module) -> bool:
    shapes = [{name: value.shape for name, value in network.state_dict().items()} for network in (one, other)]
    return shapes[0] == shapes[1]


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
    source = network_source(name, partial(_same_parameters, network.module))
    assert source is not None
    assert source["package"] == package
    (tmp_path / "load.py").write_text(script_of(source, network.transform))
    assert compileall.compile_file(tmp_path / "load.py", quiet=2)
    assert f"import {package}\n" in (tmp_path / "load.py").read_text()


def test_the_option_is_found_with_which_a_constructor_makes_the_fitted_network() -> None:
    source = network_source("googlenet", lambda network: not network.aux_logits and network.transform_input)
    assert source is not None
    assert source["options"] == {"init_weights": False, "aux_logits": False, "transform_input": True}
    assert network_source("squeezenet1_1", lambda network: False) is None
    assert network_source("my.module:factory", lambda network: True) is None
    assert network_source(None, lambda network: True) is None


def test_a_transform_that_is_not_known_is_named_in_a_comment() -> None:
    def halve(image: object) -> object:
        return image

    lines = script_of(None, halve).splitlines()
    assert lines[-1].startswith("transform = None  # apply to each image what the fit applied: <function ")
    assert len(script_of(None, default_transform(8)).splitlines()) <= 10
