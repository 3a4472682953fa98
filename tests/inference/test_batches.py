"""Influences in closed form, and the intervals of many scores at once: equal to those of one score after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainrdl._core.rows import Role
from brainrdl.evaluation.scores import HeldOut, TeacherRDMs, score
from brainrdl.inference.batches import score_batch, score_batch_of, t_intervals
from brainrdl.inference.closed_forms import Prepared, influences
from brainrdl.inference.influence import influence
from brainrdl.inference.intervals import of_score, t_interval
from brainrdl.inference.pairwise import comparison_of
from brainrdl.similarity.registry import SIMILARITIES

NAMES = tuple("abcdefghij")
N_PAIRS = 45

CLOSED = ("corr", "cosine", "spearman", "rho-a", "cosine_cov", "cka", "corr_cov")


def rdms(n_subjects: int = 4, *, ties: bool = False, missing: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth, noise, models = (
        torch.rand(n, N_PAIRS, dtype=torch.float64, generator=generator) for n in (1, n_subjects, 3)
    )
    subjects, models = truth + noise / 2, truth + models
    if ties:
        subjects, models = (5 * subjects).round(), (5 * models).round()
    if missing:
        subjects[0, :3] = torch.nan
        subjects[-1, 20] = torch.nan
    return models, subjects


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("comparator", [*CLOSED, "tau-a"])
def test_influences_in_closed_form_are_the_derivatives(comparator: str, ties: bool) -> None:
    models, subjects = rdms(ties=ties)
    subjects[1] = 0.0  # a constant RDM has no score
    found = influences(comparator, models[:, None], subjects[None])
    expected = influence(comparison_of(comparator), models[:, None], subjects[None], SIMILARITIES[comparator])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12, equal_nan=True)
    assert found.value.isnan().nonzero()[:, 1].unique().tolist() == [1]


def test_a_block_of_prepared_rdms_is_that_of_the_rdms_in_it() -> None:
    models, subjects = rdms()
    both = Prepared("spearman", models[:, None]), Prepared("spearman", subjects[None]).block(1, 3)
    found = influences("spearman", *both)
    expected = influences("spearman", models[:, None], subjects[None, 1:3])
    torch.testing.assert_close(found.pairs, expected.pairs, rtol=0, atol=0)


@pytest.mark.parametrize(("n_subjects", "missing"), [(4, False), (1, False), (4, True)])
@pytest.mark.parametrize("comparator", ["corr", "spearman", "tau-a", "cosine", "corr_cov", "cka"])
def test_a_batch_has_the_scores_intervals_and_contrasts_of_single_scores(
    comparator: str, n_subjects: int, missing: bool
) -> None:
    models, subjects = rdms(n_subjects, missing=missing)
    rows = [
        HeldOut(student=str(k), role=Role.STUDENT, target="IT", names=NAMES, pairs=one) for k, one in enumerate(models)
    ]
    teacher = TeacherRDMs("IT", NAMES, tuple(f"s{s}" for s in range(n_subjects)), subjects)
    tables = score(rows, {"IT": teacher}, [comparator])
    for against in ("mean", "subjects"):
        summary, contrasts = (table[table["against"] == against] for table in (tables.summary, tables.contrasts))
        batch = score_batch(comparator, [(models, subjects)], against)
        found, differences = of_score(batch.scores(), comparator), batch.differences([0, 0, 1], [1, 2, 2])
        np.testing.assert_allclose(found.value, summary["score"], atol=1e-12)
        np.testing.assert_allclose(np.c_[found.low, found.high], summary[["low", "high"]], atol=1e-12)
        np.testing.assert_allclose(np.c_[differences[1:]], contrasts[["low", "high", "p"]], atol=1e-12)


def test_one_rdm_for_all_subjects_is_the_same_as_this_rdm_for_each() -> None:
    models, subjects = rdms()
    each = models[:, None].expand(-1, len(subjects), -1)
    for against in ("mean", "subjects"):
        one, several = (score_batch("corr", [(given, subjects)], against).scores() for given in (models, each))
        np.testing.assert_allclose(np.c_[one], np.c_[several], atol=1e-12)


def test_influences_that_do_not_fit_into_memory_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    models, subjects = rdms()
    expected = score_batch("spearman", [(models, subjects)], "mean").scores()
    monkeypatch.setattr("brainrdl.inference.batches._KEPT", 0)
    monkeypatch.setattr("brainrdl.inference.batches._BLOCK", 2 * models.numel())
    np.testing.assert_allclose(np.c_[score_batch("spearman", [(models, subjects)], "mean").scores()], np.c_[expected])


def test_a_batch_from_influences_is_that_from_the_rdms() -> None:
    models, subjects = rdms()
    found = influences("corr", models[:, None], subjects[None])
    batch = score_batch_of(found.value.numpy(), found.pairs, found.conditions)
    expected = score_batch("corr", [(models, subjects)], "subjects")
    np.testing.assert_allclose(np.c_[batch.scores()], np.c_[expected.scores()], atol=1e-12)


def test_intervals_of_many_values_are_those_of_each() -> None:
    values = np.array([0.2, -0.5, 0.3, 0.0, np.nan])
    variances, freedom = np.array([0.01, 0.2, 0.0, 0.0, 0.1]), np.array([30.0, 0.5, 4.0, np.nan, 3.0])
    found = t_intervals(values, variances, freedom)
    expected = [t_interval(*row) for row in zip(values.tolist(), variances.tolist(), freedom.tolist(), strict=True)]
    np.testing.assert_allclose(np.c_[found[1:]], np.array(expected), rtol=1e-12)
