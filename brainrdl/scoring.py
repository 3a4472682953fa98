"""Scores of held-out RDMs against the teacher's, like with like, with noise ceilings and intervals.

Two comparisons are kept apart. *Against subjects*: the RDM is compared with each subject's, and the ceiling is the
leave-one-subject-out noise ceiling of rsatoolbox. *Against the mean*: it is compared with the subjects' mean RDM, and the ceiling is
the reliability of that mean, the square root of the Spearman-Brown prediction from the mean correlation between two subjects.
A score against the mean over a leave-one-out ceiling would flatter every model.

Pairs count only if both stimuli were held out together. Intervals come from resampling stimuli and subjects; folds and seeds share
stimuli and are averaged within each resample, never taken for independent. A resample is a set of weights: a pair counts as often as
the product of its stimuli's counts. The variances of three bootstraps (both, subjects alone, stimuli alone) are combined by
rsatoolbox's correction, and the interval is score +- t * sd with the smaller number of subjects or stimuli less one as degrees of
freedom (Schuett et al. 2023, doi 10.7554/eLife.82566). Students are not refitted: the interval is for these fitted students.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from brainrdl import similarity as _similarity
from brainrdl._checks import check_option
from brainrdl._ranks import centred_ranks
from brainrdl.dissimilarity import pair_indices, to_square

PARTIAL = "partial "
PARTIAL_OF = ("spearman", "corr")
GROUP = ("student", "role", "layer", "target", "comparator", "against")
_CONFIDENCE = 0.95
_NO_CEILING = (float("nan"), float("nan"))


@dataclass(frozen=True)
class HeldOut:
    """One RDM of the conditions of one fold, held out together, and where it comes from.

    Attributes
    ----------
    student : str
        Label in the tables.
    role : {"student", "unfitted", "permuted", "category", "model", "ensemble"}
        What kind of row it is; "category" and "model" rows are also what partial correlations are controlled for.
    base : str
        Label of the unfitted student that a gain is measured from; "" for none.
    layer, target : str
    seed, fold : int
    names : tuple of str
        Conditions.
    pairs : Tensor (n_pairs,)
        Dissimilarities.
    left_out : str
        Subject whose RDM the teacher did not hold; "" if it held all.
    """

    student: str
    role: str
    base: str
    layer: str
    target: str
    seed: int
    fold: int
    names: tuple[str, ...]
    pairs: Float[Tensor, " n_pairs"]
    left_out: str = ""


@dataclass(frozen=True)
class TeacherRDMs:
    """Every subject's RDM of one target, by condition name: what held-out RDMs are scored against.

    Attributes
    ----------
    target : str
    names, subjects : tuple of str
    pairs : Tensor (n_subjects, n_pairs)
    """

    target: str
    names: tuple[str, ...]
    subjects: tuple[str, ...]
    pairs: Float[Tensor, "n_subjects n_pairs"]

    def of(self, names: Sequence[str]) -> Float[Tensor, "n_subjects n_chosen"]:
        """Pairs of `names`, in their order, float64."""
        position = {name: i for i, name in enumerate(self.names)}
        chosen = torch.tensor([position[name] for name in names])
        k, m = pair_indices(len(names))
        return to_square(self.pairs.double())[:, chosen[k], chosen[m]]


def score(
    held_out: Sequence[HeldOut],
    teachers: Mapping[str, TeacherRDMs],
    comparators: Sequence[str],
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score held-out RDMs fold by fold, and summarise them with intervals.

    Parameters
    ----------
    held_out : sequence of HeldOut
        RDMs of students, controls and models.
    teachers : mapping of target to TeacherRDMs
        What they are scored against.
    comparators : sequence of str
        Names of `brainrdl.similarity.SIMILARITIES`; "spearman" and "corr" bring a partial correlation given the category and
        other models, if there are any.
    n_bootstrap : int
        Resamples behind the 95 % intervals, of each of three kinds; 0 for none.
    seed : int
        Seed of the resampling.

    Returns
    -------
    scores, summary : pandas.DataFrame
        One row per student x layer x target x comparator x against x subject x seed x fold, and one per
        student x layer x target x comparator x against.

    Raises
    ------
    BrainrdlError
        If a comparator is unknown.

    Examples
    --------
    >>> import torch
    >>> subjects = torch.rand(3, 15, generator=torch.Generator().manual_seed(0))
    >>> teacher = TeacherRDMs("IT", tuple("abcdef"), ("s1", "s2", "s3"), subjects)
    >>> perfect = HeldOut("oracle", "student", "", "layer1", "IT", 0, 0, tuple("abcdef"), subjects.mean(0))
    >>> _, summary = score([perfect], {"IT": teacher}, ["corr"], n_bootstrap=0)
    >>> float(summary.loc[summary.against == "mean", "score"].iloc[0].round(6))
    1.0
    """
    for comparator in comparators:
        check_option(comparator, _similarity.SIMILARITIES, "comparator")
    judge = _Judge(teachers, _models(held_out), n_bootstrap, seed)
    marks = [mark for one in held_out for comparator in comparators for mark in judge.marks(one, comparator)]
    scores = pd.DataFrame([mark.row for mark in marks])
    return scores, _summarise(scores, marks)


@dataclass(frozen=True)
class _Mark:
    """One score, its bootstrap replicates, and how often each replicate drew its subject."""

    row: dict[str, object]
    draws: Float[Tensor, " n_draws"]
    weights: Float[Tensor, " n_draws"]
    n_subjects: int
    n_stimuli: int

    @property
    def group(self) -> tuple[object, ...]:
        return tuple(self.row[column] for column in GROUP)


class _Judge:
    """Scores one held-out RDM after another; what depends on the fold alone is computed once."""

    def __init__(self, teachers: Mapping[str, TeacherRDMs], models: _Models, n_bootstrap: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.teachers, self.models = teachers, models
        names = sorted({name for teacher in teachers.values() for name in teacher.names})
        subjects = sorted({subject for teacher in teachers.values() for subject in teacher.subjects})
        drawn = _resample(names, n_bootstrap, generator), _resample(subjects, n_bootstrap, generator)
        same = [{name: torch.ones(n_bootstrap, dtype=torch.float64) for name in counts} for counts in drawn]
        self.stimulus_counts = _joined(drawn[0], same[0], drawn[0])  # both, subjects alone, stimuli alone
        self.subject_counts = _joined(drawn[1], drawn[1], same[1])
        self.folds: dict[tuple[str, tuple[str, ...]], _Fold] = {}

    def marks(self, one: HeldOut, comparator: str) -> Iterator[_Mark]:
        fold = self._fold(one.target, one.names)
        student = one.pairs.double().cpu()
        row = {"student": one.student, "role": one.role, "base": one.base, "layer": one.layer, "target": one.target}
        row |= {"seed": one.seed, "fold": one.fold, "n_conditions": len(one.names), "n_pairs": len(student)}
        compare = _similarity.SIMILARITIES[comparator]
        sizes = len(fold.subjects), len(self.teachers[one.target].names)
        if not one.left_out:
            value, draws = compare(student, fold.mean), compare(student, fold.mean_draws, fold.pair_counts)
            yield _mark(row, comparator, "mean", "", value, draws, torch.ones_like(draws), fold.reliability(comparator), sizes)
        for s, subject in enumerate(fold.subjects):
            if one.left_out in ("", subject):
                value, draws = compare(student, fold.rdms[s]), compare(student, fold.rdms[s], fold.pair_counts)
                ceiling = fold.leave_one_out(comparator)
                yield _mark(row, comparator, "subjects", subject, value, draws, fold.subject_counts[s], ceiling, sizes)
        given = self.models.get((one.target, one.seed, one.fold))
        if given and comparator in PARTIAL_OF and one.role not in MODEL_ROLES and not one.left_out:
            value = partial(student, fold.mean, torch.stack(given), comparator)
            draws = partial(student, fold.mean_draws, torch.stack(given), comparator, fold.pair_counts)
            yield _mark(row, PARTIAL + comparator, "mean", "", value, draws, torch.ones_like(draws), _NO_CEILING, sizes)

    def _fold(self, target: str, names: tuple[str, ...]) -> _Fold:
        if (target, names) not in self.folds:
            teacher = self.teachers[target]
            stimuli = torch.stack([self.stimulus_counts[name] for name in names], -1)
            subjects = torch.stack([self.subject_counts[subject] for subject in teacher.subjects])
            self.folds[target, names] = _Fold(teacher.subjects, teacher.of(names), stimuli, subjects)
        return self.folds[target, names]


class _Fold:
    """The teacher's RDMs of one fold's conditions, and their resamples."""

    def __init__(self, subjects: tuple[str, ...], rdms: Tensor, stimulus_counts: Tensor, subject_counts: Tensor) -> None:
        self.subjects, self.rdms, self.subject_counts = subjects, rdms, subject_counts
        i, j = pair_indices(stimulus_counts.shape[-1])
        self.pair_counts = stimulus_counts[:, i] * stimulus_counts[:, j]
        self.mean = rdms.nanmean(0)
        known = (~rdms.isnan()).double()
        self.mean_draws = (subject_counts.T @ rdms.nan_to_num()) / (subject_counts.T @ known)  # no subject left: 0 / 0 = NaN
        self.ceilings: dict[str, tuple[float, float]] = {}

    def reliability(self, comparator: str) -> tuple[float, float]:
        if len(self.subjects) < 2:
            return float("nan"), float("nan")
        i, j = pair_indices(len(self.subjects))
        value = mean_reliability(_similarity.SIMILARITIES[comparator](self.rdms[i], self.rdms[j]).mean(), len(self.subjects))
        return value, value

    def leave_one_out(self, comparator: str) -> tuple[float, float]:
        if comparator not in self.ceilings:
            self.ceilings[comparator] = noise_ceiling(self.rdms, comparator)
        return self.ceilings[comparator]


_Models = dict[tuple[str, int, int], list[Tensor]]
MODEL_ROLES = ("category", "model")


def _models(held_out: Sequence[HeldOut]) -> _Models:
    given: _Models = {}
    for one in held_out:
        if one.role in MODEL_ROLES and not one.left_out:
            given.setdefault((one.target, one.seed, one.fold), []).append(one.pairs.double().cpu())
    return given


def _resample(names: Sequence[str], n_bootstrap: int, generator: torch.Generator) -> dict[str, Tensor]:
    drawn = torch.randint(len(names), (n_bootstrap, len(names)), generator=generator)
    counts = functional.one_hot(drawn, len(names)).sum(1).double()
    return {name: counts[:, k] for k, name in enumerate(names)}


def _joined(*counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in counts]) for name in counts[0]}


def _mark(
    row: Mapping[str, object],
    comparator: str,
    against: str,
    subject: str,
    value: Tensor,
    draws: Tensor,
    weights: Tensor,
    ceiling: tuple[float, float],
    sizes: tuple[int, int],
) -> _Mark:
    told = {"comparator": comparator, "against": against, "subject": subject, "score": float(value)}
    return _Mark({**row, **told, "ceiling_lower": ceiling[0], "ceiling_upper": ceiling[1]}, draws, weights, *sizes)


def _summarise(scores: pd.DataFrame, marks: Sequence[_Mark]) -> pd.DataFrame:
    groups: dict[tuple[object, ...], list[_Mark]] = {}
    for mark in marks:
        groups.setdefault(mark.group, []).append(mark)
    draws = {group: _average(members) for group, members in groups.items()}
    return pd.DataFrame([_summary_row(group, members, groups, draws) for group, members in groups.items()])


def _average(members: Sequence[_Mark]) -> Tensor:
    values, weights = (torch.stack([getattr(mark, what) for mark in members]) for what in ("draws", "weights"))
    weights = weights * ~values.isnan()
    return (values.nan_to_num() * weights).sum(0) / weights.sum(0)


def _summary_row(
    group: tuple[object, ...],
    members: Sequence[_Mark],
    groups: Mapping[tuple[object, ...], Sequence[_Mark]],
    draws: Mapping[tuple[object, ...], Tensor],
) -> dict[str, object]:
    table = pd.DataFrame([mark.row for mark in members])
    sizes = {"n_subjects": members[0].n_subjects, "n_stimuli": members[0].n_stimuli}
    score = float(table["score"].mean())
    row: dict[str, object] = dict(zip(GROUP, group, strict=True)) | {"score": score}
    row["low"], row["high"] = interval(score, draws[group], **sizes)
    row |= {column: table[column].mean() for column in ("ceiling_lower", "ceiling_upper")}
    row["share"] = score / float(table["ceiling_lower"].mean())
    base = (members[0].row["base"], "unfitted", *group[2:])
    if base in groups and base != group:
        row["gain"] = score - float(pd.DataFrame([mark.row for mark in groups[base]])["score"].mean())
        row["gain_low"], row["gain_high"] = interval(row["gain"], draws[group] - draws[base], **sizes)
    return row | {"n_folds": table["fold"].nunique(), "n_seeds": table["seed"].nunique()} | sizes


def interval(score: float, draws: Float[Tensor, " n_draws"], n_subjects: int, n_stimuli: int) -> tuple[float, float]:
    """95 % interval of a score from its bootstrap replicates, by rsatoolbox's dual bootstrap.

    Parameters
    ----------
    score : float
        The estimate.
    draws : Tensor (3 * n_bootstrap,)
        Replicates with both resampled, subjects alone, and stimuli alone, one after the other; NaN where a resample had no pair.
    n_subjects, n_stimuli : int
        How many there are; with one subject, only the stimuli count.

    Returns
    -------
    tuple of two floats
        Lower and upper end; NaN with fewer than 2 replicates.

    References
    ----------
    Schuett et al. (2023), eLife 12:e82566, doi 10.7554/eLife.82566.

    Examples
    --------
    >>> draws = torch.randn(3000, generator=torch.Generator().manual_seed(0)) * 0.1
    >>> low, high = interval(0.5, draws, n_subjects=10, n_stimuli=92)
    >>> low < 0.5 < high
    True
    """
    from rsatoolbox.util.inference_util import extract_variances
    from scipy.stats import t

    kinds = draws.reshape(3, -1).numpy()
    if kinds.shape[1] < 2:
        return float("nan"), float("nan")
    variances = np.nanvar(kinds, axis=1, ddof=1)
    if n_subjects > 1:
        variance = extract_variances(variances.reshape(3, 1, 1), False, n_rdm=n_subjects, n_pattern=n_stimuli)[0]
    else:
        variance = extract_variances(variances[2].reshape(1, 1), False, n_pattern=n_stimuli)[0]
    freedom = (min(n_subjects, n_stimuli) if n_subjects > 1 else n_stimuli) - 1
    half = float(t.ppf((1 + _CONFIDENCE) / 2, freedom) * variance.item() ** 0.5)
    return score - half, score + half


def noise_ceiling(rdms: Float[Tensor, "n_subjects n_pairs"], comparator: str) -> tuple[float, float]:
    """Leave-one-subject-out noise ceiling (lower, upper) of single-subject scores, by rsatoolbox.

    Parameters
    ----------
    rdms : Tensor (n_subjects, n_pairs)
        One RDM a subject.
    comparator : str
        Name of a comparator; "cka" is rsatoolbox's "cosine_cov".

    Returns
    -------
    tuple of two floats
        Mean similarity of each subject with the pooled others, and with all pooled; NaN for fewer than 2 subjects.

    References
    ----------
    Nili et al. (2014), PLoS Comput. Biol. 10(4):e1003553, doi 10.1371/journal.pcbi.1003553.

    Examples
    --------
    >>> lower, upper = noise_ceiling(torch.rand(4, 15), "corr")
    >>> lower <= upper
    True
    """
    if len(rdms) < 2:
        return float("nan"), float("nan")
    from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling
    from rsatoolbox.rdm import RDMs

    subjects = {"subject": [str(s) for s in range(len(rdms))]}
    method = {"cka": "cosine_cov"}.get(comparator, comparator)
    lower, upper = boot_noise_ceiling(RDMs(rdms.double().numpy(), rdm_descriptors=subjects), method, "subject")
    return float(lower), float(upper)


def mean_reliability(between_subjects: Tensor | float, n_subjects: int) -> float:
    """Expected correlation of a perfect model with the mean RDM of n subjects: square root of Spearman-Brown, from 0 to 1.

    Parameters
    ----------
    between_subjects : float
        Mean correlation between the RDMs of two subjects; below 0 counts as 0.
    n_subjects : int

    Returns
    -------
    float

    Examples
    --------
    >>> round(mean_reliability(0.25, 4), 3)
    0.756
    """
    r = max(float(between_subjects), 0.0)
    return float((n_subjects * r / (1 + (n_subjects - 1) * r)) ** 0.5)


def partial(
    a: Float[Tensor, "*batch n_pairs"],
    b: Float[Tensor, "*batch n_pairs"],
    given: Float[Tensor, "n_given n_pairs"],
    comparator: str = "spearman",
    weights: Float[Tensor, "*batch n_pairs"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Partial correlation of two RDMs given others, from -1 to 1; of ranks for "spearman".

    Parameters
    ----------
    a, b : Tensor (..., n_pairs)
        RDMs to compare; NaN pairs are left out.
    given : Tensor (n_given, n_pairs)
        RDMs to control for.
    comparator : {"spearman", "corr"}
        Ranks or values.
    weights : Tensor (..., n_pairs), optional
        Pair weights; whole numbers count as repeats.

    Returns
    -------
    Tensor (...)

    Raises
    ------
    BrainrdlError
        If the comparator has no partial form.

    Examples
    --------
    >>> a = torch.tensor([1.0, 2.0, 3.0, 5.0, 4.0, 6.0])
    >>> b = torch.tensor([2.0, 1.0, 3.0, 6.0, 5.0, 4.0])
    >>> z = torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]])
    >>> round(float(partial(a, b, z, "corr")), 3)
    0.0
    """
    check_option(comparator, PARTIAL_OF, "comparator of a partial correlation")
    rows = torch.broadcast_tensors(a, b, *given, *(() if weights is None else (weights,)))
    a, b, *rest = (row.double() for row in rows)
    weights = rest.pop() if weights is not None else torch.ones_like(a)
    weights = weights * torch.stack([~row.isnan() for row in (a, b, *rest)]).all(0)
    values = [row.nan_to_num() for row in (a, b, *rest)]
    if comparator == "spearman":
        values = [centred_ranks(row, weights) for row in values]
    root = weights.sqrt()
    a, b, *models = (row * root for row in values)
    design = torch.stack([root, *models], -1)
    fitted = torch.linalg.lstsq(design, torch.stack([a, b], -1), driver="gelsd").solution
    residuals = torch.stack([a, b], -1) - design @ fitted
    return functional.cosine_similarity(residuals[..., 0], residuals[..., 1], dim=-1, eps=1e-12)
