"""Conversion of pixels to the tensor that a network expects: resize, crop, normalise."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_option, refuse
from brainrdl.stimuli.image_sources import pixels_of, set_channels, unit

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # torchvision's reference training

# Transforms


@dataclass(frozen=True)
class ImageTransform:
    """Resize the shorter side to `size`, crop the centre square, set the channels, normalise; deterministic.

    Square images are resized without cropping. The ``repr`` is stable and can be used as a cache key.

    Parameters
    ----------
    size : int
        Side of the result in pixels.
    mean, std : tuple of float
        Mean to subtract from values in [0, 1] and standard deviation to divide by, one per channel; empty for no
        normalisation.
    channels : int
        3 (grey is repeated) or 1 (RGB becomes luma, ITU-R 601).

    Examples
    --------
    >>> import torch
    >>> ImageTransform(8)(torch.zeros(2, 3, 16, 32)).shape
    torch.Size([2, 3, 8, 8])
    """

    size: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: int = 3

    def __call__(self, image: PILImage | Tensor) -> Float[Tensor, "*batch c size size"]:
        """Transform an image (PIL, or tensor (c, h, w)) or a batch (n, c, h, w), uint8 or float in [0, 1]."""
        return self.normalise(self.fit_size(image if isinstance(image, Tensor) else pixels_of(image)))

    def fit_size(self, x: Tensor) -> Tensor:
        """Resize and crop, and set the channels; pixels of the right shape are returned as they are."""
        if x.shape[-3:] == (self.channels, self.size, self.size):
            return x
        return _square(set_channels(unit(x), self.channels), self.size)

    def normalise(self, x: Tensor) -> Float[Tensor, "*batch c size size"]:
        """Convert pixels to float, and normalise them."""
        values = unit(x)
        if not self.mean:
            return values
        mean, std = _constants(self.mean, x.device), _constants(self.std, x.device)
        centred = values - mean if values is x else values.sub_(mean)
        return centred.div_(std)


def default_transform(
    size: int, normalise: str | tuple[Any, Any] = "imagenet", channels: int = 3
) -> Callable[..., Tensor]:
    """Return a transform that resizes images to a square of `size` pixels and normalises them.

    Parameters
    ----------
    size : int
        Side in pixels; the shorter side is resized (bilinear, antialiased) and the centre square is kept.
    normalise : str or pair
        ``"imagenet"`` (mean and standard deviation with which torchvision's networks were trained), ``"none"`` (values
        stay in [0, 1]) or a pair (mean, std), each a number or one number per channel, for values in [0, 1].
    channels : int
        3 for RGB, 1 for grey.

    Returns
    -------
    callable
        `ImageTransform`: image -> float tensor (channels, size, size).

    Raises
    ------
    BrainrdlError
        If `size` or `channels` is not possible, `normalise` is unknown, or a standard deviation is not positive.

    Examples
    --------
    >>> default_transform(224, "none")
    ImageTransform(size=224, mean=(), std=(), channels=3)
    >>> default_transform(28, (0.1307, 0.3081), channels=1)
    ImageTransform(size=28, mean=(0.1307,), std=(0.3081,), channels=1)
    """
    if size < 1:
        refuse(f"size must be at least 1 pixel, got {size}")
    if channels not in (1, 3):
        refuse(f"channels must be 1 (grey) or 3 (RGB), got {channels}")
    mean, std = _moments(normalise, channels)
    return ImageTransform(size, mean, std, channels)


def transform_text(transform: object) -> str | None:
    """Describe a transform by its ``repr`` without memory addresses, which is the same in every process.

    Parameters
    ----------
    transform : callable or None

    Returns
    -------
    str or None

    Examples
    --------
    >>> transform_text(default_transform(8, normalise="none")), transform_text(len), transform_text(None)
    ('ImageTransform(size=8, mean=(), std=(), channels=3)', '<built-in function len>', None)
    """
    return None if transform is None else re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(transform))


def _moments(normalise: str | tuple[Any, Any], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if isinstance(normalise, str):
        check_option(normalise, ("imagenet", "none"), "normalise")
        if normalise == "none":
            return (), ()
        normalise = _IMAGENET
        if channels != 3:
            refuse("normalise='imagenet' is for 3 channels; for grey images give a pair (mean, std) or 'none'")
    mean, std = (_per_channel(value, channels) for value in normalise)
    if min(std) <= 0:
        refuse(f"the std of normalise must be positive, got {std}")
    return mean, std


def _per_channel(value: Any, channels: int) -> tuple[float, ...]:
    values = tuple(float(v) for v in value) if isinstance(value, Iterable) else (float(value),) * channels
    if len(values) != channels:
        refuse(f"normalise needs 1 or {channels} numbers for {channels} channels, got {values}")
    return values


def _square(x: Tensor, size: int) -> Tensor:
    from torchvision.transforms.v2 import functional

    if x.shape[-2:] == (size, size):
        return x
    square: Tensor = functional.center_crop(functional.resize(x, [size], antialias=True), [size, size])
    return square


@cache  # on a GPU, each new constant would wait for the device
def _constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
