"""One line of an audit, and functions that word places and shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from brainrdl._core.errors import quote


class Finding(NamedTuple):
    """What was checked and found; `blocks` is True if the data cannot teach because of it."""

    section: str
    level: str
    what: str
    where: str
    value: str
    advice: str = ""
    blocks: bool = False


def where_of(found: Sequence[str], known: Sequence[str], what: str) -> str:
    """Word which of the known names were found: all of them, or how many and which.

    Examples
    --------
    >>> where_of(["V1", "IT"], ["V1", "IT"], "RDMs"), where_of(["V1"], ["V1", "IT"], "RDMs")
    ('all 2 RDMs', "1 of 2 RDMs: ['V1']")
    """
    if len(found) == len(known):
        return f"all {len(known)} {what}" if len(known) > 1 else known[0]
    return f"{len(found)} of {len(known)} {what}: {quote(found)}"


def percent(share: float) -> str:
    """Word a share as a percentage that is not rounded to 0.

    Examples
    --------
    >>> percent(0.5), percent(0.00002), percent(0)
    ('50 %', '0.002 %', '0 %')
    """
    return f"{100 * share:.3g} %"
