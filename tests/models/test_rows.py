"""One row per image: layers that break the rule are refused through every door, and no others."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from brainrdl import NetworkTeacher, RDMTeacher, Readout, Stimuli, Student, fit, rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.cli.app import app
from brainrdl.models.layer_table import describe_layers
from brainrdl.models.layers import capture, read_layers
from brainrdl.models.networks import Network
from brainrdl.stimuli.named_images import Batch
from brainrdl.stimuli.transforms import default_transform
from brainrdl.training.frozen_features import FrozenFeatures


class Tokens(nn.Module):
    """A transformer over the 9 tokens of a 12 x 12 image; `sequence_first` decides which dimension comes first."""

    def __init__(self, sequence_first: bool, batch_first: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sequence_first = sequence_first
        self.embed = nn.Conv2d(1, 8, 4, 4)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=batch_first)
        self.head = nn.Linear(8, 4)

    def tokens(self, x: Tensor) -> Tensor:
        return self.embed(x).flatten(2).permute((2, 0, 1) if self.sequence_first else (0, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.tokens(x)).mean(0 if self.sequence_first else 1))  # type: ignore[no-any-return]


def sequence_first() -> nn.Module:
    return Tokens(sequence_first=True, batch_first=False).eval()


def images(n: int, size: int = 12, channels: int = 1) -> Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(1))


def names(n: int) -> tuple[str, ...]:
    return tuple(f"i{k}" for k in range(n))


def stimuli(n: int) -> Stimuli:
    return Stimuli.from_arrays(images(n), names(n))


def brain(n: int) -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, n * (n - 1) // 2)), names(n)))


DOORS: dict[str, Callable[[nn.Module, str, int], Any]] = {
    "read_layers": lambda net, layer, n: read_layers(net, [layer], images(n)),
    "student": lambda net, layer, n: Student(net, [layer])(images(n)),
    "student's RDMs": lambda net, layer, n: Student(net, [layer]).rdms(stimuli(n)),
    "calibration": lambda net, layer, n: Student(net, [layer], readout=Readout(projection=2)).calibrate(images(n)),
    "teacher": lambda net, layer, n: NetworkTeacher(net, [layer]).rdms(Batch(names(n), images(n))),
    "teacher with cache": lambda net, layer, n: NetworkTeacher(net, [layer], cache=True).rdms(
        Batch(names(n), images(n))
    ),
    "frozen features": lambda net, layer, n: FrozenFeatures(stimuli(n)).of(
        Student(net, [layer], readout=Readout(projection=2), trainable="projection"), names(n)
    ),
    "fit": lambda net, layer, n: fit(
        Student(net, [layer]), brain(n), stimuli(n), steps=2, device="cpu", progress=False
    ),
}


@pytest.mark.parametrize("n", [1, 2, 3, 9, 12])
@pytest.mark.parametrize("door", ["read_layers", "student", "teacher", "teacher with cache"])
def test_a_layer_with_tokens_first_is_refused_for_any_number_of_images(door: str, n: int) -> None:
    with pytest.raises(BrainrdlError, match=r"layer 'encoder' gives 9 rows for \d+ images?, shape \(9, \d+, 8\), but "):
        DOORS[door](sequence_first(), "encoder", n)


@pytest.mark.parametrize("door", list(DOORS))
def test_every_door_refuses_as_many_tokens_as_images(door: str) -> None:
    with pytest.raises(
        BrainrdlError, match=r"layer 'encoder' gives 9 rows for [13] images?, shape.*choose a layer whose output"
    ):
        DOORS[door](sequence_first(), "encoder", 9)


def test_the_head_of_a_network_with_tokens_first_can_be_read() -> None:
    net = sequence_first()
    torch.testing.assert_close(Student(net, ["head"])(images(9)).patterns["head"], net(images(9)))


@pytest.mark.parametrize("door", list(DOORS))
def test_attention_over_the_images_of_a_batch_is_refused(door: str) -> None:
    with pytest.raises(
        BrainrdlError, match=r"layer 'encoder', shape .* another row when the other images in the batch"
    ):
        DOORS[door](Tokens(sequence_first=False, batch_first=False).eval(), "encoder", 8)


def test_attention_over_the_tokens_of_an_image_is_read() -> None:
    net = Tokens(sequence_first=False, batch_first=True).eval()
    expected = net.encoder(net.tokens(images(9))).flatten(1)
    torch.testing.assert_close(Student(net, ["encoder"])(images(9)).patterns["encoder"], expected)


class Recurrent(nn.Module):
    """An LSTM that reads the rows of an image, or (``over_images``) the images of a batch, one after the other."""

    def __init__(self, over_images: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.over_images, self.cell = over_images, nn.LSTM(144 if over_images else 12, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cell(x.flatten(1) if self.over_images else x[:, 0])[0]
        return out


def test_a_recurrent_layer_over_images_is_refused_and_over_pixels_is_read() -> None:
    with pytest.raises(BrainrdlError, match=r"layer 'cell', shape .* another row"):
        read_layers(Recurrent(over_images=True), ["cell"], images(6))
    outputs, _ = read_layers(Recurrent(over_images=False), ["cell"], images(6))
    assert outputs["cell"].shape == (6, 12, 5)


def test_statistics_of_the_batch_in_evaluation_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, track_running_stats=False))
    with pytest.raises(BrainrdlError, match=r"layer '1', shape .* another row"):
        read_layers(net, ["0", "1"], images(6))


def test_batch_norm_with_stored_statistics_is_read_in_training_mode_and_keeps_them() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    read_layers(net, ["1"], images(6))
    assert net.training
    assert net[1].num_batches_tracked == 1


@pytest.mark.parametrize("door", ["student", "teacher", "teacher with cache"])
def test_windows_as_batch_are_refused(door: str) -> None:
    options = {"num_classes": 10, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 2), "img_size": 56, "in_chans": 1}
    net = timm.create_model("swin_tiny_patch4_window7_224", **options).eval()
    ask = {
        "student": lambda: Student(net, ["layers.0.blocks.0.attn"])(images(8, 56)),
        "teacher": lambda: NetworkTeacher(net, ["layers.0.blocks.0.attn"]).rdms(Batch(names(8), images(8, 56))),
        "teacher with cache": lambda: NetworkTeacher(net, ["layers.0.blocks.0.attn"], cache=True).rdms(
            Batch(names(8), images(8, 56))
        ),
    }
    with pytest.raises(BrainrdlError, match=r"'layers.0.blocks.0.attn' gives 32 rows for 8 images, shape \(32, 49, 16"):
        ask[door]()


def test_a_network_that_draws_at_random_is_not_taken_for_one_that_mixes_images() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand_like(x)

    torch.manual_seed(0)
    expected = torch.rand(5)
    torch.manual_seed(0)
    outputs, _ = read_layers(nn.Sequential(Noisy()), ["0"], torch.zeros(1, 1, 1, 5))
    torch.testing.assert_close(outputs["0"].flatten(), expected)


def test_the_probe_leaves_the_random_state_and_runs_once_per_layer() -> None:
    seen: list[int] = []
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    net.register_forward_hook(lambda _module, args, _output: seen.append(len(args[0])))
    before = torch.get_rng_state()
    for layers in (["0"], ["0"], ["0", "1"]):
        read_layers(net, layers, images(5))
    assert torch.equal(torch.get_rng_state(), before)
    assert seen == [5, 3, 3, 3, 5, 5, 5, 5, 5, 3, 3, 3, 5, 5, 5]


def test_a_network_for_one_number_of_images_cannot_be_tested_and_is_refused() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(5, -1)

    with pytest.raises(BrainrdlError, match=r"each row of layers \['0'\] belongs to one image cannot be tested with 3"):
        read_layers(nn.Sequential(Fixed()), ["0"], images(5, 4))


def test_capture_compares_the_number_of_rows_with_images_given_by_name() -> None:
    net = sequence_first()
    with pytest.raises(BrainrdlError, match="9 rows for 4 images"), capture(net, ["encoder"]):
        net(x=images(4))


def test_the_command_line_refuses_a_layer_with_tokens_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for name in names(9):
        Image.fromarray(rng.integers(0, 255, (12, 12), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    network = Network(sequence_first(), default_transform(12, normalise="none", channels=1), 12, 1)
    monkeypatch.setattr("brainrdl.models.fitted.build", lambda *_: network)
    result = CliRunner().invoke(
        app, ["rdm", "--model", "x", "--layers", "encoder", "--stimuli", str(tmp_path), "--out", str(tmp_path / "x.h5")]
    )
    assert result.exit_code != 0
    assert "9 rows for 3 images" in " ".join(str(result.exception).split()) + result.output


def test_the_table_of_layers_says_which_cannot_be_read_and_why() -> None:
    problems = describe_layers(sequence_first(), (1, 12, 12)).set_index("layer").problem
    assert problems["encoder"] == "gives 9 rows for 3 images, shape (9, 3, 8)"
    assert (problems["embed"], problems["head"]) == ("", "")
    mixing = describe_layers(Tokens(sequence_first=False, batch_first=False), (1, 12, 12)).set_index("layer").problem
    assert mixing["encoder"] == "rows depend on several images"
    assert mixing["embed"] == ""


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Drifting(nn.Module):
    """Subtracts a running mean that each pass changes, also in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(144))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(x.flatten(1).mean(0) * 0.1)
        return x.flatten(1) - self.mean


@pytest.mark.parametrize("make", [Noise, Drifting])
@pytest.mark.parametrize("cache", [False, True])
def test_a_teacher_that_answers_differently_each_time_is_refused(make: type[nn.Module], cache: bool) -> None:
    teacher = NetworkTeacher(nn.Sequential(nn.Identity(), make()), ["1"], cache=cache)
    with pytest.raises(
        BrainrdlError, match=r"layers \['1'\] of teacher 'Sequential' give other patterns for the same im"
    ):
        teacher.rdms(Batch(names(6), images(6)))
    NetworkTeacher(nn.Sequential(nn.Identity(), make()), ["0"], cache=cache).rdms(Batch(names(6), images(6)))


@pytest.mark.parametrize("make", [Noise, Drifting])
def test_a_random_student_is_warned_about_and_its_features_are_not_stored(make: type[nn.Module]) -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), make())
    with pytest.warns(UserWarning, match="two evaluations of this student differ"):
        Student(net, ["1"], trainable="none").patterns(stimuli(6))
    student = Student(net, ["1"], readout=Readout(projection=2), trainable="projection")
    with pytest.raises(BrainrdlError, match="cannot be fitted to one pass"):
        FrozenFeatures(stimuli(6)).of(student, names(6))


def test_dropout_is_not_random_in_evaluation() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout(0.5), nn.Flatten())
    NetworkTeacher(net, ["2"]).rdms(Batch(names(6), images(6)))
    Student(net, ["2"], trainable="none").patterns(stimuli(6))


class _Positions(nn.Module):
    """Adds a row of its own to each place of the batch, as positions of a sequence-first network do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.linspace(0, 1, len(x)).reshape(-1, *[1] * (x.ndim - 1))


class _Flipped(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(0)


@pytest.mark.parametrize("layer", [_Positions(), _Flipped()])
def test_a_row_that_depends_on_its_place_in_the_batch_is_refused(layer: nn.Module) -> None:
    network = nn.Sequential(layer, nn.Flatten())
    with pytest.raises(BrainrdlError, match=r"layer '1', .* its place change"):
        Student(network, ["1"])(torch.rand(6, 1, 4, 4))


class Gated(nn.Module):
    """Adds the mean over the images of a batch through a gate that starts at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.gate = nn.Flatten(), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.flat(x)
        return x * (1 + self.gate * x.mean(0).roll(1))


def gated() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 8), Gated())


def test_a_layer_that_training_makes_mix_images_is_refused_by_the_fit_and_the_evaluation() -> None:
    brain = RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 28)), names(8)))
    student = Student(gated(), ["2"])
    student.patterns(stimuli(8))
    with pytest.raises(BrainrdlError, match=r"layer '2', .* gives an image another row when the other images"):
        fit(student, brain, stimuli(8), steps=5, lr=0.1, evaluate_every=5, device="cpu", progress=False)
    with pytest.raises(BrainrdlError, match=r"layer '2', .* gives an image another row"):
        student.patterns(stimuli(8))


def test_weights_that_are_loaded_are_tested_again() -> None:
    student = Student(gated(), ["2"])
    student.patterns(stimuli(8))
    student.model.load_state_dict(student.model.state_dict() | {"2.gate": torch.ones(1)})
    with pytest.raises(BrainrdlError, match="gives an image another row"):
        student.patterns(stimuli(8))


def test_steps_of_training_are_not_tested_again() -> None:
    network, passes = gated(), []
    network.register_forward_hook(lambda *_: passes.append(1))
    student = Student(network, ["2"])
    for _ in range(3):
        student(images(8)).patterns["2"].sum().backward()
        with torch.no_grad():
            network[1].weight += 0.1
    assert len(passes) == 2 * 3 + 3  # two probes, three steps


@pytest.mark.parametrize("n", [4, 16, 20])
def test_a_layer_that_mixes_batches_of_some_sizes_is_refused(n: int) -> None:
    class Groups(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0) if len(x) % 4 == 0 else x

    with pytest.raises(BrainrdlError, match="gives an image another row"):
        Student(nn.Sequential(nn.Flatten(), Groups()), ["1"]).patterns(stimuli(n))


class BesideLargeUnits(nn.Module):
    """Large sound units, and small ones that `change` computes."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([1e8 * x, self.change(x)], 1)


@pytest.mark.parametrize("door", ["student", "teacher", "teacher with cache"])
def test_small_units_that_mix_images_beside_large_units_are_refused(door: str) -> None:
    network = nn.Sequential(nn.Flatten(), BesideLargeUnits(lambda x: x - x.mean(0)))
    with pytest.raises(BrainrdlError, match="gives an image another row"):
        DOORS[door](network, "1", 8)


def test_small_units_that_belong_to_one_image_are_kept_beside_large_units() -> None:
    torch.manual_seed(0)
    small = nn.Sequential(nn.Linear(144, 5), nn.Softmax(1), nn.Linear(5, 2))
    network = nn.Sequential(nn.Flatten(), BesideLargeUnits(lambda x: 1e-6 * small(x).relu()))
    assert read_layers(network, ["1"], images(8))[0]["1"].shape == (8, 146)


class Cancelling(nn.Module):
    """Units of 0.5, and the small rest of a sum; like rounding, the rest depends on the place of an image."""

    def __init__(self, size: float, share: float, mask: float = 0.5) -> None:
        super().__init__()
        self.size, self.share, self.mask = size, share, mask

    def forward(self, x: Tensor) -> Tensor:
        units, places = x.flatten(1)[:, :5], torch.arange(len(x)).remainder(2)[:, None]
        rest = self.size * units[:, :1] * (1 + self.share * places)
        return torch.cat([units, rest, torch.full_like(rest, self.mask)], 1)


def test_rounding_of_units_that_nearly_cancel_is_not_taken_for_mixing() -> None:
    # EfficientNet-Lite0 has units of 8e-4 beside a median of 0.5, which change by 0.1 % (sums over many channels).
    assert read_layers(nn.Sequential(Cancelling(1e-3, 2e-3)), ("0",), images(6))[0]["0"].shape == (6, 7)


@pytest.mark.parametrize(("size", "share"), [(1e-3, 0.1), (1e-1, 2e-3)])
@pytest.mark.parametrize("mask", [0.5, -1e9, -math.inf])
def test_mixing_in_units_of_any_size_is_refused_beside_a_mask(size: float, share: float, mask: float) -> None:
    with pytest.raises(BrainrdlError, match="gives an image another row when"):
        read_layers(nn.Sequential(Cancelling(size, share, mask)), ("0",), images(6))


def test_small_units_that_are_drawn_at_random_are_found_beside_large_units() -> None:
    network = nn.Sequential(nn.Flatten(), BesideLargeUnits(torch.rand_like))
    with pytest.raises(BrainrdlError, match="other patterns"):
        NetworkTeacher(network, ["1"]).rdms(Batch(names(4), images(4)))
