"""Device, optimiser and schedule by name."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import Linear
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR

from brainrdl._core.errors import BrainrdlError
from brainrdl.training.optimizers import OPTIMIZERS, make_accelerator, make_optimizer, make_schedule, step_schedule

no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
no_gpu = pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU here"
)


def optimizer(lr: float = 0.1) -> Optimizer:
    return make_optimizer("sgd", Linear(2, 2).parameters(), lr, 0.0)


def rates(schedule: str, steps: int) -> list[float]:
    moved = optimizer()
    scheduler, found = make_schedule(schedule, moved, steps), []
    for _step in range(steps + 2):
        found.append(scheduler.get_last_lr()[0])
        moved.step()
        scheduler.step()
    return found


# Device


def test_the_device_asked_for_is_the_device_used() -> None:
    assert make_accelerator("cpu").device.type == "cpu"


def test_auto_takes_the_best_there_is() -> None:
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert make_accelerator("auto").device.type == best


def test_one_process_may_ask_for_one_precision_after_another() -> None:
    found = [make_accelerator("cpu", precision).mixed_precision for precision in ("bf16", "no", "bf16")]
    assert found == ["bf16", "no", "bf16"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_one_process_may_ask_for_one_device_after_another() -> None:
    found = [make_accelerator(device).device.type for device in ("cpu", "cuda", "cpu", "auto")]
    assert found == ["cpu", "cuda", "cpu", "cuda"]


@no_cuda
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        BrainrdlError, match=r"device 'cuda' is not available to torch .* on this machine; use 'auto' or 'cpu'"
    ):
        make_accelerator("cuda")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="device 'cudo' is not known; nearest: 'cuda'"):
        make_accelerator("cudo")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="mixed_precision 'bf15' is not known; nearest: 'bf16'"):
        make_accelerator("cpu", "bf15")


def test_fp16_on_the_cpu_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="mixed_precision 'fp16' needs a GPU; use 'bf16' or 'no'"):
        make_accelerator("cpu", "fp16")


@no_gpu
def test_fp16_is_refused_where_auto_finds_no_gpu() -> None:
    with pytest.raises(BrainrdlError, match="mixed_precision 'fp16' needs a GPU"):
        make_accelerator("auto", "fp16")


# Optimiser


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_by_name_has_the_rate_and_the_decay_asked_for(name: str) -> None:
    made = make_optimizer(name, Linear(2, 2).parameters(), 0.25, 0.125)
    assert type(made).__name__.lower() == {"momentum": "sgd"}.get(name, name)
    assert made.param_groups[0].get("momentum", 0) == (0.9 if name == "momentum" else 0)
    assert (made.param_groups[0]["lr"], made.param_groups[0]["weight_decay"]) == (0.25, 0.125)


def test_an_optimizer_may_be_a_function() -> None:
    def nesterov(parameters: list[torch.nn.Parameter], lr: float, weight_decay: float) -> Optimizer:
        return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=0.5, nesterov=True)

    assert make_optimizer(nesterov, Linear(2, 2).parameters(), 0.1, 0.0).param_groups[0]["nesterov"] is True


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="optimizer 'adamm' is not known; nearest: 'adam'"):
        make_optimizer("adamm", Linear(2, 2).parameters(), 0.1, 0.0)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="no trainable parameters; choose another `trainable` or add a projection"):
        make_optimizer("adam", [], 0.1, 0.0)


# Schedule


def test_the_rate_stays_without_a_schedule() -> None:
    assert rates("constant", 4) == [0.1] * 6


def test_a_cosine_falls_from_the_rate_to_zero_over_the_steps_and_stays_there() -> None:
    expected = [0.05 * (1 + math.cos(math.pi * min(step / 4, 1))) for step in range(6)]
    assert rates("cosine", 4) == pytest.approx(expected, abs=1e-12)


def test_a_line_falls_from_the_rate_to_zero_over_the_steps_and_stays_there() -> None:
    assert rates("linear", 4) == pytest.approx([0.1, 0.075, 0.05, 0.025, 0, 0], abs=1e-12)


@pytest.mark.parametrize("name", ["constant", "cosine", "linear"])
def test_a_schedule_of_no_steps_is_possible(name: str) -> None:
    assert make_schedule(name, optimizer(), 0).get_last_lr() == [0.1]


def test_a_schedule_may_be_a_function() -> None:
    assert isinstance(make_schedule(lambda moved: ExponentialLR(moved, 0.9), optimizer(), 5), ExponentialLR)
    with pytest.raises(BrainrdlError, match="a function that returns a scheduler of torch, got NoneType"):
        make_schedule(lambda _: None, optimizer(), 5)  # type: ignore[arg-type,return-value]


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="schedule 'cosin' is not known; nearest: 'cosine'"):
        make_schedule("cosin", optimizer(), 5)


def _linear() -> list[torch.nn.Parameter]:
    return list(torch.nn.Linear(2, 2).parameters())


def test_a_schedule_that_ends_before_the_fit_is_refused() -> None:
    optimizer = make_optimizer("sgd", _linear(), 0.1, 0.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR
    with pytest.raises(BrainrdlError, match="schedule OneCycleLR ends after 5 steps, and the fit has 6"):
        make_schedule(lambda optimizer: cycle(optimizer, 0.01, total_steps=5), optimizer, 6)
    schedule = make_schedule(lambda optimizer: cycle(optimizer, 0.01, total_steps=6), optimizer, 6)
    for _ in range(6):
        optimizer.step()
        step_schedule(schedule, 1.0)


def test_an_optimiser_that_needs_a_closure_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="optimizer LBFGS computes the loss several times per step, with a closure"):
        make_optimizer(lambda parameters, lr, weight_decay: torch.optim.LBFGS(parameters, lr=lr), _linear(), 0.1, 0.0)


def test_an_optimiser_with_other_arguments_is_refused_with_a_way_out() -> None:
    with pytest.raises(BrainrdlError, match=r"optimizer Rprop must accept .*weight_decay.*wrap it in a function"):
        make_optimizer(torch.optim.Rprop, _linear(), 0.1, 0.0)


def test_a_plateau_schedule_is_given_the_loss() -> None:
    optimizer = make_optimizer("sgd", _linear(), 0.1, 0.0)
    schedule = make_schedule(lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=1), optimizer, 9)
    rates = []
    for loss in (3.0, 2.0, 2.0, 2.0, 1.0):
        step_schedule(schedule, loss)
        rates.append(schedule.get_last_lr()[0])
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01])
