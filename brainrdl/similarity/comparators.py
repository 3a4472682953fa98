"""How similar are two RDMs? Comparators with rsatoolbox's names and conventions, batched, on any device.

A comparator is a callable ``(a, b, weights=None) -> similarity`` with an attribute ``differentiable``; a higher value
means more similar RDMs. The comparators of this package carry all attributes of `brainrdl.similarity.traits.Traits`.

- `a` and `b` are ``(..., n_pairs)``. Leading dimensions broadcast and are those of the result; the last never does.
- NaN in either RDM leaves that pair out. `weights` ``(..., n_pairs)`` are non-negative: 0 also leaves a pair out, and
  an integer k counts it k times (whitened comparators: see `cosine_cov`). A thousand resamples are one call.
- A constant RDM (for `cosine`, an RDM of zeros) or an RDM with no pairs left scores 0, and every gradient is finite.
- The computation runs outside autocast in float32 or better: half precision returns float32, float64 stays float64.
"""

from __future__ import annotations

from math import asin, pi, sin
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.constants import PARTIAL
from brainrdl._core.errors import check_option, refuse
from brainrdl.similarity.pair_sums import (
    PlainCorrelation,
    centred,
    cosine_of,
    dot,
    ratio,
    scaled,
    weighted_corr,
    weighted_cosine,
)
from brainrdl.similarity.pooling import as_z_scores, over_root_mean_square
from brainrdl.similarity.ranks import centred_ranks, concordance, in_blocks, soft_centred_ranks
from brainrdl.similarity.registry import SIMILARITIES
from brainrdl.similarity.traits import Reference, Similarity, Traits, comparator
from brainrdl.similarity.whitening import whitened_cosine

Pairs = Float[Tensor, "*#batch n_pairs"]

Scores = Float[Tensor, "..."]

_NILI = Reference(
    "Nili et al., 2014",
    "Nili, H., Wingfield, C., Walther, A., Su, L., Marslen-Wilson, W. & Kriegeskorte, N. (2014). A toolbox for "
    "representational similarity analysis. PLoS Computational Biology 10(4):e1003553.",
    "10.1371/journal.pcbi.1003553",
)

_KENDALL = Reference(
    "Kendall, 1945",
    "Kendall, M. G. (1945). The treatment of ties in ranking problems. Biometrika 33(3):239-251.",
    "10.1093/biomet/33.3.239",
)

_SCHUETT = Reference(
    "Schütt et al., 2023",
    "Schütt, H. H., Kipnis, A. D., Diedrichsen, J. & Kriegeskorte, N. (2023). Statistical inference on "
    "representational geometries. eLife 12:e82566.",
    "10.7554/eLife.82566",
)

_DIEDRICHSEN = Reference(
    "Diedrichsen et al., 2021",
    "Diedrichsen, J., Berlot, E., Mur, M., Schütt, H. H., Shahbazi, M. & Kriegeskorte, N. (2021). Comparing "
    "representational geometries using whitened unbiased-distance-matrix similarity. Neurons, Behavior, Data "
    "analysis, and Theory 5(3).",
    "10.51628/001c.27664",
)

_KORNBLITH = Reference(
    "Kornblith et al., 2019",
    "Kornblith, S., Norouzi, M., Lee, H. & Hinton, G. (2019). Similarity of neural network representations revisited. "
    "International Conference on Machine Learning.",
    "10.48550/arXiv.1905.00414",
)

_QIN = Reference(
    "Qin et al., 2010",
    "Qin, T., Liu, T.-Y. & Li, H. (2010). A general approximation framework for direct optimization of information "
    "retrieval measures. Information Retrieval 13:375-397.",
    "10.1007/s10791-009-9124-x",
)

# Cosine and correlation


@comparator(
    Traits("cosine similarity", limits=(-1.0, 1.0), differentiable=True, centred=False, poolable=over_root_mean_square)
)
def cosine(a: Pairs, b: Pairs, weights: Pairs | None = None) -> Scores:
    """Cosine of the angle between two RDMs, in [-1, 1], for ratio-scale dissimilarities such as crossnobis.

    Parameters
    ----------
    a, b
        RDMs ``(..., n_pairs)``, any unit; NaN leaves a pair out.
    weights
        Pair weights ``(..., n_pairs)``, >= 0; by default 1.

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
    return cosine_of(a, b) if weights is None else weighted_cosine(scaled(a), scaled(b), weights)


@comparator(
    Traits("Pearson correlation", limits=(-1.0, 1.0), differentiable=True, poolable=as_z_scores, partial_scale=centred)
)
def corr(a: Pairs, b: Pairs, weights: Pairs | None = None) -> Scores:
    """Pearson correlation of two RDMs, in [-1, 1]; offset and scale have no effect. Parameters as in `cosine`.

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
        refuse(f"{name} needs weights that count pairs, got a total of {total.min().item():g}; do not normalise them")
    return total


def _pearson_of_rho(rho: float) -> float:
    """Pearson correlation of Gaussian variables with this rank correlation (Pearson 1907)."""
    return 2 * sin(pi / 6 * rho)


def _rho_of_pearson(r: float) -> float:
    return 6 / pi * asin(r / 2)


@comparator(
    Traits(
        "Spearman correlation",
        limits=(-1.0, 1.0),
        differentiable=False,
        ranks=True,
        partial_scale=centred_ranks,
        as_correlation=_pearson_of_rho,
        from_correlation=_rho_of_pearson,
    )
)
def spearman(a: Pairs, b: Pairs, weights: Pairs | None = None) -> Scores:
    """Spearman rank correlation of two RDMs, in [-1, 1]; ties get their mean rank. Parameters as in `cosine`.

    Examples
    --------
    >>> spearman(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.1, 0.3, 0.2]))
    tensor(0.5000)
    """
    return in_blocks(_rank_corr, a, b, weights)


def _rank_corr(a: Tensor, b: Tensor, weights: Tensor | None) -> Tensor:
    return weighted_cosine(centred_ranks(a, weights), centred_ranks(b, weights), weights)


@comparator(
    Traits(
        "Spearman's rho-a",
        limits=(-1.0, 1.0),
        differentiable=False,
        ranks=True,
        as_correlation=_pearson_of_rho,
        from_correlation=_rho_of_pearson,
        reference=_SCHUETT,
    )
)
def rho_a(a: Pairs, b: Pairs, weights: Pairs | None = None) -> Scores:
    """Spearman correlation expected when ties are broken at random, in [-1, 1]. Parameters as in `cosine`.

    Weights are counts of pairs: in contrast to other comparators their scale matters, and normalised weights are
    refused.

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


@comparator(
    Traits(
        "Kendall's tau-a",
        limits=(-1.0, 1.0),
        differentiable=False,
        ranks=True,
        as_correlation=lambda tau: sin(pi / 2 * tau),  # of Gaussian variables (Greiner 1909)
        from_correlation=lambda r: 2 / pi * asin(r),
        reference=_NILI,
    )
)
def tau_a(a: Pairs, b: Pairs, weights: Pairs | None = None) -> Scores:
    """Kendall's tau-a of two RDMs, in [-1, 1]: concordant minus discordant over all pairs of pairs.

    Parameters as in `cosine`. Weights are counts of pairs: their scale matters, and normalised weights are refused.

    Notes
    -----
    Each comparison needs O(n_pairs log n_pairs) time and O(n_pairs) memory. RDMs are sorted once for all weights.

    Examples
    --------
    >>> tau_a(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.1, 0.3, 0.2]))
    tensor(0.3333)
    """
    return in_blocks(_tau_a, a, b, weights)


def _tau_a(a: Tensor, b: Tensor, weights: Tensor | None) -> Tensor:
    total = _counts_total(a, weights, "tau-a")
    return _per_count(concordance(a, b, weights)[0], total * (total - 1) / 2, total)


@comparator(
    Traits(
        "Kendall's tau-b",
        limits=(-1.0, 1.0),
        differentiable=False,
        ranks=True,
        as_correlation=lambda tau: sin(pi / 2 * tau),
        from_correlation=lambda r: 2 / pi * asin(r),
        reference=_KENDALL,
    )
)
def tau_b(a: Pairs, b: Pairs, weights: Pairs | None = None) -> Scores:
    """Kendall's tau-b of two RDMs, in [-1, 1]: tau-a divided by its largest possible value given the ties.

    It is ``scipy.stats.kendalltau`` and rsatoolbox's "kendall". A model RDM with many ties, such as that of a category,
    is rewarded for them: use `tau_a` to compare models (Nili et al., 2014). Parameters as in `cosine`.

    References
    ----------
    Kendall 1945, Biometrika 33:239-251, doi 10.1093/biomet/33.3.239

    Examples
    --------
    >>> tau_b(torch.tensor([1.0, 1.0, 9.0]), torch.tensor([0.1, 0.2, 0.3]))
    tensor(0.8165)
    """
    return in_blocks(_tau_b, a, b, weights)


def _tau_b(a: Tensor, b: Tensor, weights: Tensor | None) -> Tensor:
    score, untied_a, untied_b = concordance(a, b, weights)
    largest = _rounding_of_counts(a, weights)
    return ratio(score, untied_a, untied_b, (untied_a > largest) & (untied_b > largest))


def _rounding_of_counts(a: Tensor, weights: Tensor | None) -> Tensor:
    """Return what rounding can leave of the sum of untied weights of a constant RDM, which is 0."""
    total = a.new_tensor(a.shape[-1]) if weights is None else weights.sum(-1)
    return 8 * torch.finfo(a.dtype).eps * total**2


# A Spearman correlation with a gradient


@comparator(Traits("soft Spearman correlation", limits=(-1.0, 1.0), differentiable=True, ranks=True, reference=_QIN))
def soft_spearman(a: Pairs, b: Pairs, weights: Pairs | None = None, *, temperature: float = 0.2) -> Scores:
    """Differentiable Spearman correlation, in [-1, 1]: the correlation of soft ranks.

    Parameters
    ----------
    a, b, weights
        As in `cosine`.
    temperature
        Half the width of a soft comparison, > 0, in standard deviations of each RDM. If two pairs differ by less, one
        of them counts ``(x_i - x_j) / (2 temperature) + 1/2`` in the rank of the other, instead of 0 or 1. The limit
        towards 0 is `spearman` (few pairs then have a gradient), the limit towards infinity is `corr`.

    Returns
    -------
    Tensor
        Similarity ``(...)``; the gradient is that of this value (defined almost everywhere).

    Raises
    ------
    BrainrdlError
        If `temperature` is not above 0, and for the same reasons as `cosine`.

    Notes
    -----
    Soft comparisons use a ramp instead of the usual sigmoid, so that a sort and two cumulative sums replace all
    n_pairs^2 comparisons. The sums are computed in float64 if the device supports it; on MPS the temperature should be
    above 0.01.

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


@comparator(
    Traits(
        "whitened cosine similarity",
        limits=(-1.0, 1.0),
        differentiable=True,
        centred=False,
        whitened=True,
        poolable=over_root_mean_square,
        reference=_DIEDRICHSEN,
    )
)
def cosine_cov(
    a: Pairs,
    b: Pairs,
    weights: Pairs | None = None,
    *,
    sigma_k: Tensor | None = None,
    condition_weights: Float[Tensor, "*#batch n_conditions"] | None = None,
) -> Scores:
    """Whitened cosine of two RDMs, in [-1, 1]; accounts for the covariance of dissimilarities that share a condition.

    Parameters
    ----------
    a, b
        RDMs ``(..., n_pairs)`` in units of squared distance; NaN leaves a pair out, as in rsatoolbox.
    weights
        Pair weights ``(..., n_pairs)``: how often the residual of each pair counts (see Notes).
    sigma_k
        Covariance of the pattern estimates between conditions, ``(n_conditions, n_conditions)``, or variances
        ``(n_conditions,)``; by default the identity. With a matrix, weights can only leave pairs out (0 or 1).
    condition_weights
        How often the zeros on the diagonal count, ``(..., n_conditions)``; by default 1. A stimulus bootstrap that
        draws condition i ``c_i`` times has ``weights = c_i c_j`` and ``condition_weights = c_i``.

    Returns
    -------
    Tensor
        Similarity ``(...)``.

    Raises
    ------
    BrainrdlError
        If n_pairs is not n(n-1)/2, `sigma_k` has the wrong shape or is not positive definite, weights other than 0 and
        1 are combined with a matrix `sigma_k`, and for the same reasons as `cosine`.

    Notes
    -----
    Dissimilarities are modelled as d_ij = e_i + e_j + residual, with condition effects e fitted by weighted least
    squares. The similarity is the cosine between the residuals, including those of the diagonal (d_ii = 0). As in
    rsatoolbox, a vector of variances scales the residuals after effects were fitted without it, so the result differs
    slightly from that of the same diagonal matrix. With a matrix and left-out pairs, memory grows with n_pairs^2.

    References
    ----------
    Diedrichsen et al. 2021, Neurons, Behavior, Data analysis, and Theory 5(3), doi 10.51628/001c.27664

    Examples
    --------
    >>> cosine_cov(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 4.0]))
    tensor(0.9186)
    """
    return whitened_cosine(a, b, weights, sigma_k, condition_weights)


@comparator(
    Traits(
        "whitened Pearson correlation",
        limits=(-1.0, 1.0),
        differentiable=True,
        whitened=True,
        poolable=as_z_scores,
        reference=_DIEDRICHSEN,
    )
)
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


@comparator(
    Traits(
        "centred kernel alignment",
        limits=(-1.0, 1.0),
        differentiable=True,
        centred=False,
        whitened=True,
        poolable=over_root_mean_square,
        reference=_KORNBLITH,
    )
)
def cka(
    a: Pairs,
    b: Pairs,
    weights: Pairs | None = None,
    *,
    condition_weights: Float[Tensor, "*#batch n_conditions"] | None = None,
) -> Scores:
    """Linear centred kernel alignment of the patterns behind two RDMs of squared Euclidean distances, in [0, 1].

    It is computed from the distances and is the same as `cosine_cov` without `sigma_k`; parameters as there. RDMs that
    are not Euclidean can score below 0.

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
    """Return the comparator with a name in `SIMILARITIES`; a callable is returned unchanged.

    Parameters
    ----------
    similarity
        A name, or a callable that follows the list at the top of this module. To fix an option, use
        ``f = functools.partial(corr_cov, sigma_k=s)`` and ``f.differentiable = True``.

    Raises
    ------
    BrainrdlError
        If the name is unknown (the message gives the nearest name), or the callable has no attribute `differentiable`.

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


def label_of(name: str) -> str:
    """Return the label of a comparator, or of a partial correlation ("partial spearman"), for figures and sentences.

    Examples
    --------
    >>> label_of("tau-a"), label_of("partial spearman"), label_of("my own")
    ("Kendall's tau-a", 'partial Spearman correlation', 'my own')
    """
    bare = name.removeprefix(PARTIAL)
    label = SIMILARITIES[bare].label if bare in SIMILARITIES else bare
    return label if bare == name else PARTIAL + label
