"""The data that figures of time and power draw: lines, bands, bars of clusters, outlines."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from brainrdl import BrainrdlError, plot

SUMMARY = pd.DataFrame(
    {
        "model": ["early"] * 3 + ["late"] * 3,
        "time": [0.0, 0.1, 0.2] * 2,
        "score": [0.0, 0.3, 0.1, 0.0, 0.1, 0.4],
        "low": [-0.1, 0.2, 0.0, -0.1, 0.0, 0.3],
        "high": [0.1, 0.4, 0.2, 0.1, 0.2, 0.5],
        "ceiling_low": [0.4, 0.5, 0.5] * 2,
        "ceiling_high": [0.6, 0.7, 0.7] * 2,
    }
)
FOUND = pd.DataFrame({"start": [0.1, 0.0], "end": [0.2, 0.0], "p": [0.01, 0.4]})


def test_scores_are_lines_and_only_significant_clusters_are_bars_below_them() -> None:
    test = SimpleNamespace(clusters=FOUND)
    ax = plot.time_course(SUMMARY, Figure().subplots(), clusters={"late": test}, label="corr")
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["late"].get_ydata().tolist() == [0.0, 0.1, 0.4]
    bars = [line for line in ax.lines if line.get_label() == "_clusters"]
    assert [bar.get_xdata().tolist() for bar in bars] == [[0.1, 0.2]]
    assert bars[0].get_ydata()[0] < -0.1
    assert bars[0].get_color() == lines["late"].get_color() != lines["early"].get_color()
    assert ax.get_ylim()[0] < bars[0].get_ydata()[0]
    assert len([band for band in ax.collections if isinstance(band, PolyCollection)]) == 3
    assert ax.get_ylabel() == "corr"


def test_chosen_models_without_intervals_are_drawn() -> None:
    table = SUMMARY.assign(low=np.nan, high=np.nan).drop(columns=["ceiling_low", "ceiling_high"])
    ax = plot.time_course(SimpleNamespace(summary=table), Figure().subplots(), models=["late"])
    assert [line.get_label() for line in ax.lines if not line.get_label().startswith("_")] == ["late"]
    assert not ax.collections


def test_an_image_of_times_has_its_values_and_an_outline() -> None:
    values = np.array([[0.5, 0.1], [-0.2, 0.4]])
    ax = plot.time_by_time([0.0, 0.1], values, Figure().subplots(), significant=values > 0.3)
    assert ax.collections[0].get_array().reshape(2, 2).tolist() == values.tolist()
    assert ax.collections[0].get_clim() == (-0.5, 0.5)
    assert len(ax.collections) == 2


def test_power_is_a_line_for_each_number_of_stimuli() -> None:
    table = pd.DataFrame({
        "n_stimuli": [24, 24, 48], "n_subjects": [16, 8, 8], "power": [0.9, 0.6, 0.7], "power_error": 0.1
    })  # fmt: skip
    ax = plot.power(table, Figure().subplots())
    line, other, _ = ax.lines
    assert (line.get_label(), other.get_label()) == ("24 stimuli", "48 stimuli")
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([8, 16], [0.6, 0.9])
    errors = [segment.tolist() for segment in ax.collections[0].get_segments()]
    np.testing.assert_allclose(errors, [[[8, 0.5], [8, 0.7]], [[16, 0.8], [16, 1.0]]])


def test_lines_differ_in_grey_and_numbers_of_subjects_are_whole() -> None:
    groups = [str(k) for k in range(12)]
    table = pd.DataFrame({"n": [1, 3] * 12, "group": sorted(groups * 2), "score": 0.3, "low": 0.2, "high": 0.4})
    ax = plot.learning_curve(table, "n", "group", Figure().subplots())
    markers = [line.get_marker() for line in ax.lines]
    assert all(len(set(markers[k : k + 8])) == 8 for k in (0, 4))
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines}) == 12
    powers = pd.DataFrame({"n_stimuli": [24, 24, 48], "n_subjects": [2, 3, 2], "power": 0.5, "power_error": 0.1})
    other = plot.power(powers, Figure().subplots())
    assert len({line.get_marker() for line in other.lines[:2]}) == 2
    for axes in (ax, other):
        assert (axes.get_xticks() % 1 == 0).all()


ONSETS = pd.DataFrame(
    {
        "model": ["early", "late", "early"],
        "other": [None, None, "late"],
        "latency": [0.05, np.nan, -0.1],
        "low": [0.02, np.nan, -0.2],
        "high": [0.08, np.nan, 0.0],
    }
)


def test_onsets_are_diamonds_on_their_lines_and_differences_are_not_drawn() -> None:
    ax = plot.time_course(SUMMARY, Figure().subplots(), onsets=ONSETS)
    marks = [line.get_xydata().tolist() for line in ax.lines if line.get_label() == "_onset"]
    assert marks == [[[0.05, pytest.approx(0.15)]]]
    interval = next(one for one in ax.collections if isinstance(one, LineCollection))
    assert interval.get_segments()[0][:, 0].tolist() == [0.02, 0.08]
    assert "onset with 95% interval" in ax.get_legend_handles_labels()[1]


def test_a_map_has_a_row_per_model_with_outlines_of_clusters_and_onsets() -> None:
    ax = plot.time_by_model(SUMMARY, Figure().subplots(), clusters={"late": FOUND}, onsets=ONSETS)
    assert ax.collections[0].get_array().tolist() == [[0.0, 0.3, 0.1], [0.0, 0.1, 0.4]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["early", "late"]
    assert ax.get_ylim() == (1.5, -0.5)
    outline = next(line for line in ax.lines if line.get_label() == "_clusters")
    assert (outline.get_xdata().min(), outline.get_xdata().max()) == pytest.approx((0.05, 0.25))
    assert (outline.get_ydata().min(), outline.get_ydata().max()) == pytest.approx((0.54, 1.46))
    assert [line.get_xydata().tolist() for line in ax.lines if line.get_label() == "_onset"] == [[[0.05, 0]]]


def test_a_map_of_chosen_models_has_gaps_where_scores_are_missing() -> None:
    table = SUMMARY.assign(score=[0.0, 0.3, 0.1, np.nan, 0.1, 0.4])
    image = plot.time_by_model(table, Figure().subplots(), models=["late"]).collections[0].get_array()
    assert np.ma.getmaskarray(image).tolist() == [[True, False, False]]
    assert plot.time_by_model(table, Figure().subplots()).collections[0].get_clim() == (-0.4, 0.4)


def test_a_map_of_models_with_other_times_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="the models have different times"):
        plot.time_by_model(SUMMARY.assign(time=[0.0, 0.1, 0.2, 0.0, 0.1, 0.3]))
    with pytest.raises(BrainrdlError, match=r"table of onsets lacks the columns \['latency'\]"):
        plot.time_by_model(SUMMARY, Figure().subplots(), onsets=ONSETS.drop(columns="latency"))


def test_a_learning_curve_is_a_line_for_each_student_with_its_intervals() -> None:
    table = pd.DataFrame({
        "n_stimuli": [48, 24, 24], "student": ["map", "map", "category"], "score": [0.5, 0.3, 0.4],
        "low": [0.4, 0.1, 0.3], "high": [0.6, 0.5, 0.5], "ceiling": 0.8,
    })  # fmt: skip
    ax = plot.learning_curve(table, "n_stimuli", ax=Figure().subplots())
    first, second, ceiling = ax.lines
    assert first.get_ydata().tolist() == [0.3, 0.5]  # in the order of n_stimuli
    assert second.get_ydata().tolist() == [0.4]
    assert ceiling.get_ydata() == [0.8, 0.8]
    intervals = [segment[:, 1].tolist() for segment in ax.collections[0].get_segments()]
    assert intervals == [[0.1, 0.5], [0.4, 0.6]]
    assert abs(first.get_xdata()[0] - second.get_xdata()[0]) > 0  # intervals do not cover each other


def test_a_learning_curve_has_a_line_for_every_group_even_if_names_print_alike() -> None:
    table = pd.DataFrame({"n": 1, "by": [1, "1", None], "score": [0.1, 0.2, 0.3], "low": 0.0, "high": 0.5})
    lines = plot.learning_curve(table, "n", "by", ax=Figure().subplots()).lines
    assert sorted(line.get_ydata()[0] for line in lines) == [0.1, 0.2, 0.3]


def test_a_ceiling_that_differs_between_points_is_not_drawn() -> None:
    table = pd.DataFrame({"n": [1, 2], "student": "map", "score": 0.3, "low": 0.1, "high": 0.5, "ceiling": [0.7, 0.8]})
    assert len(plot.learning_curve(table, "n", ax=Figure().subplots()).lines) == 1


def test_figures_of_time_and_power_refuse() -> None:
    with pytest.raises(BrainrdlError, match="lacks the columns"):
        plot.time_course(SUMMARY.drop(columns="score"))
    with pytest.raises(BrainrdlError, match="model 'middle' is not known"):
        plot.time_course(SUMMARY, models=["middle"])
    with pytest.raises(BrainrdlError, match="clusters 'middle' is not known"):
        plot.time_course(SUMMARY, clusters={"middle": FOUND})
    with pytest.raises(BrainrdlError, match=r"must be \(3, 3\)"):
        plot.time_by_time([0, 1, 2], np.ones((2, 2)))
    with pytest.raises(BrainrdlError, match="table lacks the columns"):
        plot.learning_curve(SUMMARY, "n_stimuli")
    with pytest.raises(BrainrdlError, match="power lacks the columns"):
        plot.power(SUMMARY)
