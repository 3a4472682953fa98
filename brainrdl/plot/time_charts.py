"""Figures of scores over time, and of the similarity of each two times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from brainrdl._core.errors import check_option, refuse
from brainrdl.plot.style import (
    BLUE,
    GREEN,
    PURPLE,
    QUIET,
    VERMILION,
    axes_for,
    check_columns,
    draw_colorbar,
    explain,
    extent_of,
    in_legend,
    plain,
    rule,
    styled,
    table_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINES = ("-", "--", ":", "-.")

_COLOURS = (BLUE, VERMILION, GREEN, PURPLE)


def time_course(
    courses: Any,
    ax: Axes | None = None,
    *,
    models: Sequence[str] | None = None,
    clusters: Mapping[str, Any] | None = None,
    alpha: float = 0.05,
    label: str = "RDM similarity",
) -> Axes:
    """Draw scores over time with their intervals, the noise ceiling, and bars below where clusters are significant.

    Parameters
    ----------
    courses : TimeCourses or DataFrame
        Result of `brainrdl.inference.score_movie`, or its summary: columns model, time, score; low and high are drawn
        as bands, and ceiling_low and ceiling_high as a grey band, where they are known.
    ax : Axes, optional
        Where to draw; a new figure by default.
    models : sequence of str, optional
        Models to draw; all by default.
    clusters : mapping of model to ClusterTest or DataFrame, optional
        For each model, the result of ``courses.clusters(model)``, or a table with columns start, end, p. A bar is drawn
        for each cluster with p below `alpha`.
    alpha : float
        Level of the clusters.
    label : str
        Label of the vertical axis.

    Returns
    -------
    Axes
        Lines have the names of the models as labels; bars have the label "_clusters".

    Raises
    ------
    BrainrdlError
        If the table lacks a column, or a model is unknown.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"model": "layer 1", "time": [0.0, 0.1, 0.2], "score": [0.0, 0.2, 0.1]})
    >>> found = pd.DataFrame({"start": [0.1], "end": [0.2], "p": [0.01]})
    >>> ax = plot.time_course(table, Figure().subplots(), clusters={"layer 1": found})
    >>> [line.get_xdata().tolist() for line in ax.lines if line.get_label() == "layer 1"]
    [[0.0, 0.1, 0.2]]
    """
    table = table_of(courses, "summary", "time courses")
    check_columns(table, ("model", "time", "score"), "time courses")
    known = list(dict.fromkeys(table["model"]))
    chosen = [check_option(model, known, "model") for model in (models or known)]
    for model in clusters or {}:
        check_option(model, chosen, "clusters")
    with styled():
        ax = axes_for(ax, (6.0, 3.4))
        rule(ax, "y")
        _draw_ceiling(ax, table[table["model"] == chosen[0]])
        for k, model in enumerate(chosen):
            _draw_model(ax, table[table["model"] == model], model, *_look(k))
        ax.axhline(0, color=QUIET, linewidth=0.8)
        _draw_clusters(ax, chosen, clusters or {}, alpha)
        ax.set(xlabel="time (s)", ylabel=plain(label, 60))
        explain(ax)
    return ax


def _look(k: int) -> tuple[str, str]:
    return _COLOURS[k % len(_COLOURS)], _LINES[k // len(_COLOURS) % len(_LINES)]


def _draw_ceiling(ax: Axes, rows: pd.DataFrame) -> None:
    if {"ceiling_low", "ceiling_high"} <= set(rows) and rows["ceiling_low"].notna().any():
        ax.fill_between(
            rows["time"], rows["ceiling_low"], rows["ceiling_high"], color="#DDDDDD", linewidth=0, label="noise ceiling"
        )


def _draw_model(ax: Axes, rows: pd.DataFrame, model: str, colour: str, line: str) -> None:
    if {"low", "high"} <= set(rows) and rows["low"].notna().any():
        ax.fill_between(rows["time"], rows["low"], rows["high"], color=colour, alpha=0.2, linewidth=0)
    ax.plot(rows["time"], rows["score"], color=colour, linestyle=line, linewidth=1.6, label=in_legend(model))


def _draw_clusters(ax: Axes, models: Sequence[str], clusters: Mapping[str, Any], alpha: float) -> None:
    """Draw one row of bars per model below the scores."""
    low, high = ax.get_ylim()
    step = 0.05 * (high - low)
    rows = [model for model in models if model in clusters]
    for place, model in enumerate(rows):
        table = table_of(clusters[model], "clusters", "clusters")
        check_columns(table, ("start", "end", "p"), "clusters")
        colour, _ = _look(list(models).index(model))
        for start, end in table.loc[table["p"] < alpha, ["start", "end"]].to_numpy():
            y = low - (place + 0.5) * step
            ax.plot([start, end], [y, y], color=colour, linewidth=3, solid_capstyle="butt", label="_clusters")
    if rows:
        ax.set_ylim(low - (len(rows) + 0.5) * step, high)


def time_by_time(
    times: npt.ArrayLike,
    values: npt.ArrayLike,
    ax: Axes | None = None,
    *,
    significant: npt.ArrayLike | None = None,
    label: str = "RDM similarity",
) -> Axes:
    """Draw the similarity of each two times, with an outline around significant ones.

    Parameters
    ----------
    times : array (n_times,)
    values : array (n_times, n_times)
        For example the mean over subjects of ``cross_temporal(movie).similarities``.
    ax : Axes, optional
        Where to draw; a new figure by default.
    significant : array (n_times, n_times), bool, optional
        For example ``cluster_test(found.similarities).p < 0.05``.
    label : str
        Label of the colour scale.

    Returns
    -------
    Axes

    Raises
    ------
    BrainrdlError
        If shapes do not match.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> ax = plot.time_by_time([0.0, 0.1], [[1.0, 0.5], [0.5, 1.0]], Figure().subplots())
    >>> ax.get_xlabel()
    'time of the other RDM (s)'
    """
    at, image = np.asarray(times, dtype=float), np.asarray(values, dtype=float)
    mask = None if significant is None else np.asarray(significant, dtype=bool)
    if image.shape != (len(at), len(at)) or (mask is not None and mask.shape != image.shape):
        refuse(f"values and significant must be ({len(at)}, {len(at)}), as many as times, got {image.shape}")
    edge = extent_of(image)
    with styled():
        ax = axes_for(ax, (4.2, 3.6))
        mesh = ax.pcolormesh(
            at, at, np.ma.masked_invalid(image), cmap="PuOr_r", vmin=-edge, vmax=edge, shading="nearest"
        )
        if mask is not None and mask.any() and not mask.all():
            ax.contour(at, at, mask.astype(float), levels=[0.5], colors="black", linewidths=1)
        ax.set(xlabel="time of the other RDM (s)", ylabel="time of the RDM (s)", aspect="equal")
        draw_colorbar(ax, label, mesh)
    return ax
