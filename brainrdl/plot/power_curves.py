"""Figures of the power of planned studies."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from brainrdl.plot.style import LINE_LOOKS, QUIET, axes_for, check_columns, explain, rule, styled

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
        for (n_stimuli, rows), (colour, marker) in zip(table.groupby("n_stimuli"), cycle(LINE_LOOKS), strict=False):
            rows = rows.sort_values("n_subjects")
            ax.errorbar(
                rows["n_subjects"], rows["power"], yerr=rows["power_error"], color=colour, marker=marker, markersize=4,
                linewidth=1.4, elinewidth=0.8, label=f"{n_stimuli} stimuli",
            )  # fmt: skip
        if at_least is not None:
            ax.axhline(at_least, color=QUIET, linewidth=0.8, linestyle="--")
        ax.set(xlabel="subjects", ylabel="power", ylim=(0, 1.02))
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=(1, 2, 5, 10)))
        explain(ax)
    return ax
