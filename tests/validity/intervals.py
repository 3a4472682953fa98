"""Coverage, width and false positives of intervals, in simulations with a known truth.

Run ``python tests/validity/intervals.py --out docs/validity/intervals.csv`` for the whole grid (about an hour on one
core); rows that the file already has are kept. The functions of the package are used as in `brainrdl.evaluation.score`,
but on all folds of equal size at once; a test compares both. The truth of a cell is the mean over its data sets.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import zlib
from collections.abc import Iterator, Sequence
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
import population

COMPARATORS = ("corr", "cosine", "spearman", "corr_cov")  # rho-a is spearman if there are no ties
STIMULI, SUBJECTS, DESIGNS, NOISE = (24, 48, 92), (4, 8, 12), ("folds", "folds x 3 seeds", "no folds"), (1.0, 2.0)
N_FOLDS = {24: 4, 48: 5, 92: 5}


def folds(rng: np.random.Generator, n_stimuli: int, design: str) -> list[np.ndarray]:
    if design == "no folds":
        return [np.arange(n_stimuli)]
    n_seeds = 3 if "seeds" in design else 1
    return [fold for _ in range(n_seeds) for fold in population.folds_of(rng, n_stimuli, N_FOLDS[n_stimuli])]


def estimates(
    models: Tensor, subjects: Tensor, parts: Sequence[np.ndarray], comparator: str, n_stimuli: int
) -> dict[str, list[Dyadic]]:
    """Estimate the scores of models ``(n_models, n_pairs)`` against the mean RDM and against subjects."""
    inference = DyadicInference([str(k) for k in range(n_stimuli)], len(subjects))
    compare, similarity = comparison_of(comparator), SIMILARITIES[comparator]
    of_mean: list[list[_Part]] = [[] for _ in models]
    of_subjects: list[list[_Part]] = [[] for _ in models]
    for size in sorted({len(part) for part in parts}):
        places = [inference._places(tuple(str(k) for k in part)) for part in parts if len(part) == size]
        chosen = torch.stack([pairs for _, pairs in places])
        shown, seen = models[:, chosen], subjects[:, chosen]
        means = torch.cat([seen.mean(0, keepdim=True), (seen.sum(0, keepdim=True) - seen) / (len(seen) - 1)])
        found = influence(compare, shown[:, None], torch.cat([means, seen]), similarity)
        for f, place in enumerate(places):
            for k in range(len(models)):
                row = [x[k, :, f] for x in found]
                of_mean[k].append(_Part(*place, -1, Influence(*(x[: len(means)] for x in row))))
                for s in range(len(seen)):
                    of_subjects[k].append(_Part(*place, s, Influence(*(x[len(means) + s, None] for x in row))))
    return {
        "mean": [_joined(inference, parts) for parts in of_mean],
        "subjects": [_joined(inference, parts) for parts in of_subjects],
    }


def _joined(inference: DyadicInference, parts: Sequence[_Part]) -> Dyadic:
    return inference.join(float(np.mean([float(part.found.value[0]) for part in parts])), parts)


def data_set(
    seed: Sequence[int], n_stimuli: int, n_subjects: int, design: str, noise: float, comparators: Sequence[str]
):
    """Yield (comparator, against, what, value, low, high, p) of one data set."""
    rng = np.random.default_rng(list(seed))
    sample = population.draw(rng, n_stimuli, n_subjects, noise)
    parts = folds(rng, n_stimuli, design)
    models = torch.tensor(np.stack([sample.better, sample.worse, sample.twin]))
    for comparator in comparators:
        found = estimates(models, torch.tensor(sample.subjects), parts, comparator, n_stimuli)
        for against, (better, worse, twin) in found.items():
            for what, estimate in (("score", better), ("gain", better.minus(worse)), ("no gain", better.minus(twin))):
                yield comparator, against, what, estimate.value, *estimate.interval()


def cell(
    n_stimuli: int, n_subjects: int, design: str, noise: float, n_sets: int, comparators: Sequence[str] = COMPARATORS
) -> pd.DataFrame:
    """Simulate `n_sets` data sets of one design; one row per comparator x against x what."""
    first = zlib.crc32(f"{n_stimuli} {n_subjects} {design} {noise}".encode())
    rows = [
        row for k in range(n_sets) for row in data_set((first, k), n_stimuli, n_subjects, design, noise, comparators)
    ]
    table = pd.DataFrame(rows, columns=["comparator", "against", "what", "value", "low", "high", "p"])
    design_of = {"n_stimuli": n_stimuli, "n_subjects": n_subjects, "design": design, "noise": noise, "n_sets": n_sets}
    return pd.DataFrame([design_of | row for row in _summaries(table)])


def _summaries(table: pd.DataFrame) -> Iterator[dict[str, object]]:
    for (comparator, against, what), rows in table.groupby(["comparator", "against", "what"], sort=False):
        truth = 0.0 if what == "no gain" else float(rows["value"].mean())
        sd, half = float(rows["value"].std()), float((rows["high"] - rows["low"]).mean() / 2)
        yield {
            "comparator": comparator, "against": against, "what": what, "truth": round(truth, 4), "sd": round(sd, 4),
            "coverage": round(float(((rows["low"] <= truth) & (truth <= rows["high"])).mean()), 4),
            "width": round(half / (1.96 * sd), 3), "rejected": round(float((rows["p"] < 0.05).mean()), 4),
        }  # fmt: skip


def has(done: pd.DataFrame, design: dict[str, object]) -> bool:
    """Say whether a table has rows of this design."""
    return len(done) > 0 and bool((done[list(design)] == pd.Series(design)).all(axis=1).any())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--sets", type=int, default=300, help="data sets per cell")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done = pd.read_csv(arguments.out) if arguments.out.exists() else pd.DataFrame()
    for n, s, design, noise in itertools.product(STIMULI, SUBJECTS, DESIGNS, NOISE):
        keys = {"n_stimuli": n, "n_subjects": s, "design": design, "noise": noise}
        if has(done, keys):
            continue
        done = pd.concat([done, cell(n, s, design, noise, arguments.sets)], ignore_index=True)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        done.to_csv(arguments.out, index=False)
        print(f"{n} stimuli, {s} subjects, {design}, noise {noise:g}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
