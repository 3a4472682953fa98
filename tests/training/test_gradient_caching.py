"""Gradients in the memory of a micro-batch are those of one pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from brainrdl._core.errors import BrainrdlError
from brainrdl.loss.rdm_loss import RDMLoss, differentiable_names
from brainrdl.models.student import Student, StudentOutput
from brainrdl.training.gradient_caching import cached_backward
from brainrdl.training.optimizers import tf32

N = 22

LOSSES = {
    **{f"{similarity}": RDMLoss(similarity=similarity) for similarity in differentiable_names()},
    **{f"mse, {scale}": RDMLoss(form="mse", scale=scale) for scale in ("mean", "none")},  # type: ignore[arg-type]
    "2016": RDMLoss.rdl2016(half_life=5.0),
    "some pairs": RDMLoss(n_pairs=30),
    **{f"{name} distance": RDMLoss(dissimilarity=name) for name in ("euclidean", "cosine")},
    "layer weights": RDMLoss(layer_weights={"0": 0.2, "2": 3.0}),
}


def make(*modules: nn.Module, dtype: torch.dtype = torch.float64, **options: Any) -> Student:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), *modules, nn.Flatten(), nn.Linear(12, 4))
    return Student(network.to(dtype), ["0", "2"], **{"batchnorm": "eval", **options}).train()


def step(dtype: torch.dtype = torch.float64) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(N, 1, 4, 4, generator=generator, dtype=dtype)
    pairs = torch.rand(2, 2, N * (N - 1) // 2, generator=generator, dtype=dtype)
    return images, {"0": pairs[0], "2": pairs[1]}


def loss_with(loss: RDMLoss, teacher: dict[str, Tensor]) -> Callable[[StudentOutput], Tensor]:
    def loss_of(output: StudentOutput) -> Tensor:
        assert output.logits is not None
        task = nn.functional.cross_entropy(output.logits, torch.arange(N) % 4)
        return loss(output.patterns, teacher, step=3) + 0.5 * task

    return loss_of


def gradients(student: Student) -> dict[str, Tensor]:
    return {name: value.grad for name, value in student.named_parameters() if value.grad is not None}


def one_pass(student: Student, images: Tensor, loss_of: Callable[[StudentOutput], Tensor], micro: int = N) -> Tensor:
    """The loss of a graph that holds all micro-batches at once."""
    passes = [student(part) for part in images.split(micro)]
    patterns = {layer: torch.cat([one.patterns[layer] for one in passes]) for layer in student.layers}
    loss = loss_of(StudentOutput(patterns, torch.cat([one.logits for one in passes if one.logits is not None])))
    loss.backward()
    return loss.detach()


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], relative: float = 1e-10) -> None:
    assert found.keys() == expected.keys()
    assert found
    for name, value in expected.items():
        assert float((found[name] - value).abs().max()) <= relative * float(value.abs().max()), name


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("micro_batch", [5, 100])
def test_the_gradient_is_that_of_one_pass_for_every_loss(loss: RDMLoss, micro_batch: int) -> None:
    images, teacher = step()
    whole, parts = make(), make()
    expected = one_pass(whole, images, loss_with(loss, teacher))
    output, found = cached_backward(parts, images, loss_with(loss, teacher), micro_batch, torch.Tensor.backward)
    assert float((found - expected).abs()) <= 1e-12
    assert_same(gradients(parts), gradients(whole))
    assert not found.requires_grad
    assert not any(rows.requires_grad for rows in (*output.patterns.values(), output.logits))
    torch.testing.assert_close(output.patterns["0"], whole(images).patterns["0"].detach())


def test_dropout_draws_in_the_second_pass_what_it_drew_in_the_first() -> None:
    images, teacher = step()
    whole, parts = make(nn.Dropout(0.4)), make(nn.Dropout(0.4))
    loss_of = loss_with(RDMLoss(), teacher)
    torch.manual_seed(7)
    expected = one_pass(whole, images, loss_of, micro=5)
    following = torch.rand(3)
    torch.manual_seed(7)
    _, found = cached_backward(parts, images, loss_of, 5, torch.Tensor.backward)
    assert torch.equal(torch.rand(3), following)
    assert float((found - expected).abs()) <= 1e-12
    assert_same(gradients(parts), gradients(whole))


def test_gradients_are_added_to_those_that_are_there_and_scaled_as_the_loss() -> None:
    images, teacher = step()
    once, twice = make(), make()
    loss_of = loss_with(RDMLoss(), teacher)
    cached_backward(once, images, loss_of, 5, torch.Tensor.backward)
    cached_backward(twice, images, loss_of, 5, torch.Tensor.backward)
    cached_backward(twice, images, loss_of, 7, lambda loss: (3 * loss).backward())
    assert_same(gradients(twice), {name: 4 * value for name, value in gradients(once).items()})


def test_a_loss_of_patterns_alone_leaves_later_layers_without_a_gradient() -> None:
    images, teacher = step()
    student = make()
    loss = RDMLoss()
    cached_backward(student, images, lambda output: loss(output.patterns, teacher), 5, torch.Tensor.backward)
    assert not any(name.startswith("model.4") for name in gradients(student))


def test_the_network_may_compute_in_another_precision() -> None:
    images, teacher = step(torch.float32)
    teacher = {target: rdm.float() for target, rdm in teacher.items()}
    whole, parts = make(dtype=torch.float32), make(dtype=torch.float32)

    def autocast() -> Any:
        return torch.autocast("cpu", torch.bfloat16)

    def loss_of(output: StudentOutput) -> Tensor:
        assert not torch.is_autocast_enabled("cpu")
        return RDMLoss()({layer: rows.float() for layer, rows in output.patterns.items()}, teacher)

    with autocast():
        output = whole(images)
    loss_of(output).backward()
    cached_backward(parts, images, loss_of, 5, torch.Tensor.backward, around=autocast)
    assert_same(gradients(parts), gradients(whole), relative=0.05)  # bfloat16 has 8 bits


def test_what_would_differ_between_the_two_passes_is_refused() -> None:
    images, teacher = step()
    loss_of = loss_with(RDMLoss(), teacher)
    for student, message in (
        (make(batchnorm="train"), r"^batchnorm='train' computes its statistics from .* only a part of the step's"),
        (make(spectral_norm(nn.Conv2d(3, 3, 1))), r"^buffer 'model.3.*' of the network changes in each pass"),
    ):
        with pytest.raises(BrainrdlError, match=message):
            cached_backward(student, images, loss_of, 5, torch.Tensor.backward)
        assert not gradients(student)
    with pytest.raises(BrainrdlError, match="micro_batch must be a whole number, at least 1, got 0"):
        cached_backward(make(), images, loss_of, 0, torch.Tensor.backward, around=nullcontext)


@pytest.mark.skipif(not hasattr(torch.backends, "cudnn"), reason="torch was built without cuDNN")
def test_both_passes_and_their_gradients_are_computed_in_the_precision_that_was_asked_for() -> None:
    images, teacher = step()
    student, seen = make(), []

    def read(_module: Any, *_given: Any) -> None:
        seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))

    student.model[1].register_forward_hook(read)
    student.model[1].register_full_backward_hook(read)
    torch.backends.cudnn.allow_tf32 = False
    try:
        around = partial(tf32, True, torch.device("cuda"))  # the flags need no GPU
        loss_of = loss_with(RDMLoss(), teacher)
        cached_backward(student, images, loss_of, 5, torch.Tensor.backward, around=around, around_backward=around)
        after = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = True
    assert len(seen) >= 3 * 5  # forward twice, and backward, for each of 5 parts
    assert set(seen) == {("high", True)}
    assert after == ("highest", False)
