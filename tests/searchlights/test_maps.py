"""Maps: peaks, files that nibabel and MNE read back, and what is refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainrdl import BrainrdlError
from brainrdl.searchlights import (
    Neighbourhoods,
    SearchlightMap,
    over_time,
    sensor_neighbourhoods,
    surface_neighbourhoods,
    volume_neighbourhoods,
)

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def mapped(near: Neighbourhoods, seed: int = 0) -> SearchlightMap:
    values = np.random.default_rng(seed).normal(size=(len(near.centres), 2))
    values[1] = np.nan
    return SearchlightMap(near, values, ("faces & houses", "pixels"), np.zeros(len(values), int))


def ball() -> Neighbourhoods:
    return volume_neighbourhoods(np.random.default_rng(3).random((6, 5, 4)) > 0.3, 4.0, affine=AFFINE)


def octahedron(structure: str = "") -> Neighbourhoods:
    points = np.concatenate([np.eye(3), -np.eye(3)])
    faces = [[a, b, c] for a in (0, 3) for b in (1, 4) for c in (2, 5)]
    arrays = [
        nib.gifti.GiftiDataArray(points.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
        nib.gifti.GiftiDataArray(np.array(faces, np.int32), intent="NIFTI_INTENT_TRIANGLE"),
    ]
    meta = nib.gifti.GiftiMetaData({"AnatomicalStructurePrimary": structure}) if structure else None
    return surface_neighbourhoods(nib.gifti.GiftiImage(darrays=arrays, meta=meta), rings=1)


def test_a_volume_is_written_as_nifti(tmp_path: Path) -> None:
    found = mapped(ball())
    written = found.save(tmp_path / "maps")
    assert [path.name for path in written] == [
        "faces___houses.nii.gz", "pixels.nii.gz", "scores.csv", "peaks.csv", "searchlight.json",
    ]  # fmt: skip
    image = nib.load(written[1])
    np.testing.assert_allclose(image.affine, AFFINE)
    voxels = tuple(found.neighbourhoods.centres[axis] for axis in "ijk")
    np.testing.assert_allclose(image.get_fdata()[voxels], found.values[:, 1], rtol=1e-6)
    assert np.isnan(image.get_fdata()).sum() == image.get_fdata().size - len(found.values) + 1
    table = pd.read_csv(tmp_path / "maps" / "scores.csv")
    np.testing.assert_allclose(table["pixels"], found.values[:, 1])
    np.testing.assert_allclose(found.image("pixels").get_fdata(), image.get_fdata())


def test_files_are_not_replaced_unless_asked(tmp_path: Path) -> None:
    mapped(ball()).save(tmp_path)
    with pytest.raises(BrainrdlError, match="exist already; replace with overwrite=True"):
        mapped(ball()).save(tmp_path)
    mapped(ball(), seed=1).save(tmp_path, overwrite=True)
    np.testing.assert_allclose(pd.read_csv(tmp_path / "scores.csv")["pixels"], mapped(ball(), seed=1).values[:, 1])


def test_a_surface_is_written_as_gifti(tmp_path: Path) -> None:
    found = mapped(octahedron("CortexLeft"))
    written = found.save(tmp_path)
    image = nib.load(written[0])
    np.testing.assert_allclose(image.agg_data(), found.values[:, 0].astype(np.float32))
    assert image.meta["AnatomicalStructurePrimary"] == "CortexLeft"


def test_a_surface_over_time_is_written_as_a_source_estimate(tmp_path: Path) -> None:
    source_estimate = pytest.importorskip("mne.source_estimate")
    found = mapped(over_time(octahedron("CortexRight"), np.arange(7) * 0.01 - 0.02, 0.01))
    written = found.save(tmp_path)
    assert written[0].name == "faces___houses-rh.stc"
    stc = source_estimate._read_stc(str(written[0]))
    assert stc["tmin"] == pytest.approx(-0.01, abs=1e-6)
    assert stc["tstep"] == pytest.approx(0.01, abs=1e-6)
    assert stc["vertices"].tolist() == list(range(6))
    np.testing.assert_allclose(stc["data"], found.values[:, 0].reshape(6, 5).astype(np.float32))


def test_sensors_are_written_as_a_table(tmp_path: Path) -> None:
    near = over_time(sensor_neighbourhoods(np.eye(3), 2, names=["a", "b", "c"]), [0.0, 0.1, 0.2])
    written = mapped(near).save(tmp_path)
    assert [path.name for path in written] == ["scores.csv", "peaks.csv", "searchlight.json"]
    assert pd.read_csv(written[0]).columns.tolist() == ["sensor", "time", "faces & houses", "pixels"]
    with pytest.raises(BrainrdlError, match="only a volume can be an image"):
        mapped(near).image("pixels")


def test_a_volume_over_time_is_an_image_with_four_dimensions() -> None:
    near = over_time(ball(), [0.0, 0.5, 1.0])
    found = mapped(near)
    image = found.image("pixels")
    row = near.centres.loc[10]
    assert image.shape == (6, 5, 4, 3)
    assert image.header["pixdim"][4] == 0.5
    value = image.get_fdata()[int(row.i), int(row.j), int(row.k), int(row.time / 0.5)]
    assert value == pytest.approx(found.values[10, 1], rel=1e-6)


def test_peaks_are_higher_than_all_their_neighbours() -> None:
    found = mapped(ball())
    values, near = found.values[:, 1], found.neighbourhoods.adjacency.toarray()
    expected = [k for k in range(len(values)) if values[k] >= np.nanmax([*values[near[k]], values[k]])]
    peaks = found.peaks("pixels", 100)
    assert sorted(peaks["pixels"]) == sorted(values[expected])
    assert peaks["pixels"].is_monotonic_decreasing
    assert len(found.peaks("pixels", 2)) == 2
    with pytest.raises(BrainrdlError, match="nearest: 'pixels'"):
        found.peaks("pixel")


def test_models_whose_files_would_have_one_name_are_refused(tmp_path: Path) -> None:
    near = ball()
    twice = SearchlightMap(near, np.zeros((len(near.centres), 2)), ("a b", "a/b"), np.zeros(len(near.centres)))
    with pytest.raises(BrainrdlError, match="give the same file names"):
        twice.save(tmp_path)
