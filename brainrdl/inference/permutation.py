"""Permutation tests: signs of subjects' values, and labels of conditions (Mantel).

Both hold without a model of the noise, and give a p-value corrected for all that was tested, from the largest statistic
of each permutation. They answer different questions. Signs are flipped to test whether the mean over subjects is 0, for
these stimuli. Labels are permuted to test whether a model is related to these RDMs at all, for these subjects. Neither
says whether two models differ in other stimuli; the intervals of `brainrdl.inference.intervals` do.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int8
from torch import Tensor

from brainrdl._core.errors import check_option, check_whole, named, refuse
from brainrdl._core.given_values import as_float64
from brainrdl.dissimilarity.pairs import n_conditions_of, to_square
from brainrdl.inference.pairwise import comparison_of, is_constant
from brainrdl.similarity.pair_sums import centred
from brainrdl.similarity.ranks import centred_ranks
from brainrdl.similarity.registry import SIMILARITIES

Tail = Literal["two-sided", "greater", "less"]

_BLOCK = 2**20  # numbers computed at once, which limits the memory

_TIE = 1e-9  # statistics that differ by less, relative to the observed one, differ by rounding


class PermutationTest(NamedTuple):
    """Result of a permutation test of one or many values.

    Attributes
    ----------
    value : array (...)
        The mean over subjects of what was tested.
    statistic : array (...)
        The statistic that was compared with its permutations: t, or the number of standard deviations from the mean of
        the permutations.
    p : array (...)
        p-value of each value: the share of permutations, the observed one included, with a statistic as large.
    p_fwe : array (...)
        p-value corrected for all values (family-wise): the same share, of the largest statistics.
    maxima : array (n_permutations,)
        The largest statistic of each permutation, the observed one first; its 95 % quantile is the corrected threshold.
    exact : bool
        Whether all permutations were made; otherwise they are a random sample.

    Examples
    --------
    >>> sign_flip_test(np.array([0.2, 0.3, 0.1, 0.4, 0.2])).exact
    True
    """

    value: Float[np.ndarray, "*shape"]
    statistic: Float[np.ndarray, "*shape"]
    p: Float[np.ndarray, "*shape"]
    p_fwe: Float[np.ndarray, "*shape"]
    maxima: Float[np.ndarray, " n_permutations"]
    exact: bool


def sign_flip_test(
    values: npt.ArrayLike, *, tail: Tail = "two-sided", n_permutations: int = 10_000, seed: int = 0
) -> PermutationTest:
    """Test whether the mean over subjects is 0, by flipping the signs of subjects.

    Parameters
    ----------
    values : array (n_subjects, ...)
        One value per subject, or one per subject and voxel, time point or model; NaN leaves a subject out of one of
        them. All values of a subject are flipped together.
    tail : {"two-sided", "greater", "less"}
        Whether large values, small values or both speak against 0.
    n_permutations : int
        Number of random flips. If all flips are not more than this, all are made and the p-values are exact; 6 subjects
        have 32 in a two-sided test, so their p cannot be below 1/32.
    seed : int
        Seed of the flips.

    Returns
    -------
    PermutationTest
        With the shape of one subject's values; `statistic` is t. NaN where fewer than 2 subjects have a value.

    Raises
    ------
    BrainrdlError
        If there are fewer than 2 subjects, a value is infinite, or an option is unknown.

    Notes
    -----
    The test assumes that the values of a subject would be as likely with the other sign if the true value were 0. It
    holds for these stimuli: if they are a sample, a difference can be significant that other stimuli would not show.
    Memory is that of `values` and a few million numbers.

    References
    ----------
    Nichols & Holmes (2002), Human Brain Mapping 15:1-25, doi 10.1002/hbm.1058. Phipson & Smyth (2010), Statistical
    Applications in Genetics and Molecular Biology 9(1):39, doi 10.2202/1544-6115.1585 (p-values are never 0).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scores = 0.1 * rng.normal(size=(12, 3)) + [0.0, 0.1, 0.2]  # 12 subjects, 3 models
    >>> sign_flip_test(scores).p_fwe.round(3).tolist()
    [0.963, 0.001, 0.0]
    """
    table = subject_table(values)
    shape = np.shape(values)[1:]
    signs, exact = flips(len(table), tail, n_permutations, seed)
    observed = t_values(signs[:1], table)[0]
    score, counts, maxima = _one_sided(tail), np.zeros(table.shape[1]), np.full(len(signs), -np.inf)
    at_least = _just_below(score(observed))
    for rows, columns in _blocks(len(signs), table.shape[1]):
        found = score(t_values(signs[rows], table[:, columns]))
        counts[columns] += (found >= at_least[columns]).sum(0)
        maxima[rows] = np.fmax(maxima[rows], np.fmax.reduce(found, 1))
    n_as_large = len(maxima) - np.searchsorted(np.sort(maxima), at_least)
    unknown = np.isnan(observed)
    p, p_fwe = (np.where(unknown, np.nan, n / len(signs)) for n in (counts, n_as_large))
    value, statistic, p, p_fwe = (x.reshape(shape) for x in (_means(table), observed, p, p_fwe))
    return PermutationTest(value, statistic, p, p_fwe, maxima, exact)


def subject_table(values: npt.ArrayLike) -> Float[np.ndarray, "n_subjects n_values"]:
    """Return values of subjects as a table of float64.

    Raises
    ------
    BrainrdlError
        If there are fewer than 2 subjects, no values, or an infinite value.

    Examples
    --------
    >>> subject_table(np.zeros((5, 3, 4))).shape
    (5, 12)
    """
    table = as_float64(values, named("values"))
    if table.ndim < 1 or len(table) < 2 or not table.size:
        refuse(f"{named('values')} must have shape (n_subjects, ...) with at least 2 subjects, got {table.shape}")
    if np.isinf(table).any():
        refuse(f"{named('values')} must be finite or NaN (unknown), got {int(np.isinf(table).sum())} infinite values")
    return table.reshape(len(table), -1)


def flips(
    n_subjects: int, tail: Tail, n_permutations: int, seed: int
) -> tuple[Int8[np.ndarray, "n_permutations n_subjects"], bool]:
    """Return signs of subjects, the observed ones (all 1) first, and whether they are all that there are.

    In a two-sided test, a flip and its opposite are the same, so the last subject keeps its sign if all are made.

    Raises
    ------
    BrainrdlError
        If an option is unknown.

    Examples
    --------
    >>> flips(2, "greater", 100, seed=0)[0].tolist()
    [[1, 1], [-1, 1], [1, -1], [-1, -1]]
    """
    check_option(tail, get_args(Tail), "tail")
    check_whole(n_permutations, "n_permutations", 1)
    n_free = n_subjects - (tail == "two-sided")
    if n_free < 31 and 2**n_free <= n_permutations + 1:
        bits = np.arange(2**n_free)[:, None] >> np.arange(n_subjects) & 1
        return (1 - 2 * bits).astype(np.int8), True
    drawn = np.random.default_rng(seed).integers(2, size=(n_permutations, n_subjects), dtype=np.int8)
    return np.concatenate([np.ones((1, n_subjects), np.int8), 1 - 2 * drawn]), False


def t_values(
    signs: npt.NDArray[np.int8], table: Float[np.ndarray, "n_subjects n_values"]
) -> Float[np.ndarray, "n_permutations n_values"]:
    """Compute the t statistic of each column for each row of signs; NaN with fewer than 2 subjects.

    A column without variance has a t of about 1e8, and one of zeros a t of 0.

    Examples
    --------
    >>> t_values(np.ones((1, 3), np.int8), np.array([[1.0], [2.0], [3.0]])).round(3).tolist()
    [[3.464]]
    """
    known = ~np.isnan(table)
    filled = table if known.all() else np.where(known, table, 0.0)
    n = known.sum(0)
    size = np.sqrt(n * (filled**2).sum(0))
    cosine = signs.astype(float) @ (filled / np.where(size > 0, size, 1.0))
    left = np.maximum(1 - cosine**2, np.finfo(float).eps)
    return cosine * np.sqrt(np.where(n > 1, n - 1.0, np.nan)) / np.sqrt(left)


def _means(table: Float[np.ndarray, "n_subjects n_values"]) -> Float[np.ndarray, " n_values"]:
    n = (~np.isnan(table)).sum(0)
    return np.where(n > 0, np.nansum(table, axis=0) / np.maximum(n, 1), np.nan)


def _one_sided(tail: Tail) -> Callable[[np.ndarray], np.ndarray]:
    return {"two-sided": np.abs, "greater": np.positive, "less": np.negative}[tail]


def _just_below(statistic: np.ndarray) -> np.ndarray:
    return statistic - _TIE * np.maximum(np.abs(statistic), 1)


def _blocks(n_rows: int, n_columns: int) -> Iterator[tuple[slice, slice]]:
    wide = min(n_columns, 4096)
    tall = max(1, _BLOCK // wide)
    for column, row in itertools.product(range(0, n_columns, wide), range(0, n_rows, tall)):
        yield slice(row, row + tall), slice(column, column + wide)


def mantel_test(
    models: Tensor | npt.ArrayLike,
    rdms: Tensor | npt.ArrayLike,
    comparator: str = "corr",
    *,
    tail: Tail = "two-sided",
    n_permutations: int = 10_000,
    seed: int = 0,
) -> PermutationTest:
    """Test whether models are related to RDMs, by permuting the labels of the conditions.

    Parameters
    ----------
    models : array (n_models, n_pairs) or (n_pairs,)
        RDMs of models. All are permuted together, so that `p_fwe` is corrected for their number.
    rdms : array (n_subjects, n_pairs) or (n_pairs,)
        One RDM per subject, with the conditions in the same order; NaN marks an unknown pair.
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.
    tail : {"two-sided", "greater", "less"}
        Whether scores above, below or on both sides of the mean of the permutations speak against no relation.
    n_permutations : int
        Number of random permutations. If all are not more than this, all are made (7 conditions have 5040).
    seed : int
        Seed of the permutations.

    Returns
    -------
    PermutationTest
        For each model, or one number for a single model; `value` is the mean over subjects of the similarity, and
        `statistic` counts standard deviations of the permutations from their mean.

    Raises
    ------
    BrainrdlError
        If numbers of pairs differ, there are fewer than 3 conditions, a value is infinite, or an option is unknown.

    Notes
    -----
    Comparators that are inner products of rescaled RDMs (correlations, cosines, ranks, whitened ones) are permuted in
    sets of n_conditions: a random permutation followed by each power of a random cycle. One Fourier transform computes
    all scores of a set, so that n_conditions permutations cost less than two by reordering. The first set contains the
    observed order. The p-value is exact, because the powers of a cycle are a group (Hemerik & Goeman 2018); the number
    of permutations is rounded up to whole sets. Other comparators, and RDMs with unknown pairs, are reordered one
    permutation at a time. Memory is limited in both cases.

    References
    ----------
    Mantel (1967), Cancer Research 27:209-220. Hemerik & Goeman (2018), TEST 27:811-825, doi 10.1007/s11749-017-0571-1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> related, unrelated, noise = rng.random((3, 190))  # 20 conditions
    >>> test = mantel_test(np.stack([related, unrelated]), related + noise, "spearman")
    >>> test.p_fwe.round(3).tolist()
    [0.0, 0.113]
    """
    check_option(comparator, SIMILARITIES, "comparator")
    check_option(tail, get_args(Tail), "tail")
    check_whole(n_permutations, "n_permutations", 1)
    a, b = (_rdms(x, what) for x, what in ((models, "models"), (rdms, "rdms")))
    if a.shape[1] != b.shape[1]:
        refuse(
            f"{named('models')} have {a.shape[1]} pairs, but {named('rdms')} have {b.shape[1]}; select the same ones"
        )
    n, rng = _n_to_permute(a.shape[1]), np.random.default_rng(seed)
    for x, what in ((a, "models"), (b, "rdms")):
        if flat := is_constant(x, SIMILARITIES[comparator].centred).nonzero().flatten().tolist():
            refuse(
                f"RDMs {flat} of {named(what)} (counted from 0) have the same dissimilarity for all pairs, so their "
                f"{comparator!r} is undefined; leave them out"
            )
    exact = n < 13 and math.factorial(n) <= n_permutations + 1
    product = _PRODUCTS.get(comparator) if not (a.isnan().any() or b.isnan().any()) else None
    if exact or product is None:
        orders = itertools.permutations(range(n)) if exact else _random_orders(n, n_permutations, rng)
        null = _reordered(a, b, comparator, orders)
    else:
        mean = functools.reduce(torch.add, (product(rdm[None])[0] for rdm in b)) / len(b)
        null = _in_cycles(product(a), mean, -(-(n_permutations + 1) // n), rng)
    return _tested(null, tail, exact, np.ndim(models) == 1)


def _rdms(rdms: Tensor | npt.ArrayLike, what: str) -> Float[Tensor, "n_rdms n_pairs"]:
    found = torch.as_tensor(np.array(as_float64(rdms, named(what)), order="C"))
    if found.ndim not in (1, 2) or not found.numel():
        refuse(f"{named(what)} must have shape (n_rdms, n_pairs) or (n_pairs,), got {tuple(found.shape)}")
    if found.isinf().any():
        refuse(f"{named(what)} must be finite or NaN (unknown), got infinite values")
    return torch.atleast_2d(found)


def _n_to_permute(n_pairs: int) -> int:
    n = n_conditions_of(n_pairs)
    if n < 3:
        refuse(f"labels can be permuted with at least 3 conditions, got {n}; compare RDMs of more conditions")
    return n


def _tested(null: Float[np.ndarray, "n_models n"], tail: Tail, exact: bool, single: bool) -> PermutationTest:
    """Compare the first column with all columns."""
    if undefined := int(np.isnan(null).any(0).sum()):
        refuse(
            f"the similarity is undefined in {undefined} of {null.shape[1]} permutations, because too few pairs are "
            "known, or an RDM is constant on them; leave out conditions with unknown pairs"
        )
    spread = null.std(1, keepdims=True)
    known = spread > _TIE * np.abs(null).max(1, keepdims=True)
    standardised = np.where(known, (null - null.mean(1, keepdims=True)) / np.where(known, spread, 1), 0.0)
    scores = _one_sided(tail)(standardised)
    at_least, maxima = _just_below(scores[:, :1]), scores.max(0)
    columns = null[:, 0], standardised[:, 0], (scores >= at_least).mean(1), (maxima >= at_least).mean(1)
    value, statistic, p, p_fwe = (x[0] if single else x for x in columns)
    return PermutationTest(value, statistic, p, p_fwe, maxima, exact)


def _random_orders(n: int, n_permutations: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    yield np.arange(n)
    yield from (rng.permutation(n) for _ in range(n_permutations))


def _reordered(
    a: Tensor, b: Tensor, comparator: str, orders: Iterator[npt.ArrayLike]
) -> Float[np.ndarray, "n_models n"]:
    """Mean similarity over subjects for each order of the conditions of `a`."""
    compare, square = comparison_of(comparator), to_square(a)
    n = square.shape[-1]
    i, j = torch.triu_indices(n, n, 1)
    size, found = max(1, _BLOCK // (a.numel() * len(b))), []
    while block := list(itertools.islice(orders, size)):
        order = torch.tensor(np.array(block))
        shuffled = square[:, order[:, i], order[:, j]]  # (n_models, n_orders, n_pairs)
        found.append(compare(shuffled[:, :, None], b).nanmean(-1))
    return torch.cat(found, 1).numpy()


def _unit(square: Float[Tensor, "n_rdms n n"]) -> Float[Tensor, "n_rdms n n"]:
    """Divide by the root of the sum over pairs and the diagonal; zeros stay zeros."""
    diagonal = square.diagonal(dim1=-2, dim2=-1).square().sum(-1)
    length = ((square.square().sum((-2, -1)) + diagonal) / 2).sqrt()[:, None, None]
    return square / torch.where(length > 0, length, 1)


def _of_ranks(rdms: Tensor) -> Tensor:
    return _unit(to_square(centred_ranks(rdms, None)))


def _of_rho_a(rdms: Tensor) -> Tensor:
    n = rdms.shape[-1]
    return to_square(centred_ranks(rdms, None)) * (3 / (n**3 - n)) ** 0.5


def _without_effects(rdms: Tensor) -> Tensor:
    """Residuals after the effects of conditions, as in `brainrdl.similarity.cosine_cov`."""
    square = to_square(rdms)
    n, sums = square.shape[-1], square.sum(-1)
    effects = (sums - sums.sum(-1, keepdim=True) / (2 * n)) / n
    diagonal = torch.diag_embed(
        (2 - 2**0.5) * effects
    )  # -2 e becomes -sqrt(2) e: the diagonal counts once, pairs twice
    return _unit(square - effects[..., None, :] - effects[..., None] + diagonal)


_PRODUCTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "corr": lambda rdms: _unit(to_square(centred(rdms, None))),
    "cosine": lambda rdms: _unit(to_square(rdms)),
    "spearman": _of_ranks,
    "rho-a": _of_rho_a,
    "cosine_cov": _without_effects,
    "corr_cov": lambda rdms: _without_effects(centred(rdms, None)),
    "cka": _without_effects,
}
"""How a comparator rescales RDMs ``(n_rdms, n_pairs)`` to matrices whose inner product, over pairs and the diagonal, it
is; the others are computed for one order at a time."""


def _in_cycles(
    a: Float[Tensor, "n_models n n"], b: Float[Tensor, "n n"], n_sets: int, rng: np.random.Generator
) -> Float[np.ndarray, "n_models n_orders"]:
    """Inner products of `b` with `a` in sets of n orders: a random one, followed by all powers of one cycle.

    If conditions are numbered along the cycle, its power k moves each diagonal of a matrix (pairs of conditions with
    the same distance) by k places: the products of all powers are a circular correlation of the diagonals.
    """
    n_models, n = a.shape[:2]
    cycle = rng.permutation(n)
    spectra = [_spectrum(b[None], cycle, shifts, n) for shifts in _shifts(n, n_models)]
    null = np.empty((n_models, n_sets * n))
    for k in range(n_sets):
        order = cycle if k == 0 else rng.permutation(n)
        total = sum(
            (_spectrum(a, order, shifts, n) * spectrum.conj()).sum(1)
            for shifts, spectrum in zip(_shifts(n, n_models), spectra, strict=True)
        )
        null[:, k * n : (k + 1) * n] = torch.fft.irfft(total, n=n).numpy()
    return null


def _shifts(n: int, n_models: int) -> Iterator[range]:
    """Distances along the cycle in blocks; up to half of it, beyond which pairs repeat."""
    size = max(1, _BLOCK // (n * n_models))
    yield from (range(first, min(first + size, n // 2 + 1)) for first in range(0, n // 2 + 1, size))


def _spectrum(square: Tensor, order: npt.NDArray[np.int64], shifts: range, n: int) -> Tensor:
    """Fourier transform of the diagonals of a reordered matrix, ``(n_rdms, n_shifts, n // 2 + 1)``."""
    row = torch.tensor(order)
    column = row[(torch.arange(n) + torch.tensor(shifts)[:, None]) % n]
    diagonals = square[:, row, column]
    if n % 2 == 0 and shifts[-1] == n // 2:
        diagonals[:, -1] /= 2**0.5  # each pair at half a cycle is here twice
    return torch.fft.rfft(diagonals)
