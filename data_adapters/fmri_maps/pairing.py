"""Tables and the maps that they describe: which row belongs to which map.

A cell names a file by the end of its path; suffix, case, leading zeros and SPM's number of a volume (``,1``) are
ignored. Plain numbers are names only in columns whose names refer to maps (`_NAMING`). If names are in doubt, the table
is refused; rows are in the order of the maps only if no column names the maps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from brainrdl._core.errors import check_unique, nearest, quote, read_arg, refuse

_NAMING = frozenset({"file", "filename", "image", "map", "beta", "name", "volume", "index"})

_FILE = re.compile(r"\.(nii|nii\.gz|img|hdr|gii)$", re.IGNORECASE)

_VOLUME = re.compile(r",\s*(\d+)$")

Columns = Mapping[str, Sequence[str]]


def stem(path: Path) -> str:
    """Name a file without ``.nii``, ``.nii.gz`` and the like."""
    suffixes = r"(?i)(\.[dp](scalar|tseries|label))?\.nii(\.gz)?$|(\.(func|shape|label))?\.gii$|\.(img|hdr|mgh|mgz)$"
    return re.sub(suffixes, "", path.name)


def names_of(paths: Sequence[str]) -> list[str]:
    """Name maps by their files; if file names repeat (``cope1`` of FSL), by the parts of their paths that differ."""
    check_unique(paths, "the folder, suffixes left out")
    parts = [path.split("/") for path in paths]
    names = [each[-1] for each in parts]
    if len(set(names)) == len(names):
        return names
    if len({len(each) for each in parts}) > 1:
        refuse(
            f"maps are at different depths, and some have the same name, {quote(paths)}; choose one depth with "
            f"{read_arg('files')}"
        )
    differ = [place for place, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    return ["/".join(each[place] for place in differ) for each in parts]


def rows_of_files(paths: Sequence[str], columns: Columns, condition: str) -> list[int | None]:
    """Give each file's row: by a column that names files, or by the numbers in names that differ in nothing else."""
    names = names_of(paths)
    pairing = _named(names, paths, columns) or _numbered(names, columns, condition)
    if len({tuple(places) for places in pairing.values()}) > 1:
        refuse(f"the columns {quote(pairing)} name the maps in different orders; remove one, or rename it")
    for places in pairing.values():
        return [places.index(place) if place in places else None for place in range(len(names))]
    check_rows(len(names), columns)
    numbers = [[int(part) for part in re.findall(r"\d+", name)] for name in names]
    other_order = sorted(columns[condition]) == sorted(names) and list(columns[condition]) != names
    if len({re.sub(r"\d+", "", name) for name in names}) > 1 or numbers != sorted(numbers) or other_order:
        refuse(f"which row belongs to which of the maps {quote(names)} is unclear; add a column 'file'")
    return list(range(len(names)))


def _named(names: Sequence[str], paths: Sequence[str], columns: Columns) -> dict[str, list[int | None]]:
    """Give the positions of the maps that each column names, if all its rows name one; numbers are not names."""
    key = _loose(names)
    known = {key(text): place for place, each in enumerate(zip(names, paths, strict=True)) for text in each}
    texts = {column: cells for column, cells in columns.items() if _counts(cells) is None}
    found = {column: [_place_of(cell, known, key) for cell in cells] for column, cells in texts.items()}
    pairing = {column: places for column, places in found.items() if None not in places and _differ(places)}
    filed = {
        column: column.lower() in {"file", "filename"} or any(_FILE.search(_bare(cell)) for cell in cells)
        for column, cells in texts.items()
    }
    for column in sorted(filed, key=lambda column: not filed[column]):
        shares = any(place is not None for place in found[column])
        # if one name in a column is misspelled, neither another column nor the order of rows may decide
        doubts = (shares, filed[column])
        if column not in pairing and (all(doubts) if pairing else any(doubts)):
            _refuse_names(column, texts[column], found[column], names)
    return pairing


def _refuse_names(column: str, cells: Sequence[str], places: Sequence[int | None], names: Sequence[str]) -> None:
    check_unique([names[place] for place in places if place is not None], f"the column {column!r}")
    missing = [_name_in(cell) for cell, place in zip(cells, places, strict=True) if place is None]
    refuse(f"the column {column!r} names {quote(missing)}, which are not among the maps{nearest(missing[0], names)}")


def _numbered(names: Sequence[str], columns: Columns, condition: str) -> dict[str, list[int | None]]:
    """Do the same for columns of numbers, if the names of the maps differ in one number only."""
    known, pairing = _numbers(names), {}
    for column, counts in _naming_counts(columns, condition).items():
        places = [known.get(count) for count in counts]
        whole = None not in places and _differ(places)
        if whole and (len(places) == len(names) or not _in_order(counts)):
            pairing[column] = places
        elif not _in_order(counts) and (any(place is not None for place in places) or _in_order(sorted(counts))):
            refuse(
                f"the column {column!r} numbers the maps as {quote(counts)}, but their names are {quote(names)}; give "
                "the names of the files in a column 'file', or rename this column"
            )
    return pairing


def _numbers(names: Sequence[str]) -> dict[int, int]:
    """Give the position of each map by the only number in which names differ; nothing if they differ in more."""
    found = [re.findall(r"\d+", name) for name in names]
    if len({re.sub(r"\d+", "", name) for name in names}) > 1:
        return {}
    differ = [column for column in zip(*found, strict=True) if len(set(column)) > 1]
    numbers = {int(number): place for place, number in enumerate(differ[0])} if len(differ) == 1 else {}
    return numbers if len(numbers) == len(names) else {}


def check_rows(n_maps: int, columns: Columns) -> None:
    """Refuse a table that does not have one row per map."""
    n_rows = len(next(iter(columns.values())))
    if n_rows != n_maps:
        refuse(f"it has {n_rows} rows, but there are {n_maps} maps")


def check_stack(n_maps: int, columns: Columns, condition: str, own: Sequence[str]) -> None:
    """Refuse a table of the maps in one file if its rows are not as many, or number or name them in another order.

    `own` are the names of the maps in the file, if it has any.
    """
    check_rows(n_maps, columns)
    volumes = {
        column: [found[1] if (found := _VOLUME.search(cell)) else cell for cell in cells]
        for column, cells in columns.items()
    }
    for column, counts in _naming_counts(volumes, condition).items():
        if _in_order(sorted(counts)) and not _in_order(counts):
            refuse(
                f"the column {column!r} numbers the maps as {quote(counts)}; write the rows in the order of the maps, "
                "or rename this column"
            )
    key = _loose(own)
    called = [key(name) for name in own]
    for column, cells in columns.items() if own else ():
        read, numbers = [key(cell) for cell in cells], _counts(cells)
        naming = column == condition or column.lower() in _NAMING
        if numbers is not None and (column == condition or not naming):
            # a column that counts (trials, an order) does not name maps, unless conditions have the names of the maps
            compared = column == condition and sorted(read) == sorted(called) and _differ(read)
        else:
            compared = not (numbers and _in_order(numbers)) and (naming or sorted(read) == sorted(called))
        if compared:
            _check_order(column, cells, own, key)


def _check_order(column: str, cells: Sequence[str], own: Sequence[str], key: Callable[[str], str]) -> None:
    """Refuse a name that is at one position in the table and at another in the file."""
    read, called = [key(cell) for cell in cells], [key(name) for name in own]
    for row, (cell, name) in enumerate(zip(read, called, strict=True)):
        if cell != name and (cell in called or name in read):
            refuse(
                f"the column {column!r} lists names in another order than the maps: {cells[row]!r} in row {row + 1}, "
                f"but the file names this map {own[row]!r}"
            )


# Cells


def _loose(names: Sequence[str]) -> Callable[[str], str]:
    """Give how names are compared: without case and leading zeros, unless some names differ in nothing else."""
    return _plain if len(set(map(_plain, names))) == len(set(names)) else str


def _plain(name: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", name.casefold())


def _bare(cell: str) -> str:
    """Remove SPM's number of the volume."""
    return _VOLUME.sub("", cell)


def _name_in(cell: str) -> str:
    return stem(Path(re.split(r"[\\/]", _bare(cell))[-1]))


def _place_of(cell: str, known: Mapping[str, int], key: Callable[[str], str]) -> int | None:
    """Find the map that the end of the cell's path names, the longest end first."""
    parts = [*re.split(r"[\\/]", _bare(cell))[:-1], _name_in(cell)]
    tails = (key("/".join(parts[start:])) for start in range(len(parts)))
    return next((known[tail] for tail in tails if tail in known), None)


def _counts(cells: Sequence[str]) -> list[int] | None:
    """Give a column of whole numbers as numbers, or None if it is not one."""
    return [int(cell) for cell in cells] if all(re.fullmatch(r"\d{1,15}", cell) for cell in cells) else None


def _naming_counts(columns: Columns, condition: str) -> dict[str, list[int]]:
    """Give the columns of numbers whose names refer to maps."""
    numbers = {column: _counts(cells) for column, cells in columns.items() if column.lower() in _NAMING}
    return {column: counts for column, counts in numbers.items() if counts is not None and column != condition}


def _in_order(counts: Sequence[int]) -> bool:
    return list(counts) in (list(range(len(counts))), list(range(1, len(counts) + 1)))


def _differ(values: Sequence[object]) -> bool:
    return len(set(values)) == len(values)
