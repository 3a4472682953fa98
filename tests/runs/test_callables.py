"""A run is identified by the code of its functions and objects, and by the values that they use."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ExponentialLR

from brainrdl import BrainrdlError, RDMLoss, RDMTeacher, Stimuli, Student, Task, fit, rdms
from brainrdl.runs.callables import identify_callable, identify_callables
from brainrdl.runs.checkpoint import check_same_settings
from brainrdl.runs.provenance import describe

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


class Named(Scaled):
    """Has an attribute with the name of one that frozen networks have."""

    identity = True

    def __init__(self, factor: float) -> None:
        super().__init__(factor)
        self.identity = "mine"


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, step: int) -> float:
        return self.factor


class Size(Enum):
    SMALL = 1
    LARGE = 2


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
        (lambda: Named(1), lambda: Named(2)),
        (lambda: scaled_by(np.arange(4.0)[::-1]), lambda: scaled_by(np.zeros(4)[::-1])),
        (lambda: Scaled(np.arange(4.0).astype(">f4")), lambda: Scaled(np.zeros(4).astype(">f4"))),
        (lambda: Scaled(np.arange(4, dtype=np.longdouble)), lambda: Scaled(np.zeros(4, dtype=np.longdouble))),
        (lambda: Scaled(Size.SMALL), lambda: Scaled(Size.LARGE)),
        (lambda: scaled_by(torch.float32), lambda: scaled_by(torch.float64)),
        (lambda: scaled_by(Path("a")), lambda: scaled_by(Path("b"))),
        (lambda: scaled_by({"a", "b"}), lambda: scaled_by({"a", "c"})),
        (lambda: scaled_by(1j), lambda: scaled_by(2j)),
        (lambda: scaled_by(b"a"), lambda: scaled_by(b"b")),
        (lambda: scaled_by(range(2)), lambda: scaled_by(range(3))),
        (lambda: scaled_by(re.compile("a")), lambda: scaled_by(re.compile("b"))),
        (lambda: cache(scaled_by(1)), lambda: cache(scaled_by(2))),
        (lambda: Slotted(1), lambda: Slotted(2)),
        (lambda: scaled_by(pd.DataFrame({"a": [1, 2]})), lambda: scaled_by(pd.DataFrame({"a": [1, 3]}))),
        (lambda: scaled_by(pd.Series([1])), lambda: scaled_by(pd.Series([1.0]))),
        (lambda: Scaled(str.upper), lambda: Scaled(str.lower)),
        (lambda: Scaled(torch.Tensor.relu), lambda: Scaled(torch.Tensor.sum)),
        (lambda: Scaled(torch.ones(2).sum), lambda: Scaled(torch.zeros(2).sum)),
        (lambda: Scaled(math), lambda: Scaled(np)),
    ],
)  # fmt: skip
def test_equal_callables_have_one_identity_and_others_another(one: Any, other: Any) -> None:
    assert identify_callable(one()) == identify_callable(one()) != identify_callable(other())
    json.dumps(identify_callable(one()))


def test_how_numbers_are_in_memory_does_not_matter() -> None:
    numbers = np.arange(4.0, dtype="<f4")
    same = [numbers, numbers.astype(">f4"), numbers[::-1].copy()[::-1]]
    assert len({identify_callable(each) for each in same}) == 1


def test_objects_that_are_linked_with_each_other_are_described_once() -> None:
    def linked(n: int, factor: float) -> Scaled:
        made = [Scaled(factor) for _ in range(n)]
        for one in made:
            one.inner = [other for other in made if other is not one]
        return made[0]

    assert len(json.dumps(identify_callable(linked(12, 1)))) < 12 * 12 * 40
    assert identify_callable(linked(12, 1)) == identify_callable(linked(12, 1)) != identify_callable(linked(12, 2))


def test_a_mutable_dataclass_is_described_by_its_public_attributes() -> None:
    @dataclass
    class Counting:
        factor: float
        _calls: int = 0

        def __call__(self, step: int) -> float:
            self._calls += 1
            return self.factor

    counting = Counting(1)
    before = identify_callable(counting), describe(counting)
    counting(0)
    assert (identify_callable(counting), describe(counting)) == before
    assert identify_callable(Counting(2)) != before[0]


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


def test_a_value_that_is_nan_is_the_same_value() -> None:
    asked = {"code": identify_callable(Scaled(math.nan)), "lr": 1}
    check_same_settings(asked, json.loads(json.dumps(asked)) | {"lr": 1.0}, "run")


def test_the_refusal_of_another_attribute_says_which_are_not_compared() -> None:
    one, other = ({"code": {"schedule": identify_callable(Scaled(factor))}} for factor in (1, 2))
    with pytest.raises(BrainrdlError, match=r"holds.factor=2, now .*begins with an underscore, which is not"):
        check_same_settings(one, other, "run")


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


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_sparse_tensors_are_described_by_their_entries(layout: torch.layout) -> None:
    def holding(values: torch.Tensor) -> Any:
        return identify_callable(partial(len, values.to_sparse(layout=layout)))

    other = torch.eye(3)
    other[0, 0] = 2
    assert holding(torch.eye(3)) == holding(torch.eye(3)) != holding(other)
    assert holding(torch.eye(3)) != holding(torch.eye(4)[:3])
