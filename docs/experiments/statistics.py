"""Comparisons of two methods: over seeds, and over test images.

Over seeds: a paired t test of the error rates; it says whether the difference holds for other initial weights, batches
and (MNIST) training images. Over test images: McNemar's test for each seed. The tests of several seeds share the test
images, so their counts must not be added up. Their p values are combined as twice the median, which is a valid p value
however they depend on each other (Rueger 1978; Vovk & Wang 2020, doi 10.1093/biomet/asaa027).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from brainrdl.inference import corrected
from docs.experiments.results import unpack


@dataclass(frozen=True)
class Contrast:
    """A planned comparison: the error of `first` minus that of `second` in a setting."""

    setting: str
    first: str
    second: str


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Exact two-sided p value of McNemar's test for which images are classified correctly.

    Examples
    --------
    >>> a = np.array([True] * 10 + [False] * 10)
    >>> round(mcnemar(a, np.ones(20, dtype=bool)), 4)
    0.002
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    return float(stats.binomtest(only_first, only_first + only_second).pvalue) if only_first + only_second else 1.0


def twice_the_median(p_values: Sequence[float]) -> float:
    """Combine p values that depend on each other in any way."""
    return min(1.0, 2 * float(np.median(p_values)))


def summary(rows: pd.DataFrame, measure: str = "error") -> pd.DataFrame:
    """Mean, standard deviation and number of seeds of each method, in the order of the table."""
    return rows.groupby("method", sort=False)[measure].agg(["mean", "std", "count"]).rename(
        columns={"std": "sd", "count": "n"}
    )  # fmt: skip


def compare(rows: pd.DataFrame, contrasts: Sequence[Contrast]) -> pd.DataFrame:
    """Compare methods as planned; contrasts without 2 common seeds have NaN, and Holm's correction leaves them out.

    Returns
    -------
    DataFrame
        One row per contrast: n (common seeds), difference, low and high (95 % t interval over seeds), p_seeds,
        p_images, and both after Holm's correction over all planned contrasts that have rows.
    """
    table = pd.DataFrame([_compared(rows, contrast) for contrast in contrasts])
    for kind in ("seeds", "images"):
        table[f"holm_{kind}"] = corrected(table[f"p_{kind}"].tolist())
    return table


def _compared(rows: pd.DataFrame, contrast: Contrast) -> dict[str, object]:
    here = rows[rows["setting"] == contrast.setting]
    first, second = (here[here["method"] == name].set_index("seed") for name in (contrast.first, contrast.second))
    seeds = first.index.intersection(second.index)
    named = {"setting": contrast.setting, "first": contrast.first, "second": contrast.second, "n": len(seeds)}
    if len(seeds) < 2:
        return named | dict.fromkeys(("difference", "low", "high", "p_seeds", "p_images"), np.nan)
    differences = (first["error"] - second["error"]).loc[seeds].to_numpy(dtype=float)
    test = stats.ttest_1samp(differences, 0.0)
    low, high = test.confidence_interval()
    of_seeds = [mcnemar(unpack(first.loc[seed, "correct"]), unpack(second.loc[seed, "correct"])) for seed in seeds]
    return named | {
        "difference": differences.mean(), "low": low, "high": high, "p_seeds": float(test.pvalue),
        "p_images": twice_the_median(of_seeds),
    }  # fmt: skip
