"""What does `fit` cost beside a loop written by hand? ``python tests/benchmarks/bench_fit.py`` prints a Markdown table.

- *hand loop*: a network learns to classify 32 x 32 images with torch's DataLoader, random crops and flips of the batch;
  `fit` does the same with a task on these images, in the same number of steps, end to end.
- *overhead*: a step of `fit` with a network that costs almost nothing, minus a bare step with the same loss.

The two take turns, so that a busy machine slows both equally. Times are processor times, of the process and of its
workers.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from brainrdl import RDMLoss, RDMTeacher, Stimuli, Student, Task, fit, rdms
from brainrdl.models.networks import build
from brainrdl.stimuli.augmentation import Augmentation

N_IMAGES, BATCH, STEPS, ROUNDS = 5000, 128, 40, 5
QUIET = {"device": "cpu", "progress": False}


def pixels() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (N_IMAGES, 3, 32, 32), dtype=torch.uint8, generator=random)
    return images, torch.randint(0, 10, (N_IMAGES,), generator=random)


def network() -> nn.Module:
    torch.manual_seed(0)
    return build("resnet18").module


class Floats(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """As people write it: one image per item."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        return self.images[item].float() / 255, int(self.labels[item])


def hand_loop(images: Tensor, labels: Tensor, steps: int, workers: int) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = torch.utils.data.DataLoader(
        Floats(images, labels), BATCH, shuffle=True, drop_last=True, num_workers=workers,
        persistent_workers=workers > 0,
    )  # fmt: skip
    model.train()
    random = torch.Generator().manual_seed(0)
    batches = iter(loader)
    for _ in range(steps):
        try:
            shown, target = next(batches)
        except StopIteration:
            batches = iter(loader)
            shown, target = next(batches)
        shown = _crops_and_flips(shown, random)
        optimizer.zero_grad()
        loss = cross_entropy(model(shown), target)
        loss.backward()
        optimizer.step()


def _crops_and_flips(images: Tensor, random: torch.Generator) -> Tensor:
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    corners = torch.randint(0, 9, (len(images), 2), generator=random).tolist()
    mirrored = (torch.rand(len(images), generator=random) < 0.5).tolist()
    parts = [padded[k, :, top : top + 32, left : left + 32] for k, (top, left) in enumerate(corners)]
    return torch.stack([part.flip(-1) if flip else part for part, flip in zip(parts, mirrored, strict=True)])


def with_fit(stimuli: Stimuli, steps: int, workers: int) -> None:
    student = Student(network(), ["layer4"], batchnorm="train")
    options = {"steps": steps, "evaluate_every": steps, "batch_size": BATCH, "lr": 1e-3, "workers": workers}
    fit(student, None, stimuli, rdm_weight=0, task=Task(), **options, **QUIET)  # type: ignore[arg-type]


def with_workers() -> float:
    """Processor time of this process and of its workers that have ended, in seconds."""
    return sum(os.times()[:4])


def seconds(clock: Callable[[], float], work: Callable[[], None]) -> float:
    start = clock()
    work()
    return clock() - start


def end_to_end(workers: int) -> tuple[float, float]:
    """Seconds of the hand loop, and the ratio of `fit` to it, for the steps between a short and a long run."""
    images, labels = pixels()
    names = [f"{k:04d}" for k in range(N_IMAGES)]
    stimuli = Stimuli.from_arrays(images, names, labels=[str(label) for label in labels.tolist()])
    stimuli = stimuli.with_augmentation(Augmentation(crop=4, flip=True))
    pairs = []
    for _ in range(ROUNDS):
        runs: list[Callable[[int], None]] = [
            lambda steps: hand_loop(images, labels, steps, workers),
            lambda steps: with_fit(stimuli, steps, workers),
        ]
        spent = []
        for run in runs:
            short, long = (seconds(with_workers, lambda steps=steps, run=run: run(steps)) for steps in (2, 2 + STEPS))
            spent.append(long - short)
        pairs.append(spent)
    return statistics.median(hand for hand, _ in pairs), statistics.median(ours / hand for hand, ours in pairs)


def overhead() -> tuple[float, float]:
    """Milliseconds of a bare step with the RDM loss, and what `fit` adds to it."""
    names = [f"s{k}" for k in range(128)]
    teacher = RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 128 * 127 // 2)), names))
    stimuli = Stimuli.from_arrays(torch.rand(128, 1, 4, 4), names).cached()

    def small() -> Student:
        torch.manual_seed(0)
        return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 8)), ["1"])

    def bare(steps: int) -> None:
        model, loss = small().model, RDMLoss()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        batch = stimuli.batch(names[:64])
        targets = teacher.rdms(batch)
        for _ in range(steps):
            optimizer.zero_grad()
            loss({"1": model(batch.images)}, targets).backward()
            optimizer.step()

    def ours(steps: int) -> None:
        fit(small(), teacher, stimuli, steps=steps, batch_size=64, evaluate_every=10**6, **QUIET)  # type: ignore[arg-type]

    found = []
    for _ in range(ROUNDS):
        times = []
        for run in (bare, ours):
            short, long = (seconds(time.process_time, lambda n=n, run=run: run(n)) for n in (10, 510))
            times.append((long - short) / 500 * 1e3)
        found.append(times)
    return statistics.median(a for a, _ in found), statistics.median(b - a for a, b in found)


def main() -> None:
    """Print the tables."""
    print(f"CPU, {torch.get_num_threads()} threads")
    print("| what | hand-written | brainrdl.fit |")
    print("|---|---|---|")
    bare, more = overhead()
    print(f"| step with a network of no cost (ms) | {bare:.2f} | + {more:.2f} |", flush=True)
    for workers in (0, 1, 2):
        hand, ratio = end_to_end(workers)
        print(
            f"| ResNet-18, 32 x 32, batch 128, {workers} workers, {STEPS} steps (s) | {hand:.1f} | x {ratio:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
