"""NumPy's ``.npy`` and ``.npz`` files, and HDF5 and PyTorch files (``.pt``) with the same layout.

Layout on disk::

    .npy               one RDM (n, n), a stack (n_rdms, n, n), or condensed pairs (n_pairs,) or (n_rdms, n_pairs)
    .npz, .h5, .pt     rdms (or rdm)   as above; another key with variable=; any key if the file has a single array
                       names           n names of the conditions, text (optional; another key with names_variable=)
                       subjects        n_rdms names of the subjects (optional)
                       roi             n_rdms names of the regions, or one for all (optional); in the same way layer,
                                       model, session, time, task, measure, and all other arrays of text

Net2Brain's RDMs have this layout, with the names ``stimuli_name`` and ``layer_name``. Without such names,
the file does not say what the RDMs of a stack are. ``axes="subject,conditions,conditions"`` says that they are
subjects, ``axes="time,conditions,conditions"`` that they are points in time, whose values are in the array ``time`` (or
``times``), or ``axis_variables={"time": "t"}``. Condensed RDMs have the axis ``pairs`` instead:
``axes="subject,pairs"``.

With ``patterns=True`` the array holds patterns (n_conditions, n_channels) instead, under the key ``patterns``, with
``names`` and ``runs`` (one per row) and one subject and roi if known. If there are more axes, ``axes=`` names them, as
in MATLAB files: ``"conditions,channels,run"``, ``"x,y,z,conditions"`` (GLMsingle's ``betasmd``). Condensed RDMs need
``patterns=False`` (or a name in ``subjects`` for each) if they could also be patterns: because they are called
patterns, features, betas or activations, or because there are as many rows as names or conditions.

Condensed pairs are in row-major upper-triangle order, that of ``scipy.spatial.distance.squareform``, unless
``order="lower"``; ``diagonal=True`` if they include the diagonal. One half of a square may be empty (0 or NaN). Arrays
of Python objects are stored as pickles and are refused. Names may be a column (n, 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from brainrdl._core.errors import check_option, quote, read_arg, refuse
from brainrdl.readers.options import options_from
from data_adapters._shared import hdf5 as _hdf5
from data_adapters._shared.arrays import (
    RdmLayout,
    by_axes,
    could_be_patterns,
    is_pairs,
    is_thingsvision,
    named_axes,
    npy_array,
    npy_keys,
    npz_kind,
    own_axes,
    patterns,
    stem,
    texts,
)
from data_adapters._shared.measurements import condition_names
from data_adapters._shared.torch_files import SUFFIXES as _TORCH, torch_arrays
from data_adapters._shared.triplet_files import looks_like_triplets

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.rdms import RDMs
_LABELS = ("names", "subjects", "roi", "runs", "stimuli_name", "layer_name")

# keys of the labels of RDMs, and the descriptors that they are
_OF_RDMS = {"subjects": "subject", "layer_name": "layer"} | {
    f"{key}{end}": key
    for key in ("subject", "roi", "layer", "model", "session", "time", "task", "measure", "name")
    for end in ("", "s")
    if f"{key}{end}" != "names"
}

_NET2BRAIN, _LAYER = "stimuli_name", "layer_name"  # None, as a Python object, if it is not known

_GLMSINGLE = "betasmd"

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
        ".npy: RDMs (n, n), (n_rdms, n, n), (n_pairs,) or (n_rdms, n_pairs); .npz, .h5 or .pt: the same under the key "
        "'rdms', with 'names', 'subjects' and 'roi' if known; patterns (n_conditions, n_channels) with patterns=True"
    )

    def sniff(self, path: Path) -> bool:
        """Recognise ``.npy`` and ``.npz`` files, except triplets and activations, and other files of RDMs.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix is ``.npy`` (but not of whole numbers (n_trials, 3), nor thingsvision's
            ``features.npy``) or ``.npz``, or an HDF5 or PyTorch
            file has an array called ``rdm``, ``rdms``, ``rdm_...`` or ``..._rdm``, or GLMsingle's ``betasmd``, or one
            square array (with as many ``names`` in HDF5).
        """
        if path.suffix.lower() in _HDF5:
            return _has_rdms(path)
        if path.suffix.lower() in _TORCH:
            return not is_thingsvision(path) and has_torch_rdms(path)
        if is_thingsvision(path):
            return False
        return path.suffix.lower() in {".npy", ".npz"} and not looks_like_triplets(path)

    @options_from(RdmLayout)
    def read(
        self,
        path: Path,
        *,
        variable: str | None = None,
        names_variable: str | None = None,
        patterns: bool | None = None,
        axes: str | None = None,
        axis_variables: dict[str, str] | None = None,
        **options: Any,
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
        axis_variables : dict of str to str, optional
            Keys of the names along axes: ``{"time": "t"}``. By default the array called as the axis, else positions
            count from ``"1"``.
        **options
            How RDMs are stored; see `RdmLayout`.

        Returns
        -------
        rsatoolbox.rdm.RDMs or rsatoolbox.data.Dataset
            RDMs (n_rdms, n_pairs) or patterns (n_observations, n_channels), in the unit of the file. With pattern
            (observation) descriptor ``stimulus`` and rdm descriptors (of a Dataset: descriptors) such as ``subject``
            and ``roi`` if the file has them.

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
        layout = RdmLayout(**options)
        keys = _keys(path)
        names_key = _names_key(path, keys, names_variable)
        key = _key([key for key in keys if key != names_variable], variable, bool(patterns))
        labels: dict[str, list[str]] = {
            label: _labels(path, label) for label in ("subjects", "roi", "runs") if label in keys and label != key
        }
        if names_key is not None and names_key != key:
            names = _labels(path, names_key)
            names = [stem(name) for name in names] if names_key == _NET2BRAIN else names
            labels["names"] = condition_names(names, f"array {names_key!r}")
        array = _array(path, key)
        if patterns is None and axes is None:
            _check_no_patterns(array, key, labels)
        if patterns:
            return _dataset(array, key, labels, axes)
        along = {axis: _labels(path, of) for axis, of in _along(keys, axes, axis_variables).items()}
        others = [each for each in keys if each not in {key, names_key, "runs"}]
        return _rdms(array, key, labels.get("names"), axes, along, layout, _described(path, others))


def _along(keys: list[str], axes: str | None, asked: Mapping[str, str] | None) -> dict[str, str]:
    """Give the keys of the names along axes: those asked for, else those called as the axis."""
    usual = {axis: key for axis in named_axes(axes) or [] for key in (axis, f"{axis}s") if key in keys}
    return usual | {axis: check_option(key, keys, "axis_variables") for axis, key in (asked or {}).items()}


def _names_key(path: Path, keys: list[str], asked: str | None) -> str | None:
    """Give the key of the names: the one asked for, else ``names`` or Net2Brain's, which may hold None."""
    if asked is not None:
        return check_option(asked, keys, "names_variable")
    net2brain = [key for key in keys if key == _NET2BRAIN and _kind(path, key) != "O"]
    return next((key for key in ["names", *net2brain] if key in keys), None)


def has_torch_rdms(path: Path) -> bool:
    """Say whether a file of PyTorch has a tensor called RDM, or is one square tensor."""
    try:
        held = torch_arrays(path)
    except Exception:  # damaged files fail in many ways
        return False
    squares = [array for array in held.values() if array.ndim > 1 and array.shape[-1] == array.shape[-2]]
    return any(_RDM.search(key) for key in held if key != path.name) or len(squares) == len(held) == 1


def _described(path: Path, keys: Sequence[str]) -> dict[str, list[str]]:
    """Give the labels of RDMs: arrays with usual names, and arrays of text."""
    kinds = {key: _kind(path, key) for key in keys}
    kept = [key for key, kind in kinds.items() if kind in "US" or (key in _OF_RDMS and (key, kind) != (_LAYER, "O"))]
    return {key: _labels(path, key) for key in kept}


def _has_rdms(path: Path) -> bool:
    """Return whether an HDF5 file has an array called RDM, or only a square array and its names."""
    try:
        with h5py.File(path, "r") as file:
            items = _hdf5.items(file)
            arrays = {key: item for key, item in items.items() if isinstance(item, h5py.Dataset) and key not in _LABELS}
            if any((_RDM.search(key) or key == _GLMSINGLE) and item.ndim for key, item in arrays.items()):
                return True
            shapes = [item.shape for key, item in arrays.items() if key != "features"]
            return set(items) <= {*arrays, *_LABELS} and len(shapes) == len(arrays) == 1 and _are(items, shapes[0])
    except Exception:  # HDF5 fails in many ways on damaged files
        return False


def _are(items: Mapping[str, Any], shape: tuple[int, ...]) -> bool:
    """Return whether a shape is that of RDMs, with as many conditions as names."""
    return "names" in items and len(shape) in (2, 3) and shape[-1] == shape[-2] == items["names"].size


def _keys(path: Path) -> list[str]:
    if path.suffix.lower() in _TORCH:
        return list(torch_arrays(path))
    if path.suffix.lower() not in _HDF5:
        return npy_keys(path)
    with _hdf5.opened(path) as file:
        arrays = {key: item for key, item in _hdf5.items(file).items() if isinstance(item, h5py.Dataset)}
        if any("MATLAB_class" in item.attrs for item in arrays.values()):
            refuse("the file is a MATLAB file (v7.3), whose axes are reversed; give it the suffix .mat")
        return list(arrays)


def _array(path: Path, key: str) -> np.ndarray:
    if path.suffix.lower() in _TORCH:
        return torch_arrays(path)[key]
    if path.suffix.lower() not in _HDF5:
        return npy_array(path, key)
    with _hdf5.opened(path) as file:
        return _hdf5.load(_hdf5.items(file)[key], f"array {key!r}")


def _labels(path: Path, key: str) -> list[str]:
    if path.suffix.lower() not in _HDF5:
        return texts(_array(path, key))
    with _hdf5.opened(path) as file:
        return texts(np.array(_hdf5.values(file, key)))


def _kind(path: Path, key: str) -> str:
    """Give the kind of an array, as NumPy's ``dtype.kind``: U for text, O for Python objects."""
    if path.suffix.lower() in _TORCH:
        return torch_arrays(path)[key].dtype.kind
    if path.suffix.lower() not in _HDF5:
        return npz_kind(path, key)
    with _hdf5.opened(path) as file:
        kind: np.dtype[Any] = _hdf5.items(file)[key].dtype
        return "U" if h5py.check_string_dtype(kind) is not None else kind.kind


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


def _rdms(
    array: np.ndarray,
    key: str,
    names: Sequence[str] | None,
    axes: str | None,
    along: Mapping[str, Sequence[str]],
    layout: RdmLayout,
    described: Mapping[str, list[str]],
) -> RDMs:
    named, where = named_axes(axes), f"array {key!r}"
    if along and named is None:
        refuse(f"{read_arg('axis_variables')} names positions along axes; name the axes with {read_arg('axes')}")
    if named is not None:
        own = own_axes(named)
        stack, counted = by_axes(array, named, own, where, along)
        rdms = layout.rdms(stack, names, where, counted, condensed=own == ("pairs",))
    else:
        _check_shape(array, where)
        rdms = layout.rdms(array, names, where)
    for label, values in described.items():
        if label in {"subjects", "subject", "roi"} or len(values) in (1, rdms.n_rdm):
            of_each = _one_each(values, rdms.n_rdm, label)
            rdms.rdm_descriptors.setdefault(_OF_RDMS.get(label, label), of_each)
    return rdms


def _check_shape(array: np.ndarray, where: str) -> None:
    if array.ndim == 2 and array.shape[0] != array.shape[1] and not is_pairs(array.shape[1]):
        refuse(
            f"{where} of shape {array.shape} is not square, and its length fits no number of pairs; "
            f"if it holds patterns (n_conditions, n_channels), use {read_arg('patterns', True)}"
        )
    if array.ndim > 2 and (array.ndim > 3 or array.shape[-1] != array.shape[-2]):
        refuse(
            f"{where} of shape {array.shape} is not a stack of RDMs (n_rdms, n, n); name its axes in their "
            f"order, as in {read_arg('axes', 'conditions,conditions,roi,subject')}; if it holds patterns, use "
            f"{read_arg('patterns', True)}, for a volume with {read_arg('axes', 'x,y,z,conditions')}"
        )


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
