"""Choose the number of threads for the work: small products are slower on several threads, especially on busy cores.

Threads that wait for one another at the end of each operation lose time when another process uses their core
(docs/benchmarks.md). The number of threads depends only on the size of the work, not on a measured time, so that a
repeated or resumed run on the same machine gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

PER_THREAD = (
    5e7  # floating-point operations that justify one more thread; measured by tests/benchmarks/bench_threads.py
)


@contextmanager
def threads_for(flops: float) -> Iterator[int]:
    """Let torch use as many threads as `flops` justify, but not more than before; restore the number at the end.

    Parameters
    ----------
    flops : float
        Floating-point operations of one piece of work, for example a training step.

    Yields
    ------
    int
        The number of threads.

    Examples
    --------
    >>> with threads_for(1e6) as n_threads:
    ...     n_threads
    1
    """
    allowed = torch.get_num_threads()
    n_threads = int(min(allowed, max(1.0, flops / PER_THREAD)))
    torch.set_num_threads(n_threads)
    try:
        yield n_threads
    finally:
        torch.set_num_threads(allowed)


def count_flops(work: Callable[[], object]) -> float:
    """Count the floating-point operations of matrix products and convolutions in `work`, which is run twice.

    The first run is not counted: the first pass through a layer also tests its rows.

    Neither gradients nor torch's random state change. Infinity for work that cannot be counted (scripted
    networks), which then keeps all threads.

    Examples
    --------
    >>> count_flops(lambda: torch.zeros(2, 3) @ torch.zeros(3, 4))
    48
    """
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            work()
            with FlopCounterMode(display=False) as counter:
                work()
    except Exception:  # forward may fail only when it is traced; if it fails always, training reports it
        return float("inf")
    return counter.get_total_flops()
