"""How much a compressed file may unpack to: one rule for archives, HDF5, MATLAB and gzip.

Zeros compress a thousandfold, so a file of a few megabytes can fill the memory. Measurements and RDMs compress by a
factor of 2 to 10, masks and maps of one region by up to a hundred.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from brainrdl._core.errors import refuse

_ROOM = 2**29  # bytes that any file may unpack to

_MOST_TIMES = 200  # above that: how many times its own size


def check_unpacked(unpacked: int, packed: int, what: str) -> None:
    """Refuse what unpacks to far more than its size on disk, before memory is allocated for it.

    Parameters
    ----------
    unpacked : int
        Size in bytes after unpacking, as the file declares it.
    packed : int
        Size in bytes on disk.
    what : str
        Its name in the error message.

    Raises
    ------
    BrainrdlError
        If it unpacks to more than 512 MiB and more than 200 times its size.

    Examples
    --------
    >>> check_unpacked(3_600_000_000, 3_500_000, "array 'rdm'")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: array 'rdm' has 3,500,000 bytes on disk and unpacks to 3,600,000,000, more ...
    """
    if unpacked > max(_ROOM, _MOST_TIMES * packed):
        refuse(
            f"{what} has {packed:,} bytes on disk and unpacks to {unpacked:,}, more than {_MOST_TIMES} times as many, "
            "which data do not do: is it damaged? If it is right, save it without compression"
        )


def check_archive(path: Path) -> None:
    """Refuse a zip archive (``.npz``, ``.xlsx``, ...) that unpacks to far more than its size; other files pass.

    Examples
    --------
    >>> check_archive(Path("no/such.npz"))
    """
    if not path.is_file() or not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        check_unpacked(sum(member.file_size for member in archive.infolist()), path.stat().st_size, "the archive")
