"""The command line: each command calls one function of the Python API, prints what came out, and says where it is.

Failures are one line on stderr and a non-zero status; ``--debug`` shows the traceback. Heavy imports wait until a
command needs them, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from brainrdl.evaluation import Evaluation

app = typer.Typer(
    name="brainrdl",
    help="Fit a neural network to brain RDMs, and learn on held-out stimuli how close it got.",
    epilog="Start with: brainrdl demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
_console = Console()
_RUN_FOLDER = Path("runs")
_INTERRUPTED = 130


def _complete(known: Callable[[], tuple[str, ...]]) -> Callable[[str], list[str]]:
    return lambda incomplete: [name for name in known() if name.startswith(incomplete)]


def _comparators() -> tuple[str, ...]:
    from brainrdl.similarity import SIMILARITIES

    return tuple(SIMILARITIES)


def _networks() -> tuple[str, ...]:
    from brainrdl.models import known_names

    return known_names()


Comparators = Annotated[
    list[str],
    typer.Option("--comparator", "-c", help="RDM comparator; may be repeated.", autocompletion=_complete(_comparators)),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where to write.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run folder that exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Names = Annotated[
    Path | None,
    typer.Option(
        "--names", help="Condition names for files that hold none: a text file, or a folder of stimuli in order."
    ),
]


def _version(asked: bool) -> None:
    if asked:
        from brainrdl import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command; `main` looks for --debug itself, since failures end there."""


@app.command(epilog="Example: brainrdl demo --out runs/demo")
def demo(out: Out = None, overwrite: Overwrite = False, quiet: Quiet = False) -> None:
    """Fit a small network to simulated brain RDMs of handwritten digits, cross-validated, and write a report."""
    from brainrdl import demo as _demo
    from brainrdl import report as write_report

    folder = out or _RUN_FOLDER / "demo"
    overwrite = overwrite or out is None  # the default folder is the demo's own
    evaluation = _demo.run(folder, overwrite=overwrite, progress=not quiet)
    _print_summary(evaluation, as_json=False)
    _console.print("The subjects of this demo are simulated: their RDMs come from a hidden network plus noise.")
    _say_where("report", write_report(folder))


@app.command(
    epilog="Examples: brainrdl fit recipe.yaml --out runs/it   |   brainrdl fit recipe.yaml --set fit.steps=20 --resume"
)
def fit(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe; `brainrdl recipe --template` prints one.")],
    changes: Annotated[list[str], typer.Option("--set", help="Change a key: section.key=value; may be repeated.")] = [],  # noqa: B006
    out: Out = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fit a network as a recipe says, score it on held-out stimuli, and write a report into the run folder."""
    from brainrdl import recipe as _recipe
    from brainrdl import report as write_report
    from brainrdl.evaluation import Evaluation

    folder = out or _RUN_FOLDER / recipe.stem
    asked = _recipe.load(recipe, changes)
    result = _recipe.run(asked, folder, resume=resume, overwrite=overwrite, progress=not quiet and not as_json)
    page = write_report(folder)
    if isinstance(result, Evaluation):
        _print_summary(result, as_json)
    elif as_json:
        _print_json(result.history)
    else:
        _console.print(
            f"fitted to all stimuli, best step {result.best_step}; nothing was held out, so there is no score"
        )
    if not as_json:
        _say_where("report", page)


@app.command(epilog="Example: brainrdl evaluate runs/it --comparator tau-a --comparator corr_cov")
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder of `brainrdl fit`.")],
    comparators: Comparators = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Score a finished run again on its held-out stimuli, with its own comparators or others; fits nothing."""
    from brainrdl import recipe as _recipe

    _print_summary(_recipe.evaluate_run(run, comparators), as_json)


@app.command(epilog="Example: brainrdl compare it.h5 model.npy --names images/ -c spearman --out compare.png")
def compare(
    a: Annotated[Path, typer.Argument(help="RDM file.")],
    b: Annotated[Path, typer.Argument(help="RDM file of the same conditions, in any order.")],
    comparators: Comparators = ["spearman", "corr"],  # noqa: B006
    names: Names = None,
    common: Annotated[bool, typer.Option("--common", help="Compare on the conditions that both have.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Draw the comparison into this image file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two RDM files, conditions paired by name: a table, and a plot with --out."""
    from brainrdl import compare as compare_rdms

    table = compare_rdms(_read_rdms(a, names), _read_rdms(b, names), comparators, common=common)
    _print_json(table) if as_json else _print_table(table)
    if out is not None:
        from brainrdl import plot as _plot

        _save_figure(_plot.comparison(table, comparators[0]).figure, out, as_json)


@app.command(epilog="Examples: brainrdl plot runs/it --out figures/   |   brainrdl plot it.h5 --out it.png")
def plot(
    source: Annotated[Path, typer.Argument(help="Run folder, or RDM file.")],
    out: Out = None,
    names: Names = None,
) -> None:
    """Draw the figures of a run into a folder, or an RDM file into an image."""
    from brainrdl import plot as _plot

    if source.is_dir():
        from brainrdl.reporting import figures

        for name, figure in figures(source).items():
            _save_figure(figure, (out or source / "figures") / f"{name}.png")
        return
    _save_figure(_plot.rdms(_read_rdms(source, names)), out or source.with_suffix(".png"))


@app.command(epilog="Example: brainrdl report runs/it --out supplement.html")
def report(
    run: Annotated[Path, typer.Argument(help="Run folder of `brainrdl fit` or `brainrdl demo`.")],
    out: Out = None,
) -> None:
    """Write one self-contained HTML page about a run."""
    from brainrdl import report as write_report

    _say_where("report", write_report(run, out))


@app.command(epilog="Example: brainrdl layers resnet18")
def layers(
    model: Annotated[str, typer.Argument(help="Network by name.", autocompletion=_complete(_networks))],
    as_json: AsJson = False,
) -> None:
    """List the layers of a network that can be read out, with output shapes and numbers of parameters."""
    from brainrdl.features import describe_layers
    from brainrdl.models import build

    network = build(model)
    table = describe_layers(network.module, (network.channels, network.size, network.size))
    _print_json(table) if as_json else _print_table(table)


@app.command(epilog="Examples: brainrdl recipe --template > recipe.yaml   |   brainrdl recipe recipe.yaml")
def recipe(
    path: Annotated[Path | None, typer.Argument(help="Recipe to check.")] = None,
    template: Annotated[bool, typer.Option("--template", help="Print a commented recipe to start from.")] = False,
) -> None:
    """Check a recipe and print it with every default spelled out, or print a template."""
    from brainrdl import recipe as _recipe

    if template or path is None:
        typer.echo(_recipe.template(), nl=False)
    else:
        typer.echo(_recipe.dump(_recipe.load(path)), nl=False)


def _read_rdms(path: Path, names: Path | None) -> Any:
    from rsatoolbox.rdm import RDMs

    from brainrdl import read
    from brainrdl._checks import refuse

    found = read(path, names=names)
    if not isinstance(found, RDMs):
        refuse(f"{str(path)!r} holds measurements ({type(found).__name__}), not RDMs; compute RDMs from them first")
    return found


def _print_summary(evaluation: Evaluation, as_json: bool) -> None:
    """One table a comparator and reference, so that scores in one table can be compared with one another."""
    if as_json:
        _print_json(evaluation.summary)
        return
    for (comparator, against), rows in evaluation.summary.groupby(["comparator", "against"], sort=False):
        reference = "the mean RDM" if against == "mean" else "single subjects"
        ceiling = rows["ceiling_lower"].iloc[0]
        told = f", ceiling {ceiling:.3f}" if ceiling == ceiling else ""
        _console.print(f"[bold]{comparator} with {reference}{told}[/bold]")
        _print_table(_readable(rows))
        _console.print()


def _readable(rows: pd.DataFrame) -> pd.DataFrame:
    several = [column for column in ("layer", "target") if rows.loc[rows[column] != "", column].nunique() > 1]
    table = rows[["student", *several, "score"]].copy()
    table["95 % interval"] = [_interval(low, high) for low, high in zip(rows["low"], rows["high"], strict=True)]
    if "gain" in rows and rows["gain"].notna().any():
        table["gain"] = rows["gain"]
        table["95 % interval of gain"] = [
            _interval(low, high) for low, high in zip(rows["gain_low"], rows["gain_high"], strict=True)
        ]
    return table


def _interval(low: float, high: float) -> str:
    return "" if low != low else f"{low:.2f} to {high:.2f}"


def _print_json(table: pd.DataFrame) -> None:
    typer.echo(json.dumps(json.loads(table.to_json(orient="records")), indent=2))


def _print_table(table: pd.DataFrame) -> None:
    shown = Table(*[escape(str(column)) for column in table.columns], box=None, header_style="bold", pad_edge=False)
    for row in table.itertuples(index=False):
        shown.add_row(*[escape(_cell(value)) for value in row])
    _console.print(shown)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.3f}"
    return str(value)


def _save_figure(figure: Any, path: Path, quiet: bool = False) -> None:
    from brainrdl.result import atomic

    with atomic(path) as part:
        figure.savefig(part, dpi=200, bbox_inches="tight")
    if not quiet:
        _say_where("figure", path)


def _say_where(what: str, path: Path) -> None:
    _console.print(f"{what}: {escape(str(path))}", soft_wrap=True, highlight=False)


def main() -> None:
    """Run the command line; a refusal becomes one line on stderr and status 1.

    Examples
    --------
    >>> main.__name__  # the console script ``brainrdl``
    'main'
    """
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        status = app(arguments, standalone_mode=False)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _fail(*_worded(error))
    if status == _INTERRUPTED:  # Typer catches the interrupt itself
        _fail("interrupted; `brainrdl fit --resume` goes on from the last checkpoint", status)
    sys.exit(status)


def _worded(error: Exception) -> tuple[str, int]:
    if hasattr(error, "format_message"):  # a wrong command line
        return f"{error.format_message()} (see --help)", 2
    if type(error).__name__ == "BrainrdlError":
        return str(error), 1
    return f"{type(error).__name__}: {error} (--debug shows where)", 1


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(f"brainrdl: {' '.join(message.split())}", err=True)
    sys.exit(status)
