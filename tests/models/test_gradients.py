"""Layers through which no gradient reaches the network are refused before training; frozen parameters stay frozen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from brainrdl import NetworkTeacher, RDMTeacher, Readout, Stimuli, Student, Task, fit, rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.models.gradients import gradient_problems
from brainrdl.stimuli.named_images import Batch

NAMES = [f"i{k}" for k in range(12)]


class Net(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.block = (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()),
            nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU()),
        )
        self.head, self.how = nn.Linear(96, 2), how

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.how == "no_grad":
            with torch.no_grad():
                x = self.block(x)
        elif self.how == "detached":
            x = self.block(x.detach())
        elif self.how.startswith("checkpoint") and self.training:
            x = checkpoint(self.block, x, use_reentrant=self.how.endswith("reentrant"))
        else:
            x = self.block(x)
        return self.head(x.flatten(1))  # type: ignore[no-any-return]


def stimuli() -> Stimuli:
    pixels = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Stimuli.from_arrays(pixels, NAMES, labels=["a", "b"] * 6)


def brain() -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 66)), NAMES))


def fitted(student: Student, **options: object) -> list[float]:
    settings = {"steps": 4, "lr": 3e-3, "device": "cpu", "progress": False} | options
    return fit(student, brain(), stimuli(), **settings).history.rdm_loss.tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize("projection", [None, "square"])
@pytest.mark.parametrize("task_weight", [0.0, 0.1])
@pytest.mark.parametrize(
    ("how", "trainable", "reason"),
    [
        ("checkpoint reentrant", "all", "without gradient, .*use_reentrant=False"),
        ("no_grad", "all", r"it runs without gradient, in torch.no_grad\(\)"),
        ("plain", "from:head", "no parameter that is trained comes before it.*trainable='from:head'"),
    ],
)
def test_a_layer_without_a_path_for_the_gradient_is_refused_before_training(
    how: str, trainable: str, reason: str, task_weight: float, projection: str | None
) -> None:
    net = Net(how)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    student = Student(net, ["block.1"], readout=Readout(projection=projection), trainable=trainable)
    with pytest.raises(BrainrdlError, match=f"no gradient passes from layer 'block.1' to the network: .*{reason}"):
        fitted(student, task=Task(weight=task_weight) if task_weight else None)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_checkpointing_without_reentry_trains_as_without_checkpointing() -> None:
    plain, saved = (fitted(Student(Net(how), ["block.1"])) for how in ("plain", "checkpoint"))
    np.testing.assert_allclose(plain, saved, rtol=1e-5, equal_nan=True)


def test_a_detached_input_counts_only_if_nothing_after_it_trains() -> None:
    Student(Net("detached"), ["block.1"]).check_gradients(torch.rand(4, 1, 8, 8))
    with pytest.raises(BrainrdlError, match="its input is detached"):
        Student(Net("detached"), ["block.1"], trainable="from:head").check_gradients(torch.rand(4, 1, 8, 8))


def test_only_the_layers_without_gradient_are_listed() -> None:
    problems = gradient_problems(Net("no_grad"), ["stem.0", "block.1", "head"], torch.rand(4, 1, 8, 8))
    assert list(problems) == ["block.1"]


def test_a_student_whose_rdms_do_not_count_is_not_checked() -> None:
    student = Student(Net("plain"), ["block.1"], trainable="from:head")
    fit(student, None, stimuli(), rdm_weight=0, task=Task(), steps=2, device="cpu", progress=False)


def test_the_check_leaves_statistics_mode_and_random_state() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout())
    student = Student(net, ["2"], batchnorm="train").eval()
    images, state = torch.rand(4, 1, 8, 8), {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    student.check_gradients(images)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not student.training
    assert not net.training


# Patterns that do not depend on the image


class Dead(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.arange(6.0).expand(len(x), 6) + 0 * x.flatten(1)[:, :6]


@pytest.mark.parametrize("measure", ["correlation", "euclidean"])
@pytest.mark.parametrize("cache", [False, True])
def test_a_teacher_refuses_a_layer_that_does_not_depend_on_the_image(cache: bool, measure: str) -> None:
    teacher = NetworkTeacher(nn.Sequential(Dead()), ["0"], cache=cache, dissimilarity=measure)
    with pytest.raises(
        BrainrdlError, match="layer '0' of teacher 'Sequential' gives the same pattern for all 12 images"
    ):
        teacher.rdms(Batch(tuple(NAMES), torch.rand(12, 1, 8, 8)))


def test_a_student_warns_about_a_layer_that_does_not_depend_on_the_image() -> None:
    with pytest.warns(
        UserWarning, match=r"layers \['0'\] give the same pattern for all images, so their RDMs are undef"
    ):
        Student(nn.Sequential(Dead()), ["0"]).rdms(stimuli())
    student = Student(nn.Sequential(Dead(), nn.Linear(6, 6)), ["1"])
    with pytest.warns(UserWarning, match=r"layers \['1'\] give the same pattern"):
        fitted(student)


# Frozen parameters


def front_frozen() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
    net[0].requires_grad_(False)
    return net


def test_frozen_parameters_stay_frozen_by_default_and_a_warning_says_so() -> None:
    net = front_frozen()
    filters, weights = net[0].weight.clone(), net[3].weight.clone()
    with pytest.warns(UserWarning, match="2 parameters of the network are frozen and stay so .*trainable='as is'"):
        student = Student(net, ["3"])
    fitted(student)
    assert student.trainable == "as is"
    assert torch.equal(net[0].weight, filters)
    assert not torch.equal(net[3].weight, weights)


def test_as_is_is_silent_and_all_trains_everything() -> None:
    net = front_frozen()
    assert len(Student(net, ["3"], trainable="as is").trainable_parameters()) == 2
    assert len(Student(net, ["3"], trainable="all").trainable_parameters()) == 4
    assert Student(net, ["3"]).trainable == "all"


def test_a_layer_before_all_parameters_that_are_not_frozen_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="no gradient passes from layer '1'"):
        fitted(Student(front_frozen(), ["1"], trainable="as is"))


class Step(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sign(x)


def test_a_layer_whose_gradient_is_zero_everywhere_is_refused() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), Step(), nn.Linear(5, 2))
    with pytest.raises(
        BrainrdlError, match="no gradient passes from layer '2' to the network: its gradient is zero for"
    ):
        fitted(Student(net, ["2"]))
    assert gradient_problems(net, ["1", "3"], torch.rand(4, 1, 8, 8)) == {}


def test_the_gradient_of_the_call_that_is_read_is_tested() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.area = nn.Linear(64, 64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                x = self.area(x.flatten(1))
            return self.area(x)  # type: ignore[no-any-return]

    images = torch.rand(4, 1, 8, 8)
    assert gradient_problems(Twice(), ["area"], images) == {}
    assert "without gradient" in gradient_problems(Twice(), ["area"], images, {"area": (0,)})["area"]
