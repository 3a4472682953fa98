"""The command line: each command calls one function of the Python API, prints what came out, and says where it is.

Failures are one line on stderr and a non-zero status; ``--debug`` shows the traceback. Heavy imports wait until a
command needs them, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

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


# How the Python arguments that messages advise are spelled for a command that reads RDM files.
_READ_OPTIONS = {
    "variable=": "--read variable=NAME",
    "axes=": "--read axes=first",
    "delimiter=": "--read 'delimiter=;'",
    "reader=": "--read reader=NAME",
    "by=": "--read by=NAME",
    "names=": "--names FILE",
    "common=True": "--common",
    "option of reader": "--read a:KEY=VALUE or b:KEY=VALUE, for one of two files",
}
# What completion offers stands here, because importing torch at each press of a key would take seconds.
_COMPARATORS = ("cosine", "corr", "spearman", "tau-a", "rho-a", "corr_cov", "cosine_cov", "cka", "soft-spearman")
_OWN_NETWORKS = ("lenet", "small_cnn", "efficientnet_lite0")
_REGISTERED = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)", re.MULTILINE)


def _complete(known: Callable[[], tuple[str, ...]]) -> Callable[[str], list[str]]:
    return lambda incomplete: [name for name in known() if name.startswith(incomplete)]


def _networks() -> tuple[str, ...]:
    """Names of `brainrdl.models.known_names`, torchvision's as its files have them."""
    package = find_spec("torchvision")
    folders = (package and package.submodule_search_locations) or ()
    files = sorted(file for folder in folders for file in Path(folder, "models").glob("*.py"))
    return (*_OWN_NETWORKS, *(name for file in files for name in _REGISTERED.findall(file.read_text("utf-8"))))


Comparators = Annotated[
    list[str],
    typer.Option(
        "--comparator", "-c", help="RDM comparator; may be repeated.", autocompletion=_complete(lambda: _COMPARATORS)
    ),
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
ReadOptions = Annotated[
    list[str],
    typer.Option(
        "--read",
        metavar="KEY=VALUE",
        help="Option of the file's reader, as variable=IT_RDMs or axes=first; of one of two files, a:variable=IT_RDMs. "
        "May be repeated, as --target and --subject.",
    ),
]
Targets = Annotated[list[str], typer.Option("--target", help="Only RDMs of this region (rdm descriptor roi).")]
Subjects = Annotated[list[str], typer.Option("--subject", help="Only RDMs of this subject.")]
Mean = Annotated[bool, typer.Option("--mean", help="Average each subject's RDMs, then the subjects', a region.")]


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
    epilog="Examples: brainrdl fit recipe.yaml --out runs/it   |   brainrdl fit recipe.yaml --out runs/it --resume   "
    "|   brainrdl fit recipe.yaml --set fit.steps=20"
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
    with _resumable(folder):
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


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say at an interrupt how the run in `folder` goes on, if it has begun."""
    try:
        yield
    except KeyboardInterrupt:
        if not (folder / "settings.json").exists():
            raise
        words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
        command = shlex.join(["brainrdl", *words, "--resume"])
        _fail(f"interrupted; {str(folder)!r} keeps what was done: `{command}` goes on from there", _INTERRUPTED)


@app.command(epilog="Example: brainrdl evaluate runs/it --comparator tau-a --out runs/it_tau")
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder of `brainrdl fit`.")],
    comparators: Comparators = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the scores into this folder, which must be new or empty.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a finished run again on its held-out stimuli, with its own comparators or others; fits nothing.

    The run stays as it is.
    """
    from brainrdl import recipe as _recipe
    from brainrdl._checks import refuse

    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        refuse(f"--out {str(out)!r} should be a new or an empty folder, so that no scores are lost; choose another")
    evaluation = _recipe.evaluate_run(run, comparators)
    _print_summary(evaluation, as_json)
    if out is not None:
        evaluation.save(out)
        if not as_json:
            _say_where("scores", out)


@app.command(
    epilog="Examples: brainrdl compare it.h5 model.npy --names images/ -c spearman --out compare.png   |   "
    "brainrdl compare fmri.mat it.h5 --names images/ --read a:variable=IT_RDMs --mean"
)
def compare(
    a: Annotated[Path, typer.Argument(help="RDM file.")],
    b: Annotated[Path, typer.Argument(help="RDM file of the same conditions, in any order.")],
    comparators: Comparators = ["spearman", "corr"],  # noqa: B006
    names: Names = None,
    common: Annotated[bool, typer.Option("--common", help="Compare on the conditions that both have.")] = False,
    options: ReadOptions = [],  # noqa: B006
    targets: Targets = [],  # noqa: B006
    subjects: Subjects = [],  # noqa: B006
    mean: Mean = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Draw the comparison into this image file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two RDM files, conditions paired by name: a table, and a plot with --out."""
    from brainrdl import compare as compare_rdms
    from brainrdl.recipe import advice

    if out is not None:
        _check_figure(out)
    paths = (a, b)
    sides = [_read_options(options, side, "ab") for side in "ab"]
    found = [_read_rdms(path, names, read) for path, read in zip(paths, sides, strict=True)]
    files = [path.name if a.name != b.name else str(path) for path in paths]
    chosen = zip(_chosen(found, paths, targets, subjects), files, strict=True)
    first, second = (_labelled(rdms, file, mean) for rdms, file in chosen)
    with advice(_READ_OPTIONS, "on the command line", of=f"files {str(a)!r} and {str(b)!r}"):
        table = compare_rdms(first, second, comparators, common=common)
    _print_json(table) if as_json else _print_table(table)
    if out is not None:
        from brainrdl import plot as _plot

        _save_figure(_plot.comparison(table, comparators[0]).figure, out, as_json)


@app.command(
    epilog="Examples: brainrdl plot runs/it --out figures/   |   brainrdl plot it.h5 --out it.png   |   "
    "brainrdl plot fmri.mat --names images/ --read variable=IT_RDMs --mean"
)
def plot(
    source: Annotated[Path, typer.Argument(help="Run folder, or RDM file.")],
    out: Out = None,
    names: Names = None,
    options: ReadOptions = [],  # noqa: B006
    targets: Targets = [],  # noqa: B006
    subjects: Subjects = [],  # noqa: B006
    mean: Mean = False,
) -> None:
    """Draw the figures of a run into a folder, or an RDM file into an image."""
    from brainrdl import plot as _plot
    from brainrdl._checks import refuse

    if source.is_dir():
        from brainrdl.reporting import figures

        folder = out or source / "figures"
        if _is_figure(folder) or folder.is_file():
            refuse(f"--out {str(folder)!r} should be a folder: a run has several figures")
        for name, figure in figures(source).items():
            _save_figure(figure, folder / f"{name}.png")
        return
    out = out or source.with_suffix(".png")
    _check_figure(out)
    (found,) = _chosen([_read_rdms(source, names, _read_options(options))], [source], targets, subjects)
    found = _labelled(found, source.name, mean)
    _save_figure(_plot.rdms(found, titles=found.rdm_descriptors["name"]), out)


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
    from brainrdl._checks import refuse

    if template and path is not None:
        refuse(f"--template prints a recipe to start from and {str(path)!r} asks to check one; give one of the two")
    if template or path is None:
        typer.echo(_recipe.template(), nl=False)
    else:
        typer.echo(_recipe.dump(_recipe.load(path)), nl=False)


def _read_options(given: Sequence[str], side: str = "", sides: str = "") -> dict[str, str]:
    """Give the options of a file's reader: those for every file, and those that begin with the file's side."""
    from brainrdl._checks import refuse

    options: dict[str, str] = {}
    for word in given:
        name, found, value = word.partition("=")
        of, _, key = name.rpartition(":")
        if not found or not key or of not in ("", *sides):
            one = " (for one file, a:KEY=VALUE or b:KEY=VALUE)" if sides else ""
            refuse(f"--read expects KEY=VALUE{one}, got {word!r}")
        if key in ("path", "names"):
            refuse(f"--read {word!r}: {key!r} is no option of a reader; give the file as argument and names by --names")
        if of in ("", side):
            options[key] = value
    return options


def _read_rdms(path: Path, names: Path | None, options: Mapping[str, str]) -> RDMs:
    """Read RDMs whose conditions "stimulus" names; `names` are for a file that holds none."""
    from rsatoolbox.rdm import RDMs

    from brainrdl import rdms, read
    from brainrdl._checks import refuse
    from brainrdl.recipe import advice

    by = options.get("by", "stimulus")
    with advice(_READ_OPTIONS, "on the command line", of=f"file {str(path)!r}"):
        found: Any = read(path, **options)
        if not isinstance(found, RDMs):
            refuse(f"{str(path)!r} holds measurements ({type(found).__name__}), not RDMs; compute RDMs from them first")
        if names is not None and by not in found.pattern_descriptors:
            found = read(path, names=names, **options)
        found.pattern_descriptors["stimulus"] = list(rdms.names(found, by))
    return found


def _chosen(
    found: Sequence[RDMs], paths: Sequence[Path], targets: Sequence[str], subjects: Sequence[str]
) -> list[RDMs]:
    """Keep the RDMs of these targets and subjects, in the files that tell such apart."""
    from brainrdl._checks import check_option, quote, refuse

    kept = list(found)
    for option, key, wanted in (("--target", "roi", targets), ("--subject", "subject", subjects)):
        values = [[str(value) for value in rdms.rdm_descriptors.get(key, ())] for rdms in kept]
        known = list(dict.fromkeys(value for column in values for value in column))
        if wanted and not known:
            refuse(f"{option} {wanted[0]!r}: {quote(map(str, paths))} tell no {key} of their RDMs; leave it out")
        for value in wanted:
            check_option(value, known, option)
        for place, column in enumerate(values):
            rows = [row for row, value in enumerate(column) if value in wanted]
            if wanted and column and not rows:
                of = f"of {key} {quote(wanted)}, but of {quote(dict.fromkeys(column))}"
                refuse(f"{str(paths[place])!r} holds no RDM {of}")
            kept[place] = kept[place][rows] if rows else kept[place]
    return kept


def _labelled(rdms: RDMs, file: str, mean: bool) -> RDMs:
    """Name each RDM by its file and descriptors, after averaging over sessions, then over subjects, if asked to."""
    from brainrdl.evaluation import rdm_labels
    from brainrdl.rdms import concat
    from brainrdl.teachers import RDMTeacher

    described = set(rdms.rdm_descriptors) - {"index"}
    if mean:
        teacher = RDMTeacher(rdms)
        rdms = concat([teacher.combined(target) for target in teacher.targets])
        labels = [f"{target}, mean" if "roi" in described else "mean" for target in teacher.targets]
    else:
        labels = rdm_labels(rdms) if described or rdms.n_rdm > 1 else [""]
    twice = len(set(labels)) < len(labels)
    labels = [f"{label} ({k})" if twice else label for k, label in enumerate(labels, start=1)]
    rdms.rdm_descriptors = {"name": [f"{file}: {label}" if label else file for label in labels]}
    return rdms


def _print_summary(evaluation: Evaluation, as_json: bool) -> None:
    """One table a comparator, reference, target and ceiling: scores in one table can be compared with one another."""
    if as_json:
        _print_json(evaluation.summary)
        return
    summary = evaluation.summary
    keys = [summary["comparator"], summary["against"], summary["target"], summary["ceiling_lower"].round(3)]
    for (comparator, against, target, lower), rows in summary.groupby(keys, sort=False, dropna=False):
        reference = "the mean RDM" if against == "mean" else "single subjects"
        of = f" of {target}" if target not in ("", "rdm") else ""
        upper = f", upper ceiling {rows['ceiling_upper'].iloc[0]:.3f}" if against == "subjects" else ""
        ceiling = f", lower ceiling {lower:.3f}{upper}" if lower == lower else ""
        _console.print(f"[bold]{escape(f'{comparator} with {reference}{of}{ceiling}')}[/bold]")
        _print_table(_readable(rows))
        _console.print()


def _readable(rows: pd.DataFrame) -> pd.DataFrame:
    several = ["layer"] if rows.loc[rows["layer"] != "", "layer"].nunique() > 1 else []
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


def _check_figure(path: Path) -> None:
    """Refuse a file that is no image, before any work."""
    from brainrdl._checks import refuse

    if not _is_figure(path) or path.is_dir():
        refuse(f"--out {str(path)!r} is no image file; give one like {path.stem or 'figure'}.png, .pdf or .svg")


def _is_figure(path: Path) -> bool:
    from matplotlib.backend_bases import FigureCanvasBase

    return path.suffix[1:].lower() in FigureCanvasBase.get_supported_filetypes()


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
    warnings.showwarning = lambda message, *_: typer.echo(f"brainrdl: {message}", err=True)
    try:
        status = app(arguments, standalone_mode=False)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _fail(*_worded(error))
    if status == _INTERRUPTED:  # Typer catches the interrupt itself
        _fail("interrupted", status)
    sys.exit(status)


def _worded(error: Exception) -> tuple[str, int]:
    if hasattr(error, "format_message"):  # a wrong command line
        return f"{error.format_message()} (see --help)", 2
    if type(error).__name__ == "BrainrdlError":
        return str(error), 1
    if isinstance(error, OSError) and error.strerror and error.filename:
        path = Path(error.filename)
        shown = path.parent if path.name.startswith(".") else path  # a temporary file says nothing to the user
        return f"{str(shown)!r}: {error.strerror}; choose another path, or mend its permissions", 1
    return f"{type(error).__name__}: {error} (--debug shows where)", 1


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(f"brainrdl: {' '.join(message.split())}", err=True)
    sys.exit(status)
