"""From activity patterns `(..., n_conditions, n_channels)` to dissimilarities `(..., n_pairs)`, differentiable.

Names, pair order and scaling are those of rsatoolbox 0.3.2 (`rsatoolbox.rdm.calc_rdm`). A dissimilarity
is any callable that

- takes one tensor of patterns (conditions next to last, channels last) and returns one value per pair of conditions;
- orders the pairs as the row-major upper triangle: (0, 1), (0, 2), ..., (1, 2), ...;
- is equivariant to the order of the conditions, and treats leading dimensions as independent;
- keeps device and dtype (half precision is computed and returned in float32), also under autocast;
- is 0 for duplicate patterns, and has finite gradients, also with duplicate or constant patterns.

`brainrdl.testing.check_dissimilarity` checks this list. Parameters are stored in frozen dataclasses with `__call__`.
What other code needs to know about a dissimilarity is in its attributes (`Traits`); your own function may omit them.

All but correlation and cosine have the form ``scale * sum_channels (x_i - x_j) (y_i - y_j)`` for some `y`. They need
one Gram matrix forward, and one product with the Laplacian of the pair gradients backward. The mean pattern is
subtracted first: the differences stay the same, and float32 stays exact when all patterns share a large offset.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brainrdl._core.errors import check_option, refuse
from brainrdl._core.tensor_checks import check_finite, check_ndim
from brainrdl.dissimilarity.pairs import check_n_conditions
from brainrdl.dissimilarity.products import (
    centred,
    channel_centred,
    cosine_distances,
    matmul,
    pair_products,
    squared_distances,
)
from brainrdl.dissimilarity.registry import DISSIMILARITIES

RUNS = "(..., n_runs, n_conditions, n_channels)"

_LARGE_WHOLE = frozenset({torch.int32, torch.int64, torch.uint32, torch.uint64})  # of more digits than float32
_ASYMMETRY = 1e-4  # relative to the largest entry: inverting a covariance in float32 can leave this much


P = ParamSpec("P")

C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Traits:
    """The attributes of a dissimilarity.

    Attributes
    ----------
    label : str
        Its name, and unit if it has one, for axes and sentences.
    cross_validated : bool
        Whether it needs patterns of several runs ``(..., n_runs, n_conditions, n_channels)``.
    signed : bool
        Whether its values can be negative.
    of_counts : bool
        Whether its patterns are counts, which are summed over time, not averaged, and cannot be whitened.
    differentiable : bool
        Whether it has a useful gradient, so that a loss can use it.

    Examples
    --------
    >>> traits = traits_of(crossnobis)
    >>> traits.label, traits.cross_validated, traits.signed, traits.of_counts, traits.differentiable
    ('crossnobis distance / channel', True, True, False, True)
    """

    label: str
    cross_validated: bool = False
    signed: bool = False
    of_counts: bool = False
    differentiable: bool = True


@runtime_checkable
class Measure(Protocol[P]):
    """A dissimilarity with all its `Traits`."""

    label: str
    cross_validated: bool
    signed: bool
    of_counts: bool
    differentiable: bool

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor: ...


def measure(traits: Traits) -> Callable[[Callable[P, Tensor]], Measure[P]]:
    """Give a function `traits` as attributes."""

    def decorate(function: Callable[P, Tensor]) -> Measure[P]:
        vars(function).update(vars(traits))
        return cast(Measure[P], function)

    return decorate


def _traits_from(function: Measure[...]) -> Callable[[C], C]:
    """Give a class the attributes of the function of which it is the form with parameters."""

    def decorate(kind: C) -> C:
        for name, value in vars(traits_of(function)).items():
            setattr(kind, name, value)
        return kind

    return decorate


def traits_of(dissimilarity: object) -> Traits:
    """Return the traits of a dissimilarity, given by name or as a callable; what it does not say has its default.

    Examples
    --------
    >>> traits_of("poisson_cv").signed, traits_of(Crossnobis()).cross_validated, traits_of(len).label
    (True, True, 'len')
    """
    known = DISSIMILARITIES.get(dissimilarity) if isinstance(dissimilarity, str) else dissimilarity
    name = dissimilarity if isinstance(dissimilarity, str) else getattr(dissimilarity, "__name__", repr(dissimilarity))
    keys = ("cross_validated", "signed", "of_counts", "differentiable")
    held = {key: getattr(known, key) for key in keys if hasattr(known, key)}
    return Traits(getattr(known, "label", name), **held)


def label_of(name: str | None) -> str:
    """Return the label of a dissimilarity for axes and sentences; a name that is not known here is its own label.

    Examples
    --------
    >>> label_of("correlation"), label_of("city block"), label_of(None)
    ('correlation distance (1 - r)', 'city block', 'dissimilarity')
    """
    return traits_of(name or "dissimilarity").label


@runtime_checkable
class Dissimilarity(Protocol):
    """A function from patterns to dissimilarities; the module's docstring lists what it must satisfy.

    Examples
    --------
    >>> isinstance(euclidean, Dissimilarity)
    True
    """

    def __call__(self, x: Float[Tensor, "*batch n_conditions n_channels"], /) -> Float[Tensor, "*batch n_pairs"]:
        """Return one dissimilarity for each pair of conditions."""


@measure(Traits("squared Euclidean distance / channel"))
def euclidean(x: Float[Tensor, "*batch n_conditions n_channels"]) -> Float[Tensor, "*batch n_pairs"]:
    """Return the squared Euclidean distance divided by the number of channels, in [0, inf).

    rsatoolbox also squares and divides, so the values can be compared with its values directly.

    Parameters
    ----------
    x : Tensor (..., n_conditions, n_channels)
        Patterns, any unit.

    Returns
    -------
    Tensor (..., n_pairs)
        Squared unit of `x`.

    Raises
    ------
    BrainrdlError
        If `x` is not a tensor, or has fewer than 2 dimensions, 2 conditions or 1 channel.

    Examples
    --------
    >>> euclidean(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]))
    tensor([12.5000,  0.0000, 12.5000])
    """
    return squared_distances(checked_patterns(x))


@measure(Traits("correlation distance (1 - r)"))
def correlation(x: Float[Tensor, "*batch n_conditions n_channels"]) -> Float[Tensor, "*batch n_pairs"]:
    """Return one minus the Pearson correlation across channels, in [0, 2].

    A constant pattern has no correlation: its distance to every other pattern is 1 and its gradient 0 (rsatoolbox:
    NaN). `count_constant` counts such patterns.

    Parameters
    ----------
    x : Tensor (..., n_conditions, n_channels)
        Patterns, any unit.

    Returns
    -------
    Tensor (..., n_pairs)

    Raises
    ------
    BrainrdlError
        If `x` is not a tensor, or has fewer than 2 dimensions, 2 conditions or 1 channel.

    Examples
    --------
    >>> correlation(torch.tensor([[1.0, 0.0, 1.0, 0.0], [5.0, 1.0, 5.0, 1.0], [0.0, 1.0, 0.0, 1.0]]))
    tensor([0., 2., 2.])
    """
    return cosine_distances(checked_patterns(x), centre=True)


@measure(Traits("cosine distance (1 - cos)"))
def cosine(x: Float[Tensor, "*batch n_conditions n_channels"]) -> Float[Tensor, "*batch n_pairs"]:
    """Return one minus the cosine of the angle between patterns, in [0, 2]; not centred, so an offset matters.

    A pattern of zeros has no angle: its distance to every other pattern is 1 and its gradient 0.

    Parameters
    ----------
    x : Tensor (..., n_conditions, n_channels)
        Patterns, any unit.

    Returns
    -------
    Tensor (..., n_pairs)

    Raises
    ------
    BrainrdlError
        If `x` is not a tensor, or has fewer than 2 dimensions, 2 conditions or 1 channel.

    Examples
    --------
    >>> cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]))
    tensor([1., 2., 1.])
    """
    return cosine_distances(checked_patterns(x), centre=False)


@measure(Traits("squared Mahalanobis distance / channel"))
def mahalanobis(
    x: Float[Tensor, "*batch n_conditions n_channels"], noise_precision: Float[Tensor, "n_channels n_channels"]
) -> Float[Tensor, "*batch n_pairs"]:
    """Return the squared Mahalanobis distance divided by the number of channels, in [0, inf).

    The same as `Mahalanobis(noise_precision)(x)`. Use the class to apply one precision several times: it checks the
    precision only once.

    Parameters
    ----------
    x : Tensor (..., n_conditions, n_channels)
        Patterns, any unit.
    noise_precision : Tensor (n_channels, n_channels)
        Inverse noise covariance, symmetric, in the inverse squared unit of `x`. Whether it is positive definite is not
        checked.

    Returns
    -------
    Tensor (..., n_pairs)
        No unit.

    Raises
    ------
    BrainrdlError
        If `euclidean` would refuse `x`, or the precision is not finite, square and symmetric, or has another number of
        channels than `x`.

    Examples
    --------
    >>> mahalanobis(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    tensor([17.])
    """
    return Mahalanobis(noise_precision)(x)


@measure(Traits("crossnobis distance / channel", cross_validated=True, signed=True))
def crossnobis(
    x: Float[Tensor, "*batch n_runs n_conditions n_channels"],
    noise_precision: Float[Tensor, "n_channels n_channels"] | None = None,
) -> Float[Tensor, "*batch n_pairs"]:
    """Return the cross-validated squared Mahalanobis distance divided by the number of channels, in (-inf, inf).

    The differences in each run are multiplied by the differences in the mean of all other runs; these products are
    averaged over runs. The estimate is unbiased and can therefore be negative: do not clamp it or compute its root.

    Parameters
    ----------
    x : Tensor (..., n_runs, n_conditions, n_channels)
        Patterns of at least 2 independent runs, any unit.
    noise_precision : Tensor (n_channels, n_channels), optional
        Inverse noise covariance, symmetric, in the inverse squared unit of `x` (default: identity).

    Returns
    -------
    Tensor (..., n_pairs)
        No unit if a precision is given, otherwise the squared unit of `x`.

    Raises
    ------
    BrainrdlError
        If `x` has fewer than 3 dimensions, 2 runs or 2 conditions, or `mahalanobis` would refuse the precision.

    References
    ----------
    Walther et al. (2016), NeuroImage 137:188-200, doi 10.1016/j.neuroimage.2015.12.012.

    Examples
    --------
    >>> crossnobis(torch.tensor([[[0.0, 0.0], [2.0, 1.0]], [[0.0, 0.0], [1.0, -4.0]]]))
    tensor([-1.])
    """
    return Crossnobis(noise_precision)(x)


@measure(Traits("symmetrised Poisson KL divergence", of_counts=True))
def poisson(
    x: Float[Tensor, "*batch n_conditions n_channels"], prior_lambda: float = 1.0, prior_weight: float = 0.1
) -> Float[Tensor, "*batch n_pairs"]:
    """Return the symmetrised Kullback-Leibler divergence between Poisson rates over channels, in [0, inf).

    Parameters
    ----------
    x : Tensor (..., n_conditions, n_channels)
        Spike counts or rates, not negative.
    prior_lambda : float
        Rate of the Gamma prior towards which the rates are shrunk, in the unit of `x`.
    prior_weight : float
        Weight of that prior, in observations.

    Returns
    -------
    Tensor (..., n_pairs)
        In the unit of `x`.

    Raises
    ------
    BrainrdlError
        If `euclidean` would refuse `x`, `x` has negative values (or zeros without a prior), or the prior is negative.

    Examples
    --------
    >>> poisson(torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 12.0]]))
    tensor([ 0.0000, 11.9895, 11.9895])
    """
    return Poisson(prior_lambda, prior_weight)(x)


@measure(Traits("cross-validated Poisson KL divergence", cross_validated=True, signed=True, of_counts=True))
def poisson_cv(
    x: Float[Tensor, "*batch n_runs n_conditions n_channels"], prior_lambda: float = 1.0, prior_weight: float = 0.1
) -> Float[Tensor, "*batch n_pairs"]:
    """Return the cross-validated symmetrised Kullback-Leibler divergence between Poisson rates, in (-inf, inf).

    The differences between log rates in each run are multiplied by the differences between the mean rates of all other
    runs; these products are averaged over runs. The result can be negative: do not clamp it or compute its root.

    Parameters
    ----------
    x : Tensor (..., n_runs, n_conditions, n_channels)
        Spike counts or rates of at least 2 independent runs, not negative.
    prior_lambda : float
        Rate of the Gamma prior towards which the rates are shrunk, in the unit of `x`.
    prior_weight : float
        Weight of that prior, in observations.

    Returns
    -------
    Tensor (..., n_pairs)
        In the unit of `x`.

    Raises
    ------
    BrainrdlError
        If `crossnobis` would refuse the shape of `x`, or `poisson` would refuse its values or the prior.

    Notes
    -----
    Under this name, rsatoolbox 0.3.2 returns the value of its last fold only; here the folds are averaged.

    Examples
    --------
    >>> poisson_cv(torch.tensor([[[1.0, 1.0], [1.0, 12.0]], [[1.0, 1.0], [1.0, 12.0]]]))
    tensor([11.9895])
    """
    return PoissonCV(prior_lambda, prior_weight)(x)


@_traits_from(mahalanobis)
@dataclass(frozen=True, eq=False)
class Mahalanobis:
    """`mahalanobis` with its noise precision, which is checked only once.

    Parameters
    ----------
    noise_precision : Tensor (n_channels, n_channels)
        Inverse noise covariance, symmetric, in the inverse squared unit of the patterns.

    Raises
    ------
    BrainrdlError
        If the precision is not a finite, square, symmetric tensor.

    Examples
    --------
    >>> Mahalanobis(torch.eye(20))(torch.randn(4, 20)).shape
    torch.Size([6])
    """

    noise_precision: Float[Tensor, "n_channels n_channels"]

    def __post_init__(self) -> None:
        _check_precision(self.noise_precision)

    def __call__(self, x: Float[Tensor, "*batch n_conditions n_channels"], /) -> Float[Tensor, "*batch n_pairs"]:
        """Return the squared Mahalanobis distance divided by the number of channels."""
        x = centred(checked_patterns(x))
        return pair_products(x, _whitened(x, self.noise_precision), 1 / x.shape[-1])


@_traits_from(crossnobis)
@dataclass(frozen=True, eq=False)
class Crossnobis:
    """`crossnobis` with its noise precision, which is checked only once.

    Parameters
    ----------
    noise_precision : Tensor (n_channels, n_channels), optional
        Inverse noise covariance, symmetric, in the inverse squared unit of the patterns (default: identity).

    Raises
    ------
    BrainrdlError
        If the precision is not a finite, square, symmetric tensor.

    Examples
    --------
    >>> Crossnobis()(torch.randn(3, 4, 20)).shape  # 3 runs
    torch.Size([6])
    """

    noise_precision: Float[Tensor, "n_channels n_channels"] | None = None

    def __post_init__(self) -> None:
        if self.noise_precision is not None:
            _check_precision(self.noise_precision)

    def __call__(self, x: Float[Tensor, "*batch n_runs n_conditions n_channels"], /) -> Float[Tensor, "*batch n_pairs"]:
        """Return the cross-validated squared Mahalanobis distance divided by the number of channels."""
        x = centred(checked_patterns(x, RUNS, 3))
        others = _other_runs(x, "crossnobis", "mahalanobis")
        if self.noise_precision is not None:
            others = _whitened(others, self.noise_precision)
        return _run_products(x, others)


@_traits_from(poisson)
@dataclass(frozen=True)
class Poisson:
    """`poisson` with its prior.

    Parameters
    ----------
    prior_lambda : float
        Rate of the Gamma prior towards which the rates are shrunk, in the unit of the patterns.
    prior_weight : float
        Weight of that prior, in observations.

    Raises
    ------
    BrainrdlError
        If the prior's rate or weight is negative.

    Examples
    --------
    >>> Poisson(prior_weight=0.2)(torch.rand(4, 20)).shape
    torch.Size([6])
    """

    prior_lambda: float = 1.0
    prior_weight: float = 0.1

    def __post_init__(self) -> None:
        if not (self.prior_lambda >= 0 and self.prior_weight >= 0):
            refuse(f"poisson prior must not be negative, got lambda {self.prior_lambda}, weight {self.prior_weight}")

    def __call__(self, x: Float[Tensor, "*batch n_conditions n_channels"], /) -> Float[Tensor, "*batch n_pairs"]:
        """Return the symmetrised Kullback-Leibler divergence between Poisson rates over channels."""
        rates = self.rates(checked_patterns(x))
        return pair_products(centred(rates), centred(rates.log()), 1 / rates.shape[-1])

    def rates(self, x: Tensor) -> Tensor:
        """Shrink counts towards the prior's rate; refuse values that cannot be rates."""
        prior = self.prior_lambda * self.prior_weight
        if bool((x < 0).any()):
            refuse(f"poisson patterns must not be negative, got a value of {x.min().item():g}; pass counts or rates")
        if prior == 0 and bool((x == 0).any()):
            refuse("poisson patterns contain zeros, which need a prior; set prior_lambda and prior_weight above 0")
        return (x + prior) / (1 + self.prior_weight)


@_traits_from(poisson_cv)
@dataclass(frozen=True)
class PoissonCV(Poisson):
    """`poisson_cv` with its prior.

    Parameters
    ----------
    prior_lambda : float
        Rate of the Gamma prior towards which the rates are shrunk, in the unit of the patterns.
    prior_weight : float
        Weight of that prior, in observations.

    Raises
    ------
    BrainrdlError
        If the prior's rate or weight is negative.

    Examples
    --------
    >>> PoissonCV(prior_weight=0.2)(torch.rand(3, 4, 20)).shape  # 3 runs
    torch.Size([6])
    """

    def __call__(self, x: Float[Tensor, "*batch n_runs n_conditions n_channels"], /) -> Float[Tensor, "*batch n_pairs"]:
        """Return the cross-validated symmetrised Kullback-Leibler divergence between Poisson rates."""
        x = checked_patterns(x, RUNS, 3)
        others = _other_runs(x, "poisson_cv", "poisson")
        return _run_products(centred(self.rates(x).log()), centred(self.rates(others)))


def resolve(dissimilarity: str | Dissimilarity) -> Dissimilarity:
    """Return the dissimilarity of that name, or the callable itself.

    Parameters
    ----------
    dissimilarity : str or callable
        A name in ``DISSIMILARITIES``, or a function ``(..., n_conditions, n_channels) -> (..., n_pairs)``.

    Returns
    -------
    callable

    Raises
    ------
    BrainrdlError
        If the name is unknown or not sufficient ("mahalanobis" needs a precision), or `dissimilarity` is neither a
        name nor a callable.

    Examples
    --------
    >>> resolve("correlation") is correlation
    True
    """
    given: object = dissimilarity
    if not callable(given) and not isinstance(given, str):
        refuse(f"dissimilarity must be a name or a callable, got {given!r}")
    if not isinstance(dissimilarity, str):
        return dissimilarity
    if check_option(dissimilarity, DISSIMILARITIES, "dissimilarity") == "mahalanobis":
        refuse("dissimilarity 'mahalanobis' needs a noise precision; pass Mahalanobis(noise_precision), not the name")
    return DISSIMILARITIES[dissimilarity]


def count_constant(x: Float[Tensor, "*batch n_conditions n_channels"]) -> Int[Tensor, "*batch"]:
    """Return the number of constant patterns, 0 to n_conditions; `correlation` gives them distance 1.

    A pattern counts as constant if its spread over channels is at most 4 rounding errors of its mean.

    Parameters
    ----------
    x : Tensor (..., n_conditions, n_channels)
        Patterns, any unit.

    Returns
    -------
    Tensor (...), int64

    Raises
    ------
    BrainrdlError
        If `x` is not a tensor, or has fewer than 2 dimensions, 2 conditions or 1 channel.

    Examples
    --------
    >>> count_constant(torch.tensor([[0.1, 0.1, 0.1], [1.0, 2.0, 3.0]]))
    tensor(1)
    """
    centred, floor = channel_centred(checked_patterns(x).detach())
    return (centred.square().sum(-1) <= floor).sum(-1)


def checked_patterns(x: object, expected: str = "(..., n_conditions, n_channels)", at_least: int = 2) -> Tensor:
    """Return patterns in float64 if they are float64 or whole numbers of 32 bits or more, otherwise in float32.

    Refuse what are not patterns of two conditions or more.
    """
    if not isinstance(x, Tensor):
        refuse(f"patterns must be a torch tensor of shape {expected}, got {type(x).__name__}; use torch.as_tensor")
    check_ndim(x, at_least, "patterns", expected)
    check_n_conditions(x.shape[-2])
    if x.shape[-1] < 1:
        refuse(f"patterns must have at least 1 channel, got shape {tuple(x.shape)}")
    if x.dtype in (torch.float32, torch.float64):
        return x
    rounds = x.dtype in _LARGE_WHOLE and x.device.type != "mps"  # which has no float64
    return x.double() if rounds else x.float()


def _whitened(x: Tensor, noise_precision: Tensor) -> Tensor:
    if noise_precision.shape[-1] != x.shape[-1]:
        refuse(f"noise precision has shape {tuple(noise_precision.shape)}, but patterns have {x.shape[-1]} channels")
    return matmul(x, noise_precision.to(x))


def _other_runs(x: Tensor, name: str, instead: str) -> Tensor:
    """Mean over the other runs, for each run."""
    n_runs = x.shape[-3]
    if n_runs < 2:
        refuse(f"{name} needs at least 2 runs, got shape {tuple(x.shape)}; use {instead} for one run")
    return (x.sum(-3, keepdim=True) - x) / (n_runs - 1)


def _run_products(x: Tensor, others: Tensor) -> Tensor:
    """Average the pair products of each run over runs; runs are joined as channels, so one Gram matrix sums them."""
    n_runs, _, n_channels = x.shape[-3:]
    x, others = (part.transpose(-3, -2).flatten(-2) for part in (x, others))
    return pair_products(x, others, 1 / (n_runs * n_channels))


def _check_precision(precision: object) -> None:
    shape = tuple(precision.shape) if isinstance(precision, Tensor) else ()
    if not isinstance(precision, Tensor) or len(shape) != 2 or shape[0] != shape[1]:
        refuse(f"noise precision must be a tensor (n_channels, n_channels), got {type(precision).__name__} {shape}")
    precision = precision.detach()
    largest = _largest(precision)
    if not math.isfinite(largest):
        check_finite(precision, "the noise precision")
    asymmetry = _largest(precision - precision.mT)
    if asymmetry > _ASYMMETRY * largest:
        refuse(f"noise precision must be symmetric, but entries differ by up to {asymmetry:g}; pass (p + p.T) / 2")


def _largest(x: Tensor) -> float:
    """Return the largest absolute entry, NaN if one is NaN; in one pass, because a precision may be large."""
    low, high = torch.aminmax(x)
    return float(torch.maximum(-low, high))
