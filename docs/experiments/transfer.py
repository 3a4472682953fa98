"""Does a map that was fitted to one brain predict others? Four regions of two studies, in all directions.

A linear map of EfficientNet-Lite0's blocks is fitted to human IT of 4 subjects, monkey IT, or IT or EVC of 15 other
subjects (see brains.py), and scored on all four, always with objects that it was not fitted to. It sees the images that
the subjects saw: for the fit those of the fitted study, for the score those of the scored study.

    python -m docs.experiments.transfer            # fit what is missing, score, draw, and write the page
    python -m docs.experiments.transfer --page     # only draw and write the page from the tables
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

from brainrdl.evaluation import HeldOut, score
from brainrdl.teachers import control
from docs.experiments.brains import (
    EVC,
    HUMAN_IT,
    IT,
    MONKEY_IT,
    RUNS,
    STUDIES,
    Brain,
    all_studies,
    as_text,
    brain,
    fit_map,
    from_text,
    looked_up,
    pairs_of,
    reweighted,
    splits,
    unfitted_map,
)
from docs.experiments.results import Results
from docs.experiments.scoring import planned, save

REGIONS = (HUMAN_IT, MONKEY_IT, IT, EVC)
PERMUTED = (HUMAN_IT, IT)  # regions with a permuted control
SEEDS = range(5)
COLUMNS = ("fitted_to", "seed", "fold", "role", "scored_on", "steps", "seconds", "pairs")
KEY = ("fitted_to", "role", "scored_on", "seed", "fold")


def stored() -> Results:
    """Held-out RDMs of all fits; they are not committed, because they are large and quickly made again."""
    return Results(RUNS / "transfer_rdms.csv", COLUMNS, KEY)


def run(seeds: range = SEEDS) -> None:
    """Fit and predict what is missing, seed by seed."""
    table, regions = stored(), [brain(name) for name in REGIONS]
    done = table.keys()
    for seed in seeds:
        for source in regions:
            for fold, train, test in splits(source.features, seed):
                if (source.name, "category", REGIONS[-1], str(seed), str(fold)) not in done:
                    for row in predicted(source, regions, seed, train, test):
                        table.add({"fitted_to": source.name, "seed": seed, "fold": fold} | row)


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
                yield {
                    "role": role,
                    "scored_on": target.name,
                    "steps": steps,
                    "seconds": seconds,
                    "pairs": as_text(pairs),
                }


# Scores


def student(source: str, role: str) -> str:
    """Name of a row of the tables."""
    words = {"student": "fitted to", "category": "categories of"}
    return f"{words[role]} {source}" if role in words else f"fitted to {source}, {role}"


def held_out() -> list[HeldOut]:
    """All stored RDMs."""
    names = {(seed, fold): test for seed in SEEDS for fold, _, test in splits(brain(HUMAN_IT).features, seed)}
    return [
        HeldOut(
            student=student(row["fitted_to"], row["role"]), role=row["role"], target=row["scored_on"],
            base=student(row["fitted_to"], "unfitted"), names=names[row["seed"], row["fold"]],
            pairs=from_text(row["pairs"]), seed=row["seed"], fold=row["fold"],
        )
        for row in stored().rows().to_dict("records")
    ]  # fmt: skip


def score_all() -> None:
    """Score what is stored, and write the tables."""
    found = score(held_out(), {name: brain(name).truth for name in REGIONS}, ["spearman"])
    save("transfer_summary", found.summary[found.summary["comparator"] == "spearman"])
    wanted = found.contrasts[(found.contrasts["against"] == "mean") & (found.contrasts["comparator"] == "spearman")]
    save("transfer_contrasts", planned(wanted, contrasts()))
    fits = found.scores[(found.scores["against"] == "mean") & (found.scores["comparator"] == "spearman")]
    save("transfer", fits[["student", "role", "target", "seed", "fold", "score", "n_conditions"]])


def contrasts() -> dict[tuple[str, str, str], str]:
    """The planned contrasts and their families."""
    fitted = {name: student(name, "student") for name in REGIONS}
    others = [(source, target) for source in REGIONS for target in REGIONS if source != target]
    families: dict[tuple[str, str, str], str] = {}
    for role in ("unfitted", "category", "reweighted"):
        families |= {(fitted[one], student(one, role), target): f"minus {role}" for one, target in others}
    families |= {
        (fitted[own], fitted[other], own): "own region minus other"
        for own, other in ((IT, EVC), (EVC, IT), (HUMAN_IT, EVC))
    }
    return families


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="fit nothing")
    parser.add_argument("--only-fit", action="store_true", help="write no page")
    parser.add_argument("--seed", type=int, help="only this seed")
    words = parser.parse_args()
    if not words.page:
        run(SEEDS if words.seed is None else range(words.seed, words.seed + 1))
    if not words.page and not words.only_fit:
        score_all()


if __name__ == "__main__":
    main()
