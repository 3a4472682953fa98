"""The tables of a report, as text. A new column of the score tables is one line in `COLUMNS`."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from brainrdl._core.files import digest
from brainrdl._core.rows import Against, Role
from brainrdl.inference.p_values import format_p, is_p
from brainrdl.rdms.conversion import to_tensor
from brainrdl.reporting.run import Run, comparators_of, is_fitted, kinds_of, rows_of
from brainrdl.reporting.target_names import stored_table
from brainrdl.reporting.wording import number, percent, span, who_of
from brainrdl.runs.provenance import gather_provenance
from brainrdl.similarity.comparators import label_of

SHOWN_ROWS = 500  # of long tables; the download has all

_LARGEST = 1_000_000  # characters of a download


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    caption : str
    columns : sequence of str
        Headings.
    rows : sequence of sequence of str
        Cells, as many in each row as there are columns.
    named_by : int, optional
        Number of the column whose cells are the headings of the rows.
    marked : collection of int
        Numbers of the rows to highlight: the fitted students.
    data : DataFrame, optional
        The same rows with all digits, for download.
    file : str
        File name of the download.
    links : sequence of str
        Link of the last cell of each row; none by default.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    named_by: int | None = None
    marked: frozenset[int] = field(default=frozenset())
    data: pd.DataFrame | None = None
    file: str = "table.csv"
    links: Sequence[str] = ()

    @property
    def n_rows(self) -> int:
        return len(self.rows) if self.data is None else len(self.data)

    @property
    def csv(self) -> str:
        """The download as base64; "" if there is none, or it would make the page too large."""
        text = "" if self.data is None else stored_table(self.data).to_csv(index=False)
        return base64.b64encode(text.encode()).decode() if len(text) <= _LARGEST else ""


Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of the score tables: its heading, what a cell says of a row, and in which tables it is shown."""

    heading: str
    cell: Callable[[Row], str]
    shown: Callable[[pd.DataFrame], bool] = lambda summary: True


def _differs(column: str) -> Callable[[pd.DataFrame], bool]:
    return lambda summary: summary.loc[is_fitted(summary), column].nunique() > 1


def _several(column: str) -> Callable[[pd.DataFrame], bool]:
    return lambda table: table[column].nunique() > 1


def _has_ceiling(summary: pd.DataFrame) -> bool:
    return bool(comparators_of(summary))  # partial correlations have no ceiling and no gain


def _compared_with(against: Against) -> Callable[[pd.DataFrame], bool]:
    return lambda summary: _has_ceiling(summary) and set(summary["against"]) == {against.value}


def _ceiling(row: Row) -> str:
    ceiling, low, high = row["ceiling"], row["ceiling_lower"], row["ceiling_upper"]
    return f"{number(ceiling)} ({span(low, high)})" if low < high else number(ceiling)


def _gain(row: Row) -> str:
    gain, low, high = (float(row.get(key, np.nan)) for key in ("gain", "gain_low", "gain_high"))
    return f"{number(gain)} ({span(low, high)})" if math.isfinite(gain) else "–"


_STUDENT = "student"

COLUMNS = (
    Column(_STUDENT, lambda row: str(row["student"])),
    Column("comparator", lambda row: label_of(str(row["comparator"]))),
    Column("role", lambda row: Role(row["role"]).label),
    Column("layer", lambda row: str(row["layer"]), _differs("layer")),
    Column("target", lambda row: str(row["target"]), _differs("target")),
    Column("score", lambda row: number(row["score"])),
    Column("95% interval", lambda row: span(row["low"], row["high"])),
    Column("ceiling (bounds)", _ceiling, _compared_with(Against.SUBJECTS)),
    Column("ceiling", _ceiling, _compared_with(Against.MEAN)),
    Column("share of the ceiling", lambda row: percent(row["share"]), _has_ceiling),
    Column("gain by fitting", _gain, _has_ceiling),
)

_HELD_CONSTANT = "with category and other models held constant"


def summary_tables(summary: pd.DataFrame) -> Iterator[Table]:
    """Give one table for each kind of comparison, and one for partial correlations, which have no ceiling."""
    plain = summary["comparator"].isin(comparators_of(summary))
    for against in kinds_of(summary):
        yield from _table(_caption(against), summary[plain & (summary["against"] == against.value)])
    yield from _table(f"{_caption(Against.MEAN)}, {_HELD_CONSTANT}", summary[~plain])


_CONTRAST_COLUMNS = (
    Column(_STUDENT, lambda row: who_of(str(row["student"]), str(row["layer"]))),
    Column("compared with", lambda row: who_of(str(row["other"]), str(row["other_layer"]))),
    Column("comparator", lambda row: label_of(str(row["comparator"]))),
    Column("against", lambda row: Against(row["against"]).label.replace("'", "’"), _several("against")),
    Column("target", lambda row: str(row["target"]), _several("target")),
    Column("difference", lambda row: number(row["difference"])),
    Column("95% interval", lambda row: span(row["low"], row["high"])),
    Column("p", lambda row: format_p(row["p"])),
    Column("corrected p", lambda row: format_p(row["p_corrected"])),
)


def contrast_tables(contrasts: pd.DataFrame, summary: pd.DataFrame) -> Iterator[Table]:
    """Give the table of contrasts, without those of partial correlations; nothing if none was tested."""
    shown = contrasts["against"].isin([against.value for against in kinds_of(summary)])
    plain = contrasts[shown & contrasts["comparator"].isin(comparators_of(summary))]
    if plain.empty or plain["p"].isna().all():
        return
    columns = [column for column in _CONTRAST_COLUMNS if column.shown(plain)]
    rows = [[column.cell(row) for column in columns] for row in rows_of(plain)]
    headings = [column.heading for column in columns]
    caption = "Contrasts: score of the student minus that of the other (p corrected by Holm’s method)"
    yield Table(caption, headings, rows, headings.index(_STUDENT), data=plain, file="contrasts.csv")


_MEASURED = ("score", "ceiling", "ceiling_lower", "ceiling_upper", "n_conditions", "n_pairs")

_REPEATED = ("seed", "fold", "left_out", "base", "against", *_MEASURED)


def subject_table(scores: pd.DataFrame) -> Iterator[Table]:
    """Give the mean score of each subject over folds and seeds; nothing if there are no scores of subjects."""
    rows = scores[scores["against"] == Against.SUBJECTS.value]
    if rows["subject"].nunique() < 2:
        return
    keys = [column for column in rows if column not in _REPEATED]
    means = rows.groupby(keys, sort=False, dropna=False)["score"].mean().reset_index()
    yield long_table("Scores of each subject, mean over folds and seeds", means, "subjects.csv")


def long_table(caption: str, table: pd.DataFrame, file: str) -> Table:
    """Show the first rows of a long table; the download has all of them."""
    return Table(caption, *cells(table.head(SHOWN_ROWS)), data=table, file=file)


def _caption(against: Against) -> str:
    return f"Against {against.label}".replace("'", "’")


def _table(caption: str, summary: pd.DataFrame) -> Iterator[Table]:
    """Make a table with rows by comparator, then by role."""
    if summary.empty:
        return
    comparators, roles = list(dict.fromkeys(summary["comparator"])), [role.value for role in Role]
    records = sorted(rows_of(summary), key=lambda row: (comparators.index(row["comparator"]), roles.index(row["role"])))
    columns = [column for column in COLUMNS if column.shown(summary)]
    headings = [column.heading for column in columns]
    fitted = frozenset(k for k, record in enumerate(records) if Role(record["role"]).fitted)
    rows = [[column.cell(record) for column in columns] for record in records]
    data = pd.DataFrame(records)[list(summary.columns)]
    against = "_".join(dict.fromkeys(str(record["against"]) for record in records))
    partial = "" if comparators_of(summary) else "_partial"
    file = f"scores_{against}{partial}.csv"
    yield Table(caption, headings, rows, headings.index(_STUDENT), fitted, data, file)


def cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Give the headings and the cells of a table as text; p-values as everywhere, other numbers with three digits."""

    def show(column: object, value: object) -> str:
        if not isinstance(value, float):
            return str(value)
        return format_p(value) if is_p(column) else number(value, 3)

    columns = list(table.columns)
    rows = [[show(*cell) for cell in zip(columns, row, strict=True)] for row in table.itertuples(index=False)]
    return [str(column) for column in columns], rows


def provenance_rows(run: Run) -> list[tuple[str, str]]:
    note = ("note", "the run recorded no provenance; the following describes the program that wrote this page")
    recorded = dict(run.provenance or {})
    hashes = {**recorded.pop("hashes", {}), **(run.settings.get("hashes") or {})}
    rows = flat(recorded) if run.provenance else [note, *flat(gather_provenance())]
    rows += [(f"hashes: {what} (SHA-256)", str(of)) for what, of in hashes.items()]
    if run.evaluation is not None:
        pairs = to_tensor(run.evaluation.teacher, dtype=torch.float64)
        rows += [("hashes: mean RDMs of the teacher (SHA-256)", digest({"rdms": pairs}))]
    return rows


def flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        rows += flat(value, f"{name}: ") if isinstance(value, Mapping) else [(name, str(value))]
    return rows
