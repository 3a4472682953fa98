"""What every comparator must keep, whatever the numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from brainrdl.similarity.registry import SIMILARITIES

NAMES = [name for name, similarity in SIMILARITIES.items() if similarity.single_pairs]
WHITENED = ["corr_cov", "cosine_cov", "cka", "cka_rbf", "rv"]
RANKED = ["spearman", "rho-a", "tau-a", "tau-b"]
COUNTABLE = [name for name in NAMES if name not in {*WHITENED, "cka_unbiased"}]
N_CONDITIONS, N_PAIRS = 6, 15
CLOSE = {"rtol": 0, "atol": 1e-9}

# Halves from -3 to 4.5: with ties, and negative values as crossnobis has. Each list is a draw of bytes, which is quick.
drawn = st.binary(min_size=N_PAIRS, max_size=N_PAIRS).map(list)
rdms = drawn.map(lambda numbers: ((torch.tensor(numbers) + 6) % 16 - 6).double() / 2)
counts = drawn.map(lambda numbers: torch.tensor(numbers) % 4)
laws = settings(max_examples=15, deadline=None)


@pytest.mark.parametrize("name", NAMES)
@laws
@given(a=rdms, b=rdms, weights=counts)
def test_similarity_is_symmetric_and_between_minus_1_and_1(name: str, a: Tensor, b: Tensor, weights: Tensor) -> None:
    score = SIMILARITIES[name](a, b, weights)
    torch.testing.assert_close(score, SIMILARITIES[name](b, a, weights), **CLOSE)
    assert -1 - 1e-9 <= score <= 1 + 1e-9


@pytest.mark.parametrize("name", COUNTABLE)
@laws
@given(a=rdms, b=rdms, weights=counts)
def test_integer_weights_are_repeated_pairs_and_0_drops(name: str, a: Tensor, b: Tensor, weights: Tensor) -> None:
    score = SIMILARITIES[name](a, b, weights)
    again = (
        SIMILARITIES[name](a.repeat_interleave(weights), b.repeat_interleave(weights))
        if weights.any()
        else torch.zeros_like(score)
    )
    torch.testing.assert_close(score, again, **CLOSE)


@pytest.mark.parametrize("name", NAMES)
@laws
@given(a=rdms, b=rdms)
def test_weights_of_1_are_no_weights(name: str, a: Tensor, b: Tensor) -> None:
    score = SIMILARITIES[name](a, b, torch.ones(N_PAIRS))
    torch.testing.assert_close(score, SIMILARITIES[name](a, b), **CLOSE)


@pytest.mark.parametrize("name", [name for name in COUNTABLE if name not in {"rho-a", "tau-a"}])
@laws
@given(a=rdms, b=rdms, weights=counts, factor=st.floats(0.01, 100))
def test_the_scale_of_weights_does_not_matter(name: str, a: Tensor, b: Tensor, weights: Tensor, factor: float) -> None:
    torch.testing.assert_close(
        SIMILARITIES[name](a, b, weights.double() * factor), SIMILARITIES[name](a, b, weights), **CLOSE
    )


@pytest.mark.parametrize("name", NAMES)
@laws
@given(a=rdms, b=rdms, order=st.permutations(range(N_CONDITIONS)))
def test_the_order_of_conditions_does_not_matter(name: str, a: Tensor, b: Tensor, order: list[int]) -> None:
    i, j = torch.triu_indices(N_CONDITIONS, N_CONDITIONS, 1)
    position = torch.zeros(N_CONDITIONS, N_CONDITIONS, dtype=torch.int64)
    position[i, j] = position[j, i] = torch.arange(N_PAIRS)
    moved = position[torch.tensor(order)][:, torch.tensor(order)][i, j]
    torch.testing.assert_close(SIMILARITIES[name](a[moved], b[moved]), SIMILARITIES[name](a, b), **CLOSE)


@pytest.mark.parametrize("name", NAMES)
@laws
@given(a=rdms, b=rdms, factor=st.floats(0.1, 10))
def test_scale_does_not_matter(name: str, a: Tensor, b: Tensor, factor: float) -> None:
    torch.testing.assert_close(SIMILARITIES[name](factor * a, b), SIMILARITIES[name](a, b), **CLOSE)


@pytest.mark.parametrize("name", ["corr", "corr_cov", "cka_unbiased", "soft-spearman", *RANKED])
@laws
@given(a=rdms, b=rdms, offset=st.integers(-100, 100))
def test_offset_does_not_matter(name: str, a: Tensor, b: Tensor, offset: int) -> None:
    torch.testing.assert_close(SIMILARITIES[name](a + offset, b), SIMILARITIES[name](a, b), **CLOSE)


@pytest.mark.parametrize("name", RANKED)
@laws
@given(a=rdms, b=rdms, weights=counts)
def test_only_the_order_of_dissimilarities_matters_to_ranks(name: str, a: Tensor, b: Tensor, weights: Tensor) -> None:
    torch.testing.assert_close(SIMILARITIES[name](a**3, b, weights), SIMILARITIES[name](a, b, weights), **CLOSE)


@pytest.mark.parametrize("name", NAMES)
@laws
@given(a=rdms, weights=counts)
def test_an_rdm_without_ties_is_most_like_itself(name: str, a: Tensor, weights: Tensor) -> None:
    a = (a.abs() if name == "cka_rbf" else a) + torch.arange(N_PAIRS) * 1e-3  # its kernel needs distances
    untied = weights.clamp(max=1) if name in {"rho-a", "tau-a"} else weights
    score = SIMILARITIES[name](a, a, untied)
    # effects of 6 conditions can explain 6 pairs or fewer completely, and nothing is left to compare
    too_few = N_CONDITIONS if name == "cka_unbiased" else 1
    assert abs(score - 1) < 1e-9 or untied.count_nonzero() <= too_few
