"""Marks of differences between rows of a figure: brackets, or arrows where many rows differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D
from matplotlib.transforms import Affine2D, ScaledTranslation, Transform, blended_transform_factory

from brainrdl.plot.style import INK, room_beside_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
_LEVELS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))

# In points: between the axes and the first column, between columns of brackets and of arrows
_GAP, _BRACKET, _ARROW = 8.0, 13.0, 9.0

_SHARE = 0.35  # of the width beside the names of rows that marks may have


def stars_of(p: float) -> str:
    """Return stars for a p-value below .05, .01 and .001, and no text otherwise (or for NaN).

    Examples
    --------
    >>> [stars_of(p) for p in (0.2, 0.02, 0.001, 0.0001, float("nan"))]
    ['', '*', '**', '***', '']
    """
    return next((stars for level, stars in _LEVELS if p < level), "")


def draw_brackets(ax: Axes, better: npt.NDArray[np.intp], worse: npt.NDArray[np.intp], p: Sequence[float]) -> None:
    """Draw a bracket with stars to the right of an axes for each two rows that differ."""
    places = _columns_of(better, worse)
    step = _step(ax, _BRACKET, places)
    for up, down, column, value in zip(better, worse, places, p, strict=True):
        x = _GAP + column * step
        top, bottom = min(up, down) + 0.12, max(up, down) - 0.12
        style: dict[str, Any] = {"color": INK, "linewidth": 0.9, "transform": _beside(ax), "clip_on": False}
        ax.plot([x - 3, x, x, x - 3], [top, top, bottom, bottom], gid="bracket", **style)
        ax.text(
            x + 0.5, (top + bottom) / 2, stars_of(value), transform=_beside(ax), rotation=90, va="center", ha="left",
            fontsize=8, color=INK, gid="stars", clip_on=False,
        )  # fmt: skip
    space = "\N{NO-BREAK SPACE}"
    levels = [f"{stars}{space}<{space}{level:g}" for level, stars in reversed(_LEVELS)]
    _explain(ax, f"corrected p: {', '.join(levels)}")


def draw_arrows(ax: Axes, better: npt.NDArray[np.intp], worse: npt.NDArray[np.intp]) -> None:
    """Draw a column beside an axes for each row that is better than others: a dot, and a tick at each other."""
    rows = np.unique(better)
    step = _step(ax, _ARROW, range(len(rows)))
    for column, row in enumerate(rows):
        x, others = _GAP + column * step, worse[better == row]
        style: dict[str, Any] = {"color": INK, "transform": _beside(ax), "clip_on": False, "linewidth": 0.8}
        ends = [min(row, *others), max(row, *others)]
        ax.plot([x, x], ends, gid="arrow", **style)
        ax.plot([x], [row], marker="o", markersize=3.6, gid="better", **style)
        ax.plot([x] * len(others), others, marker=0, markersize=3.2, markeredgewidth=1.2, gid="worse",
                **style | {"linestyle": "none"})  # fmt: skip
    _explain(ax, "better than the rows with a tick, corrected p < 0.05", marker="o", markersize=3.6, color=INK)


def fit_as_brackets(ax: Axes, better: npt.NDArray[np.intp], worse: npt.NDArray[np.intp]) -> bool:
    """Say whether brackets for these pairs of rows leave enough space to the axes."""
    return bool(_step(ax, _BRACKET, _columns_of(better, worse)) == _BRACKET)


def _step(ax: Axes, usual: float, columns: Sequence[int]) -> float:
    """Distance between columns, smaller if there are many."""
    return max(4.0, min(usual, _SHARE * room_beside_names(ax) / (1 + max(columns, default=0))))


def _columns_of(better: npt.NDArray[np.intp], worse: npt.NDArray[np.intp]) -> list[int]:
    """Place brackets in the first column with space, the shortest first."""
    ends: list[list[tuple[int, int]]] = []
    found = [0] * len(better)
    for k in np.argsort(np.abs(better - worse), kind="stable"):
        low, high = sorted((int(better[k]), int(worse[k])))
        free = (i for i, column in enumerate(ends) if all(high <= a or b <= low for a, b in column))
        found[k] = next(free, len(ends))
        if found[k] == len(ends):
            ends.append([])
        ends[found[k]].append((low, high))
    return found


def _beside(ax: Axes) -> Transform:
    """Horizontal: points to the right of the axes; vertical: its rows."""
    end = ScaledTranslation(1, 0, ax.transAxes)  # type: ignore[arg-type]  # it needs no affine transform
    right = Affine2D().scale(1 / 72) + ax.figure.dpi_scale_trans + end
    return blended_transform_factory(right, ax.transData)


def _explain(ax: Axes, text: str, **style: Any) -> None:
    ax.add_line(Line2D([], [], linestyle="none", label=text, **style))
