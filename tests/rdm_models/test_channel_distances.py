"""Sums over pairs of channel distances, computed from patterns, equal those of the table of pairs x channels."""

from __future__ import annotations

import pytest
import torch

from brainrdl.dissimilarity.pairs import pair_indices
from brainrdl.rdm_models.channel_distances import ChannelDistances

N, C = 12, 7


def patterns(offset: float = 3.0) -> torch.Tensor:
    return torch.randn(N, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + offset


def some_known() -> torch.Tensor:
    return torch.rand(N * (N - 1) // 2, generator=torch.Generator().manual_seed(1)) > 0.3


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("known", [None, some_known()], ids=["all pairs", "some pairs"])
def test_all_sums_equal_those_of_the_table(known: torch.Tensor | None, standardise: bool) -> None:
    x = patterns()
    distances = ChannelDistances(x, known, standardise)
    kept = distances.known
    i, j = pair_indices(N)
    table = (x[i] - x[j]).square()[kept]
    centred = table - table.mean(0)
    spread = table.std(0, correction=0) if standardise else table.var(0, correction=0).mean().sqrt()
    z = centred / spread
    y = torch.randn(len(i), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y = torch.where(kept, y - y[kept].mean(), 0.0)
    torch.testing.assert_close(distances.gram(), z.T @ z / len(z))
    torch.testing.assert_close(distances.gram(torch.tensor([4, 1])), (z.T @ z / len(z))[[4, 1]][:, [4, 1]])
    torch.testing.assert_close(distances.gram_of_pairs(), z @ z.T)
    torch.testing.assert_close(distances.products(y), z.T @ y[kept] / len(z))
    weights = torch.linspace(-1, 1, C, dtype=torch.float64)
    torch.testing.assert_close(distances.fitted(weights)[kept], z @ weights)
    assert not distances.fitted(weights)[~kept].any()


def test_a_channel_with_equal_distances_for_all_pairs_has_no_part_in_the_regression() -> None:
    x = patterns()
    x[:, 2] = 5.0
    distances = ChannelDistances(x)
    assert distances.scale[2] == 0
    assert not distances.gram()[2].any()
    assert distances.gram().isfinite().all()
