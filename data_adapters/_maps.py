"""Maps as measurements: what is known of each map, and the Dataset of a region without dead channels.

Every step gives lists with one entry a map: ``stimulus`` (empty if the map is no observation), ``run``, ``session``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainrdl._checks import check_unique, nearest, quote, refuse
from data_adapters._tables import blaming, column_of, columns_like, existing, read_table

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset


_CONDITION = ("condition", "stimulus", "trial_type")
_EMPTY = frozenset({"", "n/a", "nan"})
_MAP = re.compile(r"\.(nii|nii\.gz|gii)$", re.IGNORECASE)


def observations_of(
    n_maps: int,
    told: Mapping[str, list[str]],
    table: str | Path | None,
    condition_column: str | None = None,
    run_column: str | None = None,
    *,
    stems: Sequence[str] | None = None,
) -> tuple[list[int], dict[str, list[str]]]:
    """Say which maps are observations, and their conditions and runs.

    Parameters
    ----------
    n_maps : int
        How many there are.
    told : mapping
        What files tell themselves.
    table : str or Path, optional
        The table of the maps, which goes before it.
    condition_column, run_column : str, optional
        Its columns.
    stems : sequence of str, optional
        Names of the files, where each map is one; the table may then list them in any order.
    """
    known = dict(told)
    if table is not None:
        known |= _told_by_table(n_maps, told, table, condition_column, run_column, stems)
    elif condition_column is not None or run_column is not None:
        refuse("condition_column= and run_column= are columns of a table of the maps; give table=")
    kept = [place for place in range(n_maps) if "stimulus" not in known or known["stimulus"][place]]
    if not kept:
        refuse(f"none of the {n_maps} maps has a condition")
    return kept, _with_sessions({key: [values[place] for place in kept] for key, values in known.items()})


def _with_sessions(known: dict[str, list[str]]) -> dict[str, list[str]]:
    """Tell runs of several sessions apart: by session and run, or by session alone."""
    sessions = known.pop("session", [])
    if len(set(sessions)) < 2:
        return known
    runs = [f"{ses}/{run}" for ses, run in zip(sessions, known["run"], strict=True)] if "run" in known else sessions
    return known | {"run": runs, "session": sessions}


def told_by_names(files: Sequence[Path]) -> dict[str, list[str]]:
    """Give the runs and sessions of files, if all their names tell them."""
    found = {name: [entity_of(file.name, key) for file in files] for name, key in (("run", "run"), ("session", "ses"))}
    return {name: values for name, values in found.items() if all(values)}


def entity_of(name: str, key: str) -> str:
    """Give an entity of a file's name, as ``1`` of ``run-1``; nothing if it has none."""
    found = re.search(rf"(?<![A-Za-z0-9]){key}-([A-Za-z0-9]+)", name)
    return found[1] if found else ""


def _told_by_table(
    n_maps: int,
    told: Mapping[str, list[str]],
    table: str | Path,
    condition_column: str | None,
    run_column: str | None,
    stems: Sequence[str] | None,
) -> dict[str, list[str]]:
    """Give what a table tells; conditions that are empty or n/a are no observations."""
    columns = read_table(existing(table, "table"))
    with blaming("table=", table):
        condition = column_of(columns, condition_column, _CONDITION, "condition_column")
        rows = _rows_of_stack(n_maps, columns) if stems is None else _rows_of_files(stems, columns)
        names = [columns[condition][row] if row is not None else "" for row in rows]
        known = {"stimulus": ["" if name.lower() in _EMPTY else name for name in names]}
        for column, cells in columns.items():
            own = told.get("stimulus", [])
            if stems is None and own and (column == condition or sorted(cells) == sorted(own)):
                _check_order(column, cells, own)
        for key, asked in (("run", run_column), ("session", None)):
            if asked is not None or columns_like(columns, (key,)):
                column = column_of(columns, asked, (key,), f"{key}_column")
                known[key] = [columns[column][row] if row is not None else "" for row in rows]
                _check_filled(known[key], known["stimulus"], rows, column)
    return known


def _check_filled(cells: Sequence[str], names: Sequence[str], rows: Sequence[int | None], column: str) -> None:
    for cell, name, row in zip(cells, names, rows, strict=True):
        if name and cell.lower() in _EMPTY and row is not None:
            refuse(f"column {column!r} is empty in row {row + 1}, whose condition is {name!r}")


def _check_order(column: str, cells: Sequence[str], own: Sequence[str]) -> None:
    """Refuse a name that stands at one place in the table and at another in the file."""
    for row, (cell, name) in enumerate(zip(cells, own, strict=True), start=1):
        if cell != name and (cell in own or name in cells):
            refuse(
                f"the column {column!r} lists names in another order than the maps: {cell!r} in row {row}, and the "
                f"file calls this map {name!r}"
            )


def _rows_of_stack(n_maps: int, columns: Mapping[str, Sequence[str]]) -> list[int | None]:
    n_rows = len(next(iter(columns.values())))
    if n_rows != n_maps:
        refuse(f"it has {n_rows} rows, and there are {n_maps} maps")
    return list(range(n_maps))


def _rows_of_files(stems: Sequence[str], columns: Mapping[str, Sequence[str]]) -> list[int | None]:
    """Give each file's row: by a column that names files, else by the numbers in names that differ in nothing else."""
    named = {column: [_bare(cell) for cell in cells] for column, cells in columns.items()}
    pairing = {
        column: [names.index(name) if name in names else None for name in stems]
        for column, names in named.items()
        if set(names) <= set(stems) and len(set(names)) == len(names)
    }
    meant = [column for column, cells in columns.items() if column == "file" or any(map(_MAP.search, cells))]
    # a column with one name misspelled must not leave the pairing to another
    broken = [column for column in meant if column not in pairing and (not pairing or set(named[column]) & set(stems))]
    for column in broken:
        check_unique(named[column], f"the column {column!r}")
        missing = [name for name in named[column] if name not in stems]
        refuse(
            f"the column {column!r} names {quote(missing)}, which are not among the maps{nearest(missing[0], stems)}"
        )
    if len({tuple(rows) for rows in pairing.values()}) > 1:
        refuse(f"the columns {quote(pairing)} name the maps in different orders; leave one out, or call it otherwise")
    if pairing:
        return next(iter(pairing.values()))
    rows = _rows_of_stack(len(stems), columns)
    numbers = [[int(part) for part in re.findall(r"\d+", name)] for name in stems]
    if len({re.sub(r"\d+", "", name) for name in stems}) > 1 or numbers != sorted(numbers):
        refuse(f"which row belongs to which of the maps {quote(stems)} is unclear; give it a column 'file'")
    return rows


def _bare(cell: str) -> str:
    """Leave out folders, suffixes, and SPM's number of the volume."""
    return stem(Path(re.split(r"[\\/]", re.sub(r",1$", "", cell))[-1]))


def stem(path: Path) -> str:
    """Name a file without ``.nii``, ``.nii.gz`` and the like."""
    return re.sub(r"(?i)(\.[dp](scalar|tseries|label))?\.nii(\.gz)?$|(\.(func|shape|label))?\.gii$", "", path.name)


def neighbour(path: Path) -> Path | None:
    """Give the ``.tsv`` file of the same name, if there is one."""
    table = path.with_name(stem(path) + ".tsv")
    return table if table.is_file() else None


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
            f"{where}: none of {held.shape[1]} channels is left, they are NaN or infinite in a map or the same in all "
            f"maps of a run ({broken} maps hold nothing but NaN or infinite values here)"
        )
    descriptors = {} if name is None else {"roi": name}
    found = {"subject": entity_of(path.name, "sub"), "session": entity_of(path.name, "ses")}
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
    """Say which channels are finite and vary, over all maps and within each run; in a run's only map they are not 0."""
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
