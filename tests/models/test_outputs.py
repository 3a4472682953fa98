"""Outputs and networks of many kinds are read, or refused by name: complex numbers, dicts, lazy, scripted, compiled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainrdl import NetworkTeacher, Readout, Stimuli, Student, Task, fit
from brainrdl._core.errors import BrainrdlError
from brainrdl.models.layers import read_layers
from brainrdl.models.networks import build
from brainrdl.models.pooling import pool_patterns
from brainrdl.models.weights import load_weights
from brainrdl.stimuli.named_images import Batch

NAMES = tuple(f"i{k}" for k in range(12))
UPPER = np.triu_indices(12, 1)


def images() -> Tensor:
    return torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Fourier(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft2(x)


def test_real_and_imaginary_parts_of_complex_outputs_both_count() -> None:
    f = torch.fft.rfft2(images()).flatten(1).numpy()
    expected = 1 - np.corrcoef(np.c_[f.real, f.imag])[UPPER]
    net = nn.Sequential(Fourier())
    teacher = NetworkTeacher(net, ["0"]).rdms(Batch(NAMES, images()))["0"][0]
    student = Student(net, ["0"]).rdms(Stimuli.from_arrays(images(), NAMES)).dissimilarities[0]
    np.testing.assert_allclose(teacher, expected, atol=1e-5)
    np.testing.assert_allclose(student, expected, atol=1e-5)


def test_pooling_keeps_real_and_imaginary_parts_apart() -> None:
    output = torch.complex(torch.ones(2, 3, 4, 4), 2 * torch.ones(2, 3, 4, 4))
    assert pool_patterns(output, "avgpool_first").tolist() == 2 * [[1, 1, 1, 2, 2, 2]]


class Gives(nn.Module):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer(x)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: {"loss": x.mean(), "hidden": x.flatten(1)},
        lambda x: (x.mean(), [x.flatten(1), x[:2]]),
        lambda x: (x.argmax(-1), x.flatten(1)),
    ],
)
def test_single_numbers_and_integers_are_passed_over(answer: Any) -> None:
    outputs, _ = read_layers(nn.Sequential(Gives(answer)), ["0"], images())
    torch.testing.assert_close(outputs["0"], images().flatten(1))


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (lambda x: x.mean(), r"torch.float32 \(\)"),
        (lambda x: x.argmax(-1), r"torch.int64 \(12, 1, 8\)"),
        (lambda x: None, "NoneType"),
    ],
)
def test_an_output_without_patterns_is_refused_by_name(answer: Any, got: str) -> None:
    with pytest.raises(
        BrainrdlError, match=f"layer '0' must return a tensor of floats with one row per image, got {got}"
    ):
        read_layers(nn.Sequential(Gives(answer)), ["0"], images())


def lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(5))


@pytest.mark.parametrize("make", [Student, NetworkTeacher])
def test_lazy_networks_are_refused_until_they_have_run(make: Any) -> None:
    with pytest.raises(BrainrdlError, match=r"parameters \['1.weight', '1.bias'\] have no shape yet.*run it once"):
        make(lazy(), ["1"])
    net = lazy()
    net(images())
    make(net, ["1"])


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("make", [Student, NetworkTeacher])
def test_layers_inside_scripted_networks_are_refused(make: Any) -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)))
    with pytest.raises(BrainrdlError, match=r"layers \['1'\] are inside a scripted or traced network"):
        make(scripted, ["1"])
    with pytest.raises(BrainrdlError, match=r"layers \['0.1'\] are inside a scripted or traced network"):
        make(nn.Sequential(scripted), ["0.1"])


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_network_with_computed_weights_can_teach_and_is_left_as_it_is() -> None:
    net = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(64, 5)))
    expected, teacher = net(images()), NetworkTeacher(net, ["1"])
    torch.testing.assert_close(teacher.patterns(Batch(NAMES, images()))["1"], expected.detach())
    assert net[1].weight.grad_fn is not None


class HuggingFaceLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 8)), nn.Linear(8, 2)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        hidden = self.body(pixel_values)
        return {"hidden_states": hidden, "logits": self.classifier(hidden)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "layer"), [(lambda: build("googlenet").module, "inception3a"), (HuggingFaceLike, "body")]
)
def test_a_field_called_logits_gives_the_logits(make: Any, layer: str) -> None:
    stimuli = Stimuli.from_arrays(torch.rand(4, 3, 64, 64), NAMES[:4], labels=["a", "b"] * 2)
    student = Student(make(), [layer], readout=Readout("avgpool"))
    options = {"rdm_weight": 0, "task": Task(), "steps": 1, "device": "cpu", "progress": False}
    assert np.isfinite(fit(student, None, stimuli, **options).history.task_loss.iloc[-1])


def test_a_network_without_logits_cannot_learn_a_task() -> None:
    stimuli = Stimuli.from_arrays(images(), NAMES, labels=["a", "b"] * 6)
    student = Student(nn.Sequential(nn.Conv2d(1, 2, 3)), ["0"])
    with pytest.raises(BrainrdlError, match=r"no logits from the student \(n, n_classes\), as a tensor or a field"):
        fit(student, None, stimuli, rdm_weight=0, task=Task(), steps=1, device="cpu", progress=False)


def test_a_dataclass_gives_its_tensors_and_logits() -> None:
    @dataclass
    class Output:
        hidden_states: Tensor
        logits: Tensor

    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> Output:
            return Output(x.flatten(1), x.flatten(1)[:, :2])

    student = Student(nn.Sequential(Wrapped()), ["0"], trainable="none")
    patterns, logits = student(images())
    assert torch.equal(patterns["0"], images().flatten(1))
    assert logits is not None
    assert torch.equal(logits, images().flatten(1)[:, :2])


def test_sparse_outputs_are_refused_and_no_images_give_no_rows() -> None:
    class Sparse(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).to_sparse()

    with pytest.raises(BrainrdlError, match=r"layer '0' must return a tensor of floats .*\(12, 64\) sparse"):
        read_layers(nn.Sequential(Sparse()), ["0"], images())
    assert Student(nn.Sequential(nn.Conv2d(1, 2, 3)), ["0"])(images()[:0]).patterns["0"].shape == (0, 72)


# Compiled networks


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("inner", [False, True])
def test_layers_of_compiled_networks_are_read(called: bool, inner: bool) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU())
    compiled = nn.Sequential(torch.compile(net, backend="eager")) if inner else torch.compile(net, backend="eager")
    layer = "0._orig_mod.1" if inner else "_orig_mod.1"
    if called:
        compiled(images())
        with torch.no_grad():
            compiled(images())
    got = Student(compiled, [layer]).patterns(Stimuli.from_arrays(images(), NAMES))[layer]
    torch.testing.assert_close(got, net[1](images().flatten(1)).detach())
    torch._dynamo.reset()


def test_a_network_compiled_in_place_is_read() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU())
    net.compile(backend="eager")
    with torch.no_grad():
        net(images())
    got = Student(net, ["1"]).patterns(Stimuli.from_arrays(images(), NAMES))["1"]
    torch.testing.assert_close(got, net[1](images().flatten(1)).detach())
    torch._dynamo.reset()


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_weights_of_a_compiled_network_are_loaded(prefix: str, tmp_path: Path) -> None:
    net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save({prefix + name: value for name, value in net.state_dict().items()}, tmp_path / "w.pth")
    load_weights(other, tmp_path / "w.pth")
    torch.testing.assert_close(other.weight, net.weight)
