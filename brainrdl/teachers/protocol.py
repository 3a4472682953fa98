"""Teachers: sources of the RDMs that a student learns, always asked by condition name.

The contract of a `Teacher`, which `brainrdl.testing.check_teacher` checks:

1. ``name`` is its name in errors and reports; ``targets`` are the unique names of its RDMs (regions, layers).
2. ``rdms(batch)`` answers with exactly one float tensor per target, shape ``(n_rdms, n_pairs)`` with at least one RDM,
   on the device of ``batch.images``; pairs in row-major upper-triangle order of ``batch.names``.
3. The order of the answer is that of the names: in another order, or for fewer names, the dissimilarities are the same.
4. The same batch (names, images and step) gets the same answer.
5. No gradient flows into a teacher, and no answer contains Inf. NaN marks an unknown pair, which the loss leaves out.
6. A name it does not know is an error. A teacher that answers by name lists the names it knows in ``conditions``;
   one that computes from the batch's images has no such list.

A teacher may return the same tensors again: do not modify them.

The other members are optional. A teacher that has them can be used like an `RDMTeacher` in `fit`, `evaluate`,
`cross_validate` and recipes; without them the default in brackets applies.

7. ``conditions``: the names it knows. A recipe aligns its stimuli with them, and `fit` refuses other names before any
   work. [Any name is passed to ``rdms``.]
8. ``select(names, *, weigh_by=None)``: a teacher that knows only these names, in that order, so that what is held out
   cannot influence the answers. Each subject's dissimilarities stay the same. A teacher that weights its subjects
   computes the weights from the pairs of `weigh_by` (names among `names`; by default all of them). The teacher itself
   does not change. [The whole teacher is used, and only asked about the training conditions.]
9. ``subjects``: names of its subjects, and ``only_subjects(subjects)``: a teacher of these subjects only, in that
   order, which refuses an unknown one. A teacher of a single subject answers with one RDM per target. Subjects can
   then be held out, and scores have a noise ceiling. [Each of its RDMs is scored as if it were a subject, and no
   subject can be held out.]
10. ``subject_rdms(target)``: every subject's RDM of all its conditions as rsatoolbox's ``RDMs``, in double precision;
    its attributes ``by`` and ``subject_by`` name the descriptors. [Each subject's teacher is asked for its RDMs, and
    descriptors are "stimulus" and "subject".]
11. ``identity(names)``: a dict of what the answers for these names depend on besides the images, the same each time. A
    run is not resumed with a teacher of another identity. [A run is resumed with any teacher of its name and targets.]
12. ``uses_images``: False means that the batch's images are never used. [True.]
13. ``view``: which images it is given in training, if the stimuli have an augmentation: ``"same"``, those that the
    student sees, or ``"clean"``, those without augmentation, whose patterns can be stored. ["same".]

14. ``strata``: a dict of label to conditions, of which each batch should contain several. [Batches are drawn from all.]
15. ``digest()``: the SHA-256 of every subject's RDMs, so that a run is only resumed with the same; None if none are
    stored. [It is computed from all that ``subject_rdms`` gives, in memory.]

Only the functions of this module below `Teacher` check whether a teacher has an optional member.

Your own teacher is a class with the first three members; it needs no base class and no registration.

Examples
--------
>>> import torch
>>> from brainrdl.stimuli import Batch
>>> class RatedSize:
...     name, targets = "rated size", ("size",)
...     conditions = ("mouse", "cat", "horse", "house")
...
...     def rdms(self, batch):
...         size = torch.tensor([float(self.conditions.index(name)) for name in batch.names])
...         i, j = torch.triu_indices(len(size), len(size), 1)
...         return {"size": (size[i] - size[j]).abs()[None].to(batch.images.device)}
>>> RatedSize().rdms(Batch(("horse", "mouse", "cat"), torch.zeros(3, 1, 2, 2), None))
{'size': tensor([[2., 1., 1.]])}
>>> from brainrdl.testing import check_teacher
>>> check_teacher(RatedSize(), Batch(RatedSize.conditions, torch.zeros(4, 1, 2, 2), None))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_conditions, check_option, check_text, refuse
from brainrdl._core.files import digest
from brainrdl.rdms import conversion
from brainrdl.stimuli.named_images import Batch

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs


VIEWS = ("same", "clean")
"""Which images a teacher network can see if they are augmented."""


@runtime_checkable
class Teacher(Protocol):
    """Anything with a name, targets and ``rdms(batch)``; the module docstring states the contract."""

    @property
    def name(self) -> str:
        """Name in errors and reports."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of its RDMs: regions or layers."""

    def rdms(self, batch: Batch) -> dict[str, Float[Tensor, "n_rdms n_pairs"]]:
        """Return the RDMs of the batch's conditions, in their order."""


def known_conditions(teacher: Teacher) -> tuple[str, ...] | None:
    """Return the conditions that a teacher lists; None if it lists none."""
    known: Sequence[str] | None = getattr(teacher, "conditions", None)
    return None if known is None else tuple(known)


def check_stored(teacher: Teacher) -> None:
    """Refuse a teacher with a name, target, condition or subject that cannot be written to a file.

    Raises
    ------
    BrainrdlError
        As `check_text`, before anything is fitted.
    """
    names = (teacher.name, *teacher.targets, *(known_conditions(teacher) or ()), *subjects_of(teacher))
    check_text(map(str, names), f"teacher {teacher.name!r}, its targets, conditions or subjects")


def can_be_cut_down(teacher: Any) -> bool:
    """Whether a teacher can be restricted to some of its conditions."""
    return hasattr(teacher, "select")


def cut_down(teacher: Any, names: Sequence[str], weigh_by: Sequence[str] | None = None) -> Teacher:
    """Return a teacher that knows only `names`, or the whole teacher if it cannot be restricted."""
    kept: Teacher = teacher.select(names, weigh_by=weigh_by) if can_be_cut_down(teacher) else teacher
    return kept


def subjects_of(teacher: Teacher) -> tuple[str, ...]:
    """Return the subjects that can be held out; empty if the teacher cannot be restricted to some subjects."""
    return tuple(getattr(teacher, "subjects", ())) if hasattr(teacher, "only_subjects") else ()


def without_subject(teacher: Teacher, subject: str) -> Teacher:
    """Return a teacher without one of its subjects; `subject` "" leaves out none."""
    return of_subjects(teacher, [one for one in subjects_of(teacher) if one != subject]) if subject else teacher


def of_subjects(teacher: Any, subjects: Sequence[str]) -> Teacher:
    """Return a teacher of some subjects, from one that has subjects (see `subjects_of`)."""
    kept: Teacher = teacher.only_subjects(subjects)
    return kept


def identity_of(teacher: Teacher, names: Sequence[str]) -> dict[str, Any] | None:
    """Return what the answers for `names` depend on; None if the teacher has no identity."""
    identity: Callable[[Sequence[str]], dict[str, Any]] | None = getattr(teacher, "identity", None)
    return None if identity is None else identity(names)


def digest_of(teacher: Teacher) -> str | None:
    """Return the SHA-256 of all subjects' names and RDMs; None if a teacher stores none."""
    own: Callable[[], str | None] | None = getattr(teacher, "digest", None)
    if own is not None:
        return own()
    named = {json.dumps([target, *rdms.subjects]): rdms.pairs for target, rdms in kept_rdms(teacher).items()}
    return digest(named) if named else None


def uses_images(teacher: Teacher) -> bool:
    """Whether a teacher may use the batch's images."""
    return bool(getattr(teacher, "uses_images", True))


def view_of(teacher: Teacher) -> str:
    """Return which images a teacher should be given in training: "same" as the student, or "clean".

    Raises
    ------
    BrainrdlError
        If the teacher says something else.
    """
    return check_option(getattr(teacher, "view", "same"), VIEWS, f"view of teacher {teacher.name!r}")


def strata_of(teacher: Teacher, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the conditions among `names` of each stratum; empty if the teacher has no strata."""
    strata: Mapping[str, Sequence[str]] = getattr(teacher, "strata", {})
    asked = frozenset(names)
    return {label: tuple(name for name in known if name in asked) for label, known in strata.items()}


class SubjectRDMs(NamedTuple):
    """Return every subject's RDM of one target."""

    subjects: tuple[str, ...]
    pairs: Float[Tensor, "n_subjects n_pairs"]
    measure: str | None = None


def kept_rdms(teacher: Teacher, names: Sequence[str] | None = None) -> dict[str, SubjectRDMs]:
    """Return every subject's RDM of each target for `names` (all by default); empty if a teacher stores none."""
    if not hasattr(teacher, "subject_rdms"):
        return {}
    by, subject_by = getattr(teacher, "by", "stimulus"), getattr(teacher, "subject_by", "subject")
    cut: Any = teacher if names is None else cut_down(teacher, names)
    found: dict[str, RDMs] = {target: cut.subject_rdms(target) for target in cut.targets}
    return {
        target: SubjectRDMs(
            tuple(str(subject) for subject in rdms.rdm_descriptors[subject_by]),
            conversion.to_tensor(rdms, names, by=by, dtype=torch.float64),
            rdms.dissimilarity_measure,
        )
        for target, rdms in found.items()
    }


def rdms_by_subject(teacher: Teacher, names: Sequence[str], batch: Callable[[], Batch]) -> dict[str, SubjectRDMs]:
    """Return every subject's RDM of each target for `names`.

    A teacher that does not store its subjects' RDMs is asked about `batch` (of `names`), one subject at a time; one
    that uses no images is not given any, so that none are loaded. The RDMs of a teacher without subjects are numbered
    and count as subjects.
    """
    if kept := kept_rdms(teacher, names):
        return kept
    shown = batch() if uses_images(teacher) else Batch(tuple(names), torch.empty(0), None)
    subjects = subjects_of(teacher)
    if not subjects:
        answer = teacher.rdms(shown)
        return {target: SubjectRDMs(_numbered(len(rows)), rows.cpu()) for target, rows in answer.items()}
    answers = [of_subjects(teacher, [subject]).rdms(shown) for subject in subjects]
    return {
        target: SubjectRDMs(subjects, torch.cat([_one_rdm(answer[target], teacher.name) for answer in answers]).cpu())
        for target in teacher.targets
    }


def _numbered(n: int) -> tuple[str, ...]:
    return tuple(str(index) for index in range(n))


def _one_rdm(rows: Tensor, name: str) -> Tensor:
    if len(rows) != 1:
        refuse(f"teacher {name!r}, restricted to one subject, should answer with one RDM per target, got {len(rows)}")
    return rows


def conditions_of(teacher: Teacher, conditions: Sequence[str] | None) -> tuple[str, ...]:
    """Return the conditions to permute: those given, which a teacher with a list must know, or all listed ones."""
    known = known_conditions(teacher)
    if conditions is None and known is None:
        refuse(f"teacher {teacher.name!r} lists no conditions: give the names to permute as conditions=")
    if conditions is not None and known is not None:
        check_conditions(conditions, known, f"teacher {teacher.name!r}")
    return tuple(conditions if conditions is not None else known or ())
