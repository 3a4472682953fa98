"""Which conditions are in a training step, as pure functions of seed and step: a resumed run draws the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
import numpy.typing as npt
import torch

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.errors import refuse
from brainrdl.loss.pair_sampling import generator
from brainrdl.stimuli.categories import group_numbers


@dataclass(frozen=True)
class Batches:
    """Batches of condition names by step: all names in order, or random ones, each name once per epoch.

    Parameters
    ----------
    names : tuple of str
        Conditions to draw from; at least 4.
    batch_size : int, optional
        Conditions per step, at least 4; all of them by default. Conditions that are left at the end of an epoch
        are dropped; they differ between epochs.
    seed : int
        Seed of the order.
    minimum : int
        Lowest number of conditions per step: 4 for RDMs, 1 for a task.

    Raises
    ------
    BrainrdlError
        If there are fewer conditions than `minimum`, or the batch size does not lie between it and their number.

    Examples
    --------
    >>> batches = Batches(tuple("abcdefgh"), batch_size=4)
    >>> sorted(batches.at(0) + batches.at(1)) == list("abcdefgh")
    True
    >>> batches.at(5) == batches.at(5)
    True
    """

    names: tuple[str, ...]
    batch_size: int | None = None
    seed: int = 0
    minimum: int = MIN_CONDITIONS

    def __post_init__(self) -> None:
        if len(self.names) < self.minimum:
            refuse(f"training needs at least {self.minimum} conditions, got {len(self.names)}: {list(self.names)}")
        if self.batch_size is not None and not self.minimum <= self.batch_size <= len(self.names):
            refuse(
                f"batch_size must lie between {self.minimum} and the {len(self.names)} training conditions, "
                f"got {self.batch_size!r}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in which each condition (except for a remainder) occurs once."""
        return len(self.names) // (self.batch_size or len(self.names))

    def at(self, step: int) -> tuple[str, ...]:
        """Return the names of the conditions of `step`."""
        if self.batch_size is None or self.batch_size == len(self.names):
            return self.names
        epoch, position = divmod(step, self.steps_per_epoch)
        order = _order(len(self.names), self.seed, epoch)
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        return tuple(map(self.names.__getitem__, chosen.tolist()))


@lru_cache(maxsize=4)  # a new order of a million names takes as long as a step
def _order(n: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    order: npt.NDArray[np.int64] = torch.randperm(n, generator=generator(seed, epoch)).numpy()
    return order


def coverage(batches: Batches, n_steps: int) -> float:
    """Return the fraction of pairs of conditions that occur together in the first `n_steps` steps, from 0 to 1.

    Parameters
    ----------
    batches : Batches
        Conditions of each step.
    n_steps : int
        Number of steps, from the first one.

    Returns
    -------
    float

    Examples
    --------
    >>> coverage(Batches(tuple("abcdef")), 1)
    1.0
    """
    position = {name: i for i, name in enumerate(batches.names)}
    met = torch.zeros(len(position), len(position), dtype=torch.bool)
    for step in range(n_steps):
        chosen = torch.tensor([position[name] for name in batches.at(step)])
        met[chosen[:, None], chosen] = True
    n = len(position)
    return (int(met.sum()) - int(met.diagonal().sum())) / (n * (n - 1))


def split(
    names: tuple[str, ...],
    fraction: float,
    seed: int,
    groups: Mapping[str, str] | None = None,
    minimum: int = MIN_CONDITIONS,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split names at random into (kept, set aside), each in the given order.

    Parameters
    ----------
    names : tuple of str
    fraction : float
        Fraction to set aside, above 0 and below 1, rounded up to whole conditions.
    seed : int
    groups : mapping of name to group, optional
        Names of one group stay together; groups are set aside until the fraction is reached.
    minimum : int
        Lowest number of conditions in each part.

    Returns
    -------
    tuple of two tuples of str

    Raises
    ------
    BrainrdlError
        If either part would hold fewer than `minimum` conditions.

    Examples
    --------
    >>> kept, aside = split(tuple("abcdefghij"), 0.4, seed=0)
    >>> len(kept), len(aside)
    (6, 4)
    """
    n_aside = ceil(round(fraction * len(names), 9))
    if groups:
        kept, aside = _split_groups(names, n_aside, seed, groups)
        n_aside = len(aside)
    if min(n_aside, len(names) - n_aside) < minimum:
        refuse(
            f"a fraction of {fraction!r} of {len(names)} conditions leaves {len(names) - n_aside} and {n_aside}; "
            f"each part needs at least {minimum}"
        )
    if groups:
        return kept, aside
    chosen = set(torch.randperm(len(names), generator=generator(seed))[:n_aside].tolist())
    return _parted(names, chosen)


def _split_groups(
    names: tuple[str, ...], n_aside: int, seed: int, groups: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    numbers = group_numbers(names, groups)
    chosen: set[int] = set()
    for group in torch.randperm(max(numbers) + 1, generator=generator(seed)).tolist():
        if len(chosen) < n_aside:
            chosen |= {i for i, number in enumerate(numbers) if number == group}
    return _parted(names, chosen)


def _parted(names: tuple[str, ...], chosen: set[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (
        tuple(name for i, name in enumerate(names) if i not in chosen),
        tuple(name for i, name in enumerate(names) if i in chosen),
    )
