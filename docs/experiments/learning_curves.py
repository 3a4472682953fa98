"""How much brain data does a fit need? Held-out score against the number of objects, and of subjects, fitted.

A linear map of EfficientNet-Lite0's blocks is fitted to human IT (see brains.py) of some of the training objects, or of
some of the subjects, and scored on objects that were held out, with subjects that it was fitted to and with others.
Smaller sets of objects are parts of larger ones, with the categories in the same shares.

    python -m docs.experiments.learning_curves            # fit what is missing, score, draw, and write the page
    python -m docs.experiments.learning_curves --page     # only draw and write the page from the tables
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainrdl.evaluation import HeldOut, score
from docs.experiments.brains import (
    HUMAN_IT,
    IT,
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
from docs.experiments.scoring import save

SEEDS = range(5)
N_STIMULI = (12, 24, 36, 48, 99)  # 99: all training objects, 73 or 74
N_SUBJECTS = {HUMAN_IT: (1, 2, 3), IT: (1, 2, 4, 8)}
COLUMNS = ("fitted_to", "n_stimuli", "n_subjects", "seed", "fold", "role", "shown", "steps", "seconds", "pairs")
KEY = ("fitted_to", "n_stimuli", "n_subjects", "role", "shown", "seed", "fold")


def stored() -> Results:
    """Held-out RDMs of all fits; they are not committed, because they are large and quickly made again."""
    return Results(RUNS / "learning_curves_rdms.csv", COLUMNS, KEY)


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


def _predict(
    source: Brain, train: Sequence[str], test: Sequence[str], n: int, n_subjects: int, seed: int, fold: int
) -> None:
    """Fit to some objects and subjects, and store what is predicted for the images of both studies."""
    table = stored()
    keys = {"fitted_to": source.name, "n_stimuli": n, "n_subjects": n_subjects, "seed": seed, "fold": fold}
    last, done = {"role": "category", "shown": [*all_studies()][-1]}, table.keys()
    if tuple(str((keys | last)[what]) for what in KEY) in done:
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
            table.add(
                keys | {"role": role, "shown": study, "steps": steps, "seconds": seconds, "pairs": as_text(pairs)}
            )


# Scores


def held_out(rows: pd.DataFrame, target: str, left_out: bool) -> list[HeldOut]:
    """Stored RDMs for the images that the subjects of a target saw; with subjects that were not fitted, if asked."""
    test_of = {(seed, fold): test for seed in SEEDS for fold, _, test in splits(brain(HUMAN_IT).features, seed)}
    found = []
    for row in rows[rows["shown"] == STUDIES[target]].to_dict("records"):
        source, n = brain(row["fitted_to"]), row["n_subjects"]
        known = drawn(source, n, row["seed"], row["fold"]) if left_out else []
        whom = [subject for subject in source.teacher.subjects if subject not in known] if left_out else [""]
        name = name_of(row)
        found += [
            HeldOut(
                student=name, role=row["role"], target=target, base=name_of(row | {"role": "unfitted"}),
                names=test_of[row["seed"], row["fold"]], pairs=from_text(row["pairs"]), seed=row["seed"],
                fold=row["fold"], left_out=subject,
            )
            for subject in whom
        ]  # fmt: skip
    return found


def name_of(row: Mapping[str, Any]) -> str:
    """Name of a row of the tables."""
    return f"{row['fitted_to']}, {row['n_stimuli']} objects, {row['n_subjects']} subjects, {row['role']}"


def score_all() -> None:
    """Score what is stored, and write the tables."""
    rows, parts, differences = stored().rows(), [], []
    for source in (HUMAN_IT, IT):
        own = rows[rows["fitted_to"] == source]
        for target in (HUMAN_IT, IT):
            for few_subjects in (False, True):
                chosen = own[(own["n_subjects"] > 0) == few_subjects]
                others = few_subjects and source == target
                found = score(held_out(chosen, target, others), {target: brain(target).truth}, ["spearman"])
                wanted = {"fitted_to": source, "scored_on": target, "curve": "subjects" if few_subjects else "objects"}
                parts.append(found.summary[found.summary["comparator"] == "spearman"].assign(**wanted))
                differences.append(found.contrasts[found.contrasts["comparator"] == "spearman"].assign(**wanted))
    table = pd.concat(parts, ignore_index=True)
    numbers = table["student"].str.extract(r", (?P<n_objects>\d+) objects, (?P<n_fitted>\d+) subjects").astype(int)
    save("learning_curves", table.join(numbers))
    every = pd.concat(differences, ignore_index=True)
    save("learning_curves_contrasts", every[every["other_role"].isin(["unfitted", "reweighted", "category"])])


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
