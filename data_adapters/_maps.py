"""Maps as measurements: what is known of each map, and the Dataset of a region without dead channels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainrdl._checks import check_unique, nearest, quote, refuse
from data_adapters._tables import column_of, existing, read_table

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset


_CONDITION = ("condition", "stimulus", "trial_type")


def observations_of(
    sources: Sequence[Path],
    own: Sequence[str] | None,
    table: str | Path | None,
    condition_column: str | None = None,
    run_column: str | None = None,
) -> dict[str, list[str]]:
    """Say what is known of each map: its condition and run."""
    runs = [match[1] for match in (re.search(r"run-([A-Za-z0-9]+)", file.name) for file in sources) if match]
    known = {"stimulus": list(own)} if own is not None else {}
    known |= {"run": runs} if len(runs) == len(sources) else {}
    if table is None:
        if condition_column is not None or run_column is not None:
            refuse("condition_column= and run_column= are columns of a table of the maps; give table=")
        return known
    columns = read_table(existing(table, "table"))
    condition = column_of(columns, condition_column, _CONDITION, "condition_column")
    n_rows = len(columns[condition])
    if n_rows != len(sources):
        refuse(f"table= has {n_rows} rows ({str(table)!r}), and there are {len(sources)} maps")
    order = _rows_of(columns, sources) if len(set(sources)) > 1 else range(n_rows)
    known["stimulus"] = _cells(columns, condition, order)
    if own is not None and sorted(known["stimulus"]) == sorted(own) and known["stimulus"] != list(own):
        refuse(
            f"table= lists the conditions in another order than the maps: {quote(known['stimulus'])} and {quote(own)}"
        )
    if run_column is not None or "run" in columns:
        known["run"] = _cells(columns, column_of(columns, run_column, ("run",), "run_column"), order)
    return known


def _cells(table: Mapping[str, Sequence[str]], column: str, order: Sequence[int]) -> list[str]:
    empty = [row for row, cell in enumerate(table[column], start=1) if cell.lower() in {"", "n/a", "nan"}]
    if empty:
        refuse(f"column {column!r} of table= is empty in row {empty[0]} of {len(order)}")
    return [table[column][row] for row in order]


def _rows_of(table: Mapping[str, Sequence[str]], sources: Sequence[Path]) -> Sequence[int]:
    """Give each file's row: by the column file, else by the numbers in names that differ in nothing else."""
    stems = [stem(file) for file in sources]
    if "file" in table:
        names = [stem(Path(name)) for name in table["file"]]
        check_unique(names, "the column 'file' of table=")
        missing = [name for name in stems if name not in names]
        if missing:
            refuse(f"the column 'file' of table= does not name the maps {quote(missing)}{nearest(missing[0], names)}")
        return [names.index(name) for name in stems]
    numbers = [[int(part) for part in re.findall(r"\d+", name)] for name in stems]
    if len({re.sub(r"\d+", "", name) for name in stems}) > 1 or numbers != sorted(numbers):
        refuse(f"which row of table= belongs to which of the maps {quote(stems)} is unclear; give it a column 'file'")
    return range(len(sources))


def stem(path: Path) -> str:
    """Name a file without ``.nii``, ``.nii.gz`` and the like."""
    return re.sub(r"(\.[dp](scalar|tseries|label))?\.nii(\.gz)?$|(\.(func|shape|label))?\.gii$", "", path.name)


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
) -> Dataset:
    """Make a region's Dataset, without the channels that are outside the brain."""
    from rsatoolbox.data.dataset import Dataset

    held = values if channels.size == values.shape[1] else values[:, channels]
    low, high = held.min(axis=0), held.max(axis=0)
    varies = low != high if len(held) > 1 else low != 0
    kept = np.isfinite(low) & np.isfinite(high) & varies
    where = "the maps" if name is None else f"region {name!r}"
    if not kept.any():
        broken = int((~np.isfinite(held).any(axis=1)).sum())
        refuse(
            f"{where}: none of {held.shape[1]} channels is left, they are NaN or infinite in a map or the same in all "
            f"{len(held)} ({broken} maps hold nothing but NaN or infinite values here)"
        )
    descriptors = {} if name is None else {"roi": name}
    entities = {"subject": r"sub-([A-Za-z0-9]+)", "session": r"ses-([A-Za-z0-9]+)"}
    found = {entity: re.search(pattern, path.name) for entity, pattern in entities.items()}
    return Dataset(
        held if kept.all() else held[:, kept],
        descriptors=descriptors
        | {"n_dropped_channels": int((~kept).sum())}
        | {entity: match[1] for entity, match in found.items() if match},
        obs_descriptors={key: list(listed) for key, listed in observed.items()},
        channel_descriptors={key: place[channels][kept] for key, place in places.items()},
    )
