"""Dissimilarities of more conditions than fit in memory as pairs: they are yielded block by block."""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_option
from brainrdl._core.progress import slow_progress
from brainrdl.dissimilarity.measures import Poisson
from brainrdl.dissimilarity.products import centred, cosine_distance_blocks, joined, matmul, pair_product_blocks

IN_BLOCKS = ("euclidean", "correlation", "cosine", "mahalanobis", "poisson")


def dissimilarity_blocks(
    x: Float[Tensor, "n_conditions n_channels"],
    dissimilarity: str,
    noise_precision: Float[Tensor, "n_channels n_channels"] | None = None,
) -> Iterator[tuple[slice, Float[Tensor, " n_pairs"]]]:
    """Yield the dissimilarities that ``DISSIMILARITIES[dissimilarity](x)`` gives, in blocks of pairs.

    Parameters
    ----------
    x : Tensor (n_conditions, n_channels)
        Patterns, any unit.
    dissimilarity : {"euclidean", "correlation", "cosine", "mahalanobis", "poisson"}
        Name of the dissimilarity.
    noise_precision : Tensor (n_channels, n_channels), optional
        Inverse noise covariance, for mahalanobis only; without it, mahalanobis is euclidean.

    Yields
    ------
    slice, Tensor
        Where the block is among all pairs, and its dissimilarities. The blocks follow each other.

    Raises
    ------
    BrainrdlError
        If the dissimilarity has another name, or poisson would refuse the patterns.

    Examples
    --------
    >>> import torch
    >>> [(part, found.tolist()) for part, found in dissimilarity_blocks(torch.eye(3), "cosine")]
    [(slice(0, 3, None), [1.0, 1.0, 1.0])]
    """
    check_option(dissimilarity, IN_BLOCKS, "dissimilarity that is computed in blocks")
    scale = 1 / x.shape[-1]
    if dissimilarity in ("correlation", "cosine"):
        return cosine_distance_blocks(x, dissimilarity == "correlation")
    if dissimilarity == "poisson":
        rates = Poisson().rates(x)
        return pair_product_blocks(centred(rates), centred(rates.log()), scale)
    shown = centred(x)
    return pair_product_blocks(shown, None if noise_precision is None else matmul(shown, noise_precision), scale)


def with_progress(
    blocks: Iterator[tuple[slice, Tensor]], n_pairs: int, shown: bool = True
) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of pairs, and show progress after each."""
    with slow_progress("pairs of conditions", n_pairs, shown) as advance:
        for part, found in blocks:
            yield part, found
            advance(part.stop, "")


def in_blocks(
    x: Float[Tensor, "n_conditions n_channels"],
    dissimilarity: str,
    noise_precision: Float[Tensor, "n_channels n_channels"] | None = None,
) -> Float[Tensor, " n_pairs"]:
    """Return what `dissimilarity_blocks` yields, put together, with progress; without gradient."""
    n_pairs = len(x) * (len(x) - 1) // 2
    return joined(x, with_progress(dissimilarity_blocks(x, dissimilarity, noise_precision), n_pairs))
