"""Is a model below the noise ceiling? The difference from the lower bound, with its interval and p-value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_option, named, refuse
from brainrdl._core.given_values import as_float64
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
        Limits of the 95% interval over stimuli and subjects.
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
    shown, of_subjects = (
        torch.as_tensor(np.ascontiguousarray(as_float64(x, named(what))))
        for x, what in ((models, "models"), (rdms, "rdms"))
    )
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
    own = models[:, None] if models.ndim == 2 else models
    return [_test(_influences(comparator, model, bounds.subjects), bounds) for model in own]


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
        sums = [torch.zeros_like(part) for part in (everybody if with_interaction else everybody[:1])]
        for one in range(n - 1):
            means = _means_without_two(rows, pool, one)
            found = _compared_twice(comparator, means, subjects, one, with_interaction)
            for total, of_later, of_one in zip(sums, *found, strict=True):
                total[one] += of_later.sum(0)
                total[one + 1 :] += of_one
        without = [total / (n - 1) for total in sums] + [part[:0] for part in everybody[len(sums) :]]
        return cls(subjects, Influence(*(part.mean(0) for part in everybody)), *without)


def _means_without_two(rows: Tensor, pool: Callable[[Tensor], Tensor], one: int) -> Tensor:
    """Mean RDM of the others, without subject `one` and each later subject in turn.

    It is the bound of the second subject if the first is left out, and of the first if the second is.
    """
    if rows.isnan().any():
        rest = torch.cat([rows[:one], rows[one + 1 :]])
        others = (torch.cat([rest[:s], rest[s + 1 :]]) for s in range(one, len(rest)))
        return torch.stack([pool(few).nanmean(0) for few in others])
    later = rows[one + 1 :]
    # sums of the others alone, as in `means_of_others`, so that pairs that are equal in all of them are tied
    between, behind = _sums_before(later), _sums_before(later.flip(0)).flip(0)
    return (rows[:one].sum(0) + between + behind) / (len(rows) - 2)


def _sums_before(rows: Tensor) -> Tensor:
    """Sum of the rows before each row."""
    return torch.cat([torch.zeros_like(rows[:1]), rows[:-1].cumsum(0)])


def _compared_twice(
    comparator: str, means: Tensor, subjects: Prepared, one: int, with_interaction: bool
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Compare means without two subjects with the later one of them, and with subject `one`."""
    n = len(means) + one + 1
    if not with_interaction:
        compare, rdms = comparison_of(comparator), subjects.rdms[0]
        return [compare(means, rdms[one + 1 :])], [compare(means, rdms[one])]
    prepared = Prepared(comparator, means[None])
    blocks = subjects.block(one + 1, n), subjects.block(one, one + 1)
    later, first = ([part[0] for part in influences(comparator, prepared, block)] for block in blocks)
    return later, first


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
