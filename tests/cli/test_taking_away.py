"""`brainrdl export`, `brainrdl evaluate --teacher` and `brainrdl rdm --run`, as a user meets them."""

from __future__ import annotations

import io
import json
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from brainrdl import Stimuli, rdms, recipe
from brainrdl._core.files import read_rdms
from brainrdl.cli import app
from brainrdl.recipe.running import run
from brainrdl.sharing import load_run

NAMES = [f"face_{i:02d}" for i in range(10)]
OTHERS = [f"tool_{i:02d}" for i in range(6)]


def _run(*words: object, folder: Path, status: int = 0, warned: str = "") -> str:
    """What `brainrdl WORDS` prints: on stderr if it fails, which must be one line. A warning must be expected."""
    out, error = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(error), warnings.catch_warnings():
        warnings.simplefilter("always" if warned else "error")
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["brainrdl", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            app.main()
    assert (left.value.code or 0) == status, error.getvalue() + out.getvalue()
    if status:
        assert error.getvalue().strip().count("\n") == 0
        return error.getvalue().strip()
    assert warned in error.getvalue()
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validation with a final fit (runs/it), one without (runs/folds), other images and RDMs."""
    folder = tmp_path_factory.mktemp("work")
    rng = np.random.default_rng(0)
    for images, names in (("images", NAMES), ("other", OTHERS)):
        (folder / images).mkdir()
        for name in names:
            pixels = rng.integers(0, 255, (20, 20), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / images / f"{name}.png")
    (folder / "labels.csv").write_text(
        "stimulus,category\n" + "".join(f"{n},{'ab'[k % 2]}\n" for k, n in enumerate(OTHERS))
    )
    (folder / "groups.csv").write_text(f"stimulus,group\n{NAMES[0]},cup\n{OTHERS[1]},cup\n")
    n_pairs = len(NAMES) * (len(NAMES) - 1) // 2
    rdms.from_array(rng.random((2, n_pairs)), NAMES, descriptors={"subject": ["s1", "s2"]}).save(
        str(folder / "it.h5"), file_type="hdf5"
    )
    rows = {"subject": ["a", "b", "a", "b"], "roi": ["V1", "V1", "IT", "IT"]}
    rdms.from_array(rng.random((4, 15)), OTHERS, descriptors=rows).save(str(folder / "other.h5"), file_type="hdf5")
    content = {
        "stimuli": {"folder": "images"},
        "teacher": {"rdms": "it.h5"},
        "student": {"model": "small_cnn", "layers": ["conv3", "pool"], "pool": "avgpool"},
        "loss": {"dissimilarity": "euclidean"},
        "fit": {"steps": 2, "evaluate_every": 1, "device": "cpu"},
        "evaluation": {"held_out": NAMES[:4], "controls": []},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(recipe.check(content), Path("runs/folds"), progress=False)
        content["evaluation"] |= {"final": True}
        run(recipe.check(content), Path("runs/it"), progress=False)
    return folder


@pytest.mark.slow
def test_fit_says_where_the_final_model_is_and_the_page_that_it_has_no_score(folder: Path) -> None:
    said = _run("fit", "recipe.yaml", "--out", "runs/it", "--resume", "--set", "evaluation.final=true", folder=folder)
    assert "final model (fitted to all stimuli, not scored): runs/it/final" in said
    page = (folder / "runs" / "it" / "report.html").read_text(encoding="utf-8")
    assert "A student was then fitted to all 10 stimuli in 2 steps" in page
    assert "It has no held-out score itself" in page
    _run("fit", "recipe.yaml", "--out", "runs/folds", "--resume", folder=folder)
    other = (folder / "runs" / "folds" / "report.html").read_text(encoding="utf-8")
    assert "fitted to all" not in other


@pytest.mark.slow
def test_export_writes_a_folder_that_can_be_shared(folder: Path) -> None:
    said = _run("export", "runs/it", "--out", "model", folder=folder)
    assert "the card states no licence; set one with --licence before you share the model" in said
    assert "model: model" in said
    facts = json.loads(
        _run("export", "runs/it", "-o", "model", "--licence", "mit", "--overwrite", "--json", folder=folder)
    )
    assert {path.name for path in (folder / "model").iterdir()} == set(facts["files"])
    assert "license: mit" in (folder / "model" / "README.md").read_text()
    refused = _run("export", "runs/it", "--out", "model", folder=folder, status=1)
    assert refused == "brainrdl: 'model' is not empty; replace with --overwrite, or choose another folder"


def test_a_run_without_a_final_fit_is_refused_with_the_command_that_adds_one(folder: Path) -> None:
    refused = _run("export", "runs/folds", "--out", "model2", folder=folder, status=1)
    command = "brainrdl fit runs/folds/recipe.yaml --out runs/folds --resume --set evaluation.final=true"
    assert f"Add a final fit with `{command}`" in refused
    assert not (folder / "model2").exists()
    assert "is not a run folder of 'brainrdl fit'" in _run("export", "images", "-o", "x", folder=folder, status=1)


def test_evaluate_scores_a_run_on_other_images_and_subjects(folder: Path) -> None:
    words = ["evaluate", "runs/it", "--teacher", "other.h5", "--stimuli", "other", "--target", "IT"]
    rows = json.loads(_run(*words, "--labels", "labels.csv", "-c", "corr", "--json", folder=folder))
    assert {row["student"] for row in rows} == {"fitted", "unfitted", "category"}
    assert {row["target"] for row in rows} == {"IT"}
    said = _run(*words, "--out", "scores", folder=folder)
    assert "scores: scores" in said
    assert set(pd.read_csv(folder / "scores" / "summary.csv")["n_stimuli"]) == {6}
    _run("export", "runs/it", "--out", "model3", "--scores", "scores", folder=folder)
    card = (folder / "model3" / "README.md").read_text(encoding="utf-8")
    assert "## Scores on other images" in card
    assert "On 6 stimuli that were not used for the fit" in card
    assert "other, other stimuli" in card


def test_evaluate_matches_layers_with_regions(folder: Path) -> None:
    words = ["evaluate", "runs/it", "--teacher", "other.h5", "--stimuli", "other", "--json"]
    rows = json.loads(_run(*words, "--match", "conv3=V1", "--match", "pool=IT", folder=folder))
    assert {(row["layer"], row["target"]) for row in rows if row["layer"]} == {("conv3", "V1"), ("pool", "IT")}
    assert "give --match LAYER=TARGET" in _run(*words, folder=folder, status=1)
    assert "--match expects LAYER=TARGET, got 'conv3'" in _run(*words, "--match", "conv3", folder=folder, status=1)


def test_evaluate_refuses_images_that_the_run_has_seen(folder: Path) -> None:
    words = ["evaluate", "runs/it", "--teacher", "it.h5", "--stimuli", "images"]
    refused = _run(*words, folder=folder, status=1)
    assert "10 of the 10 stimuli are not new to the student: [face_00 (byte-identical to face_00)" in refused
    assert "leave them out with --drop-seen" in refused
    grouped = ["evaluate", "runs/it", "--teacher", "other.h5", "--stimuli", "other", "--target", "IT"]
    assert "same group" in _run(*grouped, "--groups", "groups.csv", folder=folder, status=1)
    warned = "1 of the 6 stimuli were left out as not new: [tool_01 (same group as face_00)]"
    rows = json.loads(_run(*grouped, "--groups", "groups.csv", "--drop-seen", "--json", folder=folder, warned=warned))
    assert {row["n_stimuli"] for row in rows} == {5}


def test_evaluate_refuses_options_that_would_have_no_effect(folder: Path) -> None:
    refused = _run("evaluate", "runs/it", "--stimuli", "other", folder=folder, status=1)
    assert "some options are for scores on other images, and need --teacher; leave out ['--stimuli']" in refused
    refused = _run("evaluate", "runs/it", "--teacher", "other.h5", folder=folder, status=1)
    assert "give their folder with --stimuli" in refused


def test_rdms_of_a_run_have_its_readouts_its_images_and_its_dissimilarity(folder: Path) -> None:
    said = _run("rdm", "--run", "runs/it", "--stimuli", "other", "--out", "fitted.h5", folder=folder)
    assert "2 RDMs of 6 conditions, euclidean" in said
    found = read_rdms(folder / "fitted.h5")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = load_run("runs/it")
    expected = run.student.rdms(Stimuli.from_folder(folder / "other", run.transform), dissimilarity="euclidean")
    np.testing.assert_allclose(found.get_vectors(), expected.get_vectors(), rtol=1e-6)
    assert list(found.rdm_descriptors["layer"]) == ["conv3", "pool"]
    _run(
        "rdm",
        "--run",
        "runs/it",
        "--layers",
        "pool",
        "--stimuli",
        "other",
        "-o",
        "a.csv",
        "-d",
        "cosine",
        folder=folder,
    )
    assert (folder / "a.csv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "runs/it"], "--run 'runs/it' needs images; give their folder with --stimuli"),
        (["--run", "runs/it", "--stimuli", "other", "--model", "lenet"], "leave out ['--model']"),
        (["--run", "runs/it", "--stimuli", "other", "--pool", "cls"], "leave out ['--pool']"),
        (["--run", "runs/it", "--stimuli", "other", "--layers", "poll"], "'poll' is not known; nearest: 'pool'"),
        (["--run", "runs/it", "--stimuli", "other", "-d", "crossnobis"], "a network has no runs; choose another"),
        (["--run", "runs/none", "--stimuli", "other"], "'runs/none' is not a run folder of 'brainrdl fit'"),
    ],
)
def test_rdms_of_a_run_are_refused_in_words(folder: Path, words: list[str], message: str) -> None:
    assert message in _run("rdm", *words, "--out", "b.h5", folder=folder, status=1)
    assert not (folder / "b.h5").exists()
