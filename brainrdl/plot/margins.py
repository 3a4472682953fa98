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
from matplotlib.transforms import Affine2D, ScaledTranslation

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

_BETWEEN = 8.0  # points between two blocks


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


@dataclass(frozen=True)
class Blocks:
    """Matrices of parts of the conditions in one axes, next to or below each other; `corners` are (left, top).

    One axes for all of them is drawn in a fraction of the time of one axes for each.
    """

    parts: Sequence[Margins]
    marks: Sequence[_Marks]
    corners: Sequence[tuple[float, float]]

    @classmethod
    def of(cls, margins: Margins, figure: Figure | SubFigure, n_rows: int, *, upright: bool) -> Blocks:
        """Arrange the blocks of a layout; `n_rows` matrices of each share the figure."""
        blocks, scale = margins.layout.blocks, 72 / figure.dpi
        grid = (n_rows, len(blocks)) if upright else (len(blocks), n_rows)
        space = _Space(figure.bbox.width * scale, figure.bbox.height * scale, *grid)
        parts = [margins.part(start, stop) for _, start, stop in blocks]
        marks = [_Marks.of(part, space) for part in parts]
        largest = max(len(part.layout.names) for part in parts)
        gap = largest * (max(mark.outside for mark in marks) + _BETWEEN / space.side(0, 0))
        starts = [start + k * gap for k, (_, start, _) in enumerate(blocks)]
        return cls(parts, marks, [(0.0, start) if upright else (start, 0.0) for start in starts])

    @property
    def sizes(self) -> list[int]:
        return [len(part.layout.names) for part in self.parts]

    @property
    def ends(self) -> tuple[float, float]:
        """Width and height of all, in conditions."""
        (left, top), largest = self.corners[-1], max(self.sizes)
        return max(left + self.sizes[-1], largest), max(top + self.sizes[-1], largest)

    @property
    def outside(self) -> float:
        """Depth of the marks, in conditions."""
        return max(n * mark.outside for n, mark in zip(self.sizes, self.marks, strict=True))

    def mark(self, ax: Axes) -> None:
        """Draw the bars and pictures of all blocks, and make room for what is written beyond them."""
        for part, mark, (left, top) in zip(self.parts, self.marks, self.corners, strict=True):
            mark.draw(_Place(ax, len(part.layout.names), left, top), part, [True, False])
        width, height = self.ends
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        if self.outside:
            for edge, at in (("left", -0.5 - self.outside), ("bottom", height - 0.5 + self.outside)):
                ax.spines[edge].set(visible=True, position=("data", at), color="none")

    @property
    def has_legend(self) -> bool:
        return any(mark.has_bars for mark in self.marks)

    @property
    def notes(self) -> list[str]:
        """Say which pictures are left out."""
        first = self.marks[0].shelf
        return first.notes() if first else []


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
    layout, space = margins.layout, _Space.of(ax)
    shelf = _Shelf.of(len(layout.names), space) if margins.pictures else None
    text = _Text.of(margins, replace(space, depth=shelf.depth if shelf else 0.0))
    marks = _Marks.of(margins, space, named=text.of_groups)
    _separate(ax, layout.blocks if text.runs or marks.has_bars or layout.folds else [])
    marks.draw(_Place(ax, len(layout.names)), margins, [True] * rows + [False] * columns)
    _write(ax, text, marks.outside, rows=rows, columns=columns and (not text.of_groups or not marks.has_bars))
    if columns:
        ax.set_xlabel("\n".join(text.notes(layout, marks.has_bars) + ([] if not (shelf and rows) else shelf.notes())))
    return marks.has_bars and not text.of_groups


@dataclass(frozen=True)
class _Place:
    """A matrix of `n` conditions in an axes; its first cell is at (left, top) in data coordinates."""

    ax: Axes
    n: int
    left: float = 0.0
    top: float = 0.0

    def scaled(self, x: bool, y: bool) -> Transform:
        """Transform positions of conditions, or shares of the side (x from the left, y from the bottom)."""
        across = (self.n, self.left - 0.5) if x else (1, self.left)
        down = (-self.n, self.top + self.n - 0.5) if y else (1, self.top)
        return Affine2D().scale(across[0], down[0]).translate(across[1], down[1]) + self.ax.transData


@dataclass(frozen=True)
class _Marks:
    """Bars and pictures beside a matrix; `at` is the middle of the bars, as a fraction of the matrix's side."""

    has_bars: bool
    at: float
    shelf: _Shelf | None

    @classmethod
    def of(cls, margins: Margins, space: _Space, *, named: bool = False) -> _Marks:
        """Draw bars if each category has its own colour, or its name."""
        layout = margins.layout
        has_bars = bool(layout.groups) and (len(layout.colours) <= len(GROUP_COLOURS) or named)
        shelf = _Shelf.of(len(layout.names), space) if margins.pictures else None
        return cls(has_bars, 0.9 * _BAR / space.side(0, 0), shelf)

    @property
    def of_bars(self) -> float:
        return 1.8 * self.at if self.has_bars else 0.0

    @property
    def outside(self) -> float:
        """Depth of all marks."""
        return max(self.of_bars, self.shelf.side / 2) + self.shelf.depth if self.shelf else self.of_bars

    def draw(self, place: _Place, margins: Margins, on_left: Sequence[bool]) -> None:
        if self.has_bars:
            _bars(place, margins.layout, self.at)
            look: dict[str, Any] = {"fill": False, "edgecolor": "none", "clip_on": False}
            corner, depth = (-self.of_bars, -self.of_bars), self.of_bars
            box = Rectangle(corner, depth, depth, transform=place.scaled(True, True), **look)
            place.ax.add_artist(box)  # the layout does not measure the bars
        if self.shelf:
            for left in on_left:
                _hang(place, margins.pictures, self.shelf, self.of_bars, on_left=left)


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


def _hang(place: _Place, pictures: Sequence[Picture], shelf: _Shelf, start: float, *, on_left: bool) -> None:
    """Draw thumbnails to the left of the image or below it; a line connects each one with its condition."""
    n, outside = len(pictures), max(start, shelf.side / 2)
    box = (
        (-outside - shelf.depth, 0, outside + shelf.depth, 1)
        if on_left
        else (0, -outside - shelf.depth, 1, outside + shelf.depth)
    )
    margin = place.ax.inset_axes(
        box, transform=place.scaled(True, True), label="images of rows" if on_left else "images of columns"
    )
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


def _bars(place: _Place, layout: Layout, at: float) -> None:
    """Draw a coloured bar to the left of and below each run of conditions of one category."""
    gap = min(0.25, 0.006 * len(layout.names)) if layout.blocks else 0.0
    ends = [(start - 0.5 + gap, stop - 0.5 - gap) for _, start, stop in layout.runs]
    look: dict[str, Any] = {
        "colors": [layout.colours[group] for group, *_ in layout.runs],
        "linewidth": _BAR,
        "clip_on": False,
        "capstyle": "butt",
    }
    _lines(place.ax, [[(-at, a), (-at, b)] for a, b in ends], place.scaled(True, False), label="bars of rows", **look)
    _lines(
        place.ax, [[(a, -at), (b, -at)] for a, b in ends], place.scaled(False, True), label="bars of columns", **look
    )


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
    if columns:
        name_columns(ax, ticks, text.words, upright=text.upright)
    if rows:
        ax.set_yticks(ticks, list(text.words), family=mpl.rcParams["font.family"])
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
