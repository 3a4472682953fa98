"""Tables and pages that the experiments with brains share: held-out RDMs to scores, planned contrasts, Markdown."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from brainrdl.inference import corrected
from docs.experiments.results import Results

HERE = Path(__file__).parent
RESULTS, FIGURES = HERE / "results", HERE.parent / "figures"
SCORE = ["score", "low", "high", "ceiling", "share"]


def planned(contrasts: pd.DataFrame, pairs: Mapping[tuple[str, str, str], str]) -> pd.DataFrame:
    """Select contrasts (one, other, target), turn them so that `one` comes first, and correct p-values (Holm).

    Parameters
    ----------
    contrasts : DataFrame
        As from `brainrdl.evaluation.score`, of one comparator and reference.
    pairs : mapping of (one, other, target) to family
        p-values are corrected for the contrasts of each family.
    """
    rows = []
    for row in contrasts.to_dict("records"):
        key = (row["student"], row["other"], row["target"])
        turned = (row["other"], row["student"], row["target"])
        kept = {"difference": row["difference"], "low": row["low"], "high": row["high"]}
        if turned in pairs:
            key, kept = turned, {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
        if key in pairs:
            named = dict(zip(("student", "other", "target"), key, strict=True))
            rows.append({"family": pairs[key], **named, **kept, "p": row["p"]})
    table = pd.DataFrame(rows, columns=["family", "student", "other", "target", "difference", "low", "high", "p"])
    for _, family in table.groupby("family"):
        table.loc[family.index, "p_corrected"] = corrected(family["p"].tolist(), "holm")
    return table.sort_values("family", kind="stable").reset_index(drop=True)


def number(value: float, digits: int = 2) -> str:
    """A number as text; 0 has no sign, and an unknown number is a dash."""
    text = f"{value:.{digits}f}"
    return "–" if value != value else text if float(text) else text.lstrip("-")


def interval(row: Mapping[str, float], value: str = "score", digits: int = 2) -> str:
    """A number with its 95% interval."""
    middle, low, high = (number(row[name], digits) for name in (value, "low", "high"))
    return f"{middle} ({low} to {high})"


def percent(share: float) -> str:
    """A share of the ceiling."""
    return "–" if share != share else f"{100 * share:.0f} %"


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown; numbers must be text already."""
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def missing(found: int, planned_: int, what: str = "fits") -> str:
    """A sentence on how much of the plan was run."""
    if found >= planned_:
        return f"All {planned_} {what} of the plan were run."
    return f"**{planned_ - found} of the {planned_} {what} of the plan are missing**; the command below adds them."


def write(name: str, text: str, folder: Path = HERE) -> None:
    """Write a page; paragraphs and list items are wrapped."""
    blocks = re.split(r"(^```.*?^```$)", text.strip(), flags=re.MULTILINE | re.DOTALL)
    parts = [block if block.startswith("```") else wrapped(block) for block in blocks]
    (folder / f"{name}.md").write_text("".join(parts) + "\n", encoding="utf-8")


def wrapped(text: str) -> str:
    """Text with paragraphs and list items of at most 120 columns."""
    paragraphs = re.split(r"(\n{2,}|\n(?=- ))", text)
    return "".join(one if one[:1] in ("|", "#", "!", "<", "\n", "") else _filled(one) for one in paragraphs)


def _filled(paragraph: str) -> str:
    indent = "  " if paragraph.startswith("- ") else ""
    options = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": indent}
    return textwrap.fill(" ".join(paragraph.split()), 120, **options)


def save(name: str, table: pd.DataFrame) -> None:
    """Write a table of results."""
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / f"{name}.csv", index=False, float_format="%.5g", lineterminator="\n")


def load(name: str) -> pd.DataFrame:
    """Read a table of results."""
    return pd.read_csv(RESULTS / f"{name}.csv", keep_default_na=False, na_values=[""])


def draw(name: str, figure: Figure) -> None:
    """Write a figure."""
    figure.savefig(FIGURES / f"{name}.png", dpi=160, bbox_inches="tight")


def seeds_of(table: Results) -> Sequence[int]:
    """Seeds with rows."""
    return sorted(set(map(int, table.rows()["seed"])))


def command(
    doc: str | None,
    seeds: range,
    run: Callable[[range], None],
    score_all: Callable[[], None],
    page: Callable[[], None],
) -> None:
    """Command line of an experiment: fit what is missing, score, and write the page."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="fit and score nothing")
    parser.add_argument("--score", action="store_true", help="fit nothing, score what is stored")
    parser.add_argument("--only-fit", action="store_true", help="write no page")
    parser.add_argument("--seed", type=int, help="only this seed")
    words = parser.parse_args()
    if not (words.page or words.score):
        run(seeds if words.seed is None else range(words.seed, words.seed + 1))
    if not words.page and not words.only_fit:
        score_all()
    if not words.only_fit:
        page()
