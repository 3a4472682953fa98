"""Batches of a stream by step, on the device of the student."""

from __future__ import annotations

from collections.abc import Callable

import torch

from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.training.looks import to_device


class Loader:
    """Loads the batch of each step."""

    def __init__(
        self,
        stimuli: Stimuli,
        order: Callable[[int], tuple[str, ...]],
        *,
        seed: int = 0,
        augmented: bool = True,
        workers: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._stimuli, self._order, self._augmented, self._device = stimuli, order, augmented, torch.device(device)

    def at(self, step: int) -> Batch:
        """Return the batch of `step`."""
        return to_device(self._stimuli.batch(self._order(step), step, self._augmented), self._device)

    def close(self) -> None:
        """Stop loading ahead."""
