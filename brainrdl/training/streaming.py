"""Batches of a stream of images: read in order, mixed in a buffer, and read again up to the place of a checkpoint.

A batch depends only on the seed, the step and the items of the stream. In each epoch the stream is read from its start.
Images that do not fill a batch at the end of an epoch are left out. Random numbers that the stream draws from the
global generators of torch, NumPy and Python follow from seed, epoch and batch, so that a resumed run draws the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from brainrdl._core.errors import arg, refuse
from brainrdl._core.files import digest_tensor, hash_words
from brainrdl.loss.pair_sampling import generator
from brainrdl.stimuli.image_sources import as_bytes
from brainrdl.stimuli.named_images import Batch, Stimuli, stacked
from brainrdl.stimuli.streams import ImageStream, Item
from brainrdl.stimuli.views import drawing_from, seed_of_draw
from brainrdl.training.distributed import differs
from brainrdl.training.loading import moved
from brainrdl.training.looks import batches_of

Place = dict[str, Any]  # step, epoch, number of the batch in the epoch, and digest of the batch

_CHUNK = 256  # images per forward pass of an evaluation


class _Read(NamedTuple):
    """The items of a batch: the one with this number in its epoch."""

    epoch: int
    number: int
    items: list[Item]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"item {item.position} of epoch {self.epoch}" for item in self.items)

    def digest(self) -> str:
        return hash_words(f"{item.position} {item.label} {digest_tensor(item.pixels)}" for item in self.items)


class StreamLoader:
    """The batches of a stream; ``loader.at(step)`` is fast for one step after another.

    Parameters
    ----------
    stream : ImageStream
    batch_size : int
        Images per step.
    seed : int
        Seed of the order and of the augmentation.
    device : torch.device or str
        Device of the batches.
    kept : mapping of SHA-256 to what the image is, optional
        Pixels of images that must stay new to the student.
    drop : bool
        Leave out images of `kept` instead of refusing the stream.

    Examples
    --------
    >>> stream = ImageStream([(torch.full((1, 2, 2), value / 5), value) for value in range(5)], buffer=1)
    >>> loader = StreamLoader(stream, 2, seed=0, device="cpu")
    >>> [loader.at(step).labels.tolist() for step in range(3)]
    [[0, 1], [2, 3], [0, 1]]
    """

    def __init__(
        self,
        stream: ImageStream,
        batch_size: int,
        *,
        seed: int,
        device: torch.device | str,
        kept: Mapping[str, str] | None = None,
        drop: bool = False,
    ) -> None:
        self._stream, self._size, self._seed, self._device = stream, batch_size, seed, torch.device(device)
        self._kept, self._drop = kept or {}, drop
        self.highest = -1  # number of a class that was read
        self._step, self._read = -1, _Read(0, -1, [])
        self._batches = self._from(epoch=0)

    def at(self, step: int) -> Batch:
        """Return the batch of `step`, augmented, on the device.

        Raises
        ------
        BrainrdlError
            If an item cannot be used, an image must stay new to the student, an epoch has too few items, or processes
            read different items.
        """
        return self._batch(step, augmented=True)

    def clean(self, step: int) -> Batch:
        """Return the batch of `step` without augmentation."""
        return self._batch(step, augmented=False)

    def _batch(self, step: int, augmented: bool) -> Batch:
        self._advance(step)
        read, view, draw = self._read, self._stream.view(augmented), seed_of_draw(self._seed, step)
        seeds = view.seeds(draw, self._size)
        with drawing_from(draw):
            each = [
                view.each(item.pixels, name, seed)
                for item, name, seed in zip(read.items, read.names, seeds, strict=True)
            ]
        images = view.together(moved(stacked(each, read.names), self._device), draw)
        return Batch(read.names, images, self._labels(read), step)

    def _labels(self, read: _Read) -> Tensor | None:
        labels = [item.label for item in read.items if item.label is not None]
        if not labels:
            return None
        if len(labels) < len(read.items):
            name = next(name for name, item in zip(read.names, read.items, strict=True) if item.label is None)
            refuse(f"{name} of {self._stream.where} has no label, but others of its batch have one; label all or none")
        return moved(torch.tensor(labels), self._device)

    def _advance(self, step: int) -> None:
        if step < self._step:
            self._step, self._batches = -1, self._from(epoch=0)
        while self._step < step:
            self._read = next(self._batches)
            self._step += 1

    def _from(self, epoch: int) -> Iterator[_Read]:
        """Yield the batches of this and all later epochs."""
        while True:
            items, number = self._mixed(epoch), 0
            while len(read := self._next(items, epoch, number)) == self._size:
                found = _Read(epoch, number, read)
                if number == 0 and differs(found.digest(), self._device):
                    refuse(
                        f"the processes read different items of {self._stream.where} in epoch {epoch}; each must read "
                        "all items in the same order (of which it passes its share through the network), so do not "
                        "divide the stream among them"
                    )
                yield found
                number += 1
            if number == 0:
                refuse(
                    f"{self._stream.where} gave {len(read)} items in epoch {epoch}, fewer than a batch of {self._size}"
                    f"; lower {arg('batch_size')} of the task, or check that the stream starts again with each iter()"
                )
            epoch += 1

    def _next(self, items: Iterator[Item], epoch: int, number: int) -> list[Item]:
        with drawing_from(seed_of_draw(seed_of_draw(self._seed, epoch), number)):
            read = list(islice(items, self._size))
        self.highest = max([self.highest, *(item.label for item in read if item.label is not None)])
        return read

    def _mixed(self, epoch: int) -> Iterator[Item]:
        """Yield each item once, from a buffer of the next ones; the draws follow from seed and epoch."""
        draws, waiting = generator(self._seed, epoch), list[Item]()
        for item in self._new(epoch):
            if len(waiting) < self._stream.buffer:
                waiting.append(item)
                continue
            drawn = int(torch.randint(len(waiting), (), generator=draws))
            yield waiting[drawn]
            waiting[drawn] = item
        for drawn in torch.randperm(len(waiting), generator=draws).tolist():
            yield waiting[drawn]

    def _new(self, epoch: int) -> Iterator[Item]:
        """Yield the items that are not images that must stay new to the student."""
        for item in self._stream.items(epoch):
            same = self._kept.get(digest_tensor(as_bytes(item.pixels))) if self._kept else None
            if same is None:
                yield item
            elif not self._drop:
                refuse(
                    f"item {item.position} of {self._stream.where} has the pixels of {same}, which must stay new to "
                    f"the student; leave it out of the stream, or set {arg('overlap', 'drop')} of the task"
                )

    def first_digest(self) -> str:
        """Return the digest of as many items as a batch has, from the start of the stream, to identify it."""
        with drawing_from(seed_of_draw(self._seed, 0)):
            return _Read(0, 0, list(islice(self._stream.items(0), self._size))).digest()

    def place(self) -> Place:
        """Return the place of the last batch, for a checkpoint."""
        read = self._read
        return {"step": self._step, "epoch": read.epoch, "number": read.number, "digest": read.digest()}

    def resume(self, place: Place) -> None:
        """Read the stream again up to a place of an earlier run.

        Raises
        ------
        BrainrdlError
            If the stream gives other items there.
        """
        self._batches = self._from(place["epoch"])
        for _ in range(place["number"] + 1):
            self._read = next(self._batches)
        self._step = place["step"]
        if self.place() != place:
            refuse(
                f"{self._stream.where} gives other items than in the run to resume: those of step {place['step']} "
                f"(batch {place['number']} of epoch {place['epoch']}) differ; give the same items in the same order, "
                f"or start again with {arg('overwrite', True)}"
            )

    def close(self) -> None:
        """Stop reading; a later `at` starts again."""
        self._step, self._batches = -1, self._from(epoch=0)


@dataclass
class PassingStream:
    """Images of a task that have no names, and images for validation that have.

    Parameters
    ----------
    stimuli : ImageStream
    loader : StreamLoader
    batch_size : int
    held_out : Stimuli or None
        Images for validation.
    """

    stimuli: ImageStream
    loader: StreamLoader
    batch_size: int
    held_out: Stimuli | None

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the classes; numbers up to the highest that was read, if there are no names."""
        return self.stimuli.categories or tuple(map(str, range(self.loader.highest + 1)))

    @property
    def augmented(self) -> bool:
        """Whether the images of a step are changed at random."""
        return self.stimuli.augmentation is not None

    @property
    def validation(self) -> tuple[str, ...]:
        """Names of the images for validation."""
        return () if self.held_out is None else self.held_out.names

    def names(self, step: int) -> tuple[str, ...]:
        """Describe the images of a step, which have no names until they are read."""
        return tuple(f"task image {i} of step {step}" for i in range(self.batch_size))

    def few(self, n: int) -> Batch:
        """Return the first `n` images of the first step, without augmentation."""
        return _part(self.loader.clean(0), slice(0, n))

    def shown(self, part: str, step: int, device: torch.device) -> Iterator[Batch]:
        """Return the images of an evaluation at `step`, of training or validation, without augmentation."""
        if part == "train":
            batch = self.loader.clean(step)
            return (_part(batch, slice(start, start + _CHUNK)) for start in range(0, self.batch_size, _CHUNK))
        return iter(()) if self.held_out is None else batches_of(self.held_out, self.validation, device, step)


def _part(batch: Batch, rows: slice) -> Batch:
    return Batch(
        batch.names[rows], batch.images[rows], None if batch.labels is None else batch.labels[rows], batch.step
    )
