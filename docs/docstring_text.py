"""For the reference: the text of docstrings as Markdown, with links to the public names that it mentions."""

from __future__ import annotations

import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parents[1]

_MENTION = re.compile(r"(?<![`\[])`(?P<name>(?:brainrdl\.)?(?:\w+\.)?\w+)`(?![`\]])")
_CLASS = re.compile(r"[A-Z]\w*[a-z]\w*")
_ROW = re.compile(r"^ *(?=\S)(?:(?!  ).)+ {2,}(?=\S)")
_SECTION = re.compile(r"^(?:Other )?Parameters\n-+\n(?:.|\n)*?(?=^\w[\w ]*\n-{3,}\n|\Z)", re.MULTILINE)
_TOGETHER = re.compile(
    r"^(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)+)(?P<type> : .*)?\n(?P<text>(?:(?: {4}.*)?(?:\n|\Z))+)", re.MULTILINE
)
_PLAIN = re.compile(r"[*_|]")  # what Markdown would use


class DocstringText(griffe.Extension):
    """Write the marks of numpydoc in those of Markdown."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(one_by_one(obj.docstring.value))


def one_by_one(text: str) -> str:
    """Repeat the text of parameters that are described together: griffe gives all of them the default of the first.

    Examples
    --------
    >>> print(one_by_one("Parameters\\n----------\\nlow, high : float\\n    Limits.\\n\\nReturns\\n-------\\nint\\n"))
    Parameters
    ----------
    low : float
        Limits.
    high : float
        Limits.
    <BLANKLINE>
    Returns
    -------
    int
    <BLANKLINE>
    """
    return _SECTION.sub(lambda section: _TOGETHER.sub(_repeated, section[0]), text)


def _repeated(found: re.Match[str]) -> str:
    text = found["text"].rstrip("\n")
    entries = [f"{name}{found['type'] or ''}\n{text}" for name in found["names"].split(", ")]
    return "\n".join(entries) + found["text"][len(text) :]


def as_markdown(text: str) -> str:
    """Replace ``::`` before a block by a colon, make a table of a block of two columns, and link names of brainrdl.

    Examples
    --------
    >>> print(as_markdown("Layout::\\n\\n    a.nii   maps\\n    b.tsv   their table,\\n            one row per map"))
    Layout:
    <BLANKLINE>
    |  |  |
    | --- | --- |
    | `a.nii` | maps |
    | `b.tsv` | their table, one row per map |
    <BLANKLINE>
    """
    text = re.sub(r"::\n\n((?: {4}.*\n?)+)", _block, text)
    return "\n".join(line if _is_code(line) else _prose(line) for line in text.split("\n"))


def _block(found: re.Match[str]) -> str:
    rows = _rows(textwrap.dedent(found[1]).splitlines())
    if sum(not says for _, says in rows) >= len(rows) / 3:  # lines of a file, with a few notes
        return f":\n\n{found[1]}"
    cells = (f"| {_indented(name)} | {_PLAIN.sub(_escaped, says)} |" for name, says in rows)
    return "\n".join([":", "", "|  |  |", "| --- | --- |", *cells, ""])


def _rows(lines: list[str]) -> list[tuple[str, str]]:
    """Read a block in two columns, the second with all its lines at one place; nothing if it is another block."""
    places = {found.end() for line in lines if (found := _ROW.match(line))}
    if len(places) != 1:
        return []
    (place,) = places
    rows: list[tuple[str, str]] = []
    for line in lines:
        name, says = line[:place].rstrip(), line[place:].strip()
        if line[place - 2 : place].strip():
            return []
        if name:
            rows.append((name, says))
        elif not rows:
            return []
        else:
            rows[-1] = (rows[-1][0], f"{rows[-1][1]} {says}")
    return rows


def _indented(name: str) -> str:
    """Keep the indentation of what is inside a folder or group."""
    inner = name.lstrip()
    return "&emsp;" * ((len(name) - len(inner)) // 2) + f"`{inner}`"


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def _is_code(line: str) -> bool:
    return (line.startswith("    ") and "`" not in line) or line.lstrip().startswith((">>>", "..."))


def _prose(line: str) -> str:
    line = re.sub(r"::$", ":", line)
    return _MENTION.sub(lambda found: _linked(found["name"]), line)


def _linked(name: str) -> str:
    """Link a name that begins with ``brainrdl.``, or of a class, if it is public in one room only."""
    if not name.startswith("brainrdl.") and not _CLASS.fullmatch(name):
        return f"`{name}`"
    *room, last = name.removeprefix("brainrdl.").split(".")
    places = {place for place in public_names().get(last, ()) if not room or place.split(".")[1] == room[0]}
    return f"[`{name}`][{places.pop()}]" if len(places) == 1 else f"`{name}`"


@cache
def public_names() -> dict[str, list[str]]:
    """Find where the public names of all rooms are defined, from their stubs."""
    found: dict[str, list[str]] = {}
    for stub in sorted((ROOT / "brainrdl").glob("*/__init__.pyi")):
        entries = re.findall(r"^from \.(\w+) import (\([^)]*\)|.*)$", stub.read_text(encoding="utf-8"), re.MULTILINE)
        for module, names in entries:
            for name in re.findall(r"\bas (\w+)", names):
                found.setdefault(name, []).append(f"brainrdl.{stub.parent.name}.{module}.{name}")
    return found
