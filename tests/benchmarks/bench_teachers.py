"""What does a network as teacher cost? ``python tests/benchmarks/bench_teachers.py`` prints a Markdown table.

A ResNet-18 student learns from the RDMs of a ResNet-18 teacher at 32 x 32 pixels, batch 64, with `fit`:

- *live*: the teacher computes its patterns in each step. Compared with `fit` without its own teacher plus the teacher's
  bare forward pass on the same number of images.
- *cached*: the teacher's patterns of all images are computed once, before the steps that are measured. Compared with a
  teacher whose RDM is computed in advance.

The runs take turns, and processor times are compared, so that a busy machine slows all equally.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from brainrdl import NetworkTeacher, RDMTeacher, Stimuli, Student, fit, rdms
from brainrdl.models.networks import build
from brainrdl.teachers.protocol import Teacher

N_IMAGES, BATCH, SHORT, LONG, ROUNDS = 256, 64, 4, 16, 5
LAYER = "layer3"


def stimuli() -> Stimuli:
    images = torch.rand(N_IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Stimuli.from_arrays(images, [f"s{k:03d}" for k in range(N_IMAGES)])


def seeded(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build("resnet18").module


def step_of_fit(teacher: Teacher, shown: Stimuli) -> float:
    """Milliseconds of processor time for a step of `fit`: what the steps between a short and a long run need."""

    def run(steps: int) -> Callable[[], object]:
        return lambda: fit(
            Student(seeded(0), [LAYER]), teacher, shown, steps=steps, batch_size=BATCH, evaluate_every=10**6,
            device="cpu", progress=False,
        )  # fmt: skip

    return (_spent(run(LONG)) - _spent(run(SHORT))) / (LONG - SHORT) * 1e3


def forward_pass(shown: Stimuli) -> float:
    """Milliseconds of processor time for the teacher network alone."""
    network, images = seeded(1).eval(), shown.images()[:BATCH]
    with torch.no_grad():
        return _spent(lambda: [network(images) for _ in range(LONG - SHORT)]) / (LONG - SHORT) * 1e3


def _spent(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Print the table."""
    shown = stimuli()
    live = NetworkTeacher(seeded(1), [LAYER], stimuli=shown)
    known = RDMTeacher(rdms.from_tensor(live.rdms(shown.batch(shown.names))[LAYER], shown.names))
    with tempfile.TemporaryDirectory() as folder:
        cached = NetworkTeacher(seeded(1), [LAYER], stimuli=shown, cache=Path(folder))
        cached.rdms(shown.batch(shown.names))
        rows = []
        for _ in range(ROUNDS):
            alone, network = step_of_fit(known, shown), forward_pass(shown)
            rows.append((alone, network, step_of_fit(live, shown), step_of_fit(cached, shown)))
    alone, network = (statistics.median(row[k] for row in rows) for k in (0, 1))
    print(f"CPU, {torch.get_num_threads()} threads; {ROUNDS} rounds of {LONG - SHORT} steps")
    print("| teacher | compared with | ms | ratio (median of rounds) | goal |")
    print("|---|---|---:|---:|---:|")
    ratio = statistics.median(row[2] / (row[0] + row[1]) for row in rows)
    print(f"| live | RDM in memory, and a forward pass | {alone + network:.0f} | {ratio:.3f} | 1.05 |")
    ratio = statistics.median(row[3] / row[0] for row in rows)
    print(f"| cached | RDM in memory | {alone:.0f} | {ratio:.3f} | 1.02 |")


if __name__ == "__main__":
    main()
