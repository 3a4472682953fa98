"""A page in a browser: pairs can be read, tables sorted and saved, with pointer and keyboard, and nothing fails."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from brainrdl import Stimuli, plot, rdms
from brainrdl.reporting.drawings import Drawing, Section
from brainrdl.reporting.frame import Block, Page, write_page
from brainrdl.reporting.hover import Hover, Panel
from brainrdl.reporting.methods import NILI
from brainrdl.reporting.tables import Table

NAMES = ("cat", "dog", "<b>car</b>", "tree", "house")
ORDER = (2, 0, 4, 1, 3)  # in which the figure shows them
PAIRS = np.array([0.5, 1.25, np.nan, 0.75, 2.0, -0.5, 1.0, 0.25, 1.5, 0.0])
SCORES = pd.DataFrame({"model": ["a", "b", "c", "d"], "score": [0.5, -1.0, np.nan, 0.0004]})
CELLS = ["0.50 (0.4 to 0.6)", "−1.00", "–", "< .001"]


def drawn(width: float) -> Figure:
    figure = Figure(figsize=(width, 3), layout="compressed")
    one = rdms.from_array(PAIRS, NAMES).subset_pattern("stimulus", list(NAMES))
    one.reorder(np.array(ORDER))
    plot.rdms(rdms.concat([one, one]), titles=["first", "second"], figure=figure)
    return figure


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    panels = [Panel(ORDER, ("student", "teacher")), Panel(ORDER, ("teacher",))]
    hover = Hover(NAMES, {"student": PAIRS, "teacher": 10 * PAIRS}, panels, ranked=True)
    drawing = Drawing("rdms", Section.RDMS, drawn(6), "Two matrices.", "Caption", drawn(3.4), hover)
    rows = [[name, cell] for name, cell in zip(SCORES["model"], CELLS, strict=True)]
    table = Table("Scores", ["model", "score"], rows, 0, data=SCORES, file="scores.csv")
    content = Page(
        question="A page", answer=["Yes."], blocks=[Block("Part", [drawing], [table], [table])], methods=["Done."],
        references=[NILI], caveats=["Much."],
    )  # fmt: skip
    stimuli = Stimuli.from_arrays(torch.rand(5, 3, 60, 30), list(NAMES))
    return write_page(content, tmp_path_factory.mktemp("page") / "page.html", stimuli, progress=False)


def cell(browser: Any, panel: int, row: int, column: int, form: str = "wide") -> None:
    """Point at the middle of a cell."""
    x, y = browser.run(
        f"""(() => {{
          const data = JSON.parse(document.getElementById("matrices").textContent);
          const [left, top, width, height] = data.figures[0]["{form}"][{panel}].box;
          document.querySelector("[data-rdm]").scrollIntoView();
          const shown = [...document.querySelectorAll("[data-rdm] img")].find((one) => one.clientWidth > 0);
          const box = shown.getBoundingClientRect();
          return [box.x + box.width * (left + width * ({column} + 0.5) / 5),
                  box.y + box.height * (top + height * ({row} + 0.5) / 5)];
        }})()"""
    )
    browser.point(x, y)


READ = "[...document.querySelectorAll('.reading div:not(.thumbnails, .thumbnail)')].map((line) => line.textContent)"
SHOWN = "getComputedStyle(document.querySelector('.reading')).display"
COLUMN = "[...document.querySelectorAll('table.summary tbody th')].map((one) => one.textContent).join('')"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_opens_without_errors_and_fits_the_window(browser: Any, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width, dark=dark)
    assert browser.problems() == []
    assert browser.run("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("width", "form"), [(1280, "wide"), (390, "narrow")])
def test_the_pair_under_the_pointer_is_read_with_names_and_values(
    browser: Any, page: Path, width: int, form: str
) -> None:
    browser.open(page, width)
    cell(browser, 0, 1, 3, form)  # cat and dog, in the order that is drawn
    assert browser.run(READ) == ["cat – dog", "student: 0.500 (rank 0.38)", "teacher: 5.00 (rank 0.38)"]
    assert browser.run("document.querySelectorAll('.thumbnail').length") == 2
    cell(browser, 1, 0, 0, form)
    assert browser.run(READ) == ["<b>car</b>", "the same condition"]
    cell(browser, 1, 1, 4, form)
    assert browser.run(READ) == ["cat – tree", "teacher: unknown"]
    browser.point(1, 1)
    assert browser.run(SHOWN) == "none"


def test_pairs_are_read_with_the_keyboard(browser: Any, page: Path) -> None:
    browser.open(page)
    assert "Two matrices." in browser.run("document.querySelector('.cells').getAttribute('aria-label')")
    while not browser.run("document.activeElement.classList.contains('cells')"):
        browser.press("Tab")
    browser.press("ArrowRight")
    assert browser.run(READ)[0] == "<b>car</b> – house"
    browser.press("ArrowDown")
    assert browser.run(READ)[0] == "cat – house"
    browser.press("PageDown")
    assert browser.run(READ) == ["cat – house", "teacher: 7.50 (rank 0.50)"]
    assert browser.run("document.querySelector('.reading').getAttribute('role')") == "status"
    browser.press("Escape")
    assert browser.run(SHOWN) == "none"


def test_a_table_is_sorted_by_numbers_with_missing_ones_last(browser: Any, page: Path) -> None:
    browser.open(page)
    head = "table.summary thead th:nth-child(2)"
    browser.click(f"{head} button")
    assert browser.run(COLUMN) == "bdac"
    assert browser.run(f"document.querySelector('{head}').getAttribute('aria-sort')") == "ascending"
    browser.press("Enter")  # the button has the focus
    assert browser.run(COLUMN) == "adbc"
    assert browser.run(f"document.querySelector('{head}').getAttribute('aria-sort')") == "descending"
    browser.click("table.summary thead th:nth-child(1) button")
    assert browser.run(COLUMN) == "abcd"
    assert browser.run(f"document.querySelector('{head}').getAttribute('aria-sort')") == "none"


def test_a_table_and_the_references_are_saved_with_all_digits(browser: Any, page: Path, tmp_path: Path) -> None:
    browser.open(page)
    browser.download("a[download='scores.csv']", tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "scores.csv"), SCORES)
    entries = browser.run("document.querySelector('a[download=\"references.bib\"]').href").split(",")[1]
    assert "@article{nili2014," in base64.b64decode(entries).decode()
    assert browser.run("document.querySelector('pre.bibtex').textContent") == base64.b64decode(entries).decode()


SIZES = "[...document.querySelectorAll('figure img')].filter((one) => one.clientWidth).map((one) => one.width)"


@pytest.mark.parametrize(("width", "on_screen"), [(1280, 600), (390, 340)])
def test_paper_has_the_large_figures_whatever_the_window(browser: Any, page: Path, width: int, on_screen: int) -> None:
    browser.open(page, width)
    assert browser.run(SIZES) == [on_screen]
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.run("getComputedStyle(document.querySelector('img.small')).display") == "none"
    assert browser.run("getComputedStyle(document.querySelector('img.large')).display") == "block"
    browser.call("Emulation.setEmulatedMedia", media="")


def test_colours_follow_the_reader_and_the_switch_and_paper_is_white(browser: Any, page: Path) -> None:
    def background() -> Any:
        return browser.run("getComputedStyle(document.body).backgroundColor")

    browser.open(page, dark=True)
    assert background() == "rgb(23, 25, 29)"
    assert browser.run("document.querySelector('.theme').textContent") == "Light colours"
    browser.click(".theme")
    assert background() == "rgb(255, 255, 255)"
    browser.click(".theme")
    assert background() == "rgb(23, 25, 29)"
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert background() == "rgb(255, 255, 255)"
    for hidden in (".theme", ".cells", ".save", "details", "nav"):
        assert browser.run(f"getComputedStyle(document.querySelector('{hidden}')).display") == "none"
    browser.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (4e-25 * np.arange(10), "4.00e−25"),
        pytest.param(3e-7 * np.arange(10), "3.00e−7", marks=pytest.mark.slow),
        pytest.param(4e7 * np.arange(10), "4.00e+7", marks=pytest.mark.slow),
        (np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 1e6]), "0"),  # less than a step of 16 bits, but its rank is known
    ],
)
def test_tiny_and_huge_values_are_read_with_their_exponent_and_exact_ranks(
    browser: Any, tmp_path: Path, values: np.ndarray, read: str
) -> None:
    names = ("constructor", "dog", "car", "tree", "house")
    hover = Hover(names, {"IT": values}, [Panel(tuple(range(5)), ("IT",))] * 2, ranked=True)
    drawing = Drawing("rdms", Section.RDMS, drawn(6), "Two matrices.", "Caption", drawn(3.4), hover)
    content = Page(question="A page", answer=["Yes."], blocks=[Block("Part", [drawing], [], [])], methods=["Done."],
                   references=[NILI], caveats=["Much."])  # fmt: skip
    stimuli = Stimuli.from_arrays(torch.rand(1, 3, 60, 30), ["dog"])
    browser.open(write_page(content, tmp_path / "page.html", stimuli, progress=False))
    cell(browser, 0, 0, 1)
    assert browser.run("document.querySelectorAll('.thumbnail').length") == 1  # of the dog only
    cell(browser, 0, 0, 2)  # the second pair
    assert browser.run(READ) == ["constructor – car", f"IT: {read} (rank 0.11)"]
