"""rsatoolbox RDMs by name: select, align, join, and tensors in and out.

rsatoolbox pairs the conditions of two RDMs by position; here they are paired by name. One pattern descriptor names the
conditions (``by``, default ``"stimulus"``), and every function gives the conditions in the order asked for, or refuses.

Pairs stand in row-major upper-triangle order (``torch.triu_indices(n, n, 1)``), which is also the order of
rsatoolbox's ``get_vectors``, of ``scipy.spatial.distance.squareform``, and of MATLAB's ``squareform`` (RDMs are
symmetric). NaN marks a pair that was not measured; it stays NaN.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._checks import check_conditions, check_unique, nearest, quote, refuse

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm.rdms import RDMs

FEWEST_CONDITIONS = 3  # two conditions make one pair, and one number correlates with nothing
_ROUNDING = 1e-6  # asymmetry, relative to the largest dissimilarity, that float32 arithmetic can leave (eps 1.2e-7)


@dataclass(frozen=True)
class Alignment:
    """How a list of stimuli and the conditions of an RDM meet, by name.

    Parameters
    ----------
    common : tuple of str
        Names on both sides, in the order of the stimuli.
    only_stimuli, only_rdms : tuple of str
        Names that the other side lacks, in their own order.
    reordered : bool
        Whether the common names stand in a different order on the two sides.

    Examples
    --------
    >>> print(alignment(["cat", "dog", "car"], ["dog", "cat", "tree"]))
    2 conditions in common (in a different order); 1 only among the stimuli: ['car']; 1 only in the RDMs: ['tree']
    """

    common: tuple[str, ...]
    only_stimuli: tuple[str, ...]
    only_rdms: tuple[str, ...]
    reordered: bool

    def __str__(self) -> str:
        order = " (in a different order)" if self.reordered else ""
        parts = [f"{len(self.common)} conditions in common{order}"]
        if self.only_stimuli:
            parts.append(f"{len(self.only_stimuli)} only among the stimuli: {quote(self.only_stimuli)}")
        if self.only_rdms:
            parts.append(f"{len(self.only_rdms)} only in the RDMs: {quote(self.only_rdms)}")
        return "; ".join(parts) + _forms_differ(self.only_stimuli, self.only_rdms)


def alignment(stimulus_names: Iterable[str], condition_names: Iterable[str]) -> Alignment:
    """Report which names two lists share, which each has alone, and whether the order differs.

    Parameters
    ----------
    stimulus_names : iterable of str
        Names of the stimuli (or of any first list), unique.
    condition_names : iterable of str
        Names of the conditions of an RDM, unique.

    Returns
    -------
    Alignment
        The common names are in the order of `stimulus_names`.

    Raises
    ------
    BrainrdlError
        If a name stands twice in one of the lists.

    Examples
    --------
    >>> alignment(["b", "a"], ["a", "b", "c"])
    Alignment(common=('b', 'a'), only_stimuli=(), only_rdms=('c',), reordered=True)
    """
    first, second = tuple(map(str, stimulus_names)), tuple(map(str, condition_names))
    check_unique(first, "the stimuli")
    check_unique(second, "the RDMs")
    in_first, in_second = frozenset(first), frozenset(second)
    common = tuple(name for name in first if name in in_second)
    return Alignment(
        common=common,
        only_stimuli=tuple(name for name in first if name not in in_second),
        only_rdms=tuple(name for name in second if name not in in_first),
        reordered=common != tuple(name for name in second if name in in_first),
    )


def names(rdms: RDMs, by: str = "stimulus") -> tuple[str, ...]:
    """Name the conditions of `rdms`, in their stored order.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs over ``n_conditions`` conditions.
    by : str
        The pattern descriptor that names the conditions.

    Returns
    -------
    tuple of str
        ``n_conditions`` unique names; numbers are turned into text.

    Raises
    ------
    BrainrdlError
        If there is no such descriptor (those there are get listed), or a name stands twice.

    Examples
    --------
    >>> names(from_array([0.1, 0.2, 0.3], ["cat", "dog", "car"]))
    ('cat', 'dog', 'car')
    """
    known = rdms.pattern_descriptors
    if by not in known:
        refuse(
            f"RDMs have no pattern descriptor {by!r} that names their conditions (there are: {', '.join(known)})"
            f"{nearest(by, known)}; choose one with by=, or give the file's names when reading it: names=..."
        )
    found = tuple(str(value) for value in known[by])
    check_unique(found, f"pattern descriptor {by!r} of the RDMs")
    return found


def select(rdms: RDMs, names: Iterable[str], by: str = "stimulus") -> RDMs:
    """Keep the conditions `names` of `rdms`, in exactly that order.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs over ``n_conditions`` conditions.
    names : iterable of str
        Conditions to keep, unique, at least one.
    by : str
        The pattern descriptor that names the conditions.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        A new object; every pattern descriptor follows its condition, the rest is copied.

    Raises
    ------
    BrainrdlError
        If a name is unknown (with the nearest), stands twice, or none is given.

    Notes
    -----
    rsatoolbox's ``subset_pattern`` keeps the stored order whatever order is asked for; this does not.

    Examples
    --------
    >>> rdms = from_array([0.1, 0.2, 0.3], ["cat", "dog", "car"])
    >>> select(rdms, ["car", "cat"]).get_vectors()
    array([[0.2]])
    """
    asked = tuple(map(str, names))
    known = _names_of(rdms, by)
    if not asked:
        refuse(f"no conditions were asked for; the RDMs hold {quote(known)}")
    check_unique(asked, "the conditions asked for")
    check_conditions(asked, known, "the RDMs")
    place = {name: index for index, name in enumerate(known)}
    return _take(rdms, np.array([place[name] for name in asked]))


def align(a: RDMs, b: RDMs, by: str = "stimulus", *, common: bool = False) -> tuple[RDMs, RDMs]:
    """Bring two RDMs onto the same conditions in the same order, that of `a`.

    Parameters
    ----------
    a, b : rsatoolbox.rdm.RDMs
        RDMs whose conditions are named by the pattern descriptor `by`.
    by : str
        The pattern descriptor that names the conditions.
    common : bool
        Keep only the conditions both hold, instead of refusing when they differ.

    Returns
    -------
    tuple of rsatoolbox.rdm.RDMs
        `a` and `b` with equal names in equal order, ready for ``rsatoolbox.rdm.compare``.

    Raises
    ------
    BrainrdlError
        If the sets of names differ and `common` is not set, or fewer than 3 names are shared.

    Examples
    --------
    >>> a = from_array([0.1, 0.2, 0.3], ["cat", "dog", "car"])
    >>> b = from_array([0.1, 0.3, 0.2], ["dog", "cat", "car"])
    >>> [rdms.get_vectors().tolist() for rdms in align(a, b)]
    [[[0.1, 0.2, 0.3]], [[0.1, 0.2, 0.3]]]
    """
    met = alignment(_names_of(a, by), _names_of(b, by))
    if not common:
        _refuse_difference(met)
    if len(met.common) < FEWEST_CONDITIONS:
        refuse(f"the two RDMs share {len(met.common)} conditions {quote(met.common)}, at least 3 are needed")
    return select(a, met.common, by), select(b, met.common, by)


def concat(rdms: Sequence[RDMs], by: str = "stimulus") -> RDMs:
    """Join RDMs over the same conditions into one object, paired by name in the order of the first.

    Parameters
    ----------
    rdms : sequence of rsatoolbox.rdm.RDMs
        At least one; all with the same set of condition names.
    by : str
        The pattern descriptor that names the conditions.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Pattern descriptors of the first; rdm descriptors joined, ``""`` where one lacks them. A descriptor of a whole
        object becomes an rdm descriptor where the objects differ in it. The measure is kept if all agree, else None.

    Raises
    ------
    BrainrdlError
        If the list is empty or the sets of names differ.

    Examples
    --------
    >>> a = from_array([0.1, 0.2, 0.3], ["cat", "dog", "car"], descriptors={"roi": ["V1"]})
    >>> b = from_array([0.1, 0.3, 0.2], ["dog", "cat", "car"], descriptors={"roi": ["IT"]})
    >>> both = concat([a, b])
    >>> both.get_vectors().tolist(), both.rdm_descriptors["roi"]
    ([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]], ['V1', 'IT'])
    """
    if not rdms:
        refuse("no RDMs were given to concat; give a list of at least one")
    for other in rdms:
        _refuse_difference(alignment(names(rdms[0], by), names(other, by)), "")
    aligned = [align(rdms[0], other, by)[1] for other in rdms]
    shared = _shared_descriptors(aligned)
    measures = {other.dissimilarity_measure for other in aligned}
    return _rdms(
        np.concatenate([other.dissimilarities for other in aligned]),
        measure=measures.pop() if len(measures) == 1 else None,
        descriptors=shared,
        rdm_descriptors=_joined_descriptors(aligned, shared),
        pattern_descriptors=aligned[0].pattern_descriptors,
    )


def to_tensor(
    rdms: RDMs, names: Iterable[str] | None = None, by: str = "stimulus", dtype: torch.dtype = torch.float32
) -> Float[Tensor, "n_rdms n_pairs"]:
    """Give the dissimilarities of `rdms` as a tensor, for the conditions `names` in that order.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs over named conditions.
    names : iterable of str, optional
        Conditions to keep, in this order; all in their stored order by default.
    by : str
        The pattern descriptor that names the conditions.
    dtype : torch.dtype
        A floating point type.

    Returns
    -------
    Tensor, shape (n_rdms, n_pairs)
        A copy, on the CPU; pairs in row-major upper-triangle order, in the unit of the RDMs.

    Raises
    ------
    BrainrdlError
        As `select` does.

    Examples
    --------
    >>> to_tensor(from_array([0.5, 0.25, 1.0], ["cat", "dog", "car"]), ["car", "dog", "cat"])
    tensor([[1.0000, 0.2500, 0.5000]])
    """
    chosen = rdms if names is None else select(rdms, names, by)
    return torch.tensor(np.asarray(chosen.dissimilarities), dtype=dtype)


def to_table(rdms: RDMs, by: str = "stimulus") -> pd.DataFrame:
    """Give RDMs as a long table, one row a pair and RDM, which `brainrdl.read` takes back from CSV or Parquet.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs over named conditions.
    by : str
        The pattern descriptor that names the conditions.

    Returns
    -------
    pandas.DataFrame
        Columns ``a``, ``b``, ``dissimilarity``, and one for each rdm descriptor (subject, roi, ...).

    Raises
    ------
    BrainrdlError
        If the conditions have no names.

    Examples
    --------
    >>> to_table(from_array([0.5, 0.25, 1.0], ["cat", "dog", "car"], descriptors={"roi": ["IT"]}))
         a    b  dissimilarity roi
    0  cat  dog           0.50  IT
    1  cat  car           0.25  IT
    2  dog  car           1.00  IT
    """
    import pandas as pd

    listed = np.array(_names_of(rdms, by), dtype=object)
    first, second = np.triu_indices(rdms.n_cond, 1)
    values = np.asarray(rdms.dissimilarities)
    columns = {"a": np.tile(listed[first], len(values)), "b": np.tile(listed[second], len(values))}
    described = {key: np.repeat(column, len(first)) for key, column in rdms.rdm_descriptors.items() if key != "index"}
    return pd.DataFrame(columns | {"dissimilarity": values.ravel()} | described)


def from_tensor(
    pairs: Float[Tensor, "*n_rdms n_pairs"],
    names: Iterable[str] | None,
    *,
    by: str = "stimulus",
    measure: str | None = None,
    descriptors: Mapping[str, Sequence[Any]] | None = None,
) -> RDMs:
    """Wrap dissimilarities of pairs as rsatoolbox RDMs; the values are not judged (see `check`).

    Parameters
    ----------
    pairs : Tensor, shape (n_rdms, n_pairs) or (n_pairs,)
        Dissimilarities in row-major upper-triangle order.
    names : iterable of str, or None
        ``n_conditions`` unique names; None leaves the conditions without names.
    by : str
        The pattern descriptor to store `names` in.
    measure : str, optional
        How the dissimilarities were measured, for example ``"correlation"``.
    descriptors : mapping of str to sequences, optional
        Rdm descriptors, one value per RDM, for example ``{"roi": ["V1", "IT"]}``.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        In float64, on the CPU, without gradient.

    Raises
    ------
    BrainrdlError
        If the number of pairs fits no number of conditions or other than `names`, there are fewer than 3 conditions,
        a name stands twice, or a descriptor has the wrong length.

    Examples
    --------
    >>> from_tensor(torch.tensor([0.5, 0.25, 1.0]), ["cat", "dog", "car"]).get_vectors()
    array([[0.5 , 0.25, 1.  ]])
    """
    values = pairs.detach().to("cpu", torch.float64).numpy().copy()
    if values.ndim not in (1, 2):
        refuse(f"pairs must have shape (n_rdms, n_pairs) or (n_pairs,), got {tuple(values.shape)}")
    return _build(np.atleast_2d(values), names, by, measure, descriptors, "pairs")


def from_array(
    array: npt.ArrayLike,
    names: Iterable[str] | None,
    *,
    by: str = "stimulus",
    measure: str | None = None,
    descriptors: Mapping[str, Sequence[Any]] | None = None,
    where: str = "array",
) -> RDMs:
    """Wrap an RDM, a stack of RDMs, or their condensed pairs as rsatoolbox RDMs, and check every one.

    Parameters
    ----------
    array : array_like, shape (n, n), (n_rdms, n, n), (n_pairs,) or (n_rdms, n_pairs)
        Real dissimilarities; NaN for a pair (and on the diagonal) not measured. A square matrix is always one RDM.
    names : iterable of str, or None
        ``n_conditions`` unique names; None leaves the conditions without names.
    by : str
        The pattern descriptor to store `names` in.
    measure : str, optional
        How the dissimilarities were measured.
    descriptors : mapping of str to sequences, optional
        Rdm descriptors, one value per RDM.
    where : str
        What to call the array in an error.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        In float64; asymmetry at float32 rounding level (1e-6 of the largest dissimilarity) is averaged away.

    Raises
    ------
    BrainrdlError
        If it is not numeric, not square, not symmetric (with place and amount), has a non-zero diagonal, a wrong
        length, fewer than 3 conditions, or an RDM that `check` refuses.

    Examples
    --------
    >>> from_array([[0, 1, 2], [1, 0, 3], [2, 3, 0]], ["cat", "dog", "car"]).get_vectors()
    array([[1., 2., 3.]])
    """
    values = np.asarray(array)
    if values.dtype.kind not in "biuf":
        refuse(f"{where} must hold real numbers, got dtype {values.dtype}")
    rdms = _build(_pairs_of(values.astype(np.float64), where), names, by, measure, descriptors, where)
    check(rdms, where)
    return rdms


def check(rdms: RDMs, where: str) -> None:
    """Refuse RDMs that nothing can be compared with, naming the RDM and the place.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs to check; single NaN pairs are fine.
    where : str
        What to call them in an error, for example ``"file 'brain.mat'"``.

    Raises
    ------
    BrainrdlError
        If there are fewer than 3 conditions or no RDM, the number of pairs does not fit, or an RDM holds Inf, only NaN,
        or one constant value.

    Examples
    --------
    >>> check(from_tensor(torch.ones(3), ["cat", "dog", "car"]), "my RDMs")
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: RDM 0 (of 1) in my RDMs is constant: every pair is 1.0, so it distinguishes nothing
    """
    values = np.asarray(rdms.dissimilarities)
    _n_conditions(values.shape[1], where)
    if not len(values):
        refuse(f"{where} holds no RDM")
    for index, row in enumerate(values):
        _check_values(row, rdms.n_cond, f"RDM {index} (of {len(values)}) in {where}")


def _check_values(row: npt.NDArray[Any], n_conditions: int, where: str) -> None:
    """Refuse one RDM's pairs if any is infinite, all are NaN, or all are equal."""
    if np.isinf(row).any():
        first = int(np.flatnonzero(np.isinf(row))[0])
        i, j = (int(axis[first]) for axis in np.triu_indices(n_conditions, 1))
        refuse(f"{where} is infinite at conditions {i} and {j} (counted from 0); use NaN for a pair not measured")
    measured = row[~np.isnan(row)]
    if not measured.size:
        refuse(f"{where} holds only NaN")
    if measured.min() == measured.max():
        refuse(f"{where} is constant: every pair is {float(measured[0])!r}, so it distinguishes nothing")


def _pairs_of(values: npt.NDArray[np.float64], where: str) -> npt.NDArray[np.float64]:
    """Turn any accepted layout into (n_rdms, n_pairs)."""
    if values.ndim == 1 or (values.ndim == 2 and values.shape[0] != values.shape[1]):
        pairs = np.atleast_2d(values)
        _n_conditions(pairs.shape[1], f"{where} with shape {values.shape}")
        return pairs
    if values.ndim not in (2, 3):
        refuse(f"{where} must have 1 to 3 dimensions, got shape {values.shape}")
    if values.shape[-1] != values.shape[-2]:
        refuse(f"{where} is not square: a stack of RDMs has shape (n_rdms, n, n), got {values.shape}")
    stack = values.reshape(-1, *values.shape[-2:])
    n_conditions = stack.shape[-1]
    if n_conditions < FEWEST_CONDITIONS:
        refuse(f"{where} has {n_conditions} conditions, an RDM needs at least 3")
    named = (f"RDM {index} (of {len(stack)}) in {where}" for index in range(len(stack)))
    rows = [_condensed(matrix, name) for matrix, name in zip(stack, named, strict=True)]
    return np.stack(rows) if rows else np.empty((0, n_conditions * (n_conditions - 1) // 2))


def _condensed(matrix: npt.NDArray[np.float64], where: str) -> npt.NDArray[np.float64]:
    """Check one square RDM and give its upper triangle, averaged with the lower."""
    flipped = matrix.T
    same = (matrix == flipped) | (np.isnan(matrix) & np.isnan(flipped))
    tolerance = _ROUNDING * float(np.max(np.abs(matrix), initial=0, where=np.isfinite(matrix)))
    # an infinite entry on one side only, or opposite ones, is reported like any other difference
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(same, 0.0, np.abs(matrix - flipped))
        mean = np.where(same, matrix, matrix / 2 + flipped / 2)
    difference[np.isnan(difference)] = math.inf
    if difference.max() > tolerance:
        i, j = np.unravel_index(difference.argmax(), difference.shape)
        refuse(
            f"{where} is not symmetric: [{i}, {j}] is {matrix[i, j]:.6g} and [{j}, {i}] is {matrix[j, i]:.6g} "
            f"(difference {difference[i, j]:.3g}; rounding up to {tolerance:.3g} would be averaged)"
        )
    diagonal = np.nan_to_num(np.abs(np.diagonal(matrix)), posinf=math.inf)
    if diagonal.max() > tolerance:
        i = diagonal.argmax()
        refuse(f"{where} has a non-zero diagonal: [{i}, {i}] is {matrix[i, i]:.6g}; is it a similarity matrix?")
    upper: npt.NDArray[np.float64] = mean[np.triu_indices(len(matrix), 1)]
    return upper


def _n_conditions(n_pairs: int, where: str) -> int:
    """Return n with n(n-1)/2 = n_pairs, at least 3."""
    n = (1 + math.isqrt(1 + 8 * n_pairs)) // 2
    if n * (n - 1) // 2 != n_pairs:
        closest = f"{n} conditions make {n * (n - 1) // 2} pairs, {n + 1} make {n * (n + 1) // 2}"
        refuse(f"{where} has {n_pairs} pairs, which no number of conditions gives ({closest}), and it is not square")
    if n < FEWEST_CONDITIONS:
        refuse(f"{where} has {n} conditions, an RDM needs at least 3")
    return n


def _build(
    pairs: npt.NDArray[np.float64],
    names: Iterable[str] | None,
    by: str,
    measure: str | None,
    descriptors: Mapping[str, Sequence[Any]] | None,
    where: str,
) -> RDMs:
    """Make the RDMs object after checking lengths and names."""
    n_conditions = _n_conditions(pairs.shape[1], where)
    labels = {} if names is None else {by: [str(name) for name in names]}
    for given in labels.values():
        if len(given) != n_conditions:
            refuse(f"{len(given)} names were given for the {n_conditions} conditions of {where}")
        check_unique(given, f"the names given for {where}")
    columns = {key: list(values) for key, values in (descriptors or {}).items()}
    for key, column in columns.items():
        if len(column) != len(pairs):
            refuse(f"rdm descriptor {key!r} has {len(column)} values for the {len(pairs)} RDMs of {where}")
    return _rdms(pairs, measure=measure, rdm_descriptors=columns, pattern_descriptors=labels)


def _take(rdms: RDMs, index: npt.NDArray[np.int64]) -> RDMs:
    """Give `rdms` with the conditions at `index`, in that order, straight from pair to pair."""
    i, j = (index[axis] for axis in np.triu_indices(len(index), 1))
    low, high = np.minimum(i, j), np.maximum(i, j)
    position = low * rdms.n_cond - low * (low + 1) // 2 + high - low - 1
    return _rdms(
        np.asarray(rdms.dissimilarities)[:, position],
        measure=rdms.dissimilarity_measure,
        descriptors=rdms.descriptors,
        rdm_descriptors=rdms.rdm_descriptors,
        pattern_descriptors={key: [values[k] for k in index] for key, values in rdms.pattern_descriptors.items()},
    )


def _rdms(
    values: npt.NDArray[Any],
    *,
    measure: str | None,
    descriptors: Mapping[str, Any] | None = None,
    rdm_descriptors: Mapping[str, Sequence[Any]],
    pattern_descriptors: Mapping[str, Sequence[Any]],
) -> RDMs:
    """Make rsatoolbox RDMs with containers of their own: rsatoolbox keeps and edits those it is given."""
    from rsatoolbox.rdm.rdms import RDMs

    return RDMs(  # type: ignore[no-untyped-call]
        values,
        dissimilarity_measure=measure,
        descriptors=dict(descriptors or {}),
        rdm_descriptors={key: list(column) for key, column in rdm_descriptors.items()},
        pattern_descriptors={key: list(column) for key, column in pattern_descriptors.items()},
    )


def _refuse_difference(met: Alignment, keeping: str = "common=True") -> None:
    """Refuse two RDMs that do not hold the same conditions, with the nearest name of the first stranger."""
    if met.only_stimuli or met.only_rdms:
        close = nearest(met.only_stimuli[0], met.only_rdms) if met.only_stimuli else ""
        keep = f", or keep the {len(met.common)} in common with {keeping}" if met.common and keeping else ""
        refuse(
            f"the two RDMs do not hold the same conditions: only in the first {quote(met.only_stimuli)}, only in the "
            f"second {quote(met.only_rdms)}{_forms_differ(met.only_stimuli, met.only_rdms) or close}; "
            f"rename them{keep}"
        )


def _forms_differ(first: Sequence[str], second: Sequence[str]) -> str:
    """Say that names look the same and differ in Unicode form, as those of a Mac's files do, and how to mend it."""
    composed = {unicodedata.normalize("NFC", name): name for name in first}
    alike = [composed[form] for name in second if (form := unicodedata.normalize("NFC", name)) in composed]
    if not alike:
        return ""
    form = "NFC" if unicodedata.is_normalized("NFC", alike[0]) else "NFD"
    return (
        f"; {quote(alike)} are on both sides in different Unicode forms, which look the same (a Mac's files have NFD): "
        f"give the RDMs' names the form of the others by unicodedata.normalize({form!r}, name)"
    )


def _shared_descriptors(rdms: Sequence[RDMs]) -> dict[str, Any]:
    """Give the whole-object descriptors that all have, with the same value."""
    first = rdms[0].descriptors
    return {
        key: value
        for key, value in first.items()
        if all(key in other.descriptors and np.array_equal(other.descriptors[key], value) for other in rdms)
    }


def _joined_descriptors(rdms: Sequence[RDMs], shared: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Join the rdm descriptors, and the whole-object descriptors that differ, one value per RDM."""
    columns = [
        {key: [value] * len(other.dissimilarities) for key, value in other.descriptors.items() if key not in shared}
        | {key: list(values) for key, values in other.rdm_descriptors.items() if key != "index"}
        for other in rdms
    ]
    keys = dict.fromkeys(key for column in columns for key in column)
    return {
        key: [
            value
            for other, column in zip(rdms, columns, strict=True)
            for value in column.get(key, [""] * len(other.dissimilarities))
        ]
        for key in keys
    }


_names_of = names  # `names` is also the argument that callers know, and hides the function inside those bodies
