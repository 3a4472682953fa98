"""Ridge and non-negative ridge agree with scikit-learn and scipy for every penalty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from sklearn.linear_model import Ridge

from brainrdl.rdm_models import least_squares
from brainrdl.rdm_models.least_squares import nonnegative_ridge, ridge

PENALTIES = (3.0, 0.1, 0.001)


def regression(n: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    shared = random.normal(size=(n, 3)) @ random.normal(size=(3, k))
    x = shared + 0.3 * random.normal(size=(n, k))
    return x, x @ random.normal(size=k) + random.normal(size=n)


@pytest.mark.parametrize("shape", [(60, 20), (20, 50)])
def test_one_eigendecomposition_gives_the_ridge_solution_of_each_penalty(shape: tuple[int, int]) -> None:
    x, y = regression(*shape)
    found = ridge(torch.tensor(x.T @ x), torch.tensor(x.T @ y), PENALTIES)
    for penalty, coefficients in zip(PENALTIES, found, strict=True):
        expected = Ridge(alpha=penalty, fit_intercept=False, solver="svd").fit(x, y).coef_
        np.testing.assert_allclose(coefficients, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_without_penalty_directions_without_variance_get_nothing() -> None:
    x, y = regression(10, 30)
    (found,) = ridge(torch.tensor(x.T @ x), torch.tensor(x.T @ y), [0.0])
    np.testing.assert_allclose(found, np.linalg.lstsq(x, y)[0], rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(60, 20), (20, 50)])
def test_block_pivoting_gives_the_non_negative_solution_of_each_penalty(shape: tuple[int, int], seed: int) -> None:
    x, y = regression(*shape, seed)
    found = nonnegative_ridge(torch.tensor(x.T @ x), torch.tensor(x.T @ y), PENALTIES)
    assert (found >= 0).all()
    for penalty, coefficients in zip(PENALTIES, found, strict=True):
        padded = np.concatenate([x, penalty**0.5 * np.eye(x.shape[1])])
        expected = nnls(padded, np.concatenate([y, np.zeros(x.shape[1])]))[0]
        np.testing.assert_allclose(coefficients, expected, rtol=0, atol=1e-9 * max(expected.max(), 1))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(60, 20), (20, 50)])
def test_where_block_pivoting_goes_round_in_circles_the_solution_is_the_same(
    shape: tuple[int, int], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = regression(*shape, seed)
    x = np.concatenate([x, x[:, :4]], axis=1)  # with the same regressors twice
    given = torch.tensor(x.T @ x), torch.tensor(x.T @ y), PENALTIES
    expected = nonnegative_ridge(*given)
    monkeypatch.setattr(least_squares, "_ATTEMPTS", -1)
    found = nonnegative_ridge(*given)
    assert (found >= 0).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * float(expected.max()))


def test_nothing_is_above_zero_if_all_products_are_negative() -> None:
    assert not nonnegative_ridge(torch.eye(3), -torch.ones(3), [1.0]).any()
