"""How much memory does one region of a large NIfTI file take? ``python tests/benchmarks/bench_reading.py`` prints it.

Writes 2 GB of real values to a temporary folder, then reads one region in a fresh process. Its peak of resident memory
is reported in addition to what the same process took to import everything and to read a tiny file.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (96, 96, 60)
SIZES = {"large.nii": 2_000_000_000, "smaller.nii.gz": 300_000_000}  # bytes of values
HOW = {"region": "`brainrdl.read`, one region", "whole": "nibabel, the whole array"}
CHILD = """
import json, resource, sys, time
import nibabel, numpy
import brainrdl
from data_adapters.nifti import READER

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def whole(file, mask):
    return numpy.asanyarray(nibabel.load(file).dataobj)[numpy.asanyarray(nibabel.load(mask).dataobj) > 0].T

def region(file, mask):
    return brainrdl.read(file, mask=mask, reader=READER).measurements

how, file, mask, tiny = sys.argv[1:]
region(tiny, mask)
before, started = peak(), time.perf_counter()
values = {"whole": whole, "region": region}[how](file, mask)
print(json.dumps([*values.shape, time.perf_counter() - started, peak() - before, before]))
"""


def write(path: Path, n_bytes: int) -> None:
    """Write a 4-D file of noise, int16, volume by volume."""
    n_volumes = max(2, n_bytes // (2 * int(np.prod(SHAPE))))
    header = nib.Nifti1Header()
    header.set_data_shape((*SHAPE, n_volumes))
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    rng = np.random.default_rng(0)
    with gzip.open(path, "wb", 1) if path.suffix == ".gz" else path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(n_volumes):
            file.write(rng.integers(500, 1500, SHAPE, np.int16).tobytes())


def write_mask(path: Path, grid: Path, radius: int = 8) -> None:
    """Write a ball on the grid of another file."""
    distance = np.linalg.norm(np.indices(SHAPE) - np.reshape([40, 30, 25], (3, 1, 1, 1)), axis=0)
    nib.save(nib.Nifti1Image((distance < radius).astype(np.uint8), nib.load(grid).affine), path)


def measured(how: str, *files: Path) -> list[float]:
    """Observations, voxels, seconds, peak and baseline (MB) of a process that reads."""
    command = [sys.executable, "-c", CHILD, how, *map(str, files)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the table."""
    print(
        "| file | values | read | observations x voxels | s | peak MB above imports (MB) |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as name:
        tiny, mask = Path(name, "tiny.nii"), Path(name, "mask.nii.gz")
        write(tiny, 0)
        write_mask(mask, tiny)
        for file, n_bytes in SIZES.items():
            write(Path(name, file), n_bytes)
            for how, words in HOW.items():
                if how == "whole" and n_bytes > 1e9:
                    continue
                n, voxels, seconds, peak, before = measured(how, Path(name, file), mask, tiny)
                cells = f"{n_bytes / 1e9:.1f} GB | {words} | {n} x {voxels} | {seconds:.1f} | {peak:.0f} ({before:.0f})"
                print(f"| `{file}` | {cells} |", flush=True)


if __name__ == "__main__":
    main()
