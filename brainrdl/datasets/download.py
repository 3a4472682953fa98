"""Files of data sets: downloaded once, resumed after an interruption, and checked by SHA-256."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from brainrdl._core.errors import refuse
from brainrdl._core.locks import locked
from brainrdl._core.progress import slow_progress
from brainrdl.datasets.catalogue import DataFile, DataInfo, cache_folder, info

_OFFLINE = "BRAINRDL_DATA"

_CHUNK = 1 << 16

_MEGABYTE = 1_000_000

_TIMEOUT = 30  # seconds without data


def fetch(name: str, folder: Path | str | None = None, *, progress: bool = True) -> Path:
    """Download the files of a data set into the cache, except those that are already there.

    Parameters
    ----------
    name : str
        One of `names`.
    folder : path, optional
        Folder of all data sets (default: `cache_folder`).
    progress : bool
        Show progress and the time left on stderr if it takes longer than two seconds.

    Returns
    -------
    Path
        Folder of this data set.

    Warns
    -----
    UserWarning
        If another process fetches the same data set: this one then waits for it, and uses its files.

    Raises
    ------
    BrainrdlError
        If the name is unknown; if a file has no address and is not in ``BRAINRDL_DATA``, cannot be downloaded or
        written, or has a wrong checksum.

    Examples
    --------
    >>> fetch("mnits")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: data set 'mnits' is not known; nearest: 'mnist' (known: ...
    """
    data = info(name)
    home = (cache_folder() if folder is None else Path(folder)) / name
    if missing(name, folder):
        with _writing(home):
            home.mkdir(parents=True, exist_ok=True)
        with locked(home, waiting=f"data set {name!r} is being fetched by another process; waiting for it"):
            _fetch(data, home, missing(name, folder), progress)
    return home


def _fetch(data: DataInfo, home: Path, wanted: list[DataFile], progress: bool) -> None:
    offline = _offline(data, wanted)
    for file in wanted:
        target = home / file.name
        with _writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            found = offline.get(file.name)
            if found is None:
                _download(data, file, target, progress)
            else:
                _place(found, target)


def missing(name: str, folder: Path | str | None = None) -> list[DataFile]:
    """List the files of a data set that are missing, incomplete or damaged in the cache.

    Parameters
    ----------
    name : str
        One of `names`.
    folder : path, optional
        Folder of all data sets (default: `cache_folder`).

    Returns
    -------
    list of DataFile

    Raises
    ------
    BrainrdlError
        If the name is unknown.

    Examples
    --------
    >>> len(missing("mnist", "no/such/folder"))
    4
    """
    home = (cache_folder() if folder is None else Path(folder)) / name
    return [file for file in info(name).files if not _is_whole(home / file.name, file)]


def kept(name: str, folder: Path | str | None = None) -> str:
    """Report whether a data set is in the cache, or as an offline copy in the folder ``BRAINRDL_DATA`` (not checked).

    Parameters
    ----------
    name : str
        One of `names`.
    folder : path, optional
        Folder of all data sets (default: `cache_folder`).

    Returns
    -------
    str
        ``"yes"``, ``"offline copy"`` or ``"no"``.

    Raises
    ------
    BrainrdlError
        If the name is unknown.

    Examples
    --------
    >>> kept("mnist", "no/such/folder") in ("offline copy", "no")
    True
    """
    if not missing(name, folder):
        return "yes"
    place = os.environ.get(_OFFLINE)
    copies = (Path(place, name), Path(place, f"{name}.tar.gz")) if place else ()
    return "offline copy" if any(copy.exists() for copy in copies) else "no"


# Files


def _is_whole(path: Path, file: DataFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and _sha256(path.open("rb")) == file.sha256


def _sha256(stream: IO[bytes]) -> str:
    with stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _offline(data: DataInfo, files: list[DataFile]) -> dict[str, bytes]:
    """Return the content of the files in the folder ``BRAINRDL_DATA`` that have the right checksum."""
    if not files or not (place := os.environ.get(_OFFLINE)):
        return {}
    home = Path(place) / data.name
    copies = {file.name: _copies(home, file) for file in files}
    for name, content in _members(home.with_name(f"{data.name}.tar.gz"), data.name, files):
        copies[name].append(content)
    whole = {
        file.name: [each for each in copies[file.name] if _sha256(io.BytesIO(each)) == file.sha256] for file in files
    }
    return {name: found[0] for name, found in whole.items() if found}


def _copies(home: Path, file: DataFile) -> list[bytes]:
    base = Path(file.name).name
    plain = [path.read_bytes() for path in (home / file.name, home / base) if _is_whole(path, file)]
    unpacked = _gunzipped(home / f"{base}.gz", file.size)
    return plain or ([] if unpacked is None else [unpacked])


def _gunzipped(path: Path, size: int) -> bytes | None:
    if not path.is_file():
        return None
    try:
        with gzip.open(path) as stream:
            return stream.read(size + 1)  # read no further: a small file may unpack to a very large one
    except (OSError, EOFError):
        return None


def _members(archive: Path, folder: str, files: list[DataFile]) -> Iterator[tuple[str, bytes]]:
    """Read the files from an archive in one pass; nothing is unpacked to the disk."""
    sizes = {f"{folder}/{file.name}": file for file in files}
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                file = sizes.get(member.name)
                stream = opened.extractfile(member) if file and member.isfile() else None
                if file and stream:
                    yield file.name, stream.read(file.size + 1)
    except (OSError, EOFError, tarfile.TarError):
        return


def _place(content: bytes, target: Path) -> None:
    part = target.with_name(f"{target.name}.part")
    part.write_bytes(content)
    part.replace(target)


def _download(data: DataInfo, file: DataFile, target: Path, progress: bool) -> None:
    if file.url is None:
        refuse(
            f"file {file.name!r} of data set {data.name!r} has no download address: get it from {data.page}, and "
            f"put it into {str(target)!r} (or in ${_OFFLINE}/{data.name}); licence: {data.licence}"
        )
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # the progress bar already names the file
    part = target.with_name(f"{target.name}.part")
    size, sha256 = file.download_size or file.size, file.download_sha256 or file.sha256
    get_rest = partial(_stream, kept=part, size=size, progress=progress)
    try:
        whole = Path(
            pooch.retrieve(file.url, f"sha256:{sha256}", f"{target.name}.whole", target.parent, None, get_rest)
        )
    except requests.RequestException as error:
        refuse(f"cannot download {file.url}: {type(error).__name__}; try again to resume, or {_instead(data, file)}")
    except ValueError:  # the download has another hash
        refuse(
            f"{file.url} gave another file than {file.name!r} of data set {data.name!r}, whose SHA-256 is "
            f"{sha256}; it was deleted. Try again later, or get the file from {data.page or data.doi}"
        )
    if file.download_sha256 is None:
        whole.replace(target)
    else:
        _place(_gunzipped(whole, file.size) or b"", target)
        whole.unlink()


def _instead(data: DataInfo, file: DataFile) -> str:
    """Explain how to get a file without a network: repair the offline copy, or where to put one."""
    place = os.environ.get(_OFFLINE)
    if not place:
        return f"set {_OFFLINE} to a folder with copies of data sets"
    copies = (Path(place, data.name, name) for name in (file.name, Path(file.name).name))
    unlike = next((copy for copy in copies if copy.is_file()), None)
    if unlike is not None:
        return f"replace the copy {str(unlike)!r}, whose SHA-256 is not {file.sha256}"
    return f"put it, or an archive {data.name}.tar.gz, below {_OFFLINE} ({str(Path(place, data.name))!r})"


def _stream(url: str, output: str, _pooch: object, *, kept: Path, size: int, progress: bool) -> None:
    """Download to `output` through `kept`, which stays after an interruption, so that the next attempt resumes."""
    import requests

    done = kept.stat().st_size if kept.exists() else 0
    headers = {"Range": f"bytes={done}-"} if 0 < done < size else {}
    with requests.get(url, stream=True, timeout=_TIMEOUT, headers=headers) as answer:
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        done = done if goes_on else 0
        shown = slow_progress(f"{kept.stem}, MB", -(-size // _MEGABYTE), progress, done // _MEGABYTE)
        with kept.open("ab" if goes_on else "wb") as stream, shown as advance:
            for chunk in answer.iter_content(_CHUNK):
                stream.write(chunk)
                done += len(chunk)
                advance(done // _MEGABYTE, "")
    kept.replace(output)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        refuse(f"cannot write {str(target)!r}: {error.strerror or error}; choose another folder")
