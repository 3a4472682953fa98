"""Permutation tests: equal to scipy and to plain enumeration, exact p-values, family-wise correction, refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from brainrdl import BrainrdlError
from brainrdl.inference import PermutationTest, mantel_test, sign_flip_test
from brainrdl.similarity import SIMILARITIES


def t_of(x: np.ndarray, axis: int = 0) -> np.ndarray:
    return stats.ttest_1samp(x, 0, axis=axis).statistic


@pytest.mark.parametrize("tail", ["two-sided", "greater", "less"])
def test_all_sign_flips_give_the_p_value_of_scipy(tail: str) -> None:
    values = np.random.default_rng(1).normal(0.4, 1, (8, 3))
    test = sign_flip_test(values, tail=tail)
    oracle = stats.permutation_test(
        (values,), t_of, permutation_type="samples", alternative=tail, n_resamples=np.inf, vectorized=True, axis=0
    )
    assert test.exact
    np.testing.assert_allclose(test.p, oracle.pvalue, atol=1e-12)
    np.testing.assert_allclose(test.statistic, t_of(values), rtol=1e-12)
    np.testing.assert_allclose(test.value, values.mean(0))


def test_the_corrected_p_value_is_from_the_largest_statistic_of_each_flip() -> None:
    values = np.random.default_rng(2).normal(0.5, 1, (6, 4))
    flipped = np.array([t_of(values * np.array(s)[:, None]) for s in itertools.product([1, -1], repeat=6)])
    expected = (np.abs(flipped).max(1)[:, None] >= np.abs(t_of(values)) - 1e-9).mean(0)
    np.testing.assert_allclose(sign_flip_test(values).p_fwe, expected)


def test_random_flips_count_the_observed_one_and_approach_the_exact_p_value() -> None:
    values = np.random.default_rng(3).normal(0.3, 1, (12, 5))
    exact, drawn = sign_flip_test(values), sign_flip_test(values, n_permutations=1999)
    assert (exact.exact, drawn.exact, len(exact.maxima), len(drawn.maxima)) == (True, False, 2048, 2000)
    np.testing.assert_allclose(drawn.p, exact.p, atol=5 * 0.5 / 2000**0.5)
    assert (sign_flip_test(values + 9, n_permutations=1999).p == 1 / 2000).all()


def test_an_unknown_value_leaves_out_the_subject_for_this_value_only() -> None:
    values = np.random.default_rng(4).normal(0.5, 1, (7, 2))
    values[2, 0] = np.nan
    test = sign_flip_test(values)
    np.testing.assert_allclose(test.statistic[0], t_of(np.delete(values[:, 0], 2)), rtol=1e-12)
    assert test.p[0] == pytest.approx(sign_flip_test(np.delete(values[:, 0], 2)).p.item())
    alone = np.full((7, 1), np.nan)
    alone[0] = 1.0
    lonely = sign_flip_test(np.concatenate([values, alone], 1))
    assert np.isnan([lonely.p[2], lonely.p_fwe[2], lonely.statistic[2]]).all()
    np.testing.assert_allclose(lonely.p_fwe[:2], test.p_fwe)


def test_zeros_and_equal_values_are_no_special_case() -> None:
    test = sign_flip_test(np.stack([np.zeros(6), np.full(6, 0.3)], 1))
    assert test.p.tolist() == [1.0, 1 / 32]
    assert test.statistic[0] == 0


def test_values_keep_their_shape_and_many_are_computed_in_blocks() -> None:
    values = np.random.default_rng(5).normal(size=(9, 3, 5000))
    whole = sign_flip_test(values, n_permutations=99)
    part = sign_flip_test(values[:, 1, 4000:], n_permutations=99)
    assert whole.p.shape == (3, 5000)
    np.testing.assert_allclose(whole.p[1, 4000:], part.p)
    assert (whole.p_fwe >= whole.p).all()


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        (np.zeros((1, 3)), {}, "at least 2 subjects"),
        (np.zeros((3, 0)), {}, "shape"),
        (np.array([[1.0], [np.inf]]), {}, "infinite"),
        (np.zeros((3, 2)), {"tail": "left"}, "tail 'left' is not known"),
        (np.zeros((3, 2)), {"n_permutations": 0}, "n_permutations must be a whole number"),
    ],
)
def test_sign_flips_refuse(values: np.ndarray, options: dict, said: str) -> None:
    with pytest.raises(BrainrdlError, match=said):
        sign_flip_test(values, **options)


def rdms(n_rdms: int, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n_rdms, n * (n - 1) // 2))


def reordered(rdm: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    i, j = np.triu_indices(len(order), 1)
    square = np.zeros((len(order), len(order)))
    square[i, j] = square[j, i] = rdm
    return square[np.ix_(order, order)][i, j]


@pytest.mark.parametrize("tail", ["two-sided", "greater", "less"])
def test_all_orders_of_few_conditions_give_the_exact_p_value(tail: str) -> None:
    model, data = rdms(1, 5, 1)[0], rdms(3, 5, 2)
    null = np.array(
        [
            np.mean([stats.pearsonr(reordered(model, order), rdm)[0] for rdm in data])
            for order in itertools.permutations(range(5))
        ]
    )
    z = (null - null.mean()) / null.std()
    z = {"two-sided": np.abs(z), "greater": z, "less": -z}[tail]
    test = mantel_test(model, data, "corr", tail=tail)
    assert (test.exact, len(test.maxima)) == (True, 120)
    assert test.p == pytest.approx((z >= z[0] - 1e-9).mean())
    assert test.value == pytest.approx(null[0])


@pytest.mark.parametrize("n", [8, 9])
@pytest.mark.parametrize("comparator", sorted(set(SIMILARITIES) - {"soft-spearman", "riemannian"}))  # needs full rank
def test_the_score_and_the_mean_and_spread_of_permutations_are_those_of_the_comparator(n: int, comparator: str) -> None:
    models, data = torch.tensor(rdms(2, n, 3)), torch.tensor(rdms(3, n, 4))
    models[0, :6] = 0.5  # ties
    test = mantel_test(models, data, comparator, n_permutations=400)
    np.testing.assert_allclose(test.value, SIMILARITIES[comparator](models[:, None], data).mean(1), atol=1e-12)
    orders = [np.random.default_rng(k).permutation(n) for k in range(400)]
    shuffled = torch.tensor(np.array([reordered(models[1].numpy(), tuple(order)) for order in orders]))
    null = SIMILARITIES[comparator](shuffled[:, None], data).mean(1).numpy()
    mean = test.value[1] - test.statistic[1] * null.std()  # statistic = (value - mean) / sd
    assert mean == pytest.approx(null.mean(), abs=0.35 * null.std())


@pytest.mark.parametrize("n", [20, pytest.param(21, marks=pytest.mark.slow)])
def test_permutations_by_cycles_have_the_quantiles_of_random_permutations(n: int) -> None:
    model, data = rdms(1, n, 5)[0], rdms(1, n, 6)[0]
    i, j = np.triu_indices(n, 1)
    data = data + (i < n // 2) * 0.2  # effects of conditions, which make permutations of one cycle correlated
    model = model + (j > n // 3) * 0.2
    ours = mantel_test(model, data, "corr", n_permutations=5000, tail="greater").maxima
    rng = np.random.default_rng(1)
    plain = np.array([np.corrcoef(reordered(model, tuple(rng.permutation(n))), data)[0, 1] for _ in range(2000)])
    plain = (plain - plain.mean()) / plain.std()
    for q in (0.05, 0.5, 0.95, 0.99):
        assert np.quantile(ours, q) == pytest.approx(np.quantile(plain, q), abs=0.2)


def test_related_rdms_get_the_smallest_p_value_and_unrelated_ones_do_not() -> None:
    model, other, noise = rdms(3, 30, 8)
    test = mantel_test(np.stack([model, other]), np.stack([model + noise, model + noise[::-1]]), n_permutations=999)
    assert test.p_fwe[0] == 1 / len(test.maxima)
    assert test.p[1] > 0.05
    assert len(test.maxima) == 1020  # 34 sets of 30 orders


@pytest.mark.parametrize("comparator", ["corr", "tau-a"])
def test_a_constant_model_has_no_permutation_test(comparator: str) -> None:
    with pytest.raises(BrainrdlError, match=r"RDMs \[0\] of models .* have the same dissimilarity for all pairs"):
        mantel_test(np.ones(45), rdms(1, 10), comparator, n_permutations=50)


def test_the_layout_of_arrays_in_memory_does_not_matter() -> None:
    models, data = rdms(2, 10, 9), rdms(3, 10, 10)
    found = mantel_test(np.asfortranarray(models), np.asfortranarray(data), "spearman", n_permutations=99)
    np.testing.assert_allclose(found.maxima, mantel_test(models, data, "spearman", n_permutations=99).maxima)


def test_unknown_pairs_are_left_out_for_their_subject() -> None:
    model, data = rdms(1, 12, 9)[0], rdms(2, 12, 10)
    data[0, 5] = np.nan
    data[0, 6:] += 0.5 * model[6:]
    test = mantel_test(model, data, "corr", n_permutations=200)
    keep = ~np.isnan(data[0])
    expected = np.mean([stats.pearsonr(model[keep], data[0, keep])[0], stats.pearsonr(model, data[1])[0]])
    assert test.value == pytest.approx(expected)
    assert len(test.maxima) == 201


@pytest.mark.parametrize(
    ("models", "data", "options", "said"),
    [
        (rdms(1, 8), rdms(1, 9), {}, "28 pairs, but rdms have 36"),
        (rdms(1, 2), rdms(1, 2), {}, "at least 3 conditions"),
        (np.full((1, 28), np.inf), rdms(1, 8), {}, "models must be finite"),
        (rdms(1, 8)[None], rdms(1, 8), {}, "models must have shape"),
        (rdms(1, 8), rdms(1, 8), {"comparator": "pearson"}, "nearest: 'corr'"),
        (rdms(1, 8), rdms(1, 8), {"tail": "both"}, "tail 'both'"),
    ],
)
def test_label_permutations_refuse(models: np.ndarray, data: np.ndarray, options: dict, said: str) -> None:
    with pytest.raises(BrainrdlError, match=said):
        mantel_test(models, data, **options)


@pytest.mark.slow
def test_p_values_under_the_null_hypothesis_are_uniform() -> None:
    rng = np.random.default_rng(11)
    flipped = [sign_flip_test(rng.standard_t(4, size=10)).p for _ in range(400)]
    permuted = [mantel_test(rng.random(66), rng.random(66), n_permutations=199).p for _ in range(400)]
    for p in (flipped, permuted):
        assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09
        assert stats.kstest(p, "uniform").pvalue > 0.001


def test_the_result_can_be_unpacked() -> None:
    assert PermutationTest._fields == ("value", "statistic", "p", "p_fwe", "maxima", "exact")


@pytest.mark.parametrize("n_permutations", [1000, 45_000])
def test_a_constant_rdm_has_no_permutation_test(n_permutations: int) -> None:
    data = rdms(4, 8)
    data[1] = 0.3
    with pytest.raises(BrainrdlError, match=r"RDMs \[1\] of rdms .* have the same dissimilarity for all pairs"):
        mantel_test(rdms(1, 8, 5), data, n_permutations=n_permutations)
