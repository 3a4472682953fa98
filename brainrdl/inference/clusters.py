"""Cluster-based permutation tests over subjects, along time, over two times, or on any graph of neighbours.

A cluster is a connected set of neighbours whose t statistics have one sign and are beyond a threshold. The largest
cluster of each permutation (of the signs of subjects) corrects for the number of tests. The p-value is of the cluster
as a whole: it does not say that its first time point, or any other single one, is significant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from jaxtyping import Bool, Float, Int

from brainrdl._core.errors import arg, check_number, check_option, named, refuse
from brainrdl.inference.permutation import Tail, flips, subject_table, t_values

if TYPE_CHECKING:
    from scipy.sparse import sparray, spmatrix

Method = Literal["mass", "tfce"]

_P_THRESHOLD = 0.05

_BLOCK = 2**21  # numbers computed at once, which limits the memory

_NO_SPREAD = 1e6  # a larger t is a spread of rounding errors only

_STEP = 0.1  # of t, of the sum over thresholds in threshold-free cluster enhancement

_EXTENT, _HEIGHT = 0.5, 2.0  # its exponents, of Smith & Nichols (2009)

_TIE = 1e-9

COLUMNS = ("cluster", "sign", "size", "mass", "p", "peak", "peak_t")


@dataclass(frozen=True, eq=False)
class ClusterTest:
    """Result of `cluster_test`.

    Attributes
    ----------
    t : array (...)
        t statistic of each value over subjects.
    p : array (...)
        p-value, corrected for all values, of the cluster that contains a value (1 outside of clusters), or with "tfce"
        of the value itself.
    labels : array (...), int
        Number of the cluster that contains a value, as in `clusters`; 0 outside of clusters.
    clusters : pandas.DataFrame
        One row per cluster, the largest mass first: cluster (its number), sign (1 or -1), size (number of values), mass
        (sum of t), p, peak (position of the largest t, as a tuple) and peak_t. With "tfce", a cluster is a connected
        set of values with p below .05, and its p is its smallest.
    threshold : float
        The t beyond which values form clusters; NaN with "tfce".
    maxima : array (n_permutations,)
        Mass of the largest cluster (or the largest enhanced value) of each permutation, the observed one first.
    exact : bool
        Whether all flips of signs were made.

    Examples
    --------
    >>> cluster_test(np.random.default_rng(0).normal(size=(9, 20))).t.shape
    (20,)
    """

    t: Float[np.ndarray, "*shape"]
    p: Float[np.ndarray, "*shape"]
    labels: Int[np.ndarray, "*shape"]
    clusters: pd.DataFrame
    threshold: float
    maxima: Float[np.ndarray, " n_permutations"]
    exact: bool


def cluster_test(
    values: npt.ArrayLike,
    *,
    adjacency: spmatrix | sparray | None = None,
    method: Method = "mass",
    p_threshold: float = _P_THRESHOLD,
    t_threshold: float | None = None,
    tail: Tail = "two-sided",
    n_permutations: int = 1000,
    seed: int = 0,
) -> ClusterTest:
    """Test where the mean over subjects differs from 0, with clusters of neighbours and flipped signs of subjects.

    Parameters
    ----------
    values : array (n_subjects, ...)
        For example scores ``(n_subjects, n_times)``, or ``(n_subjects, n_times, n_times)``; subtract the value of no
        effect if it is not 0. NaN leaves a subject out of one value.
    adjacency : SciPy sparse matrix (n, n), optional
        Neighbours along the last axis (vertices, voxels, sensors): entries other than 0. All other axes, and the last
        one without `adjacency`, are a grid whose neighbours are one step away along one axis (time, frequency).
    method : {"mass", "tfce"}
        A cluster counts with the sum of its t statistics; or threshold-free cluster enhancement, which gives each value
        a p-value and needs no threshold.
    p_threshold : float
        Values with an uncorrected p below it form clusters; `tail` decides whether it is two-sided.
    t_threshold : float, optional
        The same as a t statistic, above 0; used instead of `p_threshold`.
    tail : {"two-sided", "greater", "less"}
        Positive clusters, negative ones, or both.
    n_permutations : int
        Number of random flips; all are made if they are not more (12 subjects have 2048 in a two-sided test).
    seed : int
        Seed of the flips.

    Returns
    -------
    ClusterTest

    Raises
    ------
    BrainrdlError
        If there are fewer than 2 subjects, a value is infinite, `adjacency` does not fit the last axis, or an option is
        unknown or out of bounds.

    Notes
    -----
    The mass of a cluster is the sum of t, as in MNE-Python's ``permutation_cluster_1samp_test``, and the p-values are
    equal if all flips are made. The enhanced value is the sum, over thresholds h in steps of 0.1, of 0.1 times the root
    of the cluster's size times h squared.

    References
    ----------
    Maris & Oostenveld (2007), J. Neurosci. Methods 164:177-190, doi 10.1016/j.jneumeth.2007.03.024. Smith & Nichols
    (2009), NeuroImage 44:83-98, doi 10.1016/j.neuroimage.2008.03.061. Sassenhagen & Draschkow (2019), Psychophysiology
    56:e13335, doi 10.1111/psyp.13335 (a cluster's onset is not tested).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scores = rng.normal(size=(10, 50))  # 10 subjects, 50 time points
    >>> scores[:, 20:30] += 1.5
    >>> cluster_test(scores).clusters.query("p < 0.05")[["sign", "size", "p"]].to_dict("list")
    {'sign': [1], 'size': [8], 'p': [0.001953125]}
    """
    check_option(method, get_args(Method), "method")
    table, shape = subject_table(values), np.shape(values)[1:]
    signs, exact = flips(len(table), tail, n_permutations, seed)
    if method == "tfce" and (t_threshold is not None or p_threshold != _P_THRESHOLD):
        refuse(f"{arg('method', 'tfce')} has no threshold; leave out {arg('p_threshold')} and {arg('t_threshold')}")
    threshold = float("nan") if method == "tfce" else _threshold(p_threshold, t_threshold, tail, len(table))
    graph = _Graph(_edges(shape, adjacency), tail)
    t = t_values(signs[:1], table)
    if same := int((np.abs(t) > _NO_SPREAD).sum()):
        refuse(
            f"{same} of {t.size} values are the same in all subjects (such as a similarity of a subject with itself), "
            "so they have no t-value; set them to NaN, or subtract the value of no effect"
        )
    maxima = np.full(len(signs), 0.0)
    for rows, found in _in_blocks(signs, table):
        maxima[rows] = graph.largest(found, threshold) if method == "mass" else np.abs(graph.enhanced(found)).max(1)
    if method == "mass":
        clusters = graph.clusters(t, threshold)
        p_of = _p_values(np.abs(clusters.mass), maxima)
    else:
        p_values = _p_values(np.abs(graph.enhanced(t)[0]), maxima)
        clusters = graph.clusters(np.where(p_values < 0.05, t, 0.0), 0.0)
        p_of = np.array([p_values[clusters.nodes[clusters.of == k]].min() for k in range(len(clusters.mass))])
    order = np.argsort(-np.abs(clusters.mass), kind="stable")
    labels = np.zeros(table.shape[1], dtype=int)
    labels[clusters.nodes] = np.argsort(order)[clusters.of] + 1
    if method == "mass":
        p_values = np.append(1.0, p_of[order])[labels]
    p_values = np.where(np.isnan(t[0]), np.nan, p_values)
    rows_of = _table(labels, t[0], clusters.mass[order], p_of[order], shape)
    return ClusterTest(
        t[0].reshape(shape), p_values.reshape(shape), labels.reshape(shape), rows_of, threshold, maxima, exact
    )


def _threshold(p_threshold: float, t_threshold: float | None, tail: Tail, n_subjects: int) -> float:
    from scipy.stats import t

    if t_threshold is not None:
        check_number(t_threshold, "t_threshold", above=0)
        return float(t_threshold)
    check_number(p_threshold, "p_threshold", above=0)
    if p_threshold >= 0.5:
        refuse(f"{named('p_threshold')} must be below 0.5, got {p_threshold}; 0.05 and 0.01 are usual")
    return float(t.isf(p_threshold / (2 if tail == "two-sided" else 1), n_subjects - 1))


def _edges(shape: tuple[int, ...], adjacency: spmatrix | sparray | None) -> Int[np.ndarray, "2 n_edges"]:
    """Neighbours as flat positions: one step along one axis, or the entries of `adjacency` along the last axis."""
    places = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    grid = range(places.ndim - (adjacency is not None))
    found = [(np.delete(places, -1, axis), np.delete(places, 0, axis)) for axis in grid]
    if adjacency is not None:
        found.append(tuple(places[..., nodes] for nodes in _neighbours(shape, adjacency)))  # type: ignore[arg-type]
    return np.concatenate([np.empty((2, 0), int), *(np.stack([a.ravel(), b.ravel()]) for a, b in found)], 1)


def _neighbours(shape: tuple[int, ...], adjacency: spmatrix | sparray) -> Int[np.ndarray, "2 n_edges"]:
    from scipy.sparse import coo_array, issparse

    if not issparse(adjacency) or not shape or adjacency.shape != (shape[-1], shape[-1]):
        n = shape[-1] if shape else 1
        given = getattr(adjacency, "shape", type(adjacency).__name__)
        refuse(
            f"{named('adjacency')} must be a SciPy sparse matrix ({n}, {n}), as the last axis of values, got {given}"
        )
    entries = coo_array(adjacency)
    entries.eliminate_zeros()
    pairs = np.sort(np.stack([entries.coords[0], entries.coords[1]]), axis=0)
    return np.unique(pairs[:, pairs[0] < pairs[1]], axis=1)


def _in_blocks(
    signs: npt.NDArray[np.int8], table: Float[np.ndarray, "n_subjects n"]
) -> Iterator[tuple[slice, Float[np.ndarray, "n_rows n"]]]:
    size = max(1, _BLOCK // table.shape[1])
    for first in range(0, len(signs), size):
        yield slice(first, first + size), t_values(signs[first : first + size], table)


def _p_values(observed: Float[np.ndarray, " n"], maxima: Float[np.ndarray, " n_permutations"]) -> np.ndarray:
    below = np.searchsorted(np.sort(maxima), observed - _TIE * np.maximum(np.abs(observed), 1))
    return (len(maxima) - below) / len(maxima)


class _Clusters(NamedTuple):
    """Connected sets: the flat positions in them, the set of each, and the sum of t and the size of each set."""

    nodes: Int[np.ndarray, " n_nodes"]
    of: Int[np.ndarray, " n_nodes"]
    mass: Float[np.ndarray, " n_clusters"]
    size: Int[np.ndarray, " n_clusters"]


@dataclass(frozen=True)
class _Graph:
    """Neighbours, and the tails that count. Permutations are computed together: none is the neighbour of another."""

    edges: Int[np.ndarray, "2 n_edges"]
    tail: Tail

    def clusters(self, t: Float[np.ndarray, "n_rows n"], threshold: float) -> _Clusters:
        """Return connected values of one sign beyond a threshold, in all rows; positions count through all rows."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        sign = self._beyond(t, threshold)
        nodes = np.flatnonzero(sign)
        position = np.zeros(sign.size, dtype=np.int32)
        position[nodes] = np.arange(len(nodes))
        rows, edges = np.nonzero(self._joined(sign))
        i, j = (position[rows * t.shape[1] + self.edges[end, edges]] for end in (0, 1))
        graph = coo_array((np.ones(len(i), bool), (i, j)), shape=(len(nodes), len(nodes)))
        n, of = connected_components(graph.tocsr(), directed=False) if len(nodes) else (0, nodes)
        mass = np.bincount(of, weights=t.ravel()[nodes], minlength=n)
        return _Clusters(nodes, of, mass, np.bincount(of, minlength=n))

    def _beyond(self, t: np.ndarray, threshold: float) -> npt.NDArray[np.int8]:
        above, below = ((t > threshold) & (self.tail != "less"), (t < -threshold) & (self.tail != "greater"))
        return above.astype(np.int8) - below.astype(np.int8)

    def _joined(self, sign: npt.NDArray[np.int8]) -> Bool[np.ndarray, "n_rows n_edges"]:
        first, second = sign[:, self.edges[0]], sign[:, self.edges[1]]
        return (first == second) & (first != 0)

    def largest(self, t: Float[np.ndarray, "n_rows n"], threshold: float) -> Float[np.ndarray, " n_rows"]:
        """Return the largest absolute mass in each row, 0 without clusters."""
        found, largest = self.clusters(t, threshold), np.zeros(len(t))
        row = np.zeros(len(found.mass), dtype=int)
        row[found.of] = found.nodes // t.shape[1]
        np.maximum.at(largest, row, np.abs(found.mass))
        return largest

    def enhanced(self, t: Float[np.ndarray, "n_rows n"]) -> Float[np.ndarray, "n_rows n"]:
        """Return the sum over thresholds of the threshold squared times the root of the size of the cluster."""
        total = np.zeros(t.size)
        for height in np.arange(_STEP, np.nanmax(np.abs(t), initial=0.0), _STEP):
            found = self.clusters(t, height)
            total[found.nodes] += _STEP * height**_HEIGHT * found.size[found.of] ** _EXTENT
        return total.reshape(t.shape)


def _table(labels: np.ndarray, t: np.ndarray, mass: np.ndarray, p: np.ndarray, shape: tuple[int, ...]) -> pd.DataFrame:
    rows = []
    for k in range(len(mass)):
        inside = np.flatnonzero(labels == k + 1)
        peak = inside[np.abs(t[inside]).argmax()]
        place = tuple(int(i) for i in np.unravel_index(peak, shape)) if shape else ()
        rows.append((k + 1, int(np.sign(mass[k])), len(inside), float(mass[k]), float(p[k]), place, float(t[peak])))
    return pd.DataFrame(rows, columns=list(COLUMNS))
