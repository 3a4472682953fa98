"""Cost of the RDM of a whole batch, which each of several processes computes, against its share of the network.

For 512 to 8,192 conditions with 512 channels: processor time of RDM, loss and gradient, the growth of the peak memory,
and the ratio to a ResNet-18 step for all of these images, measured with 8 images of 224 px. The ratio with P processes
is P times as large, because each passes 1/P of the images. One thread; each size runs in a process of its own, so that
peaks do not mix. Run with ``python tests/benchmarks/bench_rdm_of_large_batches.py``.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torchvision.models import resnet18

from brainrdl import RDMLoss

CHANNELS, IMAGES = 512, 8


def processor_time(run: Callable[[], None], repeats: int = 2) -> float:
    found = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        found.append(time.process_time() - started)
    return min(found)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def of_rdm(n: int, similarity: str) -> tuple[float, float]:
    torch.manual_seed(0)
    patterns, teacher = torch.randn(n, CHANNELS, requires_grad=True), torch.rand(n * (n - 1) // 2)
    loss, before = RDMLoss(similarity=similarity), peak()
    seconds = processor_time(lambda: loss(patterns, teacher).backward())
    return seconds, peak() - before


def of_network() -> float:
    network, images = resnet18(), torch.rand(IMAGES, 3, 224, 224)
    return processor_time(lambda: network(images).sum().backward()) / IMAGES


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        print(*of_rdm(int(sys.argv[1]), sys.argv[2]))
        return
    per_image = of_network()
    print(f"ResNet-18, 224 px: {per_image:.3f} s per image")
    for n in (512, 1024, 2048, 4096, 8192):
        for similarity in ("corr", "cosine"):
            command = [sys.executable, __file__, str(n), similarity]
            seconds, megabytes = map(float, subprocess.check_output(command, text=True).split())
            share = seconds / (n * per_image)
            print(f"{n:5d} {similarity:7s} {seconds:7.3f} s {megabytes:6.0f} MB {100 * share:.2f} % x processes")


if __name__ == "__main__":
    main()
