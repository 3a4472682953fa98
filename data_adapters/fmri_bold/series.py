"""BOLD series: the time from volume to volume, the voxels of regions, and files that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainrdl._core.errors import read_arg, refuse
from data_adapters._shared.text_tables import blaming
from data_adapters.fmri_bold.first_level_model import check_seconds
from data_adapters.fmri_maps import regions as _regions, volumes as _volumes

_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}

_LIKELY = (0.05, 60.0)  # seconds from volume to volume


def is_here(path: Path) -> bool:
    """Say whether a file exists; a link to a file that was not downloaded is refused.

    Raises
    ------
    BrainrdlError
        If it is a broken link, as DataLad and git-annex leave for files that were not downloaded.

    Examples
    --------
    >>> is_here(Path("no/such_bold.nii.gz"))
    False
    """
    if path.is_symlink() and not path.exists():
        refuse(
            f"{str(path)!r} is a link to a file that was not downloaded; fetch it first (datalad get, git annex get)"
        )
    return path.is_file()


@dataclass(frozen=True)
class Regions:
    """The voxels of each region, as positions in a volume whose first index runs fastest, and the volume's shape."""

    parts: tuple[tuple[str | None, np.ndarray], ...]
    shape: tuple[int, ...]

    @property
    def voxels(self) -> np.ndarray:
        """Voxels of all regions, sorted: the channels that are read."""
        return np.unique(np.concatenate([places for _, places in self.parts]))


def find_regions(
    files: Sequence[Path],
    *,
    mask: str | Path | None = None,
    atlas: str | Path | None = None,
    labels: str | Path | None = None,
    roi: str | Sequence[str] | None = None,
) -> Regions:
    """Find the voxels to read of series on the same grid.

    Parameters
    ----------
    files : sequence of Path
        The series.
    mask, atlas, labels, roi
        As of the reader ``bold``.

    Returns
    -------
    Regions
        One, without a name, if there is no atlas.

    Raises
    ------
    BrainrdlError
        If a file is not a series, the grids differ, or mask or atlas are not valid.
    """
    first, *others = [_open(file) for file in files]
    for other in others:
        _volumes.check_grid(other, first, f"the series {str(other.path)!r}", f"{str(first.path)!r}")
    inside = np.ones(first.n_voxels, bool) if mask is None else read_mask(mask, files[0])
    parts = _regions.find_regions(inside, *_regions.read_atlas(atlas, labels, first), roi)
    return Regions(tuple(parts), first.shape)


def read_mask(mask: str | Path, series: Path) -> np.ndarray:
    """Read a mask on the grid of a series: one boolean per voxel, the first index fastest.

    Raises
    ------
    BrainrdlError
        If it is on another grid or holds other values than 0 and one other.
    """
    return _regions.as_mask(_regions.read_beside(mask, "mask", _open(series)))


def _open(path: Path) -> _volumes.Volumes:
    """Open a series without reading its values."""
    if not is_here(path):
        refuse(f"there is no file {str(path)!r}")
    with blaming("the series", path):
        volumes = _volumes.open_volumes(path)
    if volumes.n < 2:
        refuse(f"{path.name!r} holds one volume of shape {volumes.shape}; a BOLD series has four axes (x, y, z, time)")
    return volumes


def read_voxels(file: Path, regions: Regions) -> np.ndarray:
    """Read the voxels of all regions, (n_volumes, n_voxels), one volume at a time."""
    volumes = _open(file)
    with blaming("the series", file):
        return _volumes.read_values(volumes, regions.voxels)


def header_time(file: Path) -> float | None:
    """Give the seconds from volume to volume in a header; None if it names no unit."""
    header = _volumes.read_header(file)
    unit = _SECONDS.get(header.get_xyzt_units()[1])
    return float(header.get_zooms()[3]) * unit if unit else None


def repetition_time(file: Path, t_r: float | None = None, what: str = "t_r") -> float:
    """Give the seconds from volume to volume: `t_r`, else those in the header.

    Parameters
    ----------
    file : Path
        The series.
    t_r : float, optional
        Seconds that the user or a sidecar states.
    what : str
        Where they are stated, for messages.

    Raises
    ------
    BrainrdlError
        If that is not a plausible time (0.05 to 60 s), or the header names no unit of time.
    """
    seconds = header_time(file) if t_r is None else check_seconds(t_r, what)
    if seconds is not None and _LIKELY[0] <= seconds <= _LIKELY[1]:
        return seconds
    if t_r is not None:
        refuse(f"{what} must be seconds from volume to volume, 0.05 to 60, got {seconds:g}; is it in milliseconds?")
    words = "in no known unit" if seconds is None else f"as {seconds:g} s"
    refuse(
        f"the header of {file.name!r} gives the time from volume to volume {words}; give {read_arg('t_r')} in seconds"
    )
