"""Bayes factors of one-sample and paired t-tests, which can also speak for no difference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from brainrdl._core.errors import check_number, named, refuse
from brainrdl.inference.permutation import subject_table


def bayes_factor(values: npt.ArrayLike, *, scale: float = 0.5**0.5) -> Float[np.ndarray, "..."] | np.float64:
    """Compute the Bayes factor (JZS) that the mean over subjects is not 0, against that it is 0.

    Parameters
    ----------
    values : array (n_subjects, ...)
        One value per subject: scores, or differences between two scores. NaN leaves a subject out.
    scale : float
        Width of the Cauchy prior on the standardised effect size, above 0; 0.707 is the usual one, 1 the one of Rouder
        et al. (2009).

    Returns
    -------
    array (...)
        Above 1 for a difference, below 1 for none; 3 and 1/3 are usually called moderate, 10 and 1/10 strong. NaN with
        fewer than 2 subjects, and where all values are equal.

    Raises
    ------
    BrainrdlError
        If there are fewer than 2 subjects, a value is infinite, or `scale` is not above 0.

    Notes
    -----
    Like a t-test over subjects, it is for these stimuli: the variance of other stimuli does not enter it.

    References
    ----------
    Rouder, Speckman, Sun, Morey & Iverson (2009), Psychonomic Bulletin & Review 16:225-237, doi 10.3758/PBR.16.2.225.

    Examples
    --------
    >>> float(bayes_factor([0.3, 0.5, 0.2, 0.4, 0.6, 0.3]).round(1))
    30.8
    """
    table, shape = subject_table(values), np.shape(values)[1:]
    check_number(scale, "scale", above=0)
    n = (~np.isnan(table)).sum(0)
    found = [
        bayes_factor_of_t(*_t(column), scale=scale) if k > 1 else np.nan for column, k in zip(table.T, n, strict=True)
    ]
    return np.array(found).reshape(shape)[()]


def _t(column: Float[np.ndarray, " n"]) -> tuple[float, int]:
    known = column[~np.isnan(column)]
    spread = known.std(ddof=1)
    flat = spread <= 1e-12 * np.abs(known).max()
    return (float("nan") if flat else float(known.mean() / spread * len(known) ** 0.5)), len(known)


def bayes_factor_of_t(t: float, n: int, *, scale: float = 0.5**0.5) -> float:
    """Compute the Bayes factor (JZS) of a one-sample or paired t statistic of n subjects.

    Parameters
    ----------
    t : float
        t statistic; NaN returns NaN.
    n : int
        Number of subjects or of pairs, at least 2.
    scale : float
        As in `bayes_factor`.

    Returns
    -------
    float
        Evidence for an effect over evidence for none.

    Raises
    ------
    BrainrdlError
        If n is below 2.

    Examples
    --------
    >>> round(bayes_factor_of_t(0.69, 100, scale=1.0), 3)
    0.1
    """
    from scipy.integrate import quad

    if n < 2:
        refuse(f"a Bayes factor needs at least 2 subjects, got {named('n')} {n}")
    if np.isnan(t):
        return float("nan")
    freedom = n - 1

    def log_of_effect(u: float) -> float:
        g = np.exp(u)  # variance of the effect, with an inverse gamma distribution; du = dg / g
        size = 1 + n * g * scale**2
        of_data = -0.5 * np.log(size) - (freedom + 1) / 2 * np.log1p(t**2 / (size * freedom))
        return float(of_data - 0.5 * np.log(2 * np.pi) - 0.5 * u - 0.5 / g)

    of_none = -(freedom + 1) / 2 * np.log1p(t**2 / freedom)
    value, _ = quad(lambda u: np.exp(log_of_effect(u) - of_none), -8, 40, limit=200)
    return float(value)
