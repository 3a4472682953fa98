"""Ceilings of the populations of test_ceilings.py: ``python tests/validity/ceilings.py --out FILE``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from brainrdl.inference.ceilings import ceiling_for_mean, ceiling_for_subjects, noise_ceiling
from brainrdl.inference.pairwise import comparison_of

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))
from test_ceilings import POPULATIONS, simulated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--sets", type=int, default=200, help="data sets per population")
    arguments = parser.parse_args()
    compare, rows = comparison_of("corr"), []
    for name, population in POPULATIONS.items():
        found = []
        for seed in range(arguments.sets):
            truth, rdms = simulated(*population, seed)
            scores = float(compare(truth, rdms.nanmean(0))), float(compare(truth, rdms).mean())
            found.append((*scores, ceiling_for_mean(rdms), ceiling_for_subjects(rdms), noise_ceiling(rdms, "corr")[0]))
        mean, single, of_mean, of_single, lower = np.mean(found, axis=0)
        rows.append({
            "population": name, "true model with the mean": round(mean, 3), "ceiling": round(of_mean, 3),
            "share": round(mean / of_mean, 2), "true model with subjects": round(single, 3),
            "its ceiling": round(of_single, 3), "its share": round(single / of_single, 2),
            "share of the lower bound": round(single / lower, 2),
        })  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(arguments.out, index=False)


if __name__ == "__main__":
    main()
