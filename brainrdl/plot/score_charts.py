"""Figures of tables of similarities: scores with their ceilings, and comparisons of RDMs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from brainrdl._core.errors import check_option, refuse
from brainrdl._core.rows import Against, Role
from brainrdl.plot.style import (
    BLUE,
    DIVERGING,
    GREEN,
    INK,
    PURPLE,
    QUIET,
    VERMILION,
    axes_for,
    check_columns,
    draw_colorbar,
    draw_image,
    explain,
    extent_of,
    label_across,
    name_columns,
    name_rows,
    one_of,
    plain,
    readable_on,
    rule,
    shown,
    styled,
    table_of,
)
from brainrdl.similarity.comparators import label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
_SCORE_COLUMNS = ("student", "role", "layer", "target", "comparator", "against", "score", "low", "high")

_FITTED: dict[str, Any] = {"color": BLUE, "marker": "o", "markerfacecolor": BLUE, "markersize": 7}

MARKS: dict[Role, dict[str, Any]] = {
    Role.STUDENT: _FITTED,
    Role.ENSEMBLE: _FITTED,
    Role.FITTED: {"color": BLUE, "marker": "p", "markerfacecolor": BLUE, "markersize": 7},
    Role.UNFITTED: {"color": VERMILION, "marker": "D", "markerfacecolor": "white", "markersize": 5.5},
    Role.REWEIGHTED: {"color": VERMILION, "marker": "P", "markerfacecolor": "white", "markersize": 6},
    Role.PERMUTED: {"color": INK, "marker": "v", "markerfacecolor": "white", "markersize": 6},
    Role.PERMUTED_WITHIN_CLASS: {"color": INK, "marker": "<", "markerfacecolor": "white", "markersize": 6},
    Role.RANDOM: {"color": INK, "marker": "X", "markerfacecolor": "white", "markersize": 6},
    Role.SPECTRUM: {"color": INK, "marker": ">", "markerfacecolor": "white", "markersize": 6},
    Role.CATEGORY: {"color": GREEN, "marker": "s", "markerfacecolor": GREEN, "markersize": 5.5},
    Role.MODEL: {"color": PURPLE, "marker": "^", "markerfacecolor": PURPLE, "markersize": 6},
}


@runtime_checkable
class Summarised(Protocol):
    """What has a summary to draw: an `Evaluation`."""

    summary: pd.DataFrame


def scores(
    summary: pd.DataFrame | Summarised,
    comparator: str | None = None,
    against: str | None = None,
    ax: Axes | None = None,
    *,
    target: str | None = None,
    legend: bool = True,
) -> Axes:
    """Draw the score of each student with its 95% interval, and the ceiling that belongs to that score.

    Scores against single subjects are shown with the leave-one-subject-out noise ceiling (a band), scores against the
    mean RDM with the ceiling for the mean RDM (a line). The two kinds of score are never drawn on the same axes.

    Parameters
    ----------
    summary : DataFrame or Evaluation
        An `Evaluation` or its `summary`: columns student, role, layer, target, comparator, against, score, low, high,
        ceiling_lower, ceiling_upper; scores in units of the comparator (at most 1). If the interval is NaN, only the
        point is drawn.
    comparator : str, optional
        Which comparator to draw; by default the first in the table.
    against : {"subjects", "mean"}, optional
        Which comparison to draw: with single subjects' RDMs or with the mean RDM; by default the first in the table.
    ax : Axes, optional
        Where to draw; by default a new figure whose height follows the number of rows.
    target : str, optional
        Draw only this target (region or layer of the teacher); by default all targets, one block each.
    legend : bool
        Whether to add a legend above the axes.

    Returns
    -------
    Axes
        One line (point) per student and layer, in rows from the top: fitted students, controls, models.

    Raises
    ------
    BrainrdlError
        If the table is empty or lacks a column, `comparator`, `against` or `target` is not in it, or a role is unknown.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> row = {"layer": "conv", "target": "IT", "comparator": "spearman", "against": "subjects", "low": 0.1,
    ...        "high": 0.3, "ceiling_lower": 0.3, "ceiling_upper": 0.4}
    >>> table = pd.DataFrame([row | {"student": "fitted", "role": "student", "score": 0.2},
    ...                       row | {"student": "unfitted", "role": "unfitted", "score": 0.15}])
    >>> [label.get_text() for label in plot.scores(table, ax=Figure().subplots()).get_yticklabels()]
    ['fitted', 'unfitted']
    """
    summary = table_of(summary, "summary")
    check_columns(summary, _SCORE_COLUMNS, "summary")
    comparator = one_of(summary, "comparator", comparator)
    against = check_option(one_of(summary, "against", against), [known.value for known in Against], "against")
    table = summary[(summary["comparator"] == comparator) & (summary["against"] == against)]
    table = table if target is None else table[table["target"] == one_of(table, "target", target)]
    if table.empty:
        refuse(f"the table has no score with comparator {comparator!r} against {against!r}")
    rows = _score_rows(table)
    with styled():
        ax = axes_for(ax, (6.4, 1.1 + 0.27 * len(rows)))
        _draw_ceilings(ax, rows, Against(against).legend)
        _draw_points(ax, rows)
        _dress_scores(ax, rows, f"{label_of(comparator)} with {Against(against).label}")
        if legend:
            explain(ax)
    return ax


@dataclass(frozen=True)
class _Row:
    """A row of the score figure: a point (``values``), or the heading of a target (no values)."""

    label: str
    target: str
    role: Role = Role.STUDENT
    values: Mapping[str, Any] | None = None


def _score_rows(table: pd.DataFrame) -> list[_Row]:
    rows: list[_Row] = []
    blocks = table.groupby("target", sort=False, dropna=False)
    for target, block in blocks:
        rows += [_Row(str(target), str(target))] if len(blocks) > 1 else []
        several = block.loc[block["layer"].notna() & (block["layer"] != ""), "layer"].nunique() > 1
        points = [_point(record, str(target), several) for record in block.to_dict("records")]
        rows += _by_role(points)
    return rows


def _by_role(points: Sequence[_Row]) -> list[_Row]:
    """Fitted students, controls, models; within these the layers of a student next to each other."""
    labels, students = [role.label for role in Role], list(dict.fromkeys(_student(row) for row in points))
    return sorted(points, key=lambda row: (labels.index(row.role.label), students.index(_student(row))))


def _student(row: _Row) -> str:
    return str((row.values or {}).get("student"))


def _point(record: Mapping[Any, Any], target: str, several_layers: bool) -> _Row:
    layer = "" if pd.isna(record["layer"]) else str(record["layer"])
    label = f"{record['student']}, {layer}" if several_layers and layer else str(record["student"])
    role = Role(check_option(str(record["role"]), [known.value for known in Role], "role"))
    return _Row(label, target, role, record)


def _draw_ceilings(ax: Axes, rows: Sequence[_Row], label: str) -> None:
    """Draw one band per target, as high as its rows; a line where both bounds are equal."""
    for target in dict.fromkeys(row.target for row in rows):
        span = [y for y, row in enumerate(rows) if row.target == target and row.values is not None]
        values = rows[span[0]].values or {}
        low, high = (float(values.get(key, np.nan)) for key in ("ceiling_lower", "ceiling_upper"))
        low, high = (low if np.isfinite(low) else high), (high if np.isfinite(high) else low)
        if not np.isfinite(low):
            continue
        top, bottom = span[0] - 0.5, span[-1] + 0.5
        bounds = ax.vlines(sorted({low, high}), top, bottom, color="#767676", linewidth=1.2, zorder=0.5)
        if low < high:
            ax.fill_betweenx([top, bottom], low, high, color="#BDBDBD", alpha=0.55, linewidth=0, zorder=0, label=label)
        else:
            bounds.set_label(label)
        label = "_" + label


def _draw_points(ax: Axes, rows: Sequence[_Row]) -> None:
    seen: set[str] = set()
    for y, row in enumerate(rows):
        if row.values is None:
            continue
        style = MARKS[row.role]
        score, low, high = (float(row.values[key]) for key in ("score", "low", "high"))
        if np.isfinite(low) and np.isfinite(high):
            ax.hlines(y, low, high, color=style["color"], linewidth=2.2, zorder=2)
        label = f"_{row.role.label}" if row.role.label in seen else row.role.label
        ax.plot([score], [y], linestyle="none", markeredgewidth=1.6, zorder=3, label=label, **style)
        seen.add(row.role.label)


def _dress_scores(ax: Axes, rows: Sequence[_Row], label: str) -> None:
    ax.axvline(0, color=QUIET, linewidth=0.8, zorder=0.2)
    name_rows(ax, [row.label for row in rows])
    for tick, row in zip(ax.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if row.values is None else "normal")
    ax.set_ylim(len(rows) - 0.4, -0.6)
    rule(ax, "x")
    label_across(ax, label)


# Comparison


def comparison(table: pd.DataFrame, comparator: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the table of `brainrdl.compare`: bars for a single row or column of similarities, otherwise a heat map.

    Parameters
    ----------
    table : DataFrame
        Columns a, b, comparator, similarity (at most 1).
    comparator : str, optional
        Draw only this comparator, as ``a`` by ``b``. By default all of them; several comparators are drawn as pairs of
        RDMs by comparators.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        With one bar per similarity, or one image of all similarities.

    Raises
    ------
    BrainrdlError
        If the table is empty, lacks a column or has two similarities of the same pair of names, or `comparator` is not
        in it.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"a": ["student", "pixels"], "b": "IT", "comparator": "corr", "similarity": [0.4, 0.1]})
    >>> [float(bar.get_width()) for bar in plot.comparison(table, ax=Figure().subplots()).patches]
    [0.4, 0.1]
    """
    check_columns(table, ("a", "b", "comparator", "similarity"), "comparison table")
    if comparator is not None or table["comparator"].nunique() == 1:
        comparator = one_of(table, "comparator", comparator)
        table = table[table["comparator"] == comparator]
    grid = _grid(table, comparator)
    label = "RDM similarity" if comparator is None else label_of(comparator)
    with styled():
        if 1 in grid.shape:
            return _bars(axes_for(ax, (5.4, 1.0 + 0.3 * grid.size)), grid, label)
        return _heatmap(axes_for(ax, (2.6 + 0.7 * grid.shape[1], 1.2 + 0.5 * grid.shape[0])), grid, label)


def _grid(table: pd.DataFrame, comparator: str | None) -> pd.DataFrame:
    """Similarities as rows by columns, in the order of the table."""
    if comparator is None:
        one_b = table["b"].nunique() == 1
        rows = table["a"].astype(str) if one_b else table["a"].astype(str) + " / " + table["b"].astype(str)
        columns = table["comparator"].map(label_of)
    else:
        rows, columns = table["a"].astype(str), table["b"].astype(str)
    repeated = pd.DataFrame({"row": rows, "column": columns}).duplicated()
    if repeated.any():
        first = table[repeated.to_numpy()].iloc[0]
        refuse(
            f"the comparison table has several similarities of {str(first['a'])!r} and {str(first['b'])!r} with "
            f"comparator {first['comparator']!r}; give each RDM another name"
        )
    grid = pd.DataFrame({"row": rows, "column": columns, "similarity": table["similarity"]})
    wide = grid.pivot_table(index="row", columns="column", values="similarity", sort=False, dropna=False)
    return wide.loc[list(dict.fromkeys(rows)), list(dict.fromkeys(columns))]


def _bars(ax: Axes, grid: pd.DataFrame, label: str) -> Axes:
    names, (other, *_) = (grid.index, grid.columns) if grid.shape[1] == 1 else (grid.columns, grid.index)
    bars = ax.barh(range(grid.size), grid.to_numpy(dtype=float).ravel(), color=BLUE, height=0.62)
    ax.bar_label(bars, fmt="%.2f", padding=3)
    name_rows(ax, [str(name) for name in names])
    ax.invert_yaxis()
    ax.axvline(0, color=QUIET, linewidth=0.8)
    ax.margins(x=0.12)
    label_across(ax, f"{label}: {plain(str(other))}" if grid.size > 1 else label)
    return ax


def _heatmap(ax: Axes, grid: pd.DataFrame, label: str) -> Axes:
    values = grid.to_numpy(dtype=float)
    signed = bool(np.nanmin(values, initial=0.0) < 0)
    extent = extent_of(values)
    draw_image(ax, values, DIVERGING if signed else "viridis", -extent if signed else 0.0, extent)
    name_columns(ax, range(values.shape[1]), shown([str(name) for name in grid.columns]))
    name_rows(ax, [str(name) for name in grid.index])
    ax.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=readable_on(ax, value))
    draw_colorbar(ax, label)
    return ax
