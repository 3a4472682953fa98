"""Noise ceilings: how well any model could predict the RDMs of these subjects.

The bounds of `noise_ceiling` (rsatoolbox's) are drawn as a band. A share of a ceiling needs another number, the score
that a perfect model is expected to reach; `Agreement` estimates it by a one-factor model of the subjects: each RDM is
the shared RDM times a loading, plus noise of its own. Neither unequal noise, unequal scales nor missing pairs bias it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_option
from brainrdl.inference.pairwise import comparison_of
from brainrdl.similarity.pooling import means_of_others
from brainrdl.similarity.registry import SIMILARITIES

NO_CEILING = (float("nan"), float("nan"))

_MIN_CEILING = 0.05  # no share of a lower ceiling is given

_WEIGHTS = ("known", "both_known")

_ROUNDS, _SETTLED = 500, 1e-8  # of the factor analysis; it stops if the loadings no longer change


def noise_ceiling(rdms: Float[Tensor, "n_subjects n_pairs"], comparator: str) -> tuple[float, float]:
    """Leave-one-subject-out noise ceiling (lower, upper) of single-subject scores, as in rsatoolbox.

    Parameters
    ----------
    rdms : Tensor (n_subjects, n_pairs)
        One RDM per subject; NaN marks an unknown pair.
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.

    Returns
    -------
    tuple of two floats
        Mean similarity of each subject with the pooled others, and with all subjects pooled; NaN for fewer than 2
        subjects. RDMs are pooled by the mean of their ranks, z-scores, or values divided by their root mean square,
        depending on the comparator. The lower bound is not what a perfect model scores: with few subjects, it is far
        below (see `ceiling_for_subjects`).

    Raises
    ------
    BrainrdlError
        If the comparator is unknown.

    References
    ----------
    Nili et al. (2014), PLoS Comput. Biol. 10(4):e1003553, doi 10.1371/journal.pcbi.1003553.

    Examples
    --------
    >>> lower, upper = noise_ceiling(torch.rand(4, 15, generator=torch.Generator().manual_seed(0)), "corr")
    >>> lower <= upper
    True
    """
    check_option(comparator, SIMILARITIES, "comparator")
    if len(rdms) < 2:
        return NO_CEILING
    rdms = rdms.double()
    pool, compare = SIMILARITIES[comparator].poolable, comparison_of(comparator)
    others, everybody = means_of_others(rdms, pool), pool(rdms).nanmean(0)
    return float(compare(others, rdms).nanmean()), float(compare(everybody, rdms).nanmean())


def ceiling_for_mean(rdms: Float[Tensor, "n_subjects n_pairs"], comparator: str = "corr") -> float:
    """Ceiling for the mean RDM: expected similarity of a perfect model with the subjects' mean RDM, 0 to 1.

    Parameters
    ----------
    rdms : Tensor (n_subjects, n_pairs)
        One RDM per subject; NaN marks an unknown pair.
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.

    Returns
    -------
    float
        Square root of the reliability of the mean RDM: of McDonald's omega with three or more subjects, of Cronbach's
        alpha with two (a factor of two subjects has no unique loadings); NaN for one subject, 0 if subjects do not
        agree.

    Raises
    ------
    BrainrdlError
        If the comparator is unknown.

    References
    ----------
    McDonald (1999), Test Theory: A Unified Treatment, Erlbaum.

    Examples
    --------
    >>> shared, *noise = torch.randn(5, 4005, generator=torch.Generator().manual_seed(0))
    >>> abs(ceiling_for_mean(shared + torch.stack(noise)) - 0.8**0.5) < 0.05  # 4 subjects with as much noise as signal
    True
    """
    return Agreement.of(rdms, comparator).ceiling_for_mean()


def ceiling_for_subjects(rdms: Float[Tensor, "n_subjects n_pairs"], comparator: str = "corr") -> float:
    """Ceiling for single subjects: expected mean similarity of a perfect model with one subject's RDM, 0 to 1.

    Parameters, return value and errors are as in `ceiling_for_mean`. With two subjects it is the square root of the
    similarity between them, with more the mean loading of a one-factor model.

    Examples
    --------
    >>> shared, *noise = torch.randn(5, 4005, generator=torch.Generator().manual_seed(0))
    >>> abs(ceiling_for_subjects(shared + torch.stack(noise)) - 0.5**0.5) < 0.05
    True
    """
    return Agreement.of(rdms, comparator).ceiling_for_subjects()


def share_of_ceiling(
    scores: float | Float[np.ndarray, "*batch"], ceilings: float | Float[np.ndarray, "*batch"]
) -> Float[np.ndarray, "*batch"]:
    """Divide scores by their ceilings; NaN for a ceiling below .05, which a share would only blow up.

    Examples
    --------
    >>> share_of_ceiling(np.array([0.3, 0.3]), np.array([0.6, 0.01])).tolist()
    [0.5, nan]
    """
    enough = np.asarray(ceilings) >= _MIN_CEILING
    return np.where(enough, scores / np.where(enough, ceilings, 1), np.nan)


@dataclass(frozen=True, eq=False)
class Agreement:
    """How similar the RDMs of subjects are, in one set of pairs or on average over several (folds).

    Attributes
    ----------
    comparator : str
    between : array (n_subjects, n_subjects)
        Correlations between subjects (of Gaussian variables, for a rank comparator); 0 if two share too few pairs.
    n_shared : array (n_subjects, n_subjects)
        Number of pairs that two subjects share, the weight of their correlation; 0 for a subject with itself.
    scales : array (n_subjects,)
        Standard deviation of each RDM, or its root mean square for a comparator that keeps the mean.
    known, both_known : array (n_subjects,), (n_subjects, n_subjects)
        Mean over pairs of 1/k and 1/k^2 if a subject knows the pair, or two know it, of k subjects who do: the weights
        of subjects in the mean RDM.

    Examples
    --------
    >>> Agreement.of(torch.rand(1, 15), "corr").ceiling_for_mean()
    nan
    """

    comparator: str
    between: Float[np.ndarray, "n n"]
    n_shared: Float[np.ndarray, "n n"]
    scales: Float[np.ndarray, " n"]
    known: Float[np.ndarray, " n"]
    both_known: Float[np.ndarray, "n n"]

    @classmethod
    def of(cls, rdms: Float[Tensor, "n_subjects n_pairs"], comparator: str) -> Agreement:
        """Measure the agreement of subjects in one set of pairs."""
        check_option(comparator, SIMILARITIES, "comparator")
        similarity, rdms = SIMILARITIES[comparator], rdms.double()
        between = comparison_of(comparator)(rdms[:, None], rdms[None])
        if similarity.as_correlation is None:
            between = torch.full_like(between, torch.nan)
        known = (~rdms.isnan()).double()
        n_shared = torch.where(between.isnan(), 0, known @ known.T).fill_diagonal_(0)
        shares, n_pairs = known / known.sum(0).clamp(min=1), known.any(0).sum().clamp(min=1)
        offset = rdms.nanmean(1, keepdim=True) if similarity.centred else 0
        scales = (rdms - offset).square().nanmean(1).sqrt()
        as_correlation = np.vectorize(similarity.as_correlation or float, otypes=[float])
        return cls(
            comparator,
            as_correlation(between.nan_to_num().numpy()),
            n_shared.numpy(),
            scales.numpy(),
            (shares.sum(1) / n_pairs).numpy(),
            (shares @ shares.T / n_pairs).numpy(),
        )

    @classmethod
    def average(cls, parts: Sequence[Agreement]) -> Agreement:
        """Average over folds; a correlation counts with the number of pairs it is from."""
        parts = [part for part in parts if part.known.any()] or parts  # not folds that nobody knows
        n_shared = np.sum([part.n_shared for part in parts], axis=0)
        between = np.sum([part.between * part.n_shared for part in parts], axis=0) / np.maximum(n_shared, 1)
        known, both_known = (np.mean([getattr(part, name) for part in parts], axis=0) for name in _WEIGHTS)
        scales = torch.tensor(np.array([part.scales for part in parts])).nanmean(0)  # NaN where nothing is known
        return cls(parts[0].comparator, between, n_shared, scales.nan_to_num().numpy(), known, both_known)

    def ceiling_for_mean(self) -> float:
        """Return the ceiling for the mean RDM; NaN for one subject or a comparator without one, 0 without agreement."""
        if (loadings := self._loadings()) is None:
            return float("nan")
        signal, between = loadings * self.scales, np.outer(loadings, loadings)
        correlations = np.where(self.n_shared > 0, self.between, between)
        np.fill_diagonal(correlations, 1.0)
        covariances = correlations * np.outer(self.scales, self.scales)
        if len(signal) == 2:
            signal = np.full(2, max(covariances[0, 1], 0.0) ** 0.5)
        variance = float((covariances * self.both_known).sum())
        return self._expected(float(signal @ self.known) / variance**0.5 if variance > 0 else 0.0)

    def ceiling_for_subjects(self) -> float:
        """Return the ceiling for single subjects; NaN for one subject, 0 if subjects do not agree."""
        loadings = self._loadings()
        known = self.n_shared.any(1)  # not subjects whose RDM is constant, who have no scores
        return float("nan") if loadings is None else self._expected(float(loadings[known].mean()))

    def _expected(self, correlation: float) -> float:
        return float(SIMILARITIES[self.comparator].from_correlation(min(max(correlation, 0.0), 1.0)))

    def _loadings(self) -> Float[np.ndarray, " n"] | None:
        return one_factor(self.between, self.n_shared) if self.n_shared.any() else None


def one_factor(
    correlations: Float[np.ndarray, "n n"], weights: Float[np.ndarray, "n n"] | None = None
) -> Float[np.ndarray, " n"]:
    """Compute the loadings of a one-factor model by weighted least squares of the correlations, -1 to 1.

    Parameters
    ----------
    correlations : array (n, n)
        Correlations; the diagonal is not used.
    weights : array (n, n), optional
        Weights of the correlations, 0 for an unknown one; by default 1.

    Returns
    -------
    array (n,)
        Loadings; both are the square root of the correlation for n = 2, and all are 0 if the mean correlation is not
        above 0.

    Examples
    --------
    >>> loadings = np.array([0.9, 0.5, 0.3])
    >>> one_factor(np.outer(loadings, loadings)).round(3).tolist()
    [0.9, 0.5, 0.3]
    """
    n = len(correlations)
    weights = (np.ones((n, n)) if weights is None else weights) * ~np.eye(n, dtype=bool)
    weighted = weights * correlations
    loadings = np.full(n, max(float(weighted.sum() / weights.sum()), 0.0) ** 0.5)
    for _ in range(_ROUNDS):
        best = weighted @ loadings / np.maximum(weights @ loadings**2, np.finfo(float).tiny)
        before, loadings = loadings, np.clip((loadings + best) / 2, -1.0, 1.0)
        if np.abs(loadings - before).max() < _SETTLED:
            break
    return loadings
