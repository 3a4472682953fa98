"""Scores of many models with many targets at once, with the variances of all of them and of all their differences.

The variance of a score, and of the difference between two scores, is a quadratic form of influences. The sums of
products of the influences of all rows are therefore all that is kept: they give the interval of every score and of
every difference, in vectorised form. The numbers are those of `brainrdl.inference.intervals.Dyadic`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from brainrdl._core.rows import Against
from brainrdl.dissimilarity.pairs import n_conditions_of
from brainrdl.inference.closed_forms import Prepared, influences
from brainrdl.inference.influence import Influence
from brainrdl.inference.pairwise import comparison_of
from brainrdl.similarity.pooling import means_of_others

_BLOCK = 2**19  # numbers compared at once

_KEPT = 2**25  # influences kept in memory; more are computed a second time

_MOST = 2**25  # as in `brainrdl.inference.uncertainty`: beyond, the interaction is not subtracted

_CONFIDENCE, _ROUNDING = 0.95, 1e-9

_CANCELLED = 1e-13  # relative to the terms of a difference: a smaller variance is a rounding error

Compared = tuple[Tensor, Tensor]

Array = Float[np.ndarray, "..."]

Places = Sequence[int] | Int[np.ndarray, " n"]


class Estimates(NamedTuple):
    """Scores or differences, with 95% intervals and p-values (of the hypothesis that the true value is 0).

    Examples
    --------
    >>> Estimates(*np.zeros((4, 1))).value
    array([0.])
    """

    value: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]
    p: Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class ScoreBatch:
    """Scores of rows (models with a target each) and the sums of products that their variances are computed from.

    Attributes
    ----------
    values : array (n_rows,)
        Scores; NaN if unknown.
    by_subject : array (n_rows, n_subjects)
        Scores with single subjects; for scores with the mean RDM, the scores if a subject is left out.
    pairs, conditions : array (n_rows, n_rows)
        Sums of products of the influences of pairs, and of conditions.
    interaction : array (2, n_subjects, n_rows, n_rows)
        The same for what each subject changes in the influences, as pairs and conditions; empty for one subject.
    per_subject : float
        Factor of a sum over subjects to be a variance.
    n_stimuli : int

    Examples
    --------
    >>> rdms = torch.rand(5, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> batch = score_batch("corr", [(rdms[:2], rdms[2:])], "subjects")
    >>> batch.values.shape, batch.by_subject.shape
    ((2,), (2, 3))
    >>> batch.scores().low.shape, batch.differences([0], [1]).p.shape
    ((2,), (1,))
    """

    values: Float[np.ndarray, " n_rows"]
    by_subject: Float[np.ndarray, "n_rows n_subjects"]
    pairs: Float[np.ndarray, "n_rows n_rows"]
    conditions: Float[np.ndarray, "n_rows n_rows"]
    interaction: Float[np.ndarray, "2 n n_rows n_rows"]
    per_subject: float
    n_stimuli: int

    def scores(self) -> Estimates:
        """Return the score of each row with its interval; NaN if an RDM is constant."""
        return self._estimates(self.values, self.by_subject, np.arange(len(self.values)), None)

    def differences(self, first: Places, second: Places) -> Estimates:
        """Return the differences between rows `first` and rows `second`."""
        i, j = np.asarray(first, dtype=int), np.asarray(second, dtype=int)
        return self._estimates(self.values[i] - self.values[j], self.by_subject[i] - self.by_subject[j], i, j)

    def _estimates(
        self,
        values: Float[np.ndarray, " n"],
        by_subject: Float[np.ndarray, "n n_subjects"],
        i: Int[np.ndarray, " n"],
        j: Int[np.ndarray, " n"] | None,
    ) -> Estimates:
        stimuli = _dyadic(_quadratic(self.pairs, i, j), _quadratic(self.conditions, i, j))
        n = by_subject.shape[1]
        beyond = np.zeros(len(values))
        if n > 1:
            spread = by_subject - by_subject.mean(1, keepdims=True)
            subjects = self.per_subject * np.square(spread).sum(1)
            both = _dyadic(*(_quadratic(part, i, j) for part in self.interaction)).sum(0)
            beyond = np.maximum(subjects - self.per_subject * both, 0)
        variance = stimuli + beyond
        with np.errstate(invalid="ignore", divide="ignore"):
            freedom = variance**2 / (beyond**2 / max(n - 1, 1) + stimuli**2 / max(self.n_stimuli / 2 - 1, 1))
        return t_intervals(values, variance, freedom)


def _quadratic(products: Array, i: Int[np.ndarray, " n"], j: Int[np.ndarray, " n"] | None) -> Array:
    """Return the sums of squares of rows i, or of the differences between rows i and j."""
    own = products[..., i, i]
    if j is None:
        return own
    other = products[..., j, j]
    found = own + other - 2 * products[..., i, j]
    return np.where(found > _CANCELLED * (own + other), found, 0)


def _dyadic(pairs: Array, conditions: Array) -> Array:
    """Variance of a sum of pairs over conditions drawn at random; see `brainrdl.inference.influence.dyadic`."""
    return np.maximum(conditions - pairs, pairs / 2)


def t_intervals(
    values: Float[np.ndarray, " n"], variances: Float[np.ndarray, " n"], freedom: Float[np.ndarray, " n"]
) -> Estimates:
    """Intervals and two-sided p-values, as `brainrdl.inference.intervals.t_interval` for many values.

    Examples
    --------
    >>> t_intervals(np.array([0.2]), np.array([0.01]), np.array([30.0])).p.round(3).tolist()
    [0.055]
    """
    from scipy.special import stdtr, stdtrit

    known = np.isfinite(values) & np.isfinite(variances)
    errors = np.sqrt(np.where(known, variances, np.nan))
    exact = errors < _ROUNDING
    freedom = np.maximum(np.where(exact | ~np.isfinite(freedom), 1, freedom), 1)
    half = np.where(exact, 0, stdtrit(freedom, (1 + _CONFIDENCE) / 2) * errors)
    p = 2 * stdtr(freedom, -np.abs(values) / np.where(exact, 1, errors))
    p = np.where(exact, np.abs(values) < _ROUNDING, p)
    return Estimates(values, values - half, values + half, np.where(known, p, np.nan))


def score_batch(comparator: str, compared: Sequence[Compared], against: str, *, variances: bool = True) -> ScoreBatch:
    """Score models with targets; the rows are the models of the first element, then those of the second, ...

    Parameters
    ----------
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.
    compared : sequence of (models, rdms)
        Model RDMs (n_models, n_pairs), or (n_models, n_subjects, n_pairs) if each subject has its own, without NaN; and
        the RDMs of a target (n_subjects, n_pairs), of the same subjects and conditions in all elements, NaN if a pair
        is unknown. All are float64.
    against : {"subjects", "mean"}
        Score with the RDM of each subject, or with the mean RDM.
    variances : bool
        Whether intervals are needed.

    Returns
    -------
    ScoreBatch

    Examples
    --------
    >>> rdms = torch.rand(4, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> score_batch("corr", [(rdms[:1], rdms[1:]), (rdms[:2], rdms[1:])], "mean").values.shape
    (3,)
    """
    of_mean = against == Against.MEAN
    parts = [_Part(comparator, *_to_compare(models, rdms, of_mean), variances) for models, rdms in compared]
    n_subjects, n_pairs = compared[0][1].shape
    several = n_subjects > 1
    values = np.concatenate([part.values for part in parts])
    if of_mean:
        whole = values[:, 0]
        values = np.where(np.isnan(values[:, 1:]), values[:, :1], values[:, 1:])
    else:
        whole, values = values.mean(1), values[:, : n_subjects * several]
    factor = (n_subjects - 1) / n_subjects if of_mean else 1 / (n_subjects * max(n_subjects - 1, 1))
    if variances:
        pairs, conditions, interaction = _products(parts, of_mean, several and n_pairs * n_subjects <= _MOST)
    else:
        pairs = conditions = np.full((len(whole),) * 2, np.nan)
        interaction = np.zeros((2, 0, *pairs.shape))
    return ScoreBatch(whole, values, pairs, conditions, interaction, factor, n_conditions_of(n_pairs))


def score_batch_of(
    values: Float[np.ndarray, "n_rows n_subjects"],
    pairs: Float[Tensor, "n_rows n_subjects n_pairs"],
    conditions: Float[Tensor, "n_rows n_subjects n_conditions"],
) -> ScoreBatch:
    """Make a batch from the scores with single subjects and their influences.

    Examples
    --------
    >>> score_batch_of(np.ones((1, 2)), torch.zeros(1, 2, 6), torch.zeros(1, 2, 4)).values
    array([1.])
    """
    n = values.shape[1]
    centred = [rows - rows.mean(1, keepdim=True) for rows in (pairs, conditions)]
    interaction = np.stack([torch.einsum("isp,jsp->sij", rows, rows).numpy() for rows in centred])
    several = n > 1
    return ScoreBatch(
        values.mean(1),
        values[:, : n * several],
        _gram(pairs.mean(1)),
        _gram(conditions.mean(1)),
        interaction[:, : n * several],
        1 / (n * max(n - 1, 1)),
        conditions.shape[-1],
    )


def _to_compare(models: Tensor, rdms: Tensor, of_mean: bool) -> tuple[Tensor, Tensor]:
    """Model RDMs (n_models, 1 or n, n_pairs) and those that they are compared with (n, n_pairs)."""
    if not of_mean:
        return models[:, None] if models.ndim == 2 else models, rdms
    means = _means_with_and_without(rdms)
    if models.ndim == 2:
        return models[:, None], means
    return torch.stack([_means_with_and_without(model) for model in models]), means


def _means_with_and_without(rdms: Tensor) -> Tensor:
    """Mean RDM of all subjects, and of the other subjects for each."""
    mean = rdms.nanmean(0, keepdim=True)
    return torch.cat([mean, means_of_others(rdms)]) if len(rdms) > 1 else mean


class _Part:
    """Models compared with the RDMs of one target; influences are kept if they are few, or else computed again."""

    def __init__(self, comparator: str, models: Tensor, rdms: Tensor, variances: bool) -> None:
        self.comparator, self.rdms = comparator, rdms
        n_models, n_pairs = len(models), rdms.shape[-1]
        self.size = max(1, _BLOCK // (n_models * n_pairs))
        keep = n_models * n_pairs * len(rdms) <= _KEPT
        self.kept: list[tuple[Tensor, Tensor]] | None = [] if keep and variances else None
        if not variances:
            self.values = comparison_of(comparator)(models, rdms[None]).numpy()
            return
        self.prepared = Prepared(comparator, models), Prepared(comparator, rdms[None])
        values = []
        for found in self._blocks():
            values.append(found.value)
            if self.kept is not None:
                self.kept.append((found.pairs, found.conditions))
        self.values = torch.cat(values, 1).numpy()

    def _blocks(self) -> Iterator[Influence]:
        models, rdms = self.prepared
        for start in range(0, len(self.rdms), self.size):
            stop = start + self.size
            yield influences(self.comparator, models.block(start, stop), rdms.block(start, stop))

    def each(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the influences of pairs and of conditions, (n_models, ...), for one RDM after the other."""
        blocks = self.kept if self.kept is not None else (found[1:] for found in self._blocks())
        for pairs, conditions in blocks:
            yield from zip(pairs.unbind(1), conditions.unbind(1), strict=True)


def _products(parts: Sequence[_Part], of_mean: bool, with_interaction: bool) -> tuple[Array, Array, Array]:
    """Sum products over all rows: of the influences on the score, and of what each subject changes in them."""
    n_first = int(of_mean)  # the first RDM is then the mean RDM, and the others are those without each subject
    whole = next(_rows(parts)) if of_mean else _mean(parts, 0)
    pairs, conditions = (_gram(rows) for rows in whole)
    if not with_interaction:
        return pairs, conditions, np.zeros((2, 0, *pairs.shape))
    centre = _mean(parts, 1) if of_mean else whole
    interaction = [
        [_gram(own - mean) for own, mean in zip(rows, centre, strict=True)]
        for s, rows in enumerate(_rows(parts))
        if s >= n_first
    ]
    return pairs, conditions, np.array(interaction).swapaxes(0, 1)


def _rows(parts: Sequence[_Part]) -> Iterator[tuple[Tensor, Tensor]]:
    for found in zip(*(part.each() for part in parts), strict=True):
        yield torch.cat([pairs for pairs, _ in found]), torch.cat([conditions for _, conditions in found])


def _mean(parts: Sequence[_Part], skip: int) -> tuple[Tensor, Tensor]:
    """Mean influences over RDMs, without the first `skip`."""
    rows = islice(_rows(parts), skip, None)
    pairs, conditions = next(rows)
    count = 1
    for more_pairs, more_conditions in rows:
        pairs, conditions, count = pairs + more_pairs, conditions + more_conditions, count + 1
    return pairs / count, conditions / count


def _gram(rows: Tensor) -> Array:
    return (rows @ rows.T).numpy()
