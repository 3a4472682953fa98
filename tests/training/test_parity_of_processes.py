"""The gradient over several processes is that of one: every loss, batch statistics, gradients by micro-batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from brainrdl._core.errors import BrainrdlError
from brainrdl.loss.rdm_loss import RDMLoss, differentiable_names
from brainrdl.models.student import Student, StudentOutput
from brainrdl.training.batch_statistics import shared_statistics
from brainrdl.training.distributed import average_gradients, gather, is_first, join, own
from brainrdl.training.gradient_caching import cached_backward

N_CONDITIONS = (8, 7, 5)  # of 4 processes with 5 conditions, the third has one and the last none

LOSSES = {
    **{similarity: RDMLoss(similarity=similarity) for similarity in differentiable_names()},
    **{f"mse {scale}": RDMLoss(form="mse", scale=scale) for scale in ("mean", "none")},  # type: ignore[arg-type]
    **{f"{name} distance": RDMLoss(dissimilarity=name) for name in ("euclidean", "cosine")},
    "some pairs": RDMLoss(n_pairs=6),
    "2016": RDMLoss.rdl2016(half_life=5.0),
}


def make(batchnorm: str) -> Student:
    torch.manual_seed(0)
    last = nn.BatchNorm1d(6, momentum=None)  # its running statistics are means over steps
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 6), last)
    return Student(network.double(), ["1", "5"], batchnorm=batchnorm).train()


def step(loss: RDMLoss, n: int, batchnorm: str = "eval", micro_batch: int | None = None) -> dict[str, Tensor]:
    """Gradients and statistics of a step with a task, in which each process computes its own rows."""
    student, generator = make(batchnorm), torch.Generator().manual_seed(1)
    images = torch.rand(n, 1, 4, 4, generator=generator, dtype=torch.float64)
    pairs = torch.rand(2, 2, n * (n - 1) // 2, generator=generator, dtype=torch.float64)
    labels = torch.arange(n) % 3

    def loss_of(output: StudentOutput) -> Tensor:
        patterns = {layer: gather(rows, n) for layer, rows in output.patterns.items()}
        task = nn.functional.cross_entropy(gather(output.logits, n), labels)
        return loss(patterns, {"1": pairs[0], "5": pairs[1]}, step=3) + task

    if micro_batch is None:
        with shared_statistics(student, n):
            output = student(own(images))
        loss_of(output).backward()
    else:
        cached_backward(student, own(images), loss_of, micro_batch, torch.Tensor.backward)
    average_gradients(student.parameters())
    found = {name: value.grad for name, value in student.named_parameters() if value.grad is not None}
    return found | {name: value.double() for name, value in student.named_buffers() if "running" in name}


def all_steps() -> dict[str, Tensor]:
    steps = {f"{name}, {n}": step(loss, n) for name, loss in LOSSES.items() for n in N_CONDITIONS}
    steps |= {f"statistics, {n}": step(RDMLoss(), n, batchnorm="train") for n in N_CONDITIONS}
    steps |= {f"micro-batch, {n}": step(RDMLoss(), n, micro_batch=1) for n in N_CONDITIONS}
    return {f"{name}/{key}": value for name, found in steps.items() for key, value in found.items()}


class Frames(nn.Module):
    """Passes two frames of each image as two images."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.cat([x[:, 0, 0], x[:, 0, 1]])).view(2, -1, 4).mean(0)


def refusal(n: int) -> str:
    module = Frames().double()
    try:
        with shared_statistics(module, n):
            module(own(torch.rand(n, 1, 4, 4, dtype=torch.float64)))
    except BrainrdlError as error:
        return str(error)
    return ""


def one_of_several(folder: str) -> None:
    join("cpu")
    found = all_steps()
    if is_first():
        save_file({key: value.contiguous() for key, value in found.items()}, Path(folder) / "found.safetensors")
    (Path(folder) / f"refusal{torch.distributed.get_rank()}.txt").write_text(refusal(8))
    torch.distributed.barrier()


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return all_steps()


@pytest.mark.slow
@pytest.mark.parametrize("n_processes", [2, 4])
def test_gradients_and_statistics_are_those_of_one_process(
    n_processes: int, expected: dict[str, Tensor], tmp_path: Path
) -> None:
    code = f"import runpy; runpy.run_path({__file__!r})['one_of_several']({str(tmp_path)!r})"
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_processes), "--no-python"]
    done = subprocess.run(
        [sys.executable, *command, sys.executable, "-c", code],
        capture_output=True, text=True, timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / "found.safetensors")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        scale = max(float(value.abs().max()), 1e-3)  # a bias before batch normalisation has no gradient but rounding
        assert float((found[key] - value).abs().max()) <= 1e-10 * scale, key
    assert (tmp_path / "refusal0.txt").read_text() == ""


def test_in_one_process_batch_normalisation_stays_as_it_is() -> None:
    module = nn.BatchNorm1d(3)
    with shared_statistics(module, 5):
        assert "forward" not in vars(module)
