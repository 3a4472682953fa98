"""Comma- and tab-separated tables, as spreadsheets and R write them.

Layout on disk (``.csv`` or ``.tsv``, UTF-8), either one square RDM with names on both sides::

    ,cat,dog,car                    the names of rows and columns are the same set, in any order
    cat,0,0.2,0.9
    dog,0.2,0,0.8
    car,0.9,0.8,0

or a long table, one pair a row, every pair of every RDM exactly once in either direction (or twice with one value)::

    a,b,dissimilarity,subject,roi   columns in any order; subject, roi and session are optional
    cat,dog,0.2,s01,IT
    cat,car,0.9,s01,IT
    dog,car,0.8,s01,IT

An empty cell, NA or NaN is a pair not measured.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainrdl._checks import check_option, check_unique, quote, refuse
from brainrdl.rdms import from_array

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

_PAIR = ("a", "b", "dissimilarity")
_LABELS = ("subject", "roi", "session")
_MISSING = frozenset({"", "na", "nan"})


class CsvTable:
    """Reads an RDM from a square table, or RDMs from a long one.

    Examples
    --------
    >>> READER.sniff(Path("judgements.tsv"))
    True
    """

    name = "csv"
    layout = (
        ".csv or .tsv: a square table with the condition names in the first row and column, or a long table with the "
        "columns a, b, dissimilarity and, if known, subject, roi, session"
    )

    def sniff(self, path: Path) -> bool:
        """Take files by their suffix.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix is ``.csv`` or ``.tsv``.
        """
        return path.suffix.lower() in {".csv", ".tsv"}

    def read(self, path: Path, *, delimiter: str | None = None) -> RDMs:
        """Read and check the table.

        Parameters
        ----------
        path : Path
            The file.
        delimiter : str, optional
            What separates the cells; by default a tab in ``.tsv`` and a comma in ``.csv``.

        Returns
        -------
        rsatoolbox.rdm.RDMs
            With pattern descriptor ``stimulus``: of a square table in the order of its rows, of a long one in the order
            of appearance. A long table's subject, roi and session become rdm descriptors.

        Raises
        ------
        BrainrdlError
            If it is empty or ragged, a cell is no number (with line and column), names differ between rows and columns,
            a pair is missing or has two values, or an RDM is not sound.
        """
        separator = delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")
        if len(separator) != 1:
            refuse(f"delimiter must be one character, got {delimiter!r}")
        rows = _rows(path, separator)
        return _long(rows) if set(_PAIR) <= set(rows[0]) else _square(rows)


def _rows(path: Path, delimiter: str) -> list[list[str]]:
    """Give the cells of all lines that are not blank, the same number in each."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        rows = [[cell.strip() for cell in row] for row in reader if any(cell.strip() for cell in row)]
    if not rows:
        refuse("the file is empty")
    if len(rows[0]) == 1:
        refuse(f"the first line has one cell, {rows[0][0]!r}; say what separates the cells with delimiter=")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            refuse(f"row {number} has {len(row)} cells and the first row {len(rows[0])}")
    return rows


def _square(rows: list[list[str]]) -> RDMs:
    columns, names = rows[0][1:], [row[0] for row in rows[1:]]
    check_unique(columns, "the first row")
    check_unique(names, "the first column")
    if set(columns) != set(names):
        only_row, only_column = (quote(sorted(set(one) - set(other))) for one, other in _both(columns, names))
        refuse(f"row and column names differ: only in the first row {only_row}, only in the first column {only_column}")
    values = [
        [_number(cell, name, column) for cell, column in zip(row[1:], columns, strict=True)]
        for name, row in zip(names, rows[1:], strict=True)
    ]
    order = [columns.index(name) for name in names]
    return from_array(np.array(values)[:, order], names, where="the table")


def _long(rows: list[list[str]]) -> RDMs:
    header = rows[0]
    check_unique(header, "the first row")
    for column in header:
        check_option(column, (*_PAIR, *_LABELS), "column")
    records = [dict(zip(header, row, strict=True)) for row in rows[1:]]
    if not records:
        refuse("the table has a first row only")
    labels = [label for label in _LABELS if label in header]
    names = list(dict.fromkeys(record[side] for record in records for side in ("a", "b")))
    groups = list(dict.fromkeys(tuple(record[label] for label in labels) for record in records))
    found: dict[tuple[tuple[str, ...], frozenset[str]], float] = {}
    for record in records:
        _enter(found, tuple(record[label] for label in labels), record)
    stack = np.array([[_pair_value(found, group, a, b) for a in names for b in names] for group in groups])
    descriptors = {label: [group[place] for group in groups] for place, label in enumerate(labels)}
    shape = (len(groups), len(names), len(names))
    return from_array(stack.reshape(shape), names, descriptors=descriptors, where="the table")


def _both(first: list[str], second: list[str]) -> tuple[tuple[list[str], list[str]], ...]:
    return (first, second), (second, first)


def _enter(
    found: dict[tuple[tuple[str, ...], frozenset[str]], float], group: tuple[str, ...], record: dict[str, str]
) -> None:
    """Note a pair's dissimilarity, and refuse a second one that differs."""
    a, b = record["a"], record["b"]
    value = _number(record["dissimilarity"], a, b)
    if a == b and value != 0 and not np.isnan(value):
        refuse(f"the dissimilarity of {a!r} to itself is {value!r}, expected 0")
    known = found.setdefault((group, frozenset((a, b))), value)
    if known != value and not (np.isnan(known) and np.isnan(value)):
        refuse(f"the pair {a!r}, {b!r} stands twice{_of(group)}, with {known!r} and {value!r}")


def _pair_value(
    found: dict[tuple[tuple[str, ...], frozenset[str]], float], group: tuple[str, ...], a: str, b: str
) -> float:
    pair = (group, frozenset((a, b)))
    if a != b and pair not in found:
        refuse(f"the pair {a!r}, {b!r} is missing{_of(group)}; give it an empty dissimilarity if it was not measured")
    return found.get(pair, 0.0)


def _of(group: tuple[str, ...]) -> str:
    return f" for {', '.join(map(repr, group))}" if group else ""


def _number(cell: str, row: str, column: str) -> float:
    if cell.lower() in _MISSING:
        return np.nan
    try:
        return float(cell)
    except ValueError:
        refuse(f"{cell!r} at row {row!r}, column {column!r} is not a number (decimal point, not comma)")


READER = CsvTable()
