"""Plain HDF5 arrays of trials x units x time: every order of axes, and what is refused."""

from __future__ import annotations

import itertools
import tracemalloc

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from rsatoolbox.data import Dataset, TemporalDataset

from brainrdl import BrainrdlError, read
from brainrdl.testing.file_readers import check_reader
from data_adapters.electrophysiology.ephys_hdf5 import READER

VALUES = np.random.default_rng(0).poisson(3.0, (6, 4, 5))
STIMULI = ["cat", "dog", "car"] * 2
TIMES = np.linspace(-0.1, 0.3, 5)
AXES = ("trials", "units", "time")


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


def write(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "a.h5", spikes=VALUES, stimulus=STIMULI, block=[1, 1, 1, 2, 2, 2], t=TIMES)


OPTIONS = {"axes": "trials,units,time", "times": "t"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_every_order_of_the_axes_gives_the_same(tmp_path, order):
    path = write(tmp_path / "a.h5", spikes=VALUES.transpose(order), t=TIMES)
    found = read(path, reader=READER, axes=", ".join(AXES[k] for k in order), times="t")
    assert type(found) is TemporalDataset
    np.testing.assert_array_equal(found.measurements, VALUES)
    np.testing.assert_array_equal(found.time_descriptors["time"], TIMES)


@pytest.mark.parametrize(("axes", "axis"), [("trials,units", 0), ("units,trials", 1)])
def test_counts_without_time_are_a_dataset(tmp_path, axes, axis):
    found = read(write(tmp_path / "a.h5", counts=np.moveaxis(VALUES[..., 0], 0, axis)), reader=READER, axes=axes)
    assert type(found) is Dataset
    np.testing.assert_array_equal(found.measurements, VALUES[..., 0])
    assert found.measurements.dtype == np.float64
    assert found.obs_descriptors == {}


def test_conditions_and_runs_come_from_arrays_of_the_file(file):
    found = read(file, reader=READER, condition_column="stimulus", run_column="block", **OPTIONS)
    assert found.obs_descriptors == {"stimulus": STIMULI, "run": ["1", "1", "1", "2", "2", "2"]}


@pytest.mark.parametrize("texts", [np.array(STIMULI, "S"), [f"{name} é" for name in STIMULI], [3, 1, 2] * 2])
def test_names_may_be_texts_of_any_kind_or_numbers(tmp_path, texts):
    path = write(tmp_path / "a.h5", spikes=VALUES[..., 0], names=texts)
    found = read(path, reader=READER, axes="trials,units", condition_column="names")
    assert found.obs_descriptors["stimulus"] == [t.decode() if isinstance(t, bytes) else str(t) for t in texts]


@pytest.mark.parametrize("shape", [(6, 1), (1, 6)])
def test_names_and_times_may_stand_in_a_column_or_a_row(tmp_path, shape):
    names, blocks = np.array(STIMULI, "S").reshape(shape), np.repeat([1.0, 2.0], 3).reshape(shape)
    times = TIMES.reshape(-1, 1) if shape[1] == 1 else TIMES.reshape(1, -1)
    path = write(tmp_path / "a.h5", spikes=VALUES, stimulus=names, block=blocks, t=times)
    found = read(path, reader=READER, condition_column="stimulus", run_column="block", **OPTIONS)
    assert found.obs_descriptors == {"stimulus": STIMULI, "run": list("111222")}
    np.testing.assert_array_equal(found.time_descriptors["time"], TIMES)


@pytest.mark.parametrize("option", ["condition_column", "run_column"])
@pytest.mark.parametrize("names", [["cat", "", "dog"] * 2, [1.0, np.nan, 2.0] * 2])
def test_a_trial_without_a_name_is_refused(tmp_path, option, names):
    path = write(tmp_path / "a.h5", spikes=VALUES[..., 0], names=names)
    with refused("2 of 6 values of array 'names' are missing .*, the first at position 1"):
        read(path, reader=READER, axes="trials,units", **{option: "names"})


def test_names_in_a_table_are_refused(tmp_path):
    path = write(tmp_path / "a.h5", spikes=VALUES[..., 0], names=np.zeros((6, 2)))
    with refused(r"'names' must be a list of texts or numbers, it is float64 of shape \(6, 2\)"):
        read(path, reader=READER, axes="trials,units", condition_column="names")


def test_bins_give_the_time_where_the_file_does_not(file):
    found = read(file, reader=READER, axes="trials,units,time", tmin=-0.1, bin_width=0.02)
    np.testing.assert_allclose(found.time_descriptors["time"], [-0.09, -0.07, -0.05, -0.03, -0.01])


def test_an_array_of_any_name_in_any_group_is_read_if_asked_for(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as opened:
        opened["session/IT"] = VALUES[..., 0]
        opened["session/images"] = STIMULI
    assert not READER.sniff(path)
    found = read(path, reader=READER, variable="session/IT", axes="trials,units", condition_column="session/images")
    np.testing.assert_array_equal(found.measurements, VALUES[..., 0])
    assert found.obs_descriptors["stimulus"] == STIMULI


@pytest.mark.parametrize("name", ["spikes", "SpikeCounts", "firing_rate", "responses", "psth"])
def test_files_with_an_array_of_a_usual_name_are_taken(tmp_path, name):
    assert READER.sniff(write(tmp_path / "a.hdf5", **{name: VALUES}))


@pytest.mark.parametrize("name", ["features", "dissimilarities", "measurements", "betas"])
def test_other_files_are_left_to_other_readers(tmp_path, name):
    assert not READER.sniff(write(tmp_path / "a.h5", **{name: VALUES}))
    assert not READER.sniff(write(tmp_path / "a.mat", spikes=VALUES))
    assert not READER.sniff(write(tmp_path / "b.h5", spikes=VALUES[0, 0]))


def test_of_several_arrays_one_must_be_chosen(tmp_path):
    path = write(tmp_path / "a.h5", V1_rates=VALUES, IT_rates=VALUES + 1, t=TIMES)
    with refused("choose the array with variable=: IT_rates, V1_rates"):
        read(path, reader=READER, **OPTIONS)
    np.testing.assert_array_equal(read(path, reader=READER, variable="IT_rates", **OPTIONS).measurements, VALUES + 1)


@pytest.mark.parametrize(("arrays", "listed"), [({"t": TIMES}, "t"), ({}, "the file has none")])
def test_a_file_without_such_an_array_is_refused(tmp_path, arrays, listed):
    with refused(f"choose the array with variable=: {listed}"):
        read(write(tmp_path / "a.h5", **arrays), reader=READER)


def test_the_axes_are_never_guessed(file):
    with refused(r"name the axes of 'spikes', of shape \(6, 4, 5\), in order: axes='trials,units,time'"):
        read(file, reader=READER, times="t")


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ("trials,neurons,time", "axis in axes= 'neurons' is not known"),
        ("trials,units,units", r"\['units'\] occur more than once in axes="),
        ("trials,units", r"does not fit 'spikes', of shape \(6, 4, 5\)"),
    ],
)
def test_axes_that_do_not_fit_are_refused(file, axes, words):
    with refused(words):
        read(file, reader=READER, axes=axes, times="t")


def test_axes_without_units_are_refused(tmp_path):
    path = write(tmp_path / "a.h5", spikes=VALUES[:, 0], t=TIMES)
    with refused(r"axes='trials,time' does not fit .*name each axis, including trials and units"):
        read(path, reader=READER, axes="trials,time", times="t")


def test_wrong_axes_are_refused_by_the_lengths_of_the_other_arrays(file):
    with refused("array 'stimulus' has 6 values for 4 trials of 'spikes'"):
        read(file, reader=READER, axes="units,trials,time", times="t", condition_column="stimulus")
    with refused("array 't' must hold 4 times in s, got 5 finite ones"):
        read(file, reader=READER, axes="trials,time,units", times="t")


def test_an_array_with_an_empty_axis_is_refused(tmp_path):
    with refused(r"array 'spikes' of shape \(0, 4, 5\) is empty"):
        read(write(tmp_path / "a.h5", spikes=VALUES[:0], t=TIMES), reader=READER, **OPTIONS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "axes= has 1 axes of time, so give either times= or bin_width="),
        ({"times": "t", "bin_width": 0.1}, "so give either times= or bin_width="),
        ({"times": "missing"}, "no array 'missing' in '/'"),
        ({"times": "stimulus"}, "array 'stimulus' must hold numbers along 1 axes"),
        ({"times": "unsure"}, "array 'unsure' must hold 5 times in s, got 4"),
    ],
)
def test_times_that_are_not_known_are_refused(file, options, words):
    with h5py.File(file, "r+") as opened:
        opened["unsure"] = [0, 1, 2, 3, np.nan]
    with refused(words):
        read(file, reader=READER, axes="trials,units,time", **options)


def test_times_for_an_array_without_time_are_refused(tmp_path):
    path = write(tmp_path / "a.h5", spikes=VALUES[..., 0], t=TIMES)
    with refused("axes= has 0 axes of time, so give no times"):
        read(path, reader=READER, axes="trials,units", times="t")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array(STIMULI, "S").reshape(2, 3), "array 'spikes' must hold numbers along 2 axes, it is |S3"),
        (np.ones((3, 2), complex), "must hold numbers along 2 axes, it is complex128"),
    ],
)
def test_an_array_that_holds_no_numbers_is_refused(tmp_path, value, words):
    with refused(words):
        read(write(tmp_path / "a.h5", spikes=value), reader=READER, axes="trials,units")


def test_a_group_in_place_of_an_array_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as opened:
        opened["spikes/V1"] = VALUES
    with refused(r"'spikes' in '/' is a group, not an array; it holds \['V1'\]"):
        read(tmp_path / "a.h5", reader=READER, variable="spikes", axes="trials,units")


def test_a_missing_array_is_refused_with_the_nearest(file):
    with refused("no array 'spike' in '/'; nearest: 'spikes'"):
        read(file, reader=READER, variable="spike", **OPTIONS)


def test_links_into_other_files_are_refused_and_not_even_looked_at(tmp_path, file):
    path = write(tmp_path / "b.h5", t=TIMES)
    with h5py.File(path, "r+") as opened:
        opened["spikes"] = h5py.ExternalLink(str(file), "spikes")
    assert not READER.sniff(path)
    with refused("'spikes' in 'spikes' is a link into another file, '.*a.h5'"):
        read(path, reader=READER, variable="spikes", **OPTIONS)


def test_a_virtual_array_is_refused(tmp_path, file):
    layout = h5py.VirtualLayout((6, 4, 5), "f8")
    layout[:] = h5py.VirtualSource(str(file), "spikes", (6, 4, 5))
    with h5py.File(tmp_path / "b.h5", "w") as opened:
        opened.create_virtual_dataset("spikes", layout)
    with refused("array 'spikes' keeps its values in other files"):
        read(tmp_path / "b.h5", reader=READER, axes="trials,units,time", bin_width=0.1)


def test_a_huge_array_of_which_nothing_is_stored_is_refused_before_memory_is_taken(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as opened:
        opened.create_dataset("spikes", (10**6, 10**6), "f8", chunks=(100, 100))
    tracemalloc.start()
    with refused(r"array 'spikes' has shape \(1000000, 1000000\), 8000000000000 bytes, but the file stores 0"):
        read(tmp_path / "a.h5", reader=READER, axes="trials,units")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_other_arrays_of_the_file_are_not_loaded(tmp_path):
    path = write(tmp_path / "a.h5", spikes=VALUES, raw=np.random.default_rng(0).normal(size=2_000_000), t=TIMES)
    read(path, reader=READER, **OPTIONS)
    tracemalloc.start()
    read(path, reader=READER, **OPTIONS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


def test_a_damaged_heap_of_texts_is_refused_where_hdf5_would_never_return(file):
    content = bytearray(file.read_bytes())
    heap = content.index(b"GCOL")
    free = heap + 16 + 6 * 24  # after six texts of up to 8 bytes
    size = int.from_bytes(content[free + 8 : free + 16], "little")
    assert content[free : free + 2] == b"\0\0"
    assert free + size == heap + 4096
    content[free + 8 : free + 16] = (size - 256).to_bytes(8, "little")
    file.write_bytes(content)
    with refused(f"it is damaged: a heap of texts, at byte {heap}, has free space of size zero"):
        read(file, reader=READER, condition_column="stimulus", **OPTIONS)


def test_names_complete_a_file_without_any(tmp_path):
    path = write(tmp_path / "a.h5", spikes=VALUES[..., 0])
    found = read(path, reader=READER, axes="trials,units", names=STIMULI)
    assert found.obs_descriptors["stimulus"] == STIMULI


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.h5").touch()
    with refused(r"\(reader 'ephys'\): the file is empty"):
        read(tmp_path / "a.h5", reader=READER, **OPTIONS)


def test_the_reader_keeps_the_contract(file):
    check_reader(READER, file, **OPTIONS)


# -- damaged files

FUZZ = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FULL = {"condition_column": "stimulus", "run_column": "block", **OPTIONS}


def result_of(path):
    """Read a damaged file: the data, or None for a refusal that names the file and the reader."""
    try:
        return read(path, reader=READER, **FULL)
    except BrainrdlError as error:
        message = str(error)
    assert f"file {str(path)!r} (reader 'ephys')" in message
    return None


@FUZZ
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_is_refused(file, part):
    content = file.read_bytes()
    cut = file.with_name("cut.h5")
    cut.write_bytes(content[: int(part * len(content))])
    READER.sniff(cut)
    assert result_of(cut) is None


@FUZZ
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=8))
def test_a_file_with_flipped_bits_gives_data_or_a_refusal(file, flips):
    content = bytearray(file.read_bytes())
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    flipped = file.with_name("flipped.h5")
    flipped.write_bytes(content)
    READER.sniff(flipped)
    found = result_of(flipped)
    assert found is None or found.measurements.shape == (6, 4, 5)
