"""Means of RDMs that know different pairs, against rsatoolbox's rescale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rsatoolbox.rdm import RDMs
from rsatoolbox.rdm.combine import rescale

import brainrdl
from brainrdl import BrainrdlError, RDMTeacher, rdms
from brainrdl.doctor import audit
from brainrdl.rdms.partial import comparable, mean_rdm

N, N_SUBJECTS, N_EACH = 24, 12, 14
NAMES = [f"i{k:02d}" for k in range(N)]


def truth() -> np.ndarray:
    points = np.random.default_rng(5).normal(size=(N, 5))
    return np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))


def partial(spread: float = 0.8) -> RDMs:
    """Subjects who arranged different subsets of the conditions, each on a scale of their own."""
    rng = np.random.default_rng(6)
    parts = []
    for subject in range(N_SUBJECTS):
        kept = np.sort(rng.choice(N, N_EACH, replace=False))
        noise = 0.15 * np.abs(rng.normal(size=(N_EACH, N_EACH)))
        own = (truth()[np.ix_(kept, kept)] + (noise + noise.T) / 2) * np.exp(spread * rng.normal())
        np.fill_diagonal(own, 0)
        parts.append(rdms.from_array(own, [NAMES[k] for k in kept], descriptors={"subject": [f"s{subject}"]}))
    return rdms.concat(parts)


def correlation(a: RDMs, b: RDMs) -> float:
    return brainrdl.compare(a, b, ["corr"]).similarity.item()


def test_partial_rdms_are_scaled_as_rsatoolbox_does() -> None:
    joined = partial()
    expected = rescale(joined, "simple", threshold=1e-22).dissimilarities
    found = comparable(torch.tensor(joined.dissimilarities)).numpy()
    ratio = found / expected
    np.testing.assert_allclose(ratio[~np.isnan(ratio)], np.nanmean(ratio), rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(joined.dissimilarities))
    assert np.nanmean(found**2) == pytest.approx(np.nanmean(joined.dissimilarities**2))


@pytest.mark.parametrize("combine", ["mean", "reliability", "all"])
def test_the_mean_of_partial_rdms_of_unequal_scale_is_the_true_one(combine: str) -> None:
    joined, whole = partial(), rdms.from_array(truth(), NAMES)
    found = RDMTeacher(joined, combine=combine).combined("rdm")
    plain = rdms.from_array(np.nanmean(joined.dissimilarities, 0), rdms.names(joined))
    assert correlation(plain, whole) < 0.9  # so that scales matter
    assert correlation(found, whole) > 0.995


def test_rdms_that_know_the_same_pairs_are_averaged_as_they_are() -> None:
    rows = torch.tensor([[1.0, 2.0, torch.nan], [30.0, 10.0, torch.nan]])
    assert comparable(rows) is rows
    assert mean_rdm(rows)[:2].tolist() == [15.5, 6.0]


def test_scales_do_not_depend_on_pairs_that_may_not_be_looked_at() -> None:
    rows = torch.tensor([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, torch.nan, 40.0]])
    changed = rows.clone()
    changed[1, 3] = 400.0
    seen = torch.tensor([True, True, True, False])
    torch.testing.assert_close(comparable(rows, on=seen)[:, :3], comparable(changed, on=seen)[:, :3], equal_nan=True)


def test_subjects_who_share_no_pair_have_no_mean() -> None:
    a, b = (rdms.from_array([1.0, 2.0, 3.0], list(names), descriptors={"subject": [names]}) for names in ("abc", "cde"))
    joined = rdms.concat([a, b])
    with pytest.raises(BrainrdlError, match=r"1 of the 2 RDMs of target 'rdm' .* share no pair with the others"):
        RDMTeacher(joined)
    assert RDMTeacher(joined, combine="sample").subjects == ("abc", "cde")


def test_the_mean_that_students_are_scored_against_is_on_one_scale() -> None:
    from brainrdl.evaluation.held_out import teacher_rdms

    scored = teacher_rdms(RDMTeacher(partial()), None, tuple(NAMES), ["rdm"])["rdm"]
    mean = rdms.from_array(scored.pairs.nanmean(0).numpy(), NAMES)
    assert correlation(mean, rdms.from_array(truth(), NAMES)) > 0.995


def test_the_doctor_warns_about_unequal_scales_with_gaps() -> None:
    for spread, level in ((0.8, "warning"), (0.0, "ok")):
        row = audit(partial(spread)).findings.query("what == 'scale'").iloc[0]
        assert row["level"] == level
        assert "on shared pairs" in row["value"]
        assert ("a mean of the values as they are is unusable" in row["advice"]) == (level == "warning")


@pytest.mark.parametrize("combine", ["mean", "reliability"])
@pytest.mark.parametrize("spread", [pytest.param(0.8, marks=pytest.mark.slow), 0.0])
def test_blocks_of_pairs_do_not_change_a_combined_rdm(combine: str, spread: float, monkeypatch) -> None:
    joined = partial(spread)
    whole = RDMTeacher(joined, combine=combine).select(NAMES[3:], weigh_by=NAMES[5:]).combined("rdm")
    monkeypatch.setattr("brainrdl.rdms.partial._AT_ONCE", 7)
    parts = RDMTeacher(joined, combine=combine).select(NAMES[3:], weigh_by=NAMES[5:]).combined("rdm")
    np.testing.assert_allclose(parts.dissimilarities, whole.dissimilarities, rtol=1e-10)


def test_weights_of_subjects_do_not_depend_on_the_unit() -> None:
    # squared fields of MEG sensors are about 1e-26
    whole = RDMTeacher(partial(), combine="reliability").combined("rdm").dissimilarities
    small = partial()
    small.dissimilarities *= 1e-26
    found = RDMTeacher(small, combine="reliability").combined("rdm").dissimilarities
    np.testing.assert_allclose(found * 1e26, whole, rtol=1e-9)
