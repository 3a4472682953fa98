"""Example files, small and made up: pictures, RDMs and maps. The pages of the documentation use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl._core.files import write_rdms
from brainrdl.datasets.simulation import simulate_subjects
from brainrdl.rdms.by_name import concat

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

SUBJECTS = ("s1", "s2", "s3")

_NAMES = [f"{category}_{k}" for category, k in product(("body", "face", "house", "tool"), range(1, 6))]

_OTHERS = [f"{category}_{k}" for category, k in product(("lamp", "tree"), range(1, 5))]

_MORE = [f"{name}_more" for name in _NAMES]

_N_RUNS = 4

_Writers = Mapping[str, Callable[[Path], object]]


def write_example_files(folder: Path | str = ".") -> list[Path]:
    """Write the files that the documentation uses: pictures, RDMs in several formats, and fMRI maps.

    All of them are made up. The pictures are coloured noise; those of a category have similar colours. Region V1
    responds to half of their pixels, and IT to the other half. Files and folders that exist are left as they are.

    ============================== ===========================================================================
    file                           content
    ============================== ===========================================================================
    images/, labels.csv            20 pictures of 4 categories, and a table with the category of each
    it.h5                          RDMs of region IT, 3 subjects (rsatoolbox file)
    regions.h5                     RDMs of V1 and IT, 3 subjects each
    measured.h5                    the RDMs of it.h5 as many files have them: names in ``conds``, no subjects
    it.npy, v1.npy, names.txt      square RDMs (3, 20, 20) without names, and the names
    it.npz, it.mat, it.csv         the RDMs of it.h5 as a NumPy archive and a MATLAB file; a table of the first.
                                   In it.mat, IT_RDMs is (20, 20, 3); pictures and people are cell arrays of names
    pairs.csv                      the RDMs of it.h5 as a long table, one row per pair and subject
    betas.nii.gz, betas.tsv        maps of 20 conditions in 4 runs, and a table with condition and run of each
    atlas.nii.gz, atlas.tsv        regions V1 and IT of these maps
    other/, other.h5               8 other pictures, and IT RDMs of 4 other subjects for them
    labelled/, labelled.csv        20 more pictures with categories, for a task
    ============================== ===========================================================================

    Parameters
    ----------
    folder : path
        Where to write them; made if it does not exist.

    Returns
    -------
    list of Path
        The files and folders that were written.

    Raises
    ------
    BrainrdlError
        If `folder` is a file.

    Examples
    --------
    >>> import tempfile
    >>> written = write_example_files(tempfile.mkdtemp())
    >>> [path.name for path in written[:6]]
    ['images', 'labels.csv', 'labelled', 'labelled.csv', 'other', 'it.h5']
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        refuse(f"folder {str(folder)!r} is a file; give a folder for the example files")
    folder.mkdir(parents=True, exist_ok=True)
    return [*_new(folder, _images()), *_new(folder, _rdm_files()), *_new(folder, _maps())]


def _new(folder: Path, writers: _Writers) -> Iterator[Path]:
    """Call the writers whose file does not exist."""
    for name, write in writers.items():
        path = folder / name
        if not path.exists():
            write(path)
            yield path


def _category(name: str) -> str:
    return name.split("_")[0]


def _pixels(names: Sequence[str], seed: int) -> np.ndarray:
    """Return pictures (n_conditions, 8, 8, 3), 0 to 255: the colours of the category plus noise."""
    rng = np.random.default_rng(seed)
    tint = {category: rng.integers(0, 128, (8, 8, 3)) for category in dict.fromkeys(map(_category, names))}
    return np.stack([tint[_category(name)] + rng.integers(0, 128, (8, 8, 3)) for name in names]).astype(np.uint8)


def _patterns(names: Sequence[str], seed: int) -> Tensor:
    return torch.from_numpy(_pixels(names, seed)).double().permute(0, 3, 1, 2).flatten(1)


def _images() -> _Writers:
    return {
        "images": lambda path: _write_images(path, _NAMES, seed=0),
        "labels.csv": lambda path: _write_labels(path, _NAMES),
        "labelled": lambda path: _write_images(path, _MORE, seed=2),
        "labelled.csv": lambda path: _write_labels(path, _MORE),
        "other": lambda path: _write_images(path, _OTHERS, seed=1),
    }


def _write_images(folder: Path, names: Sequence[str], seed: int) -> None:
    from PIL import Image

    folder.mkdir()
    for name, pixels in zip(names, _pixels(names, seed), strict=True):
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{name}.png")


def _write_labels(path: Path, names: Sequence[str]) -> None:
    _write_rows(path, ",", ["stimulus", "category"], [[name, _category(name)] for name in names])


def _write_rows(path: Path, separator: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    lines = [separator.join(map(str, row)) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _halves() -> dict[str, Tensor]:
    """Return what each region responds to, (20, 96)."""
    patterns = _patterns(_NAMES, seed=0)
    return {"V1": patterns[:, 1::2], "IT": patterns[:, ::2]}


def _simulated(roi: str) -> RDMs:
    rdms = simulate_subjects(_halves()[roi], _NAMES, n_subjects=len(SUBJECTS), n_voxels=40, noise=0.5, roi=roi)
    rdms.rdm_descriptors["subject"] = list(SUBJECTS)
    return rdms


def _rdm_files() -> _Writers:
    from rsatoolbox.rdm import RDMs
    from scipy.io import savemat

    v1, it = _simulated("V1"), _simulated("IT")
    squares = it.get_matrices()
    i, j = np.triu_indices(len(_NAMES), 1)
    pairs = [
        (_NAMES[a], _NAMES[b], square[a, b], subject, "IT")
        for subject, square in zip(SUBJECTS, squares, strict=True)
        for a, b in zip(i, j, strict=True)
    ]
    return {
        "it.h5": lambda path: write_rdms(path, it),
        "regions.h5": lambda path: write_rdms(path, concat([v1, it])),
        "measured.h5": lambda path: write_rdms(path, RDMs(it.dissimilarities, pattern_descriptors={"conds": _NAMES})),
        "it.npy": lambda path: np.save(path, squares),
        "v1.npy": lambda path: np.save(path, v1.get_matrices()),
        "names.txt": lambda path: path.write_text("\n".join(_NAMES) + "\n", encoding="utf-8"),
        "it.npz": lambda path: np.savez(path, rdms=squares, names=_NAMES, subjects=SUBJECTS, roi="IT"),
        "it.mat": lambda path: savemat(path, _matlab(squares)),
        "it.csv": lambda path: _write_rows(
            path, ",", ["", *_NAMES], [(name, *row) for name, row in zip(_NAMES, squares[0], strict=True)]
        ),
        "pairs.csv": lambda path: _write_rows(path, ",", ["a", "b", "dissimilarity", "subject", "roi"], pairs),
        "other.h5": lambda path: write_rdms(
            path, simulate_subjects(_patterns(_OTHERS, seed=1), _OTHERS, n_subjects=4, n_voxels=40, noise=0.5, seed=1)
        ),
    }


def _matlab(squares: np.ndarray) -> dict[str, np.ndarray]:
    """Return MATLAB variables: a stack of RDMs, and cell arrays with the files of the pictures and the subjects."""
    files, people = (np.array([cell], object) for cell in ([f"{name}.png" for name in _NAMES], SUBJECTS))
    return {"IT_RDMs": squares.transpose(1, 2, 0), "pictures": files, "people": people}


def _maps() -> _Writers:
    import nibabel as nib

    rng = np.random.default_rng(0)
    signal = torch.cat([patterns - patterns.mean(0) for patterns in _halves().values()], 1).numpy().T
    signal = signal.reshape(8, 6, 4, len(_NAMES)) / signal.std()  # V1 in the first half of x, IT in the second
    betas = np.concatenate([signal + rng.normal(size=signal.shape) for _ in range(_N_RUNS)], axis=-1)
    atlas = np.repeat([1, 2], 4)[:, None, None] * np.ones((8, 6, 4), np.int16)
    return {
        "betas.nii.gz": lambda path: nib.save(nib.Nifti1Image(betas.astype(np.float32), np.eye(4)), path),
        "betas.tsv": lambda path: _write_rows(
            path, "\t", ["condition", "run"], [(name, run + 1) for run in range(_N_RUNS) for name in _NAMES]
        ),
        "atlas.nii.gz": lambda path: nib.save(nib.Nifti1Image(atlas.astype(np.int16), np.eye(4)), path),
        "atlas.tsv": lambda path: _write_rows(path, "\t", ["index", "name"], [(1, "V1"), (2, "IT")]),
    }
