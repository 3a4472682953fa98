"""The command line as a user meets it: by status, one line of error, and what it leaves on disk."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

from brainrdl import BrainrdlError, cli, rdms, recipe

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
            cli.main()
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
        "evaluation": {"folds": 3, "n_bootstrap": 20, "controls": ["unfitted"]},
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


def test_fit_refuses_a_run_folder_that_exists_and_resumes_it_when_asked(run: Path, folder: Path) -> None:
    assert "resume or overwrite" in _refused("fit", "recipe.yaml", "--out", "runs/it", folder=folder)
    rows = json.loads(_run("fit", "recipe.yaml", "--out", "runs/it", "--resume", "--json", folder=folder).stdout)
    assert {row["student"] for row in rows} == {"fitted", "unfitted"}


def test_evaluate_prints_other_comparators_as_json(run: Path, folder: Path) -> None:
    rows = json.loads(_run("evaluate", "runs/it", "-c", "tau-a", "--json", folder=folder).stdout)
    assert {row["comparator"] for row in rows} == {"tau-a"}


def test_plot_and_report_write_files(run: Path, folder: Path) -> None:
    _run("plot", "runs/it", "--out", "figures", folder=folder)
    _run("report", "runs/it", "--out", "page.html", folder=folder)
    _run("plot", "it.h5", "--out", "it.png", folder=folder)
    assert len(list((folder / "figures").glob("*.png"))) >= 3
    assert (folder / "page.html").read_text().startswith("<!doctype html>")
    with Image.open(folder / "it.png") as drawn:
        assert drawn.size[0] > 200


def test_compare_pairs_conditions_by_name(folder: Path) -> None:
    words = ("compare", "it.h5", "it.npy", "--names", "images", "-c", "corr", "--json", "--out", "compare.png")
    rows = json.loads(_run(*words, folder=folder).stdout)
    assert len(rows) == 3
    assert all(0.2 < row["similarity"] < 1 and row["n_pairs"] == 66 for row in rows)
    assert (folder / "compare.png").exists()


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
    ],
)
def test_failure_is_one_line_and_a_status(folder: Path, words: tuple[str, ...], message: str, status: int) -> None:
    assert message in _refused(*words, folder=folder, status=status)


def test_interrupt_says_how_to_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "load", interrupted)
    assert "--resume` goes on from the last checkpoint" in _refused("fit", "recipe.yaml", folder=folder, status=130)


def test_debug_lets_the_failure_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["brainrdl", "fit", "nothing.yaml", "--debug"])
    with pytest.raises(BrainrdlError):
        cli.main()


@pytest.mark.parametrize("command", ["demo", "fit", "evaluate", "compare", "plot", "report", "layers", "recipe"])
def test_help_of_every_command_has_an_example(command: str) -> None:
    assert "brainrdl " + command in _run(command, "--help").stdout.split("Usage", 1)[1].split("\n", 1)[1]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['brainrdl', '--help']\n"
        "try:\n    from brainrdl.cli import main; main()\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'pandas', 'rsatoolbox', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
