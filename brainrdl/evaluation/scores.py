"""Scores of held-out RDMs against the teacher's, with noise ceilings, intervals and contrasts.

Two comparisons are distinguished. *Against subjects*: the RDM is compared with each subject's RDM. *Against the mean*:
it is compared with the subjects' mean RDM. The ceiling of each is the score that a perfect model is expected to reach
(`brainrdl.inference.ceilings`); if it is near 0, a share of it would be a ratio of noise to noise, and is not given.

Pairs count only if both stimuli were held out together. Folds and seeds share stimuli, so what they contribute to an
interval is averaged for each stimulus and subject (`brainrdl.inference.uncertainty`). The scores and intervals of a
target do not depend on the other targets. Conditions of which nobody knows a pair (those of another brain) are left out
for each target.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.constants import GROUP, PARTIAL
from brainrdl._core.errors import arg, check_option, quote, refuse
from brainrdl._core.progress import track_slow
from brainrdl._core.rows import Against, Role
from brainrdl._core.threads import threads_for
from brainrdl.dissimilarity.pairs import pair_indices, to_square
from brainrdl.evaluation.options import Intervals, resamples
from brainrdl.inference.ceilings import Agreement, noise_ceiling, share_of_ceiling
from brainrdl.inference.contrasts import contrasts_of
from brainrdl.inference.intervals import of_score
from brainrdl.inference.marks import Line, Mark, mean_of
from brainrdl.inference.pairwise import Compare, comparison_of, is_constant
from brainrdl.inference.uncertainty import METHODS, FoldRDMs, Inference
from brainrdl.similarity.registry import SIMILARITIES

_CEILINGS = ("ceiling", "ceiling_lower", "ceiling_upper")

_FEWEST_CONDITIONS = 3

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

    def only(self, known: Collection[str]) -> HeldOut | None:
        """Leave out conditions that are not in `known`; None if fewer than 3 are left, which have no RDM to score."""
        kept = torch.tensor([place for place, name in enumerate(self.names) if name in known])
        if len(kept) == len(self.names):
            return self
        if len(kept) < _FEWEST_CONDITIONS:
            return None
        i, j = pair_indices(len(kept))
        pairs = to_square(self.pairs)[kept[i].to(self.pairs.device), kept[j].to(self.pairs.device)]
        return replace(self, names=tuple(self.names[place] for place in kept.tolist()), pairs=pairs)

    def __post_init__(self) -> None:
        object.__setattr__(self, "role", Role(check_option(self.role, [role.value for role in Role], "role")))
        if len(self.names) < _FEWEST_CONDITIONS:
            refuse(
                f"{len(self.names)} conditions were held out together in fold {self.fold}, but an RDM to score has at "
                f"least {_FEWEST_CONDITIONS}; use fewer folds"
            )


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

    @property
    def known(self) -> frozenset[str]:
        """Conditions of which a subject knows a pair; those of another brain do not belong to this target."""
        pairs = pair_indices(len(self.names))[:, ~self.pairs.isnan().all(0).cpu()]
        return frozenset(self.names[place] for place in pairs.unique().tolist())

    def of(self, names: Sequence[str]) -> Float[Tensor, "n_subjects n_chosen"]:
        """Return the dissimilarities of `names`, in their order, float64."""
        position = {name: i for i, name in enumerate(self.names)}
        chosen = torch.tensor([position[name] for name in names])
        k, m = pair_indices(len(names))
        return to_square(self.pairs.double())[:, chosen[k], chosen[m]]


class Tables(NamedTuple):
    """The tables of an evaluation.

    Attributes
    ----------
    scores : pandas.DataFrame
        One row per student x layer x target x comparator x against x subject x seed x fold.
    summary : pandas.DataFrame
        One row per student x layer x target x comparator x against, with intervals and ceilings.
    contrasts : pandas.DataFrame
        Differences between students, controls and models; see `brainrdl.inference.contrasts.contrasts_of`.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    contrasts: pd.DataFrame


def score(
    held_out: Sequence[HeldOut],
    teachers: Mapping[str, TeacherRDMs],
    comparators: Sequence[str],
    *,
    intervals: Intervals = "dyadic",
    n_bootstrap: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Tables:
    """Score held-out RDMs fold by fold, summarise them with intervals, and test differences between them.

    Parameters
    ----------
    held_out : sequence of HeldOut
        RDMs of students, controls and models.
    teachers : mapping of target to TeacherRDMs
        RDMs to score against.
    comparators : sequence of str
        Names of `brainrdl.similarity.SIMILARITIES`; those with a partial form ("spearman" and "corr") also give a
        partial correlation with the category and other models held constant, if there are any.
    intervals : {"dyadic", "dual-bootstrap", "none"}
        How intervals and p-values are computed; see `brainrdl.inference.intervals`.
    n_bootstrap : int, optional
        Number of resamples of each of three kinds for the dual bootstrap, at least 2; by default 1000.
    seed : int
        Seed of the resampling.
    progress : bool
        Show progress and the time left on stderr if it takes longer than two seconds.

    Returns
    -------
    Tables
        ``scores``, ``summary`` and ``contrasts``.

    Raises
    ------
    BrainrdlError
        If a comparator or the kind of intervals is unknown, or there are too few resamples, or resamples for other
        intervals.

    Warns
    -----
    UserWarning
        If partial correlations are undefined (NaN), because the models explain an RDM completely, or a student, control
        or model has a constant RDM, and therefore no score.

    Examples
    --------
    >>> import torch
    >>> subjects = torch.rand(3, 15, generator=torch.Generator().manual_seed(0))
    >>> teacher = TeacherRDMs("IT", tuple("abcdef"), ("s1", "s2", "s3"), subjects)
    >>> row = {"student": "oracle", "role": Role.STUDENT, "target": "IT", "names": tuple("abcdef")}
    >>> perfect = HeldOut(**row, pairs=subjects.mean(0))
    >>> summary = score([perfect], {"IT": teacher}, ["corr"]).summary
    >>> float(summary.loc[summary.against == "mean", "score"].iloc[0].round(6))
    1.0
    """
    for comparator in comparators:
        check_option(comparator, SIMILARITIES, "comparator")
    if not comparators:
        refuse(f"{arg('comparators')} should name at least one similarity, got none")
    options = {"n_bootstrap": resamples(intervals, n_bootstrap) or 0, "seed": seed}
    known = {target: teacher.known for target, teacher in teachers.items()}
    held_out = [part for one in held_out if (part := one.only(known[one.target])) is not None]
    judged: list[tuple[int, Mark, _Judge]] = []
    with threads_for(_PER_NUMBER * max((len(one.pairs) for one in held_out), default=0)):
        parts = [
            (judge, where, together, comparator)
            for target, members in _by_target(held_out).items()
            for judge in (_Judge.of(teachers[target], members, intervals, options),)
            for comparator in comparators
            for where, together in _by_fold(members).items()
        ]
        for judge, where, together, comparator in track_slow(parts, "scores", len(parts), progress):
            judged += [(place, mark, judge) for place, mark in judge.marks(where, together, comparator)]
        marks = [(mark, judge) for _, mark, judge in sorted(judged, key=lambda found: found[0])]
        lines = _lines(marks)
        _warn_of_explained(lines.values(), held_out)
        _warn_of_constant(held_out, comparators)
        summary = pd.DataFrame([_summary_row(line, lines) for line in lines.values()])
        return Tables(pd.DataFrame([mark.row for mark, _ in marks]), summary, contrasts_of(lines.values()))


_Members = Sequence[tuple[int, HeldOut]]  # with their positions in the list to score, whose order the tables keep


def _by_target(held_out: Sequence[HeldOut]) -> dict[str, list[tuple[int, HeldOut]]]:
    groups: dict[str, list[tuple[int, HeldOut]]] = {}
    for place, one in enumerate(held_out):
        groups.setdefault(one.target, []).append((place, one))
    return groups


_Where = tuple[tuple[str, ...], str]  # the conditions of a fold, and the subject that was left out


def _by_fold(members: _Members) -> dict[_Where, list[tuple[int, HeldOut]]]:
    folds: dict[_Where, list[tuple[int, HeldOut]]] = {}
    for place, one in members:
        folds.setdefault((one.names, one.left_out), []).append((place, one))
    return folds


@dataclass(frozen=True)
class _Judge:
    """Scores RDMs against those of one target."""

    teacher: TeacherRDMs
    inference: Inference | None
    stimuli: tuple[str, ...]

    @classmethod
    def of(cls, teacher: TeacherRDMs, members: _Members, intervals: str, options: Mapping[str, int]) -> _Judge:
        stimuli = tuple(sorted({name for _, one in members for name in one.names}))
        method = METHODS.get(intervals)
        inference = method(stimuli, len(teacher.subjects), **options) if method else None
        return cls(teacher, inference, stimuli)

    def marks(self, where: _Where, together: _Members, comparator: str) -> Iterator[tuple[int, Mark]]:
        """Score the members of a fold: subjects' RDMs are cut down and compared with each other once per fold."""
        names, left_out = where
        return _Fold(self, FoldRDMs(names, self.teacher.of(names)), left_out).judge(together, comparator)


@dataclass(frozen=True)
class _Fold:
    """The teacher's RDMs of conditions that were held out together, and the RDMs to score against them."""

    judged_by: _Judge
    rdms: FoldRDMs
    left_out: str

    def judge(self, members: _Members, comparator: str) -> Iterator[tuple[int, Mark]]:
        """Score each member (with its position) against the mean and each subject, or only the left-out subject."""
        compare, agreement = comparison_of(comparator), Agreement.of(self.rdms.rdms, comparator)
        if not self.left_out:
            yield from self._against_mean(members, comparator, compare, agreement)
        yield from self._against_subjects(members, comparator, compare, agreement)
        models = {one.student: one.pairs.double().cpu() for _, one in members if one.role.model}
        others = [(place, one) for place, one in members if not one.role.model]
        if models and others and SIMILARITIES[comparator].partial_scale and not self.left_out:
            given = comparison_of(comparator, torch.stack(list(models.values())))
            yield from self._against_mean(others, PARTIAL + comparator, given, None)

    def _against_mean(
        self, members: _Members, comparator: str, compare: Compare, agreement: Agreement | None
    ) -> Iterator[tuple[int, Mark]]:
        students, inference = _stack(members), self.judged_by.inference
        values = compare(students, self.rdms.rdms.nanmean(0))
        similarity = SIMILARITIES[comparator.removeprefix(PARTIAL)]
        parts = inference.of_mean(self.rdms, students, compare, similarity) if inference else [None] * len(members)
        ceiling = agreement.ceiling_for_mean() if agreement else float("nan")
        for (place, one), value, part in zip(members, values, parts, strict=True):
            row = self._row(one, comparator, "", value, (ceiling, ceiling, ceiling))
            yield place, Mark(row, self.left_out, part, agreement)

    def _against_subjects(
        self, members: _Members, comparator: str, compare: Compare, agreement: Agreement
    ) -> Iterator[tuple[int, Mark]]:
        students, inference, similarity = _stack(members), self.judged_by.inference, SIMILARITIES[comparator]
        ceilings = (agreement.ceiling_for_subjects(), *noise_ceiling(self.rdms.rdms, comparator))
        names = self.judged_by.teacher.subjects
        asked = [s for s, subject in enumerate(names) if self.left_out in ("", subject)]
        values = compare(students, self.rdms.rdms[asked, None])
        nothing = [[None] * len(members)] * len(asked)
        parts = inference.of_subjects(self.rdms, students, asked, compare, similarity) if inference else nothing
        for s, of_subject, with_parts in zip(asked, values, parts, strict=True):
            for (place, one), value, part in zip(members, of_subject, with_parts, strict=True):
                row = self._row(one, comparator, names[s], value, ceilings)
                yield place, Mark(row, self.left_out, part, agreement)

    def _row(
        self, one: HeldOut, comparator: str, subject: str, value: Tensor, ceilings: tuple[float, float, float]
    ) -> dict[str, Any]:
        against = Against.SUBJECTS if subject else Against.MEAN
        return {
            "student": one.student, "role": one.role.value, "base": one.base, "layer": one.layer, "target": one.target,
            "seed": one.seed, "fold": one.fold, "n_conditions": len(one.names), "n_pairs": len(one.pairs),
            "comparator": comparator, "against": against.value, "subject": subject, "score": float(value),
            **dict(zip(_CEILINGS, ceilings, strict=True)),
        }  # fmt: skip


def _stack(members: _Members) -> Tensor:
    return torch.stack([_flattened(one.pairs).double().cpu() for _, one in members])


def _flattened(pairs: Tensor) -> Tensor:
    """Make an RDM that is constant up to the rounding of its own type exactly constant."""
    return torch.where(pairs.isnan(), pairs, pairs.nanmean()) if is_constant(pairs) else pairs


def _lines(judged: Sequence[tuple[Mark, _Judge]]) -> dict[tuple[Any, ...], Line]:
    """Collect the scores of each row of the summary."""
    groups: dict[tuple[Any, ...], dict[Any, Mark]] = {}
    judges: dict[tuple[Any, ...], _Judge] = {}
    for mark, judge in judged:
        key = tuple(mark.row[column] for column in GROUP)
        groups.setdefault(key, {})[mark.unit] = mark
        judges[key] = judge
    return {
        key: Line(marks, judges[key].inference, len(judges[key].teacher.subjects), len(judges[key].stimuli))
        for key, marks in groups.items()
    }


def _summary_row(line: Line, lines: Mapping[tuple[Any, ...], Line]) -> dict[str, Any]:
    row = dict(zip(GROUP, line.key, strict=True)) | {"base": line.row["base"], "score": line.whole.value}
    row["low"], row["high"], _ = of_score(line.whole.interval(), row["comparator"])
    row |= _ceilings(line)
    row["share"] = float(share_of_ceiling(row["score"], row["ceiling"]))
    base = lines.get((line.row["base"], Role.UNFITTED.value, *line.key[2:]))
    if base is not None and base is not line and (gain := line.minus(base)):
        row |= dict(zip(("gain", "gain_low", "gain_high"), (gain.value, *gain.interval()[:2]), strict=True))
    scored = [mark.row for mark in line.marks.values() if mark.row["score"] == mark.row["score"]]
    units = {f"n_{what}s": {row[what] for row in scored} for what in ("fold", "seed")}
    sizes = {"n_subjects": line.n_subjects, "n_stimuli": line.n_stimuli}
    return row | {name: len(found) for name, found in units.items()} | sizes


def _warn_of_explained(lines: Iterable[Line], held_out: Sequence[HeldOut]) -> None:
    """Warn of partial correlations that are undefined, though all RDMs of the fold are known."""
    gaps = {(one.target, one.seed, one.fold) for one in held_out if one.pairs.isnan().any()}
    told = []
    for line in lines:
        rows = [mark.row for mark in line.marks.values() if mark.row["comparator"].startswith(PARTIAL)]
        rows = [row for row in rows if (row["target"], row["seed"], row["fold"]) not in gaps]
        undefined = sum(row["score"] != row["score"] for row in rows)
        if undefined:
            words = (line.row[column] for column in ("comparator", "student", "layer", "target"))
            told.append(f"{' / '.join(word for word in words if word)} in {undefined} of {len(rows)} folds")
    if told:
        warnings.warn(
            "partial correlations are undefined (NaN) where the category and other models explain an RDM completely, "
            f"or it is constant: {quote(told)}; they have no interval and do not count in means over folds",
            stacklevel=3,
        )


def _warn_of_constant(held_out: Sequence[HeldOut], comparators: Sequence[str]) -> None:
    """Warn of RDMs that are constant in some folds, for which every comparator that subtracts means is undefined."""
    centred = any(SIMILARITIES[comparator].centred for comparator in comparators)
    folds: dict[str, list[bool]] = {}
    for one in held_out:
        who = " / ".join(word for word in (one.student, one.layer, one.target) if word)
        folds.setdefault(who, []).append(bool(is_constant(one.pairs, centred)))
    told = [f"{who} in {sum(found)} of {len(found)} folds" for who, found in folds.items() if any(found)]
    if told:
        warnings.warn(
            f"scores are undefined (NaN) where an RDM of held-out stimuli is constant: {quote(told)}; they do not "
            "count in means over folds",
            stacklevel=3,
        )


def _ceilings(line: Line) -> dict[str, float]:
    """Ceiling from the agreement of the subjects on average over folds; bounds averaged over folds."""
    agreement = line.agreement()
    if agreement is None:
        return dict.fromkeys(_CEILINGS, float("nan"))
    if line.row["against"] == Against.MEAN:
        return dict.fromkeys(_CEILINGS, agreement.ceiling_for_mean())
    bounds = {name: mean_of(line.marks.values(), name) for name in _CEILINGS[1:]}
    return {_CEILINGS[0]: agreement.ceiling_for_subjects(), **bounds}
