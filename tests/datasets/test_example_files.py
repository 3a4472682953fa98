"""Example files: every reader can use them, their names agree, and nothing that exists is replaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rsatoolbox.rdm import compare, load_rdm

from brainrdl import RDMTeacher, calc_rdm, rdms, read
from brainrdl._core.errors import BrainrdlError
from brainrdl.datasets import write_example_files
from brainrdl.stimuli import Stimuli, default_transform


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    write_example_files(folder)
    return folder


@pytest.mark.parametrize(("images", "table"), [("images", "it.h5"), ("images", "regions.h5"), ("other", "other.h5")])
def test_pictures_and_rdms_have_the_same_names(folder: Path, images: str, table: str) -> None:
    teacher = RDMTeacher(folder / table)
    stimuli = Stimuli.from_folder(folder / images, default_transform(8))
    assert sorted(stimuli.names) == sorted(teacher.conditions)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("it.npz", {}),
        ("it.csv", {}),
        ("pairs.csv", {}),
        ("it.npy", {"names": "names.txt"}),
        ("it.mat", {"names": "names.txt"}),
    ],
)
def test_all_formats_hold_the_same_rdms(folder: Path, name: str, options: dict[str, str]) -> None:
    found = read(folder / name, **{key: folder / value for key, value in options.items()})
    found = rdms.concat(found) if isinstance(found, list) else found
    expected = load_rdm(str(folder / "it.h5")).dissimilarities[: found.n_rdm]
    np.testing.assert_allclose(found.dissimilarities, expected)


def test_the_matlab_file_names_its_pictures_and_subjects(folder: Path) -> None:
    found = read(
        folder / "it.mat",
        names_variable="pictures",
        axes="conditions,conditions,subject",
        axis_variables={"subject": "people"},
    )
    expected = read(folder / "it.h5")
    assert rdms.names(found) == tuple(f"{name}.png" for name in rdms.names(expected))
    assert found.rdm_descriptors["subject"] == expected.rdm_descriptors["subject"]
    np.testing.assert_allclose(found.dissimilarities, expected.dissimilarities)


def test_the_maps_of_a_region_have_its_rdm(folder: Path) -> None:
    v1, it = read(folder / "betas.nii.gz", atlas=folder / "atlas.nii.gz")
    measured = calc_rdm([v1, it], "crossnobis")
    regions = load_rdm(str(folder / "regions.h5"))
    similarity = compare(measured, regions, method="corr").reshape(2, 2, 3).mean(-1)
    assert similarity[0, 0] > similarity[0, 1]
    assert similarity[1, 1] > similarity[1, 0]


def test_files_that_exist_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "it.h5").write_text("mine")
    first = write_example_files(tmp_path)
    assert (tmp_path / "it.h5").read_text() == "mine"
    assert tmp_path / "it.h5" not in first
    assert write_example_files(tmp_path) == []


def test_a_file_is_refused_as_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(BrainrdlError, match="is a file; give a folder"):
        write_example_files(tmp_path / "taken")
