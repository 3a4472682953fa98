"""Dissimilarities that compare channels one by one, and those of several runs: values at the edges, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rsatoolbox.data import Dataset

from brainrdl import RDMLoss, calc_rdm, dissimilarity as d
from brainrdl._core.errors import BrainrdlError

BINARY = torch.tensor([[1.0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def patterns(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_zeros_have_no_distance_to_each_other() -> None:
    for function in (d.jaccard, d.hamming, d.braycurtis, d.canberra):
        assert function(BINARY)[-1] == 0
        assert function(BINARY).isfinite().all()


def test_jaccard_refuses_values_other_than_0_and_1() -> None:
    with pytest.raises(BrainrdlError, match="jaccard compares patterns of 0 and 1"):
        d.jaccard(BINARY / 2)


@pytest.mark.parametrize("name", ["jaccard", "hamming"])
def test_a_dissimilarity_without_a_gradient_is_refused_by_the_loss(name: str) -> None:
    with pytest.raises(BrainrdlError, match=f"{name!r} has no gradient"):
        RDMLoss(name)
    assert not d.traits_of(name).differentiable
    assert not d.DISSIMILARITIES[name](BINARY.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("name", ["cityblock", "chebyshev", "braycurtis", "canberra"])
def test_a_loss_with_these_dissimilarities_has_gradients(name: str) -> None:
    x = patterns(6, 9).requires_grad_()
    RDMLoss(name)(x, torch.rand(15)).backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_a_function_of_two_patterns_is_called_with_blocks_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def city(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        calls.append(a.shape)
        return (a - b).abs().sum(-1)

    x = patterns(3, 30, 7)
    expected = d.cityblock(x)
    torch.testing.assert_close(d.pairwise(city)(x), expected)
    assert len(calls) == 1
    monkeypatch.setattr("brainrdl.dissimilarity.channelwise._AT_ONCE", 3 * 7 * 60)
    torch.testing.assert_close(d.pairwise(city)(x), expected)
    assert len(calls) > 5
    assert d.traits_of(d.pairwise(city)).label == "city"


def test_a_function_that_does_not_reduce_the_channels_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"must return one number for each pair of patterns, shape \(6,\), got"):
        d.pairwise(lambda a, b: (a - b).abs())(patterns(4, 3))


def dataset(measured: np.ndarray, n_runs: int) -> Dataset:
    n = len(measured) // n_runs
    described = {"stimulus": [f"c{k}" for k in range(n)] * n_runs, "run": np.repeat(np.arange(n_runs), n)}
    return Dataset(measured, obs_descriptors=described)


def test_calc_rdm_uses_the_new_names() -> None:
    measured = patterns(3, 5, 12).numpy() + 2 * patterns(5, 12, seed=1).numpy()
    data = dataset(measured.reshape(15, 12), 3)
    for name in ("euclidean_cv", "correlation_cv"):
        np.testing.assert_allclose(
            calc_rdm(data, name).dissimilarities[0], d.DISSIMILARITIES[name](torch.tensor(measured))
        )
    mean = torch.tensor(measured.mean(0))
    for name in ("cityblock", "chebyshev", "braycurtis", "canberra"):
        np.testing.assert_allclose(calc_rdm(data, name).dissimilarities[0], d.DISSIMILARITIES[name](mean))
    binary = dataset((measured[0] > 0).astype(float), 1)
    np.testing.assert_allclose(calc_rdm(binary, "jaccard").dissimilarities[0], d.jaccard(torch.tensor(measured[0] > 0)))


def test_crossnobis_with_a_precision_is_the_cross_validated_euclidean_distance_of_whitened_patterns() -> None:
    measured = patterns(15, 12).numpy()
    noise = np.diag(np.linspace(0.5, 2, 12)) + 0.1
    found = calc_rdm(dataset(measured, 3), "euclidean_cv", noise=noise)
    expected = calc_rdm(dataset(measured, 3), "crossnobis", noise=noise)
    np.testing.assert_allclose(found.dissimilarities, expected.dissimilarities)


def test_conditions_that_do_not_agree_between_runs_have_no_cross_validated_correlation() -> None:
    measured = np.concatenate([patterns(4, 12).numpy()] * 2)
    measured[4] *= -1  # the first condition, in the second run
    assert d.is_reliable(torch.tensor(measured).unflatten(0, (2, 4))).tolist() == [False, True, True, True]
    with pytest.raises(BrainrdlError, match=r"patterns of conditions \['c0'\] do not agree between runs"):
        calc_rdm(dataset(measured, 2), "correlation_cv")


def test_correlation_cv_refuses_missing_conditions_and_one_run() -> None:
    measured = patterns(8, 12).numpy()
    described = {"stimulus": [*"abcabcab"], "run": [0, 0, 0, 1, 1, 1, 2, 2]}
    with pytest.raises(BrainrdlError, match="needs all conditions in all runs"):
        calc_rdm(Dataset(measured, obs_descriptors=described), "correlation_cv")
    with pytest.raises(BrainrdlError, match="correlation_cv needs at least 2 runs"):
        d.correlation_cv(patterns(1, 4, 5))


def test_noise_makes_a_correlation_smaller_but_not_the_cross_validated_one() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(6, 4000, dtype=torch.float64, generator=generator)
    true[1] = true[0] + 0.5 * true[1]
    runs = true + 1.5 * torch.randn(6, *true.shape, dtype=torch.float64, generator=generator)
    exact = d.correlation(true)[0]
    assert abs(d.correlation_cv(runs)[0] - exact) < 0.03
    assert d.correlation(runs.mean(0))[0] - exact > 0.1
