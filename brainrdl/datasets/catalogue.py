"""The named data sets: their files, checksums, licences and papers, read from ``datasets.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from brainrdl._core.errors import check_option


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes
    ----------
    name : str
        Path relative to the folder of the data set.
    size : int
        Size in bytes.
    sha256 : str
        SHA-256 of the file as it is stored.
    url : str, optional
        Address for the download; None if the authors give no address.
    download_size, download_sha256 : int, str, optional
        Size in bytes and SHA-256 of the download, if that is the file compressed with gzip.

    Examples
    --------
    >>> info("mnist").files[0].name
    'MNIST/raw/train-images-idx3-ubyte'
    """

    name: str
    size: int
    sha256: str
    url: str | None = None
    download_size: int | None = None
    download_sha256: str | None = None


@dataclass(frozen=True)
class DataInfo:
    """Description of a data set: contents, authors, licence and files.

    Attributes
    ----------
    name, title, version : str
        Short name, description and version.
    licence, citation : str
        Licence, and how to cite the data set.
    files : tuple of DataFile
        Files to download.
    doi, page : str, optional
        DOI of the paper, and address of the web page.

    Examples
    --------
    >>> info("kriegeskorte92").doi
    '10.1016/j.neuron.2008.10.043'
    """

    name: str
    title: str
    version: str
    licence: str
    citation: str
    files: tuple[DataFile, ...]
    doi: str | None = None
    page: str | None = None

    @property
    def size(self) -> int:
        """Size of the complete download in bytes."""
        return sum(file.download_size or file.size for file in self.files)


@cache
def known_sets() -> dict[str, DataInfo]:
    content = yaml.safe_load((Path(__file__).parent / "datasets.yaml").read_text(encoding="utf-8"))
    return {
        name: DataInfo(name=name, **{**facts, "files": tuple(DataFile(**file) for file in facts["files"])})
        for name, facts in content.items()
    }


def names() -> tuple[str, ...]:
    """Return the names of the data sets.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> names()
    ('kriegeskorte92', 'algonauts92', 'haxby2001', 'mnist', 'cifar10', 'cifar100')
    """
    return tuple(known_sets())


def info(name: str) -> DataInfo:
    """Describe a data set, without downloading it.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    DataInfo

    Raises
    ------
    BrainrdlError
        If the name is unknown; the message gives the nearest names.

    Examples
    --------
    >>> info("haxby2001").licence
    'CC BY-SA 3.0'
    """
    return known_sets()[check_option(name, names(), "data set")]


def cache_folder() -> Path:
    """Return the folder of all downloads: the platform's cache folder for brainrdl.

    Returns
    -------
    Path

    Examples
    --------
    >>> cache_folder().name
    'brainrdl'
    """
    import pooch

    return Path(pooch.os_cache("brainrdl"))
