"""Simulated subjects: they share one geometry, and differ by voxels and noise alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainrdl import rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.datasets.simulation import simulate_subjects
from brainrdl.dissimilarity.measures import correlation, cosine, euclidean

NAMES = [f"n{i}" for i in range(12)]


def patterns(n_channels: int = 20) -> torch.Tensor:
    return torch.randn(12, n_channels, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def corr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


def standardised(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(0)) / x.std(0)


@pytest.mark.parametrize("dissimilarity", ["correlation", "euclidean"])
def test_without_noise_many_voxels_show_the_patterns_own_rdm(dissimilarity: str) -> None:
    found = rdms.to_tensor(
        simulate_subjects(patterns(), NAMES, n_subjects=2, n_voxels=20_000, noise=0.0, dissimilarity=dissimilarity)
    )
    # a random mixture has no mean over voxels, so that their correlation is the cosine of the channels
    known = {"correlation": cosine, "euclidean": euclidean}[dissimilarity](standardised(patterns()))
    assert min(corr(rdm, known) for rdm in found) > 0.99


def test_subjects_share_the_geometry_and_have_voxels_of_their_own() -> None:
    one, two = rdms.to_tensor(simulate_subjects(patterns(), NAMES, n_subjects=2, noise=0.0))
    assert 0.5 < corr(one, two) < 1


def test_noise_drowns_the_signal() -> None:
    known = correlation(standardised(patterns()))
    levels = [
        np.mean([corr(rdm, known) for rdm in rdms.to_tensor(simulate_subjects(patterns(), NAMES, noise=noise))])
        for noise in (0.0, 1.0, 30.0)
    ]
    assert levels[0] > levels[1] > levels[2]
    assert levels[2] == pytest.approx(0, abs=0.15)


def test_noise_is_relative_to_the_signal() -> None:
    """Of independent channels, a voxel's signal has a variance of 1, so with noise 1 it makes half of the distances."""
    many = torch.randn(12, 500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    clean, noisy = (
        rdms.to_tensor(
            simulate_subjects(many, NAMES, n_subjects=1, n_voxels=5000, noise=noise, dissimilarity="euclidean")
        )
        for noise in (0.0, 1.0)
    )
    assert float(noisy.mean() / clean.mean()) == pytest.approx(2, abs=0.1)


def test_the_scale_of_a_channel_does_not_matter_and_a_constant_one_is_no_signal() -> None:
    scaled = patterns()
    scaled[:, 0] *= 1000
    assert torch.allclose(*(rdms.to_tensor(simulate_subjects(x, NAMES)) for x in (patterns(), scaled)))
    constant = patterns()
    constant[:, 0] = 7.0
    assert bool(rdms.to_tensor(simulate_subjects(constant, NAMES)).isfinite().all())


def test_the_same_seed_gives_the_same_subjects_and_another_others() -> None:
    one, again, other = (rdms.to_tensor(simulate_subjects(patterns(), NAMES, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)


def test_subjects_say_who_they_are_and_whose_region() -> None:
    found = simulate_subjects(patterns(), NAMES, n_subjects=3, roi="V4")
    assert list(found.rdm_descriptors["subject"]) == ["simulated-01", "simulated-02", "simulated-03"]
    assert list(found.rdm_descriptors["roi"]) == ["V4"] * 3
    assert rdms.names(found) == tuple(NAMES)


def test_no_gradient_flows_into_the_patterns() -> None:
    assert simulate_subjects(patterns().requires_grad_(), NAMES).n_rdm == 8


def test_negative_noise_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"noise must be at least 0, got -0\.5"):
        simulate_subjects(patterns(), NAMES, noise=-0.5)


def test_patterns_that_are_no_matrix_are_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"patterns must have shape \(n_conditions, n_channels\), got \(12,\)"):
        simulate_subjects(torch.rand(12), NAMES)


def test_patterns_of_several_runs_are_refused() -> None:
    with pytest.raises(
        BrainrdlError, match=r"patterns must have shape \(n_conditions, n_channels\), got \(2, 12, 20\)"
    ):
        simulate_subjects(patterns().expand(2, 12, 20), NAMES)


def test_an_unknown_dissimilarity_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="'corelation' is not known; nearest: 'correlation'"):
        simulate_subjects(patterns(), NAMES, dissimilarity="corelation")
