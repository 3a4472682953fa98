"""Batches of training steps: the same whatever loads them, from whichever step, and whatever happens on the way."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from brainrdl import RDMTeacher, Student, fit, rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.stimuli.transforms import ImageTransform
from brainrdl.training.loading import Loader
from brainrdl.training.sampling import Batches

CPU = torch.device("cpu")
CROP = v2.Compose([v2.RandomCrop(8, padding=2), v2.RandomHorizontalFlip()])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(pixels.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"image{i:02d}.png")
    return tmp_path


def stimuli(folder: Path, augmentation: Any = CROP) -> Stimuli:
    found = Stimuli.from_folder(folder, ImageTransform(8, (0.5,) * 3, (0.2,) * 3))
    return found.with_labels(["ab"[i % 2] for i in range(12)]).with_augmentation(augmentation)


def loader(shown: Stimuli, workers: int, seed: int = 3, augmented: bool = True) -> Loader:
    order = Batches(shown.names, batch_size=5, seed=1).at
    return Loader(shown, order, seed=seed, augmented=augmented, workers=workers, device=CPU)


def batches(shown: Stimuli, workers: int, start: int, end: int = 10, **options: Any) -> list[Batch]:
    with loader(shown, workers, **options) as loading:
        return [loading.at(step) for step in range(start, end)]


def draws_from_everything(image: Image.Image) -> torch.Tensor:
    drawn = torch.rand(1) + np.random.rand() + random.random()
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() + drawn


@pytest.mark.parametrize("augmentation", [CROP, draws_from_everything])
@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_processes_from_any_step_gives_the_same_batches(
    folder: Path, workers: int, augmentation: Any
) -> None:
    shown = stimuli(folder, augmentation)
    expected = batches(shown, workers=0, start=0)
    for start in (0, 7):
        found = batches(shown, workers, start)
        assert [batch.step for batch in found] == list(range(start, 10))
        for one, other in zip(expected[start:], found, strict=True):
            assert one.names == other.names
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.labels, other.labels)


def test_steps_in_any_order_give_the_batches_of_those_steps(folder: Path) -> None:
    shown = stimuli(folder)
    expected = batches(shown, workers=0, start=0)
    with loader(shown, workers=2) as loading:
        for step in (4, 5, 1, 2, 3, 9, 9):
            assert torch.equal(loading.at(step).images, expected[step].images)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_generators_of_the_caller_are_neither_used_nor_moved(folder: Path, workers: int) -> None:
    shown = stimuli(folder, draws_from_everything)
    first = batches(shown, workers, 0, 2)
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    second = batches(shown, workers, 0, 2)
    assert all(torch.equal(one.images, other.images) for one, other in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])


def test_seeds_steps_and_places_in_a_batch_draw_differently(folder: Path) -> None:
    plain = Stimuli.from_folder(folder).with_augmentation(lambda image: torch.rand(3, 1, 1))
    drawn = [batch.images[:, 0, 0, 0] for seed in (0, 1) for batch in batches(plain, 0, 0, 4, seed=seed)]
    assert torch.cat(drawn).unique().numel() == 2 * 4 * 5


def test_without_the_augmentation_images_are_those_of_the_transform(folder: Path) -> None:
    shown = stimuli(folder)
    for batch in batches(shown, 1, 0, 3, augmented=False):
        assert torch.equal(batch.images, shown.images(batch.names))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_while_loading_is_the_same_from_any_process(folder: Path, workers: int) -> None:
    shown = stimuli(folder)
    for path in folder.iterdir():
        path.write_bytes(b"")
    with loader(shown, workers) as loading, pytest.raises(BrainrdlError) as caught:
        loading.at(0)
    assert str(caught.value).startswith("image 'image")
    assert "cannot be decoded" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_after_an_error_other_steps_can_be_loaded(folder: Path, workers: int) -> None:
    shown = stimuli(folder)
    (folder / f"{shown.names[0]}.png").write_bytes(b"")
    order = {0: shown.names[1:4], 1: shown.names[:3], 2: shown.names[2:5]}
    with Loader(shown, lambda step: order[step % 3], seed=0, augmented=False, workers=workers, device=CPU) as loading:
        assert loading.at(0).names == order[0]
        with pytest.raises(BrainrdlError, match="cannot be decoded"):
            loading.at(1)
        assert loading.at(2).names == order[2]


def test_an_error_of_a_transform_keeps_its_type(folder: Path) -> None:
    def broken(image: Image.Image) -> torch.Tensor:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), loader(stimuli(folder, broken), 1) as loading:
        loading.at(0)


def test_processes_end_with_the_block_also_after_an_error_and_ctrl_c(folder: Path) -> None:
    def broken(image: Image.Image) -> torch.Tensor:
        raise KeyError("mine")

    with loader(stimuli(folder), 2) as loading:
        loading.at(0)
        assert len(_processes()) == 2
    assert not _processes()
    with pytest.raises(KeyError), loader(stimuli(folder, broken), 2) as loading:
        loading.at(0)
    assert not _processes()
    with pytest.raises(KeyboardInterrupt), loader(stimuli(folder), 2) as loading:
        _interrupt_after(loading.at(0))
    assert not _processes()


def _interrupt_after(batch: Batch) -> None:
    assert len(_processes()) == 2
    signal.raise_signal(signal.SIGINT)


def _processes() -> list[multiprocessing.process.BaseProcess]:
    """Processes of loaders; joblib keeps its own for the next call."""
    return [each for each in multiprocessing.active_children() if "Loky" not in type(each).__name__]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_run_that_was_asked_to_stop_gets_the_batch_of_its_step(folder: Path, name: str) -> None:
    """A terminal and a batch system send the signal to all processes; training finishes its step first."""
    with loader(stimuli(folder), 1) as loading:
        loading.at(0)
        for child in _processes():
            os.kill(child.pid, getattr(signal, name))
        for step in range(1, 8):
            assert loading.at(step).step == step


def test_a_process_that_is_killed_is_reported_in_words(folder: Path) -> None:
    def dies(image: Image.Image) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(3, 1, 1)

    with (
        loader(stimuli(folder, dies), 1) as loading,
        pytest.raises(
            BrainrdlError, match=r"process that loads images was ended .*(killed|exited).*fewer processes with workers="
        ),
    ):
        loading.at(0)
    assert not _processes()


def test_a_fit_does_not_depend_on_the_number_of_processes_and_ends_them(folder: Path) -> None:
    shown, students = stimuli(folder), []
    for workers in (0, 2):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
        student = Student(network, ["1"])
        teacher = RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 66)), shown.names))
        fit(student, teacher, shown, batch_size=5, steps=4, workers=workers, device="cpu", progress=False)
        students.append(network[1].weight)
    assert torch.equal(*students)
    assert not _processes()


def test_after_close_loading_starts_again(folder: Path) -> None:
    loading = loader(stimuli(folder), 1)
    first = loading.at(0)
    loading.close()
    assert torch.equal(loading.at(0).images, first.images)
    loading.close()
    assert not _processes()


@pytest.mark.parametrize("kind", ["arrays", "cached", "folder"])
def test_no_process_is_started_for_images_in_memory(folder: Path, kind: str) -> None:
    files = stimuli(folder, None)
    arrays = Stimuli.from_arrays(torch.rand(12, 1, 8, 8), files.names)
    shown = {"arrays": arrays, "cached": files.cached(), "folder": files}[kind]
    with loader(shown, 2) as loading:
        loading.at(0)
        assert len(_processes()) == (2 if kind == "folder" else 0)


def test_a_transform_called_for_each_image_in_memory_uses_processes(folder: Path) -> None:
    arrays = Stimuli.from_arrays(torch.randint(255, (12, 3, 8, 8), dtype=torch.uint8), stimuli(folder).names)
    shown = arrays.with_augmentation(CROP)
    expected = batches(shown, 0, 0, 4)
    with loader(shown, 2) as loading:
        for step in range(4):
            assert torch.equal(loading.at(step).images, expected[step].images)
        assert len(_processes()) == 2


@pytest.mark.parametrize("workers", [-1, 1.5, True, "2"])
def test_a_wrong_number_of_processes_is_refused(folder: Path, workers: Any) -> None:
    with pytest.raises(BrainrdlError, match="workers must be a whole number, at least 0"):
        loader(stimuli(folder), workers)


def test_a_batch_in_memory_needs_as_many_operations_as_one_of_few(operations: Any) -> None:
    pixels = torch.randint(255, (600, 3, 8, 8), dtype=torch.uint8)
    shown = Stimuli.from_arrays(
        pixels, [f"{i}" for i in range(600)], transform=ImageTransform(8, (0.5,) * 3, (1.0,) * 3)
    )
    counts = []
    for kept in (shown, shown.cached()):
        for size in (5, 500):
            order = Batches(shown.names, size).at
            with Loader(kept, order, seed=0, augmented=True, workers=0, device=CPU) as loading:
                for epoch in (0, 1):  # the first fills what is kept
                    with operations() as done:
                        for step in range(600 // size * epoch, 600 // size * (epoch + 1)):
                            loading.at(step)
                            if step == 600 // size * epoch:
                                first = len(done.called)
            counts.append(first)
    assert max(counts) < 25
