"""Type-I errors of two tests against the noise ceiling: ``python tests/validity/ceiling_tests.py --out FILE``.

- `at the bound`: the model is the pooled RDM of n - 1 other subjects of the same population, so it is expected to score
  exactly as high as the lower bound of the noise ceiling: 5 % of data sets should be rejected.
- `true model`: the pooled RDM of 60 other subjects. It is above the lower bound, and should not be found below it.

Each data set has new stimuli and new subjects. `remade` is `brainrdl.inference.ceiling_test`, whose jackknife over
subjects makes the lower bound again without each subject. `fixed` treats the lower bound as a model with an RDM for
each subject, which other subjects do not change.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from brainrdl.inference.batches import score_batch
from brainrdl.inference.ceiling_tests import ceiling_test
from brainrdl.similarity.registry import SIMILARITIES

sys.path.insert(0, str(Path(__file__).parent))
import plain_rsa
import population

MANY = 60

MODELS = ("at the bound", "true model")

Draw = Callable[[np.random.Generator, int, int], np.ndarray]


def with_individual_geometry(rng: np.random.Generator, n_stimuli: int, n_subjects: int) -> np.ndarray:
    return population.draw(rng, n_stimuli, n_subjects).subjects


def with_stimulus_effects(rng: np.random.Generator, n_stimuli: int, n_subjects: int) -> np.ndarray:
    return plain_rsa.rdms_of(n_stimuli, n_subjects, 1.0, rng)


POPULATIONS: Mapping[str, Draw] = {
    "individual geometry": with_individual_geometry,
    "stimulus effects": with_stimulus_effects,
}


def fixed(models: torch.Tensor, rdms: torch.Tensor, comparator: str) -> list[tuple[float, float]]:
    """Differences and p-values if the mean of the others is a model of each subject."""
    pooled, n = SIMILARITIES[comparator].poolable(rdms), len(rdms)
    others = torch.stack([pooled[[other for other in range(n) if other != s]].mean(0) for s in range(n)])
    batch = score_batch(comparator, [(models[:, None].expand(-1, n, -1), rdms), (others[None], rdms)], "subjects")
    found = batch.differences(range(len(models)), [len(models)] * len(models))
    return list(zip(found.value, found.p, strict=True))


def remade(models: torch.Tensor, rdms: torch.Tensor, comparator: str) -> list[tuple[float, float]]:
    return [(found.value, found.p) for found in ceiling_test(models, rdms, comparator)]


TESTS = {"fixed": fixed, "remade": remade}


def cell(draw: str, n_stimuli: int, n: int, comparator: str, n_sets: int) -> list[dict[str, object]]:
    """Shares of rejected data sets, in each direction."""
    first = zlib.crc32(f"{draw} {n_stimuli} {n}".encode())
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for k in range(n_sets):
        everybody = torch.tensor(POPULATIONS[draw](np.random.default_rng([first, k]), n_stimuli, n + MANY))
        rdms, pooled = everybody[:n].contiguous(), SIMILARITIES[comparator].poolable(everybody[n:])
        models = torch.stack([pooled[: n - 1].mean(0), pooled.mean(0)])
        for name, test in TESTS.items():
            for what, result in zip(MODELS, test(models, rdms, comparator), strict=True):
                found.setdefault((what, name), []).append(result)
    of_cell = {"population": draw, "stimuli": n_stimuli, "subjects": n, "comparator": comparator}
    rows = []
    for (what, name), results in found.items():
        value, p = np.array(results).T
        below, above = ((p < 0.05) & (value < 0)).mean(), ((p < 0.05) & (value > 0)).mean()
        shares = {"found below": round(below, 3), "found above": round(above, 3)}
        rows.append(of_cell | {"model": what, "lower bound": name} | shares)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--sets", type=int, default=300, help="data sets per cell")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for design in itertools.product(POPULATIONS, (24, 48), (6, 12), ("corr", "spearman")):
        rows += cell(*design, arguments.sets)
        pd.DataFrame(rows).to_csv(arguments.out, index=False)
        print(*design, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
