"""Experiment 1: MNIST with few labels, a LeNet-size student and a larger CNN as teacher.

python -m docs.experiments.run mnist --jobs 2
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from brainrdl import FeatureTeacher, NetworkTeacher, Stimuli, Student, Task, datasets, fit
from brainrdl.models import build
from docs.experiments.measures import Exam, error_rate
from docs.experiments.methods import METHODS, RDL, WEIGHTED, Problem
from docs.experiments.networks import mnist_cnn
from docs.experiments.protocol import RESULTS, Experiment, Setting, teachers
from docs.experiments.statistics import Contrast

WORK = Path("runs/experiments")  # teachers of tests and of the small version
TEACHERS = Path(__file__).parent / "teachers"  # those of the results: another training run would be another teacher
N_TUNING = 2000  # validation images of the trials
TRAINING = {"lr": (0.004, 0.002, 0.012), "weight_decay": (1e-3, 1e-4, 1e-1)}
FIT = {"batch_size": 50, "optimizer": "adamw", "schedule": "cosine", "channels_last": True}


def lenet() -> nn.Module:
    """LeNet-5's sizes with ReLU and max pooling; 61,706 parameters."""
    return build("lenet").module


@dataclass(frozen=True)
class Design:
    """What differs between settings.

    Parameters
    ----------
    n_labels, n_unlabelled : int
        Numbers of labelled digits, and of further digits without labels.
    wrong_labels : float
        Proportion of labelled digits with the label of another class.
    steps, teacher_steps : int
        Training steps of the students (batches of 50), and of the teacher (batches of 128 of all 60,000 digits).
    student, teacher : callable
        Make the networks.
    stages : sequence of (student's layer, teacher's layer)
    """

    n_labels: int
    steps: int = 1200
    n_unlabelled: int = 0
    wrong_labels: float = 0.0
    teacher_steps: int = 3000
    student: Callable[[], nn.Module] = lenet
    teacher: Callable[[], nn.Module] = mnist_cnn
    stages: Sequence[tuple[str, str]] = (("conv2", "conv2"), ("fc1", "fc1"), ("logits", "logits"))

    @property
    def layers(self) -> list[str]:
        """Layers of the teacher."""
        return [layer for _, layer in self.stages]

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, functions by their names, and the digest of the teacher's weights (not of tests)."""
        fields = vars(self) | {"stages": [list(stage) for stage in self.stages]}
        weights = weights_of(self.teacher, self.teacher_steps)
        stored = weights.parent == TEACHERS and weights.exists()
        known = {"weights": hashlib.sha256(weights.read_bytes()).hexdigest()[:16]} if stored else {}
        return {name: getattr(value, "__name__", value) for name, value in fields.items()} | known


@cache
def digits(train: bool) -> Stimuli:
    """Training or test digits, in [0, 1]."""
    return datasets.load("mnist", train=train).stimuli


@cache
def teacher(make: Callable[[], nn.Module], steps: int) -> nn.Module:
    """Teacher trained on all training digits; it is trained once and stored."""
    path = weights_of(make, steps)
    if not path.exists():
        torch.manual_seed(0)
        network = make()
        student = Student(network, [list(dict(network.named_children()))[-1]], batchnorm="train")
        options = {"steps": steps, "batch_size": 128, "lr": 0.002, "schedule": "cosine", "evaluate_every": steps}
        fit(student, None, digits(True), rdm_weight=0, task=Task(), **options)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")  # several processes may train it at the same time
        save_file(network.state_dict(), part)
        part.replace(path)
        if path.parent == TEACHERS:
            teachers(RESULTS).add({"teacher": path.stem, "error": error_rate(student, digits(False))[0]})
    network = make()
    network.load_state_dict(load_file(path))
    return network


def weights_of(make: Callable[[], nn.Module], steps: int) -> Path:
    """File of a teacher's weights."""
    return (TEACHERS if steps == Design.teacher_steps else WORK) / f"{make.__name__}_{steps}.safetensors"


def patterns_of(network: nn.Module, layers: Sequence[str], stimuli: Stimuli) -> dict[str, np.ndarray]:
    """Patterns of a network's layers, in half precision."""
    source = NetworkTeacher(network, list(layers), name="teacher")
    parts = [
        source.patterns(stimuli.batch(stimuli.names[start : start + 500])) for start in range(0, len(stimuli), 500)
    ]
    return {layer: torch.cat([part[layer] for part in parts]).half().numpy() for layer in layers}


def drawn(n_labels: int, seed: int) -> tuple[Stimuli, tuple[str, ...]]:
    """Labelled digits, the same number of each class, and the names of all others in random order."""
    train = digits(True)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [train.names[i] for i in order]
    labels = train.labels or {}
    if n_labels == len(train):
        return train, ()
    of = {digit: [name for name in shuffled if labels[name] == digit][: n_labels // 10] for digit in train.categories}
    chosen = {name for names in of.values() for name in names}
    return train.select(name for name in shuffled if name in chosen), tuple(n for n in shuffled if n not in chosen)


@lru_cache(maxsize=2)
def problem(design: Design, seed: int) -> Problem:
    """Labelled digits of a seed, and the teacher's patterns of all digits in use."""
    labelled, others = drawn(design.n_labels, seed)
    return _problem(design, seed, labelled, others)


def _problem(design: Design, seed: int, labelled: Stimuli, others: Sequence[str]) -> Problem:
    unlabelled = digits(True).select(others[-design.n_unlabelled :]) if design.n_unlabelled else None
    shown = labelled if unlabelled is None else digits(True).select(labelled.names + unlabelled.names)
    found = patterns_of(teacher(design.teacher, design.teacher_steps), design.layers, shown)
    return Problem(
        _with_wrong_labels(labelled, design.wrong_labels, seed) if design.wrong_labels else labelled,
        design.student,
        dict(design.stages),
        found,
        shown.names,
        found[design.layers[-1]],
        dissimilarity="euclidean",
        fit=FIT | {"steps": design.steps},
        unlabelled=unlabelled,
        random_patterns=partial(_random_patterns, design, seed, shown),
    )


def _with_wrong_labels(labelled: Stimuli, proportion: float, seed: int) -> Stimuli:
    """Give the first digits, which are in random order, the label of another class."""
    random, labels = np.random.default_rng(seed), dict(labelled.labels or {})
    for name in labelled.names[: round(proportion * len(labelled))]:
        labels[name] = random.choice([other for other in labelled.categories if other != labels[name]])
    return labelled.with_labels(labels)


def _random_patterns(design: Design, seed: int, shown: Stimuli) -> dict[str, np.ndarray]:
    torch.manual_seed(10_000 + seed)  # not the weights from which the teacher was trained
    return patterns_of(design.teacher(), design.layers, shown)


@lru_cache(maxsize=1)
def tuning(design: Design) -> tuple[Problem, Stimuli]:
    """Digits of a further seed, and others for validation."""
    labelled, others = drawn(min(design.n_labels, len(digits(True)) - N_TUNING), 1000)
    return _problem(design, 1000, labelled, others[N_TUNING:]), digits(True).select(others[:N_TUNING])


@cache
def exam(design: Design) -> Exam:
    """All test digits."""
    test = digits(False)
    few = test.select(test.names[:500])
    rows = patterns_of(teacher(design.teacher, design.teacher_steps), design.layers, few)
    features = FeatureTeacher(rows, names=few.names, dissimilarity="euclidean")
    return Exam(test, features, dict(design.stages), noise=0.3, fgsm=0.1)


FIRST = ("cross-entropy", RDL, "KD", "RDL + KD", "label RDM", "permuted within class")
ORDER = (*FIRST, *(name for name in METHODS if name not in (*FIRST, WEIGHTED)))


def setting(
    name: str,
    design: Design,
    seeds: int = 10,
    trials: int = 8,
    methods: Sequence[str] = ORDER,
    tuned_as: str | None = None,
) -> Setting:
    """A setting of the experiment."""
    made = partial(problem, design), partial(tuning, design), partial(exam, design)
    return Setting(name, *made, seeds, trials, TRAINING, methods, tuned_as, {**FIT, **design.as_dict()})


BASE = "1,000 labels"
EXPERIMENT = Experiment(
    "mnist",
    (
        setting(BASE, Design(1000)),
        setting("1,000 labels, 9,000 unlabelled", Design(1000, n_unlabelled=9000), methods=FIRST[:4], tuned_as=BASE),
        setting("100 labels", Design(100), methods=FIRST, tuned_as=BASE),
        setting("5,000 labels", Design(5000), methods=FIRST, tuned_as=BASE),
        setting("1,000 labels, 20 % wrong", Design(1000, wrong_labels=0.2), methods=FIRST, tuned_as=BASE),
        setting("60,000 labels", Design(60000, steps=6000), seeds=5, methods=FIRST, tuned_as=BASE),
    ),
)

CONTRASTS = [
    Contrast(one.name, first, second)
    for one in EXPERIMENT.settings
    for first, second in (
        (RDL, "cross-entropy"), (RDL, "label RDM"), (RDL, "KD"), ("RDL + KD", RDL), ("RDL + KD", "KD"),
        (RDL, "label smoothing"), ("permuted within class", "cross-entropy"),
    )
    if {first, second} <= set(one.methods)
]  # fmt: skip
