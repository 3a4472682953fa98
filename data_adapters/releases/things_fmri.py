"""THINGS-fMRI: single-trial responses in table format (``betas_csv``), by region.

Layout on disk, as it is downloaded::

    betas_csv/sub-01_ResponseData.h5        a pandas table: rows are voxels, columns voxel_id and the trials 0, 1, ...
              sub-01_StimulusMetadata.csv   a row for each trial: stimulus, session, run, trial_type (train, test), ...
              sub-01_VoxelMetadata.csv      a row for each voxel: voxel_id, and a column of 0 and 1 for each region

The .h5 file is pandas' "fixed" format, which is read as plain HDF5: ``ResponseData/block0_values`` (voxel, trial) and
the numbers of the voxels in another block. Voxels are paired by ``voxel_id``, trials by the label of their column.
If pandas pickled the labels, they are not read, and the columns are used in their order.

Checked against the usage notes of the authors (ViCCo-Group/THINGS-data, THINGS-data_usage_notes), public code that
reads the .h5 file as HDF5, and a file written by pandas; not checked against the data.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from brainrdl._core.errors import check_option, check_unique, quote, read_arg, refuse
from data_adapters._shared import hdf5 as _hdf5
from data_adapters.fmri_maps.maps import dataset_of
from data_adapters.releases.nsd import subject_named

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.data.dataset import Dataset
_VOXEL = ("voxel_id", "voxel_x", "voxel_y", "voxel_z")

_NO_REGION = re.compile(r"subject_id$|nc_|splithalf_|prf-|Unnamed")

_REQUIRED = ("stimulus", "session", "run", "trial_type")


class ThingsFmri:
    """Reads a subject's single-trial responses as measurements, one Dataset per region.

    Examples
    --------
    >>> READER.sniff(Path("no_such_folder"))
    False
    """

    name = "things_fmri"
    layout = "folder betas_csv of THINGS-fMRI: sub-01_ResponseData.h5, _StimulusMetadata.csv, _VoxelMetadata.csv"

    def sniff(self, path: Path) -> bool:
        """Recognise the folder by the name of a file in it.

        Parameters
        ----------
        path : Path
            The folder.

        Returns
        -------
        bool
            Whether it holds a ``sub-..._ResponseData.h5``.
        """
        return path.is_dir() and any(path.glob("sub-*_ResponseData.h5"))

    def read(
        self,
        path: Path,
        *,
        subject: str | int | None = None,
        roi: str | Sequence[str] | None = None,
        trial_type: str | None = None,
    ) -> Dataset | list[Dataset]:
        """Read the responses of each region.

        Parameters
        ----------
        path : Path
            The folder ``betas_csv``.
        subject : str or int, optional
            For example 1 or ``"sub-01"``; by default the only one.
        roi : str or sequence of str, optional
            Columns of the voxels' table: a list of Datasets for a list of names, one Dataset for a name; by default all
            regions with a voxel, which may be many gigabytes.
        trial_type : str, optional
            ``"test"`` (images shown in every session) or ``"train"``; by default all trials.

        Returns
        -------
        rsatoolbox.data.Dataset or list of Dataset
            Observation descriptors ``stimulus`` (the image's name without suffix), ``concept``, ``session``, ``run``
            (session and run, ``"1-1"``) and ``trial_type``; channel descriptors ``voxel_id``, ``voxel_x``, ``voxel_y``,
            ``voxel_z``; the descriptors ``roi`` and ``subject``.

        Raises
        ------
        BrainrdlError
            If a file is missing, damaged or of another layout, the tables do not fit the responses, or a subject,
            region or type of trial is unknown.
        """
        known = [file.name.split("_")[0] for file in path.glob("sub-*_ResponseData.h5")]
        name = subject_named(subject, known, str(path))
        trials = _trials(path / f"{name}_StimulusMetadata.csv")
        voxels, regions = _regions(path / f"{name}_VoxelMetadata.csv", roi)
        kept = _chosen(trials, trial_type)
        with _hdf5.opened(path / f"{name}_ResponseData.h5") as file:
            responses, rows = _responses(file, len(trials), voxels["voxel_id"].to_numpy())
            columns = _columns(responses, len(trials))[kept]
            read = {region: _read(responses, rows[places], columns) for region, places in regions.items()}
        observed = {str(key): trials[key].to_numpy()[kept].tolist() for key in trials}
        places = {key: voxels[key].to_numpy() for key in _VOXEL}
        datasets = [
            dataset_of(
                values,
                region,
                np.arange(values.shape[1]),
                observed,
                {key: each[regions[region]] for key, each in places.items()},
                Path(name),
            )
            for region, values in read.items()
        ]
        return datasets[0] if isinstance(roi, str) else datasets


def stems(names: Sequence[str], where: str) -> list[str]:
    """Remove the suffixes of images' names; names that differ in nothing else are refused."""
    stems = {name: Path(name).stem for name in names}
    check_unique(list(stems.values()), f"{where}, without suffixes")
    return [stems[name] for name in names]


def _header(path: Path, required: Sequence[str]) -> list[str]:
    """Give the names of a table's columns, some of which it must have."""
    import pandas as pd

    if not path.is_file():
        refuse(f"the table {str(path)!r} is missing; download it")
    header = list(map(str, pd.read_csv(path, nrows=0).columns))
    missing = [column for column in required if column not in header]
    if missing:
        refuse(f"{str(path)!r} has no columns {quote(missing)}; it has {quote(header)}")
    return header


def _trials(path: Path) -> pd.DataFrame:
    """Give the descriptors of each trial, as texts."""
    import pandas as pd

    _header(path, _REQUIRED)
    table = pd.read_csv(path, dtype=str)
    if not len(table) or table[list(_REQUIRED)].isna().any(axis=None):
        refuse(f"{str(path)!r} must have one row per trial, with {', '.join(_REQUIRED)}")
    if "trial_id" in table:
        _check_order(table["trial_id"], path)
    table["stimulus"] = stems(table["stimulus"].tolist(), repr(path.name))
    if "concept" not in table:  # dog_12s is an image of the concept dog
        table["concept"] = table["stimulus"].str.replace(r"_\d+[a-z]*$", "", regex=True)
    table["run"] = table["session"] + "-" + table["run"]
    return table[["stimulus", "concept", "session", "run", "trial_type"]]


def _check_order(numbers: pd.Series, path: Path) -> None:
    """Refuse trials that are not in the order of the responses; numbers may be written as ``0.0``."""
    import pandas as pd

    read = pd.to_numeric(numbers, errors="coerce")
    if read.isna().any():
        refuse(f"the column trial_id of {str(path)!r} holds {numbers[read.isna()].iloc[0]!r}, which is not a number")
    if not (read.is_monotonic_increasing and read.is_unique):
        refuse(
            f"the rows of {str(path)!r} are not in the order of trial_id, as the responses are; sort them by it, with "
            "each trial once"
        )


def _chosen(trials: pd.DataFrame, trial_type: str | None) -> np.ndarray:
    """Give the positions of the trials of one type, or of all trials."""
    kinds = trials["trial_type"].to_numpy()
    if trial_type is None:
        return np.arange(len(trials))
    return np.flatnonzero(kinds == check_option(trial_type, sorted(set(kinds)), "trial_type"))


def _regions(path: Path, roi: str | Sequence[str] | None) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Give the table of voxels, and the positions in it of the voxels of each region."""
    import pandas as pd

    known = [name for name in _header(path, _VOXEL) if name not in _VOXEL and not _NO_REGION.match(name)]
    asked = known if roi is None else [roi] if isinstance(roi, str) else list(roi)
    check_unique(asked, read_arg("roi"))
    table = pd.read_csv(path, usecols=[*_VOXEL, *(check_option(name, known, "roi") for name in asked)])
    check_unique(table["voxel_id"].astype(str).tolist(), f"the column voxel_id of {str(path)!r}")
    wrong = [name for name in asked if not table[name].isin([0, 1]).all()]
    if wrong:
        refuse(
            f"the columns {quote(wrong)} of {str(path)!r} must hold 0 and 1, which say which voxels belong to the "
            "region"
        )
    regions = {name: np.flatnonzero(table[name] == 1) for name in asked}
    empty = [name for name, places in regions.items() if not places.size]
    if empty and (roi is not None or len(empty) == len(regions)):
        refuse(f"no voxel belongs to the regions {quote(empty)}; leave them out of {read_arg('roi')}")
    if not regions:
        refuse(f"there is no region to read: {read_arg('roi', roi)}; {str(path)!r} has {quote(known)}")
    return table, {name: places for name, places in regions.items() if places.size}


def _responses(file: h5py.File, n_trials: int, voxels: np.ndarray) -> tuple[h5py.Dataset, np.ndarray]:
    """Give the responses (voxel, trial), unread, and which of their rows each voxel of the table is."""
    groups = [name for name in file if isinstance(_hdf5.member(file, name), h5py.Group)]
    held = [f"{name}/block{number}_values" for name in groups for number in range(4)]
    blocks = {name: _hdf5.array(file, name) for name in held if _hdf5.member(file, name) is not None}
    found = [each for each in blocks.values() if each.ndim == 2 and each.dtype.kind == "f" and each.shape[1] > 1]
    numbers = [each for each in blocks.values() if each.ndim == 2 and each.dtype.kind in "iu" and each.shape[1] == 1]
    if len(found) != 1 or len(numbers) != 1:
        shapes = {name: (str(each.dtype), each.shape) for name, each in blocks.items()}
        refuse(
            f"expected a table in the fixed format of pandas, with a block of responses and one of voxel_id; got "
            f"{shapes}"
        )
    responses, own = found[0], numbers[0]
    if responses.shape != (own.shape[0], n_trials):
        refuse(
            f"the responses have shape {responses.shape} for {own.shape[0]} voxels and {n_trials} trials in the table"
        )
    ids = own[:, 0]
    order = np.argsort(ids, kind="stable")
    places = order[np.minimum(np.searchsorted(ids, voxels, sorter=order), ids.size - 1)]
    if ids.size != voxels.size or (ids[places] != voxels).any():
        refuse("the column voxel_id of the responses and that of the voxels' table name different voxels")
    return responses, places


def _columns(responses: h5py.Dataset, n_trials: int) -> np.ndarray:
    """Give the column of each trial, by the columns' labels unless these are a pickle."""
    name = responses.name.replace("_values", "_items")
    items = _hdf5.member(responses.file, name)
    if not isinstance(items, h5py.Dataset) or items.dtype.kind not in "SiU":
        return np.arange(n_trials)
    labels = [each.decode() if isinstance(each, bytes) else str(each) for each in _hdf5.array(items.file, name)[()]]
    if sorted(labels) != sorted(map(str, range(n_trials))):
        refuse(f"the columns of the responses are labelled {quote(labels)}, expected 0 to {n_trials - 1}")
    return np.argsort([int(label) for label in labels])


def _read(responses: h5py.Dataset, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Read some voxels, as (trial, voxel); adjacent ones together."""
    order = np.argsort(rows)
    values = np.empty((columns.size, rows.size), responses.dtype.newbyteorder("="))
    for part in np.split(order, np.flatnonzero(np.diff(rows[order]) > 1) + 1):
        values[:, part] = responses[int(rows[part[0]]) : int(rows[part[-1]]) + 1][:, columns].T
    return values


READER = ThingsFmri()
