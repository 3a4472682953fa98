"""Onsets and peaks of time courses, with jackknife errors over subjects.

The latency of a single subject's course is often noise. The jackknife measures latencies in the mean course of all
subjects, and in the mean courses without one subject each; their spread gives the standard error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from brainrdl._core.errors import arg, check_number, check_option, named, refuse
from brainrdl._core.given_values import as_float64, in_span
from brainrdl.inference.intervals import NO_INTERVAL, t_interval

Kind = Literal["peak", "onset"]


class Latency(NamedTuple):
    """A latency, or a difference between latencies, with its 95% interval over subjects.

    Attributes
    ----------
    value : float
        In the unit of the times; NaN if the course has no onset.
    error : float
        Jackknife standard error.
    low, high : float
        Limits of the 95% interval, with n_subjects - 1 degrees of freedom.
    p : float
        p-value of the hypothesis that a difference is 0; NaN for a single latency.

    Examples
    --------
    >>> Latency(0.1, 0.02, 0.06, 0.14, float("nan")).value
    0.1
    """

    value: float
    error: float
    low: float
    high: float
    p: float


def latency(
    scores: npt.ArrayLike,
    times: npt.ArrayLike,
    kind: Kind = "onset",
    *,
    fraction: float = 0.5,
    baseline: tuple[float, float] | None = None,
    window: tuple[float, float] | None = None,
) -> Latency:
    """Measure the onset or the peak of a time course, with a jackknife error over subjects.

    Parameters
    ----------
    scores : array (n_subjects, n_times)
        Time course of each subject, for example scores of a model.
    times : array (n_times,)
        Times, increasing.
    kind : {"onset", "peak"}
        The time of the largest value, or the last time before it at which the course rises through a fraction of it
        (between two samples: by linear interpolation).
    fraction : float
        Fraction of the peak that is the onset, between 0 and 1. Half of the peak is more reliable than small fractions.
    baseline : (start, end), optional
        The mean over these times, both included, is subtracted from each subject's course.
    window : (start, end), optional
        Look for the peak in these times only.

    Returns
    -------
    Latency

    Raises
    ------
    BrainrdlError
        If there are fewer than 3 subjects, shapes do not match, times do not increase, a value is not finite, or an
        option is unknown or out of bounds.

    Notes
    -----
    The interval is over subjects: it says where the latency of other subjects' mean course would be for these stimuli.
    If the course, or the course without one of the subjects, has no positive peak or is never below the fraction, the
    interval is NaN. It is also NaN if all jackknife latencies are equal, which happens to peaks if sampling is coarse:
    the error is then less than the sampling, and not known. Onsets are interpolated between samples. The peak of a
    noisy mean course is too high, and its onset therefore slightly too late.

    References
    ----------
    Miller, Patterson & Ulrich (1998), Psychophysiology 35:99-115, doi 10.1111/1469-8986.3510099.

    Examples
    --------
    >>> times = np.linspace(0, 1, 101)
    >>> course = np.exp(-((times - 0.5) ** 2) / 0.02)
    >>> scores = course + 0.1 * np.random.default_rng(0).normal(size=(10, 101))
    >>> found = latency(scores, times)
    >>> bool(found.low < 0.5 - (0.02 * np.log(2)) ** 0.5 < found.high)
    True
    """
    curves = _curves(scores, times, baseline)
    measure = _measure(as_float64(times, named("times")), kind, fraction, window)
    return _jackknifed(curves, measure)._replace(p=float("nan"))


def latency_difference(
    scores: npt.ArrayLike,
    others: npt.ArrayLike,
    times: npt.ArrayLike,
    kind: Kind = "onset",
    *,
    fraction: float = 0.5,
    baseline: tuple[float, float] | None = None,
    window: tuple[float, float] | None = None,
) -> Latency:
    """Test whether two time courses of the same subjects have the same latency.

    Parameters
    ----------
    scores, others : array (n_subjects, n_times)
        Two courses of each subject, in the same order of subjects, for example of two layers.
    times, kind, fraction, baseline, window
        As in `latency`.

    Returns
    -------
    Latency
        Latency of `scores` minus that of `others`; negative if `scores` are earlier.

    Raises
    ------
    BrainrdlError
        For the same reasons as `latency`, and if the shapes of the courses differ.

    Examples
    --------
    >>> times, rng = np.linspace(0, 1, 101), np.random.default_rng(0)
    >>> early, late = (np.exp(-((times - t) ** 2) / 0.02) + 0.1 * rng.normal(size=(10, 101)) for t in (0.4, 0.6))
    >>> found = latency_difference(early, late, times)
    >>> found.low < -0.2 < found.high, found.p < 0.01
    (True, True)
    """
    first, second = (_curves(courses, times, baseline) for courses in (scores, others))
    if first.shape != second.shape:
        refuse(
            f"{named('scores')} and {named('others')} must be of the same subjects, got {first.shape}, {second.shape}"
        )
    measure = _measure(as_float64(times, named("times")), kind, fraction, window)
    return _jackknifed(np.stack([first, second], 1), lambda pair: measure(pair[0]) - measure(pair[1]))


def _curves(
    scores: npt.ArrayLike, times: npt.ArrayLike, baseline: tuple[float, float] | None
) -> Float[np.ndarray, "n_subjects n_times"]:
    curves, at = as_float64(scores, "courses"), as_float64(times, named("times"))
    if curves.ndim != 2 or curves.shape[1:] != at.shape:
        refuse(
            f"courses must have shape (n_subjects, n_times) and {named('times')} (n_times,), got {curves.shape} and "
            f"{at.shape}"
        )
    if len(curves) < 3:
        refuse(f"a jackknife error needs at least 3 subjects, got {len(curves)}")
    if not (np.diff(at) > 0).all():
        refuse(f"{named('times')} must increase; sort the times, and the scores with them")
    if not np.isfinite(curves).all():
        refuse(f"courses contain {int((~np.isfinite(curves)).sum())} values that are not finite; leave out those times")
    return curves - (0.0 if baseline is None else curves[:, _inside(at, baseline, "baseline")].mean(1, keepdims=True))


def _inside(times: np.ndarray, span: tuple[float, float], what: str) -> npt.NDArray[np.bool_]:
    inside = in_span(times, *span)
    if not inside.any():
        refuse(f"{arg(what)} {tuple(span)} contains none of the times, which go from {times[0]:g} to {times[-1]:g}")
    return inside


def _measure(
    times: np.ndarray, kind: Kind, fraction: float, window: tuple[float, float] | None
) -> Callable[[Float[np.ndarray, " n_times"]], float]:
    check_option(kind, get_args(Kind), "kind")
    check_number(fraction, "fraction", above=0)
    if fraction >= 1:
        refuse(
            f"{named('fraction')} of the peak must be below 1, got {fraction}; use {arg('kind', 'peak')} for the peak"
        )
    inside = np.ones(len(times), bool) if window is None else _inside(times, window, "window")

    def onset_or_peak(course: Float[np.ndarray, " n_times"]) -> float:
        top = int(np.where(inside, course, -np.inf).argmax())
        if kind == "peak":
            return float(times[top])
        level = fraction * course[top]
        below = np.flatnonzero(course[:top] < level)
        if course[top] <= 0 or not len(below):
            return float("nan")
        before = below[-1]
        share = (level - course[before]) / (course[before + 1] - course[before])
        return float(times[before] + share * (times[before + 1] - times[before]))

    return onset_or_peak


def _jackknifed(curves: Float[np.ndarray, "n_subjects ..."], measure: Callable[[np.ndarray], float]) -> Latency:
    n, total = len(curves), curves.sum(0)
    without = np.array([measure((total - one) / (n - 1)) for one in curves])
    value, variance = measure(total / n), (n - 1) / n * float(((without - without.mean()) ** 2).sum())
    interval = t_interval(value, variance, n - 1) if variance > 0 else NO_INTERVAL
    return Latency(value, variance**0.5, *interval)
