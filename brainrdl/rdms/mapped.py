"""RDMs that stay in their file: pairs are read from a memory-mapped HDF5 file when they are needed.

`MappedPairs` are the values of rsatoolbox `RDMs` that were read with ``read(path, memory_map=True)``. An `RDMTeacher`
of such RDMs keeps one `MappedRow` per RDM, which reads the pairs of a batch, and nothing else.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl._core.files import reason
from brainrdl.dissimilarity.pairs import conditions_at, place_of
from brainrdl.rdms.partial import Later

_EXACT = ("f4", "f8")  # types that are kept; others become float64

_AT_ONCE = 2**20  # pairs, whose positions need more memory than their values


class MappedPairs(np.memmap):
    """Dissimilarities (n_rdms, n_pairs) in a file; the whole array, not a part of it, has the attribute `source`."""

    source: MappedFile


class MappedFile:
    """An array (n_rdms, n_pairs) of numbers, stored in one piece in a file, and the state of this file.

    Copies of it, also in other processes, read the same file, and refuse it if it has changed.

    Parameters
    ----------
    path : str
        The file.
    offset : int
        Number of bytes before the first value.
    dtype : str
        Type of the values, as in NumPy.
    shape : tuple of int
        (n_rdms, n_pairs).

    Raises
    ------
    BrainrdlError
        If the file does not exist.

    Examples
    --------
    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/pairs"
    >>> np.arange(6.0).tofile(path)
    >>> MappedFile(path, 0, "<f8", (2, 3)).values()[1].tolist()
    [3.0, 4.0, 5.0]
    """

    def __init__(self, path: str, offset: int, dtype: str, shape: tuple[int, int]) -> None:
        self.path, self.offset, self.dtype, self.shape = path, offset, dtype, shape
        self._state = _state(path)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_values"}

    def values(self) -> MappedPairs:
        """Return the values, unread.

        Raises
        ------
        BrainrdlError
            If the file has changed since this object was made.
        """
        if _state(self.path) != self._state:
            refuse(
                f"file {self.path!r}, whose pairs are read when they are needed, has changed since it was opened; read "
                "it again, and leave it as it is while it is used"
            )
        return self._values

    @cached_property
    def _values(self) -> MappedPairs:
        found = MappedPairs(self.path, self.dtype, "r", self.offset, self.shape)
        found.source = self
        return found


def _state(path: str) -> tuple[int, ...]:
    """Return what differs if a file was replaced or written to."""
    try:
        found = Path(path).stat()
    except OSError as error:
        refuse(f"cannot read {path!r}: {reason(error)}")
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class MappedRow:
    """The pairs of one RDM in a file, of all or some conditions; it is indexed like a tensor (n_pairs,).

    Parameters
    ----------
    source : MappedFile
    row : int
        Which RDM of the file.
    n : int
        Number of its conditions.
    chosen : ndarray, optional
        Positions of the conditions that are used, in their order; by default all.

    Examples
    --------
    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/pairs"
    >>> np.arange(6.0).tofile(path)
    >>> row = MappedRow(MappedFile(path, 0, "<f8", (1, 6)), 0, 4)
    >>> row[2:4]
    tensor([2., 3.], dtype=torch.float64)
    >>> row.of(np.array([3, 0, 1]))[:]
    tensor([2., 4., 0.], dtype=torch.float64)
    """

    def __init__(self, source: MappedFile, row: int, n: int, chosen: npt.NDArray[np.int64] | None = None) -> None:
        self._source, self._row, self._n = source, row, n
        self._chosen = np.arange(n) if chosen is None else chosen
        self._all = chosen is None
        self.shape = torch.Size([len(self._chosen) * (len(self._chosen) - 1) // 2])

    def __getitem__(self, places: slice | Tensor) -> Tensor:
        values = self._source.values()[self._row]
        if isinstance(places, Tensor):
            return _read(values, self._in_file(places.numpy()))
        if self._all:
            return _as_tensor(values[places])
        first, last, _ = places.indices(self.shape[0])
        parts = [np.arange(k, min(k + _AT_ONCE, last)) for k in range(first, last, _AT_ONCE)]
        return torch.cat([_read(values, self._in_file(part)) for part in parts or [np.arange(0)]])

    def _in_file(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if self._all:
            return places
        rows, columns = conditions_at(places, len(self._chosen))
        return place_of(self._chosen[rows], self._chosen[columns], self._n)

    def of(self, positions: npt.NDArray[np.int64]) -> MappedRow:
        """Return the pairs of some of these conditions, by position, in that order."""
        return MappedRow(self._source, self._row, self._n, self._chosen[positions])


def _read(values: npt.NDArray[Any], places: npt.NDArray[np.int64]) -> Tensor:
    """Read values in the order of the file: a disk is many times slower in any other."""
    order = places.argsort()
    found = np.empty(len(places), values.dtype)
    found[order] = values[places[order]]
    return _as_tensor(found)


def _as_tensor(values: npt.NDArray[Any]) -> Tensor:
    kept = values.dtype.str[1:] in _EXACT
    return torch.from_numpy(np.array(values, values.dtype.newbyteorder("=") if kept else np.float64))


def rows_of(pairs: MappedPairs, n: int) -> list[MappedRow]:
    """Return the RDMs, of `n` conditions, in a file."""
    return [MappedRow(pairs.source, row, n) for row in range(len(pairs))]


class PairsOf:
    """Which pairs are pairs of known conditions, for the pairs that are asked for.

    Parameters
    ----------
    known : ndarray of bool, shape (n_conditions,)

    Examples
    --------
    >>> PairsOf(np.array([True, True, False]))[0:2]
    tensor([ True, False])
    """

    def __init__(self, known: npt.NDArray[np.bool_]) -> None:
        self._known = known

    def __getitem__(self, places: slice) -> Tensor:
        n = len(self._known)
        rows, columns = conditions_at(np.arange(*places.indices(n * (n - 1) // 2)), n)
        return torch.from_numpy(self._known[rows] & self._known[columns])


class InDouble:
    """Pairs that are not in memory, in double precision, as those that are selected in memory.

    Examples
    --------
    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/pairs"
    >>> np.ones(6, "f4").tofile(path)
    >>> InDouble(MappedRow(MappedFile(path, 0, "<f4", (1, 6)), 0, 4)).of(np.array([0, 3]))[:]
    tensor([1.], dtype=torch.float64)
    """

    def __init__(self, pairs: Later) -> None:
        self._pairs, self.shape = pairs, pairs.shape

    def __getitem__(self, places: slice | Tensor) -> Tensor:
        return self._pairs[places].double()

    def of(self, positions: npt.NDArray[np.int64]) -> InDouble:
        """Return the pairs of some conditions, by position, in that order."""
        return InDouble(self._pairs.of(positions))
