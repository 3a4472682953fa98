"""The protocol of the experiments: every method is a fit, with equal trials, and rows are computed once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from brainrdl import BrainrdlError, FeatureTeacher
from docs.experiments import protocol
from docs.experiments.measures import MEASURES, Exam
from docs.experiments.methods import METHODS, Problem, learn
from docs.experiments.protocol import Experiment, Setting, costs_of, main, results_of, trial, trials_of
from docs.experiments.results import unpack
from tests.experiments.conftest import images

TRAINING = {"lr": (0.01, 0.001, 0.1), "weight_decay": (1e-3, 1e-4, 1e-2)}


def first(method: str) -> dict[str, float]:
    """Settings of the first trial of a method, or of the method whose settings it uses."""
    return trial(METHODS[METHODS[method].settings_of or method], TRAINING, 0)


@pytest.fixture(scope="module")
def learned(problem: Problem) -> Callable[..., tuple[Any, float]]:
    """What `learn` returns for a method with its first settings, computed once."""

    @cache
    def of(method: str, unlabelled: bool = True) -> tuple[Any, float]:
        asked = problem if unlabelled else replace(problem, unlabelled=None)
        return learn(asked, method, first(method), seed=3)

    return of


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("unlabelled", [pytest.param(False, marks=pytest.mark.slow), True])
def test_every_method_changes_the_student_and_two_runs_agree(
    method: str, unlabelled: bool, problem: Problem, learned: Callable[..., tuple[Any, float]]
) -> None:
    problem = problem if unlabelled else replace(problem, unlabelled=None)
    student, seconds = learned(method, unlabelled)
    again, _ = learn(problem, method, first(method), seed=3)
    torch.manual_seed(3)
    start = problem.network()
    assert seconds > 0
    assert student.layers == ("0", "1")
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), again.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(student.model.parameters(), start.parameters(), strict=True))


@pytest.fixture
def weights(learned: Callable[..., tuple[Any, float]]) -> Callable[..., torch.Tensor]:
    """All weights of a student of `learned`, in one row."""
    return lambda method, unlabelled=True: flat(learned(method, unlabelled)[0])


def flat(student: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in student.parameters()])


def test_methods_differ_from_each_other(weights: Callable[..., torch.Tensor]) -> None:
    found = {method: weights(method) for method in METHODS}
    same = [(a, b) for a in METHODS for b in METHODS if a < b and torch.equal(found[a], found[b])]
    assert not same


def test_cross_entropy_sees_no_image_without_label(weights: Callable[..., torch.Tensor]) -> None:
    assert torch.equal(weights("cross-entropy"), weights("cross-entropy", unlabelled=False))
    assert not torch.equal(weights("KD"), weights("KD", unlabelled=False))


def test_a_control_within_class_keeps_the_class_of_each_image(problem: Problem) -> None:
    teacher = METHODS["permuted within class"].make(problem, 0, weight=1.0)["teacher"]
    labels = problem.labelled.labels or {}
    asked = {name: teacher.identity([name])["asked"][0] for name in problem.labelled.names}
    assert all(labels[name] == labels[other] for name, other in asked.items())
    assert any(name != other for name, other in asked.items())


def test_a_label_rdm_separates_classes(problem: Problem) -> None:
    teacher = METHODS["label RDM"].make(problem, 0, weight=1.0)["teacher"]
    names = problem.labelled.names[:4]  # classes 0, 1, 2, 0
    pairs = teacher.rdms(problem.labelled.batch(names))["late"][0]
    assert (pairs / pairs.max()).tolist() == [1, 1, 0, 1, 1, 1]


def test_random_patterns_have_the_spectrum_of_the_teacher() -> None:
    many = np.random.default_rng(1).normal(size=(3000, 4)) * [5, 2, 1, 0.2]
    names = [str(number) for number in range(3000)]
    some = images(3, 0)
    made = Problem(some, lambda: None, {"0": "late"}, {"late": many}, names, many)
    teacher = METHODS["teacher's spectrum"].make(made, 0, weight=1.0)["teacher"]
    batch = replace(some.batch(some.names), names=tuple(names), images=torch.zeros(3000, 1))
    values = np.linalg.svd(teacher.patterns(batch)["late"].numpy(), compute_uv=False) / np.sqrt(3000)
    assert values == pytest.approx([5, 2, 1, 0.2], rel=0.06)


def test_trials_of_all_methods_share_learning_rates() -> None:
    for number in range(4):
        tried = {name: trial(method, TRAINING, number) for name, method in METHODS.items()}
        assert len({(one["lr"], one["weight_decay"]) for one in tried.values()}) == 1
    assert trial(METHODS["KD"], TRAINING, 1) != trial(METHODS["KD"], TRAINING, 2)
    assert 0.001 <= trial(METHODS["KD"], TRAINING, 3)["lr"] <= 0.1


@pytest.fixture
def experiment(problem: Problem) -> Experiment:
    test = images(15, 9)
    rows = {
        "early": np.random.default_rng(2).normal(size=(15, 10)),
        "late": np.random.default_rng(3).normal(size=(15, 5)),
    }
    exam = Exam(test, FeatureTeacher(rows, names=test.names), problem.stages, noise=0.1, fgsm=0.05, n_robustness=9)
    return Experiment("small", (
        Setting("one", lambda seed: problem, lambda: (problem, images(12, 5)), lambda: exam, 2, 2, TRAINING,
                ("cross-entropy", "RDL, several stages", "permuted teacher")),
    ))  # fmt: skip


def test_an_experiment_is_resumed_without_computing_rows_again(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = []

    def counted(problem, method, options, seed):
        done.append((method, seed))
        return learn(problem, method, options, seed)

    monkeypatch.setattr(protocol, "learn", counted)
    main(experiment, ["--out", str(tmp_path), "--seeds", "1", "--only", "cross-entropy"])
    assert done == [("cross-entropy", 1000)] * 2 + [("cross-entropy", 0)]
    main(experiment, ["--out", str(tmp_path)])
    assert len(done) == 3 + 2 + 5
    main(experiment, ["--out", str(tmp_path)])
    assert len(done) == 10
    rows, trials = results_of("small", tmp_path).rows(), trials_of("small", tmp_path).rows()
    assert len(rows) == 6
    assert len(trials) == 4
    assert rows[list(MEASURES[:-1])].notna().all(axis=None)
    assert [1 - unpack(text).mean() for text in rows["correct"]] == pytest.approx(rows["error"].tolist(), abs=1e-6)
    best = trials[trials["method"] == "RDL, several stages"].sort_values(["error", "nll"]).iloc[0]["options"]
    control = rows[rows["method"] == "permuted teacher"]["options"].tolist()
    assert [json.loads(text) for text in control] == [json.loads(best)] * 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("1/2, ")
    assert said[-1] == "5/5, 0 min left: one, permuted teacher, seed 1"


def test_training_that_diverges_is_a_result_and_other_errors_are_not(
    experiment: Experiment, problem: Problem, tmp_path: Path
) -> None:
    setting = replace(experiment.settings[0], trials=1, seeds=1, methods=("cross-entropy",))
    steep = replace(setting, training={"lr": (1e30, 1e30, 1e30), "weight_decay": (0.0, 0.1, 1.0)})
    protocol.run_trial("small", steep, "cross-entropy", 0, tmp_path)
    assert trials_of("small", tmp_path).rows()["error"].tolist() == [1]
    trials_of("small", tmp_path).replace({"method": "cross-entropy"}, [])
    row = {"experiment": "small", "setting": "one", "method": "cross-entropy", "trial": 0, "error": 0.5, "nll": 1.0}
    trials_of("small", tmp_path).add(row | {"options": json.dumps({"lr": 1e30, "weight_decay": 0.0})})
    protocol.run_final("small", steep, "cross-entropy", 0, tmp_path)
    (found,) = results_of("small", tmp_path).rows().to_dict("records")
    assert (found["error"], unpack(found["correct"]).mean()) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert np.isnan(found["nll"])
    broken = replace(problem, patterns={name: rows * np.nan for name, rows in problem.patterns.items()})
    with pytest.raises(BrainrdlError, match="NaN"):
        learn(broken, "RDL", first("RDL"), seed=0)


def test_costs_are_the_shortest_of_runs_in_turn_and_measured_together(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, seconds = [], iter([3.0, 5.0, 4.0, 2.0, 9.0, 9.0, 8.0, 1.0, 9.0] + [7.0] * 9)
    monkeypatch.setattr(protocol, "learn", lambda problem, method, *_, **__: (asked.append(method), next(seconds)))
    words = ["--out", str(tmp_path), "--costs"]
    main(experiment, words)
    main(experiment, words)
    methods, table = list(experiment.settings[0].methods), costs_of("small", tmp_path)
    assert asked == methods * 3
    assert dict(zip(table.rows()["method"], table.rows()["cpu_seconds"], strict=True)) == dict(
        zip(methods, [2.0, 1.0, 4.0], strict=True)
    )
    table.replace({"method": methods[0]}, [])
    main(experiment, words)  # all again, so that they are of one machine
    assert table.rows()["cpu_seconds"].tolist() == [7.0] * 3


@pytest.mark.slow
def test_rows_do_not_depend_on_the_number_of_processes(experiment: Experiment, tmp_path: Path) -> None:
    for jobs in ("1", "2"):
        main(experiment, ["--out", str(tmp_path / jobs), "--jobs", jobs])
    one, two = (results_of("small", tmp_path / jobs).rows().sort_values(["method", "seed"]) for jobs in ("1", "2"))
    pd.testing.assert_frame_equal(
        one.drop(columns="cpu_seconds").reset_index(drop=True), two.drop(columns="cpu_seconds").reset_index(drop=True)
    )


def test_a_final_run_without_its_trials_is_refused(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trials of 'cross-entropy' are missing"):
        protocol.run_final("small", experiment.settings[0], "cross-entropy", 0, tmp_path)


def test_rows_made_with_other_settings_are_refused(experiment: Experiment, tmp_path: Path) -> None:
    words = ["--out", str(tmp_path), "--seeds", "1", "--only", "cross-entropy"]
    main(experiment, words)
    table = results_of("small", tmp_path)
    changed = table.rows().assign(options='{"lr": 1.0, "weight_decay": 0.0}')
    changed.to_csv(table.path, index=False)
    with pytest.raises(ValueError, match="rows of 'cross-entropy' in 'one' have the settings"):
        main(experiment, words)


def test_rows_of_another_design_are_refused(experiment: Experiment, tmp_path: Path) -> None:
    words = ["--out", str(tmp_path), "--seeds", "1", "--only", "cross-entropy"]
    main(experiment, words)
    longer = replace(experiment, settings=[replace(experiment.settings[0], design={"steps": 7})])
    with pytest.raises(ValueError, match=r"'one' in .*small_tuning.csv have the design .*'steps': 7"):
        main(longer, words)
    trials_of("small", tmp_path).path.unlink()
    with pytest.raises(ValueError, match=r"'one' in .*small.csv have the design"):
        main(longer, words)


def test_trials_with_other_settings_than_planned_are_refused(experiment: Experiment, tmp_path: Path) -> None:
    words = ["--out", str(tmp_path), "--seeds", "1", "--only", "cross-entropy"]
    main(experiment, words)
    faster = replace(experiment.settings[0], training={**TRAINING, "lr": (0.5, 0.4, 0.6)})
    with pytest.raises(ValueError, match="trial 0 of 'cross-entropy' in 'one' has the settings"):
        main(replace(experiment, settings=[faster]), words)


def test_settings_chosen_by_later_trials_refuse_the_rows_of_earlier_ones(
    experiment: Experiment, tmp_path: Path
) -> None:
    table, trials = results_of("small", tmp_path), trials_of("small", tmp_path)
    named = {
        "experiment": "small",
        "setting": "one",
        "method": "cross-entropy",
        "design": experiment.settings[0].digest,
    }
    table.add({**named, "seed": 1, "options": '{"lr": 9.0, "weight_decay": 9.0}'})
    with pytest.raises(ValueError, match="but the trials"):
        main(experiment, ["--out", str(tmp_path), "--seeds", "1", "--only", "cross-entropy"])
    assert len(trials.rows()) == 2
    assert len(table.rows()) == 1


def test_a_method_whose_trials_all_failed_has_no_settings(experiment: Experiment, tmp_path: Path) -> None:
    trials = trials_of("small", tmp_path)
    for number in range(2):
        named = {"experiment": "small", "setting": "one", "method": "cross-entropy", "trial": number}
        trials.add({**named, "error": 1.0, "nll": float("inf"), "cpu_seconds": float("nan"), "options": "{}"})
    with pytest.raises(ValueError, match="all trials of 'cross-entropy' failed"):
        protocol.chosen("small", experiment.settings[0], "cross-entropy", tmp_path)


def test_settings_that_share_trials_use_all_of_them(experiment: Experiment) -> None:
    one = experiment.settings[0]
    with pytest.raises(ValueError, match=f"'two' uses {one.trials + 1} of the {one.trials} trials of 'one'"):
        Experiment("small", (one, replace(one, name="two", tuned_as="one", trials=one.trials + 1)))
