"""RDMTeacher: known RDMs by name, of subjects and targets, and how subjects are combined."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings, strategies as st
from rsatoolbox.rdm import RDMs

import brainrdl
from brainrdl._core.errors import BrainrdlError
from brainrdl.rdms.by_name import select
from brainrdl.rdms.conversion import from_array, to_tensor
from brainrdl.rdms.partial import comparable
from brainrdl.stimuli.named_images import Batch
from brainrdl.teachers.rdm_teacher import RDMTeacher
from brainrdl.testing.rdm_teachers import check_teacher

NAMES = ("face", "house", "cat", "dog", "tree")
N_PAIRS = 10


def batch(names: tuple[str, ...] = NAMES, step: int = 0) -> Batch:
    return Batch(names, torch.zeros(len(names), 1, 2, 2), None, step)


def values(n_rdms: int, seed: int = 0) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).random((n_rdms, N_PAIRS))


def brain(n_subjects: int = 3, targets: tuple[str, ...] = ("V1", "IT"), sessions: int = 1) -> RDMs:
    rows = [
        (f"sub-{subject}", target, session)
        for target in targets
        for subject in range(n_subjects)
        for session in range(sessions)
    ]
    descriptors = {key: [row[i] for row in rows] for i, key in enumerate(("subject", "roi", "session"))}
    return from_array(values(len(rows)), NAMES, descriptors=descriptors)


# Answers


@pytest.mark.parametrize("combine", ["mean", "reliability", "sample", "all"])
def test_rdm_teachers_keep_the_contract(combine: str) -> None:
    check_teacher(RDMTeacher(alike(), combine=combine), batch())


def alike(n_subjects: int = 4, noise: float = 0.3) -> RDMs:
    """Subjects who share an RDM, so that reliabilities are positive; the last is the noisiest."""
    rng = np.random.default_rng(1)
    shared = rng.random(N_PAIRS)
    rows = [shared + noise * (1 + 9 * (i == n_subjects - 1)) * rng.standard_normal(N_PAIRS) for i in range(n_subjects)]
    return from_array(np.abs(rows), NAMES, descriptors={"subject": [f"s{i}" for i in range(n_subjects)]})


@settings(deadline=None, max_examples=30)
@given(st.permutations(NAMES), st.integers(2, 5))
def test_answers_follow_the_order_asked(order: list[str], n: int) -> None:
    rdms = from_array(values(1), NAMES)
    asked = tuple(order[:n])
    answer = RDMTeacher(rdms).rdms(batch(asked))["rdm"][0]
    first, second = np.triu_indices(n, 1)
    square = rdms.get_matrices()[0]
    expected = [square[NAMES.index(asked[i]), NAMES.index(asked[j])] for i, j in zip(first, second, strict=True)]
    np.testing.assert_allclose(answer.numpy(), expected, rtol=1e-6)


def test_targets_and_subjects_are_told_apart_by_descriptors() -> None:
    teacher = RDMTeacher(brain())
    assert teacher.targets == ("V1", "IT")
    assert teacher.subjects == ("sub-0", "sub-1", "sub-2")
    assert teacher.conditions == NAMES
    answer = teacher.rdms(batch())
    np.testing.assert_allclose(answer["V1"][0], values(6)[:3].mean(0), rtol=1e-6)
    np.testing.assert_allclose(answer["IT"][0], values(6)[3:].mean(0), rtol=1e-6)


def test_rdms_without_descriptors_are_subjects_or_targets_only_if_that_is_said() -> None:
    stack = from_array(values(3), NAMES)
    with pytest.raises(
        BrainrdlError, match=r"3 RDMs in teacher 'mine' are of target 'rdm', and no rdm descriptor 'subject' says whose"
    ) as refused:
        RDMTeacher(stack, name="mine")
    assert refused.value.advised == ("subject_by", "target_by")
    as_subjects, as_targets = RDMTeacher(stack, subject_by="index"), RDMTeacher(stack, target_by="index")
    assert (as_subjects.targets, as_subjects.subjects) == (("rdm",), ("0", "1", "2"))
    assert (as_targets.targets, as_targets.subjects) == (("0", "1", "2"), ("0",))
    alone = RDMTeacher(from_array(values(1), NAMES))
    assert (alone.targets, alone.subjects) == (("rdm",), ("0",))


def test_other_descriptors_can_be_chosen() -> None:
    rdms = from_array(values(4), NAMES, by="image", descriptors={"area": ["A", "A", "B", "B"], "who": [1, 2, 1, 2]})
    teacher = RDMTeacher(rdms, by="image", target_by="area", subject_by="who")
    assert teacher.targets == ("A", "B")
    assert teacher.subjects == ("1", "2")
    assert teacher.conditions == NAMES
    assert teacher.subject_rdms("B").rdm_descriptors["who"] == ["1", "2"]
    assert list(teacher.combined("B").pattern_descriptors["image"]) == list(NAMES)


def test_sessions_are_targets_unless_a_subject_is_to_be_averaged_over_them() -> None:
    described = {"subject": ["a", "a", "b", "b"], "session": [1, 2, 1, 2], "name": list("wxyz")}
    rdms = from_array(values(4), NAMES, descriptors=described)[[0, 1, 2]]
    assert RDMTeacher(rdms).targets == ("1", "2")
    answer = RDMTeacher(rdms, average_over="session").rdms(batch())["rdm"][0]
    # Averaging all three at once would count subject a twice.
    np.testing.assert_allclose(answer, (values(4)[:2].mean(0) + values(4)[2]) / 2, rtol=1e-6)


def test_rdms_of_one_subject_that_nothing_distinguishes_are_not_averaged_in_silence() -> None:
    rdms = from_array(values(3), NAMES, descriptors={"subject": ["a", "a", "b"]})
    with pytest.raises(BrainrdlError, match=r"2 RDMs in teacher 'RDMs' are of subject 'a' .*average_over='index'"):
        RDMTeacher(rdms)
    assert RDMTeacher(rdms, average_over="index").subjects == ("a", "b")


def test_the_same_names_are_looked_up_once_and_others_anew() -> None:
    teacher = RDMTeacher(brain())
    first = teacher.rdms(batch())["V1"]
    assert teacher.rdms(batch(step=3))["V1"] is first
    other = teacher.rdms(batch(NAMES[::-1]))["V1"]
    torch.testing.assert_close(other, first.flip(1)[:, _flipped_positions()])
    torch.testing.assert_close(teacher.rdms(batch())["V1"], first)


def _flipped_positions() -> list[int]:
    """Position of the pair of reversed conditions in the reversed list of pairs."""
    pairs = list(zip(*np.triu_indices(5, 1), strict=True))
    return [N_PAIRS - 1 - pairs.index((4 - j, 4 - i)) for i, j in pairs]


def test_an_answer_combines_subjects_once_and_then_reads_only_the_pairs_of_the_batch(operations) -> None:
    n, n_batch = 60, 10
    names = [f"c{i}" for i in range(n)]
    given = from_array(np.random.default_rng(0).random((8, n * (n - 1) // 2)), names)
    images = torch.zeros(n_batch, 1, 1, 1)
    first, second = (Batch(tuple(names[i : i + n_batch]), images, None) for i in (0, 20))
    with operations() as combining:
        teacher = RDMTeacher(given, subject_by="index")
        teacher.rdms(first)
    with operations() as reading:
        teacher.rdms(second)
    with operations() as repeating:
        teacher.rdms(second)
    assert combining.largest >= n * (n - 1) / 2
    assert reading.largest <= n_batch * (n_batch - 1)  # row and column of each pair
    assert not repeating.made


# Descriptors


@pytest.mark.parametrize("option", ["target_by", "subject_by"])
def test_a_descriptor_that_is_not_there_is_refused_with_the_nearest(option: str) -> None:
    with pytest.raises(
        BrainrdlError,
        match=rf"{option} 'sesion' is not an rdm descriptor of teacher 'mine' \(there are: subject, roi, session, "
        r"index\); nearest: 'session'",
    ):
        RDMTeacher(brain(), name="mine", **{option: "sesion"})


def test_sessions_of_nobody_in_particular_are_not_subjects_unless_that_is_asked_for() -> None:
    sessions = {"roi": ["V1", "V1", "IT", "IT"], "session": [1, 2, 1, 2]}
    rdms = from_array(values(4), NAMES, descriptors=sessions)
    assert RDMTeacher(rdms).targets == ("V1 / 1", "V1 / 2", "IT / 1", "IT / 2")
    assert RDMTeacher(rdms).subject_rdms("IT / 2").rdm_descriptors["session"] == [2]
    assert RDMTeacher(rdms, subject_by="session").subjects == ("1", "2")


# NaN


def test_a_pair_no_subject_knows_stays_nan_and_one_that_some_know_is_their_mean() -> None:
    pairs = values(2)
    pairs[0, 3] = pairs[0, 5] = pairs[1, 5] = np.nan
    answer = RDMTeacher(from_array(pairs, NAMES), subject_by="index").rdms(batch())["rdm"][0].numpy()
    assert np.isnan(answer[5])
    assert np.isnan(answer).sum() == 1
    assert answer[3] == pytest.approx(float(comparable(torch.tensor(pairs))[1, 3]))


def test_a_subject_with_nothing_but_nan_is_refused_by_name() -> None:
    pairs = values(2)
    # Subject b knows only pairs with the tree.
    pairs[1, [0, 1, 2, 4, 5, 7]] = np.nan
    teacher = RDMTeacher(from_array(pairs, NAMES, descriptors={"subject": ["a", "b"]}), name="mine")
    with pytest.raises(
        BrainrdlError, match=r"subject 'b' has only NaN at target 'rdm' of teacher 'mine' .*only_subjects"
    ):
        teacher.select(NAMES[:4])
    assert teacher.only_subjects(["a"]).select(NAMES[:4]).subjects == ("a",)


def two_halves() -> RDMs:
    """Subjects a and b, who know the pairs of the first three conditions and the others, and share one pair."""
    pairs = values(2)
    pairs[0, [2, 3, 5, 6, 7, 8, 9]] = np.nan  # a knows face, house and cat
    pairs[1, [1, 4]] = np.nan  # b all the rest, and face-house
    return from_array(pairs, NAMES, descriptors={"subject": ["a", "b"]})


@pytest.mark.parametrize("combine", ["mean", "reliability"])
def test_a_target_left_with_one_known_pair_is_refused(combine: str) -> None:
    pairs = values(2)
    pairs[:, 1:] = np.where(np.arange(1, N_PAIRS) < 8, np.nan, pairs[:, 1:])  # face-house, cat-tree and dog-tree
    teacher = RDMTeacher(from_array(pairs, NAMES), name="mine", subject_by="index", combine=combine)
    message = "the mean RDM at target 'rdm' of teacher 'mine' has 1 of the 6 pairs of these conditions, but at least 2"
    with pytest.raises(BrainrdlError, match=message):
        teacher.select(NAMES[:4])
    with pytest.raises(BrainrdlError, match="has 1 of the 1 pairs"):
        teacher.select(NAMES[:2])


@pytest.mark.parametrize("combine", ["sample", "all"])
def test_a_subject_who_answers_alone_must_know_enough_alone(combine: str) -> None:
    kept = ("face", "house", "dog")
    assert RDMTeacher(two_halves()).select(kept).conditions == kept
    with pytest.raises(BrainrdlError, match="the RDM of subject 'a' at target 'rdm' of teacher 'RDMs' has 1 of the 3"):
        RDMTeacher(two_halves(), combine=combine).select(kept)


def test_an_answer_that_is_constant_is_refused_also_where_no_rdm_is() -> None:
    opposite = from_array(np.stack([values(1)[0], 1 - values(1)[0]]), NAMES)
    with pytest.raises(BrainrdlError, match=r"the mean RDM at .* is constant for these conditions: .* pair is 0\.5"):
        RDMTeacher(opposite, subject_by="index")
    assert RDMTeacher(opposite, subject_by="index", combine="all").subjects == ("0", "1")
    same = values(1)
    same[0, [0, 1, 4]] = 0.25
    with pytest.raises(BrainrdlError, match=r"constant for these conditions: every known pair is 0\.25"):
        RDMTeacher(from_array(same, NAMES)).select(NAMES[:3])


@pytest.mark.parametrize(("fill", "message"), [(np.nan, "only NaN"), (np.inf, "infinite"), (1.0, "constant")])
def test_an_rdm_that_says_nothing_is_refused_with_its_number(fill: float, message: str) -> None:
    rdms = from_array(values(2), NAMES)
    rdms.dissimilarities[1] = fill
    with pytest.raises(BrainrdlError, match=rf"RDM 1 \(of 2\) in teacher 'mine'.*{message}"):
        RDMTeacher(rdms, name="mine")


# Combining


def test_all_gives_every_subjects_rdm() -> None:
    answer = RDMTeacher(brain(targets=("V1",)), combine="all").rdms(batch())["V1"]
    np.testing.assert_allclose(answer, values(3), rtol=1e-6)


def test_sample_draws_one_subject_a_step_the_same_in_every_target() -> None:
    teacher = RDMTeacher(brain(), combine="sample", seed=4)
    everyone = RDMTeacher(brain(), combine="all").rdms(batch())
    drawn = []
    for step in range(60):
        answer = teacher.rdms(batch(step=step))
        rows = [int((everyone[target] == answer[target]).all(1).nonzero()) for target in teacher.targets]
        assert rows[0] == rows[1]
        assert answer["V1"].shape == (1, N_PAIRS)
        drawn.append(rows[0])
    assert min(drawn.count(subject) for subject in range(3)) > 8
    again = [teacher.rdms(batch(step=step)) for step in range(3)]
    assert all(torch.equal(one["V1"][0], everyone["V1"][row]) for one, row in zip(again, drawn, strict=False))


def test_samples_follow_the_seed() -> None:
    teachers = [RDMTeacher(brain(), combine="sample", seed=seed) for seed in (1, 2)]
    answers = [torch.cat([teacher.rdms(batch(step=step))["V1"] for step in range(20)]) for teacher in teachers]
    assert not torch.equal(*answers)


def test_reliability_weights_are_correlations_with_the_mean_of_the_others() -> None:
    rdms = alike()
    rows = rdms.dissimilarities
    weights = [max(0, np.corrcoef(rows[i], np.delete(rows, i, axis=0).mean(0))[0, 1]) for i in range(len(rows))]
    answer = RDMTeacher(rdms, combine="reliability").rdms(batch())["rdm"][0]
    np.testing.assert_allclose(answer, np.average(rows, axis=0, weights=weights), rtol=1e-5)
    assert weights[-1] < min(weights[:-1])


def test_reliability_weights_use_only_the_conditions_the_teacher_holds() -> None:
    rdms, kept = alike(), ("dog", "cat", "face", "house")
    alone = RDMTeacher(select(rdms, kept), combine="reliability").rdms(batch(kept))["rdm"]
    whole = RDMTeacher(rdms, combine="reliability")
    torch.testing.assert_close(whole.select(kept).rdms(batch(kept))["rdm"], alone)
    assert not torch.allclose(whole.rdms(batch(kept))["rdm"], alone)


def test_one_subject_alone_needs_no_reliability() -> None:
    answer = RDMTeacher(from_array(values(1), NAMES), combine="reliability").rdms(batch())["rdm"]
    np.testing.assert_allclose(answer, values(1), rtol=1e-6)


def test_subjects_who_do_not_agree_have_no_reliability_weights() -> None:
    opposite = np.stack([values(1)[0], 1 - values(1)[0] ** 2])
    with pytest.raises(BrainrdlError, match=r"no subject's RDM of target 'rdm' .* use combine='mean'"):
        RDMTeacher(from_array(opposite, NAMES), subject_by="index", combine="reliability").rdms(batch())


def test_an_unknown_combination_is_refused_with_the_nearest() -> None:
    with pytest.raises(BrainrdlError, match="combine 'means' is not known; nearest: 'mean'"):
        RDMTeacher(brain(), combine="means")


# Parts of a teacher


def test_select_keeps_the_requested_order_and_answers_as_before() -> None:
    teacher, kept = RDMTeacher(brain()), ("dog", "face", "tree")
    part = teacher.select(kept)
    assert part.conditions == kept
    assert teacher.conditions == NAMES
    torch.testing.assert_close(part.rdms(batch(kept)), teacher.rdms(batch(kept)))
    with pytest.raises(BrainrdlError, match=r"\['cat'\] are not in teacher"):
        part.rdms(batch(("cat", "dog", "face")))


def test_only_subjects_keeps_those_in_the_order_given() -> None:
    teacher = RDMTeacher(brain(), combine="all").only_subjects(["sub-2", "sub-0"])
    assert teacher.subjects == ("sub-2", "sub-0")
    np.testing.assert_allclose(teacher.rdms(batch())["V1"], values(6)[[2, 0]], rtol=1e-6)
    assert teacher.only_subjects("sub-0").subjects == ("sub-0",)


def test_subjects_that_are_not_there_are_refused_with_the_nearest() -> None:
    with pytest.raises(
        BrainrdlError, match=r"subjects \['sub-9'\] are not in teacher 'mine' \(3 subjects\); nearest: 's"
    ):
        RDMTeacher(brain(), name="mine").only_subjects(["sub-0", "sub-9"])
    twins = from_array(values(2), NAMES, descriptors={"subject": ["anna", "ann"]})
    with pytest.raises(BrainrdlError, match=r"\['annn'\] are not in teacher 'RDMs' \(2 subjects\); nearest: 'ann'$"):
        RDMTeacher(twins).only_subjects(["anna", "annn"])  # anna is spoken for
    rdms = from_array(values(2), NAMES, descriptors={"roi": ["V1", "IT"], "subject": ["a", "b"]})
    with pytest.raises(BrainrdlError, match=r"none of the subjects \['a'\] has an RDM of target 'IT'"):
        RDMTeacher(rdms).only_subjects(["a"])


def test_subject_rdms_are_uncombined_with_sessions_averaged() -> None:
    rdms = RDMTeacher(brain(sessions=2, targets=("IT",)), average_over="session").subject_rdms("IT")
    assert rdms.rdm_descriptors["subject"] == ["sub-0", "sub-1", "sub-2"]
    assert rdms.rdm_descriptors["roi"] == ["IT"] * 3
    np.testing.assert_allclose(rdms.dissimilarities, values(6).reshape(3, 2, -1).mean(1))


@pytest.mark.parametrize("combine", ["mean", "sample", "all"])
def test_combined_is_the_mean_over_subjects(combine: str) -> None:
    rdms = RDMTeacher(brain(), combine=combine).combined("IT")
    np.testing.assert_allclose(rdms.dissimilarities, values(6)[3:].mean(0)[None])
    assert rdms.rdm_descriptors["roi"] == ["IT"]


def test_combined_is_weighted_with_reliability() -> None:
    teacher = RDMTeacher(alike(), combine="reliability")
    torch.testing.assert_close(to_tensor(teacher.combined("rdm")), teacher.rdms(batch())["rdm"])


def test_an_unknown_target_is_refused_with_the_nearest() -> None:
    teacher = RDMTeacher(brain(), name="mine")
    for ask in (teacher.subject_rdms, teacher.combined):
        with pytest.raises(BrainrdlError, match="target of teacher 'mine' 'V2' is not known; nearest: 'V1'"):
            ask("V2")


# Names


def test_unknown_and_repeated_names_are_refused() -> None:
    teacher = RDMTeacher(brain(), name="mine")
    expected = r"conditions \['hause'\] are not in teacher 'mine' \(5 conditions\); nearest: 'house'"
    with pytest.raises(BrainrdlError, match=expected):
        teacher.rdms(batch(("face", "hause", "cat")))
    with pytest.raises(BrainrdlError, match=expected):
        teacher.select(["face", "hause", "cat"])
    for ask in (lambda names: teacher.rdms(batch(names)), teacher.select):
        with pytest.raises(
            BrainrdlError, match=r"\['cat'\] occur more than once in the conditions asked of teacher 'mine'"
        ):
            ask(("cat", "dog", "cat"))


def test_rdms_without_condition_names_are_refused() -> None:
    with pytest.raises(BrainrdlError, match="no pattern descriptor 'stimulus' that names their conditions"):
        RDMTeacher(RDMs(values(1)))


# Files


def test_a_file_is_read_and_lends_its_name(tmp_path: Path) -> None:
    squares = brain(targets=("V1",)).get_matrices()
    np.save(tmp_path / "visual_cortex.npy", squares)
    teacher = RDMTeacher(tmp_path / "visual_cortex.npy", names=list(NAMES), subject_by="index")
    assert teacher.name == "visual_cortex"
    assert teacher.conditions == NAMES
    np.testing.assert_allclose(teacher.rdms(batch())["rdm"][0], values(3).mean(0), rtol=1e-6)


def test_names_are_for_files_only() -> None:
    with pytest.raises(BrainrdlError, match="names= only applies to a file"):
        RDMTeacher(brain(), names=list(NAMES))


def test_what_is_not_rdms_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="rdms must be rsatoolbox RDMs, got ndarray; compute RDMs"):
        RDMTeacher(values(1))  # type: ignore[arg-type]


def test_repr_says_what_it_holds() -> None:
    expected = "RDMTeacher('mine', targets=['V1', 'IT'], 3 subjects, 5 conditions, combine='mean')"
    assert repr(RDMTeacher(brain(), name="mine")) == expected


# Real data


def test_human_it_of_four_subjects_and_two_sessions_is_read_as_four_subjects(kriegeskorte92: Path) -> None:
    names = [f"image_{i:02d}" for i in range(1, 93)]
    path = kriegeskorte92 / "92_brainRDMs.mat"
    given = brainrdl.read(path, names=names)
    assert isinstance(given, RDMs)
    assert given.n_rdm == 8
    teacher = RDMTeacher(path, names=names, average_over="session")
    assert len(teacher.subjects) == 4
    assert teacher.conditions == tuple(names)
    (target,) = teacher.targets
    rdms = teacher.subject_rdms(target)
    assert rdms.n_rdm == 4
    of_first = [subject == given.rdm_descriptors["subject"][0] for subject in given.rdm_descriptors["subject"]]
    assert sum(of_first) == 2
    np.testing.assert_allclose(rdms.dissimilarities[0], given.dissimilarities[of_first].mean(0), rtol=1e-12)
    # The published finding: the subjects' human IT RDMs agree, so reliabilities are positive.
    check_teacher(
        RDMTeacher(path, names=names, average_over="session", combine="reliability"), batch(tuple(names[10:20]))
    )


def test_reliability_weights_come_from_the_conditions_to_weigh_by() -> None:
    names = [f"c{i}" for i in range(8)]
    pairs = np.random.default_rng(0).random(28) + 0.5 * np.random.default_rng(1).random((3, 28))
    teacher = RDMTeacher(from_array(pairs, names), subject_by="index", combine="reliability")
    known = torch.triu_indices(8, 8, 1).lt(5).all(0).numpy()
    r = [max(0, np.corrcoef(pairs[s][known], np.delete(pairs, s, 0).mean(0)[known])[0, 1]) for s in range(3)]
    expected = np.average(pairs, axis=0, weights=r)
    weighed = teacher.select(names, weigh_by=names[:5])
    assert weighed.combined("rdm").dissimilarities[0] == pytest.approx(expected)
    assert weighed.only_subjects(["2", "0", "1"]).combined("rdm").dissimilarities[0] == pytest.approx(expected)
    assert weighed.select(names).combined("rdm").dissimilarities[0] != pytest.approx(expected)
    assert weighed.identity(names)["weigh_by"] == names[:5]


def test_conditions_to_weigh_by_must_be_kept() -> None:
    teacher = RDMTeacher(from_array(np.arange(1.0, 7.0), list("abcd")), combine="reliability")
    with pytest.raises(BrainrdlError, match=r"conditions \['d'\] are not in the conditions kept of teacher 'RDMs'"):
        teacher.select("abc", weigh_by="abd")


USE_COPY = """
import pickle, sys, torch
from brainrdl.runs.fingerprint import hash_teacher
from brainrdl.stimuli import Batch
teacher = pickle.loads(bytes.fromhex(sys.argv[1])).select(["cat", "dog", "face"])
teacher.rdms(Batch(("dog", "cat"), torch.zeros(2, 1, 2, 2)))
assert hash_teacher(teacher)
assert "rsatoolbox" not in sys.modules
"""


@pytest.mark.slow
def test_a_copy_in_a_worker_teaches_without_loading_rsatoolbox() -> None:
    """It takes as long to load as torch, in each process."""
    copied = pickle.dumps(RDMTeacher(brain())).hex()
    done = subprocess.run([sys.executable, "-c", USE_COPY, copied], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
