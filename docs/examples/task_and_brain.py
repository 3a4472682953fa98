"""A small network learns a task and a brain together: CIFAR-100 and human IT, with the weight of the RDM varied.

The network (2 convolutions, 2 linear layers, random weights, 32 x 32 pixels) is trained on 5,000 labelled photographs
of CIFAR-100 (50 per class) and on the human IT RDM of 92 images (Kriegeskorte et al. 2008, doi
10.1016/j.neuron.2008.10.043; 4 subjects, 2 sessions each, averaged). The RDM loss is that of the hidden layer. Accuracy
is that of 2,000 other photographs. The score is that of images that were held out: 4 folds of the 92, 3 seeds.
Controls, with the same weights: names of the RDM shuffled among the training images (permuted), a random RDM, the RDM
of six categories, and the task only. The number of steps is fixed; nothing is chosen on held-out images.

    python docs/examples/task_and_brain.py --out runs/task_and_brain
    python docs/examples/task_and_brain.py --quick

Photographs are read from cifar100_mini.npz in the folder BRAINRDL_DATA if it is there; otherwise CIFAR-100 (169 MB) is
downloaded. One point as a recipe, after `--prepare`: docs/examples/task_and_brain.yaml.
"""

from __future__ import annotations

import argparse
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from brainrdl import RDMTeacher, Stimuli, Student, Task, cross_validate, datasets, plot, report
from brainrdl._core.files import slug
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.evaluation.plan import Candidate
from brainrdl.inference.intervals import holm
from brainrdl.models.fitted import read_fitted
from brainrdl.models.networks import Network
from brainrdl.runs.run_folder import WEIGHTS
from brainrdl.stimuli.named_images import Batch
from brainrdl.stimuli.near_duplicates import similar_images
from brainrdl.stimuli.transforms import default_transform
from brainrdl.teachers.controls import control
from brainrdl.teachers.protocol import Teacher
from brainrdl.training.looks import batches_of, look_at_task

SIZE, N_CLASSES, LAYER = 32, 100, "hidden"
BRAIN, TASK_ONLY = "human IT", "task only"


@dataclass(frozen=True)
class Settings:
    """What the two modes differ in."""

    weights: Sequence[float] = (0.1, 1.0, 10.0)
    control_weights: Sequence[float] = (1.0, 10.0)
    seeds: Sequence[int] = (0, 1, 2)
    folds: int = 4
    steps: int = 350
    n_images: int = 5000
    n_test: int = 2000


QUICK = Settings(weights=(0.1, 1.0), control_weights=(1.0,), seeds=(0,), folds=3, steps=20, n_images=300, n_test=100)


def network() -> nn.Module:
    """Two convolution stages and two linear layers: 0.9 million multiplications per image."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            hidden=nn.Sequential(nn.Flatten(), nn.Linear(16 * 25, 128), nn.ReLU()),
            logits=nn.Linear(128, N_CLASSES),
        )
    )


def for_recipe() -> Network:
    """The network with its transform, for docs/examples/task_and_brain.yaml."""
    return Network(network(), default_transform(SIZE), SIZE)


def make() -> Student:
    """A new student; the fold's seed determines its weights."""
    return Student(network(), [LAYER])


def brain() -> tuple[Stimuli, RDMTeacher]:
    """The 92 images at 32 pixels with six categories, and human IT."""
    data = datasets.load("kriegeskorte92")
    teacher = RDMTeacher(data.rdms.subset("roi", "hIT"), name=BRAIN, average_over="session")
    return data.stimuli.with_transform(default_transform(SIZE)).align(teacher.conditions).cached(), teacher


def photographs(n_images: int, n_test: int) -> tuple[Stimuli, tuple[str, ...]]:
    """Photographs of 100 classes, and the names of those for testing."""
    parts = [_part(train) for train in (True, False)]
    chosen = [_first(*part, n) for part, n in zip(parts, (n_images, n_test), strict=True)]
    pixels, labels = (np.concatenate(both) for both in zip(*chosen, strict=True))
    names = [f"train_{k:04d}" for k in range(len(chosen[0][0]))] + [f"test_{k:04d}" for k in range(len(chosen[1][0]))]
    stimuli = Stimuli.from_arrays(pixels, names, labels=list(labels), transform=default_transform(SIZE))
    similar = similar_images(stimuli)[["first", "second"]].to_numpy().ravel()  # CIFAR has copies in both parts
    stimuli = stimuli.drop([name for name in dict.fromkeys(similar) if _is_test(name)]).cached()
    return stimuli, tuple(filter(_is_test, stimuli.names))


def _is_test(name: str) -> bool:
    return name.startswith("test")


def _part(train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 32, 32, 3) and class names."""
    path, part = Path(os.environ.get("BRAINRDL_DATA", ""), "cifar100_mini.npz"), "train" if train else "test"
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            return file[f"x_{part}"], file["classes"][file[f"y_{part}"]]
    stimuli = datasets.load("cifar100", train=train).stimuli
    pixels = stimuli.images().mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels, np.array([stimuli.labels[name] for name in stimuli.names])


def _first(pixels: np.ndarray, labels: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images of each class, `n` in all."""
    order = np.argsort(pd.Series(labels).groupby(labels).cumcount().to_numpy(), kind="stable")[:n]
    return pixels[order], labels[order]


def other_teachers(teacher: RDMTeacher, stimuli: Stimuli) -> dict[str, Teacher]:
    """The controls that are teachers."""
    random = control("spectrum", teacher=teacher, stimuli=stimuli)
    return {"random RDM": random, "categories": control("category", teacher=teacher, stimuli=stimuli)}


def students(teacher: RDMTeacher, stimuli: Stimuli, settings: Settings) -> dict[str, Candidate]:
    """One student per teacher and weight, and one that learns only the task."""
    found = {TASK_ONLY: Candidate(make, {"rdm_weight": 0.0}, controls=("unfitted",))}
    for weight in settings.weights:
        controls = ("permuted",) if weight in settings.control_weights else ()
        found[label(BRAIN, weight)] = Candidate(make, {"rdm_weight": weight}, controls=controls)
    for name, source in other_teachers(teacher, stimuli).items():
        for weight in settings.control_weights:
            found[label(name, weight)] = Candidate(make, {"rdm_weight": weight}, controls=(), teacher=source)
    return found


def label(name: str, weight: float) -> str:
    """Name of a student."""
    return f"{name}, weight {weight:g}"


def run(out: Path, settings: Settings, **options: Any) -> Evaluation:
    """Fit and score all students."""
    stimuli, teacher = brain()
    labelled, test = photographs(settings.n_images, settings.n_test)
    task = Task(labelled.drop(test), batch_size=64)
    fitting = {"steps": settings.steps, "evaluate_every": settings.steps, "batch_size": 32, "lr": 2e-3, "device": "cpu"}
    return cross_validate(
        students(teacher, stimuli, settings), teacher, stimuli, task=task, folds=settings.folds,
        seeds=settings.seeds, comparators=("spearman",), out=out, resume=True, **fitting, **options,
    )  # fmt: skip


def table(evaluation: Evaluation, out: Path, settings: Settings) -> pd.DataFrame:
    """One row per student: teacher, weight, accuracy on test photographs, and score on held-out images of the 92."""
    named = {(BRAIN, 0.0): TASK_ONLY} | {(BRAIN, weight): label(BRAIN, weight) for weight in settings.weights}
    for weight in settings.control_weights:
        named |= {(name, weight): student for name, student in controls_of(weight).items() if name != TASK_ONLY}
    labelled, test = photographs(settings.n_images, settings.n_test)
    batches = list(batches_of(labelled, test, torch.device("cpu")))
    rows = [
        {"teacher": name, "weight": weight, **accuracy(out, student, batches), **_score(evaluation, student)}
        for (name, weight), student in named.items()
    ]
    return pd.DataFrame(rows)


def controls_of(weight: float) -> dict[str, str]:
    """The students that human IT is compared with at a weight, by their teacher."""
    others = {name: label(name, weight) for name in ("random RDM", "categories")}
    return {"permuted": f"{label(BRAIN, weight)}, permuted", **others, TASK_ONLY: TASK_ONLY}


def accuracy(out: Path, name: str, batches: Sequence[Batch]) -> dict[str, float]:
    """Mean and standard deviation of the accuracy on test photographs, over the fits of a student."""
    found = []
    for fit in sorted((out / "fits").glob(f"{slug(name)}-seed*")):
        student = make()
        read_fitted(str(fit / WEIGHTS)).load(student)
        found.append(look_at_task(student, Task(), batches)["accuracy"])
    return {"accuracy": float(np.mean(found)), "accuracy_sd": float(np.std(found, ddof=1)), "n_fits": len(found)}


def _score(evaluation: Evaluation, student: str) -> dict[str, Any]:
    rows = evaluation.summary
    score = rows[(rows["student"] == student) & (rows["against"] == "subjects")].iloc[0]
    columns = ["comparator", "against", "score", "low", "high", "ceiling", "ceiling_lower", "ceiling_upper"]
    return score[columns].to_dict()


def contrasts(evaluation: Evaluation, settings: Settings) -> pd.DataFrame:
    """Human IT minus its controls, for each weight; p-values are corrected (Holm) for this list only."""
    pairs = [(label(BRAIN, w), other) for w in settings.control_weights for other in controls_of(w).values()]
    wanted = dict.fromkeys(pairs, 1) | {(other, own): -1 for own, other in pairs}
    found = evaluation.contrasts[evaluation.contrasts["against"] == "subjects"]
    rows = [_turned(row, wanted) for row in found.to_dict("records") if (row["student"], row["other"]) in wanted]
    made = pd.DataFrame(rows)
    return made.assign(p_corrected=holm(made["p"].tolist()))


def _turned(row: Mapping[Any, Any], wanted: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    """A contrast with human IT first."""
    if wanted[row["student"], row["other"]] > 0:
        return {key: row[key] for key in ("student", "other", "difference", "low", "high", "p")}
    ends = {"student": row["other"], "other": row["student"], "low": -row["high"], "high": -row["low"]}
    return {"difference": -row["difference"], "p": row["p"], **ends}


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Accuracy against score, one line per teacher."""
    figure = Figure(figsize=(6.6, 4.8), layout="compressed")
    named = rows.assign(teacher=rows["teacher"].mask(rows["weight"] == 0, TASK_ONLY))
    plot.pareto(named, "weight", figure.subplots(), by="teacher")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200, bbox_inches="tight")


def prepare(folder: Path) -> None:
    """Write images and RDMs as files for the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    data = datasets.load("kriegeskorte92")
    _save(folder / "stimuli.npz", data.stimuli)
    data.rdms.subset("roi", "hIT").save(str(folder / "human_it.h5"), file_type="hdf5", overwrite=True)
    labelled, test = photographs(5000, 2000)
    _save(folder / "photographs.npz", labelled.with_transform(None))
    print(f"{len(labelled)} photographs; the last {len(test)} are for testing")


def _save(path: Path, stimuli: Stimuli) -> None:
    pixels = stimuli.images().mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez(path, images=pixels, names=stimuli.names, labels=[stimuli.labels[name] for name in stimuli.names])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/task_and_brain"))
    parser.add_argument("--quick", action="store_true", help="try it: few images and steps, one seed and weight")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--figure", type=Path, help="file of the figure; by default in OUT")
    parser.add_argument("--draw", action="store_true", help="only draw the figure, from the table in OUT")
    parser.add_argument("--n-jobs", type=int, default=1, help="number of fits at the same time")
    parser.add_argument("--prepare", action="store_true", help="only write the files that task_and_brain.yaml reads")
    words = parser.parse_args()
    if words.prepare:
        prepare(words.out / "data")
        return
    figure = words.figure or words.out / "task_and_brain.png"
    if words.draw:
        draw(pd.read_csv(words.out / "table.csv"), figure)
        return
    settings = QUICK if words.quick else Settings(steps=words.steps)
    out = words.out / ("quick" if words.quick else "full")
    evaluation = run(out, settings, n_jobs=words.n_jobs)
    rows, planned = table(evaluation, out, settings), contrasts(evaluation, settings)
    rows.to_csv(words.out / "table.csv", index=False)
    planned.to_csv(words.out / "contrasts.csv", index=False)
    draw(rows, figure)
    print(rows.round(3).to_string(), planned.round(4).to_string(), report(out), sep="\n\n")


if __name__ == "__main__":
    main()
