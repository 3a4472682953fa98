"""Corrections of p-values for their number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainrdl._core.errors import check_option
from brainrdl.inference.intervals import holm

CORRECTIONS = ("holm", "fdr", "none")


def corrected(p_values: Sequence[float], correction: str = "holm") -> list[float]:
    """Correct p-values for their number; NaN does not count and stays NaN.

    Parameters
    ----------
    p_values : sequence of float
        P-values of one family of hypotheses.
    correction : {"holm", "fdr", "none"}
        Holm's method limits the probability of any false rejection; "fdr" (Benjamini and Hochberg) limits the expected
        share of false rejections among all rejections.

    Returns
    -------
    list of float

    Raises
    ------
    BrainrdlError
        If the correction is unknown.

    References
    ----------
    Benjamini & Hochberg (1995), J. R. Stat. Soc. B 57:289-300, doi 10.1111/j.2517-6161.1995.tb02031.x.
    Holm (1979), Scandinavian Journal of Statistics 6:65-70.

    Examples
    --------
    >>> corrected([0.01, 0.02, 0.04], "fdr")
    [0.03, 0.03, 0.04]
    """
    check_option(correction, CORRECTIONS, "correction")
    values = np.asarray(p_values, dtype=float)
    if correction == "holm":
        return holm(values.tolist())
    known = np.flatnonzero(~np.isnan(values))
    if correction == "fdr":
        order = known[np.argsort(-values[known], kind="stable")]
        steps = values[order] * len(order) / np.arange(len(order), 0, -1)
        values[order] = np.minimum(np.minimum.accumulate(steps), 1)
    return [float(value) for value in values]
