"""The data that figures of time and power draw: lines, bands, bars of clusters, outlines."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
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
    assert [container.get_label() for container in ax.containers] == ["24 stimuli", "48 stimuli"]
    line, _, _ = ax.containers[0]
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([8, 16], [0.6, 0.9])


def test_figures_of_time_and_power_refuse() -> None:
    with pytest.raises(BrainrdlError, match="lacks the columns"):
        plot.time_course(SUMMARY.drop(columns="score"))
    with pytest.raises(BrainrdlError, match="model 'middle' is not known"):
        plot.time_course(SUMMARY, models=["middle"])
    with pytest.raises(BrainrdlError, match="clusters 'middle' is not known"):
        plot.time_course(SUMMARY, clusters={"middle": FOUND})
    with pytest.raises(BrainrdlError, match=r"must be \(3, 3\)"):
        plot.time_by_time([0, 1, 2], np.ones((2, 2)))
    with pytest.raises(BrainrdlError, match="power lacks the columns"):
        plot.power(SUMMARY)
