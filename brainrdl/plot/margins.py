"""What is on the margins of an RDM: names, categories as coloured bars, folds, and thumbnails.

All is chosen by the size on paper: text keeps its size, so names that would overlap are thinned or counted, and
thumbnails are put in several rows, or every second, third, ... is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patches import Patch, Rectangle
from matplotlib.transforms import ScaledTranslation

from brainrdl._core.errors import arg, check_option, refuse
from brainrdl.plot.arrangement import Layout, Run
from brainrdl.plot.style import GROUP_COLOURS, QUIET, name_columns, shown
from brainrdl.plot.thumbnails import Images, Picture, thumbnails

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.transforms import Transform

Segment = list[tuple[float, float]]

LABELS = ("names", "groups", "count")

NAMES_OR_GROUPS = "names or groups"  # all names if they fit, else groups

# In points: height of a line of small text, mean width of its letters, and the space needed around an image.
LINE, LETTER, _MARGIN = 8.7, 4.3, 34.0

_SMALLEST, _DEEPEST, _MOST_LANES = 8.0, 0.3, 5  # side of a thumbnail in points, and its share of the image's side

_BAR = 4.0  # width of a bar in points


@dataclass(frozen=True)
class Margins:
    """What to draw beside the conditions of a layout: the kind of labels, and pictures in the order drawn."""

    layout: Layout
    labels: str | None = None
    pictures: Sequence[Picture] = ()

    def part(self, start: int, stop: int) -> Margins:
        """Margins of some neighbours, without text."""
        layout, kept = self.layout, slice(start, stop)
        inside = replace(
            layout, names=layout.names[kept], order=layout.order[kept], groups=layout.groups[kept], folds=()
        )
        return Margins(inside, "count", self.pictures[kept])


def margins_of(layout: Layout, images: Images | None = None, labels: str | None = None) -> Margins:
    """Check the labels and load the pictures, once for all panels of a figure."""
    if labels is not None:
        check_option(labels, LABELS, "labels")
    if labels == "groups" and not layout.groups:
        refuse(f'labels="groups" needs {arg("groups")}: a mapping of condition name to category')
    return Margins(layout, labels, () if images is None else thumbnails(images, layout.names))


def label_panels(axes: Sequence[Axes], margins: Margins, columns: int) -> None:
    """Label a grid of panels with the same conditions on the left and at the bottom."""
    for position, ax in enumerate(axes):
        first, last = position % columns == 0, position + columns >= len(axes)
        explained = _label(ax, margins, rows=first, columns=last)
    if explained:
        explain_panels(axes[0].figure, margins)


def explain_panels(figure: Figure | SubFigure, margins: Margins) -> None:
    """Put a legend of the categories below all panels."""
    handles = _handles(margins.layout)
    if handles:
        ncols = _columns_of(handles, 72 * figure.bbox.width / figure.dpi)
        figure.legend(handles=handles, loc="outside lower left", ncols=ncols, **_LEGEND)


def label_conditions(ax: Axes, margins: Margins) -> None:
    """Label one image by category, fold, name or picture, and count the conditions if labels do not fit."""
    if _label(ax, margins, rows=True, columns=True):
        explain_below(ax, _handles(margins.layout))


def mark_conditions(ax: Axes, margins: Margins, *, rows: bool, columns: bool) -> bool:
    """Draw bars and pictures beside a part of the conditions; say whether a legend must explain the bars.

    The corner panel says which pictures are left out.
    """
    for axis, needed in ((ax.yaxis, rows), (ax.xaxis, columns)):
        axis.set_visible(needed)  # to move, measure and draw empty ones takes most of the time of a figure of folds
    explained = _label(ax, margins, rows=True, columns=True)
    notes = [line for line in ax.get_xlabel().splitlines() if line.startswith("every")]
    ax.set_xlabel(notes[0] if notes and rows and columns else "")
    return explained


def explain_below(ax: Axes, handles: Sequence[Artist]) -> None:
    """Put a legend below an axes, its margins and the labels that it has by now."""
    places = [ax.spines[edge].get_position() for edge in ("left", "bottom")]
    x, y = (place[1] if place[0] == "axes" else 0.0 for place in places)
    box, scale, space = ax.xaxis.get_tightbbox(), 72 / ax.figure.dpi, _Space.of(ax)
    start = ax.transAxes.transform((0, y))[1]
    labels = 0.0 if box is None else max(0.0, start - box.y0) * scale
    below = ax.transAxes + ScaledTranslation(0, -(labels + 6) / 72, ax.figure.dpi_scale_trans)
    ncols = _columns_of(handles, space.width / space.ncols)
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(x, y), bbox_transform=below, ncols=ncols, **_LEGEND)


def _columns_of(handles: Sequence[Artist], width: float) -> int:
    widest = max(len(str(handle.get_label())) for handle in handles) * LETTER + 24
    return max(1, min(len(handles), int(width / widest)))


def settle(figure: Figure | SubFigure) -> None:
    """Lay out before drawing: thumbnails are as deep as an image is large, which the first layout does not know.

    Afterwards, the size of each axes on paper is known.
    """
    root = figure.figure
    if root is not None and (engine := root.get_layout_engine()) is not None:
        for _ in range(2):
            engine.execute(root)


def _label(ax: Axes, margins: Margins, *, rows: bool, columns: bool) -> bool:
    """Label the rows, the columns or both, and say whether a legend must explain the colours."""
    layout, n = margins.layout, len(margins.layout.names)
    space = _Space.of(ax)
    shelf = _Shelf.of(n, space) if margins.pictures else None
    text = _Text.of(margins, replace(space, depth=shelf.depth if shelf else 0.0))
    has_bars = bool(layout.groups) and (len(layout.colours) <= len(GROUP_COLOURS) or text.of_groups)
    at = 0.9 * _BAR / space.side(0, 0)
    outside = 1.8 * at if has_bars else 0.0
    if has_bars:
        _bars(ax, layout, at)
        look: dict[str, Any] = {"fill": False, "edgecolor": "none", "clip_on": False, "transform": ax.transAxes}
        ax.add_patch(Rectangle((-outside, -outside), outside, outside, **look))  # the layout does not measure the bars
    _separate(ax, layout.blocks if text.runs or has_bars or layout.folds else [])
    if shelf:
        start, outside = outside, max(outside, shelf.side / 2)
        for on_left in [True] * rows + [False] * columns:
            _hang(ax, margins.pictures, shelf, start, outside, on_left=on_left)
        outside += shelf.depth
    _write(ax, text, outside, rows=rows, columns=columns and (not text.of_groups or not has_bars))
    if columns:
        ax.set_xlabel("\n".join(text.notes(layout, has_bars) + ([] if not (shelf and rows) else shelf.notes())))
    return has_bars and not text.of_groups


def _nth(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")


@dataclass(frozen=True)
class _Text:
    """Labels that fit, with their places."""

    runs: Sequence[Run] = ()
    words: Sequence[str] = ()
    upright: bool = False
    of_groups: bool = False
    step: int = 1

    @classmethod
    def of(cls, margins: Margins, space: _Space) -> _Text:
        layout = margins.layout
        singles = [(name, i, i + 1) for i, name in enumerate(layout.names)]
        if margins.labels == "count":
            return cls()
        if margins.labels == "names":
            return cls._thinned(singles, space)
        if margins.labels == NAMES_OR_GROUPS and (found := cls._fitting(singles, space, len(singles))).runs:
            return found
        if layout.blocks or margins.labels == "groups":
            return cls._fitting(layout.blocks, space, len(layout.names), of_groups=not layout.folds)
        return cls() if margins.pictures or layout.groups else cls._fitting(singles, space, len(singles))

    @classmethod
    def _fitting(cls, runs: Sequence[Run], space: _Space, n: int, *, of_groups: bool = False) -> _Text:
        """Write all labels if no two of them overlap."""
        side = space.side(0, 0)
        for_words = side / 2 if of_groups else min(side / 2, side - LINE * len(runs))
        return cls._in_words(runs, space, n, for_words, of_groups=of_groups)

    @classmethod
    def _thinned(cls, runs: Sequence[Run], space: _Space) -> _Text:
        """Name every condition, or every second, third, ..."""
        for step in range(1, len(runs) + 1):
            found = cls._in_words(runs[::step], space, len(runs), space.side(0, 0) / 3)
            if found.runs:
                return replace(found, step=step)
        return cls()

    @classmethod
    def _in_words(
        cls, runs: Sequence[Run], space: _Space, n: int, for_words: float, *, of_groups: bool = False
    ) -> _Text:
        if not runs:
            return cls()
        words = shown([label for label, *_ in runs], longest=max(9, min(28, int(for_words / LETTER))))
        longest = LETTER * max(map(len, words))
        middles = np.array([(start + stop) / 2 for _, start, stop in runs])
        apart = space.side(longest, 0 if of_groups else longest) / n * float(np.diff(middles).min(initial=n))
        return cls(runs, words, apart < LINE * 2**0.5, of_groups) if apart >= LINE else cls()

    def notes(self, layout: Layout, has_bars: bool) -> list[str]:
        """Say what is not named."""
        n, n_groups = len(layout.names), len(set(layout.groups))
        if self.step > 1:
            return [f"every {_nth(self.step)} of {n} conditions is named"]
        counted = f"{n} conditions" + f" in {n_groups} categories" * (n_groups > 0 and not has_bars)
        return [] if self.runs else [counted]


@dataclass(frozen=True)
class _Shelf:
    """Thumbnails in `lanes` rows parallel to the image; of every `step` conditions one is shown.

    `side` and `depth` are those of a thumbnail and of all rows, as fractions of the image's side.
    """

    step: int
    lanes: int
    side: float
    depth: float

    @classmethod
    def of(cls, n: int, space: _Space) -> _Shelf:
        """Show as many thumbnails as fit at the smallest size, in as few rows as possible."""
        for step in range(1, n + 1):
            for lanes in range(1, _MOST_LANES + 1):
                share = min(lanes * step / n, _DEEPEST / 2)
                depth = share * (lanes + 0.5)
                if depth <= _DEEPEST and share * replace(space, depth=depth).side(0, 0) >= _SMALLEST:
                    return cls(step, lanes, share, share * lanes)
        return cls(n, 1, _DEEPEST / 2, _DEEPEST / 2)

    def notes(self) -> list[str]:
        return [f"every {_nth(self.step)} image"] if self.step > 1 else []


def _hang(ax: Axes, pictures: Sequence[Picture], shelf: _Shelf, start: float, outside: float, *, on_left: bool) -> None:
    """Draw thumbnails to the left of the image or below it; a line connects each one with its condition."""
    n = len(pictures)
    box = (
        (-outside - shelf.depth, 0, outside + shelf.depth, 1)
        if on_left
        else (0, -outside - shelf.depth, 1, outside + shelf.depth)
    )
    margin = ax.inset_axes(box, label="images of rows" if on_left else "images of columns")
    margin.set_axis_off()
    unit = shelf.side
    for k, i in enumerate(range(0, n, shelf.step)):
        depth = outside + (k % shelf.lanes + 0.5) * unit
        height, width = (np.array(pictures[i].shape[:2]) / max(pictures[i].shape[:2])) * 0.46 * unit
        along, gap = (i + 0.5) / n, start + 0.003
        across, up = (-depth, 1 - along) if on_left else (along, -depth)
        line = ([-gap, across], [up, up]) if on_left else ([across, across], [-gap, up])
        margin.plot(*line, color=QUIET, linewidth=0.3, zorder=1, clip_on=False, in_layout=False)
        margin.imshow(
            pictures[i],
            extent=(across - width, across + width, up - height, up + height),
            aspect="auto",
            interpolation="antialiased",
            zorder=2,
            clip_on=False,
            in_layout=False,  # the axes around them are, and measuring each one takes time
        )
    margin.set(xlim=(box[0], box[0] + box[2]), ylim=(box[1], box[1] + box[3]))


def _bars(ax: Axes, layout: Layout, at: float) -> None:
    """Draw a coloured bar to the left of and below each run of conditions of one category."""
    gap = min(0.25, 0.006 * len(layout.names)) if layout.blocks else 0.0
    ends = [(start - 0.5 + gap, stop - 0.5 - gap) for _, start, stop in layout.runs]
    look: dict[str, Any] = {
        "colors": [layout.colours[group] for group, *_ in layout.runs],
        "linewidth": _BAR,
        "clip_on": False,
        "capstyle": "butt",
    }
    _lines(ax, [[(-at, a), (-at, b)] for a, b in ends], ax.get_yaxis_transform(), label="bars of rows", **look)
    _lines(ax, [[(a, -at), (b, -at)] for a, b in ends], ax.get_xaxis_transform(), label="bars of columns", **look)


def _separate(ax: Axes, blocks: Sequence[Run]) -> None:
    """Draw thin white lines between blocks."""
    places = [start - 0.5 for _, start, _ in blocks[1:]]
    look: dict[str, Any] = {"colors": "white", "linewidth": 0.6}
    _lines(ax, [[(0, at), (1, at)] for at in places], ax.get_yaxis_transform(), **look)
    _lines(ax, [[(at, 0), (at, 1)] for at in places], ax.get_xaxis_transform(), **look)


def _lines(ax: Axes, segments: Sequence[Segment], transform: Transform, **look: Any) -> None:
    """Draw many lines as one object, of which the layout is measured once."""
    if segments:
        ax.add_collection(LineCollection(segments, transform=transform, **look), autolim=False)


def _write(ax: Axes, text: _Text, outside: float, *, rows: bool, columns: bool) -> None:
    """Write the labels beyond what is already on the margins."""
    for edge, axis in (("left", ax.yaxis), ("bottom", ax.xaxis)):
        if outside and axis.get_visible():  # ticks and labels follow their spine
            ax.spines[edge].set(visible=True, position=("axes", -outside), color="none")
    if not text.runs:
        return
    ticks = [(start + stop - 1) / 2 for _, start, stop in text.runs]
    words, nothing = list(text.words), [""] * len(ticks)
    name_columns(ax, ticks, words if columns else nothing, upright=text.upright)
    ax.set_yticks(ticks, words if rows else nothing, family=mpl.rcParams["font.family"])
    ax.tick_params(length=0, pad=2)


_LEGEND: dict[str, Any] = {
    "frameon": False,
    "handlelength": 1.0,
    "handleheight": 0.9,
    "handletextpad": 0.5,
    "columnspacing": 1.0,
    "borderaxespad": 0.0,
}


def _handles(layout: Layout) -> list[Patch]:
    used = set(layout.groups)
    colours = {group: colour for group, colour in layout.colours.items() if group in used}
    return [
        Patch(color=colour, label=word) for colour, word in zip(colours.values(), shown(list(colours)), strict=True)
    ]


@dataclass(frozen=True)
class _Space:
    """Space for a grid of square images, in points; estimated, because the layout is not known before drawing.

    `depth` is that of thumbnails, as a fraction of an image's side.
    """

    width: float
    height: float
    ncols: int
    nrows: int
    depth: float = 0.0

    @classmethod
    def of(cls, ax: Axes) -> _Space:
        box, spec, scale = ax.get_window_extent(), ax.get_subplotspec(), 72 / ax.figure.dpi
        if spec is None:
            return cls(box.width * scale, box.height * scale, 1, 1)
        grid, whole = spec.get_gridspec(), ax.figure.bbox
        return cls(whole.width * scale, whole.height * scale, grid.ncols, grid.nrows)

    def side(self, row_text: float, column_text: float) -> float:
        """Side of an image if text of this length is to the left of all rows and below all columns."""
        width = (self.width - row_text) / self.ncols - _MARGIN
        height = (self.height - column_text) / self.nrows - _MARGIN
        return max(1.0, min(width / (1 + self.depth / self.ncols), height / (1 + self.depth / self.nrows)))
