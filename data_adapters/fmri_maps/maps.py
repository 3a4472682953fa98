"""Maps as measurements: what is known about each map, and the Dataset of a region without dead channels.

Every step gives lists with one entry per map: ``stimulus`` (empty if the map is not an observation), ``run`` and
``session``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainrdl._core.errors import read_arg, refuse
from brainrdl.readers.entities import value_of
from data_adapters._shared.text_tables import blaming, column_of, columns_like, existing, read_table
from data_adapters.fmri_maps.pairing import check_stack, rows_of_files, stem

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
_CONDITION = ("condition", "stimulus", "trial_type")

_OF_MAPS = frozenset({"", "file", "filename", "map", "beta", "volume", "index"})  # columns about maps, not observations

EMPTY = frozenset({"", "n/a", "nan"})


def observations_of(
    n_maps: int,
    in_files: Mapping[str, list[str]],
    table: str | Path | None,
    condition_column: str | None = None,
    run_column: str | None = None,
    *,
    paths: Sequence[str] | None = None,
) -> tuple[list[int], dict[str, list[str]]]:
    """Say which maps are observations, and their conditions and runs.

    Parameters
    ----------
    n_maps : int
        How many there are.
    in_files : mapping
        What the files themselves say.
    table : str or Path, optional
        The table of the maps, which has priority.
    condition_column, run_column : str, optional
        Columns of the table.
    paths : sequence of str, optional
        The files without suffixes, where each map is one; the table may then list them in any order.
    """
    known = dict(in_files)
    if table is not None:
        known |= _in_table(n_maps, in_files, table, condition_column, run_column, paths)
    elif condition_column is not None or run_column is not None:
        refuse(
            f"{read_arg('condition_column')} and {read_arg('run_column')} are columns of a table of the maps; give "
            f"{read_arg('table')}"
        )
    kept = [place for place in range(n_maps) if "stimulus" not in known or known["stimulus"][place]]
    if not kept:
        refuse(f"none of the {n_maps} maps has a condition")
    return kept, _with_sessions({key: [values[place] for place in kept] for key, values in known.items()})


def _with_sessions(known: dict[str, list[str]]) -> dict[str, list[str]]:
    """Name runs of several sessions by session and run, or by session alone."""
    sessions = known.pop("session", [])
    if len(set(sessions)) < 2:
        return known
    runs = [f"{ses}/{run}" for ses, run in zip(sessions, known["run"], strict=True)] if "run" in known else sessions
    return known | {"run": runs, "session": sessions}


def entities_in_names(files: Sequence[str]) -> dict[str, list[str]]:
    """Give the runs and sessions of files, if all their names contain them."""
    found = {name: [value_of(file, key) for file in files] for name, key in (("run", "run"), ("session", "ses"))}
    return {name: values for name, values in found.items() if all(values)}


def _in_table(
    n_maps: int,
    in_files: Mapping[str, list[str]],
    table: str | Path,
    condition_column: str | None,
    run_column: str | None,
    paths: Sequence[str] | None,
) -> dict[str, list[str]]:
    """Give what a table says, all columns included; rows whose condition is empty or n/a are not observations."""
    columns = read_table(existing(table, "table"))
    with blaming("table=", table):
        condition = column_of(columns, condition_column, _CONDITION, "condition_column")
        if paths is None:
            check_stack(n_maps, columns, condition, in_files.get("stimulus", []))
        rows = range(n_maps) if paths is None else rows_of_files(paths, columns, condition)
        names = [columns[condition][row] if row is not None else "" for row in rows]
        named = [condition]
        known = {"stimulus": ["" if name.lower() in EMPTY else name for name in names]}
        for key, asked in (("run", run_column), ("session", None)):
            if asked is not None or columns_like(columns, (key,)):
                column = column_of(columns, asked, (key,), f"{key}_column")
                known[key] = [columns[column][row] if row is not None else "" for row in rows]
                _check_filled(known[key], known["stimulus"], rows, column)
                named.append(column)
    others = [column for column in columns if column not in named and column.lower() not in _OF_MAPS | known.keys()]
    return known | {column: [columns[column][row] if row is not None else "" for row in rows] for column in others}


def _check_filled(cells: Sequence[str], names: Sequence[str], rows: Sequence[int | None], column: str) -> None:
    for cell, name, row in zip(cells, names, rows, strict=True):
        if name and cell.lower() in EMPTY and row is not None:
            refuse(f"column {column!r} is empty in row {row + 1}, whose condition is {name!r}")


def neighbour(path: Path) -> Path | None:
    """Give the ``.tsv`` file of the same name, else the ``.csv`` file, if there is one."""
    tables = (path.with_name(stem(path) + suffix) for suffix in (".tsv", ".csv"))
    return next((table for table in tables if table.is_file()), None)


def dataset_of(
    values: np.ndarray,
    name: str | None,
    channels: np.ndarray,
    observed: Mapping[str, list[str]],
    places: Mapping[str, np.ndarray],
    path: Path,
    n_left_out: int = 0,
) -> Dataset:
    """Make a region's Dataset, without the channels that are dead in a run."""
    from rsatoolbox.data.dataset import Dataset

    held = values if channels.size == values.shape[1] else values[:, channels]
    kept = _alive(held, observed.get("run", []))
    where = "the maps" if name is None else f"region {name!r}"
    if not kept.any():
        broken = int((~np.isfinite(held).any(axis=1)).sum())
        refuse(
            f"{where}: none of {held.shape[1]} channels is left: each is NaN or infinite in some map, or the same in "
            f"all maps of a run ({broken} maps hold only NaN or infinite values here)"
        )
    descriptors = {} if name is None else {"roi": name}
    found = {"subject": value_of(path.name, "sub"), "session": value_of(path.name, "ses")}
    return Dataset(
        held if kept.all() else held[:, kept],
        descriptors=descriptors
        | {"n_dropped_channels": int((~kept).sum())}
        | ({"n_dropped_observations": n_left_out} if n_left_out else {})
        | {entity: value for entity, value in found.items() if value},
        obs_descriptors={key: list(listed) for key, listed in observed.items()},
        channel_descriptors={key: place[channels][kept] for key, place in places.items()},
    )


def _alive(held: np.ndarray, runs: Sequence[str]) -> np.ndarray:
    """Give which channels are finite and vary, over all maps and within each run (or are not 0, if it has one map)."""
    places: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        places.setdefault(run, []).append(place)
    alive = _varies(held)
    for rows in places.values():
        alive &= _varies(held[rows])
    return alive


def _varies(held: np.ndarray) -> np.ndarray:
    low, high = held.min(axis=0), held.max(axis=0)
    varies: np.ndarray = np.isfinite(low) & np.isfinite(high) & (low != high if len(held) > 1 else low != 0)
    return varies
