"""RDMs are pooled on one scale, also if they know different pairs; the means of others are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainrdl.inference import noise_ceiling
from brainrdl.inference.ceilings import share_of_ceiling
from brainrdl.inference.influence import scale_for_few
from brainrdl.similarity.comparators import corr, spearman
from brainrdl.similarity.pooling import (
    as_ranks,
    as_residuals,
    as_z_scores,
    means_of_others,
    over_mean,
    over_root_mean_square,
    unchanged,
)

TRUTH = torch.rand(66, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def with_gaps(shifts: tuple[float, ...]) -> torch.Tensor:
    """The same RDM in other units; one subject knows the large half, one the small half."""
    units = torch.tensor([[1.0], [3.0], [0.2], [7.0]], dtype=torch.float64)
    rdms = TRUTH * units + torch.tensor(shifts, dtype=torch.float64)[:, None]
    order = TRUTH.argsort()
    rdms[1, order[:36]] = torch.nan
    rdms[2, order[-36:]] = torch.nan
    rdms[3, torch.randperm(66, generator=torch.Generator().manual_seed(1))[:20]] = torch.nan
    return rdms


@pytest.mark.parametrize("pool", [as_z_scores, over_root_mean_square, over_mean, as_residuals])
def test_the_same_rdm_in_other_units_and_with_gaps_is_pooled_to_itself(pool) -> None:
    pooled = pool(with_gaps((0.0, 0.0, 0.0, 0.0))).nanmean(0)
    assert float(corr(pooled, TRUTH)) == pytest.approx(1, abs=1e-9)


def test_an_offset_does_not_matter_to_z_scores_with_gaps_either() -> None:
    assert float(corr(as_z_scores(with_gaps((0.0, 9.0, -3.0, 1.0))).nanmean(0), TRUTH)) == pytest.approx(1, abs=1e-9)


def test_ranks_of_parts_of_an_rdm_are_put_in_their_place() -> None:
    rdms = with_gaps((0.0, 9.0, -3.0, 1.0))
    assert float(spearman(as_ranks(rdms).nanmean(0), TRUTH)) > 0.99
    within = torch.stack([as_ranks(row[None])[0] for row in rdms]).nanmean(0)
    assert float(spearman(within, TRUTH)) < 0.97  # each ranked by itself


@pytest.mark.parametrize("pool", [as_ranks, as_z_scores, over_root_mean_square, over_mean, as_residuals, unchanged])
def test_rdms_that_know_the_same_pairs_are_rescaled_one_by_one(pool) -> None:
    rdms = torch.rand(3, 66, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    rdms[:, 5] = torch.nan
    torch.testing.assert_close(pool(rdms), torch.cat([pool(row[None]) for row in rdms]), equal_nan=True)


def test_the_noise_ceiling_of_one_rdm_in_other_units_and_with_gaps_is_1() -> None:
    assert noise_ceiling(with_gaps((0.0, 9.0, -3.0, 1.0)), "corr") == pytest.approx((1, 1), abs=1e-9)


def test_means_of_others_keep_ties() -> None:
    rdms = torch.tensor([[0.3, 1000.7], [0.1, 0.1], [0.2, 0.2], [0.7, 0.7]], dtype=torch.float64)
    found = means_of_others(rdms)
    assert found[0, 0] == found[0, 1]
    assert (rdms.sum(0) - rdms)[0, 0] != (rdms.sum(0) - rdms)[0, 1]  # the fast way breaks the tie
    torch.testing.assert_close(found, torch.stack([rdms[[k for k in range(4) if k != s]].mean(0) for s in range(4)]))


def test_means_of_others_do_not_depend_on_the_one_left_out() -> None:
    rdms = with_gaps((0.0, 9.0, -3.0, 1.0))
    before = means_of_others(rdms, as_z_scores)[3]
    rdms[3] = rdms[3].square()
    torch.testing.assert_close(means_of_others(rdms, as_z_scores)[3], before)


def test_a_share_of_no_ceiling_is_unknown() -> None:
    found = share_of_ceiling(np.array([0.3, 0.3, 0.3, np.nan]), np.array([0.6, 0.049, np.nan, 0.5]))
    np.testing.assert_allclose(found, [0.5, np.nan, np.nan, np.nan])


def test_the_factor_for_few_conditions_is_nearly_1_for_many() -> None:
    assert scale_for_few(1000, ranks=False) == pytest.approx(1, abs=0.003)
    assert scale_for_few(6, ranks=False) == pytest.approx(1.5 * (15 / 13) ** 0.5)
    assert scale_for_few(6, ranks=True) == pytest.approx((1.5 * 15 / 13) ** 0.5)
