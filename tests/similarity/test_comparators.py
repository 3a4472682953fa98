"""Comparators: shapes, gradients and their hazards, NaN, precision, refusals."""

from __future__ import annotations

import functools
import inspect

import pytest
import torch
from torch import Tensor

from brainrdl._core.errors import BrainrdlError
from brainrdl.similarity.comparators import (
    SIMILARITIES,
    cka,
    corr,
    corr_cov,
    cosine,
    cosine_cov,
    label_of,
    resolve,
    rho_a,
    soft_spearman,
    spearman,
    tau_a,
)

WHOLE = ["bures", "bures_metric", "riemannian"]  # tested in test_kernels.py
NAMES = [name for name in SIMILARITIES if name not in WHOLE]
OF_KERNELS = ["cka", "cka_rbf", "rv"]
DIFFERENTIABLE = ["cosine", "corr", "corr_cov", "cosine_cov", *OF_KERNELS, "cka_unbiased", "soft-spearman"]
WHITENED = ["corr_cov", "cosine_cov", *OF_KERNELS]
MEANLESS = [name for name in NAMES if name not in {"cosine", "cosine_cov", *OF_KERNELS}]
SQUARE = [*WHITENED, "cka_unbiased"]  # need all pairs of some conditions


def rdm(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype) + 0.1


def partial_rdm(*shape: int, seed: int = 0) -> Tensor:
    values = rdm(*shape, seed=seed)
    values[..., 3:7] = torch.nan
    return values


# Shapes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weighted", [False, True])
def test_leading_dimensions_broadcast_as_one_by_one(name: str, weighted: bool) -> None:
    a, b, weights = rdm(3, 1, 15), rdm(2, 15, seed=1), rdm(2, 15, seed=2) * 9 if weighted else None
    found = SIMILARITIES[name](a, b, weights)
    each = [
        [SIMILARITIES[name](x[0], y, weights if weights is None else weights[k]) for k, y in enumerate(b)] for x in a
    ]
    assert found.shape == (3, 2)
    torch.testing.assert_close(found, torch.tensor(each, dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_weights_against_single_vectors_are_one_call(name: str) -> None:
    weights = torch.randint(0, 3, (1000, 15), generator=torch.Generator().manual_seed(3))
    a, b = rdm(15), rdm(15, seed=1)
    found = SIMILARITIES[name](a, b, weights)
    assert found.shape == (1000,)
    torch.testing.assert_close(found[::250], torch.stack([SIMILARITIES[name](a, b, w) for w in weights[::250]]))


@pytest.mark.parametrize("name", NAMES)
def test_subjects_times_resamples_broadcast(name: str) -> None:
    a, b, weights = partial_rdm(3, 1, 15), rdm(15, seed=1), rdm(5, 15, seed=2) * 9
    assert SIMILARITIES[name](a, b, weights).shape == (3, 5)


@pytest.mark.parametrize("name", NAMES)
def test_dtype_is_kept_and_half_precision_and_integers_become_float32(name: str) -> None:
    for given, expected in [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.int64, torch.float32),
    ]:
        a, b = ((100 * rdm(15, seed=seed)).to(given) for seed in (0, 1))
        found = SIMILARITIES[name](a, b)
        assert found.dtype == expected
        torch.testing.assert_close(found.double(), SIMILARITIES[name](a.double(), b.double()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing(name: str) -> None:
    a, b, weights = rdm(2, 15, dtype=torch.float32), rdm(15, seed=1, dtype=torch.float32), rdm(4, 1, 15, seed=2) * 9
    expected = SIMILARITIES[name](a, b, weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = SIMILARITIES[name](a, b, weights)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_float32_sums_for_single_and_batched_agree() -> None:
    a, b = rdm(4186, dtype=torch.float32), rdm(4186, seed=1, dtype=torch.float32)
    torch.testing.assert_close(corr(a, b.expand(3, -1)), corr(a, b).expand(3))


# NaN and weights


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SQUARE])
def test_nan_in_either_rdm_is_the_pair_left_out(name: str) -> None:
    a, b = rdm(2, 15), rdm(2, 15, seed=1)
    a[0, 3], b[1, 5] = torch.nan, torch.nan
    expected = [SIMILARITIES[name](x[keep], y[keep]) for x, y in zip(a, b, strict=True) for keep in [~(x + y).isnan()]]
    torch.testing.assert_close(SIMILARITIES[name](a, b), torch.stack(expected))


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_weight_0(name: str) -> None:
    a, b, dropped = rdm(15), rdm(15, seed=1), partial_rdm(15)
    weights = (~dropped.isnan()).double()
    torch.testing.assert_close(SIMILARITIES[name](dropped, b), SIMILARITIES[name](a, b, weights))


@pytest.mark.parametrize("name", NAMES)
def test_a_value_of_weight_0_has_no_say_whatever_it_is(name: str) -> None:
    a, b, weights = rdm(15, dtype=torch.float32), rdm(15, seed=1, dtype=torch.float32), torch.ones(15)
    weights[4] = 0
    expected = SIMILARITIES[name](a, b, weights)
    a[4] = 1e6
    torch.testing.assert_close(SIMILARITIES[name](a, b, weights), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_no_pair_left_scores_0_with_finite_gradient(name: str) -> None:
    a, b = torch.full((15,), torch.nan, requires_grad=True), rdm(15, seed=1, dtype=torch.float32)
    score = SIMILARITIES[name](a, b)
    assert score == 0
    if SIMILARITIES[name].differentiable:
        score.backward()
        assert a.grad is not None
        assert torch.equal(a.grad, torch.zeros(15))


@pytest.mark.parametrize("name", [name for name in MEANLESS if name != "corr_cov"])
def test_a_single_pair_scores_0_where_a_mean_is_subtracted(name: str) -> None:
    assert SIMILARITIES[name](torch.tensor([2.0]), torch.tensor([3.0])) == 0


def test_a_single_pair_has_a_cosine() -> None:
    assert cosine(torch.tensor([2.0]), torch.tensor([-3.0])) == -1


def test_a_resample_whose_pairs_are_all_the_same_scores_0() -> None:
    a, b = rdm(15), rdm(15, seed=1)
    weights = torch.zeros(2, 15)
    weights[0, 6], weights[1] = 4, 1
    found = corr(a, b, weights)
    assert found[0] == 0
    torch.testing.assert_close(found[1], corr(a, b))


# Attributes


@pytest.mark.parametrize("name", NAMES)
def test_rank_comparators_are_those_that_only_depend_on_the_order(name: str) -> None:
    a, b = rdm(15), rdm(15, seed=1)
    same = torch.allclose(SIMILARITIES[name](a, b), SIMILARITIES[name](a**3, b), atol=1e-6)
    assert same is (SIMILARITIES[name].ranks and name != "soft-spearman")  # soft ranks are ranks only in the limit


@pytest.mark.parametrize("name", NAMES)
def test_whitened_comparators_are_those_that_accept_condition_weights(name: str) -> None:
    assert SIMILARITIES[name].whitened is (name in WHITENED)
    assert SIMILARITIES[name].whitened is ("condition_weights" in inspect.signature(SIMILARITIES[name]).parameters)


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_of_pooled_rdms_is_more_similar_to_all_than_the_plain_mean(name: str) -> None:
    rdms = rdm(5, 28) * torch.tensor([1.0, 1, 1, 1, 50])[:, None] + torch.tensor([0.0, 0, 0, 0, 3])[:, None]
    pooled, plain = SIMILARITIES[name].poolable(rdms).mean(0), rdms.mean(0)
    assert SIMILARITIES[name](pooled, rdms).mean() > SIMILARITIES[name](plain, rdms).mean()


@pytest.mark.parametrize("name", NAMES)
def test_converting_to_a_correlation_and_back_changes_nothing(name: str) -> None:
    similarity = SIMILARITIES[name]
    if similarity.as_correlation is None:
        return
    assert [similarity.from_correlation(similarity.as_correlation(x)) for x in (-0.5, 0.0, 0.9)] == pytest.approx(
        [-0.5, 0.0, 0.9]
    )
    assert similarity.as_correlation(1.0) == pytest.approx(1.0)


def test_labels_differ_and_a_partial_correlation_says_so() -> None:
    assert len({label_of(name) for name in NAMES}) == len(NAMES)
    assert label_of("partial corr") == "partial Pearson correlation"
    assert label_of("my own") == "my own"


# Gradients and hazards


@pytest.mark.parametrize("name", NAMES)
def test_a_comparator_says_whether_it_is_differentiable(name: str) -> None:
    assert SIMILARITIES[name].differentiable is (name in DIFFERENTIABLE)
    a = rdm(15).requires_grad_()
    assert SIMILARITIES[name](a, rdm(15, seed=1)).requires_grad is (name in DIFFERENTIABLE)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("make", [rdm, partial_rdm])
def test_gradients_are_right(name: str, weighted: bool, make: object) -> None:
    weights = torch.tensor([[1.0, 0.0, 2.0, 1.0, 3.0] * 2, [1.0] * 10]).double() if weighted else None
    keep = ~make(10).isnan()  # type: ignore[operator]

    def compare(x: Tensor, y: Tensor) -> Tensor:
        return SIMILARITIES[name](torch.where(keep, x, torch.nan), y, weights)

    assert torch.autograd.gradcheck(compare, (rdm(2, 10).requires_grad_(), rdm(10, seed=1).requires_grad_()))


@pytest.mark.parametrize("sigma_k", [rdm(5, seed=4), torch.eye(5).double() + 0.3])
@pytest.mark.parametrize("compare", [cosine_cov, corr_cov])
@pytest.mark.parametrize("make", [rdm, partial_rdm])
def test_gradients_with_sigma_are_right(sigma_k: Tensor, compare: object, make: object) -> None:
    keep = ~make(10).isnan()  # type: ignore[operator]

    def compared(x: Tensor, y: Tensor) -> Tensor:
        return compare(torch.where(keep, x, torch.nan), y, sigma_k=sigma_k)  # type: ignore[operator,no-any-return]

    assert torch.autograd.gradcheck(compared, (rdm(2, 10).requires_grad_(), rdm(10, seed=1).requires_grad_()))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_a_masked_nan_leaves_the_gradient_finite_and_0_there(name: str) -> None:
    a = partial_rdm(2, 15).requires_grad_()
    SIMILARITIES[name](a, rdm(15, seed=1)).sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()
    assert (a.grad[:, 3:7] == 0).all()
    assert (a.grad[:, 7:].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("name", MEANLESS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("value", [0.0, 0.1, 1000.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_rdm_scores_0_with_finite_gradient(
    name: str, weighted: bool, value: float, dtype: torch.dtype
) -> None:
    a = torch.full((4186,), value, dtype=dtype, requires_grad=True)
    weights = rdm(4186, seed=3, dtype=dtype) * 9 if weighted else None
    score = SIMILARITIES[name](a, rdm(4186, seed=1, dtype=dtype), weights)
    # tau-a subtracts sums of weights, exact for counts only
    assert abs(score) < 1e-5 if weighted and name == "tau-a" else score == 0
    if score.requires_grad:
        score.backward()
        assert a.grad is not None
        assert a.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_an_rdm_of_zeros_scores_0_with_finite_gradient(name: str) -> None:
    a = torch.zeros(15, requires_grad=True)
    score = SIMILARITIES[name](a, rdm(15, seed=1, dtype=torch.float32))
    assert score == 0
    if score.requires_grad:
        score.backward()
        assert a.grad is not None
        assert a.grad.isfinite().all()


@pytest.mark.parametrize("name", ["corr", "spearman", "corr_cov", "soft-spearman"])
@pytest.mark.parametrize("weighted", [False, True])
def test_float32_with_a_large_offset_stays_right(name: str, weighted: bool) -> None:
    a, b = (rdm(4186, seed=seed, dtype=torch.float32) + 1000 for seed in (0, 1))
    b = b + 0.5 * (a - 1000)
    weights = rdm(4186, seed=2) * 9 if weighted else None
    expected = SIMILARITIES[name](a.double(), b.double(), weights)
    torch.testing.assert_close(SIMILARITIES[name](a, b, weights).double(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unit", [1e-28, 1e28])
def test_the_unit_of_the_data_does_not_matter_in_float32(name: str, unit: float) -> None:
    a, b = rdm(15, dtype=torch.float32), rdm(15, seed=1, dtype=torch.float32)
    torch.testing.assert_close(SIMILARITIES[name](a * unit, b), SIMILARITIES[name](a, b))


# Soft Spearman


def test_soft_spearman_tends_to_spearman_as_the_temperature_goes_to_0() -> None:
    a, b = rdm(300), (rdm(300, seed=1) * 8).round()
    errors = [abs(float(soft_spearman(a, b, temperature=t) - spearman(a, b))) for t in (1.0, 1e-1, 1e-2, 1e-8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6


def test_soft_spearman_is_corr_at_a_high_temperature() -> None:
    a, b = rdm(300), rdm(300, seed=1) ** 4
    assert abs(corr(a, b) - spearman(a, b)) > 1e-3
    torch.testing.assert_close(soft_spearman(a, b, temperature=50.0), corr(a, b))


def test_soft_spearman_equals_the_ramp_summed_over_all_comparisons() -> None:
    a, b, weights = rdm(40), rdm(40, seed=1), (rdm(40, seed=2) * 4).round()

    def soft_ranks(x: Tensor) -> Tensor:
        mean = (weights * x).sum() / weights.sum()
        x = (x - mean) / ((weights * (x - mean) ** 2).sum() / weights.sum()).sqrt()
        return (weights * ((x[:, None] - x) / (2 * 0.3) + 0.5).clamp(0, 1)).sum(-1)

    expected = corr(soft_ranks(a), soft_ranks(b), weights)
    torch.testing.assert_close(soft_spearman(a, b, weights, temperature=0.3), expected)


def test_soft_spearman_keeps_its_digits_in_float32_at_a_low_temperature() -> None:
    a, b = rdm(4186, dtype=torch.float32), rdm(4186, seed=1, dtype=torch.float32)
    expected = soft_spearman(a.double(), b.double(), temperature=1e-4)
    torch.testing.assert_close(soft_spearman(a, b, temperature=1e-4).double(), expected, atol=1e-6, rtol=0)


def test_soft_spearman_raises_the_hard_spearman_when_trained() -> None:
    teacher, student = rdm(190), rdm(190, seed=1).requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.02)
    before = spearman(teacher, student)
    for _ in range(100):
        optimizer.zero_grad()
        (1 - soft_spearman(student, teacher)).backward()
        optimizer.step()
    assert before < 0.2
    assert spearman(teacher, student) > 0.95


# Sizes


def test_a_hundred_thousand_pairs_are_compared_without_a_square_of_them() -> None:
    a, b = rdm(99681, dtype=torch.float32), rdm(99681, seed=1, dtype=torch.float32)  # 447 conditions
    for name in NAMES:
        assert abs(float(SIMILARITIES[name](a, b))) < 1


def test_tau_a_in_float32_is_that_of_float64() -> None:
    a, b = (rdm(9000, seed=seed, dtype=torch.float32) for seed in (0, 1))
    torch.testing.assert_close(tau_a(a, b + a).double(), tau_a(a.double(), (b + a).double()), atol=1e-6, rtol=0)


# Refusals


@pytest.mark.parametrize("name", NAMES)
def test_rdms_of_different_length_are_refused(name: str) -> None:
    with pytest.raises(
        BrainrdlError, match=r"two RDMs to compare must have the same number of pairs.*\(6,\) and \(1,\)"
    ):
        SIMILARITIES[name](rdm(6), rdm(1))


def test_weights_of_another_length_are_refused() -> None:
    with pytest.raises(BrainrdlError, match="RDMs and pair weights must have the same number of pairs"):
        corr(rdm(6), rdm(6), rdm(1))


@pytest.mark.parametrize("shape", [(), (2, 0)])
def test_rdms_without_pairs_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BrainrdlError, match=r"at least one pair|must have shape"):
        corr(torch.zeros(shape), torch.zeros(shape))


@pytest.mark.parametrize("value", [-1.0, torch.nan, torch.inf])
def test_weights_that_are_negative_or_not_finite_are_refused(value: float) -> None:
    with pytest.raises(BrainrdlError, match="pair weights must be finite and >= 0"):
        corr(rdm(3), rdm(3), torch.tensor([1.0, value, 1.0]))


@pytest.mark.parametrize(("compare", "name"), [(tau_a, "tau-a"), (rho_a, "rho-a")])
def test_normalised_weights_are_refused_where_their_scale_matters(compare: object, name: str) -> None:
    with pytest.raises(BrainrdlError, match=f"{name} needs weights that count pairs, got a total of 0.5"):
        compare(rdm(4), rdm(4, seed=1), torch.full((4,), 0.125))  # type: ignore[operator]


def test_a_number_of_pairs_that_is_no_rdm_is_refused_by_whitened_comparators() -> None:
    with pytest.raises(BrainrdlError, match="7"):
        cosine_cov(rdm(7), rdm(7))


@pytest.mark.parametrize(
    ("sigma_k", "message"),
    [
        (torch.ones(5), r"sigma_k must have shape \(6,\) or \(6, 6\) for 15 pairs, got \(5,\)"),
        (torch.zeros(6), "sigma_k must be variances > 0, but the smallest is 0"),
        (-torch.eye(6), "sigma_k is not positive definite"),
    ],
)
def test_an_impossible_sigma_is_refused(sigma_k: Tensor, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        corr_cov(rdm(15), rdm(15), sigma_k=sigma_k)


def test_a_matrix_sigma_takes_no_other_weights_than_0_and_1() -> None:
    with pytest.raises(BrainrdlError, match="pairs can only be left out"):
        corr_cov(rdm(15), rdm(15), torch.full((15,), 2.0), sigma_k=torch.eye(6))


def test_a_matrix_sigma_refuses_rdms_that_leave_out_different_pairs() -> None:
    with pytest.raises(BrainrdlError, match="must leave out the same pairs"):
        cosine_cov(rdm(15), rdm(15), 1 - torch.eye(15)[:2], sigma_k=torch.eye(6))


def test_a_matrix_sigma_with_no_pair_left_scores_0() -> None:
    assert cosine_cov(rdm(15), rdm(15), torch.zeros(15), sigma_k=torch.eye(6)) == 0


@pytest.mark.parametrize(
    ("condition_weights", "message"),
    [
        (torch.ones(5), r"condition_weights must have shape \(..., 6\), got \(5,\)"),
        (-torch.ones(6), "condition_weights must be finite and >= 0"),
        (torch.arange(6.0), "condition_weights are 0 for a condition whose pairs have weights"),
    ],
)
def test_impossible_condition_weights_are_refused(condition_weights: Tensor, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        cka(rdm(15), rdm(15), condition_weights=condition_weights)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_above_0_is_refused(temperature: float) -> None:
    with pytest.raises(BrainrdlError, match="temperature of soft-spearman must be > 0"):
        soft_spearman(rdm(3), rdm(3), temperature=temperature)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(BrainrdlError, match="similarity 'tau_a' is not known; nearest: 'tau-a'"):
        resolve("tau_a")


def test_a_callable_must_say_whether_it_is_differentiable() -> None:
    mine = functools.partial(corr_cov, sigma_k=torch.ones(6))
    with pytest.raises(BrainrdlError, match="no attribute 'differentiable'"):
        resolve(mine)  # type: ignore[arg-type]
    mine.differentiable = True  # type: ignore[attr-defined]
    assert resolve(mine) is mine  # type: ignore[comparison-overlap,arg-type]
