"""Files of BIDS datasets, found by the entities in their names: ``sub-01_task-objects_run-1_bold.nii.gz``.

Of a subject's task, series with ``desc-preproc`` are read, or raw ones if there are no derivatives, or those of another
``desc`` (``""`` for raw series) if it is asked for. If a choice is left, it is refused with a list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from brainrdl._core.errors import nearest, quote, read_arg, refuse
from brainrdl.readers.entities import entities_of
from data_adapters.fmri_bold.series import is_here

Asked = str | int | Sequence[str | int] | None

OWN_OPTIONS = {"sub": "subject", "ses": "session", "task": "task", "space": "space", "run": "run"}

_ACQUIRED = ("ses", "acq", "ce", "rec", "dir", "run")  # identify a series before and after preprocessing

_OF_OUTPUTS = (
    "space",
    "cohort",
    "res",
    "den",
    "desc",
    "suffix",
)  # not in the names of tables, which belong to all outputs

_NUMBERED = ("sub", "ses", "run")

_DEEPEST = 4  # how far below the folder of a dataset the folders of subjects in derivatives may be

_LARGEST_DESCRIPTION = 1_000_000  # bytes


def name_of(series: Path, *, desc: str, suffix: str, whole: bool = False) -> str:
    """Name a file that belongs to a series: to all its outputs, or (`whole`) to that space and resolution.

    Examples
    --------
    >>> name_of(Path("sub-01_space-T1w_desc-preproc_bold.nii.gz"), desc="confounds", suffix="timeseries.tsv")
    'sub-01_desc-confounds_timeseries.tsv'
    >>> name_of(Path("sub-01_space-T1w_desc-preproc_bold.nii.gz"), desc="brain", suffix="mask.nii.gz", whole=True)
    'sub-01_space-T1w_desc-brain_mask.nii.gz'
    """
    left_out = ("desc", "suffix") if whole else _OF_OUTPUTS
    kept = [f"{key}-{value}" for key, value in entities_of(series.name).items() if key not in left_out]
    return "_".join([*kept, f"desc-{desc}", suffix])


def find_series(root: Path, asked: Mapping[str, Asked], raw: Path | None = None) -> tuple[list[Path], Path]:
    """Find the one series of each session and run that matches, and the dataset with their events.

    Parameters
    ----------
    root : Path
        Folder of the dataset or of derivatives.
    asked : mapping
        Wanted values by entity; None for all (of sessions and runs) or the only one (of other entities).
    raw : Path, optional
        Folder of the dataset, for derivatives that are not in its folder ``derivatives``.

    Returns
    -------
    tuple of list of Path and Path
        Sorted by name.

    Raises
    ------
    BrainrdlError
        If nothing matches, a choice is left, or a run was not preprocessed.
    """
    files = [file for base in bases_of(root) for file in _all_series(base)]
    if not files:
        refuse("the folder holds no sub-.../func/..._bold.nii.gz, raw or preprocessed")
    for entity in ("sub", "task"):
        files = _the_only(_only(files, entity, asked.get(entity)), [entity])
    files = _of_desc(files, asked.get("desc"))
    entities = {key for file in files for key in entities_of(file.name)} | asked.keys()
    others = ["space", *sorted(entities - {"sub", "task", "desc", "space"})]  # a space may determine the resolution
    for entity in others:
        files = _only(files, entity, asked.get(entity))
    files = _the_only(files, [entity for entity in others if entity not in {"ses", "run", *several_of(asked)}])
    _check_single(files)
    dataset = raw or _dataset_of(root, files[0])
    if not is_raw(files[0]):
        _check_complete(files, [file for file in _all_series(dataset) if is_raw(file)], asked)
    return files, dataset


def bases_of(root: Path) -> list[Path]:
    """List the folders whose subjects are read: the folder itself, and those of derivatives in it.

    Derivatives are ``derivatives/NAME``, or deeper: fMRIPrep's legacy layout has ``derivatives/NAME/fmriprep``, C-PAC
    ``derivatives/cpac/output/pipeline_NAME``.
    """
    whole = root.absolute()
    within = _derivatives_above(whole) is not None and not any(whole.glob("sub-*"))
    return [root, *_folders_below(root if within else root / "derivatives", _DEEPEST)]


def _folders_below(folder: Path, depth: int) -> list[Path]:
    if depth == 0 or not folder.is_dir():
        return []
    inside = [each for each in sorted(folder.iterdir()) if not each.name.startswith(("sub-", ".")) and each.is_dir()]
    return [folder, *(below for each in inside for below in _folders_below(each, depth - 1))]


def _derivatives_above(base: Path) -> Path | None:
    """Give the folder ``derivatives`` that is or holds a folder of subjects."""
    return next((each for each in (base, *base.parents)[:_DEEPEST] if each.name == "derivatives"), None)


def _all_series(base: Path) -> list[Path]:
    patterns = [f"sub-*/{session}func/sub-*_bold.nii{gz}" for session in ("", "ses-*/") for gz in ("", ".gz")]
    return sorted(file for pattern in patterns for file in base.glob(pattern))


def is_raw(file: Path) -> bool:
    """Say whether a series is as it was measured: by its name, the description of its dataset, or its folders."""
    base = root_of(file.absolute())
    if {"desc", "space"} & entities_of(file.name).keys():
        return False
    kind = _stated_kind(base / "dataset_description.json")
    return kind == "raw" if kind in ("raw", "derivative") else _derivatives_above(base) is None


def _stated_kind(description: Path) -> str:
    """Give the DatasetType in the description of a dataset; "" if none is stated."""
    try:
        if description.stat().st_size > _LARGEST_DESCRIPTION:
            return ""
        stated = json.loads(description.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(stated.get("DatasetType", "")).lower() if isinstance(stated, dict) else ""


def is_shifted(file: Path) -> bool:
    """Say whether a sidecar's StartTime counts: only preprocessing shifts slices."""
    return not is_raw(file)


def values_of(files: Sequence[Path], entity: str) -> list[str]:
    """List the values of an entity, sorted; "" for files without it."""
    return sorted({entities_of(file.name).get(entity, "") for file in files})


def several_of(asked: Mapping[str, Asked]) -> list[str]:
    """List the entities other than session and run whose values were listed, so that they are read as runs."""
    of_runs = [key for key in asked if key in _ACQUIRED and key not in {"ses", "run"}]
    return [key for key in of_runs if not isinstance(asked[key], (str, int, type(None)))]


def _only(files: Sequence[Path], entity: str, wanted: Asked) -> list[Path]:
    """Keep the files with the values asked for, each of which must be there."""
    if wanted is None:
        return list(files)
    known = values_of(files, entity)
    kept = []
    for value in _listed(entity, wanted):
        fitting = _fitting(value, known, entity)
        if not fitting:
            refuse(f"no series has the {entity} {value!r}{nearest(value, known)}; there are {quote(known)}")
        kept += fitting
    return [file for file in files if entities_of(file.name).get(entity, "") in kept]


def _listed(entity: str, wanted: str | int | Sequence[str | int]) -> list[str]:
    listed = [wanted] if isinstance(wanted, (str, int)) else list(wanted)
    if not listed:
        refuse(f"{_option(entity)} is an empty list; leave it out to read all there are")
    return [str(value).removeprefix(f"{entity}-") for value in listed]


def _fitting(value: str, known: Sequence[str], entity: str) -> list[str]:
    """Give the labels that are meant: the same label, or (of subjects, sessions and runs) the same number."""
    if value in known or entity not in _NUMBERED or not value.isdecimal():
        return [value] if value in known else []
    return [label for label in known if label.isdecimal() and int(label) == int(value)]


def _of_desc(files: Sequence[Path], wanted: Asked) -> list[Path]:
    """Give what is asked for, else desc-preproc; raw series only if there are no derivatives at all."""
    if wanted is not None:
        return _only(files, "desc", wanted)
    derived = [file for file in files if not is_raw(file)]
    if not derived:
        return list(files)
    if "preproc" not in values_of(derived, "desc"):
        refuse(
            f"the derivatives hold series of desc {quote(values_of(derived, 'desc'))}, but none of 'preproc'; choose "
            f"one with {read_arg('entities', {'desc': '...'})} ('' for series without it, as the raw ones are)"
        )
    return _only(derived, "desc", "preproc")


def _the_only(files: list[Path], entities: Sequence[str]) -> list[Path]:
    """Refuse files that differ in an entity."""
    for entity in entities:
        if len(values := values_of(files, entity)) > 1:
            more = ", or list several to read them as runs" if entity in _ACQUIRED else ""
            more = ", or read the folders sub-* for a list of all subjects" if entity == "sub" else more
            refuse(f"there are series of {entity} {quote(values)}; choose one with {_option(entity)}{more}")
    return files


def _option(entity: str) -> str:
    return f"{OWN_OPTIONS[entity]}=" if entity in OWN_OPTIONS else f"entities={{{entity!r}: ...}}"


def _check_single(files: Sequence[Path]) -> None:
    folders = sorted({str(root_of(file)) for file in files})
    if len(folders) > 1:
        refuse(
            f"there are series in {quote(folders)}; read one of these folders, with {read_arg('raw')} the folder of "
            "the dataset"
        )
    names = [file.name.removesuffix(".gz") for file in files]
    if len(set(names)) < len(names):
        refuse(f"there are two files of the series {quote(sorted({name for name in names if names.count(name) > 1}))}")


def _check_complete(files: Sequence[Path], raw: Sequence[Path], asked: Mapping[str, Asked]) -> None:
    """Refuse runs that were measured but not preprocessed, or the reverse."""
    wanted = {key: asked.get(key) for key in _ACQUIRED} | {key: values_of(files, key) for key in ("sub", "task")}
    for entity, values in wanted.items():
        if values is not None:
            known = values_of(raw, entity)
            kept = [label for value in _listed(entity, values) for label in _fitting(value, known, entity)]
            raw = [file for file in raw if entities_of(file.name).get(entity, "") in kept]
    measured, preprocessed = (sorted({_called(file) for file in each}) for each in (raw, files))
    if raw and measured != preprocessed:
        refuse(
            f"the raw series are {', '.join(measured)}, but the preprocessed ones {', '.join(preprocessed)}; "
            f"preprocess what is missing, or choose with {read_arg('run')} (and {read_arg('session')}, "
            f"{read_arg('entities')})"
        )


def _called(file: Path) -> str:
    held = entities_of(file.name)
    return "_".join(f"{key}-{held[key]}" for key in _ACQUIRED if key in held) or "one without run-"


def root_of(file: Path) -> Path:
    """Give the folder that contains the subject's folder."""
    return file.parents[3 if file.parents[1].name.startswith("ses-") else 2]


def _dataset_of(root: Path, file: Path) -> Path:
    """Give the dataset that has the file in its derivatives, else the folder read; the path may contain links."""
    if is_raw(file):
        return root
    for base in (root_of(file).absolute(), root_of(file).resolve()):
        found = _derivatives_above(base)
        if found is not None:
            return found.parent
    return root


def inherited(file: Path, root: Path, suffix: str) -> list[Path]:
    """Find the files that describe a series: names without other entities, from the dataset's folder downwards."""
    parts = file.parent.relative_to(root_of(file)).parts
    found = []
    for depth in range(len(parts) + 1):
        folder = root.joinpath(*parts[:depth])
        there = sorted(
            [*folder.glob(f"*_{suffix}"), *folder.glob(suffix)], key=lambda other: len(entities_of(other.name))
        )
        found += [other for other in there if _own(other).items() <= _own(file).items()]
    return found


def _own(file: Path) -> dict[str, str]:
    return {key: value for key, value in entities_of(file.name).items() if key != "suffix"}


def events_of(file: Path, root: Path) -> Path:
    """Find the events of a series.

    Raises
    ------
    BrainrdlError
        If there are none, or two tables match equally well.
    """
    found = inherited(file, root, "events.tsv")
    if not found:
        refuse(
            f"there are no events for {file.name!r} in {str(root)!r}; give {read_arg('raw')} the folder of the dataset"
        )
    nearest_one = found[-1]
    equal = [
        other.name
        for other in found
        if other.parent == nearest_one.parent and len(_own(other)) == len(_own(nearest_one))
    ]
    if len(equal) > 1:
        refuse(f"{quote(equal)} both describe {file.name!r}; remove or rename all but one")
    is_here(nearest_one)
    return nearest_one


def run_names(files: Sequence[Path], several: Sequence[str] = ()) -> list[str]:
    """Name runs by their number, preceded by the session and other entities in which they differ.

    Examples
    --------
    >>> run_names([Path("sub-1_ses-a_run-1_bold.nii"), Path("sub-1_ses-b_run-1_bold.nii")])
    ['a/1', 'b/1']
    """
    differing = [key for key in ("ses", *several) if len(values_of(files, key)) > 1]
    held = [entities_of(file.name) for file in files]
    return ["/".join([*(each.get(key, "") for key in differing), each.get("run", "1")]) for each in held]
