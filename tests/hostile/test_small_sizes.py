"""The smallest data give a right number, or an error that says what is missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rsatoolbox.data import Dataset
from scipy import stats

import brainrdl
from brainrdl import BrainrdlError, rdms
from brainrdl.evaluation import HeldOut
from brainrdl.inference import mantel_test, score_movie
from brainrdl.rdm_models import regress

NAMES = [f"c{k}" for k in range(16)]


def test_a_regression_of_one_rdm_has_the_weights_of_least_squares() -> None:
    random = np.random.default_rng(0)
    models, data = random.random((2, 120)), random.random(120)
    data += models[0]
    made = {"one": rdms.from_array(models[0], NAMES), "two": rdms.from_array(models[1], NAMES)}
    table = regress(made, rdms.from_array(data, NAMES)).query("statistic == 'weight' and against == 'mean'")
    expected = np.linalg.lstsq(stats.zscore(models, axis=1).T, stats.zscore(data), rcond=None)[0]
    np.testing.assert_allclose(table["value"], expected, rtol=1e-9)
    assert (table["low"] < table["value"]).all()


def test_a_regression_without_residual_degrees_of_freedom_is_refused() -> None:
    models, data = np.random.default_rng(0).random((2, 3)), [0.1, 0.5, 0.2]
    made = {"one": rdms.from_array(models[0], list("abc")), "two": rdms.from_array(models[1], list("abc"))}
    with pytest.raises(BrainrdlError, match="on 2 models needs at least 4 known pairs, got 3"):
        regress(made, rdms.from_array(data, list("abc")))


def test_rdms_without_common_pairs_have_no_similarity() -> None:
    pairs = np.full((2, 28), np.nan)
    first, second = np.triu_indices(8, 1)
    pairs[0, second < 4], pairs[1, first >= 4] = np.random.default_rng(0).random((2, 6))
    both = rdms.from_array(pairs, list("abcdefgh"))
    table = brainrdl.compare(both, both, ["corr"])
    assert table["n_pairs"].tolist() == [6, 0, 0, 6]
    np.testing.assert_allclose(table["similarity"], [1, np.nan, np.nan, 1])


def test_a_permutation_test_with_too_few_known_pairs_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"undefined in \d+ of 24 permutations"):
        mantel_test([0, 0, 1, 1, 1, 1.0], [1, 2, 3, np.nan, np.nan, np.nan])


def test_three_conditions_have_no_intervals_over_time() -> None:
    movie = rdms.from_array([[1.0, 2, 4]], list("abc"), descriptors={"time": [0.1], "subject": ["s"]})
    model = rdms.from_array([3.0, 5, 9], list("abc"))
    with pytest.raises(BrainrdlError, match="intervals need at least 4 conditions, got 3"):
        score_movie(model, movie, "spearman")
    assert score_movie(model, movie, "spearman", intervals=False).scores.ravel() == pytest.approx(1)


def test_a_held_out_pair_is_not_an_rdm_to_score() -> None:
    with pytest.raises(BrainrdlError, match="2 conditions were held out together in fold 1"):
        HeldOut(student="model", role="student", target="IT", names=("a", "b"), pairs=torch.ones(1), fold=1)


def test_shrinkage_of_one_channel_is_refused_with_its_reason() -> None:
    data = Dataset(np.random.default_rng(0).normal(size=(6, 1)), obs_descriptors={"stimulus": list("abc") * 2})
    with pytest.raises(BrainrdlError, match="there is one channel; use 'diag'"):
        brainrdl.calc_rdm(data, "mahalanobis", noise="shrinkage_eye")
