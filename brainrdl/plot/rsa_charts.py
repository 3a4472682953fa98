"""Figures of a plain RSA: a map of models and targets, and bars with the noise ceiling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainrdl._core.errors import check_option, refuse
from brainrdl._core.rows import Against
from brainrdl.plot.style import (
    BLUE,
    INK,
    QUIET,
    axes_for,
    check_columns,
    draw_colorbar,
    draw_image,
    explain,
    name_columns,
    name_rows,
    one_of,
    plain,
    rule,
    shown,
    styled,
    table_of,
)
from brainrdl.similarity.comparators import label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
_COLUMNS = ("model", "layer", "target", "comparator", "against", "score", "low", "high", "p_corrected")

_ALPHA = 0.05

_VALUES = {"share": "share of the ceiling", "score": "score"}


def model_map(
    summary: pd.DataFrame | Any,
    comparator: str | None = None,
    against: str | None = None,
    ax: Axes | None = None,
    *,
    value: str = "share",
) -> Axes:
    """Draw a map of models (or layers) by targets: the share of the noise ceiling that each score reaches.

    Parameters
    ----------
    summary : DataFrame or RSAResult
        A result of `brainrdl.rsa` or its `summary`.
    comparator : str, optional
        Which comparator to draw; by default the first in the table.
    against : {"subjects", "mean"}, optional
        Which comparison to draw; by default the first in the table.
    ax : Axes, optional
        Where to draw; by default a new figure.
    value : {"share", "score"}
        What the colours show: the share of the ceiling (1 is a perfect model), or the score.

    Returns
    -------
    Axes
        One row per model and layer, one column per target. Each cell has its value, and a star if the score differs
        from 0 (corrected p below 0.05). Grey cells have no value: the ceiling is near 0.

    Raises
    ------
    BrainrdlError
        If the table is empty or lacks a column, or an option is not in it.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> row = {"model": "net", "comparator": "corr", "against": "mean", "low": 0.1, "high": 0.3, "p_corrected": 0.01}
    >>> table = pd.DataFrame([row | {"layer": layer, "target": "IT", "score": 0.2, "share": share}
    ...                       for layer, share in (("conv1", 0.25), ("conv2", 0.5))])
    >>> [text.get_text() for text in plot.model_map(table, ax=Figure().subplots()).texts]
    ['0.25*', '0.50*']
    """
    check_option(value, tuple(_VALUES), "value")
    table, comparator, against = _chosen(summary, comparator, against, (*_COLUMNS, value))
    labels = _labels(table)
    rows, columns = (list(dict.fromkeys(column)) for column in (labels, table["target"].astype(str)))
    values, marked = np.full((len(rows), len(columns)), np.nan), np.zeros((len(rows), len(columns)), dtype=bool)
    places = [rows.index(label) for label in labels], [columns.index(str(target)) for target in table["target"]]
    values[places], marked[places] = table[value].to_numpy(float), table["p_corrected"].to_numpy(float) < _ALPHA
    with styled():
        ax = axes_for(ax, (3.2 + 0.62 * len(columns), max(2.4, 1.5 + 0.36 * len(rows))))
        low, high = min(float(np.nanmin(values, initial=0.0)), 0.0), max(float(np.nanmax(values, initial=0.0)), 0.01)
        draw_image(ax, values, "viridis", low, high)
        ax.set_aspect("auto")
        ax.tick_params(length=0)
        name_rows(ax, rows)
        name_columns(ax, range(len(columns)), shown(columns))
        for (row, column), number in np.ndenumerate(values):
            if np.isfinite(number):
                colour = "black" if number > low + 0.6 * (high - low) else "white"
                star = "*" if marked[row, column] else ""
                ax.text(column, row, f"{number:.2f}{star}", ha="center", va="center", color=colour, fontsize=8)
        what = f"{_VALUES[value]}, " if value == "share" else ""
        draw_colorbar(ax, f"{what}{label_of(comparator)}\nwith {Against(against).label}")
    return ax


def model_bars(
    summary: pd.DataFrame | Any,
    comparator: str | None = None,
    against: str | None = None,
    ax: Axes | None = None,
    *,
    target: str | None = None,
) -> Axes:
    """Draw the scores of models with one target as bars with 95 % intervals, with the noise ceiling.

    Parameters
    ----------
    summary, comparator, against, ax
        As in `model_map`.
    target : str, optional
        Which target to draw; by default the first in the table.

    Returns
    -------
    Axes
        One bar per model and layer, from the top; a star means that the score differs from 0 (corrected p below 0.05).

    Raises
    ------
    BrainrdlError
        As in `model_map`.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> row = {"model": "net", "layer": "", "target": "IT", "comparator": "corr", "against": "mean", "score": 0.2,
    ...        "low": 0.1, "high": 0.3, "p_corrected": 0.01, "ceiling_lower": 0.4, "ceiling_upper": 0.5}
    >>> ax = plot.model_bars(pd.DataFrame([row]), ax=Figure().subplots())
    >>> float(ax.containers[0][0].get_width()), [label.get_text() for label in ax.get_yticklabels()]
    (0.2, ['net *'])
    """
    table, comparator, against = _chosen(summary, comparator, against, (*_COLUMNS, "ceiling_lower", "ceiling_upper"))
    target = one_of(table, "target", target)
    table = table[table["target"].astype(str) == target]
    scores, low, high = (table[column].to_numpy(float) for column in ("score", "low", "high"))
    stars = np.where(table["p_corrected"].to_numpy(float) < _ALPHA, " *", "")
    with styled():
        ax = axes_for(ax, (5.6, max(2.2, 1.4 + 0.3 * len(table))))
        places = np.arange(len(table))
        _draw_ceiling(ax, table, Against(against).legend)
        ax.barh(places, scores, color=BLUE, height=0.62, zorder=2)
        known = np.isfinite(low) & np.isfinite(high)
        ax.hlines(places[known], low[known], high[known], color=INK, linewidth=1.4, zorder=3)
        name_rows(ax, [f"{label}{star}" for label, star in zip(_labels(table), stars, strict=True)])
        ax.set_ylim(len(table) - 0.4, -0.6)
        ax.axvline(0, color=QUIET, linewidth=0.8)
        rule(ax, "x")
        ax.set_xlabel(f"{label_of(comparator)} with {Against(against).label}: {plain(target)}")
        if ax.get_legend_handles_labels()[1]:
            explain(ax)
    return ax


def _draw_ceiling(ax: Axes, table: pd.DataFrame, label: str) -> None:
    low, high = (float(table[column].iloc[0]) for column in ("ceiling_lower", "ceiling_upper"))
    if not (np.isfinite(low) and np.isfinite(high)):
        return
    if high > low:
        ax.axvspan(low, high, color="#BDBDBD", alpha=0.55, linewidth=0, zorder=0, label=label, gid="ceiling")
    else:
        ax.axvline(low, color="#767676", linewidth=1.2, zorder=0.5, label=label)


def _chosen(
    summary: Any, comparator: str | None, against: str | None, columns: tuple[str, ...]
) -> tuple[pd.DataFrame, str, str]:
    table = table_of(summary, "summary")
    check_columns(table, columns, "summary")
    comparator, against = one_of(table, "comparator", comparator), one_of(table, "against", against)
    found = table[(table["comparator"] == comparator) & (table["against"] == against)]
    if found.empty:
        refuse(f"the table has no score with comparator {comparator!r} against {against!r}")
    return found, comparator, against


def _labels(table: pd.DataFrame) -> list[str]:
    """Name rows by model and layer; by layer only if all rows are of one network."""
    one = table["model"].nunique() == 1
    return [
        str(layer) if layer and one else f"{model}, {layer}" if layer else str(model)
        for model, layer in zip(table["model"], table["layer"], strict=True)
    ]
