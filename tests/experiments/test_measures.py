"""Measures of a student on test images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from brainrdl import FeatureTeacher, NetworkTeacher
from docs.experiments import cifar100
from docs.experiments.measures import CHANGES, Exam, adversarial, calibration_error, logits_of, measure
from docs.experiments.methods import Problem
from tests.experiments.conftest import images


@pytest.fixture(scope="module")
def exam(problem: Problem) -> Exam:
    test = images(600, 9)
    rows = {
        "early": np.random.default_rng(2).normal(size=(600, 10)),
        "late": np.random.default_rng(3).normal(size=(600, 5)),
    }
    return Exam(test, FeatureTeacher(rows, names=test.names), problem.stages, noise=0.1, fgsm=0.05, n_robustness=60)


def test_calibration_error_is_the_gap_of_confidence_and_accuracy_in_each_bin() -> None:
    confidence = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    logits = torch.stack([confidence, 1 - confidence], dim=1).log()
    labels = torch.tensor([0, 0, 1, 1, 0, 0])  # accuracy .5 and 1
    assert calibration_error(logits, labels) == pytest.approx((4 * 0.4 + 2 * 0.4) / 6, abs=1e-6)


def test_adversarial_images_increase_the_loss_by_a_small_step(problem: Problem, exam: Exam) -> None:
    torch.manual_seed(0)
    student = problem.student(problem.network()).eval()
    batch = exam.stimuli.batch(exam.stimuli.names[:50])
    changed = adversarial(student, batch.images, batch.labels, 0.05)
    before, after = (functional.cross_entropy(logits_of(student, x), batch.labels) for x in (batch.images, changed))
    assert after > before
    assert (changed - batch.images).abs().max() <= 0.05 + 1e-6


@pytest.mark.parametrize("name", CHANGES)
def test_changed_images_are_images_of_the_same_size_and_the_same_each_time(name: str, exam: Exam) -> None:
    before = exam.stimuli.images(exam.stimuli.names[:5])
    after = CHANGES[name](before, exam)
    assert after.shape == before.shape
    assert torch.equal(after, CHANGES[name](before, exam))
    assert not torch.equal(after, before)
    assert 0 <= float(after.min()) <= float(after.max()) <= 1 + 1e-6


def test_rdm_correlations_are_1_for_the_students_own_patterns(problem: Problem, exam: Exam) -> None:
    torch.manual_seed(0)
    student = problem.student(problem.network()).eval()
    own = NetworkTeacher(student, list(student.layers))
    rows = own.patterns(exam.stimuli.batch(exam.stimuli.names))
    named = {target: rows[layer].numpy() for layer, target in problem.stages.items()}
    same = replace(exam, features=FeatureTeacher(named, names=exam.stimuli.names))
    found, other = measure(student, same), measure(student, exam)
    assert (found["rdm_early"], found["rdm_late"]) == pytest.approx((1, 1), abs=1e-5)
    assert abs(other["rdm_late"]) < 0.1


def test_a_probe_equals_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(300) % 100
    rows = random.normal(size=(300, 6)) + 0.3 * random.normal(size=(100, 6))[labels]
    ours = cifar100.apply(cifar100.probe(rows, labels, penalty=0.05, n_iterations=100), rows)
    z = (rows - rows.mean(0)) / (rows.std(0, ddof=1) + 1e-3)
    peer = LogisticRegression(C=1 / (2 * 300 * 0.05), tol=1e-5, max_iter=500).fit(z, labels)
    assert ours - ours.mean(1, keepdims=True) == pytest.approx(peer.decision_function(z), abs=2e-3)
