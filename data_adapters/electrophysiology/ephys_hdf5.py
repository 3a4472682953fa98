"""Spike counts or rates as a plain array in HDF5, as scripts write them.

Layout on disk (``.h5``, ``.hdf5``): one array with the axes trials and units, and optionally time, in any order;
``axes=`` gives this order::

    /spikes        (n_trials, n_units, n_time)     variable="spikes", axes="trials,units,time"
    /stimulus      (n_trials,) texts or numbers    condition_column="stimulus"; (n_trials, 1) and (1, n_trials) too
    /block         (n_trials,)                     run_column="block"
    /t             (n_time,) s                     times="t"

The names are those in the file, also in groups (``"session1/spikes"``). A response averaged over trials counts as one
trial.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from brainrdl._core.errors import check_option, check_unique, read_arg, refuse
from data_adapters._shared.hdf5 import array, bdpy_groups, numbers, opened, values as values_of
from data_adapters._shared.measurements import condition_names, dataset

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
_SUFFIXES = frozenset({".h5", ".hdf5"})

_AXES = ("trials", "units", "time")

_USUAL = re.compile(r"spike|count|rate|firing|psth|response", re.IGNORECASE)


class EphysHDF5:
    """Reads an array of trials x units (x time) from HDF5.

    Examples
    --------
    >>> READER.sniff(Path("responses.csv"))
    False
    """

    name = "ephys"
    layout = (
        ".h5 or .hdf5 with an array of trials x units (x time) named spikes, counts, rates, responses or similar; "
        "with any other name, use reader='ephys', variable= and axes="
    )

    def sniff(self, path: Path) -> bool:
        """Recognise HDF5 files with an array whose name is usual for spikes.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix is ``.h5`` or ``.hdf5`` and such an array is at the top of the file.
        """
        if path.suffix.lower() not in _SUFFIXES:
            return False
        try:
            with h5py.File(path, "r") as file:
                return bool(_usual(file))
        except Exception:  # HDF5 fails in many ways on damaged files
            return False

    def read(
        self,
        path: Path,
        *,
        variable: str | None = None,
        axes: str | None = None,
        condition_column: str | None = None,
        run_column: str | None = None,
        times: str | None = None,
        tmin: float = 0.0,
        bin_width: float | None = None,
    ) -> Dataset:
        """Read the array.

        Parameters
        ----------
        path : Path
            The file.
        variable : str, optional
            The array (default: the only one with a usual name).
        axes : str
            Names of its axes, in their order: ``"trials,units,time"``, ``"units,trials"``, ...
        condition_column : str, optional
            The array with the condition of each trial.
        run_column : str, optional
            The array with the run (block) of each trial.
        times : str, optional
            The array with the times in seconds.
        tmin, bin_width : float, optional
            Instead of `times`: start of the first bin and width of bins, in seconds; the time of a bin is its centre.

        Returns
        -------
        rsatoolbox.data.Dataset or TemporalDataset
            The values as float64 (n_trials, n_units) or (n_trials, n_units, n_time), in the unit of the file; time in
            seconds.

        Raises
        ------
        BrainrdlError
            If the file is empty or not HDF5; if an array is missing, stored in another file or larger than the file; if
            `axes` does not fit its shape, its times are unknown, or an array of names lacks a value for each trial.
        """
        with opened(path) as file:
            if bdpy_groups(file) is not None:
                refuse(
                    "it is a file of BDPy, whose matrix also has columns of labels and runs; read it with "
                    f"{read_arg('reader', 'bdpy')}"
                )
            name = _variable(file) if variable is None else variable
            found = array(file, name)
            order = _order(axes, name, found.shape)
            values = numbers(file, name, len(order)).transpose([order.index(axis) for axis in _AXES if axis in order])
            return dataset(
                values,
                conditions=None if condition_column is None else _labels(file, condition_column, name, len(values)),
                runs=None if run_column is None else _labels(file, run_column, name, len(values)),
                times=_times(file, values.shape[2:], times, tmin, bin_width),
            )


def _usual(file: h5py.File) -> list[str]:
    """List the arrays at the top of the file whose names are usual for spikes, without following links."""
    owned = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    return [
        name
        for name in owned
        if _USUAL.search(name) and isinstance(file[name], h5py.Dataset) and file[name].ndim in (2, 3)
    ]


def _variable(file: h5py.File) -> str:
    found = _usual(file)
    if len(found) != 1:
        refuse(
            f"choose the array with {read_arg('variable')}: {', '.join(found or sorted(file)) or 'the file has none'}"
        )
    return found[0]


def _order(axes: str | None, name: str, shape: tuple[int, ...]) -> list[str]:
    """Split `axes` into names, if they fit the shape."""
    if axes is None:
        refuse(
            f"name the axes of {name!r}, of shape {shape}, in order: {read_arg('axes', 'trials,units,time')} or "
            "another order"
        )
    order = [check_option(axis.strip(), _AXES, f"axis in {read_arg('axes')}") for axis in axes.split(",")]
    check_unique(order, read_arg("axes", axes))
    if len(order) != len(shape) or not {"trials", "units"} <= set(order):
        refuse(
            f"{read_arg('axes', axes)} does not fit {name!r}, of shape {shape}: name each axis, including trials and "
            "units"
        )
    if 0 in shape:
        refuse(f"array {name!r} of shape {shape} is empty")
    return order


def _labels(file: h5py.File, column: str, name: str, n_trials: int) -> list[str]:
    labels = values_of(file, column)
    if len(labels) != n_trials:
        refuse(f"array {column!r} has {len(labels)} values for {n_trials} trials of {name!r}")
    return condition_names(labels, f"array {column!r}")


def _times(
    file: h5py.File, n_time: tuple[int, ...], times: str | None, tmin: float, bin_width: float | None
) -> np.ndarray | None:
    """Return the times in seconds, or None for an array without time."""
    given = [option for option in (times, bin_width) if option is not None]
    if len(given) != len(n_time):
        either = f"either {read_arg('times')} or {read_arg('bin_width')}"
        refuse(f"{read_arg('axes')} has {len(n_time)} axes of time, so give {either if n_time else 'no times'}")
    if bin_width is not None:
        return tmin + bin_width * (np.arange(n_time[0]) + 0.5)
    if times is None:
        return None
    found = numbers(file, times)
    if len(found) != n_time[0] or not np.isfinite(found).all():
        refuse(f"array {times!r} must hold {n_time[0]} times in s, got {int(np.isfinite(found).sum())} finite ones")
    return found


READER = EphysHDF5()
