"""Figures of maps of the brain that nilearn draws: glass brain and cortical surface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from brainrdl._core.errors import arg, check_option, refuse
from brainrdl.plot.brain_maps import (
    ALPHA,
    Volume,
    chosen,
    colours,
    draw_scale,
    drawn_values,
    dress_scale,
    label_of_map,
    volume_of,
)
from brainrdl.plot.style import DIVERGING, extent_of, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Values = npt.NDArray[np.float64]

View = Literal["lateral", "medial", "ventral", "dorsal", "anterior", "posterior"]

_FSAVERAGE5 = 10242  # vertices of a hemisphere

# Shades of gyri and sulci, 1 is black: paler than most colours of a map, also in grey print.
_GYRI, _SULCI = 0.1, 0.28

_ZOOM = 1.45  # of a hemisphere, so that it fills its panel


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
    drawn = volume_of(found, model, quantity, significant)
    plotting = _nilearn("a glass brain").plotting
    values, shown = _sampled(drawn)
    image = _like(drawn, values * shown)
    edge = extent_of(drawn.values)
    with styled():
        figure = figure or new_figure((7.0, 2.2))
        figure.set_layout_engine("none")  # nilearn places its axes
        brain = plotting.plot_glass_brain(
            image, figure=figure, display_mode="lyrz", cmap=DIVERGING, plot_abs=False, vmin=-edge, vmax=edge,
            threshold=1e-9, colorbar=False, axes=(0.0, 0.0, 0.8, 1.0),
        )  # fmt: skip
        brain.add_contours(_like(drawn, shown), levels=[0.5], colors="black", linewidths=0.7)
        place = figure.add_axes((0.83, 0.15, 0.018, 0.7))
        dress_scale(figure.colorbar(colours(edge), cax=place), drawn.label.replace("outlines", "shown"))
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
    """Draw a map on the inflated cortex, with an outline around what is coloured; needs nilearn.

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
            _outline(ax, surface, values)
            ax.set_box_aspect(None, zoom=_ZOOM)
            ax.set_title(f"{side}, {view}", fontsize=8)
        draw_scale(figure, list(axes), edge, label)
    return figure


def _sampled(drawn: Volume) -> tuple[Values, Values]:
    """Return the values, 0 where there is none, and 1 where they are to be shown."""
    known = np.isfinite(drawn.values)
    shown = known if drawn.inside is None else known & (drawn.inside > 0)
    return np.where(known, drawn.values, 0.0), shown.astype(float)


def _like(drawn: Volume, values: Values) -> Any:
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
    drawn = volume_of(found, model, quantity, significant)
    nilearn = _nilearn("a cortical surface")
    sampled = []
    for side in ("left", "right"):
        pial, shape, sulci = (nilearn.datasets.fetch_surf_fsaverage("fsaverage5")[f"{key}_{side}"] for key in _MESHES)
        known = np.isfinite(drawn.values).astype(float)
        parts = (*_sampled(drawn), known)
        values, share, of = (nilearn.surface.vol_to_surf(_like(drawn, one), pial) for one in parts)
        # Voxels without a value count as 0 in `values`; divided by the share of the others, they do not count.
        own = np.where(share > 0.5, values / np.maximum(of, 1e-6), np.nan)
        sampled.append((side, own, shape, _shades(nilearn, sulci)))
    return sampled, drawn.label.replace("outlines", "shown")


_MESHES = ("pial", "infl", "sulc")


def _vertices(found: Any, model: str | None, quantity: str | None, significant: Any) -> tuple[str, Values, str]:
    if isinstance(found, np.ndarray):
        inside = np.ones(len(found), bool) if significant is None else np.asarray(significant, bool)
        return "left", np.where(inside, found, np.nan).astype(float), "value"
    where = found.neighbourhoods
    if where.times is not None:
        refuse("the map has several times; choose one, and give its values (n_vertices,) as an array")
    model, quantity, significant = chosen(found, model, quantity, significant)
    column = found.models.index(model)
    own = drawn_values((found.values[quantity] if quantity else found.values)[:, column].astype(float), quantity)
    label = label_of_map(found, model, quantity)
    if isinstance(significant, str):
        own = np.where(found.values[significant][:, column] < ALPHA, own, np.nan)
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
    nilearn = _nilearn("a cortical surface")
    brain = nilearn.datasets.fetch_surf_fsaverage("fsaverage5")
    return brain[f"infl_{side}"], _shades(nilearn, brain[f"sulc_{side}"])


def _shades(nilearn: Any, depths: Any) -> Values:
    """Return a pale grey for gyri and a darker one for sulci."""
    return np.where(nilearn.surface.load_surf_data(depths) > 0, _SULCI, _GYRI)


def _outline(ax: Axes, surface: Any, values: Values) -> None:
    """Draw a black line around the vertices with a value: in grey print, their colours look like sulci."""
    nilearn, inside = _nilearn("a cortical surface"), np.isfinite(values)
    n_inside = inside[nilearn.surface.load_surf_mesh(surface).faces].sum(axis=1)
    if (n_inside == 2).any():
        nilearn.plotting.plot_surf_contours(
            surface, inside.astype(int), axes=ax, figure=ax.figure, levels=[1], colors=["black"]
        )


def _nilearn(what: str) -> Any:
    try:
        import nilearn
        from nilearn import datasets, plotting, surface  # noqa: F401
    except ImportError as error:
        refuse(f"{what} needs nilearn ({error}); pip install 'brainrdl[fmri]', or use brainrdl.plot.brain_slices")
    return nilearn
