"""FIF files of MNE-Python: epochs and evoked responses as MNE itself reads them, and what is refused."""

from __future__ import annotations

import gzip
import struct
import sys
import tracemalloc
import warnings

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm as rsatoolbox_rdm
from scipy.io import savemat

from brainrdl import BrainrdlError, read
from brainrdl.rdms.by_name import select
from brainrdl.rdms.estimation import calc_rdm
from brainrdl.testing.file_readers import _same_data, check_reader
from data_adapters.electrophysiology.mne_epochs import READER

mne = pytest.importorskip("mne")

EVENT_ID = {"face/famous": 7, "house": 2, "face/unknown": 5}
CODES = [5, 2, 7, 7, 5, 2]
NAMES = ["face/unknown", "house", "face/famous", "face/famous", "face/unknown", "house"]


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


def info_of(types=("eeg", "eeg", "eeg", "stim"), bads=("C1",), rate=100.0):
    info = mne.create_info([f"C{k}" for k in range(len(types))], rate, list(types))
    info["bads"] = list(bads)
    return info


def make_epochs(info=None, codes=CODES, n_times=40, tmin=-0.1, metadata=True, event_id=EVENT_ID):
    info = info or info_of()
    values = np.random.default_rng(0).normal(size=(len(codes), info["nchan"], n_times)) * 1e-6
    events = np.column_stack([np.arange(len(codes)) * 100, np.zeros(len(codes), int), codes])
    table = pd.DataFrame(
        {"image": [f"im{k}.png" for k in range(len(codes))], "block": [k // 3 for k in range(len(codes))]}
    )
    return mne.EpochsArray(
        values, info, events, tmin, event_id, metadata=table if metadata else None, on_missing="ignore", verbose="error"
    )  # fmt: skip


def save(epochs, path, **options):
    epochs.save(path, verbose="error", **options)
    return path


def by_mne(path, **pick):
    """Read the whole file with MNE."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        epochs = mne.read_epochs(path, verbose="error")
    return epochs.pick(**pick) if pick else epochs


@pytest.fixture
def file(tmp_path):
    return save(make_epochs(), tmp_path / "sub-01-epo.fif")


def make_evokeds(comments=("house", "face"), **changes):
    info = info_of()
    return [
        mne.EvokedArray(np.random.default_rng(k).normal(size=(4, 40)) * 1e-6, info, -0.1, comment, **changes)
        for k, comment in enumerate(comments)
    ]


def save_evokeds(evokeds, path):
    mne.write_evokeds(path, evokeds, verbose="error", overwrite=True)
    return path


# -- epochs


def test_epochs_are_the_values_times_and_channels_that_mne_reads(file):
    found, whole = read(file, reader=READER), by_mne(file, picks="data", exclude="bads")
    np.testing.assert_array_equal(found.measurements, whole.get_data())
    np.testing.assert_array_equal(found.time_descriptors["time"], whole.times)
    assert found.channel_descriptors == {"channel": ["C0", "C2"], "type": ["eeg", "eeg"]}
    assert found.descriptors == {"subject": "01"}  # as its name says


def test_an_epoch_is_named_by_its_event_whole_hierarchy_and_all(file):
    assert read(file, reader=READER).obs_descriptors["stimulus"] == NAMES


def test_names_travel_with_their_epochs_when_events_are_permuted(tmp_path):
    order = [4, 0, 5, 2, 1, 3]
    first = read(save(make_epochs(), tmp_path / "a-epo.fif"), reader=READER)
    epochs = make_epochs()
    moved = mne.EpochsArray(
        epochs.get_data()[order],
        epochs.info,
        np.column_stack([np.arange(6), np.zeros(6, int), np.array(CODES)[order]]),
        -0.1,
        dict(reversed(EVENT_ID.items())),
        verbose="error",
    )
    second = read(save(moved, tmp_path / "b-epo.fif"), reader=READER)
    assert second.obs_descriptors["stimulus"] == [NAMES[k] for k in order]
    np.testing.assert_array_equal(second.measurements, first.measurements[order])


def test_events_without_names_are_named_by_their_codes(tmp_path):
    path = save(make_epochs(event_id=None), tmp_path / "a-epo.fif")
    assert read(path, reader=READER).obs_descriptors["stimulus"] == [str(code) for code in CODES]


def test_metadata_can_name_conditions_and_runs(file):
    found = read(file, reader=READER, condition_column="image", run_column="block")
    assert found.obs_descriptors["stimulus"] == [f"im{k}.png" for k in range(6)]
    assert found.obs_descriptors["run"] == ["0", "0", "0", "1", "1", "1"]


def with_column(path, values):
    epochs = make_epochs()
    epochs.metadata = pd.DataFrame({"image": values})
    return save(epochs, path, overwrite=True)


@pytest.mark.parametrize("option", ["condition_column", "run_column"])
@pytest.mark.parametrize("missing", [np.nan, None, "", "  ", "n/a", "NaN"])
def test_an_epoch_without_a_name_in_the_column_is_refused(tmp_path, option, missing):
    path = with_column(tmp_path / "a-epo.fif", ["a", "b", missing, "a", missing, "b"])
    words = (
        "2 of 6 values of column 'image' of the metadata are missing .*, the first at position 2; fill them in, drop"
    )
    with refused(words):
        read(path, reader=READER, **{option: "image"})


def test_whole_numbers_name_conditions_without_a_point(tmp_path):
    path = with_column(tmp_path / "a-epo.fif", [1.0, 2.0, 22.5, 1.0, 2.0, 22.5])
    found = read(path, reader=READER, condition_column="image", run_column="image").obs_descriptors
    assert found["stimulus"] == found["run"] == ["1", "2", "22.5"] * 2


@pytest.mark.parametrize("option", ["condition_column", "run_column"])
def test_an_unknown_column_is_refused_with_the_nearest(file, option):
    with refused(rf"{option} 'imag' is not known; nearest: 'image'"):
        read(file, reader=READER, **{option: "imag"})


def test_a_column_of_epochs_without_metadata_is_refused(tmp_path):
    with refused("condition_column='image': these epochs have no metadata"):
        read(save(make_epochs(metadata=False), tmp_path / "a-epo.fif"), reader=READER, condition_column="image")


@pytest.mark.parametrize(
    ("picks", "channels"), [(["C2", "C0"], ["C2", "C0"]), (["C1"], ["C1"]), ("eeg", ["C0", "C2"]), ("C1", ["C1"])]
)
def test_picks_chooses_channels_by_type_or_name_and_a_bad_one_only_by_name(file, picks, channels):
    found = read(file, reader=READER, picks=picks)
    assert found.channel_descriptors["channel"] == channels
    whole = by_mne(file)
    np.testing.assert_array_equal(found.measurements, whole.get_data([whole.ch_names.index(each) for each in channels]))


@pytest.mark.parametrize("picks", ["mag", ["C9"], []])
def test_picks_that_fit_no_channel_are_refused(file, picks):
    with refused(r"picks=.* does not fit: .*types \['eeg', 'stim'\], \['C1'\] are bad"):
        read(file, reader=READER, picks=picks)


def test_channels_of_several_units_must_be_chosen(tmp_path):
    path = save(make_epochs(info_of(["mag", "grad", "mag", "eeg"], bads=())), tmp_path / "a-epo.fif")
    with refused(r"different units, mag \(2\), grad \(1\), eeg \(1\); choose with picks="):
        read(path, reader=READER)
    assert read(path, reader=READER, picks="mag").channel_descriptors["channel"] == ["C0", "C2"]
    assert read(path, reader=READER, picks="data").channel_descriptors["type"] == ["mag", "grad", "mag", "eeg"]


def test_a_channel_may_have_the_name_of_a_type(tmp_path):
    info = mne.create_info(["mag", "eeg"], 100.0, ["eeg", "eeg"])
    path = save(make_epochs(info), tmp_path / "a-epo.fif")
    np.testing.assert_array_equal(read(path, reader=READER).measurements, by_mne(path).get_data([0, 1]))


def test_only_the_times_asked_for_are_read_both_ends_included(file):
    found, whole = read(file, reader=READER, tmin=0, tmax=0.1), by_mne(file, picks="data", exclude="bads")
    np.testing.assert_array_equal(found.measurements, whole.crop(0, 0.1).get_data())
    np.testing.assert_array_equal(found.time_descriptors["time"], whole.times)
    assert found.n_time == 11


@pytest.mark.parametrize("window", [{"tmin": -0.5}, {"tmax": 0.5}, {"tmin": 0.2, "tmax": 0.1}])
def test_times_outside_the_epochs_are_refused(file, window):
    with refused(r"extend beyond the data, from -0.1 to 0.29 s"):
        read(file, reader=READER, **window)


def test_decimate_keeps_the_samples_that_mne_keeps(file):
    with pytest.warns(RuntimeWarning, match="aliasing"):
        found = read(file, reader=READER, decimate=3, tmin=0)
    with pytest.warns(RuntimeWarning, match="aliasing"):
        whole = by_mne(file, picks="data", exclude="bads").decimate(3).crop(0, None)
    np.testing.assert_array_equal(found.measurements, whole.get_data())
    np.testing.assert_array_equal(found.time_descriptors["time"], whole.times)


@pytest.mark.parametrize("decimate", [0, -1])
def test_a_decimation_that_is_no_whole_number_is_refused(file, decimate):
    with refused(f"decimate must be a whole number of at least 1, got {decimate!r}"):
        read(file, reader=READER, decimate=decimate)


def test_projectors_are_applied_as_mne_does(tmp_path):
    epochs = make_epochs(info_of(bads=()))
    epochs.set_eeg_reference(projection=True, verbose="error")
    path = save(epochs, tmp_path / "a-epo.fif")
    found = read(path, reader=READER)
    np.testing.assert_allclose(found.measurements.mean(axis=1), 0, atol=1e-18)
    np.testing.assert_allclose(found.measurements, by_mne(path, picks="data").get_data(), atol=1e-18)


def test_two_events_with_one_code_are_refused(tmp_path):
    path = save(make_epochs(event_id={"cat": 2, "dog": 5}, codes=[2, 2]), tmp_path / "a-epo.fif")
    path.write_bytes(path.read_bytes().replace(b"dog:5", b"dog:2"))  # MNE does not write such a file itself
    with refused("events 'cat' and 'dog' have the same code, 2; use condition_column="):
        read(path, reader=READER)


def test_epochs_that_were_all_dropped_are_refused(tmp_path):
    path = save(make_epochs(metadata=False)[[]], tmp_path / "a-epo.fif")
    with refused("the file has no epochs: all were dropped"):
        read(path, reader=READER)


def test_complex_values_are_refused(tmp_path):
    epochs = make_epochs(info_of(["eeg"] * 3)).apply_hilbert(verbose="error")
    with refused("the values are complex"):
        read(save(epochs, tmp_path / "a-epo.fif", fmt="double"), reader=READER)


def test_many_epochs_are_read_in_order(tmp_path):
    path = save(make_epochs(codes=CODES * 12, metadata=False), tmp_path / "a-epo.fif")
    found = read(path, reader=READER)
    np.testing.assert_array_equal(found.measurements, by_mne(path, picks="data", exclude="bads").get_data())
    assert found.obs_descriptors["stimulus"] == NAMES * 12


def test_memory_is_taken_for_what_is_asked_only(tmp_path):
    info = info_of(["eeg"] * 32, bads=())
    path = save(make_epochs(info, codes=CODES * 50, n_times=400, metadata=False), tmp_path / "a-epo.fif")
    read(path, reader=READER, picks=["C3"])  # libraries are imported
    tracemalloc.start()
    found = read(path, reader=READER, picks=["C3", "C4"], tmin=0, tmax=0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.measurements.shape == (300, 2, 11)
    assert path.stat().st_size > 15e6
    assert peak < 5e6


# -- packed files


def test_a_packed_file_is_read_as_it_was_before(file, tmp_path):
    packed = save(make_epochs(), tmp_path / "sub-01-epo.fif.gz")
    assert packed.read_bytes()[:2] == b"\x1f\x8b"
    assert _same_data(read(packed), read(file, reader=READER))
    responses = save_evokeds(make_evokeds(), tmp_path / "a-ave.fif.gz")
    expected = read(save_evokeds(make_evokeds(), tmp_path / "a-ave.fif"), reader=READER)
    assert _same_data(read(responses), expected)


def test_a_packed_recording_in_parts_is_read_whole(tmp_path):
    epochs = make_epochs(info_of(["eeg"] * 16, bads=()), codes=CODES * 20, n_times=400, metadata=False)
    packed = save(epochs, tmp_path / "a-epo.fif.gz", split_size="2MB")
    assert len(list(tmp_path.glob("a-epo*.gz"))) > 1
    np.testing.assert_array_equal(read(packed).measurements, by_mne(packed, picks="data").get_data())


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_packed_file_cut_off_is_refused(tmp_path, part):
    packed = save(make_epochs(), tmp_path / "packed-epo.fif.gz")
    packed.write_bytes(packed.read_bytes()[: int(part * packed.stat().st_size)])
    with refused("the compressed file is incomplete or damaged"):
        read(packed)


def test_what_is_not_packed_but_says_so_is_refused(file):
    with refused("the compressed file is incomplete or damaged: Not a gzipped file"):
        read(file.rename(file.with_suffix(".fif.gz")))


def test_a_packed_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "a-epo.fif.gz").write_bytes(gzip.compress(b"nothing of the kind" * 9))
    with refused("the file does not begin like a FIF file"):
        read(tmp_path / "a-epo.fif.gz")


# -- parts of a large recording


@pytest.fixture
def parts(tmp_path):
    info = info_of(["eeg"] * 16, bads=())
    path = save(
        make_epochs(info, codes=CODES * 20, n_times=400, metadata=False), tmp_path / "a-epo.fif", split_size="2MB"
    )
    assert (tmp_path / "a-epo-1.fif").is_file()
    return path


def test_a_recording_in_parts_is_read_whole(parts):
    found = read(parts, reader=READER)
    np.testing.assert_array_equal(found.measurements, by_mne(parts, picks="data").get_data())
    assert found.obs_descriptors["stimulus"] == NAMES * 20


def test_a_missing_part_is_refused(parts):
    parts.with_name("a-epo-1.fif").unlink()
    with refused("part 'a-epo-1.fif' of the recording is missing"):
        read(parts, reader=READER)


def test_a_damaged_part_is_refused(parts):
    part = parts.with_name("a-epo-1.fif")
    part.write_bytes(part.read_bytes()[:-100])
    with refused("(the file ends at byte|the file is incomplete or damaged)"):
        read(parts, reader=READER)


@pytest.mark.parametrize("name", [b"../-epo-1.fif", b"..\\-epo-1.fif"])
def test_a_part_elsewhere_is_refused(parts, name):
    content = parts.read_bytes()
    assert content.count(b"a-epo-1.fif") == 1
    parts.write_bytes(content.replace(b"a-epo-1.fif", name[:11]))
    with refused("parts must be in the folder of the first part"):
        read(parts, reader=READER)


# -- evoked responses


def test_evoked_responses_are_named_by_their_comments(tmp_path):
    path = save_evokeds(make_evokeds(), tmp_path / "sub-01-ave.fif")
    found = read(path, reader=READER, tmin=0)
    whole = [each.pick("data", exclude="bads").crop(0, None) for each in mne.read_evokeds(path, verbose="error")]
    np.testing.assert_array_equal(found.measurements, [each.get_data() for each in whole])
    np.testing.assert_array_equal(found.time_descriptors["time"], whole[0].times)
    assert found.obs_descriptors["stimulus"] == ["house", "face"]
    assert found.channel_descriptors["channel"] == ["C0", "C2"]


def test_evoked_responses_in_another_order_keep_their_names(tmp_path):
    first, second = (
        read(save_evokeds(evokeds, tmp_path / f"{k}-ave.fif"), reader=READER)
        for k, evokeds in enumerate([make_evokeds(), make_evokeds()[::-1]])
    )
    assert second.obs_descriptors["stimulus"] == ["face", "house"]
    np.testing.assert_array_equal(second.measurements, first.measurements[::-1])


def test_an_evoked_response_without_a_comment_leaves_the_naming_to_names(tmp_path):
    path = save_evokeds(make_evokeds(("", "face")), tmp_path / "a-ave.fif")
    assert "stimulus" not in read(path, reader=READER).obs_descriptors
    assert read(path, reader=READER, names=["cat", "dog"]).obs_descriptors["stimulus"] == ["cat", "dog"]


def test_evoked_responses_are_decimated_as_mne_does(tmp_path):
    path = save_evokeds(make_evokeds(), tmp_path / "a-ave.fif")
    with pytest.warns(RuntimeWarning, match="aliasing"):
        found = read(path, reader=READER, decimate=4)
    with pytest.warns(RuntimeWarning, match="aliasing"):
        whole = mne.read_evokeds(path, 0, verbose="error").pick("data", exclude="bads").decimate(4)
    np.testing.assert_array_equal(found.measurements[0], whole.get_data())


@pytest.mark.parametrize("option", ["condition_column", "run_column"])
def test_a_column_of_evoked_responses_is_refused(tmp_path, option):
    path = save_evokeds(make_evokeds(), tmp_path / "a-ave.fif")
    with refused("evoked responses have no metadata; leave condition_column= and run_column= out"):
        read(path, reader=READER, **{option: "image"})


def test_standard_errors_are_refused(tmp_path):
    path = save_evokeds([*make_evokeds(), *make_evokeds(["spread"], kind="standard_error")], tmp_path / "a-ave.fif")
    with refused("response 'spread' is a standard_error, not an average"):
        read(path, reader=READER)


def test_evoked_responses_of_different_times_are_refused(tmp_path):
    first, second = make_evokeds()
    with refused("responses 'house' and 'face' differ in channels or times; save each alone"):
        read(save_evokeds([first, second.crop(0, None)], tmp_path / "a-ave.fif"), reader=READER)


def test_evoked_responses_of_different_channels_are_refused(tmp_path, monkeypatch):
    path = save_evokeds(make_evokeds(), tmp_path / "a-ave.fif")
    first, second = make_evokeds()  # other programs than MNE write the channels of each response apart
    monkeypatch.setattr(
        mne, "read_evokeds", lambda *_, **__: [first, second.reorder_channels(["C2", "C1", "C0", "C3"])]
    )
    with refused("responses 'house' and 'face' differ in channels or times; save each alone"):
        read(path, reader=READER)


# -- other files


def test_raw_data_are_refused_with_advice(tmp_path):
    raw = mne.io.RawArray(np.zeros((4, 200)), info_of(), verbose="error")
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    with refused("neither epochs nor evoked responses, as a continuous recording; cut it into epochs with MNE-Python"):
        read(tmp_path / "a_raw.fif", reader=READER)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a-epo.fif").write_bytes(b"PK\x03\x04" * 10)
    with refused("the file does not begin like a FIF file"):
        read(tmp_path / "a-epo.fif", reader=READER)


def test_without_mne_the_extra_is_named(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "mne", None)
    with refused(r"reading FIF files needs MNE-Python .*; pip install 'brainrdl\[meg\]'"):
        read(file, reader=READER)


def tags(content):
    """List the places of a file's tags."""
    places, position = [], 0
    while position >= 0:
        places.append(position)
        _, _, size, following = struct.unpack(">iIii", content[position : position + 16])
        position = position + 16 + size if following == 0 else following
    return places


def test_a_pointer_that_leads_back_is_refused_instead_of_followed_for_ever(file):
    content = bytearray(file.read_bytes())
    place = tags(content)[20]
    content[place + 12 : place + 16] = struct.pack(">i", tags(content)[5])
    file.write_bytes(content)
    with refused(f"damaged: the tag at byte {place} does not fit"):
        read(file, reader=READER)


@pytest.mark.parametrize("size", [2**31 - 1, -5])
def test_a_tag_larger_than_the_file_is_refused(file, size):
    content = bytearray(file.read_bytes())
    place = tags(content)[20]
    content[place + 8 : place + 12] = struct.pack(">i", size)
    file.write_bytes(content)
    with refused(f"damaged: the tag at byte {place} does not fit"):
        read(file, reader=READER)


@pytest.mark.parametrize("kind", [209, 228])  # the last sample, the number of samples
def test_more_samples_than_are_stored_are_refused_before_memory_is_taken(tmp_path, kind):
    path = save_evokeds(make_evokeds(), tmp_path / "a-ave.fif")
    content = bytearray(path.read_bytes())
    place = next(place for place in tags(content) if content[place : place + 4] == struct.pack(">i", kind))
    content[place + 16 : place + 20] = struct.pack(">i", 2**30)
    path.write_bytes(content)
    tracemalloc.start()
    with refused(r"cannot hold the time points -?\d+ to 1073741824"):
        read(path, reader=READER)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_the_reader_keeps_the_contract(file, tmp_path):
    check_reader(READER, file)
    check_reader(READER, save_evokeds(make_evokeds(), tmp_path / "a-ave.fif"))


# -- recovery


def test_a_known_rdm_at_one_time_window_is_recovered(tmp_path):
    rng = np.random.default_rng(1)
    names = [f"image{k:02d}" for k in range(12)]
    patterns = rng.normal(size=(12, 30))
    order = rng.permutation(np.repeat(np.arange(12), 20))
    values = rng.normal(size=(240, 30, 60))
    values[:, :, 25:35] += patterns[order][:, :, None]  # 0.05 to 0.15 s
    events = np.column_stack([np.arange(240), np.zeros(240, int), order + 1])
    ids = {name: code for code, name in enumerate(names, start=1)}
    epochs = mne.EpochsArray(values * 1e-6, info_of(["eeg"] * 30, bads=()), events, -0.2, ids, verbose="error")
    path = save(epochs, tmp_path / "a-epo.fif")
    truth = rsatoolbox_rdm(Dataset(patterns), "euclidean").dissimilarities[0]

    movie = select(calc_rdm(read(path, reader=READER), "euclidean", windows=[(-0.2, -0.1), (0.05, 0.14)]), names)
    before, during = (np.corrcoef(pairs, truth)[0, 1] for pairs in movie.dissimilarities)
    assert abs(before) < 0.5
    assert during > 0.98


# -- damaged files

FUZZ = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def result_of(path):
    """Read a damaged file: the data, or None for a refusal that names the file and the reader."""
    try:
        return read(path, reader=READER)
    except BrainrdlError as error:
        message = str(error)
    assert f"file {str(path)!r} (reader 'mne')" in message
    return None


@pytest.fixture(params=["epochs", "evoked"])
def sound(request, tmp_path):
    if request.param == "epochs":
        return save(make_epochs(), tmp_path / "a-epo.fif")
    return save_evokeds(make_evokeds(), tmp_path / "a-ave.fif")


@FUZZ
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_is_refused(sound, part):
    content = sound.read_bytes()
    cut = sound.with_name("cut-epo.fif")
    cut.write_bytes(content[: int(part * len(content))])
    assert result_of(cut) is None


@FUZZ
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=8))
def test_a_file_with_flipped_bits_gives_data_or_a_refusal(sound, flips):
    content = bytearray(sound.read_bytes())
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    flipped = sound.with_name("flipped-epo.fif")
    flipped.write_bytes(content)
    found = result_of(flipped)
    assert found is None or found.measurements.shape[0] == found.n_obs


@FUZZ
@given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 15), st.integers(0, 7)), min_size=1, max_size=3))
def test_damaged_tags_give_data_or_a_refusal(sound, places):
    content = bytearray(sound.read_bytes())
    heads = tags(content)
    for tag, byte, bit in places:
        content[heads[tag % len(heads)] + byte] ^= 1 << bit
    damaged = sound.with_name("damaged-epo.fif")
    damaged.write_bytes(content)
    found = result_of(damaged)
    assert found is None or found.measurements.shape[0] == found.n_obs


def test_an_empty_file_is_refused(sound):
    sound.write_bytes(b"")
    with refused(r"\(reader 'mne'\): the file is empty"):
        read(sound, reader=READER)


def test_the_same_file_read_twice_is_the_same(sound):
    assert _same_data(read(sound, reader=READER), read(sound, reader=READER))


# EEGLAB and continuous recordings


def eeglab(path, types, n_trials=None, values=None):
    """Write EEGLAB's struct: channels x time points x trials in microvolt, and the events of each epoch."""
    n_trials = len(types) if n_trials is None else n_trials
    values = np.random.default_rng(0).normal(size=(3, 40, max(n_trials, 1))) if values is None else values
    listed = [each if isinstance(each, list) else [each] for each in types]
    events = [(name, 1.0 + 40 * place, place + 1) for place, names in enumerate(listed) for name in names]
    event = np.array(events, dtype=[("type", object), ("latency", object), ("epoch", object)])
    epoch = np.array(
        [(each if isinstance(each, str) else np.array(each, object), 0.0) for each in types],
        dtype=[("eventtype", object), ("eventlatency", object)],
    )
    chanlocs = np.array([(f"C{k}", "EEG") for k in range(3)], dtype=[("labels", object), ("type", object)])
    held = {"data": values, "trials": float(n_trials), "nbchan": 3.0, "pnts": 40.0, "srate": 100.0, "xmin": -0.1}
    savemat(path, {"EEG": held | {"xmax": 0.29, "chanlocs": chanlocs, "event": event, "epoch": epoch}})
    return path


def test_epochs_of_eeglab_are_read_with_their_events(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 40, 4))
    path = eeglab(tmp_path / "sub-01_run-2.set", ["face", "house", "face", "car"], values=values)
    data = read(path)
    np.testing.assert_allclose(data.measurements, values.transpose(2, 0, 1) * 1e-6)
    assert list(data.obs_descriptors["stimulus"]) == ["face", "house", "face", "car"]
    np.testing.assert_allclose(data.time_descriptors["time"], np.arange(40) / 100 - 0.1)
    assert (data.descriptors["subject"], set(data.obs_descriptors["run"])) == ("01", {"2"})


def test_epochs_of_eeglab_whose_condition_is_not_known_are_refused(tmp_path):
    path = eeglab(tmp_path / "two.set", ["face", ["house", "button"], "car"])
    with refused("At least one epoch has multiple events, so it is not known which condition an epoch has"):
        read(path)
    (tmp_path / "empty.set").touch()
    with refused("the file is empty"):
        read(tmp_path / "empty.set")
    with h5py.File(tmp_path / "new.set", "w") as file:
        file["EEG"] = 1
    with refused("in MATLAB's format v7.3; save it in EEGLAB without this option"):
        read(tmp_path / "new.set")
    with refused("as a continuous recording; cut it into epochs with MNE-Python"):
        read(eeglab(tmp_path / "raw.set", [], n_trials=1, values=np.zeros((3, 40))))


def test_the_advice_for_a_recording_of_brainvision_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).normal(size=(400, 2)).astype("<f4")
    (tmp_path / "rec.eeg").write_bytes(values.tobytes())
    (tmp_path / "rec.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nDataFile=rec.eeg\nMarkerFile=rec.vmrk\n"
        "DataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=2\nSamplingInterval=10000\n"
        "[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\nCh1=Fz,,1,µV\nCh2=Cz,,1,µV\n",
        encoding="utf-8",
    )
    marks = [f"Mk{k + 1}=Stimulus,S  {1 + k % 3},{60 + 60 * k},1,0" for k in range(5)]
    (tmp_path / "rec.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nDataFile=rec.eeg\n[Marker Infos]\n"
        + "\n".join(marks)
    )
    with pytest.raises(BrainrdlError, match="cut it into epochs with MNE-Python") as found:
        read("rec.vhdr")
    lines = str(found.value).partition("read these: ")[2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(lines, {"mne": mne})
    data = read("epochs-epo.fif")
    assert list(data.obs_descriptors["stimulus"]) == [f"Stimulus/S  {1 + k % 3}" for k in range(5)]


def test_all_columns_of_the_metadata_describe_the_epochs(file):
    data = read(file)
    assert list(data.obs_descriptors["image"]) == [f"im{k}.png" for k in range(6)]
    assert list(data.obs_descriptors["block"]) == [0, 0, 0, 1, 1, 1]
    assert list(data.obs_descriptors["stimulus"]) == NAMES
