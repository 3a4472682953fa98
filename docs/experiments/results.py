"""Raw results of an experiment: one CSV file to which rows are only added, each found by its key."""

from __future__ import annotations

import base64
import csv
import io
import os
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd


class Results:
    """Rows of a CSV file by key; a row that exists is never computed or written again.

    Each row is written with a single call, so several processes can add rows to one file. The last line of a run that
    was killed may be incomplete. It is left out when rows are read, and the next row takes its place.

    Parameters
    ----------
    path : Path
        The file; it is made with the first row.
    columns : sequence of str
        All columns.
    key : sequence of str
        The columns by which a row is found.

    Raises
    ------
    ValueError
        If the file has other columns.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: Sequence[str]) -> None:
        self.path, self.columns, self.key = path, tuple(columns), tuple(key)
        if path.exists() and tuple(self.rows().columns) != self.columns:
            raise ValueError(f"{path} has the columns {list(self.rows().columns)}, expected {list(self.columns)}")

    def rows(self) -> pd.DataFrame:
        """Return all complete rows, the first of each key."""
        if not self.path.exists():
            return pd.DataFrame(columns=list(self.columns))
        with self.path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
        whole = [line for line in lines[1:] if len(line) == len(lines[0])]
        if whole and not self.path.read_text(encoding="utf-8").endswith("\n"):
            whole = whole[:-1] if whole[-1] == lines[-1] else whole
        table = pd.DataFrame(whole, columns=lines[0]).apply(_numbers)
        return table.drop_duplicates(list(self.key)).reset_index(drop=True)

    def done(self) -> set[tuple[str, ...]]:
        """Return the keys of all rows, as text."""
        return {tuple(map(str, key)) for key in self.rows()[list(self.key)].itertuples(index=False)}

    def create(self) -> None:
        """Make the file with its header, if it does not exist; before several processes add rows to it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), self.path.open("x", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(self.columns)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row, unless there is one with its key; columns that it lacks stay empty."""
        self.create()
        if tuple(str(_shown(row[name])) for name in self.key) in self.done():
            return
        written = self.path.read_bytes()
        if not written.endswith(b"\n"):
            os.truncate(self.path, written.rfind(b"\n") + 1)
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerow(
            {name: _shown(value) for name, value in row.items()}
        )
        place = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(place, text.getvalue().encode())
        finally:
            os.close(place)

    def replace(self, values: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows in place of all that have these values."""
        self.create()
        old = self.rows()
        kept: list[Any] = old[(old[list(values)] != pd.Series(values)).any(axis=1)].to_dict("records")
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _shown(value) for name, value in row.items()} for row in (*kept, *rows))
        self.path.write_text(text.getvalue(), encoding="utf-8")


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return value


def _numbers(column: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(column.replace("", np.nan), errors="coerce")
    return numbers if numbers.notna().sum() == (column != "").sum() else column


def pack(correct: npt.NDArray[np.bool_]) -> str:
    """Write which test images were classified correctly as text: their number, and compressed bits.

    Examples
    --------
    >>> unpack(pack(np.array([True, False, True]))).tolist()
    [True, False, True]
    """
    return f"{len(correct)}:{base64.b64encode(zlib.compress(np.packbits(correct).tobytes(), 9)).decode()}"


def unpack(text: str) -> npt.NDArray[np.bool_]:
    """Read what `pack` wrote."""
    n, packed = text.split(":")
    bits = np.frombuffer(zlib.decompress(base64.b64decode(packed)), dtype=np.uint8)
    return np.unpackbits(bits, count=int(n)).astype(bool)
