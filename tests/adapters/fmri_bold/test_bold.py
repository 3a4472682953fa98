"""Raw BOLD read to betas: Haxby 2001 in two layouts, known patterns recovered, and what does not fit refused."""

from __future__ import annotations

import gzip
import importlib.util
import sys
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brainrdl import BrainrdlError, read
from brainrdl.testing.file_readers import check_reader
from data_adapters.fmri_bold.bold import READER, run_names
from data_adapters.fmri_bold.series import Regions, header_time, repetition_time

T_R, N_VOLUMES, SHAPE = 2.0, 100, (3, 4, 5)
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
CONDITIONS = ("cat", "face", "house")


def save(path, values, affine=AFFINE, t_r=T_R, unit="sec"):
    image = nib.Nifti1Image(values, affine)
    if values.ndim == 4:
        image.header.set_zooms((3.0, 3.0, 3.0, t_r))
    image.header.set_xyzt_units("mm", unit)
    nib.save(image, path)
    return path


def events_text(seed=0):
    names = np.random.default_rng(seed).permutation(np.repeat(CONDITIONS, 2))
    rows = [f"{6 + 30 * place}\t12\t{name}" for place, name in enumerate(names)]
    return "\n".join(["onset\tduration\ttrial_type", *rows]) + "\n"


def series_of(text, patterns, seed=0, dtype=np.float32):
    """BOLD (x, y, z, time) with a known pattern for each condition."""
    from nilearn.glm.first_level import compute_regressor

    rows = [row.split("\t") for row in text.splitlines()[1:]]
    times = np.arange(N_VOLUMES) * T_R
    bold = np.random.default_rng(seed).normal(1000, 0.5, (N_VOLUMES, int(np.prod(SHAPE))))
    for name, pattern in patterns.items():
        events = np.array([[float(row[0]), float(row[1]), 1.0] for row in rows if row[2] == name]).T
        bold += 10 * compute_regressor(events, "glover", times)[0] @ pattern[None]
    return bold.T.reshape((*SHAPE, N_VOLUMES), order="F").astype(dtype)


@pytest.fixture(scope="module")
def patterns():
    return {
        name: np.random.default_rng(place).normal(size=int(np.prod(SHAPE))) for place, name in enumerate(CONDITIONS)
    }


@pytest.fixture
def folder(tmp_path, patterns):
    """Two runs with their events in separate folders, a mask and an atlas with names."""
    for run in (1, 2):
        place = tmp_path / f"task_run{run:03d}"
        place.mkdir()
        (place / "events.tsv").write_text(events_text(run))
        save(place / "bold.nii.gz", series_of(events_text(run), patterns, seed=run))
    save(tmp_path / "mask.nii.gz", (np.arange(60).reshape(SHAPE) % 2).astype(np.uint8))
    save(tmp_path / "atlas.nii.gz", (np.arange(60).reshape(SHAPE) // 20).astype(np.int16))
    (tmp_path / "atlas.tsv").write_text("index\tname\n1\tV1\n2\tIT\n")
    return tmp_path


@pytest.fixture
def one(folder):
    return folder / "task_run001" / "bold.nii.gz"


# Haxby 2001


@pytest.fixture(scope="session")
def haxby(data_folder, tmp_path_factory):
    import tarfile

    if not (data_folder / "haxby2001.tar.gz").is_file():
        pytest.skip("haxby2001.tar.gz is not in BRAINRDL_DATA (CONTRIBUTING.md, Real data)")
    with tarfile.open(data_folder / "haxby2001.tar.gz") as tar:
        tar.extractall(tmp_path_factory.mktemp("haxby"), filter="data")
    return next(tmp_path_factory.getbasetemp().glob("haxby*/haxby2001"))


@pytest.fixture(scope="session")
def labelled(haxby):
    return read(
        haxby / "bold.nii.gz", table=haxby / "attributes_literal.txt", mask=haxby / "mask.nii.gz", reader=READER
    )


@pytest.mark.slow
def test_haxby_labelled_by_volume_gives_a_beta_for_each_category_and_run(labelled):
    assert labelled.measurements.shape == (96, 530)
    assert labelled.channel_descriptors["residuals"].shape == (530, 1452)
    assert labelled.descriptors["residual_dof"] == 12 * (121 - 8 - 7)
    assert labelled.descriptors["n_dropped_channels"] == 0
    assert list(labelled.obs_descriptors["run"]) == [str(run) for run in range(12) for _ in range(8)]
    assert set(labelled.obs_descriptors["stimulus"]) == {
        "bottle", "cat", "chair", "face", "house", "scissors", "scrambledpix", "shoe"
    }  # fmt: skip


@pytest.mark.slow
def test_haxby_in_one_file_per_run_with_events_gives_the_same_betas(haxby, labelled):
    runs = read(
        haxby / "openfmri" / "sub001" / "BOLD", reader=READER, runs="*/bold_1slice.nii.gz", events="bold_events.tsv",
        mask=haxby / "mask.nii.gz",
    )  # fmt: skip
    assert list(runs.obs_descriptors["stimulus"]) == list(labelled.obs_descriptors["stimulus"])
    assert list(runs.obs_descriptors["run"]) == [f"{run:03d}" for run in range(1, 13) for _ in range(8)]
    np.testing.assert_allclose(runs.measurements, labelled.measurements, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="session")
def example():
    """docs/examples/haxby.py as a module."""
    file = Path(__file__).parents[3] / "docs" / "examples" / "haxby.py"
    found = importlib.util.spec_from_file_location("haxby", file)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_haxby_categories_are_identified_from_odd_to_even_runs_as_the_example_says(labelled, example):
    found = example.identification(labelled)
    assert found["same category"].round(2).to_dict() == pytest.approx(
        {"bottle": 0.29, "cat": 0.23, "chair": -0.05, "face": 0.36, "house": 0.46, "scissors": 0.07,
         "scrambledpix": 0.43, "shoe": 0.16}, abs=0.02,
    )  # fmt: skip
    assert found["pairs identified"].mean() == pytest.approx(0.80, abs=0.04)
    assert example.permutation_p(labelled) < 0.003


@pytest.mark.slow
def test_haxby_distances_are_above_zero_but_do_not_agree_between_halves_of_the_runs(labelled, example):
    distances = example.crossnobis(labelled).dissimilarities
    assert (distances > 0).all()
    assert distances.mean() == pytest.approx(0.021, abs=0.002)
    assert example.split_half(labelled)["similarity"].abs().max() < 0.3


def test_haxby_with_an_atlas_and_motion_gives_one_dataset_per_region(haxby):
    openfmri, mine = haxby / "openfmri" / "sub001", {"events": "bold_events.tsv", "confounds": "bold_moest.txt"}
    regions = read(
        openfmri / "BOLD", reader=READER, runs="*/bold_25mm.nii.gz", atlas=openfmri / "masks" / "25mm" / "hoc.nii.gz",
        **mine,
    )  # fmt: skip
    values = np.asarray(nib.load(openfmri / "masks" / "25mm" / "hoc.nii.gz").dataobj)
    sizes = {str(number): int((values == number).sum()) for number in np.unique(values) if number}
    assert {data.descriptors["roi"]: data.n_channel for data in regions} == sizes
    assert all(data.descriptors["residual_dof"] == 12 * (121 - 8 - 7 - 6) for data in regions)


# Written with nibabel


def test_known_patterns_are_recovered_from_runs_in_a_folder(folder, patterns):
    data = read(folder, reader=READER, runs="*/bold.nii.gz", events="events.tsv")
    assert data.measurements.shape == (6, 60)
    for name, beta in zip(data.obs_descriptors["stimulus"], data.measurements, strict=True):
        assert np.corrcoef(beta, patterns[name])[0, 1] > 0.99
    assert list(data.obs_descriptors["run"]) == ["001"] * 3 + ["002"] * 3


def test_each_voxel_keeps_its_place(folder, one, patterns):
    mask = np.asarray(nib.load(folder / "mask.nii.gz").dataobj)
    data = read(one, reader=READER, mask=folder / "mask.nii.gz")
    places = np.array([data.channel_descriptors[axis] for axis in "ijk"]).T
    assert {tuple(place) for place in places} == set(zip(*np.nonzero(mask), strict=True))
    whole = patterns["face"].reshape(SHAPE, order="F")
    beta = data.measurements[list(data.obs_descriptors["stimulus"]).index("face")]
    assert np.corrcoef(beta, [whole[tuple(place)] for place in places])[0, 1] > 0.99


def test_an_atlas_gives_the_regions_that_its_masks_would(folder, one):
    regions = read(one, reader=READER, atlas=folder / "atlas.nii.gz")
    assert [data.descriptors["roi"] for data in regions] == ["V1", "IT"]
    alone = read(one, reader=READER, atlas=folder / "atlas.nii.gz", roi="IT")
    np.testing.assert_allclose(alone.measurements, regions[1].measurements)
    residuals = [data.channel_descriptors.pop("residuals") for data in (alone, regions[1])]
    np.testing.assert_allclose(*residuals, atol=1e-9)
    assert alone.channel_descriptors == regions[1].channel_descriptors
    numbers = np.asarray(nib.load(folder / "atlas.nii.gz").dataobj)
    save(folder / "it.nii.gz", (numbers == 2).astype(np.uint8))
    masked = read(one, reader=READER, mask=folder / "it.nii.gz")
    np.testing.assert_allclose(masked.measurements, alone.measurements)


def test_events_by_trial_are_numbered(one):
    data = read(one, reader=READER, per="trial")
    shown = [row.split("\t")[2] for row in (one.parent / "events.tsv").read_text().splitlines()[1:]]
    assert list(data.obs_descriptors["stimulus"]) == shown
    assert list(data.obs_descriptors["trial"]) == ["1", "2", "3", "4", "5", "6"]


def test_dead_voxels_are_left_out_of_all_runs_and_counted(folder):
    for run, place in ((1, (0, 0, 0)), (2, (1, 0, 0))):
        file = folder / f"task_run{run:03d}" / "bold.nii.gz"
        values = np.asarray(nib.load(file).dataobj).copy()
        values[place] = 7.0 if run == 1 else np.nan
        save(file, values)
    data = read(folder, reader=READER, runs="*/bold.nii.gz", events="events.tsv")
    assert (data.n_channel, data.descriptors["n_dropped_channels"]) == (58, 2)
    assert data.channel_descriptors["residuals"].shape == (58, 2 * N_VOLUMES)
    assert np.isfinite(data.channel_descriptors["residuals"]).all()
    assert (0, 0, 0) not in set(zip(*(data.channel_descriptors[axis] for axis in "ijk"), strict=True))


def test_scaled_integers_are_read_as_their_values(one, patterns):
    values = series_of(events_text(1), patterns, seed=1)
    image = nib.Nifti1Image(values, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((3, 3, 3, T_R))
    image.set_data_dtype(np.int16)
    before = read(one, reader=READER)
    nib.save(image, one.with_name("scaled_bold.nii"))
    found = read(one.with_name("scaled_bold.nii"), reader=READER, events="events.tsv")
    np.testing.assert_allclose(found.measurements, before.measurements, atol=0.05)


def test_labels_of_volumes_give_what_the_events_give(folder, one):
    rows = [row.split("\t") for row in (one.parent / "events.tsv").read_text().splitlines()[1:]]
    labels = ["rest"] * N_VOLUMES
    for onset, duration, name in rows:
        labels[int(float(onset) / T_R) : int((float(onset) + float(duration)) / T_R)] = [name] * 6
    (folder / "labels.txt").write_text("".join(f"{label} 7\n" for label in labels))
    found = read(one, reader=READER, table=folder / "labels.txt")
    np.testing.assert_allclose(found.measurements, read(one, reader=READER).measurements, rtol=1e-6)
    assert set(found.obs_descriptors["run"]) == {"7"}


def test_names_of_labels_travel_with_their_patterns(folder, one):
    rows = (one.parent / "events.tsv").read_text().splitlines()
    (one.parent / "reversed.tsv").write_text("\n".join([rows[0], *reversed(rows[1:])]))
    swapped = "\n".join(rows).replace("face", "other").replace("house", "face").replace("other", "house")
    (one.parent / "swapped.tsv").write_text(swapped)
    data, turned, renamed = (
        read(one, reader=READER, events=f"{name}.tsv") for name in ("events", "reversed", "swapped")
    )
    np.testing.assert_allclose(turned.measurements, data.measurements)
    at = {name: list(data.obs_descriptors["stimulus"]).index(name) for name in CONDITIONS}
    np.testing.assert_allclose(renamed.measurements[at["face"]], data.measurements[at["house"]])


def test_confounds_of_a_labelled_series_are_split_into_its_runs(folder, one):
    (folder / "labels.txt").write_text(
        "".join(f"{'face' if 9 < n % 50 < 20 else 'rest'} {n // 50}\n" for n in range(100))
    )
    motion = np.random.default_rng(0).normal(size=(N_VOLUMES, 2))
    np.savetxt(one.parent / "motion.txt", motion)
    with_motion = read(one, reader=READER, table=folder / "labels.txt", confounds="motion.txt")
    without = read(one, reader=READER, table=folder / "labels.txt")
    assert without.descriptors["residual_dof"] - with_motion.descriptors["residual_dof"] == 4
    values = np.asarray(nib.load(one).dataobj)
    moved = save(one.with_name("moved_bold.nii"), values + (50 * motion.sum(axis=1)).astype(np.float32))
    cleaned = read(moved, reader=READER, table=folder / "labels.txt", confounds="motion.txt")
    np.testing.assert_allclose(cleaned.measurements, with_motion.measurements, atol=0.5)
    moving = read(moved, reader=READER, table=folder / "labels.txt")
    assert np.abs(moving.measurements - without.measurements).max() > 10


def test_a_region_is_read_without_the_rest_of_the_series_in_memory(tmp_path):
    shape = (40, 40, 20, N_VOLUMES)
    save(tmp_path / "large_bold.nii", np.random.default_rng(0).integers(0, 1000, shape, dtype=np.int16))
    (tmp_path / "large_events.tsv").write_text(events_text())
    mask = np.zeros(shape[:3], np.uint8)
    mask[20:22, 20:22, 10] = 1
    save(tmp_path / "mask.nii", mask)
    read(tmp_path / "large_bold.nii", reader=READER, mask=tmp_path / "mask.nii")
    tracemalloc.start()
    data = read(tmp_path / "large_bold.nii", reader=READER, mask=tmp_path / "mask.nii")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.n_channel == 4
    assert peak < 2 * np.prod(shape) / 4


def test_the_reader_keeps_the_contract(one):
    check_reader(READER, one)


def test_files_are_recognised_by_their_names(tmp_path):
    taken = [name for name in ("bold.nii", "a_bold.nii.gz", "betas.nii", "boldness.nii", "a_bold.json") if
             READER.sniff(tmp_path / name)]  # fmt: skip
    assert taken == ["bold.nii", "a_bold.nii.gz"]
    (tmp_path / "bold.nii").mkdir()
    assert not READER.sniff(tmp_path / "bold.nii")


def test_a_subject_is_known_by_the_name_of_the_file(one):
    named = one.with_name("sub-07_task-x_bold.nii.gz")
    one.rename(named)
    (one.parent / "sub-07_task-x_events.tsv").write_text((one.parent / "events.tsv").read_text())
    data = read(named, reader=READER)
    assert data.descriptors["subject"] == "07"
    assert list(data.obs_descriptors["run"]) == ["1"] * 3


def test_a_pattern_of_folders_gives_a_subject_each(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("subjects")
    for subject in ("sub001", "sub002"):
        (root / subject).mkdir()
        (root / subject / "BOLD").symlink_to(folder)
    found = read(root / "sub*" / "BOLD", reader=READER, runs="*/bold.nii.gz", events="events.tsv")
    assert [data.descriptors["subject"] for data in found] == ["sub001", "sub002"]


def test_runs_whose_names_are_not_unique_are_numbered(tmp_path):
    assert run_names(tmp_path, [tmp_path / "run1" / "a.nii", tmp_path / "run1" / "b.nii"]) == ["1", "2"]
    assert run_names(tmp_path, [tmp_path / "sub-run9" / "run-02_bold.nii"]) == ["02"]
    assert run_names(tmp_path, [tmp_path / run / "b.nii" for run in ("run_01", "Run_02")]) == ["01", "02"]
    assert run_names(tmp_path, [tmp_path / "runner.nii", tmp_path / "trunk.nii"]) == ["1", "2"]


@pytest.mark.parametrize(
    ("value", "unit", "seconds"), [(2.5, "sec", 2.5), (2500.0, "msec", 2.5), (2.5, "unknown", None)]
)
def test_the_repetition_time_is_read_in_its_unit(tmp_path, value, unit, seconds):
    file = save(tmp_path / "bold.nii", np.zeros((*SHAPE, 3), np.uint8), t_r=value, unit=unit)
    assert header_time(file) == (None if seconds is None else pytest.approx(seconds))


# Refusals


@pytest.mark.parametrize(
    ("value", "unit", "message"),
    [
        (2500.0, "sec", "as 2500 s; give t_r="),
        (0.0, "sec", "as 0 s; give t_r="),
        (2.0, "unknown", "in no known unit; give"),
    ],
)
def test_an_unlikely_repetition_time_is_refused_and_can_be_given(one, value, unit, message):
    image = nib.load(one)
    file = save(one.with_name("odd_bold.nii"), np.asarray(image.dataobj), t_r=value, unit=unit)
    with pytest.raises(BrainrdlError, match=f"'odd_bold.nii' gives the time from volume to volume {message}"):
        read(file, reader=READER, events="events.tsv")
    given_by_hand = read(file, reader=READER, events="events.tsv", t_r=T_R)
    np.testing.assert_allclose(given_by_hand.measurements, read(one, reader=READER).measurements)
    with pytest.raises(BrainrdlError, match="t_r must be a number above 0, got '2'"):
        repetition_time(file, "2")
    for unlikely in (2500, 0.002):
        with pytest.raises(
            BrainrdlError, match=f"t_r must be seconds .* 0.05 to 60, got {unlikely}; is it in millisec"
        ):
            read(one, reader=READER, t_r=unlikely)


def test_a_wrong_repetition_time_shows_in_the_events(one):
    with pytest.raises(BrainrdlError, match=r"events are outside run '1', which is 50 s long.*is t_r right\?"):
        read(one, reader=READER, t_r=0.5)


def refused(message, path, **options):
    with pytest.raises(BrainrdlError, match=message):
        read(path, reader=READER, **options)


def test_events_that_are_not_there_are_refused(folder, one):
    refused("events='no.tsv' is neither a file in the folder of '.*' nor a path", one, events="no.tsv")
    refused("confounds='no.txt' is neither a file in the folder of", one, confounds="no.txt")
    refused("there is no file 'no.txt'", one, table="no.txt")
    one.with_name("events.tsv").unlink()
    refused(r"no events 'events.tsv' in the folder of the series 'bold.nii.gz'; give events=, or table=", one)


def test_options_that_contradict_each_other_are_refused(folder, one):
    refused("table= labels the volumes of one series; give it without events= and", one, table="x", events="events.tsv")
    refused("table= labels the volumes of one series", folder, table="x", runs="*/bold.nii.gz")
    refused(r"runs='\*' selects series of a folder, but this is a single file", one, runs="*")
    refused("run_column='run' is a column of table=, which is not given", one, run_column="run")
    refused(r"which files of the folder are the runs\? Give their pattern", folder)
    refused(r"runs='\*/no.nii' matches no file in the folder", folder, runs="*/no.nii")


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (["rest", "fixation"], r"baseline 'fixation' occurs in no run; there are \['cat', 'face', 'house'\]"),
        ("rest,face", "baseline 'rest,face' occurs in no run; nearest: 'face'"),
        ("House", "baseline 'House' occurs in no run; nearest: 'house'"),
        ("", "baseline '' occurs in no run"),
    ],
)
def test_a_baseline_that_occurs_in_no_run_is_refused(folder, one, baseline, message):
    refused(message, one, baseline=baseline)
    refused(message, folder, runs="*/bold.nii.gz", events="events.tsv", baseline=baseline)
    (folder / "labels.txt").write_text("".join(f"{name} 1\n" for name in ["cat", "face", "house", "cat"] * 25))
    refused(message, one, table=folder / "labels.txt", baseline=baseline)


def test_a_baseline_of_one_run_is_enough_and_spaces_around_it_do_not_count(folder):
    events = folder / "task_run002" / "events.tsv"
    events.write_text(events.read_text() + "185\t2\tfixation\n")
    options = {"runs": "*/bold.nii.gz", "events": "events.tsv"}
    data = read(folder, reader=READER, baseline=["rest", " fixation "], **options)
    assert set(data.obs_descriptors["stimulus"]) == set(CONDITIONS)
    everything = read(folder, reader=READER, baseline=None, **options)
    assert set(everything.obs_descriptors["stimulus"]) == {*CONDITIONS, "fixation"}


def flat(folder):
    """All runs in one folder, the events of each in a file named after its run."""
    for run in (1, 2):
        (folder / f"task_run{run:03d}" / "bold.nii.gz").rename(folder / f"run{run}.nii.gz")
        (folder / f"task_run{run:03d}" / "events.tsv").rename(folder / f"shown_{run}.tsv")
        np.savetxt(folder / f"motion_{run}.txt", np.random.default_rng(run).normal(size=(N_VOLUMES, 2)))
    return folder


def test_runs_that_would_share_a_table_are_refused(folder):
    whole = folder / "task_run001" / "events.tsv"
    options = {"runs": "*/bold.nii.gz"}
    refused(r"events='.*' gives one table to several of 2 runs; give the name of", folder, events=whole, **options)
    np.savetxt(folder / "motion.txt", np.random.default_rng(0).normal(size=(N_VOLUMES, 2)))
    motion = {"events": "events.tsv", "confounds": folder / "motion.txt"}
    refused(r"confounds='.*' gives one table to several of 2 runs; .*a name with \{run\}", folder, **motion, **options)
    flat(folder)
    (folder / "shown_2.tsv").unlink()
    (folder / "shown_2.tsv").symlink_to("shown_1.tsv")
    refused("events='shown_1.tsv' gives one table to several", folder, runs="run*.nii.gz", events="shown_1.tsv")
    refused(r"'shown_\{run\}.tsv' gives one table", folder, runs="run*.nii.gz", events="shown_{run}.tsv")


def test_tables_with_a_run_in_their_name_belong_to_that_run(folder):
    expected = read(folder, reader=READER, runs="*/bold.nii.gz", events="events.tsv")
    flat(folder)
    found = read(folder, reader=READER, runs="run*.nii.gz", events="shown_{run}.tsv")
    np.testing.assert_array_equal(found.measurements, expected.measurements)
    (folder / "elsewhere").mkdir()
    for run in (1, 2):
        (folder / f"motion_{run}.txt").rename(folder / "elsewhere" / f"motion_{run}.txt")
    options = {"events": "shown_{run}.tsv", "confounds": folder / "elsewhere" / "motion_{run}.txt"}
    cleaned = read(folder, reader=READER, runs="run*.nii.gz", **options)
    assert cleaned.descriptors["residual_dof"] == expected.descriptors["residual_dof"] - 4
    for run, name in ((1, "one"), (2, "two")):
        (folder / f"run{run}.nii.gz").rename(folder / f"{name}.nii.gz")
    refused(
        "needs the names of runs, but the paths .*one.nii.gz.* do not contain", folder, runs="*o*e.nii.gz", **options
    )
    refused("needs the names of runs", folder, runs="*[neo].nii.gz", **options)


def test_files_that_were_not_downloaded_are_refused(folder, one):
    options = {"runs": "*/bold.nii.gz", "events": "events.tsv"}
    for name in ("bold.nii.gz", "events.tsv"):
        file = folder / "task_run002" / name
        content = file.read_bytes()
        file.unlink()
        file.symlink_to("../.git/annex/objects/x")
        refused(
            rf"task_run002.{name}' is a link to a file that was not downloaded; fetch it first \(datalad get",
            folder,
            **options,
        )
        file.unlink()
        file.write_bytes(content)


def test_a_damaged_run_or_table_is_named(folder):
    options = {"runs": "*/bold.nii.gz", "events": "events.tsv"}
    events = folder / "task_run002" / "events.tsv"
    text = events.read_text()
    events.write_bytes(text.replace("face", "No\xebl").encode("latin-1"))
    refused("the events '.*task_run002.events.tsv': .*UTF-8", folder, **options)
    events.write_text(text.replace("trial_type", "name"))
    refused("the events '.*task_run002.events.tsv': .*choose one with condition_column=", folder, **options)
    events.write_text(text)
    second = folder / "task_run002" / "bold.nii.gz"
    second.write_bytes(second.read_bytes()[:-3000])
    refused("the series '.*task_run002.bold.nii.gz' could not be read; is it cut off or damaged", folder, **options)


def test_events_of_other_programs_are_refused_with_a_remedy(one):
    (one.parent / "face.txt").write_text("6 12 1\n36 12 1\n")
    refused("of FSL holds one condition: write all events of a run into one table", one, events="face.txt")
    (one.parent / "conditions.mat").write_bytes(b"MATLAB 5.0")
    refused("are a .mat file, like the multiple conditions of SPM; write names, onsets", one, events="conditions.mat")
    (one.parent / "sub-1_desc-confounds_timeseries.tsv").write_text("trans_x\n")
    words = "is 'sub-1_desc-confounds_timeseries.tsv', a table of fMRIPrep, .* reader 'bids', which chooses columns"
    refused(words, one, confounds="sub-1_desc-confounds_timeseries.tsv")


def test_labels_with_pymvpas_names_of_columns_are_read_and_other_names_are_refused(folder, one):
    rows = [f"{'face' if 9 < volume % 50 < 20 else 'rest'} {volume // 50}" for volume in range(N_VOLUMES)]
    table = folder / "labels.txt"
    table.write_text("\n".join(rows))
    expected = read(one, reader=READER, table=table)
    table.write_text("\n".join(["labels chunks", *rows]))
    np.testing.assert_array_equal(read(one, reader=READER, table=table).measurements, expected.measurements)
    table.write_text("\n".join(["what block", *rows[1:]]))
    refused("run 'block' has one volume, labelled 'what'; if these are the names of columns, give", one, table=table)
    table.write_bytes("\n".join(rows).replace("face", "No\xebl").encode("latin-1"))
    refused("table= '.*labels.txt': .*UTF-8", one, table=table)


def test_labels_that_do_not_fit_the_volumes_are_refused(folder, one):
    table = folder / "labels.txt"
    table.write_text("face 1\n" * 99)
    refused("there are 99 labels for 100 volumes; give one per volume", one, table=table)
    table.write_text("face 1\n" * 50 + "face 2\n" * 40 + "face 1\n" * 10)
    refused(
        r"names \['1'\] occur more than once in the runs of the volumes: the volumes of a run must", one, table=table
    )
    table.write_text("face 1\n" * 50 + "rest 2\n" * 50)
    refused("the labels of run '2' hold no event of a condition", one, table=table)
    table.write_text("face 1\nrest 1\n" * 50)
    (one.parent / "motion.txt").write_text("1\n2\n")
    refused("there are 2 confounds for 100 volumes", one, table=table, confounds="motion.txt")


def test_runs_on_different_grids_are_refused(folder):
    second = folder / "task_run002" / "bold.nii.gz"
    options = {"runs": "*/bold.nii.gz", "events": "events.tsv"}
    values = np.asarray(nib.load(second).dataobj)
    save(second, values[:2])
    refused(r"task_run002.*has shape \(2, 4, 5\), but '.*task_run001.*' has \(3, 4, 5\)", folder, **options)
    save(second, values, affine=np.diag([3.0, 3.0, 3.1, 1.0]))
    refused(r"task_run002.*has the affine .*3\.1.*, but '.*task_run001", folder, **options)
    save(second, values[..., 0])
    refused(r"'bold.nii.gz' holds one volume of shape \(3, 4, 5\); a BOLD series has four axes", folder, **options)
    second.write_bytes(b"")
    refused(r"the series '.*task_run002.bold.nii.gz': the file is empty", folder, **options)


def test_a_mask_on_another_grid_is_refused(folder, one):
    save(folder / "small.nii", np.ones((2, 2, 2), np.uint8))
    refused(
        r"mask.* '.*small.nii'.* has shape \(2, 2, 2\), but the map has \(3, 4, 5\)", one, mask=folder / "small.nii"
    )


def test_a_region_without_a_voxel_that_varies_is_refused(folder, one):
    values = np.asarray(nib.load(one).dataobj).copy()
    flat = np.asarray(nib.load(folder / "atlas.nii.gz").dataobj) == 2
    values[flat] = 5
    save(one, values)
    refused("no voxel of region 'IT' varies in all runs", one, atlas=folder / "atlas.nii.gz")
    refused("no voxel of run '1' varies", one, atlas=folder / "atlas.nii.gz", roi="IT")
    other = folder / "task_run002" / "bold.nii.gz"
    values = np.asarray(nib.load(other).dataobj).copy()
    values[~flat] = 5
    save(other, values)
    refused("no voxel varies in all runs", folder, runs="*/bold.nii.gz", events="events.tsv")


def test_without_nilearn_the_message_names_it(one, monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn.glm.first_level", None)
    refused(r"first-level models need nilearn.*pip install nilearn$", one)


# Damage

FUZZ = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def result_of(path, **options):
    """Read a damaged file: the data, or None for a refusal that names the file and the reader."""
    try:
        return read(path, reader=READER, **options)
    except BrainrdlError as error:
        message = str(error)
    assert f"'{path}' (reader 'bold')" in message
    return None


@pytest.fixture
def damaged(one):
    """The content of a sound series, and where a damaged one goes."""
    plain = one.with_name("plain_bold.nii")
    plain.write_bytes(gzip.decompress(one.read_bytes()))
    return {"gz": (one.read_bytes(), one.with_name("bad_bold.nii.gz")), "nii": (plain.read_bytes(), plain)}


@pytest.mark.parametrize("kind", ["gz", "nii"])
@FUZZ
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_series_cut_off_is_refused(one, damaged, kind, part):
    content, file = damaged[kind]
    file.write_bytes(content[: int(part * len(content))])
    assert result_of(file, events="events.tsv") is None


@pytest.mark.parametrize("kind", [pytest.param("gz", marks=pytest.mark.slow), "nii"])
@FUZZ
@given(flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 7)), min_size=1, max_size=6))
def test_a_series_with_flipped_bits_in_its_header_gives_data_or_a_refusal(one, damaged, kind, flips):
    content, file = damaged[kind]
    flipped = bytearray(gzip.decompress(content) if kind == "gz" else content)
    for place, bit in flips:
        flipped[place] ^= 1 << bit
    file.write_bytes(gzip.compress(flipped, 1) if kind == "gz" else flipped)
    found = result_of(file, events="events.tsv")
    assert found is None or np.isfinite(found.measurements).all()


@FUZZ
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_compressed_series_with_a_flipped_bit_gives_the_same_data_or_a_refusal(one, damaged, place, bit):
    content, file = damaged["gz"]
    flipped = bytearray(content)
    flipped[int(place * len(content))] ^= 1 << bit
    file.write_bytes(flipped)
    found = result_of(file, events="events.tsv")
    if found is not None:
        np.testing.assert_array_equal(found.measurements, read(one, reader=READER).measurements)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_huge_shape_in_a_small_file_is_refused_before_memory_is_allocated(tmp_path, suffix):
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000, 1000))
    header.set_data_dtype(np.float64)
    content = header.binaryblock + b"\0" * 1000
    file = tmp_path / f"bold{suffix}"
    file.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    tracemalloc.start()
    assert result_of(file) is None
    assert tracemalloc.get_traced_memory()[1] < 10**8
    tracemalloc.stop()


@FUZZ
@given(content=st.binary(max_size=300))
def test_any_bytes_for_a_table_give_data_or_a_refusal(one, content):
    for name in ("events.tsv", "labels.txt", "motion.txt"):
        one.with_name(f"bad_{name}").write_bytes(content)
    result_of(one, events="bad_events.tsv")
    result_of(one, table=one.with_name("bad_labels.txt"))
    result_of(one, confounds="bad_motion.txt")


def test_regions_give_the_voxels_of_all_sorted():
    regions = Regions((("V1", np.array([3, 4])), ("V2", np.array([1, 4]))), (2, 2, 2))
    assert regions.voxels.tolist() == [1, 3, 4]
