"""Influence of conditions: against leaving each one out, and on a condition that is known to be bad."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainrdl import BrainrdlError, compare
from brainrdl.inference import influence_of_conditions, noise_ceiling
from brainrdl.rdms.by_name import select
from brainrdl.rdms.conversion import from_array, to_tensor

NAMES = [f"c{i}" for i in range(8)]
ROWS = np.random.default_rng(0).random((5, 28))
STUDENT, TEACHER = from_array(ROWS[0], NAMES), from_array(ROWS[1:], NAMES, condensed=True)


@pytest.mark.parametrize("comparator", ["spearman", "corr", "cosine", "tau-a"])
def test_each_condition_is_left_out_in_turn(comparator: str) -> None:
    table = influence_of_conditions(STUDENT, select(TEACHER, NAMES[::-1]), comparator)
    assert table["score"].iloc[0] == pytest.approx(compare(STUDENT, TEACHER, [comparator])["similarity"].mean())
    for row in table.itertuples():
        kept = [name for name in NAMES if name != row.condition]
        student, teacher = select(STUDENT, kept), select(TEACHER, kept)
        expected = compare(student, teacher, [comparator])["similarity"].mean()
        assert row.without == pytest.approx(expected, abs=1e-9)
        assert row.change == pytest.approx(row.score - expected, abs=1e-9)


def test_the_agreement_is_the_lower_noise_ceiling() -> None:
    table = influence_of_conditions(STUDENT, TEACHER, "corr")
    rdms = to_tensor(TEACHER, dtype=torch.float64)
    assert table["agreement"].iloc[0] == pytest.approx(noise_ceiling(rdms, "corr")[0])
    kept = to_tensor(select(TEACHER, NAMES[1:]), dtype=torch.float64)
    assert table["agreement_without"].iloc[0] == pytest.approx(noise_ceiling(kept, "corr")[0], abs=0.02)  # z-scores


def test_a_condition_that_only_the_student_gets_wrong_lowers_the_score_and_not_the_agreement() -> None:
    rng = np.random.default_rng(1)
    shared = rng.random(28)
    rows, columns = np.triu_indices(8, 1)
    wrong = np.where((rows == 3) | (columns == 3), 1 - shared, shared)
    teacher = from_array(shared + 0.05 * rng.random((4, 28)), NAMES, condensed=True)
    table = influence_of_conditions(from_array(wrong, NAMES), teacher)
    assert table["change"].idxmin() == 3
    assert table["without"].iloc[3] > 0.95
    assert abs(table["agreement_change"].iloc[3]) < 0.05


def test_one_subject_has_no_agreement() -> None:
    table = influence_of_conditions(STUDENT, from_array(ROWS[1], NAMES))
    assert table[["agreement", "agreement_without", "agreement_change"]].isna().all(axis=None)
    assert table["change"].notna().all()


def test_missing_pairs_are_left_out_of_each_comparison() -> None:
    gaps = ROWS.copy()
    gaps[2, :5] = np.nan
    teacher = from_array(gaps[1:], NAMES, condensed=True)
    table = influence_of_conditions(STUDENT, teacher, "corr")
    assert table["score"].iloc[0] == pytest.approx(compare(STUDENT, teacher, ["corr"])["similarity"].mean())


def test_too_few_conditions_and_stacks_are_refused() -> None:
    few = from_array(np.arange(3.0), NAMES[:3])
    with pytest.raises(BrainrdlError, match="without one of 3 conditions, too few pairs"):
        influence_of_conditions(few, few)
    with pytest.raises(BrainrdlError, match="the student must be one RDM, got 4 RDMs"):
        influence_of_conditions(TEACHER, TEACHER)
    with pytest.raises(BrainrdlError, match="comparator 'spearmen' is not known"):
        influence_of_conditions(STUDENT, TEACHER, "spearmen")


def test_a_change_compares_the_same_subjects() -> None:
    gaps = ROWS.copy()
    rows, columns = np.triu_indices(8, 1)
    gaps[2, (rows != 0) & (columns != 0)] = np.nan  # of subject 1 only pairs with condition 0 are known
    table = influence_of_conditions(STUDENT, from_array(gaps[1:3], NAMES, condensed=True))
    alone = influence_of_conditions(STUDENT, from_array(ROWS[1], NAMES))
    assert table["without"].iloc[0] == pytest.approx(alone["without"].iloc[0])
    assert table["change"].iloc[0] == pytest.approx(alone["change"].iloc[0])
    assert table["comparator"].unique().tolist() == ["spearman"]
