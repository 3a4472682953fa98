"""Gains of trained students: false positives without signal, and coverage with it, refitting included.

Run ``python tests/validity/trained_students.py --out docs/validity/trained.csv``. Each data set has new stimuli and
subjects; a projection of 40 features is fitted in 4 folds of 48 stimuli. Without signal, the subjects' RDMs come from
other stimuli, so that no fit can gain anything.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from brainrdl import RDMTeacher, Stimuli, Student, cross_validate, rdms

sys.path.insert(0, str(Path(__file__).parent))
import population

N_STIMULI, N_SUBJECTS, N_FEATURES = 48, 4, 40


def data_set(seed: int, signal: bool, steps: int = 60) -> pd.DataFrame:
    """Cross-validate a projection on one data set; the rows of the fitted student in the summary."""
    rng = np.random.default_rng([seed, signal])
    latent = rng.normal(size=(N_STIMULI, population.N_LATENT))
    mixing = np.random.default_rng(0).normal(size=(population.N_LATENT, N_FEATURES))
    weights = np.where(np.arange(population.N_LATENT) < 4, 3.0, 0.3)  # of the brain: few dimensions matter
    seen = latent if signal else rng.normal(size=latent.shape)
    channels = rng.normal(size=(N_SUBJECTS, population.N_LATENT, population.N_CHANNELS))
    measured = (seen * weights) @ channels
    measured = measured + 1.5 * measured.std() * rng.normal(size=measured.shape)
    names = [f"n{k:02d}" for k in range(N_STIMULI)]
    brain = rdms.from_array(
        population.correlation_distance(measured), names, descriptors={"subject": [f"s{k}" for k in range(N_SUBJECTS)]}
    )
    features = torch.tensor(latent @ mixing, dtype=torch.float32).reshape(N_STIMULI, 1, 1, N_FEATURES)

    def make() -> Student:
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(N_FEATURES, 20, bias=False))
        return Student(network, ["1"])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = cross_validate(
            make, RDMTeacher(brain), Stimuli.from_arrays(features, names), folds=4, seeds=(seed,), steps=steps, lr=0.02,
            controls=["unfitted"], comparators=["spearman", "corr"], device="cpu", progress=False,
        )  # fmt: skip
    rows = found.summary[found.summary["role"] == "student"]
    return rows[["comparator", "against", "score", "gain", "gain_low", "gain_high"]].assign(signal=signal, seed=seed)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Coverage of the mean gain over data sets, false positives and power."""
    kept = []
    for (signal, comparator, against), part in rows.groupby(["signal", "comparator", "against"], sort=False):
        truth = part["gain"].mean() if signal else 0.0
        covered = (part["gain_low"] <= truth) & (truth <= part["gain_high"])
        half = (part["gain_high"] - part["gain_low"]).mean() / 2
        kept.append({
            "signal": signal, "comparator": comparator, "against": against, "n_sets": len(part),
            "gain": round(part["gain"].mean(), 3), "sd": round(part["gain"].std(), 3),
            "coverage": round(covered.mean(), 3),
            "above 0": round((part["gain_low"] > 0).mean(), 3), "below 0": round((part["gain_high"] < 0).mean(), 3),
            "width": round(half / (1.96 * part["gain"].std()), 2),
        })  # fmt: skip
    return pd.DataFrame(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--sets", type=int, default=100, help="data sets with and without signal")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[pd.DataFrame] = []
    for seed in range(arguments.sets):
        rows += [data_set(seed, signal) for signal in (False, True)]
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        summary(pd.concat(rows)).to_csv(arguments.out, index=False)
        print(f"{seed + 1} of {arguments.sets} data sets", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
