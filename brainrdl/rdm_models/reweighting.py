"""Feature reweighting: each channel's squared differences have a weight of their own in the RDM.

The weights are fitted by ridge regression of the dissimilarities on the squared differences of single channels
(`channel_distances`). How strong the penalty is, is chosen by cross-validation over conditions, within the conditions
that the weights are fitted to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.errors import arg, check_conditions, check_number, check_option, check_unique, check_whole, refuse
from brainrdl.dissimilarity.pairs import to_pairs, to_square
from brainrdl.dissimilarity.products import channel_centred, pair_products
from brainrdl.rdm_models.channel_distances import ChannelDistances
from brainrdl.rdm_models.least_squares import nonnegative_ridge, ridge
from brainrdl.rdm_models.targets import subjects_of_targets
from brainrdl.similarity.registry import SIMILARITIES

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)

NORMALISED = ("euclidean", "correlation", "cosine")

_FEWEST = 3  # conditions and pairs for a correlation

LARGEST = 8192  # channels, or pairs for signed weights of more channels: a matrix of this size needs 0.5 GiB


@dataclass(frozen=True, eq=False)
class Reweighted:
    """Fitted weights of channels.

    Attributes
    ----------
    patterns : Tensor (n_conditions, n_channels)
        Patterns after the normalisation that belongs to the dissimilarity.
    names : tuple of str
        Conditions.
    weights : Tensor (n_channels,)
        Weight of each channel's squared difference.
    offset : float
        Added to all dissimilarities.
    penalty : float
        The chosen penalty.
    scores : mapping of penalty to float
        Mean correlation in the inner folds; empty if there was one penalty.

    Examples
    --------
    >>> patterns = torch.tensor([[0.0, 1.0], [1.0, 1.0], [3.0, 0.0]])
    >>> Reweighted(patterns, ("a", "b", "c"), torch.tensor([2.0, 0.0]), 0.5, 1.0, {}).predict(["b", "c"]).tolist()
    [8.5]
    """

    patterns: Float[Tensor, "n_conditions n_channels"]
    names: tuple[str, ...]
    weights: Float[Tensor, " n_channels"]
    offset: float
    penalty: float
    scores: Mapping[float, float]

    @property
    def parameters(self) -> Mapping[str, float]:
        """The penalty, and the number of channels whose weight is not 0."""
        return {"penalty": self.penalty, "channels": float((self.weights != 0).sum())}

    def predict(self, names: Sequence[str]) -> Float[Tensor, " n_pairs"]:
        """Return the reweighted dissimilarities of `names`.

        Raises
        ------
        BrainrdlError
            If there is no pattern of a condition.
        """
        x = _rows(self.patterns, self.names, names).double()
        return pair_products(x, x * self.weights, 1.0) + self.offset


@dataclass(frozen=True, eq=False)
class ReweightedModel:
    """Feature-reweighted RSA: a weight for each channel, by ridge regression with a penalty from inner folds.

    Parameters
    ----------
    patterns : Tensor or array (n_conditions, n_channels)
        One pattern for each condition, for example a layer's.
    names : sequence of str
        Conditions.
    dissimilarity : {"euclidean", "correlation", "cosine"}
        How patterns are normalised before differences are squared, so that equal weights give this dissimilarity:
        "correlation" subtracts each pattern's mean and divides by its norm, "cosine" divides by the norm.
    nonnegative : bool
        Whether weights must be at least 0. The result is then the squared euclidean distance after a scaling of the
        channels, which a network with one more weight for each channel could compute.
    standardise : bool
        Divide each channel's squared differences by their standard deviation over pairs, so that the penalty does not
        depend on the scale of a channel.
    penalties : sequence of float
        Penalties to choose from, above 0, in units of the variance of a regressor: ``alpha = penalty * n_pairs`` of a
        ridge regression on z-scored distances.
    folds : int, or sequence of sequences of str
        Inner folds over conditions, at least 2; only pairs held out together are scored, by their correlation. Or the
        conditions of each fold.
    seed : int
        Seed of the inner folds.

    Raises
    ------
    BrainrdlError
        If an option is unknown, the patterns are not one finite row per name; in `fit`, if there are fewer than 8
        conditions, or more than 8,192 channels (with signed weights: of both channels and pairs).

    Notes
    -----
    No table of pairs x channels is made: the products of regressors follow from the products of patterns, and with more
    channels than pairs, the regression is solved for pairs. One eigendecomposition serves all penalties.

    References
    ----------
    Kaniuth & Hebart (2022), NeuroImage 257:119294, doi 10.1016/j.neuroimage.2022.119294.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> patterns, names = torch.randn(30, 12, generator=generator), [str(k) for k in range(30)]
    >>> from brainrdl.dissimilarity import euclidean
    >>> rdm = euclidean(patterns[:, :3])  # only three channels matter
    >>> fitted = ReweightedModel(patterns, names).fit(rdm[None], names)
    >>> sorted(fitted.weights.argsort()[-3:].tolist())
    [0, 1, 2]
    """

    patterns: Float[Tensor, "n_conditions n_channels"]
    names: Sequence[str]
    dissimilarity: str = "euclidean"
    nonnegative: bool = True
    standardise: bool = True
    penalties: Sequence[float] = PENALTIES
    folds: int | Sequence[Sequence[str]] = 5
    seed: int = 0

    def __post_init__(self) -> None:
        check_option(self.dissimilarity, NORMALISED, "dissimilarity of a reweighting")
        check_unique(self.names, "the names of the patterns")
        patterns = torch.as_tensor(self.patterns).detach().double().cpu()
        if patterns.ndim != 2 or len(patterns) != len(self.names):
            refuse(f"patterns should be ({len(self.names)} conditions, channels), got shape {tuple(patterns.shape)}")
        if not patterns.isfinite().all():
            row = int((~patterns.isfinite()).any(1).nonzero()[0])
            refuse(f"the pattern of condition {self.names[row]!r} is not finite")
        if not self.penalties:
            refuse(f"{arg('penalties')} should be one or more numbers above 0")
        for penalty in self.penalties:
            check_number(penalty, "penalties", above=0)
        if isinstance(self.folds, int):
            check_whole(self.folds, "folds", 2)
        object.__setattr__(self, "patterns", _normalised(patterns, self.dissimilarity))
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "penalties", tuple(sorted(map(float, self.penalties), reverse=True)))

    def fit(self, rdms: Float[Tensor, "n_subjects n_pairs"], names: Sequence[str]) -> Reweighted:
        """Choose the penalty in inner folds, and fit the weights to the mean of the RDMs."""
        target, patterns = rdms.double().nanmean(0), _rows(self.patterns, self.names, names)
        scores = self._scores(patterns, target, names) if len(self.penalties) > 1 else {}
        best = max(range(len(self.penalties)), key=lambda k: scores[self.penalties[k]]) if scores else 0
        weights, offsets = self._path(patterns, target, self.penalties[: best + 1])
        return Reweighted(
            self.patterns, tuple(self.names), weights[-1], float(offsets[-1]), self.penalties[best], scores
        )

    def _scores(self, patterns: Tensor, target: Tensor, names: Sequence[str]) -> dict[float, float]:
        """Mean over inner folds of the correlation between predicted and known dissimilarities, for each penalty."""
        square, found = to_square(target), []
        for test in self._inner(names):
            train = torch.tensor(sorted(set(range(len(names))) - set(test)))
            held_out = torch.tensor(test)
            weights, _ = self._path(patterns[train], to_pairs(square[train][:, train]), self.penalties)
            x = patterns[held_out]
            predicted = pair_products(x.expand(len(weights), -1, -1), x * weights[:, None], 1.0)
            found.append(SIMILARITIES["corr"](predicted, to_pairs(square[held_out][:, held_out])))
        means = torch.stack(found).nanmean(0).nan_to_num(nan=-torch.inf)
        return dict(zip(self.penalties, means.tolist(), strict=True))

    def _inner(self, names: Sequence[str]) -> list[list[int]]:
        if not isinstance(self.folds, int):
            place = {name: k for k, name in enumerate(names)}
            parts = [[place[name] for name in fold if name in place] for fold in self.folds]
            if useful := [part for part in parts if len(part) >= _FEWEST]:
                return useful
            refuse(f"no inner fold has {_FEWEST} of the {len(names)} conditions, whose pairs can be scored")
        n_folds = min(self.folds, len(names) // MIN_CONDITIONS)
        if n_folds < 2:
            refuse(
                f"choosing a penalty needs two inner folds of {MIN_CONDITIONS} conditions, got {len(names)} "
                f"conditions; give one penalty with {arg('penalties')}"
            )
        drawn = np.random.default_rng(self.seed).permutation(len(names))
        return [sorted(part.tolist()) for part in np.array_split(drawn, n_folds)]

    def _path(self, patterns: Tensor, target: Tensor, penalties: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Weights and offset for each penalty."""
        known = ~target.isnan()
        if int(known.sum()) < _FEWEST:
            refuse(f"fitting weights of channels needs at least {_FEWEST} known pairs, got {int(known.sum())}")
        distances = ChannelDistances(patterns, known, self.standardise)
        mean = target[known].mean()
        centred = torch.where(known, target - mean, 0.0)
        weights = self._solved(distances, centred, penalties) * distances.scale
        return weights, mean - weights @ distances.means

    def _solved(self, distances: ChannelDistances, centred: Tensor, penalties: Sequence[float]) -> Tensor:
        smaller = distances.n_channels if self.nonnegative else min(distances.n_channels, distances.n_pairs)
        if smaller > LARGEST:
            advice = "pool the layer, or use nonnegative=False" if self.nonnegative else "pool the layer"
            refuse(
                f"{distances.n_channels} channels and {distances.n_pairs} pairs are too many for reweighting (at most "
                f"{LARGEST} channels{'' if self.nonnegative else ', or pairs'}); {advice}"
            )
        if self.nonnegative:
            return nonnegative_ridge(distances.gram(), distances.products(centred), penalties)
        if distances.n_channels <= distances.n_pairs:
            return ridge(distances.gram(), distances.products(centred), penalties)
        solved = ridge(distances.gram_of_pairs() / distances.n_pairs, centred[distances.known], penalties)
        spread = centred.new_zeros(len(solved), len(centred))
        spread[:, distances.known] = solved
        return distances.products(spread)


def reweight(
    patterns: Float[Tensor, "n_conditions n_channels"],
    names: Sequence[str],
    rdms: RDMs,
    *,
    dissimilarity: str = "euclidean",
    nonnegative: bool = True,
    standardise: bool = True,
    penalties: Sequence[float] = PENALTIES,
    folds: int | Sequence[Sequence[str]] = 5,
    seed: int = 0,
) -> dict[str, Reweighted]:
    """Fit a weight for each channel to the mean RDM of each target; parameters are those of `ReweightedModel`.

    Parameters
    ----------
    patterns, names, dissimilarity, nonnegative, standardise, penalties, folds, seed
        As in `ReweightedModel`.
    rdms : RDMs
        Data; the rdm descriptor ``"subject"`` distinguishes subjects, others distinguish targets. Its conditions must
        have patterns.

    Returns
    -------
    dict of target to Reweighted
        How well the weights predict other conditions is scored by `brainrdl.evaluation.cross_validate_models`.

    Raises
    ------
    BrainrdlError
        As in `ReweightedModel`.

    Examples
    --------
    >>> from brainrdl.dissimilarity import euclidean
    >>> from brainrdl.rdms import from_tensor
    >>> generator = torch.Generator().manual_seed(0)
    >>> patterns, names = torch.randn(30, 12, generator=generator), [str(k) for k in range(30)]
    >>> found = reweight(patterns, names, from_tensor(euclidean(patterns[:, :3])[None], names))
    >>> sorted(found["rdm"].weights.argsort()[-3:].tolist())
    [0, 1, 2]
    """
    from brainrdl.rdms.by_name import names as names_of

    model = ReweightedModel(patterns, names, dissimilarity, nonnegative, standardise, penalties, folds, seed)
    conditions = names_of(rdms)
    return {
        target: model.fit(of_subjects, conditions)
        for target, (_, of_subjects) in subjects_of_targets(rdms, conditions).items()
    }


def _normalised(patterns: Tensor, dissimilarity: str) -> Tensor:
    if dissimilarity == "correlation":
        patterns, floor = channel_centred(patterns)
        patterns = patterns * (patterns.square().sum(-1) > floor)[:, None]  # a constant pattern has no direction
    if dissimilarity == "euclidean":
        return patterns
    return patterns / patterns.norm(dim=1, keepdim=True).clamp(min=torch.finfo(patterns.dtype).tiny)


def _rows(patterns: Tensor, names: Sequence[str], asked: Sequence[str]) -> Tensor:
    check_conditions(asked, names, "the patterns")
    place = {name: k for k, name in enumerate(names)}
    return patterns[[place[name] for name in asked]]
