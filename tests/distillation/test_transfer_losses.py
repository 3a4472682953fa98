"""Losses from the distillation of networks: equal to the published formulas, with exact and finite gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from brainrdl._core.errors import BrainrdlError
from brainrdl.distillation import transfer_losses
from brainrdl.distillation.transfer_losses import probabilistic_loss, relational_loss, similarity_preserving_loss

Array = npt.NDArray[np.float64]
Loss = Callable[[Tensor, Tensor], Tensor]

distances: Loss = partial(relational_loss, distance=1.0, angle=0.0)
angles: Loss = partial(relational_loss, distance=0.0, angle=1.0)


def patterns(n: int = 7, n_channels: int = 12, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, n_channels, generator=generator, dtype=dtype).add_(0.3).requires_grad_()


def other(n: int = 7, n_channels: int = 5) -> Tensor:
    return patterns(n, n_channels, seed=1).detach()


def gradient(loss: Loss, x: Tensor, y: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss(x, y), x)
    return found


# The published formulas, written out


def huber(difference: Array) -> float:
    small = np.abs(difference) < 1
    return float(np.where(small, difference**2 / 2, np.abs(difference) - 0.5).mean())


def distance_formula(x: Array, y: Array) -> float:
    def relative(z: Array) -> Array:
        d = np.linalg.norm(z[:, None] - z, axis=-1)
        return d / d[d > 0].mean()

    return huber(relative(x) - relative(y))


def angle_formula(x: Array, y: Array) -> float:
    def cosines(z: Array) -> Array:
        n = len(z)
        found = np.zeros((n, n, n))
        for i in range(n):
            for j in range(n):
                for k in range(n):
                    one, two = z[j] - z[i], z[k] - z[i]
                    lengths = np.linalg.norm(one) * np.linalg.norm(two)
                    found[i, j, k] = one @ two / lengths if lengths > 0 else 0
        return found

    return huber(cosines(x) - cosines(y))


def similarity_formula(x: Array, y: Array) -> float:
    def rows(z: Array) -> Array:
        gram = z @ z.T
        return gram / np.linalg.norm(gram, axis=1, keepdims=True)

    return float(np.linalg.norm(rows(x) - rows(y)) ** 2 / len(x) ** 2)


def probability_formula(x: Array, y: Array) -> float:
    def probabilities(z: Array) -> Array:
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        near = (z @ z.T + 1) / 2
        return near / near.sum(1, keepdims=True) + 1e-7

    p, q = probabilities(y), probabilities(x)
    return float(((p - 1e-7) * np.log(p / q)).mean())


LOSSES = {
    "distances": (distances, distance_formula),
    "angles": (angles, angle_formula),
    "similarity preserving": (similarity_preserving_loss, similarity_formula),
    "probabilistic": (probabilistic_loss, probability_formula),
}
all_losses = pytest.mark.parametrize(("loss", "formula"), LOSSES.values(), ids=LOSSES)


@all_losses
def test_a_loss_is_that_of_its_paper(loss: Loss, formula: Callable[[Array, Array], float]) -> None:
    x, y = patterns(), other()
    assert loss(x, y).item() == pytest.approx(formula(x.detach().numpy(), y.numpy()), rel=1e-10)


@all_losses
def test_large_differences_are_counted_as_in_the_paper(loss: Loss, formula: Callable[[Array, Array], float]) -> None:
    x, y = patterns(6), other(6)
    with torch.no_grad():
        x[0] *= 60  # its normalised distances differ by more than 1, where the Huber loss is linear
        x[1] = -x[2]
    assert loss(x, y).item() == pytest.approx(formula(x.detach().numpy(), y.numpy()), rel=1e-10)
    assert torch.autograd.gradcheck(lambda z: loss(z, y), x)


@all_losses
def test_the_gradient_is_that_of_the_value(loss: Loss, formula: object) -> None:
    y = other()
    assert torch.autograd.gradcheck(lambda x: loss(x, y), patterns())


@all_losses
def test_a_loss_is_zero_and_flat_for_equal_patterns(loss: Loss, formula: object) -> None:
    x = patterns()
    assert loss(x, x.detach()).item() == pytest.approx(0, abs=1e-12)
    assert gradient(loss, x, x.detach()).abs().max() < 1e-8  # of size 1e-7 added to probabilities


@all_losses
def test_the_order_of_images_does_not_matter(loss: Loss, formula: object) -> None:
    x, y, order = patterns(), other(), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    torch.testing.assert_close(loss(x[order], y[order]), loss(x, y))
    torch.testing.assert_close(
        gradient(loss, x, y)[order], gradient(lambda a, b: loss(a[order], b[order]), x, y)[order]
    )


@all_losses
@pytest.mark.parametrize("broken", ["duplicates", "all equal", "zeros", "equal up to rounding"])
def test_gradients_are_finite_for_patterns_without_a_relation(loss: Loss, formula: object, broken: str) -> None:
    x = patterns(dtype=torch.float32)
    with torch.no_grad():
        if broken == "equal up to rounding":
            x[1:-1] = x[0] * (1 + 1e-7 * torch.randn(5, 12, generator=torch.Generator().manual_seed(3)))
            x[-1] = -5 * x[0]
        else:
            x[: 2 if broken == "duplicates" else None] = 0 if broken == "zeros" else 1000.1
    for y in (other().float(), x.detach()):
        assert loss(x, y).isfinite()
        assert gradient(loss, x, y).isfinite().all()


def test_a_common_offset_changes_no_relation_in_single_precision() -> None:
    x, y = patterns(40, dtype=torch.float32), other(40).float()
    far = (x.detach() + 1000).requires_grad_()
    torch.testing.assert_close(relational_loss(far, y), relational_loss(x, y), rtol=1e-4, atol=0)
    torch.testing.assert_close(gradient(relational_loss, far, y), gradient(relational_loss, x, y), rtol=1e-2, atol=1e-6)


def test_the_weights_of_the_two_parts_are_factors() -> None:
    x, y = patterns(), other()
    torch.testing.assert_close(relational_loss(x, y, 3.0, 5.0), 3 * distances(x, y) + 5 * angles(x, y))


def test_angles_do_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = patterns(), other()
    one_block, slope = angles(x, y), gradient(angles, x, y)
    monkeypatch.setattr(transfer_losses, "_AT_ONCE", 3 * 7**2)
    torch.testing.assert_close(angles(x, y), one_block)
    torch.testing.assert_close(gradient(angles, x, y), slope)


@all_losses
def test_half_precision_is_computed_in_single_precision_also_under_autocast(loss: Loss, formula: object) -> None:
    x, y = patterns(dtype=torch.float32), other()
    half = x.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(half, y)
    expected = loss(half.detach().float(), y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    assert gradient(loss, half, y).dtype == torch.bfloat16


@all_losses
def test_the_other_network_gets_no_gradient(loss: Loss, formula: object) -> None:
    y = other().requires_grad_()
    loss(patterns(), y).backward()
    assert y.grad is None


@all_losses
@pytest.mark.parametrize("shape", [(6, 5), (7,), (7, 5, 2)])
def test_patterns_of_other_images_are_refused(loss: Loss, formula: object, shape: tuple[int, ...]) -> None:
    with pytest.raises(BrainrdlError, match="patterns"):
        loss(patterns(), torch.rand(shape))


# The code of others


@pytest.mark.parametrize(
    ("loss", "name", "given"),
    [
        (relational_loss, "RKDLoss", ("o", "o", 1.0, 2.0, "mean")),
        (distances, "RKDLoss", ("o", "o", 1.0, 0.0, "mean")),
        (probabilistic_loss, "PKTLoss", ("o", "output", "o", "output")),
    ],
)
def test_values_and_gradients_equal_those_of_torchdistill(loss: Loss, name: str, given: tuple[object, ...]) -> None:
    theirs = pytest.importorskip("torchdistill.losses.mid_level")
    reference = getattr(theirs, name)(*given)
    x, y = patterns(20), other(20)
    expected = reference({"o": {"output": x}}, {"o": {"output": y}})
    torch.testing.assert_close(loss(x, y), expected, rtol=1e-6, atol=0)
    (slope,) = torch.autograd.grad(expected, x)
    assert (gradient(loss, x, y) - slope).norm() < 1e-6 * slope.norm()
