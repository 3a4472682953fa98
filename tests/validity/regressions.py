"""Coverage and false positives of the statistics of multiple regression, in simulations with a known truth.

Run ``python tests/validity/regressions.py --out docs/validity/regressions.csv``. The mean RDM is regressed on three
models: one that resembles the subjects, one that resembles them less, and one of other, random features, whose true
weight is 0. For the others, the truth is the mean over the data sets of a cell.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from brainrdl.rdm_models import regress
from brainrdl.rdms import from_array

sys.path.insert(0, str(Path(__file__).parent))
import population

COMPARATORS, STIMULI, SUBJECTS = ("corr", "spearman"), (24, 48), (4, 12)


def data_set(rng: np.random.Generator, n_stimuli: int, n_subjects: int, comparator: str) -> pd.DataFrame:
    """Simulate one data set, and regress its RDMs."""
    sample = population.draw(rng, n_stimuli, n_subjects)
    random = population._squared_euclidean(rng.normal(size=(n_stimuli, population.N_IRRELEVANT)))
    names = [f"image{k}" for k in range(n_stimuli)]
    models = {"better": sample.better, "worse": sample.worse, "random": random}
    data = from_array(sample.subjects, names, descriptors={"subject": [f"s{k}" for k in range(n_subjects)]})
    return regress({name: from_array(rdm, names) for name, rdm in models.items()}, data, comparator=comparator)


def cell(n_stimuli: int, n_subjects: int, comparator: str, n_sets: int) -> pd.DataFrame:
    """Summarise `n_sets` data sets of one design."""
    first = zlib.crc32(f"regression {n_stimuli} {n_subjects} {comparator}".encode())
    drawn = [data_set(np.random.default_rng([first, k]), n_stimuli, n_subjects, comparator) for k in range(n_sets)]
    rows = []
    for (against, statistic, model), found in pd.concat(drawn).groupby(["against", "statistic", "model"], sort=False):
        truth = 0.0 if model == "random" else float(found["value"].mean())
        sd, half = float(found["value"].std()), float((found["high"] - found["low"]).mean() / 2)
        rows.append({
            "n_stimuli": n_stimuli, "n_subjects": n_subjects, "n_sets": n_sets, "comparator": comparator,
            "against": against, "statistic": statistic, "model": model, "truth": round(truth, 3), "sd": round(sd, 3),
            "coverage": round(float(found["low"].le(truth).mul(found["high"].ge(truth)).mean()), 3),
            "width": round(half / (1.96 * sd), 2), "p < 0.05": round(float(found["p"].lt(0.05).mean()), 3),
        })  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--sets", type=int, default=300, help="data sets per cell")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done = pd.DataFrame()
    for n, s, comparator in itertools.product(STIMULI, SUBJECTS, COMPARATORS):
        done = pd.concat([done, cell(n, s, comparator, arguments.sets)], ignore_index=True)
        done.to_csv(arguments.out, index=False)
        print(f"{n} stimuli, {s} subjects, {comparator}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
