"""The main job: a pretrained network is fitted to the human IT RDM of 92 images, and scored on held-out images.

Human IT is the mean of 4 subjects x 2 sessions (Kriegeskorte et al. 2008, doi 10.1016/j.neuron.2008.10.043). The
student is EfficientNet-Lite0 (ImageNet weights from its package, extra `demo`), read out at blocks 11 to 15. Five folds
of the images, stratified by six categories, three fold seeds; the number of steps comes from inner folds (projection)
or from a validation part of each training fold (all weights). A third student is the average of the RDMs of both, with
equal weights. Nothing is chosen on held-out images. Tables are written to docs/experiments/results, and
docs/experiments/human_it_page.py writes the page from them.

    python docs/examples/human_it.py --out runs/human_it --figures docs/figures
    python docs/examples/human_it.py --out runs/human_it --figures docs/figures --draw   # only the figures

The data (5 MB) are those of `brainrdl data fetch kriegeskorte92` and are downloaded if they are not there. The same
student as a recipe, after `--prepare`: docs/examples/human_it.yaml.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from brainrdl import RDMTeacher, Readout, Stimuli, Student, cross_validate, datasets, plot, report
from brainrdl.dissimilarity import pair_indices, to_square
from brainrdl.evaluation import Candidate, Evaluation, HeldOut, score, stimulus_folds, teacher_rdms
from brainrdl.models import build
from brainrdl.rdms import from_tensor, names as names_of, to_tensor
from brainrdl.reporting.page import figures
from brainrdl.stimuli import default_transform, different_category

RESULTS = Path(__file__).parents[1] / "experiments" / "results"
FOLDS = 5
FIGURES = {"human_it_rdms": "rdms-projection", "human_it_categories": "categories-projection",
           "human_it_training": "training-projection"}  # fmt: skip
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
        students, teacher, stimuli, folds=FOLDS, seeds=seeds, inner_folds=4, models=animacy(stimuli),
        controls=("unfitted", "reweighted", "permuted", "category"), out=out / "projection", resume=True, **steps,
    )  # fmt: skip


def fit_all_weights(out: Path, size: int, seeds: tuple[int, ...]) -> Evaluation:
    """All weights; early stopping on a fifth of each training fold."""
    stimuli, teacher = load(size)
    steps = {"lr": 3e-4, "steps": 24, "evaluate_every": 4, "validation": 0.2, "patience": 3}
    return cross_validate(
        {"all weights": all_weights}, teacher, stimuli, folds=FOLDS, seeds=seeds, controls=("unfitted", "category"),
        models=animacy(stimuli), out=out / "all_weights", resume=True, **steps,
    )  # fmt: skip


def held_out(evaluation: Evaluation) -> list[HeldOut]:
    """Held-out RDMs of all students, controls and models, one per fold."""
    names, labels = names_of(evaluation.students), evaluation.labels
    described = pd.DataFrame(evaluation.students.rdm_descriptors)
    found = []
    for row in described.to_dict("records"):
        square = to_square(to_tensor(evaluation.students.subset("index", row["index"]), names)[0])
        table = stimulus_folds(names, FOLDS, labels=labels, seed=int(row["seed"]))
        for fold, part in table.groupby("fold"):
            test = tuple(part["stimulus"])
            places = torch.tensor([names.index(name) for name in test])
            i, j = pair_indices(len(test))
            words = {key: str(row[key]) for key in ("student", "role", "base", "target")}
            pairs = square[places[i], places[j]]
            found.append(HeldOut(names=test, pairs=pairs, seed=int(row["seed"]), fold=int(str(fold)), **words))
    return found


def averages(rows: Sequence[HeldOut], members: Sequence[str] = ("projection", "all weights")) -> list[HeldOut]:
    """Mean of the members' z-scored RDMs in each fold, fitted and unfitted, with equal weights."""
    known = {(row.student, row.seed, row.fold): row for row in rows}
    found = []
    for ending, role in (("", "ensemble"), (", unfitted", "unfitted")):
        for (student, seed, fold), row in known.items():
            if student == members[0] + ending:
                both = torch.stack([known[member + ending, seed, fold].pairs for member in members])
                scaled = (both - both.mean(1, keepdim=True)) / both.std(1, keepdim=True)
                named = {"student": f"average{ending}", "role": role, "base": "average, unfitted"}
                found.append(replace(row, pairs=scaled.mean(0), **named))
    return found


def score_together(parts: Sequence[Evaluation], size: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Summary and contrasts of all students, on the same pairs."""
    stimuli, teacher = load(size)
    rows = {(row.student, row.seed, row.fold): row for part in parts for row in held_out(part)}  # both have the models
    every = [*rows.values()]
    truth = teacher_rdms(teacher, stimuli, stimuli.names, teacher.targets)
    found = score([*every, *averages(every)], truth, ("spearman", "corr"))
    return found.summary, found.contrasts


def draw(summary: pd.DataFrame, evaluation: Evaluation, folder: Path) -> None:
    """Scores of all students, and three figures of the projection's report."""
    folder.mkdir(parents=True, exist_ok=True)
    scores, axes = plt.subplots(1, 2, figsize=(10.0, 4.2), layout="compressed")
    for ax, against in zip(axes, ("subjects", "mean"), strict=True):
        plot.scores(summary.assign(layer=""), "spearman", against, ax)
    axes[1].set_yticklabels([])
    of_report = figures(evaluation)
    drawn = {
        name: next(of_report[key] for key in of_report if key.startswith(start)) for name, start in FIGURES.items()
    }
    for name, figure in {"human_it": scores, **drawn}.items():
        figure.savefig(folder / f"{name}.png", dpi=160, bbox_inches="tight")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/human_it"))
    parser.add_argument("--projection-size", type=int, default=224, help="pixels for fitting the projection")
    parser.add_argument("--size", type=int, default=128, help="pixels for fitting all weights")
    parser.add_argument("--seeds", type=int, default=3, help="number of times that folds are drawn")
    parser.add_argument("--figures", type=Path, help="folder of the figures (default: in OUT)")
    parser.add_argument(
        "--draw", action="store_true", help="only draw the figures, from the fits in OUT and the tables"
    )
    parser.add_argument("--prepare", action="store_true", help="only write the files that human_it.yaml reads")
    words = parser.parse_args()
    if words.prepare:
        prepare(words.out / "data")
        return
    folder = words.figures or words.out / "figures"
    if words.draw:
        draw(pd.read_csv(RESULTS / "human_it.csv"), Evaluation.load(words.out / "projection"), folder)
        return
    seeds = tuple(range(words.seeds))
    parts = [fit_projection(words.out, words.projection_size, seeds), fit_all_weights(words.out, words.size, seeds)]
    print(report(parts[0], words.out / "projection.html"))
    summary, contrasts = score_together(parts, words.size)
    summary.to_csv(RESULTS / "human_it.csv", index=False, float_format="%.5g")
    contrasts.to_csv(RESULTS / "human_it_contrasts.csv", index=False, float_format="%.5g")
    draw(summary, parts[0], folder)


if __name__ == "__main__":
    main()
