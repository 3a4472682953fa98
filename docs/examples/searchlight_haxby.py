"""A searchlight in Haxby et al. 2001: where in a slice do patterns separate animate from inanimate categories?

BOLD -> a first-level model of each run (docs/examples/haxby.py) -> around each voxel, the crossnobis RDM of the eight
categories over twelve runs with the noise covariance of that disc -> similarity to model RDMs, tested by permuting the
categories, with the largest score of all discs.

    python docs/examples/searchlight_haxby.py --out runs/searchlight_haxby --figures docs/figures

Needs the extra `fmri`.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import nibabel
import numpy as np
import pandas as pd
from haxby import load_slice

from brainrdl import calc_rdm, datasets, plot, searchlight
from brainrdl.rdms import from_array
from brainrdl.searchlights import volume_neighbourhoods

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

    from brainrdl.searchlights import SearchlightMap

NAMES = ("face", "cat", "house", "bottle", "chair", "scissors", "shoe", "scrambledpix")
ANIMATE = ("face", "cat")
RADIUS = 12.0  # mm, chosen before looking at results
NOISE = "shrinkage_eye"


def model_of(different: Any, names: tuple[str, ...] = NAMES) -> RDMs:
    """RDM that is 1 where two categories differ in something, and 0 elsewhere."""
    kinds = [different(name) for name in names]
    return from_array([float(a != b) for a, b in itertools.combinations(kinds, 2)], names)


MODELS = {
    "animate": model_of(lambda name: name in ANIMATE),
    "scrambled": model_of(lambda name: name == "scrambledpix"),
}


def distance_map(found: SearchlightMap) -> np.ndarray:
    """Mean crossnobis distance of all pairs of categories in each disc: above 0 if the patterns differ."""
    values = np.full(len(found.values), np.nan)
    values[found.rdms.rdm_descriptors["centre"]] = found.rdms.dissimilarities.mean(axis=1)
    return values


def shuffled_maxima(data: Any, near: Any, n: int) -> np.ndarray:
    """Largest mean distance of all discs, of data in which the names of the categories were shuffled in each run."""
    generator = np.random.default_rng(0)
    names, runs = (np.array(data.obs_descriptors[key]) for key in ("stimulus", "run"))
    maxima = []
    for _ in range(n):
        shuffled = names.copy()
        for run in np.unique(runs):
            shuffled[runs == run] = generator.permutation(names[runs == run])
        found = searchlight(data, near, by=list(shuffled), dissimilarity="crossnobis", noise="diag", keep_rdms=True)
        maxima.append(np.nanmax(distance_map(found)))
    return np.array(maxima)


def permutation_p(found: SearchlightMap, model: str) -> tuple[float, int]:
    """p-value of the largest score, from all orders of the categories; also the number of different RDMs of the model.

    The discs keep their RDMs and only the names of the model's categories change, so the largest score over discs
    corrects for their number and their overlap.
    """
    rdms = found.rdms.dissimilarities
    names = tuple(found.rdms.pattern_descriptors["stimulus"])
    square = MODELS[model].get_matrices()[0]
    own = [NAMES.index(name) for name in names]
    first, second = np.triu_indices(len(names), 1)
    orders = np.array(list(itertools.permutations(own)))
    different, counts = np.unique(square[orders[:, first], orders[:, second]], axis=0, return_counts=True)
    scores = standardised(rdms) @ standardised(different).T
    at_least = np.nanmax(found.scores[model]) - 1e-9
    return float(counts[scores.max(axis=0) >= at_least].sum() / counts.sum()), len(different)


def standardised(rows: np.ndarray) -> np.ndarray:
    """Rows with mean 0 and length 1, whose products are correlations."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def check_disc(data: Any, found: SearchlightMap, centre: int) -> float:
    """Largest difference between the RDM of a disc and that of `calc_rdm` for its voxels alone."""
    places = {
        voxel: column for column, voxel in enumerate(zip(*(data.channel_descriptors[k] for k in "ijk"), strict=True))
    }
    voxels = zip(*(found.neighbourhoods.labels[k] for k in "ijk"), strict=True)
    columns = [places.get(voxel) for voxel in voxels]
    inside = [columns[k] for k in found.neighbourhoods.channels_of(centre) if columns[k] is not None]
    part = data.copy()
    part.measurements = data.measurements[:, inside]
    part.n_channel = len(inside)
    part.channel_descriptors = {key: np.asarray(value)[inside] for key, value in data.channel_descriptors.items()}
    expected = calc_rdm(part, "crossnobis", noise=NOISE)
    row = found.rdms.rdm_descriptors["centre"].index(centre)
    return float(np.abs(expected.dissimilarities - found.rdms.dissimilarities[row]).max())


def draw(found: SearchlightMap, file: Path) -> None:
    """The mean distance and the score of each model."""
    figure = plt.figure(figsize=(8.4, 2.2), layout="compressed")
    panels = figure.subfigures(1, 1 + len(MODELS))
    plot.brain_slices(image_of(found, distance_map(found)), figure=panels[0])
    panels[0].axes[-1].set_ylabel("mean crossnobis\ndistance / channel")
    for panel, model in zip(panels[1:], MODELS, strict=True):
        plot.brain_slices(found, model, figure=panel)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=160, bbox_inches="tight")
    plt.close(figure)


def image_of(found: SearchlightMap, values: np.ndarray) -> nibabel.Nifti1Image:
    """The values of the discs as an image, NaN elsewhere."""
    image = found.image(next(iter(MODELS)))
    volume = np.full(image.shape, np.nan)
    volume[tuple(found.neighbourhoods.centres[axis] for axis in "ijk")] = values
    return nibabel.Nifti1Image(volume, image.affine)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/searchlight_haxby"))
    parser.add_argument("--figures", type=Path, help="folder of the figure (default: in OUT)")
    words = parser.parse_args()
    out = words.out
    folder = datasets.fetch("haxby2001")
    data = load_slice(folder)
    near = volume_neighbourhoods(folder / "mask.nii.gz", RADIUS)
    start = time.process_time()
    found = searchlight(data, near, MODELS, dissimilarity="crossnobis", noise=NOISE, keep_rdms=True)
    seconds = time.process_time() - start
    sizes = [len(near.channels_of(k)) for k in range(len(near.centres))]
    print(f"{len(near.centres)} discs of {min(sizes)} to {max(sizes)} voxels (median {np.median(sizes):.0f})")
    print(f"processor time {seconds:.2f} s, {1000 * seconds / len(sizes):.1f} ms per disc")
    print("left out:", "; ".join(found.notes) or "nothing")
    centre = int(np.nanargmax(found.scores["animate"]))
    print(f"largest difference from calc_rdm in the disc of the peak: {check_disc(data, found, centre):.0e}")
    distances = distance_map(found)
    print(f"mean distance above 0 in {np.mean(distances[np.isfinite(distances)] > 0):.0%} of discs")
    univariate = distance_map(searchlight(data, near, dissimilarity="crossnobis", noise="diag", keep_rdms=True))
    maxima = shuffled_maxima(data, near, 199)
    p = np.mean(np.append(maxima, np.inf) >= np.nanmax(univariate))
    above = np.mean(univariate > np.quantile(maxima, 0.95))
    print(
        f"univariate noise: largest mean distance {np.nanmax(univariate):.3f}, p = {p:.3f}; in {above:.0%} of discs "
        "it is above the 95 % quantile of the largest"
    )
    rows = []
    for model in MODELS:
        p, n = permutation_p(found, model)
        peak = found.peaks(model, 1).loc[0]
        rows.append(
            {"model": model, "largest": peak[model], "i": peak.i, "j": peak.j, "p": p, "orders": n}
            | {"median": found.scores[model].median()}
        )
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    found.save(out, overwrite=True)
    draw(found, (words.figures or out / "figures") / "searchlight_haxby.png")


if __name__ == "__main__":
    main()
