"""Intervals of scores."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

_CONFIDENCE = 0.95


def interval(score: float, draws: Float[Tensor, " n_draws"], n_subjects: int, n_stimuli: int) -> tuple[float, float]:
    """95 % interval of a score from its bootstrap replicates, by rsatoolbox's dual bootstrap.

    Parameters
    ----------
    score : float
        The score itself.
    draws : Tensor (3 * n_bootstrap,)
        Replicates with both resampled, with only subjects, and with only stimuli, in this order; NaN if a resample had
        too few pairs.
    n_subjects, n_stimuli : int
        Number of subjects and stimuli; with one subject, only the stimuli count.

    Returns
    -------
    tuple of two floats
        Lower and upper limit; NaN with fewer than 2 replicates that are not NaN.

    References
    ----------
    Schuett et al. (2023), eLife 12:e82566, doi 10.7554/eLife.82566.

    Examples
    --------
    >>> import torch
    >>> draws = torch.randn(3000, generator=torch.Generator().manual_seed(0)) * 0.1
    >>> low, high = interval(0.5, draws, n_subjects=10, n_stimuli=92)
    >>> low < 0.5 < high
    True
    """
    from rsatoolbox.util.inference_util import extract_variances
    from scipy.stats import t

    kinds = draws.reshape(3, -1).numpy()
    if (~np.isnan(kinds)).sum(1).min() < 2:
        return float("nan"), float("nan")
    variances = np.nanvar(kinds, axis=1, ddof=1)
    if n_subjects > 1:
        variance = extract_variances(variances.reshape(3, 1, 1), False, n_rdm=n_subjects, n_pattern=n_stimuli)[0]
    else:
        variance = extract_variances(variances[2].reshape(1, 1), False, n_pattern=n_stimuli)[0]
    freedom = (min(n_subjects, n_stimuli) if n_subjects > 1 else n_stimuli) - 1
    half = float(t.ppf((1 + _CONFIDENCE) / 2, freedom) * variance.item() ** 0.5)
    return score - half, score + half
