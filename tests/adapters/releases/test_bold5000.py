"""The reader of BOLD5000's regions, on a tiny copy of its layout."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from scipy.io import savemat

from brainrdl import BrainrdlError, read
from brainrdl.testing.file_readers import _same_data, check_reader
from data_adapters.releases.bold5000 import READER

LIST = ["n01930112_19568.JPEG", "COCO_train2014_000000000036.jpg", "rep_n01930112_19568.JPEG", "airplanecabin1.jpg"]
NAMES = ["n01930112_19568", "COCO_train2014_000000000036", "n01930112_19568", "airplanecabin1"]
ARRAYS = {"LHPPA": np.random.default_rng(0).normal(size=(4, 3)), "RHEarlyVis": np.arange(8.0).reshape(4, 2)}
MAT, H5 = "CSI1/mat/CSI1_ROIs_TR34.mat", "CSI1/h5/CSI1_ROIs_TR34.h5"
STIMULI = "stim_lists/CSI01_stim_lists.txt"
FUZZ = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write_h5(path, arrays):
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


@pytest.fixture
def root(tmp_path):
    for folder in ("CSI1/mat", "stim_lists"):
        (tmp_path / folder).mkdir(parents=True)
    savemat(tmp_path / MAT, ARRAYS)
    (tmp_path / STIMULI).write_text("\n".join(LIST) + "\n")
    return tmp_path


def load(root, **options):
    return read(root, reader=READER, **options)


@pytest.mark.parametrize("kind", ["mat", "h5"])
def test_each_region_comes_with_the_images_of_its_rows(root, kind):
    if kind == "h5":
        write_h5(root / H5, ARRAYS)
        (root / MAT).unlink()
    ppa, early = load(root, subject="CSI1")
    np.testing.assert_array_equal(ppa.measurements, ARRAYS["LHPPA"])
    np.testing.assert_array_equal(early.measurements, ARRAYS["RHEarlyVis"])
    assert ppa.descriptors == {"roi": "LHPPA", "subject": "CSI1", "n_dropped_channels": 0}
    assert ppa.obs_descriptors == {"stimulus": NAMES, "presentation": ["1", "1", "2", "1"]}


def test_regions_come_in_the_order_asked_for(root):
    assert [each.descriptors["roi"] for each in load(root, roi=["RHEarlyVis", "LHPPA"])] == ["RHEarlyVis", "LHPPA"]
    assert load(root, roi="RHEarlyVis").n_channel == 2


def test_the_hdf5_file_is_read_if_both_exist(root):
    write_h5(root / H5, {name: -array for name, array in ARRAYS.items()})
    np.testing.assert_array_equal(load(root, roi="LHPPA").measurements, -ARRAYS["LHPPA"])


def test_another_time_is_another_file(root):
    savemat(root / "CSI1/mat/CSI1_ROIs_TR1.mat", {"LHPPA": ARRAYS["LHPPA"] + 1})
    (ppa,) = load(root, subject=1, time="TR1")
    np.testing.assert_array_equal(ppa.measurements, ARRAYS["LHPPA"] + 1)


def test_the_folder_is_recognised_by_what_it_holds(root):
    assert READER.sniff(root)
    assert not READER.sniff(root / "CSI1")


def save(**arrays):
    return lambda root: savemat(root / MAT, arrays)


def listed(*lines):
    return lambda root: (root / STIMULI).write_text("\n".join(lines))


REFUSALS = {
    "subject=2 must name one of the subjects": (None, {"subject": 2}),
    r"time \(in .*'TR9' is not known": (None, {"time": "TR9"}),
    "roi 'LHPPB' is not known; nearest: 'LHPPA'": (None, {"roi": "LHPPB"}),
    r"names \['LHPPA'\] occur more than once in roi=": (None, {"roi": ["LHPPA", "LHPPA"]}),
    r"there is no region to read: roi=\[\]": (None, {"roi": []}),
    "the list of the images shown, '.*', is missing": (lambda root: (root / STIMULI).unlink(), {}),
    "list of the images shown '.*CSI01_stim_lists.txt': the file is empty": (listed(""), {}),
    "the last name, 'airpla', does not end in .* is the list cut off": (listed(*LIST[:3], "airpla"), {}),
    "the last name, 'airplanecabin1.jp', does not end in": (listed(*LIST[:3], "airplanecabin1.jp"), {}),
    r"shape \(4, 3\), expected \(3, n_voxels\)": (listed(*LIST[:3]), {}),
    r"shape \(3, 4\), expected \(4, n_voxels\)": (save(LHPPA=ARRAYS["LHPPA"].T), {}),
    r"names \['a'\] occur more than once": (listed("a.jpg", "a.png", "b.jpg", "c.jpg"), {}),
    "is empty": (lambda root: (root / MAT).write_bytes(b""), {}),
    "none of 3 channels is left": (save(LHPPA=np.full((4, 3), np.nan)), {}),
    r"array 'LHPPA' must hold numbers along 2 axes": (
        lambda root: write_h5(root / H5, {"LHPPA": np.full((4, 3), b"a")}),
        {},
    ),
}


@pytest.mark.parametrize("words", REFUSALS)
def test_what_does_not_fit_is_refused(root, words):
    damage, options = REFUSALS[words]
    if damage:
        damage(root)
    with pytest.raises(BrainrdlError, match=words):
        load(root, **options)


@pytest.mark.parametrize("end", range(1, 36))
def test_a_list_that_is_cut_off_gives_its_names_or_a_refusal(root, end):
    content = (root / STIMULI).read_bytes()
    (root / STIMULI).write_bytes(content[:-end])
    found = outcome(root)
    assert found is None or found.obs_descriptors["stimulus"] == NAMES


def test_the_last_line_of_the_list_may_lack_its_end(root):
    (root / STIMULI).write_text("\n".join(LIST))
    assert load(root, roi="LHPPA").obs_descriptors["stimulus"] == NAMES


def test_a_huge_declared_shape_is_refused_before_memory_is_allocated(root):
    (root / H5).parent.mkdir()
    with h5py.File(root / H5, "w") as file:
        file.create_dataset("LHPPA", (4, 10**12), float, chunks=(4, 1000))
    with pytest.raises(BrainrdlError, match="but the file stores 0 of them"):
        load(root)


def outcome(root):
    """Read a damaged copy: the data, or None for a refusal that names the folder."""
    try:
        return load(root, roi="LHPPA")
    except BrainrdlError as error:
        message = str(error)
    assert str(root) in message
    return None


@pytest.mark.parametrize("file", [MAT, H5, STIMULI])
@FUZZ
@given(part=st.floats(0, 1, exclude_max=True), bit=st.integers(-1, 7))
def test_a_damaged_file_gives_data_or_a_refusal(root, file, part, bit):
    if file == H5:
        write_h5(root / H5, ARRAYS)
    whole, sound = load(root, roi="LHPPA"), (root / file).read_bytes()
    damaged = bytearray(sound) if bit >= 0 else sound[: int(part * len(sound))]
    if bit >= 0:
        damaged[int(part * len(sound))] ^= 1 << bit
    (root / file).write_bytes(damaged)
    found = outcome(root)
    (root / file).write_bytes(sound)
    assert found is None or found.n_obs == whole.n_obs
    assert found is None or bit >= 0 or _same_data(found, whole)


def test_the_reader_keeps_its_contract(root):
    check_reader(READER, root, subject="CSI1")
