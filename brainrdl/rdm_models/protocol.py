"""What a model with parameters is: something that is fitted to RDMs and predicts the RDM of other conditions.

- ``fit(rdms, names)`` receives RDMs ``(n_subjects, n_pairs)`` of one target, float64 with NaN for unknown pairs, and
  the names of the conditions. It returns a fitted model and does not change itself.
- ``predict(names)`` of the fitted model returns the dissimilarities of `names`, in their order, float64.
- ``parameters`` of the fitted model are its numbers by name, for tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class FittedModel(Protocol):
    """A model whose parameters are known."""

    @property
    def parameters(self) -> Mapping[str, float]:
        """The fitted numbers by name."""

    def predict(self, names: Sequence[str]) -> Float[Tensor, " n_pairs"]:
        """Return the dissimilarities of `names`, in row-major upper-triangle order."""


@runtime_checkable
class RDMModel(Protocol):
    """A model that can be fitted."""

    def fit(self, rdms: Float[Tensor, "n_subjects n_pairs"], names: Sequence[str]) -> FittedModel:
        """Fit the parameters to the RDMs of these conditions."""
