"""Figures of an audit: RDMs with their values, map and agreement, or measurements with their counts and runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.ticker import MaxNLocator
from scipy.spatial.distance import squareform

from brainrdl._core.errors import BrainrdlError
from brainrdl.dissimilarity.measures import label_of
from brainrdl.doctor.dissimilarity_kinds import complete
from brainrdl.doctor.measurement_findings import counts_of, dataset_names, flat, halves
from brainrdl.doctor.rdm_findings import between, labels, targets
from brainrdl.plot.images import rdm as draw_rdm
from brainrdl.plot.style import (
    BLUE,
    GREEN,
    INK,
    PURPLE,
    QUIET,
    VERMILION,
    draw_colorbar,
    draw_image,
    new_figure,
    plain,
    set_title,
    styled,
)
from brainrdl.rdms.conversion import from_tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from rsatoolbox.data.base import DatasetBase
    from rsatoolbox.rdm import RDMs
_MOST_RDMS = 5

_MOST_LABELS = 24

_MOST_LINES = 60

_BINS = 60

_COLOURS = (BLUE, VERMILION, GREEN, PURPLE)


def draw_rdms(rdms: RDMs, by: str, how: Mapping[str, Any] | None = None) -> Figure:
    """Draw the mean and the map of each target, all values, and the correlations of RDMs.

    If there is only one target, its RDMs are drawn instead of their mean. If there are more than 5 targets or RDMs, 5
    are drawn, evenly spaced.
    """
    target_of_each = _targets_or_one(rdms, how or {})
    several = list(dict.fromkeys(target_of_each))
    names = _names(rdms, by)
    means = {
        target: _mean(rdms.dissimilarities[np.array(target_of_each) == target])
        for target in _spread(several, _MOST_RDMS)
    }
    with styled():
        figure = _new_figure(6.4 if len(several) == 1 else 9.6)
        rows = figure.subfigures(2 if len(several) == 1 else 3, 1, squeeze=False)[:, 0]
        of = rdms.n_rdm if len(several) == 1 else len(several)
        _draw_panels(rows[0], _panels(rdms, target_of_each, means), of, rdms.dissimilarity_measure, names)
        if len(several) == 1:
            histogram, mapped, agreement = rows[1].subplots(1, 3)
            title = f"map of the mean of {rdms.n_rdm} RDMs" if rdms.n_rdm > 1 else "map"
            _draw_map(mapped, means[several[0]], title, names)
        else:
            maps = rows[1].subplots(1, len(means), squeeze=False)[0]
            for ax, (target, mean) in zip(maps, means.items(), strict=True):
                _draw_map(ax, mean, f"map of {target}", names, _MOST_LABELS // len(means))
            histogram, agreement = rows[2].subplots(1, 2)
        _draw_histogram(histogram, rdms, target_of_each)
        _draw_agreement(agreement, rdms, target_of_each)
    return figure


def _new_figure(height: float) -> Figure:
    """Leave room at the right for scales that the layout does not include."""
    figure = new_figure((13, height))
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0, 0, 0.975, 1), w_pad=0.1)
    return figure


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """Choose at most `most` items, evenly spaced from the first to the last."""
    places = np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    return [items[place] for place in places]


def _targets_or_one(rdms: RDMs, how: Mapping[str, Any]) -> list[str]:
    """Return the target of each RDM, one for all if they cannot be distinguished."""
    try:
        return targets(rdms, how)
    except BrainrdlError:
        return ["RDMs"] * rdms.n_rdm


def _panels(
    rdms: RDMs, target_of_each: Sequence[str], means: Mapping[str, Float[np.ndarray, " n_pairs"]]
) -> dict[str, Float[np.ndarray, " n_pairs"]]:
    """Return the RDMs to draw, by title."""
    if len(set(target_of_each)) == 1:
        rows = labels(rdms)
        return {rows[k]: rdms.dissimilarities[k] for k in _spread(range(rdms.n_rdm), _MOST_RDMS)}
    counts = Counter(target_of_each)
    return {f"mean of {counts[target]}: {target}" if counts[target] > 1 else target: means[target] for target in means}


def _draw_panels(
    part: SubFigure,
    panels: Mapping[str, Float[np.ndarray, " n_pairs"]],
    of: int,
    measure: str | None,
    names: Sequence[str],
) -> None:
    for ax, (title, row) in zip(part.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        draw_rdm(from_tensor(torch.tensor(row), names, measure=measure), ax, title=title, colorbar=False)
        draw_colorbar(ax, "")
    shown = f", {len(panels)} of {of}" if len(panels) < of else ""
    part.suptitle(plain(label_of(measure), 60) + shown, x=0.01, ha="left", fontsize=10)


def _names(rdms: RDMs, by: str) -> list[str]:
    """Return the names, or positions if names are missing or repeated; only figures may use positions."""
    given = [str(name) for name in rdms.pattern_descriptors.get(by, [])]
    return given if given and len(set(given)) == len(given) else [str(number) for number in range(rdms.n_cond)]


def _mean(rows: Float[np.ndarray, "n_rdms n_pairs"]) -> Float[np.ndarray, " n_pairs"]:
    return torch.tensor(rows).nanmean(0).numpy()  # unlike NumPy's, without a warning for pairs missing in all RDMs


def _draw_histogram(ax: Axes, rdms: RDMs, target_of_each: Sequence[str]) -> None:
    values = rdms.dissimilarities
    edges = np.linspace(np.nanmin(values), np.nanmax(values), _BINS + 1)
    several = list(dict.fromkeys(target_of_each))
    colours = dict(zip(several, _COLOURS, strict=False)) if 1 < len(several) <= len(_COLOURS) else {}
    drawn = _spread(range(len(values)), _MOST_LINES)
    for k in drawn:
        row = values[k][~np.isnan(values[k])]
        colour = colours.get(target_of_each[k], BLUE)
        ax.stairs(np.histogram(row, edges)[0], edges, color=colour, alpha=max(0.35, 1 / len(values)))
    for target, colour in colours.items():
        ax.plot([], [], color=colour, label=plain(target))
    if colours:
        ax.legend(frameon=False)
    if edges[0] < 0:
        ax.axvline(0, color=QUIET, linewidth=0.8)
    ax.set(xlabel=label_of(rdms.dissimilarity_measure), ylabel="pairs", ylim=(0, None))
    set_title(ax, f"values, one line per RDM ({len(drawn)} of {len(values)})")


def _draw_map(
    ax: Axes,
    pairs: Float[np.ndarray, " n_pairs"],
    title: str,
    names: Sequence[str],
    most_labels: int = _MOST_LABELS,
) -> None:
    """Draw classical scaling to two dimensions, with the share of the (positive) variance in each."""
    square, kept = complete(squareform(pairs))
    if len(square) >= 3:
        centre = np.eye(len(square)) - 1 / len(square)
        sizes, axes = np.linalg.eigh(-centre @ square @ centre / 2)
        places = axes[:, :-3:-1] * np.sqrt(np.maximum(sizes[:-3:-1], 0))
        shares = 100 * np.maximum(sizes[:-3:-1], 0) / max(sizes[sizes > 0].sum(), np.finfo(float).tiny)
        ax.scatter(places[:, 0], places[:, 1], s=12, color=BLUE)
        for number, place in zip(kept, places if len(places) <= most_labels else [], strict=False):
            ax.annotate(plain(names[number], 12), place, xytext=(3, 3), textcoords="offset points", color=INK)
        ax.set(xlabel=f"dimension 1 ({shares[0]:.0f} %)", ylabel=f"dimension 2 ({shares[1]:.0f} %)")
        ax.set_aspect("equal", adjustable="datalim")
    some = f", {len(kept)} of {len(names)} conditions" if len(kept) < len(names) else ""
    set_title(ax, title + some)


def _draw_agreement(ax: Axes, rdms: RDMs, target_of_each: Sequence[str]) -> None:
    """Draw the correlation of each RDM with each, sorted by target."""
    several = list(dict.fromkeys(target_of_each))
    order = sorted(range(rdms.n_rdm), key=[several.index(target) for target in target_of_each].__getitem__)
    square = between(torch.tensor(rdms.dissimilarities[order])).numpy().copy()
    np.fill_diagonal(square, np.nan)
    rows = [labels(rdms)[k] for k in order]
    _draw_matrix(ax, square, "RDMs with each other", rows, rows, unit="Pearson correlation")
    if len(rows) > _MOST_LABELS:
        _label_groups(ax, [target_of_each[k] for k in order] if len(several) > 1 else rows)


def _label_groups(ax: Axes, groups: Sequence[str]) -> None:
    """Name neighbouring rows of the same group once, with lines between groups; if there are many, name some."""
    counts = Counter(groups)
    ends = np.cumsum(list(counts.values()))
    middles = dict(zip(counts, ends - np.array(list(counts.values())) / 2 - 0.5, strict=True))
    chosen = _spread(list(counts), _MOST_LABELS // 2)
    places, names = [middles[name] for name in chosen], [plain(name, 20) for name in chosen]
    ax.set_yticks(places, names)
    ax.set_xticks(places, names, rotation=45, ha="right")
    for end in ends[:-1] if len(counts) <= _MOST_LABELS else []:
        ax.axhline(end - 0.5, color="white", linewidth=1)
        ax.axvline(end - 0.5, color="white", linewidth=1)


def _draw_matrix(
    ax: Axes,
    values: Float[np.ndarray, "n m"],
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    unit: str = "",
    counts: bool = False,
) -> None:
    """Draw an image with its scale; the scale of counts starts at 0 and has whole steps."""
    if not np.isfinite(values).any():
        ax.set_axis_off()
        set_title(ax, f"{title}: nothing to compare")
        return
    draw_image(ax, values, "viridis", *((0, max(values.max(), 1)) if counts else (None, None)))
    ax.set_aspect("auto")
    if len(rows) <= _MOST_LABELS:
        ax.set_yticks(range(len(rows)), [plain(row) for row in rows])
    if len(columns) <= _MOST_LABELS:
        ax.set_xticks(range(len(columns)), [plain(name, 20) for name in columns], rotation=45, ha="right")
    ax.tick_params(length=0)
    draw_colorbar(ax, unit, ticks=MaxNLocator(integer=True) if counts else None)
    set_title(ax, title)


def draw_measurements(datasets: Sequence[DatasetBase], by: str) -> Figure:
    """Draw a row for each dataset with `_draw_dataset`; if there are more than 5, for 5, evenly spaced."""
    chosen = _spread(list(zip(dataset_names(datasets), datasets, strict=True)), _MOST_RDMS)
    with styled():
        figure = _new_figure(4 * len(chosen))
        for part, (name, dataset) in zip(figure.subfigures(len(chosen), 1, squeeze=False)[:, 0], chosen, strict=True):
            _draw_dataset(part, dataset, by, f"{name}: " if len(datasets) > 1 else "")
    return figure


def _draw_dataset(part: SubFigure, dataset: DatasetBase, by: str, name: str) -> None:
    """Draw observations by channels, counts of conditions by run, and the patterns of odd against even runs.

    Units are in the titles, because next to a scale they would look like those of the next panel.
    """
    values = flat(dataset)
    left, middle, right = part.subplots(1, 3)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (None, None)
    draw_image(left, values, "viridis", low, high)
    left.set(aspect="auto", xlabel=f"{values.shape[1]} channels", ylabel=f"{len(values)} observations")
    draw_colorbar(left, "")
    set_title(left, f"{name}measurements, 1st to 99th percentile")
    if by not in dataset.obs_descriptors:
        middle.set_axis_off()
        right.set_axis_off()
        return
    counts = counts_of(dataset, by)
    rows, columns = ([str(name) for name in axis] for axis in (counts.index, counts.columns))
    _draw_matrix(middle, counts.to_numpy(), f"{name}observations by condition and run", rows, columns, counts=True)
    found = halves(dataset, by)
    square = np.full((1, 1), np.nan) if found is None else found.correlations
    split = "runs" if found is None else found.split
    shared = rows if found is None else found.names
    _draw_matrix(right, square, f"{name}odd (rows) and even {split}", shared, shared, unit="Pearson correlation")
