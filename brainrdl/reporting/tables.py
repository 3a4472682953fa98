"""The tables of a report, as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from brainrdl._core.files import digest
from brainrdl._core.terms import KINDS, similarity_label
from brainrdl.rdms.conversion import to_tensor
from brainrdl.reporting.run import FITTED, Run, comparators_of, rows_of
from brainrdl.reporting.wording import number, percent, span
from brainrdl.training.provenance import gather_provenance


@dataclass(frozen=True)
class Table:
    """A table of text: caption, heads of columns, rows."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


_COLUMNS = ("comparator", "student", "kind", "layer", "target", "score", "95% interval")

_HEADS = {
    "subjects": ("Against single subjects’ RDMs", "noise ceiling", "share of its lower bound"),
    "mean": ("Against the subjects’ mean RDM", "reliability of the mean", "share of it"),
}

_HELD_CONSTANT = "Against the subjects’ mean RDM, with category and other models held constant"


def summary_tables(summary: pd.DataFrame) -> Iterator[Table]:
    """One table for each kind of ceiling, and one for scores that have none."""
    plain = summary["comparator"].isin(comparators_of(summary))
    for against, (caption, *more) in _HEADS.items():
        rows = summary[plain & (summary["against"] == against)]
        yield from _table(caption, (*_COLUMNS, *more, "gain by fitting"), rows)
    yield from _table(_HELD_CONSTANT, _COLUMNS, summary[~plain])


def _table(caption: str, columns: Sequence[str], summary: pd.DataFrame) -> Iterator[Table]:
    """Rows by comparator, then by kind; layer and target only where students differ in them."""
    if summary.empty:
        return
    comparators, kinds = list(dict.fromkeys(summary["comparator"])), list(KINDS)
    records = sorted(rows_of(summary), key=lambda row: (comparators.index(row["comparator"]), kinds.index(row["role"])))
    fitted = summary[summary["role"].isin(FITTED)]
    hidden = {column for column in ("layer", "target") if fitted[column].nunique() < 2}
    shown = [k for k, column in enumerate(columns) if column not in hidden]
    rows = [_summary_row(record) for record in records]
    yield Table(caption, [columns[k] for k in shown], [[row[k] for k in shown] for row in rows])


def _summary_row(row: Mapping[str, Any]) -> list[str]:
    gain, gain_low, gain_high = (float(row.get(key, np.nan)) for key in ("gain", "gain_low", "gain_high"))
    low, high = row["ceiling_lower"], row["ceiling_upper"]
    return [
        similarity_label(str(row["comparator"])),
        str(row["student"]),
        KINDS[row["role"]],
        str(row["layer"]),
        str(row["target"]),
        number(row["score"]),
        span(row["low"], row["high"]),
        number(low) if low == high else span(low, high),
        percent(row["share"]),
        f"{number(gain)} ({span(gain_low, gain_high)})" if math.isfinite(gain) else "–",
    ]


def cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    def show(value: object) -> str:
        return number(value, 3) if isinstance(value, float) else str(value)

    return [str(column) for column in table.columns], [[show(v) for v in row] for row in table.itertuples(index=False)]


def provenance_rows(run: Run) -> list[tuple[str, str]]:
    note = ("note", "the run kept no provenance; what follows is of the session that wrote this page")
    rows = _flat(run.provenance) if run.provenance else [note, *_flat(gather_provenance())]
    hashes = run.settings.get("hashes")
    rows += (
        [(f"hashes: {what} (SHA-256)", str(of)) for what, of in hashes.items()] if isinstance(hashes, Mapping) else []
    )
    if run.evaluation is not None:
        pairs = to_tensor(run.evaluation.teacher, dtype=torch.float64)
        rows += [("hashes: mean RDMs of the teacher (SHA-256)", digest({"rdms": pairs}))]
    return rows


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        rows += _flat(value, f"{name}: ") if isinstance(value, Mapping) else [(name, str(value))]
    return rows
