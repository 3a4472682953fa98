"""Small pictures of stimuli, read from a folder, from a mapping of names to images, or from `Stimuli`.

Files are read as an image viewer shows them, and only when a figure needs them. Transparency is composited over white,
the colour of the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from brainrdl._core.constants import IMAGE_SUFFIXES
from brainrdl._core.errors import about, check_conditions, check_unique, refuse

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
# Pillow may start programs for other formats (EPS: Ghostscript).
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")

Picture = npt.NDArray[np.uint8]


@runtime_checkable
class ImageSet(Protocol):
    """Images by name, as `brainrdl.stimuli.Stimuli`."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def with_transform(self, transform: None) -> ImageSet: ...

    def images(self, names: Sequence[str]) -> Any: ...


Images = str | Path | Mapping[str, Any] | ImageSet


def thumbnails(images: Images, names: Sequence[str], longest: int = 64) -> list[Picture]:
    """Return one picture (h, w, 3) per name, uint8, with at most `longest` pixels in height and width.

    Parameters
    ----------
    images : path, mapping of str to image, or Stimuli
        A folder whose files are named like the conditions (also ``category/name``); or for each condition a path, an
        array (h, w), (h, w, 3) or (h, w, 4), a tensor (c, h, w) or a ``PIL.Image``. Pixels are uint8, or float in
        [0, 1].
    names : sequence of str
        Conditions.
    longest : int
        Pixels.

    Raises
    ------
    BrainrdlError
        If the folder is missing, a condition has no image, or an image cannot be read.

    Examples
    --------
    >>> thumbnails({"cat": np.zeros((200, 100))}, ["cat"])[0].shape
    (64, 32, 3)
    """
    if isinstance(images, str | Path):
        images = _files_of(Path(images))
    if isinstance(images, Mapping):
        check_conditions(names, images.keys(), "images (name -> image)")
        return [_small(images[name], name, longest) for name in names]
    if not isinstance(images, ImageSet):
        refuse(
            f"images must be a folder, a mapping of condition name to image, or Stimuli, got {type(images).__name__}"
        )
    check_conditions(names, images.names, "images")
    plain = images.with_transform(None)
    return [_small(plain.images([name])[0], name, longest) for name in names]


def _files_of(folder: Path) -> dict[str, Path]:
    """Image files of a folder and its subfolders, by path without suffix."""
    if not folder.is_dir():
        refuse(f"images: the folder {str(folder)!r} does not exist; give the folder of the stimulus images")
    found = sorted(path for path in [*folder.glob("*"), *folder.glob("*/*")] if path.suffix.lower() in IMAGE_SUFFIXES)
    stems = [path.relative_to(folder).with_suffix("").as_posix() for path in found]
    check_unique(stems, f"the folder {str(folder)!r}")
    return dict(zip(stems, found, strict=True))


def _small(given: Any, name: str, longest: int) -> Picture:
    with about(f"image of condition {name!r}"):
        image = _opened(Path(given)) if isinstance(given, str | Path) else _as_image(given)
        image.thumbnail((longest, longest))
        return np.asarray(_on_white(image))


def _opened(path: Path) -> PILImage:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path, formats=_FORMATS) as image:
            return _eight_bit(ImageOps.exif_transpose(image))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:  # Pillow raises SyntaxError for broken PNG files
        refuse(f"file {str(path)!r} cannot be read as an image: {error}")


def _as_image(given: Any) -> PILImage:
    from PIL import Image

    if isinstance(given, Image.Image):
        return _eight_bit(given)
    is_tensor = hasattr(given, "detach")
    pixels = np.asarray(given.detach().cpu() if is_tensor else given)
    if pixels.ndim == 3 and is_tensor:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or not pixels.size:
        refuse(
            "expected an array (h, w), (h, w, 3) or (h, w, 4), or a tensor (c, h, w), got shape "
            f"{tuple(np.shape(given))}"
        )
    return Image.fromarray(np.ascontiguousarray(_bytes(pixels)))


def _bytes(pixels: npt.NDArray[Any]) -> Picture:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind != "f" or not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        refuse(f"pixels must be uint8, or float from 0 to 1, got {pixels.dtype} with other values")
    return np.round(pixels * 255).astype(np.uint8)


def _eight_bit(image: PILImage) -> PILImage:
    """Scale 16-bit grey to 8 bits; Pillow's conversion would clip everything above 255 to white."""
    from PIL import Image

    if image.mode == "F":
        refuse("the image has 32-bit floats, whose range is not known; save it with 8 or 16 bits per channel")
    if not image.mode.startswith("I"):
        return image.copy()
    return Image.fromarray(np.round(np.clip(np.asarray(image, dtype=float), 0, 65535) / 257).astype(np.uint8))


def _on_white(image: PILImage) -> PILImage:
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
