"""Models with parameters are fitted to training stimuli and subjects only, and scored like all others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from rsatoolbox.rdm import compare

from brainrdl import rdms as rdms_room
from brainrdl._core import progress
from brainrdl._core.errors import BrainrdlError
from brainrdl.dissimilarity.pairs import pair_indices
from brainrdl.evaluation import Evaluation, cross_validate_models, stimulus_folds
from brainrdl.rdm_models import ReweightedModel, SelectModel, WeightedModel

N = 24
NAMES = [f"image{k:02d}" for k in range(N)]
RANDOM = np.random.default_rng(0)
LAYERS = RANDOM.random((3, N * (N - 1) // 2))
MODELS = {f"layer{k}": rdms_room.from_array(rdm, NAMES) for k, rdm in enumerate(LAYERS)}
SUBJECTS = 0.4 * LAYERS[0] + LAYERS[1] + RANDOM.random((3, LAYERS.shape[1]))
TEST = NAMES[:6]


class OneFold:
    """Holds out the first six conditions."""

    def split(self, X: object, y: object = None) -> list[tuple[list[int], list[int]]]:
        return [(list(range(6, N)), list(range(6)))]


def data(pairs: np.ndarray = SUBJECTS) -> object:
    return rdms_room.from_array(pairs, NAMES, descriptors={"subject": ["a", "b", "c"][: len(pairs)]})


def held_out_pairs() -> np.ndarray:
    i, j = pair_indices(N).numpy()
    return (i < 6) | (j < 6)


def predictions(result: Evaluation) -> dict[str, np.ndarray]:
    return dict(zip(result.students.rdm_descriptors["student"], result.students.dissimilarities, strict=True))


def patterns() -> torch.Tensor:
    return torch.randn(N, 5, generator=torch.Generator().manual_seed(0))


FITTED = {
    "weighted": WeightedModel(MODELS),
    "best": SelectModel(MODELS),
    "reweighted": ReweightedModel(patterns(), NAMES, folds=3),
}


def test_what_the_data_say_of_held_out_conditions_changes_no_prediction() -> None:
    other = SUBJECTS.copy()
    other[:, held_out_pairs()] = RANDOM.random((3, held_out_pairs().sum()))
    one, two = (predictions(cross_validate_models(FITTED, data(pairs), folds=OneFold())) for pairs in (SUBJECTS, other))
    for name in FITTED:
        np.testing.assert_array_equal(one[name], two[name])
    other[:, ~held_out_pairs()] = RANDOM.random((3, (~held_out_pairs()).sum()))
    changed = predictions(cross_validate_models(FITTED, data(other), folds=OneFold()))
    assert not np.array_equal(one["weighted"], changed["weighted"], equal_nan=True)
    assert not np.array_equal(one["reweighted"], changed["reweighted"], equal_nan=True)


def test_a_left_out_subject_changes_no_prediction_that_is_scored_against_it() -> None:
    other = SUBJECTS.copy()
    other[0] = RANDOM.random(SUBJECTS.shape[1])
    one, two = (
        cross_validate_models({"weighted": FITTED["weighted"]}, data(pairs), folds=OneFold(), subjects="leave-one-out")
        for pairs in (SUBJECTS, other)
    )
    left_out = list(one.students.rdm_descriptors["left_out"])
    both = zip(one.students.dissimilarities, two.students.dissimilarities, strict=True)
    same = [np.array_equal(a, b, equal_nan=True) for a, b in both]
    assert dict(zip(left_out, same, strict=True)) == {"a": True, "b": False, "c": False}


def test_a_fixed_model_scores_what_its_rdm_scores_on_the_same_pairs() -> None:
    result = cross_validate_models(MODELS, data(), folds=OneFold(), comparators=["spearman"])
    chosen = rdms_room.select(data(), TEST)
    for name, model in MODELS.items():
        expected = compare(rdms_room.select(model, TEST), chosen, method="spearman").mean()
        row = result.summary.query(f"student == '{name}' and against == 'subjects'").iloc[0]
        assert row["score"] == pytest.approx(expected)


def test_the_weighted_sum_beats_the_best_layer_and_the_difference_is_tested() -> None:
    result = cross_validate_models(FITTED | MODELS, data(), folds=3, seeds=(0, 1))
    mean = result.summary.query("comparator == 'corr' and against == 'mean'").set_index("student")
    assert mean.loc["weighted", "score"] > mean.loc["layer1", "score"]
    assert (mean["low"] < mean["score"]).all()
    contrast = result.contrasts.query(
        "student == 'weighted' and other == 'layer1' and comparator == 'corr' and against == 'mean'"
    ).iloc[0]
    expected = mean.loc["weighted", "score"] - mean.loc["layer1", "score"]
    assert contrast["difference"] == pytest.approx(expected)
    parameters = pd.DataFrame(result.settings["parameters"])
    chosen = parameters.query("model == 'best' and value == 1")
    assert chosen["parameter"].unique().tolist() == ["layer1"]
    assert len(chosen) == 6


def test_the_result_can_be_saved_and_read(tmp_path) -> None:
    result = cross_validate_models(MODELS, data(), folds=OneFold())
    again = Evaluation.load(result.save(tmp_path / "models"))
    pd.testing.assert_frame_equal(again.summary, result.summary, check_dtype=False)


def test_slow_fits_of_models_show_progress_on_stderr(capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress, "_AFTER", -1.0)
    asked = {"layer0": MODELS["layer0"]}, data()
    cross_validate_models(*asked, folds=OneFold(), intervals="none")
    shown = capsys.readouterr()
    assert "models: 1 of 1, done" in shown.err
    assert "scores" in shown.err
    assert shown.out == ""
    cross_validate_models(*asked, folds=OneFold(), intervals="none", progress=False)
    assert capsys.readouterr().err == ""


def test_folds_are_those_of_the_same_seed_in_other_evaluations() -> None:
    result = cross_validate_models({"layer0": MODELS["layer0"]}, data(), folds=4, seeds=(3,))
    known = np.isfinite(predictions(result)["layer0"])
    fold = stimulus_folds(NAMES, 4, seed=3).set_index("stimulus")["fold"]
    i, j = pair_indices(N).numpy()
    together = fold[np.array(NAMES)[i]].to_numpy() == fold[np.array(NAMES)[j]].to_numpy()
    np.testing.assert_array_equal(known, together)


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ({}, {}, "there is no model to score"),
        ({"a": 3}, {}, "model 'a' should be RDMs, or have the method fit"),
        (MODELS, {"subjects": "some"}, "subjects: 'some' is not known|subjects 'some' is not known"),
        (MODELS, {"intervals": "wide"}, "intervals"),
        (MODELS, {"names": ["nobody", *NAMES[:9]]}, "'nobody'"),
        (MODELS, {"folds": 12}, "use fewer folds"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(models, options, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        cross_validate_models(models, data(), **options)


def test_leaving_out_the_only_subject_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="needs at least 2 subjects"):
        cross_validate_models(MODELS, data(SUBJECTS[:1]), subjects="leave-one-out")
