"""Concordance of two orders, counted in O(n log n) with a few large NumPy operations; for RDMs without weights.

A permutation is split by one bit of its numbers after the other, from the highest to the lowest, so that each step is
two gathers of whole arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_DIRECT = 3  # bits: groups of 8 places are compared directly

_CACHED = 16  # bits: a group of 65536 places fits into the cache of a core, and is finished before the next


class Concordance(NamedTuple):
    """Counts of pairs of pairs.

    Attributes
    ----------
    score : number
        Concordant minus discordant.
    untied_a, untied_b : number
        How many are not tied in each RDM.
    """

    score: int
    untied_a: int
    untied_b: int


def count_concordance(
    a: npt.NDArray[np.floating], b: npt.NDArray[np.floating], order: npt.NDArray[np.int64] | None = None
) -> Concordance:
    """Count concordant minus discordant pairs of two vectors of the same length, without NaN.

    Parameters
    ----------
    a, b : array (n,)
        Values to order.
    order : array (n,), optional
        Order of `a`, if it is known.

    Returns
    -------
    Concordance

    Examples
    --------
    >>> count_concordance(np.array([1.0, 2.0, 9.0]), np.array([0.1, 0.3, 0.2]))
    Concordance(score=1, untied_a=3, untied_b=3)
    """
    order = a.argsort() if order is None else order
    same_a = _same_as_before(a[order])
    in_a, in_b = _tied(same_a), _tied(_same_as_before(np.sort(b)))
    if in_a:  # ties of a are not inversions: they are ordered by b
        order = np.lexsort((b, a))
    by_a = b[order]
    in_both = _tied(same_a & _same_as_before(by_a)) if in_a and in_b else 0
    discordant = count_inversions(by_a.argsort(kind="stable" if in_b else None))
    n_all = len(a) * (len(a) - 1) // 2
    return Concordance(n_all - in_a - in_b + in_both - 2 * discordant, n_all - in_a, n_all - in_b)


def _same_as_before(ordered: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    return np.asarray(ordered[1:] == ordered[:-1])


def _tied(same: npt.NDArray[np.bool_]) -> int:
    """Count the pairs within runs of equal values."""
    if not same.any():
        return 0
    ends = np.flatnonzero(~np.concatenate([[False], same, [False]]))
    lengths = np.diff(ends)
    return int((lengths * (lengths - 1) // 2).sum())


def count_inversions(places: npt.NDArray[np.integer]) -> int:
    """Count i < j with places[i] > places[j], for a permutation of 0 ... n - 1.

    Examples
    --------
    >>> count_inversions(np.array([2, 0, 1]))
    2
    """
    n = len(places)
    n_bits = max((n - 1).bit_length(), _DIRECT)
    dtype = np.int32 if n_bits < 31 else np.int64
    places = np.concatenate([places.astype(dtype, copy=False), np.arange(n, 1 << n_bits, dtype=dtype)])
    found, places = _split(places, n_bits, min(_CACHED, n_bits))
    for group in places.reshape(-1, 1 << min(_CACHED, n_bits)):
        within, group = _split(group, min(_CACHED, n_bits), _DIRECT)
        found += within + _compared(group.reshape(-1, 1 << _DIRECT))
    return found


def _split(places: npt.NDArray[np.integer], n_bits: int, until: int) -> tuple[int, npt.NDArray[np.integer]]:
    """Split groups of ``2 ** n_bits`` places into those of ``2 ** until``; count the inversions between their parts.

    A group holds all numbers with the same higher bits, in their original order. Half of them have the next bit: an
    inversion is a 1 before a 0. A 0 at place p of its group with k zeros before it has p - k ones before it.
    """
    n, found = len(places), 0
    for bit in reversed(range(until, n_bits)):
        half = 1 << bit
        is_one = (places & half) != 0
        zeros = np.flatnonzero(~is_one)
        found += int((zeros & (2 * half - 1)).sum()) - n // (2 * half) * (half * (half - 1) // 2)
        places = np.concatenate([places.take(zeros), places.take(np.flatnonzero(is_one))])
    return found, places


def _compared(groups: npt.NDArray[np.integer]) -> int:
    size = groups.shape[1]
    return sum(int(np.count_nonzero(groups[:, :-gap] > groups[:, gap:])) for gap in range(1, size))
