"""How alike are two RDMs? Comparators in rsatoolbox's names and conventions, batched, on any device.

A comparator is a callable ``(a, b, weights=None) -> similarity`` with an attribute ``differentiable``; higher is more
alike.

- `a` and `b` are ``(..., n_pairs)``; leading dimensions broadcast, the last never does: scores have the leading ones.
- NaN in either RDM leaves that pair out. `weights` ``(..., n_pairs)`` are non-negative: 0 leaves a pair out too, an
  integer k counts it k times (whitened comparators: see `cosine_cov`). A thousand resamples are one call.
- A constant RDM (for `cosine`, an all-zero one), or no pair left, scores 0, and every gradient is finite.
- The maths runs outside autocast in float32 or better: half precision comes back as float32, float64 stays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_option, refuse
from brainrdl._core.tensor_checks import check_ndim, check_same_length
from brainrdl.similarity.pair_sums import PlainCorrelation, centred, dot, scaled, weighted_corr, weighted_cosine
from brainrdl.similarity.ranks import centred_ranks, concordance, in_blocks, soft_centred_ranks
from brainrdl.similarity.registry import SIMILARITIES as SIMILARITIES
from brainrdl.similarity.whitening import non_negative, whitened_cosine

P = ParamSpec("P")

Pairs = Float[Tensor, "*#batch n_pairs"]

Scores = Float[Tensor, "..."]


@runtime_checkable
class Similarity(Protocol):
    """What the package asks of a comparator: see the list at the top of this module."""

    differentiable: bool

    def __call__(self, a: Tensor, b: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the similarity of `a` and `b`, leading dimensions broadcast."""


@runtime_checkable
class _Comparator(Protocol[P]):
    differentiable: bool

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor: ...


def _comparator(*, differentiable: bool) -> Callable[[Callable[P, Tensor]], _Comparator[P]]:
    """Give the function below NaN-free floats outside autocast, and the attribute `differentiable`."""

    def decorate(core: Callable[P, Tensor]) -> _Comparator[P]:
        @functools.wraps(core)
        def compare(a: Tensor, b: Tensor, weights: Tensor | None = None, **options: object) -> Tensor:
            with torch.autocast(a.device.type, enabled=False):
                return cast(Callable[..., Tensor], core)(*_prepare(a, b, weights), **options)

        compare.differentiable = differentiable  # type: ignore[attr-defined]
        return cast(_Comparator[P], compare)

    return decorate


def _prepare(a: Tensor, b: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check shapes, promote to float32 or better, and turn NaN into a finite value of weight 0."""
    for rdm in (a, b):
        check_ndim(rdm, 1, "an RDM to compare", "(..., n_pairs)")
    check_same_length(a, b, "two RDMs to compare")
    if a.shape[-1] == 0:
        refuse(f"RDMs to compare must have at least one pair, got shapes {tuple(a.shape)} and {tuple(b.shape)}")
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    a, b = a.to(dtype), b.to(dtype)
    if weights is not None:
        check_same_length(a, weights, "RDMs and pair weights")
        weights = non_negative(weights, "pair weights").to(a)
    if not torch.isnan(a.sum() + b.sum()):  # two sums cost less than a mask; Inf - Inf only takes the longer way
        return a, b, weights
    nan_a, nan_b = a.isnan(), b.isnan()
    keep = ~(nan_a | nan_b)
    # fill before any arithmetic: a NaN that is masked afterwards still has a NaN gradient
    filled = a.masked_fill(nan_a, 0), b.masked_fill(nan_b, 0)
    return *filled, keep.to(dtype) if weights is None else weights * keep


# Cosine and correlation


@_comparator(differentiable=True)
def cosine(a: Pairs, b: Pairs, weights: Pairs | None = None) -> Scores:
    """Cosine of the angle between two RDMs, in [-1, 1]: for ratio-scale dissimilarities such as crossnobis.

    Parameters
    ----------
    a, b
        RDMs ``(..., n_pairs)``, any unit; NaN = pair left out.
    weights
        Pair weights ``(..., n_pairs)``, >= 0; None = 1.

    Returns
    -------
    Tensor
        Similarity ``(...)``.

    Raises
    ------
    BrainrdlError
        If the numbers of pairs differ or are 0, or a weight is negative or not finite.

    Examples
    --------
    >>> cosine(torch.tensor([3.0, 4.0, 0.0]), torch.tensor([4.0, 3.0, 0.0]))
    tensor(0.9600)
    """
    return weighted_cosine(scaled(a), scaled(b), weights)


@_comparator(differentiable=True)
def corr(a: Pairs, b: Pairs, weights: Pairs | None = None) -> Scores:
    """Pearson correlation of two RDMs, in [-1, 1]: linear, blind to offset and scale. Parameters as in `cosine`.

    Examples
    --------
    >>> corr(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([7.0, 9.0, 8.0]))
    tensor(0.5000)
    """
    if weights is None:
        return cast(Tensor, PlainCorrelation.apply(a, b))
    return weighted_corr(a, b, weights)


# Rank comparators


def _counts_total(a: Tensor, weights: Tensor | None, name: str) -> Tensor:
    """Return the number of pairs, counted by `weights`; refuse weights that cannot be counts."""
    if weights is None:
        return a.new_tensor(a.shape[-1])
    total = weights.sum(-1)
    if torch.any((total <= 1) & (weights.count_nonzero(-1) > 1)):
        refuse(f"{name} reads weights as counts of pairs, got a total of {total.min().item():g}; do not normalise them")
    return total


@_comparator(differentiable=False)
def spearman(a: Pairs, b: Pairs, weights: Pairs | None = None) -> Scores:
    """Spearman rank correlation of two RDMs, in [-1, 1]; ties share their midrank. Parameters as in `cosine`.

    Examples
    --------
    >>> spearman(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.1, 0.3, 0.2]))
    tensor(0.5000)
    """
    return in_blocks(_rank_corr, a, b, weights)


def _rank_corr(a: Tensor, b: Tensor, weights: Tensor | None) -> Tensor:
    return weighted_cosine(centred_ranks(a, weights), centred_ranks(b, weights), weights)


@_comparator(differentiable=False)
def rho_a(a: Pairs, b: Pairs, weights: Pairs | None = None) -> Scores:
    """Spearman correlation expected when ties are broken at random, in [-1, 1]. Parameters as in `cosine`.

    Weights are counts of pairs: unlike elsewhere their scale matters, and normalised weights are refused.

    References
    ----------
    Schuett et al. 2023, eLife 12:e82566, doi 10.7554/eLife.82566

    Examples
    --------
    >>> rho_a(torch.tensor([1.0, 1.0, 9.0]), torch.tensor([0.1, 0.2, 0.3]))
    tensor(0.7500)
    """
    return in_blocks(_rho_a, a, b, weights)


def _rho_a(a: Tensor, b: Tensor, weights: Tensor | None) -> Tensor:
    total = _counts_total(a, weights, "rho-a")
    ranks_a, ranks_b = (centred_ranks(x, weights) / total.clamp_min(1)[..., None] for x in (a, b))
    products = dot(ranks_a, ranks_b) if weights is None else dot(weights, ranks_a * ranks_b)
    return _per_count(3 * products, total - 1 / total, total)


def _per_count(value: Tensor, normaliser: Tensor, total: Tensor) -> Tensor:
    return torch.where(total > 1, value / torch.where(total > 1, normaliser, 1), 0)


@_comparator(differentiable=False)
def tau_a(a: Pairs, b: Pairs, weights: Pairs | None = None) -> Scores:
    """Kendall's tau-a of two RDMs, in [-1, 1]: concordant minus discordant over all pairs of pairs.

    Parameters as in `cosine`. Weights are counts of pairs: their scale matters, and normalised weights are refused.

    Notes
    -----
    Time O(n_pairs log n_pairs) and memory O(n_pairs) for each comparison. The sorts are shared by all weights.

    Examples
    --------
    >>> tau_a(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.1, 0.3, 0.2]))
    tensor(0.3333)
    """
    return in_blocks(_tau_a, a, b, weights)


def _tau_a(a: Tensor, b: Tensor, weights: Tensor | None) -> Tensor:
    total = _counts_total(a, weights, "tau-a")
    weights = a.new_ones(a.shape[-1]) if weights is None else weights
    return _per_count(concordance(a, b, weights), total * (total - 1) / 2, total)


# A spearman correlation that trains


@_comparator(differentiable=True)
def soft_spearman(a: Pairs, b: Pairs, weights: Pairs | None = None, *, temperature: float = 0.2) -> Scores:
    """Differentiable Spearman correlation, in [-1, 1]: correlation of soft ranks.

    Parameters
    ----------
    a, b, weights
        As in `cosine`.
    temperature
        Half the width of the comparison in standard deviations of each RDM, > 0. A pair that differs by less counts
        ``(x_i - x_j) / (2 temperature) + 1/2`` of a rank instead of 0 or 1. Towards 0 this is `spearman` (and few
        pairs keep a gradient), towards infinity `corr`.

    Returns
    -------
    Tensor
        Similarity ``(...)``; the gradient is that of this value (defined almost everywhere).

    Raises
    ------
    BrainrdlError
        If `temperature` is not above 0, and as `cosine`.

    Notes
    -----
    A ramp in place of the usual sigmoid lets one sort and two cumulative sums replace all n_pairs^2 comparisons.
    The sums run in float64 where the device has it; on MPS keep the temperature above 0.01.

    References
    ----------
    Qin, Liu & Li 2010, Inf. Retr. 13:375-397, doi 10.1007/s10791-009-9124-x (ranks from soft comparisons)

    Examples
    --------
    >>> soft_spearman(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.1, 0.3, 0.2]), temperature=1e-3)
    tensor(0.5000)
    """
    if not temperature > 0:
        refuse(f"temperature of soft-spearman must be > 0, got {temperature}; use 'spearman' for hard ranks")
    ranks_a, ranks_b = (soft_centred_ranks(x, weights, temperature) for x in (a, b))
    return weighted_cosine(ranks_a, ranks_b, None if weights is None else weights.to(ranks_a)).to(a.dtype)


# Whitened comparators


@_comparator(differentiable=True)
def cosine_cov(
    a: Pairs,
    b: Pairs,
    weights: Pairs | None = None,
    *,
    sigma_k: Tensor | None = None,
    condition_weights: Float[Tensor, "*#batch n_conditions"] | None = None,
) -> Scores:
    """Whitened cosine of two RDMs, in [-1, 1]: takes into account that dissimilarities sharing a condition covary.

    Parameters
    ----------
    a, b
        RDMs ``(..., n_pairs)`` in units of squared distance; NaN = pair left out, as in rsatoolbox.
    weights
        Pair weights ``(..., n_pairs)``: how often the residual of each pair counts (see Notes).
    sigma_k
        Covariance of the pattern estimates between conditions, ``(n_conditions, n_conditions)``, or variances
        ``(n_conditions,)``; None = identity. With a matrix, weights may only leave pairs out (0 or 1).
    condition_weights
        How often the zero on the diagonal counts, ``(..., n_conditions)``; None = 1. A stimulus bootstrap that draws
        condition i ``c_i`` times is ``weights = c_i c_j`` with ``condition_weights = c_i``.

    Returns
    -------
    Tensor
        Similarity ``(...)``.

    Raises
    ------
    BrainrdlError
        If n_pairs is not n(n-1)/2, `sigma_k` has the wrong shape or is not positive definite, a matrix `sigma_k` meets
        other weights than 0 and 1, and as `cosine`.

    Notes
    -----
    Dissimilarities are d_ij = e_i + e_j + residual, condition effects e fitted by least squares with the given weights.
    The similarity is the cosine between the residuals, the diagonal (d_ii = 0) included. As in rsatoolbox, a vector of
    variances scales residuals whose effects were fitted without it: it differs a little from the same diagonal matrix.
    With a matrix and left-out pairs, memory is n_pairs^2.

    References
    ----------
    Diedrichsen et al. 2021, Neurons, Behavior, Data analysis, and Theory 5(3), doi 10.51628/001c.27664

    Examples
    --------
    >>> cosine_cov(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 4.0]))
    tensor(0.9186)
    """
    return whitened_cosine(a, b, weights, sigma_k, condition_weights)


@_comparator(differentiable=True)
def corr_cov(
    a: Pairs,
    b: Pairs,
    weights: Pairs | None = None,
    *,
    sigma_k: Tensor | None = None,
    condition_weights: Float[Tensor, "*#batch n_conditions"] | None = None,
) -> Scores:
    """Whitened correlation of two RDMs, in [-1, 1]: `cosine_cov` after subtracting each RDM's mean.

    Parameters and Raises as in `cosine_cov`; the mean is weighted by `weights`.

    Examples
    --------
    >>> corr_cov(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 3.0]))
    tensor(0.5000)
    """
    return whitened_cosine(centred(a, weights), centred(b, weights), weights, sigma_k, condition_weights)


@_comparator(differentiable=True)
def cka(
    a: Pairs,
    b: Pairs,
    weights: Pairs | None = None,
    *,
    condition_weights: Float[Tensor, "*#batch n_conditions"] | None = None,
) -> Scores:
    """Linear centred kernel alignment of the patterns behind two RDMs of squared Euclidean distances, in [0, 1].

    Computed from the distances alone: the same as `cosine_cov` without `sigma_k`, whose parameters it has. RDMs that
    are not Euclidean may score below 0.

    References
    ----------
    Kornblith et al. 2019, ICML, doi 10.48550/arXiv.1905.00414

    Examples
    --------
    >>> patterns = torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 3.0]])
    >>> cka(torch.pdist(patterns) ** 2, torch.pdist(patterns[:, :1]) ** 2)
    tensor(0.7906)
    """
    return whitened_cosine(a, b, weights, None, condition_weights)


def resolve(similarity: str | Similarity) -> Similarity:
    """Return the comparator of a name in `SIMILARITIES`, or a callable of your own as it is.

    Parameters
    ----------
    similarity
        A name, or a callable that keeps the list at the top of this module. To fix an option, say
        ``f = functools.partial(corr_cov, sigma_k=s)`` and ``f.differentiable = True``.

    Raises
    ------
    BrainrdlError
        If the name is unknown (the nearest is given), or the callable does not say whether it is differentiable.

    Examples
    --------
    >>> resolve("corr") is corr
    True
    """
    if isinstance(similarity, str):
        return SIMILARITIES[check_option(similarity, SIMILARITIES, "similarity")]
    if not hasattr(similarity, "differentiable"):
        refuse(f"similarity {similarity!r} has no attribute 'differentiable'; set it to True or False, or give a name")
    return similarity
