"""The dual bootstrap on the same simulations: ``python tests/validity/dual_bootstrap.py --out FILE``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from brainrdl._core.rows import Role
from brainrdl.evaluation.scores import HeldOut, TeacherRDMs, score

sys.path.insert(0, str(Path(__file__).parent))
import intervals
import population

CELLS = [(24, 4, "folds"), (48, 4, "folds"), (48, 12, "folds"), (92, 4, "folds"), (48, 12, "no folds")]


def held_out(sample: population.Sample, parts: Sequence[np.ndarray], n_stimuli: int) -> Iterator[HeldOut]:
    """The better and the worse model as a student and its unfitted self, fold by fold."""
    i, j = np.triu_indices(n_stimuli, 1)
    position = np.zeros((n_stimuli, n_stimuli), dtype=int)
    position[i, j] = position[j, i] = np.arange(len(i))
    for fold, part in enumerate(parts):
        first, second = np.triu_indices(len(part), 1)
        shown = tuple(f"n{k:03d}" for k in part)
        for label, role, pairs in (
            ("fitted", Role.STUDENT, sample.better),
            ("unfitted", Role.UNFITTED, sample.worse),
        ):
            chosen = torch.tensor(pairs[position[part[first], part[second]]])
            yield HeldOut(student=label, role=role, base="unfitted", target="IT", names=shown, pairs=chosen, fold=fold)


def teacher_of(sample: population.Sample, n_stimuli: int) -> dict[str, TeacherRDMs]:
    names = tuple(f"n{k:03d}" for k in range(n_stimuli))
    subjects = tuple(f"s{k}" for k in range(len(sample.subjects)))
    return {"IT": TeacherRDMs("IT", names, subjects, torch.tensor(sample.subjects))}


def gains(n_stimuli: int, n_subjects: int, design: str, n_sets: int) -> pd.DataFrame:
    """Gains against the mean RDM with intervals of both kinds, one row per data set and kind."""
    found = []
    for k in range(n_sets):
        rng = np.random.default_rng([k, n_stimuli, n_subjects, intervals.DESIGNS.index(design)])
        sample = population.draw(rng, n_stimuli, n_subjects)
        rows = list(held_out(sample, intervals.folds(rng, n_stimuli, design), n_stimuli))
        for kind in ("dyadic", "dual-bootstrap"):
            table = score(rows, teacher_of(sample, n_stimuli), ["corr"], intervals=kind, n_bootstrap=200).summary
            row = table.query("student == 'fitted' and against == 'mean'").iloc[0]
            found.append({"kind": kind, **row[["gain", "gain_low", "gain_high"]]})
    return pd.DataFrame(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--sets", type=int, default=100, help="data sets per cell")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = []
    for cell in CELLS:
        for kind, rows in gains(*cell, arguments.sets).groupby("kind"):
            truth, sd = rows["gain"].mean(), rows["gain"].std()
            covered = ((rows["gain_low"] <= truth) & (truth <= rows["gain_high"])).mean()
            width = (rows["gain_high"] - rows["gain_low"]).mean() / 2 / (1.96 * sd)
            design = dict(zip(("n_stimuli", "n_subjects", "design"), cell, strict=True))
            kept.append(design | {"kind": kind, "n_sets": len(rows), "coverage": covered, "width": round(width, 2)})
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(kept).to_csv(arguments.out, index=False)
        print(*cell, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
