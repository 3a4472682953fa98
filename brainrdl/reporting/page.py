"""One self-contained HTML page about a run: what was found, how, and what it cannot show.

Every sentence is computed from the tables of the run. A score against single subjects is reported with the
leave-one-subject-out noise ceiling, a score against the mean RDM with the ceiling for the mean RDM.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainrdl._core.constants import FINAL
from brainrdl._core.errors import arg, check_unique, quote, refuse
from brainrdl._core.files import read_json
from brainrdl._core.garbage import short_collections
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.inference.movies import TimeCourses
from brainrdl.reporting.drawings import Drawing, Section, drawings_of
from brainrdl.reporting.frame import PAGE, Block, Page, write_page
from brainrdl.reporting.methods import facts_of, methods_of, references_of
from brainrdl.reporting.movie_page import movie_drawings, page_of_movie
from brainrdl.reporting.rsa_figures import rsa_drawings
from brainrdl.reporting.rsa_page import page_of_rsa
from brainrdl.reporting.rsa_source import RSA, RSA_FACTS, RSATables
from brainrdl.reporting.run import Run, students_of
from brainrdl.reporting.side_by_side import page_of_several
from brainrdl.reporting.tables import contrast_tables, long_table, provenance_rows, subject_table, summary_tables
from brainrdl.reporting.wording import and_joined, fit_headline, headlines, limits_of
from brainrdl.runs.finished_fits import FitResult, read_history
from brainrdl.runs.provenance import describe, gather_provenance
from brainrdl.runs.run_folder import HISTORY, PROVENANCE, SETTINGS, WEIGHTS
from brainrdl.stimuli.named_images import Stimuli

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Source = Evaluation | FitResult | TimeCourses | RSATables | Path | str


@short_collections()
def report(
    source: Source | Sequence[Source] | Mapping[str, Source],
    out: Path | str | None = None,
    *,
    title: str | None = None,
    stimuli: Stimuli | Path | str | None = None,
    progress: bool = True,
) -> Path:
    """Write one self-contained HTML page about a run, an evaluation, a plain RSA or an RDM movie, or about several.

    Parameters
    ----------
    source : Evaluation, FitResult, RSAResult, TimeCourses, path, or several
        What to report: a result, or the folder in which it was saved by `fit`, `cross_validate`, ``Evaluation.save``,
        ``RSAResult.save``, `brainrdl fit`, `brainrdl evaluate` or `brainrdl rsa`. Several evaluations and RSAs, in a
        sequence or a mapping of name to source, are shown side by side.
    out : path, optional
        File name of the page, or a folder for it; by default ``report.html`` in the run folder.
    title : str, optional
        Title of the page; by default the question that it answers.
    stimuli : Stimuli or path, optional
        Images of the conditions, or their folder, to show small next to the values of RDMs; for a run also on a map of
        how fitting moved them (if all pairs were held out together), and for the pairs that fit worst. The images
        become part of the page: make sure that their licence lets you share it.
    progress : bool
        Show progress and the time left on stderr if it takes longer than two seconds.

    Returns
    -------
    Path
        The page. It is written completely or not at all, and can be read without a network connection.

    Raises
    ------
    BrainrdlError
        If the source is of another type, a folder has no finished run, or there is neither a run folder nor `out`.

    Examples
    --------
    >>> import pathlib, tempfile, torch
    >>> from brainrdl import RDMTeacher, Stimuli, Student, evaluate, rdms, report
    >>> conditions = list("abcdef")
    >>> teacher = RDMTeacher(rdms.from_array(torch.rand(3, 15).numpy(), conditions), subject_by="index")
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8)), ["1"])
    >>> stimuli = Stimuli.from_arrays(torch.rand(6, 1, 4, 4), conditions)
    >>> page = report(evaluate(student, teacher, stimuli), pathlib.Path(tempfile.mkdtemp()), title="Six random images")
    >>> page.name, "<h1>Six random images</h1>" in page.read_text(encoding="utf-8")
    ('report.html', True)
    """
    images = Stimuli.from_folder(stimuli) if isinstance(stimuli, (str, Path)) else stimuli
    opened = {name: open_source(one) for name, one in _listed(source)}
    (first, *others) = opened.values()
    folder = None if others or isinstance(first, TimeCourses) else first.folder
    path = _where(folder, out)
    return write_page(
        page_of_several(opened, title) if others else _page(first, title, images), path, images, progress=progress
    )


def _listed(source: Source | Sequence[Source] | Mapping[str, Source]) -> Iterator[tuple[str, Source]]:
    if isinstance(source, Mapping):
        yield from source.items()
    elif isinstance(source, Sequence) and not isinstance(source, str):
        yield from _named(source)
    else:
        yield "", source


def _named(sources: Sequence[Source]) -> Iterator[tuple[str, Source]]:
    """Name folders by the parts of their paths in which they differ, other sources by their number."""
    paths = [Path(one).resolve() if isinstance(one, (str, Path)) else None for one in sources]
    check_unique([str(path) for path in paths if path], "the folders to report")
    if not paths:
        refuse("there is nothing to report; give at least one result or folder")
    short = [path.name if path else f"run {k}" for k, path in enumerate(paths, 1)]
    for one, path, name in zip(sources, paths, short, strict=True):
        yield (str(Path(*path.parts[-2:])) if path and short.count(name) > 1 else name), one


def _page(opened: Run | RSA | TimeCourses, title: str | None, stimuli: Stimuli | None) -> Page:
    if isinstance(opened, TimeCourses):
        return page_of_movie(opened, title)
    return page_of(replace(opened, stimuli=stimuli), title) if isinstance(opened, Run) else page_of_rsa(opened, title)


def open_source(source: Source) -> Run | RSA | TimeCourses:
    """Recognise what a source is, and read it."""
    if isinstance(source, (str, Path)) and (Path(source) / RSA_FACTS).exists():
        return RSA.read(Path(source))
    if isinstance(source, TimeCourses):
        return source
    return RSA.of(source) if isinstance(source, RSATables) else _open(source)


def figures(source: Source) -> dict[str, Figure]:
    """Draw the figures of the report, to save or change them one by one.

    Parameters
    ----------
    source : Evaluation, FitResult, RSAResult, TimeCourses, or path
        As in `report`, but only one.

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
    opened = open_source(source)
    if isinstance(opened, TimeCourses):
        return {drawing.name: drawing.figure for drawing in movie_drawings(opened)}
    drawings = drawings_of(opened) if isinstance(opened, Run) else rsa_drawings(opened)
    return {drawing.name: drawing.figure for drawing in drawings}


# What is reported


def _open(source: Any) -> Run:
    if isinstance(source, (str, Path)):
        return _read(Path(source))
    if isinstance(source, Evaluation):
        return Run(source, source.histories, settings=describe(source.settings))
    if isinstance(source, FitResult):
        settings = describe(source.settings)
        device = source.provenance.get("device")
        devices = (str(device),) if device else ()
        return Run(
            None, source.history, source.best_step, settings, source.provenance, source.path, devices=devices
        )  # fmt: skip
    refuse(
        "a report needs an Evaluation, a FitResult or a run folder, an RSAResult, TimeCourses, or several of them; got "
        f"{type(source).__name__}"
    )


def _read(folder: Path) -> Run:
    paths = (folder / SETTINGS, folder / PROVENANCE)
    stored, facts = (read_json(path) if path.exists() else None for path in paths)
    if (folder / "evaluation.json").exists():
        evaluation = Evaluation.load(folder)
        settings = (stored or {}) | describe(evaluation.settings)
        last = folder / FINAL
        final = read_json(last / SETTINGS) if (last / WEIGHTS).exists() else None
        recorded, devices = _recorded(folder)
        return Run(
            evaluation, evaluation.histories, settings=settings, provenance=facts, folder=folder, final=final,
            recorded=recorded, devices=devices,
        )  # fmt: skip
    if (folder / HISTORY).exists():
        device = (facts or {}).get("device")
        return Run(None, read_history(folder), None, stored or {}, facts, folder, devices=(device,) if device else ())
    inside = [path.parent.name for path in sorted(folder.glob("*/evaluation.json"))] if folder.is_dir() else []
    hint = f"; there are runs in it, {quote(inside)}: give these" if inside else ""
    refuse(
        f"{str(folder)!r} is not a folder of a finished run: it has neither evaluation.json nor {HISTORY}, nor the "
        f"{RSA_FACTS} of a plain RSA{hint}"
    )


def _recorded(folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Options that the fits of a cross-validation share, and the devices they used."""
    fits = [path.parent for path in sorted(folder.glob(f"fits/*/{WEIGHTS}"))]
    options = [read_json(fit / SETTINGS) for fit in fits if (fit / SETTINGS).exists()]
    devices = [read_json(fit / PROVENANCE).get("device") for fit in fits if (fit / PROVENANCE).exists()]
    first = options[0] if options else {}
    shared = {key: value for key, value in first.items() if all(one.get(key) == value for one in options)}
    return shared, tuple(dict.fromkeys(str(device) for device in devices if device))


def _where(folder: Path | None, out: Path | str | None) -> Path:
    path = folder if out is None else Path(out)
    if path is None:
        refuse(f"this run has no folder; give a file for the page, for example {arg('out', 'report.html')}")
    return path / PAGE if path.is_dir() else path


# The page of a run


def page_of(run: Run, title: str | None = None, drawings: Iterable[Drawing] | None = None) -> Page:
    """Compose the page of an evaluation or a fit, with other drawings if they are given."""
    drawings = list(drawings_of(run) if drawings is None else drawings)
    shared: dict[str, Any] = {
        "title": title,
        "question": _page_title(run),
        "methods": [part for part in methods_of(run) if part],
        "references": references_of(run),
        "caveats": list(limits_of(run)),
        "facts": [fact for fact in facts_of(run) if fact[1]],
        "provenance": provenance_rows(run),
        "settings": {"All settings": json.dumps(describe(run.settings), indent=2, ensure_ascii=False)},
        "versions": (run.provenance or gather_provenance()).get("versions", {}),
        "simulated": bool(run.settings.get("simulated")),
    }
    if run.evaluation is None:
        return Page(answer=[fit_headline(run)], blocks=list(_blocks(drawings)), **shared)
    answer = list(headlines(run, run.evaluation))
    return Page(answer=answer, blocks=list(_blocks(drawings, run.evaluation)), **shared)


def _blocks(drawings: Sequence[Drawing], evaluation: Evaluation | None = None) -> Iterator[Block]:
    """Give the sections that have figures; the tables are in the section of the scores."""
    for section in Section:
        own = [drawing for drawing in drawings if drawing.section == section]
        if section == Section.SCORES and evaluation is not None:
            summary, scores = evaluation.summary, evaluation.scores
            tables = [*summary_tables(summary), *contrast_tables(evaluation.contrasts, summary)]
            folded = [*subject_table(scores), long_table("All scores", scores, "scores.csv")]
            yield Block(section.heading, own, tables, folded, section.value)
        elif own:
            yield Block(section.heading, own, kind=section.value)


def _page_title(run: Run) -> str:
    if run.evaluation is None:
        return "How did the fit go?"
    name, students = run.settings.get("teacher"), students_of(run.evaluation.summary)
    targets = list(dict.fromkeys(run.evaluation.summary["target"]))
    of = f"{and_joined(targets)} of " if len(targets) > 1 else ""
    teacher = f"“{name}”" if name else "the teacher"  # quotes: a file called "it" would read as a pronoun
    return f"How close did {and_joined(students) if len(students) > 1 else 'the network'} get to {of}{teacher}?"
