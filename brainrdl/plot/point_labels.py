"""Labels of points that do not hide each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.patheffects import withStroke

from brainrdl.plot.margins import settle
from brainrdl.plot.style import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
_SIZE, _LETTER, _HEIGHT = 8.5, 5.0, 10.5  # points: of the text, mean width of a letter, height of a line

_POINT = 4.5  # half the side of the square that a marker covers

_DIRECTIONS = tuple((np.cos(angle), np.sin(angle)) for angle in np.deg2rad([40, -40, 140, -140, 90, -90, 0, 180]))

_DISTANCES = (6.5, 10.0, 15.0, 21.0, 28.0, 36.0)

_NEAR = 10.0  # distance in points up to which a text needs no line to its point

# Costs, when a covered square point costs 1: each point of distance, and each point of a line that is covered.
_FAR, _LINE = 0.5, 2.0

_NO_LINES = np.empty((0, 2, 2))


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, others: npt.NDArray[np.float64]) -> float:
        wide = np.minimum(self.right, others[:, 2]) - np.maximum(self.left, others[:, 0])
        high = np.minimum(self.top, others[:, 3]) - np.maximum(self.bottom, others[:, 1])
        return float((np.clip(wide, 0, None) * np.clip(high, 0, None)).sum())

    def length_of(self, lines: npt.NDArray[np.float64]) -> float:
        """Return the length of lines (x, y, x, y) inside the box: the share between entering and leaving it."""
        start, way = lines[:, :2], lines[:, 2:] - lines[:, :2]
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.stack([(np.array([self.left, self.bottom]) - start) / way, (np.array(self[2:]) - start) / way])
        enter, leave = np.nanmax(ends.min(0), axis=1, initial=0), np.nanmin(ends.max(0), axis=1, initial=1)
        return float((np.clip(leave - enter, 0, None) * np.hypot(*way.T)).sum())


def label_points(
    ax: Axes,
    points: npt.NDArray[np.float64],
    texts: Sequence[str],
    colours: Sequence[str],
    lines: npt.NDArray[np.float64] = _NO_LINES,
) -> None:
    """Write texts next to points, where they cover no point, no other text and little of the lines.

    A text that is further from its point is connected with it.

    Parameters
    ----------
    ax : Axes
        With all that is drawn, so that its limits and its size are known.
    points : ndarray (n, 2)
        In units of the data.
    texts, colours : sequence of str
        One for each point.
    lines : ndarray (n_lines, 2, 2), optional
        Both ends of each line that is drawn, in units of the data.
    """
    settle(ax.figure)
    at, edges = _in_points(ax, points), _in_points(ax, np.column_stack([ax.get_xlim(), ax.get_ylim()]))
    drawn = _in_points(ax, lines.reshape(-1, 2)).reshape(-1, 4)
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    texts = [plain(text) for text in texts]
    boxes = _places(at, texts, drawn, edges)
    halo = [withStroke(linewidth=2, foreground="white")]  # over lines of intervals
    for (x, y), point, text, colour, (box, distance) in zip(at, points, texts, colours, boxes, strict=True):
        line: dict[str, Any] = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(
            text, (float(point[0]), float(point[1])), (box.left - x, box.bottom - y), textcoords="offset points",
            fontsize=_SIZE, color=colour, zorder=4, path_effects=halo,
            arrowprops=line if distance > _NEAR else None,
        )  # fmt: skip


def _in_points(ax: Axes, data: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(ax.transData.transform(data) * 72 / ax.figure.dpi, dtype=float)


def _places(
    at: npt.NDArray[np.float64],
    texts: Sequence[str],
    lines: npt.NDArray[np.float64],
    edges: npt.NDArray[np.float64],
) -> list[tuple[_Box, float]]:
    """Choose a box and its distance for each text; again when the others are known, since the first had free choice."""
    spots = [_Box(x - _POINT, y - _POINT, x + _POINT, y + _POINT) for x, y in at]
    chosen: dict[int, tuple[_Box, float]] = {}
    for k in [*range(len(texts))] * 2:
        others = np.array([*spots, *(box for i, (box, _) in chosen.items() if i != k)])
        spot, size = (float(at[k, 0]), float(at[k, 1])), (_LETTER * len(texts[k]), _HEIGHT)
        found = [_place(*spot, size, direction, r) for r in _DISTANCES for direction in _DIRECTIONS]
        costs = [
            box.overlap(others) + _outside(box, edges) + _FAR * r + _LINE * box.length_of(lines) for box, r in found
        ]
        chosen[k] = found[int(np.argmin(costs))]
    return [chosen[k] for k in range(len(texts))]


def _place(
    x: float, y: float, size: tuple[float, float], direction: tuple[float, float], r: float
) -> tuple[_Box, float]:
    """Return the box of a text whose nearest edge or corner is `r` points from (x, y) in this direction."""
    (across, up), (width, height) = direction, size
    left = x + r * across - (0 if across > 0.1 else width if across < -0.1 else width / 2)
    bottom = y + r * up - (0 if up > 0.1 else height if up < -0.1 else height / 2)
    return _Box(left, bottom, left + width, bottom + height), r


def _outside(box: _Box, edges: npt.NDArray[np.float64]) -> float:
    """Penalty for text beyond the axes, which could cover its labels."""
    (left, bottom), (right, top) = edges
    beyond = (left - box.left, bottom - box.bottom, box.right - right, box.top - top)
    return 10 * sum(max(0.0, one) for one in beyond)
