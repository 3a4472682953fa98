"""A population of stimuli and subjects with a known truth, for simulations of the statistics.

Stimuli belong to 6 categories in 20 latent dimensions. Each subject has a geometry of their own (the shared one plus
individual weights), 40 noisy channels, and an RDM of correlation distances. With `noise` 1, RDMs of two subjects
correlate .29, as in human IT (Kriegeskorte et al. 2008); with `noise` 2, .08.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_LATENT, N_CATEGORIES, N_CHANNELS, N_IRRELEVANT = 20, 6, 40, 30

_POPULATION = np.random.default_rng(12345)
_CENTRES = 0.8 * _POPULATION.normal(size=(N_CATEGORIES, N_LATENT))
_SHARED = (
    np.linalg.qr(_POPULATION.normal(size=(N_LATENT, N_LATENT)))[0] * np.sqrt(np.linspace(2.5, 0.3, N_LATENT))[:, None]
)


@dataclass(frozen=True)
class Sample:
    """A draw of stimuli and subjects.

    Attributes
    ----------
    subjects : array (n_subjects, n_pairs)
    better, worse, twin : array (n_pairs,)
        RDMs of three models: `better` and `twin` are exchangeable, `worse` resembles the subjects less.
    category : array (n_pairs,)
        1 for two stimuli of different categories, otherwise 0.
    """

    subjects: np.ndarray
    better: np.ndarray
    worse: np.ndarray
    twin: np.ndarray
    category: np.ndarray


def draw(rng: np.random.Generator, n_stimuli: int, n_subjects: int, noise: float = 1.0) -> Sample:
    categories = rng.integers(N_CATEGORIES, size=n_stimuli)
    latent = _CENTRES[categories] + rng.normal(size=(n_stimuli, N_LATENT))
    irrelevant = rng.normal(size=(2, n_stimuli, N_IRRELEVANT))
    geometry = _SHARED + 0.4 * rng.normal(size=(n_subjects, N_LATENT, N_LATENT))
    channels = rng.normal(size=(n_subjects, N_LATENT, N_CHANNELS)) / np.sqrt(N_LATENT)
    signal = latent @ geometry @ channels
    measured = signal + noise * signal.std() * rng.normal(size=signal.shape)
    shared = latent @ _SHARED
    better, twin = (_squared_euclidean(np.concatenate([shared, 1.1 * extra], 1)) for extra in irrelevant)
    worse = _squared_euclidean(np.concatenate([latent, 2.0 * irrelevant[0]], 1))
    i, j = np.triu_indices(n_stimuli, 1)
    return Sample(correlation_distance(measured), better, worse, twin, (categories[i] != categories[j]).astype(float))


def folds_of(rng: np.random.Generator, n_stimuli: int, n_folds: int) -> list[np.ndarray]:
    """Divide stimuli at random into folds of nearly equal size."""
    return [np.sort(part) for part in np.array_split(rng.permutation(n_stimuli), n_folds)]


def _squared_euclidean(patterns: np.ndarray) -> np.ndarray:
    i, j = np.triu_indices(len(patterns), 1)
    return ((patterns[i] - patterns[j]) ** 2).sum(-1)


def correlation_distance(patterns: np.ndarray) -> np.ndarray:
    centred = patterns - patterns.mean(-1, keepdims=True)
    unit = centred / np.linalg.norm(centred, axis=-1, keepdims=True)
    i, j = np.triu_indices(patterns.shape[-2], 1)
    return 1 - (unit @ np.swapaxes(unit, -1, -2))[..., i, j]
