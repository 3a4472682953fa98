"""A progress bar on stderr for work that takes longer than two seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_AFTER = 2.0  # seconds, after which a user wonders


def track_slow(items: Iterable[T], what: str, n: int, shown: bool = True) -> Iterator[T]:
    """Iterate over `items`, and show progress and the time left on stderr if it takes longer than two seconds.

    Parameters
    ----------
    items : iterable
        What to iterate over.
    what : str
        Description of the work.
    n : int
        Number of items.
    shown : bool
        False shows nothing.

    Examples
    --------
    >>> list(track_slow([1, 2], "counting", 2))
    [1, 2]
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)  # a terminal shows the bar while it moves, a log keeps its last state
    bar = Progress(*columns, console=console, transient=console.is_terminal, disable=not shown)
    task, started = bar.add_task(what, total=n), time.monotonic()
    try:
        for item in items:
            yield item
            bar.advance(task)
            if shown and not bar.live.is_started and time.monotonic() - started > _AFTER:
                bar.start()
    finally:
        if bar.live.is_started:  # otherwise it would write an empty line
            bar.stop()
