"""MATLAB's two kinds of file, v4 to v7 (SciPy) and v7.3 (HDF5), as the same few Python types."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from brainrdl._checks import refuse
from data_adapters import _hdf5
from data_adapters._arrays import check_size
from data_adapters._hdf5 import check_file
from data_adapters._mat5 import check_tags

# What a variable holds, whichever version wrote it: numbers, a text, the elements of a cell array, or those of a struct
# array, each with the fields asked for; None for anything else.
Value = np.ndarray | str | list[Any] | None

# The variables of a file: the shape of numbers, the class of anything else.
Shapes = Mapping[str, tuple[int, ...] | str]

_NUMBERS = frozenset({"double", "single", "logical", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64))})


@dataclass(frozen=True)
class ScipyFile:
    """A file of v4 to v7."""

    path: Path

    @cached_property
    def shapes(self) -> Shapes:
        """List the variables without loading them: the shape of numbers, the class of anything else."""
        from scipy.io import whosmat

        listed = whosmat(str(self.path))
        return {key: tuple(map(int, shape)) if kind in _NUMBERS else kind for key, shape, kind in listed}

    def load(self, key: str, fields: Collection[str]) -> Value:
        """Load a variable, of structs only `fields`."""
        from scipy.io import loadmat

        shape = self.shapes[key]
        if isinstance(shape, tuple):
            check_size(prod(shape), self.path.stat().st_size, f"variable {key!r}")
        return _from_scipy(loadmat(str(self.path), variable_names=[key])[key], fields)


def _from_scipy(value: Any, fields: Collection[str]) -> Value:
    if not isinstance(value, np.ndarray):
        return None  # a sparse matrix, an object of MATLAB's, a function
    if value.dtype.names:
        kept = [field for field in value.dtype.names if field in fields]
        return [{field: _from_scipy(each[field], ()) for field in kept} for each in value.ravel(order="F")]
    if value.dtype.kind == "U":
        lines = [str(line).rstrip() for line in value.ravel()]
        return lines[0] if len(lines) == 1 else list(lines)
    if value.dtype.kind == "O":
        return [_from_scipy(each, ()) for each in value.ravel(order="F")]
    return value if value.dtype.kind in "biuf" else None


@dataclass(frozen=True)
class Hdf5File:
    """A file of v7.3, whose axes HDF5 holds in reverse."""

    path: Path

    @cached_property
    def shapes(self) -> Shapes:
        """List the variables without loading them: the shape of numbers, the class of anything else."""
        with h5py.File(self.path, "r") as file:
            return {key: _shape_of(item) for key, item in _hdf5.items(file).items() if not key.startswith("#")}

    def load(self, key: str, fields: Collection[str]) -> Value:
        """Load a variable, of structs only `fields`."""
        with h5py.File(self.path, "r") as file:
            return _from_hdf5(_hdf5.items(file)[key], fields)


def _shape_of(item: h5py.Dataset | h5py.Group) -> tuple[int, ...] | str:
    kind = _class_of(item)
    plain = isinstance(item, h5py.Dataset) and kind not in {"char", "cell"} and item.dtype.kind in "biuf"
    if "MATLAB_empty" in item.attrs:
        return "empty"
    return tuple(item.shape[::-1]) if plain else kind or "unknown"


def _class_of(item: h5py.Dataset | h5py.Group) -> str:
    """Give MATLAB's class; a file that other software wrote may not say it."""
    kind = item.attrs.get("MATLAB_class", b"struct" if isinstance(item, h5py.Group) else b"")
    return kind.decode() if isinstance(kind, bytes) else str(kind)


def _from_hdf5(item: h5py.Dataset | h5py.Group, fields: Collection[str], depth: int = 0) -> Value:
    if isinstance(item, h5py.Group):
        return _structs(item, fields)
    what, kind = f"variable {item.name!r}", _class_of(item)
    if "MATLAB_empty" in item.attrs:  # the numbers stored are the sizes of the axes
        return "" if kind == "char" else None
    if h5py.check_ref_dtype(item.dtype):
        # a cell in a cell could hold itself, and is of no use here
        found: Any = _hdf5.load(item, what).T.ravel(order="F") if depth < 2 else []
        return [_from_hdf5(item.file[reference], (), depth + 1) for reference in found]
    if item.dtype.kind not in "biuf":
        return None
    values = _hdf5.load(item, what).T
    if kind == "char":
        lines = ["".join(map(chr, line)).rstrip() for line in np.atleast_2d(values)]
        return lines[0] if len(lines) == 1 else list(lines)
    return values


def _structs(group: h5py.Group, fields: Collection[str]) -> Value:
    """Give a struct's elements; the fields of a struct array hold references, one an element."""
    items = _hdf5.items(group)
    held = {field: items[field] for field in fields if field in items}
    columns = {
        field: _from_hdf5(item, (), 1)
        if _is_references(item) and _class_of(item) != "cell"
        else [_from_hdf5(item, (), 1)]
        for field, item in held.items()
    }
    sizes = {len(column) for column in columns.values() if column is not None}
    if len(sizes) > 1:
        refuse(f"the fields of struct {group.name!r} have different numbers of elements: {sorted(sizes)}")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _is_references(item: h5py.Dataset | h5py.Group) -> bool:
    return isinstance(item, h5py.Dataset) and h5py.check_ref_dtype(item.dtype) is not None


MatFile = ScipyFile | Hdf5File


def opened(path: Path) -> MatFile:
    """Give the kind of file that `path` is."""
    if h5py.is_hdf5(path):
        check_file(path)
        return Hdf5File(path)
    check_tags(path)
    return ScipyFile(path)
