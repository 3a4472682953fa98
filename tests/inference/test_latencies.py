"""Latencies: known courses, jackknife by hand, coverage in a simulation, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from brainrdl import BrainrdlError
from brainrdl.inference import Latency, latency, latency_difference

TIMES = np.linspace(0, 1, 51)


def courses(centre: float, n_subjects: int = 10, noise: float = 0.15, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = centre + 0.03 * rng.normal(size=(n_subjects, 1))
    return np.exp(-((TIMES - centres) ** 2) / 0.02) + noise * rng.normal(size=(n_subjects, 51))


def test_the_onset_is_interpolated_between_samples() -> None:
    course = np.tile([0.0, 0.0, 1.0, 4.0, 2.0], (3, 1))
    assert latency(course, [0, 1, 2, 3, 4])[:2] == pytest.approx((2 + 1 / 3, 0))
    assert latency(course, [0, 1, 2, 3, 4], fraction=0.25).value == pytest.approx(2.0)
    assert latency(course, [0, 1, 2, 3, 4], "peak").value == 3


def test_the_onset_is_the_last_rise_before_the_peak() -> None:
    course = np.tile([0.0, 3.0, 0.0, 4.0], (3, 1))
    assert latency(course, [0, 1, 2, 3]).value == pytest.approx(2.5)
    assert latency(course, [0, 1, 2, 3], window=(0, 1)).value == pytest.approx(0.5)


def test_the_baseline_is_subtracted() -> None:
    course = np.tile([2.0, 2.0, 4.0], (3, 1))
    assert np.isnan(latency(course, [0, 1, 2]).value)
    assert latency(course, [0, 1, 2], baseline=(0, 1)).value == pytest.approx(1.5)


def test_the_error_is_that_of_the_jackknife() -> None:
    scores = courses(0.5)
    without = [latency(np.delete(scores, k, 0), TIMES).value for k in range(10)]
    error = (9 / 10 * np.sum((without - np.mean(without)) ** 2)) ** 0.5
    found = latency(scores, TIMES)
    assert isinstance(found, Latency)
    assert found.error == pytest.approx(error)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 9) * error)
    assert np.isnan(found.p)


def test_a_difference_has_the_errors_of_both() -> None:
    early, late = courses(0.4, seed=1), courses(0.6, seed=2)
    found = latency_difference(early, late, TIMES)
    assert found.value == pytest.approx(latency(early, TIMES).value - latency(late, TIMES).value)
    assert found.p < 0.01
    assert latency_difference(early, early, TIMES)[:2] == (0, 0)


def test_equal_jackknife_latencies_have_no_interval() -> None:
    early, late = (np.exp(-((TIMES - centre) ** 2) / 0.02) * np.ones((5, 1)) for centre in (0.4, 0.6))
    found = latency_difference(early, late, TIMES, "peak")
    assert (round(found.value, 12), found.error) == (-0.2, 0.0)
    assert np.isnan([found.low, found.high, found.p]).all()


def test_intervals_of_onsets_cover_the_truth() -> None:
    truth = latency(courses(0.5, 4000, seed=99), TIMES).value
    found = [latency(courses(0.5, 12, noise=0.05, seed=seed), TIMES) for seed in range(300)]
    assert 0.91 < np.mean([each.low <= truth <= each.high for each in found]) <= 0.99


@pytest.mark.parametrize(
    ("scores", "times", "options", "said"),
    [
        (np.ones((2, 3)), [0, 1, 2], {}, "at least 3 subjects"),
        (np.ones((3, 3)), [0, 1], {}, "shape"),
        (np.ones((3, 3)), [0, 2, 1], {}, "must increase"),
        (np.full((3, 3), np.nan), [0, 1, 2], {}, "not finite"),
        (np.ones((3, 3)), [0, 1, 2], {"kind": "offset"}, "kind 'offset'"),
        (np.ones((3, 3)), [0, 1, 2], {"fraction": 1.0}, "below 1"),
        (np.ones((3, 3)), [0, 1, 2], {"window": (5, 6)}, "contains none of the times"),
    ],
)
def test_latencies_refuse(scores: np.ndarray, times: list[float], options: dict, said: str) -> None:
    with pytest.raises(BrainrdlError, match=said):
        latency(scores, times, **options)


def test_courses_of_other_subjects_are_refused() -> None:
    with pytest.raises(BrainrdlError, match="same subjects"):
        latency_difference(np.ones((3, 3)), np.ones((4, 3)), [0, 1, 2])
