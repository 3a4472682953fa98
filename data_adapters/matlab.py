"""MATLAB's ``.mat`` files, v4 to v7 (SciPy) and v7.3 (HDF5), read alike.

Layout on disk: any variable that is

- one RDM (n, n); a stack (n_rdms, n, n) or (n, n, n_rdms); condensed pairs as ``squareform`` gives them, a vector or a
  matrix of (n_rdms, n_pairs) or (n_pairs, n_rdms). Where both the first and the last axis could count the RDMs,
  ``axes=`` must say which;
- a struct or struct array with the field ``RDM`` (any of the above) and, if known, ``name``, as the RSA toolbox for
  MATLAB writes it. Names like ``"hIT | BE | Session: 1"`` or ``"hIT | BE"`` are also split into roi, subject and
  session.

Of several such variables ``variable=`` picks one. Without it, stacks of one shape (``EVC_RDMs``, ``IT_RDMs``) are read
as regions. RDMs in a stack are taken to be subjects ``"1"``, ``"2"``, ... v7.3 stores all axes reversed, which is
undone here. Struct arrays come in MATLAB's order, the first index fastest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch

from brainrdl._checks import check_option, refuse
from brainrdl.rdms import from_array, from_tensor

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

# What a variable holds: (name, array) for each element of a struct array, (None, array) for a plain array.
Records = list[tuple[str | None, np.ndarray]]

_NAME = re.compile(r"(?P<roi>[^|]+?) *\| *(?P<subject>[^|]+?)(?: *\| *Session: *(?P<session>[^|]+))?")
_AFFIX = re.compile(r"^rdms?_|_rdms?$", re.IGNORECASE)


class Matlab:
    """Reads RDMs from MATLAB's files without running anything in them.

    Examples
    --------
    >>> READER.sniff(Path("92_brainRDMs.mat"))
    True
    """

    name = "matlab"
    layout = (
        ".mat of any version: RDMs (n, n), (n_rdms, n, n), (n, n, n_rdms) or condensed, or structs with the fields RDM "
        "and name"
    )

    def sniff(self, path: Path) -> bool:
        """Take files by their suffix.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix is ``.mat``.
        """
        return path.suffix.lower() == ".mat"

    def read(self, path: Path, *, variable: str | None = None, axes: str | None = None) -> RDMs:
        """Read and check the RDMs.

        Parameters
        ----------
        path : Path
            The file.
        variable : str, optional
            The variable to read.
        axes : {"first", "last"}, optional
            Which axis of an array counts the RDMs, where its shape leaves that open.

        Returns
        -------
        rsatoolbox.rdm.RDMs
            Without names of conditions; rdm descriptors ``name``, ``roi``, ``subject``, ``session`` as far as known.

        Raises
        ------
        BrainrdlError
            If the file is empty or holds no RDM, leaves open which variable or axis is meant, or an RDM is not sound.
        """
        if not path.stat().st_size:
            refuse("the file is empty")
        variables = _hdf5_variables(path) if h5py.is_hdf5(path) else _scipy_variables(path)
        keys = _chosen({key: records for key, records in variables.items() if records}, variable)
        return _joined([_read(key, variables[key], axes, several=len(keys) > 1) for key in keys], keys)


def _scipy_variables(path: Path) -> dict[str, Records]:
    """Load the numeric arrays, and the structs with an RDM, of a v4 to v7 file."""
    from scipy.io import loadmat

    found: dict[str, Records] = {}
    for key, value in loadmat(path).items():
        fields = getattr(value.dtype, "names", None) if isinstance(value, np.ndarray) else None
        if fields and "RDM" in fields:
            elements = value.ravel(order="F")
            found[key] = [(_text(each["name"]) if "name" in fields else "", each["RDM"]) for each in elements]
        elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            found[key] = [(None, value)]
    return found


def _hdf5_variables(path: Path) -> dict[str, Records]:
    """Load the numeric arrays, and the structs with an RDM, of a v7.3 file, with MATLAB's order of axes."""
    found: dict[str, Records] = {}
    with h5py.File(path, "r") as file:
        for key, item in file.items():
            if isinstance(item, h5py.Group):
                if "RDM" in item:
                    found[key] = _hdf5_struct(item)
            elif (
                item.dtype.kind in "biuf"
                and item.attrs.get("MATLAB_class") != b"char"
                and "MATLAB_empty" not in item.attrs
            ):
                found[key] = [(None, item[()].T)]
    return found


def _hdf5_struct(group: h5py.Group) -> Records:
    """Give a struct's RDMs and names; a struct array holds references, one an element."""
    arrays = [item[()].T for item in _elements(group, "RDM")]
    texts = ["".join(map(chr, item[()].ravel())) for item in _elements(group, "name")] or [""] * len(arrays)
    return list(zip(texts, arrays, strict=True))


def _elements(group: h5py.Group, field: str) -> Iterator[h5py.Dataset]:
    if field in group and h5py.check_ref_dtype(group[field].dtype):
        yield from (group.file[reference] for reference in group[field][()].ravel())
    elif field in group:
        yield group[field]


def _text(value: Any) -> str:
    return str(value.item()) if np.size(value) == 1 else ""


def _chosen(variables: Mapping[str, Records], variable: str | None) -> list[str]:
    """Decide which variables to read: the one asked for, the only one possible, or all stacks of one shape."""
    if variable is not None:
        return [check_option(variable, variables, "variable")]
    possible = [key for key, records in variables.items() if all(_axes(array.shape) for _, array in records)]
    # a vector of 105 numbers may be an RDM of 15 conditions or anything else: only where nothing is surer
    keys = [key for key in possible if _is_sure(variables[key])] or possible
    shapes = {tuple(array.shape for _, array in variables[key]) for key in keys}
    plain = all(label is None for key in keys for label, _ in variables[key])
    listed = ", ".join(f"{key} {_shape_of(variables[key])}" for key in keys or variables)
    if not keys:
        refuse(f"no variable is an RDM, a stack of RDMs, or a struct with the field RDM; there are: {listed or 'none'}")
    if len(keys) > 1 and not (plain and len(shapes) == 1):
        refuse(f"several variables could be the RDMs, choose one with variable=: {listed}")
    return keys


def _is_sure(records: Records) -> bool:
    return all(
        label is not None or len(set(_squeezed(array.shape))) < len(_squeezed(array.shape)) for label, array in records
    )


def _shape_of(records: Records) -> str:
    return f"(struct array of {len(records)})" if records[0][0] is not None else str(records[0][1].shape)


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _axes(shape: Sequence[int]) -> list[str]:
    """Say which axis can count the RDMs, ``"first"``, ``"last"``, or both; a single RDM counts as ``"first"``."""
    sizes = _squeezed(shape)
    if len(sizes) == 1 or (len(sizes) == 2 and sizes[0] != sizes[1]):
        possible = [("first", _is_pairs(sizes[-1])), ("last", len(sizes) == 2 and _is_pairs(sizes[0]))]
    elif len(sizes) in (2, 3):
        possible = [("first", sizes[-1] == sizes[-2] >= 3), ("last", len(sizes) == 3 and sizes[0] == sizes[1] >= 3)]
    else:
        possible = []
    return [axis for axis, fits in possible if fits]


def _is_pairs(n_pairs: int) -> bool:
    n = (1 + isqrt(1 + 8 * n_pairs)) // 2
    return n >= 3 and n * (n - 1) // 2 == n_pairs


def _read(key: str, records: Records, axes: str | None, several: bool) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Give one variable's pairs (n_rdms, n_pairs) and descriptors."""
    named = [(label, f"variable {key!r}" + (f", {label!r}" if label else ""), array) for label, array in records]
    blocks = [from_array(_stack(array, axes, where), None, where=where).dissimilarities for _, where, array in named]
    if len({block.shape[1] for block in blocks}) != 1:
        refuse(f"the RDMs of variable {key!r} have different numbers of pairs: {[block.shape[1] for block in blocks]}")
    if records[0][0] is not None:
        labels = [label or "" for (label, _), block in zip(records, blocks, strict=True) for _ in block]
        return np.concatenate(blocks), _split(labels)
    return blocks[0], _numbered(key, len(blocks[0]), several)


def _stack(array: np.ndarray, axes: str | None, where: str) -> np.ndarray:
    """Bring the axis of RDMs to the front."""
    possible = _axes(array.shape)
    if not possible:
        refuse(f"{where} is no RDM, stack of RDMs or condensed RDM: its shape is {array.shape}")
    if axes is None and len(possible) > 1:
        refuse(
            f"{where} has shape {array.shape}, and either axis could count the RDMs: say axes='first' or axes='last'"
        )
    chosen = possible[0] if axes is None else check_option(axes, possible, f"axes of {where} with shape {array.shape}")
    squeezed = array.reshape(_squeezed(array.shape))
    return np.moveaxis(squeezed, -1, 0) if chosen == "last" else squeezed


def _split(labels: list[str]) -> dict[str, list[str]]:
    """Keep the names, and split them where all follow one pattern."""
    matches = [match for match in map(_NAME.fullmatch, labels) if match]
    parts = [{part: text for part, text in match.groupdict().items() if text} for match in matches]
    alike = len(parts) == len(labels) and len({frozenset(part) for part in parts}) == 1
    return {"name": labels} | ({part: [each[part] for each in parts] for part in parts[0]} if alike else {})


def _numbered(key: str, n_rdms: int, several: bool) -> dict[str, list[str]]:
    """Give a stack's subjects numbers, and call the region after the variable where its name says so."""
    roi = _AFFIX.sub("", key)
    subjects = {"subject": [str(number) for number in range(1, n_rdms + 1)]} if n_rdms > 1 else {}
    return subjects | ({"roi": [roi] * n_rdms} if several or roi != key else {})


def _joined(blocks: list[tuple[np.ndarray, dict[str, list[str]]]], keys: list[str]) -> RDMs:
    """Join the variables, which have the same descriptors."""
    pairs = np.concatenate([block for block, _ in blocks])
    descriptors = {name: [value for _, columns in blocks for value in columns[name]] for name in blocks[0][1]}
    if "roi" in descriptors and len(set(descriptors["roi"])) < len(keys):  # A_RDM and A_RDMs: keep the whole names
        descriptors["roi"] = [key for key, (block, _) in zip(keys, blocks, strict=True) for _ in block]
    return from_tensor(torch.from_numpy(pairs), None, descriptors=descriptors)


READER = Matlab()
