"""What a run shows while it works: a progress bar on stderr, and events for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


@runtime_checkable
class Show(Protocol):
    """Receives each new row of the history."""

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Show `row`."""


@contextmanager
def progress_bar(steps: int, done: int, shown: bool) -> Iterator[Show]:
    """Show a bar with the live RDM correlations of training and validation stimuli.

    Examples
    --------
    >>> with progress_bar(10, 0, shown=False) as show:
    ...     show({"step": 10, "train_similarity": 0.5, "validation_similarity": float("nan")})
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    seen = TextColumn("RDM correlation: train {task.fields[train]:.3f}, validation {task.fields[validation]:.3f}")
    columns = (TextColumn("fit"), BarColumn(), MofNCompleteColumn(), seen, TimeRemainingColumn())
    with Progress(*columns, disable=not shown, transient=True) as bar:
        task = bar.add_task("fit", total=steps, completed=done, train=math.nan, validation=math.nan)

        def show(row: Mapping[str, Any]) -> None:
            similarities = {part: row[f"{part}_similarity"] for part in ("train", "validation")}
            bar.update(task, completed=row["step"], **similarities)

        yield show


@contextmanager
def event_writer(folder: Path | None) -> Iterator[Show]:
    """Write rows as TensorBoard events into `folder`; write nothing without a folder or without tensorboard.

    Examples
    --------
    >>> with event_writer(None) as write:
    ...     write({"step": 0, "loss": 1.0})
    """
    if folder is None or find_spec("tensorboard") is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:

        def write(row: Mapping[str, Any]) -> None:
            for key, value in row.items():
                if key != "step":
                    writer.add_scalar(key, value, row["step"])

        yield write


def track(items: Iterable[T], what: str, shown: bool, n: int | None = None) -> Iterator[T]:
    """Iterate over `items` and show a progress bar; `n` is their number if they have no length.

    Examples
    --------
    >>> list(track([1, 2], "counting", shown=False))
    [1, 2]
    """
    from rich.progress import track as rich_track

    yield from rich_track(items, what, n, disable=not shown)
