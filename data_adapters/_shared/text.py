"""Text files for the readers: in UTF-8 only, compressed by gzip or not."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import BinaryIO, cast

from brainrdl._core.errors import quote, refuse

_MOST_UNPACKED = 1 << 28

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def suffix(path: Path) -> str:
    """Give the suffix in lower case, of a compressed file the one before ``.gz``.

    Examples
    --------
    >>> suffix(Path("ratings.CSV.gz"))
    '.csv'
    """
    return Path(path.name.lower().removesuffix(".gz")).suffix


def read_text(path: Path) -> str:
    """Read a text file.

    Raises
    ------
    BrainrdlError
        If it is empty, not in UTF-8, or too large when decompressed.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "names.txt"
    >>> _ = file.write_bytes("Käse".encode("latin-1"))
    >>> read_text(file)
    Traceback (most recent call last):
    brainrdl.BrainrdlError: the file is not UTF-8 text (Latin-1, or 'ANSI' in Windows?); save it as UTF-8
    """
    packed = path.suffix.lower() == ".gz"
    with _opened(path) as file:
        content = file.read(_MOST_UNPACKED + 1 if packed else -1)
    if packed and len(content) > _MOST_UNPACKED:
        refuse(f"the decompressed file has more than {_MOST_UNPACKED} bytes; decompress it before reading")
    if content.startswith(_UTF16) or b"\0" in content:
        refuse(
            "the file is not UTF-8 text (UTF-16, as Excel's 'Unicode text', or not a text at all?); save it as UTF-8"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        refuse("the file is not UTF-8 text (Latin-1, or 'ANSI' in Windows?); save it as UTF-8")
    if not text.strip():
        refuse("the file is empty")
    return text


def read_names(path: Path) -> list[str]:
    r"""Read a list of file names, one per line.

    Raises
    ------
    BrainrdlError
        As `read_text`; also if the list ends within a name: its last line is not ended, and lacks the suffix that the
        others have.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "images.txt"
    >>> _ = file.write_text("cat.jpg\ndog.jpg\nairpla")
    >>> read_names(file)
    Traceback (most recent call last):
    brainrdl.BrainrdlError: the last name, 'airpla', does not end in ['.jpg'] as the others do: is the list cut off? ...
    """
    text = read_text(path)
    names = [line.strip() for line in text.splitlines() if line.strip()]
    known = sorted({Path(name).suffix.lower() for name in names[:-1]})
    if not is_ended(text) and known and "" not in known and Path(names[-1]).suffix.lower() not in known:
        refuse(
            f"the last name, {names[-1]!r}, does not end in {quote(known)} as the others do: is the list cut off? If "
            "it is complete, end its last line"
        )
    return names


def is_ended(text: str) -> bool:
    """Say whether the last line is ended; that of a file that was cut off is not."""
    return text.endswith(("\n", "\r"))


def first_lines(path: Path, count: int) -> list[str]:
    """Give the first lines that are not blank, reading only the beginning of the file."""
    with _opened(path) as file:
        text = file.read(100_000).decode("utf-8-sig", errors="replace")
    return [line for line in text.splitlines() if line.strip()][:count]


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")
