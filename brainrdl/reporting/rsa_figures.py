"""The figures of a plain RSA: a map of models and targets, bars, time courses, and the RDMs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from brainrdl import plot
from brainrdl._core.files import atomic, slug
from brainrdl._core.rows import Against
from brainrdl.dissimilarity.measures import label_of as measure_label
from brainrdl.plot.style import plain
from brainrdl.rdms.by_name import names
from brainrdl.reporting.drawings import NARROW, Drawing, Section, new_figure
from brainrdl.reporting.hover import Hover, Panel
from brainrdl.reporting.rsa_source import RSA, main_rows, read_table, row_name
from brainrdl.reporting.wording import number
from brainrdl.similarity.comparators import label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs

_MOST_TARGETS = 6  # with bars; the map shows all

_MOST_COLUMNS = 40  # of the map

_MOST_RDMS = 9  # that are drawn; more would be too small to read

_NARROW_TITLE = 19  # characters above a panel for phones

_MODEL_KEYS = ("model", "layer", "subject")


def rsa_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    """Draw the map of models and targets, and the bars of each target (of the first 6).

    Examples
    --------
    >>> row = {"model": "net", "layer": "", "target": "IT", "comparator": "corr", "against": "subjects", "score": 0.2,
    ...        "low": 0.1, "high": 0.3, "p_corrected": 0.01, "ceiling_lower": 0.4, "ceiling_upper": 0.5, "share": 0.4}
    >>> list(rsa_figures({"summary": pd.DataFrame([row])}))
    ['map', 'bars-1-IT']
    """
    return {drawing.name: drawing.figure for drawing in score_drawings(tables)}


def write_figures(folder: Path) -> None:
    """Write the figures of a saved RSA as PNG and PDF files.

    Examples
    --------
    >>> write_figures.__name__  # used by RSAResult.save
    'write_figures'
    """
    tables = {name: read_table(folder / f"{name}.csv") for name in ("summary", "contrasts", "scores")}
    for name, figure in rsa_figures(tables).items():
        for suffix in ("png", "pdf"):
            with atomic(folder / f"{name}.{suffix}") as part:
                figure.savefig(part, dpi=200)


def rsa_drawings(rsa: RSA) -> Iterator[Drawing]:
    yield from score_drawings(rsa.tables)
    yield from rdm_drawings(rsa.rdms)


def score_drawings(tables: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
    summary = tables["summary"]
    rows = main_rows(summary)
    comparator, against = rows["comparator"].iloc[0], rows["against"].iloc[0]
    value = "share" if rows["share"].notna().any() else "score"
    what = "Share of the noise ceiling" if value == "share" else "Score"
    star = "A star marks scores that differ from 0 (corrected p < 0.05)."
    caption = f"{what} of each model with each target: {label_of(comparator)} with {Against(against).label}. {star}"
    more: dict[str, Any] = {name: tables[name] for name in ("scores", "contrasts") if len(tables.get(name, ()))}
    if times := _times(rows):
        yield _course_drawing(rows, times)
    if rows["target"].nunique() <= _MOST_COLUMNS:
        figure = _figure_of(plot.model_map(summary, comparator, against, value=value))
        yield Drawing("map", Section.SCORES, figure, f"Heat map. {caption}", caption)
    for place, target in enumerate([] if times else list(dict.fromkeys(rows["target"]))[:_MOST_TARGETS], 1):
        own = rows[rows["target"] == target]
        figure = _figure_of(plot.model_bars(summary, comparator, against, target=target, **more))
        narrow = _narrow_bars(summary, comparator, against, target, len(own), more)
        intervals = "Lines are 95% intervals over stimuli and subjects. " if rows["low"].notna().any() else ""
        marks = _marks_of(figure)
        caption = f"Scores with {target}; the grey band or line is the noise ceiling. {intervals}{marks}{star}"
        listed = "; ".join(f"{row_name(row)} {number(row['score'])}" for row in own.head(12).to_dict("records"))
        name = slug("bars", str(place), target)
        yield Drawing(name, Section.SCORES, figure, f"Bars. {caption} {listed}.", caption, narrow)


def _narrow_bars(
    summary: pd.DataFrame, comparator: str, against: str, target: str, n_rows: int, more: Mapping[str, Any]
) -> Figure:
    """Draw the bars for a phone, with each name above its bar."""
    figure = new_figure(NARROW, 1.3 + 0.42 * n_rows)
    ax = plot.model_bars(summary, comparator, against, figure.subplots(), target=target, **more)
    for y, tick in enumerate(ax.get_yticklabels()):
        ax.text(0.01, y - 0.48, tick.get_text(), transform=ax.get_yaxis_transform(), va="center", fontsize=8)
    for bar in (bar for container in ax.containers for bar in container):
        bar.set(height=0.4, y=bar.get_y() + 0.11)
    for points in (line for line in ax.lines if line.get_label() == "single subjects"):
        rows = np.round(np.asarray(points.get_ydata(), dtype=float))
        points.set_ydata(rows + 0.65 * (points.get_ydata() - rows))
    ax.set_yticklabels([])
    ax.set_ylim(ax.get_ylim()[0], -0.8)
    ax.xaxis.label.set_fontsize(8)
    return figure


def _marks_of(figure: Figure) -> str:
    """Explain the points and marks that a figure of bars has."""
    lines = figure.axes[0].lines
    points = "Points are single subjects. " if any(line.get_label() == "single subjects" for line in lines) else ""
    differ = any(line.get_gid() in ("bracket", "better") for line in lines)
    return points + ("Marks on the right show which scores differ (corrected p < 0.05). " if differ else "")


def _times(rows: pd.DataFrame) -> dict[str, float]:
    """Return the times of the targets in seconds, if these are the times of a movie; empty otherwise."""
    targets = list(dict.fromkeys(rows["target"]))
    try:
        times = {target: float(target) for target in targets}
    except ValueError:
        return {}
    return times if len(set(times.values())) > _MOST_TARGETS else {}


def _course_drawing(rows: pd.DataFrame, times: Mapping[str, float]) -> Drawing:
    courses = pd.DataFrame(
        {
            "model": [row_name(row) for row in rows.to_dict("records")], "time": rows["target"].map(times).to_numpy(),
            **{column: rows[column].to_numpy() for column in ("score", "low", "high")},
            "ceiling_low": rows["ceiling_lower"].to_numpy(), "ceiling_high": rows["ceiling_upper"].to_numpy(),
        }
    ).sort_values("time", kind="stable")  # fmt: skip
    label = label_of(rows["comparator"].iloc[0])
    figure, narrow = new_figure(7.4, 4.0), new_figure(NARROW, 3.6)
    for one in (figure, narrow):
        plot.time_course(courses, one.subplots(), label=label)
    caption = (
        f"{label} of each model with the data at each time (in the unit of the data). Bands are 95% intervals over "
        "stimuli and subjects at each time; the grey band is the noise ceiling."
    )
    return Drawing("courses", Section.SCORES, figure, f"Line plot. {caption}", caption, narrow)


def rdm_drawings(rdms: Mapping[str, RDMs]) -> Iterator[Drawing]:
    """Draw the mean RDMs of the targets and the RDMs of the models, the first ones of many."""
    for name, what, keys in (("data", "targets, mean over subjects", ("target",)), ("models", "models", _MODEL_KEYS)):
        if name not in rdms:
            continue
        n = min(rdms[name].n_rdm, _MOST_RDMS)
        shown, conditions = rdms[name][list(range(n))], names(rdms[name])
        described = [shown.rdm_descriptors[key] for key in keys if key in shown.rdm_descriptors]
        titles = [", ".join(str(word) for word in words if word) for words in zip(*described, strict=True)]
        labels = [f"{k + 1}. {title}" for k, title in enumerate(titles)] if len(set(titles)) < n else titles
        order, square = tuple(range(len(conditions))), [rdm.get_vectors()[0].astype(float) for rdm in shown]
        hover = Hover(conditions, dict(zip(labels, square, strict=True)), [Panel(order, (one,)) for one in labels])
        more = f" (the first {n} of {rdms[name].n_rdm})" if n < rdms[name].n_rdm else ""
        caption = f"RDMs of the {what}{more}: {measure_label(shown.dissimilarity_measure)}."
        columns = min(n, max(2, round(1.3 * n**0.5)))  # those of the figure
        figure = plot.rdms(shown, titles=titles, figure=new_figure(0.9 + 2.4 * columns, 0.5 + 2.4 * -(-n // columns)))
        narrow = _narrow_rdms(shown, titles)
        yield Drawing(f"rdms-{name}", Section.RDMS, figure, f"Matrices. {caption}", caption, narrow, hover)


def _narrow_rdms(rdms: RDMs, titles: Sequence[str]) -> Figure:
    """Draw RDMs for a phone, two next to each other, with the colours of the large figure."""
    figure, known = new_figure(NARROW, 0.2 + 1.9 * -(-len(titles) // 2)), np.asarray(rdms.get_vectors(), dtype=float)
    axes = figure.subplots(-(-len(titles) // 2), 2, squeeze=False).ravel()
    for ax in axes[len(titles) :]:
        ax.remove()
    for k, (ax, title) in enumerate(zip(axes, titles, strict=False)):
        low, high = float(np.nanmin(known)), float(np.nanmax(known))
        plot.rdm(rdms, ax, None, low, high, k, plain(title, _NARROW_TITLE), colorbar=False)
        ax.title.set_fontsize(8)
    return figure


def _figure_of(ax: Axes) -> Figure:
    import matplotlib.pyplot as plt

    plt.close(cast("Figure", ax.figure))  # pyplot would keep it; it can still be drawn and saved
    return cast("Figure", ax.figure)
