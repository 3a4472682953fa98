"""The values behind a figure of RDMs, small enough for a page, so that a reader can point at a cell and read it.

Dissimilarities are stored with 16 bits each: between the smallest and the largest of a matrix there are 65,535 steps,
so a value is exact to 1/131,068 of this range. The page shows no digit that is not exact.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int

from brainrdl._core.errors import arg, quote, refuse
from brainrdl.plot.arrangement import ranks
from brainrdl.stimuli.named_images import Stimuli

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MISSING = 65535  # of 16 bits

_COLUMNS, _SIZE = 25, 48  # of the sheet of thumbnails: images per row, pixels


@dataclass(frozen=True)
class Panel:
    """A drawn matrix: the conditions of its rows (and columns) as positions in the RDM, and which RDMs to read."""

    order: tuple[int, ...]
    shows: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Hover:
    """What a reader can read in a figure of RDMs.

    Attributes
    ----------
    names : tuple of str
        Conditions, in the order of the pairs.
    matrices : mapping of label to array (n_pairs,)
        Dissimilarities, NaN if unknown.
    panels : sequence of Panel
        In the order of the image axes of the figure.
    ranked : bool
        Whether the figure shows ranks.
    """

    names: tuple[str, ...]
    matrices: Mapping[str, Float[np.ndarray, " n_pairs"]]
    panels: Sequence[Panel]
    ranked: bool = False


def boxes_of(figure: Figure) -> list[list[float]]:
    """Return left, top, width and height of each image of a figure that was drawn, as shares of the figure."""
    return [_box(ax, image) for ax in figure.axes for image in ax.images]


def _box(ax: Axes, image: AxesImage) -> list[float]:
    left, right, bottom, top = image.get_extent()
    to_figure = ax.transData - ax.figure.transFigure
    (x0, y0), (x1, y1) = to_figure.transform([(left, bottom), (right, top)])
    return [round(float(v), 5) for v in (x0, 1 - y1, x1 - x0, y1 - y0)]


class Store:
    """The matrices of a page, each stored once.

    Examples
    --------
    >>> store = Store()
    >>> one = Hover(("a", "b", "c"), {"IT": np.array([0.0, 1.0, np.nan])}, [Panel((0, 1, 2), ("IT",))])
    >>> store.add(one, [[0, 0, 1, 1]])
    0
    >>> json.loads(store.text())["names"]
    [['a', 'b', 'c']]
    """

    def __init__(self, stimuli: Stimuli | None = None) -> None:
        self._stimuli = stimuli
        self._names: list[tuple[str, ...]] = []
        self._orders: list[tuple[int, ...]] = []
        self._matrices: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._figures: list[dict[str, Any]] = []

    def add(self, hover: Hover, wide: Sequence[Sequence[float]], narrow: Sequence[Sequence[float]] = ()) -> int:
        """Add the matrices of a figure, whose images have these boxes; return the number of the figure."""
        numbers = {label: self._matrix(label, pairs) for label, pairs in hover.matrices.items()}
        ranked = {
            shows: self._ranks([hover.matrices[label] for label in shows]) if hover.ranked else []
            for shows in dict.fromkeys(panel.shows for panel in hover.panels)
        }
        panels = [
            {"order": _place(self._orders, panel.order), "shows": [numbers[label] for label in panel.shows]}
            | {"ranks": ranked[panel.shows]}
            for panel in hover.panels
        ]
        both = {
            form: [panel | {"box": list(box)} for panel, box in zip(panels, boxes, strict=True)]
            for form, boxes in (("wide", wide), ("narrow", narrow or ()))
            if boxes
        }
        names = _place(self._names, hover.names)
        self._figures.append({"names": names, "narrow": [], **both})
        return len(self._figures) - 1

    def _matrix(
        self, label: str, pairs: Float[np.ndarray, " n_pairs"], limits: tuple[float, float] | None = None
    ) -> int:
        key = (label, pairs.tobytes())
        if key not in self._matrices:
            self._matrices[key] = {"label": label, **packed(pairs, limits)}
        return list(self._matrices).index(key)

    def _ranks(self, shown: Sequence[Float[np.ndarray, " n_pairs"]]) -> list[int]:
        """Store ranks over the pairs that all matrices of a panel contain: of rounded values, they would be wrong."""
        known = np.isfinite(np.stack(shown)).all(0)
        steps = 2 * max(int(known.sum()) - 1, 1)  # midranks are whole or half: up to 32,768 pairs they are exact
        high = max(1.0, (MISSING - 1) / steps)
        return [self._matrix("", ranks(np.where(known, pairs, np.nan)), (0.0, high)) for pairs in shown]

    def text(self) -> str:
        """Return everything as JSON that can be written between tags; "" if there are no figures."""
        if not self._figures:
            return ""
        shown = dict.fromkeys(name for names in self._names for name in names)
        content = {
            "names": self._names, "orders": self._orders, "matrices": list(self._matrices.values()),
            "figures": self._figures, "thumbnails": thumbnails(self._stimuli, list(shown)),
        }  # fmt: skip
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _place(known: list[Any], one: Any) -> int:
    if one not in known:
        known.append(one)
    return known.index(one)


def packed(pairs: Float[np.ndarray, " n_pairs"], limits: tuple[float, float] | None = None) -> dict[str, Any]:
    """Store dissimilarities with 16 bits each, little-endian, as base64; by default between their own limits.

    Examples
    --------
    >>> packed(np.array([0.0, 1.0, np.nan]))
    {'low': 0.0, 'high': 1.0, 'pairs': 'AAD+////'}
    """
    known = np.isfinite(pairs)
    own = (float(pairs[known].min()), float(pairs[known].max())) if known.any() else (0.0, 1.0)
    low, high = limits or own
    codes: Int[np.ndarray, " n_pairs"] = np.full(pairs.shape, MISSING, dtype="<u2")
    codes[known] = np.rint((pairs[known] - low) / ((high - low) or 1.0) * (MISSING - 1))
    return {"low": low, "high": high, "pairs": base64.b64encode(codes.tobytes()).decode()}


def thumbnails(stimuli: Stimuli | None, names: Sequence[str]) -> dict[str, Any] | None:
    """Return one JPEG with small images of these stimuli, and their places in it; None without images."""
    if stimuli is None:
        return None
    from PIL import Image

    stimuli = stimuli.named_as(names)
    known = [name for name in names if name in stimuli]
    if not known:
        refuse(
            f"none of the {len(stimuli)} stimuli {quote(stimuli.names)} is among the conditions {quote(names)}; give "
            f"the images of the conditions with {arg('stimuli')}"
        )
    sheet = Image.new("RGB", (_COLUMNS * _SIZE, -(-len(known) // _COLUMNS) * _SIZE), "white")
    images = stimuli.with_transform(None)
    for place, name in enumerate(known):
        image = _picture(images.images([name])[0])
        image.thumbnail((_SIZE, _SIZE))
        corner = (place % _COLUMNS * _SIZE, place // _COLUMNS * _SIZE)
        sheet.paste(image, (corner[0] + (_SIZE - image.width) // 2, corner[1] + (_SIZE - image.height) // 2))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=80)
    return {
        "src": "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(),
        "columns": _COLUMNS, "size": _SIZE, "places": {name: place for place, name in enumerate(known)},
    }  # fmt: skip


def _picture(image: torch.Tensor) -> Any:
    from PIL import Image

    pixels = (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    small = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3]).convert("RGB")
    scale = _SIZE / max(small.size)
    return small if scale <= 1 else small.resize((round(small.width * scale), round(small.height * scale)), 0)
