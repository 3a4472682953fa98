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

from brainrdl._core.errors import check_option, check_text, check_unique, read_arg, refuse
from brainrdl._core.given_values import as_numbers, real_array
from brainrdl.dissimilarity.pairs import pair_blocks
from brainrdl.rdms.by_name import FEWEST_CONDITIONS, joined_rdms, names_of, select
from brainrdl.rdms.naming import checked_names

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm.rdms import RDMs
LARGEST = 1e15  # the squares of larger dissimilarities, summed over the pairs of an RDM, overflow float32

_ROUNDING = 1e-6  # asymmetry, relative to the largest dissimilarity, that float32 arithmetic can leave (eps 1.2e-7)

_SURE = 6  # equal largest values at so many places of a diagonal are no accident; with fewer, ratings can be equal


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
    return torch.tensor(as_numbers(chosen.dissimilarities, "RDMs"), dtype=dtype)


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
    values = real_array(rdms.dissimilarities, "RDMs")
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
    copy: bool = True,
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
    copy : bool
        False lets the RDMs use the memory of `pairs`, if it is in float64 and on the CPU.

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
    values = pairs.detach().to("cpu", torch.float64, copy=copy).numpy()
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
    order: str = "upper",
    diagonal: bool | None = None,
    similarity: bool | float | None = None,
    condensed: bool = False,
) -> RDMs:
    """Make rsatoolbox RDMs from an RDM, a stack of RDMs, or their condensed pairs, and check each RDM.

    Parameters
    ----------
    array : array_like, shape (n, n), (n_rdms, n, n), (n_pairs,) or (n_rdms, n_pairs), with n for n_conditions
        Real dissimilarities, any unit; NaN for pairs that were not measured (also allowed on the diagonal). A square
        matrix is one RDM unless it is `condensed`. One half of a matrix may be empty (only 0 or NaN).
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
    order : {"upper", "lower"}
        Order of condensed pairs: row by row of the upper triangle, as in ``squareform``, or of the lower triangle (1-0,
        2-0, 2-1, 3-0, ...), as MATLAB's ``rdm(triu(true(n), 1))`` and NumPy's ``tril_indices(n, -1)`` give.
    diagonal : bool, optional
        True leaves out a diagonal of any values, for example a decoder's chance level; condensed pairs then include
        it (n * (n + 1) / 2 values). False says that condensed pairs do not, where this is in doubt.
    similarity : bool or float, optional
        True converts similarities: the largest value, diagonal included, minus each value. A number is the top of the
        scale, for example 1 for correlations.
    condensed : bool
        Whether rows are condensed pairs, even if there are as many rows as pairs.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        In float64. Asymmetry of float32 rounding (up to 1e-6 of the largest dissimilarity) is removed by averaging.

    Raises
    ------
    BrainrdlError
        If the array is not numeric, not square or not symmetric (the message gives place and amount), has a non-zero
        diagonal, the wrong length or fewer than 3 conditions, seems to include the diagonal, or holds an RDM that
        `check` refuses. Also if `names` or `descriptors` have the wrong length, or a name is missing or occurs twice.

    Examples
    --------
    >>> from_array([[0, 1, 2], [1, 0, 3], [2, 3, 0]], ["cat", "dog", "car"]).get_vectors()
    array([[1., 2., 3.]])
    >>> from_array([1, 2, 3, 4, 5, 6], list("abcd"), order="lower").get_vectors()
    array([[1., 2., 4., 3., 5., 6.]])
    """
    check_option(order, ("upper", "lower"), "order")
    values = as_numbers(array, where)
    if values.shape[-1:] == (0,):
        refuse(f"{where} is empty: its shape is {values.shape}")
    values = dissimilarities_of(values, similarity)
    if condensed or values.ndim == 1 or (values.ndim == 2 and values.shape[0] != values.shape[1]):
        copied = np.atleast_2d(values.astype(np.float64))
        pairs = _in_order(copied, order, diagonal, f"{where} with shape {values.shape}")
    else:
        pairs = _pairs_of(values, bool(diagonal), where)
    rdms = _build(pairs, names, by, measure, descriptors, where)
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
    values = real_array(rdms.dissimilarities, where)
    _n_conditions(values.shape[1], where)
    if not len(values):
        refuse(f"{where} holds no RDM")
    for index, row in enumerate(values):
        _check_values(row, rdms.n_cond, f"RDM {index} (of {len(values)}) in {where}")


def _check_values(row: npt.NDArray[Any], n_conditions: int, where: str) -> None:
    """Refuse one RDM's pairs if any is infinite, all are NaN, or all are equal."""
    low, high = float(np.fmin.reduce(row)), float(np.fmax.reduce(row))  # without copies: an RDM may fill the memory
    if math.isinf(low) or math.isinf(high):
        i, j = _conditions_of(int(np.flatnonzero(np.isinf(row))[0]), n_conditions)
        refuse(f"{where} is infinite at conditions {i} and {j} (counted from 0); use NaN for unmeasured pairs")
    if math.isnan(low):
        refuse(f"{where} contains only NaN")
    if max(-low, high) > LARGEST:
        place = int(np.flatnonzero(np.abs(row) > LARGEST)[0])
        i, j = _conditions_of(place, n_conditions)
        refuse(
            f"{where} is {row[place]:g} at conditions {i} and {j} (counted from 0), but dissimilarities above "
            f"{LARGEST:g} are taken for damage; if the values are right, divide all RDMs by one number"
        )
    if low == high:
        refuse(f"{where} is constant: every pair is {low!r}, so it distinguishes nothing")


def _conditions_of(place: int, n_conditions: int) -> tuple[int, int]:
    """Return the two conditions of a pair."""
    return next(
        (int(rows[place - part.start]), int(columns[place - part.start]))
        for part, rows, columns in pair_blocks(n_conditions)
        if place < part.stop
    )


def dissimilarities_of(values: npt.NDArray[Any], similarity: bool | float | None) -> npt.NDArray[Any]:
    """Subtract similarities from the largest of them, or from the top of their scale; NaN stays NaN.

    Examples
    --------
    >>> dissimilarities_of(np.array([7.0, 1.0, np.nan]), True)
    array([ 0.,  6., nan])
    """
    if similarity is None or similarity is False:
        return values
    values = values.astype(np.float64, copy=False)
    greatest = float(np.nanmax(values, initial=-np.inf))
    top = greatest if similarity is True else float(similarity)
    if top < greatest - _ROUNDING * abs(greatest):
        refuse(f"similarity says that the scale ends at {top}, but there is a value of {greatest}")
    return top - values


def _in_order(rows: npt.NDArray[np.float64], order: str, diagonal: bool | None, where: str) -> npt.NDArray[np.float64]:
    """Bring condensed pairs to the order of the upper triangle, without the diagonal."""
    n_held = _n_conditions(rows.shape[1], where)
    if diagonal is None:
        _refuse_diagonals(rows, n_held - 1, where)
    n = n_held - 1 if diagonal else n_held
    if n < FEWEST_CONDITIONS:
        refuse(f"{where} has {n} conditions without the diagonal; an RDM needs at least 3")
    if order == "upper" and not diagonal:
        return rows
    places = np.zeros((n, n), np.int64)
    held = _triangle(n, order, bool(diagonal))
    places[held] = places[held[::-1]] = np.arange(rows.shape[1])
    taken: npt.NDArray[np.float64] = rows[:, places[np.triu_indices(n, 1)]]
    return taken


def _triangle(n: int, order: str, diagonal: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    first, second = (
        np.triu_indices(n, int(not diagonal)) if order == "upper" else np.tril_indices(n, -int(not diagonal))
    )
    return first, second


def _refuse_diagonals(rows: npt.NDArray[np.float64], n: int, where: str) -> None:
    """Refuse pairs of n + 1 conditions that look like those of n conditions and the diagonal, which are as many."""
    if n < FEWEST_CONDITIONS or not rows.size:
        return
    for order in ("upper", "lower"):
        on_it = np.equal(*_triangle(n, order, True))
        own, others = rows[:, on_it], rows[:, ~on_it]
        value = float(own[0, 0])
        like = value == 0 or (n >= _SURE and value == np.nanmax(rows))
        if like and (own == value).all() and not (others == value).any():
            refuse(
                f"{where} seems to hold {n} conditions with the diagonal, because all {n} places of a diagonal hold "
                f"{value:g} (and no other place does): use {read_arg('diagonal', True)}, or for {n + 1} conditions "
                f"without it {read_arg('diagonal', False)}"
            )


def _pairs_of(values: npt.NDArray[Any], any_diagonal: bool, where: str) -> npt.NDArray[np.float64]:
    """Turn a matrix or a stack of matrices into (n_rdms, n_pairs)."""
    if values.ndim not in (2, 3):
        refuse(f"{where} must have 1 to 3 dimensions, got shape {values.shape}")
    if values.shape[-1] != values.shape[-2]:
        refuse(f"{where} is not square: a stack of RDMs has shape (n_rdms, n, n), got {values.shape}")
    stack = values.reshape(-1, *values.shape[-2:])
    n_conditions = stack.shape[-1]
    if n_conditions < FEWEST_CONDITIONS:
        refuse(f"{where} has {n_conditions} conditions; an RDM needs at least 3")
    pairs = np.empty((len(stack), n_conditions * (n_conditions - 1) // 2))
    for index, matrix in enumerate(stack):
        named = f"RDM {index} (of {len(stack)}) in {where}"
        _condense(_filled(matrix.astype(np.float64, copy=False)), pairs[index], any_diagonal, named)
    return pairs


def _condense(matrix: npt.NDArray[np.float64], pairs: npt.NDArray[np.float64], any_diagonal: bool, where: str) -> None:
    """Check one square RDM and write its upper triangle, averaged with the lower triangle, to `pairs`."""
    tolerance = _ROUNDING * max(_largest(row) for row in matrix)
    worst, at = 0.0, (0, 0)
    for part, i, j in pair_blocks(len(matrix)):
        upper, lower = matrix[i, j], matrix[j, i]
        same = (upper == lower) | (np.isnan(upper) & np.isnan(lower))
        # an infinite entry in one triangle only, or infinite entries of opposite sign, are reported like others
        with np.errstate(invalid="ignore", over="ignore"):
            difference = np.where(same, 0.0, np.abs(upper - lower))
            pairs[part] = np.where(same, upper, upper / 2 + lower / 2)
        difference[np.isnan(difference)] = math.inf
        k = int(difference.argmax())
        if difference[k] > worst:
            worst, at = float(difference[k]), (int(i[k]), int(j[k]))
    if worst > tolerance:
        a, b = at
        refuse(
            f"{where} is not symmetric: [{a}, {b}] is {matrix[a, b]:.6g} and [{b}, {a}] is {matrix[b, a]:.6g} "
            f"(difference {worst:.3g}; differences up to {tolerance:.3g} count as rounding); "
            "correct the values, or average the matrix with its transpose if both triangles are valid"
        )
    diagonal = np.nan_to_num(np.abs(np.diagonal(matrix)), posinf=math.inf)
    if diagonal.max() > tolerance and not any_diagonal:
        k = int(diagonal.argmax())
        refuse(
            f"{where} has a non-zero diagonal: [{k}, {k}] is {matrix[k, k]:.6g}; if these are similarities, use "
            f"{read_arg('similarity', True)} (the largest value minus each) or a number, the top of the scale; if the "
            f"diagonal means nothing, such as chance of a decoder, {read_arg('diagonal', True)} leaves it out"
        )


def _largest(row: npt.NDArray[np.float64]) -> float:
    """Return the largest finite absolute value, 0 if there is none."""
    return float(np.max(np.abs(row), initial=0, where=np.isfinite(row)))


def _filled(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Fill an empty half, which holds only 0 or NaN, from the other; one of zeros would be averaged otherwise."""
    upper = any(np.nan_to_num(row[k + 1 :]).any() for k, row in enumerate(matrix))
    lower = any(np.nan_to_num(row[:k]).any() for k, row in enumerate(matrix))
    if upper == lower:
        return matrix
    half = np.triu(matrix if upper else matrix.T, 1)
    filled: npt.NDArray[np.float64] = half + half.T
    np.fill_diagonal(filled, np.diagonal(matrix))
    return filled


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
