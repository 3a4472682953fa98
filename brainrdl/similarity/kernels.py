"""Comparators of the patterns' second moments (kernels) that RDMs imply; RDMs of squared Euclidean distances.

From squared Euclidean distances D follows the kernel ``G = -1/2 H D H`` of the patterns, centred over conditions, with
``H = I - 1/n``. `bures`, `bures_metric` and `riemannian` compare such kernels as a whole: a condition can be left out
or counted several times, but not a single pair. `cka_unbiased`, `cka_rbf` and `rv` are sums over pairs.
"""

from __future__ import annotations

from math import inf
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from brainrdl._core.errors import refuse
from brainrdl.dissimilarity.pairs import n_conditions_of, to_square
from brainrdl.similarity.pair_sums import scaled
from brainrdl.similarity.pooling import as_residuals, over_mean, over_root_mean_square, unchanged
from brainrdl.similarity.ranks import cumulative, take
from brainrdl.similarity.traits import Reference, Traits, comparator
from brainrdl.similarity.whitening import non_negative, off_diagonal_cosine, whitened_cosine

Pairs = Float[Tensor, "*#batch n_pairs"]

Scores = Float[Tensor, "..."]

Conditions = Float[Tensor, "*#batch n_conditions"]

_HARVEY = Reference(
    "Harvey et al., 2024",
    "Harvey, S. E., Larsen, B. W. & Williams, A. H. (2024). Duality of Bures and shape distances with implications "
    "for comparing neural representations. Proceedings of UniReps, PMLR 243:11-26.",
    "10.48550/arXiv.2311.11436",
)

_SHAHBAZI = Reference(
    "Shahbazi et al., 2021",
    "Shahbazi, M., Shirali, A., Aghajan, H. & Nili, H. (2021). Using distance on the Riemannian manifold to compare "
    "representations in brain and in models. NeuroImage 239:118271.",
    "10.1016/j.neuroimage.2021.118271",
)

_KORNBLITH = Reference(
    "Kornblith et al., 2019",
    "Kornblith, S., Norouzi, M., Lee, H. & Hinton, G. (2019). Similarity of neural network representations revisited. "
    "International Conference on Machine Learning.",
    "10.48550/arXiv.1905.00414",
)

_SONG = Reference(
    "Song et al., 2007",
    "Song, L., Smola, A., Gretton, A., Borgwardt, K. & Bedo, J. (2007). Supervised feature selection via dependence "
    "estimation. International Conference on Machine Learning.",
    "10.48550/arXiv.0704.2668",
)

_ROBERT = Reference(
    "Robert & Escoufier, 1976",
    "Robert, P. & Escoufier, Y. (1976). A unifying tool for linear multivariate statistical methods: the "
    "RV-coefficient. Applied Statistics 25(3):257-265.",
    "10.2307/2347233",
)

_LOG_RANGE, _GRID, _ROUNDS = 16.0, 33, 32  # of the share of noise in `riemannian`: a grid, then a golden section

_GOLDEN = (5**0.5 - 1) / 2


# Kernels as a whole


@comparator(
    Traits(
        "Bures similarity",
        limits=(0.0, 1.0),
        differentiable=True,
        centred=False,
        whitened=True,
        single_pairs=False,
        poolable=over_mean,
        as_correlation=None,
        reference=_HARVEY,
    )
)
def bures(a: Pairs, b: Pairs, weights: Pairs | None = None, *, condition_weights: Conditions | None = None) -> Scores:
    """Bures similarity of the kernels behind two RDMs of squared Euclidean distances, in [0, 1].

    ``tr((A^1/2 B A^1/2)^1/2) / sqrt(tr A tr B)`` for kernels A and B. It is the largest cosine between the patterns
    over all rotations, so that ``arccos(bures)`` is the angular Procrustes (shape) distance of the patterns; see
    `brainrdl.similarity.procrustes`.

    Parameters
    ----------
    a, b
        RDMs ``(..., n_pairs)`` of squared Euclidean distances, complete: NaN can only leave out whole conditions.
    weights
        Weights of pairs ``(..., n_pairs)``; only 0 for all pairs of a condition and products of `condition_weights`.
    condition_weights
        How often each condition counts, ``(..., n_conditions)``; by default 1.

    Returns
    -------
    Tensor
        Similarity ``(...)``.

    Raises
    ------
    BrainrdlError
        If n_pairs is not n(n-1)/2, single pairs are weighted or left out, and for the same reasons as `cosine`.

    Notes
    -----
    Noisy and cross-validated RDMs can have kernels with negative eigenvalues. They are set to 0, in the traces too;
    rsatoolbox leaves them in the traces, so its value can exceed 1 for such RDMs and depends on their order. If the
    kernel of an RDM has a lower rank than the other (fewer channels than conditions), its gradient is that within the
    dimensions it has.

    References
    ----------
    Harvey, Larsen & Williams 2024, PMLR 243:11-26, doi 10.48550/arXiv.2311.11436

    Examples
    --------
    >>> bures(torch.tensor([1.0, 4.0, 1.0]), torch.tensor([4.0, 16.0, 4.0])).round(decimals=3)
    tensor(1.)
    """
    root_a, root_b = _roots(scaled(a), scaled(b), weights, condition_weights, "bures")
    trace_a, trace_b = (root.square().sum((-2, -1)) for root in (root_a, root_b))
    ok = (trace_a > 0) & (trace_b > 0)
    lengths = torch.where(ok, trace_a, 1).sqrt() * torch.where(ok, trace_b, 1).sqrt()
    return torch.where(ok, _fidelity(root_a, root_b), 0) / lengths


@comparator(
    Traits(
        "minus squared Bures distance",
        limits=(-inf, 0.0),
        differentiable=True,
        centred=False,
        whitened=True,
        single_pairs=False,
        poolable=unchanged,
        as_correlation=None,
        reference=_HARVEY,
    )
)
def bures_metric(
    a: Pairs, b: Pairs, weights: Pairs | None = None, *, condition_weights: Conditions | None = None
) -> Scores:
    """Minus the squared Bures distance of the kernels behind two RDMs, at most 0, in the unit of the RDMs.

    ``-(tr A + tr B - 2 tr((A^1/2 B A^1/2)^1/2))``: minus the squared Procrustes distance of the patterns. rsatoolbox
    gives it without the minus sign, so that a higher value means less similar RDMs. The unit matters: both RDMs must
    have the same. Parameters, Raises and Notes as in `bures`.

    References
    ----------
    Harvey, Larsen & Williams 2024, PMLR 243:11-26, doi 10.48550/arXiv.2311.11436

    Examples
    --------
    >>> bures_metric(torch.tensor([1.0, 4.0, 1.0]), torch.tensor([4.0, 16.0, 4.0])).round(decimals=3)
    tensor(-2.)
    """
    root_a, root_b = _roots(a, b, weights, condition_weights, "bures_metric")
    return 2 * _fidelity(root_a, root_b) - root_a.square().sum((-2, -1)) - root_b.square().sum((-2, -1))


@comparator(
    Traits(
        "minus Riemannian distance",
        limits=(-inf, 0.0),
        differentiable=False,
        centred=False,
        whitened=True,
        single_pairs=False,
        poolable=over_mean,
        as_correlation=None,
        reference=_SHAHBAZI,
    )
)
def riemannian(
    a: Pairs,
    b: Pairs,
    weights: Pairs | None = None,
    *,
    sigma_k: Tensor | None = None,
    condition_weights: Conditions | None = None,
) -> Scores:
    """Minus the Riemannian distance of the second moments behind two RDMs, at most 0 (rsatoolbox: "neg_riem_dist").

    The distance is ``sqrt(sum log(eigenvalues)^2)`` of ``B^-1 (s A + t sigma_k)``, for the best s and t above 0: the
    second moment of `a` is scaled, and noise is added to it. The order matters: `b` receives no noise.

    Parameters
    ----------
    a
        RDM ``(..., n_pairs)`` of squared Euclidean distances, complete.
    b
        RDM as `a`, whose second moment must have full rank: patterns with at least ``n_conditions - 1`` channels.
    weights
        0 or 1, to leave out all pairs of a condition.
    sigma_k
        Covariance of the pattern estimates between conditions, ``(n_conditions, n_conditions)``; by default identity.
    condition_weights
        0 or 1 for each condition, ``(..., n_conditions)``; a second moment with repeated conditions has no full rank.

    Returns
    -------
    Tensor
        Similarity ``(...)``, without a gradient.

    Raises
    ------
    BrainrdlError
        If the second moment of `b` has no full rank, conditions are counted more than once, single pairs are left out,
        `sigma_k` has the wrong shape or is not positive definite, and for the same reasons as `cosine`.

    Notes
    -----
    rsatoolbox searches s and t with a simplex, to about 1e-4. Here, s is given by the eigenvalues, and t is searched on
    a grid and then by golden section, so that the result is at least as high as that of rsatoolbox.

    References
    ----------
    Shahbazi et al. 2021, NeuroImage 239:118271, doi 10.1016/j.neuroimage.2021.118271

    Examples
    --------
    >>> riemannian(torch.tensor([2.0, 2.0, 2.0]), torch.tensor([4.0, 4.0, 4.0])).abs() < 1e-3  # only the scale differs
    tensor(True)
    """
    n = n_conditions_of(a.shape[-1])
    sigma = torch.eye(n, dtype=torch.float64) if sigma_k is None else sigma_k.double()
    if tuple(sigma.shape) != (n, n):
        refuse(f"sigma_k must have shape ({n}, {n}) for {a.shape[-1]} pairs, got {tuple(sigma.shape)}")
    counts = _counts(weights, condition_weights, n, "riemannian")
    counts = torch.ones(n, dtype=torch.float64, device=a.device) if counts is None else counts.detach().double()
    if ((counts != 0) & (counts != 1)).any():
        refuse("riemannian can leave out conditions, but not count them more than once: condition_weights must be 0, 1")
    with torch.no_grad():
        d_a, d_b = to_square(a.double()), to_square(b.double())
        batch = torch.broadcast_shapes(d_a.shape[:-2], d_b.shape[:-2], counts.shape[:-1])
        d_a, d_b = (d.expand(*batch, n, n).reshape(-1, n, n) for d in (d_a, d_b))
        counts = counts.expand(*batch, n).reshape(-1, n)
        found = d_a.new_zeros(len(d_a))
        for kept in counts.unique(dim=0):
            rows, keep = (counts == kept).all(-1), kept > 0
            if keep.sum() > 1:
                part_a, part_b = (d[rows][:, keep][:, :, keep] for d in (d_a, d_b))
                found[rows] = _minus_riemannian(part_a, part_b, sigma.to(d_a)[keep][:, keep])
        return found.reshape(batch).to(a.dtype)


def _minus_riemannian(d_a: Tensor, d_b: Tensor, sigma: Tensor) -> Tensor:
    """Minus the smallest distance, over the share of noise; RDMs ``(n_rdms, n, n)``."""
    contrasts = _contrasts(sigma)
    moment_a, moment_b = (contrasts @ d @ contrasts.mT / -2 for d in (d_a, d_b))
    noise = contrasts @ sigma @ contrasts.mT
    factor, failed = torch.linalg.cholesky_ex(moment_b)
    spread = factor.diagonal(dim1=-2, dim2=-1)
    if failed.any() or (spread.amin(-1) < 1e-7 * spread.amax(-1)).any():
        refuse(
            "riemannian needs a second RDM of squared Euclidean distances with full rank (patterns with at least as "
            "many channels as conditions, minus 1); use 'bures' for other RDMs"
        )
    if torch.linalg.cholesky_ex(noise)[1]:
        refuse("sigma_k is not positive definite; add a small value to its diagonal")
    whitened_a, whitened_noise = (_whitened_by(factor, moment) for moment in (moment_a, noise.expand_as(moment_a)))

    def squared(mixed: Tensor) -> Tensor:
        values = torch.linalg.eigvalsh(mixed)
        logs = values.clamp_min(torch.finfo(values.dtype).tiny).log()
        squares = (logs - logs.mean(-1, keepdim=True)).square().sum(-1)  # the best scale subtracts the mean
        return torch.where(values[:, 0] > 0, squares, torch.inf)

    def distance(log_share: Tensor) -> Tensor:
        return squared(whitened_a + log_share.exp()[:, None, None] * whitened_noise)

    traces = [moment.diagonal(dim1=-2, dim2=-1).sum(-1) for moment in (whitened_a, whitened_noise)]
    centre = (traces[0].abs().clamp_min(torch.finfo(sigma.dtype).tiny) / traces[1]).log()
    grid = torch.linspace(-_LOG_RANGE, _LOG_RANGE, _GRID, dtype=sigma.dtype, device=sigma.device)
    values = torch.stack([distance(centre + step) for step in grid])
    best = centre + grid[values.argmin(0)]
    step = float(grid[1] - grid[0])
    low, high = best - step, best + step
    for _ in range(_ROUNDS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        lower = distance(left) < distance(right)
        low, high = torch.where(lower, low, left), torch.where(lower, right, high)
    without_other = torch.minimum(squared(whitened_a), squared(whitened_noise))
    return -torch.minimum(distance((low + high) / 2), without_other).sqrt()


def _contrasts(like: Tensor) -> Tensor:
    """Contrasts of each condition with the first, ``(n - 1, n)``; any basis gives the same eigenvalues."""
    identity = torch.eye(like.shape[-1]).to(like)
    return identity[1:] - identity[:1]


def _whitened_by(factor: Tensor, moment: Tensor) -> Tensor:
    half: Tensor = torch.linalg.solve_triangular(factor, moment, upper=False)
    whitened: Tensor = torch.linalg.solve_triangular(factor, half.mT, upper=False)
    return whitened


def _roots(
    a: Tensor, b: Tensor, weights: Tensor | None, condition_weights: Tensor | None, name: str
) -> tuple[Tensor, Tensor]:
    """Symmetric roots of the positive parts of both kernels."""
    counts = _counts(weights, condition_weights, n_conditions_of(a.shape[-1]), name)
    root_a, root_b = (cast(Tensor, _RootOfPositivePart.apply(kernel_of(d, counts))) for d in (a, b))
    return root_a, root_b


def _fidelity(root_a: Tensor, root_b: Tensor) -> Tensor:
    """Sum of singular values of the product of two roots."""
    values: Tensor = torch.linalg.svdvals(root_a @ root_b)
    return values.sum(-1)


def kernel_of(pairs: Pairs, counts: Conditions | None = None) -> Float[Tensor, "*batch n n"]:
    """Return the kernel of patterns centred over conditions, from squared Euclidean distances between them.

    With counts, it has the eigenvalues of the kernel in which condition i is repeated ``counts[..., i]`` times.

    Examples
    --------
    >>> kernel_of(torch.tensor([4.0]))  # patterns -1 and 1
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    square = to_square(pairs)
    if counts is None:
        rows = square.mean(-1, keepdim=True)
        return (rows + rows.mT - square - rows.mean(-2, keepdim=True)) / 2
    shares = (counts / counts.sum(-1, keepdim=True).clamp_min(torch.finfo(counts.dtype).tiny))[..., None, :]
    rows = (square * shares).sum(-1, keepdim=True)
    mean = (rows * shares.mT).sum(-2, keepdim=True)
    roots = counts.sqrt()
    return (rows + rows.mT - square - mean) / 2 * roots[..., None, :] * roots[..., None]


def _counts(weights: Tensor | None, condition_weights: Tensor | None, n: int, name: str) -> Tensor | None:
    """How often each condition counts; refuse weights of pairs that are not products of these."""
    if condition_weights is not None:
        if condition_weights.shape[-1] != n:
            refuse(f"condition_weights must have shape (..., {n}), got {tuple(condition_weights.shape)}")
        condition_weights = non_negative(condition_weights, "condition_weights")
    if weights is None:
        return condition_weights
    square = to_square(weights.detach())
    seen = (square.amax(-1) > 0).to(weights)
    counts = seen if condition_weights is None else condition_weights.to(weights) * seen
    products = (counts[..., None] * counts[..., None, :]).detach()
    off = ~torch.eye(n, dtype=torch.bool, device=weights.device)
    if not torch.allclose(products * off, square * off, rtol=1e-6, atol=0):
        refuse(
            f"{name} compares RDMs as a whole: single pairs cannot be left out (NaN) or weighted; leave out conditions "
            "that lack pairs, or give condition_weights whose products are the weights"
        )
    return counts


class _RootOfPositivePart(torch.autograd.Function):
    """Symmetric root of a symmetric matrix without its negative eigenvalues; finite gradients for equal eigenvalues."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        floor = 4 * matrix.shape[-1] * torch.finfo(matrix.dtype).eps * values.abs().amax(-1, keepdim=True)
        kept = values.where(values > floor, 0)
        roots = kept.sqrt()
        ctx.save_for_backward(values, vectors, roots)
        root: Tensor = (vectors * roots[..., None, :]) @ vectors.mT
        return root

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        values, vectors, roots = ctx.saved_tensors
        row, column = roots[..., None], roots[..., None, :]
        both = (row > 0) & (column > 0)
        either = (row > 0) ^ (column > 0)
        gap = (values[..., None] - values[..., None, :]).where(either, 1)
        slopes = torch.where(both, 1 / torch.where(both, row + column, 1), torch.where(either, (row - column) / gap, 0))
        gradient = (gradient + gradient.mT) / 2
        found: Tensor = vectors @ (slopes * (vectors.mT @ gradient @ vectors)) @ vectors.mT
        return found


# Sums over pairs


@comparator(Traits("unbiased CKA", limits=(-1.0, 1.0), differentiable=True, poolable=as_residuals, reference=_SONG))
def cka_unbiased(a: Pairs, b: Pairs, weights: Pairs | None = None) -> Scores:
    """Linear centred kernel alignment with the unbiased estimate of HSIC, in [-1, 1].

    Patterns with many channels and few conditions have a high `cka` by chance; this estimate is 0 on average for
    unrelated patterns. It is the cosine between RDMs after subtracting from each pair the effects of its two
    conditions, and does not use the diagonal. It needs at least 4 conditions; for fewer, nothing remains and it is 0.

    Parameters
    ----------
    a, b
        RDMs ``(..., n_pairs)`` of squared Euclidean distances; NaN leaves a pair out.
    weights
        Pair weights ``(..., n_pairs)``: how often the residual of each pair counts.

    Returns
    -------
    Tensor
        Similarity ``(...)``.

    Raises
    ------
    BrainrdlError
        If n_pairs is not n(n-1)/2, and for the same reasons as `cosine`.

    References
    ----------
    Song et al. 2007, doi 10.48550/arXiv.0704.2668; Szekely & Rizzo 2014, Annals of Statistics 42:2382-2412,
    doi 10.1214/14-AOS1255

    Examples
    --------
    >>> patterns = torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 3.0], [1.0, 5.0]])
    >>> cka_unbiased(torch.pdist(patterns) ** 2, torch.pdist(patterns[:, :1]) ** 2)
    tensor(0.1969)
    """
    return off_diagonal_cosine(a, b, weights)


@comparator(
    Traits(
        "CKA with an RBF kernel",
        limits=(0.0, 1.0),
        differentiable=True,
        centred=False,
        whitened=True,
        poolable=over_root_mean_square,
        as_correlation=None,
        reference=_KORNBLITH,
    )
)
def cka_rbf(
    a: Pairs,
    b: Pairs,
    weights: Pairs | None = None,
    *,
    bandwidth: float = 0.4,
    condition_weights: Conditions | None = None,
) -> Scores:
    """Centred kernel alignment with a Gaussian (RBF) kernel of the patterns behind two RDMs, in [0, 1].

    Parameters
    ----------
    a, b, weights, condition_weights
        As in `cka`: RDMs of squared Euclidean distances.
    bandwidth
        Standard deviation of the kernel, > 0, as a fraction of the median distance between patterns.

    Returns
    -------
    Tensor
        Similarity ``(...)``.

    Raises
    ------
    BrainrdlError
        If `bandwidth` is not above 0, and for the same reasons as `cka`.

    Notes
    -----
    The median is that of the weighted pairs. Intervals do not contain its own uncertainty. If an estimated squared
    distance is so far below 0 that the kernel overflows, the similarity is NaN.

    References
    ----------
    Kornblith et al. 2019, ICML, doi 10.48550/arXiv.1905.00414

    Examples
    --------
    >>> patterns = torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 3.0]])
    >>> cka_rbf(torch.pdist(patterns) ** 2, torch.pdist(patterns[:, :1]) ** 2)
    tensor(0.9225)
    """
    if not bandwidth > 0:
        refuse(f"bandwidth of cka_rbf must be > 0, got {bandwidth}")
    a, b = (_rbf_distances(scaled(d), weights, bandwidth) for d in (a, b))
    overflown = a.isinf().any(-1) | b.isinf().any(-1)  # far below 0, which no squared distance is
    return whitened_cosine(a, b, weights, None, condition_weights).masked_fill(overflown, torch.nan)


def _rbf_distances(d: Tensor, weights: Tensor | None, bandwidth: float) -> Tensor:
    """Half the squared distances in the space of the kernel; 0 for pairs without weight, which could overflow."""
    if weights is not None:
        d = torch.where(weights > 0, d, 0)
    median = _median(d.abs(), weights)
    return 1 - torch.exp(-d / (2 * bandwidth**2 * torch.where(median > 0, median, 1)))


def _median(x: Tensor, weights: Tensor | None) -> Tensor:
    """Weighted median, the mean of the lower and the upper; the pair dimension is kept."""
    ordered, order = x.sort(dim=-1)
    if weights is None:
        n = x.shape[-1]
        return (ordered[..., (n - 1) // 2, None] + ordered[..., n // 2, None]) / 2
    mass = cumulative(take(weights.detach(), order))[..., 1:]
    half = mass[..., -1:] / 2
    slack = 1e-9 * half
    places = [(mass < half - slack), (mass <= half + slack)]
    lower, upper = (take(ordered, place.sum(-1, keepdim=True).clamp_max(x.shape[-1] - 1)) for place in places)
    return (lower + upper) / 2


@comparator(
    Traits(
        "RV coefficient",
        limits=(-1.0, 1.0),
        differentiable=True,
        centred=False,
        whitened=True,
        poolable=over_root_mean_square,
        reference=_ROBERT,
    )
)
def rv(a: Pairs, b: Pairs, weights: Pairs | None = None, *, condition_weights: Conditions | None = None) -> Scores:
    """RV coefficient of the patterns behind two RDMs of squared Euclidean distances, in [0, 1]; the same as `cka`.

    References
    ----------
    Robert & Escoufier 1976, Applied Statistics 25:257-265, doi 10.2307/2347233

    Examples
    --------
    >>> patterns = torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 3.0]])
    >>> rv(torch.pdist(patterns) ** 2, torch.pdist(patterns[:, :1]) ** 2)
    tensor(0.7906)
    """
    return whitened_cosine(a, b, weights, None, condition_weights)
