"""BDPy's ``.h5`` files (Kamitani lab): fMRI patterns with their labels, runs and sessions as columns of one matrix.

Layout on disk::

    /dataset               (n_observations, n_columns): voxels, and columns of numbers such as Session, Run and Label
    /metadata/key          names: VoxelData, ROI_V1, ..., voxel_x, voxel_y, voxel_z, Session, Run, Label, ...
    /metadata/description
    /metadata/value        (n_keys, n_columns): 1 in the columns that belong to a key, or a number for each (voxel_x)
    /vmap/Label/1          texts for the numbers of a column, if known

Only the columns of ``VoxelData`` are channels. Generic Object Decoding and Deep Image Reconstruction are published in
this layout. Older files call the groups ``dataSet`` and ``metaData``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from brainrdl._core.errors import check_option, check_unique, nearest, quote, read_arg, refuse
from brainrdl._core.given_values import as_text
from data_adapters._shared.hdf5 import bdpy_groups, member, numbers, opened, values as values_of
from data_adapters._shared.measurements import condition_names
from data_adapters.fmri_maps.maps import dataset_of

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
_SUFFIXES = frozenset({".h5", ".hdf5"})

_VOXELS = "VoxelData"

_USUAL = ("label", "stimulus_name", "stimulus_id", "stimulus", "image_index", "image_id")  # of the conditions

_PLACES = ("voxel_x", "voxel_y", "voxel_z")


class BDPy:
    """Reads fMRI patterns in BDPy's layout, one Dataset per region.

    Examples
    --------
    >>> READER.sniff(Path("betas.nii"))
    False
    """

    name = "bdpy"
    layout = (
        ".h5 of BDPy: /dataset (n_observations, n_columns) and /metadata, which says what the columns are; with roi="
    )

    def sniff(self, path: Path) -> bool:
        """Recognise HDF5 files with a dataset and its metadata.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether it has ``dataset`` and ``metadata/key``.
        """
        if path.suffix.lower() not in _SUFFIXES:
            return False
        try:
            with h5py.File(path, "r") as file:
                return bdpy_groups(file) is not None
        except Exception:  # HDF5 fails in many ways on damaged files
            return False

    def read(
        self,
        path: Path,
        *,
        roi: str | Sequence[str] | None = None,
        condition_column: str | None = None,
        run_column: str | None = None,
    ) -> Dataset | list[Dataset]:
        """Read all voxels, or those of regions.

        Parameters
        ----------
        path : Path
            The file.
        roi : str or sequence of str, optional
            Regions, as keys of the metadata, with or without ``ROI_``: a list of Datasets for a list of names, one
            Dataset for a name; by default one of all voxels.
        condition_column : str, optional
            Key of the column with the conditions; by default ``Label`` or a similar one.
        run_column : str, optional
            Key of the column with the runs; by default ``Run``.

        Returns
        -------
        rsatoolbox.data.Dataset or list of Dataset
            Observation descriptors ``stimulus`` (the texts of ``vmap``, or else the numbers) and, if known, ``run``
            (``session/run`` of several sessions) and ``session``; channel descriptors ``voxel_x``, ``voxel_y``,
            ``voxel_z`` if known. Observations without a condition (NaN) are left out.

        Raises
        ------
        BrainrdlError
            If the file is damaged or has another layout, a key is unknown or belongs to several columns, or the column
            of the conditions is in doubt.
        """
        with opened(path) as file:
            table = _Table(file)
            conditions = table.labels(table.conditions(condition_column))
            kept = [place for place, name in enumerate(conditions) if name]
            if not kept:
                refuse(f"none of the {len(conditions)} observations has a condition")
            observed = {"stimulus": [conditions[place] for place in kept]} | table.runs(run_column, kept)
            voxels = table.columns(_VOXELS)
            values, places = table.data[kept][:, voxels], table.places(voxels)
            parts = [(name, np.flatnonzero(np.isin(voxels, table.region(name)))) for name in _asked(roi)]
        every = [(None, np.arange(len(voxels)))]
        left_out = len(conditions) - len(kept)
        found = [
            dataset_of(values, name, channels, observed, places, path, left_out) for name, channels in parts or every
        ]
        return found[0] if roi is None or isinstance(roi, str) else found


def _asked(roi: str | Sequence[str] | None) -> list[str]:
    asked = [] if roi is None else [roi] if isinstance(roi, str) else list(roi)
    check_unique(asked, read_arg("roi"))
    if roi is not None and not asked:
        refuse("roi= is an empty list; leave it out to read all voxels")
    return asked


class _Table:
    """The matrix of a file, and what its metadata say about the columns."""

    def __init__(self, file: h5py.File) -> None:
        groups = bdpy_groups(file)
        if groups is None:
            refuse("the file has no 'dataset' with 'metadata/key', as BDPy writes them")
        dataset, metadata = groups
        self.file = file
        self.data = numbers(file, dataset, 2)
        self.keys = [as_text(key) for key in values_of(file, f"{metadata}/key")]
        self.values = numbers(file, f"{metadata}/value", 2)
        check_unique(self.keys, "the keys of the metadata")
        if self.values.shape != (len(self.keys), self.data.shape[1]):
            refuse(
                f"the metadata describe {self.values.shape} (keys, columns), but there are {len(self.keys)} keys and "
                f"{self.data.shape[1]} columns"
            )

    def columns(self, key: str) -> np.ndarray:
        """Give the columns that belong to a key."""
        check_option(key, self.keys, "key of the metadata")
        found = np.flatnonzero(self.values[self.keys.index(key)] == 1)
        if not found.size:
            refuse(f"no column belongs to the key {key!r} of the metadata")
        return found

    def region(self, name: str) -> np.ndarray:
        """Give the columns of a region, whose key may begin with ``ROI_``."""
        key = next((key for key in (name, f"ROI_{name}") if key in self.keys), None)
        if key is None:
            known = [each.removeprefix("ROI_") for each in self.keys if each.startswith("ROI_")]
            refuse(f"region {name!r} is not known{nearest(name, known)}; there are {quote(known)}")
        return np.intersect1d(self.columns(key), self.columns(_VOXELS))

    def single(self) -> dict[str, int]:
        """Give the columns that are not voxels and alone belong to a key."""
        voxels = set(self.columns(_VOXELS).tolist())
        found = {key: np.flatnonzero(row == 1).tolist() for key, row in zip(self.keys, self.values, strict=True)}
        return {key: held[0] for key, held in found.items() if len(held) == 1 and held[0] not in voxels}

    def conditions(self, asked: str | None) -> str:
        """Give the key of the conditions."""
        known = self.single()
        if asked is not None:
            return check_option(asked, known, "condition_column")
        usual = [key for key in known if key.lower() in _USUAL]
        if len(usual) != 1:
            refuse(f"which column names the conditions? Give {read_arg('condition_column')}; there are {quote(known)}")
        return usual[0]

    def labels(self, key: str) -> list[str]:
        """Give the texts of a column, the numbers if it has none; "" for NaN."""
        column = self.data[:, self.single()[key]]
        texts = self._texts(key)
        unknown = sorted({float(each) for each in column[~np.isnan(column)]} - texts.keys()) if texts else []
        if unknown:
            refuse(f"vmap has no text for {quote(unknown)} in the column {key!r}")
        return ["" if np.isnan(each) else texts.get(float(each), as_text(float(each))) for each in column]

    def _texts(self, key: str) -> dict[float, str]:
        group = member(self.file, f"vmap/{key}")
        if not isinstance(group, h5py.Group):
            return {}
        return {float(number): as_text(np.ravel(values_of(self.file, f"vmap/{key}/{number}"))[0]) for number in group}

    def runs(self, asked: str | None, kept: Sequence[int]) -> dict[str, list[str]]:
        """Name the runs, of several sessions by session and run."""
        known = {key.lower(): key for key in self.single()}
        run = known.get("run") if asked is None else check_option(asked, self.single(), "run_column")
        found: Mapping[str, list[str]] = {
            name: condition_names([self.labels(key)[place] for place in kept], f"column {key!r}")
            for name, key in (("run", run), ("session", known.get("session")))
            if key is not None
        }
        if len(set(found.get("session", []))) < 2:
            return {"run": found["run"]} if "run" in found else {}
        sessions = found["session"]
        runs = [f"{ses}/{run}" for ses, run in zip(sessions, found["run"], strict=True)] if "run" in found else sessions
        return {"run": runs, "session": sessions}

    def places(self, voxels: np.ndarray) -> dict[str, np.ndarray]:
        """Give the positions of the voxels, in the unit of the file."""
        return {key: self.values[self.keys.index(key), voxels] for key in _PLACES if key in self.keys}


READER = BDPy()
