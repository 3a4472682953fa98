"""Every dissimilarity against its oracle, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm
from scipy.spatial.distance import pdist

from brainrdl import dissimilarity

SHAPES = [(2, 3), (3, 1), (7, 5), (30, 200)]


def patterns(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 1.5, shape)


def precision(n_channels: int) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=(n_channels + 5, n_channels))
    return np.linalg.inv(noise.T @ noise / (n_channels + 5) + 0.1 * np.eye(n_channels))


def oracle(x: np.ndarray, method: str, **options: object) -> np.ndarray:
    return calc_rdm(Dataset(x.copy()), method=method, **options).dissimilarities[0]


def crossnobis_oracle(x: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
    n_runs, n_conditions, _ = x.shape
    run, condition = np.divmod(np.arange(n_runs * n_conditions), n_conditions)
    data = Dataset(np.concatenate(list(x)), obs_descriptors={"condition": condition, "run": run})
    rdm = calc_rdm(data, method="crossnobis", descriptor="condition", cv_descriptor="run", noise=noise)
    return rdm.dissimilarities[0]


def assert_equal(pairs: torch.Tensor, expected: np.ndarray) -> None:
    assert pairs.dtype == torch.float64
    np.testing.assert_allclose(pairs.numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_euclidean_equals_rsatoolbox(shape):
    assert_equal(dissimilarity.euclidean(torch.tensor(patterns(shape))), oracle(patterns(shape), "euclidean"))


@pytest.mark.parametrize("shape", [(2, 3), (7, 5), (30, 200)])
def test_correlation_equals_rsatoolbox(shape):
    assert_equal(dissimilarity.correlation(torch.tensor(patterns(shape))), oracle(patterns(shape), "correlation"))


@pytest.mark.parametrize("shape", SHAPES)
def test_cosine_equals_scipy(shape):
    assert_equal(dissimilarity.cosine(torch.tensor(patterns(shape))), pdist(patterns(shape), "cosine"))


@pytest.mark.parametrize("shape", SHAPES)
def test_mahalanobis_equals_rsatoolbox(shape):
    noise = precision(shape[-1])
    expected = oracle(patterns(shape), "mahalanobis", noise=noise)
    assert_equal(dissimilarity.mahalanobis(torch.tensor(patterns(shape)), torch.tensor(noise)), expected)


@pytest.mark.parametrize("shape", [(2, 2, 3), (3, 7, 5), (5, 30, 40)])
@pytest.mark.parametrize("whiten", [False, True])
def test_crossnobis_equals_rsatoolbox(shape, whiten):
    x, noise = patterns(shape), precision(shape[-1]) if whiten else None
    pairs = dissimilarity.crossnobis(torch.tensor(x), None if noise is None else torch.tensor(noise))
    assert_equal(pairs, crossnobis_oracle(x, noise))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("prior_lambda", "prior_weight"), [(1.0, 0.1), (3.0, 0.5), (1.0, 0.0)])
def test_poisson_equals_rsatoolbox(shape, prior_lambda, prior_weight):
    prior = {"prior_lambda": prior_lambda, "prior_weight": prior_weight}
    assert_equal(
        dissimilarity.poisson(torch.tensor(patterns(shape)), **prior), oracle(patterns(shape), "poisson", **prior)
    )


def test_poisson_cv_of_two_runs_is_the_mean_of_rsatoolbox_with_the_runs_in_both_orders():
    """rsatoolbox 0.3.2 gives its last fold alone; with two runs the other fold comes by exchanging them."""
    x = patterns((2, 7, 5))
    run, condition = np.divmod(np.arange(14), 7)
    folds = [
        calc_rdm(
            Dataset(np.concatenate(list(runs)), obs_descriptors={"condition": condition, "run": run}),
            method="poisson_cv", descriptor="condition", cv_descriptor="run",
        ).dissimilarities[0]
        for runs in (x, x[::-1])
    ]  # fmt: skip
    assert_equal(dissimilarity.poisson_cv(torch.tensor(x)), np.mean(folds, axis=0))


def test_poisson_cv_takes_log_rates_of_the_run_left_out_and_rates_of_the_others():
    x, expected = patterns((4, 6, 5)), []
    for run in range(4):
        # rsatoolbox gives the fold of the last run alone, so each run comes last once
        order = [other for other in range(4) if other != run] + [run]
        index, condition = np.divmod(np.arange(24), 6)
        data = Dataset(np.concatenate(list(x[order])), obs_descriptors={"condition": condition, "run": index})
        rdm = calc_rdm(data, method="poisson_cv", descriptor="condition", cv_descriptor="run")
        expected.append(rdm.dissimilarities[0])
    assert_equal(dissimilarity.poisson_cv(torch.tensor(x)), np.mean(expected, axis=0))


def test_pair_order_equals_that_of_rsatoolbox_and_triu_indices():
    square = calc_rdm(Dataset(patterns((5, 8)))).get_matrices()[0]
    np.testing.assert_allclose(dissimilarity.to_square(dissimilarity.euclidean(torch.tensor(patterns((5, 8))))), square)
    assert torch.equal(dissimilarity.pair_indices(5), torch.triu_indices(5, 5, 1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["cityblock", "chebyshev", "braycurtis", "canberra", "hamming"])
def test_channelwise_dissimilarities_equal_scipy(shape, name):
    x = patterns(shape)
    x[0, 0] = x[1, 0] = 0.0
    for values in (x, x - 2, np.round(x)):
        assert_equal(dissimilarity.DISSIMILARITIES[name](torch.tensor(values)), np.nan_to_num(pdist(values, name)))


@pytest.mark.parametrize("shape", SHAPES)
def test_jaccard_equals_scipy(shape):
    x = (patterns(shape) > 2).astype(float)
    assert_equal(dissimilarity.jaccard(torch.tensor(x)), pdist(x, "jaccard"))


@pytest.mark.parametrize("shape", [(2, 2, 3), (3, 7, 5), (5, 30, 40)])
def test_cross_validated_euclidean_equals_crossnobis_of_rsatoolbox_without_noise(shape):
    assert_equal(dissimilarity.euclidean_cv(torch.tensor(patterns(shape))), crossnobis_oracle(patterns(shape), None))


@pytest.mark.parametrize("shape", [(2, 4, 30), (5, 12, 40)])
def test_cross_validated_correlation_equals_sums_over_pairs_of_runs(shape):
    """Covariances and variances across runs (Walther et al. 2016), written as loops."""
    x = patterns(shape) * 0.3 + patterns(shape, 1)[:1]
    centred = x - x.mean(-1, keepdims=True)
    n_runs, n = shape[:2]
    covariance = np.zeros((n, n))
    for r in range(n_runs):
        for s in range(n_runs):
            if r != s:
                covariance += centred[r] @ centred[s].T
    lengths = np.sqrt(np.diag(covariance))
    expected = 1 - (covariance / lengths / lengths[:, None])[np.triu_indices(n, 1)]
    assert_equal(dissimilarity.correlation_cv(torch.tensor(x)), expected)
