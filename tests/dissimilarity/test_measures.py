from __future__ import annotations

import numpy as np
import pytest
import torch

from brainrdl import dissimilarity as d
from brainrdl._core.errors import BrainrdlError
from brainrdl.dissimilarity import products
from brainrdl.dissimilarity.pairs import pair_blocks
from brainrdl.testing.dissimilarities import check_dissimilarity

N_CHANNELS = 8
PRECISION = torch.diag(torch.linspace(0.5, 2, N_CHANNELS, dtype=torch.float64)) + 0.1
CALLABLES = {
    "euclidean": d.euclidean,
    "correlation": d.correlation,
    "cosine": d.cosine,
    "mahalanobis": d.Mahalanobis(PRECISION),
    "crossnobis": d.Crossnobis(PRECISION),
    "crossnobis without precision": d.crossnobis,
    "poisson": d.poisson,
    "poisson_cv": d.poisson_cv,
    "euclidean_cv": d.euclidean_cv,
    "correlation_cv": d.correlation_cv,
    "cityblock": d.cityblock,
    "chebyshev": d.chebyshev,
    "braycurtis": d.braycurtis,
    "canberra": d.canberra,
    "pairwise": d.pairwise(lambda a, b: (a - b).square().sum(-1)),
}
OF_RUNS = ("crossnobis", "crossnobis without precision", "poisson_cv", "euclidean_cv", "correlation_cv")
ONCE = ("cityblock", "chebyshev", "braycurtis")  # torch.cdist has no second gradient
every = pytest.mark.parametrize("name", CALLABLES)
of_patterns = pytest.mark.parametrize("name", [name for name in CALLABLES if name not in OF_RUNS])


def patterns(name: str, n: int = 5, dtype: torch.dtype = torch.float64, batch: tuple[int, ...] = ()) -> torch.Tensor:
    runs = (3,) if name in OF_RUNS else ()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(*batch, *runs, n, N_CHANNELS, generator=generator, dtype=torch.float64) + 0.1
    if name == "correlation_cv":  # which needs patterns that agree between runs
        x = x.narrow(-3, 0, 1) + 0.1 * x
    return x.to(dtype)


def gradient(function, x):
    leaf = x.clone().requires_grad_()
    pairs = function(leaf)
    weights = torch.linspace(-1, 2, pairs.numel(), dtype=pairs.dtype).view_as(pairs)
    return pairs.detach(), torch.autograd.grad(pairs, leaf, weights)[0]


# Conformance


@pytest.mark.parametrize("name", [name for name in CALLABLES if name != "correlation_cv"])  # needs runs that agree
def test_every_dissimilarity_keeps_the_contract(name):
    check_dissimilarity(CALLABLES[name], shape=patterns(name).shape)


def column_major(x):
    square = d.to_square(d.euclidean(x))
    row, column = torch.tril_indices(x.shape[-2], x.shape[-2], -1)
    return square[..., row, column]


def root(x):
    row, column = d.pair_indices(x.shape[-2])
    return (x[..., row, :] - x[..., column, :]).square().sum(-1).sqrt()


def over_the_batch(x):
    return d.euclidean(x) / x.abs().max() if x.ndim == 2 else d.euclidean(x) / x.flatten(-2).sum()


BROKEN = {
    "must return shape": lambda x: d.to_square(d.euclidean(x)),
    "does not follow the order of the conditions": column_major,
    "does not treat leading dimensions as independent": over_the_batch,
    "does not give duplicate patterns 0": lambda x: 1 + d.euclidean(x),
    "has no gradient": lambda x: d.euclidean(x.detach()),
    "gives NaN or Inf, in value or gradient, with duplicate patterns": root,
    "gives NaN or Inf, in value or gradient, with constant patterns": lambda x: d.cosine(x) / x.std(-1).prod(-1, True),
    "must return torch.float64": lambda x: d.euclidean(x.float()) + 0 * x.sum().float(),
}


@pytest.mark.parametrize("failure", BROKEN)
def test_the_conformance_check_catches_a_broken_dissimilarity(failure):
    with pytest.raises(BrainrdlError, match=failure):
        check_dissimilarity(BROKEN[failure])


def test_the_conformance_check_asks_for_enough_conditions():
    with pytest.raises(BrainrdlError, match="at least 4 conditions"):
        check_dissimilarity(d.euclidean, shape=(3, 5))


# Values, batches, gradients


@every
def test_leading_dimensions_are_independent(name):
    x = patterns(name, batch=(2, 3))
    expected = torch.stack([torch.stack([CALLABLES[name](one) for one in row]) for row in x])
    torch.testing.assert_close(CALLABLES[name](x), expected, rtol=1e-12, atol=1e-12)


@every
def test_the_gradient_of_a_batch_is_that_of_each_member(name):
    x = patterns(name, batch=(2,))
    _, batched = gradient(CALLABLES[name], x)
    leaf = x.clone().requires_grad_()
    pairs = torch.stack([CALLABLES[name](one) for one in leaf])
    weights = torch.linspace(-1, 2, pairs.numel(), dtype=pairs.dtype).view_as(pairs)
    torch.testing.assert_close(batched, torch.autograd.grad(pairs, leaf, weights)[0], rtol=1e-10, atol=1e-12)


@every
@pytest.mark.parametrize("n", [2, 4])
def test_gradients_equal_finite_differences(name, n):
    x = patterns(name, n, batch=(2,)).requires_grad_()
    assert torch.autograd.gradcheck(CALLABLES[name], (x,), eps=1e-6, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in CALLABLES if name not in ONCE])
def test_second_gradients_equal_finite_differences(name):
    x = patterns(name, 3).requires_grad_()
    assert torch.autograd.gradgradcheck(CALLABLES[name], (x,), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["euclidean", "correlation"])
def test_second_gradients_are_finite_with_constant_patterns(name):
    x = patterns(name)
    x[1:3] = 0.1
    x.requires_grad_()
    (first,) = torch.autograd.grad(CALLABLES[name](x).square().sum(), x, create_graph=True)
    assert torch.autograd.grad(first.square().sum(), x)[0].isfinite().all()


def test_a_noise_precision_can_be_learned():
    def from_factor(x, factor):
        return d.mahalanobis(x, factor @ factor.mT)

    inputs = patterns("mahalanobis", 4).requires_grad_(), torch.eye(N_CHANNELS, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(from_factor, inputs)


def test_to_square_is_differentiable():
    assert torch.autograd.gradcheck(d.to_square, (torch.rand(2, 6, dtype=torch.float64).requires_grad_(),))


@every
def test_two_conditions_make_one_pair(name):
    assert CALLABLES[name](patterns(name, 2)).shape == (1,)


# Hazards


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_duplicate_patterns_are_at_zero_with_finite_gradients(name, dtype):
    x = patterns(name, dtype=dtype)
    x[..., 3, :] = x[..., 1, :]
    pairs, slope = gradient(CALLABLES[name], x)
    assert d.to_square(pairs)[1, 3].abs() < 10 * torch.finfo(dtype).eps
    assert slope.isfinite().all()


@pytest.mark.parametrize("function", [d.euclidean, d.correlation, d.cosine])
def test_distances_are_never_negative_by_rounding(function):
    x = torch.rand(1, 300, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 1 + 1e-6, 40)[:, None]
    assert function(x).min() >= 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 1e-30])
def test_constant_patterns_are_at_correlation_distance_one_without_gradient(dtype, value):
    x = patterns("correlation", dtype=dtype)
    x[2:4] = value
    pairs, slope = gradient(d.correlation, x)
    square = d.to_square(pairs)
    others = torch.tensor([0, 1, 4])
    assert (square[2, others] == 1).all()
    assert square[2, 3] == 1
    assert not slope[2:4].any()
    assert slope[others].abs().max() > 0
    assert slope.isfinite().all()
    assert d.count_constant(x) == 2


def test_patterns_of_zeros_are_at_cosine_distance_one_without_gradient():
    x = patterns("cosine")
    x[2] = 0
    pairs, slope = gradient(d.cosine, x)
    assert (d.to_square(pairs)[2, [0, 1, 3, 4]] == 1).all()
    assert not slope[2].any()
    assert slope.isfinite().all()


def test_count_constant_counts_in_each_batch_and_spares_weak_patterns():
    x = 1000 + 1e-2 * torch.randn(2, 4, 50, generator=torch.Generator().manual_seed(0))
    x[1, :3] = 7.3
    assert d.count_constant(x).tolist() == [0, 3]


@pytest.mark.parametrize("name", ["euclidean", "correlation", "mahalanobis", "crossnobis", "poisson"])
def test_a_common_offset_of_1000_costs_no_precision_in_float32(name):
    x = patterns(name, 20, torch.float32) + 1000
    pairs, slope = gradient(CALLABLES[name], x)
    exact_pairs, exact_slope = gradient(CALLABLES[name], x.double())
    # At 1000 a float32 mean is off by up to 6e-5; a logarithm and the prior's division round as coarsely.
    value_tolerance = 1e-3 if name == "poisson" else 1e-6
    assert (pairs - exact_pairs).abs().max() < value_tolerance * exact_pairs.abs().max()
    assert (slope - exact_slope).abs().max() < max(value_tolerance, 1e-4) * exact_slope.abs().max()


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_and_returned_in_float32(name, dtype):
    x = patterns(name, dtype=dtype)
    pairs, slope = gradient(CALLABLES[name], x)
    assert pairs.dtype == torch.float32
    assert slope.dtype == dtype
    assert torch.equal(pairs, CALLABLES[name](x.float()))


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_neither_values_nor_gradients(name, dtype):
    x = patterns(name, 20, dtype)
    pairs, slope = gradient(CALLABLES[name], x)
    with torch.autocast("cpu", torch.bfloat16):
        pairs_inside, slope_inside = gradient(CALLABLES[name], x)
    assert torch.equal(pairs, pairs_inside)
    if name not in ("mahalanobis", "crossnobis", "correlation_cv"):  # which torch itself differentiates, in part
        assert torch.equal(slope, slope_inside)


@every
def test_a_gradient_taken_after_autocast_is_the_full_one(name):
    x = patterns(name, 20, torch.float32)
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        pairs = CALLABLES[name](leaf)
    weights = torch.linspace(-1, 2, pairs.numel()).view_as(pairs)
    assert torch.equal(torch.autograd.grad(pairs, leaf, weights)[0], gradient(CALLABLES[name], x)[1])


@of_patterns
def test_a_nan_stays_visible(name):
    x = patterns(name)
    x[2, 3] = float("nan")
    assert CALLABLES[name](x).isnan().any()


def test_indices_made_in_inference_mode_can_be_used_in_training():
    with torch.inference_mode():
        d.to_square(d.euclidean(torch.rand(23, 4)))
    pairs = torch.rand(253, requires_grad=True)
    d.to_square(pairs).sum().backward()
    assert (pairs.grad == 2).all()
    assert d.correlation(torch.rand(23, 4, requires_grad=True)).requires_grad


@every
def test_the_input_is_left_as_it_was(name):
    x = patterns(name)
    before = x.clone()
    gradient(CALLABLES[name], x)
    CALLABLES[name](x)
    assert torch.equal(x, before)


def test_integer_counts_are_accepted():
    counts = torch.tensor([[1, 0, 3], [2, 2, 0]])
    assert torch.equal(d.poisson(counts), d.poisson(counts.double()))
    assert torch.equal(d.poisson(counts.short()), d.poisson(counts.float()))


def test_large_whole_numbers_are_not_rounded():
    dates = torch.tensor([[20240101, 5], [20240102, 5], [20240103, 5]])
    assert d.euclidean(dates).tolist() == [0.5, 2.0, 0.5]


@pytest.mark.parametrize("name", ["cosine", "correlation"])
@pytest.mark.parametrize("n", [25, 2100])
def test_features_of_zeros_and_ones_have_exactly_two_dissimilarities(name: str, n: int):
    x = torch.eye(4)[torch.arange(n) % 4]
    assert len(getattr(d, name)(x).unique()) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", [name for name in CALLABLES if name != "correlation_cv"])  # needs runs that agree
def test_every_dissimilarity_keeps_the_contract_on_a_gpu(name):
    check_dissimilarity(CALLABLES[name], shape=patterns(name).shape, device="cuda:0")
    x = patterns(name, 20, torch.float32)
    with torch.autocast("cuda", torch.float16):
        pairs = CALLABLES[name](x.cuda())
    torch.testing.assert_close(pairs.cpu(), CALLABLES[name](x), rtol=1e-4, atol=1e-5)


# Names and parameters


def test_resolve_accepts_names_and_callables():
    for name in ["euclidean", "correlation", "cosine", "crossnobis", "poisson", "poisson_cv"]:
        assert d.resolve(name) is getattr(d, name) is d.DISSIMILARITIES[name]
    own = d.Mahalanobis(PRECISION)
    assert d.resolve(own) is own


@pytest.mark.parametrize("name", [name for name in d.DISSIMILARITIES if name not in {"jaccard", "hamming"}])
def test_attributes_say_what_a_dissimilarity_needs_and_gives(name):
    traits = d.traits_of(name)
    assert traits.label == d.label_of(name) != name
    assert traits.cross_validated is (patterns(name).ndim == 3)
    noise = torch.poisson(torch.full((4, 12, N_CHANNELS), 5.0), generator=torch.Generator().manual_seed(1)).double()
    found = CALLABLES[name](noise if traits.cross_validated else noise[0])
    assert bool((found < 0).any()) is traits.signed


def test_the_form_with_parameters_has_the_attributes_of_the_function():
    assert d.traits_of(d.Crossnobis()) == d.traits_of(d.crossnobis) == d.traits_of("crossnobis")
    assert d.traits_of(d.PoissonCV()) == d.traits_of("poisson_cv")
    assert d.traits_of(d.Poisson()) == d.traits_of("poisson")


def test_a_dissimilarity_of_ones_own_needs_no_attributes():
    def mine(x):
        return x

    assert d.traits_of(mine) == d.Traits("mine")


def test_functions_and_dataclasses_agree():
    x, runs = patterns("mahalanobis"), patterns("crossnobis")
    assert torch.equal(d.mahalanobis(x, PRECISION), d.Mahalanobis(PRECISION)(x))
    assert torch.equal(d.crossnobis(runs, PRECISION), d.Crossnobis(PRECISION)(runs))
    assert torch.equal(d.poisson(x, 2.0, 0.3), d.Poisson(2.0, 0.3)(x))
    assert torch.equal(d.poisson_cv(runs, 2.0, 0.3), d.PoissonCV(2.0, 0.3)(runs))


def test_a_precision_of_another_dtype_follows_the_patterns():
    assert d.mahalanobis(patterns("mahalanobis", dtype=torch.float32), PRECISION).dtype == torch.float32


def test_pair_indices_are_cached():
    assert d.pair_indices(9) is d.pair_indices(9, "cpu")


# Refusals


@every
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(8), r"must have shape .*n_conditions, n_channels\), got \(8,\)"),
        (torch.rand(3, 1, 8), "at least 2 conditions, got 1"),
        (torch.rand(3, 4, 0), r"at least 1 channel, got shape \(3, 4, 0\)"),
        (np.ones((3, 4, 8)), "must be a torch tensor .* got ndarray; use torch.as_tensor"),
    ],
)
def test_patterns_of_the_wrong_kind_are_refused(name, x, message):
    with pytest.raises(BrainrdlError, match=message):
        CALLABLES[name](x)


@pytest.mark.parametrize("make", [d.Mahalanobis, d.Crossnobis, lambda p: d.mahalanobis(torch.rand(3, 8), p)])
@pytest.mark.parametrize(
    ("precision", "message"),
    [
        (torch.rand(8), r"must be a tensor \(n_channels, n_channels\), got Tensor \(8,\)"),
        (torch.rand(8, 7), r"got Tensor \(8, 7\)"),
        (np.eye(8), "got ndarray"),
        (
            torch.eye(8).index_fill(0, torch.tensor([0]), float("nan")),
            "8 of 64 values are NaN or Inf in the noise prec",
        ),
        (torch.eye(8) + torch.ones(8, 8).triu(1), r"must be symmetric, but entries differ by up to 1; pass"),
    ],
)
def test_a_malformed_noise_precision_is_refused(make, precision, message):
    with pytest.raises(BrainrdlError, match=message):
        make(precision)


@pytest.mark.parametrize("name", ["mahalanobis", "crossnobis"])
def test_a_noise_precision_for_other_channels_is_refused(name):
    with pytest.raises(BrainrdlError, match=r"noise precision has shape \(8, 8\), but patterns have 5 channels"):
        CALLABLES[name](torch.rand(3, 4, 5))


def test_poisson_cv_of_one_run_or_of_negative_counts_is_refused():
    with pytest.raises(BrainrdlError, match=r"poisson_cv needs at least 2 runs, got shape .*; use poisson for one run"):
        d.poisson_cv(torch.rand(1, 4, 8))
    with pytest.raises(BrainrdlError, match="poisson patterns must not be negative"):
        d.poisson_cv(-torch.rand(2, 4, 8))


def test_crossnobis_of_one_run_is_refused():
    with pytest.raises(BrainrdlError, match=r"at least 2 runs, got shape \(1, 4, 8\)"):
        d.crossnobis(torch.rand(1, 4, 8))


def test_crossnobis_without_a_run_dimension_is_refused():
    with pytest.raises(BrainrdlError, match=r"n_runs, n_conditions, n_channels\), got \(4, 8\)"):
        d.crossnobis(torch.rand(4, 8))


@pytest.mark.parametrize(
    ("x", "prior", "message"),
    [
        ([[1.0, -2.0], [1.0, 1.0]], {}, "must not be negative, got a value of -2"),
        ([[1.0, 0.0], [1.0, 1.0]], {"prior_weight": 0.0}, "contain zeros, which need a prior"),
        ([[1.0, 1.0], [1.0, 1.0]], {"prior_weight": -0.1}, "prior must not be negative, got lambda 1.0, weight -0.1"),
        ([[1.0, 1.0], [1.0, 1.0]], {"prior_lambda": float("nan")}, "prior must not be negative, got lambda nan"),
    ],
)
def test_values_that_cannot_be_poisson_rates_are_refused(x, prior, message):
    with pytest.raises(BrainrdlError, match=message):
        d.poisson(torch.tensor(x), **prior)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("corelation", "'corelation' is not known; nearest: 'correlation'"),
        ("mahalanobis", r"needs a noise precision; pass Mahalanobis\(noise_precision\)"),
        (3, "must be a name or a callable, got 3"),
    ],
)
def test_resolve_refuses_what_is_not_a_dissimilarity(given, message):
    with pytest.raises(BrainrdlError, match=message):
        d.resolve(given)


@pytest.mark.parametrize("n_pairs", [-1, 0, 2, 4, 11])
def test_a_number_that_is_not_triangular_is_refused(n_pairs):
    with pytest.raises(BrainrdlError, match=f"got {n_pairs}; pass a condensed RDM"):
        d.n_conditions_of(n_pairs)


def test_pairs_of_one_condition_are_refused():
    with pytest.raises(BrainrdlError, match="at least 2 conditions, got 1"):
        d.pair_indices(1)


def test_to_square_refuses_a_scalar():
    with pytest.raises(BrainrdlError, match=r"pairs must have shape \(..., n_pairs\), got \(\)"):
        d.to_square(torch.tensor(1.0))


# Many conditions


@every
@pytest.mark.parametrize("batch", [(), (2,)])
def test_blocks_of_the_gram_matrix_give_the_values_of_the_whole(name: str, batch: tuple[int, ...], monkeypatch) -> None:
    x = patterns(name, n=23, batch=batch)
    whole = CALLABLES[name](x)
    monkeypatch.setattr(products, "_LARGE", 5)
    monkeypatch.setattr(products, "_AT_ONCE", 40)
    monkeypatch.setattr(products._PairProducts, "apply", None)
    monkeypatch.setattr(products._CosineDistances, "apply", None)
    torch.testing.assert_close(CALLABLES[name](x), whole, rtol=1e-12, atol=1e-14)


def test_a_gradient_is_not_computed_in_blocks(monkeypatch) -> None:
    x = patterns("correlation", n=23)
    expected = gradient(d.correlation, x)
    monkeypatch.setattr(products, "_LARGE", 5)
    for found, known in zip(gradient(d.correlation, x), expected, strict=True):
        torch.testing.assert_close(found, known, rtol=0, atol=0)


@pytest.mark.parametrize("n", [2, 3, 17])
@pytest.mark.parametrize("at_most", [1, 7, 1000])
def test_blocks_of_pairs_are_all_pairs_in_order(n: int, at_most: int) -> None:
    blocks = list(pair_blocks(n, at_most))
    found = np.concatenate([np.stack([rows, columns]) for _, rows, columns in blocks], axis=1)
    np.testing.assert_array_equal(found, np.triu_indices(n, 1))
    assert [part.start for part, _, _ in blocks] == [0, *(part.stop for part, _, _ in blocks[:-1])]
    assert all(part.stop - part.start == len(rows) for part, rows, _ in blocks)
