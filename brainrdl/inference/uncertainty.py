"""What each fold contributes to an interval, and how the folds of a score are joined to one estimate.

A method of inference is a class with ``of_mean``, ``of_subjects`` and ``join`` (`Inference`); `METHODS` lists them. One
is made for each target, so that a target's intervals do not depend on the other targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl.dissimilarity.pairs import pair_indices
from brainrdl.inference.bootstraps import Drawn, mean_replicates
from brainrdl.inference.influence import Influence, influence
from brainrdl.inference.intervals import Dyadic, Estimate, Replicates
from brainrdl.inference.pairwise import Compare
from brainrdl.inference.resamples import resample_subjects
from brainrdl.similarity.pooling import means_of_others
from brainrdl.similarity.traits import Comparator

_MOST = 2**25  # influences of pairs without each subject, for one score; beyond, their interaction is not subtracted


class FoldRDMs(NamedTuple):
    """The teacher's RDMs of conditions that were held out together.

    Attributes
    ----------
    names : tuple of str
        Conditions.
    rdms : Tensor (n_subjects, n_pairs)
        One RDM per subject, float64; NaN if a pair is unknown.
    """

    names: tuple[str, ...]
    rdms: Float[Tensor, "n_subjects n_pairs"]


@runtime_checkable
class Inference(Protocol):
    """Collects what is known about the sampling error of scores of one target."""

    def of_mean(self, fold: FoldRDMs, students: Tensor, compare: Compare, similarity: Comparator[Any]) -> list[Any]:
        """Return the part of each student's RDM ``(n_students, n_pairs)`` against the subjects' mean RDM."""

    def of_subjects(
        self, fold: FoldRDMs, students: Tensor, subjects: Sequence[int], compare: Compare, similarity: Comparator[Any]
    ) -> list[list[Any]]:
        """Return the parts of all students' RDMs against each of these subjects' RDMs."""

    def join(self, value: float, parts: Sequence[Any]) -> Estimate:
        """Join the parts of all folds, seeds and subjects of a score."""


class _Part(NamedTuple):
    """Influences in one fold: on the score against the mean and without each subject, or against one subject."""

    stimuli: Tensor  # positions among all stimuli
    pairs: Tensor  # positions among all pairs
    subject: int  # -1 for the mean
    found: Influence  # (1 + n_subjects or 1, ...) for the mean, (1, ...) for a subject


class DyadicInference:
    """Intervals from the influence of stimuli, pairs and subjects; see `brainrdl.inference.intervals.Dyadic`.

    Examples
    --------
    >>> DyadicInference(("a", "b", "c", "d"), n_subjects=2).n_pairs
    6
    """

    def __init__(self, names: Sequence[str], n_subjects: int, n_bootstrap: int = 0, seed: int = 0) -> None:
        self.position = {name: i for i, name in enumerate(names)}
        self.n_stimuli, self.n_subjects = len(names), n_subjects
        self.n_pairs = len(names) * (len(names) - 1) // 2
        self.with_interaction = self.n_pairs * n_subjects <= _MOST

    def of_mean(self, fold: FoldRDMs, students: Tensor, compare: Compare, similarity: Comparator[Any]) -> list[_Part]:
        """Return influences on the score against the mean RDM, and against each mean without one subject."""
        mean, without = fold.rdms.nanmean(0, keepdim=True), means_of_others(fold.rdms)
        if self.with_interaction:
            found = influence(compare, students[:, None], torch.cat([mean, without]), similarity)
        else:
            found = influence(compare, students[:, None], mean, similarity)
            found = found._replace(value=torch.cat([found.value, compare(students[:, None], without)], -1))
        places = self._places(fold.names)
        return [_Part(*places, -1, Influence(*row)) for row in zip(*found, strict=True)]

    def of_subjects(
        self, fold: FoldRDMs, students: Tensor, subjects: Sequence[int], compare: Compare, similarity: Comparator[Any]
    ) -> list[list[_Part]]:
        """Return influences on the scores against each subject."""
        found = influence(compare, students, fold.rdms[list(subjects), None], similarity)
        places = self._places(fold.names)
        return [
            [_Part(*places, s, Influence(*(x[k, r, None] for x in found))) for r in range(len(students))]
            for k, s in enumerate(subjects)
        ]

    def _places(self, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """Positions of these stimuli, and of their pairs, among all."""
        stimuli = torch.tensor([self.position[name] for name in names])
        i, j = stimuli[pair_indices(len(stimuli))]
        low, high = torch.minimum(i, j), torch.maximum(i, j)
        return stimuli, low * self.n_stimuli - low * (low + 1) // 2 + high - low - 1

    def join(self, value: float, parts: Sequence[_Part]) -> Dyadic:
        """Average influences over the parts whose score is known."""
        known = [part for part in parts if not part.found.value[0].isnan()]
        of_mean = bool(known) and known[0].subject < 0
        return self._joined_means(value, known) if of_mean else self._joined_subjects(value, known)

    def _joined_means(self, value: float, parts: Sequence[_Part]) -> Dyadic:
        rows = len(parts[0].found.pairs)
        pairs, conditions = self._zeros(rows)
        values = torch.stack([part.found.value for part in parts])
        for part in parts:
            pairs.index_add_(1, part.pairs, part.found.pairs / len(parts))
            conditions.index_add_(1, part.stimuli, part.found.conditions / len(parts))
        without = torch.where(values.isnan(), values[:, :1], values)[:, 1:].mean(0)
        if self.n_subjects < 2:
            without = without[:0]
        return Dyadic(value, pairs[0], conditions[0], without, pairs[1:], conditions[1:], _n_scored(parts))

    def _joined_subjects(self, value: float, parts: Sequence[_Part]) -> Dyadic:
        subjects = sorted({part.subject for part in parts})
        row = {subject: k for k, subject in enumerate(subjects)}
        rows = len(subjects) if self.with_interaction else 1
        pairs, conditions = self._zeros(rows)
        values, counts = torch.zeros(2, len(subjects), dtype=torch.float64)
        for part in parts:
            k = row[part.subject]
            values[k] += part.found.value[0]
            counts[k] += 1
            pairs[k % rows].index_add_(0, part.pairs, part.found.pairs[0])
            conditions[k % rows].index_add_(0, part.stimuli, part.found.conditions[0])
        n, left = counts.sum().clamp(min=1), (counts.sum() - counts)[:, None].clamp(min=1)
        all_pairs, all_conditions = pairs.sum(0), conditions.sum(0)
        several = len(subjects) > 1
        return Dyadic(
            value,
            all_pairs / n,
            all_conditions / n,
            ((values.sum() - values) / left[:, 0])[: len(subjects) * several],
            (all_pairs - pairs)[: rows * (several and self.with_interaction)] / left[: rows * several],
            (all_conditions - conditions)[: rows * (several and self.with_interaction)] / left[: rows * several],
            _n_scored(parts),
        )

    def _zeros(self, rows: int) -> tuple[Tensor, Tensor]:
        return tuple(torch.zeros(rows, n, dtype=torch.float64) for n in (self.n_pairs, self.n_stimuli))  # type: ignore[return-value]


def _n_scored(parts: Sequence[_Part]) -> int:
    """Count the stimuli with a score."""
    return len(torch.cat([part.stimuli for part in parts]).unique()) if parts else 0


class _Draws(NamedTuple):
    """Replicates of a score, and how often each of them drew its subject."""

    values: Float[Tensor, " n_draws"]
    weights: Float[Tensor, " n_draws"]


class BootstrapInference:
    """Intervals from rsatoolbox's dual bootstrap; see `brainrdl.inference.intervals.Replicates`.

    A resample is a set of weights: a pair counts as often as the product of its stimuli's counts. Replicates are
    ``(..., 3 * n_bootstrap)``: stimuli and subjects resampled, only subjects, only stimuli. They are conservative:
    their intervals are up to three times too wide (docs/validity.md).

    Examples
    --------
    >>> BootstrapInference(("a", "b", "c", "d"), n_subjects=2, n_bootstrap=10).subjects.shape
    torch.Size([10, 2])
    """

    def __init__(self, names: Sequence[str], n_subjects: int, n_bootstrap: int = 1000, seed: int = 0) -> None:
        drawn = Drawn.of(len(names), n_subjects, n_bootstrap, seed)
        self.stimuli, self.subjects = dict(zip(names, drawn.conditions.T, strict=True)), drawn.subjects

    def of_mean(self, fold: FoldRDMs, students: Tensor, compare: Compare, similarity: Comparator[Any]) -> list[_Draws]:
        """Return replicates of the score against the mean RDM."""
        replicates = mean_replicates(compare, students, fold.rdms, self._drawn(fold))
        return [_Draws(row, torch.ones_like(row)) for row in replicates.flatten(1)]

    def of_subjects(
        self, fold: FoldRDMs, students: Tensor, subjects: Sequence[int], compare: Compare, similarity: Comparator[Any]
    ) -> list[list[_Draws]]:
        """Return replicates of the scores against each subject."""
        rdms = fold.rdms[list(subjects)]
        changed = resample_subjects(compare, students, rdms, self._drawn(fold).conditions)
        observed = compare(students[:, None], rdms)[..., None].expand_as(changed)
        replicates = torch.cat([changed, observed, changed], -1)
        weights = [torch.cat([drawn, drawn, torch.ones_like(drawn)]) for drawn in self.subjects.T[list(subjects)]]
        return [[_Draws(row, weights[k]) for row in replicates[:, k]] for k in range(len(weights))]

    def _drawn(self, fold: FoldRDMs) -> Drawn:
        return Drawn(torch.stack([self.stimuli[name] for name in fold.names], -1), self.subjects)

    def join(self, value: float, parts: Sequence[_Draws]) -> Replicates:
        """Average replicates over folds, seeds and the subjects that each replicate drew."""
        values, weights = (torch.stack(column) for column in zip(*parts, strict=True))
        weights = weights * ~values.isnan()
        draws = (values.nan_to_num() * weights).sum(0) / weights.sum(0)
        return Replicates(value, draws, self.subjects.shape[1], len(self.stimuli))


METHODS: Mapping[str, type[DyadicInference] | type[BootstrapInference]] = {
    "dyadic": DyadicInference,
    "dual-bootstrap": BootstrapInference,
}
