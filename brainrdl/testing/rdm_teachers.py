"""The list of the teacher protocol, as a check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from brainrdl._core.errors import check_unique, quote, refuse
from brainrdl.dissimilarity.pairs import pair_indices, to_square
from brainrdl.testing.file_readers import check_members

if TYPE_CHECKING:
    from brainrdl.stimuli.named_images import Batch
    from brainrdl.teachers.protocol import Teacher


def check_teacher(teacher: Teacher, batch: Batch) -> None:
    """Try the contract of `brainrdl.teachers` on a teacher, with one batch of conditions it knows.

    Parameters
    ----------
    teacher : Teacher
        Any object with ``name``, ``targets`` and ``rdms(batch)``.
    batch : Batch
        At least 4 conditions it knows, with images if it computes from them.

    Raises
    ------
    BrainrdlError
        If a point of the contract does not hold; the message says which, and what came.

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
    where = f"teacher {teacher.name!r}"
    if len(batch.names) < 4:
        refuse(f"check_teacher needs a batch of at least 4 conditions, got {len(batch.names)}")
    answer = teacher.rdms(batch)
    _check_answer(answer, teacher, batch, where)
    # Copies: a teacher that writes into its last answer would otherwise agree with itself.
    answer = {target: pairs.clone() for target, pairs in answer.items()}
    _same(answer, teacher.rdms(batch), f"{where} gives another answer when asked the same again", exact=True)
    for order in (list(range(len(batch.names)))[::-1], [2, 0, 3], [3, 1, 0, 2]):
        expected = {target: _picked(pairs, order) for target, pairs in answer.items()}
        asked = [batch.names[index] for index in order]
        _same(expected, teacher.rdms(_part(batch, order)), f"{where} does not answer in the order asked, {asked}")
    _check_unknown(teacher, batch, where)


def _check_targets(teacher: Teacher) -> None:
    targets = teacher.targets
    if isinstance(targets, str) or not targets or not all(isinstance(target, str) for target in targets):
        refuse(f"targets of teacher {teacher.name!r} must be a tuple of at least one name, got {targets!r}")
    check_unique(targets, f"the targets of teacher {teacher.name!r}")


def _check_answer(answer: Mapping[str, Tensor], teacher: Teacher, batch: Batch, where: str) -> None:
    if set(answer) != set(teacher.targets):
        refuse(f"{where} answers for {quote(answer)}, its targets are {quote(teacher.targets)}")
    n_pairs = len(batch.names) * (len(batch.names) - 1) // 2
    for target, pairs in answer.items():
        at = f"answer of {where} for target {target!r}"
        if pairs.ndim != 2 or pairs.shape[0] < 1 or pairs.shape[1] != n_pairs:
            refuse(f"{at} must have shape (n_rdms, {n_pairs}) with n_rdms >= 1, got {tuple(pairs.shape)}")
        if not pairs.is_floating_point():
            refuse(f"{at} must be floating point, got {pairs.dtype}")
        if pairs.device != batch.images.device:
            refuse(f"{at} is on {pairs.device}, the batch's images are on {batch.images.device}")
        if pairs.requires_grad:
            refuse(f"{at} carries a gradient; a teacher is frozen: compute under torch.no_grad()")
        if bool(pairs.isinf().any()) or bool(pairs.isnan().all()):
            refuse(f"{at} holds Inf, or nothing but NaN")


def _check_unknown(teacher: Teacher, batch: Batch, where: str) -> None:
    """Ask for a name that cannot be there; only a teacher that lists its conditions answers by name."""
    if not hasattr(teacher, "conditions"):
        return
    strange = replace(batch, names=("a name no teacher knows", *batch.names[1:]))
    try:
        teacher.rdms(strange)
    except (ValueError, KeyError):
        return
    refuse(f"{where} answers for a condition it does not know; unknown names must be an error")


def _part(batch: Batch, order: list[int]) -> Batch:
    labels = None if batch.labels is None else batch.labels[order]
    return replace(batch, names=tuple(batch.names[index] for index in order), images=batch.images[order], labels=labels)


def _picked(pairs: Tensor, order: list[int]) -> Tensor:
    chosen = torch.tensor(order, device=pairs.device)
    first, second = chosen[pair_indices(len(order), pairs.device)]
    return to_square(pairs)[:, first, second]


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor], problem: str, exact: bool = False) -> None:
    """Refuse answers that differ; across batches by more than float32 sums in another order can."""
    tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-4, "atol": 1e-5}
    for target, pairs in a.items():
        other = b[target]
        if pairs.shape != other.shape or not torch.allclose(pairs, other, equal_nan=True, **tolerance):
            refuse(f"{problem}: target {target!r} differs")
