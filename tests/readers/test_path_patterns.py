"""Patterns of files: paths say whose and what part a file is, and parts of one measurement become one Dataset."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rsatoolbox.data import Dataset, TemporalDataset

from brainrdl import BrainrdlError, RDMTeacher, calc_rdm, read
from brainrdl.doctor import audit
from brainrdl.rdms.conversion import from_array
from brainrdl.readers.path_patterns import files_of, origins_of

NAMES = ["cat", "dog", "car"]


def save(path: Path, values: np.ndarray, names=NAMES, **descriptors) -> None:
    """Write a Dataset as rsatoolbox does; channels are called by their number unless given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = descriptors.pop("channels", {"voxel": [f"v{k}" for k in range(values.shape[1])]})
    runs = {"run": descriptors.pop("run")} if "run" in descriptors else {}
    observed = {"stimulus": list(names)} | runs
    data = Dataset(values, descriptors=descriptors, obs_descriptors=observed, channel_descriptors=channels)
    data.save(str(path), file_type="hdf5")


@pytest.mark.parametrize(
    ("files", "pattern", "expected"),
    [
        (
            ["d/sub-01/ses-1/b.nii", "d/sub-01/ses-2/b.nii", "d/sub-02/ses-1/b.nii"],
            "d/sub-*/ses-*/b.nii",
            [("01", "1", "", ""), ("01", "2", "", ""), ("02", "1", "", "")],
        ),
        (["sub-01_run-1.nii", "sub-01_run-2.nii"], "*.nii", [("01", "", "1", ""), ("01", "", "2", "")]),
        (["p/lh.b.gii", "p/rh.b.gii"], "p/?h.b.gii", [("", "", "", "lh"), ("", "", "", "rh")]),
        (["x_L.func.gii", "x_R.func.gii"], "x_*", [("", "", "", "L"), ("", "", "", "R")]),
        (["LEFT.b.gii", "Right.b.gii"], "*", [("", "", "", "LEFT"), ("", "", "", "Right")]),
        (
            ["1003/1003.L.b.func.gii", "1003/1003.R.b.func.gii", "1006/1006.L.b.func.gii"],
            "*/*.func.gii",
            [("1003", "", "", "L"), ("1003", "", "", "R"), ("1006", "", "", "L")],
        ),
        (
            ["s1_run_1_b.nii", "s1_Run-2_b.nii", "s2_run01_b.nii"],
            "*.nii",
            [("s1_b", "", "1", ""), ("s1_b", "", "2", ""), ("s2_b", "", "01", "")],
        ),
        (
            ["s01/sess1/run_1/b.nii", "s01/ses2/run_1/b.nii", "s02/session_3/run_1/b.nii"],
            "*/*/*/b.nii",
            [("s01", "1", "1", ""), ("s01", "2", "1", ""), ("s02", "3", "1", "")],
        ),
        (["s1_run-01-epo.fif", "s1_run-02-epo.fif"], "*.fif", [("", "", "01", ""), ("", "", "02", "")]),
        (["q_rune.npy", "q_runi.npy"], "*.npy", [("q_rune", "", "", ""), ("q_runi", "", "", "")]),
        (["runner1/b.nii", "runner2/b.nii"], "*/b.nii", [("runner1", "", "", ""), ("runner2", "", "", "")]),
        (["x_hemi-L_b.gii", "x_hemi-R_b.gii"], "x_*", [("", "", "", "L"), ("", "", "", "R")]),
        (["run1_bold.nii", "run10_bold.nii"], "run*", [("", "", "1", ""), ("", "", "10", "")]),
        (["S1/run2/b.nii", "S2/run2/b.nii"], "S*/run2/b.nii", [("S1", "", "2", ""), ("S2", "", "2", "")]),
        (["sub001/BOLD"], "sub0*/BOLD", [("sub001", "", "", "")]),
        (["a/x.nii", "b/c/x.nii"], "**/x.nii", [("a/x.nii", "", "", ""), ("b/c/x.nii", "", "", "")]),
        (["subtle/sub-9_sub-7.nii"], "*/sub*", [("7", "", "", "")]),
        (["sub-1.nii", "mean.nii"], "*.nii", [("sub-1", "", "", ""), ("mean", "", "", "")]),
        (["grunt.nii", "trunk-run.nii"], "*.nii", [("grunt", "", "", ""), ("trunk-run", "", "", "")]),
    ],
)
def test_a_path_says_subject_session_run_and_hemisphere(files, pattern, expected):
    found = origins_of([Path(file) for file in files], Path(pattern))
    assert [(one.subject or one.label, one.session, one.run, one.hemisphere) for one in found] == expected
    assert not any(one.subject and one.label for one in found)


@pytest.mark.parametrize(
    ("names", "are_subjects"),
    [
        (["subj01", "subj02"], True),
        (["sub001", "sub010"], True),
        (["s01_rdm", "s12_rdm"], True),
        (["participant_1", "participant_2"], True),
        (["V1", "IT"], False),
        (["conv1", "fc8"], False),
        (["100ms", "200ms"], False),
        (["P100", "P300"], False),
        (["S1", "S2"], False),
        (["anna", "bert"], False),
        (["sub01", "mean"], False),
        (["subcortex1", "subcortex2"], False),
    ],
)
def test_only_words_for_subjects_are_subjects(names, are_subjects):
    found = origins_of([Path(f"{name}.npy") for name in names], Path("*.npy"))
    assert [one.subject for one in found] == (names if are_subjects else ["", ""])
    assert [one.label for one in found] == (["", ""] if are_subjects else names)


def test_rdms_of_files_that_may_be_anything_are_not_averaged_until_it_is_said(tmp_path):
    for name, values in (("V1", [1.0, 2, 3]), ("IT", [3.0, 5, 1])):
        np.save(tmp_path / f"{name}.npy", values)
    found = read(tmp_path / "*.npy", names=NAMES)
    assert list(found.rdm_descriptors["file"]) == ["IT", "V1"]
    with pytest.raises(BrainrdlError, match="choose subject_by='file' if each is of another subject, target_by='file'"):
        RDMTeacher(found)
    assert RDMTeacher(found, target_by="file").targets == ("IT", "V1")
    assert RDMTeacher(found, subject_by="file").subjects == ("IT", "V1")
    said = read(tmp_path / "{roi}.npy", names=NAMES)
    assert RDMTeacher(said).targets == ("IT", "V1")


def test_files_of_several_subjects_each_are_targets(tmp_path):
    for name in ("V1", "IT"):
        rdm = from_array([[1.0, 2, 3], [2, 3, 1]], NAMES, descriptors={"subject": ["a", "b"]})
        rdm.save(str(tmp_path / f"{name}.h5"), file_type="hdf5")
    teacher = RDMTeacher(read(tmp_path / "*.h5"))
    assert (teacher.targets, teacher.subjects) == (("IT", "V1"), ("a", "b"))


def test_measurements_of_files_that_may_be_anything_are_not_subjects(tmp_path):
    for name in ("V1", "IT"):
        save(tmp_path / f"{name}.h5", np.random.default_rng(0).normal(size=(3, 5)))
    found = read(tmp_path / "*.h5")
    assert [(part.descriptors["file"], "subject" in part.descriptors) for part in found] == [
        ("IT", False),
        ("V1", False),
    ]
    with pytest.raises(BrainrdlError, match="choose subject_by='file'"):
        RDMTeacher(calc_rdm(found, "euclidean"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("d/{subject}/RDM_{layer}.npz", [("anna", "", {"layer": "conv_1"}), ("bert", "", {"layer": "fc"})]),
        ("d/*/RDM_{layer}.npz", [("", "", {"layer": "conv_1"}), ("", "", {"layer": "fc"})]),
        ("**/{subject}/{kind}_*.np[a-z]", [("anna", "", {"kind": "RDM"}), ("bert", "", {"kind": "RDM"})]),
        ("d/{run}/RDM_?*", [("", "anna", {}), ("", "bert", {})]),
    ],
)
def test_a_pattern_may_say_what_its_parts_are(pattern, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("d/anna/RDM_conv_1.npz", "d/bert/RDM_fc.npz"):
        Path(file).parent.mkdir(parents=True)
        Path(file).touch()
    found = origins_of(files_of(Path(pattern)), Path(pattern))
    assert [(one.subject, one.run, dict(one.named)) for one in found] == expected


def test_a_name_that_occurs_twice_in_a_pattern_matches_the_same_text(tmp_path):
    for file in ("anna/anna_it.npy", "anna/bert_it.npy"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        np.save(tmp_path / file, np.arange(3.0))
    pattern = tmp_path / "{subject}" / "{subject}_it.npy"
    one, other = origins_of(files_of(pattern), pattern)
    assert (one.subject, other.subject) == ("anna", "")


def test_layers_in_separate_files_are_not_subjects(tmp_path):
    for layer in ("conv", "fc"):
        np.savez(tmp_path / f"RDM_{layer}.npz", rdm=np.arange(1.0, 4))
        np.savez(tmp_path / f"maps_{layer}.npz", **{f"of_{layer}": np.ones((3, 4)), "other": np.ones((3, 4))})
    found = read(tmp_path / "RDM_{layer}.npz", names=NAMES)
    assert list(found.rdm_descriptors["layer"]) == ["conv", "fc"]
    assert "subject" not in found.rdm_descriptors
    assert RDMTeacher(found, target_by="layer").targets == ("conv", "fc")
    maps = read(tmp_path / "maps_{layer}.npz", names=NAMES, patterns=True, variable="of_{layer}")
    assert [data.descriptors["layer"] for data in maps] == ["conv", "fc"]


def test_sessions_of_a_subject_are_not_subjects(tmp_path):
    for number, file in enumerate(["sub-01/ses-1", "sub-01/ses-2", "sub-02/ses-1", "sub-02/ses-2"], start=1):
        (tmp_path / file).mkdir(parents=True)
        np.savez(tmp_path / file / "rdm.npz", rdms=number * np.array([[1.0, 2, 3]]))
    found = read(tmp_path / "sub-*" / "ses-*" / "rdm.npz", names=NAMES)
    assert list(found.rdm_descriptors["subject"]) == ["01", "01", "02", "02"]
    assert list(found.rdm_descriptors["session"]) == ["1", "2", "1", "2"]
    assert RDMTeacher(found).subjects == ("01", "02")


def test_runs_in_separate_files_become_one_dataset(tmp_path):
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 3, 5))
    channels = {"voxel": ["v0", "v1", "v2", "v3", "v4"]}
    save(tmp_path / "sub-1_run-1.h5", one, channels=channels, n_dropped_channels=2)
    kept = [4, 2, 0]  # the second run lacks two channels, and has the others in another order
    shuffled = {"voxel": [channels["voxel"][k] for k in kept]}
    save(tmp_path / "sub-1_run-2.h5", two[[2, 0, 1]][:, kept], ["car", "cat", "dog"], channels=shuffled)
    save(tmp_path / "sub-2_run-1.h5", one)
    found, other = read(tmp_path / "sub-*_run-*.h5")
    assert (found.descriptors["subject"], other.descriptors["subject"]) == ("1", "2")
    np.testing.assert_array_equal(found.measurements, np.concatenate([one, two[[2, 0, 1]]])[:, [0, 2, 4]])
    assert list(found.channel_descriptors["voxel"]) == ["v0", "v2", "v4"]
    assert list(found.obs_descriptors["stimulus"]) == [*NAMES, "car", "cat", "dog"]
    assert list(found.obs_descriptors["run"]) == ["1", "1", "1", "2", "2", "2"]
    assert found.descriptors["n_dropped_channels"] == 4
    assert calc_rdm(found, "crossnobis").n_cond == 3


def test_runs_that_the_files_name_keep_their_names(tmp_path):
    for file, runs in (("run-1", ["a", "a", "b"]), ("run-2", ["c", "c", "d"])):
        save(tmp_path / f"sub-1_{file}.h5", np.eye(3), run=runs)
    assert list(read(tmp_path / "*.h5")[0].obs_descriptors["run"]) == ["a", "a", "b", "c", "c", "d"]
    save(tmp_path / "sub-1_run-3.h5", np.eye(3), run=["a", "e", "e"])
    with pytest.raises(BrainrdlError, match=r"names \['a'\] occur more than once in the runs of the files"):
        read(tmp_path / "*.h5")


def test_hemispheres_are_joined_along_channels(tmp_path):
    left, right = np.random.default_rng(0).normal(size=(2, 3, 4))
    for run in (1, 2):
        save(tmp_path / f"lh.run-{run}.h5", run * left, n_dropped_channels=1)
        save(tmp_path / f"rh.run-{run}.h5", run * right, n_dropped_channels=2)
    (found,) = read(tmp_path / "?h.run-*.h5")
    np.testing.assert_array_equal(found.measurements, np.vstack([np.hstack([left, right]) * run for run in (1, 2)]))
    assert list(found.channel_descriptors["hemisphere"]) == ["L"] * 4 + ["R"] * 4
    assert list(found.channel_descriptors["voxel"]) == ["v0", "v1", "v2", "v3"] * 2
    assert found.descriptors == {"n_dropped_channels": 3}
    assert list(found.obs_descriptors["run"]) == ["1"] * 3 + ["2"] * 3


def test_hemispheres_with_different_conditions_are_refused(tmp_path):
    save(tmp_path / "lh.b.h5", np.eye(3))
    save(tmp_path / "rh.b.h5", np.eye(3), ["cat", "car", "dog"])
    with pytest.raises(
        BrainrdlError, match=r"hemispheres L and R differ in stimulus: \['cat', 'dog', 'car'\] and \['cat"
    ):
        read(tmp_path / "?h.b.h5")


@pytest.mark.parametrize("channels", [{"voxel": ["x", "y", "z"]}, {}])
def test_runs_without_channels_in_common_are_refused(tmp_path, channels):
    save(tmp_path / "sub-1_run-1.h5", np.ones((3, 4)), channels={} if not channels else {"voxel": list("abcd")})
    save(tmp_path / "sub-1_run-2.h5", np.ones((3, 3)), channels=channels)
    with pytest.raises(BrainrdlError, match=r"have no channel in common \(they have \[4, 3\] channels\)"):
        read(tmp_path / "*.h5")


def test_channels_without_descriptors_are_joined_in_their_order(tmp_path):
    for run in (1, 2):
        save(tmp_path / f"sub-1_run-{run}.h5", run * np.eye(3), channels={})
    np.testing.assert_array_equal(read(tmp_path / "*.h5")[0].measurements, np.vstack([np.eye(3), 2 * np.eye(3)]))


def test_files_of_one_subject_that_nothing_distinguishes_are_refused(tmp_path):
    for task in ("rest", "faces"):
        save(tmp_path / f"sub-1_task-{task}.h5", np.eye(3))
    with pytest.raises(
        BrainrdlError, match="are of one subject, session and region, and their paths do not distinguish them"
    ):
        read(tmp_path / "*.h5")


def test_regions_of_one_subject_stay_separate(tmp_path):
    for region in ("V1", "IT"):
        save(tmp_path / f"sub-1_{region}.h5", np.eye(3), roi=region)
    assert [data.descriptors["roi"] for data in read(tmp_path / "*.h5")] == ["IT", "V1"]


@pytest.mark.parametrize("kind", ["time", "residuals"])
def test_runs_over_time_or_with_residuals_are_not_joined(tmp_path, kind):
    for run in (1, 2):
        path = str(tmp_path / f"sub-1_run-{run}.h5")
        observed = {"obs_descriptors": {"stimulus": NAMES}}
        if kind == "time":
            data = TemporalDataset(np.ones((3, 4, 5)), time_descriptors={"time": list(range(5))}, **observed)
        else:
            data = Dataset(np.ones((3, 4)), channel_descriptors={"residuals": np.ones((4, 9))}, **observed)
        data.save(path, file_type="hdf5")
    with pytest.raises(BrainrdlError, match="measurements over time, or with residuals, cannot be joined"):
        read(tmp_path / "*.h5")


def test_observations_left_out_are_summed_over_runs(tmp_path):
    for run, left_out in (("1", 1), ("2", 2)):
        save(tmp_path / f"sub-1_run-{run}.h5", np.eye(3), n_dropped_observations=left_out)
    assert read(tmp_path / "*.h5")[0].descriptors["n_dropped_observations"] == 3


def test_an_option_may_hold_the_hemisphere(tmp_path):
    for side, scale in (("lh", 1.0), ("rh", 2.0)):
        values = {f"{side}_patterns": scale * np.arange(12.0).reshape(3, 4), "other": np.ones((3, 4)), "names": NAMES}
        np.savez(tmp_path / f"{side}.b.npz", **values)
    (found,) = read(tmp_path / "?h.b.npz", variable="{hemi}_patterns", patterns=True)
    np.testing.assert_array_equal(found.measurements, np.hstack([np.arange(12.0).reshape(3, 4) * k for k in (1, 2)]))


def test_a_link_to_a_file_that_was_not_downloaded_is_refused(tmp_path):
    (tmp_path / "rdm.npy").symlink_to(tmp_path / "annexed")
    with pytest.raises(BrainrdlError, match=r"'.*rdm.npy' is a link to a file that was not downloaded; fetch it first"):
        read(tmp_path / "rdm.npy")


def test_an_option_may_hold_the_subject(tmp_path):
    for subject, scale in (("01", 1.0), ("02", 2.0)):
        np.savez(
            tmp_path / f"sub-{subject}.npz", **{f"rdm_{subject}": scale * np.array([1.0, 2, 3]), "other": np.ones(3)}
        )
    found = read(tmp_path / "sub-*.npz", names=NAMES, variable="rdm_{subject}")
    np.testing.assert_array_equal(found.dissimilarities, [[1, 2, 3], [2, 4, 6]])


def test_runs_of_rdms_become_a_descriptor(tmp_path):
    for run in (1, 2):
        from_array(np.arange(3.0), NAMES).save(str(tmp_path / f"sub-1_run-{run}.h5"), file_type="hdf5")
    found = read(tmp_path / "*.h5")
    assert (list(found.rdm_descriptors["run"]), list(found.rdm_descriptors["subject"])) == (["1", "2"], ["1", "1"])


def test_runs_of_rdms_are_of_one_subject(tmp_path):
    for run in (1, 2):
        np.save(tmp_path / f"anna_run-{run}_rdm.npy", np.arange(3.0))
    found = read(tmp_path / "anna_run-*_rdm.npy", names=NAMES)
    assert list(found.rdm_descriptors["file"]) == ["anna_rdm", "anna_rdm"]
    assert RDMTeacher(found).targets == ("1", "2")


# -- single files, names of runs, and folders


def test_a_single_file_named_as_bids_does_has_its_subject_and_run(tmp_path):
    rdm = from_array([1.0, 2, 3], NAMES)
    rdm.save(str(tmp_path / "sub-01_ses-2_run-3_rdm.h5"), file_type="hdf5")
    described = read(tmp_path / "sub-01_ses-2_run-3_rdm.h5").rdm_descriptors
    assert (described["subject"], described["session"], described["run"]) == (["01"], ["2"], ["3"])
    save(tmp_path / "sub-01_run-2_betas.h5", np.eye(3))
    data = read(tmp_path / "sub-01_run-2_betas.h5")
    assert (data.descriptors["subject"], list(data.obs_descriptors["run"])) == ("01", ["2"] * 3)


def test_what_a_file_says_itself_counts_more_than_its_name(tmp_path):
    save(tmp_path / "sub-01_run-2_betas.h5", np.eye(3), subject="anna", run=["a", "a", "b"])
    data = read(tmp_path / "sub-01_run-2_betas.h5")
    assert (data.descriptors["subject"], list(data.obs_descriptors["run"])) == ("anna", ["a", "a", "b"])


def test_names_of_folders_do_not_describe_a_single_file(tmp_path):
    (tmp_path / "sub-07").mkdir()
    from_array([[1.0, 2, 3], [3, 2, 1]], NAMES).save(str(tmp_path / "sub-07" / "models.h5"), file_type="hdf5")
    assert "subject" not in read(tmp_path / "sub-07" / "models.h5").rdm_descriptors


@pytest.fixture
def two_runs(tmp_path):
    """Patterns of two runs in files without names; run 10 has the opposite order of run 2."""
    for run, values in (("2", np.eye(3)), ("10", np.eye(3)[::-1])):
        np.save(tmp_path / f"sub-01_run-{run}_betas.npy", values)
        listed = NAMES if run == "2" else NAMES[::-1]
        (tmp_path / f"names_{run}.txt").write_text("\n".join(listed))
    return tmp_path


def test_names_of_each_run_are_read_from_its_own_file(two_runs):
    (data,) = read(two_runs / "sub-*_run-*_betas.npy", patterns=True, names=two_runs / "names_{run}.txt")
    assert list(data.obs_descriptors["stimulus"]) == [*NAMES, *NAMES[::-1]]
    assert list(data.obs_descriptors["run"]) == ["2"] * 3 + ["10"] * 3
    for values, name in zip(data.measurements, data.obs_descriptors["stimulus"], strict=True):
        np.testing.assert_array_equal(values, np.eye(3)[NAMES.index(name)])


def test_one_list_of_names_is_never_used_for_each_run(two_runs):
    pattern = two_runs / "sub-*_run-*_betas.npy"
    with pytest.raises(
        BrainrdlError, match=r"3 names .* the 6 observations of runs \['2', '10'\], and runs can differ"
    ):
        read(pattern, patterns=True, names=NAMES)
    (data,) = read(pattern, patterns=True, names=[*NAMES, *NAMES[::-1]])
    assert list(data.obs_descriptors["stimulus"]) == [*NAMES, *NAMES[::-1]]


def test_one_table_for_several_runs_is_refused(two_runs):
    with pytest.raises(BrainrdlError, match=r"table='t.tsv' is one table for the runs \['2', '10'\], .* with \{run\}"):
        read(two_runs / "sub-*_run-*_betas.npy", table="t.tsv")


def test_one_list_of_names_is_used_for_the_rdms_of_runs_and_subjects(tmp_path):
    for subject, run in (("01", "1"), ("01", "2"), ("02", "1")):
        np.save(tmp_path / f"sub-{subject}_run-{run}_rdm.npy", np.array([1.0, 2, 3]))
    rdms = read(tmp_path / "sub-*_rdm.npy", names=NAMES)
    assert rdms.rdm_descriptors["run"] == ["1", "2", "1"]


def test_every_field_of_a_pattern_fills_every_option(tmp_path):
    for roi in ("V1", "IT"):
        np.savez(tmp_path / f"anna_{roi}.npz", **{f"rdm_{roi}": np.array([1.0, 2, 3]), f"names_{roi}": NAMES})
    rdms = read(tmp_path / "{subject}_{roi}.npz", variable="rdm_{roi}", names_variable="names_{roi}")
    assert rdms.rdm_descriptors["roi"] == ["IT", "V1"]


@pytest.fixture
def betas(tmp_path):
    """Betas of SPM, two runs of three conditions, for two subjects."""
    for subject in ("anna", "bob"):
        (tmp_path / subject).mkdir()
        for number, (run, name) in enumerate(((run, name) for run in (1, 2) for name in NAMES), start=1):
            values = np.random.default_rng(number).normal(size=(3, 3, 3)).astype("f4")
            image = nib.Nifti1Image(values, np.eye(4))
            image.header["descrip"] = f"spm_spm:beta ({number:04d}) - Sn({run}) {name}*bf(1)".encode()
            image.to_filename(tmp_path / subject / f"beta_{number:04d}.nii")
    return tmp_path


def test_a_pattern_of_betas_is_one_subject_as_their_folder_is(betas):
    data, folder = read(betas / "anna" / "beta_*.nii"), read(betas / "anna", files="beta_*.nii")
    np.testing.assert_array_equal(data.measurements, folder.measurements)
    assert list(data.obs_descriptors["stimulus"]) == NAMES * 2
    assert list(data.obs_descriptors["run"]) == ["1"] * 3 + ["2"] * 3
    found = audit(betas / "anna" / "beta_*.nii")
    assert (found.can_teach, found.facts["datasets"], found.facts["observations"]) == (True, 1, 6)


def test_a_pattern_of_folders_of_betas_is_a_subject_each(betas):
    both = read(betas / "*" / "beta_*.nii")
    assert [part.descriptors["file"] for part in both] == ["anna", "bob"]
    assert [part.descriptors["subject"] for part in read(betas / "{subject}" / "beta_*.nii")] == ["anna", "bob"]
    assert [part.n_obs for part in both] == [6, 6]
