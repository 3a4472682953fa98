"""Time `calc_rdm` beside rsatoolbox's on the same Dataset; prints a Markdown table, with the largest difference.

The two take turns; a row gives the median of the rounds' ratios. ``--pause 0.05`` lets the threads of both libraries go
to sleep before each call.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm as rsatoolbox_rdm

from brainrdl import calc_rdm
from brainrdl.rdms.by_name import select

ROUNDS = {True: 60, False: 9}  # of what takes milliseconds, and of the rest


def dataset(n_conditions: int, n_runs: int, n_channels: int) -> Dataset:
    generator = np.random.default_rng(0)
    names = [f"image_{index:03d}" for index in range(n_conditions)] * n_runs
    runs = np.repeat(np.arange(n_runs), n_conditions)
    measured = generator.gamma(2.0, 1.0, (n_conditions * n_runs, n_channels))
    return Dataset(measured, obs_descriptors={"stimulus": names, "run": runs})


def precision(n_channels: int) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=(n_channels + 50, n_channels))
    return np.linalg.inv(noise.T @ noise / (n_channels + 50) + 0.1 * np.eye(n_channels))


def seconds(function: Callable[[], Any], pause: float) -> float:
    time.sleep(pause)
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def row(title: str, ours: Callable[[], Any], theirs: Callable[[], Any], pause: float) -> str:
    found, expected = ours(), theirs()
    expected = select(expected, found.pattern_descriptors["stimulus"])
    largest = np.abs(found.dissimilarities - expected.dissimilarities).max() / np.abs(expected.dissimilarities).max()
    rounds = ROUNDS[seconds(theirs, pause) < 0.05]
    pairs = [
        (seconds(ours, pause), seconds(theirs, pause))
        if turn % 2
        else (seconds(theirs, pause), seconds(ours, pause))[::-1]
        for turn in range(rounds)
    ]
    times = [statistics.median(column) for column in zip(*pairs, strict=True)]
    ratio = statistics.median(a / b for a, b in pairs)
    return f"| {title} | {times[0] * 1e3:.1f} | {times[1] * 1e3:.1f} | {ratio:.3f} | {largest:.0e} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each call")
    pause = parser.parse_args().pause
    print(f"{torch.get_num_threads()} threads\n")
    print("| RDM | brainrdl (ms) | rsatoolbox (ms) | ratio | largest relative difference |\n|---|---:|---:|---:|---:|")
    small, large = dataset(92, 8, 200), dataset(92, 8, 2000)
    whitened = precision(2000)
    for name, data in (("euclidean", large), ("correlation", large), ("poisson", large), ("crossnobis", small)):
        cv = {"cv_descriptor": "run"} if name == "crossnobis" else {}
        title = f"{name}, 92 conditions x 8 runs x {data.n_channel} channels"
        print(row(
            title,
            lambda name=name, data=data: calc_rdm(data, name),
            lambda name=name, data=data, cv=cv: rsatoolbox_rdm(data, name, descriptor="stimulus", **cv),
            pause,
        ), flush=True)  # fmt: skip
    print(row(
        "crossnobis with noise precision, 92 conditions x 8 runs x 2000 channels",
        lambda: calc_rdm(large, "crossnobis", noise=whitened),
        lambda: rsatoolbox_rdm(large, "crossnobis", descriptor="stimulus", cv_descriptor="run", noise=whitened),
        pause,
    ))  # fmt: skip


if __name__ == "__main__":
    main()
