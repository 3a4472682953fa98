"""Slices show the values of a map at the right place; glass brain and surface are drawn by nilearn."""

from __future__ import annotations

import sys

import nibabel
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from brainrdl import BrainrdlError, plot, searchlights
from brainrdl.plot.slice_maps import outline_of

SIZES = np.diag([2.0, 2.0, 3.0, 1.0])


def volume(shape: tuple[int, ...] = (4, 5, 3), affine: np.ndarray = SIZES) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image(np.arange(np.prod(shape), dtype=float).reshape(shape), affine)


def shown(figure: Figure) -> list[np.ndarray]:
    return [np.ma.filled(ax.images[-1].get_array(), np.nan) for ax in figure.axes if ax.images]


def titles(figure: Figure) -> list[str]:
    return [ax.get_title(loc="left") for ax in figure.axes if ax.images]


def segments(figure: Figure, panel: int, label: str) -> int:
    found = [one for one in figure.axes[panel].collections if one.get_label() == label]
    return sum(len(one.get_segments()) for one in found if isinstance(one, LineCollection))


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_each_slice_has_the_values_at_its_coordinate(axis: str) -> None:
    image = volume()
    figure = plot.brain_slices(image, axis=axis, figure=Figure())  # type: ignore[arg-type]
    across, step = "xyz".index(axis), SIZES["xyz".index(axis), "xyz".index(axis)]
    assert titles(figure) == [f"{axis} {step * k:.0f} mm" for k in range(image.shape[across])]
    for k, plane in enumerate(shown(figure)):
        np.testing.assert_array_equal(plane, np.take(image.get_fdata(), k, across).T)
    assert {ax.images[0].get_clim() for ax in figure.axes if ax.images} == {(-59.0, 59.0)}


def test_left_is_left_however_the_file_is_stored() -> None:
    affine = np.diag([-2.0, 2.0, 3.0, 1.0])
    affine[0, 3] = 6.0
    turned = nibabel.Nifti1Image(volume().get_fdata()[::-1], affine)
    plain, other = (shown(plot.brain_slices(image, figure=Figure())) for image in (volume(), turned))
    np.testing.assert_array_equal(plain, other)


def test_the_slice_with_the_peak_is_among_few_slices() -> None:
    values = np.ones((3, 3, 30))
    values[1, 1, 7], values[1, 1, 20] = -9.0, 5.0
    image = nibabel.Nifti1Image(values, np.eye(4))
    assert "z 7 mm" in titles(plot.brain_slices(image, n_slices=3, figure=Figure()))
    inside = values == 5.0
    assert "z 20 mm" in titles(plot.brain_slices(image, n_slices=3, significant=inside, figure=Figure()))


def test_significant_voxels_are_outlined_and_the_others_pale() -> None:
    inside = np.zeros((4, 5, 3))
    inside[1, 2:4, 0] = 1
    figure = plot.brain_slices(volume(), significant=nibabel.Nifti1Image(inside, SIZES), figure=Figure())
    assert [segments(figure, k, "_significant") for k in range(3)] == [6, 0, 0]
    alpha = figure.axes[0].images[-1].get_alpha()
    assert (alpha == 1).sum() == 2
    assert alpha.min() < 0.5


def test_outlines_of_negative_voxels_are_dotted_because_their_grey_is_that_of_positive_ones() -> None:
    values = np.ones((3, 1, 1))
    values[2] = -1
    figure = plot.brain_slices(
        nibabel.Nifti1Image(values, np.eye(4)), significant=np.array([1, 0, 1]).reshape(3, 1, 1), figure=Figure()
    )
    assert (segments(figure, 0, "_significant"), segments(figure, 0, "_negative")) == (4, 4)
    styles = {one.get_label(): one.get_linestyle()[0][1] for one in figure.axes[0].collections}
    assert styles["_significant"] is None
    assert styles["_negative"] is not None
    assert figure.axes[-1].get_ylabel().endswith("dotted: below 0")


def test_voxels_without_a_value_are_empty_and_the_border_is_drawn() -> None:
    values = volume().get_fdata()
    values[:, :, 0] = np.nan
    values[0, 0] = np.nan
    figure = plot.brain_slices(nibabel.Nifti1Image(values, SIZES), figure=Figure())
    assert titles(figure) == ["z 3 mm", "z 6 mm"]
    assert np.isnan(shown(figure)[0]).sum() == 1
    assert segments(figure, 0, "_brain") == 18


def test_an_outline_runs_between_cells_inside_and_outside() -> None:
    mask = np.array([[False, True, True], [False, False, True]])
    corners = {tuple(point) for edge in outline_of(mask) for point in edge}
    assert len(outline_of(mask)) == 8
    assert corners == {
        (0.5, -0.5),
        (1.5, -0.5),
        (2.5, -0.5),
        (0.5, 0.5),
        (1.5, 0.5),
        (2.5, 0.5),
        (1.5, 1.5),
        (2.5, 1.5),
    }


@pytest.fixture(scope="module")
def group() -> searchlights.GroupMap:
    near = searchlights.volume_neighbourhoods(np.ones((3, 3, 2)), 3.0, affine=SIZES)
    effect = np.zeros((18, 2))
    effect[0, 1] = 5.0
    rng = np.random.default_rng(0)
    maps = [
        searchlights.SearchlightMap(near, effect + rng.normal(size=(18, 2)), ("pixels", "animacy"), np.zeros(18))
        for _ in range(8)
    ]
    return searchlights.group_test(maps, n_permutations=200)


def test_a_group_map_has_t_values_with_outlines_of_corrected_p(group: searchlights.GroupMap) -> None:
    figure = plot.brain_slices(group, "animacy", figure=Figure())
    np.testing.assert_allclose(shown(figure)[0][0, 0], group.values["t"][0, 1], rtol=1e-6)
    assert segments(figure, 0, "_significant") == 4
    assert figure.axes[-1].get_ylabel() == "t over subjects\nmodel: animacy\noutlines: p_fwe < 0.05"
    mean = plot.brain_slices(group, quantity="mean", significant="p_cluster", figure=Figure())
    np.testing.assert_allclose(shown(mean)[0][0, 0], group.values["mean"][0, 0], rtol=1e-6)


def test_a_map_of_one_subject_has_its_scores() -> None:
    near = searchlights.volume_neighbourhoods(np.ones((2, 2, 2)), 3.0, affine=SIZES)
    found = searchlights.SearchlightMap(
        near, np.arange(8.0)[:, None], ("animacy",), np.zeros(8), settings={"comparator": "corr"}
    )
    figure = plot.brain_slices(found, figure=Figure())
    np.testing.assert_array_equal(shown(figure)[1], [[1, 5], [3, 7]])
    assert figure.axes[-1].get_ylabel() == "score (corr)\nmodel: animacy"
    with pytest.raises(BrainrdlError, match="a map of one subject has scores only"):
        plot.brain_slices(found, quantity="t")


def test_a_background_lies_under_the_map_and_must_be_on_its_grid() -> None:
    figure = plot.brain_slices(volume(), background=volume(), figure=Figure())
    assert [len(ax.images) for ax in figure.axes[:3]] == [2, 2, 2]
    with pytest.raises(BrainrdlError, match=r"background= is on another grid .* resample it"):
        plot.brain_slices(volume(), background=volume((4, 5, 4)))
    with pytest.raises(BrainrdlError, match=r"background= is on another grid"):
        plot.brain_slices(volume(), background=volume(affine=np.eye(4)))


def test_what_is_not_a_map_of_a_volume_is_refused(group: searchlights.GroupMap) -> None:
    with pytest.raises(BrainrdlError, match=r"expected a map of a volume: .* got list"):
        plot.brain_slices([1])
    with pytest.raises(BrainrdlError, match="all voxels are NaN"):
        plot.brain_slices(nibabel.Nifti1Image(np.full((2, 2, 2), np.nan), SIZES))
    with pytest.raises(BrainrdlError, match="choose one time"):
        plot.brain_slices(volume((2, 2, 2, 3)))
    with pytest.raises(BrainrdlError, match="an image has no model="):
        plot.brain_slices(volume(), "animacy")
    with pytest.raises(BrainrdlError, match="model 'animcy' is not known; nearest: 'animacy'"):
        plot.brain_slices(group, "animcy")
    with pytest.raises(BrainrdlError, match="significant 'mean'"):
        plot.brain_slices(group, significant="mean")
    with pytest.raises(BrainrdlError, match="axis 'w'"):
        plot.brain_slices(volume(), axis="w")  # type: ignore[arg-type]
    with pytest.raises(BrainrdlError, match="has 100 vertices, fsaverage5 has 10242; give the surface with mesh="):
        plot.brain_surface(np.zeros(100))
    with pytest.raises(BrainrdlError, match="views 'below'"):
        plot.brain_surface(np.zeros(100), views=["below"])  # type: ignore[list-item]


def test_without_nilearn_the_refusal_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(BrainrdlError, match=r"a glass brain needs nilearn .* pip install 'brainrdl\[fmri\]'"):
        plot.glass_brain(volume())
    assert plot.brain_slices(volume(), figure=Figure()).axes


# With nilearn


@pytest.mark.slow
def test_a_glass_brain_is_projected_on_four_sides(group: searchlights.GroupMap) -> None:
    pytest.importorskip("nilearn")
    figure = plot.glass_brain(group, "animacy", figure=Figure(figsize=(7, 2.2)))
    drawn = [image for ax in figure.findobj(lambda part: hasattr(part, "images")) for image in ax.images]
    values = np.concatenate([np.ma.compressed(image.get_array()) for image in drawn])
    assert np.isclose(np.abs(values).max(), np.abs(group.values["t"][0, 1]), rtol=1e-3)
    assert figure.axes[-1].get_ylabel().endswith("shown: p_fwe < 0.05")


@pytest.mark.slow
def test_values_of_a_surface_are_drawn_on_the_mesh_that_is_given() -> None:
    pytest.importorskip("nilearn")
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=float)
    faces = np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]])
    figure = plot.brain_surface(np.array([1.0, -3, 2, 0]), mesh=(corners, faces), hemisphere="right", figure=Figure())
    assert [ax.get_title() for ax in figure.axes[:2]] == ["right, medial", "right, lateral"]
    assert figure.axes[-1].get_ylim() == (-3, 3)


@pytest.mark.slow
def test_a_black_line_separates_coloured_vertices_from_the_pale_cortex() -> None:
    pytest.importorskip("nilearn")
    from nilearn import datasets, surface

    coordinates, faces = surface.load_surf_mesh(datasets.fetch_surf_fsaverage("fsaverage5")["infl_left"])
    values = np.full(len(coordinates), np.nan)
    values[coordinates[:, 1] > 40] = 8.0
    figure = plot.brain_surface(values, views=("lateral",), figure=Figure())
    drawn = figure.axes[0].collections[0].get_facecolor()[:, :3]  # in another order than the faces
    n_inside = np.isfinite(values)[faces].sum(axis=1)
    line, grey = (drawn == 0).all(axis=1), np.ptp(drawn, axis=1) == 0
    assert line.sum() == np.isin(n_inside, [1, 2]).sum()
    assert (~grey).sum() == (n_inside == 3).sum()
    assert drawn[grey & ~line].min() > 0.65
    assert np.ptp(drawn[~grey], axis=1).min() > 0.4  # clear colours; in grey print, light values have only the line
