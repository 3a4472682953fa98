"""HDF5 for the readers: never a link into another file, and never more values than the file stores."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from brainrdl._core.errors import nearest, quote, refuse
from brainrdl._core.packed import check_unpacked

# A file may declare any shape without storing a byte of it, so arrays of more than a few MiB must be stored. Deflate,
# by far the most common compression, packs at most 1032 bytes into one.
_ROOM = 1 << 24

_PACKED = 1100

_HEAP = b"GCOL\x01\x00\x00\x00"  # the beginning of a heap of texts

_SCANNED = 1 << 30  # files up to 1 GiB are searched for damaged heaps: more would take longer than reading them


def opened(path: Path) -> h5py.File:
    """Check a file and open it for reading."""
    check_file(path)
    return h5py.File(path, "r")


def check_file(path: Path) -> None:
    """Refuse a file that is empty, is not HDF5, or is damaged such that HDF5 would never return from reading it."""
    if not path.stat().st_size:
        refuse("the file is empty")
    if not h5py.is_hdf5(path):
        refuse("it is not an HDF5 file, or its beginning is damaged")
    if path.stat().st_size <= _SCANNED:
        _check_heaps(path)


def _check_heaps(path: Path) -> None:
    """Refuse a heap of texts with free space of size zero: HDF5 (2.0.0) would read it in an endless loop."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(_HEAP)
        while start >= 0:
            position, end = start + 16, min(start + int.from_bytes(data[start + 8 : start + 16], "little"), len(data))
            while position + 16 <= end:
                index, _, size = struct.unpack_from("<HHxxxxQ", data, position)
                if index == size == 0:
                    refuse(f"it is damaged: a heap of texts, at byte {start}, has free space of size zero")
                position += size if index == 0 else 16 + (size + 7) // 8 * 8
            start = data.find(_HEAP, start + 16)


def _refuse_external(link: object, name: str, where: str) -> None:
    if isinstance(link, h5py.ExternalLink):
        refuse(f"{name!r} in {where!r} is a link into another file, {link.filename!r}; copy its data into this one")


def member(place: h5py.Group, name: str, hops: int = 8) -> h5py.Group | h5py.Dataset | None:
    """Give what is stored as `name`, or None; a link into another file is refused before it is followed."""
    here: h5py.Group | h5py.Dataset | None = place.file if name.startswith("/") else place
    for part in filter(None, name.split("/")):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        _refuse_external(link, part, name)
        if here is None or link is None:
            return None
        if isinstance(link, h5py.SoftLink):
            if not hops:
                refuse(f"the links at {name!r} lead in a circle")
            here = member(here, link.path, hops - 1)
        else:
            here = here[part]
    return here


def bdpy_groups(file: h5py.File) -> tuple[str, str] | None:
    """Give the names of the matrix and its metadata in a file of BDPy, whose matrix also has columns of labels."""
    for dataset, metadata in (("dataset", "metadata"), ("dataSet", "metaData")):
        if isinstance(member(file, dataset), h5py.Dataset) and member(file, f"{metadata}/key") is not None:
            return dataset, metadata
    return None


def check_links(group: h5py.Group) -> None:
    """Refuse what `member` and `load` refuse anywhere in a group, for loaders that would follow and load it."""
    for name in group:
        link = group.get(name, getlink=True)
        _refuse_external(link, name, str(group.name))
        held = group[name] if isinstance(link, h5py.HardLink) else None
        if isinstance(held, h5py.Group):
            check_links(held)
        elif isinstance(held, h5py.Dataset) and held.shape is not None:
            _check_stored(held, f"array {name!r}")


def array(place: h5py.Group, name: str) -> h5py.Dataset:
    """Give the array `name`, unread; refuse one that does not exist, is in another file, or is larger than stored."""
    found = member(place, name)
    if found is None:
        refuse(f"there is no array {name!r} in {place.name!r}{nearest(name, place)}; it holds {quote(sorted(place))}")
    if not isinstance(found, h5py.Dataset):
        refuse(f"{name!r} in {place.name!r} is a group, not an array; it holds {quote(sorted(found))}")
    if found.dtype.kind == "O" and h5py.check_string_dtype(found.dtype) is None:
        refuse(f"array {name!r} holds {found.dtype}, lists or references; numbers or texts are expected")
    _check_stored(found, f"array {name!r}")
    return found


def _check_stored(found: h5py.Dataset, what: str) -> None:
    """Refuse values that are in another file, or more than the file stores."""
    if found.is_virtual or found.external:
        refuse(f"{what} keeps its values in other files; copy them into this one")
    stored = found.id.get_storage_size()
    if found.nbytes > _ROOM and found.nbytes > _PACKED * stored:
        refuse(f"{what} has shape {found.shape}, {found.nbytes} bytes, but the file stores {stored} of them")
    check_unpacked(found.nbytes, stored, what)


def items(group: h5py.Group) -> dict[str, h5py.Dataset | h5py.Group]:
    """List what is in `group` itself, without soft and external links, which could lead into other files."""
    links = {key: group.get(key, getlink=True) for key in group}
    return {key: group[key] for key, link in links.items() if isinstance(link, h5py.HardLink)}


def load(found: h5py.Dataset, what: str) -> np.ndarray:
    """Load one of the arrays that `items` lists."""
    _check_stored(found, what)
    return np.asarray(found[()])


def numbers(place: h5py.Group, name: str, ndim: int = 1) -> np.ndarray:
    """Read an array of numbers with `ndim` axes, as float64; one row or column counts as one axis."""
    found = array(place, name)
    line = ndim == 1 and found.ndim == 2 and 1 in found.shape
    if found.dtype.kind not in "biuf" or (found.ndim != ndim and not line):
        refuse(f"array {name!r} must hold numbers along {ndim} axes, it is {found.dtype} of shape {found.shape}")
    values = np.asarray(found[()], dtype=np.float64)
    return values.ravel() if line else values


def values(place: h5py.Group, name: str) -> list[Any]:
    """Read texts or numbers along one axis, in one row or column, or a single one, unchanged."""
    found = array(place, name)
    if found.dtype.kind not in "biufSO" or found.ndim > 2 or (found.ndim == 2 and 1 not in found.shape):
        refuse(f"array {name!r} must be a list of texts or numbers, it is {found.dtype} of shape {found.shape}")
    held = found.asstr()[()] if h5py.check_string_dtype(found.dtype) else found[()]
    return list(np.ravel(held))


def texts(place: h5py.Group, name: str) -> list[str]:
    """Read the values that `values` gives, as texts."""
    return [str(value) for value in values(place, name)]
