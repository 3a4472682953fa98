"""JointTeacher: several teachers, each with its own conditions, as one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_conditions, check_option, check_unique, nearest, quote, refuse
from brainrdl._core.files import hash_words
from brainrdl.dissimilarity.pairs import pair_indices, to_square
from brainrdl.rdms import conversion
from brainrdl.teachers.protocol import (
    VIEWS,
    SubjectRDMs,
    Teacher,
    cut_down,
    digest_of,
    identity_of,
    kept_rdms,
    known_conditions,
    of_subjects,
    subjects_of,
    uses_images,
    view_of,
)

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

    from brainrdl.stimuli.named_images import Batch

# A teacher that is cut down to fewer conditions has no pairs that differ.
_FEWEST = 3


class JointTeacher:
    """Several teachers as one, each with its own conditions.

    For example, human IT of 92 images and the fMRI of other people who saw 118 other images. Targets and subjects are
    called ``"label/target"`` and ``"label/subject"``. A target has dissimilarities for pairs of its teacher's
    conditions; other pairs are NaN, which losses and scores leave out. A name that two teachers have is the same
    condition.

    Parameters
    ----------
    teachers : mapping of label to Teacher
        At least two, each with a list of its conditions.
    name : str, optional
        Name in errors and reports; by default the labels joined by ``" + "``.

    Attributes
    ----------
    targets, conditions, subjects : tuple of str
        Those of all teachers, in order.
    strata : dict of label to tuple of str
        Conditions of each teacher, of which each batch should contain several.

    Raises
    ------
    BrainrdlError
        If there are fewer than two teachers, one lists no conditions, or a label contains ``"/"``.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> from brainrdl.stimuli import Batch
    >>> from brainrdl.teachers import RDMTeacher
    >>> human, monkey = (RDMTeacher(from_array([[1.0, 2, 3]], names)) for names in ("abc", "xyz"))
    >>> both = JointTeacher({"human": human, "monkey": monkey})
    >>> both.rdms(Batch(("b", "x", "a", "z"), torch.zeros(4, 1, 2, 2)))
    {'human/rdm': tensor([[nan, 1., nan, nan, nan, nan]]), 'monkey/rdm': tensor([[nan, nan, nan, nan, 2., nan]])}
    """

    def __init__(self, teachers: Mapping[str, Teacher], *, name: str | None = None) -> None:
        if len(teachers) < 2:
            refuse(f"several teachers are needed, got {len(teachers)}; use a single teacher as it is")
        for label, teacher in teachers.items():
            if "/" in label:
                refuse(f"label {label!r} contains '/', which separates labels and targets; choose another")
            if known_conditions(teacher) is None:
                refuse(
                    f"teacher {label!r} lists no conditions, so it is not known which ones it should answer for; give "
                    "a NetworkTeacher its own stimuli"
                )
        self.name = name or " + ".join(teachers)
        self.targets = tuple(f"{label}/{target}" for label, one in teachers.items() for target in one.targets)
        self.uses_images = any(uses_images(teacher) for teacher in teachers.values())
        self.view = _common_view(teachers)
        self._own_targets = {label: tuple(teacher.targets) for label, teacher in teachers.items()}
        # None: a teacher of which too few conditions, or no subject, is left; it still has targets.
        self._teachers: dict[str, Teacher | None] = dict(teachers)
        self._names = {label: known_conditions(teacher) or () for label, teacher in teachers.items()}
        self.conditions = tuple(dict.fromkeys(name for names in self._names.values() for name in names))

    def __repr__(self) -> str:
        return f"JointTeacher({self.name!r}, targets={list(self.targets)}, {len(self.conditions)} conditions)"

    @cached_property
    def _known(self) -> dict[str, frozenset[str]]:
        return {label: frozenset(names) for label, names in self._names.items()}

    @property
    def strata(self) -> dict[str, tuple[str, ...]]:
        """Conditions of each teacher."""
        return dict(self._names)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects of all teachers that have them."""
        return tuple(
            f"{label}/{subject}"
            for label, one in self._teachers.items()
            if one is not None
            for subject in subjects_of(one)
        )

    def rdms(self, batch: Batch) -> dict[str, Float[Tensor, "n_rdms n_pairs"]]:
        """Ask each teacher about its conditions in the batch; pairs of other conditions are NaN.

        Raises
        ------
        BrainrdlError
            If a name is unknown to all teachers or occurs more than once, or a teacher refuses its part of the batch.
        """
        check_conditions(batch.names, self.conditions, f"teacher {self.name!r}")
        check_unique(batch.names, f"the conditions asked of teacher {self.name!r}")
        answers: dict[str, Tensor] = {}
        for label, teacher in self._teachers.items():
            places = [place for place, name in enumerate(batch.names) if name in self._known[label]]
            if teacher is None or len(places) < 2:
                found = {target: torch.full((1, 0), torch.nan) for target in self._own_targets[label]}
                places = []
            else:
                found = teacher.rdms(_part(batch, places, uses_images(teacher)))
            for target, pairs in found.items():
                answers[f"{label}/{target}"] = _spread(pairs.to(batch.images.device), places, len(batch.names))
        return answers

    def select(self, names: Iterable[str], *, weigh_by: Iterable[str] | None = None) -> JointTeacher:
        """Keep the conditions `names`, in that order, of the teachers that know them.

        A teacher of which fewer than 3 conditions are left keeps its targets, and answers with NaN.

        Raises
        ------
        BrainrdlError
            If a name is unknown to all teachers or occurs more than once, or a name in `weigh_by` is not kept.
        """
        asked = tuple(names)
        check_conditions(asked, self.conditions, f"teacher {self.name!r}")
        check_unique(asked, f"the conditions asked of teacher {self.name!r}")
        weighing = asked if weigh_by is None else tuple(weigh_by)
        check_conditions(weighing, asked, f"the conditions kept of teacher {self.name!r}")
        kept = {label: tuple(name for name in asked if name in known) for label, known in self._known.items()}
        cut = {
            label: None
            if teacher is None or len(kept[label]) < _FEWEST
            else cut_down(teacher, kept[label], [name for name in weighing if name in self._known[label]])
            for label, teacher in self._teachers.items()
        }
        return self._over(cut, kept, asked)

    def only_subjects(self, subjects: Iterable[str]) -> JointTeacher:
        """Keep some subjects; a teacher of which none is left keeps its targets, and answers with NaN.

        Teachers without subjects stay as they are.

        Raises
        ------
        BrainrdlError
            If a subject is unknown.
        """
        asked = [subjects] if isinstance(subjects, str) else list(subjects)
        if missing := [subject for subject in asked if subject not in self.subjects]:
            refuse(
                f"subjects {quote(missing)} are not in teacher {self.name!r}"
                f"{nearest(missing[0], [one for one in self.subjects if one not in asked])}"
            )
        kept = {label: self._of_subjects(label, teacher, asked) for label, teacher in self._teachers.items()}
        order = dict.fromkeys(subject.partition("/")[0] for subject in asked)
        return self._over({label: kept[label] for label in [*order, *kept]}, self._names, self.conditions)

    def _of_subjects(self, label: str, teacher: Teacher | None, asked: Sequence[str]) -> Teacher | None:
        if teacher is None or not subjects_of(teacher):
            return teacher
        own = [subject.removeprefix(f"{label}/") for subject in asked if subject.startswith(f"{label}/")]
        return of_subjects(teacher, own) if own else None

    def _over(
        self, teachers: dict[str, Teacher | None], names: dict[str, tuple[str, ...]], conditions: tuple[str, ...]
    ) -> JointTeacher:
        other = copy.copy(self)
        vars(other).pop("_known", None)
        other._teachers, other._names, other.conditions = teachers, names, conditions
        return other

    @property
    def subject_rdms(self) -> Callable[[str], RDMs]:
        """Function that returns every subject's RDM of a target for all conditions, NaN where its teacher knows none.

        Raises
        ------
        AttributeError
            If one of the teachers does not store its subjects' RDMs.
        """
        if not all(hasattr(teacher, "subject_rdms") for teacher in self._teachers.values() if teacher is not None):
            raise AttributeError(f"a teacher of {self.name!r} does not store its subjects' RDMs")
        return self._subject_rdms

    def _subject_rdms(self, target: str) -> RDMs:
        label, _, own = check_option(target, self.targets, f"target of teacher {self.name!r}").partition("/")
        teacher = self._teachers[label]
        position = {name: place for place, name in enumerate(self.conditions)}
        kept = SubjectRDMs(("none",), torch.empty(1, 0)) if teacher is None else kept_rdms(teacher)[own]
        places = [] if teacher is None else [position[name] for name in self._names[label]]
        return conversion.from_tensor(
            _spread(kept.pairs.double(), places, len(self.conditions)),
            self.conditions,
            measure=kept.measure,
            descriptors={"subject": [f"{label}/{subject}" for subject in kept.subjects]},
        )

    def digest(self) -> str | None:
        """Return the SHA-256 of the RDMs of all teachers; None if none stores them."""
        each = {label: digest_of(teacher) for label, teacher in self._teachers.items() if teacher is not None}
        return hash_words(f"{label} {own}" for label, own in each.items()) if any(each.values()) else None

    def identity(self, names: Sequence[str]) -> dict[str, Any]:
        """Return what the answers for `names` depend on: the identity of each teacher for those that it knows."""
        return {
            label: identity_of(teacher, [name for name in names if name in self._known[label]])
            for label, teacher in self._teachers.items()
            if teacher is not None
        }


def _common_view(teachers: Mapping[str, Teacher]) -> str:
    views = {view_of(teacher) for teacher in teachers.values() if uses_images(teacher)}
    if len(views) > 1:
        refuse(f"teachers {quote(teachers)} need different views of the images, {quote(sorted(views))}; choose one")
    return views.pop() if views else VIEWS[0]


def _part(batch: Batch, places: Sequence[int], with_images: bool) -> Batch:
    chosen = torch.tensor(places, device=batch.images.device)
    images = batch.images[chosen] if with_images else batch.images[:0]
    labels = None if batch.labels is None else batch.labels[chosen.to(batch.labels.device)]
    return replace(batch, names=tuple(batch.names[place] for place in places), images=images, labels=labels)


def _spread(pairs: Tensor, places: Sequence[int], n: int) -> Tensor:
    """Put the pairs of the conditions at `places` among those of all `n` conditions; the others are NaN."""
    square = pairs.new_full((len(pairs), n, n), torch.nan)
    if places:
        chosen = torch.tensor(places, device=pairs.device)
        square[:, chosen[:, None], chosen] = to_square(pairs)
    i, j = pair_indices(n, pairs.device)
    return square[:, i, j]
