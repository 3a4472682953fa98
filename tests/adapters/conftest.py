"""Sound files of every layout, for the tests of one reader and for the fuzzer of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.spatial.distance import squareform

NAMES = ("cat", "dog", "car", "tree")


@pytest.fixture
def stack() -> np.ndarray:
    """Two RDMs of four conditions."""
    return np.stack([squareform(pairs) for pairs in np.random.default_rng(0).uniform(0.1, 1, (2, 6))])


@pytest.fixture
def matlab73() -> Callable[..., Path]:
    """Write variables as MATLAB's ``save -v7.3`` does: axes reversed, texts as uint16, struct arrays as references."""

    def write(path: Path, **variables: np.ndarray | list[dict[str, object]]) -> Path:
        with h5py.File(path, "w", userblock_size=512) as file:
            for key, value in variables.items():
                if isinstance(value, list):
                    _struct_array(file, key, value)
                else:
                    _dataset(file, key, value)
        with path.open("r+b") as opened:
            opened.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
        return path

    return write


def _dataset(group: h5py.Group, key: str, value: object) -> h5py.Dataset:
    if isinstance(value, str):
        # MATLAB keeps an empty text as the sizes of its axes, with a mark
        codes = np.array([[ord(letter)] for letter in value] or [0, 0], dtype=np.uint16 if value else np.uint64)
        made = group.create_dataset(key, data=codes)
        made.attrs["MATLAB_class"] = np.bytes_("char")
        if not value:
            made.attrs["MATLAB_empty"] = np.uint8(1)
        return made
    made = group.create_dataset(key, data=np.asarray(value).T)
    made.attrs["MATLAB_class"] = np.bytes_(
        {"float32": "single", "float64": "double"}.get(str(np.asarray(value).dtype), "uint8")
    )
    return made


def _struct_array(file: h5py.File, key: str, elements: Sequence[dict[str, object]]) -> None:
    group = file.create_group(key)
    group.attrs["MATLAB_class"] = np.bytes_("struct")
    if len(elements) == 1:
        for field, value in elements[0].items():
            _dataset(group, field, value)
        return
    store = file.require_group("#refs#")
    for field in elements[0]:
        held = [_dataset(store, f"{key}{field}{index}", each[field]) for index, each in enumerate(elements)]
        references = np.array([[item.ref] for item in held], dtype=h5py.ref_dtype)
        group.create_dataset(field, data=references, dtype=h5py.ref_dtype)
