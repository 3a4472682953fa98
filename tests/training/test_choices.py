"""Choices of a training: learning rates by name, warm-up, averaged weights, memory layout, loggers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainrdl import RDMTeacher, Stimuli, Student, fit, rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.training.callbacks import Callback, Log
from brainrdl.training.optimizers import averaged, make_optimizer, make_schedule

QUIET: dict[str, Any] = {"device": "cpu", "progress": False}
NAMES = tuple(f"s{i}" for i in range(8))


def stimuli() -> Stimuli:
    return Stimuli.from_arrays(torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0)), NAMES)


def teacher() -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 28)), NAMES))


def student() -> Student:
    torch.manual_seed(0)
    return Student(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6)), ["3"])


def moved(before: Student, after: Student) -> dict[str, float]:
    pairs = zip(before.model.named_parameters(), after.model.parameters(), strict=True)
    return {name: float((a - b).detach().abs().max()) for (name, a), b in pairs}


def test_parameters_have_the_learning_rate_of_their_pattern() -> None:
    made = student()
    fit(made, teacher(), stimuli(), steps=1, lr=0.1, lr_of={"0.*": 0, "3.bias": 0.01}, **QUIET)  # Adam moves by lr
    found = moved(student(), made)
    assert found["0.weight"] == found["0.bias"] == 0.0
    assert found["3.weight"] == pytest.approx(0.1, rel=1e-2)
    assert found["3.bias"] == pytest.approx(0.01, rel=1e-2)


def test_the_first_pattern_that_fits_counts() -> None:
    made = student()
    fit(made, teacher(), stimuli(), steps=1, lr=0.1, lr_of={"3.bias": 0.02, "3.*": 0.01}, **QUIET)
    assert moved(student(), made)["3.bias"] == pytest.approx(0.02, rel=1e-2)


@pytest.mark.parametrize(
    ("lr_of", "message"),
    [
        ({"conv*": 0.1}, r"lr_of: 'conv\*' fits no parameter that is trained"),
        ({"0.wieght": 0.1}, "nearest: '0.weight'"),
        ({"0.*": -1.0}, r"the learning rate of '0.\*' in lr_of must be a finite number of at least 0, got -1.0"),
    ],
)
def test_patterns_and_rates_that_cannot_be_are_refused(lr_of: dict[str, float], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        fit(student(), teacher(), stimuli(), steps=1, lr_of=lr_of, **QUIET)


def test_the_learning_rate_rises_before_its_schedule() -> None:
    optimizer = make_optimizer("sgd", student().parameters(), 1.0, 0.0)
    schedule, rates = make_schedule("linear", optimizer, 10, warmup=3), []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    expected = [(1 - step / 10) * min((step + 1) / 4, 1) for step in range(10)]
    np.testing.assert_allclose(rates, expected)


def test_a_schedule_of_your_own_has_its_own_beginning() -> None:
    def own(optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    with pytest.raises(BrainrdlError, match="warmup=5 is for schedules by name"):
        fit(student(), teacher(), stimuli(), steps=9, schedule=own, warmup=5, **QUIET)


class Weights(Callback):
    def __init__(self, made: Student) -> None:
        self.made, self.seen = made, [made.model[3].bias.detach().clone()]

    def on_step(self, step: int, losses: Any) -> None:
        self.seen.append(self.made.model[3].bias.detach().clone())


def test_averaged_weights_are_those_of_the_formula_and_are_returned() -> None:
    made = student()
    watch = Weights(made)
    fit(made, teacher(), stimuli(), steps=6, lr=0.1, ema=0.7, callbacks=[watch], **QUIET)
    expected = watch.seen[1]  # the first update copies
    for bias in watch.seen[2:]:
        expected = 0.7 * expected + 0.3 * bias
    torch.testing.assert_close(made.model[3].bias.detach(), expected)
    assert not torch.allclose(watch.seen[-1], expected)


def test_statistics_of_an_average_are_those_of_the_student() -> None:
    made = Student(nn.Sequential(nn.BatchNorm2d(1)), ["0"], batchnorm="train")
    average = averaged(made, 0.9)
    made.train()(torch.rand(4, 1, 3, 3))
    average.update_parameters(made)
    assert torch.equal(average.module.model[0].running_mean, made.model[0].running_mean)


def test_a_run_with_averaged_weights_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def run(out: Path, *stops: int) -> list[Tensor]:
        for stop in stops:
            made = student()
            options: dict[str, Any] = {"steps": 12, "checkpoint_every": 1, "ema": 0.8, "validation": NAMES[:4]}
            try:
                fit(made, teacher(), stimuli(), out=out, resume=True, callbacks=[Stop(stop)], **options, **QUIET)
            except RuntimeError:
                assert stop < 12
        return list(made.state_dict().values())

    for a, b in zip(run(tmp_path / "whole", 99), run(tmp_path / "parts", 5, 99), strict=True):
        assert torch.equal(a, b)


class Stop(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, step: int, losses: Any) -> None:
        if step == self.step:
            raise RuntimeError("the power went off")


def test_channels_last_changes_the_layout_and_not_the_result() -> None:
    colour = Stimuli.from_arrays(torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0)), NAMES)
    found, strides = [], []
    for last in (False, True):
        torch.manual_seed(0)
        made = Student(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), ["1"])
        made.model[0].register_forward_pre_hook(lambda module, given: strides.append(given[0].stride()[1]))
        fit(made, teacher(), colour, steps=5, lr=0.01, channels_last=last, **QUIET)
        found.append(made.model[0].weight.detach())
    assert 1 in strides
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)


def test_a_history_is_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = Log("tensorboard", run="first", folder=tmp_path, settings={"lr": 0.1})
    fit(student(), teacher(), stimuli(), steps=4, evaluate_every=2, callbacks=[log], **QUIET)
    assert list((tmp_path / "first").rglob("events.out.tfevents*"))


def test_a_logger_that_is_not_there_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="logger 'comet_ml' needs its package"):
        Log("comet_ml")
