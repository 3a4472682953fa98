"""Figures of models (or students, layers) and targets: a map, and bars or dots with differences and noise ceiling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.lines import Line2D

from brainrdl._core.errors import check_option
from brainrdl._core.rows import Against
from brainrdl.plot.pair_marks import draw_arrows, draw_brackets, fit_as_brackets
from brainrdl.plot.score_tables import ALPHA, chosen, labels_of, matching, of_result, significant
from brainrdl.plot.style import (
    BLUE,
    INK,
    QUIET,
    axes_for,
    draw_colorbar,
    draw_image,
    explain,
    label_across,
    name_columns,
    name_rows,
    note,
    one_of,
    plain,
    readable_on,
    room_beside_names,
    rule,
    shown,
    styled,
)
from brainrdl.similarity.comparators import label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["bars", "dots"]

Differences = Literal["auto", "brackets", "arrows", "none"]

_VALUES = ("share", "score")

_CELL, _SCALE = 27.0, 70.0  # points that a number with a star, and a colour scale with its label, need


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
    summary : DataFrame, RSAResult or Evaluation
        A result of `brainrdl.rsa` or of `brainrdl.cross_validate`, or its `summary`.
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
        One row per model and layer, one column per target. Each cell has its value (if there is space), and a star if
        the score differs from 0 (p_corrected below 0.05, where the table has it). Grey cells have no value: there is no
        ceiling, or it is near 0.

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
    check_option(value, _VALUES, "value")
    table, comparator, against = chosen(summary, comparator, against, (value,))
    labels = labels_of(table)
    rows, columns = (list(dict.fromkeys(column)) for column in (labels, table["target"].astype(str)))
    values, marked = np.full((len(rows), len(columns)), np.nan), np.zeros((len(rows), len(columns)), dtype=bool)
    places = [rows.index(label) for label in labels], [columns.index(str(target)) for target in table["target"]]
    values[places], marked[places] = table[value].to_numpy(float), significant(table)
    with styled():
        ax = axes_for(ax, (3.2 + 0.62 * len(columns), max(2.4, 1.5 + 0.36 * len(rows))))
        low, high = min(float(np.nanmin(values, initial=0.0)), 0.0), max(float(np.nanmax(values, initial=0.0)), 0.01)
        draw_image(ax, values, "viridis", low, high)
        ax.set_aspect("auto")
        ax.tick_params(length=0)
        name_rows(ax, rows)
        name_columns(ax, range(len(columns)), shown(columns))
        _write_cells(ax, values, marked)
        measure = f"{label_of(comparator)}\nwith {Against(against).label}"
        draw_colorbar(ax, f"share of the noise ceiling\n({measure})" if value == "share" else measure)
        if marked.any():
            note(ax, "* corrected p < 0.05")
    return ax


def _write_cells(ax: Axes, values: npt.NDArray[np.float64], marked: npt.NDArray[np.bool_]) -> None:
    numbers = (room_beside_names(ax) - _SCALE) / values.shape[1] >= _CELL
    for (row, column), number in np.ndenumerate(values):
        star = "*" if marked[row, column] else ""
        if np.isfinite(number) and (numbers or star):
            text = f"{number:.2f}{star}" if numbers else star
            colour = readable_on(ax, number)
            ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)


def model_bars(
    summary: pd.DataFrame | Any,
    comparator: str | None = None,
    against: str | None = None,
    ax: Axes | None = None,
    *,
    target: str | None = None,
    scores: pd.DataFrame | None = None,
    contrasts: pd.DataFrame | None = None,
    kind: Kind = "bars",
    differences: Differences = "auto",
) -> Axes:
    """Draw the scores of models with one target, their 95% intervals, the noise ceiling, and which models differ.

    Parameters
    ----------
    summary : DataFrame, RSAResult or Evaluation
        As in `model_map`. A result also brings its `scores` and `contrasts`.
    comparator, against, ax
        As in `model_map`.
    target : str, optional
        Which target to draw; by default the first in the table.
    scores : DataFrame, optional
        Scores with single subjects, drawn as points: columns model, layer, target, comparator, subject, score. Several
        scores of a subject (folds, seeds) are averaged. Points are drawn only with ``against="subjects"``, because the
        score with the mean RDM has no values of single subjects.
    contrasts : DataFrame, optional
        Differences between models: columns model, layer, other, other_layer, target, comparator, against, difference,
        p_corrected (and family, of which "models" is used).
    kind : {"bars", "dots"}
        Bars from 0, or dots.
    differences : {"auto", "brackets", "arrows", "none"}
        How to mark pairs of models that differ (corrected p below 0.05), to the right of the axes. Brackets have stars.
        Arrows are a column for each model that is better than others: a dot at its row, a tick at those of the others.
        By default brackets, if they fit.

    Returns
    -------
    Axes
        One row per model and layer, from the top; a star at its name means that the score differs from 0 (corrected p
        below 0.05).

    Raises
    ------
    BrainrdlError
        As in `model_map`, and if `scores` or `contrasts` lacks a column.

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
    check_option(kind, get_args(Kind), "kind")
    check_option(differences, get_args(Differences), "differences")
    table, comparator, against = chosen(summary, comparator, against, ("low", "high", "ceiling_lower", "ceiling_upper"))
    target = one_of(table, "target", target)
    table = table[table["target"].astype(str) == target].reset_index(drop=True)
    wanted = {"target": target, "comparator": comparator, "against": against}
    scores = of_result(summary, "scores") if scores is None else scores
    contrasts = of_result(summary, "contrasts") if contrasts is None else contrasts
    with styled():
        ax = axes_for(ax, (5.6, max(2.2, 1.4 + 0.3 * len(table))))
        _draw_ceiling(ax, table, Against(against).legend)
        _draw_scores(ax, table, kind)
        if scores is not None and against == Against.SUBJECTS:
            _draw_subjects(ax, table, matching(scores, wanted, "scores", ("subject", "score")))
        stars = np.where(significant(table), " *", "")
        name_rows(ax, [f"{label}{star}" for label, star in zip(labels_of(table), stars, strict=True)])
        ax.set_ylim(len(table) - 0.4, -0.6)
        ax.axvline(0, color=QUIET, linewidth=0.8)
        rule(ax, "x")
        label_across(ax, f"{label_of(comparator)} with {Against(against).label}: {plain(target)}")
        if contrasts is not None and len(contrasts) and differences != "none":
            _draw_differences(ax, table, matching(contrasts, wanted, "contrasts", _CONTRASTED), differences)
        if significant(table).any():
            ax.add_line(Line2D([], [], linestyle="none", label="* at a name: corrected p < 0.05"))
        if ax.get_legend_handles_labels()[1]:
            explain(ax)
    return ax


_CONTRASTED = ("other", "other_layer", "difference", "p_corrected")


def _draw_scores(ax: Axes, table: pd.DataFrame, kind: Kind) -> None:
    places = np.arange(len(table))
    score, low, high = (table[column].to_numpy(float) for column in ("score", "low", "high"))
    if kind == "bars":
        ax.barh(places, score, color=BLUE, height=0.62, zorder=2)
    known = np.isfinite(low) & np.isfinite(high)
    colour = INK if kind == "bars" else BLUE
    ax.hlines(places[known], low[known], high[known], color=colour, linewidth=1.8, zorder=3)
    if kind == "dots":
        ax.plot(score, places, "o", color=BLUE, markersize=6.5, zorder=5, label="_scores")


def _draw_subjects(ax: Axes, table: pd.DataFrame, scores: pd.DataFrame) -> None:
    """Draw a point per subject, each at the same height in all rows, above or below the line of the interval."""
    subjects = list(dict.fromkeys(scores["subject"]))
    heights = _beside_line(len(subjects))
    means = scores.groupby(["model", "layer", "subject"], sort=False)["score"].mean().reset_index()
    rows = _keys(table, "model", "layer")
    found = [
        (score, rows.index(key) + heights[subjects.index(subject)])
        for key, subject, score in zip(_keys(means, "model", "layer"), means["subject"], means["score"], strict=True)
        if key in rows and np.isfinite(score)
    ]
    if found:
        style: dict[str, Any] = {"markersize": 2.8, "markerfacecolor": "white", "markeredgewidth": 0.7}
        ax.plot(*np.transpose(found), "o", color=INK, zorder=4, label="single subjects", **style)


def _beside_line(n: int) -> npt.NDArray[np.float64]:
    """Heights in a row for n points, from the top, without the middle.

    Examples
    --------
    >>> _beside_line(4).round(2).tolist()
    [-0.27, -0.12, 0.12, 0.27]
    """
    above = (n + 1) // 2
    return np.concatenate([np.linspace(-0.27, -0.12, above), np.linspace(0.27, 0.12, n - above)[::-1]])


def _draw_differences(ax: Axes, table: pd.DataFrame, contrasts: pd.DataFrame, differences: Differences) -> None:
    rows = _keys(table, "model", "layer")
    ends = _keys(contrasts, "model", "layer"), _keys(contrasts, "other", "other_layer")
    first, second = (np.array([rows.index(key) if key in rows else -1 for key in keys], dtype=int) for keys in ends)
    difference, p = (contrasts[column].to_numpy(float) for column in ("difference", "p_corrected"))
    clear = (p < ALPHA) & (first >= 0) & (second >= 0)
    if not clear.any():
        return
    better, worse = np.where(difference > 0, (first, second), (second, first))[:, clear]
    if differences == "brackets" or (differences == "auto" and fit_as_brackets(ax, better, worse)):
        draw_brackets(ax, better, worse, p[clear].tolist())
    else:
        draw_arrows(ax, better, worse)


def _keys(table: pd.DataFrame, model: str, layer: str) -> list[tuple[str, str]]:
    return [(str(one), str(part)) for one, part in zip(table[model], table[layer], strict=True)]


def _draw_ceiling(ax: Axes, table: pd.DataFrame, label: str) -> None:
    known = table[["ceiling_lower", "ceiling_upper"]].astype(float).dropna()
    if known.empty:
        return
    low, high = (float(bound) for bound in known.iloc[0])
    if high > low:
        ax.axvspan(low, high, color="#BDBDBD", alpha=0.55, linewidth=0, zorder=0, label=label, gid="ceiling")
    else:
        ax.axvline(low, color="#767676", linewidth=1.2, zorder=0.5, label=label)
