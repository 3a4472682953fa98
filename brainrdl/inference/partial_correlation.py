"""Correlation of RDMs beyond what other RDMs explain."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_option, refuse
from brainrdl.similarity.pair_sums import dot, ratio, squares_of
from brainrdl.similarity.registry import SIMILARITIES

Scale = Callable[[Tensor, Tensor | None], Tensor]

_EXPLAINED = 1e-10  # of an RDM's variance: a smaller residual is a rounding error

_DEPENDENT = 1e-15  # of the variance of a given RDM: if the others leave less of it, it adds nothing to them

_UNSURE = 1e-12  # if they leave less than this, the pseudo-inverse decides, as for RDMs with weights

_ROUNDING = 8 * float(np.finfo(float).eps)  # as in `brainrdl.similarity.pair_sums.centred`

_SAFE = (1e-150, 1e150)  # sums of squares whose products neither vanish nor overflow


def partial(
    a: Float[Tensor, "*batch n_pairs"],
    b: Float[Tensor, "*batch n_pairs"],
    given: Float[Tensor, "n_given n_pairs"],
    comparator: str = "spearman",
    weights: Float[Tensor, "*batch n_pairs"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Partial correlation of two RDMs given others, from -1 to 1; of ranks for "spearman".

    Parameters
    ----------
    a, b : Tensor (..., n_pairs)
        Dissimilarities to compare; NaN pairs are left out.
    given : Tensor (n_given, n_pairs)
        Dissimilarities to control for.
    comparator : {"spearman", "corr"}
        Correlation of ranks or of values.
    weights : Tensor (..., n_pairs), optional
        Weights of the pairs, at least 0; a whole number counts as repetitions.

    Returns
    -------
    Tensor (...)
        Partial correlation; NaN, because it is undefined, if the given RDMs explain `a` or `b` completely or one of
        them is constant.

    Raises
    ------
    BrainrdlError
        If the comparator has no partial form, or `given` is not a matrix.

    Examples
    --------
    >>> a = torch.tensor([1.0, 2.0, 3.0, 5.0, 4.0, 6.0])
    >>> b = torch.tensor([2.0, 1.0, 3.0, 6.0, 4.0, 5.0])
    >>> z = torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]])
    >>> partial(a, b, z, "corr")
    tensor(0.5000, dtype=torch.float64)
    """
    scale = _scale_of(comparator)
    if given.ndim != 2:
        refuse(f"given should be (n_given, n_pairs), got a tensor {tuple(given.shape)}; one RDM is given[None]")
    if weights is None and a.ndim == b.ndim == 1 and not any(x.requires_grad for x in (a, b, given)):
        alone = _of_one_pair(a, b, given, None if comparator == "corr" else scale)
        if alone is not None:
            return torch.tensor(alone, dtype=torch.float64, device=a.device)
    a, b, given = a.double(), b.double(), given.double()
    if weights is None and not bool((a.sum() + b.sum() + given.sum()).isnan()):
        return _unweighted(scale(a, None), scale(b, None), scale(given, None))
    weights = torch.ones(a.shape[-1], dtype=torch.float64) if weights is None else weights.double()
    unknown = a.isnan() | b.isnan() | given.isnan().any(0)
    if unknown.any():
        weights = weights * ~unknown
    a, b = scale(a.nan_to_num(), weights), scale(b.nan_to_num(), weights)
    models = scale(given.nan_to_num(), weights[..., None, :])
    inverse = torch.linalg.pinv(torch.einsum("...ip,...p,...jp->...ij", models, weights, models), hermitian=True)
    from_a, from_b = (torch.einsum("...ip,...p->...i", models, weights * x) for x in (a, b))

    def left(x: Tensor, from_x: Tensor, y: Tensor, from_y: Tensor) -> Tensor:
        """Sum of products of the residuals of x and y."""
        return dot(weights, x * y) - torch.einsum("...i,...ij,...j->...", from_x, inverse, from_y)

    of_a, of_b = left(a, from_a, a, from_a), left(b, from_b, b, from_b)
    ok = (of_a > _EXPLAINED * dot(weights, a * a)) & (of_b > _EXPLAINED * dot(weights, b * b))
    return torch.where(ok, ratio(left(a, from_a, b, from_b), of_a, of_b, ok), torch.nan)


def _scale_of(comparator: str) -> Scale:
    if comparator in SIMILARITIES and (scale := SIMILARITIES[comparator].partial_scale):
        return scale
    known = {name: similarity.partial_scale for name, similarity in SIMILARITIES.items() if similarity.partial_scale}
    return known[check_option(comparator, known, "comparator of a partial correlation")]


def _unweighted(a: Tensor, b: Tensor, models: Tensor) -> Tensor:
    """Partial correlation of centred RDMs without weights: the same sums, without copies of the models."""
    inverse = torch.linalg.pinv(models @ models.mT, hermitian=True)
    from_a, from_b = (x @ models.mT for x in (a, b))

    def left(x: Tensor, from_x: Tensor, y: Tensor, from_y: Tensor) -> Tensor:
        return dot(x, y) - dot(from_x @ inverse, from_y)

    of_a, of_b = squares_of(a) - dot(from_a @ inverse, from_a), squares_of(b) - dot(from_b @ inverse, from_b)
    ok = (of_a > _EXPLAINED * squares_of(a)) & (of_b > _EXPLAINED * squares_of(b))
    return torch.where(ok, ratio(left(a, from_a, b, from_b), of_a, of_b, ok), torch.nan)


def _of_one_pair(a: Tensor, b: Tensor, given: Tensor, scale: Scale | None) -> float | None:
    """Correlate two RDMs given others, from one matrix of products; None where that is not exact enough.

    That is if one is constant or extreme or has NaN, or if the given RDMs are nearly dependent.

    The many small operations of torch would need most of the time.
    """
    rows = np.concatenate([x.double().cpu().numpy().reshape(-1, x.shape[-1]) for x in (a, b, given)])
    means = rows.mean(1, keepdims=True)
    if not np.isfinite(means).all():
        return None
    if scale is None:
        rows -= means
    else:
        rows, means = scale(torch.from_numpy(rows), None).numpy(), np.zeros_like(means)
    products = rows @ rows.T
    own = products.diagonal().tolist()
    least = ((_ROUNDING * mean) ** 2 * rows.shape[1] for mean in means[:, 0].tolist())
    if min(own) < _SAFE[0] or max(own) > _SAFE[1] or any(map(float.__le__, own, least)):
        return None
    left = _without_given(products)
    if left is None:
        return None
    (of_a, shared), (_, of_b) = left[:2, :2].tolist()
    ok = of_a > _EXPLAINED * own[0] and of_b > _EXPLAINED * own[1]
    return shared / math.sqrt(of_a) / math.sqrt(of_b) if ok else math.nan


def _without_given(products: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Remove the given RDMs, third and later, from products of all, beginning with what the others explain least.

    None if it is unsure whether one of them follows from the others.
    """
    own = products.diagonal()[2:]
    for _ in range(2, len(products)):
        spare = products.diagonal()[2:] / own
        k = 2 + int(spare.argmax())
        if spare[k - 2] <= _DEPENDENT:
            break
        if spare[k - 2] < _UNSURE:
            return None
        products = products - np.outer(products[k], products[k] / products[k, k])
    return products
