"""How many stimuli and subjects a study needs, from a pilot.

The variance of a score has parts from stimuli, from subjects and from their interaction (`Dyadic`). Each part is
estimated in the pilot and shrinks with the number of stimuli, of pairs of stimuli, or of subjects. The power of the
package's calibrated test follows from these parts, and its standard error from how well the pilot measured them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_number, check_option, check_whole, named, quote, refuse
from brainrdl.inference.influence import dyadic, scale_for_few
from brainrdl.inference.intervals import Dyadic
from brainrdl.inference.pairwise import comparison_of, is_constant
from brainrdl.inference.uncertainty import DyadicInference, FoldRDMs
from brainrdl.rdms.by_name import align, names
from brainrdl.rdms.conversion import to_tensor
from brainrdl.rdms.subjects import groups
from brainrdl.similarity.registry import SIMILARITIES

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

COLUMNS = ("n_stimuli", "n_subjects", "effect", "sd", "freedom", "power", "power_error")

_Values = float | npt.NDArray[np.float64]

_DRAWS = 500  # of the variances, for the standard error of the power


class _Parts(NamedTuple):
    """Variances of a score in the pilot, each for its numbers of stimuli and subjects.

    Attributes
    ----------
    stimuli, pairs : float, or array of draws
        From stimuli, and from single pairs of stimuli, in all subjects.
    own_stimuli, own_pairs : float, or array of draws
        The same of single subjects (interaction), averaged over subjects.
    subjects : float, or array of draws
        From subjects, beyond the interaction.
    """

    stimuli: _Values
    pairs: _Values
    own_stimuli: _Values
    own_pairs: _Values
    subjects: _Values


def power(
    model: RDMs,
    pilot: RDMs,
    *,
    n_stimuli: Sequence[int],
    n_subjects: Sequence[int],
    effect: float | None = None,
    minus: RDMs | None = None,
    comparator: str = "corr",
    alpha: float = 0.05,
    by: str = "stimulus",
    seed: int = 0,
) -> pd.DataFrame:
    """Predict how often a study would find a score, or a difference between two scores, that is not 0.

    Parameters
    ----------
    model : rsatoolbox.rdm.RDMs
        RDM of one model, as in the pilot.
    pilot : rsatoolbox.rdm.RDMs
        RDMs of at least 3 subjects (rdm descriptor ``subject``), of the same conditions, in any order.
    n_stimuli, n_subjects : sequence of int
        Numbers of stimuli (at least 8) and subjects (at least 2) to consider, in all combinations.
    effect : float, optional
        True mean score with single subjects, or true difference, to find; by default that of the pilot. Pilots that led
        to a study tend to overestimate it: rather give the smallest effect that matters.
    minus : rsatoolbox.rdm.RDMs, optional
        RDM of a second model: plan for the difference between the scores of `model` and this one.
    comparator : str
        Name of one of `brainrdl.similarity.SIMILARITIES`.
    alpha : float
        Level of the two-sided test.
    by : str
        Pattern descriptor that names the conditions.
    seed : int
        Seed of the standard error's draws.

    Returns
    -------
    pandas.DataFrame
        One row per combination: n_stimuli, n_subjects, effect; sd, the predicted standard deviation of the estimate;
        freedom, the degrees of freedom of its test; power; and power_error, its standard error because the pilot's
        variances are estimates (too small for differences of cosines, see docs/validity.md).

    Raises
    ------
    BrainrdlError
        If there are fewer than 3 subjects or 8 conditions in the pilot, a number is too small, pairs are unknown,
        `model` or `minus` is more than one RDM, the conditions differ, or an option is unknown or out of bounds.

    Notes
    -----
    The test is that of `brainrdl.inference.intervals.Dyadic`, for scores averaged over subjects, without folds; power
    is that of a noncentral t distribution. With m stimuli and k subjects instead of the pilot's M and K, variances from
    stimuli are multiplied by M / m, those from pairs by M (M - 1) / (m (m - 1)), those of subjects and of the
    interaction by K / k, and all of stimuli by the ratio of the factors for few conditions
    (`brainrdl.inference.influence`). The prediction extrapolates: stimuli and subjects must be drawn as in the pilot.
    Comparison with simulated studies: docs/validity.md.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> rng = np.random.default_rng(0)
    >>> model, noise = rng.random(66), rng.random((6, 66))  # 12 stimuli, 6 subjects
    >>> labels = {"subject": list("abcdef")}
    >>> pilot = from_array(0.3 * model + noise, list("abcdefghijkl"), descriptors=labels)
    >>> table = power(from_array(model, list("abcdefghijkl")), pilot, n_stimuli=[12, 24], n_subjects=[6, 12])
    >>> int(table["power"].idxmax())  # the largest design
    3
    """
    check_option(comparator, SIMILARITIES, "comparator")
    check_number(alpha, "alpha", above=0)
    if alpha >= 1:
        refuse(f"{named('alpha')} must be below 1, got {alpha}; 0.05 is usual")
    for value in n_stimuli:
        check_whole(value, "n_stimuli", 8)
    for value in n_subjects:
        check_whole(value, "n_subjects", 2)
    fold = _pilot(pilot, by)
    shown = torch.cat(
        [_one(rdm, pilot, by, what) for rdm, what in ((model, "model"), (minus, "minus")) if rdm is not None]
    )
    estimate = _estimate(fold, shown, comparator)
    if effect is not None:
        check_number(effect, "effect")
    size, n = (len(fold.names), len(fold.rdms)), float(estimate.value if effect is None else effect)
    parts, ranks = _parts(estimate), SIMILARITIES[comparator].ranks
    drawn = _drawn(parts, *size, np.random.default_rng(seed))
    rows = []
    for m in n_stimuli:
        for k in n_subjects:
            (sd, freedom), of_draws = (_design(p, *size, m, k, ranks) for p in (parts, drawn))
            spread = _power(n, *of_draws, alpha).std()
            rows.append((m, k, n, float(sd), float(freedom), float(_power(n, sd, freedom, alpha)), float(spread)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _pilot(pilot: RDMs, by: str) -> FoldRDMs:
    grouped = groups(pilot, where="the pilot")
    if len(set(grouped.targets)) > 1:
        refuse(
            f"the pilot has RDMs of several {quote(grouped.target_by)}, {quote(dict.fromkeys(grouped.targets))}; "
            "select one of them"
        )
    conditions, rdms = names(pilot, by), to_tensor(pilot, dtype=torch.float64)
    if len(rdms) < 3 or len(conditions) < 8:
        refuse(f"a pilot needs at least 3 subjects and 8 conditions, got {len(rdms)} and {len(conditions)}")
    if rdms.isnan().any():
        refuse(f"the pilot has {int(rdms.isnan().sum())} unknown pairs (NaN); select conditions that all subjects have")
    if is_constant(rdms).any():
        refuse("a subject of the pilot has the same dissimilarity for all pairs; leave out this subject")
    return FoldRDMs(conditions, rdms)


def _one(rdm: RDMs, pilot: RDMs, by: str, what: str) -> Float[Tensor, "1 n_pairs"]:
    if rdm.n_rdm != 1:
        refuse(f"{named(what)} must be one RDM, got {rdm.n_rdm}; select one")
    found = to_tensor(align(pilot, rdm, by)[1], dtype=torch.float64)
    if found.isnan().any():
        refuse(
            f"{named(what)} has unknown pairs (NaN); select conditions whose dissimilarities are known, here and in "
            "the pilot"
        )
    if is_constant(found).any():
        refuse(f"{named(what)} has the same dissimilarity for all pairs, so it has no correlation with anything")
    return found


def _estimate(fold: FoldRDMs, shown: Tensor, comparator: str) -> Dyadic:
    """Mean score over subjects of the first model, minus that of the second."""
    inference = DyadicInference(fold.names, len(fold.rdms))
    everyone = range(len(fold.rdms))
    parts = inference.of_subjects(fold, shown, everyone, comparison_of(comparator), SIMILARITIES[comparator])
    scores = [
        inference.join(float(np.mean([float(part.found.value[0]) for part in of_model])), of_model)
        for of_model in zip(*parts, strict=True)
    ]
    return scores[0] if len(scores) == 1 else scores[0].minus(scores[1])


def _parts(estimate: Dyadic) -> _Parts:
    n = len(estimate.values_without)
    _, of_subjects, interaction = estimate.variances()
    all_stimuli = _split(estimate.pairs[None], estimate.conditions[None])
    own = _split(*(x - x.mean(0) for x in (estimate.pairs_without, estimate.conditions_without)))
    own = np.minimum(own * (n - 1) / n, all_stimuli)
    beyond = max(of_subjects - interaction, 0.0)
    (stimuli, pairs), (own_stimuli, own_pairs) = (all_stimuli - own).tolist(), own.tolist()
    return _Parts(stimuli, pairs, own_stimuli, own_pairs, beyond)


def _split(pairs: Tensor, conditions: Tensor) -> Float[np.ndarray, "2"]:
    """Dyadic variance, summed over rows, from effects of conditions and from single pairs."""
    alone = float(pairs.square().sum())
    whole = float(dyadic(pairs, conditions).sum())
    return np.array([max(whole - alone, 0.0), min(whole, alone)])


def _drawn(parts: _Parts, n_stimuli: int, n_subjects: int, rng: np.random.Generator) -> _Parts:
    """Draw variances as other pilots of this size would have estimated them."""
    of_stimuli = _chi_square(rng, max(n_stimuli / 2 - 1, 1))
    of_subjects = _chi_square(rng, n_subjects - 1)
    return _Parts(
        parts.stimuli * of_stimuli,
        parts.pairs * of_stimuli,
        parts.own_stimuli * of_subjects,
        parts.own_pairs * of_subjects,
        parts.subjects * of_subjects,
    )


def _chi_square(rng: np.random.Generator, freedom: float) -> Float[np.ndarray, " n_draws"]:
    return rng.chisquare(freedom, _DRAWS) / freedom


def _design(
    parts: _Parts, n_stimuli: int, n_subjects: int, m: int, k: int, ranks: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the standard deviation and degrees of freedom of the test with m stimuli and k subjects."""
    few = (scale_for_few(m, ranks) / scale_for_few(n_stimuli, ranks)) ** 2
    by_stimuli, by_pairs = few * n_stimuli / m, few * n_stimuli * (n_stimuli - 1) / (m * (m - 1))
    by_subjects = n_subjects / k
    shared = parts.stimuli * by_stimuli + parts.pairs * by_pairs
    own = (parts.own_stimuli * by_stimuli + parts.own_pairs * by_pairs) * by_subjects
    beyond = parts.subjects * by_subjects
    of_stimuli = np.asarray(shared + own)
    variance = np.maximum(of_stimuli + beyond, np.finfo(float).tiny)
    freedom = variance**2 / (beyond**2 / (k - 1) + of_stimuli**2 / max(m / 2 - 1, 1))
    return np.sqrt(variance), np.maximum(freedom, 1.0)


def _power(effect: float, sd: np.ndarray, freedom: np.ndarray, alpha: float) -> np.ndarray:
    from scipy.stats import nct, t

    critical, shift = t.isf(alpha / 2, freedom), abs(effect) / sd
    far = shift > critical + 30  # where the distribution's sum does not converge, and the power is 1
    found = nct.sf(critical, freedom, np.where(far, 0, shift)) + nct.sf(critical, freedom, -np.where(far, 0, shift))
    return np.asarray(np.where(far, 1.0, np.clip(found, 0, 1)))


def smallest_design(table: pd.DataFrame, at_least: float = 0.8) -> pd.DataFrame:
    """Select, for each number of stimuli, the smallest number of subjects with enough power.

    Parameters
    ----------
    table : pandas.DataFrame
        As `power` returns it.
    at_least : float
        Power that is enough, between 0 and 1.

    Returns
    -------
    pandas.DataFrame
        Rows of the table; none for numbers of stimuli with which no number of subjects was enough.

    Raises
    ------
    BrainrdlError
        If `at_least` is not between 0 and 1.

    Examples
    --------
    >>> table = pd.DataFrame({"n_stimuli": [24, 24], "n_subjects": [8, 16], "power": [0.6, 0.9]})
    >>> smallest_design(table)["n_subjects"].tolist()
    [16]
    """
    check_number(at_least, "at_least", above=0)
    if at_least >= 1:
        refuse(f"{named('at_least')} must be below 1, got {at_least}; 0.8 is usual")
    enough = table[table["power"] >= at_least].sort_values(["n_stimuli", "n_subjects"])
    return enough.groupby("n_stimuli", as_index=False).head(1).reset_index(drop=True)
