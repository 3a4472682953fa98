"""The quick computation for two single RDMs: equal to residuals of least squares, and to that of batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from torch import Tensor

from brainrdl import BrainrdlError
from brainrdl.inference.partial_correlation import partial


def rdms(seed: int, n_given: int = 3, n: int = 66) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    given = torch.rand(n_given, n, generator=generator, dtype=torch.float64)
    noise = torch.rand(2, n, generator=generator, dtype=torch.float64)
    return given.sum(0) + noise[0], given[0] - noise[0] + noise[1], given


def of_residuals(a: Tensor, b: Tensor, given: Tensor, comparator: str) -> float:
    x, y, models = (each.numpy() if comparator == "corr" else rankdata(each, axis=-1) for each in (a, b, given))
    design = np.column_stack([np.ones(len(x)), models.T])
    left = [each - design @ np.linalg.lstsq(design, each, rcond=None)[0] for each in (x, y)]
    return float(np.corrcoef(*left)[0, 1])


@pytest.mark.parametrize("comparator", ["corr", "spearman"])
@pytest.mark.parametrize("n_given", [0, 1, 2, 5])
def test_two_rdms_are_compared_as_the_residuals_of_a_regression(comparator: str, n_given: int) -> None:
    a, b, given = rdms(n_given, n_given=max(n_given, 1))
    found = float(partial(a, b, given[:n_given], comparator))
    assert found == pytest.approx(of_residuals(a, b, given[:n_given], comparator), abs=1e-12)


@pytest.mark.parametrize("comparator", ["corr", "spearman"])
def test_two_rdms_alone_are_compared_as_in_a_batch(comparator: str) -> None:
    a, b, given = rdms(7)
    batch = partial(a[None], b[None], given, comparator)
    assert partial(a, b, given, comparator).item() == pytest.approx(batch.item(), abs=1e-12)


def test_given_rdms_that_follow_from_others_change_nothing() -> None:
    a, b, given = rdms(8)
    constant = torch.full_like(a, 0.1)
    more = torch.stack([*given, given[0] + 2 * given[1] - 5, given[2] * 1e-3, constant])
    assert partial(a, b, more, "corr").item() == pytest.approx(of_residuals(a, b, given, "corr"), abs=1e-11)


@pytest.mark.parametrize("unit", [1e-26, 1e-90, 1e90])
def test_the_unit_does_not_matter(unit: float) -> None:
    a, b, given = rdms(9)
    expected = partial(a, b, given, "corr").item()
    assert partial(a * unit, b, given * unit, "corr").item() == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("comparator", ["corr", "spearman"])
def test_a_constant_rdm_has_no_partial_correlation(comparator: str) -> None:
    a, _, given = rdms(10)
    assert partial(a, torch.full_like(a, 0.1), given, comparator).isnan()


def test_the_gradient_of_a_partial_correlation_is_that_of_the_formula() -> None:
    a, b, given = rdms(11)
    assert torch.autograd.gradcheck(lambda x: partial(x, b, given, "corr"), a.requires_grad_())


@pytest.mark.parametrize("e", [1e-6, 3e-7, 1e-7])
def test_nearly_dependent_given_rdms_give_the_same_alone_and_with_weights(e: float) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, *given = torch.rand(4, 28, generator=generator, dtype=torch.float64)
    near = torch.stack([given[0], given[0] + e * given[1]])
    weighted = partial(a, b, near, "corr", torch.ones(28))
    assert partial(a, b, near, "corr").item() == pytest.approx(weighted.item(), abs=2e-3)
    assert weighted.item() == pytest.approx(of_residuals(a, b, torch.stack(given), "corr"), abs=2e-3)


def test_rdms_may_have_few_digits() -> None:
    a, b, given = (each.bfloat16() for each in rdms(12))
    expected = partial(a.double(), b.double(), given.double(), "corr")
    assert partial(a, b, given, "corr").item() == pytest.approx(expected.item(), abs=1e-12)


def test_given_rdms_are_rows_of_a_matrix() -> None:
    a, b, given = rdms(13)
    for weights in (None, torch.ones_like(a)):
        for wrong in (given[0], given[None]):
            with pytest.raises(BrainrdlError, match=r"given should be \(n_given, n_pairs\), got a tensor \("):
                partial(a, b, wrong, "corr", weights)
