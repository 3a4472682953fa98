"""The page and the figures of a plain RSA, from its tables and RDMs, in memory or in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
import pandas as pd

from brainrdl import plot
from brainrdl._core.files import atomic, read_csv, read_json, read_rdms, slug
from brainrdl._core.rows import Against
from brainrdl.dissimilarity.measures import label_of as measure_label
from brainrdl.rdms.by_name import names
from brainrdl.reporting.drawings import NARROW, Drawing, Section, new_figure
from brainrdl.reporting.frame import PAGE, Block, Page, write_page
from brainrdl.reporting.hover import Hover, Panel
from brainrdl.reporting.methods import INTERVAL_METHODS, NILI
from brainrdl.reporting.tables import Table, flat, long_table
from brainrdl.reporting.wording import and_joined, counted, number, p_value, percent, span
from brainrdl.runs.provenance import describe, gather_provenance
from brainrdl.similarity.comparators import label_of
from brainrdl.similarity.registry import SIMILARITIES
from brainrdl.similarity.traits import Reference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs

RSA_FACTS = "rsa.json"

TABLES = ("summary", "contrasts", "best_layers", "scores", "groups")

_WORDS = (
    "model", "layer", "target", "comparator", "against", "other", "other_layer", "other_target", "family", "subject",
    "group", "other_group",
)  # fmt: skip

_ALPHA = 0.05

_MOST_ROWS = 20  # of a table of differences on the page; the CSV files have all

_MOST_TARGETS = 6  # with bars; the map shows all

_MOST_COLUMNS = 40  # of the map

_MOST_RDMS = 9  # that are drawn; more would be too small to read

_MODEL_KEYS = ("model", "layer", "subject")

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


@runtime_checkable
class RSATables(Protocol):
    """What the page needs of an `RSAResult`."""

    summary: pd.DataFrame
    contrasts: pd.DataFrame
    best_layers: pd.DataFrame
    scores: pd.DataFrame
    groups: pd.DataFrame
    models: RDMs
    data: RDMs
    settings: dict[str, Any]


@dataclass(frozen=True, eq=False)
class RSA:
    """A plain RSA: its tables by name, settings, RDMs, and what is known of its origin."""

    tables: Mapping[str, pd.DataFrame]
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    rdms: Mapping[str, RDMs] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None

    @classmethod
    def read(cls, folder: Path) -> RSA:
        """Read the folder of a plain RSA."""
        facts = read_json(folder / RSA_FACTS)
        tables = {name: read_table(folder / f"{name}.csv") for name in TABLES}
        rdms = {name: read_rdms(folder / f"{name}.h5") for name in ("data", "models")}
        return cls(tables, facts["settings"], facts["provenance"], rdms, facts["files"], folder)

    @classmethod
    def of(cls, result: RSATables) -> RSA:
        """Use a result in memory; what made it is the program that writes the page."""
        tables = {name: getattr(result, name) for name in TABLES}
        rdms = {"data": result.data, "models": result.models}
        return cls(tables, describe(result.settings), gather_provenance(), rdms)

    @property
    def summary(self) -> pd.DataFrame:
        return self.tables["summary"]


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


def rsa_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    """Draw the map of models and targets, and the bars of each target (of the first 6).

    Examples
    --------
    >>> row = {"model": "net", "layer": "", "target": "IT", "comparator": "corr", "against": "subjects", "score": 0.2,
    ...        "low": 0.1, "high": 0.3, "p_corrected": 0.01, "ceiling_lower": 0.4, "ceiling_upper": 0.5, "share": 0.4}
    >>> list(rsa_figures({"summary": pd.DataFrame([row])}))
    ['map', 'bars-1-IT']
    """
    return {drawing.name: drawing.figure for drawing in _drawings(tables)}


def write_figures(folder: Path) -> None:
    """Write the figures of a saved RSA as PNG and PDF files.

    Examples
    --------
    >>> write_figures.__name__  # used by RSAResult.save
    'write_figures'
    """
    tables = {name: read_table(folder / f"{name}.csv") for name in ("summary", "contrasts", "scores")}
    for name, figure in rsa_figures(tables).items():
        for suffix in ("png", "pdf"):
            with atomic(folder / f"{name}.{suffix}") as part:
                figure.savefig(part, dpi=200)


def write_rsa_page(folder: Path, out: Path | str | None = None) -> Path:
    """Write the self-contained HTML page of a saved RSA.

    Examples
    --------
    >>> write_rsa_page.__name__  # used by RSAResult.save
    'write_rsa_page'
    """
    path = folder if out is None else Path(out)
    return write_page(page_of_rsa(RSA.read(folder)), path / PAGE if path.is_dir() else path)


def page_of_rsa(rsa: RSA, title: str | None = None) -> Page:
    """Compose the page of a plain RSA."""
    summary, settings, tables = rsa.summary, rsa.settings, rsa.tables
    return Page(
        title=title,
        question=f"How similar are the models to {and_joined(dict.fromkeys(summary['target']))}?",
        answer=list(_headlines(tables)),
        blocks=list(_blocks(rsa)),
        methods=list(methods_of_rsa(rsa)),
        references=references_of_rsa(rsa),
        caveats=list(limits_of_rsa(rsa)),
        facts=_facts(summary, settings),
        provenance=[
            *flat(rsa.provenance), *((f"file: {name} (SHA-256)", digest) for name, digest in rsa.files.items())
        ],
        settings={"All settings": json.dumps(settings, indent=2, ensure_ascii=False)},
        versions=rsa.provenance.get("versions", {}),
    )  # fmt: skip


def _blocks(rsa: RSA) -> Iterator[Block]:
    tables, scores = rsa.tables, rsa.tables["scores"]
    of_subjects = [long_table("Scores of each subject", scores, "scores.csv")] if len(scores) else []
    drawings = list(_drawings(tables))
    yield Block("Models and targets", drawings, [_summary_table(_main(rsa.summary))], of_subjects)
    if layers := _layer_tables(tables["best_layers"]):
        yield Block("The best layer of each network", tables=layers)
    differences = [*_contrast_tables(tables["contrasts"], rsa.summary), *_group_tables(tables["groups"])]
    if differences:
        yield Block("Differences", tables=differences)
    if rsa.rdms:
        yield Block("The RDMs", list(_rdm_drawings(rsa.rdms)))


def rsa_drawings(rsa: RSA) -> Iterator[Drawing]:
    yield from _drawings(rsa.tables)
    yield from _rdm_drawings(rsa.rdms)


def _main(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the first comparator, with single subjects if there are several, or else with the only RDM."""
    several = "n_subjects" not in table or int(table["n_subjects"].max()) > 1
    against = Against.SUBJECTS if several and (table["against"] == Against.SUBJECTS).any() else Against.MEAN
    return table[(table["comparator"] == table["comparator"].iloc[0]) & (table["against"] == against.value)]


# Figures


def _drawings(tables: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
    summary = tables["summary"]
    rows = _main(summary)
    comparator, against = rows["comparator"].iloc[0], rows["against"].iloc[0]
    value = "share" if rows["share"].notna().any() else "score"
    what = "Share of the noise ceiling" if value == "share" else "Score"
    star = "A star marks scores that differ from 0 (corrected p < 0.05)."
    caption = f"{what} of each model with each target: {label_of(comparator)} with {Against(against).label}. {star}"
    more: dict[str, Any] = {name: tables[name] for name in ("scores", "contrasts") if len(tables.get(name, ()))}
    if times := _times(rows):
        yield _course_drawing(rows, times)
    if rows["target"].nunique() <= _MOST_COLUMNS:
        figure = _figure_of(plot.model_map(summary, comparator, against, value=value))
        yield Drawing("map", Section.SCORES, figure, f"Heat map. {caption}", caption)
    for place, target in enumerate([] if times else list(dict.fromkeys(rows["target"]))[:_MOST_TARGETS], 1):
        own = rows[rows["target"] == target]
        figure = _figure_of(plot.model_bars(summary, comparator, against, target=target, **more))
        narrow = _narrow_bars(summary, comparator, against, target, len(own), more)
        intervals = "Lines are 95% intervals over stimuli and subjects. " if rows["low"].notna().any() else ""
        marks = _marks_of(figure)
        caption = f"Scores with {target}; the grey band or line is the noise ceiling. {intervals}{marks}{star}"
        listed = "; ".join(f"{_who(row)} {number(row['score'])}" for row in own.head(12).to_dict("records"))
        name = slug("bars", str(place), target)
        yield Drawing(name, Section.SCORES, figure, f"Bars. {caption} {listed}.", caption, narrow)


def _narrow_bars(
    summary: pd.DataFrame, comparator: str, against: str, target: str, n_rows: int, more: Mapping[str, Any]
) -> Figure:
    """Draw the bars for a phone, with each name above its bar."""
    figure = new_figure(NARROW, 1.3 + 0.42 * n_rows)
    ax = plot.model_bars(summary, comparator, against, figure.subplots(), target=target, **more)
    for y, tick in enumerate(ax.get_yticklabels()):
        ax.text(0.01, y - 0.48, tick.get_text(), transform=ax.get_yaxis_transform(), va="center", fontsize=8)
    for bar in (bar for container in ax.containers for bar in container):
        bar.set(height=0.4, y=bar.get_y() + 0.11)
    for points in (line for line in ax.lines if line.get_label() == "single subjects"):
        rows = np.round(np.asarray(points.get_ydata(), dtype=float))
        points.set_ydata(rows + 0.65 * (points.get_ydata() - rows))
    ax.set_yticklabels([])
    ax.set_ylim(ax.get_ylim()[0], -0.8)
    ax.xaxis.label.set_fontsize(8)
    return figure


def _marks_of(figure: Figure) -> str:
    """Explain the points and marks that a figure of bars has."""
    lines = figure.axes[0].lines
    points = "Points are single subjects. " if any(line.get_label() == "single subjects" for line in lines) else ""
    differ = any(line.get_gid() in ("bracket", "better") for line in lines)
    return points + ("Marks on the right show which scores differ (corrected p < 0.05). " if differ else "")


def _times(rows: pd.DataFrame) -> dict[str, float]:
    """Return the times of the targets in seconds, if these are the times of a movie; empty otherwise."""
    targets = list(dict.fromkeys(rows["target"]))
    try:
        times = {target: float(target) for target in targets}
    except ValueError:
        return {}
    return times if len(set(times.values())) > _MOST_TARGETS else {}


def _course_drawing(rows: pd.DataFrame, times: Mapping[str, float]) -> Drawing:
    courses = pd.DataFrame(
        {
            "model": [_who(row) for row in rows.to_dict("records")], "time": rows["target"].map(times).to_numpy(),
            **{column: rows[column].to_numpy() for column in ("score", "low", "high")},
            "ceiling_low": rows["ceiling_lower"].to_numpy(), "ceiling_high": rows["ceiling_upper"].to_numpy(),
        }
    ).sort_values("time", kind="stable")  # fmt: skip
    label = label_of(rows["comparator"].iloc[0])
    figure, narrow = new_figure(7.4, 4.0), new_figure(NARROW, 3.6)
    for one in (figure, narrow):
        plot.time_course(courses, one.subplots(), label=label)
    caption = (
        f"{label} of each model with the data at each time (in the unit of the data). Bands are 95% intervals over "
        "stimuli and subjects at each time; the grey band is the noise ceiling."
    )
    return Drawing("courses", Section.SCORES, figure, f"Line plot. {caption}", caption, narrow)


def _rdm_drawings(rdms: Mapping[str, RDMs]) -> Iterator[Drawing]:
    """Draw the mean RDMs of the targets and the RDMs of the models, the first ones of many."""
    for name, what, keys in (("data", "targets, mean over subjects", ("target",)), ("models", "models", _MODEL_KEYS)):
        if name not in rdms:
            continue
        n = min(rdms[name].n_rdm, _MOST_RDMS)
        shown, conditions = rdms[name][list(range(n))], names(rdms[name])
        described = [shown.rdm_descriptors[key] for key in keys if key in shown.rdm_descriptors]
        titles = [", ".join(str(word) for word in words if word) for words in zip(*described, strict=True)]
        labels = [f"{k + 1}. {title}" for k, title in enumerate(titles)] if len(set(titles)) < n else titles
        order, square = tuple(range(len(conditions))), [rdm.get_vectors()[0].astype(float) for rdm in shown]
        hover = Hover(conditions, dict(zip(labels, square, strict=True)), [Panel(order, (one,)) for one in labels])
        more = f" (the first {n} of {rdms[name].n_rdm})" if n < rdms[name].n_rdm else ""
        caption = f"RDMs of the {what}{more}: {measure_label(shown.dissimilarity_measure)}."
        columns = min(n, max(2, round(1.3 * n**0.5)))  # those of the figure
        figure = plot.rdms(shown, titles=titles, figure=new_figure(0.9 + 2.4 * columns, 0.5 + 2.4 * -(-n // columns)))
        narrow = _narrow_rdms(shown, titles)
        yield Drawing(f"rdms-{name}", Section.RDMS, figure, f"Matrices. {caption}", caption, narrow, hover)


def _narrow_rdms(rdms: RDMs, titles: Sequence[str]) -> Figure:
    """Draw RDMs for a phone, two next to each other, with the colours of the large figure."""
    figure, known = new_figure(NARROW, 0.2 + 1.9 * -(-len(titles) // 2)), np.asarray(rdms.get_vectors(), dtype=float)
    axes = figure.subplots(-(-len(titles) // 2), 2, squeeze=False).ravel()
    for ax in axes[len(titles) :]:
        ax.remove()
    for k, (ax, title) in enumerate(zip(axes, titles, strict=False)):
        low, high = float(np.nanmin(known)), float(np.nanmax(known))
        plot.rdm(rdms, ax, None, low, high, k, title, colorbar=False)
        ax.title.set_fontsize(8)
    return figure


def _figure_of(ax: Axes) -> Figure:
    import matplotlib.pyplot as plt

    plt.close(cast("Figure", ax.figure))  # pyplot would keep it; it can still be drawn and saved
    return cast("Figure", ax.figure)


def _who(row: Mapping[Any, Any], model: str = "model", layer: str = "layer") -> str:
    return f"{row[model]} (layer {row[layer]})" if row[layer] else str(row[model])


# Tables


def _table(caption: str, rows: pd.DataFrame, columns: Mapping[str, Any], file: str) -> Table:
    records = rows.head(_MOST_ROWS).to_dict("records")
    if len(rows) > _MOST_ROWS:
        caption += f" (the first {_MOST_ROWS} of {len(rows)} rows; the CSV file has all)"
    shown = [[cell(row) for cell in columns.values()] for row in records]
    return Table(caption, list(columns), shown, named_by=0, data=rows, file=file)


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
        "summary.csv",
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
            "best_layers.csv",
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
        yield _table(
            "Differences between models", models.sort_values("p", kind="stable"), columns | tested, "models.csv"
        )
    if len(targets):
        columns = {"model": _who, "with": lambda row: row["target"], "minus with": lambda row: row["other_target"]}
        yield _table(
            "Differences between targets", targets.sort_values("p", kind="stable"), columns | tested, "targets.csv"
        )


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
    return [_table("Differences between groups of subjects", rows, columns, "groups.csv")]


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


def limits_of_rsa(rsa: RSA) -> Iterator[str]:
    """Say what the page of a plain RSA cannot show."""
    summary, settings = rsa.summary, rsa.settings
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


def methods_of_rsa(rsa: RSA) -> Iterator[str]:
    """Write the methods text of a plain RSA."""
    summary, settings, layers = rsa.summary, rsa.settings, rsa.tables["best_layers"]
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


def references_of_rsa(rsa: RSA) -> list[Reference]:
    """List what the methods text of a plain RSA cites."""
    summary, settings = rsa.summary, rsa.settings
    used = [SIMILARITIES[name].reference for name in dict.fromkeys(summary["comparator"])]
    fdr = {"fdr": _BENJAMINI, "fdr-dependent": _YEKUTIELI}.get(settings["correction"])
    intervals = INTERVAL_METHODS[settings["intervals"]] if summary["low"].notna().any() else None
    return list({one.doi: one for one in (NILI, intervals, fdr, *used) if one}.values())
