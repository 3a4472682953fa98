"""Figures of how scores grow with the amount of data that a student was fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from brainrdl.plot.style import LINE_LOOKS, QUIET, axes_for, check_columns, explain, in_legend, plain, rule, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_APART = 0.012  # of the axis, between the lines, so that their intervals do not cover each other


def learning_curve(
    table: pd.DataFrame, x: str, by: str = "student", ax: Axes | None = None, *, legend: bool = True
) -> Axes:
    """Draw scores over the number of stimuli (or subjects) fitted, a line for each student or model.

    Parameters
    ----------
    table : DataFrame
        One row per point: columns `x`, `by`, score, low and high (95% interval of the score; NaN is not drawn) and, if
        known, ceiling: the score that a perfect model is expected to reach, drawn if it is the same for all points.
    x : str
        Column with the number of stimuli or subjects.
    by : str
        Column of the lines.
    ax : Axes, optional
        Where to draw; a new figure by default.
    legend : bool
        Whether to add a legend above the axes.

    Returns
    -------
    Axes
        One line per group, in the order of the table, with vertical lines for the intervals. Lines are shifted a
        little to the sides, so that intervals can be told from each other.

    Raises
    ------
    BrainrdlError
        If the table is empty or lacks a column.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"n_stimuli": [24, 48], "student": "map", "score": [0.3, 0.5], "low": 0.2, "high": 0.6})
    >>> plot.learning_curve(table, "n_stimuli", ax=Figure().subplots()).get_xlabel()
    'n stimuli'
    """
    check_columns(table, (x, by, "score", "low", "high"), "table")
    with styled():
        ax = axes_for(ax, (5.0, 3.4))
        rule(ax, "y")
        groups = [(str(name), rows.sort_values(x)) for name, rows in table.groupby(by, sort=False, dropna=False)]
        draw_lines(ax, groups, x, "score", step=_APART * float(table[x].max() - table[x].min()))
        if "ceiling" in table and table["ceiling"].round(6).nunique(dropna=False) == 1:
            ax.axhline(table["ceiling"].iloc[0], color=QUIET, linewidth=1.2, label="expected of a perfect model")
        ax.set(xlabel=plain(x.replace("_", " ")), ylabel="held-out score")
        if legend:
            explain(ax)
    return ax


def draw_lines(ax: Axes, groups: Sequence[tuple[str, pd.DataFrame]], x: str, y: str, step: float = 0.0) -> None:
    """Draw a line for each group over whole numbers, with vertical lines from low to high, shifted by `step`."""
    labels = in_legend([label for label, _ in groups])
    for k, (label, (_, rows)) in enumerate(zip(labels, groups, strict=True)):
        colour, marker = LINE_LOOKS[k % len(LINE_LOOKS)]
        places = rows[x] + step * (k - (len(groups) - 1) / 2)
        ax.vlines(places, rows["low"], rows["high"], color=colour, linewidth=1.1, alpha=0.7)
        ax.plot(places, rows[y], color=colour, marker=marker, markersize=5, linewidth=1.4, label=label)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=(1, 2, 5, 10)))
