"""`brainrdl rsa`: the same numbers as in Python, a folder with a report, and refusals in the words of the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from brainrdl import BrainrdlError, rdms, rsa
from brainrdl.cli.app import app

NAMES = [f"im{k:02d}" for k in range(12)]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    truth = rng.random(66)
    described = {"subject": list("abcd") * 2, "roi": ["IT"] * 4 + ["EVC"] * 4}
    data = rdms.from_array(truth + rng.random((8, 66)), NAMES, descriptors=described)
    data.save(str(tmp_path / "it.h5"), file_type="hdf5")
    net = rdms.from_array(truth + rng.random((2, 66)), NAMES, descriptors={"layer": ["conv1", "conv2"]})
    net.save(str(tmp_path / "net.h5"), file_type="hdf5")
    (tmp_path / "groups.csv").write_text("subject,group\na,old\nb,old\nc,young\nd,young\n")
    return tmp_path


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["rsa", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_gives_the_numbers_of_the_function(files: Path) -> None:
    printed = json.loads(run(files / "net.h5", "--data", files / "it.h5", "-c", "corr", "--json"))
    expected = rsa(files / "net.h5", files / "it.h5", comparators="corr").summary
    assert [row["score"] for row in printed] == pytest.approx(expected["score"].tolist())
    options = ("--intervals", "dual-bootstrap", "--n-bootstrap", 20, "--folds", 0)
    printed = json.loads(run(files / "net.h5", "--data", files / "it.h5", "-c", "corr", "--json", *options))
    how = {"intervals": "dual-bootstrap", "n_bootstrap": 20, "folds": 0}
    expected = rsa(files / "net.h5", files / "it.h5", comparators="corr", **how).summary
    assert [row["high"] for row in printed] == pytest.approx(expected["high"].tolist())


@pytest.mark.slow
def test_the_command_writes_a_folder_with_a_report(files: Path) -> None:
    out, groups = files / "rsa", files / "groups.csv"
    text = run(files / "net.h5", "--data", files / "it.h5", "--out", out, "--groups", groups, "--target", "IT")
    assert "spearman with single subjects' RDMs of IT" in text
    assert str(out / "report.html") in text.replace("\n", "")
    assert "young" in (out / "groups.csv").read_text()
    with pytest.raises(BrainrdlError, match="must be a new or empty folder"):
        run(files / "net.h5", "--data", files / "it.h5", "--out", out)
    groups.write_text("name,group\na,old\n")
    with pytest.raises(BrainrdlError, match="needs the columns subject and group"):
        run(files / "net.h5", "--data", files / "it.h5", "--groups", groups)
    groups.write_text("subject,group\na,old\na,young\nb,old\nc,young\n")
    with pytest.raises(BrainrdlError, match="gives subject 'a' several groups"):
        run(files / "net.h5", "--data", files / "it.h5", "--groups", groups)


def test_files_of_something_else_are_not_overwritten(files: Path) -> None:
    other = files / "fit"
    other.mkdir()
    (other / "report.html").write_text("of a fit")
    with pytest.raises(BrainrdlError, match="files that are not of a plain RSA"):
        run(files / "net.h5", "--data", files / "it.h5", "--out", other, "--overwrite")
    assert (other / "report.html").read_text() == "of a fit"
