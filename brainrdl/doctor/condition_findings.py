"""Findings about single conditions on which the agreement of subjects depends.

One image (of an artefact, a pause, a mistake in the events) can be far from all others in each subject. Its pairs then
carry the correlation between subjects, and subjects without the artefact look like outliers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from brainrdl._core.errors import quote
from brainrdl.dissimilarity.pairs import pair_blocks
from brainrdl.doctor.finding import Finding

Array = npt.NDArray[np.float64]

_FAR = 6.0  # in robust standard deviations of all conditions

_LEAST, _LEAST_SHARE = 0.05, 0.5  # change of the correlation, also as a share of it: smaller changes are usual

_ROUNDS = 3  # of the search, because outlying conditions hide each other

_LEAST_ROW = 0.25  # difference of a row's mean, as a fraction of the mean dissimilarity

_SHOWN = 6

_MOST_SHARE = 0.1  # of the conditions: more are a category, not outliers


def influence(rows: Float[Tensor, "n_subjects n_pairs"], kept: Bool[np.ndarray, " n"]) -> tuple[float, Array, Array]:
    """Return the agreement of subjects with all conditions, without each one, and the mean of each condition's row.

    Parameters
    ----------
    rows : Tensor, shape (n_subjects, n_pairs)
        RDMs of at least 2 subjects on one scale; NaN for unknown pairs.
    kept : array of bool, shape (n_conditions,)
        Conditions to use; the others count as left out.

    Returns
    -------
    with_all : float
        Mean over subjects of the Pearson correlation of each RDM with the mean of the others.
    without_one : array, shape (n_conditions,)
        The same without the pairs of each condition; NaN for conditions that are not kept.
    row_means : array, shape (n_conditions,)
        Mean dissimilarity to the other conditions, of RDMs divided by their mean absolute value.

    Examples
    --------
    >>> rows = torch.rand(3, 21, generator=torch.Generator().manual_seed(0))
    >>> with_all, without_one, _ = influence(rows, np.ones(7, dtype=bool))
    >>> without_one.shape
    (7,)
    """
    agreed = [_agreement(rows, s, kept) for s in range(len(rows))]
    total = float(_known_mean([np.array(each) for each, _ in agreed]))
    without = _known_mean([each for _, each in agreed])
    means = _known_mean([_row_means(row.double().numpy(), kept) for row in rows])
    return total, np.where(kept, without, np.nan), means


def _known_mean(columns: Sequence[Array]) -> Array:
    mean: Array = torch.from_numpy(np.stack(columns)).nanmean(0).numpy()  # NumPy warns where all are NaN
    return mean


def _agreement(rows: Tensor, subject: int, kept: npt.NDArray[np.bool_]) -> tuple[float, Array]:
    """Return the correlation of a subject with the mean of the others: over all pairs, and without each condition."""
    own = rows[subject].double().numpy()
    others = torch.cat([rows[:subject], rows[subject + 1 :]]).double().nanmean(0).numpy()
    both = ~(np.isnan(own) | np.isnan(others))
    a, b = (np.where(both, values - values.sum(where=both) / max(both.sum(), 1), 0.0) for values in (own, others))
    sums = _sums([both.astype(float), a, b, a * a, b * b, a * b], kept)
    total = sums.sum(1) / 2  # each pair is in the rows of two conditions
    return float(_correlation(total[:, None])[0]), _correlation(total[:, None] - sums)


def _sums(columns: Sequence[Array], kept: npt.NDArray[np.bool_]) -> Array:
    """Sum the pairs of each condition with the others that are kept, (n_columns, n_conditions)."""
    n = len(kept)
    found = np.zeros((len(columns), n))
    for part, i, j in pair_blocks(n):
        used = kept[i] & kept[j]
        for sums, column in zip(found, columns, strict=True):
            weights = np.where(used, column[part], 0.0)
            sums += np.bincount(i, weights, n) + np.bincount(j, weights, n)
    return found


def _correlation(sums: Array) -> Array:
    """Return the correlation from sums of ones, a, b, aa, bb and ab."""
    n, a, b, aa, bb, ab = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = (ab - a * b / n) / np.sqrt((aa - a * a / n) * (bb - b * b / n))
    return np.where(np.isfinite(found), found, np.nan)  # two or fewer pairs, or constant ones, have no correlation


def _row_means(row: Array, kept: npt.NDArray[np.bool_]) -> Array:
    known = ~np.isnan(row)
    scaled = np.where(known, row / np.nanmean(np.abs(row)), 0.0)
    count, total = _sums([known.astype(float), scaled], kept)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count > 0, total / count, np.nan)


def outlying(rows: Float[Tensor, "n_subjects n_pairs"], n_conditions: int) -> Bool[np.ndarray, " n"]:
    """Mark the conditions without which the agreement of subjects is another: each alone, or all that are far apart.

    Examples
    --------
    >>> rows = torch.rand(3, 45, generator=torch.Generator().manual_seed(0))
    >>> rows[:, :9] += 5  # in each subject, the first of 10 conditions is far from all others
    >>> outlying(rows, 10).tolist().index(True)
    0
    """
    kept = np.ones(n_conditions, dtype=bool)
    for _ in range(_ROUNDS):
        with_all, without_one, means = influence(rows, kept)
        alone = kept & _is_far(without_one - with_all) & _matters(without_one, with_all)
        apart = kept & _is_far_row(np.where(kept, means, np.nan))
        if apart.any() and not _matters(influence(rows, kept & ~apart)[0], with_all):
            apart[:] = False
        far = alone | apart
        if not far.any() or (far | ~kept).sum() > max(1, n_conditions * _MOST_SHARE):
            break
        kept &= ~far
    return ~kept


def _matters(without: npt.ArrayLike, with_all: float) -> Any:
    """Say whether the agreement is another without some conditions."""
    change = np.abs(np.asarray(without) - with_all)
    return (change > _LEAST) & (change > _LEAST_SHARE * abs(with_all))


def _is_far_row(means: Array) -> npt.NDArray[np.bool_]:
    return _is_far(means) & (np.abs(means - np.median(means[~np.isnan(means)])) > _LEAST_ROW)


def _is_far(values: Array) -> npt.NDArray[np.bool_]:
    """Mark values that are far from the median, in robust standard deviations."""
    known = values[~np.isnan(values)]
    if not known.size:
        return np.zeros(len(values), dtype=bool)
    middle = np.median(known)
    far: npt.NDArray[np.bool_] = np.abs(values - middle) > _FAR * 1.4826 * np.median(np.abs(known - middle))
    return far


def of_conditions(rows: Tensor, names: Sequence[str], target: str, left_out: Bool[np.ndarray, " n"]) -> list[Finding]:
    """Report the conditions on which the agreement depends, and those with an unusual mean of their row."""
    everything = np.ones(len(names), dtype=bool)
    with_all, without_one, means = influence(rows, everything)
    if left_out.any():
        without = influence(rows, ~left_out)[0]
        chosen = [f"{names[k]} (r = {without_one[k]:.3f} without it)" for k in np.flatnonzero(left_out).tolist()]
        together = f"; {without:.3f} without these {len(chosen)}" if len(chosen) > 1 else ""
        first = Finding(
            "Subjects",
            "warning",
            "influential conditions",
            target,
            f"each subject with the mean of the others: r = {with_all:.3f} with all conditions; "
            f"{', '.join(chosen[:_SHOWN])}{', ...' if len(chosen) > _SHOWN else ''}{together}",
            "check these conditions (artefacts, few trials, wrong events), and score without them too, before any "
            "subject is left out",
        )
    else:
        low, high = np.fmin.reduce(without_one), np.fmax.reduce(without_one)
        value = f"none (r = {with_all:.3f}; {low:.3f} to {high:.3f} without any one condition)"
        first = Finding("Subjects", "ok", "influential conditions", target, value)
    return [first, _of_row_means(means, names, target)]


def _of_row_means(means: Array, names: Sequence[str], target: str) -> Finding:
    middle = float(np.nanmedian(means))
    far = _is_far_row(means)
    low, high = int(np.nanargmin(means)), int(np.nanargmax(means))
    if not far.any():
        value = f"similar: {means[low]:.3g} ({names[low]}) to {means[high]:.3g} ({names[high]}) times the mean"
        return Finding("Subjects", "ok", "mean of a condition's row", target, value)
    ordered = sorted(np.flatnonzero(far).tolist(), key=lambda k: -abs(means[k] - middle))
    shown = [f"{names[k]} ({means[k]:.3g})" for k in ordered]
    value = f"{quote(shown)} times the mean dissimilarity, median {middle:.3g}"
    advice = "far from (or close to) all others in the mean of the subjects: an artefact, or few trials?"
    return Finding("Subjects", "note", "mean of a condition's row", target, value, advice)
