"""Progress of work that takes longer than two seconds, on stderr: a bar in a terminal, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

Advance = Callable[[int, str], None]  # number of items done so far, and what else to show

_AFTER = 2.0  # seconds, after which a user wonders

_BETWEEN = 10.0  # seconds between two lines of a log

_SILENT = ContextVar("silent", default=False)


@contextmanager
def silenced(silent: bool = True) -> Iterator[None]:
    """Show no progress of work that begins inside, in this thread, also if no option says so; False changes nothing.

    Examples
    --------
    >>> with silenced():
    ...     list(track_slow([1, 2], "counting", 2))
    [1, 2]
    """
    before = _SILENT.set(silent or _SILENT.get())
    try:
        yield
    finally:
        _SILENT.reset(before)


@contextmanager
def slow_progress(what: str, n: int, shown: bool = True, done: int = 0) -> Iterator[Advance]:
    """Give a function that shows how many of `n` items are done, and the time left, after two seconds of work.

    In a terminal it is a bar, which disappears at the end; elsewhere a line every ten seconds, so that a log can be
    read.

    Parameters
    ----------
    what : str
        Description of the work.
    n : int
        Number of items.
    shown : bool
        False shows nothing; neither does True inside `silenced`.
    done : int
        Number of items that were done before.

    Examples
    --------
    >>> with slow_progress("counting", 3) as advance:
    ...     advance(1, "")
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not shown or _SILENT.get():
        yield lambda done, more: None
    elif console.is_terminal:
        with _bar(console, what, n, done) as advance:
            yield advance
    else:
        yield _Lines(console.file.write, what, n, done)


@contextmanager
def _bar(console: object, what: str, n: int, done: int) -> Iterator[Advance]:
    from rich.errors import LiveError
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[more]}"))
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)  # type: ignore[arg-type]
    task, started = bar.add_task(what, total=n, completed=done, more=""), time.monotonic()

    def advance(done: int, more: str) -> None:
        bar.update(task, completed=done, more=more)
        if not bar.live.is_started and time.monotonic() - started > _AFTER:
            with suppress(LiveError):  # a bar of what this work is part of is shown
                bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:  # otherwise it would write an empty line
            bar.stop()


class _Lines:
    """Write a line when two seconds have passed, and then every ten seconds."""

    def __init__(self, write: Callable[[str], object], what: str, n: int, done: int) -> None:
        self._write, self._what, self._n, self._before = write, what, n, done
        self._started = time.monotonic()
        self._due = self._started + _AFTER

    def __call__(self, done: int, more: str) -> None:
        now = time.monotonic()
        if now < self._due or done <= self._before:
            return
        self._due = now + _BETWEEN
        left = (now - self._started) / (done - self._before) * (self._n - done)
        parts = [f"{done} of {self._n}", more, f"about {in_words(left)} left" if done < self._n else "done"]
        self._write(f"{self._what}: {', '.join(part for part in parts if part)}\n")


def in_words(seconds: float) -> str:
    """Write a duration as a person would say it.

    Examples
    --------
    >>> in_words(8), in_words(200), in_words(9000)
    ('8 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


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
    with slow_progress(what, n, shown) as advance:
        for done, item in enumerate(items, 1):
            yield item
            advance(done, "")
