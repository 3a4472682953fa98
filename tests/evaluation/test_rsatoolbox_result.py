"""Evaluations as rsatoolbox's Result: equal to rsatoolbox's own evaluation of the same RDMs, and back from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rsatoolbox
import torch
from rsatoolbox.inference import eval_fixed
from rsatoolbox.inference.result import load_results
from rsatoolbox.model import ModelFixed

from brainrdl import BrainrdlError, RDMTeacher, Stimuli, Student, cross_validate, evaluate, rdms, read
from brainrdl.evaluation.rsatoolbox_result import to_result

NAMES = [f"image_{k}" for k in range(9)]


def brain(**descriptors: list[str]) -> rsatoolbox.rdm.RDMs:
    values = np.random.default_rng(0).uniform(0.1, 2, (4, 36))
    return rdms.from_array(values, NAMES, descriptors=descriptors or {"subject": ["s1", "s2", "s3", "s4"]})


def images() -> Stimuli:
    generator = torch.Generator().manual_seed(1)
    labels = {name: "ab"[k % 2] for k, name in enumerate(NAMES)}
    return Stimuli.from_arrays(torch.rand(9, 1, 6, 6, generator=generator), NAMES, labels=labels)


def student() -> Student:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 12), torch.nn.Tanh(), torch.nn.Linear(12, 5))
    return Student(network, ["1", "3"])


@pytest.mark.parametrize("comparator", ["corr", "spearman", "cosine", "rho-a"])
def test_the_result_is_that_of_rsatoolbox_for_the_same_rdms(comparator):
    network = student()
    evaluation = evaluate(network, RDMTeacher(brain()), images(), comparators=[comparator, "tau-a"])
    found = to_result(evaluation, comparator)
    predicted = network.rdms(images(), NAMES)
    category = np.array([float(a % 2 != b % 2) for a in range(9) for b in range(a + 1, 9)])
    models = [ModelFixed("1", predicted[0]), ModelFixed("3", predicted[1]), ModelFixed("category", category)]
    expected = eval_fixed(models, brain(), method=comparator)
    assert [model.name for model in found.models] == ["student, 1", "student, 3", "category"]
    np.testing.assert_allclose(found.evaluations, expected.evaluations, atol=1e-6)  # the network computes in float32
    np.testing.assert_allclose(found.noise_ceiling, expected.noise_ceiling, atol=1e-10)
    np.testing.assert_allclose(found.get_sem(), expected.get_sem(), atol=1e-6)
    np.testing.assert_allclose(found.diff_var, expected.diff_var, atol=1e-6)
    np.testing.assert_allclose(found.test_noise(), expected.test_noise(), atol=1e-4)
    assert (found.dof, found.n_rdm, found.n_pattern) == (expected.dof, expected.n_rdm, expected.n_pattern) == (3, 4, 9)
    assert (found.method, found.cv_method) == (comparator, "fixed")
    np.testing.assert_allclose(found.models[1].predict(), predicted.dissimilarities[1], atol=1e-6)


def test_scores_of_folds_and_seeds_are_averaged_for_each_subject(tmp_path: Path):
    made = cross_validate(
        student, RDMTeacher(brain()), images(), folds=2, seeds=[0, 1], steps=1, controls=["unfitted"],
        comparators=["corr"], progress=False,
    )  # fmt: skip
    found = to_result(made)
    scores = made.scores.query("against == 'subjects'")
    for place, model in enumerate(found.models):
        of_model = scores[scores["student"] + ", " + scores["layer"] == model.name].groupby("subject")["score"].mean()
        np.testing.assert_allclose(found.evaluations[0, place], of_model.loc[["s1", "s2", "s3", "s4"]])
    assert {model.name for model in found.models} == {f"{row}, {k}" for row in ("fitted", "unfitted") for k in "13"}
    told = made.students.rdm_descriptors
    rows = [k for k in range(made.students.n_rdm) if (told["student"][k], told["layer"][k]) == ("fitted", "1")]
    assert len(rows) == 2  # seeds, whose folds hold out other pairs together
    known = ~np.isnan(made.students.dissimilarities[rows])
    total = np.where(known, made.students.dissimilarities[rows], 0).sum(0)
    ever = known.any(0)
    np.testing.assert_allclose(found.models[0].predict()[ever], total[ever] / known.sum(0)[ever])
    np.testing.assert_allclose(found.noise_ceiling, scores[["ceiling_lower", "ceiling_upper"]].mean())
    found.save(str(tmp_path / "result.h5"))
    again = load_results(str(tmp_path / "result.h5"))
    np.testing.assert_array_equal(again.evaluations, found.evaluations)
    np.testing.assert_array_equal(again.models[0].predict(), found.models[0].predict())
    assert list(again.models[0].rdm_obj.pattern_descriptors["stimulus"]) == NAMES
    teaching = read(tmp_path / "result.h5")
    assert list(teaching.rdm_descriptors["model"]) == [model.name for model in found.models]
    np.testing.assert_array_equal(teaching.dissimilarities[1], found.models[1].predict())


def test_one_subject_has_no_variance():
    one = brain()[0]
    found = to_result(evaluate(student(), RDMTeacher(one), images()))
    assert (found.get_sem(), found.dof, found.evaluations.shape) == (None, 0, (1, 3, 1))


def test_a_choice_that_is_open_or_not_there_is_refused():
    two = brain(subject=["s1", "s2", "s1", "s2"], roi=["V1", "V1", "IT", "IT"])
    network = Student(student().model, {"1": "V1", "3": "IT"})
    evaluation = evaluate(network, RDMTeacher(two), images())
    with pytest.raises(BrainrdlError, match=r"has the targets \['V1', 'IT'\]; choose one with target="):
        to_result(evaluation)
    with pytest.raises(BrainrdlError, match="target 'V2' is not known"):
        to_result(evaluation, target="V2")
    with pytest.raises(BrainrdlError, match="comparator 'cka' is not known"):
        to_result(evaluation, "cka", target="IT")
    assert [model.name for model in to_result(evaluation, target="IT").models] == ["student, 3", "category"]
    evaluation.scores = evaluation.scores.query("against == 'mean'")
    with pytest.raises(BrainrdlError, match="no scores against subjects"):
        to_result(evaluation)
