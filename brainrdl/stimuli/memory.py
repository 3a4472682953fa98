"""Images that were loaded once, kept in one tensor, so that a batch is one indexing operation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from brainrdl.stimuli.image_sources import unit

_FIRST = 64  # images to allocate memory for; doubled when they are exceeded


class Memory:
    """Images by position, in one tensor that grows.

    Examples
    --------
    >>> memory = Memory()
    >>> memory.add([7, 3], torch.tensor([[0.75], [0.25]]))
    >>> 3 in memory, memory.get([3, 7, 3]).flatten().tolist()
    (True, [0.25, 0.75, 0.25])
    """

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._images: Tensor | None = None

    def __contains__(self, position: object) -> bool:
        return position in self._rows

    def has(self, positions: Sequence[int]) -> bool:
        """Whether all of these images are known."""
        return all(map(self._rows.__contains__, positions))

    @property
    def shape(self) -> torch.Size | None:
        """Shape of an image, or None if there is none yet."""
        return None if self._images is None else self._images.shape[1:]

    def get(self, positions: Sequence[int]) -> Tensor:
        """Return a copy of the images at `positions`, in this order."""
        if self._images is None:
            raise KeyError(positions)
        rows = np.array(list(map(self._rows.__getitem__, positions)))  # torch.tensor(list) is slower
        return self._images.index_select(0, torch.from_numpy(rows))

    def add(self, positions: Sequence[int], images: Tensor) -> None:
        """Keep images of the same shape, at positions that are not known yet."""
        start, end = len(self._rows), len(self._rows) + len(images)
        if self._images is None:
            self._images = images.new_empty((max(end, _FIRST), *images.shape[1:]))
        if self._images.dtype != images.dtype:  # pixels as stored, and others that had to be resized
            self._images, images = unit(self._images), unit(images)
        if end > len(self._images):
            larger = self._images.new_empty((max(end, 2 * len(self._images)), *images.shape[1:]))
            larger[:start] = self._images[:start]
            self._images = larger
        self._images[start:end] = images
        self._rows.update(zip(positions, range(start, end), strict=True))
