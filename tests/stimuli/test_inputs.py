"""Items that are not images reach the network as they were given, by name and in the order asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainrdl import RDMTeacher, Student, Task, fit, rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.stimuli.inputs import Inputs, joined, run_network
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.near_duplicates import similar_images
from brainrdl.training.loading import Loader
from brainrdl.training.looks import to_device

NAMES = tuple("abcdefgh")


class Words(nn.Module):
    """The mean embedding of the tokens that are not masked."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(20, 6), nn.Linear(6, 4)

    def forward(self, mask: Tensor, tokens: Tensor) -> Tensor:
        weights = mask[..., None].float()
        return self.out((self.table(tokens) * weights).sum(1) / weights.sum(1))


def sentences() -> Stimuli:
    tokens = torch.randint(1, 20, (8, 5), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(5) < torch.tensor([2, 3, 4, 5, 5, 4, 3, 2])[:, None]
    return Stimuli.from_inputs({"tokens": tokens, "mask": mask}, NAMES, labels=["x", "y"] * 4)


def brain() -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 28)), NAMES))


def test_several_inputs_are_given_to_the_network_by_name() -> None:
    torch.manual_seed(0)
    network, shown = Words(), sentences()
    batch = shown.batch(["h", "a"])
    assert batch.images.tensors["tokens"].dtype == torch.int64
    assert len(batch.images) == 2
    patterns, logits = Student(network, ["out"])(batch.images)
    given = shown.batch(NAMES).images.tensors
    expected = network(given["mask"], given["tokens"])[[7, 0]]
    torch.testing.assert_close(patterns["out"], expected)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(run_network(network, batch.images), expected)


def test_patterns_and_a_fit_of_several_inputs_work_as_for_images() -> None:
    torch.manual_seed(0)
    student = Student(Words(), ["out"])
    fitted = fit(
        student, brain(), sentences(), steps=30, lr=1e-2, validation=0.5, batch_size=4, device="cpu", progress=False
    )
    assert fitted.history.rdm_loss.iloc[-1] < fitted.history.rdm_loss.iloc[1]
    found = student.patterns(sentences(), ["c", "b"], batch_size=1)["out"]
    torch.testing.assert_close(found, student(sentences().images(["c", "b"])).patterns["out"])


@pytest.mark.parametrize(
    ("network", "layer", "shape"),
    [
        (nn.Sequential(nn.Conv1d(2, 3, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(2), nn.Flatten()), "2", (2, 40)),
        (nn.Sequential(nn.Conv3d(3, 2, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten()), "0", (3, 4, 8, 8)),
    ],
)
def test_sounds_and_video_clips_are_one_tensor(network: nn.Module, layer: str, shape: tuple[int, ...]) -> None:
    shown = Stimuli.from_inputs(np.random.default_rng(0).random((8, *shape), dtype=np.float32), NAMES)
    student = Student(network, [layer])
    before = student.patterns(shown)[layer].clone()
    fit(student, brain(), shown, steps=3, lr=1e-2, device="cpu", progress=False)
    assert not torch.equal(student.patterns(shown)[layer], before)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_what_the_network_takes(workers: int) -> None:
    shown = sentences()
    with Loader(shown, lambda step: NAMES[step:], seed=0, augmented=True, workers=workers, device="cpu") as loader:
        batch = loader.at(3)
    assert batch.names == NAMES[3:]
    assert torch.equal(batch.images.tensors["tokens"], shown.images(NAMES[3:]).tensors["tokens"])
    assert batch.labels is not None
    assert len(to_device(batch, torch.device("cpu")).images) == 5


def test_several_inputs_are_cut_copied_and_split_together() -> None:
    inputs = sentences().images()
    parts = list(inputs.split(3))
    assert [len(part) for part in parts] == [3, 3, 2]
    assert torch.equal(parts[2].tensors["mask"], inputs.tensors["mask"][6:])
    assert inputs.to("cpu").device == torch.device("cpu")
    assert not inputs.is_cuda
    assert inputs.shape == (8, ("tokens", (5,)), ("mask", (5,)))


def test_batches_of_one_kind_are_joined_and_others_are_not() -> None:
    one, other = sentences().images(["a", "b"]), sentences().images(["c"])
    whole = joined([one, other])
    assert whole is not None
    assert torch.equal(whole.tensors["mask"], sentences().images(["a", "b", "c"]).tensors["mask"])
    assert joined([one, Inputs({"tokens": other.tensors["tokens"]})]) is None
    assert joined([one, other.tensors["tokens"]]) is None
    assert joined([torch.ones(1, 2), torch.ones(1, 2, dtype=torch.int64)]) is None


def test_a_task_may_be_on_other_sentences() -> None:
    torch.manual_seed(0)
    few = sentences().select(NAMES[:4])
    student = Student(Words(), ["out"])
    options = {"steps": 3, "device": "cpu", "progress": False}
    fitted = fit(student, brain(), few, task=Task(sentences().select(NAMES[4:])), **options)
    assert fitted.history.task_loss.iloc[-1] > 0


def test_a_layer_that_mixes_sentences_is_refused() -> None:
    class Mixes(Words):
        def forward(self, mask: Tensor, tokens: Tensor) -> Tensor:
            found = self.table(tokens) - self.table(tokens).mean(0)
            return self.out(found.mean(1))

    with pytest.raises(BrainrdlError, match="layer 'out'"):
        Student(Mixes(), ["out"])(sentences().images())


def test_inputs_have_no_transform_and_no_near_duplicates_but_digests() -> None:
    shown = sentences()
    assert repr(shown).startswith("Stimuli(8 inputs of 8 items, 2 categories")
    assert similar_images(shown).empty
    digests = shown.digests()
    assert len(set(digests.values())) == 8
    given = shown.images().tensors
    same = Stimuli.from_inputs({"tokens": given["tokens"], "mask": given["mask"]}, NAMES)
    assert same.digests() == digests
    other = Stimuli.from_inputs({"tokens": given["tokens"], "mask": ~given["mask"]}, NAMES)
    assert not set(other.digests().values()) & set(digests.values())
    for method in (shown.with_transform, shown.with_augmentation):
        with pytest.raises(BrainrdlError, match="8 items are not images"):
            method(lambda item: item)
    assert shown.cached().images().tensors["tokens"].equal(given["tokens"])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "several inputs need the names of the network's arguments"),
        ({"my tokens": torch.ones(8, 2)}, r"names of the network's arguments, got \['my tokens'\]"),
        ({"tokens": torch.ones(8, 2), "mask": torch.ones(7, 2)}, r"8 names for input 'mask' of shape \(7, 2\)"),
        (torch.tensor(1.0), r"8 names for the inputs of shape \(\)"),
        (["hello"] * 8, "the inputs must hold real numbers, got dtype <U5"),
        (np.array(["hello"] * 8), "the inputs must hold real numbers, got dtype <U5"),
        (torch.ones(8, 0), r"the inputs is empty: shape \(8, 0\)"),
        (torch.tensor([torch.nan] * 8), "NaN"),
    ],
)
def test_wrong_inputs_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        Stimuli.from_inputs(inputs, NAMES)


def test_inputs_keep_their_numbers_if_the_array_changes() -> None:
    given = np.ones((8, 2), dtype=np.float32)
    shown = Stimuli.from_inputs(given, NAMES)
    given[:] = 0
    assert shown.images().min() == 1
    assert isinstance(shown.images(), Tensor)
    assert not isinstance(shown.images(), Inputs)
