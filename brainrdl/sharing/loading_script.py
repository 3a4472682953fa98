"""The script that loads an exported model without brainrdl: which network is built, and how images are transformed."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from brainrdl.models.networks import known_names
from brainrdl.stimuli.transforms import ImageTransform, transform_text

SCRIPT = "load.py"

_HEAD = '"""Load this model without brainrdl: with this folder on the path, `from load import model, transform`."""'

_BUILT = """\
here = Path(__file__).parent
config = json.loads((here / "config.json").read_text(encoding="utf-8"))
built = config["network"]
network = {call}
model = Model(network, config["layers"]).eval()
model.load_state_dict(load_file(here / "model.safetensors"))"""

_PROGRAM = 'model = torch.export.load(Path(__file__).with_name("model.pt2")).module()'

_CALLS = {  # how packages build a network from its name
    "torchvision": 'torchvision.models.get_model(built["name"], weights=None, **built["options"])',
    "timm": 'timm.create_model(built["name"], pretrained=False)',
    "efficientnet_lite_pytorch": 'efficientnet_lite_pytorch.EfficientNet.from_name(built["name"])',
}

_V2 = "from torchvision.transforms import v2"


def network_source(name: str | None, agrees: Callable[[nn.Module], bool]) -> dict[str, Any] | None:
    """Say how a script without brainrdl builds a network; None if it cannot.

    Parameters
    ----------
    name : str or None
        Name of the network for `brainrdl.models.build`.
    agrees : callable
        Whether a network that was built takes the fitted weights, and then gives the fitted patterns: options of a
        constructor can change either.

    Returns
    -------
    dict or None
        Package, name and options.

    Examples
    --------
    >>> network_source("resnet18", lambda network: True)
    {'package': 'torchvision', 'name': 'resnet18', 'options': {}}
    >>> network_source("small_cnn", lambda network: True) is None
    True
    """
    return next((source for source in _possible(name) if agrees(_build(source))), None)


def _possible(name: str | None) -> list[dict[str, Any]]:
    if name is None or ":" in name:
        return []
    if name.startswith("timm/"):
        return [{"package": "timm", "name": name.removeprefix("timm/")}]
    if name == "efficientnet_lite0":
        return [{"package": "efficientnet_lite_pytorch", "name": "efficientnet-lite0"}]
    if name not in _of_torchvision():
        return []
    options: list[dict[str, bool]] = [{}]
    if name in ("googlenet", "inception_v3"):  # their pretrained weights change these
        both = itertools.product((True, False), (False, True))
        options = [{"init_weights": False, "aux_logits": aux, "transform_input": moved} for aux, moved in both]
    return [{"package": "torchvision", "name": name, "options": one} for one in options]


def _of_torchvision() -> set[str]:
    from torchvision import models

    return set(models.list_models(module=models)) & set(known_names())


def _build(source: Mapping[str, Any]) -> nn.Module:
    package: Any = importlib.import_module(source["package"])
    network: nn.Module
    if source["package"] == "torchvision":
        network = package.models.get_model(source["name"], weights=None, **source["options"])
    elif source["package"] == "timm":
        network = package.create_model(source["name"], pretrained=False)
    else:
        network = package.EfficientNet.from_name(source["name"])
    return network


def script_of(source: Mapping[str, Any] | None, transform: Callable[..., Any] | None) -> str:
    """Return the text of the script, which builds the network by its constructor, or loads the program.

    Parameters
    ----------
    source : mapping or None
        How the network is built, from `network_source`; None to load the program ``model.pt2``.
    transform : callable or None
        Transform of the images.

    Returns
    -------
    str
        Python code.

    Examples
    --------
    >>> lines = script_of(None, ImageTransform(8, channels=1)).splitlines()
    >>> print(lines[-2])
    model = torch.export.load(Path(__file__).with_name("model.pt2")).module()
    >>> print(lines[-1])
    transform = v2.Compose([v2.PILToTensor(), v2.Lambda(lambda pixels: pixels / 255), v2.Grayscale(1), v2.Resize([8])...
    """
    standard, others = ["from pathlib import Path"], {"import torch"}
    built = _PROGRAM
    if source is not None:
        standard = ["import json", *standard]
        others = {
            f"import {source['package']}",
            "from plain_model import Model",
            "from safetensors.torch import load_file",
        }
        built = _BUILT.format(call=_CALLS[source["package"]])
    transformed, needed = _transformed(transform, source)
    imports = sorted({*others, *needed}, key=lambda line: (line.startswith("from"), line))
    return "\n".join([_HEAD, "", *standard, "", *imports, "", built, transformed, ""])


def _transformed(transform: Callable[..., Any] | None, source: Mapping[str, Any] | None) -> tuple[str, set[str]]:
    """Return the line that makes the transform of a PIL image, and the imports that it needs."""
    steps = _steps(transform)
    if steps is not None:
        return f"transform = v2.Compose([{', '.join(steps)}])  # of a PIL image in RGB", {"import torch", _V2}
    if source is not None and source["package"] == "timm":
        call = "timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)"
        return f"transform = {call}  # of a PIL image in RGB", set()
    said = " ".join(str(transform_text(transform)).split())
    return f"transform = None  # apply to each image what the fit applied: {said}", set()


def _steps(transform: Callable[..., Any] | None) -> list[str] | None:
    """Write a transform as steps of torchvision; None if it is not one that is known."""
    floats = ["v2.PILToTensor()", "v2.Lambda(lambda pixels: pixels / 255)"]  # v2.ToDtype rounds in another way
    if transform is None:
        return floats
    if isinstance(transform, ImageTransform):
        channels = "v2.RGB()" if transform.channels == 3 else "v2.Grayscale(1)"
        square = [f"v2.Resize([{transform.size}])", f"v2.CenterCrop([{transform.size}])"]
        return [*floats, channels, *square, *_normalised(transform.mean, transform.std)]
    if type(transform).__name__ == "ImageClassification":  # the presets of torchvision
        shown: Any = transform
        resize = f"v2.Resize({shown.resize_size}, v2.InterpolationMode.{shown.interpolation.name})"
        crop = f"v2.CenterCrop({shown.crop_size})"
        pixels = ["v2.PILToTensor()", "v2.ToDtype(torch.float32, scale=True)"]
        return [resize, crop, *pixels, *_normalised(shown.mean, shown.std)]
    return None


def _normalised(mean: Sequence[float], std: Sequence[float]) -> list[str]:
    return [f"v2.Normalize({list(mean)}, {list(std)})"] if mean else []
