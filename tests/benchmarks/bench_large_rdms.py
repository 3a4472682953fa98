"""Memory and time of RDMs of thousands of conditions, each in a process of its own; prints a Markdown table.

Memory is the growth of the process, relative to the size of the result (or of the subjects' RDMs in float32). Time is
relative to one `x @ x.T` of the same patterns, or to `numpy.nanmean` over the subjects; both are measured alternately.
``--small`` takes a quarter of the conditions.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

N_CHANNELS, N_SUBJECTS = 512, 8


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def report(size: float, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    before = peak()
    times = [seconds(ours)]
    memory = (peak() - before) / size
    pairs = [(times[0], seconds(theirs)), *((seconds(ours), seconds(theirs)) for _ in range(2))]
    print(json.dumps([memory, times[0], statistics.median(a / b for a, b in pairs)]))


def calc(dissimilarity: str, n: int) -> None:
    from rsatoolbox.data import Dataset

    from brainrdl import calc_rdm

    measured = np.random.default_rng(0).normal(size=(n, N_CHANNELS))
    data = Dataset(measured, obs_descriptors={"stimulus": [f"c{k}" for k in range(n)]})
    calc_rdm(Dataset(measured[:5], obs_descriptors={"stimulus": list("abcde")}), dissimilarity)  # loads libraries
    x = torch.as_tensor(measured)
    report(n * (n - 1) / 2 * 8, lambda: calc_rdm(data, dissimilarity), lambda: x @ x.T)


def teacher(combine: str, n: int) -> None:
    from brainrdl import RDMTeacher
    from brainrdl.rdms.by_name import joined_rdms
    from brainrdl.stimuli import Batch

    names = [f"c{k}" for k in range(n)]
    values = np.random.default_rng(0).random((N_SUBJECTS, n * (n - 1) // 2))
    subjects = {"subject": [f"s{k}" for k in range(N_SUBJECTS)]}
    rdms = joined_rdms(values, measure=None, rdm_descriptors=subjects, pattern_descriptors={"stimulus": names})
    batch = Batch(tuple(names[:100]), torch.zeros(100, 1, 1, 1), None)
    report(values.size * 4, lambda: RDMTeacher(rdms, combine=combine).rdms(batch), lambda: np.nanmean(values, axis=0))


CASES = {
    "calc_rdm, correlation": (calc, "correlation", 20_000),
    "calc_rdm, euclidean": (calc, "euclidean", 20_000),
    "RDMTeacher, mean of 8 subjects": (teacher, "mean", 5_000),
    "RDMTeacher, reliability of 8 subjects": (teacher, "reliability", 5_000),
}


def main() -> None:
    """Print the table, or measure one case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a quarter of the conditions")
    parser.add_argument("--case", choices=CASES, help="measure this case only, in this process")
    given = parser.parse_args()
    small = ["--small"] if given.small else []
    if given.case:
        measure, how, n = CASES[given.case]
        return measure(how, n // 4 if given.small else n)
    print(f"{torch.get_num_threads()} threads\n\n| what | conditions | memory / size | s | time ratio |")
    print("|---|---:|---:|---:|---:|")
    for title, (_, _, n) in CASES.items():
        command = [sys.executable, __file__, "--case", title, *small]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        memory, spent, ratio = json.loads(done.stdout)
        print(f"| {title} | {n // 4 if given.small else n} | {memory:.2f} | {spent:.1f} | {ratio:.2f} |", flush=True)
    return None


if __name__ == "__main__":
    main()
