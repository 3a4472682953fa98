"""What it would take to find the differences that were observed: numbers of objects and subjects.

A map is fitted to human IT of 4 subjects for every second object, with everything that it is compared with, and
predicts the RDM of the others; then the other way round. The RDMs of 15 other subjects for these objects are the pilot
of `brainrdl.inference.power`.

    python -m docs.experiments.power            # fit, compute the power, and write the page
    python -m docs.experiments.power --page     # only write the page from the table
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from brainrdl import plot
from brainrdl.inference import power, smallest_design
from brainrdl.rdms import from_array
from docs.experiments.brains import HUMAN_IT, IT, Brain, brain, fit_map, looked_up, pairs_of, reweighted, unfitted_map
from docs.experiments.scoring import draw, load, markdown, number, save, write

N_STIMULI, N_SUBJECTS = (46, 92, 184, 368), (5, 10, 15, 30, 60)
FEWEST = f"{N_SUBJECTS[0]} or fewer"
SOURCE, TARGET = HUMAN_IT, IT
SMALLEST = 0.05  # difference that would matter, also for contrasts that were not found
NONE = 0.01  # an observed difference below it is none, so that nothing could find it
OTHERS = {"unfitted": "unfitted", "reweighted": "reweighting", "category": "categories"}


def compute() -> pd.DataFrame:
    """Predicted power for the observed differences, the mean over both halves of the objects."""
    source, target = brain(SOURCE), brain(TARGET)
    names = source.features.names
    tables = [halves(source, target, names[k::2], names[1 - k :: 2]) for k in (0, 1)]
    keys = ["other", "true", "n_stimuli", "n_subjects"]
    return pd.concat(tables).groupby(keys, sort=False)[["effect", "sd", "power", "power_error"]].mean().reset_index()


def halves(source: Brain, target: Brain, train: Sequence[str], test: Sequence[str]) -> pd.DataFrame:
    """Power for the differences with one half fitted and the other predicted."""
    before, own = unfitted_map(source.features, train), unfitted_map(target.features, train)
    fitted, _ = fit_map(source.teacher, source.features, train, seed=0)
    rdms = {
        "student": pairs_of(fitted, target.features, test),
        "unfitted": pairs_of(own, target.features, test),
        "reweighted": reweighted(before, source, {"shown": target.features}, train, test, seed=0)["shown"],
        "category": looked_up(source.truth, source.features.labels or {}, train, test),
    }
    known = {role: from_array(pairs[None].numpy(), test) for role, pairs in rdms.items()}
    pilot = target.teacher.select(test).subject_rdms(target.teacher.targets[0])
    designs = {"n_stimuli": N_STIMULI, "n_subjects": N_SUBJECTS, "comparator": "spearman"}
    found = [
        power(known["student"], pilot, minus=known[role], effect=effect, **designs).assign(other=role, true=true)
        for role in OTHERS
        for true, effect in (("observed", None), ("smallest", SMALLEST))
    ]
    return pd.concat(found)


def page() -> None:
    """Draw the figure, and write the page from the table."""
    table = load("power")
    drawn = Figure(figsize=(11, 3.8), layout="constrained")
    for ax, (role, name) in zip(drawn.subplots(1, len(OTHERS)), OTHERS.items(), strict=True):
        plot.power(table[(table["other"] == role) & (table["true"] == "smallest")], ax)
        ax.set_title(f"map minus {name}: {number(SMALLEST)}", loc="left", pad=44, fontsize=10)
    draw("power", drawn)
    tried = ", ".join(map(str, N_SUBJECTS[:-1])) + f" and {N_SUBJECTS[-1]}"
    text = PAGE.format(table=markdown(needed(table)), effects=effects(table), tried=tried, left_out=left_out(table))
    write("power", text)


def needed(table: pd.DataFrame) -> pd.DataFrame:
    """Smallest number of subjects with a power of 0.8, for each number of objects."""
    rows = []
    for (role, true), own in table.groupby(["other", "true"], sort=False):
        effect = own["effect"].iloc[0]
        if abs(effect) < NONE:
            continue
        enough = smallest_design(own).set_index("n_stimuli")["n_subjects"].replace({N_SUBJECTS[0]: FEWEST}).to_dict()
        cells = {f"{n} objects": enough.get(n, f"more than {N_SUBJECTS[-1]}") for n in N_STIMULI}
        what = "observed" if true == "observed" else "smallest of interest"
        rows.append({"map minus": OTHERS[role], "difference": f"{number(effect)} ({what})", **cells})
    return pd.DataFrame(rows)


def left_out(table: pd.DataFrame) -> str:
    """The observed differences that are not shown, as the end of a sentence."""
    seen = table[table["true"] == "observed"].groupby("other", sort=False)["effect"].first()
    names = [OTHERS[role] for role, effect in seen.items() if abs(effect) < NONE]
    return f". The observed difference from {' and '.join(names)} is less than {NONE}, and is left out" if names else ""


def effects(table: pd.DataFrame) -> str:
    """Power of a study of the size of the pilot."""
    pilot = table[(table["n_stimuli"] == N_STIMULI[0]) & (table["n_subjects"] == 15) & (table["true"] == "observed")]
    pilot = pilot.set_index("other")
    return "; ".join(
        f"{name} {number(pilot.loc[role, 'power'])} ± {number(pilot.loc[role, 'power_error'])}"
        for role, name in OTHERS.items()
        if abs(pilot.loc[role, "effect"]) >= NONE
    )


PAGE = """
# What would it take?

**Question.** How many objects and subjects would a study need to find the differences that these experiments
observed?

**Method.** The map of [the experiment on transfer](transfer.md) is fitted to human IT of 4 subjects for every
second of the 92 objects, and predicts the RDM of the other objects for the images that 15 other subjects saw (Cichy
et al. 2014). It is compared with the network before the fit (z-scored with the training objects as the 15
subjects saw them), and with feature-reweighted RSA and the mean dissimilarities of pairs of categories, which are
fitted to the same objects and subjects. Then fitted and predicted objects change
places. From the RDMs of the 15 subjects, `brainrdl.inference.power` estimates the variance of each difference
(Spearman correlation with single subjects) over objects and subjects, and predicts the power of larger and smaller
studies for a true difference of the observed size, and for one of 0.05. Numbers are means over both halves.

## Results

Smallest of {tried} subjects with a power of 0.8 at a level of 0.05, without a correction for several tests{left_out}:

{table}

![Power of studies of several sizes, for three differences of 0.05](../figures/power.png)

*Bars are standard errors of the power, because the variances of the pilot are estimates.*

Power for the observed differences with 46 objects and 15 subjects, the size of each pilot: {effects}.

## What this does not show

- Observed differences are estimates; the true differences may be smaller. For a study of your own, give
  the smallest difference that matters ([plan a study](../how_to/plan_a_study.md)).
- The prediction assumes that objects and subjects are drawn as in the pilot, and that the fitted map stays the
  same. A study with more objects would also fit a better map.

## Run it

<!-- not run: takes a minute -->
```bash
python -m docs.experiments.power
```
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="fit nothing")
    if not parser.parse_args().page:
        save("power", compute())
    page()


if __name__ == "__main__":
    main()
