"""Images by name, as tensors with categories: `Stimuli` and `Batch`.

A `Stimuli` set lists its names at once and loads an image only when it is requested. An image becomes

- without a transform: float32 in [0, 1]; files are RGB, arrays and data-set items keep their channels;
- with an `ImageTransform` (`default_transform`): the result of that transform, for whole batches if the pixels are in
  memory;
- with any other transform: its result for a single image. It is called with an RGB ``PIL.Image`` if the source has 8
  bits per channel (files, uint8 arrays), or with a float tensor (3, h, w) in [0, 1] if the source is float.

Files are read as an image viewer shows them: palettes and CMYK become RGB, EXIF orientation is applied, 16-bit grey is
scaled to 8 bits (not clipped), only the first frame of an animation is used, and transparency is composited over
mid-grey (0.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from brainrdl._core.errors import arg, check_conditions, check_text, check_unique, nearest, quote, refuse
from brainrdl._core.files import digest_tensor, nearest_in_folder
from brainrdl.rdms.naming import files_of
from brainrdl.stimuli.categories import Labels, Table, label_table
from brainrdl.stimuli.folders import list_images
from brainrdl.stimuli.image_sources import (
    Arrays,
    Files,
    Items,
    Source,
    as_bytes,
    attribute_of,
    channel_first,
    check_files,
    check_pixels,
    check_range,
    in_memory,
    label_reader,
    length_of,
    with_columns,
)
from brainrdl.stimuli.inputs import Rows, checked_inputs
from brainrdl.stimuli.memory import Memory
from brainrdl.stimuli.near_duplicates import Seen, fingerprints
from brainrdl.stimuli.transforms import ImageTransform
from brainrdl.stimuli.views import View, seed_of_draw, stack

_DRAWS = 10  # of one image, to detect random transforms: one that acts half the time is missed once in 512


@dataclass(frozen=True, eq=False)
class Batch:
    """The stimuli of one step, in the requested order.

    Parameters
    ----------
    names : tuple of str
        Condition names, one per image.
    images : Tensor, shape (n, c, h, w), or any other batch that the network takes
        Images, transformed; or, of `Stimuli.from_inputs`, a Tensor (n, ...) or `Inputs`.
    labels : Tensor, shape (n,), int64, or None
        Index of the category of each image in `Stimuli.categories`, or None if there are no labels.
    step : int
        Training step; teachers that draw subjects at random use it as a seed.

    Examples
    --------
    >>> Batch(("ann", "bob"), torch.zeros(2, 1, 8, 8)).step
    0
    """

    names: tuple[str, ...]
    images: Any
    labels: Int[Tensor, " n"] | None = None
    step: int = 0


# Stimuli


@dataclass(frozen=True, eq=False, repr=False)
class Stimuli:
    """Images by name, loaded when requested.

    Build it with `from_folder`, `from_arrays` or `from_dataset`. It never changes: each method returns a new set that
    shares the images.

    Attributes
    ----------
    names : tuple of str
        Names of the images, in order.
    transform : callable or None
        Function from an image to a float tensor (c, h, w); None only converts to float in [0, 1].
    augmentation : callable or None
        Transform of the images in the steps of training, which may draw at random; see `with_augmentation`.
    seen : Seen
        What was found about the images; shared by all selections of a set.

    Raises
    ------
    BrainrdlError
        When names are unknown, images cannot be loaded, or labels do not fit; see the methods.

    Examples
    --------
    >>> stimuli = Stimuli.from_arrays(torch.zeros(3, 1, 8, 8), ["ann", "bob", "cat"], labels=["face", "face", "pet"])
    >>> stimuli
    Stimuli(3 images of 3 arrays, 2 categories: 'ann', 'bob', 'cat')
    >>> stimuli.batch(["cat", "ann"]).labels
    tensor([1, 0])
    >>> stimuli.images(["bob"]).shape
    torch.Size([1, 1, 8, 8])
    """

    names: tuple[str, ...]
    transform: Callable[..., Any] | None
    _source: Source
    _positions: Mapping[str, int]
    _table: Table | None = None
    _digests: dict[int, tuple[Any, str]] = field(default_factory=dict)
    _memory: Memory | None = None
    augmentation: Callable[..., Any] | None = None
    seen: Seen = field(default_factory=Seen)

    @classmethod
    def from_folder(
        cls, path: str | Path, transform: Callable[..., Any] | None = None, labels: Labels | None = None
    ) -> Stimuli:
        """Make stimuli from the image files in a folder, named by file name without suffix, in alphabetical order.

        If the folder contains subfolders, each is a category, as for torchvision's ``ImageFolder``: the names are
        ``"subfolder/file"`` and the labels are the subfolders.

        Parameters
        ----------
        path : str or Path
            Folder of images, or of subfolders of images. Hidden files (".name") and the table given as `labels` are
            ignored; all other files must be images.
        transform : callable, optional
            Function from an image (RGB ``PIL.Image``) to a float tensor (c, h, w) (default: float RGB in [0, 1]).
        labels : mapping of name to category, str or Path, optional
            Categories, or the path of a CSV table with the columns ``stimulus`` and ``category``; by default the
            subfolders, if there are any.

        Returns
        -------
        Stimuli

        Raises
        ------
        BrainrdlError
            If the folder is missing or empty, contains files and folders, files that are not images, a truncated PNG or
            JPEG, or two files with the same name (a.png, a.jpg), or if the label table does not fit. Only the header
            and the last 4 KB of each file are checked here, of about 1,000 files if there are more than 20,000; other
            damage is refused when the image is loaded.
        """
        folder = Path(path)
        where = f"stimulus folder {str(folder)!r}"
        if not folder.is_dir():
            lost = f"{where} does not exist{nearest_in_folder(folder)}; check the path"
            refuse(lost if not folder.exists() else f"{where} is not a folder")
        table = Path(labels).resolve() if isinstance(labels, str | Path) else None
        found = list_images(folder, table, where)
        check_unique(found.paths.stems, where)
        check_files(found.paths, where)
        stimuli = cls._of(Files(found.paths, where), found.paths.stems, labels, transform)
        if found.classes is None or labels is not None:
            return stimuli
        return replace(stimuli, _table=Table(stimuli.names, lambda: found.numbers, found.classes))

    @classmethod
    def from_arrays(
        cls,
        images: npt.NDArray[Any] | Tensor,
        names: Sequence[str],
        labels: Labels | None = None,
        transform: Callable[..., Any] | None = None,
    ) -> Stimuli:
        """Make stimuli from pixels in memory.

        Parameters
        ----------
        images : array (n, h, w) or (n, h, w, c), or Tensor (n, h, w) or (n, c, h, w)
            Pixels, uint8, or float (in [0, 1] if a transform is used); not copied. There are one, three or four
            channels; the fourth is transparency, composited over mid-grey.
        names : sequence of str
            n unique names.
        labels : mapping of name to category, str, Path, or sequence, optional
            Categories by name, the path of a CSV table, or one category per image in order.
        transform : callable, optional
            As in `from_folder`; for float images it is called with a float tensor (3, h, w).

        Returns
        -------
        Stimuli

        Raises
        ------
        BrainrdlError
            If the images have another shape or type, a value is not finite, names are not n unique strings, or labels
            do not fit.
        """
        where = f"{len(names)} arrays"
        pixels = channel_first(images, "the image array")
        if len(pixels) != len(names):
            refuse(f"{len(names)} names for {len(pixels)} images; give one name per image")
        check_unique(_strings(names), "the names given")
        return cls._of(Arrays(check_pixels(pixels, "the image array"), where), names, labels, transform)

    @classmethod
    def from_inputs(
        cls, inputs: npt.NDArray[Any] | Tensor | Mapping[str, Any], names: Sequence[str], labels: Labels | None = None
    ) -> Stimuli:
        """Make stimuli from items as the network takes them: sounds, video clips, token ids, or several inputs.

        Parameters
        ----------
        inputs : array or Tensor, shape (n, ...), or mapping of str to these
            For example sounds (n, channels, time), clips (n, channels, frames, height, width) or token ids
            (n, length). They are not converted, so the type must be that of the network. With a mapping, the network is
            called with its tensors by keyword, for example ``network(tokens=..., mask=...)``.
        names : sequence of str
            n unique names.
        labels : mapping of name to category, str, Path, or sequence, optional
            As in `from_arrays`.

        Returns
        -------
        Stimuli
            Without transform and augmentation. Nearly identical items are not searched.

        Raises
        ------
        BrainrdlError
            If inputs are not tensors or arrays of numbers with n rows, a value is not finite, names are not n unique
            strings, or labels do not fit.

        Examples
        --------
        >>> tokens, mask = torch.tensor([[5, 7], [2, 0]]), torch.tensor([[True, True], [True, False]])
        >>> sentences = Stimuli.from_inputs({"tokens": tokens, "mask": mask}, ["good morning", "hello"])
        >>> sentences.batch(["hello"]).images.tensors["tokens"]
        tensor([[2, 0]])
        """
        check_unique(_strings(names), "the names given")
        return cls._of(Rows(checked_inputs(inputs, len(names)), f"{len(names)} items"), names, labels, None)

    @classmethod
    def from_dataset(
        cls,
        torch_dataset: Any,
        names: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Stimuli:
        """Make stimuli from a data set of (image, label) items, images or mappings; items are loaded when requested.

        A ``TensorDataset``, a torchvision data set with its pixels in ``.data`` (transform None or ``ToTensor``), and a
        ``Subset`` of these are indexed directly, without a loop over images.

        Parameters
        ----------
        torch_dataset : torch.utils.data.Dataset, or datasets.Dataset of HuggingFace
            Map-style data set. Labels are read from ``.targets``, ``.labels`` or the column of labels if it has them,
            otherwise from the items when labels are first used. A stream (``IterableDataset``) is refused, because it
            has no images by name.
        names : sequence of str, optional
            One name per item (default: the position, ``"00000"``, ``"00001"``, ...).
        classes : sequence of str, optional
            Names of the numbered classes, in order (default: ``torch_dataset.classes``, or the numbers). `categories`
            keeps this order, so that label i is logit i of a network trained on the data set.
        columns : sequence of str, optional
            Of items that are mappings: the key of the image, and the key of the label if there is one (default:
            "image" or "img", and "label" or similar).

        Returns
        -------
        Stimuli

        Raises
        ------
        BrainrdlError
            If the data set has no length or is empty, or names do not fit; or, when labels are first used, if a label
            has no class name.
        """
        where = f"data set {type(torch_dataset).__name__}"
        n = length_of(torch_dataset, where)
        first = torch_dataset[0]
        torch_dataset = with_columns(torch_dataset, first, columns, where)
        given = [f"{i:05d}" for i in range(n)] if names is None else names
        if len(given) != n:
            refuse(f"{len(given)} names for the {n} items of {where}; give one name per item")
        check_unique(_strings(given), "the names given")
        pixels = in_memory(torch_dataset)
        source = Items(torch_dataset, where) if pixels is None else Arrays(check_pixels(pixels, where), where)
        stimuli = cls._of(source, given, None, None)
        read = label_reader(torch_dataset, first)
        known = classes if classes is not None else attribute_of(torch_dataset, "classes")
        return stimuli if read is None else replace(stimuli, _table=Table(stimuli.names, read, known))

    @classmethod
    def _of(
        cls, source: Source, names: Sequence[str], labels: Labels | None, transform: Callable[..., Any] | None
    ) -> Stimuli:
        named = tuple(names)
        check_text(named, source.where)
        table = None if labels is None else label_table(labels, named, source.where)
        stimuli = cls(named, None, source, {name: i for i, name in enumerate(named)}, table)
        return stimuli if transform is None else stimuli.with_transform(transform)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    def __repr__(self) -> str:
        kinds = "" if self._table is None else f", {len(self.categories)} categories"
        some = ", ".join(map(repr, self.names[:3])) + (", ..." if len(self) > 3 else "")
        what = "images" if self.has_images else "inputs"
        return f"Stimuli({len(self)} {what} of {self._source.where}{kinds}: {some})"

    @cached_property
    def labels(self) -> dict[str, str] | None:
        """Category of each name, or None if there are no labels."""
        return None if self._table is None else {name: self._table.of[name] for name in self.names}

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories of the full set, which `select` keeps: sorted, or in the order of the classes of a data set."""
        return () if self._table is None else self._table.categories

    def select(self, names: Iterable[str]) -> Stimuli:
        """Keep `names`, in the requested order.

        Raises
        ------
        BrainrdlError
            If a name is unknown (the message gives the nearest) or occurs twice, or no name is given.

        Examples
        --------
        >>> Stimuli.from_arrays(torch.zeros(3, 1, 2, 2), ["a", "b", "c"]).select(["c", "a"]).names
        ('c', 'a')
        """
        asked = self._asked(names)
        check_unique(asked, "the requested names")
        return replace(self, names=asked, _positions={name: self._positions[name] for name in asked})

    def drop(self, names: Iterable[str]) -> Stimuli:
        """Leave out `names`.

        Raises
        ------
        BrainrdlError
            If a name is unknown (the message gives the nearest), or no image is left.

        Examples
        --------
        >>> Stimuli.from_arrays(torch.zeros(3, 1, 2, 2), ["a", "b", "c"]).drop(["b"]).names
        ('a', 'c')
        """
        left_out = frozenset(self._known(names))
        return self.select(name for name in self.names if name not in left_out)

    def images(self, names: Iterable[str] | None = None) -> Any:
        """Load the images of `names` (default: all) in the requested order, and transform them.

        Returns
        -------
        Tensor (n, c, h, w), or what the network takes
            Float32 unless the transform returns another type; in [0, 1] without a transform. Of `from_inputs`, a Tensor
            (n, ...) or `Inputs`.

        Raises
        ------
        BrainrdlError
            If a name is unknown, a file is missing or damaged, the transform does not return a tensor (c, h, w), or the
            images differ in size.
        """
        return self._shown(self._asked(self.names if names is None else names), View(self.transform, None))

    def batch(self, names: Iterable[str], step: int = 0, augmented: bool = False, seed: int = 0) -> Batch:
        """Load the images of `names` with their labels as indices into `categories`, for training step `step`.

        With `augmented`, images are changed by the augmentation, if there is one. Its random numbers follow from
        `seed`, `step` and the position in the batch alone.

        Raises
        ------
        BrainrdlError
            If `images` would refuse the names, or a name occurs twice.
        """
        asked = self.check_batch(names)
        images = self._shown(asked, self.view(augmented), seed_of_draw(seed, step))
        return Batch(asked, images, self.numbered_labels(asked), step)

    def check_batch(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return `names` as a tuple if they can be one batch.

        Raises
        ------
        BrainrdlError
            If a name is unknown or occurs twice, or there is none.
        """
        asked = self._asked(names)
        check_unique(asked, "the batch")
        return asked

    def view(self, augmented: bool) -> View:
        """Return how stored pixels become images, with or without the augmentation."""
        return View(self.transform, self.augmentation if augmented else None)

    def numbered_labels(self, names: Sequence[str]) -> Int[Tensor, " n"] | None:
        """Return the index of the category of each name in `categories`, or None if there are no labels."""
        return None if self._table is None else torch.tensor([self._table.index[name] for name in names])

    def load(self, names: Sequence[str], view: View, draw: int = 0) -> Any:
        """Load images and do the steps of `view` for single images; ``view.together`` does the others.

        Parameters
        ----------
        names : sequence of str
            Images; at least one.
        view : View
            From `view`.
        draw : int
            From `seed_of_draw`.

        Returns
        -------
        Tensor (n, c, h, w)

        Raises
        ------
        BrainrdlError
            As in `images`.
        """
        if isinstance(self._source, Rows):
            return self._source.stack([self._positions[name] for name in names])
        if self._memory is None or view.random_function is not None:
            return self._load(names, view, view.seeds(draw, len(names)))
        positions = list(map(self._positions.__getitem__, names))
        if not self._memory.has(positions):
            missing = {place: name for place, name in zip(positions, names, strict=True) if place not in self._memory}
            images, known = self._load(tuple(missing.values()), view, [0] * len(missing)), self._memory.shape
            if known not in (None, images.shape[1:]):
                _refuse_sizes("an image loaded before", known, repr(next(iter(missing.values()))), images.shape[1:])
            self._memory.add(tuple(missing), images)
        return self._memory.get(positions)

    def needs_reading(self, view: View) -> bool:
        """Whether a batch needs a loop over images: to read files or items, or to call a function for each image."""
        kept = self._memory is not None and view.random_function is None
        return not (kept or isinstance(self._source, Rows) or (isinstance(self._source, Arrays) and view.batched))

    def pixels_only(self) -> Stimuli:
        """Return the same images without labels and without what was found about them, to send to a process."""
        return replace(self, _table=None, _digests={}, seen=Seen(), _memory=None)

    def _shown(self, names: Sequence[str], view: View, draw: int = 0) -> Any:
        loaded = self.load(names, view, draw)
        return view.together(loaded, draw) if self.has_images else loaded

    @property
    def has_images(self) -> bool:
        """Whether the items are images, not other inputs of a network."""
        return not isinstance(self._source, Rows)

    def digests(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """Return the SHA-256 (hex) of the raw images of `names` (default: all): of file bytes, or of pixels.

        The hash of pixels includes their type and shape. Hashes are computed once per image and process,
        and again if the size or the time of a file has changed. They do not
        depend on the transform, so a cache key also needs its ``repr``.

        In a set of more than 20,000 files, a file is identified by its name, size and time of change; in a data set of
        more than 20,000 items, an item is identified by its position and the pixels of 64 items: to read all of them
        would take too long. Of such sets, byte-identical images are not found.

        Raises
        ------
        BrainrdlError
            If a file is missing, or a name is unknown.
        """
        asked = self.names if names is None else self._known(names)
        for position in (self._positions[name] for name in asked):
            state = self._source.state(position) if isinstance(self._source, Files) else None
            if position not in self._digests or self._digests[position][0] != state:
                self._digests[position] = state, self._source.digest(position)
        return {name: self._digests[self._positions[name]][1] for name in asked}

    def fingerprints(self) -> Float[Tensor, "n 32 32"]:
        """Return the fingerprint of each raw image, for `similar_images`; computed once per image and process.

        Raises
        ------
        BrainrdlError
            If an image cannot be read.
        """
        places = [self._positions[name] for name in self.names]
        known = self.seen.prints
        missing = [place for place in dict.fromkeys(places) if place not in known]
        if missing:
            found = fingerprints(self._source.pixels(place) for place in missing)
            known.update(zip(missing, found, strict=True))
        return torch.stack([known[place] for place in places])

    def pixel_digests(self, names: Iterable[str]) -> dict[str, str]:
        """Return the SHA-256 (hex) of the decoded pixels of `names`, as `as_bytes`, also of images that are files.

        Raises
        ------
        BrainrdlError
            If an image cannot be read, or a name is unknown.

        Examples
        --------
        >>> stimuli = Stimuli.from_arrays(torch.zeros(2, 1, 4, 4), ["a", "b"])
        >>> len(set(stimuli.pixel_digests(["a", "b"]).values()))
        1
        """
        return {
            name: digest_tensor(as_bytes(self._source.pixels(self._positions[name]))) for name in self._known(names)
        }

    def with_transform(self, transform: Callable[..., Any] | None) -> Stimuli:
        """Keep the images with another transform (None: only convert to float in [0, 1]).

        A run is resumed only with the same transform and augmentation: their code and, of an object, its public
        attributes. Attributes whose names begin with an underscore are not compared.

        Raises
        ------
        BrainrdlError
            If `transform` is not callable, or the images are floats outside [0, 1], which a transform would misread.
        """
        if transform is not None and not callable(transform):
            refuse(f"transform must be callable or None, got {transform!r}")
        if transform is not None:
            if not self.has_images:
                refuse(f"a transform changes images, but {self._source.where} are not images; change them before")
            check_range(self._source)
        View(transform, self.augmentation)
        return replace(self, transform=transform, _memory=None if self._memory is None else Memory())

    def with_augmentation(self, augmentation: Callable[..., Any] | None) -> Stimuli:
        """Set another transform for the steps of training, for example one that crops and flips at random.

        All other images (looks during training, calibration, evaluation, teachers with their own stimuli) are those of
        `transform`, so that two evaluations of one student are equal.

        Parameters
        ----------
        augmentation : Augmentation, callable or None
            An `Augmentation` (random crops, flips, brightness and contrast) changes a whole batch at once, after the
            images were resized and before they are normalised. A random transform of torchvision's version 2 is called
            for each image with a tensor (3, h, w), uint8 or float in [0, 1]; any other function as a transform would be
            (``PIL.Image``, or float tensor). If the result is uint8, it passes through `transform`; a float tensor is
            the input of the network as it is, so it must be normalised already.

            Torch, NumPy and Python's `random` are seeded for each image by the seed and step of `batch` and the
            position in the batch.

        Raises
        ------
        BrainrdlError
            As in `with_transform`; or if brightness or contrast should change what a transform of your own returns.

        Examples
        --------
        >>> stimuli = Stimuli.from_arrays(torch.zeros(2, 1, 4, 4), ["a", "b"])
        >>> noisy = stimuli.with_augmentation(lambda image: image + torch.rand(1))
        >>> bool(noisy.images().any()), bool(noisy.batch(["a"], augmented=True).images.any())
        (False, True)
        """
        checked = self.with_transform(augmentation).transform
        return replace(self, augmentation=View(self.transform, checked).augmentation)

    def with_labels(self, labels: Labels) -> Stimuli:
        """Set the categories: a mapping of name to category, a CSV table, or one category per image in order.

        Raises
        ------
        BrainrdlError
            If a stimulus has no label, a label has no stimulus, or the table cannot be read.
        """
        return replace(self, _table=label_table(labels, self.names, self._source.where))

    def with_classes(self, classes: Sequence[str]) -> Stimuli:
        """Keep the images with categories in this order, which may include categories without an image.

        Raises
        ------
        BrainrdlError
            If there are no labels; when they are first used, if one is not among the classes.

        Examples
        --------
        >>> stimuli = Stimuli.from_arrays(torch.zeros(2, 1, 4, 4), ["a", "b"], labels=["cat", "ant"])
        >>> stimuli.with_classes(["cat", "bee", "ant"]).batch(["a", "b"]).labels
        tensor([0, 2])
        """
        if self._table is None:
            refuse(f"the images of {self._source.where} have no labels; give {arg('labels')}")
        labels = self._table.of
        return replace(self, _table=Table(tuple(labels), lambda: tuple(labels.values()), tuple(classes)))

    def align(self, condition_names: Sequence[str], allow_missing: bool = False) -> Stimuli:
        """Put the stimuli in the order of the conditions of an RDM.

        Conditions may have the names of the image files (``stimuli/face.png`` for the stimulus ``face``), if all of
        them do and no two files have the same name. The stimuli then get these names.

        Parameters
        ----------
        condition_names : sequence of str
            Names of the conditions of the RDM.
        allow_missing : bool
            If the two sets of names differ, keep the common names instead of refusing.

        Raises
        ------
        BrainrdlError
            If the sets of names differ (unless `allow_missing`) or have no name in common; the message gives missing
            and nearest names.

        Examples
        --------
        >>> stimuli = Stimuli.from_arrays(torch.zeros(3, 1, 2, 2), ["ann", "bob", "cat"])
        >>> stimuli.align(["cat", "ann", "bob"]).names
        ('cat', 'ann', 'bob')
        >>> stimuli.align(["cat.png", "ann.png", "bob.png"]).names
        ('cat.png', 'ann.png', 'bob.png')
        """
        from brainrdl.rdms.by_name import alignment

        conditions = tuple(condition_names)
        named = self.named_as(conditions)
        if named is not self:
            return named.align(conditions, allow_missing)
        found = alignment(self.names, conditions)
        if (found.only_stimuli or found.only_rdms) and not allow_missing:
            close = nearest(found.only_rdms[0], found.only_stimuli) if found.only_rdms else ""
            refuse(
                f"stimuli and RDM conditions do not match: {found}{close}; rename them, or pass "
                f"{arg('allow_missing', True)}"
            )
        if not found.common:
            refuse(f"stimuli and RDM conditions have no name in common: {found}")
        return self.select(name for name in conditions if name in self)

    def named_as(self, conditions: Sequence[str]) -> Stimuli:
        """Give stimuli the names of the conditions that are named by their image files, as in `align`.

        Parameters
        ----------
        conditions : sequence of str
            Names of the conditions of an RDM.

        Returns
        -------
        Stimuli
            In the same order; unchanged if a condition has the name of a stimulus, or not all are image files.

        Examples
        --------
        >>> Stimuli.from_arrays(torch.zeros(2, 1, 2, 2), ["ann", "bob"]).named_as(["cat.png", "bob.png"]).names
        ('ann', 'bob.png')
        """
        files = files_of(self.names, conditions)
        return self._renamed(files) if files else self

    def _renamed(self, new: Mapping[str, str]) -> Stimuli:
        """Give stimuli other names."""
        names = tuple(new.get(name, name) for name in self.names)
        positions = {new.get(name, name): self._positions[name] for name in self.names}
        labels = self.labels
        table = None if labels is None else Table(names, lambda: tuple(labels.values()), self.categories)
        return replace(self, names=names, _positions=positions, _table=table, seen=Seen())

    @property
    def deterministic(self) -> bool:
        """Whether an image is certainly the same each time it is loaded: no custom transform, or cached."""
        return self._memory is not None or self.transform is None or isinstance(self.transform, ImageTransform)

    def cached(self) -> Stimuli:
        """Keep each image in memory once it has been loaded and transformed.

        Raises
        ------
        BrainrdlError
            If the transform is random, because the cache would repeat the first result.
        """
        self.check_repeatable()
        return replace(self, _memory=Memory())

    def check_repeatable(self) -> None:
        """Refuse images that differ each time they are loaded: a cache or a score would depend on a random draw.

        Raises
        ------
        BrainrdlError
            If the transform, or the data set itself, is random.

        Examples
        --------
        >>> Stimuli.from_arrays(torch.zeros(2, 1, 4, 4), ["a", "b"]).check_repeatable()
        """
        if not self._repeatable:
            refuse(
                f"transform returns a different image each time ({self._source.where}); a cache, a look, a score and a "
                "teacher need a deterministic transform. Give random crops and flips for training with "
                "stimuli.with_augmentation(...)"
            )

    @cached_property
    def _repeatable(self) -> bool:
        plain = self.transform is None or isinstance(self.transform, ImageTransform)
        if self._memory is not None or (plain and not isinstance(self._source, Items)):
            return True
        with torch.random.fork_rng(devices=[]):
            view = View(self.transform, None)
            first, *others = (self._load(self.names[:1], view, [0]) for _ in range(_DRAWS))
        return all(first.shape == other.shape and torch.equal(first, other) for other in others)

    def _known(self, names: Iterable[str]) -> tuple[str, ...]:
        if isinstance(names, str):
            refuse(f"names must be a list of names, got the single string {names!r}; write [{names!r}]")
        asked = tuple(names)
        if not all(map(self._positions.__contains__, asked)):
            check_conditions(asked, self._positions, f"the stimuli of {self._source.where}")
        return asked

    def _asked(self, names: Iterable[str]) -> tuple[str, ...]:
        asked = self._known(names)
        if not asked:
            refuse(f"no names were requested of the {len(self)} stimuli of {self._source.where}")
        return asked

    def _load(self, names: Sequence[str], view: View, seeds: Sequence[int]) -> Tensor:
        positions = [self._positions[name] for name in names]
        if isinstance(self._source, Arrays) and view.batched:
            return view.each(self._source.stack(positions), names[0], 0)
        images = [
            view.each(self._source.pixels(place), name, seed)
            for place, name, seed in zip(positions, names, seeds, strict=True)
        ]
        return stacked(images, names)


def stacked(images: Sequence[Tensor], names: Sequence[str]) -> Tensor:
    """Stack images of one size; refuse others by name."""
    first = images[0].shape
    for name, image in zip(names, images, strict=True):
        if image.shape != first:
            _refuse_sizes(repr(names[0]), first, repr(name), image.shape)
    return stack(images)


def _refuse_sizes(one: str, first: Sequence[int], other: str, second: Sequence[int]) -> NoReturn:
    refuse(
        f"images differ in size: {one} is {tuple(first)}, {other} is {tuple(second)} (c, h, w); give a transform that "
        f"resizes, for example {arg('size', 224, python='default_transform(224)')}"
    )


def _strings(names: Sequence[object]) -> list[str]:
    others = [name for name in names if not isinstance(name, str)]
    if others:
        refuse(f"names must be strings, got {quote(others)}; write them as text, for example f'{{i:03d}}'")
    return [str(name) for name in names]
