"""Time `searchlight` beside rsatoolbox on the same spheres; prints a Markdown table of ratios of processor time.

The two take turns, each with one thread; a row gives the medians of the rounds. For crossnobis, rsatoolbox has no
searchlight, so its `prec_from_residuals` and `calc_rdm` are called for each sphere, as its documentation of the
searchlight does for other dissimilarities.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rsatoolbox.data import Dataset
from rsatoolbox.data.noise import prec_from_residuals
from rsatoolbox.inference import eval_fixed
from rsatoolbox.model import ModelFixed
from rsatoolbox.rdm import calc_rdm as rsatoolbox_rdm
from rsatoolbox.util.searchlight import evaluate_models_searchlight, get_searchlight_RDMs, get_volume_searchlight

from brainrdl import rdms, searchlight
from brainrdl.searchlights import Neighbourhoods, volume_neighbourhoods

SIDE = 18


def spheres(radius: float, n: int) -> tuple[Neighbourhoods, Any, Any]:
    """The first whole spheres of a cube, for both packages."""
    whole = np.ones((SIDE,) * 3)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        numbers, near = get_volume_searchlight(whole, radius=radius, threshold=1.0)
    largest = max(map(len, near))
    chosen = [k for k in range(len(numbers)) if len(near[k]) == largest][:n]
    centres = np.zeros(SIDE**3)
    centres[numbers[chosen]] = 1
    found = volume_neighbourhoods(whole, radius - 1e-3, affine=np.eye(4), centres=centres.reshape(whole.shape))
    return found, numbers[chosen], [near[k] for k in chosen]


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    with contextlib.redirect_stderr(io.StringIO()):
        found = function()
    return time.process_time() - start, found


def row(title: str, ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int, scale: float = 1.0) -> str:
    """`scale` is how many times more spheres ours computes than theirs."""
    ours()
    found = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    mine, other = ([pair[side][0] for pair in found] for side in (0, 1))
    ratio = statistics.median(b * scale / a for a, b in zip(mine, other, strict=True))
    a, b = found[0][0][1], found[0][1][1]
    largest = float(np.abs(np.asarray(a)[: len(b)] - np.asarray(b)).max())
    ms, others_ms = (1000 * statistics.median(column) for column in (mine, other))
    return f"| {title} | {ms:.0f} | {others_ms * scale:.0f} | {ratio:.0f} | {largest:.0e} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spheres", type=int, default=1000)
    words = parser.parse_args()
    print("| searchlight | brainrdl (ms) | rsatoolbox (ms) | rsatoolbox / brainrdl | largest difference |")
    print("|---|---:|---:|---:|---:|")
    for method, n_conditions, radius in (
        ("correlation", 8, 3.1),
        ("correlation", 92, 3.1),
        ("correlation", 92, 4.1),
        ("euclidean", 92, 3.1),
    ):
        print(models(method, n_conditions, radius, words.spheres, words.rounds), flush=True)
    for n_conditions, n_runs, radius in ((8, 12, 3.1), (24, 8, 3.1)):
        print(crossnobis(n_conditions, n_runs, radius, words.spheres, words.rounds), flush=True)


def models(method: str, n_conditions: int, radius: float, n_spheres: int, rounds: int) -> str:
    """RDMs and their comparison with one model."""
    near, numbers, theirs = spheres(radius, n_spheres)
    generator = np.random.default_rng(0)
    names = [f"{k:03d}" for k in range(n_conditions)]
    data = generator.normal(size=(n_conditions, SIDE**3))
    model = rdms.from_array(generator.random(n_conditions * (n_conditions - 1) // 2), names)
    fixed = ModelFixed("model", model.dissimilarities[0])

    def peer() -> list[float]:
        found = get_searchlight_RDMs(data, numbers, theirs, np.arange(n_conditions), method, verbose=False)
        results = evaluate_models_searchlight(found, fixed, eval_fixed, method="corr", n_jobs=1)
        return [float(result.evaluations.ravel()[0]) for result in results]

    def ours() -> np.ndarray:
        return searchlight(data, near, {"m": model}, by=names, dissimilarity=method, progress=False).values[:, 0]

    title = f"{method} and a model, {len(numbers)} spheres of {len(theirs[0])} voxels, {n_conditions} conditions"
    return row(title, ours, peer, rounds)


def crossnobis(n_conditions: int, n_runs: int, radius: float, n_spheres: int, rounds: int) -> str:
    near, numbers, theirs = spheres(radius, n_spheres)
    generator = np.random.default_rng(1)
    names = [f"{k:03d}" for k in range(n_conditions)] * n_runs
    runs = np.repeat(np.arange(n_runs), n_conditions)
    values = generator.normal(size=(len(names), SIDE**3))
    residuals = generator.normal(size=(SIDE**3, 300))
    data = Dataset(
        values,
        obs_descriptors={"stimulus": names, "run": runs},
        channel_descriptors={"residuals": residuals},
        descriptors={"residual_dof": 290},
    )
    few = 20

    def loop() -> np.ndarray:
        found = []
        for channels in theirs[:few]:
            part = Dataset(values[:, channels], obs_descriptors={"stimulus": names, "run": runs})
            precision = prec_from_residuals(residuals[channels].T, dof=290, method="shrinkage_eye")
            rdm = rsatoolbox_rdm(part, "crossnobis", descriptor="stimulus", cv_descriptor="run", noise=precision)
            found.append(rdm.dissimilarities[0])
        return np.array(found)

    def ours() -> np.ndarray:
        found = searchlight(
            data, near, dissimilarity="crossnobis", noise="shrinkage_eye", keep_rdms=True, progress=False
        )
        assert found.rdms is not None
        return found.rdms.dissimilarities

    title = (
        f"crossnobis, local noise of 300 residuals, {len(numbers)} spheres of {len(theirs[0])} voxels, {n_conditions} "
        f"conditions x {n_runs} runs"
    )
    return row(title, ours, loop, rounds, len(numbers) / few)


if __name__ == "__main__":
    main()
