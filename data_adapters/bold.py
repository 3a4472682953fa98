"""BOLD series and what was shown, modelled run by run to patterns.

Layout on disk, one of

- a series ``..._bold.nii`` or ``..._bold.nii.gz`` (x, y, z, time) of one run, and its events: a table with onset and
  duration in seconds and trial_type, by default ``..._events.tsv`` beside it, else ``events=``;
- a series of one or more runs in a row, and ``table=``: the condition and run of each volume, one a line;
- a folder of which ``runs=`` picks the series, one a run, for example ``runs="*/bold.nii.gz"``, with ``events=`` the
  name of the table beside each.

What it gives is a `Dataset` of betas, one observation a condition (or event) and run, with the residuals of the model
(`data_adapters._glm`). With ``atlas=`` it is a list of them, one a region. Voxels that are constant, NaN or infinite in
a run are left out and counted in the descriptor ``"n_dropped_channels"``. Series are read volume by volume, and only
the voxels of the mask are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainrdl._checks import BrainrdlError, check_unique, refuse
from data_adapters import _regions, _volumes
from data_adapters._events import events_of_labels, read_events, read_volume_labels
from data_adapters._glm import Model, Run, check_seconds, fit_run, to_dataset
from data_adapters._tables import read_numbers

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset

_NAME = re.compile(r"(^|_)bold\.nii(\.gz)?$")
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_RUN = re.compile(r"run-?([A-Za-z0-9]+)")


@dataclass(frozen=True)
class Piece:
    """One run: its voxels (n_volumes, n_voxels), events, seconds from volume to volume, and confounds."""

    bold: np.ndarray
    events: pd.DataFrame
    t_r: float
    confounds: pd.DataFrame | None


class Bold:
    """Reads raw fMRI into betas, one a condition (or event) and run.

    Examples
    --------
    >>> READER.sniff(Path("sub-01_task-objects_run-1_bold.nii.gz")), READER.sniff(Path("betas.nii.gz"))
    (True, False)
    """

    name = "bold"
    layout = (
        "..._bold.nii(.gz): BOLD (x, y, z, time) with ..._events.tsv beside it, or events= or table=; or a folder of "
        "runs with runs='*/bold.nii.gz' and events=; needs the extra fmri"
    )

    def sniff(self, path: Path) -> bool:
        """Take files by their name.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether it is named ``bold.nii`` or ``..._bold.nii``, with or without ``.gz``.
        """
        return _NAME.search(path.name) is not None and not path.is_dir()

    def read(
        self,
        path: Path,
        *,
        events: str | Path | None = None,
        table: str | Path | None = None,
        runs: str | None = None,
        mask: str | Path | None = None,
        atlas: str | Path | None = None,
        labels: str | Path | None = None,
        roi: str | Sequence[str] | None = None,
        t_r: float | None = None,
        confounds: str | Path | None = None,
        condition_column: str | None = None,
        run_column: str | None = None,
        baseline: str | Sequence[str] | None = "rest",
        per: str = "condition",
        hrf: str = "spm",
        high_pass: float = 0.01,
        noise_model: str = "ar1",
    ) -> Dataset | list[Dataset]:
        """Read the series and fit the model of each run.

        Parameters
        ----------
        path : Path
            The series, or the folder of all runs.
        events : str or Path, optional
            Table of events: its name beside the series, or a path. By default ``..._events.tsv`` beside the series.
        table : str or Path, optional
            Instead of events: the condition and run of every volume.
        runs : str, optional
            Pattern of the series in a folder, one a run.
        mask, atlas, labels, roi
            Which voxels, as in `data_adapters.nifti`; an atlas gives a list of Datasets, except for a single name in
            `roi`. By default all voxels are read.
        t_r : float, optional
            Seconds from volume to volume; by default what the header says.
        confounds : str or Path, optional
            Table of series to take out, one row a volume, with or without names: its name beside the series, or a path.
        condition_column, run_column : str, optional
            Columns of the table or events that hold conditions and runs.
        baseline : str or sequence of str, optional
            Conditions that are not modelled.
        per : str
            ``"condition"``: one pattern a condition and run; ``"trial"``: one an event.
        hrf : str
            Haemodynamic response: ``"spm"`` or ``"glover"``, also ``+ derivative`` or ``+ derivative + dispersion``.
        high_pass : float
            Slowest frequency that is kept, in Hz.
        noise_model : str
            ``"ar1"`` or ``"ols"``.

        Returns
        -------
        rsatoolbox.data.Dataset or list of Dataset
            Observation descriptors stimulus and run (and trial, per trial); channel descriptors i, j, k (voxel).

        Raises
        ------
        BrainrdlError
            If series, mask or atlas do not fit each other, there are no events or labels, the time from volume to
            volume is unknown, a region has no voxel left, or a run cannot be modelled.
        """
        model = Model(hrf=hrf, high_pass=high_pass, noise_model=noise_model, per=per)
        files = _series_files(path, runs)
        names = run_names(path, files)
        if table is not None and (events is not None or len(files) > 1):
            refuse("table= labels the volumes of one series; give it without events= and runs=")
        if table is None and run_column is not None:
            refuse(f"run_column={run_column!r} is a column of table=, which is not given")
        regions = find_regions(files, mask=mask, atlas=atlas, labels=labels, roi=roi)

        def pieces() -> Iterator[tuple[str, Piece]]:
            for name, file in zip(names, files, strict=True):
                bold, seconds = read_voxels(file, regions), repetition_time(file, t_r)
                extra = read_numbers(_beside(file, confounds, "confounds")) if confounds is not None else None
                if table is None:
                    table_of_events = _events_file(file, events)
                    shown = read_events(table_of_events, condition_column=condition_column, baseline=baseline)
                    yield name, Piece(bold, shown, seconds, extra)
                else:
                    labelled = read_volume_labels(Path(table), condition_column=condition_column, run_column=run_column)
                    yield from _labelled(bold, *labelled, seconds, extra, baseline)

        found = fit_regions(pieces(), regions, _subject(path), model)
        return found[0] if atlas is None or isinstance(roi, str) else found


def _series_files(path: Path, runs: str | None) -> list[Path]:
    if not path.is_dir():
        if runs is not None:
            refuse(f"runs={runs!r} picks series of a folder, and this is a single file")
        return [path]
    if runs is None:
        refuse("which files of the folder are the runs? Give their pattern, for example runs='*/bold.nii.gz'")
    files = sorted(file for file in path.glob(runs) if file.is_file())
    if not files:
        refuse(f"runs={runs!r} fits no file in the folder")
    return files


def run_names(folder: Path, files: Sequence[Path]) -> list[str]:
    """Name runs by ``run-1`` or ``run001`` in their paths, if that tells them apart, else by number.

    Examples
    --------
    >>> run_names(Path("BOLD"), [Path("BOLD/task001_run001/bold.nii.gz"), Path("BOLD/task001_run002/bold.nii.gz")])
    ['001', '002']
    >>> run_names(Path("."), [Path("first_bold.nii"), Path("second_bold.nii")])
    ['1', '2']
    """
    found = [_RUN.findall(str(file.relative_to(folder)) if file != folder else file.name) for file in files]
    names = [each[-1] for each in found if each]
    return names if len(set(names)) == len(files) else [str(number) for number in range(1, len(files) + 1)]


def _subject(path: Path) -> dict[str, str]:
    entity = re.search(r"sub-([A-Za-z0-9]+)", path.name)
    return {"subject": entity[1]} if entity else {}


def _beside(series: Path, table: str | Path, option: str) -> Path:
    """Give a table named in an option: beside the series, else as a path."""
    for file in (series.parent / table, Path(table)):
        if file.is_file():
            return file
    refuse(f"{option}={str(table)!r} is neither a file beside {str(series)!r} nor a path of one")


def _events_file(series: Path, events: str | Path | None) -> Path:
    if events is not None:
        return _beside(series, events, "events")
    usual = series.with_name(_NAME.sub(r"\1events.tsv", series.name))
    if usual == series or not usual.is_file():
        refuse(
            f"there are no events {usual.name!r} beside the series {series.name!r}; give events=, or table= with a "
            "label for each volume"
        )
    return usual


def _labelled(
    bold: np.ndarray,
    conditions: Sequence[str],
    runs: Sequence[str],
    t_r: float,
    confounds: pd.DataFrame | None,
    baseline: str | Sequence[str] | None,
) -> Iterator[tuple[str, Piece]]:
    """Cut a series with a label and a run for each volume into its runs."""
    for what, count in (("labels", len(conditions)), ("confounds", len(bold) if confounds is None else len(confounds))):
        if count != len(bold):
            refuse(f"there are {count} {what} for {len(bold)} volumes; each volume needs one")
    starts = [place for place, run in enumerate(runs) if place == 0 or runs[place - 1] != run]
    check_unique([runs[start] for start in starts], "the runs of the volumes: a run's volumes must follow each other")
    for start, end in zip(starts, [*starts[1:], len(bold)], strict=True):
        where = f"the labels of run {runs[start]!r}"
        shown = events_of_labels(conditions[start:end], t_r, baseline=baseline, where=where)
        yield runs[start], Piece(bold[start:end], shown, t_r, None if confounds is None else confounds[start:end])


@dataclass(frozen=True)
class Regions:
    """The voxels of each region: places in a volume whose first index runs fastest, and the volume's shape."""

    parts: tuple[tuple[str | None, np.ndarray], ...]
    shape: tuple[int, ...]

    @property
    def voxels(self) -> np.ndarray:
        """Voxels of all regions, sorted: the channels of what is read."""
        return np.unique(np.concatenate([places for _, places in self.parts]))


def find_regions(
    files: Sequence[Path],
    *,
    mask: str | Path | None = None,
    atlas: str | Path | None = None,
    labels: str | Path | None = None,
    roi: str | Sequence[str] | None = None,
) -> Regions:
    """Find the voxels to read of series that lie on one grid.

    Parameters
    ----------
    files : sequence of Path
        The series.
    mask, atlas, labels, roi
        As of ``Bold.read``.

    Returns
    -------
    Regions
        One, without a name, if there is no atlas.

    Raises
    ------
    BrainrdlError
        If a file is no series, the grids differ, or mask and atlas are not sound.
    """
    first, *others = [_series(file) for file in files]
    for other in others:
        _volumes.check_grid(other, first, f"the series {str(other.path)!r}", f"{str(first.path)!r}")
    inside = np.ones(first.n_voxels, bool) if mask is None else read_mask(mask, files[0])
    parts = _regions.find_regions(inside, *_regions.read_atlas(atlas, labels, first), roi)
    return Regions(tuple(parts), first.shape)


def read_mask(mask: str | Path, series: Path) -> np.ndarray:
    """Read a mask on the grid of a series: booleans, one a voxel, the first index fastest.

    Raises
    ------
    BrainrdlError
        If it lies on another grid or holds other values than 0 and one other.
    """
    return _regions.as_mask(_regions.read_beside(mask, "mask", _series(series)))


def _series(path: Path) -> _volumes.Volumes:
    """Open a series without reading its values."""
    try:
        volumes = _volumes.open_volumes(path)
    except BrainrdlError as error:
        raise BrainrdlError(f"the series {str(path)!r}: {error}") from error
    if volumes.n < 2:
        refuse(f"{path.name!r} holds one volume of shape {volumes.shape}; a BOLD series has four axes (x, y, z, time)")
    return volumes


def read_voxels(file: Path, regions: Regions) -> np.ndarray:
    """Read the voxels of all regions, (n_volumes, n_voxels), one volume at a time."""
    return _volumes.read_values(_series(file), regions.voxels)


def header_time(file: Path) -> float | None:
    """Give the seconds from volume to volume that a header tells; None if it names no unit."""
    header = _volumes.read_header(file)
    unit = _SECONDS.get(header.get_xyzt_units()[1])
    return float(header.get_zooms()[3]) * unit if unit else None


def repetition_time(file: Path, t_r: float | None) -> float:
    """Give the seconds from volume to volume: those asked for, else the header's.

    Raises
    ------
    BrainrdlError
        If the header names no unit of time, or no likely time (0.05 to 60 s).
    """
    if t_r is not None:
        return check_seconds(t_r, "t_r")
    told = header_time(file)
    if told is None or not 0.05 <= told <= 60:
        words = "in no known unit" if told is None else f"as {told:g} s"
        refuse(f"the header of {file.name!r} gives the time from volume to volume {words}; give t_r= in seconds")
    return told


def fit_regions(
    pieces: Iterable[tuple[str, Piece]],
    regions: Regions,
    descriptors: Mapping[str, Any],
    model: Model,
) -> list[Dataset]:
    """Model all runs, one after the other, and give one Dataset a region.

    Parameters
    ----------
    pieces : iterable of (name, Piece)
        The runs; each is let go before the next is asked for.
    regions : Regions
        The regions, whose voxels are the channels of the pieces.
    descriptors : mapping
        Of every Dataset.
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
            refuse(f"there are two runs {name!r}; runs need names of their own")
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
