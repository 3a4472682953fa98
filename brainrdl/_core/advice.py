"""Refusals told in the words of the one who reads them: what they are about, and how advice is spelled there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from brainrdl._core.errors import BrainrdlError


@contextmanager
def advice(keys: Mapping[str, str] = MappingProxyType({}), where: str = "", of: str = "") -> Iterator[None]:
    """Add to a refusal what it is about, and how the Python arguments that it advises are spelled elsewhere.

    Parameters
    ----------
    keys : mapping of str to str, optional
        What the message may advise, and how that is spelled.
    where : str
        Where it is spelled so.
    of : str
        Put before a message that does not hold it.

    Raises
    ------
    BrainrdlError
        The refusal, with these words.

    Examples
    --------
    >>> from brainrdl._core.errors import refuse
    >>> with advice({"by=": "teacher.by"}, "in the recipe", of="file 'it.h5'"):
    ...     refuse("choose one with by=")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: file 'it.h5': choose one with by= (in the recipe: teacher.by)
    """
    try:
        yield
    except BrainrdlError as error:
        message = str(error)
        spelled = [keys[words] for words in keys if re.search(rf"(?<![\w.]){re.escape(words)}", message)]
        before = f"{of}: " if of not in message else ""
        after = f" ({where}: {', '.join(spelled)})" if spelled else ""
        raise BrainrdlError(f"{before}{message}{after}") from error
