"""Conditions on which the agreement of subjects depends: simulated, with the truth known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainrdl import rdms
from brainrdl.doctor import audit
from brainrdl.doctor.condition_findings import influence, outlying
from brainrdl.doctor.rdm_findings import with_others

N, N_SUBJECTS = 40, 6
NAMES = [f"image_{k:02d}" for k in range(N)]


def subjects(artefacts=(), clean=(), seed=0, signal=0.8, gaps=0.0):
    """Squared distances of shared patterns and noise; artefacts are far from all others in all but `clean` subjects."""
    rng = np.random.default_rng(seed)
    shared, far = signal * rng.normal(size=(N, 60)), 5 * np.sign(rng.normal(size=(N, 60)))
    rows = []
    for subject in range(N_SUBJECTS):
        patterns = shared + rng.normal(size=shared.shape)
        for k in () if subject in clean else artefacts:
            patterns[k] += far[k]
        rows.append(((patterns[:, None] - patterns) ** 2).mean(-1)[np.triu_indices(N, 1)])
        rows[-1][rng.random(len(rows[-1])) < gaps] = np.nan
    described = {"subject": [f"s{k}" for k in range(N_SUBJECTS)]}
    return rdms.from_array(np.stack(rows), NAMES, descriptors=described)


def found(given, what):
    return audit(given).findings.query("what == @what").iloc[0]


def rows_of(given):
    return torch.tensor(given.dissimilarities)


def kept_pairs(without):
    i, j = np.triu_indices(N, 1)
    return ~(np.isin(i, without) | np.isin(j, without))


@pytest.mark.parametrize("gaps", [0.0, 0.1])
def test_the_influence_of_a_condition_is_the_agreement_without_its_pairs(gaps):
    rows = rows_of(subjects(gaps=gaps))
    with_all, without_one, means = influence(rows, np.ones(N, dtype=bool))
    assert with_all == pytest.approx(float(with_others(rows).mean()), rel=1e-10)
    for k in (0, 17, N - 1):
        assert without_one[k] == pytest.approx(
            float(with_others(rows[:, kept_pairs([k])]).mean()), rel=1e-2 * gaps + 1e-9
        )
    scaled = rows / rows.nanmean(1, keepdim=True)
    i, j = np.triu_indices(N, 1)
    assert means[5] == pytest.approx(np.nanmean(np.nanmean(scaled[:, (i == 5) | (j == 5)].numpy(), axis=1)), rel=1e-10)


@pytest.mark.parametrize(
    ("gaps", "artefacts"), [(0.0, (3,)), (0.0, (3, 7)), (0.1, (3, 7)), pytest.param(0.1, (3,), marks=pytest.mark.slow)]
)
def test_conditions_that_carry_the_agreement_are_named_before_subjects_are_called_outliers(artefacts, gaps):
    given = subjects(artefacts, clean=(4, 5), gaps=gaps)
    assert np.flatnonzero(outlying(rows_of(given), N)).tolist() == list(artefacts)
    influential = found(given, "influential conditions")
    assert influential.level == "warning"
    assert all(NAMES[k] in influential.value for k in artefacts)
    assert "before any subject is left out" in influential.advice
    rows = found(given, "mean of a condition's row")
    assert rows.level == "note"
    assert all(NAMES[k] in rows.value for k in artefacts)
    order = audit(given).findings.what.tolist()
    assert order.index("influential conditions") < order.index("mean of a condition's row") < order.index("outliers")


def test_clean_subjects_are_no_outliers_because_others_share_an_artefact():
    given = subjects((3,), clean=(4, 5))
    r = with_others(rows_of(given))
    assert float(r[4:].max()) < 0.3 < 0.9 < float(r[:4].min())  # what a look at subjects alone would warn about
    assert found(given, "outliers").level == "ok"


def test_a_condition_that_hides_the_agreement_is_named():
    given = subjects((3,), clean=(0, 2, 3, 4, 5))
    influential = found(given, "influential conditions")
    assert influential.level == "warning"
    assert NAMES[3] in influential.value
    without = float(with_others(rows_of(given)[:, kept_pairs([3])]).mean())
    assert f"r = {without:.3f} without it" in influential.value


def test_usual_conditions_are_rarely_called_influential():
    alarms = [outlying(rows_of(subjects(seed=seed, signal=0.3 * (seed % 4))), N).any() for seed in range(40)]
    assert sum(alarms) <= 1


def test_a_category_is_not_called_an_outlier():
    given = subjects(tuple(range(10)))
    assert found(given, "influential conditions").level == "ok"
