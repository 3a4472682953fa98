"""Comparisons of methods over seeds and over test images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from docs.experiments.results import pack
from docs.experiments.statistics import Contrast, compare, mcnemar, over_images, summary


def rows(errors: dict[str, list[float]], n: int = 400) -> pd.DataFrame:
    """Rows of methods with these error rates; the images that are wrong are drawn at random."""
    random = np.random.default_rng(0)
    made = []
    for method, rates in errors.items():
        for seed, rate in enumerate(rates):
            correct = np.ones(n, dtype=bool)
            correct[random.permutation(n)[: round(rate * n)]] = False
            row = {"setting": "s", "method": method, "seed": seed, "error": rate, "correct": pack(correct)}
            made.append(row)
    return pd.DataFrame(made)


def test_mcnemar_equals_the_exact_binomial_test() -> None:
    first, second = np.zeros(30, dtype=bool), np.zeros(30, dtype=bool)
    first[:9], second[8:11] = True, True  # 8 and 2 images of one method only
    expected = [stats.binomtest(8, 10, alternative=side).pvalue for side in ("less", "greater")]
    assert mcnemar(first, second) == pytest.approx(expected)
    assert mcnemar(first, first) == (1, 1)


def test_tests_over_images_are_valid_for_seeds_that_share_the_images() -> None:
    once = np.random.default_rng(0).random(4000)
    shared = np.array([over_images([(p, 1 - p)] * 5) for p in once])
    assert (shared < 0.05).mean() == pytest.approx(0.025, abs=0.01)


def test_seeds_with_opposite_differences_are_not_evidence() -> None:
    assert over_images([(0.001, 1.0), (1.0, 0.001)]) == 1


def test_differences_are_paired_by_seed() -> None:
    first, second = [0.30, 0.20, 0.25], [0.20, 0.11, 0.14]
    found = compare(rows({"a": first, "b": second}), [Contrast("s", "a", "b")]).iloc[0]
    expected = stats.ttest_rel(first, second)
    assert found["difference"] == pytest.approx(0.1)
    assert found["p_seeds"] == pytest.approx(expected.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected.confidence_interval()))


def test_seeds_that_one_method_lacks_are_left_out_and_counted() -> None:
    table = rows({"a": [0.3, 0.2, 0.25, 0.2], "b": [0.2, 0.12, 0.14, 0.9], "c": [0.2, 0.1]})
    table = table[~((table["method"] == "b") & (table["seed"] == 3))]
    found = compare(table, [Contrast("s", "a", "b"), Contrast("s", "a", "missing"), Contrast("s", "a", "c")])
    assert found["n"].tolist() == [3, 0, 2]
    assert found["p_seeds"].isna().tolist() == [False, True, True]


def test_holm_counts_all_planned_contrasts_also_those_without_rows() -> None:
    table = rows({"a": [0.30, 0.29, 0.33], "b": [0.20, 0.21, 0.22], "c": [0.31, 0.30, 0.30]})
    found = compare(table, [Contrast("s", "a", "b"), Contrast("s", "a", "c"), Contrast("other", "a", "b")])
    assert found["holm_seeds"][0] == pytest.approx(3 * found["p_seeds"].min())
    assert np.isnan(found["holm_seeds"][2])


def test_a_summary_has_the_number_of_seeds() -> None:
    assert summary(rows({"a": [0.3, 0.2], "b": [0.5]}))["n"].tolist() == [2, 1]
