"""Whitened RDMs: residuals after removing condition effects; their cosine accounts for correlated dissimilarities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl.dissimilarity.pairs import n_conditions_of, pair_indices, to_square
from brainrdl.similarity.pair_sums import centred, scaled, weighted_cosine

_OPEN = (
    1e-3  # a smaller pivot: pairs between two groups leave a difference of their effects open, but not the residuals
)


def non_negative(values: Tensor, what: str) -> Tensor:
    """Return `values`; refuse them if any is negative or not finite."""
    if not values.numel():
        return values
    low, high = torch.aminmax(values)
    if not (low >= 0 and high < torch.inf):
        refuse(f"{what} must be finite and >= 0 (0 leaves out), got values from {low.item():g} to {high.item():g}")
    return values


def whitened_cosine(
    a: Tensor, b: Tensor, weights: Tensor | None, sigma_k: Tensor | None, condition_weights: Tensor | None
) -> Tensor:
    """Cosine of two RDMs after whitening; see `brainrdl.similarity.cosine_cov`."""
    n = n_conditions_of(a.shape[-1])
    a, b = scaled(a), scaled(b)
    if sigma_k is not None and tuple(sigma_k.shape) not in {(n,), (n, n)}:
        refuse(f"sigma_k must have shape ({n},) or ({n}, {n}) for {a.shape[-1]} pairs, got {tuple(sigma_k.shape)}")
    if sigma_k is not None and sigma_k.ndim == 2:
        whiten = _matrix_whitener(sigma_k.to(a), weights, condition_weights)
        return weighted_cosine(scaled(whiten(a)), scaled(whiten(b)), None)
    spread = torch.ones(n).to(a) if sigma_k is None else _positive(sigma_k.to(a)).sqrt()
    if weights is None and condition_weights is None:
        return weighted_cosine(_residuals(a, _plain_effects(a), spread), _residuals(b, _plain_effects(b), spread), None)
    weights = torch.ones(a.shape[-1]).to(a) if weights is None else weights
    diagonal = _diagonal_weights(condition_weights, weights, n)
    effects = _effects_solver(weights, diagonal)
    batch = np.broadcast_shapes(weights.shape[:-1], diagonal.shape[:-1])
    counts = torch.cat([weights.expand(*batch, -1), diagonal.expand(*batch, -1)], -1)
    return weighted_cosine(_residuals(a, effects(a), spread), _residuals(b, effects(b), spread), counts)


def off_diagonal_cosine(a: Tensor, b: Tensor, weights: Tensor | None) -> Tensor:
    """Cosine of two RDMs without condition effects, of pairs only; see `brainrdl.similarity.cka_unbiased`."""
    n = n_conditions_of(a.shape[-1])
    i, j = pair_indices(n, a.device)
    weights = torch.ones(a.shape[-1]).to(a) if weights is None else weights
    effects = _effects_solver(weights, torch.zeros(n).to(a))

    def residuals(d: Tensor) -> Tensor:
        d = centred(d, weights)
        found = effects(d)
        left = (d - found.index_select(-1, i) - found.index_select(-1, j)) * (weights > 0)
        return scaled(left, 64 * n * torch.finfo(d.dtype).eps)  # what rounding leaves of a sum of condition effects

    return weighted_cosine(residuals(a), residuals(b), weights)


def _residuals(d: Tensor, effects: Tensor, spread: Tensor) -> Tensor:
    """Residuals of the pairs, then of the diagonal (d_ii = 0) over sqrt(2): a pair counts twice, the diagonal once."""
    i, j = pair_indices(spread.shape[-1], d.device)
    pairs = (d - effects.index_select(-1, i) - effects.index_select(-1, j)) / (spread[i] * spread[j])
    return scaled(torch.cat([pairs, -(2**0.5) * effects / spread**2], -1))


def _plain_effects(d: Tensor) -> Tensor:
    """Condition effects by least squares with equal weights: the matrix to invert is n I + 1."""
    sums, n = to_square(d).sum(-1), n_conditions_of(d.shape[-1])
    return (sums - sums.sum(-1, keepdim=True) / (2 * n)) / n


def _effects_solver(weights: Tensor, diagonal: Tensor) -> Callable[[Tensor], Tensor]:
    """Condition effects by weighted least squares; the matrix is inverted once for all RDMs."""
    square = to_square(weights)
    totals = square.sum(-1) + 2 * diagonal
    # the effect of a condition without any pairs is 0
    matrix = square + torch.diag_embed(torch.where(totals > 0, totals, 1))
    factor, failed = torch.linalg.cholesky_ex(matrix)
    pivots = factor.detach().diagonal(dim1=-2, dim2=-1)
    if not diagonal.any() and bool((failed > 0).any() or (pivots.amin(-1) < _OPEN * pivots.amax(-1)).any()):
        inverse = torch.linalg.pinv(matrix, hermitian=True)
    else:
        inverse = torch.cholesky_inverse(factor)

    def effects(d: Tensor) -> Tensor:
        solved: Tensor = torch.einsum("...ij,...j->...i", inverse, to_square(weights * d).sum(-1))
        return solved

    return effects


def _diagonal_weights(condition_weights: Tensor | None, weights: Tensor, n: int) -> Tensor:
    if condition_weights is None:
        return torch.ones(n).to(weights)
    if condition_weights.shape[-1] != n:
        refuse(f"condition_weights must have shape (..., {n}), got {tuple(condition_weights.shape)}")
    diagonal = non_negative(condition_weights, "condition_weights").to(weights)
    if torch.any((diagonal == 0) & (to_square(weights).sum(-1) > 0)):
        refuse("condition_weights are 0 for a condition whose pairs have weights; leave out its pairs too")
    return diagonal


def _positive(sigma_k: Tensor) -> Tensor:
    if not (sigma_k > 0).all():
        refuse(f"sigma_k must be variances > 0, but the smallest is {sigma_k.min().item():g}")
    return sigma_k


def _matrix_whitener(
    sigma_k: Tensor, weights: Tensor | None, condition_weights: Tensor | None
) -> Callable[[Tensor], Tensor]:
    """Whiten by a full covariance of the pattern estimates."""
    if condition_weights is not None or (weights is not None and ((weights != 0) & (weights != 1)).any()):
        refuse("with a matrix sigma_k pairs can only be left out: weights must be 0 or 1, condition_weights None")
    factor, n = _cholesky(sigma_k), sigma_k.shape[-1]
    if weights is not None and not weights.all():
        return _left_out_whitener(sigma_k, weights.reshape(-1, weights.shape[-1]) > 0)
    ones = sigma_k.new_ones(n, 1)
    precision = torch.cholesky_solve(ones, factor)
    # the condition effects that minimise the whitened residual are a centring weighted by the precision
    centring = torch.eye(n).to(sigma_k) - ones @ precision.mT / precision.sum()
    whiten = torch.linalg.solve_triangular(factor, centring, upper=False)
    return lambda d: (whiten @ to_square(d) @ whiten.mT).flatten(-2)


def _left_out_whitener(sigma_k: Tensor, keep: Tensor) -> Callable[[Tensor], Tensor]:
    """Whiten by the covariance of the remaining pairs: (c_p sigma c_q)^2 for contrasts c."""
    if (keep != keep[0]).any():
        refuse("with a matrix sigma_k all RDMs of a call must leave out the same pairs; make one call for each set")
    if not keep.any():
        return torch.zeros_like
    i, j = pair_indices(sigma_k.shape[-1], sigma_k.device)[:, keep[0]]
    contrast = sigma_k[i] - sigma_k[j]
    factor = _cholesky((contrast[:, i] - contrast[:, j]) ** 2)

    def whiten(d: Tensor) -> Tensor:
        left = d[..., keep[0]]
        rows = left.reshape(-1, left.shape[-1])
        whitened: Tensor = torch.linalg.solve_triangular(factor.mT, rows, upper=True, left=False)
        return whitened.reshape(left.shape)

    return whiten


def _cholesky(matrix: Tensor) -> Tensor:
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed.any():
        refuse("sigma_k is not positive definite; add a small value to its diagonal")
    return factor
