"""Figures of training curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pandas as pd

from brainrdl._core.errors import check_option, quote, refuse
from brainrdl._core.rows import Role
from brainrdl.plot.style import BLUE, QUIET, VERMILION, axes_for, check_columns, explain, rule, styled, table_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
CURVES = {
    "train_similarity": ("training stimuli", BLUE, "-"),
    "validation_similarity": ("validation stimuli", VERMILION, "-"),
}


@runtime_checkable
class Trained(Protocol):
    """What has a single training history: a `FitResult`."""

    history: pd.DataFrame


@runtime_checkable
class TrainedOnFolds(Protocol):
    """What has the training histories of several fits: an `Evaluation`."""

    histories: pd.DataFrame


def history(
    history: pd.DataFrame | Trained | TrainedOnFolds,
    ax: Axes | None = None,
    *,
    student: str | None = None,
    best_step: int | None = None,
    similarity: str = "RDM similarity",
    loss: bool = True,
) -> Axes:
    """Draw training curves: RDM similarity on training and validation stimuli, and the loss below.

    With several runs (folds, seeds) each run is a thin line and their mean a thick line, up to the last step that all
    runs reached. A circle marks the step with the highest validation similarity, whose weights are kept or whose number
    is the chosen number of steps. If inner folds chose the number of steps, a run is the mean of its inner folds.

    Parameters
    ----------
    history : DataFrame, FitResult or Evaluation
        `FitResult.history` or `Evaluation.histories`, or the result itself: columns step, and any of train_similarity,
        validation_similarity, loss; the columns student, role, seed, fold and inner (-1: no inner fold) identify
        runs. Similarities are NaN at steps without an evaluation. A loss is the mean over the steps since the previous
        evaluation and is drawn as a horizontal line over those steps.
    ax : Axes, optional
        Where to draw the similarities; a new figure by default. The loss is drawn in the lower quarter of this area.
    student : str, optional
        Draw the runs of this student; by default the first one with role "student", otherwise the first in the table.
    best_step : int, optional
        The step to mark; by default the step of each run with the highest validation similarity (none without
        validation).
    similarity : str
        Label of the vertical axis.
    loss : bool
        Whether to draw the loss.

    Returns
    -------
    Axes
        Of the similarities. Lines have the labels "training stimuli" and "validation stimuli".

    Raises
    ------
    BrainrdlError
        If the table is empty, has none of the curves, or has no runs of `student`.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"step": [0, 10, 20], "train_similarity": [0.1, 0.3, 0.5],
    ...                       "validation_similarity": [0.1, 0.2, 0.15], "loss": [0.9, 0.7, 0.5]})
    >>> ax = plot.history(table, Figure().subplots())
    >>> [line.get_xdata().tolist() for line in ax.lines if line.get_label() == "best step"]
    [[10.0]]
    """
    history = table_of(history, "histories", "history")
    check_columns(history, ("step",), "history")
    runs = _runs(history, student)
    curves = [curve for curve in CURVES if any(_has(run, curve) for run in runs)]
    if not curves:
        refuse(f"the history has no similarity: columns {quote(history.columns)}, expected any of {quote(CURVES)}")
    with styled():
        ax = axes_for(ax, (6.0, 3.6))
        for curve in curves:
            _draw_curve(ax, runs, curve, *CURVES[curve])
        _mark_best(ax, runs, curves[-1], best_step)
        _dress_history(ax, similarity)
        if loss and any(_has(run, "loss") for run in runs):
            _draw_loss(ax, runs)
    return ax


def _runs(history: pd.DataFrame, student: str | None) -> list[pd.DataFrame]:
    if "student" in history:
        known = list(dict.fromkeys(history["student"]))
        fitted = history[history["role"] == Role.STUDENT.value] if "role" in history else history
        student = student or next(iter(fitted["student"]), known[0])
        history = history[history["student"] == check_option(student, known, "student")]
    keys = [key for key in ("seed", "fold", "left_out") if key in history and history[key].nunique() > 1]
    parts = [part for _, part in history.groupby(keys, sort=False)] if keys else [history]
    return [_over_inner_folds(part).sort_values("step", kind="stable") for part in parts]


def _over_inner_folds(run: pd.DataFrame) -> pd.DataFrame:
    """Average over inner folds; a run without inner folds stays as it is."""
    if "inner" not in run or not (run["inner"] >= 0).any():
        return run
    inner = run[run["inner"] >= 0]
    return _mean_over(inner, inner["inner"].nunique()).reset_index()


def _mean_over(runs: pd.DataFrame, n_runs: int) -> pd.DataFrame:
    """Average at the steps that all runs have: a mean over changing sets of runs would jump."""
    together = runs.groupby("step")
    return together.mean(numeric_only=True)[together.size() == n_runs]


def _has(run: pd.DataFrame, column: str) -> bool:
    return column in run and bool(run[column].notna().any())


def _draw_curve(
    ax: Axes, runs: Sequence[pd.DataFrame], column: str, label: str, color: str, linestyle: str, **more: Any
) -> None:
    parts = [run.loc[run[column].notna(), ["step", column]] for run in runs if _has(run, column)]
    one_look = max(map(len, parts)) == 1  # a line needs two
    style: dict[str, Any] = {"color": color, "linestyle": linestyle, "marker": "." if one_look else None, **more}
    if len(parts) == 1:
        ax.plot(parts[0]["step"], parts[0][column], linewidth=2, label=label, **style)
        return
    for part in parts:
        ax.plot(part["step"], part[column], linewidth=0.8, alpha=0.35, label=f"_one {label}", **style)
    mean = _mean_over(pd.concat(parts), len(parts))[column]
    ax.plot(mean.index, mean, linewidth=2.4, label=f"{label} (mean, {len(parts)} runs)", **style)


def _mark_best(ax: Axes, runs: Sequence[pd.DataFrame], curve: str, best_step: int | None) -> None:
    label = "best step"
    if best_step is None and curve == "train_similarity":
        return  # without validation the weights of the last step are kept
    for run in runs:
        known = run.loc[run[curve].notna(), ["step", curve]].reset_index(drop=True)
        at = known if best_step is None else known[known["step"] == best_step]
        if at.empty:
            continue
        best = at.iloc[int(at[curve].to_numpy().argmax())]
        size = 6.5 if len(runs) == 1 else 4.5
        style: dict[str, Any] = {
            "color": CURVES[curve][1],
            "markerfacecolor": "white",
            "markersize": size,
            "markeredgewidth": 1.3,
        }
        ax.plot([best["step"]], [best[curve]], marker="o", linestyle="none", zorder=4, label=label, **style)
        label = "_best step"


def _dress_history(ax: Axes, similarity: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set(xlabel="step", ylabel=similarity)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    rule(ax, "y")
    ax.margins(x=0.02)
    explain(ax)


def _draw_loss(ax: Axes, runs: Sequence[pd.DataFrame]) -> None:
    strip = _strip_below(ax)
    # The first loss is the mean since the first evaluation, which has no loss itself: the line begins there.
    since_look = [run.assign(loss=run["loss"].bfill(limit=1)) for run in runs if _has(run, "loss")]
    _draw_curve(strip, since_look, "loss", "loss", QUIET, "-", drawstyle="steps-pre")
    strip.set(xlabel="step", ylabel="loss")
    rule(strip, "y")
    ax.set_xlabel("")
    ax.tick_params(axis="x", labelbottom=False)
    ax.figure.align_ylabels([ax, strip])


def _strip_below(ax: Axes) -> Axes:
    """Make a second axes in the lower quarter of the area of `ax`."""
    place = ax.get_subplotspec()
    if place is None:
        return ax.inset_axes((0.0, -0.46, 1.0, 0.4), sharex=ax)
    halves = place.subgridspec(2, 1, height_ratios=(2.6, 1))
    ax.set_subplotspec(halves[0])
    return ax.figure.add_subplot(halves[1], sharex=ax)
