"""Multiple regression of RDMs: statistics equal those of textbooks, intervals are those of `inference`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rsatoolbox.rdm import RDMs

from brainrdl._core.errors import BrainrdlError
from brainrdl.inference import partial
from brainrdl.rdm_models import coefficients, regress
from brainrdl.rdms import from_array, select

N, NAMES = 12, [f"image{k}" for k in range(12)]
RANDOM = np.random.default_rng(0)
X = RANDOM.random((3, 66))
X[1] += 0.7 * X[0]
SUBJECTS = X[0] + 0.5 * X[2] + 0.5 * RANDOM.random((4, 66))
MODELS = {name: from_array(rdm, NAMES) for name, rdm in zip("abc", X, strict=True)}
DATA = from_array(SUBJECTS, NAMES, descriptors={"subject": list("wxyz")})


def z_scored(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)


def ranked(x: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(x, axis=-1)


def textbook(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Weights of z-scores; correlations of residuals, one model after the other."""
    x, y = z_scored(x), z_scored(y)
    found: dict[str, list[float]] = {"weight": np.linalg.lstsq(x.T, y)[0].tolist(), "semipartial": [], "partial": []}
    for k in range(len(x)):
        others = np.delete(x, k, 0).T
        left_of_x = x[k] - others @ np.linalg.lstsq(others, x[k])[0]
        left_of_y = y - others @ np.linalg.lstsq(others, y)[0]
        found["semipartial"].append(np.corrcoef(left_of_x, y)[0, 1])
        found["partial"].append(np.corrcoef(left_of_x, left_of_y)[0, 1])
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize(("comparator", "scale"), [("corr", z_scored), ("spearman", ranked)])
def test_statistics_equal_those_of_residuals(comparator: str, scale) -> None:
    found = coefficients(torch.tensor(X), torch.tensor(SUBJECTS), comparator=comparator)
    for k, subject in enumerate(SUBJECTS):
        for statistic, expected in textbook(scale(X), scale(subject)).items():
            np.testing.assert_allclose(found[statistic][k], expected, atol=1e-12)


def test_statistics_equal_those_of_statsmodels_and_pingouin() -> None:
    sm = pytest.importorskip("statsmodels.api", reason="statsmodels is not installed")
    y = SUBJECTS.mean(0)
    found = coefficients(torch.tensor(X), torch.tensor(y))
    expected = sm.OLS(z_scored(y), z_scored(X).T).fit()
    np.testing.assert_allclose(found["weight"], expected.params, atol=1e-12)
    explained = float((found["weight"] * torch.tensor(z_scored(X) @ z_scored(y) / 66)).sum())
    assert explained == pytest.approx(expected.rsquared)


def test_partial_correlations_equal_those_of_the_room_inference() -> None:
    found = coefficients(torch.tensor(X), torch.tensor(SUBJECTS[0]), comparator="spearman")["partial"]
    for k in range(3):
        others = torch.tensor(np.delete(X, k, 0))
        assert float(found[k]) == pytest.approx(float(partial(torch.tensor(X[k]), torch.tensor(SUBJECTS[0]), others)))


def test_whole_weights_of_pairs_count_as_repetitions_and_unknown_pairs_as_absent() -> None:
    weights = torch.ones(66)
    weights[:5], weights[5:9] = 3.0, 0.0
    repeated = np.repeat(np.arange(66), weights.long().numpy())
    expected = textbook(X[:, repeated], SUBJECTS[0][repeated])
    found = coefficients(torch.tensor(X), torch.tensor(SUBJECTS[0]), weights)
    for statistic, values in expected.items():
        np.testing.assert_allclose(found[statistic], values, atol=1e-12)
    gaps = torch.tensor(SUBJECTS[0])
    gaps[weights == 0] = torch.nan
    torch.testing.assert_close(coefficients(torch.tensor(X), gaps, weights), found)


def test_the_table_has_the_statistics_of_the_mean_rdm_and_the_mean_over_subjects() -> None:
    table = regress(MODELS, DATA).set_index(["against", "statistic", "model"]).sort_index()
    for statistic, expected in textbook(X, SUBJECTS.mean(0)).items():
        np.testing.assert_allclose(table.loc["mean", statistic]["value"], expected)
    per_subject = [textbook(X, subject)["weight"] for subject in SUBJECTS]
    np.testing.assert_allclose(table.loc["subjects", "weight"]["value"], np.mean(per_subject, 0))
    assert (table["low"] < table["value"]).all()
    assert (table["high"] > table["value"]).all()
    assert (table["p_corrected"] >= table["p"]).all()
    assert table.loc[("mean", "weight", "a"), "p"] < 0.001
    assert table.loc[("mean", "weight", "b"), "p"] > 0.05


def test_the_weight_of_a_single_model_is_its_correlation_with_the_interval_of_scores() -> None:
    from brainrdl._core.rows import Role
    from brainrdl.evaluation import HeldOut, TeacherRDMs, score

    table = regress({"a": MODELS["a"]}, DATA).set_index(["against", "statistic"])
    teacher = TeacherRDMs("rdm", tuple(NAMES), tuple("wxyz"), torch.tensor(SUBJECTS))
    row = HeldOut(student="a", role=Role.STUDENT, target="rdm", names=tuple(NAMES), pairs=torch.tensor(X[0]))
    expected = score([row], {"rdm": teacher}, ["corr"]).summary.set_index("against")
    for against in ("mean", "subjects"):
        found = table.loc[against, "weight"]
        for ours, theirs in (("value", "score"), ("low", "low"), ("high", "high")):
            assert found[ours] == pytest.approx(expected.loc[against, theirs], abs=1e-9)


def test_the_order_of_conditions_does_not_matter() -> None:
    order = NAMES[::-1]
    shuffled = regress(MODELS, select(DATA, order))
    direct = regress(MODELS, DATA)
    np.testing.assert_allclose(shuffled["value"], direct["value"])
    np.testing.assert_allclose(shuffled["low"], direct["low"])


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ({**MODELS, "sum": from_array(X[0] + 2 * X[1], NAMES)}, {}, "model 'sum' is a linear combination"),
        ({"flat": RDMs(np.ones((1, 66)), pattern_descriptors={"stimulus": NAMES})}, {}, "model 'flat' is constant"),
        (MODELS, {"comparator": "cosine"}, "comparator of a regression 'cosine' is not known"),
        ({}, {}, "there is no model RDM"),
    ],
)
def test_what_cannot_be_regressed_is_refused(models, options, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        regress(models, DATA, **options)


def test_models_that_are_dependent_as_ranks_are_refused_by_name() -> None:
    rng = np.random.default_rng(0)
    a, names = rng.random(28), list("abcdefgh")
    models = {"a": from_array(a, names), "exp": from_array(np.exp(a), names)}
    with pytest.raises(BrainrdlError, match="model 'exp' is a linear combination"):
        regress(
            models, from_array(rng.random((3, 28)), names, descriptors={"subject": list("xyz")}), comparator="spearman"
        )


def test_a_constant_subject_has_no_coefficients() -> None:
    models = torch.rand(2, 10, generator=torch.Generator().manual_seed(0)).double()
    found = coefficients(models, torch.stack([models.sum(0), torch.full((10,), 0.3).double()]))
    assert all(values[1].isnan().all() and values[0].isfinite().all() for values in found.values())
