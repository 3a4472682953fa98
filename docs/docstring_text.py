"""For the reference: the text of docstrings as Markdown, with links to the public names that it mentions."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parents[1]

_MENTION = re.compile(r"(?<![`\[])`(?P<name>(?:brainrdl\.)?(?:\w+\.)?\w+)`(?![`\]])")
_CLASS = re.compile(r"[A-Z]\w*[a-z]\w*")


class DocstringText(griffe.Extension):
    """Write the marks of numpydoc in those of Markdown."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Replace ``::`` before a block by a colon, and link names of brainrdl, except in blocks and examples."""
    return "\n".join(line if _is_code(line) else _prose(line) for line in text.split("\n"))


def _is_code(line: str) -> bool:
    return line.startswith("    ") and "`" not in line or line.lstrip().startswith((">>>", "..."))


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
