"""Figures by subject and by fold draw the means of the right rows, with the ceilings that belong to them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from brainrdl import BrainrdlError, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORES = pd.DataFrame(
    [
        {"student": student, "layer": "_conv", "target": "IT", "comparator": "corr", "against": against, "fold": fold,
         "seed": 0, "subject": subject, "score": base + fold / 10 + bonus, "ceiling_lower": 0.6 + fold / 10,
         "ceiling_upper": 0.8 + fold / 10 if against == "subjects" else 0.6 + fold / 10}
        for student, base in (("fitted", 0.2), ("unfitted", 0.1))
        for fold in (0, 1)
        for against, subject, bonus in (("mean", None, 0.3), ("subjects", "s1", 0.0), ("subjects", "s2", 0.04))
    ]
)  # fmt: skip


def points(ax: Axes) -> dict[str, list[float]]:
    return {
        str(line.get_label()): np.round(line.get_xdata(), 3).tolist()
        for line in ax.lines
        if not str(line.get_label()).startswith("_")
    }


def names(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def bands(ax: Axes) -> list[list[float]]:
    found = [band.get_paths()[0].get_extents() for band in ax.collections if isinstance(band, PolyCollection)]
    return [np.round([box.x0, box.x1], 3).tolist() for box in found]


def test_scores_of_subjects_are_means_over_folds_with_their_mean_in_the_last_row() -> None:
    ax = plot.subject_scores(SCORES, ax=Figure().subplots())
    assert names(ax) == ["s1", "s2", "mean"]
    assert points(ax) == {"fitted": [0.25, 0.29, 0.27], "unfitted": [0.15, 0.19, 0.17]}
    assert bands(ax) == [[0.65, 0.85]] * 3


def test_scores_of_folds_are_means_over_subjects_with_the_ceiling_of_each_fold() -> None:
    ax = plot.fold_scores(SCORES, "corr", "subjects", Figure().subplots())
    assert names(ax) == ["fold 0", "fold 1", "mean"]
    assert points(ax) == {"fitted": [0.22, 0.32, 0.27], "unfitted": [0.12, 0.22, 0.17]}
    assert bands(ax) == [[0.6, 0.8], [0.7, 0.9], [0.65, 0.85]]


def test_the_ceiling_for_the_mean_rdm_is_a_line() -> None:
    ax = plot.fold_scores(SCORES, against="mean", ax=Figure().subplots())
    assert points(ax)["fitted"] == [0.5, 0.6, 0.55]
    assert not bands(ax)
    lines = [one.get_segments()[0][0][0] for one in ax.collections if isinstance(one, LineCollection)]
    assert lines == pytest.approx([0.6, 0.7, 0.65])


def test_a_plain_rsa_has_the_ceiling_of_its_summary() -> None:
    scores = SCORES[SCORES["against"] == "subjects"].rename(columns={"student": "model"}).drop(columns=["against"])
    scores = scores.drop(columns=["ceiling_lower", "ceiling_upper"])
    summary = pd.DataFrame(
        {"model": "fitted", "layer": "_conv", "target": ["IT", "IT", "EVC"], "comparator": "corr",
         "against": ["subjects", "mean", "subjects"], "score": 0.1, "ceiling_lower": [0.4, 0.7, 0.1],
         "ceiling_upper": [0.5, 0.7, 0.2]}
    )  # fmt: skip
    ax = plot.subject_scores(SimpleNamespace(scores=scores, summary=summary), ax=Figure().subplots())
    assert bands(ax) == [[0.4, 0.5]] * 3
    assert not bands(plot.subject_scores(scores, ax=Figure().subplots()))


def test_missing_scores_and_ceilings_leave_gaps() -> None:
    table = SCORES.assign(ceiling_lower=np.nan, ceiling_upper=np.nan)
    table.loc[(table["student"] == "unfitted") & (table["subject"] == "s1"), "score"] = np.nan
    ax = plot.subject_scores(table, ax=Figure().subplots())
    np.testing.assert_allclose(points(ax)["unfitted"], [np.nan, 0.19, 0.19])
    assert not bands(ax)
    table["score"] = np.nan
    np.testing.assert_array_equal(points(plot.fold_scores(table, ax=Figure().subplots()))["fitted"], [np.nan] * 3)


def test_layers_whose_names_begin_with_an_underscore_are_in_the_legend() -> None:
    one = SCORES[SCORES["student"] == "fitted"]
    ax = plot.subject_scores(one, ax=Figure().subplots())
    assert [text.get_text().strip() for text in ax.get_legend().get_texts()] == [
        "noise ceiling (leave one subject out)", "_conv",
    ]  # fmt: skip


def test_left_out_subjects_have_rows_of_their_own() -> None:
    table = pd.concat([SCORES.assign(left_out=name) for name in ("s8", "s9")])
    ax = plot.fold_scores(table, against="mean", ax=Figure().subplots())
    assert names(ax) == ["fold 0, without s8", "fold 1, without s8", "fold 0, without s9", "fold 1, without s9", "mean"]


def test_models_can_be_chosen_and_too_many_are_refused() -> None:
    ax = plot.fold_scores(SCORES, ax=Figure().subplots(), models=["unfitted"])
    assert list(points(ax)) == [" _conv"]
    many = pd.concat([SCORES.assign(student=f"net {k}") for k in range(13)])
    with pytest.raises(BrainrdlError, match=r"13 models and layers .* at most 12; choose some with models="):
        plot.fold_scores(many)
    with pytest.raises(BrainrdlError, match="models 'unfited' is not known; nearest: 'unfitted'"):
        plot.subject_scores(SCORES, models=["unfited"])
    with pytest.raises(BrainrdlError, match="against 'subjects' is not known"):
        plot.subject_scores(SCORES[SCORES["against"] == "mean"])
