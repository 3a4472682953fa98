"""An exported model gives the student's patterns in a program that cannot import brainrdl."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
import yaml
from PIL import Image
from torch import Tensor, nn

from brainrdl import BrainrdlError, FitResult, Readout, Stimuli, Student
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.models import build
from brainrdl.sharing import export, load_run, plain_copy
from brainrdl.stimuli import default_transform

# Any import of brainrdl fails; the script is found beside the model; images are read with Pillow, as a user would.
_LOADER = """
import sys
sys.modules["brainrdl"] = sys.modules["data_adapters"] = None
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from pathlib import Path
from PIL import Image
from load import model, transform
images = [Image.open(path).convert("RGB") for path in sorted(Path(sys.argv[2]).glob("*.png"))]
with torch.no_grad():
    patterns = model(torch.stack([transform(image) for image in images]))
np.savez(sys.argv[3], **{layer: pattern.numpy() for layer, pattern in patterns.items()})
"""


def _loaded(model: Path, images: Path, tmp_path: Path) -> dict[str, np.ndarray]:
    """The patterns of images from the files of an export alone, in another process."""
    out = tmp_path / "patterns.npz"
    words = [sys.executable, "-c", _LOADER, str(model), str(images), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(out) as found:
        return dict(found)


def _assert_same(found: dict[str, np.ndarray], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for layer, pattern in expected.items():
        assert found[layer].shape == tuple(pattern.shape)
        assert float(pattern.std()) > 1e-3  # equal zeros would prove nothing
        np.testing.assert_allclose(found[layer], pattern.numpy(), rtol=0, atol=1e-6 * float(pattern.abs().max()))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "abcdef":
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def _fitted(student: Student, stimuli: Stimuli) -> FitResult:
    student.calibrate(stimuli.images())
    for head in student.readout_heads():
        if head.weight is not None:
            torch.nn.init.normal_(head.weight)
    history = pd.DataFrame({"step": [0, 5], "train_similarity": [0.1, 0.4]})
    return FitResult(student, history, best_step=5, settings={"train": list(stimuli.names), "teacher": "IT"})


@pytest.mark.slow
def test_resnet18_gives_the_same_patterns_by_its_constructor_and_as_a_program_for_any_number_of_images(
    images: Path, tmp_path: Path
) -> None:
    stimuli = Stimuli.from_folder(images, default_transform(32))
    layers = ["bn1", "layer1.0.conv1+layer2", "layer4", "fc"]
    readout = {
        "bn1": Readout("avgpool"),  # a ReLU changes its output in place
        "layer1.0.conv1+layer2": Readout("avgpool", standardise=True, projection=7),
        "layer4": Readout("flatten", projection="square"),
    }
    network = torchvision.models.resnet18()
    network(stimuli.images())  # statistics of batch normalisation that are not those of a new network
    student = Student(network, layers, readout=readout)
    done = export(_fitted(student, stimuli), tmp_path / "out", stimuli=stimuli, network="resnet18", licence="mit")
    assert (done.loads_by, done.without_program) == ("constructor", "")
    _assert_same(_loaded(tmp_path / "out", images, tmp_path), student.patterns(stimuli))
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    for n in (1, 3):
        found = {
            layer: pattern.detach().numpy() for layer, pattern in program(stimuli.images(list("abcdef"[:n]))).items()
        }
        _assert_same(found, student.patterns(stimuli, list("abcdef"[:n])))


@pytest.mark.slow
def test_a_network_without_a_known_constructor_loads_as_a_program(images: Path, tmp_path: Path) -> None:
    network = build("small_cnn")
    stimuli = Stimuli.from_folder(images, network.transform)
    student = Student(network.module, ["conv2", "pool"], readout={"conv2": Readout("avgpool", standardise=True)})
    done = export(_fitted(student, stimuli), tmp_path / "out", stimuli=stimuli, network="small_cnn")
    assert done.loads_by == "program"
    _assert_same(_loaded(tmp_path / "out", images, tmp_path), student.patterns(stimuli))


@pytest.mark.slow
def test_a_readout_that_weights_its_channels_is_exported(images: Path, tmp_path: Path) -> None:
    network = build("small_cnn")
    stimuli = Stimuli.from_folder(images, network.transform)
    student = Student(network.module, ["conv2"], readout=Readout("grid:2", standardise=True, projection="diagonal"))
    student.calibrate(stimuli.images())
    with torch.no_grad():
        student.readout_heads()[0].weight.uniform_(-2, 2)  # its absolute values count
    export(_fitted(student, stimuli), tmp_path / "out", stimuli=stimuli, network="small_cnn")
    _assert_same(_loaded(tmp_path / "out", images, tmp_path), student.patterns(stimuli))


@pytest.mark.slow
def test_timm_networks_load_by_their_constructor_with_class_tokens_and_patches(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    network = build("timm/test_vit")
    stimuli = Stimuli.from_folder(images, network.transform)
    readout = {"blocks.1": Readout("cls"), "blocks.0": Readout("patches", projection=3), "norm": Readout("mean")}
    student = Student(network.module, list(readout), readout=readout)
    done = export(_fitted(student, stimuli), tmp_path / "out", stimuli=stimuli, network="timm/test_vit")
    assert done.loads_by == "constructor"
    _assert_same(_loaded(tmp_path / "out", images, tmp_path), student.patterns(stimuli))


@pytest.mark.slow
def test_the_presets_of_torchvision_are_written_as_steps(images: Path, tmp_path: Path) -> None:
    network = build("squeezenet1_1")
    stimuli = Stimuli.from_folder(images, network.transform)
    student = Student(network.module, ["features.3"], readout=Readout("avgpool"))
    export(_fitted(student, stimuli), tmp_path / "out", stimuli=stimuli, network="squeezenet1_1")
    _assert_same(_loaded(tmp_path / "out", images, tmp_path), student.patterns(stimuli))


def test_a_changed_network_of_a_known_name_is_not_built_by_its_constructor(images: Path, tmp_path: Path) -> None:
    network = build("squeezenet1_1").module
    network.features[1] = nn.Tanh()  # no parameters: only the patterns show it
    stimuli = Stimuli.from_folder(images, default_transform(64))
    student = Student(network, ["features.3"], readout=Readout("avgpool"))
    done = export(_fitted(student, stimuli), tmp_path / "out", stimuli=stimuli, network="squeezenet1_1")
    assert done.loads_by == "program"


class _Twice(nn.Module):
    """A module that runs twice, whose output is a tuple, and a pattern of one number per image."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(12, 12, batch_first=True)
        self.last = nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)[:, :, :12]
        once, _ = self.cell(x)
        twice, _ = self.cell(once)
        return self.last(twice[:, -1])[:, 0]


def test_calls_tuples_and_single_numbers_are_read_as_the_student_reads_them(images: Path) -> None:
    stimuli = Stimuli.from_folder(images, default_transform(8))
    readout = {"cell": Readout("avgpool_last", step=0), "last": Readout()}
    student = Student(_Twice(), ["cell", "last"], readout=readout)
    model, layers = plain_copy(student, stimuli.images())
    assert layers["cell"]["parts"] == [{"module": "cell", "step": 0, "pool": "mean", "over": [1]}]
    for layer, pattern in student.patterns(stimuli).items():
        torch.testing.assert_close(model(stimuli.images())[layer], pattern, rtol=0, atol=0)


class _Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y if float(y.sum().detach()) > 0 else -y  # depends on values, which a program cannot


@pytest.mark.slow
def test_a_network_that_torch_cannot_convert_is_exported_without_a_program_or_refused(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stimuli = Stimuli.from_folder(images, default_transform(8))
    fitted = _fitted(Student(_Branching(), ["conv"]), stimuli)
    with pytest.raises(BrainrdlError, match=r"cannot be taken away: no package is known that builds it, and torch.exp"):
        export(fitted, tmp_path / "out", stimuli=stimuli)
    assert not (tmp_path / "out").exists()
    network = build("squeezenet1_1").module
    forward = type(network).forward
    monkeypatch.setattr(
        type(network), "forward", lambda self, x: forward(self, x) * (1 if float(x.sum().detach()) else 2)
    )
    student = Student(network, ["features.3"], readout=Readout("avgpool"))
    stimuli = stimuli.with_transform(default_transform(64))
    done = export(_fitted(student, stimuli), tmp_path / "out", stimuli=stimuli, network="squeezenet1_1")
    assert done.without_program
    assert "model.pt2" not in done.files
    assert not (tmp_path / "out" / "model.pt2").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "There is no program `model.pt2`, because `torch.export` cannot convert this network: " in card
    _assert_same(_loaded(tmp_path / "out", images, tmp_path), student.patterns(stimuli))


def test_nothing_in_an_export_is_a_pickle_but_the_zeros_that_torch_stores_in_the_program(
    images: Path, tmp_path: Path
) -> None:
    import zipfile

    network = build("small_cnn")
    stimuli = Stimuli.from_folder(images, network.transform)
    export(_fitted(Student(network.module, ["pool"]), stimuli), tmp_path / "out", stimuli=stimuli)
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".md", ".json", ".safetensors", ".pt2", ".py"}
    with zipfile.ZipFile(tmp_path / "out" / "model.pt2") as program:
        suspicious = [name for name in program.namelist() if name.endswith((".pkl", ".pt", ".pickle"))]
        assert [name.partition("/")[2] for name in suspicious] == ["data/sample_inputs/model.pt"]


def test_a_folder_in_use_is_refused_and_an_earlier_export_replaced_when_asked(images: Path, tmp_path: Path) -> None:
    network = build("small_cnn")
    stimuli = Stimuli.from_folder(images, network.transform)
    fitted = _fitted(Student(network.module, ["pool"]), stimuli)
    out = tmp_path / "out"
    export(fitted, out, stimuli=stimuli)
    with pytest.raises(BrainrdlError, match=r"out' is not empty; replace with overwrite=True"):
        export(fitted, out, stimuli=stimuli)
    export(fitted, out, stimuli=stimuli, licence="cc-by-4.0", overwrite=True)
    assert "license: cc-by-4.0" in (out / "README.md").read_text()
    with pytest.raises(BrainrdlError, match=r"holds no config\.json, so it is not an earlier export"):
        export(fitted, images, stimuli=stimuli, overwrite=True)
    with pytest.raises(BrainrdlError, match="is a file; choose another folder"):
        export(fitted, images / "a.png", stimuli=stimuli)
    assert len(list(images.iterdir())) == 6


def test_export_asks_for_what_a_fit_in_python_does_not_know(tmp_path: Path) -> None:
    student = Student(nn.Sequential(nn.Flatten()), ["0"])
    fitted = FitResult(student, pd.DataFrame({"step": [0]}), best_step=0)
    with pytest.raises(BrainrdlError, match="does not hold its images; give some with their transform, stimuli="):
        export(fitted, tmp_path / "out")
    with pytest.raises(BrainrdlError, match="needs a run folder or a FitResult, got Student"):
        export(student, tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(BrainrdlError, match="leave out stimuli= and network="):
        export(tmp_path, tmp_path / "out", network="resnet18")


def test_a_student_that_is_not_calibrated_is_not_exported(tmp_path: Path) -> None:
    student = Student(nn.Sequential(nn.Flatten()), ["0"], readout=Readout(projection=2))
    fitted = FitResult(student, pd.DataFrame({"step": [0]}), best_step=0)
    with pytest.raises(BrainrdlError, match="is not calibrated"):
        export(fitted, tmp_path / "out", stimuli=Stimuli.from_arrays(torch.rand(4, 1, 4, 4), list("abcd")))
    assert not (tmp_path / "out").exists()


def _header(card: Path) -> dict:
    return yaml.safe_load(card.read_text(encoding="utf-8").split("---\n")[1])


def test_a_recipe_that_ends_in_a_final_fit_is_exported_with_its_card(world: Path, tmp_path: Path) -> None:
    evaluation = Evaluation.load(world / "run")
    done = export(world / "run", tmp_path / "model", licence="mit")
    assert set(done.files) == {path.name for path in (tmp_path / "model").iterdir()}
    run = load_run(world / "run")
    stimuli = Stimuli.from_folder(world / "images", run.transform)
    _assert_same(_loaded(tmp_path / "model", world / "images", tmp_path), run.student.patterns(stimuli))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["targets"] == {"pool": "IT"}
    assert config["images"] == {"channels": 1, "height": 8, "width": 8}
    header = _header(tmp_path / "model" / "README.md")
    assert header["license"] == "mit"
    (result,) = header["model-index"][0]["results"]
    fitted = evaluation.summary[evaluation.summary["student"] == "fitted"]
    plain = fitted[~fitted["comparator"].str.startswith("partial")]
    assert [metric["value"] for metric in result["metrics"]] == [round(score, 4) for score in plain["score"]]
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "These are not scores of the model in this folder" in text
    assert "fitted to all 12 stimuli in 4 steps" in text
    for name in done.files:
        assert name == "README.md" or f"| `{name}` | `" in text


def test_the_card_is_one_that_the_hub_reads(images: Path, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    network = build("small_cnn")
    stimuli = Stimuli.from_folder(images, network.transform)
    export(_fitted(Student(network.module, ["pool"]), stimuli), tmp_path / "out", stimuli=stimuli, licence="mit")
    card = hub.ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.license, card.data.library_name) == ("mit", "pytorch")
    assert "Nothing on this page was measured on held-out stimuli" in card.text
