"""The figures of a report, each with its caption and its alternative text.

A new figure is a function ``(run) -> drawings`` with a line in `DRAWINGS`; it says in which `Section` it belongs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from brainrdl import plot
from brainrdl._core.errors import check_option, quote, refuse
from brainrdl._core.files import slug
from brainrdl._core.rows import Against
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.plot.images import layout_of
from brainrdl.plot.margins import Margins, label_conditions
from brainrdl.plot.style import draw_colorbar, draw_image, extent_of, set_title, styled
from brainrdl.plot.training_curves import CURVES
from brainrdl.rdms.by_name import names
from brainrdl.rdms.conversion import from_tensor, to_tensor
from brainrdl.reporting.hover import Hover, Panel
from brainrdl.reporting.run import SHOWN, Run, categories_of, comparators_of, kinds_of, rows_of, shown_keys, students_of
from brainrdl.reporting.wording import counted, number, percent, who_of
from brainrdl.similarity.comparators import label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs
_SPARSE = 0.6

NARROW = 3.4  # inches, the width of a phone

_TITLE = 28  # characters that fit above a panel


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
    student = _average(evaluation.students, wanted, run.dissimilarity)
    both = (student, _average(evaluation.teacher, {"target": target}))
    known = float(np.isfinite(both[0].get_vectors() + both[1].get_vectors()).mean())
    if not known:
        return
    n_seeds = evaluation.scores["seed"].nunique()
    seeds = f", mean over {n_seeds} seeds" if n_seeds > 1 else ""
    shown = f"held-out RDM of {who}{seeds}; RDM of {target}, mean over subjects; and their difference"
    grey = f"Grey: pairs that were never held out together ({percent(1 - known)})."
    share = "All pairs were held out together." if known == 1 else grey
    yield replace(
        _pair_drawing("rdms", key, both, groups, f"Ranks of dissimilarities: {shown}. {share}"),
        narrow=_narrow_pair(both, groups, (key[0], target)),
        hover=_hover_of_pair(both, groups, f"student, {who}", f"teacher, {target}"),
    )
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
    figure = new_figure(9.4, 3.2)
    plot.rdm_pair(*both, groups, cells=cells, titles=(who, key[2]), figure=figure)
    return Drawing(f"{name}-{slug(*key)}", Section.RDMS, figure, f"Three matrices. {caption}", caption)


def _hover_of_pair(both: tuple[RDMs, RDMs], groups: Mapping[str, str] | None, *labels: str) -> Hover:
    """Give both dissimilarities of a pair in each of the three panels."""
    conditions = names(both[0])
    order = tuple(layout_of(conditions, groups).order.tolist())
    matrices = {label: rdm.get_vectors()[0] for label, rdm in zip(labels, both, strict=True)}
    return Hover(conditions, matrices, [Panel(order, labels)] * 3, ranked=True)


def _narrow_pair(both: tuple[RDMs, RDMs], groups: Mapping[str, str] | None, titles: tuple[str, str]) -> Figure:
    """Draw the ranks of both RDMs and their difference below each other."""
    ranks = _shared_ranks(*both)
    layout = layout_of(names(both[0]), groups)
    figure = new_figure(NARROW, 8.4)
    axes = figure.subplots(3, 1)
    for ax, pairs, title in zip(axes, ranks, titles, strict=False):
        one = from_tensor(torch.as_tensor(pairs)[None], names(both[0]))
        plot.rdm(one, ax, groups, 0.0, 1.0, title=title, colorbar=False)
    draw_colorbar(axes[0], "rank of dissimilarity (0-1)")
    with styled():
        square = layout.arrange(_square(ranks[0] - ranks[1]))
        draw_image(axes[2], square, "PuOr", -extent_of(square), extent_of(square))
        set_title(axes[2], "difference, first - second", _TITLE)
        label_conditions(axes[2], Margins(layout))
        draw_colorbar(axes[2], "difference of ranks")
    return figure


def _square(pairs: Float[np.ndarray, " n_pairs"]) -> Float[np.ndarray, "n n"]:
    from scipy.spatial.distance import squareform

    return np.asarray(squareform(pairs, checks=False))


def _shared_ranks(student: RDMs, teacher: RDMs) -> list[Float[np.ndarray, " n_pairs"]]:
    """Midranks from 0 to 1 among the pairs that both RDMs have; NaN elsewhere."""
    from scipy.stats import rankdata

    pairs = [rdm.get_vectors()[0].astype(float) for rdm in (student, teacher)]
    shared = np.isfinite(pairs[0]) & np.isfinite(pairs[1])
    ranks = [np.full(len(shared), np.nan) for _ in pairs]
    for found, values in zip(ranks, pairs, strict=True):
        found[shared] = (rankdata(values[shared]) - 1) / max(int(shared.sum()) - 1, 1)
    return ranks


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
            plot.history(own, one.subplots(), student=student, best_step=run.best_step, similarity=words)
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
