"""Experiment 1: MNIST with few labels, a LeNet-size student and a larger CNN as teacher.

    python -m docs.experiments.mnist --jobs 2
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from brainrdl import FeatureTeacher, NetworkTeacher, Stimuli, Student, Task, datasets, fit
from brainrdl.models import build
from docs.experiments.measures import Exam, error_rate
from docs.experiments.protocol import METHODS, Experiment, Problem, Setting, main

WORK = Path("runs/experiments")  # the trained teacher and its patterns
STAGES = {"conv2": "conv2", "fc1": "fc1", "logits": "logits"}
N_TUNING = 2000
TRAINING = {"lr": (0.004, 0.001, 0.01), "weight_decay": (1e-3, 1e-4, 1e-1)}
FIT = {"batch_size": 100, "optimizer": "adamw", "schedule": "cosine", "channels_last": True, "device": "cpu"}


def teacher_network() -> nn.Module:
    """Two convolution stages of 32 and 64 channels and a hidden layer."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
            fc1=nn.Sequential(nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Dropout(0.5)),
            logits=nn.Linear(128, 10),
        )
    )


@cache
def digits(train: bool) -> Stimuli:
    """Training or test digits, in [0, 1]."""
    return datasets.load("mnist", train=train).stimuli


@cache
def teacher(steps: int = 3000) -> nn.Module:
    """Teacher trained on all training digits; it is trained once and stored."""
    network, path = teacher_network(), WORK / f"mnist_teacher_{steps}.safetensors"
    if path.exists():
        network.load_state_dict(load_file(path))
        return network
    torch.manual_seed(0)
    student = Student(teacher_network(), list(STAGES), batchnorm="train")
    options = {"steps": steps, "batch_size": 128, "lr": 0.002, "schedule": "cosine", "evaluate_every": steps}
    network = fit(student, None, digits(True), rdm_weight=0, task=Task(), channels_last=True, **options).student.model
    network.to(memory_format=torch.contiguous_format)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    print(f"teacher: test error {error_rate(student, digits(False))[0]:.2%}")
    return network


def patterns_of(network: nn.Module, stimuli: Stimuli) -> dict[str, np.ndarray]:
    """Patterns of all layers of the teacher, in half precision."""
    source = NetworkTeacher(network, list(STAGES), name="CNN teacher")
    parts = [
        source.patterns(stimuli.batch(stimuli.names[start : start + 500])) for start in range(0, len(stimuli), 500)
    ]
    return {layer: torch.cat([part[layer] for part in parts]).half().numpy() for layer in STAGES}


def drawn(n_labels: int, seed: int) -> tuple[Stimuli, tuple[str, ...]]:
    """Labelled digits, the same number of each class, and the names of all others in random order."""
    train = digits(True)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [train.names[i] for i in order]
    labels = train.labels or {}
    chosen = {name for digit in train.categories for name in _first(shuffled, labels, digit, n_labels // 10)}
    return train.select(name for name in shuffled if name in chosen), tuple(n for n in shuffled if n not in chosen)


def _first(names: list[str], labels: dict[str, str], digit: str, n: int) -> list[str]:
    return [name for name in names if labels[name] == digit][:n]


@lru_cache(maxsize=2)
def problem(n_labels: int, steps: int, n_unlabelled: int, seed: int) -> Problem:
    """1,000 labelled digits, for example, and the teacher's patterns of them."""
    labelled, others = drawn(n_labels, seed)
    unlabelled = digits(True).select(others[-n_unlabelled:]) if n_unlabelled else None
    shown = labelled if unlabelled is None else digits(True).select(labelled.names + unlabelled.names)
    found = patterns_of(teacher(), shown)
    return Problem(
        labelled,
        lambda: build("lenet").module,
        STAGES,
        found,
        shown.names,
        found["logits"],
        dissimilarity="euclidean",
        fit=FIT | {"steps": steps},
        unlabelled=unlabelled,
        random_patterns=lambda: _random_patterns(seed, shown),
    )


def _random_patterns(seed: int, shown: Stimuli) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    return patterns_of(teacher_network(), shown)


@cache
def tuning(n_labels: int, steps: int, n_unlabelled: int) -> tuple[Problem, Stimuli]:
    """Digits of a further seed, and others for validation."""
    _, others = drawn(n_labels, 1000)
    return problem(n_labels, steps, n_unlabelled, 1000), digits(True).select(others[:N_TUNING])


@cache
def exam() -> Exam:
    """All test digits."""
    test = digits(False)
    few = test.select(test.names[:500])
    features = FeatureTeacher(patterns_of(teacher(), few), names=few.names, dissimilarity="euclidean")
    return Exam(test, features, STAGES, noise=0.3, fgsm=0.1)


def setting(name: str, n_labels: int, steps: int, n_unlabelled: int = 0, seeds: int = 10, trials: int = 4) -> Setting:
    """A setting of the experiment."""
    made = partial(problem, n_labels, steps, n_unlabelled)
    return Setting(
        name, made, partial(tuning, n_labels, steps, n_unlabelled), exam, seeds, trials, TRAINING, ORDER
    )


FIRST = (
    "cross-entropy", "RDL, several stages", "KD", "RDL + KD", "label RDM", "permuted within class",
)  # fmt: skip
ORDER = (*FIRST, *(name for name in METHODS if name not in FIRST))
EXPERIMENT = Experiment(
    "mnist",
    (
        setting("1,000 labels", 1000, 1000),
        setting("1,000 labels, 9,000 unlabelled", 1000, 1000, 9000),
        setting("100 labels", 100, 1000),
        setting("5,000 labels", 5000, 1000),
        setting("60,000 labels", 60000, 3000, seeds=5),
    ),
)

if __name__ == "__main__":
    main(EXPERIMENT)
