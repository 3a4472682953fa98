"""NumPy's ``.npy`` and ``.npz`` files, and HDF5 files with the same layout, as h5py writes them from Python.

Layout on disk::

    .npy          one RDM (n, n), a stack (n_rdms, n, n), or condensed pairs (n_pairs,) or (n_rdms, n_pairs)
    .npz, .h5     rdms (or rdm)   as above; another key with variable=; any key if the file has a single array
                  names           n names of the conditions, text (optional; another key with names_variable=)
                  subjects        n_rdms names of the subjects (optional)
                  roi             n_rdms names of the regions, or one for all (optional)

With ``patterns=True`` the array holds patterns (n_conditions, n_channels) instead, under the key ``patterns`` in a
``.npz`` or ``.h5`` file, with ``names`` and ``runs`` (one per row) and one subject and roi if known. If there are more
axes, ``axes=`` names them, as in MATLAB files: ``"conditions,conditions,subject"``, ``"conditions,channels,run"``.
Condensed RDMs need ``patterns=False`` (or a name in ``subjects`` for each) if they could also be patterns: because they
are called patterns, features, betas or activations, or because there are as many rows as names or conditions.

Condensed pairs are in row-major upper-triangle order, that of ``scipy.spatial.distance.squareform``. Arrays of Python
objects are stored as pickles and are refused. Names may be a column (n, 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from brainrdl._core.errors import check_option, quote, read_arg, refuse
from brainrdl.rdms.conversion import from_array
from data_adapters._shared import hdf5 as _hdf5
from data_adapters._shared.arrays import (
    by_axes,
    could_be_patterns,
    is_pairs,
    named_axes,
    npy_array,
    npy_keys,
    patterns,
    texts,
)
from data_adapters._shared.measurements import condition_names
from data_adapters._shared.triplet_files import looks_like_triplets

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.rdms import RDMs
_LABELS = ("names", "subjects", "roi", "runs")

_HDF5 = frozenset({".h5", ".hdf5"})

_RDM = re.compile(r"(^|_)rdms?(_|$)", re.IGNORECASE)


class NumpyArrays:
    """Reads RDMs or patterns from NumPy's array files, and from HDF5 files with the same layout.

    Examples
    --------
    >>> READER.sniff(Path("rdms.npz"))
    True
    """

    name = "numpy"
    layout = (
        ".npy: RDMs (n, n), (n_rdms, n, n), (n_pairs,) or (n_rdms, n_pairs); .npz or .h5: the same under the key "
        "'rdms', with 'names', 'subjects' and 'roi' if known; patterns (n_conditions, n_channels) with patterns=True"
    )

    def sniff(self, path: Path) -> bool:
        """Recognise ``.npy`` and ``.npz`` files, except odd-one-out triplets, and HDF5 files with an array of RDMs.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix is ``.npy`` (but not of whole numbers (n_trials, 3)) or ``.npz``, or an HDF5 file has an
            array called ``rdm``, ``rdms``, ``rdm_...`` or ``..._rdm``, or one square array with as many ``names``.
        """
        if path.suffix.lower() in _HDF5:
            return _has_rdms(path)
        return path.suffix.lower() in {".npy", ".npz"} and not looks_like_triplets(path)

    def read(
        self,
        path: Path,
        *,
        variable: str | None = None,
        names_variable: str | None = None,
        patterns: bool | None = None,
        axes: str | None = None,
    ) -> RDMs | Dataset:
        """Read and check the RDMs, or the patterns.

        Parameters
        ----------
        path : Path
            The file.
        variable : str, optional
            Key of the array in a ``.npz`` or HDF5 file.
        names_variable : str, optional
            Key of the names, if it is not ``names``.
        patterns : bool, optional
            Whether the array holds patterns instead of RDMs. By default RDMs, if it cannot be both.
        axes : str, optional
            The axis of patterns that counts the conditions, ``"first"`` or ``"last"`` (default: the one whose length
            equals the number of names, or the first if there are no names). Or the names of all axes, as described
            above.

        Returns
        -------
        rsatoolbox.rdm.RDMs or rsatoolbox.data.Dataset
            RDMs (n_rdms, n_pairs) or patterns (n_observations, n_channels), in the unit of the file. With pattern
            (observation) descriptor ``stimulus`` and rdm descriptors (of a Dataset: descriptors) ``subject`` and
            ``roi`` if the file has them.

        Raises
        ------
        BrainrdlError
            If the file is empty or contains Python objects; if it is not clear which array is meant, or whether it
            holds patterns; if the file declares more data than it contains, or an RDM is not valid.
        """
        if not path.stat().st_size:
            refuse("the file is empty")
        if axes is not None and named_axes(axes) is None and not patterns:
            refuse(
                f"{read_arg('axes', axes)} is only for patterns; use {read_arg('patterns', True)}, or for RDMs name "
                "all axes"
            )
        keys = _keys(path)
        held = {label: label for label in _LABELS}
        if names_variable is not None:
            held["names"] = check_option(names_variable, keys, "names_variable")
        key = _key([key for key in keys if key != names_variable], variable, bool(patterns))
        labels = {label: _labels(path, of) for label, of in held.items() if of in keys and of != key}
        if "names" in labels:
            labels["names"] = condition_names(labels["names"], f"array {held['names']!r}")
        array = _array(path, key)
        if patterns is None and axes is None:
            _check_no_patterns(array, key, labels)
        return _dataset(array, key, labels, axes) if patterns else _rdms(array, key, labels, axes)


def _has_rdms(path: Path) -> bool:
    """Return whether an HDF5 file has an array called RDM, or only a square array and its names."""
    try:
        with h5py.File(path, "r") as file:
            items = _hdf5.items(file)
            arrays = {key: item for key, item in items.items() if isinstance(item, h5py.Dataset) and key not in _LABELS}
            if any(_RDM.search(key) and item.ndim for key, item in arrays.items()):
                return True
            shapes = [item.shape for key, item in arrays.items() if key != "features"]
            return set(items) <= {*arrays, *_LABELS} and len(shapes) == len(arrays) == 1 and _are(items, shapes[0])
    except Exception:  # HDF5 fails in many ways on damaged files
        return False


def _are(items: Mapping[str, Any], shape: tuple[int, ...]) -> bool:
    """Return whether a shape is that of RDMs, with as many conditions as names."""
    return "names" in items and len(shape) in (2, 3) and shape[-1] == shape[-2] == items["names"].size


def _keys(path: Path) -> list[str]:
    if path.suffix.lower() not in _HDF5:
        return npy_keys(path)
    with _hdf5.opened(path) as file:
        arrays = {key: item for key, item in _hdf5.items(file).items() if isinstance(item, h5py.Dataset)}
        if any("MATLAB_class" in item.attrs for item in arrays.values()):
            refuse("the file is a MATLAB file (v7.3), whose axes are reversed; give it the suffix .mat")
        return list(arrays)


def _array(path: Path, key: str) -> np.ndarray:
    if path.suffix.lower() not in _HDF5:
        return npy_array(path, key)
    with _hdf5.opened(path) as file:
        return _hdf5.load(_hdf5.items(file)[key], f"array {key!r}")


def _labels(path: Path, key: str) -> list[str]:
    if path.suffix.lower() not in _HDF5:
        return texts(npy_array(path, key))
    with _hdf5.opened(path) as file:
        return texts(np.array(_hdf5.values(file, key)))


def _key(keys: list[str], variable: str | None, patterns: bool) -> str:
    """Decide which array to read."""
    if variable is not None:
        return check_option(variable, keys, "variable")
    usual = ("patterns",) if patterns else ("rdms", "rdm")
    candidates = [key for key in usual if key in keys] or [key for key in keys if key not in _LABELS]
    if len(candidates) != 1:
        refuse(
            f"choose the array of the {'patterns' if patterns else 'RDMs'} with {read_arg('variable')}: "
            f"{quote(candidates or keys)} "
            f"(and that of the names with {read_arg('names_variable')})"
        )
    return candidates[0]


def _check_no_patterns(array: np.ndarray, key: str, labels: dict[str, list[str]]) -> None:
    """Refuse to guess whether a matrix holds condensed RDMs or patterns."""
    if array.ndim != 2 or array.shape[0] == array.shape[1] or not is_pairs(array.shape[1]):
        return
    n_names = len(labels["names"]) if "names" in labels else None
    if len(labels.get("subjects", [])) != len(array) and could_be_patterns(key, len(array), array.shape[1], n_names):
        refuse(
            f"array {key!r} of shape {array.shape} could hold patterns (n_conditions, n_channels) or condensed RDMs "
            f"(n_rdms, n_pairs): use {read_arg('patterns', True)} or {read_arg('patterns', False)}"
        )


def _rdms(array: np.ndarray, key: str, labels: dict[str, list[str]], axes: str | None) -> RDMs:
    counted: dict[str, list[str]] = {}
    named = named_axes(axes)
    if named is not None:
        array, counted = by_axes(array, named, ("conditions", "conditions"), f"array {key!r}")
    if array.ndim == 2 and array.shape[0] != array.shape[1] and not is_pairs(array.shape[1]):
        refuse(
            f"array {key!r} of shape {array.shape} is not square, and its length fits no number of pairs; "
            f"if it holds patterns (n_conditions, n_channels), use {read_arg('patterns', True)}"
        )
    if array.ndim > 2 and (array.ndim > 3 or array.shape[-1] != array.shape[-2]):
        refuse(
            f"array {key!r} of shape {array.shape} is not a stack of RDMs (n_rdms, n, n); name its axes in their "
            f"order, as in {read_arg('axes', 'conditions,conditions,roi,subject')}"
        )
    rdms = from_array(array, labels.get("names"), descriptors=counted, where=f"array {key!r}")
    for descriptor, label in (("subject", "subjects"), ("roi", "roi")):
        if label in labels:
            rdms.rdm_descriptors[descriptor] = _one_each(labels[label], rdms.n_rdm, label)
    return rdms


def _one_each(labels: list[str], n_rdms: int, key: str) -> list[str]:
    """Repeat a single label for every RDM, and refuse any other number than one per RDM."""
    if len(labels) not in (1, n_rdms):
        refuse(f"array {key!r} has {len(labels)} values for {n_rdms} RDMs")
    return labels if len(labels) == n_rdms else labels * n_rdms


def _dataset(array: np.ndarray, key: str, labels: dict[str, list[str]], axes: str | None) -> Dataset:
    descriptors = {}
    for descriptor, label in (("subject", "subjects"), ("roi", "roi")):
        if label in labels:
            descriptors[descriptor] = _one_each(labels[label], 1, label)[0]
    where = f"array {key!r}"
    return patterns(array, where, names=labels.get("names"), runs=labels.get("runs"), axes=axes, **descriptors)


READER = NumpyArrays()
