"""False positives of t-tests over subjects alone: ``python tests/validity/subjects_alone.py --out FILE``.

Two models of `population` are equally good, and each data set has new stimuli and new subjects, so a difference between
them on these stimuli says nothing about others. A paired t-test over the subjects' scores does not know this: it takes
the difference that all subjects share for evidence.
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

from brainrdl.inference.pairwise import comparison_of

sys.path.insert(0, str(Path(__file__).parent))
import intervals
import population

COMPARATORS, STIMULI, DESIGNS = ("corr", "spearman"), (24, 48), ("folds", "no folds")


def scores(sample: population.Sample, parts: list[np.ndarray], comparator: str, n_stimuli: int) -> np.ndarray:
    """Mean scores over folds of both models against each subject, ``(2, n_subjects)``."""
    square, (i, j) = np.zeros((n_stimuli, n_stimuli), dtype=int), np.triu_indices(n_stimuli, 1)
    square[i, j] = square[j, i] = np.arange(len(i))
    models, subjects = torch.tensor(np.stack([sample.better, sample.twin])), torch.tensor(sample.subjects)
    compare, of_folds = comparison_of(comparator), []
    for part in parts:
        first, second = np.triu_indices(len(part), 1)
        shown = square[part[first], part[second]]
        of_folds.append(compare(models[:, None, shown], subjects[None, :, shown]))
    return torch.stack(of_folds).mean(0).numpy()


def cell(n_stimuli: int, n_subjects: int, design: str, noise: float, n_sets: int) -> list[dict[str, object]]:
    """Share of data sets in which a t-test over subjects finds a difference, on the data sets of `intervals.cell`."""
    from scipy.stats import ttest_rel

    first = zlib.crc32(f"{n_stimuli} {n_subjects} {design} {noise}".encode())
    p_values: dict[str, list[float]] = {comparator: [] for comparator in COMPARATORS}
    for k in range(n_sets):
        rng = np.random.default_rng([first, k])
        sample = population.draw(rng, n_stimuli, n_subjects, noise)
        parts = intervals.folds(rng, n_stimuli, design)
        for comparator in COMPARATORS:
            p_values[comparator].append(ttest_rel(*scores(sample, parts, comparator, n_stimuli)).pvalue)
    design_of = {"n_stimuli": n_stimuli, "n_subjects": n_subjects, "design": design, "noise": noise, "n_sets": n_sets}
    return [
        design_of | {"comparator": comparator, "rejected": round(float((np.array(found) < 0.05).mean()), 3)}
        for comparator, found in p_values.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--sets", type=int, default=300, help="data sets per cell")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for design in itertools.product(STIMULI, intervals.SUBJECTS, DESIGNS, intervals.NOISE):
        rows += cell(*design, arguments.sets)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(arguments.out, index=False)
        print(*design, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
