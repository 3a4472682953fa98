"""Real data for the tests that need them; they skip, and say why, where there are none."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest


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


def _unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not in BRAINRDL_DATA (CONTRIBUTING.md, Real data)")
    name = archive.name.removesuffix(".tar.gz")
    folder = tmp_path_factory.mktemp(name)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / name
