"""BIDS datasets and fMRIPrep's derivatives: patterns from the BOLD runs of one subject and task.

Layout on disk: the folder of a BIDS dataset, or of derivatives as fMRIPrep writes them::

    sub-01/[ses-01/]func/sub-01_[ses-01_]task-objects_run-1_bold.nii.gz           the raw series
                         sub-01_[ses-01_]task-objects_run-1_events.tsv            its events
    derivatives/fmriprep/sub-01/[ses-01/]func/..._space-T1w_desc-preproc_bold.nii.gz
                                              ..._space-T1w_desc-brain_mask.nii.gz
                                              ..._desc-confounds_timeseries.tsv

The folder of one subject, ``sub-01``, is read as the dataset with ``subject="01"``. Files are found by the entities in
their names (`bids_files`): the series of the task with ``desc-preproc``, or raw ones if the task has no derivatives. If
a choice is left (two tasks, two spaces), or runs were measured but not preprocessed, this is refused with a list.
Derivatives may be deeper than ``derivatives/fmriprep``, as in fMRIPrep's legacy layout (``derivatives/NAME/fmriprep``)
and C-PAC's (``derivatives/cpac/output/pipeline_NAME``). Raw series have the descriptor ``series`` with the value "raw".
Events and sidecars are inherited from higher folders as BIDS defines. For derivatives outside their dataset, ``raw=``
says where the events are. `bold` reads the series and `first_level_model` models them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainrdl._core.errors import quote, read_arg, refuse
from brainrdl._core.progress import track_slow
from brainrdl.readers.options import options_from
from data_adapters.fmri_bold.bids_files import (
    OWN_OPTIONS,
    bases_of,
    events_of,
    find_series,
    inherited,
    is_raw,
    is_shifted,
    name_of,
    run_names,
    several_of,
    values_of,
)
from data_adapters.fmri_bold.bold import Piece, events_of_runs, fit_regions
from data_adapters.fmri_bold.confounds import read_confounds
from data_adapters.fmri_bold.series import (
    Regions,
    header_time,
    is_here,
    read_mask,
    read_voxels,
    repetition_time,
)
from data_adapters.fmri_bold.series_options import SeriesOptions

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
_LARGEST_SIDECAR = 10_000_000  # bytes


class Bids:
    """Reads the runs of one subject and task from a BIDS dataset or fMRIPrep's derivatives.

    Examples
    --------
    >>> READER.sniff(Path("betas.nii.gz"))
    False
    """

    name = "bids"
    layout = (
        "folder of a BIDS dataset or of fMRIPrep's derivatives (sub-01/func/sub-01_task-objects_bold.nii.gz): read for "
        "one subject and task; needs nilearn"
    )

    def sniff(self, path: Path) -> bool:
        """Recognise folders with functional series of subjects, or of one subject.

        Parameters
        ----------
        path : Path
            The folder.

        Returns
        -------
        bool
            Whether it holds a ``sub-.../func`` or ``sub-.../ses-.../func``, is a ``sub-...`` that holds ``func``, or
            is a folder of derivatives whose folders hold such.
        """
        if not path.is_dir():
            return False
        if path.absolute().name.startswith("sub-"):
            return any(True for pattern in ("func", "ses-*/func") for _ in path.glob(pattern))
        inside = ("sub-*/func", "sub-*/ses-*/func")
        return any(True for base in bases_of(path) for pattern in inside for _ in base.glob(pattern))

    @options_from(SeriesOptions)
    def read(
        self,
        path: Path,
        *,
        subject: str | int | None = None,
        task: str | None = None,
        space: str | None = None,
        session: str | int | Sequence[str | int] | None = None,
        run: str | int | Sequence[str | int] | None = None,
        entities: Mapping[str, str | Sequence[str]] | None = None,
        raw: str | Path | None = None,
        confounds: str | Sequence[str] | None = "minimal",
        **options: Any,
    ) -> Dataset | list[Dataset]:
        """Find the series of a subject and task, and fit the model of each run.

        Without `mask`, the voxels in the brain masks of all runs are read; all voxels, if no run has one.

        Parameters
        ----------
        path : Path
            The folder of the dataset or derivatives, or of a subject in them.
        subject, task, space : str, optional
            Which files to read; not needed if there is only one. ``""`` means files without the entity.
        session, run : str or int, or sequence of such, optional
            Which sessions and runs; by default all. ``1`` also means ``01`` if none is named ``1``; this
            holds for subjects as well.
        entities : mapping of str to str or sequence of str, optional
            Other entities in the names, for example ``{"acq": "highres"}``. ``{"desc": ...}`` selects other derivatives
            than ``desc-preproc``, ``{"desc": ""}`` the raw series. Several values of ``acq``, ``ce``, ``rec`` or
            ``dir``, ``{"dir": ["AP", "PA"]}``, are read as runs (``"AP/1"``).
        raw : str or Path, optional
            Folder of the dataset, for derivatives that are not in its folder ``derivatives``.
        confounds : str or sequence of str, optional
            ``"minimal"``, the six motion parameters; ``"simple"``, the strategy of that name in nilearn (motion with
            derivatives and squares, white matter and cerebrospinal fluid); or names of columns of the confounds table.
            None: no confounds.
        **options
            Which voxels are read, and the model of each run; see `SeriesOptions`.

        Returns
        -------
        rsatoolbox.data.Dataset or list of Dataset
            Observation descriptors stimulus and run (``"01/1"`` of several sessions, and session).

        Raises
        ------
        BrainrdlError
            If no file or more than one matches, a run lacks preprocessing or a brain mask, a file was not downloaded, a
            table is missing, or as in `bold`.
        """
        shared = SeriesOptions(**options)
        folder, subject = _whole(path, subject)
        asked = {"sub": subject, "task": task, "space": space, "ses": session, "run": run} | _checked(entities)
        found, root = find_series(folder, asked, None if raw is None else _dataset(raw))
        regions = shared.regions_of(found)
        regions = regions if shared.mask is not None else _within_brain(regions, found)
        starts = {_start_time(file, root) for file in found}
        if len(starts) > 1:
            refuse(
                f"the runs' slices were shifted to different times (StartTime {quote(sorted(starts))}); give one "
                f"{read_arg('run')}"
            )
        several = several_of(asked)
        shown = events_of_runs([events_of(file, root) for file in found], shared.condition_column, shared.baseline)
        model = shared.model(starts.pop())

        def pieces() -> Iterator[tuple[str, Piece]]:
            runs = zip(run_names(found, several), found, shown, strict=True)
            for name, file, events in track_slow(runs, "runs of BOLD", len(found)):
                seconds = _repetition_time(file, root, shared.t_r)
                extra = None if confounds is None else read_confounds(file, confounds)
                yield name, Piece(read_voxels(file, regions), events, seconds, extra)

        described = _descriptors(found) | ({"series": "raw"} if any(map(is_raw, found)) else {})
        data = fit_regions(pieces(), regions, described, model)
        for part in data:
            _name_sessions(part, found)
        return data[0] if shared.is_one_region else data


def _whole(path: Path, subject: str | int | None) -> tuple[Path, str | int | None]:
    """Give the folder of all subjects, and the subject: the folder of one subject names the subject."""
    folder = path.absolute()  # "." has no name
    if not folder.name.startswith("sub-"):
        return folder, subject
    if subject is not None and str(subject).removeprefix("sub-") != folder.name.removeprefix("sub-"):
        refuse(
            f"subject={subject!r} is another subject than {folder.name!r}, the folder; give the folder of the dataset"
        )
    return folder.parent, folder.name.removeprefix("sub-")


def _dataset(raw: str | Path) -> Path:
    if not Path(raw).is_dir():
        refuse(f"raw= is {str(raw)!r}, but there is no such folder")
    return Path(raw).absolute()


def _checked(entities: Mapping[str, str | Sequence[str]] | None) -> dict[str, str | Sequence[str]]:
    """Refuse entities that have a separate option."""
    for entity in entities or {}:
        if entity in OWN_OPTIONS:
            refuse(f"entities= has {entity!r}, which has its own option; give {OWN_OPTIONS[entity]}=")
    return dict(entities or {})


def _sidecar(file: Path, root: Path) -> dict[str, Any]:
    """Merge the sidecars of a series: the nearest has priority, and before it the series' own."""
    own = file.with_name(re.sub(r"\.nii(\.gz)?$", ".json", file.name))
    known: dict[str, Any] = {}
    for place in [*inherited(file, root, "bold.json"), own]:
        if is_here(place):
            known |= _json(place)
    return known


def _json(file: Path) -> dict[str, Any]:
    if file.stat().st_size > _LARGEST_SIDECAR:
        refuse(
            f"the sidecar {file.name!r} has {file.stat().st_size} bytes; a sidecar should have less than "
            f"{_LARGEST_SIDECAR}"
        )
    try:
        held = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        refuse(f"the sidecar {file.name!r} is not valid JSON: {error}")
    if not isinstance(held, dict):
        refuse(f"the sidecar {file.name!r} must hold a JSON object, but it holds {type(held).__name__}")
    return held


def _repetition_time(file: Path, root: Path, t_r: float | None) -> float:
    """Give the time from volume to volume, on which sidecar and header must agree."""
    stated = _sidecar(file, root).get("RepetitionTime") if t_r is None else None
    whose = "t_r" if stated is None else f"RepetitionTime in the sidecar of {file.name!r}"
    seconds, held = repetition_time(file, t_r if stated is None else stated, whose), header_time(file)
    if stated is not None and held and abs(seconds - held) > 0.01 * seconds:
        refuse(
            f"the time from volume to volume of {file.name!r} is {held:g} s in its header, but {seconds:g} s in its "
            f"sidecar; give {read_arg('t_r')}"
        )
    return seconds


def _start_time(file: Path, root: Path) -> float:
    """Give the time that slices were shifted to; only preprocessing shifts slices."""
    stated = _sidecar(file, root).get("StartTime", 0.0) if is_shifted(file) else 0.0
    if isinstance(stated, bool) or not isinstance(stated, (int, float)) or not 0 <= stated <= 60:
        refuse(f"StartTime in the sidecar of {file.name!r} must be seconds from 0 to 60, got {stated!r}")
    return float(stated)


def _within_brain(regions: Regions, files: Sequence[Path]) -> Regions:
    """Keep the voxels in the brain masks of all runs."""
    masks = [_brain_mask(file) for file in files]
    missing = [file.name for file, mask in zip(files, masks, strict=True) if mask is None]
    if len(missing) == len(files):
        return regions
    if missing:
        refuse(f"there are brain masks of other runs, but none of {quote(missing)}; give {read_arg('mask')}")
    inside = np.logical_and.reduce([read_mask(mask, files[0]) for mask in masks if mask is not None])
    parts = [(name, places[inside[places]]) for name, places in regions.parts]
    outside = [name for name, places in parts if not len(places)]
    if outside:
        what = "no voxel is" if outside == [None] else f"regions {quote(outside)} are not"
        refuse(f"{what} in the brain masks of all runs; give another {read_arg('mask')}")
    return Regions(tuple(parts), regions.shape)


def _brain_mask(file: Path) -> Path | None:
    names = [name_of(file, desc="brain", suffix=f"mask.nii{gz}", whole=True) for gz in (".gz", "")]
    return next((mask for mask in map(file.with_name, names) if is_here(mask)), None)


def _descriptors(files: Sequence[Path]) -> dict[str, str]:
    """Give what all series share."""
    shared = {"subject": "sub", "session": "ses", "task": "task", "space": "space"}
    values = {name: values_of(files, entity) for name, entity in shared.items()}
    return {name: found[0] for name, found in values.items() if len(found) == 1 and found[0]}


def _name_sessions(data: Dataset, files: Sequence[Path]) -> None:
    if len(values_of(files, "ses")) > 1:
        data.obs_descriptors["session"] = [run.partition("/")[0] for run in data.obs_descriptors["run"]]


READER = Bids()
