"""A task on a stream of images: order, epochs, classes, resuming, images that must stay new, several processes."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from brainrdl import RDMTeacher, Stimuli, Student, Task, fit, rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.stimuli import Augmentation
from brainrdl.stimuli.streams import ImageStream
from brainrdl.training.callbacks import Callback
from brainrdl.training.distributed import differs
from brainrdl.training.streaming import StreamLoader

QUIET: dict[str, Any] = {"device": "cpu", "progress": False, "evaluate_every": 3}
NAMES = tuple(f"s{i:02d}" for i in range(12))


def images(n: int, seed: int) -> Tensor:
    return torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


def shown() -> Stimuli:
    return Stimuli.from_arrays(images(12, 0), NAMES)


def teacher() -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 66)), NAMES))


def student(seed: int = 0) -> Student:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16, 3)]
    return Student(nn.Sequential(*layers), ["3"])


class Passing(IterableDataset[tuple[Tensor, Any]]):
    """Images whose label can be learned: brighter for higher numbers."""

    def __init__(self, n: int = 30, name: Callable[[int], Any] = int, changed: int = -1) -> None:
        self.n, self.name, self.changed, self.started = n, name, changed, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        self.started += 1
        pictures = images(30, 1) / 4
        for i in range(self.n):
            yield pictures[i % 30] / (2 if i == self.changed else 1) + i % 3 / 4, self.name(i % 3)


def loader(stream: ImageStream, size: int = 4, seed: int = 0, **options: Any) -> StreamLoader:
    return StreamLoader(stream, size, seed=seed, device="cpu", **options)


def positions(given: StreamLoader, steps: range) -> list[str]:
    return [name for step in steps for name in given.at(step).names]


def equal(a: Student, b: Student) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# Order


def test_a_stream_is_read_in_order_and_again_in_each_epoch() -> None:
    given = loader(ImageStream(Passing(10), buffer=1))
    read = [f"item {i} of epoch {epoch}" for epoch in (0, 1) for i in range(8)]  # the last two fill no batch
    assert positions(given, range(4)) == read
    assert given.at(3).labels.tolist() == [1, 2, 0, 1]  # items 4 to 7


def test_a_buffer_mixes_by_seed_and_epoch_and_gives_each_image_once() -> None:
    first, again, other = (positions(loader(ImageStream(Passing(12), buffer=5), seed=s), range(6)) for s in (0, 0, 1))
    assert first == again != other
    of_epoch = [[int(name.split()[1]) for name in first if name.endswith(f"epoch {epoch}")] for epoch in (0, 1)]
    assert [sorted(each) for each in of_epoch] == [list(range(12))] * 2
    assert of_epoch[0] != of_epoch[1] != list(range(12))


def test_an_image_is_never_drawn_before_it_is_in_the_buffer() -> None:
    order = [int(name.split()[1]) for name in positions(loader(ImageStream(Passing(30), buffer=5), 3), range(10))]
    assert all(position <= place + 5 for place, position in enumerate(order))
    assert order != sorted(order)


def test_a_batch_that_was_passed_can_be_read_again() -> None:
    given = loader(ImageStream(Passing(), augmentation=Augmentation(crop=1)))
    batches = [given.at(step) for step in (0, 1, 2, 0)]
    assert torch.equal(batches[0].images, batches[3].images)
    assert not torch.equal(batches[0].images, given.clean(0).images)


def test_a_batch_has_images_and_labels_of_the_same_items() -> None:
    batch = loader(ImageStream(Passing())).at(0)
    brightness = ((batch.images.mean((1, 2, 3)) - 0.125) * 4).round()
    assert brightness.tolist() == batch.labels.tolist()


def test_random_numbers_of_the_stream_follow_from_the_step_and_leave_the_generators_as_they_were() -> None:
    class Noisy(Passing):
        def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
            for image, label in super().__iter__():
                yield image + torch.rand(1) + np.random.random() + random.random(), label

    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    one = loader(ImageStream(Noisy())).at(2)
    torch.rand(3)
    assert torch.equal(loader(ImageStream(Noisy())).at(2).images, one.images)
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def test_an_epoch_is_announced_to_a_data_set_that_mixes_by_itself() -> None:
    class Announced(Passing):
        def set_epoch(self, epoch: int) -> None:
            self.epochs = [*getattr(self, "epochs", []), epoch]

    dataset = Announced(8)
    positions(loader(ImageStream(dataset)), range(5))
    assert dataset.epochs == [0, 1, 2]


# Items


def test_labels_are_names_or_numbers_of_the_given_classes() -> None:
    words = ["low", "middle", "high"]
    by_name = loader(ImageStream(Passing(name=words.__getitem__), classes=words)).at(0)
    assert torch.equal(by_name.labels, loader(ImageStream(Passing(), classes=words)).at(0).labels)


def test_items_may_be_mappings_pictures_and_items_of_a_data_loader() -> None:
    rows = [{"jpg": np.full((4, 4, 3), value, np.uint8), "cls": value} for value in range(4)]
    batch = loader(ImageStream(rows, columns=("jpg", "cls"), buffer=1)).at(0)
    assert batch.images.shape == (4, 3, 4, 4)
    torch.testing.assert_close(batch.images[3], torch.full((3, 4, 4), 3 / 255))
    assert batch.labels.tolist() == [0, 1, 2, 3]
    items = DataLoader(TensorDataset(images(8, 0), torch.arange(8)), batch_size=None)
    assert loader(ImageStream(items, buffer=1)).at(1).labels.tolist() == [4, 5, 6, 7]
    assert loader(ImageStream(list(images(8, 0)), buffer=1)).at(1).labels is None


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (((image, 0) for image in images(8, 0)), {}, "a generator can be read only once, but each epoch reads"),
        (5, {}, "a stream must be iterable, got int"),
        (Passing(), {"buffer": 0}, "buffer must be a whole number, at least 1"),
        (Passing(), {"classes": ["a", "a"]}, "duplicate"),
    ],
)
def test_what_is_not_a_stream_is_refused(dataset: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        ImageStream(dataset, **options)


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (Passing(name="abc".__getitem__), {"classes": ["a", "b"]}, r"label 'c' of item 2 of .*Passing is not among"),
        (Passing(name="abc".__getitem__), {}, r"label 'a' of item 0 .* list all names in the order of the logits"),
        (Passing(), {"classes": ["a", "b"]}, r"label 2 of item 2 .* is not a class: there are 2 classes"),
        ([{"jpg": images(1, 0)[0]}], {"columns": ("png",)}, "column"),
        ([{"jpg": images(1, 0)[0]}, {}], {"columns": ("jpg",)}, r"item 1 of the stream list has no \['jpg'\]"),
        ([(images(1, 0)[0], 1, 2)], {}, "item 0 of the stream list must be an image or"),
        ([(images(2, 0), 1)], {}, "image of item 0 of the stream list must be one image"),
        ([(images(1, 0)[0], 1), (images(1, 0)[0, :, :3], 1)], {}, "images differ in size: 'item 0 of epoch 0'"),
        ([(images(1, 0)[0], 1), images(1, 0)[0]], {}, "item 1 of epoch 0 of .* has no label"),
        ([(2 * torch.ones(1, 6, 6), 1)] * 2, {"augmentation": Augmentation(flip=True)}, r"item 0 .* from 2 to 2"),
        (Passing(1), {}, "gave 1 items in epoch 0, fewer than a batch of 2"),
    ],
)
def test_items_that_cannot_be_used_are_refused_with_their_position(
    dataset: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BrainrdlError, match=message):
        loader(ImageStream(dataset, buffer=1, **options), 2).at(0)


def test_a_stream_that_does_not_start_again_is_refused() -> None:
    class Once:
        def __init__(self) -> None:
            self.items = iter([(image, 0) for image in images(4, 0)])

        def __iter__(self) -> Iterator[Any]:
            return self.items

    with pytest.raises(BrainrdlError, match=r"gave 0 items in epoch 1.*check that the stream starts again"):
        loader(ImageStream(Once())).at(1)


# Training


def test_a_student_learns_a_task_on_a_stream_together_with_an_rdm() -> None:
    made, watched = student(), Stimuli.from_arrays(images(6, 5) / 4 + 0.25, list("abcdef"), labels=["middle"] * 6)
    words = ["low", "middle", "high"]
    task = Task(ImageStream(Passing(), classes=words), batch_size=15, validation=watched)
    options = {**QUIET, "monitor": "accuracy", "evaluate_every": 25}
    history = fit(made, teacher(), shown(), task=task, steps=100, lr=1e-2, **options).history
    assert history.train_accuracy.iloc[-1] > 0.9 > 0.6 > history.train_accuracy.iloc[0]
    assert history.validation_accuracy.iloc[-1] > 0.9  # all are of class 1, which is not the first in the alphabet
    assert history.train_similarity.iloc[-1] > history.train_similarity.iloc[0] + 0.3


def test_a_data_set_given_as_a_task_is_a_stream() -> None:
    one, two = student(), student()
    fit(one, teacher(), shown(), task=Task(Passing(), batch_size=5), steps=4, **QUIET)
    fit(two, teacher(), shown(), task=Task(ImageStream(Passing()), batch_size=5), steps=4, **QUIET)
    assert equal(one, two)
    assert not equal(one, student())


def test_a_stream_in_order_trains_as_named_images_in_that_order() -> None:
    pictures, labels = zip(*Passing(), strict=True)
    named = Stimuli.from_arrays(torch.stack(pictures), [f"{i:02d}" for i in range(30)], labels=labels)
    one, two = student(), student()
    fit(one, teacher(), shown(), task=Task(ImageStream(Passing(), buffer=1), batch_size=30), steps=3, **QUIET)
    fit(two, teacher(), shown(), task=Task(named, batch_size=30), steps=3, **QUIET)
    assert equal(one, two)


class StopAt(Callback):
    def __init__(self, last: int) -> None:
        self.last = last

    def on_step(self, step: int, losses: dict[str, Tensor]) -> None:
        if step == self.last:
            raise KeyboardInterrupt


def interrupted(out: Path, stream: ImageStream, resumed: ImageStream, last: int = 10) -> Student:
    options = {"steps": 17, "out": out, "checkpoint_every": 1, **QUIET}
    with pytest.raises(KeyboardInterrupt):
        fit(student(), teacher(), shown(), task=Task(stream, batch_size=7), callbacks=[StopAt(last)], **options)
    made = student()
    fit(made, teacher(), shown(), task=Task(resumed, batch_size=7), resume=True, **options)
    return made


@pytest.mark.parametrize(
    ("buffer", "last"), [(8, 9), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(1, 5), (1000, 10)])]
)
def test_a_resumed_run_on_a_stream_is_bit_equal(buffer: int, last: int, tmp_path: Path) -> None:
    streams = [ImageStream(Passing(), buffer=buffer, augmentation=Augmentation(crop=1)) for _ in range(3)]
    whole = student()
    fit(whole, teacher(), shown(), task=Task(streams[0], batch_size=7), steps=17, **QUIET)
    assert equal(interrupted(tmp_path / "run", streams[1], streams[2], last), whole)
    # An epoch has 4 steps, and the checkpoint is of the step before the last one: earlier epochs are not read again.
    # The first images are read once more, to identify the stream.
    assert streams[2].dataset.started == 1 + 5 - (last - 2) // 4  # type: ignore[attr-defined]


def test_a_stream_that_gives_other_items_cannot_be_resumed(tmp_path: Path) -> None:
    # 10 steps of 7 images were done: step 9 had items 7 to 13 of the third epoch
    with pytest.raises(BrainrdlError, match=r"other items than in the run to resume: those of step 9 \(batch 1 of ep"):
        interrupted(tmp_path / "one", ImageStream(Passing(), buffer=1), ImageStream(Passing(changed=8), buffer=1), 11)
    with pytest.raises(BrainrdlError, match="the first images of the task's stream"):
        interrupted(tmp_path / "first", ImageStream(Passing(), buffer=1), ImageStream(Passing(changed=3), buffer=1))
    with pytest.raises(BrainrdlError, match="buffer"):
        interrupted(tmp_path / "two", ImageStream(Passing(), buffer=1), ImageStream(Passing(), buffer=2))


# Images that must stay new, and what a stream cannot do


@pytest.mark.parametrize("held_out", [True, False])
def test_a_held_out_or_validation_image_in_the_stream_is_refused_with_its_position(held_out: bool) -> None:
    rows = [*Passing(), (shown().images(["s03"])[0], 0)]
    kept: dict[str, Any] = {"held_out": ["s03"]} if held_out else {"validation": NAMES[:4]}
    task = Task(ImageStream(rows), batch_size=5)
    with pytest.raises(BrainrdlError, match=r"item 30 of the stream list has the pixels of .* stimulus 's03'"):
        fit(student(), teacher(), shown(), task=task, steps=3, **kept, **QUIET)
    fit(student(), teacher(), shown(), task=task, steps=1, **QUIET)  # it may be trained on if it is not held out


def test_images_that_must_stay_new_are_found_in_files_and_dropped_when_asked(tmp_path: Path) -> None:
    from PIL import Image

    pixels = torch.randint(255, (12, 6, 6, 3), dtype=torch.uint8).numpy()
    for name, image in zip(NAMES, pixels, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    stimuli = Stimuli.from_folder(tmp_path)
    rows = [(image, 0) for image in pixels]
    network = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
    fitted: dict[str, Any] = {"held_out": stimuli.names[:1], "steps": 2, **QUIET}
    known = RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 66)), stimuli.names))
    with pytest.raises(BrainrdlError, match=r"item 0 of .* 's00"):
        fit(Student(network, ["1"]), known, stimuli, task=Task(rows, batch_size=11), **fitted)
    fit(Student(network, ["1"]), known, stimuli, task=Task(rows, batch_size=11, overlap="drop"), **fitted)
    with pytest.raises(BrainrdlError, match="gave 11 items"):
        fit(Student(network, ["1"]), known, stimuli, task=Task(rows, batch_size=12, overlap="drop"), **fitted)


def test_a_finished_run_on_a_stream_is_not_returned_for_another_stream(tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 2, "out": tmp_path / "run", "resume": True, **QUIET}
    fit(student(), teacher(), shown(), task=Task(Passing(), batch_size=7), **options)
    with pytest.raises(BrainrdlError, match="the first images of the task's stream"):
        fit(student(), teacher(), shown(), task=Task(Passing(changed=3), batch_size=7), **options)


def test_bytes_and_the_floats_made_of_them_are_the_same_held_out_image() -> None:
    pixels = torch.randint(256, (12, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    stimuli, rows = Stimuli.from_arrays(pixels, NAMES), [(pixels[3].float() / 255, 0)] * 5
    with pytest.raises(BrainrdlError, match=r"has the pixels of .* 's03'"):
        fit(student(), teacher(), stimuli, task=Task(rows, batch_size=5), steps=1, held_out=["s03"], **QUIET)


@pytest.mark.parametrize("stream", [True, False])
def test_held_out_images_do_not_validate_the_task(stream: bool) -> None:
    watched = Stimuli.from_arrays(shown().images(NAMES[:2]), ["a", "b"], labels=["0", "1"])
    pictures, names = torch.cat([images(9, 5), shown().images(NAMES[:2])]), [*map(str, range(9)), "a", "b"]
    named = Stimuli.from_arrays(pictures, names, labels=["0", "1", "2"] * 3 + ["0", "1"])
    task = Task(named, validation=["a", "b"], batch_size=5)
    if stream:
        task = Task(ImageStream(Passing(), classes=["0", "1", "2"]), validation=watched, batch_size=5)
    with pytest.raises(BrainrdlError, match="byte-identical to validation or held-out stimuli: 'a' to 's00'"):
        fit(student(), teacher(), shown(), task=task, steps=1, held_out=list(NAMES[:2]), **QUIET)


def test_an_image_of_the_tasks_validation_is_refused_in_the_stream() -> None:
    watched = Stimuli.from_arrays(next(iter(Passing()))[0][None], ["first"], labels=["0"])
    task = Task(ImageStream(Passing(), classes=["0", "1", "2"]), validation=watched, batch_size=5)
    with pytest.raises(BrainrdlError, match=r"item 0 .* has the pixels of the task's validation image 'first'"):
        fit(student(), teacher(), shown(), task=task, steps=1, **QUIET)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Task(Passing(), validation=0.2), "no part of a stream can be split off"),
        (
            lambda: Task(Passing(), loss="mse"),
            "images of a stream have no names, so they cannot be matched with values",
        ),
        (lambda: Task(Passing(), values={"a": 1.0}, loss="mse"), "images of a stream have no names"),
        (lambda: Task(iter(Passing())), "a generator can be read only once"),
        (lambda: Task(shown(), validation=shown()), "is a list of their names, or a fraction; got Stimuli"),
    ],
)
def test_what_a_task_on_a_stream_cannot_do_is_refused(make: Callable[[], Task], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        make()


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (Passing(name=lambda i: i + 1), {}, "3 logits for 4 categories"),
        (list(images(8, 0)), {}, "no labels"),
        (Passing(), {"validation": shown().with_labels(["0"] * 12)}, "can only be numbered as those of the stream if"),
        (Passing(), {"class_weights": {"a": 2.0}}, "classes of the stream"),
        (
            ImageStream(Passing(), classes=list("abc")),
            {"validation": shown().with_labels(["d"] * 12)},
            r"labels \['d'\] are not among the classes",
        ),
    ],
)
def test_classes_that_do_not_fit_are_refused_in_a_fit(dataset: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        fit(student(), teacher(), shown(), task=Task(dataset, batch_size=5, **options), steps=2, **QUIET)


def test_a_task_says_that_it_is_on_a_stream_and_its_settings_identify_it() -> None:
    task = Task(ImageStream(Passing(), classes=list("abc"), buffer=7))
    assert repr(task) == "Task(ImageStream(Passing, 3 classes), cross-entropy, weight 1.0)"
    task = Task(task.stimuli, batch_size=5)
    settings = fit(student(), teacher(), shown(), task=task, steps=0, **QUIET).settings
    assert settings["task"]["stream"]["buffer"] == 7
    assert settings["task_images"] == {"train": None, "validation": 0}


# Several processes


def test_one_process_agrees_with_itself() -> None:
    assert not differs("ab" * 32)


ACROSS = """
import runpy, sys
import torch
made = runpy.run_path({file!r})
from brainrdl.training.distributed import join, is_first
join("cpu")
rank = torch.distributed.get_rank()
dataset = made["Passing"](30 - rank if {divided} else 30)
network = made["student"]()
network.model[4].p = 0.0
made["fit"](network, made["teacher"](), made["shown"](), task=made["Task"](dataset, batch_size=6), steps=6,
            **made["QUIET"])
if is_first():
    torch.save(network.state_dict(), {out!r})
torch.distributed.barrier()
"""


@pytest.mark.slow
@pytest.mark.parametrize("divided", [False, True])
def test_two_processes_train_on_a_stream_as_one_does(divided: bool, tmp_path: Path) -> None:
    out, script = tmp_path / "weights.pt", tmp_path / "script.py"
    script.write_text(ACROSS.format(file=__file__, out=str(out), divided=divided))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300)
    if divided:
        assert done.returncode != 0
        assert "the processes read different items of the stream Passing in epoch 0" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    alone = student()
    alone.model[4].p = 0.0
    fit(alone, teacher(), shown(), task=Task(Passing(), batch_size=6), steps=6, **QUIET)
    for name, value in torch.load(out).items():
        torch.testing.assert_close(value, alone.state_dict()[name], rtol=1e-4, atol=1e-6)
