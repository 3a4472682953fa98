"""A run is identified by the code of its functions and objects, and by the values that they use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ExponentialLR

from brainrdl import BrainrdlError, RDMLoss, RDMTeacher, Stimuli, Student, Task, fit, rdms
from brainrdl.runs.callables import identify_callable, identify_callables

NAMES = [f"image{i}" for i in range(8)]
SHORT: dict[str, Any] = {"steps": 1, "device": "cpu", "progress": False}


class Scaled:
    """A callable object with an attribute, a hidden counter and one that it holds."""

    def __init__(self, factor: float, inner: Any = None) -> None:
        self.factor, self.inner, self._calls = factor, inner, 0

    def __call__(self, *given: Any) -> Any:
        self._calls += 1
        return given[0] * self.factor

    def method(self, step: int) -> float:
        return self.factor


class Wide(Scaled):
    pass


class MeanLogit(Scaled):
    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logits.mean() * self.factor


class Part(nn.Module):
    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin, self.layer = margin, nn.Linear(8, 1)

    def forward(self, output: Any, batch: Any, step: int) -> Tensor:
        return (self.layer(output.patterns["1"]) - self.margin).square().mean()


def scaled_by(factor: Any) -> Callable[[int], float]:
    return lambda step: float(np.sum(factor)) if step else 1.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: scaled_by(1), lambda: scaled_by(2)),
        (lambda: scaled_by(np.ones(2)), lambda: scaled_by(np.zeros(2))),
        (lambda: Scaled(1), lambda: Scaled(2)),
        (lambda: Scaled(1), lambda: Wide(1)),
        (lambda: Scaled(1, scaled_by(1)), lambda: Scaled(1, scaled_by(2))),
        (lambda: Scaled(1).method, lambda: Scaled(2).method),
        (lambda: partial(Scaled, 1), lambda: partial(Scaled, 2)),
        (lambda: partial(scaled_by(1), 0), lambda: partial(scaled_by(2), 0)),
        (lambda: Scaled, lambda: Wide),
        (lambda: {"a": [Scaled(1)]}, lambda: {"a": [Scaled(2)]}),
    ],
)  # fmt: skip
def test_equal_callables_have_one_identity_and_others_another(one: Any, other: Any) -> None:
    assert identify_callable(one()) == identify_callable(one()) != identify_callable(other())


def test_what_a_callable_counts_in_a_hidden_attribute_is_not_part_of_it() -> None:
    counting = Scaled(2)
    before = identify_callable(counting)
    counting(3)
    assert identify_callable(counting) == before


def test_an_object_that_holds_itself_is_described() -> None:
    own = Scaled(1)
    own.inner = own
    assert identify_callable(own)["is"]["holds"]["factor"] == 1


def test_functions_of_torch_and_brainrdl_need_no_code() -> None:
    known = {"optimizer": torch.optim.SGD, "schedule": partial(torch.optim.SGD, momentum=0.9), "loss": RDMLoss()}
    assert identify_callables(known) == {}


# Of a run


def student() -> Student:
    torch.manual_seed(0)
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 8)), ["1"])


def stimuli() -> Stimuli:
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Stimuli.from_arrays(images, NAMES, labels=list("abababab"))


def teacher() -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 28)), NAMES))


class Brighter(Scaled):
    def __call__(self, image: Any) -> Tensor:
        return torch.as_tensor(image)[:1] * self.factor


def with_transform(factor: float) -> dict[str, Any]:
    return {"stimuli": stimuli().with_transform(lambda image: Brighter(1)(image) * factor)}


def with_augmentation(factor: float) -> dict[str, Any]:
    return {"stimuli": stimuli().with_augmentation(Brighter(factor))}


def with_task(loss: Any = "cross-entropy", weight: Any = 1.0) -> dict[str, Any]:
    return {"task": Task(loss=loss, weight=weight)}


def distance_to(power: int) -> Any:
    def distance(x: Tensor) -> Tensor:
        return torch.pdist(x, p=power)

    return distance


def optimiser(momentum: float) -> Any:
    return lambda parameters, lr, weight_decay: torch.optim.SGD(parameters, lr=lr, momentum=momentum)


@pytest.mark.parametrize(
    "options",
    [
        lambda x: {"terms": {"own": Part(x)}},
        lambda x: {"terms": {"own": lambda output, batch, step: output.logits.mean() * x}},
        lambda x: with_task(loss=lambda logits, labels: logits.mean() * x),
        lambda x: with_task(loss=MeanLogit(x)),
        lambda x: with_task(weight=scaled_by(x)),
        lambda x: {"loss": RDMLoss(schedule=Scaled(x))},
        lambda x: {"loss": RDMLoss(dissimilarity=distance_to(x))},
        lambda x: {"optimizer": optimiser(x / 10)},
        lambda x: {"schedule": lambda optimizer: ExponentialLR(optimizer, 1 / x)},
        with_transform,
        with_augmentation,
    ],
    ids=[
        "module", "term", "task loss", "object as task loss", "task weight", "loss schedule", "dissimilarity",
        "optimizer", "schedule", "transform", "augmentation",
    ],
)  # fmt: skip
def test_a_run_is_not_resumed_with_another_function(options: Any, tmp_path: Path) -> None:
    def run(x: int) -> None:
        given = {"stimuli": stimuli(), **options(x)}
        fit(student(), teacher(), out=tmp_path / "run", resume=True, **given, **SHORT)

    run(1)
    run(1)
    with pytest.raises(BrainrdlError, match=r"(was written with|changed since the run began)"):
        run(2)
