"""Time single calls beside rsatoolbox, SciPy and mne-rsa; prints a Markdown table of ratios.

Processor time in one process, in turn with the peer, and the median of the rounds' ratios: below 1, brainrdl is faster.
mne-rsa is optional. ``--threads 2`` uses more threads.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.stats
import torch
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import RDMs, calc_rdm as rsatoolbox_rdm, compare

from brainrdl import calc_rdm, dissimilarity
from brainrdl.inference.partial_correlation import partial
from brainrdl.similarity.registry import SIMILARITIES

COMPARATORS = ["cosine", "corr", "spearman", "rho-a", "tau-a", "tau-b", "corr_cov", "cosine_cov", "bures"]
N_CONDITIONS, N_SUBJECTS, N_LARGE = 92, 12, 2000

Row = tuple[str, str, Callable[[], Any], Callable[[], Any], int]


def seconds(function: Callable[[], Any], repeats: int) -> float:
    """Processor time of one call."""
    started = time.process_time()
    for _ in range(repeats):
        function()
    return (time.process_time() - started) / repeats


def comparators(generator: np.random.Generator) -> Iterator[Row]:
    patterns = torch.tensor(generator.normal(size=(N_SUBJECTS + 1, N_CONDITIONS, 120)))
    rdms = dissimilarity.euclidean(patterns)
    subjects, model = rdms[1:], rdms[0]
    theirs, their_model = RDMs(subjects.numpy()), RDMs(model[None].numpy())
    for name in COMPARATORS:
        yield (
            f"{name}, {N_CONDITIONS} conditions, {N_SUBJECTS} subjects",
            "rsatoolbox",
            lambda name=name: SIMILARITIES[name](subjects, model),
            lambda name=name: compare(theirs, their_model, method=name),
            3,
        )


def large(generator: np.random.Generator) -> Iterator[Row]:
    a, b = generator.random((2, N_LARGE * (N_LARGE - 1) // 2))
    of_a, of_b = torch.tensor(a), torch.tensor(b)
    yield (
        f"tau-a, {N_LARGE} conditions",
        "scipy.stats.kendalltau",
        lambda: SIMILARITIES["tau-a"](of_a, of_b),
        lambda: scipy.stats.kendalltau(a, b),
        1,
    )


def small(generator: np.random.Generator) -> Iterator[Row]:
    observed = {"stimulus": [f"image {k}" for k in range(20)]}
    measured = Dataset(generator.normal(size=(20, 50)), obs_descriptors=observed)
    for name in ("correlation", "euclidean"):
        yield (
            f"calc_rdm of a Dataset, {name}, 20 x 50",
            "rsatoolbox",
            lambda name=name: calc_rdm(measured, name),
            lambda name=name: rsatoolbox_rdm(measured, name, descriptor="stimulus"),
            20,
        )


def with_mne_rsa(generator: np.random.Generator) -> Iterator[Row]:
    from mne_rsa import compute_rdm, rsa

    brain, models = generator.random(4186), list(generator.random((3, 4186)))
    a, b, given = torch.tensor(brain), torch.tensor(models[0]), torch.tensor(np.array(models[1:]))
    for name, theirs in (("spearman", "partial-spearman"), ("corr", "partial")):
        yield (
            f"partial {name}, one model given two others",
            "mne-rsa (all three models)",
            lambda name=name: partial(a, b, given, name),
            lambda theirs=theirs: rsa(brain, models, metric=theirs),
            5,
        )
    patterns = generator.normal(size=(20, 50))
    measured = Dataset(patterns, obs_descriptors={"stimulus": [f"image {k}" for k in range(20)]})
    tensor = torch.tensor(patterns)
    for name in ("correlation", "euclidean"):
        metric = "sqeuclidean" if name == "euclidean" else name
        for title, ours in (
            ("calc_rdm of a Dataset", lambda name=name: calc_rdm(measured, name)),
            ("dissimilarity of a tensor", lambda name=name: dissimilarity.resolve(name)(tensor)),
        ):
            yield f"{title}, {name}, 20 x 50", "mne-rsa", ours, lambda metric=metric: compute_rdm(patterns, metric), 20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    warnings.simplefilter("ignore")
    generator = np.random.default_rng(0)
    rows = [*comparators(generator), *large(generator), *small(generator)]
    rows += with_mne_rsa(generator) if find_spec("mne_rsa") else []
    print(f"{asked.threads} threads\n\n| call | brainrdl (ms) | peer (ms) | ratio | peer |\n|---|---:|---:|---:|---|")
    for title, peer, ours, theirs, repeats in rows:
        ours(), theirs()
        rounds = 3 if N_LARGE in map(int, filter(str.isdigit, title.split())) else asked.rounds
        pairs = [(seconds(ours, repeats), seconds(theirs, repeats)) for _ in range(rounds)]
        mine, other = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"| {title} | {mine:.3f} | {other:.3f} | {ratio:.2f} | {peer} |", flush=True)


if __name__ == "__main__":
    main()
