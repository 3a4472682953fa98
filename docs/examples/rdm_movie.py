"""The figure and the numbers of docs/how_to/rdm_movie.md: ``python docs/examples/rdm_movie.py --out docs/figures``.

Twelve simulated subjects saw 24 images. 30 noisy sensors show the geometry of an early layer around 0.1 s and that of a
late layer around 0.18 s.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rsatoolbox.data import TemporalDataset
from rsatoolbox.rdm.rdms import RDMs

import brainrdl
from brainrdl import plot
from brainrdl.inference import cluster_test, cross_temporal, score_movie

N_SUBJECTS, N_IMAGES, N_SENSORS, N_REPEATS = 12, 24, 30, 4
TIMES = np.round(np.arange(-0.1, 0.4, 0.01), 2)
IMAGES = [f"image_{k:02d}" for k in range(N_IMAGES)]


def simulated(seed: int = 0) -> tuple[RDMs, list[TemporalDataset]]:
    """RDMs of two layers, and the measurements of each subject."""
    rng = np.random.default_rng(seed)
    layers = {"early": rng.normal(size=(N_IMAGES, 8)), "late": rng.normal(size=(N_IMAGES, 8))}
    distances = np.stack([_squared(patterns) for patterns in layers.values()])
    models = brainrdl.rdms.from_array(distances, IMAGES, descriptors={"layer": list(layers)})
    strength = {"early": np.exp(-(((TIMES - 0.10) / 0.03) ** 2)), "late": np.exp(-(((TIMES - 0.18) / 0.05) ** 2))}
    subjects = []
    for s in range(N_SUBJECTS):
        signal = sum(
            (layers[name] @ rng.normal(size=(8, N_SENSORS)) / 8**0.5)[:, :, None] * strength[name] for name in layers
        )
        trials = np.concatenate([signal + 1.5 * rng.normal(size=signal.shape) for _ in range(N_REPEATS)])
        names = {"stimulus": IMAGES * N_REPEATS, "run": np.repeat(np.arange(N_REPEATS), N_IMAGES)}
        described = {"descriptors": {"subject": f"s{s + 1:02d}"}, "obs_descriptors": names}
        subjects.append(TemporalDataset(trials, time_descriptors={"time": TIMES}, **described))
    return models, subjects


def _squared(patterns: np.ndarray) -> np.ndarray:
    i, j = np.triu_indices(len(patterns), 1)
    return ((patterns[i] - patterns[j]) ** 2).sum(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the figure")
    out = parser.parse_args().out
    models, subjects = simulated()
    windows = [(t - 0.01, t + 0.01) for t in TIMES[1:-1]]
    movie = brainrdl.calc_rdm(subjects, "crossnobis", noise="shrinkage_diag", windows=windows)
    courses = score_movie(models, movie)
    clusters = {layer: courses.clusters(layer) for layer in courses.models}
    for layer, test in clusters.items():
        print(layer, test.clusters[["start", "end", "size", "mass", "p"]].round(4).to_string())
    print(courses.clusters("late", "early").clusters[["sign", "start", "end", "p"]].round(4).to_string())
    for kind in ("onset", "peak"):
        print(courses.latencies(kind, window=(0.0, 0.3)).round(4).to_string())
    peak = courses.summary.sort_values("score").groupby("model").last()
    print(peak.round(3).to_string())
    crossed = cross_temporal(movie)
    test = cluster_test(crossed.similarities, tail="greater")
    print(test.clusters.round(4).to_string())
    figure = Figure(figsize=(9.0, 3.6), layout="compressed")
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    plot.time_course(courses, left, clusters=clusters)
    plot.time_by_time(crossed.times, crossed.similarities.mean(0), right, significant=test.p < 0.05)
    figure.savefig(out / "rdm_movie.png", dpi=130)


if __name__ == "__main__":
    main()
