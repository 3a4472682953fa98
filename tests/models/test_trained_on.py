"""Weights of a run are used with the images and the network that they were trained with, or refused, at every door."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from brainrdl import NetworkTeacher, RDMTeacher, Readout, Stimuli, Student, fit, rdms, read
from brainrdl._core.errors import BrainrdlError
from brainrdl.cli.app import app
from brainrdl.models import build, build_fitted, fitted_student
from brainrdl.models.weights import load_weights
from brainrdl.recipe import check, make_network, make_stimuli, make_student, make_teacher
from brainrdl.runs import finished_fits, run_folder
from brainrdl.stimuli import default_transform
from brainrdl.stimuli.named_images import Batch

NAMES = tuple(f"i{k:02d}" for k in range(12))

Transform = Callable[..., Any] | None


def pixels(size: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (12, size, size), dtype=np.uint8)


GREY = default_transform(16, "none", 1)  # the size of small_cnn is 8


def stimuli(transform: Transform = GREY, size: int = 24) -> Stimuli:
    return Stimuli.from_arrays(pixels(size), NAMES, transform=transform)


def brain() -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(1).random((1, 66)), NAMES))


def fitted(folder: Path, shown: Stimuli, readout: Readout = Readout("avgpool")) -> tuple[Student, Path]:  # noqa: B008
    torch.manual_seed(5)
    student = Student(build("small_cnn").module, ["conv3"], readout=readout)
    fit(student, brain(), shown, steps=2, lr=0.01, out=folder / "run", device="cpu", progress=False)
    return student, folder / "run" / run_folder.WEIGHTS


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name, image in zip(NAMES, pixels(), strict=True):
        Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
    return tmp_path


def written(folder: Path, weights: Path) -> np.ndarray:
    command = ["rdm", "--model", "small_cnn", "--weights", str(weights), "--layers", "conv3", "--overwrite"]
    command += ["--stimuli", str(folder / "images"), "--out", str(folder / "x.h5")]
    done = CliRunner().invoke(app, command)
    if done.exception:
        raise done.exception
    return np.asarray(read(folder / "x.h5").dissimilarities)


def test_the_command_line_shows_the_images_as_in_the_training(folder: Path) -> None:
    student, weights = fitted(folder, stimuli())
    expected = student.rdms(Stimuli.from_folder(folder / "images", GREY))
    np.testing.assert_allclose(written(folder, weights), expected.dissimilarities, atol=1e-6)


def test_another_normalisation_is_refused_with_both(folder: Path) -> None:
    _, weights = fitted(folder, stimuli(default_transform(8, (0.5, 0.2), 1)))
    with pytest.raises(BrainrdlError, match=r"transformed by 'ImageTransform\(size=8, mean=\(0.5,\).*mean=\(\)"):
        written(folder, weights)
    with pytest.raises(BrainrdlError, match=r"mean=\(0.5,\)"):
        build_fitted("small_cnn", weights)


def test_images_without_a_transform_have_an_unknown_normalisation(folder: Path) -> None:
    ready = Stimuli.from_arrays(torch.rand(12, 1, 16, 16), NAMES)
    _, weights = fitted(folder, ready)
    with pytest.warns(UserWarning, match="were given without a transform; it is not known whether ImageTransform"):
        network, _ = build_fitted("small_cnn", weights)
    assert network.size == 16


def test_a_loaded_student_refuses_images_of_another_size_or_normalisation(tmp_path: Path) -> None:
    student, weights = fitted(tmp_path, stimuli())
    again = fitted_student("small_cnn", weights)
    np.testing.assert_allclose(again.rdms(stimuli()).dissimilarities, student.rdms(stimuli()).dissimilarities)
    with pytest.raises(BrainrdlError, match=r"trained on images of shape \(1, 16, 16\), got \(1, 8, 8\)"):
        again.rdms(stimuli(None, 8))
    with pytest.raises(BrainrdlError, match=r"transformed by 'ImageTransform\(size=16, mean=\(\).*mean=\(0.5,\)"):
        again.rdms(stimuli(default_transform(16, (0.5, 0.5), 1)))
    again.trained_on = None
    assert again.rdms(stimuli(None, 8)).n_cond == 12


def test_a_run_that_is_loaded_knows_its_images(tmp_path: Path) -> None:
    _, weights = fitted(tmp_path, stimuli())
    student = Student(build("small_cnn").module, ["conv3"], readout=Readout("avgpool"))
    loaded = finished_fits.load_fit(weights.parent, student).student
    with pytest.raises(BrainrdlError, match=r"trained on images of shape \(1, 16, 16\), got \(1, 8, 8\)"):
        loaded.patterns(stimuli(None, 8))


@pytest.mark.parametrize("cache", [False, True])
def test_a_teacher_refuses_other_images(tmp_path: Path, cache: bool) -> None:
    student, weights = fitted(tmp_path, stimuli())
    other = default_transform(16, (0.5, 0.5), 1)
    images = stimuli(None, 8).images(NAMES)
    for make in (
        lambda **more: NetworkTeacher("small_cnn", ["conv3"], weights=str(weights), cache=cache, **more),
        lambda **more: NetworkTeacher(fitted_student("small_cnn", weights), ["conv3"], cache=cache, **more),
    ):
        with pytest.raises(BrainrdlError, match=r"got \(1, 8, 8\)"):
            make().rdms(Batch(NAMES, images, None))
        with pytest.raises(BrainrdlError, match=r"transformed by .*mean=\(0.5,\)"):
            make(stimuli=stimuli(other))
    shown = NetworkTeacher("small_cnn", ["conv3"], weights=str(weights), stimuli=stimuli(None), cache=cache)
    answer = shown.rdms(Batch(NAMES, torch.zeros(12, 1, 1, 1), None))["conv3"].numpy()
    np.testing.assert_allclose(answer, student.rdms(stimuli()).dissimilarities, atol=1e-6)


def recipe(folder: Path, weights: Path, of: str, size: int | None = None) -> Any:
    run = {"model": "small_cnn", "layers": ["conv3"], "pool": "avgpool", "weights": str(weights)}
    other = {"model": "small_cnn", "layers": ["conv3"]}
    teacher = {"network": "small_cnn", "layers": ["conv3"], "weights": str(weights)}
    given = {"stimuli": {"folder": str(folder / "images"), "size": size}}
    parts = {
        "student": {"student": run, "teacher": {"rdms": "it.h5"}},
        "teacher": {"student": other, "teacher": teacher},
    }
    return check(yaml.safe_load(yaml.safe_dump(given | parts[of])))


def test_a_recipe_shows_the_images_as_in_the_training(folder: Path) -> None:
    student, weights = fitted(folder, stimuli())
    expected = student.rdms(stimuli()).dissimilarities
    asked = recipe(folder, weights, "student")
    network = make_network(asked)
    shown = make_stimuli(asked, network)
    np.testing.assert_allclose(make_student(asked, network).rdms(shown).dissimilarities, expected, atol=1e-6)
    asked = recipe(folder, weights, "teacher")
    teacher = make_teacher(asked, make_stimuli(asked))
    batch = make_stimuli(asked).batch(NAMES)
    measured = teacher.rdms(batch)["conv3"].numpy()
    np.testing.assert_allclose(measured, expected, atol=1e-6)


def test_a_recipe_with_another_size_is_refused(folder: Path) -> None:
    _, weights = fitted(folder, stimuli())
    asked = recipe(folder, weights, "student", size=8)
    network = make_network(asked)
    shown, student = make_stimuli(asked, network), make_student(asked, network)
    with pytest.raises(BrainrdlError, match=r"trained on images of shape \(1, 16, 16\), got \(1, 8, 8\)"):
        fit(student, brain(), shown, steps=1, device="cpu", progress=False)


def test_a_network_that_is_built_with_the_weights_of_a_run_has_its_images(tmp_path: Path) -> None:
    _, weights = fitted(tmp_path, stimuli(), Readout())
    assert build("small_cnn", weights).transform == GREY


class Acting(nn.Module):
    """A network whose activation shows neither in its parameters nor in its modules."""

    def __init__(self, act: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(1, 4, 3), act
        self.out = nn.Flatten()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.act(self.conv(x)))


def test_another_network_with_the_same_parameters_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(3)
    student = Student(Acting(torch.relu), ["out"])
    fit(student, brain(), stimuli(), steps=2, out=tmp_path / "run", device="cpu", progress=False)
    weights = tmp_path / "run" / run_folder.WEIGHTS
    other = Acting(torch.sigmoid)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    for load in (
        lambda: fitted_student(other, weights),
        lambda: load_weights(other, weights),
        lambda: finished_fits.load_weights(weights, Student(other, ["out"], trainable="all")),
        lambda: finished_fits.load_fit(weights.parent, Student(other, ["out"], trainable="all")),
    ):
        other.load_state_dict(before)
        with pytest.raises(BrainrdlError, match=r"was trained in another network: .* layer 'out' .* differ by \d+ %"):
            load()
    other.load_state_dict(before)
    with pytest.raises(BrainrdlError, match="another network"):
        load_weights(other, weights)
    torch.testing.assert_close(dict(other.state_dict()), before)
    same = Acting(torch.relu)
    load_weights(same, weights)
    torch.testing.assert_close(dict(same.state_dict()), dict(student.model.state_dict()))


def test_random_layers_do_not_identify_a_network(tmp_path: Path) -> None:
    from brainrdl.models.trained_on import check_network, network_facts

    class Noise(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    facts = network_facts(nn.Sequential(Noise()), {"0": [-1]}, (1, 4, 4), torch.device("cpu"))
    assert facts["outputs"] == []
    told = {"images": {"shape": [1, 4, 4], "transform": None}, "network": facts}
    check_network(nn.Sequential(nn.ReLU()), told, "'w'")
