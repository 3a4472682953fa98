"""Coverage and width of the intervals of partial correlations, in simulations with a known truth.

Run ``python tests/validity/partial_correlations.py --out docs/validity/partial.csv``. As in `intervals.py`, with the
correlation of a model and the mean RDM that is left when a second model is held constant, in folds. The models share
irrelevant features, so the truth is the mean over the data sets of a cell.
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
from torch import Tensor

from brainrdl.inference.influence import Influence, influence
from brainrdl.inference.intervals import Dyadic
from brainrdl.inference.pairwise import comparison_of
from brainrdl.inference.uncertainty import DyadicInference, _Part
from brainrdl.similarity.registry import SIMILARITIES

sys.path.insert(0, str(Path(__file__).parent))
import intervals
import population

COMPARATORS, STIMULI, SUBJECTS, NOISE = ("corr", "spearman"), (24, 48), (4, 8, 12), (1.0, 2.0)


def estimate(
    model: Tensor, given: Tensor, subjects: Tensor, parts: list[np.ndarray], comparator: str, n_stimuli: int
) -> Dyadic:
    """Estimate the partial correlation of a model ``(n_pairs,)`` with the mean RDM."""
    inference, similarity = DyadicInference([str(k) for k in range(n_stimuli)], len(subjects)), SIMILARITIES[comparator]
    found: list[_Part] = []
    for part in parts:
        place = inference._places(tuple(str(k) for k in part))
        seen, compare = subjects[:, place[1]], comparison_of(comparator, given[None, place[1]])
        means = torch.cat([seen.mean(0, keepdim=True), (seen.sum(0, keepdim=True) - seen) / (len(seen) - 1)])
        one = influence(compare, model[place[1]].expand_as(means), means, similarity)
        found.append(_Part(*place, -1, Influence(*one)))
    return intervals._joined(inference, found)


def cell(n_stimuli: int, n_subjects: int, noise: float, n_sets: int) -> pd.DataFrame:
    """Simulate `n_sets` data sets of one design."""
    first, rows = zlib.crc32(f"partial {n_stimuli} {n_subjects} {noise}".encode()), []
    for k in range(n_sets):
        rng = np.random.default_rng([first, k])
        sample = population.draw(rng, n_stimuli, n_subjects, noise)
        parts = intervals.folds(rng, n_stimuli, "folds")
        model, given = torch.tensor(sample.better), torch.tensor(sample.worse)
        for comparator in COMPARATORS:
            found = estimate(model, given, torch.tensor(sample.subjects), parts, comparator, n_stimuli)
            rows.append((comparator, "mean", "score", found.value, *found.interval()))
    table = pd.DataFrame(rows, columns=["comparator", "against", "what", "value", "low", "high", "p"])
    design = {"n_stimuli": n_stimuli, "n_subjects": n_subjects, "noise": noise, "n_sets": n_sets}
    return pd.DataFrame([design | row for row in intervals._summaries(table)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--sets", type=int, default=300, help="data sets per cell")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done = pd.DataFrame()
    for n, s, noise in itertools.product(STIMULI, SUBJECTS, NOISE):
        done = pd.concat([done, cell(n, s, noise, arguments.sets)], ignore_index=True)
        done.to_csv(arguments.out, index=False)
        print(f"{n} stimuli, {s} subjects, noise {noise:g}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
