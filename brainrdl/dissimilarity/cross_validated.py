"""Cross-validated dissimilarities of several runs that need no noise precision."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl.dissimilarity.measures import RUNS, Crossnobis, Traits, checked_patterns, measure
from brainrdl.dissimilarity.pairs import to_pairs
from brainrdl.dissimilarity.products import channel_centred, matmul

_ROUNDING = 64  # rounding errors of the mean square within runs, below which a covariance between runs is 0

_PLAIN = Crossnobis()


@measure(Traits("cross-validated squared Euclidean distance / channel", cross_validated=True, signed=True))
def euclidean_cv(x: Float[Tensor, "*batch n_runs n_conditions n_channels"]) -> Float[Tensor, "*batch n_pairs"]:
    """Return the cross-validated squared Euclidean distance divided by the number of channels, in (-inf, inf).

    It is `crossnobis` without a noise precision; with one, `crossnobis` is the cross-validated Mahalanobis distance.

    Parameters
    ----------
    x : Tensor (..., n_runs, n_conditions, n_channels)
        Patterns of at least 2 independent runs, any unit.

    Returns
    -------
    Tensor (..., n_pairs)
        Squared unit of `x`; can be negative.

    Raises
    ------
    BrainrdlError
        If `x` has fewer than 3 dimensions, 2 runs or 2 conditions.

    References
    ----------
    Walther et al. (2016), NeuroImage 137:188-200, doi 10.1016/j.neuroimage.2015.12.012.

    Examples
    --------
    >>> euclidean_cv(torch.tensor([[[0.0, 0.0], [2.0, 1.0]], [[0.0, 0.0], [1.0, -4.0]]]))
    tensor([-1.])
    """
    return _PLAIN(x)


@measure(Traits("cross-validated correlation distance", cross_validated=True, signed=True))
def correlation_cv(x: Float[Tensor, "*batch n_runs n_conditions n_channels"]) -> Float[Tensor, "*batch n_pairs"]:
    """Return one minus the cross-validated correlation across channels, in (-inf, inf), usually 0 to 2.

    Covariances and variances are those of patterns in different runs, averaged over all pairs of runs, so that noise
    that is independent between runs does not make the correlation smaller::

        1 - cov(i, j) / sqrt(cov(i, i) cov(j, j)),  cov(i, j) = mean over r != s of <x_ri, x_sj>

    A condition whose patterns do not agree between runs (``cov(i, i)`` is not above 0) has no correlation: its distance
    to every other pattern is 1 and its gradient 0. `is_reliable` finds such conditions, and `calc_rdm` refuses them.

    Parameters
    ----------
    x : Tensor (..., n_runs, n_conditions, n_channels)
        Patterns of at least 2 independent runs, any unit.

    Returns
    -------
    Tensor (..., n_pairs)

    Raises
    ------
    BrainrdlError
        If `x` has fewer than 3 dimensions, 2 runs or 2 conditions.

    Notes
    -----
    A ratio of unbiased estimates is itself unbiased only for many channels or runs. Runs must not share an offset
    pattern that is not part of the conditions' responses; in contrast to `crossnobis`, it would not cancel.

    References
    ----------
    Walther et al. (2016), NeuroImage 137:188-200, doi 10.1016/j.neuroimage.2015.12.012.

    Examples
    --------
    >>> runs = torch.tensor([[[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]], [[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]])
    >>> correlation_cv(runs)  # without noise: the correlation distance
    tensor([1.8660])
    """
    covariances, known = _covariances(x)
    variances = covariances.diagonal(dim1=-2, dim2=-1)
    inverse = torch.where(known, torch.where(known, variances, 1).rsqrt(), 0)
    return 1 - to_pairs(covariances * inverse.unsqueeze(-1) * inverse.unsqueeze(-2))


def is_reliable(x: Float[Tensor, "*batch n_runs n_conditions n_channels"]) -> Bool[Tensor, "*batch n_conditions"]:
    """Say for each condition whether its patterns agree between runs, so that `correlation_cv` is defined.

    Parameters and Raises as in `correlation_cv`.

    Returns
    -------
    Tensor (..., n_conditions), bool

    Examples
    --------
    >>> is_reliable(torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [0.0, 1.0]]]))
    tensor([ True, False])
    """
    return _covariances(x)[1]


def _covariances(x: Tensor) -> tuple[Tensor, Tensor]:
    """Average products of patterns in different runs over pairs of runs; also say which variances are above 0."""
    x = checked_patterns(x, RUNS, 3)
    n_runs = x.shape[-3]
    if n_runs < 2:
        refuse(f"correlation_cv needs at least 2 runs, got shape {tuple(x.shape)}; use 'correlation' for one run")
    vectors, floor = channel_centred(x)
    vectors = vectors * (vectors.detach().square().sum(-1) > floor).unsqueeze(-1)
    total = vectors.sum(-3)
    joined = vectors.transpose(-3, -2).flatten(-2)
    within = matmul(joined, joined.mT)
    covariances = (matmul(total, total.mT) - within) / (n_runs * (n_runs - 1))
    rounding = _ROUNDING * torch.finfo(x.dtype).eps * within.detach().diagonal(dim1=-2, dim2=-1) / n_runs
    return covariances, covariances.detach().diagonal(dim1=-2, dim2=-1) > rounding
