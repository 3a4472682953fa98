"""Comparators of whole kernels, and comparisons of patterns: values, gradients, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from brainrdl._core.errors import BrainrdlError
from brainrdl.dissimilarity.measures import euclidean
from brainrdl.dissimilarity.pairs import to_square
from brainrdl.similarity.comparators import cka, tau_a, tau_b
from brainrdl.similarity.inversions import count_concordance, count_inversions
from brainrdl.similarity.kernels import bures, bures_metric, cka_rbf, cka_unbiased, kernel_of, riemannian, rv
from brainrdl.similarity.ranks import concordance
from brainrdl.similarity.registry import SIMILARITIES
from brainrdl.similarity.shapes import procrustes, shape_distance
from brainrdl.similarity.sorting import stable_order

N = 6
WHOLE = [bures, bures_metric, riemannian]
whole = pytest.mark.parametrize("compare", WHOLE)


def patterns(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rdm(*batch: int, seed: int = 0, n: int = N, n_channels: int = 9) -> Tensor:
    return euclidean(patterns(*batch, n, n_channels, seed=seed))


@whole
def test_leading_dimensions_broadcast_as_one_by_one(compare) -> None:
    a, b = rdm(3, 1), rdm(2, seed=1)
    expected = torch.stack([torch.stack([compare(x[0], y) for y in b]) for x in a])
    torch.testing.assert_close(compare(a, b), expected)


@whole
def test_an_rdm_is_most_similar_to_itself(compare) -> None:
    a = rdm()
    highest = 1.0 if compare is bures else 0.0
    assert float(compare(a, a)) == pytest.approx(highest, abs=1e-6)
    assert float(compare(a, rdm(seed=1))) < highest - 0.01


@whole
def test_the_order_of_conditions_does_not_matter(compare) -> None:
    x, y, order = patterns(N, 9), patterns(N, 9, seed=1), torch.tensor([3, 0, 5, 1, 2, 4])
    moved = compare(euclidean(x[order]), euclidean(y[order]))
    torch.testing.assert_close(moved, compare(euclidean(x), euclidean(y)))


@whole
def test_a_condition_without_pairs_is_left_out(compare) -> None:
    x, y = patterns(N, 9), patterns(N, 9, seed=1)
    lacking = to_square(euclidean(x))
    lacking[2] = lacking[:, 2] = torch.nan
    i, j = torch.triu_indices(N, N, 1)
    rest = torch.tensor([0, 1, 3, 4, 5])
    expected = compare(euclidean(x[rest]), euclidean(y[rest])) * (9 / 9)
    torch.testing.assert_close(compare(lacking[i, j], euclidean(y)), expected)
    counts = torch.ones(N, dtype=torch.float64)
    counts[2] = 0
    weights = counts[i] * counts[j]
    found = compare(euclidean(x), euclidean(y), weights, condition_weights=counts)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("compare", [bures, bures_metric])
def test_conditions_that_count_several_times_are_repeated(compare) -> None:
    x, y = patterns(N, 9), patterns(N, 9, seed=1)
    counts = torch.tensor([1, 3, 0, 2, 1, 1])
    i, j = torch.triu_indices(N, N, 1)
    found = compare(euclidean(x), euclidean(y), counts[i] * counts[j], condition_weights=counts)
    expected = compare(*(euclidean(z.repeat_interleave(counts, 0)) for z in (x, y)))
    torch.testing.assert_close(found, expected)


@whole
def test_a_single_missing_pair_is_refused(compare) -> None:
    a = rdm()
    a[3] = torch.nan
    with pytest.raises(BrainrdlError, match="compares RDMs as a whole"):
        compare(a, rdm(seed=1))


@whole
def test_condition_weights_of_another_length_are_refused(compare) -> None:
    with pytest.raises(BrainrdlError, match=r"condition_weights must have shape \(..., 6\), got \(5,\)"):
        compare(rdm(), rdm(seed=1), condition_weights=torch.ones(5))


@pytest.mark.parametrize("compare", [bures, bures_metric])
def test_gradients_equal_finite_differences(compare) -> None:
    assert torch.autograd.gradcheck(compare, (rdm(2).requires_grad_(), rdm(seed=1).requires_grad_()))
    counts = torch.ones(N, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: compare(rdm(), rdm(seed=1), condition_weights=c), (counts,))


@pytest.mark.parametrize("compare", [bures, bures_metric])
@pytest.mark.parametrize("make", [lambda: torch.zeros(15).double(), lambda: torch.ones(15).double(), lambda: -rdm(),
                                  lambda: rdm(n_channels=2)])  # fmt: skip
def test_gradients_are_finite_with_degenerate_rdms(compare, make) -> None:
    a = make().requires_grad_()
    compare(a, rdm(seed=1)).backward()
    assert a.grad.isfinite().all()


def test_bures_of_an_rdm_without_a_kernel_is_0() -> None:
    assert bures(torch.zeros(15), rdm().float()) == 0
    assert bures(-rdm(), rdm()) == 0


def test_bures_does_not_depend_on_the_unit_and_stays_within_0_and_1_for_noisy_rdms() -> None:
    a, b = rdm().float(), rdm(seed=1).float()
    for unit in (1e-28, 1e28):
        torch.testing.assert_close(bures(a * unit, b), bures(a, b))
    noisy = torch.randn(200, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = bures(noisy[:100], noisy[100:])
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()
    torch.testing.assert_close(found, bures(noisy[100:], noisy[:100]))


def test_riemannian_refuses_a_second_rdm_without_full_rank_and_repeated_conditions() -> None:
    with pytest.raises(BrainrdlError, match="full rank"):
        riemannian(rdm(), rdm(seed=1, n_channels=2))
    with pytest.raises(BrainrdlError, match="more than once"):
        riemannian(rdm(), rdm(seed=1), condition_weights=torch.tensor([2, 1, 1, 1, 1, 1]))
    with pytest.raises(BrainrdlError, match=r"sigma_k must have shape \(6, 6\)"):
        riemannian(rdm(), rdm(seed=1), sigma_k=torch.eye(5))
    with pytest.raises(BrainrdlError, match="sigma_k is not positive definite"):
        riemannian(rdm(), rdm(seed=1), sigma_k=-torch.eye(6))


def test_riemannian_adds_noise_to_the_first_rdm_only() -> None:
    x, noise = patterns(N, 9), 0.7 * torch.eye(N, dtype=torch.float64)
    kernel = x @ x.T
    i, j = torch.triu_indices(N, N, 1)

    def distances(moment: Tensor) -> Tensor:
        own = moment.diagonal()
        return (own[:, None] + own - 2 * moment)[i, j]

    assert float(riemannian(distances(kernel), distances(3 * kernel + noise))) == pytest.approx(0, abs=1e-5)
    assert float(riemannian(distances(3 * kernel + noise), distances(kernel))) < -0.05


def test_the_kernel_is_that_of_centred_patterns() -> None:
    x = patterns(N, 9)
    centred = x - x.mean(0)
    torch.testing.assert_close(kernel_of(euclidean(x) * 9), centred @ centred.T)


def test_rv_is_cka() -> None:
    torch.testing.assert_close(rv(rdm(), rdm(seed=1)), cka(rdm(), rdm(seed=1)))


def test_a_bandwidth_that_is_not_above_0_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="bandwidth of cka_rbf must be > 0"):
        cka_rbf(rdm(), rdm(seed=1), bandwidth=0.0)


def test_unbiased_cka_of_unrelated_patterns_is_0_on_average() -> None:
    a, b = rdm(300, n=10, n_channels=200), rdm(300, n=10, n_channels=200, seed=1)
    assert cka(a, b).mean() > 0.8
    assert abs(cka_unbiased(a, b).mean()) < 0.03


def test_unbiased_cka_of_a_design_of_two_groups_does_not_depend_on_the_open_difference() -> None:
    i, j = torch.triu_indices(N, N, 1)
    between = ((i < 3) & (j >= 3)).double()  # the effects of both groups are known up to a constant
    a, b = rdm(), rdm(seed=1)
    x, y = (to_square(z)[:3, 3:] for z in (a, b))
    x, y = (z - z.mean(0) - z.mean(1, keepdim=True) + z.mean() for z in (x, y))
    torch.testing.assert_close(cka_unbiased(a, b, between), (x * y).sum() / (x.norm() * y.norm()))


# Patterns


def test_procrustes_is_bures_of_the_rdms() -> None:
    x, y = patterns(2, N, 9), patterns(N, 4, seed=1)
    torch.testing.assert_close(procrustes(x, y), bures(euclidean(x), euclidean(y)), rtol=0, atol=1e-7)


def test_shape_distance_ignores_rotation_scale_and_offset_and_is_a_metric() -> None:
    x, y, z = patterns(N, 5), patterns(N, 5, seed=1), patterns(N, 3, seed=2)
    turned = 3 * x @ torch.linalg.qr(patterns(5, 5, seed=3))[0] + 7
    assert float(shape_distance(x, turned)) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(shape_distance(turned, y), shape_distance(x, y))
    assert shape_distance(x, z) <= shape_distance(x, y) + shape_distance(y, z)


def test_constant_patterns_have_a_procrustes_similarity_of_0_and_a_finite_gradient() -> None:
    x = torch.full((N, 5), 0.1, dtype=torch.float64).requires_grad_()
    found = procrustes(x, patterns(N, 5))
    found.backward()
    assert found == 0
    assert x.grad.isfinite().all()


def test_gradients_of_procrustes_equal_finite_differences() -> None:
    assert torch.autograd.gradcheck(
        procrustes, (patterns(N, 4).requires_grad_(), patterns(N, 3, seed=1).requires_grad_())
    )


def test_patterns_of_other_conditions_or_with_nan_are_refused() -> None:
    with pytest.raises(BrainrdlError, match="same number of conditions"):
        procrustes(patterns(5, 3), patterns(6, 3))
    with pytest.raises(BrainrdlError, match="NaN or Inf in patterns to compare"):
        shape_distance(patterns(5, 3) * torch.nan, patterns(5, 3))


# Counting orders


@pytest.mark.parametrize("n", [1, 2, 3, 31, 32, 33, 64, 1000, 4186])
def test_inversions_are_those_of_a_direct_count(n: int) -> None:
    places = np.random.default_rng(n).permutation(n)
    assert count_inversions(places) == int((np.triu(places[:, None] > places, 1)).sum())


def test_inversions_of_more_places_than_fit_into_a_cache_are_those_of_smaller_steps(monkeypatch) -> None:
    places = np.random.default_rng(0).permutation(150_000)
    found = count_inversions(places)
    monkeypatch.setattr("brainrdl.similarity.inversions._CACHED", 3)
    assert found == count_inversions(places)
    assert count_inversions(places[::-1]) == 150_000 * 149_999 // 2 - found


@pytest.mark.parametrize("steps", [0, 3, 40])
def test_counted_concordance_is_that_of_weights_of_1(steps: int) -> None:
    a, b = patterns(3, 1, 700), patterns(2, 700, seed=1)
    if steps:
        a, b = (a * steps).round(), (b * steps).round()
    ones = torch.ones(700, dtype=torch.float64)
    for found, expected in zip(concordance(a, b, None), concordance(a, b, ones), strict=True):
        torch.testing.assert_close(found, expected.expand_as(found), rtol=0, atol=1e-12)
    for compare in (tau_a, tau_b):
        torch.testing.assert_close(compare(a, b), compare(a, b, ones), rtol=0, atol=1e-12)
    score, untied_a, untied_b = count_concordance(a[0, 0].numpy(), b[0].numpy())
    assert untied_a == untied_b or steps
    assert score == concordance(a[0, 0], b[0], None)[0]


def test_the_order_of_numbers_is_that_of_a_stable_argsort() -> None:
    generator = np.random.default_rng(0)
    for values in (
        generator.normal(size=(3, 500)),
        np.round(generator.normal(size=500) * 3),
        1 + np.arange(500)[::-1] * 1e-15,  # numbers that differ only in the bits that hold the index
        -1 - generator.random(4000) * 1e-14,
        np.array([0.0, -0.0, np.inf, -np.inf, 5e-324, -5e-324, 0.0]),
        generator.normal(size=300).astype(np.float32),
        np.array([3.0]),
    ):
        order, ordered = stable_order(values)
        assert np.array_equal(order, values.argsort(-1, kind="stable"))
        assert np.array_equal(ordered, np.sort(values, -1))


def test_every_comparator_of_kernels_is_found_by_name() -> None:
    for compare in (bures, bures_metric, riemannian, cka_rbf, cka_unbiased, rv):
        assert SIMILARITIES[compare.__name__] is compare


def test_a_large_negative_distance_without_weight_does_not_reach_the_rbf_kernel() -> None:
    a = torch.tensor([1.0, 2.0, 3.0, 2.5, 1.5, -2000.0], dtype=torch.float64)
    weights = torch.tensor([1.0, 1, 1, 1, 1, 0], dtype=torch.float64)
    assert SIMILARITIES["cka_rbf"](a, a, weights).item() == pytest.approx(1)


def test_a_distance_far_below_zero_makes_the_rbf_kernel_unknown() -> None:
    a = torch.tensor([0.01, 0.02, 0.01, 0.02, 0.01, -20.0], dtype=torch.float64)
    assert SIMILARITIES["cka_rbf"](a, a).isnan()
