"""Comparators against rsatoolbox 0.3.2, on random, tied and real RDMs, in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from torch import Tensor

from brainrdl.dissimilarity.measures import euclidean
from brainrdl.similarity.comparators import cka, corr_cov, cosine_cov
from brainrdl.similarity.kernels import cka_rbf, cka_unbiased, kernel_of
from brainrdl.similarity.registry import SIMILARITIES

ORACLES = ["cosine", "corr", "spearman", "tau-a", "tau-b", "rho-a", "corr_cov", "cosine_cov"]
WHITENED = ["corr_cov", "cosine_cov"]
N_CONDITIONS, N_PAIRS = 12, 66
TOLERANCE = {"rtol": 0, "atol": 1e-10}


def oracle(a: Tensor, b: Tensor, name: str, sigma_k: Tensor | None = None) -> Tensor:
    """Return rsatoolbox's similarities ``(n_a, n_b)``."""
    from rsatoolbox.rdm import RDMs, compare

    sigma = None if sigma_k is None else sigma_k.numpy()
    return torch.from_numpy(compare(RDMs(a.numpy()), RDMs(b.numpy()), method=name, sigma_k=sigma))


def ours(a: Tensor, b: Tensor, name: str, **options: Tensor) -> Tensor:
    return SIMILARITIES[name](a[:, None], b, **options)  # type: ignore[call-arg]


def random_rdms(n_rdms: int, seed: int, n_pairs: int = N_PAIRS) -> Tensor:
    return torch.rand(n_rdms, n_pairs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1


def tied(rdms: Tensor) -> Tensor:
    return (rdms * 6).round()


def with_nan(rdms: Tensor, n_left_out: int = 17) -> Tensor:
    rdms = rdms.clone()
    rdms[:, torch.randperm(rdms.shape[-1], generator=torch.Generator().manual_seed(5))[:n_left_out]] = torch.nan
    return rdms


def covariance(n: int = N_CONDITIONS) -> Tensor:
    root = torch.randn(n, 2 * n, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    return root @ root.T / (2 * n)


@pytest.fixture(scope="module")
def brain_rdms(kriegeskorte92: Path) -> Tensor:
    """Human IT RDMs ``(4 subjects x 2 sessions, 4186)`` of 92 images."""
    rdms = scipy.io.loadmat(kriegeskorte92 / "92_brainRDMs.mat")["RDMs"]["RDM"].ravel()
    upper = np.triu_indices(92, 1)
    return torch.from_numpy(np.stack([rdm[upper] for rdm in rdms])).double()


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("change", [lambda x: x, tied, with_nan, lambda x: with_nan(tied(x))])
def test_equals_rsatoolbox_on_random_tied_and_partial_rdms(name: str, change: Callable[[Tensor], Tensor]) -> None:
    a, b = change(random_rdms(4, 1)), change(random_rdms(3, 2))
    torch.testing.assert_close(ours(a, b, name), oracle(a, b, name), **TOLERANCE)


@pytest.mark.parametrize("name", ORACLES)
def test_equals_rsatoolbox_when_one_side_has_ties_and_values_are_negative(name: str) -> None:
    a, b = tied(random_rdms(4, 1)), random_rdms(3, 2) - 0.6
    torch.testing.assert_close(ours(a, b, name), oracle(a, b, name), **TOLERANCE)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("change", [lambda x: x, with_nan])
def test_equals_rsatoolbox_on_real_rdms(name: str, change: Callable[[Tensor], Tensor], brain_rdms: Tensor) -> None:
    rdms = change(brain_rdms)
    torch.testing.assert_close(ours(rdms[:4], rdms[4:], name), oracle(rdms[:4], rdms[4:], name), **TOLERANCE)


@pytest.mark.parametrize("name", ["cosine", "corr", "spearman"])
def test_a_constant_rdm_scores_0_as_in_rsatoolbox(name: str) -> None:
    a = torch.stack([torch.full((N_PAIRS,), 0.0 if name == "cosine" else 1.0).double(), random_rdms(1, 1)[0]])
    b = random_rdms(3, 2)
    torch.testing.assert_close(ours(a, b, name), oracle(a, b, name), **TOLERANCE)
    assert (ours(a, b, name)[0] == 0).all()


@pytest.mark.parametrize("name", WHITENED)
@pytest.mark.parametrize("change", [lambda x: x, with_nan])
def test_variances_equal_rsatoolbox(name: str, change: Callable[[Tensor], Tensor]) -> None:
    a, b, variances = change(random_rdms(4, 1)), change(random_rdms(3, 2)), random_rdms(1, 3, N_CONDITIONS)[0]
    torch.testing.assert_close(ours(a, b, name, sigma_k=variances), oracle(a, b, name, variances), **TOLERANCE)


@pytest.mark.parametrize("name", WHITENED)
@pytest.mark.parametrize("change", [lambda x: x, with_nan])
def test_a_covariance_equals_rsatoolbox(name: str, change: Callable[[Tensor], Tensor]) -> None:
    # rsatoolbox solves by conjugate gradients to a relative 1e-5; the exact solve of its equations is the next test
    a, b, sigma_k = change(random_rdms(4, 1)), change(random_rdms(3, 2)), covariance()
    torch.testing.assert_close(ours(a, b, name, sigma_k=sigma_k), oracle(a, b, name, sigma_k), rtol=0, atol=1e-4)


@pytest.mark.parametrize("change", [lambda x: x, with_nan])
def test_a_covariance_equals_the_exact_solve_of_rsatoolbox_equations(change: Callable[[Tensor], Tensor]) -> None:
    from rsatoolbox.rdm.compare import _get_v

    a, b, sigma_k = change(random_rdms(4, 1)), change(random_rdms(3, 2)), covariance()
    keep = ~a[0].isnan()
    v = torch.from_numpy(_get_v(N_CONDITIONS, sigma_k.numpy()).toarray())[keep][:, keep]
    kept_a, kept_b = a[:, keep], b[:, keep]
    products = [x @ torch.linalg.solve(v, y.T) for x, y in ((kept_a, kept_b), (kept_a, kept_a), (kept_b, kept_b))]
    expected = products[0] / (products[1].diagonal().sqrt()[:, None] * products[2].diagonal().sqrt())
    torch.testing.assert_close(cosine_cov(a[:, None], b, sigma_k=sigma_k), expected, **TOLERANCE)


@pytest.mark.parametrize("name", ORACLES)
def test_a_stimulus_bootstrap_by_weights_equals_rsatoolbox_on_resampled_rdms(name: str) -> None:
    from rsatoolbox.rdm import RDMs

    a, b = random_rdms(1, 1), random_rdms(1, 2)
    drawn = torch.randint(0, N_CONDITIONS, (20, N_CONDITIONS), generator=torch.Generator().manual_seed(3))
    counts = torch.stack([row.bincount(minlength=N_CONDITIONS) for row in drawn]).double()
    i, j = torch.triu_indices(N_CONDITIONS, N_CONDITIONS, 1)
    options = {"condition_weights": counts} if name in WHITENED else {}
    found = SIMILARITIES[name](a[0], b[0], counts[:, i] * counts[:, j], **options)  # type: ignore[call-arg]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rsatoolbox indexes arrays in a way NumPy warns about
        samples = [
            [torch.from_numpy(RDMs(x.numpy()).subsample_pattern("index", row.numpy()).dissimilarities) for x in (a, b)]
            for row in drawn
        ]
    expected = torch.cat([oracle(x, y, name).ravel() for x, y in samples])
    torch.testing.assert_close(found, expected, **TOLERANCE)


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(0), y - y.mean(0)
    return (x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())


def test_cka_equals_cka_of_the_patterns() -> None:
    x, y = torch.randn(9, 30, dtype=torch.float64), torch.randn(9, 5, dtype=torch.float64) + 3
    torch.testing.assert_close(cka(euclidean(x), euclidean(y)), linear_cka(x, y), **TOLERANCE)


def test_cka_of_repeated_conditions_equals_squared_condition_weights() -> None:
    x, y = torch.randn(6, 30, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    counts = torch.tensor([1, 3, 0, 2, 1, 1])
    i, j = torch.triu_indices(6, 6, 1)
    found = cka(euclidean(x), euclidean(y), counts[i] * counts[j], condition_weights=counts**2)
    expected = linear_cka(x.repeat_interleave(counts, 0), y.repeat_interleave(counts, 0))
    torch.testing.assert_close(found, expected, **TOLERANCE)


def euclidean_rdms(n_rdms: int, seed: int, n_channels: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return euclidean(torch.randn(n_rdms, N_CONDITIONS, n_channels, dtype=torch.float64, generator=generator))


@pytest.mark.parametrize(("name", "sign"), [("bures", 1), ("bures_metric", -1)])
def test_bures_equals_rsatoolbox(name: str, sign: int) -> None:
    # rsatoolbox takes the root of eigenvalues that are 0 up to rounding: 1e-17 becomes 3e-9
    a, b = euclidean_rdms(4, 1), euclidean_rdms(3, 2)
    torch.testing.assert_close(ours(a, b, name), sign * oracle(a, b, name), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["bures", "bures_metric"])
def test_bures_equals_the_singular_values_of_rsatoolbox(name: str) -> None:
    from importlib import import_module

    theirs = import_module("rsatoolbox.rdm.compare")
    a, b = euclidean_rdms(4, 1), euclidean_rdms(3, 2)
    second = theirs._bures_similarity_second_way if name == "bures" else theirs._sq_bures_metric_second_way
    sign = 1 if name == "bures" else -1
    expected = [[sign * second(*(kernel_of(z).numpy() for z in (x, y))) for y in b] for x in a]
    torch.testing.assert_close(ours(a, b, name), torch.tensor(expected, dtype=torch.float64), **TOLERANCE)


@pytest.mark.parametrize("sigma_k", [None, covariance()])
def test_riemannian_finds_at_least_the_optimum_of_rsatoolbox(sigma_k: Tensor | None) -> None:
    a, b = euclidean_rdms(3, 1), euclidean_rdms(2, 2)
    found = ours(a, b, "riemannian", **({} if sigma_k is None else {"sigma_k": sigma_k}))
    expected = oracle(a, b, "neg_riem_dist", sigma_k)
    assert (found >= expected - 1e-9).all()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def hsic(k: Tensor, m: Tensor) -> Tensor:
    """Unbiased HSIC of Song et al. 2007, up to a factor."""
    n = len(k)
    k, m = (x - torch.diag(x.diagonal()) for x in (k, m))
    return (k @ m).trace() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k.sum(0) @ m.sum(1)) / (n - 2)


def test_unbiased_cka_equals_that_of_kernels_of_patterns() -> None:
    x, y = torch.randn(9, 30, dtype=torch.float64) + 1, torch.randn(9, 5, dtype=torch.float64) + 3
    k, m = x @ x.T, y @ y.T
    expected = hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt()
    torch.testing.assert_close(cka_unbiased(euclidean(x), euclidean(y)), expected, **TOLERANCE)


@pytest.mark.parametrize("bandwidth", [0.2, 0.4, 0.8])
def test_rbf_cka_equals_that_of_kernels_of_patterns(bandwidth: float) -> None:
    x, y = torch.randn(8, 30, dtype=torch.float64), torch.randn(8, 5, dtype=torch.float64)

    def kernel(z: Tensor) -> Tensor:
        distances = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
        squares = distances.square()
        i, j = torch.triu_indices(8, 8, 1)
        centring = torch.eye(8, dtype=torch.float64) - 1 / 8
        return centring @ torch.exp(-squares / (2 * bandwidth**2 * float(np.median(squares[i, j])))) @ centring

    k, m = kernel(x), kernel(y)
    expected = (k * m).sum() / (k.norm() * m.norm())
    torch.testing.assert_close(cka_rbf(euclidean(x), euclidean(y), bandwidth=bandwidth), expected, **TOLERANCE)


def test_whitening_changes_a_correlation() -> None:
    a, b = random_rdms(2, 1)
    assert abs(corr_cov(a, b) - SIMILARITIES["corr"](a, b)) > 1e-3
