"""Simulated subjects with a known RDM, to test whether a method finds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl.dissimilarity.measures import Dissimilarity, resolve
from brainrdl.rdms import conversion

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs


def simulate_subjects(
    patterns: Float[Tensor, "n_conditions n_channels"],
    names: Sequence[str],
    *,
    n_subjects: int = 8,
    n_voxels: int = 100,
    noise: float = 1.0,
    dissimilarity: str | Dissimilarity = "correlation",
    roi: str = "IT",
    seed: int = 0,
) -> RDMs:
    """Simulate RDMs of subjects with the same representation, but different voxels and noise.

    The voxels of a subject are random mixtures of the z-scored channels, plus independent Gaussian noise for each voxel
    and condition.

    Parameters
    ----------
    patterns : Tensor (n_conditions, n_channels)
        The representation that all subjects share, any unit.
    names : sequence of str
        Names of the ``n_conditions`` conditions.
    n_subjects, n_voxels : int
        Number of subjects, and of voxels of each subject.
    noise : float
        Standard deviation of the noise divided by that of the signal, at least 0.
    dissimilarity : str or callable
        Dissimilarity of the RDMs: a name in `brainrdl.dissimilarity.DISSIMILARITIES`, or a function
        ``(..., n_conditions, n_channels) -> (..., n_pairs)``.
    roi : str
        Value of the rdm descriptor "roi".
    seed : int
        Seed of the mixtures and the noise.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        ``n_subjects`` RDMs with the rdm descriptors subject and roi.

    Raises
    ------
    BrainrdlError
        If `noise` is negative, `patterns` does not have 2 dimensions, or `names` or `dissimilarity` do not fit.

    Examples
    --------
    >>> simulate_subjects(torch.randn(6, 20), list("abcdef"), n_subjects=3).n_rdm
    3
    """
    if patterns.ndim != 2:
        refuse(f"patterns must have shape (n_conditions, n_channels), got {tuple(patterns.shape)}")
    if noise < 0:
        refuse(f"noise must be at least 0, got {noise!r}")
    generator = torch.Generator().manual_seed(seed)
    signal = patterns.double().detach().cpu()
    signal = (signal - signal.mean(0)) / signal.std(0).clamp(min=1e-12)
    mixing = torch.randn(n_subjects, signal.shape[1], n_voxels, generator=generator, dtype=torch.float64)
    voxels = signal @ mixing / signal.shape[1] ** 0.5
    voxels = voxels + noise * torch.randn(voxels.shape, generator=generator, dtype=torch.float64)
    described = {"subject": [f"simulated-{s + 1:02d}" for s in range(n_subjects)], "roi": [roi] * n_subjects}
    return conversion.from_tensor(resolve(dissimilarity)(voxels), names, descriptors=described)
