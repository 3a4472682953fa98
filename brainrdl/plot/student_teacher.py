"""Figures of the RDMs of a student and a teacher: side by side with their difference, or pair by pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float

from brainrdl._core.errors import arg, check_option, quote, refuse
from brainrdl.dissimilarity.measures import label_of
from brainrdl.plot.arrangement import Layout, layout_of, limits_of, ranks
from brainrdl.plot.images import RANK
from brainrdl.plot.margins import Blocks, Margins, explain_panels, label_panels, margins_of, settle
from brainrdl.plot.style import (
    BLUE,
    DIVERGING,
    PANEL_TITLE,
    QUIET,
    VERMILION,
    axes_for,
    draw_colorbar,
    draw_image,
    explain,
    extent_of,
    new_figure,
    plain,
    readable_on,
    set_title,
    shown,
    styled,
)
from brainrdl.rdms.by_name import align, names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs

    from brainrdl.plot.thumbnails import Images

DENSE = 2000
"""Number of pairs above which `pairs` draws their density instead of points."""

_SIGNED = 12  # conditions or categories up to which cells are large enough for signs

MOST_FOLDS = 12  # that can be drawn next to each other


def rdm_pair(
    student: RDMs,
    teacher: RDMs,
    groups: Mapping[str, str] | None = None,
    *,
    scale: str = "rank",
    cells: str = "pairs",
    by: str = "stimulus",
    titles: tuple[str, str] = ("student", "teacher"),
    figure: Figure | None = None,
    order: str | Sequence[str] | None = None,
    folds: Mapping[str, Any] | None = None,
    images: Images | None = None,
    labels: str | None = None,
    columns: int = 3,
) -> Figure:
    """Draw the RDMs of a student and a teacher side by side on the same scale, and their difference.

    Only pairs that both RDMs contain are ranked and compared, so that both panels show the same pairs. A pair that is
    missing in one RDM (in a cross-validation: a pair that was never held out together) is grey in all three panels.

    Parameters
    ----------
    student, teacher : RDMs
        One RDM each, with the same conditions in any order; the teacher's conditions are aligned to the student's by
        name.
    groups : mapping of condition name to category, optional
        As in `rdm`.
    scale : {"rank", "raw"}
        "rank": midranks of the dissimilarities, scaled to 0 (smallest) to 1 (largest), for RDMs of different measures.
        "raw": the dissimilarities themselves, if both RDMs have the same measure.
    cells : {"pairs", "groups"}
        "pairs": one cell per pair of conditions. "groups": one cell per pair of categories, with the mean over their
        pairs; this is readable even if most pairs are missing, and needs `groups`.
    by : str
        Pattern descriptor that names the conditions.
    titles : pair of str
        Titles of the two RDMs.
    figure : Figure, optional
        Where to draw; a new figure by default.
    order, folds, images, labels
        As in `rdm`. The teacher's RDM is clustered, so that a student with missing pairs can have this order.
    columns : {3, 1}
        3: panels next to each other. 1: below each other, for a narrow page.

    Returns
    -------
    Figure
        With three image axes (student, teacher, student - teacher) and two colour scales. Up to 12 conditions or
        categories, the cells of the difference also have signs.

    Raises
    ------
    BrainrdlError
        If the names differ, a stack has several RDMs, an option is unknown, a condition has no category, fold or image,
        ``cells="groups"`` has other margins than categories, or the measures differ with ``scale="raw"``.

    See Also
    --------
    rdm_folds : Only the pairs that were held out together, one panel per fold.
    pair_table : The table of these pairs.

    Examples
    --------
    >>> import numpy as np
    >>> from brainrdl import plot
    >>> from brainrdl.rdms import from_array
    >>> from matplotlib.figure import Figure
    >>> teacher = from_array(np.array([0.1, 0.9, 0.8]), ["cat", "dog", "car"])
    >>> student = from_array(np.array([3.0, 2.0, 1.0]), ["cat", "dog", "car"])
    >>> figure = plot.rdm_pair(student, teacher, figure=Figure())
    >>> figure.axes[2].images[0].get_array()[0].tolist()
    [0.0, 1.0, -0.5]
    """
    check_option(scale, ("rank", "raw"), "scale")
    check_option(cells, ("pairs", "groups"), "cells")
    if columns not in (1, 3):
        refuse(f"{arg('columns')} must be 3 (panels next to each other) or 1 (below each other), got {columns!r}")
    student, teacher = one_each(student, teacher, by)
    squares = _scaled_squares(student, teacher, scale)
    if cells == "groups":
        if any(given is not None for given in (order, folds, images, labels)):
            refuse('cells="groups" draws categories, so order, folds, images and labels of conditions have no place')
        squares, layout = _per_group(squares, layout_of(names(student, by), groups))
    else:
        layout = layout_of(names(student, by), groups, order, folds, teacher.get_matrices()[0])
        squares = [layout.arrange(square) for square in squares]
    margins = margins_of(layout, images, labels)
    unit = RANK if scale == "rank" else _measure_of_both(student, teacher)
    limits = (0.0, 1.0) if (scale, cells) == ("rank", "pairs") else limits_of(squares, diagonal=cells == "groups")
    with styled():
        figure = figure or new_figure((9.4, 3.2) if columns == 3 else (3.4, 8.4))
        _three_panels(figure, squares, margins, titles, unit, limits, columns)
        if margins.pictures:
            settle(figure)
    return figure


def _three_panels(
    figure: Figure,
    squares: Sequence[Float[np.ndarray, "n n"]],
    margins: Margins,
    titles: tuple[str, str],
    unit: str,
    limits: tuple[float, float],
    columns: int,
) -> None:
    difference = squares[0] - squares[1]
    extent = extent_of(difference)
    words = f"{titles[0]} - {titles[1]}"
    places = "left - middle" if columns == 3 else "first - second"
    of_difference = words if len(words) <= PANEL_TITLE else f"difference, {places}"
    looks = [("viridis", *limits), ("viridis", *limits), (DIVERGING, -extent, extent)]
    axes = figure.subplots(3 // columns, columns)
    for ax, square, title, look in zip(axes, [*squares, difference], [*titles, of_difference], looks, strict=True):
        draw_image(ax, square, *look)
        set_title(ax, title, PANEL_TITLE)
    if len(difference) <= _SIGNED:
        _write_signs(axes[2], difference)
    label_panels(axes, margins, columns)
    draw_colorbar(axes[1], unit)
    draw_colorbar(axes[2], unit.replace(RANK, "difference of ranks"))


def _write_signs(ax: Axes, difference: Float[np.ndarray, "n n"]) -> None:
    """Write the sign of each difference in its cell, because shades near 0 are hard to tell from grey."""
    for row, column in np.argwhere(np.nan_to_num(difference) != 0):
        value = float(difference[row, column])
        sign = "+" if value > 0 else "\N{MINUS SIGN}"
        ax.text(column, row, sign, ha="center", va="center", fontsize=9, color=readable_on(ax, value))


def rdm_folds(
    student: RDMs,
    teacher: RDMs,
    folds: Mapping[str, Any],
    groups: Mapping[str, str] | None = None,
    *,
    scale: str = "rank",
    by: str = "stimulus",
    titles: tuple[str, str] = ("student", "teacher"),
    images: Images | None = None,
    figure: Figure | None = None,
    rows: str = "rdms",
) -> Figure:
    """Draw the pairs that were held out together: one column per fold with student, teacher and difference.

    In a cross-validation with k folds, about 1 / k of the pairs are held out together. A full RDM would be empty
    elsewhere; here, pairs between folds are not drawn.

    Parameters
    ----------
    student, teacher : RDMs
        One RDM each, with the same conditions in any order. Pairs within a fold that one of them lacks are grey.
    folds : mapping of condition name to fold
        Fold in which each condition was held out: at most 12 folds, each with at least 2 conditions.
    groups : mapping of condition name to category, optional
        Sort the conditions of each fold by category, and show the categories as coloured bars.
    scale : {"rank", "raw"}
        As in `rdm_pair`; ranks are those among all pairs within folds.
    by : str
        Pattern descriptor that names the conditions.
    titles : pair of str
        Names of the two RDMs, beside the rows.
    images : path, mapping or Stimuli, optional
        Pictures for the margins, as in `rdm`.
    figure : Figure, optional
        Where to draw; a new figure by default.
    rows : {"rdms", "folds"}
        "rdms": three rows and one column per fold. "folds": one row per fold and three columns, for a narrow page.

    Returns
    -------
    Figure
        With three image axes (student, teacher, student - teacher), each of which has one image per fold.

    Raises
    ------
    BrainrdlError
        If the names differ, a stack has several RDMs, an option is unknown, a condition has no fold, category or image,
        there are more than 12 folds or fewer than 2, a fold has one condition, or the measures differ with
        ``scale="raw"``.

    Examples
    --------
    >>> import numpy as np
    >>> from brainrdl import plot
    >>> from brainrdl.rdms import from_array
    >>> from matplotlib.figure import Figure
    >>> teacher = from_array(np.array([0.1, 0.9, 0.8, 0.7, 0.6, 0.5]), list("abcd"))
    >>> figure = plot.rdm_folds(teacher, teacher, {"a": 0, "b": 1, "c": 0, "d": 1}, figure=Figure())
    >>> [text.get_text() for text in figure.axes[0].texts], [image.get_array().shape for image in figure.axes[0].images]
    (['fold 0', 'fold 1'], [(2, 2), (2, 2)])
    """
    check_option(scale, ("rank", "raw"), "scale")
    check_option(rows, ("rdms", "folds"), "rows")
    student, teacher = one_each(student, teacher, by)
    layout = layout_of(names(student, by), groups, "folds", folds)
    sizes = [stop - start for _, start, stop in layout.blocks]
    if not 2 <= len(sizes) <= MOST_FOLDS or min(sizes) < 2:
        refuse(f"expected 2 to {MOST_FOLDS} folds of at least 2 conditions, got folds of {quote(sizes)}")
    within = [_only_within(rdms, folds, by) for rdms in (student, teacher)]
    squares = [layout.arrange(square) for square in _scaled_squares(within[0], within[1], scale)]
    unit = RANK if scale == "rank" else _measure_of_both(student, teacher)
    limits = (0.0, 1.0) if scale == "rank" else limits_of(squares)
    with styled():
        upright = rows == "folds"
        figure = figure or new_figure((4.8, 0.7 + 1.15 * len(sizes)) if upright else (1.4 + 1.15 * len(sizes), 4.2))
        _draw_folds(figure, squares, margins_of(layout, images), titles, unit, limits, upright)
    return figure


def _only_within(rdms: RDMs, folds: Mapping[str, Any], by: str) -> RDMs:
    """Set pairs between folds to NaN."""
    of = np.array([str(folds[name]) for name in names(rdms, by)], dtype=object)
    i, j = np.triu_indices(len(of), 1)
    kept = rdms.copy()
    kept.dissimilarities = np.where(of[i] == of[j], np.asarray(rdms.get_vectors(), dtype=float), np.nan)
    return kept


def _draw_folds(
    figure: Figure,
    squares: Sequence[Float[np.ndarray, "n n"]],
    margins: Margins,
    titles: tuple[str, str],
    unit: str,
    limits: tuple[float, float],
    upright: bool,
) -> None:
    squares = [*squares, squares[0] - squares[1]]
    folds, extent = margins.layout.blocks, extent_of(squares[2])
    looks = [("viridis", *limits), ("viridis", *limits), (DIVERGING, -extent, extent)]
    axes = list(figure.subplots(*((1, 3) if upright else (3, 1))))
    blocks = Blocks.of(margins, figure, 3, upright=upright)
    for ax, square, look, title in zip(axes, squares, looks, [*titles, "difference"], strict=True):
        for (_, start, stop), corner in zip(folds, blocks.corners, strict=True):
            draw_image(ax, square[start:stop, start:stop], *look, corner=corner)
        blocks.mark(ax)
        if upright:
            set_title(ax, title, PANEL_TITLE)
        else:
            ax.set_ylabel("\n".join(shown([title])))
    for word, (left, top), n in zip(shown([label for label, *_ in folds]), blocks.corners, blocks.sizes, strict=True):
        _name_fold(axes[0], word, *((-0.5 - blocks.outside, top + n / 2) if upright else (left - 0.5, -0.5)), upright)
    axes[1 if upright else 2].set_xlabel("".join(blocks.notes))
    share = max(blocks.sizes) / blocks.ends[upright]
    if upright:
        below = share * (0.22 + blocks.marks[-1].outside)
        for ax, short in ((axes[0], "rank"), (axes[2], "difference")):
            ends: dict[str, Any] = {"ticks": ax.images[0].get_clim(), "format": "%.2g"}
            box = (0, -below, 1, 0.07 * share)
            draw_colorbar(ax, unit.replace(RANK, short), box=box, orientation="horizontal", **ends)
    else:
        beside = (1 + 0.035 * share, 0, 0.045 * share, 1)
        draw_colorbar(axes[1], unit.replace(RANK, "rank of\ndissimilarity"), box=beside)
        draw_colorbar(axes[2], unit.replace(RANK, "difference\nof ranks"), box=beside)
    if blocks.has_legend:
        explain_panels(figure, margins)
    if margins.pictures:
        settle(figure)


def _name_fold(ax: Axes, word: str, x: float, y: float, upright: bool) -> None:
    """Write the name of a fold above its matrix, or to the left of it."""
    look: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "center"} if upright else {"va": "bottom"}
    size = mpl.rcParams["axes.labelsize" if upright else "axes.titlesize"]
    away = (-4, 0) if upright else (0, 4)
    ax.annotate(word, (x, y), away, textcoords="offset points", fontsize=size, annotation_clip=False, **look)


def _measure_of_both(student: RDMs, teacher: RDMs) -> str:
    measures = [rdms.dissimilarity_measure for rdms in (student, teacher)]
    if len({measure for measure in measures if measure}) > 1:
        refuse(
            f"scale='raw' draws both RDMs on the same scale, but the student's measure is {measures[0]!r} and the "
            f"teacher's is {measures[1]!r}; use scale='rank'"
        )
    return label_of(measures[0] if measures[0] == measures[1] else None)


def _scaled_squares(student: RDMs, teacher: RDMs, scale: str) -> list[Float[np.ndarray, "n n"]]:
    from scipy.spatial.distance import squareform

    return [squareform(pairs) for pairs in ranked_pairs(student, teacher)[scale == "rank"]]


def _per_group(
    squares: Iterable[Float[np.ndarray, "n n"]], layout: Layout
) -> tuple[list[Float[np.ndarray, "n_groups n_groups"]], Layout]:
    """Average over the pairs of each two categories; a category with one condition has no pairs within it."""
    if not layout.runs:
        refuse('cells="groups" needs groups: a mapping of condition name to category')
    labels = tuple(f"{label} ({stop - start})" for label, start, stop in layout.runs)
    means = [_block_means(layout.arrange(square), layout.runs) for square in squares]
    return means, Layout(labels, np.arange(len(labels)))


def _block_means(square: Float[np.ndarray, "n n"], runs: Sequence[tuple[str, int, int]]) -> Float[np.ndarray, "k k"]:
    off_diagonal = np.where(np.eye(len(square), dtype=bool), np.nan, square)
    blocks = [[off_diagonal[a:b, c:d] for _, c, d in runs] for _, a, b in runs]
    return np.array([[_mean(block) for block in row] for row in blocks])


def _mean(values: Float[np.ndarray, "*shape"]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def pairs(
    student: RDMs,
    teacher: RDMs,
    ax: Axes | None = None,
    groups: Mapping[str, str] | None = None,
    *,
    by: str = "stimulus",
    scale: str = "raw",
    titles: tuple[str, str] = ("student", "teacher"),
) -> Axes:
    """Draw the student's dissimilarity against the teacher's, with one point per pair of conditions.

    More than 2000 pairs are drawn as hexagons, which are darker where there are more pairs; with `groups` their colour
    is the share of pairs within a category.

    Parameters
    ----------
    student, teacher : RDMs
        One RDM each, with the same conditions in any order. Pairs that are missing in one of them are left out.
    ax : Axes, optional
        Where to draw; a new figure by default.
    groups : mapping of condition name to category, optional
        Colour pairs by whether both conditions belong to the same category.
    by : str
        Pattern descriptor that names the conditions.
    scale : {"raw", "rank"}
        "raw": dissimilarities. "rank": their midranks among the common pairs, 0 to 1, with a line of equal ranks.
    titles : pair of str
        Names of the two RDMs on the axes.

    Returns
    -------
    Axes
        The teacher's dissimilarity is horizontal, the student's vertical, each in its own unit.

    Raises
    ------
    BrainrdlError
        If the names differ, a stack has several RDMs, there is no common pair, a condition has no category, or the
        scale is unknown.

    See Also
    --------
    pair_table : The table of these pairs.
    worst_pairs : The pairs that fit worst, with their pictures.

    Examples
    --------
    >>> import numpy as np
    >>> from brainrdl import plot
    >>> from brainrdl.rdms import from_array
    >>> from matplotlib.figure import Figure
    >>> teacher = from_array(np.array([0.1, 0.9, 0.8]), ["cat", "dog", "car"])
    >>> student = from_array(np.array([0.2, np.nan, 0.7]), ["cat", "dog", "car"])
    >>> ax = plot.pairs(student, teacher, Figure().subplots())
    >>> ax.collections[0].get_offsets().tolist()
    [[0.1, 0.2], [0.8, 0.7]]
    """
    check_option(scale, ("raw", "rank"), "scale")
    student, teacher = one_each(student, teacher, by)
    layout = layout_of(names(student, by), groups)
    y, x = ranked_pairs(student, teacher)[scale == "rank"]
    shared = np.isfinite(x)
    within = None if groups is None else _within(layout)[shared]
    with styled():
        ax = axes_for(ax, (4.6, 4.0))
        draw = _draw_density if shared.sum() > DENSE else _draw_scatter
        draw(ax, x[shared], y[shared], within)
        if scale == "rank":
            ax.axline((0, 0), slope=1, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)), zorder=3)
        units = [RANK if scale == "rank" else label_of(rdms.dissimilarity_measure) for rdms in (teacher, student)]
        ax.set(xlabel=f"{plain(titles[1])}: {units[0]}", ylabel=f"{plain(titles[0])}: {units[1]}")
        set_title(ax, f"{int(shared.sum())} pairs" + (f", {int((~shared).sum())} left out" if not shared.all() else ""))
    return ax


def _within(layout: Layout) -> Bool[np.ndarray, " n_pairs"]:
    """Whether both conditions of a pair belong to the same category, in the order of the RDM (not of the drawing)."""
    of = np.empty(len(layout.names), dtype=object)
    of[layout.order] = layout.groups
    rows, columns = np.triu_indices(len(of), 1)
    return of[rows] == of[columns]


def _draw_scatter(ax: Axes, x: np.ndarray, y: np.ndarray, within: np.ndarray | None) -> None:
    style: dict[str, Any] = {"s": 12, "alpha": 0.6, "linewidths": 0}
    if within is None:
        ax.scatter(x, y, color=BLUE, **style)
        return
    ax.scatter(x[~within], y[~within], color=BLUE, marker="o", label="between categories", **style)
    ax.scatter(x[within], y[within], color=VERMILION, marker="^", label="within a category", **(style | {"s": 16}))
    explain(ax, 1.07)


def _draw_density(ax: Axes, x: np.ndarray, y: np.ndarray, within: np.ndarray | None) -> None:
    if within is None:
        cells = ax.hexbin(x, y, gridsize=36, bins="log", mincnt=1, cmap="viridis_r", linewidths=0.1)
        draw_colorbar(ax, "pairs per cell", cells, format="%g")
        return
    colours = mpl.colors.LinearSegmentedColormap.from_list("within", [BLUE, "#8C7A7A", VERMILION])
    counts = np.asarray(ax.hexbin(x, y, gridsize=36, mincnt=1, visible=False).get_array())
    cells = ax.hexbin(x, y, C=within.astype(float), gridsize=36, mincnt=1, cmap=colours, vmin=0, vmax=1, linewidths=0)
    cells.set_alpha(0.2 + 0.8 * np.log1p(counts) / np.log1p(counts.max()))
    shares = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 100), colours)
    draw_colorbar(ax, "pairs within a category (%)\ndarker: more pairs", shares)


# Pairs of two RDMs


def ranked_pairs(
    student: RDMs, teacher: RDMs
) -> tuple[list[Float[np.ndarray, " n_pairs"]], list[Float[np.ndarray, " n_pairs"]]]:
    """Return dissimilarities and ranks of both RDMs, NaN for pairs that one of them lacks."""
    *both, shared = shared_pairs(student, teacher)
    values = [np.where(shared, pairs, np.nan) for pairs in both]
    return values, [ranks(pairs) for pairs in values]


def one_each(student: RDMs, teacher: RDMs, by: str) -> tuple[RDMs, RDMs]:
    for role, rdms in (("student", student), ("teacher", teacher)):
        if rdms.n_rdm != 1:
            refuse(f"the {role} must be one RDM, got {rdms.n_rdm} RDMs; choose one, for example {role}[0]")
    return align(student, teacher, by=by)


def shared_pairs(
    student: RDMs, teacher: RDMs
) -> tuple[Float[np.ndarray, " n_pairs"], Float[np.ndarray, " n_pairs"], Bool[np.ndarray, " n_pairs"]]:
    """Return the dissimilarities of both RDMs, and which pairs are known in both."""
    a, b = (np.asarray(rdms.get_vectors(), dtype=float)[0] for rdms in (student, teacher))
    shared = np.isfinite(a) & np.isfinite(b)
    if not shared.any():
        refuse("student and teacher have no pair that is known in both; there is nothing to draw")
    return a, b, shared
