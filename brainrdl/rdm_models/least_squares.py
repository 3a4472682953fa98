"""Ridge and non-negative least squares from the correlations of the regressors, for several penalties."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_SETTLED = 1e-10  # a gradient below this share of the largest at 0 is a rounding error

_ATTEMPTS = 3  # exchanges of several regressors at once that may not reduce the number of wrong ones


def ridge(
    gram: Float[Tensor, "k k"], products: Float[Tensor, "*targets k"], penalties: Sequence[float]
) -> Float[Tensor, "n_penalties *targets k"]:
    """Minimise ``v @ gram @ v / 2 - products @ v + penalty * v @ v / 2`` for each penalty, by one eigendecomposition.

    Parameters
    ----------
    gram : Tensor (k, k)
        Products of regressors; of low rank if a penalty is above 0.
    products : Tensor (..., k)
        Products of the regressors with each target.
    penalties : sequence of float
        Each at least 0; with 0, directions without variance get 0 (the solution of least norm).

    Returns
    -------
    Tensor (n_penalties, ..., k)

    Examples
    --------
    >>> ridge(2 * torch.eye(2), torch.tensor([2.0, 4.0]), [0.0, 2.0]).tolist()
    [[1.0, 2.0], [0.5, 1.0]]
    """
    values, vectors = torch.linalg.eigh(gram)
    floor = values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    values = torch.where(values > floor, values, 0.0)
    turned = products @ vectors
    solved = [torch.where(values + p > 0, turned / (values + p).clamp(min=floor), 0.0) for p in map(float, penalties)]
    return torch.stack(solved) @ vectors.mT


def nonnegative_ridge(
    gram: Float[Tensor, "k k"], products: Float[Tensor, " k"], penalties: Sequence[float]
) -> Float[Tensor, "n_penalties k"]:
    """Minimise the same as `ridge` under ``v >= 0``, by block principal pivoting from one penalty to the next.

    Parameters
    ----------
    gram, products
        As in `ridge`, for one target.
    penalties : sequence of float
        Each above 0, unless the regressors are linearly independent; quickest from the largest to the smallest.

    References
    ----------
    Kim & Park (2011), SIAM Journal on Scientific Computing 33:3261-3281, doi 10.1137/110821172.

    Examples
    --------
    >>> nonnegative_ridge(torch.eye(2), torch.tensor([1.0, -1.0]), [1.0, 0.0]).tolist()
    [[0.5, 0.0], [1.0, 0.0]]
    """
    limit = _SETTLED * float(products.abs().max())
    start, solved = products > limit, [torch.zeros_like(products)]
    for penalty in map(float, penalties):
        found = _exchanged(gram, products, penalty, start, limit)
        solved.append(_one_by_one(gram, products, penalty, solved[-1], limit) if found is None else found)
        start = solved[-1] > 0
    return torch.stack(solved[1:])


def _exchanged(gram: Tensor, products: Tensor, penalty: float, active: Tensor, limit: float) -> Tensor | None:
    """Exchange all wrong regressors at once until none is wrong; None if that goes round in circles."""
    fewest, left = len(products) + 1, _ATTEMPTS
    while left >= 0:
        found = _solution(gram, products, penalty, active)
        gradient = products - gram @ found
        wrong = torch.where(active, found < 0, gradient > limit)
        n_wrong = int(wrong.sum())
        if not n_wrong:
            return found
        fewest, left = (n_wrong, _ATTEMPTS) if n_wrong < fewest else (fewest, left - 1)
        active = active ^ wrong
    return None


def _one_by_one(gram: Tensor, products: Tensor, penalty: float, weights: Tensor, limit: float) -> Tensor:
    """Add the regressor with the largest gradient, one at a time, to a solution that is not negative.

    The error becomes smaller with each step, so this cannot go round in circles (Lawson & Hanson 1974, chapter 23).
    """
    active, settled = weights > 0, torch.zeros_like(weights, dtype=torch.bool)
    while True:
        weights, active = _inside(gram, products, penalty, weights, active)
        gradient = torch.where(active | settled, 0.0, products - gram @ weights)
        place = gradient.argmax()
        if gradient[place] <= limit:
            return weights
        active[place] = True
        settled[place] = bool(_solution(gram, products, penalty, active)[place] <= 0)  # a rounding error
        active = active & ~settled


def _inside(gram: Tensor, products: Tensor, penalty: float, weights: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """Go from `weights` towards the solution of the active regressors; one that would become negative is left out."""
    while True:
        found = _solution(gram, products, penalty, active)
        below = active & (found <= 0)
        if not below.any():
            return found, active
        share = torch.where(below, weights / (weights - found), torch.inf)
        active = active & (share > share.min())
        weights = torch.where(active, weights + share.min() * (found - weights), 0.0)


def _solution(gram: Tensor, products: Tensor, penalty: float, active: Tensor) -> Tensor:
    """Return the weights of the active regressors, and 0 for the others."""
    places = active.nonzero()[:, 0]
    factor = torch.linalg.cholesky(gram[places][:, places] + penalty * torch.eye(len(places)).to(gram))
    found = torch.cholesky_solve(products[places, None], factor)[:, 0]
    return torch.zeros_like(products).index_put((places,), found)
