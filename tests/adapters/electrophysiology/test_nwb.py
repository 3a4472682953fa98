"""NWB files, written by PyNWB: spikes counted as by hand, RDMs as rsatoolbox computes them, and what is refused."""

from __future__ import annotations

import shutil
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from rsatoolbox.data import Dataset, TemporalDataset
from rsatoolbox.rdm import calc_rdm

import brainrdl
from brainrdl import BrainrdlError, read
from brainrdl.rdms.by_name import select
from brainrdl.testing.file_readers import check_reader
from data_adapters.electrophysiology.nwb import READER

pynwb = pytest.importorskip("pynwb")

STIMULI = ["cat", "dog", "car", "tree"] * 3
STARTS = np.arange(12) * 1.5 + 0.25


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


def spikes_of(unit, n_spikes=400):
    return np.sort(np.random.default_rng(unit).uniform(0, 20, n_spikes))


def write(
    path,
    *,
    regions=("V1", "V1", "V1"),
    columns=None,
    starts=STARTS,
    lengths=0.5,
    obs_intervals=None,
    table="trials",
    spikes=spikes_of,
    subject=True,
):
    """Write an NWB file with PyNWB: a unit for each region, whose electrodes are there."""
    file = pynwb.NWBFile(
        "a test",
        "identifier",
        datetime(2024, 1, 1, tzinfo=UTC),
        session_id="ses7",
        subject=pynwb.file.Subject(subject_id="m1", species="Mus musculus") if subject else None,
    )
    columns = {"stimulus": STIMULI, "block": [k // 4 for k in range(12)]} if columns is None else columns
    trials = pynwb.epoch.TimeIntervals(name=table, description="trials")
    for name in columns:
        trials.add_column(name, f"the {name}")
    for k, (start, length) in enumerate(zip(starts, np.broadcast_to(lengths, len(starts)), strict=True)):
        trials.add_row(start_time=start, stop_time=start + length, **{name: each[k] for name, each in columns.items()})
    if table == "trials":
        file.trials = trials
    else:
        file.add_time_intervals(trials)
    _add_units(file, regions, spikes, obs_intervals)
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def _add_units(file, regions, spikes, obs_intervals):
    places = list(dict.fromkeys(place for region in regions for place in (region or "").split("+") if place))
    if places:
        device = file.create_device("probe")
        group = file.create_electrode_group("shank", "a shank", "brain", device)
    for place in places:
        file.add_electrode(group=group, location=place)
    for unit, region in enumerate(regions):
        known = {"electrodes": [places.index(place) for place in region.split("+")]} if region else {}
        known |= {"obs_intervals": np.array(obs_intervals[unit], float)} if obs_intervals else {}
        file.add_unit(spike_times=spikes(unit), id=100 + unit, **known)


def by_hand(unit, begin, end, starts=STARTS):
    spikes = spikes_of(unit)
    return [sum(start + begin <= spike < start + end for spike in spikes) for start in starts]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("nwb") / "sub-m1_ecephys.nwb")


@pytest.fixture
def file(written, tmp_path):
    """A file that a test may change."""
    return Path(shutil.copy(written, tmp_path))


# -- counts


def test_spikes_are_counted_in_each_trial(file):
    found = read(file, reader=READER)
    assert type(found) is Dataset
    np.testing.assert_array_equal(found.measurements, np.transpose([by_hand(unit, 0, 0.5) for unit in range(3)]))
    assert found.obs_descriptors == {"stimulus": STIMULI}
    assert found.channel_descriptors == {"unit": ["100", "101", "102"]}
    assert found.descriptors == {"subject": "m1", "session": "ses7", "roi": "V1"}


def test_the_window_is_relative_to_the_start_of_the_trial(file):
    found = read(file, reader=READER, tmin=-0.2, tmax=0.1)
    np.testing.assert_array_equal(found.measurements[:, 1], by_hand(1, -0.2, 0.1))


def test_bins_give_time_and_add_up_to_the_count(file):
    found = read(file, reader=READER, tmin=0.1, tmax=0.5, bin_width=0.1)
    assert type(found) is TemporalDataset
    np.testing.assert_allclose(found.time_descriptors["time"], [0.15, 0.25, 0.35, 0.45])
    np.testing.assert_array_equal(found.measurements[:, 2, 1], by_hand(2, 0.2, 0.3))
    whole = read(file, reader=READER, tmin=0.1, tmax=0.5).measurements
    np.testing.assert_array_equal(found.measurements.sum(axis=2), whole)


def test_a_rest_shorter_than_a_bin_is_left_out(file):
    np.testing.assert_allclose(read(file, reader=READER, bin_width=0.2).time_descriptors["time"], [0.1, 0.3])


def test_a_spike_at_an_edge_counts_in_the_later_bin(tmp_path):
    path = write(tmp_path / "a.nwb", starts=np.arange(12.0), spikes=lambda unit: [2.0, 2.5], regions=["V1"])
    found = read(path, reader=READER, tmax=0.5, bin_width=0.25)
    np.testing.assert_array_equal(found.measurements[2, 0], [1, 0])
    assert found.measurements.sum() == 1


def test_spikes_that_are_not_sorted_are_counted_too(tmp_path, file):
    shuffled = write(tmp_path / "b.nwb", spikes=lambda unit: np.random.default_rng(9).permutation(spikes_of(unit)))
    np.testing.assert_array_equal(read(shuffled, reader=READER).measurements, read(file, reader=READER).measurements)


def test_a_unit_without_spikes_counts_none(tmp_path):
    path = write(tmp_path / "a.nwb", spikes=lambda unit: [] if unit == 1 else spikes_of(unit))
    found = read(path, reader=READER).measurements
    np.testing.assert_array_equal(found[:, 1], 0)
    np.testing.assert_array_equal(found[:, 2], by_hand(2, 0, 0.5))


def test_names_travel_with_their_trials_when_the_table_is_permuted(tmp_path, file):
    order = np.random.default_rng(3).permutation(12)
    columns = {"stimulus": [STIMULI[k] for k in order]}
    found = read(write(tmp_path / "b.nwb", starts=STARTS[order], columns=columns), reader=READER)
    assert found.obs_descriptors["stimulus"] == columns["stimulus"]
    np.testing.assert_array_equal(found.measurements, read(file, reader=READER).measurements[order])


# -- RDMs


@pytest.mark.parametrize("method", ["poisson", "poisson_cv"])
def test_the_rdm_is_the_one_that_rsatoolbox_computes_of_counts_made_by_hand(file, method):
    runs = [k // 4 for k in range(12)]
    counts = np.transpose([by_hand(unit, 0, 0.5) for unit in range(3)]).astype(float)
    made = Dataset(counts, obs_descriptors={"stimulus": STIMULI, "run": [str(run) for run in runs]})
    options = {"descriptor": "stimulus"} | ({"cv_descriptor": "run"} if method == "poisson_cv" else {})
    expected = calc_rdm(made, method, **options)
    found = calc_rdm(read(file, reader=READER, run_column="block"), method, **options)
    np.testing.assert_allclose(found.dissimilarities, expected.dissimilarities)
    assert list(found.pattern_descriptors["stimulus"]) == list(expected.pattern_descriptors["stimulus"])


def test_our_poisson_of_the_counts_is_that_of_rsatoolbox(file):
    counts = read(file, reader=READER)
    expected = select(calc_rdm(counts, "poisson", descriptor="stimulus"), STIMULI[:4])
    found = select(brainrdl.calc_rdm(counts, "poisson"), STIMULI[:4])
    np.testing.assert_allclose(found.dissimilarities, expected.dissimilarities)


# -- conditions


@pytest.mark.parametrize("column", ["stimulus", "condition", "trial_type", "stimulus_name"])
def test_a_column_with_a_usual_name_names_the_conditions(tmp_path, column):
    path = write(tmp_path / "a.nwb", columns={"image_index": list(range(12)), column: STIMULI})
    assert read(path, reader=READER).obs_descriptors["stimulus"] == STIMULI


def test_another_column_can_name_conditions_and_runs(file):
    found = read(file, reader=READER, condition_column="block", run_column="block")
    assert found.obs_descriptors == {"stimulus": list("000011112222"), "run": list("000011112222")}


def test_numbers_become_names(tmp_path):
    path = write(tmp_path / "a.nwb", columns={"condition": [0.5, 45.0, 90.0] * 4, "correct": [True, False] * 6})
    assert read(path, reader=READER).obs_descriptors["stimulus"][:3] == ["0.5", "45", "90"]
    assert read(path, reader=READER, run_column="correct").obs_descriptors["run"][:2] == ["True", "False"]


def test_a_trial_without_a_name_is_refused(tmp_path):
    path = write(tmp_path / "a.nwb", columns={"stimulus": ["cat", "", "dog"] * 4, "frame": [0.0, 1.0, np.nan] * 4})
    with refused("4 of 12 values of column 'stimulus' of table 'trials' are missing .*, the first at position 1"):
        read(path, reader=READER)
    with refused("4 of 12 values of column 'frame' of table 'trials' are missing .*, the first at position 2"):
        read(path, reader=READER, condition_column="frame")


def test_a_usual_column_that_tells_no_trials_apart_is_refused_with_the_others(tmp_path):
    columns = {"stimulus_name": ["natural_scenes"] * 12, "frame": [0.0, 1.0, 2.0] * 4, "stimulus_block": [1.0] * 12}
    path = write(tmp_path / "a.nwb", columns=columns)
    with refused(
        r"all 12 trials of table 'trials' have the same condition, 'natural_scenes' \(column 'stimulus_name'\); choose "
        r"another column with condition_column=; the others are frame, stimulus_block"
    ):
        read(path, reader=READER)
    assert read(path, reader=READER, condition_column="frame").obs_descriptors["stimulus"] == ["0", "1", "2"] * 4
    asked = read(path, reader=READER, condition_column="stimulus_name").obs_descriptors["stimulus"]
    assert asked == ["natural_scenes"] * 12  # who asks for it knows
    single = write(tmp_path / "b.nwb", columns={"stimulus": ["cat"]}, starts=[1.0])
    assert read(single, reader=READER).obs_descriptors["stimulus"] == ["cat"]


def test_columns_of_unusual_names_must_be_chosen(tmp_path):
    path = write(tmp_path / "a.nwb", columns={"image": STIMULI, "reward": STIMULI})
    with refused("which column of table 'trials' names the conditions.*condition_column=; there are image, reward"):
        read(path, reader=READER)
    assert read(path, reader=READER, condition_column="image").obs_descriptors["stimulus"] == STIMULI


def test_a_table_without_columns_leaves_the_naming_to_names(tmp_path):
    path = write(tmp_path / "a.nwb", columns={})
    assert read(path, reader=READER).obs_descriptors == {}
    assert read(path, reader=READER, names=STIMULI).obs_descriptors["stimulus"] == STIMULI


@pytest.mark.parametrize("option", ["condition_column", "run_column"])
def test_an_unknown_column_is_refused_with_the_nearest(file, option):
    with refused(f"{option} of table 'trials' 'stimuli' is not known; nearest: 'stimulus'"):
        read(file, reader=READER, **{option: "stimuli"})


def test_a_column_of_lists_is_refused(tmp_path):
    path = write(tmp_path / "a.nwb")
    with h5py.File(path, "r+") as opened:
        opened["intervals/trials/stimulus_index"] = np.arange(1, 13)
    with refused("column 'stimulus' of table 'trials' has 12 values for 12 trials; it must have one each"):
        read(path, reader=READER)


def test_another_table_of_trials_can_be_read(tmp_path):
    path = write(tmp_path / "a.nwb", table="images_presentations")
    with refused("table 'trials' is not known.*known: images_presentations"):
        read(path, reader=READER)
    found = read(path, reader=READER, table="images_presentations")
    np.testing.assert_array_equal(found.measurements[:, 0], by_hand(0, 0, 0.5))


# -- windows


def test_trials_of_nearly_one_length_are_counted_in_windows_of_one_length(tmp_path):
    path = write(tmp_path / "a.nwb", lengths=np.linspace(0.5, 0.54, 12))
    np.testing.assert_array_equal(read(path, reader=READER).measurements[:, 0], by_hand(0, 0, 0.5))


def test_trials_of_different_lengths_need_a_window(tmp_path):
    path = write(tmp_path / "a.nwb", lengths=np.linspace(0.5, 0.6, 12))
    with refused("the trials last 0.5 to 0.6 s; set with tmax="):
        read(path, reader=READER)
    np.testing.assert_array_equal(read(path, reader=READER, tmax=0.3).measurements[:, 0], by_hand(0, 0, 0.3))


@pytest.mark.parametrize(
    "window",
    [{"tmin": 0.5}, {"tmax": 0.0}, {"bin_width": 0.6}, {"bin_width": 0.0}, {"bin_width": -0.1}, {"tmax": np.nan}],
)
def test_a_window_without_room_for_a_bin_is_refused(file, window):
    with refused("is shorter than a bin of"):
        read(file, reader=READER, **window)


@pytest.mark.parametrize("bin_width", [1e-12, 1e-10])
def test_bins_that_would_not_fit_into_memory_are_refused(file, bin_width):
    with refused(r"bins in 12 trials are too many; make bin_width= larger"):
        read(file, reader=READER, bin_width=bin_width)


def test_counts_that_would_not_fit_into_memory_are_refused(file, monkeypatch):
    monkeypatch.setattr("data_adapters.electrophysiology.nwb._MOST", 100)
    with refused(r"\(12, 3, 5\) counts \(trials, units, bins\) are too many; read one region"):
        read(file, reader=READER, bin_width=0.1)


@pytest.mark.parametrize(
    ("window", "n_beyond"), [({"tmin": 70, "tmax": 170}, 12), ({"tmax": 4.0}, 1), ({"tmin": -0.3, "tmax": 0.1}, 1)]
)
def test_windows_beyond_the_recording_are_refused(file, window, n_beyond):
    last = max(spikes_of(unit)[-1] for unit in range(3))
    with refused(
        rf"in {n_beyond} of 12 trials the window from .* extends beyond the recording, .* lasts from 0 to {last:.6g} "
        "s; choose another with tmin= and tmax=, in seconds"
    ):
        read(file, reader=READER, **window)


def test_the_last_spike_of_any_unit_and_the_end_of_the_last_trial_end_the_recording(tmp_path):
    last = STARTS[-1] + 0.5
    path = write(
        tmp_path / "a.nwb", spikes=lambda unit: [1.0, last + 0.25] if unit == 1 else [1.0], regions=["V1", "IT"]
    )
    assert read(path, reader=READER, roi="V1", tmax=0.75).measurements.shape == (12, 1)
    with refused(f"in 1 of 12 trials .* lasts from 0 to {last + 0.25:.6g} s"):
        read(path, reader=READER, roi="V1", tmax=0.76)
    silent = write(tmp_path / "b.nwb", spikes=lambda unit: [], regions=["V1"])
    assert read(silent, reader=READER, tmax=0.5).measurements.sum() == 0
    with refused(f"lasts from 0 to {last:.6g} s"):
        read(silent, reader=READER, tmax=0.51)


def test_a_recording_may_begin_before_0_with_its_first_trial(tmp_path):
    path = write(tmp_path / "a.nwb", starts=STARTS - 1)
    assert read(path, reader=READER).measurements.shape == (12, 3)
    with refused("lasts from -0.75 to"):
        read(path, reader=READER, tmin=-0.1)


def test_a_table_that_does_not_say_when_trials_stop_is_read_with_a_window(file):
    expected = read(file, reader=READER, tmax=0.5).measurements
    with h5py.File(file, "r+") as opened:
        del opened["intervals/trials/stop_time"]
    np.testing.assert_array_equal(read(file, reader=READER, tmax=0.5).measurements, expected)


def test_trials_without_a_start_are_refused(tmp_path, file):
    with refused("1 of 2 trials have a start_time; all must have one"):
        read(write(tmp_path / "a.nwb", starts=[0.5, np.nan]), reader=READER)
    with refused("0 of 0 trials have a start_time"):
        read(damaged(file, "intervals/trials/start_time", np.zeros(0)), reader=READER)


def test_a_window_in_which_a_unit_was_not_observed_has_no_count(tmp_path):
    seen = [[[0, 20]], [[0, 10]], [[0, 5.5], [4.0, 4.2], [9, 20]]]
    path = write(tmp_path / "a.nwb", obs_intervals=seen)
    found = read(path, reader=READER).measurements
    ends = STARTS + 0.5
    expected = [ends < 99, ends <= 10, (ends <= 5.5) | (STARTS >= 9)]
    np.testing.assert_array_equal(np.isfinite(found), np.transpose(expected))
    np.testing.assert_array_equal(found[:, 0], by_hand(0, 0, 0.5))


def test_where_the_file_says_when_units_were_observed_windows_may_outlast_the_spikes(tmp_path):
    path = write(tmp_path / "a.nwb", obs_intervals=[[[0, 30]]] * 3)
    np.testing.assert_array_equal(read(path, reader=READER, tmax=4.0).measurements[:, 0], by_hand(0, 0, 4.0))


def test_units_observed_in_no_window_are_refused(tmp_path):
    path = write(tmp_path / "a.nwb", obs_intervals=[[[100, 200]]] * 3)
    with refused(r"no unit was observed \(obs_intervals\) from 0 to 0.5 s after a trial's start"):
        read(path, reader=READER)


# -- regions


def test_each_region_is_a_dataset(tmp_path):
    path = write(tmp_path / "a.nwb", regions=["V1", "IT", "V1"])
    v1, it = read(path, reader=READER)
    assert [v1.descriptors["roi"], it.descriptors["roi"]] == ["V1", "IT"]
    assert [v1.channel_descriptors["unit"], it.channel_descriptors["unit"]] == [["100", "102"], ["101"]]
    np.testing.assert_array_equal(it.measurements[:, 0], by_hand(1, 0, 0.5))
    np.testing.assert_array_equal(v1.measurements[:, 1], by_hand(2, 0, 0.5))


def test_roi_chooses_regions_in_the_order_asked(tmp_path):
    path = write(tmp_path / "a.nwb", regions=["V1", "IT", "V4"])
    assert read(path, reader=READER, roi="IT").channel_descriptors["unit"] == ["101"]
    assert [part.descriptors["roi"] for part in read(path, reader=READER, roi=["V4", "V1"])] == ["V4", "V1"]


@pytest.mark.parametrize(
    ("roi", "words"),
    [
        ("V2", "roi 'V2' is not known"),
        ([], "roi= is an empty list"),
        (["V1", "V1"], r"\['V1'\] occur more than once in roi="),
    ],
)
def test_a_region_that_is_not_there_is_refused(file, roi, words):
    with refused(words):
        read(file, reader=READER, roi=roi)


def test_a_unit_between_regions_is_of_both(tmp_path):
    path = write(tmp_path / "a.nwb", regions=["V1", "V1+IT"])
    assert [part.descriptors["roi"] for part in read(path, reader=READER)] == ["V1", "V1+IT"]


def test_the_units_own_location_goes_before_that_of_their_electrodes(tmp_path):
    path = write(tmp_path / "a.nwb")
    with h5py.File(path, "r+") as opened:
        opened["units/location"] = ["V4", "V4", "V4"]
    assert read(path, reader=READER).descriptors["roi"] == "V4"


def test_a_file_that_knows_no_regions_is_one_dataset_and_has_none_to_choose(tmp_path):
    path = write(tmp_path / "a.nwb", regions=[None, None], subject=False)
    assert read(path, reader=READER).descriptors == {"session": "ses7"}
    with refused("roi='V1': the file does not say where its units are"):
        read(path, reader=READER, roi="V1")


# -- what is unsound


def damaged(path, place, value):
    with h5py.File(path, "r+") as opened:
        del opened[place]
        if value is not None:
            opened[place] = value
    return path


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("units", None, "there are no sorted spikes"),
        ("units/spike_times", None, "there are no sorted spikes: /units lacks spike_times"),
        ("intervals", None, "there is no table of trials"),
        ("intervals/trials", np.zeros(3), "'trials' in /intervals is not a table"),
        ("intervals/trials/start_time", None, "no array 'start_time' in '/intervals/trials'"),
        ("intervals/trials/start_time", np.zeros((12, 2)), "'start_time' must hold numbers along 1 axes"),
        ("intervals/trials/stimulus", STIMULI[:5], "column 'stimulus' of table 'trials' has 5 values for 12 trials"),
        ("intervals/trials/stimulus", np.zeros((12, 2)), "'stimulus' must be a list of texts or numbers"),
        ("units/spike_times_index", [400, 300, 1200], "spike_times_index does not divide the 1200 rows"),
        ("units/spike_times_index", [400, 800, 1100], "spike_times_index does not divide the 1200 rows"),
        ("units/spike_times_index", np.zeros(0), "spike_times_index does not divide the 1200 rows"),
        ("units/id", [1, 2], "there are 2 ids for 3 units"),
        ("units/electrodes", [0, 0, 7], "units have electrodes in rows 0 to 7, but there are 1 electrodes"),
        ("units/electrodes_index", [1, 2, 9], "electrodes_index does not divide the 3 rows of electrodes"),
    ],
)  # fmt: skip
def test_an_unsound_file_is_refused_in_words(file, place, value, words):
    with refused(words):
        read(damaged(file, place, value), reader=READER)


def test_locations_that_do_not_fit_the_units_are_refused(file):
    with h5py.File(file, "r+") as opened:
        opened["units/location"] = ["V4", "V4"]
    with refused("there are 2 locations for 3 units"):
        read(file, reader=READER)


def test_a_column_of_references_is_refused(file):
    with h5py.File(file, "r+") as opened:
        references = np.array([opened["units"].ref] * 12, dtype=h5py.ref_dtype)
        opened["intervals/trials"].create_dataset("linked", data=references, dtype=h5py.ref_dtype)
    with refused("array 'linked' holds object, lists or references"):
        read(file, reader=READER, condition_column="linked")


@pytest.mark.parametrize("place", ["units", "units/spike_times", "intervals/trials", "intervals/trials/stimulus"])
def test_a_link_into_another_file_is_refused(tmp_path, file, place):
    other = write(tmp_path / "other.nwb")
    with h5py.File(file, "r+") as opened:
        del opened[place]
        opened[place] = h5py.ExternalLink(str(other), place)
    with refused("is a link into another file, '.*other.nwb'; copy its data into this one"):
        read(file, reader=READER)


def test_a_link_within_the_file_is_followed_but_not_out_of_it(tmp_path, file):
    write(tmp_path / "other.nwb")
    expected = read(file, reader=READER).measurements
    with h5py.File(file, "r+") as opened:
        opened.move("units", "sorted")
        opened["units"] = h5py.SoftLink("/sorted")
    np.testing.assert_array_equal(read(file, reader=READER).measurements, expected)
    with h5py.File(file, "r+") as opened:
        del opened["sorted"]
        opened["sorted"] = h5py.ExternalLink(str(tmp_path / "other.nwb"), "units")
    with refused("is a link into another file"):
        read(file, reader=READER)


def test_links_in_a_circle_are_refused(file):
    with h5py.File(file, "r+") as opened:
        del opened["units"]
        opened["units"] = h5py.SoftLink("/again")
        opened["again"] = h5py.SoftLink("/units")
    with refused("the links at '/units' lead in a circle|the links at '/again' lead in a circle"):
        read(file, reader=READER)


def test_values_kept_in_another_file_are_refused(tmp_path, file):
    with h5py.File(file, "r+") as opened:
        del opened["units/spike_times"]
        opened["units"].create_dataset("spike_times", (1200,), "f8", external=[(str(tmp_path / "raw"), 0, 9600)])
    with refused("array 'spike_times' keeps its values in other files"):
        read(file, reader=READER)


def test_a_huge_array_of_which_nothing_is_stored_is_refused_before_memory_is_taken(file):
    with h5py.File(file, "r+") as opened:
        del opened["intervals/trials/start_time"]
        opened["intervals/trials"].create_dataset("start_time", (10**12,), "f8", chunks=(1000,))
    tracemalloc.start()
    with refused(r"array 'start_time' has shape \(1000000000000,\), 8000000000000 bytes, but the file stores 0"):
        read(file, reader=READER)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_compressed_arrays_are_read(tmp_path):
    starts = np.zeros(3_000_000)  # packs a thousand times
    path = write(tmp_path / "a.nwb")
    with h5py.File(path, "r+") as opened:
        opened.create_dataset("units/packed", data=starts, compression="gzip", chunks=(1_000_000,))
        from data_adapters._shared.hdf5 import numbers

        assert opened["units/packed"].nbytes > 900 * opened["units/packed"].id.get_storage_size()
        assert len(numbers(opened["units"], "packed")) == 3_000_000


def test_only_one_units_spikes_are_in_memory_at_a_time(tmp_path):
    path = write(tmp_path / "a.nwb", regions=["V1"] * 20)
    with h5py.File(path, "r+") as opened:
        del opened["units/spike_times"]
        opened["units/spike_times"] = np.concatenate([spikes_of(unit, 100_000) for unit in range(20)])
        del opened["units/spike_times_index"]
        opened["units/spike_times_index"] = np.arange(1, 21) * 100_000
    read(path, reader=READER)
    tracemalloc.start()
    read(path, reader=READER)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 15e6
    assert peak < 5e6


def test_a_file_that_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "a.nwb").write_bytes(b"nothing of the kind" * 100)
    with refused("it is not an HDF5 file, or its beginning is damaged"):
        read(tmp_path / "a.nwb", reader=READER)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.nwb").touch()
    with refused(r"\(reader 'nwb'\): the file is empty"):
        read(tmp_path / "a.nwb", reader=READER)


def test_the_reader_keeps_the_contract(file):
    check_reader(READER, file)
    check_reader(READER, file, bin_width=0.1)


# -- damaged files

FUZZ = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write(tmp_path_factory.mktemp("nwb") / "a.nwb").read_bytes()


def result_of(path):
    """Read a damaged file: the data, or None for a refusal that names the file and the reader."""
    try:
        return read(path, reader=READER)
    except BrainrdlError as error:
        message = str(error)
    assert f"file {str(path)!r} (reader 'nwb')" in message
    return None


@FUZZ
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_is_refused(tmp_path, sound, part):
    path = tmp_path / "cut.nwb"
    path.write_bytes(sound[: int(part * len(sound))])
    assert result_of(path) is None


@FUZZ
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=30))
def test_a_file_with_flipped_bits_gives_data_or_a_refusal(tmp_path, sound, flips):
    content = bytearray(sound)
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    path = tmp_path / "flipped.nwb"
    path.write_bytes(content)
    found = result_of(path)
    for part in found if isinstance(found, list) else [] if found is None else [found]:
        assert part.measurements.shape == (12, len(part.channel_descriptors["unit"]))
