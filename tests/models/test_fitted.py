"""Weights of a fitted run are used with the readouts that were trained, or refused, through every door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from brainrdl import NetworkTeacher, RDMTeacher, Readout, Stimuli, Student, fit, rdms, read
from brainrdl._core.errors import BrainrdlError
from brainrdl.cli.app import app
from brainrdl.models.fitted import build_fitted, fitted_student, read_fitted
from brainrdl.models.networks import build
from brainrdl.models.weights import load_weights
from brainrdl.runs import finished_fits, run_folder
from brainrdl.stimuli.named_images import Batch
from brainrdl.stimuli.transforms import default_transform

NAMES = tuple(f"i{k:02d}" for k in range(12))

READOUT = Readout("avgpool", standardise=True, projection=4)


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (12, 8, 8), dtype=np.uint8)


def stimuli() -> Stimuli:
    return Stimuli.from_arrays(pixels(), NAMES, transform=default_transform(8, "none", 1))


def network() -> nn.Module:
    torch.manual_seed(5)
    return build("small_cnn").module.eval()


def fitted(folder: Path, readout: Readout = READOUT, trainable: str = "projection") -> tuple[Student, Path]:
    brain = RDMTeacher(rdms.from_array(np.random.default_rng(1).random((1, 66)), NAMES))
    student = Student(network(), ["conv3"], readout=readout, trainable=trainable)
    fit(student, brain, stimuli(), steps=5, lr=0.1, out=folder / "run", device="cpu", progress=False)
    return student, folder / "run" / run_folder.WEIGHTS


def pairs(student: Student) -> Tensor:
    return torch.from_numpy(student.rdms(stimuli()).dissimilarities[0])


def batch() -> Batch:
    return Batch(NAMES, stimuli().images(NAMES), None)


def test_the_fitted_student_comes_back_with_its_readout(tmp_path: Path) -> None:
    student, weights = fitted(tmp_path)
    again = fitted_student("small_cnn", weights)
    assert again.layers == ("conv3",)
    torch.testing.assert_close(pairs(again), pairs(student))
    plain = pairs(Student(network(), ["conv3"], readout=Readout("avgpool"), trainable="none"))
    assert not torch.allclose(pairs(again), plain, atol=1e-3)


@pytest.mark.parametrize("cache", [False, True])
def test_a_teacher_reads_a_run_as_it_was_fitted(tmp_path: Path, cache: bool) -> None:
    student, weights = fitted(tmp_path)
    for teacher in (
        NetworkTeacher("small_cnn", ["conv3"], weights=str(weights), cache=cache),
        NetworkTeacher(student, ["conv3"], cache=cache),
    ):
        torch.testing.assert_close(teacher.rdms(batch())["conv3"][0], pairs(student).float(), atol=1e-5, rtol=1e-4)


def test_teachers_with_different_readouts_do_not_share_a_cache(tmp_path: Path) -> None:
    student, weights = fitted(tmp_path)
    plain = NetworkTeacher(network(), ["conv3"], pool="avgpool", cache=tmp_path / "cache").rdms(batch())["conv3"]
    own = NetworkTeacher("small_cnn", ["conv3"], weights=str(weights), cache=tmp_path / "cache").rdms(batch())["conv3"]
    torch.testing.assert_close(own[0], pairs(student).float(), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(own, plain, atol=1e-3)


def test_the_command_line_writes_the_rdm_that_was_fitted(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name, image in zip(NAMES, pixels(), strict=True):
        Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
    student, weights = fitted(tmp_path)
    command = ["rdm", "--model", "small_cnn", "--weights", str(weights), "--layers", "conv3"]
    command += ["--stimuli", str(tmp_path / "images"), "--out", str(tmp_path / "x.h5")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    expected = student.rdms(Stimuli.from_folder(tmp_path / "images", default_transform(8, "none", 1)))
    np.testing.assert_allclose(read(tmp_path / "x.h5").dissimilarities, expected.dissimilarities, atol=1e-5)
    refused = CliRunner().invoke(app, [*command, "--overwrite", "--pool", "flatten"])
    assert isinstance(refused.exception, BrainrdlError)
    assert "with another readout of layer 'conv3'; set --pool avgpool" in str(refused.exception)


def test_a_network_alone_is_not_loaded_from_a_run_whose_layers_had_readouts(tmp_path: Path) -> None:
    _, weights = fitted(tmp_path)
    for load in (lambda: load_weights(network(), weights), lambda: build("small_cnn", weights)):
        with pytest.raises(
            BrainrdlError, match=r"contains a fitted student, whose layers \['conv3'\] were read out in"
        ):
            load()


@pytest.mark.parametrize("readout", [Readout("avgpool"), Readout(step=0)])
def test_pooling_without_numbers_is_not_lost_either(tmp_path: Path, readout: Readout) -> None:
    student, weights = fitted(tmp_path, readout, trainable="all")
    with pytest.raises(BrainrdlError, match="contains a fitted student"):
        build("small_cnn", weights)
    torch.testing.assert_close(pairs(fitted_student("small_cnn", weights)), pairs(student))


def test_a_network_read_as_it_is_can_be_loaded_alone(tmp_path: Path) -> None:
    student, weights = fitted(tmp_path, Readout(), trainable="all")
    torch.testing.assert_close(dict(build("small_cnn", weights).module.state_dict()), dict(student.model.state_dict()))


def test_other_layers_of_a_run_are_read_only_if_it_trained_the_network(tmp_path: Path) -> None:
    _, weights = fitted(tmp_path)
    with pytest.raises(
        BrainrdlError, match=r"trained readouts of layers \['conv3'\] and not the network, so layer 'conv2'"
    ):
        fitted_student("small_cnn", weights, ["conv2"])
    student, weights = fitted(tmp_path / "all", trainable="all")
    expected = pairs(Student(student.model, ["conv2"], readout=Readout("avgpool"), trainable="none"))
    torch.testing.assert_close(pairs(fitted_student("small_cnn", weights, ["conv2"], Readout("avgpool"))), expected)


def test_weights_of_a_run_do_not_load_into_a_student_that_reads_in_another_way(tmp_path: Path) -> None:
    _, weights = fitted(tmp_path, Readout("avgpool"), trainable="all")
    for other in (Student(network(), ["conv3"]), Student(network(), ["conv2"], readout=Readout("avgpool"))):
        with pytest.raises(BrainrdlError, match=r"does not fit this student: the readouts of layers .*'conv3'"):
            finished_fits.load_weights(weights, other)


def test_the_state_of_a_student_is_not_loaded_as_the_network_alone(tmp_path: Path) -> None:
    pooled, plain = (Student(network(), ["conv3"], readout=readout) for readout in (Readout("avgpool"), Readout()))
    for name in ("w.pt", "w.pth"):
        torch.save(pooled.state_dict(), tmp_path / name)
        with pytest.raises(
            BrainrdlError, match=r"contains a fitted student, whose layers \['conv3'\] were read out in"
        ):
            build("small_cnn", tmp_path / name)
    torch.save(plain.state_dict(), tmp_path / "plain.pt")
    torch.testing.assert_close(
        dict(build("small_cnn", tmp_path / "plain.pt").module.state_dict()), dict(plain.model.state_dict())
    )
    torch.save({f"model.{name}": value for name, value in network().state_dict().items()}, tmp_path / "old.pt")
    with pytest.raises(
        BrainrdlError, match=r"begin with 'model\.', as those of a student, but how its layers were read"
    ):
        build("small_cnn", tmp_path / "old.pt")


def test_the_state_of_a_student_does_not_load_into_one_that_reads_in_another_way() -> None:
    state = Student(network(), ["conv3"], readout=Readout("avgpool")).state_dict()
    Student(network(), ["conv3"], readout=Readout("avgpool")).load_state_dict(state)
    for other in (Student(network(), ["conv3"]), Student(network(), ["conv2"], readout=Readout("avgpool"))):
        with pytest.raises(
            BrainrdlError, match=r"the state does not fit this student: the readouts of layers .*'conv3'"
        ):
            other.load_state_dict(state)
    for damaged in (torch.zeros(3), torch.tensor(list(b'{"a": 3}'), dtype=torch.uint8), "text"):
        with pytest.raises(BrainrdlError, match="the readouts in a student's state cannot be read"):
            Student(network(), ["conv3"]).load_state_dict(state | {"_extra_state": damaged})


def test_a_fitted_teacher_has_no_random_twin_and_a_student_is_not_a_network(tmp_path: Path) -> None:
    student, _ = fitted(tmp_path)
    with pytest.raises(
        BrainrdlError, match="readouts that were fitted, which do not fit a network with random weights"
    ):
        NetworkTeacher(student, ["conv3"]).reinitialised()
    with pytest.raises(BrainrdlError, match=r"the network is a Student already; give its network, student\.model"):
        Student(student, ["model.conv3"])
    with pytest.raises(BrainrdlError, match=r"reads layer 'conv3' with Readout.*leave out pool and step"):
        NetworkTeacher(student, ["conv3"], pool="flatten")
    with pytest.raises(BrainrdlError, match="conv2"):
        NetworkTeacher(student, ["conv2"])


def test_a_network_is_built_with_the_weights_and_readouts_of_a_run(tmp_path: Path) -> None:
    student, weights = fitted(tmp_path)
    built, told = build_fitted("small_cnn", weights)
    torch.testing.assert_close(dict(built.module.state_dict()), dict(student.model.state_dict()))
    assert told is not None
    assert told.readouts == {"conv3": READOUT}
    assert build_fitted("small_cnn")[1] is None


def test_files_of_other_kinds_are_not_runs(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(network().state_dict(), tmp_path / "w.safetensors")
    assert read_fitted(tmp_path / "w.safetensors") is None
    (tmp_path / "broken.safetensors").write_bytes(b"123")
    with pytest.raises(BrainrdlError, match=r"broken.safetensors' is truncated, damaged or not safetensors"):
        read_fitted(tmp_path / "broken.safetensors")
