"""FeatureTeacher: RDMs of stored patterns (activations, embeddings, responses), computed for each batch."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import about, arg, check_conditions, check_unique, quote, refuse
from brainrdl._core.files import read_csv
from brainrdl._core.given_values import as_numbers, as_text, real_array
from brainrdl._core.tensor_checks import check_finite
from brainrdl.dissimilarity.measures import resolve, traits_of
from brainrdl.models.axes import Axes
from brainrdl.models.pooling import pool_patterns
from brainrdl.models.pools import check_pool
from brainrdl.rdms.naming import checked_names
from brainrdl.readers.condition_names import listed_names
from brainrdl.teachers.pattern_rdms import rdm_of

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset

    from brainrdl.dissimilarity.measures import Dissimilarity
    from brainrdl.stimuli.named_images import Batch

Names = Sequence[str] | str | Path

_ONLY = "features"  # the target of patterns without a name

_SEPARATORS = {".csv": ",", ".tsv": "\t"}

_SIMILAR = 1e-3  # distance below which float32, whose rounding is 1e-7, could change the order of distances

_ROWS = 4096  # rows that are read at once to compute a digest


@dataclass(frozen=True, eq=False)
class _Table:
    """Patterns (n, ...), which may be on the disk, and the row of each condition."""

    rows: npt.NDArray[Any]
    names: tuple[str, ...]
    positions: Mapping[str, int]

    def of(self, names: Sequence[str]) -> npt.NDArray[Any]:
        return as_numbers(self.rows[[self.positions[name] for name in names]], "features")


class FeatureTeacher:
    """RDMs of stored patterns: activations of a network, embeddings, or one response per condition.

    Each step computes the RDM of the conditions in the batch. There is no matrix of all pairs, and arrays (also
    memory-mapped ones) are not copied, so there may be tens of thousands of conditions.

    Parameters
    ----------
    features : array, Dataset, path, or mapping of target to these
        Patterns (n, n_channels): an array or tensor (then give `names`), a `Dataset` of rsatoolbox, a list of Datasets
        that differ in the descriptor ``roi``, a file that `brainrdl.read` reads as one of these, or a table (``.csv``,
        ``.tsv``) with a header and the names in its first column. A ``.npy`` file is mapped into memory; other files
        are loaded. Arrays with more dimensions, (n, channels, positions...), are pooled.
    names : sequence of str or path, optional
        Names of the conditions, in the order of the rows, if `features` has none: a list, a text file, or a folder of
        files with these names. They apply to all targets.
    name : str, optional
        Name in errors and reports; the file's name, or ``"features"``, by default.
    by : str
        Observation descriptor that names the conditions of a Dataset or file.
    dissimilarity : str or callable
        A name of `brainrdl.dissimilarity.DISSIMILARITIES` or a function of patterns.
    pool : str
        How arrays with positions become patterns, see `brainrdl.models.pooling`; all units by default.
    **options
        Options of the reader of a file.

    Attributes
    ----------
    targets : tuple of str
        Keys of a mapping, or values of the descriptor ``roi``; ``"features"`` if there is neither.
    conditions : tuple of str
        Names of the conditions, in the order of the first target.

    Raises
    ------
    BrainrdlError
        If patterns have no names, are not numbers, a name occurs more than once, or targets have different conditions.

    Notes
    -----
    NaN and Inf are refused when a batch contains them, because files are not read before.

    Examples
    --------
    >>> from brainrdl.stimuli import Batch
    >>> embedding = np.array([[0.0, 1, 2], [0, 2, 4], [3, 1, 0]])
    >>> teacher = FeatureTeacher(embedding, names=["cat", "dog", "car"])
    >>> teacher.rdms(Batch(("car", "cat", "dog"), torch.zeros(3, 1, 2, 2)))["features"].round(decimals=2)
    tensor([[1.9800, 1.9800, 0.0000]])
    """

    uses_images = False

    def __init__(
        self,
        features: Any,
        *,
        names: Names | None = None,
        name: str | None = None,
        by: str = "stimulus",
        dissimilarity: str | Dissimilarity = "correlation",
        pool: str = "flatten",
        **options: Any,
    ) -> None:
        self.name = name or (Path(features).stem if isinstance(features, str | Path) else "features")
        if traits_of(dissimilarity).cross_validated:
            refuse(
                f"dissimilarity {dissimilarity!r} needs patterns of several runs, but features are one pattern per "
                "condition; compute RDMs with brainrdl.calc_rdm, or use 'euclidean'"
            )
        self._dissimilarity, self._pool = resolve(dissimilarity), check_pool(pool)
        self._tables = _tables(features, names, by, options)
        self._of_angles = dissimilarity in ("correlation", "cosine")
        self.targets = tuple(self._tables)
        self.conditions = _shared_conditions(self._tables, self.name)
        self._last: tuple[tuple[str, ...], torch.device, dict[str, Tensor]] | None = None

    def __repr__(self) -> str:
        return f"FeatureTeacher({self.name!r}, targets={list(self.targets)}, {len(self.conditions)} conditions)"

    def rdms(self, batch: Batch) -> dict[str, Float[Tensor, "1 n_pairs"]]:
        """Compute the RDM of the batch's conditions for each target, in their order.

        Parameters
        ----------
        batch : Batch
            Names, and device (of the images).

        Returns
        -------
        dict of str to Tensor, shape (1, n_pairs)
            One entry per target. The next call with the same names may return the same tensors: do not modify them.

        Raises
        ------
        BrainrdlError
            If a name is unknown or occurs more than once, a value is not finite, or patterns have no RDM: a constant
            pattern with correlation, a zero pattern with cosine, or all patterns equal.
        """
        names, device = tuple(batch.names), batch.images.device
        if self._last is None or self._last[0] != names or self._last[1] != device:
            where = {target: f"target {target!r} of teacher {self.name!r}" for target in self.targets}
            pairs = {
                target: self._rdm(target, rows, names, where[target]) for target, rows in self.patterns(batch).items()
            }
            self._last = names, device, pairs
        return dict(self._last[2])

    def _rdm(self, target: str, rows: Tensor, names: tuple[str, ...], where: str) -> Tensor:
        """Compute an RDM; in double precision if patterns are so similar that single precision would round it."""
        pairs = rdm_of(rows, names, self._dissimilarity, where, "target")
        if not self._of_angles or rows.dtype == torch.float64 or not (pairs < _SIMILAR).any():
            return pairs
        return rdm_of(self._rows(target, names, rows.device, exact=True), names, self._dissimilarity, where, "target")

    def patterns(self, batch: Batch) -> dict[str, Float[Tensor, "n_conditions n_channels"]]:
        """Return the patterns of the batch's conditions for each target.

        They are in float64 if float32 could not hold them, otherwise in float32.

        Raises
        ------
        BrainrdlError
            If a name is unknown or occurs more than once, or a value is not finite.
        """
        check_conditions(batch.names, self._known, f"teacher {self.name!r}")
        check_unique(batch.names, f"the conditions asked of teacher {self.name!r}")
        return {target: self._rows(target, batch.names, batch.images.device) for target in self.targets}

    @property
    def _known(self) -> Mapping[str, int]:
        return next(iter(self._tables.values())).positions

    def _rows(self, target: str, names: Sequence[str], device: torch.device, exact: bool = False) -> Tensor:
        values = self._tables[target].of(names)
        exact = (exact or not np.can_cast(values.dtype, np.float32)) and device.type != "mps"  # which has no float64
        rows = torch.from_numpy(values.astype(np.float64 if exact else np.float32)).to(device)
        check_finite(rows, f"the patterns of target {target!r} of teacher {self.name!r}")
        return pool_patterns(rows, self._pool, Axes(1), of="teacher")

    def select(self, names: Iterable[str], *, weigh_by: Iterable[str] | None = None) -> FeatureTeacher:
        """Keep the conditions `names`, in that order; the patterns are shared.

        Parameters
        ----------
        names : iterable of str
            Conditions to keep.
        weigh_by : iterable of str, optional
            Must be among `names`; there are no subjects to be weighted.

        Raises
        ------
        BrainrdlError
            If a name is unknown or occurs more than once, or a name in `weigh_by` is not kept.

        Examples
        --------
        >>> FeatureTeacher(np.eye(4), names=list("abcd")).select("dba").conditions
        ('d', 'b', 'a')
        """
        asked = tuple(map(as_text, names))
        check_conditions(asked, self._known, f"teacher {self.name!r}")
        check_unique(asked, f"the conditions asked of teacher {self.name!r}")
        check_conditions(tuple(weigh_by or ()), asked, f"the conditions kept of teacher {self.name!r}")
        other = copy.copy(self)
        other.conditions, other._last = asked, None
        other._tables = {
            target: replace(table, names=asked, positions={name: table.positions[name] for name in asked})
            for target, table in self._tables.items()
        }
        return other

    def identity(self, names: Sequence[str]) -> dict[str, Any]:
        """Return what the answers for `names` depend on: their patterns (a digest), the dissimilarity and pooling.

        Examples
        --------
        >>> sorted(FeatureTeacher(np.eye(3), names=list("abc")).identity("ab"))
        ['dissimilarity', 'patterns', 'pool']
        """
        check_conditions(names, self._known, f"teacher {self.name!r}")
        return {
            "patterns": {target: _digest(table, names) for target, table in self._tables.items()},
            "dissimilarity": self._dissimilarity,
            "pool": self._pool,
        }


def _tables(features: Any, names: Names | None, by: str, options: Mapping[str, Any]) -> dict[str, _Table]:
    """Return the patterns of each target, from any of the sources."""
    if isinstance(features, Mapping):
        if not features:
            refuse("there are no features: give patterns for at least one target")
        return {str(target): _only(_tables(one, names, by, options), target) for target, one in features.items()}
    if isinstance(features, str | Path):
        path = Path(features)
        if path.suffix.lower() == ".npy" and names is not None and not options and path.is_file():
            with about(f"file {str(path)!r}"):
                return {_ONLY: _table(_mapped(path), names)}
        if path.suffix.lower() in _SEPARATORS and not options:
            with about(f"table {str(path)!r}"):
                return {_ONLY: _of_text(path, names)}
        return _tables(_read(path, names, by, options), None, by, {})
    if options:
        refuse(f"options {quote(options)} are for the reader of a file, but features are given as an object")
    if isinstance(features, list | tuple) and features and all(hasattr(one, "obs_descriptors") for one in features):
        return _of_datasets(features, names, by)
    if hasattr(features, "obs_descriptors"):
        return {str(features.descriptors.get("roi", _ONLY)): _of_dataset(features, names, by)}
    if names is None:
        refuse(f"an array has no names of conditions: give {arg('names', of='teacher')}, one per row")
    return {_ONLY: _table(_array(features), names)}


def _only(found: Mapping[str, _Table], target: object) -> _Table:
    if len(found) != 1:
        refuse(f"the features of target {target!r} should be one array, but hold {quote(found)}; choose one of them")
    return next(iter(found.values()))


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        refuse(f"it cannot be read as an array of numbers: {error}")


def _of_text(path: Path, names: Names | None) -> _Table:
    """Read a table with a header: names in the first column (unless they are given), channels in the others."""
    table = read_csv(path, sep=_SEPARATORS[path.suffix.lower()], dtype=None if names is not None else {0: str})
    if names is not None:
        return _table(table.to_numpy(), names)
    return _table(table.iloc[:, 1:].to_numpy(), list(table.iloc[:, 0]))


def _read(path: Path, names: Names | None, by: str, options: Mapping[str, Any]) -> Any:
    from brainrdl.readers.reading import read, reader_of

    accepted = inspect.signature(reader_of(path, options.get("reader")).read).parameters
    asked = ({"patterns": True} if "patterns" in accepted else {}) | dict(options)
    return read(path, names=names, by=by, **asked)


def _of_datasets(datasets: Sequence[Dataset], names: Names | None, by: str) -> dict[str, _Table]:
    rois = [str(one.descriptors.get("roi", _ONLY)) for one in datasets]
    if len(set(rois)) < len(rois):
        refuse(
            f"{len(rois)} Datasets have the regions or layers (descriptor 'roi') {quote(dict.fromkeys(rois))}, but "
            "each must have a different one; features are one pattern per condition and target. For several subjects, "
            "compute RDMs with brainrdl.calc_rdm and give them to RDMTeacher"
        )
    return {roi: _of_dataset(one, names, by) for roi, one in zip(rois, datasets, strict=True)}


def _of_dataset(dataset: Dataset, names: Names | None, by: str) -> _Table:
    if np.ndim(dataset.measurements) != 2:
        refuse(
            f"features must be (n, n_channels), got a {type(dataset).__name__} of shape "
            f"{np.shape(dataset.measurements)}; choose or average time points first"
        )
    if names is None and by not in dataset.obs_descriptors:
        known = [key for key in dataset.obs_descriptors if key != "index"]
        refuse(
            f"the rows have no names: there is no observation descriptor {by!r}, only {quote(known)}; give "
            f"{arg('names', of='teacher')} or {arg('by', of='teacher')}"
        )
    return _table(_array(dataset.measurements), names if names is not None else dataset.obs_descriptors[by])


def _array(features: Any) -> npt.NDArray[Any]:
    return real_array(features, "features")


def _table(rows: npt.NDArray[Any], names: Any) -> _Table:
    listed = tuple(checked_names(listed_names(names), "the conditions of the features"))
    if rows.ndim < 2 or rows.dtype.kind not in "biuf" or not rows.size:
        refuse(f"features must be numbers (n, n_channels), got {rows.dtype} of shape {rows.shape}")
    if len(listed) != len(rows):
        refuse(f"{len(listed)} names for {len(rows)} rows of features; give one name per row")
    if len(set(listed)) < len(listed):
        repeated = quote(name for name, count in Counter(listed).items() if count > 1)
        refuse(
            f"the features have more than one row for {repeated}, but a teacher needs one pattern per condition: "
            "average repetitions first, or compute RDMs with brainrdl.calc_rdm and give them to RDMTeacher"
        )
    return _Table(rows, listed, {name: row for row, name in enumerate(listed)})


def _shared_conditions(tables: Mapping[str, _Table], name: str) -> tuple[str, ...]:
    (first, table), *others = tables.items()
    known = set(table.names)
    for target, other in others:
        if different := known.symmetric_difference(other.names):
            refuse(
                f"targets {first!r} and {target!r} of teacher {name!r} have different conditions: "
                f"{quote(sorted(different))} are in one of them only; keep the conditions that all targets have"
            )
    return table.names


def _digest(table: _Table, names: Sequence[str]) -> str:
    total = hashlib.sha256(f"{table.rows.dtype.newbyteorder('=')} {table.rows.shape[1:]}".encode())
    for start in range(0, len(names), _ROWS):
        total.update(np.ascontiguousarray(table.of(names[start : start + _ROWS])).data)
    return total.hexdigest()
