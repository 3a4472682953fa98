"""From raw fMRI to an RDM: Haxby et al. 2001, one subject, eight categories, twelve runs.

BOLD and what was shown -> a first-level model of each run -> betas and residuals -> crossnobis RDM with multivariate
noise normalisation; then what can be trusted in it: the RDM of odd runs against that of even runs, and whether a
category's pattern in odd runs finds its own in even runs.

    python docs/examples/haxby.py --out runs/haxby

The data (1 MB, doi 10.1126/science.1063736) are those of `brainrdl data fetch haxby2001` and are downloaded if they are
not there: one slice. `--openfmri` adds the brain at 25 mm, from the folder mvpa2/data/openfmri of PyMVPA's repository.
Needs the extra `fmri`.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from brainrdl import calc_rdm, datasets, plot, read
from brainrdl.evaluation.comparison import compare
from brainrdl.rdms.by_name import select

if TYPE_CHECKING:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import RDMs

ORDER = ("face", "cat", "house", "bottle", "chair", "scissors", "shoe", "scrambledpix")


def load_slice(folder: Path, **options: object) -> Dataset:
    """One slice, all runs in one file, with the category and run of each volume in a table."""
    return read(folder / "bold.nii.gz", table=folder / "attributes_literal.txt", mask=folder / "mask.nii.gz", **options)


def load_brain(openfmri: Path, **options: object) -> Dataset:
    """The brain at 25 mm, a file a run with its events and motion beside it, in folders of OpenfMRI's kind."""
    subject = openfmri / "sub001"
    return read(
        subject / "BOLD", reader="bold", runs="*/bold_25mm.nii.gz", events="bold_events.tsv",
        confounds="bold_moest.txt", mask=subject / "masks" / "25mm" / "brain.nii.gz", **options,
    )  # fmt: skip


def crossnobis(data: Dataset) -> RDMs:
    """Cross-validated distances between categories, noise-normalised with the residuals of the first-level model."""
    return calc_rdm(data, "crossnobis", noise="shrinkage_eye")


def halves(data: Dataset) -> tuple[Dataset, Dataset]:
    """Odd and even runs; the noise is estimated from the residuals of all."""
    runs = list(dict.fromkeys(data.obs_descriptors["run"]))
    return data.subset_obs("run", runs[::2]), data.subset_obs("run", runs[1::2])


def split_half(data: Dataset) -> pd.DataFrame:
    """Agreement of the RDM of odd runs with that of even runs."""
    return compare(*map(crossnobis, halves(data)), comparators=("corr", "spearman"))


def identification(data: Dataset) -> pd.DataFrame:
    """For each category: correlation of its patterns in odd and even runs, and how often it beats another category's.

    As in the paper: patterns are averaged over runs, and the mean over categories is taken off in each half.
    """
    correlation = between_halves(data)
    same = correlation.to_numpy().diagonal()
    wins = (same[:, None] > correlation) & ~np.eye(len(same), dtype=bool)
    return pd.DataFrame(
        {
            "same category": same,
            "other categories": (correlation.sum(axis=1) - same) / (len(same) - 1),
            "pairs identified": wins.sum(axis=1) / (len(same) - 1),
        },
        index=correlation.index,
    )


def between_halves(data: Dataset) -> pd.DataFrame:
    """Correlation of each category's pattern in odd runs (rows) with each one's in even runs (columns)."""
    patterns = []
    for half in halves(data):
        of_category = pd.DataFrame(half.measurements).groupby(list(half.obs_descriptors["stimulus"])).mean()
        patterns.append(of_category - of_category.mean())
    n = len(patterns[0])
    return pd.DataFrame(np.corrcoef(*patterns)[:n, n:], index=patterns[0].index, columns=patterns[1].index)


def permutation_p(data: Dataset) -> float:
    """Share of all assignments of even to odd categories with a mean correlation at least that of the true one."""
    correlation = between_halves(data).to_numpy()
    rows = np.arange(len(correlation))
    orders = np.array(list(itertools.permutations(rows)))
    return float((correlation[rows, orders].mean(axis=1) >= correlation[rows, rows].mean() - 1e-12).mean())


def draw(rdms: dict[str, RDMs], file: Path) -> None:
    """The RDMs side by side, each in its own unit."""
    figure, axes = plt.subplots(1, len(rdms), figsize=(5 * len(rdms), 4.4), layout="constrained", squeeze=False)
    for ax, (title, rdm) in zip(axes[0], rdms.items(), strict=True):
        plot.rdm(select(rdm, ORDER), ax, title=title)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=200)
    plt.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openfmri", type=Path, help="folder of PyMVPA's excerpt at 25 mm")
    parser.add_argument("--out", type=Path, default=Path("runs/haxby"))
    words = parser.parse_args()
    words.out.mkdir(parents=True, exist_ok=True)
    excerpts = {"one slice": load_slice(datasets.fetch("haxby2001"))}
    if words.openfmri:
        excerpts["brain at 25 mm"] = load_brain(words.openfmri)
    rdms = {}
    for name, data in excerpts.items():
        rdms[name] = crossnobis(data)
        rdms[name].save(str(words.out / f"{name.replace(' ', '_')}.h5"), file_type="hdf5", overwrite=True)
        found = identification(data)
        print(f"\n{name}: {data.n_obs} patterns of {data.n_channel} voxels")
        print(split_half(data)[["comparator", "similarity", "n_pairs"]].round(3).to_string(index=False))
        print(pd.concat([found, found.mean().to_frame("mean").T]).round(2).to_string())
        print(f"permutation test of the mean correlation within categories: p = {permutation_p(data):.5f}")
    draw(rdms, words.out / "figures" / "haxby_rdms.png")


if __name__ == "__main__":
    main()
