"""The model card of an exported model: what it is, how to load it, how it scored, and what the scores do not show.

A card is Markdown with a YAML header, as the Hugging Face hub expects it. Its sentences are those of the report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from brainrdl._core.rows import Against
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.reporting.methods import facts_of, references_of
from brainrdl.reporting.page import _open
from brainrdl.reporting.run import Run, comparators_of, is_fitted, kinds_of, rows_of
from brainrdl.reporting.tables import Table, provenance_rows, summary_tables
from brainrdl.reporting.wording import and_joined, fit_headline, headlines, limits_of, number, span
from brainrdl.runs.finished_fits import FitResult
from brainrdl.similarity.comparators import label_of

_TAGS = ("brainrdl", "neuroscience", "representational-similarity-analysis", "representational-distance-learning")

_LOADED = {
    "constructor": "`load.py` builds the network with the constructor of its package and loads `model.safetensors`.",
    "program": "`load.py` loads the program `model.pt2`, because no package is known that builds this network. It was "
    "written by torch {torch}; torch does not promise that later versions can read it. With code of the network, the "
    "weights in `model.safetensors` (those of the network begin with `network.`) fit `Model` of `plain_model.py`.",
}

_NO_PROGRAM = "There is no program `model.pt2`, because `torch.export` cannot convert this network: {problem}"

_FOLDS = (
    "**These are not scores of the model in this folder, but of the procedure that made it.** Other students were "
    "fitted in the same way to a part of the stimuli, and scored on the stimuli that were held out. Then the model in "
    "this folder was fitted to all {n} stimuli in {steps} steps, the median of the steps that led to the students of "
    "the folds. It has no held-out score itself."
)


def card_of(
    source: FitResult | Path,
    facts: Mapping[str, Any],
    *,
    name: str,
    fit: Path | None = None,
    elsewhere: Evaluation | None = None,
) -> str:
    """Return the text of a model card.

    Parameters
    ----------
    source : FitResult or path
        The result or run folder that the model comes from.
    facts : mapping
        What was exported: ``licence``, ``config``, ``files`` with their SHA-256, ``weights`` (SHA-256), ``loads_by``
        and ``without_program``, see `brainrdl.sharing.export`.
    name : str
        Name of the model.
    fit : path, optional
        Folder of the fit, if it is not that of the run.
    elsewhere : Evaluation, optional
        Scores on other images.

    Returns
    -------
    str
        Markdown with a YAML header.

    Examples
    --------
    >>> import pandas as pd, torch
    >>> from brainrdl import FitResult, Student
    >>> student = Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> fitted = FitResult(student, pd.DataFrame({"step": [0], "train_similarity": [0.2]}), best_step=0)
    >>> config = {"torch": "2", "brainrdl": "0", "layers": {"0": {}}, "dissimilarity": "correlation"}
    >>> facts = {"licence": "mit", "config": config, "files": {}, "weights": "ab", "loads_by": "program"}
    >>> card_of(fitted, facts, name="example").splitlines()[:2]
    ['---', 'license: mit']
    """
    run, of_fit = _open(source), _open(source if fit is None else fit)
    other = None if elsewhere is None else _open(elsewhere)
    header = yaml.safe_dump(_header(name, facts, run, other), sort_keys=False, allow_unicode=True)
    parts = [f"---\n{header}---", f"# {name}", *_intro(run, facts), *_scores(run, of_fit)]
    parts += _scores_elsewhere(other) if other else []
    parts += ["## What the scores do not show", _bullets([*limits_of(run)])]
    parts += ["## Data and training", _bullets(f"{term}: {value}" for term, value in _facts(run, of_fit))]
    parts += ["## Licence", _licence(facts), "## Files", _files(facts), "## References", _references(run)]
    return "\n\n".join(parts) + "\n"


def _header(name: str, facts: Mapping[str, Any], run: Run, other: Run | None) -> dict[str, Any]:
    header: dict[str, Any] = {"license": facts["licence"], "library_name": "pytorch"}
    header |= {"pipeline_tag": "image-feature-extraction", "tags": list(_TAGS)}
    results = [_result(one, where) for one, where in ((run, "held-out stimuli"), (other, "other stimuli")) if one]
    listed = [result for result in results if result["metrics"]]
    return header | ({"model-index": [{"name": name, "results": listed}]} if listed else {})


def _result(run: Run, where: str) -> dict[str, Any]:
    teacher = str(run.settings.get("teacher") or "RDMs")
    return {
        "task": {"type": "image-feature-extraction", "name": "Similarity of RDMs"},
        "dataset": {"name": f"{teacher}, {where}", "type": teacher},
        "metrics": list(_metrics(run)),
    }


def _metrics(run: Run) -> Iterator[dict[str, Any]]:
    if run.evaluation is None:
        return
    summary = run.evaluation.summary
    shown = summary["comparator"].isin(comparators_of(summary)) & summary["against"].isin(kinds_of(summary))
    for row in rows_of(summary[is_fitted(summary) & shown]):
        if math.isfinite(row["score"]):
            yield {"type": row["comparator"], "value": round(float(row["score"]), 4), "name": _metric(row)}


def _metric(row: Mapping[str, Any]) -> str:
    what = (
        f"{label_of(row['comparator'])} of layer {row['layer']} with {Against(row['against']).label} of {row['target']}"
    )
    return f"{what} (95% interval {span(row['low'], row['high'])}; ceiling {number(row['ceiling'])})"


def _intro(run: Run, facts: Mapping[str, Any]) -> Iterator[str]:
    config, teacher = facts["config"], run.settings.get("teacher")
    of = f"the representational dissimilarity matrices (RDMs) of “{teacher}”" if teacher else "brain RDMs"
    yield (
        f"A network that was fitted to {of} with [brainrdl](https://doi.org/10.3389/fncom.2016.00131) "
        f"{config['brainrdl']}. For each image it gives one pattern at {_layers(config['layers'])}; dissimilarities of "
        f"patterns ({config['dissimilarity'] or 'of a kind that was not recorded'}) make its RDM."
    )
    if run.settings.get("simulated"):
        yield "**The teacher’s RDMs are simulated: they were computed by a program, not measured in a brain.**"
    yield "## Use"
    yield (
        "In this folder, with torch, torchvision and safetensors installed (brainrdl is not needed):\n\n```python\n"
        'from PIL import Image\n\nfrom load import model, transform\n\nimage = Image.open("image.jpg").convert("RGB")\n'
        "patterns = model(transform(image)[None])  # {layer: tensor of shape (1, n_channels)}\n```"
    )
    yield _LOADED[facts["loads_by"]].format(torch=config["torch"])
    if problem := facts.get("without_program"):
        yield _NO_PROGRAM.format(problem=problem)


def _layers(layers: Iterable[str]) -> str:
    listed = [f"`{layer}`" for layer in layers]
    return f"layer{'s' if len(listed) > 1 else ''} {and_joined(listed)}"


def _scores(run: Run, of_fit: Run) -> Iterator[str]:
    yield "## Scores"
    if run.evaluation is None:
        yield fit_headline(run)
        return
    yield _FOLDS.format(n=len(of_fit.settings["train"]), steps=of_fit.settings["steps"])
    yield from headlines(run, run.evaluation)
    yield from map(_markdown, summary_tables(run.evaluation.summary))


def _scores_elsewhere(other: Run) -> Iterator[str]:
    if other.evaluation is None:
        return
    yield "## Scores on other images"
    yield from headlines(other, other.evaluation)
    yield from map(_markdown, summary_tables(other.evaluation.summary))
    yield _bullets(limits_of(other))


def _markdown(table: Table) -> str:
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return f"{table.caption}:\n\n" + "\n".join(lines)


def _facts(run: Run, of_fit: Run) -> list[tuple[str, str]]:
    told = {term: value for term, value in facts_of(run) if value}
    if run.evaluation is not None:
        told |= {"Final fit": f"{len(of_fit.settings.get('train', ()))} stimuli, seed {of_fit.settings.get('seed')}"}
    return [*told.items(), *provenance_rows(of_fit)]


def _licence(facts: Mapping[str, Any]) -> str:
    chosen = (
        "The licence of this model is not stated: set `license` above before you share it."
        if facts["licence"] == "unknown"
        else f"This model is shared under the licence `{facts['licence']}`."
    )
    return (
        f"{chosen} The network’s first weights, the images and the brain data may have other licences, which may limit "
        "how a model that was made from them can be shared."
    )


def _files(facts: Mapping[str, Any]) -> str:
    rows = [f"| `{name}` | `{digest}` |" for name, digest in facts["files"].items()]
    table = "\n".join(["| file | SHA-256 |", "| --- | --- |", *rows])
    return f"{table}\n\nSHA-256 of names and values of the weights: `{facts['weights']}`."


def _references(run: Run) -> str:
    return _bullets(f"{one.entry} doi:[{one.doi}](https://doi.org/{one.doi})" for one in references_of(run))


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
