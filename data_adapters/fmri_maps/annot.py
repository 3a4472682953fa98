"""FreeSurfer's ``.annot``: the region of each vertex of a hemisphere, and the regions' names.

Numbers are big-endian, 4 bytes: the number of vertices, a pair (vertex, colour) for each, and the table of colours,
each with a name. nibabel's reader is not used: it allocates memory for any declared size, and if the colour of a vertex
is not in the table, it gives the vertex the name of another region.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from brainrdl._core.errors import check_unique, quote, refuse

_OUTSIDE = re.compile(r"unknown|\?+|background.*|.*medial[_ ]?wall", re.IGNORECASE)

_NO_COLOUR = {0, -1, 0xFFFFFF}  # of vertices outside all regions


class _Bytes:
    """Reads a file from its beginning, and never more than it holds."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.content) - self.at:
            refuse(f"it declares {count} bytes at byte {self.at}, but has only {len(self.content)}: is it cut off?")
        self.at += count
        return self.content[self.at - count : self.at]

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def numbers(self, count: int) -> np.ndarray:
        return np.frombuffer(self.take(4 * count), ">i4").astype(np.int64)

    def text(self) -> str:
        return self.take(self.number()).split(b"\0")[0].decode("utf-8", "replace")


def read_annot(path: Path) -> tuple[np.ndarray, dict[int, str]]:
    """Give each vertex's region, from 1, and the regions' names; 0 is outside, unknown or the medial wall."""
    file = _Bytes(path.read_bytes())
    vertices, colours = file.numbers(2 * max(file.number(), 0)).reshape(-1, 2).T
    if not np.array_equal(np.sort(vertices), np.arange(vertices.size)) or not vertices.size:
        refuse(f"its {vertices.size} vertices are not numbered from 0")
    if not file.number():
        refuse("it holds no table of colours, so its regions have no names")
    present = set(colours.tolist())
    held = [
        (number, name, colour) for number, (name, colour) in enumerate(_colours(file), start=1) if colour in present
    ]
    check_unique([str(colour) for _, _, colour in held], "the colours of its regions")
    missing = present - {colour for _, _, colour in held} - _NO_COLOUR
    if missing:
        refuse(f"its table lacks the colours {quote(sorted(missing))} that vertices have")
    inside = [(number, name, colour) for number, name, colour in held if not _OUTSIDE.fullmatch(name)]
    regions = np.zeros(vertices.size, np.int64)
    for number, _, colour in inside:
        regions[vertices[colours == colour]] = number
    return regions, {number: name for number, name, _ in inside}


def _colours(file: _Bytes) -> list[tuple[str, int]]:
    """Give the name and colour of each entry of the table, in either of its two versions."""
    count = file.number()
    if count > 0:
        file.text()  # the file that the table is from
        return [_entry(file) for _ in range(count)]
    if count != -2:
        refuse(f"its table of colours is of version {-count}, expected 1 or 2")
    file.number(), file.text()
    held = []
    for _ in range(file.number()):
        file.number()
        held.append(_entry(file))
    return held


def _entry(file: _Bytes) -> tuple[str, int]:
    name = file.text()
    red, green, blue, _ = file.numbers(4).tolist()
    return name, red + 256 * green + 65536 * blue
