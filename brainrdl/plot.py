"""Functions that draw on an Axes and return it.

Nothing here computes a score: what is drawn is what `Evaluation`, `FitResult` or `compare` hold. Colours are Okabe and
Ito's for classes, viridis for dissimilarities and PuOr, centred at 0, for differences, so that figures survive colour
blindness and grey printing (classes also differ in marker). Pairs without a value are grey, which no scale contains.
Text is 8 pt or larger at the size a figure is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from brainrdl._checks import check_conditions, check_option, quote, refuse
from brainrdl.rdms import align, names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs

BLUE, GREEN, VERMILION, PURPLE = "#0072B2", "#009E73", "#D55E00", "#CC79A7"  # Okabe and Ito
INK, QUIET, MISSING = "#222222", "#666666", "#D0D0D0"
KINDS = {
    "student": "fitted student",
    "ensemble": "fitted student",
    "unfitted": "control",
    "permuted": "control",
    "category": "category model",
    "model": "model",
}
"""What the rows of a score table are called, by their role."""
_MOST_LABELS = 24
_MOST_PANELS = 64
DENSE = 2000
"""Number of pairs above which `pairs` draws density instead of points."""

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
}
MEASURES = {
    "correlation": "correlation distance (1 - r)",
    "cosine": "cosine distance (1 - cos)",
    "euclidean": "squared Euclidean distance / channel",
    "mahalanobis": "squared Mahalanobis distance / channel",
    "crossnobis": "crossnobis distance / channel",
    "poisson": "symmetrised Poisson KL divergence",
}
SIMILARITY_LABELS = {
    "cosine": "cosine similarity",
    "corr": "Pearson correlation",
    "spearman": "Spearman correlation",
    "tau-a": "Kendall's tau-a",
    "rho-a": "Spearman's rho-a",
    "corr_cov": "whitened Pearson correlation",
    "cosine_cov": "whitened cosine similarity",
    "cka": "centred kernel alignment",
    "soft-spearman": "soft Spearman correlation",
}
AGAINST_LABELS = {"subjects": "single subjects' RDMs", "mean": "the subjects' mean RDM"}
CEILING_LABELS = {
    "subjects": "noise ceiling (leave one subject out)",
    "mean": "reliability of the mean RDM",
}
_KINDS: dict[str, dict[str, Any]] = {
    "fitted student": {"color": BLUE, "marker": "o", "markerfacecolor": BLUE, "markersize": 7},
    "control": {"color": VERMILION, "marker": "D", "markerfacecolor": "white", "markersize": 5.5},
    "category model": {"color": GREEN, "marker": "s", "markerfacecolor": GREEN, "markersize": 5.5},
    "model": {"color": PURPLE, "marker": "^", "markerfacecolor": PURPLE, "markersize": 6},
}


# RDMs


@dataclass(frozen=True)
class _Layout:
    """Order in which conditions are drawn, and the runs ``(label, start, stop)`` of categories in that order."""

    names: tuple[str, ...]
    order: Int[np.ndarray, " n"]
    runs: tuple[tuple[str, int, int], ...]


def rdm(
    rdms: RDMs,
    ax: Axes | None = None,
    groups: Mapping[str, str] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    index: int = 0,
    title: str | None = None,
    *,
    by: str = "stimulus",
    colorbar: bool = True,
) -> Axes:
    """Draw one RDM as an image of dissimilarities, conditions grouped by category.

    Parameters
    ----------
    rdms : RDMs
        ``n_rdms`` RDMs; NaN pairs are drawn in grey.
    ax : Axes, optional
        Where to draw; a new figure by default.
    groups : mapping of condition name to category, optional
        Sorts conditions by category (categories in order of first appearance) and labels each once, with a bracket.
    vmin, vmax : float, optional
        Limits of the colour scale, in units of the dissimilarity; the data's by default.
    index : int
        Which RDM of the stack.
    title : str, optional
        Title of the axes.
    by : str
        Pattern descriptor that names conditions.
    colorbar : bool
        Whether to add the colour scale with the name and unit of the dissimilarity.

    Returns
    -------
    Axes
        With one image, the square RDM in the order drawn.

    Raises
    ------
    BrainrdlError
        If there is no RDM `index`, or a condition has no category in `groups`.

    Examples
    --------
    >>> import numpy as np
    >>> from brainrdl import plot
    >>> from brainrdl.rdms import from_array
    >>> from matplotlib.figure import Figure
    >>> one = from_array(np.array([0.1, 0.9, 0.8]), ["cat", "dog", "car"], measure="correlation")
    >>> ax = plot.rdm(one, Figure().subplots(), groups={"cat": "animal", "dog": "animal", "car": "object"})
    >>> ax.images[0].get_array().shape
    (3, 3)
    """
    if not -rdms.n_rdm <= index < rdms.n_rdm:
        refuse(f"RDM {index} was asked for, but there are {rdms.n_rdm} (0 to {rdms.n_rdm - 1})")
    layout = _layout(names(rdms, by), groups)
    square = rdms.get_matrices()[index]
    with mpl.rc_context(_STYLE):
        ax = _axes(ax, (4.4, 3.8))
        low, high = _limits([square])
        drawn = square[np.ix_(layout.order, layout.order)]
        _image(ax, drawn, "viridis", low if vmin is None else vmin, high if vmax is None else vmax)
        _label_conditions(ax, layout)
        _title(ax, title)
        if colorbar:
            _colorbar(ax, _measure(rdms))
    return ax


def rdms(
    rdms: RDMs,
    groups: Mapping[str, str] | None = None,
    *,
    by: str = "stimulus",
    titles: Sequence[str] | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw every RDM of a stack on one scale, for example one of each subject.

    Parameters
    ----------
    rdms : RDMs
        At most 64 RDMs of one measure.
    groups : mapping of condition name to category, optional
        As in `rdm`.
    by : str
        Pattern descriptor that names conditions.
    titles : sequence of str, optional
        One title an RDM; by default what its rdm descriptors name, subjects and regions for example.
    figure : Figure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
        With one image axes an RDM, in the order of the stack.

    Raises
    ------
    BrainrdlError
        If there are more than 64 RDMs, or a condition has no category in `groups`.

    Examples
    --------
    >>> import numpy as np
    >>> from brainrdl import plot
    >>> from brainrdl.rdms import from_array
    >>> from matplotlib.figure import Figure
    >>> two = from_array(np.array([[0.1, 0.9, 0.8], [0.2, 0.7, 0.9]]), ["cat", "dog", "car"],
    ...                  descriptors={"subject": ["s1", "s2"]})
    >>> figure = plot.rdms(two, figure=Figure())
    >>> [ax.get_title(loc="left") for ax in figure.axes if ax.images]
    ['s1', 's2']
    """
    if rdms.n_rdm > _MOST_PANELS:
        refuse(
            f"there are {rdms.n_rdm} RDMs, more than the {_MOST_PANELS} that can be told apart; choose some or average"
        )
    layout = _layout(names(rdms, by), groups)
    squares = [square[np.ix_(layout.order, layout.order)] for square in rdms.get_matrices()]
    columns = min(rdms.n_rdm, max(2, round(1.3 * rdms.n_rdm**0.5)))
    rows = -(-rdms.n_rdm // columns)
    low, high = _limits(squares)
    with mpl.rc_context(_STYLE):
        figure = figure or _figure((1.6 + 2.6 * columns, 0.6 + 2.6 * rows))
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, square, title in zip(axes, squares, titles or _titles(rdms), strict=False):
            _image(ax, square, "viridis", low, high)
            _title(ax, title)
        for position, ax in enumerate(axes[: rdms.n_rdm]):
            _label_conditions(ax, layout, rows=position % columns == 0, columns=position + columns >= rdms.n_rdm)
        for ax in axes[rdms.n_rdm :]:
            ax.remove()
        _colorbar(axes[columns - 1], _measure(rdms))
    return figure


_TITLED_BY = ("name", "student", "subject", "session", "roi", "target", "layer")


def _titles(rdms: RDMs) -> list[str]:
    given = [rdms.rdm_descriptors[key] for key in _TITLED_BY if key in rdms.rdm_descriptors]
    parts = zip(*given, strict=True) if given else [(f"RDM {i}",) for i in range(rdms.n_rdm)]
    return [", ".join(str(word) for word in part if str(word)) for part in parts]


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
) -> Figure:
    """Draw a student's and a teacher's RDM side by side on one scale, and their difference.

    Only pairs that both RDMs hold are ranked and compared, so that the two panels show the same pairs; a pair that
    either lacks (in a cross-validation: one that was never held out together) is grey in all three.

    Parameters
    ----------
    student, teacher : RDMs
        One RDM each, of the same conditions in any order; the teacher is brought into the student's order by name.
    groups : mapping of condition name to category, optional
        As in `rdm`.
    scale : {"rank", "raw"}
        "rank": midranks of the dissimilarities, scaled to 0 (smallest) to 1 (largest), for RDMs of different measures.
        "raw": the dissimilarities themselves.
    cells : {"pairs", "groups"}
        "pairs": one cell per pair of conditions. "groups": the mean over pairs of each pair of categories, readable
        when most pairs are missing; needs `groups`.
    by : str
        Pattern descriptor that names conditions.
    titles : pair of str
        Titles of the two RDMs.
    figure : Figure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
        With three image axes (student, teacher, student - teacher) and two colour scales.

    Raises
    ------
    BrainrdlError
        If the names differ, a stack holds several RDMs, an option is unknown, or a condition has no category.

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
    student, teacher = _one_each(student, teacher, by)
    layout = _layout(names(student, by), groups)
    squares = _scaled_squares(student, teacher, scale)
    if cells == "groups":
        squares, layout = _per_group(squares, layout)
    else:
        squares = [square[np.ix_(layout.order, layout.order)] for square in squares]
    label = "rank of dissimilarity (0-1)" if scale == "rank" else _measure(student)
    with mpl.rc_context(_STYLE):
        figure = figure or _figure((9.4, 3.2))
        limits = (0.0, 1.0) if (scale, cells) == ("rank", "pairs") else _limits(squares, diagonal=cells == "groups")
        _three_panels(figure, squares, layout, titles, label, limits)
    return figure


def _three_panels(
    figure: Figure,
    squares: Sequence[Float[np.ndarray, "n n"]],
    layout: _Layout,
    titles: tuple[str, str],
    label: str,
    limits: tuple[float, float],
) -> None:
    difference = squares[0] - squares[1]
    extent = float(np.nanmax(np.abs(difference), initial=0.0)) or 1.0
    axes = figure.subplots(1, 3)
    for ax, square, title in zip(axes[:2], squares, titles, strict=True):
        _image(ax, square, "viridis", *limits)
        _title(ax, title)
    _image(axes[2], difference, "PuOr", -extent, extent)
    words = f"{titles[0]} - {titles[1]}"
    _title(axes[2], words if len(words) <= 28 else "difference, left - middle")
    for position, ax in enumerate(axes):
        _label_conditions(ax, layout, rows=position == 0)
    _colorbar(axes[1], label)
    _colorbar(axes[2], "difference")


def _one_each(student: RDMs, teacher: RDMs, by: str) -> tuple[RDMs, RDMs]:
    for role, rdms in (("student", student), ("teacher", teacher)):
        if rdms.n_rdm != 1:
            refuse(f"the {role} must be one RDM, got {rdms.n_rdm}; choose one, for example {role}[0]")
    return align(student, teacher, by=by)


def _scaled_squares(student: RDMs, teacher: RDMs, scale: str) -> list[Float[np.ndarray, "n n"]]:
    from scipy.spatial.distance import squareform

    both = [np.asarray(rdms.get_vectors(), dtype=float)[0] for rdms in (student, teacher)]
    shared = np.isfinite(both[0]) & np.isfinite(both[1])
    if not shared.any():
        refuse("student and teacher share no pair that both hold; there is nothing to draw")
    both = [np.where(shared, pairs, np.nan) for pairs in both]
    return [squareform(_ranks(pairs) if scale == "rank" else pairs, checks=False) for pairs in both]


def _ranks(pairs: Float[np.ndarray, " n_pairs"]) -> Float[np.ndarray, " n_pairs"]:
    """Midranks of the finite entries, 0 (smallest) to 1 (largest); NaN stay."""
    from scipy.stats import rankdata

    finite = np.isfinite(pairs)
    ranks = np.full(pairs.shape, np.nan)
    ranks[finite] = (rankdata(pairs[finite]) - 1) / max(int(finite.sum()) - 1, 1)
    return ranks


def _layout(conditions: Sequence[str], groups: Mapping[str, str] | None) -> _Layout:
    if groups is None:
        return _Layout(tuple(conditions), np.arange(len(conditions)), ())
    check_conditions(conditions, groups.keys(), "groups (name -> category)")
    of = [groups[name] for name in conditions]
    labels = list(dict.fromkeys(of))
    order = np.argsort([labels.index(label) for label in of], kind="stable")
    stops = np.cumsum([of.count(label) for label in labels]).tolist()
    runs = tuple(zip(labels, [0, *stops[:-1]], stops, strict=True))
    return _Layout(tuple(conditions[i] for i in order), order, runs)


def _per_group(
    squares: Iterable[Float[np.ndarray, "n n"]], layout: _Layout
) -> tuple[list[Float[np.ndarray, "n_groups n_groups"]], _Layout]:
    """Mean over the pairs of each pair of categories; a category of one condition has no pair within."""
    if not layout.runs:
        refuse('cells="groups" needs groups: a mapping of condition name to category')
    labels = tuple(f"{label} ({stop - start})" for label, start, stop in layout.runs)
    means = [_block_means(square[np.ix_(layout.order, layout.order)], layout.runs) for square in squares]
    return means, _Layout(labels, np.arange(len(labels)), ())


def _block_means(square: Float[np.ndarray, "n n"], runs: Sequence[tuple[str, int, int]]) -> Float[np.ndarray, "k k"]:
    off_diagonal = np.where(np.eye(len(square), dtype=bool), np.nan, square)
    blocks = [[off_diagonal[a:b, c:d] for _, c, d in runs] for _, a, b in runs]
    return np.array([[_mean(block) for block in row] for row in blocks])


def _mean(values: Float[np.ndarray, "*shape"]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _limits(squares: Sequence[Float[np.ndarray, "n n"]], *, diagonal: bool = False) -> tuple[float, float]:
    """Range of the values; the zeros of an RDM's diagonal would take up the scale without saying anything."""
    shown = [square[np.isfinite(square) & (diagonal | ~np.eye(len(square), dtype=bool))] for square in squares]
    values = np.concatenate(shown)
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def _image(ax: Axes, square: Float[np.ndarray, "n n"], cmap: str, vmin: float | None, vmax: float | None) -> None:
    ax.imshow(
        np.ma.masked_invalid(square),
        cmap=mpl.colormaps[cmap].with_extremes(bad=MISSING),
        vmin=vmin,
        vmax=vmax,
        interpolation="nearest",
    )
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _label_conditions(ax: Axes, layout: _Layout, *, rows: bool = True, columns: bool = True) -> None:
    """Brackets and one label per category; else names when they fit; else how many there are."""
    if len(layout.runs) > _MOST_LABELS:
        ax.set_xlabel(f"{len(layout.names)} conditions in {len(layout.runs)} categories")
        return
    if layout.runs:
        ticks, labels = [(start + stop - 1) / 2 for _, start, stop in layout.runs], [run[0] for run in layout.runs]
        _brackets(ax, layout.runs)
    elif len(layout.names) <= _MOST_LABELS:
        ticks, labels = [float(i) for i in range(len(layout.names))], list(layout.names)
    else:
        ax.set_xlabel(f"{len(layout.names)} conditions")
        return
    shown = [_plain(label) for label in labels]
    ax.set_xticks(ticks, shown if columns else [""] * len(shown), rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(ticks, shown if rows else [""] * len(shown))
    ax.tick_params(length=0, pad=7 if layout.runs else 2)


def _brackets(ax: Axes, runs: Sequence[tuple[str, int, int]]) -> None:
    """One line beside and below each run of conditions, with a gap between runs, and fine rules between the blocks."""
    gap = min(0.25, 0.006 * runs[-1][2])
    for _, start, stop in runs:
        ends = [start - 0.5 + gap, stop - 0.5 - gap]
        style: dict[str, Any] = {"color": INK, "linewidth": 1.4, "clip_on": False, "solid_capstyle": "butt"}
        ax.plot([-0.025, -0.025], ends, transform=ax.get_yaxis_transform(), **style)
        ax.plot(ends, [-0.025, -0.025], transform=ax.get_xaxis_transform(), **style)
    for _, start, _ in runs[1:]:
        ax.axhline(start - 0.5, color="white", linewidth=0.6)
        ax.axvline(start - 0.5, color="white", linewidth=0.6)


def _colorbar(ax: Axes, label: str, of: mpl.cm.ScalarMappable | None = None, **options: Any) -> None:
    """Draw a colour scale exactly as high as the axes it belongs to."""
    bar = ax.figure.colorbar(of or ax.images[0], cax=ax.inset_axes((1.035, 0.0, 0.045, 1.0)), **options)
    bar.set_label(label)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2)


def _measure(rdms: RDMs) -> str:
    return MEASURES.get(str(rdms.dissimilarity_measure), str(rdms.dissimilarity_measure or "dissimilarity"))


# Scores


def scores(
    summary: pd.DataFrame,
    comparator: str | None = None,
    against: str | None = None,
    ax: Axes | None = None,
    *,
    target: str | None = None,
    legend: bool = True,
) -> Axes:
    """Draw each student's score with its 95 % interval, and the ceiling that belongs to that score as a band.

    Scores against single subjects stand in the leave-one-subject-out noise ceiling, scores against the mean RDM in the
    reliability of that mean; the two are never drawn on one axes.

    Parameters
    ----------
    summary : DataFrame
        `Evaluation.summary`: columns student, role, layer, target, comparator, against, score, low, high,
        ceiling_lower, ceiling_upper; scores in units of the comparator (at most 1). Without an interval (NaN) only the
        point is drawn.
    comparator : str, optional
        Which comparator; the table's first by default.
    against : {"subjects", "mean"}, optional
        What was compared with; the table's first by default.
    ax : Axes, optional
        Where to draw; a new figure, as high as the rows need, by default.
    target : str, optional
        Only this target (region or layer of the teacher); all of them, one block each, by default.
    legend : bool
        Whether to explain markers and band above the axes.

    Returns
    -------
    Axes
        One line (point) per student and layer, in rows from the top: fitted students, controls, models.

    Raises
    ------
    BrainrdlError
        If the table is empty or lacks a column, or `comparator`, `against` or `target` is not in it.

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
    _check_columns(summary, _SCORE_COLUMNS, "summary")
    comparator = _one_of(summary, "comparator", comparator)
    against = _one_of(summary, "against", against)
    table = summary[(summary["comparator"] == comparator) & (summary["against"] == against)]
    table = table if target is None else table[table["target"] == _one_of(table, "target", target)]
    if table.empty:
        refuse(f"the table has no score with comparator {comparator!r} against {against!r}")
    rows = _score_rows(table)
    with mpl.rc_context(_STYLE):
        ax = _axes(ax, (6.4, 1.1 + 0.27 * len(rows)))
        _draw_ceilings(ax, rows, against)
        _draw_points(ax, rows)
        _dress_scores(ax, rows, f"{similarity_label(comparator)} with {AGAINST_LABELS.get(against, against)}")
        if legend:
            _legend(ax)
    return ax


_SCORE_COLUMNS = ("student", "role", "layer", "target", "comparator", "against", "score", "low", "high")


@dataclass(frozen=True)
class _Row:
    """One row of the score figure: a point (``values``), or the heading of a target (no values)."""

    label: str
    target: str
    kind: str = ""
    values: Mapping[str, Any] | None = None


def similarity_label(comparator: str) -> str:
    """Name a comparator in words.

    Examples
    --------
    >>> similarity_label("tau-a"), similarity_label("partial spearman")
    ("Kendall's tau-a", 'partial Spearman correlation')
    """
    partial = "partial " if comparator.startswith("partial ") else ""
    name = comparator.removeprefix("partial ")
    return partial + SIMILARITY_LABELS.get(name, name)


def _score_rows(table: pd.DataFrame) -> list[_Row]:
    rows: list[_Row] = []
    blocks = table.groupby("target", sort=False, dropna=False)
    for target, block in blocks:
        rows += [_Row(str(target), str(target))] if len(blocks) > 1 else []
        several = block.loc[block["layer"].notna() & (block["layer"] != ""), "layer"].nunique() > 1
        points = [_point(record, str(target), several) for record in block.to_dict("records")]
        rows += _by_kind(points)
    return rows


def _by_kind(points: Sequence[_Row]) -> list[_Row]:
    """Fitted students, controls, models; within a kind the layers of a student next to each other."""
    students = list(dict.fromkeys(_student(row) for row in points))
    return sorted(points, key=lambda row: (list(_KINDS).index(row.kind), students.index(_student(row))))


def _student(row: _Row) -> str:
    return str((row.values or {}).get("student"))


def _point(record: Mapping[Any, Any], target: str, several_layers: bool) -> _Row:
    layer = "" if pd.isna(record["layer"]) else str(record["layer"])
    label = f"{record['student']}, {layer}" if several_layers and layer else str(record["student"])
    return _Row(label, target, KINDS.get(str(record["role"]), "model"), record)


def _draw_ceilings(ax: Axes, rows: Sequence[_Row], against: str) -> None:
    """One band per target, as high as its rows; a line where both bounds are one number."""
    label = CEILING_LABELS.get(against, "ceiling")
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
        style = _KINDS[row.kind]
        score, low, high = (float(row.values[key]) for key in ("score", "low", "high"))
        if np.isfinite(low) and np.isfinite(high):
            ax.hlines(y, low, high, color=style["color"], linewidth=2.2, zorder=2)
        label = f"_{row.kind}" if row.kind in seen else row.kind
        ax.plot([score], [y], linestyle="none", markeredgewidth=1.6, zorder=3, label=label, **style)
        seen.add(row.kind)


def _dress_scores(ax: Axes, rows: Sequence[_Row], label: str) -> None:
    ax.axvline(0, color=QUIET, linewidth=0.8, zorder=0.2)
    ax.set_yticks(range(len(rows)), [_plain(row.label, 44) for row in rows])
    for tick, row in zip(ax.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if row.values is None else "normal")
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x", color="#E6E6E6", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.set_xlabel(label)


# Training

CURVES = {
    "train_similarity": ("training stimuli", BLUE, "-"),
    "validation_similarity": ("validation stimuli", VERMILION, "-"),
}


def history(
    history: pd.DataFrame,
    ax: Axes | None = None,
    *,
    student: str | None = None,
    best_step: int | None = None,
    similarity: str = "RDM similarity",
    loss: bool = True,
) -> Axes:
    """Draw training curves: RDM similarity on training and validation stimuli, and the loss below.

    With several runs (folds, seeds) each is faint and their mean bold, up to the last step that all of them reached. A
    circle marks the best look at the validation stimuli, after which weights are kept or the number of steps is chosen.
    Where the steps were chosen by inner folds, a run is the mean of its inner folds: that curve is what was looked at.

    Parameters
    ----------
    history : DataFrame
        `FitResult.history` or `Evaluation.histories`: columns step, and any of train_similarity, validation_similarity,
        loss; columns student, seed, fold and inner (-1: no inner fold) tell runs apart. NaN are steps without a look.
    ax : Axes, optional
        Where to draw the similarities; a new figure by default. The loss takes the lower quarter of its place.
    student : str, optional
        Which student's runs; "fitted" if there is one, else the table's first.
    best_step : int, optional
        The step to mark; by default, per run, the one with the highest validation similarity, and none without
        validation.
    similarity : str
        Label of the vertical axis.
    loss : bool
        Whether to draw the loss.

    Returns
    -------
    Axes
        Of the similarities. Lines have the labels "training stimuli" and "validation stimuli".

    Raises
    ------
    BrainrdlError
        If the table is empty, has none of the curves, or no runs of `student`.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"step": [0, 10, 20], "train_similarity": [0.1, 0.3, 0.5],
    ...                       "validation_similarity": [0.1, 0.2, 0.15], "loss": [0.9, 0.7, 0.5]})
    >>> ax = plot.history(table, Figure().subplots())
    >>> [line.get_xdata().tolist() for line in ax.lines if line.get_label() == "best step"]
    [[10.0]]
    """
    _check_columns(history, ("step",), "history")
    runs = _runs(history, student)
    curves = [curve for curve in CURVES if any(_has(run, curve) for run in runs)]
    if not curves:
        refuse(f"the history holds no similarity: columns {quote(history.columns)}, expected any of {quote(CURVES)}")
    with mpl.rc_context(_STYLE):
        ax = _axes(ax, (6.0, 3.6))
        for curve in curves:
            _draw_curve(ax, runs, curve, *CURVES[curve])
        _mark_best(ax, runs, curves[-1], best_step)
        _dress_history(ax, similarity)
        if loss and any(_has(run, "loss") for run in runs):
            _draw_loss(ax, runs)
    return ax


def _runs(history: pd.DataFrame, student: str | None) -> list[pd.DataFrame]:
    if "student" in history:
        known = list(dict.fromkeys(history["student"]))
        student = student or ("fitted" if "fitted" in known else known[0])
        history = history[history["student"] == check_option(student, known, "student")]
    keys = [key for key in ("seed", "fold") if key in history and history[key].nunique() > 1]
    parts = [part for _, part in history.groupby(keys, sort=False)] if keys else [history]
    return [_over_inner_folds(part).sort_values("step", kind="stable") for part in parts]


def _over_inner_folds(run: pd.DataFrame) -> pd.DataFrame:
    """Mean over inner folds, at the steps that all of them have; a run without inner folds as it is."""
    if "inner" not in run or not (run["inner"] >= 0).any():
        return run
    inner = run[run["inner"] >= 0]
    together = inner.groupby("step")
    means = together.mean(numeric_only=True)
    return means[together.size() == inner["inner"].nunique()].reset_index()


def _has(run: pd.DataFrame, column: str) -> bool:
    return column in run and bool(run[column].notna().any())


def _draw_curve(ax: Axes, runs: Sequence[pd.DataFrame], column: str, label: str, color: str, linestyle: str) -> None:
    style: dict[str, Any] = {"color": color, "linestyle": linestyle}
    parts = [run.loc[run[column].notna(), ["step", column]] for run in runs if _has(run, column)]
    if len(parts) == 1:
        ax.plot(parts[0]["step"], parts[0][column], linewidth=2, label=label, **style)
        return
    for part in parts:
        ax.plot(part["step"], part[column], linewidth=0.8, alpha=0.35, label=f"_one {label}", **style)
    mean = _mean_over_runs(parts, column)
    ax.plot(mean.index, mean, linewidth=2.4, label=f"{label} (mean, {len(parts)} runs)", **style)


def _mean_over_runs(parts: Sequence[pd.DataFrame], column: str) -> pd.Series:
    """Mean at the steps that every run has: a mean over the runs that happen to last longest would jump."""
    together = pd.concat(parts).groupby("step")[column]
    return together.mean()[together.size() == len(parts)]


def _mark_best(ax: Axes, runs: Sequence[pd.DataFrame], curve: str, best_step: int | None) -> None:
    label = "best step"
    if best_step is None and curve == "train_similarity":
        return  # without validation nothing was chosen: the last step is kept
    for run in runs:
        known = run.loc[run[curve].notna(), ["step", curve]].reset_index(drop=True)
        at = known if best_step is None else known[known["step"] == best_step]
        if at.empty:
            continue
        best = at.iloc[int(at[curve].to_numpy().argmax())]
        size = 6.5 if len(runs) == 1 else 4.5
        style: dict[str, Any] = {
            "color": CURVES[curve][1],
            "markerfacecolor": "white",
            "markersize": size,
            "markeredgewidth": 1.3,
        }
        ax.plot([best["step"]], [best[curve]], marker="o", linestyle="none", zorder=4, label=label, **style)
        label = "_best step"


def _dress_history(ax: Axes, similarity: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_ylabel(similarity)
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.margins(x=0.02)
    _legend(ax)


def _draw_loss(ax: Axes, runs: Sequence[pd.DataFrame]) -> None:
    strip = _strip_below(ax)
    _draw_curve(strip, runs, "loss", "loss", QUIET, "-")
    strip.set(xlabel="step", ylabel="loss")
    strip.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    ax.set_xlabel("")
    ax.tick_params(axis="x", labelbottom=False)
    ax.figure.align_ylabels([ax, strip])


def _strip_below(ax: Axes) -> Axes:
    """Give the lower quarter of the place of `ax` to a second axes."""
    place = ax.get_subplotspec()
    if place is None:
        return ax.inset_axes((0.0, -0.46, 1.0, 0.4), sharex=ax)
    halves = place.subgridspec(2, 1, height_ratios=(2.6, 1))
    ax.set_subplotspec(halves[0])
    return ax.figure.add_subplot(halves[1], sharex=ax)


# Pairs


def pairs(
    student: RDMs,
    teacher: RDMs,
    ax: Axes | None = None,
    groups: Mapping[str, str] | None = None,
    *,
    by: str = "stimulus",
) -> Axes:
    """Draw the student's dissimilarity against the teacher's, one point per pair of conditions.

    Above 2000 pairs hexagons take the place of points: the darker, the more pairs; with `groups` their colour is the
    share of pairs within a category.

    Parameters
    ----------
    student, teacher : RDMs
        One RDM each, of the same conditions in any order. Pairs that either lacks are left out.
    ax : Axes, optional
        Where to draw; a new figure by default.
    groups : mapping of condition name to category, optional
        Colours pairs by whether both conditions are of one category.
    by : str
        Pattern descriptor that names conditions.

    Returns
    -------
    Axes
        Horizontal the teacher's, vertical the student's dissimilarity, each in its own unit.

    Raises
    ------
    BrainrdlError
        If the names differ, a stack holds several RDMs, no pair is shared, or a condition has no category.

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
    student, teacher = _one_each(student, teacher, by)
    layout = _layout(names(student, by), groups)
    x, y = (np.asarray(rdms.get_vectors(), dtype=float)[0] for rdms in (teacher, student))
    shared = np.isfinite(x) & np.isfinite(y)
    if not shared.any():
        refuse("student and teacher share no pair that both hold; there is nothing to draw")
    within = None if groups is None else _within(layout)[shared]
    with mpl.rc_context(_STYLE):
        ax = _axes(ax, (4.6, 4.0))
        draw = _draw_density if shared.sum() > DENSE else _draw_scatter
        draw(ax, x[shared], y[shared], within)
        ax.set_xlabel(f"teacher: {_measure(teacher)}")
        ax.set_ylabel(f"student: {_measure(student)}")
        _title(ax, f"{int(shared.sum())} pairs" + (f", {int((~shared).sum())} left out" if not shared.all() else ""))
    return ax


def _within(layout: _Layout) -> np.ndarray:
    """Whether both conditions of a pair are of one category, in the order of the RDM (not of the drawing)."""
    of = np.empty(len(layout.names), dtype=int)
    for i, (_, start, stop) in enumerate(layout.runs):
        of[layout.order[start:stop]] = i
    rows, columns = np.triu_indices(len(of), 1)
    return of[rows] == of[columns]


def _draw_scatter(ax: Axes, x: np.ndarray, y: np.ndarray, within: np.ndarray | None) -> None:
    style: dict[str, Any] = {"s": 12, "alpha": 0.6, "linewidths": 0}
    if within is None:
        ax.scatter(x, y, color=BLUE, **style)
        return
    ax.scatter(x[~within], y[~within], color=BLUE, marker="o", label="between categories", **style)
    ax.scatter(x[within], y[within], color=VERMILION, marker="^", label="within a category", **(style | {"s": 16}))
    _legend(ax, 1.07)


def _draw_density(ax: Axes, x: np.ndarray, y: np.ndarray, within: np.ndarray | None) -> None:
    if within is None:
        cells = ax.hexbin(x, y, gridsize=36, bins="log", mincnt=1, cmap="viridis_r", linewidths=0.1)
        _colorbar(ax, "pairs per cell", cells, format="%g")
        return
    counts = np.asarray(ax.hexbin(x, y, gridsize=36, mincnt=1, visible=False).get_array())
    cells = ax.hexbin(
        x, y, C=within.astype(float), gridsize=36, mincnt=1, cmap=_within_cmap(), vmin=0, vmax=1, linewidths=0
    )
    strength = np.log1p(counts) / np.log1p(counts.max())
    cells.set_alpha(0.2 + 0.8 * strength)
    shares = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 100), _within_cmap())
    _colorbar(ax, "pairs within a category (%)\ndarker: more pairs", shares)


def _within_cmap() -> mpl.colors.Colormap:
    return mpl.colors.LinearSegmentedColormap.from_list("within", [BLUE, "#8C7A7A", VERMILION])


# Comparison


def comparison(table: pd.DataFrame, comparator: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the table of `brainrdl.compare`: bars for one row or column of similarities, else a heat map with numbers.

    Parameters
    ----------
    table : DataFrame
        Columns a, b, comparator, similarity (at most 1).
    comparator : str, optional
        Which comparator, as ``a`` by ``b``; by default all, as pairs of RDMs by comparators when there are several.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        With one bar per similarity, or one image of them.

    Raises
    ------
    BrainrdlError
        If the table is empty or lacks a column, or `comparator` is not in it.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"a": ["student", "pixels"], "b": "IT", "comparator": "corr", "similarity": [0.4, 0.1]})
    >>> [float(bar.get_width()) for bar in plot.comparison(table, ax=Figure().subplots()).patches]
    [0.4, 0.1]
    """
    _check_columns(table, ("a", "b", "comparator", "similarity"), "comparison table")
    if comparator is not None or table["comparator"].nunique() == 1:
        comparator = _one_of(table, "comparator", comparator)
        table = table[table["comparator"] == comparator]
    grid = _grid(table, comparator)
    label = "RDM similarity" if comparator is None else similarity_label(comparator)
    with mpl.rc_context(_STYLE):
        if 1 in grid.shape:
            return _bars(_axes(ax, (5.4, 1.0 + 0.3 * grid.size)), grid, label)
        return _heatmap(_axes(ax, (2.6 + 0.7 * grid.shape[1], 1.2 + 0.5 * grid.shape[0])), grid, label)


def _grid(table: pd.DataFrame, comparator: str | None) -> pd.DataFrame:
    """Similarities as rows by columns, in the order of the table."""
    if comparator is None:
        one_b = table["b"].nunique() == 1
        rows = table["a"].astype(str) if one_b else table["a"].astype(str) + " / " + table["b"].astype(str)
        columns = table["comparator"].map(similarity_label)
    else:
        rows, columns = table["a"].astype(str), table["b"].astype(str)
    grid = pd.DataFrame({"row": rows, "column": columns, "similarity": table["similarity"]})
    wide = grid.pivot_table(index="row", columns="column", values="similarity", sort=False, dropna=False)
    return wide.loc[list(dict.fromkeys(rows)), list(dict.fromkeys(columns))]


def _bars(ax: Axes, grid: pd.DataFrame, label: str) -> Axes:
    labels = list(grid.index) if grid.shape[1] == 1 else list(grid.columns)
    values = grid.to_numpy(dtype=float).ravel()
    bars = ax.barh(range(len(values)), values, color=BLUE, height=0.62)
    ax.bar_label(bars, fmt="%.2f", padding=3)
    ax.set_yticks(range(len(values)), [_plain(str(name), 44) for name in labels])
    ax.invert_yaxis()
    ax.axvline(0, color=QUIET, linewidth=0.8)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.margins(x=0.12)
    other = grid.columns[0] if grid.shape[1] == 1 else grid.index[0]
    ax.set_xlabel(f"{label}: {_plain(str(other))}" if grid.size > 1 else label)
    return ax


def _heatmap(ax: Axes, grid: pd.DataFrame, label: str) -> Axes:
    values = grid.to_numpy(dtype=float)
    signed = bool(np.nanmin(values, initial=0.0) < 0)
    extent = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    _image(ax, values, "PuOr" if signed else "viridis", -extent if signed else 0.0, extent)
    ax.set_xticks(
        range(values.shape[1]),
        [_plain(str(name)) for name in grid.columns],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
    )
    ax.set_yticks(range(values.shape[0]), [_plain(str(name), 44) for name in grid.index])
    ax.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=_readable(ax, value))
    _colorbar(ax, label)
    return ax


def _readable(ax: Axes, value: float) -> str:
    """Black or white, whichever stands out more from the colour of `value` (relative luminance, WCAG 2)."""
    red, green, blue, _ = ax.images[0].to_rgba(np.array(value))
    return "white" if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 < 0.18 else "black"


# Shared


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Make an axes, or give the caller's own axes the same look: its text was sized when it was made."""
    if ax is None:
        return _figure(size).subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(QUIET)
    ax.tick_params(labelsize=_STYLE["xtick.labelsize"], color=QUIET, labelcolor=INK)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set(size=_STYLE["axes.labelsize"], color=INK)
    return ax


def _figure(size: tuple[float, float]) -> Figure:
    import matplotlib.pyplot as plt  # here: it picks a graphics back-end when it is imported

    return plt.figure(figsize=size, layout="constrained")


def _legend(ax: Axes, height: float = 1.0) -> None:
    """Explain above the axes, where nothing is hidden."""
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, height), ncols=2, frameon=False, handletextpad=0.5, columnspacing=1.4
    )


def _title(ax: Axes, title: str | None) -> None:
    if title:
        ax.set_title(_plain(title, 60), loc="left")


def _plain(text: str, longest: int = 28) -> str:
    """Text as it stands: no mathematics between dollar signs, and cut in the middle where it is long."""
    half = (longest - 1) // 2
    cut = text if len(text) <= longest else f"{text[:half]}\u2026{text[-half:]}"
    return cut.replace("$", r"\$")


def _check_columns(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        refuse(f"the {what} lacks the columns {quote(missing)}; it has {quote(table.columns)}")
    if table.empty:
        refuse(f"the {what} is empty; there is nothing to draw")


def _one_of(table: pd.DataFrame, column: str, value: str | None) -> str:
    known = [str(entry) for entry in dict.fromkeys(table[column])]
    return known[0] if value is None else check_option(value, known, column)
