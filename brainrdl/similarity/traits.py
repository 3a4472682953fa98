"""What the rest of the package needs to know about a comparator: attributes of the function, given by a decorator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, ParamSpec, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl._core.tensor_checks import check_ndim, check_same_length
from brainrdl.similarity.pooling import as_ranks
from brainrdl.similarity.whitening import non_negative

P = ParamSpec("P")


class Reference(NamedTuple):
    """A publication: how a text cites it, the entry in the list of references, and its doi.

    Examples
    --------
    >>> Reference("Doe, 2031", "Doe, J. (2031). Agreement of RDMs.", "10.1000/agreement").cited
    'Doe, 2031'
    """

    cited: str
    entry: str
    doi: str


@runtime_checkable
class Similarity(Protocol):
    """What a loss needs of a comparator; see the list at the top of `brainrdl.similarity.comparators`."""

    differentiable: bool

    def __call__(self, a: Tensor, b: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the similarity of `a` and `b`; leading dimensions broadcast."""


@dataclass(frozen=True)
class Traits:
    """The attributes of a comparator.

    Attributes
    ----------
    label : str
        Its name in figures and sentences, for example "Spearman correlation".
    differentiable : bool
        Whether it has a useful gradient, so that a loss can use it.
    ranks : bool
        Whether only the order of the dissimilarities matters.
    centred : bool
        Whether adding a constant to all dissimilarities leaves the value unchanged.
    whitened : bool
        Whether it accepts ``condition_weights``, which a bootstrap over conditions must then pass.
    single_pairs : bool
        Whether single pairs can be left out and weighted; otherwise only conditions can.
    poolable : callable
        Rescales RDMs ``(n_rdms, n_pairs)`` so that their mean is the RDM most similar to all of them.
    partial_scale : callable, optional
        Rescales ``(rdm, weights)`` for a partial correlation; None if there is no partial form.
    as_correlation, from_correlation : callable
        Convert a value to a Pearson correlation between Gaussian variables and back, for noise ceilings. If
        `as_correlation` is None, a model of correlations does not fit, and there is no such ceiling.
    limits : (float, float)
        The lowest and the highest value of the comparator. Intervals of scores end there; by default they are not cut.
    reference : Reference, optional
        What a methods section should cite.

    Examples
    --------
    >>> Traits("Kendall's tau-b", differentiable=False, ranks=True).whitened
    False
    """

    label: str
    differentiable: bool
    ranks: bool = False
    centred: bool = True
    whitened: bool = False
    single_pairs: bool = True
    poolable: Callable[[Tensor], Tensor] = as_ranks
    partial_scale: Callable[[Tensor, Tensor | None], Tensor] | None = None
    as_correlation: Callable[[float], float] | None = float
    from_correlation: Callable[[float], float] = float
    limits: tuple[float, float] = (-inf, inf)
    reference: Reference | None = None


@runtime_checkable
class Comparator(Protocol[P]):
    """A comparator with all its `Traits`, as the scores, figures and reports need it."""

    label: str
    differentiable: bool
    ranks: bool
    centred: bool
    whitened: bool
    single_pairs: bool
    poolable: Callable[[Tensor], Tensor]
    partial_scale: Callable[[Tensor, Tensor | None], Tensor] | None
    as_correlation: Callable[[float], float] | None
    from_correlation: Callable[[float], float]
    limits: tuple[float, float]
    reference: Reference | None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor: ...


def comparator(traits: Traits) -> Callable[[Callable[P, Tensor]], Comparator[P]]:
    """Make a comparator of the function below: checked shapes, no NaN, no autocast, and `traits` as attributes.

    The function receives RDMs in float32 or better without NaN; a pair that was NaN has weight 0.

    Raises
    ------
    BrainrdlError
        When the comparator is called: if the numbers of pairs differ or are 0, or a weight is negative or not finite.

    Examples
    --------
    >>> @comparator(Traits("agreement", differentiable=True))
    ... def agreement(a, b, weights=None):
    ...     return 1 - (a - b).abs().mean(-1)
    >>> agreement(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5])), agreement.label
    (tensor(0.7500), 'agreement')
    """

    def decorate(core: Callable[P, Tensor]) -> Comparator[P]:
        @functools.wraps(core)
        def compare(a: Tensor, b: Tensor, weights: Tensor | None = None, **options: object) -> Tensor:
            called = cast(Callable[..., Tensor], core)
            if not torch.is_autocast_enabled(a.device.type):
                return called(*_prepare(a, b, weights), **options)
            with torch.autocast(a.device.type, enabled=False):
                return called(*_prepare(a, b, weights), **options)

        vars(compare).update(vars(traits))
        return cast(Comparator[P], compare)

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
    if not torch.isnan(a.sum() + b.sum()):  # two sums cost less than a mask; Inf - Inf only leads to the longer way
        return a, b, weights
    nan_a, nan_b = a.isnan(), b.isnan()
    keep = ~(nan_a | nan_b)
    # fill before any arithmetic: a NaN that is masked afterwards still has a NaN gradient
    filled = a.masked_fill(nan_a, 0), b.masked_fill(nan_b, 0)
    return *filled, keep.to(dtype) if weights is None else weights * keep
