"""Names of conditions for a file that holds none: from a list, a text file, or a folder of stimuli."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainrdl._core.errors import nearest, quote, read_arg, refuse
from brainrdl._core.given_values import as_text
from brainrdl.rdms.naming import is_missing

_SHOWN = frozenset({"image", "audio", "video"})

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def add_names(descriptors: dict[str, Any], count: int, names: Sequence[str] | str | Path | None, by: str) -> None:
    """Store `names` as descriptor `by`, unless the file itself has other names there."""
    if names is None:
        known = [key for key in descriptors if key != "index"]
        if by != "stimulus" and by not in known:
            refuse(
                f"conditions have no descriptor {by!r}{nearest(by, known)}; they have {quote(known)}: choose "
                f"{read_arg('by')}"
            )
        return
    listed = listed_names(names)
    if len(listed) != count:
        refuse(f"{len(listed)} names were given ({quote(listed)}) for {count} conditions; give one per condition")
    held = [as_text(name) for name in descriptors.get(by, listed)]
    if held != listed:
        refuse(
            f"the file names its conditions itself ({by!r}: {quote(held)}), and {read_arg('names')} cannot rename "
            f"them; leave it out, or store other names as another descriptor with {read_arg('by')}"
        )
    descriptors[by] = listed


def listed_names(names: Sequence[str] | str | Path) -> list[str]:
    """Give the names in a list, in a text file's lines, or of the files in a folder.

    Examples
    --------
    >>> listed_names(["face", 2.0])
    ['face', '2']
    """
    if not isinstance(names, (str, Path)):
        return [_text(name) for name in names]
    place = Path(names)
    if place.is_dir():
        return _stems(place)
    if not place.is_file():
        refuse(
            f"{read_arg('names')} is {str(names)!r}, which is neither a text file, nor a folder, nor a list of names"
        )
    try:
        lines = [line.strip() for line in place.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        refuse(f"names file {str(names)!r} is not UTF-8 text; save it as UTF-8")
    if any("\0" in line for line in lines):
        refuse(
            f"names file {str(names)!r} is not a text file; write one name per line (in MATLAB: "
            "writelines(string(names), 'names.txt'))"
        )
    separator = _SEPARATORS.get(place.suffix.lower())
    if separator and any(separator in line for line in lines):
        refuse(
            f"names file {str(names)!r} is a table ({lines[0]!r}); {read_arg('names')} needs one name per line, "
            "without a header"
        )
    return lines


def _text(name: object) -> str:
    """Write a name as text, whole numbers without a decimal point; refuse a missing one."""
    if is_missing(name):
        refuse(f"{read_arg('names')} holds {name!r}, which is not a name")
    return as_text(name)


def _stems(folder: Path) -> list[str]:
    """Name the images (or sounds, videos) of a folder in sorted order, if people and computers agree on it."""
    files = [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
    shown = [file for file in files if (mimetypes.guess_type(file.name)[0] or "").split("/")[0] in _SHOWN]
    stems = sorted(file.stem for file in shown or files)
    for other in (sorted(stems, key=number_key), sorted(stems, key=str.casefold)):
        for stem, instead in zip(stems, other, strict=True):
            if stem != instead:
                refuse(
                    f"the order of the files in {str(folder)!r} is unclear: {stem!r} sorts before {instead!r} by the "
                    "codes of its characters, but after it as people sort (by numbers, without capitals); give "
                    f"{read_arg('names')} as a list in the order of the RDM"
                )
    return stems


def number_key(stem: str) -> list[tuple[int, int, str]]:
    """Give a key that sorts names as people do: the numbers in them as numbers.

    Examples
    --------
    >>> sorted(["image10", "image9"], key=number_key)
    ['image9', 'image10']
    """
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", stem)]
