"""Image files of a folder, or of its subfolders (one per category), listed without opening them.

A folder of a million files needs seconds: for each file, only its name is kept.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from brainrdl._core.errors import quote, refuse


@dataclass(frozen=True)
class FilePaths(Sequence[Path]):
    """Paths of the files of a folder, each made when it is requested.

    Parameters
    ----------
    folder : Path
    stems : sequence of str
        Path of each file below the folder, without suffix, with ``/`` between folders.
    suffixes : sequence of str
        All suffixes.
    kinds : sequence of int
        Position of the suffix of each file in `suffixes`.

    Examples
    --------
    >>> FilePaths(Path("images"), ("cat/1", "dog"), (".png", ".jpg"), (0, 1))[1].name
    'dog.jpg'
    """

    folder: Path
    stems: Sequence[str]
    suffixes: Sequence[str]
    kinds: Sequence[int]

    def __len__(self) -> int:
        return len(self.stems)

    @overload
    def __getitem__(self, position: int) -> Path: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Path]: ...
    def __getitem__(self, position: int | slice) -> Path | Sequence[Path]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        return self.folder / (self.stems[position] + self.suffixes[self.kinds[position]])


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, in alphabetical order.

    Attributes
    ----------
    paths : FilePaths
    classes : tuple of str, or None
        Names of the subfolders, if the images are in subfolders.
    numbers : sequence of int
        Position in `classes` of the subfolder of each file.
    """

    paths: FilePaths
    classes: tuple[str, ...] | None
    numbers: Sequence[int]


def list_images(folder: Path, table: Path | None, where: str) -> Listing:
    """List the files of a folder, or of all its subfolders if it contains subfolders.

    Parameters
    ----------
    folder : Path
    table : Path or None
        File in the folder that is not an image.
    where : str
        Description for messages.

    Raises
    ------
    BrainrdlError
        If there are no files, or both files and folders, or folders in subfolders, or an entry is neither.
    """
    files, folders = _entries(folder, table, where)
    if folders and files:
        refuse(
            f"{where} contains folders {quote(folders)} and files {quote(files)}; put all images in one folder, or "
            "each in the folder of its category"
        )
    stems: list[str] = []
    suffixes: dict[str, int] = {}
    kinds, numbers = array("I"), array("I")
    for number, (prefix, names) in enumerate(_parts(folder, folders, files, where)):
        for name in names:
            _, dot, ending = name.rpartition(".")
            suffix = dot + ending if dot else ""
            stems.append(prefix + name.removesuffix(suffix))
            kinds.append(suffixes.setdefault(suffix, len(suffixes)))
        numbers.extend([number] * len(names))
    if not stems:
        refuse(f"{where} contains no images")
    return Listing(FilePaths(folder, tuple(stems), tuple(suffixes), kinds), tuple(folders) or None, numbers)


def _parts(folder: Path, folders: Sequence[str], files: list[str], where: str) -> Iterator[tuple[str, list[str]]]:
    if not folders:
        yield "", files
    for name in folders:
        inside, deeper = _entries(folder / name, None, where)
        if deeper:
            refuse(f"{where} contains folders {quote(f'{name}/{other}' for other in deeper)}; only one level is read")
        if not inside:
            refuse(f"folder {name!r} in {where} contains no images; remove it, so that it is not counted as a category")
        yield f"{name}/", inside


def _entries(folder: Path, table: Path | None, where: str) -> tuple[list[str], list[str]]:
    """Return the sorted names of the visible files and folders in a folder."""
    files, folders, others = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            target = Path(entry.path) if entry.is_symlink() else entry  # of a broken link, an entry raises errors
            if target.is_dir():
                folders.append(entry.name)
            elif target.is_file():
                files.append(entry.name)
            else:
                others.append(entry.name)
    if others:
        refuse(
            f"{quote(sorted(others))} in {where} are not files but pipes, devices or broken links; move them elsewhere"
        )
    if table is not None:
        files = [name for name in files if (folder / name).resolve() != table]
    return sorted(files), sorted(folders)
