"""How many threads a piece of work gets: by its size alone, and never more than allowed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from brainrdl._core.threads import PER_THREAD, count_flops, threads_for


@pytest.fixture(autouse=True)
def four_threads_allowed() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("flops", "expected"), [(0, 1), (PER_THREAD, 1), (2.5 * PER_THREAD, 2), (1e15, 4), (float("inf"), 4)]
)
def test_work_gets_the_threads_it_keeps_busy(flops: float, expected: int) -> None:
    with threads_for(flops) as n_threads:
        assert n_threads == torch.get_num_threads() == expected
    assert torch.get_num_threads() == 4


def test_the_threads_are_restored_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), threads_for(0):
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == 4


def test_the_operations_of_a_network_are_counted() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(5 * 6 * 6, 2))
    images = torch.zeros(4, 3, 8, 8)
    by_hand = 2 * 4 * (6 * 6 * 5 * 3 * 3 * 3 + 5 * 6 * 6 * 2)
    assert count_flops(lambda: network(images)) == by_hand


def test_counting_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    count_flops(lambda: torch.rand(100) @ torch.rand(100))
    assert torch.equal(torch.rand(3), expected)


def test_work_that_cannot_be_counted_keeps_all_threads() -> None:
    def fails() -> None:
        raise RuntimeError("not traced")

    assert count_flops(fails) == float("inf")
