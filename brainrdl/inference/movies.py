"""RDM movies: RDMs of time points or windows, scored over time.

A movie is rsatoolbox RDMs with the rdm descriptors ``time`` and, for several subjects, ``subject``, as
`brainrdl.calc_rdm` and the readers make them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.errors import arg, check_option, named, quote, refuse
from brainrdl.inference.ceilings import Agreement, noise_ceiling
from brainrdl.inference.clusters import ClusterTest, cluster_test
from brainrdl.inference.intervals import Bare, Dyadic, of_score
from brainrdl.inference.latencies import Kind, latency, latency_difference
from brainrdl.inference.pairwise import Compare, comparison_of
from brainrdl.inference.uncertainty import DyadicInference, FoldRDMs
from brainrdl.rdms.by_name import align, names
from brainrdl.rdms.conversion import to_tensor
from brainrdl.rdms.subjects import groups
from brainrdl.similarity.pooling import means_of_others
from brainrdl.similarity.registry import SIMILARITIES

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

SUMMARY = ("model", "time", "score", "low", "high", "p", "ceiling", "ceiling_low", "ceiling_high", "n_subjects")

LATENCIES = ("model", "other", "kind", "latency", "error", "low", "high", "p")

_NAMES = ("name", "model", "layer", "roi")

Between = Literal["within", "between"]


class _Movie(NamedTuple):
    times: Float[np.ndarray, " n_times"]
    subjects: tuple[str, ...]
    conditions: tuple[str, ...]
    rdms: Float[Tensor, "n_times n_subjects n_pairs"]


@dataclass(frozen=True, eq=False)
class TimeCourses:
    """Scores of models over time, for each subject.

    Attributes
    ----------
    comparator : str
    models, subjects : tuple of str
    times : array (n_times,)
        Times, in seconds, increasing.
    scores : array (n_models, n_subjects, n_times)
        Similarity of each model with each subject's RDM.
    estimates : list of lists of Dyadic
        For each model and time, the mean score with what its interval needs; scores only without intervals.
    summary : pandas.DataFrame
        One row per model and time: mean score over subjects, its 95% interval over stimuli and subjects (low, high)
        and p against 0; the score that a perfect model is expected to reach (ceiling), and the lower and upper bounds
        of the noise ceiling (ceiling_low, ceiling_high); n_subjects. p is not corrected for the number of times; see
        `clusters`.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> rng = np.random.default_rng(0)
    >>> labels = {"time": [0.1, 0.2] * 4, "subject": [f"s{k // 2}" for k in range(8)]}
    >>> movie = from_array(rng.random((8, 28)), list("abcdefgh"), descriptors=labels)
    >>> score_movie(from_array(rng.random(28), list("abcdefgh")), movie).scores.shape
    (1, 4, 2)
    """

    comparator: str
    models: tuple[str, ...]
    subjects: tuple[str, ...]
    times: Float[np.ndarray, " n_times"]
    scores: Float[np.ndarray, "n_models n_subjects n_times"]
    estimates: Sequence[Sequence[Dyadic | Bare]]
    summary: pd.DataFrame

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per model, subject and time, with the score."""
        index = pd.MultiIndex.from_product([self.models, self.subjects, self.times], names=["model", "subject", "time"])
        return pd.DataFrame({"score": self.scores.ravel()}, index=index).reset_index()

    def course(self, model: str) -> Float[np.ndarray, "n_subjects n_times"]:
        """Return the scores of one model.

        Raises
        ------
        BrainrdlError
            If there is no such model.
        """
        return np.asarray(self.scores[self.models.index(check_option(model, self.models, "model"))])

    def difference(self, model: str, other: str) -> pd.DataFrame:
        """Return the difference between two models at each time, with its 95% interval over stimuli and subjects.

        Raises
        ------
        BrainrdlError
            If there is no such model.
        """
        one, two = (self.estimates[self.models.index(check_option(m, self.models, "model"))] for m in (model, other))
        found = [a.minus(b) for a, b in zip(one, two, strict=True)]  # type: ignore[arg-type]
        rows = [(model, other, t, e.value, *e.interval()) for t, e in zip(self.times, found, strict=True)]
        return pd.DataFrame(rows, columns=["model", "other", "time", "difference", "low", "high", "p"])

    def clusters(self, model: str, other: str | None = None, **options: Any) -> ClusterTest:
        """Test when a model's score differs from 0, or from that of another model, by clusters of times.

        Parameters
        ----------
        model, other : str
            Names of models.
        **options
            Options of `cluster_test`.

        Returns
        -------
        ClusterTest
            Its table of clusters has the columns start and end, in seconds.

        Raises
        ------
        BrainrdlError
            If there is no such model, or there are fewer than 2 subjects.

        Notes
        -----
        The test is over subjects, for these stimuli. A cosine is above 0 for any two RDMs of positive values: compare
        two models, or use a comparator that subtracts the mean.
        """
        test = cluster_test(self.course(model) - (0.0 if other is None else self.course(other)), **options)
        inside = [self.times[test.labels == k] for k in test.clusters["cluster"]]
        spans = {"start": [float(t.min()) for t in inside], "end": [float(t.max()) for t in inside]}
        return ClusterTest(**(vars(test) | {"clusters": test.clusters.assign(**spans)}))

    def latencies(self, kind: Kind = "onset", **options: Any) -> pd.DataFrame:
        """Return the latency of each model, and the difference between each two, with jackknife intervals.

        Parameters
        ----------
        kind : {"onset", "peak"}
        **options
            Options of `brainrdl.inference.latency`: fraction, baseline, window.

        Returns
        -------
        pandas.DataFrame
            Columns model, other (missing for a single latency), kind, latency (or difference, in seconds), error, low,
            high, p.

        Raises
        ------
        BrainrdlError
            For the same reasons as `brainrdl.inference.latency`.
        """
        rows: list[tuple[Any, ...]] = [
            (model, None, kind, *latency(self.course(model), self.times, kind, **options)) for model in self.models
        ]
        for k, model in enumerate(self.models):
            for other in self.models[k + 1 :]:
                courses = self.course(model), self.course(other)
                rows.append((model, other, kind, *latency_difference(*courses, self.times, kind, **options)))
        return pd.DataFrame(rows, columns=list(LATENCIES))


def score_movie(
    models: RDMs, movie: RDMs, comparator: str = "corr", *, by: str = "stimulus", intervals: bool = True
) -> TimeCourses:
    """Score models against an RDM movie: model x subject x time.

    Parameters
    ----------
    models : rsatoolbox.rdm.RDMs
        RDMs of models or layers, named by the rdm descriptor name, model, layer or roi, the first whose values differ.
    movie : rsatoolbox.rdm.RDMs
        RDMs with the rdm descriptor ``time`` and, for several subjects, ``subject``, of the same conditions, in any
        order.
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.
    by : str
        Pattern descriptor that names the conditions.
    intervals : bool
        Whether to compute intervals over stimuli and subjects at each time, which takes most of the time.

    Returns
    -------
    TimeCourses

    Raises
    ------
    BrainrdlError
        If the movie has no times, RDMs differ in another descriptor than time and subject, a subject lacks a time, the
        conditions differ, or the comparator is unknown.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> rng = np.random.default_rng(0)
    >>> model, noise = rng.random(45), rng.random((10, 3, 45))  # 10 conditions; 10 subjects, 3 times
    >>> noise[:, 1] += model
    >>> labels = {"time": [0.0, 0.1, 0.2] * 10, "subject": [f"s{k // 3}" for k in range(30)]}
    >>> movie = from_array(noise.reshape(30, 45), list("abcdefghij"), descriptors=labels)
    >>> courses = score_movie(from_array(model, list("abcdefghij")), movie)
    >>> courses.summary.loc[courses.summary["p"] < 0.01, "time"].tolist()
    [0.1]
    """
    check_option(comparator, SIMILARITIES, "comparator")
    models, movie = align(models, movie, by)
    if intervals and models.n_cond < MIN_CONDITIONS:
        refuse(
            f"intervals need at least {MIN_CONDITIONS} conditions, got {models.n_cond}; set {arg('intervals', False)} "
            "for scores alone"
        )
    labels, shown = _labels(models), to_tensor(models, dtype=torch.float64)
    for label, unknown in zip(labels, shown.isnan().sum(-1).tolist(), strict=True):
        if unknown:
            refuse(
                f"model {label!r} has {unknown} unknown (NaN) pairs; all models are compared on the same pairs, so "
                "leave out the model, or these conditions"
            )
    found = _movie(movie, by)
    compare, similarity = comparison_of(comparator), SIMILARITIES[comparator]
    scores = np.full((len(labels), len(found.subjects), len(found.times)), np.nan)
    estimates: list[list[Dyadic | Bare]] = [[] for _ in labels]
    rows = []
    for t, rdms in enumerate(found.rdms):
        inference = DyadicInference(found.conditions, len(rdms)) if intervals else None
        of_time = _of_time(inference, FoldRDMs(found.conditions, rdms), shown, compare, similarity)
        for k, (values, estimate) in enumerate(of_time):
            scores[k, :, t] = values
            estimates[k].append(estimate)
        ceilings = Agreement.of(rdms, comparator).ceiling_for_subjects(), *noise_ceiling(rdms, comparator)
        for k, label in enumerate(labels):
            interval = of_score(estimates[k][t].interval(), comparator)
            rows.append((k, t, label, found.times[t], estimates[k][t].value, *interval, *ceilings, len(rdms)))
    summary = pd.DataFrame([row[2:] for row in sorted(rows, key=lambda row: row[:2])], columns=list(SUMMARY))
    return TimeCourses(comparator, labels, found.subjects, found.times, scores, estimates, summary)


def _of_time(
    inference: DyadicInference | None, fold: FoldRDMs, shown: Tensor, compare: Compare, similarity: Any
) -> list[tuple[Float[np.ndarray, " n_subjects"], Dyadic | Bare]]:
    """Score of each model with each subject, and its mean."""
    if inference is None:
        scores = compare(shown[:, None], fold.rdms).numpy()
        return [(values, Bare(float(np.nanmean(values)))) for values in scores]
    parts = inference.of_subjects(fold, shown, range(len(fold.rdms)), compare, similarity)
    found = []
    for of_model in zip(*parts, strict=True):
        values = np.array([float(part.found.value[0]) for part in of_model])
        known = values[~np.isnan(values)]
        mean = float(known.mean()) if len(known) else float("nan")
        found.append((values, inference.join(mean, of_model) if len(known) else Bare(mean)))
    return found


def _labels(models: RDMs) -> tuple[str, ...]:
    for key in _NAMES:
        labels = tuple(map(str, models.rdm_descriptors.get(key, ())))
        if labels and len(set(labels)) == len(labels):
            return labels
    return tuple(f"model {k + 1}" for k in range(models.n_rdm))


def _movie(movie: RDMs, by: str) -> _Movie:
    if "time" not in movie.rdm_descriptors:
        known = [key for key in movie.rdm_descriptors if key != "index"]
        refuse(
            f"the movie has no rdm descriptor 'time' (it has {quote(known)}); compute RDMs of time points "
            "with calc_rdm, or add the times of the RDMs"
        )
    grouped = groups(movie, where="the movie")
    if others := [key for key in grouped.target_by if key != "time"]:
        refuse(f"RDMs of the movie differ in {quote(others)} too; select one of each: movie.subset({others[0]!r}, ...)")
    given = np.asarray(movie.rdm_descriptors["time"], dtype=float)
    subjects = tuple(dict.fromkeys(grouped.subjects))
    place = {(subject, time): k for k, (subject, time) in enumerate(zip(grouped.subjects, given, strict=True))}
    times = np.unique(given)
    if missing := [(subject, float(time)) for subject in subjects for time in times if (subject, time) not in place]:
        refuse(f"the movie lacks RDMs of (subject, time) {quote(missing)}; select the times that all subjects have")
    rdms = to_tensor(movie, dtype=torch.float64)
    order = [[place[subject, time] for subject in subjects] for time in times]
    return _Movie(times, subjects, names(movie, by), rdms[torch.tensor(order)])


class CrossTemporal(NamedTuple):
    """Similarity of RDMs at each two times.

    Attributes
    ----------
    times : array (n_times,)
    subjects : tuple of str
    similarities : array (n_subjects, n_times, n_times)
        ``[s, t, u]`` is of the RDM of subject s at time t; between subjects, with the mean RDM of the others at time u.

    Examples
    --------
    >>> CrossTemporal(np.zeros(2), ("s1",), np.ones((1, 2, 2))).similarities.shape
    (1, 2, 2)
    """

    times: Float[np.ndarray, " n_times"]
    subjects: tuple[str, ...]
    similarities: Float[np.ndarray, "n_subjects n_times n_times"]


def cross_temporal(
    movie: RDMs, comparator: str = "corr", *, subjects: Between = "between", by: str = "stimulus"
) -> CrossTemporal:
    """Compare the RDMs of each two times, to see which geometries last or come back.

    Parameters
    ----------
    movie : rsatoolbox.rdm.RDMs
        As in `score_movie`.
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.
    subjects : {"between", "within"}
        Compare each subject with the mean of the others (rescaled as for a noise ceiling), which no noise makes
        similar; or with itself, where noise that two times share, and filters, make neighbouring times similar.
    by : str
        Pattern descriptor that names the conditions.

    Returns
    -------
    CrossTemporal
        ``cluster_test(found.similarities)`` tests it over subjects.

    Raises
    ------
    BrainrdlError
        For the same reasons as `score_movie`, and for one subject that is compared between subjects.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> rng = np.random.default_rng(0)
    >>> labels = {"time": [0.1, 0.2] * 4, "subject": [f"s{k // 2}" for k in range(8)]}
    >>> movie = from_array(rng.random((8, 28)), list("abcdefgh"), descriptors=labels)
    >>> cross_temporal(movie, subjects="within").similarities[0].diagonal().round(6).tolist()
    [1.0, 1.0]
    """
    check_option(comparator, SIMILARITIES, "comparator")
    check_option(subjects, get_args(Between), "subjects")
    found, compare = _movie(movie, by), comparison_of(comparator)
    if subjects == "between" and len(found.subjects) < 2:
        refuse(f"{named('subjects')} 'between' needs at least 2 subjects; use {arg('subjects', 'within')} for one")
    n_times, n_subjects, _ = found.rdms.shape
    similarities = np.empty((n_subjects, n_times, n_times))
    others = found.rdms
    if subjects == "between":
        others = torch.stack([means_of_others(rdms, SIMILARITIES[comparator].poolable) for rdms in found.rdms])
    for s in range(n_subjects):
        own, other = found.rdms[:, s], others[:, s]
        similarities[s] = torch.stack([compare(rdm, other) for rdm in own]).numpy()
    return CrossTemporal(found.times, found.subjects, similarities)
