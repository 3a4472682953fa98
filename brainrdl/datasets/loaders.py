"""Named public data sets as stimuli and RDMs with the same condition names.

Files are read from the cache. If a file is missing there, it is copied from the folder in the environment variable
``BRAINRDL_DATA`` (a file, or one in ``NAME.tar.gz``) or downloaded from the address of its authors. Only files with
the known SHA-256 are used, and an interrupted download is resumed. Nothing that is downloaded is unpickled or run.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainrdl.datasets.catalogue import DataInfo, info
from brainrdl.datasets.download import fetch
from brainrdl.rdms.by_name import concat
from brainrdl.readers.reading import read
from brainrdl.stimuli.named_images import Stimuli

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs


@dataclass(frozen=True)
class NamedData:
    """A loaded data set: stimuli and RDMs with the same names.

    Attributes
    ----------
    info : DataInfo
        Description with licence and citation.
    folder : Path
        Folder of its files.
    stimuli : Stimuli or None
        Images with categories; None if the data set has no images.
    rdms : rsatoolbox.rdm.RDMs or None
        RDMs of the same conditions (n_rdms, n_pairs); None if the data set has no RDMs.

    Examples
    --------
    >>> NamedData(info("mnist"), Path("mnist"), None, None).info.title
    'Handwritten digits, 60,000 and 10,000'
    """

    info: DataInfo
    folder: Path
    stimuli: Stimuli | None
    rdms: RDMs | None


def load(name: str, folder: Path | str | None = None, *, train: bool = True, progress: bool = True) -> NamedData:
    """Download a data set if necessary, and read it: stimuli and RDMs with the same names.

    Parameters
    ----------
    name : str
        One of `names`.
    folder : path, optional
        Folder of all data sets (default: `cache_folder`).
    train : bool
        For MNIST and CIFAR: True reads the training images, False the test images.
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
        If the name is unknown, or `fetch` cannot get a file.

    Examples
    --------
    >>> load("mnits")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: data set 'mnits' is not known; nearest: 'mnist' (known: ...
    """
    home = fetch(name, folder, progress=progress)
    stimuli, rdms = _LOADERS[name](home, train)
    return NamedData(info(name), home, stimuli, rdms)


# Contents of the files


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
    """Return monkey IT, the first of the two RDMs of the paper; the second is the mean of the human RDMs."""
    monkey: RDMs = both.subset("index", 0)
    monkey.rdm_descriptors = {"name": ["monkey IT"], "roi": ["mIT"], "subject": ["2 monkeys"], "session": ["1"]}
    return monkey


def _algonauts92(home: Path, train: bool) -> tuple[Stimuli, RDMs]:
    rdms: Any = read(home / "target_fmri.mat", names=home / "images", axes="subject,conditions,conditions")
    return Stimuli.from_folder(home / "images"), rdms


def _haxby2001(home: Path, train: bool) -> tuple[None, RDMs]:
    from brainrdl.rdms.estimation import calc_rdm

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
    """Read the binary version, because the version that torchvision reads is a pickle."""
    with tarfile.open(archive) as opened:
        content = [opened.extractfile(f"{folder}/{name}").read() for name in (*parts, classes)]  # type: ignore[union-attr]
    words = content.pop().decode().split()
    records = np.frombuffer(b"".join(content), np.uint8).reshape(-1, n_labels + 3 * 32 * 32)
    images = records[:, n_labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = [words[label] for label in records[:, n_labels - 1]]  # CIFAR-100 has a coarse and a fine label
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
