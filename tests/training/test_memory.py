"""A long fit needs no more memory than a short one."""

from __future__ import annotations

import gc
from collections.abc import Mapping

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor, nn

from brainrdl import RDMTeacher, Stimuli, Student, Task, fit, rdms

N = 24
NAMES = tuple(f"s{i:02d}" for i in range(N))


class Memory:
    """Notes the memory of the process after 100 steps, 1,100 steps, and so on."""

    def __init__(self) -> None:
        self.bytes: list[int] = []

    def on_step(self, step: int, losses: Mapping[str, Tensor]) -> None:
        if step % 1000 == 100:
            gc.collect()
            self.bytes.append(psutil.Process().memory_info().rss)


@pytest.mark.slow
def test_the_memory_of_a_fit_does_not_grow_with_its_steps() -> None:
    torch.manual_seed(0)
    images = torch.rand(N, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    stimuli = Stimuli.from_arrays(images, NAMES, labels=[f"{i % 3}" for i in range(N)])
    teacher = RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, N * (N - 1) // 2)), NAMES))
    student = Student(nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3)), ["1"])
    memory = Memory()
    fit(
        student, teacher, stimuli, task=Task(), validation=NAMES[:4], batch_size=8, steps=10_000, evaluate_every=500,
        callbacks=[memory], device="cpu", progress=False,
    )  # fmt: skip
    assert len(memory.bytes) == 10
    assert max(memory.bytes[1:]) - memory.bytes[0] < 4 * 2**20, memory.bytes  # 400 bytes per step
