"""BOLD5000, release 1: responses of ten regions to each image shown (``BOLD5000_ROIs.zip``, unpacked).

Layout on disk::

    ROIs/CSI1/mat/CSI1_ROIs_TR34.mat (or CSI1/h5/CSI1_ROIs_TR34.h5)     LHPPA, RHEarlyVis, ...: (trial, voxel)
         stim_lists/CSI01_stim_lists.txt                                the image of each trial, one per line

TR1 to TR5 are two seconds each, from the beginning of the trial; TR34 is the third and fourth. Images that are shown
again have ``rep_`` before the name.

Checked against public code by several authors that reads the release and agrees on names, shapes and the order of the
rows; not checked against the data. The betas of release 2 (GLMsingle) have another layout and cannot be read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainrdl._core.errors import check_option, check_unique, read_arg, refuse
from data_adapters._shared import hdf5 as _hdf5
from data_adapters._shared.matlab_files import opened
from data_adapters._shared.text import read_names
from data_adapters._shared.text_tables import blaming
from data_adapters.fmri_maps.maps import dataset_of
from data_adapters.releases.nsd import subject_named
from data_adapters.releases.things_fmri import stems

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
_FILE = re.compile(r"CSI\d_ROIs_(TR\d+)\.(mat|h5)")


class Bold5000:
    """Reads a subject's responses as measurements, one Dataset per region.

    Examples
    --------
    >>> READER.sniff(Path("no_such_folder"))
    False
    """

    name = "bold5000"
    layout = "folder ROIs of BOLD5000 with CSI1/mat/CSI1_ROIs_TR34.mat (or h5) and stim_lists/CSI01_stim_lists.txt"

    def sniff(self, path: Path) -> bool:
        """Recognise the folder by the names in it.

        Parameters
        ----------
        path : Path
            The folder.

        Returns
        -------
        bool
            Whether it has a folder ``stim_lists`` and one like ``CSI1``.
        """
        return (path / "stim_lists").is_dir() and any(path.glob("CSI?"))

    def read(
        self,
        path: Path,
        *,
        subject: str | int | None = None,
        roi: str | Sequence[str] | None = None,
        time: str = "TR34",
    ) -> Dataset | list[Dataset]:
        """Read the responses of each region.

        Parameters
        ----------
        path : Path
            The folder ``ROIs``.
        subject : str or int, optional
            For example 1 or ``"CSI1"``; by default the only one.
        roi : str or sequence of str, optional
            Regions to read: a list of Datasets for a list of names, one Dataset for a name; by default all.
        time : str
            Time after the beginning of a trial: ``"TR1"`` to ``"TR5"``, or ``"TR34"``.

        Returns
        -------
        rsatoolbox.data.Dataset or list of Dataset
            Observation descriptors ``stimulus`` (the image's name without suffix and ``rep_``) and ``presentation``
            (``"1"`` for the first time that the image was shown, ``"2"`` for the second, ...); the descriptors ``roi``,
            ``subject`` and ``n_dropped_channels``.

        Raises
        ------
        BrainrdlError
            If a file is missing or damaged, the list does not fit the responses, or a subject, region or time is
            unknown.
        """
        name = subject_named(subject, [each.name for each in path.glob("CSI[0-9]")], str(path))
        found = [(match[1], file) for file in path.glob(f"{name}/*/*") if (match := _FILE.fullmatch(file.name))]
        files = dict(
            sorted(found, key=lambda each: each[1].suffix, reverse=True)
        )  # if both exist, the HDF5 file is kept
        file = files[check_option(time, sorted(files), f"time (in {str(path / name)!r})")]
        observed = _observed(path / "stim_lists" / f"CSI{int(name[3:]):02d}_stim_lists.txt")
        arrays = _arrays(file, roi, len(observed["stimulus"]))
        datasets = [
            dataset_of(values, region, np.arange(values.shape[1]), observed, {}, Path(name))
            for region, values in arrays.items()
        ]
        for each in datasets:
            each.descriptors["subject"] = name
        return datasets[0] if isinstance(roi, str) else datasets


def _observed(path: Path) -> dict[str, list[str]]:
    """Name the image of each trial, and count how often it has been shown."""
    if not path.is_file():
        refuse(f"the list of the images shown, {str(path)!r}, is missing; unpack it as well")
    with blaming("the list of the images shown", path):
        lines = read_names(path)
    names = stems([line.removeprefix("rep_") for line in lines], repr(path.name))
    shown: Counter[str] = Counter()
    presentations = []
    for name in names:
        shown[name] += 1
        presentations.append(str(shown[name]))
    return {"stimulus": names, "presentation": presentations}


def _arrays(path: Path, roi: str | Sequence[str] | None, n_trials: int) -> dict[str, np.ndarray]:
    """Read only the regions asked for."""
    if path.suffix == ".h5":
        with _hdf5.opened(path) as file:
            shapes = {name: _hdf5.array(file, name).shape for name in file}
            return {name: _hdf5.numbers(file, name, 2) for name in _asked(shapes, roi, n_trials, path)}
    if not path.stat().st_size:
        refuse(f"the file {str(path)!r} is empty")
    variables = opened(path)
    kept = {name: shape for name, shape in variables.shapes.items() if isinstance(shape, tuple)}
    return {name: np.asarray(variables.load(name, ())) for name in _asked(kept, roi, n_trials, path)}


def _asked(
    shapes: dict[str, tuple[int, ...]], roi: str | Sequence[str] | None, n_trials: int, path: Path
) -> Sequence[str]:
    """Give the regions to read, which must have one row per trial."""
    asked = sorted(shapes) if roi is None else [roi] if isinstance(roi, str) else list(roi)
    check_unique(asked, read_arg("roi"))
    if not asked:
        refuse(f"there is no region to read: {read_arg('roi', roi)}; {str(path)!r} has {sorted(shapes)}")
    for name in asked:
        check_option(name, sorted(shapes), "roi")
        if len(shapes[name]) != 2 or shapes[name][0] != n_trials:
            refuse(
                f"{name!r} of {str(path)!r} has shape {shapes[name]}, expected ({n_trials}, n_voxels): the list names "
                f"{n_trials} trials"
            )
    return asked


READER = Bold5000()
