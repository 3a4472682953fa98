"""The figures of a report, each with its caption and its alternative text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from brainrdl import plot
from brainrdl._core.errors import quote, refuse
from brainrdl._core.terms import AGAINST_LABELS, similarity_label
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.plot.training_curves import CURVES
from brainrdl.rdms.by_name import names
from brainrdl.rdms.conversion import from_tensor, to_tensor
from brainrdl.reporting.run import SHOWN, Run, categories_of, comparators_of, rows_of, shown_keys, students_of
from brainrdl.reporting.wording import counted, number, percent, who_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs
_SPARSE = 0.6

_TITLE = 28  # characters that fit above a panel


@dataclass(frozen=True)
class Drawing:
    """A figure with its file name, the section it stands in, its alternative text and its caption."""

    name: str
    section: str
    figure: Figure
    alt: str
    caption: str


def drawings_of(run: Run) -> Iterator[Drawing]:
    if run.evaluation is not None:
        yield _scores_drawing(run.evaluation.summary)
        for key in shown_keys(run.evaluation.summary)[:SHOWN]:
            yield from _rdm_drawings(run, run.evaluation, key)
    yield from _training_drawings(run)


def _scores_drawing(summary: pd.DataFrame) -> Drawing:
    comparator = comparators_of(summary)[0]
    table = summary[summary["comparator"] == comparator]
    kinds = [against for against in AGAINST_LABELS if (table["against"] == against).any()]
    n_rows = max(int((table["against"] == against).sum()) for against in kinds) + table["target"].nunique()
    figure = _new_figure(9.4 if len(kinds) > 1 else 6.4, 1.4 + 0.27 * n_rows)
    axes = figure.subplots(1, len(kinds), squeeze=False)[0]
    for ax, against in zip(axes, kinds, strict=True):
        plot.scores(table, comparator, against, ax)
    labels = [[tick.get_text() for tick in ax.get_yticklabels()] for ax in axes]
    if len(kinds) > 1 and labels[0] == labels[1]:
        axes[1].set_yticklabels([])
    return Drawing("scores", "scores", figure, _scores_alt(table, comparator, kinds), _scores_caption(table, kinds))


def _scores_alt(table: pd.DataFrame, comparator: str, kinds: Sequence[str]) -> str:
    parts = []
    for against in kinds:
        rows = rows_of(table, against=against)[:12]
        told = "; ".join(f"{who_of(row['student'], row['layer'])} {number(row['score'])}" for row in rows)
        parts.append(f"{similarity_label(comparator)} with {AGAINST_LABELS[against]}: {told}.")
    return " ".join(parts)


def _scores_caption(table: pd.DataFrame, kinds: Sequence[str]) -> str:
    told = {
        "subjects": "against single subjects, with the leave-one-subject-out noise ceiling (grey band)",
        "mean": "against the subjects’ mean RDM, with the reliability of that mean (grey line)",
    }
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
        f"Scores on held-out stimuli {'; and '.join(told[kind] for kind in kinds)}. Bars are 95% intervals; "
        f"{n_stimuli}, {n_subjects}, {n_folds}, {n_seeds}."
    )


def _rdm_drawings(run: Run, evaluation: Evaluation, key: tuple[str, str, str]) -> Iterator[Drawing]:
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
    grey = f"Grey: never held out together ({percent(1 - known)})."
    share = "All pairs were held out together." if known == 1 else grey
    yield _pair_drawing("rdms", key, both, groups, f"As ranks: {shown}. {share}")
    if known < _SPARSE and groups:
        means = f"Averaged over the pairs of each two categories, number of stimuli in brackets: {shown}, as ranks."
        yield _pair_drawing("categories", key, both, groups, means, cells="groups")
    figure = _new_figure(4.6, 4.1)
    plot.pairs(*both, figure.subplots(), groups)
    caption = f"Dissimilarity of each held-out pair in {who} and in {target}."
    yield Drawing(f"pairs-{_slug(*key)}", "pairs", figure, f"Scatter plot. {caption}", caption)


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
    figure = _new_figure(9.4, 3.2)
    plot.rdm_pair(*both, groups, cells=cells, titles=(who, key[2]), figure=figure)
    return Drawing(f"{name}-{_slug(*key)}", "rdms", figure, f"Three matrices. {caption}", caption)


def _average(rdms: RDMs, wanted: Mapping[str, str], measure: str = "") -> RDMs:
    """Mean over the RDMs with these descriptors (seeds, left-out subjects), each pair over those that hold it."""
    described = {key: value for key, value in wanted.items() if key in rdms.rdm_descriptors}
    chosen = [all(str(rdms.rdm_descriptors[k][i]) == v for k, v in described.items()) for i in range(rdms.n_rdm)]
    if not any(chosen):
        refuse(f"the evaluation holds no RDM of {quote(wanted.values())}, though its summary has scores of it")
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
            continue  # nothing was trained, or it was not looked at
        figure, label = _new_figure(7.4, 4.0), "RDM correlation (Pearson)"
        plot.history(own, figure.subplots(), student=student, best_step=run.best_step, similarity=label)
        who = f" of {student}" if student and len(known) > 1 else ""
        caption = (
            f"Training{who}: RDM correlation (mean over layers), and loss as means over steps.{_marks(own, curves)}"
        )
        slug = f"training-{_slug(student)}" if student else "training"
        yield Drawing(slug, "training", figure, f"Line plot. {caption}", caption)


def _marks(history: pd.DataFrame, curves: Sequence[str]) -> str:
    """Say what is drawn beside the curves."""
    several = any(column in history and history[column].nunique() > 1 for column in ("seed", "fold"))
    lines = " Thin lines are single runs." if several else ""
    return lines + (" Circles mark the best step of a run." if "validation_similarity" in curves else "")


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="compressed")


def _slug(*words: str) -> str:
    return "-".join("".join(c if c.isalnum() or c in "_." else "_" for c in word) for word in words if word)
