"""Order in which conditions are drawn, their categories and folds in this order, and ranks of dissimilarities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from brainrdl._core.constants import FOLD
from brainrdl._core.errors import arg, check_conditions, check_option, check_unique, quote, refuse
from brainrdl.plot.style import colours_of
from brainrdl.rdms.by_name import names

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs
ORDERS = ("stored", "groups", "folds", "cluster")

Run = tuple[str, int, int]


@dataclass(frozen=True)
class Layout:
    """Order in which conditions are drawn, with their categories and folds.

    Attributes
    ----------
    names : tuple of str
        Conditions as drawn.
    order : array (n,)
        Number of each drawn condition in the RDM.
    groups, folds : tuple of str
        Category and fold of each drawn condition; empty if there are none.
    colours : dict of str to str
        Colour of each category.
    """

    names: tuple[str, ...]
    order: Int[np.ndarray, " n"]
    groups: tuple[str, ...] = ()
    folds: tuple[str, ...] = ()
    colours: Mapping[str, str] = field(default_factory=dict)

    def arrange(self, square: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
        return square[np.ix_(self.order, self.order)]

    @property
    def runs(self) -> list[Run]:
        """Neighbours of the same category, as ``(label, start, stop)``."""
        return _runs(self.groups)

    @property
    def blocks(self) -> list[Run]:
        """What has one label on the margin: folds, or categories whose conditions are all neighbours."""
        if self.folds:
            return _runs(self.folds)
        return self.runs if len(self.runs) == len(set(self.groups)) else []


def _runs(labels: Sequence[str]) -> list[Run]:
    starts = [i for i, label in enumerate(labels) if i == 0 or label != labels[i - 1]]
    return [(labels[a], a, b) for a, b in zip(starts, [*starts, len(labels)][1:], strict=True)] if labels else []


def layout_of(
    conditions: Sequence[str],
    groups: Mapping[str, str] | None,
    order: str | Sequence[str] | None = None,
    folds: Mapping[str, Any] | None = None,
    square: Float[np.ndarray, "n n"] | None = None,
) -> Layout:
    """Arrange conditions by fold, category, similarity or a list; `square` is the RDM that is clustered."""
    of_group = _values_of(conditions, groups, "groups (name -> category)")
    of_fold = _values_of(conditions, folds, "folds (name -> fold)")
    if order is None:
        order = "folds" if folds is not None else "groups" if groups is not None else "stored"
    if not isinstance(order, str):
        chosen = _as_listed(conditions, order)
    elif check_option(order, ORDERS, "order") == "cluster":
        chosen = clustered(square, conditions)
    else:
        chosen = _sorted_by(order, of_group, of_fold, len(conditions))
    by_fold = [f"fold {of_fold[i]}" for i in chosen] if order == "folds" else []
    return Layout(
        tuple(conditions[i] for i in chosen),
        np.asarray(chosen, dtype=int),
        tuple(of_group[i] for i in chosen) if of_group else (),
        tuple(by_fold),
        colours_of(groups),
    )


def _values_of(conditions: Sequence[str], given: Mapping[str, Any] | None, where: str) -> list[str]:
    if given is None:
        return []
    check_conditions(conditions, given.keys(), where)
    return [str(given[name]) for name in conditions]


def _as_listed(conditions: Sequence[str], order: Sequence[str]) -> list[int]:
    listed = [str(name) for name in order]
    check_unique(listed, "order")
    check_conditions(listed, conditions, "the RDM")
    if missing := sorted(set(conditions) - set(listed)):
        refuse(
            f"order lacks the conditions {quote(missing)}; list all {len(conditions)} conditions, or select some first"
        )
    place = {name: i for i, name in enumerate(conditions)}
    return [place[name] for name in listed]


def _sorted_by(order: str, of_group: list[str], of_fold: list[str], n: int) -> list[int]:
    """Sort by fold, then by category, each in order of first appearance; folds by number."""
    needed = {"folds": of_fold, "groups": of_group}
    if order in needed and not needed[order]:
        refuse(f"order={order!r} needs {arg(order)}: a mapping of condition name to {order[:-1]}")
    groups = _places(of_group) if of_group and order != "stored" else [0] * n
    folds = _places(of_fold, numbers=True) if order == "folds" else [0] * n
    return sorted(range(n), key=lambda i: (folds[i], groups[i]))


def _places(labels: Sequence[str], *, numbers: bool = False) -> list[int]:
    known = list(dict.fromkeys(labels))
    if numbers:
        known.sort(key=lambda label: (int(label) if label.lstrip("-").isdigit() else 0, label))
    return [known.index(label) for label in labels]


def clustered(square: Float[np.ndarray, "n n"] | None, conditions: Sequence[str]) -> list[int]:
    """Order the leaves of an average-linkage tree so that neighbours are as similar as possible.

    Adding a constant to all dissimilarities changes neither the tree nor the order, so negative ones are shifted.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    pairs = squareform(square, checks=False)
    if unknown := int(np.isnan(pairs).sum()):
        refuse(
            f'order="cluster" needs all pairs of the {len(conditions)} conditions, but {unknown} of {len(pairs)} are '
            f"NaN; use another order, or give the order of a complete RDM as a list (see plot.condition_order)"
        )
    pairs = pairs - min(pairs.min(), 0.0)
    return [int(i) for i in leaves_list(linkage(pairs, "average", optimal_ordering=True))]


def condition_order(
    rdms: RDMs,
    groups: Mapping[str, str] | None = None,
    *,
    by: str = "stimulus",
    order: str | Sequence[str] | None = None,
    folds: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Return the conditions in the order in which `rdm` draws them, with their categories and folds.

    Parameters
    ----------
    rdms : RDMs
        Only the mean over RDMs is clustered.
    groups, order, folds, by
        As in `rdm`.

    Returns
    -------
    DataFrame
        Column condition, and group and fold if they are given; one row per condition.

    Raises
    ------
    BrainrdlError
        If `rdm` would refuse these arguments.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from brainrdl.rdms import from_array
    >>> one = from_array([0.9, 0.1, 0.8], ["cat", "car", "dog"])
    >>> plot.condition_order(one, order="cluster")["condition"].tolist()
    ['car', 'dog', 'cat']
    """
    layout = layout_of_rdms(rdms, groups, order, folds, by)
    table = pd.DataFrame({"condition": layout.names})
    if groups is not None:
        table["group"] = layout.groups
    if folds is not None:
        table["fold"] = [folds[name] for name in layout.names]
    return table


def folds_of(rdms: RDMs, *, by: str = "stimulus") -> dict[str, int]:
    """Find the folds of a held-out RDM: conditions were held out together if their pair is known.

    Parameters
    ----------
    rdms : RDMs
        One RDM, for example of a student in `brainrdl.Evaluation.students` with one seed; NaN for pairs that were not
        held out together.
    by : str
        Pattern descriptor that names the conditions.

    Returns
    -------
    dict of str to int
        Fold of each condition, for the `folds` of `rdm`. An RDM of `brainrdl.Evaluation.students` says which number
        each fold has in the tables of the evaluation. Without this, folds are numbered from 0 in order of first
        appearance.

    Raises
    ------
    BrainrdlError
        If there are several RDMs, a pair within a fold is unknown (as in the mean over seeds, whose folds differ), or
        a condition has no known pair.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from brainrdl.rdms import from_array
    >>> nan = float("nan")
    >>> plot.folds_of(from_array([nan, 0.3, nan, nan, 0.2, nan], list("abcd")))
    {'a': 0, 'b': 1, 'c': 0, 'd': 1}
    """
    from scipy.sparse.csgraph import connected_components

    if rdms.n_rdm != 1:
        refuse(f"expected one RDM, got {rdms.n_rdm} RDMs with folds of their own; choose one, for example rdms[0]")
    known = np.isfinite(rdms.get_matrices()[0]) | np.eye(rdms.n_cond, dtype=bool)
    _, numbers = connected_components(known)
    sizes = np.bincount(numbers)
    if (known.sum(1) != sizes[numbers]).any() or sizes.min() < 2:
        refuse(
            "the known pairs are not those of separate folds: some pairs within a fold are unknown, folds overlap, or "
            "a condition was never held out with another; use the RDM of one student and one seed, or give the folds "
            "yourself"
        )
    return dict(zip(names(rdms, by), stored_folds(rdms) or map(int, numbers), strict=True))


def stored_folds(rdms: RDMs) -> list[int] | None:
    """Return the fold of each condition that an evaluation stored for the seed of one RDM; None if it did not."""
    (seed,) = rdms.rdm_descriptors.get("seed", [None])
    folds = rdms.pattern_descriptors.get(f"{FOLD}{seed}")
    return None if folds is None else [int(fold) for fold in folds]


def layout_of_rdms(
    rdms: RDMs,
    groups: Mapping[str, str] | None,
    order: str | Sequence[str] | None,
    folds: Mapping[str, Any] | None,
    by: str,
) -> Layout:
    mean = known_mean(rdms.get_matrices()) if isinstance(order, str) and order == "cluster" else None
    return layout_of(names(rdms, by), groups, order, folds, mean)


def known_mean(stack: Float[np.ndarray, "k n n"]) -> Float[np.ndarray, "n n"]:
    """Mean over the first axis of the values that are known; NaN where none is."""
    known = np.isfinite(stack)
    count = known.sum(0)
    sums = np.where(known, stack, 0.0).sum(0)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


# Values


def ranks(pairs: Float[np.ndarray, " n_pairs"]) -> Float[np.ndarray, " n_pairs"]:
    """Midranks of the finite entries, from 0 (smallest) to 1 (largest); NaN stays NaN."""
    from scipy.stats import rankdata

    finite = np.isfinite(pairs)
    found = np.full(pairs.shape, np.nan)
    found[finite] = (rankdata(pairs[finite]) - 1) / max(int(finite.sum()) - 1, 1)
    return found


def limits_of(squares: Sequence[Float[np.ndarray, "n n"]], *, diagonal: bool = False) -> tuple[float, float]:
    """Range of the values, without the zeros of the diagonal, which would only stretch the scale."""
    shown = [square[np.isfinite(square) & (diagonal | ~np.eye(len(square), dtype=bool))] for square in squares]
    values = np.concatenate(shown)
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
