"""MATLAB's two kinds of file, v4 to v7 (SciPy) and v7.3 (HDF5), as the same few Python types."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from brainrdl._core.errors import check_option, refuse
from brainrdl._core.packed import check_unpacked
from data_adapters._shared import hdf5 as _hdf5
from data_adapters._shared.arrays import check_size
from data_adapters._shared.hdf5 import check_file
from data_adapters._shared.mat5_tags import check_tags

# The value of a variable, in either version: numbers, a text, the elements of a cell array, or those of a struct
# array, each with the fields asked for; None for anything else.
Value = np.ndarray | str | list[Any] | None


class Elements(list[Any]):
    """The elements of a cell array in MATLAB's order, the first index fastest, and the sizes of its axes."""

    def __init__(self, values: Iterable[Any], shape: tuple[int, ...]) -> None:
        super().__init__(values)
        self.shape = shape


# The variables of a file: the shape of numbers, the class of anything else.
Shapes = Mapping[str, tuple[int, ...] | str]

_COMPLEX = ("real", "imag")  # the parts of complex numbers in v7.3

_NUMBERS = frozenset({"double", "single", "logical", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64))})


@dataclass(frozen=True)
class ScipyFile:
    """A file of v4 to v7."""

    path: Path

    @cached_property
    def shapes(self) -> Shapes:
        """List the variables without loading them: the shape of numbers, the class of anything else."""
        return {key: tuple(map(int, shape)) if kind in _NUMBERS else kind for key, shape, kind in self._listed}

    @cached_property
    def _listed(self) -> list[tuple[str, tuple[int, ...], str]]:
        from scipy.io import whosmat

        return whosmat(str(self.path))

    def sizes(self, key: str) -> tuple[int, ...]:
        """Give the sizes of the axes of a variable of any class, without loading it."""
        return next(tuple(shape) for name, shape, _ in self._listed if name == key)

    def shape(self, place: str) -> tuple[int, ...] | str:
        """Give the shape or class of a variable, or of a field, ``"variable.field"``."""
        key, fields = _split(place, self.shapes)
        return _shape_in_scipy(self._found(key, fields)) if fields else self.shapes[key]

    def load(self, place: str, fields: Collection[str] | None) -> Value:
        """Load a variable or a field, of structs only `fields` (None: all)."""
        return _from_scipy(self._found(*_split(place, self.shapes)), fields)

    def _found(self, key: str, fields: list[str]) -> Any:
        from scipy.io import loadmat

        shape = self.shapes[key]
        if isinstance(shape, tuple):
            size, what = self.path.stat().st_size, f"variable {key!r}"
            check_size(prod(shape), size, what)
            check_unpacked(8 * prod(shape), size, what)  # doubles that are whole numbers are stored in fewer bytes
        value = loadmat(str(self.path), variable_names=[key])[key]
        for field in fields:
            _check_field(field, getattr(value, "dtype", np.dtype(bool)).names or (), np.size(value))
            value = value.ravel()[0][field]
        return value


def _split(place: str, shapes: Shapes) -> tuple[str, list[str]]:
    """Split ``"variable.field"``; names of MATLAB's variables have no dot."""
    key, *fields = [place] if place in shapes else place.split(".")
    return check_option(key, shapes, "variable"), fields


def _check_field(field: str, fields: Collection[str], count: int) -> None:
    check_option(field, fields, "field")
    if count != 1:
        refuse(f"{field!r} is a field of a struct array of {count} elements, of which none is chosen; give the array")


def _shape_in_scipy(value: Any) -> tuple[int, ...] | str:
    if not isinstance(value, np.ndarray):
        return "unknown"
    if value.dtype.kind in "biufc":
        return value.shape
    return {"V": "struct", "O": "cell", "U": "char"}.get(value.dtype.kind, "unknown")


def _from_scipy(value: Any, fields: Collection[str] | None) -> Value:
    if not isinstance(value, np.ndarray):
        return None  # a sparse matrix, a MATLAB object, a function
    if value.dtype.names:
        kept = [field for field in value.dtype.names if fields is None or field in fields]
        return [{field: _from_scipy(each[field], ()) for field in kept} for each in value.ravel(order="F")]
    if value.dtype.kind == "U":
        lines = [str(line).rstrip() for line in value.ravel()]
        return lines[0] if len(lines) == 1 else list(lines)
    if value.dtype.kind == "O":
        return Elements((_from_scipy(each, ()) for each in value.ravel(order="F")), value.shape)
    return value if value.dtype.kind in "biufc" else None


@dataclass(frozen=True)
class Hdf5File:
    """A file of v7.3, whose axes HDF5 holds in reverse."""

    path: Path

    @cached_property
    def shapes(self) -> Shapes:
        """List the variables without loading them: the shape of numbers, the class of anything else."""
        with h5py.File(self.path, "r") as file:
            return {key: _shape_of(item) for key, item in _hdf5.items(file).items() if not key.startswith("#")}

    def sizes(self, key: str) -> tuple[int, ...]:
        """Give the sizes of the axes of a variable of any class, without loading it."""
        with h5py.File(self.path, "r") as file:
            return tuple(getattr(_hdf5.items(file)[key], "shape", ()))[::-1]

    def shape(self, place: str) -> tuple[int, ...] | str:
        """Give the shape or class of a variable, or of a field, ``"variable.field"``."""
        with h5py.File(self.path, "r") as file:
            return _shape_of(self._found(file, place))

    def load(self, place: str, fields: Collection[str] | None) -> Value:
        """Load a variable or a field, of structs only `fields` (None: all)."""
        with h5py.File(self.path, "r") as file:
            return _from_hdf5(self._found(file, place), fields)

    def _found(self, file: h5py.File, place: str) -> h5py.Dataset | h5py.Group:
        key, fields = _split(place, self.shapes)
        item = _hdf5.items(file)[key]
        for field in fields:
            held = _hdf5.items(item) if isinstance(item, h5py.Group) else {}
            item = held.get(field, item)
            is_array = field in held and _is_references(item) and _class_of(item) != "cell"
            _check_field(field, held, item.size if is_array else 1)
        return item


def _shape_of(item: h5py.Dataset | h5py.Group) -> tuple[int, ...] | str:
    kind = _class_of(item)
    plain = isinstance(item, h5py.Dataset) and kind not in {"char", "cell"} and _is_numeric(item)
    if "MATLAB_empty" in item.attrs:
        return "empty"
    return tuple(item.shape[::-1]) if plain else kind or "unknown"


def _class_of(item: h5py.Dataset | h5py.Group) -> str:
    """Give MATLAB's class, if the file states it; a file that other software wrote may not."""
    kind = item.attrs.get("MATLAB_class", b"struct" if isinstance(item, h5py.Group) else b"")
    return kind.decode() if isinstance(kind, bytes) else str(kind)


def _is_numeric(item: h5py.Dataset) -> bool:
    return item.dtype.kind in "biuf" or item.dtype.names == _COMPLEX


def _from_hdf5(item: h5py.Dataset | h5py.Group, fields: Collection[str] | None, depth: int = 0) -> Value:
    if isinstance(item, h5py.Group):
        return _structs(item, fields)
    what, kind = f"variable {item.name!r}", _class_of(item)
    if "MATLAB_empty" in item.attrs:  # the numbers stored are the sizes of the axes
        return "" if kind == "char" else None
    if h5py.check_ref_dtype(item.dtype):
        # a cell within a cell could contain itself, and is not needed here
        found: Any = _hdf5.load(item, what).T if depth < 2 else np.empty(0)
        held = (_from_hdf5(item.file[reference], (), depth + 1) for reference in found.ravel(order="F"))
        return Elements(held, found.shape)
    if not _is_numeric(item):
        return None
    values = _hdf5.load(item, what).T
    if item.dtype.names:
        return values["real"] + 1j * values["imag"]
    if kind == "char":
        lines = ["".join(map(chr, line)).rstrip() for line in np.atleast_2d(values)]
        return lines[0] if len(lines) == 1 else list(lines)
    return values


def _structs(group: h5py.Group, fields: Collection[str] | None) -> Value:
    """Give a struct's elements; the fields of a struct array hold one reference per element."""
    items = _hdf5.items(group)
    held = items if fields is None else {field: items[field] for field in fields if field in items}
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
