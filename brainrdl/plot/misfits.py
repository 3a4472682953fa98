"""Pairs of conditions that a student and a teacher disagree about: the table, and a figure of the worst pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from brainrdl._core.errors import check_conditions, check_whole
from brainrdl.plot.images import RANK
from brainrdl.plot.student_teacher import one_each, ranked_pairs
from brainrdl.plot.style import BLUE, QUIET, VERMILION, axes_for, in_legend, plain, rule, shown, styled
from brainrdl.plot.thumbnails import Images, Picture, thumbnails
from brainrdl.rdms.by_name import names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rsatoolbox.rdm import RDMs


def pair_table(
    student: RDMs, teacher: RDMs, groups: Mapping[str, str] | None = None, *, by: str = "stimulus"
) -> pd.DataFrame:
    """Return the pairs that a student and a teacher both know, those with the largest difference of ranks first.

    Parameters
    ----------
    student, teacher : RDMs
        One RDM each, with the same conditions in any order.
    groups : mapping of condition name to category, optional
        Adds the columns group_a and group_b.
    by : str
        Pattern descriptor that names the conditions.

    Returns
    -------
    DataFrame
        Columns a, b (conditions), student, teacher (dissimilarities), student_rank, teacher_rank (midranks among these
        pairs, 0 to 1), and difference (of ranks, student - teacher: negative if the student finds the pair too
        similar).

    Raises
    ------
    BrainrdlError
        If the names differ, a stack has several RDMs, there is no common pair, or a condition has no category.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from brainrdl.rdms import from_array
    >>> teacher = from_array([0.1, 0.9, 0.8], ["cat", "dog", "car"])
    >>> student = from_array([3.0, 2.0, 1.0], ["cat", "dog", "car"])
    >>> plot.pair_table(student, teacher)[["a", "b", "difference"]].values.tolist()
    [['cat', 'dog', 1.0], ['cat', 'car', -0.5], ['dog', 'car', -0.5]]
    """
    student, teacher = one_each(student, teacher, by)
    values, ranks = ranked_pairs(student, teacher)
    conditions = np.array(names(student, by), dtype=object)
    if groups is not None:
        check_conditions(conditions, groups.keys(), "groups (name -> category)")
    i, j = np.triu_indices(len(conditions), 1)
    table = pd.DataFrame(
        {"a": conditions[i], "b": conditions[j], "student": values[0], "teacher": values[1]}
        | {"student_rank": ranks[0], "teacher_rank": ranks[1], "difference": ranks[0] - ranks[1]}
    )
    if groups is not None:
        table = table.assign(group_a=[groups[a] for a in table["a"]], group_b=[groups[b] for b in table["b"]])
    known = table[np.isfinite(table["difference"])]
    worst = known["difference"].abs().sort_values(ascending=False, kind="stable").index
    return known.loc[worst].reset_index(drop=True)


def worst_pairs(
    student: RDMs,
    teacher: RDMs,
    ax: Axes | None = None,
    n: int = 8,
    *,
    images: Images | None = None,
    by: str = "stimulus",
    titles: tuple[str, str] = ("student", "teacher"),
    title: str | None = None,
) -> Axes:
    """Draw the pairs with the largest difference between student and teacher: their pictures, and both ranks.

    Parameters
    ----------
    student, teacher : RDMs
        One RDM each, with the same conditions in any order. Pairs that are missing in one of them are left out.
    ax : Axes, optional
        Where to draw; a new figure by default.
    n : int
        Number of pairs, at least 1; of fewer pairs, all are drawn.
    images : path, mapping or Stimuli, optional
        Pictures of the conditions, as in `rdm`; by default their names are written.
    by : str
        Pattern descriptor that names the conditions.
    titles : pair of str
        Names of the two RDMs in the legend.
    title : str, optional
        Title of the axes.

    Returns
    -------
    Axes
        With one row per pair, the worst one at the top: a line between the teacher's rank (circle) and the student's
        (triangle). Ranks are those among all common pairs, 0 (most similar) to 1.

    Raises
    ------
    BrainrdlError
        If the names differ, a stack has several RDMs, there is no common pair, or a condition has no image.

    See Also
    --------
    pair_table : The table of all pairs.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from brainrdl.rdms import from_array
    >>> from matplotlib.figure import Figure
    >>> teacher = from_array([0.1, 0.9, 0.8], ["cat", "dog", "car"])
    >>> student = from_array([3.0, 2.0, 1.0], ["cat", "dog", "car"])
    >>> ax = plot.worst_pairs(student, teacher, Figure().subplots(), n=1)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['cat \u2013 dog']
    """
    check_whole(n, "n", at_least=1)
    table = pair_table(student, teacher, by=by).head(n)
    with styled():
        ax = axes_for(ax, (3.4, 0.9 + (0.34 if images is not None else 0.26) * len(table)))
        rows = np.arange(len(table))
        ax.hlines(rows, table["teacher_rank"], table["student_rank"], color=QUIET, linewidth=1.4, zorder=1)
        mark: dict[str, Any] = {"linestyle": "none", "markersize": 6.5, "zorder": 2}
        ax.plot(table["teacher_rank"], rows, marker="o", color=BLUE, label=in_legend(titles)[1], **mark)
        ax.plot(table["student_rank"], rows, marker="^", color=VERMILION, label=in_legend(titles)[0], **mark)
        ax.set(xlim=(-0.04, 1.04), ylim=(len(table) - 0.45, -0.55), xlabel=RANK)
        rule(ax, "x")
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        _label_pairs(ax, table, images)
        ax.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, handletextpad=0.2, columnspacing=1.0
        )
        if title:
            ax.set_title(plain(title, 60), loc="left", pad=24, family=mpl.rcParams["font.family"])
    return ax


def _label_pairs(ax: Axes, table: pd.DataFrame, images: Images | None) -> None:
    if images is None:
        words = [
            f"{a} \u2013 {b}" for a, b in zip(*(shown(table[side].tolist(), 14) for side in ("a", "b")), strict=True)
        ]
        ax.set_yticks(range(len(table)), words, family=mpl.rcParams["font.family"])
        return
    ax.set_yticks(range(len(table)), [""] * len(table))
    both = [name for pair in zip(table["a"], table["b"], strict=True) for name in pair]
    hang_beside(ax, thumbnails(images, both, longest=96), columns=2)


def hang_beside(ax: Axes, pictures: Sequence[Picture], columns: int) -> None:
    """Draw pictures to the left of the rows of an axes, `columns` per row."""
    bottom, top = ax.get_ylim()
    box = ax.get_window_extent()
    width = 0.92 * columns * box.height / box.width / abs(bottom - top)  # squares, as a fraction of the axes' width
    beside = ax.inset_axes((-width - 0.03, 0, width, 1), label="images")
    beside.set_axis_off()
    for k, picture in enumerate(pictures):
        x, y = k % columns + 0.5, k // columns
        height, wide = 0.45 * np.array(picture.shape[:2]) / max(picture.shape[:2])
        extent = (x - wide, x + wide, y + height, y - height)
        beside.imshow(picture, extent=extent, aspect="auto", interpolation="antialiased", clip_on=False)
    beside.set(xlim=(0, columns), ylim=(bottom, top))
