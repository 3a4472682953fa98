"""Pages of the experiments: every number comes from the CSV files, and what is missing is shown as missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.experiments import architectures, cifar100, mnist, write_pages
from docs.experiments.protocol import RESULTS, check_rows, chosen, costs_of, results_of, teachers
from tests.experiments.test_statistics import rows

MODULES = (mnist, cifar100, architectures)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    setting = mnist.EXPERIMENT.settings[0]
    table = rows({"cross-entropy": [0.05, 0.06, 0.055], "RDL, several stages": [0.03, 0.035, 0.0325]})
    for row in table.to_dict("records"):
        row |= {"experiment": "mnist", "setting": setting.name, "nll": 0.1, "cpu_seconds": 10.0}
        results_of("mnist", tmp_path).add(row)
    teachers(tmp_path).add({"teacher": "mnist_cnn_3000", "error": 0.0123})
    return tmp_path


def test_tables_show_numbers_of_seeds_and_missing_methods(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_pages, "PAGES", folder)
    found = write_pages.parts(mnist.EXPERIMENT, mnist.CONTRASTS, folder)
    assert "| cross-entropy | 5.50 | 0.50 | 3 of 10 |" in found["errors 1"]
    assert "| KD | missing |  | 0 of 10 |" in found["errors 1"]
    assert "| RDL, several stages - cross-entropy | 3 | -2.25 |" in found["contrasts 1"]
    assert "| RDL + KD - KD | 0 | missing |" in found["contrasts 1"]
    assert found["errors 2"] == "No rows yet."
    assert (folder / "figures" / "mnist_1.png").exists()


def test_costs_are_relative_to_cross_entropy(folder: Path) -> None:
    setting = mnist.EXPERIMENT.settings[0]
    for number, method in enumerate(setting.methods, start=2):
        named = {"experiment": "mnist", "setting": setting.name, "method": method, "cpu_seconds": number / 4}
        costs_of("mnist", folder).add(named)
    table = write_pages.errors(results_of("mnist", folder).rows(), setting, costs_of("mnist", folder).rows())
    assert table["cost"].tolist()[:3] == ["1.00", "1.50", "2.00"]


def test_only_marked_parts_of_a_page_change(folder: Path) -> None:
    page = folder / "page.md"
    before = "<!-- value mnist_cnn_3000 -->old<!-- end -->.\n\n<!-- errors 1 -->\n\nold\n\n<!-- end -->\nrest"
    page.write_text(before)
    write_pages.write(page, write_pages.values(folder) | {"errors 1": "new"})
    expected = before.replace("old", "1.23 %", 1).replace("old", "new")
    assert page.read_text() == expected


def test_no_line_begins_with_a_number_from_a_file() -> None:  # its comment would end the paragraph
    pages = [*Path(write_pages.__file__).parent.glob("*.md"), Path(write_pages.__file__).parents[2] / "README.md"]
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    assert not [line for line in lines if line.lstrip().startswith("<!-- value ")]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.EXPERIMENT.name)
def test_a_page_has_a_part_for_the_errors_of_each_setting(module: object) -> None:
    text = (Path(write_pages.__file__).parent / f"{module.EXPERIMENT.name}.md").read_text(encoding="utf-8")
    numbers = {int(number) for number in re.findall(r"<!-- errors (\d+) -->", text)}
    assert numbers == set(range(1, len(module.EXPERIMENT.settings) + 1))
    planned = {contrast.setting for contrast in module.CONTRASTS}
    assert planned == {setting.name for setting in module.EXPERIMENT.settings}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.EXPERIMENT.name)
def test_the_committed_rows_fit_the_protocol(module: object) -> None:
    experiment = module.EXPERIMENT.name
    found = results_of(experiment).rows()
    settings = {setting.name: setting for setting in module.EXPERIMENT.settings}
    assert found["error"].between(0, 1).all()
    for (name, method), _ in found.groupby(["setting", "method"]):
        assert method in settings[name].methods
        assert chosen(experiment, settings[name], method, RESULTS) is not None
    for setting in settings.values():
        check_rows(experiment, setting, RESULTS)
