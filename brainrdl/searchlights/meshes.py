"""Surfaces as vertices, edges and their lengths, from GIFTI, FreeSurfer or arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array

from brainrdl._core.errors import refuse

_STRUCTURE = "AnatomicalStructurePrimary"


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface: coordinates (n_vertices, 3) in mm, and each edge once.

    Examples
    --------
    >>> read_mesh(([[0, 0, 0], [3, 0, 0], [0, 4, 0]], [[0, 1, 2]])).graph().toarray()[1].tolist()
    [3.0, 0.0, 5.0]
    """

    coordinates: npt.NDArray[np.float64]
    edges: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    structure: str = ""

    @property
    def n_vertices(self) -> int:
        """Number of vertices."""
        return len(self.coordinates)

    def lengths(self) -> npt.NDArray[np.float64]:
        """Return the length of each edge, in mm."""
        first, second = self.edges
        return np.linalg.norm(self.coordinates[first] - self.coordinates[second], axis=1)

    def edge_length(self) -> float:
        """Return the median length of an edge, in mm."""
        return float(np.median(self.lengths()))

    def graph(self) -> csr_array:
        """Return the lengths of edges between vertices, symmetric."""
        (first, second), lengths = self.edges, self.lengths()
        ends = np.concatenate([first, second]), np.concatenate([second, first])
        return csr_array(coo_array((np.concatenate([lengths, lengths]), ends), shape=2 * (self.n_vertices,)))


def read_mesh(given: Any) -> Mesh:
    """Read a surface.

    Parameters
    ----------
    given : path, nibabel GiftiImage, or (coordinates, faces)
        GIFTI (``.gii``), any other file is read as FreeSurfer's geometry.

    Returns
    -------
    Mesh

    Raises
    ------
    BrainrdlError
        If it is not a surface: wrong shapes, faces that name other vertices, or edges of length 0.

    Examples
    --------
    >>> read_mesh(([[0, 0, 0], [3, 0, 0], [0, 4, 0]], [[0, 1, 3]]))
    Traceback (most recent call last):
    brainrdl.BrainrdlError: the faces of the mesh name vertices from 0 to 3, but it has 3 vertices
    """
    structure = ""
    if isinstance(given, str | Path):
        given = _from_file(Path(given))
    if hasattr(given, "agg_data"):
        held = [given.meta, *(array.meta for array in given.darrays)]  # files differ in where they say it
        structure = next((each[_STRUCTURE] for each in held if each.get(_STRUCTURE)), "")
        given = given.agg_data(("pointset", "triangle"))
    if not isinstance(given, tuple | list) or len(given) != 2:
        refuse(f"a mesh is a file, a GiftiImage or (coordinates, faces), got {type(given).__name__}")
    coordinates, faces = np.asarray(given[0]), np.asarray(given[1])
    if coordinates.ndim != 2 or coordinates.shape[1] != 3 or coordinates.dtype.kind not in "iuf":
        refuse(f"coordinates of a mesh must be (n_vertices, 3) in mm, got shape {coordinates.shape}")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu" or not len(faces):
        refuse(f"faces of a mesh must be whole numbers (n_faces, 3), got {faces.dtype} of shape {faces.shape}")
    if faces.min() < 0 or faces.max() >= len(coordinates):
        refuse(
            f"the faces of the mesh name vertices from {faces.min()} to {faces.max()}, but it has {len(coordinates)} "
            "vertices"
        )
    ends = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [0, 2]]]).astype(np.int64), axis=1)
    first, second = np.unique(ends, axis=0).T
    mesh = Mesh(coordinates.astype(np.float64), (first, second), structure)
    if not (mesh.lengths() > 0).all():
        refuse("some edges of the mesh have the length 0 (or NaN), so distances along the surface are wrong")
    return mesh


def _from_file(path: Path) -> Any:
    import nibabel

    try:
        if path.suffix == ".gii":
            return nibabel.load(path)
        return nibabel.freesurfer.read_geometry(str(path))[:2]
    except Exception as error:  # damaged files fail in many ways
        refuse(f"{str(path)!r} cannot be read as a surface: {error}")
