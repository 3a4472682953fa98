"""Stores for the patterns of a frozen network, so that each stimulus passes through the network only once.

The key of a pattern is the SHA-256 of everything that the pattern depends on: the weights and printed structure of the
network, the layer and pooling, and the stimulus. For the stimulus, this is its raw content and the ``repr`` of the
transform, or the transformed image itself if different transforms can have that ``repr``. Dissimilarities are not
stored, because they are cheap to compute and there are many kinds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from brainrdl._core.errors import BrainrdlError, refuse
from brainrdl._core.files import digest_tensor, read_safetensors, reason, write_safetensors


@runtime_checkable
class FeatureStore(Protocol):
    """Anything that stores patterns by key; ``get`` returns None for a key that is not stored.

    Examples
    --------
    >>> isinstance(MemoryStore(), FeatureStore)
    True
    """

    def get(self, key: str) -> Tensor | None:
        """Return the pattern stored under `key`, on the CPU, or None."""

    def put(self, key: str, pattern: Tensor) -> None:
        """Store `pattern` under `key`."""


class MemoryStore:
    """Keep patterns in memory, on the CPU, as long as the object exists.

    Examples
    --------
    >>> import torch
    >>> store = MemoryStore()
    >>> store.put("k", torch.ones(2))
    >>> store.get("k"), store.get("other")
    (tensor([1., 1.]), None)
    """

    def __init__(self) -> None:
        self._patterns: dict[str, Tensor] = {}

    def get(self, key: str) -> Tensor | None:
        """Return the pattern stored under `key`, or None."""
        return self._patterns.get(key)

    def put(self, key: str, pattern: Tensor) -> None:
        """Store a copy of `pattern` under `key`."""
        self._patterns[key] = pattern.detach().to("cpu", copy=True)


class FolderStore:
    """Keep patterns as safetensors files in a folder, which several processes may share.

    A file is first written under another name and then renamed, so that other processes never see part of a file. Two
    processes that write the same file write the same content, so no lock is needed. A file that cannot be read, or
    whose checksum differs (a full disk, an incomplete copy, a fault of the disk), counts as missing and is written
    again.

    Parameters
    ----------
    folder : Path or str
        Folder of the files; created if it does not exist.

    Raises
    ------
    BrainrdlError
        If the folder cannot be created.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     FolderStore(folder).put("k", torch.ones(2))
    ...     FolderStore(folder).get("k")
    tensor([1., 1.])
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            refuse(f"cannot make cache folder {str(folder)!r}: {reason(error)}; choose another")

    def _path(self, key: str) -> Path:
        # Two levels, because folders with a hundred thousand files are slow to list.
        return self.folder / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> Tensor | None:
        """Return the pattern stored under `key`, or None if there is no file that is as it was written."""
        with suppress(BrainrdlError):
            tensors, facts = read_safetensors(self._path(key))
            return tensors["pattern"] if facts.get("key") == key else None
        return None

    def put(self, key: str, pattern: Tensor) -> None:
        """Store `pattern` under `key`; the complete file appears at once."""
        write_safetensors(self._path(key), {"pattern": pattern.cpu()}, {"key": key}, durable=False)


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
    """Hash the class, the printed structure and all weights of a network.

    The printed structure contains strides, paddings and activations, which are not part of the weights. Code that
    changes neither ``repr(model)`` nor the name of the class does not change the hash.

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
    state = (f"{name} {digest_tensor(value)}" for name, value in model.state_dict().items())
    return key_of([f"{cls.__module__}.{cls.__qualname__}", repr(model), *state])
