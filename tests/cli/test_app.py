"""The command line as a user meets it: by status, one line of error, and what it leaves on disk."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console

import brainrdl
from brainrdl import BrainrdlError, datasets, rdms
from brainrdl._core import errors
from brainrdl._core.constants import NOISE
from brainrdl._core.rows import Role
from brainrdl._core.signals import Stopped
from brainrdl.cli import app, common, completion, summary_tables
from brainrdl.cli.spelling import READER, Command
from brainrdl.dissimilarity.registry import DISSIMILARITIES
from brainrdl.evaluation.held_out import assemble
from brainrdl.evaluation.scores import HeldOut, TeacherRDMs
from brainrdl.models.networks import known_names
from brainrdl.recipe import running, starter
from brainrdl.similarity.registry import SIMILARITIES

NAMES = [f"face_{i:02d}" for i in range(12)]


class _Done(NamedTuple):
    stdout: str
    stderr: str


def _run(*words: object, folder: Path | None = None, status: int = 0) -> _Done:
    """What `brainrdl WORDS` does, in this process: starting another for each costs seconds."""
    out, error = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(error):
        patch.chdir(folder or Path.cwd())
        patch.setattr(sys, "argv", ["brainrdl", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            app.main()
    assert (left.value.code or 0) == status, error.getvalue() + out.getvalue()
    return _Done(out.getvalue(), error.getvalue())


def _refused(*words: object, folder: Path | None = None, status: int = 1) -> str:
    error = _run(*words, folder=folder, status=status).stderr.strip()
    assert error.startswith("brainrdl: ")
    assert "\n" not in error
    assert "Traceback" not in error
    return error


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, two RDM files and a recipe."""
    folder = tmp_path_factory.mktemp("work")
    random = np.random.default_rng(0)
    (folder / "images").mkdir()
    for name in NAMES:
        Image.fromarray(random.integers(0, 255, (10, 10), dtype=np.uint8)).save(folder / "images" / f"{name}.png")
    pairs = random.random((3, 66))
    brain = rdms.from_array(pairs, NAMES, descriptors={"subject": ["s1", "s2", "s3"], "roi": ["IT"] * 3})
    brain.save(str(folder / "it.h5"), file_type="hdf5")
    np.save(folder / "it.npy", pairs.mean(0))
    recipe = {
        "stimuli": {"folder": "images"},
        "teacher": {"rdms": "it.h5"},
        "student": {"model": "small_cnn", "layers": ["pool"]},
        "fit": {"steps": 2, "evaluate_every": 1, "device": "cpu"},
        "evaluation": {"folds": 3, "controls": ["unfitted"]},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A finished run of the recipe."""
    done = _run("fit", "recipe.yaml", "--out", "runs/it", "--quiet", folder=folder)
    assert "report: runs/it/report.html" in done.stdout
    return folder / "runs" / "it"


def test_fit_leaves_recipe_tables_and_report(run: Path) -> None:
    found = {path.name for path in run.iterdir()}
    assert {"recipe.yaml", "settings.json", "scores.csv", "summary.csv", "report.html", "fits"} <= found


def test_commands_find_the_images_of_conditions_that_are_named_by_files(run: Path, folder: Path) -> None:
    files = [f"stimuli/{name}.png" for name in NAMES]
    brain = rdms.from_array(np.random.default_rng(0).random((3, 66)), files, descriptors={"subject": ["a", "b", "c"]})
    brain.save(str(folder / "files.h5"), file_type="hdf5", overwrite=True)
    data, images = ("--data", "files.h5"), ("--stimuli", "images")
    assert "12 conditions in common" in _run("doctor", "files.h5", *images, folder=folder).stdout
    compared = _run("rsa", "small_cnn:pool", *data, *images, "--folds", 0, "--json", "--quiet", folder=folder)
    assert {row["model"] for row in json.loads(compared.stdout)} == {"small_cnn"}
    one_fit = next((run / "fits").iterdir())
    found = _refused("evaluate", one_fit, "--teacher", "files.h5", *images, folder=folder)
    assert re.search(r"stimuli/(face_\d\d)\.png \(byte-identical to \1\)", found), found


@pytest.fixture(scope="module")
def sweep(folder: Path) -> _Done:
    """A sweep of two points, with a task on images of its own."""
    pixels = np.random.default_rng(1).integers(0, 255, (12, 10, 10, 1), dtype=np.uint8)
    names = [f"task_{i}" for i in range(12)]
    np.savez(folder / "task.npz", images=pixels, names=names, labels=["a", "b"] * 6)
    task = ["task.stimuli.arrays=task.npz", "task.validation=0.5", "fit.monitor=accuracy", "evaluation.folds=2"]
    words = [word for change in [*task, "evaluation.controls=[]"] for word in ("--set", change)]
    return _run(
        "sweep", "recipe.yaml", "fit.rdm_weight=0,.00001", "--out", "runs/sweep", "--quiet", *words, folder=folder
    )


@pytest.mark.slow
def test_sweep_prints_its_table_and_links_the_reports_of_its_points(sweep: _Done, folder: Path) -> None:
    lines = sweep.stdout.splitlines()
    assert lines[0] == "spearman with single subjects' RDMs, held out"
    assert lines[1].split("  ")[0] == "fit.rdm_weight"
    assert [line.split()[0] for line in lines[2:4]] == ["0", "1e-05"]
    assert lines[-1] == "report: runs/sweep/index.html"
    page = (folder / "runs" / "sweep" / "index.html").read_text()
    links = re.findall(r'href="(points/[^"]*)"', page)
    assert len(links) == 2
    assert all((folder / "runs" / "sweep" / link).is_file() for link in links)
    assert '<img src="data:image/png;base64,' in page
    assert {"table.csv", "pareto.png", "pareto.pdf"} <= {path.name for path in (folder / "runs" / "sweep").iterdir()}


def test_help_of_sweep_shows_how_lists_are_written() -> None:
    assert "student.layers=[conv1],[conv2]" in _run("sweep", "--help").stdout


@pytest.mark.slow
def test_sweep_refuses_what_fit_refuses_and_an_unknown_key(sweep: _Done, folder: Path) -> None:
    again = ("sweep", "recipe.yaml", "fit.rdm_weight=0", "--out", "runs/sweep")
    assert "resume or overwrite it with --resume or --overwrite" in _refused(*again, folder=folder)
    unknown = _refused("sweep", "recipe.yaml", "fit.rdm_wait=0,1", "--out", "runs/new", folder=folder)
    assert "unknown key fit.rdm_wait; nearest: 'rdm_weight'" in unknown
    assert not (folder / "runs" / "new").exists()


@pytest.mark.slow
def test_fit_refuses_a_run_folder_that_exists_and_resumes_it_when_asked(run: Path, folder: Path) -> None:
    refused = _refused("fit", "recipe.yaml", "--out", "runs/it", folder=folder)
    assert "resume or overwrite it with --resume or --overwrite" in refused
    rows = json.loads(_run("fit", "recipe.yaml", "--out", "runs/it", "--resume", "--json", folder=folder).stdout)
    assert {row["student"] for row in rows} == {"fitted", "unfitted"}


def test_evaluate_prints_other_comparators_as_json(run: Path, folder: Path) -> None:
    rows = json.loads(_run("evaluate", "runs/it", "-c", "tau-a", "--json", folder=folder).stdout)
    assert {row["comparator"] for row in rows} == {"tau-a"}


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_evaluate_leaves_the_run_as_it_is_and_writes_where_it_is_told(run: Path, folder: Path) -> None:
    before = _contents(run)
    _run("evaluate", "runs/it", "-c", "tau-a", folder=folder)
    done = _run("evaluate", "runs/it", "-c", "tau-a", "--out", "runs/tau", folder=folder)
    assert _contents(run) == before
    assert "scores: runs/tau" in done.stdout
    assert set(pd.read_csv(folder / "runs" / "tau" / "scores.csv")["comparator"]) == {"tau-a"}
    with_scores = _refused("evaluate", "runs/it", "--out", "runs/tau", folder=folder)
    assert "--out 'runs/tau' must be a new or empty folder" in with_scores


def test_evaluate_refuses_a_folder_that_holds_no_run(folder: Path) -> None:
    assert _refused("evaluate", "images", folder=folder) == (
        "brainrdl: 'images' is not a run folder of 'brainrdl fit': it has no file recipe.yaml; give the folder of a run"
    )


def test_a_table_has_one_target_and_its_own_ceilings() -> None:
    names = NAMES[:6]
    noise = np.random.default_rng(0).random((2, 3, 15))
    truth = {
        target: TeacherRDMs(target, tuple(names), ("s1", "s2", "s3"), torch.from_numpy(noise[k] + weight * noise[0, 0]))
        for k, (target, weight) in enumerate({"V1": 5.0, "IT": 0.0}.items())
    }
    rows = [
        HeldOut(
            student="fitted",
            role=Role.STUDENT,
            target=target,
            names=tuple(names),
            pairs=torch.from_numpy(noise[1, 0]),
        )
        for target in truth
    ]
    evaluation = assemble(rows, truth, ["corr"], "none", None, 0)
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        console = Console(file=out, width=200)
        patch.setattr(summary_tables, "console", console)
        patch.setattr(common, "console", console)
        summary_tables.print_summary(evaluation, as_json=False)
    columns = ["ceiling", "ceiling_lower", "ceiling_upper"]
    ceilings = evaluation.summary.set_index(["target", "against"])[columns]
    assert ceilings.loc[("V1", "mean"), "ceiling"] > ceilings.loc[("IT", "mean"), "ceiling"] + 0.1
    for target in truth:
        mean, (single, lower, upper) = ceilings.loc[(target, "mean")].iloc[0], ceilings.loc[(target, "subjects")]
        of_mean = f"corr with the subjects' mean RDM of {target}, expected of a perfect model: {mean:.3f}\n"
        of_subjects = f"corr with single subjects' RDMs of {target}, expected of a perfect model: {single:.3f} "
        assert of_mean in out.getvalue()
        assert f"{of_subjects}(noise ceiling {lower:.3f} to {upper:.3f})\n" in out.getvalue()
    assert out.getvalue().count("fitted") == 4


@pytest.mark.slow
def test_plot_and_report_write_files(run: Path, folder: Path) -> None:
    _run("plot", "runs/it", "--out", "figures", folder=folder)
    _run("report", "runs/it", "--out", "page.html", folder=folder)
    _run("plot", "it.h5", "--out", "it.png", folder=folder)
    assert len(list((folder / "figures").glob("*.png"))) >= 3
    assert (folder / "page.html").read_text().startswith("<!doctype html>")
    with Image.open(folder / "it.png") as drawn:
        assert drawn.size[0] > 200


@pytest.mark.slow
def test_report_has_a_title_and_images_and_opens_several_folders(run: Path, folder: Path) -> None:
    _run("evaluate", "runs/it", "-c", "corr", "--out", "runs/again", "--quiet", folder=folder)
    _run("report", "runs/it", "--title", "A & B", "--stimuli", "images", "--out", "images.html", folder=folder)
    page = (folder / "images.html").read_text(encoding="utf-8")
    assert "<h1>A &amp; B</h1>" in page
    assert '"thumbnails":{"src":"data:image/jpeg;base64,' in page
    assert "pairs with the largest difference of ranks" in page
    _run("report", "runs/again", "--out", "again.html", "--quiet", folder=folder)
    assert "Pearson correlation" in (folder / "again.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_report_shows_a_run_and_an_rsa_side_by_side(run: Path, folder: Path) -> None:
    rdms.from_array(np.random.default_rng(2).random(66), NAMES).save(str(folder / "gist.h5"), file_type="hdf5")
    _run("rsa", "gist.h5", "--data", "it.h5", "-c", "corr", "--out", "runs/rsa", "--quiet", folder=folder)
    assert "needs a file; give one with --out" in _refused("report", "runs/it", "runs/rsa", folder=folder)
    _run("report", "runs/it", "runs/rsa", "--out", "both.html", folder=folder)
    page = (folder / "both.html").read_text(encoding="utf-8")
    assert "gist" in page
    assert "fitted" in page
    _run("report", "runs/rsa", "--title", "Two models", "--out", "rsa.html", folder=folder)
    assert "<h1>Two models</h1>" in (folder / "rsa.html").read_text(encoding="utf-8")


def test_compare_pairs_conditions_by_name(folder: Path) -> None:
    words = ("compare", "it.h5", "it.npy", "--names", "images", "-c", "corr", "--json", "--out", "compare.png")
    rows = json.loads(_run(*words, folder=folder).stdout)
    assert len(rows) == 3
    assert all(0.2 < row["similarity"] < 1 and row["n_pairs"] == 66 for row in rows)
    assert (folder / "compare.png").exists()


@pytest.mark.slow
def test_names_go_only_to_the_file_that_holds_none(folder: Path) -> None:
    rdms.select(rdms.from_array(np.arange(66.0), NAMES), NAMES[:8]).save(str(folder / "few.h5"), file_type="hdf5")
    words = ("few.h5", "it.npy", "--names", "images", "--common", "-c", "corr", "--json")
    (row,) = json.loads(_run("compare", *words, folder=folder).stdout)
    assert (row["a"], row["b"], row["n_pairs"]) == ("few.h5", "it.npy", 28)
    (folder / "two.txt").write_text("one\ntwo\n")
    _run("plot", "it.h5", "--names", "two.txt", "--out", "named.png", folder=folder)
    assert "'it.npy' (reader 'numpy'): 2 names were given (['one', 'two']) for 12 conditions" in _refused(
        "compare", "it.h5", "it.npy", "--names", "two.txt", folder=folder
    )


def test_names_taken_from_a_folder_are_told_in_the_order_that_was_assumed(folder: Path) -> None:
    first = "face_00, face_01, face_02, face_03, face_04, ..."
    told = f"condition names of it.npy: the files in images/ in alphabetical order: {first}\n"
    words = ("compare", "it.h5", "it.npy", "--names", "images/")
    assert _run(*words, folder=folder).stderr == told
    assert _run("plot", "it.npy", "--names", "images", "--out", "told.png", folder=folder).stderr == told
    assert _run(*words, "--json", folder=folder).stderr == ""
    (folder / "order.txt").write_text("\n".join(NAMES))
    assert _run("compare", "it.h5", "it.npy", "--names", "order.txt", folder=folder).stderr == ""


@pytest.mark.parametrize(
    ("n", "told"), [(5, "face_00, face_01, face_02, face_03, face_04"), (3, "face_00, face_01, face_02")]
)
def test_a_few_names_from_a_folder_are_listed_in_full(folder: Path, tmp_path: Path, n: int, told: str) -> None:
    for name in NAMES[:n]:
        shutil.copy(folder / "images" / f"{name}.png", tmp_path)
    np.save(folder / "few.npy", np.arange(n * (n - 1) / 2))
    stderr = _run("plot", "few.npy", "--names", tmp_path, "--out", f"few{n}.png", folder=folder).stderr
    assert stderr == f"condition names of few.npy: the files in {tmp_path}/ in alphabetical order: {told}\n"


@pytest.fixture(scope="module")
def regions(folder: Path) -> Path:
    """Two regions and three subjects, the first of two sessions; the conditions are named by "item"."""
    pairs = np.random.default_rng(1).random((8, 66))
    described = {
        "roi": ["V1", "IT"] * 4,
        "subject": ["s1"] * 4 + ["s2"] * 2 + ["s3"] * 2,
        "session": ["1", "1", "2", "2", "1", "1", "1", "1"],
    }
    rdms.from_array(pairs, NAMES, by="item", descriptors=described).save(str(folder / "regions.h5"), file_type="hdf5")
    np.savez(folder / "two.npz", first=pairs[:1], second=pairs[1:2], names=NAMES)
    return folder


def _compared(folder: Path, *words: str) -> dict[tuple[str, str], float]:
    rows = json.loads(_run("compare", *words, "-c", "corr", "--json", folder=folder).stdout)
    return {(row["a"], row["b"]): row["similarity"] for row in rows}


def test_compare_passes_options_to_the_reader_of_either_file_or_of_one(regions: Path) -> None:
    same = _compared(regions, "two.npz", "two.npz", "--read", "variable=first")
    other = _compared(regions, "two.npz", "two.npz", "--read", "a:variable=first", "--read", "b:variable=second")
    assert same[("two.npz", "two.npz")] == pytest.approx(1)
    assert other[("two.npz", "two.npz")] < 0.5


def test_compare_chooses_targets_and_subjects_and_says_which(regions: Path) -> None:
    words = ("regions.h5", "two.npz", "--read", "a:by=item", "--read", "b:variable=first")
    assert len(_compared(regions, *words)) == 8
    chosen = _compared(regions, *words, "--target", "IT", "--subject", "s2", "--subject", "s3")
    assert set(chosen) == {(f"regions.h5: IT 1 {subject}", "two.npz") for subject in ("s2", "s3")}
    twice = _compared(regions, *words, "--target", "V1", "--subject", "s1")
    assert {a for a, _ in twice} == {"regions.h5: V1 1 s1", "regions.h5: V1 2 s1"}


def test_mean_averages_sessions_before_subjects(regions: Path) -> None:
    words = ("regions.h5", "two.npz", "--read", "a:by=item", "--read", "b:variable=first")
    pairs = np.random.default_rng(1).random((8, 66))
    expected = np.corrcoef((pairs[[0, 2]].mean(0) + pairs[4] + pairs[6]) / 3, pairs[0])[0, 1]
    found = _compared(regions, *words, "--mean", "--average-over", "session")
    assert set(found) == {("regions.h5: V1, mean", "two.npz: mean"), ("regions.h5: IT, mean", "two.npz: mean")}
    assert found[("regions.h5: V1, mean", "two.npz: mean")] == pytest.approx(expected)
    each = {first for first, _ in _compared(regions, *words, "--mean")}
    assert {"regions.h5: V1 / 1, mean", "regions.h5: V1 / 2, mean"} <= each  # sessions are not averaged unasked


def test_plot_draws_the_chosen_rdms_and_titles_them(regions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[str]] = []
    monkeypatch.setattr(
        app,
        "save_figure",
        lambda figure, path: drawn.append([ax.get_title(loc="left") for ax in figure.axes if ax.images]),
    )
    _run("plot", "regions.h5", "--read", "by=item", "--target", "IT", "--subject", "s3", folder=regions)
    assert drawn == [["regions.h5: IT 1 s3"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "ITT"), r"--target 'ITT' is not known; nearest: 'IT' (known: V1, IT)"),
        (("--subject", "s9"), r"--subject 's9' is not known; nearest: 's3', 's2', 's1' (known: s1, s2, s3)"),
        (
            ("--read", "variable"),
            "--read expects KEY=VALUE (for one of the files, a:KEY=VALUE or b:KEY=VALUE), got 'variable'",
        ),
        (("--read", "c:by=item"), "got 'c:by=item'"),
        (
            ("--read", "names=x"),
            "'names' is not an option of a reader; give the file as an argument and the names with --names FILE",
        ),
        (("--read", "variable=a"), "option --read [a:|b:]variable of reader 'rsatoolbox' is not known"),
        (
            ("--out", "figure.xyz"),
            "--out 'figure.xyz' is not an image file; choose a name like figure.png, .pdf or .svg",
        ),
    ],
)
def test_wrong_choice_is_refused_in_words_of_the_command_line(
    regions: Path, words: tuple[str, ...], message: str
) -> None:
    assert message in _refused("compare", "regions.h5", "regions.h5", "--read", "by=item", *words, folder=regions)


def test_choice_among_rdms_that_do_not_differ_in_it_is_refused(regions: Path) -> None:
    rdms.from_array(np.arange(66.0), NAMES, descriptors={"roi": ["V1"]}).save(str(regions / "v1.h5"), file_type="hdf5")
    refused = _refused("compare", "it.npy", "it.npy", "--names", "images", "--target", "IT", "--json", folder=regions)
    assert "--target 'IT': no RDM in ['it.npy', 'it.npy'] has a descriptor 'roi'; leave it out" in refused
    refused = _refused("compare", "v1.h5", "it.h5", "--target", "IT", folder=regions)
    assert "'v1.h5' holds no RDM with roi ['IT']; it has ['V1']" in refused


def test_advice_about_a_file_names_it_and_the_options(regions: Path) -> None:
    refused = _refused("compare", "it.h5", "it.npy", folder=regions)
    assert "file 'it.npy': RDMs have no pattern descriptor" in refused
    assert "choose one with --read [a:|b:]by=VALUE, or give the file's names when reading it: --names FILE" in refused
    rdms.from_array(np.arange(28.0), NAMES[:8]).save(str(regions / "eight.h5"), file_type="hdf5")
    refused = _refused("compare", "it.h5", "eight.h5", folder=regions)
    assert refused.startswith("brainrdl: files 'it.h5' and 'eight.h5': the two RDMs do not have the same conditions")
    assert refused.endswith("in common with --common")


def test_figures_of_a_run_go_to_a_folder_and_no_image(run: Path, folder: Path) -> None:
    assert "--out 'all.png' must be a folder" in _refused("plot", "runs/it", "--out", "all.png", folder=folder)
    assert not (folder / "all.png").exists()


def test_error_of_the_system_is_one_line_with_path_and_reason() -> None:
    worded, status = app._worded(PermissionError(13, "Permission denied", "figures/.it-abc123.png"))
    assert (worded, status) == ("'figures': Permission denied; choose another path, or change its permissions", 1)
    assert app._worded(OSError("broken pipe"))[0] == "OSError: broken pipe (--debug shows where)"


def test_what_is_completed_is_what_there_is_and_costs_no_heavy_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert completion.networks() == list(known_names())
    (kept,) = (tmp_path / "brainrdl").glob("networks-*.json")
    code = (
        "import sys; from brainrdl.cli import completion as c; "
        "print(*c.comparators(), *c.dissimilarities(), *c.noise_methods(), *c.data_sets(), *c.networks()); "
        "print({'torch', 'torchvision', 'pandas', 'rsatoolbox'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, heavy = done.stdout.splitlines()
    assert names.split() == [*SIMILARITIES, *DISSIMILARITIES, *NOISE, *datasets.names(), *known_names()]
    assert heavy == "set()"
    kept.write_text("damaged")
    assert completion.networks() == list(known_names())


def test_completion_offers_names_that_begin_as_the_word_does() -> None:
    assert completion.complete(completion.comparators)("co") == ["cosine", "corr", "corr_cov", "cosine_cov"]


@pytest.mark.parametrize(
    ("given", "spelled"),
    [
        (errors.read_arg("names"), "--names FILE"),
        (errors.read_arg("roi", ["V1", "big IT"]), "--roi V1 --roi 'big IT'"),
        (errors.read_arg("axes", "first"), "--read axes=first"),
        (errors.read_arg("runs", "*/bold.nii"), "--read 'runs=*/bold.nii'"),
        (errors.read_arg("entities", {"desc": "preproc"}), "--read entities=desc:preproc"),
        (errors.read_arg("baseline", ["rest", "cue"]), "--read baseline=rest --read baseline=cue"),
        (errors.read_named("t_r"), "--read t_r"),
        (errors.arg("windows", [(0.05, 0.1)]), "--window 0.05:0.1"),
        (errors.arg("windows"), "--window START:END"),
        (errors.arg("noise"), "--noise-normalisation METHOD"),
        (errors.arg("overwrite", True), "--overwrite"),
        (errors.named("dissimilarity"), "--dissimilarity"),
        (errors.arg("combine", "mean"), "combine='mean'"),
    ],
)
def test_arguments_in_messages_are_spelled_as_options(given: str, spelled: str) -> None:
    rdm = dict(_commands())[("rdm",)]
    with pytest.raises(BrainrdlError) as refused:  # noqa: SIM117
        with errors.about(spelling=rdm.spelled):
            errors.refuse(f"give {given}")
    assert str(refused.value) == f"give {spelled}"


def test_warning_is_one_line(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("always")
        patch.setattr(starter, "template", lambda: warnings.warn("look out", stacklevel=1) or "")
        assert _run("recipe", "--template").stderr == "brainrdl: look out\n"


def test_layers_lists_what_can_be_read_out() -> None:
    rows = json.loads(_run("layers", "lenet", "--json").stdout)
    assert {"conv2", "logits"} <= {row["layer"] for row in rows}


def test_recipe_prints_a_template_that_it_accepts(folder: Path) -> None:
    (folder / "template.yaml").write_text(_run("recipe", "--template").stdout)
    assert "inner_folds: 4" in _run("recipe", "template.yaml", folder=folder).stdout


@pytest.mark.parametrize(
    ("words", "message", "status"),
    [
        (("fit", "nothing.yaml"), "cannot read recipe 'nothing.yaml'", 1),
        (("fit", "recipe.yaml", "--set", "fit.stepps=3"), "unknown key fit.stepps; nearest: 'steps'", 1),
        (("layers", "resnet1"), "nearest: 'resnet18'", 1),
        (("compare", "it.h5", "it.npy"), "no pattern descriptor 'stimulus' that names their conditions", 1),
        (("compare", "it.h5", "it.h5", "-c", "cor"), "nearest: 'corr'", 1),
        (("report", "nowhere"), "nowhere", 1),
        (("frobnicate",), "No such command 'frobnicate'", 2),
        (("fit",), "Missing argument", 2),
        (("recipe", "recipe.yaml", "--template"), "'recipe.yaml' is a recipe to check; give one of the two", 1),
    ],
)
def test_failure_is_one_line_and_a_status(folder: Path, words: tuple[str, ...], message: str, status: int) -> None:
    assert message in _refused(*words, folder=folder, status=status)


def _interrupting(module: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, name, interrupted)


def test_interrupted_fit_says_how_to_go_on(run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _interrupting(running, "run", monkeypatch)
    words = ("fit", "recipe.yaml", "--out", "runs/it", "--overwrite", "--set", "fit.steps=2")
    told = _refused(*words, folder=folder, status=130)
    assert told == (
        "brainrdl: interrupted; 'runs/it' keeps what was done: "
        "continue with `brainrdl fit recipe.yaml --out runs/it --set fit.steps=2 --resume`"
    )
    assert _refused("fit", "recipe.yaml", "--out", "runs/new", folder=folder, status=130) == "brainrdl: interrupted"


def test_a_stopped_fit_says_how_to_go_on_unless_the_old_run_is_back(
    run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = Stopped(signal.SIGTERM)

    def stopped(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(running, "run", stopped)
    words = ("fit", "recipe.yaml", "--out", "runs/it")
    told = _refused(*words, folder=folder, status=143)
    assert told.endswith("continue with `brainrdl fit recipe.yaml --out runs/it --resume`")
    error.add_note("the old run is back")
    told = _refused(*words, "--overwrite", folder=folder, status=143)
    assert told == "brainrdl: interrupted; the old run is back"


def test_interrupt_of_a_command_that_cannot_resume_promises_nothing(
    run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupting(running, "evaluate_run", monkeypatch)
    assert _refused("evaluate", "runs/it", folder=folder, status=130) == "brainrdl: interrupted"


def test_debug_lets_the_failure_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["brainrdl", "fit", "nothing.yaml", "--debug"])
    with pytest.raises(BrainrdlError):
        app.main()


def _commands(group: Any = None, before: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every command with its words, those of groups among them."""
    group = group or app._group()
    found = []
    for name, command in group.commands.items():
        words = (*before, name)
        found += _commands(command, words) if hasattr(command, "commands") else [(words, command)]
    return found


@pytest.mark.parametrize("words", [words for words, _ in _commands()], ids=" ".join)
def test_help_of_every_command_has_an_example(words: tuple[str, ...]) -> None:
    shown = _run(*words, "--help").stdout.split("Usage", 1)[1].split("\n", 1)[1]
    assert re.search(r"Examples?:\s+brainrdl", shown)
    assert "brainrdl " + " ".join(words) in " ".join(shown.split())


def test_every_command_spells_arguments_as_its_own_options() -> None:
    assert {type(command) for _, command in _commands()} == {Command}
    assert len(_commands()) == 19


def test_python_dash_m_brainrdl_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "brainrdl", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == brainrdl.__version__
    done = subprocess.run([sys.executable, "-m", "brainrdl", "fit"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith("brainrdl: Missing argument")) == (2, True)


WRITES = [
    (("plot", "it.h5", "--out", "there.png"), "there.png"),
    (("compare", "it.h5", "it.h5", "--out", "there.png"), "there.png"),
    (("doctor", "it.h5", "--out", "there.png"), "there.png"),
    (("rdm", "it.h5", "--out", "there.csv"), "there.csv"),
    (("report", "runs/it", "--out", "there.html"), "there.html"),
    (("plot", "runs/it", "--out", "there"), "there/scores.png"),
]


def _precious(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    return path


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(("words", "name"), WRITES, ids=[" ".join(words) for words, _ in WRITES])
def test_a_command_that_writes_a_file_keeps_an_existing_one(words: tuple[str, ...], name: str, folder: Path) -> None:
    path = _precious(folder / name)
    refused = _refused(*words, folder=folder)
    assert f"{path.name}' exists already; replace with --overwrite, or choose another name" in refused
    assert path.read_text() == "precious"


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("words", "name"),
    [
        pytest.param(*case, marks=pytest.mark.slow if {"runs/it", "doctor", "plot"} & set(case[0]) else ())
        for case in WRITES
    ],
    ids=[" ".join(words) for words, _ in WRITES],
)
def test_a_command_that_is_told_to_overwrite_a_file_does(words: tuple[str, ...], name: str, folder: Path) -> None:
    path = _precious(folder / name)
    _run(*words, "--overwrite", folder=folder)
    assert b"precious" not in path.read_bytes()


def _printed(console: Console, table: pd.DataFrame) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "console", console)
        common.print_table(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_tables_are_one_line_a_row_in_a_pipe_and_wrapped_in_a_terminal() -> None:
    long = {"layer": ["features." * 12 + "0"], "shape": ["(64,112,112)"], "reads": ["x" * 90]}
    piped = _printed(Console(file=io.StringIO(), width=40), pd.DataFrame(long))
    assert piped.splitlines()[1].split() == [column[0] for column in long.values()]
    shown = _printed(Console(file=io.StringIO(), width=40, force_terminal=True, color_system=None), pd.DataFrame(long))
    assert max(map(len, shown.splitlines())) <= 40
    assert "…" not in shown
    assert shown.count("x") == 90


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['brainrdl', '--help']\n"
        "try:\n    from brainrdl.cli.app import main; main()\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'pandas', 'rsatoolbox', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


WITHOUT_TORCH = [
    ["--help"],
    ["--version"],
    ["recipe", "--template"],
    ["recipe", "--help"],
    ["recipe", "no.yaml"],
    ["fit", "--help"],
    ["fit", "no.yaml"],
    ["sweep", "no.yaml", "fit.steps=1,2"],
    ["data", "list"],
    ["data", "--help"],
    ["layers"],
    ["no-such-command"],
    ["rdm", "no.csv", "--out", "no.h5"],
    ["rdm", "no.csv", "--out", "no.png"],
    ["doctor", "no.csv"],
    ["compare", "no.csv", "no.csv"],
    ["compare", "no.csv", "no.csv", "--read", "word"],
    ["plot", "no.csv"],
    ["rsa", "model.h5", "--data", "no.csv", "--out", "no"],
    ["power", "no.csv", "no.csv", "--n-stimuli", "10", "--n-subjects", "10"],
    ["searchlight", "no.csv", "--mask", "no.nii", "--model", "no.csv", "--radius", "5", "--out", "no"],
    ["evaluate", "no"],
    ["evaluate", "no", "--teacher", "no.csv"],
    ["report", "no"],
]


def test_commands_that_compute_nothing_do_not_load_torch(tmp_path: Path) -> None:
    code = (
        "import json, sys\nfrom brainrdl.cli.app import main\n"
        "for words in json.loads(sys.argv[1]):\n    sys.argv = ['brainrdl', *words]\n    try: main()\n"
        "    except SystemExit: pass\n"
        "    if 'torch' in sys.modules: sys.exit(' '.join(words) + ' loads torch')"
    )
    words = [sys.executable, "-c", code, json.dumps(WITHOUT_TORCH)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stderr.count("there is no file 'no.csv'") == 7


def test_every_option_can_be_advised_in_a_message() -> None:
    commands = [command for command in app._group().commands.values() if isinstance(command, Command)]
    options = [(command, option) for command in commands for option in command.params if option.opts[0].startswith("-")]
    spelled = [command.spelled(errors.Argument(str(option.name), of=_owner(option))) for command, option in options]
    assert [
        option.name for (_, option), said in zip(options, spelled, strict=True) if not str(said).startswith("-")
    ] == []
    rsa = next(command for command in commands if command.name == "rsa")
    assert rsa.spelled(errors.Argument("folds")) == "--folds FOLDS"


def _owner(option: Any) -> str:
    return "read" if option.rich_help_panel == READER else ""
