"""Draw docs/figures/annotated_scores.png: scores of a run, with the numbered remarks of docs/reading/scores.md.

python docs/draw_annotated_scores.py runs/first      # the run of docs/quickstart.md
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from brainrdl import Evaluation, plot
from brainrdl.plot.style import new_figure, styled

FIGURE = Path(__file__).parent / "figures" / "annotated_scores.png"

REMARKS = {  # at the row of a student
    "fitted": "1  the score: image pairs held out together",
    "unfitted": "3  before training: the gain is from here to 1",
    "reweighted": "4  a weight for each channel, by regression",
    "permuted": "5  fitted to shuffled names",
    "category lookup": "6  knows only the categories",
}


def draw(run: Path) -> None:
    """Draw the Spearman correlations with the mean RDM, and save the figure."""
    table = Evaluation.load(run).summary.query("comparator == 'spearman' and against == 'mean'")
    with styled():
        figure = new_figure((9, 4.2))
        ax = figure.subplots()
        plot.scores(table, ax=ax, legend=False)
        ax.set_xlim(-0.05, 1.55)
        ax.set_xticks([0, 0.2, 0.4, 0.6, 0.8])
        _remark(ax, table)
        figure.savefig(FIGURE, dpi=150)


def _remark(ax: object, table: pd.DataFrame) -> None:
    rows = [label.get_text() for label in ax.get_yticklabels()]
    ceiling = float(table["ceiling"].iloc[0])
    for name, text in REMARKS.items():
        ax.text(1.02, rows.index(name), text, va="center", fontsize=9.5)
    fitted = table.loc[table["student"] == "fitted"].iloc[0]
    ax.annotate("7  95% interval", (fitted["low"], rows.index("fitted")), (0.02, rows.index("fitted")), va="center",
                fontsize=9.5, arrowprops={"arrowstyle": "-", "lw": 0.8})  # fmt: skip
    ax.text(
        ceiling, -0.75, f"2  noise ceiling {ceiling:.2f}".replace("0.", "."), ha="center", va="bottom", fontsize=9.5
    )


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
