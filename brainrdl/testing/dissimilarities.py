"""Check a dissimilarity against its contract; a plug-in's test needs only this one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl.dissimilarity.measures import Dissimilarity
from brainrdl.dissimilarity.pairs import to_square


def check_dissimilarity(
    function: Dissimilarity, shape: Sequence[int] = (6, 20), device: torch.device | str = "cpu", seed: int = 0
) -> None:
    """Check a dissimilarity against the contract of `brainrdl.dissimilarity`.

    The checks: one value per pair, in row-major order; the order of the pairs follows that of the conditions; leading
    dimensions are independent; duplicate patterns have dissimilarity 0; gradients are finite, also with duplicate and
    constant patterns; dtype and device are preserved.

    Parameters
    ----------
    function : callable (..., n_conditions, n_channels) -> (..., n_pairs)
        The dissimilarity.
    shape : sequence of int
        Shape of the test patterns, with at least 4 conditions; ``(n_runs, n_conditions, n_channels)`` for crossnobis.
    device : torch.device or str
        Device of the test patterns.
    seed : int
        Seed of the random test patterns, which are all positive.

    Raises
    ------
    BrainrdlError
        If `function` breaks the contract; the message says which point fails and how.

    Examples
    --------
    >>> from brainrdl.dissimilarity import correlation
    >>> check_dissimilarity(correlation)
    >>> check_dissimilarity(lambda x: 1 - correlation(x))
    Traceback (most recent call last):
    brainrdl.BrainrdlError: dissimilarity '<lambda>' does not give duplicate patterns 0: got 1
    """
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(tuple(shape), generator=generator, dtype=torch.float64) + 0.1).to(device)
    n = x.shape[-2]
    if n < 4:
        refuse(f"check_dissimilarity needs at least 4 conditions, got shape {tuple(shape)}")
    name = getattr(function, "__name__", type(function).__name__)
    _check_shape(function, name, x)
    _check_order(function, name, x, torch.randperm(n, generator=generator).to(device))
    _check_batch(function, name, x)
    _check_duplicates(function, name, x)
    _check_gradients(function, name, x)
    _check_dtype_and_device(function, name, x)


def _check_shape(function: Callable[[Tensor], Tensor], name: str, x: Tensor) -> None:
    n, pairs = x.shape[-2], function(x)
    expected = n * (n - 1) // 2
    if pairs.shape != (expected,):
        refuse(f"dissimilarity {name!r} must return shape ({expected},) for {n} conditions, got {tuple(pairs.shape)}")


def _check_order(function: Callable[[Tensor], Tensor], name: str, x: Tensor, order: Tensor) -> None:
    expected = to_square(function(x))[order][:, order]
    if not torch.allclose(to_square(function(x[..., order, :])), expected, rtol=1e-6, atol=1e-9):
        refuse(f"dissimilarity {name!r} does not follow the order of the conditions; order pairs as torch.triu_indices")


def _check_batch(function: Callable[[Tensor], Tensor], name: str, x: Tensor) -> None:
    both = function(torch.stack([x, x.flip(-2)]))
    expected = torch.stack([function(x), function(x.flip(-2))])
    if both.shape != expected.shape or not torch.allclose(both, expected, rtol=1e-6, atol=1e-9):
        refuse(
            f"dissimilarity {name!r} does not treat leading dimensions as independent; reduce only over the last two"
        )


def _check_duplicates(function: Callable[[Tensor], Tensor], name: str, x: Tensor) -> None:
    pairs = to_square(function(_with_duplicate(x)))
    if not pairs[0, -1].abs() <= 1e-6 * pairs.abs().max():
        refuse(f"dissimilarity {name!r} does not give duplicate patterns 0: got {pairs[0, -1].item():.4g}")


def _check_gradients(function: Callable[[Tensor], Tensor], name: str, x: Tensor) -> None:
    hazards = {"random": x, "duplicate": _with_duplicate(x), "constant": _with_constant(x)}
    # In float32 duplicates are exactly at 0, where the gradient of a root is infinite.
    for kind, patterns in [(kind, x.to(dtype)) for kind, x in hazards.items() for dtype in (x.dtype, torch.float32)]:
        leaf = patterns.clone().requires_grad_()
        pairs = function(leaf)
        if not pairs.requires_grad:
            refuse(f"dissimilarity {name!r} has no gradient; compute it with differentiable torch operations")
        (gradient,) = torch.autograd.grad(pairs.square().sum(), leaf)
        if not (pairs.isfinite().all() and gradient.isfinite().all()):
            refuse(f"dissimilarity {name!r} gives NaN or Inf, in value or gradient, with {kind} patterns; handle them")


def _check_dtype_and_device(function: Callable[[Tensor], Tensor], name: str, x: Tensor) -> None:
    for given, expected in {
        torch.float64: torch.float64,
        torch.float32: torch.float32,
        torch.bfloat16: torch.float32,
    }.items():
        pairs = function(x.to(given))
        if pairs.dtype != expected or pairs.device != x.device:
            came = f"{pairs.dtype} on {pairs.device}"
            refuse(f"dissimilarity {name!r} must return {expected} on {x.device} for {given} patterns, got {came}")


def _with_duplicate(x: Tensor) -> Tensor:
    return torch.cat([x[..., :-1, :], x[..., :1, :]], dim=-2)


def _with_constant(x: Tensor) -> Tensor:
    return torch.cat([x[..., :-1, :], torch.full_like(x[..., :1, :], 0.1)], dim=-2)
