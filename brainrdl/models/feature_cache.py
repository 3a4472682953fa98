"""A store of a frozen network's patterns, so that each stimulus passes through the network once.

A pattern's key is the SHA-256 of everything it depends on: the network's weights and printed structure, the layer and
pooling, and the stimulus (its raw content with the transform's ``repr``, or the transformed image itself where that
``repr`` does not tell one transform from another). Dissimilarities are not stored: they cost little and vary.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from brainrdl._core.files import digest_tensor


@runtime_checkable
class FeatureStore(Protocol):
    """Where patterns are kept: ``get`` gives None for a key that is not there."""

    def get(self, key: str) -> Tensor | None:
        """Give the pattern stored under `key`, on the CPU, or None."""

    def put(self, key: str, pattern: Tensor) -> None:
        """Store `pattern` under `key`."""


class MemoryStore:
    """Patterns kept in memory, on the CPU, for as long as the object lives.

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
        """Give the pattern stored under `key`, or None."""
        return self._patterns.get(key)

    def put(self, key: str, pattern: Tensor) -> None:
        """Store a copy of `pattern` under `key`."""
        self._patterns[key] = pattern.detach().to("cpu", copy=True)


class FolderStore:
    """Patterns kept as safetensors files in a folder; several processes may share it.

    A file is written under another name first and then renamed, so that a reader sees all of it or none. A file that
    cannot be read (a full disk, a broken copy) counts as not there, and is written again.

    Parameters
    ----------
    folder : Path or str
        Created if missing.

    Examples
    --------
    >>> import torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     FolderStore(folder).put("k", torch.ones(2))
    ...     FolderStore(folder).get("k")
    tensor([1., 1.])
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def _path(self, key: str) -> Path:
        # Two levels, because folders with a hundred thousand files are slow to list.
        return self.folder / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> Tensor | None:
        """Give the pattern stored under `key`, or None where there is no readable file."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(self._path(key).read_bytes()).get("pattern")
        except (FileNotFoundError, SafetensorError):
            return None

    def put(self, key: str, pattern: Tensor) -> None:
        """Write `pattern` under `key`, atomically."""
        from safetensors.torch import save

        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        content = save({"pattern": pattern.detach().cpu().contiguous()})
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as opened:
            part = Path(opened.name)
            try:
                opened.write(content)
                opened.close()
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)


def key_of(parts: Iterable[str]) -> str:
    """Join the parts a pattern depends on into one SHA-256 hex key.

    Examples
    --------
    >>> key_of(["ab", "c"]) == key_of(["a", "bc"])
    False
    """
    # repr quotes each part, so no two different lists read the same.
    return hashlib.sha256(repr(list(parts)).encode()).hexdigest()


def digest_network(model: nn.Module) -> str:
    """Hash a network's class, printed structure and every entry of its state (SHA-256, hex).

    The printed structure holds strides, paddings and activations, which the weights do not tell. Code that shows
    neither in ``repr(model)`` nor in the class's name is not covered.

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
