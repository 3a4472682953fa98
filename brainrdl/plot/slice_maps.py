"""Figures of maps of the brain on slices, with matplotlib alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from matplotlib.collections import LineCollection

from brainrdl._core.errors import check_option, check_whole
from brainrdl.plot.brain_maps import draw_scale, on_grid, volume_of
from brainrdl.plot.style import DIVERGING, QUIET, extent_of, new_figure, styled, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Values = npt.NDArray[np.float64]

Axis = Literal["x", "y", "z"]

_FAINT = 0.35

_WIDE = 70.0  # points of a panel below which its title has no unit


def brain_slices(
    found: Any,
    model: str | None = None,
    *,
    quantity: str | None = None,
    significant: Any = None,
    background: Any = None,
    n_slices: int = 8,
    axis: Axis = "z",
    figure: Figure | None = None,
) -> Figure:
    """Draw a map of a volume on slices, with outlines around significant voxels; needs matplotlib only.

    Parameters
    ----------
    found : SearchlightMap, GroupMap or nibabel image
        Result of `brainrdl.searchlight` or of `brainrdl.searchlights.group_test`, or an image of numbers (x, y, z), NaN
        where there is no value.
    model : str, optional
        Which model of a result to draw; by default the first.
    quantity : {"mean", "t", "p", "p_fwe", "p_cluster"}, optional
        What to draw of a `GroupMap`; "t" by default. Of p-values, -log10 is drawn.
    significant : str, nibabel image or array of bool (x, y, z), optional
        Voxels to outline; the others are pale. For a `GroupMap` the name of a p-value, of which those below 0.05 are
        outlined ("p_fwe" by default); otherwise an image or an array that is not 0 there.
    background : nibabel image, optional
        Anatomy on the same grid, drawn in grey.
    n_slices : int
        Largest number of slices, at about equal distances; that with the value furthest from 0 (of significant
        voxels, if there are any) is among them.
    axis : {"x", "y", "z"}
        Slices across this axis: sagittal, coronal or axial.
    figure : Figure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
        One axes per slice with one image (after that of the background). Outlines are solid where the map is positive
        and dotted where it is negative. Left is left. The coordinates of
        slices are in mm, those of an oblique volume at its middle.

    Raises
    ------
    BrainrdlError
        If it is not a map of a volume, has several times, has no value, or a model, quantity or axis is unknown, or
        another image is on another grid.

    Examples
    --------
    >>> import nibabel
    >>> from matplotlib.figure import Figure
    >>> from brainrdl import plot
    >>> image = nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(5, 6, 4)), np.diag([3.0, 3, 3, 1]))
    >>> [ax.get_title(loc="left") for ax in plot.brain_slices(image, figure=Figure()).axes if ax.images]
    ['z 0 mm', 'z 3 mm', 'z 6 mm', 'z 9 mm']
    """
    check_whole(n_slices, "n_slices", 1)
    across = get_args(Axis).index(check_option(axis, get_args(Axis), "axis"))
    drawn = volume_of(found, model, quantity, significant)
    under = None if background is None else on_grid(background, drawn.image, "background")
    values, affine = _canonical(drawn.image, drawn.values)
    inside = None if drawn.inside is None else _canonical(drawn.image, drawn.inside)[0] > 0.5
    anatomy = None if under is None else _canonical(drawn.image, under)[0]
    places, edge = _places(values, inside, across, n_slices), extent_of(values)
    frame = _frame(values, across)
    with styled():
        columns = min(len(places), 4 if len(places) > 5 else 5)
        rows = -(-len(places) // columns)
        figure = figure or new_figure((1.55 * columns + 0.9, 1.75 * rows + 0.1))
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in panels[len(places) :]:
            ax.remove()
        for k, place in enumerate(places):
            plane = _Plane(across, int(place), affine)
            _draw_slice(panels[k], plane, values, inside, anatomy, edge)
            panels[k].set(xlim=frame[0], ylim=frame[1])
            unit = " mm" if width_of(panels[k]) > _WIDE else ""
            where = f"{axis} {plane.millimetres(values.shape):.0f}{unit}".replace("-", "\N{MINUS SIGN}")
            panels[k].set_title(where, loc="left", fontsize=8)
        _mark_sides(panels[0], across)
        has_negative = inside is not None and bool((values[inside] < 0).any())
        label = f"{drawn.label}\ndotted: below 0" if has_negative else drawn.label
        draw_scale(figure, list(panels[: len(places)]), edge, label)
    return figure


def _places(values: Values, inside: npt.NDArray[np.bool_] | None, across: int, n: int) -> npt.NDArray[np.intp]:
    """Choose slices at about equal distances, with that of the largest value; leave out those with few values."""
    others = tuple(k for k in range(3) if k != across)
    counts = np.isfinite(values).sum(others)
    known = np.flatnonzero(counts > 0.1 * counts.max())
    places = known[np.unique(np.linspace(0, len(known) - 1, min(n, len(known))).round().astype(int))]
    marked = np.isfinite(values) if inside is None else inside & np.isfinite(values)
    sizes = np.where(marked, np.abs(values), np.nan) if marked.any() else np.abs(values)
    peak = int(np.unravel_index(np.nanargmax(sizes), sizes.shape)[across])
    places[np.abs(places - peak).argmin()] = peak
    return np.unique(places)


def _frame(values: Values, across: int) -> list[tuple[float, float]]:
    """Return the limits, in voxels, of the part of all slices that has values."""
    known = np.isfinite(values)
    spans = [np.flatnonzero(known.any(tuple(m for m in range(3) if m != k))) for k in range(3) if k != across]
    return [(float(span[0]) - 1, float(span[-1]) + 1) for span in spans]


@dataclass(frozen=True)
class _Plane:
    """A slice of a volume whose axes go to the right, to the front and up."""

    across: int
    place: int
    affine: Values

    def of(self, volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the slice as rows from the bottom."""
        return np.asarray(np.take(volume, self.place, self.across).T)

    def millimetres(self, shape: tuple[int, ...]) -> float:
        middle = (np.array(shape) - 1) / 2
        middle[self.across] = self.place
        return float((self.affine[:3, :3] @ middle + self.affine[:3, 3])[self.across])

    def aspect(self) -> float:
        sizes = np.delete(np.linalg.norm(self.affine[:3, :3], axis=0), self.across)
        return float(sizes[1] / sizes[0])


def _canonical(image: Any, values: Values) -> tuple[Values, Values]:
    """Turn a volume so that its axes go to the right, to the front and up."""
    import nibabel

    turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(np.asarray(values, dtype=np.float64), image.affine))
    return np.asarray(turned.dataobj, dtype=float), np.asarray(turned.affine, dtype=float)


def _draw_slice(
    ax: Axes, plane: _Plane, values: Values, inside: npt.NDArray[np.bool_] | None, anatomy: Values | None, edge: float
) -> None:
    style: dict[str, Any] = {"origin": "lower", "interpolation": "nearest", "aspect": plane.aspect()}
    if anatomy is not None:
        ax.imshow(np.ma.masked_equal(plane.of(anatomy), 0), cmap="gray", **style)
    shown = plane.of(values)
    clear = np.ones(shown.shape) if inside is None else np.where(plane.of(inside), 1.0, _FAINT)
    ax.imshow(np.ma.masked_invalid(shown), cmap=DIVERGING, vmin=-edge, vmax=edge, alpha=clear, **style)
    ax.add_collection(LineCollection(outline_of(np.isfinite(shown)), colors=QUIET, linewidths=0.4, label="_brain"))
    if inside is not None:
        for label, part, dashes in (("_significant", shown >= 0, "solid"), ("_negative", shown < 0, (0, (0.6, 0.9)))):
            edges = outline_of(plane.of(inside) & part)
            ax.add_collection(LineCollection(edges, colors="black", linewidths=1.1, linestyles=dashes, label=label))
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def outline_of(mask: npt.NDArray[np.bool_]) -> list[list[list[float]]]:
    """Return the edges between cells inside and outside of a mask, as lines of two points (x, y).

    Examples
    --------
    >>> len(outline_of(np.array([[True, True, False]])))
    6
    """
    padded = np.pad(np.asarray(mask, dtype=bool), 1)
    rows, columns = np.nonzero(padded[:, 1:] != padded[:, :-1])
    upright = np.stack([np.stack([columns - 0.5] * 2, 1), np.stack([rows - 1.5, rows - 0.5], 1)], 2)
    rows, columns = np.nonzero(padded[1:] != padded[:-1])
    level = np.stack([np.stack([columns - 1.5, columns - 0.5], 1), np.stack([rows - 0.5] * 2, 1)], 2)
    edges: list[list[list[float]]] = np.concatenate([upright, level]).astype(float).tolist()
    return edges


def _mark_sides(ax: Axes, across: int) -> None:
    if across == 0:
        return
    for x, side, ha in ((0.0, "L", "left"), (1.0, "R", "right")):
        ax.text(x, 0.0, side, transform=ax.transAxes, fontsize=8, color=QUIET, ha=ha, va="bottom")
