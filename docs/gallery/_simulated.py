"""Simulated data for figures of which no public data are small enough."""

import numpy as np
from rsatoolbox.rdm.rdms import RDMs

import brainrdl
from brainrdl import searchlights
from brainrdl.inference import TimeCourses, score_movie


def time_courses(layers: int = 2, subjects: int = 8) -> TimeCourses:
    """Return scores of layers with the RDMs of noisy subjects; each layer is followed later than the one before."""
    rng, times = np.random.default_rng(0), np.arange(-0.1, 0.4, 0.02).round(2)
    names = [f"image_{k:02d}" for k in range(20)]
    models = rng.random((layers, 190))
    peaks = np.linspace(0.1, 0.18 if layers < 3 else 0.24, layers)
    strength = np.exp(-(((times[:, None] - peaks) / 0.045) ** 2))
    rows = strength @ models + 0.35 * rng.normal(size=(subjects, len(times), 190))
    described = {
        "time": np.tile(times, subjects).tolist(),
        "subject": np.repeat(np.arange(subjects), len(times)).tolist(),
    }
    movie = brainrdl.rdms.from_array(rows.reshape(-1, 190), names, descriptors=described)
    return score_movie(_named(models, names), movie)


def _named(models: np.ndarray, names: list[str]) -> RDMs:
    labels = ["early", "late"] if len(models) == 2 else [f"layer {k + 1}" for k in range(len(models))]
    return brainrdl.rdms.from_array(models, names, descriptors={"layer": labels})


def group_map() -> searchlights.GroupMap:
    """Return a test of the maps of 12 simulated subjects in MNI space: scores above 0 in ventral temporal cortex."""
    from nilearn.datasets import load_mni152_brain_mask
    from scipy.ndimage import gaussian_filter

    mask = load_mni152_brain_mask(8)
    near = searchlights.volume_neighbourhoods(mask, 12.0)
    voxels, (x, y, z) = (tuple(near.centres[axis] for axis in axes) for axes in ("ijk", "xyz"))
    effect = 0.15 * np.exp(-((np.abs(x) - 36) ** 2 / 400 + (y + 55) ** 2 / 500 + (z + 12) ** 2 / 250))
    rng, maps = np.random.default_rng(0), []
    for _ in range(12):
        noise = gaussian_filter(rng.normal(size=mask.shape), 1.0)
        scores = effect.to_numpy() + 0.05 * (noise / noise.std())[voxels]
        maps.append(searchlights.SearchlightMap(near, scores[:, None], ("animacy",), np.zeros(len(scores))))
    return searchlights.group_test(maps, n_permutations=500)
