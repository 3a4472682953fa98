"""The page: what it says is what the tables hold, and it needs nothing but itself."""

from __future__ import annotations

import base64
import copy
import hashlib
import inspect
import io
import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from brainrdl import BrainrdlError, Evaluation, FitResult, Stimuli, Student, plot, report, reporting
from brainrdl._core.files import write_csv, write_json
from brainrdl._core.rows import Role
from brainrdl.evaluation.held_out import assemble
from brainrdl.evaluation.plan import Candidate
from brainrdl.evaluation.scores import HeldOut, TeacherRDMs
from brainrdl.reporting import drawings, hover, methods, page as report_page, tables, wording
from brainrdl.reporting.frame import render
from brainrdl.reporting.run import Run
from brainrdl.runs.finished_fits import save_fit
from brainrdl.runs.provenance import gather_provenance
from brainrdl.similarity.pair_sums import centred
from brainrdl.similarity.registry import SIMILARITIES
from brainrdl.similarity.traits import Reference, Traits, comparator
from brainrdl.stimuli.categories import different_category

N = 12
NAMES = tuple(f"image{i:02d}" for i in range(N))
LABELS = {name: ("animal" if i % 2 else "vehicle") for i, name in enumerate(NAMES)}
SETTINGS = {
    "teacher": "four subjects",
    "folds": 2,
    "stratify": True,
    "subjects": "all",
    "intervals": "dyadic",
    "fit": {"steps": 60, "lr": 0.003, "loss": {"kind": "RDMLoss", "dissimilarity": "correlation"}},
}


def make_evaluation(labels: dict[str, str] | None = LABELS, **options: Any) -> Evaluation:
    """Score the RDMs of made-up students once for each design; the rest of the options are settings."""
    design = {name: options.pop(name) for name in inspect.signature(_scored).parameters if name in options}
    scored = copy.deepcopy(_scored(None if labels is None else tuple(labels.items()), **design))
    return replace(scored, settings=SETTINGS | options)


@cache
def _scored(
    labelled: tuple[tuple[str, str], ...] | None,
    students: tuple[str, ...] = ("fitted",),
    controls: bool = True,
    n_subjects: int = 4,
    left_out: tuple[str, ...] = ("",),
    seeds: tuple[int, ...] = (0,),
    target: str = "IT",
    comparators: tuple[str, ...] = ("spearman", "corr"),
) -> Evaluation:
    labels = None if labelled is None else dict(labelled)
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(N * (N - 1) // 2, generator=generator)
    noise = torch.rand(n_subjects, len(truth), generator=generator)
    subjects = tuple(f"s{k}" for k in range(n_subjects))
    teacher = TeacherRDMs(target, NAMES, subjects, truth + 0.5 * noise)
    held_out = []
    for seed in seeds:
        for fold in (0, 1):
            names = NAMES[fold::2] if seed % 2 else NAMES[fold * N // 2 : (fold + 1) * N // 2]
            for subject in left_out:
                where = {"target": target, "seed": seed, "fold": fold, "names": names, "left_out": subject}
                mean = teacher.of(names).mean(0)
                roles = dict.fromkeys(students, (Role.STUDENT, 0.3))
                if controls:
                    for label in students:
                        before = "" if label == "fitted" else f"{label}, "
                        roles |= {f"{before}unfitted": (Role.UNFITTED, 2.0), f"{before}permuted": (Role.PERMUTED, 4.0)}
                for label, (role, amount) in roles.items():
                    single = label in ("fitted", "unfitted", "permuted")
                    base = "unfitted" if single else f"{label.split(',')[0]}, unfitted"
                    pairs = mean + amount * torch.rand(len(mean), generator=generator)
                    held_out.append(HeldOut(student=label, role=role, base=base, layer="conv", pairs=pairs, **where))
                if labels and len({labels[name] for name in names}) > 1 and controls:
                    model = different_category(names, labels)
                    held_out.append(HeldOut(student="category", role=Role.CATEGORY, pairs=model, **where))
    histories = pd.DataFrame(
        [
            {"step": step, "train_similarity": step / 60, "validation_similarity": np.nan, "loss": 1 - step / 60}
            | {"student": student, "seed": 0, "fold": fold, "inner": -1}
            for student in (*students, "permuted")
            for fold in (0, 1)
            for step in (0, 30, 60)
        ]
    )
    return assemble(held_out, {target: teacher}, comparators, "dyadic", None, 0, histories=histories, labels=labels)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return make_evaluation()


class Page(HTMLParser):
    """Everything a test asks of a page: its text, its links and sources, its images and tables."""

    def __init__(self, page: Path | str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.html = page if isinstance(page, str) else page.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.words.append(" ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def table(self, caption: str) -> str:
        tables = [part.split("</table>")[0] for part in self.html.split("<table")[1:]]
        return next(table for table in tables if f"<caption>{caption}</caption>" in table)

    def headline(self) -> str:
        return self.html.split('class="headline"')[1].split("</section>")[0]


@pytest.fixture(scope="module")
def page(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(report(evaluation, tmp_path_factory.mktemp("page") / "report.html"))


def words_of(source: Any, title: str | None = None) -> Page:
    """Return the page without its figures, which take most of the time."""
    return Page(render(report_page.page_of(report_page._open(source), title, drawings=())))


def page_of(**options: Any) -> Page:
    return words_of(make_evaluation(**options))


def row_of(evaluation: Evaluation, **wanted: str) -> pd.Series:
    table = evaluation.summary
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table.iloc[0]


# Where it goes


@pytest.mark.slow
def test_the_page_goes_where_it_is_told(evaluation: Evaluation, tmp_path: Path) -> None:
    run = report_page._open(evaluation)
    assert report_page._where(run.folder, tmp_path / "new" / "page.html") == tmp_path / "new" / "page.html"
    assert report_page._where(run.folder, tmp_path) == tmp_path / "report.html"


def test_a_saved_run_gets_its_page_in_its_folder(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.save(tmp_path)
    write_json(tmp_path / "provenance.json", {"git": "abc123", "versions": {"brainrdl": "9.9"}})
    written = words_of(tmp_path)
    assert written.headline() == words_of(evaluation).headline()
    assert "abc123" in written.text
    assert "Software: brainrdl 9.9." in written.text


@pytest.mark.slow
def test_a_page_is_written_whole_or_not_at_all(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawings, "DRAWINGS", ())
    out = tmp_path / "report.html"
    out.write_text("the last one", encoding="utf-8")

    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(BrainrdlError, match=r"cannot write .*report\.html': disk full"):
        report(evaluation, out)
    assert out.read_text(encoding="utf-8") == "the last one"
    assert list(tmp_path.iterdir()) == [out]


def test_an_evaluation_without_a_folder_needs_a_place(evaluation: Evaluation) -> None:
    with pytest.raises(BrainrdlError, match="this run has no folder; give a file for the page"):
        report(evaluation)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BrainrdlError, match=r"finished run: it has neither evaluation\.json nor history\.csv, nor the rsa\.json"
    ):
        report(tmp_path)


def test_anything_else_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"needs an Evaluation, .* or several of them; got DataFrame"):
        report(pd.DataFrame())  # type: ignore[arg-type]


def test_an_evaluation_that_lost_an_rdm_is_refused(tmp_path: Path) -> None:
    broken = make_evaluation()
    broken.students.rdm_descriptors["student"] = ["other"] * broken.students.n_rdm
    with pytest.raises(BrainrdlError, match=r"has no RDM of \['fitted', 'conv', 'IT'\]"):
        report(broken, tmp_path)


# It stands alone


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    assert [script.get("type") for script in page.all("script")] == ["application/json", None]
    assert not page.all("link")
    assert not page.all("iframe")
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.all("img"))
    assert not re.search(r"url\(|@import", page.html.split("<style>")[1].split("</style>")[0])
    hrefs = [str(anchor["href"]) for anchor in page.all("a")]
    assert all(
        href.startswith(("https://doi.org/10.", "data:text/csv", "data:application/x-bib", "#")) for href in hrefs
    )
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv"))
    script = page.html.rsplit("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert policy["content"] == rules  # no other script can run, and nothing is loaded


def test_every_image_has_an_alternative_text_and_twice_the_pixels(page: Page) -> None:
    images = page.all("img")
    assert len([image for image in images if image.get("class") != "small"]) == 5
    for image in images:
        assert len(str(image["alt"])) > 40
        data = base64.b64decode(str(image["src"]).split(",")[1])
        width, height = struct.unpack(">II", data[16:24])
        assert (width, height) == (2 * int(str(image["width"])), 2 * int(str(image["height"])))


def test_the_alternative_text_of_the_scores_holds_the_scores(page: Page, evaluation: Evaluation) -> None:
    score = row_of(evaluation, student="fitted", comparator="spearman", against="subjects")["score"]
    assert f"fitted (layer conv) {score:.2f}" in str(page.all("img")[0]["alt"])


NASTY = "<script>alert(1)</script>"


def test_names_are_text_never_markup() -> None:
    labels = {name: NASTY if i % 2 else 'b"&$x$' for i, name in enumerate(NAMES)}
    evaluation = make_evaluation(labels=labels, students=(NASTY,), target="<b>IT</b>", teacher="<i>t</i>")
    first = next(one for one in drawings.DRAWINGS[1](report_page._open(evaluation)) if one.hover)
    written = Page(render(report_page.page_of(report_page._open(evaluation), "<u>mine</u>", drawings=[first])))
    assert not written.all("u")
    assert json.loads(written.html.split('id="matrices">')[1].split("</script>")[0])["matrices"][0]["label"].endswith(
        f"{NASTY} (layer conv)"
    )
    assert len(written.all("script")) == 2  # the values of RDMs, and the script of the page
    assert not written.all("i")
    assert not written.all("b")
    assert NASTY in written.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in written.html


def test_the_scores_can_be_saved_from_the_page(page: Page, evaluation: Evaluation) -> None:
    link = next(anchor for anchor in page.all("a") if anchor.get("download") == "scores.csv")
    saved = pd.read_csv(io.BytesIO(base64.b64decode(str(link["href"]).split(",")[1])))
    np.testing.assert_allclose(saved["score"], evaluation.scores["score"])


def test_all_scores_and_settings_are_folded_away(page: Page, evaluation: Evaluation) -> None:
    assert all("open" not in details for details in page.all("details"))
    assert f"All scores ({len(evaluation.scores)} rows)" in page.text
    assert '"lr": 0.003' in page.text


# Like with like


def two(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def test_the_headline_says_the_score_with_its_interval_and_its_own_ceiling(page: Page, evaluation: Evaluation) -> None:
    row = row_of(evaluation, student="fitted", comparator="spearman", against="subjects")
    first, second = page.headline().split("</p>")[:2]
    assert (
        f"reached a Spearman correlation of {two(row.score)} (95% interval {two(row.low)} to {two(row.high)}) "
        "with single subjects’ RDMs of IT."
    ) in first
    bounds = f"(bounds of the noise ceiling: {two(row.ceiling_lower)} to {two(row.ceiling_upper)})"
    assert f"A perfect model is expected to reach {two(row.ceiling)} {bounds}" in first
    mean = row_of(evaluation, student="fitted", comparator="spearman", against="mean")
    assert f"With the subjects’ mean RDM it reached {two(mean.score)}" in second
    assert f"A perfect model is expected to reach {two(mean.ceiling)}; the score is" in second
    assert f"{100 * mean.score / mean.ceiling:.0f}% of this" in second


def test_each_table_has_the_ceiling_of_its_own_comparison_only(page: Page, evaluation: Evaluation) -> None:
    subjects = row_of(evaluation, student="fitted", comparator="spearman", against="subjects")
    mean = row_of(evaluation, student="fitted", comparator="spearman", against="mean")
    band = f"{two(subjects.ceiling)} ({two(subjects.ceiling_lower)} to {two(subjects.ceiling_upper)})"
    against_subjects, against_mean = (
        page.table("Against single subjects’ RDMs"),
        page.table("Against the subjects’ mean RDM"),
    )
    assert f"<td>{band}</td>" in against_subjects
    assert f"<td>{two(mean.ceiling)}</td>" in against_mean
    assert f"<td>{band}</td>" not in against_mean


def test_partial_correlations_stand_apart_without_a_ceiling(page: Page, evaluation: Evaluation) -> None:
    table = page.table("Against the subjects’ mean RDM, with category and other models held constant")
    row = row_of(evaluation, student="fitted", comparator="partial spearman")
    assert f"<td>{two(row.score)}</td>" in table
    assert "ceiling" not in table
    assert f"the network’s partial Spearman correlation with the mean RDM was {two(row.score)}" in page.headline()
    assert "partial" not in page.table("Against the subjects’ mean RDM")


def test_the_headline_tells_what_fitting_the_shuffled_and_the_category_did(page: Page, evaluation: Evaluation) -> None:
    wanted = {"comparator": "spearman", "against": "subjects"}
    gain = row_of(evaluation, student="fitted", **wanted)["gain"]
    tested = evaluation.contrasts.query("comparator == 'spearman' and against == 'subjects'").set_index("other")
    permuted = row_of(evaluation, student="permuted", **wanted)["score"]
    category = row_of(evaluation, student="category", **wanted)["score"]
    headline = page.headline()
    assert f"Against single subjects’ RDMs, fitting changed the score by {two(gain)} (95% interval" in headline
    assert f"shuffled condition names, scored {two(permuted)}" in headline
    assert f"which predicts each pair from the categories of its stimuli, scored {two(category)}" in headline
    for other in ("permuted", "category"):
        found = tested.loc[other]
        verdict = "the network scored more" if found.p_corrected < 0.05 else "these data do not show a difference"
        difference = f"{two(found.difference)} (95% interval {two(found.low)} to {two(found.high)}, corrected p"
        assert verdict in headline
        assert difference in headline


def sentence(**changes: Any) -> str:
    row = {"against": "subjects", "score": 0.3, "ceiling": 0.4, "ceiling_lower": 0.3, "ceiling_upper": 0.6}
    row |= {"share": 0.75} | changes
    return wording.ceiling_sentence(row)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "reach 0.40 (bounds of the noise ceiling: 0.30 to 0.60); the score is 75% of this."),
        ({"score": 0.4}, "The score is above this, so these data do not show how much remains to be explained."),
        ({"ceiling_lower": 0.4, "ceiling_upper": 0.4}, "is expected to reach 0.40; the score is 75% of this."),
        ({"ceiling": 0.0, "share": np.nan}, "The subjects hardly agree (the ceiling is 0.00)"),
        ({"ceiling": np.nan}, "There is no noise ceiling"),
    ],
)
def test_a_score_is_held_against_its_ceiling_in_words(changes: dict[str, Any], words: str) -> None:
    assert words in sentence(**changes)


ROW = {"student": "s", "layer": "", "target": "IT", "comparator": "corr", "against": "mean", "base": "u"}


def contrasts(other: str, role: str, difference: float, p: float) -> pd.DataFrame:
    shared = {key: ROW[key] for key in ("student", "layer", "target", "comparator", "against")}
    tested = {"difference": difference, "low": difference - 0.1, "high": difference + 0.1, "p": p, "p_corrected": p}
    return pd.DataFrame([shared | tested | {"other": other, "other_role": role, "other_layer": ""}])


@pytest.mark.parametrize(
    ("difference", "p", "words"),
    [
        (0.2, 0.01, ", an increase."),
        (-0.2, 0.01, ", a decrease."),
        (0.2, 0.06, "; these data do not show a change."),
        (0.2, np.nan, "0.20 (not tested) relative to the same network before fitting."),
    ],
)
def test_a_change_is_called_one_only_if_the_corrected_contrast_shows_it(
    difference: float, p: float, words: str
) -> None:
    told = wording._gain_sentence(contrasts("u", "unfitted", difference, p), ROW | {"n_subjects": 4})
    assert " ".join(told).endswith(words)


@pytest.mark.parametrize(
    ("difference", "p", "words"),
    [
        (-0.2, 0.01, "the network scored less, with a difference of −0.20"),
        (
            0.2,
            0.0001,
            "the network scored more, with a difference of 0.20 (95% interval 0.10 to 0.30, corrected p < 0.0",
        ),
        (0.05, 0.4, "these data do not show a difference from it: 0.05"),
    ],
)
def test_more_or_less_than_a_category_model_is_said_as_the_contrast_shows(
    difference: float, p: float, words: str
) -> None:
    models = pd.DataFrame([{"role": "category", "against": "mean", "student": "b", "score": 0.5, "layer": ""}])
    told = " ".join(wording._category_sentence(contrasts("b", "category", difference, p), models, ROW))
    assert "The model “b”, which predicts each pair from the categories of its stimuli, scored 0.50" in told
    assert words in told


def test_a_trained_task_has_its_accuracy_on_the_page(tmp_path: Path) -> None:
    history = pd.DataFrame({"step": [0, 10], "train_similarity": [0.1, 0.4], "train_accuracy": [0.25, 0.9]})
    run = Run(None, history, settings={"task": {"weight": 1.0}, "steps": 10})
    assert "The accuracy of the classification task at the end was 90% on training stimuli." in wording.fit_headline(
        run
    )
    assert "accuracy" not in wording.fit_headline(Run(None, history, settings={"task": None, "steps": 10}))
    many = pd.concat([history.assign(student="a", seed=0, fold=fold, inner=-1) for fold in (0, 1)])
    many.loc[many["fold"] == 1, "train_accuracy"] -= 0.1
    assert "85% on training stimuli" in wording.accuracy_words(
        Run(None, many, settings={"fit": {"task": {"weight": 1.0}}})
    )


def test_the_methods_name_the_task_and_further_terms() -> None:
    from brainrdl import Stimuli, Task
    from brainrdl.training.terms import Term

    digits = Stimuli.from_arrays(np.zeros((2, 4, 4), np.uint8), ["a", "b"], labels=["0", "1"])
    settings = {"task": Task(digits, weight=0.5, label_smoothing=0.1), "terms": {"kd": Term(abs, 0.2)}, "steps": 3}
    told = " ".join(methods.methods_of(Run(None, pd.DataFrame({"step": [0]}), settings=settings)))
    assert (
        "In the same steps they learned to classify images, with cross-entropy and label smoothing 0.1 (weight 0.5), "
        "on other images than those of the RDM. The loss had further terms: kd (weight 0.2)." in told
    )
    assert "task" not in told.partition("Settings: ")[2]


def test_a_network_that_was_not_fitted_is_not_called_fitted() -> None:
    evaluation = make_evaluation(controls=False, labels=None)
    assert "the fitted network (layer conv) reached" in "".join(
        wording.headlines(Run(evaluation, evaluation.histories, settings=SETTINGS), evaluation)
    )
    evaluation = replace(evaluation, scores=evaluation.scores.assign(fold=0))
    plain = Run(evaluation, evaluation.histories, settings={"held_out": list(NAMES)})
    told = " ".join([*wording.headlines(plain, evaluation), *methods.methods_of(plain)])
    assert told.startswith("The network (layer conv) reached a Spearman correlation of")
    assert "fitted" not in told.replace("refitted", "")


def test_one_rdm_without_subjects_gives_one_table() -> None:
    evaluation = make_evaluation(n_subjects=1)
    captions = [table.caption for table in tables.summary_tables(evaluation.summary)]
    assert captions == [
        "Against the subjects’ mean RDM",
        "Against the subjects’ mean RDM, with category and other models held constant",
    ]
    run = Run(evaluation, evaluation.histories, settings=SETTINGS)
    assert "with the RDM of IT" in next(wording.headlines(run, evaluation))


# What it cannot show


@pytest.mark.slow
def test_simulated_data_are_announced_in_a_banner_and_only_they(page: Page, tmp_path: Path) -> None:
    simulated = page_of(simulated=True)
    assert 'class="banner"' in simulated.html
    assert "Nothing here is evidence about a brain." in simulated.text
    assert 'class="banner"' not in page.html


def limits(**options: Any) -> str:
    return " ".join(wording.limits_of(report_page._open(make_evaluation(**options))))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "images similar to these 12 stimuli of 2 categories"),
        ({}, "With 4 subjects, the intervals and the noise ceiling are imprecise."),
        ({}, "stimuli were held out, subjects were not."),
        ({}, "There is only one seed"),
        ({}, "were scored: about 15 per fold."),
        ({"controls": False}, "There is no unfitted control"),
        ({"controls": False}, "There is no reweighted control"),
        ({"controls": False}, "There is no permuted control"),
        ({"controls": False}, "There is no category model"),
        ({"n_subjects": 1}, "There is only one subject"),
    ],
)
def test_the_page_says_what_this_run_cannot_show(options: dict[str, Any], words: str) -> None:
    assert words in limits(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": (0, 1)}, "There is only one seed"),
        ({"n_subjects": 12}, "are imprecise"),
        ({"subjects": "leave-one-out", "left_out": ("s0", "s1", "s2", "s3")}, "subjects were not"),
        ({}, "There is no unfitted control"),
        ({}, "The settings do not show"),
    ],
)
def test_the_page_does_not_warn_of_what_was_taken_care_of(options: dict[str, Any], words: str) -> None:
    assert words not in limits(**options)


@pytest.mark.parametrize(
    ("low", "high", "told"), [(-0.99, 0.99, False), (-1, 0.5, True), (0.2, 1, True), (np.nan, np.nan, False)]
)
def test_intervals_that_end_at_the_limit_of_a_score_are_explained(
    evaluation: Evaluation, low: float, high: float, told: bool
) -> None:
    summary = evaluation.summary.assign(low=0.1, high=0.4, gain_high=1.5)
    summary.loc[summary.index[3], ["low", "high"]] = low, high
    said = " ".join(wording.limits_of(report_page._open(replace(evaluation, summary=summary))))
    assert ("Some intervals end at −1 or 1, which no score can pass" in said) == told


def test_a_list_of_held_out_stimuli_is_taken_on_trust(evaluation: Evaluation) -> None:
    trusted = replace(evaluation, settings={"comparators": ["spearman"]})
    assert "The settings do not show that these stimuli were held out" in " ".join(
        wording.limits_of(report_page._open(trusted))
    )


# Kinds of runs


@pytest.mark.slow
def test_one_subject_has_no_ceiling(tmp_path: Path) -> None:
    assert "There is no noise ceiling to compare this score with" in page_of(n_subjects=1).headline()


@pytest.mark.slow
def test_subjects_held_out_one_at_a_time_have_no_score_against_the_mean(tmp_path: Path) -> None:
    left_out = ("s0", "s1", "s2", "s3")
    written = page_of(subjects="leave-one-out", left_out=left_out)
    assert "mean RDM it reached" not in written.headline()
    assert "Against the subjects’ mean RDM" not in written.text
    assert "4, one held out at a time" in written.text


def fact(run: Run, term: str) -> str:
    return dict(methods.facts_of(run))[term]


def test_facts_say_what_was_held_out_and_how_intervals_came_about(evaluation: Evaluation) -> None:
    run = report_page._open(evaluation)
    assert fact(run, "Held out") == "each stimulus once, in 2 folds (6 stimuli, 15 pairs per fold)"
    assert fact(run, "Intervals") == "95%, over stimuli and subjects"
    uneven = evaluation.scores.assign(fold=0, n_pairs=range(len(evaluation.scores)))
    single = report_page._open(replace(evaluation, scores=uneven))
    assert fact(single, "Held out") == f"one list (6 stimuli, 0 to {len(uneven) - 1} pairs)"
    without = report_page._open(replace(evaluation, summary=evaluation.summary.assign(low=np.nan)))
    assert fact(without, "Intervals") == ""


@pytest.mark.parametrize(
    ("settings", "term", "words"),
    [
        ({"inner_folds": 4}, "Steps chosen by", "4 folds inside the training stimuli"),
        ({"fit": {"validation": 0.2}}, "Steps chosen by", "the best score on 20% of the training stimuli"),
        ({"fit": {"steps": 60}}, "Steps chosen by", ""),
        ({"teacher_identity": {"combine": "sample"}}, "Fitted to", "the RDM of one subject per step, drawn at random"),
        ({"teacher_identity": {"network": "ab12"}}, "Fitted to", ""),
        ({}, "Fitted to", ""),
    ],
)
def test_facts_say_what_chose_the_steps_and_what_was_fitted_to(
    evaluation: Evaluation, settings: dict[str, Any], term: str, words: str
) -> None:
    told = fact(report_page._open(replace(evaluation, settings=settings)), term)
    assert told.startswith(words)
    assert bool(told) == bool(words)


@pytest.mark.slow
def test_hashes_of_what_was_fitted_to_are_in_the_provenance(tmp_path: Path) -> None:
    text = page_of(hashes={"stimuli": "ab12", "teacher": "cd34"}).text
    assert "hashes: stimuli (SHA-256) ab12" in text
    assert "hashes: teacher (SHA-256) cd34" in text


def test_stimuli_are_counted_by_category(page: Page) -> None:
    assert "12 in 2 categories: vehicle (6) and animal (6)" in page.text


@pytest.mark.slow
def test_stimuli_without_categories_are_counted(tmp_path: Path) -> None:
    written = page_of(labels=None)
    assert re.search(r"<dt>Stimuli</dt><dd>12</dd>", written.html)


@pytest.mark.slow
def test_many_students_are_told_in_the_order_of_the_table_and_the_rest_is_counted(tmp_path: Path) -> None:
    students = ("zebra", "b", "a", "d", "c", "e")
    written = page_of(students=students, controls=False)
    told = re.findall(r"“(\w+)” \(layer conv\)", written.headline())
    assert told == ["zebra", "b", "a", "d"]
    assert "show 2 more combinations of student and layer" in written.headline()
    assert "How close did zebra, b, a, d, c and e get to “four subjects”?" in written.text


@pytest.mark.parametrize(
    ("targets", "teacher", "asked"),
    [
        (("IT",), "it", "How close did the network get to “it”?"),
        (("V1", "IT"), "regions", "How close did the network get to V1 and IT of “regions”?"),
        (("IT",), None, "How close did the network get to the teacher?"),
    ],
)
def test_the_title_quotes_the_teacher_and_names_several_targets(
    evaluation: Evaluation, targets: tuple[str, ...], teacher: str | None, asked: str
) -> None:
    summary = pd.concat([evaluation.summary.assign(target=target) for target in targets])
    run = replace(evaluation, summary=summary, settings={"teacher": teacher})
    assert report_page._page_title(report_page._open(run)) == asked


@pytest.mark.slow
def test_several_students_have_their_own_controls(tmp_path: Path) -> None:
    run = make_evaluation(students=("small", "large"))
    headline = words_of(run).headline()
    for student in ("small", "large"):
        score = row_of(run, student=f"{student}, permuted", comparator="spearman", against="subjects")["score"]
        assert f"shuffled condition names, scored {two(score)}" in headline


def test_seeds_fill_each_others_pairs_in_the_rdm_that_is_drawn() -> None:
    run = make_evaluation(seeds=(0, 1))
    merged = drawings._average(run.students, {"student": "fitted"})
    single = np.isfinite(run.students.get_vectors()[0])
    assert merged.n_rdm == 1
    assert np.isfinite(merged.get_vectors()[0]).sum() > single.sum()
    both = np.stack([run.students[i].get_vectors()[0] for i in range(run.students.n_rdm) if _is_fitted(run, i)])
    shared = np.isfinite(both).all(0)
    np.testing.assert_allclose(merged.get_vectors()[0][shared], both.mean(0)[shared])


def _is_fitted(run: Evaluation, i: int) -> bool:
    return run.students.rdm_descriptors["student"][i] == "fitted"


# What was done


def test_methods_cite_what_they_rest_on(page: Page) -> None:
    hrefs = [str(anchor["href"]) for anchor in page.all("a")]
    for doi in ("10.3389/fncom.2016.00131", "10.1371/journal.pcbi.1003553", "10.1093/pan/mpv018"):
        assert f"https://doi.org/{doi}" in hrefs


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "The 12 stimuli were divided into 2 folds, with categories spread evenly over folds."),
        ({}, "Settings: steps 60, lr 0.003."),
        ({}, "Student RDMs were made with correlation distance (1 - r)."),
        ({}, "the variance over stimuli is dyadic cluster-robust"),
        ({}, "not interchangeable"),
        ({"seeds": (0, 1)}, "repeated with 2 seeds"),
        ({"fit": {"validation": 0.25}}, "steps was chosen on 25% of each training set, not used for fitting."),
        ({"teacher_identity": {"combine": "all"}}, "The target was the RDMs of all subjects, with the loss averaged"),
        ({"inner_folds": 3}, "chosen by 3-fold cross-validation within each training set"),
        (
            {"subjects": "leave-one-out", "left_out": ("s0", "s1", "s2", "s3")},
            "One subject at a time was also held out",
        ),
    ],
)
def test_methods_say_what_the_settings_say(options: dict[str, Any], words: str) -> None:
    assert words in " ".join(methods.methods_of(report_page._open(make_evaluation(**options))))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trainable": "all", "optimizer": "adam"}, "all weights were changed by the optimiser Adam so that"),
        (
            {"trainable": "projection"},
            "the network was not changed, and a linear projection of a layer’s output was",
        ),
        ({"trainable": "from:conv"}, "from layer conv on, and of any projections, were changed by gradient-based"),
        ({}, "trainable weights were changed by gradient-based optimisation so that"),
        ({"optimizer": "torch.optim.adam.Adam"}, "trainable weights were changed by gradient-based optimisation"),
        ({"fit": {"optimizer": "sgd"}}, "changed by stochastic gradient descent so that"),
        (
            {
                "fit": {"optimizer": "sgd"},
                "students": {"a": Candidate(len), "b": Candidate(len, {"optimizer": "adam"})},
            },
            "changed by gradient-based optimisation",
        ),
        ({"fit": {}, "students": {"a": Candidate(len, {"optimizer": "rmsprop"})}}, "by the optimiser RMSprop"),
    ],
)
def test_methods_say_what_trained_and_how_as_far_as_the_settings_do(settings: dict[str, Any], words: str) -> None:
    assert words in next(methods.methods_of(Run(settings=settings)))


def test_methods_are_silent_about_what_the_settings_do_not_say(evaluation: Evaluation) -> None:
    told = " ".join(methods.methods_of(report_page._open(replace(evaluation, settings={}))))
    assert "Settings:" not in told
    assert "bootstrap" not in told
    assert "Student RDMs were made" not in told


def test_one_list_of_held_out_stimuli_is_no_fold(evaluation: Evaluation) -> None:
    single = replace(evaluation, scores=evaluation.scores.assign(fold=0))
    told = " ".join(methods.methods_of(report_page._open(single)))
    assert "scored on all pairs of 12 stimuli that were specified as held out" in told


def test_a_run_without_provenance_says_so(page: Page) -> None:
    assert "the run recorded no provenance" in page.text
    assert "hashes: mean RDMs of the teacher (SHA-256)" in page.text


# Fits


@pytest.fixture
def fitted(tmp_path: Path) -> Callable[[], FitResult]:
    def make(**more: Any) -> FitResult:
        student = Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
        history = pd.DataFrame(
            {"step": [0, 10, 20], "train_similarity": [0.1, 0.4, 0.6], "validation_similarity": [0.1, 0.3, 0.2]}
        ).assign(loss=[np.nan, 0.6, 0.4], **more)
        settings = {"teacher": "IT", "train": ["a", "b"], "validation": ["c"], "layers": ["0"], "steps": 20}
        return FitResult(student, history, 10, settings, gather_provenance(stimuli="ab12"), tmp_path)

    return make


def test_a_fit_is_reported_with_its_best_step_and_no_claim_of_success(fitted: Callable[[], FitResult]) -> None:
    written = Page(report(fitted()))
    headline = written.headline()
    assert "The fit ran for 20 steps." in headline
    assert "training stimuli went from 0.10 to 0.60 (highest: 0.60)" in headline
    assert "validation stimuli went from 0.10 to 0.20 (highest: 0.30)" in headline
    assert "The weights of step 10 were kept." in headline
    assert "Nothing on this page was measured on held-out stimuli" in headline
    assert written.text.count("hashes: stimuli") == 1
    assert "hashes: stimuli (SHA-256) ab12" in written.text
    assert [image["class"] for image in written.all("img")] == ["large", "small"]
    assert "Nili" not in written.text


def test_a_fit_folder_is_reported_like_its_result(fitted: Callable[[], FitResult], tmp_path: Path) -> None:
    result = fitted()
    write_json(tmp_path / "settings.json", result.settings)
    save_fit(result)
    written = Page(report(tmp_path))
    assert "The fit ran for 20 steps." in written.headline()
    assert re.search(r"<dt>Training stimuli</dt><dd>2</dd>", written.html)


def test_a_history_without_similarities_has_no_figure(fitted: Callable[[], FitResult], tmp_path: Path) -> None:
    result = fitted()
    write_csv(tmp_path / "history.csv", result.history[["step", "loss"]])
    assert reporting.figures(tmp_path) == {}


# Figures


@pytest.mark.slow
def test_figures_have_names_fit_for_files(tmp_path: Path) -> None:
    found = reporting.figures(make_evaluation(students=("a/b: c",), controls=False))
    assert list(found) == [
        "scores",
        "rdms-a_b__c-conv-IT",
        "categories-a_b__c-conv-IT",
        "pairs-a_b__c-conv-IT",
        "training-a_b__c",
    ]
    for name, figure in found.items():
        figure.savefig(tmp_path / f"{name}.png")


def test_the_two_kinds_of_score_are_drawn_on_two_axes(evaluation: Evaluation) -> None:
    left, right = reporting.figures(evaluation)["scores"].axes[:2]
    assert left.get_xlabel().endswith("with single subjects' RDMs")
    assert right.get_xlabel().endswith("with the subjects' mean RDM")


def test_the_scores_say_how_many_stimuli_subjects_folds_and_seeds_they_are_of(evaluation: Evaluation) -> None:
    drawing = next(drawings.drawings_of(report_page._open(evaluation)))
    assert drawing.caption.endswith("Bars are 95% intervals; 12 stimuli, 4 subjects, 2 folds, 1 seed.")


def test_a_student_that_was_not_trained_has_no_training_figure() -> None:
    run = make_evaluation(students=("fitted", "random"))
    run.histories = run.histories[(run.histories["student"] == "fitted") | (run.histories["step"] == 0)]
    assert [drawing.name for drawing in drawings.DRAWINGS[-1](report_page._open(run))] == ["training-fitted"]


def test_captions_say_what_is_a_mean_and_what_a_mark() -> None:
    run = make_evaluation(seeds=(0, 1))
    told = {drawing.name: drawing.caption for drawing in drawings.drawings_of(report_page._open(run))}
    assert "held-out RDM of fitted (layer conv), mean over 2 seeds; RDM of IT, mean over" in told["rdms-fitted-conv-IT"]
    assert told["training-fitted"].endswith("between two evaluations). Thin lines are single runs.")
    run.histories["validation_similarity"] = 0.5
    (last,) = drawings.DRAWINGS[-1](report_page._open(run))
    assert last.caption.endswith("Circles mark the best step of a run.")


# One place for each change


def test_a_drawing_of_an_unknown_section_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="section of the report 'score' is not known; nearest: 'scores'"):
        drawings.Drawing("mine", "score", Figure(), "alt", "caption")  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_new_drawing_is_one_function_in_the_list(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(run: Run) -> Iterator[drawings.Drawing]:
        yield drawings.Drawing("mine", drawings.Section.TRAINING, Figure((2, 2)), "alt", "a caption of mine")

    monkeypatch.setattr(drawings, "DRAWINGS", (draw,))
    training = Page(report(evaluation, tmp_path / "page.html")).html.split("<h2>Training</h2>")[1].split("<h2>")[0]
    assert "a caption of mine" in training
    assert "mine" in reporting.figures(evaluation)


def test_a_new_column_is_one_line_in_the_list(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    column = tables.Column("folds", lambda row: f"{row['n_folds']} of them")
    monkeypatch.setattr(tables, "COLUMNS", (*tables.COLUMNS, column))
    for table in tables.summary_tables(evaluation.summary):
        assert table.columns[-1] == "folds"
        assert {row[-1] for row in table.rows} == {"2 of them"}


def test_the_rows_of_fitted_students_are_highlighted_by_their_role(page: Page, evaluation: Evaluation) -> None:
    (table, *_) = tables.summary_tables(evaluation.summary.replace({"student": {"unfitted": "fitted student"}}))
    assert {table.rows[k][table.named_by or 0] for k in table.marked} == {"fitted"}
    assert page.table("Against single subjects’ RDMs").count('class="fitted"') == 2


@pytest.mark.slow
def test_a_new_comparator_appears_in_scores_figures_tables_and_methods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = Reference("Doe, 2031", "Doe, J. (2031). Agreement of RDMs.", "10.1000/agreement")

    @comparator(Traits("mean agreement", differentiable=True, partial_scale=centred, reference=reference))
    def agreement(a: torch.Tensor, b: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        weights = torch.ones_like(b) if weights is None else weights
        return 1 - ((a - b).abs() * weights).sum(-1) / weights.sum(-1).clamp(min=1)

    monkeypatch.setitem(SIMILARITIES, "agreement", agreement)
    run = make_evaluation(comparators=("agreement",))
    assert {"agreement", "partial agreement"} == set(run.summary["comparator"])
    assert np.isfinite(
        run.summary.loc[run.summary["comparator"] == "agreement", ["low", "ceiling_lower"]].to_numpy()
    ).all()
    assert plot.scores(run, ax=Figure().subplots()).get_xlabel() == "mean agreement with the subjects' mean RDM"
    written = words_of(run)
    assert "<td>mean agreement</td>" in written.table("Against the subjects’ mean RDM")
    assert "reached a mean agreement of" in written.headline()
    assert "RDMs were compared by mean agreement (Doe, 2031)." in written.text
    assert "https://doi.org/10.1000/agreement" in [anchor["href"] for anchor in written.all("a")]


# Numbers


@pytest.mark.parametrize(
    ("value", "text"), [(0.126, "0.13"), (-0.5, "−0.50"), (-0.001, "0.00"), (float("nan"), "–"), (None, "–")]
)
def test_numbers_are_written_with_a_true_minus_and_no_minus_zero(value: float | None, text: str) -> None:
    assert wording.number(value) == text


def test_p_values_in_long_tables_are_written_as_everywhere() -> None:
    table = pd.DataFrame({"p": [0.0, 0.5], "score": [0.0, 0.5]})
    assert tables.cells(table) == (["p", "score"], [["< 0.001", "0.000"], ["0.500", "0.500"]])


@pytest.mark.parametrize(("words", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), ("abc", "a, b and c")])
def test_words_are_joined_as_in_a_sentence(words: list[str], text: str) -> None:
    assert wording.and_joined(words) == text
    assert wording.and_joined("abcd", most=2) == "a, b and 2 more"


def test_the_facts_tell_the_networks_and_students_of_one_kind_together() -> None:
    one = {
        "network": "torch.nn.modules.container.Sequential", "n_parameters": 1068, "initial_weights": "ab12" * 16,
        "readouts": {"2": {"pool": "avgpool", "standardise": True, "projection": "square"}},
        "trainable": "projection", "batchnorm": "eval",
    }  # fmt: skip
    words = methods._networks({"networks": {"a": one, "b": one}})
    assert words == (
        "Sequential, 1,068 parameters, initial weights with SHA-256 ab12ab12ab12; 2 read out by avgpool, channels "
        "standardised and a linear projection (square); trainable: projection; batch norm: eval"
    )
    other = methods._networks({"networks": {"a": one, "b": one | {"trainable": "all"}}})
    assert other.startswith("a: Sequential")
    assert ". b: Sequential" in other
    asked = {"model": "resnet18", "weights": "DEFAULT"}
    assert methods._networks({"networks": {"a": one}, "recipe_student": asked}).startswith(
        "resnet18, 1,068 parameters, weights 'DEFAULT';"
    )


@pytest.mark.slow
def test_several_students_are_compared_first_and_only_as_far_as_the_contrast_shows_it(tmp_path: Path) -> None:
    evaluation = make_evaluation(students=("first", "second", "third"))
    contrasts = evaluation.contrasts
    between = (contrasts["other_role"] == "student") & (contrasts["against"] == "subjects")
    both = between & (contrasts["other"] == "second")
    contrasts.loc[both, ["difference", "low", "high", "p_corrected"]] = [0.2, 0.1, 0.3, 0.01]
    contrasts.loc[between & (contrasts["student"] == "second"), ["difference", "p_corrected"]] = np.nan
    page = words_of(evaluation)
    first = page.headline().split("</p>")[0]
    assert "“first” scored more than “second”, with a difference of 0.20 (95% interval 0.10 to 0.30" in first
    assert "These data do not show a difference between “first” and “third”" in first
    assert "“second” and “third” cannot be compared, because in no fold do both have a score." in first


def test_one_student_is_not_compared_with_others(page: Page) -> None:
    assert "Students were compared" not in page.text


@pytest.mark.slow
def test_a_student_without_a_score_is_said_to_have_none(tmp_path: Path) -> None:
    evaluation = make_evaluation(seeds=(0,))
    summary = evaluation.summary
    summary.loc[summary["student"] == "fitted", ["score", "low", "high", "share"]] = np.nan
    text = words_of(evaluation).text
    assert (
        "On held-out stimuli, the fitted network (layer conv) has no Spearman correlation with the RDMs of IT" in text
    )


def test_wide_figures_have_a_form_for_phones(page: Page) -> None:
    narrow = [image for image in page.all("img") if image.get("class") == "small"]
    assert len(narrow) == 4  # scores, RDMs, categories and training; the others are small
    for image in narrow:
        assert int(image["width"] or 0) <= 390 - 32  # without the margins of the page
        assert (image["src"] or "").startswith("data:image/png;base64,")


# Held-out pairs


def test_held_out_pairs_are_drawn_fold_by_fold_and_read_in_the_drawn_order(evaluation: Evaluation) -> None:
    drawing = next(one for one in drawings.drawings_of(report_page._open(evaluation)) if one.name.startswith("rdms-"))
    assert drawing.hover is not None
    assert [text.get_text() for text in drawing.figure.axes[0].texts] == ["fold 0", "fold 1"]
    known = dict(zip(drawing.hover.matrices, plot_ranks(drawing.hover.matrices.values()), strict=True))
    for figure in (drawing.figure, drawing.narrow):
        images = [image.get_array() for ax in figure.axes for image in ax.images]
        assert len(images) == len(drawing.hover.panels) == 6
        for panel, image, label in zip(
            drawing.hover.panels[:4], images, [*known][:1] * 2 + [*known][1:] * 2, strict=False
        ):
            expected = squareform(known[label], checks=False)[np.ix_(panel.order, panel.order)]
            np.testing.assert_allclose(np.ma.filled(image, np.nan), expected)


def plot_ranks(matrices: Any) -> list[Any]:
    """Ranks from 0 to 1 among the pairs that all matrices have."""
    pairs = np.stack(list(matrices)).astype(float)
    shared = np.isfinite(pairs).all(0)
    ranks = np.full(pairs.shape, np.nan)
    ranks[:, shared] = (rankdata(pairs[:, shared], axis=1) - 1) / (shared.sum() - 1)
    return list(ranks)


def test_with_images_the_worst_pairs_are_shown_and_a_map_only_if_all_pairs_are_known() -> None:
    folds, whole = (replace(report_page._open(run), stimuli=IMAGES) for run in (make_evaluation(), whole_evaluation()))
    _, draw, _ = drawings.DRAWINGS  # the scores, the RDMs and the training
    of_folds, of_whole = ([one.name for one in draw(run)] for run in (folds, whole))
    assert [name for name in of_folds if name.startswith(("map", "worst"))] == ["worst-fitted-conv-IT"]
    assert [name for name in of_whole if name.startswith(("map", "worst"))] == [
        "map-fitted-conv-IT",
        "worst-fitted-conv-IT",
    ]
    few = replace(whole, stimuli=IMAGES.select(NAMES[:5]))
    assert not [one for one in draw(few) if one.name.startswith(("map", "worst"))]


def test_images_are_those_of_conditions_that_are_named_by_their_files() -> None:
    files = [f"stimuli/{name}.png" for name in NAMES]
    found = hover.thumbnails(IMAGES, files)
    assert found is not None
    assert list(found["places"]) == files
    with pytest.raises(BrainrdlError, match=r"none of the \d+ stimuli .* is among the conditions \['other'\]"):
        hover.thumbnails(IMAGES, ["other"])


IMAGES = Stimuli.from_arrays(torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(0)), list(NAMES))


def whole_evaluation() -> Evaluation:
    """An evaluation in which all pairs were held out together."""
    random = np.random.default_rng(0)
    pairs = torch.tensor(random.random((3, N * (N - 1) // 2)))
    where = {"target": "IT", "layer": "conv", "names": NAMES, "base": "unfitted"}
    rows = [
        HeldOut(student="fitted", role=Role.STUDENT, pairs=pairs[0], **where),
        HeldOut(student="unfitted", role=Role.UNFITTED, pairs=pairs[1], **where),
    ]
    truth = {"IT": TeacherRDMs("IT", NAMES, ("s0",), pairs[2:])}
    return assemble(rows, truth, ("corr",), "none", None, 0, settings={"held_out": list(NAMES)})


def test_the_chosen_steps_of_training_curves_are_those_of_the_monitor() -> None:
    run = make_evaluation(fit={"monitor": "accuracy", "steps": 60})
    run.histories["validation_similarity"] = run.histories["step"] / 60
    run.histories["validation_accuracy"] = 1 - (run.histories["step"] - 30).abs() / 60
    figure = next(one for one in drawings.DRAWINGS[-1](report_page._open(run)) if one.name == "training-fitted").figure
    circles = [line.get_xdata()[0] for line in figure.axes[0].lines if str(line.get_label()).endswith("best step")]
    assert circles == [30, 30]
