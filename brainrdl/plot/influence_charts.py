"""Figure of the conditions that change a score, or the agreement of subjects, the most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from brainrdl._core.errors import check_whole, refuse
from brainrdl.plot.misfits import hang_beside
from brainrdl.plot.style import BLUE, QUIET, VERMILION, axes_for, check_columns, plain, rule, shown, styled
from brainrdl.plot.thumbnails import Images, thumbnails
from brainrdl.similarity.comparators import label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def condition_influence(
    table: pd.DataFrame,
    ax: Axes | None = None,
    n: int = 12,
    *,
    images: Images | None = None,
    title: str | None = None,
) -> Axes:
    """Draw the conditions that change the score of a student the most, with their effect on the subjects' agreement.

    Parameters
    ----------
    table : DataFrame
        Columns condition, change and agreement_change, and comparator, if known, from
        `brainrdl.inference.influence_of_conditions`.
    ax : Axes, optional
        Where to draw; a new figure by default.
    n : int
        Number of conditions, at least 1: those with the largest absolute change of the score.
    images : path, mapping or Stimuli, optional
        Pictures of the conditions, as in `rdm`; by default their names are written.
    title : str, optional
        Title of the axes.

    Returns
    -------
    Axes
        With one row per condition, sorted by its change of the score: conditions that lower the score are at the top,
        to the left of 0. Triangles show the score, circles the agreement of the subjects, if there are several.

    Raises
    ------
    BrainrdlError
        If the table is empty or lacks a column, all changes are NaN, or a condition has no image.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"condition": ["cat", "dog", "car"], "change": [0.02, -0.05, 0.001],
    ...                       "agreement_change": [0.01, 0.0, 0.02]})
    >>> ax = plot.condition_influence(table, Figure().subplots(), n=2)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['dog', 'cat']
    """
    check_columns(table, ("condition", "change", "agreement_change"), "table of conditions")
    check_whole(n, "n", at_least=1)
    known = table[table["change"].notna()]
    if known.empty:
        refuse("the change of the score is NaN for all conditions; there is nothing to draw")
    largest = known["change"].abs().sort_values(ascending=False, kind="stable").index[:n]
    rows = known.loc[largest].sort_values("change", kind="stable")
    with styled():
        ax = axes_for(ax, (3.4, 1.1 + (0.3 if images is not None else 0.22) * len(rows)))
        y = np.arange(len(rows))
        mark: dict[str, Any] = {"linestyle": "none", "markersize": 6, "zorder": 2}
        if rows["agreement_change"].notna().any():
            ax.plot(rows["agreement_change"], y, marker="o", color=BLUE, label="agreement of subjects", **mark)
        ax.hlines(y, 0, rows["change"], color=VERMILION, linewidth=1.4, zorder=1)
        ax.plot(rows["change"], y, marker="^", color=VERMILION, label="score", **mark)
        ax.axvline(0, color=QUIET, linewidth=0.8, zorder=0.5)
        ax.set(ylim=(len(rows) - 0.45, -0.55), xlabel=_changes(table))
        ax.locator_params(axis="x", nbins=4)
        rule(ax, "x")
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        words = shown([str(name) for name in rows["condition"]]) if images is None else [""] * len(rows)
        ax.set_yticks(y, words, family=mpl.rcParams["font.family"])
        if images is not None:
            hang_beside(ax, thumbnails(images, [str(name) for name in rows["condition"]], longest=96), columns=1)
        ax.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, handletextpad=0.2, columnspacing=1.0
        )
        if title:
            ax.set_title(plain(title, 60), loc="left", pad=24, family=mpl.rcParams["font.family"])
    return ax


def _changes(table: pd.DataFrame) -> str:
    """Say what changes, of which comparator."""
    known = list(table["comparator"].unique()) if "comparator" in table else []
    return f"change of the {label_of(known[0])}\nby this condition" if len(known) == 1 else "change by this condition"
