"""The page of a sweep: its table, its figure, and links to the reports of its points."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from brainrdl._core.files import atomic
from brainrdl.reporting.frame import filled
from brainrdl.reporting.page import report
from brainrdl.reporting.tables import Table

INDEX = "index.html"


def write_index(
    folder: Path | str, table: pd.DataFrame, runs: Sequence[Path | str], figure: Path | None = None
) -> Path:
    """Write the report of each run, and a page that lists the runs with links to the reports.

    Parameters
    ----------
    folder : path
        Folder of the page.
    table : DataFrame
        One row per run, as it should be shown.
    runs : sequence of path
        Run folder of each row, relative to `folder`.
    figure : path, optional
        PNG file to show above the table.

    Returns
    -------
    Path
        The page, ``index.html``.

    Raises
    ------
    BrainrdlError
        As in `report`.

    Examples
    --------
    >>> import tempfile
    >>> write_index(tempfile.mkdtemp(), pd.DataFrame({"fit.lr": []}), []).name
    'index.html'
    """
    folder = Path(folder)
    links = {run: report(folder / run).relative_to(folder).as_posix() for run in dict.fromkeys(map(str, runs))}
    rows = [
        [*("" if value != value else str(value) for value in row), "report"] for row in table.itertuples(index=False)
    ]
    listed = Table("Points", [*table.columns, "report"], rows, links=[links[str(run)] for run in runs])
    image = None if figure is None else base64.b64encode(figure.read_bytes()).decode()
    path = folder / INDEX
    with atomic(path) as part:
        part.write_text(filled("index.html.j2", table=listed, figure=image), encoding="utf-8")
    return path
