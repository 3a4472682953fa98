"""Neurodata Without Borders (NWB 2): sorted spikes, counted in each trial.

Layout on disk (HDF5, ``.nwb``), as PyNWB and MatNWB write it::

    /units                  one row per unit
        spike_times         (n_spikes,) the spikes of all units, unit by unit, s
        spike_times_index   (n_units,) the end of the spikes of each unit
        id, obs_intervals, location or electrodes: if known
    /intervals/trials       one row per trial; other tables, such as 'natural_scenes_presentations', with table=
        start_time, stop_time   (n_trials,) s
        any columns         one of them names the conditions

The spikes of each unit are counted in a window of each trial. All windows have the same length; by default they start
with the trial and are as long as the shortest trial. If windows are longer than the time from one trial to the next,
spikes are counted twice. If the file says when a unit was observed (``obs_intervals``), the count of a window outside
is NaN. Otherwise windows must lie between 0 s (or the first trial, if that is earlier) and the last spike of any unit
or the end of the last trial. The region of a unit is its column ``location`` or that of its electrodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from brainrdl._core.errors import check_option, quote, read_arg, refuse
from data_adapters._shared.hdf5 import array, member, numbers, opened, texts, values
from data_adapters._shared.measurements import (
    condition_column as condition_column_of,
    condition_names,
    dataset,
    regions,
)

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
_CONDITION = ("stimulus", "condition", "trial_type", "stimulus_name")

_NO_CONDITION = frozenset({"id", "start_time", "stop_time", "tags", "timeseries"})

_SIMILAR = 1.1  # lengths of trials that differ by more than a tenth probably differ on purpose

_SLACK = 1e-6  # s by which a window may exceed an interval of observation

_MOST = 2**31  # counts in memory, 16 GiB


class Nwb:
    """Counts the spikes of the units of an NWB file in its trials.

    Examples
    --------
    >>> READER.sniff(Path("sub-01_ses-02_ecephys.nwb"))
    True
    """

    name = "nwb"
    layout = ".nwb (Neurodata Without Borders 2): /units with spike_times, and trials in /intervals"

    def sniff(self, path: Path) -> bool:
        """Recognise files by their suffix.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix is ``.nwb``.
        """
        return path.suffix.lower() == ".nwb"

    def read(
        self,
        path: Path,
        *,
        table: str = "trials",
        condition_column: str | None = None,
        run_column: str | None = None,
        tmin: float = 0.0,
        tmax: float | None = None,
        bin_width: float | None = None,
        roi: str | Sequence[str] | None = None,
    ) -> Dataset | list[Dataset]:
        """Count the spikes of each unit in each trial.

        Parameters
        ----------
        path : Path
            The file.
        table : str
            The table of trials, a name in ``/intervals``.
        condition_column : str, optional
            The column that names the conditions (default: the first of ``stimulus``, ``condition``, ``trial_type`` and
            ``stimulus_name`` in the table, if its values differ between trials).
        run_column : str, optional
            The column that names the runs (blocks).
        tmin, tmax : float, optional
            The window in seconds after the start of a trial, including `tmin` but not `tmax` (default of `tmax`: the
            length of the shortest trial, if all trials have about the same length).
        bin_width : float, optional
            Count in bins of this width in seconds; a rest of the window shorter than a bin is left out.
        roi : str or sequence of str, optional
            The regions to read (default: all).

        Returns
        -------
        rsatoolbox.data.Dataset, TemporalDataset, or a list of them, one per region
            Counts (n_trials, n_units), or with `bin_width` (n_trials, n_units, n_bins), where the time of a bin is its
            centre in seconds. Channel descriptor ``unit``; descriptors ``subject``, ``session`` and ``roi`` if known.

        Raises
        ------
        BrainrdlError
            If the file is empty, links to another file or has no units or no such trials; if it is not clear which
            column names the conditions or how long the trials are; if a window extends beyond the recording, or an
            option does not fit.
        """
        with opened(path) as file:
            trials = _table(file, table)
            starts = numbers(trials, "start_time")
            edges = _edges(trials, starts, tmin, tmax, bin_width)
            conditions, runs = _labels(trials, table, condition_column, run_column, len(starts))
            units, ids = _units(file)
            _check_windows(trials, units, starts, edges)
            groups = _regions(file, units, len(ids), roi)
            found = [
                dataset(
                    _counts(units, places, starts, edges, bin_width),
                    conditions=conditions,
                    runs=runs,
                    channels={"unit": [ids[place] for place in places]},
                    times=None if bin_width is None else (edges[:-1] + edges[1:]) / 2,
                    descriptors=_descriptors(file) | ({"roi": region} if region else {}),
                )
                for region, places in groups.items()
            ]
        return found if len(found) > 1 else found[0]


def _table(file: h5py.File, name: str) -> h5py.Group:
    """Return the table of trials."""
    intervals = member(file, "intervals")
    held = sorted(intervals) if isinstance(intervals, h5py.Group) else []
    if not held:
        refuse("there is no table of trials: /intervals is missing or empty")
    found = member(intervals, check_option(name, held, "table"))
    if not isinstance(found, h5py.Group):
        refuse(f"{name!r} in /intervals is not a table")
    return found


def _labels(
    trials: h5py.Group, table: str, condition: str | None, run: str | None, n_trials: int
) -> tuple[list[str] | None, list[str] | None]:
    """Read the names of the conditions, and of the runs if requested."""
    where = f"table {table!r}"
    columns = [name for name in trials if name not in _NO_CONDITION and not name.endswith("_index")]
    chosen = condition_column_of(columns, condition, _CONDITION, where)
    runs = None if run is None else check_option(run, columns, f"run_column of {where}")
    read = [None if name is None else _column(trials, name, where, n_trials) for name in (chosen, runs)]
    if condition is None and read[0] is not None and len(read[0]) > 1 and len(set(read[0])) == 1:
        others = ", ".join(name for name in columns if name != chosen) or "none"
        refuse(
            f"all {n_trials} trials of {where} have the same condition, {read[0][0]!r} (column {chosen!r}); choose "
            f"another column with {read_arg('condition_column')}; the others are {others}"
        )
    return read[0], read[1]


def _column(trials: h5py.Group, name: str, where: str, n_trials: int) -> list[str]:
    read = values(trials, name)
    if len(read) != n_trials or f"{name}_index" in set(trials):
        refuse(f"column {name!r} of {where} has {len(read)} values for {n_trials} trials; it must have one each")
    return condition_names(read, f"column {name!r} of {where}")


def _edges(
    trials: h5py.Group, starts: np.ndarray, tmin: float, tmax: float | None, bin_width: float | None
) -> np.ndarray:
    """Return the edges of the bins in seconds after the start of a trial."""
    if not len(starts) or not np.isfinite(starts).all():
        refuse(f"{int(np.isfinite(starts).sum())} of {len(starts)} trials have a start_time; all must have one")
    end = _shortest(trials, starts) if tmax is None else tmax
    width = end - tmin if bin_width is None else bin_width
    n_bins = int((end - tmin) / width + _SLACK) if width > 0 and np.isfinite(end - tmin) else 0
    if n_bins < 1:
        refuse(f"the window from tmin {tmin!r} to {end!r} s is shorter than a bin of {width!r} s")
    if n_bins * len(starts) > _MOST:
        refuse(
            f"{n_bins} bins in {len(starts)} trials are too many; make {read_arg('bin_width')} larger or the window "
            "shorter"
        )
    return tmin + width * np.arange(n_bins + 1)


def _shortest(trials: h5py.Group, starts: np.ndarray) -> float:
    lengths = numbers(trials, "stop_time") - starts
    low, high = float(lengths.min()), float(lengths.max())
    if not 0 < high <= _SIMILAR * low:
        refuse(
            f"the trials last {low:.6g} to {high:.6g} s; set with {read_arg('tmax')} until when spikes are counted in "
            "all of them"
        )
    return low


def _check_windows(trials: h5py.Group, units: h5py.Group, starts: np.ndarray, edges: np.ndarray) -> None:
    """Refuse windows beyond the recording, unless the file says when units were observed."""
    if "obs_intervals" in set(units):
        return
    begin, end = min(0.0, starts.min()), max(starts.max(), _last(trials, "stop_time"))
    first, last = starts + edges[0] + _SLACK, starts + edges[-1] - _SLACK
    if first.min() < begin or last.max() > end:  # only then are all spikes read
        end = max(end, _last_spike(units))
    beyond = (first < begin) | (last > end)
    if beyond.any():
        refuse(
            f"in {int(beyond.sum())} of {len(starts)} trials the window from {edges[0]:.6g} to {edges[-1]:.6g} s after "
            f"the start extends beyond the recording, which (by its trials and spikes) lasts from {begin:.6g} to "
            f"{end:.6g} s; choose another with {read_arg('tmin')} and {read_arg('tmax')}, in seconds"
        )


def _last(trials: h5py.Group, column: str) -> float:
    times = numbers(trials, column) if column in set(trials) else np.zeros(0)
    return float(np.max(times, initial=-np.inf, where=np.isfinite(times)))


def _last_spike(units: h5py.Group) -> float:
    """Find the time of the last spike of all units, with one unit in memory at a time."""
    times, ends = array(units, "spike_times"), _ends(units, "spike_times")
    each = (np.asarray(times[first:last], dtype=np.float64) for first, last in itertools.pairwise(ends))
    return max(float(np.max(spikes, initial=-np.inf, where=np.isfinite(spikes))) for spikes in each)


def _units(file: h5py.File) -> tuple[h5py.Group, list[str]]:
    """Return the units and their names; refuse spikes that are not divided into units correctly."""
    units = member(file, "units")
    if not isinstance(units, h5py.Group) or not {"spike_times", "spike_times_index"} <= set(units):
        refuse(f"there are no sorted spikes: /units lacks spike_times or spike_times_index; the file has {quote(file)}")
    n_units = len(_ends(units, "spike_times")) - 1
    ids = texts(units, "id") if "id" in set(units) else [str(number) for number in range(n_units)]
    if len(ids) != n_units:
        refuse(f"there are {len(ids)} ids for {n_units} units")
    return units, ids


def _ends(units: h5py.Group, column: str) -> np.ndarray:
    """Return where the rows of each unit in a ragged column begin and end: (n_units + 1,)."""
    ends = np.concatenate([[0], numbers(units, f"{column}_index")]).astype(np.int64)
    length = array(units, column).shape[0] if array(units, column).ndim else -1
    if len(ends) < 2 or (np.diff(ends) < 0).any() or ends[-1] != length:
        refuse(f"{column}_index does not divide the {length} rows of {column} into units: it ends at {ends[-1]}")
    return ends


def _regions(
    file: h5py.File, units: h5py.Group, n_units: int, roi: str | Sequence[str] | None
) -> dict[str, np.ndarray]:
    """Return the units of each region, or all units under an empty name if there are no regions."""
    labels = _locations(file, units)
    if labels is None and roi is not None:
        refuse(f"roi={roi!r}: the file does not say where its units are (no location of units or electrodes)")
    if labels is not None and len(labels) != n_units:
        refuse(f"there are {len(labels)} locations for {n_units} units")
    return {"": np.arange(n_units)} if labels is None else regions(labels, roi)


def _locations(file: h5py.File, units: h5py.Group) -> list[str] | None:
    """Return the location of each unit, or that of its electrodes, joined if they differ."""
    if "location" in set(units):
        return texts(units, "location")
    electrodes = member(file, "general/extracellular_ephys/electrodes")
    if "electrodes" not in set(units) or not isinstance(electrodes, h5py.Group) or "location" not in set(electrodes):
        return None
    places = texts(electrodes, "location")
    rows, ends = numbers(units, "electrodes").astype(np.int64), _ends(units, "electrodes")
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(places):
        refuse(f"units have electrodes in rows {rows.min()} to {rows.max()}, but there are {len(places)} electrodes")
    each = [rows[begin:end] for begin, end in itertools.pairwise(ends)]
    return ["+".join(dict.fromkeys(places[row] for row in mine)) for mine in each]


def _counts(
    units: h5py.Group, places: np.ndarray, starts: np.ndarray, edges: np.ndarray, bin_width: float | None
) -> np.ndarray:
    """Count spikes, one unit at a time: (n_trials, n_units), or with bins (n_trials, n_units, n_bins)."""
    shape = (len(starts), len(places), len(edges) - 1)
    if np.prod(shape, dtype=float) > _MOST:
        refuse(
            f"{shape} counts (trials, units, bins) are too many; read one region with {read_arg('roi')}, or use larger "
            "bins"
        )
    times, ends = array(units, "spike_times"), _ends(units, "spike_times")
    counts = np.empty(shape)
    for column, unit in enumerate(places):
        spikes = np.sort(np.asarray(times[ends[unit] : ends[unit + 1]], dtype=np.float64))
        counts[:, column] = np.diff(np.searchsorted(spikes, starts[:, None] + edges), axis=1)
    counts[~_observed(units, places, starts + edges[0], starts + edges[-1])] = np.nan
    if np.isnan(counts).all():
        refuse(f"no unit was observed (obs_intervals) from {edges[0]:.6g} to {edges[-1]:.6g} s after a trial's start")
    return counts if bin_width is not None else counts[..., 0]


def _observed(units: h5py.Group, places: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Mark the windows (n_trials, n_units) that lie within an interval in which the unit was observed."""
    if "obs_intervals" not in set(units):
        return np.ones((len(begin), len(places)), dtype=bool)
    intervals, ends = numbers(units, "obs_intervals", ndim=2), _ends(units, "obs_intervals")
    columns = [_within(intervals[ends[unit] : ends[unit + 1]], begin, end) for unit in places]
    return np.stack(columns, axis=1)


def _within(intervals: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    if not len(intervals):
        return np.zeros(len(begin), dtype=bool)
    order = intervals[np.argsort(intervals[:, 0])]
    until = np.maximum.accumulate(order[:, 1])  # the latest end of all intervals that have started
    last = np.searchsorted(order[:, 0], begin + _SLACK, side="right") - 1
    return (last >= 0) & (until[np.maximum(last, 0)] >= end - _SLACK)


def _descriptors(file: h5py.File) -> dict[str, str]:
    places = {"subject": "general/subject/subject_id", "session": "general/session_id"}
    return {name: texts(file, place)[0] for name, place in places.items() if member(file, place) is not None}


READER = Nwb()
