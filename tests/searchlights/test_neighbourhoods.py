"""Neighbourhoods against distances computed one by one, networkx-free graphs, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.sparse.csgraph import dijkstra, shortest_path
from scipy.spatial import Delaunay

from brainrdl import BrainrdlError
from brainrdl.searchlights import (
    over_time,
    sensor_neighbourhoods,
    surface_neighbourhoods,
    volume_neighbourhoods,
)
from brainrdl.searchlights.meshes import read_mesh

OBLIQUE = np.array([[2.0, 0.4, 0.0, -10.0], [-0.3, 2.5, 0.2, 4.0], [0.0, 0.1, 3.5, 7.0], [0.0, 0.0, 0.0, 1.0]])


def mask(shape: tuple[int, int, int] = (6, 7, 5)) -> np.ndarray:
    return np.random.default_rng(0).random(shape) > 0.2


@pytest.mark.parametrize("affine", [np.diag([2.0, 2.0, 2.0, 1.0]), OBLIQUE], ids=["2 mm", "oblique"])
def test_spheres_are_the_voxels_within_the_radius_in_mm(affine: np.ndarray) -> None:
    found = volume_neighbourhoods(mask(), 6.0, affine=affine)
    voxels = np.stack(np.nonzero(mask()))
    mm = (affine[:3, :3] @ voxels + affine[:3, 3:]).T
    np.testing.assert_allclose(found.centres[["x", "y", "z"]], mm)
    for centre in range(0, len(mm), 7):
        expected = np.flatnonzero(np.linalg.norm(mm - mm[centre], axis=1) <= 6.0 + 1e-9)
        assert found.channels_of(centre).tolist() == expected.tolist()


def test_neighbouring_centres_share_a_face() -> None:
    found = volume_neighbourhoods(mask(), 6.0, affine=OBLIQUE)
    voxels = found.centres[["i", "j", "k"]].to_numpy()
    expected = np.abs(voxels[:, None] - voxels[None]).sum(-1) == 1
    assert np.array_equal(found.adjacency.toarray(), expected)


def test_centres_can_be_a_part_of_the_mask() -> None:
    some = mask() & (np.arange(6) > 2)[:, None, None]
    whole = volume_neighbourhoods(mask(), 6.0, affine=OBLIQUE)
    found = volume_neighbourhoods(mask(), 6.0, affine=OBLIQUE, centres=some)
    places = np.flatnonzero(some[mask()])
    assert found.own.tolist() == places.tolist()
    assert found.n_channels == whole.n_channels
    assert found.channels_of(3).tolist() == whole.channels_of(int(places[3])).tolist()


def test_masks_are_read_from_images(tmp_path: Path) -> None:
    image = nib.Nifti1Image(mask().astype(np.uint8), OBLIQUE)
    nib.save(image, tmp_path / "mask.nii.gz")
    expected = volume_neighbourhoods(mask(), 6.0, affine=OBLIQUE)
    for given in (image, tmp_path / "mask.nii.gz"):
        assert volume_neighbourhoods(given, 6.0).channels_of(40).tolist() == expected.channels_of(40).tolist()


def sheet() -> tuple[np.ndarray, np.ndarray]:
    """A bent sheet of irregular triangles."""
    flat = np.random.default_rng(1).random((150, 2)) * 20
    return np.column_stack([flat, 3 * np.sin(flat[:, 0] / 3)]), Delaunay(flat).simplices


def test_patches_of_a_surface_are_within_the_distance_along_edges() -> None:
    mesh = read_mesh(sheet())
    found = surface_neighbourhoods(sheet(), radius=5.0)
    distances = dijkstra(mesh.graph(), directed=False)
    for centre in (0, 50, 149):
        assert found.channels_of(centre).tolist() == np.flatnonzero(distances[centre] <= 5.0).tolist()
    assert not np.array_equal(
        np.linalg.norm(mesh.coordinates - mesh.coordinates[50], axis=1) <= 5.0, distances[50] <= 5.0
    )


@pytest.mark.parametrize("rings", [1, 3])
def test_rings_count_edges(rings: int) -> None:
    steps = shortest_path(read_mesh(sheet()).graph(), directed=False, unweighted=True)
    found = surface_neighbourhoods(sheet(), rings=rings, centres=np.array([4, 90]))
    assert found.channels_of(1).tolist() == np.flatnonzero(steps[90] <= rings).tolist()
    assert np.array_equal(found.adjacency.toarray(), (steps == 1)[np.ix_([4, 90], [4, 90])])


def test_surfaces_are_read_from_gifti_and_freesurfer(tmp_path: Path) -> None:
    coordinates, faces = sheet()
    arrays = [
        nib.gifti.GiftiDataArray(coordinates.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
        nib.gifti.GiftiDataArray(faces.astype(np.int32), intent="NIFTI_INTENT_TRIANGLE"),
    ]
    nib.save(nib.gifti.GiftiImage(darrays=arrays), tmp_path / "lh.surf.gii")
    nib.freesurfer.write_geometry(str(tmp_path / "lh.white"), coordinates, faces)
    expected = surface_neighbourhoods(sheet(), radius=4.9).channels_of(10).tolist()
    for name in ("lh.surf.gii", "lh.white"):
        assert surface_neighbourhoods(tmp_path / name, radius=4.9).channels_of(10).tolist() == expected


def test_sensors_are_neighbours_by_distance_or_adjacency() -> None:
    positions = np.random.default_rng(2).random((20, 3))
    near = np.linalg.norm(positions[:, None] - positions[None], axis=-1) <= 0.4
    found = sensor_neighbourhoods(positions, 0.4)
    other = sensor_neighbourhoods(adjacency=near & ~np.eye(20, dtype=bool))
    for centre in range(20):
        assert found.channels_of(centre).tolist() == np.flatnonzero(near[centre]).tolist()
        assert other.channels_of(centre).tolist() == np.flatnonzero(near[centre]).tolist()
    assert np.array_equal(found.adjacency.toarray(), near & ~np.eye(20, dtype=bool))


def test_windows_are_whole_and_linked_in_space_and_time() -> None:
    space = sensor_neighbourhoods([[0.0, 0], [1, 0], [5, 0]], 1.5)
    found = over_time(space, np.arange(10) * 0.004 - 0.01, 0.008)
    assert len(found.centres) == 3 * 6
    assert found.centres.time[:6].tolist() == pytest.approx((np.arange(2, 8) * 0.004 - 0.01).tolist())
    assert found.channels_of(0).tolist() == [*range(5), *range(10, 15)]
    links = {tuple(sorted(pair)) for pair in zip(*(side.tolist() for side in found.links), strict=True)}
    assert {(0, 1), (0, 6), (16, 17)} <= links
    assert (0, 12) not in links
    assert len(links) == 3 * 5 + 6


CASES: dict[str, tuple[Any, str]] = {
    "an empty mask": (lambda: volume_neighbourhoods(np.zeros((3, 3, 3)), 3, affine=np.eye(4)), "contains no voxel"),
    "a flat mask": (
        lambda: volume_neighbourhoods(np.ones((3, 3)), 3, affine=np.eye(4)),
        r"must be an array of numbers",
    ),
    "no affine": (lambda: volume_neighbourhoods(np.ones((3, 3, 3)), 3), "how large its voxels are; give affine="),
    "a singular affine": (lambda: volume_neighbourhoods(np.ones((3, 3, 3)), 3, affine=np.zeros((4, 4))), "invertible"),
    "two affines": (
        lambda: volume_neighbourhoods(nib.Nifti1Image(np.ones((3, 3, 3)), np.eye(4)), 3, affine=np.eye(4)),
        "leave out affine=",
    ),
    "a small radius": (lambda: volume_neighbourhoods(np.ones((3, 3, 3)), 0.5, affine=np.eye(4)), "no other voxel"),
    "a radius of 0": (
        lambda: volume_neighbourhoods(np.ones((3, 3, 3)), 0, affine=np.eye(4)),
        "radius must be a finite",
    ),
    "no file": (lambda: volume_neighbourhoods("no.nii", 3), "^mask 'no.nii' cannot be read as an image"),
    "other centres": (
        lambda: volume_neighbourhoods(np.ones((3, 3, 3)), 3, affine=np.eye(4), centres=np.ones((4, 3, 3))),
        "centres are on another grid",
    ),
    "centres outside": (
        lambda: volume_neighbourhoods(np.eye(3)[None], 3, affine=np.eye(4), centres=np.ones((1, 3, 3))),
        "6 of 9 centres are outside the mask",
    ),
    "radius and rings": (lambda: surface_neighbourhoods(sheet(), radius=3, rings=1), "either radius=.* or rings="),
    "no rings": (lambda: surface_neighbourhoods(sheet(), rings=0), "rings must be a whole number"),
    "a small patch": (
        lambda: surface_neighbourhoods(sheet(), radius=1e-3),
        "no other vertex: edges are .*; choose a larger radius=, or rings=1",
    ),
    "a lone vertex": (
        lambda: surface_neighbourhoods((np.eye(4, 3), [[0, 1, 2]]), rings=1, centres=[3]),
        "^the centres have no neighbours: no edge of the mesh begins at them",
    ),
    "vertices": (lambda: surface_neighbourhoods(sheet(), rings=1, centres=[150]), "some of 0 to 149"),
    "no mesh": (lambda: surface_neighbourhoods("lh.white", rings=1), "cannot be read as a surface"),
    "one array": (lambda: surface_neighbourhoods(np.ones((3, 3)), rings=1), r"a mesh is a file"),
    "coordinates": (lambda: surface_neighbourhoods((np.ones((3, 2)), [[0, 1, 2]]), rings=1), "coordinates of a mesh"),
    "faces": (lambda: surface_neighbourhoods((np.ones((3, 3)), [[0.5, 1, 2]]), rings=1), "faces of a mesh must be"),
    "equal vertices": (lambda: surface_neighbourhoods((np.ones((3, 3)), [[0, 1, 2]]), rings=1), "length 0"),
    "no sensors": (lambda: sensor_neighbourhoods(), "positions of the sensors and radius="),
    "no radius": (lambda: sensor_neighbourhoods(np.eye(3)), "positions need radius="),
    "positions": (lambda: sensor_neighbourhoods(np.ones(3), 1), r"positions must be"),
    "no position": (lambda: sensor_neighbourhoods([[0.0, np.nan]], 1), "1 of 1 sensors have no position"),
    "names": (lambda: sensor_neighbourhoods(np.eye(3), 2, names=["a"]), "3 sensors, but 1 names"),
    "alone": (lambda: sensor_neighbourhoods(np.eye(3), 1), "no sensor has a neighbour; choose a larger radius="),
    "no links": (lambda: sensor_neighbourhoods(adjacency=np.eye(2)), "no sensor has a neighbour; correct adjacency="),
    "one way": (lambda: sensor_neighbourhoods(adjacency=[[0, 1], [0, 0]]), "not symmetric"),
    "a rectangle": (lambda: sensor_neighbourhoods(adjacency=np.ones((2, 3))), r"must be \(n_sensors, n_sensors\)"),
    "uneven times": (lambda: over_time(sensor_neighbourhoods(np.eye(3), 2), [0, 1, 3]), "evenly spaced"),
    "a long window": (lambda: over_time(sensor_neighbourhoods(np.eye(3), 2), [0, 1], 5), "needs 11 samples"),
    "times again": (
        lambda: over_time(over_time(sensor_neighbourhoods(np.eye(3), 2), [0, 1]), [0, 1]),
        "have times already",
    ),
}


@pytest.mark.parametrize(("make", "message"), CASES.values(), ids=CASES.keys())
def test_what_is_not_a_neighbourhood_is_refused(make: Any, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        make()
