"""Comma- and tab-separated tables, as spreadsheets and R write them.

Layout on disk (``.csv`` or ``.tsv``, UTF-8), either one square RDM with names on both sides::

    ,cat,dog,car                    the names of rows and columns are the same set, in any order
    cat,0,0.2,0.9
    dog,0.2,0,0.8
    car,0.9,0.8,0

or a long table, one pair a row, every pair of every RDM exactly once in either direction (or twice with one value)::

    a,b,dissimilarity,subject,roi   columns in any order; subject, roi, session, layer, time, name optional
    cat,dog,0.2,s01,IT
    cat,car,0.9,s01,IT
    dog,car,0.8,s01,IT

An empty cell, NA or NaN is a pair not measured. The values may be ratings instead, in a long table under ``rating``:
``similarity=`` says whether high ones mean alike.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainrdl._checks import check_number, check_option, check_unique, quote, refuse
from brainrdl.rdms import from_array
from data_adapters.triplets import looks_like_triplets

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

_VALUES = ("dissimilarity", "rating")
_LABELS = ("subject", "roi", "session", "layer", "time", "name")
_MISSING = frozenset({"", "na", "nan"})

# The values of one pair in one RDM, by the RDM's labels and the pair's names.
Found = dict[tuple[tuple[str, ...], frozenset[str]], list[float]]


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
        "columns a, b, dissimilarity (or rating) and, if known, subject, roi, session, layer, time"
    )

    def sniff(self, path: Path) -> bool:
        """Take files by their suffix, except odd-one-out triplets.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix is ``.csv`` or ``.tsv``, and the first row is not that of triplets.
        """
        return path.suffix.lower() in {".csv", ".tsv"} and not looks_like_triplets(path)

    def read(
        self,
        path: Path,
        *,
        delimiter: str | None = None,
        similarity: bool | float | None = None,
        repeats: str = "refuse",
        missing: str = "refuse",
    ) -> RDMs:
        """Read and check the table.

        Parameters
        ----------
        path : Path
            The file.
        delimiter : str, optional
            What separates the cells; by default a tab in ``.tsv`` and a comma in ``.csv``.
        similarity : bool or float, optional
            True turns similarities into dissimilarities: greatest value in the table minus value; a number is the top
            of the scale to subtract from. A column ``rating`` needs True, False or the number.
        repeats : {"refuse", "mean"}
            What to do with a pair of one RDM that a long table gives different values.
        missing : {"refuse", "nan"}
            What to do with a pair that a long table does not give.

        Returns
        -------
        rsatoolbox.rdm.RDMs
            With pattern descriptor ``stimulus``: of a square table in the order of its rows, of a long one in the order
            of appearance. A long table's subject, roi, session, layer, time and name become rdm descriptors.

        Raises
        ------
        BrainrdlError
            If it is empty or ragged, a cell is no number (with line and column), names differ between rows and columns,
            a pair is missing or has two values, it is unclear what a rating means, or an RDM is not sound.
        """
        separator = delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")
        if len(separator) != 1:
            refuse(f"delimiter must be one character, got {delimiter!r}")
        return rdms_of(_rows(path, separator), Choices(similarity, repeats, missing))


@dataclass(frozen=True)
class Choices:
    """What a table means: the options of `CsvTable.read`."""

    similarity: bool | float | None = None
    repeats: str = "refuse"
    missing: str = "refuse"

    def __post_init__(self) -> None:
        """Refuse what is no choice."""
        check_option(self.repeats, ("refuse", "mean"), "repeats")
        check_option(self.missing, ("refuse", "nan"), "missing")
        if self.similarity is not None and not isinstance(self.similarity, bool):
            check_number(self.similarity, "similarity, unless True or False,")

    def dissimilarities(self, values: np.ndarray) -> np.ndarray:
        """Turn similarities, NaN where not measured, into dissimilarities."""
        if self.similarity is None or self.similarity is False:
            return values
        greatest = np.nanmax(values, initial=-np.inf)
        top = greatest if self.similarity is True else float(self.similarity)
        if top < greatest:
            refuse(f"similarity says that the scale ends at {top}, but there is a value of {greatest}")
        return top - values


def rdms_of(rows: list[list[str]], choices: Choices) -> RDMs:
    """Make RDMs of the cells of a table, of which the first row is the header."""
    return _long(rows, choices) if {"a", "b"} <= set(rows[0]) else _square(rows, choices)


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


def _square(rows: list[list[str]], choices: Choices) -> RDMs:
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
    return from_array(choices.dissimilarities(np.array(values)[:, order]), names, where="the table")


def _long(rows: list[list[str]], choices: Choices) -> RDMs:
    header = rows[0]
    check_unique(header, "the first row")
    for column in header:
        check_option(column, ("a", "b", *_VALUES, *_LABELS), "column")
    value = _value_column(header, choices)
    records = [dict(zip(header, row, strict=True)) for row in rows[1:]]
    if not records:
        refuse("the table has a first row only")
    labels = [label for label in _LABELS if label in header]
    names = list(dict.fromkeys(record[side] for record in records for side in ("a", "b")))
    groups = list(dict.fromkeys(tuple(record[label] for label in labels) for record in records))
    found: Found = {}
    for record in records:
        pair = (tuple(record[label] for label in labels), frozenset((record["a"], record["b"])))
        found.setdefault(pair, []).append(_number(record[value], record["a"], record["b"]))
    single = {pair: _one_value(pair, values, choices) for pair, values in found.items()}
    shape = (len(groups), len(names), len(names))
    stack = np.array([_pair_value(single, group, a, b, choices) for group in groups for a in names for b in names])
    stack = choices.dissimilarities(stack).reshape(shape)
    given = np.array([(group, frozenset((name,))) in single for group in groups for name in names])
    _check_diagonals(stack, given.reshape(shape[:2]), names)
    descriptors = {label: [group[place] for group in groups] for place, label in enumerate(labels)}
    return from_array(stack, names, descriptors=descriptors, where="the table")


def _value_column(header: list[str], choices: Choices) -> str:
    """Give the name of the column of values, if it is clear what they mean."""
    present = [column for column in _VALUES if column in header]
    if len(present) != 1:
        refuse(f"a long table must have one of the columns {list(_VALUES)}, got {present or header}")
    if present == ["rating"] and choices.similarity is None:
        refuse(
            "is a high rating like or unlike? say similarity=True (alike), a number (the top of that scale) or False"
        )
    if present == ["dissimilarity"] and choices.similarity not in (None, False):
        refuse(f"similarity={choices.similarity!r}, but the column is called 'dissimilarity'; rename it to 'rating'")
    return present[0]


def _both(first: list[str], second: list[str]) -> tuple[tuple[list[str], list[str]], ...]:
    return (first, second), (second, first)


def _one_value(pair: tuple[tuple[str, ...], frozenset[str]], values: list[float], choices: Choices) -> float:
    """Give the pair's value, and refuse different ones unless their mean is asked for."""
    if len(set(values)) == 1 or np.isnan(values).all():
        return values[0]
    if choices.repeats == "refuse":
        a, b = (sorted(pair[1]) * 2)[:2]
        refuse(
            f"the pair {a!r}, {b!r} stands twice{_of(pair[0])}, with {values[0]!r} and {values[1]!r}; "
            "repeats='mean' would average them"
        )
    return float(np.nanmean(values))


def _pair_value(
    single: dict[tuple[tuple[str, ...], frozenset[str]], float],
    group: tuple[str, ...],
    a: str,
    b: str,
    choices: Choices,
) -> float:
    pair = (group, frozenset((a, b)))
    if a != b and pair not in single and choices.missing == "refuse":
        refuse(
            f"the pair {a!r}, {b!r} is missing{_of(group)}; give it an empty value if it was not measured, or say "
            "missing='nan'"
        )
    return single.get(pair, np.nan)


def _check_diagonals(stack: np.ndarray, given: np.ndarray, names: list[str]) -> None:
    """Put zeros on the diagonals, and refuse a condition that is given as unlike itself."""
    for square, present in zip(stack, given, strict=True):
        own = np.diagonal(square)
        wrong = np.flatnonzero(present & ~np.isnan(own) & (own != 0))
        if wrong.size:
            refuse(f"the dissimilarity of {names[wrong[0]]!r} to itself is {float(own[wrong[0]])!r}, expected 0")
        np.fill_diagonal(square, 0)


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
