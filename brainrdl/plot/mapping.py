"""Conditions as points in the plane whose distances resemble dissimilarities: MDS, principal coordinates, t-SNE, UMAP.

`brainrdl.plot.condition_maps` draws these points.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from brainrdl._core.errors import check_option, quote, refuse
from brainrdl.rdms.by_name import align, names

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs
METHODS = ("mds", "classical", "t-sne", "umap")

_ROUNDS, _SETTLED = 1000, 1e-6  # of majorisation; it stops when the loss decreases less than this share

_TINY = 1e-12

Square = Float[np.ndarray, "n n"]

Points = Float[np.ndarray, "n 2"]


def map_table(
    rdms: RDMs, method: str = "mds", *, align_to: RDMs | None = None, by: str = "stimulus", seed: int = 0
) -> pd.DataFrame:
    """Place conditions in the plane so that their distances resemble the dissimilarities of each RDM.

    Parameters
    ----------
    rdms : RDMs
        ``n_rdms`` RDMs of at least 4 conditions.
    method : {"mds", "classical", "t-sne", "umap"}
        "mds": metric multidimensional scaling, the least squares fit of distances to dissimilarities. Pairs that are
        NaN have no weight, and negative dissimilarities (crossnobis) are kept as they are. "classical": principal
        coordinates, for which dissimilarities are squared distances (as all of `brainrdl.dissimilarity` are); negative
        ones are kept. "t-sne" (of scikit-learn) and "umap" (of the package umap-learn, if it is installed) keep
        neighbours together; large distances have no meaning.
    align_to : RDMs, optional
        One RDM of the same conditions, for example the teacher's: each map is moved, rotated and reflected so that its
        points come as close as possible to the map of this RDM, after scaling to its size (Procrustes). By default maps
        are aligned to that of the first RDM, whose axes are its principal axes.
    by : str
        Pattern descriptor that names the conditions.
    seed : int
        Random numbers of t-SNE and UMAP; the other methods have none.

    Returns
    -------
    DataFrame
        One row per RDM and condition. Columns: rdm (number in the stack), condition, x, y; and the same for all
        conditions of an RDM: stress (Kruskal's stress 1 after the best scaling: 0 for a perfect map), variance (squared
        correlation of dissimilarities with distances on the map; squared distances for "classical") and misfit (the
        share of the variance of the points of `align_to` that remains with the best scale: 0 for the same map, 1 for an
        unrelated one; NaN for the map that others are aligned to).

    Raises
    ------
    BrainrdlError
        If the method is unknown or not installed, conditions differ, there are fewer than 4 conditions, all
        dissimilarities are 0, the known pairs do not determine a map, or a method does not allow NaN or negative
        dissimilarities.

    References
    ----------
    Borg & Groenen (2005), Modern Multidimensional Scaling, Springer, doi 10.1007/0-387-28981-X; Heiser (1991),
    Psychometrika 56:7-27, doi 10.1007/BF02294582, for negative dissimilarities.

    Examples
    --------
    >>> from brainrdl import plot
    >>> from brainrdl.rdms import from_array
    >>> square = from_array([1.0, 2**0.5, 1.0, 1.0, 2**0.5, 1.0], list("abcd"))
    >>> table = plot.map_table(square)
    >>> table.columns.tolist(), bool(table["stress"].max() < 1e-3)
    (['rdm', 'condition', 'x', 'y', 'stress', 'variance', 'misfit'], True)
    """
    check_option(method, METHODS, "method")
    reference = None
    if align_to is not None:
        if align_to.n_rdm != 1:
            refuse(f"align_to must be one RDM, got {align_to.n_rdm} RDMs; choose one, for example align_to[0]")
        rdms, align_to = align(rdms, align_to, by=by)
        reference, _ = _map_of(align_to.get_matrices()[0], names(rdms, by), method, seed)
    tables = []
    for k, square in enumerate(rdms.get_matrices()):
        points, fit = _map_of(square, names(rdms, by), method, seed)
        misfit = float("nan")
        if reference is None:
            reference = points
        else:
            points, misfit = aligned(points, reference)
        columns = {"rdm": k, "condition": names(rdms, by), "x": points[:, 0], "y": points[:, 1]}
        tables.append(pd.DataFrame(columns | fit | {"misfit": misfit}))
    return pd.concat(tables, ignore_index=True)


def _map_of(square: Square, conditions: tuple[str, ...], method: str, seed: int) -> tuple[Points, dict[str, float]]:
    n, known = len(square), np.isfinite(square) & ~np.eye(len(square), dtype=bool)
    if n < 4:
        refuse(f"a map needs at least 4 conditions, got {n}: {quote(conditions)}")
    if not square[known].any():
        refuse("all known dissimilarities are 0; there is nothing to map")
    if method != "mds" and (missing := int(np.triu(~known, 1).sum())):
        refuse(f'method="{method}" needs all pairs, but {missing} are NaN; use method="mds", or complete RDMs')
    if method in ("t-sne", "umap") and (square[known] < 0).any():
        refuse(
            f'method="{method}" needs dissimilarities of at least 0, got {square[known].min():.3g}; use method="mds" '
            'or "classical", which allow the negative values of cross-validated dissimilarities'
        )
    points = oriented(
        {"mds": _mds, "classical": _classical, "t-sne": _tsne, "umap": _umap}[method](square, known, seed)
    )
    distances = _distances(points)
    if method == "mds" and not known[~np.eye(n, dtype=bool)].all():
        _check_determined(points, known, conditions)
    return points, _fit(square[known], (distances**2 if method == "classical" else distances)[known])


def _fit(dissimilarities: np.ndarray, distances: np.ndarray) -> dict[str, float]:
    scale = dissimilarities @ distances / max(distances @ distances, _TINY)
    stress = np.sqrt(np.square(dissimilarities - scale * distances).sum() / np.square(dissimilarities).sum())
    vary = min(np.ptp(dissimilarities), np.ptp(distances)) > 1e-9 * np.abs(dissimilarities).max()
    variance = np.corrcoef(dissimilarities, distances)[0, 1] ** 2 if vary else np.nan
    return {"stress": float(stress), "variance": float(variance)}


def _distances(points: Points) -> Square:
    from scipy.spatial.distance import cdist

    distances: Square = cdist(points, points)
    return distances


def _principal(squared: Square) -> Points:
    """First two principal coordinates of squared distances."""
    centred = squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    return vectors[:, [-1, -2]] * np.sqrt(np.maximum(values[[-1, -2]], 0.0))


def _classical(square: Square, known: Bool[np.ndarray, "n n"], seed: int) -> Points:
    return _principal(square)


def _mds(square: Square, known: Bool[np.ndarray, "n n"], seed: int) -> Points:
    """Minimise the sum of squared differences between distances and dissimilarities by majorisation.

    A negative dissimilarity asks for a distance that is as small as possible: its term of the loss is bounded by a
    quadratic function, which adds to the weight of the pair (Heiser 1991).
    """
    given = np.where(known, square, 0.0)
    filled = np.where(known | np.eye(len(square), dtype=bool), square, square[known].mean())
    points = _principal(np.sign(filled) * filled**2)
    points = points + 1e-3 * np.abs(points).max() * np.random.default_rng(0).standard_normal(points.shape)
    pulled, pushed = np.maximum(given, 0.0), np.maximum(-given, 0.0)
    inverse = np.linalg.inv(_laplacian(known.astype(float)) + 1 / len(points))
    loss = np.inf
    for _ in range(_ROUNDS):
        distances = np.maximum(_distances(points), _TINY)
        before, loss = loss, float(np.square(given - distances)[known].sum())
        if before - loss <= _SETTLED * loss:
            break
        pulls = pulled / distances
        target = pulls.sum(1)[:, None] * points - pulls @ points
        if pushed.any():
            inverse = np.linalg.inv(_laplacian(known + pushed / distances) + 1 / len(points))
        points = inverse @ target
    return points


def _laplacian(weights: Square) -> Square:
    return np.diag(weights.sum(1)) - weights


def _check_determined(points: Points, known: Bool[np.ndarray, "n n"], conditions: tuple[str, ...]) -> None:
    """Refuse a map of which parts could move while all known distances stay as they are."""
    n = len(points)
    toward = points[:, None] - points[None]
    toward /= np.maximum(np.linalg.norm(toward, axis=-1, keepdims=True), _TINY)
    stiffness = -np.einsum("ijk,ijl,ij->ikjl", toward, toward, known.astype(float))
    for i in range(n):
        stiffness[i, :, i, :] = -stiffness[i].sum(1)
    values = np.linalg.eigvalsh(stiffness.reshape(2 * n, 2 * n))
    if values[3] > 1e-9 * values[-1]:  # three are 0 in any case: two shifts and a rotation
        return
    fewest, n_missing = np.argsort(known.sum(1), kind="stable")[:3], int(np.triu(~known, 1).sum())
    refuse(
        f"the known pairs do not determine a map: {n_missing} of {n * (n - 1) // 2} are NaN (fewest are known of "
        f"{quote(conditions[i] for i in fewest)}), so that some conditions could be anywhere; use a complete RDM, or "
        "the conditions of one fold"
    )


def _tsne(square: Square, known: Bool[np.ndarray, "n n"], seed: int) -> Points:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(square) - 1) / 3)
    found: Points = TSNE(metric="precomputed", init="random", perplexity=perplexity, random_state=seed).fit_transform(
        np.where(known, square, 0.0)
    )
    return found.astype(float)


def _umap(square: Square, known: Bool[np.ndarray, "n n"], seed: int) -> Points:
    try:
        from umap import UMAP
    except ImportError:
        refuse('method="umap" needs the package umap-learn: pip install umap-learn, or use method="t-sne"')
    neighbours = min(15, len(square) - 1)
    with warnings.catch_warnings():  # of its number of jobs, and of the inverse that distances do not have
        warnings.filterwarnings("ignore", category=UserWarning, module="umap")
        mapped: Any = UMAP(metric="precomputed", n_neighbors=neighbours, random_state=seed, n_jobs=1)
        found = mapped.fit_transform(np.where(known, square, 0.0))
    return np.asarray(found, dtype=float)


def oriented(points: Points) -> Points:
    """Turn points to their principal axes; on each axis, the point that is farthest out is positive."""
    centred = points - points.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    turned = centred @ axes.T
    signs = np.sign(turned[np.abs(turned).argmax(0), [0, 1]])
    return turned * np.where(signs == 0, 1, signs)


def aligned(points: Points, reference: Points) -> tuple[Points, float]:
    """Move, rotate and reflect points to a reference, scaled to its size; also return the misfit.

    The misfit is what would remain with the best scale, as a share of the reference's variance. This scale is not used
    for the points, because it draws maps that differ much towards the centre.

    Examples
    --------
    >>> square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    >>> moved, misfit = aligned(3 * square[:, ::-1] + 5, square)
    >>> bool(np.allclose(moved, square)), round(misfit, 12)
    (True, 0.0)
    """
    ours, theirs = points - points.mean(0), reference - reference.mean(0)
    u, values, vt = np.linalg.svd(ours.T @ theirs)
    sizes = [max(float(np.linalg.norm(each)), _TINY) for each in (ours, theirs)]
    turned = sizes[1] / sizes[0] * ours @ u @ vt
    return turned + reference.mean(0), float(max(0.0, 1 - (values.sum() / sizes[0] / sizes[1]) ** 2))
