"""Stores for the patterns of a frozen network, so that each stimulus passes through the network only once.

Patterns are stored in groups. A group is what a pattern depends on besides the stimulus: the weights and printed
structure of the network, the layer and its readout. The key within a group identifies the stimulus: the SHA-256 of its
raw content and the ``repr`` of the transform, or of the transformed image if different transforms can have that
``repr``. Dissimilarities are not stored, because they are cheap to compute and there are many kinds.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import CellType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor, nn

from brainrdl._core.errors import arg, check_option, refuse
from brainrdl._core.files import digest_tensor, reason

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PRECISIONS = ("float32", "float16")

# One record per pattern: SHA-256 of the key, SHA-256 of key and pattern, and the first 8 bytes of the SHA-256 of both.
_RECORD = np.dtype([("key", "V32"), ("sum", "V32"), ("check", "V8")])


@runtime_checkable
class FeatureStore(Protocol):
    """Anything that stores patterns by group and key.

    Examples
    --------
    >>> isinstance(MemoryStore(), FeatureStore)
    True
    """

    precision: str

    def get(self, group: str, keys: Sequence[str]) -> dict[str, Tensor]:
        """Return the stored patterns among `keys`, on the CPU."""

    def put(self, group: str, keys: Sequence[str], patterns: Tensor) -> dict[str, Tensor]:
        """Store one pattern per key, and return them as they are stored."""

    def check_room(self, n_values: int) -> None:
        """Refuse to begin if the disk has too little space for this many values."""


class MemoryStore:
    """Keep patterns in memory, on the CPU, as long as the object exists.

    Parameters
    ----------
    precision : {"float32", "float16"}
        Type of the stored numbers.

    Raises
    ------
    BrainrdlError
        If `precision` is unknown.

    Examples
    --------
    >>> store = MemoryStore()
    >>> _ = store.put("conv1", ["a"], torch.ones(1, 2))
    >>> store.get("conv1", ["a", "b"])
    {'a': tensor([1., 1.])}
    """

    def __init__(self, precision: str = "float32") -> None:
        self.precision = check_option(precision, PRECISIONS, "cache_precision")
        self._patterns: dict[tuple[str, str], Tensor] = {}

    def get(self, group: str, keys: Sequence[str]) -> dict[str, Tensor]:
        """Return the stored patterns among `keys`."""
        return {key: self._patterns[group, key] for key in keys if (group, key) in self._patterns}

    def put(self, group: str, keys: Sequence[str], patterns: Tensor) -> dict[str, Tensor]:
        """Store a copy of one pattern per key, and return them as they are stored."""
        rows = dict(zip(keys, rounded(patterns, self.precision).clone(), strict=True))
        self._patterns |= {(group, key): row for key, row in rows.items()}
        return rows

    def check_room(self, n_values: int) -> None:
        """Refuse to begin if `n_values` need more memory than is available."""
        _check_room(n_values, self.precision, psutil.virtual_memory().available, "the memory of this computer")


class ShardStore:
    """Keep patterns in a folder, in two files per group, which several processes may share.

    The file ``.rows`` holds one pattern after another, and is mapped into memory. The file ``.index`` holds, for each
    of them, its key and checksums. New patterns are added at the end, under a lock, rows first, so that other processes
    never see part of a pattern. A pattern or record whose checksum differs (a full disk, an incomplete copy, a fault of
    the disk) counts as missing, and is added again. Each pattern is checked when it is first read.

    Parameters
    ----------
    folder : Path or str
        Folder of the files; created if it does not exist.
    precision : {"float32", "float16"}
        Type of the stored numbers.

    Raises
    ------
    BrainrdlError
        If the folder cannot be created, or `precision` is unknown.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = ShardStore(folder).put("conv1", ["a"], torch.ones(1, 2))
    ...     ShardStore(folder).get("conv1", ["a", "b"])
    {'a': tensor([1., 1.])}
    """

    def __init__(self, folder: Path | str, precision: str = "float32") -> None:
        self.folder, self.precision = Path(folder), check_option(precision, PRECISIONS, "cache_precision")
        self._shards: dict[str, _Shard] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            refuse(f"cannot make cache folder {str(folder)!r}: {reason(error)}; choose another")

    def __reduce__(self) -> Any:
        return ShardStore, (self.folder, self.precision)  # a copy for another process opens the files itself

    def get(self, group: str, keys: Sequence[str]) -> dict[str, Tensor]:
        """Return the stored patterns among `keys` that are as they were written."""
        found: dict[str, Tensor] = {}
        for path in self.folder.glob(f"{_file_of(group)}-*-{self.precision}.index"):
            found |= self._shard(path.stem).get([key for key in keys if key not in found])
        return found

    def put(self, group: str, keys: Sequence[str], patterns: Tensor) -> dict[str, Tensor]:
        """Add one pattern per key, and return them as they are stored.

        Raises
        ------
        BrainrdlError
            If the files cannot be written, the disk has too little space, or a value is too large for float16.
        """
        rows = rounded(patterns, self.precision)
        self.check_room(rows.numel())
        shard = self._shard(f"{_file_of(group)}-{rows.shape[1]}-{self.precision}")
        try:
            shard.add(keys, rows.contiguous().numpy())
        except OSError as error:
            refuse(f"cannot write into cache folder {str(self.folder)!r}: {reason(error)}")
        return dict(zip(keys, rows, strict=True))

    def check_room(self, n_values: int) -> None:
        """Refuse to begin if `n_values` need more space than is free on the disk."""
        free = shutil.disk_usage(self.folder).free
        _check_room(n_values, self.precision, free, f"the disk of cache folder {str(self.folder)!r}")

    def _shard(self, name: str) -> _Shard:
        if name not in self._shards:
            self._shards[name] = _Shard(self.folder / name, int(name.split("-")[-2]), np.dtype(self.precision))
        return self._shards[name]


class _Shard:
    """The two files of patterns of one group and size."""

    def __init__(self, path: Path, n_channels: int, dtype: np.dtype[Any]) -> None:
        self._rows_path, self._index_path = path.with_name(path.name + ".rows"), path.with_name(path.name + ".index")
        self._n_channels, self._dtype = n_channels, dtype
        self._places: dict[bytes, int] = {}  # of the last record of each key
        self._sums: list[bytes] = []
        self._checked: set[int] = set()
        self._rows: npt.NDArray[Any] | None = None

    def get(self, keys: Sequence[str]) -> dict[str, Tensor]:
        hashed = {key: _hashed(key) for key in keys}
        if any(one not in self._places for one in hashed.values()):
            self._read_index()
        places = {key: self._places[one] for key, one in hashed.items() if one in self._places}
        if not places:
            return {}
        rows = self._mapped()
        whole = {key: place for key, place in places.items() if self._is_whole(rows, place, hashed[key])}
        values = torch.from_numpy(np.asarray(rows[list(whole.values())]))
        return dict(zip(whole, values, strict=True))

    def _mapped(self) -> npt.NDArray[Any]:
        """Map the rows again if there are more; rows that an incomplete copy lacks are left out."""
        row = self._n_channels * self._dtype.itemsize
        n = min(len(self._sums), self._rows_path.stat().st_size // row) if self._rows_path.exists() else 0
        if self._rows is None or len(self._rows) < n:
            self._rows = np.memmap(self._rows_path, self._dtype, "r", shape=(n, self._n_channels)) if n else None
        return np.empty((0, self._n_channels), self._dtype) if self._rows is None else self._rows

    def _is_whole(self, rows: npt.NDArray[Any], place: int, key: bytes) -> bool:
        if place in self._checked:
            return True
        if place >= len(rows) or _sum(key, rows[place]) != self._sums[place]:
            self._places.pop(key)
            return False
        self._checked.add(place)
        return True

    def _read_index(self) -> None:
        """Read the records that were added since the last time."""
        try:
            with self._index_path.open("rb") as file:
                self._read_new(file)
        except FileNotFoundError:
            return

    def _read_new(self, file: Any) -> None:
        file.seek(len(self._sums) * _RECORD.itemsize)
        content = file.read()
        records = np.frombuffer(content, _RECORD, count=len(content) // _RECORD.itemsize)
        for key, total, check in zip(*(records[name].tolist() for name in ("key", "sum", "check")), strict=True):
            if hashlib.sha256(key + total).digest()[:8] == check:
                self._places[key] = len(self._sums)
            self._sums.append(total)

    def add(self, keys: Sequence[str], rows: npt.NDArray[Any]) -> None:
        self._index_path.touch()
        self._rows_path.touch()
        with self._index_path.open("r+b") as index, _exclusive(index):
            self._read_new(index)
            new = {_hashed(key): row for key, row in zip(keys, rows, strict=True) if _hashed(key) not in self._places}
            sums = {key: _sum(key, row) for key, row in new.items()}
            with self._rows_path.open("r+b") as file:
                file.seek(len(self._sums) * self._n_channels * self._dtype.itemsize)
                file.write(b"".join(row.tobytes() for row in new.values()))
            records = [key + total + hashlib.sha256(key + total).digest()[:8] for key, total in sums.items()]
            index.seek(len(self._sums) * _RECORD.itemsize)
            index.write(b"".join(records))


def _file_of(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()[:32]


def _hashed(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _sum(key: bytes, row: npt.NDArray[Any]) -> bytes:
    return hashlib.sha256(key + row.tobytes()).digest()


@contextmanager
def _exclusive(opened: Any) -> Iterator[None]:
    """Wait for the lock of a file; where there is none, what two processes write at once fails its checksums."""
    with suppress(OSError):  # some network file systems
        if fcntl is not None:
            fcntl.flock(opened, fcntl.LOCK_EX)
    yield
    opened.flush()  # before the lock is given back, with the file


def rounded(patterns: Tensor, precision: str) -> Tensor:
    """Return patterns on the CPU, as they are stored.

    Raises
    ------
    BrainrdlError
        If a finite value is too large for the precision.

    Examples
    --------
    >>> rounded(torch.tensor([0.1]), "float16").dtype
    torch.float16
    """
    exact = patterns.detach().cpu()
    stored = exact.to(getattr(torch, precision))
    if bool((stored.isinf() & exact.isfinite()).any()):
        refuse(
            f"patterns with values up to {float(exact[exact.isfinite()].abs().max()):.3g} cannot be stored as "
            f"{precision} (at most {torch.finfo(stored.dtype).max:.0f}); use {arg('cache_precision', 'float32')}"
        )
    return stored


def _check_room(n_values: int, precision: str, free: int, where: str) -> None:
    needed = n_values * np.dtype(precision).itemsize
    if needed > free:
        refuse(
            f"the patterns need {needed / 2**30:.2f} GiB, but {where} has {free / 2**30:.2f} GiB free; choose fewer or "
            f"smaller layers, {arg('pool', 'avgpool', of='teacher')}, {arg('cache_precision', 'float16')} or another "
            "folder"
        )


def key_of(parts: Iterable[str]) -> str:
    """Join the parts on which a pattern depends into one key.

    Parameters
    ----------
    parts : iterable of str
        For example the digests of network and stimulus, and the name of the layer.

    Returns
    -------
    str
        SHA-256 in hexadecimal, 64 characters.

    Examples
    --------
    >>> key_of(["ab", "c"]) == key_of(["a", "bc"])
    False
    """
    # repr quotes each part, so different lists never give the same text.
    return hashlib.sha256(repr(list(parts)).encode()).hexdigest()


def digest_network(model: nn.Module) -> str:
    """Hash the class, the printed structure, all weights, and what else the modules of a network hold.

    The printed structure contains strides, paddings and activations, which are not part of the weights. Attributes with
    plain values (numbers, text, lists of these), buffers that are not saved, and forward hooks count as well. Code that
    changes none of these, nor the name of the class, does not change the hash.

    Parameters
    ----------
    model : nn.Module
        Any network.

    Returns
    -------
    str
        SHA-256 in hexadecimal, 64 characters.

    Examples
    --------
    >>> import torch
    >>> model = nn.Linear(2, 1)
    >>> before = digest_network(model)
    >>> with torch.no_grad():
    ...     _ = model.weight.add_(1)
    >>> digest_network(model) == before
    False
    """
    cls = type(model)
    weights = {**dict(model.named_buffers()), **model.state_dict()}
    state = (f"{name} {digest_tensor(value)}" for name, value in weights.items())
    return key_of([f"{cls.__module__}.{cls.__qualname__}", repr(model), *state, *held_by(model)])


def held_by(model: nn.Module) -> Iterator[str]:
    """Describe the plain attributes and the forward hooks of all modules of a network.

    Examples
    --------
    >>> list(held_by(nn.Sequential(nn.Flatten(2))))
    ['0 start_dim=2', '0 end_dim=-1']
    """
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if not name.startswith("_") and name != "training" and _is_plain(value):
                yield f"{path} {name}={value!r}"
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
            yield f"{path} {_of_function(hook)}"


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):  # not sets, whose order differs between processes
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, (*value, *value.values())))
    return value is None or isinstance(value, bool | int | float | complex | str | bytes)


def _of_function(function: Any) -> str:
    """Describe a function by its name, code and the plain values and tensors that it uses."""
    code = getattr(function, "__code__", None)
    if code is None:
        return f"{type(function).__module__}.{type(function).__qualname__} {getattr(function, '__qualname__', '')}"
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != CellType()]  # not the empty ones
    values = [*cells, *(function.__defaults__ or ()), *(constant for constant in code.co_consts if _is_plain(constant))]
    used = [
        digest_tensor(value) if isinstance(value, torch.Tensor) else repr(value)
        for value in values
        if _is_plain(value) or isinstance(value, torch.Tensor)
    ]
    return " ".join([function.__module__, function.__qualname__, code.co_code.hex(), *code.co_names, *used])
