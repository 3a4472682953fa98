"""Few patterns are compared by NumPy, many and those with a gradient by torch: the results are the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from torch import Tensor

from brainrdl import dissimilarity as d
from brainrdl.dissimilarity.small import is_small

both = pytest.mark.parametrize("function", [d.euclidean, d.correlation, d.cosine])


def by_torch(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A gradient is asked for, so NumPy cannot be used."""
    return function(x.clone().requires_grad_()).detach()


def patterns(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@both
@pytest.mark.parametrize("shape", [(2, 1), (5, 7), (3, 2, 6, 9)])
def test_few_patterns_give_what_torch_gives(function: Callable[[Tensor], Tensor], shape) -> None:
    x = patterns(*shape)
    assert is_small(x)
    found, expected = function(x), by_torch(function, x)
    assert (found.dtype, found.shape) == (torch.float64, expected.shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


@both
def test_few_patterns_give_what_scipy_gives(function: Callable[[Tensor], Tensor]) -> None:
    x = patterns(20, 50)
    name = "sqeuclidean" if function is d.euclidean else function.__name__
    scale = 1 / 50 if function is d.euclidean else 1
    np.testing.assert_allclose(function(x).numpy(), scale * pdist(x.numpy(), name), rtol=1e-12)


@both
def test_constant_equal_and_unknown_patterns_are_treated_as_by_torch(function: Callable[[Tensor], Tensor]) -> None:
    x = patterns(6, 8)
    x[0], x[1], x[2], x[3, 4], x[5] = 0.1, 0.0, x[4], torch.nan, x[5] * 1e-170
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = function(x)
    torch.testing.assert_close(found, by_torch(function, x), equal_nan=True, rtol=0, atol=1e-14)


def test_a_large_offset_leaves_distances_of_few_patterns_exact() -> None:
    x = patterns(6, 40)
    torch.testing.assert_close(d.euclidean(x + 2.0**20), by_torch(d.euclidean, x), rtol=1e-8, atol=0)


@both
def test_a_network_gives_the_same_bits_with_and_without_gradient(function: Callable[[Tensor], Tensor]) -> None:
    x = patterns(5, 7).float()
    assert torch.equal(function(x), by_torch(function, x))


@both
def test_patterns_of_a_network_keep_their_gradient_but_need_none_without_it(
    function: Callable[[Tensor], Tensor],
) -> None:
    x = patterns(5, 7).requires_grad_()
    assert function(x).requires_grad
    with torch.no_grad():
        assert torch.allclose(function(x), function(x.detach()))
