"""Experiment 2: 5,000 labelled images of CIFAR-100, and a teacher that was trained on ImageNet.

    python -m docs.experiments.run cifar100 --jobs 2

The teacher has other classes, so its logits say nothing about those of CIFAR-100. Knowledge distillation uses a linear
probe of its last layer instead, fitted to the labels. The logits of an image come from a probe that was fitted to other
images (5 folds).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from brainrdl import FeatureTeacher, Readout, Stimuli, Student, datasets
from brainrdl.models import build
from brainrdl.stimuli import Augmentation
from docs.experiments.measures import Exam
from docs.experiments.methods import METHODS, RDL, WEIGHTED, Problem
from docs.experiments.networks import small_resnet
from docs.experiments.protocol import RESULTS, Experiment, Setting, teachers
from docs.experiments.statistics import Contrast

WORK = Path("runs/experiments")
SUBSET = Path(__file__).parent / "cifar100_subset.npz"  # digests of the images
LAYERS = {"_blocks.4": "block4", "_blocks.10": "block10", "_avg_pooling": "last"}  # of the teacher
STAGES = {"block1": "block10", "block2": "last"}
MORE_STAGES = {"stem": "block4", **STAGES}
CELLS, MEAN = Readout("grid:4"), Readout("avgpool")
READOUT = {"stem": CELLS, "block1": CELLS, "block2": MEAN}
AUGMENTATION = Augmentation(crop=4, flip=True)
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
    """Images and labels: x_train, y_train, x_test, y_test of the subset, and x_unlabelled from CIFAR-10.

    They are read from the folder BRAINRDL_DATA, or found in the whole data sets by the digests of their pixels.
    """
    folder = Path(os.environ.get("BRAINRDL_DATA", WORK))
    if not (folder / "cifar100_mini.npz").exists():
        return _found("train") | _found("test") | _found("unlabelled")
    with np.load(folder / "cifar100_mini.npz") as file, np.load(folder / "cifar10_test2000.npz") as other:
        subset = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
        return subset | {"x_unlabelled": other["x_test"]}


def _found(part: str) -> dict[str, np.ndarray]:
    name = "cifar10" if part == "unlabelled" else "cifar100"
    whole = datasets.load(name, train=part == "train").stimuli
    pixels = (whole.images().permute(0, 2, 3, 1) * 255).round().byte().numpy()
    labels = whole.batch(whole.names).labels.numpy()
    places = {digest(image): place for place, image in enumerate(pixels)}
    chosen = [places[one] for one in np.load(SUBSET)[part].tolist()]
    found = {f"x_{part}": pixels[chosen], f"y_{part}": labels[chosen]}
    return {name: rows for name, rows in found.items() if name != "y_unlabelled"}


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
    """Training, test or unlabelled images, named "train 17" and so on; in [0, 1]."""
    found = arrays()
    pixels = torch.from_numpy(found[f"x_{part}"]).permute(0, 3, 1, 2).contiguous()
    names = [f"{part} {place}" for place in range(len(pixels))]
    labels = [f"{label:02d}" for label in found[f"y_{part}"]] if f"y_{part}" in found else None
    return Stimuli.from_arrays(pixels, names, labels=labels)


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
    readout = {layer: MEAN if target == "last" else CELLS for layer, target in LAYERS.items()}
    return Student(module, LAYERS, readout=readout, trainable="none", batchnorm="train")


@cache
def patterns(part: str, kind: str = "imagenet") -> dict[str, np.ndarray]:
    """The teacher's patterns of all images, in half precision; they are computed once and stored.

    `kind` is "imagenet", or "normalised_random": random weights, and batch normalisation with the statistics of the
    images.
    """
    path = WORK / f"cifar100_{kind}_{part}_{SIZE}_{'_'.join(LAYERS.values())}.npz"
    if path.exists():
        with np.load(path) as file:
            return {name: file[name] for name in file}
    teacher, pixels = _network(kind), torch.from_numpy(arrays()[f"x_{part}"]).permute(0, 3, 1, 2)
    teacher.eval()
    with torch.no_grad():
        if kind == "normalised_random":
            normalise(teacher, pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:1000]])
        found = [teacher(_large(part)).patterns for part in pixels.split(100)]
    stored = {
        target: torch.cat([one[layer] for one in found]).half().numpy() for layer, target in teacher.match.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **stored)
    return stored


def normalise(network: nn.Module, pixels: torch.Tensor) -> None:
    """Let batch normalisation use the mean statistics of these images; everything else is as in evaluation."""
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over batches
        layer.train()
    for part in pixels.split(100):
        network(_large(part))
    for layer in layers:
        layer.eval()


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
def probed(tuning: bool, part: str = "train") -> np.ndarray:
    """Logits of all images of a part; those of images in training come from probes that were fitted to others."""
    name = f"cifar100_probe_{'tuning' if tuning else 'final'}"
    path = WORK / f"{name}_{part}_{SIZE}.npy"
    if path.exists():
        return np.load(path)
    places = split()[0] if tuning else without_duplicates()
    rows, labels, penalty = patterns("train")["last"], arrays()["y_train"], _penalty()
    logits = apply(probe(rows[places], labels[places], penalty), patterns(part)["last"])
    if part == "train":
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


@dataclass(frozen=True)
class Design:
    """What differs between settings.

    Parameters
    ----------
    epochs, tuning_epochs : int
        Length of the training of the final students, and of those of the trials.
    width : int
        Channels of the student's first convolution.
    more_stages : bool
        Compare the student's first convolution with an early block of the teacher, too.
    unlabelled : bool
        Give 2,000 images of CIFAR-10 without labels to all methods that can use them.
    """

    epochs: int
    width: int
    tuning_epochs: int = 30
    more_stages: bool = False
    unlabelled: bool = False

    @property
    def stages(self) -> dict[str, str]:
        """Layers of the student and the teacher's targets for them."""
        return MORE_STAGES if self.more_stages else STAGES

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and what all settings share."""
        readout = {layer: READOUT[layer].pool for layer in self.stages}
        shared = {"size": SIZE, "stages": self.stages, "readout": readout, "augmentation": repr(AUGMENTATION)}
        return FIT | vars(self) | shared


def _problem(design: Design, places: Sequence[int], epochs: int, tuning: bool) -> Problem:
    train, stages = images("train"), design.stages
    labelled = train.select([train.names[place] for place in places])
    parts = ("train", "unlabelled") if design.unlabelled else ("train",)
    return Problem(
        labelled.with_augmentation(AUGMENTATION),
        partial(small_resnet, design.width),
        stages,
        _rows(stages, parts, "imagenet"),
        [name for part in parts for name in images(part).names],
        np.concatenate([probed(tuning, part) for part in parts]),
        {layer: READOUT[layer] for layer in stages},
        fit=FIT | {"steps": epochs * (len(places) // BATCH)},
        unlabelled=images("unlabelled").with_augmentation(AUGMENTATION) if design.unlabelled else None,
        random_patterns=partial(_rows, stages, parts, "normalised_random"),
    )


def _rows(stages: Mapping[str, str], parts: Sequence[str], kind: str) -> dict[str, np.ndarray]:
    return {target: np.concatenate([patterns(part, kind)[target] for part in parts]) for target in stages.values()}


@cache
def _final(design: Design) -> Problem:
    return _problem(design, without_duplicates(), design.epochs, tuning=False)


def problem(design: Design, seed: int) -> Problem:
    """All training images without duplicates; seeds differ in weights, batches and augmentation."""
    return _final(design)


@cache
def tuning(design: Design) -> tuple[Problem, Stimuli]:
    """Four fifths of the training images, and the others for validation."""
    train, validation = split()
    names = images("train").names
    return (
        _problem(design, train, design.tuning_epochs, tuning=True),
        images("train").select([names[place] for place in validation]),
    )


@cache
def exam(design: Design) -> Exam:
    """All test images."""
    test, stages = images("test"), design.stages
    features = FeatureTeacher(_rows(stages, ("test",), "imagenet"), names=test.names)
    return Exam(test, features, stages, noise=0.08, fgsm=2 / 255)


FIRST = ("cross-entropy", RDL, "KD", "RDL + KD", "permuted within class", "label RDM")
ORDER = (*FIRST, *(name for name in METHODS if name not in (*FIRST, WEIGHTED)))


def setting(
    name: str,
    design: Design,
    methods: Sequence[str] = FIRST,
    trials: int = 3,
    seeds: int = 5,
    tuned_as: str | None = None,
) -> Setting:
    """A setting of the experiment, with its own trials or the settings that were chosen in another one."""
    made = partial(problem, design), partial(tuning, design), partial(exam, design)
    return Setting(name, *made, seeds, trials, TRAINING, methods, tuned_as, design.as_dict())


NARROW = "narrow student, 30 epochs"
TUNED = "wider student, own trials"
EXPERIMENT = Experiment(
    "cifar100",
    (
        setting(NARROW, Design(30, 16), ORDER),
        setting("narrow student, 60 epochs", Design(60, 16), tuned_as=NARROW),
        setting("wider student, 60 epochs", Design(60, 24), tuned_as=NARROW),
        setting(TUNED, Design(60, 24, tuning_epochs=60), FIRST[:4], trials=4),
        setting(
            "wider student, three stages", Design(60, 24, tuning_epochs=60, more_stages=True), (RDL, WEIGHTED), trials=4
        ),
        setting(
            "wider student, 2,000 unlabelled", Design(60, 24, tuning_epochs=60, unlabelled=True), FIRST[1:4], trials=4,
            seeds=3, tuned_as=TUNED,
        ),
    ),
)  # fmt: skip

CONTRASTS = [
    Contrast(one.name, first, second)
    for one in EXPERIMENT.settings
    for first, second in (
        (RDL, "cross-entropy"), ("RDL + KD", "KD"), (RDL, "KD"), ("permuted within class", "cross-entropy"),
        (RDL, "label RDM"), (WEIGHTED, RDL),
    )
    if {first, second} <= set(one.methods)
]  # fmt: skip
