"""How much memory does a step with 2,000 conditions need? ``python tests/benchmarks/bench_gradient_caching.py``.

ResNet-18 at 64 x 64 pixels with the RDM loss on layer4, on the CPU. Each case runs in a process of its own, whose peak
memory is the largest resident set that the operating system saw.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import torch

from brainrdl import RDMLoss, Student
from brainrdl.models.networks import build
from brainrdl.models.student import StudentOutput
from brainrdl.training.gradient_caching import cached_backward

CASES = {  # name: number of conditions, micro-batch (0: one pass)
    "64 conditions in one pass": (64, 0),
    "2,000 conditions, micro-batches of 64": (2000, 64),
    "256 conditions in one pass": (256, 0),
}


def measure(n: int, micro_batch: int) -> None:
    torch.manual_seed(0)
    student = Student(build("resnet18").module, ["layer4"]).train()
    images, teacher = torch.rand(n, 3, 64, 64), torch.rand(n * (n - 1) // 2)
    before, started = peak(), time.perf_counter()

    def loss_of(output: StudentOutput) -> torch.Tensor:
        return RDMLoss()(output.patterns["layer4"], teacher)

    if micro_batch:
        cached_backward(student, images, loss_of, micro_batch, torch.Tensor.backward)
    else:
        loss_of(student(images)).backward()
    print(f"{peak():.0f} {before:.0f} {time.perf_counter() - started:.1f}")


def peak() -> float:
    """Peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    print("| step | peak (MiB) | before the step (MiB) | seconds | peak over that of 64 |\n|---|---|---|---|---|")
    first = 0.0
    for name, (n, micro_batch) in CASES.items():
        command = [sys.executable, __file__, str(n), str(micro_batch)]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        highest, before, seconds = map(float, found)
        first = first or highest
        print(f"| {name} | {highest:.0f} | {before:.0f} | {seconds:.1f} | {highest / first:.2f} |")


if __name__ == "__main__":
    measure(*map(int, sys.argv[1:])) if len(sys.argv) > 1 else main()
