"""Every entry of the gallery draws a figure, and the page shows them all."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

DOCS = Path(__file__).parents[2] / "docs"


def _gallery() -> ModuleType:
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module("draw_gallery")
    finally:
        sys.path.remove(str(DOCS))


GALLERY = _gallery()


def test_the_page_is_up_to_date_and_each_entry_has_its_picture() -> None:
    assert GALLERY.PAGE.read_text(encoding="utf-8") == GALLERY.page(), "run: python docs/draw_gallery.py --page"
    missing = [path.stem for path in GALLERY.entries() if not (path.parent / GALLERY.picture_of(path)).is_file()]
    assert not missing, f"run: python docs/draw_gallery.py {' '.join(missing)}"


def test_pictures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in GALLERY.GALLERY.glob("*.[pg][ni][gf]")}
    assert max(sizes.values()) < 1e6, sizes


@pytest.mark.parametrize("path", GALLERY.entries(), ids=lambda path: path.stem)
def test_an_entry_has_a_title_and_a_function_that_draws(path: Path) -> None:
    assert len(GALLERY.title_of(path)) <= 120
    assert GALLERY.section_of(path.stem) in GALLERY.SECTIONS


@pytest.mark.slow
@pytest.mark.parametrize("path", GALLERY.entries(), ids=lambda path: path.stem)
def test_an_entry_draws_a_figure_whose_text_can_be_read(path: Path) -> None:
    code = path.read_text(encoding="utf-8")
    if "datasets.load(" in code and not os.environ.get("BRAINRDL_DATA"):
        pytest.skip("needs the public data: set BRAINRDL_DATA")
    if "group_map" in code:
        pytest.importorskip("nilearn")
    figure = GALLERY.load(path).draw()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(sizes) >= 7
