"""Which conditions are in a step: every name once per epoch, decided only by seed and step."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from brainrdl._core.errors import BrainrdlError
from brainrdl.loss.pair_sampling import random_pairs
from brainrdl.training.sampling import Batches, coverage, split

few = settings(max_examples=25, deadline=None)
sizes = st.integers(4, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(4, n)))


def names(n: int) -> tuple[str, ...]:
    return tuple(f"s{i:02d}" for i in range(n))


@few
@given(sizes, st.integers(0, 5), st.integers(0, 3))
def test_no_name_comes_twice_in_an_epoch_and_all_but_a_remainder_come(
    size: tuple[int, int], seed: int, epoch: int
) -> None:
    n, batch_size = size
    batches = Batches(names(n), batch_size, seed)
    steps = batches.steps_per_epoch
    drawn = [name for step in range(epoch * steps, (epoch + 1) * steps) for name in batches.at(step)]
    assert len(set(drawn)) == len(drawn) == n - n % batch_size
    assert set(drawn) <= set(names(n))


@few
@given(sizes, st.integers(0, 100), st.integers(0, 10**9))
def test_a_batch_is_a_function_of_seed_and_step(size: tuple[int, int], step: int, seed: int) -> None:
    n, batch_size = size
    torch.rand(3)  # and not of the global generator
    assert Batches(names(n), batch_size, seed).at(step) == Batches(names(n), batch_size, seed).at(step)


def test_asking_for_batches_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    Batches(names(8), 4).at(3)
    random_pairs(45, 5, 0, 0)
    split(names(10), 0.5, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_epochs_and_seeds_differ() -> None:
    drawn = {Batches(names(40), 40 // 2, seed).at(step) for seed in range(5) for step in range(6)}
    assert len(drawn) == 30


def test_over_the_epochs_the_remainder_is_not_always_the_same() -> None:
    batches = Batches(names(9), 4)
    left = [set(names(9)) - {name for step in (2 * e, 2 * e + 1) for name in batches.at(step)} for e in range(20)]
    assert len(set.union(*left)) > 4


@pytest.mark.parametrize("batch_size", [None, 6])
def test_without_a_smaller_batch_size_all_names_come_in_order(batch_size: int | None) -> None:
    batches = Batches(names(6), batch_size)
    assert batches.at(0) == batches.at(17) == names(6)
    assert batches.steps_per_epoch == 1


@pytest.mark.parametrize("n", [0, 3])
def test_fewer_than_four_conditions_are_refused(n: int) -> None:
    with pytest.raises(BrainrdlError, match=f"training needs at least 4 conditions, got {n}"):
        Batches(names(n))


@pytest.mark.parametrize("batch_size", [0, 3, 7, -1])
def test_an_impossible_batch_size_is_refused(batch_size: int) -> None:
    with pytest.raises(
        BrainrdlError, match=f"batch_size must lie between 4 and the 6 training conditions, got {batch_size}"
    ):
        Batches(names(6), batch_size)


def test_random_pairs_are_different_and_drawn_by_seed_and_step() -> None:
    pairs = random_pairs(45, 10, seed=2, step=7)
    assert pairs.unique().numel() == 10
    assert int(pairs.max()) < 45
    assert torch.equal(pairs, random_pairs(45, 10, seed=2, step=7))
    assert not torch.equal(pairs, random_pairs(45, 10, seed=2, step=8))
    assert not torch.equal(pairs, random_pairs(45, 10, seed=3, step=7))


def test_random_pairs_are_all_of_them_where_there_are_no_more() -> None:
    assert random_pairs(6, 10, 0, 0).sort().values.tolist() == list(range(6))


def test_random_pairs_are_uniform() -> None:
    counts = torch.zeros(10)
    for step in range(2000):
        counts[random_pairs(10, 2, 0, step)] += 1
    expected = 2000 * 2 / 10
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001


def test_coverage_is_the_share_of_pairs_that_met() -> None:
    batches = Batches(names(8), 4, seed=1)
    met = {frozenset(pair) for step in range(3) for pair in combinations(batches.at(step), 2)}
    assert coverage(batches, 3) == pytest.approx(len(met) / 28)
    assert coverage(batches, 0) == 0
    assert coverage(batches, 60) == 1


@few
@given(st.integers(8, 40), st.floats(0.3, 0.5), st.integers(0, 5))
def test_a_split_keeps_order_and_loses_nothing(n: int, fraction: float, seed: int) -> None:
    if n * fraction < 4:
        return
    kept, aside = split(names(n), fraction, seed)
    assert sorted(kept + aside) == list(names(n))
    assert list(kept) == sorted(kept)
    assert list(aside) == sorted(aside)
    assert len(aside) == -int(-round(fraction * n, 9) // 1)
    assert split(names(n), fraction, seed) == (kept, aside)


def test_a_split_is_not_moved_by_rounding() -> None:
    assert len(split(names(100), 0.07, 0)[1]) == 7  # 0.07 * 100 is 7.000000000000001 in floats


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.7, 1.5, -0.5])
def test_a_split_that_leaves_too_few_is_refused(fraction: float) -> None:
    with pytest.raises(BrainrdlError, match=rf"a fraction of {fraction} of 10 conditions leaves .* needs at least 4"):
        split(names(10), fraction, 0)
