"""Real data for the tests that need them, which skip and say why where there are none; and a small experiment."""

from __future__ import annotations

import os
import signal
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from brainrdl import rdms


class Operations(TorchDispatchMode):
    """Count what torch does inside a ``with`` block: tests of speed test the work, which a busy machine cannot change.

    ``called`` lists all operations; ``made`` lists the operation and size (number of entries) of each new tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []
        self.made: list[tuple[str, int]] = []

    @property
    def largest(self) -> int:
        return max((size for _, size in self.made), default=0)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.called.append(str(function))
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)}
        new = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.made += [(str(function), leaf.numel()) for leaf in new if leaf.untyped_storage().data_ptr() not in given]
        return result


@pytest.fixture(scope="session", autouse=True)
def default_signals() -> None:
    """Undo that signals are ignored, as in processes that are started by `nohup` or in the background of a script."""
    for signum, action in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, action)


@pytest.fixture
def operations() -> type[Operations]:
    """A context manager that counts the operations of torch; ``with operations() as done: ...``."""
    return Operations


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of real data: the environment variable BRAINRDL_DATA."""
    value = os.environ.get("BRAINRDL_DATA")
    if not value:
        pytest.skip("BRAINRDL_DATA is not set: there are no real data to test with (CONTRIBUTING.md, Real data)")
    if not Path(value).is_dir():
        pytest.fail(f"BRAINRDL_DATA is {value!r}, which is not a folder")
    return Path(value)


@pytest.fixture(scope="session")
def kriegeskorte92(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the 92 images' RDMs of Kriegeskorte et al. 2008: 92_brainRDMs.mat and its neighbours."""
    return _unpacked(data_folder / "kriegeskorte92.tar.gz", tmp_path_factory)


@pytest.fixture(scope="session")
def algonauts92(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the Algonauts 2019 set of 92 images: target_fmri.mat and images/."""
    return _unpacked(data_folder / "algonauts92.tar.gz", tmp_path_factory)


@pytest.fixture(scope="session")
def rsatoolbox_files(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of files from rsatoolbox's demos and tests: modelRDMs_A2020.mat and exports of Meadows."""
    return _unpacked(data_folder / "rsatoolbox_files.tar.gz", tmp_path_factory)


@pytest.fixture
def content(tmp_path: Path) -> dict:
    """A small experiment on disk, and its recipe."""
    names = [f"face_{i:02d}" for i in range(12)]
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name in names:
        Image.fromarray(random.integers(0, 255, (10, 10), dtype=np.uint8)).save(tmp_path / "images" / f"{name}.png")
    labels = [{"stimulus": name, "category": "ab"[i % 2]} for i, name in enumerate(names)]
    pd.DataFrame(labels).to_csv(tmp_path / "labels.csv", index=False)
    brain = rdms.from_array(
        random.random((3, 66)), names, descriptors={"subject": ["s1", "s2", "s3"], "roi": ["IT"] * 3}
    )
    brain.save(str(tmp_path / "it.h5"), file_type="hdf5")
    return {
        "stimuli": {"folder": str(tmp_path / "images"), "labels": str(tmp_path / "labels.csv")},
        "teacher": {"rdms": str(tmp_path / "it.h5")},
        "student": {"model": "small_cnn", "layers": {"pool": "IT"}},
        "fit": {"steps": 4, "evaluate_every": 2, "device": "cpu"},
        "evaluation": {"folds": 3},
    }


def _unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not in BRAINRDL_DATA (CONTRIBUTING.md, Real data)")
    name = archive.name.removesuffix(".tar.gz")
    folder = tmp_path_factory.mktemp(name)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / name if (folder / name).is_dir() else folder


@pytest.fixture
def without_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the passes that test rows and find the channels, for tests that count passes of convolutions."""
    from brainrdl.models.axes import Axes

    monkeypatch.setattr("brainrdl.models.layers._check_rows", lambda *_: None)
    monkeypatch.setattr(
        "brainrdl.models.layers._axes_of", lambda model, _: {name: [Axes(1)] for name, _ in model.named_modules()}
    )
