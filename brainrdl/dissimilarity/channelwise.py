"""Dissimilarities that compare channels one by one, with SciPy's names, and your own functions of two patterns.

Ratings, counts of words and binary features of stimuli are often compared in this way. Values are those of
`scipy.spatial.distance.pdist`: not squared, and not divided by the number of channels except where the definition says.
First gradients exist except for `jaccard` and `hamming`; second gradients do not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl.dissimilarity.measures import Dissimilarity, Traits, checked_patterns, measure
from brainrdl.dissimilarity.pairs import pair_blocks, to_pairs
from brainrdl.dissimilarity.products import matmul, outside_autocast

_AT_ONCE = 2**22  # numbers of a block of pairs


@measure(Traits("city-block distance"))
def cityblock(x: Float[Tensor, "*batch n_conditions n_channels"]) -> Float[Tensor, "*batch n_pairs"]:
    """Return the sum over channels of absolute differences, in [0, inf).

    Parameters
    ----------
    x : Tensor (..., n_conditions, n_channels)
        Patterns, any unit.

    Returns
    -------
    Tensor (..., n_pairs)
        In the unit of `x`.

    Raises
    ------
    BrainrdlError
        If `x` is not a tensor, or has fewer than 2 dimensions, 2 conditions or 1 channel.

    Examples
    --------
    >>> cityblock(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    tensor([7., 1., 6.])
    """
    return to_pairs(_minkowski(checked_patterns(x), 1.0))


@measure(Traits("Chebyshev distance"))
def chebyshev(x: Float[Tensor, "*batch n_conditions n_channels"]) -> Float[Tensor, "*batch n_pairs"]:
    """Return the largest absolute difference of a channel, in [0, inf). Parameters and Raises as in `cityblock`.

    Examples
    --------
    >>> chebyshev(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    tensor([4., 1., 3.])
    """
    x = checked_patterns(x)
    unknown = x.isnan().any(-1)  # torch.cdist leaves out unknown channels
    distances = _minkowski(x, torch.inf)
    return to_pairs(distances.masked_fill(unknown.unsqueeze(-1) | unknown.unsqueeze(-2), torch.nan))


@measure(Traits("Bray-Curtis dissimilarity"))
def braycurtis(x: Float[Tensor, "*batch n_conditions n_channels"]) -> Float[Tensor, "*batch n_pairs"]:
    """Return the sum of absolute differences over the sum of absolute sums, in [0, 1] without negative values.

    Two patterns of zeros have dissimilarity 0 (SciPy: NaN). Parameters and Raises as in `cityblock`; no unit.

    Examples
    --------
    >>> braycurtis(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    tensor([0.5000])
    """
    x = checked_patterns(x)
    differences, sums = to_pairs(_minkowski(x, 1.0)), to_pairs(_minkowski(x, 1.0, -x))
    return differences / torch.where(sums > 0, sums, 1)


@measure(Traits("Canberra distance"))
def canberra(x: Float[Tensor, "*batch n_conditions n_channels"]) -> Float[Tensor, "*batch n_pairs"]:
    """Return the sum over channels of ``|x_i - x_j| / (|x_i| + |x_j|)``, 0 where both are 0, in [0, n_channels].

    Parameters and Raises as in `cityblock`; no unit. A gradient needs memory for n_pairs times n_channels numbers.

    Examples
    --------
    >>> canberra(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    tensor([0.5000])
    """
    return _canberra(x)


def _canberra_of_two(a: Tensor, b: Tensor) -> Tensor:
    sizes = a.abs() + b.abs()
    return ((a - b).abs() / torch.where(sizes > 0, sizes, 1)).sum(-1)


@measure(Traits("Jaccard distance", differentiable=False))
def jaccard(x: Float[Tensor, "*batch n_conditions n_channels"]) -> Float[Tensor, "*batch n_pairs"]:
    """Return the share of channels in which two binary patterns differ, of those in which one is 1, in [0, 1].

    Parameters
    ----------
    x : Tensor (..., n_conditions, n_channels)
        Patterns of 0 and 1, such as the presence of features.

    Returns
    -------
    Tensor (..., n_pairs)
        0 for two patterns of zeros, as in SciPy. Without a gradient.

    Raises
    ------
    BrainrdlError
        If there are values other than 0 and 1, or `cityblock` would refuse `x`.

    Examples
    --------
    >>> jaccard(torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))
    tensor([0.6667])
    """
    x = checked_patterns(x).detach()
    if not ((x == 0) | (x == 1)).all():
        refuse("jaccard compares patterns of 0 and 1; set a threshold, for example patterns > 0, or use 'braycurtis'")
    both = matmul(x, x.mT)
    own = both.diagonal(dim1=-2, dim2=-1)
    either = own.unsqueeze(-1) + own.unsqueeze(-2) - both
    return to_pairs((either - both) / either.clamp_min(1))


@measure(Traits("Hamming distance", differentiable=False))
def hamming(x: Float[Tensor, "*batch n_conditions n_channels"]) -> Float[Tensor, "*batch n_pairs"]:
    """Return the share of channels with different values, in [0, 1], for labels and binary features.

    Parameters and Raises as in `cityblock`. Without a gradient.

    Examples
    --------
    >>> hamming(torch.tensor([[1.0, 0.0, 2.0], [1.0, 1.0, 3.0]]))
    tensor([0.6667])
    """
    return _hamming(x.detach() if isinstance(x, Tensor) else x)


def pairwise(function: Callable[[Tensor, Tensor], Tensor]) -> Dissimilarity:
    """Make a dissimilarity of a function of two patterns; it is called with many pairs at once.

    Parameters
    ----------
    function : callable (..., n_channels), (..., n_channels) -> (...)
        Dissimilarity of two patterns, symmetric and 0 for equal patterns, in operations of torch that reduce the last
        dimension only.

    Returns
    -------
    callable (..., n_conditions, n_channels) -> (..., n_pairs)
        With the name of `function`, and with gradients if its operations have them.

    Raises
    ------
    BrainrdlError
        When called: if `function` does not return one number for each pair, and as `cityblock`.

    Examples
    --------
    >>> def largest(a, b):
    ...     return (a - b).abs().amax(-1)
    >>> pairwise(largest)(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    tensor([4., 1., 3.])
    """
    name = getattr(function, "__name__", type(function).__name__)

    def of_all_pairs(x: Tensor, /) -> Tensor:
        x = checked_patterns(x)
        at_once = max(1, _AT_ONCE // max(1, x.numel() // x.shape[-2]))
        with outside_autocast(x):
            blocks = [
                _block(
                    function,
                    name,
                    x[..., torch.as_tensor(i).to(x.device), :],
                    x[..., torch.as_tensor(j).to(x.device), :],
                )
                for _, i, j in pair_blocks(x.shape[-2], at_once)
            ]
        return torch.cat(blocks, -1)

    of_all_pairs.__name__ = name
    return of_all_pairs


def _block(function: Callable[[Tensor, Tensor], Tensor], name: str, a: Tensor, b: Tensor) -> Tensor:
    found = function(a, b)
    if not isinstance(found, Tensor) or found.shape != a.shape[:-1]:
        came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        refuse(
            f"dissimilarity {name!r} must return one number for each pair of patterns, shape {tuple(a.shape[:-1])}, "
            f"got {came}; reduce the last dimension only, for example with .sum(-1)"
        )
    return found


_canberra = pairwise(_canberra_of_two)

_hamming = pairwise(lambda a, b: (a != b).to(a.dtype).mean(-1))


def _minkowski(x: Tensor, p: float, y: Tensor | None = None) -> Tensor:
    with outside_autocast(x):
        return torch.cdist(x, x if y is None else y, p=p)
