"""Scores of model RDMs with targets, and the tables of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.errors import quote, refuse
from brainrdl._core.progress import track_slow
from brainrdl._core.rows import Against
from brainrdl.analysis.model_sources import ModelRDM
from brainrdl.evaluation.scores import TeacherRDMs
from brainrdl.inference.batches import Compared, ScoreBatch, score_batch
from brainrdl.inference.bootstraps import BootstrapBatch, Drawn, bootstrap_batch
from brainrdl.inference.ceiling_tests import lower_bound_tests
from brainrdl.inference.ceilings import Agreement, noise_ceiling, share_of_ceiling
from brainrdl.inference.corrections import Correction, corrected
from brainrdl.inference.intervals import of_score
from brainrdl.inference.pairwise import is_constant

MODELS, TARGETS = "models", "targets"  # families of contrasts

_FEWEST_BOUNDED = 3  # subjects, for a test against the lower bound of the noise ceiling

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


class Sampling(NamedTuple):
    """How intervals and p-values are computed.

    Attributes
    ----------
    intervals : {"dyadic", "dual-bootstrap", "none"}
    n_bootstrap, seed : int
        Number of resamples of a bootstrap, and their seed.

    Examples
    --------
    >>> Sampling().intervals
    'dyadic'
    """

    intervals: str = "dyadic"
    n_bootstrap: int = 0
    seed: int = 0


@dataclass(frozen=True)
class _Row:
    model: ModelRDM
    target: TargetRDMs


def compare_all(
    targets: Sequence[TargetRDMs],
    comparators: Sequence[str],
    between_targets: bool,
    how: Sampling,
    correction: Correction,
    progress: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the summary, the contrasts and the scores with single subjects.

    Examples
    --------
    >>> rdms = torch.rand(5, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> models = [ModelRDM(name, "", tuple("abcdef"), rdms[[k]]) for k, name in enumerate("xy")]
    >>> teacher = TeacherRDMs("IT", tuple("abcdef"), ("s1", "s2", "s3"), rdms[2:])
    >>> [len(table) for table in compare_all([TargetRDMs.of(teacher, models)], ["corr"], False, Sampling(), "holm")]
    [4, 2, 6]
    """
    summary: list[pd.DataFrame] = []
    contrasts: list[pd.DataFrame] = []
    scores: list[pd.DataFrame] = []
    parts = list(product(comparators, _scopes(targets, between_targets), (Against.SUBJECTS, Against.MEAN)))
    for comparator, scope, against in track_slow(parts, "comparisons", len(parts), progress):
        scored = _Scored.of(scope, comparator, against, how)
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
    batch: ScoreBatch | BootstrapBatch
    bounded: bool  # whether the models are compared with the lower bound of the noise ceiling

    @classmethod
    def of(cls, targets: Sequence[TargetRDMs], comparator: str, against: Against, how: Sampling) -> _Scored:
        compared: list[Compared] = [(target.stacked, target.rdms) for target in targets]
        n_conditions, n_subjects = len(targets[0].names), len(targets[0].subjects)
        batch: ScoreBatch | BootstrapBatch
        if how.intervals == "dual-bootstrap":
            drawn = Drawn.of(n_conditions, n_subjects, how.n_bootstrap, how.seed)
            batch = bootstrap_batch(comparator, compared, against, drawn)
        else:
            batch = score_batch(comparator, compared, against, variances=how.intervals != "none")
        bounded = against is Against.SUBJECTS and n_subjects >= _FEWEST_BOUNDED and how.intervals != "none"
        return cls(targets, comparator, against, batch, bounded)

    @cached_property
    def rows(self) -> list[_Row]:
        return [_Row(model, target) for target in self.targets for model in target.models]

    def summary(self) -> pd.DataFrame:
        table = self._names(self.rows)
        table["score"], table["low"], table["high"], table["p"] = of_score(self.batch.scores(), self.comparator)
        table["p_ceiling"] = self._p_ceiling() if self.bounded else np.nan
        ceilings = [self._ceilings(target) for target in self.targets]
        for column in ceilings[0]:
            table[column] = np.repeat([each[column] for each in ceilings], [len(t.models) for t in self.targets])
        table["share"] = share_of_ceiling(table["score"].to_numpy(), table["ceiling"].to_numpy())
        return table.assign(
            n_stimuli=[len(row.target.names) for row in self.rows],
            n_subjects=[len(row.target.subjects) for row in self.rows],
        )

    def _p_ceiling(self) -> list[float]:
        tests = [lower_bound_tests(target.stacked, target.rdms, self.comparator) for target in self.targets]
        return [test.p for of_target in tests for test in of_target]

    def _ceilings(self, target: TargetRDMs) -> Mapping[str, float]:
        agreement = target.agreement(self.comparator)
        if self.against is Against.MEAN:
            return dict.fromkeys(("ceiling", "ceiling_lower", "ceiling_upper"), agreement.ceiling_for_mean())
        lower, upper = noise_ceiling(target.rdms, self.comparator)
        return {"ceiling": agreement.ceiling_for_subjects(), "ceiling_lower": lower, "ceiling_upper": upper}

    def scores(self) -> pd.DataFrame:
        subjects, n = self.targets[0].subjects, len(self.rows)
        values = self.batch.by_subject if len(subjects) > 1 else self.batch.values[:, None]
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
