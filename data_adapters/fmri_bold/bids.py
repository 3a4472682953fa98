"""BIDS datasets and fMRIPrep's derivatives: the BOLD runs of one subject and task, modelled to patterns.

Layout on disk: the folder of a BIDS dataset, or of derivatives as fMRIPrep writes them::

    sub-01/[ses-01/]func/sub-01_[ses-01_]task-objects_run-1_bold.nii.gz           the raw series
                         sub-01_[ses-01_]task-objects_run-1_events.tsv            its events
    derivatives/fmriprep/sub-01/[ses-01/]func/..._space-T1w_desc-preproc_bold.nii.gz
                                              ..._space-T1w_desc-brain_mask.nii.gz
                                              ..._desc-confounds_timeseries.tsv

The folder of one subject in these, ``sub-01``, is read as its dataset is with ``subject="01"``. Files are found by the
entities in their names (`bids_files`): of a subject's task the series with ``desc-preproc``, raw ones
only where it has no derivatives. What leaves a choice (two tasks, two spaces) is refused and listed, and so are runs
that were measured and not preprocessed. Events and sidecars are inherited from higher folders as BIDS says. For
derivatives outside their dataset ``raw=`` says where the events are. `bold` reads the series and
`first_level_model` models them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainrdl._core.errors import quote, read_arg, refuse
from data_adapters.fmri_bold.bids_files import (
    OWN_OPTIONS,
    events_of,
    find_series,
    inherited,
    is_shifted,
    name_of,
    run_names,
    several_of,
    values_of,
)
from data_adapters.fmri_bold.bold import Piece, events_of_runs, fit_regions
from data_adapters.fmri_bold.confounds import read_confounds
from data_adapters.fmri_bold.first_level_model import Model
from data_adapters.fmri_bold.series import (
    Regions,
    find_regions,
    header_time,
    is_here,
    read_mask,
    read_voxels,
    repetition_time,
)

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
        "folder of a BIDS dataset or of fMRIPrep's derivatives (sub-01/func/sub-01_task-objects_bold.nii.gz): one "
        "subject and task; needs the extra fmri"
    )

    def sniff(self, path: Path) -> bool:
        """Take folders with functional series of subjects in them, or of one subject.

        Parameters
        ----------
        path : Path
            The folder.

        Returns
        -------
        bool
            Whether there is a ``sub-.../func`` or ``sub-.../ses-.../func``, or the folder is such a ``sub-...``.
        """
        whole = path.absolute()
        inside = ("func", "ses-*/func") if whole.name.startswith("sub-") else ("sub-*/func", "sub-*/ses-*/func")
        return path.is_dir() and any(True for pattern in inside for _ in path.glob(pattern))

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
        mask: str | Path | None = None,
        atlas: str | Path | None = None,
        labels: str | Path | None = None,
        roi: str | Sequence[str] | None = None,
        t_r: float | None = None,
        confounds: str | Sequence[str] | None = "minimal",
        condition_column: str | None = None,
        baseline: str | Sequence[str] | None = "rest",
        per: str = "condition",
        hrf: str = "spm",
        high_pass: float = 0.01,
        noise_model: str = "ar1",
    ) -> Dataset | list[Dataset]:
        """Find the series of a subject and task, and fit the model of each run.

        Parameters
        ----------
        path : Path
            The folder of the dataset or derivatives, or of a subject in these.
        subject, task, space : str, optional
            Which files; may be left out where there is only one. ``""`` stands for files without it.
        session, run : str or int, or sequence of such, optional
            Which sessions and runs; by default all. Of subjects, sessions and runs, ``1`` also means ``01`` where none
            is called ``1``.
        entities : mapping of str to str or sequence of str, optional
            Other entities in the names, for example ``{"acq": "highres"}``. ``{"desc": ...}`` picks other derivatives
            than ``desc-preproc``, ``{"desc": ""}`` the raw series. Several values of ``acq``, ``ce``, ``rec`` or
            ``dir``, ``{"dir": ["AP", "PA"]}``, are read as runs (``"AP/1"``).
        raw : str or Path, optional
            Folder of the dataset, for derivatives that do not lie in its ``derivatives``.
        mask, atlas, labels, roi, t_r, condition_column, baseline, per, hrf, high_pass, noise_model
            As in `bold`. Without mask, the voxels in the brain masks of all runs; all voxels, if no run
            has one.
        confounds : str or sequence of str, optional
            ``"minimal"``, the six motion parameters; ``"simple"``, nilearn's strategy of that name (motion with
            derivatives and squares, white matter and cerebrospinal fluid); or names of columns of the confounds table.
            None takes none out.

        Returns
        -------
        rsatoolbox.data.Dataset or list of Dataset
            Observation descriptors stimulus and run (``"01/1"`` of several sessions, and session).

        Raises
        ------
        BrainrdlError
            If no file or more than one fits what is asked for, preprocessing or brain masks lack a run, a file is a
            link to what was not fetched, a table is missing, or as in `bold`.
        """
        folder, subject = _whole(path, subject)
        asked = {"sub": subject, "task": task, "space": space, "ses": session, "run": run} | _checked(entities)
        found, root = find_series(folder, asked, None if raw is None else _dataset(raw))
        regions = find_regions(found, mask=mask, atlas=atlas, labels=labels, roi=roi)
        regions = regions if mask is not None else _within_brain(regions, found)
        starts = {_start_time(file, root) for file in found}
        if len(starts) > 1:
            refuse(
                f"the runs' slices were shifted to different times (StartTime {quote(sorted(starts))}); give one "
                f"{read_arg('run')}"
            )
        several = several_of(asked)
        shown = events_of_runs([events_of(file, root) for file in found], condition_column, baseline)
        model = Model(hrf=hrf, high_pass=high_pass, noise_model=noise_model, per=per, start_time=starts.pop())

        def pieces() -> Iterator[tuple[str, Piece]]:
            for name, file, events in zip(run_names(found, several), found, shown, strict=True):
                seconds = _repetition_time(file, root, t_r)
                extra = None if confounds is None else read_confounds(file, confounds)
                yield name, Piece(read_voxels(file, regions), events, seconds, extra)

        data = fit_regions(pieces(), regions, _descriptors(found), model)
        for part in data:
            _name_sessions(part, found)
        return data[0] if atlas is None or isinstance(roi, str) else data


def _whole(path: Path, subject: str | int | None) -> tuple[Path, str | int | None]:
    """Give the folder of all subjects, and the subject: the folder of one subject says who it is."""
    folder = path.absolute()  # "." has no name to go by
    if not folder.name.startswith("sub-"):
        return folder, subject
    if subject is not None and str(subject).removeprefix("sub-") != folder.name.removeprefix("sub-"):
        refuse(f"subject={subject!r} is not the one whose folder is read; give the folder of the dataset")
    return folder.parent, folder.name.removeprefix("sub-")


def _dataset(raw: str | Path) -> Path:
    if not Path(raw).is_dir():
        refuse(f"raw= is {str(raw)!r}, and there is no such folder")
    return Path(raw).absolute()


def _checked(entities: Mapping[str, str | Sequence[str]] | None) -> dict[str, str | Sequence[str]]:
    """Refuse entities that are options of their own."""
    for entity in entities or {}:
        if entity in OWN_OPTIONS:
            refuse(f"entities= has {entity!r}, which is an option of its own; give {OWN_OPTIONS[entity]}=")
    return dict(entities or {})


def _sidecar(file: Path, root: Path) -> dict[str, Any]:
    """Join the sidecars of a series: the nearest wins; a preprocessed series goes by its own first."""
    own = file.with_name(re.sub(r"\.nii(\.gz)?$", ".json", file.name))
    told: dict[str, Any] = {}
    for place in [*inherited(file, root, "bold.json"), own]:
        if is_here(place):
            told |= _json(place)
    return told


def _json(file: Path) -> dict[str, Any]:
    if file.stat().st_size > _LARGEST_SIDECAR:
        refuse(f"the sidecar {file.name!r} has {file.stat().st_size} bytes, more than a sidecar needs")
    try:
        told = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        refuse(f"the sidecar {file.name!r} is no JSON: {error}")
    if not isinstance(told, dict):
        refuse(f"the sidecar {file.name!r} must hold an object, it holds {type(told).__name__}")
    return told


def _repetition_time(file: Path, root: Path, t_r: float | None) -> float:
    """Give the time from volume to volume, on which sidecar and header must agree."""
    told = _sidecar(file, root).get("RepetitionTime") if t_r is None else None
    whose = "t_r" if told is None else f"RepetitionTime in the sidecar of {file.name!r}"
    seconds, held = repetition_time(file, t_r if told is None else told, whose), header_time(file)
    if told is not None and held and abs(seconds - held) > 0.01 * seconds:
        refuse(
            f"the time from volume to volume of {file.name!r} is {held:g} s in its header and {seconds:g} s in its "
            f"sidecar; give {read_arg('t_r')}"
        )
    return seconds


def _start_time(file: Path, root: Path) -> float:
    """Give the time that slices were shifted to; only preprocessing shifts them."""
    told = _sidecar(file, root).get("StartTime", 0.0) if is_shifted(file) else 0.0
    if isinstance(told, bool) or not isinstance(told, (int, float)) or not 0 <= told <= 60:
        refuse(f"StartTime in the sidecar of {file.name!r} must be seconds, got {told!r}")
    return float(told)


def _within_brain(regions: Regions, files: Sequence[Path]) -> Regions:
    """Keep the voxels in the brain masks of all runs."""
    masks = [_brain_mask(file) for file in files]
    missing = [file.name for file, mask in zip(files, masks, strict=True) if mask is None]
    if len(missing) == len(files):
        return regions
    if missing:
        refuse(f"there are brain masks of other runs, and none of {quote(missing)}; give {read_arg('mask')}")
    inside = np.logical_and.reduce([read_mask(mask, files[0]) for mask in masks if mask is not None])
    parts = [(name, places[inside[places]]) for name, places in regions.parts]
    outside = [name for name, places in parts if not len(places)]
    if outside:
        what = "no voxel lies" if outside == [None] else f"regions {quote(outside)} do not lie"
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
