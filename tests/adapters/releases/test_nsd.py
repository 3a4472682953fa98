"""The reader of the Natural Scenes Dataset, on a tiny copy of its layout: true names, axes and numbers of trials."""

from __future__ import annotations

import h5py
import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from scipy.io import savemat

from brainrdl import BrainrdlError, read
from brainrdl.testing.file_readers import _same_data, check_reader
from data_adapters.releases.nsd import READER

SHAPE = (4, 3, 2)
BETAS = "nsddata_betas/ppdata/subj02/func1pt8mm/betas_fithrf_GLMdenoise_RR"
ROIS = "nsddata/ppdata/subj02/func1pt8mm/roi"
LABELS = "nsddata/freesurfer/subj02/label"
DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
FUZZ = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write_hdf5(path, stored):
    """Write betas (x, y, z, trial) as NSD does with MATLAB: axes reversed, chunks of one voxel."""
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", data=stored.T, chunks=(stored.shape[3], 1, 1, 1))


@pytest.fixture(scope="module")
def stored():
    """Int16 numbers of sessions 1, 2 and 3 as (x, y, z, trial)."""
    return np.random.default_rng(0).integers(-3000, 3000, (3, *SHAPE, 750)).astype(np.int16)


@pytest.fixture(scope="module")
def design():
    rng = np.random.default_rng(1)
    order = np.concatenate([rng.permutation(10_000) for _ in range(3)]) + 1
    return {
        "masterordering": order[None].astype(float),
        "subjectim": rng.integers(1, 73_001, (8, 10_000)).astype(float),
    }


@pytest.fixture
def root(tmp_path, stored, design):
    for folder in (BETAS, ROIS, LABELS, "nsddata/experiments/nsd"):
        (tmp_path / folder).mkdir(parents=True)
    for number, session in enumerate(stored[:2], start=1):
        write_hdf5(tmp_path / BETAS / f"betas_session{number:02d}.hdf5", session)
    atlas = np.full(SHAPE, -1, np.int16)
    atlas[1, :, 0], atlas[3, 1, 1], atlas[0, 0, 0] = 1, 2, 0
    atlas[2, 2, 1] = 1
    nib.save(nib.Nifti1Image(atlas, np.eye(4)), tmp_path / ROIS / "prf-visualrois.nii.gz")
    (tmp_path / LABELS / "prf-visualrois.mgz.ctab").write_text("0 Unknown\n1 V1v\n2 V1d\n3 V2v\n")
    savemat(tmp_path / DESIGN, design, do_compression=True)
    return tmp_path


def load(root, **options):
    return read(root, reader=READER, **options)


def expected_names(design, sessions):
    order = design["masterordering"].ravel().astype(int)
    trials = [trial for number in sessions for trial in range(750 * (number - 1), 750 * number)]
    return [f"nsd{int(design['subjectim'][1, order[trial] - 1]):05d}" for trial in trials]


def test_each_regions_betas_are_percent_signal_change_named_by_their_73k_numbers(root, stored, design):
    v1v, v1d = load(root, subject=2)
    voxels = [(1, 0, 0), (1, 1, 0), (1, 2, 0), (2, 2, 1)]
    truth = np.concatenate([[session[voxel] for voxel in voxels] for session in stored[:2]], axis=1).T / 300
    np.testing.assert_allclose(v1v.measurements, truth, rtol=1e-6)
    np.testing.assert_allclose(v1d.measurements[:, 0], np.concatenate(stored[:2, 3, 1, 1]) / 300, rtol=1e-6)
    assert v1v.obs_descriptors["stimulus"] == expected_names(design, [1, 2])
    assert v1v.obs_descriptors["run"] == ["1"] * 750 + ["2"] * 750
    assert v1v.descriptors == {"roi": "V1v", "subject": "subj02", "n_dropped_channels": 0}
    assert list(zip(*(v1v.channel_descriptors[axis] for axis in "ijk"), strict=True)) == voxels


def test_nifti_files_give_the_same_as_hdf5_files(root, stored):
    one = load(root, roi="V1v", sessions=[1])
    (root / BETAS / "betas_session01.hdf5").unlink()
    nib.save(nib.Nifti1Image(stored[0], np.eye(4)), root / BETAS / "betas_session01.nii.gz")
    other = load(root, roi="V1v", sessions=[1])
    np.testing.assert_array_equal(one.measurements, other.measurements)
    assert one.obs_descriptors == other.obs_descriptors


def test_the_hdf5_file_is_read_if_both_exist(root, stored):
    nib.save(nib.Nifti1Image(-stored[0], np.eye(4)), root / BETAS / "betas_session01.nii.gz")
    np.testing.assert_allclose(
        load(root, roi="V1d", sessions=[1]).measurements[:, 0], stored[0, 3, 1, 1] / 300, rtol=1e-6
    )


def test_sessions_and_regions_come_in_the_order_asked_for_with_their_own_names(root, stored, design):
    write_hdf5(root / BETAS / "betas_session03.hdf5", stored[2])
    v1d, v1v = load(root, subject="2", sessions=[3, 1], roi=["V1d", "V1v"])
    np.testing.assert_allclose(v1d.measurements[:750, 0], stored[2, 3, 1, 1] / 300, rtol=1e-6)
    assert v1d.obs_descriptors["stimulus"] == expected_names(design, [3, 1])
    assert v1v.descriptors["roi"] == "V1v"
    assert v1v.obs_descriptors["run"] == ["3"] * 750 + ["1"] * 750


def test_a_single_session_needs_no_list(root):
    assert load(root, roi="V1d", sessions=2).obs_descriptors == load(root, roi="V1d", sessions=[2]).obs_descriptors


def test_a_missing_session_does_not_shift_the_names(root, design):
    (root / BETAS / "betas_session01.hdf5").unlink()
    assert load(root, roi="V1d").obs_descriptors["stimulus"] == expected_names(design, [2])


def test_voxels_without_data_in_a_session_are_left_out_and_counted(root, stored):
    session = stored[1].copy()
    session[1, 0, 0] = 0
    write_hdf5(root / BETAS / "betas_session02.hdf5", session)
    v1v = load(root, roi="V1v")
    assert (v1v.n_channel, v1v.descriptors["n_dropped_channels"]) == (3, 1)


def test_the_atlas_of_one_hemisphere_uses_the_names_of_both_and_fsaverages_where_the_subject_has_none(root):
    atlas = np.zeros(SHAPE, np.int16)
    atlas[0, 0, 0] = 5
    nib.save(nib.Nifti1Image(atlas, np.eye(4)), root / ROIS / "lh.streams.nii.gz")
    (root / "nsddata/freesurfer/fsaverage/label").mkdir(parents=True)
    (root / "nsddata/freesurfer/fsaverage/label/streams.mgz.ctab").write_text("0 Unknown\n5 ventral\n")
    (ventral,) = load(root, atlas="lh.streams")
    assert ventral.descriptors["roi"] == "ventral"


def test_only_the_rows_of_a_region_are_read(root, monkeypatch):
    seen = []
    original = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, key: seen.append(key) or original(self, key))
    load(root, roi="V1d", sessions=[1])
    assert seen == [(slice(None), 1, 1, slice(3, 4))]


def test_the_folder_is_recognised_by_its_names(root):
    assert READER.sniff(root)
    assert not READER.sniff(root / "nsddata")


def replaced(root, **changes):
    from scipy.io import loadmat

    held = {key: value for key, value in loadmat(root / DESIGN).items() if not key.startswith("__")} | changes
    savemat(root / DESIGN, {key: value for key, value in held.items() if value is not None})


def shrink(root, shape):
    write_hdf5(root / BETAS / "betas_session01.hdf5", np.ones((*shape, 750), np.int16))


REFUSALS = {
    "subject=3 must name": (None, {"subject": 3}),
    "subject='subj2' must name": (None, {"subject": "subj2"}),
    "space 'fsaverage' is not known": (None, {"space": "fsaverage"}),
    "betas .*'b3' is not known": (None, {"betas": "b3"}),
    r"sessions \[7\] are not in .* it has the sessions \[1, 2\]": (None, {"sessions": [7]}),
    r"sessions \[0\] are not in": (None, {"sessions": 0}),
    "sessions= is an empty list": (None, {"sessions": []}),
    r"names \['1'\] occur more than once in sessions=": (None, {"sessions": [1, 1]}),
    "atlas .*'streams' is not known": (None, {"atlas": "streams"}),
    r"regions \['V1x'\] are not in the atlas .*nearest: 'V1": (None, {"roi": "V1x"}),
    r"regions \['V2v'\] are not in the atlas": (None, {"roi": ["V2v"]}),
    "the names .* missing: download .*subj02.label.*ctab' or, if there is none, .*fsaverage.label.*ctab'": (
        lambda root: (root / LABELS / "prf-visualrois.mgz.ctab").unlink(),
        {},
    ),
    "which image each trial showed is missing: download": (lambda root: (root / DESIGN).unlink(), {}),
    r"'subjectim' of .* must hold numbers of shape \(8, 10000\), got None": (
        lambda root: replaced(root, subjectim=None),
        {},
    ),
    r"'masterordering' of .* shape \(1, 30000\), got \(30000, 1\)": (
        lambda root: replaced(root, masterordering=np.ones((30_000, 1))),
        {},
    ),
    "'masterordering' of .* whole numbers from 1 to 10000": (
        lambda root: replaced(root, masterordering=np.zeros((1, 30_000))),
        {},
    ),
    "'subjectim' of .* whole numbers from 1 to 73000": (
        lambda root: replaced(root, subjectim=np.full((8, 10_000), 1.5)),
        {},
    ),
    "'masterordering' .* from 1 to 10000": (
        lambda root: replaced(root, masterordering=np.full((1, 30_000), 10_001)),
        {},
    ),
    r"sessions \[41\] are beyond the design": (
        lambda root: (root / BETAS / "betas_session01.hdf5").rename(root / BETAS / "betas_session41.hdf5"),
        {},
    ),
    r"shape \(2, 3, 4, 750\) .* expected int16 of \(4, 3, 2, 750\)": (lambda root: shrink(root, SHAPE[::-1]), {}),
    "are float32 of shape": (
        lambda root: write_hdf5(root / BETAS / "betas_session01.hdf5", np.ones((*SHAPE, 750), np.float32)),
        {},
    ),
    r"shape \(4, 3, 2, 700\)": (
        lambda root: write_hdf5(root / BETAS / "betas_session01.hdf5", np.ones((*SHAPE, 700), np.int16)),
        {},
    ),
    "the file is empty": (lambda root: (root / BETAS / "betas_session01.hdf5").write_bytes(b""), {}),
    "none of 4 channels is left": (lambda root: shrink(root, SHAPE), {"roi": "V1v"}),
}


@pytest.mark.parametrize("words", REFUSALS)
def test_what_does_not_fit_is_refused(root, words):
    damage, options = REFUSALS[words]
    if damage:
        damage(root)
    with pytest.raises(BrainrdlError, match=words):
        load(root, **options)


def test_a_nifti_file_that_scales_its_numbers_is_refused(root, stored):
    (root / BETAS / "betas_session01.hdf5").unlink()
    image = nib.Nifti1Image(stored[0], np.eye(4))
    image.header.set_slope_inter(1 / 300, 0)
    nib.save(image, root / BETAS / "betas_session01.nii.gz")
    with pytest.raises(BrainrdlError, match="scales the numbers by"):
        load(root)


def test_betas_in_another_file_are_refused(root):
    with h5py.File(root / BETAS / "betas_session01.hdf5", "w") as file:
        file["betas"] = h5py.ExternalLink(str(root / BETAS / "betas_session02.hdf5"), "betas")
    with pytest.raises(BrainrdlError, match="is a link into another file"):
        load(root)


def test_a_huge_declared_shape_is_refused_before_memory_is_allocated(root):
    with h5py.File(root / BETAS / "betas_session01.hdf5", "w") as file:
        file.create_dataset("betas", (750, 10_000, 10_000, 10_000), np.int16, chunks=(750, 1, 1, 1))
    with pytest.raises(BrainrdlError, match="but the file stores 0 of them"):
        load(root)


def outcome(root):
    """Read a damaged copy: the data, or None for a refusal that names the folder."""
    try:
        return load(root, roi="V1v")
    except BrainrdlError as error:
        message = str(error)
    assert str(root) in message
    return None


@pytest.fixture
def whole(root):
    return load(root, roi="V1v")


@pytest.mark.parametrize("file", [f"{BETAS}/betas_session01.hdf5", f"{ROIS}/prf-visualrois.nii.gz", DESIGN])
@FUZZ
@given(part=st.floats(0, 1, exclude_max=True), bit=st.integers(-1, 7))
def test_a_damaged_file_gives_data_or_a_refusal(root, whole, file, part, bit):
    sound = (root / file).read_bytes()
    damaged = bytearray(sound) if bit >= 0 else sound[: int(part * len(sound))]
    if bit >= 0:
        damaged[int(part * len(sound))] ^= 1 << bit
    (root / file).write_bytes(damaged)
    found = outcome(root)
    (root / file).write_bytes(sound)
    assert found is None or found.n_obs == whole.n_obs
    assert found is None or bit >= 0 or _same_data(found, whole)


def test_the_reader_keeps_its_contract(root):
    check_reader(READER, root, roi="V1v")
