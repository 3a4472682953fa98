"""Figures of conditions as points in the plane: one RDM, or how a student moves towards its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from brainrdl._core.errors import check_conditions, check_option, check_whole, refuse
from brainrdl.plot.mapping import Points, map_table
from brainrdl.plot.margins import LETTER, LINE, explain_below
from brainrdl.plot.style import GROUP_MARKERS, INK, axes_for, colours_of, set_title, shown, styled
from brainrdl.plot.thumbnails import Images, thumbnails
from brainrdl.rdms.by_name import align

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from rsatoolbox.rdm import RDMs
LABELS = ("names", "none")

_SIZES = (9.0, 26.0)  # smallest and largest side of a thumbnail in points

_NAMES = {"mds": "MDS", "classical": "principal coordinates", "t-sne": "t-SNE", "umap": "UMAP"}


def rdm_map(
    rdms: RDMs,
    ax: Axes | None = None,
    groups: Mapping[str, str] | None = None,
    *,
    method: str = "mds",
    index: int = 0,
    images: Images | None = None,
    labels: str | None = None,
    by: str = "stimulus",
    seed: int = 0,
    title: str | None = None,
) -> Axes:
    """Draw the conditions of an RDM as points whose distances resemble the dissimilarities.

    Axes of such a map have no unit. Below it is how much it shows: Kruskal's stress (0 for a perfect map) and the
    variance of the dissimilarities.

    Parameters
    ----------
    rdms : RDMs
        At least 4 conditions.
    ax : Axes, optional
        Where to draw; a new figure by default.
    groups : mapping of condition name to category, optional
        Colours and markers of the points, or frames of the pictures.
    method : {"mds", "classical", "t-sne", "umap"}
        As in `map_table`.
    index : int
        Number of the RDM in the stack.
    images : path, mapping or Stimuli, optional
        Pictures to draw in place of points, as in `rdm`.
    labels : {"names", "none"}, optional
        "names": write names next to the points, as many as fit without overlap. By default up to 40 conditions have
        names if there are no pictures.
    by : str
        Pattern descriptor that names the conditions.
    seed : int
        Random numbers of t-SNE and UMAP.
    title : str, optional
        Title of the axes.

    Returns
    -------
    Axes
        With one point or picture per condition, at the coordinates of `map_table`.

    Raises
    ------
    BrainrdlError
        If there is no RDM `index`, a condition has no category or image, or `map_table` refuses the RDM.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from brainrdl.rdms import from_array
    >>> from matplotlib.figure import Figure
    >>> square = from_array([1.0, 2**0.5, 1.0, 1.0, 2**0.5, 1.0], list("abcd"))
    >>> plot.rdm_map(square, Figure().subplots()).get_xlabel()
    'MDS: stress 0.00, 100% of variance'
    """
    if not -rdms.n_rdm <= index < rdms.n_rdm:
        refuse(f"RDM {index} does not exist: there are {rdms.n_rdm} RDMs (0 to {rdms.n_rdm - 1})")
    table = map_table(rdms[index % rdms.n_rdm], method, by=by, seed=seed)
    with styled():
        ax = axes_for(ax, (4.2, 4.4))
        look = _Look.of(table, groups, images, labels)
        left_out = _draw(ax, look, _points(table))
        ax.set_xlabel(f"{_NAMES[method]}: {_fit_of(table)}{left_out}")
        _explain(ax, look)
        set_title(ax, title)
    return ax


def displacement_map(
    student: RDMs,
    teacher: RDMs,
    ax: Axes | None = None,
    groups: Mapping[str, str] | None = None,
    *,
    before: RDMs | None = None,
    method: str = "mds",
    images: Images | None = None,
    labels: str | None = None,
    by: str = "stimulus",
    seed: int = 0,
    title: str | None = None,
    highlight: int | None = None,
) -> Axes:
    """Draw how the conditions of a student are displaced from those of its teacher, or how fitting moved them.

    The student's map is moved, rotated, reflected and scaled to that of the teacher (Procrustes): arrows show only
    what such changes cannot explain.

    Parameters
    ----------
    student, teacher : RDMs
        One RDM each, with the same conditions in any order.
    ax : Axes, optional
        Where to draw; a new figure by default.
    groups : mapping of condition name to category, optional
        Colours of points and arrows.
    before : RDMs, optional
        RDM of the student before it was fitted. Arrows then go from the student before to the student after fitting,
        and crosses show the teacher. By default, arrows go from the teacher to the student.
    method, images, labels, by, seed, title
        As in `rdm_map`. Points, pictures and names are where the arrows begin.
    highlight : int, optional
        How many conditions are drawn in full colour with their picture or name: those with the longest arrows. The
        others are faint. By default all of up to 24 conditions, and 12 of more.

    Returns
    -------
    Axes
        With one point or picture and one arrow per condition. If some are faint, the label says how many are not.

    Raises
    ------
    BrainrdlError
        If one of the RDMs is a stack, conditions differ, a condition has no category or image, `highlight` is not at
        least 1, or `map_table` refuses an RDM.

    See Also
    --------
    map_table : The table of coordinates, with ``align_to=teacher``.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from brainrdl.rdms import from_array
    >>> from matplotlib.figure import Figure
    >>> square = from_array([1.0, 2**0.5, 1.0, 1.0, 2**0.5, 1.0], list("abcd"))
    >>> larger = from_array([2.0, 8**0.5, 2.0, 2.0, 8**0.5, 2.0], list("abcd"))
    >>> ax = plot.displacement_map(larger, square, Figure().subplots())
    >>> ax.get_xlabel().splitlines()[0]
    'MDS: misfit to the teacher 0.00'
    """
    if highlight is not None:
        check_whole(highlight, "highlight", 1)
    for role, rdms in (("student", student), ("teacher", teacher), ("student before fitting", before)):
        if rdms is not None and rdms.n_rdm != 1:
            refuse(f"the {role} must be one RDM, got {rdms.n_rdm} RDMs; choose one with rdms[0], or average them")
    # A map depends on the order of its conditions (random starts, axes of symmetric RDMs), so all have the teacher's.
    student = align(teacher, student, by=by)[1]
    before = None if before is None else align(teacher, before, by=by)[1]
    goal = map_table(teacher, method, by=by, seed=seed)
    after, first = (
        None if rdms is None else _ordered(map_table(rdms, method, align_to=teacher, by=by, seed=seed), goal)
        for rdms in (student, before)
    )
    start = goal if first is None else first
    with styled():
        ax = axes_for(ax, (4.2, 4.6))
        look = _Look.of(start, groups, images, labels)
        look.strong = _longest(_points(after) - _points(start), highlight)
        left_out = _draw(ax, look, _points(start), others=[_points(goal), _points(after)])
        _draw_arrows(ax, look, _points(start), _points(after))
        if first is not None:
            ax.scatter(
                goal["x"], goal["y"], marker="x", s=14, linewidths=0.9, color=look.faded(look.colours), zorder=1.5
            )
        lines = [f"{_NAMES[method]}: {_misfit_of(first, after)}", _what_arrows_are(first is not None)]
        ax.set_xlabel("\n".join([*lines, *look.words()]) + left_out)
        _explain(ax, look)
        set_title(ax, title)
    return ax


_ARROW: dict[str, Any] = {
    "units": "inches", "width": 0.9 / 72, "headwidth": 5.0, "headlength": 6.0, "angles": "xy", "scale_units": "xy",
    "scale": 1,
}  # fmt: skip

MOST_STRONG, USUAL_STRONG = 24, 12  # conditions that are all in full colour; how many of more are

_FAINT = 0.3  # opacity of the others


def _longest(arrows: Points, highlight: int | None) -> npt.NDArray[np.bool_]:
    """Say which arrows are drawn in full colour."""
    n = highlight or (len(arrows) if len(arrows) <= MOST_STRONG else USUAL_STRONG)
    strong = np.zeros(len(arrows), dtype=bool)
    strong[np.argsort(-np.linalg.norm(arrows, axis=1), kind="stable")[:n]] = True
    return strong


def _draw_arrows(ax: Axes, look: _Look, start: Points, end: Points) -> None:
    """Draw the faint arrows behind the points and pictures, and the others in front of them."""
    colours = np.array(look.faded(look.arrows))
    for chosen, zorder in ((~look.strong, 1.4), (look.strong, 4)):
        if chosen.any():
            moved = end[chosen] - start[chosen]
            ax.quiver(*start[chosen].T, *moved.T, color=colours[chosen], zorder=zorder, **_ARROW)


def _ordered(table: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    return table.set_index("condition").loc[like["condition"]].reset_index()


def _points(table: pd.DataFrame | None) -> Points:
    return np.empty((0, 2)) if table is None else table[["x", "y"]].to_numpy(dtype=float)


def _fit_of(table: pd.DataFrame) -> str:
    stress, variance = table["stress"].iloc[0], table["variance"].iloc[0]
    return f"stress {stress:.2f}" + (f", {100 * variance:.0f}% of variance" if np.isfinite(variance) else "")


def _misfit_of(first: pd.DataFrame | None, after: pd.DataFrame | None) -> str:
    values = [f"{table['misfit'].iloc[0]:.2f}" for table in (first, after) if table is not None]
    return f"misfit to the teacher {' before, '.join(values)}" + (" after" if len(values) > 1 else "")


def _what_arrows_are(fitted: bool) -> str:
    return "arrows: before to after fitting; crosses: teacher" if fitted else "arrows: from teacher to student"


class _Look:
    """Colours, markers, pictures and names of the points, in the order of the table."""

    def __init__(self, conditions: Sequence[str], groups: Mapping[str, str] | None, images: Images | None) -> None:
        if groups is not None:
            check_conditions(conditions, groups.keys(), "groups (name -> category)")
        palette = colours_of(groups)
        self.names, self.groups = list(conditions), [str(groups[name]) for name in conditions] if groups else []
        self.markers = {
            group: GROUP_MARKERS[(i + i // len(GROUP_MARKERS)) % len(GROUP_MARKERS)] for i, group in enumerate(palette)
        }  # after all colours, each with another marker
        self.palette = {group: colour for group, colour in palette.items() if group in self.groups}
        self.colours = [palette[group] for group in self.groups] or ["#0072B2"] * len(conditions)
        self.arrows = self.colours if groups else [INK] * len(conditions)
        self.pictures = [] if images is None else thumbnails(images, self.names, longest=96)
        self.named = False
        self.strong = np.ones(len(self.names), dtype=bool)

    @classmethod
    def of(
        cls, table: pd.DataFrame, groups: Mapping[str, str] | None, images: Images | None, labels: str | None
    ) -> _Look:
        if labels is not None:
            check_option(labels, LABELS, "labels")
        look = cls(table["condition"].tolist(), groups, images)
        look.named = labels == "names" or (labels is None and images is None and len(table) <= _MOST_NAMES)
        return look

    def faded(self, colours: Sequence[str]) -> list[tuple[float, float, float, float]]:
        """Make the colours of the conditions that are not strong transparent."""
        return [to_rgba(colour, 1.0 if strong else _FAINT) for colour, strong in zip(colours, self.strong, strict=True)]

    def words(self) -> list[str]:
        n = int(self.strong.sum())
        return [] if n == len(self.names) else [f"in full colour: the {n} longest of {len(self.names)} arrows"]

    def handles(self, frames: bool) -> list[Artist]:
        named = zip(self.palette.items(), shown(list(self.palette)), strict=True)
        if frames:
            return [
                Patch(facecolor="white", edgecolor=colour, linewidth=1.5, label=word) for (_, colour), word in named
            ]
        style: dict[str, Any] = {"linestyle": "none", "markersize": 5}
        return [
            Line2D([], [], color=colour, marker=self.markers[group], label=word, **style)
            for (group, colour), word in named
        ]


_MOST_NAMES = 40


def _draw(ax: Axes, look: _Look, points: Points, others: Sequence[Points] = ()) -> str:
    """Draw points or pictures on axes that have space for `others` too, and say how many names were left out."""
    box = ax.get_window_extent()
    side = 0.85 * 72 / ax.figure.dpi * min(box.width, box.height)
    everything = np.concatenate([points, *others])
    low, high = everything.min(0), everything.max(0)
    share = 0.45 if others else 0.75
    size = float(np.clip(share * side / look.strong.sum() ** 0.5, *_SIZES)) if look.pictures else 6.0
    longest = LETTER * max(map(len, shown(look.names))) if look.named else 0.0
    edges = size / 2 + 2 + np.array([min(longest, 0.1 * side), LINE if look.named else 0.0])
    unit = float(((high - low) / np.maximum(side - 2 * edges, 1.0)).max())  # of the map, per point on paper
    low, high = low - edges * unit, high + edges * unit
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
    ax.set_aspect("equal")
    ax.spines[:].set_visible(False)
    _draw_markers(ax, look, points, ~look.strong if look.pictures else np.ones(len(points), dtype=bool))
    if look.pictures:
        _draw_pictures(ax, look, points, size * unit)
    left_out = _write_names(ax, look, points, size, unit) if look.named else 0
    return f"\n{left_out} names do not fit" if left_out else ""


def _explain(ax: Axes, look: _Look) -> None:
    if look.palette:
        explain_below(ax, look.handles(bool(look.pictures)))


def _draw_markers(ax: Axes, look: _Look, points: Points, chosen: npt.NDArray[np.bool_]) -> None:
    colours = np.array(look.faded(look.colours))
    for group in look.palette or [None]:
        inside = chosen & (np.array([other == group for other in look.groups]) if group else True)
        if inside.any():
            ax.scatter(
                points[inside, 0], points[inside, 1], s=20, marker=look.markers[group] if group else "o", color=colours[inside],
                edgecolors="white", linewidths=0.4, zorder=2,
            )  # fmt: skip


def _draw_pictures(ax: Axes, look: _Look, points: Points, size: float) -> None:
    limits = ax.axis()
    for k in np.flatnonzero(look.strong):
        (x, y), picture, colour = points[k], look.pictures[k], look.colours[k]
        above = 2 + k / len(points)  # a frame is hidden by the next picture
        height, width = size / 2 * np.array(picture.shape[:2]) / max(picture.shape[:2])
        box = (x - width, x + width, y - height, y + height)
        ax.imshow(picture, extent=box, interpolation="antialiased", zorder=above, clip_on=False, in_layout=False)
        if look.palette:
            frame = Rectangle((box[0], box[2]), 2 * width, 2 * height, fill=False, edgecolor=colour, linewidth=1.2)
            ax.add_patch(frame).set(zorder=above, clip_on=False, in_layout=False)
    ax.axis(limits)


def _write_names(ax: Axes, look: _Look, points: Points, size: float, unit: float) -> int:
    """Write names around their points; leave out, and count, those that would cover another name or a point."""
    taken = [(x - size / 2 * unit, x + size / 2 * unit, y - size / 2 * unit, y + size / 2 * unit) for x, y in points]
    left, right, bottom, top = ax.axis()
    names = shown(look.names)
    for k in np.flatnonzero(look.strong):
        name, (x, y) = names[k], points[k]
        width, height, away = LETTER * 1.15 * len(name) * unit, LINE * unit, (size / 2 + 1) * unit
        places = [(x + away, y - height / 2), (x - away - width, y - height / 2)]
        places += [(b, y + away) for b in (x - width / 2, x, x - width)]
        places += [(b, y - away - height) for b in (x - width / 2, x, x - width)]
        for a, b in places:
            box = (a, a + width, b, b + height)
            inside = left <= box[0] and box[1] <= right and bottom <= box[2] and box[3] <= top
            if inside and not any(_overlap(box, other) for i, other in enumerate(taken) if i != k):
                ax.text(a, b + height / 2, name, va="center", fontsize=8.5, color=INK, zorder=5)
                taken.append(box)
                break
    return len(points) + int(look.strong.sum()) - len(taken)


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]
