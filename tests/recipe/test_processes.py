"""Recipes in several processes that compute each fit together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from brainrdl import rdms, recipe
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.recipe import running
from brainrdl.runs.run_folder import WEIGHTS


def in_processes(n: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    return subprocess.run(
        [*command, "-m", "brainrdl", *words],
        capture_output=True, text=True, timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def experiment(folder: Path) -> dict:
    """16 images, so that folds and inner folds are large enough."""
    names, random = [f"image{i:02d}" for i in range(16)], np.random.default_rng(0)
    (folder / "images").mkdir()
    for name in names:
        blocks = random.integers(0, 255, (2, 2), dtype=np.uint8).repeat(5, 0).repeat(5, 1)  # far from one another
        Image.fromarray(blocks).save(folder / "images" / f"{name}.png")
    subjects = {"subject": ["s1", "s2", "s3"]}
    rdms.from_array(random.random((3, 120)), names, descriptors=subjects).save(str(folder / "it.h5"), file_type="hdf5")
    return {
        "stimuli": {"folder": str(folder / "images")},
        "teacher": {"rdms": str(folder / "it.h5")},
        "student": {"model": "small_cnn", "layers": ["pool"]},
        "fit": {"steps": 4, "evaluate_every": 2, "device": "cpu", "batch_size": 4, "lr": 0.02, "optimizer": "sgd"},
        "evaluation": {"folds": 2, "inner_folds": 2, "comparators": ["corr"]},  # ranks would magnify rounding errors
    }


@pytest.mark.slow
def test_a_recipe_with_folds_gives_in_two_processes_the_results_of_one(tmp_path: Path) -> None:
    content = experiment(tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    one = running.run(recipe.check(content), tmp_path / "one", progress=False)
    assert isinstance(one, Evaluation)
    done = in_processes(2, "fit", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "two"), "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 1, done.stdout  # only the first process speaks
    two = Evaluation.load(tmp_path / "two")
    pd.testing.assert_frame_equal(two.scores, one.scores, check_exact=False, rtol=0, atol=1e-4)
    means = one.scores.groupby("student")["score"].mean()
    assert abs(means["fitted"] - means["unfitted"]) > 1e-2  # something was fitted
    chosen = [result.histories.query("inner == -1").groupby(["student", "fold"])["step"].max() for result in (one, two)]
    pd.testing.assert_series_equal(*chosen)
    np.testing.assert_allclose(two.students.dissimilarities, one.students.dissimilarities, atol=1e-4)

    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "two").rglob(WEIGHTS)}
    assert len(times) == 4
    resumed = ["fit", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "two"), "--resume"]
    again = in_processes(2, *resumed, "--json")
    assert again.returncode == 0, again.stderr
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "two").rglob(WEIGHTS)}

    refused = in_processes(2, *resumed, "--set", "evaluation.n_jobs=2")
    assert refused.returncode == 1
    assert "evaluation.n_jobs: 2 would start processes in each of the 2 processes that train together" in refused.stderr
