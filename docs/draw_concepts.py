"""Draw the pictures of docs/concepts: ``python docs/draw_concepts.py [NAME ...]`` writes figures/concepts/NAME.png.

Every RDM, score and ceiling in them is computed by brainrdl from the data that are simulated below.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch, Rectangle

from brainrdl import RDMLoss, plot, rdms, rsa
from brainrdl.datasets import simulate_subjects
from brainrdl.dissimilarity import correlation, crossnobis, euclidean

FOLDER = Path(__file__).parent / "figures" / "concepts"
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.45"
NAMES = [f"{category} {k}" for category in ("face", "house", "tool") for k in (1, 2)]


def _patterns(seed: int, n_channels: int = 14, names: list[str] = NAMES, spread: float = 0.6) -> torch.Tensor:
    """Simulate patterns that are similar within a category."""
    random = torch.Generator().manual_seed(seed)
    kinds = {kind: torch.randn(n_channels, generator=random) for kind in dict.fromkeys(n.split()[0] for n in names)}
    return torch.stack([kinds[n.split()[0]] + spread * torch.randn(n_channels, generator=random) for n in names])


def _rdm(patterns: torch.Tensor, names: list[str] = NAMES) -> Any:
    return rdms.from_tensor(correlation(patterns)[None], names)


def _image(ax: Axes, rdm: Any, title: str) -> None:
    ax.imshow(rdm.get_matrices()[0], cmap="viridis", vmin=0, vmax=1.6)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=9)


def _arrow(figure: Figure, start: tuple[float, float], end: tuple[float, float], **style: Any) -> None:
    """Draw an arrow between two places of the figure, each from 0 to 1."""
    options = {"arrowstyle": "-|>", "mutation_scale": 12, "color": GREY, "linewidth": 1.3} | style
    figure.add_artist(FancyArrowPatch(start, end, transform=figure.transFigure, **options))


def _box(figure: Figure, x: float, y: float, width: float, height: float, text: str, colour: str = GREY) -> None:
    """Draw a box with text; x and y are its centre."""
    corner = (x - width / 2, y - height / 2)
    style = {"boxstyle": "round,pad=0,rounding_size=0.015", "facecolor": "white", "edgecolor": colour, "linewidth": 1.3}
    figure.add_artist(FancyBboxPatch(corner, width, height, transform=figure.transFigure, **style))
    figure.text(x, y, text, ha="center", va="center", fontsize=8.5)


def _frame(ax: Axes, corner: tuple[float, float], width: float) -> None:
    """Draw an orange frame, white inside and outside, so that it can be seen in grey."""
    for colour, linewidth in (("white", 4.5), (ORANGE, 2)):
        style = {"edgecolor": colour, "linewidth": linewidth, "fill": False, "clip_on": False, "zorder": 5}
        ax.add_patch(Rectangle(corner, width, 1, **style))


def rdm() -> Figure:
    """Patterns of two conditions give one cell of the RDM."""
    patterns = _patterns(3)
    found = _rdm(patterns)
    figure = plt.figure(figsize=(6.0, 2.8))
    left, right = figure.add_axes((0.11, 0.22, 0.4, 0.6)), figure.add_axes((0.65, 0.22, 0.279, 0.6))
    left.imshow(patterns, cmap="Greys", aspect="auto")
    left.set_yticks(range(6), NAMES, fontsize=8)
    left.set_xticks([])
    left.set_xlabel("channels: voxels, sensors or units", fontsize=8.5)
    left.set_title("Patterns", fontsize=9)
    right.imshow(found.get_matrices()[0], cmap="viridis", vmin=0)
    right.set_xticks(range(6), NAMES, rotation=90, fontsize=8)
    right.set_yticks(range(6), [])
    right.set_title("RDM", fontsize=9)
    for row in (0, 3):
        _frame(left, (-0.5, row - 0.5), 14)
    _frame(right, (2.5, -0.5), 1)
    value = found.get_matrices()[0, 0, 3]
    text = f"1 - correlation of two rows = {value:.2f}"
    figure.text(0.565, 0.97, text, color=ORANGE, fontsize=8.5, ha="center", va="top")
    right.tick_params(axis="x", length=2)
    left.tick_params(axis="y", length=2)
    _arrow(figure, (0.52, 0.7), (0.63, 0.7))
    return figure


def teacher() -> Figure:
    """Subjects are combined within a target, and targets are kept."""
    figure = plt.figure(figsize=(6.0, 3.1))
    for row, (region, seed) in enumerate((("V1", 11), ("IT", 3))):
        bottom = 0.54 - 0.47 * row
        shared = _patterns(seed, 40)
        measured = simulate_subjects(shared, NAMES, n_subjects=3, n_voxels=60, noise=1.2, roi=region, seed=seed)
        for k in range(3):
            ax = figure.add_axes((0.1 + 0.17 * k, bottom, 0.14, 0.29))
            _image(ax, measured.subset("subject", f"simulated-{k + 1:02d}"), f"subject {k + 1}" if row == 0 else "")
            if k == 0:
                ax.set_ylabel(region, fontsize=10)
        ax = figure.add_axes((0.78, bottom, 0.17, 0.35))
        _image(ax, measured.mean(), f"target {region}")
        _arrow(figure, (0.6, bottom + 0.15), (0.76, bottom + 0.15))
        figure.text(0.68, bottom + 0.19, "mean", ha="center", fontsize=8.5)
    return figure


def loss() -> Figure:
    """Each layer is compared with the target that it is matched with."""
    figure = plt.figure(figsize=(6.0, 3.1))
    figure.text(0.1, 0.95, "student", ha="center", fontsize=9.5, weight="bold")
    figure.text(0.83, 0.95, "teacher", ha="center", fontsize=9.5, weight="bold")
    for row, (layer, region, seed) in enumerate((("conv2", "V1", 11), ("conv4", "IT", 3))):
        bottom = 0.55 - 0.47 * row
        target = _patterns(seed, 40)
        patterns = target + 1.1 * torch.randn(target.shape, generator=torch.Generator().manual_seed(seed))
        value = RDMLoss()(patterns, correlation(target)).item()
        _box(figure, 0.1, bottom + 0.15, 0.13, 0.14, layer)
        _arrow(figure, (0.17, bottom + 0.15), (0.235, bottom + 0.15))
        _image(figure.add_axes((0.25, bottom, 0.16, 0.31)), _rdm(patterns), f"RDM of {layer}")
        _image(figure.add_axes((0.75, bottom, 0.16, 0.31)), _rdm(target), f"RDM of {region}")
        _arrow(figure, (0.425, bottom + 0.15), (0.735, bottom + 0.15), arrowstyle="<|-|>", color=ORANGE)
        figure.text(0.58, bottom + 0.2, f"1 - correlation = {value:.2f}", ha="center", fontsize=8.5, color=ORANGE)
        figure.text(0.58, bottom + 0.06, f"match: {layer} with {region}", ha="center", fontsize=8)
    _arrow(figure, (0.1, 0.3), (0.1, 0.61), arrowstyle="<|-")
    return figure


def held_out() -> Figure:
    """Pairs that are fitted, left out and scored."""
    fold = np.repeat(np.arange(4), 5)
    first = np.where(fold[:, None] == 0, 1, 0) + np.where(fold[None] == 0, 1, 0)  # 0 train, 1 mixed, 2 held out
    every = np.where(fold[:, None] == fold[None], 2, 1)
    figure, axes = plt.subplots(1, 2, figsize=(6.0, 3.3))
    colours = ListedColormap([BLUE, "0.88", ORANGE])
    for ax, cells, title in zip(
        axes, (first, every), ("Fold 1 is held out", "Scored in one of four folds"), strict=True
    ):
        values = np.ma.masked_where(np.eye(20, dtype=bool), cells)
        ax.imshow(values, cmap=colours, vmin=0, vmax=2)
        ax.set_xticks(np.arange(20) - 0.5, minor=True)
        ax.set_yticks(np.arange(20) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=0.8)
        ax.tick_params(which="both", length=0)
        ax.set_xticks([2, 7, 12, 17], [f"fold {k}" for k in (1, 2, 3, 4)], fontsize=8)
        ax.set_yticks([2, 7, 12, 17], [f"fold {k}" for k in (1, 2, 3, 4)], fontsize=8)
        ax.set_title(title, fontsize=9)
        for side in ax.spines.values():
            side.set_visible(False)
    pairs = first[np.triu_indices(20, 1)]
    n_fitted, n_unused, n_scored = np.bincount(pairs)
    shown = [
        Patch(color=BLUE, label=f"both in training: fitted ({n_fitted} pairs)"),
        Patch(color="0.88", label=f"one of each: not used ({n_unused})"),
        Patch(color=ORANGE, label=f"both held out: scored ({n_scored})"),
    ]
    figure.legend(handles=shown, loc="lower center", ncols=3, fontsize=7.5, frameon=False, handlelength=1)
    figure.subplots_adjust(left=0.08, right=0.99, top=0.92, bottom=0.17, wspace=0.2)
    return figure


def ceiling() -> Figure:
    """The true RDM as a model: it reaches the ceiling, not 1."""
    names = [f"{kind} {k}" for kind in ("face", "house", "tool", "animal", "plant") for k in range(6)]
    truth = _patterns(0, 30, names)
    measured = simulate_subjects(truth, names, n_subjects=10, n_voxels=60, noise=2.0)
    z_scored = (truth - truth.mean(0)) / truth.std(0)
    partly = z_scored + 1.0 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    other = torch.randn(truth.shape, generator=torch.Generator().manual_seed(2))
    models = {
        "the true RDM": _rdm(z_scored, names),
        "partly right": _rdm(partly, names),
        "unrelated": _rdm(other, names),
    }
    result = rsa(models, measured, comparators="corr")
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.0), layout="compressed")
    for ax, against in zip(axes, ("subjects", "mean"), strict=True):
        plot.model_bars(result, "corr", against, ax, differences="none")
        ax.set_xlim(-0.15, 1.05)
    return figure


def crossnobis_and_euclidean() -> Figure:
    """Distances of two equal and of two different patterns, for more and more noise."""
    generator, n_channels, n_repeats = torch.Generator().manual_seed(0), 30, 2000
    noises = np.linspace(0.0, 2.0, 9)
    figure, axes = plt.subplots(1, 2, figsize=(6.0, 2.8), layout="compressed", sharey=True)
    for ax, distance in zip(axes, (0.0, 1.0), strict=True):
        patterns = torch.zeros(2, n_channels)
        patterns[1] = distance**0.5  # squared distance per channel
        rows = {"euclidean": [], "crossnobis": []}
        for noise in noises:
            runs = patterns + noise * torch.randn(n_repeats, 4, 2, n_channels, generator=generator)
            rows["euclidean"].append(euclidean(runs.mean(1)).mean().item())
            rows["crossnobis"].append(crossnobis(runs).mean().item())
        ax.axhline(distance, color="black", linestyle=(0, (4, 3)), linewidth=1, label="true distance", zorder=3)
        ax.plot(noises, rows["euclidean"], color=ORANGE, marker="o", markersize=3.5, label="euclidean (squared)")
        ax.plot(noises, rows["crossnobis"], color=BLUE, marker="s", markersize=3.5, label="crossnobis")
        ax.set_title("Equal patterns" if not distance else "Different patterns", fontsize=9)
        ax.set_xlabel("noise (standard deviation of a run)", fontsize=8.5)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    axes[0].set_ylabel("mean distance per channel", fontsize=8.5)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def task_and_rdm() -> Figure:
    """Two losses of one network."""
    figure = plt.figure(figsize=(6.0, 2.9))
    target = _patterns(3, 40)
    patterns = target + 1.1 * torch.randn(target.shape, generator=torch.Generator().manual_seed(3))
    xs = {"images": 0.08, "early\nlayers": 0.25, "layer": 0.42, "output": 0.59}
    for (name, x), following in zip(xs.items(), [*list(xs.values())[1:], None], strict=True):
        _box(figure, x, 0.62, 0.12, 0.2, name)
        if following:
            _arrow(figure, (x + 0.065, 0.62), (following - 0.065, 0.62))
    _image(figure.add_axes((0.36, 0.04, 0.125, 0.26)), _rdm(patterns), "")
    _image(figure.add_axes((0.68, 0.04, 0.125, 0.26)), _rdm(target), "")
    figure.text(0.35, 0.17, "its RDM", ha="right", va="center", fontsize=8.5)
    figure.text(0.82, 0.17, "RDM of\nthe brain", ha="left", va="center", fontsize=8.5)
    _arrow(figure, (0.42, 0.51), (0.42, 0.32))
    _arrow(figure, (0.495, 0.17), (0.67, 0.17), arrowstyle="<|-|>", color=BLUE)
    figure.text(0.583, 0.21, "RDM loss", ha="center", fontsize=8.5, color=BLUE)
    _box(figure, 0.9, 0.62, 0.12, 0.2, "labels")
    _arrow(figure, (0.655, 0.62), (0.835, 0.62), arrowstyle="<|-|>", color=ORANGE)
    figure.text(0.745, 0.66, "task loss", ha="center", fontsize=8.5, color=ORANGE)
    figure.text(0.5, 0.9, "total loss = rdm_weight x RDM loss + task.weight x task loss", ha="center", fontsize=9)
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "rdm": rdm,
    "teacher": teacher,
    "loss": loss,
    "held_out": held_out,
    "ceiling": ceiling,
    "crossnobis": crossnobis_and_euclidean,
    "task_and_rdm": task_and_rdm,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"pictures to draw (default: all of {', '.join(PICTURES)})")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args().names or PICTURES:
        figure = PICTURES[name]()
        figure.savefig(FOLDER / f"{name}.png", dpi=170, facecolor="white")
        plt.close(figure)


if __name__ == "__main__":
    main()
