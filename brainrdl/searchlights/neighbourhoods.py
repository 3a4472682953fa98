"""Which channels belong to each centre: spheres of voxels, patches of a surface, groups of sensors, windows of time.

A neighbourhood contains its centre. The channels of a centre are found when its block is computed, so that a list of
all spheres of a brain is never kept. Channels are numbered as in the mask (C order, as in nilearn and rsatoolbox), the
mesh or the sensors; in time, sensor by sensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array

from brainrdl._core.errors import arg, check_number, check_unique, check_whole, named, quote, refuse
from brainrdl._core.given_values import as_float64, as_numbers, as_text

if TYPE_CHECKING:
    import pandas as pd

    from brainrdl.searchlights.meshes import Mesh

    Mask = str | Path | npt.NDArray[Any] | Any

Places = npt.NDArray[np.int64]

_SLACK = 1e-6  # relative: a voxel exactly at the radius belongs to the sphere, whatever the rounding of the affine

_AT_ONCE = 2**22  # distances from several vertices that are kept at a time


class Members(Protocol):
    """Finds the channels of centres."""

    def __call__(self, centres: Places, /) -> Places:
        """Return the channels of each centre (n_centres, n_largest), -1 after the last of a row or between them."""


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """The centres of a searchlight and the channels around each.

    Made by `volume_neighbourhoods`, `surface_neighbourhoods`, `sensor_neighbourhoods` and `over_time`.

    Attributes
    ----------
    kind : {"volume", "surface", "sensors"}
        What the channels are.
    centres : pandas.DataFrame
        One row per centre: its place (``i, j, k`` and ``x, y, z`` in mm; ``vertex``; ``sensor``; ``time`` in s).
    n_channels : int
        Number of channels, times included.
    labels : dict of str to array
        Channel descriptors by which the channels of a dataset are found (``i, j, k``, ``vertex`` or ``channel``).
    members : callable
        From numbers of centres to their channels ``(n, n_largest)``, padded with -1.
    own : numpy.ndarray (n_centres,)
        The channel of each centre.
    links : tuple of two arrays
        Pairs of neighbouring centres, for clusters.
    times : numpy.ndarray, optional
        Times of the samples in s, if channels are sensors or places at several times.
    space : dict
        What is needed to write maps: shape and affine, or number of vertices.

    Examples
    --------
    >>> found = volume_neighbourhoods(np.ones((3, 3, 3)), 1.0, affine=np.eye(4))
    >>> len(found.centres), found.channels_of(13).tolist()
    (27, [4, 10, 12, 13, 14, 16, 22])
    """

    kind: str
    centres: pd.DataFrame
    n_channels: int
    labels: dict[str, npt.NDArray[Any]]
    members: Members
    own: Places
    links: tuple[Places, Places]
    times: npt.NDArray[np.float64] | None = None
    space: dict[str, Any] = field(default_factory=dict)

    def channels_of(self, centre: int) -> Places:
        """Return the channels around one centre, sorted."""
        found = self.members(np.array([centre]))[0]
        inside: Places = np.sort(found[found >= 0])
        return inside

    @property
    def adjacency(self) -> csr_array:
        """Which centres are neighbours: symmetric, of booleans, (n_centres, n_centres)."""
        n, (first, second) = len(self.centres), self.links
        pairs = np.concatenate([first, second]), np.concatenate([second, first])
        return csr_array(coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(n, n)))


# Volumes


@dataclass(frozen=True, eq=False)
class _Spheres:
    """Spheres of a mask: channel numbers in a volume with a margin, and steps from a centre within it."""

    padded: Places
    steps: Places
    places: Places

    def __call__(self, centres: Places, /) -> Places:
        found: Places = self.padded[self.places[centres][:, None] + self.steps]
        return found


def volume_neighbourhoods(
    mask: Mask,
    radius: float,
    *,
    affine: npt.ArrayLike | None = None,
    centres: Mask | None = None,
) -> Neighbourhoods:
    """Return spheres of voxels within a mask.

    Parameters
    ----------
    mask : path, nibabel image, or array (x, y, z)
        Voxels to use: those that are not 0. The channels are these voxels in C order.
    radius : float
        Radius in mm; a voxel belongs to the sphere if its middle is at most this far from that of the centre.
        (rsatoolbox counts in voxels, and excludes those exactly at the radius.)
    affine : array (4, 4), optional
        From voxels to mm; an image has its own. Voxels may have any size and orientation.
    centres : path, nibabel image, or array (x, y, z), optional
        Centres of the spheres, in the mask (default: all its voxels).

    Returns
    -------
    Neighbourhoods
        At the edge of the mask, spheres are cut off.

    Raises
    ------
    BrainrdlError
        If the mask is not 3-D or is empty, has no affine, a radius is not above 0 or reaches no other voxel, or
        `centres` is on another grid or contains voxels outside the mask.

    Examples
    --------
    >>> found = volume_neighbourhoods(np.ones((5, 5, 5)), 4.0, affine=np.diag([2.0, 2.0, 2.0, 1.0]))
    >>> len(found.channels_of(62)), found.centres.loc[62, ["x", "y", "z"]].tolist()
    (33, [4.0, 4.0, 4.0])
    """
    import pandas as pd

    check_number(radius, "radius", above=0)
    inside, matrix = _volume(mask, affine, "mask")
    places = np.stack(np.nonzero(inside))
    if not places.size:
        refuse(f"the mask of shape {inside.shape} contains no voxel that is not 0")
    offsets = _offsets(matrix[:3, :3], radius)
    margin = np.abs(offsets).max(0)
    shape = tuple(np.array(inside.shape) + 2 * margin)
    padded = np.full(shape, -1)
    padded[tuple(places + margin[:, None])] = np.arange(places.shape[1])
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    own = _centres_in(inside, matrix, centres) if centres is not None else np.arange(places.shape[1])
    chosen = places[:, own]
    spheres = _Spheres(padded.ravel(), offsets @ strides, strides @ (chosen + margin[:, None]))
    mm = matrix[:3, :3] @ chosen + matrix[:3, 3:]
    table = pd.DataFrame({**dict(zip("ijk", chosen, strict=True)), **dict(zip("xyz", mm, strict=True))})
    labels = dict(zip("ijk", places, strict=True))
    space = {"shape": inside.shape, "affine": matrix}
    return Neighbourhoods(
        "volume", table, places.shape[1], labels, spheres, own, _faces(chosen, inside.shape), None, space
    )


def _volume(given: Mask, affine: npt.ArrayLike | None, what: str) -> tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]:
    """Return which voxels are not 0, and the affine."""
    image: Any = given
    if isinstance(given, str | Path):
        import nibabel

        try:
            image = nibabel.load(given)
        except Exception as error:  # damaged files fail in many ways
            refuse(f"{named(what)} {str(given)!r} cannot be read as an image: {error}")
    if hasattr(image, "affine"):
        if affine is not None:
            refuse(f"the {what} is an image and has its own affine; leave out {arg('affine')}")
        affine, image = image.affine, image.dataobj
    values = as_numbers(image, f"the {what}")  # NaN where it is masked: outside
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        refuse(f"the {what} must be an array of numbers (x, y, z), got {values.dtype} of shape {values.shape}")
    if affine is None:
        refuse(
            f"the {what} is an array, which does not say how large its voxels are; give {arg('affine')}, for example "
            "np.diag([2, 2, 2, 1]) for voxels of 2 mm"
        )
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
        refuse(f"affine must be an invertible matrix (4, 4) from voxels to mm, got {matrix.tolist()}")
    return np.nan_to_num(values) != 0, matrix


def _offsets(matrix: npt.NDArray[np.float64], radius: float) -> Places:
    """Return the steps (n, 3), in voxels, from a centre to the voxels within the radius."""
    reach = np.floor(radius * (1 + _SLACK) * np.linalg.norm(np.linalg.inv(matrix), axis=1)).astype(int)
    steps = np.stack(np.meshgrid(*(np.arange(-most, most + 1) for most in reach), indexing="ij"), -1).reshape(-1, 3)
    near: Places = steps[np.linalg.norm(steps @ matrix.T, axis=1) <= radius * (1 + _SLACK)]
    if len(near) == 1:
        sizes = np.linalg.norm(matrix, axis=0).round(3).tolist()
        refuse(f"radius {radius:g} mm reaches no other voxel: voxels are {sizes} mm; choose a larger radius")
    return near


def _centres_in(inside: npt.NDArray[np.bool_], matrix: npt.NDArray[np.float64], centres: Mask) -> Places:
    """Return the channels of the mask that are centres."""
    chosen, other = _volume(centres, None if hasattr(centres, "affine") or _is_path(centres) else matrix, "centres")
    if chosen.shape != inside.shape or not np.allclose(other, matrix, atol=1e-3):
        refuse(
            f"centres are on another grid than the mask: shapes {chosen.shape} and {inside.shape}, affines "
            f"{other.round(3).tolist()} and {matrix.round(3).tolist()}; resample one of them"
        )
    if (outside := int((chosen & ~inside).sum())) or not chosen.any():
        what = f"{outside} of {int(chosen.sum())} centres are outside the mask" if outside else "there is no centre"
        refuse(f"{what}; choose centres within the mask")
    return np.flatnonzero(chosen[inside])


def _is_path(given: object) -> bool:
    return isinstance(given, str | Path)


def _faces(places: Places, shape: Sequence[int]) -> tuple[Places, Places]:
    """Return pairs of centres that share a face."""
    number = np.full([size + 1 for size in shape], -1)
    number[tuple(places)] = np.arange(places.shape[1])
    pairs = [(np.arange(places.shape[1]), number[tuple(places + step[:, None])]) for step in np.eye(3, dtype=int)]
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return first[second >= 0], second[second >= 0]


# Lists of channels, for surfaces and sensors


@dataclass(frozen=True, eq=False)
class _Listed:
    """The channels of each centre, one list after another."""

    starts: Places
    channels: Places

    @classmethod
    def of(cls, near: csr_array) -> _Listed:
        near.sort_indices()
        return cls(near.indptr.astype(np.int64), near.indices.astype(np.int64))

    def __call__(self, centres: Places, /) -> Places:
        starts, sizes = self.starts[centres], self.starts[centres + 1] - self.starts[centres]
        steps = np.arange(sizes.max(initial=0))
        inside = steps < sizes[:, None]
        found = np.full(inside.shape, -1)
        found[inside] = self.channels[(starts[:, None] + steps)[inside]]
        return found


def surface_neighbourhoods(
    mesh: str | Path | tuple[npt.ArrayLike, npt.ArrayLike] | Any,
    *,
    radius: float | None = None,
    rings: int | None = None,
    centres: npt.ArrayLike | None = None,
) -> Neighbourhoods:
    """Return patches of vertices of a surface, such as a hemisphere's cortex.

    Parameters
    ----------
    mesh : path, nibabel GiftiImage, or (coordinates, faces)
        The surface: GIFTI (``.surf.gii``), FreeSurfer (``lh.white``), or coordinates (n_vertices, 3) in mm and faces
        (n_faces, 3) of vertices, counted from 0.
    radius : float, optional
        Patches of the vertices whose distance from the centre along the edges of the mesh is at most this, in mm.
        (Paths along edges are a few per cent longer than the shortest path across faces.)
    rings : int, optional
        Instead of `radius`: patches of the vertices that at most this number of edges separates from the centre.
    centres : array of bool (n_vertices,) or of int, optional
        Vertices that are centres (default: all).

    Returns
    -------
    Neighbourhoods
        The channels are all vertices of the mesh.

    Raises
    ------
    BrainrdlError
        If the mesh is not a surface, both or none of `radius` and `rings` are given, a radius reaches no other vertex,
        or `centres` are not vertices.

    Examples
    --------
    >>> corners = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    >>> found = surface_neighbourhoods((corners, [[0, 1, 2], [0, 2, 3]]), radius=1.2)
    >>> found.channels_of(1).tolist()
    [0, 1, 2]
    """
    import pandas as pd

    from brainrdl.searchlights.meshes import read_mesh

    if (radius is None) == (rings is None):
        refuse(f"give either {arg('radius')}, in mm along the surface, or {arg('rings')}, a number of edges")
    surface = read_mesh(mesh)
    own = _chosen(centres, surface.n_vertices)
    near = _within(surface, float(radius), own) if radius is not None else _rings(surface, rings, own)
    if near.nnz == len(own):
        _refuse_alone(surface, radius)
    return Neighbourhoods(
        "surface",
        pd.DataFrame({"vertex": own, **dict(zip("xyz", surface.coordinates[own].T, strict=True))}),
        surface.n_vertices,
        {"vertex": np.arange(surface.n_vertices)},
        _Listed.of(near),
        own,
        _between(surface.edges, own, surface.n_vertices),
        None,
        {"n_vertices": surface.n_vertices, "structure": surface.structure},
    )


def _refuse_alone(surface: Mesh, radius: float | None) -> NoReturn:
    """Refuse patches of single vertices."""
    if radius is None:
        refuse(
            "the centres have no neighbours: no edge of the mesh begins at them; give other centres, or another mesh"
        )
    length = surface.edge_length()
    refuse(
        f"radius {radius:g} mm reaches no other vertex: edges are {length:.3g} mm long; choose a larger "
        f"{arg('radius')}, or {arg('rings', 1)}"
    )


def _chosen(centres: npt.ArrayLike | None, n: int) -> Places:
    if centres is None:
        return np.arange(n)
    given = np.asarray(centres)
    if given.dtype == bool and given.shape == (n,):
        given = np.flatnonzero(given)
    if given.ndim != 1 or given.dtype.kind not in "iu" or not len(given) or given.min() < 0 or given.max() >= n:
        refuse(
            f"centres must be a boolean for each of {n} channels, or some of 0 to {n - 1}, got {given.dtype} of shape "
            f"{given.shape}"
        )
    chosen = np.unique(given).astype(np.int64)
    if len(chosen) < len(given):
        refuse(
            f"{len(given) - len(chosen)} of {len(given)} centres are repeated; for a mask of 0 and 1, give booleans: "
            "mask.astype(bool)"
        )
    return chosen


def _within(surface: Mesh, radius: float, own: Places) -> csr_array:
    from scipy.sparse import vstack
    from scipy.sparse.csgraph import dijkstra

    check_number(radius, "radius", above=0)
    graph, limit = surface.graph(), radius * (1 + _SLACK)
    step = max(1, _AT_ONCE // surface.n_vertices)
    blocks = [
        csr_array(np.isfinite(dijkstra(graph, directed=False, indices=own[first : first + step], limit=limit)))
        for first in range(0, len(own), step)
    ]
    return csr_array(vstack(blocks, format="csr"))


def _rings(surface: Mesh, rings: Any, own: Places) -> csr_array:
    check_whole(rings, "rings", 1)
    n = surface.n_vertices
    step = csr_array(surface.graph().astype(bool)) + csr_array((np.ones(n, bool), (np.arange(n), np.arange(n))), (n, n))
    near = csr_array((np.ones(len(own), bool), (np.arange(len(own)), own)), shape=(len(own), n))
    for _ in range(int(rings)):
        near = near @ step
    return near


def _between(edges: tuple[Places, Places], own: Places, n: int) -> tuple[Places, Places]:
    """Return the edges between centres, as numbers of centres."""
    number = np.full(n, -1)
    number[own] = np.arange(len(own))
    first, second = (number[side] for side in edges)
    both = (first >= 0) & (second >= 0)
    return first[both], second[both]


def sensor_neighbourhoods(
    positions: npt.ArrayLike | None = None,
    radius: float | None = None,
    *,
    adjacency: Any = None,
    names: Sequence[str] | None = None,
) -> Neighbourhoods:
    """Return groups of neighbouring sensors.

    Parameters
    ----------
    positions : array (n_sensors, 3) or (n_sensors, 2), optional
        Positions of the sensors, for example in m.
    radius : float, optional
        Sensors at most this far from the centre, in the unit of the positions, belong to its group.
    adjacency : array or sparse array (n_sensors, n_sensors), optional
        Instead of positions: which sensors are neighbours (not 0), as in ``mne.channels.find_ch_adjacency``.
    names : sequence of str, optional
        Names of the sensors, by which the channels of a dataset (descriptor ``channel``) are found.

    Returns
    -------
    Neighbourhoods

    Raises
    ------
    BrainrdlError
        If neither or both of positions and adjacency are given, their shapes or the number of names do not fit, a
        position is missing, or no sensor has a neighbour.

    Examples
    --------
    >>> found = sensor_neighbourhoods([[0.0, 0.0], [0.03, 0.0], [0.1, 0.0]], 0.04, names=["Oz", "POz", "Cz"])
    >>> found.channels_of(0).tolist()
    [0, 1]
    """
    import pandas as pd

    if positions is None and radius is not None:
        refuse(f"{arg('radius', radius)} needs the positions of the sensors; leave it out with {arg('adjacency')}")
    near = _adjacent(adjacency) if positions is None else _close(positions, radius, adjacency)
    n = near.shape[0]
    listed = [as_text(name) for name in (range(n) if names is None else names)]
    if len(listed) != n:
        refuse(f"there are {n} sensors, but {len(listed)} names {quote(listed)}")
    check_unique(listed, "the sensors")
    if near.nnz == n:
        remedy = f"choose a larger {arg('radius')}" if adjacency is None else f"correct {arg('adjacency')}"
        refuse(f"no sensor has a neighbour; {remedy}")
    rows, columns = near.nonzero()
    above = rows < columns
    labels = {} if names is None else {"channel": np.array(listed, dtype=object)}
    links = (rows[above].astype(np.int64), columns[above].astype(np.int64))
    table = pd.DataFrame({"sensor": listed})
    return Neighbourhoods("sensors", table, n, labels, _Listed.of(near), np.arange(n), links)


def _adjacent(adjacency: Any) -> csr_array:
    if adjacency is None:
        refuse(f"give the positions of the sensors and {arg('radius')}, or {arg('adjacency')}")
    found = csr_array(adjacency)
    if found.ndim != 2 or found.shape[0] != found.shape[1]:
        refuse(f"adjacency must be (n_sensors, n_sensors), got shape {found.shape}")
    n = found.shape[0]
    near = csr_array(found.astype(bool)) + csr_array((np.ones(n, bool), (np.arange(n), np.arange(n))), (n, n))
    if (near != near.T).nnz:
        refuse("adjacency is not symmetric: a sensor is a neighbour of another, but not the other way round")
    return near


def _close(positions: npt.ArrayLike, radius: float | None, adjacency: Any) -> csr_array:
    from scipy.spatial.distance import cdist

    given = as_float64(positions, "positions")
    if adjacency is not None or radius is None:
        refuse(f"positions need {arg('radius')}, and no {arg('adjacency')}")
    check_number(radius, "radius", above=0)
    if given.ndim != 2 or given.shape[1] not in (2, 3):
        refuse(f"positions must be (n_sensors, 3) or (n_sensors, 2), got shape {given.shape}")
    if not np.isfinite(given).all():
        refuse(f"{int((~np.isfinite(given).all(1)).sum())} of {len(given)} sensors have no position; leave them out")
    return csr_array(cdist(given, given) <= radius * (1 + _SLACK))


# Time


@dataclass(frozen=True, eq=False)
class _Windows:
    """Channels of a neighbourhood in space, at the samples around a time."""

    space: Members
    n_times: int
    n_inside: int
    reach: int

    def __call__(self, centres: Places, /) -> Places:
        places, times = np.divmod(centres, self.n_inside)
        near = self.space(places)
        samples = times[:, None] + np.arange(2 * self.reach + 1)
        found = np.where(near[:, :, None] < 0, -1, near[:, :, None] * self.n_times + samples[:, None])
        return found.reshape(len(centres), -1)


def over_time(space: Neighbourhoods, times: npt.ArrayLike, window: float = 0.0) -> Neighbourhoods:
    """Return neighbourhoods in space and time: all samples of a time window, of the channels around a centre.

    Parameters
    ----------
    space : Neighbourhoods
        Sensors, vertices (of a source estimate) or voxels.
    times : array (n_times,)
        Times of the samples in s, evenly spaced.
    window : float
        A window contains the samples at most this far from its centre, in s. Centres are the times whose whole window
        is in the data. 0 compares single samples.

    Returns
    -------
    Neighbourhoods
        A channel for each place and time; a pattern has (places x samples) values, which are not averaged.

    Raises
    ------
    BrainrdlError
        If `space` has times already, the times are not evenly spaced, or no window fits into them.

    Examples
    --------
    >>> space = sensor_neighbourhoods([[0.0, 0.0], [0.03, 0.0], [0.1, 0.0]], 0.04)
    >>> found = over_time(space, [0.0, 0.01, 0.02, 0.03], 0.01)
    >>> found.n_channels, found.centres.time.tolist()[:2], found.channels_of(0).tolist()
    (12, [0.01, 0.02], [0, 1, 2, 4, 5, 6])
    """
    import pandas as pd

    if space.times is not None:
        refuse("these neighbourhoods have times already; give those in space to over_time")
    given = np.asarray(times, dtype=np.float64)
    steps = np.diff(given)
    if given.ndim != 1 or len(given) < 2 or not (steps > 0).all() or np.ptp(steps) > 0.02 * steps.mean():
        refuse(f"times must be evenly spaced and rising, in s, got {quote(given.ravel().tolist())}")
    check_number(window, "window", at_least=0)
    reach = int(np.floor(window / steps.mean() + 1e-3))
    n_inside = len(given) - 2 * reach
    if n_inside < 1:
        refuse(
            f"a window of {window:g} s on both sides needs {2 * reach + 1} samples, but there are {len(given)}; choose "
            "a shorter window"
        )
    n, inside = len(space.centres), given[reach : reach + n_inside]
    numbers = np.arange(n * n_inside).reshape(n, n_inside)
    links = [(numbers[a].ravel(), numbers[b].ravel()) for a, b in [space.links]]
    links.append((numbers[:, :-1].ravel(), numbers[:, 1:].ravel()))
    first, second = (np.concatenate(side) for side in zip(*links, strict=True))
    table = space.centres.loc[np.repeat(np.arange(n), n_inside)].reset_index(drop=True)
    return Neighbourhoods(
        space.kind,
        pd.concat([table, pd.DataFrame({"time": np.tile(inside, n)})], axis=1),
        space.n_channels * len(given),
        space.labels,
        _Windows(space.members, len(given), n_inside, reach),
        (space.own[:, None] * len(given) + np.arange(reach, reach + n_inside)).ravel(),
        (first, second),
        given,
        space.space,
    )
