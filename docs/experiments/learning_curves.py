"""How much brain data does a fit need? Held-out score against the number of objects, and of subjects, fitted.

A linear map of EfficientNet-Lite0's blocks is fitted to human IT (see brains.py) of some of the training objects, or of
some of the subjects, and scored on objects that were held out, with subjects that it was fitted to and with others.
Smaller sets of objects are parts of larger ones, with the categories in the same shares.

    python docs/experiments/learning_curves.py            # fit what is missing, score, draw, and write the page
    python docs/experiments/learning_curves.py --page     # only draw and write the page from the tables
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from brains import (
    HUMAN_IT,
    IT,
    RUNS,
    STUDIES,
    Brain,
    all_studies,
    brain,
    fit_map,
    looked_up,
    pairs_of,
    reweighted,
    splits,
    unfitted_map,
)
from rdm_rows import Rows, as_text

SEEDS = range(5)
N_STIMULI = (12, 24, 36, 48, 99)  # 99: all training objects, 73 or 74
N_SUBJECTS = {HUMAN_IT: (1, 2, 3), IT: (1, 2, 4, 8)}
KEYS = ("fitted_to", "n_stimuli", "n_subjects", "role", "shown", "seed", "fold")


def rows() -> Rows:
    """Held-out RDMs of all fits."""
    return Rows(RUNS / "learning_curves_rdms.csv", KEYS)


def run(seeds: range = SEEDS) -> None:
    """Fit and predict what is missing, seed by seed."""
    for seed in seeds:
        for name in (HUMAN_IT, IT):
            source = brain(name)
            for fold, train, test in splits(source.features, seed):
                for n in N_STIMULI:
                    _predict(source, first(source, train, seed)[:n], test, n, 0, seed, fold)
                for n in N_SUBJECTS[name]:
                    _predict(source.of(drawn(source, n, seed, fold)), train, test, 99, n, seed, fold)


def first(source: Brain, train: Sequence[str], seed: int) -> list[str]:
    """Training objects in a random order in which the first n have the categories in the same shares, for each n."""
    labels = pd.Series({name: (source.features.labels or {})[name] for name in train})
    shuffled = labels.iloc[np.random.default_rng(seed).permutation(len(labels))]
    share = (shuffled.groupby(shuffled).cumcount() + 0.5) / shuffled.groupby(shuffled).transform("size")
    return list(share.sort_values(kind="stable").index)


def drawn(source: Brain, n: int, seed: int, fold: int) -> list[str]:
    """Subjects that the map is fitted to: other ones in each fold and seed."""
    order = np.random.default_rng([seed, fold]).permutation(len(source.teacher.subjects))
    return [source.teacher.subjects[k] for k in sorted(order[:n])]


def _predict(source: Brain, train: Sequence[str], test: Sequence[str], n: int, n_subjects: int, seed: int, fold: int) -> None:
    """Fit to some objects and subjects, and store what is predicted for the images of both studies."""
    stored = rows()
    keys = {"fitted_to": source.name, "n_stimuli": n, "n_subjects": n_subjects, "seed": seed, "fold": fold}
    if stored.has(role="category", shown=[*all_studies()][-1], **keys):
        return
    started = time.process_time()
    before = unfitted_map(source.features, train)
    fitted, steps = fit_map(source.teacher, source.features, train, seed)
    seconds = round(time.process_time() - started, 2)
    weighed = {} if n_subjects else reweighted(before, source, all_studies(), train, test, seed)
    for study, shown in all_studies().items():
        found = {
            "student": pairs_of(fitted, shown, test),
            "unfitted": pairs_of(before, shown, test),
            **({"reweighted": weighed[study]} if weighed else {}),
            "category": looked_up(source.truth, source.features.labels or {}, train, test),
        }
        for role, pairs in found.items():
            stored.add(keys | {"role": role, "shown": study, "steps": steps, "seconds": seconds, "pairs": as_text(pairs)})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="fit nothing")
    parser.add_argument("--only-fit", action="store_true", help="write no page")
    parser.add_argument("--seed", type=int, help="only this seed")
    words = parser.parse_args()
    if not words.page:
        run(SEEDS if words.seed is None else range(words.seed, words.seed + 1))


if __name__ == "__main__":
    main()
