"""The page and the figures of a plain RSA, from the files in its folder."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from brainrdl import plot
from brainrdl._core.files import atomic, read_csv, read_json, slug
from brainrdl._core.rows import Against
from brainrdl.reporting.drawings import Drawing, Section
from brainrdl.reporting.methods import INTERVAL_METHODS, NILI
from brainrdl.reporting.page import PAGE, embed, render
from brainrdl.reporting.tables import Table, flat
from brainrdl.reporting.wording import and_joined, counted, number, p_value, percent, span
from brainrdl.similarity.comparators import label_of
from brainrdl.similarity.registry import SIMILARITIES
from brainrdl.similarity.traits import Reference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RSA_FACTS = "rsa.json"

TABLES = ("summary", "contrasts", "best_layers", "scores", "groups")

_WORDS = (
    "model", "layer", "target", "comparator", "against", "other", "other_layer", "other_target", "family", "subject",
    "group", "other_group",
)  # fmt: skip

_ALPHA = 0.05

_MOST_ROWS = 60  # of a table on the page; the CSV files have all

_MOST_TARGETS = 6  # with bars; the map shows all

_BENJAMINI = Reference(
    "Benjamini & Hochberg, 1995",
    "Benjamini, Y. & Hochberg, Y. (1995). Controlling the false discovery rate: a practical and powerful approach to "
    "multiple testing. Journal of the Royal Statistical Society B 57:289-300.",
    "10.1111/j.2517-6161.1995.tb02031.x",
)

_YEKUTIELI = Reference(
    "Benjamini & Yekutieli, 2001",
    "Benjamini, Y. & Yekutieli, D. (2001). The control of the false discovery rate in multiple testing under "
    "dependency. Annals of Statistics, 29, 1165-1188.",
    "10.1214/aos/1013699998",
)

_CORRECTIONS = {
    "holm": "by Holm's method",
    "fdr": "by the false discovery rate (Benjamini & Hochberg, 1995)",
    "fdr-dependent": "by the false discovery rate for dependent tests (Benjamini & Yekutieli, 2001)",
    "none": "not at all",
}


class _Part(StrEnum):
    """A part of the page, with its heading; the value is the style of its figures."""

    heading: str

    SCORES = "scores", "Models and targets"
    LAYERS = "layers", "The best layer of each network"
    CONTRASTS = "contrasts", "Differences"

    def __new__(cls, value: str, heading: str = "") -> _Part:
        part = str.__new__(cls, value)
        part._value_, part.heading = value, heading
        return part


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of an RSA; names stay text, also "NA" and "01".

    Examples
    --------
    >>> read_table.__name__  # used by RSAResult.load
    'read_table'
    """
    if not path.read_text(encoding="utf-8").strip():
        return pd.DataFrame()
    columns = read_csv(path, nrows=0).columns
    words = dict.fromkeys(columns.intersection(list(_WORDS)), str)
    unknown = {column: [""] for column in columns.difference(list(_WORDS))}
    return read_csv(path, dtype=words, keep_default_na=False, na_values=unknown)


def rsa_figures(summary: pd.DataFrame) -> dict[str, Figure]:
    """Draw the map of models and targets, and the bars of each target (of the first 6).

    Examples
    --------
    >>> row = {"model": "net", "layer": "", "target": "IT", "comparator": "corr", "against": "subjects", "score": 0.2,
    ...        "low": 0.1, "high": 0.3, "p_corrected": 0.01, "ceiling_lower": 0.4, "ceiling_upper": 0.5, "share": 0.4}
    >>> list(rsa_figures(pd.DataFrame([row])))
    ['map', 'bars-1-IT']
    """
    return {drawing.name: drawing.figure for drawing in _drawings(summary)}


def write_figures(folder: Path) -> None:
    """Write the figures of a saved RSA as PNG and PDF files.

    Examples
    --------
    >>> write_figures.__name__  # used by RSAResult.save
    'write_figures'
    """
    for name, figure in rsa_figures(read_table(folder / "summary.csv")).items():
        for suffix in ("png", "pdf"):
            with atomic(folder / f"{name}.{suffix}") as part:
                figure.savefig(part, dpi=200)


def write_rsa_page(folder: Path, out: Path | str | None = None) -> Path:
    """Write the self-contained HTML page of a saved RSA.

    Examples
    --------
    >>> write_rsa_page.__name__  # used by `report` and RSAResult.save
    'write_rsa_page'
    """
    path = folder if out is None else Path(out)
    path = path / PAGE if path.is_dir() else path
    text = render(_page({name: read_table(folder / f"{name}.csv") for name in TABLES}, read_json(folder / RSA_FACTS)))
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _page(tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> dict[str, Any]:
    summary, settings = tables["summary"], facts["settings"]
    drawings = list(_drawings(summary))
    figures: dict[_Part, list[Any]] = {_Part.SCORES: [embed(drawing) for drawing in drawings]}
    shown = {_Part.SCORES: [_summary_table(_main(summary))]}
    for part, listed in (
        (_Part.LAYERS, _layer_tables(tables["best_layers"])),
        (_Part.CONTRASTS, [*_contrast_tables(tables["contrasts"], summary), *_group_tables(tables["groups"])]),
    ):
        if listed:
            figures[part], shown[part] = [{}], listed
    return {
        "title": f"How similar are the models to {and_joined(dict.fromkeys(summary['target']))}?",
        "simulated": False,
        "headline": list(_headlines(tables)),
        "cannot": list(_limits(tables, settings)),
        "facts": _facts(summary, settings),
        "figures": {part: [one for one in listed if one] or [{}] for part, listed in figures.items()},
        "tables": shown,
        "methods": list(_methods(summary, settings, tables["best_layers"])),
        "references": _references(summary, settings),
        "provenance": flat(facts["provenance"]),
        "settings": json.dumps(settings, indent=2, ensure_ascii=False),
        "date": datetime.now(UTC).date().isoformat(),
        "scores": None,
        "csv": base64.b64encode(tables["scores"].to_csv(index=False).encode()).decode(),
    }


def _main(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the first comparator, with single subjects if there are several, or else with the only RDM."""
    several = "n_subjects" not in table or int(table["n_subjects"].max()) > 1
    against = Against.SUBJECTS if several and (table["against"] == Against.SUBJECTS).any() else Against.MEAN
    return table[(table["comparator"] == table["comparator"].iloc[0]) & (table["against"] == against.value)]


# Figures


def _drawings(summary: pd.DataFrame) -> Iterator[Drawing]:
    rows = _main(summary)
    comparator, against = rows["comparator"].iloc[0], rows["against"].iloc[0]
    value = "share" if rows["share"].notna().any() else "score"
    what = "Share of the noise ceiling" if value == "share" else "Score"
    star = "A star marks scores that differ from 0 (corrected p < 0.05)."
    figure = _figure_of(plot.model_map(summary, comparator, against, value=value))
    caption = f"{what} of each model with each target: {label_of(comparator)} with {Against(against).label}. {star}"
    yield Drawing("map", Section.SCORES, figure, f"Heat map. {caption}", caption)
    for place, target in enumerate(list(dict.fromkeys(rows["target"]))[:_MOST_TARGETS], 1):
        figure = _figure_of(plot.model_bars(summary, comparator, against, target=target))
        intervals = "Lines are 95% intervals over stimuli and subjects. " if rows["low"].notna().any() else ""
        caption = f"Scores with {target}; the grey band or line is the noise ceiling. {intervals}{star}"
        own = rows[rows["target"] == target].head(12)
        listed = "; ".join(f"{_who(row)} {number(row['score'])}" for row in own.to_dict("records"))
        yield Drawing(slug("bars", str(place), target), Section.SCORES, figure, f"Bars. {caption} {listed}.", caption)


def _figure_of(ax: Axes) -> Figure:
    return cast("Figure", ax.figure)


def _who(row: Mapping[Any, Any], model: str = "model", layer: str = "layer") -> str:
    return f"{row[model]} (layer {row[layer]})" if row[layer] else str(row[model])


# Tables


def _table(caption: str, rows: pd.DataFrame, columns: Mapping[str, Any]) -> Table:
    records = rows.head(_MOST_ROWS).to_dict("records")
    if len(rows) > _MOST_ROWS:
        caption += f" (the first {_MOST_ROWS} of {len(rows)} rows; the CSV file has all)"
    return Table(caption, list(columns), [[cell(row) for cell in columns.values()] for row in records], named_by=0)


def _summary_table(rows: pd.DataFrame) -> Table:
    against = Against(rows["against"].iloc[0])
    return _table(
        f"{label_of(rows['comparator'].iloc[0])} with {against.label}",
        rows,
        {
            "model": _who,
            "target": lambda row: row["target"],
            "score": lambda row: number(row["score"], 3),
            "95% interval": lambda row: span(row["low"], row["high"]),
            "corrected p": lambda row: p_value(row["p_corrected"]),
            "p of lower bound": lambda row: p_value(row["p_ceiling"]),
            "perfect model": lambda row: number(row["ceiling"]),
            "noise ceiling": lambda row: span(row["ceiling_lower"], row["ceiling_upper"]),
            "share": lambda row: percent(row["share"]),
        },
    )


def _layer_tables(table: pd.DataFrame) -> list[Table]:
    if table.empty:
        return []
    rows = table[table["comparator"] == table["comparator"].iloc[0]]
    columns = {
        "network": lambda row: row["model"],
        "target": lambda row: row["target"],
        "layer": lambda row: row["layer"],
        "chosen in": lambda row: percent(row["chosen"]),
        "score on other data": lambda row: number(row["score"], 3),
        "95% interval": lambda row: span(row["low"], row["high"]),
        "p": lambda row: p_value(row["p"]),
        "share of the ceiling": lambda row: percent(row["share"]),
    }
    return [
        _table(
            f"Layers chosen on some stimuli and subjects, scored on others ({label_of(rows['comparator'].iloc[0])})",
            rows,
            columns,
        )
    ]


def _contrast_tables(contrasts: pd.DataFrame, summary: pd.DataFrame) -> Iterator[Table]:
    main = _main(summary)
    rows = contrasts[
        (contrasts["comparator"] == main["comparator"].iloc[0]) & (contrasts["against"] == main["against"].iloc[0])
    ]
    tested = {
        "difference": lambda row: number(row["difference"], 3),
        "95% interval": lambda row: span(row["low"], row["high"]),
        "corrected p": lambda row: p_value(row["p_corrected"]),
    }
    models, targets = (rows[rows["family"] == family] for family in ("models", "targets"))
    if len(models):
        columns = {
            "model": _who,
            "minus": lambda row: _who(row, "other", "other_layer"),
            "target": lambda row: row["target"],
        }
        yield _table("Differences between models", models.sort_values("p", kind="stable"), columns | tested)
    if len(targets):
        columns = {"model": _who, "with": lambda row: row["target"], "minus with": lambda row: row["other_target"]}
        yield _table("Differences between targets", targets.sort_values("p", kind="stable"), columns | tested)


def _group_tables(groups: pd.DataFrame) -> list[Table]:
    if groups.empty:
        return []
    rows = groups[groups["comparator"] == groups["comparator"].iloc[0]]
    columns = {
        "model": _who,
        "target": lambda row: row["target"],
        "group": lambda row: f"{row['group']} ({row['n']}): {number(row['score'], 3)}",
        "minus": lambda row: f"{row['other_group']} ({row['other_n']}): {number(row['other_score'], 3)}",
        "difference": lambda row: number(row["difference"], 3),
        "95% interval": lambda row: span(row["low"], row["high"]),
        "corrected p": lambda row: p_value(row["p_corrected"]),
    }
    return [_table("Differences between groups of subjects", rows, columns)]


# Words


def _headlines(tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    rows = _main(tables["summary"])
    for target, own in list(rows.groupby("target", sort=False))[:_MOST_TARGETS]:
        ordered = own.sort_values("score", ascending=False, na_position="last", kind="stable")
        best = ordered.to_dict("records")[0]
        share = (
            f", {percent(best['share'])} of what a perfect model is expected to reach"
            if best["share"] == best["share"]
            else ""
        )
        interval = span(best["low"], best["high"])
        shown = "" if interval == "–" else f" (95% interval {interval}{_p_words(best['p_corrected'])})"
        most = "The highest score with" if len(own) > 1 else "The score with"
        yield f"{most} {target} is {number(best['score'])}{shown}, of {_who(best)}{share}."
    layers = tables["best_layers"]
    if len(layers):
        own = layers[layers["comparator"] == layers["comparator"].iloc[0]]
        for row in own.head(_MOST_TARGETS).to_dict("records"):
            yield (
                f"Best layer of {row['model']} for {row['target']}: {row['layer']} (chosen in {percent(row['chosen'])} "
                f"of the choices). Scored on stimuli and subjects that did not choose it: {number(row['score'])} "
                f"(95% interval {span(row['low'], row['high'])})."
            )


def _p_words(p: float) -> str:
    return "" if p != p else f", corrected p {p_value(p) if p < 0.001 else '= ' + p_value(p)}"


def _limits(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> Iterator[str]:
    summary = tables["summary"]
    yield (
        "A high score means that a model predicts which stimuli are similar in the brain. It does not show that the "
        "model computes in the same way."
    )
    if summary["model"].nunique() > 1 or summary["layer"].nunique() > 1:
        yield (
            "The highest of several scores is too high on average, because it was chosen. The table of best layers is "
            "free of this, as it scores each choice on other data; the map and the bars are not."
        )
    if summary["target"].nunique() > 1:
        yield (
            "Differences between targets also depend on how reliable their RDMs are. Compare the shares of the ceiling "
            "before you conclude that a model is closer to one region."
        )
    if int(summary["n_subjects"].min()) == 1:
        yield "With one subject (or one RDM for all), intervals are for this subject, and there is no noise ceiling."
    if settings.get("left_out"):
        yield f"Left out, because not all models and data have them: {and_joined(settings['left_out'])}."


def _facts(summary: pd.DataFrame, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [
        ("Data", str(settings.get("data") or "")),
        ("Targets", and_joined(dict.fromkeys(summary["target"]), most=12)),
        ("Models", and_joined(_models(summary), most=12)),
        ("Stimuli", _numbers(summary["n_stimuli"])),
        ("Subjects", _numbers(summary["n_subjects"])),
        ("Comparators", and_joined(label_of(name) for name in dict.fromkeys(summary["comparator"]))),
        ("Dissimilarity", str(settings.get("dissimilarity") or "")),
        ("Correction of p", _CORRECTIONS[settings["correction"]]),
    ]
    return [fact for fact in facts if fact[1]]


def _models(summary: pd.DataFrame) -> Iterator[str]:
    for model, rows in summary.groupby("model", sort=False):
        layers = [layer for layer in dict.fromkeys(rows["layer"]) if layer]
        yield f"{model} ({'layers' if len(layers) > 1 else 'layer'} {', '.join(layers)})" if layers else str(model)


def _numbers(column: pd.Series[int]) -> str:
    low, high = int(column.min()), int(column.max())
    return str(high) if low == high else f"{low} to {high}"


_INTERVALS = {
    "dyadic": "Intervals (95%) and p-values of scores and of differences between scores were computed from a "
    "cluster-robust variance over stimuli, in which pairs that share a stimulus are correlated (Aronow et al., 2015), "
    "plus the jackknife variance over subjects, with degrees of freedom by Welch and Satterthwaite.",
    "dual-bootstrap": "Intervals (95%) and p-values of scores and of differences between scores were computed from {n} "
    "resamples of the dual bootstrap over stimuli and subjects (Schütt et al., 2023) with a t distribution; they are "
    "conservative.",
}


def _methods(summary: pd.DataFrame, settings: Mapping[str, Any], layers: pd.DataFrame) -> Iterator[str]:
    comparators = and_joined(_cited(name) for name in dict.fromkeys(summary["comparator"]))
    n_subjects = int(summary["n_subjects"].max())
    subjects = counted(n_subjects, "subject", "subjects")
    models = counted(len(settings["models"]), "model", "models")
    targets = counted(summary["target"].nunique(), "target", "targets")
    stimuli = counted(int(summary["n_stimuli"].max()), "stimulus", "stimuli")
    yield (
        f"The RDMs of {models} were compared with the RDMs of {subjects} in {targets} ({stimuli}), by {comparators}. "
        "Conditions were matched by name."
    )
    if n_subjects > 1:
        yield (
            "Scores are means over subjects of the similarity with each subject's RDM, or similarities with the "
            "subjects' mean RDM. The noise ceiling was computed by leaving out one subject at a time (Nili et al., "
            "2014); the score that a perfect model is expected to reach was estimated by a one-factor model of the "
            "subjects' RDMs."
        )
    if summary["low"].notna().any():
        yield (
            f"{_INTERVALS[settings['intervals']].format(n=settings.get('n_bootstrap'))} "
            "They generalise to other stimuli and other subjects. The p-value of the lower bound is that of the "
            "difference between a score and the lower bound of the noise ceiling, in either direction. P-values were "
            "corrected for their number "
            f"{_CORRECTIONS[settings['correction']]}: scores over all models and targets, differences over all pairs "
            "of models within targets, and over all pairs of targets within models."
        )
    if len(layers):
        yield (
            f"The best layer of each network was chosen by cross-validation with {int(layers['n_folds'].max())} folds "
            "over stimuli"
            f"{' and leaving out one subject at a time' if n_subjects > 1 else ''}: the layer with the highest mean "
            f"score {'with the other subjects ' if n_subjects > 1 else ''}among the other stimuli was scored "
            f"{'with the left-out subject ' if n_subjects > 1 else ''}among the held-out stimuli."
        )


def _cited(name: str) -> str:
    reference = SIMILARITIES[name].reference
    return f"{label_of(name)} ({reference.cited})" if reference else label_of(name)


def _references(summary: pd.DataFrame, settings: Mapping[str, Any]) -> list[Reference]:
    used = [SIMILARITIES[name].reference for name in dict.fromkeys(summary["comparator"])]
    fdr = {"fdr": _BENJAMINI, "fdr-dependent": _YEKUTIELI}.get(settings["correction"])
    intervals = INTERVAL_METHODS[settings["intervals"]] if summary["low"].notna().any() else None
    return list({one.doi: one for one in (NILI, intervals, fdr, *used) if one}.values())
