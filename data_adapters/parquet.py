"""Parquet tables, as pandas, polars, R (arrow) and DuckDB write them.

Layout on disk (``.parquet``): the same two tables as in ``.csv`` (see `data_adapters.csv_table`): one square RDM whose
only column of text (pandas: the index) names the rows, or a long table with the columns a, b, dissimilarity (or rating)
and, if known, subject, roi, session, layer, time. A null is a pair not measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainrdl._checks import refuse
from data_adapters.csv_table import Choices, rdms_of

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

_MOST_CELLS = 20_000_000  # the square table of 4400 conditions


class Parquet:
    """Reads an RDM from a square table, or RDMs from a long one.

    Examples
    --------
    >>> READER.sniff(Path("judgements.parquet"))
    True
    """

    name = "parquet"
    layout = (
        ".parquet: a square table of numbers with one column of text that names the rows, or a long table with the "
        "columns a, b, dissimilarity (or rating) and, if known, subject, roi, session, layer, time"
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
            Whether the suffix is ``.parquet``.
        """
        return path.suffix.lower() == ".parquet"

    def read(
        self,
        path: Path,
        *,
        similarity: bool | float | None = None,
        repeats: str = "refuse",
        missing: str = "refuse",
    ) -> RDMs:
        """Read and check the table (extra ``arrays``).

        Parameters
        ----------
        path : Path
            The file.
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
            As from the same table in a ``.csv`` file.

        Raises
        ------
        BrainrdlError
            If pyarrow is not installed, the file is empty, holds other than text and numbers or too many of them, or is
            refused as the same ``.csv`` would be.
        """
        if not path.stat().st_size:
            refuse("the file is empty")
        return rdms_of(_rows(path), Choices(similarity, repeats, missing))


def _rows(path: Path) -> list[list[str]]:
    """Give the header and the cells as text, the column of text first in a square table."""
    try:
        import pyarrow.types as kinds  # type: ignore[import-untyped]
        from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]
    except ImportError:
        refuse("Parquet needs pyarrow: pip install 'brainrdl[arrays]'")
    # a ParquetFile, as read_table would take text in the path for partitions
    with ParquetFile(path) as file:
        cells = file.metadata.num_rows * file.metadata.num_columns
        if cells > _MOST_CELLS:
            refuse(f"the table has {cells} cells, at most {_MOST_CELLS} are read")
        table = file.read()
    is_long = {"a", "b"} <= set(table.column_names)
    if is_long:  # pandas keeps the index of a filtered table, which means nothing there
        table = table.select([name for name in table.column_names if not name.startswith("__index_level_")])
    texts = [field.name for field in table.schema if _is_text(field.type, kinds)]
    for field in table.schema:
        if field.name not in texts and not (kinds.is_integer(field.type) or kinds.is_floating(field.type)):
            refuse(f"column {field.name!r} holds {field.type}, expected text or numbers")
    if not texts and not is_long:
        refuse("no column of text names the rows; write the table with its index")
    names = texts if len(texts) == 1 else []
    columns = [*names, *(name for name in table.column_names if name not in names)]
    if len(set(columns)) < len(columns):
        refuse(f"two columns of {columns} have the same name")
    return [columns, *([_cell(value) for value in row] for row in _by_row(table.select(columns)))]


def _is_text(kind: Any, kinds: Any) -> bool:
    plain = kind.value_type if kinds.is_dictionary(kind) else kind
    return kinds.is_string(plain) or kinds.is_large_string(plain)


def _by_row(table: Any) -> Any:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


READER = Parquet()
