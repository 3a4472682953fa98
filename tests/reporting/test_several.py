"""Several runs on one page, movies, and which folder is what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from brainrdl import BrainrdlError, Evaluation, RDMTeacher, Stimuli, Student, evaluate, rdms, report, rsa
from brainrdl.inference import TimeCourses, score_movie
from brainrdl.reporting import page as report_page
from brainrdl.reporting.movie_page import page_of_movie
from brainrdl.reporting.run import Run
from brainrdl.reporting.side_by_side import page_of_several

NAMES = [f"im{k}" for k in range(8)]


def evaluated(seed: int, shift: float = 0.0, comparators: tuple[str, ...] = ("spearman", "corr")) -> Evaluation:
    truth = np.random.default_rng(0).random((4, 28)) + shift * np.arange(28)
    teacher = RDMTeacher(rdms.from_array(truth, NAMES, descriptors={"subject": list("abcd")}))
    torch.manual_seed(seed)
    student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8)), ["1"])
    images = Stimuli.from_arrays(torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(1)), NAMES)
    return evaluate(student, teacher, images, comparators=comparators)


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return {name: report_page._open(evaluated(seed)) for seed, name in enumerate(("one", "two"))}


def test_each_run_has_its_score_and_no_difference_is_claimed(runs: dict[str, Run]) -> None:
    page = page_of_several(runs)
    for text, (name, run) in zip(page.answer[1:], runs.items(), strict=False):
        row = run.evaluation.summary.query("comparator == 'spearman' and against == 'subjects'").iloc[0]
        assert text.startswith(f"{name}: student (layer 1) reached {row.score:.2f}".replace("-", "−"))
    last = page.answer[-1]
    assert last.startswith("All runs were scored with the same RDMs of the\xa0data for the same stimuli.")
    assert "no difference between them was tested" in last
    assert "more than" not in " ".join(page.answer)
    table = page.blocks[0].tables[0]
    assert [row[0] for row in table.rows if row[2] == "student"] == ["one", "two"]
    assert {limit for limit in page.caveats if "No difference between runs was tested" in limit}


def test_runs_with_other_rdms_are_said_to_be_on_other_scales(runs: dict[str, Run]) -> None:
    other = report_page._open(evaluated(0, shift=0.1))
    page = page_of_several({**runs, "other": other})
    assert "different RDMs or different stimuli" in page.answer[-1]
    figure = page.blocks[0].figures[0].figure
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert "the\xa0data (other)" in labels  # each has its own ceiling


def test_settings_that_differ_are_listed(runs: dict[str, Run]) -> None:
    changed = {
        "one": replace(runs["one"], settings={"lr": 0.1, "steps": 5}),
        "two": replace(runs["two"], settings={"lr": 0.2, "steps": 5}),
    }
    (table,) = page_of_several(changed).blocks[-1].folded
    assert table.rows == [["lr", "0.1", "0.2"]]


def test_an_rsa_is_shown_next_to_a_run(runs: dict[str, Run], tmp_path: Path) -> None:
    data = rdms.from_array(np.random.default_rng(0).random((4, 28)), NAMES, descriptors={"subject": list("abcd")})
    result = rsa({"size": rdms.from_array(np.arange(28.0), NAMES)}, data)
    both = report_page.open_source(result)
    page = page_of_several({"fit": runs["one"], "plain": both})
    assert [row[:2] for row in page.blocks[0].tables[0].rows if row[0] == "plain"] == [["plain", "size"]]
    assert any(text.startswith("plain: The RDMs of 1 model") for text in page.methods)


def test_runs_without_a_common_score_are_refused(runs: dict[str, Run]) -> None:
    other = report_page._open(evaluated(0, comparators=("cosine",)))
    with pytest.raises(BrainrdlError, match=r"no kind of score in common .*'other' has cosine with"):
        page_of_several({**runs, "other": other})
    fit = Run(None, pd.DataFrame({"step": [0]}))
    with pytest.raises(BrainrdlError, match="'fit' is a fit without held-out scores"):
        page_of_several({**runs, "fit": fit})


def test_folders_are_named_by_what_differs_in_their_paths(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "c"]
    assert [name for name, _ in report_page._named(folders)] == ["a/run", "b/run", "c"]
    with pytest.raises(BrainrdlError, match="folders to report"):
        list(report_page._named([tmp_path, tmp_path]))


def test_a_folder_of_runs_says_which_to_give(tmp_path: Path) -> None:
    evaluated(0).save(tmp_path / "one")
    with pytest.raises(BrainrdlError, match=r"there are runs in it, \['one'\]: give these"):
        report(tmp_path)
    assert report_page.open_source(tmp_path / "one").evaluation is not None


# Movies


@pytest.fixture(scope="module")
def courses() -> TimeCourses:
    rng = np.random.default_rng(0)
    models, noise = rng.random((2, 28)), rng.random((8, 6, 28))
    models -= models.mean(1, keepdims=True)
    models[1] -= models[0] * (models[0] @ models[1]) / (models[0] @ models[0])  # not similar to the first
    noise[:, 2:4] += 2 * models[0]
    labels = {"time": np.tile(np.arange(6) / 10, 8).tolist(), "subject": np.repeat(list("abcdefgh"), 6).tolist()}
    movie = rdms.from_array(noise.reshape(48, 28), NAMES, descriptors=labels)
    return score_movie(rdms.from_array(models, NAMES, descriptors={"layer": ["early", "late"]}), movie)


def test_a_movie_says_when_a_model_differs_as_the_clusters_do(courses: TimeCourses, tmp_path: Path) -> None:
    page = page_of_movie(courses)
    early, late, between = page.answer
    assert "Its score was above 0 in a cluster from 0.2 to 0.3 s (p = 0.008)." in early
    assert "These data do not show a difference from 0 at any time." in late
    assert between == "The score of early was above that of late in a cluster from 0.2 to 0.3 s (p = 0.008)."
    assert "all flips of the subjects' signs" in page.methods[0]
    assert any("when an effect began" in limit for limit in page.caveats)
    written = report(courses, tmp_path / "movie.html", title="Mine").read_text(encoding="utf-8")
    assert "<h1>Mine</h1>" in written
    assert "When are the 2 models similar to the data?" in written


def test_a_comparator_that_is_above_0_for_any_rdms_is_not_tested_against_0(courses: TimeCourses) -> None:
    page = page_of_movie(replace(courses, comparator="cosine"))
    assert not any("Its score" in text or "difference from 0" in text for text in page.answer)
    assert any("were not tested against 0" in limit for limit in page.caveats)


def test_few_subjects_cannot_have_a_small_p(courses: TimeCourses) -> None:
    few = replace(courses, subjects=courses.subjects[:4], scores=courses.scores[:, :4])
    assert "With 4 subjects, no cluster can have a p below 0.05" in " ".join(page_of_movie(few).caveats)
