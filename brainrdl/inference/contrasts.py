"""Differences between fitted students and everything they are compared with, tested together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from brainrdl._core.rows import Role
from brainrdl.inference.intervals import Bare, holm
from brainrdl.inference.marks import Line

COLUMNS = (
    "student", "other", "layer", "target", "comparator", "against", "difference", "low", "high", "p", "p_corrected",
    "role", "other_role", "other_layer",
)  # fmt: skip

_FAMILY = ["comparator", "against"]


def contrasts_of(lines: Iterable[Line]) -> pd.DataFrame:
    """Subtract from each fitted student's score those of its controls, all models, and the students after it.

    Parameters
    ----------
    lines : iterable of Line
        Rows of the summary.

    Returns
    -------
    pandas.DataFrame
        Columns student, other, layer (of the student), target, comparator, against; difference, its 95% interval (low,
        high) and p, from the folds that both were scored in, NaN if there are none; p_corrected by Holm's method for
        the number of contrasts with the same comparator and reference (`against`) in this table, over all students,
        layers and targets; and role, other_role, other_layer.

    Examples
    --------
    >>> list(contrasts_of([]).columns[:3])
    ['student', 'other', 'layer']
    """
    rows = [_contrast(one, other) for one, other in _to_compare(list(lines))]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for _, family in table.groupby(_FAMILY):
        table.loc[family.index, "p_corrected"] = holm(family["p"].tolist())
    return table


def _to_compare(lines: Sequence[Line]) -> Iterator[tuple[Line, Line]]:
    for k, one in enumerate(lines):
        if Role(one.row["role"]).fitted:
            yield from ((one, other) for place, other in enumerate(lines) if _comparable(one, other, place > k))


def _comparable(one: Line, other: Line, later: bool) -> bool:
    if any(one.row[column] != other.row[column] for column in ("target", "comparator", "against")):
        return False
    role = Role(other.row["role"])
    if role.fitted:  # each pair of students is compared once
        return later and other.row["student"] != one.row["student"]
    return role.model or all(one.row[column] == other.row[column] for column in ("base", "layer"))


def _contrast(one: Line, other: Line) -> dict[str, Any]:
    found = one.minus(other) or Bare(float("nan"))
    low, high, p = found.interval()
    shared = {column: one.row[column] for column in ("student", "layer", "target", "comparator", "against", "role")}
    others = {"other": other.row["student"], "other_role": other.row["role"], "other_layer": other.row["layer"]}
    return shared | others | {"difference": found.value, "low": low, "high": high, "p": p, "p_corrected": float("nan")}
