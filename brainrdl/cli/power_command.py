"""The command `brainrdl power`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainrdl._core.errors import about
from brainrdl.cli.common import (
    AsJson,
    Names,
    Overwrite,
    ReadOptionsOfTwo,
    Targets,
    check_files,
    check_new,
    print_json,
    print_table,
    read_options,
    save_figure,
    say_where,
)
from brainrdl.cli.completion import comparators, complete
from brainrdl.cli.rdm_files import chosen, read_rdms

EXAMPLES = (
    "Examples:\n\nbrainrdl power pilot.h5 model.h5 --n-stimuli 24 --n-stimuli 48 --n-subjects 8 --n-subjects 16\n\n"
    "brainrdl power pilot.h5 model.h5 --minus other.h5 --effect 0.02 --n-stimuli 48 --n-subjects 20 --out power/"
)

_TABLE, _FIGURE = "power.csv", "power.png"


def power(
    pilot: Annotated[Path, typer.Argument(help="RDM file with at least 3 subjects.")],
    model: Annotated[Path, typer.Argument(help="RDM file of one model, with the same conditions in any order.")],
    n_stimuli: Annotated[
        list[int], typer.Option("--n-stimuli", metavar="N", help="Number of stimuli; can be given several times.")
    ],
    n_subjects: Annotated[
        list[int], typer.Option("--n-subjects", metavar="N", help="Number of subjects; can be given several times.")
    ],
    effect: Annotated[
        float | None,
        typer.Option(
            "--effect", metavar="NUMBER", help="True score or difference to find; that of the pilot by default."
        ),
    ] = None,
    minus: Annotated[
        Path | None,
        typer.Option("--minus", metavar="FILE", help="RDM file of a second model: plan for the difference."),
    ] = None,
    comparator: Annotated[
        str,
        typer.Option(
            "--comparator", "-c", metavar="NAME", help="RDM comparator.", autocompletion=complete(comparators)
        ),
    ] = "corr",
    alpha: Annotated[float, typer.Option("--alpha", metavar="NUMBER", help="Level of the two-sided test.")] = 0.05,
    names: Names = None,
    options: ReadOptionsOfTwo = [],  # noqa: B006
    targets: Targets = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help=f"Folder for {_TABLE} and {_FIGURE}.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Predict from a pilot how many stimuli and subjects find a score, or a difference between two models."""
    if out is not None:
        check_new([out / _TABLE, out / _FIGURE], overwrite)
    check_files(pilot, model, minus)
    from brainrdl.inference.planning import power as predicted

    of_pilot, of_models = (read_options(options, side, "ab") for side in "ab")
    data = read_rdms(pilot, names, of_pilot, quiet=as_json)
    data = chosen([data], [pilot], targets, [])[0]
    shown = read_rdms(model, names, of_models, quiet=True)
    other = None if minus is None else read_rdms(minus, names, of_models, quiet=True)
    with about(f"pilot {str(pilot)!r}"):
        table = predicted(
            shown,
            data,
            n_stimuli=n_stimuli,
            n_subjects=n_subjects,
            effect=effect,
            minus=other,
            comparator=comparator,
            alpha=alpha,
        )
    print_json(table) if as_json else print_table(table)
    if out is not None:
        from brainrdl import plot
        from brainrdl._core.files import atomic

        out.mkdir(parents=True, exist_ok=True)
        with atomic(out / _TABLE) as part:
            table.to_csv(part, index=False)
        save_figure(plot.power(table).figure, out / _FIGURE, quiet=True)
        if not as_json:
            say_where("table and figure", out)
