"""How stored pixels become the input of a network: steps for one image, and steps for a whole batch.

What can be done for a batch at once (conversion to float, normalisation) is left to the second part, so that a batch
is copied to a device as bytes. An augmentation draws the same random numbers for an image whenever and wherever its
batch is loaded: they follow from a seed, the step and the position in the batch. Torch, NumPy's global generator and
Python's `random` continue afterwards as if nothing had been drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl.stimuli.image_sources import set_channels, to_pil, unit
from brainrdl.stimuli.transforms import ImageTransform

_SEEDS = 2**32  # a torch generator on the CPU and NumPy's global one use 32 bits of a seed


@dataclass(frozen=True)
class View:
    """A transform, with an augmentation before or in place of it.

    Parameters
    ----------
    transform : callable or None
        As in `Stimuli`.
    augmentation : callable or None
        Its result is the input of the network if it is a float tensor; pixels (uint8) pass through `transform` as well.

    Examples
    --------
    >>> view = View(ImageTransform(2, mean=(0.5,), std=(0.5,), channels=1), None)
    >>> view.together(view.each(torch.full((1, 2, 2), 255, dtype=torch.uint8), "a", 0)[None]).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    transform: Callable[..., Any] | None
    augmentation: Callable[..., Any] | None

    @property
    def batched(self) -> bool:
        """Whether no step needs a loop over images."""
        return self.augmentation is None and (self.transform is None or isinstance(self.transform, ImageTransform))

    def seeds(self, seed: int, step: int, n: int) -> list[int]:
        """Return a seed for each position of the batch of `step`; zeros if nothing is drawn."""
        if self.augmentation is None:
            return [0] * n
        mixed = blake2b(f"{seed} {step}".encode(), digest_size=4).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(mixed, "big"))
        return torch.randint(_SEEDS, (n,), generator=generator).tolist()

    def each(self, pixels: Tensor, name: str, seed: int) -> Tensor:
        """Do the steps for one image (c, h, w); or for a batch, if `batched`."""
        if self.augmentation is not None:
            with _drawing_from(seed):
                changed = self.augmentation(_as_asked(self.augmentation, pixels))
            if not isinstance(changed, Tensor) or changed.dtype != torch.uint8:
                return _check_transformed(changed, name)
            pixels = changed
        if self.transform is None:
            return pixels
        if isinstance(self.transform, ImageTransform):
            fitted = self.transform.fit_size(pixels)
            return self.transform.normalise(fitted) if self._complete(fitted) else fitted
        image = to_pil(pixels) if pixels.dtype == torch.uint8 else set_channels(unit(pixels), 3)
        return _check_transformed(self.transform(image), name)

    def together(self, images: Tensor) -> Tensor:
        """Do the steps for a batch (n, c, h, w)."""
        if self._complete(images):
            return images
        return self.transform.normalise(images) if isinstance(self.transform, ImageTransform) else unit(images)

    def _complete(self, images: Tensor) -> bool:
        """Whether float images need no more steps, because a function of the user made them."""
        return images.is_floating_point() and not self.batched


def _as_asked(augmentation: Callable[..., Any], pixels: Tensor) -> Any:
    if pixels.dtype != torch.uint8:
        return set_channels(unit(pixels), 3)
    return set_channels(pixels, 3) if _accepts_tensors(augmentation) else to_pil(pixels)


def _accepts_tensors(transform: object) -> bool:
    """Whether this is a transform of torchvision's version 2 that needs no PIL image."""
    from torchvision.transforms import v2

    if isinstance(transform, v2.Compose | v2.RandomOrder | v2.RandomApply | v2.RandomChoice | torch.nn.Sequential):
        steps = getattr(transform, "transforms", transform)
        return all(_accepts_tensors(step) for step in steps)
    return isinstance(transform, v2.Transform) and not isinstance(transform, v2.ToTensor | v2.PILToTensor)


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """During the block, the global generators of the CPU start from `seed`."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


def stack(images: Sequence[Tensor]) -> Tensor:
    """Stack images of one shape; as floats if some are floats."""
    if len({image.dtype for image in images}) > 1:
        images = [unit(image) for image in images]
    return torch.stack(list(images))


def _check_transformed(image: object, name: str) -> Tensor:
    if not isinstance(image, Tensor):
        refuse(f"transform must return a tensor (c, h, w), got {type(image).__name__} for image {name!r}")
    if image.ndim != 3 or not image.is_floating_point():
        shape = tuple(image.shape)
        refuse(f"transform must return a float tensor (c, h, w), got {image.dtype} {shape} for image {name!r}")
    return image
