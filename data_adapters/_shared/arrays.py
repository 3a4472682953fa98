"""What the readers of arrays share: files read within bounds, and patterns as a Dataset.

Nothing here unpickles, follows a link into another file, or allocates more memory than the file can fill:
compression (deflate is the strongest of those read here) packs at most 1032 bytes into one.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt, prod
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy_format

from brainrdl._core.constants import IMAGE_SUFFIXES
from brainrdl._core.errors import check_option, check_unique, read_arg, refuse
from brainrdl._core.given_values import as_text
from brainrdl._core.packed import check_unpacked
from brainrdl.rdms.conversion import from_array

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.rdms import RDMs
_MOST_PACKED = 1032

_SPACE = frozenset("xyzijk")  # names of the axes of a volume

LABELS = ("subject", "roi", "session", "layer", "time", "name", "model", "weights", "measure", "task", "run")

_PATTERNS = re.compile(r"(^|[^a-z])(patterns?|features?|betas?|activations?)([^a-z]|$)", re.IGNORECASE)

_THINGSVISION = re.compile(r"features(_[0-9]+|.*_[0-9]+-[0-9]+)?\.(npy|pt|txt|mat)")

_PICKLE = "that is a pickle, and loading one could run any code it holds; save numbers, and texts with dtype=str"


def is_thingsvision(path: Path) -> bool:
    """Say whether a file is named as thingsvision names activations, or a part of them.

    Examples
    --------
    >>> [is_thingsvision(Path(name)) for name in ("features.npy", "features_0-800.pt", "features_02.mat", "rdm.npy")]
    [True, True, True, False]
    """
    return _THINGSVISION.fullmatch(path.name) is not None


def is_pairs(n_pairs: int) -> bool:
    """Say whether `n_pairs` are the pairs of at least 3 conditions."""
    n = (1 + isqrt(1 + 8 * n_pairs)) // 2
    return n >= 3 and n * (n - 1) // 2 == n_pairs


def could_be_patterns(key: str, n_rows: int, n_pairs: int, n_names: int | None = None) -> bool:
    """Say whether condensed RDMs (n_rows, n_pairs) could be patterns: by their name, or with one row per condition.

    Examples
    --------
    >>> could_be_patterns("sub-01_betas.npy", 20, 45), could_be_patterns("rdms", 20, 45)
    (True, False)
    >>> could_be_patterns("data", 10, 45), could_be_patterns("data", 20, 45, n_names=20)
    (True, True)
    """
    n_conditions = (1 + isqrt(1 + 8 * n_pairs)) // 2
    called = "rdm" not in key.lower() and _PATTERNS.search(key) is not None
    return called or n_rows == (n_conditions if n_names is None else n_names)


def check_size(n_bytes: int, size: int, what: str) -> None:
    """Refuse an array of `n_bytes` that no file of `size` bytes can hold, before memory is allocated for it."""
    if n_bytes > _MOST_PACKED * size:
        refuse(f"{what} declares {n_bytes} bytes, more than its {size} bytes on disk can hold; is the file damaged?")
    check_unpacked(n_bytes, size, what)


# NumPy


def npy_keys(path: Path) -> list[str]:
    """List the arrays of a ``.npz`` file; the array of a ``.npy`` file has the name of the file."""
    if not _is_zip(path):
        return [path.name]
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def npy_array(path: Path, key: str) -> np.ndarray:
    """Load one of the arrays that `npy_keys` lists."""
    if not _is_zip(path):
        with path.open("rb") as opened:
            return _npy(opened, path.stat().st_size, key)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{key}.npy")
        check_size(member.file_size, path.stat().st_size, f"array {key!r}")
        with archive.open(member) as opened:
            return _npy(opened, member.file_size, key)


def npz_kind(path: Path, key: str) -> str:
    """Give the kind of an array of a ``.npz`` file, as NumPy's ``dtype.kind``, without loading it."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as opened:
        return _header(opened, key)[1].kind


def npy_header(opened: IO[bytes], key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Give shape and dtype of an array in the ``.npy`` format, and refuse objects."""
    shape, dtype = _header(opened, key)
    if dtype.hasobject:
        refuse(f"array {key!r} holds Python objects, {_PICKLE}")
    return shape, dtype


def _header(opened: IO[bytes], key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    readers = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
    if opened.read(6) != npy_format.MAGIC_PREFIX:
        refuse(f"array {key!r} does not begin like an array of NumPy; if it holds Python objects, {_PICKLE}")
    version = tuple(opened.read(2))
    if version not in readers:
        refuse(f"array {key!r} is in version {version} of NumPy's format, expected one of {list(readers)}")
    shape, _, dtype = readers[version](opened)
    return shape, dtype


def _npy(opened: IO[bytes], size: int, key: str) -> np.ndarray:
    shape, dtype = npy_header(opened, key)
    declared = opened.tell() + prod(shape) * dtype.itemsize
    if declared > size:
        refuse(f"array {key!r} of shape {shape} and dtype {dtype} needs more than the {size} bytes that are stored")
    if declared < size:
        refuse(
            f"array {key!r} of shape {shape} and dtype {dtype} needs {declared} bytes, but {size} are stored: is it "
            "damaged, or are there several arrays in one file?"
        )
    opened.seek(0)
    return npy_format.read_array(opened, allow_pickle=False)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as opened:
        return opened.read(2) == b"PK"


# Names and patterns


def texts(array: np.ndarray) -> list[str]:
    """Turn an array of text or numbers into a list of text, whole numbers without a decimal point."""
    return [as_text(item) for item in array.ravel().tolist()]


def stem(name: str) -> str:
    """Name a stimulus by its image file as `brainrdl.Stimuli.from_folder` does: without folders and suffix."""
    path = PurePosixPath(name.strip().replace("\\", "/"))
    return path.stem if path.suffix.lower() in (*IMAGE_SUFFIXES, ".eps") else path.name


def named_axes(axes: str | None) -> list[str] | None:
    """Give the names in ``"conditions,conditions,roi"``; None for ``"first"``, ``"last"`` or nothing."""
    return [name.strip() for name in axes.split(",")] if axes is not None and "," in axes else None


@dataclass(frozen=True, kw_only=True)
class RdmLayout:
    """How RDMs are stored in an array.

    Parameters
    ----------
    order : {"upper", "lower"}
        Order of condensed pairs: row by row of the upper triangle, as in ``squareform``, or of the lower triangle
        (1-0, 2-0, 2-1, 3-0, ...), as MATLAB's ``rdm(triu(true(n), 1))`` gives.
    diagonal : bool, optional
        True leaves out a diagonal of any values, for example a decoder's chance level; condensed pairs then include
        it. False says that condensed pairs do not, where this is in doubt.
    similarity : bool or float, optional
        True converts similarities to dissimilarities: the largest value, diagonal included, minus each value. A number
        is the top of the scale, for example 1 for correlations.

    Examples
    --------
    >>> RdmLayout(order="lower").rdms(np.arange(6.0), None, "pairs").dissimilarities
    array([[0., 1., 3., 2., 4., 5.]])
    """

    order: str = "upper"
    diagonal: bool | None = None
    similarity: bool | float | None = None

    def rdms(
        self,
        array: np.ndarray,
        names: Sequence[str] | None,
        where: str,
        descriptors: Mapping[str, Sequence[str]] | None = None,
        condensed: bool = False,
    ) -> RDMs:
        """Make checked RDMs of an array."""
        return from_array(
            array,
            names,
            descriptors=descriptors,
            where=where,
            order=self.order,
            diagonal=self.diagonal,
            similarity=self.similarity,
            condensed=condensed,
        )


def own_axes(axes: Sequence[str]) -> tuple[str, ...]:
    """Give the axes that make RDMs: pairs, or conditions in both directions."""
    return ("pairs",) if "pairs" in axes else ("conditions", "conditions")


def by_axes(
    array: np.ndarray,
    axes: Sequence[str],
    own: Sequence[str],
    where: str,
    values: Mapping[str, Sequence[str]] | None = None,
) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Bring the axes called `own` to the end and join the others in front, each named in a descriptor.

    Positions along an axis have the names in `values`, or else count from "1".
    """
    if len(axes) != array.ndim:
        refuse(f"{read_arg('axes', ','.join(axes))} names {len(axes)} axes, but {where} has shape {array.shape}")
    others = [place for place, name in enumerate(axes) if name not in own]
    if sorted(name for name in axes if name in own) != sorted(own):
        refuse(
            f"{read_arg('axes', ','.join(axes))} must name {' and '.join(map(repr, own))}, and each other axis by "
            "another name"
        )
    check_unique([axes[place] for place in others], read_arg("axes"))
    ends = [place for name in dict.fromkeys(own) for place, each in enumerate(axes) if each == name]
    moved = array.transpose([*others, *ends])
    called = {axes[place]: _called(axes[place], array.shape[place], values or {}) for place in others}
    for axis in values or {}:
        check_option(axis, called, "axis of axis_variables")
    counted = list(np.ndindex(*moved.shape[: len(others)]))
    descriptors = {
        axis: [names[index[place]] for index in counted] for place, (axis, names) in enumerate(called.items())
    }
    return moved.reshape(-1, *moved.shape[len(others) :]), descriptors


def _called(axis: str, size: int, values: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Name the positions along an axis."""
    if axis not in values:
        return [str(number + 1) for number in range(size)]
    if len(values[axis]) != size:
        refuse(f"{len(values[axis])} values were given for the {size} positions along axis {axis!r}")
    return values[axis]


def patterns(
    array: np.ndarray,
    where: str,
    *,
    names: Sequence[str] | None = None,
    runs: Sequence[str] | None = None,
    axes: str | None = None,
    **descriptors: str,
) -> Dataset:
    """Make a Dataset of patterns; rows are conditions unless `axes` or the number of names says otherwise."""
    from rsatoolbox.data.dataset import Dataset

    named, places = named_axes(axes), dict[str, list[int]]()
    if named is not None and array.dtype.kind in "biuf":
        if space := [axis for axis in named if axis in _SPACE]:
            array, named, places = _joined_space(array, named, space, where)
        array, names, runs = _of_runs(array, named, names, runs, where)
        axes = "first"
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        examples = f"{read_arg('axes', 'conditions,channels,run')} or {read_arg('axes', 'x,y,z,conditions')}"
        remedy = f"; if there are more axes, name them: {examples}" if array.ndim > 2 else ""
        refuse(
            f"{where} must hold real patterns (n_conditions, n_channels), got {array.dtype} of shape "
            f"{array.shape}{remedy}"
        )
    rows = array.T if _axis(array.shape, names, axes, where) == "last" else array
    columns = {"stimulus": names, "run": runs}
    observations = {key: list(column) for key, column in columns.items() if column is not None}
    for key, column in observations.items():
        if len(column) != len(rows):
            refuse(f"{len(column)} values were given as {key!r} for the {len(rows)} observations of {where}")
    # half precision is meant for storage, not for computation
    values = rows.astype(np.promote_types(rows.dtype, np.float32))
    if not places:
        return Dataset(values, descriptors=dict(descriptors), obs_descriptors=observations)
    # a volume also holds the voxels outside the brain, where nothing was estimated
    kept = np.isfinite(values).all(axis=0) & (values.min(axis=0) != values.max(axis=0))
    if not kept.any():
        refuse(f"no voxel of {where} is finite and varies over conditions")
    return Dataset(
        values[:, kept],
        descriptors={**descriptors, "n_dropped_channels": int((~kept).sum())},
        obs_descriptors=observations,
        channel_descriptors={axis: np.array(place)[kept].tolist() for axis, place in places.items()},
    )


def _joined_space(
    array: np.ndarray, axes: list[str], space: list[str], where: str
) -> tuple[np.ndarray, list[str], dict[str, list[int]]]:
    """Join the axes of a volume to one of channels; their places, counted from 0, describe the channels."""
    if len(axes) != array.ndim or "channels" in axes:
        refuse(
            f"{read_arg('axes', ','.join(axes))} does not fit {where} of shape {array.shape}: name each axis once, and "
            "either the axes of space or channels"
        )
    check_unique(axes, read_arg("axes"))
    others = [axis for axis in axes if axis not in space]
    moved = array.transpose([axes.index(axis) for axis in (*others, *space)])
    sizes = moved.shape[len(others) :]
    places = {
        axis: index.tolist() for axis, index in zip(space, np.unravel_index(range(prod(sizes)), sizes), strict=True)
    }
    return moved.reshape(*moved.shape[: len(others)], -1), [*others, "channels"], places


def _of_runs(
    array: np.ndarray, axes: list[str], names: Sequence[str] | None, runs: Sequence[str] | None, where: str
) -> tuple[np.ndarray, Sequence[str] | None, Sequence[str] | None]:
    """Concatenate the patterns of all runs, with their names and runs."""
    stack, counted = by_axes(array, axes, ("conditions", "channels"), where)
    if set(counted) - {"run"}:
        refuse(
            f"of patterns, {read_arg('axes')} may name conditions, channels (or x, y and z) and run, got {axes}; save "
            f"each {(set(counted) - {'run'}).pop()} in a separate file"
        )
    n_runs, n_conditions, n_channels = stack.shape
    if "run" in counted:
        if runs is not None:
            refuse(f"{read_arg('axes')} already names the runs; do not give the run of each observation as well")
        runs = [run for run in counted["run"] for _ in range(n_conditions)]
        names = None if names is None else list(names) * n_runs
    return stack.reshape(-1, n_channels), names, runs


def _axis(shape: tuple[int, ...], names: Sequence[str] | None, axes: str | None, where: str) -> str:
    """Say which axis holds the conditions."""
    if axes is not None:
        return check_option(axes, ("first", "last"), f"axes of {where} with shape {shape}")
    if names is None or shape[0] != shape[1]:
        return "last" if names is not None and len(names) == shape[1] else "first"
    refuse(
        f"{where} has shape {shape}, and either axis could be the conditions; give {read_arg('axes', 'first')} or "
        f"{read_arg('axes', 'last')}"
    )
