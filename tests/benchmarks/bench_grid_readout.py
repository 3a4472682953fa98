"""How long does a grid readout take beside torch's adaptive pooling? ``python tests/benchmarks/bench_grid_readout.py``.

Value and gradient of the mean in 4 x 4 cells, one thread, processor time; the shortest of several rounds in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from brainrdl.models.axes import Axes
from brainrdl.models.pooling import pool_patterns

SHAPES = ((128, 48, 8, 8), (128, 112, 8, 8), (64, 256, 16, 16), (64, 256, 14, 14), (64, 512, 7, 7))
WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "ours": lambda x: pool_patterns(x, "grid:4", Axes(1)),
    "torch": lambda x: adaptive_avg_pool2d(x, 4).flatten(1),
}


def seconds(way: Callable[[Tensor], Tensor], maps: Tensor, weights: Tensor) -> float:
    started = time.process_time()
    (way(maps) * weights).sum().backward()
    return time.process_time() - started


def main() -> None:
    torch.set_num_threads(1)
    print("| maps | memory format | ours (ms) | torch (ms) | ratio |\n|---|---|---|---|---|")
    for shape in SHAPES:
        for memory, name in ((torch.contiguous_format, "channels first"), (torch.channels_last, "channels last")):
            maps = torch.rand(shape).contiguous(memory_format=memory).requires_grad_()
            weights = torch.rand(shape[0], shape[1] * 16)
            rounds = [{way: seconds(call, maps, weights) for way, call in WAYS.items()} for _ in range(20)]
            ours, theirs = (1000 * min(one[way] for one in rounds) for way in WAYS)
            print(f"| {shape} | {name} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
