"""How well and how fast are channels reweighted? Run as a script; prints scores on held-out conditions and times.

92 conditions, 100 channels of which the first 10 matter, and noise. The peer is frrsa (github.com/ViCCo-Group/frrsa),
if it can be imported: both get the same random splits into four fifths and one fifth.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.model_selection import ShuffleSplit

from brainrdl.dissimilarity.pairs import to_pairs, to_square
from brainrdl.rdm_models import ReweightedModel

N_CONDITIONS, N_CHANNELS, N_RELEVANT, NOISE, N_SPLITS, N_SETS = 92, 100, 10, 0.9, 5, 2


def problem(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Patterns, and the RDM of the channels that matter with noise of .9 times its spread, as a square."""
    rng = np.random.default_rng(seed)
    patterns = rng.normal(size=(N_CONDITIONS, N_CHANNELS))
    i, j = np.triu_indices(N_CONDITIONS, 1)
    clean = ((patterns[i, :N_RELEVANT] - patterns[j, :N_RELEVANT]) ** 2).mean(1)
    return patterns, to_square(torch.tensor(clean + NOISE * clean.std() * rng.normal(size=len(clean)))).numpy()


def ours(patterns: np.ndarray, square: np.ndarray, nonnegative: bool) -> float:
    """Mean correlation on the held-out conditions."""
    names, rdm = [str(k) for k in range(N_CONDITIONS)], torch.tensor(square)
    model, scores = ReweightedModel(torch.tensor(patterns), names, nonnegative=nonnegative), []
    for train, test in splitter().split(patterns):
        fitted = model.fit(to_pairs(rdm[train][:, train])[None], [names[k] for k in train])
        predicted = fitted.predict([names[k] for k in test])
        scores.append(np.corrcoef(predicted, to_pairs(rdm[test][:, test]))[0, 1])
    return float(np.mean(scores))


def splitter() -> ShuffleSplit:
    return ShuffleSplit(n_splits=N_SPLITS, test_size=1 / N_SPLITS, train_size=1 - 1 / N_SPLITS, random_state=1)


def theirs(patterns: np.ndarray, square: np.ndarray, nonnegative: bool) -> float:
    """Score of frrsa."""
    from frrsa.fitting.crossvalidation import frrsa

    options = {"cv": [N_SPLITS, 1], "score_type": "pearson", "random_state": 1}
    found = frrsa(square, patterns.T, False, nonnegative, ["sqeuclidean", "euclidean"], **options)
    return float((found[0] if isinstance(found, tuple) else found).iloc[0]["score"])


def timed(function: Callable[..., float], *arguments: object) -> tuple[float, float]:
    start = time.process_time()
    return function(*arguments), time.process_time() - start


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    has_peer = importlib.util.find_spec("frrsa") is not None
    print("| weights | brainrdl | s | frrsa | s |\n|---|---:|---:|---:|---:|")
    for name, nonnegative in (("any", False), ("at least 0", True)):
        sets = [problem(seed) for seed in range(N_SETS)]
        rows = [timed(ours, *one, nonnegative) + (timed(theirs, *one, nonnegative) if has_peer else ()) for one in sets]
        means = np.mean(rows, 0)
        print("|", name, "|", " | ".join(f"{x:.3f}" if k % 2 == 0 else f"{x:.1f}" for k, x in enumerate(means)), "|")


if __name__ == "__main__":
    main()
