"""The main job: a pretrained network is fitted to the human IT RDM of 92 images, and scored on held-out images.

Human IT is the mean of 4 subjects x 2 sessions (Kriegeskorte et al. 2008, doi 10.1016/j.neuron.2008.10.043). The
student is EfficientNet-Lite0 (ImageNet weights from its package, extra `demo`), read out at blocks 11 to 15. Five folds
of the images, stratified by six categories, three fold seeds; the number of steps comes from inner folds (projection)
or from a validation part of each training fold (all weights). Nothing is chosen on held-out images.

    python docs/examples/human_it.py --data $BRAINRDL_DATA --out runs/human_it

`--data` holds kriegeskorte92.tar.gz (rsatoolbox's demos/92imageData). The same student as a recipe, after `--prepare`:
docs/examples/human_it.yaml.
"""

from __future__ import annotations

import argparse
import os
import tarfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from PIL import Image
from scipy.io import loadmat

from brainrdl import RDMTeacher, Readout, Stimuli, Student, cross_validate, plot, report
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.evaluation.plan import Candidate
from brainrdl.models.networks import build
from brainrdl.rdms.conversion import from_tensor
from brainrdl.reporting.page import figures
from brainrdl.stimuli.categories import different_category
from brainrdl.stimuli.transforms import default_transform

BLOCKS = "+".join(f"_blocks.{block}" for block in range(11, 16))
SEEDS = (0, 1, 2)
CATEGORIES = ("human body", "human face", "animal body", "animal face", "natural object", "artificial object")


def prepare(data: Path, out: Path) -> Path:
    """Unpack the RDMs, write the 92 images and their categories; return the folder."""
    folder = out / "data"
    if (folder / "labels.csv").exists():
        return folder
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with tarfile.open(data / "kriegeskorte92.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    mat = folder / "kriegeskorte92" / "Kriegeskorte_Neuron2008_supplementalData.mat"
    rows = []
    for i, stimulus in enumerate(loadmat(mat, struct_as_record=False, squeeze_me=True)["stimuli_92objs"], start=1):
        name = f"stimulus_{i:02d}"
        Image.fromarray(stimulus.image).save(folder / "images" / f"{name}.png")
        rows.append({"stimulus": name, "category": _category(stimulus)})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    return folder


def _category(stimulus: object) -> str:
    if stimulus.animal:
        return f"{'human' if stimulus.human else 'animal'} {'face' if stimulus.face else 'body'}"
    return "natural object" if stimulus.natural else "artificial object"


def load(folder: Path, size: int) -> tuple[Stimuli, RDMTeacher]:
    """The images at `size` pixels, scaled as the network expects, and the teacher."""
    transform = default_transform(size, (127 / 255, 128 / 255))
    stimuli = Stimuli.from_folder(folder / "images", transform, folder / "labels.csv").cached()
    teacher = RDMTeacher(folder / "kriegeskorte92" / "92_brainRDMs.mat", names=folder / "images", name="human IT")
    return stimuli.align(teacher.conditions), teacher


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


def fit_projection(folder: Path, out: Path) -> Evaluation:
    """Projection with all controls, and the untrained network, at the network's own 224 pixels."""
    stimuli, teacher = load(folder, 224)
    steps = {"optimizer": "momentum", "lr": 0.2, "steps": 30, "evaluate_every": 1}
    students = {
        "projection": Candidate(projection),
        "untrained network": Candidate(untrained, {"steps": 0}, controls=(), inner_folds=0),
    }
    return cross_validate(
        students, teacher, stimuli, folds=5, seeds=SEEDS, inner_folds=4, models=animacy(stimuli),
        out=out / "projection", resume=True, **steps,
    )  # fmt: skip


def fit_all_weights(folder: Path, out: Path, size: int) -> Evaluation:
    """All weights; early stopping on a fifth of each training fold."""
    stimuli, teacher = load(folder, size)
    steps = {"lr": 3e-4, "steps": 24, "evaluate_every": 4, "validation": 0.2, "patience": 3}
    return cross_validate(
        {"all weights": all_weights}, teacher, stimuli, folds=5, seeds=SEEDS, controls=("unfitted", "category"),
        models=animacy(stimuli), out=out / "all_weights", resume=True, **steps,
    )  # fmt: skip


def table(summary: pd.DataFrame) -> pd.DataFrame:
    """One row a student or model: Spearman correlations with 95 % intervals, and gains over the unfitted student."""
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
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BRAINRDL_DATA", ".")))
    parser.add_argument("--out", type=Path, default=Path("runs/human_it"))
    parser.add_argument("--size", type=int, default=128, help="pixels for fitting all weights")
    parser.add_argument("--prepare", action="store_true", help="only write images, labels and RDMs")
    parser.add_argument("--projection-only", action="store_true")
    words = parser.parse_args()
    folder = prepare(words.data, words.out)
    if words.prepare:
        return
    parts = [fit_projection(folder, words.out)]
    print(report(parts[0], words.out / "projection.html"))
    if not words.projection_only:
        parts.append(fit_all_weights(folder, words.out, words.size))
    summary = pd.concat([part.summary for part in parts], ignore_index=True)
    summary = summary.drop_duplicates(["student", "comparator", "against"])  # category models stand in both
    summary.to_csv(words.out / "summary.csv", index=False)
    draw(summary, parts[0], words.out / "figures")
    print(table(summary).round(3).to_string())


if __name__ == "__main__":
    main()
