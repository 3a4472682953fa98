"""Figures of training curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pandas as pd

from brainrdl._core.errors import check_option, quote, refuse
from brainrdl._core.rows import Role
from brainrdl.plot.style import (
    BLUE,
    GREEN,
    PURPLE,
    QUIET,
    VERMILION,
    axes_for,
    check_columns,
    explain,
    rule,
    styled,
    table_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
CURVES = {
    "train_similarity": ("training stimuli", BLUE, "-"),
    "validation_similarity": ("validation stimuli", VERMILION, "--"),
}

_ACCURACIES = {
    "train_accuracy": ("training images", BLUE, "-"),
    "validation_accuracy": ("validation images", VERMILION, "--"),
}

_LOSSES = {"rdm_loss": ("RDM loss", GREEN, "-"), "task_loss": ("task loss", PURPLE, "--"), "loss": ("loss", QUIET, "-")}

_MONITORED = {
    "similarity": lambda run: run["validation_similarity"],
    "accuracy": lambda run: run["validation_accuracy"],
    "task loss": lambda run: -run["validation_task_loss"],
    "both": lambda run: run["validation_similarity"] + run["validation_accuracy"],
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
    task: bool = True,
) -> Axes:
    """Draw training curves: RDM similarity on training and validation stimuli, and below the task and the losses.

    With several runs (folds, seeds) each run is a thin line and their mean a thick line, up to the last step that all
    runs reached. A circle marks the step whose weights are kept: the best on the validation stimuli. If inner folds
    chose the number of steps, a run is the mean of its inner folds, and the circle is at the number of steps for which
    the student was then trained.

    Parameters
    ----------
    history : DataFrame, FitResult or Evaluation
        `FitResult.history` or `Evaluation.histories`, or the result itself: columns step, and any of train_similarity,
        validation_similarity, loss, rdm_loss, task_loss, train_accuracy, validation_accuracy; the columns student,
        role, seed, fold and inner (-1: no inner fold) identify runs. Similarities are NaN
        at steps without an evaluation. A loss is the mean over the steps since the previous
        evaluation and is drawn as a horizontal line over those steps.
    ax : Axes, optional
        Where to draw the similarities; a new figure by default. The accuracy of a task and the losses are drawn in the
        lower part of this area.
    student : str, optional
        Draw the runs of this student; by default the first one with role "student", otherwise the first in the table.
    best_step : int, optional
        The step to mark; by default that of a `FitResult`, otherwise the chosen step of each run (none without
        validation). A result says by which measure it was chosen; a table does not, and the similarity is assumed.
    similarity : str
        Label of the vertical axis.
    loss : bool
        Whether to draw the loss: with a task, of the RDM and of the task.
    task : bool
        Whether to draw the accuracy of a task, if one was trained.

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
    monitor = _monitor_of(history)
    best_step = _best_step_of(history) if best_step is None else best_step
    history = table_of(history, "histories", "history")
    check_columns(history, ("step",), "history")
    runs = _runs(history, student)
    with_task = task and any(_has(run, "task_loss") for run in runs)
    curves = [curve for curve in CURVES if any(_has(run, curve) for run in runs)]
    if not curves:
        refuse(f"the history has no similarity: columns {quote(history.columns)}, expected any of {quote(CURVES)}")
    with styled():
        ax = axes_for(ax, (6.0, 4.6 if with_task else 3.6))
        for curve in curves:
            _draw_curve(ax, runs, curve, *CURVES[curve])
        _mark_best(ax, runs, curves[-1], best_step, monitor)
        _dress_history(ax, similarity)
        accuracies = [column for column in _ACCURACIES if with_task and any(_has(run, column) for run in runs)]
        losses = _losses_of(runs) if loss else []
        _draw_strips(ax, runs, accuracies, losses)
    return ax


def _monitor_of(result: Any) -> str:
    """Return by which measure the steps of a result were chosen."""
    settings = getattr(result, "settings", None) or {}
    options = next((settings[key] for key in ("fit", "options") if isinstance(settings.get(key), dict)), settings)
    monitor = options.get("monitor", "similarity")
    return monitor if monitor in _MONITORED else "similarity"


def _best_step_of(result: Any) -> int | None:
    return None if isinstance(result, pd.DataFrame) else getattr(result, "best_step", None)


def _losses_of(runs: Sequence[pd.DataFrame]) -> list[str]:
    """Name the losses to draw: those of the RDM and of the task if both were trained, otherwise their sum."""
    parts = [column for column in ("rdm_loss", "task_loss") if any(_has(run, column) for run in runs)]
    return parts if len(parts) == 2 else ["loss"] if any(_has(run, "loss") for run in runs) else []


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
    inner, outer = run[run["inner"] >= 0], run[run["inner"] < 0]
    mean = _mean_over(inner, inner["inner"].nunique()).reset_index()
    return mean.assign(chosen=outer["step"].max()) if len(outer) else mean


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
        ax.plot(
            part["step"], part[column], linewidth=0.8, alpha=0.35, label=f"_one {label}", **style | {"linestyle": "-"}
        )
    mean = _mean_over(pd.concat(parts), len(parts))[column]
    ax.plot(mean.index, mean, linewidth=2.4, label=f"{label} (mean, {len(parts)} runs)", **style)


def _mark_best(ax: Axes, runs: Sequence[pd.DataFrame], curve: str, best_step: int | None, monitor: str) -> None:
    label = "best step"
    for run in runs:
        step = _chosen_step(run, monitor) if best_step is None else best_step
        at = run[(run["step"] == step) & run[curve].notna()]
        if step is None or at.empty:
            continue
        style: dict[str, Any] = {
            "color": CURVES[curve][1],
            "markerfacecolor": "white",
            "markersize": 6.5 if len(runs) == 1 else 4.5,
            "markeredgewidth": 1.3,
        }
        ax.plot([step], [at[curve].iloc[0]], marker="o", linestyle="none", zorder=4, label=label, **style)
        label = "_best step"


def _chosen_step(run: pd.DataFrame, monitor: str) -> float | None:
    """Return the number of steps that inner folds chose, or the step that was best on validation stimuli."""
    if "chosen" in run:
        return float(run["chosen"].iloc[0])
    needed = {"task loss": ["task_loss"], "both": ["similarity", "accuracy"]}.get(monitor, [monitor])
    if not all(_has(run, f"validation_{what}") for what in needed):
        return None  # without validation the weights of the last step are kept
    measured = _MONITORED[monitor](run)
    return float(run["step"].loc[measured.idxmax()])


def _dress_history(ax: Axes, similarity: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set(xlabel="step", ylabel=similarity)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    rule(ax, "y")
    ax.margins(x=0.02)
    explain(ax)


def _draw_strips(ax: Axes, runs: Sequence[pd.DataFrame], accuracies: Sequence[str], losses: Sequence[str]) -> None:
    """Draw the accuracy of the task and the losses below the similarities."""
    strips = _strips_below(ax, bool(accuracies) + bool(losses))
    if accuracies:
        for column in accuracies:
            _draw_curve(strips[0], runs, column, *_ACCURACIES[column])
        strips[0].set_ylabel("accuracy")
    if losses:
        for column in losses:
            # The first loss is the mean since the first evaluation, which has no loss itself: the line begins there.
            since_look = [run.assign(**{column: run[column].bfill(limit=1)}) for run in runs if _has(run, column)]
            _draw_curve(strips[-1], since_look, column, *_LOSSES[column], drawstyle="steps-pre")
        strips[-1].set_ylabel("loss")
    if len(losses) > 1:
        handles = [line for line in strips[-1].lines if not str(line.get_label()).startswith("_")]
        strips[-1].legend(
            handles,
            [_LOSSES[column][0] for column in losses],
            loc="lower left",
            bbox_to_anchor=(0, 0.95),
            frameon=False,
            ncols=2,
        )
    for above, strip in zip([ax, *strips], strips, strict=False):
        rule(strip, "y")
        strip.set_xlabel("step")
        above.set_xlabel("")
        above.tick_params(axis="x", labelbottom=False)
    if strips:
        ax.figure.align_ylabels([ax, *strips])


def _strips_below(ax: Axes, n: int) -> list[Axes]:
    """Make axes in the lower part of the area of `ax`, each 0.4 of its height."""
    place = ax.get_subplotspec()
    if place is None or n == 0:
        return [ax.inset_axes((0.0, -0.46 * k, 1.0, 0.4), sharex=ax) for k in range(1, n + 1)]
    parts = place.subgridspec(1 + n, 1, height_ratios=(2.6, *[1] * n))
    ax.set_subplotspec(parts[0])
    return [ax.figure.add_subplot(parts[k], sharex=ax) for k in range(1, n + 1)]
