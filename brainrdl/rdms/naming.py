"""Names of conditions, subjects and targets: every name must be there, and must be text that can be stored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from brainrdl._core.constants import IMAGE_SUFFIXES
from brainrdl._core.errors import check_text, quote, refuse
from brainrdl._core.given_values import as_text

Value = TypeVar("Value")

_MISSING = frozenset({"nan", "n/a", "nat", "<na>"})  # as NumPy, pandas and BIDS write it; not the text "None"

_ENDINGS = "|".join(map(re.escape, IMAGE_SUFFIXES))
_IMAGE = re.compile(rf"(?P<stem>.+)({_ENDINGS})", re.IGNORECASE | re.DOTALL)


def is_missing(name: Any) -> bool:
    """Say whether a name is missing: None, NaN, blank, or the text that a table has in its place.

    Examples
    --------
    >>> [name for name in ("cat", " ", "nan", None, "None", 0) if is_missing(name)]
    [' ', 'nan', None]
    """
    text = str(name)
    blank = not text.isalnum() and not any(letter.isprintable() and not letter.isspace() for letter in text)
    return name is None or blank or text.strip().lower() in _MISSING


def _plain(names: list[Any]) -> bool:
    """Say whether all names are surely good: ASCII words with single spaces, beginning with a letter or a digit.

    Most names are, and the checks of each name would need most of the time of a small RDM.
    """
    if not all(type(name) is str and name[:1].isalnum() for name in names):
        return False
    lines = "\n".join(names) + "\n"
    return (
        lines.isascii()
        and lines.count("\n") == max(len(names), 1)
        and lines.replace("\n", "").isprintable()
        and "  " not in lines
        and " \n" not in lines
        and _MISSING.isdisjoint(lines.lower().split("\n"))
    )


def checked_names(values: Iterable[Any], where: str) -> list[str]:
    """Return names as text, and refuse missing ones (see `is_missing`).

    Parameters
    ----------
    values : iterable
        Names; numbers become text, whole ones without a decimal point.
    where : str
        What has these names, in error messages.

    Returns
    -------
    list of str

    Raises
    ------
    BrainrdlError
        If a name is missing (the message gives the number of missing names and the first position), or cannot be
        written to a file.

    Examples
    --------
    >>> checked_names(["face", 7, 8.0], "the conditions")
    ['face', '7', '8']
    >>> checked_names(["face", float("nan")], "the conditions")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    brainrdl.BrainrdlError: 1 of 2 names of the conditions is missing: [nan], the first at position 1 (counted from ...
    """
    listed = list(values)
    if _plain(listed):
        return listed
    lacking = [k for k, value in enumerate(listed) if is_missing(value)]
    if lacking:
        refuse(
            f"{len(lacking)} of {len(listed)} names of {where} {'is' if len(lacking) == 1 else 'are'} missing: "
            f"{quote(listed[k] for k in lacking)}, the first at position {lacking[0]} (counted from 0); name all, or "
            "leave out what has no name"
        )
    words = [as_text(value) for value in listed]
    check_text(words, where)
    return words


def stem_of(name: str) -> str | None:
    r"""Return the path of an image file without its ending, with ``/`` between folders; None for other names.

    Examples
    --------
    >>> stem_of("set\\face.png"), stem_of("v1.5")
    ('set/face', None)
    """
    match = _IMAGE.fullmatch(name)
    return match["stem"].replace("\\", "/") if match else None


def files_of(names: Sequence[str], conditions: Sequence[Any]) -> dict[str, str]:
    """Find the conditions that are named by the image files of stimuli, by the name of the stimulus.

    Empty if a condition has the name of a stimulus, not all are named by image files, or two files have one name.

    Examples
    --------
    >>> files_of(["face", "house"], ["house.png", "face.png"])
    {'house': 'house.png', 'face': 'face.png'}
    >>> files_of(["face", "house"], ["stimuli/house.png", "stimuli/face.png"])  # as in a column stim_file
    {'house': 'stimuli/house.png', 'face': 'stimuli/face.png'}
    >>> files_of(["old/face", "new/face"], ["stimuli/old/face.png", "stimuli/new/face.png"])  # images in subfolders
    {'old/face': 'stimuli/old/face.png', 'new/face': 'stimuli/new/face.png'}
    >>> files_of(["face", "house"], ["set/face.png", "set/more/house.png"])  # at different depths
    {'face': 'set/face.png', 'house': 'set/more/house.png'}
    >>> files_of(["face", "house.png"], ["house.png", "face.png"])
    {}
    """
    known = set(names)
    if known.intersection(conditions):
        return {}
    paths = [str(condition).replace("\\", "/").split("/") for condition in conditions]
    found = [
        _stems(["/".join(path[min(n_folders, len(path) - 1) :]) for path in paths], conditions, known)
        for n_folders in range(max(map(len, paths), default=0))  # that the conditions have and the stimuli have not
    ]
    return max(found, key=len, default={})  # of equally many, those with the most folders


def _stems(files: list[str], conditions: Sequence[Any], known: set[str]) -> dict[str, str]:
    """Conditions by the names of files without their ending, as far as they are known; none if files share a name."""
    stems = without_suffixes(files)
    if stems is files or len(set(stems)) < len(set(conditions)):
        return {}
    return {stem: condition for stem, condition in zip(stems, conditions, strict=True) if stem in known}


def named_as(table: Mapping[str, Value], names: Sequence[str]) -> Mapping[str, Value]:
    """Rename the rows of a table to the names of stimuli, if one of both has the names of image files.

    Examples
    --------
    >>> named_as({"face": 1, "house": 2}, ["stimuli/house.png", "stimuli/face.png"])
    {'stimuli/face.png': 1, 'stimuli/house.png': 2}
    >>> named_as({"stimuli/face.png": 1, "stimuli/house.png": 2}, ["house", "face"])
    {'face': 1, 'house': 2}
    >>> named_as({"a": 1}, ["face"])
    {'a': 1}
    """
    if not table.keys().isdisjoint(names):
        return table
    listed = list(table)
    new = files_of(listed, names) or {file: name for name, file in files_of(names, listed).items()}
    return {new.get(name, name): value for name, value in table.items()}


def without_suffixes(names: Sequence[Any]) -> Sequence[Any]:
    """Name images as `brainrdl.Stimuli.from_folder` does, if all names are those of files that stay distinct.

    Examples
    --------
    >>> without_suffixes(["face 1.jpg", "v1.5.PNG"])
    ['face 1', 'v1.5']
    >>> without_suffixes(["face 1.jpg", "house"]), without_suffixes(["a.jpg", "a.png"])
    (['face 1.jpg', 'house'], ['a.jpg', 'a.png'])
    """
    matches = [_IMAGE.fullmatch(str(name)) for name in names]
    stems = [match["stem"] for match in matches if match]
    return stems if len(stems) == len(names) and len(set(stems)) == len(set(map(str, names))) else names
