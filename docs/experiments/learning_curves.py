"""How much brain data does a fit need? Held-out score against the number of objects, and of subjects, fitted.

A linear map of EfficientNet-Lite0's blocks is fitted to human IT (see brains.py) of some of the training objects, or of
some of the subjects, and scored on objects that were held out, with subjects that it was fitted to and with others.
Smaller sets of objects are parts of larger ones, with the categories in the same shares.

    python -m docs.experiments.learning_curves            # fit what is missing, score, draw, and write the page
    python -m docs.experiments.learning_curves --page     # only draw and write the page from the tables
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainrdl import plot
from brainrdl.evaluation import HeldOut, score
from docs.experiments.brains import (
    HUMAN_IT,
    IT,
    N_FOLDS,
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
from docs.experiments.scoring import command, draw, interval, load, markdown, missing, number, percent, save, write

SEEDS = range(5)
N_STIMULI = (12, 24, 36, 48, 99)  # 99: all training objects, 73 or 74
N_SUBJECTS = {HUMAN_IT: (1, 2, 3), IT: (1, 2, 4, 8)}
COLUMNS = ("fitted_to", "n_stimuli", "n_subjects", "seed", "fold", "role", "shown", "steps", "seconds", "pairs")
LAST = [*dict.fromkeys(STUDIES.values())][-1]  # the study that is predicted last
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
    last, done = {"role": "category", "shown": LAST}, table.done()
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


def complete(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the folds in which all points of a curve are known, so that all points have the same folds."""
    n_points = {name: len(N_STIMULI) + len(N_SUBJECTS[name]) for name in N_SUBJECTS}
    last = rows[(rows["role"] == "category") & (rows["shown"] == LAST)]
    found = last.groupby(["fitted_to", "seed", "fold"]).size().reset_index(name="n")
    whole = found[found["n"] == found["fitted_to"].map(n_points)]
    return rows.merge(whole.drop(columns="n"), on=["fitted_to", "seed", "fold"])


def score_all() -> None:
    """Score what is stored, and write the tables."""
    rows, parts, differences = complete(stored().rows()), [], []
    for source in (HUMAN_IT, IT):
        own = rows[rows["fitted_to"] == source]
        for target in (HUMAN_IT, IT):
            for few_subjects in (False, True):
                chosen = own[(own["n_subjects"] > 0) == few_subjects]
                if chosen.empty:
                    continue
                others = few_subjects and source == target
                found = score(held_out(chosen, target, others), {target: brain(target).truth}, ["spearman"])
                wanted = {"fitted_to": source, "scored_on": target, "curve": "subjects" if few_subjects else "objects"}
                parts.append(found.summary[found.summary["comparator"] == "spearman"].assign(**wanted))
                differences.append(found.contrasts[found.contrasts["comparator"] == "spearman"].assign(**wanted))
    table = pd.concat(parts, ignore_index=True).assign(n_fits=lambda found: found["n_folds"] * found["n_seeds"])
    numbers = table["student"].str.extract(r", (?P<n_objects>\d+) objects, (?P<n_fitted>\d+) subjects").astype(int)
    save("learning_curves", table.join(numbers))
    every = pd.concat(differences, ignore_index=True)
    save("learning_curves_contrasts", every[every["other_role"].isin(["unfitted", "reweighted", "category"])])


# Page

ROLES = {"student": "fitted map", "reweighted": "reweighted", "category": "categories", "unfitted": "unfitted"}
ALL_OBJECTS = 74  # training objects of a fold: 73 or 74


def page() -> None:
    """Draw the figures, and write the page from the tables."""
    table = load("learning_curves")
    table = table.assign(model=table["role"].map(ROLES), objects=table["n_objects"].clip(upper=ALL_OBJECTS))
    draw("learning_curves_objects", figure(curve_of(table, "objects"), "objects"))
    draw("learning_curves_subjects", figure(curve_of(table, "subjects"), "n_fitted"))
    n_seeds = int(table["n_seeds"].max())
    n_fits, n_planned = (
        int(table.loc[table["role"] == "student"].drop_duplicates(COUNTED)["n_fits"].sum()),
        planned_fits(),
    )
    text = PAGE.format(
        n_seeds=n_seeds, fits=missing(n_fits, n_planned),
        objects=markdown(by_objects(table)), subjects=markdown(by_subjects(table)),
        **sentences(table),
    )  # fmt: skip
    write("learning_curves", text)


COUNTED = ["fitted_to", "curve", "n_objects", "n_fitted"]


def planned_fits() -> int:
    """Number of fits of the plan."""
    return len(SEEDS) * N_FOLDS * sum(len(N_STIMULI) + len(n) for n in N_SUBJECTS.values())


def curve_of(table: pd.DataFrame, curve: str) -> pd.DataFrame:
    """Rows of a curve, against the mean RDM, or single subjects if other subjects of the same study are scored."""
    others = (curve == "subjects") & (table["fitted_to"] == table["scored_on"])
    against = others.map({True: "subjects", False: "mean"})
    return table[(table["curve"] == curve) & (table["against"] == against)]


def figure(table: pd.DataFrame, x: str) -> Figure:
    """A panel for each region fitted and each region scored."""
    drawn = Figure(figsize=(10, 7), layout="constrained")
    panels = [(source, target) for source in (HUMAN_IT, IT) for target in (HUMAN_IT, IT)]
    for ax, (source, target) in zip(drawn.subplots(2, 2).flat, panels, strict=True):
        rows = table[(table["fitted_to"] == source) & (table["scored_on"] == target)]
        rows = rows.assign(ceiling=rows["ceiling"].round(3))  # of the same folds: they differ by rounding only
        plot.learning_curve(rows, x, "model", ax, legend=(source, target) == panels[0])
        others = x == "n_fitted" and source == target
        what = "objects" if x == "objects" else "subjects"
        ax.set_xlabel(f"{what} of {source} fitted,\nscored with {'the other subjects' if others else target}")
    return drawn


def by_objects(table: pd.DataFrame) -> pd.DataFrame:
    """Scores of the fitted map, and of the models beside it, by number of objects."""
    rows = curve_of(table, "objects")
    wide = rows.assign(shown=[interval(row) for _, row in rows.iterrows()])
    wide = wide.pivot_table("shown", ["fitted_to", "scored_on", "model"], "objects", aggfunc="first", sort=False)
    return wide.rename(columns=lambda n: f"{n} objects").reset_index().rename(columns=WORDS)


def by_subjects(table: pd.DataFrame) -> pd.DataFrame:
    """Scores of the fitted map by number of subjects, and of the categories."""
    rows = curve_of(table, "subjects")
    rows = rows[rows["role"].isin(["student", "category"])]
    wide = rows.assign(shown=[interval(row) for _, row in rows.iterrows()])
    wide = wide.pivot_table("shown", ["fitted_to", "scored_on", "model"], "n_fitted", aggfunc="first", sort=False)
    return wide.fillna("").rename(columns=lambda n: f"{n} fitted").reset_index().rename(columns=WORDS)


WORDS = {"fitted_to": "fitted to", "scored_on": "scored with"}


def sentences(table: pd.DataFrame) -> dict[str, str]:
    """Numbers in the text: scores with few and with all objects and subjects."""
    objects, subjects = curve_of(table, "objects"), curve_of(table, "subjects")

    def at(rows: pd.DataFrame, source: str, target: str, column: str, n: int, role: str = "student") -> pd.Series:
        keys = (rows["fitted_to"] == source) & (rows["scored_on"] == target) & (rows[column] == n)
        return rows[keys & (rows["role"] == role)].iloc[0]

    few, half, most = N_STIMULI[0], 36, ALL_OBJECTS
    first, last = N_SUBJECTS[IT][0], N_SUBJECTS[IT][-1]
    found = {"few": str(few), "half": str(half), "most": str(most), "last": str(last)}
    for label, n in (("few", few), ("half", half), ("most", most)):
        found[f"human_{label}"] = interval(at(objects, HUMAN_IT, HUMAN_IT, "objects", n))
        found[f"across_{label}"] = interval(at(objects, HUMAN_IT, IT, "objects", n))
        found[f"reweighted_{label}"] = interval(at(objects, HUMAN_IT, HUMAN_IT, "objects", n, "reweighted"))
    for label, n in (("first", first), ("last", last)):
        row = at(subjects, IT, IT, "n_fitted", n)
        found[f"subjects_{label}"], found[f"share_{label}"] = interval(row), percent(row["share"])
        found[f"other_{label}"] = interval(at(subjects, IT, HUMAN_IT, "n_fitted", n))
    found["category_across"] = interval(at(objects, HUMAN_IT, IT, "objects", most, "category"))
    found["category_back"] = interval(at(objects, IT, HUMAN_IT, "objects", most, "category"))
    found["back_most"] = interval(at(objects, IT, HUMAN_IT, "objects", most))
    for name, source, other in (("four", HUMAN_IT, IT), ("fifteen", IT, HUMAN_IT)):
        found[f"ceiling_{name}"] = number(at(subjects, source, source, "n_fitted", 1)["ceiling"])
        found[f"ceiling_mean_{name}"] = number(at(subjects, other, source, "n_fitted", 1)["ceiling"])
    return found


PAGE = """
# How much brain data does a fit need?

**Question.** A study can measure more stimuli or more subjects. Which of them improves a fit, and is there more to
gain than the 92 objects and 4 or 15 subjects of these studies?

**Data and student** are those of [the experiment on transfer](transfer.md): human IT of 4 subjects (Kriegeskorte et
al. 2008) and of 15 others (Cichy et al. 2014), and a linear map of the channels of a pretrained network, whose
number of steps is chosen by inner folds of the objects that it is fitted to.

**Objects.** The map is fitted to {few} to {most} of the training objects of a fold. Smaller sets are parts of the
larger ones, with the categories in the same shares. **Subjects.** The map is fitted to all training objects, and to
the mean RDM of some of the subjects, drawn anew for each fold. It is scored with the other subjects of the same
study (each one alone), and with the subjects of the other study (their mean RDM). Beside the map:
feature-reweighted RSA (by number of objects only), the mean dissimilarities of pairs of categories, and the network
before the fit, each from the same objects and subjects.

**Scores.** Spearman correlation for pairs of objects that were held out together, the same five folds for all
points of a curve. The 95% intervals are over objects and subjects. The folds were drawn with {n_seeds} seeds.
{fits} The unfitted network is z-scored with the objects and images of the fit. It therefore changes with the number
of objects, and is lower in the other study than in [transfer](transfer.md), where it is z-scored with the images
that are scored. Curves are described, not tested: points of one curve share their objects and subjects, so that
intervals of single points say little about differences between them.

## Results

![Held-out scores by the number of objects fitted](../figures/learning_curves_objects.png)

*The label of each horizontal axis says which region was fitted and which one was scored with, always with held-out
objects. Bars are 95% intervals.*

{objects}

![Held-out scores by the number of subjects fitted](../figures/learning_curves_subjects.png)

Within a study, scores are mean correlations with the single subjects that were not fitted (a perfect model is expected
to reach {ceiling_four} with the 4 and {ceiling_fifteen} with the 15). With the other study, they are correlations with
its mean RDM ({ceiling_mean_four} and {ceiling_mean_fifteen}). Rows of the two kinds cannot be compared.

{subjects}

- **Objects.** The score of the map rises up to about {half} objects, and little after that. Fitted to {few} objects
  of the 4 subjects, it is {human_few} with the same subjects; fitted to {half}, {human_half}; fitted to all {most},
  {human_most}. With the 15 others, the scores are {across_few}, {across_half} and {across_most}. Reweighting still
  rises at the end: {reweighted_few}, {reweighted_half} and {reweighted_most} with the 4 subjects.
- **Subjects.** Fitted to one of the 15 subjects, the map scores {subjects_first} with single others of them
  ({share_first} of the ceiling); fitted to {last}, it scores {subjects_last} ({share_last}). With the mean RDM of the 4
  subjects of the other study, the scores are {other_first} and {other_last}.
- **Categories.** Mean dissimilarities of pairs of categories predict less than the map within a study, and about as
  much in the other study: with all objects, {category_across} for the categories and {across_most} for the map from
  4 to 15 subjects, {category_back} and {back_most} from 15 to 4. So these data do not show that a fit carries over
  more than categories to other subjects.

## What this does not show

- Objects are of six categories. A set of other objects, or of other categories, may need more or fewer.
- The number of steps is chosen from the objects that are fitted, which is noisy for {few} objects.
- The number of other subjects to score with becomes smaller as more are fitted, and other ones are left in each fold.
- With the other study, the unfitted network is z-scored with the images of the fitted study, whose background
  differs. A part of the difference from it is due to that.
- What a curve would do beyond its right end cannot be read from it.

## Run it

<!-- not run: takes about an hour -->
```bash
python -m docs.experiments.learning_curves
```

It continues where it stopped, scores, draws, and writes this page. `--page` only writes the page. Table:
`docs/experiments/results/learning_curves.csv`.
"""


if __name__ == "__main__":
    command(__doc__, SEEDS, run, score_all, page)
