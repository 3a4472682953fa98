"""Concordance of two orders, counted in O(n log n) with a few large NumPy operations; for RDMs without weights.

A permutation is split by one bit of its numbers after the other, from the highest to the lowest, so that each step is
two gathers of whole arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from brainrdl.similarity.sorting import stable_order

_DIRECT = 5  # bits: places in groups of at most 32 are compared directly

_CACHED = 11  # bits: 2048 such groups fit into the cache of a core, and are finished before the next; 16 bits in all


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
    order = stable_order(a)[0] if order is None else order
    same_a = _same_as_before(a[order])
    in_a = _tied(same_a)
    if in_a:  # ties of a are not inversions: they are ordered by b
        order = np.lexsort((b, a))
    by_a = b[order]
    in_both = _tied(same_a & _same_as_before(by_a)) if in_a else 0
    order_b, ordered_b = stable_order(by_a)
    in_b, discordant = _tied(_same_as_before(ordered_b)), count_inversions(order_b)
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


def count_inversions(places: npt.NDArray[np.integer[Any]]) -> int:
    """Count i < j with places[i] > places[j], for a permutation of 0 ... n - 1.

    Examples
    --------
    >>> count_inversions(np.array([2, 0, 1]))
    2
    """
    n_bits = max((len(places) - 1).bit_length() - _DIRECT, 0)
    smallest = -(-len(places) >> n_bits)  # places in each of 2 ** n_bits groups
    padded = np.concatenate([places, np.arange(len(places), smallest << n_bits, dtype=places.dtype)])
    group, within = np.divmod(padded, smallest)
    numbers: npt.NDArray[np.integer[Any]] = group << _DIRECT | within
    numbers = numbers.astype(np.int32 if n_bits + _DIRECT < 32 else np.int64)
    until = min(_CACHED, n_bits)
    found, numbers = _split(numbers, smallest, n_bits, until)
    for part in numbers.astype(np.uint16).reshape(-1, smallest << until):
        inside, ordered = _split(part, smallest, until, 0)
        found += inside + _compared(ordered.reshape(-1, smallest).T.copy())
    return found


def _split(
    numbers: npt.NDArray[np.integer[Any]], smallest: int, n_bits: int, until: int
) -> tuple[int, npt.NDArray[np.integer[Any]]]:
    """Split each group of ``2 ** n_bits`` smallest groups into parts of ``2 ** until``; count inversions between parts.

    A group holds all numbers with the same higher bits, in their original order. Half of them have the next bit: an
    inversion is a 1 before a 0. A 0 at place p of its group with k zeros before it has p - k ones before it.
    """
    found = 0
    for bit in reversed(range(until, n_bits)):
        is_one = (numbers & numbers.dtype.type(1 << bit + _DIRECT)) != 0
        zeros = np.flatnonzero(~is_one)
        half = smallest << bit
        n_groups = len(numbers) // (2 * half)
        starts, before = n_groups * (n_groups - 1) * half * half, n_groups * (half * (half - 1) // 2)
        found += int(zeros.sum()) - starts - before
        numbers = np.concatenate([numbers.take(zeros), numbers.take(np.flatnonzero(is_one))])
    return found, numbers


def _compared(groups: npt.NDArray[np.integer[Any]]) -> int:
    """Count inversions within groups (size, n_groups) by comparing all places directly."""
    size = len(groups)
    return sum(int(np.count_nonzero(groups[:-gap] > groups[gap:])) for gap in range(1, size))
