"""Single scores, and the scores that are averaged to one row of the summary."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from brainrdl._core.constants import GROUP
from brainrdl.inference.ceilings import Agreement
from brainrdl.inference.intervals import Bare, Estimate
from brainrdl.inference.uncertainty import Inference

Unit = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Mark:
    """One score: its row in the table, what its interval needs, and the agreement of the subjects in its fold.

    Attributes
    ----------
    row : mapping
        Columns of the score table.
    left_out : str
        Held-out subject.
    part : object
        What the method of inference keeps of this score; None without intervals.
    agreement : Agreement, optional
        None if there is no ceiling.
    """

    row: Mapping[str, Any]
    left_out: str
    part: Any
    agreement: Agreement | None

    @property
    def unit(self) -> Unit:
        """What a score must share with another to be compared with it: seed, fold and subjects."""
        return self.row["seed"], self.row["fold"], self.left_out, self.row["subject"]


@dataclass(frozen=True, eq=False)
class Line:
    """All scores of one row of the summary: a student, layer, target, comparator and reference.

    Attributes
    ----------
    marks : mapping of unit to Mark
    inference : Inference, optional
        How intervals are computed; None for none.
    n_subjects, n_stimuli : int
        Numbers of subjects and stimuli of the target.
    """

    marks: Mapping[Unit, Mark]
    inference: Inference | None
    n_subjects: int
    n_stimuli: int

    @cached_property
    def row(self) -> Mapping[str, Any]:
        """Columns that all scores share."""
        return next(iter(self.marks.values())).row

    @property
    def key(self) -> tuple[Any, ...]:
        """Student, role, layer, target, comparator and reference."""
        return tuple(self.row[column] for column in GROUP)

    @cached_property
    def whole(self) -> Estimate:
        """The mean score."""
        return self._estimate(self.marks)

    def minus(self, other: Line) -> Estimate | None:
        """Return the difference between two lines in the folds and subjects that both have; None if there are none."""
        own, others = self._scored(), other._scored()
        if own == others:
            return self.whole.minus(other.whole)
        shared = [unit for unit in own if unit in set(others)]
        return self._estimate(shared).minus(other._estimate(shared)) if shared else None

    def _scored(self) -> list[Unit]:
        return [unit for unit, mark in self.marks.items() if mark.row["score"] == mark.row["score"]]

    def _estimate(self, units: Collection[Unit]) -> Estimate:
        marks = [self.marks[unit] for unit in units]
        value = float(pd.Series([mark.row["score"] for mark in marks], dtype=float).mean())
        if self.inference is None or value != value:
            return Bare(value)
        return self.inference.join(value, [mark.part for mark in marks])

    def agreement(self) -> Agreement | None:
        """Average agreement of the subjects over the folds of these scores."""
        parts = list(dict.fromkeys(mark.agreement for mark in self.marks.values() if mark.agreement is not None))
        return Agreement.average(parts) if parts else None


def mean_of(marks: Iterable[Mark], column: str) -> float:
    """Mean of a column over scores, without unknown ones."""
    return float(pd.Series([mark.row[column] for mark in marks], dtype=float).mean())
