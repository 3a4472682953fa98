"""Read RDMs and measurements from files: one function, and any number of readers behind it.

A reader is any object that follows this contract (there is no base class; ``brainrdl.testing.check_reader`` checks it):

- ``name``: a short word, unique among the installed readers;
- ``layout``: the layout on disk in one or a few lines, for the message when no reader recognises a file;
- ``sniff(path) -> bool``: whether the file (or folder) looks like this layout; it is quick, changes nothing, and runs
  no code from the file;
- ``read(path, **options)``: gives containers of rsatoolbox, the same each time, and leaves the file unchanged; options
  are keyword arguments, and nothing is ever unpickled. It gives either `RDMs`, or measurements: a `Dataset`, a
  `TemporalDataset` (times in seconds in the time descriptor ``"time"``), or a list of them, one per region. Names of
  conditions in the file are the pattern (for measurements: observation) descriptor ``"stimulus"``; if the file holds
  none, there is no such descriptor, and `read` adds it from ``names=``. Runs are the observation descriptor ``"run"``.
  Subject, roi and session are rdm descriptors (for measurements: descriptors of the whole object, as texts). Residuals
  of a first-level model, for noise normalisation, are the channel descriptor ``"residuals"`` (n_channels,
  n_timepoints), with their degrees of freedom in the descriptor ``"residual_dof"``.

A reader of folders may also have ``are_one(files) -> bool``: whether files of one folder are observations of one
measurement. If they are, ``read(folder, files="beta_*.nii")`` is called for a pattern ``"folder/beta_*.nii"``.

It is found if its distribution lists it in the entry-point group ``brainrdl.readers``, as ours does::

    [project.entry-points."brainrdl.readers"]
    myformat = "mypackage.myformat:READER"
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from brainrdl._core.errors import BrainrdlError, about, check_option, check_unique, quote, read_arg, refuse
from brainrdl._core.files import check_there
from brainrdl._core.packed import check_archive
from brainrdl._core.progress import track_slow
from brainrdl.rdms.by_name import names as names_of
from brainrdl.rdms.conversion import check
from brainrdl.rdms.naming import checked_names
from brainrdl.readers.condition_names import add_names, listed_names
from brainrdl.readers.options import checked, from_words
from brainrdl.readers.path_patterns import (
    Origin,
    described,
    files_of,
    folders_of,
    is_pattern,
    joined,
    origin_of,
    origins_of,
    several_runs,
)

if TYPE_CHECKING:
    from rsatoolbox.data.base import DatasetBase
    from rsatoolbox.rdm.rdms import RDMs
GROUP = "brainrdl.readers"
"""The entry-point group in which packages list their readers."""

_PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth", ".th", ".ckpt"})

_TORCH = frozenset({".pt", ".pth"})

_SHEET = "save its sheet as 'CSV UTF-8' (.csv) in the spreadsheet program and read that"

_REGIONS = f"it holds regions, not maps: read the maps, and give it as {read_arg('atlas')}"

# How to get a file that can be read from one that cannot, by suffix
_ADVICE = {
    ".xlsx": _SHEET,
    ".xls": _SHEET,
    ".ods": _SHEET,
    ".rds": "write it in R with write.csv(x, 'file.csv') and read that",
    ".rdata": "write it in R with write.csv(x, 'file.csv') and read that",
    ".head": "convert it with AFNI's 3dAFNItoNIFTI, which keeps the labels, and read the .nii",
    ".brik": "convert it with AFNI's 3dAFNItoNIFTI, which keeps the labels, and read the .nii",
    ".img": "convert it with FSL's fslchfiletype NIFTI_GZ and read the .nii.gz",
    ".hdr": "convert it with FSL's fslchfiletype NIFTI_GZ and read the .nii.gz",
    ".label": _REGIONS,
    ".annot": _REGIONS,
    ".zip": "unpack it and read the files in it",
    ".tar": "unpack it and read the files in it",
}

_PICKLE_START = re.compile(rb"\x80[\x02-\x05]")  # the PROTO opcode, with which every binary pickle since 2003 begins


@runtime_checkable
class Reader(Protocol):
    """Reads one layout of files; the docstring of the module lists the contract."""

    name: str
    layout: str

    def sniff(self, path: Path) -> bool:
        """Say whether the file looks like this layout."""

    def read(self, path: Path, **options: Any) -> RDMs | DatasetBase | list[DatasetBase]:
        """Read the file into rsatoolbox's RDMs or Dataset(s)."""


def read(
    path: str | Path,
    *,
    names: Sequence[str] | str | Path | None = None,
    by: str = "stimulus",
    reader: str | Reader | None = None,
    **options: Any,
) -> RDMs | DatasetBase | list[DatasetBase]:
    """Read RDMs or measurements from files, with the installed reader that recognises them.

    Parameters
    ----------
    path : str or Path
        The file; a folder, if a reader recognises it; or a pattern like ``"sub-*/betas.nii.gz"``, whose files are read
        one by one and joined. Their subject is what follows ``sub-`` in the path, else the part of the path that
        differs, if it looks like a subject (``subj01``), unless the files name their subject. Other words in which
        paths differ (``V1``, ``anna``) can be anything, and become the descriptor ``file``. ``ses-`` is the session;
        runs (``run-1``, ``run_1``) and hemispheres (``hemi-L``, ``lh``, ``.L.``) of one subject are joined into one
        Dataset. A pattern can also name its parts: ``"{subject}/RDM_{layer}.npz"``; other names than subject, session,
        run and hemi are descriptors. Of a single file, ``sub-``, ``ses-`` and ``run-`` in its own name count.
    names : sequence of str, str or Path, optional
        Names of the conditions in the order of the file, for a file that holds none: a list, a text file with one name
        per line, or a folder of stimuli (file names without suffix, sorted). Of measurements in several runs, the names
        of all runs, one run after the other, or a file for each: ``"names_run-{run}.txt"``.
    by : str
        The pattern descriptor (for measurements: observation descriptor) that names the conditions.
    reader : str or Reader, optional
        The reader to use, by name or as an object; by default the one that recognises the file.
    **options
        Options of the reader, for example ``variable="IT_RDMs"`` for a ``.mat`` file. For the files of a pattern,
        ``{subject}``, ``{session}``, ``{run}``, ``{hemi}`` and the names in the pattern in an option (and in `names`)
        mean what the path of each file says: ``mask="sub-{subject}/mask.nii.gz"``, ``table="{run}.tsv"``.

    Returns
    -------
    rsatoolbox.rdm.RDMs, rsatoolbox.data.Dataset, or list of Dataset
        The data in the files; RDMs were checked by `brainrdl.rdms.check`.

    Raises
    ------
    BrainrdlError
        If there is no such file, it is a pickle (which could run code), no reader or more than one recognises it, an
        option is unknown or of another type than the reader accepts, the file is damaged, the names do not fit, or the
        files of a pattern hold different kinds of data. The message names the file and the reader.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> file = Path(tempfile.mkdtemp()) / "rdm.npy"
    >>> np.save(file, np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]]))
    >>> names_of(read(file, names=["cat", "dog", "car"]))
    ('cat', 'dog', 'car')
    """
    if is_pattern(Path(path)):
        return _read_pattern(Path(path), names, by, reader, options)
    file = _existing(Path(path))
    data = _read(file, names, by, reader, options)
    return described(data, origin_of(file)) if file.is_file() else data


def _read(
    file: Path,
    names: Sequence[str] | str | Path | None,
    by: str,
    reader: str | Reader | None,
    options: dict[str, Any],
    named: bool = True,
) -> Any:
    chosen = _chosen(reader, file)
    with about(f"{_kind(file)} {str(file)!r} (reader {chosen.name!r})"), _refusing_damage():
        check_archive(file)
        data = chosen.read(file, **checked(chosen.read, chosen.name, options))
        if named:
            _name_all(data if isinstance(data, list) else [data], names, by)
    return data


@contextmanager
def _refusing_damage() -> Iterator[None]:
    """Refuse a file that a reader fails on: a damaged file can fail anywhere inside a format's library."""
    try:
        yield
    except BrainrdlError:
        raise
    except UnicodeDecodeError as error:
        raise BrainrdlError(f"it is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except Exception as error:  # a reader's own slip stays visible as the cause
        cause = f"{type(error).__name__}: {error}"
        raise BrainrdlError(f"it could not be read; is it cut off, damaged, or of another layout? {cause}") from error


def _read_pattern(
    pattern: Path,
    names: Sequence[str] | str | Path | None,
    by: str,
    reader: str | Reader | None,
    options: dict[str, Any],
) -> Any:
    """Read the files of a pattern one by one and join their data; ``{subject}`` in an option is that of each file."""
    from rsatoolbox.rdm.rdms import RDMs

    if _are_folders(pattern, reader, options):
        return read(pattern.parent, names=names, by=by, reader=reader, **options, files=pattern.name)
    origins = origins_of(_files(pattern), pattern)
    runs = several_runs(origins)
    if runs and "table" in options and _filled(options["table"], origins[0]) == options["table"]:
        refuse(
            f"{read_arg('table', str(options['table']))} is one table for the runs {quote(runs)}, which can differ in "
            f"their order; give one for each run, with {{run}} in its path"
        )
    later = bool(runs) and names is not None and _filled(names, origins[0]) == names
    found = [
        _read_one(origin, None if later else names, by, reader, options, named=not later)
        for origin in track_slow(origins, "files", len(origins))
    ]
    if later:
        _name_all([data for data in found if isinstance(data, RDMs)], names, by)
    data = joined(found, origins, str(pattern), by)
    if later and isinstance(data, list):
        with about(f"the files of {str(pattern)!r}"):
            _name_runs(data, names, by)
    return data


def _are_folders(pattern: Path, reader: str | Reader | None, options: Mapping[str, Any]) -> bool:
    """Say whether the files that match in each folder are one measurement, such as SPM's ``beta_*.nii``."""
    groups = folders_of(pattern) if "files" not in options else {}
    if not groups or min(map(len, groups.values())) < 2:
        return False
    chosen = _chosen(reader, _existing(next(iter(groups.values()))[0]))
    are_one = getattr(chosen, "are_one", None)
    return are_one is not None and all(are_one(files) for files in groups.values())


def _read_one(
    origin: Origin,
    names: Sequence[str] | str | Path | None,
    by: str,
    reader: str | Reader | None,
    options: Mapping[str, Any],
    named: bool,
) -> Any:
    filled = {key: _filled(value, origin) for key, value in options.items()}
    return _read(origin.file, _filled(names, origin), by, reader, filled, named)


def _filled(value: Any, origin: Origin) -> Any:
    """Replace names in braces in an option by what they mean for a file; those without a meaning stay."""
    if isinstance(value, str | Path):
        text = str(value)
        for word, meant in origin.fields.items():
            text = text.replace(f"{{{word}}}", meant)
        return type(value)(text)
    if isinstance(value, Mapping):
        return {key: _filled(each, origin) for key, each in value.items()}
    return [_filled(each, origin) for each in value] if isinstance(value, list | tuple) else value


def _name_all(parts: Sequence[Any], names: Sequence[str] | str | Path | None, by: str) -> None:
    for part in parts:
        _name_conditions(part, names, by)


def _name_runs(parts: Sequence[Any], names: Sequence[str] | str | Path | None, by: str) -> None:
    """Name the observations of all runs: one list for each run would assume that all have the same order."""
    for part in parts:
        runs = list(dict.fromkeys(part.obs_descriptors.get("run", [])))
        count = 0 if names is None else len(listed_names(names))
        if len(runs) > 1 and count != part.n_obs:
            refuse(
                f"{count} names were given for the {part.n_obs} observations of runs {quote(runs)}, and runs can "
                "differ in their order; give the names of all runs, one run after the other, or a file for each run: "
                f"{read_arg('names', 'names_run-{run}.txt')}"
            )
        _name_conditions(part, names, by)


def _files(path: Path) -> list[Path]:
    """Give the file or folder, or those that match a pattern; pickles are refused for all readers."""
    return [_existing(file) for file in (files_of(path) if is_pattern(path) else [path])]


def find_readers() -> dict[str, Reader]:
    """Load the readers that the installed distributions list in the entry-point group ``brainrdl.readers``.

    Returns
    -------
    dict of str to Reader
        By name, sorted. A reader that cannot be loaded is left out with a warning, so that the others can be used.

    Raises
    ------
    BrainrdlError
        If two readers have the same name, or a folder or file of the user's has the name of the package that holds
        readers, and so hides them.

    Examples
    --------
    >>> {"csv", "matlab", "nifti", "numpy", "rsatoolbox"} <= find_readers().keys()
    True
    """
    found = {point.value: _loaded(point) for point in _declared()}
    readers = sorted((reader for reader in found.values() if reader is not None), key=lambda reader: reader.name)
    check_unique([reader.name for reader in readers], f"the entry points {GROUP!r} ({', '.join(found)})")
    return {reader.name: reader for reader in readers}


def _declared() -> Iterable[Any]:
    """List the entry points of readers.

    A search reads a file of each installed distribution. It is repeated only if a folder of Python's path has changed.
    """
    return _search(tuple((place, _time_of_change(place)) for place in sys.path))


@lru_cache(maxsize=1)
def _search(_places: tuple[tuple[str, int], ...]) -> tuple[Any, ...]:
    return tuple(entry_points(group=GROUP))


def _time_of_change(place: str) -> int:
    try:
        return Path(place).stat().st_mtime_ns
    except OSError:
        return 0


def _loaded(point: Any) -> Reader | None:
    """Load one entry point; None and a warning if that fails or it is not a reader."""
    try:
        reader = point.load()
    except Exception as error:
        if isinstance(error, ModuleNotFoundError):
            _check_not_hidden(point.value.partition(":")[0])
        warnings.warn(f"reader {point.value!r} could not be loaded: {type(error).__name__}: {error}", stacklevel=4)
        return None
    if not isinstance(reader, Reader):
        warnings.warn(f"reader {point.value!r} lacks one of name, layout, sniff, read; it is left out", stacklevel=4)
        return None
    return reader


def _check_not_hidden(module: str) -> None:
    """Refuse to continue without readers that are installed but not found: Python uses another package of this name."""
    package, _, within = module.partition(".")
    specs = [spec for entry in sys.path if (spec := PathFinder.find_spec(package, [entry]))]
    if any(_holds(spec, within) for spec in specs[1:]) and not _holds(specs[0], within):
        place = specs[0].origin or package
        hiding = f"file {place!r}"
        if specs[0].submodule_search_locations is not None:
            hiding = f"folder {str(Path(place).parent)!r}"
        refuse(
            f"the {hiding} hides the installed package {package!r}, which holds readers of files; rename it, or start "
            "Python where it is not found"
        )


def _holds(spec: ModuleSpec, module: str) -> bool:
    """Say whether a package holds a module."""
    file = Path(*module.split(".")).with_suffix(".py")
    return any((Path(place) / file).is_file() for place in spec.submodule_search_locations or ())


def _kind(file: Path) -> str:
    return "folder" if file.is_dir() else "file"


def _existing(file: Path) -> Path:
    """Refuse a path that does not exist, and pickles for all readers."""
    if file.is_dir():
        return file
    check_there(file)
    with file.open("rb") as opened:
        start = opened.read(2)
    if start in (b"PK", b"") and file.suffix.lower() in _TORCH:
        return file  # its readers load tensors alone, without running code
    if file.suffix.lower() in _PICKLES or _PICKLE_START.match(start):
        refuse(
            f"file {str(file)!r} is a pickle, and loading one could run any code it holds; if you trust it, save "
            "its RDMs as .npz, .csv or rsatoolbox's HDF5"
        )
    return file


def reader_of(path: str | Path, reader: str | Reader | None = None) -> Reader:
    """Give the reader that `read` uses: the one asked for, or the only one that recognises the file.

    Parameters
    ----------
    path : str or Path
        A file or folder, or a pattern, whose first file decides.
    reader : str or Reader, optional
        As of `read`.

    Returns
    -------
    Reader

    Raises
    ------
    BrainrdlError
        If there is no such file, it is a pickle, the reader is unknown, or no reader or more than one recognises it.

    Examples
    --------
    >>> reader_of("no/such.mat")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: there is no file 'no/such.mat'; check the path
    """
    return _chosen(reader, _files(Path(path))[0])


def options_of(path: str | Path, words: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Make options of `read` from the words of a command line, by the annotations of the reader.

    Parameters
    ----------
    path : str or Path
        As of `read`.
    words : mapping of str to sequence of str
        Each option's words; several are a list, ``None`` is None, a mapping is given as ``key:value``.

    Returns
    -------
    dict
        Options for `read`.

    Raises
    ------
    BrainrdlError
        As `reader_of`; also if an option is unknown, or its words do not fit the type that the reader expects.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "ratings.csv"
    >>> _ = file.write_text("a,b,rating")
    >>> options_of(file, {"similarity": ["7"], "delimiter": [";"]})
    {'similarity': 7.0, 'delimiter': ';'}
    """
    if not words:
        return {}
    own = {key: given[-1] for key, given in words.items() if key in ("reader", "by")}
    chosen = reader_of(path, own.get("reader"))
    return own | from_words(chosen.read, chosen.name, {key: words[key] for key in words if key not in own})


def _chosen(reader: str | Reader | None, file: Path) -> Reader:
    if isinstance(reader, Reader):
        return reader
    readers = find_readers()
    if reader is not None:
        return readers[check_option(reader, readers, "reader")]
    takers = [candidate for candidate in readers.values() if _takes(candidate, file)]
    if not takers:
        advice = _ADVICE.get(file.suffix.lower()) or _layouts(file, readers)
        refuse(f"no reader recognises {_kind(file)} {str(file)!r}; {advice}")
    if len(takers) > 1:
        takers_named = quote(taker.name for taker in takers)
        refuse(
            f"readers {takers_named} all recognise {_kind(file)} {str(file)!r}; choose one with {read_arg('reader')}"
        )
    return takers[0]


def _layouts(file: Path, readers: Mapping[str, Reader]) -> str:
    """List the layouts that name the file's suffix, else the readers."""
    suffix = re.compile(rf"{re.escape(file.suffix)}\b", re.IGNORECASE)
    near = {name: reader for name, reader in readers.items() if file.suffix and suffix.search(reader.layout)}
    if not near:
        return (
            f"there are readers {', '.join(readers)}; choose one with {read_arg('reader')} (the text .layout of each "
            "reader in brainrdl.readers.find_readers() describes its files)"
        )
    layouts = "".join(f"\n  {name}: {reader.layout}" for name, reader in near.items())
    return f"those for {file.suffix} read:{layouts}\nChoose one with {read_arg('reader')}"


def _takes(reader: Reader, file: Path) -> bool:
    """Ask a reader whether it recognises the file; one that fails does not."""
    try:
        return reader.sniff(file)
    except Exception as error:
        warnings.warn(
            f"reader {reader.name!r} failed to look at {str(file)!r}: {type(error).__name__}: {error}", stacklevel=4
        )
        return False


def _name_conditions(data: Any, names: Sequence[str] | str | Path | None, by: str) -> None:
    """Check what a reader gave, and name its conditions if the file does not."""
    from rsatoolbox.data.base import DatasetBase
    from rsatoolbox.rdm.rdms import RDMs

    if isinstance(data, RDMs):
        check(data, "the file")
        add_names(data.pattern_descriptors, data.n_cond, names, by)
        if by in data.pattern_descriptors:
            names_of(data, by)
        checked_names(data.rdm_descriptors.get("subject", []), "the subjects")
    elif isinstance(data, DatasetBase):
        add_names(data.obs_descriptors, data.n_obs, names, by)
        checked_names(data.obs_descriptors.get(by, []), "the conditions")
    else:
        refuse(f"the reader gave {type(data).__name__}, it must give rsatoolbox's RDMs, a Dataset, or a list of those")
