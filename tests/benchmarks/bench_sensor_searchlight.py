"""Time the searchlight of sensors x time beside mne-rsa on the same patches; prints a Markdown table of ratios.

Processor time in one process with one thread, in turn with mne-rsa, and the median of the rounds' ratios. Both compare
each RDM with one model; the largest difference of the scores is in the last column. mne-rsa is optional.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from brainrdl import rdms, searchlight
from brainrdl.searchlights import over_time, sensor_neighbourhoods

N_SENSORS, RATE = 64, 100.0

MNE_RSA = {"corr": "pearson", "spearman": "spearman"}


def seconds(function: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start = time.process_time()
    found = function()
    return time.process_time() - start, found


def row(n_conditions: int, n_times: int, reach: int, dissimilarity: str, comparator: str, rounds: int) -> str:
    """`reach` is the temporal radius in samples."""
    from mne_rsa import rsa_array, searchlight as patches_of

    generator = np.random.default_rng(0)
    positions = generator.normal(size=(N_SENSORS, 3))
    positions /= np.linalg.norm(positions, axis=1, keepdims=True)
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    radius = (
        float(np.sort(distances, axis=1)[:, 8].max()) * 1.001
    )  # at least 8 neighbours, none of them just at the radius
    data = generator.normal(size=(n_conditions, N_SENSORS, n_times))
    names = [f"image {k}" for k in range(n_conditions)]
    pairs = generator.random(n_conditions * (n_conditions - 1) // 2)
    model, times = rdms.from_array(pairs, names), np.arange(n_times) / RATE

    def ours() -> np.ndarray:
        near = over_time(sensor_neighbourhoods(positions, radius), times, reach / RATE)
        how = {"dissimilarity": dissimilarity, "comparator": comparator, "progress": False}
        return searchlight(data, near, {"model": model}, by=names, **how).values.reshape(N_SENSORS, -1)

    def theirs() -> np.ndarray:
        patches = patches_of(data.shape, dist=distances, spatial_radius=radius, temporal_radius=reach)
        metric = "sqeuclidean" if dissimilarity == "euclidean" else dissimilarity
        return rsa_array(data, pairs, patches, data_rdm_metric=metric, rsa_metric=MNE_RSA[comparator])

    ours(), theirs()
    found = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    mine, other = ([1000 * pair[side][0] for pair in found] for side in (0, 1))
    ratio = statistics.median(b / a for a, b in zip(mine, other, strict=True))
    a, b = found[0][0][1], found[0][1][1]
    largest = float(np.abs(a - b.reshape(a.shape)).max())
    title = f"{dissimilarity}, {comparator}, {n_conditions} conditions, {a.size} patches of {2 * reach + 1} samples"
    return f"| {title} | {statistics.median(mine):.0f} | {statistics.median(other):.0f} | {ratio:.1f} | {largest:.0e} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=60)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| searchlight | brainrdl (ms) | mne-rsa (ms) | mne-rsa / brainrdl | largest difference |")
    print("|---|---:|---:|---:|---:|")
    for case in (
        (20, 2, "correlation", "corr"),
        (20, 2, "correlation", "spearman"),
        (20, 0, "euclidean", "spearman"),
        (92, 2, "correlation", "corr"),
        (92, 2, "correlation", "spearman"),
    ):
        print(row(case[0], asked.times, *case[1:], asked.rounds), flush=True)


if __name__ == "__main__":
    main()
