"""The dual bootstrap over subjects and conditions: its resamples, and the replicates of many scores at once.

A replicate is made of the similarities of `brainrdl.inference.resamples`: of each kind (both resampled, only subjects,
only conditions, in this order) there are as many as resamples. They equal those of rsatoolbox's ``eval_dual_bootstrap``
for the same resamples. Their intervals are conservative (docs/validity.md): `brainrdl.inference.batches` has the same
scores with calibrated ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.rows import Against
from brainrdl.dissimilarity.pairs import n_conditions_of
from brainrdl.inference.batches import Compared, Estimates, Places, t_intervals
from brainrdl.inference.intervals import bootstrap_freedom, dual_bootstrap_variances
from brainrdl.inference.pairwise import Compare, comparison_of, resampled
from brainrdl.inference.resamples import resample_means, resample_subjects

_BLOCK = 2**20  # numbers compared at once


class Drawn(NamedTuple):
    """How often each resample drew each condition, and each subject.

    Attributes
    ----------
    conditions : Tensor (n_bootstrap, n_conditions)
    subjects : Tensor (n_bootstrap, n_subjects)

    Examples
    --------
    >>> Drawn.of(6, 3, n_bootstrap=100, seed=0).subjects.sum(1).unique()
    tensor([3.], dtype=torch.float64)
    """

    conditions: Float[Tensor, "n_bootstrap n_conditions"]
    subjects: Float[Tensor, "n_bootstrap n_subjects"]

    @classmethod
    def of(cls, n_conditions: int, n_subjects: int, n_bootstrap: int, seed: int) -> Drawn:
        """Draw conditions and subjects with replacement."""
        generator = torch.Generator().manual_seed(int(seed))
        return cls(_counts(n_conditions, n_bootstrap, generator), _counts(n_subjects, n_bootstrap, generator))


def _counts(n: int, n_bootstrap: int, generator: torch.Generator) -> Float[Tensor, "n_bootstrap n"]:
    drawn = torch.randint(n, (n_bootstrap, n), generator=generator)
    return torch.zeros(n_bootstrap, n, dtype=torch.float64).scatter_add_(1, drawn, torch.ones_like(drawn).double())


def subject_replicates(
    compare: Compare, models: Float[Tensor, "n_models n_pairs"], rdms: Float[Tensor, "n_subjects n_pairs"], drawn: Drawn
) -> Float[Tensor, "n_models 3 n_bootstrap"]:
    """Return replicates of the mean score with single subjects.

    Examples
    --------
    >>> rdms = torch.rand(4, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> subject_replicates(comparison_of("corr"), rdms[:1], rdms[1:], Drawn.of(6, 3, 10, seed=0)).shape
    torch.Size([1, 3, 10])
    """
    observed = compare(models[:, None], rdms)
    return _joined_subjects(observed, resample_subjects(compare, models, rdms, drawn.conditions), drawn)


def _joined_subjects(observed: Tensor, changed: Tensor, drawn: Drawn) -> Tensor:
    """Average over the subjects that each replicate drew; a score that is NaN does not count."""
    kinds = [
        (changed, drawn.subjects.T),
        (observed[..., None].expand_as(changed), drawn.subjects.T),
        (changed, torch.ones_like(drawn.subjects.T)),
    ]
    known = [~values.isnan() * weights for values, weights in kinds]
    return torch.stack(
        [(values.nan_to_num() * some).sum(-2) / some.sum(-2) for (values, _), some in zip(kinds, known, strict=True)], 1
    )


def mean_replicates(
    compare: Compare, models: Float[Tensor, "n_models n_pairs"], rdms: Float[Tensor, "n_subjects n_pairs"], drawn: Drawn
) -> Float[Tensor, "n_models 3 n_bootstrap"]:
    """Return replicates of the score with the mean RDM.

    Examples
    --------
    >>> rdms = torch.rand(4, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> mean_replicates(comparison_of("corr"), rdms[:1], rdms[1:], Drawn.of(6, 3, 10, seed=0)).shape
    torch.Size([1, 3, 10])
    """
    mean = rdms.nanmean(0, keepdim=True)
    return torch.stack(
        [
            resample_means(compare, models, rdms, drawn.subjects, drawn.conditions),
            resample_means(compare, models, rdms, drawn.subjects, None),
            resample_subjects(compare, models, mean, drawn.conditions)[:, 0],
        ],
        1,
    )


@dataclass(frozen=True, eq=False)
class BootstrapBatch:
    """Scores of rows (models with a target each) with their replicates; see `brainrdl.inference.batches.ScoreBatch`.

    Attributes
    ----------
    values : array (n_rows,)
        Scores; NaN if unknown.
    by_subject : array (n_rows, n_subjects)
        Scores with single subjects; empty for scores with the mean RDM.
    draws : array (n_rows, 3, n_bootstrap)
    n_subjects, n_stimuli : int

    Examples
    --------
    >>> rdms = torch.rand(5, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> batch = bootstrap_batch("corr", [(rdms[:2], rdms[2:])], "subjects", Drawn.of(6, 3, 100, seed=0))
    >>> batch.scores().low.shape, batch.differences([0], [1]).p.shape
    ((2,), (1,))
    """

    values: Float[np.ndarray, " n_rows"]
    by_subject: Float[np.ndarray, "n_rows n_subjects"]
    draws: Float[np.ndarray, "n_rows 3 n_bootstrap"]
    n_subjects: int
    n_stimuli: int

    def scores(self) -> Estimates:
        """Return the score of each row with its interval; NaN if an RDM is constant."""
        return self._estimates(self.values, self.draws)

    def differences(self, first: Places, second: Places) -> Estimates:
        """Return the differences between rows `first` and rows `second`, from the same resamples."""
        i, j = np.asarray(first, dtype=int), np.asarray(second, dtype=int)
        return self._estimates(self.values[i] - self.values[j], self.draws[i] - self.draws[j])

    def _estimates(self, values: Float[np.ndarray, " n"], draws: Float[np.ndarray, "n 3 n_bootstrap"]) -> Estimates:
        variances = dual_bootstrap_variances(draws, self.n_subjects, self.n_stimuli)
        freedom = np.full(len(values), float(bootstrap_freedom(self.n_subjects, self.n_stimuli)))
        return t_intervals(values, variances, freedom)


def bootstrap_batch(comparator: str, compared: Sequence[Compared], against: str, drawn: Drawn) -> BootstrapBatch:
    """Score models with targets; the rows are the models of the first element, then those of the second, ...

    Parameters
    ----------
    comparator, compared, against
        As in `brainrdl.inference.batches.score_batch`.
    drawn : Drawn
        Resamples of the conditions and subjects.

    Returns
    -------
    BootstrapBatch

    Examples
    --------
    >>> rdms = torch.rand(4, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> bootstrap_batch("corr", [(rdms[:1], rdms[1:])], "mean", Drawn.of(6, 3, 50, seed=0)).draws.shape
    (1, 3, 50)
    """
    compare, of_mean = comparison_of(comparator), against == Against.MEAN
    scored = [(_with_mean if of_mean else _with_subjects)(compare, *each, drawn) for each in compared]
    values, by_subject, draws = (torch.cat(parts).numpy() for parts in zip(*scored, strict=True))
    n_subjects, n_pairs = compared[0][1].shape
    return BootstrapBatch(values, by_subject, draws, n_subjects, n_conditions_of(n_pairs))


def _with_subjects(compare: Compare, models: Tensor, rdms: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor, Tensor]:
    own = models[:, None] if models.ndim == 2 else models
    observed = compare(own, rdms)
    if models.ndim == 2:
        changed = resample_subjects(compare, models, rdms, drawn.conditions)
    else:
        each = [resample_subjects(compare, models[:, s], rdms[[s]], drawn.conditions) for s in range(len(rdms))]
        changed = torch.cat(each, 1)
    return observed.mean(1), observed, _joined_subjects(observed, changed, drawn)


def _with_mean(compare: Compare, models: Tensor, rdms: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor, Tensor]:
    if models.ndim == 3:
        draws = _own_mean_replicates(compare, models, rdms, drawn)
        models = models.mean(1)
    else:
        draws = mean_replicates(compare, models, rdms, drawn)
    return compare(models, rdms.nanmean(0)), models.new_zeros(len(models), 0), draws


def _own_mean_replicates(compare: Compare, models: Tensor, rdms: Tensor, drawn: Drawn) -> Tensor:
    """Replicates of the score of the mean of the subjects' model RDMs with the mean of the subjects' RDMs."""
    blocks, known, values = [], (~rdms.isnan()).double(), rdms.nan_to_num()
    size = max(1, _BLOCK // max(models[:, 0].numel(), 1))
    means = models.mean(1)[:, None], rdms.nanmean(0)
    for conditions, subjects in zip(drawn.conditions.split(size), drawn.subjects.split(size), strict=True):
        changed = (subjects / subjects.sum(1, keepdim=True)) @ models, (subjects @ values) / (subjects @ known)
        kinds = (changed, conditions), (changed, None), (means, conditions)
        blocks.append(torch.stack([resampled(compare, a, b, counts) for (a, b), counts in kinds], 1))
    return torch.cat(blocks, -1)
