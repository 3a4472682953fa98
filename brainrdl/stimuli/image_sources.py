"""Pixels of stimuli from image files, arrays or items of a torch data set, as tensors (c, h, w)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from brainrdl._core.errors import about, arg, check_option, quote, refuse
from brainrdl._core.files import digest_file, digest_tensor, hash_words
from brainrdl._core.given_values import as_numbers
from brainrdl._core.tensor_checks import check_finite

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
_GREY = 128  # 0.5 in 8 bits: the background of transparent images

_CHANNELS = (1, 3, 4)

# A truncated PNG or JPEG lacks this marker; image data cannot contain it (JPEG writes a zero after 0xFF).
# What is opened, whatever the name of a file says: for other formats Pillow may start programs (EPS: Ghostscript).
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")

_END_MARKER = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}

_IMAGE_COLUMNS, _LABEL_COLUMNS = ("image", "img", "images"), ("label", "labels", "target", "fine_label", "class")

_TAIL = 4096

MANY = 20_000  # images; of more, some are opened when a set is made, and files are identified without reading them

_OPENED, _SAMPLED = 1000, 64

# Pixels


def unit(x: Tensor) -> Tensor:
    """Convert pixels to float32: 8-bit values to [0, 1]; float values are kept."""
    if x.dtype != torch.uint8:
        return x.to(torch.float32)
    return x.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def as_bytes(pixels: Tensor) -> Tensor:
    """Return floats in [0, 1] as the bytes that they were, so that one photograph has one digest; others unchanged."""
    inside = pixels.is_floating_point() and bool(pixels.numel()) and pixels.min() >= 0 and pixels.max() <= 1
    return (pixels * 255).round().to(torch.uint8) if inside else pixels


def pixels_of(image: PILImage) -> Tensor:
    """Return 8-bit pixels (c, h, w) of a PIL image: one channel if it is grey, otherwise RGB."""
    eight_bit = image if image.mode == "L" and not image.has_transparency_data else _rgb(image)
    array = np.array(eight_bit)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def _rgb(image: PILImage) -> PILImage:
    from PIL import Image

    if image.mode.startswith("I"):
        image = _eight_bit(image)
    if image.mode == "F":
        refuse("the image has 32-bit floats, whose range is not known; save it with 8 or 16 bits per channel")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    background = Image.new("RGBA", rgba.size, (_GREY, _GREY, _GREY, 255))
    return Image.alpha_composite(background, rgba).convert("RGB")


def _eight_bit(image: PILImage) -> PILImage:
    """Scale 16-bit grey to 8 bits; Pillow's conversion would clip everything above 255 to white."""
    from PIL import Image

    values = np.asarray(image, dtype=np.int64)
    if values.min() < 0 or values.max() > 65535:
        refuse(f"the image has integers from {values.min()} to {values.max()}; save it with 8 or 16 bits per channel")
    return Image.fromarray(np.round(values / 257).astype(np.uint8))


def to_pil(pixels: Tensor) -> PILImage:
    from PIL import Image

    return Image.fromarray(set_channels(pixels, 3).permute(1, 2, 0).cpu().numpy())


def _flatten_alpha(x: Tensor) -> Tensor:
    """Composite a fourth channel over mid-grey, as in files."""
    if x.shape[-3] != 4:
        return x
    values = unit(x)
    colour, alpha = values[..., :3, :, :], values[..., 3:, :, :]
    flat = colour * alpha + (1 - alpha) * (_GREY / 255)
    return flat.mul(255).round().to(torch.uint8) if x.dtype == torch.uint8 else flat


def _tensor_of(array: npt.NDArray[Any]) -> Tensor:
    if array.dtype.kind not in "biuf":
        refuse(f"images must be an array of numbers, got dtype {array.dtype}")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    with warnings.catch_warnings():  # torch warns that a read-only array could be written to; nothing here writes
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array))


def channel_first(images: npt.NDArray[Any] | Tensor, where: str) -> Tensor:
    """Return pixels (n, c, h, w) of arrays (n, h, w[, c]) or tensors (n[, c], h, w)."""
    if not isinstance(images, Tensor | np.ndarray) or isinstance(images, np.ma.MaskedArray):
        images = as_numbers(images, where)
    if images.ndim not in (3, 4):
        refuse(f"{where} must be (n, h, w), array (n, h, w, c) or tensor (n, c, h, w), got shape {_shape(images)}")
    x = images if isinstance(images, Tensor) else _tensor_of(images)
    if x.ndim == 3:
        return x[:, None]
    x = x if isinstance(images, Tensor) else x.permute(0, 3, 1, 2)
    if x.shape[1] not in _CHANNELS:
        refuse(
            f"{where} must have 1, 3 or 4 channels, got {x.shape[1]} from shape {_shape(images)};"
            " arrays are (n, h, w, c), tensors (n, c, h, w)"
        )
    return x


def check_pixels(x: Tensor, where: str) -> Tensor:
    if 0 in x.shape:
        refuse(f"{where} is empty: shape {tuple(x.shape)}")
    if x.dtype != torch.uint8 and not x.is_floating_point():
        refuse(f"{where} must be uint8 (0 to 255) or float, got {x.dtype}; divide by the largest value to get floats")
    if x.is_floating_point():
        check_finite(x, where)
    return _flatten_alpha(x)


def _shape(x: npt.NDArray[Any] | Tensor) -> tuple[int, ...]:
    return tuple(x.shape)


def set_channels(x: Tensor, channels: int) -> Tensor:
    from torchvision.transforms.v2 import functional

    if x.shape[-3] == channels:
        return x
    if channels == 1:
        grey: Tensor = functional.rgb_to_grayscale(x)
        return grey
    return x.expand(*x.shape[:-3], channels, *x.shape[-2:])


# Sources: position -> pixels


@runtime_checkable
class Source(Protocol):
    @property
    def where(self) -> str: ...

    def pixels(self, position: int) -> Tensor: ...

    def digest(self, position: int) -> str: ...


@dataclass(frozen=True, eq=False)
class Files:
    paths: Sequence[Path]
    where: str

    def pixels(self, position: int) -> Tensor:
        image = _decode(self.paths[position], self.where)
        with about(f"image {self.paths[position].name!r} in {self.where}"):
            return pixels_of(_rgb(image))

    def digest(self, position: int) -> str:
        path, state = self.paths[position], self.state(position)
        if len(self.paths) <= MANY:
            return digest_file(path)
        return hash_words([f"{path.parent.name}/{path.name}", *map(str, state)])

    def state(self, position: int) -> tuple[int, int]:
        """Size and time of change of a file."""
        try:
            known = self.paths[position].stat()
        except FileNotFoundError:
            refuse(_gone(self.paths[position], self.where))
        return known.st_size, known.st_mtime_ns


@dataclass(frozen=True, eq=False)
class Arrays:
    images: Tensor
    where: str

    def pixels(self, position: int) -> Tensor:
        return self.images[position]

    def stack(self, positions: Sequence[int]) -> Tensor:
        chosen = torch.tensor(positions, device=self.images.device)
        if self.images.is_contiguous():
            return self.images.index_select(0, chosen)
        last = self.images.permute(0, 2, 3, 1)  # arrays (n, h, w, c); indexed in their own order, which is fast
        return last.index_select(0, chosen).permute(0, 3, 1, 2)

    def digest(self, position: int) -> str:
        return digest_tensor(self.images[position])


@dataclass(frozen=True, eq=False)
class Items:
    dataset: Any
    where: str

    def pixels(self, position: int) -> Tensor:
        return pixels_of_item(_image_of(self.dataset[position]), f"image of item {position} of {self.where}")

    def digest(self, position: int) -> str:
        if len(self.dataset) > MANY:
            return hash_words([self._sampled, str(position)])
        return digest_tensor(self.pixels(position))

    @cached_property
    def _sampled(self) -> str:
        """Digest of 64 items, which identifies a data set of which not all items can be loaded."""
        n = len(self.dataset)
        return hash_words([str(n), *(digest_tensor(self.pixels(i)) for i in range(0, n, n // _SAMPLED))])


def pixels_of_item(image: Any, where: str) -> Tensor:
    """Return the pixels (c, h, w) of an image of a data set."""
    if not hasattr(image, "ndim"):
        with about(where):
            return pixels_of(_checked_pil(image))
    if image.ndim not in (2, 3):
        refuse(
            f"{where} must be one image, (h, w), array (h, w, c) or tensor (c, h, w), got shape {_shape(image)}; "
            "of a video clip, let the data set return one frame"
        )
    return check_pixels(channel_first(image[None], where), where)[0]


def _checked_pil(image: Any) -> PILImage:
    from PIL import Image

    if not isinstance(image, Image.Image):
        refuse(f"expected a PIL image, an array or a tensor, got {type(image).__name__}")
    return image


def _image_of(item: Any) -> Any:
    return item[0] if isinstance(item, tuple | list) else item


def _gone(path: Path, where: str) -> str:
    return f"image {path.name!r} is no longer in {where}; put it back, or build the Stimuli again"


def _decode(path: Path, where: str) -> PILImage:
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=_FORMATS) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        refuse(_gone(path, where))
    except Image.DecompressionBombError as error:
        refuse(f"image {path.name!r} in {where} is too large to decode safely ({error}); store it smaller")
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        refuse(f"image {path.name!r} in {where} cannot be decoded ({error}): it is truncated or damaged; copy it again")


def check_files(paths: Sequence[Path], where: str) -> None:
    """Refuse files that are not images (by their header) and truncated PNG or JPEG files (by their last 4 KB).

    Of more than 20,000 files, about 1,000 that are evenly spread over the list are opened.
    """
    opened = paths if len(paths) <= MANY else paths[:: len(paths) // _OPENED]
    formats = [_image_format(path) for path in opened]
    strangers = [path.name for path, kind in zip(opened, formats, strict=True) if kind is None]
    if strangers:
        known = ", ".join(_FORMATS)
        refuse(f"{quote(strangers)} in {where} cannot be read as images ({known}); move such files elsewhere")
    for path, kind in zip(opened, formats, strict=True):
        if _END_MARKER.get(str(kind), b"") not in _tail(path):
            _decode(path, where)  # decides, because some programs append kilobytes after the end of the image


def _image_format(path: Path) -> str | None:
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as image:
            return str(image.format)
    except Image.DecompressionBombError as error:
        refuse(f"image {str(path)!r} is too large to decode safely ({error}); store it smaller")
    except (OSError, SyntaxError, ValueError, EOFError):
        return None


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-min(_TAIL, path.stat().st_size), 2)
        return file.read()


def check_range(source: Source) -> None:
    if not isinstance(source, Arrays) or not source.images.is_floating_point():
        return
    low, high = float(source.images.min()), float(source.images.max())
    if low < 0 or high > 1:
        refuse(
            f"transforms expect float images in [0, 1], but the values of {source.where} go from {low:g} to {high:g};"
            " rescale them, or transform them yourself and pass no transform"
        )


# Torch data sets


def length_of(dataset: Any, where: str) -> int:
    try:
        n = len(dataset)
    except TypeError:
        refuse(
            f"{where} has no length; stimuli need a map-style data set with __len__ and __getitem__. A stream (an "
            "IterableDataset, for example of WebDataset) has no images by name: use it for a task, "
            "Task(ImageStream(...)), unpack it into a folder, or read it with HuggingFace datasets "
            "(load_dataset('webdataset', ...))"
        )
    if n == 0:
        refuse(f"{where} is empty")
    return n


def in_memory(dataset: Any) -> Tensor | None:
    """Return pixels (n, c, h, w) if a data set has them in one array and its items are unchanged pixels, else None."""
    from torch.utils.data import Subset, TensorDataset

    if isinstance(dataset, Subset):
        whole = in_memory(dataset.dataset)
        return None if whole is None else whole[torch.as_tensor(list(dataset.indices))]
    if type(dataset) is TensorDataset:
        tensor = dataset.tensors[0]
        usable = tensor.dtype == torch.uint8 or tensor.is_floating_point()
        return channel_first(tensor, "the data set's tensor") if tensor.ndim in (3, 4) and usable else None
    data = getattr(dataset, "data", None)
    if not isinstance(data, np.ndarray | Tensor) or len(data) != len(dataset) or not _plain_transform(dataset):
        return None
    return _if_items_are(_data_pixels(data), dataset)


def _plain_transform(dataset: Any) -> bool:
    transform = getattr(dataset, "transform", None)
    return transform is None or f"{type(transform).__module__}.{type(transform).__name__}" == (
        "torchvision.transforms.transforms.ToTensor"
    )


def _data_pixels(data: npt.NDArray[Any] | Tensor) -> Tensor | None:
    x = _tensor_of(data) if isinstance(data, np.ndarray) else data
    if x.dtype != torch.uint8 or x.ndim not in (3, 4):
        return None
    if x.ndim == 3:
        return x[:, None]
    return x if x.shape[1] in (1, 3) else x.permute(0, 3, 1, 2)  # CIFAR has (n, h, w, c), SVHN (n, c, h, w)


def _if_items_are(pixels: Tensor | None, dataset: Any) -> Tensor | None:
    """Return `pixels` unless the items of a subclass differ from its ``.data``; three items are compared."""
    if pixels is None or pixels.shape[1] not in (1, 3):
        return None
    items = Items(dataset, "data set")
    some = (0, len(pixels) // 2, len(pixels) - 1)
    same = all(
        (item := unit(items.pixels(i))).shape == pixels[i].shape and torch.equal(item, unit(pixels[i])) for i in some
    )
    return pixels if same else None


@dataclass(frozen=True, eq=False)
class Columns:
    """Items (image, label) of a data set whose items are mappings, such as those of HuggingFace `datasets`.

    Parameters
    ----------
    dataset : map-style data set
    image, label : str
        Keys of an item; an empty `label` if there are no labels.
    """

    dataset: Any
    image: str
    label: str

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> tuple[Any, ...]:
        item = self.dataset[position]
        return (item[self.image], item[self.label]) if self.label else (item[self.image],)

    @property
    def targets(self) -> list[Any] | None:
        """All labels, if they can be read without the images."""
        table = self.label and hasattr(self.dataset, "column_names")
        return list(self.dataset[self.label]) if table else None

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, if the column of labels has them."""
        return getattr((getattr(self.dataset, "features", None) or {}).get(self.label), "names", None)


def with_columns(dataset: Any, first: Any, columns: Sequence[str] | None, where: str) -> Any:
    """Return a data set of (image, label) items: `dataset` itself, or its columns if its items are mappings."""
    if not isinstance(first, Mapping):
        if columns is not None:
            refuse(f"the items of {where} are not mappings (got {type(first).__name__}), so they have no columns")
        return dataset
    if columns is None:
        image = [name for name in _IMAGE_COLUMNS if name in first]
        label = [name for name in _LABEL_COLUMNS if name in first]
        if not image:
            refuse(
                f"the items of {where} have the keys {quote(first)}, none of which is {quote(_IMAGE_COLUMNS)}; name "
                f"the images and the labels with {arg('columns', ('pixels', 'class'))}"
            )
        return Columns(dataset, image[0], label[0] if label else "")
    if not 1 <= len(columns) <= 2 or isinstance(columns, str):
        refuse(f"columns must be the name of the images, or of the images and the labels, got {columns!r}")
    for name in columns:
        check_option(name, list(first), "column")
    return Columns(dataset, columns[0], columns[1] if len(columns) > 1 else "")


def attribute_of(dataset: Any, name: str) -> Any:
    from torch.utils.data import Subset

    return attribute_of(dataset.dataset, name) if isinstance(dataset, Subset) else getattr(dataset, name, None)


def _targets(dataset: Any) -> list[Any] | None:
    """Return all labels without loading an image, or None if the data set does not store them."""
    from torch.utils.data import Subset, TensorDataset

    if isinstance(dataset, Subset):
        whole = _targets(dataset.dataset)
        return None if whole is None else [whole[i] for i in dataset.indices]
    if type(dataset) is TensorDataset:
        return dataset.tensors[1].tolist() if len(dataset.tensors) > 1 else None
    found = getattr(dataset, "targets", None)
    found = getattr(dataset, "labels", None) if found is None else found
    if getattr(dataset, "target_transform", None) is not None or found is None or len(found) != len(dataset):
        return None  # a target transform changes labels, so they must be read from the items
    return list(found.tolist() if hasattr(found, "tolist") else found)


def label_reader(dataset: Any, first: Any) -> Callable[[], Sequence[object]] | None:
    """Return a function that reads all labels, or None if there are none; `first` is the first item."""
    targets = _targets(dataset)
    if targets is not None:
        return lambda: targets
    labelled = dataset.label if isinstance(dataset, Columns) else isinstance(first, tuple | list) and len(first) > 1
    if not labelled:
        return None
    return lambda: [dataset[i][1] for i in range(len(dataset))]
