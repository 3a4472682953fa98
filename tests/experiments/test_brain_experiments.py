"""Experiments with brains: numbers as text, planned contrasts, simple models; pages are those of the tables."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from brainrdl.evaluation import TeacherRDMs
from docs.experiments import brain_beside_task, learning_curves, power, scoring, transfer
from docs.experiments.brains import as_text, from_text, looked_up
from docs.experiments.scoring import interval, missing, number, planned, wrapped


@pytest.mark.parametrize(
    ("value", "text"), [(0.254, "0.25"), (-0.126, "-0.13"), (-0.001, "0.00"), (1.2, "1.20"), (math.nan, "–")]
)
def test_numbers_have_a_leading_zero_and_0_has_no_sign(value: float, text: str) -> None:
    assert number(value) == text


def test_an_interval_follows_its_number_in_brackets() -> None:
    assert interval({"score": 0.5, "low": 0.25, "high": 0.75}) == "0.50 (0.25 to 0.75)"


def test_missing_fits_are_counted() -> None:
    assert missing(60, 60) == "All 60 fits of the plan were run."
    assert missing(24, 60).startswith("**36 of the 60 fits")


def test_planned_contrasts_have_the_first_student_first_and_their_own_correction() -> None:
    row = {"student": "b", "other": "a", "target": "IT", "difference": 0.2, "low": 0.1, "high": 0.4, "p": 0.01}
    rest = {"student": "a", "other": "c", "target": "IT", "difference": 0.1, "low": -0.1, "high": 0.3, "p": 0.3}
    unplanned = rest | {"other": "d", "p": 1e-6}
    found = planned(pd.DataFrame([row, rest, unplanned]), {("a", "b", "IT"): "x", ("a", "c", "IT"): "x"})
    assert found["other"].tolist() == ["b", "c"]
    assert found.loc[0, ["difference", "low", "high"]].tolist() == [-0.2, -0.4, -0.1]
    assert found["p_corrected"].tolist() == pytest.approx([0.02, 0.3])


def test_paragraphs_and_list_items_are_wrapped_but_not_tables() -> None:
    table = "| a |\n| --- |\n| " + "x " * 100 + "|"
    text = wrapped("word " * 60 + "\n\n" + table + "\n\n- " + "item " * 40)
    assert table in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 120
    assert "\n  item" in text


def test_pairs_survive_as_text() -> None:
    pairs = torch.rand(10, dtype=torch.float64)
    assert from_text(as_text(pairs)) == pytest.approx(pairs, abs=5e-5)


def test_pairs_are_predicted_by_the_mean_of_their_categories() -> None:
    labels = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "a3": "a", "b3": "b", "c": "c"}
    square = np.array([[0, 1, 5, 6], [1, 0, 7, 8], [5, 7, 0, 2], [6, 8, 2, 0.0]])
    pairs = torch.tensor(square[np.triu_indices(4, 1)])[None]
    truth = TeacherRDMs("IT", ("a1", "a2", "b1", "b2"), ("s",), pairs)
    found = looked_up(truth, labels, ["b2", "a1", "a2", "b1"], ["b3", "a3", "c"])
    assert [float(pair) for pair in found] == pytest.approx(
        [6.5, *[float(pairs.mean())] * 2]
    )  # no object of category c was seen


def test_each_control_has_the_weights_of_its_contrasts() -> None:
    rows = {brain_beside_task.label(*key) for key in brain_beside_task.plan()}
    assert all({one, other} <= rows for one, other in brain_beside_task.contrasts())
    assert len(brain_beside_task.contrasts()) == 10


def test_committed_contrasts_are_the_planned_ones() -> None:
    found = scoring.load("transfer_contrasts")
    assert found.groupby("family").size().to_dict() == {
        "minus category": 12, "minus reweighted": 12, "minus unfitted": 12, "own region minus other": 3,
    }  # fmt: skip
    keys = set(found[["student", "other", "target"]].itertuples(index=False, name=None))
    assert keys == set(transfer.contrasts())


@pytest.mark.parametrize("module", [transfer, learning_curves, power], ids=lambda module: module.__name__)
def test_the_committed_page_is_the_one_of_the_tables(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, str] = {}
    monkeypatch.setattr(module, "draw", lambda name, figure: None)
    monkeypatch.setattr(module, "write", lambda name, text: written.update({name: text}))
    module.page()
    (name,) = written
    committed = (scoring.HERE / f"{name}.md").read_text(encoding="utf-8")
    assert committed.split() == written[name].split()


def test_a_learning_curve_has_only_folds_with_all_points() -> None:
    points = [(n, 0) for n in learning_curves.N_STIMULI] + [(99, n) for n in learning_curves.N_SUBJECTS["human IT (4)"]]
    last = "algonauts92"
    rows = [
        {"fitted_to": "human IT (4)", "n_stimuli": n, "n_subjects": k, "seed": 0, "fold": fold, "role": "category",
         "shown": last}
        for fold in (0, 1)
        for n, k in points
    ]  # fmt: skip
    found = learning_curves.complete(pd.DataFrame(rows[:-1]))
    assert set(found["fold"]) == {0}


def test_figures_have_a_panel_for_each_region() -> None:
    summary = scoring.load("transfer_summary")
    drawn = transfer.figure(summary[summary["against"] == "mean"].assign(layer=""))
    assert isinstance(drawn, Figure)
    assert [ax.get_title(loc="left") for ax in drawn.axes] == [f"scored with {name}" for name in transfer.REGIONS]


def test_the_unfitted_network_is_z_scored_with_images_of_the_study_that_it_is_scored_on() -> None:
    kept = {"role": "unfitted", "scored_on": transfer.IT, "seed": 0, "fold": 1}
    rows = pd.DataFrame([
        {"fitted_to": transfer.HUMAN_IT, "pairs": "other background", **kept},
        {"fitted_to": transfer.IT, "pairs": "own", **kept},
        {"fitted_to": transfer.HUMAN_IT, "pairs": "map", **kept, "role": "student"},
    ])  # fmt: skip
    assert transfer.with_own_images(rows)["pairs"].tolist() == ["own", "own", "map"]
