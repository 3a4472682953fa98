"""The main job: a pretrained network is fitted to the human IT RDM of 92 images, and scored on held-out images.

Human IT is the mean of 4 subjects x 2 sessions (Kriegeskorte et al. 2008, doi 10.1016/j.neuron.2008.10.043). The
student is EfficientNet-Lite0 (ImageNet weights from its package, extra `demo`), read out at blocks 11 to 15. Five folds
of the images, stratified by six categories, three fold seeds; the number of steps comes from inner folds (projection)
or from a validation part of each training fold (all weights). Nothing is chosen on held-out images.

    python docs/examples/human_it.py --out runs/human_it

The data (5 MB) are those of `brainrdl data fetch kriegeskorte92` and are downloaded if they are not there. The same
student as a recipe, after `--prepare`: docs/examples/human_it.yaml.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from brainrdl import RDMTeacher, Readout, Stimuli, Student, cross_validate, datasets, plot, report
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.evaluation.plan import Candidate
from brainrdl.models.networks import build
from brainrdl.rdms.conversion import from_tensor
from brainrdl.reporting.page import figures
from brainrdl.stimuli.categories import different_category
from brainrdl.stimuli.transforms import default_transform

BLOCKS = "+".join(f"_blocks.{block}" for block in range(11, 16))


def load(size: int) -> tuple[Stimuli, RDMTeacher]:
    """The images at `size` pixels, scaled as the network expects, and the teacher."""
    data = datasets.load("kriegeskorte92")
    teacher = RDMTeacher(data.rdms.subset("roi", "hIT"), name="human IT", average_over="session")
    transform = default_transform(size, (127 / 255, 128 / 255))
    return data.stimuli.with_transform(transform).align(teacher.conditions).cached(), teacher


def prepare(folder: Path) -> None:
    """Write images, categories and human IT as files for the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    data = datasets.load("kriegeskorte92")
    names = data.stimuli.names
    pixels = data.stimuli.images().mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    labels = [data.stimuli.labels[name] for name in names]
    np.savez(folder / "stimuli.npz", images=pixels, names=names, labels=labels)
    data.rdms.subset("roi", "hIT").save(str(folder / "human_it.h5"), file_type="hdf5", overwrite=True)


def projection(weights: str | None = "imagenet") -> Student:
    """Only a linear map of the blocks' channels trains, from the identity on."""
    readout = Readout("avgpool", standardise=True, projection="square")
    network = build("efficientnet_lite0", weights).module
    return Student(network, [BLOCKS], readout=readout, trainable="projection")


def untrained() -> Student:
    """The same with random weights."""
    return projection(weights=None)


def all_weights() -> Student:
    """Every weight of the network trains, no map is added."""
    network = build("efficientnet_lite0", "imagenet").module.to(memory_format=torch.channels_last)  # faster
    return Student(network, [BLOCKS], readout=Readout("avgpool", standardise=True), trainable="all")


def animacy(stimuli: Stimuli) -> dict[str, object]:
    """Model RDM: 0 for two animate or two inanimate objects, 1 for one of each."""
    kind = {name: str(not category.endswith("object")) for name, category in (stimuli.labels or {}).items()}
    return {"animacy": from_tensor(different_category(stimuli.names, kind)[None], stimuli.names)}


def fit_projection(out: Path, size: int, seeds: tuple[int, ...]) -> Evaluation:
    """Projection with all controls, and the untrained network."""
    stimuli, teacher = load(size)
    steps = {"optimizer": "momentum", "lr": 0.2, "steps": 30, "evaluate_every": 1}
    students = {
        "projection": Candidate(projection),
        "untrained network": Candidate(untrained, {"steps": 0}, controls=(), inner_folds=0),
    }
    return cross_validate(
        students, teacher, stimuli, folds=5, seeds=seeds, inner_folds=4, models=animacy(stimuli),
        out=out / "projection", resume=True, **steps,
    )  # fmt: skip


def fit_all_weights(out: Path, size: int, seeds: tuple[int, ...]) -> Evaluation:
    """All weights; early stopping on a fifth of each training fold."""
    stimuli, teacher = load(size)
    steps = {"lr": 3e-4, "steps": 24, "evaluate_every": 4, "validation": 0.2, "patience": 3}
    return cross_validate(
        {"all weights": all_weights}, teacher, stimuli, folds=5, seeds=seeds, controls=("unfitted", "category"),
        models=animacy(stimuli), out=out / "all_weights", resume=True, **steps,
    )  # fmt: skip


def table(summary: pd.DataFrame) -> pd.DataFrame:
    """One row per student or model: Spearman correlations with 95 % intervals, and gains over the unfitted student."""
    parts = []
    for title, comparator, against in (
        ("mean RDM", "spearman", "mean"),
        ("single subjects", "spearman", "subjects"),
        ("mean RDM given models", "partial spearman", "mean"),
    ):
        rows = summary[(summary["comparator"] == comparator) & (summary["against"] == against)].set_index("student")
        shown = rows[["score", "low", "high", "gain", "gain_low", "gain_high"]]
        parts.append(pd.concat({title: shown.dropna(axis=1, how="all")}, axis=1))
    return pd.concat(parts, axis=1)


def draw(summary: pd.DataFrame, evaluation: Evaluation, folder: Path) -> None:
    """Scores of all students, and the figures of the projection's report."""
    folder.mkdir(parents=True, exist_ok=True)
    scores, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for ax, against in zip(axes, ("subjects", "mean"), strict=True):
        plot.scores(summary.assign(layer=""), "spearman", against, ax)
    axes[1].set_yticklabels([])
    for name, figure in {"students": scores, **figures(evaluation)}.items():
        figure.savefig(folder / f"{name}.png", dpi=200, bbox_inches="tight")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/human_it"))
    parser.add_argument("--projection-size", type=int, default=224, help="pixels for fitting the projection")
    parser.add_argument("--size", type=int, default=128, help="pixels for fitting all weights")
    parser.add_argument("--seeds", type=int, default=3, help="number of times that folds are drawn")
    parser.add_argument("--prepare", action="store_true", help="only write the files that human_it.yaml reads")
    parser.add_argument("--projection-only", action="store_true")
    words = parser.parse_args()
    if words.prepare:
        prepare(words.out / "data")
        return
    seeds = tuple(range(words.seeds))
    parts = [fit_projection(words.out, words.projection_size, seeds)]
    print(report(parts[0], words.out / "projection.html"))
    if not words.projection_only:
        parts.append(fit_all_weights(words.out, words.size, seeds))
    summary = pd.concat([part.summary for part in parts], ignore_index=True)
    summary = summary.drop_duplicates(["student", "comparator", "against"])  # both contain the category models
    summary.to_csv(words.out / "summary.csv", index=False)
    draw(summary, parts[0], words.out / "figures")
    print(table(summary).round(3).to_string())


if __name__ == "__main__":
    main()
