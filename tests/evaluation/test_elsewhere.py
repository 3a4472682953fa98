"""Scores on other images: which images count as seen, and that the scores are those of `evaluate`."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn

from brainrdl import BrainrdlError, RDMTeacher, Stimuli, Student, evaluate, rdms
from brainrdl.evaluation import evaluate_elsewhere, seen_images

NAMES = list("abcdef")


def _images(names: list[str], seed: int, size: int = 24) -> Stimuli:
    generator = torch.Generator().manual_seed(seed)
    return Stimuli.from_arrays(torch.rand(len(names), 1, size, size, generator=generator), names)


def _student(match: dict[str, str] | list[str] | None = None) -> Student:
    torch.manual_seed(0)
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(24 * 24, 8)), match or ["1"])


@pytest.fixture
def teacher() -> RDMTeacher:
    generator = torch.Generator().manual_seed(5)
    found = rdms.from_array(torch.rand(3, 15, generator=generator).numpy(), NAMES, descriptors={"subject": list("xyz")})
    return RDMTeacher(found)


def test_each_reason_why_an_image_is_not_new_is_listed() -> None:
    seen = _images(list("ABCD"), 0)
    pixels = _images(NAMES, 1).images()
    pixels[0], pixels[1] = seen.images(["B"])[0], seen.images(["C"])[0].flip(-1)
    stimuli = Stimuli.from_arrays(pixels, ["a", "b", "D", "d", "e", "f"])
    found = seen_images(stimuli, seen, {"e": "cup", "A": "cup", "f": "hat"})
    assert sorted(found.itertuples(index=False, name=None)) == [
        ("D", "D", "same name"),
        ("a", "B", "byte-identical"),
        ("b", "C", "nearly the same"),
        ("e", "A", "same group"),
    ]
    others = seen_images(stimuli, seen, same_names=True)
    assert set(others["reason"]) == {"byte-identical", "nearly the same"}


def test_new_images_are_scored_as_by_evaluate(teacher: RDMTeacher) -> None:
    stimuli = _images(NAMES, 1)
    found = evaluate_elsewhere(_student(), teacher, stimuli, _images(list("ABCDEF"), 0), unfitted=_student())
    expected = evaluate(_student(), teacher, stimuli)
    columns = ["comparator", "against", "score", "low", "high", "ceiling"]
    fitted = found.summary[found.summary["student"] == "fitted"]
    pd.testing.assert_frame_equal(fitted[columns].reset_index(drop=True), expected.summary[columns])
    assert fitted["gain"].abs().max() == pytest.approx(0, abs=1e-9)


def test_images_that_look_the_same_are_a_warning_and_can_be_left_out(teacher: RDMTeacher) -> None:
    seen = _images(list("ABCDEF"), 0)
    pixels = _images(NAMES, 1).images()
    pixels[2] = seen.images(["E"])[0].flip(-1)
    stimuli = Stimuli.from_arrays(pixels, NAMES)
    with pytest.warns(UserWarning, match=r"1 of the 6 stimuli look nearly the same .*\[c \(nearly the same as E\)\]"):
        kept = evaluate_elsewhere(_student(), teacher, stimuli, seen)
    with pytest.warns(UserWarning, match=r"1 of the 6 stimuli were left out"):
        left = evaluate_elsewhere(_student(), teacher, stimuli, seen, drop_seen=True)
    assert (kept.teacher.n_cond, left.teacher.n_cond) == (6, 5)


@pytest.mark.parametrize("of_run", [["a", "x"], ["old/a.png", "old/x.png"]])
def test_the_name_of_an_image_file_is_that_of_its_image(of_run: list[str]) -> None:
    files = "." in of_run[0]
    stimuli = _images(["a", "b"] if files else ["new/a.png", "new/b.png"], 1)
    found = seen_images(stimuli, _images(of_run, 0))
    assert found.to_numpy().tolist() == [[stimuli.names[0], of_run[0], "same name"]]
    assert seen_images(stimuli, _images(of_run, 0), same_names=True).empty


@pytest.mark.parametrize("turned", [False, True])
def test_names_of_image_files_are_found_among_other_names(turned: bool) -> None:
    mixed, plain = _images(["c", "a.png", "new/b.png", "e", "x.png", "x.jpg"], 1), _images(["a", "b", "c", "d"], 0)
    found = seen_images(plain, mixed) if turned else seen_images(mixed, plain)
    pairs = [["c", "c"], ["a.png", "a"], ["new/b.png", "b"]]
    assert found[["stimulus", "seen"]].to_numpy().tolist() == [pair[::-1] if turned else pair for pair in pairs]


def test_files_of_one_image_in_two_formats_or_folders_have_its_name() -> None:
    new, seen = _images(["a.png", "1/cat.png", "2/cat.png", "old/d.png"], 1), _images(["a.jpg", "cat", "new/d.png"], 0)
    pairs = [["a.png", "a.jpg"], ["1/cat.png", "cat"], ["2/cat.png", "cat"]]
    assert seen_images(new, seen)[["stimulus", "seen"]].to_numpy().tolist() == pairs


def test_equal_names_are_refused_unless_they_name_other_images(teacher: RDMTeacher) -> None:
    stimuli, seen = _images(NAMES, 1), _images(list("abCDEF"), 0)
    with pytest.raises(
        BrainrdlError, match=r"2 of the 6 .*\[a \(same name as a\), b .*different images: same_names=True"
    ):
        evaluate_elsewhere(_student(), teacher, stimuli, seen)
    assert evaluate_elsewhere(_student(), teacher, stimuli, seen, same_names=True).teacher.n_cond == 6


def test_too_few_new_images_are_refused(teacher: RDMTeacher) -> None:
    stimuli, seen = _images(NAMES, 1), _images(["a", "b", "c", "D"], 0)
    with pytest.raises(BrainrdlError, match="scoring needs at least 4 stimuli that are new to the student, got 3 of 6"):
        evaluate_elsewhere(_student(), teacher, stimuli, seen, drop_seen=True)


def test_a_layer_is_compared_with_the_only_target_or_that_of_its_fit(teacher: RDMTeacher) -> None:
    stimuli, seen = _images(NAMES, 1), _images(list("ABCDEF"), 0)
    student = _student({"1": "V1"})
    assert set(evaluate_elsewhere(student, teacher, stimuli, seen).summary["target"]) == {"rdm"}
    rows = torch.rand(4, 15, generator=torch.Generator().manual_seed(1)).numpy()
    two = rdms.from_array(rows, NAMES, descriptors={"roi": ["V1", "V1", "IT", "IT"], "subject": ["x", "y"] * 2})
    assert set(evaluate_elsewhere(student, RDMTeacher(two), stimuli, seen).summary["target"]) == {"V1"}
    chosen = evaluate_elsewhere(student, RDMTeacher(two), stimuli, seen, match={"1": "IT"})
    assert set(chosen.summary["target"]) == {"IT"}
    with pytest.raises(BrainrdlError, match=r"'1', which is not among the teacher's targets .*give match="):
        evaluate_elsewhere(_student(), RDMTeacher(two), stimuli, seen)
