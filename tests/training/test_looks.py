"""What a run shows: evaluations, the check of the loss, the progress bar, TensorBoard events."""

from __future__ import annotations

import io
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr
from torch import Tensor, nn

from brainrdl import rdms
from brainrdl._core import progress
from brainrdl._core.errors import BrainrdlError, DivergedError
from brainrdl.loss.rdm_loss import RDMLoss
from brainrdl.models.student import Student
from brainrdl.stimuli.named_images import Batch
from brainrdl.teachers.rdm_teacher import RDMTeacher
from brainrdl.training import display, looks
from brainrdl.training.display import event_writer, progress_bar, track
from brainrdl.training.looks import check_loss, look, to_device

NAMES = tuple("abcdef")
ROW = {"step": 5, "loss": 0.5, "train_similarity": 0.25, "validation_similarity": math.nan}


def batch(labels: bool = True, step: int = 7) -> Batch:
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    return Batch(NAMES, images, torch.tensor([0, 1, 2, 0, 1, 2]) if labels else None, step)


def student(layers: tuple[str, ...] = ("1",)) -> Student:
    torch.manual_seed(0)
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.5), nn.Linear(8, 3)), list(layers))


def teacher(n_subjects: int = 2) -> RDMTeacher:
    pairs = np.random.default_rng(0).random((n_subjects, 15))
    return RDMTeacher(rdms.from_array(pairs, NAMES), subject_by="index", combine="all")


# Looks


def test_a_look_refuses_patterns_that_are_not_finite() -> None:
    images = torch.rand(6, 1, 4, 4)
    images[2] = torch.nan
    message = r"^at step 7 patterns of layer '1' are NaN or Inf for conditions \['c'\]; lower lr, or set clip"
    with pytest.raises(DivergedError, match=message):
        look(student(), None, Batch(NAMES, images, None, 7), RDMLoss())
    with pytest.raises(BrainrdlError, match=r"\['c'\], before any training; check the weights") as refused:
        look(student(), None, Batch(NAMES, images, None, 0), RDMLoss())
    assert type(refused.value) is BrainrdlError


@pytest.mark.parametrize("dissimilarity", ["correlation", "euclidean"])
def test_a_looks_similarity_is_scipys_correlation_averaged_over_layers_and_subjects(dissimilarity: str) -> None:
    seen, layers = student(("1", "3")), ("1", "3")
    output = seen.eval()(batch().images)
    metric = {"correlation": "correlation", "euclidean": "sqeuclidean"}[dissimilarity]
    ours = [pdist(output.patterns[layer].detach().numpy(), metric) for layer in layers]
    theirs = teacher().rdms(batch())["rdm"].numpy()
    expected = np.mean([pearsonr(mine, rdm).statistic for mine in ours for rdm in theirs])
    loss = RDMLoss(dissimilarity=dissimilarity, similarity="cosine")
    assert look(seen, teacher(), batch(), loss)["similarity"] == pytest.approx(expected, abs=1e-6)


def test_a_looks_accuracy_is_the_share_of_largest_logits_that_are_the_labels() -> None:
    seen = student()
    right = seen.eval()(batch().images).logits.argmax(-1)  # type: ignore[union-attr]
    found = look(seen, None, Batch(NAMES, batch().images, torch.cat([right[:4], (right[4:] + 1) % 3])), RDMLoss())
    assert found["accuracy"] == pytest.approx(4 / 6)


def test_a_look_without_teacher_and_labels_measures_neither() -> None:
    found = look(student(), None, batch(labels=False), RDMLoss())
    assert math.isnan(found["similarity"])
    assert math.isnan(found["accuracy"])


def test_a_look_counts_constant_patterns_over_layers() -> None:
    flat = Student(nn.Sequential(nn.Flatten(), nn.ReLU()), ["0", "1"])
    images = torch.rand(6, 1, 2, 2)
    images[2] = 0.5
    images[4] = -torch.rand(1, 2, 2)  # constant after the ReLU only
    assert look(flat, None, Batch(NAMES, images), RDMLoss())["n_constant"] == 3


@pytest.mark.parametrize("training", [True, False])
def test_a_look_is_in_evaluation_mode_and_restores_the_mode(training: bool) -> None:
    seen = student(("2",)).train(training)  # behind the dropout
    first, again = (look(seen, teacher(), batch(), RDMLoss()) for _ in range(2))
    assert first == again
    assert seen.training is training


def test_a_look_takes_no_gradient() -> None:
    seen = student()
    look(seen, teacher(), batch(), RDMLoss())
    assert all(parameter.grad is None for parameter in seen.parameters())


def test_a_look_in_several_passes_sees_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = look(student(), teacher(), batch(), RDMLoss())
    monkeypatch.setattr(looks, "_CHUNK", 4)
    assert look(student(), teacher(), batch(), RDMLoss()) == pytest.approx(whole, nan_ok=True)


def test_a_batch_moves_with_all_it_holds() -> None:
    moved = to_device(batch(), torch.device("meta"))
    assert moved.labels is not None
    assert (moved.images.device.type, moved.labels.device.type) == ("meta", "meta")
    assert (moved.names, moved.step) == (NAMES, 7)
    assert to_device(batch(labels=False), torch.device("meta")).labels is None


# The loss


@pytest.mark.parametrize("total", [0.5, torch.tensor(0.5), torch.tensor(0.5, requires_grad=True)])
def test_a_finite_loss_passes(total: Tensor | float) -> None:
    check_loss(total, {}, {}, batch())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_loss_names_step_layer_and_conditions(value: float) -> None:
    patterns = {"conv": torch.ones(6, 4), "fc": torch.ones(6, 3)}
    patterns["fc"][1, 2] = patterns["fc"][4, 0] = value
    message = rf"loss is {value} at step 7: patterns of layer 'fc' are NaN or Inf for conditions \['b', 'e'\]; lower lr"
    with pytest.raises(DivergedError, match=message):
        check_loss(torch.tensor(value), patterns, {}, batch())


def test_a_broken_loss_of_a_teacher_with_inf_names_the_target() -> None:
    targets = {"V1": torch.rand(1, 15), "IT": torch.full((1, 15), torch.inf)}
    with pytest.raises(BrainrdlError, match=r"at step 7: the teacher's RDMs of targets \['IT'\] hold Inf; repair"):
        check_loss(math.nan, {"fc": torch.ones(6, 3)}, targets, batch())


def test_a_teacher_that_knows_no_pair_of_the_batch_is_named() -> None:
    batch = Batch(tuple("abcd"), torch.zeros(4, 1, 1, 1), step=7)
    unknown = {"IT": torch.full((1, 6), math.nan)}
    with pytest.raises(
        BrainrdlError, match=r"at step 7: the teacher knows no pair of the conditions \['a', .*batch_size"
    ):
        check_loss(math.nan, {"fc": torch.ones(4, 2)}, unknown, batch)


def test_a_broken_loss_of_finite_patterns_says_so() -> None:
    message = (
        r"loss is inf at step 7 for conditions \['a', .* 1 more\], though the patterns of layers \['fc'\] are finite"
    )
    with pytest.raises(DivergedError, match=message):
        check_loss(math.inf, {"fc": torch.ones(6, 3)}, {"IT": torch.full((1, 15), torch.nan)}, batch())


# Progress


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=written, force_terminal=True, width=150))
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    return written


TASK_ONLY = {"train_similarity": math.nan, "train_accuracy": 0.75, "validation_accuracy": 0.5}


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({}, "RDM correlation: train 0.250"),
        ({"validation_similarity": 0.125}, "RDM correlation: train 0.250, validation 0.125"),
        ({"validation_accuracy": 0.5}, "RDM correlation: train 0.250; accuracy: validation 0.500"),
        (TASK_ONLY, "accuracy: train 0.750, validation 0.500"),
        ({"train_similarity": math.nan}, "loss 0.500"),
    ],
)
def test_the_bar_shows_the_measures_that_are_known(
    changed: dict[str, float], shown: str, terminal: io.StringIO
) -> None:
    with progress_bar(10, 0, shown=True) as show:
        show(ROW | changed)
        assert isinstance(show, display.Show)
    text = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert shown in text
    assert "nan" not in text


def test_a_bar_that_is_not_wanted_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(10, 0, shown=False) as show:
        show(ROW)
    assert list(track([1, 2], "counting", shown=False)) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_tracking_shows_what_is_done(terminal: io.StringIO) -> None:
    assert list(track([1, 2], "counting", shown=True)) == [1, 2]
    assert "counting" in terminal.getvalue()


# TensorBoard


def test_events_hold_every_number_of_a_row(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with event_writer(tmp_path) as write:
        write(ROW)
        write(ROW | {"step": 6, "loss": 0.125})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "train_similarity", "validation_similarity"}
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(5, 0.5), (6, 0.125)]


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with event_writer(None) as write:
        write(ROW)
    assert not list(tmp_path.iterdir())


def test_without_tensorboard_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with event_writer(tmp_path) as write:
        write(ROW)
    assert not list(tmp_path.iterdir())
