"""A candidate that is fitted to another teacher than the one that all candidates are scored against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import PredefinedSplit
from torch import nn

from brainrdl import RDMTeacher, Stimuli, Student, rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.dissimilarity.measures import correlation
from brainrdl.dissimilarity.pairs import pair_indices
from brainrdl.evaluation.cross_validation import cross_validate
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.evaluation.plan import Candidate
from brainrdl.stimuli.named_images import Batch
from brainrdl.teachers.controls import PermutedTeacher, control

N, N_TEST = 40, 12
NAMES = [f"n{i:02d}" for i in range(N)]
PIXELS = torch.randn(N, 1, 4, 4, generator=torch.Generator().manual_seed(0))
STIMULI = Stimuli.from_arrays(PIXELS, NAMES, labels=["ab"[i % 2] for i in range(N)])
OPTIONS: dict[str, Any] = {"steps": 60, "lr": 0.03, "evaluate_every": 60, "device": "cpu", "progress": False}
OPTIONS |= {"folds": PredefinedSplit([-1] * (N - N_TEST) + [0] * N_TEST), "controls": ()}


def seen(part: slice) -> RDMTeacher:
    """Two subjects that see only a part of the image; the same part as the other subject's."""
    pairs = correlation(PIXELS.flatten(1)[:, part])
    return of(torch.stack([pairs, pairs + 0.01 * torch.rand(pairs.shape)]))


def of(pairs: Any, **options: Any) -> RDMTeacher:
    subjects = {"subject": [f"s{k}" for k in range(len(pairs))]}
    return RDMTeacher(rdms.from_array(np.asarray(pairs), NAMES, descriptors=subjects), **options)


UPPER, LOWER = seen(slice(0, 8)), seen(slice(8, 16))


class WithoutSubjects:
    """A teacher of the three required members only."""

    name, targets = "own", ("rdm",)

    def rdms(self, batch: Batch) -> dict[str, torch.Tensor]:
        return LOWER.rdms(batch)


def make() -> Student:
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 16)), ["1"])


def scores(evaluation: Evaluation) -> dict[str, float]:
    rows = evaluation.summary[evaluation.summary["comparator"].eq("corr") & evaluation.summary["against"].eq("mean")]
    return dict(zip(rows["student"], rows["score"], strict=True))


def predicted(evaluation: Evaluation, student: str) -> np.ndarray:
    chosen = np.array(evaluation.students.rdm_descriptors["student"]) == student
    return evaluation.students.dissimilarities[chosen]


def test_a_candidate_learns_its_own_teacher_and_is_scored_against_the_common_one() -> None:
    students = {"upper": make, "lower": Candidate(make, teacher=LOWER)}
    both = cross_validate(students, UPPER, STIMULI, **OPTIONS)
    assert scores(both)["upper"] > scores(both)["lower"] + 0.3
    alone = cross_validate({"lower": make}, LOWER, STIMULI, **OPTIONS)
    np.testing.assert_array_equal(predicted(both, "lower"), predicted(alone, "lower"))
    assert scores(alone)["lower"] > scores(both)["lower"] + 0.3
    truth = UPPER.subject_rdms("rdm").dissimilarities.mean(0)
    own = predicted(both, "lower")[0]
    known = np.isfinite(own)
    assert scores(both)["lower"] == pytest.approx(np.corrcoef(truth[known], own[known])[0, 1], abs=1e-6)


def test_what_the_other_teacher_says_of_held_out_conditions_changes_nothing() -> None:
    """Its weights of subjects depend on the conditions that it knows."""
    pairs = LOWER.subject_rdms("rdm").dissimilarities.copy()
    i, j = (index.numpy() for index in pair_indices(N))
    pairs[:, (i >= N - N_TEST) | (j >= N - N_TEST)] = 0.5 + np.random.default_rng(0).random()
    first, second = (
        cross_validate(
            {"other": Candidate(make, {"steps": 3}, teacher=of(rows, combine="reliability"))}, UPPER, STIMULI, **OPTIONS
        )
        for rows in (LOWER.subject_rdms("rdm").dissimilarities, pairs)
    )
    np.testing.assert_array_equal(predicted(first, "other"), predicted(second, "other"))


def test_a_left_out_subject_is_removed_from_the_other_teacher_if_it_is_there() -> None:
    students = {
        "permuted names": Candidate(make, teacher=PermutedTeacher(UPPER)),
        "categories": Candidate(make, teacher=control("category", teacher=UPPER, stimuli=STIMULI)),
        "own": Candidate(make, teacher=WithoutSubjects()),
    }
    found = cross_validate(students, UPPER, STIMULI, subjects="leave-one-out", **OPTIONS | {"steps": 2})
    rows = found.scores[found.scores["student"].isin(students)]
    assert set(zip(rows["student"], rows["subject"], strict=True)) == {(s, f"s{k}") for s in students for k in (0, 1)}


def test_a_run_is_not_resumed_with_another_teacher_of_a_candidate(tmp_path: Path) -> None:
    def run(**own: Any) -> pd.DataFrame:
        students = {"other": Candidate(make, {"steps": 2}, **own)}
        return cross_validate(students, UPPER, STIMULI, out=tmp_path / "run", resume=True, **OPTIONS).scores

    first = run(teacher=LOWER)
    pd.testing.assert_frame_equal(run(teacher=LOWER), first)
    changed = of(LOWER.subject_rdms("rdm").dissimilarities + 0.1)
    for other in ({}, {"teacher": changed}, {"teacher": PermutedTeacher(LOWER)}):
        with pytest.raises(BrainrdlError, match="was written with"):
            run(**other)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("it.h5", "the teacher of student 'other' should be a Teacher, got str"),
        (LOWER.select(NAMES[:-1]), "'n39'.* teacher 'RDMs' of student 'other'"),
        (
            RDMTeacher(rdms.from_array(torch.rand(2, 780).numpy(), NAMES, descriptors={"roi": ["V1", "V2"]})),
            "teacher 'RDMs' of student 'other': layer '1' is matched with target '1'",
        ),
    ],
)
def test_teachers_that_cannot_be_learned_are_refused_before_any_fit(teacher: Any, message: str, tmp_path: Path) -> None:
    students = {"first": make, "other": Candidate(make, teacher=teacher)}
    with pytest.raises(BrainrdlError, match=message):
        cross_validate(students, UPPER, STIMULI, out=tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run").exists()
