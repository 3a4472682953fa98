"""Is my network closer to IT than to EVC? Plain RSA of the layers of a network with two regions of fifteen subjects.

The data are fMRI RDMs of early visual cortex (EVC) and inferior temporal cortex (IT) of 15 subjects who saw 92 images
of objects (Cichy et al. 2014, doi 10.1038/nn.3635; those of `brainrdl data fetch algonauts92`). The network is
EfficientNet-Lite0 (ImageNet weights from its package, extra `demo`), read out at eight places. Nothing is fitted.

    python docs/examples/closer_to_it.py --out runs/closer_to_it

One processor core needs about a minute, most of it for the responses of the network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from brainrdl import RSAResult, Student, datasets, rdms, rsa
from brainrdl.dissimilarity import correlation
from brainrdl.models.networks import build
from brainrdl.stimuli.transforms import default_transform

LAYERS = tuple(f"_blocks.{block}" for block in (0, 2, 4, 6, 8, 10, 12, 15))
IMAGENET_SCALE = (127 / 255, 128 / 255)  # mean and standard deviation that the network expects
COLOURS = {"IT": "#c44e52", "EVC": "#4c72b0"}


def analyse(size: int) -> RSAResult:
    """Compare all layers, and the pixels, with IT and EVC."""
    data = datasets.load("algonauts92")
    brain = rdms.concat([data.rdms.subset("roi", region) for region in ("IT", "EVC")])  # so differences are IT - EVC
    images = data.stimuli.with_transform(default_transform(size, IMAGENET_SCALE))
    pixels = rdms.from_tensor(correlation(images.images().flatten(1))[None], images.names)
    network = Student(build("efficientnet_lite0", "imagenet").module, LAYERS, trainable="none")
    return rsa({"network": network, "pixels": pixels}, brain, stimuli=images, comparators="spearman")


def scores(result: RSAResult) -> pd.DataFrame:
    """Mean scores with single subjects, in the order of the layers; the pixels come last."""
    return result.summary.query("against == 'subjects'")


def differences(result: RSAResult) -> pd.DataFrame:
    """IT minus EVC of each layer."""
    return result.contrasts.query("family == 'targets' and against == 'subjects'")


def _labels(table: pd.DataFrame) -> list[str]:
    return [
        layer.replace("_blocks.", "block ") if layer else model
        for model, layer in zip(table["model"], table["layer"], strict=True)
    ]


def draw_scores(ax: Axes, table: pd.DataFrame) -> None:
    """Scores of both regions with intervals and the ceilings for single subjects."""
    for shift, (region, rows) in zip((-0.1, 0.1), table.groupby("target", sort=False), strict=True):
        x = [k + shift for k in range(len(rows))]
        around = [rows["score"] - rows["low"], rows["high"] - rows["score"]]
        ax.errorbar(x, rows["score"], around, fmt="o", color=COLOURS[region], capsize=2, label=region)
        ceiling = rows["ceiling"].iloc[0]
        ax.axhline(ceiling, color=COLOURS[region], linestyle="--", linewidth=1, label=f"ceiling of {region}")
    ax.set_ylabel("Spearman correlation, mean of 15 subjects")


def draw_differences(ax: Axes, table: pd.DataFrame) -> None:
    """Differences with intervals; filled if significant after correction."""
    around = [table["difference"] - table["low"], table["high"] - table["difference"]]
    x = range(len(table))
    ax.errorbar(x, table["difference"], around, fmt="none", color="0.3", capsize=2)
    faces = ["0.3" if p < 0.05 else "white" for p in table["p_corrected"]]
    ax.scatter(x, table["difference"], c=faces, edgecolors="0.3", zorder=3)
    ax.set_ylabel("IT minus EVC")


def draw(result: RSAResult) -> plt.Figure:
    """Scores on the left, differences between the regions on the right."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    draw_scores(axes[0], scores(result))
    draw_differences(axes[1], differences(result))
    for ax in axes:
        ax.axhline(0, color="0.7", linewidth=0.8)
        ax.set_xticks(range(len(LAYERS) + 1), _labels(differences(result)), rotation=45, ha="right")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize="small", ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/closer_to_it"))
    parser.add_argument("--size", type=int, default=224, help="pixels of the images")
    words = parser.parse_args()
    result = analyse(words.size)
    result.save(words.out)
    draw(result).savefig(words.out / "closer_to_it.png", dpi=150)
    shown = ["model", "layer", "target", "score", "low", "high", "p_corrected", "ceiling", "share", "p_ceiling"]
    print(scores(result)[shown].round(3).to_string(index=False))
    print(
        differences(result)[["model", "layer", "difference", "low", "high", "p_corrected"]]
        .round(3)
        .to_string(index=False)
    )
    print(result.best_layers.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
