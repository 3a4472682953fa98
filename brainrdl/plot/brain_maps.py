"""Figures of maps of the brain: slices with matplotlib alone, glass brain and cortical surface with nilearn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize

from brainrdl._core.errors import arg, check_option, check_whole, refuse
from brainrdl.plot.style import DIVERGING, QUIET, extent_of, new_figure, plain, styled, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Values = npt.NDArray[np.float64]

Axis = Literal["x", "y", "z"]

_ALPHA, _FAINT = 0.05, 0.35

_FSAVERAGE5 = 10242  # vertices of a hemisphere

_WIDE = 70.0  # points of a panel below which its title has no unit

View = Literal["lateral", "medial", "ventral", "dorsal", "anterior", "posterior"]

_WORDS = {"mean": "mean score", "t": "t over subjects", "score": "score"}


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
        One axes per slice with one image (after that of the background). Left is left. The coordinates of slices are in
        mm, those of an oblique volume at its middle.

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
    drawn = _volume_of(found, model, quantity, significant)
    under = None if background is None else _on_grid(background, drawn.image, "background")
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
        _scale(figure, list(panels[: len(places)]), edge, drawn.label)
    return figure


def glass_brain(
    found: Any,
    model: str | None = None,
    *,
    quantity: str | None = None,
    significant: Any = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw a map in MNI space as a projection onto the sides of a transparent brain; needs nilearn.

    Parameters
    ----------
    found, model, quantity, significant, figure
        As in `brain_slices`. If `significant` is known (as of a `GroupMap`), only these voxels are drawn, because a
        projection of all would hide them.

    Returns
    -------
    Figure
        Views from the left, the right, the front and above. Each point shows the value that is furthest from 0 along
        the line of sight.

    Raises
    ------
    BrainrdlError
        As in `brain_slices`, and if nilearn is not installed.

    Examples
    --------
    >>> from brainrdl import plot
    >>> plot.glass_brain([1, 2])
    Traceback (most recent call last):
    brainrdl.BrainrdlError: expected a map of a volume: a SearchlightMap, a GroupMap or a nibabel image, got list
    """
    drawn = _volume_of(found, model, quantity, significant)
    plotting = _nilearn("a glass brain").plotting
    values, shown = _sampled(drawn)
    image = _like(drawn, values * shown)
    edge = extent_of(drawn.values)
    with styled():
        figure = figure or new_figure((7.0, 2.2))
        figure.set_layout_engine("none")  # nilearn places its axes
        plotting.plot_glass_brain(
            image, figure=figure, display_mode="lyrz", cmap=DIVERGING, plot_abs=False, vmin=-edge, vmax=edge,
            threshold=1e-9, colorbar=False, axes=(0.0, 0.0, 0.8, 1.0),
        )  # fmt: skip
        place = figure.add_axes((0.83, 0.15, 0.018, 0.7))
        _dress_scale(figure.colorbar(_colours(edge), cax=place), drawn.label.replace("outlines", "shown"))
    return figure


def brain_surface(
    found: Any,
    model: str | None = None,
    *,
    quantity: str | None = None,
    significant: Any = None,
    mesh: Any = None,
    hemisphere: Literal["left", "right"] | None = None,
    views: Sequence[View] = ("lateral", "medial"),
    figure: Figure | None = None,
) -> Figure:
    """Draw a map on the inflated cortex; needs nilearn.

    Parameters
    ----------
    found, model, quantity, significant, figure
        As in `brain_slices`; also a map of a surface, or an array (n_vertices,). If `significant` is known, only these
        voxels or vertices are coloured.
    mesh : path or (coordinates, faces), optional
        The surface to draw a map of a surface on; by default fsaverage5, if the map has its 10,242 vertices. Volumes
        (in MNI space) are always drawn on fsaverage5.
    hemisphere : {"left", "right"}, optional
        Hemisphere of a surface; by default what the map says, or left. Both are drawn of a volume.
    views : sequence of {"lateral", "medial", "ventral", "dorsal", "anterior", "posterior"}
        From where each hemisphere is seen.

    Returns
    -------
    Figure

    Raises
    ------
    BrainrdlError
        If it is not such a map, has several times, has no value, a surface has another number of vertices, or nilearn
        is not installed.

    Examples
    --------
    >>> from brainrdl import plot
    >>> plot.brain_surface(np.zeros(100), hemisphere="both")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: hemisphere 'both' is not known...
    """
    if hemisphere is not None:
        check_option(hemisphere, ("left", "right"), "hemisphere")
    for view in views:
        check_option(view, get_args(View), "views")
    parts, label = _surfaces(found, model, quantity, significant, mesh, hemisphere)
    plotting = _nilearn("a cortical surface").plotting
    edge = max(extent_of(values) for _, values, *_ in parts)
    with styled():
        figure = figure or new_figure((1.8 * len(views) * len(parts) + 0.8, 1.8))
        axes = figure.subplots(1, len(views) * len(parts), subplot_kw={"projection": "3d"}, squeeze=False)[0]
        panels = [(*part, view) for part in parts for view in (views if part[0] == "left" else views[::-1])]
        for ax, (side, values, surface, sulci, view) in zip(axes, panels, strict=True):
            plotting.plot_surf_stat_map(
                surface, values, hemi=side, view=view, bg_map=sulci, axes=ax, figure=figure, cmap=DIVERGING, vmin=-edge,
                vmax=edge, colorbar=False, threshold=None, bg_on_data=False,
            )  # fmt: skip
            ax.set_title(f"{side}, {view}", fontsize=8)
        _scale(figure, list(axes), edge, label)
    return figure


# What is drawn


@dataclass(frozen=True, eq=False)
class _Volume:
    """A map of a volume: its grid, values (NaN: none), where it is significant, and the label of the scale."""

    image: Any
    values: Values
    inside: Values | None
    label: str


def _volume_of(found: Any, model: str | None, quantity: str | None, significant: Any) -> _Volume:
    if hasattr(found, "get_fdata"):
        if quantity is not None or model is not None:
            refuse(f"an image has no {arg('model')} or {arg('quantity')}; leave them out")
        image, label = found, "value"
    elif hasattr(found, "image") and hasattr(found, "models"):
        model, quantity, significant = _chosen(found, model, quantity, significant)
        image = _drawn_image(found.image(model, quantity), quantity) if quantity else found.image(model)
        label = _label(found, model, quantity)
        if isinstance(significant, str):
            p_values = np.asarray(found.image(model, significant).dataobj, dtype=float)
            return _checked(image, np.where(p_values < _ALPHA, 1.0, 0.0), f"{label}\noutlines: {significant} < 0.05")
    else:
        refuse(
            f"expected a map of a volume: a SearchlightMap, a GroupMap or a nibabel image, got {type(found).__name__}"
        )
    inside = None if significant is None else _on_grid(significant, image, "significant")
    return _checked(image, None if inside is None else np.where(inside == 0, 0.0, 1.0), label)


def _chosen(found: Any, model: str | None, quantity: str | None, significant: Any) -> tuple[str, str | None, Any]:
    """Return model, quantity (None for a map of one subject) and p-value, by default the first, t and p_fwe."""
    model = found.models[0] if model is None else check_option(model, found.models, "model")
    if not isinstance(found.values, dict):
        if quantity is not None or isinstance(significant, str):
            refuse(f"a map of one subject has scores only; leave out {arg('quantity')} and the name of a p-value")
        return model, None, significant
    quantity = check_option(quantity or "t", tuple(found.values), "quantity")
    if isinstance(significant, str):
        check_option(significant, [name for name in found.values if name.startswith("p")], "significant")
    return model, quantity, "p_fwe" if significant is None else significant


def _drawn_values(values: Values, quantity: str | None) -> Values:
    """Return -log10 of p-values, so that the smallest have the strongest colours; other quantities as they are."""
    return -np.log10(np.maximum(values, np.finfo(float).tiny)) if (quantity or "").startswith("p") else values


def _drawn_image(image: Any, quantity: str) -> Any:
    import nibabel

    return nibabel.Nifti1Image(_drawn_values(np.asarray(image.dataobj, dtype=float), quantity), image.affine)


def _label(found: Any, model: str, quantity: str | None) -> str:
    word = _WORDS.get(quantity or "score", f"\N{MINUS SIGN}log10 {quantity}")
    measure = found.settings.get("comparator")
    return (
        f"{word} ({measure})\nmodel: {model}" if measure and quantity in (None, "mean") else f"{word}\nmodel: {model}"
    )


def _checked(image: Any, inside: Values | None, label: str) -> _Volume:
    values = np.asarray(image.dataobj, dtype=float)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
        inside = inside if inside is None or inside.ndim == 3 else inside[..., 0]
    if values.ndim != 3:
        refuse(
            f"the map has shape {values.shape}, not (x, y, z); choose one time, as in found.image(model).slicer[..., 0]"
        )
    if not np.isfinite(values).any():
        refuse("the map has no value: all voxels are NaN")
    return _Volume(image, values, inside, label)


def _on_grid(other: Any, image: Any, what: str) -> Values:
    shape = image.shape[:3]
    values = np.asarray(other.dataobj if hasattr(other, "dataobj") else other, dtype=float)
    values = values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values
    differs = hasattr(other, "affine") and not np.allclose(other.affine, image.affine, atol=1e-3)
    if values.shape != shape or differs:
        refuse(
            f"{arg(what)} is on another grid than the map: shape {values.shape} and {shape}; resample it, for example "
            "with nilearn.image.resample_to_img"
        )
    return values


def _sampled(drawn: _Volume) -> tuple[Values, Values]:
    """Return the values, 0 where there is none, and 1 where they are to be shown."""
    known = np.isfinite(drawn.values)
    shown = known if drawn.inside is None else known & (drawn.inside > 0)
    return np.where(known, drawn.values, 0.0), shown.astype(float)


def _like(drawn: _Volume, values: Values) -> Any:
    import nibabel

    return nibabel.Nifti1Image(values.astype(np.float32), drawn.image.affine)


def _surfaces(
    found: Any, model: str | None, quantity: str | None, significant: Any, mesh: Any, hemisphere: str | None
) -> tuple[list[tuple[str, Values, Any, Any]], str]:
    """Return side, values, surface and sulci of each hemisphere to draw."""
    where = getattr(found, "neighbourhoods", None)
    if isinstance(found, np.ndarray) or (where is not None and where.kind == "surface"):
        side, values, label = _vertices(found, model, quantity, significant)
        side = hemisphere or side
        return [(side, values, *_mesh(mesh, side, len(values)))], label
    drawn = _volume_of(found, model, quantity, significant)
    nilearn = _nilearn("a cortical surface")
    sampled = []
    for side in ("left", "right"):
        pial, shape, sulci = (nilearn.datasets.fetch_surf_fsaverage("fsaverage5")[f"{key}_{side}"] for key in _MESHES)
        known = np.isfinite(drawn.values).astype(float)
        parts = (*_sampled(drawn), known)
        values, share, of = (nilearn.surface.vol_to_surf(_like(drawn, one), pial) for one in parts)
        # Voxels without a value count as 0 in `values`; divided by the share of the others, they do not count.
        sampled.append((side, np.where(share > 0.5, values / np.maximum(of, 1e-6), np.nan), shape, sulci))
    return sampled, drawn.label.replace("outlines", "shown")


_MESHES = ("pial", "infl", "sulc")


def _vertices(found: Any, model: str | None, quantity: str | None, significant: Any) -> tuple[str, Values, str]:
    if isinstance(found, np.ndarray):
        inside = np.ones(len(found), bool) if significant is None else np.asarray(significant, bool)
        return "left", np.where(inside, found, np.nan).astype(float), "value"
    where = found.neighbourhoods
    if where.times is not None:
        refuse("the map has several times; choose one, and give its values (n_vertices,) as an array")
    model, quantity, significant = _chosen(found, model, quantity, significant)
    column = found.models.index(model)
    own = _drawn_values((found.values[quantity] if quantity else found.values)[:, column].astype(float), quantity)
    label = _label(found, model, quantity)
    if isinstance(significant, str):
        own = np.where(found.values[significant][:, column] < _ALPHA, own, np.nan)
        label += f"\nshown: {significant} < 0.05"
    elif significant is not None:
        inside = np.asarray(significant) != 0
        if inside.shape != (where.space["n_vertices"],):
            expected = f"one value for each of the {where.space['n_vertices']} vertices"
            refuse(f"{arg('significant')} must have {expected}, got the shape {inside.shape}")
        own = np.where(inside[where.centres["vertex"].to_numpy()], own, np.nan)
    values = np.full(where.space["n_vertices"], np.nan)
    values[where.centres["vertex"].to_numpy()] = own
    side = "right" if "Right" in str(where.space.get("structure")) else "left"
    return side, values, label


def _mesh(mesh: Any, side: str, n_vertices: int) -> tuple[Any, Any]:
    if mesh is not None:
        return mesh, None
    if n_vertices != _FSAVERAGE5:
        refuse(f"the map has {n_vertices} vertices, fsaverage5 has {_FSAVERAGE5}; give the surface with {arg('mesh')}")
    brain = _nilearn("a cortical surface").datasets.fetch_surf_fsaverage("fsaverage5")
    return brain[f"infl_{side}"], brain[f"sulc_{side}"]


def _nilearn(what: str) -> Any:
    try:
        import nilearn
        from nilearn import datasets, plotting, surface  # noqa: F401
    except ImportError as error:
        refuse(f"{what} needs nilearn ({error}); pip install 'brainrdl[fmri]', or use brainrdl.plot.brain_slices")
    return nilearn


# Slices


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
        edges = outline_of(plane.of(inside))
        ax.add_collection(LineCollection(edges, colors="black", linewidths=1.1, label="_significant"))
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


def _scale(figure: Figure, axes: list[Axes], edge: float, label: str) -> None:
    bar = figure.colorbar(_colours(edge), ax=axes, shrink=0.8, aspect=16, pad=0.02)
    _dress_scale(bar, label)


def _colours(edge: float) -> Any:
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(Normalize(-edge, edge), DIVERGING)


def _dress_scale(bar: Any, label: str) -> None:
    bar.set_label("\n".join(plain(line, 40) for line in label.splitlines()))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2)
