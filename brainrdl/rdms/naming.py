"""Names of conditions, subjects and targets: every name must be there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from brainrdl._core.errors import quote, refuse

_MISSING = frozenset({"", "nan", "none", "nat", "<na>", "n/a"})  # as text: of NumPy, pandas and BIDS


def checked_names(values: Iterable[Any], where: str) -> list[str]:
    """Return names as text, and refuse missing ones: None, NaN, blank, and the texts that these become in tables.

    Parameters
    ----------
    values : iterable
        Names; numbers become text.
    where : str
        What has these names, in error messages.

    Returns
    -------
    list of str

    Raises
    ------
    BrainrdlError
        If a name is missing; the message gives the number of missing names and the first position.

    Examples
    --------
    >>> checked_names(["face", 7], "the conditions")
    ['face', '7']
    >>> checked_names(["face", float("nan")], "the conditions")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: 1 of 2 names of the conditions is missing: [nan], the first at position 1 (counted from 0); name all, or leave out what has no name
    """  # noqa: E501
    listed = list(values)
    names = [str(value) for value in listed]
    lacking = [k for k, name in enumerate(names) if name.strip().lower() in _MISSING]
    if lacking:
        refuse(
            f"{len(lacking)} of {len(names)} names of {where} {'is' if len(lacking) == 1 else 'are'} missing: "
            f"{quote(listed[k] for k in lacking)}, the first at position {lacking[0]} (counted from 0); name all, or "
            "leave out what has no name"
        )
    return names
