"""The command `brainrdl rsa`: models compared with RDMs, without fitting anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from brainrdl._core.errors import about, refuse
from brainrdl._core.rows import Against
from brainrdl.cli.common import (
    AsJson,
    AverageOver,
    Comparators,
    Names,
    Overwrite,
    Quiet,
    ReadOptions,
    SubjectBy,
    Subjects,
    Targets,
    check_files,
    console,
    print_json,
    print_table,
    read_options,
    say_where,
)
from brainrdl.cli.completion import complete, dissimilarities
from brainrdl.cli.rdm_files import chosen, read_rdms

if TYPE_CHECKING:
    import pandas as pd

    from brainrdl.analysis.rsa_result import RSAResult
RSA_EXAMPLES = (
    "Examples:\n\nbrainrdl rsa pixels.h5 categories.h5 --data it.h5 --out runs/rsa\n\n"
    "brainrdl rsa resnet18:layer1,layer2,layer3 --weights DEFAULT --data it.h5 --stimuli images/ --out runs/rsa\n\n"
    "brainrdl rsa runs/it gist.h5 --data other_subjects.h5 --stimuli images/ -c corr --json"
)

_SHOWN = 20  # rows of a printed table; the files have all


def rsa(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Files of RDMs, run folders of `brainrdl fit`, or networks with layers (resnet18:layer1,layer4)."
        ),
    ],
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="RDMs of the brain to compare with.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Write tables, figures and a report into this folder."),
    ] = None,
    stimuli: Annotated[
        Path | None, typer.Option("--stimuli", metavar="FOLDER", help="Folder of images; needed for networks.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="WEIGHTS",
            help="Weights of networks: DEFAULT (trained), a name, a file, or random.",
        ),
    ] = None,
    comparators: Comparators = [],  # noqa: B006
    dissimilarity: Annotated[
        str | None,
        typer.Option(
            "--dissimilarity",
            "-d",
            metavar="NAME",
            help="Dissimilarity of networks; correlation by default, for a run folder that of its loss.",
            autocompletion=complete(dissimilarities),
        ),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option("--groups", metavar="FILE", help="CSV file with columns subject and group, to compare groups."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Use the conditions that models, stimuli and data share.")
    ] = False,
    between_targets: Annotated[
        bool | None,
        typer.Option(
            "--between-targets/--within-targets",
            help="Compare the scores of a model with two regions; by default if there are at most 20.",
        ),
    ] = None,
    correction: Annotated[
        str,
        typer.Option("--correction", metavar="NAME", help="Correction of p: holm, fdr, fdr-dependent or none."),
    ] = "holm",
    intervals: Annotated[
        str,
        typer.Option(
            "--intervals",
            metavar="NAME",
            help="Intervals and p-values: dyadic (calibrated), dual-bootstrap (rsatoolbox's, conservative) or none.",
        ),
    ] = "dyadic",
    n_bootstrap: Annotated[
        int | None,
        typer.Option("--n-bootstrap", metavar="N", help="Resamples of the dual bootstrap; 1000 by default."),
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", help="Folds over stimuli to choose the best layer of a network; 0 for none.")
    ] = 5,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the folds and of the resamples.")] = 0,
    names: Names = None,
    options: ReadOptions = [],  # noqa: B006
    targets: Targets = [],  # noqa: B006
    subjects: Subjects = [],  # noqa: B006
    subject_by: SubjectBy = "subject",
    average_over: AverageOver = [],  # noqa: B006
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare models with brain RDMs: scores with intervals and noise ceilings, differences, and the best layers.

    Fits nothing. Conditions are matched by name; each region, session or time of the data is scored by itself.
    """
    if out is not None and out.exists() and not overwrite and (not out.is_dir() or any(out.iterdir())):
        refuse(f"--out {str(out)!r} must be a new or empty folder; choose another, or add --overwrite")
    check_files(data, groups)
    from brainrdl.analysis.plain_rsa import rsa as compare
    from brainrdl.teachers.rdm_teacher import RDMTeacher

    found = read_rdms(data, names, read_options(options), quiet=as_json)
    (found,) = chosen([found], [data], targets, subjects)
    with about(f"file {str(data)!r}"):
        teacher = RDMTeacher(found, name=data.stem, subject_by=subject_by, average_over=average_over)
    how: dict[str, Any] = {"comparators": comparators} if comparators else {}
    how |= {"correction": correction, "intervals": intervals, "n_bootstrap": n_bootstrap}
    how |= {"folds": folds, "seed": seed, "progress": not quiet and not as_json}
    result = compare(
        models,
        teacher,
        stimuli=stimuli,
        weights=weights,
        dissimilarity=dissimilarity,
        groups=None if groups is None else _groups(groups),
        allow_missing=allow_missing,
        between_targets=between_targets,
        **how,
    )
    if as_json:
        print_json(result.summary)
    else:
        _print(result)
    if out is not None:
        page = result.save(out)
        if not as_json:
            say_where("report", page)


def _groups(path: Path) -> dict[str, str]:
    from brainrdl._core.files import read_csv

    table = read_csv(path, dtype=str, keep_default_na=False)
    if not {"subject", "group"} <= set(table.columns):
        refuse(f"--groups {str(path)!r} needs the columns subject and group; it has {list(table.columns)}")
    table = table[table["group"].str.strip() != ""].drop_duplicates(["subject", "group"])
    if len(twice := table["subject"][table["subject"].duplicated()]):
        refuse(f"--groups {str(path)!r} gives subject {twice.iloc[0]!r} several groups; give each subject one")
    return dict(zip(table["subject"], table["group"], strict=True))


def _print(result: RSAResult) -> None:
    summary = result.summary
    against = Against.SUBJECTS if int(summary["n_subjects"].max()) > 1 else Against.MEAN
    summary = summary[summary["against"] == against.value]
    for (comparator, target), rows in summary.groupby(["comparator", "target"], sort=False):
        ceiling = rows["ceiling"].iloc[0]
        perfect = f", expected of a perfect model: {ceiling:.3f}" if ceiling == ceiling else ""
        console.print(f"[bold]{escape(f'{comparator} with {against.label} of {target}{perfect}')}[/bold]")
        print_table(_readable(rows))
        console.print()
    if len(result.best_layers):
        console.print("[bold]best layers, scored on stimuli and subjects that did not choose them[/bold]")
        print_table(result.best_layers[["model", "target", "comparator", "layer", "chosen", "score", "low", "high"]])
        console.print()
    contrasts = result.contrasts[result.contrasts["against"] == against.value]
    contrasts = contrasts[contrasts["comparator"] == summary["comparator"].iloc[0]].sort_values("p", kind="stable")
    if len(contrasts):
        more = f" (the {_SHOWN} with the smallest p of {len(contrasts)})" if len(contrasts) > _SHOWN else ""
        console.print(f"[bold]{escape(f'differences{more}')}[/bold]")
        columns = ["model", "layer", "target", "other", "other_layer", "other_target", "difference", "p_corrected"]
        print_table(contrasts[columns].head(_SHOWN))
        console.print()


def _readable(rows: pd.DataFrame) -> pd.DataFrame:
    table = rows[["model", "layer", "score", "low", "high", "p_corrected", "share"]]
    table = table.rename(columns={"p_corrected": "corrected p", "share": "share of ceiling"})
    return table if (rows["layer"] != "").any() else table.drop(columns="layer")
