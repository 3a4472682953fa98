"""rsatoolbox's HDF5 files: everything saved comes back."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from rsatoolbox.data import Dataset, TemporalDataset

from brainrdl import BrainrdlError, read
from brainrdl._files import write_rdms
from brainrdl.rdms import from_array, from_tensor, names
from brainrdl.testing import check_reader
from data_adapters.rsatoolbox_hdf5 import READER

CONDITIONS = ["cat", "dog", "car", "tree"]


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


@pytest.fixture
def rdms(stack):
    return from_array(stack, CONDITIONS, measure="correlation", descriptors={"roi": ["V1", "IT"]})


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".H5"])
def test_saved_rdms_come_back(tmp_path, rdms, suffix):
    path = tmp_path / f"rdms{suffix}"
    rdms.descriptors["study"] = "one"
    rdms.save(str(path), file_type="hdf5")
    again = read(path)
    assert again == rdms
    assert (names(again), again.dissimilarity_measure) == (tuple(CONDITIONS), "correlation")


def test_names_in_any_script_come_back_from_our_own_files(tmp_path, stack):
    given = from_array(stack, ["Käse", "日本", "cat", "é"], descriptors={"roi": ["aire é", "IT"]})
    write_rdms(tmp_path / "rdms.h5", given)
    again = read(tmp_path / "rdms.h5")
    assert again == given
    assert (names(again), again.rdm_descriptors["roi"]) == (("Käse", "日本", "cat", "é"), ["aire é", "IT"])


@pytest.mark.parametrize("group", ["pattern_descriptors", "obs_descriptors"])
def test_names_of_variable_length_are_text_and_not_bytes(tmp_path, rdms, group):
    kept = (
        rdms if group == "pattern_descriptors" else Dataset(np.ones((4, 3)), obs_descriptors={"stimulus": CONDITIONS})
    )
    kept.save(str(tmp_path / "a.h5"), file_type="hdf5")
    with h5py.File(tmp_path / "a.h5", "a") as file:  # as h5py and MATLAB write lists of words
        del file[group]["stimulus"]
        file[group]["stimulus"] = ["Käse", "dog", "car", "日本"]
    assert list(getattr(read(tmp_path / "a.h5"), group)["stimulus"]) == ["Käse", "dog", "car", "日本"]


def test_rdms_without_measure_come_back(tmp_path):
    from_array([1.0, 2, 3], None).save(str(tmp_path / "rdms.h5"))
    assert read(tmp_path / "rdms.h5").dissimilarity_measure is None


@pytest.mark.parametrize("kind", [Dataset, TemporalDataset])
def test_saved_measurements_come_back(tmp_path, kind):
    values = np.random.default_rng(0).normal(size=(4, 3) if kind is Dataset else (4, 3, 2))
    kind(values, obs_descriptors={"stimulus": CONDITIONS}).save(str(tmp_path / "data.h5"))
    again = read(tmp_path / "data.h5")
    assert type(again) is kind
    np.testing.assert_array_equal(again.measurements, values)
    assert list(again.obs_descriptors["stimulus"]) == CONDITIONS


def test_a_repeated_observation_of_one_condition_is_no_duplicate(tmp_path):
    Dataset(np.ones((4, 3)), obs_descriptors={"stimulus": ["cat", "cat", "dog", "dog"]}).save(str(tmp_path / "data.h5"))
    assert read(tmp_path / "data.h5").n_obs == 4


def test_measurements_without_names_take_them(tmp_path):
    Dataset(np.ones((2, 3))).save(str(tmp_path / "data.h5"))
    assert read(tmp_path / "data.h5", names=["cat", "dog"]).obs_descriptors["stimulus"] == ["cat", "dog"]


def test_saved_rdms_are_checked(tmp_path):
    from_tensor(torch.ones(1, 3), None).save(str(tmp_path / "flat.h5"))
    with refused(r"RDM 0 \(of 1\) in file .*flat.h5' \(reader 'rsatoolbox'\) is constant"):
        read(tmp_path / "flat.h5")


def test_saved_rdms_with_a_name_twice_are_refused(tmp_path, rdms):
    rdms.pattern_descriptors["stimulus"][1] = "cat"
    rdms.save(str(tmp_path / "twice.h5"))
    with refused(r"twice.h5' \(reader 'rsatoolbox'\): names \['cat'\] stand more than once"):
        read(tmp_path / "twice.h5")


def test_hdf5_of_another_layout_is_left_to_other_readers(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["voxels"] = [1.0]
    assert not READER.sniff(tmp_path / "other.h5")
    with refused(r"neither 'dissimilarities' nor 'measurements' is in the file, it holds \['voxels'\]"):
        read(tmp_path / "other.h5", reader=READER)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.h5").touch()
    with refused(r"empty.h5' \(reader 'rsatoolbox'\): the file is empty"):
        read(tmp_path / "empty.h5")


def test_a_pickle_by_another_name_is_refused(tmp_path, rdms):
    with (tmp_path / "rdms.h5").open("wb") as opened:
        rdms.save(opened, file_type="pkl")
    with refused("is a pickle, and loading one could run any code"):
        read(tmp_path / "rdms.h5")


def test_the_reader_keeps_the_contract(tmp_path, rdms):
    rdms.dissimilarities[0, 0] = np.nan
    rdms.save(str(tmp_path / "rdms.h5"))
    check_reader(READER, tmp_path / "rdms.h5")


def test_the_reader_keeps_the_contract_with_measurements(tmp_path):
    Dataset(np.ones((2, 3))).save(str(tmp_path / "data.h5"))
    check_reader(READER, tmp_path / "data.h5")
