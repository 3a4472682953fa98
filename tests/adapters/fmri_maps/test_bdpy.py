"""BDPy's files: only voxels are channels, and labels, runs and sessions describe the observations."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from brainrdl import BrainrdlError, read
from brainrdl.testing.file_readers import check_reader
from data_adapters.arrays.numpy_arrays import READER as NUMPY
from data_adapters.electrophysiology.ephys_hdf5 import READER as EPHYS
from data_adapters.fmri_maps.bdpy import READER

N, N_VOXELS = 20, 12


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


def take(path, **options):
    return read(path, reader=READER, **options)


@pytest.fixture
def voxels():
    return np.random.default_rng(0).normal(size=(N, N_VOXELS))


@pytest.fixture
def write(tmp_path, voxels):
    """Write what ``bdpy.BData.save`` writes: voxels, and a column for each of `columns`."""

    def writes(groups=("dataset", "metadata"), vmap=None, extra=(), **columns):
        path = tmp_path / "sub-S1.h5"
        rows = {"VoxelData": np.r_[np.ones(N_VOXELS), [np.nan] * len(columns)]}
        rows["ROI_V1"] = np.r_[np.ones(6), [np.nan] * (N_VOXELS - 6 + len(columns))]
        rows["ROI_IT"] = np.r_[[np.nan] * 4, np.ones(8), [np.nan] * len(columns)]
        rows["voxel_x"] = np.r_[np.arange(N_VOXELS) * 3.0, [np.nan] * len(columns)]
        for place, name in enumerate(columns):
            rows[name] = np.full(N_VOXELS + len(columns), np.nan)
            rows[name][N_VOXELS + place] = 1
        rows |= dict(extra)
        with h5py.File(path, "w") as file:
            file[groups[0]] = np.column_stack([voxels, *columns.values()])
            file[f"{groups[1]}/key"] = [key.encode() for key in rows]
            file[f"{groups[1]}/description"] = [b"" for _ in rows]
            file[f"{groups[1]}/value"] = np.array(list(rows.values()))
            file.create_group("vmap")
            for key, texts in (vmap or {}).items():
                for number, text in texts.items():
                    file[f"vmap/{key}/{number}"] = text.encode()
        return path

    return writes


RUN, LABEL = np.repeat([1.0, 2.0], 10), np.tile(np.arange(5.0), 4)


@pytest.mark.parametrize("groups", [("dataset", "metadata"), ("dataSet", "metaData")])
def test_only_voxels_are_channels(write, voxels, groups):
    path = write(groups, Run=RUN, Label=LABEL)
    assert READER.sniff(path)
    assert not NUMPY.sniff(path)
    assert not EPHYS.sniff(path)
    data = take(path)
    np.testing.assert_array_equal(data.measurements, voxels)
    assert data.obs_descriptors["stimulus"] == [str(int(label)) for label in LABEL]
    assert data.obs_descriptors["run"] == ["1"] * 10 + ["2"] * 10
    assert data.channel_descriptors["voxel_x"].tolist() == [3.0 * place for place in range(N_VOXELS)]
    assert data.descriptors["subject"] == "S1"


def test_regions_are_keys_of_the_metadata(write, voxels):
    path = write(Run=RUN, Label=LABEL)
    it, v1 = take(path, roi=["IT", "ROI_V1"])
    np.testing.assert_array_equal(it.measurements, voxels[:, 4:])
    np.testing.assert_array_equal(v1.measurements, voxels[:, :6])
    assert take(path, roi="IT").descriptors["roi"] == "IT"
    with refused(r"region 'V2' is not known; nearest: 'V1'.*; there are \['V1', 'IT'\]"):
        take(path, roi="V2")
    with refused("roi= is an empty list"):
        take(path, roi=[])


def test_labels_have_the_texts_of_vmap_and_runs_their_session(write):
    names = {number: f"image{number}" for number in range(5)}
    path = write(Session=np.tile(np.repeat([1.0, 2.0], 5), 2), Run=RUN, Label=LABEL, vmap={"Label": names})
    data = take(path)
    assert data.obs_descriptors["stimulus"][:3] == ["image0", "image1", "image2"]
    assert list(dict.fromkeys(data.obs_descriptors["run"])) == ["1/1", "2/1", "1/2", "2/2"]
    assert data.obs_descriptors["session"][:6] == ["1"] * 5 + ["2"]
    with refused(r"vmap has no text for \[4.0\] in the column 'Label'"):
        take(write(Run=RUN, Label=LABEL, vmap={"Label": {k: names[k] for k in range(4)}}))


def test_observations_without_a_condition_are_left_out(write, voxels):
    label = LABEL.copy()
    label[[0, 7]] = np.nan
    data = take(write(Run=RUN, Label=label))
    np.testing.assert_array_equal(data.measurements, np.delete(voxels, [0, 7], axis=0))
    assert data.descriptors["n_dropped_observations"] == 2
    with refused("none of the 20 observations has a condition"):
        take(write(Run=RUN, Label=np.full(N, np.nan)))


def test_the_column_of_conditions_is_asked_for_if_it_is_in_doubt(write):
    path = write(Block=RUN, stimulus_id=LABEL, image_index=LABEL + 10)
    with refused(r"which column names the conditions\? Give condition_column=; there are \['Block', 'stimulus_id'"):
        take(path)
    data = take(path, condition_column="image_index", run_column="Block")
    assert data.obs_descriptors["stimulus"][0] == "10"
    assert data.obs_descriptors["run"][-1] == "2"
    with refused("condition_column 'VoxelData' is not known"):
        take(path, condition_column="VoxelData")


def test_the_reader_of_spikes_does_not_read_labels_as_channels(write):
    with refused("a file of BDPy, whose matrix also has columns of labels and runs; read it with reader='bdpy'"):
        read(write(Run=RUN, Label=LABEL), reader=EPHYS, variable="dataset", axes="trials,units")


def test_metadata_that_do_not_fit_are_refused(write, tmp_path):
    path = write(Run=RUN, Label=LABEL)
    with h5py.File(path, "a") as file:
        values = file["metadata/value"][:, :-1]
        del file["metadata/value"]
        file["metadata/value"] = values
    with refused(r"the metadata describe \(6, 13\) \(keys, columns\), but there are 6 keys and 14 columns"):
        take(path)
    with refused("no column belongs to the key 'ROI_none' of the metadata"):
        take(write(Run=RUN, Label=LABEL, extra=[("ROI_none", np.zeros(14))]), roi="none")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["dataset"] = np.ones((3, 3))
    assert not READER.sniff(tmp_path / "other.h5")
    with refused("the file has no 'dataset' with 'metadata/key'"):
        take(tmp_path / "other.h5")


def test_a_damaged_file_is_refused(write):
    path = write(Run=RUN, Label=LABEL)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with refused("could not be read"):
        take(path)
    assert not READER.sniff(path)


def test_the_reader_keeps_the_contract(write):
    check_reader(READER, write(Run=RUN, Label=LABEL))
