"""Check a reader against the contract of `brainrdl.readers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from brainrdl._core.errors import BrainrdlError, refuse
from brainrdl.readers.reading import read

if TYPE_CHECKING:
    from brainrdl.readers.reading import Reader


def check_reader(reader: Reader, path: str | Path, **options: Any) -> None:
    """Check a reader against the contract of `brainrdl.readers`, with one valid file of its layout.

    Parameters
    ----------
    reader : Reader
        Any object with ``name``, ``layout``, ``sniff`` and ``read``.
    path : str or Path
        A valid file, or folder of files, of this layout.
    **options
        Options that the reader needs for this file.

    Raises
    ------
    BrainrdlError
        If the reader breaks the contract; the message says which point fails and how.

    Examples
    --------
    >>> from brainrdl.readers import find_readers
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "rdm.npy"
    ...     np.save(file, np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]]))
    ...     check_reader(find_readers()["numpy"], file)
    """
    file = Path(path)
    check_members(reader, "reader", ("name", "layout", "sniff", "read"), texts=("name", "layout"))
    content = _content(file)
    _check_sniff(reader, file)
    first = read(file, reader=reader, **options)
    if not _same_data(first, read(file, reader=reader, **options)):
        refuse(f"reader {reader.name!r} gives a different result when it reads the same file again")
    if _content(file) != content:
        refuse(f"reader {reader.name!r} changed the file it read")
    _check_refusals(reader, file, options)


def check_members(plug_in: object, what: str, members: Sequence[str], texts: Sequence[str]) -> None:
    for member in members:
        if not hasattr(plug_in, member):
            refuse(f"{type(plug_in).__name__} is not a {what}: it has no {member!r}")
    for member in texts:
        value = getattr(plug_in, member)
        if not isinstance(value, str) or not value.strip():
            refuse(f"{member} of {what} {type(plug_in).__name__} must be a non-empty text, got {value!r}")


def _check_sniff(reader: Reader, file: Path) -> None:
    """Check `sniff` on its file, on an unknown one, and on truncated ones, for which it may return either value."""
    if reader.sniff(file) is not True:
        refuse(f"reader {reader.name!r} does not recognise {file.name!r}: sniff must return True")
    with TemporaryDirectory() as folder:
        strange = Path(folder, "strange.no_such_layout")
        strange.write_bytes(b"no layout begins like this")
        if reader.sniff(strange) is not False:
            refuse(f"reader {reader.name!r} recognises a file of another layout: sniff must return False")
        for share in (0.0, 0.01, 0.5):
            damaged = _cut_off(file, Path(folder, str(share)), share)
            try:
                reader.sniff(damaged)
            except Exception as error:
                refuse(f"sniff of reader {reader.name!r} fails on a file truncated to {share:.0%}: {error!r}")


def _check_refusals(reader: Reader, file: Path, options: Mapping[str, Any]) -> None:
    """Check what must be refused: an unknown option and an empty file."""
    with TemporaryDirectory() as folder:
        empty = _cut_off(file, Path(folder), 0.0)
        attempts = [
            (file, {**options, "no_such_option": 1}, "an unknown option"),
            (empty, options, "an empty file"),
        ]
        for path, given, what in attempts:
            try:
                read(path, reader=reader, **given)
            except BrainrdlError:
                continue
            refuse(f"reader {reader.name!r} accepts {what} without an error")


def _content(file: Path) -> dict[Path, bytes]:
    """Return the bytes of a file, or of all files in a folder, by relative path."""
    files = [path for path in sorted(file.rglob("*")) if path.is_file()] if file.is_dir() else [file]
    return {path.relative_to(file): path.read_bytes() for path in files}


def _cut_off(file: Path, folder: Path, share: float) -> Path:
    """Copy a file (or a folder of files) into `folder`, truncating each file to this share of its bytes."""
    for path, content in _content(file).items():
        copy = folder / file.name / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content[: int(share * len(content))])
    return folder / file.name


def _same_data(a: Any, b: Any) -> bool:
    """Compare two RDMs or Datasets (or lists of such), values and descriptors, NaN equal to NaN."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same_data, a, b))
    kinds = ("dissimilarities", "measurements")
    values = [[getattr(data, kind) for kind in kinds if hasattr(data, kind)] for data in (a, b)]
    held = [{key: value for key, value in vars(data).items() if key.endswith("descriptors")} for data in (a, b)]
    equal = all(np.array_equal(one, other, equal_nan=True) for one, other in zip(*values, strict=True))
    return equal and repr(held[0]) == repr(held[1])
