"""A student of which only read-outs train gets the same weights if it is fitted to its network's stored outputs."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from brainrdl import BrainrdlError, RDMLoss, RDMTeacher, Readout, Stimuli, Student, fit, rdms
from brainrdl.teachers.controls import PermutedTeacher
from brainrdl.teachers.network_teacher import NetworkTeacher
from brainrdl.training.frozen_features import FrozenFeatures

pytestmark = pytest.mark.usefixtures("without_probe")  # the images that a network sees are counted

NAMES = tuple(f"image_{i}" for i in range(12))


class _Counting(nn.Module):
    """Passes images on and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self._seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._seen += len(x)
        return x


def _network() -> nn.Sequential:
    torch.manual_seed(3)
    stage = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(_Counting(), nn.Conv2d(1, 4, 3), stage, nn.Flatten(), nn.Linear(96, 5))


def _student(**options: object) -> Student:
    readout = Readout("avgpool", standardise=True, projection=5)
    settings = {"readout": readout, "trainable": "projection"} | options
    return Student(_network(), ["1+2.0", "4"], **settings)


@pytest.fixture
def stimuli() -> Stimuli:
    return Stimuli.from_arrays(torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)), NAMES)


@pytest.fixture
def teacher() -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((2, 66)), NAMES), subject_by="index")


class _Looking:
    """The same teacher, but one that may look at images: such a fit goes through the network."""

    name, targets = "looking", ("rdm",)

    def __init__(self, teacher: RDMTeacher) -> None:
        self.rdms = teacher.rdms


def test_light_student_gives_the_patterns_of_the_whole_one(stimuli: Stimuli) -> None:
    student = _student()
    student.calibrate(stimuli.images())
    light, features = FrozenFeatures(stimuli).of(student, NAMES[::-1])
    whole, over_features = student.patterns(stimuli, NAMES[::-1]), light.patterns(features)
    for layer in student.layers:
        torch.testing.assert_close(over_features[layer], whole[layer])


def test_fit_over_features_equals_the_fit_through_the_network(stimuli: Stimuli, teacher: RDMTeacher) -> None:
    options = {
        "validation": NAMES[8:],
        "steps": 15,
        "lr": 0.02,
        "evaluate_every": 5,
        "device": "cpu",
        "progress": False,
    }
    quick, whole = _student(), _student()
    short = fit(quick, teacher, stimuli, **options).history
    long = fit(whole, _Looking(teacher), stimuli, **options).history
    assert quick.model[0]._seen == 12
    assert whole.model[0]._seen > 100
    assert short["train_similarity"].iloc[-1] > short["train_similarity"].iloc[0] + 0.05
    np.testing.assert_allclose(short["validation_similarity"], long["validation_similarity"], atol=1e-5)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(quick.state_dict()[name], value, atol=1e-4, rtol=1e-4, msg=name)


def test_each_stimulus_passes_through_the_network_once_and_others_never(stimuli: Stimuli) -> None:
    student, features = _student(), FrozenFeatures(stimuli)
    features.of(student, NAMES[:5])
    features.of(student, NAMES[3:7])
    assert student.model[0]._seen == 7


def test_other_weights_are_not_mistaken_for_known_ones(stimuli: Stimuli) -> None:
    student, features = _student(), FrozenFeatures(stimuli)
    before = features.of(student, NAMES)[1].images()
    with torch.no_grad():
        student.model[1].weight.mul_(2)
    assert not torch.equal(features.of(student, NAMES)[1].images(), before)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"trainable": "all"}, "the network trains"),
        ({"trainable": "from:4"}, "part of the network trains"),
        ({"batchnorm": "train"}, "batch statistics change"),
    ],
)
def test_network_that_changes_is_not_frozen(stimuli: Stimuli, options: dict[str, str], reason: str) -> None:
    assert FrozenFeatures(stimuli).serves(_student(), None)
    assert not FrozenFeatures(stimuli).serves(_student(**options), None), reason


def test_random_transform_is_not_frozen(stimuli: Stimuli) -> None:
    noisy = stimuli.with_transform(lambda image: image + torch.rand(1))
    assert not FrozenFeatures(noisy).serves(_student(), None)


def test_features_of_other_stimuli_are_refused(stimuli: Stimuli, teacher: RDMTeacher) -> None:
    other = Stimuli.from_arrays(1 - stimuli.images(), NAMES)
    with pytest.raises(BrainrdlError, match=r"features were computed from other stimuli; .*FrozenFeatures\(stimuli\)"):
        fit(_student(), teacher, stimuli, features=FrozenFeatures(other), steps=1, device="cpu", progress=False)


@pytest.mark.parametrize("name", ["columns", "child"])
def test_layer_may_have_any_name(stimuli: Stimuli, name: str) -> None:
    student = Student(nn.Sequential(OrderedDict({name: nn.Flatten()})), [name], trainable="none")
    light, features = FrozenFeatures(stimuli).of(student, NAMES)
    torch.testing.assert_close(light.patterns(features)[name], student.patterns(stimuli)[name])


def test_teacher_that_looks_at_images_is_given_images(stimuli: Stimuli, teacher: RDMTeacher) -> None:
    assert FrozenFeatures(stimuli).serves(_student(), teacher)
    assert not FrozenFeatures(stimuli).serves(_student(), _Looking(teacher))


def test_teacher_network_with_images_of_its_own_does_not_look_at_the_batch(stimuli: Stimuli) -> None:
    with_own = NetworkTeacher(_network(), ["1"], stimuli=stimuli)
    assert FrozenFeatures(stimuli).serves(_student(), with_own)
    assert FrozenFeatures(stimuli).serves(_student(), PermutedTeacher(with_own, NAMES))
    assert not FrozenFeatures(stimuli).serves(_student(), NetworkTeacher(_network(), ["1"]))
    student = _student()
    options = {"loss": RDMLoss(match={"1+2.0": "1", "4": "1"}), "steps": 3, "device": "cpu", "progress": False}
    fit(student, with_own, stimuli, **options)
    assert student.model[0]._seen == 12


def test_frozen_network_runs_in_evaluation_mode(stimuli: Stimuli) -> None:
    student = _student().train()
    assert not any(module.training for module in student.model.modules())
