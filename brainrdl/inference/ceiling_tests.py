"""Is a model below the noise ceiling? The difference from the lower bound, with its interval and p-value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_option, named, refuse
from brainrdl.dissimilarity.pairs import n_conditions_of
from brainrdl.inference.closed_forms import influences
from brainrdl.inference.influence import Influence
from brainrdl.inference.intervals import Dyadic, Interval
from brainrdl.similarity.pooling import means_of_others
from brainrdl.similarity.registry import SIMILARITIES


class CeilingTest(NamedTuple):
    """Difference between a model's score and the lower bound of the noise ceiling.

    Attributes
    ----------
    value : float
        Mean score with single subjects, minus the lower bound; negative if the model is below.
    low, high : float
        Limits of the 95 % interval over stimuli and subjects.
    p : float
        Two-sided p-value of no difference.

    Examples
    --------
    >>> CeilingTest(-0.1, -0.2, 0.0, 0.05).value
    -0.1
    """

    value: float
    low: float
    high: float
    p: float


def ceiling_test(
    models: Tensor | npt.ArrayLike, rdms: Tensor | npt.ArrayLike, comparator: str = "corr"
) -> list[CeilingTest]:
    """Test whether models score below (or above) the lower bound of the noise ceiling.

    Parameters
    ----------
    models : array (n_models, n_pairs)
        RDMs of models.
    rdms : array (n_subjects, n_pairs)
        One RDM per subject, at least 3, with the conditions in the same order; NaN for an unknown pair.
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.

    Returns
    -------
    list of CeilingTest
        One for each model.

    Raises
    ------
    BrainrdlError
        If there are fewer than 3 subjects, a model has unknown pairs, numbers of pairs differ, or the comparator is
        unknown.

    Notes
    -----
    The bound is the mean similarity of each subject with the mean of the others (`noise_ceiling`). It is a model that
    was made from subjects, so it is left out and made again for each jackknife value over subjects; stimuli count with
    their influence on the difference, so that what the model and the bound have in common cancels. A model that does
    not differ from the lower bound can still be below a perfect model, because few subjects give a low bound. To treat
    the bound as a model that does not depend on the other subjects rejected more true null hypotheses in a simulation
    (docs/validity.md).

    References
    ----------
    Nili et al. (2014), PLoS Comput. Biol. 10(4):e1003553, doi 10.1371/journal.pcbi.1003553.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shared, other, noise = rng.random(66), rng.random(66), rng.random((5, 66))
    >>> perfect, unrelated = ceiling_test(np.stack([shared, other]), shared + 0.5 * noise)
    >>> perfect.value > 0 > unrelated.high
    True
    """
    check_option(comparator, SIMILARITIES, "comparator")
    shown, of_subjects = (torch.as_tensor(np.ascontiguousarray(x, dtype=float)) for x in (models, rdms))
    if shown.ndim != 2 or of_subjects.ndim != 2 or shown.shape[1] != of_subjects.shape[1]:
        refuse(
            f"{named('models')} and {named('rdms')} must have shapes (n_models, n_pairs) and (n_subjects, n_pairs), "
            f"got {tuple(shown.shape)} and {tuple(of_subjects.shape)}"
        )
    if len(of_subjects) < 3:
        refuse(f"a test against the noise ceiling needs at least 3 subjects, got {len(of_subjects)}")
    if shown.isnan().any() or shown.isinf().any() or of_subjects.isinf().any():
        refuse("a test against the noise ceiling needs finite model RDMs; NaN is for unknown pairs of subjects only")
    return lower_bound_tests(shown, of_subjects, comparator)


def lower_bound_tests(
    models: Float[Tensor, "n_models *n_subjects n_pairs"], rdms: Float[Tensor, "n_subjects n_pairs"], comparator: str
) -> list[CeilingTest]:
    """Test models against the lower bound of the noise ceiling, as `ceiling_test`, which checks what it is given.

    Parameters
    ----------
    models : Tensor (n_models, n_pairs) or (n_models, n_subjects, n_pairs)
        One RDM for all subjects, or one for each, float64.
    rdms : Tensor (n_subjects, n_pairs)
        At least 3, float64; NaN for an unknown pair.
    comparator : str

    Returns
    -------
    list of CeilingTest
        NaN for a model that is constant.

    Examples
    --------
    >>> rdms = torch.rand(5, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> [test.value < 0 for test in lower_bound_tests(rdms[:1], rdms[1:], "corr")]
    [False]
    """
    bounds = [_mean_of(_influences(comparator, *pooled)) for pooled in _pooled(rdms, comparator)]
    return [_test(_influences(comparator, model, rdms), bounds) for model in models]


def _influences(comparator: str, a: Tensor, b: Tensor) -> Influence:
    return influences(comparator, a.expand_as(b).contiguous(), b)


def _mean_of(found: Influence) -> Influence:
    return Influence(*(part.mean(0) for part in found))


def _pooled(rdms: Tensor, comparator: str) -> Iterator[tuple[Tensor, Tensor]]:
    """For all subjects, and without each: the mean of the others for each who is left, and those who are left."""
    for left_out in (None, *range(len(rdms))):
        kept = rdms[[s for s in range(len(rdms)) if s != left_out]]
        yield means_of_others(kept, SIMILARITIES[comparator].poolable), kept


def _test(model: Influence, bounds: list[Influence]) -> CeilingTest:
    """Differences of all subjects together, and without each subject."""
    n = len(model.value)
    kept = [[s for s in range(n) if s != left_out] for left_out in (None, *range(n))]
    value, pairs, conditions = (
        torch.stack([of_model[who].mean(0) - bound for who, bound in zip(kept, of_bounds, strict=True)])
        for of_model, of_bounds in zip(model, zip(*bounds, strict=True), strict=True)
    )
    n_stimuli = n_conditions_of(pairs.shape[-1])
    found = Dyadic(float(value[0]), pairs[0], conditions[0], value[1:], pairs[1:], conditions[1:], n_stimuli)
    interval: Interval = found.interval()
    return CeilingTest(found.value, *interval)
