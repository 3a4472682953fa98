"""Check a teacher against the contract of `brainrdl.teachers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from brainrdl._core.errors import check_conditions, check_unique, quote, refuse
from brainrdl.dissimilarity.pairs import pair_indices, to_square
from brainrdl.teachers.protocol import (
    can_be_cut_down,
    cut_down,
    digest_of,
    identity_of,
    kept_rdms,
    known_conditions,
    of_subjects,
    subjects_of,
    view_of,
)
from brainrdl.testing.file_readers import check_members

if TYPE_CHECKING:
    from brainrdl.stimuli.named_images import Batch
    from brainrdl.teachers.protocol import Teacher


def check_teacher(teacher: Teacher, batch: Batch) -> None:
    """Check a teacher against the contract of `brainrdl.teachers`, with one batch of known conditions.

    Parameters
    ----------
    teacher : Teacher
        Any object with ``name``, ``targets`` and ``rdms(batch)``. Its optional members are checked if it has them.
    batch : Batch
        At least 4 conditions that it knows, with images if it uses them.

    Raises
    ------
    BrainrdlError
        If the teacher breaks the contract; the message says which point fails and how.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> from brainrdl.stimuli import Batch
    >>> from brainrdl.teachers import RDMTeacher
    >>> teacher = RDMTeacher(from_array([[1.0, 2, 3, 4, 5, 6]], list("abcd")))
    >>> check_teacher(teacher, Batch(("a", "b", "c", "d"), torch.zeros(4, 1, 2, 2), None))
    """
    check_members(teacher, "teacher", ("name", "targets", "rdms"), texts=("name",))
    _check_targets(teacher)
    view_of(teacher)
    where = f"teacher {teacher.name!r}"
    if len(batch.names) < 4:
        refuse(f"check_teacher needs a batch of at least 4 conditions, got {len(batch.names)}")
    answer = teacher.rdms(batch)
    _check_answer(answer, teacher, batch, where)
    # Copies, because a teacher that modifies its last answer would otherwise pass.
    answer = {target: pairs.clone() for target, pairs in answer.items()}
    _same(answer, teacher.rdms(batch), f"{where} gives a different answer to the same batch", exact=True)
    for order in (list(range(len(batch.names)))[::-1], [2, 0, 3], [3, 1, 0, 2]):
        expected = {target: _picked(pairs, order) for target, pairs in answer.items()}
        asked = [batch.names[index] for index in order]
        _same(
            expected, teacher.rdms(_part(batch, order)), f"{where} does not answer in the order of the names, {asked}"
        )
    _check_unknown(teacher, batch, where)
    _check_conditions(teacher, batch, where)
    _check_identity(teacher, batch, where)
    subjects = _check_subjects(teacher, batch, where)
    # With one subject: with several, the weights may depend on the kept names.
    _check_select(of_subjects(teacher, subjects[:1]) if subjects else teacher, batch, where)
    _same(answer, teacher.rdms(batch), f"{where} answers differently after `select`", exact=True)
    _check_digest(teacher, where)


def _check_conditions(teacher: Teacher, batch: Batch, where: str) -> None:
    known = known_conditions(teacher)
    if known is not None:
        check_unique(known, f"the conditions of {where}")
        check_conditions(batch.names, known, f"the conditions of {where}")


def _check_identity(teacher: Teacher, batch: Batch, where: str) -> None:
    first, second = (identity_of(teacher, batch.names) for _ in range(2))
    if first is not None and not isinstance(first, Mapping):
        refuse(f"identity(names) of {where} must be a dict, got {type(first).__name__}")
    if repr(first) != repr(second):
        refuse(f"{where} has a different identity when asked again: {first!r}, then {second!r}")


def _check_digest(teacher: Teacher, where: str) -> None:
    digests = [digest_of(teacher) for _ in range(2)]
    if not all(one is None or isinstance(one, str) for one in digests) or digests[0] != digests[1]:
        refuse(f"digest() of {where} must be a text, the same each time, or None, got {digests[0]!r}, {digests[1]!r}")


def _check_subjects(teacher: Teacher, batch: Batch, where: str) -> list[str]:
    """Return the subjects that have an RDM for every target, each of which can be a teacher."""
    subjects = subjects_of(teacher)
    if not subjects:
        return []
    check_unique(subjects, f"the subjects of {where}")
    turned = of_subjects(teacher, subjects[::-1])
    if subjects_of(turned) != subjects[::-1]:
        refuse(f"{where} was asked for subjects {quote(subjects[::-1])}, but has {quote(subjects_of(turned))}")
    kept = kept_rdms(teacher, batch.names)
    whole = [one for one in subjects if all(one in found.subjects for found in kept.values())]
    answers = {subject: of_subjects(teacher, [subject]).rdms(batch) for subject in whole}
    for subject, answer in answers.items():
        at = f"{where}, restricted to subject {subject!r}"
        _check_answer(answer, teacher, batch, at)
        if several := [target for target, pairs in answer.items() if len(pairs) != 1]:
            refuse(f"{at}, must answer with one RDM per target, got {len(answer[several[0]])} for {several[0]!r}")
    for target, found in kept.items():
        of_target = dict(zip(found.subjects, found.pairs[:, None], strict=True))
        for subject, answer in answers.items():
            problem = f"subject_rdms of {where} and rdms(batch) of its subject {subject!r} disagree"
            _same({target: of_target[subject].to(answer[target])}, answer, problem)
    if _answers(lambda: of_subjects(teacher, ["a subject no teacher knows"])):
        refuse(f"{where} accepts an unknown subject; unknown subjects must be an error")
    return whole


def _check_select(whole: Teacher, batch: Batch, where: str) -> None:
    if not can_be_cut_down(whole):
        return
    answer = {target: pairs.clone() for target, pairs in whole.rdms(batch).items()}
    order = _telling(answer, len(batch.names))
    names = tuple(batch.names[index] for index in order)
    cut = cut_down(whole, names, names[:-1])
    if known_conditions(cut) != names:
        refuse(
            f"{where}, restricted to {list(names)}, has conditions {known_conditions(cut)}; they must be these names"
        )
    if tuple(cut.targets) != tuple(whole.targets):
        refuse(f"{where}, restricted to {list(names)}, has targets {quote(cut.targets)}, not {quote(whole.targets)}")
    expected = {target: _picked(pairs, order) for target, pairs in answer.items()}
    _same(
        expected,
        cut.rdms(_part(batch, order)),
        f"{where} changes its dissimilarities when restricted to {list(names)}",
    )
    if len(names) < len(batch.names) and _answers(lambda: cut.rdms(batch)):
        refuse(f"{where}, restricted to {list(names)}, still answers for the other names")


def _telling(answer: Mapping[str, Tensor], n: int) -> list[int]:
    """Return all but one condition, in reverse order, with pairs that differ: a teacher may refuse a constant RDM."""
    for left_out in range(n):
        order = [index for index in reversed(range(n)) if index != left_out]
        parts = [row[~row.isnan()] for pairs in answer.values() for row in _picked(pairs, order)]
        if all(len(part) > 1 and bool(part.min() < part.max()) for part in parts):
            return order
    return list(reversed(range(n)))


def _answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except (ValueError, KeyError):
        return False
    return True


def _check_targets(teacher: Teacher) -> None:
    targets = teacher.targets
    if isinstance(targets, str) or not targets or not all(isinstance(target, str) for target in targets):
        refuse(f"targets of teacher {teacher.name!r} must be a tuple of at least one name, got {targets!r}")
    check_unique(targets, f"the targets of teacher {teacher.name!r}")


def _check_answer(answer: Mapping[str, Tensor], teacher: Teacher, batch: Batch, where: str) -> None:
    if set(answer) != set(teacher.targets):
        refuse(f"{where} answers for {quote(answer)}, but its targets are {quote(teacher.targets)}")
    n_pairs = len(batch.names) * (len(batch.names) - 1) // 2
    for target, pairs in answer.items():
        at = f"answer of {where} for target {target!r}"
        if pairs.ndim != 2 or pairs.shape[0] < 1 or pairs.shape[1] != n_pairs:
            refuse(f"{at} must have shape (n_rdms, {n_pairs}) with n_rdms >= 1, got {tuple(pairs.shape)}")
        if not pairs.is_floating_point():
            refuse(f"{at} must be floating point, got {pairs.dtype}")
        if pairs.device != batch.images.device:
            refuse(f"{at} is on {pairs.device}, but the batch's images are on {batch.images.device}")
        if pairs.requires_grad:
            refuse(f"{at} has a gradient; compute it under torch.no_grad()")
        if bool(pairs.isinf().any()) or bool(pairs.isnan().all()):
            refuse(f"{at} contains Inf, or only NaN")


def _check_unknown(teacher: Teacher, batch: Batch, where: str) -> None:
    """Check an unknown name; only a teacher that lists its conditions answers by name."""
    if known_conditions(teacher) is None:
        return
    strange = replace(batch, names=("a name no teacher knows", *batch.names[1:]))
    if _answers(lambda: teacher.rdms(strange)):
        refuse(f"{where} answers for an unknown condition; unknown names must be an error")


def _part(batch: Batch, order: list[int]) -> Batch:
    labels = None if batch.labels is None else batch.labels[order]
    return replace(batch, names=tuple(batch.names[index] for index in order), images=batch.images[order], labels=labels)


def _picked(pairs: Tensor, order: list[int]) -> Tensor:
    chosen = torch.tensor(order, device=pairs.device)
    first, second = chosen[pair_indices(len(order), pairs.device)]
    return to_square(pairs)[:, first, second]


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor], problem: str, exact: bool = False) -> None:
    """Refuse answers that differ; across batches, allow for the rounding of float32 sums in another order."""
    tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-4, "atol": 1e-5}
    for target, pairs in a.items():
        other = b[target]
        if pairs.shape != other.shape or not torch.allclose(pairs, other, equal_nan=True, **tolerance):
            refuse(f"{problem}: target {target!r} differs")
