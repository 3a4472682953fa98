"""A brain beside a task: a small network learns CIFAR-100 and human IT together, with the weight of the brain varied.

The network is trained on 5,000 labelled photographs of CIFAR-100 and on the human IT RDM of the training objects of a
fold (Kriegeskorte et al. 2008, doi 10.1016/j.neuron.2008.10.043; 4 subjects, 2 sessions each, averaged). Each of five
seeds holds out another fifth of the 92 objects, so that each object is held out once. Accuracy is that of other
photographs: as they are, with noise, with a part hidden, and changed in the direction that increases the loss (FGSM).

    python -m docs.experiments.brain_beside_task            # fit what is missing, score, draw, and write the page
    python -m docs.experiments.brain_beside_task --page     # only draw and write the page from the tables

Photographs are read from cifar100_mini.npz in the folder BRAINRDL_DATA if it is there; otherwise CIFAR-100 (169 MB) is
downloaded.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from brainrdl import RDMTeacher, Readout, Stimuli, Student, Task, datasets, fit
from brainrdl.evaluation import stimulus_folds
from brainrdl.stimuli import Augmentation, default_transform, similar_images
from brainrdl.teachers import Teacher, control
from docs.experiments.brains import RESULTS, as_text
from docs.experiments.measures import MEASURES, Exam, measure
from docs.experiments.results import Results

SIZE, N_CLASSES, LAYER = 32, 100, "second"
BRAIN, TASK_ONLY = "human IT", "task only"
CONTROLS = {
    "permuted": "permuted",
    "permuted within category": "permuted_within_class",
    "random RDM": "spectrum",
    "categories": "category",
}
WEIGHTS, CONTROL_WEIGHTS = (0.1, 1.0, 10.0), (0.1, 1.0)
SEEDS = range(5)
N_IMAGES, N_TEST = 5000, 2000
TRAINING = {
    "steps": 500, "batch_size": 32, "optimizer": "momentum", "lr": 0.1, "weight_decay": 1e-3, "schedule": "cosine",
    "warmup": 40, "clip": 5.0, "channels_last": True, "device": "cpu", "progress": False,
}  # fmt: skip
KEY = ("teacher", "weight", "seed")
COLUMNS = (*KEY, *(name for name in MEASURES if not name.startswith("rdm_")), "seconds", "pairs")


class Block(nn.Module):
    """Two convolutions and a shortcut; half the size."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first, self.second = convolution(n_in, n_out, 3, 2), convolution(n_out, n_out, 3, 1)
        self.shortcut = convolution(n_in, n_out, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Add the convolved and the reduced input."""
        return functional.relu(self.second(functional.relu(self.first(x))) + self.shortcut(x))


def convolution(n_in: int, n_out: int, size: int, stride: int) -> nn.Sequential:
    """Convolution and batch normalisation."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, size, stride, size // 2, bias=False), nn.BatchNorm2d(n_out))


class Network(nn.Module):
    """A residual network of 0.08 million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = convolution(3, 16, 3, 2), Block(16, 32), Block(32, 64)
        self.logits = nn.Linear(64, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images in the range 0 to 1."""
        stem = functional.relu(self.stem((x - 0.5) / 0.25))
        return self.logits(self.second(self.first(stem)).mean((2, 3)))


def make() -> Student:
    """A new student; its generator was seeded before."""
    return Student(Network(), [LAYER], readout=Readout("avgpool"), batchnorm="task")


@cache
def brain() -> tuple[Stimuli, RDMTeacher]:
    """The 92 images at 32 pixels with six categories, and human IT."""
    data = datasets.load("kriegeskorte92")
    teacher = RDMTeacher(data.rdms.subset("roi", "hIT"), name=BRAIN, average_over="session")
    shown = data.stimuli.with_transform(default_transform(SIZE, "none")).align(teacher.conditions)
    small = Stimuli.from_arrays(shown.images().clamp(0, 1).mul(255).round().byte(), shown.names, labels=shown.labels)
    return small.with_augmentation(Augmentation(crop=4, flip=True)), teacher


@cache
def photographs() -> tuple[Stimuli, Stimuli]:
    """Photographs of 100 classes for training and for testing, the latter without copies of any other."""
    pixels, labels = zip(*(first(*part(train), n) for train, n in ((True, N_IMAGES), (False, N_TEST))), strict=True)
    names = [
        f"{kind}_{k:04d}" for kind, found in zip(("train", "test"), labels, strict=True) for k in range(len(found))
    ]
    every = Stimuli.from_arrays(np.concatenate(pixels), names, labels=list(np.concatenate(labels)))
    copies = set(similar_images(every)[["first", "second"]].to_numpy().ravel())
    train = every.select([name for name in names if name.startswith("train")])
    test = every.select([name for name in names if name.startswith("test") and name not in copies])
    return train.with_augmentation(Augmentation(crop=4, flip=True)), test


def part(train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 32, 32, 3) and class names."""
    path, which = Path(os.environ.get("BRAINRDL_DATA", ""), "cifar100_mini.npz"), "train" if train else "test"
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            return file[f"x_{which}"], file["classes"][file[f"y_{which}"]]
    stimuli = datasets.load("cifar100", train=train).stimuli
    pixels = stimuli.images().mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels, np.array([stimuli.labels[name] for name in stimuli.names])


def first(pixels: np.ndarray, labels: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images of each class, `n` in all."""
    order = np.argsort(pd.Series(labels).groupby(labels).cumcount().to_numpy(), kind="stable")[:n]
    return pixels[order], labels[order]


def stored() -> Results:
    """One row per fit: measures of the task, and the held-out RDM."""
    return Results(RESULTS / "brain_beside_task.csv", COLUMNS, KEY)


def plan() -> Iterator[tuple[str, float]]:
    """Teachers and weights, the most important first."""
    yield TASK_ONLY, 0.0
    yield from ((BRAIN, weight) for weight in WEIGHTS)
    yield from ((name, weight) for weight in CONTROL_WEIGHTS for name in CONTROLS)


def run(seeds: range = SEEDS) -> None:
    """Fit what is missing, seed by seed."""
    table = stored()
    done = table.keys()
    for seed in seeds:
        for name, weight in plan():
            if (name, f"{weight:g}", str(seed)) not in {(one, f"{float(w):g}", k) for one, w, k in done}:
                table.add({"teacher": name, "weight": weight, "seed": seed} | fit_one(name, weight, seed))


def split(seed: int) -> tuple[list[str], list[str]]:
    """Training and test objects of a seed: each seed holds out another fold."""
    stimuli, _ = brain()
    table = stimulus_folds(stimuli.names, len(SEEDS), labels=stimuli.labels, seed=0)
    test = list(table.loc[table["fold"] == seed, "stimulus"])
    return [name for name in stimuli.names if name not in set(test)], test


def teacher_of(name: str, train: list[str], seed: int) -> Teacher:
    """Human IT of the training objects, or a control made from it."""
    stimuli, human = brain()
    known = human.select(train)
    kind = CONTROLS.get(name)
    return known if kind is None else control(kind, teacher=known, stimuli=stimuli, conditions=train, seed=seed)


def fit_one(name: str, weight: float, seed: int) -> dict[str, object]:
    """Fit one student; its accuracies and held-out RDM."""
    (stimuli, _), (labelled, test_images) = brain(), photographs()
    train, test = split(seed)
    started = time.process_time()
    torch.manual_seed(seed)
    fitted = fit(
        make(), teacher_of(name, train, seed), stimuli, train=train, held_out=test, rdm_weight=weight,
        task=Task(labelled, batch_size=64), seed=seed, evaluate_every=TRAINING["steps"], **TRAINING,
    )  # fmt: skip
    seconds = round(time.process_time() - started, 1)
    rdm = torch.as_tensor(fitted.student.rdms(stimuli, test).dissimilarities[0])
    exam = Exam(test_images, None, {}, noise=0.1, fgsm=1 / 255, n_robustness=1000)
    return {**measure(fitted.student, exam), "seconds": seconds, "pairs": as_text(rdm)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="fit nothing")
    parser.add_argument("--only-fit", action="store_true", help="write no page")
    parser.add_argument("--seed", type=int, help="only this seed")
    words = parser.parse_args()
    if not words.page:
        run(SEEDS if words.seed is None else range(words.seed, words.seed + 1))


if __name__ == "__main__":
    main()
