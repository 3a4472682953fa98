"""Labelled images that can only be read one after another: iterable data sets, and archives such as WebDataset's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from brainrdl._core.errors import arg, check_text, check_unique, check_whole, nearest, quote, refuse
from brainrdl.stimuli.categories import plain_label
from brainrdl.stimuli.image_sources import Columns, pixels_of_item, with_columns
from brainrdl.stimuli.transforms import transform_text
from brainrdl.stimuli.views import View


class Item(NamedTuple):
    """An image of a stream: its position from 0, its pixels (c, h, w), and the number of its class if it has one."""

    position: int
    pixels: Tensor
    label: int | None


@dataclass(frozen=True, eq=False, repr=False)
class ImageStream:
    """Images of a task that can only be read in order, again from the start in each epoch.

    They have no names, so they can train a `Task`, but they cannot be the stimuli of an RDM.

    Parameters
    ----------
    dataset : iterable
        For example a ``torch.utils.data.IterableDataset``, a WebDataset, a HuggingFace ``IterableDataset``, or a
        ``DataLoader`` with ``batch_size=None`` (whose processes then decode the images). Items are images,
        (image, label), or mappings. Each ``iter(dataset)`` must start again; ``dataset.set_epoch(epoch)`` is called
        before, if there is such a method. Images are as in `Stimuli.from_dataset`.
    classes : sequence of str, optional
        Names of the classes; labels are these names, or positions in this list, which are also those of the logits
        (default: ``dataset.classes`` if it exists; otherwise labels must be whole numbers).
    columns : sequence of str, optional
        Of items that are mappings: the key of the image, and that of the label if there is one.
    buffer : int
        Number of images in memory from which the next one is drawn at random; 1 to keep the order of the stream.
    transform, augmentation : callable, optional
        As in `Stimuli.with_transform` and `Stimuli.with_augmentation`.

    Raises
    ------
    BrainrdlError
        If the data set cannot be iterated, or only once, or an option is wrong; while images are read, if one cannot be
        converted, or its label is not a class.

    Examples
    --------
    >>> import torch
    >>> stream = ImageStream([(torch.zeros(1, 4, 4), "ant"), (torch.ones(1, 4, 4), "cat")], classes=["cat", "ant"])
    >>> stream
    ImageStream(list, 2 classes)
    >>> [item.label for item in stream.items(epoch=0)]
    [1, 0]
    """

    dataset: Iterable[Any]
    classes: Sequence[str] | None = None
    columns: Sequence[str] | None = None
    buffer: int = 1000
    transform: Callable[..., Any] | None = None
    augmentation: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        kind = type(self.dataset).__name__
        if isinstance(self.dataset, Iterator):
            refuse(
                f"a {kind} can be read only once, but each epoch reads the stream again, and a resumed run reads it "
                "from the start; give an object whose __iter__ starts again, for example an IterableDataset"
            )
        if not hasattr(self.dataset, "__iter__"):
            refuse(f"a stream must be iterable, got {kind}; for a map-style data set: Stimuli.from_dataset")
        check_whole(self.buffer, "buffer", 1)
        check_unique(self.categories, "the classes")
        check_text(self.categories, "the classes")
        self.view(augmented=True)

    def __repr__(self) -> str:
        kinds = f"{len(self.categories)} classes" if self.categories else "numbered classes"
        return f"ImageStream({type(self.dataset).__name__}, {kinds})"

    @property
    def where(self) -> str:
        """The stream, as errors name it."""
        return f"the stream {type(self.dataset).__name__}"

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits; empty if they are not known."""
        found = self.classes if self.classes is not None else getattr(self.dataset, "classes", None)
        return tuple(found or ())

    def settings(self) -> dict[str, Any]:
        """Return what identifies the stream in the settings of a run; its images are compared when it is resumed."""
        views = {"transform": self.transform, "augmentation": self.augmentation}
        return {
            "dataset": type(self.dataset).__name__,
            "classes": self.categories,
            "columns": self.columns,
            "buffer": self.buffer,
            **{what: None if view is None else transform_text(view) for what, view in views.items()},
        }

    def view(self, augmented: bool) -> View:
        """Return how pixels become images, with or without the augmentation."""
        return View(self.transform, self.augmentation if augmented else None)

    def items(self, epoch: int) -> Iterator[Item]:
        """Yield all images in the order of the stream.

        Parameters
        ----------
        epoch : int
            Number of earlier readings in a run.

        Yields
        ------
        Item

        Raises
        ------
        BrainrdlError
            If an image cannot be converted, or a label is not a class.
        """
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)
        keys: tuple[str, str] | None = None
        for position, item in enumerate(self.dataset):
            where = f"item {position} of {self.where}"
            keys = self._keys(item) if position == 0 else keys
            image, label = _parts(item, keys, where)
            pixels = pixels_of_item(image, f"image of {where}")
            self._check_range(pixels, where)
            yield Item(position, pixels, self._number(label, where))

    def _check_range(self, pixels: Tensor, where: str) -> None:
        changed = self.transform is not None or self.augmentation is not None
        if changed and pixels.is_floating_point() and not 0 <= float(pixels.min()) <= float(pixels.max()) <= 1:
            refuse(
                f"transforms expect float images in [0, 1], but the values of {where} go from {float(pixels.min()):g} "
                f"to {float(pixels.max()):g}; rescale them, or transform them yourself and pass no transform"
            )

    def _keys(self, first: Any) -> tuple[str, str] | None:
        found = with_columns(self.dataset, first, self.columns, self.where)
        return (found.image, found.label) if isinstance(found, Columns) else None

    def _number(self, label: object, where: str) -> int | None:
        if label is None:
            return None
        plain, known = plain_label(label), self.categories
        if isinstance(plain, int):
            if plain < 0 or (known and plain >= len(known)):
                refuse(f"label {plain} of {where} is not a class: there are {len(known)} classes {quote(known)}")
            return plain
        if not known:
            refuse(f"label {plain!r} of {where} is a name; list all names in the order of the logits: {arg('classes')}")
        if plain not in known:
            refuse(f"label {plain!r} of {where} is not among the classes {quote(known)}{nearest(plain, known)}")
        return known.index(plain)


def _parts(item: Any, keys: tuple[str, str] | None, where: str) -> tuple[Any, Any]:
    """Return the image and the label of an item; None without a label."""
    if keys is not None:
        missing = [key for key in keys if key and key not in item]
        if missing:
            refuse(f"{where} has no {quote(missing)}, which the first item has; its keys are {quote(item)}")
        return item[keys[0]], item[keys[1]] if keys[1] else None
    if isinstance(item, Mapping) or not isinstance(item, tuple | list):
        return item, None
    if not 1 <= len(item) <= 2:
        refuse(f"{where} must be an image or (image, label), got {len(item)} values")
    return item[0], item[1] if len(item) > 1 else None
