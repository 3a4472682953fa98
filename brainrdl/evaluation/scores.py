"""Scores of held-out RDMs against the teacher's, with matching noise ceilings and intervals.

Two comparisons are distinguished. *Against subjects*: the RDM is compared with each subject's, and the ceiling is the
leave-one-subject-out noise ceiling of rsatoolbox. *Against the mean*: it is compared with the subjects' mean RDM, and
the ceiling is the ceiling for the mean RDM: the square root of its reliability, which the Spearman-Brown formula
predicts from the mean correlation between two subjects (for tau-a from the Pearson correlation of Gaussian variables
with this tau). Dividing a score against the mean by a leave-one-out ceiling would overestimate every model. If a
ceiling is near 0, a share of it would be a ratio of noise to noise, and is not given.

Pairs count only if both stimuli were held out together. Intervals come from resampling stimuli and subjects; folds and
seeds share stimuli, so they are averaged within each resample, not treated as independent. A resample is a set of
weights: a pair counts as often as the product of its stimuli's counts. The variances of three bootstraps (both, only
subjects, only stimuli) are combined by rsatoolbox's correction, and the interval is score +- t * sd with the smaller
number of subjects or stimuli minus one as degrees of freedom (Schuett et al. 2023, doi 10.7554/eLife.82566). Students
are not refitted: the interval is for these fitted students.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.constants import GROUP, PARTIAL
from brainrdl._core.errors import check_option
from brainrdl._core.rows import Against, Role
from brainrdl._core.threads import threads_for
from brainrdl.dissimilarity.pairs import pair_indices, to_square
from brainrdl.evaluation.ceilings import NO_CEILING, ceiling_for_mean, noise_ceiling
from brainrdl.evaluation.intervals import interval
from brainrdl.evaluation.pairwise import Compare, comparison_of
from brainrdl.similarity.registry import SIMILARITIES

_MIN_CEILING = 0.05  # no share of a lower ceiling is given

_BLOCK = 2**20  # numbers compared at once, which limits the memory for many resamples and pairs

_PER_NUMBER = 100  # floating-point operations for each pair that is compared: ranks, products, sums


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """One RDM of the conditions that a fold holds out, and its source.

    Attributes
    ----------
    student : str
        Name in the tables.
    role : Role
        Source of the RDM; partial correlations hold category and other models constant.
    base : str
        Name of the unfitted student for computing gains, the same for a student and its controls; "" for none.
    layer, target : str
        Layer of the student, and target that it is compared with.
    seed, fold : int
        Seed of the cross-validation, and fold that was held out.
    names : tuple of str
        Conditions that were held out together.
    pairs : Tensor (n_pairs,)
        Dissimilarities of the student, control or model.
    left_out : str
        Held-out subject, the only one to score against; "" if no subject was held out.

    Examples
    --------
    >>> pairs = torch.rand(6, generator=torch.Generator().manual_seed(0))
    >>> one = HeldOut(student="fitted", role=Role.STUDENT, target="IT", names=tuple("abcd"), pairs=pairs)
    >>> one.seed, one.fold, one.layer
    (0, 0, '')
    """

    student: str
    role: Role
    target: str
    names: tuple[str, ...]
    pairs: Float[Tensor, " n_pairs"]
    base: str = ""
    layer: str = ""
    seed: int = 0
    fold: int = 0
    left_out: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "role", Role(check_option(self.role, [role.value for role in Role], "role")))


@dataclass(frozen=True)
class TeacherRDMs:
    """Every subject's RDM of one target, by condition name, to score held-out RDMs against.

    Attributes
    ----------
    target : str
        Name of the target.
    names, subjects : tuple of str
        Conditions and subjects.
    pairs : Tensor (n_subjects, n_pairs)
        Dissimilarities; NaN if a pair is unknown for a subject.
    measure : str, optional
        Name of the dissimilarity.

    Examples
    --------
    >>> TeacherRDMs("IT", tuple("abc"), ("s1",), torch.tensor([[1.0, 2.0, 3.0]])).of("cab").tolist()
    [[2.0, 3.0, 1.0]]
    """

    target: str
    names: tuple[str, ...]
    subjects: tuple[str, ...]
    pairs: Float[Tensor, "n_subjects n_pairs"]
    measure: str | None = None

    def of(self, names: Sequence[str]) -> Float[Tensor, "n_subjects n_chosen"]:
        """Return the dissimilarities of `names`, in their order, float64."""
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
        RDMs to score against.
    comparators : sequence of str
        Names of `brainrdl.similarity.SIMILARITIES`; those with a partial form ("spearman" and "corr") also give a
        partial correlation with the category and other models held constant, if there are any.
    n_bootstrap : int
        Number of resamples of each of three kinds for the 95 % intervals; 0 for no intervals.
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
    >>> row = {"student": "oracle", "role": Role.STUDENT, "target": "IT", "names": tuple("abcdef")}
    >>> perfect = HeldOut(**row, pairs=subjects.mean(0))
    >>> _, summary = score([perfect], {"IT": teacher}, ["corr"], n_bootstrap=0)
    >>> float(summary.loc[summary.against == "mean", "score"].iloc[0].round(6))
    1.0
    """
    for comparator in comparators:
        check_option(comparator, SIMILARITIES, "comparator")
    resamples = _Resamples.draw(held_out, teachers, n_bootstrap, seed)
    judged: list[tuple[int, _Mark]] = []
    n_pairs = max((len(one.pairs) for one in held_out), default=0)
    with threads_for(_PER_NUMBER * min(_BLOCK, n_bootstrap * n_pairs)):
        for (target, names, left_out), members in _together(held_out).items():
            fold = _Fold(teachers[target], names, left_out, resamples)
            judged += [found for comparator in comparators for found in fold.judge(members, comparator)]
    marks = [mark for _, mark in sorted(judged, key=lambda found: found[0])]
    return pd.DataFrame([mark.row for mark in marks]), _summarise(marks)


_Members = Sequence[tuple[int, HeldOut]]  # with their positions in the list to score, whose order the tables keep


def _together(held_out: Sequence[HeldOut]) -> dict[tuple[str, tuple[str, ...], str], list[tuple[int, HeldOut]]]:
    """Group by the RDMs to score against: their resamples are made and ranked once, and then dropped."""
    groups: dict[tuple[str, tuple[str, ...], str], list[tuple[int, HeldOut]]] = {}
    for place, one in enumerate(held_out):
        groups.setdefault((one.target, one.names, one.left_out), []).append((place, one))
    return groups


@dataclass(frozen=True)
class _Resamples:
    """How often each resample draws each stimulus and each subject, the same for all comparisons."""

    stimuli: Mapping[str, Float[Tensor, " n_bootstrap"]]
    subjects: Mapping[str, Float[Tensor, " n_bootstrap"]]

    @classmethod
    def draw(
        cls, held_out: Sequence[HeldOut], teachers: Mapping[str, TeacherRDMs], n_bootstrap: int, seed: int
    ) -> _Resamples:
        generator = torch.Generator().manual_seed(int(seed))
        stimuli = sorted({name for one in held_out for name in one.names})
        subjects = sorted({subject for teacher in teachers.values() for subject in teacher.subjects})
        return cls(_counts(stimuli, n_bootstrap, generator), _counts(subjects, n_bootstrap, generator))


def _counts(names: Sequence[str], n_bootstrap: int, generator: torch.Generator) -> dict[str, Tensor]:
    drawn = torch.randint(len(names), (n_bootstrap, len(names)), generator=generator)
    return {name: (drawn == k).sum(1).double() for k, name in enumerate(names)}


@dataclass(frozen=True)
class _Mark:
    """One score, its bootstrap replicates, and how often each replicate drew its subject."""

    row: Mapping[str, Any]
    draws: Float[Tensor, " n_draws"]
    weights: Float[Tensor, " n_draws"]
    n_subjects: int
    n_stimuli: int

    @property
    def group(self) -> tuple[object, ...]:
        return tuple(self.row[column] for column in GROUP)


class _Fold:
    """The teacher's RDMs of conditions that were held out together, and the RDMs to score against them.

    Replicates are ``(..., 3 * n_bootstrap)``: stimuli and subjects resampled, only subjects, only stimuli.
    """

    def __init__(self, teacher: TeacherRDMs, names: tuple[str, ...], left_out: str, resamples: _Resamples) -> None:
        self.left_out, self.subjects, self.rdms = left_out, teacher.subjects, teacher.of(names)
        self.mean = self.rdms.nanmean(0)
        self.stimulus_counts = torch.stack([resamples.stimuli[name] for name in names], -1)
        self.subject_counts = torch.stack([resamples.subjects[subject] for subject in self.subjects], -1)
        self.n_stimuli, self.n_conditions = len(resamples.stimuli), len(names)

    def judge(self, members: _Members, comparator: str) -> Iterator[tuple[int, _Mark]]:
        """Score each member (with its position) against the mean and each subject, or only the left-out subject."""
        compare = comparison_of(comparator)
        if not self.left_out:
            yield from self._against_mean(members, comparator, compare, self._ceiling_for_mean(comparator))
        yield from self._against_subjects(members, comparator, compare)
        models = {one.student: one.pairs.double().cpu() for _, one in members if one.role.model}
        others = [(place, one) for place, one in members if not one.role.model]
        if models and others and SIMILARITIES[comparator].partial_scale and not self.left_out:
            given = comparison_of(comparator, torch.stack(list(models.values())))
            yield from self._against_mean(others, PARTIAL + comparator, given, NO_CEILING)

    def _against_mean(
        self, members: _Members, comparator: str, compare: Compare, ceiling: tuple[float, float]
    ) -> Iterator[tuple[int, _Mark]]:
        students = _stack(members)
        values, draws = compare(students, self.mean), self._draws_of_mean(students, compare)
        for (place, one), value, replicates in zip(members, values, draws, strict=True):
            yield place, self._mark(one, comparator, "", value, replicates, torch.ones_like(replicates), ceiling)

    def _against_subjects(self, members: _Members, comparator: str, compare: Compare) -> Iterator[tuple[int, _Mark]]:
        students, ceiling = _stack(members), noise_ceiling(self.rdms, comparator)
        for s, subject in enumerate(self.subjects):
            if self.left_out in ("", subject):
                values, draws = compare(students, self.rdms[s]), self._draws_of_subject(students, s, compare)
                drawn = self.subject_counts[:, s]
                weights = torch.cat([drawn, drawn, torch.ones_like(drawn)])
                for (place, one), value, replicates in zip(members, values, draws, strict=True):
                    yield place, self._mark(one, comparator, subject, value, replicates, weights, ceiling)

    def _draws_of_mean(self, students: Tensor, compare: Compare) -> Tensor:
        blocks = []
        for stimuli, subjects in self._blocks(students.numel()):
            known = (~self.rdms.isnan()).double()
            means = (subjects @ self.rdms.nan_to_num()) / (subjects @ known)  # NaN if no subject knows the pair
            kinds = (means, stimuli), (means, None), (self.mean, stimuli)
            blocks.append(torch.stack([compare(students[:, None], mean, counts) for mean, counts in kinds], 1))
        return torch.cat(blocks, -1).flatten(1)

    def _draws_of_subject(self, students: Tensor, s: int, compare: Compare) -> Tensor:
        blocks = [compare(students[:, None], self.rdms[s], stimuli) for stimuli, _ in self._blocks(students.numel())]
        resampled = torch.cat(blocks, -1)
        observed = compare(students, self.rdms[s])[:, None].expand_as(resampled)
        return torch.cat([resampled, observed, resampled], -1)

    def _blocks(self, n_numbers: int) -> Iterator[tuple[Tensor, Tensor]]:
        size = max(1, _BLOCK // n_numbers)
        yield from zip(self.stimulus_counts.split(size), self.subject_counts.split(size), strict=True)

    def _ceiling_for_mean(self, comparator: str) -> tuple[float, float]:
        if len(self.subjects) < 2:
            return NO_CEILING
        i, j = pair_indices(len(self.subjects))
        between = float(comparison_of(comparator)(self.rdms[i], self.rdms[j]).nanmean())
        similarity = SIMILARITIES[comparator]  # the Spearman-Brown formula is about correlations
        ceiling = ceiling_for_mean(similarity.as_correlation(between), len(self.subjects))
        return (similarity.from_correlation(ceiling),) * 2

    def _mark(
        self,
        one: HeldOut,
        comparator: str,
        subject: str,
        value: Tensor,
        draws: Tensor,
        weights: Tensor,
        ceiling: tuple[float, float],
    ) -> _Mark:
        against = Against.SUBJECTS if subject else Against.MEAN
        row: dict[str, Any] = {
            "student": one.student, "role": one.role.value, "base": one.base, "layer": one.layer, "target": one.target,
            "seed": one.seed, "fold": one.fold, "n_conditions": self.n_conditions, "n_pairs": len(one.pairs),
            "comparator": comparator, "against": against.value, "subject": subject,
            "score": float(value), "ceiling_lower": ceiling[0], "ceiling_upper": ceiling[1],
        }  # fmt: skip
        return _Mark(row, draws, weights, len(self.subjects), self.n_stimuli)


def _stack(members: _Members) -> Tensor:
    return torch.stack([one.pairs.double().cpu() for _, one in members])


def _summarise(marks: Sequence[_Mark]) -> pd.DataFrame:
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
    row: dict[str, object] = dict(zip(GROUP, group, strict=True)) | {"base": members[0].row["base"], "score": score}
    row["low"], row["high"] = interval(score, draws[group], **sizes)
    row |= {column: table[column].mean() for column in ("ceiling_lower", "ceiling_upper")}
    row["share"] = _share(score, float(table["ceiling_lower"].mean()))
    base = (members[0].row["base"], Role.UNFITTED.value, *group[2:])
    if base in groups and base != group:
        gain = score - float(pd.DataFrame([mark.row for mark in groups[base]])["score"].mean())
        low, high = interval(gain, draws[group] - draws[base], **sizes)
        row |= {"gain": gain, "gain_low": low, "gain_high": high}
    return row | {"n_folds": table["fold"].nunique(), "n_seeds": table["seed"].nunique()} | sizes


def _share(score: float, ceiling: float) -> float:
    return score / ceiling if ceiling >= _MIN_CEILING else float("nan")
