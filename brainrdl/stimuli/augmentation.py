"""Random changes of the images in training steps, for a whole batch at once, on the CPU or a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from brainrdl._core.errors import check_number, check_whole, refuse
from brainrdl.stimuli.image_sources import set_channels, unit


class Draws(NamedTuple):
    """Random numbers of an augmentation, one per image.

    Attributes
    ----------
    top, left : Tensor (n,), int64
        Upper left corner of the part that is kept of the padded image, in pixels.
    mirrored : Tensor (n,), bool
        Whether the image is mirrored.
    brightness, contrast : Tensor (n,), float32
        Factors.

    Examples
    --------
    >>> zeros, ones = torch.zeros(2, dtype=torch.int64), torch.ones(2)
    >>> Draws(zeros, zeros, torch.tensor([True, False]), ones, ones).mirrored.tolist()
    [True, False]
    """

    top: Int[Tensor, " n"]
    left: Int[Tensor, " n"]
    mirrored: Bool[Tensor, " n"]
    brightness: Float[Tensor, " n"]
    contrast: Float[Tensor, " n"]


@dataclass(frozen=True)
class Augmentation:
    """Random crops with padding, horizontal flips, brightness and contrast; each image has its own draw.

    Images are changed after they were resized and before they are normalised, as in torchvision's training of CIFAR
    and ImageNet. With a transform of your own, its result is changed. The ``repr`` is stable.

    Parameters
    ----------
    crop : int
        Pad the image by this number of black pixels (zeros) on each side, and cut out a part of the original size at
        random, as torchvision's ``RandomCrop(size, padding=crop)``.
    flip : bool
        Mirror half of the images, left to right.
    brightness, contrast : float
        Multiply the pixels, and their difference from the mean grey of the image, by factors that are drawn uniformly
        from 1 minus to 1 plus this value, as torchvision's ``ColorJitter``; 0 to 1.

    Raises
    ------
    BrainrdlError
        If a value is out of bounds, or nothing is changed.

    Examples
    --------
    >>> augment = Augmentation(crop=4, flip=True)
    >>> augment
    Augmentation(crop=4, flip=True, brightness=0.0, contrast=0.0)
    >>> images = torch.rand(2, 3, 32, 32)
    >>> torch.equal(augment(images, seed=1), augment(images, seed=1))
    True
    """

    crop: int = 0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        check_whole(self.crop, "crop", 0)
        for name in ("brightness", "contrast"):
            value = getattr(self, name)
            check_number(value, name, at_least=0)
            if value > 1:
                refuse(f"{name} must be at most 1, got {value!r}")
        if not isinstance(self.flip, bool):
            refuse(f"flip must be True or False, got {self.flip!r}")
        if not (self.crop or self.flip or self.changes_colour):
            refuse("the augmentation changes nothing; give crop, flip, brightness or contrast")

    @property
    def changes_colour(self) -> bool:
        """Whether values of pixels are changed, for which they must be from 0 to 1."""
        return bool(self.brightness or self.contrast)

    def draw(self, n: int, seed: int) -> Draws:
        """Draw the random numbers of a batch of `n` images; they depend only on `n` and `seed`."""
        drawn = torch.rand(5, n, generator=torch.Generator().manual_seed(seed))
        top, left = (drawn[:2] * (2 * self.crop + 1)).long().clamp(max=2 * self.crop)
        mirrored = (drawn[2] < 0.5) & self.flip
        brightness, contrast = (
            1 + width * (2 * row - 1) for width, row in zip((self.brightness, self.contrast), drawn[3:], strict=True)
        )
        return Draws(top, left, mirrored, brightness, contrast)

    def __call__(self, images: Float[Tensor, "n c h w"], seed: int) -> Float[Tensor, "n c h w"]:
        """Change a batch of images, uint8 or float; of brightness or contrast, the result is float32 in [0, 1].

        Parameters
        ----------
        images : Tensor, shape (n, c, h, w)
        seed : int
            From 0 to 2**32 - 1.

        Returns
        -------
        Tensor, shape (n, c, h, w)
            A new tensor on the same device.
        """
        drawn = Draws(*(numbers.to(images.device, non_blocking=True) for numbers in self.draw(len(images), seed)))
        moved = _cut(images, self.crop, drawn) if self.crop or self.flip else images
        return _coloured(moved, drawn) if self.changes_colour else moved


def _cut(images: Tensor, padding: int, drawn: Draws) -> Tensor:
    """Cut out and mirror parts of padded images, with one gather of their pixels."""
    *_, height, width = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    columns = torch.arange(width, device=images.device)
    columns = torch.where(drawn.mirrored[:, None], columns.flip(0), columns) + drawn.left[:, None]
    rows = torch.arange(height, device=images.device) + drawn.top[:, None]
    pixels = rows[:, :, None] * padded.shape[-1] + columns[:, None, :]
    chosen = pixels.view(len(images), 1, -1).expand(-1, images.shape[1], -1)
    return padded.flatten(2).gather(2, chosen).view(images.shape)


def _coloured(images: Tensor, drawn: Draws) -> Tensor:
    brightness, contrast = (factor[:, None, None, None] for factor in (drawn.brightness, drawn.contrast))
    brighter = (unit(images) * brightness).clamp_(0, 1)
    mean = set_channels(brighter, 1).mean((-3, -2, -1), keepdim=True)
    return brighter.sub_(mean).mul_(contrast).add_(mean).clamp_(0, 1)
