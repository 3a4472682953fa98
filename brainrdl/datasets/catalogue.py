"""The named data sets: their files, checksums, licences and papers, from ``datasets.yaml``."""

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
        Path below the data set's folder.
    size : int
        Bytes.
    sha256 : str
        Of the file as it is stored.
    url : str, optional
        Where it is downloaded from; None where its makers give no address.
    download_size, download_sha256 : int, str, optional
        Of what is downloaded, where that is the file compressed by gzip.

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
    """What a data set is, whose it is, and what is fetched.

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
        """Bytes to download for all of it."""
        return sum(file.download_size or file.size for file in self.files)


@cache
def known_sets() -> dict[str, DataInfo]:
    content = yaml.safe_load((Path(__file__).parent / "datasets.yaml").read_text(encoding="utf-8"))
    return {
        name: DataInfo(name=name, **{**facts, "files": tuple(DataFile(**file) for file in facts["files"])})
        for name, facts in content.items()
    }


def names() -> tuple[str, ...]:
    """Names of the data sets.

    Examples
    --------
    >>> names()
    ('kriegeskorte92', 'algonauts92', 'haxby2001', 'mnist', 'cifar10', 'cifar100')
    """
    return tuple(known_sets())


def info(name: str) -> DataInfo:
    """Say what a data set is, without fetching anything.

    Raises
    ------
    BrainrdlError
        If the name is unknown; the nearest are given.

    Examples
    --------
    >>> info("haxby2001").licence
    'CC BY-SA 3.0'
    """
    return known_sets()[check_option(name, names(), "data set")]


def cache_folder() -> Path:
    """Folder of everything fetched: the platform's cache folder for brainrdl.

    Examples
    --------
    >>> cache_folder().name
    'brainrdl'
    """
    import pooch

    return Path(pooch.os_cache("brainrdl"))
