"""rsatoolbox RDMs by condition name: list, compare, select, align and join.

rsatoolbox pairs the conditions of two RDMs by position; here they are paired by name. One pattern descriptor names the
conditions (``by``, default ``"stimulus"``). Every function returns the conditions in the requested order, or refuses.

Pairs are in row-major upper-triangle order (``torch.triu_indices(n, n, 1)``). This is also the order of rsatoolbox's
``get_vectors``, of ``scipy.spatial.distance.squareform``, and of MATLAB's ``squareform`` (RDMs are symmetric). NaN
marks a pair that was not measured; it stays NaN.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from brainrdl._core.errors import arg, check_conditions, check_unique, nearest, quote, read_arg, refuse
from brainrdl._core.given_values import as_text, real_array
from brainrdl.dissimilarity.pairs import places_of
from brainrdl.rdms.naming import checked_names, files_of

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs
FEWEST_CONDITIONS = 3  # two conditions make only one pair, and a single number has no correlation


@dataclass(frozen=True)
class Alignment:
    """Which names a list of stimuli and the conditions of an RDM share.

    Parameters
    ----------
    common : tuple of str
        Names in both lists, in the order of the stimuli.
    only_stimuli, only_rdms : tuple of str
        Names that are missing from the other list, in the order of their list.
    reordered : bool
        Whether the common names are in a different order in the two lists.

    Examples
    --------
    >>> print(alignment(["cat", "dog", "car"], ["dog", "cat", "tree"]))
    2 conditions in common (in a different order); 1 only among the stimuli: ['car']; 1 only in the RDMs: ['tree']
    """

    common: tuple[str, ...]
    only_stimuli: tuple[str, ...]
    only_rdms: tuple[str, ...]
    reordered: bool

    def __str__(self) -> str:
        order = " (in a different order)" if self.reordered else ""
        parts = [f"{len(self.common)} conditions in common{order}"]
        if self.only_stimuli:
            parts.append(f"{len(self.only_stimuli)} only among the stimuli: {quote(self.only_stimuli)}")
        if self.only_rdms:
            parts.append(f"{len(self.only_rdms)} only in the RDMs: {quote(self.only_rdms)}")
        return "; ".join(parts) + _forms_differ(self.only_stimuli, self.only_rdms)


def alignment(stimulus_names: Iterable[str], condition_names: Iterable[str]) -> Alignment:
    """Report which names two lists share, which names only one of them has, and whether the order differs.

    Parameters
    ----------
    stimulus_names : iterable of str
        Names of the stimuli (or of any first list), unique.
    condition_names : iterable of str
        Names of the conditions of an RDM, unique.

    Returns
    -------
    Alignment
        The common names are in the order of `stimulus_names`.

    Raises
    ------
    BrainrdlError
        If a name occurs twice in one of the lists.

    Examples
    --------
    >>> alignment(["b", "a"], ["a", "b", "c"])
    Alignment(common=('b', 'a'), only_stimuli=(), only_rdms=('c',), reordered=True)
    """
    first, second = tuple(map(as_text, stimulus_names)), tuple(map(as_text, condition_names))
    check_unique(first, "the stimuli")
    check_unique(second, "the RDMs")
    in_first, in_second = frozenset(first), frozenset(second)
    common = tuple(name for name in first if name in in_second)
    return Alignment(
        common=common,
        only_stimuli=tuple(name for name in first if name not in in_second),
        only_rdms=tuple(name for name in second if name not in in_first),
        reordered=common != tuple(name for name in second if name in in_first),
    )


def names(rdms: RDMs, by: str = "stimulus") -> tuple[str, ...]:
    """Return the names of the conditions of `rdms`, in their stored order.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs of ``n_conditions`` conditions.
    by : str
        The pattern descriptor that names the conditions.

    Returns
    -------
    tuple of str
        ``n_conditions`` unique names; numbers become text.

    Raises
    ------
    BrainrdlError
        If these are not RDMs, they have no descriptor `by` (the message lists their descriptors), or a name is missing
        or occurs twice.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> names(from_array([0.1, 0.2, 0.3], ["cat", "dog", "car"]))
    ('cat', 'dog', 'car')
    """
    known = getattr(rdms, "pattern_descriptors", None)
    if known is None:
        refuse(
            f"expected rsatoolbox RDMs, got {str(rdms)[:60]!r} ({type(rdms).__name__}); read a file with brainrdl.read "
            "or make RDMs with brainrdl.rdms.from_array or brainrdl.rdms.concat"
        )
    if by not in known:
        refuse(
            f"RDMs have no pattern descriptor {by!r} that names their conditions (they have: {', '.join(known)})"
            f"{nearest(by, known)}; choose one with {read_arg('by')}, or give the file's names when reading it: "
            f"{read_arg('names')}"
        )
    found = tuple(checked_names(known[by], f"pattern descriptor {by!r} of the RDMs"))
    check_unique(found, f"pattern descriptor {by!r} of the RDMs")
    return found


def select(rdms: RDMs, names: Iterable[str], by: str = "stimulus") -> RDMs:
    """Keep the conditions `names` of `rdms`, in exactly that order.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs of ``n_conditions`` conditions.
    names : iterable of str
        Conditions to keep, unique, at least one.
    by : str
        The pattern descriptor that names the conditions.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        A new object. Pattern descriptors are reordered with their conditions; everything else is copied.

    Raises
    ------
    BrainrdlError
        If a name is unknown (the message gives the nearest) or occurs twice, or if no name is given.

    Notes
    -----
    rsatoolbox's ``subset_pattern`` always keeps the stored order; this function returns the requested order.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> rdms = from_array([0.1, 0.2, 0.3], ["cat", "dog", "car"])
    >>> select(rdms, ["car", "cat"]).get_vectors()
    array([[0.2]])
    """
    asked = tuple(map(as_text, names))
    known = names_of(rdms, by)
    if not asked:
        refuse(f"no conditions were requested; the RDMs have {quote(known)}")
    check_unique(asked, "the requested conditions")
    check_conditions(asked, known, "the RDMs")
    place = {name: index for index, name in enumerate(known)}
    return _take(rdms, np.array([place[name] for name in asked]))


def align(a: RDMs, b: RDMs, by: str = "stimulus", *, common: bool = False) -> tuple[RDMs, RDMs]:
    """Give two RDMs the same conditions in the same order, that of `a`.

    Parameters
    ----------
    a, b : rsatoolbox.rdm.RDMs
        RDMs whose conditions are named by the pattern descriptor `by`.
    by : str
        The pattern descriptor that names the conditions.
    common : bool
        Keep only the conditions that both have, instead of refusing RDMs with different conditions.

    Returns
    -------
    tuple of rsatoolbox.rdm.RDMs
        `a` and `b` with the same names in the same order, ready for ``rsatoolbox.rdm.compare``.

    Raises
    ------
    BrainrdlError
        If the sets of names differ and `common` is False, or fewer than 3 names are shared.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> a = from_array([0.1, 0.2, 0.3], ["cat", "dog", "car"])
    >>> b = from_array([0.1, 0.3, 0.2], ["dog", "cat", "car"])
    >>> [rdms.get_vectors().tolist() for rdms in align(a, b)]
    [[[0.1, 0.2, 0.3]], [[0.1, 0.2, 0.3]]]
    """
    met = alignment(names_of(a, by), names_of(b, by))
    if not common:
        _refuse_difference(met)
    if len(met.common) < FEWEST_CONDITIONS:
        refuse(f"the two RDMs share {len(met.common)} conditions {quote(met.common)}, at least 3 are needed")
    return select(a, met.common, by), select(b, met.common, by)


def concat(rdms: Sequence[RDMs], by: str = "stimulus") -> RDMs:
    """Join RDMs into one object, their conditions paired by name, in the order of the first.

    Parameters
    ----------
    rdms : sequence of rsatoolbox.rdm.RDMs
        At least one object. Those that lack a condition of another have NaN for its pairs.
    by : str
        The pattern descriptor that names the conditions.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Conditions that the first object lacks follow in the order in which the others have them. Pattern descriptors
        are those with the same value in all objects that have the condition. Rdm descriptors are joined. A descriptor
        of the whole object becomes an rdm descriptor if the objects differ in it. The dissimilarity measure is kept if
        it is the same in all objects, otherwise it is None.

    Raises
    ------
    BrainrdlError
        If the list is empty, only some objects have an rdm descriptor, a name is missing, an object shares no
        condition with any other, or names differ only in their Unicode form.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> a = from_array([0.1, 0.2, 0.3], ["cat", "dog", "car"], descriptors={"roi": ["V1"]})
    >>> b = from_array([0.1, 0.3, 0.2], ["dog", "cat", "car"], descriptors={"roi": ["IT"]})
    >>> both = concat([a, b])
    >>> both.get_vectors().tolist(), both.rdm_descriptors["roi"]
    ([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]], ['V1', 'IT'])
    """
    if not rdms:
        refuse("no RDMs were given to concat; give a list of at least one")
    everything = tuple(checked_names(dict.fromkeys(name for other in rdms for name in names(other, by)), "the RDMs"))
    _refuse_strangers(rdms, by)
    aligned = [_spread(other, everything, by) for other in rdms]
    shared = _shared_descriptors(aligned)
    measures = {other.dissimilarity_measure for other in aligned}
    return joined_rdms(
        np.concatenate([other.dissimilarities for other in aligned]),
        measure=measures.pop() if len(measures) == 1 else None,
        descriptors=shared,
        rdm_descriptors=_joined_descriptors(aligned, shared),
        pattern_descriptors=_joined_patterns(rdms, everything, by),
    )


def concat_same(rdms: Sequence[RDMs], by: str = "stimulus") -> RDMs:
    """Join RDMs as `concat` does, but refuse different sets of conditions."""
    for other in rdms[1:]:
        _refuse_difference(alignment(names(rdms[0], by), names(other, by)), may_keep=False)
    return concat(rdms, by)


def _refuse_strangers(rdms: Sequence[RDMs], by: str) -> None:
    """Refuse objects that share no condition with any other, or whose names only look the same."""
    listed = [names(other, by) for other in rdms]
    for number, own in enumerate(listed):
        others = [name for k, column in enumerate(listed) if k != number for name in column]
        met = alignment(own, dict.fromkeys(others))
        if forms := _forms_differ(met.only_stimuli, met.only_rdms):
            refuse(f"the RDMs to concat do not have the same names of conditions{forms}")
        if others and not met.common:
            refuse(
                f"number {number} of the RDMs to concat (counted from 0) shares no condition with the others: it has "
                f"{quote(own)}, they have {quote(met.only_rdms)}{nearest(own[0], met.only_rdms)}; rename them"
            )


def _spread(rdms: RDMs, everything: Sequence[str], by: str) -> RDMs:
    """Return `rdms` with the conditions `everything`, NaN for the pairs of those that it lacks."""
    held = names(rdms, by)
    if held == tuple(everything):
        return rdms
    place = {name: index for index, name in enumerate(everything)}
    n = len(everything)
    values = np.full((rdms.n_rdm, n * (n - 1) // 2), np.nan)
    for part, places in places_of(np.array([place[name] for name in held]), n):
        values[:, places] = real_array(rdms.dissimilarities, "RDMs")[:, part]
    return joined_rdms(
        values,
        measure=rdms.dissimilarity_measure,
        descriptors=rdms.descriptors,
        rdm_descriptors=rdms.rdm_descriptors,
        pattern_descriptors={by: list(everything)},
    )


def _joined_patterns(rdms: Sequence[RDMs], everything: Sequence[str], by: str) -> dict[str, list[Any]]:
    """Return the pattern descriptors that all objects have, and in which no two differ about a condition."""
    joined: dict[str, list[Any]] = {}
    for key in rdms[0].pattern_descriptors:
        if key == "index" or not all(key in other.pattern_descriptors for other in rdms):
            continue
        said: dict[str, Any] = {}
        for other in rdms:
            for name, value in zip(names(other, by), other.pattern_descriptors[key], strict=True):
                said.setdefault(name, value)
        agree = all(
            np.array_equal(said[name], value)
            for other in rdms
            for name, value in zip(names(other, by), other.pattern_descriptors[key], strict=True)
        )
        if agree or key == by:
            joined[key] = [said[name] for name in everything]
    return joined


def _take(rdms: RDMs, index: npt.NDArray[np.int64]) -> RDMs:
    """Return `rdms` with the conditions at `index`, in that order, without making square matrices."""
    given = real_array(rdms.dissimilarities, "RDMs")
    values = np.empty((len(given), len(index) * (len(index) - 1) // 2), dtype=given.dtype)
    for part, places in places_of(index, rdms.n_cond):
        values[:, part] = given[:, places]
    return joined_rdms(
        values,
        measure=rdms.dissimilarity_measure,
        descriptors=rdms.descriptors,
        rdm_descriptors=rdms.rdm_descriptors,
        pattern_descriptors={key: [values[k] for k in index] for key, values in rdms.pattern_descriptors.items()},
    )


def joined_rdms(
    values: npt.NDArray[Any],
    *,
    measure: str | None,
    descriptors: Mapping[str, Any] | None = None,
    rdm_descriptors: Mapping[str, Sequence[Any]],
    pattern_descriptors: Mapping[str, Sequence[Any]],
) -> RDMs:
    """Make rsatoolbox RDMs from copies of the containers, because rsatoolbox keeps and edits those that it receives."""
    from rsatoolbox.rdm.rdms import RDMs

    return RDMs(  # type: ignore[no-untyped-call]
        values,
        dissimilarity_measure=measure,
        descriptors=dict(descriptors or {}),
        rdm_descriptors={key: list(column) for key, column in rdm_descriptors.items()},
        pattern_descriptors={key: list(column) for key, column in pattern_descriptors.items()},
    )


def _refuse_difference(met: Alignment, may_keep: bool = True) -> None:
    """Refuse two RDMs with different conditions; suggest the name nearest to the first one that is missing."""
    if met.only_stimuli or met.only_rdms:
        close = nearest(met.only_stimuli[0], met.only_rdms) if met.only_stimuli else ""
        keep = f", or keep the {len(met.common)} in common with {arg('common', True)}"
        refuse(
            f"the two RDMs do not have the same conditions: only in the first {quote(met.only_stimuli)}, only in the "
            f"second {quote(met.only_rdms)}{_forms_differ(met.only_stimuli, met.only_rdms) or close}; "
            f"rename them{keep if met.common and may_keep else ''}"
        )


def _forms_differ(first: Sequence[str], second: Sequence[str]) -> str:
    """Report names that differ as those of files and stimuli, or only in Unicode form, and a correction."""
    if files_of(first, second) or files_of(second, first):
        return (
            "; the names of one side are those of image files, with their folders or endings: shorten them with "
            "pathlib.PurePath(name).stem"
        )
    composed = {unicodedata.normalize("NFC", name): name for name in first}
    same = [composed[form] for name in second if (form := unicodedata.normalize("NFC", name)) in composed]
    if not same:
        return ""
    form = "NFC" if unicodedata.is_normalized("NFC", same[0]) else "NFD"
    return (
        f"; {quote(same)} occur on both sides in different Unicode forms, which look the same (files from a Mac use "
        f"NFD): convert the names of the RDMs with unicodedata.normalize({form!r}, name)"
    )


def _shared_descriptors(rdms: Sequence[RDMs]) -> dict[str, Any]:
    """Return the whole-object descriptors that all objects have with the same value."""
    first = rdms[0].descriptors
    return {
        key: value
        for key, value in first.items()
        if all(key in other.descriptors and np.array_equal(other.descriptors[key], value) for other in rdms)
    }


def _joined_descriptors(rdms: Sequence[RDMs], shared: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Join the rdm descriptors, and the whole-object descriptors that differ, one value per RDM."""
    columns = [
        {key: [value] * len(other.dissimilarities) for key, value in other.descriptors.items() if key not in shared}
        | {key: list(values) for key, values in other.rdm_descriptors.items() if key != "index"}
        for other in rdms
    ]
    keys = dict.fromkeys(key for column in columns for key in column)
    for key in keys:
        _refuse_some([key in column for column in columns], key)
    joined = {key: [value for column in columns for value in column[key]] for key in keys}
    checked_names(joined.get("subject", []), "rdm descriptor 'subject' of the RDMs to concat")
    return joined


def _refuse_some(have: Sequence[bool], key: str) -> None:
    """Refuse objects of which only some have an rdm descriptor: the others' RDMs would be of nobody, or of nothing."""
    if all(have):
        return
    refuse(
        f"only some of the RDMs to concat have the descriptor {key!r}: number {have.index(True)} has it and number "
        f"{have.index(False)} (counted from 0) lacks it; give it to all, as rdm_descriptors[{key!r}] with a value for "
        "each RDM, or delete it from those that have it"
    )


names_of = names  # for functions with an argument `names`, which hides the function of that name
