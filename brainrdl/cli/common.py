"""What the commands share: option types and their completion, tables and figures on their way out."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd
console = Console()

# How the Python arguments that messages advise are spelled for a command that reads RDM files.
READ_OPTIONS = {
    "variable=": "--read variable=NAME",
    "axes=": "--read axes=first",
    "delimiter=": "--read 'delimiter=;'",
    "reader=": "--read reader=NAME",
    "by=": "--read by=NAME",
    "condition_column=": "--condition-column NAME",
    "roi=": "--roi NAME",
    "names=": "--names FILE",
}

_OWN_NETWORKS = ("lenet", "small_cnn", "efficientnet_lite0")

_REGISTERED = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)", re.MULTILINE)


def complete(known: Callable[[], tuple[str, ...]]) -> Callable[[str], list[str]]:
    return lambda incomplete: [name for name in known() if name.startswith(incomplete)]


def keys_of(module: str, registry: str) -> tuple[str, ...]:
    """Read the keys of a dict from the source of its module: importing torch to complete a word would take seconds."""
    spec = find_spec(module)
    body = ast.parse(Path(str(spec and spec.origin)).read_text("utf-8")).body
    assigned = {ast.unparse(node.target): node.value for node in body if isinstance(node, ast.AnnAssign)}
    found = assigned[registry]
    return tuple(ast.literal_eval(key) for key in found.keys if key) if isinstance(found, ast.Dict) else ()


def comparators() -> tuple[str, ...]:
    return keys_of("brainrdl.similarity.comparators", "SIMILARITIES")


def dissimilarities() -> tuple[str, ...]:
    return keys_of("brainrdl.dissimilarity.measures", "DISSIMILARITIES")


def networks() -> tuple[str, ...]:
    """Names of `brainrdl.models.known_names`, torchvision's as its files have them."""
    package = find_spec("torchvision")
    folders = (package and package.submodule_search_locations) or ()
    files = sorted(file for folder in folders for file in Path(folder, "models").glob("*.py"))
    return (*_OWN_NETWORKS, *(name for file in files for name in _REGISTERED.findall(file.read_text("utf-8"))))


Comparators = Annotated[
    list[str],
    typer.Option("--comparator", "-c", help="RDM comparator; may be repeated.", autocompletion=complete(comparators)),
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
        help="Option of the file's reader, as variable=IT_RDMs or tmin=-0.1; one given twice is a list, None is none, "
        "and entities=res:2 names a value. Of one of two files: a:variable=IT_RDMs.",
    ),
]

Targets = Annotated[list[str], typer.Option("--target", help="Only RDMs of this region (rdm descriptor roi).")]

Subjects = Annotated[list[str], typer.Option("--subject", help="Only RDMs of this subject.")]

Mean = Annotated[bool, typer.Option("--mean", help="Average each subject's RDMs, then the subjects', a region.")]


def read_options(given: Sequence[str], side: str = "", sides: str = "") -> dict[str, list[str]]:
    """Give the words of each option of a file's reader: those for every file, and those that begin with its side."""
    from brainrdl._core.errors import refuse

    options: dict[str, list[str]] = {}
    for word in given:
        name, found, value = word.partition("=")
        of, _, key = name.rpartition(":")
        if not found or not key or of not in ("", *sides):
            one = " (for one file, a:KEY=VALUE or b:KEY=VALUE)" if sides else ""
            refuse(f"--read expects KEY=VALUE{one}, got {word!r}")
        if key in ("path", "names"):
            refuse(f"--read {word!r}: {key!r} is no option of a reader; give the file as argument and names by --names")
        if of in ("", side):
            options.setdefault(key, []).append(value)
    return options


def print_json(table: pd.DataFrame) -> None:
    typer.echo(json.dumps(json.loads(table.to_json(orient="records")), indent=2))


def print_table(table: pd.DataFrame) -> None:
    shown = Table(*[escape(str(column)) for column in table.columns], box=None, header_style="bold", pad_edge=False)
    for row in table.itertuples(index=False):
        shown.add_row(*[escape(_cell(value)) for value in row])
    console.print(shown)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.3f}"
    return str(value)


def check_figure(path: Path) -> None:
    """Refuse a file that is no image, before any work."""
    from brainrdl._core.errors import refuse

    if not is_figure(path) or path.is_dir():
        refuse(f"--out {str(path)!r} is no image file; give one like {path.stem or 'figure'}.png, .pdf or .svg")


def is_figure(path: Path) -> bool:
    from matplotlib.backend_bases import FigureCanvasBase

    return path.suffix[1:].lower() in FigureCanvasBase.get_supported_filetypes()


def save_figure(figure: Any, path: Path, quiet: bool = False) -> None:
    from brainrdl._core.files import atomic

    with atomic(path) as part:
        figure.savefig(part, dpi=200, bbox_inches="tight")
    if not quiet:
        say_where("figure", path)


def say_where(what: str, path: Path) -> None:
    console.print(f"{what}: {escape(str(path))}", soft_wrap=True, highlight=False)
