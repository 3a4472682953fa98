"""Patterns from BOLD series and the events of each run.

Layout on disk, one of

- a series ``..._bold.nii`` or ``..._bold.nii.gz`` (x, y, z, time) of one run, and its events: a table with onset and
  duration in seconds and trial_type, by default ``..._events.tsv`` in the same folder, else ``events=``;
- FEAT's preprocessed series, ``filtered_func_data.nii.gz``, with ``events=`` or ``table=``;
- a series of one or more consecutive runs, and ``table=``: the condition and run of each volume, one line per volume;
- a folder with one series per run, selected by ``runs=``, for example ``runs="*/bold.nii.gz"``; ``events=`` is then the
  name of the table in the folder of each series. Runs never share a table of events or confounds; if the tables are
  elsewhere or have different names, ``{run}`` in ``events=`` and ``confounds=`` stands for the run's name.

The result is a `Dataset` of betas, one observation per condition (or event) and run, with the residuals of the model of
each voxel (`first_level_model`). With ``atlas=`` it is a list, one Dataset per region. Voxels that are constant, NaN or
infinite in a run are left out and counted in the descriptor ``"n_dropped_channels"``. Series are read one volume at a
time, and only the voxels of the mask are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainrdl._core.errors import check_unique, quote, read_arg, refuse
from brainrdl._core.progress import track_slow
from brainrdl.readers.entities import runs_in_words, value_of
from brainrdl.readers.options import options_from
from data_adapters._shared.text_tables import blaming, read_numbers
from data_adapters.fmri_bold.bids_files import is_raw
from data_adapters.fmri_bold.events import (
    check_baseline,
    event_names,
    events_of_labels,
    read_events,
    read_volume_labels,
)
from data_adapters.fmri_bold.first_level_model import Model, Run, fit_run, to_dataset
from data_adapters.fmri_bold.series import Regions, is_here, read_voxels, repetition_time
from data_adapters.fmri_bold.series_options import SeriesOptions

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
_NAME = re.compile(r"(^|_)bold\.nii(\.gz)?$")

_FEAT = re.compile(r"filtered_func_data\.nii(\.gz)?")  # FEAT's series after preprocessing


@dataclass(frozen=True)
class Piece:
    """One run: its voxels (n_volumes, n_voxels), events, seconds from volume to volume, and confounds."""

    bold: np.ndarray
    events: pd.DataFrame
    t_r: float
    confounds: pd.DataFrame | None


class Bold:
    """Reads raw fMRI into betas, one per condition (or event) and run.

    Examples
    --------
    >>> READER.sniff(Path("sub-01_task-objects_run-1_bold.nii.gz")), READER.sniff(Path("betas.nii.gz"))
    (True, False)
    """

    name = "bold"
    layout = (
        "..._bold.nii(.gz): BOLD (x, y, z, time) with ..._events.tsv in its folder, or with events= or table=; or a "
        "folder of runs with runs='*/bold.nii.gz' and events=; needs nilearn"
    )

    def sniff(self, path: Path) -> bool:
        """Recognise files by their name.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the name is ``bold.nii`` or ``..._bold.nii``, or FEAT's ``filtered_func_data.nii``, with or without
            ``.gz``.
        """
        ours = _NAME.search(path.name) or _FEAT.fullmatch(path.name)
        return ours is not None and not path.is_dir()

    @options_from(SeriesOptions)
    def read(
        self,
        path: Path,
        *,
        events: str | Path | None = None,
        table: str | Path | None = None,
        runs: str | None = None,
        confounds: str | Path | None = None,
        run_column: str | None = None,
        **options: Any,
    ) -> Dataset | list[Dataset]:
        """Read the series and fit the model of each run.

        Parameters
        ----------
        path : Path
            The series, or the folder of all runs.
        events : str or Path, optional
            Table of events: its name in the folder of the series, or a path; ``{run}`` in it stands for the run's name.
            By default ``..._events.tsv`` in the folder of the series.
        table : str or Path, optional
            Instead of events: the condition and run of each volume.
        runs : str, optional
            Pattern of the series in a folder, one file per run.
        confounds : str or Path, optional
            Table of series to remove, all of numbers, one row per volume, with or without names: given as `events` is.
            To choose single columns of fMRIPrep's tables, use the reader ``bids``.
        run_column : str, optional
            Column of `table` that holds the runs; by default ``run``.
        **options
            Which voxels are read, and the model of each run; see `SeriesOptions`.

        Returns
        -------
        rsatoolbox.data.Dataset or list of Dataset
            Observation descriptors stimulus and run (and trial, per trial); channel descriptors i, j, k (voxel) and
            residuals.

        Raises
        ------
        BrainrdlError
            If series, mask or atlas have different grids, there are no events or labels, or runs would share them, a
            baseline does not occur, the time from volume to volume is unknown, a region has no voxel left, or a run
            cannot be modelled.
        """
        shared = SeriesOptions(**options)
        model = shared.model()
        files = _series_files(path, runs)
        names = run_names(path, files)
        if table is not None and (events is not None or len(files) > 1):
            refuse(
                f"{read_arg('table')} labels the volumes of one series; give it without {read_arg('events')} and "
                f"{read_arg('runs')}"
            )
        if table is None and run_column is not None:
            refuse(f"{read_arg('run_column', run_column)} is a column of {read_arg('table')}, which is not given")
        regions = shared.regions_of(files)
        extras = [None] * len(files) if confounds is None else _each(path, files, confounds, "confounds")
        if table is None:
            tables = _usual_events(files) if events is None else _each(path, files, events, "events")
            shown = events_of_runs(tables, shared.condition_column, shared.baseline)

        def pieces() -> Iterator[tuple[str, Piece]]:
            runs = enumerate(zip(names, files, strict=True))
            for place, (name, file) in track_slow(runs, "runs of BOLD", len(files)):
                bold, seconds = read_voxels(file, regions), repetition_time(file, shared.t_r)
                extra = _confounds(extras[place])
                if table is None:
                    yield name, Piece(bold, shown[place], seconds, extra)
                else:
                    with blaming("table=", table):
                        labelled = read_volume_labels(
                            Path(table), condition_column=shared.condition_column, run_column=run_column
                        )
                    yield from _labelled(bold, *labelled, seconds, extra, shared.baseline)

        found = fit_regions(pieces(), regions, _subject(path, files), model)
        return found[0] if shared.is_one_region else found


def _series_files(path: Path, runs: str | None) -> list[Path]:
    if not path.is_dir():
        if runs is not None:
            refuse(f"runs={runs!r} selects series of a folder, but this is a single file")
        return [path]
    if runs is None:
        refuse(
            "which files of the folder are the runs? Give their pattern, for example "
            f"{read_arg('runs', '*/bold.nii.gz')}"
        )
    *folders, name = Path(runs).parts
    places = path.glob("/".join(folders)) if folders else [path]
    # glob would ignore a link to a file that was not downloaded
    named = [file for place in places if place.is_dir() for file in place.iterdir() if fnmatchcase(file.name, name)]
    files = sorted(file for file in named if is_here(file))
    if not files:
        refuse(f"runs={runs!r} matches no file in the folder")
    return files


def run_names(folder: Path, files: Sequence[Path]) -> list[str]:
    """Name runs by ``run-1`` or ``run001`` in their paths, if these differ, else by number.

    Examples
    --------
    >>> run_names(Path("BOLD"), [Path("BOLD/task001_run001/bold.nii.gz"), Path("BOLD/task001_run002/bold.nii.gz")])
    ['001', '002']
    >>> run_names(Path("."), [Path("first_bold.nii"), Path("second_bold.nii")])
    ['1', '2']
    """
    return _names_in_paths(folder, files) or [str(number) for number in range(1, len(files) + 1)]


def _names_in_paths(folder: Path, files: Sequence[Path]) -> list[str] | None:
    """Give the names of runs in their paths, if all have different ones."""
    found = [runs_in_words(str(file.relative_to(folder)) if file != folder else file.name) for file in files]
    names = [each[-1] for each in found if each]
    return names if len(set(names)) == len(files) else None


def _subject(path: Path, files: Sequence[Path]) -> dict[str, str]:
    """Give the subject that the name says, and whether series with names of BIDS are raw; others do not say it."""
    subject = value_of(path.name, "sub") or _shared_subject(files)
    raw = any(value_of(file.name, "sub") and is_raw(file) for file in files)
    return ({"subject": subject} if subject else {}) | ({"series": "raw"} if raw else {})


def _shared_subject(files: Sequence[Path]) -> str:
    found = {value_of(file.name, "sub") for file in files}
    return found.pop() if len(found) == 1 else ""


def _beside(series: Path, table: str | Path, option: str) -> Path:
    """Give a table named in an option: in the folder of the series, else as a path."""
    for file in (series.parent / table, Path(table)):
        if is_here(file):
            return file
    refuse(f"{option}={str(table)!r} is neither a file in the folder of {str(series)!r} nor a path")


def _each(folder: Path, files: Sequence[Path], table: str | Path, option: str) -> list[Path]:
    """Give the table of each run; no two may be the same file."""
    names = _names_in_paths(folder, files)
    if "{run}" in str(table) and names is None:
        refuse(
            f"{option}={str(table)!r} needs the names of runs, but the paths {quote(map(str, files))} do not contain "
            "them"
        )
    named = [str(table).replace("{run}", name) for name in names or [""] * len(files)]
    found = [_beside(file, each, option) for file, each in zip(files, named, strict=True)]
    if len({file.resolve() for file in found}) < len(found):
        refuse(
            f"{option}={str(table)!r} gives one table to several of {len(files)} runs; give the name of a table in the "
            "folder of each series, or a name with {run}, which stands for the run's name"
        )
    return found


def _usual_events(files: Sequence[Path]) -> list[Path]:
    """Give the events of each series by their usual name."""
    found = []
    for series in files:
        usual = series.with_name(_NAME.sub(r"\1events.tsv", series.name))
        if usual == series or not is_here(usual):
            called = "" if usual == series else f" {usual.name!r}"
            refuse(
                f"there are no events{called} in the folder of the series {series.name!r}; give {read_arg('events')}, "
                f"or {read_arg('table')} with a label for each volume"
            )
        found.append(usual)
    return found


def events_of_runs(
    files: Sequence[Path], condition_column: str | None, baseline: str | Sequence[str] | None
) -> list[pd.DataFrame]:
    """Read the events of all runs, as `data_adapters.fmri_bold.events.read_events` does those of one.

    Raises
    ------
    BrainrdlError
        As `read_events`; also if a baseline occurs in no run.
    """
    check_baseline([name for file in files for name in event_names(file, condition_column=condition_column)], baseline)
    return [read_events(file, condition_column=condition_column, baseline=baseline) for file in files]


def _confounds(file: Path | None) -> pd.DataFrame | None:
    if file is None:
        return None
    if "desc-confounds_" in file.name:
        refuse(
            f"confounds= is {file.name!r}, a table of fMRIPrep, of which not all columns are confounds to remove; read "
            "its folder with the reader 'bids', which chooses columns"
        )
    with blaming("confounds=", file):
        return read_numbers(file)


def _labelled(
    bold: np.ndarray,
    conditions: Sequence[str],
    runs: Sequence[str],
    t_r: float,
    confounds: pd.DataFrame | None,
    baseline: str | Sequence[str] | None,
) -> Iterator[tuple[str, Piece]]:
    """Split a series with a label and a run for each volume into its runs."""
    for what, count in (("labels", len(conditions)), ("confounds", len(bold) if confounds is None else len(confounds))):
        if count != len(bold):
            refuse(f"there are {count} {what} for {len(bold)} volumes; give one per volume")
    check_baseline(conditions, baseline)
    starts = [place for place, run in enumerate(runs) if place == 0 or runs[place - 1] != run]
    check_unique([runs[start] for start in starts], "the runs of the volumes: the volumes of a run must be consecutive")
    for start, end in zip(starts, [*starts[1:], len(bold)], strict=True):
        if end - start == 1:
            refuse(
                f"run {runs[start]!r} has one volume, labelled {conditions[start]!r}; if these are the names of "
                f"columns, give {read_arg('condition_column', conditions[start])} and "
                f"{read_arg('run_column', runs[start])}"
            )
        where = f"the labels of run {runs[start]!r}"
        shown = events_of_labels(conditions[start:end], t_r, baseline=baseline, where=where)
        yield runs[start], Piece(bold[start:end], shown, t_r, None if confounds is None else confounds[start:end])


def fit_regions(
    pieces: Iterable[tuple[str, Piece]],
    regions: Regions,
    descriptors: Mapping[str, Any],
    model: Model,
) -> list[Dataset]:
    """Model all runs, one after the other, and give one Dataset per region.

    Parameters
    ----------
    pieces : iterable of (name, Piece)
        The runs; each can be freed before the next is read.
    regions : Regions
        The regions, whose voxels are the channels of the pieces.
    descriptors : mapping
        Descriptors of every Dataset.
    model : Model
        The model of each run.

    Returns
    -------
    list of rsatoolbox.data.Dataset
        In the order of `regions`.

    Raises
    ------
    BrainrdlError
        If a run cannot be modelled or a region has no voxel that varies in all runs.
    """
    runs: dict[str, Run] = {}
    for name, piece in pieces:
        if name in runs:
            refuse(f"there are two runs {name!r}; runs must have different names")
        runs[name] = _fit_varying(piece, model, f"run {name!r}")
    varying = np.all([~np.isnan(run.betas[0]) for run in runs.values()], axis=0)
    datasets = []
    for roi, places in regions.parts:
        channels = np.searchsorted(regions.voxels, places)
        kept = channels[varying[channels]]
        if not len(kept):
            refuse(f"{'no voxel' if roi is None else f'no voxel of region {roi!r}'} varies in all runs")
        indices = np.unravel_index(regions.voxels[kept], regions.shape, order="F")
        told = {**descriptors, "n_dropped_channels": len(channels) - len(kept)}
        datasets.append(
            to_dataset(
                {
                    name: replace(run, betas=run.betas[:, kept], residuals=run.residuals[:, kept])
                    for name, run in runs.items()
                },
                {axis: index.tolist() for axis, index in zip("ijk", indices, strict=True)},
                told if roi is None else {**told, "roi": roi},
                model.per,
            )
        )
    return datasets


def _fit_varying(piece: Piece, model: Model, where: str) -> Run:
    """Model the voxels that vary; the others are NaN."""
    varying = np.isfinite(piece.bold).all(axis=0) & (piece.bold.max(axis=0) > piece.bold.min(axis=0))
    if not varying.any():
        refuse(f"no voxel of {where} varies")
    run = fit_run(piece.bold[:, varying], piece.events, piece.t_r, model, piece.confounds, where)
    return replace(run, betas=_spread(run.betas, varying), residuals=_spread(run.residuals, varying))


def _spread(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    whole = np.full((len(values), len(places)), np.nan)
    whole[:, places] = values
    return whole


READER = Bold()
