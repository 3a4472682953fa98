"""The command searchlight: maps of one subject, a group test of several, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainrdl import rdms, read, searchlight
from brainrdl.searchlights import volume_neighbourhoods
from tests.cli.test_app import _refused, _run

NAMES = ["cat", "dog", "car", "bus", "tree"]
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
ORDER = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))[np.triu_indices(5, 1)].astype(float)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Betas of six subjects, with an effect on one side of the brain, a mask and model RDMs in another order."""
    folder = tmp_path_factory.mktemp("searchlight")
    rng = np.random.default_rng(0)
    mask = np.ones((7, 6, 5), np.uint8)
    mask[0, 0, 0] = 0
    nib.save(nib.Nifti1Image(mask, AFFINE), folder / "mask.nii.gz")
    nib.save(nib.Nifti1Image(mask, np.eye(4)), folder / "other_mask.nii.gz")
    rows = "".join(f"{name}\t{run}\n" for run in (1, 2) for name in NAMES)
    for subject in range(1, 7):
        betas = rng.normal(size=(7, 6, 5, 10))
        betas[4:] += np.tile(np.arange(5), 2) * rng.normal(size=(3, 6, 5, 1))
        if subject == 1:
            betas[2, 2, 2, 3] = np.nan
        nib.save(nib.Nifti1Image(betas.astype(np.float32), AFFINE), folder / f"sub-{subject}_betas.nii.gz")
        (folder / f"sub-{subject}_betas.tsv").write_text("condition\trun\n" + rows)
    model = rdms.select(rdms.from_array(ORDER, NAMES), NAMES[::-1])
    model.save(str(folder / "line.h5"), file_type="hdf5")
    rdms.from_array(rng.random(10), NAMES).save(str(folder / "random.h5"), file_type="hdf5")
    rdms.from_array(rng.random(10), [*NAMES[:4], "boat"]).save(str(folder / "boat.h5"), file_type="hdf5")
    return folder


OPTIONS = ("--mask", "mask.nii.gz", "--radius", "5", "--model", "line.h5", "--model", "random.h5")


def test_a_subject_gets_maps_that_equal_the_python_api(folder: Path) -> None:
    done = _run("searchlight", "sub-1_betas.nii.gz", *OPTIONS, "-d", "crossnobis", "--out", "one", folder=folder)
    assert "left out: 1 channel: not in the data" in done.stdout
    assert "highest peaks" in done.stdout
    near = volume_neighbourhoods(folder / "mask.nii.gz", 5)
    data = read(folder / "sub-1_betas.nii.gz", mask=folder / "mask.nii.gz")
    expected = searchlight(data, near, {"line": rdms.from_array(ORDER, NAMES)}, dissimilarity="crossnobis")
    image = nib.load(folder / "one" / "line.nii.gz").get_fdata()
    np.testing.assert_allclose(image[tuple(near.centres[k] for k in "ijk")], expected.values[:, 0], rtol=1e-6)
    table = pd.read_csv(folder / "one" / "scores.csv")
    assert table.line[table.i >= 5].mean() > 0.5 > abs(table.line[table.i <= 1].mean())


def test_several_subjects_are_tested(folder: Path) -> None:
    files = [f"sub-{subject}_betas.nii.gz" for subject in range(1, 7)]
    shown = _run("searchlight", *files, *OPTIONS, "--p-threshold", "0.01", "--out", "group", "--json", folder=folder)
    clusters = pd.DataFrame(json.loads(shown.stdout))
    best = clusters[clusters.model == "line"].iloc[0]
    assert best.p < 0.05
    assert best.i >= 3
    assert not len(clusters[(clusters.model == "random") & (clusters.p < 0.01)])
    assert (folder / "group" / "line_p_fwe.nii.gz").is_file()
    assert (folder / "group" / "sub-3" / "line.nii.gz").is_file()


def test_existing_maps_are_not_replaced(folder: Path) -> None:
    words = ("searchlight", "sub-2_betas.nii.gz", *OPTIONS, "--out", "again")
    _run(*words, folder=folder)
    assert "'again' exists already; replace with --overwrite" in _refused(*words, folder=folder)
    _run(*words, "--overwrite", folder=folder)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mask", "other_mask.nii.gz"), "affine"),
        (("sub-1_betas.nii.gz", "sub-2_betas.nii.gz"), "['sub-2_betas.nii.gz'] are given more than once; give one"),
        (("--mask", "sub-1_betas.tsv"), "--mask 'sub-1_betas.tsv' cannot be read as an image"),
        (("--model", "boat.h5"), "only in the data ['tree'], only in the model ['boat']; rename them"),
        (("--model", "boat.h5"), "with --common"),
        (("--radius", "1"), "radius 1 mm reaches no other voxel"),
        (("--min-channels", "500"), "--min-channels 500"),
        (("--runs", "trial", "-d", "crossnobis"), "(they have ['stimulus', 'run']); give --runs NAME"),
        (("-d", "mahalanobis"), "needs --noise-normalisation METHOD"),
        (("--surface", "lh.white"), "--mask FILE for voxels, or --surface FILE for vertices"),
        (("-c", "pearson"), "nearest: 'corr'"),
    ],
)  # fmt: skip
def test_what_cannot_be_computed_is_refused(folder: Path, words: tuple[str, ...], message: str) -> None:
    assert message in _refused("searchlight", "sub-2_betas.nii.gz", *OPTIONS, *words, "--out", "refused", folder=folder)
    assert not (folder / "refused").exists()


def test_rdms_are_not_measurements(folder: Path) -> None:
    assert "it holds RDMs, not measurements" in _refused(
        "searchlight", "line.h5", *OPTIONS, "--out", "refused", folder=folder
    )
