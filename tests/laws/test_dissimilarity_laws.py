"""What must hold whatever the patterns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from brainrdl import dissimilarity as d

seeds, sizes = st.integers(0, 2**31), st.integers(2, 8)
PLAIN = [d.euclidean, d.correlation, d.cosine, d.poisson, d.cityblock, d.chebyshev, d.braycurtis, d.canberra]


def patterns(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1


def rotation(seed: int, n: int) -> torch.Tensor:
    return torch.linalg.qr(patterns(seed, n, n) - 0.6)[0]


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("function", PLAIN)
@given(seed=seeds, n=sizes, c=sizes)
@settings(max_examples=15, deadline=None)
def test_permuting_conditions_permutes_pairs_and_permuting_channels_changes_nothing(function, seed, n, c):
    x, generator = patterns(seed, n, c), torch.Generator().manual_seed(seed)
    order, channels = torch.randperm(n, generator=generator), torch.randperm(c, generator=generator)
    close(d.to_square(function(x[order])), d.to_square(function(x))[order][:, order])
    close(function(x[:, channels]), function(x))


@pytest.mark.parametrize("function", [d.euclidean, d.cosine, d.crossnobis])
@given(seed=seeds, n=sizes, c=sizes)
@settings(max_examples=15, deadline=None)
def test_rotating_channels_changes_nothing(function, seed, n, c):
    x = patterns(seed, 3, n, c)
    close(function(x @ rotation(seed + 1, c)), function(x))


@given(seed=seeds, n=sizes, c=st.integers(3, 8), scale=st.floats(0.01, 100), offset=st.floats(-100, 100))
@settings(max_examples=25, deadline=None)
def test_scale_and_offset_act_as_each_definition_says(seed, n, c, scale, offset):
    x = patterns(seed, n, c)
    close(d.correlation(scale * x + offset), d.correlation(x))
    close(d.cosine(scale * x), d.cosine(x))
    close(d.euclidean(scale * x + offset) / scale**2, d.euclidean(x))


@given(seed=seeds, n=sizes, c=sizes)
@settings(max_examples=15, deadline=None)
def test_mahalanobis_is_euclidean_after_whitening(seed, n, c):
    x, factor = patterns(seed, n, c), patterns(seed + 1, c, c)
    close(d.mahalanobis(x, factor @ factor.mT), d.euclidean(x @ factor))


@given(seed=seeds, n=sizes, c=sizes, n_runs=st.integers(2, 5))
@settings(max_examples=15, deadline=None)
def test_a_cross_validated_dissimilarity_of_identical_runs_is_the_plain_one(seed, n, c, n_runs):
    x = patterns(seed, n, c)
    close(d.crossnobis(x.expand(n_runs, n, c)), d.euclidean(x))
    close(d.poisson_cv(x.abs().expand(n_runs, n, c)), d.poisson(x.abs()))
    close(d.euclidean_cv(x.expand(n_runs, n, c)), d.euclidean(x))
    close(d.correlation_cv(x.expand(n_runs, n, c)), d.correlation(x))


@given(seed=seeds, n=sizes)
@settings(max_examples=15, deadline=None)
def test_to_square_round_trips_through_pair_indices(seed, n):
    pairs = patterns(seed, 2, n * (n - 1) // 2)
    square = d.to_square(pairs)
    row, column = d.pair_indices(n)
    assert torch.equal(square[:, row, column], pairs)
    assert torch.equal(square, square.mT)
    assert not square.diagonal(dim1=-2, dim2=-1).any()
    assert d.n_conditions_of(pairs.shape[-1]) == n


def test_crossnobis_of_noise_is_unbiased_and_often_negative():
    noise = torch.randn(400, 4, 6, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = d.crossnobis(noise)
    assert 0.3 < (pairs < 0).double().mean() < 0.7
    assert abs(pairs.mean()) < 0.01
