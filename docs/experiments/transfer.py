"""Does a map that was fitted to one brain predict others? Four regions of two studies, in all directions.

A linear map of EfficientNet-Lite0's blocks is fitted to human IT of 4 subjects, monkey IT, or IT or EVC of 15 other
subjects (see brains.py), and scored on all four, always with objects that it was not fitted to. It sees the images that
the subjects saw: for the fit those of the fitted study, for the score those of the scored study.

    python -m docs.experiments.transfer            # fit what is missing, score, draw, and write the page
    python -m docs.experiments.transfer --page     # only draw and write the page from the tables
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from brainrdl import plot
from brainrdl.evaluation import HeldOut, score
from brainrdl.inference.p_values import format_p, p_equals
from brainrdl.teachers import control
from docs.experiments.brains import (
    EVC,
    HUMAN_IT,
    IT,
    MONKEY_IT,
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
from docs.experiments.scoring import (
    command,
    draw,
    interval,
    load,
    markdown,
    missing,
    number,
    planned,
    save,
    write,
)

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
    done = table.done()
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
        for row in with_own_images(complete(stored().rows())).to_dict("records")
    ]  # fmt: skip


def with_own_images(rows: pd.DataFrame) -> pd.DataFrame:
    """Let the unfitted network of each fit be z-scored with training images of the study that it is scored on.

    With those of the fitted study, a part of the gain would only be that of another background.
    """
    place = ["scored_on", "seed", "fold"]
    unfitted = rows["role"] == "unfitted"
    own = rows[unfitted & (rows["fitted_to"] == rows["scored_on"])].set_index(place)["pairs"]
    changed = rows.copy()
    changed.loc[unfitted, "pairs"] = own.loc[pd.MultiIndex.from_frame(rows.loc[unfitted, place])].to_numpy()
    return changed


def complete(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the seeds of which all fits are there, so that all rows of a table have the same folds."""
    n_fits = (
        rows[rows["role"] == "student"]
        .groupby("seed")[["fitted_to", "fold"]]
        .apply(lambda own: len(own.drop_duplicates()))
    )
    return rows[rows["seed"].isin(n_fits.index[n_fits >= len(REGIONS) * N_FOLDS])]


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


# Page


def page() -> None:
    """Draw the figure, and write the page from the tables."""
    summary, differences, fits = load("transfer_summary"), load("transfer_contrasts"), load("transfer")
    summary = summary[summary["against"] == "mean"].assign(layer="")
    draw("transfer", figure(summary))
    scores = summary.set_index(["student", "target"])
    found = fits[fits["student"].isin([student(name, "student") for name in REGIONS])]
    n_fits, n_seeds = len(found.drop_duplicates(["student", "seed", "fold"])), found["seed"].nunique()
    between = differences.set_index(["family", "student", "target"])

    def gain(source: str, target: str, family: str = "minus unfitted") -> str:
        row = between.loc[(family, student(source, "student"), target)]
        return f"{interval(row, 'difference')}, p {p_equals(row['p_corrected'])}"

    text = PAGE.format(
        scores=markdown(score_table(scores)),
        fits=missing(n_fits, len(REGIONS) * len(SEEDS) * N_FOLDS),
        n_seeds=n_seeds,
        **{f"contrasts_{kind}": markdown(contrast_table(between, f"minus {kind}")) for kind in KINDS},
        specific=markdown(specific_table(between)),
        four_to_fifteen=interval(scores.loc[(student(HUMAN_IT, "student"), IT)]),
        gain_four_to_fifteen=gain(HUMAN_IT, IT),
        gain_fifteen_to_four=gain(IT, HUMAN_IT),
        gain_monkey_to_four=gain(MONKEY_IT, HUMAN_IT),
        gain_fifteen_to_monkey=gain(IT, MONKEY_IT),
        gain_four_to_monkey=gain(HUMAN_IT, MONKEY_IT),
        categories_four_to_fifteen=gain(HUMAN_IT, IT, "minus category"),
        categories_fifteen_to_monkey=gain(IT, MONKEY_IT, "minus category"),
        reweighted_four_to_fifteen=gain(HUMAN_IT, IT, "minus reweighted"),
        gain_monkey_to_fifteen=gain(MONKEY_IT, IT),
        permuted_four_to_fifteen=interval(scores.loc[(student(HUMAN_IT, "permuted"), IT)]),
        it_minus_evc=gain(IT, IT, "own region minus other"),
        evc_minus_it=gain(EVC, EVC, "own region minus other"),
        n_above_reweighted=n_above(between, "minus reweighted"),
    )
    write("transfer", text)


KINDS = ("unfitted", "category", "reweighted")


def n_above(between: pd.DataFrame, family: str) -> int:
    """Number of pairs of different IT regions in which the fitted map is significantly better."""
    regions = [name for name in REGIONS if name != EVC]
    rows = [
        between.loc[(family, student(one, "student"), other)] for one in regions for other in regions if one != other
    ]
    return sum(row["p_corrected"] < 0.05 and row["difference"] > 0 for row in rows)


def figure(summary: pd.DataFrame) -> Figure:
    """Scores of all fits with each region, with the fitted region's own controls."""
    drawn = Figure(figsize=(11, 6.0), layout="constrained")
    for ax, target in zip(drawn.subplots(2, 2).flat, REGIONS, strict=True):
        rows = [student(source, "student") for source in (target, *(one for one in REGIONS if one != target))]
        rows += [student(target, "unfitted"), student(target, "category")]
        shown = summary[(summary["target"] == target) & summary["student"].isin(rows)]
        shown = shown.replace({"student": {student(target, "unfitted"): "unfitted"}})
        plot.scores(shown, "spearman", "mean", ax, legend=False)
        ax.set_title(f"scored with {target}", loc="left")
    return drawn


def score_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Fitted region in rows, scored region in columns."""
    rows = []
    labelled = {
        **{f"fitted to {source}": student(source, "student") for source in REGIONS},
        "unfitted, own images": "",
        **{f"categories of {source}": student(source, "category") for source in REGIONS},
    }
    for label, name in labelled.items():
        cells = {target: interval(scores.loc[(name or student(target, "unfitted"), target)]) for target in REGIONS}
        rows.append({"": label, **cells})
    ceilings = {target: number(scores.loc[(student(target, "student"), target), "ceiling"]) for target in REGIONS}
    return pd.DataFrame([*rows, {"": "expected of a perfect model", **ceilings}])


def contrast_table(between: pd.DataFrame, family: str) -> pd.DataFrame:
    """Differences with their intervals and corrected p-values: fitted region in rows, scored region in columns."""
    rows = []
    for source in REGIONS:
        cells = {}
        for target in REGIONS:
            row = None if source == target else between.loc[(family, student(source, "student"), target)]
            cells[target] = "" if row is None else f"{interval(row, 'difference')}, p {p_equals(row['p_corrected'])}"
        rows.append({"": f"fitted to {source}", **cells})
    return pd.DataFrame(rows)


def specific_table(between: pd.DataFrame) -> pd.DataFrame:
    """Own region minus another one."""
    rows = between.loc["own region minus other"].reset_index()
    return pd.DataFrame({
        "scored with": rows["target"],
        "difference": rows["student"] + " minus " + rows["other"],
        "": [interval(row, "difference") for _, row in rows.iterrows()],
        "corrected p": [format_p(p) for p in rows["p_corrected"]],
    })  # fmt: skip


PAGE = """
# Does a fit to one brain predict others?

**Question.** A network that is fitted to the RDM of a brain region may have learned this region, these subjects,
these images, or object vision in general. What does a fit to one region predict in other subjects, in another
species, and in another region?

**Data.** Two studies with the same 92 objects. *Kriegeskorte et al. (2008)*: human IT of 4 subjects and monkey IT
(one RDM of two monkeys), objects on grey. *Cichy et al. (2014)*: IT and early visual cortex (EVC) of 15 other
subjects, objects on white. An object that is held out is held out in both studies, so that every score is on
objects that the network was not fitted to, on whatever background.

**Student.** The channels of blocks 11 to 15 of EfficientNet-Lite0 (ImageNet weights), averaged over space, z-scored
with the training images and mapped linearly. The map starts at the identity and is trained with 1 - Pearson
correlation of the RDMs as the loss (SGD with momentum, learning rate 0.2). The number of steps is chosen by three
inner folds of the training objects, at most 24. The network sees the images that the subjects saw: for the fit
those of the fitted study, for the score those of the scored study.

**Scores.** Spearman correlation with the subjects' mean RDM, for pairs of objects that were held out together: five
folds, stratified by six categories. The 95% intervals are over objects and subjects (monkey IT: over objects only,
and no ceiling). The folds were drawn with {n_seeds} seeds. {fits}

**Planned contrasts.** For each of the twelve pairs of different regions: fitted minus *unfitted* (the channels
before the fit, z-scored with the training images of the scored study), minus *categories* (the mean dissimilarity
of the two categories among the training objects of the fitted region) and minus *reweighted* (feature-reweighted
RSA, fitted to the same training objects). Each kind is a family of 12 that is corrected by Holm's method. Fourth
family, three contrasts: IT and EVC of the 15 subjects, each minus the other region of the same subjects; and human IT
(4) minus EVC (15), where subjects and background differ as well. As first planned, the unfitted
channels were z-scored with the images of the fitted study, also where they were scored on those of the other study.
That makes them worse, so that a part of such a gain would only be that of the background. This was changed after
the results had been seen; it makes the gains smaller.

## Results

![Scores of the fits to four regions with the four regions](../figures/transfer.png)

*Each panel: one region to score with. Circles are fits to each region, the diamond is the network before the fit,
and the square the categories of that region; the vertical line is what a perfect model is expected to reach. Bars
are 95% intervals.*

Rows: what was fitted. Columns: the region that it was scored with.

{scores}

Differences, with p-values after correction. Minus unfitted:

{contrasts_unfitted}

Minus the categories of the fitted region:

{contrasts_category}

Minus reweighting:

{contrasts_reweighted}

Own region minus another one:

{specific}

- **A fit to IT carries over to IT of other people, other images and another study.** The map that was fitted to 4
  subjects scores {four_to_fifteen} with the 15 others, {gain_four_to_fifteen}, more than the unfitted
  network. A fit to shuffled names scores {permuted_four_to_fifteen}. In the other direction, from the 15 to the 4, the
  gain is {gain_fifteen_to_four}.
- **Between species**, the fit to monkey IT gains {gain_monkey_to_four}, with the 4 humans, and
  {gain_monkey_to_fifteen}, with the 15. The fits to the 15 and to the 4 humans gain {gain_fifteen_to_monkey}, and
  {gain_four_to_monkey}, with monkey IT. The directions were not compared with each other.
- **Categories explain much of what carries over between humans.** The mean dissimilarities of pairs of categories,
  learned from the 4 subjects, predict the 15 others about as well as the fitted map (map minus categories
  {categories_four_to_fifteen}). With monkey IT the map of the 15 humans predicts more than their categories
  ({categories_fifteen_to_monkey}).
- **Between IT regions, a trained map carries over better than weights of single channels**, significantly in
  {n_above_reweighted} of 6 pairs (4 to 15 humans: {reweighted_four_to_fifteen}).
- **The fit is specific to the region.** In the same 15 subjects, the fit to IT predicts IT better than the fit
  to EVC does ({it_minus_evc}), and the fit to EVC predicts EVC better than the fit to IT does ({evc_minus_it}).

## What this does not show

- The objects of both studies are the same, and come from few categories. Held-out objects are new, but of the same
  categories.
- All seeds have the same objects and subjects. They differ only in how the objects are divided into folds.
- Monkey IT is a single RDM. Its intervals hold for these two monkeys.
- The reweighting and the map were fitted with the images of the fitted study. A part of what is lost in another
  study may be due to the background, and not to the subjects.

## Run it

<!-- not run: takes about an hour -->
```bash
python -m docs.experiments.transfer
```

It continues where it stopped, scores, draws, and writes this page. `--page` only writes the page. Tables:
`docs/experiments/results/transfer*.csv`. [What it would take](power.md) to find smaller differences.
"""


if __name__ == "__main__":
    command(__doc__, SEEDS, run, score_all, page)
