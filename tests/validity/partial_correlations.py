"""Coverage and width of the intervals of partial correlations, in simulations with a known truth.

Run ``python tests/validity/partial_correlations.py --out docs/validity/partial.csv``; rows that the file already has
are kept. As in `intervals.py`, with the correlation of a model and the mean RDM that is left when another model is held
constant, in folds: the score of `better` given `worse`; and, given categories, the gain of `better` over `worse` and
its difference from `twin`, which is as good. The truth is the mean over the data sets of a cell, and 0 for no gain.
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

_CELL = ["n_stimuli", "n_subjects", "noise", "comparator", "against", "what"]

COMPARATORS, STIMULI, SUBJECTS, NOISE = ("corr", "spearman"), (24, 48), (4, 8, 12), (1.0, 2.0)


def estimates(
    models: Tensor, given: Tensor, subjects: Tensor, parts: list[np.ndarray], comparator: str, n_stimuli: int
) -> list[Dyadic]:
    """Estimate the partial correlations of models ``(n_models, n_pairs)`` with the mean RDM."""
    inference, similarity = DyadicInference([str(k) for k in range(n_stimuli)], len(subjects)), SIMILARITIES[comparator]
    found: list[list[_Part]] = [[] for _ in models]
    for part in parts:
        place = inference._places(tuple(str(k) for k in part))
        seen, compare = subjects[:, place[1]], comparison_of(comparator, given[None, place[1]])
        means = torch.cat([seen.mean(0, keepdim=True), (seen.sum(0, keepdim=True) - seen) / (len(seen) - 1)])
        together = influence(compare, models[:, None, place[1]], means, similarity)
        for own, one in zip(found, zip(*together, strict=True), strict=True):
            own.append(_Part(*place, -1, Influence(*one)))
    return [intervals._joined(inference, own) for own in found]


def cell(n_stimuli: int, n_subjects: int, noise: float, n_sets: int) -> pd.DataFrame:
    """Simulate `n_sets` data sets of one design."""
    first, rows = zlib.crc32(f"partial {n_stimuli} {n_subjects} {noise}".encode()), []
    for k in range(n_sets):
        rng = np.random.default_rng([first, k])
        sample = population.draw(rng, n_stimuli, n_subjects, noise)
        parts = intervals.folds(rng, n_stimuli, "folds")
        models = torch.tensor(np.stack([sample.better, sample.worse, sample.twin]))
        subjects, category = torch.tensor(sample.subjects), torch.tensor(sample.category)
        for comparator in COMPARATORS:
            (score,) = estimates(models[:1], models[1], subjects, parts, comparator, n_stimuli)
            better, worse, twin = estimates(models, category, subjects, parts, comparator, n_stimuli)
            for what, one in (("score", score), ("gain", better.minus(worse)), ("no gain", better.minus(twin))):
                rows.append((comparator, "mean", what, one.value, *one.interval()))
    table = pd.DataFrame(rows, columns=["comparator", "against", "what", "value", "low", "high", "p"])
    design = {"n_stimuli": n_stimuli, "n_subjects": n_subjects, "noise": noise, "n_sets": n_sets}
    return pd.DataFrame([design | row for row in intervals._summaries(table)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--sets", type=int, default=300, help="data sets per cell")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done = pd.read_csv(arguments.out) if arguments.out.exists() else pd.DataFrame()
    for n, s, noise in itertools.product(STIMULI, SUBJECTS, NOISE):
        if intervals.has(done, {"n_stimuli": n, "n_subjects": s, "noise": noise, "what": "gain"}):
            continue
        done = pd.concat([done, cell(n, s, noise, arguments.sets)]).drop_duplicates(_CELL, keep="last")
        done = done.sort_values(_CELL[:3], kind="stable")
        done.to_csv(arguments.out, index=False)
        print(f"{n} stimuli, {s} subjects, noise {noise:g}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
