"""How near is the gradient with remembered patterns to the exact one?

``python tests/benchmarks/bench_pattern_memory.py``

A convolutional network learns the RDM that another network has for 256 images, with batches of 16. At
some steps of the training, gradients at the present weights are compared with that of the RDM of all 256 conditions:

- *step*: the mean cosine of the gradient of one batch (its bias and its noise);
- *mean*: the cosine of the mean gradient of 32 random batches (mostly its bias).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from brainrdl import RDMLoss, Student
from brainrdl.dissimilarity.measures import resolve
from brainrdl.dissimilarity.pairs import to_square
from brainrdl.training import Batches, PatternMemory

N, BATCH, STEPS, DRAWS, SEEDS = 256, 16, 49, 32, 2
NAMES = tuple(f"s{i}" for i in range(N))
MEMORIES = (0, 32, 128, 256)
RATES = (0.0, 1e-3, 1e-2)
LOOKS = (24, 48)
LOSS = RDMLoss()


def network(seed: int, width: int = 8) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(18 * width, 32),
    )  # fmt: skip


def setting(seed: int) -> tuple[Tensor, Tensor]:
    """Images of 8 categories, and the square RDM of their patterns in another network, with noise."""
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.rand(8, 3, 16, 16, generator=generator).repeat(N // 8, 1, 1, 1)
    images = (prototypes + torch.rand(N, 3, 16, 16, generator=generator)) / 2
    with torch.no_grad():
        rows = network(100 + seed, 16)(images)
    rdm = resolve("correlation")(rows + 0.5 * rows.std() * torch.randn(rows.shape, generator=generator))
    return images, to_square(rdm)


def rdm_of(square: Tensor, places: Sequence[int]) -> Tensor:
    i, j = torch.triu_indices(len(places), len(places), 1)
    return square[list(places)][:, list(places)][i, j][None]


def gradient(student: Student, images: Tensor, square: Tensor, names: Sequence[str], memory: PatternMemory) -> Tensor:
    """The gradient of a batch with a memory, as one vector."""
    others = memory.without(names)
    places = [NAMES.index(name) for name in (*names, *others.names)]
    rows = others.added_to(student(images[places[: len(names)]]).patterns)
    loss = LOSS(rows, others.compared({"rdm": rdm_of(square, places)}))
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, student.trainable_parameters())])


def looks(seed: int, size: int, lr: float) -> Iterator[tuple[float, float]]:
    """Train with a memory; yield the cosines after one and a half and three epochs."""
    images, square = setting(seed)
    student = Student(network(seed), ["5"]).train()
    optimizer = torch.optim.Adam(student.trainable_parameters(), lr)
    batches, memory = Batches(NAMES, BATCH, seed), PatternMemory()
    for step in range(STEPS):
        names = batches.at(step)
        if step in LOOKS:
            exact = gradient(student, images, square, NAMES, PatternMemory())
            drawn = Batches(NAMES, BATCH, seed + 1000 * step)
            found = torch.stack([gradient(student, images, square, drawn.at(k), memory) for k in range(DRAWS)])
            yield (
                float(torch.cosine_similarity(found, exact[None], dim=1).mean()),
                float(torch.cosine_similarity(found.mean(0), exact, dim=0)),
            )
        given = gradient(student, images, square, names, memory)
        with torch.no_grad():
            now = student(images[[NAMES.index(name) for name in names]]).patterns
        memory = memory.after(names, now, size) if size else memory
        parameters = student.trainable_parameters()
        for parameter, part in zip(parameters, given.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)
        optimizer.step()


def outcome(seed: int, size: int, lr: float = 1e-3) -> list[float]:
    """Return the RDM correlation of all conditions after 80 and 160 steps with a memory."""
    images, square = setting(seed)
    student = Student(network(seed), ["5"]).train()
    optimizer = torch.optim.Adam(student.trainable_parameters(), lr)
    batches, memory, found = Batches(NAMES, BATCH, seed), PatternMemory(), []
    for step in range(160):
        names, others = batches.at(step), memory.without(batches.at(step))
        places = [NAMES.index(name) for name in (*names, *others.names)]
        patterns = student(images[places[:BATCH]]).patterns
        optimizer.zero_grad()
        LOSS(others.added_to(patterns), others.compared({"rdm": rdm_of(square, places)})).backward()
        optimizer.step()
        memory = memory.after(names, patterns, size) if size else memory
        if step in (79, 159):
            with torch.no_grad():
                found.append(1 - float(LOSS(student(images).patterns, {"rdm": rdm_of(square, range(N))})))
    return found


def main() -> None:
    started = time.process_time()
    print("| memory | " + " | ".join(f"lr {lr:g}: step | mean" for lr in RATES) + " |")
    print("|---:|" + "---:|" * 2 * len(RATES))
    for size in MEMORIES:
        cells = []
        for lr in RATES:
            found = np.array([row for seed in range(SEEDS) for row in looks(seed, size, lr)])
            cells += [f"{value:.2f}" for value in found.mean(0)]
        print(f"| {size} | " + " | ".join(cells) + " |", flush=True)
    print("| memory | correlation after 80 steps | after 160 |\n|---:|---:|---:|")
    for size in MEMORIES:
        early, late = np.mean([outcome(seed, size) for seed in range(SEEDS)], axis=0)
        print(f"| {size} | {early:.2f} | {late:.2f} |", flush=True)
    print(f"{time.process_time() - started:.0f} s of processor time")


if __name__ == "__main__":
    main()
