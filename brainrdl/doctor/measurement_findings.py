"""Findings about measurements: channels, observations, runs, and the agreement of odd and even runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from brainrdl._core.errors import quote, read_arg
from brainrdl._core.given_values import as_float64, as_text
from brainrdl.doctor.finding import Finding, percent
from brainrdl.similarity.comparators import corr

if TYPE_CHECKING:
    from rsatoolbox.data.base import DatasetBase
_MIN_CONDITIONS = 3

_TIMES_LARGER = 2

_OUTLYING = 5  # times the size of the median observation

_SHIFT = 1  # in standard deviations within runs

_Patterns = Float[np.ndarray, "n_conditions n_channels"]


class Halves(NamedTuple):
    """Correlations between the patterns of odd and even runs (or observations), and between the RDMs of both halves."""

    correlations: Float[np.ndarray, "n_conditions n_conditions"]
    rdms: float
    split: str
    names: list[str]


def dataset_names(datasets: Sequence[DatasetBase]) -> list[str]:
    """Name each dataset by its region, subject and session if it has them, otherwise by number."""
    given = [[part.descriptors.get(key) for key in ("roi", "subject", "session")] for part in datasets]
    said = [" / ".join(str(word) for word in words if word) for words in given]
    return [name or f"dataset {number}" for number, name in enumerate(said)]


def of_dataset(dataset: DatasetBase, where: str, by: str) -> Iterator[Finding]:
    """Check one dataset; `where` is its name if there are several."""
    if dataset.descriptors.get("series") == "raw":
        value = "raw: modelled as measured, its volumes not aligned or corrected for motion"
        advice = "preprocess it, for example with fMRIPrep, and read the derivatives"
        yield Finding("Measurements", "warning", "series", where, value, advice)
    values = flat(dataset)
    if len(values) == 1:
        value = "one observation: nothing varies, and no RDM can be computed"
        advice = "read all maps at once: a folder, a stack or a pattern of paths"
        yield Finding("Measurements", "warning", "observations", where, value, advice, blocks=True)
        return
    good = np.isfinite(values).all(0) & (np.ptp(np.nan_to_num(values), axis=0) > 0)
    yield from _channels(values, where)
    if not good.any():
        value, advice = "all channels are constant or not finite", "check the mask and the order of the axes"
        yield Finding("Measurements", "warning", "channels", where, value, advice, blocks=True)
        return
    conditions = dataset.obs_descriptors.get(by)
    if conditions is None or len(set(conditions)) < _MIN_CONDITIONS:
        value = f"observations have no descriptor {by!r}" if conditions is None else quote(dict.fromkeys(conditions))
        advice = f"name the conditions (at least 3): {read_arg('names')} or {read_arg('by')}"
        yield Finding("Measurements", "warning", "conditions", where, value, advice, blocks=True)
        return
    yield from _counts(dataset, where, by)
    yield _sizes(values[:, good], dataset, where, by)
    yield from _runs(values[:, good], dataset.obs_descriptors.get("run"), where)
    yield _repeats(halves(dataset, by), where)


def flat(dataset: DatasetBase) -> Float[np.ndarray, "n_observations n_values"]:
    """Return channels as they are; of a time series, each channel at each time."""
    values = as_float64(dataset.measurements, "measurements")
    return values.reshape(len(values), -1)


def _channels(values: Float[np.ndarray, "n_observations n_values"], where: str) -> Iterator[Finding]:
    finite = np.isfinite(values)
    constant = finite.all(0) & (np.ptp(np.nan_to_num(values), axis=0) == 0)
    kinds = {"NaN or infinite": ~finite.all(0), "constant": constant}
    for what, bad in kinds.items():
        found = f"{int(bad.sum())} of {bad.size} ({percent(bad.mean())})" if bad.any() else "none"
        advice = "leave them out: they make distances wrong" if bad.any() else ""
        yield Finding("Measurements", "warning" if bad.any() else "ok", f"channels {what}", where, found, advice)


def counts_of(dataset: DatasetBase, by: str) -> pd.DataFrame:
    """Count observations per condition (rows) and run (columns; one column if runs are not known)."""
    conditions = pd.Series([as_text(name) for name in dataset.obs_descriptors[by]], name=by)
    runs = dataset.obs_descriptors.get("run", ["all"] * dataset.n_obs)
    return pd.crosstab(conditions, pd.Series([as_text(run) for run in runs], name="run"))


def _counts(dataset: DatasetBase, where: str, by: str) -> Iterator[Finding]:
    counts = counts_of(dataset, by)
    each = counts.sum(axis=1)
    value = (
        f"{each.min()}"
        if each.min() == each.max()
        else f"{each.min()} ({each.idxmin()!r}) to {each.max()} ({each.idxmax()!r})"
    )
    level, advice = ("ok", "") if each.min() == each.max() else ("note", "rarer conditions have noisier patterns")
    yield Finding("Measurements", level, "observations per condition", where, value, advice)
    if "run" not in dataset.obs_descriptors:
        advice = "crossnobis and cross-validation need runs"
        yield Finding("Measurements", "note", "runs", where, "observations have no descriptor 'run'", advice)
        return
    uneven = [name for name, row in counts.iterrows() if row.min() != row.max()]
    if uneven:
        value = f"{len(uneven)} of {len(counts)} conditions differ in number between runs: {quote(uneven)}"
        apart = _pairs_without_runs(counts)
        if apart:
            value += f"; {apart} pairs of conditions are together in fewer than two runs"
        advice = "crossnobis of such pairs is NaN; runs= may name a session or repetition instead" if apart else ""
        yield Finding("Measurements", "warning" if apart else "note", "balance of runs", where, value, advice)
    else:
        yield Finding(
            "Measurements",
            "ok",
            "balance of runs",
            where,
            f"every condition occurs equally often in each of {counts.shape[1]} runs",
        )


def _sizes(values: Float[np.ndarray, "n_observations n_values"], dataset: DatasetBase, where: str, by: str) -> Finding:
    """Compare how far observations are from the median one, in all channels: one may be of another scale, or noise."""
    apart = values - np.median(values, axis=0)
    sizes = np.sqrt(np.square(apart / values.std(axis=0)).mean(1))
    times = sizes / max(float(np.median(sizes)), np.finfo(float).tiny)
    outlying = np.flatnonzero(times > _OUTLYING)
    if not len(outlying):
        return Finding("Measurements", "ok", "size of patterns", where, f"at most {times.max():.2g} times the median")
    runs = dataset.obs_descriptors.get("run")
    named = [f"{dataset.obs_descriptors[by][k]}" + ("" if runs is None else f" (run {runs[k]})") for k in outlying]
    value = f"{len(named)} of {len(times)} are up to {times.max():.3g} times as large as the median one: {quote(named)}"
    advice = "leave them out if they are noise: an event near the end of a run, artefacts, another unit"
    return Finding("Measurements", "warning", "size of patterns", where, value, advice)


def _pairs_without_runs(counts: pd.DataFrame) -> int:
    present = (counts > 0).to_numpy(dtype=int)
    together = present @ present.T
    return int((together[np.triu_indices(len(present), 1)] < 2).sum())


def _runs(values: Float[np.ndarray, "n_observations n_values"], runs: object, where: str) -> Iterator[Finding]:
    """Compare the spread and the mean of runs, because scanners drift and runs may have different units."""
    table = pd.DataFrame(values).groupby(np.asarray(runs, dtype=str)) if runs is not None else None
    if table is None or table.ngroups < 2 or table.size().min() < 2:
        return
    spread = table.std().median(axis=1)
    low, high = f"{spread.min():.3g} (run {spread.idxmin()})", f"{spread.max():.3g} (run {spread.idxmax()})"
    value = f"median standard deviation {low} to {high}"
    wide = spread.max() > _TIMES_LARGER * spread.min()
    advice = "scale each run, for example to unit variance, before averaging" if wide else ""
    yield Finding("Measurements", "warning" if wide else "ok", "scale of runs", where, value, advice)
    within = np.sqrt(table.var().mean())
    shift = float((table.mean().std() / within.where(within > 0)).median())
    advice = "subtract each run's mean" if shift > _SHIFT else ""
    value = f"run means differ by {shift:.2g} standard deviations (median channel)"
    yield Finding("Measurements", "note" if shift > _SHIFT else "ok", "level of runs", where, value, advice)


def halves(dataset: DatasetBase, by: str) -> Halves | None:
    """Compare odd with even runs (without runs: observations); None if too few conditions are in both."""
    values = flat(dataset)
    values = values[:, np.isfinite(values).all(0)]
    if not values.size:
        return None
    table = pd.DataFrame(values - values.mean(0))
    table["condition"] = [as_text(name) for name in dataset.obs_descriptors[by]]
    runs = dataset.obs_descriptors.get("run")
    split = "observations" if runs is None else "runs"
    place = table.groupby("condition").cumcount() if runs is None else pd.Series(pd.factorize(np.asarray(runs))[0])
    odd, even = (table[place % 2 == part].groupby("condition").mean() for part in (0, 1))
    shared = odd.index.intersection(even.index)
    if len(shared) < _MIN_CONDITIONS:
        return None
    first, second = (_rows(half.loc[shared].to_numpy()) for half in (odd, even))
    upper = np.triu_indices(len(shared), 1)
    own = [1 - (half @ half.T)[upper] for half in (first, second)]
    return Halves(first @ second.T, float(corr(*torch.tensor(np.stack(own)))), split, list(shared))


def _rows(patterns: _Patterns) -> _Patterns:
    """Subtract the mean pattern and scale rows to unit length, so that products are Pearson correlations."""
    patterns = patterns - patterns.mean(0)
    patterns = patterns - patterns.mean(1, keepdims=True)
    return patterns / np.maximum(np.linalg.norm(patterns, axis=1, keepdims=True), np.finfo(float).tiny)


def _repeats(found: Halves | None, where: str) -> Finding:
    what = "odd and even runs"
    if found is None:
        return Finding(
            "Measurements", "note", what, where, "fewer than 3 conditions are in both halves; nothing to compare"
        )
    r = found.correlations
    same, others = r.diagonal().mean(), r[~np.eye(len(r), dtype=bool)].mean()
    named = (r.diagonal()[:, None] > r)[~np.eye(len(r), dtype=bool)].mean()
    value = (
        f"correlation distance of odd and even {found.split}: {1 - same:.3f} for the same condition, {1 - others:.3f} "
        f"for others; distinguished {percent(named)} (chance 50 %); RDMs of the halves r = {found.rdms:.3f}"
    )
    if same > others and found.rdms > 0.05:
        return Finding("Measurements", "ok", what, where, value)
    advice = "the halves hardly agree; check labels and the order of runs"
    return Finding("Measurements", "warning", what, where, value, advice)
