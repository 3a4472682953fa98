"""Ceilings: what a perfect model scores, also with unequal noise, unequal scales and missing pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from brainrdl.inference.ceilings import ceiling_for_mean, ceiling_for_subjects, noise_ceiling, one_factor
from brainrdl.inference.pairwise import comparison_of

N_STIMULI, N_SETS = 24, 100
N_PAIRS = N_STIMULI * (N_STIMULI - 1) // 2

Mask = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def missing(share: float) -> Mask:
    return lambda rng, rdms: np.where(rng.random(rdms.shape) < share, np.nan, rdms)


def without_stimuli(n_missing: int) -> Mask:
    i, j = np.triu_indices(N_STIMULI, 1)

    def cut(rng: np.random.Generator, rdms: np.ndarray) -> np.ndarray:
        gone = [rng.choice(N_STIMULI, n_missing, replace=False) for _ in rdms]
        return np.where([np.isin(i, out) | np.isin(j, out) for out in gone], np.nan, rdms)

    return cut


POPULATIONS = {
    "equal noise, 4 subjects": ([1.5] * 4, [1.0] * 4, None),
    "equal noise, 2 subjects": ([1.5] * 2, [1.0] * 2, None),
    "equal noise, 15 subjects": ([1.5] * 15, [1.0] * 15, None),
    "unequal noise": ([0.5, 1, 2, 4], [1.0] * 4, None),
    "two good subjects of eight": ([0.3] * 2 + [4.0] * 6, [1.0] * 8, None),
    "30 % of pairs missing": ([1.5] * 4, [1.0] * 4, missing(0.3)),
    "60 % of pairs missing": ([1.5] * 4, [1.0] * 4, missing(0.6)),
    "12 of 24 stimuli missing": ([1.5] * 4, [1.0] * 4, without_stimuli(12)),
    "unequal scales": ([1.0] * 4, [1, 5, 0.2, 30], None),
}


def simulated(
    noise: Sequence[float], scales: Sequence[float], mask: Mask | None, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng([seed, len(noise)])
    truth = rng.normal(size=N_PAIRS)
    rdms = np.array(scales)[:, None] * (truth + np.array(noise)[:, None] * rng.normal(size=(len(noise), N_PAIRS)))
    return torch.tensor(truth), torch.tensor(mask(rng, rdms) if mask else rdms)


@pytest.mark.slow
@pytest.mark.parametrize("comparator", ["corr", "spearman"])
@pytest.mark.parametrize("name", POPULATIONS)
def test_the_true_model_reaches_its_ceiling(name: str, comparator: str) -> None:
    """On average over data sets; one ceiling of few pairs is imprecise, and the mean of its reciprocal is not 1."""
    compare, found = comparison_of(comparator), []
    for seed in range(N_SETS):
        truth, rdms = simulated(*POPULATIONS[name], seed)
        scores = float(compare(truth, rdms.nanmean(0))), float(compare(truth, rdms).mean())
        found.append((scores, (ceiling_for_mean(rdms, comparator), ceiling_for_subjects(rdms, comparator))))
    scores, ceilings = np.mean(found, axis=0)
    # means of subjects with unequal noise or missing pairs are not Gaussian, which the conversion of ranks assumes
    tolerance = 0.03 if comparator == "corr" else 0.05
    assert scores / ceilings == pytest.approx([1, 1], abs=tolerance)


@pytest.mark.parametrize(
    "comparator", ["cosine", pytest.param("tau-a", marks=pytest.mark.slow), "rho-a", "corr_cov", "cosine_cov"]
)
def test_the_true_model_reaches_its_ceiling_whatever_the_comparator(comparator: str) -> None:
    compare, shares = comparison_of(comparator), []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        truth = torch.tensor(rng.gamma(4.0, size=N_PAIRS))
        rdms = truth + torch.tensor(rng.normal(scale=2.0, size=(5, N_PAIRS)))
        of_mean = float(compare(truth, rdms.mean(0))) / ceiling_for_mean(rdms, comparator)
        shares.append((of_mean, float(compare(truth, rdms).mean()) / ceiling_for_subjects(rdms, comparator)))
    assert np.mean(shares, axis=0) == pytest.approx([1, 1], abs=0.04)


def test_two_subjects_have_the_ceiling_of_cronbachs_alpha() -> None:
    rdms = simulated([1.0, 2.0], [1.0, 1.0], None, 0)[1]
    covariance = np.cov(rdms.numpy(), ddof=0)
    alpha = 4 * covariance[0, 1] / covariance.sum()
    assert ceiling_for_mean(rdms) == pytest.approx(alpha**0.5)
    assert ceiling_for_subjects(rdms) == pytest.approx(np.corrcoef(rdms.numpy())[0, 1] ** 0.5)


def test_a_factor_is_the_maximum_likelihood_factor_of_scikit_learn() -> None:
    from sklearn.decomposition import FactorAnalysis

    rdms = np.concatenate([simulated([0.5, 1, 1.5, 2], [1.0] * 4, None, seed)[1].numpy() for seed in range(40)], 1)
    standard = (rdms - rdms.mean(1, keepdims=True)) / rdms.std(1, keepdims=True)
    theirs = np.abs(FactorAnalysis(1, tol=1e-8, max_iter=5000).fit(standard.T).components_[0])
    assert one_factor(np.corrcoef(rdms)) == pytest.approx(theirs, abs=0.01)


def test_subjects_who_do_not_agree_have_a_ceiling_of_zero() -> None:
    rdms = torch.tensor([[1.0, 2, 3, 4, 5, 6], [6.0, 5, 4, 3, 2, 1]])
    assert ceiling_for_mean(rdms) == ceiling_for_subjects(rdms) == 0


def test_one_subject_has_no_ceiling() -> None:
    assert np.isnan([ceiling_for_mean(torch.rand(1, 6)), ceiling_for_subjects(torch.rand(1, 6))]).all()


def test_the_lower_bound_is_below_what_a_perfect_model_scores() -> None:
    """With four subjects, a share of the lower bound would overestimate every model."""
    shares = []
    for seed in range(30):
        truth, rdms = simulated([2.0] * 4, [1.0] * 4, None, seed)
        shares.append(float(comparison_of("corr")(truth, rdms).mean()) / noise_ceiling(rdms, "corr")[0])
    assert np.mean(shares) > 1.2


@pytest.mark.parametrize("comparator", ["corr", "spearman", "tau-a", "rho-a"])
def test_an_rdm_that_is_constant_among_the_shared_pairs_has_no_score(comparator: str) -> None:
    a = torch.tensor([0.5] * 6 + [1, 2, 3, 4]).double()
    b = torch.tensor([1.0, 2, 3, 5, 4, 6] + [torch.nan] * 4).double()
    assert comparison_of(comparator)(a, b).isnan()
