"""Batches in the order of training steps, loaded ahead of time by other processes.

A batch depends only on the seed, the step and the names of the step. It is bit-equal with any number of processes, and
after a run is resumed. Torch's global generator is not used.

Images are loaded in the training process if other processes would not help: if the pixels are in memory and all changes
are made for a whole batch, or if the stimuli keep the images that they loaded (`Stimuli.cached`). Sending such a batch
from another process takes longer than making it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from multiprocessing.util import Finalize
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from brainrdl._core.errors import BrainrdlError, arg, check_whole, refuse
from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.stimuli.views import View, seed_of_draw

Names = tuple[str, ...]

_AHEAD = 2  # batches that each process prepares

# A stopped run finishes its step, for which it needs the batch; torch ends the processes in another way.
_LEFT_TO_THE_RUN = ("SIGINT", "SIGTERM", "SIGHUP")


class Loader:
    """The batches of a training run; ``loader.at(step)`` is fastest for one step after another, from any step.

    Parameters
    ----------
    stimuli : Stimuli
        Images, and labels if there are any.
    order : callable
        Function from a step to the names of its batch; it must give the same names each time.
    seed : int
        Seed of the augmentation.
    augmented : bool
        Whether the augmentation of the stimuli, if there is one, is used.
    workers : int
        Number of processes that load images; 0 to load in this process.
    device : torch.device
        Device of the batches. Batches for a GPU are copied from pinned memory, without waiting.

    Raises
    ------
    BrainrdlError
        If `workers` is not a whole number, at least 0.

    Examples
    --------
    >>> stimuli = Stimuli.from_arrays(torch.rand(6, 1, 4, 4), list("abcdef"))
    >>> with Loader(stimuli, lambda step: ("a", "f"), seed=0, augmented=True, workers=0, device="cpu") as loader:
    ...     loader.at(3).names, loader.at(3).step
    (('a', 'f'), 3)
    """

    def __init__(
        self,
        stimuli: Stimuli,
        order: Callable[[int], Names],
        *,
        seed: int,
        augmented: bool,
        workers: int,
        device: torch.device | str,
    ) -> None:
        check_whole(workers, "workers", 0)
        self._stimuli, self._order, self._device = stimuli, order, torch.device(device)
        view = stimuli.view(augmented)
        self._images = _Images(stimuli, view, seed, whole=self._device.type == "cpu")
        self._ahead: _Ahead | None = None
        if workers and stimuli.needs_reading(view):
            self._ahead = _Ahead(self._images.for_process(), order, workers, pinned=self._device.type == "cuda")
            Finalize(self, self._ahead.close, exitpriority=1)  # otherwise Python would wait for the processes

    def at(self, step: int) -> Batch:
        """Return the batch of `step`, with images and labels on the device.

        Raises
        ------
        BrainrdlError
            If a name is unknown or occurs twice, an image cannot be loaded, or a loading process was ended.
        """
        if self._ahead is None:
            names = self._order(step)
            loaded = self._images[step, names]
        else:
            names, loaded = self._ahead.at(step)
        images = self._images.complete(moved(loaded, self._device), step)
        labels = self._stimuli.numbered_labels(names)
        return Batch(names, images, None if labels is None else moved(labels, self._device), step)

    def close(self) -> None:
        """End the loading processes; a later `at` starts them again."""
        if self._ahead is not None:
            self._ahead.close()

    def __enter__(self) -> Loader:
        """Return the loader; its processes are ended with the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the loading processes."""
        self.close()


def moved(x: Any, device: torch.device) -> Any:
    """Copy a batch to a device; to a GPU from pinned memory, without waiting."""
    if device.type == "cuda" and x.device.type == "cpu":
        return (x if x.is_pinned() else x.pin_memory()).to(device, non_blocking=True)
    return x.to(device)


class _Images:
    """Images of a step, as a function of the step and its names: a map-style data set for `DataLoader`."""

    def __init__(self, stimuli: Stimuli, view: View, seed: int, whole: bool) -> None:
        self._stimuli, self._view, self._seed, self._whole = stimuli, view, seed, whole

    def for_process(self) -> _Images:
        return _Images(self._stimuli.pixels_only(), self._view, self._seed, self._whole)

    def __getitem__(self, asked: tuple[int, Names]) -> Any:
        step, names = asked
        self._stimuli.check_batch(names)
        draw = self._draw(step)
        images = self._stimuli.load(names, self._view, draw)
        return self._finished(images, draw) if self._whole else images

    def complete(self, images: Any, step: int) -> Any:
        """Finish the images on the device."""
        return images if self._whole else self._finished(images, self._draw(step))

    def _draw(self, step: int) -> int:
        """Return the seed of what is drawn for a step; 0 if nothing is drawn."""
        return 0 if self._view.augmentation is None else seed_of_draw(self._seed, step)

    def _finished(self, images: Any, draw: int) -> Any:
        return self._view.together(images, draw) if self._stimuli.has_images else images


class _Ahead:
    """Images of steps, loaded by other processes while earlier ones are used."""

    def __init__(self, images: _Images, order: Callable[[int], Names], workers: int, pinned: bool) -> None:
        self._images, self._order, self._workers, self._pinned = images, order, workers, pinned
        self._steps = _Steps(order)
        self._loader: Any = None
        self._batches: Any = None  # torch's iterator, of which parts that we use are not public
        self._next = 0

    def at(self, step: int) -> tuple[Names, Tensor]:
        if self._batches is None or step != self._next:
            self._batches = self._restarted(step)
        try:
            loaded = next(self._batches)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            self.close()
            refuse(
                f"a process that loads images was ended ({' '.join(str(error).split())}); if the memory was exhausted, "
                f"use fewer processes with {arg('workers')}"
            )
        self._next = step + 1
        names = self._steps.asked.pop(step)
        if isinstance(loaded, BrainrdlError):
            raise loaded
        return names, loaded

    def _restarted(self, step: int) -> Any:
        self._steps.start = step
        self._steps.asked.clear()
        if self._loader is None:
            self._loader = torch.utils.data.DataLoader(
                _Answers(self._images),  # type: ignore[arg-type]
                batch_size=None,
                sampler=self._steps,
                num_workers=self._workers,
                collate_fn=_unchanged,
                pin_memory=self._pinned,
                worker_init_fn=_leave_signals,
                prefetch_factor=_AHEAD,
                persistent_workers=True,
                generator=torch.Generator(),
            )
        return iter(self._loader)

    def close(self) -> None:
        batches, self._batches, self._loader = self._batches, None, None
        if batches is not None:
            batches._shutdown_workers()
            for process in batches._workers:  # one that hangs, for example in a network drive
                process.kill()


class _Steps:
    """Steps and their names, from `start` on; without an end."""

    def __init__(self, order: Callable[[int], Names]) -> None:
        self._order, self.start, self.asked = order, 0, dict[int, Names]()

    def __iter__(self) -> Iterator[tuple[int, Names]]:
        step = self.start
        while True:
            self.asked[step] = self._order(step)
            yield step, self.asked[step]
            step += 1


class _Answers:
    """Images of a step, or the error that says why there are none: raised here, `DataLoader` would change its text."""

    def __init__(self, images: _Images) -> None:
        self._images = images

    def __getitem__(self, asked: tuple[int, Names]) -> Tensor | BrainrdlError:
        try:
            return self._images[asked]
        except BrainrdlError as error:
            return error


def _unchanged(loaded: Any) -> Any:
    return loaded


def _leave_signals(worker: int) -> None:
    for name in _LEFT_TO_THE_RUN:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
