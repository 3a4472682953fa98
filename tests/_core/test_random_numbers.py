"""One seed for all devices gives the numbers of `torch.manual_seed`."""

from __future__ import annotations

import traceback

import numpy as np
import pytest
import torch

from brainrdl._core.random_numbers import seed_all


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**63 + 5, np.int64(3)])
def test_the_numbers_are_those_of_torchs_own_seed(seed: int) -> None:
    torch.manual_seed(seed)
    expected = torch.rand(5)
    seed_all(seed)
    assert torch.equal(torch.rand(5), expected)


def test_no_call_stack_is_formatted_where_there_is_no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    formatted: list[bool] = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(traceback, "format_stack", lambda: formatted.append(True))
    seed_all(3)
    assert torch.initial_seed() == 3
    assert not formatted


def test_the_generators_of_an_accelerator_are_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", asked.append)
    seed_all(4)
    assert asked == [4]
