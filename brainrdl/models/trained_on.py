"""What the weights of a run belong to: the images that the network was trained on, and the network.

Weights alone say neither. In another network with parameters of the same names (another activation), or on images of
another size or normalisation, they load and give other patterns. So a run stores the shape and the transform of its
images, and a few outputs of its layers for a test image. Wherever the weights are read, images are transformed in the
same way or refused, and the network must give the same outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from brainrdl._core.errors import arg, refuse
from brainrdl.models.hooks import probing
from brainrdl.models.layers import random_layers, read_layers
from brainrdl.stimuli.transforms import transform_text

if TYPE_CHECKING:
    from brainrdl.stimuli.named_images import Stimuli

_N_TEST = 3  # images

_N_VALUES = 64  # of each output, evenly spaced

# Relative to the norm. A GPU that rounds products to TF32 stays below .002.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class TrainedOn:
    """The images that a student was trained on.

    Attributes
    ----------
    shape : tuple of int
        Shape of one image (channels, height, width); of several inputs, the name and shape of each.
    transform : str or None
        The transform in words, see `transform_text`; None if the images were given as the network expects them.

    Examples
    --------
    >>> TrainedOn((1, 8, 8)).check_shape((5, 1, 8, 8))
    >>> TrainedOn((1, 8, 8)).check_shape((5, 1, 16, 16))
    Traceback (most recent call last):
    brainrdl.BrainrdlError: the weights were trained on images of shape (1, 8, 8), got (1, 16, 16) ...
    """

    shape: tuple[int, ...]
    transform: str | None = None

    def check_shape(self, shape: Sequence[int]) -> None:
        """Refuse a batch of images of another shape.

        Raises
        ------
        BrainrdlError
            With both shapes.
        """
        if _tuples(shape[1:]) != _tuples(self.shape):
            size = arg("size", self.shape[-1], python=f"default_transform({self.shape[-1]})")
            refuse(
                f"the weights were trained on images of shape {self.shape}, got {tuple(shape[1:])} (channels, height, "
                f"width), for which they give other patterns; use images of that size ({size}), or set "
                "student.trained_on = None if this is what you want"
            )

    def check_stimuli(self, stimuli: Stimuli) -> None:
        """Refuse stimuli with another transform; nothing is known about stimuli without one.

        Raises
        ------
        BrainrdlError
            With both transforms.

        Examples
        --------
        >>> from brainrdl import Stimuli
        >>> from brainrdl.stimuli import default_transform
        >>> grey = default_transform(8, "none", channels=1)
        >>> stimuli = Stimuli.from_arrays(torch.zeros(2, 1, 8, 8), ["a", "b"], transform=grey)
        >>> TrainedOn((1, 8, 8), "ImageTransform(size=8, mean=(0.5,), std=(0.5,), channels=1)").check_stimuli(stimuli)
        Traceback (most recent call last):
        brainrdl.BrainrdlError: the weights were trained on images transformed by 'ImageTransform(size=8, mean=(0.5,...
        """
        own = transform_text(stimuli.transform)
        if None not in (own, self.transform) and own != self.transform:
            refuse(
                f"the weights were trained on images transformed by {self.transform!r}, and these are transformed by "
                f"{own!r}, for which they give other patterns; use the transform of the training, or set "
                "student.trained_on = None if this is what you want"
            )


def stored_images(told: Mapping[str, Any]) -> TrainedOn | None:
    """Read the images that a student was trained on from the description in its weight file; None if it has none.

    Examples
    --------
    >>> stored_images({"images": {"shape": [1, 8, 8], "transform": None}})
    TrainedOn(shape=(1, 8, 8), transform=None)
    """
    images = told.get("images")
    return None if images is None else TrainedOn(tuple(images["shape"]), images["transform"])


def network_facts(
    model: nn.Module, steps: Mapping[str, Iterable[int]], shape: Sequence[int], device: torch.device
) -> dict[str, Any]:
    """Describe a network by its class and a few outputs of its layers for test images.

    Parameters
    ----------
    model : nn.Module
    steps : mapping of str to iterable of int
        The calls of each module to read, as for `read_layers`.
    shape : sequence of int
        Shape of one image.
    device : torch.device
        Where the network is.

    Returns
    -------
    dict
        ``"class"`` and ``"outputs"``, a list of layer, step and values.

    Examples
    --------
    >>> facts = network_facts(nn.Sequential(nn.Flatten()), {"0": [-1]}, (1, 2, 2), torch.device("cpu"))
    >>> facts["class"], [round(value, 2) for value in facts["outputs"][0]["values"][:3]]
    ('torch.nn.modules.container.Sequential', [0.5, 0.77, 0.09])
    """
    images = torch.rand((_N_TEST, *shape), generator=torch.Generator().manual_seed(0)).to(device)
    with probing(model, images):
        outputs, _ = read_layers(model, tuple(steps), images, steps)
    random = random_layers(model, steps)
    return {
        "class": _class_of(model),
        "outputs": [
            {"layer": layer, "step": step, "values": _values(outputs.at(layer, step))}
            for layer, asked in steps.items()
            for step in asked
            if layer not in random
        ],
    }


def check_network(model: nn.Module, told: Mapping[str, Any], where: str) -> None:
    """Refuse a network that gives other outputs than those that a weight file describes, if it describes any.

    Raises
    ------
    BrainrdlError
        With the layer, by how much it differs, and both classes.

    Examples
    --------
    >>> facts = network_facts(nn.Sequential(nn.Sigmoid()), {"0": [-1]}, (1, 4, 4), torch.device("cpu"))
    >>> told = {"network": facts, "images": {"shape": (1, 4, 4), "transform": None}}
    >>> check_network(nn.Sequential(nn.ReLU()), told, "'w.safetensors'")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: 'w.safetensors' was trained in another network: with its weights, layer '0' ...
    """
    images, facts = stored_images(told), told.get("network")
    if images is None or not facts:
        return
    stored = {(old["layer"], old["step"]): torch.tensor(old["values"]) for old in facts["outputs"]}
    steps: dict[str, list[int]] = {}
    for layer, step in stored:
        steps.setdefault(layer, []).append(step)
    if not steps:
        return
    device = next((value.device for value in model.state_dict().values()), torch.device("cpu"))
    own = network_facts(model, steps, images.shape, device)
    for new in own["outputs"]:
        then, now = stored[new["layer"], new["step"]], torch.tensor(new["values"])
        change = float((now - then).norm() / then.norm().clamp_min(1e-30)) if now.shape == then.shape else 1.0
        if change > _TOLERANCE:
            classes = dict.fromkeys([facts["class"], own["class"]])
            refuse(
                f"{where} was trained in another network: with its weights, layer {new['layer']!r} gives outputs "
                f"that differ by {100 * change:.0f} % from those after the training, for the same images "
                f"({' and '.join(classes)}). Give the network that was trained (activations, strides and sizes count)"
            )


def _tuples(shape: Any) -> Any:
    """Make tuples of lists, also inside: the shape of several inputs, read from JSON, has lists."""
    return tuple(map(_tuples, shape)) if isinstance(shape, list | tuple) else shape


def _class_of(model: nn.Module) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _values(output: Tensor) -> list[float]:
    flat = (torch.view_as_real(output) if output.is_complex() else output).detach().flatten().float().cpu()
    places = torch.linspace(0, len(flat) - 1, min(len(flat), _N_VALUES)).long()
    return [float(f"{value:.6g}") for value in flat[places].nan_to_num().tolist()]
