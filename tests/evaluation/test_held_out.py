"""Evaluations: the same whatever the order of names, the same after a round trip to disk, and compared by name."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from brainrdl import RDMTeacher, Stimuli, Student, rdms
from brainrdl._core import progress
from brainrdl._core.errors import BrainrdlError
from brainrdl._core.rows import Role
from brainrdl.dissimilarity.measures import correlation
from brainrdl.evaluation.comparison import compare, rdm_labels
from brainrdl.evaluation.held_out import Evaluation, assemble, evaluate, teacher_rdms
from brainrdl.evaluation.scores import HeldOut, TeacherRDMs
from brainrdl.evaluation.simple_models import model_rdms
from brainrdl.stimuli.named_images import Batch

NAMES = [f"n{i:02d}" for i in range(10)]
LABELS = {name: "animal" if i < 5 else "thing" for i, name in enumerate(NAMES)}


def make_stimuli(labels: dict[str, str] | None = LABELS) -> Stimuli:
    images = torch.rand(len(NAMES), 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Stimuli.from_arrays(images, NAMES, labels=labels)


def make_student() -> Student:
    torch.manual_seed(0)
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 8)), ["1"])


def make_teacher(n_subjects: int = 3, **options: str) -> RDMTeacher:
    pairs = np.random.default_rng(1).random((n_subjects, 45))
    who = options.get("subject_by", "subject")
    return RDMTeacher(rdms.from_array(pairs, NAMES, descriptors={who: [f"s{s}" for s in range(n_subjects)]}), **options)


# evaluate


def test_a_student_is_scored_by_the_rdm_of_its_patterns() -> None:
    result = evaluate(make_student(), make_teacher(), make_stimuli(), comparators=["corr"])
    with torch.no_grad():
        own = correlation(make_student()(make_stimuli().images()).patterns["1"].double())
    row = result.summary.query("student == 'student' and against == 'mean'").iloc[0]
    mean = np.random.default_rng(1).random((3, 45)).mean(0)
    assert row["score"] == pytest.approx(np.corrcoef(own, mean)[0, 1], abs=1e-6)
    assert result.students.rdm_descriptors["student"][0] == "student"
    assert np.allclose(result.students.dissimilarities[0], own, atol=1e-6)
    assert np.allclose(result.teacher.dissimilarities[0], mean)


def test_the_order_of_names_does_not_matter() -> None:
    shuffled = [NAMES[i] for i in np.random.default_rng(2).permutation(10)]
    results = [
        evaluate(make_student(), make_teacher().select(order), make_stimuli().select(shown), asked)
        for order, shown, asked in [(NAMES, NAMES, NAMES), (shuffled, NAMES, NAMES), (NAMES, shuffled, shuffled)]
    ]
    for other in results[1:]:
        pd.testing.assert_frame_equal(other.scores, results[0].scores, rtol=1e-5)
        pd.testing.assert_frame_equal(other.summary, results[0].summary, rtol=1e-4)


def test_only_the_asked_conditions_are_scored() -> None:
    asked = NAMES[3:9]
    result = evaluate(make_student(), make_teacher(), make_stimuli(), asked)
    alone = evaluate(make_student(), make_teacher().select(asked), make_stimuli().select(asked))
    pd.testing.assert_frame_equal(result.summary, alone.summary, rtol=1e-5)
    assert set(result.summary["n_stimuli"]) == {6}
    assert rdms.names(result.teacher) == tuple(asked)
    assert result.labels == {name: LABELS[name] for name in asked}


def test_categories_and_models_stand_beside_the_student() -> None:
    model = rdms.from_array(np.arange(45.0), NAMES)
    result = evaluate(make_student(), make_teacher(), make_stimuli(), models={"size": model})
    roles = result.summary.drop_duplicates("student").set_index("student")["role"].to_dict()
    assert roles == {"student": "student", "category": "category", "size": "model"}
    partial = result.summary[result.summary.comparator == "partial spearman"]
    assert partial["student"].tolist() == ["student"]


def test_categories_that_tell_no_pair_apart_make_no_model() -> None:
    asked = tuple(NAMES[:5])  # animals all
    assert model_rdms({}, LABELS, ["IT"], asked, seed=0, fold=0) == []
    each_its_own = {name: name for name in NAMES}
    assert model_rdms({}, each_its_own, ["IT"], asked, seed=0, fold=0) == []


def test_without_labels_there_is_no_category_model() -> None:
    result = evaluate(make_student(), make_teacher(), make_stimuli(labels=None))
    assert set(result.summary["student"]) == {"student"}
    assert result.labels is None


def test_every_subject_is_known_by_its_name_whatever_the_descriptors_are_called() -> None:
    truth = teacher_rdms(make_teacher(subject_by="participant"), make_stimuli(), NAMES, ["rdm"])
    assert truth["rdm"].subjects == ("s0", "s1", "s2")
    # in the precision of the data: float32 would tie what differs
    assert torch.equal(truth["rdm"].pairs, torch.tensor(np.random.default_rng(1).random((3, 45))))


def test_a_teacher_without_subjects_is_asked_for_its_rdms() -> None:
    class Answer:
        name, targets = "answer", ("a", "b")

        def rdms(self, batch: Batch) -> dict[str, torch.Tensor]:
            assert batch.names == tuple(NAMES)
            return {"a": torch.rand(2, 45), "b": torch.rand(1, 45)}

    truth = teacher_rdms(Answer(), make_stimuli(), NAMES, ["a", "b"])
    assert {target: rows.subjects for target, rows in truth.items()} == {"a": ("0", "1"), "b": ("0",)}


def test_each_layer_is_scored_against_its_own_target() -> None:
    pairs = np.random.default_rng(3).random((2, 45))
    teacher = RDMTeacher(rdms.from_array(pairs, NAMES, descriptors={"roi": ["V1", "IT"]}))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 6))
    result = evaluate(Student(network, {"1": "V1", "2": "IT"}), teacher, make_stimuli())
    told = result.summary[result.summary.student == "student"][["layer", "target"]].drop_duplicates()
    assert told.to_numpy().tolist() == [["1", "V1"], ["2", "IT"]]
    assert result.teacher.rdm_descriptors["target"] == ["V1", "IT"]
    assert np.allclose(result.teacher.dissimilarities, pairs)


@pytest.mark.parametrize("names", [[], NAMES[:3]])
def test_fewer_than_four_conditions_are_refused(names: list[str]) -> None:
    with pytest.raises(BrainrdlError, match=rf"scoring needs at least 4 conditions, got {len(names)}"):
        evaluate(make_student(), make_teacher(), make_stimuli(), names)


@pytest.mark.parametrize("options", [{"n_bootstrap": -1}, {"n_bootstrap": 10.0}, {"seed": 0.5}, {"seed": 2**32}])
def test_numbers_that_are_not_whole_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(BrainrdlError, match=rf"{next(iter(options))} must be a whole number, at least 0"):
        evaluate(make_student(), make_teacher(), make_stimuli(), **options)  # type: ignore[arg-type]


def test_a_seed_may_be_numpys() -> None:
    seed, plain = (evaluate(make_student(), make_teacher(), make_stimuli(), seed=s) for s in (np.int64(3), 3))  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(seed.summary, plain.summary)


def test_a_model_with_unknown_pairs_is_refused() -> None:
    pairs = np.random.default_rng(0).random(45)
    pairs[3] = np.nan
    with pytest.raises(BrainrdlError, match=r"model 'gappy' has 1 unknown \(NaN\) pairs of 45"):
        evaluate(make_student(), make_teacher(), make_stimuli(), models={"gappy": rdms.from_array(pairs, NAMES)})


@pytest.mark.parametrize("name", ["student", "category"])
def test_a_model_with_the_name_of_another_row_is_refused(name: str) -> None:
    model = rdms.from_array(np.random.default_rng(0).random(45), NAMES)
    with pytest.raises(BrainrdlError, match=rf"\['{name}'\] occur more than once in the rows of the evaluation"):
        evaluate(make_student(), make_teacher(), make_stimuli(), models={name: model})


def test_scoring_needs_a_comparator() -> None:
    with pytest.raises(BrainrdlError, match="comparators= should name at least one similarity, got none"):
        evaluate(make_student(), make_teacher(), make_stimuli(), comparators=[])


def test_a_model_of_several_rdms_is_refused() -> None:
    two = rdms.from_array(np.random.default_rng(0).random((2, 45)), NAMES)
    with pytest.raises(BrainrdlError, match="model 'two' should be one RDM, got 2"):
        evaluate(make_student(), make_teacher(), make_stimuli(), models={"two": two})


def test_unknown_names_are_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"conditions \['n10'\] are not in"):
        evaluate(make_student(), make_teacher(), make_stimuli(), [*NAMES[:5], "n10"])


def test_held_out_rdms_are_gathered_by_name_and_unknown_between_folds() -> None:
    pairs = torch.rand(45, dtype=torch.float64)
    truth = TeacherRDMs("IT", tuple(NAMES), ("s0",), pairs[None])
    folds = [(NAMES[7], NAMES[0], NAMES[4], NAMES[9]), (NAMES[2], NAMES[1], NAMES[8], NAMES[3])]
    rows = [
        HeldOut(
            student="a", role=Role.STUDENT, layer="1", target="IT", fold=fold, names=names, pairs=truth.of(names)[0]
        )
        for fold, names in enumerate(folds)
    ]
    result = assemble(rows, {"IT": truth}, ["corr"], "none", None, 0)
    together = {frozenset(pair) for names in folds for pair in combinations(names, 2)}
    known = torch.tensor([frozenset(pair) in together for pair in combinations(NAMES, 2)])
    expected = torch.where(known, pairs, torch.nan)
    assert np.array_equal(result.students.dissimilarities[0], expected, equal_nan=True)
    assert result.students.pattern_descriptors["fold of seed 0"] == [0, 1, 1, 1, 0, -1, -1, 0, 1, 0]


def test_folds_that_share_conditions_have_no_numbers() -> None:
    pairs = torch.rand(45, dtype=torch.float64)
    truth = TeacherRDMs("IT", tuple(NAMES), ("s0",), pairs[None])
    rows = [
        HeldOut(student="a", role=Role.STUDENT, target="IT", fold=fold, names=names, pairs=truth.of(names)[0])
        for fold, names in enumerate((tuple(NAMES[:5]), tuple(NAMES[4:])))
    ]
    assert "fold of seed 0" not in assemble(rows, {"IT": truth}, ["corr"], "none", None, 0).students.pattern_descriptors


# Saving and loading


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Evaluation, Path]:
    pairs = np.random.default_rng(1).random((2, 45)) / 3
    subjects = {"subject": ["NA", "01"]}  # words that pandas would read as a missing value and as a number
    teacher = RDMTeacher(rdms.from_array(pairs, NAMES, descriptors=subjects))
    result = evaluate(make_student(), teacher, make_stimuli())
    result.histories = pd.DataFrame(
        {"student": ["fitted"], "step": [0], "loss": [1 / 3], "validation_similarity": [math.nan]}
    )
    return result, result.save(tmp_path / "run")


def test_an_evaluation_comes_back_from_disk_as_it_was(saved: tuple[Evaluation, Path]) -> None:
    result, folder = saved
    again = Evaluation.load(folder)
    for table in ("scores", "summary", "histories"):
        pd.testing.assert_frame_equal(
            getattr(again, table), getattr(result, table), rtol=1e-14
        )  # older pandas round a digit
    for stack in ("teacher", "students"):
        before, after = getattr(result, stack), getattr(again, stack)
        assert np.array_equal(before.dissimilarities, after.dissimilarities, equal_nan=True)
        assert rdms.names(before) == rdms.names(after)
        described = {key: list(values) for key, values in before.rdm_descriptors.items()}
        assert {key: list(after.rdm_descriptors[key]) for key in described} == described
    assert list(again.students.pattern_descriptors["fold of seed 0"]) == [0] * len(NAMES)
    assert (again.labels, again.settings) == (result.labels, result.settings)
    assert again.scores["subject"].unique().tolist() == ["", "NA", "01"]


def test_an_evaluation_without_histories_comes_back(tmp_path: Path) -> None:
    result = evaluate(make_student(), make_teacher(), make_stimuli(labels=None))
    again = Evaluation.load(result.save(tmp_path))
    assert again.histories.empty
    assert again.labels is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("evaluation.json", "cannot read .*evaluation.json': No such file"),
        ("scores.csv", "cannot read .*scores.csv"),
        ("teacher.h5", "cannot read .*teacher.h5': No such file"),
    ],
)
def test_a_missing_file_is_named(saved: tuple[Evaluation, Path], name: str, message: str) -> None:
    _, folder = saved
    (folder / name).unlink()
    with pytest.raises(BrainrdlError, match=message):
        Evaluation.load(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("evaluation.json", b"{", "evaluation.json' is not JSON"),
        ("evaluation.json", b'{"other": 1}', "evaluation.json' has changed since it was written"),
        ("summary.csv", b"", r"summary.csv' has changed since it was written, or"),
        ("students.h5", b"not HDF5", "students.h5' has changed since it was written"),
    ],
)
def test_a_damaged_file_is_named(saved: tuple[Evaluation, Path], name: str, content: bytes, message: str) -> None:
    _, folder = saved
    (folder / name).write_bytes(content)
    with pytest.raises(BrainrdlError, match=message):
        Evaluation.load(folder)


@pytest.mark.parametrize("name", ["scores.csv", "summary.csv", "histories.csv", "teacher.h5", "students.h5"])
def test_a_file_that_is_cut_short_is_named_whatever_is_left_of_it(saved: tuple[Evaluation, Path], name: str) -> None:
    _, folder = saved
    whole = (folder / name).read_bytes()
    for kept in (whole[:-1], b"\n".join(whole.splitlines()[:1])):
        (folder / name).write_bytes(kept)
        with pytest.raises(
            BrainrdlError, match=rf"{name}' has changed since it was written, or .*; score the run again"
        ):
            Evaluation.load(folder)


def test_settings_are_written_in_words_that_json_knows(saved: tuple[Evaluation, Path]) -> None:
    result, folder = saved
    result.settings = {"optimizer": torch.optim.SGD, "seeds": (0, 1)}
    result.save(folder)
    stored = json.loads((folder / "evaluation.json").read_text())["settings"]
    assert stored == {"optimizer": "torch.optim.sgd.SGD", "seeds": [0, 1]}


# compare


def test_rdms_are_compared_by_name_as_in_rsatoolbox() -> None:
    from rsatoolbox.rdm import compare as theirs

    rng = np.random.default_rng(0)
    a = rdms.from_array(rng.random((2, 45)), NAMES, descriptors={"subject": ["s1", "s2"]})
    b = rdms.from_array(rng.random((3, 45)), NAMES, descriptors={"roi": ["V1", "V4", "IT"]})
    table = compare(a, rdms.select(b, NAMES[::-1]), ["spearman", "corr", "cosine", "tau-a"])
    assert table[["a", "b"]].drop_duplicates().to_numpy().tolist() == [
        [s, r] for s in ("s1", "s2") for r in ("V1", "V4", "IT")
    ]
    for comparator, part in table.groupby("comparator"):
        assert part["similarity"].to_numpy() == pytest.approx(theirs(a, b, comparator).flatten(), abs=1e-12)
    assert set(table["n_pairs"]) == {45}


def test_unknown_pairs_are_left_out_and_counted() -> None:
    pairs = np.random.default_rng(0).random((2, 45))
    holes = pairs.copy()
    holes[0, :4], holes[1, 2:6] = np.nan, np.nan
    a, b = (rdms.from_array(row, NAMES) for row in holes)
    row = compare(a, b, ["corr"]).iloc[0]
    assert row["n_pairs"] == 39
    assert row["similarity"] == pytest.approx(np.corrcoef(pairs[:, 6:])[0, 1])


def test_rdms_of_different_conditions_are_refused_or_cut_to_what_they_share() -> None:
    a = rdms.from_array(np.random.default_rng(0).random(45), NAMES)
    b = rdms.select(a, NAMES[2:])
    with pytest.raises(BrainrdlError, match="n00"):
        compare(a, b)
    table = compare(a, b, common=True)
    assert table["similarity"].tolist() == pytest.approx([1, 1])
    assert set(table["n_pairs"]) == {28}


def test_what_is_no_rdms_is_not_compared() -> None:
    a = rdms.from_array(np.random.default_rng(0).random(45), NAMES)
    for path in ("it.h5", Path("it.h5")):
        with pytest.raises(BrainrdlError, match=r"got the path 'it.h5'; read it first: brainrdl.read\('it.h5'\)"):
            compare(a, path)  # type: ignore[arg-type]
    with pytest.raises(BrainrdlError, match="compare expects rsatoolbox RDMs, got RDMTeacher"):
        compare(make_teacher(), a)  # type: ignore[arg-type]


def test_an_unknown_comparator_is_refused() -> None:
    a = rdms.from_array(np.random.default_rng(0).random(45), NAMES)
    with pytest.raises(BrainrdlError, match="comparator 'pearson' is not known"):
        compare(a, a, ["pearson"])


def test_rdms_are_called_by_their_descriptors_or_a_number() -> None:
    pairs = np.random.default_rng(0).random((2, 45))
    assert rdm_labels(rdms.from_array(pairs, NAMES)) == ["0", "1"]
    described = rdms.from_array(pairs, NAMES, descriptors={"subject": ["s1", "s2"], "roi": ["V1", ""]})
    assert rdm_labels(described) == ["s1 V1", "s2"]
    named = rdms.from_array(pairs, NAMES, descriptors={"name": ["first", "second"], "roi": ["V1", "V2"]})
    assert rdm_labels(named) == ["first", "second"]


def test_a_slow_evaluation_shows_progress_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_AFTER", -1.0)
    given = make_student(), make_teacher(), make_stimuli()
    evaluate(*given, comparators=["corr"], intervals="none")
    shown = capsys.readouterr()
    assert "patterns" in shown.err
    assert "scores" in shown.err
    assert shown.out == ""
    evaluate(*given, comparators=["corr"], intervals="none", progress=False)
    assert capsys.readouterr().err == ""
