"""Scores of model RDMs with targets, and the tables of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.errors import quote, refuse
from brainrdl._core.rows import Against
from brainrdl.analysis.model_sources import ModelRDM
from brainrdl.evaluation.scores import TeacherRDMs
from brainrdl.inference.batches import Compared, Estimates, ScoreBatch, score_batch
from brainrdl.inference.ceilings import Agreement, noise_ceiling
from brainrdl.inference.corrections import Correction, corrected
from brainrdl.inference.pairwise import is_constant
from brainrdl.similarity.registry import SIMILARITIES

MODELS, TARGETS = "models", "targets"  # families of contrasts

_MIN_CEILING = 0.05  # no share of a lower ceiling is given, as in `brainrdl.evaluation.scores`

SUMMARY = (
    "model", "layer", "target", "comparator", "against", "score", "low", "high", "p", "p_corrected", "p_ceiling",
    "ceiling", "ceiling_lower", "ceiling_upper", "share", "n_stimuli", "n_subjects",
)  # fmt: skip

CONTRASTS = (
    "family", "model", "layer", "target", "other", "other_layer", "other_target", "comparator", "against",
    "difference", "low", "high", "p", "p_corrected",
)  # fmt: skip

SCORES = ("model", "layer", "target", "comparator", "subject", "score")


@dataclass(frozen=True, eq=False)
class TargetRDMs:
    """The RDMs of a target with the conditions and subjects that can be scored, and the models with the same.

    Attributes
    ----------
    target : str
    names, subjects : tuple of str
    rdms : Tensor (n_subjects, n_pairs)
        NaN if a pair is unknown.
    models : sequence of ModelRDM

    Examples
    --------
    >>> model = ModelRDM("size", "", tuple("abcd"), torch.arange(6.0).double()[None])
    >>> teacher = TeacherRDMs("IT", tuple("abcd"), ("s1",), torch.rand(1, 6))
    >>> TargetRDMs.of(teacher, [model]).stacked.shape
    torch.Size([1, 6])
    """

    target: str
    names: tuple[str, ...]
    subjects: tuple[str, ...]
    rdms: Float[Tensor, "n_subjects n_pairs"]
    models: Sequence[ModelRDM]

    @classmethod
    def of(cls, teacher: TeacherRDMs, models: Sequence[ModelRDM]) -> TargetRDMs:
        """Leave out conditions of other brains and subjects without any pair; refuse too few conditions."""
        scored = teacher.known
        names = tuple(name for name in teacher.names if name in scored)
        if len(names) < MIN_CONDITIONS:
            refuse(
                f"target {teacher.target!r} has RDMs of {len(names)} of the conditions to compare {quote(names)}; at "
                f"least {MIN_CONDITIONS} are needed"
            )
        rdms = teacher.of(names)
        known = ~rdms.isnan().all(1)
        subjects = tuple(subject for subject, some in zip(teacher.subjects, known.tolist(), strict=True) if some)
        flat = [name for name, same in zip(subjects, is_constant(rdms[known]).tolist(), strict=True) if same]
        if flat:
            refuse(
                f"subjects {quote(flat)} of target {teacher.target!r} have the same dissimilarity for all pairs of the "
                "conditions to compare; leave them out, or compare other conditions"
            )
        return cls(teacher.target, names, subjects, rdms[known], [model.of(names) for model in models])

    @cached_property
    def stacked(self) -> Float[Tensor, "n_models *n_subjects n_pairs"]:
        """RDMs of all models; of each subject if one of the models has an RDM for each subject."""
        rows = [model.for_subjects(self.subjects) for model in self.models]
        if any(row.ndim == 2 for row in rows):
            rows = [row.expand(len(self.subjects), -1) for row in rows]
        return torch.stack(rows)

    @cached_property
    def _agreements(self) -> dict[str, Agreement]:
        return {}

    def agreement(self, comparator: str) -> Agreement:
        """Return how similar the RDMs of the subjects are; computed once."""
        if comparator not in self._agreements:
            self._agreements[comparator] = Agreement.of(self.rdms, comparator)
        return self._agreements[comparator]

    def others(self, comparator: str) -> Float[Tensor, "1 n_subjects n_pairs"]:
        """Mean RDM of the other subjects for each subject: the lower bound of the noise ceiling as a model."""
        rdms = SIMILARITIES[comparator].poolable(self.rdms)
        known = ~rdms.isnan()
        return ((rdms.nan_to_num().sum(0) - rdms.nan_to_num()) / (known.sum(0) - known.long()))[None]


@dataclass(frozen=True)
class _Row:
    model: ModelRDM
    target: TargetRDMs


def compare_all(
    targets: Sequence[TargetRDMs],
    comparators: Sequence[str],
    between_targets: bool,
    intervals: bool,
    correction: Correction,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the summary, the contrasts and the scores with single subjects.

    Examples
    --------
    >>> rdms = torch.rand(5, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> models = [ModelRDM(name, "", tuple("abcdef"), rdms[[k]]) for k, name in enumerate("xy")]
    >>> teacher = TeacherRDMs("IT", tuple("abcdef"), ("s1", "s2", "s3"), rdms[2:])
    >>> [len(table) for table in compare_all([TargetRDMs.of(teacher, models)], ["corr"], False, True, "holm")]
    [4, 2, 6]
    """
    summary: list[pd.DataFrame] = []
    contrasts: list[pd.DataFrame] = []
    scores: list[pd.DataFrame] = []
    for comparator in comparators:
        for scope in _scopes(targets, between_targets):
            for against in (Against.SUBJECTS, Against.MEAN):
                scored = _Scored.of(scope, comparator, against, intervals)
                summary.append(scored.summary())
                contrasts.append(scored.contrasts(between_targets))
                if against is Against.SUBJECTS:
                    scores.append(scored.scores())
    whole, pairs = (_joined(tables) for tables in (summary, contrasts))
    _correct(whole, ["comparator", "against"], correction)
    _correct(pairs, ["family", "comparator", "against"], correction)
    return whole[list(SUMMARY)], pairs[list(CONTRASTS)], _joined(scores)[list(SCORES)]


def _scopes(targets: Sequence[TargetRDMs], between_targets: bool) -> list[list[TargetRDMs]]:
    """Targets that are scored together: those with the same conditions and subjects, if they are to be compared."""
    if not between_targets:
        return [[target] for target in targets]
    scopes: dict[Any, list[TargetRDMs]] = {}
    for target in targets:
        scopes.setdefault((target.names, target.subjects), []).append(target)
    return list(scopes.values())


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled or list(tables[:1]), ignore_index=True)


def _correct(table: pd.DataFrame, family: list[str], correction: Correction) -> None:
    """Correct p for the number of hypotheses of a family in this table."""
    table["p_corrected"] = np.nan
    for _, rows in table.groupby(family, sort=False):
        table.loc[rows.index, "p_corrected"] = corrected(rows["p"].tolist(), correction)


@dataclass(frozen=True, eq=False)
class _Scored:
    """All models scored with targets of the same conditions and subjects."""

    targets: Sequence[TargetRDMs]
    comparator: str
    against: Against
    batch: ScoreBatch
    bounded: bool  # whether the last rows are the lower bounds of the noise ceiling, one per target

    @classmethod
    def of(cls, targets: Sequence[TargetRDMs], comparator: str, against: Against, intervals: bool) -> _Scored:
        bounded = against is Against.SUBJECTS and len(targets[0].subjects) > 1
        compared: list[Compared] = [(target.stacked, target.rdms) for target in targets]
        if bounded:
            compared += [(target.others(comparator), target.rdms) for target in targets]
        batch = score_batch(comparator, compared, against, variances=intervals)
        return cls(targets, comparator, against, batch, bounded)

    @cached_property
    def rows(self) -> list[_Row]:
        return [_Row(model, target) for target in self.targets for model in target.models]

    def summary(self) -> pd.DataFrame:
        found, n = self.batch.scores(), len(self.rows)
        table = self._names(self.rows)
        table["score"], table["low"], table["high"], table["p"] = (column[:n] for column in found)
        table["p_ceiling"] = self._below_ceiling().p if self.bounded else np.nan
        ceilings = [self._ceilings(target) for target in self.targets]
        for column in ceilings[0]:
            table[column] = np.repeat([each[column] for each in ceilings], [len(t.models) for t in self.targets])
        with np.errstate(divide="ignore", invalid="ignore"):
            table["share"] = np.where(table["ceiling"] >= _MIN_CEILING, table["score"] / table["ceiling"], np.nan)
        return table.assign(
            n_stimuli=[len(row.target.names) for row in self.rows],
            n_subjects=[len(row.target.subjects) for row in self.rows],
        )

    def _below_ceiling(self) -> Estimates:
        n_models = len(self.rows) // len(self.targets)
        every = np.arange(len(self.rows))
        return self.batch.differences(every, len(self.rows) + every // n_models)

    def _ceilings(self, target: TargetRDMs) -> Mapping[str, float]:
        agreement = target.agreement(self.comparator)
        if self.against is Against.MEAN:
            return dict.fromkeys(("ceiling", "ceiling_lower", "ceiling_upper"), agreement.ceiling_for_mean())
        lower, upper = noise_ceiling(target.rdms, self.comparator)
        return {"ceiling": agreement.ceiling_for_subjects(), "ceiling_lower": lower, "ceiling_upper": upper}

    def scores(self) -> pd.DataFrame:
        subjects, n = self.targets[0].subjects, len(self.rows)
        values = self.batch.by_subject[:n] if len(subjects) > 1 else self.batch.values[:n, None]
        table = self._names([row for row in self.rows for _ in subjects])
        return table.assign(subject=list(subjects) * n, score=values.ravel())

    def contrasts(self, between_targets: bool) -> pd.DataFrame:
        pairs = [(MODELS, i, j) for i, j in self._pairs_of_models()]
        if between_targets:
            pairs += [(TARGETS, i, j) for i, j in self._pairs_of_targets()]
        families, first, second = zip(*pairs, strict=True) if pairs else ((), (), ())
        found = self.batch.differences(np.array(first, dtype=int), np.array(second, dtype=int))
        one, other = ([self.rows[k] for k in places] for places in (first, second))
        table = self._names(one).assign(
            family=list(families),
            other=[row.model.model for row in other],
            other_layer=[row.model.layer for row in other],
            other_target=[row.target.target for row in other],
        )
        return table.assign(difference=found.value, low=found.low, high=found.high, p=found.p)

    def _pairs_of_models(self) -> Iterator[tuple[int, int]]:
        n_models = len(self.rows) // len(self.targets)
        for start in range(0, len(self.rows), n_models):
            yield from combinations(range(start, start + n_models), 2)

    def _pairs_of_targets(self) -> Iterator[tuple[int, int]]:
        n_models = len(self.rows) // len(self.targets)
        for k in range(n_models):
            yield from combinations(range(k, len(self.rows), n_models), 2)

    def _names(self, rows: Sequence[_Row]) -> pd.DataFrame:
        columns = {
            "model": [row.model.model for row in rows],
            "layer": [row.model.layer for row in rows],
            "target": [row.target.target for row in rows],
        }
        return pd.DataFrame(columns, dtype=object).assign(comparator=self.comparator, against=self.against.value)
