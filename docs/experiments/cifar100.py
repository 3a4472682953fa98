"""Experiment 2: 5,000 labelled images of CIFAR-100, and a teacher that was trained on ImageNet.

    python -m docs.experiments.run cifar100 --jobs 2

The teacher has other classes, so its logits say nothing about those of CIFAR-100. Knowledge distillation uses a linear
probe of its last layer instead, fitted to the labels. The logits of an image come from a probe that was fitted to other
images (5 folds).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from brainrdl import FeatureTeacher, Readout, Stimuli, Student, datasets
from brainrdl.models import build
from brainrdl.stimuli import Augmentation
from docs.experiments.measures import Exam
from docs.experiments.networks import small_resnet
from docs.experiments.protocol import METHODS, RESULTS, Experiment, Problem, Setting, teachers
from docs.experiments.statistics import Contrast

WORK = Path("runs/experiments")
SUBSET = Path(__file__).parent / "cifar100_subset.npz"  # digests of the images
STAGES = {"block1": "block10", "block2": "last"}
READOUT = {"block1": Readout("grid:4"), "block2": Readout("avgpool")}
SIZE = 128  # pixels of the teacher's images
N_VALIDATION = 1000
PENALTIES = (3e-4, 1e-3, 3e-3, 1e-2)
BATCH = 128
TRAINING = {"lr": (0.1, 0.03, 0.2), "weight_decay": (1e-3, 3e-4, 4e-3)}
FIT = {
    "batch_size": BATCH, "optimizer": "momentum", "schedule": "cosine", "warmup": 40, "channels_last": True,
}  # fmt: skip


# Images


@cache
def arrays() -> dict[str, np.ndarray]:
    """Images and labels of the subset: x_train, y_train, x_test, y_test.

    They are read from ``cifar100_mini.npz`` in the folder BRAINRDL_DATA, or found in the whole data set by the digests
    of their pixels.
    """
    stored = Path(os.environ.get("BRAINRDL_DATA", WORK)) / "cifar100_mini.npz"
    if not stored.exists():
        return _found("train") | _found("test")
    with np.load(stored) as file:
        return {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}


def _found(part: str) -> dict[str, np.ndarray]:
    whole = datasets.load("cifar100", train=part == "train").stimuli
    pixels = (whole.images().permute(0, 2, 3, 1) * 255).round().byte().numpy()
    labels = whole.batch(whole.names).labels.numpy()
    places = {digest(image): place for place, image in enumerate(pixels)}
    chosen = [places[one] for one in np.load(SUBSET)[part].tolist()]
    return {f"x_{part}": pixels[chosen], f"y_{part}": labels[chosen]}


def digest(image: np.ndarray) -> int:
    """First 8 bytes of the SHA-256 of an image's pixels (32, 32, 3)."""
    return int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "big")


@cache
def without_duplicates() -> np.ndarray:
    """Positions of training images without a byte-identical test image or an earlier training image."""
    found = arrays()
    seen = {image.tobytes() for image in found["x_test"]}
    kept = []
    for place, image in enumerate(found["x_train"]):
        if image.tobytes() not in seen:
            kept.append(place)
            seen.add(image.tobytes())
    return np.array(kept)


@cache
def images(part: str) -> Stimuli:
    """Training or test images, named "train 17" and so on; in [0, 1]."""
    found = arrays()
    pixels = torch.from_numpy(found[f"x_{part}"]).permute(0, 3, 1, 2).contiguous()
    names = [f"{part} {place}" for place in range(len(pixels))]
    return Stimuli.from_arrays(pixels, names, labels=[f"{label:02d}" for label in found[f"y_{part}"]])


@cache
def split() -> tuple[np.ndarray, np.ndarray]:
    """Positions of training images for the trials: to train on, and for validation (10 of each class)."""
    kept, labels = without_duplicates(), arrays()["y_train"]
    order = np.random.default_rng(0).permutation(kept)
    validation = np.concatenate([order[labels[order] == label][: N_VALIDATION // 100] for label in range(100)])
    return np.setdiff1d(kept, validation), np.sort(validation)


# Teacher


def _network(kind: str, seed: int = 0) -> Student:
    torch.manual_seed(seed)
    module = build("efficientnet_lite0", "DEFAULT" if kind == "imagenet" else None).module
    layers = {"_blocks.10": "block10", "_avg_pooling": "last"}
    readout = {"_blocks.10": Readout("grid:4"), "_avg_pooling": Readout("avgpool")}
    return Student(module, layers, readout=readout, trainable="none", batchnorm="train")


@cache
def patterns(part: str, kind: str = "imagenet") -> dict[str, np.ndarray]:
    """The teacher's patterns of all images, in half precision; they are computed once and stored.

    `kind` is "imagenet", or "random": random weights, and batch normalisation with the statistics of the images.
    """
    path = WORK / f"cifar100_{kind}_{part}_{SIZE}.npz"
    if path.exists():
        with np.load(path) as file:
            return {name: file[name] for name in file}
    teacher, pixels = _network(kind), torch.from_numpy(arrays()[f"x_{part}"]).permute(0, 3, 1, 2)
    with torch.no_grad():
        if kind == "random":
            teacher.train()
            for start in range(0, 1000, 100):
                teacher(_large(pixels[start : start + 100]))
        teacher.eval()
        found = [teacher(_large(part)).patterns for part in pixels.split(100)]
    stored = {
        target: torch.cat([one[layer] for one in found]).half().numpy() for layer, target in teacher.match.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **stored)
    return stored


def _large(pixels: torch.Tensor) -> torch.Tensor:
    """Images as the teacher's weights expect them."""
    larger = functional.interpolate(pixels.float(), size=SIZE, mode="bicubic", align_corners=False).clamp(0, 255)
    return ((larger - 127) / 128).contiguous(memory_format=torch.channels_last)


# Probe


def probe(rows: np.ndarray, labels: np.ndarray, penalty: float, n_iterations: int = 60) -> nn.Module:
    """Multinomial logistic regression with a penalty on the squared weights, by L-BFGS."""
    x, y = torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(labels).long()
    mean, std = x.mean(0), x.std(0) + 1e-3
    weight, bias = torch.zeros(x.shape[1], 100, requires_grad=True), torch.zeros(100, requires_grad=True)
    search = torch.optim.LBFGS([weight, bias], max_iter=n_iterations, history_size=10, line_search_fn="strong_wolfe")
    z = (x - mean) / std

    def loss() -> torch.Tensor:
        search.zero_grad()
        total = functional.cross_entropy(z @ weight + bias, y) + penalty * weight.square().sum()
        total.backward()
        return total

    search.step(loss)
    linear = nn.Linear(x.shape[1], 100)
    with torch.no_grad():
        linear.weight.copy_((weight / std[:, None]).T)
        linear.bias.copy_(bias - mean / std @ weight)
    return linear


def apply(linear: nn.Module, rows: np.ndarray) -> np.ndarray:
    """Logits of a probe."""
    with torch.no_grad():
        return linear(torch.from_numpy(rows.astype(np.float32))).numpy()


@cache
def probed(tuning: bool) -> np.ndarray:
    """Logits of all training images; those of images in training come from probes that were fitted to others."""
    name = f"cifar100_probe_{'tuning' if tuning else 'final'}"
    path = WORK / f"{name}_{SIZE}.npy"
    if path.exists():
        return np.load(path)
    places = split()[0] if tuning else without_duplicates()
    rows, labels = patterns("train")["last"], arrays()["y_train"]
    penalty = _penalty()
    logits = apply(probe(rows[places], labels[places], penalty), rows)
    folds = np.random.default_rng(1).permutation(len(places)) % 5
    for fold in range(5):
        others = probe(rows[places[folds != fold]], labels[places[folds != fold]], penalty)
        logits[places[folds == fold]] = apply(others, rows[places[folds == fold]])
    wrong = float((logits[places].argmax(1) != labels[places]).mean())
    teachers(RESULTS).add({"teacher": name, "error": wrong})
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, logits)
    return logits


@cache
def _penalty() -> float:
    """The penalty with the fewest errors on the validation images."""
    train, validation = split()
    rows, labels = patterns("train")["last"], arrays()["y_train"]

    def errors(penalty: float) -> float:
        logits = apply(probe(rows[train], labels[train], penalty), rows[validation])
        return float((logits.argmax(1) != labels[validation]).mean())

    return min(PENALTIES, key=errors)


# Problems


def _problem(places: Sequence[int], epochs: int, width: int, tuning: bool) -> Problem:
    train = images("train")
    labelled = train.select([train.names[place] for place in places])
    return Problem(
        labelled.with_augmentation(Augmentation(crop=4, flip=True)),
        partial(small_resnet, width),
        STAGES,
        patterns("train"),
        train.names,
        probed(tuning),
        READOUT,
        fit=FIT | {"steps": epochs * (len(places) // BATCH)},
        random_patterns=partial(patterns, "train", "random"),
    )


@cache
def _final(epochs: int, width: int) -> Problem:
    return _problem(without_duplicates(), epochs, width, tuning=False)


def problem(epochs: int, width: int, seed: int) -> Problem:
    """All training images without duplicates; seeds differ in weights, batches and augmentation."""
    return _final(epochs, width)


@cache
def tuning(epochs: int, width: int) -> tuple[Problem, Stimuli]:
    """Four fifths of the training images, and the others for validation."""
    train, validation = split()
    names = images("train").names
    return (
        _problem(train, epochs, width, tuning=True),
        images("train").select([names[place] for place in validation]),
    )


@cache
def exam() -> Exam:
    """All test images."""
    test = images("test")
    return Exam(test, FeatureTeacher(dict(patterns("test")), names=test.names), STAGES, noise=0.08, fgsm=2 / 255)


FIRST = ("cross-entropy", "RDL, several stages", "KD", "RDL + KD", "permuted within class", "label RDM")
ORDER = (*FIRST, *(name for name in METHODS if name not in FIRST))


def setting(name: str, epochs: int, width: int, tuning_epochs: int = 30, tuned_as: str | None = None) -> Setting:
    """A setting of the experiment; three trials per method, or the settings that were chosen in another one."""
    design = {**FIT, "epochs": epochs, "width": width, "tuning_epochs": tuning_epochs, "size": SIZE}
    return Setting(
        name, partial(problem, epochs, width), partial(tuning, tuning_epochs, width), exam, 5, 3, TRAINING, ORDER,
        tuned_as, design,
    )  # fmt: skip


NARROW = "narrow student, 30 epochs"
EXPERIMENT = Experiment(
    "cifar100",
    (
        setting(NARROW, 30, 16),
        setting("narrow student, 60 epochs", 60, 16, tuned_as=NARROW),
        setting("wider student, 60 epochs", 60, 24, tuned_as=NARROW),
    ),
)

RDL = "RDL, several stages"
CONTRASTS = [
    Contrast(name, first, second)
    for name in (one.name for one in EXPERIMENT.settings)
    for first, second in (
        (RDL, "cross-entropy"), ("RDL + KD", "KD"), (RDL, "KD"), ("permuted within class", "cross-entropy"),
        (RDL, "label RDM"),
    )
]  # fmt: skip
