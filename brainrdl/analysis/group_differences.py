"""Differences between groups of subjects in how similar a model is to their brains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from brainrdl._core.errors import check_option, quote, refuse
from brainrdl._core.given_values import as_text
from brainrdl.analysis.comparisons import TargetRDMs
from brainrdl.inference.batches import t_intervals
from brainrdl.inference.closed_forms import influences
from brainrdl.inference.corrections import Correction, corrected
from brainrdl.inference.influence import dyadic

COLUMNS = (
    "model", "layer", "target", "comparator", "group", "other_group", "score", "other_score", "difference", "low",
    "high", "p", "p_corrected", "n", "other_n",
)  # fmt: skip


def group_differences(
    targets: Sequence[TargetRDMs],
    comparators: Sequence[str],
    groups: Mapping[str, str],
    correction: Correction = "holm",
) -> pd.DataFrame:
    """Subtract the mean score with the subjects of one group from that with another, for each pair of groups.

    The variance of a difference is that over stimuli, which both groups have seen, plus that over the subjects of each
    group beyond its interaction with stimuli; degrees of freedom follow Welch and Satterthwaite.

    Parameters
    ----------
    targets : sequence of TargetRDMs
    comparators : sequence of str
        Names of `brainrdl.similarity.SIMILARITIES`.
    groups : mapping of subject to group
        At least two groups with two subjects each.
    correction : {"holm", "fdr", "fdr-dependent", "none"}
        Correction of p over all rows with the same comparator.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    BrainrdlError
        If a subject is unknown, or there are fewer than two groups or fewer than two subjects in a group.

    Examples
    --------
    >>> group_differences([], [], {}).empty
    True
    """
    rows = [row for comparator in comparators for target in targets for row in _rows(target, comparator, groups)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for _, family in table.groupby("comparator", sort=False):
        table.loc[family.index, "p_corrected"] = corrected(family["p"].tolist(), correction)
    return table


def _rows(target: TargetRDMs, comparator: str, groups: Mapping[str, str]) -> list[dict[str, Any]]:
    members = _members(target, groups)
    models = target.stacked
    found = influences(comparator, models[:, None] if models.ndim == 2 else models, target.rdms[None])
    parts = {group: _Group(found.value[:, places], found.pairs[:, places], found.conditions[:, places])
             for group, places in members.items()}  # fmt: skip
    rows = []
    for group, other in combinations(members, 2):
        one, two = parts[group], parts[other]
        stimuli = dyadic(one.pairs - two.pairs, one.conditions - two.conditions).numpy()
        variance = stimuli + one.beyond + two.beyond
        freedom = variance**2 / (
            one.beyond**2 / (one.n - 1) + two.beyond**2 / (two.n - 1) + stimuli**2 / max(len(target.names) / 2 - 1, 1)
        )
        difference = t_intervals(one.score - two.score, variance, freedom)
        rows += [
            {
                "model": model.model, "layer": model.layer, "target": target.target, "comparator": comparator,
                "group": group, "other_group": other, "score": one.score[k], "other_score": two.score[k],
                "difference": difference.value[k], "low": difference.low[k], "high": difference.high[k],
                "p": difference.p[k], "p_corrected": np.nan, "n": one.n, "other_n": two.n,
            }
            for k, model in enumerate(target.models)
        ]  # fmt: skip
    return rows


def _members(target: TargetRDMs, groups: Mapping[str, str]) -> dict[str, list[int]]:
    """Positions of the subjects of each group, in order of first appearance."""
    for subject in groups:
        check_option(as_text(subject), target.subjects, f"groups: subject of target {target.target!r}")
    of = {as_text(subject): as_text(group) for subject, group in groups.items()}
    members: dict[str, list[int]] = {}
    for place, subject in enumerate(target.subjects):
        if subject in of:
            members.setdefault(of[subject], []).append(place)
    sizes = {group: len(places) for group, places in members.items()}
    if len(members) < 2 or min(sizes.values()) < 2:
        refuse(f"comparing groups needs at least 2 groups of at least 2 subjects, got {quote(sizes)}: {sizes}")
    return members


class _Group:
    """Mean score of a group, its influences, and its variance over subjects beyond their interaction with stimuli."""

    def __init__(self, values: Tensor, pairs: Tensor, conditions: Tensor) -> None:
        self.n = values.shape[1]
        self.score = values.mean(1).numpy()
        self.pairs, self.conditions = pairs.mean(1), conditions.mean(1)
        own = dyadic(pairs - self.pairs[:, None], conditions - self.conditions[:, None]).sum(1)
        spread = (values - values.mean(1, keepdim=True)).square().sum(1)
        self.beyond = ((spread - own) / (self.n * (self.n - 1))).clamp(min=0).numpy()
