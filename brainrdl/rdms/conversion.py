"""Convert tensors and arrays to rsatoolbox RDMs, convert RDMs to tensors and tables, and check RDMs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_text, check_unique, refuse
from brainrdl.rdms.by_name import FEWEST_CONDITIONS, joined_rdms, names_of, select
from brainrdl.rdms.naming import checked_names

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm.rdms import RDMs
_ROUNDING = 1e-6  # asymmetry, relative to the largest dissimilarity, that float32 arithmetic can leave (eps 1.2e-7)


def to_tensor(
    rdms: RDMs, names: Iterable[str] | None = None, by: str = "stimulus", dtype: torch.dtype = torch.float32
) -> Float[Tensor, "n_rdms n_pairs"]:
    """Return the dissimilarities of `rdms` as a tensor, for the conditions `names` in that order.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs of named conditions.
    names : iterable of str, optional
        Conditions to keep, in this order (default: all, in their stored order).
    by : str
        The pattern descriptor that names the conditions.
    dtype : torch.dtype
        A floating-point type.

    Returns
    -------
    Tensor, shape (n_rdms, n_pairs)
        A copy, on the CPU; pairs in row-major upper-triangle order, in the unit of the RDMs.

    Raises
    ------
    BrainrdlError
        If `select` would refuse `names` or `by`.

    Examples
    --------
    >>> to_tensor(from_array([0.5, 0.25, 1.0], ["cat", "dog", "car"]), ["car", "dog", "cat"])
    tensor([[1.0000, 0.2500, 0.5000]])
    """
    chosen = rdms if names is None else select(rdms, names, by)
    return torch.tensor(np.asarray(chosen.dissimilarities), dtype=dtype)


def to_table(rdms: RDMs, by: str = "stimulus") -> pd.DataFrame:
    """Return RDMs as a long table, one row per pair and RDM; `brainrdl.read` reads it from CSV or Parquet.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs of named conditions.
    by : str
        The pattern descriptor that names the conditions.

    Returns
    -------
    pandas.DataFrame
        ``n_rdms * n_pairs`` rows; columns ``a``, ``b``, ``dissimilarity`` (in the unit of the RDMs), and one column for
        each rdm descriptor (subject, roi, ...).

    Raises
    ------
    BrainrdlError
        If the conditions have no names, or a name is missing or occurs twice.

    Examples
    --------
    >>> to_table(from_array([0.5, 0.25, 1.0], ["cat", "dog", "car"], descriptors={"roi": ["IT"]}))
         a    b  dissimilarity roi
    0  cat  dog           0.50  IT
    1  cat  car           0.25  IT
    2  dog  car           1.00  IT
    """
    import pandas as pd

    listed = np.array(names_of(rdms, by), dtype=object)
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
    """Make rsatoolbox RDMs from dissimilarities of pairs, without a check of the values (see `check`).

    Parameters
    ----------
    pairs : Tensor, shape (n_rdms, n_pairs) or (n_pairs,)
        Dissimilarities in row-major upper-triangle order, any unit.
    names : iterable of str, or None
        ``n_conditions`` unique names; None leaves the conditions without names.
    by : str
        Name of the pattern descriptor that stores `names`.
    measure : str, optional
        Name of the dissimilarity measure, for example ``"correlation"``.
    descriptors : mapping of str to sequences, optional
        Rdm descriptors, one value per RDM, for example ``{"roi": ["V1", "IT"]}``.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        In float64, on the CPU, without gradient.

    Raises
    ------
    BrainrdlError
        If the number of pairs does not fit any number of conditions, or not the number of `names`, there are fewer than
        3 conditions, a name occurs twice, or a descriptor has the wrong length.

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
    """Make rsatoolbox RDMs from an RDM, a stack of RDMs, or their condensed pairs, and check each RDM.

    Parameters
    ----------
    array : array_like, shape (n, n), (n_rdms, n, n), (n_pairs,) or (n_rdms, n_pairs), with n for n_conditions
        Real dissimilarities, any unit; NaN for pairs that were not measured (also allowed on the diagonal). A square
        matrix is always one RDM.
    names : iterable of str, or None
        ``n_conditions`` unique names; None leaves the conditions without names.
    by : str
        Name of the pattern descriptor that stores `names`.
    measure : str, optional
        Name of the dissimilarity measure, for example ``"correlation"``.
    descriptors : mapping of str to sequences, optional
        Rdm descriptors, one value per RDM.
    where : str
        Name of the array in error messages.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        In float64. Asymmetry of float32 rounding (up to 1e-6 of the largest dissimilarity) is removed by averaging.

    Raises
    ------
    BrainrdlError
        If the array is not numeric, not square or not symmetric (the message gives place and amount), has a non-zero
        diagonal, the wrong length or fewer than 3 conditions, or holds an RDM that `check` refuses. Also if `names` or
        `descriptors` have the wrong length, or a name is missing or occurs twice.

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
    """Refuse RDMs that cannot be compared with others; the message names the RDM and the conditions.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs to check; some NaN pairs are allowed.
    where : str
        Name of the RDMs in error messages, for example ``"file 'brain.mat'"``.

    Raises
    ------
    BrainrdlError
        If there are fewer than 3 conditions or no RDM, the number of pairs does not fit, or an RDM contains Inf, only
        NaN, or only one constant value.

    Examples
    --------
    >>> check(from_tensor(torch.ones(3), ["cat", "dog", "car"]), "my RDMs")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: RDM 0 (of 1) in my RDMs is constant: every pair is 1.0, so it distinguishes nothing
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
        refuse(f"{where} is infinite at conditions {i} and {j} (counted from 0); use NaN for unmeasured pairs")
    measured = row[~np.isnan(row)]
    if not measured.size:
        refuse(f"{where} contains only NaN")
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
        refuse(f"{where} has {n_conditions} conditions; an RDM needs at least 3")
    named = (f"RDM {index} (of {len(stack)}) in {where}" for index in range(len(stack)))
    rows = [_condensed(matrix, name) for matrix, name in zip(stack, named, strict=True)]
    return np.stack(rows) if rows else np.empty((0, n_conditions * (n_conditions - 1) // 2))


def _condensed(matrix: npt.NDArray[np.float64], where: str) -> npt.NDArray[np.float64]:
    """Check one square RDM and return its upper triangle, averaged with the lower triangle."""
    flipped = matrix.T
    same = (matrix == flipped) | (np.isnan(matrix) & np.isnan(flipped))
    tolerance = _ROUNDING * float(np.max(np.abs(matrix), initial=0, where=np.isfinite(matrix)))
    # an infinite entry in one triangle only, or infinite entries of opposite sign, are reported like other differences
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(same, 0.0, np.abs(matrix - flipped))
        mean = np.where(same, matrix, matrix / 2 + flipped / 2)
    difference[np.isnan(difference)] = math.inf
    if difference.max() > tolerance:
        i, j = np.unravel_index(difference.argmax(), difference.shape)
        refuse(
            f"{where} is not symmetric: [{i}, {j}] is {matrix[i, j]:.6g} and [{j}, {i}] is {matrix[j, i]:.6g} "
            f"(difference {difference[i, j]:.3g}; differences up to {tolerance:.3g} count as rounding); "
            "correct the values, or average the matrix with its transpose if both triangles are valid"
        )
    diagonal = np.nan_to_num(np.abs(np.diagonal(matrix)), posinf=math.inf)
    if diagonal.max() > tolerance:
        i = diagonal.argmax()
        refuse(
            f"{where} has a non-zero diagonal: [{i}, {i}] is {matrix[i, i]:.6g}; if it is a similarity matrix, convert "
            "it to dissimilarities first, for example 1 - r"
        )
    upper: npt.NDArray[np.float64] = mean[np.triu_indices(len(matrix), 1)]
    return upper


def _n_conditions(n_pairs: int, where: str) -> int:
    """Return n with n(n-1)/2 = n_pairs, at least 3."""
    n = (1 + math.isqrt(1 + 8 * n_pairs)) // 2
    if n * (n - 1) // 2 != n_pairs:
        closest = f"{n} conditions make {n * (n - 1) // 2} pairs, {n + 1} make {n * (n + 1) // 2}"
        refuse(f"{where} has {n_pairs} pairs, which fit no number of conditions ({closest}), and it is not square")
    if n < FEWEST_CONDITIONS:
        refuse(f"{where} has {n} conditions; an RDM needs at least 3")
    return n


def _build(
    pairs: npt.NDArray[np.float64],
    names: Iterable[str] | None,
    by: str,
    measure: str | None,
    descriptors: Mapping[str, Sequence[Any]] | None,
    where: str,
) -> RDMs:
    """Check lengths and names, then make the RDMs object."""
    n_conditions = _n_conditions(pairs.shape[1], where)
    labels = {} if names is None else {by: checked_names(names, where)}
    for given in labels.values():
        if len(given) != n_conditions:
            refuse(f"{len(given)} names were given for the {n_conditions} conditions of {where}")
        check_unique(given, f"the names given for {where}")
    columns = {key: list(values) for key, values in (descriptors or {}).items()}
    checked_names(columns.get("subject", []), f"rdm descriptor 'subject' of {where}")
    for key, column in columns.items():
        check_text([value for value in column if isinstance(value, str)], f"rdm descriptor {key!r} of {where}")
        if len(column) != len(pairs):
            refuse(f"rdm descriptor {key!r} has {len(column)} values for the {len(pairs)} RDMs of {where}")
    return joined_rdms(pairs, measure=measure, rdm_descriptors=columns, pattern_descriptors=labels)
