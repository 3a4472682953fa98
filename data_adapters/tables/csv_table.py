"""Tables of text, as spreadsheets, MATLAB, NumPy, pandas and R write them.

Layout on disk (``.csv``, ``.tsv`` or ``.txt``, also ``.gz``; UTF-8), one square RDM with names on both sides::

    ,cat,dog,car                    the names of rows and columns are the same set, in any order
    cat,0,0.2,0.9
    dog,0.2,0,0.8                   columns of text (category) become pattern descriptors
    car,0.9,0.8,0

with names only in the first row (rows in the order of the columns), or without names (``names=`` gives them); or a long
table with one pair per row, and every pair of every RDM exactly once, in either direction (or twice with one value)::

    a,b,dissimilarity,subject,roi   columns in any order; also session, layer, time, name, model, weights
    cat,dog,0.2,s01,IT
    cat,car,0.9,s01,IT
    dog,car,0.8,s01,IT

The columns of the pair may also be called stim1 and stim2, stimulus1 and stimulus2 or item1 and item2. Case, spaces and
underscores are ignored, and columns without a name (row numbers) are left out. A long table may contain ratings, in the
column ``rating``; ``similarity=`` says whether high ratings mean similar. If the first columns are
``a,b,dissimilarity``, as `brainrdl.rdms.to_table` writes them, every other column becomes an rdm descriptor.

In a square table, 0, 1, 2, ... in this order are not names, but the numbers that pandas gives to rows and columns
without names; so are 1, 2, 3, ... for rows if the columns have other names (R). Numbers under a blank corner are names,
unless the whole diagonal is blank. If all names are written as floats, the point is removed: 1.0 becomes 1.

An empty cell, NA, n/a or NaN is a pair that was not measured; in a square table, the value on the other side of the
diagonal is used. Columns are separated by tabs in ``.tsv``, otherwise by the first of tab, semicolon and comma that
gives all rows the same number of cells, or in ``.txt`` by spaces. The decimal mark is a comma if columns are separated
by semicolons and no number has a point.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from brainrdl._core.errors import read_arg, refuse
from data_adapters._shared.arrays import is_thingsvision
from data_adapters._shared.text import read_text, suffix
from data_adapters._shared.triplet_files import looks_like_triplets
from data_adapters.tables.rdm_tables import Choices, Rows, rdms_of

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs
_SUFFIXES = frozenset({".csv", ".tsv", ".txt"})

_WITH_COMMA = re.compile(r"[-+]?[0-9]*,[0-9]+(e[-+]?[0-9]+)?", re.IGNORECASE)

_WITH_POINT = re.compile(r"[-+]?[0-9]*\.[0-9]+(e[-+]?[0-9]+)?", re.IGNORECASE)


class CsvTable:
    """Reads one RDM from a square table, or several from a long table.

    Examples
    --------
    >>> READER.sniff(Path("judgements.tsv"))
    True
    """

    name = "csv"
    layout = (
        ".csv or .tsv: a square table with the condition names in the first row and column, or only of numbers, or a "
        "long table with the columns a, b, dissimilarity (or rating) and, if known, subject, roi, session, layer, "
        "time; the same in .txt, and compressed as .gz"
    )

    def sniff(self, path: Path) -> bool:
        """Recognise files by their suffix, except odd-one-out triplets.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix (before ``.gz``) is ``.csv``, ``.tsv`` or ``.txt``, and the file is neither one of
            triplets nor thingsvision's ``features.txt``.
        """
        return suffix(path) in _SUFFIXES and not is_thingsvision(path) and not looks_like_triplets(path)

    def read(
        self,
        path: Path,
        *,
        delimiter: str | None = None,
        decimal: str | None = None,
        header: bool | None = None,
        similarity: bool | float | None = None,
        repeats: str = "refuse",
        missing: str = "refuse",
        pair: Sequence[str] | None = None,
        value: str | None = None,
        rdm_columns: str | Sequence[str] | None = None,
        diagonal: bool = False,
    ) -> RDMs:
        """Read and check the table.

        Parameters
        ----------
        path : Path
            The file.
        delimiter : str, optional
            The character between cells, if it should not be detected as described above.
        decimal : {".", ","}, optional
            The decimal mark, if it should not be detected as described above.
        header : bool, optional
            Whether the first row and column of a table of numbers are names; needed if they could be values.
        similarity : bool or float, optional
            True converts similarities to dissimilarities: the largest value in the table minus each value. A number is
            the top of the scale, from which values are subtracted. A column with another name than ``dissimilarity``
            needs True, False or this number.
        repeats : {"refuse", "mean"}
            What to do with a pair of one RDM that has different values in a long table.
        missing : {"refuse", "nan"}
            What to do with a pair that is missing from a long table.
        pair : sequence of str, optional
            The two columns of a long table that name the pair, if they do not have one of the usual names.
        value : str, optional
            The column of a long table with the values, if its name is not dissimilarity or rating.
        rdm_columns : str or sequence of str, optional
            The columns of a long table that become rdm descriptors; all others are left out. Needed if there are
            columns with unknown names.
        diagonal : bool
            True leaves out the diagonal of a square table, whatever its values, for example a decoder's chance level.

        Returns
        -------
        rsatoolbox.rdm.RDMs
            (n_rdms, n_pairs) in the unit of the table, with pattern descriptor ``stimulus`` unless a square table has
            no names. Conditions are in the order of the rows of a square table, or of their first appearance in a long
            table. The labels of a long table, or ``rdm_columns=``, become rdm descriptors.

        Raises
        ------
        BrainrdlError
            If the table is empty, ragged or not in UTF-8, a cell is not a number (the message gives row and column),
            names differ between rows and columns, a pair is missing or has two values, the meaning of columns, ratings
            or a table of numbers is unclear, or an RDM is not valid.
        """
        if delimiter is not None and len(delimiter) != 1:
            refuse(f"delimiter must be one character, got {delimiter!r}")
        text = read_text(path)
        separator = delimiter or _separator(text, suffix(path))
        rows = _rows(text, separator)
        mark = decimal or ("," if separator == ";" and _has_decimal_commas(rows) else ".")
        return rdms_of(rows, Choices(similarity, repeats, missing, pair, value, rdm_columns, header, mark, diagonal))


def _separator(text: str, kind: str) -> str:
    if kind == ".tsv":
        return "\t"
    first = next(line for line in text.splitlines() if line.strip())
    found = [separator for separator in "\t;," if separator in first]
    if len(found) > 1:
        found = [separator for separator in found if _is_even(_cells(text, separator))] or found
    return found[0] if found else " " if kind == ".txt" else ","


def _cells(text: str, separator: str) -> Rows:
    """Return the cells of all lines that are not blank; in tables with row names from R, the first row lacks a cell."""
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=separator == " "
    )
    rows = [[cell.strip() for cell in line] for line in lines if any(cell.strip() for cell in line)]
    if separator == " ":  # a space at the end of a line makes an empty cell
        rows = [row[:-1] if not row[-1] else row for row in rows]
    if len(rows) > 1 and all(len(row) == len(rows[0]) + 1 for row in rows[1:]):
        rows[0].insert(0, "")
    return rows


def _is_even(rows: Rows) -> bool:
    return len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows)


def _rows(text: str, separator: str) -> Rows:
    """Return the cells, the same number in each row."""
    rows = _cells(text, separator)
    while not any(row[-1] for row in rows) and len(rows[0]) > 1:  # columns that a spreadsheet left empty
        rows = [row[:-1] for row in rows]
    if len(rows[0]) == 1:
        refuse(
            f"the first line has only one cell, {rows[0][0]!r}; give the character between cells with "
            f"{read_arg('delimiter')}"
        )
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            refuse(f"row {number} has {len(row)} cells, but the first row has {len(rows[0])}")
    return rows


def _has_decimal_commas(rows: Rows) -> bool:
    """Return whether some cells look like numbers with a decimal comma, and none like a number with a point."""
    cells = [cell for row in rows for cell in row]
    return any(map(_WITH_COMMA.fullmatch, cells)) and not any(map(_WITH_POINT.fullmatch, cells))


READER = CsvTable()
