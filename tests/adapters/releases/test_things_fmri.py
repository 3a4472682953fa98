"""The reader of THINGS-fMRI's tables, on a tiny copy whose .h5 file has what pandas writes."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brainrdl import BrainrdlError, read
from brainrdl.testing.file_readers import _same_data, check_reader
from data_adapters.releases.things_fmri import READER

RESPONSES, STIMULI, VOXELS = (
    f"sub-01_{name}" for name in ("ResponseData.h5", "StimulusMetadata.csv", "VoxelMetadata.csv")
)
VALUES = np.random.default_rng(0).normal(size=(5, 6))  # (voxel, trial)
TRIALS = pd.DataFrame(
    {
        "trial_type": ["train", "train", "test", "test", "train", "test"],
        "session": [1, 1, 1, 2, 2, 2],
        "run": [1, 1, 2, 1, 1, 2],
        "subject_id": 1,
        "trial_id": range(6),
        "stimulus": [
            f"{name}.jpg"
            for name in ("dog_12s", "mango_12s", "tape_measure_14s", "tape_measure_14s", "car_01b", "dog_12s")
        ],
    }
)
TABLE = pd.DataFrame(
    {
        "voxel_id": range(5),
        "subject_id": 1,
        "voxel_x": [1, 1, 1, 2, 2],
        "voxel_y": range(5),
        "voxel_z": 33,
        "nc_singletrial": 0.5,
        "splithalf_corrected": 0.1,
        "prf-size": 0.0,
        "V1": [1, 1, 0, 1, 0],
        "LO1 (prf)": [0, 0, 1, 0, 0],
        "lSTS": 0,
    }
)
FUZZ = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write_responses(path, values=VALUES, ids=range(5), labels=None):
    """Write what ``DataFrame.to_hdf(path, key="ResponseData")`` writes; without `labels` they stand as a pickle."""
    with h5py.File(path, "w") as file:
        group = file.create_group("ResponseData")
        group.attrs["pandas_type"] = np.bytes_("frame")
        group["axis1"] = np.arange(len(values))
        group["block0_values"], group["block1_values"] = values, np.array(ids)[:, None]
        group["block1_items"] = np.array([b"voxel_id"])
        if labels is None:
            items = group.create_dataset("block0_items", (1,), h5py.vlen_dtype(np.uint8))
            items[0] = np.frombuffer(b"\x80\x04no pickle at all", np.uint8)
        else:
            group["block0_items"] = np.array([str(label).encode() for label in labels])


@pytest.fixture
def folder(tmp_path):
    write_responses(tmp_path / RESPONSES)
    TRIALS.to_csv(tmp_path / STIMULI, index=False)
    TABLE.to_csv(tmp_path / VOXELS, index=False)
    return tmp_path


def load(folder, **options):
    return read(folder, reader=READER, **options)


def test_each_regions_responses_come_with_their_trials_and_voxels(folder):
    v1, lo1 = load(folder, subject=1)
    np.testing.assert_array_equal(v1.measurements, VALUES[[0, 1, 3]].T)
    np.testing.assert_array_equal(lo1.measurements, VALUES[[2]].T)
    assert v1.descriptors == {"roi": "V1", "subject": "01", "n_dropped_channels": 0}
    assert v1.obs_descriptors["stimulus"][1:3] == ["mango_12s", "tape_measure_14s"]
    assert v1.obs_descriptors["concept"] == ["dog", "mango", "tape_measure", "tape_measure", "car", "dog"]
    assert v1.obs_descriptors["session"] == ["1", "1", "1", "2", "2", "2"]
    assert v1.obs_descriptors["run"] == ["1-1", "1-1", "1-2", "2-1", "2-1", "2-2"]
    assert v1.obs_descriptors["trial_type"] == TRIALS["trial_type"].tolist()
    assert list(v1.channel_descriptors["voxel_y"]) == [0, 1, 3]


def test_a_type_of_trial_is_read_alone(folder):
    v1 = load(folder, roi="V1", trial_type="test")
    np.testing.assert_array_equal(v1.measurements, VALUES[[0, 1, 3]][:, [2, 3, 5]].T)
    assert v1.obs_descriptors["stimulus"] == ["tape_measure_14s", "tape_measure_14s", "dog_12s"]


def test_regions_come_in_the_order_asked_for(folder):
    assert [each.descriptors["roi"] for each in load(folder, roi=["LO1 (prf)", "V1"])] == ["LO1 (prf)", "V1"]


def test_permuted_voxels_keep_their_responses(folder):
    order = [3, 0, 4, 1, 2]
    write_responses(folder / RESPONSES, VALUES[order], order)
    np.testing.assert_array_equal(load(folder, roi="V1").measurements, VALUES[[0, 1, 3]].T)
    TABLE.iloc[::-1].to_csv(folder / VOXELS, index=False)
    v1 = load(folder, roi="V1")
    assert list(v1.channel_descriptors["voxel_id"]) == [3, 1, 0]
    np.testing.assert_array_equal(v1.measurements, VALUES[[3, 1, 0]].T)


def test_permuted_columns_are_read_by_their_labels(folder):
    order = [5, 0, 3, 1, 2, 4]
    write_responses(folder / RESPONSES, VALUES[:, order], labels=order)
    np.testing.assert_array_equal(load(folder, roi="V1").measurements, VALUES[[0, 1, 3]].T)


def test_labels_past_nine_are_put_in_the_order_of_numbers(folder):
    values = np.random.default_rng(1).normal(size=(5, 12))
    order = sorted(range(12), key=str)
    write_responses(folder / RESPONSES, values[:, order], labels=order)
    pd.concat([TRIALS, TRIALS.assign(trial_id=range(6, 12))]).to_csv(folder / STIMULI, index=False)
    np.testing.assert_array_equal(load(folder, roi="LO1 (prf)").measurements[:, 0], values[2])


def test_a_column_concept_is_kept(folder):
    TRIALS.assign(concept=list("abcdef")).to_csv(folder / STIMULI, index=False)
    assert load(folder, roi="V1").obs_descriptors["concept"] == list("abcdef")


def test_numbers_of_trials_may_be_written_as_fractions(folder):
    expected = load(folder, roi="V1")
    trials(trial_id=np.arange(6.0))(folder)
    assert "0.0" in (folder / STIMULI).read_text()
    assert load(folder, roi="V1").obs_descriptors == expected.obs_descriptors


def test_the_folder_is_recognised_by_its_files(folder):
    assert READER.sniff(folder)
    assert not READER.sniff(folder / RESPONSES)


def test_a_table_that_pandas_wrote_is_read(folder):
    pytest.importorskip("tables", reason="pandas writes HDF5 with PyTables only")
    frame = pd.DataFrame(VALUES, columns=[str(number) for number in range(6)])
    frame.insert(0, "voxel_id", range(5))
    frame.to_hdf(folder / RESPONSES, key="ResponseData", mode="w")
    np.testing.assert_array_equal(load(folder, roi="V1").measurements, VALUES[[0, 1, 3]].T)


def trials(**changes):
    return lambda folder: TRIALS.assign(**changes).to_csv(folder / STIMULI, index=False)


def voxels(**changes):
    return lambda folder: TABLE.assign(**changes).to_csv(folder / VOXELS, index=False)


def responses(*given, **changes):
    return lambda folder: write_responses(folder / RESPONSES, *given, **changes)


REFUSALS = {
    "subject=2 must name one of the subjects": (None, {"subject": 2}),
    "roi 'V9' is not known": (None, {"roi": "V9"}),
    "roi 'prf-size' is not known": (None, {"roi": "prf-size"}),
    r"names \['V1'\] occur more than once in roi=": (None, {"roi": ["V1", "V1"]}),
    r"there is no region to read: roi=\[\]": (None, {"roi": []}),
    r"no voxel belongs to the regions \['lSTS'\]": (None, {"roi": ["V1", "lSTS"]}),
    "trial_type 'catch' is not known": (None, {"trial_type": "catch"}),
    "the table .*StimulusMetadata.csv' is missing": (lambda folder: (folder / STIMULI).unlink(), {}),
    "the table .*VoxelMetadata.csv' is missing": (lambda folder: (folder / VOXELS).unlink(), {}),
    r"has no columns \['run'\]": (lambda folder: TRIALS.drop(columns="run").to_csv(folder / STIMULI), {}),
    r"has no columns \['voxel_id'\]": (lambda folder: TABLE.drop(columns="voxel_id").to_csv(folder / VOXELS), {}),
    "must have one row per trial": (trials(stimulus=[None, *TRIALS["stimulus"][1:]]), {}),
    "not in the order of trial_id": (trials(trial_id=[1, 0, 2, 3, 4, 5]), {}),
    "trial_id, as the responses are; .*each trial once": (trials(trial_id=[0, 0, 1, 1, 2, 2]), {}),
    "the column trial_id of .* holds 'x', which is not a number": (trials(trial_id=list("01x345")), {}),
    "holds nan, which is not a number": (trials(trial_id=[0, 1, None, 3, 4, 5]), {}),
    r"names \['dog_12s'\] occur more than once": (trials(stimulus=[*TRIALS["stimulus"][:5], "dog_12s.png"]), {}),
    r"columns \['V1'\] .* must hold 0 and 1": (voxels(V1=[0.2, 1, 0, 0, 0]), {}),
    r"names \['0'\] occur more than once in the column voxel_id": (voxels(voxel_id=[0, 0, 1, 2, 3]), {}),
    "name different voxels": (responses(ids=[0, 1, 2, 3, 7]), {}),
    "of the voxels' table name different": (responses(ids=[0, 1, 2, 3, 3]), {}),
    "voxel_id of the responses and that": (responses(VALUES[[0, 1, 2, 3, 4, 4]], [0, 1, 2, 3, 4, 4]), {}),
    r"shape \(5, 4\) for 5 voxels and 6 trials": (responses(VALUES[:, :4]), {}),
    r"shape \(6, 5\) for 5 voxels": (responses(VALUES.T), {}),
    "expected a table in the fixed format of pandas": (responses(VALUES.astype(int)), {}),
    "are labelled .* expected 0 to 5": (responses(labels=[0, 1, 2, 3, 4, 9]), {}),
    "it is not an HDF5 file": (lambda folder: (folder / RESPONSES).write_bytes(b"PK" * 500), {}),
}


@pytest.mark.parametrize("words", REFUSALS)
def test_what_does_not_fit_is_refused(folder, words):
    damage, options = REFUSALS[words]
    if damage:
        damage(folder)
    with pytest.raises(BrainrdlError, match=words):
        load(folder, **options)


def test_a_huge_declared_shape_is_refused_before_memory_is_allocated(folder):
    with h5py.File(folder / RESPONSES, "w") as file:
        file.create_dataset("ResponseData/block0_values", (10**6, 10**6), float, chunks=(1000, 1000))
    with pytest.raises(BrainrdlError, match="but the file stores 0 of them"):
        load(folder)


def outcome(folder):
    """Read a damaged copy: the data, or None for a refusal that names the folder."""
    try:
        return load(folder, roi="V1")
    except BrainrdlError as error:
        message = str(error)
    assert str(folder) in message
    return None


@pytest.fixture
def whole(folder):
    return load(folder, roi="V1")


@pytest.mark.parametrize("file", [RESPONSES, STIMULI, VOXELS])
@FUZZ
@given(part=st.floats(0, 1, exclude_max=True), bit=st.integers(-1, 7))
def test_a_damaged_file_gives_data_or_a_refusal(folder, whole, file, part, bit):
    sound = (folder / file).read_bytes()
    damaged = bytearray(sound) if bit >= 0 else sound[: int(part * len(sound))]
    if bit >= 0:
        damaged[int(part * len(sound))] ^= 1 << bit
    (folder / file).write_bytes(damaged)
    found = outcome(folder)
    (folder / file).write_bytes(sound)
    assert found is None or found.n_obs == whole.n_obs
    assert found is None or bit >= 0 or _same_data(found, whole)


def test_the_reader_keeps_its_contract(folder):
    check_reader(READER, folder, subject="1")
