"""The command power: the table of the Python API, files, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainrdl import rdms
from brainrdl.inference import power
from tests.cli.test_app import _refused, _run

NAMES = [f"image {k}" for k in range(10)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).random((5, 45))
    labels = {"subject": list("abc"), "roi": ["IT"] * 3}
    rdms.from_array(values[:3] + values[3], NAMES, descriptors=labels).save(
        str(tmp_path / "pilot.h5"), file_type="hdf5"
    )
    for name, row in (("model", 3), ("other", 4)):
        shuffled = rdms.select(rdms.from_array(values[row], NAMES), NAMES[::-1])
        shuffled.save(str(tmp_path / f"{name}.h5"), file_type="hdf5")
    return tmp_path


def test_power_prints_and_writes_what_the_python_api_computes(folder: Path) -> None:
    design = ("--n-stimuli", "12", "--n-stimuli", "24", "--n-subjects", "6", "--effect", "0.1")
    done = _run("power", "pilot.h5", "model.h5", "--minus", "other.h5", *design, "--out", "out", folder=folder)
    assert "power_error" in done.stdout
    read = {name: rdms_of(folder / f"{name}.h5") for name in ("pilot", "model", "other")}
    expected = power(read["model"], read["pilot"], minus=read["other"], effect=0.1, n_stimuli=[12, 24], n_subjects=[6])
    pd.testing.assert_frame_equal(pd.read_csv(folder / "out" / "power.csv"), expected)
    assert (folder / "out" / "power.png").stat().st_size > 1000
    again = _run("power", "pilot.h5", "model.h5", *design, "--out", "out", "--json", "--overwrite", folder=folder)
    assert len(json.loads(again.stdout)) == 2


def rdms_of(path: Path):
    from brainrdl import read

    return read(path)


def test_power_refuses_to_replace_files_and_says_which_option_is_wrong(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "power.csv").write_text("")
    design = ("--n-stimuli", "12", "--n-subjects", "6")
    assert "--overwrite" in _refused("power", "pilot.h5", "model.h5", *design, "--out", "out", folder=folder)
    said = _refused("power", "pilot.h5", "model.h5", "--n-stimuli", "4", "--n-subjects", "6", folder=folder)
    assert "--n-stimuli must be a whole number, at least 8, got 4" in said
