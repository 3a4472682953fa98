"""NIfTI maps: betas, t or z values of fMRI, with a mask or an atlas.

Layout on disk::

    betas.nii, .nii.gz      one map (x, y, z), or several (x, y, z, n_observations)
    betas.tsv               its table, found by its name or given with table=: a row for each map, in their order; the
                            column condition, stimulus or trial_type names the condition, run the run
    folder/                 3-D maps, one observation each, named by the files; files="beta_*.nii" picks some. A
                            table= for it has a column file, or the order of the sorted files
    mask=                   a map of 0 and one other value
    atlas=                  a map of whole numbers, 0 or less outside all regions
    labels=                 its regions: a table with the columns index and name (or label), as BIDS writes it next to
                            *_dseg.nii.gz, where it is found by its name; or a .txt of lines "1 V1", or of one name a
                            line, numbered from 1 (from 0 if the first is "Background" or "Unknown")

Mask and atlas must lie on the grid of the maps: nothing is resampled. Voxels that are NaN or infinite in any map, or
the same in all (of a single map: 0), are left out and counted in the descriptor ``n_dropped_channels``. Values come by
streaming, a volume at a time, so that a region of a large file needs little memory.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from brainrdl._checks import check_option, check_unique, nearest, quote, refuse

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset

_CONDITION = ("condition", "stimulus", "trial_type")
_CIFTI = range(3000, 3100)  # intent codes
_OURS = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
# CIFTI is another reader's; of a BOLD series the volumes are no observations yet
_NOT_OURS = re.compile(r"(\.[dp](scalar|tseries|label|[dp]?conn\w*)\.nii|(^|_)bold\.nii(\.gz)?)$", re.IGNORECASE)
_SPM = frozenset({"mask", "ResMS", "RPV"})  # maps that SPM writes next to the betas
_BLOCK = 2**16  # bytes; volumes smaller than this are read several at a time
_DEFLATE = 1032  # the most that deflate can compress
_MILLIMETRES = 1e-4


class Nifti:
    """Reads maps of fMRI as measurements, one Dataset a region.

    Examples
    --------
    >>> READER.sniff(Path("sub-01_betas.nii.gz")), READER.sniff(Path("sub-01.dscalar.nii"))
    (True, False)
    """

    name = "nifti"
    layout = (
        ".nii or .nii.gz: maps (x, y, z) or (x, y, z, n_observations), or a folder of 3-D maps; mask= or atlas= (with "
        "labels= and roi=), conditions and runs in table="
    )

    def sniff(self, path: Path) -> bool:
        """Take files by their suffix, and folders that hold such files.

        Parameters
        ----------
        path : Path
            The file or folder.

        Returns
        -------
        bool
            Whether it is a NIfTI file (no CIFTI, not called ``..._bold``), or a folder with some that is no BIDS root.
        """
        if path.is_dir():
            return not (path / "dataset_description.json").exists() and bool(_maps_in(path, "*"))
        return _is_ours(path.name)

    def read(
        self,
        path: Path,
        *,
        mask: str | Path | None = None,
        atlas: str | Path | None = None,
        labels: str | Path | None = None,
        roi: str | Sequence[str] | None = None,
        table: str | Path | None = None,
        condition_column: str | None = None,
        run_column: str | None = None,
        files: str | None = None,
    ) -> Dataset | list[Dataset]:
        """Read the voxels of the mask, or of each region.

        Parameters
        ----------
        path : Path
            The file, or the folder of 3-D maps.
        mask : str or Path, optional
            Map of the voxels to read; by default all.
        atlas : str or Path, optional
            Map of the regions' numbers.
        labels : str or Path, optional
            Names of the regions; by default the table next to the atlas, else their numbers.
        roi : str or sequence of str, optional
            Regions to read: a list of Datasets for a list of names, one Dataset for a name; by default all.
        table : str or Path, optional
            Conditions and runs; by default the ``.tsv`` file of the same name, if there is one.
        condition_column, run_column : str, optional
            Columns of the table, where they have other names.
        files : str, optional
            Which files of a folder to read, for example ``"beta_*.nii"``.

        Returns
        -------
        rsatoolbox.data.Dataset or list of Dataset
            A list if there is an atlas, except for a single name in `roi`. Observation descriptors ``stimulus`` and
            ``run``, channel descriptors ``i``, ``j``, ``k`` (voxel), and the descriptors ``roi``, ``subject``,
            ``session`` as far as known.

        Raises
        ------
        BrainrdlError
            If a map is damaged or no map, mask or atlas lie on another grid or hold other values, the table does not
            fit, a region is unknown, or no voxel of it is left.
        """
        maps = _folder(path, files) if path.is_dir() else [_file(path, files)]
        inside = np.ones(maps[0].n_voxels, bool) if mask is None else _read_mask(_beside(mask, "mask", maps[0]))
        regions = _find_regions(inside, *_atlas(atlas, labels, maps[0]), roi)
        voxels = np.unique(np.concatenate([channels for _, channels in regions]))
        sources = [each.path for each in maps for _ in range(each.n)]
        own = [_stem(file) for file in sources] if path.is_dir() else None
        found = table if table is not None or path.is_dir() else _neighbour(path)
        observed = _observations(sources, own, found, condition_column, run_column)
        values = np.concatenate([_values(each, voxels) for each in maps])
        places = dict(zip("ijk", np.unravel_index(voxels, maps[0].shape, order="F"), strict=True))
        parts = [(name, np.searchsorted(voxels, channels)) for name, channels in regions]
        datasets = [_dataset(values, name, part, observed, places, path) for name, part in parts]
        return datasets[0] if atlas is None or isinstance(roi, str) else datasets


# Files


@dataclass(frozen=True)
class _Volumes:
    """Where the numbers of a NIfTI file are, and what they mean."""

    path: Path
    shape: tuple[int, ...]
    n: int
    affine: np.ndarray
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float

    @property
    def n_voxels(self) -> int:
        """Number of voxels of one volume."""
        return math.prod(self.shape)


def _open_volumes(path: Path) -> _Volumes:
    """Read a NIfTI header, and refuse what is no map (x, y, z) or stack of maps (x, y, z, n)."""
    header = _read_header(path)
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    if int(header["intent_code"]) in _CIFTI:
        refuse("it holds grayordinates (CIFTI), no volumes; call it .dscalar.nii or .dtseries.nii")
    if len(shape) < 3 or sum(size > 1 for size in shape[3:]) > 1:
        refuse(f"the image has shape {shape}, expected maps (x, y, z) or (x, y, z, n_observations)")
    if dtype.kind not in "iuf":
        refuse(f"the image holds {dtype} numbers, expected real ones; of complex ones save the magnitude")
    slope, inter = header.get_slope_inter()
    offset, affine = header.get_data_offset(), header.get_best_affine()
    return _Volumes(path, shape[:3], math.prod(shape[3:]), affine, dtype, offset, slope or 1.0, inter or 0.0)


def _read_header(path: Path) -> nib.Nifti1Header:
    """Read the fixed part of a NIfTI-1 or NIfTI-2 header alone, and refuse a shape that the file cannot hold."""
    if not path.stat().st_size:
        refuse("the file is empty")
    with _opened(path) as file:
        start = file.read(540)
    kind = nib.Nifti2Header if start[:4] in {b"\x1c\x02\0\0", b"\0\0\x02\x1c"} else nib.Nifti1Header
    if len(start) < kind.sizeof_hdr:
        refuse(f"the file holds {len(start)} bytes, a NIfTI header has {kind.sizeof_hdr}: it is cut off")
    header = kind(start[: kind.sizeof_hdr])
    shape, offset = header.get_data_shape(), header.get_data_offset()
    if min(shape, default=0) < 1 or offset < kind.sizeof_hdr:
        refuse(f"the header declares shape {shape} from byte {offset} on, it is damaged or one of two files")
    _check_size(offset + math.prod(shape) * header.get_data_dtype().itemsize, path, _is_packed(path))
    return header


def _check_size(declared: int, path: Path, packed: bool) -> None:
    """Refuse more bytes than the file can hold, before memory is taken for them."""
    size = path.stat().st_size
    if declared > (min(_DEFLATE * size, max(2**29, 100 * size)) if packed else size):
        refuse(f"it declares {declared} bytes, and the file of {size} bytes cannot hold them: is it cut off?")


def _values(volumes: _Volumes, voxels: np.ndarray) -> np.ndarray:
    """Read some voxels (sorted, the first axis fastest) of all volumes, one volume (or some small ones) at a time."""
    plain = (volumes.slope, volumes.inter) == (1.0, 0.0)
    exact = plain and np.can_cast(volumes.dtype, np.float32)
    values = np.empty((volumes.n, voxels.size), np.float32 if exact else np.float64)
    step = max(1, _BLOCK // (volumes.n_voxels * volumes.dtype.itemsize))
    # The volume's part from its first voxel to its last: a whole region is often a few slices.
    first, last = int(voxels[0]), int(voxels[-1]) + 1
    with _opened(volumes.path) as file, np.errstate(all="ignore"):
        for start in range(0, volumes.n, step):
            count = min(step, volumes.n - start)
            length = (count - 1) * volumes.n_voxels + last - first
            file.seek(volumes.offset + (start * volumes.n_voxels + first) * volumes.dtype.itemsize)
            stored = file.read(length * volumes.dtype.itemsize)
            if len(stored) < length * volumes.dtype.itemsize:
                refuse(f"the file ends within volume {start + count} of {volumes.n}: it is cut off")
            places = np.arange(count)[:, None] * volumes.n_voxels + (voxels - first)
            values[start : start + count] = np.frombuffer(stored, volumes.dtype)[places]
        while _is_packed(volumes.path) and file.read(2**20):
            pass  # the checksum stands at the end
        if not plain:
            values *= volumes.slope
            values += volumes.inter
    return values


def _opened(path: Path) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path) if _is_packed(path) else path.open("rb")


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _is_ours(name: str) -> bool:
    return bool(_OURS.search(name)) and not _NOT_OURS.search(name) and not name.startswith(".")


def _stem(path: Path) -> str:
    """Name a file without ``.nii``, ``.nii.gz`` and the like."""
    return re.sub(r"(\.[dp](scalar|tseries|label))?\.nii(\.gz)?$|(\.(func|shape|label))?\.gii$", "", path.name)


def _neighbour(path: Path) -> Path | None:
    """Give the ``.tsv`` file of the same name, if there is one."""
    table = path.with_name(_stem(path) + ".tsv")
    return table if table.is_file() else None


def _existing(path: str | Path, what: str) -> Path:
    """Give the file that an option names."""
    if not Path(path).is_file():
        refuse(f"{what}= is {str(path)!r}, and there is no such file")
    return Path(path)


def _file(path: Path, files: str | None) -> _Volumes:
    if files is not None:
        refuse(f"files={files!r} picks maps of a folder, and this is a single file")
    return _open_volumes(path)


def _maps_in(folder: Path, pattern: str) -> list[Path]:
    return sorted(file for file in folder.glob(pattern) if _is_ours(file.name) and file.is_file())


def _folder(folder: Path, pattern: str | None) -> list[_Volumes]:
    """Open the maps of a folder, which must be 3-D and on one grid."""
    found = _maps_in(folder, pattern or "*")
    if not found:
        refuse(f"no map in the folder fits files={pattern or '*'!r}")
    strange = [file.name for file in found if _stem(file) in _SPM]
    if pattern is None and strange:
        refuse(f"the folder also holds {quote(strange)}, which are no observations; say which with files='beta_*.nii'")
    check_unique([_stem(file) for file in found], "the folder, suffixes left out")
    maps = [_open_volumes(file) for file in found]
    for each in maps:
        if each.n > 1:
            refuse(
                f"{each.path.name!r} holds {each.n} maps; in a folder each file is one observation, read it by itself"
            )
        _check_grid(each, maps[0], repr(each.path.name), repr(maps[0].path.name))
    return maps


# Masks and atlases


def _check_grid(one: _Volumes, other: _Volumes, what: str, whose: str) -> None:
    if one.shape != other.shape:
        refuse(f"{what} has shape {one.shape} and {whose} {other.shape}; resample it to the same grid")
    if not np.allclose(one.affine, other.affine, rtol=0, atol=_MILLIMETRES):
        refuse(
            f"{what} has the affine {_rows_of(one.affine)} and {whose} {_rows_of(other.affine)}; resample it to the "
            "same grid"
        )


def _rows_of(affine: np.ndarray) -> str:
    return str([[round(float(number), 4) for number in row] for row in affine[:3]])


def _beside(path: str | Path, what: str, maps: _Volumes) -> np.ndarray:
    """Read all voxels of a mask or atlas on the grid of the maps."""
    volumes = _open_volumes(_existing(path, what))
    if volumes.n > 1:
        refuse(f"the {what} {str(path)!r} holds {volumes.n} volumes, expected one")
    _check_grid(volumes, maps, f"the {what} {str(path)!r}", "the map")
    return _values(volumes, np.arange(volumes.n_voxels))[0]


def _read_mask(values: np.ndarray) -> np.ndarray:
    """Say where a mask is not 0 (NaN counts as 0)."""
    held = np.unique(values[~np.isnan(values) & (values != 0)])
    if held.size != 1:
        held_words = f"the values {quote(held.tolist())} besides 0" if held.size else "nothing but 0"
        refuse(f"the mask holds {held_words}, expected 0 and one other value; regions are given with atlas=")
    return values == held[0]


def _read_labels(values: np.ndarray) -> np.ndarray:
    """Give an atlas's numbers as integers (NaN counts as 0)."""
    values = np.where(np.isnan(values), 0, values)
    broken = values[~(np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**53))]
    if broken.size:
        refuse(f"the atlas holds {quote(np.unique(broken).tolist())}, expected whole numbers; threshold probabilities")
    if not (values > 0).any():
        refuse("the atlas holds no region: no number is above 0")
    return values.astype(np.int64)


def _atlas(
    path: str | Path | None, table: str | Path | None, maps: _Volumes
) -> tuple[np.ndarray | None, dict[int, str] | None]:
    """Give each voxel's number, and the regions' names, as far as there are."""
    if path is None:
        if table is not None:
            refuse(f"labels= is {str(table)!r}, which names the regions of an atlas; give atlas=")
        return None, None
    numbers = _read_labels(_beside(path, "atlas", maps))
    found = _neighbour(Path(path)) if table is None else table
    return numbers, None if found is None else _read_label_table(found, int(numbers.max()))


def _read_label_table(path: str | Path, largest: int) -> dict[int, str]:
    """Read the names of an atlas's regions, by number."""
    if _existing(path, "labels").suffix.lower() in {".tsv", ".csv"}:
        rows = _table_of(path, "labels")
        index = _column(rows, None, ("index", "label"), "number of a region", "labels")
        name = _column(rows, None, ("name", "label") if index == "index" else ("name",), "name of a region", "labels")
        pairs = [(row[index], row[name]) for row in rows]
    else:
        pairs = _numbered_lines(Path(path), largest)
    wrong = [number for number, _ in pairs if not re.fullmatch(r"-?\d{1,18}", number)]
    if wrong:
        refuse(f"the labels {str(path)!r} have {quote(wrong)} for numbers of regions, expected whole numbers")
    check_unique([str(int(number)) for number, _ in pairs], f"the labels {str(path)!r}")
    return {int(number): name for number, name in pairs}


def _numbered_lines(path: Path, largest: int) -> list[tuple[str, str]]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    # FreeSurfer's tables of colours have four more numbers at the end
    found = [re.fullmatch(r"(\d+)\s+(\S.*?)((\s+\d+){4})?", line) for line in names]
    numbered = [match for match in found if match]
    if numbered and len(numbered) == len(names):
        return [(match[1], match[2]) for match in numbered]
    if not names or numbered:
        refuse(f"the labels {str(path)!r} have a number in {len(numbered)} of {len(names)} lines: number all, or none")
    first = 0 if re.fullmatch(r"background|unknown|\?+", names[0], re.IGNORECASE) else 1
    if first + len(names) - 1 != largest:
        refuse(
            f"the labels {str(path)!r} name the numbers {first} to {first + len(names) - 1}, and the largest in the "
            f"atlas is {largest}; write the number before each name"
        )
    return [(str(number), name) for number, name in enumerate(names, start=first)]


def _find_regions(
    inside: np.ndarray, labels: np.ndarray | None, names: Mapping[int, str] | None, roi: str | Sequence[str] | None
) -> list[tuple[str | None, np.ndarray]]:
    """Give the channels of each region asked for, or all inside the mask if there is no atlas."""
    if labels is None:
        if roi is not None:
            refuse(f"roi={roi!r} asks for regions, and there is no atlas; give atlas=")
        return [(None, np.flatnonzero(inside))]
    present = [int(number) for number in np.unique(labels) if number > 0]
    table = {number: str(number) for number in present} if names is None else names
    asked = [roi] if isinstance(roi, str) else roi
    if asked is not None and not asked:
        refuse("roi= is an empty list; leave it out to read all regions")
    nameless = [number for number in present if number not in table]
    if asked is None and nameless:
        refuse(
            f"the labels do not name the numbers {quote(nameless)} of the atlas; name them, or pick others with roi="
        )
    here = [table[number] for number in present if number in table]
    check_unique(here, "the labels of the atlas")
    check_unique(asked or [], "roi=")
    unknown = [name for name in asked or [] if name not in here]
    if unknown:
        refuse(f"regions {quote(unknown)} are not in the atlas ({len(here)} regions){nearest(unknown[0], here)}")
    numbers = {table[number]: number for number in present if number in table}
    regions: list[tuple[str | None, np.ndarray]] = [
        (name, np.flatnonzero(inside & (labels == numbers[name]))) for name in (here if asked is None else asked)
    ]
    outside = [name for name, channels in regions if not channels.size]
    if outside:
        refuse(f"regions {quote(outside)} lie outside the mask (or structure); leave them out with roi=")
    return regions


# Tables of observations


def _table_of(path: str | Path, what: str) -> list[dict[str, str]]:
    """Read a table with a first row of names: tabs in ``.tsv``, else commas."""
    delimiter = "\t" if _existing(path, what).suffix.lower() == ".tsv" else ","
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        lines = [[cell.strip() for cell in row] for row in csv.reader(file, delimiter=delimiter, strict=True)]
    header, *rows = [row for row in lines if any(row)] or [[]]
    if not rows:
        refuse(f"{what}= is {str(path)!r}, which has no row below the names of its columns")
    check_unique(header, f"the first row of {str(path)!r}")
    ragged = [number for number, row in enumerate(rows, start=2) if len(row) != len(header)]
    if ragged:
        refuse(f"row {ragged[0]} of {str(path)!r} has not {len(header)} cells, as the first row")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _column(rows: list[dict[str, str]], asked: str | None, usual: Sequence[str], what: str, option: str) -> str:
    """Find a column: the one asked for, or the first usual one."""
    if asked is not None:
        return check_option(asked, list(rows[0]), f"column of {option}=")
    found = [name for name in usual if name in rows[0]]
    if not found:
        refuse(f"{option}= has no column {' or '.join(usual)} with the {what}, it has {quote(rows[0])}")
    return found[0]


def _observations(
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
    rows = _table_of(table, "table")
    condition = _column(rows, condition_column, _CONDITION, "condition", "table")
    several = [name for name in _CONDITION if name in rows[0]]
    if condition_column is None and len(several) > 1:
        refuse(f"table= has the columns {quote(several)}; choose one with condition_column=")
    if len(rows) != len(sources):
        refuse(f"table= has {len(rows)} rows ({str(table)!r}), and there are {len(sources)} maps")
    rows = _by_file(rows, sources) if len(set(sources)) > 1 else rows
    known["stimulus"] = _cells(rows, condition)
    if own is not None and sorted(known["stimulus"]) == sorted(own) and known["stimulus"] != list(own):
        refuse(
            f"table= lists the conditions in another order than the maps: {quote(known['stimulus'])} and {quote(own)}"
        )
    if run_column is not None or "run" in rows[0]:
        known["run"] = _cells(rows, _column(rows, run_column, ("run",), "run", "table"))
    return known


def _cells(rows: list[dict[str, str]], column: str) -> list[str]:
    empty = [number for number, row in enumerate(rows, start=1) if row[column].lower() in {"", "n/a", "nan"}]
    if empty:
        refuse(f"column {column!r} of table= is empty in row {empty[0]} of {len(rows)}")
    return [row[column] for row in rows]


def _by_file(rows: list[dict[str, str]], sources: Sequence[Path]) -> list[dict[str, str]]:
    """Pair rows with files: by the column file, else by the numbers in names that differ in nothing else."""
    stems = [_stem(file) for file in sources]
    if "file" in rows[0]:
        names = [_stem(Path(row["file"])) for row in rows]
        check_unique(names, "the column 'file' of table=")
        missing = [name for name in stems if name not in names]
        if missing:
            refuse(f"the column 'file' of table= does not name the maps {quote(missing)}{nearest(missing[0], names)}")
        return [rows[names.index(name)] for name in stems]
    numbers = [[int(part) for part in re.findall(r"\d+", name)] for name in stems]
    if len({re.sub(r"\d+", "", name) for name in stems}) > 1 or numbers != sorted(numbers):
        refuse(f"which row of table= belongs to which of the maps {quote(stems)} is unclear; give it a column 'file'")
    return rows


# Datasets


def _dataset(
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


READER = Nifti()
