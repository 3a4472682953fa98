"""The tables of a plain RSA, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from brainrdl._core.rows import Against
from brainrdl.inference.p_values import format_p
from brainrdl.reporting.rsa_source import main_rows, row_name
from brainrdl.reporting.tables import Table
from brainrdl.reporting.wording import number, percent, span
from brainrdl.similarity.comparators import label_of

_MOST_ROWS = 20  # of a table of differences on the page; the CSV files have all


def _table(caption: str, rows: pd.DataFrame, columns: Mapping[str, Any], file: str) -> Table:
    records = rows.head(_MOST_ROWS).to_dict("records")
    if len(rows) > _MOST_ROWS:
        caption += f" (the first {_MOST_ROWS} of {len(rows)} rows; the CSV file has all)"
    shown = [[cell(row) for cell in columns.values()] for row in records]
    return Table(caption, list(columns), shown, named_by=0, data=rows, file=file)


def summary_table(rows: pd.DataFrame) -> Table:
    against = Against(rows["against"].iloc[0])
    return _table(
        f"{label_of(rows['comparator'].iloc[0])} with {against.label}",
        rows,
        {
            "model": row_name,
            "target": lambda row: row["target"],
            "score": lambda row: number(row["score"], 3),
            "95% interval": lambda row: span(row["low"], row["high"]),
            "corrected p": lambda row: format_p(row["p_corrected"]),
            "p of lower bound": lambda row: format_p(row["p_ceiling"]),
            "perfect model": lambda row: number(row["ceiling"]),
            "noise ceiling": lambda row: span(row["ceiling_lower"], row["ceiling_upper"]),
            "share": lambda row: percent(row["share"]),
        },
        "summary.csv",
    )


def layer_tables(table: pd.DataFrame) -> list[Table]:
    if table.empty:
        return []
    rows = table[table["comparator"] == table["comparator"].iloc[0]]
    columns = {
        "network": lambda row: row["model"],
        "target": lambda row: row["target"],
        "layer": lambda row: row["layer"],
        "chosen in": lambda row: percent(row["chosen"]),
        "score on other data": lambda row: number(row["score"], 3),
        "95% interval": lambda row: span(row["low"], row["high"]),
        "p": lambda row: format_p(row["p"]),
        "share of the ceiling": lambda row: percent(row["share"]),
    }
    return [
        _table(
            f"Layers chosen on some stimuli and subjects, scored on others ({label_of(rows['comparator'].iloc[0])})",
            rows,
            columns,
            "best_layers.csv",
        )
    ]


def contrast_tables(contrasts: pd.DataFrame, summary: pd.DataFrame) -> Iterator[Table]:
    main = main_rows(summary)
    rows = contrasts[
        (contrasts["comparator"] == main["comparator"].iloc[0]) & (contrasts["against"] == main["against"].iloc[0])
    ]
    tested = {
        "difference": lambda row: number(row["difference"], 3),
        "95% interval": lambda row: span(row["low"], row["high"]),
        "corrected p": lambda row: format_p(row["p_corrected"]),
    }
    models, targets = (rows[rows["family"] == family] for family in ("models", "targets"))
    if len(models):
        columns = {
            "model": row_name,
            "minus": lambda row: row_name(row, "other", "other_layer"),
            "target": lambda row: row["target"],
        }
        yield _table(
            "Differences between models", models.sort_values("p", kind="stable"), columns | tested, "models.csv"
        )
    if len(targets):
        columns = {"model": row_name, "with": lambda row: row["target"], "minus with": lambda row: row["other_target"]}
        yield _table(
            "Differences between targets", targets.sort_values("p", kind="stable"), columns | tested, "targets.csv"
        )


def group_tables(groups: pd.DataFrame) -> list[Table]:
    if groups.empty:
        return []
    rows = groups[groups["comparator"] == groups["comparator"].iloc[0]]
    columns = {
        "model": row_name,
        "target": lambda row: row["target"],
        "group": lambda row: f"{row['group']} ({row['n']}): {number(row['score'], 3)}",
        "minus": lambda row: f"{row['other_group']} ({row['other_n']}): {number(row['other_score'], 3)}",
        "difference": lambda row: number(row["difference"], 3),
        "95% interval": lambda row: span(row["low"], row["high"]),
        "corrected p": lambda row: format_p(row["p_corrected"]),
    }
    return [_table("Differences between groups of subjects", rows, columns, "groups.csv")]
