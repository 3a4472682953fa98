"""Labels of points that do not hide each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.patheffects import withStroke

from brainrdl.plot.style import plain, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
_SIZE, _LETTER, _HEIGHT = 8.5, 5.0, 10.5  # points: of the text, mean width of a letter, height of a line

_POINT = 4.5  # half the side of the square that a marker covers

_SCALES = 60.0  # points that axis labels need beside the axes

_DIRECTIONS = tuple((np.cos(angle), np.sin(angle)) for angle in np.deg2rad([40, -40, 140, -140, 90, -90, 0, 180]))

_DISTANCES = (6.5, 15.0, 25.0, 36.0)


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, others: npt.NDArray[np.float64]) -> float:
        wide = np.minimum(self.right, others[:, 2]) - np.maximum(self.left, others[:, 0])
        high = np.minimum(self.top, others[:, 3]) - np.maximum(self.bottom, others[:, 1])
        return float((np.clip(wide, 0, None) * np.clip(high, 0, None)).sum())


def label_points(ax: Axes, points: npt.NDArray[np.float64], texts: Sequence[str], colours: Sequence[str]) -> None:
    """Write texts next to points, where they cover neither a point nor another text; connect those further away.

    Parameters
    ----------
    ax : Axes
        With all that is drawn, so that its limits are known.
    points : ndarray (n, 2)
        In units of the data.
    texts, colours : sequence of str
        One for each point.
    """
    at = _in_points(ax, points)
    taken = [_Box(x - _POINT, y - _POINT, x + _POINT, y + _POINT) for x, y in at]
    halo = [withStroke(linewidth=2, foreground="white")]  # over lines of intervals
    edges = _in_points(ax, np.column_stack([ax.get_xlim(), ax.get_ylim()]))
    for (x, y), point, text, colour in zip(at, points, map(plain, texts), colours, strict=True):
        size = _LETTER * len(text), _HEIGHT
        found = [_place(x, y, size, direction, r) for r in _DISTANCES for direction in _DIRECTIONS]
        costs = [box.overlap(np.array(taken)) + _outside(box, edges) for box, _ in found]
        best = int(np.argmin(costs))
        box, distance = found[best]
        taken.append(box)
        line: dict[str, Any] = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(
            text, (float(point[0]), float(point[1])), (box.left - x, box.bottom - y), textcoords="offset points",
            fontsize=_SIZE, color=colour, zorder=4, path_effects=halo,
            arrowprops=line if distance > _DISTANCES[0] else None,
        )  # fmt: skip


def _in_points(ax: Axes, data: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Estimate the places of data in points: the size of the axes is not known before the figure is drawn."""
    box, figure = ax.get_window_extent(), ax.figure
    size = width_of(ax) - _SCALES, 72 * box.height / figure.dpi
    lows, highs = np.array([ax.get_xlim(), ax.get_ylim()]).T
    return np.asarray((data - lows) / (highs - lows) * size)


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
