"""The Natural Scenes Dataset (NSD): single-trial betas in its volume spaces, by region.

Layout on disk, as it is downloaded::

    nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session01.hdf5 (or .nii.gz), ...
    nsddata/ppdata/subj01/func1pt8mm/roi/prf-visualrois.nii.gz      numbers of regions, 0 or less outside of all
    nsddata/freesurfer/subj01/label/prf-visualrois.mgz.ctab         their names, lines like "1 V1v" (or in fsaverage/)
    nsddata/experiments/nsd/nsd_expdesign.mat                       masterordering (1, 30000), subjectim (8, 10000)

Betas are int16, 300 times percent signal change, 750 trials per session. The array ``betas`` of an .hdf5 file is
(x, y, z, trial) in MATLAB's order and (trial, z, y, x) in HDF5's, in chunks of one voxel; only the rows that hold a
region's voxels are read. A .nii.gz file must be decompressed from its beginning to its end, one volume at a time.

Trial k of all trials, counted from 1, showed image ``subjectim(subject, masterordering(k))``: the 73k number, counted
from 1. It gives the names of conditions, ``nsd02951``, as in NSD's own files ``shared0001_nsd02951.png``; in
``nsd_stimuli.hdf5``, and in the column ``nsdId``, that image has the number 2950.

Checked against the NSD data manual (pages "Functional data (NSD)", "ROIs", "Technical notes") and public code that
reads the release (for example tknapen/nsd_access); not checked against the data. Surface betas (fsaverage) have another
layout and cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainrdl._core.errors import check_option, check_unique, quote, read_arg, refuse
from data_adapters._shared import hdf5 as _hdf5
from data_adapters._shared.matlab_files import opened
from data_adapters.fmri_maps.maps import dataset_of
from data_adapters.fmri_maps.regions import as_labels, find_regions, read_beside, read_label_table
from data_adapters.fmri_maps.volumes import open_volumes, read_values

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
_TRIALS = 750  # of each session

_SCALE = 300  # stored numbers are this many times percent signal change

_IMAGES = 73_000

_SESSION = re.compile(r"betas_session(\d\d)\.(hdf5|nii\.gz)")


class Nsd:
    """Reads a subject's single-trial betas as measurements, one Dataset per region.

    Examples
    --------
    >>> READER.sniff(Path("no_such_folder"))
    False
    """

    name = "nsd"
    layout = (
        "folder of the Natural Scenes Dataset with nsddata/ and nsddata_betas/; with subject=, and roi= of an atlas="
    )

    def sniff(self, path: Path) -> bool:
        """Recognise the folder by the names of two folders in it.

        Parameters
        ----------
        path : Path
            The folder.

        Returns
        -------
        bool
            Whether it has the folders ``nsddata`` and ``nsddata_betas``.
        """
        return (path / "nsddata").is_dir() and (path / "nsddata_betas").is_dir()

    def read(
        self,
        path: Path,
        *,
        subject: str | int | None = None,
        atlas: str = "prf-visualrois",
        roi: str | Sequence[str] | None = None,
        space: str = "func1pt8mm",
        betas: str = "betas_fithrf_GLMdenoise_RR",
        sessions: int | Sequence[int] | None = None,
    ) -> Dataset | list[Dataset]:
        """Read the betas of each region.

        Parameters
        ----------
        path : Path
            The folder that holds ``nsddata`` and ``nsddata_betas``.
        subject : str or int, optional
            For example 1 or ``"subj01"``; by default the only one.
        atlas : str
            Name of a volume in the subject's folder ``roi``, for example ``"streams"`` or ``"lh.floc-faces"``.
        roi : str or sequence of str, optional
            Regions to read: a list of Datasets for a list of names, one Dataset for a name; by default all.
        space : {"func1pt8mm", "func1mm"}
            The grid of the betas.
        betas : str
            The version of the betas.
        sessions : int or sequence of int, optional
            Sessions to read, counted from 1; by default all that were downloaded.

        Returns
        -------
        rsatoolbox.data.Dataset or list of Dataset
            Percent signal change. Observation descriptors ``stimulus`` and ``run`` (the session), channel descriptors
            ``i``, ``j``, ``k`` (voxel, from 0), and the descriptors ``roi``, ``subject``, ``n_dropped_channels``
            (voxels that are the same in all trials of a session).

        Raises
        ------
        BrainrdlError
            If a file is missing, damaged or of another layout, the grids differ, or a subject, session or region is
            unknown.
        """
        folders = path / "nsddata_betas" / "ppdata"
        name = subject_named(
            subject, [each.name for each in folders.glob("subj[0-9][0-9]") if each.is_dir()], str(folders)
        )
        check_option(space, ("func1pt8mm", "func1mm"), "space")
        files = _sessions(folders / name / space, betas, sessions)
        labels, names, shape = _labels(path / "nsddata", name, space, atlas)
        regions = find_regions(np.ones(labels.size, bool), labels, names, roi)
        voxels = np.unique(np.concatenate([channels for _, channels in regions]))
        observed = _observed(path / "nsddata/experiments/nsd/nsd_expdesign.mat", name, list(files))
        values = np.empty((_TRIALS * len(files), voxels.size), np.float32)
        for start, file in enumerate(files.values()):
            values[start * _TRIALS : (start + 1) * _TRIALS] = _betas(file, shape, voxels)
        places = dict(zip("ijk", np.unravel_index(voxels, shape, order="F"), strict=True))
        parts = [(region, np.searchsorted(voxels, channels)) for region, channels in regions]
        datasets = [dataset_of(values, region, part, observed, places, Path(name)) for region, part in parts]
        for each in datasets:
            each.descriptors["subject"] = name
        return datasets[0] if isinstance(roi, str) else datasets


def subject_named(asked: str | int | None, known: Sequence[str], where: str) -> str:
    """Give the subject of that name or number, or the only one."""
    number = int(str(asked)) if re.fullmatch(r"[0-9]{1,9}", str(asked)) else None
    found = [name for name in known if asked in (None, name) or number == int(re.sub(r"\D", "", name) or -1)]
    if len(found) != 1:
        refuse(f"subject={asked!r} must name one of the subjects {quote(sorted(known))} in {where!r}")
    return found[0]


def _sessions(folder: Path, betas: str, asked: int | Sequence[int] | None) -> dict[int, Path]:
    """Give the file of each session, the HDF5 file if both exist."""
    check_option(betas, sorted(each.name for each in folder.glob("*/")), f"betas (in {str(folder)!r})")
    found = [(match, file) for file in sorted((folder / betas).iterdir()) if (match := _SESSION.fullmatch(file.name))]
    files = {int(match[1]): file for match, file in reversed(found)}
    wanted = sorted(files) if asked is None else [asked] if isinstance(asked, int) else list(asked)
    if asked is not None and not wanted:
        refuse("sessions= is an empty list; leave it out to read all sessions")
    check_unique([str(number) for number in wanted], read_arg("sessions"))
    missing = [number for number in wanted if number not in files]
    if missing or not files:
        refuse(f"sessions {quote(missing)} are not in {str(folder / betas)!r}; it has the sessions {sorted(files)}")
    return {number: files[number] for number in wanted}


def _labels(nsddata: Path, subject: str, space: str, atlas: str) -> tuple[np.ndarray, dict[int, str], tuple[int, ...]]:
    """Give each voxel's number, the first axis fastest, the regions' names, and the grid."""
    folder = nsddata / "ppdata" / subject / space / "roi"
    check_option(atlas, sorted(file.name[:-7] for file in folder.glob("*.nii.gz")), f"atlas (in {str(folder)!r})")
    tables = [
        nsddata / "freesurfer" / whose / "label" / f"{re.sub(r'^[lr]h[.]', '', atlas)}.mgz.ctab"
        for whose in (subject, "fsaverage")
    ]
    table = next((file for file in tables if file.is_file()), None)
    if table is None:
        refuse(
            f"the names of the regions of atlas {atlas!r} are missing: download {str(tables[0])!r} or, "
            f"if there is none, {str(tables[1])!r}"
        )
    volume = open_volumes(folder / f"{atlas}.nii.gz")
    numbers = as_labels(read_beside(volume.path, "atlas", volume))
    return numbers, read_label_table(table, int(numbers.max())), volume.shape


def _observed(path: Path, subject: str, sessions: Sequence[int]) -> dict[str, list[str]]:
    """Name the image and the session of each trial."""
    if not path.is_file():
        refuse(f"the file that says which image each trial showed is missing: download {str(path)!r}")
    file = opened(path)
    shapes = {"masterordering": (1, 40 * _TRIALS), "subjectim": (8, 10_000)}
    for key, shape in shapes.items():
        if file.shapes.get(key) != shape:
            refuse(f"{key!r} of {str(path)!r} must hold numbers of shape {shape}, got {file.shapes.get(key)}")
    order, images = (np.asarray(file.load(key, ())) for key in shapes)
    for key, held, largest in (("masterordering", order, images.shape[1]), ("subjectim", images, _IMAGES)):
        if not ((held >= 1) & (held <= largest) & (held == np.floor(held))).all():
            refuse(f"{key!r} of {str(path)!r} must hold whole numbers from 1 to {largest}")
    beyond = [number for number in sessions if not 1 <= number <= order.size // _TRIALS]
    if beyond:
        refuse(f"sessions {quote(beyond)} are beyond the design, which has 1 to {order.size // _TRIALS}")
    trials = np.concatenate([np.arange((number - 1) * _TRIALS, number * _TRIALS) for number in sessions])
    shown = images[int(subject[-2:]) - 1, order.ravel()[trials].astype(int) - 1]
    runs = [str(number) for number in sessions for _ in range(_TRIALS)]
    return {"stimulus": [f"nsd{int(number):05d}" for number in shown], "run": runs}


def _betas(path: Path, shape: tuple[int, ...], voxels: np.ndarray) -> np.ndarray:
    """Read some voxels of a session; those that are the same in all its trials (outside the brain) become NaN."""
    values = (_hdf5_values if path.suffix == ".hdf5" else _nifti_values)(path, shape, voxels)
    values[:, values.min(axis=0) == values.max(axis=0)] = np.nan
    return values / np.float32(_SCALE)


def _check_layout(path: Path, found: tuple[int, ...], shape: tuple[int, ...], dtype: np.dtype) -> None:
    if found != (*shape, _TRIALS) or dtype.newbyteorder("=") != np.int16:
        refuse(
            f"the betas of {str(path)!r} are {dtype} of shape {found} (x, y, z, trial), expected int16 of "
            f"{(*shape, _TRIALS)}, the grid of the atlas with {_TRIALS} trials"
        )


def _hdf5_values(path: Path, shape: tuple[int, ...], voxels: np.ndarray) -> np.ndarray:
    with _hdf5.opened(path) as file:
        stored = _hdf5.array(file, "betas")
        _check_layout(path, stored.shape[::-1], shape, stored.dtype)
        values = np.empty((_TRIALS, voxels.size), np.float32)
        rows, x = np.divmod(voxels, shape[0])
        for part in np.split(np.arange(voxels.size), np.flatnonzero(np.diff(rows)) + 1):
            z, y = divmod(int(rows[part[0]]), shape[1])
            first = int(x[part[0]])
            values[:, part] = stored[:, z, y, first : int(x[part[-1]]) + 1][:, x[part] - first]
    return values


def _nifti_values(path: Path, shape: tuple[int, ...], voxels: np.ndarray) -> np.ndarray:
    volumes = open_volumes(path)
    _check_layout(path, (*volumes.shape, volumes.n), shape, volumes.dtype)
    if (volumes.slope, volumes.inter) != (1, 0):
        refuse(f"the header of {str(path)!r} scales the numbers by {volumes.slope}, expected NSD's own int16")
    return read_values(volumes, voxels)


READER = Nsd()
