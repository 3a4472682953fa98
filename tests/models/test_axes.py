"""Which dimension of an output holds the channels, by the types of modules; tokens; calls of a module."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from brainrdl import NetworkTeacher, Readout, Stimuli, Student
from brainrdl._core.errors import BrainrdlError
from brainrdl.cli.app import app
from brainrdl.models.axes import Axes, trace_axes
from brainrdl.models.layer_table import describe_layers
from brainrdl.models.networks import build
from brainrdl.models.pooling import pool_patterns, possible_pools
from brainrdl.stimuli.named_images import Batch
from brainrdl.training.frozen_features import FrozenFeatures


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def captured(net: nn.Module, layer: str, x: Tensor) -> list[Tensor]:
    seen: list[Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda _m, _i, output: seen.append(output.detach().clone()))
    with torch.no_grad():
        net.eval()(x)
    handle.remove()
    return seen


def swin() -> nn.Module:
    torch.manual_seed(0)
    return build("swin_t").module.eval()


class Spectrum(nn.Module):
    """Audio, (n, 1, time): convolutions and activations keep (n, channels, time)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.act = nn.Conv1d(1, 6, 5, stride=2), nn.GELU()
        self.tokens = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(self.act(self.conv(x)).transpose(1, 2))  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "layer", "shape", "dims"),
    [
        (swin, "features.1", (3, 64, 64), (1, 2)),
        (swin, "features.1.0.attn", (3, 64, 64), (1, 2)),
        (swin, "permute", (3, 64, 64), (2, 3)),
        (lambda: build("convnext_tiny").module, "features.1.0.block.3", (3, 64, 64), (1, 2)),
        (lambda: build("convnext_tiny").module, "features.1.0", (3, 64, 64), (2, 3)),
        (lambda: build("densenet121").module, "features.denseblock1", (3, 64, 64), (2, 3)),
        (Spectrum, "conv", (1, 40), (2,)),
        (Spectrum, "act", (1, 40), (2,)),
        (Spectrum, "tokens", (1, 40), (1,)),
    ],
)
def test_avgpool_averages_over_positions_wherever_the_channels_are(
    make: Any, layer: str, shape: tuple[int, ...], dims: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    net, x = make().eval(), images(4, *shape)
    expected = captured(net, layer, x)[-1].mean(dim=dims)
    torch.testing.assert_close(Student(net, [layer], readout=Readout("avgpool")).eval()(x).patterns[layer], expected)
    names = tuple("abcd")
    patterns = NetworkTeacher(net, [layer], pool="avgpool", cache=True).patterns(Batch(names, x, None))
    torch.testing.assert_close(patterns[layer], expected, atol=1e-5, rtol=1e-4)


class Stacked(nn.Module):
    """A block whose own operations decide the order of dimensions; no module's type shows it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.mean(dim=1), x.amax(dim=1)], dim=-1)


def test_unknown_dimensions_are_refused_with_the_choices_through_every_door() -> None:
    net, x = nn.Sequential(nn.Conv2d(1, 5, 3), Stacked()), images(4, 1, 8, 8)
    message = (
        r"layer '1', of shape \(6, 6, 2\) for each image, cannot be pooled by 'avgpool': which dimension holds the "
        r"channels is not known .*'flatten' \(72 units\), pool='avgpool_first' \(mean over 6 x 2 positions of 6 "
        r"channels\) or pool='avgpool_last' \(mean over 6 x 6 positions of 2 channels\)"
    )
    stimuli = Stimuli.from_arrays(x, list("abcd"))
    student = Student(
        nn.Sequential(nn.Conv2d(1, 5, 3), Stacked()), ["1"], readout=Readout("avgpool", projection=2),
        trainable="projection",
    )  # fmt: skip
    for ask in (
        lambda: Student(net, ["1"], readout=Readout("avgpool"))(x),
        lambda: student.calibrate(x),
        lambda: FrozenFeatures(stimuli).of(student, list("abcd")),
        lambda: NetworkTeacher(net, ["1"], pool="avgpool").rdms(Batch(tuple("abcd"), x, None)),
    ):
        with pytest.raises(BrainrdlError, match=message):
            ask()
    last = Student(net, ["1"], readout=Readout("avgpool_last"))(x).patterns["1"]
    torch.testing.assert_close(last, captured(net, "1", x)[0].mean(dim=(1, 2)))


def test_a_block_that_swaps_equal_sizes_is_not_guessed() -> None:
    class Swaps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x[:, 0]).transpose(1, 2) + 1

    found = trace_axes(nn.Sequential(Swaps()), images(3, 1, 6, 6))
    assert found["0"] == [Axes()]
    assert found["0.inner"] == [Axes(2, 0)]


def test_linear_layers_over_positions_keep_the_channels() -> None:
    torch.manual_seed(0)
    net = timm.models.mlp_mixer.MlpMixer(img_size=64, patch_size=32, embed_dim=12, num_blocks=1, num_classes=2).eval()
    found = trace_axes(net, images(3, 3, 64, 64))
    assert found["blocks.0.mlp_channels.fc1"][0].channels == 2
    assert found["blocks.0.mlp_tokens.fc1"][0].channels == 1  # (n, channels, hidden tokens)
    assert found["blocks.0"][0].channels == 2


# Tokens


def vit(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 2, "num_classes": 3}
    return timm.models.vision_transformer.VisionTransformer(**sizes | options).eval()


@pytest.mark.parametrize(("options", "n_prefix"), [({}, 1), ({"reg_tokens": 4}, 5)])
def test_class_token_patches_and_mean_of_a_vision_transformer(options: dict[str, Any], n_prefix: int) -> None:
    net, x = vit(**options), images(4, 3, 32, 32)
    tokens = captured(net, "blocks.0", x)[0]
    assert tokens.shape == (4, 16 + n_prefix, 12)
    expected = {
        "cls": tokens[:, 0],
        "patches": tokens[:, n_prefix:].mean(dim=1),
        "mean": tokens.mean(dim=1),
        "avgpool": tokens.mean(dim=1),
    }
    for pool, wanted in expected.items():
        got = Student(net, ["blocks.0"], readout=Readout(pool))(x).patterns["blocks.0"]
        torch.testing.assert_close(got, wanted)


def test_tokens_of_torchvisions_vision_transformer() -> None:
    torch.manual_seed(0)
    from torchvision.models import VisionTransformer

    net, x = VisionTransformer(32, 8, 2, 2, 12, 24, num_classes=3).eval(), images(4, 3, 32, 32)
    layer = "encoder.layers.encoder_layer_1"
    tokens = captured(net, layer, x)[0]
    got = {pool: Student(net, [layer], readout=Readout(pool))(x).patterns[layer] for pool in ("cls", "patches")}
    torch.testing.assert_close(got, {"cls": tokens[:, 0], "patches": tokens[:, 1:].mean(dim=1)})


def test_layers_before_the_class_token_have_none() -> None:
    torch.manual_seed(0)
    net = timm.models.cait.Cait(
        img_size=32, patch_size=8, embed_dim=12, depth=1, num_heads=2, num_classes=3, depth_token_only=1
    ).eval()
    with pytest.raises(BrainrdlError, match="cannot be pooled by 'cls': it has no class token"):
        Student(net, ["blocks.0"], readout=Readout("cls"))(images(4, 3, 32, 32))
    Student(net, ["blocks.0"], readout=Readout("patches"))(images(4, 3, 32, 32))


def test_registers_are_no_class_tokens_and_maps_have_no_tokens() -> None:
    net, x = vit(class_token=False, global_pool="avg", reg_tokens=4), images(4, 3, 32, 32)
    with pytest.raises(BrainrdlError, match="no class token"):
        Student(net, ["blocks.0"], readout=Readout("cls"))(x)
    tokens = captured(net, "blocks.0", x)[0]
    patches = Student(net, ["blocks.0"], readout=Readout("patches"))(x).patterns["blocks.0"]
    torch.testing.assert_close(patches, tokens[:, 4:].mean(dim=1))
    for pool in ("cls", "patches", "mean"):
        with pytest.raises(BrainrdlError, match=f"cannot be pooled by '{pool}': it has no tokens"):
            Student(nn.Sequential(nn.Conv2d(3, 2, 3)), ["0"], readout=Readout(pool))(x)


def test_a_class_token_of_another_name_is_not_averaged_with_the_patches() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.embed, self.mix = nn.Parameter(torch.rand(1, 1, 6)), nn.Conv2d(1, 6, 4, 4), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.embed(x).flatten(2).transpose(1, 2)
            return self.mix(torch.cat([self.first.expand(len(x), -1, -1), tokens], dim=1))  # type: ignore[no-any-return]

    with pytest.raises(BrainrdlError, match="which of its 5 tokens are class tokens is not known"):
        Student(Own(), ["mix"], readout=Readout("patches"))(images(3, 1, 8, 8))


class Placed(nn.Module):
    """A transformer with its class token at a place among 4 patches."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.cls_token, self.place = nn.Parameter(torch.rand(1, 1, 6)), place
        self.embed, self.mix = nn.Conv2d(1, 6, 4, 4), nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.embed(x).flatten(2).transpose(1, 2)
        token = self.cls_token.expand(len(x), -1, -1)
        tokens = [patches[:, : self.place], token, patches[:, self.place :]]
        return self.mix(torch.cat(tokens, dim=1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("place", [2, 4])
def test_a_class_token_that_is_not_the_first_is_not_guessed(place: int) -> None:
    x = images(3, 1, 8, 8)
    first = Student(Placed(0).eval(), ["mix"], readout=Readout("cls"))
    torch.testing.assert_close(first(x).patterns["mix"], captured(first.model, "mix", x)[0][:, 0])
    for pool in ("cls", "patches"):
        with pytest.raises(BrainrdlError, match="which of its 5 tokens are class tokens is not known"):
            Student(Placed(place).eval(), ["mix"], readout=Readout(pool))(x)
    listed = describe_layers(Placed(place).eval(), (1, 8, 8)).set_index("layer").loc["mix"]
    assert "cls" not in listed["readouts"]
    with pytest.raises(BrainrdlError, match="class tokens is not known"):
        Student(Placed(place).eval(), ["mix"], readout=Readout("cls"))(x[:1])


def test_a_mean_that_is_zero_but_for_rounding_is_zero() -> None:
    net, x = nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4)), images(6, 1, 12, 12)
    assert not Student(net, ["1"], readout=Readout("avgpool"))(x).patterns["1"].any()
    with pytest.raises(BrainrdlError, match="condition 'a' has a constant pattern at layer '1'"):
        NetworkTeacher(net, ["1"], pool="avgpool").rdms(Batch(tuple("abcdef"), x, None))


def test_ways_to_pool_are_listed_only_if_they_are_possible() -> None:
    assert list(possible_pools((5,), Axes())) == ["flatten"]
    assert list(possible_pools((4, 6, 6), Axes(1))) == ["flatten", "avgpool", "grid:4"]
    assert list(possible_pools((8, 4, 4), Axes(1))) == ["flatten", "avgpool"]
    assert list(possible_pools((4, 6, 6), Axes())) == ["flatten", "avgpool_first", "avgpool_last"]
    assert list(possible_pools((9, 6), Axes(2))) == ["flatten", "avgpool", "mean"]
    assert list(possible_pools((9, 6), Axes(2, 0))) == ["flatten", "avgpool", "mean", "patches"]


def test_vectors_are_not_changed_by_any_pool() -> None:
    x = images(4, 7)
    for pool in ("flatten", "avgpool", "mean", "cls", "patches", "avgpool_last"):
        assert torch.equal(pool_patterns(x, pool), x)


# Calls


class Recurrent(nn.Module):
    """A block that runs four times in one pass, as in CORnet-S."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.area = nn.Conv2d(1, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for _ in range(4):
            x = x + self.area(x)
        return x.flatten(1)


@pytest.mark.parametrize("step", [0, 1, 3, -1, -4])
@pytest.mark.parametrize("pool", ["flatten", "avgpool"])
def test_a_step_chooses_the_call(step: int, pool: str) -> None:
    net, x = Recurrent(), images(5, 1, 8, 8)
    calls = captured(net, "area", x)
    wanted = calls[step].mean(dim=(2, 3)) if pool == "avgpool" else calls[step].flatten(1)
    student = Student(net, ["area", "embed"], readout={"area": Readout(pool, step=step)})
    torch.testing.assert_close(student(x).patterns["area"], wanted)
    for cache in (False, True):
        teacher = NetworkTeacher(net, ["area"], pool=pool, step=step, cache=cache)
        torch.testing.assert_close(teacher.patterns(Batch(tuple("abcde"), x, None))["area"], wanted)


def test_an_activation_that_is_shared_has_the_dimensions_of_each_call() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.head = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.head(self.act(self.conv(x)).mean(dim=(2, 3))))  # type: ignore[no-any-return]

    net, x = Shared(), images(5, 1, 8, 8)
    maps, vectors = captured(net, "act", x)
    for step, wanted in ((0, maps.mean(dim=(2, 3))), (-1, vectors)):
        got = Student(net, ["act"], readout=Readout("avgpool", step=step))(x).patterns["act"]
        torch.testing.assert_close(got, wanted)


def test_gates_over_channels_keep_the_dimensions() -> None:
    found = trace_axes(nn.Sequential(nn.Conv2d(1, 4, 3), nn.GLU(1), nn.PReLU(2)), images(3, 1, 8, 8))
    assert [axes[0].channels for axes in found.values()] == [1, 1, 1]


def test_a_call_that_does_not_exist_is_refused() -> None:
    for layer, times in (("area", "4 times"), ("embed", "once")):
        with pytest.raises(BrainrdlError, match=rf"layer '{layer}' runs {times} in one pass, so it has no call step=7"):
            Student(Recurrent(), [layer], readout=Readout(step=7))(images(5, 1, 8, 8))
    with pytest.raises(BrainrdlError, match=r"step must be an int, 0 for the first call and -1 for the last, got 1\.0"):
        Readout(step=1.0)  # type: ignore[arg-type]


def test_features_of_a_step_other_than_the_last_are_not_taken_for_those_of_the_last() -> None:
    stimuli = Stimuli.from_arrays(images(5, 1, 8, 8), list("abcde"))
    students = [
        Student(Recurrent(), ["area"], readout=Readout(projection=2, step=step), trainable="projection")
        for step in (-1, 0)
    ]
    assert [FrozenFeatures(stimuli).serves(student, None) for student in students] == [True, False]


def test_the_table_says_in_words_what_each_readout_gives() -> None:
    words = describe_layers(swin(), (3, 64, 64)).set_index("layer").readouts
    assert words["features.7"] == "flatten: 3072 units; avgpool: mean over 2 x 2 positions of 768 channels"
    words = describe_layers(vit(), (3, 32, 32)).set_index("layer").readouts
    assert words["blocks.1"] == (
        "flatten: 204 units; avgpool or mean: mean over 17 tokens of 12 channels; patches: mean over 16 patches of 12 "
        "channels; cls: class token, 12 channels"
    )
    words = describe_layers(nn.Sequential(nn.Conv2d(1, 5, 3), Stacked()), (1, 8, 8)).set_index("layer").readouts
    assert words["1"].startswith("flatten: 72 units; avgpool_first: mean over 6 x 2 positions of 6 channels; avgpool_l")


def test_the_command_line_shows_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(app, ["layers", "small_cnn", "--json"])
    assert done.exit_code == 0
    assert "avgpool: mean over 8 x 8 positions of 16 channels" in done.output


def test_complex_outputs_are_pooled_over_positions() -> None:
    class Fourier(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.rfft2(x)

    net, x = nn.Sequential(nn.Conv2d(1, 3, 3), Fourier()), images(4, 1, 10, 10)
    output = captured(net, "1", x)[0].mean(dim=(2, 3))
    got = Student(net, ["1"], readout=Readout("avgpool_first"))(x).patterns["1"]
    torch.testing.assert_close(got, torch.cat([output.real, output.imag], dim=1))
    assert np.isfinite(got.detach().numpy()).all()
