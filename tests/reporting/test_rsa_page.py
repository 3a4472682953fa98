"""The page of a plain RSA: its numbers are those of the tables, and it loads nothing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from brainrdl import rdms, report, rsa
from brainrdl.reporting.rsa_page import read_table, rsa_figures, write_figures, write_rsa_page

NAMES = [f"im{k:02d}" for k in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    truth = rng.random(66)
    described = {"subject": list("abcd") * 2, "roi": ["IT"] * 4 + ["EVC"] * 4}
    data = rdms.from_array(truth + rng.random((8, 66)), NAMES, descriptors=described)
    net = rdms.from_array(truth + rng.random((2, 66)), NAMES, descriptors={"layer": ["conv1", "conv2"]})
    path = tmp_path_factory.mktemp("rsa")
    groups = {"a": "old", "b": "old", "c": "young", "d": "young"}
    rsa({"net": net}, data, groups=groups, correction="fdr").save(path)
    return path


def test_the_page_names_the_best_score_of_each_target(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    summary = read_table(folder / "summary.csv").query("comparator == 'spearman' and against == 'subjects'")
    for target, rows in summary.groupby("target"):
        best = rows.loc[rows["score"].idxmax()]
        assert f"The highest score with {target} is {best['score']:.2f}" in text
    assert "Best layer of net for IT" in text
    assert "Benjamini" in text
    assert "Differences between groups of subjects" in text
    assert not re.search(r'(src|href)="(?!data:|https://doi\.org/)', text)


def test_report_opens_the_folder_of_an_rsa(folder: Path, tmp_path: Path) -> None:
    page = report(folder, tmp_path / "page.html")
    assert page.read_text(encoding="utf-8") == (folder / "report.html").read_text(encoding="utf-8")
    assert write_rsa_page(folder) == folder / "report.html"


def test_figures_are_written_as_png_and_pdf(folder: Path) -> None:
    assert list(rsa_figures(read_table(folder / "summary.csv"))) == ["map", "bars-1-IT", "bars-2-EVC"]
    (folder / "map.pdf").unlink()
    write_figures(folder)
    assert {path.name for path in folder.glob("*.pdf")} == {"map.pdf", "bars-1-IT.pdf", "bars-2-EVC.pdf"}
