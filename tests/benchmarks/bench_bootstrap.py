"""The dual bootstrap against rsatoolbox's, in processor time, because other processes may use the machine.

    python tests/benchmarks/bench_bootstrap.py [--resamples 1000] [--comparators corr cosine]

5 models, 92 conditions, 12 subjects. Columns: `rsatoolbox.inference.eval_dual_bootstrap`, which also computes a noise
ceiling in each resample; the comparisons of rsatoolbox alone, without its noise ceilings; the same replicates and
intervals in brainrdl; and the whole of `brainrdl.rsa`, which adds scores with the mean RDM, differences and ceilings.
rsatoolbox is timed with few resamples, because its time grows in proportion. All alternate, and medians are shown.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rsatoolbox.inference import eval_dual_bootstrap
from rsatoolbox.inference.bootstrap import bootstrap_sample
from rsatoolbox.model import ModelFixed
from rsatoolbox.rdm import RDMs, compare

from brainrdl import rsa
from brainrdl.inference.bootstraps import Drawn, bootstrap_batch

COMPARATORS = ["corr", "cosine", "spearman", "rho-a", "tau-a", "corr_cov"]


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def comparisons_only(models: RDMs, brain: RDMs, method: str, n: int) -> None:
    """Resample and compare as `eval_dual_bootstrap` does, but without noise ceilings."""
    for _ in range(n):
        sample, of_subjects, conditions = bootstrap_sample(brain, "index", "index")
        shown = models.subsample_pattern("index", conditions)
        compare(shown, sample, method)
        compare(models, brain.subsample("index", of_subjects), method)
        compare(shown, brain.subsample_pattern("index", conditions), method)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--comparators", nargs="+", default=COMPARATORS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    from bench_rsa import data  # found only if this file is run as a script

    models, brain = data(92, ["IT"], 12, 5)
    fixed = [ModelFixed(f"m{k}", models[k]) for k in range(5)]
    shown, subjects = (torch.tensor(rdms.dissimilarities) for rdms in (models, brain))
    print(
        "| comparator | rsatoolbox (s) | without ceilings (s) | replicates (s) | rsa (s) | ratios |\n|---|"
        + "---:|" * 5
    )
    bootstrapped: Any = {"intervals": "dual-bootstrap", "n_bootstrap": asked.resamples, "folds": 0}
    for comparator in asked.comparators:
        n = 2 if comparator in ("tau-a", "corr_cov") else 8
        scale, rows = asked.resamples / n, []
        for _ in range(asked.rounds):
            rows.append((
                scale * seconds(lambda c=comparator, n=n: eval_dual_bootstrap(fixed, brain, method=c, N=n)),
                scale * seconds(lambda c=comparator, n=n: comparisons_only(models, brain, c, n)),
                seconds(lambda c=comparator: bootstrap_batch(
                    c, [(shown, subjects)], "subjects", Drawn.of(92, 12, asked.resamples, 0)
                ).scores()),
                seconds(lambda c=comparator: rsa({"net": models}, brain, comparators=c, **bootstrapped)),
            ))  # fmt: skip
        theirs, bare, ours, whole = (statistics.median(column) for column in np.array(rows).T)
        ratios = ", ".join(f"{x:,.0f}" for x in (theirs / ours, bare / ours, theirs / whole))
        print(f"| {comparator} | {theirs:.0f} | {bare:.0f} | {ours:.2f} | {whole:.2f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
