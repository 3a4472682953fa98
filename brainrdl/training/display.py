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
    """Show a bar with the live RDM correlations and accuracies of training and validation stimuli, or the loss.

    Examples
    --------
    >>> with progress_bar(10, 0, shown=False) as show:
    ...     show({"step": 10, "train_similarity": 0.5, "validation_similarity": float("nan")})
    """
    with slow_progress("fit", steps, shown, done) as advance:

        def show(row: Mapping[str, Any]) -> None:
            advance(int(row["step"]), _measured(row))

        yield show


def _measured(row: Mapping[str, Any]) -> str:
    """Write the measures of a row that are known."""
    found = []
    for name, what in (("RDM correlation", "similarity"), ("accuracy", "accuracy")):
        known = [
            f"{part} {value:.3f}"
            for part in ("train", "validation")
            if not math.isnan(value := row.get(f"{part}_{what}", math.nan))
        ]
        found += [f"{name}: {', '.join(known)}"] if known else []
    return "; ".join(found) or f"loss {row['loss']:.3f}"


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
