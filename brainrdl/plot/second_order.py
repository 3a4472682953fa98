"""Similarities between RDMs of models, layers, regions or subjects, as a matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from brainrdl._core.errors import quote, refuse
from brainrdl.plot.arrangement import layout_of
from brainrdl.plot.margins import NAMES_OR_GROUPS, Margins, label_conditions, settle
from brainrdl.plot.style import (
    DIVERGING,
    axes_for,
    check_columns,
    draw_colorbar,
    draw_image,
    extent_of,
    one_of,
    readable_on,
    set_title,
    styled,
)
from brainrdl.similarity.comparators import label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WRITTEN = 16.0  # points: side of a cell from which its value may be written in it
_TEXT = 8.5  # points: size of the values
_SHARE = 0.9  # of a cell that the widest value may fill


def similarity_matrix(
    table: pd.DataFrame,
    comparator: str | None = None,
    groups: Mapping[str, str] | None = None,
    *,
    order: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the similarities between RDMs as a square matrix, in the order in which `rdm_of_rdms` draws them.

    Parameters
    ----------
    table : DataFrame
        Columns a, b, comparator and similarity, as `brainrdl.compare` returns them for RDMs with themselves. Each pair
        may be there once or in both directions.
    comparator : str, optional
        One of the comparators in the table; by default the first.
    groups, order
        As in `rdm_of_rdms`.

    Returns
    -------
    DataFrame
        (n_rdms, n_rdms), symmetric, with 1 on the diagonal if an RDM was not compared with itself; NaN for a pair that
        was not compared.

    Raises
    ------
    BrainrdlError
        If the table is empty or lacks a column, `comparator` is not in it, columns a and b have no name in common, a
        pair has two different similarities, a name has no group, or NaN are to be clustered.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl import plot
    >>> table = pd.DataFrame({"a": ["V1", "V1", "V2"], "b": ["V2", "IT", "IT"], "comparator": "corr",
    ...                       "similarity": [0.8, 0.2, 0.5]})
    >>> plot.similarity_matrix(table).loc["IT"].tolist()
    [0.2, 0.5, 1.0]
    """
    return _matrix(table, comparator, groups, order)[0]


def rdm_of_rdms(
    table: pd.DataFrame,
    ax: Axes | None = None,
    comparator: str | None = None,
    groups: Mapping[str, str] | None = None,
    *,
    order: str | Sequence[str] | None = None,
    title: str | None = None,
) -> Axes:
    """Draw how similar RDMs of models, layers, regions or subjects are to each other.

    Parameters
    ----------
    table : DataFrame
        Columns a, b, comparator and similarity, as ``brainrdl.compare(rdms, rdms)`` returns them.
    ax : Axes, optional
        Where to draw; a new figure by default.
    comparator : str, optional
        One of the comparators in the table; by default the first.
    groups : mapping of RDM name to group, optional
        Groups of RDMs (model families, regions, subjects), as coloured bars on the margins.
    order : {"stored", "groups", "cluster"} or sequence of str, optional
        As in the table, by group, by similarity (as in `rdm`), or all names in a given order. By default by group if
        there are `groups`, else as in the table.
    title : str, optional
        Title of the axes.

    Returns
    -------
    Axes
        With one image: the similarities, written in the cells if there is space. The diagonal is grey. Negative
        similarities are drawn on a scale centred at 0.

    Raises
    ------
    BrainrdlError
        As in `similarity_matrix`.

    See Also
    --------
    similarity_matrix : The matrix of this figure.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl import plot
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"a": ["V1", "V1", "V2"], "b": ["V2", "IT", "IT"], "comparator": "corr",
    ...                       "similarity": [0.8, 0.2, 0.5]})
    >>> ax = plot.rdm_of_rdms(table, Figure().subplots(), order="cluster")
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['IT', 'V2', 'V1']
    """
    matrix, margins, unit = _matrix(table, comparator, groups, order)
    values = matrix.to_numpy()
    apart = np.where(np.eye(len(values), dtype=bool), np.nan, values)
    signed = bool(np.nanmin(apart, initial=0.0) < 0)
    low, high = (-extent_of(apart), extent_of(apart)) if signed else (0.0, extent_of(apart))
    with styled():
        ax = axes_for(ax, (1.9 + 0.42 * min(len(values), 10), 1.5 + 0.4 * min(len(values), 10)))
        draw_image(ax, apart, DIVERGING if signed else "viridis", low, high)
        set_title(ax, title)
        label_conditions(ax, margins)
        draw_colorbar(ax, unit)
        settle(ax.figure)
        _write_values(ax, apart)
    return ax


def _write_values(ax: Axes, values: np.ndarray) -> None:
    """Write the similarities in their cells, if the widest fits."""
    from matplotlib.textpath import TextPath

    box = ax.get_window_extent()
    side = 72 / ax.figure.dpi * min(box.width, box.height) / len(values)
    if side < _WRITTEN:
        return
    known = {place: value for place, value in np.ndenumerate(values) if np.isfinite(value)}
    texts = {place: f"{value:.2f}".replace("-", "\N{MINUS SIGN}") for place, value in known.items()}
    widths = (TextPath((0, 0), text, size=_TEXT).get_extents().width for text in set(texts.values()))
    if max(widths, default=0.0) > _SHARE * side:
        return
    for (row, column), text in texts.items():
        colour = readable_on(ax, known[row, column])
        ax.text(column, row, text, ha="center", va="center", fontsize=_TEXT, color=colour)


def _matrix(
    table: pd.DataFrame, comparator: str | None, groups: Mapping[str, str] | None, order: str | Sequence[str] | None
) -> tuple[pd.DataFrame, Margins, str]:
    check_columns(table, ("a", "b", "comparator", "similarity"), "comparison table")
    comparator = one_of(table, "comparator", comparator)
    table = table[table["comparator"] == comparator]
    names = list(dict.fromkeys([*table["a"].astype(str), *table["b"].astype(str)]))
    if not set(table["a"].astype(str)) & set(table["b"].astype(str)) and len(table) > 1:
        refuse(
            f"columns a {quote(set(table['a']))} and b {quote(set(table['b']))} have no RDM in common; compare RDMs "
            "with themselves, brainrdl.compare(rdms, rdms), or draw models by targets with plot.comparison"
        )
    square = _filled(table, names)
    layout = layout_of(names, groups, order, square=1 - square)
    ordered = pd.DataFrame(layout.arrange(square), list(layout.names), list(layout.names))
    return ordered, Margins(layout, NAMES_OR_GROUPS), label_of(comparator)


def _filled(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    place = {name: i for i, name in enumerate(names)}
    square = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(square, 1.0)
    seen: dict[frozenset[str], float] = {}
    for a, b, value in zip(table["a"].astype(str), table["b"].astype(str), table["similarity"], strict=True):
        known = seen.setdefault(frozenset((a, b)), value)
        if not np.isclose(known, value, rtol=1e-6, atol=1e-9, equal_nan=True):
            refuse(
                f"the comparison table has two similarities of {a!r} and {b!r}: {known:.4g} and {value:.4g}; give each "
                "RDM another name, and each pair one similarity"
            )
        square[place[a], place[b]] = square[place[b], place[a]] = value
    return square
