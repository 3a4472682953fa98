"""RDMTeacher: known RDMs of subjects and targets, looked up by condition name."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import arg, check_conditions, check_option, check_unique, nearest, quote, refuse
from brainrdl._core.files import hash_words
from brainrdl._core.given_values import as_float64, as_text
from brainrdl.dissimilarity.pairs import pair_blocks, pairs_of, places_of, to_square
from brainrdl.rdms import by_name, conversion
from brainrdl.rdms.mapped import InDouble, MappedPairs, PairsOf, rows_of
from brainrdl.rdms.partial import Later, Mask, Pairs, blocks, chosen_blocks, factors, mean_rdm, weighted_mean
from brainrdl.rdms.subjects import Groups, groups

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

    from brainrdl.stimuli.named_images import Batch
Names = Sequence[str] | str | Path

COMBINE = ("mean", "reliability", "sample", "all")
"""How an `RDMTeacher` can combine subjects."""

_SQUARES = 2**22  # numbers in the square matrices that are kept if RDMs are small: 16 MB


class RDMTeacher:
    """Known RDMs (brain regions, behaviour, models) of one or several subjects and targets, by condition name.

    Only subjects are averaged, unless `average_over` says otherwise. The answer is computed once for all conditions and
    then indexed in each training step.

    Parameters
    ----------
    rdms : RDMs, or path
        rsatoolbox RDMs with named conditions, or a file that `brainrdl.read` reads as such. Their values are used where
        they are, without a copy, so do not change them afterwards.
    name : str, optional
        Name in errors and reports; the file's name, or ``"RDMs"``, by default.
    by : str
        Pattern descriptor that names the conditions.
    target_by : str or sequence of str, optional
        Rdm descriptors that distinguish targets; by default all in which the RDMs differ, except `subject_by`: RDMs of
        other regions, models, layers, times or sessions are other targets, not other subjects (see
        `brainrdl.rdms.subjects`). Without a difference, the target has the name of the roi, or ``"rdm"``.
    subject_by : str
        Rdm descriptor that distinguishes subjects; only ``"subject"`` may be absent, and then there is one subject,
        ``"0"``. ``"index"`` counts each RDM as a subject.
    average_over : str or sequence of str
        Rdm descriptors that do not distinguish targets: a subject's RDMs that differ only in these (sessions) are
        averaged first.
    combine : str
        How subjects are combined: ``"mean"`` (NaN pairs left out); ``"reliability"`` (mean weighted by each
        subject's Pearson correlation with the mean of the others, 0 if negative, over this teacher's conditions only,
        or those in `weigh_by` of `select`); ``"sample"`` (one subject per step, drawn by seed and step);
        ``"all"`` (every subject's RDM).
        The dissimilarities are averaged as they are, so a subject with larger values counts more. But if subjects have
        different pairs (NaN), their scales are first made equal, by the pairs that they share: see
        `brainrdl.rdms.partial.comparable`.
    names : sequence of str or path, optional
        Condition names for a file that holds none, passed to `brainrdl.read`.
    seed : int
        Seed of ``"sample"``.

    Attributes
    ----------
    targets, conditions, subjects : tuple of str
        Its targets, conditions and subjects, in order of first appearance.

    Raises
    ------
    BrainrdlError
        If conditions have no names, a descriptor does not exist, lacks values, or differs without being listed in
        `target_by` or `average_over`, several RDMs are of one subject and target, an RDM contains only NaN, contains
        Inf or is constant (each RDM, or the answer for a target, see `select`), or `combine` is unknown.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> from brainrdl.stimuli import Batch
    >>> pairs = [[0.1, 0.4, 0.5], [0.3, 0.6, 0.7]]
    >>> teacher = RDMTeacher(from_array(pairs, ["cat", "dog", "car"], descriptors={"subject": ["s1", "s2"]}))
    >>> teacher.rdms(Batch(("dog", "cat", "car"), torch.zeros(3, 1, 2, 2), None))
    {'rdm': tensor([[0.2000, 0.6000, 0.5000]])}
    """

    uses_images = False

    def __init__(
        self,
        rdms: RDMs | Path | str,
        *,
        name: str | None = None,
        by: str = "stimulus",
        target_by: str | Sequence[str] | None = None,
        subject_by: str = "subject",
        average_over: str | Sequence[str] = (),
        combine: str = "mean",
        names: Names | None = None,
        seed: int = 0,
    ) -> None:
        given, default_name = _loaded(rdms, names, by)
        self.name = name or default_name
        self.combine, self.seed = check_option(combine, COMBINE, "combine"), seed
        self.by, self.subject_by = by, subject_by
        self._measure: str | None = given.dissimilarity_measure
        conditions = by_name.names(given, by)
        self._weigh_by = conditions
        conversion.check(given, f"teacher {self.name!r}")
        found = groups(
            given, target_by=target_by, subject_by=subject_by, average_over=average_over, where=f"teacher {self.name!r}"
        )
        self._described = _described(given, found)
        self._hold(conditions, _by_subject(_rows_of(given), found))

    def _hold(self, conditions: tuple[str, ...], subjects: dict[str, dict[str, Pairs]]) -> None:
        """Set the data, {target: {subject: pairs}}, and delete what was prepared from other data."""
        self._answers: dict[str, list[Pairs]] = {}
        for target, rows in subjects.items():
            where = f"target {target!r} of teacher {self.name!r}"
            for subject, pairs in rows.items():
                _refuse_only_nan(pairs, subject, where)
            # Checking the mean is enough for weights too: a subject with a weight has two or more pairs that differ.
            each = self.combine in ("sample", "all")
            answers = rows if each else {"mean": mean_rdm(list(rows.values()), where)}
            if each or self.combine == "mean":
                self._answers[target] = list(rows.values()) if each else [_in_single(answers["mean"])]
            for whose, pairs in answers.items():
                _refuse_too_little(pairs, f"the RDM of subject {whose!r}" if each else "the mean RDM", where)
        self.conditions = conditions
        self.targets = tuple(subjects)
        self.subjects = tuple(dict.fromkeys(subject for rows in subjects.values() for subject in rows))
        self._rows = subjects
        self._positions = {condition: position for position, condition in enumerate(conditions)}
        self._squares: npt.NDArray[np.float32] | None = None
        self._last: tuple[tuple[str, ...], torch.device, dict[str, Tensor]] | None = None

    def __repr__(self) -> str:
        size = f"{len(self.subjects)} subjects, {len(self.conditions)} conditions"
        return f"RDMTeacher({self.name!r}, targets={list(self.targets)}, {size}, combine={self.combine!r})"

    def rdms(self, batch: Batch) -> dict[str, Float[Tensor, "n_rdms n_pairs"]]:
        """Look up the RDMs of the batch's conditions, in their order.

        Parameters
        ----------
        batch : Batch
            Names, device (of the images), and the step, by which ``"sample"`` draws a subject.

        Returns
        -------
        dict of str to Tensor, shape (n_rdms, n_pairs)
            One entry per target, in the unit of the RDMs; ``n_rdms`` is 1, or the number of subjects with ``"all"``.
            The next call with the same names may return the same tensors: do not modify them.

        Raises
        ------
        BrainrdlError
            If a name is unknown or occurs more than once.
        """
        names, device = tuple(batch.names), batch.images.device
        if self._last is None or self._last[0] != names or self._last[1] != device:
            self._last = names, device, self._look_up(names, device)
        answer = self._last[2]
        if self.combine != "sample":
            return dict(answer)
        share = float(np.random.default_rng([self.seed, batch.step]).random())
        return {target: _row(pairs, share) for target, pairs in answer.items()}

    def _look_up(self, names: tuple[str, ...], device: torch.device) -> dict[str, Tensor]:
        check_conditions(names, self._positions, f"teacher {self.name!r}")
        check_unique(names, f"the conditions asked of teacher {self.name!r}")
        answers = {target: self._answer(target) for target in self.targets}
        every = [row for rows in answers.values() for row in rows]
        if len(every) * len(self.conditions) ** 2 <= _SQUARES and not self._is_mapped():
            found = self._from_squares(every, names)
        else:
            found = self._chosen(every, names, torch.float32)
        parts = found.split([len(rows) for rows in answers.values()]) if len(answers) > 1 else (found,)
        return {target: part.to(device) for target, part in zip(answers, parts, strict=True)}

    def _from_squares(self, rows: Sequence[Pairs], names: tuple[str, ...]) -> Tensor:
        """Do the same as `_chosen` for few conditions, faster."""
        if self._squares is None:
            self._squares = to_square(torch.stack([row.float() for row in rows if isinstance(row, Tensor)])).numpy()
        positions = np.array(list(map(self._positions.__getitem__, names)))
        return torch.from_numpy(pairs_of(self._squares.take(positions, 1).take(positions, 2)))

    def _chosen(self, rows: Sequence[Pairs], names: tuple[str, ...], dtype: torch.dtype) -> Tensor:
        """Return the pairs of some conditions in their order, (n_rows, n_pairs)."""
        positions = np.array(list(map(self._positions.__getitem__, names)))
        found = torch.empty(len(rows), len(names) * (len(names) - 1) // 2, dtype=dtype)
        for part, places in places_of(positions, len(self.conditions)):
            index = torch.from_numpy(places)
            for k, row in enumerate(rows):
                # faster than row[index], which RDMs in a file need
                found[k, part] = row.index_select(0, index) if isinstance(row, Tensor) else row[index]
        return found

    def _answer(self, target: str) -> list[Pairs]:
        if target not in self._answers:
            self._answers[target] = [_in_single(self._mean(target))]
        return self._answers[target]

    def _mean(self, target: str) -> Pairs:
        rows = list(self._rows[target].values())
        weighing = self._weighing()
        scales = factors(rows, f"target {target!r} of teacher {self.name!r}", weighing)
        weights = torch.ones(len(rows), dtype=torch.float64)
        if self.combine == "reliability" and len(rows) > 1:
            weights = _reliabilities(rows, scales, weighing)
            if not weights.any():
                refuse(
                    f"no subject's RDM of target {target!r} in teacher {self.name!r} correlates with the mean of the "
                    "others, so there are no reliability weights; use "
                    f"{arg('combine', 'mean')}, or check that the names match"
                )
        return weighted_mean(rows, weights, scales)

    def _weighing(self) -> Tensor | Mask | None:
        """Mask of the pairs that determine the weights of subjects; None if all do."""
        weighed = set(self._weigh_by)
        known = np.array([name in weighed for name in self.conditions])
        if known.all():
            return None
        if self._is_mapped():
            return PairsOf(known)
        parts = [known[rows] & known[columns] for _, rows, columns in pair_blocks(len(known))]
        return torch.from_numpy(np.concatenate(parts))

    def identity(self, names: Sequence[str]) -> dict[str, Any]:
        """Return how the answers for `names` depend on the subjects' RDMs; it must not change within a run.

        Examples
        --------
        >>> from brainrdl.rdms import from_array
        >>> RDMTeacher(from_array([[1.0, 2, 3]], list("abc"))).identity("abc")["combine"]
        'mean'
        """
        weighed = set(self._weigh_by)
        return {
            "combine": self.combine,
            "seed": self.seed if self.combine == "sample" else None,
            "weigh_by": [name for name in names if name in weighed] if self.combine == "reliability" else None,
        }

    def select(self, names: Iterable[str], *, weigh_by: Iterable[str] | None = None) -> RDMTeacher:
        """Keep the conditions `names`, in that order; the others no longer influence the answer.

        Parameters
        ----------
        names : iterable of str
            Conditions to keep.
        weigh_by : iterable of str, optional
            Conditions among `names` from which the weights of ``combine="reliability"`` are computed, for example the
            training but not the validation conditions; by default all of `names`.

        Raises
        ------
        BrainrdlError
            If a name is unknown or occurs more than once, a name in `weigh_by` is not kept, a subject has no known pair
            of the names, or the combined RDM of a target has fewer than 2 known pairs or is constant.

        Examples
        --------
        >>> from brainrdl.rdms import from_array
        >>> teacher = RDMTeacher(from_array([[1.0, 2, 3, 4, 5, 6]], list("abcd")))
        >>> teacher.select("dba").conditions
        ('d', 'b', 'a')
        """
        asked = tuple(map(as_text, names))
        check_conditions(asked, self._positions, f"teacher {self.name!r}")
        check_unique(asked, f"the conditions asked of teacher {self.name!r}")
        weighing = asked if weigh_by is None else tuple(weigh_by)
        check_conditions(weighing, asked, f"the conditions kept of teacher {self.name!r}")
        other = self._copy(asked, {target: self._cut(rows, asked) for target, rows in self._rows.items()})
        other._weigh_by = weighing
        return other

    def _cut(self, rows: dict[str, Pairs], names: tuple[str, ...]) -> dict[str, Pairs]:
        if not self._is_mapped():
            return dict(zip(rows, self._chosen(list(rows.values()), names, torch.float64), strict=True))
        positions = np.array([self._positions[name] for name in names], dtype=np.int64)
        return {subject: InDouble(row.of(positions)) for subject, row in rows.items() if isinstance(row, Later)}

    def _is_mapped(self) -> bool:
        return not isinstance(next(iter(next(iter(self._rows.values())).values())), Tensor)

    def only_subjects(self, subjects: Iterable[str]) -> RDMTeacher:
        """Keep some subjects, for example those not held out, in the order given.

        Raises
        ------
        BrainrdlError
            If a subject is unknown, or a target is left without any.
        """
        asked = [subjects] if isinstance(subjects, str) else [as_text(subject) for subject in subjects]
        missing = [subject for subject in asked if subject not in self.subjects]
        if missing:
            refuse(
                f"subjects {quote(missing)} are not in teacher {self.name!r} "
                f"({len(self.subjects)} subjects){nearest(missing[0], [s for s in self.subjects if s not in asked])}"
            )
        kept = {
            target: {subject: rows[subject] for subject in asked if subject in rows}
            for target, rows in self._rows.items()
        }
        for target, rows in kept.items():
            if not rows:
                refuse(f"none of the subjects {quote(asked)} has an RDM of target {target!r} in teacher {self.name!r}")
        return self._copy(self.conditions, kept)

    def _copy(self, conditions: tuple[str, ...], rows: dict[str, dict[str, Pairs]]) -> RDMTeacher:
        other = copy.copy(self)
        other._hold(conditions, rows)
        return other

    def subject_rdms(self, target: str) -> RDMs:
        """Return the RDM of each subject for a target (sessions averaged) as rsatoolbox's `RDMs`.

        Raises
        ------
        BrainrdlError
            If `target` is unknown.
        """
        rows = self._rows[self._target(target)]
        described = {key: [value] * len(rows) for key, value in self._described[target].items()}
        descriptors = {self.subject_by: list(rows), **described}
        return self._as_rdms(torch.stack([row[:] for row in rows.values()]), descriptors)

    def digest(self) -> str:
        """Return the SHA-256 of the names of all subjects and of their RDMs, which are read block by block.

        Examples
        --------
        >>> from brainrdl.rdms import from_array
        >>> both = (RDMTeacher(from_array([[1.0, 2, values]], list("abc"))) for values in (3, 4))
        >>> len({teacher.digest() for teacher in both})
        2
        """
        each = {json.dumps([target, *rows]): _digest_rows(list(rows.values())) for target, rows in self._rows.items()}
        return hash_words(f"{name} {each[name]}" for name in sorted(each))

    def combined(self, target: str) -> RDMs:
        """Return the mean RDM of a target over subjects, weighted if ``combine="reliability"``.

        With ``"sample"`` and ``"all"`` it is the unweighted mean.

        Raises
        ------
        BrainrdlError
            If `target` is unknown.
        """
        return self._as_rdms(
            self._mean(self._target(target))[:][None], {key: [value] for key, value in self._described[target].items()}
        )

    def _target(self, target: str) -> str:
        return check_option(target, self.targets, f"target of teacher {self.name!r}")

    def _as_rdms(self, pairs: Tensor, descriptors: dict[str, list[Any]]) -> RDMs:
        return conversion.from_tensor(
            pairs, self.conditions, by=self.by, measure=self._measure, descriptors=descriptors
        )


def _loaded(rdms: RDMs | Path | str, names: Names | None, by: str) -> tuple[RDMs, str]:
    """Return RDMs, given or read from a file, and their name."""
    if not isinstance(rdms, Path | str):
        if names is not None:
            refuse(
                f"{arg('names')} only applies to a file; name the conditions of RDMs by a descriptor and {arg('by')}"
            )
        return _checked_type(rdms, "rdms"), "RDMs"
    from brainrdl.readers.reading import read

    return _checked_type(read(rdms, names=names, by=by), f"{str(rdms)!r}"), Path(rdms).stem


def _checked_type(found: object, where: str) -> RDMs:
    from rsatoolbox.rdm.rdms import RDMs

    if not isinstance(found, RDMs):
        refuse(
            f"{where} must be rsatoolbox RDMs, got {type(found).__name__}; "
            "compute RDMs from measurements with brainrdl.calc_rdm first"
        )
    return found


def _rows_of(rdms: RDMs) -> Sequence[Pairs] | Tensor:
    values = rdms.dissimilarities
    if isinstance(values, MappedPairs) and hasattr(values, "source"):
        return rows_of(values, rdms.n_cond)
    return _shared_memory(values)


def _in_single(pairs: Pairs) -> Pairs:
    return pairs.float() if isinstance(pairs, Tensor) else pairs


def _shared_memory(values: npt.NDArray[Any]) -> Tensor:
    """Return RDMs as a tensor in the same memory, if torch can use it."""
    if isinstance(values, np.ma.MaskedArray):
        values = as_float64(values, "RDMs")
    usable = values.dtype in (np.float32, np.float64) and values.dtype.isnative and values.flags.writeable
    return torch.from_numpy(np.ascontiguousarray(values) if usable else np.array(values, dtype=np.float64))


def _by_subject(values: Sequence[Pairs] | Tensor, found: Groups) -> dict[str, dict[str, Pairs]]:
    """Sort RDMs into {target: {subject: pairs}}, several RDMs of one subject averaged."""
    return {
        target: {
            subject: mean_rdm(
                [values[position] for position in positions], f"subject {subject!r} and target {target!r}"
            )
            for subject, positions in rows.items()
        }
        for target, rows in found.rows().items()
    }


def _described(rdms: RDMs, found: Groups) -> dict[str, dict[str, Any]]:
    """Give the rdm descriptors of each target."""
    return {
        target: {key: rdms.rdm_descriptors[key][place] for key in found.target_by} or {"roi": target}
        for target, rows in found.rows().items()
        for place in [next(iter(rows.values()))[0]]
    }


def _digest_rows(rows: Sequence[Pairs]) -> str:
    """SHA-256 of RDMs in double precision, as `digest_tensor` computes it of all of them together."""
    total = hashlib.sha256(f"{torch.float64} {(len(rows), *rows[0].shape)}".encode())
    for row in rows:
        for _, block in blocks([row]):
            total.update(block.double().numpy().data)
    return total.hexdigest()


def _refuse_only_nan(pairs: Pairs, subject: str, where: str) -> None:
    if all(bool(block.isnan().all()) for _, block in blocks([pairs])):
        refuse(
            f"subject {subject!r} has only NaN at {where} for these conditions; leave the subject out with "
            f"{arg('subjects', of='teacher', python='only_subjects(...)')}, or choose other conditions"
        )


def _refuse_too_little(pairs: Pairs, what: str, where: str) -> None:
    """Refuse an RDM with which every student correlates equally: the loss would be constant, which is easily missed."""
    n_known, low, high = 0, float("inf"), float("-inf")
    for _, block in blocks([pairs]):
        known = block[~block.isnan()].float()  # the precision of the answers
        if len(known):
            n_known += len(known)
            low, high = min(low, float(known.min())), max(high, float(known.max()))
        if n_known > 1 and low < high:
            return
    if n_known < 2:
        refuse(
            f"{what} at {where} has {n_known} of the {pairs.shape[0]} pairs of these conditions, but at least 2 "
            "are needed; choose other conditions"
        )
    refuse(f"{what} at {where} is constant for these conditions: every known pair is {low:g}; choose other conditions")


def _reliabilities(rows: Sequence[Pairs], scales: Tensor | None, on: Tensor | Mask | None) -> Tensor:
    """Pearson correlation of each row with the mean of the others, over pairs both know; 0 if negative."""
    n, own, others, product, own_square, others_square = torch.zeros(6, len(rows), dtype=torch.float64)
    for a, b, known in _with_others(rows, scales, on):
        n += known.sum(1)
        own += a.sum(1)
        others += b.sum(1)
    for a, b, known in _with_others(rows, scales, on):
        a, b = (torch.where(known, c - (total / n)[:, None], 0.0) for c, total in ((a, own), (b, others)))
        product += (a * b).sum(1)
        own_square += a.square().sum(1)
        others_square += b.square().sum(1)
    found: Tensor = product / (own_square * others_square).sqrt()
    return found.nan_to_num().clamp(min=0)


def _with_others(
    rows: Sequence[Pairs], scales: Tensor | None, on: Tensor | Mask | None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield, in blocks, each row, the mean of the others, and the pairs that both know; 0 in those that they do not."""
    for block in chosen_blocks(rows, on):
        given = ~block.isnan()
        filled = block.nan_to_num() if scales is None else block.nan_to_num() * scales[:, None]
        counts = given.sum(0) - given.long()
        known = given & (counts > 0)
        others = (filled.sum(0) - filled) / counts.clamp(min=1)
        yield torch.where(known, filled, 0.0), torch.where(known, others, 0.0), known


def _row(pairs: Tensor, share: float) -> Tensor:
    """Return the row at `share` (0 to 1) of all rows, so that one draw picks the same subject in every target."""
    row = int(share * len(pairs))
    return pairs[row : row + 1]
