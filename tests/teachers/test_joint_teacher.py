"""JointTeacher: several brains with their own stimuli, as one teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from brainrdl import RDMLoss, Student, cross_validate, evaluate, fit
from brainrdl._core.errors import BrainrdlError
from brainrdl.dissimilarity.pairs import to_square
from brainrdl.rdms.conversion import from_array
from brainrdl.stimuli.joining import join_stimuli
from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.teachers.controls import control
from brainrdl.teachers.feature_teacher import FeatureTeacher
from brainrdl.teachers.joint_teacher import JointTeacher
from brainrdl.teachers.network_teacher import NetworkTeacher
from brainrdl.teachers.protocol import strata_of
from brainrdl.teachers.rdm_teacher import RDMTeacher
from brainrdl.testing.rdm_teachers import check_teacher

HUMAN = tuple(f"h{i}" for i in range(8))
MONKEY = tuple(f"m{i}" for i in range(6))
QUICK = {"steps": 5, "device": "cpu", "progress": False}


def brain(names: tuple[str, ...], seed: int, subjects: tuple[str, ...], rois: tuple[str, ...] = ("IT",)) -> RDMTeacher:
    rows = [(subject, roi) for roi in rois for subject in subjects]
    pairs = np.random.default_rng(seed).random((len(rows), len(names) * (len(names) - 1) // 2))
    described = {"subject": [row[0] for row in rows], "roi": [row[1] for row in rows]}
    return RDMTeacher(from_array(pairs, names, descriptors=described))


def human() -> RDMTeacher:
    return brain(HUMAN, 0, ("s1", "s2"), ("V1", "IT"))


def monkey() -> RDMTeacher:
    return brain(MONKEY, 1, ("m1", "m2", "m3"))


def both() -> JointTeacher:
    return JointTeacher({"human": human(), "monkey": monkey()})


def batch(names: tuple[str, ...] = HUMAN + MONKEY) -> Batch:
    return Batch(names, torch.zeros(len(names), 1, 2, 2), None)


def stimuli() -> Stimuli:
    pixels = torch.rand(14, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return join_stimuli(Stimuli.from_arrays(pixels[:8], HUMAN), Stimuli.from_arrays(pixels[8:], MONKEY))


def student(**options: object) -> Student:
    torch.manual_seed(0)
    layers = {"1": "human/IT", "2": "monkey/IT"}
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 8)), options.pop("layers", layers))  # type: ignore[arg-type]


def test_joint_teachers_keep_the_contract() -> None:
    check_teacher(both(), batch())
    check_teacher(control("permuted", teacher=both(), seed=1), batch())
    features = FeatureTeacher(np.random.default_rng(0).normal(size=(6, 9)), names=MONKEY)
    check_teacher(JointTeacher({"human": human(), "words": features}), batch())


def test_each_brain_answers_for_its_pairs_and_the_others_are_unknown() -> None:
    asked = ("m3", "h1", "h5", "m0", "m1", "h0")
    answer = both().rdms(batch(asked))
    assert both().targets == tuple(answer) == ("human/V1", "human/IT", "monkey/IT")
    square = to_square(answer["human/IT"])[0]
    own = human().rdms(batch(("h1", "h5", "h0")))["IT"]
    torch.testing.assert_close(square[[1, 2, 5]][:, [1, 2, 5]], to_square(own)[0])
    assert square[[0, 3, 4]][:, [1, 2, 5]].isnan().all()
    assert int(answer["human/IT"].isnan().sum()) == 15 - 3


def test_conditions_that_two_brains_know_are_joined() -> None:
    names = ("a", "b", "c", "d", "e")
    joint = JointTeacher({"one": brain(names[:4], 0, ("x",)), "two": brain(names[1:], 1, ("x",))})
    assert joint.conditions == names
    check_teacher(joint, batch(names))
    answer = joint.rdms(batch(names))
    assert [int(pairs.isnan().sum()) for pairs in answer.values()] == [4, 4]


def test_a_brain_with_too_few_conditions_left_keeps_its_targets() -> None:
    kept = both().select([*HUMAN[:5], "m2", "m1"])
    answer = kept.rdms(batch(kept.conditions))
    assert tuple(answer) == both().targets
    assert answer["monkey/IT"].isnan().all()
    assert not answer["human/V1"].isnan().all()
    assert strata_of(kept, kept.conditions) == {"human": HUMAN[:5], "monkey": ("m2", "m1")}


def test_subjects_are_those_of_their_brain() -> None:
    joint = both()
    assert joint.subjects == ("human/s1", "human/s2", "monkey/m1", "monkey/m2", "monkey/m3")
    one = joint.only_subjects(["human/s2"])
    expected = human().only_subjects(["s2"]).rdms(batch(HUMAN))["V1"]
    torch.testing.assert_close(one.rdms(batch(HUMAN))["human/V1"], expected)
    assert one.rdms(batch())["monkey/IT"].isnan().all()
    with pytest.raises(BrainrdlError, match=r"\['human/m1'\] are not in teacher 'human \+ monkey'; nearest: '"):
        joint.only_subjects(["human/m1"])


def test_images_are_given_to_teachers_that_use_them() -> None:
    net = NetworkTeacher(nn.Sequential(nn.Flatten()), ["0"], stimuli=stimuli().select(MONKEY))
    joint = JointTeacher({"human": human(), "net": net})
    assert not joint.uses_images
    torch.testing.assert_close(joint.rdms(batch(MONKEY))["net/0"], net.rdms(batch(MONKEY))["0"])
    with pytest.raises(BrainrdlError, match="teacher 'net' lists no conditions"):
        JointTeacher({"human": human(), "net": NetworkTeacher(nn.Sequential(nn.Flatten()), ["0"])})


def test_what_cannot_be_joined_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="several teachers are needed, got 1"):
        JointTeacher({"human": human()})
    with pytest.raises(BrainrdlError, match="label 'human/a' contains '/'"):
        JointTeacher({"human/a": human(), "b": monkey()})
    with pytest.raises(BrainrdlError, match=r"\['x'\] are not in teacher 'human \+ monkey'"):
        both().rdms(batch(("h0", "h1", "x")))


def test_permuted_names_stay_in_their_brain() -> None:
    permuted = control("permuted", teacher=both(), seed=1)
    before, after = (one.rdms(batch())["human/IT"][0] for one in (both(), permuted))
    assert torch.equal(before.isnan(), after.isnan())
    assert not torch.equal(before.nan_to_num(), after.nan_to_num())
    assert strata_of(permuted, HUMAN) == {"human": HUMAN, "monkey": ()}


# Fits and scores


@pytest.mark.slow
def test_a_student_approaches_two_brains() -> None:
    loss = RDMLoss(match={"1": "human/IT", "2": "monkey/IT"})
    result = fit(student(), both(), stimuli(), loss=loss, **(QUICK | {"steps": 150, "lr": 0.02}))
    scores = evaluate(result.student, both(), stimuli(), comparators=["corr"], intervals="none").summary
    fitted = scores[scores["against"] == "mean"].set_index("target")["score"]
    assert fitted.min() > 0.9
    assert set(fitted.index) == {"human/IT", "monkey/IT"}


def test_one_layer_approaches_the_targets_of_two_brains_with_weights() -> None:
    match = {"1": {"human/IT": 3.0, "monkey/IT": 1.0}}
    patterns = {"1": torch.rand(14, 5, generator=torch.Generator().manual_seed(0))}
    answer = both().rdms(batch())
    alone = [RDMLoss(match={"1": target})(patterns, answer) for target in match["1"]]
    torch.testing.assert_close(RDMLoss(match=match)(patterns, answer), 0.75 * alone[0] + 0.25 * alone[1])
    result = fit(student(layers=["1"]), both(), stimuli(), loss=RDMLoss(match=match), **QUICK)
    assert np.isfinite(result.history["rdm_loss"].iloc[-1])
    made = student(layers=match)
    torch.testing.assert_close(
        torch.tensor(fit(made, both(), stimuli(), **QUICK).history["rdm_loss"].iloc[-1]),
        torch.tensor(result.history["rdm_loss"].iloc[-1]),
    )


def test_scores_are_those_of_each_brain_on_its_own_conditions() -> None:
    found = evaluate(student(), both(), stimuli(), comparators=["corr"]).summary
    alone = evaluate(student(layers={"2": "IT"}), monkey(), stimuli(), MONKEY, comparators=["corr"]).summary
    for against in ("mean", "subjects"):
        one, other = (
            table[(table["target"] == target) & (table["against"] == against)].iloc[0]
            for table, target in ((found, "monkey/IT"), (alone, "IT"))
        )
        for column in ("score", "ceiling", "ceiling_lower", "ceiling_upper", "low", "high"):
            assert one[column] == pytest.approx(other[column], rel=1e-4, nan_ok=True), column


def test_a_joint_teacher_is_cross_validated() -> None:
    result = cross_validate(student, both(), stimuli(), folds=2, **QUICK)
    assert set(result.summary["target"]) == {"human/IT", "monkey/IT"}
    assert result.summary["score"].notna().all()


def test_a_fold_with_too_few_conditions_of_a_brain_is_not_scored_for_it() -> None:
    scores = evaluate(student(), both(), stimuli(), [*HUMAN[:6], *MONKEY[:2]], comparators=["corr"]).scores
    assert set(scores["target"]) == {"human/IT"}
    assert set(scores["n_conditions"]) == {6}
