"""Masks and atlases: which channels belong to a region, and the names of regions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brainrdl._core.errors import check_unique, nearest, quote, read_arg, refuse
from data_adapters._shared.text import is_ended, read_text
from data_adapters._shared.text_tables import blaming, columns_like, existing, read_table
from data_adapters.fmri_maps.maps import EMPTY, neighbour
from data_adapters.fmri_maps.volumes import Volumes, check_grid, open_volumes, read_values

# A number and a name; FreeSurfer's tables of colours have four more numbers at the end, ITK-SNAP's six before the name
_LINE = re.compile(r"(\d+(?:\.0+)?)\s+(\S.*?)((\s+\d+){4})?")

_FSL_LINE = re.compile(r"(\d+)(?:\s+[01](?:\.\d+)?){3}\s+(\S.*)")  # three parts of a colour before the name

_ITK_LINE = re.compile(r"(\d+)(?:\s+[\d.]+){6}\s+\"(.*)\"")


def read_atlas(
    path: str | Path | None, table: str | Path | None, maps: Volumes
) -> tuple[np.ndarray | None, dict[int, str] | None]:
    """Give each voxel's number, and the regions' names, if there are any."""
    if path is None:
        if table is not None:
            refuse(
                f"{read_arg('labels')} is {str(table)!r}, which names the regions of an atlas; give "
                f"{read_arg('atlas')} as well"
            )
        return None, None
    numbers = as_labels(read_beside(path, "atlas", maps))
    found = neighbour(Path(path)) if table is None else table
    return numbers, None if found is None else read_label_table(found, int(numbers.max()))


def read_beside(path: str | Path, what: str, maps: Volumes) -> np.ndarray:
    """Read all voxels of a mask or atlas on the grid of the maps."""
    with blaming(f"{what}=", existing(path, what)):
        volumes = open_volumes(Path(path))
    if volumes.n > 1:
        refuse(f"the {what} {str(path)!r} holds {volumes.n} volumes, expected one")
    check_grid(volumes, maps, f"the {what} {str(path)!r}", "the map")
    with blaming(f"{what}=", path):
        return read_values(volumes, np.arange(volumes.n_voxels))[0]


def as_mask(values: np.ndarray) -> np.ndarray:
    """Give where a mask is not 0 (NaN counts as 0)."""
    held = np.unique(values[~np.isnan(values) & (values != 0)])
    if held.size != 1:
        held_words = f"the values {quote(held.tolist())} besides 0" if held.size else "only 0"
        refuse(f"the mask holds {held_words}, expected 0 and one other value; give regions with {read_arg('atlas')}")
    return values == held[0]


def as_labels(values: np.ndarray) -> np.ndarray:
    """Give an atlas's numbers as integers (NaN counts as 0); scaling may have changed them by up to 1e-4."""
    values = np.where(np.isnan(values), 0, values)
    with np.errstate(invalid="ignore"):
        whole = np.rint(values)
        broken = values[~(np.isclose(values, whole, rtol=1e-7, atol=1e-4) & (np.abs(values) < 2**53))]
    if broken.size:
        refuse(
            f"the atlas holds {quote(np.unique(broken).tolist())}, expected whole numbers; apply a threshold to "
            "probabilities"
        )
    if not (whole > 0).any():
        refuse("the atlas holds no region: no number is above 0")
    return whole.astype(np.int64)


def read_label_table(path: str | Path, largest: int) -> dict[int, str]:
    """Read the names of an atlas's regions, by number."""
    if existing(path, "labels").suffix.lower() in {".tsv", ".csv"}:
        pairs = _numbered_rows(Path(path))
    else:
        pairs = _numbered_lines(Path(path), largest)
    wrong = [number for number, _ in pairs if not re.fullmatch(r"-?\d{1,15}(\.0+)?", number)]
    if wrong:
        refuse(f"the labels {str(path)!r} have {quote(wrong)} as numbers of regions, expected whole numbers")
    found = [(int(number.partition(".")[0]), name) for number, name in pairs]
    check_unique([str(number) for number, _ in found], f"the labels {str(path)!r}")
    return {number: name for number, name in found if name.lower() not in EMPTY}


def _numbered_rows(path: Path) -> list[tuple[str, str]]:
    table = read_table(path)
    index = _first_of(("index", "label"), table, path, "number")
    name = _first_of(("name", "label") if index.lower() == "index" else ("name",), table, path, "name")
    return list(zip(table[index], table[name], strict=True))


def _first_of(usual: Sequence[str], table: Mapping[str, Sequence[str]], path: Path, what: str) -> str:
    found = columns_like(table, usual)
    if not found:
        refuse(
            f"the labels {str(path)!r} have no column {' or '.join(usual)} with the {what} of a region; they have "
            f"{quote(table)}"
        )
    return found[0]


def _numbered_lines(path: Path, largest: int) -> list[tuple[str, str]]:
    with blaming("the labels", path):
        text = read_text(path)
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    found = [_ITK_LINE.fullmatch(line) or _FSL_LINE.fullmatch(line) or _LINE.fullmatch(line) for line in lines]
    if lines and not is_ended(text):
        _check_last(lines, found, path)
    numbered = [(match[1], match[2].strip("\"'")) for match in found if match]
    if numbered and len(numbered) == len(lines):
        _check_one_number([name for _, name in numbered], path)
        return numbered
    started = [line for line in lines if re.match(r"\d+(\W|$)", line)]
    if not lines or started:
        refuse(
            f'the labels {str(path)!r} have a number in {len(started)} of {len(lines)} lines, but the form "1 V1" in '
            f"{len(numbered)}: number all lines, or none"
        )
    _check_one_number(lines, path)
    first = 0 if re.fullmatch(r"background|unknown|\?+", lines[0], re.IGNORECASE) else 1
    if first + len(lines) - 1 != largest:
        refuse(
            f"the labels {str(path)!r} name the numbers {first} to {first + len(lines) - 1}, but the largest in the "
            f"atlas is {largest}; write the number before each name"
        )
    return [(str(number), name) for number, name in enumerate(lines, start=first)]


def _check_last(lines: Sequence[str], found: Sequence[re.Match[str] | None], path: Path) -> None:
    """Refuse a last line that lacks a part of what the others have: a part of its colour would be read as its name."""
    *others, last = [match and (match.re, match.re is _LINE and match[3] is not None) for match in found]
    if len(set(others)) == 1 and others[0] not in (None, (_LINE, False), last):
        refuse(f"the labels {str(path)!r} end in {lines[-1]!r}, unlike the lines before it: is the file cut off?")


def _check_one_number(names: Sequence[str], path: Path) -> None:
    """Refuse names followed by a number, as in SPM's AAL: it could be the region's number (unlike in "Area 17")."""
    bare = [match[1] for match in (re.fullmatch(r"(.*\S)\s+\d+", name) for name in names) if match]
    if len(bare) == len(names) and len(set(bare)) == len(names) > 1:
        refuse(
            f"the labels {str(path)!r} have a number after each name ({names[0]!r}), which may be the region's; write "
            'lines like "1 V1", or a .tsv with the columns index and name'
        )


def find_regions(
    inside: np.ndarray, labels: np.ndarray | None, names: Mapping[int, str] | None, roi: str | Sequence[str] | None
) -> list[tuple[str | None, np.ndarray]]:
    """Give the channels of each region asked for, or all inside the mask if there is no atlas."""
    if labels is None:
        if roi is not None:
            refuse(f"{read_arg('roi', roi)} asks for regions, but there is no atlas; give {read_arg('atlas')}")
        return [(None, np.flatnonzero(inside))]
    present = [int(number) for number in np.unique(labels) if number > 0]
    table = {number: str(number) for number in present} if names is None else names
    asked = [roi] if isinstance(roi, str) else roi
    if asked is not None and not asked:
        refuse("roi= is an empty list; leave it out to read all regions")
    nameless = [number for number in present if number not in table]
    if asked is None and nameless:
        refuse(
            f"the labels do not name the numbers {quote(nameless)} of the atlas; name them, or choose others with "
            f"{read_arg('roi')}"
        )
    here = [table[number] for number in present if number in table]
    check_unique(here, "the labels of the atlas")
    check_unique(asked or [], read_arg("roi"))
    unknown = [name for name in asked or [] if name not in here]
    if unknown:
        refuse(f"regions {quote(unknown)} are not in the atlas ({len(here)} regions){nearest(unknown[0], here)}")
    numbers = {table[number]: number for number in present if number in table}
    regions: list[tuple[str | None, np.ndarray]] = [
        (name, np.flatnonzero(inside & (labels == numbers[name]))) for name in (here if asked is None else asked)
    ]
    outside = [name for name, channels in regions if not channels.size]
    if outside:
        refuse(f"regions {quote(outside)} are outside the mask (or structure); leave them out with {read_arg('roi')}")
    return regions
