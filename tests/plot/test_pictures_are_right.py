"""Figures show the values that they are given: order of conditions, names, marks, scales and legends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver

from brainrdl import BrainrdlError, plot
from brainrdl.plot import cortex_maps
from brainrdl.plot.style import in_legend, shown
from brainrdl.rdms import from_array
from brainrdl.rdms.by_name import select

RANDOM = np.random.default_rng(0)
NAMES = [f"c{k}" for k in range(12)]
LONG = [f"resnet50_imagenet_layer{k}.block2.conv1_readout_of_all_subjects" for k in (1, 2, 3)]
BARS = {"model": "a", "layer": "", "target": "IT", "comparator": "corr", "against": "subjects", "score": 0.2}
BARS |= {"low": 0.1, "high": 0.3, "p_corrected": 0.2, "ceiling_lower": 0.4, "ceiling_upper": 0.5}


def axes() -> Any:
    return Figure().subplots()


def rows(ax: Any) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def legend(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Conditions by name


@pytest.mark.parametrize("method", ["mds", "classical", pytest.param("t-sne", marks=pytest.mark.slow)])
def test_the_same_rdm_in_another_order_is_not_displaced(method: str) -> None:
    i, j = np.triu_indices(12, 1)
    teacher = from_array(np.where(i // 4 == j // 4, 0.5, 1.0), NAMES)  # symmetric: its map is not unique
    student = select(teacher, [NAMES[k] for k in RANDOM.permutation(12)])
    for given in ({}, {"before": student}):
        ax = plot.displacement_map(student, teacher, axes(), method=method, **given)  # type: ignore[arg-type]
        (arrows,) = (one for one in ax.collections if isinstance(one, Quiver))
        assert np.hypot(arrows.U, arrows.V).max() < 0.01 * np.ptp(ax.get_xlim())


# Names


def test_labels_that_are_the_same_when_shortened_have_a_number() -> None:
    assert len(set(shown(LONG))) == 3
    assert [word[:3] for word in shown(LONG)] == ["1. ", "2. ", "3. "]
    assert shown([LONG[0], LONG[0]]) == [shown(LONG[:1])[0]] * 2
    assert in_legend(["_x", "y"]) == [" _x", "y"]


def test_models_with_long_names_differ_in_all_figures() -> None:
    table = pd.DataFrame([BARS | {"model": name} for name in LONG])
    assert len(set(rows(plot.model_bars(table, ax=axes())))) == 3
    course = pd.DataFrame([{"model": name, "time": at, "score": at} for name in LONG for at in (0, 1)])
    assert len(set(legend(plot.time_course(course, axes())))) == 3
    scores = pd.DataFrame([BARS | {"model": name, "subject": who, "fold": 0} for name in LONG for who in "xy"])
    assert len(set(legend(plot.subject_scores(scores, ax=axes())))) == 4  # and the ceiling
    assert len(set(legend(plot.fold_scores(scores, ax=axes())))) == 4
    points = pd.DataFrame({"weight": 1, "accuracy": 0.1, "score": 0.2, "teacher": LONG})
    assert len(set(legend(plot.pareto(points, "weight", axes(), by="teacher")))) == 3


def test_categories_and_titles_of_rdms_with_long_names_differ() -> None:
    groups = {name: LONG[k % 3] for k, name in enumerate(NAMES)}
    one = from_array(RANDOM.random(66), NAMES)
    assert len(set(legend(plot.rdm_map(one, axes(), groups)))) == 3
    ax = plot.rdm(one, axes(), groups, order="stored")
    words = legend(ax) if ax.get_legend() else [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert len(set(words)) == 3
    stack = from_array(RANDOM.random((3, 66)), NAMES, descriptors={"subject": LONG})
    titles = [ax.get_title(loc="left") for ax in plot.rdms(stack, figure=Figure()).axes if ax.images]
    assert len(set(titles)) == 3


def test_more_categories_than_colours_differ_in_their_markers() -> None:
    ax = plot.rdm_map(from_array(RANDOM.random(66), NAMES), axes(), {name: f"g{k}" for k, name in enumerate(NAMES)})
    looks = {(to_hex(handle.get_color()), handle.get_marker()) for handle in ax.get_legend().legend_handles}
    assert len(looks) == 12


def test_more_groups_than_colours_differ_in_their_markers_on_a_front() -> None:
    table = pd.DataFrame(
        {"weight": 1, "accuracy": np.arange(8.0), "score": np.arange(8.0), "teacher": list("abcdefgh")}
    )
    ax = plot.pareto(table, "weight", axes(), by="teacher")
    fronts = [line for line in ax.lines if len(line.get_label()) == 1]
    assert len({(to_hex(line.get_color()), line.get_marker()) for line in fronts}) == 8


# Marks


def test_a_cluster_of_one_time_is_visible() -> None:
    table = pd.DataFrame({"model": "m", "time": [0, 0.1, 0.2, 0.4], "score": [0, 0.2, 0.1, 0]})
    found = {"m": pd.DataFrame({"start": [0.2], "end": [0.2], "p": [0.01]})}
    ax = plot.time_course(table, axes(), clusters=found)
    (bar,) = (line for line in ax.lines if line.get_label() == "_clusters")
    assert bar.get_xdata() == pytest.approx([0.15, 0.3])

    def pixels(show: bool) -> np.ndarray:
        bar.set_visible(show)
        canvas = FigureCanvasAgg(ax.figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba()).astype(int)

    assert (pixels(True) != pixels(False)).any()


def test_an_outline_is_around_whole_cells_at_the_first_and_last_time() -> None:
    table = pd.DataFrame({"model": "m", "time": [0, 0.1, 0.2], "score": [0, 0.2, 0.1]})
    ax = plot.time_by_model(table, axes(), clusters={"m": pd.DataFrame({"start": [0.0], "end": [0.2], "p": [0.01]})})
    (outline,) = (line for line in ax.lines if line.get_label() == "_clusters")
    assert (min(outline.get_xdata()), max(outline.get_xdata())) == pytest.approx((-0.05, 0.25))


def test_a_star_at_a_name_is_explained() -> None:
    assert not plot.model_bars(pd.DataFrame([BARS | {"ceiling_lower": np.nan}]), ax=axes()).get_legend()
    ax = plot.model_bars(pd.DataFrame([BARS | {"p_corrected": 0.01}]), ax=axes())
    assert rows(ax) == ["a *"]
    assert any(text.startswith("* at a name") for text in legend(ax))


def test_single_subjects_are_drawn_for_layers_with_numbers() -> None:
    table = pd.DataFrame([BARS | {"layer": layer} for layer in (1, 2)])
    scores = pd.DataFrame([BARS | {"layer": layer, "subject": who} for layer in (1, 2) for who in "xy"])
    ax = plot.model_bars(table, ax=axes(), scores=scores)
    (points,) = (line for line in ax.lines if line.get_label() == "single subjects")
    assert len(points.get_xdata()) == 4


def test_the_ceiling_is_that_of_the_first_row_that_has_one() -> None:
    table = pd.DataFrame([BARS | {"ceiling_lower": np.nan, "ceiling_upper": np.nan}, BARS | {"model": "b"}])
    (band,) = (patch for patch in plot.model_bars(table, ax=axes()).patches if patch.get_gid() == "ceiling")
    assert band.get_x() == pytest.approx(0.4)


def test_similarities_below_minus_one_keep_their_digits() -> None:
    table = pd.DataFrame({"a": ["x", "x", "y"], "b": ["y", "z", "z"], "comparator": "bures_metric"})
    ax = plot.rdm_of_rdms(table.assign(similarity=[-10.25, -0.25, 0.5]), axes())
    assert {text.get_text() for text in ax.texts} == {"−10.25", "−0.25", "0.50"}


@pytest.mark.parametrize(
    ("n", "value", "fits"),
    [(4, 0.25, True), (12, 0.25, True), (9, -0.25, True), (12, -0.25, False), (9, -10.25, False)],
)
def test_similarities_are_written_only_where_they_fit(n: int, value: float, fits: bool) -> None:
    pairs = [(f"model {i}", f"model {k}") for i in range(n) for k in range(i)]
    table = pd.DataFrame(pairs, columns=["a", "b"]).assign(comparator="corr", similarity=value)
    ax = plot.rdm_of_rdms(table)
    renderer = ax.figure.canvas.get_renderer()
    widths = [text.get_window_extent(renderer).width for text in ax.texts]
    cell = ax.get_window_extent(renderer).width / n
    assert all(width < cell for width in widths)
    assert bool(widths) == fits


def test_a_comparison_with_two_similarities_of_the_same_names_is_refused() -> None:
    table = pd.DataFrame({"a": ["x", "x", "y"], "b": "IT", "comparator": "corr", "similarity": [0.1, 0.5, 0.2]})
    with pytest.raises(BrainrdlError, match="several similarities of 'x' and 'IT'"):
        plot.comparison(table, ax=axes())


def test_a_film_with_the_history_of_several_runs_is_refused(tmp_path: Path) -> None:
    student = from_array(RANDOM.random((2, 6)), list("abcd"), descriptors={"step": [0, 10]})
    history = pd.DataFrame({"fold": [0, 0, 1, 1], "step": [0, 10] * 2, "validation_similarity": [0.1, 0.2, 0.5, 0.6]})
    with pytest.raises(BrainrdlError, match="several runs"):
        plot.rdm_film(student, from_array(RANDOM.random(6), list("abcd")), tmp_path / "a.gif", history=history)


# Scales


def test_positive_values_have_the_same_colour_in_all_figures() -> None:
    grid = pd.DataFrame({"a": ["x", "x", "y", "y"], "b": ["z", "w"] * 2, "comparator": "corr"})
    heat = plot.comparison(grid.assign(similarity=[1.0, -1.0, 0.5, 0.2]), ax=axes()).images[0]
    times = plot.time_by_time([0.0, 0.1], [[1.0, -1.0], [0.5, 0.2]], axes()).collections[0]
    image = nibabel.Nifti1Image(np.array([1.0, -1.0, 0.5, 0.2]).reshape(2, 2, 1), np.eye(4))
    brain = plot.brain_slices(image, figure=Figure()).axes[0].images[0]
    colours = {to_hex(one.cmap(one.norm(1.0))) for one in (heat, times, brain)}
    assert len(colours) == 1


def test_labels_name_the_measure() -> None:
    course = pd.DataFrame({"model": "m", "time": [0, 0.1], "score": [0, 0.2]})
    ax = plot.time_course(SimpleNamespace(summary=course, comparator="spearman"), axes())
    assert ax.get_ylabel().replace("\n", " ") == "Spearman correlation"
    assert plot.time_course(course, axes()).get_ylabel().replace("\n", " ") == "RDM similarity"
    table = pd.DataFrame({"condition": ["a"], "change": [0.1], "agreement_change": [0.1], "comparator": "spearman"})
    assert plot.condition_influence(table, axes()).get_xlabel().startswith("change of the Spearman correlation")
    scores = pd.DataFrame([BARS | {"subject": who} for who in "xy"])
    assert plot.subject_scores(scores, ax=axes()).get_ylabel() == "subject"


class Group(SimpleNamespace):
    """A group map of 8 x 8 x 6 voxels, of which four have a small p."""

    def image(self, model: str, quantity: str = "t") -> Any:
        return nibabel.Nifti1Image(self.values[quantity], np.diag([3.0, 3, 3, 1]))


def group() -> Group:
    p = np.full((8, 8, 6), 0.9)
    p[3:5, 3:5, 3] = 0.001
    return Group(models=("m",), settings={}, values={"t": RANDOM.normal(size=p.shape), "p_fwe": p})


def test_p_values_are_drawn_as_minus_log10_with_their_label() -> None:
    figure = plot.brain_slices(group(), quantity="p_fwe", figure=Figure())
    values = [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]
    assert max(value.max() for value in values) == pytest.approx(3)
    assert min(value.min() for value in values) == pytest.approx(-np.log10(0.9))
    assert figure.axes[-1].get_ylabel().startswith("−log10 p_fwe")


def surface(**values: Any) -> Any:
    near = SimpleNamespace(
        kind="surface", times=None, space={"n_vertices": 10}, centres=pd.DataFrame({"vertex": range(10)})
    )
    return SimpleNamespace(models=("m",), settings={}, neighbourhoods=near, **values)


def test_vertices_that_are_not_significant_are_left_out_of_maps_of_a_surface() -> None:
    one, mask = surface(values=np.arange(10.0)[:, None]), np.arange(10) < 3
    _, values, _ = cortex_maps._vertices(one, None, None, mask)
    assert np.isfinite(values).tolist() == mask.tolist()
    with pytest.raises(BrainrdlError, match="each of the 10 vertices"):
        cortex_maps._vertices(one, None, None, mask[:4])
    p = surface(values={"t": np.arange(10.0)[:, None], "p_fwe": np.full((10, 1), 0.01)})
    assert cortex_maps._vertices(p, None, "p_fwe", None)[1] == pytest.approx(np.full(10, 2.0))


@pytest.mark.slow  # nilearn
def test_a_map_of_ones_is_one_at_its_edges_on_the_surface() -> None:
    datasets = pytest.importorskip("nilearn.datasets")
    mask = datasets.load_mni152_brain_mask(resolution=8)
    image = nibabel.Nifti1Image(np.where(np.asarray(mask.dataobj) > 0, 1.0, np.nan), mask.affine)
    parts, _ = cortex_maps._surfaces(image, None, None, None, None, None)
    assert all(np.nanmin(values) == pytest.approx(1, abs=1e-5) for _, values, *_ in parts)


def test_slices_can_be_drawn_if_only_voxels_without_values_are_significant() -> None:
    values, inside = RANDOM.normal(size=(6, 6, 6)), np.zeros((6, 6, 6), dtype=bool)
    values[0], inside[0] = np.nan, True
    assert plot.brain_slices(nibabel.Nifti1Image(values, np.eye(4)), significant=inside, figure=Figure()).axes
