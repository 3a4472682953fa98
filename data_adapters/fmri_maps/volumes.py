"""NIfTI and FreeSurfer's volumes, read by streaming: the header first, then the voxels asked for, volume by volume.

Nothing is resampled: files whose grids differ by more than a tenth of a voxel are refused.
"""

from __future__ import annotations

import gzip
import html
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import nibabel as nib
import numpy as np

from brainrdl._core.errors import refuse
from brainrdl._core.packed import check_unpacked

_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)

_EXTENSION, _LARGEST_EXTENSION = 12, 2**24  # bytes: of the marks before an extension, and the most that is read

_AFNI_LABELS = re.compile(r'atr_name="BRICK_LABS"[^>]*>\s*"([^"]*)"')

_BLOCK = 2**16  # bytes; volumes smaller than this are read several at a time

_DEFLATE = 1032  # how many bytes deflate can pack into one

_LOADED, _STREAMED = 2**29, 2**32  # bytes that a small compressed file may declare: loaded at once, and in total

_OFF = 0.1  # how far, in voxels, a voxel may be from the same voxel in another file: headers round

_MGH_OFFSET = 284  # bytes before the numbers in FreeSurfer's volumes

# programs that write NIfTI files from others, by suffix
_CONVERTERS = {
    ".head": "AFNI's 3dAFNItoNIFTI",
    ".brik": "AFNI's 3dAFNItoNIFTI",
    ".label": "FreeSurfer's mri_label2vol",
    ".gii": "FreeSurfer's mri_surf2vol",
    ".annot": "FreeSurfer's mri_label2vol",
    ".img": "FSL's fslchfiletype NIFTI_GZ",
    ".hdr": "FSL's fslchfiletype NIFTI_GZ",
    ".mnc": "mnc2nii",
    ".dcm": "dcm2niix",
}

_CIFTI = range(3000, 3100)  # intent codes


@dataclass(frozen=True)
class Volumes:
    """Where the numbers of a NIfTI file are, and what they mean."""

    path: Path
    shape: tuple[int, ...]
    n: int
    affine: np.ndarray
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    about: str
    labels: tuple[str, ...] = ()  # one per volume, as AFNI writes them
    is_series: bool = False  # whether AFNI's extension of the header has an axis of time

    @property
    def n_voxels(self) -> int:
        """Number of voxels of one volume."""
        return math.prod(self.shape)


def open_volumes(path: Path) -> Volumes:
    """Read a header (NIfTI, .mgh or .mgz), and refuse anything but a map (x, y, z) or a stack (x, y, z, n)."""
    if is_mgh(path):
        return _open_mgh(path)
    header = read_header(path)
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    if int(header["intent_code"]) in _CIFTI:
        refuse("it holds grayordinates (CIFTI), not volumes; rename it to .dscalar.nii or .dtseries.nii")
    if len(shape) < 3 or sum(size > 1 for size in shape[3:]) > 1:
        refuse(f"the image has shape {shape}, expected maps (x, y, z) or (x, y, z, n_observations)")
    if dtype.kind not in "iuf":
        refuse(f"the image holds {dtype} numbers, expected real ones; if they are complex, save the magnitude")
    slope, inter = header.get_slope_inter()
    offset, affine = header.get_data_offset(), header.get_best_affine()
    about = header["descrip"].item().decode("latin-1").strip("\0 ")
    n, afni = math.prod(shape[3:]), _afni(path, header.sizeof_hdr, offset)
    found = _AFNI_LABELS.search(afni)
    labels = tuple(html.unescape(label) for label in found[1].rstrip("~").split("~")) if found else ()
    numbers = (dtype, offset, slope or 1.0, inter or 0.0)
    return Volumes(path, shape[:3], n, affine, *numbers, about, labels, 'atr_name="TAXIS_NUMS"' in afni)


def is_cifti(path: Path) -> bool:
    """Say whether a NIfTI file holds grayordinates, by its name or its header."""
    named = re.search(r"\.[dp](scalar|tseries|label|[dp]?conn\w*)\.nii$", path.name, re.IGNORECASE) is not None
    return named or int(read_header(path)["intent_code"]) in _CIFTI


def is_mgh(path: Path) -> bool:
    """Say whether a file is named as FreeSurfer's volumes are; a map on a surface is a volume of (n_vertices, 1, 1)."""
    return path.suffix.lower() in {".mgh", ".mgz"}


def is_surface(path: Path) -> bool:
    """Say whether FreeSurfer's file holds maps on a surface: a volume of (n_vertices, 1, 1)."""
    try:
        return open_volumes(path).shape[1:] == (1, 1)
    except Exception:  # damaged files fail in many ways; reading them says what is wrong
        return False


def _open_mgh(path: Path) -> Volumes:
    """Read the header of FreeSurfer's volumes; numbers are big-endian, in the same order as in NIfTI."""
    with _opened(path) as file:
        start = file.read(_MGH_OFFSET)
    if len(start) < _MGH_OFFSET:
        refuse(f"the file holds {len(start)} bytes, but FreeSurfer's header has {_MGH_OFFSET}: it is cut off")
    kind = nib.freesurfer.mghformat.MGHHeader
    header = kind(start.ljust(kind.template_dtype.itemsize, b"\0"))
    shape, dtype = (*header.get_data_shape(), 1)[:4], header.get_data_dtype()
    if len(shape) < 3 or min(shape) < 1:
        refuse(f"the header declares the shape {shape}; it is damaged")
    check_declared(_MGH_OFFSET + math.prod(shape) * dtype.itemsize, path, _is_packed(path), _STREAMED)
    check_declared(_MGH_OFFSET + math.prod(shape[:3]) * dtype.itemsize, path, _is_packed(path))
    return Volumes(path, shape[:3], math.prod(shape[3:]), header.get_affine(), dtype, _MGH_OFFSET, 1.0, 0.0, "")


def _afni(path: Path, start: int, end: int) -> str:
    """Give the extension of the header in which AFNI keeps its attributes; "" if there is none."""
    if end - start <= _EXTENSION:
        return ""
    with _opened(path) as file:
        file.seek(start)
        return file.read(min(end - start, _LARGEST_EXTENSION)).decode("latin-1")


def read_header(path: Path) -> nib.Nifti1Header:
    """Read only the fixed part of a NIfTI-1 or NIfTI-2 header, and refuse a shape that the file cannot hold."""
    if not _NIFTI.search(path.name):
        advice = f"convert it with {_CONVERTERS.get(path.suffix.lower(), 'nibabel')}"
        refuse(f"{path.name!r} is not a NIfTI file (.nii, .nii.gz); {advice}")
    if not path.stat().st_size:
        refuse("the file is empty")
    with _opened(path) as file:
        start = file.read(540)
    kind = nib.Nifti2Header if start[:4] in {b"\x1c\x02\0\0", b"\0\0\x02\x1c"} else nib.Nifti1Header
    if len(start) < kind.sizeof_hdr:
        refuse(f"the file holds {len(start)} bytes, but a NIfTI header has {kind.sizeof_hdr}: it is cut off")
    header = kind(start[: kind.sizeof_hdr])
    shape, offset = header.get_data_shape(), header.get_data_offset()
    if min(shape, default=0) < 1 or offset < kind.sizeof_hdr:
        refuse(
            f"the header declares shape {shape} from byte {offset}; it is damaged, or the numbers are in another file "
            "(.img)"
        )
    each, packed = header.get_data_dtype().itemsize, _is_packed(path)
    declared = offset + math.prod(shape) * each
    check_declared(declared, path, packed, _STREAMED)
    if not packed and path.stat().st_size > declared:
        _refuse_surplus(declared)
    check_declared(offset + math.prod(shape[:3]) * each, path, packed)
    return header


def _refuse_surplus(declared: int) -> NoReturn:
    refuse(f"it declares {declared} bytes, but the file goes on after them: its header or its end is damaged")


def check_declared(declared: int, path: Path, packed: bool, allowed: int = _LOADED) -> None:
    """Refuse more bytes than the file can hold, before memory is allocated for them.

    A compressed file may declare what deflate can pack, up to `allowed` bytes or a hundred times its size.
    """
    size = path.stat().st_size
    if declared > (min(_DEFLATE * size, max(allowed, 100 * size)) if packed else size):
        refuse(f"it declares {declared} bytes, but the file of {size} bytes cannot hold them: is it cut off?")


def read_values(volumes: Volumes, voxels: np.ndarray) -> np.ndarray:
    """Read some voxels (sorted, the first axis fastest) of all volumes, one volume (or a few small ones) at a time."""
    plain = (volumes.slope, volumes.inter) == (1.0, 0.0)
    exact = plain and np.can_cast(volumes.dtype, np.float32)
    size, dtype = volumes.path.stat().st_size, np.dtype(np.float32 if exact else np.float64)
    if _is_packed(volumes.path):
        check_unpacked(volumes.n * voxels.size * dtype.itemsize, size, "the file, for so many voxels,")
    values = np.empty((volumes.n, voxels.size), dtype)
    step = max(1, _BLOCK // (volumes.n_voxels * volumes.dtype.itemsize))
    # The part of the volume from the first voxel to the last: a region often covers a few slices.
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
        declared = volumes.offset + volumes.n * volumes.n_voxels * volumes.dtype.itemsize
        file.seek(declared)
        more = file.read(1)  # at the end, this also checks the checksum of a compressed file
        if more and not is_mgh(volumes.path):  # FreeSurfer appends parameters and tags
            _refuse_surplus(declared)
        if not plain:
            values *= volumes.slope
            values += volumes.inter
    return values


def check_grid(one: Volumes, other: Volumes, what: str, whose: str) -> None:
    if one.shape != other.shape:
        refuse(f"{what} has shape {one.shape}, but {whose} has {other.shape}; resample it to the same grid")
    if not same_places(one.shape, one.affine, other.affine):
        refuse(
            f"{what} has the affine {_rows_of(one.affine)}, but {whose} has {_rows_of(other.affine)}; resample it to "
            "the same grid"
        )


def same_places(shape: tuple[int, ...], one: np.ndarray, other: np.ndarray) -> bool:
    """Say whether all voxels are within a tenth of a voxel of each other; the corners differ the most."""
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)]) * [*(np.array(shape) - 1), 1]
    furthest = np.linalg.norm((one - other)[:3] @ corners.T, axis=0).max()
    return bool(furthest <= _OFF * np.linalg.norm(other[:3, :3], axis=0).min())


def _rows_of(affine: np.ndarray) -> str:
    return str([[round(float(number), 4) for number in row] for row in affine[:3]])


def _opened(path: Path) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path) if _is_packed(path) else path.open("rb")


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() in {".gz", ".mgz"}
