"""Bayes factors: equal to the integral over effect sizes of noncentral t, and to a published value."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from brainrdl import BrainrdlError
from brainrdl.inference import bayes_factor, bayes_factor_of_t


@pytest.mark.parametrize(("t", "n", "scale"), [(3.5, 20, 0.5**0.5), (0.69, 100, 1.0), (-2.0, 8, 1.0), (0.0, 5, 0.707)])
def test_it_is_the_likelihood_of_t_averaged_over_effects_of_the_prior(t: float, n: int, scale: float) -> None:
    middle = t / n**0.5
    likelihood, _ = integrate.quad(
        lambda effect: stats.nct.pdf(t, n - 1, effect * n**0.5) * stats.cauchy.pdf(effect, scale=scale),
        middle - 8, middle + 8, points=[middle], limit=500,
    )  # fmt: skip
    assert bayes_factor_of_t(t, n, scale=scale) == pytest.approx(likelihood / stats.t.pdf(t, n - 1), rel=1e-6)


def test_it_is_the_published_value_of_a_paired_test() -> None:
    assert bayes_factor_of_t(3.5, 20) == pytest.approx(17.185, abs=5e-4)  # documentation of pingouin 0.5


def test_a_column_is_the_bayes_factor_of_its_t_statistic_without_unknown_subjects() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, (12, 2, 2))
    values[3, 0, 1] = np.nan
    found = bayes_factor(values)
    known = np.delete(values[:, 0, 1], 3)
    assert found.shape == (2, 2)
    assert found[0, 1] == pytest.approx(bayes_factor_of_t(stats.ttest_1samp(known, 0).statistic, 11))


def test_equal_values_have_no_bayes_factor() -> None:
    assert np.isnan(bayes_factor([0.3, 0.3, 0.3]))


def test_bayes_factors_refuse() -> None:
    with pytest.raises(BrainrdlError, match="at least 2 subjects"):
        bayes_factor([0.3])
    with pytest.raises(BrainrdlError, match="at least 2 subjects"):
        bayes_factor_of_t(1.0, 1)
    with pytest.raises(BrainrdlError, match="scale must be a finite number above 0"):
        bayes_factor([0.3, 0.2], scale=0)
