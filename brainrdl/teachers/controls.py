"""Teachers for control fits: shuffled names, a random network, categories, pixels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from brainrdl._core.errors import arg, check_conditions, check_option, check_unique, quote, refuse
from brainrdl.rdms import conversion
from brainrdl.stimuli.categories import different_category
from brainrdl.stimuli.named_images import Batch
from brainrdl.teachers.network_teacher import NetworkTeacher
from brainrdl.teachers.protocol import (
    Teacher,
    conditions_of,
    cut_down,
    identity_of,
    kept_rdms,
    of_subjects,
    subjects_of,
    uses_images,
)
from brainrdl.teachers.rdm_teacher import RDMTeacher

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

    from brainrdl.stimuli.named_images import Stimuli

CONTROLS = ("permuted", "random", "category", "pixels")


class PermutedTeacher:
    """A teacher with its condition names shuffled: the same dissimilarities, assigned to the wrong stimuli.

    It can be restricted to some conditions, and to some subjects if the teacher can.

    Parameters
    ----------
    teacher : Teacher
        The original teacher.
    conditions : sequence of str, optional
        Names to shuffle among themselves, for example the training names; by default all that the teacher knows.
    seed : int
        Seed of the shuffling; some names may keep their place by chance.

    Raises
    ------
    BrainrdlError
        If a name occurs more than once or is unknown to the teacher, or the teacher lists no conditions and none are
        given.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> teacher = RDMTeacher(from_array([[1.0, 2, 3]], ["cat", "dog", "car"]))
    >>> permuted = PermutedTeacher(teacher, seed=1)
    >>> sorted(permuted.rdms(Batch(teacher.conditions, torch.zeros(3, 1, 2, 2), None))["rdm"][0].tolist())
    [1.0, 2.0, 3.0]
    """

    def __init__(self, teacher: Teacher, conditions: Sequence[str] | None = None, *, seed: int = 0) -> None:
        self._teacher = teacher
        self.name, self.targets = f"permuted {teacher.name} (seed {seed})", teacher.targets
        self.uses_images = uses_images(teacher)
        self.conditions = conditions_of(teacher, conditions)
        check_unique(self.conditions, "the conditions to permute")
        order = np.random.default_rng(seed).permutation(len(self.conditions))
        self._asked = {name: self.conditions[other] for name, other in zip(self.conditions, order, strict=True)}

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects of the original teacher; empty if it has none."""
        return subjects_of(self._teacher)

    def only_subjects(self, subjects: Iterable[str]) -> PermutedTeacher:
        """Keep some subjects of the original teacher; the names remain shuffled in the same way.

        Raises
        ------
        BrainrdlError
            If a subject is unknown.
        """
        asked = tuple(subjects)
        if not self.subjects:
            refuse(f"teacher {self.name!r} has no subjects, so {quote(asked)} cannot be kept")
        return self._over(of_subjects(self._teacher, asked), self.conditions)

    @property
    def subject_rdms(self) -> Callable[[str], RDMs]:
        """Function that returns every subject's RDM of a target, under the shuffled names.

        Raises
        ------
        AttributeError
            If the original teacher does not store its subjects' RDMs.
        """
        if not hasattr(self._teacher, "subject_rdms"):
            raise AttributeError(f"teacher {self.name!r} does not store its subjects' RDMs")
        return self._subject_rdms

    def _subject_rdms(self, target: str) -> RDMs:
        found = kept_rdms(self._teacher, [self._asked[name] for name in self.conditions])
        subjects, pairs, measure = found[check_option(target, self.targets, f"target of teacher {self.name!r}")]
        descriptors = {"subject": list(subjects)}
        return conversion.from_tensor(pairs, self.conditions, measure=measure, descriptors=descriptors)

    def select(self, names: Iterable[str], *, weigh_by: Iterable[str] | None = None) -> PermutedTeacher:
        """Keep the conditions `names`, in that order; the names remain shuffled in the same way.

        Parameters
        ----------
        names : iterable of str
            Conditions to keep.
        weigh_by : iterable of str, optional
            Conditions among `names` by which the teacher weights its subjects.

        Raises
        ------
        BrainrdlError
            If a name is unknown, duplicate or, in `weigh_by`, not among `names`.
        """
        kept = tuple(names)
        weighed = kept if weigh_by is None else tuple(weigh_by)
        check_conditions(kept, self._asked, f"teacher {self.name!r}")
        check_unique(kept, f"the conditions asked of teacher {self.name!r}")
        check_conditions(weighed, kept, f"the conditions kept of teacher {self.name!r}")
        asked = [self._asked[name] for name in kept]
        return self._over(cut_down(self._teacher, asked, [self._asked[name] for name in weighed]), kept)

    def _over(self, teacher: Teacher, conditions: tuple[str, ...]) -> PermutedTeacher:
        other = copy.copy(self)
        other._teacher, other.conditions = teacher, conditions
        other._asked = {name: self._asked[name] for name in conditions}
        return other

    def identity(self, names: Sequence[str]) -> dict[str, Any]:
        """Return what the answers for `names` depend on: the original names, and the teacher's identity if it has one.

        Raises
        ------
        BrainrdlError
            If a name is not among those that are permuted.
        """
        check_conditions(names, self._asked, f"teacher {self.name!r}")
        asked = [self._asked[name] for name in names]
        return {"asked": asked, "teacher": identity_of(self._teacher, asked)}

    def rdms(self, batch: Batch) -> dict[str, Float[Tensor, "n_rdms n_pairs"]]:
        """Return the teacher's RDMs of the original names under the batch's names.

        A teacher that computes from the batch's images needs the images of the original names, so all of these names
        must be in the batch; otherwise it gets no images rather than the wrong ones.

        Raises
        ------
        BrainrdlError
            If a name is not among those that are permuted, or the teacher refuses the batch.
        """
        check_conditions(batch.names, self._asked, f"teacher {self.name!r}")
        names = tuple(self._asked[name] for name in batch.names)
        position = {name: index for index, name in enumerate(batch.names)}
        here = [position[name] for name in names] if set(names) <= position.keys() else []
        labels = None if batch.labels is None else batch.labels[here]
        return self._teacher.rdms(replace(batch, names=names, images=batch.images[here], labels=labels))


def control(
    kind: str,
    *,
    teacher: Teacher | None = None,
    stimuli: Stimuli | None = None,
    conditions: Sequence[str] | None = None,
    seed: int = 0,
) -> Teacher:
    """Build a control: a teacher that shows which score a fit reaches without the real teacher.

    Parameters
    ----------
    kind : str
        ``"permuted"``: `teacher` with shuffled condition names; ``"random"``: the network of `teacher`, re-initialised;
        ``"category"``: 0 within, 1 between the categories of `stimuli`; ``"pixels"``: correlation distance of images.
    teacher : Teacher, optional
        Needed for ``"permuted"`` and ``"random"``; the other kinds use the names of its targets if it is given.
    stimuli : Stimuli, optional
        Needed for ``"category"`` (with labels) and ``"pixels"`` (after their transform).
    conditions : sequence of str, optional
        Names that the control knows; by default all of the teacher or stimuli.
    seed : int
        Seed of the shuffling and of random weights.

    Returns
    -------
    Teacher
        The control.

    Raises
    ------
    BrainrdlError
        If `kind` is unknown, an argument it needs is missing, conditions have no label or a constant image, all are of
        the same category, or each has a different one.

    Examples
    --------
    >>> from brainrdl.stimuli import Stimuli
    >>> labels = {"cat": "animal", "dog": "animal", "car": "thing"}
    >>> stimuli = Stimuli.from_arrays(np.zeros((3, 4, 4), dtype=np.uint8), list(labels), labels=labels)
    >>> control("category", stimuli=stimuli).rdms(stimuli.batch(("dog", "cat", "car")))
    {'category': tensor([[0., 1., 1.]])}
    """
    check_option(kind, CONTROLS, "control")
    if kind == "permuted":
        if teacher is None:
            refuse("control 'permuted' shuffles a teacher's names: give teacher=")
        return PermutedTeacher(teacher, conditions, seed=seed)
    if kind == "random":
        if not isinstance(teacher, NetworkTeacher):
            refuse(f"control 'random' re-initialises a network: give teacher=NetworkTeacher(...), got {teacher!r}")
        return teacher.reinitialised(seed)
    if stimuli is None:
        refuse(f"control {kind!r} is made from the stimuli: give stimuli=")
    names = tuple(stimuli.names if conditions is None else conditions)
    check_conditions(names, stimuli.names, "the stimuli")
    pairs = _category_pairs(stimuli, names) if kind == "category" else _pixel_pairs(stimuli, names)
    return _of_targets(kind, pairs, names, (kind,) if teacher is None else tuple(teacher.targets))


def _of_targets(kind: str, pairs: Tensor, names: Sequence[str], targets: tuple[str, ...]) -> RDMTeacher:
    repeated = pairs.expand(len(targets), -1)
    return RDMTeacher(
        conversion.from_tensor(repeated, names, measure=kind, descriptors={"roi": list(targets)}), name=kind
    )


def _category_pairs(stimuli: Stimuli, names: Sequence[str]) -> Tensor:
    labels = stimuli.labels
    if labels is None:
        add = arg("labels", python="stimuli.with_labels(...)")
        refuse(f"control 'category' needs labels and the stimuli have none; add them with {add}")
    without = [name for name in names if name not in labels]
    if without:
        refuse(f"control 'category' needs a label for every condition; {quote(without)} have none")
    categories = {labels[name] for name in names}
    if len(categories) in (1, len(names)):
        kinds = f"all of one category, {min(categories)!r}" if len(categories) == 1 else "all of different categories"
        refuse(
            f"control 'category' separates pairs within and between categories, but the {len(names)} conditions are "
            f"{kinds}; choose other conditions or labels"
        )
    return different_category(names, labels).float()


def _pixel_pairs(stimuli: Stimuli, names: Sequence[str]) -> Tensor:
    pixels = NetworkTeacher(nn.Sequential(nn.Flatten()), ["0"], stimuli=stimuli, name="pixels")
    return pixels.rdms(Batch(tuple(names), torch.empty(0), None))["0"]
