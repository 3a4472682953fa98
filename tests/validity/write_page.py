"""Write the tables of docs/validity.md from the results of the simulations: ``python tests/validity/write_page.py``."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

DOCS = Path(__file__).parents[2] / "docs"
CELL = ["n_stimuli", "n_subjects", "design", "noise", "comparator", "against", "what"]


def coverage(table: pd.DataFrame) -> pd.DataFrame:
    """One row per comparator: mean, lowest and highest coverage and mean and largest width."""
    rows = []
    for (what, comparator), cells in table.groupby(["what", "comparator"], sort=False):
        rows.append({
            "": what, "comparator": comparator, "cells": len(cells), "mean coverage": f"{cells['coverage'].mean():.3f}",
            "lowest": f"{cells['coverage'].min():.2f}", "highest": f"{cells['coverage'].max():.2f}",
            "mean width": f"{cells['width'].mean():.2f}", "widest": f"{cells['width'].max():.2f}",
            "p < 0.05": f"{cells['rejected'].mean():.3f}" if what == "no gain" else f"{cells['rejected'].mean():.2f}",
        })  # fmt: skip
    return pd.DataFrame(rows).sort_values("", kind="stable")


def by_design(table: pd.DataFrame) -> pd.DataFrame:
    """Mean half-width and power of gains against the mean RDM, by the size of the design."""
    cells = table.query("what == 'gain' and against == 'mean' and comparator == 'spearman'")
    grouped = cells.groupby(["n_stimuli", "n_subjects", "design"], sort=False)
    half = (1.96 * cells["width"] * cells["sd"]).groupby(
        [cells[c] for c in ("n_stimuli", "n_subjects", "design")], sort=False
    )
    shown = pd.DataFrame(
        {"half-width": half.mean().round(3), "gain found (p < 0.05)": grouped["rejected"].mean().round(2)}
    )
    return shown.reset_index().rename(columns={"n_stimuli": "stimuli", "n_subjects": "subjects"})


def misses(table: pd.DataFrame) -> pd.DataFrame:
    """Cells outside .90 to .99, or wider than 1.3 times the ideal."""
    out = table[~table["coverage"].between(0.90, 0.99) | (table["width"] > 1.3)]
    return out[[*CELL, "coverage", "width"]]


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """Rejected true nulls, with a column for each comparator and noise."""
    index = ["n_stimuli", "n_subjects", "design"]
    wide = table.pivot_table("rejected", index, ["comparator", "noise"], sort=False)
    wide.columns = [f"{comparator}, noise {noise:g}" for comparator, noise in wide.columns]
    return wide.reset_index()


def both_directions(table: pd.DataFrame) -> pd.DataFrame:
    """Rejected data sets, with a column for each test; in both directions, and below the bound for the true model."""
    index = ["population", "stimuli", "subjects", "comparator"]
    at_the_bound, true = (table[table["model"] == model] for model in ("at the bound", "true model"))
    either = at_the_bound.assign(rejected=at_the_bound["found below"] + at_the_bound["found above"])
    wide = either.pivot_table("rejected", index, "lower bound", sort=False)
    below = true.pivot_table("found below", index, "lower bound", sort=False)
    wide.columns = [f"at the bound, {test}" for test in wide.columns]
    below.columns = [f"true model found below, {test}" for test in below.columns]
    return wide.join(below).reset_index()


SHAPES = {"subjects_alone": side_by_side, "ceiling_tests": both_directions}


def markdown(table: pd.DataFrame) -> str:
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    lines += [
        [f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in row] for row in table.itertuples(index=False)
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    page = (DOCS / "validity.md").read_text(encoding="utf-8")
    found = pd.read_csv(DOCS / "validity" / "intervals.csv")
    tables = {"coverage": coverage(found), "designs": by_design(found), "misses": misses(found)}
    for name in (
        "partial", "regressions", "trained", "dual_bootstrap", "ceilings", "subjects_alone", "twins", "permutation",
        "power", "ceiling_tests",
    ):  # fmt: skip
        path = DOCS / "validity" / f"{name}.csv"
        if path.exists():
            tables[name] = SHAPES.get(name, lambda table: table)(pd.read_csv(path))
    for name, table in tables.items():
        inserted = f"<!-- {name} -->\n{markdown(table)}\n<!-- end -->"
        page = re.sub(rf"<!-- {name} -->.*?<!-- end -->", lambda _, text=inserted: text, page, flags=re.S)
    (DOCS / "validity.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
