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
    active, solved = products > limit, []
    for penalty in penalties:
        solved.append(torch.zeros_like(products))
        fewest, left = len(products) + 1, _ATTEMPTS
        while True:
            places = active.nonzero()[:, 0]
            found = _solution(gram[places][:, places], products[places], float(penalty))
            gradient = products - gram[:, places] @ found
            wrong = torch.where(active, False, gradient > limit).index_put((places,), found < 0)
            n_wrong = int(wrong.sum())
            if not n_wrong:
                break
            fewest, left = (n_wrong, _ATTEMPTS) if n_wrong < fewest else (fewest, left - 1)
            if left < 0:  # exchanging all at once may go round in circles; the last one alone cannot
                wrong[: int(wrong.nonzero()[-1])] = False
            active = active ^ wrong
        solved[-1][places] = found
    return torch.stack(solved)


def _solution(gram: Tensor, products: Tensor, penalty: float) -> Tensor:
    factor = torch.linalg.cholesky(gram + penalty * torch.eye(len(gram)).to(gram))
    return torch.cholesky_solve(products[:, None], factor)[:, 0]
