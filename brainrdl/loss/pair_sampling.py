"""Random pairs of conditions, as a pure function of seed and step."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from brainrdl._core.errors import refuse


def generator(*entropy: int) -> torch.Generator:
    mixed = 0
    for number in entropy:
        mixed = (mixed * 1_000_003 + int(number) + 1) % (2**63)
    return torch.Generator().manual_seed(mixed)


def random_pairs(n_all: int, n_pairs: int, seed: int, step: int) -> Int[Tensor, " n_pairs"]:
    """Positions of `n_pairs` different pairs among `n_all`, drawn by (seed, step).

    Parameters
    ----------
    n_all, n_pairs : int
        Number of pairs there are, and to draw; all when `n_pairs` is not smaller.
    seed, step : int
        What the draw depends on.

    Returns
    -------
    Tensor (n_pairs,), int64

    Raises
    ------
    BrainrdlError
        If fewer than 2 pairs are asked for.

    Examples
    --------
    >>> random_pairs(45, 10, seed=0, step=3).unique().numel()
    10
    """
    if n_pairs < 2:
        refuse(f"n_pairs must be at least 2, got {n_pairs!r}")
    return torch.randperm(n_all, generator=generator(seed, step))[:n_pairs]
