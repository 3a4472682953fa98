"""One self-contained HTML page about a run: what was found, how, and what it cannot show.

Every sentence is computed from the tables of the run. Like is compared with like: a score against single subjects
stands beside the leave-one-subject-out noise ceiling, a score against the mean RDM beside the reliability of that mean.
The page loads nothing: figures are inside it, and its own security policy forbids every other source.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainrdl._core.errors import arg, refuse
from brainrdl._core.files import atomic, read_csv, read_json
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.reporting.drawings import Drawing, drawings_of
from brainrdl.reporting.methods import REFERENCES, facts_of, methods_of
from brainrdl.reporting.run import Run, students_of
from brainrdl.reporting.tables import Table, cells, provenance_rows, summary_tables
from brainrdl.reporting.wording import and_joined, fit_headline, headlines, limits_of
from brainrdl.training.provenance import describe
from brainrdl.training.run_folder import HISTORY, PROVENANCE, SETTINGS, FitResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure
PAGE = "report.html"

_PIXELS_PER_INCH = 100  # of the page; images hold twice as many

_SECTIONS = ("scores", "rdms", "training", "pairs")


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
    return {drawing.name: drawing.figure for drawing in drawings_of(_open(source))}


# What is reported


def _open(source: Evaluation | FitResult | Path | str) -> Run:
    if isinstance(source, (str, Path)):
        return _read(Path(source))
    if isinstance(source, Evaluation):
        return Run(source, source.histories, settings=describe(source.settings))
    if isinstance(source, FitResult):
        settings = describe(source.settings)
        return Run(None, source.history, source.best_step, settings, source.provenance, source.path)
    refuse(f"a report needs an Evaluation, a FitResult or a run folder, got {type(source).__name__}")


def _read(folder: Path) -> Run:
    paths = (folder / SETTINGS, folder / PROVENANCE)
    stored, facts = (read_json(path) if path.exists() else None for path in paths)
    if (folder / "evaluation.json").exists():
        evaluation = Evaluation.load(folder)
        settings = (stored or {}) | describe(evaluation.settings)
        return Run(evaluation, evaluation.histories, settings=settings, provenance=facts, folder=folder)
    if (folder / HISTORY).exists():
        return Run(None, read_csv(folder / HISTORY), None, stored or {}, facts, folder)
    refuse(f"{str(folder)!r} holds no finished run: neither evaluation.json nor {HISTORY} is there")


def _where(run: Run, out: Path | str | None) -> Path:
    path = run.folder if out is None else Path(out)
    if path is None:
        refuse(f"this run has no folder of its own; say where the page goes, for example {arg('out', 'report.html')}")
    return path / PAGE if path.is_dir() else path


# The page


def _page(run: Run) -> dict[str, Any]:
    drawings = list(drawings_of(run))
    page = {
        "title": _page_title(run),
        "simulated": bool(run.settings.get("simulated")),
        "cannot": list(limits_of(run)),
        "facts": [fact for fact in facts_of(run) if fact[1]],
        "figures": {name: [_embed(one) for one in drawings if one.section == name] for name in _SECTIONS},
        "methods": [part for part in methods_of(run) if part],
        "references": REFERENCES if run.evaluation is not None else REFERENCES[:1],
        "provenance": provenance_rows(run),
        "settings": json.dumps(describe(run.settings), indent=2, ensure_ascii=False),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if run.evaluation is None:
        return page | {"headline": [fit_headline(run)], "tables": [], "scores": None, "csv": None}
    summary, scores = run.evaluation.summary, run.evaluation.scores
    return page | {
        "headline": list(headlines(run.evaluation)),
        "tables": list(summary_tables(summary)),
        "scores": Table("Every score: one row per student, fold, seed and subject", *cells(scores)),
        "csv": base64.b64encode(scores.to_csv(index=False).encode()).decode(),
    }


def _page_title(run: Run) -> str:
    if run.evaluation is None:
        return "How did the fit go?"
    name, students = run.settings.get("teacher"), students_of(run.evaluation.summary)
    targets = list(dict.fromkeys(run.evaluation.summary["target"]))
    of = f"{and_joined(targets)} of " if len(targets) > 1 else ""
    teacher = f"“{name}”" if name else "the teacher"  # quoted: a file called "it" would read as a pronoun
    return f"How close did {and_joined(students) if len(students) > 1 else 'the network'} get to {of}{teacher}?"


def _render(page: Mapping[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("brainrdl.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(page)


def _embed(drawing: Drawing) -> dict[str, Any]:
    buffer = io.BytesIO()
    drawing.figure.savefig(buffer, format="png", dpi=2 * _PIXELS_PER_INCH, metadata={"Software": None})
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    width, height = (round(inches * _PIXELS_PER_INCH) for inches in drawing.figure.get_size_inches())
    return {"src": source, "width": width, "height": height, "alt": drawing.alt, "caption": drawing.caption}
