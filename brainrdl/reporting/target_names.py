"""How pages name a target whose RDMs have no region: as the data."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from brainrdl.evaluation.held_out import Evaluation

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

# The space is one that names of users hardly have, so that downloads have the name of summary.csv again.
_NAMELESS, _SHOWN = "rdm", "the\N{NO-BREAK SPACE}data"

_COLUMNS = ("target", "other_target")


def named_table(table: pd.DataFrame) -> pd.DataFrame:
    r"""Name the target "rdm" of a table.

    Examples
    --------
    >>> named_table(pd.DataFrame({"target": ["rdm", "IT"], "student": "rdm"}))["target"].tolist()
    ['the\xa0data', 'IT']
    """
    return _replaced(table, _NAMELESS, _SHOWN)


def stored_table(table: pd.DataFrame) -> pd.DataFrame:
    """Give the target "rdm" of a table that `named_table` made its name in the tables of a run.

    Examples
    --------
    >>> stored_table(named_table(pd.DataFrame({"target": ["rdm", "IT"]})))["target"].tolist()
    ['rdm', 'IT']
    """
    return _replaced(table, _SHOWN, _NAMELESS)


def _replaced(table: pd.DataFrame, name: str, by: str) -> pd.DataFrame:
    return table.replace({column: {name: by} for column in _COLUMNS if column in table})


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
    return replace(
        evaluation, scores=named_table(evaluation.scores), summary=named_table(evaluation.summary),
        contrasts=named_table(evaluation.contrasts), teacher=named_rdms(evaluation.teacher),
        students=named_rdms(evaluation.students),
    )  # fmt: skip
