"""What do two processes save? ``python tests/benchmarks/bench_jobs.py [STEPS]`` prints a Markdown table.

Cross-validation of a tiny network in 15 folds (5 folds, 3 seeds), one after another and with ``n_jobs=2``. On a busy
machine the elapsed time says little, so the processor time is shown as well. From it follows what idle cores would
need: the time of the first process plus half the time of its two workers.
"""

from __future__ import annotations

import os
import sys
import time

import torch
from torch import nn

from brainrdl import RDMTeacher, Stimuli, Student, cross_validate, rdms
from brainrdl.dissimilarity.measures import correlation
from brainrdl.evaluation.jobs import run_jobs

N = 60


def make() -> Student:
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 32)), ["3"])


def measure(n_jobs: int, steps: int) -> tuple[float, float, float]:
    """Elapsed time, and processor time of this process and of its children, in seconds."""
    names = [f"s{i:03d}" for i in range(N)]
    generator = torch.Generator().manual_seed(0)
    stimuli = Stimuli.from_arrays(torch.rand(N, 1, 16, 16, generator=generator), names)
    teacher = RDMTeacher(rdms.from_tensor(correlation(torch.randn(N, 50, generator=generator))[None], names))
    before, started = os.times(), time.perf_counter()
    cross_validate(
        make, teacher, stimuli, folds=5, seeds=range(3), steps=steps, controls=[], evaluate_every=steps, device="cpu",
        progress=False, n_jobs=n_jobs, intervals="none",
    )  # fmt: skip
    after = os.times()
    own = after.user + after.system - before.user - before.system
    children = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, own, children


def start_up() -> float:
    """Processor time that two workers need to start, in seconds."""
    before = os.times()
    run_jobs(lambda number: number, [(1,), (2,)], n_jobs=2, progress=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main(steps: int) -> None:
    torch.set_num_threads(1)
    measure(1, 1)  # imports
    print(f"{steps} steps per fit; two workers start in {start_up():.1f} s of processor time\n")
    print("| processes | elapsed (s) | own processor time (s) | of workers (s) | expected on idle cores (s) |")
    print("|---|---:|---:|---:|---:|")
    expected = []
    for n_jobs in (1, 2):
        elapsed, own, children = measure(n_jobs, steps)
        expected.append(own + children / n_jobs)
        print(f"| {n_jobs} | {elapsed:.1f} | {own:.1f} | {children:.1f} | {expected[-1]:.1f} |")
    print(f"\nexpected speed-up on idle cores: {expected[0] / expected[1]:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
