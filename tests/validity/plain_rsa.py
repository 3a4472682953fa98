"""Type-I errors of plain RSA's tests: ``python tests/validity/plain_rsa.py --sets 300``.

- `ceiling`: the model is the mean RDM of n - 1 other subjects of the same population, so it predicts a subject exactly
  as well as the mean of the other n - 1 subjects does, the hypothesis of p_ceiling.
- `layers`: 10 layers that are noise; the best layer, chosen and scored on different data, has a true score of 0.
- `groups`: two groups of subjects of the same population.

Stimuli have effects (their patterns differ in size), so that pairs with a stimulus in common are correlated.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from brainrdl.analysis.best_layers import best_layers
from brainrdl.analysis.comparisons import Sampling, TargetRDMs, compare_all
from brainrdl.analysis.group_differences import group_differences
from brainrdl.analysis.model_sources import ModelRDM
from brainrdl.evaluation.scores import TeacherRDMs


def rdms_of(n_stimuli: int, n: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    """RDMs of n subjects: squared distances of shared patterns plus noise patterns of each subject."""
    shared = rng.normal(size=(n_stimuli, 12)) * np.exp(0.3 * rng.normal(size=(n_stimuli, 1)))
    i, j = np.triu_indices(n_stimuli, 1)
    patterns = shared + noise * rng.normal(size=(n, n_stimuli, 12))
    return np.square(patterns[:, i] - patterns[:, j]).mean(-1)


def target_of(subjects: np.ndarray, models: np.ndarray, n_stimuli: int) -> TargetRDMs:
    names = tuple(map(str, range(n_stimuli)))
    rows = [ModelRDM("net", f"layer{k}", names, torch.tensor(one)[None]) for k, one in enumerate(models)]
    who = tuple(map(str, range(len(subjects))))
    return TargetRDMs.of(TeacherRDMs("IT", names, who, torch.tensor(subjects)), rows)


def p_values(kind: str, n_stimuli: int, n: int, comparator: str, rng: np.random.Generator) -> float:
    if kind == "ceiling":
        everybody = rdms_of(n_stimuli, 2 * n - 1, 1.0, rng)
        target = target_of(everybody[:n], everybody[n:].mean(0)[None], n_stimuli)
        table = compare_all([target], [comparator], False, Sampling(), "none")[0]
        return float(table.query("against == 'subjects'")["p_ceiling"].iloc[0])
    if kind == "layers":
        models = np.concatenate([rdms_of(n_stimuli, 1, 0.0, rng) for _ in range(10)])
        target = target_of(rdms_of(n_stimuli, n, 1.0, rng), models, n_stimuli)
        return float(best_layers([target], [comparator])["p"].iloc[0])
    everybody = rdms_of(n_stimuli, n, 1.0, rng)
    model = everybody.mean(0) + everybody.std() * rng.normal(size=everybody.shape[1])
    groups = {str(s): "first" if s < n // 2 else "second" for s in range(n)}
    return float(group_differences([target_of(everybody, model[None], n_stimuli)], [comparator], groups)["p"].iloc[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=300)
    sets = parser.parse_args().sets
    torch.set_num_threads(1)
    for kind in ("ceiling", "layers", "groups"):
        for n_stimuli, n in ((24, 6), (48, 12)):
            for comparator in ("corr", "spearman"):
                rng = np.random.default_rng(0)
                p = np.array([p_values(kind, n_stimuli, n, comparator, rng) for _ in range(sets)])
                print(
                    f"{kind:8s} {n_stimuli} stimuli, {n} subjects, {comparator:8s}: {np.mean(p < 0.05):.3f}", flush=True
                )


if __name__ == "__main__":
    main()
