"""The page of a plain RSA: its numbers are those of the tables, and it loads nothing."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainrdl import RSAResult, rdms, report, reporting, rsa
from brainrdl.reporting.hover import Store
from brainrdl.reporting.rsa_figures import rsa_drawings, rsa_figures, write_figures
from brainrdl.reporting.rsa_page import page_of_rsa
from brainrdl.reporting.rsa_source import RSA, read_table

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


@pytest.mark.slow
def test_the_page_names_the_best_score_of_each_target(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    summary = read_table(folder / "summary.csv").query("comparator == 'spearman' and against == 'subjects'")
    for target, rows in summary.groupby("target"):
        best = rows.loc[rows["score"].idxmax()]
        assert f"The highest score with {target} is {best['score']:.2f}" in text
    assert "Best layer of net for IT" in text
    assert "Benjamini" in text
    assert "Differences between groups of subjects" in text
    assert not re.search(r'(src|href)="(?!data:|https://doi\.org/|#)', text)
    assert "file: data.h5 (SHA-256)" in text


def test_the_methods_name_the_dissimilarities_of_the_data_and_of_the_models() -> None:
    rng = np.random.default_rng(0)
    data, net, other = (rdms.from_array(rng.random(66), NAMES) for _ in range(3))
    data.dissimilarity_measure, net.dissimilarity_measure = "crossnobis", "correlation"
    known = page_of_rsa(RSA.of(rsa({"net": net}, data, folds=0)), "").methods
    assert "The RDMs of the data contain crossnobis distance / channel and the RDMs of the models contain " in str(
        known
    )
    mixed = page_of_rsa(RSA.of(rsa({"net": net, "other": other}, data, folds=0)), "").methods
    assert "crossnobis distance / channel." in str(mixed)
    assert "RDMs of the models contain" not in str(mixed)  # they differ


def test_a_target_without_a_region_is_called_the_data_and_keeps_its_name_in_downloads() -> None:
    random = np.random.default_rng(0)
    data = rdms.from_array(random.random((3, 66)), NAMES, descriptors={"subject": list("abc")})
    net = rdms.from_array(random.random(66), NAMES)
    opened = RSA.of(rsa({"net": net}, data, folds=0))
    assert set(opened.summary["target"]) == {"the\xa0data"}
    assert opened.rdms["data"].rdm_descriptors["target"] == ["the\xa0data"] * opened.rdms["data"].n_rdm
    page = page_of_rsa(opened, "")
    assert any("with the\xa0data is" in sentence for sentence in page.answer)
    files = [base64.b64decode(table.csv).decode() for block in page.blocks for table in block.tables if table.csv]
    downloads = [pd.read_csv(io.StringIO(text)) for text in files]
    assert {name for table in downloads if "target" in table for name in table["target"]} == {"rdm"}


def test_report_opens_the_folder_of_an_rsa(folder: Path, tmp_path: Path) -> None:
    page = report(folder, tmp_path / "page.html")
    assert page.read_text(encoding="utf-8") == (folder / "report.html").read_text(encoding="utf-8")


def test_a_result_in_memory_has_the_answers_of_its_folder(folder: Path) -> None:
    saved, here = (page_of_rsa(rsa, "Mine") for rsa in (RSA.read(folder), RSA.of(RSAResult.load(folder))))
    assert (saved.answer, saved.methods, saved.caveats) == (here.answer, here.methods, here.caveats)
    assert (here.title, here.question) == ("Mine", "How similar are the models to IT and EVC?")


def test_the_values_of_the_rdms_are_those_of_the_files(folder: Path) -> None:
    (data, _) = [drawing for drawing in rsa_drawings(RSA.read(folder)) if drawing.hover]
    store, (it, _) = Store(), data.hover.matrices.values()
    store.add(data.hover, [[0, 0, 1, 1]] * 2)
    (first, _) = json.loads(store.text())["matrices"]
    codes = np.frombuffer(base64.b64decode(first["pairs"]), "<u2")
    read = first["low"] + codes / 65534 * (first["high"] - first["low"])
    np.testing.assert_allclose(read, it, atol=(it.max() - it.min()) / 131068 * 1.0001)
    np.testing.assert_allclose(it, RSAResult.load(folder).data.get_vectors()[0])


def test_times_as_targets_are_drawn_as_courses(folder: Path) -> None:
    summary = read_table(folder / "summary.csv").query("target == 'IT'")
    movie = pd.concat([summary.assign(target=str(k / 10)) for k in range(8)])
    drawing = next(rsa_drawings(RSA({"summary": movie}, {}, {})))
    assert drawing.name == "courses"
    assert drawing.figure.axes[0].lines[0].get_xdata().tolist() == [k / 10 for k in range(8)]


def test_figures_are_written_as_png_and_pdf(folder: Path) -> None:
    assert list(rsa_figures({"summary": read_table(folder / "summary.csv")})) == ["map", "bars-1-IT", "bars-2-EVC"]
    assert list(reporting.figures(folder)) == ["map", "bars-1-IT", "bars-2-EVC", "rdms-data", "rdms-models"]
    (folder / "map.pdf").unlink()
    write_figures(folder)
    assert {path.name for path in folder.glob("*.pdf")} == {"map.pdf", "bars-1-IT.pdf", "bars-2-EVC.pdf"}
