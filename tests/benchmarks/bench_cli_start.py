"""How much processor time does the command line need before it answers? Prints a Markdown table of ratios.

Whole processes (user + system time), in turn with a bare ``import torch``, so that a busy machine slows both equally.
``--peer PATH`` also measures the brainrdl in another folder, for example a checkout of an older commit.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

N_CONDITIONS = 12

COMMANDS = [
    "--help",
    "--version",
    "doctor --help",
    "fit --help",
    "doctor missing.csv",
    "evaluate missing",
    "report missing",
    "rsa a.csv --data missing.csv",
    "searchlight missing.nii --mask mask.nii --model a.csv --radius 8 --out maps",
    "doctor a.csv",
    "compare a.csv b.csv",
    "plot a.csv --overwrite",
]


def seconds(words: list[str], folder: Path, package: Path | None) -> float:
    """Processor time of a process and its children."""
    paths = {} if package is None else {"PYTHONPATH": str(package)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], capture_output=True, cwd=folder, env={**os.environ, **paths})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def files(folder: Path) -> None:
    """Write two small RDMs."""
    from brainrdl import rdms

    for seed, name in enumerate("ab"):
        pairs = np.random.default_rng(seed).random(N_CONDITIONS * (N_CONDITIONS - 1) // 2)
        made = rdms.from_array(pairs, [f"image {k}" for k in range(N_CONDITIONS)])
        rdms.to_table(made).to_csv(folder / f"{name}.csv", index=False)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", type=Path)
    asked = parser.parse_args()
    peer = "" if asked.peer is None else " before |"
    print(f"| command | s | / `import torch` |{peer}\n|---|---:|---:|{'---:|' if peer else ''}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files(folder)
        for command in COMMANDS:
            words = ["-m", "brainrdl", *command.split()]
            rounds = [
                [
                    seconds(words, folder, None),
                    seconds(["-c", "import torch"], folder, None),
                    seconds(words, folder, asked.peer) if peer else 0.0,
                ]
                for _ in range(asked.rounds)
            ]
            ours = statistics.median(one for one, _, _ in rounds)
            ratio, before = (statistics.median(one[k] / one[1] for one in rounds) for k in (0, 2))
            print(f"| `{command}` | {ours:.2f} | {ratio:.2f} |" + (f" {before:.2f} |" if peer else ""), flush=True)


if __name__ == "__main__":
    main()
