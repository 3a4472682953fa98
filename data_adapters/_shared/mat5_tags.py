"""The tags of MATLAB's v5 to v7 files, checked before SciPy reads them: it crashes on types it does not know.

A file is a sequence of elements, each with a tag (type and number of bytes) and data; a matrix is a sequence of
elements itself. A compressed element is unpacked for the check, in memory, if it may be.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO

from brainrdl._core.errors import refuse
from brainrdl._core.packed import check_unpacked

_NUMBERS = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 12, 13})

_TEXTS = frozenset({1, 2, 3, 4, 16, 17, 18})

_MATRIX, _COMPRESSED = 14, 15

_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE, _FIRST_NUMBER, _LAST_NUMBER = 1, 2, 3, 4, 5, 6, 15

_COMPLEX = 0x0800

_DEEPEST = 100

_START = 64  # bytes of a compressed matrix that are looked at first

# Type, and where the data begin and end.
Element = tuple[int, int, int]


def check_tags(path: Path) -> None:
    """Refuse a file whose elements do not fit into each other, or have a type that is not allowed at their place."""
    with path.open("rb") as opened:
        head = opened.read(128)
        if len(head) < 128 or 0 in head[:4]:  # v4, which has no tags
            return
        order = "<" if head[126:] == b"IM" else ">"  # the same guess as SciPy's
        size, unpacked = path.stat().st_size, 0
        for kind, begin, end in _elements(opened, order, 128, size):
            if kind == _MATRIX:
                _check_matrix(opened, order, begin, end, 0)
            elif kind == _COMPRESSED:
                unpacked += _check_compressed(opened, order, begin, end)
                check_unpacked(unpacked, size, f"the file up to byte {end}")
            else:
                _refuse(f"a variable of type {kind}", begin)


def _check_compressed(opened: IO[bytes], order: str, begin: int, end: int) -> int:
    """Check a matrix that is compressed, of numbers only the beginning; return its size."""
    opened.seek(begin)
    packed = opened.read(end - begin)
    try:
        start = zlib.decompressobj().decompress(packed, _START)
        if len(start) < 56:  # tags, class, two axes and a name of a matrix
            _refuse("a compressed variable without a matrix", begin)
        kind, size = struct.unpack(order + "II", start[:8])
        check_unpacked(size, end - begin, f"the variable at byte {begin}")
        if kind != _MATRIX or len(start) < min(_START, 8 + size):
            _refuse("a compressed variable without a matrix", begin)
        flags = struct.unpack(order + "I", start[16:20])[0] & 0xFF
        if not _FIRST_NUMBER <= flags <= _LAST_NUMBER:
            content = zlib.decompressobj().decompress(packed, 8 + size)
            _check_matrix(BytesIO(content), order, 8, len(content), 0)
        return int(size)
    except zlib.error as error:
        refuse(f"the compressed variable at byte {begin} is damaged: {error}")


def _elements(opened: IO[bytes], order: str, begin: int, end: int) -> Iterator[Element]:
    """Yield the elements between two places."""
    while begin < end:
        opened.seek(begin)
        tag = opened.read(8)
        if len(tag) < 8:
            _refuse("half a tag", begin)
        kind, size = struct.unpack(order + "II", tag)
        small = kind >> 16  # up to 4 bytes are stored in the tag itself
        first, last = (begin + 4, begin + 4 + small) if small else (begin + 8, begin + 8 + size)
        if last > (begin + 8 if small else end):
            _refuse(f"an element of {small or size} bytes", begin)
        yield kind & 0xFFFF if small else kind, first, last
        begin = begin + 8 if small else last if kind == _COMPRESSED else begin + 8 + -(-size // 8) * 8


def _check_matrix(opened: IO[bytes], order: str, begin: int, end: int, depth: int) -> None:
    if begin == end:  # an empty cell
        return
    if depth > _DEEPEST:
        _refuse(f"a matrix in more than {_DEEPEST} others", begin)
    parts = list(_elements(opened, order, begin, end))
    kinds = [kind for kind, _, _ in parts]
    if kinds[:1] != [6] or parts[0][2] - parts[0][1] != 8:
        _refuse("a matrix without its class", begin)
    flags = _integers(opened, order, parts[0])[0]
    if not _fits(flags & 0xFF, bool(flags & _COMPLEX), kinds[1:3], kinds[3:]) or not _counted(opened, order, parts):
        _refuse(f"a matrix of class {flags & 0xFF} with elements of types {kinds[:8]}", begin)
    for kind, first, last in parts:
        if kind == _MATRIX:
            _check_matrix(opened, order, first, last, depth + 1)


def _fits(kind: int, is_complex: bool, head: list[int], data: list[int]) -> bool:
    """Say whether a matrix of this class has elements of these types."""
    if kind > _LAST_NUMBER:  # functions and objects, which SciPy does not parse
        return set(head) | set(data) <= _NUMBERS | _TEXTS | {_MATRIX}
    named = head == [5, 1]
    if kind in {_CELL, _STRUCT, _OBJECT}:
        own = {_CELL: [], _STRUCT: [5, 1], _OBJECT: [1, 5, 1]}[kind]
        return named and data[: len(own)] == own and set(data[len(own) :]) <= {_MATRIX}
    if kind == _CHAR:
        return named and len(data) == 1 and set(data) <= _TEXTS
    return named and len(data) == (3 if kind == _SPARSE else 1) + is_complex and set(data) <= _NUMBERS


def _counted(opened: IO[bytes], order: str, parts: list[Element]) -> bool:
    """Say whether there are axes, and as many matrices in cells and structs as they say: SciPy does not check that."""
    kind = _integers(opened, order, parts[0])[0] & 0xFF
    if kind > _LAST_NUMBER:
        return True
    axes = _integers(opened, order, parts[1])
    if len(axes) < 2 or max(axes) >= 2**31:
        return False
    if kind not in {_CELL, _STRUCT}:
        return True
    count = prod(axes)
    if kind == _CELL:
        return count == len(parts) - 3
    length, fields = _integers(opened, order, parts[3])[0], parts[4][2] - parts[4][1]
    return length > 0 and count * (fields // length) == len(parts) - 5


def _integers(opened: IO[bytes], order: str, element: Element) -> tuple[int, ...]:
    _, begin, end = element
    opened.seek(begin)
    count = (end - begin) // 4
    return struct.unpack(f"{order}{count}I", opened.read(4 * count))


def _refuse(what: str, place: int) -> None:
    refuse(f"there is {what} at byte {place}, which does not belong there; is the file cut off or damaged?")
