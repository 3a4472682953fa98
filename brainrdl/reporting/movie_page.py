"""The page of an RDM movie: scores of models over time, and when they differ from 0 and from each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import pandas as pd

from brainrdl import plot
from brainrdl.inference.clusters import ClusterTest
from brainrdl.inference.movies import TimeCourses
from brainrdl.inference.p_values import format_p, p_equals
from brainrdl.reporting.drawings import NARROW, Drawing, Section, new_figure
from brainrdl.reporting.frame import Block, Page
from brainrdl.reporting.methods import INTERVAL_METHODS, NILI, software_text
from brainrdl.reporting.tables import Table, flat, long_table
from brainrdl.reporting.wording import and_joined, counted, number, span
from brainrdl.runs.provenance import gather_provenance
from brainrdl.similarity.comparators import label_of
from brainrdl.similarity.registry import SIMILARITIES
from brainrdl.similarity.traits import Reference

_ALPHA = 0.05

_MOST_MODELS = 6  # whose clusters are computed and written out

_MARIS = Reference(
    "Maris & Oostenveld, 2007",
    "Maris, E. & Oostenveld, R. (2007). Nonparametric statistical testing of EEG- and MEG-data. Journal of "
    "Neuroscience Methods 164:177-190.",
    "10.1016/j.jneumeth.2007.03.024",
)

_SASSENHAGEN = Reference(
    "Sassenhagen & Draschkow, 2019",
    "Sassenhagen, J. & Draschkow, D. (2019). Cluster-based permutation tests of MEG/EEG data do not establish "
    "significance of effect latency or location. Psychophysiology 56:e13335.",
    "10.1111/psyp.13335",
)


@dataclass(frozen=True)
class _Movie:
    """Time courses with the tests that the page shows: of each model, and of each pair of models."""

    courses: TimeCourses

    @property
    def has_subjects(self) -> bool:
        return len(self.courses.subjects) > 1

    @property
    def models(self) -> tuple[str, ...]:
        return self.courses.models[:_MOST_MODELS]

    @cached_property
    def against_zero(self) -> dict[str, ClusterTest]:
        """Tests against 0; none for a comparator that is above 0 for any two RDMs."""
        tested = self.has_subjects and SIMILARITIES[self.courses.comparator].centred
        return {model: self.courses.clusters(model) for model in self.models} if tested else {}

    @cached_property
    def between(self) -> dict[tuple[str, str], ClusterTest]:
        pairs = combinations(self.models, 2) if self.has_subjects else ()
        return {(one, other): self.courses.clusters(one, other) for one, other in pairs}


def movie_drawings(courses: TimeCourses) -> Iterator[Drawing]:
    """Draw the scores over time."""
    yield from _drawings(_Movie(courses))


def page_of_movie(courses: TimeCourses, title: str | None = None) -> Page:
    """Compose the page of an RDM movie."""
    movie, provenance = _Movie(courses), gather_provenance()
    models = f"the {counted(len(courses.models), 'model', 'models')}"
    return Page(
        title=title,
        question=f"When are {models} similar to the data?",
        answer=list(_answer(movie)),
        blocks=[
            Block(
                "Scores over time", list(_drawings(movie)), [*_peak_table(courses), *_cluster_table(movie)],
                [long_table("Scores at each time", courses.summary, "summary.csv"), *_subject_tables(courses)],
            )
        ],
        methods=[_methods(movie), software_text(provenance)],
        references=_references(movie),
        caveats=list(_limits(movie)),
        facts=_facts(courses),
        provenance=flat(provenance),
        versions=provenance["versions"],
    )  # fmt: skip


def _drawings(movie: _Movie) -> Iterator[Drawing]:
    courses, figure, narrow = movie.courses, new_figure(7.4, 4.2), new_figure(NARROW, 4.2)
    label = label_of(courses.comparator)
    clusters = {model: test for model, test in movie.against_zero.items() if len(test.clusters)}
    for one in (figure, narrow):
        plot.time_course(courses, one.subplots(), clusters=clusters, label=label)
    real = any((test.clusters["p"] < _ALPHA).any() for test in clusters.values())
    bars = " Bars below the curves mark clusters of times that differ from 0." if real else ""
    ceiling = " The grey band is the noise ceiling." if courses.summary["ceiling_low"].notna().any() else ""
    bands = " Coloured bands are 95% intervals over stimuli and subjects." if _has_intervals(courses) else ""
    caption = f"{label} of each model with the RDMs at each time, mean over subjects.{bands}{ceiling}{bars}"
    rows = _peaks(courses).to_dict("records")
    peaks = "; ".join(f"{row['model']} {number(row['score'])} at {_seconds(row['time'])} s" for row in rows)
    alt = f"Line plot. {caption} Highest scores: {peaks}."
    yield Drawing("courses", Section.SCORES, figure, alt, caption, narrow)


def _has_intervals(courses: TimeCourses) -> bool:
    return bool(courses.summary["low"].notna().any())


def _peaks(courses: TimeCourses) -> pd.DataFrame:
    known = courses.summary.dropna(subset=["score"])
    return known.loc[known.groupby("model", sort=False)["score"].idxmax()]


def _peak_table(courses: TimeCourses) -> Iterator[Table]:
    rows = _peaks(courses)
    columns = ["model", "time of the highest score (s)", "score", "95% interval", "perfect model", "noise ceiling"]
    shown = [
        [
            row["model"], _seconds(row["time"]), number(row["score"], 3), span(row["low"], row["high"]),
            number(row["ceiling"]), span(row["ceiling_low"], row["ceiling_high"]),
        ]
        for row in rows.to_dict("records")
    ]  # fmt: skip
    yield Table("The highest score of each model", columns, shown, 0, data=rows, file="peaks.csv")


def _found(movie: _Movie) -> pd.DataFrame:
    """All clusters: of each model, and of each pair of models, in which other is the second model."""
    tests = [(model, "", test) for model, test in movie.against_zero.items()]
    tests += [(one, other, test) for (one, other), test in movie.between.items()]
    columns = ["sign", "start", "end", "size", "mass", "p"]
    tables = [test.clusters[columns].assign(model=model, other=other) for model, other, test in tests]
    empty = pd.DataFrame(columns=[*columns, "model", "other"])
    return pd.concat([table for table in tables if len(table)], ignore_index=True) if any(map(len, tables)) else empty


def _cluster_table(movie: _Movie) -> Iterator[Table]:
    rows = _found(movie)
    if rows.empty:
        return
    columns = ["model", "compared with", "direction", "from (s)", "to (s)", "times", "sum of t", "p"]
    shown = [
        [
            row["model"], row["other"] or "0", "above" if row["sign"] > 0 else "below", _seconds(row["start"]),
            _seconds(row["end"]), str(row["size"]), number(row["mass"], 1), format_p(row["p"]),
        ]
        for row in rows.to_dict("records")
    ]  # fmt: skip
    caption = "Clusters of times, with p-values corrected for the number of times"
    yield Table(caption, columns, shown, 0, data=rows, file="clusters.csv")


def _subject_tables(courses: TimeCourses) -> list[Table]:
    return [long_table("Scores of each subject at each time", courses.table, "subjects.csv")]


# Words


def _answer(movie: _Movie) -> Iterator[str]:
    for peak in _peaks(movie.courses).head(_MOST_MODELS).to_dict("records"):
        interval = span(peak["low"], peak["high"])
        shown = "" if interval == "–" else f" (95% interval {interval})"
        text = f"The highest score of {peak['model']} is {number(peak['score'])}{shown}, at {_seconds(peak['time'])} s."
        if test := movie.against_zero.get(peak["model"]):
            text += f" {_spans(test.clusters, 'Its score was', 'from 0')}"
        yield text
    for (one, other), test in list(movie.between.items())[:_MOST_MODELS]:
        yield _spans(test.clusters, f"The score of {one} was", f"between {one} and {other}", f"that of {other}")


def _spans(clusters: pd.DataFrame, who: str, nothing: str, than: str = "0") -> str:
    """Say when a score was above or below another, as far as the clusters show it."""
    real = clusters[clusters["p"] < _ALPHA].sort_values("start")
    if real.empty:
        return f"These data do not show a difference {nothing} at any time."
    parts = [
        f"{'above' if row['sign'] > 0 else 'below'} {than} in a cluster from {_seconds(row['start'])} to "
        f"{_seconds(row['end'])} s (p {p_equals(row['p'])})"
        for row in real.to_dict("records")
    ]
    return f"{who} {and_joined(parts)}."


def _seconds(time: float) -> str:
    return f"{time:g}".replace("-", "−")


def _facts(courses: TimeCourses) -> list[tuple[str, str]]:
    times = courses.times
    return [
        ("Models", and_joined(courses.models, most=12)),
        ("Times", f"{len(times)}, from {_seconds(times[0])} to {_seconds(times[-1])} s"),
        ("Subjects", str(len(courses.subjects))),
        ("Comparator", label_of(courses.comparator)),
    ]


def _methods(movie: _Movie) -> str:
    courses = movie.courses
    reference = SIMILARITIES[courses.comparator].reference
    cited = f" ({reference.cited})" if reference else ""
    n_models = counted(len(courses.models), "model", "models")
    text = [
        f"The RDMs of {n_models} were compared with the RDM of each of "
        f"{counted(len(courses.subjects), 'subject', 'subjects')} at {len(courses.times)} times, by "
        f"{label_of(courses.comparator)}{cited}. Conditions were matched by name. Scores are means over subjects."
    ]
    if _has_intervals(courses):
        text += [
            "Intervals (95%) at each time were computed from a cluster-robust variance over stimuli, in which pairs "
            "that share a stimulus are correlated (Aronow et al., 2015), plus the jackknife variance over subjects, "
            "with degrees of freedom by Welch and Satterthwaite."
        ]
    if movie.has_subjects:
        text += ["The noise ceiling was computed by leaving out one subject at a time (Nili et al., 2014)."]
    if tests := [*movie.against_zero.values(), *movie.between.values()]:
        flips = "all flips" if tests[0].exact else f"{len(tests[0].maxima) - 1} random flips"
        text += [
            "Times were tested over subjects by clusters (Maris & Oostenveld, 2007): neighbouring times with an "
            "uncorrected p below 0.05 (two-sided) formed a cluster, whose sum of t was compared with its maximum in "
            f"{flips} of the subjects' signs."
        ]
    return " ".join(text)


def _references(movie: _Movie) -> Sequence[Reference]:
    dyadic = INTERVAL_METHODS["dyadic"] if _has_intervals(movie.courses) else None
    clusters = (_MARIS, _SASSENHAGEN) if movie.against_zero or movie.between else ()
    own = SIMILARITIES[movie.courses.comparator].reference
    return list({one.doi: one for one in (NILI, dyadic, *clusters, own) if one}.values())


def _limits(movie: _Movie) -> Iterator[str]:
    n = len(movie.courses.subjects)
    yield (
        "A high score means that a model predicts which stimuli are similar in the data at this time. It does not show "
        "that the model computes in the same way."
    )
    if not movie.has_subjects:
        yield "There is only one subject, so there is no noise ceiling and no test over subjects."
    elif 2 ** (n - 1) * _ALPHA < 1:
        yield f"With {n} subjects, no cluster can have a p below {_ALPHA:g}, because there are too few flips of signs."
    if movie.against_zero or movie.between:
        yield (
            "The p-value is of a cluster as a whole. Its first and last times are not tested, so it does not show when "
            "an effect began or ended (Sassenhagen & Draschkow, 2019)."
        )
        yield "The cluster tests generalise to other subjects, for these stimuli, not to other stimuli."
    if len(movie.against_zero) + len(movie.between) > 1:
        yield "P-values of clusters are corrected for the number of times, not for the number of models."
    if movie.has_subjects and not movie.against_zero:
        yield f"{label_of(movie.courses.comparator)} is above 0 for any two RDMs, so scores were not tested against 0."
    yield "The highest score over time is too high on average, because it was chosen."
    if len(movie.courses.models) > _MOST_MODELS:
        yield f"Only the first {_MOST_MODELS} models were tested."
