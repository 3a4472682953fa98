"""The wording of every refusal, once.

Each helper says what was expected, what came (quoted), where, and what to do, with the nearest known name where a name
is wrong. Everything a user can get wrong ends in a `BrainrdlError`; anything else that escapes is a bug of ours.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from numbers import Integral, Real
from typing import NoReturn

_SHOWN = 5


class BrainrdlError(ValueError):
    """An input that brainrdl refuses; the message says what came, where, and what to do.

    Examples
    --------
    >>> raise BrainrdlError("layer 'layer9' is not in the model; nearest: 'layer4'")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: layer 'layer9' is not in the model; nearest: 'layer4'
    """

    __module__ = "brainrdl"  # the name that users import it by, in tracebacks


def refuse(message: str) -> NoReturn:
    """Raise `BrainrdlError` with `message`.

    Raises
    ------
    BrainrdlError
        Always.
    """
    raise BrainrdlError(message)


def quote(names: Iterable[object]) -> str:
    """List names for a message, the first five quoted and the rest counted.

    Examples
    --------
    >>> quote(["a", "b"])
    "['a', 'b']"
    >>> quote("abcdefg")
    "['a', 'b', 'c', 'd', 'e', and 2 more]"
    """
    listed = [repr(name) for name in names]
    more = [f"and {len(listed) - _SHOWN} more"] if len(listed) > _SHOWN else []
    return "[" + ", ".join(listed[:_SHOWN] + more) + "]"


def nearest(name: object, known: Iterable[str]) -> str:
    """Say which known names look most like `name`: ``"; nearest: 'a', 'b'"``, or nothing when none does.

    Examples
    --------
    >>> nearest("layer9", ["layer1", "fc"])
    "; nearest: 'layer1'"
    >>> nearest("zzz", ["layer1", "fc"])
    ''
    """
    close = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.5)
    return "; nearest: " + ", ".join(map(repr, close)) if close else ""


def check_option(value: str, options: Collection[str], what: str) -> str:
    """Return `value` if it is one of `options`, else refuse it with the nearest and all known names.

    Raises
    ------
    BrainrdlError
        If `value` is not in `options`.

    Examples
    --------
    >>> check_option("corr", ["corr", "cosine"], "similarity")
    'corr'
    """
    if value not in options:
        refuse(f"{what} {value!r} is not known{nearest(value, options)} (known: {', '.join(map(str, options))})")
    return value


def check_whole(value: object, what: str, at_least: int, below: float = math.inf) -> None:
    """Refuse what is no whole number from `at_least` on and below `below`; True and False are none, NumPy's are.

    Raises
    ------
    BrainrdlError
        If `value` is of another type or out of bounds.

    Examples
    --------
    >>> check_whole(2.5, "steps", 0)
    Traceback (most recent call last):
    brainrdl.BrainrdlError: steps must be a whole number, at least 0, got 2.5
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or not at_least <= int(value) < below:
        limit = f" and below {below}" if below < math.inf else ""
        refuse(f"{what} must be a whole number, at least {at_least}{limit}, got {value!r}")


def check_number(value: object, what: str, *, at_least: float = -math.inf, above: float = -math.inf) -> None:
    """Refuse what is no finite number of at least `at_least` and above `above`.

    Raises
    ------
    BrainrdlError
        If `value` is of another type, NaN, Inf or out of bounds.

    Examples
    --------
    >>> check_number("1e-3", "lr", above=0)
    Traceback (most recent call last):
    brainrdl.BrainrdlError: lr must be a finite number above 0, got '1e-3'
    """
    known = isinstance(value, Real) and not isinstance(value, bool)
    if not known or not math.isfinite(value) or value < at_least or value <= above:  # type: ignore[arg-type,operator]
        limit = f"above {above}" if above > -math.inf else f"of at least {at_least}"
        refuse(f"{what} must be a finite number {limit}, got {value!r}")


def check_unique(names: Sequence[str], where: str) -> None:
    """Refuse duplicate names in `where` (for example ``"stimulus folder 'faces'"``).

    Raises
    ------
    BrainrdlError
        If a name stands more than once.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        refuse(f"names {quote(twice)} stand more than once in {where}; names must be unique, rename or drop the copies")


def check_text(names: Iterable[str], where: str) -> None:
    r"""Refuse names that no file could hold, such as file names in another encoding than the system's.

    Raises
    ------
    BrainrdlError
        If a name cannot be written as UTF-8.

    Examples
    --------
    >>> check_text(["cat", "b\udce4r"], "the stimuli")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: names ['b\udce4r'] of the stimuli are no valid Unicode; rename the files
    """
    broken = [name for name in names if not name.isascii() and name.encode("utf-8", "ignore").decode() != name]
    if broken:
        refuse(f"names {quote(broken)} of {where} are no valid Unicode; rename the files")


def check_conditions(asked: Iterable[str], known: Collection[str], where: str) -> None:
    """Refuse names of `asked` that are not in `known`, the conditions of `where`.

    Raises
    ------
    BrainrdlError
        If a name is unknown; the message gives the missing and the nearest names.

    Examples
    --------
    >>> check_conditions(["face_07"], ["face_70"], "teacher 'V1'")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: conditions ['face_07'] are not in teacher 'V1' (1 conditions); nearest: 'face_70'
    """
    asked, members = tuple(asked), frozenset(known)
    missing = [name for name in asked if name not in members]
    if missing:
        close = nearest(missing[0], [name for name in known if name not in asked])
        refuse(f"conditions {quote(missing)} are not in {where} ({len(members)} conditions){close}")
