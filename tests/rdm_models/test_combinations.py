"""Models made of RDMs have the parameters that rsatoolbox's fitters find, and match conditions by name."""

from __future__ import annotations

import numpy as np
import pytest
import rsatoolbox.model as rsatoolbox_model
import torch
from rsatoolbox.rdm import RDMs

from brainrdl._core.errors import BrainrdlError
from brainrdl.rdm_models import (
    Combination,
    FittedModel,
    FixedModel,
    InterpolatedModel,
    RDMModel,
    SelectModel,
    WeightedModel,
    fit_weights,
)
from brainrdl.rdms import from_array, select

N, NAMES = 10, [f"image{k}" for k in range(10)]
RANDOM = np.random.default_rng(0)
PARTS = RANDOM.random((4, 45))
MODELS = {f"layer{k}": from_array(rdm, NAMES) for k, rdm in enumerate(PARTS)}
SUBJECTS = np.array([0.2, 1.0, 0.5, -0.3]) @ PARTS + 0.1 * RANDOM.random((3, 45))
DATA = from_array(SUBJECTS, NAMES, descriptors={"subject": ["a", "b", "c"]})
FITTED_TO = torch.tensor(SUBJECTS)


def oracle(kind: str) -> rsatoolbox_model.Model:
    return getattr(rsatoolbox_model, kind)("model", from_array(PARTS, NAMES))


@pytest.mark.parametrize("comparator", ["corr", "cosine"])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_weights_are_those_of_rsatoolbox(comparator: str, nonnegative: bool) -> None:
    fit = rsatoolbox_model.fitter.fit_regress_nn if nonnegative else rsatoolbox_model.fitter.fit_regress
    expected = fit(oracle("ModelWeighted"), DATA, method=comparator)
    fitted = WeightedModel(MODELS, comparator, nonnegative).fit(FITTED_TO, NAMES)
    np.testing.assert_allclose(list(fitted.parameters.values()), expected, atol=1e-9)
    np.testing.assert_allclose(fitted.predict(NAMES), expected @ PARTS, atol=1e-9)


def test_the_selected_model_is_that_of_rsatoolbox() -> None:
    for comparator in ("corr", "cosine", "spearman"):
        expected = rsatoolbox_model.fitter.fit_select(oracle("ModelSelect"), DATA, method=comparator)
        fitted = SelectModel(MODELS, comparator).fit(FITTED_TO, NAMES)
        assert list(fitted.parameters.values()) == [float(k == expected) for k in range(4)]


@pytest.mark.parametrize("comparator", ["corr", "cosine"])
def test_subjects_with_the_same_rdm_in_other_units_and_with_gaps_are_fitted_exactly(comparator: str) -> None:
    """A subject who knows only large dissimilarities is not shifted to the mean of those who know all."""
    ordered = np.argsort(PARTS[0])
    of_subjects = PARTS[0] * np.array([[1.0], [3.0], [0.2], [7.0]])
    of_subjects[1, ordered[:22]] = np.nan
    of_subjects[2, ordered[-20:]] = np.nan
    of_subjects[3, RANDOM.permutation(45)[:15]] = np.nan
    fitted = WeightedModel(MODELS, comparator).fit(torch.tensor(of_subjects), NAMES)
    np.testing.assert_allclose(list(fitted.parameters.values()), [1, 0, 0, 0], atol=1e-6)
    data = from_array(of_subjects, NAMES, descriptors={"subject": list("abcd")})
    table = fit_weights({"layer0": MODELS["layer0"], "layer1": MODELS["layer1"]}, data, comparator=comparator)
    assert table["score"].tolist() == pytest.approx([1, 1], abs=1e-6)


@pytest.mark.parametrize("comparator", ["corr", "cosine"])
@pytest.mark.parametrize("share", [0.3, 0.0, 0.9])
def test_the_interpolated_point_is_that_of_rsatoolbox(comparator: str, share: float) -> None:
    between = (1 - share) * PARTS[1] + share * PARTS[2] + 0.2 * RANDOM.random((3, 45))
    data = from_array(between, NAMES, descriptors={"subject": ["a", "b", "c"]})
    expected = rsatoolbox_model.fitter.fit_interpolate(oracle("ModelInterpolate"), data, method=comparator)
    fitted = InterpolatedModel(MODELS, comparator).fit(torch.tensor(between), NAMES)
    np.testing.assert_allclose(list(fitted.parameters.values()), expected, atol=1e-4)  # of its search


def test_an_interpolation_ends_at_the_better_model_if_both_are_opposed_to_the_data() -> None:
    two = {name: MODELS[name] for name in ("layer0", "layer1")}
    fitted = InterpolatedModel(two).fit(torch.tensor(-PARTS[0] - 0.3 * PARTS[1])[None], NAMES)
    assert list(fitted.parameters.values()) == [0.0, 1.0]


def test_unknown_pairs_are_left_out() -> None:
    known = RANDOM.random(45) > 0.3
    seen = FITTED_TO[:1].clone()
    seen[:, ~torch.tensor(known)] = torch.nan
    centred = (PARTS - PARTS[:, known].mean(1, keepdims=True))[:, known].T
    target = SUBJECTS[0, known] - SUBJECTS[0, known].mean()
    expected = np.linalg.lstsq(centred, target)[0]
    fitted = WeightedModel(MODELS, "corr", nonnegative=False).fit(seen, NAMES)
    np.testing.assert_allclose(list(fitted.parameters.values()), expected / np.linalg.norm(expected), atol=1e-9)


def test_conditions_are_matched_by_name() -> None:
    order = NAMES[::-1]
    shuffled = {name: select(rdm, order) for name, rdm in MODELS.items()}
    direct = WeightedModel(MODELS).fit(FITTED_TO, NAMES)
    for_other_order = WeightedModel(shuffled).fit(FITTED_TO, NAMES)
    assert for_other_order.parameters == pytest.approx(direct.parameters)
    torch.testing.assert_close(for_other_order.predict(order[:5]), direct.predict(order[:5]))


def test_equal_layers_and_constant_ones_do_not_break_a_weighted_sum() -> None:
    models = MODELS | {
        "again": MODELS["layer1"],
        "flat": RDMs(np.ones((1, 45)), pattern_descriptors={"stimulus": NAMES}),
    }
    for nonnegative in (False, True):
        plain = WeightedModel(MODELS, "corr", nonnegative).fit(FITTED_TO, NAMES).predict(NAMES)
        more = WeightedModel(models, "corr", nonnegative).fit(FITTED_TO, NAMES).predict(NAMES)
        assert float(torch.corrcoef(torch.stack([plain, more]))[0, 1]) == pytest.approx(1)


def test_a_model_without_parameters_is_not_fitted() -> None:
    fitted = FixedModel(MODELS["layer2"]).fit(FITTED_TO, NAMES)
    assert isinstance(fitted, Combination)
    np.testing.assert_allclose(fitted.predict(NAMES), PARTS[2])


def test_every_model_follows_the_protocol() -> None:
    for model in (
        FixedModel(MODELS["layer0"]),
        *(kind(MODELS) for kind in (SelectModel, WeightedModel, InterpolatedModel)),
    ):
        assert isinstance(model, RDMModel)
        assert isinstance(model.fit(FITTED_TO, NAMES), FittedModel)


def test_weights_are_fitted_to_each_target() -> None:
    rois = from_array(PARTS[:2], NAMES, descriptors={"roi": ["V1", "IT"], "subject": ["a", "a"]})
    table = fit_weights(MODELS, rois)
    largest = table.loc[table.groupby("target")["weight"].idxmax()].set_index("target")
    assert largest["model"].to_dict() == {"V1": "layer0", "IT": "layer1"}
    assert largest["score"].tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightedModel(MODELS, "spearman"), "comparator of a weighted sum 'spearman' is not known"),
        (lambda: InterpolatedModel(MODELS, "tau-a"), "comparator of an interpolation 'tau-a' is not known"),
        (lambda: InterpolatedModel({"a": MODELS["layer0"]}), "at least 2 model RDMs"),
        (lambda: SelectModel(MODELS, "correl"), "comparator 'correl' is not known"),
        (lambda: WeightedModel({}).fit(FITTED_TO, NAMES), "there is no model RDM"),
        (lambda: WeightedModel({"a": DATA}).fit(FITTED_TO, NAMES), "model 'a' should be one RDM, got 3"),
        (lambda: WeightedModel(MODELS).fit(FITTED_TO * torch.nan, NAMES), "no pair of the RDMs is known"),
        (lambda: WeightedModel(MODELS).fit(FITTED_TO, [*NAMES[:-1], "other"]), "'other'"),
        (lambda: SelectModel(MODELS).fit(FITTED_TO * torch.nan, NAMES), "no model can be chosen"),
        (
            lambda: FixedModel(from_array([1.0, np.nan, 2.0], list("abc"))).fit(FITTED_TO, []).predict(list("abc")),
            "model 'fixed' has 1 unknown",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(make, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        make()


def test_a_model_that_is_constant_up_to_rounding_gets_no_weight() -> None:
    real, names = np.random.default_rng(0).random(28), list("abcdefgh")
    models = {"real": real, "constant": np.where(np.arange(28) % 2, 0.3, 0.1 + 0.2)}
    table = fit_weights({name: from_array(x, names) for name, x in models.items()}, from_array(real + 0.1, names))
    assert table.set_index("model")["weight"].tolist() == pytest.approx([1, 0])
