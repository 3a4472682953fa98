"""Tables of scores and of contrasts, as commands that score a student print them in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from brainrdl._core.rows import Against
from brainrdl.cli.common import console, print_json, print_table

if TYPE_CHECKING:
    import pandas as pd

    from brainrdl.evaluation.held_out import Evaluation


def print_summary(evaluation: Evaluation, as_json: bool) -> None:
    """One table per comparator, reference, target and ceiling: scores in the same table can be compared."""
    from brainrdl.reporting.run import kinds_of

    if as_json:
        print_json(evaluation.summary)
        return
    summary = evaluation.summary
    summary = summary[summary["against"].isin([against.value for against in kinds_of(summary)])]
    keys = [summary["comparator"], summary["against"], summary["target"], summary["ceiling"].round(3)]
    for (comparator, against, target, ceiling), rows in summary.groupby(keys, sort=False, dropna=False):
        compared, of = Against(str(against)), f" of {target}" if target not in ("", "rdm") else ""
        shown = f", {_ceiling(rows.iloc[0].to_dict())}" if ceiling == ceiling else ""
        console.print(f"[bold]{escape(f'{comparator} with {compared.label}{of}{shown}')}[/bold]")
        print_table(_readable(rows))
        console.print()
    print_contrasts(evaluation.contrasts)


def print_contrasts(contrasts: pd.DataFrame) -> None:
    """Show the contrasts of each comparator with the mean RDM, or else with subjects."""
    shown = [against for against in (Against.MEAN, Against.SUBJECTS) if (contrasts["against"] == against.value).any()]
    for against in shown[:1]:
        for comparator, rows in contrasts[contrasts["against"] == against.value].groupby("comparator", sort=False):
            console.print(f"[bold]{escape(f'differences ({comparator} with {against.label}), p corrected')}[/bold]")
            print_table(_readable(rows, _CONTRAST_COLUMNS))
            console.print()


def _ceiling(row: Mapping[Any, Any]) -> str:
    low, high = row["ceiling_lower"], row["ceiling_upper"]
    bounds = "" if low == high else f" (noise ceiling {low:.3f} to {high:.3f})"
    return f"expected of a perfect model: {row['ceiling']:.3f}{bounds}"


def _interval(low: float, high: float) -> str:
    return "" if low != low else f"{low:.2f} to {high:.2f}"


@dataclass(frozen=True)
class _Column:
    """A column of the summary: its heading, what a cell shows of a row, and in which tables it is shown."""

    heading: str
    cell: Callable[[Mapping[Any, Any]], object]
    shown: Callable[[pd.DataFrame], bool] = lambda rows: True


def _has_layers(rows: pd.DataFrame) -> bool:
    return rows.loc[rows["layer"] != "", "layer"].nunique() > 1


def _has_gain(rows: pd.DataFrame) -> bool:
    return "gain" in rows and bool(rows["gain"].notna().any())


_COLUMNS = (
    _Column("student", lambda row: row["student"]),
    _Column("layer", lambda row: row["layer"], _has_layers),
    _Column("score", lambda row: row["score"]),
    _Column("95% interval", lambda row: _interval(row["low"], row["high"])),
    _Column("gain", lambda row: row["gain"], _has_gain),
    _Column("95% interval of gain", lambda row: _interval(row["gain_low"], row["gain_high"]), _has_gain),
)


_CONTRAST_COLUMNS = (
    _Column("student", lambda row: row["student"]),
    _Column("layer", lambda row: row["layer"], _has_layers),
    _Column("target", lambda row: row["target"], lambda rows: rows["target"].nunique() > 1),
    _Column("minus", lambda row: row["other"]),
    _Column("its layer", lambda row: row["other_layer"], _has_layers),
    _Column("difference", lambda row: row["difference"]),
    _Column("95% interval", lambda row: _interval(row["low"], row["high"])),
    _Column("corrected p", lambda row: row["p_corrected"]),
)


def _readable(rows: pd.DataFrame, all_columns: Sequence[_Column] = _COLUMNS) -> pd.DataFrame:
    import pandas as pd

    records, columns = rows.to_dict("records"), [column for column in all_columns if column.shown(rows)]
    return pd.DataFrame({column.heading: [column.cell(record) for record in records] for column in columns})
