"""The page of several runs side by side: their scores in one figure and one table, and in what they differ.

The runs were scored separately, so nothing here tests a difference between them; the page says so, and whether they
were scored with the same RDMs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from brainrdl import plot
from brainrdl._core.errors import refuse
from brainrdl._core.files import digest
from brainrdl._core.rows import Against, Role
from brainrdl.inference.movies import TimeCourses
from brainrdl.rdms.by_name import names
from brainrdl.rdms.conversion import to_tensor
from brainrdl.reporting.drawings import NARROW, Drawing, Section, drawings_of_student, name_above, new_figure
from brainrdl.reporting.frame import Block, Page
from brainrdl.reporting.methods import methods_of, references_of
from brainrdl.reporting.rsa_methods import methods_of_rsa, references_of_rsa
from brainrdl.reporting.rsa_source import RSA
from brainrdl.reporting.rsa_wording import limits_of_rsa
from brainrdl.reporting.run import Run, comparators_of, is_fitted, kinds_of, shown_keys
from brainrdl.reporting.tables import Table, flat, long_table, provenance_rows
from brainrdl.reporting.wording import and_joined, ceiling_sentence, limits_of, number, percent, scored, span, who_of
from brainrdl.runs.provenance import describe
from brainrdl.similarity.comparators import label_of
from brainrdl.similarity.traits import Reference

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

_MOST_SENTENCES = 4  # for each run

_MOST_ROWS = 40  # of the figure

_LONGEST = 60  # characters of a setting

_DRAWN = (Role.UNFITTED.value, Role.MODEL.value)


@dataclass(frozen=True)
class _One:
    """One run of the page: its summary in the columns of an evaluation, and the RDMs that it was scored with."""

    name: str
    source: Run | RSA

    @cached_property
    def summary(self) -> pd.DataFrame:
        if isinstance(self.source, RSA):
            found = self.source.summary.assign(role=Role.MODEL.value).rename(columns={"model": "student"})
        elif self.source.evaluation is not None:
            found = self.source.evaluation.summary
        else:
            refuse(f"{self.name!r} is a fit without held-out scores, so it cannot be shown next to other runs")
        return found[found["comparator"].isin(comparators_of(found))].assign(run=self.name)

    @property
    def shown(self) -> pd.DataFrame:
        """Rows of the result: fitted students, or the models of an RSA."""
        return self.summary if isinstance(self.source, RSA) else self.summary[is_fitted(self.summary)]

    @property
    def truth(self) -> RDMs | None:
        if isinstance(self.source, RSA):
            return self.source.rdms.get("data")
        return None if self.source.evaluation is None else self.source.evaluation.teacher

    @cached_property
    def digests(self) -> dict[str, str]:
        """Digest of the mean RDM of each target, whatever the order of its conditions."""
        if self.truth is None:
            return {}
        conditions = sorted(names(self.truth))
        pairs = to_tensor(self.truth, conditions, dtype=torch.float64).float()
        found = zip(self.truth.rdm_descriptors["target"], pairs, strict=True)
        return {str(target): digest({" ".join(conditions): rdm}) for target, rdm in found}

    @property
    def settings(self) -> Mapping[str, Any]:
        settings = describe(self.source.settings)
        return settings if isinstance(settings, Mapping) else {}


def page_of_several(sources: Mapping[str, Run | RSA | TimeCourses], title: str | None = None) -> Page:
    """Compose the page of several runs."""
    runs = []
    for name, source in sources.items():
        if isinstance(source, TimeCourses):
            refuse(f"{name!r} is an RDM movie, which has a page for itself; report it alone")
        runs.append(_One(name, source))
    table = pd.concat([one.summary for one in runs], ignore_index=True)
    comparator, against = _shared(runs)
    return Page(
        title=title,
        question=f"How do {and_joined(sources)} compare?",
        answer=list(_answer(runs, comparator, against)),
        blocks=[
            Block(
                "Scores", list(_drawings(runs, comparator, against)), [_score_table(runs, comparator, against)],
                [long_table("All scores of all runs", _first_columns(table), "summary.csv")],
            ),
            *_rdm_block(runs),
            *_difference_block(runs),
        ],
        methods=[f"{one.name}: {text}" for one in runs for text in _methods(one) if text],
        references=_references(runs),
        caveats=list(_limits(runs)),
        provenance=[(f"{one.name}: {term}", value) for one in runs for term, value in _provenance(one)],
        settings={
            f"Settings of {one.name}": json.dumps(one.settings, indent=2, ensure_ascii=False) for one in runs
        },
        simulated=any(bool(one.settings.get("simulated")) for one in runs),
    )  # fmt: skip


def _shared(runs: Sequence[_One]) -> tuple[str, Against]:
    """Choose a comparator and a reference that all runs have."""
    comparators, kinds = [comparators_of(one.summary) for one in runs], [kinds_of(one.summary) for one in runs]
    both = [name for name in comparators[0] if all(name in other for other in comparators)]
    against = [kind for kind in (Against.SUBJECTS, Against.MEAN) if all(kind in other for other in kinds)]
    if not both or not against:
        listed = "; ".join(
            f"{one.name!r} has {and_joined(names)} with {and_joined(kind.label for kind in found)}"
            for one, names, found in zip(runs, comparators, kinds, strict=True)
        )
        refuse(
            f"these runs have no kind of score in common ({listed}), so they cannot be compared; score them again with "
            "the same comparator, with `brainrdl evaluate`"
        )
    return both[0], against[0]


def _of(table: pd.DataFrame, comparator: str, against: Against) -> pd.DataFrame:
    return table[(table["comparator"] == comparator) & (table["against"] == against.value)]


# Words


def _answer(runs: Sequence[_One], comparator: str, against: Against) -> Iterator[str]:
    similarity = label_of(comparator).replace("'", "’")
    yield f"Scores are {similarity} with {against.label.replace(chr(39), '’')}."
    for one in runs:
        rows = _of(one.shown, comparator, against).sort_values("score", ascending=False, kind="stable")
        known: list[dict[Any, Any]] = rows[rows["score"].notna()].to_dict("records")
        shown = known[:_MOST_SENTENCES]
        sentences = [
            f"{who_of(row['student'], row['layer'])} reached {scored(row['score'], row['low'], row['high'])} with "
            f"{row['target']}. {ceiling_sentence(row)}"
            for row in shown
        ]
        more = [f"The table shows {len(known) - len(shown)} more scores."] if len(known) > len(shown) else []
        yield f"{one.name}: {' '.join([*sentences, *more]) or 'no score is known.'}"
    yield _same_data(runs)


def _same_data(runs: Sequence[_One]) -> str:
    """Say which scores can be compared, and that no test compares them."""
    untested = (
        "The runs were scored separately, so no difference between them was tested here. To test it, fit the students "
        "in one cross-validation, or compare the models in one RSA."
    )
    targets = [target for target in runs[0].digests if all(target in one.digests for one in runs)]
    same = [target for target in targets if len({one.digests[target] for one in runs}) == 1]
    if same:
        return f"All runs were scored with the same RDMs of {and_joined(same)} for the same stimuli. {untested}"
    return (
        "The runs were scored with different RDMs or different stimuli. Their scores are not on the same scale: "
        f"compare the shares of their ceilings, if at all. {untested}"
    )


def _methods(one: _One) -> Iterator[str]:
    yield from methods_of(one.source) if isinstance(one.source, Run) else methods_of_rsa(one.source)


def _references(runs: Sequence[_One]) -> list[Reference]:
    found = [
        references_of(one.source) if isinstance(one.source, Run) else references_of_rsa(one.source) for one in runs
    ]
    return list({reference.doi: reference for references in found for reference in references}.values())


def _limits(runs: Sequence[_One]) -> Iterator[str]:
    """Give the limits of all runs once; a limit of some runs names them."""
    owners: dict[str, list[str]] = {}
    for one in runs:
        for limit in limits_of(one.source) if isinstance(one.source, Run) else limits_of_rsa(one.source):
            owners.setdefault(limit, []).append(one.name)
    yield "No difference between runs was tested: intervals that overlap, or do not, are not a test of a difference."
    for limit, of in owners.items():
        yield limit if len(of) == len(runs) else f"{and_joined(of)}: {limit}"


def _provenance(one: _One) -> Iterator[tuple[str, str]]:
    yield from provenance_rows(one.source) if isinstance(one.source, Run) else flat(one.source.provenance)


# Figures and tables


def _drawings(runs: Sequence[_One], comparator: str, against: Against) -> Iterator[Drawing]:
    parts = [_of(one.summary, comparator, against) for one in runs]
    table = pd.concat(parts, ignore_index=True)
    table = table[is_fitted(table) | table["role"].isin(_DRAWN)]
    shown = table.head(_MOST_ROWS).copy()
    own_ceiling = shown.groupby("target")["ceiling"].transform(lambda values: values.round(6).nunique() > 1)
    shown["target"] = [
        f"{row['target']} ({row['run']})" if own else row["target"]
        for row, own in zip(shown.to_dict("records"), own_ceiling, strict=True)
    ]
    shown["student"] = [
        row["student"] if own else f"{row['run']}: {row['student']}"
        for row, own in zip(shown.to_dict("records"), own_ceiling, strict=True)
    ]
    n_rows = len(shown) + shown["target"].nunique()
    figure, narrow = new_figure(7.4, 1.4 + 0.27 * n_rows), new_figure(NARROW, 0.6 + 0.4 * n_rows)
    plot.scores(shown, comparator, against.value, figure.subplots())
    name_above(plot.scores(shown, comparator, against.value, narrow.subplots(), legend=False))
    first = f" The first {_MOST_ROWS} of {len(table)} rows are shown." if len(table) > _MOST_ROWS else ""
    ceiling = "noise ceiling (grey band)" if against == Against.SUBJECTS else "ceiling for the mean RDM (grey line)"
    caption = f"Scores of each run, with 95% intervals and the {ceiling}.{first}"
    listed = "; ".join(f"{row['student']} {number(row['score'])}" for row in shown.head(12).to_dict("records"))
    yield Drawing("runs", Section.SCORES, figure, f"Dot plot. {caption} {listed}.", caption, narrow)


def _score_table(runs: Sequence[_One], comparator: str, against: Against) -> Table:
    rows = _of(pd.concat([one.summary for one in runs], ignore_index=True), comparator, against)
    columns = [
        "run", "student", "role", "layer", "target", "score", "95% interval", "perfect model", "noise ceiling", "share",
        "stimuli", "subjects",
    ]  # fmt: skip
    records = rows.to_dict("records")
    shown = [
        [
            row["run"], row["student"], Role(row["role"]).label, row["layer"], row["target"], number(row["score"], 3),
            span(row["low"], row["high"]), number(row["ceiling"]), span(row["ceiling_lower"], row["ceiling_upper"]),
            percent(row["share"]), str(row["n_stimuli"]), str(row["n_subjects"]),
        ]
        for row in records
    ]  # fmt: skip
    marked = frozenset(k for k, row in enumerate(records) if Role(row["role"]).fitted)
    caption = f"{label_of(comparator)} with {against.label}"
    return Table(caption, columns, shown, 0, marked, _first_columns(rows), "runs.csv")


def _first_columns(table: pd.DataFrame) -> pd.DataFrame:
    return table[["run", *(column for column in table.columns if column != "run")]]


def _rdm_block(runs: Sequence[_One]) -> Iterator[Block]:
    """Show the RDMs of the first student of each run."""
    drawings: list[Drawing] = []
    for one in runs:
        if isinstance(one.source, Run) and one.source.evaluation is not None:
            (key, *_) = shown_keys(one.source.evaluation.summary)
            drawing = next(drawings_of_student(one.source, one.source.evaluation, key), None)
            if drawing is not None:
                drawings.append(replace(drawing, caption=f"{one.name}: {drawing.caption}"))
    if drawings:
        yield Block("The RDMs", drawings)


def _difference_block(runs: Sequence[_One]) -> Iterator[Block]:
    """List the settings in which runs differ; the fingerprints of their data are in the provenance."""
    flattened = [
        dict(flat({k: v for k, v in one.settings.items() if k not in ("conditions", "labels")})) for one in runs
    ]
    keys = dict.fromkeys(key for settings in flattened for key in settings)
    rows = [
        [key, *(_short(settings.get(key)) for settings in flattened)]
        for key in keys
        if len({settings.get(key) for settings in flattened}) > 1
    ]
    if rows:
        columns = ["setting", *(one.name for one in runs)]
        data = pd.DataFrame(rows, columns=columns)
        table = Table("Settings that differ", columns, rows, 0, data=data, file="settings.csv")
        yield Block("What differs", folded=[table])


def _short(value: str | None) -> str:
    text = "–" if value is None else value
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
