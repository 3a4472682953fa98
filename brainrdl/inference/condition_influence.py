"""How much each condition contributes to the score of a student and to the agreement of subjects.

Each condition is left out in turn. A condition whose omission raises the score fits badly; one whose omission also
raises the agreement of the subjects may be measured badly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_option, refuse
from brainrdl.inference.pairwise import comparison_of, resampled
from brainrdl.rdms.by_name import align, names
from brainrdl.rdms.conversion import to_tensor
from brainrdl.similarity.registry import SIMILARITIES

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs


def influence_of_conditions(
    student: RDMs, teacher: RDMs, comparator: str = "spearman", *, by: str = "stimulus"
) -> pd.DataFrame:
    """Measure the score of a student, and the agreement of subjects, without each condition.

    Parameters
    ----------
    student : RDMs
        One RDM.
    teacher : RDMs
        One RDM per subject, of the same conditions in any order; NaN for unknown pairs.
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.
    by : str
        Pattern descriptor that names the conditions.

    Returns
    -------
    DataFrame
        One row per condition, in the order of the student. Columns: condition; score (mean similarity of the student
        with the subjects, all conditions), without (the same without this condition), change (mean of the difference
        within subjects: positive if the condition raises the score; score - without if all subjects have both);
        agreement, agreement_without and agreement_change, the same for the mean similarity of each subject with the
        pooled others (lower noise ceiling; NaN for one subject); comparator.

    Raises
    ------
    BrainrdlError
        If conditions differ, there are fewer than 4, the student is a stack, or the comparator is unknown.

    Notes
    -----
    Changes describe these stimuli. They are not a test: among many conditions, some change the score by chance.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> rows = torch.rand(3, 15, generator=torch.Generator().manual_seed(0)).numpy()
    >>> teacher = from_array(rows[1:], list("abcdef"), condensed=True)
    >>> table = influence_of_conditions(from_array(rows[0], list("abcdef")), teacher)
    >>> table.columns.tolist()[:4], len(table)
    (['condition', 'score', 'without', 'change'], 6)
    """
    check_option(comparator, SIMILARITIES, "comparator")
    if student.n_rdm != 1:
        refuse(f"the student must be one RDM, got {student.n_rdm} RDMs; choose one, for example student[0]")
    student, teacher = align(student, teacher, by=by)
    conditions = names(student, by)
    if len(conditions) < 4:
        refuse(f"without one of {len(conditions)} conditions, too few pairs are left to compare; at least 4 are needed")
    ours, theirs = (to_tensor(rdms, by=by, dtype=torch.float64) for rdms in (student, teacher))
    score, without, change = _without_each(ours, theirs, comparator, len(conditions))
    agreement, agreements, changes = _without_each(_others(theirs, comparator), theirs, comparator, len(conditions))
    return pd.DataFrame(
        {"condition": conditions, "score": score, "without": without, "change": change}
        | {"agreement": agreement, "agreement_without": agreements, "agreement_change": changes}
        | {"comparator": comparator}
    )


def _others(rdms: Float[Tensor, "n_subjects n_pairs"], comparator: str) -> Float[Tensor, "n_subjects n_pairs"]:
    """Mean of the other subjects, for each subject; NaN for one subject."""
    pooled = SIMILARITIES[comparator].poolable(rdms)
    if len(rdms) < 2:
        return torch.full_like(rdms, torch.nan)
    return torch.stack([torch.cat([pooled[:s], pooled[s + 1 :]]).nanmean(0) for s in range(len(rdms))])


def _without_each(
    a: Tensor, b: Tensor, comparator: str, n: int
) -> tuple[float, Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Mean similarity over subjects with all conditions, without each one, and mean difference within subjects."""
    compare = comparison_of(comparator)
    a, b = torch.broadcast_tensors(a, b)
    counts = 1 - torch.eye(n, dtype=torch.float64)
    without = torch.stack([resampled(compare, x, y, counts) for x, y in zip(a, b, strict=True)])
    score = compare(a, b)
    change = (score[:, None] - without).nanmean(0)
    return float(score.nanmean()), without.nanmean(0).numpy(), change.numpy()
