"""RDMs from the cells of a square or long table, from any kind of file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from brainrdl._core.errors import check_number, check_option, check_unique, nearest, quote, read_arg, refuse
from brainrdl.rdms.conversion import dissimilarities_of, from_array
from data_adapters._shared.measurements import condition_names

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs
_PAIRS = (("a", "b"), ("stim1", "stim2"), ("stimulus1", "stimulus2"), ("item1", "item2"))

_VALUES = ("dissimilarity", "rating")

_LABELS = ("subject", "roi", "session", "layer", "time", "name", "model", "weights")

_MISSING = frozenset({"", "na", "nan", "n/a"})

_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?|[-+]?inf", re.IGNORECASE)

_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?", re.IGNORECASE)

_WRITTEN = ["a", "b", "dissimilarity"]  # the first columns that `brainrdl.rdms.to_table` writes

Rows = list[list[str]]

# The values of one pair in one RDM, by the RDM's labels and the pair's names.
Found = dict[tuple[tuple[str, ...], frozenset[str]], list[float]]


@dataclass(frozen=True)
class Choices:
    """The options of the readers of tables, which say what a table means."""

    similarity: bool | float | None = None
    repeats: str = "refuse"
    missing: str = "refuse"
    pair: Sequence[str] | None = None
    value: str | None = None
    rdm_columns: str | Sequence[str] | None = None
    header: bool | None = None
    decimal: str = "."
    diagonal: bool = False

    def __post_init__(self) -> None:
        """Refuse invalid values."""
        check_option(self.repeats, ("refuse", "mean"), "repeats")
        check_option(self.missing, ("refuse", "nan"), "missing")
        check_option(self.decimal, (".", ","), "decimal")
        if self.similarity is not None and not isinstance(self.similarity, bool):
            check_number(self.similarity, "similarity, unless True or False,")
        if self.pair is not None and (isinstance(self.pair, str) or len(set(self.pair)) != 2 or len(self.pair) != 2):
            refuse(f"pair must be the names of two columns, got {self.pair!r}")

    def dissimilarities(self, values: np.ndarray) -> np.ndarray:
        """Convert similarities to dissimilarities; NaN, for not measured, stays NaN."""
        return dissimilarities_of(values, self.similarity)

    def number(self, cell: str) -> float | None:
        """Return the number in a cell, NaN for the words that mean not measured, or None if it is not a number."""
        if cell.lower() in _MISSING:
            return np.nan
        text = cell.translate({ord(","): ".", ord("."): ","}) if self.decimal == "," else cell
        return float(text) if _NUMBER.fullmatch(text) else None


def rdms_of(rows: Rows, choices: Choices) -> RDMs:
    """Make RDMs from the cells of a table; the first row is the header unless all cells are values."""
    bare = None if choices.header else _numbers(rows, choices)
    if choices.header is False or (bare is not None and _is_bare(rows)):
        return _bare(rows, bare, choices)
    square = _without_points(rows)
    beside = _columns_of_text(square, choices)
    if set(square[0][1:]) - set(beside) == {row[0] for row in square[1:]} and len(rows) > 1:
        sides = [row[0] for row in rows[1:]], [column for column in rows[0][1:] if column not in beside]
        return _square(square, beside, choices, named=not all(map(_are_row_numbers, sides)))
    columns = long_columns(rows[0], choices)
    if columns is not None:
        return _long(rows, columns, choices)
    counted = [row[0] for row in rows[1:]]
    if len(rows[0]) > 1 and rows[0][0] == "" and counted and any(_are_row_numbers(counted, first) for first in (0, 1)):
        return rdms_of([row[1:] for row in rows], choices)
    top = _numbers(rows[1:], choices) if choices.header or _numbers(rows[:1], choices) is None else None
    if top is not None and top.shape == (len(rows[0]), len(rows[0])):  # names in the first row alone
        return _of_square(top, None if _are_row_numbers(rows[0]) else _without_points([["", *rows[0]]])[0][1:], choices)
    _refuse_layout(rows, choices)


# Names


def _are_row_numbers(names: Iterable[str], first: int = 0) -> bool:
    """Return whether these count up from 0, as pandas numbers rows and columns without names (R: rows, from 1)."""
    return all(name == str(number) for number, name in enumerate(names, first))


def _without_points(rows: Rows) -> Rows:
    """Write whole numbers without a point in the first row and in the first column if all numbers there are floats."""
    numbers = {name for name in rows[0][1:] if _NUMBER.fullmatch(name)}
    plain = dict(zip(numbers, _plain_floats(numbers), strict=True))
    header = [rows[0][0], *(plain.get(name, name) for name in rows[0][1:])]
    names = _plain_floats([row[0] for row in rows[1:]])
    return [header, *([name, *row[1:]] for name, row in zip(names, rows[1:], strict=True))]


def _plain_floats(cells: Collection[str]) -> list[str]:
    """Write whole numbers without a point if all cells are floats, because pandas may write the name 1 as 1.0."""
    if not all(map(_FLOAT.fullmatch, cells)):
        return list(cells)
    return [str(int(float(cell))) if float(cell).is_integer() else cell for cell in cells]


# Square tables


def _numbers(rows: Rows, choices: Choices) -> np.ndarray | None:
    """Return the numbers in all cells, or None if one is not a number."""
    values = []
    for row in rows:
        found = [choices.number(cell) for cell in row]
        if None in found:
            return None
        values.append(found)
    return np.array(values, dtype=np.float64)


def _is_bare(rows: Rows) -> bool:
    """Return whether a table of numbers is an RDM without names; refuse it if it could be something else."""
    if len(rows) != len(rows[0]):
        return False
    first, inner = rows[0][1:], [cell for row in rows[1:] for cell in row[1:]]
    unique = len(set(first)) == len(first)
    if not rows[0][0]:  # a blank corner means names below it, unless the whole diagonal is blank
        if any(row[place] for place, row in enumerate(rows)):
            return False
        open_to_both = unique and set(first) == {row[0] for row in rows[1:]}
    else:
        counted = first == [str(number) for number in range(1, len(rows))]
        numbered = unique and all(cell.isdigit() for cell in first)
        open_to_both = numbered and (counted or not all(_is_whole(cell) for cell in inner))
    if open_to_both:
        refuse(
            f"all cells are numbers, and those of the first row and column, {quote(first)}, could be values or names: "
            f"use {read_arg('header', False)} (values) or {read_arg('header', True)} (names)" + _or_trials(rows)
        )
    if _or_trials(rows):
        refuse(
            "three rows of three whole numbers could be an RDM without names: use "
            f"{read_arg('header', False)}{_or_trials(rows)}"
        )
    return True


def _or_trials(rows: Rows) -> str:
    """Say how to read three rows of three different whole numbers as odd-one-out trials."""
    if len(rows) != 3 or not all(len(set(row)) == 3 and all(map(_is_whole, row)) for row in rows):
        return ""
    return f", or {read_arg('reader', 'triplets')} (odd-one-out trials)"


def _is_whole(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None and float(cell).is_integer()


def _bare(rows: Rows, values: np.ndarray | None, choices: Choices) -> RDMs:
    if values is None or len(rows) != len(rows[0]):
        refuse(
            f"header=False needs a square table of numbers; this one has {len(rows)} rows of {len(rows[0])} cells, "
            f"the first of which are {quote(rows[0])}"
        )
    return _of_square(values, None, choices)


def _of_square(values: np.ndarray, names: Sequence[str] | None, choices: Choices) -> RDMs:
    """Make an RDM; a value missing on one side of the diagonal is filled in from the other side."""
    square = choices.dissimilarities(values)
    known = None if names is None else _unique(names, "the first row")
    filled = np.where(np.isnan(square), square.T, square)
    return from_array(filled, known, where="the table", diagonal=choices.diagonal)


def _columns_of_text(rows: Rows, choices: Choices) -> dict[str, list[str]]:
    """Return the columns without numbers that do not belong to a condition, such as categories."""
    names = {row[0] for row in rows[1:]}
    columns = {
        column: [row[place] for row in rows[1:]]
        for place, column in enumerate(rows[0])
        if place and column not in names
    }
    return {key: cells for key, cells in columns.items() if all(choices.number(cell) is None for cell in cells)}


def _square(rows: Rows, beside: dict[str, list[str]], choices: Choices, named: bool) -> RDMs:
    _unique([column for column in rows[0][1:] if column not in beside], "the first row")
    names = _unique([row[0] for row in rows[1:]], "the first column")
    places = [rows[0].index(name, 1) for name in names]
    values = [[_number(row[place], row[0], rows[0][place], choices) for place in places] for row in rows[1:]]
    rdms = _of_square(np.array(values), names if named else None, choices)
    rdms.pattern_descriptors.update(beside)
    return rdms


def _unique(names: Sequence[str], where: str) -> list[str]:
    check_unique(names, where)
    return condition_names(names, where)


def _refuse_layout(rows: Rows, choices: Choices) -> NoReturn:
    columns, names = rows[0], [row[0] for row in rows[1:]]
    pair = _pair_of(columns, choices)
    if pair is not None:
        refuse(
            f"a table with the columns {list(pair)} is a long table, which must have one of the columns "
            f"{list(_VALUES)}, got {columns}; choose the column of values with {read_arg('value')}"
        )
    if rows[0][0] and _numbers(rows, choices) is not None:
        refuse(
            f"all cells are numbers, in {len(rows)} rows of {len(columns)}: if they are pairs with a value, add a "
            "first row a,b,dissimilarity (or rating); if the first row names conditions, use "
            f"{read_arg('header', True)}"
        )
    check_unique(columns[1:], "the first row")
    if len(rows) == len(columns):
        check_unique(names, "the first column")
    only_row, only_column = (quote(sorted(set(one) - set(other))) for one, other in _both(columns[1:], names))
    refuse(
        f"row and column names differ: only in the first row {only_row}, only in the first column {only_column}; in a "
        f"long table, choose the columns of names and of values with {read_arg('pair')} and {read_arg('value')}"
    )


def _both(first: list[str], second: list[str]) -> tuple[tuple[list[str], list[str]], ...]:
    return (first, second), (second, first)


# Long tables


@dataclass(frozen=True)
class Columns:
    """The columns of a long table: two with names, one with values, and one for each rdm descriptor."""

    pair: tuple[str, str]
    value: str
    labels: dict[str, str]

    def used(self) -> list[str]:
        """List all columns that are read."""
        return [*self.pair, self.value, *self.labels.values()]


def long_columns(header: Sequence[str], choices: Choices) -> Columns | None:
    """Find the columns of a long table by their usual names, or as chosen; None if it is not a long table."""
    pair = _pair_of(header, choices)
    values = [column for column in header if _plain(column) in _VALUES] if choices.value is None else [choices.value]
    if pair is None or not values:
        return None
    check_unique([column for column in header if column], "the first row")
    if len(values) > 1:
        refuse(
            f"a long table must have one of the columns {list(_VALUES)}, got {values}; choose one with "
            f"{read_arg('value')}"
        )
    value = check_option(values[0], header, "value")
    others = [column for column in header if column and column not in (*pair, value)]
    # a column that is not an rdm descriptor would make pairs missing, unless gaps and repeats are allowed
    strict = choices.missing == choices.repeats == "refuse"
    written = [column for column in header if column][:3] == _WRITTEN and strict
    return Columns(pair, value, _labels(others, choices, written))


def _plain(column: str) -> str:
    """Return the name of a column without case, spaces and underscores, for comparisons."""
    return re.sub(r"[ _]", "", column).lower()


def _pair_of(header: Sequence[str], choices: Choices) -> tuple[str, str] | None:
    if choices.pair is not None:
        return check_option(choices.pair[0], header, "pair"), check_option(choices.pair[1], header, "pair")
    plain = {_plain(column): column for column in header}
    found = [(plain[first], plain[second]) for first, second in _PAIRS if {first, second} <= plain.keys()]
    return found[0] if len(found) == 1 else None


def _labels(others: list[str], choices: Choices, written: bool) -> dict[str, str]:
    """Return the column of each rdm descriptor; other columns are accepted only in tables like those of `to_table`."""
    known = {column: _plain(column) for column in others if _plain(column) in _LABELS}
    if choices.rdm_columns is not None:
        asked = [choices.rdm_columns] if isinstance(choices.rdm_columns, str) else list(choices.rdm_columns)
        return {known.get(column, column): check_option(column, others, "rdm_columns") for column in asked}
    strange = [column for column in others if column not in known]
    if strange and not written:
        refuse(
            f"column {strange[0]!r} is not known{nearest(strange[0], _LABELS)}; the other columns are {quote(others)}: "
            f"name those that distinguish RDMs with {read_arg('rdm_columns')} (the others are left out)"
        )
    return {known.get(column, column): column for column in others}


def _long(rows: Rows, columns: Columns, choices: Choices) -> RDMs:
    _check_meaning(columns.value, choices)
    if len(rows) == 1:
        refuse("the table has a first row only")
    cells = {column: [row[rows[0].index(column)] for row in rows[1:]] for column in columns.used()}
    sides = [condition_names(_plain_floats(cells[side]), f"column {side!r}") for side in columns.pair]
    names = list(dict.fromkeys(name for pair in zip(*sides, strict=True) for name in pair))
    labels = {label: _plain_floats(cells[column]) for label, column in columns.labels.items()}
    condition_names(labels.get("subject", []), "column 'subject'")
    of: Iterable[tuple[str, ...]] = zip(*labels.values(), strict=True) if labels else [()] * len(rows[1:])
    found: Found = {}
    for group, a, b, cell in zip(of, *sides, cells[columns.value], strict=True):
        found.setdefault((group, frozenset((a, b))), []).append(_number(cell, a, b, choices))
    groups = list(dict.fromkeys(group for group, _ in found))
    single = {pair: _one_value(pair, values, choices) for pair, values in found.items()}
    shape = (len(groups), len(names), len(names))
    stack = np.array([_pair_value(single, group, a, b, choices) for group in groups for a in names for b in names])
    stack = choices.dissimilarities(stack).reshape(shape)
    given = np.array([(group, frozenset((name,))) in single for group in groups for name in names])
    _check_diagonals(stack, given.reshape(shape[:2]), names)
    descriptors = {label: [group[place] for group in groups] for place, label in enumerate(columns.labels)}
    return from_array(stack, names, descriptors=descriptors, where="the table")


def _check_meaning(value: str, choices: Choices) -> None:
    """Refuse values if it is not clear whether high values mean similar."""
    is_dissimilarity = _plain(value) == "dissimilarity"
    if not is_dissimilarity and choices.similarity is None:
        refuse(
            f"does a high {value} mean similar or different? use {read_arg('similarity', True)} (similar), a number "
            "(the top of that scale) or False (different)"
        )
    if is_dissimilarity and choices.similarity not in (None, False):
        refuse(f"similarity={choices.similarity!r}, but the column is called {value!r}; rename it to 'rating'")


def _one_value(pair: tuple[tuple[str, ...], frozenset[str]], values: list[float], choices: Choices) -> float:
    """Return the value of the pair; refuse different values unless their mean is requested."""
    if len(set(values)) == 1 or np.isnan(values).all():
        return values[0]
    if choices.repeats == "refuse":
        a, b = (sorted(pair[1]) * 2)[:2]
        refuse(
            f"the pair {a!r}, {b!r} occurs twice{_of(pair[0])}, with {values[0]!r} and {values[1]!r}; "
            "repeats='mean' averages them"
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
            f"the pair {a!r}, {b!r} is missing{_of(group)}; give it an empty value if it was not measured, or use "
            f"{read_arg('missing', 'nan')}"
            + (f"; or name the columns that distinguish RDMs with {read_arg('rdm_columns')}" if group else "")
        )
    return single.get(pair, np.nan)


def _check_diagonals(stack: np.ndarray, given: np.ndarray, names: list[str]) -> None:
    """Set the diagonals to 0, and refuse a condition with another dissimilarity to itself."""
    for square, present in zip(stack, given, strict=True):
        own = np.diagonal(square)
        wrong = np.flatnonzero(present & ~np.isnan(own) & (own != 0))
        if wrong.size:
            refuse(f"the dissimilarity of {names[wrong[0]]!r} to itself is {float(own[wrong[0]])!r}, expected 0")
        np.fill_diagonal(square, 0)


def _of(group: tuple[str, ...]) -> str:
    return f" for {', '.join(map(repr, group))}" if group else ""


def _number(cell: str, row: str, column: str, choices: Choices) -> float:
    value = choices.number(cell)
    if value is None:
        remedy = (
            f"; if the comma is a decimal one, use {read_arg('decimal', ',')}"
            if "," in cell and choices.decimal == "."
            else ""
        )
        refuse(f"{cell!r} at row {row!r}, column {column!r} is not a number{remedy}")
    return value
