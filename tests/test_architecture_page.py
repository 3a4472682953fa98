"""docs/architecture.md follows the code: its graph of rooms, its table of rooms, and the files it names."""

from __future__ import annotations

import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_architecture", ROOT / "docs/draw_architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.imports = cache(module.imports)  # type: ignore[attr-defined]
    return module


def test_the_figure_of_rooms_was_drawn_from_this_code(drawing: ModuleType) -> None:
    drawn = json.loads((ROOT / "docs/figures/rooms.json").read_text(encoding="utf-8"))
    assert drawn == drawing.graph(), "run: python docs/draw_architecture.py"


def test_every_import_between_rooms_is_found(drawing: ModuleType) -> None:
    # `reporting` imports a room by its name, `from brainrdl import plot`, and `doctor` inside a function
    assert "plot" in drawing.imports()["reporting"]
    assert "readers" in drawing.imports()["cli"]
    assert drawing.imports()["_core"] == []


def test_an_import_that_follows_from_others_is_not_drawn(drawing: ModuleType) -> None:
    assert drawing.needed({"a": ["b", "c"], "b": ["c"], "c": []}) == {"a": ["b"], "b": ["c"], "c": []}


def test_every_room_has_a_place_in_the_figure(drawing: ModuleType) -> None:
    assert set(drawing.COLUMNS) == set(drawing.imports())


def test_the_names_in_the_figure_of_the_flow_are_public(drawing: ModuleType) -> None:
    assert not drawing.unknown_names()


def test_the_table_of_rooms_has_the_levels_of_the_import_rules(drawing: ModuleType) -> None:
    table = [(int(level), room) for level, room in re.findall(r"^\| (\d+) \| (\w+) \|", PAGE, re.MULTILINE)]
    rooms = [(level, room) for level, names in enumerate(drawing.levels()) for room in names]
    adapters = {path.parent.name for path in (ROOT / "data_adapters").glob("*/__init__.py")}
    assert sorted(row for row in table if row[1] not in adapters) == sorted(rooms)
    assert {room for _, room in table} == {room for _, room in rooms} | adapters


def test_the_files_that_the_page_names_exist() -> None:
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith(("| a ", "| an "))]
    named = {f"brainrdl/{path}" for row in rows for path in re.findall(r"`(\w+/[\w/.]*)`", row[2])}
    named |= {f"tests/{path}" for row in rows for path in re.findall(r"`(\w+/[\w/.]*)`", row[4])}
    named |= set(re.findall(r"`(docs/[\w/.]+)`", PAGE))
    assert len(named) > 15
    assert not [name for name in named if not (ROOT / name).exists()]
