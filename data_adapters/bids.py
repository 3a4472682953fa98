"""BIDS datasets and fMRIPrep's derivatives: the BOLD runs of one subject and task, modelled to patterns.

Layout on disk: the folder of a BIDS dataset, or of derivatives as fMRIPrep writes them::

    sub-01/[ses-01/]func/sub-01_[ses-01_]task-objects_run-1_bold.nii.gz           the raw series
                         sub-01_[ses-01_]task-objects_run-1_events.tsv            its events
    derivatives/fmriprep/sub-01/[ses-01/]func/..._space-T1w_desc-preproc_bold.nii.gz
                                              ..._space-T1w_desc-brain_mask.nii.gz
                                              ..._desc-confounds_timeseries.tsv

Preprocessed series are read where there are any, else the raw ones. Files are found by the entities in their names; if
those asked for leave a choice (two tasks, two spaces), it is refused and the choices are listed. Events and sidecars
are inherited from higher folders as BIDS says. For derivatives outside their dataset ``raw=`` says where the events
are. `data_adapters.bold` reads the series and `data_adapters._glm` models them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainrdl._checks import check_option, nearest, quote, refuse
from data_adapters._events import read_events
from data_adapters._glm import Model
from data_adapters._tables import read_table
from data_adapters.bold import (
    Piece,
    Regions,
    find_regions,
    fit_regions,
    header_time,
    read_mask,
    read_voxels,
    repetition_time,
)

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
_OWN_OPTIONS = {"sub": "subject", "ses": "session", "task": "task", "space": "space", "run": "run"}
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
        """Take folders with functional series of subjects in them.

        Parameters
        ----------
        path : Path
            The folder.

        Returns
        -------
        bool
            Whether there is a ``sub-.../func`` or ``sub-.../ses-.../func``.
        """
        return path.is_dir() and any(True for pattern in ("sub-*/func", "sub-*/ses-*/func") for _ in path.glob(pattern))

    def read(
        self,
        path: Path,
        *,
        subject: str | None = None,
        task: str | None = None,
        space: str | None = None,
        session: str | Sequence[str] | None = None,
        run: str | int | Sequence[str | int] | None = None,
        entities: dict[str, str] | None = None,
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
            The folder of the dataset or derivatives.
        subject, task, space : str, optional
            Which files; may be left out where there is only one. ``""`` stands for files without it.
        session, run : str or sequence of str, optional
            Which sessions and runs (a run may be a number); by default all.
        entities : dict of str to str, optional
            Other entities in the names, for example ``{"acq": "highres"}``.
        raw : str or Path, optional
            Folder of the dataset, for derivatives that do not lie in its ``derivatives``.
        mask, atlas, labels, roi, t_r, condition_column, baseline, per, hrf, high_pass, noise_model
            As in `data_adapters.bold`. Without mask, the voxels in the brain masks of all runs, if there are any.
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
            If no file or more than one fits what is asked for, or a table is missing, or as in `data_adapters.bold`.
        """
        found = _find(
            path, {"sub": subject, "task": task, "space": space, "ses": session, "run": run, **(entities or {})}
        )
        root = Path(raw) if raw is not None else _dataset_of(path, found[0])
        regions = find_regions(found, mask=mask, atlas=atlas, labels=labels, roi=roi)
        regions = regions if mask is not None else _within_brain(regions, found)
        starts = {_start_time(file, root) for file in found}
        if len(starts) > 1:
            refuse(
                f"the runs' slices were shifted to different times (StartTime {quote(sorted(starts))}); give one run="
            )
        model = Model(hrf=hrf, high_pass=high_pass, noise_model=noise_model, per=per, start_time=starts.pop())

        def pieces() -> Iterator[tuple[str, Piece]]:
            for name, file in zip(_run_names(found), found, strict=True):
                seconds = _repetition_time(file, root, t_r)
                events = read_events(_events(file, root), condition_column=condition_column, baseline=baseline)
                extra = None if confounds is None else read_confounds(file, confounds)
                yield name, Piece(read_voxels(file, regions), events, seconds, extra)

        data = fit_regions(pieces(), regions, _descriptors(found), model)
        for part in data:
            _name_sessions(part, found)
        return data[0] if atlas is None or isinstance(roi, str) else data


def entities_of(name: str) -> dict[str, str]:
    """Take a BIDS file name apart.

    Examples
    --------
    >>> entities_of("sub-01_task-objects_desc-preproc_bold.nii.gz")
    {'sub': '01', 'task': 'objects', 'desc': 'preproc', 'suffix': 'bold'}
    """
    *pairs, last = name.split("_")
    parts = [pair.split("-", 1) for pair in pairs]
    return {**{part[0]: part[1] for part in parts if len(part) == 2}, "suffix": last.partition(".")[0]}


def _find(root: Path, asked: dict[str, Any]) -> list[Path]:
    """Find the one series of each session and run that fits what is asked for."""
    bases = [root, root / "derivatives", *sorted(root.glob("derivatives/*"))]
    files = [file for base in bases for file in _all_series(base)]
    files = [file for file in files if entities_of(file.name).get("desc", "preproc") == "preproc"]
    if not files:
        refuse("the folder holds no sub-.../func/..._bold.nii.gz, raw or with desc-preproc")
    files = _only(files, "sub", asked.pop("sub"))
    preprocessed = [file for file in files if "desc" in entities_of(file.name)]
    files = preprocessed or files
    for entity, wanted in asked.items():
        files = _only(files, entity, wanted)
    choices = {name: _values(files, name) for name in sorted({key for file in files for key in entities_of(file.name)})}
    for entity, values in choices.items():
        if len(values) > 1 and entity not in {"ses", "run"}:
            refuse(f"there are series of {entity} {quote(values)}; choose one with {_option(entity)}")
    folders = sorted({str(_root_of(file)) for file in files})
    if len(folders) > 1:
        refuse(f"there are series in {quote(folders)}; read one of these folders, with raw= the folder of the dataset")
    names = [file.name.removesuffix(".gz") for file in files]
    if len(set(names)) < len(names):
        refuse(f"there are two files of the series {quote(sorted({name for name in names if names.count(name) > 1}))}")
    return files


def _all_series(base: Path) -> list[Path]:
    patterns = [f"sub-*/{session}func/sub-*_bold.nii{gz}" for session in ("", "ses-*/") for gz in ("", ".gz")]
    return sorted(file for pattern in patterns for file in base.glob(pattern))


def _values(files: Sequence[Path], entity: str) -> list[str]:
    return sorted({entities_of(file.name).get(entity, "") for file in files})


def _only(files: Sequence[Path], entity: str, wanted: str | int | Sequence[str | int] | None) -> list[Path]:
    """Keep the files with the values asked for, each of which must be there."""
    if wanted is None:
        return list(files)
    values = _values(files, entity)
    kept = []
    for value in map(str, [wanted] if isinstance(wanted, (str, int)) else wanted):
        fitting = [known for known in values if _same(value.removeprefix(f"{entity}-"), known, entity)]
        if not fitting:
            refuse(f"no series has the {entity} {value!r}{nearest(value, values)}; there are {quote(values)}")
        kept += fitting
    return [file for file in files if entities_of(file.name).get(entity, "") in kept]


def _same(asked: str, known: str, entity: str) -> bool:
    """Compare labels; a run is a number."""
    return asked == known or (entity == "run" and asked.isdecimal() and known.isdecimal() and int(asked) == int(known))


def _option(entity: str) -> str:
    return f"{_OWN_OPTIONS[entity]}=" if entity in _OWN_OPTIONS else f"entities={{{entity!r}: ...}}"


def _root_of(file: Path) -> Path:
    """Give the folder that the subject's folder lies in."""
    return file.parents[3 if file.parents[1].name.startswith("ses-") else 2]


def _dataset_of(path: Path, file: Path) -> Path:
    """Give the dataset in whose derivatives the file lies, else the folder read."""
    base = _root_of(file)
    if "desc" not in entities_of(file.name) or "derivatives" not in {base.name, base.parent.name}:
        return path
    return base.parent if base.name == "derivatives" else base.parents[1]


def _inherited(file: Path, root: Path, suffix: str) -> list[Path]:
    """Find what describes a series: names without other entities, from the dataset's folder down to the series' own."""
    parts = file.parent.relative_to(_root_of(file)).parts
    found = []
    for depth in range(len(parts) + 1):
        folder = root.joinpath(*parts[:depth])
        there = sorted(
            [*folder.glob(f"*_{suffix}"), *folder.glob(suffix)], key=lambda other: len(entities_of(other.name))
        )
        found += [other for other in there if _entities(other).items() <= _entities(file).items()]
    return found


def _entities(file: Path) -> dict[str, str]:
    return {key: value for key, value in entities_of(file.name).items() if key != "suffix"}


def _events(file: Path, root: Path) -> Path:
    found = _inherited(file, root, "events.tsv")
    if not found:
        refuse(f"there are no events for {file.name!r} in {str(root)!r}; give raw= the folder of the dataset")
    alike = [
        other.name
        for other in found
        if other.parent == found[-1].parent and len(_entities(other)) == len(_entities(found[-1]))
    ]
    if len(alike) > 1:
        refuse(f"{quote(alike)} both describe {file.name!r}; which events are its own?")
    return found[-1]


def _sidecar(file: Path, root: Path) -> dict[str, Any]:
    """Join the sidecars of a series: the nearest wins; a preprocessed series goes by its own first."""
    own = file.with_name(re.sub(r"\.nii(\.gz)?$", ".json", file.name))
    told: dict[str, Any] = {}
    for place in [*_inherited(file, root, "bold.json"), own]:
        if place.is_file():
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
    seconds, held = repetition_time(file, t_r if told is None else told), header_time(file)
    if told is not None and held and abs(seconds - held) > 0.01 * seconds:
        refuse(
            f"the time from volume to volume of {file.name!r} is {held:g} s in its header and {seconds:g} s in its "
            "sidecar; give t_r="
        )
    return seconds


def _start_time(file: Path, root: Path) -> float:
    """Give the time that slices were shifted to; only preprocessing shifts them."""
    told = _sidecar(file, root).get("StartTime", 0.0) if "desc" in entities_of(file.name) else 0.0
    if isinstance(told, bool) or not isinstance(told, (int, float)) or not 0 <= told <= 60:
        refuse(f"StartTime in the sidecar of {file.name!r} must be seconds, got {told!r}")
    return float(told)


def _within_brain(regions: Regions, files: Sequence[Path]) -> Regions:
    """Keep the voxels in the brain masks of all runs."""
    masks = [file.with_name(file.name.replace("_desc-preproc_bold.", "_desc-brain_mask.")) for file in files]
    there = [mask for mask, file in zip(masks, files, strict=True) if mask != file and mask.is_file()]
    if not there:
        return regions
    inside = np.logical_and.reduce([read_mask(mask, files[0]) for mask in there])
    parts = [(name, places[inside[places]]) for name, places in regions.parts]
    outside = [name for name, places in parts if not len(places)]
    if outside:
        what = "no voxel lies" if outside == [None] else f"regions {quote(outside)} do not lie"
        refuse(f"{what} in the brain masks of all runs; give another mask=")
    return Regions(tuple(parts), regions.shape)


def read_confounds(file: Path, confounds: str | Sequence[str]) -> pd.DataFrame:
    """Read confounds of a preprocessed series.

    Parameters
    ----------
    file : Path
        The series, ``..._desc-preproc_bold.nii.gz``.
    confounds : str or sequence of str
        As of ``Bids.read``.

    Returns
    -------
    pandas.DataFrame
        (n_volumes, n_confounds). ``n/a`` in the first row, where a derivative has no value, is the column's mean.

    Raises
    ------
    BrainrdlError
        If there is no table, a column is missing, or a value is no number.
    """
    if isinstance(confounds, str) and check_option(confounds, ("minimal", "simple"), "confounds") == "simple":
        return _simple(file)
    base = re.sub(r"(_space-[^_]+)?(_res-[^_]+)?(_den-[^_]+)?_desc-preproc_bold\.nii(\.gz)?$", "", file.name)
    tables = [file.with_name(f"{base}_desc-confounds_{kind}.tsv") for kind in ("timeseries", "regressors")]
    there = [table for table in tables if table.is_file()]
    if not there:
        refuse(
            f"there is no table of confounds {tables[0].name!r} for {file.name!r}; give confounds=None to take none out"
        )
    table = read_table(there[0])
    asked = list(MOTION) if isinstance(confounds, str) else list(confounds)
    return pd.DataFrame(
        {name: _column(table[check_option(name, table, "confounds")], name, there[0]) for name in asked}
    )


def _column(cells: Sequence[str], name: str, file: Path) -> np.ndarray:
    try:
        values = np.array([np.nan if cell.lower() in {"n/a", "nan", ""} else float(cell) for cell in cells])
    except ValueError as error:
        refuse(f"column {name!r} of {file.name!r}: {error}")
    if not np.isfinite(values[1:]).all():
        refuse(f"column {name!r} of {file.name!r} holds a value that is no number after its first row")
    if len(values) and np.isnan(values[0]):
        values[0] = values[1:].mean()
    return values


def _simple(file: Path) -> pd.DataFrame:
    """Give nilearn's simple strategy without its slow cosines, which the model has itself."""
    try:
        from nilearn.interfaces.fmriprep import load_confounds
    except ImportError:
        refuse("confounds='simple' needs nilearn, which is not installed: pip install 'brainrdl[fmri]'")
    try:
        table, _ = load_confounds(str(file), strategy=("motion", "wm_csf"), motion="full", wm_csf="basic")
    except ValueError as error:
        refuse(f"nilearn finds no confounds for {file.name!r} ({error}); name columns, or give confounds=None")
    return table


def _run_names(files: Sequence[Path]) -> list[str]:
    runs = [entities_of(file.name).get("run", "1") for file in files]
    sessions = [entities_of(file.name).get("ses", "") for file in files]
    return [f"{ses}/{run}" for ses, run in zip(sessions, runs, strict=True)] if len(set(sessions)) > 1 else runs


def _descriptors(files: Sequence[Path]) -> dict[str, str]:
    """Give what all series share."""
    shared = {"subject": "sub", "session": "ses", "task": "task", "space": "space"}
    values = {name: _values(files, entity) for name, entity in shared.items()}
    return {name: found[0] for name, found in values.items() if len(found) == 1 and found[0]}


def _name_sessions(data: Dataset, files: Sequence[Path]) -> None:
    if len(_values(files, "ses")) > 1:
        data.obs_descriptors["session"] = [run.partition("/")[0] for run in data.obs_descriptors["run"]]


READER = Bids()
