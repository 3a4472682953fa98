"""How fast are permutation tests? Run as a script; prints processor times and ratios, alternating with the peer."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from brainrdl.inference import cluster_test, mantel_test

N_CONDITIONS, N_PERMUTATIONS = 1000, 10_000
N_TIMED = 50  # permutations of the loop; its time grows in proportion
ROUNDS = 3


def seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    """Print the table."""
    from mne.stats import permutation_cluster_1samp_test

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    i, j = np.triu_indices(N_CONDITIONS, 1)
    square = np.zeros((N_CONDITIONS, N_CONDITIONS))
    square[i, j] = square[j, i] = rng.random(len(i))
    data = rng.random(len(i))
    values = gaussian_filter(rng.normal(size=(12, 100, 100)), [0, 2, 2])
    threshold = cluster_test(values, n_permutations=1).threshold

    def loop() -> None:
        for _ in range(N_TIMED):
            order = rng.permutation(N_CONDITIONS)
            np.dot(square.ravel().take(order[i] * N_CONDITIONS + order[j]), data)

    def of_mne() -> None:
        permutation_cluster_1samp_test(values, threshold=threshold, n_permutations=1000, seed=0, verbose="error")

    rows = {
        "10,000 permutations of labels, 1,000 conditions; NumPy loop": (
            lambda: mantel_test(square[i, j], data, n_permutations=N_PERMUTATIONS), loop, N_PERMUTATIONS / N_TIMED
        ),
        "clusters of 100 x 100 times, 12 subjects, 1,000 flips; MNE-Python": (
            lambda: cluster_test(values, n_permutations=1000), of_mne, 1.0
        ),
    }  # fmt: skip
    print("| work; peer | s | ratio |\n|---|---:|---:|")
    for name, (ours, theirs, scale) in rows.items():
        times = [(seconds(ours), seconds(theirs) * scale) for _ in range(ROUNDS)]
        print(f"| {name} | {np.median([a for a, _ in times]):.2f} | {np.median([b / a for a, b in times]):.1f} |")


if __name__ == "__main__":
    main()
