"""Corrections of p-values for their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from brainrdl._core.errors import check_option, refuse
from brainrdl._core.given_values import as_float64
from brainrdl.inference.intervals import holm

Correction = Literal["holm", "fdr", "fdr-dependent", "none"]


def corrected(p_values: Sequence[float], method: Correction = "holm") -> list[float]:
    """Correct p-values for their number; NaN does not count and stays NaN.

    Parameters
    ----------
    p_values : sequence of float
        From 0 to 1.
    method : {"holm", "fdr", "fdr-dependent", "none"}
        Holm's method limits the chance of any false positive. Benjamini and Hochberg's limits the share of false
        positives among the positives (false discovery rate) for independent or positively dependent tests, Benjamini
        and Yekutieli's for any dependence.

    Returns
    -------
    list of float

    Raises
    ------
    BrainrdlError
        If the method is unknown, or a p-value is not between 0 and 1.

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6:65-70. Benjamini & Hochberg (1995), Journal of the Royal
    Statistical Society B 57:289-300, doi 10.1111/j.2517-6161.1995.tb02031.x. Benjamini & Yekutieli (2001), Annals of
    Statistics 29:1165-1188, doi 10.1214/aos/1013699998.

    Examples
    --------
    >>> corrected([0.01, 0.04, 0.03], "fdr")
    [0.03, 0.04, 0.04]
    """
    from scipy.stats import false_discovery_control

    check_option(method, get_args(Correction), "method")
    values = as_float64([np.nan if p is None else p for p in p_values], "p-values")
    known = ~np.isnan(values)
    if not ((values[known] >= 0) & (values[known] <= 1)).all():
        refuse(f"p-values must be between 0 and 1, got {values[known].min():g} to {values[known].max():g}")
    if method == "holm" or method == "none" or not known.any():
        return holm(values.tolist()) if method == "holm" else values.tolist()
    found = np.full(len(values), np.nan)
    found[known] = false_discovery_control(values[known], method="bh" if method == "fdr" else "by")
    return [float(value) for value in found]
