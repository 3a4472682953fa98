"""Intervals: influences are derivatives, variances have closed forms, and the simulations of docs/validity.md hold."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from brainrdl._core.rows import Role
from brainrdl.dissimilarity.pairs import pair_indices
from brainrdl.evaluation.scores import HeldOut, TeacherRDMs, score
from brainrdl.inference.influence import dyadic, influence
from brainrdl.inference.intervals import Dyadic, Interval, holm, of_score
from brainrdl.inference.pairwise import comparison_of, resampled
from brainrdl.inference.uncertainty import DyadicInference, FoldRDMs
from brainrdl.similarity.registry import SIMILARITIES

sys.path.insert(0, str(Path(__file__).parents[1] / "validity"))
import dual_bootstrap
import intervals as simulation
import population

N = 9
N_PAIRS = N * (N - 1) // 2


def scale_of(comparator: str) -> float:
    return (N / (N - 2)) ** (0.5 if SIMILARITIES[comparator].ranks else 1) * (N_PAIRS / (N_PAIRS - 2)) ** 0.5


def two_rdms(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    a, noise = torch.rand(2, N_PAIRS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a + 0.5, a + noise


@pytest.mark.parametrize(
    ("comparator", "limits"),
    [
        *(("corr", (-1, 1)), ("tau-a", (-1, 1)), ("partial corr", (-1, 1)), ("cka_rbf", (0, 1)), ("bures", (0, 1))),
        *(("riemannian", (-1.5, 0)), ("bures_metric", (-1.5, 0)), ("unknown", (-1.5, 1.01))),
    ],
)
def test_an_interval_of_a_score_is_cut_at_what_is_possible(comparator: str, limits: tuple[float, float]) -> None:
    assert of_score(Interval(-1.5, 1.01, 0.2), comparator) == (*limits, 0.2)
    assert of_score(Interval(0, 0, 0.2), comparator) == (0, 0, 0.2)
    assert np.isnan(of_score(Interval(np.nan, np.nan, np.nan), comparator).low)


def test_every_comparator_states_limits_that_rdms_do_not_pass() -> None:
    points = torch.randn(40, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b = torch.stack([torch.pdist(one) ** 2 for one in points]).chunk(2)
    for name, compare in SIMILARITIES.items():
        values = torch.cat([compare(a, b), compare(a, a), compare(a, b.flip(0))])
        assert np.isfinite(compare.limits).any(), name
        assert compare.limits[0] - 1e-9 <= values.min() <= values.max() <= compare.limits[1] + 1e-9, name


# the median in cka_rbf jumps with a weight, and the others have no weights of single pairs
NOT_SMOOTH = {"soft-spearman", "cka_rbf", "bures", "bures_metric", "riemannian"}


@pytest.mark.parametrize("comparator", ["bures", "bures_metric"])
def test_whole_rdms_have_influences_of_conditions_only(comparator: str) -> None:
    a, b = two_rdms()
    found = influence(comparison_of(comparator), a, b, SIMILARITIES[comparator])
    assert not found.pairs.any()
    assert found.conditions.abs().min() > 0
    assert float(found.value) == pytest.approx(float(SIMILARITIES[comparator](a, b)))


@pytest.mark.parametrize("comparator", sorted(set(SIMILARITIES) - NOT_SMOOTH))
def test_the_influence_of_a_pair_is_the_derivative_with_respect_to_its_weight(comparator: str) -> None:
    a, b = two_rdms()
    compare = comparison_of(comparator)
    found = influence(compare, a, b, SIMILARITIES[comparator])
    step, everywhere = 1e-6, torch.ones(N_PAIRS, dtype=torch.float64)
    # weights of rho-a and tau-a are counts: doubling all of them makes ties, which is no influence of a pair
    counted = {"rho-a", "tau-a"} & {comparator}
    all_up, all_down = (compare(a, b, everywhere + way * step) for way in (1, -1))
    constant = float(all_up - all_down) / (2 * step) / N_PAIRS if counted else 0.0
    for pair in (0, 7, N_PAIRS - 1):
        up, down = torch.ones(2, N_PAIRS, dtype=torch.float64)
        up[pair] += step
        down[pair] -= step
        ones = torch.ones(N, dtype=torch.float64)
        slope = (compare(a, b, up, ones) - compare(a, b, down, ones)) / (2 * step) - constant
        assert float(found.pairs[pair]) == pytest.approx(scale_of(comparator) * float(slope), abs=1e-6)
    assert float(found.value) == pytest.approx(float(SIMILARITIES[comparator](a, b)))


def test_the_influence_of_a_condition_is_the_derivative_with_respect_to_how_often_it_was_drawn() -> None:
    a, b = two_rdms()
    for comparator in ("corr", "spearman", "corr_cov"):
        compare = comparison_of(comparator)
        counts = torch.ones(2, N, dtype=torch.float64)
        counts[:, 3] += torch.tensor([1e-6, -1e-6], dtype=torch.float64)
        up, down = resampled(compare, a, b, counts)
        assert float(influence(compare, a, b, SIMILARITIES[comparator]).conditions[3]) == pytest.approx(
            scale_of(comparator) * float(up - down) / 2e-6, abs=1e-6
        )


def test_conditions_of_a_cosine_are_left_out_one_at_a_time() -> None:
    a, b = two_rdms()
    compare = comparison_of("cosine")
    i, j = pair_indices(N)
    without = torch.stack([compare(a[(i != k) & (j != k)], b[(i != k) & (j != k)]) for k in range(N)])
    change = compare(a, b) - without
    assert torch.allclose(influence(compare, a, b, SIMILARITIES["cosine"]).conditions, change - change.mean())


def test_unknown_pairs_have_no_influence() -> None:
    a, b = two_rdms()
    a[4] = torch.nan
    assert influence(comparison_of("spearman"), a, b, SIMILARITIES["spearman"]).pairs[4] == 0


def variance_of_mean(pairs: torch.Tensor) -> float:
    """Dyadic variance of the mean over pairs, without the correction for small folds."""
    deviations = (pairs - pairs.mean()) / len(pairs)
    i, j = pair_indices(40)
    conditions = torch.zeros(40, dtype=torch.float64).index_add(0, i, deviations).index_add(0, j, deviations)
    return float(dyadic(deviations, conditions))


def test_the_dyadic_variance_of_a_mean_is_right_for_effects_of_conditions_and_of_pairs() -> None:
    """d_ij = u_i + u_j + e_ij: the mean has the variance 4 var(u) / n + var(e) / n_pairs."""
    generator, (i, j) = torch.Generator().manual_seed(0), pair_indices(40)
    for of_conditions, of_pairs in ((1.0, 0.0), (0.2, 1.0), (0.0, 1.0)):
        found = []
        for _ in range(300):
            u = of_conditions * torch.randn(40, generator=generator, dtype=torch.float64)
            e = of_pairs * torch.randn(780, generator=generator, dtype=torch.float64)
            found.append(variance_of_mean(u[i] + u[j] + e))
        expected = 4 * of_conditions**2 / 40 + of_pairs**2 / 780
        assert np.mean(found) == pytest.approx(expected, rel=0.12)


def test_subjects_have_the_variance_of_their_mean() -> None:
    """Against single subjects the jackknife is the squared standard error of the mean over subjects."""
    values = torch.tensor([0.1, 0.3, 0.2, 0.5], dtype=torch.float64)
    without, nothing = (values.sum() - values) / 3, torch.zeros(4, 0)
    zeros = torch.zeros(3, dtype=torch.float64)
    found = Dyadic(float(values.mean()), zeros, zeros, without, nothing, nothing, 3).variances()[1]
    assert found == pytest.approx(float(values.var()) / 4)


def test_what_subjects_and_stimuli_share_is_counted_once() -> None:
    """Noise of its own in each pair and subject is in the variance over stimuli and in that over subjects."""
    generator, teacher_names = torch.Generator().manual_seed(0), [str(k) for k in range(30)]
    inference, compare = DyadicInference(teacher_names, 5), comparison_of("corr")
    parts = []
    for _ in range(40):
        model = torch.randn(435, generator=generator, dtype=torch.float64)
        subjects = model + 3 * torch.randn(5, 435, generator=generator, dtype=torch.float64)
        part = inference.of_mean(FoldRDMs(tuple(teacher_names), subjects), model[None], compare, SIMILARITIES["corr"])
        parts.append(inference.join(0.0, part).variances())
    stimuli, subjects_, both = np.mean(parts, axis=0)
    assert both == pytest.approx(subjects_, rel=0.25)  # there is nothing else that differs between subjects
    assert stimuli > both


def test_large_designs_leave_the_interaction_in(monkeypatch: pytest.MonkeyPatch) -> None:
    from brainrdl.inference import uncertainty

    sample = population.draw(np.random.default_rng(0), 24, 4)
    names = tuple(str(k) for k in range(24))
    row = HeldOut(student="a", role=Role.STUDENT, target="IT", names=names, pairs=torch.tensor(sample.better))
    teacher = {"IT": TeacherRDMs("IT", names, tuple("abcd"), torch.tensor(sample.subjects))}
    full = score([row], teacher, ["corr"]).summary
    monkeypatch.setattr(uncertainty, "_MOST", 0)
    simple = score([row], teacher, ["corr"]).summary
    assert simple["score"].tolist() == full["score"].tolist()
    assert (simple["high"] - simple["low"] > full["high"] - full["low"]).all()


def test_the_simulation_is_of_the_intervals_that_score_gives() -> None:
    rng = np.random.default_rng(1)
    sample, folds = population.draw(rng, 24, 4), simulation.folds(rng, 24, "folds x 3 seeds")
    models, subjects = torch.tensor(np.stack([sample.better, sample.worse])), torch.tensor(sample.subjects)
    rows, teacher = list(dual_bootstrap.held_out(sample, folds, 24)), dual_bootstrap.teacher_of(sample, 24)
    for comparator in ("spearman", "cosine", "corr_cov"):
        table = score(rows, teacher, [comparator]).summary.query("student == 'fitted'").set_index("against")
        for against, (better, worse) in simulation.estimates(models, subjects, folds, comparator, 24).items():
            expected = [better.value, *better.interval()[:2], *better.minus(worse).interval()[:2]]
            found = table.loc[against, ["score", "low", "high", "gain_low", "gain_high"]].tolist()
            assert found == pytest.approx(expected, rel=1e-9)


def test_holm_is_the_stepwise_procedure() -> None:
    """Holm (1979): the smallest p times the number of tests, and no corrected value below an earlier one."""
    assert holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm([0.5, float("nan"), 0.9])[::2] == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("noise", [1.0, 2.0])
@pytest.mark.parametrize("design", simulation.DESIGNS)
def test_intervals_cover_the_truth_and_contrasts_keep_their_error_rate(design: str, noise: float) -> None:
    """A reduced grid; docs/validity.md has all cells. With 200 data sets, the standard error of .95 is .015."""
    table = simulation.cell(24, 8, design, noise, 200, ("corr", "spearman"))
    real = table[table["what"] != "no gain"]
    assert real["coverage"].between(0.90, 0.995).all(), real
    assert (table.loc[table["what"] == "no gain", "rejected"] <= 0.095).all(), table
    assert (real["width"] <= 1.4).all(), real
