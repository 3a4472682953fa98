"""Is a model below the noise ceiling? The difference from the lower bound, with its interval and p-value."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_option, named, refuse
from brainrdl.dissimilarity.pairs import n_conditions_of
from brainrdl.inference.closed_forms import Prepared, has_closed_form, influences
from brainrdl.inference.influence import Influence
from brainrdl.inference.intervals import Dyadic, Interval
from brainrdl.inference.pairwise import comparison_of
from brainrdl.similarity.pooling import means_of_others, pooled_once
from brainrdl.similarity.registry import SIMILARITIES

_MOST = 2**25  # influences of pairs; beyond, the interaction of stimuli and subjects is not subtracted


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
    not differ from the lower bound can still be below a perfect model, because few subjects give a low bound.

    A test that treats the bound as a model which does not depend on the other subjects rejected more true null
    hypotheses in a simulation (docs/validity.md). Without influences in closed form (tau-a and others, unknown pairs),
    and with very many subjects, the interaction of stimuli and subjects is not subtracted from their variances, which
    makes the interval wider.

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
    bounds = _Bounds.of(rdms, comparator)
    return [_test(_influences(comparator, model.expand_as(rdms), bounds.subjects), bounds) for model in models]


def _influences(comparator: str, models: Tensor, subjects: Prepared) -> Influence:
    found = influences(comparator, models.contiguous()[None], subjects)
    return Influence(*(part[0] for part in found))


class _Bounds(NamedTuple):
    """Lower bounds of all subjects, and without each subject."""

    subjects: Prepared
    all_subjects: Influence  # mean over subjects
    values: Tensor  # (n_subjects,)
    pairs: Tensor  # (n_subjects, n_pairs), or (0, n_pairs) if the interaction is not subtracted
    conditions: Tensor

    @classmethod
    def of(cls, rdms: Tensor, comparator: str) -> _Bounds:
        n, subjects = len(rdms), Prepared(comparator, rdms[None])
        rows, pool = pooled_once(rdms, SIMILARITIES[comparator].poolable)
        everybody = _influences(comparator, means_of_others(rows, pool), subjects)
        with_interaction = has_closed_form(comparator, rdms) and n * rdms.numel() <= _MOST
        found = []
        for left_out in range(n):
            kept = torch.tensor([s for s in range(n) if s != left_out])
            others = torch.zeros_like(rdms).index_copy_(0, kept, means_of_others(rows[kept], pool))
            if with_interaction:
                of_all = _influences(comparator, others, subjects)
            else:
                of_all = Influence(comparison_of(comparator)(others, rdms), rdms[:, :0], rdms[:, :0])
            found.append(Influence(*(part[kept].mean(0) for part in of_all)))
        values, pairs, conditions = (torch.stack(column) for column in zip(*found, strict=True))
        if not with_interaction:
            pairs, conditions = everybody.pairs[:0], everybody.conditions[:0]
        return cls(subjects, Influence(*(part.mean(0) for part in everybody)), values, pairs, conditions)


def _test(model: Influence, bounds: _Bounds) -> CeilingTest:
    """Differences of all subjects together, and without each subject."""
    value, pairs, conditions = (part.mean(0) - bound for part, bound in zip(model, bounds.all_subjects, strict=True))
    n = len(model.value)
    values_without, pairs_without, conditions_without = (
        (part.sum(0) - part[: len(bound)]) / (n - 1) - bound for part, bound in zip(model, bounds[2:], strict=True)
    )
    n_stimuli = n_conditions_of(pairs.shape[-1])
    found = Dyadic(float(value), pairs, conditions, values_without, pairs_without, conditions_without, n_stimuli)
    interval: Interval = found.interval()
    return CeilingTest(found.value, *interval)
