"""One self-contained HTML page about a run: what was found, how, and what it cannot show.

Every sentence is computed from the tables of the run. Like is compared with like: a score against single subjects
stands beside the leave-one-subject-out noise ceiling, a score against the mean RDM beside the reliability of that mean.
The page loads nothing: figures are inside it, and its own security policy forbids every other source.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from brainrdl import plot
from brainrdl._checks import quote, refuse
from brainrdl.evaluation import Evaluation
from brainrdl.rdms import from_tensor, names, to_tensor
from brainrdl.result import HISTORY, PROVENANCE, SETTINGS, FitResult, atomic, describe, digest, provenance, read_json
from brainrdl.scoring import PARTIAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs

PAGE = "report.html"
_PIXELS_PER_INCH = 100  # of the page; images hold twice as many
_FITTED = ("student", "ensemble")
_SHOWN = 4  # students in sentences and figures; the tables hold all
_SPARSE = 0.6
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


_FIT = (
    "loss",
    "rdm_weight",
    "task_weight",
    "steps",
    "batch_size",
    "optimizer",
    "lr",
    "weight_decay",
    "schedule",
    "clip",
    "patience",
    "monitor",
    "evaluate_every",
    "mixed_precision",
)


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
        given = nested if isinstance(nested, Mapping) else self.settings
        return {key: value for key, value in given.items() if key in _FIT and value is not None}

    @property
    def dissimilarity(self) -> str:
        """How the student's patterns became an RDM, as far as the settings say."""
        loss = self.fit_options.get("loss")
        return str(loss.get("dissimilarity", "")) if isinstance(loss, Mapping) else ""


def _open(source: Evaluation | FitResult | Path | str) -> _Run:
    if isinstance(source, (str, Path)):
        return _read(Path(source))
    if isinstance(source, Evaluation):
        return _Run(source, source.histories, settings=describe(source.settings))
    if isinstance(source, FitResult):
        settings = describe(source.settings)
        return _Run(None, source.history, source.best_step, settings, source.provenance, source.path)
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
    path = run.folder if out is None else Path(out)
    if path is None:
        refuse("this run has no folder of its own; say where the page goes, for example out='report.html'")
    return path / PAGE if path.is_dir() else path


# The page


_SECTIONS = ("scores", "rdms", "training", "pairs")


def _page(run: _Run) -> dict[str, Any]:
    drawings = list(_drawings(run))
    page = {
        "title": _page_title(run),
        "simulated": bool(run.settings.get("simulated")),
        "cannot": list(_limits_of(run)),
        "facts": [fact for fact in _facts(run) if fact[1]],
        "figures": {name: [_embed(one) for one in drawings if one.section == name] for name in _SECTIONS},
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
        "headline": list(_headlines(run.evaluation)),
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
    if run.evaluation is None:
        return "How did the fit go?"
    teacher = str(run.settings.get("teacher") or "") or "the teacher"
    students = _students(run.evaluation)
    return f"How close did {_and(students) if len(students) > 1 else 'the network'} get to {teacher}?"


def _students(evaluation: Evaluation) -> list[str]:
    table = evaluation.summary
    return list(dict.fromkeys(table.loc[table["role"].isin(_FITTED), "student"]))


# The result in sentences


def _headlines(evaluation: Evaluation) -> Iterator[str]:
    """Short paragraphs for each of the first students, and how many more there are."""
    keys = _shown_keys(evaluation.summary)
    for key in keys[:_SHOWN]:
        yield from _paragraphs(evaluation.summary, key, alone=len(keys) == 1)
    if len(keys) > _SHOWN:
        yield f"{len(keys) - _SHOWN} more combinations of student and layer are in the tables below."


def _shown_keys(summary: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(student, layer, target) of fitted students and ensembles, in the order of the table, never by score."""
    fitted = summary[summary["role"].isin(_FITTED)]
    return list(dict.fromkeys(zip(fitted["student"], fitted["layer"], fitted["target"], strict=True)))


def _comparators(summary: pd.DataFrame) -> list[str]:
    return [name for name in dict.fromkeys(summary["comparator"]) if not str(name).startswith(PARTIAL)]


def _rows(summary: pd.DataFrame, **wanted: str) -> list[dict[str, Any]]:
    chosen = pd.Series(True, index=summary.index)
    for column, value in wanted.items():
        chosen &= summary[column] == value
    return [{str(k): v for k, v in row.items()} for row in summary[chosen].to_dict("records")]


def _paragraphs(summary: pd.DataFrame, key: tuple[str, str, str], *, alone: bool) -> Iterator[str]:
    """Tell what a student reached, against subjects and against the mean; what fitting did; how category models do."""
    student, layer, target = key
    comparator = _comparators(summary)[0]
    mine = summary[(summary["target"] == target) & (summary["comparator"] == comparator)]
    rows = [row for against in _AGAINST for row in _rows(mine, student=student, layer=layer, against=against)]
    who = ("the fitted network" if alone else f"“{student}”") + (f" (layer {layer})" if layer else "")
    first, *others = rows
    yield f"{_first_sentence(first, who)} {_ceiling_sentence(first)}"
    for row in others:
        yield f"With {_against(row)} it reached {_number(row['score'])} ({_interval(row)}). {_ceiling_sentence(row)}"
    yield from _joined(_gain_sentence(first), _control_sentence(mine, first))
    yield from _joined(_category_sentence(mine, first), _partial_sentence(summary, first))


_AGAINST = ("subjects", "mean")


def _joined(*sentences: Iterator[str]) -> Iterator[str]:
    told = [text for part in sentences for text in part]
    if told:
        yield " ".join(told)


def _against(row: Mapping[str, Any]) -> str:
    return plot.AGAINST_LABELS[row["against"]].replace("'", "’")


def _first_sentence(row: Mapping[str, Any], who: str) -> str:
    similarity = plot.similarity_label(row["comparator"]).replace("'", "’")
    return (
        f"On stimuli held out from fitting, {who} reached a {similarity} of {_number(row['score'])} ({_interval(row)}) "
        f"with {_against(row)} of {row['target']}."
    )


def _ceiling_sentence(row: Mapping[str, Any]) -> str:
    low, high, share = (float(row[key]) for key in ("ceiling_lower", "ceiling_upper", "share"))
    if not math.isfinite(low):
        return "There is no noise ceiling to hold this against: it needs more than one subject."
    if low <= 0:
        return "The subjects do not agree (their ceiling is not above 0), so these data cannot judge a model."
    if row["against"] == "mean":
        expected = f"A perfect model would be expected to reach {_number(low)}, the reliability of that mean"
        return f"{expected}; the score is {_percent(share)} of it."
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
    told = f"{_number(gain)} ({_interval({'low': low, 'high': high})}) compared with the same network before fitting"
    against = "single subjects" if row["against"] == "subjects" else "the mean RDM"
    yield f"Against {against}, fitting changed the score by {told}{_verdict(low, high)}."


def _verdict(low: float, high: float) -> str:
    if low > 0:
        return ": it helped"
    if high < 0:
        return ": it did harm"
    return "; these data do not show that it helped" if math.isfinite(low) else ""


def _control_sentence(mine: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    """Fitted to shuffled names: the row of this student, whose label is made from the student's own."""
    found = _rows(mine, role="permuted", against=row["against"], layer=row["layer"])
    own = [one for one in found if one["student"] in ("permuted", f"{row['student']}, permuted")]
    for one in own[:1]:
        told = f"{_number(one['score'])} ({_interval(one)})"
        yield f"Fitted in the same way to RDMs with shuffled condition names, it scored {told}."


def _category_sentence(mine: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    models = _rows(mine, role="category", against=row["against"])
    if not models:
        return
    several = len(models) > 1
    told = _and([f"{_number(one['score'])} (“{one['student']}”)" for one in models])
    verdict = "more than" if row["score"] > max(float(one["score"]) for one in models) else "no more than"
    yield (
        f"In the same comparison, {'models that know' if several else 'a model that knows'} only the category of a "
        f"stimulus scored {told}; the network scored {verdict} {'the better of these' if several else 'this'} (a "
        "difference that was not tested)."
    )


def _partial_sentence(summary: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    partial = PARTIAL + row["comparator"]
    for one in _rows(summary, comparator=partial, student=row["student"], layer=row["layer"], target=row["target"])[:1]:
        yield (
            f"With the category model and any other models held constant, its {plot.similarity_label(partial)} with "
            f"the mean RDM was {_number(one['score'])} ({_interval(one)})."
        )


def _fit_headline(run: _Run) -> str:
    history = run.histories
    parts = [f"The fit ran for {int(history['step'].max())} steps."]
    for column, label in (("train_similarity", "training"), ("validation_similarity", "validation")):
        curve = history[column].dropna() if column in history else pd.Series(dtype=float)
        if not curve.empty:
            change = f"went from {_number(curve.iloc[0])} to {_number(curve.iloc[-1])}"
            parts.append(f"The RDM correlation on {label} stimuli {change} (highest: {_number(curve.max())}).")
    if run.best_step is not None:
        parts.append(f"The weights of step {run.best_step} were kept.")
    return " ".join([*parts, "Nothing on this page was measured on held-out stimuli: it shows fitting, not success."])


# What the page cannot show


_FEW_SUBJECTS = 10
_WITHOUT = {
    "unfitted": "There is no unfitted control, so the page cannot tell what fitting added.",
    "permuted": "There is no permuted control, so the page cannot tell what fitting to shuffled RDMs would have given.",
    "category": "There is no category model, so the page cannot tell whether the score is a matter of category alone.",
}


def _limits_of(run: _Run) -> Iterator[str]:
    """Say what the page cannot show, from the design of this very run."""
    if run.settings.get("simulated"):
        yield "The teacher’s RDMs are simulated. Nothing here is evidence about a brain."
    if run.evaluation is None:
        yield "Nothing was held out, so nothing here says how the network does on stimuli it was not fitted to."
        yield "A high similarity on training stimuli can be memory: a large network fits shuffled RDMs too."
        return
    yield from _limits_of_sample(run, run.evaluation)
    yield from _limits_of_design(run, run.evaluation)
    yield "Alike RDMs are not alike mechanisms: many different representations have the same distances."


def _limits_of_sample(run: _Run, evaluation: Evaluation) -> Iterator[str]:
    summary, labels = evaluation.summary, evaluation.labels
    n_subjects, n_stimuli = int(summary["n_subjects"].max()), int(summary["n_stimuli"].max())
    kinds = f" of {len(set(labels.values()))} categories" if labels else ""
    yield f"The scores hold for stimuli like these {n_stimuli}{kinds}; for other kinds of image they say nothing."
    if n_subjects < 2:
        yield "There is one subject: there is no noise ceiling, and nothing says that another subject would agree."
        return
    if n_subjects < _FEW_SUBJECTS:
        yield f"With {n_subjects} subjects, intervals and noise ceiling are rough."
    if run.settings.get("subjects", "all") == "all":
        yield "The subjects scored against are those whose RDMs were fitted: stimuli were held out, subjects were not."


def _limits_of_design(run: _Run, evaluation: Evaluation) -> Iterator[str]:
    summary, scores = evaluation.summary, evaluation.scores
    if scores["seed"].nunique() == 1:
        yield "There is one seed: how much a score depends on initial weights and batches was not measured."
    if summary["low"].notna().any():
        yield "Intervals cover the choice of stimuli and subjects; networks were not refitted for them."
    if scores["fold"].nunique() > 1:
        pairs = int(scores["n_pairs"].median())
        yield f"Only pairs of stimuli that were held out together count: about {pairs} in a fold."
    if not {"folds", "train"} & set(run.settings):
        yield "That these stimuli were held out from fitting is the word of whoever made this evaluation."
    yield from (text for role, text in _WITHOUT.items() if role not in set(summary["role"]))
    if len(_shown_keys(summary)) * len(_comparators(summary)) > 1:
        yield "Intervals are not corrected for the number of students, layers and comparators looked at."


# What was done


def _facts(run: _Run) -> list[tuple[str, str]]:
    """Terms and values; a value that the run does not tell is empty."""
    teacher = ("Teacher", str(run.settings.get("teacher") or ""))
    told = _fit_facts(run) if run.evaluation is None else _evaluation_facts(run, run.evaluation)
    loss = run.fit_options.get("loss")
    lost = {k: v for k, v in loss.items() if k != "kind" and v is not None} if isinstance(loss, Mapping) else {}
    return [teacher, *told, ("Loss", _listed(lost)), ("Fitting", _options(run))]


def _fit_facts(run: _Run) -> list[tuple[str, str]]:
    return [
        ("Layers", _and(map(str, run.settings.get("layers", [])))),
        ("Training stimuli", _count(run.settings.get("train"))),
        ("Validation stimuli", _count(run.settings.get("validation"))),
    ]


def _evaluation_facts(run: _Run, evaluation: Evaluation) -> list[tuple[str, str]]:
    settings, summary, scores = run.settings, evaluation.summary, evaluation.scores
    students, layers, targets = (dict.fromkeys(words) for words in zip(*_shown_keys(summary), strict=True))
    one_out = ", one held out at a time" if settings.get("subjects") == "leave-one-out" else ""
    folds, inner = int(scores["fold"].nunique()), settings.get("inner_folds")
    seeds = sorted(scores["seed"].unique())
    return [
        ("Targets", _and(targets)),
        ("Subjects", f"{int(summary['n_subjects'].max())}{one_out}"),
        ("Students", _and(students)),
        ("Layers", _and(layer for layer in layers if layer)),
        ("Stimuli", _stimuli_words(evaluation)),
        ("Folds", f"{folds} over stimuli" if folds > 1 else "none: one list of held-out stimuli"),
        ("Seeds", f"{len(seeds)} ({_and(map(str, seeds))})"),
        ("Steps chosen by", f"{inner} folds inside the training stimuli" if inner else ""),
    ]


def _stimuli_words(evaluation: Evaluation) -> str:
    conditions, groups = names(evaluation.teacher), _groups(evaluation)
    if not groups:
        return str(len(conditions))
    counts = Counter(groups[name] for name in conditions)
    told = _and([f"{category} ({n})" for category, n in counts.items()], most=12)
    return f"{len(conditions)} in {len(counts)} categories: {told}"


def _options(run: _Run) -> str:
    return _listed({key: value for key, value in run.fit_options.items() if key != "loss"})


def _methods(run: _Run) -> Iterator[str]:
    """Text for a supplement; what the settings do not say is not said."""
    teacher = f" of {run.settings['teacher']}" if run.settings.get("teacher") else ""
    measure = f" Student RDMs were made with {_measure_words(run.dissimilarity)}." if run.dissimilarity else ""
    settings = f" Settings: {_options(run)}." if _options(run) else ""
    yield (
        f"Networks were fitted to representational dissimilarity matrices (RDMs){teacher} by representational distance "
        "learning (McClure & Kriegeskorte, 2016): the weights of the network were changed by stochastic gradient "
        f"descent so that the RDM of a layer approached the target RDM.{measure}{settings}"
    )
    if run.evaluation is not None:
        yield _design_text(run, run.evaluation)
        yield _score_text(run.evaluation.summary)
        yield _inference_text(run, run.evaluation)
        yield _controls_text(run.evaluation.summary)
    yield _software_text(run)


def _design_text(run: _Run, evaluation: Evaluation) -> str:
    scores, settings, n = evaluation.scores, run.settings, len(names(evaluation.teacher))
    folds, seeds, inner = scores["fold"].nunique(), scores["seed"].nunique(), settings.get("inner_folds")
    if folds < 2:
        return f"The network was scored on {n} stimuli that were given as held out; all pairs among them count."
    spread = ", categories spread evenly over folds" if settings.get("stratify") and evaluation.labels else ""
    told = [
        f"The {n} stimuli were divided into {folds} folds{spread}.",
        "Each fold was held out once while the network was fitted to the others.",
        "Only pairs of stimuli held out together were scored.",
    ]
    if settings.get("subjects") == "leave-one-out":
        told += ["One subject at a time was held out as well, and scores are against that subject alone."]
    if inner:
        told += [f"The number of steps was chosen by {inner}-fold cross-validation inside each training set."]
    if seeds > 1:
        told += [f"The whole procedure was repeated with {seeds} seeds (folds, initial weights and batches)."]
    return " ".join(told)


_SCORED = {
    "subjects": "Student RDMs were compared with the RDM of each subject, and the scores averaged; the noise ceiling "
    "of these scores (Nili et al., 2014) is the mean similarity of each subject’s RDM with the pooled RDM of the "
    "others (lower bound) and of all subjects (upper bound).",
    "mean": "Student RDMs were compared with the mean RDM of the subjects; the ceiling of these scores is the "
    "reliability of that mean, the square root of the Spearman-Brown prediction from the mean similarity between two "
    "subjects.",
}


def _score_text(summary: pd.DataFrame) -> str:
    similarity = _and([plot.similarity_label(name) for name in _comparators(summary)])
    told = [text for against, text in _SCORED.items() if against in set(summary["against"])]
    apart = ["The two kinds of score and ceiling are not interchangeable."] if len(told) > 1 else []
    return " ".join([f"RDMs were compared by {similarity}.", *told, *apart])


def _inference_text(run: _Run, evaluation: Evaluation) -> str:
    n_bootstrap = run.settings.get("n_bootstrap")
    if not n_bootstrap or evaluation.summary["low"].isna().all():
        return ""
    return (
        f"Intervals are 95% intervals from {n_bootstrap} bootstrap resamples of stimuli and subjects, with the "
        "variance correction for the dual bootstrap and a t distribution (Schütt et al., 2023). Folds and seeds share "
        "stimuli and were averaged within each resample. Networks were not refitted."
    )


_COMPARED = {
    "unfitted": "the same network before fitting",
    "permuted": "the same network fitted in the same way to RDMs whose condition names were shuffled among the "
    "training stimuli",
    "category": "models that know only the category of each stimulus (same or different category; where there are "
    "folds also the mean training dissimilarity of each pair of categories)",
    "model": "the model RDMs listed in the table",
}


def _controls_text(summary: pd.DataFrame) -> str:
    present = [text for role, text in _COMPARED.items() if role in set(summary["role"])]
    return f"Scored on the same pairs, for comparison: {'; '.join(present)}." if present else ""


def _software_text(run: _Run) -> str:
    known = dict((run.provenance or provenance()).get("versions", {}))
    used = [f"{name} {known[name]}" for name in ("brainrdl", "torch", "rsatoolbox") if name in known]
    return f"Software: {_and(used)}." if used else ""


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
    kinds = [against for against in _AGAINST if (table["against"] == against).any()]
    n_rows = max(int((table["against"] == against).sum()) for against in kinds) + table["target"].nunique()
    figure = _new_figure(9.4 if len(kinds) > 1 else 6.4, 1.4 + 0.27 * n_rows)
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
        rows = _rows(table, against=against)[:12]
        told = "; ".join(f"{_who(row['student'], row['layer'])} {_number(row['score'])}" for row in rows)
        parts.append(f"{plot.similarity_label(comparator)} with {plot.AGAINST_LABELS[against]}: {told}.")
    return " ".join(parts)


def _scores_caption(kinds: Sequence[str]) -> str:
    told = {
        "subjects": "against single subjects, with the leave-one-subject-out noise ceiling (grey band)",
        "mean": "against the subjects’ mean RDM, with the reliability of that mean (grey line)",
    }
    return f"Scores on held-out stimuli {'; and '.join(told[kind] for kind in kinds)}. Bars are 95% intervals."


def _who(student: str, layer: str) -> str:
    return f"{student} (layer {layer})" if layer else student


def _rdm_drawings(run: _Run, evaluation: Evaluation, key: tuple[str, str, str]) -> Iterator[_Drawing]:
    wanted = dict(zip(("student", "layer", "target"), key, strict=True))
    both = (
        _average(evaluation.students, wanted, run.dissimilarity),
        _average(evaluation.teacher, {"target": key[2]}),
    )
    who, target, groups = _who(*key[:2]), key[2], _groups(evaluation)
    known = float(np.isfinite(both[0].get_vectors() + both[1].get_vectors()).mean())
    if not known:
        return
    shown = f"held-out RDM of {who}, RDM of {target} (mean over subjects), and their difference"
    grey = f"Grey: never held out together ({_percent(1 - known)})."
    share = "All pairs were held out together." if known == 1 else grey
    yield _pair_drawing("rdms", key, both, groups, f"As ranks: {shown}. {share}")
    if known < _SPARSE and groups:
        means = f"Averaged over the pairs of each two categories, number of stimuli in brackets: {shown}, as ranks."
        yield _pair_drawing("categories", key, both, groups, means, cells="groups")
    figure = _new_figure(4.6, 4.1)
    plot.pairs(*both, figure.subplots(), groups)
    caption = f"Dissimilarity of each held-out pair in {who} and in {target}."
    yield _Drawing(f"pairs-{_slug(*key)}", "pairs", figure, f"Scatter plot. {caption}", caption)


def _pair_drawing(
    name: str,
    key: tuple[str, str, str],
    both: tuple[RDMs, RDMs],
    groups: Mapping[str, str] | None,
    caption: str,
    cells: str = "pairs",
) -> _Drawing:
    titles, figure = (", ".join(word for word in key[:2] if word), key[2]), _new_figure(9.4, 3.2)
    plot.rdm_pair(*both, groups, cells=cells, titles=titles, figure=figure)
    return _Drawing(f"{name}-{_slug(*key)}", "rdms", figure, f"Three matrices. {caption}", caption)


def _average(rdms: RDMs, wanted: Mapping[str, str], measure: str = "") -> RDMs:
    """Mean over the RDMs with these descriptors (seeds, left-out subjects), each pair over those that hold it."""
    described = {key: value for key, value in wanted.items() if key in rdms.rdm_descriptors}
    chosen = [all(str(rdms.rdm_descriptors[k][i]) == v for k, v in described.items()) for i in range(rdms.n_rdm)]
    if not any(chosen):
        refuse(f"the evaluation holds no RDM of {quote(wanted.values())}, though its summary has scores of it")
    pairs = to_tensor(rdms, dtype=torch.float64)[torch.tensor(chosen)]
    return from_tensor(pairs.nanmean(0, keepdim=True), names(rdms), measure=measure or rdms.dissimilarity_measure)


def _groups(evaluation: Evaluation) -> dict[str, str] | None:
    labels, conditions = evaluation.labels, names(evaluation.teacher)
    known = labels and all(name in labels for name in conditions)
    return {name: labels[name] for name in conditions} if labels and known else None


def _training_drawings(run: _Run) -> Iterator[_Drawing]:
    histories = run.histories
    if not any(column in histories and histories[column].notna().any() for column in plot.CURVES):
        return
    known = list(dict.fromkeys(histories["student"])) if "student" in histories else []
    fitted = [student for student in known if run.evaluation is None or student in _students(run.evaluation)]
    for student in fitted[:_SHOWN] or [None]:
        figure, label = _new_figure(7.4, 4.0), "RDM correlation (Pearson)"
        plot.history(histories, figure.subplots(), student=student, best_step=run.best_step, similarity=label)
        who = f" of {student}" if student and len(known) > 1 else ""
        caption = f"Training{who}: RDM correlation (mean over layers) and loss. Thin lines are single runs."
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


_COLUMNS = ("comparator", "student", "kind", "layer", "target", "score", "95% interval")
_HEADS = {
    "subjects": ("Against single subjects’ RDMs", "noise ceiling", "share of its lower bound"),
    "mean": ("Against the subjects’ mean RDM", "reliability of the mean", "share of it"),
}
_HELD_CONSTANT = "Against the subjects’ mean RDM, with category and other models held constant"


def _summary_tables(summary: pd.DataFrame) -> Iterator[_Table]:
    """One table for each kind of ceiling, and one for scores that have none."""
    plain = summary["comparator"].isin(_comparators(summary))
    for against, (caption, *more) in _HEADS.items():
        rows = summary[plain & (summary["against"] == against)]
        yield from _table(caption, (*_COLUMNS, *more, "gain by fitting"), rows)
    yield from _table(_HELD_CONSTANT, _COLUMNS, summary[~plain])


def _table(caption: str, columns: Sequence[str], summary: pd.DataFrame) -> Iterator[_Table]:
    """Rows by comparator, then by kind; layer and target only where students differ in them."""
    if summary.empty:
        return
    comparators, kinds = list(dict.fromkeys(summary["comparator"])), list(plot.KINDS)
    records = sorted(_rows(summary), key=lambda row: (comparators.index(row["comparator"]), kinds.index(row["role"])))
    fitted = summary[summary["role"].isin(_FITTED)]
    hidden = {column for column in ("layer", "target") if fitted[column].nunique() < 2}
    shown = [k for k, column in enumerate(columns) if column not in hidden]
    rows = [_summary_row(record) for record in records]
    yield _Table(caption, [columns[k] for k in shown], [[row[k] for k in shown] for row in rows])


def _summary_row(row: Mapping[str, Any]) -> list[str]:
    gain = float(row.get("gain", np.nan))
    gained = {"low": row.get("gain_low", np.nan), "high": row.get("gain_high", np.nan)}
    low, high = row["ceiling_lower"], row["ceiling_upper"]
    return [
        plot.similarity_label(str(row["comparator"])),
        str(row["student"]),
        plot.KINDS[row["role"]],
        str(row["layer"]),
        str(row["target"]),
        _number(row["score"]),
        _range(row),
        _number(low) if low == high else _range({"low": low, "high": high}),
        _percent(row["share"]),
        f"{_number(gain)} ({_range(gained)})" if math.isfinite(gain) else "–",
    ]


def _cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    def show(value: object) -> str:
        return _number(value, 3) if isinstance(value, float) else str(value)

    return [str(column) for column in table.columns], [[show(v) for v in row] for row in table.itertuples(index=False)]


def _provenance_rows(run: _Run) -> list[tuple[str, str]]:
    note = ("note", "the run kept no provenance; what follows is of the session that wrote this page")
    rows = _flat(run.provenance) if run.provenance else [note, *_flat(provenance())]
    if run.evaluation is not None:
        pairs = to_tensor(run.evaluation.teacher, dtype=torch.float64)
        rows += [("hashes: mean RDMs of the teacher (SHA-256)", digest({"rdms": pairs}))]
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
    return f"{_number(100 * float(value), 0)}%" if math.isfinite(float(value)) else "–"


def _range(row: Mapping[str, Any]) -> str:
    known = math.isfinite(float(row["low"])) and math.isfinite(float(row["high"]))
    return f"{_number(row['low'])} to {_number(row['high'])}" if known else "–"


def _interval(row: Mapping[str, Any]) -> str:
    told = _range(row)
    return "no interval" if told == "–" else f"95% interval {told}"


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
