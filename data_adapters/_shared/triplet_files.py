"""Files of odd-one-out trials, distinguished from other tables by their first rows."""

from __future__ import annotations

import csv
from pathlib import Path

from data_adapters._shared.arrays import npy_header
from data_adapters._shared.text import first_lines, suffix

_SUFFIXES = frozenset({".csv", ".tsv", ".txt"})

NAMED = ("a", "b", "odd")


def looks_like_triplets(path: Path) -> bool:
    """Say whether a file's first rows are trials, three whole numbers, or the first names the columns a, b, odd.

    Three rows that could be an RDM, symmetric with one value on the diagonal, do not count as trials.
    """
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as opened:
                shape, dtype = npy_header(opened, path.name)
            return dtype.kind in "iu" and len(shape) == 2 and shape[1] == 3 != shape[0]
        rows = first_rows(path) if suffix(path) in _SUFFIXES else []
    except Exception:  # a damaged header fails anywhere in NumPy's and Python's parsers
        return False
    if not rows or not rows[0]:
        return False
    are_trials = all(len(row) == 3 and all(map(_is_whole, row)) for row in rows)
    return is_named(rows[0]) or (are_trials and not _is_rdm(rows))


def is_named(header: list[str]) -> bool:
    return set(NAMED) <= {cell.lower() for cell in header}


def first_rows(path: Path) -> list[list[str]]:
    """Give up to four rows; at least one, which may be empty."""
    return rows_of_cells(first_lines(path, 4), path) or [[]]


def _is_rdm(rows: list[list[str]]) -> bool:
    """Say whether these are all rows, symmetric, with one value on the diagonal."""
    if [len(row) for row in rows] != [3, 3, 3]:
        return False
    symmetric = all(rows[i][j] == rows[j][i] for i, j in ((0, 1), (0, 2), (1, 2)))
    return symmetric and rows[0][0] == rows[1][1] == rows[2][2]


def rows_of_cells(lines: list[str], path: Path) -> list[list[str]]:
    """Give the cells of all lines that are not blank."""
    held = [line for line in lines if line.strip()]
    if suffix(path) == ".txt":
        return [line.replace(",", " ").split() for line in held]
    delimiter = "\t" if suffix(path) == ".tsv" else next((mark for mark in "\t;," if held and mark in held[0]), ",")
    # line by line, so that a quote that is left open does not swallow other lines
    return [[cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])] for line in held]


def _is_whole(cell: str) -> bool:
    try:
        return float(cell).is_integer()
    except ValueError:
        return False
