"""Models made of given RDMs: a fixed one, the best one, a weighted sum, or a point between two neighbours.

They are rsatoolbox's `ModelFixed`, `ModelSelect`, `ModelWeighted` and `ModelInterpolate`, fitted in closed form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_option, refuse
from brainrdl.inference.pairwise import comparison_of, is_constant
from brainrdl.rdm_models.targets import stacked, subjects_of_targets
from brainrdl.rdms.by_name import names as names_of
from brainrdl.similarity.registry import SIMILARITIES

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

FITTED_BY = ("corr", "cosine")  # a sum of RDMs that is most similar by these is a least-squares solution


@dataclass(frozen=True)
class Combination:
    """A fitted sum of model RDMs.

    Attributes
    ----------
    models : mapping of name to RDMs
    weights : tuple of float
        One per model, in the same order.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> size = from_array([1.0, 2.0, 3.0], list("abc"))
    >>> Combination({"size": size}, (2.0,)).predict(["b", "a", "c"]).tolist()
    [2.0, 6.0, 4.0]
    """

    models: Mapping[str, RDMs]
    weights: tuple[float, ...]

    @property
    def parameters(self) -> Mapping[str, float]:
        """Weight of each model."""
        return dict(zip(self.models, self.weights, strict=True))

    def predict(self, names: Sequence[str]) -> Float[Tensor, " n_pairs"]:
        """Return the weighted sum for these conditions."""
        return torch.tensor(self.weights, dtype=torch.float64) @ stacked(self.models, names)


@dataclass(frozen=True)
class FixedModel:
    """One RDM without parameters.

    Parameters
    ----------
    rdm : RDMs
        One RDM.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> fixed = FixedModel(from_array([1.0, 2.0, 3.0], list("abc"))).fit(torch.rand(1, 1), ["a", "b"])
    >>> fixed.predict(["b", "c"]).tolist()
    [3.0]
    """

    rdm: RDMs

    def fit(self, rdms: Float[Tensor, "n_subjects n_pairs"], names: Sequence[str]) -> Combination:
        """Return the RDM; nothing is fitted."""
        return Combination({"fixed": self.rdm}, (1.0,))


@dataclass(frozen=True)
class SelectModel:
    """The model RDM with the highest mean similarity to the subjects' RDMs, for example the best layer.

    Parameters
    ----------
    models : mapping of name to RDMs
        One RDM each.
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.

    Raises
    ------
    BrainrdlError
        If the comparator is unknown; in `fit`, if no model has a known similarity.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> models = {"size": from_array([3.0, 1.0, 2.0], list("abc")), "form": from_array([1.0, 2.0, 3.0], list("abc"))}
    >>> SelectModel(models).fit(torch.tensor([[1.0, 2.0, 4.0]]), ["a", "b", "c"]).parameters
    {'size': 0.0, 'form': 1.0}
    """

    models: Mapping[str, RDMs]
    comparator: str = "corr"

    def __post_init__(self) -> None:
        check_option(self.comparator, SIMILARITIES, "comparator")

    def fit(self, rdms: Float[Tensor, "n_subjects n_pairs"], names: Sequence[str]) -> Combination:
        """Choose a model."""
        found = comparison_of(self.comparator)(stacked(self.models, names)[:, None], rdms.double()).nanmean(1)
        if found.isnan().all():
            refuse(f"no model can be chosen: the similarity of each of {list(self.models)} to the RDMs is undefined")
        best = int(found.nan_to_num(nan=-torch.inf).argmax())
        return Combination(self.models, tuple(float(k == best) for k in range(len(found))))


@dataclass(frozen=True)
class WeightedModel:
    """A weighted sum of model RDMs, the one with the highest mean similarity to the subjects' RDMs.

    Parameters
    ----------
    models : mapping of name to RDMs
        One RDM each, for example the layers of a network.
    comparator : {"corr", "cosine"}
        Similarity to maximise; with "corr", a constant is added to the sum.
    nonnegative : bool
        Whether weights must be at least 0, so that the sum of squared distances is again one.

    Raises
    ------
    BrainrdlError
        If the comparator is another one; rank comparators have no closed form, but may score the result.

    Notes
    -----
    Weights have a norm of 1, as in rsatoolbox; they refer to the RDMs as given, so divide RDMs by their standard
    deviation to compare weights. All are 0 if no non-negative sum resembles the RDMs, and the prediction is constant.

    References
    ----------
    Khaligh-Razavi & Kriegeskorte (2014), PLoS Comput. Biol. 10(11):e1003915, doi 10.1371/journal.pcbi.1003915.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> models = {"size": from_array([3.0, 0.0, 0.0], list("abc")), "form": from_array([0.0, 4.0, 0.0], list("abc"))}
    >>> fitted = WeightedModel(models, "cosine").fit(torch.tensor([[9.0, 16.0, 0.0]]), ["a", "b", "c"])
    >>> {name: round(weight, 6) for name, weight in fitted.parameters.items()}
    {'size': 0.6, 'form': 0.8}
    """

    models: Mapping[str, RDMs]
    comparator: str = "corr"
    nonnegative: bool = True

    def __post_init__(self) -> None:
        check_option(self.comparator, FITTED_BY, "comparator of a weighted sum")

    def fit(self, rdms: Float[Tensor, "n_subjects n_pairs"], names: Sequence[str]) -> Combination:
        """Fit the weights by least squares to the mean of the RDMs, rescaled as `comparator` needs it."""
        regressors, target = _regression(self.models, rdms, names, self.comparator)
        weights = _least_squares(regressors, target, self.nonnegative)
        norm = float(weights.norm())
        return Combination(self.models, tuple((weights / (norm or 1.0)).tolist()))


@dataclass(frozen=True)
class InterpolatedModel:
    """A point on the line between two neighbouring model RDMs, for example between sizes of a receptive field.

    Parameters
    ----------
    models : mapping of name to RDMs
        One RDM each, in order; at least two.
    comparator : {"corr", "cosine"}
        Similarity to maximise.

    Raises
    ------
    BrainrdlError
        If there are fewer than two models, or the comparator is another one.

    Notes
    -----
    The weights of the two neighbours are at least 0 and have a sum of 1; the others are 0. As cosines do not depend on
    scale, the best non-negative sum of two RDMs is also the best point between them.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> small, large = from_array([1.0, 2.0, 3.0], list("abc")), from_array([3.0, 1.0, 2.0], list("abc"))
    >>> model = InterpolatedModel({"small": small, "large": large})
    >>> fitted = model.fit(torch.tensor([[2.5, 1.25, 2.25]]), ["a", "b", "c"])
    >>> {name: round(weight, 6) for name, weight in fitted.parameters.items()}
    {'small': 0.25, 'large': 0.75}
    """

    models: Mapping[str, RDMs]
    comparator: str = "corr"

    def __post_init__(self) -> None:
        check_option(self.comparator, FITTED_BY, "comparator of an interpolation")
        if len(self.models) < 2:
            refuse(f"an interpolation needs at least 2 model RDMs, got {list(self.models)}")

    def fit(self, rdms: Float[Tensor, "n_subjects n_pairs"], names: Sequence[str]) -> Combination:
        """Fit the place between each two neighbours, and keep the best."""
        regressors, target = _regression(self.models, rdms, names, self.comparator)
        found = [_between(regressors, target, k) for k in range(len(regressors) - 1)]
        best = max(found, key=lambda weights: _cosine(weights @ regressors, target))
        return Combination(self.models, tuple(best.tolist()))


def fit_weights(
    models: Mapping[str, RDMs], rdms: RDMs, *, comparator: str = "corr", nonnegative: bool = True
) -> pd.DataFrame:
    """Fit a `WeightedModel` to each target of the data, and return the weights.

    Parameters
    ----------
    models, comparator, nonnegative
        As in `WeightedModel`.
    rdms : RDMs
        Data; the rdm descriptor ``"subject"`` distinguishes subjects, others distinguish targets. Conditions are
        matched by name.

    Returns
    -------
    pandas.DataFrame
        Columns target, model, weight, and score: the mean similarity of the weighted sum to the subjects' RDMs. It is a
        score on the data that the weights were fitted to; `brainrdl.evaluation.cross_validate_models` scores on others.

    Raises
    ------
    BrainrdlError
        As in `WeightedModel`, or if a model lacks conditions of the data.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> models = {"size": from_array([3.0, 0.0, 0.0], list("abc")), "form": from_array([0.0, 4.0, 0.0], list("abc"))}
    >>> fit_weights(models, from_array([9.0, 16.0, 0.0], list("abc")), comparator="cosine").round(3)
      target model  weight  score
    0    rdm  size     0.6    1.0
    1    rdm  form     0.8    1.0
    """
    names, rows = names_of(rdms), []
    model = WeightedModel(models, comparator, nonnegative)
    for target, (_, of_subjects) in subjects_of_targets(rdms, names).items():
        fitted = model.fit(of_subjects, names)
        score = float(SIMILARITIES[comparator](fitted.predict(names), of_subjects).nanmean())
        rows += [
            {"target": target, "model": name, "weight": weight, "score": score}
            for name, weight in fitted.parameters.items()
        ]
    return pd.DataFrame(rows)


def _regression(
    models: Mapping[str, RDMs], rdms: Tensor, names: Sequence[str], comparator: str
) -> tuple[Float[Tensor, "n_models n_known"], Float[Tensor, " n_known"]]:
    """Return regressors and target over known pairs; centred for a comparator that ignores the mean."""
    similarity = SIMILARITIES[comparator]
    pooled = similarity.poolable(rdms.double()).nanmean(0)
    known = ~pooled.isnan()
    if not known.any():
        refuse("no pair of the RDMs is known, so there is nothing to fit a model to")
    regressors, target = stacked(models, names)[:, known], pooled[known]
    if similarity.centred:
        flat = is_constant(regressors)[:, None]  # what is left of them would be rounding errors
        regressors = (regressors - regressors.mean(1, keepdim=True)).masked_fill(flat, 0)
        target = target - target.mean()
    return regressors, target


def _least_squares(regressors: Tensor, target: Tensor, nonnegative: bool) -> Tensor:
    from scipy.optimize import nnls

    norms = regressors.norm(dim=1)
    scale = torch.where(norms > 0, 1 / norms, 0.0)
    scaled = (regressors * scale[:, None]).T
    if nonnegative:
        return torch.tensor(nnls(scaled.numpy(), target.numpy())[0]) * scale
    return torch.linalg.lstsq(scaled, target[:, None], driver="gelsd").solution[:, 0] * scale


def _between(regressors: Tensor, target: Tensor, k: int) -> Tensor:
    """Weights of all RDMs for the best point between RDM k and the next; an end if no point is better."""
    weights = regressors.new_zeros(len(regressors))
    found = _least_squares(regressors[k : k + 2], target, nonnegative=True)
    if not found.any():
        ends = torch.stack([_cosine(one, target) for one in regressors[k : k + 2]])
        found = torch.nn.functional.one_hot(ends.argmax(), 2).to(weights)
    weights[k : k + 2] = found / found.sum()
    return weights


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / (a.norm() * b.norm()).clamp(min=torch.finfo(a.dtype).tiny)
