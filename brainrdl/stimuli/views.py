"""How stored pixels become the input of a network: steps for one image, and steps for a whole batch.

What can be done for a batch at once (conversion to float, normalisation) is left to the second part, so that a batch
is copied to a device as bytes. An augmentation draws the same random numbers for an image whenever and wherever its
batch is loaded: they follow from a seed, the step and the position in the batch. Torch, NumPy's global generator and
Python's `random` continue afterwards as if nothing had been drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl._core.random_numbers import numpy_and_python_from
from brainrdl.stimuli.augmentation import Augmentation
from brainrdl.stimuli.image_sources import set_channels, to_pil, unit
from brainrdl.stimuli.transforms import ImageTransform, transform_text

_SEEDS = 2**32  # a torch generator on the CPU and NumPy's global one use 32 bits of a seed


def seed_of_draw(seed: int, step: int) -> int:
    """Return the seed of what is drawn for the batch of `step`.

    Examples
    --------
    >>> seed_of_draw(0, 3) == seed_of_draw(0, 3), seed_of_draw(0, 3) == seed_of_draw(3, 0)
    (True, False)
    """
    return int.from_bytes(blake2b(f"{seed} {step}".encode(), digest_size=4).digest(), "big")


@dataclass(frozen=True)
class View:
    """A transform, and an augmentation that changes its pixels or replaces it.

    Parameters
    ----------
    transform : callable or None
        As in `Stimuli`.
    augmentation : Augmentation, callable or None
        An `Augmentation` changes pixels after they were resized and before they are normalised. Of another function,
        the result is the input of the network if it is a float tensor; pixels (uint8) pass through `transform` as well.

    Raises
    ------
    BrainrdlError
        If an `Augmentation` should change the colours of images that a function of the user made.

    Examples
    --------
    >>> view = View(ImageTransform(2, mean=(0.5,), std=(0.5,), channels=1), None)
    >>> view.together(view.each(torch.full((1, 2, 2), 255, dtype=torch.uint8), "a", 0)[None], 0).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    transform: Callable[..., Any] | None
    augmentation: Callable[..., Any] | None

    def __post_init__(self) -> None:
        colours = isinstance(self.augmentation, Augmentation) and self.augmentation.changes_colour
        if colours and _is_own(self.transform):
            refuse(
                "brightness and contrast of an Augmentation need pixels from 0 to 1, but the values that "
                f"{transform_text(self.transform)} returns are not known; use default_transform, or crop and flip only"
            )

    @property
    def random_function(self) -> Callable[..., Any] | None:
        """A function that changes one image at random, if there is one."""
        return None if isinstance(self.augmentation, Augmentation) else self.augmentation

    @property
    def batched(self) -> bool:
        """Whether no step needs a loop over images."""
        return self.random_function is None and not _is_own(self.transform)

    def seeds(self, draw: int, n: int) -> list[int]:
        """Return a seed for each of `n` images; zeros if nothing is drawn image by image."""
        if self.random_function is None:
            return [0] * n
        return torch.randint(_SEEDS, (n,), generator=torch.Generator().manual_seed(draw)).tolist()

    def each(self, pixels: Tensor, name: str, seed: int) -> Tensor:
        """Do the first steps for one image (c, h, w); or for a batch, if `batched`."""
        if self.random_function is not None:
            with drawing_from(seed):
                changed = self.random_function(_as_asked(self.random_function, pixels))
            if not isinstance(changed, Tensor) or changed.dtype != torch.uint8:
                return _check_transformed(changed, name)
            pixels = changed
        if self.transform is None:
            return pixels
        if isinstance(self.transform, ImageTransform):
            fitted = self.transform.fit_size(pixels)
            return self.transform.normalise(fitted) if self._complete(fitted) else fitted
        image = to_pil(pixels) if pixels.dtype == torch.uint8 else set_channels(unit(pixels), 3).clone()
        return _check_transformed(self.transform(image), name)

    def together(self, images: Tensor, draw: int) -> Tensor:
        """Do the other steps for a batch (n, c, h, w), with the random numbers of `seed_of_draw`."""
        changed = self.augmentation(images, draw) if isinstance(self.augmentation, Augmentation) else images
        if self._complete(changed):
            return changed
        return self.transform.normalise(changed) if isinstance(self.transform, ImageTransform) else unit(changed)

    def _complete(self, images: Tensor) -> bool:
        """Whether float images need no more steps, because a function of the user made them."""
        return images.is_floating_point() and not self.batched


def _is_own(transform: Callable[..., Any] | None) -> bool:
    return transform is not None and not isinstance(transform, ImageTransform)


def _as_asked(augmentation: Callable[..., Any], pixels: Tensor) -> Any:
    """Return pixels in the form that a function takes; copies, because it may change them in place."""
    if pixels.dtype != torch.uint8:
        return set_channels(unit(pixels), 3).clone()
    return set_channels(pixels, 3).clone() if _accepts_tensors(augmentation) else to_pil(pixels)


def _accepts_tensors(transform: object) -> bool:
    """Whether this is a transform of torchvision's version 2 that needs no PIL image."""
    from torchvision.transforms import v2

    if isinstance(transform, v2.Compose | v2.RandomOrder | v2.RandomApply | v2.RandomChoice | torch.nn.Sequential):
        steps = getattr(transform, "transforms", transform)
        return all(_accepts_tensors(step) for step in steps)
    return isinstance(transform, v2.Transform) and not isinstance(transform, v2.ToTensor | v2.PILToTensor)


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """During the block, the global generators of the CPU start from `seed`."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        with numpy_and_python_from(seed):
            yield
    finally:
        torch.set_rng_state(before)


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
