"""Squared differences of single channels, for all pairs of conditions, without a table of pairs x channels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from brainrdl.dissimilarity.pairs import pair_indices, to_square
from brainrdl.dissimilarity.products import pair_products

_BLOCK = 2**24  # numbers of the table of pairs x channels that are in memory at once

_CONSTANT = 1e-12  # a variance below this share of the mean square is a rounding error


class ChannelDistances:
    """The regressors of feature reweighting: ``(x_ic - x_jc) ** 2`` for each channel c, over pairs i < j.

    Regressors are centred over the known pairs and, if `standardise`, divided by their standard deviation; otherwise,
    all are divided by the same number.

    Parameters
    ----------
    patterns : Tensor (n_conditions, n_channels)
    known : Tensor of bool (n_pairs,), optional
        Pairs to use; by default all.
    standardise : bool

    Attributes
    ----------
    scale : Tensor (n_channels,)
        What each regressor is multiplied by; 0 for a channel that is the same distance for all pairs.

    Notes
    -----
    With centred patterns and all pairs known, sums over pairs of products of two regressors follow from the n x n and
    channel x channel Gram matrices: ``sum_ij (x_i - x_j)^2 (y_i - y_j)^2 / 2 = n x^2.y^2 + |x|^2 |y|^2 + 2 (x.y)^2``.

    Examples
    --------
    >>> patterns = torch.tensor([[0.0, 1.0], [1.0, 1.0], [3.0, 0.0]], dtype=torch.float64)
    >>> ChannelDistances(patterns).distances(torch.tensor([1.0, 0.0])).round(decimals=6).tolist()
    [1.0, 9.0, 4.0]
    """

    def __init__(
        self, patterns: Float[Tensor, "n c"], known: Bool[Tensor, " n_pairs"] | None = None, standardise: bool = True
    ) -> None:
        self.patterns = (patterns - patterns.mean(0)).double()
        n = len(patterns)
        self.known = torch.ones(n * (n - 1) // 2, dtype=torch.bool) if known is None else known
        self.all_known = bool(self.known.all())
        self.n_pairs = int(self.known.sum())
        self.means = self._sums(self.known.double()) / self.n_pairs
        squares = self._sums_of_squares() / self.n_pairs
        variances = squares - self.means.square()
        useful = variances > _CONSTANT * squares
        spread = variances.sqrt() if standardise else variances[useful].mean().sqrt().expand_as(variances)
        self.scale = torch.where(useful, 1 / spread, 0.0)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self.patterns.shape[1]

    def distances(self, weights: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch n_pairs"]:
        """Sum squared differences over channels with weights, which may be negative."""
        return pair_products(self.patterns, self.patterns * weights[..., None, :], 1.0)

    def fitted(self, coefficients: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch n_pairs"]:
        """Combine the centred and scaled regressors; 0 for unknown pairs."""
        weights = coefficients * self.scale
        return (self.distances(weights) - (weights @ self.means)[..., None]) * self.known

    def products(self, pairs: Float[Tensor, "*batch n_pairs"]) -> Float[Tensor, "*batch c"]:
        """Mean product over known pairs of each centred and scaled regressor with `pairs`, whose mean is 0."""
        return self._sums(pairs * self.known) * self.scale / self.n_pairs

    def gram(self, channels: Int[Tensor, " k"] | None = None) -> Float[Tensor, "k k"]:
        """Correlations (covariances, if not standardised) between regressors."""
        chosen = torch.arange(self.n_channels) if channels is None else channels
        x, means, scale = self.patterns[:, chosen], self.means[chosen], self.scale[chosen]
        if self.all_known:
            own = x.square()
            lengths = own.sum(0)
            sums = len(x) * (own.T @ own) + lengths[:, None] * lengths + 2 * (x.T @ x).square()
        else:
            sums = self._gram_in_blocks(x)
        return (sums / self.n_pairs - means[:, None] * means) * scale[:, None] * scale

    def gram_of_pairs(self) -> Float[Tensor, "n_known n_known"]:
        """Sum over channels of products of centred and scaled regressors, for all known pairs."""
        i, j = pair_indices(len(self.patterns))[:, self.known]
        total = self.patterns.new_zeros(self.n_pairs, self.n_pairs)
        for channels in torch.arange(self.n_channels).split(max(1, _BLOCK // self.n_pairs)):
            x = self.patterns[:, channels]
            table = ((x[i] - x[j]).square() - self.means[channels]) * self.scale[channels]
            total.addmm_(table, table.T)
        return total

    def _gram_in_blocks(self, x: Tensor) -> Tensor:
        """Sum over known pairs of products of squared differences."""
        i, j = pair_indices(len(x))[:, self.known]
        total = x.new_zeros(x.shape[1], x.shape[1])
        for a, b in _in_blocks(i, j, max(1, _BLOCK // x.shape[1])):
            table = (x[a] - x[b]).square()
            total.addmm_(table.T, table)
        return total

    def _sums(self, pairs: Tensor) -> Tensor:
        """Sum over pairs of each channel's squared difference times a number for each pair."""
        square = to_square(pairs)
        return square.sum(-1) @ self.patterns.square() - ((square @ self.patterns) * self.patterns).sum(-2)

    def _sums_of_squares(self) -> Tensor:
        """Sum over known pairs of each channel's fourth power of the difference."""
        square, x = to_square(self.known.double()), self.patterns
        ends = square.sum(-1) @ x**4 - 4 * (x**3 * (square @ x)).sum(0)
        return ends + 3 * (x.square() * (square @ x.square())).sum(0)


def _in_blocks(i: Tensor, j: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(i.split(size), j.split(size), strict=True)
