"""Shorter garbage collections while many small objects are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def short_collections() -> Iterator[None]:
    """Leave out of garbage collections what exists already, such as the many objects of imported libraries.

    Drawing makes so many objects that the collector runs often. A program that has frozen its objects itself is left as
    it is.

    Examples
    --------
    >>> with short_collections():
    ...     gc.get_freeze_count() > 0
    True
    >>> gc.get_freeze_count()
    0
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
