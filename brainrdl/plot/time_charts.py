"""Figures of scores over time, of models by times, and of the similarity of each two times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.lines import Line2D

from brainrdl._core.errors import check_option, refuse
from brainrdl.plot.style import (
    BLUE,
    DIVERGING,
    GREEN,
    INK,
    MISSING,
    PURPLE,
    QUIET,
    VERMILION,
    axes_for,
    check_columns,
    draw_colorbar,
    explain,
    extent_of,
    in_legend,
    label_up,
    name_rows,
    note,
    plain,
    rule,
    styled,
    table_of,
)
from brainrdl.similarity.comparators import label_of

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
    label: str | None = None,
    onsets: pd.DataFrame | None = None,
) -> Axes:
    """Draw scores over time with intervals, noise ceiling and onsets, and bars below where clusters are significant.

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
    label : str, optional
        Label of the vertical axis; by default the comparator of a result, or "RDM similarity" of a table.
    onsets : DataFrame, optional
        Result of ``courses.latencies()``: columns model, latency, low, high (and other: differences are left out). Each
        is drawn as a diamond on the line of its model, with its interval.

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
    table, chosen = _chosen(courses, models, clusters)
    with styled():
        ax = axes_for(ax, (6.0, 3.4))
        rule(ax, "y")
        _draw_ceiling(ax, table[table["model"] == chosen[0]])
        for k, (model, name) in enumerate(zip(chosen, in_legend(chosen), strict=True)):
            _draw_model(ax, table[table["model"] == model], name, *_look(k))
        ax.axhline(0, color=QUIET, linewidth=0.8)
        marks = _onsets_of(onsets, chosen)
        for model, (at, low, high) in marks.items():
            _draw_onset(ax, table[table["model"] == model], (at, low, high), _look(chosen.index(model))[0])
        _draw_clusters(ax, chosen, clusters or {}, alpha, np.unique(table["time"].to_numpy(float)))
        _explain_marks(ax, bool(clusters), bool(marks), alpha)
        ax.set_xlabel("time (s)")
        label_up(ax, plain(label or _measure(courses), 60))
        explain(ax)
    return ax


def _chosen(
    courses: Any, models: Sequence[str] | None, clusters: Mapping[str, Any] | None
) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of scores and the models to draw."""
    table = table_of(courses, "summary", "time courses")
    check_columns(table, ("model", "time", "score"), "time courses")
    known = list(dict.fromkeys(table["model"]))
    chosen = [check_option(model, known, "model") for model in (models or known)]
    for model in clusters or {}:
        check_option(model, chosen, "clusters")
    return table, chosen


def _measure(courses: Any) -> str:
    comparator = getattr(courses, "comparator", None)
    return label_of(comparator) if isinstance(comparator, str) else "RDM similarity"


def _look(k: int) -> tuple[str, str]:
    return _COLOURS[k % len(_COLOURS)], _LINES[(k + k // len(_COLOURS)) % len(_LINES)]


def _draw_ceiling(ax: Axes, rows: pd.DataFrame) -> None:
    if {"ceiling_low", "ceiling_high"} <= set(rows) and rows["ceiling_low"].notna().any():
        ax.fill_between(
            rows["time"], rows["ceiling_low"], rows["ceiling_high"], color="#DDDDDD", linewidth=0, label="noise ceiling"
        )


def _draw_model(ax: Axes, rows: pd.DataFrame, name: str, colour: str, line: str) -> None:
    if {"low", "high"} <= set(rows) and rows["low"].notna().any():
        ax.fill_between(rows["time"], rows["low"], rows["high"], color=colour, alpha=0.2, linewidth=0)
    point = "o" if len(rows) == 1 else None
    ax.plot(rows["time"], rows["score"], color=colour, linestyle=line, linewidth=1.6, marker=point, label=name)


def _onsets_of(onsets: pd.DataFrame | None, models: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """Return latency and interval of each of the models that has one."""
    if onsets is None:
        return {}
    check_columns(onsets, ("model", "latency", "low", "high"), "table of onsets")
    single = onsets[onsets["other"].isna()] if "other" in onsets else onsets
    rows = single.loc[single["latency"].notna(), ["model", "latency", "low", "high"]].itertuples(index=False)
    return {str(model): (float(at), float(low), float(high)) for model, at, low, high in rows if model in models}


def _draw_onset(ax: Axes, rows: pd.DataFrame, onset: tuple[float, float, float], colour: str) -> None:
    at, low, high = onset
    height = float(np.interp(at, rows["time"], rows["score"]))
    if np.isfinite(low) and np.isfinite(high):
        ax.hlines(height, low, high, color=INK, linewidth=1.4, zorder=4)
    style: dict[str, Any] = {"color": INK, "markerfacecolor": colour, "markersize": 5.5, "linestyle": "none"}
    ax.plot([at], [height], marker="D", zorder=5, label="_onset", **style)


def _explain_marks(ax: Axes, clusters: bool, onsets: bool, alpha: float) -> None:
    if clusters:
        ax.add_line(Line2D([], [], color=QUIET, linewidth=3, label=f"clusters with p < {alpha:g}"))
    if onsets:
        style: dict[str, Any] = {"linestyle": "none", "color": INK, "markerfacecolor": "white", "markersize": 5.5}
        ax.add_line(Line2D([], [], marker="D", label="onset with 95% interval", **style))


def _draw_clusters(
    ax: Axes, models: Sequence[str], clusters: Mapping[str, Any], alpha: float, times: npt.NDArray[np.float64]
) -> None:
    """Draw one row of bars per model below the scores; a cluster of one time is as wide as a step."""
    low, high = ax.get_ylim()
    step = 0.05 * (high - low)
    rows = [model for model in models if model in clusters]
    for place, model in enumerate(rows):
        colour, line = _look(list(models).index(model))
        for start, end in _spans(clusters, model, alpha):
            y = low - (place + 0.5) * step
            left, right = _cells_of(times, start, end) if start == end else (start, end)
            style: dict[str, Any] = {"color": colour, "linestyle": line, "linewidth": 3, "solid_capstyle": "butt"}
            ax.plot([left, right], [y, y], label="_clusters", **style)
    if rows:
        ax.set_ylim(low - (len(rows) + 0.5) * step, high)


def time_by_model(
    courses: Any,
    ax: Axes | None = None,
    *,
    models: Sequence[str] | None = None,
    clusters: Mapping[str, Any] | None = None,
    alpha: float = 0.05,
    label: str | None = None,
    onsets: pd.DataFrame | None = None,
) -> Axes:
    """Draw scores of models (layers) over time as a map, with outlines around significant clusters.

    Parameters
    ----------
    courses : TimeCourses or DataFrame
        As in `time_course`; all models have the same times.
    ax, models, clusters, alpha, onsets
        As in `time_course`.
    label : str, optional
        Label of the colour scale, as in `time_course`.

    Returns
    -------
    Axes
        One row per model, from the top; the colours are centred at 0. A diamond is an onset.

    Raises
    ------
    BrainrdlError
        If the table lacks a column, a model is unknown, or models have other times.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"model": ["conv1", "conv1", "conv2", "conv2"], "time": [0.0, 0.1] * 2,
    ...                       "score": [0, 0.2, 0.1, 0]})
    >>> ax = plot.time_by_model(table, Figure().subplots())
    >>> ax.collections[0].get_array().tolist()
    [[0.0, 0.2], [0.1, 0.0]]
    """
    table, chosen = _chosen(courses, models, clusters)
    wide = table.pivot(index="model", columns="time", values="score").loc[chosen]
    at = wide.columns.to_numpy(float)
    if len(table) != table["model"].nunique() * len(at):
        refuse("the models have different times; choose models with the same times")
    edge = extent_of(wide.to_numpy(float))
    with styled():
        ax = axes_for(ax, (6.0, 1.4 + 0.32 * len(chosen)))
        image = np.ma.masked_invalid(wide.to_numpy(float))
        mesh = ax.pcolormesh(
            at, np.arange(len(chosen)), image, cmap=DIVERGING, vmin=-edge, vmax=edge, shading="nearest", rasterized=True
        )
        ax.set_facecolor(MISSING)
        name_rows(ax, chosen)
        ax.set_ylim(len(chosen) - 0.5, -0.5)
        for row, model in enumerate(chosen):
            for start, end in _spans(clusters, model, alpha):
                _outline(ax, row, start, end, at)
        for model, (onset, *_) in _onsets_of(onsets, chosen).items():
            ax.plot(
                [onset], [chosen.index(model)], "D", color=INK, markerfacecolor="white", markersize=5, label="_onset"
            )
        ax.axvline(0, color=QUIET, linewidth=0.8, linestyle=":")
        ax.set_xlabel("time (s)")
        draw_colorbar(ax, label or _measure(courses), mesh)
        if clusters:
            note(ax, f"outlines: clusters with p < {alpha:g}")
    return ax


def _spans(clusters: Mapping[str, Any] | None, model: str, alpha: float) -> list[list[float]]:
    """Return start and end of the significant clusters of a model."""
    if not clusters or model not in clusters:
        return []
    table = table_of(clusters[model], "clusters", "clusters")
    if table.empty:
        return []
    check_columns(table, ("start", "end", "p"), "clusters")
    spans: list[list[float]] = table.loc[table["p"] < alpha, ["start", "end"]].to_numpy(float).tolist()
    return spans


def _cells_of(times: npt.NDArray[np.float64], start: float, end: float) -> tuple[float, float]:
    """Return the outer edges of the cells of two times, which are their middles (as those of pcolormesh)."""
    steps = np.diff(times) / 2 if len(times) > 1 else np.array([0.5])
    edges = np.concatenate([[times[0] - steps[0]], times[:-1] + steps[: len(times) - 1], [times[-1] + steps[-1]]])
    first, last = (int(np.abs(times - at).argmin()) for at in (start, end))
    return float(edges[first]), float(edges[last + 1])


def _outline(ax: Axes, row: int, start: float, end: float, times: npt.NDArray[np.float64]) -> None:
    """Draw a line around the cells of a row between two times, which are middles of cells."""
    left, right = _cells_of(times, start, end)
    xs, ys = [left, right, right, left, left], np.array([-0.46, -0.46, 0.46, 0.46, -0.46]) + row
    ax.plot(xs, ys, color="black", linewidth=1.2, label="_clusters")


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
            at, at, np.ma.masked_invalid(image), cmap=DIVERGING, vmin=-edge, vmax=edge, shading="nearest"
        )
        if mask is not None and mask.any() and not mask.all():
            ax.contour(at, at, mask.astype(float), levels=[0.5], colors="black", linewidths=1)
        ax.set(xlabel="time of the other RDM (s)", ylabel="time of the RDM (s)", aspect="equal")
        draw_colorbar(ax, label, mesh)
    return ax
