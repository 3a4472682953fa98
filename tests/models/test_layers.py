"""Capture: the true output of each layer, with its gradient, and no hook left behind."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brainrdl._core.errors import BrainrdlError
from brainrdl.models.layer_table import describe_layers
from brainrdl.models.layers import capture, check_layers, layer_names, read_layers
from brainrdl.stimuli.inputs import Inputs


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8, 3))


class Residual(nn.Module):
    """Edits a hooked output in place without an in-place module, as a ResNet's ``out += identity`` does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.skipped = nn.Linear(4, 4)
        self.relu = nn.ReLU()
        self.run_skipped = False

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        out += x
        out = self.relu(out)
        out = self.relu(-out - 1) if self.run_skipped else self.relu(out + 1)
        return self.skipped(out) if self.run_skipped else out  # type: ignore[no-any-return]


# Names


def test_layer_names_are_those_torch_looks_up() -> None:
    model = nn.Sequential(small(), nn.ReLU())
    assert layer_names(model) == ("0", "0.0", "0.1", "0.2", "0.3", "1")
    assert all(model.get_submodule(name) is not None for name in layer_names(model))


def test_a_module_with_two_names_has_both() -> None:
    shared = nn.ReLU()
    assert layer_names(nn.ModuleDict({"a": shared, "b": shared})) == ("a", "b")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["conv1", "conv22"], r"layers \['conv22'\] are not in the model \(2 modules\); nearest: 'conv2'"),
        (["conv1", "conv1"], r"\['conv1'\] occur more than once in the layers given"),
        ([], "no layers were given"),
        ("conv1", r"single string 'conv1'; write \['conv1'\]"),
        ([""], "are not in the model"),
        (
            ["zzz"],
            r"layers \['zzz'\] are not in the model \(2 modules\); it has \['conv1', 'conv2'\]: "
            r"brainrdl.models.layer_names\(model\) or `brainrdl layers NAME` lists all",
        ),
    ],
)
def test_layers_that_cannot_be_captured_are_refused(layers: Any, message: str) -> None:
    model = nn.ModuleDict({"conv1": nn.ReLU(), "conv2": nn.ReLU()})
    with pytest.raises(BrainrdlError, match=message):
        check_layers(model, layers)
    with pytest.raises(BrainrdlError, match=message), capture(model, layers):
        pass
    assert hooks(model) == 0


def test_data_parallel_is_refused() -> None:
    model = nn.DataParallel(small())
    with pytest.raises(BrainrdlError, match="use DistributedDataParallel"), capture(model, ["module"]):
        pass


# What is captured


def test_a_convolution_keeps_its_own_output_before_an_in_place_relu() -> None:
    model, x = small(), torch.randn(5, 1, 4, 4)
    with capture(model, ["0", "1"]) as outputs:
        model(x)
    assert (outputs["0"] < 0).any()
    torch.testing.assert_close(outputs["0"], model[0](x))
    torch.testing.assert_close(outputs["1"], model[0](x).relu())


def test_an_output_is_safe_from_in_place_arithmetic() -> None:
    model, x = Residual(), torch.randn(3, 4)
    with capture(model, ["inner"]) as outputs:
        model(x)
    torch.testing.assert_close(outputs["inner"], model.inner(x))


def test_the_networks_own_output_is_the_same_with_hooks() -> None:
    model, x = small(), torch.randn(5, 1, 4, 4)
    expected = model(x)
    with capture(model, ["0", "1"]):
        assert torch.equal(model(x), expected)


@pytest.mark.parametrize("layer", ["0", "1", "3"])
def test_gradients_through_a_captured_layer_are_those_without_hooks(layer: str) -> None:
    model, x = small(), torch.randn(5, 1, 4, 4)
    with capture(model, [layer]) as outputs:
        logits = model(x)
    (outputs[layer].pow(2).sum() + logits.sum()).backward()
    got = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    part = model[0](x) if layer == "0" else functional.relu(model[0](x))
    logits = model[3](functional.relu(model[0](x)).flatten(1))
    ((logits if layer == "3" else part).pow(2).sum() + logits.sum()).backward()
    torch.testing.assert_close(got, [parameter.grad for parameter in model.parameters()])


def test_the_gradient_passes_gradcheck_through_an_in_place_relu() -> None:
    model = small().double()

    def captured(x: Tensor) -> Tensor:
        with capture(model, ["0"]) as outputs:
            model(x)
        return outputs["0"] ** 2

    assert torch.autograd.gradcheck(captured, torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True))


def test_capture_works_in_inference_mode() -> None:
    with torch.inference_mode(), capture(small(), ["0"]) as outputs:
        small()(torch.randn(1, 1, 4, 4))
        assert not outputs
    model = small()
    with torch.inference_mode(), capture(model, ["0"]) as outputs:
        model(torch.randn(1, 1, 4, 4))
    assert outputs["0"].shape == (1, 2, 2, 2)


def test_the_first_tensor_of_a_tuple_is_captured() -> None:
    model = nn.Sequential(nn.LSTM(3, 4, batch_first=True))
    x = torch.randn(2, 5, 3)
    with capture(model, ["0"]) as outputs:
        model(x)
    torch.testing.assert_close(outputs["0"], model[0](x)[0])


class Gives(nn.Module):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Any:
        return self.value


def test_the_first_tensor_of_a_mapping_is_captured() -> None:
    model = nn.Sequential(Gives({"nothing": None, "nested": [torch.ones(2)], "last": torch.zeros(2)}))
    with capture(model, ["0"]) as outputs:
        model(torch.zeros(2))
    assert outputs["0"].tolist() == [1, 1]


def test_a_layer_without_a_tensor_is_refused_and_the_hooks_go() -> None:
    model = nn.Sequential(Gives("text"))
    with (
        pytest.raises(BrainrdlError, match=r"layer '0' must return a tensor of floats .*, got str"),
        capture(model, ["0"]),
    ):
        model(torch.zeros(1))
    assert hooks(model) == 0


def test_a_module_that_runs_twice_leaves_its_last_output() -> None:
    model, x = Residual(), torch.randn(3, 4)
    with capture(model, ["relu"]) as outputs:
        out = model(x)
    torch.testing.assert_close(outputs["relu"], out)


# Passes


def test_each_pass_replaces_the_one_before() -> None:
    model = small()
    with capture(model, ["3"]) as outputs:
        model(torch.zeros(2, 1, 4, 4))
        x = torch.randn(5, 1, 4, 4)
        expected = model(x)
    torch.testing.assert_close(outputs["3"], expected)


def test_a_layer_that_did_not_run_is_refused_by_name() -> None:
    model = Residual()
    with capture(model, ["skipped", "inner"]) as outputs:
        model(torch.randn(2, 4))
    with pytest.raises(BrainrdlError, match=r"layer 'skipped' has no output: .*last forward pass .*\['inner'\]"):
        outputs["skipped"]


def test_an_output_of_an_earlier_pass_is_not_passed_off_as_the_last() -> None:
    model = Residual()
    with capture(model, ["skipped"]) as outputs:
        model.run_skipped = True
        model(torch.randn(2, 4))
        assert "skipped" in outputs
        model.run_skipped = False
        model(torch.randn(2, 4))
    with pytest.raises(BrainrdlError, match="none did"):
        outputs["skipped"]


def test_captures_can_be_nested() -> None:
    model = small()
    with capture(model, ["0"]) as outer:
        with capture(model, ["3"]) as inner:
            model(torch.zeros(2, 1, 4, 4))
        model(torch.zeros(3, 1, 4, 4))
    assert (len(outer["0"]), len(inner["3"])) == (3, 2)


# Nothing is left


def test_hooks_are_removed_on_exit() -> None:
    model = small()
    with capture(model, ["0", "3"]) as outputs:
        assert hooks(model) == 4
    assert hooks(model) == 0
    model(torch.zeros(1, 1, 4, 4))
    assert not outputs


def test_hooks_are_removed_after_an_exception_in_the_block_or_in_the_pass() -> None:
    model = small()
    with pytest.raises(KeyError), capture(model, ["0"]):
        raise KeyError
    with pytest.raises(BrainrdlError), capture(model, ["0"]):
        model(torch.zeros(1, 7, 4, 4))
    assert hooks(model) == 0


def test_images_that_a_network_cannot_process_are_refused_with_their_shape() -> None:
    message = r"the network cannot process images of shape \(1, 7, 4, 4\), \(n, c, h, w\): .*to have 1 channels"
    model = small()
    with pytest.raises(BrainrdlError, match=message), capture(model, ["0"]):
        model(torch.zeros(1, 7, 4, 4))


def test_three_tensors_that_a_network_cannot_process_are_not_called_an_image() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.layer(tokens))

    three = {name: torch.ones(2, 7) for name in ("tokens", "mask", "kind")}
    with pytest.raises(BrainrdlError, match="cannot process images of shape") as refused:
        read_layers(Tokens(), ["layer"], Inputs(three))
    assert "(n, c, h, w)" not in str(refused.value)


def test_an_error_that_is_not_the_networks_stays_as_it_is() -> None:
    model = small()
    with pytest.raises(RuntimeError, match="of the block"), capture(model, ["0"]):  # noqa: PT012
        model(torch.zeros(1, 1, 4, 4))
        raise RuntimeError("of the block")
    memory = nn.Sequential(_OutOfMemory())
    with pytest.raises(torch.OutOfMemoryError), capture(memory, ["0"]):
        memory(torch.zeros(1, 1, 4, 4))


class _OutOfMemory(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError


def test_the_graph_dies_with_the_mapping() -> None:
    model = small()
    gc.disable()
    try:
        with capture(model, ["0"]) as outputs:
            model(torch.zeros(1, 1, 4, 4))
        tensor = weakref.ref(outputs["0"])
        assert tensor() is not None
        del outputs
        assert tensor() is None
    finally:
        gc.enable()


# Tables


def test_the_table_of_layers_gives_shapes_parameters_and_calls() -> None:
    table = describe_layers(small(), (1, 4, 4)).set_index("layer")
    assert table["type"].tolist() == ["Conv2d", "ReLU", "Flatten", "Linear"]
    assert table["output_shape"].tolist() == [(2, 2, 2), (2, 2, 2), (8,), (3,)]
    assert table["n_parameters"].tolist() == [20, 0, 0, 27]
    assert table["calls"].tolist() == [1, 1, 1, 1]


def test_the_table_counts_how_often_layers_run() -> None:
    table = describe_layers(Residual(), (4,)).set_index("layer")
    assert table.loc["relu", "calls"] == 2
    assert table.loc["skipped", "calls"] == 0
    assert table.loc["skipped", "output_shape"] is None


def test_the_table_leaves_modes_statistics_and_hooks_as_they_were() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(), nn.BatchNorm2d(1).eval())
    describe_layers(model, (1, 4, 4))
    assert [module.training for module in model] == [True, True, False]
    assert model[0].num_batches_tracked == 0
    assert hooks(model) == 0


def test_an_image_shape_that_does_not_fit_is_refused_and_modes_are_restored() -> None:
    model = small()
    with pytest.raises(BrainrdlError, match=r"cannot process an image of shape \(3, 4, 4\) \(c, h, w\): .*channels"):
        describe_layers(model, (3, 4, 4))
    assert model.training
    assert hooks(model) == 0


def test_a_float64_network_gets_a_float64_image() -> None:
    assert len(describe_layers(small().double(), (1, 4, 4))) == 4
