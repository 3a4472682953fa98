"""Figures of the scores with each subject, and of the scores in each fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainrdl._core.errors import arg, check_option, refuse
from brainrdl._core.rows import Against
from brainrdl.plot.score_tables import as_models, labels_of, of_result
from brainrdl.plot.style import (
    BLUE,
    GREEN,
    INK,
    PURPLE,
    QUIET,
    VERMILION,
    axes_for,
    check_columns,
    explain,
    in_legend,
    label_across,
    name_rows,
    one_of,
    plain,
    rule,
    styled,
    table_of,
)
from brainrdl.similarity.comparators import label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
_LOOKS = ((BLUE, "o"), (VERMILION, "v"), (GREEN, "s"), (PURPLE, "^"), (INK, "D"), (QUIET, "X"))

_COLUMNS = ("model", "layer", "target", "comparator", "subject", "score")


def subject_scores(
    scores: pd.DataFrame | Any,
    comparator: str | None = None,
    ax: Axes | None = None,
    *,
    target: str | None = None,
    models: Sequence[str] | None = None,
) -> Axes:
    """Draw the scores of models with each subject's RDM, a row for each subject, and their means.

    Parameters
    ----------
    scores : DataFrame, RSAResult or Evaluation
        A result or its `scores`: columns model (or student), layer, target, comparator, subject, score, and, of an
        evaluation, against, seed, fold, ceiling_lower, ceiling_upper. The scores of a subject in several folds and
        seeds are averaged. A result also brings its noise ceiling.
    comparator : str, optional
        Which comparator to draw; by default the first in the table.
    ax : Axes, optional
        Where to draw; by default a new figure.
    target : str, optional
        Which target to draw; by default the first in the table.
    models : sequence of str, optional
        Models or students to draw, at most 12 with their layers; by default all.

    Returns
    -------
    Axes
        One row per subject in the order of the table, and the mean over subjects in the last row. One line (points) per
        model and layer with its name as label.

    Raises
    ------
    BrainrdlError
        If the table is empty, lacks a column, or has no scores with single subjects, an option is not in it, or there
        are more than 12 models.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"model": "net", "layer": "", "target": "IT", "comparator": "corr",
    ...                       "subject": ["s1", "s2"], "score": [0.1, 0.3]})
    >>> ax = plot.subject_scores(table, ax=Figure().subplots())
    >>> [float(x) for x in ax.lines[0].get_xdata()]  # and the mean
    [0.1, 0.3, 0.2]
    """
    summary = of_result(scores, "summary")
    table, comparator, target = _rows(scores, comparator, Against.SUBJECTS.value, target, models, ("subject",))
    table = table.assign(row=table["subject"].astype(str))
    subjects = list(dict.fromkeys(table["row"]))
    bounds = _ceiling(table if summary is None else _of(as_models(summary), comparator, "subjects", target))
    with styled():
        ax = axes_for(ax, (5.6, 1.6 + 0.26 * len(subjects)))
        _draw(ax, table, subjects, [[bound] * len(subjects) for bound in bounds], comparator, Against.SUBJECTS, target)
        ax.set_ylabel("subject")
    return ax


def fold_scores(
    scores: pd.DataFrame | Any,
    comparator: str | None = None,
    against: str | None = None,
    ax: Axes | None = None,
    *,
    target: str | None = None,
    models: Sequence[str] | None = None,
) -> Axes:
    """Draw the scores of students and models in each fold of held-out stimuli, with the noise ceiling of the fold.

    Parameters
    ----------
    scores : DataFrame or Evaluation
        An `Evaluation` or its `scores`: columns student, layer, target, comparator, against, fold, score,
        ceiling_lower, ceiling_upper, and seed, subject, left_out and n_conditions, if known. The scores with several
        subjects and of several seeds are averaged.
    comparator : str, optional
        Which comparator to draw; by default the first in the table.
    against : {"subjects", "mean"}, optional
        Which comparison to draw; by default the first in the table.
    ax : Axes, optional
        Where to draw; by default a new figure.
    target : str, optional
        Which target to draw; by default the first in the table.
    models : sequence of str, optional
        Students or models to draw, at most 12 with their layers; by default all.

    Returns
    -------
    Axes
        One row per fold (and left-out subject), with its number in the table, and the mean over folds in the last row.
        One line (points) per student and layer with its name as label.

    Raises
    ------
    BrainrdlError
        If the table is empty or lacks a column, an option is not in it, or there are more than 12 students and models.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"student": "fitted", "layer": "", "target": "IT", "comparator": "corr",
    ...                       "against": "mean", "subject": None, "fold": [0, 1], "score": [0.1, 0.3],
    ...                       "ceiling_lower": 0.5, "ceiling_upper": 0.6})
    >>> ax = plot.fold_scores(table, ax=Figure().subplots())
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['fold 0', 'fold 1', 'mean']
    """
    needed = ("against", "fold", "ceiling_lower", "ceiling_upper")
    table, comparator, target = _rows(scores, comparator, against, target, models, needed)
    table = table.assign(row=_fold_names(table))
    folds = list(dict.fromkeys(table["row"]))
    bounds = [table.groupby("row")[column].mean().reindex(folds).tolist() for column in needed[2:]]
    with styled():
        ax = axes_for(ax, (5.6, 1.6 + 0.3 * len(folds)))
        _draw(ax, table, folds, bounds, comparator, Against(table["against"].iloc[0]), target)
    return ax


# Tables of scores


def _rows(
    scores: Any,
    comparator: str | None,
    against: str | None,
    target: str | None,
    models: Sequence[str] | None,
    needed: Sequence[str],
) -> tuple[pd.DataFrame, str, str]:
    """Return the scores of one target with one comparator and reference; a plain RSA has those with subjects only."""
    table = as_models(table_of(scores, "scores"))
    check_columns(table, (*_COLUMNS, *needed), "scores")
    comparator, target = one_of(table, "comparator", comparator), one_of(table, "target", target)
    if "against" in table:
        against = one_of(table, "against", against)
    found = _of(table, comparator, against, target)
    if models is not None:
        known = list(dict.fromkeys(found["model"].astype(str)))
        found = found[found["model"].astype(str).isin([check_option(name, known, "models") for name in models])]
    if found.empty:
        refuse(f"the table has no score of {target!r} with comparator {comparator!r} against {against!r}")
    found = found.assign(label=labels_of(found))
    if found["label"].nunique() > 2 * len(_LOOKS):
        refuse(
            f"{found['label'].nunique()} models and layers cannot be distinguished in one figure, which shows at most "
            f"{2 * len(_LOOKS)}; choose some with {arg('models')}"
        )
    return found, comparator, target


def _of(table: pd.DataFrame, comparator: str, against: str | None, target: str) -> pd.DataFrame:
    keep = (table["comparator"] == comparator) & (table["target"].astype(str) == target)
    return table[keep & (table["against"] == against)] if "against" in table else table[keep]


def _means(table: pd.DataFrame, rows: Sequence[str]) -> dict[str, list[float]]:
    """Return for each model the mean score of each row, NaN where it has none."""
    wide = table.groupby(["label", "row"], sort=False)["score"].mean().unstack("row")
    wide = wide.reindex(index=list(dict.fromkeys(table["label"])), columns=list(rows))
    return {str(name): values.tolist() for name, values in zip(wide.index, wide.to_numpy(float), strict=True)}


def _mean(values: Sequence[float]) -> float:
    known = np.asarray(values)[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _ceiling(table: pd.DataFrame) -> tuple[float, float]:
    if not {"ceiling_lower", "ceiling_upper"} <= set(table):
        return float("nan"), float("nan")
    return float(table["ceiling_lower"].mean()), float(table["ceiling_upper"].mean())


def _fold_names(table: pd.DataFrame) -> pd.Series[str]:
    names = "fold " + table["fold"].astype(int).astype(str)
    if "left_out" in table and table["left_out"].nunique() > 1:
        names = names + ", without " + table["left_out"].astype(str)
    return names


# Drawing


def _draw(
    ax: Axes,
    table: pd.DataFrame,
    rows: Sequence[str],
    bounds: Sequence[Sequence[float]],
    comparator: str,
    against: Against,
    target: str,
) -> None:
    """Draw the scores and the ceiling of each row, and their means in a last row."""
    low, high = ([*bound, _mean(bound)] for bound in bounds)
    _draw_band(ax, low, high, against.legend)
    _draw_models(ax, {name: [*values, _mean(values)] for name, values in _means(table, rows).items()})
    _dress(ax, [*rows, "mean"], f"{label_of(comparator)} with {against.label}: {plain(target)}")


def _draw_band(ax: Axes, low: Sequence[float], high: Sequence[float], label: str) -> None:
    """Draw the ceiling of each row: a band, or a line where both bounds are equal."""
    for row, (a, b) in enumerate(zip(low, high, strict=True)):
        if not (np.isfinite(a) and np.isfinite(b)):
            continue
        if a < b:
            ax.fill_betweenx(
                [row - 0.5, row + 0.5], a, b, color="#BDBDBD", alpha=0.55, linewidth=0, zorder=0, label=label
            )
        else:
            ax.vlines(a, row - 0.5, row + 0.5, color="#767676", linewidth=1.2, zorder=0.5, label=label)
        label = f"_{label.lstrip('_')}"


def _draw_models(ax: Axes, means: dict[str, list[float]]) -> None:
    """Draw the points of each model a bit above or below the middle of a row, so that they do not hide each other."""
    shifts = np.linspace(-0.22, 0.22, len(means)) if len(means) > 1 else [0.0]
    names = in_legend(list(means))
    for k, (name, values, shift) in enumerate(zip(names, means.values(), shifts, strict=True)):
        colour, marker = _LOOKS[k % len(_LOOKS)]
        face = colour if k < len(_LOOKS) else "white"
        style: dict[str, Any] = {"markersize": 4.6, "markerfacecolor": face, "markeredgewidth": 1.1}
        ax.plot(values, np.arange(len(values)) + shift, marker, color=colour, zorder=3, label=name, **style)


def _dress(ax: Axes, rows: Sequence[str], label: str) -> None:
    name_rows(ax, rows)
    ax.axhline(len(rows) - 1.5, color=QUIET, linewidth=0.8)
    ax.get_yticklabels()[-1].set_fontweight("bold")
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.axvline(0, color=QUIET, linewidth=0.8, zorder=0.2)
    rule(ax, "x")
    label_across(ax, label)
    explain(ax)
