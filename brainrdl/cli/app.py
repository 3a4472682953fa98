"""The command line: each command calls one function of the Python API, prints its result, and says where it is.

A failure is one line on stderr and a non-zero status; ``--debug`` shows the traceback. Heavy libraries are imported
inside the commands, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape

from brainrdl._core.constants import FINAL
from brainrdl._core.errors import BrainrdlError, about, refuse
from brainrdl._core.rows import Against
from brainrdl.cli import file_commands as files, power_command, searchlight_command
from brainrdl.cli.common import (
    AsJson,
    AverageOver,
    Comparators,
    Mean,
    Names,
    Overwrite,
    Quiet,
    ReadOptions,
    ReadOptionsOfTwo,
    Resume,
    RunOut,
    SubjectBy,
    Subjects,
    Targets,
    check_figure,
    check_files,
    check_new,
    console,
    is_figure,
    print_json,
    print_table,
    read_options,
    save_figure,
    say,
    say_where,
)
from brainrdl.cli.completion import complete, networks
from brainrdl.cli.late_imports import load_late
from brainrdl.cli.rdm_files import chosen, grouping, labelled, read_rdms
from brainrdl.cli.rsa_command import RSA_EXAMPLES, rsa
from brainrdl.cli.spelling import Command
from brainrdl.cli.summary_tables import print_summary

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

    from brainrdl.evaluation.held_out import Evaluation
app = typer.Typer(
    name="brainrdl",
    help="Fit a neural network to brain RDMs, and measure on held-out stimuli how similar it became.",
    epilog="Start with: brainrdl demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

_RUN_FOLDER = Path("runs")

_SIGNALLED = 128  # added to the number of a signal, as shells do

_INTERRUPTED = _SIGNALLED + signal.SIGINT


def _version(asked: bool) -> None:
    if asked:
        from brainrdl import __version__

        typer.echo(__version__)
        raise typer.Exit


app.command(cls=Command, epilog=files.RDM_EXAMPLES)(files.rdm)

app.command(cls=Command, epilog=files.DOCTOR_EXAMPLES)(files.doctor)

app.add_typer(files.data, name="data")

app.command(cls=Command, epilog=RSA_EXAMPLES)(rsa)
app.command(cls=Command, epilog=searchlight_command.EXAMPLES)(searchlight_command.searchlight)
app.command(cls=Command, epilog=power_command.EXAMPLES)(power_command.power)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command; `main` looks for --debug itself, since failures end there."""


@app.command(cls=Command, epilog="Example: brainrdl demo --out runs/demo")
def demo(out: RunOut = None, overwrite: Overwrite = False, quiet: Quiet = False) -> None:
    """Fit a small network to simulated brain RDMs of handwritten digits, cross-validate it, and write a report."""
    from brainrdl import report as write_report
    from brainrdl.demo import simulated_experiment as _demo

    folder = out or _RUN_FOLDER / "demo"
    overwrite = overwrite or out is None  # nobody else writes into the default folder
    evaluation = _demo.run(folder, overwrite=overwrite, progress=not quiet)
    print_summary(evaluation, as_json=False)
    console.print("The subjects of this demo are simulated: their RDMs come from a hidden network plus noise.")
    say_where("report", write_report(folder))


@app.command(
    cls=Command,
    epilog="Examples:\n\nbrainrdl fit recipe.yaml --out runs/it\n\nbrainrdl fit recipe.yaml --out runs/it --resume\n\n"
    "brainrdl fit recipe.yaml --set fit.steps=20",
)
def fit(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe; `brainrdl recipe --template` prints one.")],
    changes: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="SECTION.KEY=VALUE", help="Change a key of the recipe; can be given several times."
        ),
    ] = [],  # noqa: B006
    out: RunOut = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fit a network as a recipe describes, score it on held-out stimuli, and write a report into the run folder."""
    from brainrdl.recipe import files as _recipe

    folder = out or _RUN_FOLDER / recipe.stem
    asked = _recipe.load(recipe, changes)  # a faulty recipe is refused before torch loads

    from brainrdl import report as write_report
    from brainrdl.evaluation.held_out import Evaluation
    from brainrdl.recipe import running
    from brainrdl.training.distributed import is_first

    with _resumable(folder):
        result = running.run(asked, folder, resume=resume, overwrite=overwrite, progress=not quiet and not as_json)
    if not is_first():
        return
    page = write_report(folder)
    if isinstance(result, Evaluation):
        print_summary(result, as_json)
    elif as_json:
        print_json(result.history)
    else:
        console.print(f"fitted to all stimuli, best step {result.best_step}; no stimuli were held out, so no scores")
    if not as_json:
        if (folder / FINAL).exists():
            say_where("final model (fitted to all stimuli, not scored)", folder / FINAL)
        say_where("report", page)


@app.command(
    cls=Command,
    epilog="Examples:\n\nbrainrdl sweep recipe.yaml fit.rdm_weight=0,.1,1,10 --out runs/weights\n\n"
    "brainrdl sweep recipe.yaml fit.rdm_weight=0,1 student.layers=\\[conv1],\\[conv2] --set fit.steps=20\n\n"
    "brainrdl sweep recipe.yaml fit.rdm_weight=0,.1,1,10,100 --out runs/weights --resume",
)
def sweep(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe with held-out stimuli.")],
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="SECTION.KEY=VALUE,VALUE,...",
            help="Values of a key of the recipe; with several keys, all combinations are run.",
        ),
    ],
    changes: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="SECTION.KEY=VALUE", help="Change a key of the recipe; can be given several times."
        ),
    ] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the sweep.")] = None,
    n_jobs: Annotated[
        int | None, typer.Option("--n-jobs", help="Number of points that run at the same time; -1 for one per core.")
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe for several values of its keys, and compare task accuracy with the score on held-out stimuli.

    Each point has a run folder; the table and the figure of all points are in the folder of the sweep.
    """
    from brainrdl.recipe import files as _recipe

    folder = out or _RUN_FOLDER / f"{recipe.stem}_sweep"
    asked = _recipe.load(recipe, changes)

    from brainrdl.recipe import sweeping
    from brainrdl.reporting.index_page import write_index

    listed = sweeping.parse_values(values)
    with _resumable(folder, begun=sweeping.SWEEP):
        table = sweeping.sweep(
            asked, listed, folder, resume=resume, overwrite=overwrite, progress=not quiet and not as_json, n_jobs=n_jobs
        )
    figure, shown = folder / f"{sweeping.FIGURE}.png", sweeping.readable(table, list(listed))
    page = write_index(folder, shown, table["folder"].tolist(), figure if table["accuracy"].notna().any() else None)
    if as_json:
        print_json(table)
        return
    first = table.iloc[0]
    console.print(f"[bold]{escape(str(first['comparator']))} with {Against(first['against']).label}, held out[/bold]")
    print_table(shown)
    say_where("report", page)


@contextmanager
def _resumable(folder: Path, begun: str = "settings.json") -> Iterator[None]:
    """Say after Ctrl-C, SIGTERM or SIGHUP how to continue the run in `folder`, if it has begun: its first file."""
    try:
        yield
    except KeyboardInterrupt as error:
        status = _SIGNALLED + getattr(error, "signum", signal.SIGINT)
        notes = getattr(error, "__notes__", [])  # of a run folder that was put back
        if notes or not (folder / begun).exists():
            _fail("; ".join(["interrupted", *notes]), status)
        words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
        command = shlex.join(["brainrdl", *words, "--resume"])
        _fail(f"interrupted; {str(folder)!r} keeps what was done: continue with `{command}`", status)


@app.command(
    cls=Command,
    epilog="Examples:\n\nbrainrdl evaluate runs/it --comparator tau-a --out runs/it_tau\n\n"
    "brainrdl evaluate runs/it --teacher other.h5 --stimuli other/ --out runs/it_other",
)
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder of `brainrdl fit`.")],
    comparators: Comparators = [],  # noqa: B006
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", metavar="FILE", help="Score against these RDMs, of other images or other subjects."),
    ] = None,
    stimuli: Annotated[
        Path | None, typer.Option("--stimuli", metavar="FOLDER", help="Folder of the images of --teacher.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="CSV file with columns stimulus and category of these images."),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            "--groups",
            metavar="FILE",
            help="CSV file with columns stimulus and group: images in a group with one that the run was fitted to are "
            "not new to it.",
        ),
    ] = None,
    drop_seen: Annotated[
        bool,
        typer.Option("--drop-seen", help="Leave out images that are not new to the run instead of refusing."),
    ] = False,
    same_names: Annotated[
        bool,
        typer.Option("--same-names", help="Equal names in --stimuli and in the run are names of different images."),
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score the names that --teacher and --stimuli share.")
    ] = False,
    match: Annotated[
        list[str],
        typer.Option(
            "--match",
            metavar="LAYER=TARGET",
            help="Compare this layer with this region of --teacher; can be given several times. By default, as in the "
            "run, or each layer with the only region.",
        ),
    ] = [],  # noqa: B006
    names: Names = None,
    options: ReadOptions = [],  # noqa: B006
    targets: Targets = [],  # noqa: B006
    subjects: Subjects = [],  # noqa: B006
    subject_by: SubjectBy = "subject",
    average_over: AverageOver = [],  # noqa: B006
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Write the scores into this folder, which must be new or empty."
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score a finished run again: on its held-out stimuli, or on other images and subjects; fits nothing.

    On other images, the student of the final fit (or of the only fit) is scored, next to the same student before the
    fit. Images that are not new to it are refused. The run folder is not changed.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        refuse(f"--out {str(out)!r} must be a new or empty folder, so that no scores are lost; choose another")
    of_teacher = {
        "--stimuli": stimuli, "--labels": labels, "--groups": groups, "--drop-seen": drop_seen or None,
        "--same-names": same_names or None, "--allow-missing": allow_missing or None, "--match": match,
        "--names": names, "--read": options, "--target": targets, "--subject": subjects,
        "--subject-by": None if subject_by == "subject" else subject_by, "--average-over": average_over,
    }  # fmt: skip
    shown = not quiet and not as_json
    if teacher is None:
        files.refuse_options(of_teacher, "some options are for scores on other images, and need --teacher")
        _check_run(run)
        from brainrdl.recipe.running import evaluate_run

        evaluation = evaluate_run(run, comparators, progress=shown)
    else:
        if stimuli is None:
            refuse(f"--teacher {str(teacher)!r} needs the images of its conditions; give their folder with --stimuli")
        found = read_rdms(teacher, names, read_options(options), quiet=as_json)
        (found,) = chosen([found], [teacher], targets, subjects)
        how: dict[str, Any] = {"subject_by": subject_by, "average_over": average_over}
        kept: dict[str, Any] = {"drop_seen": drop_seen, "same_names": same_names, "allow_missing": allow_missing}
        kept |= {"groups": groups, "match": _matched(match), "progress": shown}
        evaluation = _evaluate_elsewhere(run, teacher, found, how, stimuli, labels, comparators, kept)
    print_summary(evaluation, as_json)
    if out is not None:
        evaluation.save(out)
        if not as_json:
            say_where("scores", out)


def _check_run(run: Path) -> None:
    from brainrdl.recipe.files import RECIPE

    if not (run / RECIPE).is_file():
        refuse(f"{str(run)!r} is not a run folder of 'brainrdl fit': it has no file {RECIPE}; give the folder of a run")


def _matched(words: Sequence[str]) -> dict[str, str] | None:
    for word in words:
        if not all(word.partition("=")):
            refuse(f"--match expects LAYER=TARGET, got {word!r}")
    return dict(word.split("=", 1) for word in words) or None


def _evaluate_elsewhere(
    run: Path,
    file: Path,
    found: RDMs,
    how: Mapping[str, Any],
    stimuli: Path,
    labels: Path | None,
    comparators: Sequence[str],
    kept: Mapping[str, Any],
) -> Evaluation:
    from brainrdl import RDMTeacher, Stimuli
    from brainrdl.sharing.other_images import evaluate_run_elsewhere

    with about(f"file {str(file)!r}"):
        teacher = RDMTeacher(found, name=file.stem, **how)
    images = Stimuli.from_folder(stimuli, labels=labels)
    asked: dict[str, Any] = {**kept, "comparators": comparators} if comparators else dict(kept)
    return evaluate_run_elsewhere(run, teacher, images, **asked)


@app.command(
    cls=Command,
    epilog="Examples:\n\nbrainrdl export runs/it --out it_model --licence cc-by-4.0\n\n"
    "brainrdl export runs/it --out it_model --scores runs/it_other --overwrite",
)
def export(
    run: Annotated[Path, typer.Argument(help="Run folder of `brainrdl fit`, with a final fit or without folds.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder to write; new or empty.")],
    licence: Annotated[
        str,
        typer.Option(
            "--licence", metavar="NAME", help="Licence of the model for its card, as the hub names it: mit, ..."
        ),
    ] = "unknown",
    scores: Annotated[
        Path | None,
        typer.Option("--scores", metavar="FOLDER", help="Add scores on other images, from `brainrdl evaluate --out`."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a fitted model as files that load without brainrdl: weights, plain torch code, a program, a model card."""
    from brainrdl.sharing.exporting import export as write_export

    done = write_export(run, out, licence=licence, scores=scores, overwrite=overwrite)
    if as_json:
        facts = {"folder": str(done.folder), "files": done.files, "loads_by": done.loads_by}
        typer.echo(json.dumps(facts | {"without_program": done.without_program}, indent=2))
        return
    if done.without_program:
        say(f"no model.pt2: torch.export cannot convert this network ({done.without_program}); the other files load it")
    if licence == "unknown":
        say("the card states no licence; set one with --licence before you share the model")
    say_where("model", done.folder)


@app.command(
    cls=Command,
    epilog="Examples:\n\nbrainrdl compare it.h5 model.npy --names images/ -c spearman --out compare.png\n\n"
    "brainrdl compare fmri.mat it.h5 --names images/ --read a:variable=IT_RDMs --mean",
)
def compare(
    a: Annotated[Path, typer.Argument(help="RDM file.")],
    b: Annotated[Path, typer.Argument(help="RDM file with the same conditions, in any order.")],
    comparators: Comparators = ["spearman", "corr"],  # noqa: B006
    names: Names = None,
    common: Annotated[bool, typer.Option("--common", help="Compare on the conditions that both files have.")] = False,
    options: ReadOptionsOfTwo = [],  # noqa: B006
    targets: Targets = [],  # noqa: B006
    subjects: Subjects = [],  # noqa: B006
    mean: Mean = False,
    subject_by: SubjectBy = "subject",
    average_over: AverageOver = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Draw the comparison into this image file.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compare two RDM files, pairing conditions by name: prints a table, and draws a figure with --out."""
    if out is not None:
        check_figure(out, overwrite)
    paths = (a, b)
    sides = [read_options(options, side, "ab") for side in "ab"]
    check_files(*paths)
    found = [read_rdms(path, names, read, quiet=as_json) for path, read in zip(paths, sides, strict=True)]
    titles = [path.name if a.name != b.name else str(path) for path in paths]
    kept = zip(chosen(found, paths, targets, subjects), titles, strict=True)
    hows = grouping(found, mean, subject_by, average_over)

    from brainrdl import compare as compare_rdms

    first, second = (labelled(rdms, title, mean, how) for (rdms, title), how in zip(kept, hows, strict=True))
    with about(f"files {str(a)!r} and {str(b)!r}"):
        table = compare_rdms(first, second, comparators, common=common)
    print_json(table) if as_json else print_table(table)
    if out is not None:
        from brainrdl import plot as _plot

        save_figure(_plot.comparison(table, comparators[0]).figure, out, as_json)


@app.command(
    cls=Command,
    epilog="Examples:\n\nbrainrdl plot runs/it --out figures/\n\nbrainrdl plot it.h5 --out it.png\n\n"
    "brainrdl plot fmri.mat --names images/ --read variable=IT_RDMs --mean",
)
def plot(
    source: Annotated[Path, typer.Argument(help="Run folder, or RDM file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="Folder for the figures of a run ('figures' in the run folder by default), or image file for RDMs "
            "(the name of the RDM file with .png by default).",
        ),
    ] = None,
    names: Names = None,
    options: ReadOptions = [],  # noqa: B006
    targets: Targets = [],  # noqa: B006
    subjects: Subjects = [],  # noqa: B006
    mean: Mean = False,
    subject_by: SubjectBy = "subject",
    average_over: AverageOver = [],  # noqa: B006
    overwrite: Overwrite = False,
) -> None:
    """Draw the figures of a run into a folder, or the RDMs of a file into an image."""
    if source.is_dir():
        of_rdms = {
            "--names": names, "--read": options, "--target": targets, "--subject": subjects, "--mean": mean or None,
            "--subject-by": None if subject_by == "subject" else subject_by, "--average-over": average_over,
        }  # fmt: skip
        files.refuse_options(of_rdms, "all figures of a run are drawn")
        _plot_run(source, out or source / "figures", overwrite)
        return
    from brainrdl import plot as _plot

    out = out or source.with_suffix(".png")
    check_figure(out, overwrite)
    (found,) = chosen([read_rdms(source, names, read_options(options))], [source], targets, subjects)
    (how,) = grouping([found], mean, subject_by, average_over)
    found = labelled(found, source.name, mean, how)
    save_figure(_plot.rdms(found, titles=found.rdm_descriptors["name"]), out)


def _plot_run(run: Path, folder: Path, overwrite: bool) -> None:
    from brainrdl.reporting.page import figures

    if is_figure(folder) or folder.is_file():
        refuse(f"--out {str(folder)!r} must be a folder, because a run has several figures")
    drawn = {folder / f"{name}.png": figure for name, figure in figures(run).items()}
    check_new(drawn, overwrite)
    for path, figure in drawn.items():
        save_figure(figure, path)


@app.command(
    cls=Command,
    epilog="Examples:\n\nbrainrdl report runs/it --out supplement.html --title 'A model of IT'\n\n"
    "brainrdl report runs/it runs/v1 runs/rsa --out compared.html\n\n"
    "brainrdl report runs/it --stimuli images/ --out with_images.html",
)
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...",
            help="Folder of `brainrdl fit`, `evaluate`, `rsa` or `demo`; several are shown side by side.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="HTML file to write; by default the run's own report is updated."
        ),
    ] = None,
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="Title of the page.")] = None,
    stimuli: Annotated[
        Path | None,
        typer.Option(
            "--stimuli",
            metavar="FOLDER",
            help="Show small images of the conditions next to values of RDMs. They become part of the page: check "
            "their licence before you share it.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a self-contained HTML page about one or several runs, evaluations or plain RSAs."""
    if out is None and len(runs) > 1:
        refuse("a page about several runs needs a file; give one with --out, for example --out compared.html")
    if out is not None:
        check_new([out], overwrite)
    for run in runs:
        if not run.is_dir():
            refuse(f"there is no folder {str(run)!r}; give the folder of a run")
    from brainrdl import report as write_report

    source = runs[0] if len(runs) == 1 else runs
    say_where("report", write_report(source, out, title=title, stimuli=stimuli, progress=not quiet))


@app.command(cls=Command, epilog="Example: brainrdl layers resnet18")
def layers(
    model: Annotated[
        str,
        typer.Argument(help="Name of the network, or package.module:factory.", autocompletion=complete(networks)),
    ],
    as_json: AsJson = False,
) -> None:
    """List the layers of a network that can be read out, with their output shapes and numbers of parameters."""
    from brainrdl.models.layer_table import describe_layers
    from brainrdl.models.networks import build

    network = build(model)
    table = describe_layers(network.module, (network.channels, network.size, network.size))
    print_json(table) if as_json else print_table(table)


@app.command(cls=Command, epilog="Examples:\n\nbrainrdl recipe --template > recipe.yaml\n\nbrainrdl recipe recipe.yaml")
def recipe(
    path: Annotated[Path | None, typer.Argument(help="Recipe to check.")] = None,
    template: Annotated[bool, typer.Option("--template", help="Print a commented recipe to start from.")] = False,
) -> None:
    """Check a recipe and print it with all defaults filled in, or print a template."""
    from brainrdl.recipe import files as _recipe, starter

    if template and path is not None:
        refuse(f"--template prints a new recipe, and {str(path)!r} is a recipe to check; give one of the two")
    if template or path is None:
        typer.echo(starter.template(), nl=False)
    else:
        typer.echo(_recipe.dump(_recipe.load(path)), nl=False)


def main() -> None:
    """Run the command line; an error is shown as one line on stderr, with a non-zero status.

    Examples
    --------
    >>> main.__name__  # the console script ``brainrdl``
    'main'
    """
    load_late()
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    warnings.showwarning = lambda message, *_: typer.echo(f"brainrdl: {message}", err=True)
    try:
        status = _group()(arguments, standalone_mode=False)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _fail(*_worded(error))
    if status == _INTERRUPTED:  # Typer catches the interrupt itself
        _fail("interrupted", status)
    sys.exit(status)


@cache
def _group() -> Any:
    """Return all commands, which are made once per process: reading the annotations of their options takes 0.1 s."""
    return typer.main.get_command(app)


def _worded(error: Exception) -> tuple[str, int]:
    if hasattr(error, "format_message"):  # a wrong command line
        return f"{error.format_message()} (see --help)", 2
    if isinstance(error, BrainrdlError):
        return str(error), 1
    if isinstance(error, OSError) and error.strerror and error.filename:
        path = Path(error.filename)
        shown = path.parent if path.name.startswith(".") else path  # a temporary file says nothing to the user
        return f"{str(shown)!r}: {error.strerror}; choose another path, or change its permissions", 1
    return f"{type(error).__name__}: {error} (--debug shows where)", 1


def _fail(message: str, status: int) -> NoReturn:
    with suppress(OSError):  # the terminal may be closed
        typer.echo(f"brainrdl: {' '.join(message.split())}", err=True)
    sys.exit(status)
