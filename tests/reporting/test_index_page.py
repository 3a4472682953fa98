"""The page of several runs: its table, its links, and texts that are escaped."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from brainrdl import recipe
from brainrdl.recipe import running
from brainrdl.reporting.index_page import write_index


@pytest.fixture
def runs(content: dict, tmp_path: Path) -> list[str]:
    content["evaluation"] = {"folds": 3, "controls": []}
    for name in ("one", "two"):
        running.run(recipe.check(content), tmp_path / "all" / name, progress=False)
    return ["one", "two"]


@pytest.mark.slow
def test_the_page_links_each_row_with_the_report_of_its_run(runs: list[str], tmp_path: Path) -> None:
    table = pd.DataFrame({"fit.lr": [0.1, 0.2], "note": ["<b>", None]})
    page = write_index(tmp_path / "all", table, runs).read_text()
    for name in runs:
        assert f'href="{name}/report.html"' in page
        assert (tmp_path / "all" / name / "report.html").exists()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "nan" not in page.split("<tbody>")[1].split("</tbody>")[0].lower()
