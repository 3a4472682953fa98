"""The figures of a report, each with its caption and its alternative text.

A new figure is a function ``(run) -> drawings`` with a line in `DRAWINGS`; it says in which `Section` it belongs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from string import ascii_uppercase
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from brainrdl import plot
from brainrdl._core.errors import BrainrdlError, check_option, quote, refuse
from brainrdl._core.files import slug
from brainrdl._core.rows import Against, Role
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.plot.arrangement import layout_of, stored_folds
from brainrdl.plot.condition_maps import MOST_STRONG, USUAL_STRONG
from brainrdl.plot.student_teacher import MOST_FOLDS
from brainrdl.plot.training_curves import CURVES
from brainrdl.rdms.by_name import names
from brainrdl.rdms.conversion import from_tensor, to_tensor
from brainrdl.reporting.hover import Hover, Panel
from brainrdl.reporting.run import SHOWN, Run, categories_of, comparators_of, kinds_of, rows_of, shown_keys, students_of
from brainrdl.reporting.wording import counted, number, percent, who_of
from brainrdl.similarity.comparators import label_of
from brainrdl.stimuli.named_images import Stimuli

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs
_SPARSE = 0.6

NARROW = 3.4  # inches, the width of a phone

_TITLE = 28  # characters that fit above a panel

_MOST_MAPPED = 120  # conditions on a map with images; more would hide each other


class Section(StrEnum):
    """The sections of the page that show figures, in their order, with their headings."""

    heading: str

    SCORES = "scores", "Scores on held-out stimuli"
    RDMS = "rdms", "The RDMs"
    TRAINING = "training", "Training"
    PAIRS = "pairs", "Pair by pair"

    def __new__(cls, value: str, heading: str) -> Section:
        section = str.__new__(cls, value)
        section._value_ = value
        section.heading = heading
        return section


@dataclass(frozen=True)
class Drawing:
    """A figure with its file name, its section of the page, its alternative text and its caption.

    `narrow` is a form for phones; `hover` has the values of the cells of RDMs, for the figure and its form for phones.
    """

    name: str
    section: Section
    figure: Figure
    alt: str
    caption: str
    narrow: Figure | None = None
    hover: Hover | None = None

    def __post_init__(self) -> None:
        check_option(self.section, [section.value for section in Section], "section of the report")


def drawings_of(run: Run) -> Iterator[Drawing]:
    for draw in DRAWINGS:
        yield from draw(run)


def _score_drawings(run: Run) -> Iterator[Drawing]:
    if run.evaluation is None:
        return
    summary = run.evaluation.summary
    comparator = comparators_of(summary)[0]
    table = summary[summary["comparator"] == comparator]
    kinds = kinds_of(table)
    n_rows = max(int((table["against"] == against.value).sum()) for against in kinds) + table["target"].nunique()
    figure = new_figure(9.4 if len(kinds) > 1 else 6.4, 1.4 + 0.27 * n_rows)
    axes = figure.subplots(1, len(kinds), squeeze=False)[0]
    for ax, against in zip(axes, kinds, strict=True):
        plot.scores(table, comparator, against.value, ax)
    labels = [[tick.get_text() for tick in ax.get_yticklabels()] for ax in axes]
    if len(kinds) > 1 and labels[0] == labels[1]:
        axes[1].set_yticklabels([])
    alt, caption = _scores_alt(table, comparator, kinds), _scores_caption(table, kinds)
    yield Drawing("scores", Section.SCORES, figure, alt, caption, _narrow_scores(table, comparator, kinds, n_rows))


def _narrow_scores(table: pd.DataFrame, comparator: str, kinds: Sequence[Against], n_rows: int) -> Figure:
    """Draw the scores for a phone: panels below each other, and each name above its point."""
    figure = new_figure(NARROW, (0.6 + 0.4 * n_rows) * len(kinds))
    for ax, against in zip(figure.subplots(len(kinds), squeeze=False)[:, 0], kinds, strict=True):
        name_above(plot.scores(table, comparator, against.value, ax, legend=False))
    return figure


def name_above(ax: Axes) -> None:
    """Write the name of each row above it, which leaves the width of a phone to the values."""
    for y, tick in enumerate(ax.get_yticklabels()):
        weight, across = tick.get_fontweight(), ax.get_yaxis_transform()
        ax.text(0.01, y - 0.38, tick.get_text(), transform=across, va="center", fontsize=8, fontweight=weight)
    ax.set_yticklabels([])
    ax.xaxis.label.set_fontsize(8)
    ax.set_ylim(ax.get_ylim()[0], -0.8)


def _scores_alt(table: pd.DataFrame, comparator: str, kinds: Sequence[Against]) -> str:
    parts = []
    for against in kinds:
        rows = rows_of(table, against=against.value)[:12]
        scores = "; ".join(f"{who_of(row['student'], row['layer'])} {number(row['score'])}" for row in rows)
        parts.append(f"{label_of(comparator)} with {against.label}: {scores}.")
    return " ".join(parts)


_SHOWN_CEILING = {
    Against.SUBJECTS: "against single subjects, with the leave-one-subject-out noise ceiling (grey band)",
    Against.MEAN: "against the subjects’ mean RDM, with the ceiling for the mean RDM (grey line)",
}


def _scores_caption(table: pd.DataFrame, kinds: Sequence[Against]) -> str:
    n_stimuli, n_subjects, n_folds, n_seeds = (
        counted(int(table[f"n_{what}"].max()), one, many)
        for what, one, many in (
            ("stimuli", "stimulus", "stimuli"),
            ("subjects", "subject", "subjects"),
            ("folds", "fold", "folds"),
            ("seeds", "seed", "seeds"),
        )
    )
    return (
        f"Scores on held-out stimuli {'; and '.join(_SHOWN_CEILING[kind] for kind in kinds)}. Bars are 95% intervals; "
        f"{n_stimuli}, {n_subjects}, {n_folds}, {n_seeds}."
    )


def _rdm_drawings(run: Run) -> Iterator[Drawing]:
    if run.evaluation is not None:
        for key in shown_keys(run.evaluation.summary)[:SHOWN]:
            yield from drawings_of_student(run, run.evaluation, key)


def drawings_of_student(run: Run, evaluation: Evaluation, key: tuple[str, str, str]) -> Iterator[Drawing]:
    wanted = dict(zip(("student", "layer", "target"), key, strict=True))
    who, target, groups = who_of(*key[:2]), key[2], categories_of(evaluation)
    teacher = _average(evaluation.teacher, {"target": target})
    both = (_average(evaluation.students, wanted, run.dissimilarity), teacher)
    known = float(np.isfinite(both[0].get_vectors() + both[1].get_vectors()).mean())
    if not known:
        return
    seeds = list(dict.fromkeys(evaluation.scores["seed"]))
    mean = f", mean over {len(seeds)} seeds" if len(seeds) > 1 else ""
    shown = f"held-out RDM of {who}{mean}; RDM of {target}, mean over subjects; and their difference"
    first = (_of_seed(evaluation, wanted, seeds[0], run.dissimilarity), teacher)
    if known < _SPARSE and (folds := _folds_of(first[0])) is not None:
        mean = f" of seed {seeds[0]} (the first of {len(seeds)})" if len(seeds) > 1 else ""
        yield _fold_drawing(key, first, groups, folds, f"{who}{mean}")
    else:
        grey = f"Light grey: pairs that were never held out together ({percent(1 - known)})."
        share = "All pairs were held out together." if known == 1 else grey
        hover = _hover_of_pair(both, groups, f"student, {who}", f"teacher, {target}")
        words = f"Ranks of dissimilarities: {shown}. {share}"
        yield replace(_pair_drawing("rdms", key, both, groups, words), hover=hover)
    if known < _SPARSE and groups:
        means = (
            f"Ranks of dissimilarities, averaged over the stimulus pairs of each pair of categories: {shown}. "
            "Numbers of stimuli are in brackets."
        )
        yield _pair_drawing("categories", key, both, groups, means, cells="groups")
    figure = new_figure(4.6, 4.1)
    plot.pairs(*both, figure.subplots(), groups)
    caption = f"Dissimilarity of each held-out pair in {who} and in {target}."
    yield Drawing(f"pairs-{slug(*key)}", Section.PAIRS, figure, f"Scatter plot. {caption}", caption)
    stimuli = run.stimuli
    if stimuli is not None and stimuli.has_images and set(names(both[0])) <= set(stimuli.names):
        yield from _drawings_with_images(stimuli, evaluation, key, both)


def _of_seed(evaluation: Evaluation, wanted: Mapping[str, str], seed: int, measure: str) -> RDMs:
    """Average over left-out subjects; keep what says which conditions are in which fold."""
    found = _average(evaluation.students, {**wanted, "seed": str(seed)}, measure)
    found.rdm_descriptors["seed"] = [seed]
    found.pattern_descriptors |= evaluation.students.pattern_descriptors
    return found


def _folds_of(student: RDMs) -> dict[str, str] | None:
    """Return the folds of a held-out RDM that can be drawn one by one; None if there are none, or too many.

    Their names are numbers as in the tables, or letters if these are not known.
    """
    try:
        folds = plot.folds_of(student)
    except BrainrdlError:  # the pairs are those of overlapping folds
        return None
    n = len(set(folds.values()))
    if not 2 <= n <= MOST_FOLDS:
        return None
    numbered = stored_folds(student) is not None
    return {name: str(fold) if numbered else ascii_uppercase[fold] for name, fold in folds.items()}


def _fold_drawing(
    key: tuple[str, str, str],
    both: tuple[RDMs, RDMs],
    groups: Mapping[str, str] | None,
    folds: Mapping[str, str],
    who: str,
) -> Drawing:
    """Draw the pairs within each fold, with the dissimilarities of both RDMs for the pointer."""
    n, target = len(set(folds.values())), key[2]
    wide, narrow = new_figure(min(9.4, 2.4 + 1.75 * n), 5.6), new_figure(NARROW, 1.3 + 1.05 * n)
    for figure, rows in ((wide, "rdms"), (narrow, "folds")):
        plot.rdm_folds(*both, folds, groups, titles=(key[0], target), figure=figure, rows=rows)
    layout = layout_of(names(both[0]), groups, "folds", folds)
    labels = (f"student, {who}", f"teacher, {target}")
    panels = [Panel(tuple(layout.order[start:stop].tolist()), labels) for _, start, stop in layout.blocks]
    matrices = {label: rdm.get_vectors()[0] for label, rdm in zip(labels, both, strict=True)}
    caption = (
        f"Ranks of dissimilarities of the pairs that were held out together, fold by fold: RDM of {who}; RDM of "
        f"{target}, mean over subjects; and their difference. Pairs of stimuli from two folds have no held-out value."
        f"{'' if stored_folds(both[0]) else ' Letters name the folds by their first stimulus.'}"
    )
    alt = f"Three matrices for each of {n} folds. {caption}"
    hover = Hover(names(both[0]), matrices, panels * 3, ranked=True)
    return Drawing(f"rdms-{slug(*key)}", Section.RDMS, wide, alt, caption, narrow, hover)


def _drawings_with_images(
    stimuli: Stimuli, evaluation: Evaluation, key: tuple[str, str, str], both: tuple[RDMs, RDMs]
) -> Iterator[Drawing]:
    """Draw the pairs that fit worst with their images; with all pairs known, also how fitting moved the images."""
    who, target, conditions = who_of(*key[:2]), key[2], names(both[0])
    before = _unfitted(evaluation, key)
    if len(conditions) <= _MOST_MAPPED and _can_be_mapped(*both, before):
        figure, narrow = new_figure(6.6, 6.8), new_figure(NARROW, 3.9)
        for one in (figure, narrow):
            plot.displacement_map(*both, one.subplots(), categories_of(evaluation), before=before, images=stimuli)
        caption = (
            f"How fitting moved the stimuli: multidimensional scaling of the held-out RDM of {who}, before (images) "
            f"and after fitting (points of the arrows). Crosses are the RDM of {target}, mean over subjects. Both maps "
            f"were moved, rotated, reflected and scaled to fit the crosses.{_what_is_faint(len(conditions))}"
        )
        yield Drawing(f"map-{slug(*key)}", Section.RDMS, figure, f"Map. {caption}", caption, narrow)
    figure, narrow = new_figure(4.6, 4.1), new_figure(NARROW, 3.6)
    for one in (figure, narrow):
        plot.worst_pairs(*both, one.subplots(), images=stimuli, titles=(key[0], target))
    listed = plot.pair_table(*both).head(8)
    pairs = "; ".join(f"{a} and {b}" for a, b in zip(listed["a"], listed["b"], strict=True))
    caption = (
        f"The held-out pairs with the largest difference of ranks between {who} and {target}, mean over subjects, the "
        "largest at the top."
    )
    yield Drawing(f"worst-{slug(*key)}", Section.PAIRS, figure, f"Dot plot. {caption} {pairs}.", caption, narrow)


def _what_is_faint(n_conditions: int) -> str:
    shown = (
        f" Images and arrows in full colour are those of the {USUAL_STRONG} stimuli that moved most; others are faint."
    )
    return shown if n_conditions > MOST_STRONG else ""


def _unfitted(evaluation: Evaluation, key: tuple[str, str, str]) -> RDMs | None:
    """Return the RDM of a student before it was fitted; None if there is none."""
    known = pd.DataFrame({what: evaluation.students.rdm_descriptors[what] for what in ("student", "base", "role")})
    base = known["base"][known["student"] == key[0]].iloc[0]
    is_known = ((known["student"] == base) & (known["role"] == Role.UNFITTED.value)).any()
    return _average(evaluation.students, {"student": base, "layer": key[1], "target": key[2]}) if is_known else None


def _can_be_mapped(*rdms: RDMs | None) -> bool:
    pairs = [np.empty(0) if one is None else one.get_vectors()[0] for one in rdms]
    return all(one.size and np.isfinite(one).all() and np.ptp(one) > 0 for one in pairs)


def _pair_drawing(
    name: str,
    key: tuple[str, str, str],
    both: tuple[RDMs, RDMs],
    groups: Mapping[str, str] | None,
    caption: str,
    cells: str = "pairs",
) -> Drawing:
    both_words = ", ".join(word for word in key[:2] if word)
    who = both_words if len(both_words) <= _TITLE else key[0]  # the caption names the layer in any case
    figure, narrow = new_figure(9.4, 3.2), new_figure(NARROW, 6.6 if groups and cells == "pairs" else 8.4)
    plot.rdm_pair(*both, groups, cells=cells, titles=(who, key[2]), figure=figure)
    plot.rdm_pair(*both, groups, cells=cells, titles=(key[0], key[2]), figure=narrow, columns=1)
    return Drawing(f"{name}-{slug(*key)}", Section.RDMS, figure, f"Three matrices. {caption}", caption, narrow)


def _hover_of_pair(both: tuple[RDMs, RDMs], groups: Mapping[str, str] | None, *labels: str) -> Hover:
    """Give both dissimilarities of a pair in each of the three panels."""
    conditions = names(both[0])
    order = tuple(layout_of(conditions, groups).order.tolist())
    matrices = {label: rdm.get_vectors()[0] for label, rdm in zip(labels, both, strict=True)}
    return Hover(conditions, matrices, [Panel(order, labels)] * 3, ranked=True)


def _average(rdms: RDMs, wanted: Mapping[str, str], measure: str = "") -> RDMs:
    """Average the RDMs with these descriptors (over seeds and left-out subjects), NaN left out."""
    described = {key: value for key, value in wanted.items() if key in rdms.rdm_descriptors}
    chosen = [all(str(rdms.rdm_descriptors[k][i]) == v for k, v in described.items()) for i in range(rdms.n_rdm)]
    if not any(chosen):
        refuse(f"the evaluation has no RDM of {quote(wanted.values())}, but its summary has scores of it")
    pairs = to_tensor(rdms, dtype=torch.float64)[torch.tensor(chosen)]
    return from_tensor(pairs.nanmean(0, keepdim=True), names(rdms), measure=measure or rdms.dissimilarity_measure)


def _training_drawings(run: Run) -> Iterator[Drawing]:
    histories = run.histories
    known = list(dict.fromkeys(histories["student"])) if "student" in histories else []
    fitted = [student for student in known if run.evaluation is None or student in students_of(run.evaluation.summary)]
    for student in fitted[:SHOWN] or [None]:
        own = histories if student is None else histories[histories["student"] == student]
        curves = [column for column in CURVES if column in own and own[column].notna().any()]
        if not curves or own["step"].nunique() < 2:
            continue  # nothing was trained, or the similarity was not measured during training
        figure, label = new_figure(7.4, 4.0), "RDM correlation (Pearson)"
        narrow = new_figure(NARROW, 4.4)
        for one, words in ((figure, label), (narrow, "RDM correlation")):
            plot.history(run, one.subplots(), student=student, best_step=run.best_step, similarity=words)  # type: ignore[arg-type]
        who = f" of {student}" if student and len(known) > 1 else ""
        caption = (
            f"Training{who}: RDM correlation (mean over layers) and loss (mean over the steps between two "
            f"evaluations).{_marks(own, curves)}"
        )
        name = slug("training", student or "")
        yield Drawing(name, Section.TRAINING, figure, f"Line plot. {caption}", caption, narrow)


def _marks(history: pd.DataFrame, curves: Sequence[str]) -> str:
    """Explain thin lines and circles, where there are any."""
    several = any(column in history and history[column].nunique() > 1 for column in ("seed", "fold", "left_out"))
    lines = " Thin lines are single runs." if several else ""
    return lines + (" Circles mark the best step of a run." if "validation_similarity" in curves else "")


DRAWINGS: tuple[Callable[[Run], Iterator[Drawing]], ...] = (_score_drawings, _rdm_drawings, _training_drawings)


def new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="compressed")
