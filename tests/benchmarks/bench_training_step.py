"""What does the RDM term cost? ``python tests/benchmarks/bench_training_step.py`` prints a Markdown table of ratios.

A training step with cross-entropy alone (the bare network, no hooks) against one with the RDM term beside it, and the
steps of `brainrdl.fit` with and without it. The variants take turns, so that a busy machine slows them alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from brainrdl import RDMLoss, RDMTeacher, Readout, Stimuli, Student, fit, rdms
from brainrdl.dissimilarity import correlation
from brainrdl.models import build
from brainrdl.monitor import check_loss, to_device
from brainrdl.stimuli import Batch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ROUNDS, STEPS = (60, 20) if DEVICE.type == "cuda" else (40, 2)
FIT_ROUNDS, FIT_STEPS = (10, 100) if DEVICE.type == "cuda" else (5, 10)


@dataclass
class Case:
    """A student, its stimuli and a teacher whose RDM is known beforehand."""

    name: str
    target: float
    make: Callable[[], nn.Module]
    layers: list[str]
    shape: tuple[int, int, int]
    n: int

    def student(self) -> Student:
        torch.manual_seed(0)
        return Student(self.make(), self.layers, readout=Readout("flatten")).to(DEVICE)

    def stimuli(self) -> Stimuli:
        images = torch.rand(self.n, *self.shape, generator=torch.Generator().manual_seed(1))
        names = [f"s{i:04d}" for i in range(self.n)]
        return Stimuli.from_arrays(images, names, labels=[f"{i % 10}" for i in range(self.n)])

    def teacher(self) -> RDMTeacher:
        hidden = torch.randn(self.n, 50, generator=torch.Generator().manual_seed(2))
        return RDMTeacher(rdms.from_tensor(correlation(hidden)[None], self.stimuli().names))


CASES = [
    Case("LeNet, batch 100, 2 layers", 1.15, lambda: build("lenet").module, _lenet_layers(), (1, 28, 28), 100),
    Case(
        "ResNet-18 at 32x32, batch 128, 3 layers",
        1.10,
        lambda: build("resnet18").module,
        ["layer1", "layer2", "layer3"],
        (3, 32, 32),
        128,
    ),
]
