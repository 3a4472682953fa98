"""95% intervals and p-values of scores and of differences between scores, over stimuli and subjects.

Two kinds: `Dyadic`, from the influence of stimuli, pairs and subjects, is calibrated (docs/validity.md); `Replicates`,
rsatoolbox's dual bootstrap, is too wide, and is there for comparison. Both are averaged over folds and seeds, which
share stimuli, before a variance is computed; a difference of two scores is made from the differences of their parts,
so that what both have in common cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from brainrdl.inference.influence import dyadic
from brainrdl.similarity.registry import SIMILARITIES

if TYPE_CHECKING:
    from brainrdl.inference.batches import Estimates

_CONFIDENCE = 0.95

_ROUNDING = 1e-9  # smaller errors and differences of scores are rounding


class Interval(NamedTuple):
    """Limits of a 95% interval, and the p-value of the hypothesis that the true value is 0.

    Examples
    --------
    >>> Interval(0.1, 0.3, 0.001).low
    0.1
    """

    low: float
    high: float
    p: float


Limits = TypeVar("Limits", Interval, "Estimates")

NO_INTERVAL = Interval(float("nan"), float("nan"), float("nan"))


@runtime_checkable
class Estimate(Protocol):
    """A score, or a difference between scores, with what its interval needs."""

    @property
    def value(self) -> float:
        """The score."""

    def minus(self, other: Any) -> Estimate:
        """Return the difference between two estimates of the same kind, from the same stimuli and subjects."""

    def interval(self) -> Interval:
        """Return the 95% interval and the p-value."""


def t_interval(value: float, variance: float, freedom: float) -> Interval:
    """Interval and two-sided p-value from a variance and its degrees of freedom (at least 1).

    Examples
    --------
    >>> low, high, p = t_interval(0.2, 0.01, 30)
    >>> round(low, 3), round(high, 3), round(p, 3)
    (-0.004, 0.404, 0.055)
    """
    from scipy.special import stdtr, stdtrit

    if not (np.isfinite(value) and np.isfinite(variance)):
        return NO_INTERVAL
    error, freedom = variance**0.5, max(freedom, 1.0)
    if error < _ROUNDING:
        return Interval(value, value, float(abs(value) < _ROUNDING))
    half = float(stdtrit(freedom, (1 + _CONFIDENCE) / 2)) * error
    return Interval(value - half, value + half, float(2 * stdtr(freedom, -abs(value) / error)))


def cut(found: Limits, lowest: float, highest: float) -> Limits:
    """Cut intervals at the limits that a statistic cannot pass; this leaves their coverage as it is.

    Examples
    --------
    >>> [float(value) for value in cut(Interval(0.6, 1.1, 0.001), -1, 1)]
    [0.6, 1.0, 0.001]
    """
    low, high = (np.clip(end, lowest, highest) for end in (found.low, found.high))
    return found._replace(low=low, high=high)


def of_score(found: Limits, comparator: str) -> Limits:
    """Cut intervals of scores at the limits of the comparator, such as -1 and 1 for a correlation.

    The ends of t-intervals are symmetric around the score, so they can pass these limits if there are few stimuli or
    subjects. A comparator without stated limits, as in `brainrdl.similarity.Traits`, has none here.

    Examples
    --------
    >>> [float(of_score(Interval(-1.2, 1.1, 0.5), name).low) for name in ("corr", "riemannian")]
    [-1.0, -1.2]
    """
    known = SIMILARITIES.get(comparator.removeprefix("partial "))
    return found if known is None else cut(found, *known.limits)


@dataclass(frozen=True)
class Bare:
    """A score without an interval.

    Examples
    --------
    >>> Bare(0.5).minus(Bare(0.2)).interval().low
    nan
    """

    value: float

    def minus(self, other: Bare) -> Bare:
        """Return the difference between two scores."""
        return Bare(self.value - other.value)

    def interval(self) -> Interval:
        """Return an interval of NaN."""
        return NO_INTERVAL


@dataclass(frozen=True)
class Dyadic:
    """A score with its influences of pairs and conditions, and all of them again without each subject.

    Attributes
    ----------
    value : float
    pairs : Tensor (n_pairs,)
        Influence of each pair of all stimuli (see `brainrdl.inference.influence`).
    conditions : Tensor (n_stimuli,)
    values_without : Tensor (n_subjects,)
        The score if one subject is left out.
    pairs_without, conditions_without : Tensor (n_subjects, ...)
        Influences if one subject is left out; empty to not subtract the interaction of stimuli and subjects.
    n_stimuli : int

    Notes
    -----
    The variance is that over stimuli (dyadic cluster-robust) plus that over subjects (jackknife), minus that of their
    interaction, which both contain; it is at least the variance over stimuli. Degrees of freedom follow Welch and
    Satterthwaite, with n_subjects - 1 for subjects beyond the interaction and n_stimuli / 2 - 1 for stimuli. With one
    subject, the interval is for this subject. Coverage in simulations: docs/validity.md.

    References
    ----------
    Aronow, Samii & Assenova (2015), Political Analysis 23:564-577, doi 10.1093/pan/mpv018.

    Examples
    --------
    >>> import torch
    >>> nothing = torch.zeros(2, 0)
    >>> one = Dyadic(0.5, torch.zeros(3), torch.zeros(3), torch.tensor([0.4, 0.6]), nothing, nothing, n_stimuli=3)
    >>> round(one.variances()[1], 6)
    0.01
    """

    value: float
    pairs: Float[Tensor, " n_pairs"]
    conditions: Float[Tensor, " n_stimuli"]
    values_without: Float[Tensor, " n_subjects"]
    pairs_without: Float[Tensor, "n_subjects _"]
    conditions_without: Float[Tensor, "n_subjects _"]
    n_stimuli: int

    def minus(self, other: Dyadic) -> Dyadic:
        """Return the difference between two scores from the same stimuli and subjects."""
        return Dyadic(
            self.value - other.value,
            self.pairs - other.pairs,
            self.conditions - other.conditions,
            self.values_without - other.values_without,
            self.pairs_without - other.pairs_without,
            self.conditions_without - other.conditions_without,
            self.n_stimuli,
        )

    def variances(self) -> tuple[float, float, float]:
        """Return the variances over stimuli, over subjects, and of their interaction (contained in both)."""
        stimuli = float(dyadic(self.pairs, self.conditions))
        n = len(self.values_without)
        if n < 2:
            return stimuli, 0.0, 0.0
        shrunken = (n - 1) / n
        subjects = shrunken * float((self.values_without - self.values_without.mean()).square().sum())
        if not self.pairs_without.numel():
            return stimuli, subjects, 0.0
        pairs, conditions = (x - x.mean(0) for x in (self.pairs_without, self.conditions_without))
        return stimuli, subjects, shrunken * float(dyadic(pairs, conditions).sum())

    def interval(self) -> Interval:
        """Return the 95% interval and the p-value."""
        stimuli, subjects, both = self.variances()
        beyond = max(subjects - both, 0.0)
        variance, n = stimuli + beyond, len(self.values_without)
        if variance == 0:
            return t_interval(self.value, 0.0, 1)
        freedom = variance**2 / (beyond**2 / max(n - 1, 1) + stimuli**2 / max(self.n_stimuli / 2 - 1, 1))
        return t_interval(self.value, variance, freedom)


@dataclass(frozen=True)
class Replicates:
    """A score with its replicates of rsatoolbox's dual bootstrap.

    Attributes
    ----------
    value : float
    draws : Tensor (3 * n_bootstrap,)
        Replicates with both resampled, with only subjects, and with only stimuli, in this order; NaN if a resample had
        too few pairs.
    n_subjects, n_stimuli : int
        Number of subjects and stimuli; with one subject, only the stimuli count.

    References
    ----------
    Schuett et al. (2023), eLife 12:e82566, doi 10.7554/eLife.82566.

    Examples
    --------
    >>> import torch
    >>> draws = torch.randn(3000, generator=torch.Generator().manual_seed(0)) * 0.1
    >>> low, high, p = Replicates(0.5, draws, n_subjects=10, n_stimuli=92).interval()
    >>> low < 0.5 < high
    True
    """

    value: float
    draws: Float[Tensor, " n_draws"]
    n_subjects: int
    n_stimuli: int

    def minus(self, other: Replicates) -> Replicates:
        """Return the difference between two scores from the same resamples."""
        return Replicates(self.value - other.value, self.draws - other.draws, self.n_subjects, self.n_stimuli)

    def interval(self) -> Interval:
        """Return the 95% interval and the p-value; NaN with fewer than 2 replicates of a kind that are not NaN."""
        kinds = self.draws.reshape(3, -1).numpy()
        variance = float(dual_bootstrap_variances(kinds, self.n_subjects, self.n_stimuli))
        return t_interval(self.value, variance, bootstrap_freedom(self.n_subjects, self.n_stimuli))


def dual_bootstrap_variances(
    draws: Float[np.ndarray, "*batch 3 n_bootstrap"], n_subjects: int, n_stimuli: int
) -> Float[np.ndarray, "*batch"]:
    """Join the variances of three bootstraps to that of a score over stimuli and subjects, as rsatoolbox does.

    Parameters
    ----------
    draws : array (..., 3, n_bootstrap)
        Replicates with both resampled, with only subjects, and with only stimuli; NaN if a resample had too few pairs.
    n_subjects, n_stimuli : int
        With one subject, only the stimuli count.

    Returns
    -------
    array (...)
        NaN with fewer than 2 replicates of a kind that are not NaN.

    References
    ----------
    Schuett et al. (2023), eLife 12:e82566, doi 10.7554/eLife.82566.

    Examples
    --------
    >>> draws = np.random.default_rng(0).normal(size=(3, 1000)) * [[0.2], [0.1], [0.1]]
    >>> bool(0.01 < dual_bootstrap_variances(draws, 10, 92) < 0.04)
    True
    """
    n = (~np.isnan(draws)).sum(-1, keepdims=True)
    centred = draws - np.nansum(draws, -1, keepdims=True) / np.maximum(n, 1)
    variances = np.nansum(np.square(centred), -1) / np.maximum(n[..., 0] - 1, 1)
    both, of_subjects, of_stimuli = np.moveaxis(variances, -1, 0)
    stimuli = n_stimuli / (n_stimuli - 1)
    if n_subjects > 1:
        subjects = n_subjects / (n_subjects - 1)
        joined = subjects * of_subjects + stimuli * of_stimuli - subjects * stimuli * (both - of_subjects - of_stimuli)
        at_least = np.maximum(subjects * of_subjects, stimuli * of_stimuli)
        found = np.minimum(np.maximum(joined, at_least), both)
    else:
        found = stimuli * of_stimuli
    return np.where((n < 2).any((-2, -1)), np.nan, found)


def bootstrap_freedom(n_subjects: int, n_stimuli: int) -> int:
    """Degrees of freedom of a dual bootstrap, as in rsatoolbox: the smaller number, minus 1.

    Examples
    --------
    >>> bootstrap_freedom(12, 92), bootstrap_freedom(1, 92)
    (11, 91)
    """
    return (min(n_subjects, n_stimuli) if n_subjects > 1 else n_stimuli) - 1


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number; NaN does not count and stays NaN.

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6:65-70.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    corrected = np.full(len(values), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(value) for value in corrected]
