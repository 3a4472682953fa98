"""One self-contained HTML page about a run: what was found, how, and what it cannot show.

Every sentence is computed from the tables of the run. Like is compared with like: a score against single subjects stands
beside the leave-one-subject-out noise ceiling, a score against the mean RDM beside the reliability of that mean. The page
loads nothing: figures are inside it, and its own security policy forbids every other source.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch

from brainrdl import plot
from brainrdl._checks import refuse
from brainrdl.evaluation import Evaluation
from brainrdl.rdms import from_tensor, names, to_tensor
from brainrdl.result import HISTORY, PROVENANCE, SETTINGS, FitResult, atomic, describe, digest, provenance, read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs

PAGE = "report.html"
_PIXELS_PER_INCH = 100  # of the page; images hold twice as many
_FITTED = ("student", "ensemble")
_SHOWN = 4  # students in sentences and figures; the tables hold all
_SPARSE = 0.6
_PARTIAL = "partial "
_REFERENCES = {
    "mcclure": (
        "McClure, P. & Kriegeskorte, N. (2016). Representational distance learning for deep neural networks. "
        "Frontiers in Computational Neuroscience 10:131.",
        "10.3389/fncom.2016.00131",
    ),
    "nili": (
        "Nili, H., Wingfield, C., Walther, A., Su, L., Marslen-Wilson, W. & Kriegeskorte, N. (2014). A toolbox for "
        "representational similarity analysis. PLoS Computational Biology 10(4):e1003553.",
        "10.1371/journal.pcbi.1003553",
    ),
    "schuett": (
        "Schütt, H. H., Kipnis, A. D., Diedrichsen, J. & Kriegeskorte, N. (2023). Statistical inference on "
        "representational geometries. eLife 12:e82566.",
        "10.7554/eLife.82566",
    ),
}


def report(source: Evaluation | FitResult | Path | str, out: Path | str | None = None) -> Path:
    """Write one self-contained HTML page about an evaluation or a fit.

    Parameters
    ----------
    source : Evaluation, FitResult, or path
        What to report, or the run folder that holds it.
    out : path, optional
        The page, or a folder for it; ``report.html`` in the run folder by default.

    Returns
    -------
    Path
        The page. It is written whole or not at all, and needs no network to be read.

    Raises
    ------
    BrainrdlError
        If the source is none of these, the folder holds no run, or there is neither a run folder nor `out`.

    Examples
    --------
    >>> import pathlib, tempfile, torch
    >>> from brainrdl import RDMTeacher, Stimuli, Student, evaluate, rdms, report
    >>> conditions = list("abcdef")
    >>> teacher = RDMTeacher(rdms.from_array(torch.rand(3, 15).numpy(), conditions))
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8)), ["1"])
    >>> stimuli = Stimuli.from_arrays(torch.rand(6, 1, 4, 4), conditions)
    >>> page = report(evaluate(student, teacher, stimuli, n_bootstrap=10), pathlib.Path(tempfile.mkdtemp()))
    >>> page.name, page.read_text(encoding="utf-8")[:15]
    ('report.html', '<!doctype html>')
    """
    run = _open(source)
    path = _where(run, out)
    text = _render(_page(run))
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def figures(source: Evaluation | FitResult | Path | str) -> dict[str, Figure]:
    """Draw the figures of the report, by name, to be saved or changed one by one.

    Parameters
    ----------
    source : Evaluation, FitResult, or path
        As in `report`.

    Returns
    -------
    dict of str to Figure
        Names are fit for files; ``savefig`` them.

    Raises
    ------
    BrainrdlError
        As in `report`.

    Examples
    --------
    >>> import pandas as pd, torch
    >>> from brainrdl import FitResult, Student
    >>> student = Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> history = pd.DataFrame({"step": [0, 10], "train_similarity": [0.1, 0.4]})
    >>> sorted(figures(FitResult(student, history, best_step=10)))
    ['training']
    """
    return {drawing.name: drawing.figure for drawing in _drawings(_open(source))}


# What is reported


@dataclass(frozen=True)
class _Run:
    """One source of a report, whatever it came from."""

    evaluation: Evaluation | None = None
    histories: pd.DataFrame = field(default_factory=pd.DataFrame)
    best_step: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] | None = None
    folder: Path | None = None

    @property
    def fit_options(self) -> dict[str, Any]:
        """Options of `fit`, from a cross-validation's settings or a fit's own."""
        nested = self.settings.get("fit")
        return (
            dict(nested) if isinstance(nested, Mapping) else {k: self.settings[k] for k in _FIT if k in self.settings}
        )

    @property
    def dissimilarity(self) -> str:
        """How the student's patterns became an RDM, as far as the settings say."""
        loss = self.fit_options.get("loss")
        return str(loss.get("dissimilarity", "")) if isinstance(loss, Mapping) else ""


_FIT = ("loss", "rdm_weight", "task_weight", "steps", "batch_size", "optimizer", "lr", "weight_decay", "schedule", "clip",
        "patience", "monitor", "evaluate_every", "mixed_precision")  # fmt: skip


def _open(source: Evaluation | FitResult | Path | str) -> _Run:
    if isinstance(source, (str, Path)):
        return _read(Path(source))
    if hasattr(source, "summary"):
        evaluation = cast("Evaluation", source)
        return _Run(evaluation, evaluation.histories, settings=describe(evaluation.settings))
    if hasattr(source, "best_step"):
        fitted = cast("FitResult", source)
        return _Run(None, fitted.history, fitted.best_step, describe(fitted.settings), fitted.provenance, fitted.path)
    refuse(f"a report needs an Evaluation, a FitResult or a run folder, got {type(source).__name__}")


def _read(folder: Path) -> _Run:
    stored = read_json(folder / SETTINGS) if (folder / SETTINGS).exists() else {}
    facts = read_json(folder / PROVENANCE) if (folder / PROVENANCE).exists() else None
    if (folder / "evaluation.json").exists():
        evaluation = Evaluation.load(folder)
        settings = stored | describe(evaluation.settings)
        return _Run(evaluation, evaluation.histories, settings=settings, provenance=facts, folder=folder)
    if (folder / HISTORY).exists():
        return _Run(None, pd.read_csv(folder / HISTORY), None, stored, facts, folder)
    refuse(f"{str(folder)!r} holds no finished run: neither evaluation.json nor {HISTORY} is there")


def _where(run: _Run, out: Path | str | None) -> Path:
    if out is None and run.folder is None:
        refuse("this run has no folder of its own; say where the page goes, for example out='report.html'")
    path = Path(out) if out is not None else cast("Path", run.folder)
    return path / PAGE if path.is_dir() else path


# The page


def _page(run: _Run) -> dict[str, Any]:
    drawings = list(_drawings(run))
    sections = {
        name: [_embed(d) for d in drawings if d.section == name] for name in ("scores", "rdms", "training", "pairs")
    }
    page = {
        "title": _page_title(run),
        "simulated": bool(run.settings.get("simulated")),
        "cannot": list(_limits_of(run)),
        "facts": [fact for fact in _facts(run) if fact[1]],
        "figures": sections,
        "methods": [part for part in _methods(run) if part],
        "references": list(_REFERENCES.values()) if run.evaluation is not None else [_REFERENCES["mcclure"]],
        "provenance": _provenance_rows(run),
        "settings": json.dumps(describe(run.settings), indent=2, ensure_ascii=False),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if run.evaluation is None:
        return page | {"headline": [_fit_headline(run)], "tables": [], "scores": None, "csv": None}
    summary, scores = run.evaluation.summary, run.evaluation.scores
    return page | {
        "headline": list(_headlines(run)),
        "tables": list(_summary_tables(summary)),
        "scores": _Table("Every score: one row per student, fold, seed and subject", *_cells(scores)),
        "csv": base64.b64encode(scores.to_csv(index=False).encode()).decode(),
    }


def _render(page: Mapping[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("brainrdl"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(page)


def _page_title(run: _Run) -> str:
    teacher = str(run.settings.get("teacher") or "")
    what = "How close did it get?" if run.evaluation is not None else "How did the fit go?"
    return f"{what} {_and(_students(run.evaluation))} and {teacher}" if run.evaluation is not None and teacher else what


def _students(evaluation: Evaluation | None) -> list[str]:
    if evaluation is None:
        return []
    table = evaluation.summary
    return list(dict.fromkeys(table.loc[table["role"].isin(_FITTED), "student"]))


# Sentences


def _headlines(run: _Run) -> Iterator[str]:
    """One paragraph for each of the first students, and how many more there are."""
    summary = cast("Evaluation", run.evaluation).summary
    keys = _shown_keys(summary)
    for key in keys[:_SHOWN]:
        yield " ".join(_sentences(summary, key, alone=len(keys) == 1))
    if len(keys) > _SHOWN:
        yield f"{len(keys) - _SHOWN} more combinations of student and layer are in the table below."


def _shown_keys(summary: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(student, layer, target) of fitted students and ensembles, in the order of the table: never the best ones first."""
    fitted = summary[summary["role"].isin(_FITTED)]
    return list(dict.fromkeys(zip(fitted["student"], fitted["layer"], fitted["target"], strict=True)))


def _comparators(summary: pd.DataFrame) -> list[str]:
    return [name for name in dict.fromkeys(summary["comparator"]) if not str(name).startswith(_PARTIAL)]


def _rows(summary: pd.DataFrame, **wanted: str) -> list[dict[str, Any]]:
    chosen = pd.Series(True, index=summary.index)
    for column, value in wanted.items():
        chosen &= summary[column] == value
    return [{str(k): v for k, v in row.items()} for row in summary[chosen].to_dict("records")]


def _sentences(summary: pd.DataFrame, key: tuple[str, str, str], *, alone: bool) -> Iterator[str]:
    student, layer, target = key
    comparator = _comparators(summary)[0]
    mine = summary[(summary["target"] == target) & (summary["comparator"] == comparator)]
    rows = {row["against"]: row for row in _rows(mine, student=student, layer=layer)}
    who = "the fitted network" if alone else f"“{student}”"
    who += f" (layer {layer})" if layer else ""
    for against in ("subjects", "mean"):
        if against in rows:
            yield _score_sentence(rows[against], who, comparator, first=against == next(iter(_ordered(rows))))
            yield _ceiling_sentence(rows[against])
    first = rows[next(iter(_ordered(rows)))]
    yield from _gain_sentence(first)
    yield from _control_sentence(mine, first)
    yield from _category_sentence(mine, first)
    yield from _partial_sentence(summary, first)


def _ordered(rows: Mapping[str, Any]) -> list[str]:
    return [against for against in ("subjects", "mean") if against in rows]


def _score_sentence(row: Mapping[str, Any], who: str, comparator: str, *, first: bool) -> str:
    what = plot.AGAINST_LABELS.get(row["against"], row["against"]).replace("'", "’")
    if not first:
        return f"With {what} it reached {_number(row['score'])} ({_interval(row)})."
    similarity = plot.similarity_label(comparator).replace("'", "’")
    return (
        f"On stimuli held out from fitting, {who} reached a {similarity} of {_number(row['score'])} ({_interval(row)}) "
        f"with {what} of {row['target']}."
    )


def _ceiling_sentence(row: Mapping[str, Any]) -> str:
    low, high, share = (float(row[key]) for key in ("ceiling_lower", "ceiling_upper", "share"))
    if not math.isfinite(low):
        return "With one subject there is no noise ceiling to hold this against."
    if low <= 0:
        return "The subjects do not agree with each other (their ceiling is not above 0), so these data cannot judge a model."
    if row["against"] == "mean":
        return f"A perfect model would be expected to reach {_number(low)}, the reliability of that mean; this is {_percent(share)} of it."
    ceiling = (
        f"The noise ceiling of that comparison, from leaving one subject out, is {_number(low)} to {_number(high)}"
    )
    if row["score"] >= low:
        return f"{ceiling}: the score reaches it, so these data cannot tell this model from a perfect one."
    return f"{ceiling}: the score is {_percent(share)} of its lower bound."


def _gain_sentence(row: Mapping[str, Any]) -> Iterator[str]:
    gain, low, high = (float(row.get(key, np.nan)) for key in ("gain", "gain_low", "gain_high"))
    if not math.isfinite(gain):
        return
    told = f"({_interval({'low': low, 'high': high})})"
    against = "single subjects" if row["against"] == "subjects" else "the mean RDM"
    if low > 0:
        yield f"Against {against}, fitting raised the score by {_number(gain)} {told} over the same network before fitting."
    elif high < 0:
        yield f"Against {against}, fitting lowered the score by {_number(-gain)}: the change is {_number(gain)} {told}."
    else:
        yield (
            f"Against {against}, fitting changed the score by {_number(gain)} {told}; "
            "these data do not show that fitting helped."
        )


def _control_sentence(mine: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    """Fitted to shuffled names: the row of this student, whose label is made from the student's own."""
    found = _rows(mine, role="permuted", against=row["against"], layer=row["layer"])
    own = [r for r in found if r["student"] in ("permuted", f"{row['student']}, permuted")]
    for one in own[:1]:
        yield f"Fitted in the same way to RDMs with shuffled condition names, it scored {_number(one['score'])} ({_interval(one)})."


def _category_sentence(mine: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    models = _rows(mine, role="category", against=row["against"])
    if not models:
        return
    told = _and([f"{_number(one['score'])} (“{one['student']}”)" for one in models])
    best = max(float(one["score"]) for one in models)
    verdict = "more than" if row["score"] > best else "no more than"
    which = "the better of these" if len(models) > 1 else "this"
    verb = (
        "models that know only the category of a stimulus scored"
        if len(models) > 1
        else "a model that knows only the category of a stimulus scored"
    )
    yield f"In the same comparison, {verb} {told}; the network scored {verdict} {which} (the difference was not tested)."


def _partial_sentence(summary: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    partial = _PARTIAL + row["comparator"]
    for one in _rows(summary, comparator=partial, student=row["student"], layer=row["layer"], target=row["target"])[:1]:
        yield (
            f"With the category model and any other models held constant, its {plot.similarity_label(partial)} with the "
            f"mean RDM was {_number(one['score'])} ({_interval(one)})."
        )


def _fit_headline(run: _Run) -> str:
    history = run.histories
    last = int(history["step"].max())
    parts = [f"The fit ran for {last} steps."]
    for column, label in (("train_similarity", "training"), ("validation_similarity", "validation")):
        curve = history.loc[history[column].notna(), column] if column in history else pd.Series(dtype=float)
        if not curve.empty:
            change = f"went from {_number(curve.iloc[0])} to {_number(curve.iloc[-1])}"
            parts.append(
                f"The RDM correlation on {label} stimuli {change}, and was {_number(curve.max())} at its highest."
            )
    if run.best_step is not None:
        parts.append(f"The weights of step {run.best_step} were kept.")
    return " ".join([*parts, "Nothing on this page was measured on held-out stimuli: it shows fitting, not success."])


def _limits_of(run: _Run) -> Iterator[str]:
    """What the page cannot show, from the design of this very run."""
    if run.settings.get("simulated"):
        yield "The teacher’s RDMs are simulated. Nothing here is evidence about a brain."
    if run.evaluation is None:
        yield "Nothing was held out, so nothing here says how the network does on stimuli it was not fitted to."
        yield "A high similarity on training stimuli can be memorised: networks with many weights fit any RDM, shuffled ones too."
        return
    summary, labels = run.evaluation.summary, run.evaluation.labels
    n_subjects, n_stimuli = int(summary["n_subjects"].max()), int(summary["n_stimuli"].max())
    kinds = f" of {len(set(labels.values()))} categories" if labels else ""
    yield f"The scores hold for stimuli like these {n_stimuli}{kinds}; for other kinds of image they say nothing."
    if n_subjects < 2:
        yield "There is one subject: no noise ceiling can be estimated, and nothing says that another subject would agree."
    elif n_subjects < 10:
        yield f"With {n_subjects} subjects, intervals and noise ceiling are rough."
    if run.settings.get("subjects", "all") == "all" and n_subjects > 1:
        yield "The subjects scored against are those whose RDMs were fitted: stimuli were held out, subjects were not."
    seeds = int(run.evaluation.scores["seed"].nunique())
    yield "Intervals cover the choice of stimuli and subjects; networks were not refitted for them" + (
        ", and with one seed the luck of initial weights and batches was not measured at all."
        if seeds == 1
        else f". How much a score depends on initial weights and batches shows only between the {seeds} seeds."
    )
    if run.evaluation.scores["fold"].nunique() > 1:
        pairs = int(run.evaluation.scores["n_pairs"].median())
        yield f"Only pairs of stimuli that were held out together count (about {pairs} in a fold); pairs across folds were never scored."
    missing = {"unfitted": "what fitting added", "permuted": "what fitting to anything would have given"} | {
        "category": "whether the score is more than a matter of category"
    }
    for role, what in missing.items():
        if role not in set(summary["role"]):
            yield f"There is no {'category model' if role == 'category' else role + ' control'} here, so the page cannot tell {what}."
    if len(_shown_keys(summary)) * len(_comparators(summary)) > 1:
        yield "Intervals are not corrected for the number of students, layers and comparators looked at."
    yield "Alike RDMs are not alike mechanisms: many different representations have the same distances."


def _facts(run: _Run) -> list[tuple[str, str]]:
    settings, evaluation = run.settings, run.evaluation
    facts = [("Teacher", str(settings.get("teacher") or ""))]
    if evaluation is None:
        facts += [("Layers", _and(map(str, settings.get("layers", []))))]
        facts += [
            ("Training stimuli", _count(settings.get("train"))),
            ("Validation stimuli", _count(settings.get("validation"))),
        ]
        return [*facts, *_option_facts(run)]
    summary, scores, labels = evaluation.summary, evaluation.scores, evaluation.labels
    keys = _shown_keys(summary)
    conditions = names(evaluation.teacher)
    per_category = (
        pd.Series([labels[name] for name in conditions if name in labels]).value_counts(sort=False) if labels else None
    )
    counted = "" if per_category is None else " in " + _and([f"{k} ({n})" for k, n in per_category.items()], most=12)
    held = "leave-one-out" == settings.get("subjects")
    folds = int(scores["fold"].nunique())
    return [
        *facts,
        ("Targets", _and(dict.fromkeys(target for _, _, target in keys))),
        ("Subjects", f"{int(summary['n_subjects'].max())}" + (", one held out at a time" if held else "")),
        ("Students", _and(dict.fromkeys(_named(student, settings) for student, _, _ in keys))),
        ("Layers", _and(dict.fromkeys(layer for _, layer, _ in keys if layer))),
        ("Stimuli", f"{len(conditions)}{counted}"),
        ("Folds", f"{folds} over stimuli" if folds > 1 else "none: one list of held-out stimuli"),
        ("Seeds", f"{scores['seed'].nunique()} ({_and(map(str, sorted(scores['seed'].unique())))})"),
        (
            "Steps chosen by",
            f"{settings.get('inner_folds')} folds inside the training stimuli" if settings.get("inner_folds") else "",
        ),
        *_option_facts(run),
    ]


def _named(student: str, settings: Mapping[str, Any]) -> str:
    made = settings.get("students")
    how = made.get(student) if isinstance(made, Mapping) else None
    maker = str(how.get("make", "")) if isinstance(how, Mapping) else ""
    return f"{student} (made by {maker})" if maker and "<l" not in maker else student


def _option_facts(run: _Run) -> list[tuple[str, str]]:
    options = {k: v for k, v in run.fit_options.items() if k in _FIT and k != "loss" and v is not None}
    loss = run.fit_options.get("loss")
    told = {k: v for k, v in loss.items() if k != "kind" and v is not None} if isinstance(loss, Mapping) else {}
    return [("Loss", _listed(told)), ("Fitting", _listed(options))]


def _methods(run: _Run) -> Iterator[str]:
    """Text for a supplement; what the settings do not say is not said."""
    settings, evaluation = run.settings, run.evaluation
    teacher = f" of {settings['teacher']}" if settings.get("teacher") else ""
    fitted = _listed({k: v for k, v in run.fit_options.items() if k in _FIT and k not in ("loss",) and v is not None})
    measure = f" Student RDMs were made with {_measure_words(run.dissimilarity)}." if run.dissimilarity else ""
    yield (
        f"Networks were fitted to representational dissimilarity matrices (RDMs){teacher} by representational distance "
        "learning (McClure & Kriegeskorte, 2016): the weights of the network were changed by stochastic gradient descent so "
        f"that the RDM of a layer approached the target RDM.{measure}" + (f" Settings: {fitted}." if fitted else "")
    )
    if evaluation is None:
        return
    yield _design_text(run, evaluation)
    yield _score_text(evaluation.summary)
    yield _inference_text(run, evaluation)
    yield _controls_text(evaluation.summary)
    version = provenance()["versions"]
    yield f"Analyses used brainrdl {version['brainrdl']} with PyTorch {version['torch']} and rsatoolbox {version['rsatoolbox']}."


def _design_text(run: _Run, evaluation: Evaluation) -> str:
    n, folds, seeds = (
        len(names(evaluation.teacher)),
        evaluation.scores["fold"].nunique(),
        evaluation.scores["seed"].nunique(),
    )
    if folds < 2:
        return f"The network was scored on {n} stimuli that were given as held out; all pairs among them count."
    spread = ", categories spread evenly over folds" if run.settings.get("stratify") and evaluation.labels else ""
    again = (
        f" The whole procedure was repeated with {seeds} seeds (folds, initial weights and batches)."
        if seeds > 1
        else ""
    )
    inner = run.settings.get("inner_folds")
    steps = (
        f" The number of steps was chosen by {inner}-fold cross-validation inside each training fold." if inner else ""
    )
    left = " One subject at a time was held out as well, and scores are against that subject alone."
    subjects = left if run.settings.get("subjects") == "leave-one-out" else ""
    return (
        f"The {n} stimuli were divided into {folds} folds{spread}; each fold was held out once while the network was fitted to the "
        f"others. Only pairs of stimuli held out together were scored.{subjects}{steps}{again}"
    )


def _score_text(summary: pd.DataFrame) -> str:
    similarity = _and([plot.similarity_label(name) for name in _comparators(summary)])
    text = f"RDMs were compared by {similarity}."
    if "subjects" in set(summary["against"]):
        text += (
            " Student RDMs were compared with the RDM of each subject, and the scores averaged; the noise ceiling of these scores "
            "(Nili et al., 2014) is the mean similarity of each subject’s RDM with the pooled RDM of the others (lower bound) and "
            "of all subjects (upper bound)."
        )
    if "mean" in set(summary["against"]):
        text += (
            " Separately, student RDMs were compared with the mean RDM of the subjects; the ceiling of these scores is the "
            "reliability of that mean, the square root of the Spearman-Brown prediction from the mean similarity between two "
            "subjects. The two kinds of score and ceiling are not interchangeable."
        )
    return text


def _inference_text(run: _Run, evaluation: Evaluation) -> str:
    n_bootstrap = run.settings.get("n_bootstrap")
    if not n_bootstrap or evaluation.summary["low"].isna().all():
        return ""
    return (
        f"Intervals are 95 % intervals from {n_bootstrap} bootstrap resamples of stimuli and subjects, with the variance "
        "correction for the dual bootstrap and a t distribution (Schütt et al., 2023). Folds and seeds share stimuli and were "
        "averaged within each resample. Networks were not refitted."
    )


def _controls_text(summary: pd.DataFrame) -> str:
    roles = set(summary["role"])
    told = {
        "unfitted": "the same network before fitting",
        "permuted": "the same network fitted in the same way to RDMs whose condition names were shuffled among the training stimuli",
        "category": "models that know only the category of each stimulus (same or different category; and, where folds allow it, "
        "the mean training dissimilarity of each pair of categories)",
        "model": "the model RDMs listed in the table",
    }
    present = [text for role, text in told.items() if role in roles]
    return f"Scored on the same pairs, for comparison: {'; '.join(present)}." if present else ""


# Figures


@dataclass(frozen=True)
class _Drawing:
    """A figure with its file name, the section it stands in, its alternative text and its caption."""

    name: str
    section: str
    figure: Figure
    alt: str
    caption: str


def _drawings(run: _Run) -> Iterator[_Drawing]:
    if run.evaluation is not None:
        yield _scores_drawing(run.evaluation.summary)
        for key in _shown_keys(run.evaluation.summary)[:_SHOWN]:
            yield from _rdm_drawings(run, run.evaluation, key)
    yield from _training_drawings(run)


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _scores_drawing(summary: pd.DataFrame) -> _Drawing:
    comparator = _comparators(summary)[0]
    table = summary[summary["comparator"] == comparator]
    kinds = [against for against in ("subjects", "mean") if (table["against"] == against).any()]
    n_rows = max(int((table["against"] == against).sum()) for against in kinds) + table["target"].nunique()
    figure = _new_figure(9.4 if len(kinds) > 1 else 6.4, 1.6 + 0.27 * n_rows)
    axes = figure.subplots(1, len(kinds), squeeze=False)[0]
    for ax, against in zip(axes, kinds, strict=True):
        plot.scores(table, comparator, against, ax)
    labels = [[tick.get_text() for tick in ax.get_yticklabels()] for ax in axes]
    if len(kinds) > 1 and labels[0] == labels[1]:
        axes[1].set_yticklabels([])
    return _Drawing("scores", "scores", figure, _scores_alt(table, comparator, kinds), _scores_caption(kinds))


def _scores_alt(table: pd.DataFrame, comparator: str, kinds: Sequence[str]) -> str:
    parts = []
    for against in kinds:
        rows = _rows(table, against=against)
        told = "; ".join(
            f"{row['student']} {row['layer']} {_number(row['score'])}".replace("  ", " ") for row in rows[:12]
        )
        parts.append(f"{plot.similarity_label(comparator)} with {plot.AGAINST_LABELS[against]}: {told}.")
    return " ".join(parts)


def _scores_caption(kinds: Sequence[str]) -> str:
    told = {
        "subjects": "against single subjects, with the leave-one-subject-out noise ceiling (grey band, lower to upper bound)",
        "mean": "against the subjects’ mean RDM, with the reliability of that mean (grey line)",
    }
    return f"Scores on held-out stimuli {'; and '.join(told[kind] for kind in kinds)}. Bars are 95 % intervals."


def _rdm_drawings(run: _Run, evaluation: Evaluation, key: tuple[str, str, str]) -> Iterator[_Drawing]:
    student_name, layer, target = key
    student = _average(
        evaluation.students, {"student": student_name, "layer": layer, "target": target}, run.dissimilarity
    )
    teacher = _average(evaluation.teacher, {"target": target}, "")
    if student is None or teacher is None:
        return
    groups = _groups(evaluation)
    known = float(np.isfinite(student.get_vectors() + teacher.get_vectors()).mean())
    if not known:
        return
    who = f"{student_name} (layer {layer})" if layer else student_name
    slug, titles = _slug(*key), (who, target)
    share = (
        "All pairs were held out together."
        if known == 1
        else f"Grey: pairs never held out together ({_percent(1 - known)})."
    )
    caption = f"Held-out RDM of {who}, RDM of {target} (mean over subjects), and their difference, as ranks. {share}"
    figure = plot.rdm_pair(student, teacher, groups, titles=titles, figure=_new_figure(9.4, 3.5))
    yield _Drawing(f"rdms-{slug}", "rdms", figure, f"Three matrices. {caption}", caption)
    if known < _SPARSE and groups:
        caption = f"The same, averaged over the pairs of each two categories (number of stimuli in brackets): {who} and {target}."
        figure = plot.rdm_pair(student, teacher, groups, cells="groups", titles=titles, figure=_new_figure(9.4, 3.5))
        yield _Drawing(f"categories-{slug}", "rdms", figure, f"Three matrices. {caption}", caption)
    figure = _new_figure(4.6, 4.1)
    plot.pairs(student, teacher, figure.subplots(), groups)
    caption = f"Dissimilarity of each held-out pair in {who} and in {target}."
    yield _Drawing(f"pairs-{slug}", "pairs", figure, f"Scatter plot. {caption}", caption)


def _average(rdms: RDMs, wanted: Mapping[str, str], measure: str) -> RDMs | None:
    """Mean over seeds (and left-out subjects) of the RDMs with these descriptors, each pair over the RDMs that hold it."""
    described = {key: value for key, value in wanted.items() if key in rdms.rdm_descriptors}
    chosen = [all(str(rdms.rdm_descriptors[k][i]) == v for k, v in described.items()) for i in range(rdms.n_rdm)]
    if not any(chosen):
        return None
    pairs = to_tensor(rdms, dtype=torch.float64)[torch.tensor(chosen)]
    return from_tensor(pairs.nanmean(0, keepdim=True), names(rdms), measure=measure or rdms.dissimilarity_measure)


def _groups(evaluation: Evaluation) -> dict[str, str] | None:
    labels = evaluation.labels
    conditions = names(evaluation.teacher)
    return (
        {name: labels[name] for name in conditions} if labels and all(name in labels for name in conditions) else None
    )


def _training_drawings(run: _Run) -> Iterator[_Drawing]:
    histories = run.histories
    if histories.empty or not {"train_similarity", "validation_similarity"} & set(histories):
        return
    known = list(dict.fromkeys(histories["student"])) if "student" in histories else [None]
    fitted = [student for student in known if student is None or student in _students(run.evaluation)] or known
    for student in fitted[:_SHOWN]:
        figure = _new_figure(7.4, 4.0)
        plot.history(
            histories,
            figure.subplots(),
            student=student,
            best_step=run.best_step,
            similarity="RDM correlation (Pearson)",
        )
        who = f" of {student}" if student and len(known) > 1 else ""
        caption = (
            f"Training{who}: RDM correlation (mean over layers) and loss after each step. Thin lines are single runs."
        )
        slug = f"training-{_slug(student)}" if student else "training"
        yield _Drawing(slug, "training", figure, f"Line plot. {caption}", caption)


def _embed(drawing: _Drawing) -> dict[str, Any]:
    buffer = io.BytesIO()
    drawing.figure.savefig(buffer, format="png", dpi=2 * _PIXELS_PER_INCH, metadata={"Software": None})
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    width, height = (round(inches * _PIXELS_PER_INCH) for inches in drawing.figure.get_size_inches())
    return {"src": source, "width": width, "height": height, "alt": drawing.alt, "caption": drawing.caption}


# Tables


@dataclass(frozen=True)
class _Table:
    """A table of text: caption, heads of columns, rows."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def _summary_tables(summary: pd.DataFrame) -> Iterator[_Table]:
    plain = summary[summary["comparator"].isin(_comparators(summary))]
    captions = {
        "subjects": ("Against single subjects’ RDMs", "noise ceiling", "share of its lower bound"),
        "mean": ("Against the subjects’ mean RDM", "reliability of the mean", "share of it"),
    }
    for against, (caption, ceiling, share) in captions.items():
        rows = _rows(plain, against=against)
        if rows:
            columns = (
                "",
                "kind",
                "layer",
                "target",
                "comparator",
                "score",
                "95 % interval",
                ceiling,
                share,
                "gain by fitting",
            )
            yield _Table(caption, columns, [_summary_row(row) for row in rows])
    rest = _rows(summary[~summary["comparator"].isin(_comparators(summary))])
    if rest:
        columns = ("", "kind", "layer", "target", "comparator", "score", "95 % interval")
        caption = "Against the subjects’ mean RDM, with category and other models held constant"
        yield _Table(caption, columns, [_summary_row(row)[:7] for row in rest])


def _summary_row(row: Mapping[str, Any]) -> list[str]:
    low, high = float(row["ceiling_lower"]), float(row["ceiling_upper"])
    gain = {"low": row.get("gain_low", np.nan), "high": row.get("gain_high", np.nan)}
    gained = f"{_number(row['gain'])} ({_range(gain)})" if math.isfinite(float(row.get("gain", np.nan))) else "–"
    return [
        str(row["student"]), plot.KINDS.get(row["role"], str(row["role"])), str(row["layer"]), str(row["target"]),
        plot.similarity_label(str(row["comparator"])), _number(row["score"]), _range(row),
        _number(low) if low == high else _range({"low": low, "high": high}), _percent(row["share"]), gained,
    ]  # fmt: skip


def _cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    def show(value: object) -> str:
        return _number(value, 3) if isinstance(value, float) else str(value)

    return [str(column) for column in table.columns], [[show(v) for v in row] for row in table.itertuples(index=False)]


def _provenance_rows(run: _Run) -> list[tuple[str, str]]:
    facts = run.provenance or provenance()
    note = (
        []
        if run.provenance
        else [("note", "the run kept no provenance; these are of the session that wrote this page")]
    )
    rows = [*note, *_flat(facts)]
    if run.evaluation is not None:
        pairs = to_tensor(run.evaluation.teacher, dtype=torch.float64)
        rows += [("hashes: teacher’s mean RDMs (SHA-256)", digest({"rdms": pairs}))]
    return rows


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        rows += _flat(value, f"{name}: ") if isinstance(value, Mapping) else [(name, str(value))]
    return rows


# Words and numbers


def _number(value: Any, digits: int = 2) -> str:
    """Format a number with a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(float(value)):
        return "–"
    text = f"{float(value):.{digits}f}"
    return (text if float(text) else text.lstrip("-")).replace("-", "−")


def _percent(value: Any) -> str:
    return "–" if value is None or not math.isfinite(float(value)) else f"{_number(100 * float(value), 0)} %"


def _range(row: Mapping[str, Any]) -> str:
    known = math.isfinite(float(row["low"])) and math.isfinite(float(row["high"]))
    return f"{_number(row['low'])} to {_number(row['high'])}" if known else "–"


def _interval(row: Mapping[str, Any]) -> str:
    told = _range(row)
    return "no interval" if told == "–" else f"95 % interval {told}"


def _and(words: Iterable[str], most: int = 8) -> str:
    listed = [str(word) for word in words]
    if len(listed) > most:
        listed = [*listed[:most], f"{len(listed) - most} more"]
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items())


def _count(value: Any) -> str:
    return str(len(value)) if value else ""


def _measure_words(dissimilarity: str) -> str:
    return plot.MEASURES.get(dissimilarity, dissimilarity)


def _slug(*words: str) -> str:
    return "-".join("".join(c if c.isalnum() or c in "_." else "_" for c in word) for word in words if word)
