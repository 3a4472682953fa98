"""The problems of the experiments: images, patterns and logits belong together, and no image is in two parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from torch import nn

from brainrdl import Student
from docs.experiments import cifar100, mnist
from docs.experiments.measures import error_rate
from docs.experiments.networks import mnist_cnn, mnist_vit_teacher
from docs.experiments.protocol import teachers

STAGES = ("block10", "last")
DESIGN = mnist.Design(100, n_unlabelled=20, teacher_steps=3000)


@pytest.fixture
def with_mnist(data_folder: Path) -> None:
    """Skips without the digits."""
    if not (data_folder / "mnist").is_dir():
        pytest.skip("mnist is not in BRAINRDL_DATA (CONTRIBUTING.md, Real data)")


@pytest.fixture
def with_cifar(data_folder: Path) -> None:
    """Skips without the subsets of CIFAR-100 and CIFAR-10."""
    if not all((data_folder / name).is_file() for name in ("cifar100_mini.npz", "cifar10_test2000.npz")):
        pytest.skip("cifar100_mini.npz and cifar10_test2000.npz are not in BRAINRDL_DATA (CONTRIBUTING.md, Real data)")


@pytest.mark.usefixtures("with_mnist")
def test_rows_of_patterns_and_logits_are_those_of_the_named_digits() -> None:
    made = mnist.problem(DESIGN, 3)
    network = mnist.teacher(DESIGN.teacher, DESIGN.teacher_steps).eval()
    place = len(made.names) - 5  # a digit without label
    images = mnist.digits(True).images([made.names[7], made.names[place]])
    with torch.no_grad():
        expected = network(images).numpy()
    np.testing.assert_allclose(made.logits[[7, place]], expected, rtol=2e-3, atol=2e-3)  # half precision
    np.testing.assert_array_equal(made.logits, made.patterns["logits"])
    assert made.names == made.labelled.names + made.unlabelled.names


@pytest.mark.usefixtures("with_mnist")
def test_digits_are_balanced_and_in_one_part_only() -> None:
    labelled, others = mnist.drawn(100, 5)
    assert sorted(Counter((labelled.labels or {}).values()).values()) == [10] * 10
    assert not set(labelled.names) & set(others)
    made, validation = mnist.tuning(DESIGN)
    assert not set(made.names) & set(validation.names)


@pytest.mark.usefixtures("with_mnist")
def test_the_asked_share_of_labels_is_wrong() -> None:
    right, wrong = (mnist.problem(mnist.Design(100, wrong_labels=share), 2).labelled for share in (0.0, 0.2))
    changed = [name for name in right.names if (right.labels or {})[name] != (wrong.labels or {})[name]]
    assert len(changed) == 20
    assert right.names == wrong.names


@pytest.mark.usefixtures("with_cifar")
def test_no_image_of_cifar_is_in_two_parts() -> None:
    train, validation = cifar100.split()
    found, kept = cifar100.arrays(), cifar100.without_duplicates()
    assert not set(train) & set(validation)
    assert sorted([*train, *validation]) == sorted(kept)
    assert np.bincount(found["y_train"][validation]).tolist() == [10] * 100
    shown = {image.tobytes() for image in found["x_train"][kept]}
    assert len(shown) == len(kept)
    assert not shown & {image.tobytes() for part in ("x_test", "x_unlabelled") for image in found[part]}


@pytest.fixture
def numbered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Patterns and logits that are the place of each image in its part, from 1, with another sign for CIFAR-10."""

    def places(part: str) -> np.ndarray:
        sign = -1 if part == "unlabelled" else 1
        return sign * np.arange(1, len(cifar100.images(part)) + 1, dtype=np.float32)[:, None]

    monkeypatch.setattr(cifar100, "patterns", lambda part, kind="imagenet": dict.fromkeys(STAGES, places(part)))
    monkeypatch.setattr(cifar100, "probed", lambda tuning, part="train": places(part))
    cifar100._final.cache_clear()
    yield
    cifar100._final.cache_clear()


@pytest.mark.usefixtures("with_cifar", "numbered")
def test_rows_of_patterns_and_logits_are_those_of_the_named_images() -> None:
    made = cifar100.problem(cifar100.Design(1, 16, unlabelled=True), 0)
    for rows in (made.logits, made.patterns["block10"], made.patterns["last"]):
        named = [f"{'unlabelled' if row < 0 else 'train'} {abs(int(row)) - 1}" for row in rows[:, 0]]
        assert tuple(made.names) == tuple(named)
    assert set(made.labelled.names) <= set(made.names)
    assert made.unlabelled.labels is None


def test_the_patterns_of_the_random_network_differ_between_images() -> None:
    pixels = torch.randint(0, 256, (60, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    network = cifar100._network("normalised_random").eval()
    with torch.no_grad():
        cifar100.normalise(network, pixels[:40])
        patterns = network(cifar100._large(pixels[40:])).patterns
    for rows in patterns.values():
        stored = rows.half().float()
        assert (stored.std(0) > 0).float().mean() > 0.95
        assert pdist(stored.numpy(), "correlation").std() > 1e-3


@pytest.mark.usefixtures("with_cifar")
def test_the_logits_of_a_training_image_come_from_a_probe_that_was_not_fitted_to_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fitted: list[set[float]] = []

    def probe(rows: np.ndarray, labels: np.ndarray, penalty: float) -> int:
        fitted.append(set(rows[:, 0].tolist()))
        return len(fitted) - 1

    places = np.arange(len(cifar100.images("train")), dtype=np.float32)[:, None]
    monkeypatch.setattr(cifar100, "WORK", tmp_path)
    monkeypatch.setattr(cifar100, "RESULTS", tmp_path)
    monkeypatch.setattr(cifar100, "patterns", lambda part: {"last": places})
    monkeypatch.setattr(cifar100, "_penalty", lambda: 0.0)
    monkeypatch.setattr(cifar100, "probe", probe)
    monkeypatch.setattr(cifar100, "apply", lambda number, rows: np.full((len(rows), 100), number, dtype=np.float32))
    cifar100.probed.cache_clear()
    used = cifar100.probed(tuning=False)[:, 0]
    cifar100.probed.cache_clear()
    assert len(fitted) == 6  # one for images that are not in training, five for the folds
    assert all(float(place) not in fitted[int(used[place])] for place in cifar100.without_duplicates())


@pytest.mark.usefixtures("with_mnist")
@pytest.mark.parametrize("make", [mnist_cnn, pytest.param(mnist_vit_teacher, marks=pytest.mark.slow)])
def test_the_stored_weights_of_a_teacher_have_the_error_of_the_page(make: Callable[[], nn.Module]) -> None:
    network = mnist.teacher(make, 3000)
    student = Student(network, [list(dict(network.named_children()))[-1]])
    errors = teachers().rows().set_index("teacher")["error"]
    assert error_rate(student, mnist.digits(False))[0] == pytest.approx(errors[f"{make.__name__}_3000"], abs=2e-4)
