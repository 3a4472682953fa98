"""What all figures share: colours, axes, images, colour scales, text, and the check of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import font_manager
from matplotlib.colors import Colormap, LinearSegmentedColormap

from brainrdl._core.errors import check_option, quote, refuse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
BLUE, GREEN, VERMILION, PURPLE = "#0072B2", "#009E73", "#D55E00", "#CC79A7"  # Okabe and Ito

INK, QUIET, FAINT, MISSING = "#222222", "#666666", "#E6E6E6", "#D0D0D0"

# Categories: the medium-contrast scheme of Paul Tol (SRON/EPS/TN/09-002), dark and light in turn so that neighbours
# differ in grey print too, and two greys.
GROUP_COLOURS = ("#004488", "#EECC66", "#994455", "#6699CC", "#997700", "#EE99AA", "#222222", "#999999")

GROUP_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

# Lines: colour and marker both change from one to the next, because these colours are equal in grey print.
LINE_LOOKS = [((BLUE, VERMILION, GREEN, PURPLE, INK)[k % 5], GROUP_MARKERS[k % 8]) for k in range(40)]

# Values around 0: negative is dark and blue, 0 is grey, positive is light and yellow. The lightness rises from end to
# end (L* 16 to 85), so the sign can be read in grey print: docs/decisions/0013-colours-of-differences.md.
DIVERGING = LinearSegmentedColormap.from_list(
    "differences",
    [
        "#041f71", "#052f7a", "#0f3d80", "#1e4a85", "#2f5887", "#426488", "#577088", "#6d7a86", "#838383",
        "#9a897d", "#ae8f76", "#bf956d", "#cf9d64", "#dca55b", "#e9af50", "#f4bb46", "#ffcd44",
    ],
)  # fmt: skip

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
}

PANEL_TITLE = 28

_LETTER = 4.6  # mean width of a letter, in points

# Fonts with many characters, for those that the user's own font lacks.
_FALLBACKS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Source Han Sans", "WenQuanYi Zen Hei",
    "Hiragino Sans", "PingFang SC", "Heiti TC", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimHei",
    "Droid Sans Fallback", "Arial Unicode MS", "Unifont",
)  # fmt: skip


def styled() -> AbstractContextManager[None]:
    return mpl.rc_context(_STYLE | {"font.family": _families()})


def _families() -> list[str]:
    """List the user's fonts and the installed fallbacks: matplotlib warns about fonts that are not installed."""
    installed, own = set(font_manager.get_font_names()), mpl.rcParams["font.family"]
    return [*own, *(name for name in _FALLBACKS if name in installed and name not in own)]


# Categories


def colours_of(groups: Mapping[str, str] | None) -> dict[str, str]:
    """Colour of each category in the order of the mapping, so that it is the same in all figures; repeated after 8."""
    labels = {} if groups is None else dict.fromkeys(str(label) for label in map(groups.__getitem__, groups.keys()))
    return {label: GROUP_COLOURS[i % len(GROUP_COLOURS)] for i, label in enumerate(labels)}


# Axes


def axes_for(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Make an axes, or give the caller's axes the same style: its text was sized when it was made."""
    if ax is None:
        return new_figure(size).subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(QUIET)
    ax.tick_params(labelsize=_STYLE["xtick.labelsize"], color=QUIET, labelcolor=INK)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set(size=_STYLE["axes.labelsize"], color=INK, family=mpl.rcParams["font.family"])
    return ax


def new_figure(size: tuple[float, float]) -> Figure:
    import matplotlib.pyplot as plt  # not at the top: importing pyplot chooses a graphics back-end

    return plt.figure(figsize=size, layout="compressed")


def rule(ax: Axes, axis: Literal["x", "y"]) -> None:
    """Draw faint lines across `axis`, behind everything else."""
    ax.grid(axis=axis, color=FAINT, linewidth=0.8)
    ax.set_axisbelow(True)


def name_rows(ax: Axes, labels: Sequence[str]) -> None:
    """Label rows 0, 1, ... instead of a vertical scale."""
    ax.set_yticks(range(len(labels)), shown(labels, 44), family=mpl.rcParams["font.family"])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def name_columns(ax: Axes, ticks: Sequence[float], labels: Sequence[str], *, upright: bool = False) -> None:
    """Label columns below an image: slanted, or vertical where they are close together."""
    slant: dict[str, Any] = {"rotation": 90} if upright else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(ticks, labels, family=mpl.rcParams["font.family"], **slant)


# Images


def extent_of(values: Float[np.ndarray, "*shape"]) -> float:
    """Return the largest absolute value, for a scale centred at 0; 1 if all values are 0 or NaN."""
    return float(np.nanmax(np.abs(values), initial=0.0)) or 1.0


def draw_image(
    ax: Axes,
    values: Float[np.ndarray, "rows columns"],
    cmap: str | Colormap,
    vmin: float | None,
    vmax: float | None,
    corner: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Draw a matrix whose first cell is at this corner (left, top)."""
    (left, top), (n_rows, n_columns) = corner, values.shape
    ax.imshow(
        np.ma.masked_invalid(values),
        cmap=mpl.colormaps.get_cmap(cmap).with_extremes(bad=MISSING),
        vmin=vmin,
        vmax=vmax,
        interpolation="nearest",
        extent=(left - 0.5, left + n_columns - 0.5, top + n_rows - 0.5, top - 0.5),
    )
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def readable_on(ax: Axes, value: float) -> str:
    """Black or white, whichever has more contrast with the colour of `value` (relative luminance, WCAG 2)."""
    red, green, blue, _ = ax.images[0].to_rgba(np.array(value))
    return "white" if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 < 0.18 else "black"


def draw_colorbar(
    ax: Axes,
    label: str,
    of: mpl.cm.ScalarMappable | None = None,
    box: tuple[float, float, float, float] = (1.035, 0.0, 0.045, 1.0),
    **options: Any,
) -> None:
    """Draw a colour scale in a box, as shares of the axes; by default beside it, of the same height."""
    bar = ax.figure.colorbar(of or ax.images[0], cax=ax.inset_axes(box), **options)
    bar.set_label("\n".join(plain(line, 60) for line in label.splitlines()))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2)


# Words


def explain(ax: Axes, height: float = 1.0) -> None:
    """Put the legend above the axes, where it hides nothing: two columns, or one if the axes is narrow."""
    widest = 32 + _LETTER * max(map(len, ax.get_legend_handles_labels()[1]), default=0)
    room = room_beside_names(ax)
    at: int = widest >= room  # at the right end, it extends above the names of rows
    legend = ax.legend(
        loc="lower right" if at else "lower left",
        bbox_to_anchor=(at, height),
        ncols=2 if 2 * widest < room else 1,
        frameon=False,
        handletextpad=0.5,
        columnspacing=1.4,
        borderaxespad=0.2,
    )
    for text in legend.get_texts():
        text.set_text(fill(text.get_text(), max(24, int((0.8 * width_of(ax) - 32) / _LETTER))))


def label_across(ax: Axes, text: str) -> None:
    """Label the horizontal axis, on several lines if the axes is narrow."""
    room = room_beside_names(ax)
    ax.set_xlabel(fill(text, max(16, int(room / (1.08 * _LETTER)))))


def label_up(ax: Axes, text: str) -> None:
    """Label the vertical axis, on several lines if the axes is low, or narrow with a legend on top."""
    spec, figure = ax.get_subplotspec(), ax.figure
    height = ax.get_window_extent().height if spec is None else figure.bbox.height / spec.get_gridspec().nrows
    share = 0.75 if width_of(ax) > 320 else 0.55
    lines = [
        fill(line, max(16, int(72 * share * height / figure.dpi / (1.08 * _LETTER)))) for line in text.splitlines()
    ]
    ax.set_ylabel("\n".join(lines))


def note(ax: Axes, text: str) -> None:
    """Write an explanation of marks above the right end of an axes; its title is on the left."""
    ax.set_title(text, loc="right", fontsize=_STYLE["legend.fontsize"])


def room_beside_names(ax: Axes) -> float:
    """Width in points that names of rows leave to an axes."""
    return width_of(ax) - _LETTER * _longest(ax) - 16


def width_of(ax: Axes) -> float:
    """Width in points of the part of the figure for an axes with its labels."""
    spec, figure = ax.get_subplotspec(), ax.get_figure(root=False)
    if spec is None or figure is None:
        return float(72 * ax.get_window_extent().width / ax.figure.dpi)
    ratios = np.array(spec.get_gridspec().get_width_ratios(), dtype=float)
    share = ratios[spec.colspan.start : spec.colspan.stop].sum() / ratios.sum()
    return float(72 * figure.bbox.width * share / figure.dpi)


def _longest(ax: Axes) -> int:
    return max((len(line) for tick in ax.get_yticklabels() for line in tick.get_text().splitlines()), default=0)


def set_title(ax: Axes, title: str | None, longest: int = 60) -> None:
    if title:
        ax.set_title(plain(title, longest), loc="left", family=mpl.rcParams["font.family"])


def plain(text: str, longest: int = 28) -> str:
    """Prepare text for drawing: no mathematics, the middle of long text left out, "?" for characters in no font."""
    half = (longest - 1) // 2
    cut = text if len(text) <= longest else f"{text[:half]}\u2026{text[-half:]}"
    return "".join(letter if _drawable(letter) else "?" for letter in cut).replace("$", r"\$")


def in_legend(labels: Sequence[str]) -> list[str]:
    """Prepare names for a legend, which leaves out names that begin with "_", as those of some layers do."""
    return [f" {word}" if word.startswith("_") else word for word in shown(labels)]


def shown(labels: Sequence[str], longest: int = 28) -> list[str]:
    """Prepare labels with `plain`; a label with characters in no font is replaced by its number in the list.

    Different labels that are the same when shortened begin with their number.
    """
    found = [plain(text, longest) if _drawable(text) else f"no. {i}" for i, text in enumerate(labels, start=1)]
    texts: dict[str, set[str]] = {}
    for word, text in zip(found, labels, strict=True):
        texts.setdefault(word, set()).add(text)
    place = {text: i for i, text in enumerate(dict.fromkeys(labels), start=1)}
    return [
        word if len(texts[word]) == 1 else f"{place[text]}. {plain(text, max(5, longest - 4))}"
        for word, text in zip(found, labels, strict=True)
    ]


def _drawable(text: str) -> bool:
    families = mpl.rcParams["font.family"]
    paths = tuple(font_manager.findfont(font_manager.FontProperties(family=[family])) for family in families)
    return _characters(paths).issuperset(map(ord, text))


@cache
def _characters(paths: Sequence[str]) -> frozenset[int]:
    return frozenset().union(*(font_manager.get_font(path).get_charmap() for path in paths))


# Tables


def table_of(source: Any, *attributes: str) -> pd.DataFrame:
    """Give a table as it is, and of an `Evaluation` or `FitResult` the first of these attributes that it has."""
    if isinstance(source, pd.DataFrame):
        return source
    found = [getattr(source, name) for name in attributes if isinstance(getattr(source, name, None), pd.DataFrame)]
    if not found:
        expected = f"a table, or a result with the attribute {' or '.join(attributes)}"
        refuse(f"expected {expected}, got {type(source).__name__}")
    return found[0]


def check_columns(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        refuse(f"the {what} lacks the columns {quote(missing)}; it has {quote(table.columns)}")
    if table.empty:
        refuse(f"the {what} is empty; there is nothing to draw")


def one_of(table: pd.DataFrame, column: str, value: str | None) -> str:
    known = [str(entry) for entry in dict.fromkeys(table[column])]
    return known[0] if value is None else check_option(value, known, column)
