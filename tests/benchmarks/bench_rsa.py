"""Plain RSA with intervals against rsatoolbox's dual bootstrap, and in absolute processor time.

    python tests/benchmarks/bench_rsa.py [--resamples 1000]

Processor time, because other processes may use the machine. Scores and 95% intervals of 5 models, 92 conditions, 12
subjects; then 7 layers x 2 regions x 15 subjects, 118 conditions, with both default comparators, contrasts and best
layers.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rsatoolbox.inference import eval_dual_bootstrap
from rsatoolbox.model import ModelFixed

from brainrdl import rdms, rsa


def seconds(work: Callable[[], object], rounds: int) -> float:
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return statistics.median(found)


def data(n_conditions: int, regions: list[str], n_subjects: int, n_models: int) -> tuple[object, object]:
    rng, n_pairs = np.random.default_rng(0), n_conditions * (n_conditions - 1) // 2
    names = [f"im{k}" for k in range(n_conditions)]
    truth = rng.random(n_pairs)
    subjects = truth + rng.random((len(regions) * n_subjects, n_pairs))
    described = {
        "subject": [str(s) for s in range(n_subjects)] * len(regions),
        "roi": [region for region in regions for _ in range(n_subjects)],
    }
    layers = {"layer": [f"conv{k}" for k in range(n_models)]}
    return (
        rdms.from_array(truth + rng.random((n_models, n_pairs)), names, descriptors=layers),
        rdms.from_array(subjects, names, descriptors=described),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--comparators", nargs="+", default=["corr", "cosine", "spearman", "rho-a", "corr_cov"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    models, brain = data(92, ["IT"], 12, 5)
    fixed = [ModelFixed(f"m{k}", models[k]) for k in range(5)]
    few = max(asked.resamples // 20, 10)  # their time is proportional to the number of resamples
    for comparator in asked.comparators:
        theirs = seconds(lambda c=comparator: eval_dual_bootstrap(fixed, brain, method=c, N=few), 1)
        theirs *= asked.resamples / few
        ours = seconds(lambda c=comparator: rsa({"net": models}, brain, comparators=c, folds=0), 5)
        print(
            f"{comparator:10s} rsatoolbox {theirs:8.2f} s, rsa {ours * 1000:6.1f} ms, ratio {theirs / ours:8.0f}",
            flush=True,
        )
    models, brain = data(118, ["IT", "V1"], 15, 7)
    print(f"7 layers x 2 regions x 15 subjects: {seconds(lambda: rsa({'net': models}, brain), 3):.2f} s")


if __name__ == "__main__":
    main()
