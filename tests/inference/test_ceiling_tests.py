"""Tests against the noise ceiling: the value by its definition, coverage in a simulation, refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from brainrdl import BrainrdlError
from brainrdl.inference import CeilingTest, ceiling_test, ceiling_tests, noise_ceiling
from brainrdl.similarity import SIMILARITIES

sys.path.insert(0, str(Path(__file__).parents[1] / "validity"))
import population


@pytest.mark.parametrize("comparator", ["corr", "cosine", "spearman", "corr_cov"])
def test_the_value_is_the_score_minus_the_lower_bound(comparator: str) -> None:
    sample = population.draw(np.random.default_rng(0), 12, 5)
    models, rdms = torch.tensor(np.stack([sample.better, sample.worse])), torch.tensor(sample.subjects).contiguous()
    found = ceiling_test(models, rdms, comparator)
    scores = SIMILARITIES[comparator](models[:, None], rdms).mean(1)
    for test, score in zip(found, scores, strict=True):
        assert isinstance(test, CeilingTest)
        assert test.value == pytest.approx(float(score) - noise_ceiling(rdms, comparator)[0])
        assert test.low < test.value < test.high


def test_closed_forms_and_unknown_pairs_give_the_same_test() -> None:
    sample = population.draw(np.random.default_rng(0), 12, 5)
    rdms = torch.tensor(sample.subjects).contiguous()
    whole = ceiling_test(sample.worse[None], rdms, "spearman")[0]
    rdms[2, 5] = torch.nan  # from now on, influences are differentiated automatically, and the interval is wider
    nearly = ceiling_test(sample.worse[None], rdms, "spearman")[0]
    assert nearly.value == pytest.approx(whole.value, abs=0.02)
    assert 1 <= (nearly.high - nearly.low) / (whole.high - whole.low) < 1.3
    lower = noise_ceiling(rdms, "spearman")[0]
    score = SIMILARITIES["spearman"](torch.tensor(sample.worse), rdms).mean()
    assert nearly.value == pytest.approx(float(score) - lower)


@pytest.mark.parametrize("n_subjects", [3, 5])
@pytest.mark.parametrize("comparator", ["corr", "cosine", "spearman", "tau-a"])
def test_the_bound_without_a_subject_is_that_of_the_others(comparator: str, n_subjects: int) -> None:
    rdms = torch.tensor(population.draw(np.random.default_rng(0), 8, n_subjects).subjects).contiguous()
    for given in (rdms, rdms.round(decimals=1), rdms.masked_fill(torch.eye(*rdms.shape).bool(), torch.nan)):
        found = ceiling_tests._Bounds.of(given, comparator).values
        for s, bound in enumerate(found.tolist()):
            assert bound == pytest.approx(noise_ceiling(torch.cat([given[:s], given[s + 1 :]]), comparator)[0])


@pytest.mark.slow
def test_intervals_cover_the_mean_difference() -> None:
    found = [
        ceiling_test(sample.worse[None], sample.subjects)[0]
        for sample in (population.draw(np.random.default_rng(seed), 20, 6) for seed in range(80))
    ]
    truth = np.mean([test.value for test in found])
    covered = np.mean([test.low <= truth <= test.high for test in found])
    half, spread = np.mean([test.high - test.low for test in found]) / 2, np.std([test.value for test in found])
    assert covered >= 0.87
    assert half / (1.96 * spread) < 1.6


@pytest.mark.parametrize(
    ("models", "rdms", "comparator", "said"),
    [
        (np.ones((1, 6)), np.ones((2, 6)), "corr", "at least 3 subjects"),
        (np.ones((1, 6)), np.ones((3, 10)), "corr", "must have shapes"),
        (np.ones(6), np.ones((3, 6)), "corr", "must have shapes"),
        (np.full((1, 6), np.nan), np.ones((3, 6)), "corr", "finite model RDMs"),
        (np.ones((1, 6)), np.full((3, 6), np.inf), "corr", "finite model RDMs"),
        (np.ones((1, 6)), np.ones((3, 6)), "pearson", "comparator 'pearson'"),
    ],
)
def test_ceiling_tests_refuse(models: np.ndarray, rdms: np.ndarray, comparator: str, said: str) -> None:
    with pytest.raises(BrainrdlError, match=said):
        ceiling_test(models, rdms, comparator)
