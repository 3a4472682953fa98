"""Figures of trade-offs: what a sweep gains in one measure, and what it loses in another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from brainrdl._core.errors import refuse
from brainrdl._core.rows import Against
from brainrdl.plot.point_labels import label_points
from brainrdl.plot.style import (
    BLUE,
    GREEN,
    INK,
    PURPLE,
    QUIET,
    VERMILION,
    axes_for,
    check_columns,
    explain,
    in_legend,
    label_up,
    plain,
    rule,
    styled,
)
from brainrdl.similarity.comparators import label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
_STYLES = ((BLUE, "o"), (VERMILION, "v"), (GREEN, "s"), (PURPLE, "^"), (INK, "D"), (QUIET, "X"))


def pareto(
    table: pd.DataFrame,
    label: str | Sequence[str] | None = None,
    ax: Axes | None = None,
    *,
    x: str = "accuracy",
    y: str = "score",
    by: str | None = None,
    legend: bool = True,
) -> Axes:
    """Draw two measures of each point of a sweep against each other, and connect the points on the Pareto front.

    A point is on the front if no other point of its group is at least as good in both measures and better in one.
    Points on the front are filled, the others hollow.

    Parameters
    ----------
    table : DataFrame
        One row per point, as made by `brainrdl.recipe.sweep`: columns `x` (accuracy, 0 to 1), `y` (score of the RDM
        comparator, at most 1), `label` and, if known, low and high (95% interval of the score), accuracy_sd (standard
        deviation over fits), ceiling_lower and ceiling_upper, comparator and against.
    label : str or sequence of str, optional
        Columns whose values are written next to the points, and whose names are written below the axes; by default the
        first column.
    ax : Axes, optional
        Where to draw; a new figure by default.
    x, y : str
        Columns to draw; higher is better.
    by : str, optional
        Column of groups, for example different teachers, each with its colour and its front; by default one group.
    legend : bool
        Whether to add a legend above the axes, if there is more than one group, a noise ceiling or a hollow point.

    Returns
    -------
    Axes
        For each group a line of the front, with one marker per point on it, and one of the other points. The vertical
        lines are intervals. The noise ceiling is a band, or a line if both bounds are equal.

    Raises
    ------
    BrainrdlError
        If the table lacks a column, or no point has both measures.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"weight": [0, 1, 10], "accuracy": [0.4, 0.3, 0.1], "score": [0.1, 0.3, 0.2]})
    >>> ax = plot.pareto(table, ax=Figure().subplots())
    >>> ax.lines[0].get_xydata().tolist()  # 10 is worse than 1 in both measures
    [[0.3, 0.3], [0.4, 0.1]]
    """
    labels = [str(table.columns[0])] if label is None else [label] if isinstance(label, str) else list(label)
    check_columns(table, [*labels, x, y, *([by] if by else [])], "table")
    table = table[table[x].notna() & table[y].notna()]
    if table.empty:
        refuse(f"no row of the table has both {x!r} and {y!r}; a task needs validation images to have an accuracy")
    with styled():
        ax = axes_for(ax, (5.6, 4.2))
        groups = (
            [("", table)]
            if by is None
            else [(str(name), part) for name, part in table.groupby(by, sort=False, dropna=False)]
        )
        has_ceiling = _draw_ceiling(ax, table)
        shown_names = in_legend([name for name, _ in groups])
        lines = [
            _draw_group(ax, part, name, (x, y), _look(k))
            for k, (name, (_, part)) in enumerate(zip(shown_names, groups, strict=True))
        ]
        of_points = plain(", ".join(labels), 60)
        ax.set_xlabel(f"{'task accuracy' if x == 'accuracy' else plain(x)}\nlabels: {of_points}")
        label_up(ax, _measure(table) if y == "score" else plain(y))
        rule(ax, "y")
        has_others = any(np.size(line.get_xdata()) for line in ax.lines if line.get_label() == "_others")
        if has_others:
            _explain_hollow(ax, "another point of its group" if by else "another point")
        if legend and (has_ceiling or by or has_others):
            explain(ax)
        _write_labels(ax, groups, labels, (x, y), np.concatenate(lines))
    return ax


def _explain_hollow(ax: Axes, which: str) -> None:
    label = f"{which} is at least as good in both"
    ax.scatter([], [], s=42, facecolor="white", edgecolor=QUIET, linewidth=1.4, label=_once(ax, label))


def _once(ax: Axes, label: str) -> str:
    """Label what an earlier call for the same axes has drawn in the same way, too."""
    return "_again" if label in ax.get_legend_handles_labels()[1] else label


def _look(k: int) -> tuple[str, str]:
    """Return colour and marker of a group: after all colours, each with another marker."""
    n = len(_STYLES)
    return _STYLES[k % n][0], _STYLES[(k + k // n) % n][1]


def _draw_ceiling(ax: Axes, table: pd.DataFrame) -> bool:
    """Draw the noise ceiling, if all points have the same."""
    bounds = [table[name].unique() for name in ("ceiling_lower", "ceiling_upper") if name in table]
    if len(bounds) < 2 or any(len(values) != 1 or not np.isfinite(values[0]) for values in bounds):
        return False
    low, high = (float(values[0]) for values in bounds)
    legend = Against(table["against"].iloc[0]).legend if "against" in table else "noise ceiling"
    if low < high:
        ax.axhspan(low, high, color="#BDBDBD", alpha=0.55, linewidth=0, zorder=0, label=_once(ax, legend))
    else:
        ax.axhline(low, color="#767676", linewidth=1.2, zorder=0.5, label=_once(ax, legend))
    return True


def _draw_group(
    ax: Axes,
    table: pd.DataFrame,
    name: str,
    axes: tuple[str, str],
    style: tuple[str, str],
) -> npt.NDArray[np.float64]:
    """Draw a group, and return both ends of each of its lines."""
    (x, y), (color, marker) = axes, style
    points = table[[x, y]].to_numpy(dtype=float)
    best = on_front(points)
    front = points[best][np.argsort(points[best, 0], kind="stable")]
    lines = [np.stack([front[:-1], front[1:]], 1)]
    if {"low", "high"} <= set(table) and y == "score":
        low, high = table[["low", "high"]].to_numpy(dtype=float).T
        ax.vlines(points[:, 0], low, high, color=color, linewidth=1.6, alpha=0.7, zorder=2)
        lines.append(np.stack([np.stack([points[:, 0], end], 1) for end in (low, high)], 1))
    if f"{x}_sd" in table:
        sd = table[f"{x}_sd"].to_numpy(dtype=float)
        ax.hlines(points[:, 1], points[:, 0] - sd, points[:, 0] + sd, color=color, linewidth=0.8, alpha=0.7, zorder=2)
        lines.append(np.stack([points - sd[:, None] * [1, 0], points + sd[:, None] * [1, 0]], 1))
    drawn: dict[str, Any] = {"color": color, "marker": marker, "markersize": 6.5, "markeredgewidth": 1.4, "zorder": 3}
    ax.plot(*front.T, linewidth=1.2, label=name if name else "_front", **drawn)
    ax.plot(*points[~best].T, linestyle="none", markerfacecolor="white", label="_others", **drawn)
    return np.concatenate(lines)


def _write_labels(
    ax: Axes,
    groups: Sequence[tuple[str, pd.DataFrame]],
    labels: Sequence[str],
    axes: tuple[str, str],
    lines: npt.NDArray[np.float64],
) -> None:
    colours = [_look(k)[0] for k, (_, part) in enumerate(groups) for _ in range(len(part))]
    table = pd.concat([part for _, part in groups])
    texts = [", ".join(map(_value, row)) for row in table[list(labels)].itertuples(index=False)]
    label_points(ax, table[list(axes)].to_numpy(dtype=float), texts, colours, lines)


def on_front(points: np.ndarray) -> np.ndarray:
    """Say which points are on the Pareto front: none is at least as good in both measures and better in one.

    Parameters
    ----------
    points : ndarray, shape (n, 2)
        Two measures; higher is better.

    Returns
    -------
    ndarray of bool, shape (n,)

    Examples
    --------
    >>> on_front(np.array([[0.4, 0.1], [0.3, 0.3], [0.1, 0.2]])).tolist()
    [True, True, False]
    """
    as_good = np.all(points[None] >= points[:, None], axis=-1)
    better = np.any(points[None] > points[:, None], axis=-1)
    return np.asarray(~np.any(as_good & better, axis=1))


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _measure(table: pd.DataFrame) -> str:
    known = {name: table[name].unique() for name in ("comparator", "against") if name in table}
    if len(known) < 2 or any(len(values) != 1 for values in known.values()):
        return "held-out score"
    return f"{label_of(known['comparator'][0])} with {Against(known['against'][0]).label},\nheld-out stimuli"
