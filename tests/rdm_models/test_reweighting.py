"""Reweighting equals a brute-force ridge regression, finds the channels that matter, and refuses what it cannot do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from brainrdl._core.errors import BrainrdlError
from brainrdl.dissimilarity import correlation, cosine, euclidean
from brainrdl.dissimilarity.pairs import pair_indices, to_pairs, to_square
from brainrdl.rdm_models import Reweighted, ReweightedModel, reweight, reweighting as module
from brainrdl.rdms import from_array

N, C = 20, 8
NAMES = [f"image{k}" for k in range(N)]
GENERATOR = torch.Generator().manual_seed(0)
PATTERNS = torch.randn(N, C, generator=GENERATOR, dtype=torch.float64)
TRUE = torch.tensor([2.0, 0.0, 1.0, 0.0, 0.0, 0.5, 0.0, 0.0], dtype=torch.float64)
RDM = euclidean(PATTERNS * TRUE.sqrt()) + 0.05 * torch.rand(N * (N - 1) // 2, generator=GENERATOR)


def table_of(patterns: torch.Tensor) -> np.ndarray:
    i, j = pair_indices(len(patterns))
    return ((patterns[i] - patterns[j]) ** 2).numpy()


@pytest.mark.parametrize("n_channels", [C, 300], ids=["fewer channels than pairs", "more channels than pairs"])
@pytest.mark.parametrize("standardise", [True, False])
def test_signed_weights_are_those_of_a_ridge_regression_on_squared_differences(
    n_channels: int, standardise: bool
) -> None:
    patterns = torch.randn(N, n_channels, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = ReweightedModel(patterns, NAMES, nonnegative=False, standardise=standardise, penalties=[0.3])
    fitted = model.fit(RDM[None], NAMES)
    table = table_of(patterns)
    spread = table.std(0) if standardise else np.full(n_channels, table.var(0).mean() ** 0.5)
    brute = Ridge(alpha=0.3 * len(table), solver="cholesky").fit(table / spread, RDM.numpy())
    np.testing.assert_allclose(fitted.weights, brute.coef_ / spread, rtol=0, atol=1e-10)
    np.testing.assert_allclose(fitted.predict(NAMES), brute.predict(table / spread), rtol=0, atol=1e-10)


def test_the_penalty_is_the_best_of_a_brute_force_cross_validation() -> None:
    folds, penalties = [NAMES[:7], NAMES[7:14], NAMES[14:]], [3.0, 0.1, 0.003]
    model = ReweightedModel(PATTERNS, NAMES, nonnegative=False, penalties=penalties, folds=folds)
    fitted = model.fit(RDM[None], NAMES)
    square = to_square(RDM)
    for penalty in penalties:
        found = []
        for fold in folds:
            test = [NAMES.index(name) for name in fold]
            train = [k for k in range(N) if k not in test]
            x, y = table_of(PATTERNS[train]), to_pairs(square[train][:, train]).numpy()
            brute = Ridge(alpha=penalty * len(y)).fit(x / x.std(0), y)
            predicted = brute.predict(table_of(PATTERNS[test]) / x.std(0))
            found.append(np.corrcoef(predicted, to_pairs(square[test][:, test]))[0, 1])
        assert fitted.scores[penalty] == pytest.approx(np.mean(found), abs=1e-9)
    assert fitted.penalty == max(fitted.scores, key=lambda penalty: fitted.scores[penalty])


def test_non_negative_weights_find_the_channels_that_matter() -> None:
    fitted = ReweightedModel(PATTERNS, NAMES).fit(RDM[None], NAMES)
    assert (fitted.weights >= 0).all()
    assert set(fitted.weights.argsort()[-3:].tolist()) == {0, 2, 5}
    assert fitted.parameters["channels"] == float((fitted.weights > 0).sum())


def test_reweighting_reaches_the_true_model_on_held_out_conditions() -> None:
    """Simulated as in the pilot: 92 conditions and 100 channels, of which 10 make the RDM, with as much noise."""
    generator = torch.Generator().manual_seed(3)
    patterns, names = torch.randn(92, 100, generator=generator, dtype=torch.float64), [f"s{k}" for k in range(92)]
    clean = euclidean(patterns[:, :10])
    noisy = clean + clean.std() * torch.randn(len(clean), generator=generator, dtype=torch.float64)

    def score(predicted: torch.Tensor, test: list[int]) -> float:
        held_out = to_pairs(to_square(noisy)[test][:, test])
        return float(torch.corrcoef(torch.stack([predicted, held_out]))[0, 1])

    drawn = torch.randperm(92, generator=generator).tolist()
    scores = {"unweighted": [], "signed": [], "non-negative": [], "true": []}
    for k in range(5):
        test = drawn[k::5]
        train = [place for place in range(92) if place not in test]
        seen, shown = to_pairs(to_square(noisy)[train][:, train]), [names[place] for place in test]
        scores["unweighted"].append(score(euclidean(patterns[test]), test))
        scores["true"].append(score(euclidean(patterns[test][:, :10]), test))
        for label in ("signed", "non-negative"):
            model = ReweightedModel(patterns, names, nonnegative=label == "non-negative")
            fitted = model.fit(seen[None], [names[place] for place in train])
            scores[label].append(score(fitted.predict(shown), test))
    means = {label: float(np.mean(values)) for label, values in scores.items()}
    assert means["unweighted"] < 0.35
    assert means["signed"] > means["true"] - 0.06
    assert means["non-negative"] > means["true"] - 0.04


@pytest.mark.parametrize(
    ("kind", "measure"), [("correlation", correlation), ("cosine", cosine), ("euclidean", euclidean)]
)
def test_equal_weights_give_the_dissimilarity(kind: str, measure) -> None:
    model = ReweightedModel(PATTERNS + 1, NAMES, kind)
    fitted = Reweighted(model.patterns, tuple(NAMES), torch.ones(C, dtype=torch.float64), 0.0, 1.0, {})
    expected = measure(PATTERNS + 1)
    torch.testing.assert_close(fitted.predict(NAMES) / fitted.predict(NAMES).mean(), expected / expected.mean())


def test_unknown_pairs_are_left_out_of_the_fit() -> None:
    known = torch.rand(len(RDM), generator=torch.Generator().manual_seed(5)) > 0.3
    model = ReweightedModel(PATTERNS, NAMES, nonnegative=False, penalties=[0.1])
    fitted = model.fit(torch.where(known, RDM, torch.nan)[None], NAMES)
    table = table_of(PATTERNS)[known]
    brute = Ridge(alpha=0.1 * len(table)).fit(table / table.std(0), RDM[known].numpy())
    np.testing.assert_allclose(fitted.weights, brute.coef_ / table.std(0), rtol=0, atol=1e-10)


def test_conditions_are_matched_by_name() -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(6))
    shuffled = ReweightedModel(PATTERNS[order], [NAMES[k] for k in order], penalties=[0.1])
    direct = ReweightedModel(PATTERNS, NAMES, penalties=[0.1])
    torch.testing.assert_close(
        shuffled.fit(RDM[None], NAMES).predict(NAMES[:5]), direct.fit(RDM[None], NAMES).predict(NAMES[:5])
    )


def test_each_target_has_its_weights() -> None:
    rdms = from_array(
        torch.stack([euclidean(PATTERNS[:, :2]), euclidean(PATTERNS[:, 5:])]).numpy(), NAMES,
        descriptors={"roi": ["V1", "IT"]},
    )  # fmt: skip
    found = reweight(PATTERNS, NAMES, rdms)
    assert set(found["V1"].weights.argsort()[-2:].tolist()) == {0, 1}
    assert set(found["IT"].weights.argsort()[-3:].tolist()) == {5, 6, 7}


def fit(**options: object) -> Reweighted:
    return ReweightedModel(PATTERNS, NAMES, **options).fit(RDM[None], NAMES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(dissimilarity="mahalanobis"), "dissimilarity of a reweighting 'mahalanobis' is not known"),
        (lambda: fit(penalties=[0.0]), "penalties"),
        (lambda: fit(penalties=[]), "should be one or more numbers above 0"),
        (lambda: fit(folds=1), "folds"),
        (lambda: fit(folds=[["image0", "image1"]]), "no inner fold has 3"),
        (lambda: ReweightedModel(PATTERNS[:3], NAMES), r"should be \(20 conditions, channels\), got shape \(3, 8\)"),
        (lambda: ReweightedModel(PATTERNS / 0, NAMES), "pattern of condition 'image0' is not finite"),
        (lambda: ReweightedModel(PATTERNS, ["a"] * N), "the names of the patterns"),
        (lambda: ReweightedModel(PATTERNS, NAMES).fit(RDM[None, :10], NAMES[:5]), "two inner folds of 4 conditions"),
        (lambda: fit(penalties=[1.0]).predict(["image0", "other"]), "'other'"),
        (
            lambda: ReweightedModel(PATTERNS, NAMES, penalties=[1.0]).fit(RDM[None] * torch.nan, NAMES),
            "at least 3 known pairs, got 0",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(call, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        call()


def test_too_many_channels_are_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 7)
    with pytest.raises(BrainrdlError, match=r"8 channels and 190 pairs are too many .*nonnegative=False"):
        fit(penalties=[1.0])
    with pytest.raises(BrainrdlError, match=r"8 channels and 190 pairs are too many .*; pool the layer"):
        fit(penalties=[1.0], nonnegative=False)
