"""The demo: digits, simulated subjects, and a network whose RDMs approach theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from brainrdl import demo
from brainrdl.demo import simulated_experiment
from brainrdl.evaluation.held_out import Evaluation


def test_digits_shown_and_digits_trained_on_are_different_images() -> None:
    shown, others = demo.digits(per_digit=3)
    assert len(shown) == 30
    assert not set(shown.digests().values()) & set(others.digests().values())


def test_digits_are_named_and_labelled_by_what_they_show() -> None:
    shown, others = demo.digits(per_digit=2)
    assert shown.names[:3] == ("0_00", "0_01", "1_00")
    for part in (shown, others):
        assert part.labels == {name: name[0] for name in part.names}
    images = shown.images()
    assert images.shape == (20, 1, 8, 8)
    assert 0 <= float(images.min()) < float(images.max()) <= 1


@pytest.mark.slow
def test_the_hidden_network_knows_digits() -> None:
    shown, others = demo.digits()
    patterns = simulated_experiment._hidden_patterns(shown, others)
    digit = torch.tensor([int(name[0]) for name in shown.names])
    means = torch.stack([patterns[digit == k].mean(0) for k in range(10)])
    nearest = torch.cdist(patterns, means).argmin(1)
    assert float((nearest == digit).float().mean()) > 0.8


@pytest.mark.slow  # the example of `demo.run` is the quick one
def test_a_tiny_run_says_that_its_subjects_are_simulated_and_comes_back_from_disk(tmp_path: Path) -> None:
    options = {"folds": 2, "steps": 2, "controls": ["unfitted", "category"]}
    result = demo.run(tmp_path / "run", seeds=(0,), progress=False, **options)
    assert result.settings["simulated"] is True
    assert set(result.summary["student"]) == {"fitted", "unfitted", "category", "category lookup"}
    assert set(result.summary["n_stimuli"]) == {100}
    assert Evaluation.load(tmp_path / "run").settings["simulated"] is True


@pytest.mark.slow
def test_the_demo_finds_what_is_there() -> None:
    result = demo.run(progress=False)
    rows = result.summary.query("comparator == 'spearman' and against == 'mean'").set_index("student")
    scores = rows["score"]
    assert scores["fitted"] > scores["unfitted"] + 0.1
    assert scores["fitted"] > scores["permuted"] + 0.1
    assert rows.loc["fitted", "gain_low"] > 0
    assert abs(scores["permuted"]) < scores["unfitted"] + 0.1
    assert scores["fitted"] < rows.loc["fitted", "ceiling_lower"]
