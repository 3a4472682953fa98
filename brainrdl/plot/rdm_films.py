"""Films of a student's RDM during training, as GIF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainrdl._core.errors import check_conditions, check_number, check_whole, refuse
from brainrdl._core.files import atomic
from brainrdl.plot.arrangement import ranks
from brainrdl.plot.images import rdm
from brainrdl.plot.style import INK, VERMILION, check_columns, draw_colorbar, rule, styled
from brainrdl.rdms.by_name import align, names, select
from brainrdl.rdms.conversion import from_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from rsatoolbox.rdm import RDMs
_LAST = 2.0  # seconds for which the last frame is shown

_N_COLOURS = 96

_CURVES = ("validation_similarity", "train_similarity")


def rdm_film(
    rdms: RDMs,
    teacher: RDMs,
    path: Path | str,
    groups: Mapping[str, str] | None = None,
    *,
    history: pd.DataFrame | None = None,
    by: str = "stimulus",
    titles: tuple[str, str] = ("student", "teacher"),
    seconds: float = 6.0,
    n_frames: int = 24,
    dpi: int = 100,
) -> Path:
    """Write a film (GIF) of a student's RDM over training steps, with the teacher's RDM on the right.

    Parameters
    ----------
    rdms : RDMs
        One RDM for each step; rdm descriptor ``step``, as those of `brainrdl.training.RecordRDMs`.
    teacher : RDMs
        One RDM with the same conditions, in any order.
    path : path
        File to write, ``.gif``; it is replaced.
    groups : mapping of condition name to category, optional
        Sort conditions by category, as in `rdm`.
    history : DataFrame, optional
        History of the fit: columns step and validation_similarity (or train_similarity). It is drawn below, with a dot
        at the present step.
    by : str
        Pattern descriptor that names the conditions.
    titles : (str, str)
        Titles of the two RDMs; the step follows the first.
    seconds : float
        Length of the film; the last frame is shown for two more seconds.
    n_frames : int
        Largest number of frames, at about equal distances in the list of steps; the first and the last are among them.
    dpi : int
        Dots per inch; the film is 4.4 inches wide.

    Returns
    -------
    Path
        The file. It shows ranks of dissimilarities (0 to 1) of the pairs that both RDMs contain, because student and
        teacher have different units.

    Raises
    ------
    BrainrdlError
        If the RDMs have no steps or there is only one, `teacher` is not one RDM, conditions differ, a condition has no
        category, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from brainrdl import plot
    >>> values = np.random.default_rng(0).random((3, 6))
    >>> student = from_array(values[:2], list("abcd"), descriptors={"step": [0, 10]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot.rdm_film(student, from_array(values[2], list("abcd")), f"{folder}/film.gif", dpi=40).name
    'film.gif'
    """
    steps = _steps_of(rdms)
    check_number(seconds, "seconds", above=0)
    check_whole(n_frames, "n_frames", 2)
    if teacher.n_rdm != 1:
        refuse(f"teacher must be one RDM, got {teacher.n_rdm}; average them, or choose one with subset")
    student, teacher = align(rdms, teacher, by)
    if groups is not None:
        order = _by_category(names(student, by), groups)
        student, teacher = (select(one, order, by) for one in (student, teacher))
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(n_frames, len(steps))).round().astype(int))
    with styled():
        film = _Film(student, teacher, groups, by, titles, history, steps)
        frames = [film.frame(int(k), dpi) for k in chosen]
    return _write(frames, Path(path), seconds)


def _steps_of(rdms: RDMs) -> list[int]:
    if "step" not in rdms.rdm_descriptors:
        refuse("the RDMs have no rdm descriptor 'step'; record them with brainrdl.training.RecordRDMs")
    steps = [int(step) for step in rdms.rdm_descriptors["step"]]
    if len(set(steps)) < 2 or steps != sorted(set(steps)):
        refuse(f"a film needs RDMs of at least two steps, each once and in order; got the steps {steps}")
    return steps


def _by_category(conditions: Sequence[str], groups: Mapping[str, str]) -> list[str]:
    check_conditions(conditions, groups.keys(), "groups (name -> category)")
    labels = list(dict.fromkeys(groups[name] for name in conditions))
    return sorted(conditions, key=lambda name: labels.index(groups[name]))


class _Film:
    """The figure of a film, of which only the student's RDM, the step and the dot change."""

    def __init__(
        self,
        student: RDMs,
        teacher: RDMs,
        groups: Mapping[str, str] | None,
        by: str,
        titles: tuple[str, str],
        history: pd.DataFrame | None,
        steps: Sequence[int],
    ) -> None:
        self.student, self.teacher = student.dissimilarities, teacher.dissimilarities[0]
        self.title, self.steps, self.curve = titles[0], steps, _curve_of(history)
        self.figure, (left, right), below = _panels(self.curve is not None)
        conditions = names(student, by)
        shown = {"groups": groups, "vmin": 0.0, "vmax": 1.0, "by": by, "colorbar": False}
        for ax, values, title in ((left, self.student[0], self._titled(0)), (right, self.teacher, titles[1])):
            rdm(from_array(ranks(values), conditions, by=by), ax, title=title, **shown)  # type: ignore[arg-type]
        draw_colorbar(right, "rank of dissimilarity (0-1)")
        for axis in (left.xaxis, right.xaxis, right.yaxis):  # the rows of the student name all
            axis.set_ticks([])
        self.left, self.right = left, right
        self.dot = None if self.curve is None or below is None else _draw_curve(below, self.curve)
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")  # nothing moves from frame to frame

    def frame(self, k: int, dpi: int) -> Image:
        """Draw the RDMs of step number `k`, as an image."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from PIL import Image
        from scipy.spatial.distance import squareform

        known = np.isfinite(self.student[k]) & np.isfinite(self.teacher)
        for ax, values in ((self.left, self.student[k]), (self.right, self.teacher)):
            drawn = squareform(ranks(np.where(known, values, np.nan)), checks=False)
            ax.images[0].set_data(np.ma.masked_invalid(drawn))
        self.left.set_title(self._titled(k), loc="left")
        if self.dot is not None and self.curve is not None:
            at = float(np.interp(self.steps[k], self.curve["step"], self.curve.iloc[:, 1]))
            self.dot.set_data([self.steps[k]], [at])
        canvas = FigureCanvasAgg(self.figure)
        self.figure.set_dpi(dpi)
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")

    def _titled(self, k: int) -> str:
        return f"{self.title}, step {self.steps[k]:,}"


def _panels(with_curve: bool) -> tuple[Figure, tuple[Axes, Axes], Axes | None]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 3.5 if with_curve else 2.4), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(2 if with_curve else 1, 2, height_ratios=(2.1, 1) if with_curve else None)
    left, right = (figure.add_subplot(grid[0, k]) for k in range(2))
    return figure, (left, right), figure.add_subplot(grid[1, :]) if with_curve else None


def _curve_of(history: pd.DataFrame | None) -> pd.DataFrame | None:
    if history is None:
        return None
    check_columns(history, ("step",), "history")
    known = [column for column in _CURVES if column in history and history[column].notna().any()]
    if not known:
        refuse(f"the history has none of the columns {list(_CURVES)}; leave it out")
    return history.loc[history[known[0]].notna(), ["step", known[0]]]


def _draw_curve(ax: Axes, curve: pd.DataFrame) -> Any:
    ax.plot(curve["step"], curve.iloc[:, 1], color=VERMILION, linewidth=1.8)
    (dot,) = ax.plot([], [], "o", color=INK, markersize=6, zorder=4)
    rule(ax, "y")
    ax.set(xlabel="step", ylabel=f"similarity\n({curve.columns[1].split('_')[0]})")
    ax.spines[["top", "right"]].set_visible(False)
    return dot


def _write(frames: Sequence[Image], path: Path, seconds: float) -> Path:
    """Write frames with one palette, without dithering, which keeps the file small."""
    from PIL import Image

    both = Image.new("RGB", (frames[0].width, 2 * frames[0].height))
    both.paste(frames[0], (0, 0))
    both.paste(frames[-1], (0, frames[0].height))
    palette = both.quantize(_N_COLOURS, dither=Image.Dither.NONE)
    shown = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    each = 1000 * seconds / len(frames)
    times = [int(each)] * (len(frames) - 1) + [int(each + 1000 * _LAST)]
    with atomic(path) as part:
        shown[0].save(part, format="GIF", save_all=True, append_images=shown[1:], duration=times, loop=0, optimize=True)
    return path
