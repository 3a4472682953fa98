"""Tables of text that accompany data: observations, regions, events, confounds."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from brainrdl._core.errors import BrainrdlError, check_option, check_unique, quote, refuse
from data_adapters._shared.text import read_text


def existing(path: str | Path, option: str) -> Path:
    """Give the file that an option names.

    Raises
    ------
    BrainrdlError
        If there is none.

    Examples
    --------
    >>> existing("no/table.tsv", "table")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: table= is 'no/table.tsv', but there is no such file
    """
    if Path(path).is_symlink() and not Path(path).exists():
        refuse(f"{option}= is {str(path)!r}, a link to a file that was not downloaded; fetch it first (datalad get)")
    if not Path(path).is_file():
        refuse(f"{option}= is {str(path)!r}, but there is no such file")
    return Path(path)


@contextmanager
def blaming(what: str, path: str | Path) -> Iterator[None]:
    """Name the file that is read here in every error; otherwise the message would name the data that it accompanies.

    Raises
    ------
    BrainrdlError
        Whatever goes wrong inside.

    Examples
    --------
    >>> with blaming("mask=", "mask.nii.gz"):
    ...     raise EOFError("no end")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: mask= 'mask.nii.gz' could not be read; is it cut off or damaged? EOFError: no end
    """
    try:
        yield
    except BrainrdlError as error:
        raise BrainrdlError(f"{what} {str(path)!r}: {error.message}", error.place) from error
    except Exception as error:
        raise BrainrdlError(
            f"{what} {str(path)!r} could not be read; is it cut off or damaged? {type(error).__name__}: {error}"
        ) from error


def read_cells(path: Path) -> list[list[str]]:
    r"""Read the rows of a table; columns are separated by tabs in ``.tsv``, else by commas, semicolons, tabs or blanks.

    Parameters
    ----------
    path : Path
        The table, in UTF-8. In ``.1D`` files of AFNI, lines that begin with ``#`` are left out.

    Returns
    -------
    list of list of str
        Rows of equal length, including the first; empty rows are left out.

    Raises
    ------
    BrainrdlError
        If it does not exist, is empty, or its rows differ in length.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "attributes.txt"
    >>> _ = file.write_text("rest 0\nface 0\n")
    >>> read_cells(file)
    [['rest', '0'], ['face', '0']]
    """
    if not path.is_file():
        refuse(f"there is no file {str(path)!r}")
    with blaming("the table", path):
        text = read_text(path)
    if path.suffix.lower() == ".1d":
        text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    try:
        lines = list(_split(text, _separator(path, text)))
    except csv.Error as error:
        refuse(f"the table {str(path)!r} is damaged: {error}")
    rows = [row for row in ([cell.strip() for cell in line] for line in lines) if any(row)]
    if not rows:
        refuse(f"the table {str(path)!r} is empty")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            refuse(f"row {number} of {str(path)!r} has {len(row)} cells, but the first row has {len(rows[0])}")
    return rows


def _split(text: str, separator: str) -> Iterable[list[str]]:
    if separator:
        return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    return map(str.split, text.splitlines())


def _separator(path: Path, text: str) -> str:
    """Give what separates columns: the most frequent candidate in the first line; an empty text for white space."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = next((line for line in text.splitlines() if line.strip()), "")
    most = max("\t,;", key=first.count)
    return most if most in first or path.suffix.lower() == ".csv" else ""


def read_table(path: Path) -> dict[str, list[str]]:
    r"""Read a table whose first row names the columns.

    Parameters
    ----------
    path : Path
        The file; see `read_cells`.

    Returns
    -------
    dict of str to list of str
        The cells of each column, unchanged.

    Raises
    ------
    BrainrdlError
        As `read_cells`; also if two columns have the same name, or there is no row below the names.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "events.tsv"
    >>> _ = file.write_text("onset\tduration\ttrial_type\n0\t10\tface\n")
    >>> read_table(file)
    {'onset': ['0'], 'duration': ['10'], 'trial_type': ['face']}
    """
    header, *rows = read_cells(path)
    check_unique(header, f"the first row of {str(path)!r}")
    if not rows:
        refuse(f"the table {str(path)!r} has no row below the names of its columns, {quote(header)}")
    return {column: [row[place] for row in rows] for place, column in enumerate(header)}


def read_numbers(path: Path) -> pd.DataFrame:
    r"""Read confounds: a table of numbers, with or without names in its first row.

    Parameters
    ----------
    path : Path
        The table.

    Returns
    -------
    pandas.DataFrame
        (n_volumes, n_confounds); columns without names are named ``"1"``, ``"2"``, ...

    Raises
    ------
    BrainrdlError
        If a cell is not a finite number.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "motion.txt"
    >>> _ = file.write_text("0.1 0.2\n0.3 0.4\n")
    >>> read_numbers(file).to_dict("list")
    {'1': [0.1, 0.3], '2': [0.2, 0.4]}
    """
    rows = read_cells(path)
    unnamed = [str(place) for place, _ in enumerate(rows[0], start=1)]
    columns, first = (unnamed, 1) if all(is_number(cell) for cell in rows[0]) else (rows.pop(0), 2)
    check_unique(columns, f"the first row of {str(path)!r}")
    for number, row in enumerate(rows, start=first):
        for column, cell in zip(columns, row, strict=True):
            if not is_number(cell):
                refuse(f"{cell!r} in row {number}, column {column!r} of {str(path)!r} is not a finite number")
    return pd.DataFrame(rows, columns=columns).astype(float)


def is_number(cell: str) -> bool:
    """Say whether a cell holds a finite number.

    Examples
    --------
    >>> is_number("-1.5e3"), is_number("n/a"), is_number("inf")
    (True, False, False)
    """
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def column_of(table: Mapping[str, Sequence[str]], column: str | None, usual: Sequence[str], option: str) -> str:
    """Give the column asked for, or the only one with a usual name, in upper or lower case.

    Raises
    ------
    BrainrdlError
        If there is no such column, or more than one has a usual name.

    Examples
    --------
    >>> column_of({"onset": [], "trial_type": []}, None, ("trial_type", "condition"), "condition_column")
    'trial_type'
    """
    if column is not None:
        return check_option(column, table, option)
    found = columns_like(table, usual)
    if len(found) != 1:
        refuse(
            f"the table has the columns {quote(table)}, of which {quote(found) if found else 'none'} could be meant; "
            f"choose one with {option}="
        )
    return found[0]


def columns_like(table: Iterable[str], usual: Iterable[str]) -> list[str]:
    """Give the columns with a usual name: with the same spelling, or else with other capitals.

    Examples
    --------
    >>> columns_like(["Run", "run", "Condition"], ("condition", "run"))
    ['Condition', 'run']
    """
    columns = list(table)
    spelled = [
        [name] if name in columns else [column for column in columns if column.lower() == name] for name in usual
    ]
    return [column for found in spelled for column in found]
