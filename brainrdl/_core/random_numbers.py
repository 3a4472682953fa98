"""Global generators of torch, NumPy and Python: seeded for a while, and restored."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed torch's generators of all devices.

    Where there is no accelerator, only the generator of the CPU is seeded: ``torch.manual_seed`` would also record its
    caller for each kind of device, which takes longer than a step of a small network.

    Parameters
    ----------
    seed : int
        The seed.

    Examples
    --------
    >>> seed_all(3)
    >>> first = torch.rand(2)
    >>> seed_all(3)
    >>> bool((torch.rand(2) == first).all())
    True
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(int(seed))


@contextmanager
def numpy_and_python_from(seed: int) -> Iterator[None]:
    """During the block, the global generators of NumPy and Python start from `seed`.

    Examples
    --------
    >>> with numpy_and_python_from(3):
    ...     first = np.random.rand()
    >>> with numpy_and_python_from(3):
    ...     print(np.random.rand() == first)
    True
    """
    before = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])
