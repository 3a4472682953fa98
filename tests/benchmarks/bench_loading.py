"""How fast are batches loaded? ``python tests/benchmarks/bench_loading.py`` prints a Markdown table of ratios.

`Loader` against a hand-written ``DataLoader`` with the same images, transform, augmentation and number of processes:
a folder of JPEG files of 224 pixels, and images of CIFAR's size in memory with random crops and flips. The two take
turns, so that a busy machine slows both equally. Processes stay alive between the turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from brainrdl.stimuli import Augmentation, ImageTransform, Stimuli
from brainrdl.training import Batches, Loader

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
N_FILES, N_PIXELS, TURNS = 256, 6400, 7


def write_images(folder: Path) -> None:
    """JPEG files of smooth random images, with about the size of photographs."""
    random = np.random.default_rng(0)
    for i in range(N_FILES):
        (folder / f"class{i % 4}").mkdir(exist_ok=True)
        small = Image.fromarray(random.integers(0, 255, (56, 56, 3), dtype=np.uint8))
        small.resize((224, 224), Image.Resampling.BICUBIC).save(folder / f"class{i % 4}" / f"{i:04d}.jpg", quality=90)


class InMemory(Dataset[Any]):
    """Images in memory with a transform for each image, as tutorials write it."""

    def __init__(self, pixels: torch.Tensor, transform: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.pixels, self.transform = pixels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pixels[i]), i % 10


def ours(stimuli: Stimuli, batch_size: int, workers: int) -> Iterator[float]:
    """Yield the time of one epoch after another."""
    batches = Batches(stimuli.names, batch_size)
    n = batches.steps_per_epoch
    with Loader(stimuli, batches.at, seed=0, augmented=True, workers=workers, device="cpu") as loader:
        for epoch in count():
            start = time.perf_counter()
            for step in range(2 * epoch * n, (2 * epoch + 1) * n):  # not consecutive: nothing is loaded ahead
                loader.at(step)
            yield time.perf_counter() - start


def theirs(dataset: Any, batch_size: int, workers: int) -> Iterator[float]:
    """Yield the time of one epoch after another."""
    loader = DataLoader(
        dataset, batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        start = time.perf_counter()
        for _ in loader:
            pass
        yield time.perf_counter() - start


def compare(name: str, n_images: int, one: Iterator[float], other: Iterator[float]) -> None:
    """Print images per second of `other`, and the relative speed of `one`, without the first epochs."""
    next(one), next(other)
    pairs = [(next(one), next(other)) for _ in range(TURNS)]
    speed = n_images / statistics.median(b for _, b in pairs)
    ratios = sorted(b / a for a, b in pairs)
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(f"| {name} | {speed:.0f} | {statistics.median(ratios):.2f} | {spread} |", flush=True)


def main() -> None:
    """Print the table."""
    print("| images | DataLoader (images/s) | images/s relative to it, median | range |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder)
        stimuli = Stimuli.from_folder(folder, ImageTransform(224, MEAN, STD))
        convert = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
        for workers in (0, 2):
            compare(
                f"JPEG, 224 px, batch 32, {workers} processes", N_FILES,
                ours(stimuli, 32, workers), theirs(ImageFolder(name, convert), 32, workers),
            )  # fmt: skip
    pixels = torch.randint(256, (N_PIXELS, 3, 32, 32), dtype=torch.uint8)
    names = [f"{i:05d}" for i in range(N_PIXELS)]
    stimuli = Stimuli.from_arrays(pixels, names, labels=[f"{i % 10}" for i in range(N_PIXELS)])
    stimuli = stimuli.with_transform(ImageTransform(32, MEAN, STD)).with_augmentation(Augmentation(4, True))
    change = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    for workers in (0, 2):
        compare(
            f"32 px in memory, crops and flips, batch 128, {workers} processes", N_PIXELS,
            ours(stimuli, 128, workers), theirs(InMemory(pixels, change), 128, workers),
        )  # fmt: skip


if __name__ == "__main__":
    main()
