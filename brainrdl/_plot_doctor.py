"""Figures of an audit: RDMs with their values, map and agreement; measurements with their observations and runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.distance import squareform

from brainrdl._doctor_kinds import complete
from brainrdl._doctor_measurements import counts_of, flat, halves
from brainrdl._doctor_rdms import between, labels
from brainrdl._plot_rdms import rdm as draw_rdm
from brainrdl._plot_style import BLUE, INK, QUIET, draw_colorbar, draw_image, new_figure, plain, set_title, styled
from brainrdl._terms import measure_label
from brainrdl.rdms import from_tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rsatoolbox.data.base import DatasetBase
    from rsatoolbox.rdm import RDMs

_MOST_RDMS = 5
_MOST_LABELS = 24
_MOST_LINES = 60
_BINS = 60


def draw_rdms(rdms: RDMs, by: str) -> Figure:
    """Draw the mean of each region (of one region: the first RDMs), all values, a map, and correlations of RDMs."""
    shown = _shown(rdms, by)
    with styled():
        figure = new_figure((13, 6.4))
        upper, lower = figure.subfigures(2, 1, squeeze=False)[:, 0]
        for ax, (title, one) in zip(upper.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
            draw_rdm(one, ax, title=title, by=by, colorbar=False)
            draw_colorbar(ax, measure_label(rdms.dissimilarity_measure) if ax is upper.axes[-1] else "")
        histogram, mapped, agreement = lower.subplots(1, 3)
        _draw_histogram(histogram, rdms)
        _draw_map(mapped, _mean(rdms.dissimilarities), f"map of the mean of {rdms.n_rdm} RDMs", _names(rdms, by))
        _draw_agreement(agreement, rdms)
    return figure


def _shown(rdms: RDMs, by: str) -> dict[str, RDMs]:
    """Give the panels by title."""
    names = _names(rdms, by)
    values = rdms.dissimilarities
    regions = np.array([str(roi) for roi in rdms.rdm_descriptors.get("roi", [""] * rdms.n_rdm)])
    several = list(dict.fromkeys(regions))
    if len(several) > 1:
        rows = {f"mean of {roi}": _mean(values[regions == roi]) for roi in several[:_MOST_RDMS]}
    else:
        rows = dict(zip(labels(rdms)[:_MOST_RDMS], values, strict=False))
    return {
        title: from_tensor(torch.tensor(row), names, by=by, measure=rdms.dissimilarity_measure)
        for title, row in rows.items()
    }


def _names(rdms: RDMs, by: str) -> list[str]:
    """Give the names, or positions where names are missing or stand twice, as only a figure may do."""
    given = [str(name) for name in rdms.pattern_descriptors.get(by, [])]
    return given if given and len(set(given)) == len(given) else [str(number) for number in range(rdms.n_cond)]


def _mean(rows: Float[np.ndarray, "n_rdms n_pairs"]) -> Float[np.ndarray, " n_pairs"]:
    return torch.tensor(rows).nanmean(0).numpy()  # unlike NumPy's, without a warning where no RDM knows a pair


def _draw_histogram(ax: Axes, rdms: RDMs) -> None:
    values = rdms.dissimilarities
    edges = np.linspace(np.nanmin(values), np.nanmax(values), _BINS + 1)
    for row in values[:_MOST_LINES]:
        ax.stairs(np.histogram(row[~np.isnan(row)], edges)[0], edges, color=BLUE, alpha=max(0.35, 1 / len(values)))
    if edges[0] < 0:
        ax.axvline(0, color=QUIET, linewidth=0.8)
    ax.set(xlabel=measure_label(rdms.dissimilarity_measure), ylabel="pairs", ylim=(0, None))
    set_title(ax, f"values, one line an RDM ({min(len(values), _MOST_LINES)} of {len(values)})")


def _draw_map(ax: Axes, pairs: Float[np.ndarray, " n_pairs"], title: str, names: Sequence[str]) -> None:
    """Classical scaling to two dimensions, and how much of the (positive) variance they hold."""
    square, kept = complete(squareform(pairs))
    if len(square) >= 3:
        centre = np.eye(len(square)) - 1 / len(square)
        sizes, axes = np.linalg.eigh(-centre @ square @ centre / 2)
        places = axes[:, :-3:-1] * np.sqrt(np.maximum(sizes[:-3:-1], 0))
        shares = 100 * np.maximum(sizes[:-3:-1], 0) / max(sizes[sizes > 0].sum(), np.finfo(float).tiny)
        ax.scatter(places[:, 0], places[:, 1], s=12, color=BLUE)
        for number, place in zip(kept, places if len(places) <= _MOST_LABELS else [], strict=False):
            ax.annotate(plain(names[number], 12), place, xytext=(3, 3), textcoords="offset points", color=INK)
        ax.set(xlabel=f"dimension 1 ({shares[0]:.0f} %)", ylabel=f"dimension 2 ({shares[1]:.0f} %)")
        ax.set_aspect("equal", adjustable="datalim")
    some = f", {len(kept)} of {len(names)} conditions" if len(kept) < len(names) else ""
    set_title(ax, title + some)


def _draw_agreement(ax: Axes, rdms: RDMs) -> None:
    square = between(torch.tensor(rdms.dissimilarities)).numpy().copy()
    np.fill_diagonal(square, np.nan)
    _draw_matrix(ax, square, "Pearson correlation", "RDMs with each other", labels(rdms), labels(rdms))


def _draw_matrix(
    ax: Axes, values: Float[np.ndarray, "n m"], unit: str, title: str, rows: Sequence[str], columns: Sequence[str]
) -> None:
    if not np.isfinite(values).any():
        ax.set_axis_off()
        set_title(ax, f"{title}: nothing to compare")
        return
    draw_image(ax, values, "viridis", None, None)
    ax.set_aspect("auto")
    if len(rows) <= _MOST_LABELS:
        ax.set_yticks(range(len(rows)), [plain(row) for row in rows])
    if len(columns) <= _MOST_LABELS:
        ax.set_xticks(range(len(columns)), [plain(name, 20) for name in columns], rotation=45, ha="right")
    ax.tick_params(length=0)
    draw_colorbar(ax, unit)
    set_title(ax, title)


def draw_measurements(dataset: DatasetBase, by: str) -> Figure:
    """Draw observations by channels, counts of conditions by run, and the patterns of odd against even runs."""
    values = flat(dataset)
    with styled():
        figure = new_figure((13, 4))
        left, middle, right = figure.subplots(1, 3)
        low, high = np.nanpercentile(np.where(np.isfinite(values), values, np.nan), [1, 99])
        draw_image(left, values, "viridis", low, high)
        left.set(aspect="auto", xlabel=f"{values.shape[1]} channels", ylabel=f"{len(values)} observations")
        draw_colorbar(left, "measurement (1st to 99th percentile)")
        set_title(left, "measurements")
        if by not in dataset.obs_descriptors:
            middle.set_axis_off()
            right.set_axis_off()
            return figure
        counts = counts_of(dataset, by)
        rows, columns = ([str(name) for name in axis] for axis in (counts.index, counts.columns))
        _draw_matrix(middle, counts.to_numpy(dtype=float), "observations", "conditions by run", rows, columns)
        found = halves(dataset, by)
        square = np.full((1, 1), np.nan) if found is None else found.correlations
        split = "runs" if found is None else found.split
        shared = rows if found is None else found.names
        _draw_matrix(right, square, "Pearson correlation", f"odd (rows) and even {split}", shared, shared)
    return figure
