"""Scores, ceilings and intervals: equal to rsatoolbox's, averaged like with like, and silent where nothing is known."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from brainrdl._core.errors import BrainrdlError
from brainrdl._core.rows import Role
from brainrdl.dissimilarity.pairs import pair_indices, to_square
from brainrdl.evaluation.options import Intervals
from brainrdl.evaluation.scores import HeldOut, TeacherRDMs, score
from brainrdl.inference import bootstraps, pairwise, resamples
from brainrdl.inference.ceilings import Agreement, ceiling_for_mean, ceiling_for_subjects, noise_ceiling, one_factor
from brainrdl.inference.intervals import Replicates
from brainrdl.inference.partial_correlation import partial
from brainrdl.inference.uncertainty import BootstrapInference, FoldRDMs

RSATOOLBOX = ("spearman", "corr", "cosine", "tau-a", "rho-a", "corr_cov", "cosine_cov")
pytestmark = pytest.mark.filterwarnings("ignore:Noise ceiling for tau based on averaged ranks!:UserWarning")


def names_of(n: int) -> tuple[str, ...]:
    return tuple(f"n{i:02d}" for i in range(n))


def simulated(n: int = 12, n_subjects: int = 4, noise: float = 1.0, seed: int = 0) -> tuple[Tensor, TeacherRDMs]:
    """A true RDM, and those of subjects who have it under noise."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(n * (n - 1) // 2, generator=generator, dtype=torch.float64)
    pairs = truth + noise * torch.randn(n_subjects, len(truth), generator=generator, dtype=torch.float64)
    return truth + 10, TeacherRDMs("IT", names_of(n), tuple(f"s{s}" for s in range(n_subjects)), pairs + 10)


def student(pairs: Tensor, names: Sequence[str], label: str = "fitted", **changes: object) -> HeldOut:
    row = HeldOut(student=label, role=Role.STUDENT, layer="layer", target="IT", names=tuple(names), pairs=pairs)
    return replace(row, **changes)  # type: ignore[arg-type]


def part(pairs: Tensor, names: Sequence[str], chosen: Sequence[str]) -> Tensor:
    """Pairs of `chosen` among those of `names`."""
    position = torch.tensor([list(names).index(name) for name in chosen])
    i, j = pair_indices(len(chosen))
    return to_square(pairs)[..., position[i], position[j]]


def rsa(pairs: Tensor, names: Sequence[str]):  # type: ignore[no-untyped-def]
    from rsatoolbox.rdm import RDMs

    rows = torch.atleast_2d(pairs).numpy()
    subjects = [str(s) for s in range(len(rows))]
    return RDMs(rows, rdm_descriptors={"subject": subjects}, pattern_descriptors={"stimulus": list(names)})


def only(table: pd.DataFrame, **where: object) -> pd.Series:
    rows = table
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1, rows
    return rows.iloc[0]


# Observed scores


@pytest.mark.parametrize("comparator", RSATOOLBOX)
def test_scores_on_a_fold_are_rsatoolboxs(comparator: str) -> None:
    from rsatoolbox.rdm import compare

    truth, teacher = simulated()
    chosen = ("n07", "n01", "n10", "n03", "n04", "n11")
    own = part(truth, teacher.names, chosen)
    scores, *_ = score([student(own, chosen)], {"IT": teacher}, [comparator], intervals="none")
    theirs = rsa(teacher.pairs, teacher.names).subset_pattern("stimulus", list(chosen))
    order = [list(theirs.pattern_descriptors["stimulus"]).index(name) for name in chosen]
    matrices = theirs.get_matrices()[:, order][:, :, order]
    i, j = np.triu_indices(len(chosen), 1)
    theirs = rsa(torch.tensor(matrices[:, i, j]), chosen)
    expected = compare(rsa(own, chosen), theirs, comparator)[0]
    assert scores[scores.against == "subjects"]["score"].to_numpy() == pytest.approx(expected, abs=1e-10)
    mean = compare(rsa(own, chosen), theirs.mean(), comparator).item()
    assert only(scores, against="mean")["score"] == pytest.approx(mean, abs=1e-10)


def test_conditions_are_paired_by_name() -> None:
    truth, teacher = simulated()
    there, back = teacher.names, teacher.names[::-1]
    tables = [score([student(part(truth, there, n), n)], {"IT": teacher}, ["corr"]) for n in (there, back)]
    for first, second in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(first, second, rtol=1e-9)


def test_pairs_that_a_subject_does_not_know_are_left_out() -> None:
    truth, teacher = simulated(n_subjects=2)
    pairs = teacher.pairs.clone()
    pairs[0, :5] = torch.nan
    scores, *_ = score(
        [student(truth, teacher.names)], {"IT": replace(teacher, pairs=pairs)}, ["corr"], intervals="none"
    )
    expected = np.corrcoef(truth[5:], pairs[0, 5:])[0, 1]
    assert only(scores, subject="s0")["score"] == pytest.approx(expected)
    mean = torch.cat([pairs[1, :5], pairs[:, 5:].mean(0)])
    assert only(scores, against="mean")["score"] == pytest.approx(np.corrcoef(truth, mean)[0, 1])


def test_a_subject_who_knows_no_pair_of_a_fold_has_no_score_there_rather_than_zero() -> None:
    truth, teacher = simulated(n_subjects=3)
    pairs = teacher.pairs.clone()
    pairs[0] = torch.nan
    unknown = replace(teacher, pairs=pairs)
    scores, summary, _ = score([student(truth, teacher.names)], {"IT": unknown}, ["spearman"])
    assert math.isnan(only(scores, subject="s0")["score"])
    others = scores[scores.subject.isin(["s1", "s2"])]["score"]
    row = only(summary, against="subjects")
    assert row["score"] == pytest.approx(others.mean())
    assert row["low"] < row["score"] < row["high"]


# Ceilings


@pytest.mark.parametrize("comparator", RSATOOLBOX)
def test_the_ceiling_of_single_subjects_is_rsatoolboxs(comparator: str) -> None:
    from rsatoolbox.inference import boot_noise_ceiling

    _, teacher = simulated(n_subjects=5)
    expected = boot_noise_ceiling(rsa(teacher.pairs, teacher.names), comparator, "subject")
    assert noise_ceiling(teacher.pairs, comparator) == pytest.approx(expected, abs=1e-10)


def test_the_ceiling_with_tied_ranks_is_rsatoolboxs() -> None:
    from rsatoolbox.inference import boot_noise_ceiling

    _, teacher = simulated(n_subjects=4)
    coarse = teacher.pairs.round()
    expected = boot_noise_ceiling(rsa(coarse, teacher.names), "spearman", "subject")
    assert noise_ceiling(coarse, "spearman") == pytest.approx(expected, abs=1e-12)


def test_the_ceiling_takes_pairs_that_only_some_subjects_know() -> None:
    _, teacher = simulated(n=20, n_subjects=5, noise=0.5)
    pairs = teacher.pairs.clone()
    for s in range(5):
        pairs[s, s * 7 : s * 7 + 7] = torch.nan
    for comparator in ("spearman", "corr", "cosine", "soft-spearman"):
        found, full = noise_ceiling(pairs, comparator), noise_ceiling(teacher.pairs, comparator)
        assert found == pytest.approx(full, abs=0.03)
        assert found != full


def test_the_ceiling_of_cka_is_that_of_the_whitened_cosine() -> None:
    _, teacher = simulated()
    assert noise_ceiling(teacher.pairs, "cka") == pytest.approx(noise_ceiling(teacher.pairs, "cosine_cov"))


def test_the_ceiling_for_the_mean_is_what_a_perfect_model_reaches() -> None:
    truth, teacher = simulated(n=150, n_subjects=5, noise=2.0)
    _, summary, _ = score([student(truth, teacher.names)], {"IT": teacher}, ["corr", "spearman"], intervals="none")
    for comparator in ("corr", "spearman"):
        row = only(summary, against="mean", comparator=comparator)
        assert row["score"] == pytest.approx(row["ceiling"], abs=0.02)
        assert row["share"] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("comparator", ["corr", "spearman", "tau-a", "rho-a", "corr_cov"])
def test_a_perfect_model_reaches_the_ceiling_against_the_mean_whatever_the_comparator(comparator: str) -> None:
    truth, teacher = simulated(n=60, n_subjects=6, noise=2.0)
    _, summary, _ = score([student(truth, teacher.names)], {"IT": teacher}, [comparator], intervals="none")
    row = only(summary, against="mean", comparator=comparator)
    assert row["score"] == pytest.approx(row["ceiling"], abs=0.02)


def test_each_comparison_stands_next_to_its_own_ceiling() -> None:
    truth, teacher = simulated(noise=2.0)
    scores, summary, _ = score([student(truth, teacher.names)], {"IT": teacher}, ["corr"], intervals="none")
    lower, upper = noise_ceiling(teacher.pairs, "corr")
    of_mean, of_subjects = ceiling_for_mean(teacher.pairs), ceiling_for_subjects(teacher.pairs)
    assert of_mean > upper > of_subjects > lower
    columns = ["ceiling", "ceiling_lower", "ceiling_upper"]
    for table in (scores, summary):
        single, mean = table[table.against == "subjects"], table[table.against == "mean"]
        assert np.allclose(single[columns], [of_subjects, lower, upper])
        assert np.allclose(mean[columns], of_mean)


def test_bounds_are_averaged_over_folds_and_ceilings_come_from_the_average_agreement() -> None:
    truth, teacher = simulated(n=24)
    folds = [teacher.names[:6], teacher.names[6:]]
    rows = [student(part(truth, teacher.names, chosen), chosen, fold=f) for f, chosen in enumerate(folds)]
    scores, summary, _ = score(rows, {"IT": teacher}, ["corr"], intervals="none")
    of_folds = [Agreement.of(teacher.of(chosen), "corr") for chosen in folds]
    between = np.average(
        [fold.between for fold in of_folds], axis=0, weights=[len(pair_indices(n)[0]) for n in (6, 18)]
    )
    assert only(summary, against="subjects")["ceiling"] == pytest.approx(one_factor(between).mean())
    for against in ("mean", "subjects"):
        row = only(summary, against=against)
        assert row["score"] == pytest.approx(scores[scores.against == against].groupby("fold")["score"].mean().mean())
        assert row["share"] == pytest.approx(row["score"] / row["ceiling"])
        assert row["n_folds"] == 2
    single = scores[scores.against == "subjects"].groupby("fold")[["ceiling_lower", "ceiling_upper"]].mean().mean()
    assert only(summary, against="subjects")[list(single.index)].tolist() == pytest.approx(single.tolist())


def test_there_is_no_share_of_a_ceiling_near_zero() -> None:
    truth, teacher = simulated(n=20, n_subjects=2)
    teacher = replace(teacher, pairs=torch.stack([teacher.pairs[0], -teacher.pairs[0]]))
    _, summary, _ = score([student(truth, teacher.names)], {"IT": teacher}, ["corr"], intervals="none")
    row = only(summary, against="subjects")
    assert row["ceiling"] == 0
    assert math.isnan(row["share"])


def test_one_subject_has_no_ceiling_and_an_interval_from_stimuli_alone() -> None:
    truth, teacher = simulated(n=20, n_subjects=1)
    _, summary, _ = score([student(truth, teacher.names)], {"IT": teacher}, ["corr"])
    assert summary[["ceiling", "ceiling_lower", "ceiling_upper", "share"]].isna().all(axis=None)
    mean, single = only(summary, against="mean"), only(summary, against="subjects")
    assert mean["low"] < mean["score"] < mean["high"]
    assert mean[["score", "low", "high"]].tolist() == pytest.approx(single[["score", "low", "high"]].tolist())
    assert noise_ceiling(teacher.pairs, "corr") == pytest.approx((math.nan, math.nan), nan_ok=True)


# Resampling


def resampled_fold(n: int, n_bootstrap: int) -> tuple[Tensor, TeacherRDMs, BootstrapInference]:
    truth, teacher = simulated(n=n)
    return truth, teacher, BootstrapInference(teacher.names, len(teacher.subjects), n_bootstrap, seed=3)


def repeats(counts: Tensor, values: Sequence[str]) -> list[str]:
    return [value for value, count in zip(values, counts.int().tolist(), strict=True) for _ in range(count)]


@pytest.mark.filterwarnings(
    "ignore:invalid value encountered in divide:RuntimeWarning"
)  # rsatoolbox's mean of NaN pairs
@pytest.mark.parametrize("comparator", RSATOOLBOX)
def test_a_resample_by_weights_is_the_explicit_one_of_rsatoolbox(comparator: str) -> None:
    from rsatoolbox.rdm import compare

    n_bootstrap = 6
    truth, teacher, inference = resampled_fold(9, n_bootstrap)
    measure, fold = pairwise.comparison_of(comparator), FoldRDMs(teacher.names, teacher.pairs)
    singles = [parts[0] for parts in inference.of_subjects(fold, truth[None], range(4), measure, None)]
    single = singles[1].values.reshape(3, n_bootstrap)
    mean = inference.of_mean(fold, truth[None], measure, None)[0].values.reshape(3, n_bootstrap)
    average = inference.join(0.0, singles).draws.reshape(3, n_bootstrap)
    model, data = rsa(truth, teacher.names), rsa(teacher.pairs, teacher.names)
    for k in range(n_bootstrap):
        drawn = repeats(torch.stack([inference.stimuli[name][k] for name in teacher.names]), teacher.names)
        subjects = repeats(inference.subjects[k], [str(s) for s in range(4)])
        again, of_all = model.subsample_pattern("stimulus", drawn), data.subsample_pattern("stimulus", drawn)
        expected = compare(again, of_all, comparator)[0, 1]
        assert single[0, k] == pytest.approx(expected, abs=1e-9)
        assert single[2, k] == pytest.approx(expected, abs=1e-9)
        both, some = of_all.subsample("subject", subjects), data.subsample("subject", subjects)
        assert average[0, k] == pytest.approx(compare(again, both, comparator).mean(), abs=1e-9)
        assert average[1, k] == pytest.approx(compare(model, some, comparator).mean(), abs=1e-9)
        assert average[2, k] == pytest.approx(compare(again, of_all, comparator).mean(), abs=1e-9)
        assert mean[0, k] == pytest.approx(compare(again, both.mean(), comparator).item(), abs=1e-9)
        assert mean[1, k] == pytest.approx(compare(model, some.mean(), comparator).item(), abs=1e-9)
        assert mean[2, k] == pytest.approx(compare(again, of_all.mean(), comparator).item(), abs=1e-9)
    observed = compare(model, data, comparator)[0, 1]
    assert single[1].tolist() == pytest.approx([observed] * n_bootstrap, abs=1e-9)


def test_counts_are_those_of_drawing_with_replacement() -> None:
    counts = bootstraps._counts(10, 4000, torch.Generator().manual_seed(0)).T
    assert counts.sum(0).unique().tolist() == [10]
    assert counts.mean(1).tolist() == pytest.approx([1] * 10, abs=0.1)
    assert counts.var(1).tolist() == pytest.approx([0.9] * 10, abs=0.1)  # binomial: 10 draws with chance 1/10


def test_the_size_of_the_blocks_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, teacher = simulated()
    model = student((truth > 10).double(), teacher.names, "category", role="category")
    rows = [student(truth, teacher.names), student(truth**2, teacher.names, "other"), model]
    whole = score(rows, {"IT": teacher}, ["spearman", "corr"], intervals="dual-bootstrap", n_bootstrap=30)
    monkeypatch.setattr(resamples, "_BLOCK", 500)
    for first, second in zip(
        whole,
        score(rows, {"IT": teacher}, ["spearman", "corr"], intervals="dual-bootstrap", n_bootstrap=30),
        strict=True,
    ):
        pd.testing.assert_frame_equal(first, second, rtol=1e-9)


def test_a_student_is_scored_alike_alone_and_among_others() -> None:
    truth, teacher = simulated()
    one, two = student(truth, teacher.names), student(truth.flip(0), teacher.names, "other")
    alone = score([one], {"IT": teacher}, ["spearman"])
    among = score([two, one], {"IT": teacher}, ["spearman"])
    for table, larger in zip(alone[:2], among[:2], strict=True):
        kept = larger[larger.student == "fitted"].reset_index(drop=True)
        pd.testing.assert_frame_equal(table, kept, rtol=1e-9)
    assert among.summary["student"].drop_duplicates().tolist() == ["other", "fitted"]  # tables keep the order given


def test_the_same_seed_gives_the_same_interval_and_another_another() -> None:
    truth, teacher = simulated()
    rows = [student(truth, teacher.names)]
    one, again, other = (
        score(rows, {"IT": teacher}, ["corr"], intervals="dual-bootstrap", n_bootstrap=50, seed=seed)
        .summary["low"]
        .tolist()
        for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_a_bootstrap_needs_resamples_and_other_intervals_need_none() -> None:
    truth, teacher = simulated()
    rows = [student(truth, teacher.names)]
    with pytest.raises(BrainrdlError, match=r"intervals='dual-bootstrap' needs at least 2 resamples, got 1"):
        score(rows, {"IT": teacher}, ["corr"], intervals="dual-bootstrap", n_bootstrap=1)
    assert score(rows, {"IT": teacher}, ["corr"]).summary["low"].notna().all()
    for intervals in ("dyadic", "none"):
        with pytest.raises(BrainrdlError, match=f"n_bootstrap=1000 has no effect with intervals='{intervals}'"):
            score(rows, {"IT": teacher}, ["corr"], intervals=intervals, n_bootstrap=1000)


def test_intervals_can_be_left_out() -> None:
    truth, teacher = simulated()
    _, summary, _ = score([student(truth, teacher.names)], {"IT": teacher}, ["spearman", "corr"], intervals="none")
    assert summary[["low", "high"]].isna().all(axis=None)


def test_a_resample_with_fewer_than_three_stimuli_of_a_fold_does_not_count_as_zero() -> None:
    truth, teacher = simulated(n=40, noise=0.0)
    folds = [teacher.names[k : k + 4] for k in range(0, 40, 4)]
    rows = [student(part(truth, teacher.names, chosen), chosen, fold=f) for f, chosen in enumerate(folds)]
    inference, fold = BootstrapInference(teacher.names, 4, 200), FoldRDMs(folds[0], teacher.of(folds[0]))
    parts = inference.of_subjects(fold, rows[0].pairs[None].double(), [0], pairwise.comparison_of("corr"), None)
    drawn = parts[0][0].values[:200]
    assert torch.equal(drawn.isnan(), (torch.stack([inference.stimuli[name] for name in folds[0]]) > 0).sum(0) < 3)
    assert drawn.isnan().any()
    _, summary, _ = score(rows, {"IT": teacher}, ["corr"], intervals="dual-bootstrap", n_bootstrap=200)
    # perfect in every fold, so in every resample of which anything is left
    assert (summary["high"] - summary["low"]).max() < 1e-6


# Intervals


def test_the_variance_is_combined_as_by_rsatoolbox() -> None:
    from rsatoolbox.inference.result import Result
    from rsatoolbox.model import ModelFixed

    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.3, 0.15, 0.2], dtype=torch.float64)[:, None]
    draws = 0.4 + spread * torch.randn(3, 500, generator=generator, dtype=torch.float64)
    variances = np.zeros((3, 3, 3))  # of one model and the two ends of its ceiling, in each bootstrap
    variances[:, 0, 0] = draws.var(1)
    theirs = Result(
        [ModelFixed("m", np.arange(6.0))], np.full((500, 1), 0.4), "corr", "dual_bootstrap", np.zeros((2, 500)),
        variances=variances, dof=5, n_rdm=6, n_pattern=20,
    )  # fmt: skip
    low, high = theirs.get_ci(0.95)
    assert Replicates(0.4, draws.flatten(), 6, 20).interval()[:2] == pytest.approx((low.item(), high.item()))


def test_the_variance_is_the_small_sample_formula_of_the_paper() -> None:
    from scipy.stats import t

    generator = torch.Generator().manual_seed(1)
    spread = torch.tensor([0.3, 0.2, 0.2], dtype=torch.float64)[:, None]
    draws = spread * torch.randn(3, 500, generator=generator, dtype=torch.float64)
    both, rdm, pattern = draws.var(1).tolist()
    r, p = 8 / 7, 30 / 29
    variance = r * rdm + p * pattern - r * p * (both - rdm - pattern)
    variance = min(max(variance, r * rdm, p * pattern), both)
    low, high, _ = Replicates(0.0, draws.flatten(), 8, 30).interval()
    assert high == pytest.approx(t.ppf(0.975, 7) * variance**0.5)
    assert low == -high


@pytest.mark.slow
def test_the_interval_of_one_fold_is_that_of_rsatoolboxs_dual_bootstrap() -> None:
    from rsatoolbox.inference import eval_dual_bootstrap
    from rsatoolbox.model import ModelFixed

    truth, teacher = simulated(n=14, n_subjects=6, noise=1.0, seed=5)
    levels = torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0, 8.0], dtype=torch.float64)[
        :, None
    ]  # subjects differ in reliability
    teacher = replace(teacher, pairs=truth + levels * (teacher.pairs - truth))
    _, summary, _ = score(
        [student(truth, teacher.names)], {"IT": teacher}, ["corr"], intervals="dual-bootstrap", n_bootstrap=4000
    )
    ours = only(summary, against="subjects")
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = eval_dual_bootstrap(
            ModelFixed("m", rsa(truth, teacher.names)), rsa(teacher.pairs, teacher.names), "corr", N=300
        )
    low, high = (end.item() for end in theirs.get_ci(0.95))
    assert ours["high"] - ours["low"] == pytest.approx(high - low, rel=0.2)
    assert ours["n_subjects"] == 6
    assert ours["n_stimuli"] == 14


def test_an_interval_needs_two_replicates_of_each_kind() -> None:
    draws = torch.full((3, 5), torch.nan, dtype=torch.float64)
    assert all(map(math.isnan, Replicates(0.5, draws.flatten(), 5, 20).interval()))
    draws[:2] = torch.rand(2, 5)
    assert all(map(math.isnan, Replicates(0.5, draws.flatten(), 5, 20).interval()))


def test_repeating_a_fold_under_other_seeds_does_not_make_the_interval_narrower() -> None:
    truth, teacher = simulated()
    once = score([student(truth, teacher.names)], {"IT": teacher}, ["corr"]).summary
    rows = [student(truth, teacher.names, seed=seed) for seed in range(5)]
    often = score(rows, {"IT": teacher}, ["corr"]).summary
    columns = ["score", "low", "high", "ceiling_lower", "share"]
    pd.testing.assert_frame_equal(once[columns], often[columns], rtol=1e-9)
    assert often["n_seeds"].tolist() == [5, 5]


def test_stimuli_that_were_never_held_out_do_not_count_as_resampled() -> None:
    truth, teacher = simulated(n=20)
    chosen = teacher.names[:10]
    one = student(part(truth, teacher.names, chosen), chosen)
    small = TeacherRDMs("IT", chosen, teacher.subjects, part(teacher.pairs, teacher.names, chosen))
    whole, cut = (score([one], {"IT": known}, ["corr"]).summary for known in (teacher, small))
    pd.testing.assert_frame_equal(whole, cut)
    assert cut["n_stimuli"].tolist() == [10, 10]


# Gains


def test_a_gain_is_measured_on_the_same_resamples() -> None:
    truth, teacher = simulated(noise=0.3)
    generator = torch.Generator().manual_seed(9)
    better = truth + 0.02 * torch.randn(len(truth), generator=generator, dtype=torch.float64)
    rows = [
        student(better, teacher.names, base="unfitted"),
        student(truth, teacher.names, "unfitted", role="unfitted", base="unfitted"),
    ]
    _, summary, _ = score(rows, {"IT": teacher}, ["corr"])
    row = only(summary, student="fitted", against="subjects")
    base = only(summary, student="unfitted", against="subjects")
    assert row["gain"] == pytest.approx(row["score"] - base["score"])
    assert row["gain_low"] < row["gain"] < row["gain_high"]
    assert row["gain_high"] - row["gain_low"] < 0.2 * (row["high"] - row["low"])  # two similar students vary together
    assert math.isnan(base["gain"])


def test_a_student_equal_to_its_unfitted_self_gains_nothing_for_certain() -> None:
    truth, teacher = simulated()
    rows = [
        student(truth, teacher.names, base="unfitted"),
        student(truth, teacher.names, "unfitted", role="unfitted", base="unfitted"),
    ]
    row = only(score(rows, {"IT": teacher}, ["spearman"]).summary, student="fitted", against="mean")
    assert row[["gain", "gain_low", "gain_high"]].tolist() == [0, 0, 0]


def test_a_subject_or_region_of_another_target_changes_no_interval() -> None:
    truth, teacher = simulated()
    other = replace(simulated(n=20, n_subjects=7, seed=3)[1], target="V1", subjects=tuple("abcdefg"))
    rows = [student(truth, teacher.names)]
    more = [*rows, replace(student(other.pairs[0], other.names), target="V1")]
    for intervals in ("dyadic", "dual-bootstrap"):
        options = {"comparators": ["corr"], "intervals": intervals}
        options |= {"n_bootstrap": 30} if intervals == "dual-bootstrap" else {}
        alone = score(rows, {"IT": teacher}, **options).summary
        among = score(more, {"IT": teacher, "V1": other}, **options).summary
        pd.testing.assert_frame_equal(alone, among[among.target == "IT"])


def test_folds_that_one_row_has_no_score_in_do_not_count_in_a_contrast() -> None:
    truth, teacher = simulated(n=12)
    folds = [teacher.names[:6], teacher.names[6:]]
    rows = [student(part(truth, teacher.names, chosen), chosen, fold=f) for f, chosen in enumerate(folds)]
    unknown = torch.full((15,), torch.nan, dtype=torch.float64)
    gappy = [
        student(pairs, chosen, "model", role="model", fold=f)
        for f, (chosen, pairs) in enumerate(zip(folds, (unknown, rows[1].pairs), strict=True))
    ]
    with pytest.warns(UserWarning, match="in 1 of 1 folds"):  # the model explains the student in the other fold
        contrast = only(score([*rows, *gappy], {"IT": teacher}, ["corr"]).contrasts, against="mean")
    assert contrast["difference"] == pytest.approx(0, abs=1e-12)  # equal in the fold that both have


def test_a_fold_that_no_subject_knows_changes_no_ceiling_and_no_number_of_stimuli() -> None:
    truth, teacher = simulated(n=12)
    folds = [teacher.names[:6], teacher.names[6:]]
    rows = [student(part(truth, teacher.names, chosen), chosen, fold=f) for f, chosen in enumerate(folds)]
    square = to_square(teacher.pairs)
    square[:, 6:, 6:] = torch.nan
    i, j = pair_indices(12)
    known = replace(teacher, pairs=square[:, i, j])
    alone, both = (score(given, {"IT": known}, ["corr"]).summary for given in (rows[:1], rows))
    columns = ["score", "low", "high", "ceiling", "share", "n_folds"]
    pd.testing.assert_frame_equal(alone[columns], both[columns])


@pytest.mark.slow
def test_differences_by_rounding_are_not_significant() -> None:
    for comparator in ("corr", "cosine", "corr_cov", "cka", "soft-spearman"):
        for seed in range(10):
            truth, teacher = simulated(n=6, n_subjects=1, noise=0.0, seed=seed)
            rows = [
                student(factor * truth, teacher.names, label) for factor, label in ((1, "a"), (3.7, "b"), (1 / 7, "c"))
            ]
            contrasts = score(rows, {"IT": teacher}, [comparator]).contrasts
            assert contrasts["p"].tolist() == [1.0] * len(contrasts)


def test_a_perfect_student_has_no_interval_wider_than_its_ties_make_it() -> None:
    truth, teacher = simulated(n=6, n_subjects=1, noise=0.0)
    for comparator in ("spearman", "rho-a", "tau-a"):
        row = only(score([student(truth, teacher.names)], {"IT": teacher}, [comparator]).summary, against="mean")
        assert row["high"] - row["low"] < 1e-6


# A subject left out


def test_a_left_out_subject_is_the_only_one_scored_against() -> None:
    truth, teacher = simulated(n_subjects=3)
    rows = [
        student(truth + s, teacher.names, left_out=subject)
        if s != 1
        else student(truth.flip(0), teacher.names, left_out="s1")
        for s, subject in enumerate(teacher.subjects)
    ]
    model = student((truth > 10).double(), teacher.names, "category", role="category", left_out="s0")
    scores, summary, _ = score([*rows, model], {"IT": teacher}, ["corr"])
    assert set(scores["against"]) == {"subjects"}
    assert set(scores["comparator"]) == {"corr"}  # no partial correlation either: it is against the mean
    fitted = scores[scores.student == "fitted"]
    assert fitted["subject"].tolist() == ["s0", "s1", "s2"]
    expected = [np.corrcoef(row.pairs, teacher.pairs[s])[0, 1] for s, row in enumerate(rows)]
    assert fitted["score"].tolist() == pytest.approx(expected)
    assert np.allclose(scores[["ceiling_lower", "ceiling_upper"]], noise_ceiling(teacher.pairs, "corr"))
    assert only(summary, student="fitted")["score"] == pytest.approx(np.mean(expected))


# Partial correlation


def residual(x: np.ndarray, given: np.ndarray) -> np.ndarray:
    design = np.column_stack([np.ones(len(x)), given.T])
    return x - design @ np.linalg.lstsq(design, x, rcond=None)[0]


def three(seed: int = 0, n: int = 45) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    given = torch.randn(2, n, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, n, generator=generator, dtype=torch.float64)
    return given.sum(0) + noise[0], given[0] - 0.5 * noise[0] + noise[1], given


def test_a_partial_correlation_is_that_of_the_residuals() -> None:
    a, b, given = three()
    left = [residual(x.numpy(), given.numpy()) for x in (a, b)]
    assert float(partial(a, b, given, "corr")) == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-12)


def test_a_partial_rank_correlation_is_that_of_the_ranks_residuals() -> None:
    from scipy.stats import rankdata

    a, b, given = three(1)
    given = given.round()  # ties
    ranks = [rankdata(x) for x in (a, b)]
    left = [residual(x, rankdata(given, axis=1)) for x in ranks]
    assert float(partial(a, b, given, "spearman")) == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_partial_correlation_given_one_has_a_closed_form(seed: int) -> None:
    a, b, given = three(seed, n=10)
    r = np.corrcoef([a.numpy(), b.numpy(), given[0].numpy()])
    ab, az, bz = r[0, 1], r[0, 2], r[1, 2]
    expected = (ab - az * bz) / ((1 - az**2) * (1 - bz**2)) ** 0.5
    assert float(partial(a, b, given[:1], "corr")) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("comparator", ["corr", "spearman"])
def test_a_whole_weight_counts_a_pair_as_often(comparator: str) -> None:
    a, b, given = three(2, n=12)
    weights = torch.tensor([0, 1, 2, 3, 1, 0, 2, 1, 1, 4, 0, 1])
    again = torch.repeat_interleave(torch.arange(12), weights)
    expected = partial(a[again], b[again], given[:, again], comparator)
    assert float(partial(a, b, given, comparator, weights.double())) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("comparator", ["corr", "spearman"])
def test_partial_correlations_of_a_batch_are_those_of_each(comparator: str) -> None:
    a, b, given = three(3, n=15)
    weights = torch.randint(0, 3, (4, 15), generator=torch.Generator().manual_seed(0)).double()
    students = torch.stack([a, a**3, -a])
    many = partial(students[:, None], b, given, comparator, weights)
    one_by_one = [[float(partial(x, b, given, comparator, w)) for w in weights] for x in students]
    assert many.tolist() == [pytest.approx(row, abs=1e-12) for row in one_by_one]


def test_unknown_pairs_are_left_out_of_a_partial_correlation() -> None:
    a, b, given = three(4)
    holes, hollow = a.clone(), given.clone()
    holes[3], hollow[1, 7] = torch.nan, torch.nan
    kept = [k for k in range(len(a)) if k not in (3, 7)]
    expected = partial(a[kept], b[kept], given[:, kept])
    assert float(partial(holes, b, hollow)) == pytest.approx(float(expected), abs=1e-12)


def test_an_rdm_that_the_models_explain_has_no_partial_correlation() -> None:
    for seed in range(20):  # what is left is rounding, of either sign
        a, b, given = three(seed)
        assert partial((0.1 + seed) * given[0] - 3 * given[1] + 7, b, given, "corr").isnan()
        assert partial(a, torch.ones_like(a), given).isnan()


def test_a_student_that_the_models_explain_has_no_partial_score_with_a_note() -> None:
    truth, teacher = simulated()
    category = (truth > 10).double()
    model = student(category, teacher.names, "category", role="category", layer="")
    with pytest.warns(
        UserWarning, match=r"undefined \(NaN\) .*: \['partial corr / fitted / layer / IT in 1 of 1 folds'\]"
    ):
        _, summary, _ = score([student(3 * category + 1, teacher.names), model], {"IT": teacher}, ["corr"])
    row = only(summary, comparator="partial corr")
    assert row[["score", "low", "high"]].isna().all()
    assert only(summary, comparator="corr", student="fitted", against="mean")["score"] > 0


@pytest.mark.parametrize("intervals", ["dyadic", "dual-bootstrap", "none"])
@pytest.mark.parametrize("value", [3.0, 0.1, 0.0])
def test_a_constant_student_has_no_score_and_no_contrast(value: float, intervals: Intervals) -> None:
    truth, teacher = simulated()
    flat = torch.full_like(truth, value).float()
    flat[0] += 2e-7 * value  # rounding of float32
    rows = [
        student(flat, teacher.names, base="unfitted"),
        student(truth, teacher.names, "other", base="unfitted"),
        student(truth.flip(0), teacher.names, "unfitted", role="unfitted", base="unfitted"),
    ]
    with pytest.warns(UserWarning, match=r"undefined \(NaN\) .* constant: \['fitted / layer / IT in 1 of 1 folds'\]"):
        _, summary, contrasts = score(rows, {"IT": teacher}, ["corr", "spearman", "corr_cov"], intervals=intervals)
    nothing = summary[summary.student == "fitted"]
    assert nothing[["score", "low", "high", "share", "gain"]].isna().all(axis=None)
    assert summary.loc[summary.student != "fitted", "score"].notna().all()
    undefined = contrasts[(contrasts.student == "fitted") | (contrasts.other == "fitted")]
    assert len(undefined) == 2 * len(nothing)
    assert undefined[["difference", "low", "high", "p", "p_corrected"]].isna().all(axis=None)
    assert contrasts.loc[contrasts.student == "other", "difference"].notna().all()


def test_a_constant_rdm_has_a_cosine_unless_it_is_zero() -> None:
    truth, teacher = simulated()
    for value, known in ((1.0, True), (0.0, False)):
        rows = [student(torch.full_like(truth, value), teacher.names)]
        with nullcontext() if known else pytest.warns(UserWarning, match="constant"):
            found = score(rows, {"IT": teacher}, ["cosine"]).summary["score"]
        assert found.notna().all() == known


def test_a_fold_in_which_a_student_is_constant_counts_neither_in_its_mean_nor_in_its_contrasts() -> None:
    truth, teacher = simulated(n=12)
    folds = [teacher.names[:6], teacher.names[6:]]
    rows = [
        student(part(pairs, teacher.names, chosen), chosen, label, fold=f)
        for label, pairs in (("fitted", truth), ("other", truth.flip(0)))
        for f, chosen in enumerate(folds)
    ]
    rows[1] = replace(rows[1], pairs=torch.ones_like(rows[1].pairs))
    with pytest.warns(UserWarning, match="'fitted / layer / IT in 1 of 2 folds'"):
        scores, summary, contrasts = score(rows, {"IT": teacher}, ["corr"])
    mean = scores[scores.against == "mean"].set_index(["student", "fold"])["score"]
    one = only(summary, student="fitted", against="mean")
    assert one["score"] == pytest.approx(mean["fitted", 0])
    assert one["n_folds"] == 1
    difference = contrasts[contrasts.against == "mean"]["difference"].item()
    assert difference == pytest.approx(mean["fitted", 0] - mean["other", 0])


def test_a_subject_whose_rdm_is_constant_has_no_score_and_does_not_lower_the_ceiling() -> None:
    truth, teacher = simulated()
    flat = torch.cat([teacher.pairs, torch.ones_like(teacher.pairs[:1])])
    more = replace(teacher, subjects=(*teacher.subjects, "flat"), pairs=flat)
    scores, summary, _ = score([student(truth, teacher.names)], {"IT": more}, ["corr"])
    assert scores.loc[scores.subject == "flat", "score"].isna().all()
    before = score([student(truth, teacher.names)], {"IT": teacher}, ["corr"]).summary
    for column in ("score", "ceiling"):
        found, expected = (only(table, against="subjects")[column] for table in (summary, before))
        assert found == pytest.approx(expected)


def test_a_model_given_twice_changes_nothing() -> None:
    a, b, given = three(6)
    twice = torch.cat([given, given[:1] * 2])
    assert float(partial(a, b, twice, "corr")) == pytest.approx(float(partial(a, b, given, "corr")), abs=1e-9)


def test_partial_rows_are_given_the_models_and_have_no_ceiling() -> None:
    truth, teacher = simulated()
    category = (truth > 10).double()
    rows = [
        student(truth, teacher.names),
        student(category, teacher.names, "category", role="category", layer=""),
        student(teacher.pairs[0], teacher.names, "one of them", role="model", layer=""),
    ]
    scores, summary, _ = score(rows, {"IT": teacher}, ["spearman", "corr", "cosine"])
    told = scores[scores.comparator.str.startswith("partial")]
    assert told[["student", "comparator", "against"]].to_numpy().tolist() == [
        ["fitted", "partial spearman", "mean"],
        ["fitted", "partial corr", "mean"],
    ]
    given = torch.stack([category, teacher.pairs[0]])
    expected = [float(partial(truth, teacher.pairs.mean(0), given, name)) for name in ("spearman", "corr")]
    assert told["score"].tolist() == pytest.approx(expected)
    shares = summary[summary.comparator.str.startswith("partial")]
    assert shares[["ceiling_lower", "ceiling_upper", "share"]].isna().all(axis=None)
    assert (shares["low"] < shares["score"]).all()


# Refusals


def test_an_unknown_comparator_is_refused() -> None:
    truth, teacher = simulated()
    with pytest.raises(BrainrdlError, match="comparator 'spearmen' is not known; nearest: 'spearman'"):
        score([student(truth, teacher.names)], {"IT": teacher}, ["spearmen"])
    with pytest.raises(BrainrdlError, match="comparator 'kendall' is not known"):
        noise_ceiling(teacher.pairs, "kendall")


def test_a_partial_correlation_of_another_kind_is_refused() -> None:
    a, b, given = three()
    with pytest.raises(BrainrdlError, match="comparator of a partial correlation 'cosine' is not known"):
        partial(a, b, given, "cosine")
