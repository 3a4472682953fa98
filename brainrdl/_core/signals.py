"""Signals that ask a process to stop, as a batch system or a closed terminal sends them, end it like Ctrl-C.

SIGTERM and SIGHUP usually end a process at once. While a run folder is open they raise `Stopped`, a KeyboardInterrupt,
so that what is open is closed; during training they (and Ctrl-C) first wait for the end of the step (`deferred`).
Workers of another process ignore them (`ignoring`), and stop when that process says so (`ask_to_stop`).
Signals for which the user has set another action keep it, and so does a process that ignores them (``nohup``).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

_STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


_noting: list[list[int]] = []  # what the open blocks of `deferred` have noted


class Stopped(KeyboardInterrupt):
    """The process was asked to stop.

    Parameters
    ----------
    signum : int
        Number of the signal.
    message : str, optional
        What was done, and how to continue.

    Attributes
    ----------
    signum : int
        Number of the signal.

    Examples
    --------
    >>> Stopped(signal.SIGTERM)
    Stopped('stopped by SIGTERM')
    """

    def __init__(self, signum: int, message: str = "") -> None:
        said = f"stopped by {signal.Signals(signum).name}"
        super().__init__(f"{said}: {message}" if message else said)
        self.signum = int(signum)


class _Handler:
    """A handler of ours, which may be replaced by another of ours."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self._act = act

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self._act(signum)


@contextmanager
def interrupting() -> Iterator[None]:
    """During the block, SIGTERM and SIGHUP raise `Stopped`.

    Examples
    --------
    >>> try:
    ...     with interrupting():
    ...         signal.raise_signal(signal.SIGTERM)
    ... except KeyboardInterrupt as error:
    ...     print(error)
    stopped by SIGTERM
    """

    def stop(signum: int) -> None:
        raise Stopped(signum)

    with _handled(stop, _STOPPING):
        yield


@contextmanager
def deferred(then: Callable[[], object] = lambda: None) -> Iterator[Sequence[int]]:
    """During the block, SIGTERM, SIGHUP and SIGINT are only noted, in the sequence that is returned.

    A second signal acts at once, and so does a noted one when the block ends without an error.

    Parameters
    ----------
    then : callable, optional
        Called when a signal is noted.

    Examples
    --------
    >>> try:
    ...     with interrupting(), deferred() as asked:
    ...         signal.raise_signal(signal.SIGTERM)
    ...         print("the end of the step", asked == [signal.SIGTERM])
    ... except KeyboardInterrupt as error:
    ...     print(error)
    the end of the step True
    stopped by SIGTERM
    """
    asked: list[int] = []

    def note(signum: int) -> None:
        if asked:
            raise Stopped(signum)
        asked.append(signum)
        then()

    with _handled(note, (*_STOPPING, signal.SIGINT)):
        _noting.append(asked)
        try:
            yield asked
        finally:
            _noting.remove(asked)
    if asked:
        signal.raise_signal(asked[0])


def ask_to_stop() -> None:
    """Note SIGTERM in the open blocks of `deferred`, as if it had come; a block that has noted a signal stays as it is.

    Examples
    --------
    >>> try:
    ...     with interrupting(), deferred() as asked:
    ...         ask_to_stop()
    ...         ask_to_stop()
    ...         print(asked == [signal.SIGTERM])
    ... except KeyboardInterrupt as error:
    ...     print(error)
    True
    stopped by SIGTERM
    """
    for asked in _noting:
        if not asked:
            asked.append(signal.SIGTERM)


def ignoring() -> None:
    """Ignore SIGTERM, SIGHUP and SIGINT outside blocks of `deferred` from now on, as a worker of another process does.

    Otherwise Ctrl-C, which a terminal sends to all processes, would end a worker that waits for its next job, and with
    it the work of the others.
    """
    default = (signal.SIG_DFL, signal.default_int_handler)
    for each in (*_STOPPING, signal.SIGINT):
        if signal.getsignal(each) in default:
            signal.signal(each, _Handler(lambda signum: None))


@contextmanager
def _handled(act: Callable[[int], None], signals: Sequence[int]) -> Iterator[None]:
    """Handle signals that have their default action, or one of ours; only the main thread can."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {each: signal.getsignal(each) for each in signals}
    default = (signal.SIG_DFL, signal.default_int_handler)
    before = {each: known for each, known in before.items() if known in default or isinstance(known, _Handler)}
    handler = _Handler(act)
    for each in before:
        signal.signal(each, handler)
    try:
        yield
    finally:
        for each, known in before.items():
            signal.signal(each, known)
