"""Corrections: step-up by hand, unknown values, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from brainrdl import BrainrdlError
from brainrdl.inference import corrected
from brainrdl.inference.intervals import holm

P = [0.001, 0.3, 0.02, 0.011, 0.9]


def by_hand(p: list[float], factor: float = 1.0) -> list[float]:
    order = np.argsort(p)
    steps = factor * np.array(p)[order] * len(p) / np.arange(1, len(p) + 1)
    found = np.empty(len(p))
    found[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1)
    return list(found)


def test_the_false_discovery_rate_is_stepped_up() -> None:
    assert corrected(P, "fdr") == pytest.approx(by_hand(P))
    assert corrected(P, "fdr-dependent") == pytest.approx(by_hand(P, sum(1 / k for k in range(1, 6))))


def test_holm_and_none() -> None:
    assert corrected(P) == holm(P)
    assert corrected(P, "none") == P


@pytest.mark.parametrize("method", ["holm", "fdr", "fdr-dependent", "none"])
def test_unknown_values_do_not_count(method: str) -> None:
    found = corrected([P[0], float("nan"), *P[1:]], method)
    assert np.isnan(found[1])
    assert [*found[:1], *found[2:]] == pytest.approx(corrected(P, method))
    assert np.isnan(corrected([float("nan")], method)).all()


def test_corrections_refuse() -> None:
    with pytest.raises(BrainrdlError, match="method 'bonferroni' is not known"):
        corrected(P, "bonferroni")
    with pytest.raises(BrainrdlError, match="between 0 and 1"):
        corrected([1.2], "fdr")
