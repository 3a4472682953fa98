"""Does a map that was fitted to one brain predict others? Four regions of two studies, in all directions.

A linear map of EfficientNet-Lite0's blocks is fitted to human IT of 4 subjects, monkey IT, or IT or EVC of 15 other
subjects (see brains.py), and scored on all four, always with objects that it was not fitted to. It sees the images that
the subjects saw: for the fit those of the fitted study, for the score those of the scored study.

    python docs/experiments/transfer.py            # fit what is missing, score, draw, and write the page
    python docs/experiments/transfer.py --page     # only draw and write the page from the tables
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

from brains import (
    EVC,
    HUMAN_IT,
    IT,
    MONKEY_IT,
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

from brainrdl.teachers import control

REGIONS = (HUMAN_IT, MONKEY_IT, IT, EVC)
PERMUTED = (HUMAN_IT, IT)  # regions with a permuted control
SEEDS = range(5)
KEYS = ("fitted_to", "role", "scored_on", "seed", "fold")


def rows() -> Rows:
    """Held-out RDMs of all fits."""
    return Rows(RUNS / "transfer_rdms.csv", KEYS)


def run(seeds: range = SEEDS) -> None:
    """Fit and predict what is missing, seed by seed."""
    stored, regions = rows(), [brain(name) for name in REGIONS]
    for seed in seeds:
        for source in regions:
            for fold, train, test in splits(source.features, seed):
                if not stored.has(fitted_to=source.name, role="category", scored_on=REGIONS[-1], seed=seed, fold=fold):
                    for row in predicted(source, regions, seed, train, test):
                        stored.add({"fitted_to": source.name, "seed": seed, "fold": fold} | row)


def predicted(
    source: Brain, regions: list[Brain], seed: int, train: tuple[str, ...], test: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Predict the held-out RDM of each region by everything that is fitted to the training objects of one."""
    started = time.process_time()
    before = unfitted_map(source.features, train)
    fitted, steps = fit_map(source.teacher, source.features, train, seed)
    shuffled = None
    if source.name in PERMUTED:
        permuted = control("permuted", teacher=source.teacher.select(train), conditions=train, seed=seed)
        shuffled, _ = fit_map(permuted, source.features, train, seed)
    seconds = round(time.process_time() - started, 2)
    weighed = reweighted(before, source, all_studies(), train, test, seed)
    for study, shown in all_studies().items():
        found = {
            "student": pairs_of(fitted, shown, test),
            "unfitted": pairs_of(before, shown, test),
            "reweighted": weighed[study],
            "category": looked_up(source.truth, source.features.labels or {}, train, test),
        }
        if shuffled is not None:
            found["permuted"] = pairs_of(shuffled, shown, test)
        for target in (target for target in regions if STUDIES[target.name] == study):
            for role, pairs in found.items():
                yield {"role": role, "scored_on": target.name, "steps": steps, "seconds": seconds, "pairs": as_text(pairs)}


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
