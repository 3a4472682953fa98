"""PyTorch's ``.pt`` files, as ``torch.save`` writes them since 2020: tensors and texts, without running code.

They hold a pickle, which ``torch.load(weights_only=True)`` reads with an interpreter of its own that knows tensors,
numbers, texts, lists and dictionaries and refuses everything else. Files in the older format, without an archive, and
compressed archives are refused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brainrdl._core.errors import quote, refuse
from data_adapters._shared.arrays import check_size

SUFFIXES = frozenset({".pt", ".pth"})


def torch_arrays(path: Path) -> dict[str, np.ndarray]:
    """Load the tensors of a file, and its texts and lists of texts, as arrays; a single tensor has the file's name.

    Raises
    ------
    BrainrdlError
        If the file is damaged or compressed, holds other objects, or a tensor that is larger than the file.
    """
    held = _loaded(path)
    if not isinstance(held, Mapping):
        held = {path.name: held}
    arrays = {str(key): _array(str(key), value, path) for key, value in held.items()}
    found = {key: array for key, array in arrays.items() if array is not None}
    if not found:
        refuse(f"it holds no tensor, but {quote(sorted({type(value).__name__ for value in held.values()}))}")
    return found


def _loaded(path: Path) -> Any:
    import torch

    if not zipfile.is_zipfile(path):
        refuse("it is not an archive of torch.save (or is cut off, or older than PyTorch 1.6); save the tensors again")
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            refuse("its archive is compressed, which torch.save does not do")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":
            raise
        refuse(
            "it holds other Python objects than tensors, numbers, texts, lists and dictionaries, and loading them "
            f"could run any code ({str(error).splitlines()[0]}); save the tensors alone, or as .npz"
        )


def _array(key: str, value: Any, path: Path) -> np.ndarray | None:
    """Give a tensor, a text or a list of texts or numbers as an array; None for anything else."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.is_sparse or value.is_quantized:
            refuse(f"tensor {key!r} is sparse or quantised; save it as a dense tensor of numbers")
        check_size(value.numel() * value.element_size(), path.stat().st_size, f"tensor {key!r}")
        small = value.is_floating_point() and value.element_size() < 4
        array: np.ndarray = (value.detach().float() if small else value.detach()).numpy()
        return array
    if isinstance(value, str):
        return np.array(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(each, (str, int, float)) for each in value):
        return np.array(list(map(str, value)))
    return None
