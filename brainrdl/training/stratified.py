"""Batches that contain conditions of each stratum, for example of each brain of a `JointTeacher`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.errors import refuse
from brainrdl.loss.pair_sampling import generator


@dataclass(frozen=True, eq=False)
class StratifiedBatches:
    """Batches of condition names by step, with the share of each stratum that it has of all conditions, at least 4.

    Without strata, pairs within a small stratum are rare: with 92 conditions among 1,000, a random batch of 32 has 3.

    Parameters
    ----------
    strata : mapping of label to sequence of str
        Conditions of each stratum, at least 4; a condition in several of them is drawn with the first.
    batch_size : int
        Conditions per step.
    seed : int
        Seed of the order.

    Raises
    ------
    BrainrdlError
        If a stratum or its share of a batch has fewer than 4 conditions.

    Examples
    --------
    >>> batches = StratifiedBatches({"human": [f"h{i}" for i in range(12)], "monkey": [f"m{i}" for i in range(36)]}, 16)
    >>> sum(name.startswith("h") for name in batches.at(7)), len(batches.at(7)), batches.at(7) == batches.at(7)
    (4, 16, True)
    """

    strata: Mapping[str, Sequence[str]]
    batch_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        for label, names in self._own.items():
            if len(names) < MIN_CONDITIONS:
                refuse(f"stratum {label!r} has {len(names)} conditions of its own, but needs at least {MIN_CONDITIONS}")
        if self.batch_size > len(self.names) or self.batch_size < MIN_CONDITIONS * len(self._own):
            refuse(
                f"batch_size must lie between {MIN_CONDITIONS * len(self._own)} ({MIN_CONDITIONS} conditions of each "
                f"of {len(self._own)} strata) and the {len(self.names)} conditions, got {self.batch_size!r}"
            )

    @cached_property
    def _own(self) -> dict[str, tuple[str, ...]]:
        """Return the conditions of each stratum that are in none before it."""
        seen: set[str] = set()
        own: dict[str, tuple[str, ...]] = {}
        for label, names in self.strata.items():
            own[label] = tuple(name for name in dict.fromkeys(names) if name not in seen)
            seen.update(own[label])
        return {label: names for label, names in own.items() if names}

    @property
    def names(self) -> tuple[str, ...]:
        """All conditions."""
        return tuple(name for names in self._own.values() for name in names)

    @cached_property
    def shares(self) -> dict[str, int]:
        """Number of conditions of each stratum in a batch."""
        n = len(self.names)
        shares = {label: max(MIN_CONDITIONS, len(names) * self.batch_size // n) for label, names in self._own.items()}
        # What rounding left over goes to the strata with the fewest conditions in a batch relative to their number.
        while (left := self.batch_size - sum(shares.values())) != 0:
            room = [label for label in shares if left > 0 or shares[label] > MIN_CONDITIONS]
            lack = {label: len(self._own[label]) * self.batch_size / n - shares[label] for label in room}
            label = max(lack, key=lack.__getitem__) if left > 0 else min(lack, key=lack.__getitem__)
            shares[label] += 1 if left > 0 else -1
        return shares

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in which each condition of the largest stratum (except for a remainder) occurs once."""
        return max(len(names) // self.shares[label] for label, names in self._own.items())

    def at(self, step: int) -> tuple[str, ...]:
        """Return the names of the conditions of `step`; within a stratum, each occurs once before any occurs again."""
        return tuple(name for place in range(len(self._own)) for name in self._of_stratum(place, step))

    def _of_stratum(self, place: int, step: int) -> list[str]:
        label, names = list(self._own.items())[place]
        share = self.shares[label]
        epoch, position = divmod(step, max(len(names) // share, 1))
        order = torch.randperm(len(names), generator=generator(self.seed, epoch, place))
        return [names[i] for i in order[position * share : (position + 1) * share].tolist()]
