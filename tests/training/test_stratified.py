"""Batches with conditions of each stratum."""

from __future__ import annotations

from collections import Counter

import pytest

from brainrdl._core.errors import BrainrdlError
from brainrdl.training.stratified import StratifiedBatches

STRATA = {"human": [f"h{i}" for i in range(92)], "monkey": [f"m{i}" for i in range(118)], "few": list("abcdef")}


@pytest.mark.parametrize("batch_size", [12, 13, 32, 100, 216])
def test_every_batch_holds_the_share_of_each_stratum(batch_size: int) -> None:
    batches = StratifiedBatches(STRATA, batch_size, seed=3)
    for step in (0, 1, 50, 999):
        names = batches.at(step)
        assert len(names) == len(set(names)) == batch_size
        for label, known in STRATA.items():
            inside = len(set(names) & set(known))
            assert inside == batches.shares[label] >= min(4, len(known))
            assert inside >= len(known) * batch_size // 216 - 4


def test_a_stratum_is_drawn_completely_before_a_condition_occurs_again() -> None:
    batches = StratifiedBatches(STRATA, 32)
    share = batches.shares["human"]
    drawn = Counter(name for step in range(92 // share) for name in batches.at(step) if name.startswith("h"))
    assert set(drawn.values()) == {1}
    assert batches.at(0) != batches.at(batches.steps_per_epoch)


def test_batches_follow_the_seed_and_step_alone() -> None:
    assert StratifiedBatches(STRATA, 32, 1).at(7) == StratifiedBatches(STRATA, 32, 1).at(7)
    assert StratifiedBatches(STRATA, 32, 1).at(7) != StratifiedBatches(STRATA, 32, 2).at(7)


def test_a_condition_of_two_strata_counts_once() -> None:
    batches = StratifiedBatches({"a": list("abcdefgh"), "b": list("ghijklmn")}, 8)
    assert batches.names == tuple("abcdefghijklmn")
    assert len(set(batches.at(3))) == 8


@pytest.mark.parametrize(
    ("strata", "batch_size", "words"),
    [
        ({"a": list("abcdef"), "b": list("xyz")}, 8, "stratum 'b' has 3 conditions of its own, but needs at least 4"),
        ({"a": list("abcdef"), "b": list("wxyz")}, 7, r"between 8 \(4 conditions of each of 2 strata\) and the 10"),
        ({"a": list("abcdef"), "b": list("wxyz")}, 11, "between 8"),
    ],
)
def test_strata_and_sizes_that_do_not_fit_are_refused(strata: dict, batch_size: int, words: str) -> None:
    with pytest.raises(BrainrdlError, match=words):
        StratifiedBatches(strata, batch_size)
