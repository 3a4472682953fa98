"""Parquet and Feather tables, as pandas, polars, R (arrow) and DuckDB write them.

Layout on disk (``.parquet``, ``.feather``, ``.arrow``): the same two kinds of table as in ``.csv`` (see `csv_table`).
One is a square RDM, whose index (pandas) or column of text names the rows; without both, rows are in the order of the
columns. The other is a long table with the columns a, b, dissimilarity (or rating) and, if known, subject, roi,
session, layer, time. A null is a pair that was not measured. The names 0, 1, 2, ... in this order are row numbers of
pandas, not names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainrdl._core.errors import quote, refuse
from data_adapters.tables.rdm_tables import Choices, long_columns, rdms_of

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs
_MOST_CELLS = 20_000_000  # the square table of 4400 conditions

_FEATHER = frozenset({".feather", ".arrow"})

_INDEX = "__index_level_"  # pandas' name for an index without a name


class Parquet:
    """Reads one RDM from a square table, or several from a long table.

    Examples
    --------
    >>> READER.sniff(Path("judgements.parquet"))
    True
    """

    name = "parquet"
    layout = (
        ".parquet or .feather: a square table of numbers with an index or a column of text that names the rows, or a "
        "long table with the columns a, b, dissimilarity (or rating) and, if known, subject, roi, session, layer, time"
    )

    def sniff(self, path: Path) -> bool:
        """Recognise files by their suffix.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix is ``.parquet``, ``.feather`` or ``.arrow``.
        """
        return path.suffix.lower() in _FEATHER | {".parquet"}

    def read(
        self,
        path: Path,
        *,
        similarity: bool | float | None = None,
        repeats: str = "refuse",
        missing: str = "refuse",
        pair: Sequence[str] | None = None,
        value: str | None = None,
        rdm_columns: str | Sequence[str] | None = None,
        diagonal: bool = False,
    ) -> RDMs:
        """Read and check the table (extra ``arrays``).

        Parameters
        ----------
        path : Path
            The file.
        similarity : bool or float, optional
            True converts similarities to dissimilarities: the largest value in the table minus each value. A number is
            the top of the scale, from which values are subtracted. A column with another name than ``dissimilarity``
            needs True, False or this number.
        repeats : {"refuse", "mean"}
            What to do with a pair of one RDM that has different values in a long table.
        missing : {"refuse", "nan"}
            What to do with a pair that is missing from a long table.
        pair, value, rdm_columns : optional
            The columns of a long table with names, values and rdm descriptors, as for a ``.csv`` file.
        diagonal : bool
            True leaves out the diagonal of a square table, whatever its values.

        Returns
        -------
        rsatoolbox.rdm.RDMs
            As from the same table in a ``.csv`` file.

        Raises
        ------
        BrainrdlError
            If pyarrow is not installed, the file is empty, has columns of other types than text and numbers or too many
            cells, or if the same table would be refused in a ``.csv`` file.
        """
        if not path.stat().st_size:
            refuse("the file is empty")
        choices = Choices(similarity, repeats, missing, pair, value, rdm_columns, header=True, diagonal=diagonal)
        return rdms_of(_rows(path, choices), choices)


def _rows(path: Path, choices: Choices) -> list[list[str]]:
    """Return the header and the cells as text, with the column of names first in a square table."""
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: F401
        import pyarrow.types as kinds  # type: ignore[import-untyped]
    except ImportError:
        refuse("Parquet and Feather need pyarrow: pip install 'brainrdl[arrays]'")
    table = _feather(path) if path.suffix.lower() in _FEATHER else _parquet(path)
    if len(set(table.column_names)) < len(table.column_names):
        refuse(f"two columns of {table.column_names} have the same name")
    long = long_columns([name for name in table.column_names if not name.startswith(_INDEX)], choices)
    columns = long.used() if long else _names_first(table, kinds)
    table = table.select(columns)
    for field in table.schema:
        if not (_is_text(field.type, kinds) or kinds.is_integer(field.type) or kinds.is_floating(field.type)):
            refuse(f"column {field.name!r} holds {field.type}, expected text or numbers")
    held = [list(map(_cell, column.to_pylist())) for column in table.columns]
    header = ["" if name.startswith(_INDEX) else name for name in columns]
    return [header, *map(list, zip(*held, strict=True))]


def _parquet(path: Path) -> Any:
    from pyarrow.parquet import ParquetFile

    # a ParquetFile, because read_table would read parts of the path as partitions
    with ParquetFile(path) as file:
        _check_cells(file.metadata.num_rows * file.metadata.num_columns)
        return file.read()


def _feather(path: Path) -> Any:
    """Read a Feather file (version 2, which is Arrow's IPC format), one batch of rows at a time."""
    import pyarrow

    with path.open("rb") as opened:
        if opened.read(6) != b"ARROW1":
            refuse("it is not a Feather file of version 2 (or is cut off); write it again with a current program")
    with pyarrow.memory_map(str(path)) as mapped, pyarrow.ipc.open_file(mapped) as file:
        batches, cells = [], 0
        for place in range(file.num_record_batches):
            batches.append(file.get_batch(place))
            cells += batches[-1].num_rows * batches[-1].num_columns
            _check_cells(cells)
        return pyarrow.Table.from_batches(batches, schema=file.schema)


def _check_cells(cells: int) -> None:
    if cells > _MOST_CELLS:
        refuse(f"the table has {cells} cells, but at most {_MOST_CELLS} are read")


def _names_first(table: Any, kinds: Any) -> list[str]:
    """Put the column first that names the rows of a square table: the index of pandas, or the only column of text.

    Among several columns of text, it is the one whose values are the names of other columns.
    """
    stored = (table.schema.pandas_metadata or {}).get("index_columns", [])
    index = [name for name in stored if isinstance(name, str) and name in table.column_names]
    texts = [field.name for field in table.schema if _is_text(field.type, kinds)]
    naming = [name for name in texts if set(table[name].to_pylist()) <= set(table.column_names)]
    found = next((names for names in (index, texts, naming) if len(names) == 1), [])
    if len(texts) > 1 and not found:
        refuse(f"which of the columns of text, {quote(texts)}, names the rows? write it as the table's index")
    return [*found, *(name for name in table.column_names if name not in found)]


def _is_text(kind: Any, kinds: Any) -> bool:
    plain = kind.value_type if kinds.is_dictionary(kind) else kind
    return kinds.is_string(plain) or kinds.is_large_string(plain)


def _cell(value: Any) -> str:
    """Return a value as text; pandas converts whole numbers to floats if one is missing."""
    whole = isinstance(value, float) and value.is_integer()
    return "" if value is None else str(int(value) if whole else value)


READER = Parquet()
