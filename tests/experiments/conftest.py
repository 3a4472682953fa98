"""A small problem for the protocol of the experiments: three classes of images, patterns of a teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from brainrdl import Readout, Stimuli
from docs.experiments.methods import Problem


def network() -> nn.Module:
    first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    return nn.Sequential(first, nn.Sequential(nn.Flatten(), nn.Linear(256, 6)), nn.Linear(6, 3))


def images(n: int, seed: int) -> Stimuli:
    """Noise, and a bright part whose place is the class."""
    generator = torch.Generator().manual_seed(seed)
    pixels, classes = torch.rand(n, 1, 8, 8, generator=generator), torch.arange(n) % 3
    for image, place in zip(pixels, classes.tolist(), strict=True):
        image[0, 2 * place : 2 * place + 3] *= 0.1
    names = [f"{seed} {number}" for number in range(n)]
    return Stimuli.from_arrays(pixels, names, labels=[f"class {place}" for place in classes])


@pytest.fixture(scope="session")
def problem() -> Problem:
    labelled, others = images(30, 0), images(12, 1)
    random = np.random.default_rng(0)
    names = labelled.names + others.names
    patterns = {"early": random.normal(size=(42, 10)), "late": random.normal(size=(42, 5))}
    return Problem(
        labelled, network, {"0": "early", "1": "late"}, patterns, names, random.normal(size=(42, 3)),
        {"0": Readout("avgpool")}, fit={"steps": 2, "batch_size": 12, "device": "cpu"}, unlabelled=others,
        random_patterns=lambda: {name: rows[::-1].copy() for name, rows in patterns.items()},
    )  # fmt: skip
