"""BIDS and fMRIPrep folders: files found by name, known patterns recovered, and every ambiguity refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brainrdl import BrainrdlError, read
from brainrdl._core import progress
from brainrdl.doctor import audit
from brainrdl.testing.file_readers import check_reader
from data_adapters.fmri_bold.bids import READER
from data_adapters.fmri_bold.bids_files import is_raw
from data_adapters.fmri_bold.confounds import MOTION, read_confounds

T_R, N_VOLUMES, SHAPE = 1.5, 120, (3, 3, 2)
CONDITIONS = ("cat", "face", "house")
RUNS = ("1", "2")


def save(path, values, t_r=T_R, unit="sec"):
    image = nib.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0]))
    if values.ndim == 4:
        image.header.set_zooms((2.0, 2.0, 2.0, t_r))
    image.header.set_xyzt_units("mm", unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def events_text(seed):
    names = np.random.default_rng(seed).permutation(np.repeat(CONDITIONS, 2))
    rows = [f"{6 + 27 * place}\t10\t{name}" for place, name in enumerate(names)]
    return "\n".join(["onset\tduration\ttrial_type", *rows]) + "\n"


def write_run(root, derivatives, patterns, subject="01", session="", task="objects", run="1", spaces=("MNI", "T1w")):
    """Write a raw series with its events, and what fMRIPrep writes of it; motion leaks into the preprocessed series."""
    from nilearn.glm.first_level import compute_regressor

    seed = sum(map(ord, f"{subject}{session}{task}{run}"))
    rng, text = np.random.default_rng(seed), events_text(seed)
    bold = rng.normal(500, 0.3, (N_VOLUMES, int(np.prod(SHAPE))))
    for name, pattern in patterns.items():
        shown = [row.split("\t") for row in text.splitlines()[1:]]
        events = np.array([[float(row[0]), float(row[1]), 1] for row in shown if row[2] == name]).T
        bold += 10 * compute_regressor(events, "spm", np.arange(N_VOLUMES) * T_R)[0] @ pattern[None]
    motion = np.cumsum(rng.normal(size=(N_VOLUMES, 6)), axis=0)
    moved = bold + 5 * motion @ rng.normal(size=(6, bold.shape[1]))
    place = f"sub-{subject}/" + (f"ses-{session}/" if session else "") + "func"
    stem = f"sub-{subject}_" + (f"ses-{session}_" if session else "") + f"task-{task}_run-{run}"
    as_image = [each.T.reshape((*SHAPE, N_VOLUMES), order="F").astype(np.float32) for each in (bold, moved)]
    save(root / place / f"{stem}_bold.nii.gz", as_image[0])
    (root / place / f"{stem}_events.tsv").write_text(text)
    (root / f"task-{task}_bold.json").write_text(json.dumps({"RepetitionTime": T_R, "TaskName": task}))
    brain = np.ones(SHAPE, np.uint8)
    brain[0, 0, int(run) % 2] = 0
    for space in spaces:
        save(derivatives / place / f"{stem}_space-{space}_desc-preproc_bold.nii.gz", as_image[1])
        save(derivatives / place / f"{stem}_space-{space}_desc-brain_mask.nii.gz", brain)
        sidecar = json.dumps({"RepetitionTime": T_R, "StartTime": 0.0, "SkullStripped": False})
        (derivatives / place / f"{stem}_space-{space}_desc-preproc_bold.json").write_text(sidecar)
    names = [*MOTION, "framewise_displacement", "csf"]
    columns = np.column_stack([motion, np.abs(motion).sum(1), rng.normal(size=N_VOLUMES)])
    rows = ["\t".join(map(str, row)) for row in columns]
    rows[0] = "\t".join([*map(str, columns[0, :6]), "n/a", str(columns[0, 7])])
    (derivatives / place / f"{stem}_desc-confounds_timeseries.tsv").write_text("\n".join(["\t".join(names), *rows]))
    (derivatives / place / f"{stem}_desc-confounds_timeseries.json").write_text("{}")


@pytest.fixture(scope="module")
def patterns():
    return {
        name: np.random.default_rng(place).normal(size=int(np.prod(SHAPE))) for place, name in enumerate(CONDITIONS)
    }


@pytest.fixture(scope="module")
def sound(tmp_path_factory, patterns):
    """A dataset of two runs of one subject, with its derivatives inside."""
    root = tmp_path_factory.mktemp("bids") / "dataset"
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    for run in RUNS:
        write_run(root, root / "derivatives" / "fmriprep", patterns, run=run)
    return root


@pytest.fixture
def root(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "dataset")


def derivatives(root):
    return root / "derivatives" / "fmriprep"


def refused(message, path, **options):
    with pytest.raises(BrainrdlError, match=message):
        read(path, reader=READER, **options)


def assert_recovered(data, patterns, at_least=0.98):
    flat = np.ravel_multi_index([data.channel_descriptors[axis] for axis in "ijk"], SHAPE, order="F")
    for name, beta in zip(data.obs_descriptors["stimulus"], data.measurements, strict=True):
        assert np.corrcoef(beta, patterns[name][flat])[0, 1] > at_least


# What is found


def test_known_patterns_are_recovered_from_preprocessed_series(sound, patterns):
    data = read(sound, reader=READER, subject="01", task="objects", space="T1w")
    assert_recovered(data, patterns)
    assert list(data.obs_descriptors["stimulus"]) == [*CONDITIONS, *CONDITIONS]
    assert list(data.obs_descriptors["run"]) == ["1"] * 3 + ["2"] * 3
    told = {key: data.descriptors[key] for key in ("subject", "task", "space", "residual_dof")}
    assert told == {"subject": "01", "task": "objects", "space": "T1w", "residual_dof": 2 * (120 - 3 - 6 - 4)}


def test_progress_is_shown_for_the_runs_if_they_take_long(sound, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    read(sound, reader=READER, subject="01", task="objects", space="T1w")
    assert capsys.readouterr().err.startswith("runs of BOLD: 1 of 2")


def test_without_removing_motion_the_patterns_are_not_recovered(sound, patterns):
    data = read(sound, reader=READER, space="T1w", confounds=None)
    with pytest.raises(AssertionError):
        assert_recovered(data, patterns)


def test_voxels_outside_the_brain_masks_of_any_run_are_left_out(sound):
    data = read(sound, reader=READER, space="T1w")
    places = set(zip(*(data.channel_descriptors[axis] for axis in "ijk"), strict=True))
    assert len(places) == np.prod(SHAPE) - 2
    assert not places & {(0, 0, 0), (0, 0, 1)}
    save(sound.parent / "mask.nii.gz", np.ones(SHAPE, np.uint8))
    assert read(sound, reader=READER, space="T1w", mask=sound.parent / "mask.nii.gz").n_channel == np.prod(SHAPE)


def test_derivatives_are_read_from_their_own_folder_with_the_events_of_the_dataset(sound, tmp_path):
    inside = read(derivatives(sound), reader=READER, space="MNI")
    elsewhere = shutil.copytree(derivatives(sound), tmp_path / "out")
    outside = read(elsewhere, reader=READER, space="MNI", raw=sound)
    np.testing.assert_array_equal(inside.measurements, outside.measurements)
    np.testing.assert_array_equal(inside.measurements, read(sound, reader=READER, space="MNI").measurements)
    refused("no events for 'sub-01_task-objects_run-1_space-MNI_.*give raw= the folder", elsewhere, space="MNI")


def test_raw_series_are_read_if_nothing_is_preprocessed(root, patterns):
    shutil.rmtree(root / "derivatives")
    for confounds in ("minimal", "simple", ["csf"]):
        refused(
            "'sub-01_task-objects_run-1_bold.nii.gz' is a raw series, .* preprocess it first", root, confounds=confounds
        )
    data = read(root, reader=READER, confounds=None)
    assert data.n_channel == np.prod(SHAPE)
    assert_recovered(data, patterns)
    assert "space" not in data.descriptors


def test_no_message_advises_to_model_the_raw_series(root):
    shutil.rmtree(root / "derivatives")
    with pytest.raises(BrainrdlError) as found:
        read(root, reader=READER)
    assert "None" not in str(found.value)


def test_the_doctor_calls_raw_series_raw(root):
    known = audit(root, subject="01", space="T1w").findings
    assert not (known.what == "series").any()
    shutil.rmtree(root / "derivatives")
    run = root / "sub-01" / "func" / "sub-01_task-objects_run-1_bold.nii.gz"
    for source, options in ((root, {"confounds": None}), (run, {})):
        (value,) = audit(source, **options).findings.query("what == 'series'").value
        assert value.startswith("raw")


@pytest.mark.parametrize(
    "layout",
    ["fmriprep-20.2.7/fmriprep", "cpac/output/pipeline_cpac-default", pytest.param(".", marks=pytest.mark.slow)],
)
def test_derivatives_in_deeper_folders_are_found(root, patterns, layout):
    """fMRIPrep's legacy layout, C-PAC's, and derivatives without a folder of their own."""
    moved = shutil.move(root / "derivatives" / "fmriprep", root / "elsewhere")
    place = root / "derivatives" / layout
    place.parent.mkdir(parents=True, exist_ok=True)
    if layout == ".":
        shutil.rmtree(root / "derivatives", ignore_errors=True)
    shutil.move(moved, place)
    data = read(root, space="T1w")
    assert_recovered(data, patterns)
    assert "series" not in data.descriptors
    np.testing.assert_array_equal(read(place, space="T1w").measurements, data.measurements)
    np.testing.assert_array_equal(read(root / "derivatives", space="T1w").measurements, data.measurements)
    np.testing.assert_array_equal(read(place / "sub-01", space="T1w").measurements, data.measurements)


def test_the_description_of_a_dataset_says_whether_it_is_raw(root):
    place = root / "sub-01" / "func" / "sub-01_task-objects_run-1_bold.nii.gz"
    assert is_raw(place)
    (root / "dataset_description.json").write_text('{"Name": "x", "DatasetType": "derivative"}')
    assert not is_raw(place)
    (root / "dataset_description.json").write_text("no JSON")
    assert is_raw(place)
    assert not is_raw(next(derivatives(root).glob("sub-01/func/*desc-preproc_bold.nii.gz")))


def test_a_run_is_picked_by_its_number(sound):
    both = read(sound, reader=READER, space="T1w")
    second = read(sound, reader=READER, space="space-T1w", run="02", subject="sub-01")
    assert list(second.obs_descriptors["run"]) == ["2"] * 3
    assert second.n_channel == both.n_channel + 1  # fewer masks
    by_number = read(sound, reader=READER, space="T1w", run=2)
    np.testing.assert_array_equal(by_number.measurements, second.measurements)
    assert list(read(sound, reader=READER, space="T1w", run=["1", "2"]).obs_descriptors["run"]) == ["1"] * 3 + ["2"] * 3


def test_sessions_are_joined_and_named(root, patterns):
    write_run(root, derivatives(root), patterns, subject="02", session="a", run="1")
    write_run(root, derivatives(root), patterns, subject="02", session="b", run="1")
    data = read(root, reader=READER, subject="02", space="T1w")
    assert list(data.obs_descriptors["run"]) == ["a/1"] * 3 + ["b/1"] * 3
    assert list(data.obs_descriptors["session"]) == ["a"] * 3 + ["b"] * 3
    one = read(root, reader=READER, subject="02", space="T1w", session="b")
    assert one.descriptors["session"] == "b"
    assert "session" not in one.obs_descriptors
    assert_recovered(one, patterns)


def test_regions_of_an_atlas_are_cut_to_the_brain(sound, tmp_path):
    numbers = np.zeros(SHAPE, np.int16)
    numbers[:, :, 0], numbers[0, 0, 1] = 1, 2
    save(tmp_path / "atlas.nii.gz", numbers)
    options = {"space": "T1w", "atlas": tmp_path / "atlas.nii.gz"}
    one = read(sound, reader=READER, roi="1", **options)
    assert one.n_channel == 8
    refused(r"regions \['2'\] are not in the brain masks of all runs; give another mask=", sound, **options)
    assert [data.descriptors["roi"] for data in read(sound, reader=READER, roi=["1"], **options)] == ["1"]


def test_series_wholly_outside_the_brain_are_refused(root):
    for mask in derivatives(root).glob("sub-01/func/*_mask.nii.gz"):
        values = np.zeros(SHAPE, np.uint8)
        values[0, 0, int("run-2" in mask.name)] = 1
        save(mask, values)
    refused("no voxel is in the brain masks of all runs", root, space="T1w")


def test_the_tree_that_nilearn_makes_is_read(tmp_path):
    from nilearn._utils.data_gen import create_fake_bids_dataset

    tree = create_fake_bids_dataset(tmp_path, n_sub=2, n_ses=2, tasks=["main", "rest"], n_runs=[2, 1], n_voxels=4)
    for events in tree.rglob("*_events.tsv"):
        events.write_text("trial_type\tonset\tduration\nc0\t5\t2\nc1\t15\t2\nc0\t25\t2\nc1\t32\t2\n")
    options = {"subject": "01", "task": "main", "t_r": 1.5}
    data = read(tree, reader=READER, space="T1w", entities={"desc": "preproc"}, confounds=list(MOTION), **options)
    assert list(data.obs_descriptors["run"]) == [
        f"{ses}/{run}" for ses in ("01", "02") for run in ("01", "02") for _ in "ab"
    ]
    refused(r"there are series of space \['MNI', 'T1w'\]; choose one with space=", tree, **options)


# Tables and sidecars


def test_events_are_inherited_from_a_higher_folder(root):
    before = read(root, reader=READER, space="T1w", run="1")
    own = root / "sub-01" / "func" / "sub-01_task-objects_run-1_events.tsv"
    shutil.move(own, root / "sub-01" / "sub-01_task-objects_run-1_events.tsv")
    (root / "task-objects_events.tsv").write_text(events_text(99))
    (root / "task-faces_events.tsv").write_text("not this")
    np.testing.assert_array_equal(read(root, reader=READER, space="T1w", run="1").measurements, before.measurements)
    (root / "sub-01" / "sub-01_run-1_events.tsv").write_text("not this")
    np.testing.assert_array_equal(read(root, reader=READER, space="T1w", run="1").measurements, before.measurements)
    (root / "sub-01" / "sub-01_task-objects_run-1_events.tsv").unlink()
    (root / "sub-01" / "sub-01_task-objects_events.tsv").write_text("which?")
    refused(
        r"\['sub-01_run-1_events.tsv', 'sub-01_task-objects_events.tsv'\] both describe .*; remove or rename all",
        root,
        space="T1w",
    )


def test_the_repetition_time_comes_from_the_sidecar_if_the_header_has_no_unit(root):
    before = read(root, reader=READER, space="T1w")
    for file in derivatives(root).glob("sub-01/func/*T1w_desc-preproc_bold.nii.gz"):
        save(file, np.asarray(nib.load(file).dataobj).copy(), t_r=1.0, unit="unknown")
    np.testing.assert_array_equal(read(root, reader=READER, space="T1w").measurements, before.measurements)
    for sidecar in [*root.rglob("*_bold.json")]:
        sidecar.unlink()
    refused("gives the time from volume to volume in no known unit; give t_r=", root, space="T1w")
    assert read(root, reader=READER, space="T1w", t_r=T_R).n_obs == 6


def test_sidecar_and_header_that_disagree_are_refused(root):
    (root / "task-objects_bold.json").write_text('{"RepetitionTime": 2.0}')
    shutil.rmtree(root / "derivatives")
    refused("is 1.5 s in its header, but 2 s in its sidecar; give t_r=", root, confounds=None)
    assert read(root, reader=READER, confounds=None, t_r=T_R).n_obs == 6


def sidecars(root):
    return sorted(derivatives(root).glob("sub-01/func/*T1w_desc-preproc_bold.json"))


def test_the_time_slices_were_shifted_to_moves_the_model(root):
    before = read(root, reader=READER, space="T1w")
    for sidecar in sidecars(root):
        sidecar.write_text(json.dumps({"RepetitionTime": T_R, "StartTime": T_R / 2}))
    after = read(root, reader=READER, space="T1w")
    assert np.abs(before.measurements - after.measurements).max() > 0.5
    for events in root.rglob("*_events.tsv"):
        header, *rows = events.read_text().splitlines()
        moved = ["\t".join([str(float(row.split("\t")[0]) + T_R / 2), *row.split("\t")[1:]]) for row in rows]
        events.write_text("\n".join([header, *moved]))
    np.testing.assert_allclose(read(root, reader=READER, space="T1w").measurements, before.measurements, atol=0.05)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "the sidecar 'sub-01_task-objects_run-1_.*' is not valid JSON: "),
        ("[1]", "must hold a JSON object, but it holds list"),
        ('{"StartTime": "x"}', "StartTime in the sidecar of 'sub-01.*' must be seconds from 0 to 60, got 'x'"),
        ('{"StartTime": true}', "must be seconds from 0 to 60, got True"),
        ('{"StartTime": 0.5}', r"shifted to different times \(StartTime \[0.0, 0.5\]\); give one run="),
        ('{"RepetitionTime": "2"}', "RepetitionTime in the sidecar of 'sub-01.*' must be a number above 0, got '2'"),
        (
            '{"RepetitionTime": 1500}',
            "RepetitionTime in the sidecar of 'sub-01.*' must be seconds .* got 1500; is it in",
        ),
        (" " * 10_000_001, "has 10000001 bytes; a sidecar should have less than 10000000"),
        ("[" * 100_000, "bids.*"),
    ],
)
def test_a_sidecar_that_is_not_sound_is_refused(root, content, message):
    sidecars(root)[0].write_text(content)
    refused(message, root, space="T1w")


# Confounds


@pytest.fixture
def series(root):
    return sorted(derivatives(root).glob("sub-01/func/*run-1_space-T1w_desc-preproc_bold.nii.gz"))[0]


def table_of(series):
    return series.with_name("sub-01_task-objects_run-1_desc-confounds_timeseries.tsv")


def test_confounds_are_read_by_name_and_a_missing_first_value_is_the_mean(series):
    found = read_confounds(series, ["csf", "framewise_displacement"])
    assert list(found) == ["csf", "framewise_displacement"]
    values = found["framewise_displacement"]
    assert values[0] == pytest.approx(values[1:].mean())
    assert read_confounds(series, "csf").equals(found[["csf"]])
    rows = [row.split("\t") for row in table_of(series).read_text().splitlines()]
    np.testing.assert_allclose(found["csf"], [float(row[7]) for row in rows[1:]])


def test_older_tables_of_confounds_are_found(series):
    new = read_confounds(series, "minimal")
    table_of(series).rename(table_of(series).with_name("sub-01_task-objects_run-1_desc-confounds_regressors.tsv"))
    assert read_confounds(series, "minimal").equals(new)
    assert list(new) == list(MOTION)


def test_the_simple_strategy_is_nilearns_without_its_slow_cosines(series):
    from nilearn.interfaces.fmriprep import load_confounds
    from nilearn.interfaces.fmriprep.tests._testing import get_legal_confound

    table, meta = get_legal_confound()
    table.to_csv(table_of(series), sep="\t", index=False, na_rep="n/a")
    table_of(series).with_suffix(".json").write_text(json.dumps(meta))
    found = read_confounds(series, "simple")
    whole, _ = load_confounds(str(series), strategy=("motion", "high_pass", "wm_csf"), motion="full", wm_csf="basic")
    assert set(whole) - set(found) == {name for name in whole if name.startswith("cosine")}
    assert found.shape == (len(table), 26)
    table_of(series).unlink()
    with pytest.raises(
        BrainrdlError, match=r"nilearn finds no confounds for 'sub-01.*; name columns, or give confounds="
    ):
        read_confounds(series, "simple")


def test_without_nilearn_the_message_names_it(series, monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn.interfaces.fmriprep", None)
    with pytest.raises(BrainrdlError, match=r"confounds='simple' needs nilearn.*pip install nilearn$"):
        read_confounds(series, "simple")


@pytest.mark.parametrize(
    ("confounds", "change", "message"),
    [
        ("minmal", None, "confounds 'minmal' is not known; nearest: 'minimal'"),
        (["CSF"], None, r"confounds 'CSF' is not known.*known: trans_x"),
        ("CSF", None, r"confounds 'CSF' is not known.*known: minimal, simple, trans_x"),
        (["csf"], ("csf", "trans_x"), r"names \['trans_x'\] occur more than once"),
    ],
)
def test_confounds_that_are_not_there_are_refused(series, confounds, change, message):
    if change:
        table_of(series).write_text(table_of(series).read_text().replace(*change))
    with pytest.raises(BrainrdlError, match=message):
        read_confounds(series, confounds)


@pytest.mark.parametrize(
    ("cell", "message"),
    [("n/a", "column 'csf' of .* holds a value that is not a number after its"), ("x", "column 'csf' of")],
)
def test_a_confound_that_is_not_a_number_is_refused(series, cell, message):
    lines = table_of(series).read_text().splitlines()
    lines[5] = "\t".join([*lines[5].split("\t")[:-1], cell])
    table_of(series).write_text("\n".join(lines))
    with pytest.raises(BrainrdlError, match=message):
        read_confounds(series, ["csf"])


# What leaves a choice, or none


def test_two_spaces_are_refused_and_listed(sound):
    refused(r"there are series of space \['MNI', 'T1w'\]; choose one with space=", sound)
    refused(r"no series has the space 'T1'; nearest: 'T1w'; there are \['MNI', 'T1w'\]", sound, space="T1")


def test_two_tasks_are_refused_and_listed(root, patterns):
    write_run(root, derivatives(root), patterns, task="faces")
    refused(r"there are series of task \['faces', 'objects'\]; choose one with task=", root, space="T1w")
    assert read(root, reader=READER, space="T1w", task="faces").descriptors["task"] == "faces"


def test_two_subjects_are_refused_and_listed(root, patterns):
    write_run(root, derivatives(root), patterns, subject="02")
    refused(r"there are series of sub \['01', '02'\]; choose one with subject=", root, space="T1w")
    refused(r"no series has the sub '10'; nearest: .*'01'; there are \['01', '02'\]", root, subject="10")
    every = r"choose one with subject=, or read the folders sub-\* for a list of all subjects"
    refused(rf"there are series of sub \['01', '02'\]; {every}", root)  # before space=
    assert [data.descriptors["subject"] for data in read(f"{root}/sub-*", space="T1w")] == ["01", "02"]


def test_an_unknown_run_or_session_is_refused(sound):
    refused(r"no series has the run '3'; there are \['1', '2'\]", sound, space="T1w", run=["1", "3"])
    refused(r"no series has the ses '01'; there are \[''\]", sound, space="T1w", session="01")


def test_other_entities_are_refused_and_can_be_chosen(root):
    for file in list(derivatives(root).glob("sub-01/func/*run-1_space-T1w_*")):
        shutil.copy(file, file.with_name(file.name.replace("space-T1w_", "space-T1w_res-2_")))
    refused(r"there are series of res \['', '2'\]; choose one with entities=\{'res': ...\}$", root, space="T1w")
    assert read(root, reader=READER, space="T1w", run=1, entities={"res": "2"}).n_obs == 3
    assert read(root, reader=READER, space="T1w", entities={"res": ""}).n_obs == 6
    refused(r"there are series of res \['', '2'\]", root, space="T1w", entities={"res": ["", "2"]})
    refused(r"there are series of space \['MNI', 'T1w'\]; choose one with space=", root)  # asked before res
    refused("entities= has 'sub', which has its own option; give subject=", root, entities={"sub": "01"})


def test_two_pipelines_are_refused(root):
    shutil.copytree(derivatives(root), root / "derivatives" / "other")
    refused(r"there are series in \['.*fmriprep', '.*other'\]; read one of these folders", root, space="T1w")
    assert read(derivatives(root), reader=READER, space="T1w").n_obs == 6


def test_a_series_in_two_files_is_refused(root):
    shutil.rmtree(root / "derivatives")
    packed = root / "sub-01" / "func" / "sub-01_task-objects_run-1_bold.nii.gz"
    nib.save(nib.load(packed), packed.with_suffix(""))
    refused(r"two files of the series \['sub-01_task-objects_run-1_bold.nii'\]", root, confounds=None)


def rename(root, old, new):
    for file in [file for file in root.rglob("*") if old in file.name]:
        file.rename(file.with_name(file.name.replace(old, new)))


def test_raw_series_are_not_read_instead_of_missing_preprocessed_ones(root, patterns):
    rename(root, "desc-preproc_bold", "desc-smoothed_bold")
    words = r"the derivatives hold series of desc \['smoothed'\], but none of 'preproc'; choose one with entities=\{"
    refused(words, root, space="T1w")
    refused(words, derivatives(root), space="T1w")
    smoothed = read(root, reader=READER, space="T1w", entities={"desc": "smoothed"})
    assert_recovered(smoothed, patterns)  # with the confounds that all outputs share
    assert smoothed.n_channel == np.prod(SHAPE) - 2
    raw = read(root, reader=READER, entities={"desc": ""}, confounds=None)
    assert raw.n_channel == np.prod(SHAPE)
    assert_recovered(raw, patterns)


def test_desc_preproc_is_read_if_there_is_another_desc(root):
    before = read(root, reader=READER, space="T1w")
    for file in derivatives(root).glob("sub-01/func/*T1w_desc-preproc_bold.nii.gz"):
        save(file.with_name(file.name.replace("preproc", "other")), np.zeros((*SHAPE, N_VOLUMES), np.uint8))
    np.testing.assert_array_equal(read(root, reader=READER, space="T1w").measurements, before.measurements)


def test_derivatives_without_desc_are_not_raw_series(root):
    rename(derivatives(root), "_desc-preproc_bold", "_bold")
    refused(r"the derivatives hold series of desc \[''\], but none of 'preproc'", root, space="T1w")
    assert read(derivatives(root), reader=READER, space="T1w", entities={"desc": ""}).n_obs == 6
    rename(derivatives(root), "_space-T1w", "")
    refused(r"the derivatives hold series of desc \[''\], but none of 'preproc'", root)


def test_runs_that_are_not_preprocessed_are_refused_unless_they_are_not_asked_for(root, tmp_path):
    for file in derivatives(root).glob("sub-01/func/*run-2*T1w_desc-preproc_bold.nii.gz"):
        file.unlink()
    words = (
        "the raw series are run-1, run-2, but the preprocessed ones run-1; preprocess what is missing, or choose with"
    )
    refused(words, root, space="T1w")
    refused(words, derivatives(root), space="T1w")
    elsewhere = shutil.copytree(derivatives(root), tmp_path / "out")
    refused(words, elsewhere, space="T1w", raw=root)
    assert read(root, reader=READER, space="T1w", run=1).n_obs == 3
    assert read(root, reader=READER, space="MNI").n_obs == 6
    for file in root.glob("sub-01/func/*_bold.nii.gz"):
        file.unlink()
    assert read(root, reader=READER, space="T1w").n_obs == 3  # raw series may be elsewhere, but not some of them


def test_a_run_that_was_preprocessed_and_is_not_raw_is_refused(root):
    next(root.glob("sub-01/func/*run-1_bold.nii.gz")).unlink()
    refused("the raw series are run-2, but the preprocessed ones run-1, run-2;", root, space="T1w")


def test_runs_that_differ_in_another_entity_are_read_together_if_both_are_asked_for(root):
    before = read(root, reader=READER, space="T1w")
    for run, direction in (("1", "AP"), ("2", "PA")):
        rename(root, f"_run-{run}_", f"_dir-{direction}_run-1_")
    words = (
        r"series of dir \['AP', 'PA'\]; choose one with entities=\{'dir': ...\}, or list several to read them as runs"
    )
    refused(words, root, space="T1w")
    both = read(root, reader=READER, space="T1w", entities={"dir": ["AP", "PA"]})
    assert list(both.obs_descriptors["run"]) == ["AP/1"] * 3 + ["PA/1"] * 3
    np.testing.assert_array_equal(both.measurements, before.measurements)
    one = read(root, reader=READER, space="T1w", entities={"dir": "PA"})
    assert list(one.obs_descriptors["run"]) == ["1"] * 3
    refused("no series has the dir 'LR'; there are", root, space="T1w", entities={"dir": ["AP", "LR"]})


# Where the folder is


def test_the_working_folder_and_links_to_folders_are_read(sound, tmp_path, monkeypatch):
    expected = read(sound, reader=READER, space="T1w").measurements
    for place in (sound, derivatives(sound), sound / "sub-01"):
        monkeypatch.chdir(place)
        assert READER.sniff(Path())
        np.testing.assert_array_equal(read(".", space="T1w").measurements, expected)
    monkeypatch.chdir(sound)
    np.testing.assert_array_equal(read("derivatives/fmriprep", space="T1w").measurements, expected)
    (tmp_path / "link").symlink_to(derivatives(sound))
    np.testing.assert_array_equal(read(tmp_path / "link", space="T1w").measurements, expected)


def test_derivatives_that_a_dataset_links_to_belong_to_it(root, tmp_path):
    expected = read(root, reader=READER, space="T1w").measurements
    shutil.move(derivatives(root), tmp_path / "out")
    derivatives(root).symlink_to(tmp_path / "out")
    np.testing.assert_array_equal(read(derivatives(root), reader=READER, space="T1w").measurements, expected)


def test_the_folder_of_a_subject_names_the_subject(root, patterns):
    write_run(root, derivatives(root), patterns, subject="02")
    one = read(root / "sub-02", space="T1w", run="1")
    assert one.descriptors["subject"] == "02"
    by_option = read(root, reader=READER, space="T1w", subject=2)
    np.testing.assert_array_equal(one.measurements, by_option.measurements)
    assert read(derivatives(root) / "sub-02", space="T1w", subject="sub-02").n_obs == 3
    refused("subject='01' is another subject than 'sub-02', the folder; give the", root / "sub-02", subject="01")
    subjects = read(root / "sub-*", space="T1w", run="1")
    assert [data.descriptors["subject"] for data in subjects] == ["01", "02"]


def test_numbers_of_subjects_sessions_and_runs_need_no_zeros(root, patterns):
    write_run(root, derivatives(root), patterns, subject="007", session="02", run="1")
    found = read(root, reader=READER, subject=7, session=2, run=1, space="T1w")
    assert (found.descriptors["subject"], found.descriptors["session"]) == ("007", "02")
    write_run(root, derivatives(root), patterns, subject="7")
    assert read(root, reader=READER, subject="7", space="T1w").descriptors["subject"] == "7"
    write_run(root, derivatives(root), patterns, subject="0007")
    refused(r"there are series of sub \['0007', '007', '7'\]; choose one", root, subject="07", space="T1w")


# What is not there


def test_files_that_were_not_downloaded_are_refused(root):
    func = derivatives(root) / "sub-01" / "func"
    stem = "sub-01_task-objects_run-2"
    for file in (
        func / f"{stem}_space-T1w_desc-preproc_bold.nii.gz",
        func / f"{stem}_space-T1w_desc-brain_mask.nii.gz",
        func / f"{stem}_space-T1w_desc-preproc_bold.json",
        func / f"{stem}_desc-confounds_timeseries.tsv",
        root / "sub-01" / "func" / f"{stem}_events.tsv",
        root / "task-objects_bold.json",
    ):
        content = file.read_bytes()
        file.unlink()
        file.symlink_to("../.git/annex/objects/x")
        refused(
            rf"{file.name}' is a link to a file that was not downloaded; fetch it first \(datalad get",
            root,
            space="T1w",
        )
        file.unlink()
        file.write_bytes(content)
    assert read(root, reader=READER, space="T1w").n_obs == 6


def test_brain_masks_of_some_runs_only_are_refused(root):
    for mask in derivatives(root).glob("sub-01/func/*T1w_desc-brain_mask.nii.gz"):
        mask.unlink()
        if "run-2" in mask.name:
            words = r"brain masks of other runs, but none of \['sub-01_task-objects_run-2_space-T1w_.*'\]; give mask="
            refused(words, root, space="T1w")
            save(root / "mask.nii.gz", np.ones(SHAPE, np.uint8))
            assert read(root, reader=READER, space="T1w", mask=root / "mask.nii.gz").n_channel == np.prod(SHAPE)
            break
    for mask in derivatives(root).glob("sub-01/func/*T1w_desc-brain_mask.nii.gz"):
        mask.unlink()
    assert read(root, reader=READER, space="T1w").n_channel == np.prod(SHAPE)


def test_a_damaged_run_or_table_is_named(root):
    func = derivatives(root) / "sub-01" / "func"
    events = root / "sub-01" / "func" / "sub-01_task-objects_run-2_events.tsv"
    for file, cut, words in (
        (func / "sub-01_task-objects_run-2_space-T1w_desc-preproc_bold.nii.gz", 500, "the series '.*{}' could not be"),
        (func / "sub-01_task-objects_run-2_space-T1w_desc-brain_mask.nii.gz", 20, "mask.*{}' could not be read"),
        (events, 0, "the events '.*{}': .*UTF-8"),
    ):
        content = file.read_bytes()
        file.write_bytes(content[:-cut] if cut else content.replace(b"face", b"No\xebl"))
        refused(words.format(file.name), root, space="T1w")
        file.write_bytes(content)


def test_a_baseline_that_occurs_in_no_run_is_refused(root):
    refused("baseline 'fixation' occurs in no run", root, space="T1w", baseline=["rest", "fixation"])
    assert set(read(root, reader=READER, space="T1w", baseline=" cat").obs_descriptors["stimulus"]) == {"face", "house"}


def test_empty_lists_and_folders_that_are_not_there_are_refused(root):
    refused("run= is an empty list; leave it out to read all there are", root, space="T1w", run=[])
    refused("session= is an empty list", root, space="T1w", session=[])
    refused("confounds= is empty; give None to remove none", root, space="T1w", confounds=[])
    refused("raw= is 'nope', but there is no such folder", root, space="T1w", raw="nope")


def test_runs_that_would_have_the_same_name_are_refused(root):
    for file in list(root.glob("sub-01/func/*run-2*")) + list(derivatives(root).glob("sub-01/func/*run-2*")):
        file.rename(file.with_name(file.name.replace("run-2_", "")))
    refused("there are two runs '1'; runs must have different names", root, space="T1w")


def test_a_folder_without_series_is_refused(tmp_path):
    (tmp_path / "sub-01" / "func").mkdir(parents=True)
    refused("the folder holds no sub-.../func/..._bold.nii.gz, raw or preprocessed", tmp_path)


def test_folders_are_recognised_by_their_subjects(sound, tmp_path):
    assert READER.sniff(sound)
    assert READER.sniff(derivatives(sound))
    assert not READER.sniff(tmp_path)
    assert not READER.sniff(sound / "dataset_description.json")


def test_the_same_folder_gives_the_same_data_and_is_left_as_it_was(root):
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    first, second = (read(root, reader=READER, space="T1w") for _ in range(2))
    np.testing.assert_array_equal(first.measurements, second.measurements)
    assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == before
    refused("option no_such_option of reader 'bids' is not known", root, no_such_option=1)


# Damage


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, 5),
    cut=st.floats(0, 1, exclude_max=True),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=4),
)
def test_a_damaged_file_anywhere_gives_data_or_a_refusal(sound, tmp_path, place, cut, flips):
    folder = tmp_path / f"{place}{cut}{len(flips)}"
    shutil.copytree(sound, folder, dirs_exist_ok=True)
    files = [
        folder / "sub-01" / "func" / "sub-01_task-objects_run-1_events.tsv",
        folder / "task-objects_bold.json",
        *sorted(derivatives(folder).glob("sub-01/func/*run-1*T1w*")),
        *sorted(derivatives(folder).glob("sub-01/func/*run-1*confounds*.tsv")),
    ]
    content = bytearray(files[place].read_bytes())
    for where, bit in flips:
        content[int(where * len(content))] ^= 1 << bit
    files[place].write_bytes(content if flips else content[: int(cut * len(content))])
    try:
        data = read(folder, reader=READER, space="T1w")
    except BrainrdlError as error:
        message = str(error)
    else:
        assert np.isfinite(data.measurements).all()
        return
    finally:
        shutil.rmtree(folder)
    assert f"folder '{folder}' (reader 'bids')" in message


def test_the_reader_keeps_its_contract(root):
    check_reader(READER, root, space="T1w")
