"""Write files completely or not at all, with checksums that are compared when they are read.

JSON and safetensors files contain the SHA-256 of their content. The SHA-256 of other files (tables, RDMs) is stored in
such a file, which is written after them: `digests_of` and `check_digests`. Therefore no result whose bits have changed
on the disk is used: it is refused by name.

Torch, pandas and HDF5 are imported inside the functions that need them: a recipe is checked and written without them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from safetensors import SafetensorError, safe_open

from brainrdl._core.errors import nearest, refuse

if TYPE_CHECKING:
    import h5py
    import numpy.typing as npt
    import pandas as pd
    from rsatoolbox.rdm import RDMs
    from torch import Tensor


_CHECKSUM, _FACTS = "sha256", "brainrdl"  # keys in JSON files, and in the header of safetensors files

_LONGEST, _KEPT = 160, 100  # bytes of a file name; systems allow 255, with endings

_CHANGED = "has changed since it was written, or its writing was interrupted (its checksum differs)"


def check_there(file: Path) -> None:
    """Refuse a path that is not a file; the message says which file of its folder has the nearest name.

    Raises
    ------
    BrainrdlError
        If there is no such file, or it is a link to one that was not downloaded.
    """
    if not file.is_file():
        lost = f"{str(file)!r} is a link to a file that was not downloaded; fetch it first (git annex get, datalad get)"
        missing = f"there is no file {str(file)!r}{nearest_in_folder(file)}; check the path"
        refuse(lost if file.is_symlink() else missing)


@contextmanager
def atomic(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path`, and move it to `path` if the block succeeds; otherwise delete it.

    Parameters
    ----------
    path : Path
        File to write.
    durable : bool
        Wait until the file is on the disk, so that it also survives a power failure. False is for files that are
        computed again if they are damaged.

    Raises
    ------
    BrainrdlError
        If the file cannot be written, for example without permission or space.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
    >>> with atomic(target) as part:
    ...     _ = part.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    path = Path(path)
    part = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch(exist_ok=False)
        mode = part.stat().st_mode  # some writers replace the file by one that only its owner can read
        yield part
        part.chmod(mode)
        if durable:
            _sync(part, os.O_RDWR)
        part.replace(path)
        if durable:
            with suppress(OSError):  # not all systems can do this for a folder
                _sync(path.parent, os.O_RDONLY)
    except (OSError, SafetensorError) as error:
        refuse(f"cannot write {str(path)!r}: {reason(error)}")
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _sync(path: Path, flags: int) -> None:
    opened = os.open(path, flags)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def slug(*words: str) -> str:
    """Join words to a name for a file or folder: characters other than letters, digits and ``_.-`` become ``_``.

    A long name is cut, and gets a part of its SHA-256 so that names stay different.

    Examples
    --------
    >>> slug("layer 4/conv", "", "seed0")
    'layer_4_conv-seed0'
    >>> len(slug("x" * 999))
    113
    """
    words = tuple("".join(c if c.isalnum() or c in "_.-" else "_" for c in word) for word in words if word)
    whole = "-".join(words)
    if len(whole.encode()) <= _LONGEST:
        return whole
    return f"{whole.encode()[:_KEPT].decode('utf-8', 'ignore')}-{hash_words([whole])[:12]}"


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` and its checksum as JSON, atomically; values of other types are written as text.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.json"
    >>> write_json(target, {"lr": 0.1})
    >>> read_json(target)
    {'lr': 0.1}
    """
    plain = json.loads(json.dumps(content, default=str))
    with atomic(path) as part:
        part.write_text(json.dumps(plain | {_CHECKSUM: _digest_json(plain)}, indent=2) + "\n", encoding="utf-8")


def _digest_json(content: Mapping[str, Any]) -> str:
    return hash_words([json.dumps(content, sort_keys=True)])


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that was written by `write_json`.

    Raises
    ------
    BrainrdlError
        If the file is missing, is not JSON, does not contain an object, or has changed since it was written.

    Examples
    --------
    >>> import pathlib
    >>> read_json(pathlib.Path("no/settings.json"))
    Traceback (most recent call last):
    brainrdl.BrainrdlError: cannot read 'no/settings.json': No such file or directory
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        refuse(f"cannot read {str(path)!r}: {error.strerror}")
    except (ValueError, RecursionError) as error:
        refuse(f"{str(path)!r} is not JSON: {error}")
    if not isinstance(content, dict):
        refuse(f"{str(path)!r} should hold a JSON object, got {type(content).__name__}")
    if content.pop(_CHECKSUM, None) != _digest_json(content):
        refuse(f"{str(path)!r} {_CHANGED}; restore it from a copy, or start another run")
    return content


def write_csv(path: Path, table: pd.DataFrame, sep: str = ",") -> None:
    r"""Write `table` as CSV (or with another separator) without its index, atomically.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import pandas as pd
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
    >>> write_csv(target, pd.DataFrame({"step": [0]}))
    >>> target.read_text()
    'step\n0\n'
    """
    text = table.to_csv(index=False, sep=sep, lineterminator="\n")
    if "\r" in text:  # which would end a row unless the name that contains it is quoted
        text = table.to_csv(index=False, sep=sep, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    with atomic(path) as part:
        part.write_bytes(text.encode())


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """Read a table.

    Parameters
    ----------
    path : Path
        CSV file.
    **options
        Options of `pandas.read_csv`.

    Raises
    ------
    BrainrdlError
        If the file is missing or is not a table.

    Examples
    --------
    >>> import pathlib
    >>> read_csv(pathlib.Path("no/history.csv"))
    Traceback (most recent call last):
    brainrdl.BrainrdlError: cannot read 'no/history.csv': No such file or directory
    """
    import pandas as pd

    try:
        return pd.read_csv(path, **options)
    except Exception as error:  # pandas has many ways to fail on a damaged table
        refuse(f"cannot read {str(path)!r}: {reason(error)}")


def write_rdms(path: Path, rdms: RDMs) -> None:
    """Write RDMs as rsatoolbox HDF5 for `rsatoolbox.rdm.load_rdm`, atomically; names may be in any script.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from brainrdl import rdms
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "rdms.h5"
    >>> write_rdms(target, rdms.from_array([1.0, 2.0, 3.0], ["a", "b", "c"]))
    >>> read_rdms(target).n_cond
    3
    """
    import h5py
    from rsatoolbox.io.hdf5 import write_dict_hdf5

    content = {key: _in_unicode(part) if isinstance(part, dict) else part for key, part in rdms.to_dict().items()}
    whole = io.BytesIO()  # HDF5 can crash the process if the disk becomes full while it writes
    with h5py.File(whole, "w", libver="latest") as file:  # older versions limit an attribute to about 4000 names
        write_dict_hdf5(file.id, content)
    with atomic(path) as part:
        part.write_bytes(whole.getvalue())


def write_rdm_in_parts(
    path: Path, described: Mapping[str, Any], n_pairs: int, parts: Iterable[npt.NDArray[Any]]
) -> int:
    """Write one RDM as `write_rdms` does, in single precision, part after part, so that it need not fit in memory.

    Parameters
    ----------
    path : Path
    described : mapping
        What ``RDMs.to_dict`` gives, without the dissimilarities.
    n_pairs : int
        Number of pairs.
    parts : iterable of ndarray
        The pairs, in order.

    Returns
    -------
    int
        Number of bytes in the file before the first pair.

    Raises
    ------
    BrainrdlError
        If the disk has no room, or the file cannot be written.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> described = {"descriptors": {}, "rdm_descriptors": {"index": [0]}, "dissimilarity_measure": "euclidean"}
    >>> described["pattern_descriptors"] = {"stimulus": ["a", "b", "c"]}
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "rdm.h5"
    >>> offset = write_rdm_in_parts(target, described, 3, [np.array([1, 2], "f4"), np.array([3], "f4")])
    >>> read_rdms(target).get_vectors()
    array([[1., 2., 3.]], dtype=float32)
    """
    import h5py
    from rsatoolbox.io.hdf5 import write_dict_hdf5

    content = {key: _in_unicode(part) if isinstance(part, dict) else part for key, part in described.items()}
    with atomic(path) as part:
        with h5py.File(part, "w", libver="latest") as file:
            write_dict_hdf5(file.id, content)
            offset = _reserved(file, (1, n_pairs))
        # not by HDF5, which can crash the process if the disk becomes full while it writes
        with part.open("r+b") as opened:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(opened.fileno(), offset, 4 * n_pairs)
            opened.seek(offset)
            for each in parts:
                opened.write(each.astype("<f4", copy=False).data)
    return offset


def _reserved(file: h5py.File, shape: tuple[int, int]) -> int:
    """Reserve room for the dissimilarities in one piece, and return where it begins."""
    from h5py import h5d, h5p, h5s, h5t

    how = h5p.create(h5p.DATASET_CREATE)
    how.set_layout(h5d.CONTIGUOUS)
    how.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5d.FILL_TIME_NEVER)
    made = h5d.create(file.id, b"dissimilarities", h5t.IEEE_F32LE, h5s.create_simple(shape), how)
    return int(made.get_offset())


def _in_unicode(descriptors: Mapping[str, Any]) -> dict[str, Any]:
    """Convert names that are not ASCII to tuples, because rsatoolbox converts lists to bytes but not tuples."""
    return {
        key: tuple(map(str, values))
        if not isinstance(values, str) and not "".join(map(str, values)).isascii()
        else values
        for key, values in descriptors.items()
    }


def read_rdms(path: Path) -> RDMs:
    """Read RDMs from a file written by `write_rdms`.

    Raises
    ------
    BrainrdlError
        If the file is missing or damaged.

    Examples
    --------
    >>> read_rdms("no/such.h5")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: there is no file 'no/such.h5'
    """
    from rsatoolbox.rdm.rdms import load_rdm

    if not Path(path).is_file():
        refuse(f"there is no file {str(path)!r}")
    try:
        return load_rdm(str(path), file_type="hdf5")
    except Exception as error:  # a damaged file can fail anywhere in HDF5 or rsatoolbox
        refuse(f"cannot read {str(path)!r} as RDMs: {error}")


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, shapes, types and bytes of tensors, independent of their order.

    Examples
    --------
    >>> import torch
    >>> digest({"a": torch.zeros(2)}) == digest({"a": torch.zeros(2)})
    True
    """
    return hash_words(f"{name} {digest_tensor(tensors[name])}" for name in sorted(tensors))


def digest_tensor(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's type, shape and bytes: 2 x 8 and 4 x 4 pixels can have equal bytes.

    Examples
    --------
    >>> import torch
    >>> digest_tensor(torch.zeros(2, 3)) == digest_tensor(torch.zeros(3, 2))
    False
    """
    import torch

    if tensor.layout is not torch.strided:
        entries = tensor.detach().to_sparse_coo().coalesce()
        parts = map(digest_tensor, (entries.indices(), entries.values()))
        return hash_words([str(tensor.layout), str(tuple(tensor.shape)), *parts])
    array = tensor.detach().cpu().contiguous()
    total = hashlib.sha256(f"{array.dtype} {tuple(array.shape)}".encode())
    # A uint8 view, because NumPy has no bfloat16.
    total.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises
    ------
    BrainrdlError
        If it cannot be read.

    Examples
    --------
    >>> digest_file("no/such.csv")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: cannot read 'no/such.csv': No such file or directory
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        refuse(f"cannot read {str(path)!r}: {reason(error)}")


def hash_words(words: Iterable[str]) -> str:
    """Return the SHA-256 of words in order.

    Examples
    --------
    >>> hash_words(["a"])[:8]
    '87428fc5'
    """
    return hashlib.sha256("\n".join([*words, ""]).encode()).hexdigest()


def nearest_in_folder(path: Path) -> str:
    """Say which names in the folder of `path` look most like its name, as `nearest` does.

    Examples
    --------
    >>> nearest_in_folder(Path("no/such.h5"))
    ''
    """
    folder = path.parent
    return nearest(path.name, sorted(other.name for other in folder.iterdir())) if folder.is_dir() else ""


def digests_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files in a folder, by name, to be stored with them.

    Raises
    ------
    BrainrdlError
        If a file cannot be read.

    Examples
    --------
    >>> digests_of(Path("no/such/folder"), [])
    {}
    """
    return {name: digest_file(Path(folder) / name) for name in names}


def check_digests(folder: Path, digests: Mapping[str, str], advice: str) -> None:
    """Refuse files of a folder whose SHA-256 is not the stored one.

    Parameters
    ----------
    folder : Path
    digests : mapping of name to SHA-256
        As returned by `digests_of` when the files were written.
    advice : str
        What to do about a file that has changed.

    Raises
    ------
    BrainrdlError
        If a file is missing or has changed.

    Examples
    --------
    >>> check_digests(Path("no/such/folder"), {}, "write it again")
    """
    for name, digest in digests.items():
        if digest_file(Path(folder) / name) != digest:
            refuse(f"{str(Path(folder) / name)!r} {_CHANGED}; {advice}")


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], durable: bool = True
) -> None:
    """Write tensors, facts and their checksum as safetensors, atomically.

    Parameters
    ----------
    path : Path
        File to write.
    tensors : mapping of str to Tensor
    facts : mapping
        Stored as JSON in the header of the file.
    durable : bool
        As in `atomic`.

    Examples
    --------
    >>> import tempfile, torch
    >>> target = Path(tempfile.mkdtemp()) / "a.safetensors"
    >>> write_safetensors(target, {"a": torch.zeros(2)}, {"step": 3})
    >>> read_safetensors(target)
    ({'a': tensor([0., 0.])}, {'step': 3})
    """
    from safetensors.torch import save_file

    kept, text = _owned(tensors), json.dumps(facts, default=str)
    with atomic(path, durable) as part:
        save_file(kept, part, metadata={_FACTS: text, _CHECKSUM: _digest_safetensors(kept, text)})


def _digest_safetensors(tensors: Mapping[str, Tensor], facts: str) -> str:
    return hash_words([digest(tensors), facts])


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and facts of a file written by `write_safetensors`; a file of another program has no facts.

    Raises
    ------
    BrainrdlError
        If the file is missing, is not safetensors, or has changed since it was written.

    Examples
    --------
    >>> read_safetensors(Path("no/such.safetensors"))
    Traceback (most recent call last):
    brainrdl.BrainrdlError: there is no file 'no/such.safetensors'
    """
    if not Path(path).is_file():
        refuse(f"there is no file {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors, header = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        refuse(
            f"{str(path)!r} is truncated, damaged or not safetensors ({error}); pickled files are refused, because "
            "loading them can run code. Delete it to start again"
        )
    if _FACTS not in header and _CHECKSUM not in header:
        return tensors, {}
    if header.get(_CHECKSUM) != _digest_safetensors(tensors, header.get(_FACTS, "")):
        refuse(f"{str(path)!r} {_CHANGED}; restore it from a copy, or delete it to start again")
    return tensors, json.loads(header[_FACTS])


def _owned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory (tied weights): each gets its own copy.
    return {key: value.detach().clone().contiguous() for key, value in tensors.items()}
