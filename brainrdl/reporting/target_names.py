"""How pages name a target whose RDMs have no region: as the data."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from brainrdl.evaluation.held_out import Evaluation

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

_NAMELESS, _SHOWN = "rdm", "the data"

_COLUMNS = ("target", "other_target")


def named_table(table: pd.DataFrame) -> pd.DataFrame:
    """Name the target "rdm" of a table.

    Examples
    --------
    >>> named_table(pd.DataFrame({"target": ["rdm", "IT"], "student": "rdm"}))["target"].tolist()
    ['the data', 'IT']
    """
    return table.replace({column: {_NAMELESS: _SHOWN} for column in _COLUMNS if column in table})


def named_rdms(rdms: RDMs) -> RDMs:
    """Name the target "rdm" of RDMs; other RDMs stay the same object."""
    targets = list(rdms.rdm_descriptors.get("target", ()))
    if _NAMELESS not in targets:
        return rdms
    named = copy.copy(rdms)
    renamed = [_SHOWN if target == _NAMELESS else target for target in targets]
    named.rdm_descriptors = rdms.rdm_descriptors | {"target": renamed}
    return named


def named_evaluation(evaluation: Evaluation) -> Evaluation:
    """Name the target "rdm" of the tables and RDMs."""
    if _NAMELESS not in set(evaluation.summary.get("target", ())):
        return evaluation
    tables = {name: named_table(getattr(evaluation, name)) for name in ("scores", "summary", "contrasts", "histories")}
    return replace(
        evaluation, teacher=named_rdms(evaluation.teacher), students=named_rdms(evaluation.students), **tables
    )
