"""Read RDMs and measurements from files: one function, and any number of readers behind it.

A reader is any object that keeps this contract (no base class; ``brainrdl.testing.check_reader`` runs through it):

- ``name``: a short word, unique among the readers installed;
- ``layout``: the layout on disk in a line or a few, for the message when no reader takes a file;
- ``sniff(path) -> bool``: whether the file (or folder) looks like this layout; quick, changes nothing, runs no code
  from the file;
- ``read(path, **options)``: rsatoolbox's containers, the same each time, the file unchanged; options are keyword
  arguments, and nothing is ever unpickled. Either `RDMs`, or measurements: a `Dataset`, a `TemporalDataset` (times in
  seconds in the time descriptor ``"time"``), or a list of them, one a region. Conditions that the file names stand in
  the pattern (of measurements: observation) descriptor ``"stimulus"``; where the file names none there is no such
  descriptor, and `read` adds it from ``names=``. Runs stand in the observation descriptor ``"run"``. Subject, roi and
  session are rdm descriptors (of measurements: descriptors of the whole object, texts). Residuals of a first-level
  model, for noise normalisation, are the descriptor ``"residuals"`` (n_timepoints, n_channels) with their degrees of
  freedom in ``"residual_dof"``.

It is found when its distribution lists it in the entry-point group ``brainrdl.readers``, as ours are::

    [project.entry-points."brainrdl.readers"]
    myformat = "mypackage.myformat:READER"
"""

from __future__ import annotations

import inspect
import itertools
import re
import warnings
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from brainrdl._checks import BrainrdlError, check_option, check_unique, quote, refuse
from brainrdl.rdms import check, concat
from brainrdl.rdms import names as names_of

if TYPE_CHECKING:
    from rsatoolbox.data.base import DatasetBase
    from rsatoolbox.rdm.rdms import RDMs

GROUP = "brainrdl.readers"
_PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth", ".th", ".ckpt"})
_PICKLE_START = re.compile(rb"\x80[\x02-\x05]")  # the PROTO opcode, with which every binary pickle since 2003 begins


@runtime_checkable
class Reader(Protocol):
    """Reads one layout of files; the module's docstring lists the contract."""

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
    """Read RDMs or measurements from files, with whichever installed reader takes them.

    Parameters
    ----------
    path : str or Path
        The file; a folder, if a reader takes one; or a pattern like ``"sub-*/betas.nii.gz"``, whose files are read one
        by one and joined, each a subject (named by ``sub-...`` in its path, else by the part of the path that differs)
        unless the files say so themselves.
    names : sequence of str, str or Path, optional
        Names of the conditions in the order of the file, for a file that holds none: a list, a text file with one name
        a line, or a folder of stimuli (file names without suffix, sorted).
    by : str
        The pattern descriptor (of measurements: observation descriptor) that names the conditions.
    reader : str or Reader, optional
        The reader to use, by name or as an object; by default the one that takes the file.
    **options
        Options of the reader, for example ``variable="IT_RDMs"`` for a ``.mat`` file.

    Returns
    -------
    rsatoolbox.rdm.RDMs, rsatoolbox.data.Dataset, or list of Dataset
        As the files hold; RDMs have been through `brainrdl.rdms.check`.

    Raises
    ------
    BrainrdlError
        If there is no such file, it is a pickle (which could run code), no reader or more than one takes it, an option
        is unknown, the file is damaged, the names do not fit, or a pattern's files hold different things. The message
        names the file and the reader.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> file = Path(tempfile.mkdtemp()) / "rdm.npy"
    >>> np.save(file, np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]]))
    >>> names_of(read(file, names=["cat", "dog", "car"]))
    ('cat', 'dog', 'car')
    """
    files = _files(Path(path))
    found = [_read(file, names, by, reader, options) for file in files]
    return found[0] if files == [Path(path)] else _joined(found, files, str(path), by)


def _read(
    file: Path,
    names: Sequence[str] | str | Path | None,
    by: str,
    reader: str | Reader | None,
    options: dict[str, Any],
) -> Any:
    chosen = _chosen(reader, file)
    where = f"{_kind(file)} {str(file)!r} (reader {chosen.name!r})"
    try:
        _check_options(chosen, options)
        data = chosen.read(file, **options)
        for part in data if isinstance(data, list) else [data]:
            _name_conditions(part, names, by, where)
    except BrainrdlError as error:
        message = str(error)
        raise BrainrdlError(message if where in message else f"{where}: {message}") from error
    # A damaged file can fail anywhere inside a format's library; a reader's own slip stays visible as the cause.
    except Exception as error:
        raise BrainrdlError(
            f"{where} could not be read, is it cut off, damaged, or of another layout? {type(error).__name__}: {error}"
        ) from error
    return data


def _files(path: Path) -> list[Path]:
    """Give the file or folder, or those that a pattern stands for, pickles refused whoever would take them."""
    if path.exists() or not set("*?[") & set(str(path)):
        return [_existing(path)]
    start = Path(*itertools.takewhile(lambda part: not set("*?[") & set(part), path.parts))
    files = sorted(start.glob(str(path.relative_to(start))))
    if not files:
        refuse(f"no file fits the pattern {str(path)!r}")
    return [_existing(file) for file in files]


def _joined(found: Sequence[Any], files: Sequence[Path], pattern: str, by: str) -> Any:
    """Join what the files of a pattern hold: RDMs by name, measurements into one list; each file is a subject."""
    from rsatoolbox.rdm.rdms import RDMs

    for data, subject in zip(found, _subjects(files), strict=True):
        for part in data if isinstance(data, list) else [data]:
            if isinstance(part, RDMs):
                part.rdm_descriptors.setdefault("subject", [subject] * part.n_rdm)
            else:
                part.descriptors.setdefault("subject", subject)
    kinds = {isinstance(data, RDMs) for data in found}
    if kinds == {True, False}:
        refuse(f"of the files of {pattern!r}, some hold RDMs and some measurements; give them apart")
    if kinds == {False}:
        return [part for data in found for part in (data if isinstance(data, list) else [data])]
    if len(found) > 1 and not all(by in rdms.pattern_descriptors for rdms in found):
        refuse(f"the files of {pattern!r} hold no names of conditions, so they cannot be joined; give names=")
    return found[0] if len(found) == 1 else concat(found, by)


def _subjects(files: Sequence[Path]) -> list[str]:
    """Name the subject of each file: ``sub-01`` in its path, else the parts of the path in which the files differ."""
    entities = [re.search(r"sub-([A-Za-z0-9]+)", str(file)) for file in files]
    if all(entities) and len({entity[1] for entity in entities if entity}) == len(files):
        return [entity[1] for entity in entities if entity]
    parts = [(*file.parts[:-1], file.name.split(".")[0]) for file in files]
    if len({len(each) for each in parts}) > 1:
        return [str(file) for file in files]
    differing = [place for place, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    return ["/".join(each[place] for place in differing) or each[-1] for each in parts]


def find_readers() -> dict[str, Reader]:
    """Load the readers that the installed distributions list in the entry-point group ``brainrdl.readers``.

    Returns
    -------
    dict of str to Reader
        By name, sorted. A reader that cannot be loaded is left out with a warning; it must not cost the others.

    Examples
    --------
    >>> {"csv", "matlab", "nifti", "numpy", "rsatoolbox"} <= find_readers().keys()
    True
    """
    found = {point.value: _loaded(point) for point in entry_points(group=GROUP)}
    readers = sorted((reader for reader in found.values() if reader is not None), key=lambda reader: reader.name)
    check_unique([reader.name for reader in readers], f"the entry points {GROUP!r} ({', '.join(found)})")
    return {reader.name: reader for reader in readers}


def _loaded(point: Any) -> Reader | None:
    """Load one entry point; None and a warning if that fails or it is no reader."""
    try:
        reader = point.load()
    except Exception as error:
        warnings.warn(f"reader {point.value!r} could not be loaded: {type(error).__name__}: {error}", stacklevel=4)
        return None
    if not isinstance(reader, Reader):
        warnings.warn(f"reader {point.value!r} lacks one of name, layout, sniff, read, and is left out", stacklevel=4)
        return None
    return reader


def _kind(file: Path) -> str:
    return "folder" if file.is_dir() else "file"


def _existing(file: Path) -> Path:
    """Refuse a path that does not exist, and pickles whoever would take them."""
    if file.is_dir():
        return file
    if not file.is_file():
        refuse(f"there is no file {str(file)!r}")
    with file.open("rb") as opened:
        start = opened.read(2)
    if file.suffix.lower() in _PICKLES or _PICKLE_START.match(start):
        refuse(
            f"file {str(file)!r} is a pickle, and loading one could run any code it holds; where you trust it, save "
            "its RDMs as .npz, .csv or rsatoolbox's HDF5"
        )
    return file


def reader_of(path: str | Path, reader: str | Reader | None = None) -> Reader:
    """Give the reader that `read` uses: the one asked for, or the only one that takes the file.

    Parameters
    ----------
    path : str or Path
        A file or folder, or a pattern, of which the first file counts.
    reader : str or Reader, optional
        As of `read`.

    Returns
    -------
    Reader

    Raises
    ------
    BrainrdlError
        If there is no such file, it is a pickle, the reader is unknown, or no reader or more than one takes it.

    Examples
    --------
    >>> reader_of("no/such.mat")
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: there is no file 'no/such.mat'
    """
    return _chosen(reader, _files(Path(path))[0])


def _chosen(reader: str | Reader | None, file: Path) -> Reader:
    if isinstance(reader, Reader):
        return reader
    readers = find_readers()
    if reader is not None:
        return readers[check_option(reader, readers, "reader")]
    takers = [candidate for candidate in readers.values() if _takes(candidate, file)]
    if not takers:
        layouts = "".join(f"\n  {candidate.name}: {candidate.layout}" for candidate in readers.values())
        refuse(f"no reader takes {_kind(file)} {str(file)!r}; the readers are:{layouts}")
    if len(takers) > 1:
        takers_named = quote(taker.name for taker in takers)
        refuse(f"readers {takers_named} take {_kind(file)} {str(file)!r}; choose one with reader=")
    return takers[0]


def _takes(reader: Reader, file: Path) -> bool:
    """Ask a reader; one that fails at it does not take the file."""
    try:
        return reader.sniff(file)
    except Exception as error:
        warnings.warn(
            f"reader {reader.name!r} failed to look at {str(file)!r}: {type(error).__name__}: {error}", stacklevel=4
        )
        return False


def _check_options(reader: Reader, options: Iterable[str]) -> None:
    """Refuse an option that the reader's ``read`` has no keyword argument for."""
    parameters = list(inspect.signature(reader.read).parameters.values())[1:]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        known = [parameter.name for parameter in parameters]
        for option in options:
            check_option(option, known, f"option of reader {reader.name!r}")


def _name_conditions(data: Any, names: Sequence[str] | str | Path | None, by: str, where: str) -> None:
    """Check what a reader gave, and name its conditions where the file does not."""
    from rsatoolbox.data.base import DatasetBase
    from rsatoolbox.rdm.rdms import RDMs

    if isinstance(data, RDMs):
        check(data, where)
        _add_names(data.pattern_descriptors, data.n_cond, names, by)
        if by in data.pattern_descriptors:
            names_of(data, by)
    elif isinstance(data, DatasetBase):
        _add_names(data.obs_descriptors, data.n_obs, names, by)
    else:
        refuse(f"the reader gave {type(data).__name__}, it must give rsatoolbox's RDMs, a Dataset, or a list of those")


def _add_names(descriptors: dict[str, Any], count: int, names: Sequence[str] | str | Path | None, by: str) -> None:
    """Store `names` as descriptor `by`, unless the file itself has other names there."""
    if names is None:
        return
    listed = _listed(names)
    if len(listed) != count:
        refuse(f"{len(listed)} names were given ({quote(listed)}) for {count} conditions")
    held = [str(name) for name in descriptors.get(by, listed)]
    if held != listed:
        refuse(
            f"the file names its conditions itself ({by!r}: {quote(held)}), names= must not rename them; leave it out, "
            "or store other names under another descriptor with by="
        )
    descriptors[by] = listed


def _listed(names: Sequence[str] | str | Path) -> list[str]:
    """Give the names in a list, in a text file's lines, or of the files in a folder."""
    if not isinstance(names, (str, Path)):
        return [str(name) for name in names]
    place = Path(names)
    if place.is_dir():
        return _stems(place)
    if not place.is_file():
        refuse(f"names= is {str(names)!r}, which is neither a text file, nor a folder, nor a list of names")
    try:
        lines = place.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        refuse(f"names file {str(names)!r} is not UTF-8 text; save it as UTF-8")
    return [line.strip() for line in lines if line.strip()]


def _stems(folder: Path) -> list[str]:
    """Name the files of a folder in sorted order, if people and computers sort them alike."""
    stems = sorted(file.stem for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    counted = sorted(stems, key=number_key)
    for stem, other in zip(stems, counted, strict=True):
        if stem != other:
            refuse(
                f"the order of the files in {str(folder)!r} is unclear: {stem!r} sorts before {other!r} as text and "
                "after it as a number; give names= as a list in the order of the RDM"
            )
    return stems


def number_key(stem: str) -> list[tuple[int, int, str]]:
    """Key that sorts names as people count: the numbers in them as numbers.

    Examples
    --------
    >>> sorted(["image10", "image9"], key=number_key)
    ['image9', 'image10']
    """
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", stem)]
