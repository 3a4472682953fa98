"""Damage files and values at random, and count what each front door does with them; prints a Markdown table.

``python tests/hostile/hostile_inputs.py --n 300`` tries 300 damaged inputs at each door (seeded). An outcome is

- read: the door gave a result; where the format's own library reads the file too, both give the same values;
- refused: it raised a `BrainrdlError`;
- wrong: it raised another error, gave other values than the format's own library, or took more than 10 s of
  processor time or 1 GB.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import torch
import xarray
from PIL import Image
from rsatoolbox.data import Dataset
from rsatoolbox.rdm.rdms import load_rdm
from scipy.io import loadmat, savemat
from scipy.spatial.distance import squareform

import brainrdl
from brainrdl import BrainrdlError, Evaluation, RDMTeacher, Stimuli, Student, rdms, read, recipe
from brainrdl.cli import app
from brainrdl.runs.finished_fits import load_fit

NAMES = ["cat", "dog", "car", "tree", "bus"]
SQUARE = np.abs(np.subtract.outer(*[np.array([1.0, 2, 4, 8, 16])] * 2)) + 0.25 * (1 - np.eye(5))
PAIRS = SQUARE[np.triu_indices(5, 1)]
SECONDS, MEMORY = 10, 2**30

Damage = Callable[[bytes, np.random.Generator], bytes]
Door = Callable[[Path], Any]


# How a file can be damaged


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for place in rng.integers(len(changed), size=rng.integers(1, 9)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(len(content))]


def prolonged(content: bytes, rng: np.random.Generator) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 600)))


def overwritten(content: bytes, rng: np.random.Generator) -> bytes:
    start, length = int(rng.integers(len(content))), int(rng.integers(1, 64))
    junk = rng.choice([bytes(length), b"\xff" * length, rng.bytes(length), b"[" * length, b"9" * length])
    return content[:start] + bytes(junk) + content[start + length :]


def repeated(content: bytes, rng: np.random.Generator) -> bytes:
    start, stop = sorted(rng.integers(len(content) + 1, size=2))
    return content[:stop] + content[start:]


def anything(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(16))] + rng.bytes(int(rng.integers(400)))


DAMAGES: tuple[Damage, ...] = (flipped, cut, prolonged, overwritten, repeated, anything)


# Files, and how they are read here and by the library of their format


def write_files(folder: Path) -> None:
    """Write one sound file of each kind."""
    stack = np.stack([SQUARE, SQUARE**2])
    np.save(folder / "rdm.npy", stack)
    np.savez_compressed(folder / "rdm.npz", rdms=stack, names=NAMES)
    pd.DataFrame(SQUARE, NAMES, NAMES).to_csv(folder / "square.csv")
    rows = [f"{NAMES[i]}\t{NAMES[j]}\t{SQUARE[i, j]}" for i, j in zip(*np.triu_indices(5, 1), strict=True)]
    (folder / "long.tsv").write_text("\n".join(["a\tb\tdissimilarity", *rows, ""]))
    savemat(folder / "v5.mat", {"rdm": SQUARE})
    savemat(folder / "v7.mat", {"rdm": SQUARE}, do_compression=True)
    rdms.from_array(stack, NAMES, descriptors={"roi": ["V1", "IT"]}).save(str(folder / "rdms.h5"))
    Dataset(SQUARE, obs_descriptors={"stimulus": NAMES}).save(str(folder / "data.hdf5"))
    with h5py.File(folder / "spikes.h5", "w") as file:
        file["spikes"], file["stimulus"] = np.arange(60.0).reshape(20, 3), np.repeat(NAMES, 4).astype("S")
    maps = np.random.default_rng(0).random((4, 3, 2, 5)).astype(np.float32)
    nib.Nifti1Image(maps, np.eye(4)).to_filename(folder / "maps.nii")
    (folder / "packed.nii.gz").write_bytes(gzip.compress((folder / "maps.nii").read_bytes()))
    task = {"task": {"name": "ma", "task_type": "multiarrange"}, "rdm": PAIRS.tolist()}
    task["stimuli"] = [{"name": name, "type": "png"} for name in NAMES]
    (folder / "Meadows_myExp_v_v1_cuddly-bunny_tree.json").write_text(json.dumps({"token": None, "tasks": [task]}))
    pd.DataFrame(SQUARE, NAMES, NAMES).to_parquet(folder / "square.parquet")
    vertices = [nib.gifti.GiftiDataArray(values, intent=0, datatype="float32") for values in maps.reshape(24, 5).T]
    nib.GiftiImage(darrays=vertices).to_filename(folder / "lh.func.gii")
    units = xarray.DataArray(np.arange(60.0).reshape(20, 3), dims=["presentation", "neuroid"])
    units = units.assign_coords(stimulus_id=("presentation", np.repeat(NAMES, 4)))
    units.to_dataset(name="data").to_netcdf(folder / "units.nc", engine="h5netcdf")
    (folder / "recipe.yaml").write_text(recipe.template())
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(folder / "cat.png")


def ours(path: Path, **options: Any) -> np.ndarray:
    found = read(path, **options)
    held = found.get_matrices() if hasattr(found, "get_matrices") else found.measurements
    return np.asarray(held)


def maps_of(path: Path) -> np.ndarray:
    found = read(path, names=NAMES)
    assert isinstance(found, Dataset)
    return found.measurements


def nibabel_maps(path: Path) -> np.ndarray:
    values = np.asarray(nib.load(path).dataobj, dtype=np.float64)
    return values.reshape(-1, values.shape[3], order="F").T


def from_mat(path: Path) -> np.ndarray:
    return loadmat(path)["rdm"]


def from_npz(path: Path) -> np.ndarray:
    with np.load(path) as file:
        return file["rdms"]


def rsatoolbox_rdms(path: Path) -> np.ndarray:
    return load_rdm(str(path), file_type="hdf5").get_matrices()


def stacked(values: np.ndarray) -> np.ndarray:
    """Return RDMs in any shape as (n_rdms, n, n)."""
    if values.ndim == 2 and values.shape[0] == values.shape[1]:
        return values[None]
    return values if values.ndim == 3 else np.stack([squareform(pairs) for pairs in np.atleast_2d(values)])


PLAIN: dict[str, tuple[Door, Door | None]] = {
    "rdm.npy": (ours, lambda path: stacked(np.load(path))),
    "rdm.npz": (ours, lambda path: stacked(from_npz(path))),
    "square.csv": (ours, lambda path: pd.read_csv(path, index_col=0).to_numpy(float)[None]),
    "long.tsv": (ours, None),
    "v5.mat": (ours, lambda path: stacked(from_mat(path))),
    "v7.mat": (ours, lambda path: stacked(from_mat(path))),
    "rdms.h5": (ours, rsatoolbox_rdms),
    "data.hdf5": (ours, None),
    "spikes.h5": (lambda path: ours(path, axes="trials,units"), None),
    "maps.nii": (maps_of, nibabel_maps),
    "packed.nii.gz": (maps_of, nibabel_maps),
    "Meadows_myExp_v_v1_cuddly-bunny_tree.json": (ours, None),
    "square.parquet": (ours, None),
    "lh.func.gii": (maps_of, None),
    "units.nc": (ours, None),
    "recipe.yaml": (recipe.load, None),
}


def same(found: Any, expected: Any) -> bool:
    """Say whether two readings agree; channels (columns) that are constant or NaN may be left out."""
    if found.ndim == 2:
        expected = expected[:, [bool(np.isfinite(column).all() and np.ptp(column)) for column in expected.T]]
    return found.shape == expected.shape and np.allclose(
        found, expected, rtol=1e-5, atol=1e-5 * np.nanmax(np.abs(expected)), equal_nan=True
    )


# Doors that are not a single file


def student() -> Student:
    torch.manual_seed(0)
    return Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4)), ["1"])


def images() -> Stimuli:
    names = [f"i{k}" for k in range(8)]
    return Stimuli.from_arrays(torch.rand(8, 1, 3, 4, generator=torch.Generator().manual_seed(0)), names)


def write_folders(folder: Path) -> None:
    """Write a finished run, an evaluation and a folder of images."""
    stimuli = images()
    brain = rdms.from_array(
        np.random.default_rng(0).random((3, 28)), stimuli.names, descriptors={"subject": list("abc")}
    )
    fitted = brainrdl.fit(student(), RDMTeacher(brain), stimuli, steps=2, out=folder / "run", progress=False)
    brainrdl.evaluate(fitted.student, RDMTeacher(brain), stimuli).save(folder / "evaluation")
    (folder / "images").mkdir()
    for name in NAMES:
        pixels = np.random.default_rng(len(name)).integers(0, 255, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")


FOLDERS: dict[str, Door] = {
    "run": lambda path: load_fit(path, student()),
    "evaluation": Evaluation.load,
    "images": lambda path: Stimuli.from_folder(path).images(),
}


def command(path: Path) -> None:
    """Run ``brainrdl doctor``; anything but one line of error is raised."""
    out, error = io.StringIO(), io.StringIO()
    with patch("sys.argv", ["brainrdl", "doctor", str(path)]), redirect_stdout(out), redirect_stderr(error):
        try:
            app.main()
        except SystemExit as left:
            if "--debug shows where" in error.getvalue() or error.getvalue().count("\n") > 1:
                raise RuntimeError(error.getvalue()) from left
            if left.code:
                raise BrainrdlError(error.getvalue()) from left


# Values in Python


def strange_values(rng: np.random.Generator) -> Any:
    """Return something that could be given as RDMs."""
    plain = PAIRS.copy()
    plain[rng.integers(len(plain))] = rng.choice([np.nan, np.inf, -np.inf, 1e300, -1e300, 1e15, -1.0, 0.0])
    choices = [
        plain,
        np.stack([plain, PAIRS]),
        SQUARE + rng.choice([0, 1e-3, 1e300]) * rng.random((5, 5)),
        [[1.0, 2.0], [3.0]],
        [None, 1.0, 2.0],
        ["a", "b", "c"],
        PAIRS.astype(complex),
        PAIRS.astype("datetime64[s]"),
        PAIRS.astype(object),
        np.empty((0, 10)),
        np.empty((2, 0)),
        np.ones(()),
        np.ones((2, 2, 2, 2)),
        np.ma.masked_array(PAIRS, PAIRS > 3),
        torch.tensor(PAIRS),
        iter(PAIRS),
        "rdm",
        {1: 2},
        rng.random(int(rng.integers(12))),
        rng.random((int(rng.integers(4)), int(rng.integers(12)))),
    ]
    return choices[rng.integers(len(choices))] if rng.random() < 0.7 else PAIRS


def strange_names(rng: np.random.Generator) -> Any:
    one = rng.choice(np.array(["", " ", "nan", "a\0b", "\ud800", "Ä" * 300, "cat"], dtype=object))
    choices: list[Any] = [
        NAMES,
        [one, *NAMES[1:]],
        NAMES[:3],
        [*NAMES, "more"],
        [None, *NAMES[1:]],
        list(range(5)),
        [1.5, *NAMES[1:]],
        "names",
        iter(NAMES),
        [["a"], ["b"], ["c"], ["d"], ["e"]],
        [NAMES[0]] * 5,
        None,
    ]
    return choices[rng.integers(len(choices))] if rng.random() < 0.5 else NAMES


def values_door(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    described = [
        None,
        {"subject": ["s1"]},
        {"subject": ["s1", "s2"]},
        {"roi": [None]},
        {"subject": []},
        {"subject": [" "]},
    ]
    given = {"descriptors": described[rng.integers(len(described))]}
    made = rdms.from_array(strange_values(rng), strange_names(rng), **given)
    other = rdms.from_array(PAIRS, NAMES)
    joined = rdms.concat([made, other] if rng.integers(2) else [made])
    combine = rng.choice(["mean", "reliability", "sample", "all", "none"])
    teacher = RDMTeacher(joined, combine=str(combine), subject_by=str(rng.choice(["subject", "index", "roi"])))
    return teacher.combined(teacher.targets[0])


# Counting


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def outcome(door: Callable[[], Any], expected: Callable[[], Any] | None = None) -> str:
    """Try a door: ``read``, ``refused``, or ``wrong: ...``."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with quiet():
        try:
            found = door()
            result = "read"
        except BrainrdlError:
            result = "refused"
        except Exception as error:
            return f"wrong: {type(error).__name__}: {error}"
        if result == "read" and expected is not None:
            try:
                known = expected()
            except Exception:  # the other library fails where ours does not
                known = None
            if known is not None and not same(found, known):
                return "wrong: other values than the format's own library reads"
    if time.process_time() - start > SECONDS:
        return "wrong: more than 10 s of processor time"
    if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 > MEMORY:
        return "wrong: more than 1 GB"
    return result


def damaged(content: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return DAMAGES[seed % len(DAMAGES)](content, rng)


def tried(name: str, folder: Path, n: int) -> Counter[str]:
    """Count the outcomes of `n` damaged inputs at one of the `DOORS`; `folder` holds the sound ones."""
    found: Counter[str] = Counter()
    for seed in range(n):
        found[_one(name, folder, seed)] += 1
    return found


def _one(name: str, folder: Path, seed: int) -> str:
    if name == "values in Python":
        return outcome(lambda: values_door(seed))
    if name in FOLDERS:
        return _one_of_folder(name, folder, seed)
    file = name.removeprefix("brainrdl doctor ")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, file)
        path.write_bytes(damaged((folder / file).read_bytes(), seed))
        if name != file:
            return outcome(lambda: command(path))
        door, expected = PLAIN[name]
        return outcome(lambda: door(path), None if expected is None else lambda: expected(path))


def _one_of_folder(name: str, folder: Path, seed: int) -> str:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as place:
        copied = Path(place, name)
        files = sorted(path for path in (folder / name).rglob("*") if path.is_file())
        hurt = files[rng.integers(len(files))]
        for path in files:
            copy = copied / path.relative_to(folder / name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(damaged(path.read_bytes(), seed) if path == hurt else path.read_bytes())
        return outcome(lambda: FOLDERS[name](copied))


DOORS = (*PLAIN, *FOLDERS, "values in Python", "brainrdl doctor square.csv", "brainrdl doctor rdms.h5")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=300, help="damaged inputs for each door")
    parser.add_argument("--doors", nargs="*", default=DOORS, help="some of the doors")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with quiet():
            write_files(folder)
            write_folders(folder)
        for name, (door, _) in PLAIN.items():
            door(folder / name)  # an undamaged file is read
        print("| function: input | tried | read | refused | wrong |\n|---|---:|---:|---:|---:|")
        for name in given.doors:
            found = tried(name, folder, given.n)
            wrong = {key: count for key, count in found.items() if key.startswith("wrong")}
            print(f"| {name} | {given.n} | {found['read']} | {found['refused']} | {sum(wrong.values())} |", flush=True)
            for key, count in wrong.items():
                print(f"  {count} x {key[:300]}", flush=True)


if __name__ == "__main__":
    main()
