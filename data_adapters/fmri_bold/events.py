"""What was presented when: tables of events, and labels of volumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import pandas as pd

from brainrdl._core.errors import nearest, quote, read_arg, refuse
from data_adapters._shared.text_tables import blaming, column_of, columns_like, is_number, read_cells, read_table

CONDITION_COLUMNS = ("trial_type", "condition", "stimulus")

_PYMVPA = ["labels", "chunks"]  # its names of columns

_MAY_BE_ABSENT = "rest"  # the default


def read_events(
    path: Path, *, condition_column: str | None = None, baseline: str | Sequence[str] | None = "rest"
) -> pd.DataFrame:
    r"""Read the events of a run, as BIDS writes them: onset and duration in seconds, and trial_type.

    Parameters
    ----------
    path : Path
        The table.
    condition_column : str, optional
        The column with the conditions; by default the one of `CONDITION_COLUMNS` that the table has.
    baseline : str or sequence of str, optional
        Names that are the baseline of the conditions, and so not modelled. They may be absent; see
        `check_baseline`.

    Returns
    -------
    pandas.DataFrame
        Columns onset, duration, stimulus, in the order of the file; names are unchanged.

    Raises
    ------
    BrainrdlError
        If the table has no names of columns, a column is missing, a time is not a number, a duration is below 0, a name
        is empty or ``n/a``, an event is listed twice, or none is left.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "events.tsv"
    >>> _ = file.write_text("onset\tduration\ttrial_type\n0\t10\tface\n10\t10\trest\n")
    >>> read_events(file).values.tolist()
    [[0.0, 10.0, 'face']]
    """
    where = f"the events {str(path)!r}"
    table = _table(path)
    for column in ("onset", "duration"):
        if column not in table:
            refuse(f"{where} have no column {column!r}{nearest(column, table)}; the columns are {quote(table)}")
    names = _names(table, condition_column, path)
    weights = [cell for cell in table.get("modulation", ()) if not (is_number(cell) and float(cell) == 1)]
    if weights:
        refuse(
            f"{where} have a column 'modulation' with {quote(weights)}; all events have the same weight here: remove it"
        )
    kept = _modelled(names, baseline, where)
    events = pd.DataFrame(
        {
            "onset": [_seconds(table["onset"][row], "onset", row, where) for row in kept],
            "duration": [_seconds(table["duration"][row], "duration", row, where) for row in kept],
            "stimulus": [names[row] for row in kept],
        }
    )
    if (events["duration"] < 0).any():
        refuse(f"{where} have a duration below 0: {events['duration'].min():g}")
    for onset, duration, name in events[events.duplicated()].itertuples(index=False):
        refuse(f"{where} hold {name!r} at {onset:g} s for {duration:g} s twice; remove the copies")
    return events


def event_names(path: Path, *, condition_column: str | None = None) -> list[str]:
    """List the names of all events of a run, including baselines, for `check_baseline`; options as of `read_events`."""
    return _names(_table(path), condition_column, path)


def _table(path: Path) -> dict[str, list[str]]:
    if path.suffix.lower() == ".mat":
        refuse(
            f"the events {str(path)!r} are a .mat file, like the multiple conditions of SPM; write names, onsets and "
            "durations as a table with the columns onset, duration (in seconds) and trial_type"
        )
    with blaming("the events", path):
        table = read_table(path)
    if all(map(is_number, table)):
        refuse(
            f"the events {str(path)!r} have numbers where the names of columns should be; a file with three columns of "
            "FSL holds one condition: write all events of a run into one table with the columns onset, duration and "
            "trial_type"
        )
    return table


def _names(table: Mapping[str, Sequence[str]], condition_column: str | None, path: Path) -> list[str]:
    with blaming("the events", path):
        return list(table[column_of(table, condition_column, CONDITION_COLUMNS, "condition_column")])


def check_baseline(names: Iterable[str], baseline: str | Sequence[str] | None) -> None:
    """Refuse a baseline that occurs in no run; ``"rest"``, the default, may be absent.

    Parameters
    ----------
    names : iterable of str
        Names of the events or labels of all runs.
    baseline : str or sequence of str, optional
        As of `read_events`.

    Raises
    ------
    BrainrdlError
        With the nearest names.

    Examples
    --------
    >>> check_baseline(["face", "fix"], "fixation")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: baseline 'fixation' occurs in no run; nearest: 'fix'; there are ['face', 'fix']
    """
    known = sorted(set(names))
    for name in sorted(_left_out(baseline) - {_MAY_BE_ABSENT}):
        if name not in known:
            refuse(f"baseline {name!r} occurs in no run{nearest(name, known)}; there are {quote(known)}")


def _left_out(baseline: str | Sequence[str] | None) -> set[str]:
    return {name.strip() for name in ([baseline] if isinstance(baseline, str) else baseline or ())}


def _seconds(cell: str, column: str, row: int, where: str) -> float:
    if not is_number(cell):
        refuse(f"{where} have the {column} {cell!r} in row {row + 2}, which is not a number of seconds")
    return float(cell)


def _modelled(names: Sequence[str], baseline: str | Sequence[str] | None, where: str) -> list[int]:
    """Give the rows whose name is a condition."""
    left_out = _left_out(baseline)
    lowered = {name.lower() for name in left_out - set(names)}
    almost = next((name for name in names if name.lower() in lowered), None)
    if almost is not None:
        refuse(f"{where} hold {almost!r}, but baseline is {quote(sorted(left_out))}; use the same spelling")
    kept = [row for row, name in enumerate(names) if name not in left_out]
    unnamed = [names[row] for row in kept if names[row].lower() in {"", "n/a", "nan"}]
    if unnamed:
        remedy = f"name the event, or leave it out with {read_arg('baseline', ['rest', unnamed[0]])}"
        refuse(f"{where} hold {unnamed[0]!r} as a name; {remedy}")
    if not kept:
        refuse(f"{where} hold no event of a condition (baseline: {quote(sorted(left_out))})")
    return kept


def read_volume_labels(
    path: Path, *, condition_column: str | None = None, run_column: str | None = None
) -> tuple[list[str], list[str]]:
    r"""Read the condition and the run of each volume: a table with names in its first row, or two columns without.

    Parameters
    ----------
    path : Path
        The table.
    condition_column, run_column : str, optional
        The columns of a table with names; by default the one of `CONDITION_COLUMNS` that the table has, and ``"run"``,
        or ``labels`` and ``chunks`` as of PyMVPA.

    Returns
    -------
    tuple of two lists of str
        Conditions and runs; all runs are ``"1"`` if the table names none.

    Raises
    ------
    BrainrdlError
        If it is unclear which column is meant.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "attributes.txt"
    >>> _ = file.write_text("rest 0\nface 0\nface 1\n")
    >>> read_volume_labels(file)
    (['rest', 'face', 'face'], ['0', '0', '1'])
    """
    header, *rows = read_cells(path)
    asked = {condition_column, run_column} - {None}
    if not asked and header == _PYMVPA:
        condition_column, run_column = _PYMVPA
    elif not asked and len(header) == 2 and not columns_like(header, (*CONDITION_COLUMNS, "run")):
        return [row[0] for row in (header, *rows)], [row[1] for row in (header, *rows)]
    table = read_table(path)
    conditions = table[column_of(table, condition_column, CONDITION_COLUMNS, "condition_column")]
    if run_column is None and not columns_like(table, ("run",)):
        return conditions, ["1"] * len(conditions)
    return conditions, table[column_of(table, run_column, ("run",), "run_column")]


def events_of_labels(
    labels: Sequence[str], t_r: float, *, baseline: str | Sequence[str] | None = "rest", where: str = "the labels"
) -> pd.DataFrame:
    """Turn the labels of a run's volumes into events: consecutive volumes with the same label are one event.

    Parameters
    ----------
    labels : sequence of str
        One label per volume.
    t_r : float
        Seconds from volume to volume.
    baseline : str or sequence of str, optional
        Labels that are not modelled.
    where : str
        What holds the labels, for messages.

    Returns
    -------
    pandas.DataFrame
        As of `read_events`.

    Raises
    ------
    BrainrdlError
        As `read_events`.

    Examples
    --------
    >>> events_of_labels(["rest", "face", "face", "rest", "house"], 2.5).values.tolist()
    [[2.5, 5.0, 'face'], [10.0, 2.5, 'house']]
    """
    _modelled(labels, baseline, where)
    left_out = _left_out(baseline)
    events, at = [], 0
    for label, volumes in groupby(labels):
        count = len(list(volumes))
        if label not in left_out:
            events.append((at * t_r, count * t_r, label))
        at += count
    return pd.DataFrame(events, columns=["onset", "duration", "stimulus"])
