"""The likely kind of dissimilarity in an RDM, judged from its values alone; the evidence is always reported.

The evidence comes from Gram matrices. Dissimilarities D are squared distances between points if and only if -1/2 J D J
has no negative eigenvalue (J is the centring matrix; Schoenberg 1935, doi 10.2307/1968654). Squared distances pass this
test as they are, and usually fail it when squared. Plain distances pass it when squared; if the points lie in fewer
dimensions than there are conditions, then only few eigenvalues are above 0. If many channels make all distances nearly
equal, both pass, and the kind stays open. For 1 - r, the matrix 1 - D of correlations has no negative eigenvalue
either. Similar conditions have similar rows: in a similarity matrix, high values go with similar rows.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

MOST_CONDITIONS = 120  # 280,840 triples; if there are more conditions, this many are drawn

_SEED = 0

_MIN_EMBEDDED = 5  # with fewer points, almost any distances are possible

_MIN_CONDITIONS = 12  # with fewer, the rows of random RDMs are similar by chance

_ROUNDING = 1e-5  # relative; for float32 files after an eigenvalue decomposition

_SIMILAR = 0.4  # correlation over pairs between a value and the similarity of the two rows; random RDMs: below 0.2

_Square = Float[np.ndarray, "n n"]


class Kind(NamedTuple):
    """The name of the kind of an RDM, and the evidence for it."""

    name: str
    evidence: str


TWO_VALUES, RANKS, SIMILARITY, Z_SCORED = "a model of categories", "ranks", "a similarity matrix", "z-scored"

SIGNED, CORRELATION, SQUARED, PLAIN = "cross-validated", "correlation distance (1 - r)", "squared distance", "distance"

EITHER, COMMON = "distance, squared or not", "squared distance, or 1 - r of patterns with much in common"

UNKNOWN = "not recognised"


def likely(pairs: Float[np.ndarray, " n_pairs"]) -> Kind:
    """Guess the kind of one RDM from its values, without NaN pairs.

    Examples
    --------
    >>> likely(np.arange(1.0, 46.0)).name
    'ranks'
    """
    values = pairs[~np.isnan(pairs)]
    if len(np.unique(values)) <= 2:
        return Kind(TWO_VALUES, f"only the values {' and '.join(f'{value:.3g}' for value in np.unique(values))}")
    if _is_affine_in_ranks(values):
        return Kind(RANKS, _words_for_ranks(values))
    square = complete(squareform(pairs))[0]
    similar = _similar_rows(square) if len(square) >= _MIN_CONDITIONS else 0.0
    if similar > _SIMILAR:
        return Kind(SIMILARITY, f"pairs with high values have similar rows (r = {similar:.2f}); in an RDM, low values")
    if abs(values.mean()) < 1e-3 and abs(values.std() - 1) < 0.02:
        return Kind(Z_SCORED, f"mean {values.mean():.2g}, standard deviation {values.std():.3f}")
    if values.min() < 0:
        share = float((values < 0).mean())
        return Kind(SIGNED, f"{100 * share:.3g} % of pairs are negative, as happens by chance for similar patterns")
    return _by_embedding(square, values)


def likely_of_all(rows: Float[np.ndarray, "n_rdms n_pairs"]) -> list[Kind]:
    """Guess the kind of each of many RDMs; what may be 1 - r counts as 1 - r if other RDMs clearly are.

    Examples
    --------
    >>> [kind.name for kind in likely_of_all(np.stack([np.arange(1.0, 46.0), np.arange(45) % 2]))]
    ['ranks', 'a model of categories']
    """
    found = [likely(row) for row in rows]
    if CORRELATION not in {kind.name for kind in found}:
        return found
    others = "; fits 1 - r as well, as other RDMs here clearly do"
    return [Kind(CORRELATION, kind.evidence + others) if kind.name == COMMON else kind for kind in found]


def _by_embedding(square: _Square, values: Float[np.ndarray, " n_known"]) -> Kind:
    scale = f"{values.min():.3g} to {values.max():.3g}, mean {values.mean():.3g}"
    if len(square) < _MIN_EMBEDDED:
        return Kind(UNKNOWN, f"{scale}; too few conditions without NaN to decide")
    if not _embeds(square):
        return Kind(UNKNOWN, f"{scale}; neither the values nor their roots are distances between points")
    correlations = values.max() <= 2 * (1 + _ROUNDING) and _no_negative(1 - square)
    if correlations and 0.6 < values.mean() < 1.25:
        return Kind(CORRELATION, f"{scale}, within 0 to 2; 1 - value is a valid matrix of correlations")
    if not _embeds(square**2):
        evidence = f"{scale}; the roots are distances between points, the values are not"
        return Kind(COMMON if correlations else SQUARED, evidence)
    dimensions = _dimensions(square**2)
    if dimensions < len(square) - 1:
        return Kind(PLAIN, f"{scale}; they are distances between points in {dimensions} dimensions")
    return Kind(EITHER, f"{scale}; the values are distances between points, but so are their roots")


def _is_affine_in_ranks(values: Float[np.ndarray, " n_known"]) -> bool:
    if len(np.unique(values)) < 10:
        return False
    ranks = rankdata(values)
    slope, start = np.polyfit(ranks, values, 1)
    return bool(np.abs(start + slope * ranks - values).max() < _ROUNDING * np.ptp(values))


def _words_for_ranks(values: Float[np.ndarray, " n_known"]) -> str:
    step = np.diff(np.unique(values)).min()
    return f"{len(values)} values equally spaced from {values.min():.4g} to {values.max():.4g} (step {step:.3g})"


def _similar_rows(square: _Square) -> float:
    """Correlate the value of each pair with the similarity of its two rows, without the entries of the pair itself."""
    upper = np.triu_indices(len(square), 1)
    rows = _off_diagonal(square - square[upper].mean())
    rows = _off_diagonal(rows - rows.sum(1, keepdims=True) / (len(square) - 1))
    length = np.linalg.norm(rows, axis=1)
    if not length.all():
        return 0.0
    similarity = (rows @ rows.T / np.outer(length, length))[upper]
    return float(np.corrcoef(similarity, square[upper])[0, 1]) if np.ptp(similarity) > 0 else 0.0


def _off_diagonal(square: _Square) -> _Square:
    return square * ~np.eye(len(square), dtype=bool)


def _embeds(square: _Square) -> bool:
    """Return whether the values are squared distances between points."""
    return _no_negative(_gram(square))


def _dimensions(square: _Square) -> int:
    """Return the number of dimensions of points that have these squared distances."""
    eigenvalues = np.linalg.eigvalsh(_gram(square))
    return int((eigenvalues > _ROUNDING * eigenvalues.max()).sum())


def _gram(square: _Square) -> _Square:
    centre = np.eye(len(square)) - 1 / len(square)
    return -centre @ square @ centre


def _no_negative(symmetric: _Square) -> bool:
    eigenvalues = np.linalg.eigvalsh(symmetric)
    return bool(eigenvalues[0] >= -_ROUNDING * np.abs(eigenvalues).max())


def complete(square: _Square) -> tuple[_Square, list[int]]:
    """Draw at most 120 conditions, drop the one with most NaN until no NaN is left, and return the kept ones too.

    Examples
    --------
    >>> complete(np.array([[0, 1, np.nan], [1, 0, 2], [np.nan, 2, 0]]))[1]
    [1, 2]
    """
    missing, kept = np.isnan(square), _drawn(len(square))
    while (lacking := missing[np.ix_(kept, kept)].sum(0)).any():
        del kept[int(lacking.argmax())]
    return square[np.ix_(kept, kept)], kept


def _drawn(n: int) -> list[int]:
    if n <= MOST_CONDITIONS:
        return list(range(n))
    return sorted(np.random.default_rng(_SEED).choice(n, MOST_CONDITIONS, replace=False).tolist())


def triangle_violations(square: _Square) -> float:
    """Return the share of triples of conditions, 0 to 1, in which one side is longer than the other two together.

    Triples with a NaN are left out; if none is left, the result is NaN. If there are more than 120 conditions, 120 are
    drawn.

    Examples
    --------
    >>> triangle_violations(np.array([[0, 1, 5], [1, 0, 2], [5, 2, 0]]))
    1.0
    """
    kept = _drawn(len(square))
    square = square[np.ix_(kept, kept)]
    i, j, k = _triples(len(square))
    sides = np.stack([square[i, j], square[i, k], square[j, k]])
    missing = np.isnan(sides).any(0)
    sides = sides[:, ~missing] if missing.any() else sides
    if not sides.size:
        return float("nan")
    excess = 2 * sides.max(0) - sides.sum(0)
    return float((excess > _ROUNDING * np.abs(sides).max()).mean())


@lru_cache(maxsize=2)
def _triples(n: int) -> Int[np.ndarray, "3 n_triples"]:
    return np.array(list(combinations(range(n), 3))).T
