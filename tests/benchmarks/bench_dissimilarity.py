"""Time the dissimilarities; prints markdown tables. Option `--with-rsatoolbox` adds its correlation (half a minute).

The machine may be busy: contenders run one after the other in every round, and a table gives the median of the rounds'
ratios. A ratio within one round is fair where times of different minutes are not.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from brainrdl import dissimilarity


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleaved(functions: Mapping[str, Callable[[], object]], rounds: int, repeats: int = 1) -> dict[str, list[float]]:
    """Seconds per call, one entry per round; the order is reversed in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for turn in range(rounds):
        for name in list(functions) if turn % 2 else reversed(list(functions)):
            seconds[name].append(timed(lambda name=name: [functions[name]() for _ in range(repeats)]) / repeats)
    return seconds


def table(
    title: str, seconds: Mapping[str, list[float]], baseline: str, paired: Mapping[str, str] | None = None
) -> None:
    """Median milliseconds, and the median over rounds of the ratio to the baseline's time in the same round."""
    print(f"\n### {title}\n\n| what | median ms | ratio | to |\n|---|---:|---:|---|")
    for name, times in seconds.items():
        other = (paired or {}).get(name, baseline)
        ratio = statistics.median(a / b for a, b in zip(times, seconds[other], strict=True))
        print(f"| {name} | {1e3 * statistics.median(times):.3f} | {ratio:.2f} | {other} |")


def plain_euclidean(x: Tensor) -> Tensor:
    """What one writes without a closed-form gradient."""
    x = x - x.mean(-2, keepdim=True)
    gram = x @ x.mT
    own = gram.diagonal()
    row, column = dissimilarity.pair_indices(x.shape[-2])
    return (own[:, None] + own - 2 * gram)[row, column] / x.shape[-1]


def plain_correlation(x: Tensor) -> Tensor:
    """What one writes without a closed-form gradient."""
    x = x - x.mean(-1, keepdim=True)
    x = x / x.norm(dim=-1, keepdim=True)
    row, column = dissimilarity.pair_indices(x.shape[-2])
    return 1 - (x @ x.mT)[row, column]


def bench_large(rounds: int = 7) -> None:
    x = torch.randn(2000, 10_000)
    contenders = {
        "x @ x.T": lambda: x @ x.T,
        "euclidean": lambda: dissimilarity.euclidean(x),
        "correlation": lambda: dissimilarity.correlation(x),
    }
    table("2000 conditions x 10000 channels, float32, forward", interleaved(contenders, rounds), "x @ x.T")


def bench_mahalanobis(n_channels: int, rounds: int = 3) -> None:
    x, root = torch.randn(2000, n_channels), torch.randn(n_channels, n_channels)
    precision = root @ root.T / n_channels
    of_precision = dissimilarity.Mahalanobis(precision)
    contenders = {"x @ P @ x.T": lambda: x @ precision @ x.T, "mahalanobis": lambda: of_precision(x)}
    table(f"2000 conditions x {n_channels} channels, float32", interleaved(contenders, rounds), "x @ P @ x.T")


def bench_rsatoolbox() -> None:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    x = torch.randn(2000, 10_000)
    contenders = {
        "correlation": lambda: dissimilarity.correlation(x),
        "rsatoolbox correlation": lambda: calc_rdm(Dataset(x.numpy()), method="correlation"),
    }
    for function in contenders.values():
        timed(function)
    seconds = {name: [timed(function)] for name, function in contenders.items()}
    table("Beside rsatoolbox, 2000 x 10000 (one round)", seconds, "correlation")


def bench_training(n_conditions: int, n_channels: int, rounds: int, repeats: int) -> None:
    x = torch.randn(n_conditions, n_channels, requires_grad=True)
    weights = torch.randn(n_conditions * (n_conditions - 1) // 2)

    def step(function: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(function(x), x, weights)

    contenders = {
        "euclidean, plain autograd": step(plain_euclidean),
        "euclidean": step(dissimilarity.euclidean),
        "correlation, plain autograd": step(plain_correlation),
        "correlation": step(dissimilarity.correlation),
    }
    paired = {name: f"{name.split(',')[0]}, plain autograd" for name in contenders}
    title = f"{n_conditions} conditions x {n_channels} channels, float32, forward and backward"
    table(title, interleaved(contenders, rounds, repeats), "", paired)


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    bench_large()
    bench_mahalanobis(4000)
    if "--with-rsatoolbox" in sys.argv:
        bench_rsatoolbox()
    torch.set_num_threads(1)
    print("\nWith one thread:")
    bench_training(100, 200, rounds=51, repeats=20)
    bench_training(128, 16_384, rounds=21, repeats=2)


if __name__ == "__main__":
    main()
