"""A hand-written teacher with the optional members of the protocol is used like an `RDMTeacher`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import PredefinedSplit
from torch import Tensor, nn

from brainrdl import BrainrdlError, RDMTeacher, Stimuli, Student, cross_validate, evaluate, fit, rdms
from brainrdl.stimuli.named_images import Batch
from brainrdl.teachers.controls import PermutedTeacher
from brainrdl.teachers.protocol import Teacher, kept_rdms, rdms_by_subject
from brainrdl.testing.rdm_teachers import check_teacher

N = 16
NAMES = tuple(f"n{i:02d}" for i in range(N))
TEST = NAMES[-6:]
ONE_FOLD = PredefinedSplit([-1] * (N - 6) + [0] * 6)
QUICK: dict[str, Any] = {"steps": 3, "lr": 0.05, "device": "cpu", "progress": False, "evaluate_every": 1}


class RatingsTeacher:
    """Each subject's rating of each condition; dissimilar is what is rated differently."""

    name, targets, uses_images = "ratings", ("size",), False

    def __init__(self, ratings: Mapping[str, Mapping[str, float]]) -> None:
        self._ratings = {subject: dict(rated) for subject, rated in ratings.items()}
        self.subjects = tuple(ratings)
        self.conditions = tuple(next(iter(ratings.values())))
        self._weigh_by = self.conditions

    def rdms(self, batch: Batch) -> dict[str, Tensor]:
        weights = torch.tensor([self._spread(subject) for subject in self.subjects], dtype=torch.float64)
        rows = torch.stack([self._pairs(subject, batch.names) for subject in self.subjects])
        return {"size": (weights / weights.sum() @ rows)[None].to(batch.images.device)}

    def _spread(self, subject: str) -> float:
        rated = [self._ratings[subject][name] for name in self._weigh_by]
        return max(rated) - min(rated)

    def _pairs(self, subject: str, names: Sequence[str]) -> Tensor:
        if unknown := set(names) - set(self.conditions):
            raise BrainrdlError(f"no rating of {sorted(unknown)}")
        rated = torch.tensor([self._ratings[subject][name] for name in names], dtype=torch.float64)
        i, j = torch.triu_indices(len(names), len(names), 1)
        return (rated[i] - rated[j]).abs()

    def select(self, names: Iterable[str], *, weigh_by: Iterable[str] | None = None) -> RatingsTeacher:
        kept = tuple(names)
        other = type(self)({s: {name: rated[name] for name in kept} for s, rated in self._ratings.items()})
        other._weigh_by = kept if weigh_by is None else tuple(weigh_by)
        return other

    def only_subjects(self, subjects: Iterable[str]) -> RatingsTeacher:
        other = type(self)({subject: self._ratings[subject] for subject in subjects})
        other._weigh_by = self._weigh_by
        return other

    def identity(self, names: Sequence[str]) -> dict[str, Any]:
        rated = {subject: [rated[name] for name in names] for subject, rated in self._ratings.items()}
        return {"ratings": rated, "weigh_by": [name for name in names if name in self._weigh_by]}


def ratings(seed: int = 0, subjects: Sequence[str] = ("s0", "s1", "s2")) -> dict[str, dict[str, float]]:
    values = np.random.default_rng(seed).random((len(subjects), N))
    return {
        subject: dict(zip(NAMES, map(float, row), strict=True)) for subject, row in zip(subjects, values, strict=True)
    }


def batch(names: Sequence[str] = NAMES) -> Batch:
    return Batch(tuple(names), torch.zeros(len(names), 1, 4, 4))


def stimuli() -> Stimuli:
    return Stimuli.from_arrays(torch.rand(N, 1, 4, 4, generator=torch.Generator().manual_seed(0)), NAMES)


def make_student() -> Student:
    torch.manual_seed(0)
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 8)), ["1"])


def as_rdm_teacher(rated: Mapping[str, Mapping[str, float]]) -> RDMTeacher:
    pairs = torch.cat([RatingsTeacher({"one": row}).rdms(batch())["size"] for row in rated.values()])
    subjects = {"subject": list(rated), "roi": ["size"] * len(rated)}
    return RDMTeacher(rdms.from_array(pairs.numpy(), NAMES, descriptors=subjects), name="ratings")


# The contract


def test_a_hand_written_teacher_keeps_the_contract_with_its_optional_members() -> None:
    check_teacher(RatingsTeacher(ratings()), batch())
    check_teacher(PermutedTeacher(RatingsTeacher(ratings())), batch())


class Uncut(RatingsTeacher):
    def select(self, names: Iterable[str], *, weigh_by: Iterable[str] | None = None) -> RatingsTeacher:
        return self


class Remembering(RatingsTeacher):
    """Lists only the selected names, but still answers for the others."""

    def select(self, names: Iterable[str], *, weigh_by: Iterable[str] | None = None) -> RatingsTeacher:
        other = Remembering(self._ratings)
        other._listed = tuple(names)  # type: ignore[attr-defined]
        return other

    @property  # type: ignore[override]
    def conditions(self) -> tuple[str, ...]:
        return getattr(self, "_listed", NAMES)

    @conditions.setter
    def conditions(self, names: tuple[str, ...]) -> None:
        pass

    def _pairs(self, subject: str, names: Sequence[str]) -> Tensor:
        if unknown := set(names) - set(NAMES):
            raise BrainrdlError(f"no rating of {sorted(unknown)}")
        rated = torch.tensor([self._ratings[subject][name] for name in names], dtype=torch.float64)
        i, j = torch.triu_indices(len(names), len(names), 1)
        return (rated[i] - rated[j]).abs()


class ByPosition(RatingsTeacher):
    def select(self, names: Iterable[str], *, weigh_by: Iterable[str] | None = None) -> RatingsTeacher:
        kept = tuple(names)
        return type(self)({s: dict(zip(kept, row.values(), strict=False)) for s, row in self._ratings.items()})


class Changed(RatingsTeacher):
    def select(self, names: Iterable[str], *, weigh_by: Iterable[str] | None = None) -> RatingsTeacher:
        cut = super().select(names, weigh_by=weigh_by)
        self._ratings[self.subjects[0]][self.conditions[0]] += 1.0
        return cut

    def only_subjects(self, subjects: Iterable[str]) -> RatingsTeacher:
        other = super().only_subjects(subjects)
        other._ratings = {subject: self._ratings[subject] for subject in other.subjects}
        return other


class AllSubjects(RatingsTeacher):
    def only_subjects(self, subjects: Iterable[str]) -> RatingsTeacher:
        asked = tuple(subjects)
        other = type(self)({subject: self._ratings[subject] for subject in asked})
        other._ratings, other.subjects = self._ratings, self.subjects
        return other


class Forgiving(RatingsTeacher):
    def only_subjects(self, subjects: Iterable[str]) -> RatingsTeacher:
        return super().only_subjects([s for s in subjects if s in self._ratings] or list(self.subjects))


class OneRDMPerWeight(RatingsTeacher):
    def rdms(self, batch: Batch) -> dict[str, Tensor]:
        return {"size": super().rdms(batch)["size"].repeat(2, 1)}


class OtherRDMs(RatingsTeacher):
    def subject_rdms(self, target: str) -> Any:
        pairs = torch.stack([self._pairs(subject, self.conditions) for subject in self.subjects])
        return rdms.from_array(pairs.flip(0).numpy(), self.conditions, descriptors={"subject": list(self.subjects)})


class Restless(RatingsTeacher):
    def identity(self, names: Sequence[str]) -> dict[str, Any]:
        self._asked = getattr(self, "_asked", 0) + 1
        return {"asked": self._asked}


class Wordy(RatingsTeacher):
    def identity(self, names: Sequence[str]) -> Any:
        return "ratings"


class Drifting(RatingsTeacher):
    def digest(self) -> str:
        self._asked = getattr(self, "_asked", 0) + 1
        return f"{self._asked:064x}"


class Squinting(RatingsTeacher):
    view = "augmented"


class Listless(RatingsTeacher):
    """Answers for more names than it lists."""

    def __init__(self, rated: Mapping[str, Mapping[str, float]]) -> None:
        super().__init__(rated)
        self._known, self.conditions = self.conditions, self.conditions[1:]

    def _pairs(self, subject: str, names: Sequence[str]) -> Tensor:
        return RatingsTeacher(self._ratings)._pairs(subject, names)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Uncut, "has conditions"),
        (Remembering, "still answers for the other names"),
        (ByPosition, "changes its dissimilarities when restricted"),
        (Changed, "answers differently after `select`"),
        (AllSubjects, r"was asked for subjects \['s2', 's1', 's0'\]"),
        (Forgiving, "accepts an unknown subject"),
        (OneRDMPerWeight, "one RDM per target, got 2"),
        (OtherRDMs, "subject_rdms of .* disagree"),
        (Restless, "a different identity"),
        (Wordy, "must be a dict, got str"),
        (Drifting, r"digest\(\) of teacher 'ratings' must be a text, the same each time"),
        (Squinting, "view of teacher 'ratings' 'augmented' is not known"),
        (Listless, r"\['n00'\] are not in the conditions of teacher 'ratings'"),
    ],
)
def test_a_broken_optional_member_is_caught(broken: type[RatingsTeacher], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        check_teacher(broken(ratings()), batch())


# Who asks


@pytest.mark.parametrize("wrapped", [False, True])
def test_no_image_is_loaded_for_a_teacher_that_uses_none(wrapped: bool) -> None:
    teacher = RatingsTeacher(ratings())
    asked = PermutedTeacher(teacher) if wrapped else teacher
    names = batch().names
    found = rdms_by_subject(asked, names, lambda: pytest.fail("the images were loaded"))
    assert found["size"].subjects == teacher.subjects
    for subject, pairs in zip(teacher.subjects, found["size"].pairs, strict=True):
        expected = asked.only_subjects([subject]).rdms(batch())["size"][0]
        assert torch.equal(pairs, expected)


class Quiet:
    """Has the three members that every teacher has, and nothing else."""

    name, targets = "ratings", ("size",)

    def rdms(self, batch: Batch) -> dict[str, Tensor]:
        return RatingsTeacher(ratings()).rdms(batch)


def test_every_subject_has_its_rdm_whether_the_teacher_keeps_them_or_is_asked() -> None:
    asked = rdms_by_subject(RatingsTeacher(ratings()), TEST, lambda: batch(TEST))["size"]
    kept = rdms_by_subject(as_rdm_teacher(ratings()), TEST, lambda: batch(TEST))["size"]
    assert asked.subjects == kept.subjects == ("s0", "s1", "s2")
    assert torch.equal(asked.pairs, kept.pairs)
    assert rdms_by_subject(Quiet(), TEST, lambda: batch(TEST))["size"].subjects == ("0",)


def test_a_teacher_that_cannot_be_cut_to_one_rdm_per_subject_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="one RDM per target, got 2"):
        rdms_by_subject(OneRDMPerWeight(ratings()), TEST, lambda: batch(TEST))


# Training, scores, cross-validation


def losses_of(teacher: Teacher, **options: Any) -> list[float]:
    torch.manual_seed(0)
    return fit(make_student(), teacher, stimuli(), **QUICK, **options).history["rdm_loss"].tolist()[1:]


def test_a_fit_cuts_a_hand_written_teacher_down_and_weighs_its_subjects_by_training_conditions() -> None:
    changed = ratings()
    changed["s1"][NAMES[0]] = 100.0  # in the validation set: gives s1 nearly all weight, if it is not cut off
    changed["s1"][NAMES[-1]] = 100.0  # held out
    options = {"validation": NAMES[:4], "held_out": TEST}
    losses = losses_of(RatingsTeacher(ratings()), **options)
    assert losses == losses_of(RatingsTeacher(changed), **options)
    changed["s1"][NAMES[5]] = 100.0
    assert losses != losses_of(RatingsTeacher(changed), **options)


def test_a_hand_written_teacher_is_scored_like_the_same_rdms() -> None:
    torch.manual_seed(0)
    student = make_student()
    own, known = (
        evaluate(student, teacher, stimuli(), TEST).scores
        for teacher in (RatingsTeacher(ratings()), as_rdm_teacher(ratings()))
    )
    pd.testing.assert_frame_equal(own, known)
    assert set(known["subject"]) == {"", "s0", "s1", "s2"}


def cross_validated(teacher: Teacher, **options: Any) -> pd.DataFrame:
    options = {"folds": ONE_FOLD, "subjects": "leave-one-out", **QUICK, **options}
    return cross_validate(make_student, teacher, stimuli(), **options).scores


@pytest.mark.slow
def test_a_hand_written_teacher_is_held_out_by_subject_and_condition() -> None:
    other_subject, other_conditions = ratings(), ratings()
    other_subject["s2"] = ratings(seed=5)["s2"]
    for name in TEST:
        other_conditions["s0"][name] = 9.0
    scores, of_subject, of_conditions = (
        cross_validated(RatingsTeacher(rated)) for rated in (ratings(), other_subject, other_conditions)
    )
    fitted = scores.query("student == 'fitted' and comparator == 'corr'")
    assert fitted["subject"].tolist() == ["s0", "s1", "s2"]
    assert set(scores["against"]) == {"subjects"}

    def score(table: pd.DataFrame, student: str, subject: str) -> float:
        rows = table.query(f"student == '{student}' and comparator == 'corr' and subject == '{subject}'")
        return float(rows["score"].iloc[0])

    # s1 is scored against itself: what is said by s2 changes its student, what is said of held-out conditions does not
    assert score(scores, "fitted", "s1") != score(of_subject, "fitted", "s1")
    assert score(scores, "fitted", "s1") == score(of_conditions, "fitted", "s1")
    assert score(scores, "permuted", "s1") == score(of_conditions, "permuted", "s1")


def test_a_subject_cannot_be_held_out_of_a_teacher_that_lists_none() -> None:
    with pytest.raises(BrainrdlError, match="needs a teacher with at least 2 subjects"):
        cross_validated(Quiet())


def test_a_run_is_not_resumed_with_other_ratings(tmp_path: Path) -> None:
    fit(make_student(), RatingsTeacher(ratings()), stimuli(), out=tmp_path / "run", **QUICK)
    with pytest.raises(BrainrdlError, match="teacher_identity"):
        fit(make_student(), RatingsTeacher(ratings(seed=1)), stimuli(), out=tmp_path / "run", resume=True, **QUICK)


# Permuted


@pytest.mark.parametrize("make", [lambda: RatingsTeacher(ratings()), lambda: as_rdm_teacher(ratings())])
def test_a_permuted_teacher_is_cut_down_as_the_one_that_it_asks(make: Any) -> None:
    permuted = PermutedTeacher(make(), seed=3)
    check_teacher(permuted, batch())
    whole = permuted.only_subjects(["s1"]).rdms(batch(TEST))["size"]
    cut = permuted.only_subjects(["s1"]).select(TEST)
    assert cut.conditions == TEST
    torch.testing.assert_close(cut.rdms(batch(TEST))["size"], whole)
    for subject in ("s0", "s1"):
        rows = rdms_by_subject(permuted, TEST, lambda: batch(TEST))["size"]
        alone = permuted.only_subjects([subject]).rdms(batch(TEST))["size"]
        torch.testing.assert_close(rows.pairs[rows.subjects.index(subject)].to(alone), alone[0])


def test_subjects_of_a_permuted_teacher_can_be_held_out() -> None:
    scores = cross_validated(PermutedTeacher(RatingsTeacher(ratings()), seed=3))
    assert set(scores["subject"]) == {"s0", "s1", "s2"}


def test_a_permuted_teacher_has_no_members_that_the_one_it_asks_has_not() -> None:
    permuted = PermutedTeacher(Quiet(), NAMES)
    assert permuted.subjects == ()
    assert kept_rdms(permuted) == {}
    with pytest.raises(BrainrdlError, match="has no subjects"):
        permuted.only_subjects(["s0"])
    assert permuted.select(TEST).conditions == TEST
    with pytest.raises(BrainrdlError, match="not in the conditions kept"):
        permuted.select(TEST, weigh_by=NAMES)
