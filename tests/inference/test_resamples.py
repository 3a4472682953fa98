"""The dual bootstrap: all resamples at once equal rsatoolbox's, and those that are compared one by one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from rsatoolbox.inference import evaluate
from rsatoolbox.inference.bootstrap import bootstrap_sample
from rsatoolbox.model import ModelFixed
from rsatoolbox.rdm import RDMs
from scipy.stats import t

from brainrdl.inference import rank_resamples, resamples
from brainrdl.inference.bootstraps import Drawn, bootstrap_batch, mean_replicates, subject_replicates
from brainrdl.inference.intervals import dual_bootstrap_variances
from brainrdl.inference.pairwise import comparison_of, resampled
from brainrdl.inference.rank_resamples import resampled_rho_a, resampled_spearman, resampled_tau_a
from brainrdl.inference.resamples import resample_means, resample_subjects

FAST = ("corr", "cosine", "corr_cov", "cosine_cov", "cka", "rv", "spearman", "rho-a", "tau-a")

N_CONDITIONS, N_SUBJECTS, N_DRAWS = 9, 4, 40


def rdms(n: int, seed: int, n_conditions: int = N_CONDITIONS) -> torch.Tensor:
    pairs = n_conditions * (n_conditions - 1) // 2
    return 3 + torch.rand(n, pairs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def models() -> torch.Tensor:
    found = rdms(3, 0)
    found[1] = (found[1] > 3.5).double()  # two categories: most pairs are tied
    found[2] = (4 * found[2]).round()
    return found


@pytest.fixture(scope="module")
def subjects() -> torch.Tensor:
    found = rdms(N_SUBJECTS, 1) * torch.tensor([[1.0], [5.0], [0.1], [1.0]])
    found[3] = (6 * found[3]).round()
    return found


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return Drawn.of(N_CONDITIONS, N_SUBJECTS, N_DRAWS, seed=0)


@pytest.mark.parametrize("comparator", ["corr", "cosine", "corr_cov", "cosine_cov", "spearman", "rho-a", "tau-a"])
def test_replicates_and_variances_are_those_of_rsatoolbox_for_the_same_resamples(
    comparator: str, models: torch.Tensor, subjects: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[np.ndarray, np.ndarray]] = []

    def recorded(*arguments: object, **options: object) -> tuple[RDMs, np.ndarray, np.ndarray]:
        sample, of_subjects, conditions = bootstrap_sample(*arguments, **options)
        drawn.append((np.bincount(conditions, minlength=N_CONDITIONS), np.bincount(of_subjects, minlength=N_SUBJECTS)))
        return sample, of_subjects, conditions

    monkeypatch.setattr(evaluate, "bootstrap_sample", recorded)
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = evaluate.eval_dual_bootstrap(
            [ModelFixed(str(k), RDMs(one[None].numpy())) for k, one in enumerate(models)],
            RDMs(subjects.numpy()),
            comparator,
            N=4,
        )
    counts = (torch.tensor(np.stack(column)).double() for column in zip(*drawn, strict=True))
    ours = bootstrap_batch(comparator, [(models, subjects)], "subjects", Drawn(*counts))
    np.testing.assert_allclose(ours.draws.transpose(2, 0, 1), theirs.evaluations[:, :, 0, 0], atol=1e-10)
    critical = t.ppf(0.975, theirs.dof)
    scores, differences = ours.scores(), ours.differences([0, 0, 1], [1, 2, 2])
    np.testing.assert_allclose(scores.high - scores.value, critical * np.sqrt(theirs.model_var), rtol=1e-8)
    np.testing.assert_allclose(differences.high - differences.value, critical * np.sqrt(theirs.diff_var), rtol=1e-8)


@pytest.mark.parametrize("comparator", FAST)
def test_resamples_at_once_equal_those_that_are_compared_one_by_one(
    comparator: str, models: torch.Tensor, subjects: torch.Tensor, drawn: Drawn
) -> None:
    compare, (conditions, who) = comparison_of(comparator), drawn
    found = resample_subjects(compare, models, subjects, conditions)
    expected = resampled(compare, models[:, None, None], subjects[:, None], conditions)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10, equal_nan=True)
    means = (who @ subjects) / who.sum(1, keepdim=True)
    for counts in (conditions, None):
        found = resample_means(compare, models, subjects, who, counts)
        expected = resampled(compare, models[:, None], means, counts)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10, equal_nan=True)


def hard_counts() -> Iterator[list[int]]:
    yield [4, 1, 1, 0, 0, 0]  # divides by 0 in the closed form of whitening
    yield [5, 1, 0, 0, 0, 0]  # one pair, which has no score
    yield [2, 2, 2, 0, 0, 0]
    yield [0, 0, 0, 3, 2, 1]
    yield [1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("comparator", FAST)
def test_resamples_of_few_conditions_are_right_too(comparator: str) -> None:
    compare, counts = comparison_of(comparator), torch.tensor(list(hard_counts()), dtype=torch.float64)
    a, b = rdms(2, 2, 6), rdms(3, 3, 6)
    a[1, :5] = 3.0  # constant in the third resample, and not in others
    b[2, [0, 1, 5]] = 0.0  # nothing but 0 in the third resample
    found = resample_subjects(compare, a, b, counts)
    expected = resampled(compare, a[:, None, None], b[:, None], counts)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10, equal_nan=True)
    assert found.isnan().all((0, 1)).tolist() == [False, True, False, False, False]
    who = torch.tensor([[1.0, 1, 1], [3, 0, 0], [0, 0, 3], [0, 2, 1], [1, 0, 2]], dtype=torch.float64)
    means = (who @ b) / 3
    found = resample_means(compare, a, b, who, counts)
    expected = resampled(compare, a[:, None], means, counts)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10, equal_nan=True)


@pytest.mark.parametrize("comparator", ["corr", "cosine", "spearman", "tau-a"])
def test_a_constant_rdm_has_no_score_in_any_resample(comparator: str, drawn: Drawn) -> None:
    a, b = rdms(2, 4), rdms(3, 5)
    a[0], b[1] = 0.0, 0.0
    found = resample_subjects(comparison_of(comparator), a, b, drawn.conditions)
    assert found[0].isnan().all()
    assert found[:, 1].isnan().all()
    assert found[1, [0, 2]].isfinite().all()
    assert resample_means(comparison_of(comparator), a, b, drawn.subjects[:, :3] + 1, None)[0].isnan().all()


@pytest.mark.parametrize("comparator", ["corr", "spearman", pytest.param("tau-b", marks=pytest.mark.slow)])
def test_unknown_pairs_and_other_comparators_are_compared_directly(
    comparator: str, models: torch.Tensor, subjects: torch.Tensor, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = subjects.clone()
    subjects[0, :7] = torch.nan
    whole = resample_subjects(comparison_of(comparator), models, subjects, drawn.conditions)
    expected = resampled(comparison_of(comparator), models[:, None, None], subjects[:, None], drawn.conditions)
    torch.testing.assert_close(whole, expected, equal_nan=True)
    of_mean = mean_replicates(comparison_of(comparator), models, subjects, drawn)
    monkeypatch.setattr(resamples, "_BLOCK", 300)
    again = resample_subjects(comparison_of(comparator), models, subjects, drawn.conditions)
    torch.testing.assert_close(again, whole, equal_nan=True)
    again = mean_replicates(comparison_of(comparator), models, subjects, drawn)
    torch.testing.assert_close(again, of_mean, equal_nan=True)


@pytest.mark.parametrize("comparator", ["corr", "corr_cov", "rho-a", "tau-a"])
def test_the_size_of_blocks_changes_nothing(
    comparator: str, models: torch.Tensor, subjects: torch.Tensor, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = comparison_of(comparator)
    whole = subject_replicates(compare, models, subjects, drawn), mean_replicates(compare, models, subjects, drawn)
    for module, names in ((resamples, ("_BLOCK", "_IN_CACHE")), (rank_resamples, ("_IN_CACHE", "_TABLE", "_KEPT"))):
        for name in names:
            monkeypatch.setattr(module, name, 500)
    again = subject_replicates(compare, models, subjects, drawn), mean_replicates(compare, models, subjects, drawn)
    torch.testing.assert_close(again, whole, rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("comparator", ["corr", "spearman"])
def test_many_subjects_are_resampled_as_few(comparator: str, models: torch.Tensor) -> None:
    many = rdms(resamples._MOST_SUBJECTS + 1, 2)
    drawn = Drawn.of(N_CONDITIONS, len(many), 10, seed=0)
    compare = comparison_of(comparator)
    found = resample_means(compare, models, many, drawn.subjects, drawn.conditions)
    for k, (counts, who) in enumerate(zip(drawn.conditions, drawn.subjects, strict=True)):
        torch.testing.assert_close(found[:, k], resampled(compare, models, who @ many / who.sum(), counts))


@pytest.mark.parametrize("comparator", ["cosine", "spearman"])
def test_blocks_of_very_many_numbers_change_nothing(
    comparator: str, models: torch.Tensor, subjects: torch.Tensor, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    gaps = subjects.masked_fill(torch.eye(*subjects.shape).bool(), torch.nan)
    compare = comparison_of(comparator)
    before = [resample_subjects(compare, models, some, drawn.conditions) for some in (subjects, gaps)]
    monkeypatch.setattr(resamples, "_AT_ONCE", 1)
    monkeypatch.setattr(rank_resamples, "_AT_ONCE", 1)
    for some, expected in zip((subjects, gaps), before, strict=True):
        torch.testing.assert_close(resample_subjects(compare, models, some, drawn.conditions), expected, equal_nan=True)


def test_concordance_of_large_counts_is_exact() -> None:
    a, b, counts = rdms(1, 6, 12), rdms(1, 7, 12), torch.full((1, 12), 40.0, dtype=torch.float64)
    counts[0, :3] = 300.0
    expected = resampled(comparison_of("tau-a"), a, b, counts)
    assert float(resampled_tau_a(a, b, counts)[0, 0, 0]) == pytest.approx(float(expected), abs=1e-14)


def test_rank_correlations_of_all_conditions_once_are_the_plain_ones() -> None:
    a, b, counts = rdms(2, 8), rdms(2, 9), torch.ones(1, N_CONDITIONS, dtype=torch.float64)
    for comparator, found in (("spearman", resampled_spearman), ("rho-a", resampled_rho_a), ("tau-a", resampled_tau_a)):
        expected = comparison_of(comparator)(a[:, None], b)
        torch.testing.assert_close(found(a, b, counts)[..., 0], expected)


def test_a_model_with_an_rdm_for_each_subject_is_resampled_with_its_subject(
    models: torch.Tensor, subjects: torch.Tensor, drawn: Drawn
) -> None:
    same = models[:, None].expand(-1, N_SUBJECTS, -1)
    for against in ("subjects", "mean"):
        found = bootstrap_batch("corr", [(same, subjects)], against, drawn)
        expected = bootstrap_batch("corr", [(models, subjects)], against, drawn)
        np.testing.assert_allclose(found.draws, expected.draws, atol=1e-10)
    turned = same + 0.1 * subjects
    for s in range(N_SUBJECTS):
        only = Drawn(drawn.conditions, torch.eye(N_SUBJECTS, dtype=torch.float64)[[s] * N_DRAWS])
        found = bootstrap_batch("corr", [(turned, subjects)], "subjects", only).draws[:, 0]
        expected = resample_subjects(comparison_of("corr"), turned[:, s], subjects[[s]], drawn.conditions)[:, 0]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_variance_of_one_subject_is_that_over_stimuli() -> None:
    draws = np.random.default_rng(0).normal(size=(3, 50)) * [[3.0], [2.0], [1.0]]
    assert dual_bootstrap_variances(draws, 1, 10) == pytest.approx(draws[2].var(ddof=1) * 10 / 9)
    draws[2, 1:] = np.nan
    assert np.isnan(dual_bootstrap_variances(draws, 5, 10))
