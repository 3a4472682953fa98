"""Which RDMs are of the same target, and which are of different subjects, from their rdm descriptors.

The rule, which teachers, the doctor, the command line and figures share:

1. Only the descriptor `subject_by` (``"subject"``) distinguishes subjects.
2. RDMs that differ in any other descriptor (roi, model, layer, time, session, ...) are different targets, also if no
   two subjects share a value (one hemisphere or state for each subject). Only what says whose an RDM is does not count:
   a descriptor that is known as a name or property of subjects (``"name"``, ``"participant"``, ``"sex"``), text that
   contains the name of the subject, and numbers of no known meaning (age, number of channels), each with no value that
   two subjects share.
3. RDMs of one subject and target are averaged only if they differ in a descriptor of `average_over`.
4. If nothing says how RDMs differ, the caller must: ``"index"`` is their number, and may be any of the three. So may
   ``"file"``, the words in which the files of a pattern differ, if no RDM says whose it is.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, NoReturn

from brainrdl._core.errors import arg, named, nearest, quote, refuse
from brainrdl._core.given_values import as_text
from brainrdl.rdms.naming import checked_names

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs
_INDEX = "index"  # rsatoolbox's descriptor that numbers RDMs

_FILE = "file"  # a word of a file's path, which can be a subject, a region, a layer, ...

_FIRST = ("roi", "model", "layer", "time")  # what an RDM is of, in the order in which it is named

# These are targets whatever their values are, also numbers.
_ALWAYS = (*_FIRST, "measure", "task", "session", "ses", "run", "hemi", "hemisphere", "space", "state", "condition")

_OF_SUBJECTS = {
    "name", "file", "filename", "path", "participant", "participant_id", "subject_id", "sub", "id", "uid", "code",
    "initials", "date", "sex", "gender", "handedness",
}  # fmt: skip

_NO_ROI, _NO_SUBJECT = "rdm", "0"


@dataclass(frozen=True)
class Groups:
    """The target and the subject of each RDM.

    Attributes
    ----------
    targets, subjects : tuple of str
        One per RDM. Without descriptors, the target is ``"rdm"`` and the subject ``"0"``.
    target_by : tuple of str
        The descriptors that distinguish the targets.

    Examples
    --------
    >>> Groups(("V1", "V1", "IT"), ("s1", "s2", "s1"), ("roi",)).rows()
    {'V1': {'s1': [0], 's2': [1]}, 'IT': {'s1': [2]}}
    """

    targets: tuple[str, ...]
    subjects: tuple[str, ...]
    target_by: tuple[str, ...]

    def rows(self) -> dict[str, dict[str, list[int]]]:
        """Return the positions of the RDMs of each target and subject, in order of first appearance."""
        found: dict[str, dict[str, list[int]]] = {}
        for index, (target, subject) in enumerate(zip(self.targets, self.subjects, strict=True)):
            found.setdefault(target, {}).setdefault(subject, []).append(index)
        return found


def groups(
    rdms: RDMs,
    *,
    target_by: str | Sequence[str] | None = None,
    subject_by: str = "subject",
    average_over: str | Sequence[str] = (),
    where: str = "the RDMs",
) -> Groups:
    """Group RDMs into targets and subjects.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs (n_rdms, n_pairs).
    target_by : str or sequence of str, optional
        Rdm descriptors that distinguish targets (default: all in which the RDMs differ, see the module's text).
    subject_by : str
        Rdm descriptor that distinguishes subjects; only the default may be absent.
    average_over : str or sequence of str
        Rdm descriptors that do not distinguish targets, for example ``"session"``.
    where : str
        Name of the RDMs in error messages.

    Returns
    -------
    Groups

    Raises
    ------
    BrainrdlError
        If a descriptor does not exist or lacks values, the RDMs differ in a descriptor that `target_by` and
        `average_over` do not list, or several RDMs of one subject and target are not to be averaged.

    Warns
    -----
    UserWarning
        If the names of subjects differ only in zeros before a number ("01" and "1").

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> described = {"subject": ["s1", "s2"], "roi": ["V1", "V1"], "age": [31, 27]}
    >>> groups(from_array([[1, 2, 3], [3, 2, 1]], list("abc"), descriptors=described))
    Groups(targets=('V1', 'V1'), subjects=('s1', 's2'), target_by=('roi',))
    >>> movie = from_array([[1, 2, 3], [3, 2, 1]], list("abc"), descriptors={"time": [0.1, 0.2]})
    >>> groups(movie).targets
    ('0.1', '0.2')
    """
    asked, averaged = _listed(target_by), _listed(average_over)
    chosen = [subject_by] if subject_by != "subject" else []
    for option, keys in (("target_by", asked), ("subject_by", chosen), ("average_over", averaged)):
        check_known(rdms, keys, option, where)
    subjects = _values(rdms, subject_by, where) or (_NO_SUBJECT,) * rdms.n_rdm
    _warn_of_zeros(subjects, where)
    keys = _target_keys(rdms, asked, subjects, (subject_by, *averaged))
    if target_by is not None and len(keys) > len(asked):
        _refuse_other_targets(keys, len(asked), where)
    keys = keys or (("roi",) if "roi" in rdms.rdm_descriptors else ())
    columns = [_values(rdms, key, where) for key in keys]
    targets = tuple(" / ".join(values) for values in zip(*columns, strict=True)) or (_NO_ROI,) * rdms.n_rdm
    found = Groups(targets, subjects, keys)
    _check_one_each(rdms, found, averaged, subject_by, where)
    return found


def _listed(keys: str | Sequence[str] | None) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else tuple(keys or ())


def check_known(rdms: RDMs, keys: Sequence[str], option: str, where: str) -> None:
    """Refuse rdm descriptors that do not exist, with the nearest that does."""
    known = rdms.rdm_descriptors
    for key in keys:
        if key not in known:
            close = f"(there are: {', '.join(known)}){nearest(key, known)}"
            refuse(f"{named(option)} {key!r} is not an rdm descriptor of {where} {close}")


def _values(rdms: RDMs, key: str, where: str) -> tuple[str, ...]:
    """Return the values of an rdm descriptor as text; none if it is absent."""
    values = list(rdms.rdm_descriptors.get(key, ()))
    checked_names(values, f"rdm descriptor {key!r} of {where}")
    return tuple(in_words(values))


def _warn_of_zeros(subjects: Sequence[str], where: str) -> None:
    """Warn about subjects whose names differ only in zeros before a number."""
    same: dict[str, list[str]] = {}
    for subject in dict.fromkeys(subjects):
        same.setdefault(re.sub(r"(?<!\d)0+(?=\d)", "", subject), []).append(subject)
    twins = [twin for names in same.values() if len(names) > 1 for twin in names]
    if twins:
        warnings.warn(
            f"subjects {quote(twins)} of {where} count as different subjects, though their names differ only in zeros; "
            "if they are the same, give them one name",
            stacklevel=3,
        )


def in_words(values: Sequence[object]) -> list[str]:
    """Write values of a descriptor as text; 0.30000000000000004 as 0.3, unless that makes two values equal.

    Examples
    --------
    >>> in_words([0.1, 0.1 + 0.2, "V1"]), in_words([1, 2, 1.0]), in_words([0.0, 0.5])
    (['0.1', '0.3', 'V1'], ['1', '2', '1'], ['0', '0.5'])
    """
    words = [as_text(round(value, 10) if isinstance(value, float) else value) for value in values]
    exact = list(map(as_text, values))
    return words if len(set(words)) == len(set(exact)) else exact


def _target_keys(rdms: RDMs, asked: tuple[str, ...], subjects: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Return the descriptors `asked`, and those that distinguish targets besides."""
    held = {key: in_words(values) for key, values in rdms.rdm_descriptors.items()}
    of_subject = list(zip(subjects, *(held[key] for key in others[1:]), strict=True))
    open_to_all = (_INDEX,) if others[0] in held else (_INDEX, _FILE)
    rest = [key for key in held if key not in (*_FIRST, *open_to_all, *others, *asked)]
    # the coarsest first: names of single RDMs distinguish nothing once what they are made of is known
    rest = sorted(rest, key=lambda key: (key not in _ALWAYS, len(set(held[key]))))
    keys = asked
    for key in (*(key for key in _FIRST if key in held and key not in (*others, *asked)), *rest):
        target = list(zip(*(held[chosen] for chosen in keys), strict=True)) or [()] * rdms.n_rdm
        only_names = _only_names(target, of_subject, held[key]) and (
            _of_subjects(key, rdms.rdm_descriptors[key], subjects)
        )
        if _most(target, held[key]) > 1 and (key in _ALWAYS or not only_names):
            keys = (*keys, key)
    return keys


def _only_names(target: Sequence[tuple[str, ...]], of_subject: Sequence[tuple[str, ...]], values: list[str]) -> bool:
    """Say whether each RDM of a target and subject has one value, and no other subject has this value."""
    one_each = _most(list(zip(target, of_subject, strict=True)), values) == 1
    return one_each and _most(list(zip(target, values, strict=True)), [subject for subject, *_ in of_subject]) == 1


def _of_subjects(key: str, values: Sequence[object], subjects: Sequence[str]) -> bool:
    """Say whether a descriptor is a name or property of the subjects, from its key and its values."""
    if key in _OF_SUBJECTS or all(isinstance(value, Real) for value in values):
        return True
    return all(_words(subject) <= _words(str(value)) for subject, value in zip(subjects, values, strict=True))


def _words(text: str) -> set[str]:
    return set(re.split(r"[\W_]+", text.casefold()))


def _most(groups: Sequence[object], values: Sequence[str]) -> int:
    """Return the largest number of different values within a group."""
    found: dict[object, set[str]] = defaultdict(set)
    for group, value in zip(groups, values, strict=True):
        found[group].add(value)
    return max(map(len, found.values()), default=0)


def _refuse_other_targets(keys: tuple[str, ...], n_asked: int, where: str) -> NoReturn:
    others = list(keys[n_asked:])
    refuse(
        f"RDMs in {where} differ in {quote(others)} too, and only subjects are averaged; make them targets with "
        f"{arg('target_by', list(keys))}, or average them first with {arg('average_over', others)}"
    )


def _check_one_each(rdms: RDMs, found: Groups, averaged: Sequence[str], subject_by: str, where: str) -> None:
    """Refuse several RDMs of one subject and target that are not to be averaged."""
    for target, rows in found.rows().items():
        for subject, positions in rows.items():
            differ = {tuple(as_text(rdms.rdm_descriptors[key][k]) for key in averaged) for k in positions}
            if len(differ) == len(positions):
                continue
            if subject_by in rdms.rdm_descriptors:
                refuse(
                    f"{len(positions)} RDMs in {where} are of subject {subject!r} and target {target!r}, and no rdm "
                    f"descriptor distinguishes them; average them with {arg('average_over', _INDEX)}, or give them one"
                )
            number = _FILE if _FILE in rdms.rdm_descriptors else _INDEX
            refuse(
                f"{len(positions)} RDMs in {where} are of target {target!r}, and no rdm descriptor {subject_by!r} says "
                f"whose they are (there are: {', '.join(rdms.rdm_descriptors)}); give each its subject, or choose "
                f"{arg('subject_by', number)} if each is of another subject, {arg('target_by', number)} if each is a "
                "target"
            )
