"""Comparisons of two methods: over seeds, and over test images.

Over seeds: a paired t test of the error rates; it says whether the difference holds for other initial weights, batches
and (MNIST) training images. Over test images: McNemar's test for each seed. The tests of several seeds share the test
images, so their counts must not be added up. For each direction, the one-sided p values of the seeds are combined as
twice their median, which is a valid p value however they depend on each other (Rueger 1978; Vovk & Wang 2020, doi
10.1093/biomet/asaa027). Twice the smaller of the two directions is the p value that is shown.
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

FEWEST_SEEDS = 3  # with 2, the interval over seeds is too wide to say anything


@dataclass(frozen=True)
class Contrast:
    """A planned comparison: the error of `first` minus that of `second` in a setting."""

    setting: str
    first: str
    second: str


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Exact one-sided p values of McNemar's test: that the first classifies fewer, and more, images correctly.

    Examples
    --------
    >>> a = np.array([True] * 10 + [False] * 10)
    >>> [round(p, 4) for p in mcnemar(a, np.ones(20, dtype=bool))]
    [0.001, 1.0]
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    if not only_first + only_second:
        return 1.0, 1.0
    fewer, more = (
        float(stats.binomtest(only_first, only_first + only_second, alternative=side).pvalue)
        for side in ("less", "greater")
    )
    return fewer, more


def over_images(one_sided: Sequence[tuple[float, float]]) -> float:
    """Combine the tests of several seeds, whose p values depend on each other in any way.

    Examples
    --------
    >>> over_images([(0.01, 0.99), (0.02, 0.98), (0.03, 0.97)])
    0.08
    >>> over_images([(0.001, 1.0), (1.0, 0.001)])
    1.0
    """
    return min(1.0, 2 * min(2 * float(np.median(p_values)) for p_values in zip(*one_sided, strict=True)))


def summary(rows: pd.DataFrame, measure: str = "error") -> pd.DataFrame:
    """Mean, standard deviation and number of seeds of each method, in the order of the table."""
    return rows.groupby("method", sort=False)[measure].agg(["mean", "std", "count"]).rename(
        columns={"std": "sd", "count": "n"}
    )  # fmt: skip


def compare(rows: pd.DataFrame, contrasts: Sequence[Contrast]) -> pd.DataFrame:
    """Compare methods as planned; contrasts without 3 common seeds have NaN.

    Holm's correction counts them as if their p values were 1, so that it does not depend on what was run so far.

    Returns
    -------
    DataFrame
        One row per contrast: n (common seeds), difference, low and high (95 % t interval over seeds), p_seeds,
        p_images, and both after Holm's correction over all planned contrasts.
    """
    table = pd.DataFrame([_compared(rows, contrast) for contrast in contrasts])
    for kind in ("seeds", "images"):
        found = table[f"p_{kind}"]
        table[f"holm_{kind}"] = np.where(found.isna(), np.nan, corrected(found.fillna(1.0).tolist()))
    return table


def _compared(rows: pd.DataFrame, contrast: Contrast) -> dict[str, object]:
    here = rows[rows["setting"] == contrast.setting]
    first, second = (here[here["method"] == name].set_index("seed") for name in (contrast.first, contrast.second))
    seeds = first.index.intersection(second.index)
    named = {"setting": contrast.setting, "first": contrast.first, "second": contrast.second, "n": len(seeds)}
    if len(seeds) < FEWEST_SEEDS:
        return named | dict.fromkeys(("difference", "low", "high", "p_seeds", "p_images"), np.nan)
    differences = (first["error"] - second["error"]).loc[seeds].to_numpy(dtype=float)
    test = stats.ttest_1samp(differences, 0.0)
    low, high = test.confidence_interval()
    of_seeds = [mcnemar(unpack(first.loc[seed, "correct"]), unpack(second.loc[seed, "correct"])) for seed in seeds]
    return named | {
        "difference": differences.mean(), "low": low, "high": high, "p_seeds": float(test.pvalue),
        "p_images": over_images(of_seeds),
    }  # fmt: skip
