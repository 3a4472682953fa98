"""Memory and time of `brainrdl rdm --stream`, a process of its own, for an RDM whose pairs need not fit in memory.

The patterns are a Dataset of rsatoolbox in float32. Memory is the largest resident size of the whole process, with
Python, its libraries and the patterns. ``--channels`` and ``--conditions`` make it smaller.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def main() -> None:
    """Print one row of a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conditions", type=int, default=20_000)
    parser.add_argument("--channels", type=int, default=4096)
    parser.add_argument("--dissimilarity", default="correlation")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "patterns.h5", Path(folder) / "rdm.h5"
        write(source, given.conditions, given.channels)
        command = [sys.executable, "-m", "brainrdl", "rdm", str(source), "--stream", "--out", str(out)]
        subprocess.run([*command, "--dissimilarity", given.dissimilarity], check=True, capture_output=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = out.stat().st_size
    print("| dissimilarity | conditions | channels | file (GB) | memory (GB) | processor (s) |")
    print("|---|---:|---:|---:|---:|---:|")
    spent = used.ru_utime + used.ru_stime
    print(
        f"| {given.dissimilarity} | {given.conditions} | {given.channels} | {size / 1e9:.2f} "
        f"| {used.ru_maxrss * 1024 / 1e9:.2f} | {spent:.0f} |"
    )


def write(path: Path, n: int, n_channels: int) -> None:
    from rsatoolbox.data import Dataset

    measured = np.random.default_rng(0).standard_normal((n, n_channels), dtype=np.float32)
    names = [f"c{k}" for k in range(n)]
    Dataset(measured, obs_descriptors={"stimulus": names}).save(str(path), file_type="hdf5")


if __name__ == "__main__":
    main()
