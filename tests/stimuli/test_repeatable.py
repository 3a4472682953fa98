"""An image is the same each time it is loaded; random crops and flips belong to the steps of training alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from brainrdl import NetworkTeacher, RDMTeacher, Readout, Stimuli, Student, evaluate, fit, rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.training.frozen_features import FrozenFeatures

NAMES = tuple(f"i{k}" for k in range(12))


def noisy(image: Tensor) -> Tensor:
    return image + torch.rand(1)


def stimuli() -> Stimuli:
    return Stimuli.from_arrays(torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)), NAMES)


def brain() -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 66)), NAMES))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6))


class RandomItems(Dataset[Tensor]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Tensor:
        return torch.rand(3, 8, 8)


DOORS: dict[str, Callable[[Stimuli], Any]] = {
    "cache": Stimuli.cached,
    "teacher": lambda found: NetworkTeacher(network(), ["1"], stimuli=found),
    "teacher with cache": lambda found: NetworkTeacher(network(), ["1"], stimuli=found, cache=True),
    "patterns": lambda found: Student(network(), ["3"]).patterns(found),
    "evaluate": lambda found: evaluate(Student(network(), ["3"]), brain(), found),
    "fit": lambda found: fit(Student(network(), ["3"]), brain(), found, steps=1, device="cpu", progress=False),
}


@pytest.mark.parametrize("door", list(DOORS))
@pytest.mark.parametrize("source", ["transform", "data set"])
def test_random_images_are_refused_through_every_door(door: str, source: str) -> None:
    found = stimuli().with_transform(noisy) if source == "transform" else Stimuli.from_dataset(RandomItems(), NAMES)
    with pytest.raises(BrainrdlError, match=r"a different image each time.*stimuli\.with_augmentation\("):
        DOORS[door](found)


def test_the_check_leaves_the_random_state_of_torch() -> None:
    before = torch.get_rng_state()
    with pytest.raises(BrainrdlError):
        stimuli().with_transform(noisy).check_repeatable()
    assert torch.equal(torch.get_rng_state(), before)


def test_only_steps_of_training_see_the_augmentation() -> None:
    seen: list[bool] = []

    class Watch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if self.training and torch.is_grad_enabled():
                seen.append(bool((x > 10).all()))
            else:
                assert (x <= 1).all()
            return x

    plain = stimuli().with_transform(lambda image: image)
    student = Student(nn.Sequential(Watch(), *network()), ["4"])
    augmented = plain.with_augmentation(lambda image: image + 20 + torch.rand(1))
    fit(student, brain(), augmented, validation=0.4, steps=3, device="cpu", progress=False)
    assert seen == [False, True, True, True]  # the first pass tests that gradients reach the network
    first, second = (evaluate(student, brain(), augmented).summary.score[0] for _ in range(2))
    assert first == second


def test_an_augmentation_changes_what_is_learned_and_features_are_not_frozen() -> None:
    augmented = stimuli().with_transform(lambda image: image).with_augmentation(noisy)
    student = Student(network(), ["3"], readout=Readout(projection=2), trainable="projection")
    assert not FrozenFeatures(augmented).serves(student, None)
    assert augmented.select(NAMES[:3]).augmentation is noisy
    settings = fit(student, brain(), augmented, steps=1, device="cpu", progress=False).settings
    assert settings["augmentation"].startswith("<function noisy")


def test_video_clips_are_refused_and_never_cut_to_their_first_frame() -> None:
    clips = torch.rand(6, 8, 3, 16, 16)
    found = Stimuli.from_dataset(TensorDataset(clips), NAMES[:6])
    for ask in (found.images, found.digests):
        with pytest.raises(
            BrainrdlError, match=r"item 0 of data set TensorDataset must be one image.*\(8, 3, 16, 16\)"
        ):
            ask(NAMES[:1])
