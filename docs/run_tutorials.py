"""Run the worked examples: ``python docs/run_tutorials.py [NAME ...]`` writes docs/tutorials/NAME.md and its figures.

An example is a script docs/tutorials/NAME.py in the percent format: cells begin with ``# %%``, cells of text with
``# %% [markdown]``. Its first cell is text, with the title as heading and one paragraph that says what is shown. A
cell ``# %% tags=["parameters"]`` sets sizes, which the tests make smaller; the last figure of a cell
``# %% tags=["thumbnail"]`` is the one of the overview. A page shows what each cell prints, the value of its last line,
and its figures. Notebooks are made when the site is built: this file is also a hook of mkdocs (`on_files`).
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import html
import io
import json
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TUTORIALS = Path(__file__).parent / "tutorials"

# The order of the overview and of the menu
ORDER = (
    "fit_to_human_it",
    "layers_and_regions",
    "beyond_reweighting",
    "distil_a_network",
    "task_and_brain",
    "from_bold_to_a_student",
    "searchlight",
    "rdm_movie",
    "take_a_model_away",
)

_OVERVIEW = """# Worked examples

Each example is a script that was run from beginning to end. Its page shows the code and what it printed and drew, and
it can be downloaded as a script or as a notebook. All but one need no files: data are simulated or are downloaded by
`brainrdl.datasets`. *Layers and regions* needs two files that you [download by hand](../how_to/data_sets.md). Single
figures with their code are in the [gallery](../gallery.md).

Open the notebook in JupyterLab (`pip install jupyterlab`), or the script in an editor that runs cells (`# %%`), such as
VS Code or Spyder: these show the tables and figures after each cell. `python NAME.py` runs everything, but shows only
what is printed.

<div style="display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: 1.2rem">
{cells}
</div>
"""

_CELL = """<div style="font-size: .7rem; line-height: 1.35"><a href="{name}/">
<img src="figures/{picture}" alt="" class="plain"
style="display: block; width: 100%; height: 9rem; object-fit: contain; background: white">
<strong>{title}</strong></a><br>{summary}</div>"""

_DOWNLOADS = """
Download: [script]({name}.py){{ download }} · [notebook]({name}.ipynb){{ download }} · [how to run them](index.md)
"""

_NARROW = 6  # inches; on a phone, wider figures scroll sideways

_MARK = re.compile(r"^# %%(?: (?P<kind>\[markdown\]))?(?: tags=(?P<tags>\[.*\]))?$")
_LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+:|#)[^)]*\)")


@dataclass(frozen=True)
class Cell:
    """A cell: text in Markdown or code, its tags, and the number of its first line in the script."""

    is_text: bool
    source: str
    tags: tuple[str, ...]
    line: int


def path_of(name: str) -> Path:
    """Return the script of an example."""
    return TUTORIALS / f"{name}.py"


def cells(script: str) -> list[Cell]:
    """Divide a script in cells.

    >>> [cell.source for cell in cells("# %% [markdown]\\n# # Title\\n\\n# %%\\nx = 1\\n")]
    ['# Title', 'x = 1']
    """
    lines = script.splitlines()
    starts = [k for k, line in enumerate(lines) if line.startswith("# %%")]
    if starts[:1] != [0]:
        raise ValueError("a script begins with a cell: # %% [markdown]")
    found = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        mark = _MARK.match(lines[start])
        if not mark:
            raise ValueError(f"line {start + 1} does not begin a cell: {lines[start]}")
        body = lines[start + 1 : end]
        source = "\n".join(map(_uncomment, body) if mark["kind"] else body).strip("\n")
        found.append(Cell(bool(mark["kind"]), source, tuple(json.loads(mark["tags"] or "[]")), start + 2))
    return found


def _uncomment(line: str) -> str:
    if line and not line.startswith("#"):
        raise ValueError(f"a line of text begins with #: {line}")
    return line[1:].removeprefix(" ")


def title_of(script: str) -> str:
    """Return the heading of the first cell."""
    return cells(script)[0].source.splitlines()[0].removeprefix("# ")


def summary_of(script: str) -> str:
    """Return the first paragraph."""
    return " ".join(cells(script)[0].source.split("\n\n")[1].splitlines())


def notebook(script: str) -> str:
    """Return the script as a notebook without outputs; links to other pages become plain text."""
    made = []
    for k, cell in enumerate(cells(script)):
        source = _LINK.sub(r"\1", cell.source) if cell.is_text else cell.source
        part: dict[str, Any] = {"cell_type": "markdown" if cell.is_text else "code", "id": f"cell-{k}"}
        part |= {"metadata": {"tags": list(cell.tags)} if cell.tags else {}, "source": source.splitlines(keepends=True)}
        made.append(part if cell.is_text else part | {"execution_count": None, "outputs": []})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps({"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def on_files(files: Any, config: Any) -> Any:
    """Add a notebook of each example to the site (called by mkdocs)."""
    from mkdocs.structure.files import File

    for name in ORDER:
        text = notebook(path_of(name).read_text(encoding="utf-8"))
        files.append(File.generated(config, f"tutorials/{name}.ipynb", content=text))
    return files


@dataclass
class Output:
    """What a cell printed, the value of its last line, and its figures."""

    printed: str
    value: Any
    figures: list[Any]


def run(script: str, reduced: dict[str, Any] | None = None) -> Iterator[tuple[Cell, Output | None]]:
    """Run the cells in the present folder, in one namespace; `reduced` replaces parameters."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells(script):
        if cell.is_text:
            yield cell, None
            continue
        yield cell, _run(cell, namespace)
        if "parameters" in cell.tags:
            unknown = (reduced or {}).keys() - namespace.keys()
            if unknown:
                raise KeyError(f"not parameters of the example: {sorted(unknown)}")
            namespace |= reduced or {}


def _run(cell: Cell, namespace: dict[str, Any]) -> Output:
    import matplotlib.pyplot as plt

    tree = ast.parse("\n" * (cell.line - 1) + cell.source)  # so that a traceback names the line of the script
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        exec(compile(tree, "cell", "exec"), namespace)
        if last:
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
    text = printed.getvalue() + "".join(f"{w.category.__name__}: {w.message}\n" for w in warned)
    figures = [plt.figure(number) for number in plt.get_fignums()]
    return Output(text, value, figures)


def execute(name: str) -> str:
    """Run an example in an empty folder, save its figures, and return its page."""
    import matplotlib.pyplot as plt

    script, parts, n_figures = path_of(name).read_text(encoding="utf-8"), [], 0
    folder = TUTORIALS / "figures"
    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"{name}_*"):
        old.unlink()
    started, home = time.process_time(), Path.cwd()
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        try:
            for cell, output in run(script):
                if output is None:
                    parts.append(cell.source + "\n")
                    continue
                parts.append(_fenced(cell.source, "python"))
                parts += [_fenced(output.printed, "text")] if output.printed else []
                parts += [_shown(output.value)] if output.value is not None and not _is_drawn(output.value) else []
                for figure in output.figures:
                    n_figures += 1
                    file = f"{name}_{n_figures}{'_thumbnail' if 'thumbnail' in cell.tags else ''}.png"
                    figure.savefig(folder / file, dpi=140, facecolor="white")
                    wide = "{ .wide }" if figure.get_figwidth() > _NARROW else ""
                    parts.append(f"![Figure {n_figures} of the example](figures/{file}){wide}\n")
                plt.close("all")
        finally:
            os.chdir(home)
    seconds = time.process_time() - started
    parts.append(f"*Processor time of this run: {_duration(seconds)}.*\n")
    return "\n".join([parts[0].partition("\n")[0] + "\n", _DOWNLOADS.strip().format(name=name), *_rest(parts)])


def _rest(parts: list[str]) -> list[str]:
    return [parts[0].partition("\n")[2], *parts[1:]]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```\n"


def _is_drawn(value: Any) -> bool:
    return type(value).__module__.startswith("matplotlib")


def _shown(value: Any) -> str:
    import pandas as pd

    from brainrdl.inference.p_values import is_p

    if isinstance(value, pd.DataFrame):
        small = {column: _small_p for column in value.columns if is_p(column)}
        numbered = value.index.name is None and pd.api.types.is_integer_dtype(value.index)
        table = value.to_html(border=0, na_rep="", justify="left", index=not numbered, formatters=small)
        return '<div style="overflow-x: auto" markdown="0">\n' + table.replace(' class="dataframe"', "") + "\n</div>\n"
    return _fenced(repr(value), "text")


def _small_p(value: Any) -> str:
    """Write the p-values of a column; other values as they are."""
    if not isinstance(value, float):
        return str(value)
    from brainrdl.inference import format_p

    return format_p(value, missing="")


def picture_of(name: str) -> str:
    """Return the file of the figure that the overview shows."""
    figures = sorted((TUTORIALS / "figures").glob(f"{name}_*.png"))
    marked = [path.name for path in figures if path.stem.endswith("_thumbnail")]
    return (marked or [path.name for path in figures])[-1]


def overview() -> str:
    """Write the page with all examples."""
    made = []
    for name in ORDER:
        script = path_of(name).read_text(encoding="utf-8")
        title, summary = html.escape(title_of(script)), html.escape(_LINK.sub(r"\1", summary_of(script)))
        made.append(_CELL.format(name=name, picture=picture_of(name), title=title, summary=summary))
    return _OVERVIEW.format(cells="\n".join(made))


def main() -> None:
    """Command line."""
    import matplotlib

    matplotlib.use("agg")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="examples to run (default: all)")
    parser.add_argument("--overview", action="store_true", help="write only the overview")
    asked = parser.parse_args()
    for name in () if asked.overview else asked.names or ORDER:
        print(name, file=sys.stderr)
        path_of(name).with_suffix(".md").write_text(execute(name), encoding="utf-8")
    (TUTORIALS / "index.md").write_text(overview(), encoding="utf-8")


if __name__ == "__main__":
    main()
