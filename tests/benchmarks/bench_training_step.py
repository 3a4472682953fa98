"""What does the RDM term cost? ``python tests/benchmarks/bench_training_step.py`` prints a Markdown table of ratios.

A training step with cross-entropy alone (the bare network, no hooks) against one with the RDM term beside it, and the
steps of `brainrdl.fit` without and with it. The two take turns, so that a busy machine slows both equally.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from brainrdl import RDMLoss, RDMTeacher, Stimuli, Student, Task, fit, rdms
from brainrdl.dissimilarity.measures import correlation
from brainrdl.models.networks import build
from brainrdl.stimuli.named_images import Batch
from brainrdl.training.looks import check_loss, to_device

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SECONDS = 10.0  # for each of the two comparisons of a row
LEAST_ROUNDS = 5


@dataclass(frozen=True)
class Case:
    """A student, and how many images of which shape meet in a step."""

    name: str
    network: str
    layers: tuple[str, ...]
    shape: tuple[int, int, int]
    n: int
    target: float

    def student(self) -> Student:
        torch.manual_seed(0)
        return Student(build(self.network).module, list(self.layers)).to(DEVICE)

    def stimuli(self) -> Stimuli:
        images = torch.rand(self.n, *self.shape, generator=torch.Generator().manual_seed(1))
        names = [f"s{i:04d}" for i in range(self.n)]
        return Stimuli.from_arrays(images, names, labels=[f"{i % 10}" for i in range(self.n)])

    def teacher(self) -> RDMTeacher:
        hidden = torch.randn(self.n, 50, generator=torch.Generator().manual_seed(2))
        return RDMTeacher(rdms.from_tensor(correlation(hidden)[None], self.stimuli().names))


CASES = (
    Case("LeNet, batch 100, 2 layers", "lenet", ("conv2", "fc1"), (1, 28, 28), 100, 1.15),
    Case("ResNet-18 at 32x32, batch 128, 3 layers", "resnet18", ("layer1", "layer2", "layer3"), (3, 32, 32), 128, 1.10),
)


def autocast(precision: str) -> AbstractContextManager[Any]:
    return nullcontext() if precision == "fp32" else torch.autocast(DEVICE.type, dtype=torch.bfloat16)


def plain_step(case: Case, precision: str, batch: Batch) -> Callable[[], None]:
    """Cross-entropy alone."""
    student = case.student().train()
    optimizer = torch.optim.Adam(
        student.parameters(), lr=1e-6
    )  # stays where it is: a collapsed student has slow subnormals

    def step() -> None:
        with autocast(precision):
            logits = student.model(batch.images)
        total = cross_entropy(logits.float(), batch.labels)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step


def rdm_step(case: Case, precision: str, batch: Batch) -> Callable[[], None]:
    """Cross-entropy and the RDM loss."""
    student, teacher, loss = case.student().train(), case.teacher(), RDMLoss()
    optimizer = torch.optim.Adam(
        student.parameters(), lr=1e-6
    )  # stays where it is: a collapsed student has slow subnormals

    def step() -> None:
        with autocast(precision):
            patterns, logits = student(batch.images)
        targets = teacher.rdms(batch)
        total = cross_entropy(logits.float(), batch.labels) + loss(patterns, targets)
        check_loss(total, patterns, targets, batch)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], None], steps: int) -> float:
    """Time of one step, the mean over `steps`, the device waited for."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def fit_seconds(case: Case, precision: str, steps: int, rdm_weight: float) -> float:
    """Time of one step of `fit`, as its history has it."""
    fitted = fit(
        case.student(), case.teacher() if rdm_weight else None, case.stimuli(), rdm_weight=rdm_weight, task=Task(),
        steps=steps, evaluate_every=steps, lr=1e-6, device=DEVICE.type, progress=False,
        mixed_precision={"fp32": "no"}.get(precision, precision),
    )  # fmt: skip
    return float(fitted.history.seconds.iloc[-1]) / steps


def in_turns(one: Callable[[], float], other: Callable[[], float]) -> tuple[float, float]:
    """Median time of `one`, and median ratio of `other` to `one`, measured in pairs whose order changes."""
    one(), other()
    pairs, until = [], time.perf_counter() + SECONDS
    while len(pairs) < LEAST_ROUNDS or time.perf_counter() < until:
        if len(pairs) % 2:
            second, first = other(), one()
        else:
            first, second = one(), other()
        pairs.append((first, second))
    return statistics.median(a for a, _ in pairs), statistics.median(b / a for a, b in pairs)


def main() -> None:
    """Print the table."""
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"| {device} | cross-entropy (ms) | with RDM term / without | target | fit (ms) | with / without |")
    print("|---|---|---|---|---|---|")
    for case in CASES:
        for precision in ("fp32", "bf16") if DEVICE.type == "cuda" else ("fp32",):
            batch = to_device(case.stimuli().batch(case.stimuli().names), DEVICE)
            plain, rdm = plain_step(case, precision, batch), rdm_step(case, precision, batch)
            steps = max(1, round(0.02 / seconds(plain, 2)))  # short turns: a busy machine changes from second to second
            alone, ratio = in_turns(partial(seconds, plain, steps), partial(seconds, rdm, steps))
            few = max(3, round(1.0 / alone))  # the first step of a fit is slower; it should not weigh much
            fit_alone, fit_ratio = in_turns(
                partial(fit_seconds, case, precision, few, 0.0), partial(fit_seconds, case, precision, few, 1.0)
            )
            row = f"{alone * 1e3:.1f} | {ratio:.3f} | {case.target:.2f} | {fit_alone * 1e3:.1f} | {fit_ratio:.3f}"
            print(f"| {case.name}, {precision} | {row} |", flush=True)


if __name__ == "__main__":
    main()
