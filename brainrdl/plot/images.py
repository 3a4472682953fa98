"""Figures of RDMs as images: one, or a stack of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int

from brainrdl._core.errors import check_conditions, refuse
from brainrdl.dissimilarity.measures import label_of
from brainrdl.plot.style import (
    INK,
    PANEL_TITLE,
    axes_for,
    draw_colorbar,
    draw_image,
    name_columns,
    new_figure,
    set_title,
    shown,
    styled,
)
from brainrdl.rdms.by_name import names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs
_MOST_PANELS = 64

# In points: height of a line of small text, mean width of its letters, and the space needed around an image.
_LINE, _LETTER, _MARGIN = 8.7, 4.3, 34.0

_TITLED_BY = ("student", "subject", "session", "roi", "target", "layer")


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
    """Draw one RDM as an image of dissimilarities, with conditions grouped by category.

    Parameters
    ----------
    rdms : RDMs
        ``n_rdms`` RDMs; NaN pairs are drawn in grey.
    ax : Axes, optional
        Where to draw; a new figure by default.
    groups : mapping of condition name to category, optional
        Sort conditions by category (categories in order of first appearance); each category has one label and a
        bracket.
    vmin, vmax : float, optional
        Limits of the colour scale, in units of the dissimilarity; by default the range of the data.
    index : int
        Number of the RDM in the stack.
    title : str, optional
        Title of the axes.
    by : str
        Pattern descriptor that names the conditions.
    colorbar : bool
        Whether to add the colour scale with the name and unit of the dissimilarity.

    Returns
    -------
    Axes
        With one image: the square RDM in the order in which it is drawn.

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
    if not hasattr(rdms, "n_rdm"):
        refuse(f"expected rsatoolbox RDMs, got {type(rdms).__name__}; see brainrdl.read and brainrdl.rdms.from_array")
    if not -rdms.n_rdm <= index < rdms.n_rdm:
        refuse(f"RDM {index} does not exist: there are {rdms.n_rdm} RDMs (0 to {rdms.n_rdm - 1})")
    layout = layout_of(names(rdms, by), groups)
    square = layout.arrange(rdms.get_matrices()[index])
    low, high = limits_of([square])
    with styled():
        ax = axes_for(ax, (4.4, 3.8))
        draw_image(ax, square, "viridis", low if vmin is None else vmin, high if vmax is None else vmax)
        set_title(ax, title)
        label_conditions(ax, layout)
        if colorbar:
            draw_colorbar(ax, label_of(rdms.dissimilarity_measure))
    return ax


def rdms(
    rdms: RDMs,
    groups: Mapping[str, str] | None = None,
    *,
    by: str = "stimulus",
    titles: Sequence[str] | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw all RDMs of a stack on the same scale, for example one RDM per subject.

    Parameters
    ----------
    rdms : RDMs
        At most 64 RDMs with the same measure.
    groups : mapping of condition name to category, optional
        As in `rdm`.
    by : str
        Pattern descriptor that names the conditions.
    titles : sequence of str, optional
        One title per RDM; by default from the rdm descriptors, for example subjects and regions.
    figure : Figure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
        With one image axes per RDM, in the order of the stack.

    Raises
    ------
    BrainrdlError
        If there are more than 64 RDMs, the number of titles differs from the number of RDMs, or a condition has no
        category in `groups`.

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
            f"there are {rdms.n_rdm} RDMs, but a figure shows at most {_MOST_PANELS}; select some RDMs or average them"
        )
    titles = _titles(rdms) if titles is None else titles
    if len(titles) != rdms.n_rdm:
        refuse(f"got {len(titles)} titles for {rdms.n_rdm} RDMs; give one title per RDM")
    layout = layout_of(names(rdms, by), groups)
    squares = [layout.arrange(square) for square in rdms.get_matrices()]
    columns = min(rdms.n_rdm, max(2, round(1.3 * rdms.n_rdm**0.5)))
    rows = -(-rdms.n_rdm // columns)
    low, high = limits_of(squares)
    with styled():
        figure = figure or new_figure((1.6 + 2.6 * columns, 0.6 + 2.6 * rows))
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[rdms.n_rdm :]:
            ax.remove()
        panels = list(axes[: rdms.n_rdm])
        for ax, square, title in zip(panels, squares, titles, strict=True):
            draw_image(ax, square, "viridis", low, high)
            set_title(ax, title, PANEL_TITLE)
        label_panels(panels, layout, columns)
        draw_colorbar(axes[columns - 1], label_of(rdms.dissimilarity_measure))
    return figure


def _titles(rdms: RDMs) -> list[str]:
    """Describe each RDM by its descriptors; use its name, which often repeats them, only if they are not unique."""
    described = {key: [str(value) for value in values] for key, values in rdms.rdm_descriptors.items()}
    if "session" in described:
        described["session"] = [_session(value) for value in described["session"]]
    values = zip(*(described[key] for key in _TITLED_BY if key in described), strict=True)
    titles = [", ".join(dict.fromkeys(filter(None, words))) for words in values]
    if len(set(titles)) == rdms.n_rdm and all(titles):
        return titles
    return described.get("name") or [f"RDM {i}" for i in range(rdms.n_rdm)]


def _session(value: str) -> str:
    return f"session {value}" if value.isdigit() else value


# Shared by the figures of one RDM and of two RDMs


@dataclass(frozen=True)
class Layout:
    """Order in which conditions are drawn, and the categories in this order as runs ``(label, start, stop)``."""

    names: tuple[str, ...]
    order: Int[np.ndarray, " n"]
    runs: tuple[tuple[str, int, int], ...] = ()

    def arrange(self, square: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
        return square[np.ix_(self.order, self.order)]


def layout_of(conditions: Sequence[str], groups: Mapping[str, str] | None) -> Layout:
    if groups is None:
        return Layout(tuple(conditions), np.arange(len(conditions)))
    check_conditions(conditions, groups.keys(), "groups (name -> category)")
    of = [groups[name] for name in conditions]
    labels = list(dict.fromkeys(of))
    order = np.argsort([labels.index(label) for label in of], kind="stable")
    stops = np.cumsum([of.count(label) for label in labels]).tolist()
    runs = tuple(zip(labels, [0, *stops[:-1]], stops, strict=True))
    return Layout(tuple(conditions[i] for i in order), order, runs)


def limits_of(squares: Sequence[Float[np.ndarray, "n n"]], *, diagonal: bool = False) -> tuple[float, float]:
    """Range of the values, without the zeros of the diagonal, which would only stretch the scale."""
    shown = [square[np.isfinite(square) & (diagonal | ~np.eye(len(square), dtype=bool))] for square in squares]
    values = np.concatenate(shown)
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def label_panels(axes: Sequence[Axes], layout: Layout, columns: int) -> None:
    """Label a grid of panels with the same conditions on the left and at the bottom."""
    for position, ax in enumerate(axes):
        label_conditions(ax, layout, rows=position % columns == 0, columns=position + columns >= len(axes))


def label_conditions(ax: Axes, layout: Layout, *, rows: bool = True, columns: bool = True) -> None:
    """Label categories with brackets, or conditions by name; if the labels do not fit, give their number."""
    runs = layout.runs or [(name, i, i + 1) for i, name in enumerate(layout.names)]
    ticks, labels = [(start + stop - 1) / 2 for _, start, stop in runs], [label for label, *_ in runs]
    side = _side_of(ax)
    for_words = min(side / 2, side - _LINE * len(labels))  # not more than the image, along which the labels are placed
    words = shown(labels, longest=max(9, min(28, int(for_words / _LETTER))))
    room = side - _LETTER * max(map(len, words))
    if len(words) * _LINE > room:
        ax.set_xlabel(f"{len(layout.names)} conditions" + f" in {len(words)} categories" * bool(layout.runs))
        return
    if layout.runs:
        _brackets(ax, layout.runs)
    name_columns(ax, ticks, words if columns else [""] * len(words), upright=len(words) * _LINE > room / 2**0.5)
    ax.set_yticks(ticks, words if rows else [""] * len(words), family=mpl.rcParams["font.family"])
    ax.tick_params(length=0, pad=7 if layout.runs else 2)


def _side_of(ax: Axes) -> float:
    """Side of a square image in points without title and colour scale, before space is given to labels."""
    box, spec = ax.get_window_extent(), ax.get_subplotspec()
    width, height = box.width, box.height
    if spec is not None:  # a share of the figure, because the layout is not known before drawing
        width, height = (
            ax.figure.bbox.width / spec.get_gridspec().ncols,
            ax.figure.bbox.height / spec.get_gridspec().nrows,
        )
    return float(72 * min(width, height) / ax.figure.dpi) - _MARGIN


def _brackets(ax: Axes, runs: Sequence[tuple[str, int, int]]) -> None:
    """Draw a line to the left of and below each run of conditions, and thin white lines between the blocks."""
    gap = min(0.25, 0.006 * runs[-1][2])
    for _, start, stop in runs:
        ends = [start - 0.5 + gap, stop - 0.5 - gap]
        style: dict[str, Any] = {"color": INK, "linewidth": 1.4, "clip_on": False, "solid_capstyle": "butt"}
        ax.plot([-0.025, -0.025], ends, transform=ax.get_yaxis_transform(), **style)
        ax.plot(ends, [-0.025, -0.025], transform=ax.get_xaxis_transform(), **style)
    for _, start, _ in runs[1:]:
        ax.axhline(start - 0.5, color="white", linewidth=0.6)
        ax.axvline(start - 0.5, color="white", linewidth=0.6)
