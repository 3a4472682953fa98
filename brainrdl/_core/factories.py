"""Functions of a user's own package by name, ``package.module:function``; importing them runs code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from brainrdl._core.errors import nearest, refuse


def load_factory(name: str, what: str) -> Callable[..., Any]:
    """Import a function, also from the current folder.

    Parameters
    ----------
    name : str
        ``"package.module:function"``.
    what : str
        What it makes, for the message.

    Returns
    -------
    callable

    Raises
    ------
    BrainrdlError
        If the module cannot be imported or has no such function.

    Examples
    --------
    >>> load_factory("math:hypot", "distance")(3, 4)
    5.0
    """
    package, _, attribute = name.partition(":")
    try:
        with _current_folder_first():
            module = importlib.import_module(package)
    except Exception as error:  # a module is the user's code and may raise anything
        refuse(f"{what} {name!r}: {package!r} cannot be imported ({error}); write 'package.module:factory'")
    factory = getattr(module, attribute, None)
    if not callable(factory):
        refuse(f"{what} {name!r}: {package} has no function {attribute!r}{nearest(attribute, vars(module))}")
    found: Callable[..., Any] = factory
    return found


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Allow imports from the current folder, as in `python -m` but not in a console script."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with suppress(ValueError):  # the module may have changed the path itself
            sys.path.remove(here)
