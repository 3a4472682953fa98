"""What a run shows while it works: a progress bar on stderr, and events for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from brainrdl._core.progress import slow_progress, track_slow

T = TypeVar("T")


@runtime_checkable
class Show(Protocol):
    """Receives each new row of the history."""

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Show `row`."""


@contextmanager
def progress_bar(steps: int, done: int, shown: bool) -> Iterator[Show]:
    """Show a bar with the live RDM correlations of training and validation stimuli, as far as they are known.

    Examples
    --------
    >>> with progress_bar(10, 0, shown=False) as show:
    ...     show({"step": 10, "train_similarity": 0.5, "validation_similarity": float("nan")})
    """
    with slow_progress("fit", steps, shown, done) as advance:

        def show(row: Mapping[str, Any]) -> None:
            both = {part: row[f"{part}_similarity"] for part in ("train", "validation")}
            known = ", ".join(f"{part} {value:.3f}" for part, value in both.items() if not math.isnan(value))
            advance(int(row["step"]), f"RDM correlation: {known}" if known else "")

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
    listed = items if isinstance(items, Sized) else ()
    yield from track_slow(items, what, len(listed) if n is None else n, shown)
