"""Student: patterns and logits of an unchanged network, what trains, and what is saved."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from brainrdl._core.errors import BrainrdlError
from brainrdl.models.readout import Readout
from brainrdl.models.student import Student
from brainrdl.stimuli.named_images import Stimuli


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [
        ("conv1", nn.Conv2d(1, 4, 3)),
        ("norm", nn.BatchNorm2d(4)),
        ("relu", nn.ReLU(inplace=True)),
        ("block", nn.Sequential(nn.Conv2d(4, 6, 3), nn.Dropout(0.5))),
        ("flat", nn.Flatten()),
        ("fc", nn.Linear(96, 5)),
    ]
    return nn.Sequential(OrderedDict(layers))


def images(n: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def stimuli(n: int = 6) -> Stimuli:
    return Stimuli.from_arrays(images(n), [f"s{i}" for i in range(n)])


def trained(student: Student) -> set[str]:
    return {name for name, parameter in student.named_parameters() if parameter.requires_grad}


# Patterns and logits


def test_patterns_are_the_layers_outputs_and_logits_the_networks() -> None:
    model = network().eval()
    output = Student(model, ["conv1", "block.0"])(images())
    assert list(output.patterns) == ["conv1", "block.0"]
    torch.testing.assert_close(output.patterns["conv1"], model.conv1(images()).flatten(1))
    torch.testing.assert_close(output.logits, model(images()))


def test_the_network_computes_what_it_computed_without_the_student() -> None:
    model = network().eval()
    before, state = model(images()), copy.deepcopy(model.state_dict())
    Student(model, ["conv1"])(images())
    assert torch.equal(model(images()), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_no_hook_is_left_on_the_network() -> None:
    model = network()
    Student(model, ["conv1", "fc"])(images())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_group_of_layers_is_concatenated_after_pooling() -> None:
    student = Student(network().eval(), ["conv1+block.0", "conv1"], readout=Readout("avgpool"))
    patterns = student(images()).patterns
    assert patterns["conv1+block.0"].shape == (6, 10)
    assert torch.equal(patterns["conv1+block.0"][:, :4], patterns["conv1"])


def test_each_layer_can_have_its_own_readout() -> None:
    student = Student(network(), ["conv1", "block.0"], readout={"conv1": Readout("avgpool")})
    patterns = student(images()).patterns
    assert patterns["conv1"].shape == (6, 4)
    assert patterns["block.0"].shape == (6, 96)


def test_an_output_that_is_not_a_matrix_gives_no_logits() -> None:
    assert Student(network()[:1], ["conv1"])(images()).logits is None

    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat = nn.Flatten()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.flat(x), x

    assert Student(Several(), ["flat"])(images()).logits is None


def test_gradient_flows_from_patterns_into_the_network() -> None:
    student = Student(network(), ["conv1"])
    student(images()).patterns["conv1"].square().sum().backward()
    gradient = student.model.conv1.weight.grad  # type: ignore[union-attr]
    assert isinstance(gradient, Tensor)
    assert gradient.abs().sum() > 0


def test_a_mapping_of_layers_is_kept_as_the_match() -> None:
    assert Student(network(), {"conv1": "V1", "fc": "IT"}).match == {"conv1": "V1", "fc": "IT"}
    assert Student(network(), ["conv1"]).match is None


def test_layer_names_like_a_dicts_methods_are_fine() -> None:
    model = nn.Sequential(OrderedDict([("keys", nn.Flatten()), ("update", nn.Linear(64, 2))]))
    assert list(Student(model, ["keys", "update"])(images()).patterns) == ["keys", "update"]


def test_the_student_runs_the_network_once_and_adds_one_copy_for_each_layer(operations, without_probe) -> None:
    model, x = network().eval(), images()
    student = Student(model, ["conv1", "block", "fc"])
    with torch.no_grad(), operations() as alone:
        model(x)
    with torch.no_grad(), operations() as together:
        patterns = student(x).patterns
    added = list(together.made)
    for operation in alone.made:
        added.remove(operation)
    assert added == [("aten.clone.default", pattern.numel()) for pattern in patterns.values()]


# What trains


def test_all_trains_everything() -> None:
    student = Student(network(), ["conv1"])
    assert len(trained(student)) == 8
    assert len(student.trainable_parameters()) == 8


def test_none_trains_nothing() -> None:
    student = Student(network(), ["fc"], readout=Readout(projection=2), trainable="none")
    student.calibrate(images())
    assert student.trainable_parameters() == []


def test_projection_trains_the_projection_only() -> None:
    student = Student(network(), ["fc"], readout=Readout(projection=2), trainable="projection")
    student.calibrate(images())
    assert trained(student) == {"heads.layer:fc.weight"}


def test_from_a_layer_trains_it_and_all_registered_after_it() -> None:
    student = Student(network(), ["fc"], trainable="from:block")
    assert trained(student) == {"model.block.0.weight", "model.block.0.bias", "model.fc.weight", "model.fc.bias"}


def test_from_a_layer_inside_a_block_leaves_the_direct_parameters_of_the_block_frozen() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    student = Student(nn.Sequential(Block()), ["0"], trainable="from:0.second")
    assert trained(student) == {"model.0.second.weight", "model.0.second.bias"}


def test_from_a_layer_trains_the_projection_too() -> None:
    student = Student(network(), ["conv1"], readout=Readout(projection=2), trainable="from:fc")
    student.calibrate(images())
    assert trained(student) == {"model.fc.weight", "model.fc.bias", "heads.layer:conv1.weight"}


def test_a_network_frozen_before_thaws_as_asked() -> None:
    model = network().requires_grad_(False)
    assert len(trained(Student(model, ["conv1"], trainable="all"))) == 8


def test_an_unknown_choice_of_what_trains_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="trainable 'projections' is not known; nearest: 'projection'"):
        Student(network(), ["fc"], trainable="projections")
    with pytest.raises(BrainrdlError, match=r"layers \['blok'\] are not in the model .*nearest: 'block'"):
        Student(network(), ["fc"], trainable="from:blok")
    with pytest.raises(BrainrdlError, match="trainable='projection' but no layer has a projection"):
        Student(network(), ["fc"], trainable="projection")


def test_trainable_parameters_are_refused_before_a_projection_is_built() -> None:
    student = Student(network(), ["fc"], readout=Readout(projection=2))
    with pytest.raises(BrainrdlError, match=r"projection of layer 'fc' is not built yet; call student.calibrate"):
        student.trainable_parameters()


# Modes


def test_batch_normalisation_keeps_its_statistics_while_training() -> None:
    student = Student(network(), ["conv1"], batchnorm="eval").train()
    assert student.training
    assert student.model.training
    assert not student.model.norm.training
    before = student.model.norm.running_mean.clone()  # type: ignore[union-attr,operator]
    student(images())
    assert torch.equal(student.model.norm.running_mean, before)  # type: ignore[union-attr,arg-type]


def test_batch_normalisation_is_in_eval_from_the_start() -> None:
    student = Student(network(), ["conv1"], batchnorm="eval")
    assert student.training
    assert not student.model.norm.training
    assert not Student(network().eval(), ["conv1"]).training


def test_batch_normalisation_trains_when_asked() -> None:
    student = Student(network(), ["conv1"], batchnorm="train").train()
    before = student.model.norm.running_mean.clone()  # type: ignore[union-attr,operator]
    student(images())
    assert not torch.equal(student.model.norm.running_mean, before)  # type: ignore[union-attr,arg-type]


def test_a_pattern_does_not_depend_on_the_other_images_of_the_batch() -> None:
    model = network()
    model.block[1].p = 0.0  # type: ignore[index]
    student = Student(model, ["block.0"], batchnorm="eval").train()
    alone, together = student(images()[:2]).patterns["block.0"], student(images()).patterns["block.0"][:2]
    torch.testing.assert_close(alone, together)


def test_an_unknown_batchnorm_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="batchnorm 'evaluate' is not known; nearest: 'eval'"):
        Student(network(), ["conv1"], batchnorm="evaluate")


# Layers


def test_an_unknown_layer_is_refused_with_the_nearest() -> None:
    with pytest.raises(BrainrdlError, match=r"layers \['conv9'\] are not in the model .*nearest: 'conv1'"):
        Student(network(), ["conv9"])


def test_a_single_string_is_refused_as_layers() -> None:
    with pytest.raises(BrainrdlError, match=r"student's layers must be a list of names, got the single string 'fc'"):
        Student(network(), "fc")


# Calibrating and saving


def test_an_uncalibrated_student_is_refused() -> None:
    student = Student(network(), ["fc"], readout=Readout(standardise=True))
    assert not student.calibrated
    with pytest.raises(BrainrdlError, match=r"layer 'fc' has a readout .* not calibrated; call student.calibrate"):
        student(images())


def test_calibrating_in_parts_equals_calibrating_at_once() -> None:
    one, two = (Student(network(), ["conv1"], readout=Readout(standardise=True)) for _ in range(2))
    one.calibrate(images(20))
    two.calibrate(images(20), batch_size=7)
    torch.testing.assert_close(one(images()).patterns, two(images()).patterns)


def test_calibrating_uses_no_dropout_no_gradient_and_restores_every_mode() -> None:
    model = network()
    student = Student(model, ["block"], readout=Readout(standardise=True, projection=3), batchnorm="eval").train()
    model.conv1.eval()
    student.calibrate(images(20))
    # With dropout of 0.5 half of each channel's values would be 0, and the mean half as large.
    mean = model.block[0](model.relu(model.norm(model.conv1(images(20))))).flatten(1).mean(0)  # type: ignore[index,operator]
    torch.testing.assert_close(student.heads["layer:block"].mean, mean)
    assert not student.heads["layer:block"].mean.requires_grad  # type: ignore[union-attr]
    assert model.block.training
    assert not model.conv1.training
    assert not model.norm.training


def test_a_student_without_anything_to_calibrate_is_calibrated() -> None:
    student = Student(network(), ["fc"])
    student.calibrate(images())
    assert student.calibrated
    assert "heads" not in " ".join(student.state_dict())


def test_a_calibrated_student_round_trips_through_safetensors(tmp_path: Path) -> None:
    def make(seed: int) -> Student:
        readouts = {
            "conv1": Readout("avgpool", standardise=True),
            "fc+block.0": Readout(projection=3, standardise=True),
        }
        return Student(network(seed).eval(), ["conv1", "fc+block.0"], readout=readouts, seed=seed)

    fitted, fresh = make(1), make(2)
    fitted.calibrate(images(20))
    save_file(fitted.state_dict(), tmp_path / "student.safetensors")
    fresh.load_state_dict(load_file(tmp_path / "student.safetensors"))
    assert fresh.calibrated
    torch.testing.assert_close(fresh(images()).patterns, fitted(images()).patterns, rtol=0, atol=0)
    assert trained(fresh) == trained(fitted)


def test_a_student_can_be_copied() -> None:
    student = Student(network().eval(), ["conv1"], readout=Readout(projection=2))
    student.calibrate(images())
    twin = copy.deepcopy(student)
    assert torch.equal(twin(images()).patterns["conv1"], student(images()).patterns["conv1"])
    assert twin.model is not student.model


# Patterns and RDMs of named stimuli


def test_patterns_follow_the_names_asked_whatever_the_batch_size() -> None:
    student, order = Student(network(), ["fc"]).train(), ["s4", "s0", "s3"]
    patterns = student.patterns(stimuli(), order, batch_size=2)["fc"]
    assert not patterns.requires_grad
    assert student.training
    everything = student.eval().patterns(stimuli())["fc"]
    torch.testing.assert_close(patterns, everything[[4, 0, 3]])


def test_patterns_bring_the_mode_back_also_after_an_error() -> None:
    student = Student(network(), ["fc"]).train()
    with pytest.raises(BrainrdlError, match="s99"):
        student.patterns(stimuli(), ["s99"])
    assert student.training
    assert student.model.training
    with pytest.raises(BrainrdlError, match="no conditions were given"):
        student.patterns(stimuli(), [])


def test_rdms_are_those_of_rsatoolbox_and_carry_names_and_layers() -> None:
    student = Student(network().eval(), ["conv1", "fc"])
    names = ["s5", "s1", "s0", "s2"]
    rdms = student.rdms(stimuli(), names)
    assert rdms.rdm_descriptors["layer"] == ["conv1", "fc"]
    assert list(rdms.pattern_descriptors["stimulus"]) == names
    assert rdms.dissimilarity_measure == "correlation"
    for row, patterns in zip(rdms.dissimilarities, student.patterns(stimuli(), names).values(), strict=True):
        expected = calc_rdm(Dataset(patterns.double().numpy()), method="correlation").dissimilarities[0]
        np.testing.assert_allclose(row, expected, rtol=1e-3, atol=1e-6)


def test_rdms_accept_any_function_of_patterns() -> None:
    def largest(patterns: Tensor) -> Tensor:
        first, second = torch.triu_indices(len(patterns), len(patterns), 1)
        return (patterns[first] - patterns[second]).abs().amax(dim=1)

    rdms = Student(network(), ["fc"]).rdms(stimuli(), dissimilarity=largest)
    assert rdms.dissimilarity_measure == "largest"
    assert rdms.dissimilarities.shape == (1, 15)


def test_an_unknown_dissimilarity_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="dissimilarity 'corelation' is not known; nearest: 'correlation'"):
        Student(network(), ["fc"]).rdms(stimuli(), dissimilarity="corelation")


def test_patterns_can_be_computed_on_a_device() -> None:
    student = Student(network(), ["fc"])
    patterns = student.patterns(stimuli(), device="cpu")["fc"]
    assert patterns.device == student.device == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_student_moves_to_the_gpu_with_what_is_calibrated_there() -> None:
    readout = Readout(standardise=True, projection=3)
    student = Student(network(), ["fc"], readout=readout).to("cuda")
    student.calibrate(images(20))
    here = Student(network(), ["fc"], readout=readout)
    here.load_state_dict(student.state_dict())
    there = student.patterns(stimuli())["fc"]
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here.patterns(stimuli())["fc"], rtol=1e-3, atol=1e-3)


def test_repr_says_what_is_read_and_what_trains() -> None:
    assert "layers=['fc'], trainable='from:block', batchnorm='eval'" in repr(
        Student(network(), ["fc"], trainable="from:block")
    )


def test_patterns_that_are_not_finite_are_refused_with_layer_and_condition() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x.flatten(1).mean(1, keepdim=True) > 0.9, torch.nan, x.flatten(1))

    images = torch.rand(4, 1, 3, 3)
    images[2] = 1
    student = Student(nn.Sequential(nn.Identity(), Broken()), ["0", "1"])
    for ask in (student.rdms, student.patterns):
        with pytest.raises(BrainrdlError, match=r"layer '1' gives NaN or Inf for condition 'c' \(1 of 4 conditions\)"):
            ask(Stimuli.from_arrays(images, list("abcd")))
