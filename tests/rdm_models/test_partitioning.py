"""Variance partitioning: parts equal differences of explained variances, and add up to the total."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from brainrdl._core.errors import BrainrdlError
from brainrdl.dissimilarity.pairs import pair_indices
from brainrdl.rdm_models import partition_variance, regress
from brainrdl.rdms import from_array

N, NAMES = 16, [f"image{k}" for k in range(16)]
RANDOM = np.random.default_rng(0)
X = RANDOM.random((3, 120))
X[1] += 0.7 * X[0]
SUBJECTS = X[0] + X[1] + 0.5 * X[2] + 0.7 * RANDOM.random((4, 120))
MODELS = {name: from_array(rdm, NAMES) for name, rdm in zip("abc", X, strict=True)}
DATA = from_array(SUBJECTS, NAMES, descriptors={"subject": list("wxyz")})


def explained(chosen: tuple[int, ...], train: np.ndarray, test: np.ndarray) -> float:
    """Explained variance of the mean RDM in the pairs `test`, with weights from the pairs `train`."""
    x, y = np.concatenate([X[list(chosen)], np.ones((1, 120))]).T, SUBJECTS.mean(0)
    weights = np.linalg.lstsq(x[train], y[train])[0]
    return 1 - ((y - x @ weights)[test] ** 2).sum() / ((y[test] - y[test].mean()) ** 2).sum()


def in_sample(chosen: tuple[int, ...]) -> float:
    return explained(chosen, np.arange(120), np.arange(120))


def test_parts_of_two_and_three_models_equal_their_definitions() -> None:
    two = partition_variance({name: MODELS[name] for name in "ab"}, DATA).set_index("part")["value"]
    a, b, both = in_sample((0,)), in_sample((1,)), in_sample((0, 1))
    assert two.to_dict() == pytest.approx({"a": both - b, "b": both - a, "a & b": a + b - both, "total": both})
    three = partition_variance(MODELS, DATA).set_index("part")["value"]
    assert three["a"] == pytest.approx(in_sample((0, 1, 2)) - in_sample((1, 2)))
    alone = sum(in_sample((k,)) for k in range(3))
    pairs = sum(in_sample(pair) for pair in combinations(range(3), 2))
    assert three["a & b & c"] == pytest.approx(alone - pairs + in_sample((0, 1, 2)))
    assert three.drop("total").sum() == pytest.approx(three["total"])


def test_unique_variance_is_the_squared_semipartial_correlation() -> None:
    found = partition_variance(MODELS, DATA).query("kind == 'unique'")["value"].to_numpy()
    regressed = regress(MODELS, DATA).query("statistic == 'semipartial' and against == 'mean'")["value"].to_numpy()
    np.testing.assert_allclose(found, regressed**2)


def test_held_out_variance_is_that_of_pairs_of_other_conditions() -> None:
    folds = [NAMES[:8], NAMES[8:]]
    i, j = pair_indices(N).numpy()
    first, second = (np.flatnonzero((i < 8) & (j < 8)), np.flatnonzero((i >= 8) & (j >= 8)))
    found = partition_variance(MODELS, DATA, folds=folds).set_index("part")
    expected = (explained((0, 1, 2), second, first) + explained((0, 1, 2), first, second)) / 2
    assert found.loc["total", "value"] == pytest.approx(expected)
    assert found.loc["total", "low"] < expected < found.loc["total", "high"]
    values = found["value"]
    assert values.drop("total").sum() == pytest.approx(values["total"])


def test_folds_are_drawn_by_the_seed() -> None:
    first, again, other = (partition_variance(MODELS, DATA, folds=2, seed=seed)["value"] for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_a_model_of_noise_explains_nothing_in_held_out_pairs() -> None:
    noise = from_array(np.random.default_rng(9).random(120), NAMES)
    table = partition_variance({"a": MODELS["a"], "noise": noise}, DATA, folds=2).set_index("part")
    assert table.loc["noise", "value"] < 0.01
    assert table.loc["a", "low"] > 0.3


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ({"a": MODELS["a"]}, {}, "between 2 to 6 models, got 1"),
        ({"a & b": MODELS["a"], "c": MODELS["c"]}, {}, "contains ' & '"),
        ({"a": MODELS["a"], "again": MODELS["a"]}, {}, "model 'again' is a linear combination"),
        (MODELS, {"folds": 5}, "a fold holds out 4 of 16|a fold holds out 3 of 16"),
        (MODELS, {"folds": 1}, "folds"),
        (MODELS, {"folds": [["image0", "image1", "image2", "nobody"]]}, "'nobody'"),
    ],
)
def test_what_cannot_be_partitioned_is_refused(models, options, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        partition_variance(models, DATA, **options)


def test_the_means_and_scales_of_the_subjects_do_not_widen_an_interval_without_folds() -> None:
    """Explained variance is that of the regression fitted again without each subject."""
    shifted = SUBJECTS + np.array([[0.0], [3.0], [-2.0], [1.0]])
    moved = from_array(shifted, NAMES, descriptors={"subject": list("wxyz")})
    for column in ("value", "low", "high"):
        np.testing.assert_allclose(partition_variance(MODELS, moved)[column], partition_variance(MODELS, DATA)[column])


def test_one_subject_has_an_interval_over_stimuli() -> None:
    one = partition_variance(MODELS, from_array(SUBJECTS[0], NAMES)).set_index("part")
    assert one.loc["total", "low"] < one.loc["total", "value"] < one.loc["total", "high"]


def test_a_regression_needs_more_pairs_than_models() -> None:
    gaps = SUBJECTS.copy()
    gaps[:, 4:] = np.nan
    data = from_array(gaps, NAMES, descriptors={"subject": list("wxyz")})
    with pytest.raises(BrainrdlError, match="needs at least 5 known pairs, got 4"):
        partition_variance(MODELS, data)
