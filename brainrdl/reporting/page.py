"""One self-contained HTML page about a run: what was found, how, and what it cannot show.

Every sentence is computed from the tables of the run. A score against single subjects is reported with the
leave-one-subject-out noise ceiling, a score against the mean RDM with the ceiling for the mean RDM. The page loads
nothing: figures are embedded, and its content security policy forbids all other sources.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainrdl._core.constants import FINAL
from brainrdl._core.errors import arg, refuse
from brainrdl._core.files import atomic, read_json
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.reporting.drawings import Drawing, Section, drawings_of
from brainrdl.reporting.methods import facts_of, methods_of, references_of
from brainrdl.reporting.run import Run, students_of
from brainrdl.reporting.tables import Table, cells, contrast_tables, provenance_rows, summary_tables
from brainrdl.reporting.wording import and_joined, fit_headline, headlines, limits_of
from brainrdl.runs.provenance import describe
from brainrdl.runs.run_folder import HISTORY, PROVENANCE, SETTINGS, WEIGHTS, FitResult, read_history

if TYPE_CHECKING:
    from matplotlib.figure import Figure
PAGE = "report.html"

_PIXELS_PER_INCH = 100  # of the page; images have twice as many


def report(source: Evaluation | FitResult | Path | str, out: Path | str | None = None) -> Path:
    """Write one self-contained HTML page about an evaluation, a fit, or a saved result of `brainrdl.rsa`.

    Parameters
    ----------
    source : Evaluation, FitResult, or path
        What to report: a result, or the folder in which it was saved.
    out : path, optional
        File name of the page, or a folder for it; by default ``report.html`` in the run folder.

    Returns
    -------
    Path
        The page. It is written completely or not at all, and can be read without a network connection.

    Raises
    ------
    BrainrdlError
        If the source is of another type, the folder has no finished run, or there is neither a run folder nor `out`.

    Examples
    --------
    >>> import pathlib, tempfile, torch
    >>> from brainrdl import RDMTeacher, Stimuli, Student, evaluate, rdms, report
    >>> conditions = list("abcdef")
    >>> teacher = RDMTeacher(rdms.from_array(torch.rand(3, 15).numpy(), conditions), subject_by="index")
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8)), ["1"])
    >>> stimuli = Stimuli.from_arrays(torch.rand(6, 1, 4, 4), conditions)
    >>> page = report(evaluate(student, teacher, stimuli), pathlib.Path(tempfile.mkdtemp()))
    >>> page.name, page.read_text(encoding="utf-8")[:15]
    ('report.html', '<!doctype html>')
    """
    if isinstance(source, (str, Path)) and (Path(source) / "rsa.json").exists():
        from brainrdl.reporting.rsa_page import write_rsa_page  # it needs the functions below

        return write_rsa_page(Path(source), out)
    run = _open(source)
    path = _where(run, out)
    text = render(_page(run))
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def figures(source: Evaluation | FitResult | Path | str) -> dict[str, Figure]:
    """Draw the figures of the report, to save or change them one by one.

    Parameters
    ----------
    source : Evaluation, FitResult, or path
        As in `report`.

    Returns
    -------
    dict of str to Figure
        Figures by name; the names can be used as file names.

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
        last = folder / FINAL
        final = read_json(last / SETTINGS) if (last / WEIGHTS).exists() else None
        return Run(evaluation, evaluation.histories, settings=settings, provenance=facts, folder=folder, final=final)
    if (folder / HISTORY).exists():
        return Run(None, read_history(folder), None, stored or {}, facts, folder)
    refuse(f"{str(folder)!r} is not a folder of a finished run: it has neither evaluation.json nor {HISTORY}")


def _where(run: Run, out: Path | str | None) -> Path:
    path = run.folder if out is None else Path(out)
    if path is None:
        refuse(f"this run has no folder; give a file for the page, for example {arg('out', 'report.html')}")
    return path / PAGE if path.is_dir() else path


# The page


def _page(run: Run) -> dict[str, Any]:
    drawings = list(drawings_of(run))
    page = {
        "title": _page_title(run),
        "simulated": bool(run.settings.get("simulated")),
        "cannot": list(limits_of(run)),
        "facts": [fact for fact in facts_of(run) if fact[1]],
        "figures": {one: [embed(drawing) for drawing in drawings if drawing.section == one] for one in Section},
        "methods": [part for part in methods_of(run) if part],
        "references": references_of(run),
        "provenance": provenance_rows(run),
        "settings": json.dumps(describe(run.settings), indent=2, ensure_ascii=False),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if run.evaluation is None:
        return page | {"headline": [fit_headline(run)], "tables": {}, "scores": None, "csv": None}
    summary, scores = run.evaluation.summary, run.evaluation.scores
    return page | {
        "headline": list(headlines(run, run.evaluation)),
        "tables": {Section.SCORES: [*summary_tables(summary), *contrast_tables(run.evaluation.contrasts, summary)]},
        "scores": Table("All scores: one row per student, fold, seed and subject", *cells(scores)),
        "csv": base64.b64encode(scores.to_csv(index=False).encode()).decode(),
    }


def _page_title(run: Run) -> str:
    if run.evaluation is None:
        return "How did the fit go?"
    name, students = run.settings.get("teacher"), students_of(run.evaluation.summary)
    targets = list(dict.fromkeys(run.evaluation.summary["target"]))
    of = f"{and_joined(targets)} of " if len(targets) > 1 else ""
    teacher = f"“{name}”" if name else "the teacher"  # quotes: a file called "it" would read as a pronoun
    return f"How close did {and_joined(students) if len(students) > 1 else 'the network'} get to {of}{teacher}?"


def render(page: Mapping[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("brainrdl.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(page)


def embed(drawing: Drawing) -> dict[str, Any]:
    narrow = _image(drawing.narrow) if drawing.narrow else None
    return {**_image(drawing.figure), "alt": drawing.alt, "caption": drawing.caption, "narrow": narrow}


def _image(figure: Figure) -> dict[str, Any]:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=2 * _PIXELS_PER_INCH, metadata={"Software": None})
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    width, height = (round(inches * _PIXELS_PER_INCH) for inches in figure.get_size_inches())
    return {"src": source, "width": width, "height": height}
