"""Teachers for control fits: shuffled names, a random network, a random RDM of equal spectrum, categories, pixels."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from brainrdl._core.constants import TEACHER_CONTROLS
from brainrdl._core.errors import arg, check_conditions, check_option, check_unique, quote, refuse
from brainrdl._core.files import hash_words
from brainrdl.dissimilarity.pairs import pair_indices, to_square
from brainrdl.rdms import conversion
from brainrdl.stimuli.categories import different_category
from brainrdl.stimuli.named_images import Batch
from brainrdl.teachers.network_teacher import NetworkTeacher
from brainrdl.teachers.protocol import (
    Teacher,
    conditions_of,
    cut_down,
    digest_of,
    identity_of,
    kept_rdms,
    of_subjects,
    rdms_by_subject,
    strata_of,
    subjects_of,
    uses_images,
    view_of,
)
from brainrdl.teachers.rdm_teacher import RDMTeacher

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

    from brainrdl.stimuli.named_images import Stimuli

CONTROLS = TEACHER_CONTROLS
"""The kinds of control teachers that `control` makes."""


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
    within : mapping of name to class, optional
        Shuffle only among the names of each class, so that the dissimilarities within and between classes stay the
        same as a whole. Names of different strata of a teacher (brains of a `JointTeacher`) are never exchanged.

    Raises
    ------
    BrainrdlError
        If a name occurs more than once or is unknown to the teacher, the teacher lists no conditions and none are
        given, a name has no class, or each class has a single name.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> teacher = RDMTeacher(from_array([[1.0, 2, 3]], ["cat", "dog", "car"]))
    >>> permuted = PermutedTeacher(teacher, seed=1)
    >>> sorted(permuted.rdms(Batch(teacher.conditions, torch.zeros(3, 1, 2, 2), None))["rdm"][0].tolist())
    [1.0, 2.0, 3.0]
    """

    def __init__(
        self,
        teacher: Teacher,
        conditions: Sequence[str] | None = None,
        *,
        seed: int = 0,
        within: Mapping[str, str] | None = None,
    ) -> None:
        self._teacher = teacher
        how = "permuted" if within is None else "permuted within class"
        self.name, self.targets = f"{how} {teacher.name} (seed {seed})", teacher.targets
        self.uses_images, self.view = uses_images(teacher), view_of(teacher)
        self.conditions = conditions_of(teacher, conditions)
        check_unique(self.conditions, "the conditions to permute")
        random = np.random.default_rng(seed)
        self._asked: dict[str, str] = {}
        for names in _classes(self.conditions, within, strata_of(teacher, self.conditions)):
            order = random.permutation(len(names))
            self._asked |= {name: names[other] for name, other in zip(names, order, strict=True)}

    @property
    def strata(self) -> dict[str, tuple[str, ...]]:
        """Strata of the original teacher; empty if it has none. Names were exchanged within strata only."""
        strata = strata_of(self._teacher, tuple(self._asked.values()))
        known = {label: frozenset(names) for label, names in strata.items()}
        return {
            label: tuple(name for name in self.conditions if self._asked[name] in names)
            for label, names in known.items()
        }

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

    def digest(self) -> str | None:
        """Return the SHA-256 of the teacher's RDMs and of the names that they have here; None if it stores none."""
        own = digest_of(self._teacher)
        return None if own is None else hash_words([own, json.dumps(self._asked)])

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
        images = batch.images[here] if len(batch.images) else batch.images  # none, if the teacher uses none
        return self._teacher.rdms(replace(batch, names=names, images=images, labels=labels))


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
        ``"permuted"``: `teacher` with shuffled condition names; ``"permuted_within_class"``: shuffled within each
        category of `stimuli`; ``"random"``: the network of `teacher`, re-initialised; ``"spectrum"``: random RDMs with
        the spectrum of those of `teacher`, see `same_spectrum`; ``"category"``: 0 within, 1 between the categories of
        `stimuli`; ``"pixels"``: correlation distance of images.
    teacher : Teacher, optional
        Needed for the first four kinds; the other kinds use the names of its targets if it is given.
    stimuli : Stimuli, optional
        Needed for ``"category"`` and ``"permuted_within_class"`` (with labels), ``"pixels"`` (after their transform)
        and, if the teacher uses images, ``"spectrum"``.
    conditions : sequence of str, optional
        Names that the control knows; by default all of the teacher or stimuli.
    seed : int
        Seed of the shuffling, of random weights and of random RDMs.

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
    if kind in ("permuted", "permuted_within_class", "spectrum") and teacher is None:
        refuse(f"control {kind!r} is made from a teacher: give teacher=")
    if kind == "permuted" and teacher is not None:
        return PermutedTeacher(teacher, conditions, seed=seed)
    if kind == "spectrum" and teacher is not None:
        return same_spectrum(teacher, conditions, stimuli=stimuli, seed=seed)
    if kind == "random":
        if not isinstance(teacher, NetworkTeacher):
            refuse(f"control 'random' re-initialises a network: give teacher=NetworkTeacher(...), got {teacher!r}")
        return teacher.reinitialised(seed)
    if stimuli is None:
        refuse(f"control {kind!r} is made from the stimuli: give stimuli=")
    names = tuple(stimuli.names if conditions is None else conditions)
    check_conditions(names, stimuli.names, "the stimuli")
    if kind == "permuted_within_class" and teacher is not None:
        return PermutedTeacher(teacher, names, seed=seed, within=_labels(stimuli, names, kind))
    pairs = _category_pairs(stimuli, names) if kind == "category" else _pixel_pairs(stimuli, names)
    return _of_targets(kind, pairs, names, (kind,) if teacher is None else tuple(teacher.targets))


def _of_targets(kind: str, pairs: Tensor, names: Sequence[str], targets: tuple[str, ...]) -> RDMTeacher:
    repeated = pairs.expand(len(targets), -1)
    return RDMTeacher(
        conversion.from_tensor(repeated, names, measure=kind, descriptors={"roi": list(targets)}), name=kind
    )


def _classes(
    names: Sequence[str], within: Mapping[str, str] | None, strata: Mapping[str, Sequence[str]]
) -> list[list[str]]:
    """Sort names into those that may be exchanged."""
    if within is not None and (without := [name for name in names if name not in within]):
        refuse(f"names are permuted within their classes, but {quote(without)} have none")
    inside = [(label, frozenset(known)) for label, known in strata.items()]
    found: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        kind = ("", *(label for label, known in inside if name in known))
        found.setdefault(kind if within is None else (within[name], *kind), []).append(name)
    if within is not None and max(map(len, found.values())) < 2:
        refuse(f"names are permuted within their classes, but each of the {len(found)} classes has only one name")
    return list(found.values())


def same_spectrum(
    teacher: Teacher, conditions: Sequence[str] | None = None, *, stimuli: Stimuli | None = None, seed: int = 0
) -> RDMTeacher:
    """Make random RDMs with the spectrum of a teacher's: as many dimensions with the same variances, but other ones.

    The centred matrix of inner products, ``-H D H / 2`` with ``D`` the RDM and ``H`` the centring matrix, is rotated at
    random, and the dissimilarities are computed from the result. All subjects and targets are rotated in the same way,
    so how similar their RDMs are to each other stays the same (as the correlation of these matrices).

    Parameters
    ----------
    teacher : Teacher
        The original teacher.
    conditions : sequence of str, optional
        Names of the conditions; by default all that the teacher knows. All of them determine each dissimilarity.
    stimuli : Stimuli, optional
        Images, for a teacher that uses them.
    seed : int
        Seed of the rotation.

    Returns
    -------
    RDMTeacher
        With the subjects and targets of the teacher. Dissimilarities that are not those of points in a Euclidean space
        (crossnobis) may become negative.

    Raises
    ------
    BrainrdlError
        If names are unknown, pairs are unknown (NaN), there are fewer than 3 conditions, or the teacher needs images
        and no stimuli are given.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> teacher = RDMTeacher(from_array([[1.0, 2, 3, 4, 5, 6]], list("abcd")))
    >>> same_spectrum(teacher).rdms(Batch(("a", "b", "c"), torch.zeros(3, 1, 2, 2), None))["rdm"].shape
    torch.Size([1, 3])
    """
    names = conditions_of(teacher, conditions)
    if len(names) < 3:
        refuse(f"control 'spectrum' needs at least 3 conditions, got {len(names)}")
    if uses_images(teacher) and stimuli is None:
        refuse(f"teacher {teacher.name!r} uses images: give stimuli= for control 'spectrum'")
    found = rdms_by_subject(
        teacher, names, lambda: Batch(names, torch.empty(0), None) if stimuli is None else stimuli.batch(names)
    )
    rotation = _rotation(len(names), seed)
    rows = torch.cat([_rotated(rdms.pairs, rotation, target, teacher.name) for target, rdms in found.items()])
    described = {
        "roi": [target for target, rdms in found.items() for _ in rdms.subjects],
        "subject": [subject for rdms in found.values() for subject in rdms.subjects],
    }
    return RDMTeacher(
        conversion.from_tensor(rows, names, descriptors=described),
        name=f"random RDMs with the spectrum of {teacher.name} (seed {seed})",
        combine=getattr(teacher, "combine", "mean"),
    )


def _rotation(n: int, seed: int) -> Tensor:
    """Return a random rotation (n, n) of the space of centred vectors, uniformly distributed."""
    drawn, upper = torch.linalg.qr(torch.from_numpy(np.random.default_rng(seed).normal(size=(n - 1, n - 1))))
    centred = torch.linalg.qr(torch.cat([torch.ones(n, 1), torch.eye(n)[:, 1:]], dim=1).double())[0][:, 1:]
    rotation: Tensor = centred @ (drawn * upper.diagonal().sign()) @ centred.T  # the signs make it uniform
    return rotation


def _rotated(pairs: Tensor, rotation: Tensor, target: str, name: str) -> Tensor:
    """Rotate the inner products of RDMs; the rotation also centres them."""
    if pairs.isnan().any():
        refuse(f"control 'spectrum' needs all pairs, but target {target!r} of teacher {name!r} has unknown ones (NaN)")
    inner = rotation @ (-to_square(pairs.double()) / 2) @ rotation.T
    own = inner.diagonal(dim1=-2, dim2=-1)
    i, j = pair_indices(len(rotation))
    turned: Tensor = own[:, i] + own[:, j] - 2 * inner[:, i, j]
    return turned


def _labels(stimuli: Stimuli, names: Sequence[str], kind: str) -> dict[str, str]:
    labels = stimuli.labels
    if labels is None:
        add = arg("labels", python="stimuli.with_labels(...)")
        refuse(f"control {kind!r} needs labels and the stimuli have none; add them with {add}")
    without = [name for name in names if name not in labels]
    if without:
        refuse(f"control {kind!r} needs a label for every condition; {quote(without)} have none")
    return labels


def _category_pairs(stimuli: Stimuli, names: Sequence[str]) -> Tensor:
    labels = _labels(stimuli, names, "category")
    categories = {labels[name] for name in names}
    if len(categories) in (1, len(names)):
        kinds = f"all of one category, {min(categories)!r}" if len(categories) == 1 else "all of different categories"
        refuse(
            f"control 'category' separates pairs within and between categories, but the {len(names)} conditions are "
            f"{kinds}; choose other conditions or labels"
        )
    return different_category(names, labels).float()


def pixel_rdm(stimuli: Stimuli) -> RDMs:
    """Return the correlation distances of the pixels of images, after their transform.

    Raises
    ------
    BrainrdlError
        If an image is constant.

    Examples
    --------
    >>> from brainrdl.stimuli import Stimuli
    >>> pixel_rdm(Stimuli.from_arrays(np.eye(3).reshape(3, 3, 1), list("abc"))).n_cond
    3
    """
    return conversion.from_tensor(_pixel_pairs(stimuli, stimuli.names), stimuli.names, measure="correlation")


def _pixel_pairs(stimuli: Stimuli, names: Sequence[str]) -> Tensor:
    pixels = NetworkTeacher(nn.Sequential(nn.Flatten()), ["0"], stimuli=stimuli, name="pixels")
    return pixels.rdms(Batch(tuple(names), torch.empty(0), None))["0"]
