"""Figures of the power of planned studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brainrdl.plot.learning_curves import draw_lines
from brainrdl.plot.style import QUIET, axes_for, check_columns, explain, rule, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def power(table: pd.DataFrame, ax: Axes | None = None, *, at_least: float | None = 0.8) -> Axes:
    """Draw power over the number of subjects, a line for each number of stimuli, with standard errors.

    Parameters
    ----------
    table : DataFrame
        As `brainrdl.inference.power` returns it: columns n_stimuli, n_subjects, power, power_error.
    ax : Axes, optional
        Where to draw; a new figure by default.
    at_least : float, optional
        Draw a line at this power; None for no line.

    Returns
    -------
    Axes

    Raises
    ------
    BrainrdlError
        If the table is empty or lacks a column.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"n_stimuli": [24, 24], "n_subjects": [8, 16], "power": [0.6, 0.9], "power_error": 0.1})
    >>> plot.power(table, Figure().subplots()).get_xlabel()
    'subjects'
    """
    check_columns(table, ("n_stimuli", "n_subjects", "power", "power_error"), "power")
    with styled():
        ax = axes_for(ax, (5.0, 3.4))
        rule(ax, "y")
        ends = {"low": table["power"] - table["power_error"], "high": table["power"] + table["power_error"]}
        rows = table.assign(**ends).sort_values("n_subjects")
        groups = [(f"{n} stimuli", part) for n, part in rows.groupby("n_stimuli")]
        draw_lines(ax, groups, "n_subjects", "power")
        if at_least is not None:
            ax.axhline(at_least, color=QUIET, linewidth=0.8, linestyle="--")
        ax.set(xlabel="subjects", ylabel="power", ylim=(0, 1.02))
        explain(ax)
    return ax
