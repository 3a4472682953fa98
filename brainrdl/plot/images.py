"""Figures of RDMs as images: one, or a stack of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float

from brainrdl._core.errors import check_option, refuse
from brainrdl.dissimilarity.measures import label_of
from brainrdl.plot.arrangement import Layout, layout_of, layout_of_rdms, limits_of, ranks
from brainrdl.plot.margins import label_conditions, label_panels, margins_of, settle
from brainrdl.plot.style import (
    PANEL_TITLE,
    axes_for,
    draw_colorbar,
    draw_image,
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

    from brainrdl.plot.thumbnails import Images
_MOST_PANELS = 64

RANK = "rank of dissimilarity (0-1)"

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
    scale: str = "raw",
    order: str | Sequence[str] | None = None,
    folds: Mapping[str, Any] | None = None,
    images: Images | None = None,
    labels: str | None = None,
) -> Axes:
    """Draw one RDM as an image of dissimilarities, with names, categories or pictures of conditions on its margins.

    Text has the same size in large and small figures. Names or categories that would overlap are not written: the
    figure then says how many conditions there are. Pictures are put in several rows if there are many conditions.

    Parameters
    ----------
    rdms : RDMs
        ``n_rdms`` RDMs; NaN pairs are drawn in grey.
    ax : Axes, optional
        Where to draw; a new figure by default.
    groups : mapping of condition name to category, optional
        Coloured bars show the categories. By default conditions are sorted by category (categories in order of first
        appearance), and each category has one label. In another order, a legend explains the colours, which are the
        same in all figures with the same mapping; only the number of more than 8 categories is given.
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
    scale : {"raw", "rank"}
        "raw": the dissimilarities. "rank": their midranks, scaled to 0 (smallest) to 1 (largest), also called
        percentiles.
    order : {"stored", "groups", "folds", "cluster"} or sequence of str, optional
        Order of conditions: as stored, by category, by fold (then by category), by similarity (leaves of an
        average-linkage tree in optimal order, for complete RDMs), or all names in a given order. By default by fold or
        category, if they are given.
    folds : mapping of condition name to fold, optional
        Fold in which each condition was held out. Pairs held out together then are blocks on the diagonal.
    images : path, mapping or Stimuli, optional
        Pictures for the margins: a folder with one image file per condition, a mapping of condition name to path, array
        (h, w[, 3 or 4]), tensor (c, h, w) or ``PIL.Image``, or `brainrdl.stimuli.Stimuli`.
    labels : {"names", "groups", "count"}, optional
        Text on the margins. "names": names of conditions, or of every second, third, ... if they would overlap. By
        default categories, or else names if they fit and there are no pictures.

    Returns
    -------
    Axes
        With one image: the square RDM in the order in which it is drawn.

    Raises
    ------
    BrainrdlError
        If there is no RDM `index`; a condition has no category, fold or image; an option is unknown; an image cannot be
        read; a given order lacks a condition; or an RDM with NaN is to be clustered.

    See Also
    --------
    condition_order : The table of the conditions in this order.

    References
    ----------
    Bar-Joseph et al. (2001), Bioinformatics 17(suppl. 1):S22-S29, doi 10.1093/bioinformatics/17.suppl_1.S22, for the
    optimal order of leaves.

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
    check_option(scale, ("raw", "rank"), "scale")
    layout = layout_of(names(rdms, by), groups, order, folds, rdms.get_matrices()[index])
    margins = margins_of(layout, images, labels)
    square = _scaled(rdms.get_matrices()[index], layout, scale)
    low, high = limits_of([square])
    with styled():
        ax = axes_for(ax, (4.4, 3.8))
        draw_image(ax, square, "viridis", low if vmin is None else vmin, high if vmax is None else vmax)
        set_title(ax, title)
        label_conditions(ax, margins)
        if colorbar:
            draw_colorbar(ax, _unit(rdms, scale))
        if margins.pictures:
            settle(ax.figure)
    return ax


def _scaled(square: Float[np.ndarray, "n n"], layout: Layout, scale: str) -> Float[np.ndarray, "n n"]:
    from scipy.spatial.distance import squareform

    return layout.arrange(square if scale == "raw" else squareform(ranks(squareform(square, checks=False))))


def _unit(rdms: RDMs, scale: str) -> str:
    return label_of(rdms.dissimilarity_measure) if scale == "raw" else RANK


def rdms(
    rdms: RDMs,
    groups: Mapping[str, str] | None = None,
    *,
    by: str = "stimulus",
    titles: Sequence[str] | None = None,
    figure: Figure | None = None,
    scale: str = "raw",
    order: str | Sequence[str] | None = None,
    folds: Mapping[str, Any] | None = None,
    images: Images | None = None,
    labels: str | None = None,
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
    scale, order, folds, images, labels
        As in `rdm`. Ranks are those within each RDM; the mean RDM is clustered, so that all panels have one order.

    Returns
    -------
    Figure
        With one image axes per RDM, in the order of the stack.

    Raises
    ------
    BrainrdlError
        If there are more than 64 RDMs, the number of titles differs from the number of RDMs, or `rdm` would refuse the
        other arguments.

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
    check_option(scale, ("raw", "rank"), "scale")
    layout = layout_of_rdms(rdms, groups, order, folds, by)
    margins = margins_of(layout, images, labels)
    squares = [_scaled(square, layout, scale) for square in rdms.get_matrices()]
    columns = min(rdms.n_rdm, max(2, round(1.3 * rdms.n_rdm**0.5)))
    rows = -(-rdms.n_rdm // columns)
    low, high = limits_of(squares)
    with styled():
        figure = figure or new_figure((1.6 + 2.6 * columns, 0.6 + 2.6 * rows))
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[rdms.n_rdm :]:
            ax.remove()
        panels = list(axes[: rdms.n_rdm])
        for ax, square, title in zip(panels, squares, shown(titles, PANEL_TITLE), strict=True):
            draw_image(ax, square, "viridis", low, high)
            ax.set_title(title, loc="left", family=mpl.rcParams["font.family"])
        label_panels(panels, margins, columns)
        draw_colorbar(axes[columns - 1], _unit(rdms, scale))
        if margins.pictures:
            settle(figure)
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
