"""What a run was made with: versions, commit, machine and the digests of its data."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from importlib import metadata
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from brainrdl._core.files import digest

_PACKAGES = ("brainrdl", "torch", "torchvision", "rsatoolbox", "numpy", "accelerate")
_PLAIN = (str, int, float, bool, type(None))
_COMMIT = "# branch.oid "  # before the commit, in the answer of git


def gather_provenance(**hashes: str) -> dict[str, Any]:
    """Versions of the packages, git state of the working folder, platform, and the given data hashes.

    Returns
    -------
    dict

    Examples
    --------
    >>> sorted(gather_provenance(stimuli="ab12"))
    ['git', 'hashes', 'platform', 'python', 'versions']
    """
    return {
        "versions": {name: _version(name) for name in _PACKAGES},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "git": _git_state(),
        "hashes": hashes,
    }


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git_state() -> str:
    """Return the commit of the folder, and whether files differ from it; one process for both, since each fit asks."""
    words = ["git", "status", "--porcelain=v2", "--branch", "--no-ahead-behind"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.splitlines()
    except subprocess.TimeoutExpired:
        return "unknown, because git took longer than 10 seconds"
    except (OSError, subprocess.SubprocessError):
        return "not a git repository"
    commit = next(line.removeprefix(_COMMIT) for line in answer if line.startswith(_COMMIT))
    if commit == "(initial)":
        return "not a git repository"
    return commit + (" with changes" if any(not line.startswith("#") for line in answer) else "")


@runtime_checkable
class Described(Protocol):
    """An object that says itself what it is, in a dict.

    Examples
    --------
    >>> class Noise:
    ...     def settings(self):
    ...         return {"sd": 0.1}
    >>> isinstance(Noise(), Described), describe(Noise())
    (True, {'kind': 'Noise', 'sd': 0.1})
    """

    def settings(self) -> dict[str, Any]:
        """Return what the object is."""


def describe(value: Any) -> Any:
    """Convert `value` to JSON types, the same in every process: functions by name, dataclasses by their fields.

    Examples
    --------
    >>> import torch
    >>> describe({"optimizer": torch.optim.SGD, "lr": 0.1})
    {'optimizer': 'torch.optim.sgd.SGD', 'lr': 0.1}
    """
    if type(value) in _PLAIN:  # most values, and the test for a protocol is slow
        return value
    if isinstance(value, Described) and not isinstance(value, type):
        return {"kind": type(value).__name__} | describe(value.settings())
    if is_dataclass(value) and not isinstance(value, type) and not _can_remember(value):
        return {"kind": type(value).__name__} | {f.name: describe(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, Tensor):
        return digest({"tensor": value})
    if isinstance(value, partial):
        return {"kind": "partial"} | {key: describe(getattr(value, key)) for key in ("func", "args", "keywords")}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, _PLAIN):  # of a subclass
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    where = getattr(named, "__module__", None) or type(named).__module__  # methods of C types have none
    return f"{where}.{named.__qualname__}"


def _can_remember(value: Any) -> bool:
    """Whether a function that is a dataclass can change as it is used; `brainrdl.runs.callables` describes it."""
    return callable(value) and not value.__dataclass_params__.frozen
