"""False positives of permutation tests: ``python tests/validity/permutation_tests.py --out FILE``.

Sign flips and clusters: values of subjects without an effect, with normal or skewed noise, smooth over time. Labels:
RDMs of stimuli with random patterns, unrelated to the model, but with stimuli that are far from all others in both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d

from brainrdl.inference import cluster_test, mantel_test, sign_flip_test

N_SUBJECTS, N_TIMES, N_STIMULI = 10, 40, 24


def values(rng: np.random.Generator, skewed: bool) -> np.ndarray:
    noise = rng.exponential(size=(N_SUBJECTS, N_TIMES)) - 1 if skewed else rng.normal(size=(N_SUBJECTS, N_TIMES))
    return gaussian_filter1d(noise, 2, axis=1)


def rdm(rng: np.random.Generator) -> np.ndarray:
    patterns = rng.normal(size=(N_STIMULI, 10)) * rng.lognormal(0, 0.5, size=(N_STIMULI, 1))
    i, j = np.triu_indices(N_STIMULI, 1)
    return ((patterns[i] - patterns[j]) ** 2).sum(1)


def _mantel(comparator: str) -> Callable[[np.random.Generator], tuple[float, float]]:
    def test(rng: np.random.Generator) -> tuple[float, float]:
        found = mantel_test(np.stack([rdm(rng) for _ in range(5)]), rdm(rng), comparator, n_permutations=499)
        return float(found.p[0]), float(found.p_fwe.min())

    return test


def _flips(skewed: bool) -> Callable[[np.random.Generator], tuple[float, float]]:
    def test(rng: np.random.Generator) -> tuple[float, float]:
        found = sign_flip_test(values(rng, skewed))
        return float(found.p[0]), float(found.p_fwe.min())

    return test


def _clusters(skewed: bool, method: str) -> Callable[[np.random.Generator], tuple[float, float]]:
    def test(rng: np.random.Generator) -> tuple[float, float]:
        return float("nan"), float(cluster_test(values(rng, skewed), method=method, n_permutations=499).p.min())

    return test


TESTS = {
    ("sign flips", "normal"): _flips(False),
    ("sign flips", "skewed"): _flips(True),
    ("clusters, mass", "normal"): _clusters(False, "mass"),
    ("clusters, mass", "skewed"): _clusters(True, "mass"),
    ("labels, corr", "5 models"): _mantel("corr"),
    ("labels, spearman", "5 models"): _mantel("spearman"),
    ("labels, cosine", "5 models"): _mantel("cosine"),
    ("clusters, tfce", "normal"): _clusters(False, "tfce"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--sets", type=int, default=1000, help="data sets per row")
    arguments = parser.parse_args()
    rows = []
    for (test, data), run in TESTS.items():
        p = np.array([run(np.random.default_rng([k, len(rows)])) for k in range(arguments.sets)])
        single = "-" if np.isnan(p[:, 0]).any() else f"{(p[:, 0] <= 0.05).mean():.3f}"
        rows.append((test, data, arguments.sets, single, f"{(p[:, 1] <= 0.05).mean():.3f}"))
        columns = ["test", "data", "data sets", "one test, p <= 0.05", "any of the family, corrected p <= 0.05"]
        pd.DataFrame(rows, columns=columns).to_csv(arguments.out, index=False)


if __name__ == "__main__":
    main()
