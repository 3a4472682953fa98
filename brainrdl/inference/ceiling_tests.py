"""Is a model below the noise ceiling? The difference from the lower bound, with its interval and p-value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from brainrdl._core.errors import check_option, named, refuse
from brainrdl.dissimilarity.pairs import n_conditions_of
from brainrdl.inference.influence import Influence, influence
from brainrdl.inference.intervals import Dyadic, Interval
from brainrdl.inference.pairwise import comparison_of
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
        One RDM per subject, at least 3, with the conditions in the same order.
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.

    Returns
    -------
    list of CeilingTest
        One for each model.

    Raises
    ------
    BrainrdlError
        If there are fewer than 3 subjects, a pair is unknown, numbers of pairs differ, or the comparator is unknown.

    Notes
    -----
    The bound is the mean similarity of each subject with the mean of the others (`noise_ceiling`). It is a model that
    was made from subjects, so it is left out and made again for each jackknife value over subjects; stimuli count with
    their influence on the difference, so that what the model and the bound have in common cancels. A model that does
    not differ from the lower bound can still be below a perfect model, because few subjects give a low bound.

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
    if not (shown.isfinite().all() and of_subjects.isfinite().all()):
        refuse("a test against the noise ceiling needs known pairs; select conditions that all subjects have")
    own = [_influence(model, of_subjects, comparator) for model in shown]
    bounds = [_influence(others, of_subjects[kept], comparator) for kept, others in _pooled(of_subjects, comparator)]
    return [_test(model, bounds) for model in own]


def _influence(a: Tensor, b: Tensor, comparator: str) -> Influence:
    return influence(comparison_of(comparator), a.expand_as(b).contiguous(), b, SIMILARITIES[comparator])


def _pooled(rdms: Tensor, comparator: str) -> Iterator[tuple[list[int], Tensor]]:
    """For all subjects, and without each: those who are left, and for each of them the mean of the others."""
    comparable, n = SIMILARITIES[comparator].poolable(rdms), len(rdms)
    for left_out in (None, *range(n)):
        kept = [s for s in range(n) if s != left_out]
        # not the sum minus one subject: rounding would break ties of mean ranks
        yield kept, torch.stack([comparable[[other for other in kept if other != s]].mean(0) for s in kept])


def _test(model: Influence, bounds: list[Influence]) -> CeilingTest:
    """Differences of all subjects together, and without each subject."""
    n = len(model.value)
    kept = [[s for s in range(n) if s != left_out] for left_out in (None, *range(n))]
    value, pairs, conditions = (
        torch.stack([of_model[who].mean(0) - bound.mean(0) for who, bound in zip(kept, of_bounds, strict=True)])
        for of_model, of_bounds in zip(model, zip(*bounds, strict=True), strict=True)
    )
    n_stimuli = n_conditions_of(pairs.shape[-1])
    found = Dyadic(float(value[0]), pairs[0], conditions[0], value[1:], pairs[1:], conditions[1:], n_stimuli)
    interval: Interval = found.interval()
    return CeilingTest(found.value, *interval)
