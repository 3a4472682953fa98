"""From patterns to an answer of a teacher: patterns without a defined RDM are refused, with the condition's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import arg, refuse
from brainrdl._core.tensor_checks import check_finite
from brainrdl.dissimilarity.measures import correlation, cosine, count_constant
from brainrdl.models.rows import same_for_all

if TYPE_CHECKING:
    from brainrdl.dissimilarity.measures import Dissimilarity


def _constant(patterns: Tensor) -> Tensor:
    # Each pattern twice, as a pair of conditions: count_constant then decides for each pattern by its definition.
    return count_constant(patterns[:, None].expand(-1, 2, -1)) > 0


def _zero(patterns: Tensor) -> Tensor:
    return (patterns == 0).all(dim=1)


# Patterns without a defined distance to others, and how to find them.
_UNDEFINED: dict[object, tuple[str, Callable[[Tensor], Tensor]]] = {
    correlation: ("constant", _constant),
    cosine: ("zero", _zero),
}


def rdm_of(
    patterns: Float[Tensor, "n_conditions n_channels"],
    names: Sequence[str],
    dissimilarity: Dissimilarity,
    where: str,
    source: str,
) -> Float[Tensor, "1 n_pairs"]:
    """Compute the RDM of one pattern per condition, without gradient.

    Parameters
    ----------
    patterns : Tensor, shape (n_conditions, n_channels)
        Patterns, any unit.
    names : sequence of str
        Names of the conditions, for error messages.
    dissimilarity : callable
        A function of patterns.
    where : str
        Whose patterns they are, in error messages.
    source : str
        What else could be chosen if the patterns have no RDM: ``"layer"`` or ``"target"``.

    Returns
    -------
    Tensor, shape (1, n_pairs)
        Dissimilarities, row-major upper triangle, float32.

    Raises
    ------
    BrainrdlError
        If a pattern has no defined dissimilarity (a constant pattern with correlation, a zero pattern with cosine), all
        patterns are equal, or dissimilarities are not finite.

    Examples
    --------
    >>> rdm_of(torch.eye(3), "abc", cosine, "target 'IT'", "target")
    tensor([[1., 1., 1.]])
    """
    with torch.no_grad(), torch.autocast(patterns.device.type, enabled=False):
        _refuse_undefined(patterns, names, dissimilarity, where, source)
        pairs = dissimilarity(patterns)
        check_finite(pairs, f"dissimilarities at {where}")
        if same_for_all(patterns):
            refuse(
                f"{where} gives the same pattern for all {len(names)} images, so its RDM is undefined; "
                f"choose a {source} that depends on the image"
            )
        return pairs[None].float()


def _refuse_undefined(
    patterns: Tensor, names: Sequence[str], dissimilarity: Dissimilarity, where: str, source: str
) -> None:
    """Refuse a pattern without direction: its distance would be NaN or arbitrary."""
    undefined = _UNDEFINED.get(dissimilarity)
    if undefined is None:
        return
    kind, of = undefined
    flat = of(patterns)
    if flat.any():
        condition = names[int(flat.nonzero()[0])]
        refuse(
            f"condition {condition!r} has a {kind} pattern at {where} ({int(flat.sum())} of {len(names)} do), so "
            f"its dissimilarities are undefined; drop it, or choose another {source} or "
            f"{arg('dissimilarity', 'euclidean', of='teacher')}"
        )
