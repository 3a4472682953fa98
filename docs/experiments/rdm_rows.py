"""A CSV table to which a run adds one row per fit, so that an interrupted run continues where it stopped.

Each row has keys (what was fitted), numbers, and the RDM of the held-out stimuli: dissimilarities of all pairs with four
decimals, separated by spaces.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor


class Rows:
    """The rows of one file."""

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self.path, self.keys = path, tuple(keys)
        self._done = {self._key(row) for row in self.read().to_dict("records")} if path.exists() else set()

    def read(self) -> pd.DataFrame:
        """All rows, keys as text."""
        return pd.read_csv(self.path, dtype=dict.fromkeys([*self.keys, "pairs"], str), keep_default_na=False)

    def has(self, **keys: Any) -> bool:
        """Whether there is a row with these keys."""
        return self._key(keys) in self._done

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row; all rows of a file have the same columns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerow(row)
        self._done.add(self._key(row))

    def _key(self, row: Mapping[Any, Any]) -> tuple[str, ...]:
        return tuple(str(row[key]) for key in self.keys)


def as_text(pairs: Tensor) -> str:
    """Four decimals, of a scale that RDMs of correlation distances have."""
    return " ".join(f"{value:.4f}" for value in pairs.tolist())


def from_text(text: str) -> Tensor:
    """Read what `as_text` wrote."""
    return torch.tensor([float(value) for value in text.split()], dtype=torch.float64)
