"""Named public data sets, fetched once, checked by SHA-256, and given as stimuli and RDMs that share their names.

A file is taken from the cache, else from the folder that the environment variable ``BRAINRDL_DATA`` names (a file, or
one in ``NAME.tar.gz``), else downloaded from where its makers keep it; whatever the way, only a file with the known
checksum is used. A download that was cut off goes on where it stopped. Nothing that is fetched is unpickled or run.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import yaml

from brainrdl._checks import check_option, refuse
from brainrdl.rdms import concat
from brainrdl.readers import read
from brainrdl.stimuli import Stimuli

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

_OFFLINE = "BRAINRDL_DATA"
_CHUNK = 1 << 16
_TIMEOUT = 30  # s without a byte


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


@dataclass(frozen=True)
class NamedData:
    """A data set that is there: stimuli and RDMs with the same names.

    Attributes
    ----------
    info : DataInfo
        With licence and citation.
    folder : Path
        Where its files lie.
    stimuli : Stimuli or None
        Images with categories; None where the set has none.
    rdms : rsatoolbox.rdm.RDMs or None
        RDMs of the same conditions; None where the set has none.

    Examples
    --------
    >>> NamedData(info("mnist"), Path("mnist"), None, None).info.title
    'Handwritten digits, 60,000 and 10,000'
    """

    info: DataInfo
    folder: Path
    stimuli: Stimuli | None
    rdms: RDMs | None


@cache
def _known() -> dict[str, DataInfo]:
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
    return tuple(_known())


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
    return _known()[check_option(name, names(), "data set")]


def cache_folder() -> Path:
    """Folder of everything fetched: the platform's cache folder for brainrdl.

    Examples
    --------
    >>> cache_folder().name
    'brainrdl'
    """
    import pooch

    return Path(pooch.os_cache("brainrdl"))


def fetch(name: str, folder: Path | str | None = None, *, progress: bool = True) -> Path:
    """Bring the files of a data set into the cache, unless they are there.

    Parameters
    ----------
    name : str
        One of `names`.
    folder : path, optional
        Where to keep data sets; `cache_folder` by default.
    progress : bool
        Show a progress bar while downloading.

    Returns
    -------
    Path
        The data set's own folder.

    Raises
    ------
    BrainrdlError
        If the name is unknown, a file has no address and is not in ``BRAINRDL_DATA``, cannot be downloaded or
        written, or has another checksum than it must have.

    Examples
    --------
    >>> fetch("mnits")
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: data set 'mnits' is not known; nearest: 'mnist' (known: ...
    """
    data = info(name)
    home = (cache_folder() if folder is None else Path(folder)) / name
    wanted = missing(name, folder)
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
    return home


def missing(name: str, folder: Path | str | None = None) -> list[DataFile]:
    """List the files of a data set that are not in the cache as they must be.

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
    """Say where a data set is: in the cache, as an offline copy below ``BRAINRDL_DATA`` (not looked into), or nowhere.

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


def load(name: str, folder: Path | str | None = None, *, train: bool = True, progress: bool = True) -> NamedData:
    """Fetch a data set and read it: stimuli and RDMs, aligned by name.

    Parameters
    ----------
    name : str
        One of `names`.
    folder : path, optional
        Where to keep data sets; `cache_folder` by default.
    train : bool
        Of MNIST and CIFAR: the training part, or the test part.
    progress : bool
        Show a progress bar while downloading.

    Returns
    -------
    NamedData
        ``kriegeskorte92``: 92 images with six categories, human IT (4 subjects, 2 sessions each) and monkey IT.
        ``algonauts92``: 92 images, EVC and IT of 15 subjects. ``haxby2001``: crossnobis RDM of 8 categories over 12
        runs, no images (extra ``fmri``). ``mnist``, ``cifar10``, ``cifar100``: labelled images, no RDM.

    Raises
    ------
    BrainrdlError
        As `fetch`.

    Examples
    --------
    >>> load("mnits")
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: data set 'mnits' is not known; nearest: 'mnist' (known: ...
    """
    home = fetch(name, folder, progress=progress)
    stimuli, rdms = _LOADERS[name](home, train)
    return NamedData(info(name), home, stimuli, rdms)


# Files


def _is_whole(path: Path, file: DataFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and _sha256(path.open("rb")) == file.sha256


def _sha256(stream: IO[bytes]) -> str:
    with stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _offline(data: DataInfo, files: list[DataFile]) -> dict[str, bytes]:
    """Give the content of those files that the folder of ``BRAINRDL_DATA`` holds as they must be."""
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
            return stream.read(size + 1)  # no further: a small file may unpack to anything
    except (OSError, EOFError):
        return None


def _members(archive: Path, folder: str, files: list[DataFile]) -> Iterator[tuple[str, bytes]]:
    """Read the files from an archive, in one go through it; nothing is unpacked to the disk."""
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
            f"file {file.name!r} of data set {data.name!r} has no address to download from: get it at {data.page}, and "
            f"put it into {str(target)!r} (or below ${_OFFLINE}/{data.name}); licence: {data.licence}"
        )
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # the bar says what is fetched
    part = target.with_name(f"{target.name}.part")
    size, sha256 = file.download_size or file.size, file.download_sha256 or file.sha256
    get_rest = partial(_stream, kept=part, size=size, progress=progress)
    try:
        whole = Path(
            pooch.retrieve(file.url, f"sha256:{sha256}", f"{target.name}.whole", target.parent, None, get_rest)
        )
    except requests.RequestException as error:
        refuse(f"cannot download {file.url}: {type(error).__name__}; try again to go on, or {_instead(data, file)}")
    except ValueError:  # what was downloaded has another hash
        refuse(
            f"{file.url} gave something else than file {file.name!r} of data set {data.name!r}, whose SHA-256 is "
            f"{sha256}; it was thrown away. Try again later, or get it at {data.page or data.doi}"
        )
    if file.download_sha256 is None:
        whole.replace(target)
    else:
        _place(_gunzipped(whole, file.size) or b"", target)
        whole.unlink()


def _instead(data: DataInfo, file: DataFile) -> str:
    """Say how a file can be had without a network: what is wrong with the copy there is, or where to put one."""
    place = os.environ.get(_OFFLINE)
    if not place:
        return f"set {_OFFLINE} to a folder with copies of data sets"
    copies = (Path(place, data.name, name) for name in (file.name, Path(file.name).name))
    unlike = next((copy for copy in copies if copy.is_file()), None)
    if unlike is not None:
        return f"mend the copy {str(unlike)!r}, whose SHA-256 is not {file.sha256}"
    return f"put it, or an archive {data.name}.tar.gz, below {_OFFLINE} ({str(Path(place, data.name))!r})"


def _stream(url: str, output: str, _pooch: object, *, kept: Path, size: int, progress: bool) -> None:
    """Download into `output` by way of `kept`, which stays when it is cut off: the next attempt goes on there."""
    import requests
    from rich.progress import Progress

    done = kept.stat().st_size if kept.exists() else 0
    headers = {"Range": f"bytes={done}-"} if 0 < done < size else {}
    with requests.get(url, stream=True, timeout=_TIMEOUT, headers=headers) as answer:
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        with kept.open("ab" if goes_on else "wb") as stream, Progress(disable=not progress) as bar:
            task = bar.add_task(f"{kept.stem} ({size / 1e6:.1f} MB)", total=size, completed=done if goes_on else 0)
            for chunk in answer.iter_content(_CHUNK):
                stream.write(chunk)
                bar.advance(task, len(chunk))
    kept.replace(output)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        refuse(f"cannot write {str(target)!r}: {error.strerror or error}; choose another folder")


# What the files hold


def _kriegeskorte92(home: Path, train: bool) -> tuple[Stimuli, RDMs]:
    from scipy.io import loadmat

    paper = home / "Kriegeskorte_Neuron2008_supplementalData.mat"
    objects = loadmat(paper, struct_as_record=False, squeeze_me=True)["stimuli_92objs"]
    listed = _numbered(len(objects), "stimulus_{:02d}")
    images = np.stack([each.image for each in objects])
    stimuli = Stimuli.from_arrays(images, listed, labels=[_category(each) for each in objects])
    human: Any = read(home / "92_brainRDMs.mat", names=listed)
    both = read(paper, names=listed, variable="RDMs_mIT_hIT_fig1")
    return stimuli, concat([human, _monkey(both)])


def _category(each: Any) -> str:
    if each.animal:
        return f"{'human' if each.human else 'animal'} {'face' if each.face else 'body'}"
    return "natural object" if each.natural else "artificial object"


def _monkey(both: Any) -> RDMs:
    """Monkey IT is the first of the paper's two RDMs; the second is the mean of the human ones."""
    monkey: RDMs = both.subset("index", 0)
    monkey.rdm_descriptors = {"name": ["monkey IT"], "roi": ["mIT"], "subject": ["2 monkeys"], "session": ["1"]}
    return monkey


def _algonauts92(home: Path, train: bool) -> tuple[Stimuli, RDMs]:
    rdms: Any = read(home / "target_fmri.mat", names=home / "images")
    return Stimuli.from_folder(home / "images"), rdms


def _haxby2001(home: Path, train: bool) -> tuple[None, RDMs]:
    from brainrdl.rdm_estimation import calc_rdm

    data: Any = read(
        home / "bold.nii.gz", mask=home / "mask.nii.gz", table=home / "attributes_literal.txt", reader="bold"
    )
    return None, calc_rdm(data, "crossnobis", noise="shrinkage_eye")


def _mnist(home: Path, train: bool) -> tuple[Stimuli, None]:
    from torchvision.datasets import MNIST

    return Stimuli.from_dataset(MNIST(str(home), train=train, download=False)), None


def _cifar10(home: Path, train: bool) -> tuple[Stimuli, None]:
    parts = [f"data_batch_{number}.bin" for number in range(1, 6)] if train else ["test_batch.bin"]
    return _cifar(home / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", parts, "batches.meta.txt", 1), None


def _cifar100(home: Path, train: bool) -> tuple[Stimuli, None]:
    parts = ["train.bin" if train else "test.bin"]
    return _cifar(home / "cifar-100-binary.tar.gz", "cifar-100-binary", parts, "fine_label_names.txt", 2), None


def _cifar(archive: Path, folder: str, parts: list[str], classes: str, n_labels: int) -> Stimuli:
    """Read the binary version: torchvision's loader takes the other one, which is a pickle."""
    with tarfile.open(archive) as opened:
        content = [opened.extractfile(f"{folder}/{name}").read() for name in (*parts, classes)]  # type: ignore[union-attr]
    words = content.pop().decode().split()
    records = np.frombuffer(b"".join(content), np.uint8).reshape(-1, n_labels + 3 * 32 * 32)
    images = records[:, n_labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = [words[label] for label in records[:, n_labels - 1]]  # of CIFAR-100's two, the fine one
    return Stimuli.from_arrays(images, _numbered(len(images), "{:05d}", start=0), labels=labels)


def _numbered(count: int, form: str, start: int = 1) -> list[str]:
    return [form.format(number) for number in range(start, start + count)]


_LOADERS: dict[str, Callable[[Path, bool], tuple[Stimuli | None, Any]]] = {
    "kriegeskorte92": _kriegeskorte92,
    "algonauts92": _algonauts92,
    "haxby2001": _haxby2001,
    "mnist": _mnist,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
}
