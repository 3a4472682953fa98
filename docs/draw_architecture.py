"""Draw the figures of docs/architecture.md from the code: which room imports which, and the flow of an analysis.

Usage: python docs/draw_architecture.py

Writes docs/figures/rooms.png, docs/figures/data_flow.png and docs/figures/rooms.json. The levels of the rooms are those
of ``[tool.importlinter]`` in pyproject.toml, the imports are read from the source without running it, and every name in
the figure of the flow must be a public name of its room. A test compares rooms.json with the code.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "brainrdl"
FIGURES = ROOT / "docs/figures"
BLUE, ORANGE, GREY, PALE = "#0072B2", "#D55E00", "#595959", "#EAF2F8"  # Okabe and Ito


# The graph of rooms


def levels() -> list[list[str]]:
    """Give the rooms on each level, lowest level first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    contract = next(contract for contract in settings["contracts"] if contract["id"] == "rooms")
    return [line.split(" | ") for line in reversed(contract["layers"])]


def imports() -> dict[str, list[str]]:
    """Give for each room the other rooms that its modules import, also inside functions."""
    homes = _homes()
    found: dict[str, set[str]] = {room: set() for level in levels() for room in level}
    for path in sorted(PACKAGE.glob("*/*.py")):
        room = path.parent.name
        found[room] |= {homes[name] for name in _imported(path) if name in homes} - {room}
    return {room: sorted(others) for room, others in found.items()}


def graph() -> dict[str, Any]:
    return {"levels": levels(), "imports": imports()}


def _homes() -> dict[str, str]:
    """Give the room of each name of `brainrdl`: a room is its own, ``fit`` is in ``training``."""
    stub = (PACKAGE / "__init__.pyi").read_text(encoding="utf-8")
    homes = {room: room for level in levels() for room in level}
    for node in ast.parse(stub).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            homes |= {alias.name: node.module.split(".")[0] for alias in node.names}
    return homes


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (module.split(".")[1] for module in modules if module.startswith("brainrdl."))


def needed(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Leave out imports that follow from others: no arrow from a to c if a imports b and b imports c."""

    def below(room: str) -> set[str]:
        return {lower for other in found[room] for lower in {other, *below(other)}}

    return {
        room: [other for other in others if not any(other in below(third) for third in others)]
        for room, others in found.items()
    }


# The flow of an analysis


class Step(NamedTuple):
    """A box of the flow: its column and row, its room, and public names of this room."""

    column: int
    row: int
    room: str
    names: tuple[str, ...]


STEPS = {
    "stimuli": Step(0, 0, "stimuli", ("Stimuli",)),
    "read": Step(2, 0, "readers", ("read",)),
    "batch": Step(1, 1, "training", ("Batches",)),
    "calc": Step(2, 1, "rdms", ("calc_rdm",)),
    "student": Step(0, 2, "models", ("Student", "Readout")),
    "teacher": Step(2, 2, "teachers", ("RDMTeacher", "NetworkTeacher")),
    "dissimilarity": Step(0, 3, "dissimilarity", ("correlation", "euclidean")),
    "loss": Step(1, 3, "loss", ("RDMLoss",)),
    "compare": Step(2, 3, "similarity", ("spearman", "corr")),
    "fit": Step(0, 4, "training", ("fit", "Task")),
    "evaluate": Step(1, 4, "evaluation", ("cross_validate", "evaluate")),
    "report": Step(2, 4, "reporting", ("report",)),
}
ARROWS = (
    ("read", "calc", "measurements"),
    ("calc", "teacher", "RDMs"),
    ("stimuli", "batch", "images"),
    ("batch", "student", "images"),
    ("batch", "teacher", "names"),
    ("student", "dissimilarity", "patterns"),
    ("dissimilarity", "loss", "student's RDM"),
    ("teacher", "loss", "teacher's RDM"),
    ("loss", "fit", "gradient"),
    ("fit", "evaluate", "weights"),
    ("compare", "loss", "similarity"),
    ("compare", "evaluate", "similarity"),
    ("evaluate", "report", "scores"),
)


def unknown_names() -> list[str]:
    """Give the names in the flow that are no longer public names of their room."""
    return [f"{step.room}.{name}" for step in STEPS.values() for name in step.names if name not in _public(step.room)]


def _public(room: str) -> set[str]:
    return set(re.findall(r"(\w+) as \1\b", (PACKAGE / room / "__init__.pyi").read_text(encoding="utf-8")))


# Drawing

# Where each room is from left to right, so that no arrow crosses a box.
COLUMNS = {
    "cli": 3.5,
    "analysis": 1.9,
    "sharing": 2.3,
    "reporting": 2.2,
    "doctor": 4.5,
    "recipe": 3.2,
    "demo": 0.7,
    "evaluation": 0.2,
    "training": 0.7,
    "testing": 2.3,
    "runs": 1.6,
    "distillation": 0.6,
    "teachers": 2,
    "datasets": 3.2,
    "models": 1.7,
    "rdm_models": 0,
    "searchlights": 4.7,
    "inference": 2.1,
    "loss": 1,
    "plot": 4.2,
    "readers": 3.1,
    "stimuli": 0,
    "similarity": 0.8,
    "rdms": 1.8,
    "dissimilarity": 1.3,
    "_core": 1.3,
}


def draw_rooms(path: Path) -> None:
    figure, ax = _canvas(8.5, 0.8 * len(levels()))
    ax.set(xlim=(-1.3, 8.3), ylim=(-0.4, len(levels()) - 0.2))
    places = {room: (1.6 * COLUMNS[room], float(y)) for y, level in enumerate(levels()) for room in level}
    for room, others in needed(imports()).items():
        for other in others:
            (x, y), (x_below, y_below) = places[room], places[other]
            _arrow(ax, (x, y - 0.22), (x_below, y_below + 0.24), GREY)
    for room, place in places.items():
        _box(ax, place, room, (), width=1.36, height=0.46)
    for y in range(len(levels())):
        ax.text(-1.0, y, f"{y}", ha="right", va="center", fontsize=10, color=GREY)
    ax.text(-1.0, len(levels()) - 0.35, "level", ha="right", va="center", fontsize=10, color=GREY)
    figure.savefig(path, dpi=160, bbox_inches="tight")


def draw_flow(path: Path) -> None:
    figure, ax = _canvas(7.2, 6.0)
    ax.set(xlim=(-1.1, 8.3), ylim=(-6.3, 0.5))
    for start, end, what in ARROWS:
        _flow_arrow(ax, STEPS[start], STEPS[end], what)
    for step in STEPS.values():
        _box(ax, _place(step), step.room, step.names, width=_WIDTH, height=_HEIGHT)
    figure.savefig(path, dpi=160, bbox_inches="tight")


_WIDTH, _HEIGHT = 1.85, 0.8


def _place(step: Step) -> tuple[float, float]:
    return 3.6 * step.column, -1.45 * step.row


def _canvas(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    return figure, ax


def _box(
    ax: Any, place: tuple[float, float], room: str, names: tuple[str, ...], *, width: float, height: float
) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = place
    style = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": PALE, "edgecolor": BLUE, "linewidth": 1.2}
    ax.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, **style))
    top = y + 0.17 * (len(names) > 0)
    ax.text(x, top, room, ha="center", va="center", fontsize=11, color="black", weight="bold")
    ax.text(x, y - 0.14, "\n".join(names), ha="center", va="center", fontsize=9, color="black")


def _arrow(ax: Any, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style)


def _flow_arrow(ax: Any, start: Step, end: Step, what: str) -> None:
    (x, y), (x_end, y_end) = _place(start), _place(end)
    if start.row == end.row:
        side = _WIDTH / 2 if x_end > x else -_WIDTH / 2
        tail, head = (x + side, y), (x_end - side, y_end)
    else:
        tail, head = (x, y - _HEIGHT / 2), (x_end, y_end + _HEIGHT / 2)
    _arrow(ax, tail, head, ORANGE)
    middle = ((tail[0] + head[0]) / 2, (tail[1] + head[1]) / 2 + 0.14 * (start.row == end.row))
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1} if start.row != end.row else None
    ax.text(*middle, what, fontsize=9, color=GREY, ha="center", va="center", bbox=box)


def main() -> None:
    (FIGURES / "rooms.json").write_text(json.dumps(graph(), indent=1) + "\n", encoding="utf-8")
    draw_rooms(FIGURES / "rooms.png")
    draw_flow(FIGURES / "data_flow.png")


if __name__ == "__main__":
    main()
