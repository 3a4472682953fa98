"""How much faster than rsatoolbox? Run as a script, prints a Markdown table of ratios."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from brainrdl.dissimilarity.pairs import pair_indices
from brainrdl.similarity.registry import SIMILARITIES

NAMES = ["cosine", "corr", "spearman", "rho-a", "tau-a", "corr_cov", "cosine_cov"]
N_CONDITIONS, N_SUBJECTS, N_RESAMPLES = 92, 12, 1000
N_TIMED = 10  # resamples rsatoolbox is timed on; its time grows in proportion


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Best of `repeats` after one run to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    from rsatoolbox.rdm import RDMs, compare

    torch.set_num_threads(1)
    torch.manual_seed(0)
    i, j = pair_indices(N_CONDITIONS)
    subjects, model = torch.rand(N_SUBJECTS, len(i)).double(), torch.rand(len(i)).double()
    drawn = torch.randint(0, N_CONDITIONS, (N_RESAMPLES, N_CONDITIONS))
    counts = torch.stack([row.bincount(minlength=N_CONDITIONS) for row in drawn]).double()
    weights = counts[:, i] * counts[:, j]
    theirs, their_model = RDMs(subjects.numpy()), RDMs(model[None].numpy())

    def resample_theirs(name: str) -> None:
        for row in drawn[:N_TIMED].numpy():
            pair = (rdms.subsample_pattern("index", row) for rdms in (RDMs(subjects[:1].numpy()), their_model))
            compare(*pair, method=name)

    print("| comparator | 12 subjects, one call (ms) | rsatoolbox / ours | 1000 resamples (s) | rsatoolbox / ours |")
    print("|---|---|---|---|---|")
    for name in NAMES:
        similarity = SIMILARITIES[name]
        options = {"condition_weights": counts} if name.endswith("_cov") else {}
        single = seconds(lambda f=similarity: f(subjects, model), 20)
        single_theirs = seconds(lambda n=name: compare(theirs, their_model, method=n), 5)
        resampled = seconds(lambda f=similarity, o=options: f(subjects[0], model, weights, **o), 2)
        resampled_theirs = seconds(lambda n=name: resample_theirs(n), 1) * N_RESAMPLES / N_TIMED
        row = (
            f"{single * 1e3:.2f} | {single_theirs / single:.1f} | {resampled:.2f} | {resampled_theirs / resampled:.0f}"
        )
        print(f"| {name} | {row} |")


if __name__ == "__main__":
    main()
