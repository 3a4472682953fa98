"""The commands about files and data sets: rdm, doctor, data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rsatoolbox.data import Dataset
from rsatoolbox.rdm.rdms import load_rdm
from typer.testing import CliRunner

from brainrdl import RDMTeacher, calc_rdm, datasets, rdms, read
from brainrdl._core import progress
from brainrdl.cli.app import app
from tests.cli.test_app import _refused, _run

NAMES = ["cat", "dog", "car", "bus"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Maps of four conditions in two runs with an atlas, four images, and an RDM file."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(6, 5, 4, 4))
    betas = np.concatenate([signal + rng.normal(size=signal.shape) for _ in (1, 2)], axis=-1)
    atlas = np.ones((6, 5, 4), np.int16)
    atlas[3:] = 2
    nib.save(nib.Nifti1Image(betas.astype(np.float32), np.eye(4)), folder / "betas.nii.gz")
    nib.save(nib.Nifti1Image(atlas, np.eye(4)), folder / "atlas.nii.gz")
    rows = "".join(f"{name}\t{name.upper()}\t{run}\n" for run in (1, 2) for name in NAMES)
    (folder / "betas.tsv").write_text("condition\tshouted\trun\n" + rows)
    (folder / "atlas.tsv").write_text("index\tname\n1\tV1\n2\tIT\n")
    (folder / "images").mkdir()
    for name in NAMES:
        image = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
    rdms.from_array(rng.random((3, 6)), NAMES, descriptors={"subject": list("abc")}).save(
        str(folder / "it.h5"), file_type="hdf5"
    )
    return folder


def test_rdm_writes_what_the_python_api_computes(folder: Path) -> None:
    done = _run("rdm", "betas.nii.gz", "--read", "atlas=atlas.nii.gz", "-d", "crossnobis", "-o", "a.h5", folder=folder)
    assert "2 RDMs of 4 conditions, crossnobis (roi: V1, IT)" in done.stdout
    expected = calc_rdm(read(folder / "betas.nii.gz", atlas=folder / "atlas.nii.gz"), "crossnobis")
    found = load_rdm(str(folder / "a.h5"), file_type="hdf5")
    np.testing.assert_allclose(found.dissimilarities, expected.dissimilarities)
    assert RDMTeacher(folder / "a.h5").targets == ("V1", "IT")


@pytest.mark.parametrize("option", ["", "--quiet", "--json"])
def test_some_options_hide_the_progress_of_reading(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    for number in (1, 2):
        np.save(tmp_path / f"sub-{number}.npy", np.random.default_rng(number).random((1, 6)))
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    words = ["rdm", str(tmp_path / "sub-*.npy"), "--names", str(tmp_path / "names.txt"), "-o", str(tmp_path / "all.h5")]
    wrong = CliRunner().invoke(app, ["rdm", "--quiet", "--no-such-option"])
    done = CliRunner().invoke(app, [*words, option] if option else words)
    assert (wrong.exit_code, done.exit_code) == (2, 0), done.output
    assert ("files: 1 of 2" in done.stderr) == (not option)


def test_rdm_takes_regions_columns_and_noise_normalisation(folder: Path) -> None:
    options = ("--read", "atlas=atlas.nii.gz", "--roi", "IT", "--condition-column", "shouted")
    _run("rdm", "betas.nii.gz", *options, "--noise-normalisation", "diag", "-o", "b.csv", folder=folder)
    found = pd.read_csv(folder / "b.csv")
    assert set(found["a"]) | set(found["b"]) == {name.upper() for name in NAMES}
    assert set(found["roi"]) == {"IT"}
    data = read(folder / "betas.nii.gz", atlas=folder / "atlas.nii.gz", roi="IT", condition_column="shouted")
    np.testing.assert_allclose(found["dissimilarity"], calc_rdm(data, noise="diag").dissimilarities[0])


def test_rdm_estimates_noise_in_each_run(folder: Path) -> None:
    words = ("rdm", "betas.nii.gz", "--read", "atlas=atlas.nii.gz", "--roi", "IT", "-o", "per_run.csv")
    error = _refused(*words, "--noise-normalisation", "diag", "--noise-per", "run", folder=folder)
    assert "of the 4 conditions is observed once" in error
    error = _refused(*words, "--noise-per", "run", folder=folder)
    assert "--noise-per 'run' says where noise is estimated; set --noise-normalisation METHOD to diag" in error


def test_rdm_of_a_network_has_one_rdm_a_layer_in_the_order_of_the_images(folder: Path) -> None:
    words = ("rdm", "--model", "small_cnn", "--layers", "pool", "logits", "--stimuli", "images", "-o", "net.tsv")
    facts = json.loads(_run(*words, "--json", folder=folder).stdout)
    assert facts["layer"] == ["pool", "logits"]
    assert (facts["n_rdms"], facts["n_conditions"]) == (2, 4)
    assert sorted(read(folder / "net.tsv").pattern_descriptors["stimulus"]) == sorted(NAMES)


def test_random_weights_are_told_and_the_same_each_time(folder: Path) -> None:
    words = ("rdm", "--model", "small_cnn", "--layers", "pool", "--stimuli", "images", "-o")
    told = _run(*words, "w0.h5", folder=folder).stdout
    assert "weights: random, seed 0" in told
    _run(*words, "w0_again.h5", folder=folder)
    _run(*words, "w1.h5", "--seed", "1", folder=folder)
    first, again, other = (load_rdm(str(folder / f"{name}.h5"), file_type="hdf5") for name in ("w0", "w0_again", "w1"))
    np.testing.assert_array_equal(first.dissimilarities, again.dissimilarities)
    assert not np.allclose(first.dissimilarities, other.dissimilarities)
    assert (list(first.rdm_descriptors["model"]), list(other.rdm_descriptors["weights"])) == (
        ["small_cnn"],
        ["random, seed 1"],
    )


def test_options_of_a_reader_given_twice_are_a_list_and_numbers_are_numbers(folder: Path) -> None:
    options = ("--read", "atlas=atlas.nii.gz", "--read", "roi=IT", "--read", "roi=V1", "-d", "crossnobis")
    facts = json.loads(_run("rdm", "betas.nii.gz", *options, "-o", "two.h5", "--json", folder=folder).stdout)
    assert facts["roi"] == ["IT", "V1"]
    (folder / "ratings.csv").write_text("a,b,rating\ncat,dog,6\ncat,car,1\ndog,car,2\n")
    _run("rdm", "ratings.csv", "--read", "similarity=7", "-o", "ratings.h5", folder=folder)
    found = load_rdm(str(folder / "ratings.h5"), file_type="hdf5")
    np.testing.assert_array_equal(found.dissimilarities, [[1, 6, 5]])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("it.h5", "-d", "crossnobis", "--window", "0:1", "--noise-normalisation", "full", "--runs", "x"),
            "'it.h5' contains RDMs already, which are written unchanged; leave out ['--dissimilarity', "
            "'--noise-normalisation', '--runs', '--window']",
        ),
        (
            ("betas.nii.gz", "--stimuli", "images", "--layers", "pool", "--seed", "0"),
            "some options need --model or --run; leave out ['--seed', '--layers', '--stimuli']",
        ),
        (
            ("--model", "small_cnn", "--layers", "pool", "--stimuli", "images", "--read", "a=b", "--roi", "IT"),
            "--model computes RDMs of a network; leave out ['--roi', '--read']",
        ),
        (
            ("betas.nii.gz", "--read", "atlas=atlas.nii.gz", "--read", "roi=V1", "--roi", "IT"),
            "an option is given twice; leave out ['--read roi']",
        ),
        (
            ("--model", "small_cnn", "--layers", "pool", "--stimuli", "images", "-d", "crossnobis"),
            "--dissimilarity crossnobis is cross-validated over runs, and a network has no runs",
        ),
        (
            ("ratings.csv", "--read", "similarity=much"),
            "option --read similarity of reader 'csv' should be bool | float | None",
        ),
    ],
)
def test_options_that_would_do_nothing_or_are_of_another_type_are_refused(
    folder: Path, words: tuple[str, ...], message: str
) -> None:
    (folder / "ratings.csv").write_text("a,b,rating\ncat,dog,6\ncat,car,1\ndog,car,2\n")
    assert message in _refused("rdm", *words, "-o", "none.h5", folder=folder)
    assert not (folder / "none.h5").exists()


def test_rdm_writes_rdms_that_a_file_holds_already_as_they_are(folder: Path) -> None:
    _run("rdm", "it.h5", "-o", "copy.csv", folder=folder)
    kept, before = read(folder / "copy.csv"), read(folder / "it.h5")
    np.testing.assert_array_equal(kept.dissimilarities, before.dissimilarities)


def test_rdm_makes_one_rdm_a_time_window(tmp_path: Path) -> None:
    from rsatoolbox.data import TemporalDataset

    values = np.random.default_rng(0).normal(size=(4, 8, 5))
    time = {"time": np.linspace(0, 0.4, 5)}
    data = TemporalDataset(values, obs_descriptors={"stimulus": NAMES}, time_descriptors=time)
    data.save(str(tmp_path / "meg.h5"), file_type="hdf5")
    _run("rdm", "meg.h5", "--window", "0:0.1", "--window", "0.3:0.4", "-o", "movie.h5", folder=tmp_path)
    assert RDMTeacher(tmp_path / "movie.h5", target_by="time").targets == ("0.05", "0.35")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("betas.nii.gz", "-o", "x.txt"),
            "--out 'x.txt' is not an RDM file; choose a name that ends in .h5, .hdf5, .csv, .tsv",
        ),
        (("it.h5", "-o", "it.h5"), "'it.h5' exists already; replace with --overwrite"),
        ((), "give one file, folder or pattern in quotes, or --model; got nothing"),
        (("a.nii", "b.nii"), "give one file, folder or pattern in quotes"),
        (("betas.nii.gz", "--window", "soon"), "--window 'soon' should be START:END in seconds"),
        (("betas.nii.gz", "--window", "2:1"), "--window '2:1' ends before it starts"),
        (("--model", "resnet18"), "--model resnet18 needs --layers and --stimuli; `brainrdl layers resnet18`"),
        (("betas.nii.gz", "--roi", "IT"), "betas.nii.gz"),
        (("betas.nii.gz", "-d", "correlatoin"), "--dissimilarity 'correlatoin' is not known; nearest: 'correlation'"),
    ],
)
def test_rdm_refuses_what_it_cannot_do(folder: Path, words: tuple[str, ...], message: str) -> None:
    out = () if "-o" in words else ("-o", "refused.h5")
    assert message in _refused("rdm", *words, *out, folder=folder)
    assert not (folder / "refused.h5").exists()


@pytest.mark.slow
def test_doctor_prints_draws_and_passes_a_sound_file(folder: Path) -> None:
    done = _run("doctor", "it.h5", "--stimuli", "images", "--out", "it.png", folder=folder)
    assert "it.h5" in done.stdout
    assert (folder / "it.png").stat().st_size > 10_000
    facts = json.loads(_run("doctor", "it.h5", "--json", folder=folder).stdout)
    assert facts["can_teach"] is True


def test_doctor_fails_on_a_file_that_cannot_teach(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.ones(6))
    done = _run("doctor", "flat.npy", folder=tmp_path, status=1)
    assert "constant" in done.stdout


def test_data_lists_describes_and_fetches(tmp_path: Path, data_folder: Path) -> None:
    rows = json.loads(_run("data", "list", "--json", "--folder", tmp_path).stdout)
    assert [row["name"] for row in rows] == list(datasets.names())
    assert {row["here"] for row in rows} <= {"no", "offline copy"}
    assert "cite      Kriegeskorte et al. (2008)" in _run("data", "info", "kriegeskorte92").stdout
    assert json.loads(_run("data", "info", "mnist", "--json").stdout)["doi"] == "10.1109/5.726791"
    done = _run("data", "fetch", "kriegeskorte92", "--folder", tmp_path)
    assert "5.1 MB; licence: MIT" in done.stdout
    assert (tmp_path / "kriegeskorte92" / "92_brainRDMs.mat").is_file()


def test_data_example_writes_files_that_other_commands_read(tmp_path: Path) -> None:
    assert "20 new example files and folders" in _run("data", "example", folder=tmp_path).stdout
    assert "0 new example files" in _run("data", "example", tmp_path).stdout
    assert json.loads(_run("doctor", "it.h5", "--json", folder=tmp_path).stdout)["can_teach"] is True


def test_data_refuses_an_unknown_name() -> None:
    assert "nearest: 'mnist'" in _refused("data", "info", "mnits")


def test_the_commands_load_nothing_heavy_before_they_run() -> None:
    code = "import sys; import brainrdl.cli.file_commands; print({'torch', 'pandas', 'rsatoolbox'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_doctor_is_told_what_tells_targets_apart(folder: Path) -> None:
    times = {"subject": list("aabb"), "time": ["0.1", "0.2"] * 2, "condition": list("xyxy")}
    made = rdms.from_array(np.random.default_rng(0).random((4, 6)), NAMES, descriptors=times)
    made.save(str(folder / "movie.h5"), file_type="hdf5")
    assert json.loads(_run("doctor", "movie.h5", "--json", folder=folder).stdout)["facts"]["subjects"] == ["a", "b"]
    _run("doctor", "movie.h5", "--target-by", "condition", folder=folder)
    assert "--target-by 'tim' is not an rdm descriptor of the RDMs" in _refused(
        "doctor", "movie.h5", "--target-by", "tim", folder=folder
    )


def test_the_doctor_spells_its_advice_as_options(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "bare.npy", np.arange(6.0))
    told = _run("doctor", "bare.npy", folder=tmp_path, status=1).stdout
    assert "give --names FILE in the order of the file, or choose another descriptor with --read by=VALUE" in told
    (row,) = json.loads(_run("doctor", "bare.npy", "--json", folder=tmp_path, status=1).stdout)["findings"][-1:]
    assert "names=" not in str(row)


def test_measurements_are_taken_by_the_doctor(tmp_path: Path) -> None:
    data = Dataset(np.random.default_rng(0).normal(size=(8, 20)), obs_descriptors={"stimulus": NAMES * 2})
    data.save(str(tmp_path / "data.h5"), file_type="hdf5")
    assert json.loads(_run("doctor", "data.h5", "--json", folder=tmp_path).stdout)["can_teach"] is True
