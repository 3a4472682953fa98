"""Time the losses of network distillation beside those of torchdistill; prints a markdown table.

``pip install torchdistill`` first; without it, nothing is measured. Each pair of losses is computed alternately, value
and gradient, with one thread; arguments choose some of the losses. Differences are relative, in float64.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from brainrdl.distillation.transfer_losses import probabilistic_loss, relational_loss, similarity_preserving_loss

SIZES = ((64, 512), (128, 512), (128, 4096))  # images, channels
ROUNDS = 7
SLOW = 0.3  # seconds from which fewer rounds are measured

Loss = Callable[[Tensor, Tensor], Tensor]


def losses() -> dict[str, tuple[Loss, Loss]]:
    """List ours and theirs."""
    from torchdistill.losses import mid_level

    similarity = mid_level.SPKDLoss("o", "o", "batchmean")
    # As in the paper; torchdistill 1.1.5 passes 1 as the norm where the dimension 1 is meant.
    similarity.matmul_and_normalize = lambda z: normalize(z @ z.T, p=2, dim=1)

    def of(reference: Any) -> Loss:
        return lambda x, y: reference({"o": {"output": x}}, {"o": {"output": y}})

    distances = partial(relational_loss, distance=1.0, angle=0.0)
    return {
        "RKD": (relational_loss, of(mid_level.RKDLoss("o", "o", 1.0, 2.0, "mean"))),
        "RKD, distances only": (distances, of(mid_level.RKDLoss("o", "o", 1.0, 0.0, "mean"))),
        "SPKD": (similarity_preserving_loss, of(similarity)),
        "PKT": (probabilistic_loss, of(mid_level.PKTLoss("o", "output", "o", "output"))),
    }


def value_and_gradient(loss: Loss, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Compute both."""
    value = loss(x, y)
    (gradient,) = torch.autograd.grad(value, x)
    return value.detach(), gradient


def seconds(loss: Loss, x: Tensor, y: Tensor, repeats: int) -> float:
    """Time of one value and gradient."""
    start = time.perf_counter()
    for _ in range(repeats):
        value_and_gradient(loss, x, y)
    return (time.perf_counter() - start) / repeats


def differences(ours: Loss, theirs: Loss, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Compare value and gradient."""
    x, y = x.detach().double().requires_grad_(), y.double()
    (a, b), (c, d) = value_and_gradient(ours, x, y), value_and_gradient(theirs, x, y)
    return float(abs(a / c - 1)), float((b - d).norm() / d.norm())


def in_turns(ours: Loss, theirs: Loss, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Median time of theirs, and median ratio of ours to theirs, measured in pairs whose order changes."""
    once = seconds(theirs, x, y, 1)
    repeats = max(1, round(0.03 / once))
    pairs = []
    for turn in range(3 if once > SLOW else ROUNDS):
        order = (ours, theirs) if turn % 2 else (theirs, ours)
        found = {loss: seconds(loss, x, y, repeats) for loss in order}
        pairs.append((found[theirs], found[ours]))
    return statistics.median(slow for slow, _ in pairs), statistics.median(fast / slow for slow, fast in pairs)


def main() -> None:
    """Print the table."""
    try:
        known = losses()
    except ImportError:
        print("torchdistill is not installed: nothing to compare with")
        return
    torch.set_num_threads(1)
    print("| loss | images x channels | torchdistill (ms) | ratio | difference of value | of gradient |")
    print("|---|---|---:|---:|---:|---:|")
    for name in sys.argv[1:] or known:
        ours, theirs = known[name]
        for n, n_channels in SIZES:
            torch.manual_seed(0)
            x, y = torch.randn(n, n_channels, requires_grad=True), torch.randn(n, n_channels).relu()
            of_value, of_gradient = differences(ours, theirs, x, y)
            time_theirs, ratio = in_turns(ours, theirs, x, y)
            row = f"{1e3 * time_theirs:.1f} | {ratio:.2f} | {of_value:.0e} | {of_gradient:.0e}"
            print(f"| {name} | {n} x {n_channels} | {row} |", flush=True)


if __name__ == "__main__":
    main()
