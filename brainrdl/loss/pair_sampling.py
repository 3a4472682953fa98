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
    """Draw the positions of `n_pairs` different pairs among `n_all`; the result depends only on (seed, step).

    Parameters
    ----------
    n_all : int
        Number of all pairs.
    n_pairs : int
        Number of pairs to draw, at least 2; all pairs are returned if there are not more.
    seed, step : int
        Seed of the training run and step of training.

    Returns
    -------
    Tensor (n_pairs,), int64
        In random order.

    Raises
    ------
    BrainrdlError
        If `n_pairs` is below 2.

    Examples
    --------
    >>> random_pairs(45, 10, seed=0, step=3).unique().numel()
    10
    """
    if n_pairs < 2:
        refuse(f"n_pairs must be at least 2, got {n_pairs!r}")
    return torch.randperm(n_all, generator=generator(seed, step))[:n_pairs]
