"""Several processes on the CPU: the same gradients, the same weights, one run folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from brainrdl import rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.loss.rdm_loss import RDMLoss
from brainrdl.models.readout import Readout
from brainrdl.models.student import Student
from brainrdl.runs.run_folder import WEIGHTS
from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.teachers.rdm_teacher import RDMTeacher
from brainrdl.training.distributed import (
    agreed,
    anywhere,
    average_gradients,
    check_same_buffers,
    gather,
    is_first,
    join,
    n_processes,
    own,
    own_random_numbers,
    own_rows,
    start_alike,
    wait_for_all,
)
from brainrdl.training.loop import fit
from brainrdl.training.task import Task

N_CONDITIONS = (8, 7, 5)  # 2 processes: even shares, and twice a last row that is only padding
NAMES = tuple(f"s{i}" for i in range(11))


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.BatchNorm1d(12), nn.Linear(12, 3))


def step_gradients(n: int) -> dict[str, Tensor]:
    """Gradients of RDM loss and cross-entropy in float64, each process computing its own rows of `n` conditions."""
    model = network().double().eval()
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(n, 1, 4, 4, generator=generator, dtype=torch.float64)
    teacher = torch.rand(2, n * (n - 1) // 2, generator=generator, dtype=torch.float64)
    hidden = model[:2](own(images))
    logits = gather(model[2:](hidden), n)
    total = RDMLoss()(gather(hidden, n), teacher) + nn.functional.cross_entropy(logits, torch.arange(n) % 3)
    total.backward()
    average_gradients(model.parameters())
    return {f"{n}/{name}": value.grad for name, value in model.named_parameters() if value.grad is not None}


CASES = ("rdm", "both", "streams", "micro batch", "memory")


def fitted(out: Path, case: str, seed: int = 0) -> Student:
    """Fit to an RDM, with a task on the same images, or with one on other images; by default 5 conditions per step."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(len(NAMES), 1, 4, 4, generator=generator)
    stimuli = Stimuli.from_arrays(images, NAMES, labels=[f"{i % 3}" for i in range(len(NAMES))])
    teacher = RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 55)), NAMES))
    others = Stimuli.from_arrays(images.flip(2), [f"t{name}" for name in NAMES], labels=[f"{i % 3}" for i in range(11)])
    chosen = {
        "rdm": {}, "both": {"task": Task()}, "micro batch": {"task": Task(), "micro_batch": 2},
        "streams": {"task": Task(others, batch_size=4), "batch_size": 6}, "memory": {"memory": 3},
    }[case]  # fmt: skip
    statistics = "train" if case == "streams" else "eval"
    student = Student(network(seed), ["1"], readout=Readout(standardise=True, projection=6), batchnorm=statistics)
    fit(
        student, teacher, stimuli, validation=NAMES[:4], steps=12, lr=1e-2, clip=1.0, evaluate_every=4, patience=9,
        checkpoint_every=5, device="cpu", progress=False, out=out, resume=True, **{"batch_size": 5, **chosen},
    )  # fmt: skip
    return student


class Draws(nn.Module):
    """Remembers what it draws in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[list[float]] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.drawn.append(torch.rand(3).tolist())
        return x


class Mean(nn.Module):
    """Has a buffer that depends on the images that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.copy_(x.detach().mean())
        return x


class Stops:
    """A teacher that interrupts a run at a step, on every rank."""

    name, targets, conditions = "stops", ("rdm",), NAMES

    def __init__(self, step: int | None = None) -> None:
        self.step, self.teacher = step, RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 55)), NAMES))

    def rdms(self, batch: Batch) -> dict[str, Tensor]:
        if batch.step == self.step:
            raise KeyboardInterrupt
        return self.teacher.rdms(batch)


def student_with(*modules: nn.Module, **options: Any) -> Student:
    torch.manual_seed(0)
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 12), *modules), [str(1 + len(modules))], **options)


def simple_fit(student: Student, teacher: Stops, augmentation: Any = None, **options: Any) -> Student:
    images = torch.rand(len(NAMES), 1, 4, 4, generator=torch.Generator().manual_seed(2))
    stimuli = Stimuli.from_arrays(images, NAMES)
    stimuli = stimuli.with_augmentation(augmentation) if augmentation else stimuli
    fit(student, teacher, stimuli, lr=1e-2, device="cpu", progress=False, **{"steps": 8, **options})
    return student


def refusal(student: Student, **options: Any) -> str:
    try:
        simple_fit(student, Stops(), **options)
    except BrainrdlError as error:
        return str(error)
    return "not refused"


def random_numbers() -> dict[str, Any]:
    """What network and augmentation draw on this rank in four steps."""
    student, drawn = student_with(Draws()), []

    def augmentation(image: Any) -> Tensor:
        drawn.append(float(torch.rand(1)))
        return torch.rand(1, 4, 4)

    simple_fit(student, Stops(), augmentation, steps=4)
    return {"network": student.model[2].drawn[-4:], "augmentation": drawn[-44:]}


def dropout_runs(here: Path) -> list[bool]:
    """Whether a run with dropout that was interrupted at steps 3 and 7 has the weights of one that was not."""
    whole = simple_fit(student_with(nn.Dropout(0.4)), Stops())
    options = {"out": here / "dropout", "resume": True, "checkpoint_every": 2}
    for step in (3, 7):
        with suppress(KeyboardInterrupt):
            simple_fit(student_with(nn.Dropout(0.4)), Stops(step), **options)
    resumed = simple_fit(student_with(nn.Dropout(0.4)), Stops(), **options)
    return [torch.equal(value, whole.state_dict()[key]) for key, value in resumed.state_dict().items()]


def one_of_two(folder: str) -> None:
    """What each of two processes does; the tests read what it leaves in `folder`."""
    digits = Stimuli.from_arrays(torch.rand(5, 1, 4, 4), list("vwxyz"), labels=list("01012"))
    uneven = {"task": Task(digits, batch_size=3), "batch_size": 6}
    refused = refusal(student_with(nn.BatchNorm1d(12), batchnorm="train"), **uneven)  # the first fit of its process
    from accelerate.state import PartialState

    rank = PartialState(cpu=True).process_index
    here = Path(folder)
    gradients = {key: value for n in N_CONDITIONS for key, value in step_gradients(n).items()}
    save_file(gradients, here / f"gradients{rank}.safetensors")
    for name in (*CASES, "rdm"):  # the last finds a finished run
        student = fitted(here / name, name, seed=rank)  # each process starts from other weights
        weights = {key: value.contiguous() for key, value in student.state_dict().items()}
        save_file(weights, here / f"{name}{rank}.safetensors")
    facts = {"processes": n_processes(), "rows": own_rows(5), "agreed": agreed(0.25 + rank)}
    facts |= {"batchnorm": refused, "buffer": refusal(student_with(Mean())), "drawn": random_numbers()}
    facts |= {"dropout": dropout_runs(here), "anywhere": [anywhere(rank == 1), anywhere(False)]}
    (here / f"facts{rank}.json").write_text(json.dumps(facts))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()  # a process that just exits may be aborted while the other still listens


def started(rank: int, folder: str, port: int) -> None:
    """Begin as a process that `torchrun` has started."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    one_of_two(folder)


def two_processes(folder: str) -> None:
    """Fork both after the imports, which take longer than the work; test_parity_of_processes.py uses torchrun."""
    import accelerate.state  # noqa: F401
    import torch._dynamo.convert_frame  # noqa: F401

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=started, args=(rank, folder, port)) for rank in (0, 1)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    sys.exit(max(abs(one.exitcode or 0) for one in both))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork processes")
    made = tmp_path_factory.mktemp("two")
    code = f"import runpy; runpy.run_path({__file__!r})['two_processes']({str(made)!r})"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return made


@pytest.mark.slow
def test_two_processes_share_the_rows_and_pad_with_the_last(folder: Path) -> None:
    facts = [json.loads((folder / f"facts{rank}.json").read_text()) for rank in (0, 1)]
    assert [fact["processes"] for fact in facts] == [2, 2]
    assert [fact["rows"] for fact in facts] == [[0, 1, 2], [3, 4, 4]]


def test_two_processes_agree_on_the_firsts_number(folder: Path) -> None:
    assert [json.loads((folder / f"facts{rank}.json").read_text())["agreed"] for rank in (0, 1)] == [0.25, 0.25]


def test_batch_statistics_of_two_streams_need_equal_shares(folder: Path) -> None:
    for rank in (0, 1):
        message = json.loads((folder / f"facts{rank}.json").read_text())["batchnorm"]
        assert message.startswith("batch statistics over two streams and 2 processes need batches whose sizes are")


def test_a_buffer_that_depends_on_the_images_of_a_process_is_refused_by_both(folder: Path) -> None:
    for rank in (0, 1):
        message = json.loads((folder / f"facts{rank}.json").read_text())["buffer"]
        assert message.startswith("buffer 'model.2.mean' of the network depends on the images that a process computes")


def test_each_process_draws_for_its_rows_and_all_draw_the_same_images(folder: Path) -> None:
    first, second = (json.loads((folder / f"facts{rank}.json").read_text())["drawn"] for rank in (0, 1))
    assert first["augmentation"] == second["augmentation"]
    assert len({str(draw) for drawn in (first, second) for draw in drawn["network"]}) == 8


def test_dropout_in_two_processes_goes_on_bit_for_bit(folder: Path) -> None:
    for rank in (0, 1):
        equal = json.loads((folder / f"facts{rank}.json").read_text())["dropout"]
        assert equal == [True] * len(equal)
        assert equal


def test_two_processes_know_what_happened_on_either(folder: Path) -> None:
    assert [json.loads((folder / f"facts{rank}.json").read_text())["anywhere"] for rank in (0, 1)] == [
        [True, False]
    ] * 2


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("n", N_CONDITIONS)
def test_the_gradient_over_two_processes_is_that_of_one(folder: Path, n: int, rank: int) -> None:
    found, expected = load_file(folder / f"gradients{rank}.safetensors"), step_gradients(n)
    assert {key for key in found if key.startswith(f"{n}/")} == expected.keys()
    for key, value in expected.items():
        assert float((found[key] - value).abs().max()) <= 1e-12 * float(value.abs().max()), key


@pytest.mark.parametrize("name", CASES)
def test_a_fit_over_two_processes_gives_the_weights_of_one(folder: Path, tmp_path: Path, name: str) -> None:
    expected = fitted(tmp_path / "one", name).state_dict()
    for rank in (0, 1):
        found = load_file(folder / f"{name}{rank}.safetensors")
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, atol=1e-5, rtol=0, msg=key)
    torch.testing.assert_close(load_file(folder / name / WEIGHTS), expected, atol=1e-5, rtol=0)


def test_only_the_first_process_writes(folder: Path) -> None:
    found = sorted(path.name.split(".")[0] for path in (folder / "rdm").iterdir())
    assert found == ["events", "history", "provenance", "settings", "weights"]


# One process


def test_one_process_needs_nothing() -> None:
    x, layer = torch.rand(5, 3), nn.Linear(2, 2)
    assert n_processes() == 1
    assert own_rows(5) == [0, 1, 2, 3, 4]
    assert own(x) is x
    assert gather(x, 5) is x
    assert agreed(0.1) == 0.1
    join("cpu")
    assert is_first()
    wait_for_all()
    before = layer.weight.clone()
    start_alike(layer)
    check_same_buffers(nn.BatchNorm1d(2))
    average_gradients(layer.parameters())
    torch.manual_seed(3)
    drawn = torch.rand(4)
    torch.manual_seed(3)
    with own_random_numbers(seed=0, step=0):
        assert torch.equal(torch.rand(4), drawn)
    assert not anywhere(False)
    assert torch.equal(layer.weight, before)
    assert layer.weight.grad is None


def test_this_file_is_what_the_two_processes_run() -> None:
    assert "one_of_two" in runpy.run_path(__file__)
