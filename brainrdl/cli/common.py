"""What the commands share: types of options, and how tables and figures are shown and written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from brainrdl._core.errors import refuse
from brainrdl.cli.completion import comparators, complete
from brainrdl.cli.spelling import READER
from brainrdl.inference.p_values import format_p, is_p

if TYPE_CHECKING:
    import pandas as pd
console = Console()

_WIDEST = 100_000  # characters: in a pipe, no table is ever wrapped

Comparators = Annotated[
    list[str],
    typer.Option(
        "--comparator",
        "-c",
        metavar="NAME",
        help="RDM comparator; can be given several times.",
        autocompletion=complete(comparators),
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

RunOut = Annotated[Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Run folder to write.")]

Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bars.")]

Names = Annotated[
    Path | None,
    typer.Option(
        "--names",
        metavar="FILE",
        help="Condition names for files that contain none: a text file with one name per line, or a folder of stimuli, "
        "in the order of the RDM.",
        rich_help_panel=READER,
    ),
]

_PATTERN = set("*?[{")  # characters of a pattern of several files

_READ_HELP = (
    "Option of the reader, for example variable=IT_RDMs or tmin=-0.1. Give an option several times to make a list; "
    "the word None means no value; entities=res:2 is a mapping."
)

ReadOptions = Annotated[list[str], typer.Option("--read", metavar="KEY=VALUE", help=_READ_HELP, rich_help_panel=READER)]

ReadOptionsOfTwo = Annotated[
    list[str],
    typer.Option(
        "--read",
        metavar="[a:|b:]KEY=VALUE",
        help=f"{_READ_HELP} Begin with a: or b: to set it for the first or the second file only.",
        rich_help_panel=READER,
    ),
]

Targets = Annotated[
    list[str],
    typer.Option(
        "--target", metavar="NAME", help="Use only RDMs of this region (descriptor roi); can be given several times."
    ),
]

Subjects = Annotated[
    list[str],
    typer.Option("--subject", metavar="NAME", help="Use only RDMs of this subject; can be given several times."),
]

Mean = Annotated[
    bool,
    typer.Option(
        "--mean", help="Average the RDMs of each region, layer or time across subjects; see also --average-over."
    ),
]

SubjectBy = Annotated[
    str, typer.Option("--subject-by", metavar="NAME", help="RDM descriptor that distinguishes subjects.")
]

AverageOver = Annotated[
    list[str],
    typer.Option(
        "--average-over",
        metavar="NAME",
        help="RDM descriptor, such as session, over which the RDMs of a subject are averaged first; can be given "
        "several times.",
    ),
]


def read_options(given: Sequence[str], side: str = "", sides: str = "") -> dict[str, list[str]]:
    """Give the words for each option of a file's reader: those for every file, and those that begin with its side."""
    from brainrdl._core.errors import arg

    options: dict[str, list[str]] = {}
    for word in given:
        name, found, value = word.partition("=")
        of, _, key = name.rpartition(":")
        if not found or not key or of not in ("", *sides):
            one = " (for one of the files, a:KEY=VALUE or b:KEY=VALUE)" if sides else ""
            refuse(f"--read expects KEY=VALUE{one}, got {word!r}")
        if key in ("path", "names"):
            refuse(
                f"--read {word!r}: {key!r} is not an option of a reader; give the file as an argument and the names "
                f"with {arg('names', of='read')}"
            )
        if of in ("", side):
            options.setdefault(key, []).append(value)
    return options


def print_json(table: pd.DataFrame) -> None:
    typer.echo(json.dumps(json.loads(table.to_json(orient="records")), indent=2))


def print_table(table: pd.DataFrame) -> None:
    """Print every word of a table: a terminal wraps what is too long, a pipe gets one line per row."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column in table.columns:
        shown.add_column(escape(str(column)), overflow="fold")
    for row in table.itertuples(index=False):
        shown.add_row(*[escape(_cell(*cell)) for cell in zip(table.columns, row, strict=True)])
    printer = console if console.is_terminal else Console(file=console.file, width=_WIDEST)
    printer.print(shown)


def _cell(column: object, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if is_p(column):
        return format_p(value, missing="")
    return "" if value != value else f"{value:.3f}"


def check_new(paths: Iterable[Path], overwrite: bool) -> None:
    """Refuse to replace files, before any work, unless asked to: the one rule of all commands that write a file."""
    from brainrdl._core.errors import arg, quote

    existing = [str(path) for path in paths if path.exists()]
    if existing and not overwrite:
        what = repr(existing[0]) if len(existing) == 1 else quote(existing)
        refuse(f"{what} exists already; replace with {arg('overwrite', True)}, or choose another name")


def check_source(path: Path | str) -> None:
    """Refuse a file that does not exist before the seconds in which torch loads; patterns are read later."""
    from brainrdl._core.files import check_there

    if not _PATTERN & set(str(path)) and not Path(path).is_dir():
        check_there(Path(path))


def check_files(*paths: Path | str | None) -> None:
    """Refuse files that do not exist before torch loads; None is a file that was not given."""
    from brainrdl._core.errors import about

    for path in paths:
        with about(f"file {str(path)!r}"):
            if path is not None:
                check_source(path)


def check_figure(path: Path, overwrite: bool) -> None:
    """Refuse a file that is not an image, or that exists, before any work."""
    if not is_figure(path) or path.is_dir():
        refuse(
            f"--out {str(path)!r} is not an image file; choose a name like {path.stem or 'figure'}.png, .pdf or .svg"
        )
    check_new([path], overwrite)


def is_figure(path: Path) -> bool:
    from matplotlib.backend_bases import FigureCanvasBase

    return path.suffix[1:].lower() in FigureCanvasBase.get_supported_filetypes()


def save_figure(figure: Any, path: Path, quiet: bool = False) -> None:
    from brainrdl._core.files import atomic

    with atomic(path) as part:
        figure.savefig(part, dpi=200, bbox_inches="tight")
    if not quiet:
        say_where("figure", path)


def say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def say_where(what: str, path: Path) -> None:
    console.print(f"{what}: {escape(str(path))}", soft_wrap=True, highlight=False)
