"""Results do not depend on what was computed before, and what the user holds is not changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from brainrdl import (
    BrainrdlError,
    NetworkTeacher,
    RDMLoss,
    RDMTeacher,
    Readout,
    Stimuli,
    Student,
    cross_validate,
    fit,
    rdms,
)
from brainrdl.models.feature_cache import digest_network
from brainrdl.stimuli import Batch

NAMES = tuple(f"s{k:02d}" for k in range(12))


def stimuli() -> Stimuli:
    return Stimuli.from_arrays(torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)), NAMES)


def teacher() -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 66)), NAMES))


class Recurrent(nn.Module):
    def __init__(self, times: int, kept: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.times, self.flat, self.linear = times, nn.Flatten(), nn.Linear(64, 64)
        self.register_buffer("gain", torch.full((64,), 1.0 + kept), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.flat(x)
        for _ in range(self.times):
            x = torch.tanh(self.linear(x) * self.gain)
        return x


def lesion(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output * (torch.arange(64) < 32)


def test_networks_that_differ_in_an_attribute_a_buffer_or_a_hook_have_different_digests() -> None:
    lesioned = Recurrent(1)
    lesioned.linear.register_forward_hook(lesion)
    found = [digest_network(network) for network in (Recurrent(1), Recurrent(5), Recurrent(1, kept=True), lesioned)]
    assert len(set(found)) == 4
    assert digest_network(Recurrent(1)) == found[0]


@pytest.mark.parametrize("cached", [True, False])
def test_stored_patterns_are_those_of_the_network_that_is_asked(cached: bool, tmp_path: Path) -> None:
    batch = Batch(NAMES, stimuli().images())
    found = []
    for times in (1, 5):
        made = NetworkTeacher(
            nn.Sequential(Recurrent(times)), ["0"], stimuli=stimuli(), cache=tmp_path if cached else False
        )
        found.append(made.rdms(batch)[made.targets[0]])
    assert not torch.allclose(*found)


def test_a_transform_that_works_in_place_does_not_change_the_images() -> None:
    pixels = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before = pixels.clone()
    for kind in (pixels, pixels.mul(255).byte()):
        held = kind.clone()
        made = Stimuli.from_arrays(held, NAMES[:6]).with_augmentation(v2.RandomErasing(p=1, inplace=True))
        for step in range(3):
            made.batch(NAMES[:6], step, augmented=True)
        assert torch.equal(held, kind)

    def blank(x: Tensor) -> Tensor:
        x[:, 4:] = 0
        return x

    assert Stimuli.from_arrays(pixels, NAMES[:6], transform=blank).images()[:, :, 4:].abs().max() == 0
    assert torch.equal(pixels, before)


def test_networks_with_weights_from_numpy_start_alike() -> None:
    def make() -> Student:
        linear = nn.Linear(64, 8)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(np.random.randn(8, 64)))
        return Student(nn.Sequential(nn.Flatten(), linear), ["1"])

    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    found = cross_validate(make, teacher(), stimuli(), folds=3, steps=1, lr=1e-9, device="cpu", progress=False)
    scores = found.scores[found.scores["against"] == "mean"].groupby("role")["score"].mean()
    assert scores["student"] == pytest.approx(scores["unfitted"], abs=1e-3)
    assert np.array_equal(np.random.get_state()[1], state)


def test_a_loss_sees_what_numpy_wrote_into_the_teacher() -> None:
    patterns, random = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)), np.random.default_rng(0)
    held, other = random.random((2, 15)).astype(np.float32)
    shared, loss = torch.from_numpy(held), RDMLoss()
    loss(patterns, shared)
    held[:] = other
    assert float(loss(patterns, shared)) == float(loss(patterns, torch.from_numpy(other)))


def test_a_fit_leaves_the_global_generator_as_it_was() -> None:
    def made() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))

    torch.manual_seed(0)
    expected = [made()[1].weight.sum().item() for _ in range(3)]
    torch.manual_seed(0)
    found = []
    for _ in range(3):
        network = made()
        found.append(network[1].weight.sum().item())
        fit(Student(network, ["1"]), teacher(), stimuli(), steps=2, seed=5, device="cpu", progress=False)
    assert found == expected


def test_statistics_from_parts_are_those_of_all_images() -> None:
    images = torch.rand(258, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images[-2:] += 10
    students = []
    for size in (256, 258):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten())
        made = Student(network, ["2"], readout=Readout(standardise=True), batchnorm="train")
        made.calibrate(images, batch_size=size)
        students.append(network[1].running_mean)
    torch.testing.assert_close(students[0], students[1], rtol=1e-5, atol=1e-6)


def test_a_changed_file_has_a_new_digest(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("L", (4, 4), 10).save(tmp_path / f"{name}.png")
    made = Stimuli.from_folder(tmp_path)
    before = made.digests()
    Image.new("L", (6, 6), 200).save(tmp_path / "a.png")
    after = made.digests()
    assert (before["a"] != after["a"], before["b"] == after["b"]) == (True, True)


@pytest.mark.parametrize("change", ["attribute", "seed"])
def test_a_run_of_another_network_or_projection_is_not_resumed(change: str, tmp_path: Path) -> None:
    def made(other: bool) -> Student:
        network = nn.Sequential(Recurrent(3 if other and change == "attribute" else 1))
        seed = 1 if other and change == "seed" else 0
        return Student(network, ["0"], readout=Readout(projection=3), trainable="projection", seed=seed)

    asked = {"steps": 2, "device": "cpu", "progress": False, "out": tmp_path / "run", "resume": True}
    fit(made(False), teacher(), stimuli(), **asked)
    fit(made(False), teacher(), stimuli(), **asked)
    with pytest.raises(BrainrdlError, match=r"was written with (network_code|projection_seeds)"):
        fit(made(True), teacher(), stimuli(), **asked)
