"""NetCDF files of neural recordings, as Brain-Score (BrainIO) writes its assemblies with xarray.

Layout on disk (``.nc``; NetCDF 4, which is HDF5, or NetCDF 3)::

    data              (presentation, neuroid[, time_bin]) in any order of the axes
    stimulus_id       (presentation,) names of the conditions; image_id in old files
    neuroid_id        (neuroid,)      names of the units
    region, animal    (neuroid,)      if known (or roi, subject)
    time_bin_start, time_bin_end      (time_bin,) ms, unless their attribute ``units`` says s

BrainIO flattens its multi-indices when writing, so each coordinate is a separate variable. The array is called
``data``, or ``__xarray_dataarray_variable__`` in uncompressed files. If an axis has only one coordinate, that has the
name of the axis (``presentation`` for ``stimulus_id``). ``axes=`` gives other names of dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from brainrdl._core.errors import check_option, check_unique, read_arg, refuse
from data_adapters._shared.hdf5 import array, member, opened
from data_adapters._shared.measurements import (
    condition_column as condition_column_of,
    condition_names,
    dataset,
    regions,
)

if TYPE_CHECKING:
    import xarray
    from rsatoolbox.data.dataset import Dataset
_SUFFIXES = frozenset({".nc", ".nc4", ".cdf", ".netcdf"})

_CONDITION = ("stimulus_id", "image_id")

_REGION = ("region", "roi")

_SUBJECT = ("animal", "subject")

_SECONDS = dict.fromkeys(("s", "sec", "second", "seconds"), 1.0) | dict.fromkeys(
    ("ms", "msec", "millisecond", "milliseconds"), 1e-3
)


class NetCDF:
    """Reads an assembly of presentations x neuroids (x time bins).

    Examples
    --------
    >>> READER.sniff(Path("assy_dicarlo_MajajHong2015_public.nc"))
    True
    """

    name = "netcdf"
    layout = (
        ".nc (NetCDF 4 or 3), as in Brain-Score's assemblies: presentation x neuroid (x time_bin), with stimulus_id"
    )

    def sniff(self, path: Path) -> bool:
        """Recognise files by their suffix.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix is ``.nc``, ``.nc4``, ``.cdf`` or ``.netcdf``.
        """
        return path.suffix.lower() in _SUFFIXES

    def read(
        self,
        path: Path,
        *,
        variable: str | None = None,
        axes: str = "presentation,neuroid,time_bin",
        condition_column: str | None = None,
        run_column: str | None = None,
        roi: str | Sequence[str] | None = None,
        by_subject: bool = False,
        time_unit: str | None = None,
    ) -> Dataset | list[Dataset]:
        """Read the assembly, one region at a time.

        Parameters
        ----------
        path : Path
            The file.
        variable : str, optional
            The array (default: the only one with these axes).
        axes : str
            The dimensions of observations, channels and, if there is one, time, in this order.
        condition_column : str, optional
            The coordinate that names the conditions (default: ``stimulus_id`` or ``image_id``).
        run_column : str, optional
            The coordinate that names the runs, for example ``repetition``.
        roi : str or sequence of str, optional
            The regions to read (default: all).
        by_subject : bool
            Whether the units of each animal make a separate Dataset, instead of being pooled.
        time_unit : {"s", "ms"}, optional
            The unit of the times, if it is not in the file.

        Returns
        -------
        rsatoolbox.data.Dataset, TemporalDataset, or a list of them, one per region (and subject)
            Measurements (n_presentations, n_units[, n_time]) in the unit of the file. Channel descriptor ``unit``;
            descriptors ``roi`` and, if all units are from one animal, ``subject``. A single time bin is not kept as an
            axis; the time of several bins is their centre in seconds.

        Raises
        ------
        BrainrdlError
            If xarray is not installed; if the file is empty, links to another file or declares more data than it
            contains; if no array has these dimensions, or a coordinate is missing or does not name every observation.
        """
        if not path.stat().st_size:
            refuse("the file is empty")
        engine = _engine(path)
        with _xarray().open_dataset(
            path, engine=engine, decode_times=False, decode_timedelta=False, cache=False
        ) as file:
            found = _variable(file, variable, axes)
            observation, channel, *time = _dimensions(axes, found)
            across = {name: each for name, each in file.variables.items() if each.dims == (observation,)}
            units = {name: each for name, each in file.variables.items() if each.dims == (channel,)}
            usual = (*_CONDITION, *([observation] if len(across) == 1 else []))
            conditions = condition_column_of(list(across), condition_column, usual, f"dimension {observation!r}")
            run = None if run_column is None else check_option(run_column, list(across), "run_column")
            common: dict[str, Any] = {
                "conditions": None if conditions is None else _names(across, conditions),
                "runs": None if run is None else _names(across, run),
                "times": _times(file, time, time_unit),
            }
            parts = _parts(units, found.sizes[channel], roi, by_subject)
            names = _labels(units, ("neuroid_id", channel)) or [str(k) for k in range(found.sizes[channel])]
            made = [
                dataset(
                    _values(found, observation, channel, time, places),
                    channels={"unit": [names[place] for place in places]},
                    descriptors=described,
                    **common,
                )
                for described, places in parts
            ]
        return made if len(made) > 1 else made[0]


def _xarray() -> Any:
    try:
        import h5netcdf  # type: ignore[import-untyped]  # noqa: F401
        import xarray
    except ImportError as error:
        refuse(f"reading NetCDF needs xarray and h5netcdf ({error}); pip install 'brainrdl[arrays]'")
    return xarray


def _engine(path: Path) -> str:
    """Choose the library that reads the file; refuse arrays in HDF5 that are in other files or larger than stored."""
    with path.open("rb") as opened_file:
        if opened_file.read(3) == b"CDF":
            return "scipy"
    with opened(path) as file:
        for name in file:
            if isinstance(member(file, name), h5py.Dataset):
                array(file, name)
    return "h5netcdf"


def _variable(file: xarray.Dataset, variable: str | None, axes: str) -> xarray.DataArray:
    """Return the requested array, or the only one with the first two of these dimensions."""
    needed = set(axes.replace(" ", "").split(",")[:2])
    possible = [str(name) for name, each in file.data_vars.items() if needed <= set(each.dims)]
    described = ", ".join(f"{name} {each.dims}" for name, each in file.data_vars.items()) or "none"
    if variable is None and len(possible) != 1:
        refuse(
            f"{len(possible)} arrays have the dimensions {read_arg('axes', axes)}; use {read_arg('variable')} or "
            f"{read_arg('axes')}; known: {described}"
        )
    return file[
        possible[0] if variable is None else check_option(variable, [str(n) for n in file.data_vars], "variable")
    ]


def _dimensions(axes: str, found: xarray.DataArray) -> list[str]:
    """Split `axes`, and leave out time if the array has none."""
    asked = axes.replace(" ", "").split(",")
    check_unique(asked, read_arg("axes", axes))
    present = [name for name in asked if name in found.dims]
    if len(asked) not in (2, 3) or asked[:2] != present[:2] or len(present) != found.ndim or 0 in found.shape:
        refuse(f"{read_arg('axes', axes)} does not fit array {found.name!r} with dimensions {dict(found.sizes)}")
    if found.dtype.kind not in "biuf":
        refuse(f"array {found.name!r} holds {found.dtype}, not numbers")
    return present


def _parts(
    units: Mapping[Any, xarray.Variable], n_units: int, roi: str | Sequence[str] | None, by_subject: bool
) -> list[tuple[dict[str, str], np.ndarray]]:
    """Return descriptors and positions of units for each part: a region, or a region of one subject."""
    places_of = _labels(units, _REGION)
    subjects = _labels(units, _SUBJECT)
    if (places_of is None and roi is not None) or (subjects is None and by_subject):
        wanted = (
            f"roi={roi!r} needs {_REGION}" if places_of is None and roi is not None else f"by_subject needs {_SUBJECT}"
        )
        refuse(f"{wanted} among the coordinates of the units; they are {', '.join(map(str, units)) or 'none'}")
    parts = []
    for region, places in (regions(places_of, roi) if places_of else {"": np.arange(n_units)}).items():
        known = {"roi": region} if region else {}
        here = [subjects[place] for place in places] if subjects else []
        for subject in dict.fromkeys(here) if by_subject or len(set(here)) == 1 else [""]:
            chosen = places[np.array(here) == subject] if subject else places
            parts.append((known | ({"subject": subject} if subject else {}), chosen))
    return parts


def _labels(units: Mapping[Any, xarray.Variable], usual: Sequence[str]) -> list[str] | None:
    found = [name for name in usual if name in units]
    return _texts(units[found[0]]) if found else None


def _names(across: Mapping[Any, xarray.Variable], name: str) -> list[str]:
    return condition_names(across[name].values, f"coordinate {name!r}")


def _texts(variable: xarray.Variable) -> list[str]:
    return [each.decode() if isinstance(each, bytes) else str(each) for each in variable.values.tolist()]


def _times(file: xarray.Dataset, time: Sequence[str], unit: str | None) -> np.ndarray | None:
    """Return the centres of the time bins in seconds, or None if there is at most one bin."""
    if unit is not None:
        check_option(unit, _SECONDS, "time_unit")
    if not time or file.sizes[time[0]] == 1:
        return None
    along = {str(name): each for name, each in file.variables.items() if each.dims == (time[0],)}
    bins = [name for name in ("time_bin_start", "time_bin_end", "time_bin_stop") if name in along]
    used = bins[:2] if len(bins) > 1 else [time[0]]
    if used[0] not in along:
        refuse(f"no coordinate gives the times along {time[0]!r}; its coordinates are {', '.join(along) or 'none'}")
    said = along[used[0]].attrs.get("units") or unit or ("ms" if bins else "")
    if said not in _SECONDS:
        refuse(f"the unit of coordinate {used[0]!r} is {said!r}; use {read_arg('time_unit', 's')} or 'ms'")
    times = np.mean([np.asarray(along[name].values, dtype=np.float64) for name in used], axis=0) * _SECONDS[said]
    if not np.isfinite(times).all():
        refuse(f"coordinate {used[0]!r} holds times that are not finite")
    return times


def _values(
    found: xarray.DataArray, observation: str, channel: str, time: Sequence[str], places: np.ndarray
) -> np.ndarray:
    """Read the chosen channels only."""
    together = len(places) == places[-1] - places[0] + 1
    chosen = found.isel({channel: slice(places[0], places[-1] + 1) if together else places})
    values = np.asarray(chosen.transpose(observation, channel, *time).values, dtype=np.float64)
    return values[..., 0] if time and values.shape[-1] == 1 else values


READER = NetCDF()
