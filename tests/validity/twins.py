"""Gains on noise, from nearly equal images in different folds: ``python tests/validity/twins.py --out FILE``.

There are two images of each object. The brain's patterns of objects are drawn at random, without any relation to the
images, so that no student can predict new objects. A projection is fitted in 4 folds, which separate the two images of
an object (`groups=None`) or keep them together.
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

N_OBJECTS, N_SUBJECTS, N_FEATURES, DIFFERENCE = 24, 4, 40, 0.2


def data_set(seed: int, grouped: bool, steps: int = 100) -> pd.DataFrame:
    """Cross-validate a projection on one data set; the rows of the fitted student in the summary."""
    rng = np.random.default_rng(seed)
    objects, brain = rng.normal(size=(N_OBJECTS, N_FEATURES)), rng.normal(size=(N_OBJECTS, population.N_LATENT))
    features = np.repeat(objects, 2, axis=0) + DIFFERENCE * rng.normal(size=(2 * N_OBJECTS, N_FEATURES))
    channels = rng.normal(size=(N_SUBJECTS, population.N_LATENT, population.N_CHANNELS))
    measured = np.repeat(brain, 2, axis=0) @ channels
    measured = measured + measured.std() * rng.normal(size=measured.shape)
    names = [f"object{k:02d}_{view}" for k in range(N_OBJECTS) for view in "ab"]
    teacher = RDMTeacher(
        rdms.from_array(
            population.correlation_distance(measured), names,
            descriptors={"subject": [f"s{k}" for k in range(N_SUBJECTS)]},
        )
    )  # fmt: skip
    inputs = torch.tensor(features, dtype=torch.float32).reshape(len(names), 1, 1, N_FEATURES)

    def make() -> Student:
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(N_FEATURES, 20, bias=False))
        return Student(network, ["1"])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that images of different folds resemble each other is the point
        found = cross_validate(
            make, teacher, Stimuli.from_arrays(inputs, names), folds=4, seeds=(seed,), steps=steps, lr=0.02,
            groups={name: name[:-2] for name in names} if grouped else None, controls=["unfitted"],
            comparators=["spearman"], device="cpu", progress=False,
        )  # fmt: skip
    rows = found.summary[found.summary["role"] == "student"]
    return rows[["against", "score", "gain", "gain_low"]].assign(grouped=grouped)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean scores and gains over data sets, and how often the interval of the gain is above 0."""
    kept = []
    for (grouped, against), part in rows.groupby(["grouped", "against"], sort=False):
        kept.append({
            "folds": "keep objects together" if grouped else "separate objects", "against": against,
            "n_sets": len(part), "score": round(part["score"].mean(), 3), "gain": round(part["gain"].mean(), 3),
            "standard error": round(part["gain"].std() / len(part) ** 0.5, 3),
            "above 0": round((part["gain_low"] > 0).mean(), 3),
        })  # fmt: skip
    return pd.DataFrame(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--sets", type=int, default=40, help="data sets, each with both kinds of folds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[pd.DataFrame] = []
    for seed in range(arguments.sets):
        rows += [data_set(seed, grouped) for grouped in (False, True)]
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        summary(pd.concat(rows)).to_csv(arguments.out, index=False)
        print(f"{seed + 1} of {arguments.sets} data sets", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
