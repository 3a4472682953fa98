"""Training and validation stimuli of a fit; held-out stimuli are refused in both."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.errors import arg, check_conditions, check_unique, quote, refuse
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.near_duplicates import linked, similar_between, similar_images
from brainrdl.training.sampling import split

_LISTED = 100

_CALIBRATION = 512  # training stimuli that set the z-scores; more would not change them noticeably


def training_names(
    stimuli: Stimuli,
    train: Sequence[str] | None = None,
    validation: Sequence[str] | float = (),
    held_out: Iterable[str] = (),
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
    minimum: int = MIN_CONDITIONS,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names for training and validation; refuse overlaps among training, validation and held-out names.

    Parameters
    ----------
    stimuli, train, validation, held_out, seed
        As in `fit`.
    groups : mapping of name to group, optional
        Names of one group must be in one part.
    minimum : int
        Lowest number of validation stimuli.

    Returns
    -------
    tuple of two tuples of str

    Raises
    ------
    BrainrdlError
        If a name is unknown, repeated or in two parts, an image of one part is byte-identical to one of another, a
        group is in two parts, or a part has fewer than 4 conditions.

    Examples
    --------
    >>> import torch
    >>> stimuli = Stimuli.from_arrays(torch.rand(10, 1, 4, 4), list("abcdefghij"))
    >>> train, validation = training_names(stimuli, validation=0.4, held_out=[])
    >>> len(train), len(validation)
    (6, 4)
    """
    held_out = tuple(held_out)
    watched = () if isinstance(validation, int | float) else tuple(validation)
    train = tuple(train) if train is not None else tuple(n for n in stimuli.names if n not in {*held_out, *watched})
    if isinstance(validation, int | float):
        train, watched = split(train, validation, seed, groups, minimum)
    parts = {"train": train, "validation": watched, "held_out": held_out}
    for part, names in parts.items():
        check_unique(names, f"the {part} list")
        check_conditions(names, stimuli.names, "the stimuli")
    if watched and len(watched) < minimum:
        refuse(f"validation needs at least {minimum} conditions, got {len(watched)}: {quote(watched)}")
    check_no_leak(stimuli, parts, groups)
    return train, watched


def calibration_names(train: Sequence[str]) -> tuple[str, ...]:
    """Return the training stimuli that set the z-scores and lazy shapes: all, or about 512 evenly spread over the list.

    Names are often ordered by category: the first 512 would cover only a few categories.

    Parameters
    ----------
    train : sequence of str

    Returns
    -------
    tuple of str
        At most 512 names.

    Examples
    --------
    >>> calibration_names(["a", "b", "c"])
    ('a', 'b', 'c')
    """
    return tuple(train[:: math.ceil(len(train) / _CALIBRATION)])


def check_no_leak(
    stimuli: Stimuli, parts: Mapping[str, Sequence[str]], groups: Mapping[str, str] | None = None
) -> None:
    """Refuse a name, a byte-identical image or a group that is in two parts, and warn about nearly identical images.

    Parameters
    ----------
    stimuli : Stimuli
    parts : mapping of part to names
    groups : mapping of name to group, optional

    Raises
    ------
    BrainrdlError
        If parts overlap; the message lists all pairs of names.

    Warns
    -----
    UserWarning
        If images of different parts are nearly the same; see `brainrdl.stimuli.similar_images`. Each pair is reported
        once per set of stimuli.

    Examples
    --------
    >>> import torch
    >>> stimuli = Stimuli.from_arrays(torch.zeros(2, 1, 4, 4), ["a", "b"])
    >>> check_no_leak(stimuli, {"train": ["a"], "held_out": ["b"]})
    Traceback (most recent call last):
    brainrdl.BrainrdlError: 'b' of held_out is byte-identical to 'a' of train; drop one of them with ...
    """
    part_of: dict[str, str] = {}
    for part, names in parts.items():
        for name in names:
            other = part_of.setdefault(name, part)
            if other != part:
                refuse(f"{name!r} is in {other} and in {part}; the parts must not share stimuli")
    check_partitions(stimuli, [part_of], groups)


def same_images(task: Stimuli, names: Sequence[str], stimuli: Stimuli, kept: Sequence[str]) -> dict[str, str]:
    """Find images of a task that are byte-identical to stimuli that must stay new to the student.

    Parameters
    ----------
    task : Stimuli
        Images of the task.
    names : sequence of str
        Names of the task's images to look for.
    stimuli : Stimuli
        Images of the RDM.
    kept : sequence of str
        Names of those that must stay new.

    Returns
    -------
    dict of name in `names` to name in `kept`

    Examples
    --------
    >>> import torch
    >>> images = Stimuli.from_arrays(torch.rand(2, 1, 4, 4), ["a", "b"])
    >>> same_images(images.drop(["b"]), ["a"], images, ["a", "b"])
    {'a': 'a'}
    """
    if not names or not kept:
        return {}
    known = {digest: name for name, digest in stimuli.digests(kept).items()}
    return {name: known[digest] for name, digest in task.digests(names).items() if digest in known}


def check_sets_apart(task: Stimuli, train: Sequence[str], stimuli: Stimuli, kept: Sequence[str]) -> None:
    """Refuse task images that are byte-identical to stimuli kept for validation or testing; warn of similar ones.

    Parameters
    ----------
    task : Stimuli
        Images of the task.
    train : sequence of str
        Names of those that are trained on.
    stimuli : Stimuli
        Images of the RDM.
    kept : sequence of str
        Names of those that must stay new to the student.

    Raises
    ------
    BrainrdlError
        If an image is in both; the names are listed.

    Warns
    -----
    UserWarning
        If images are nearly the same, for example the same photograph as a file and as an array; see
        `brainrdl.stimuli.similar_between`, which compares at most 20,000 images.

    Examples
    --------
    >>> import torch
    >>> images = Stimuli.from_arrays(torch.zeros(1, 1, 4, 4), ["a"])
    >>> check_sets_apart(images, ["a"], images, [])
    """
    if not kept:
        return
    same = list(same_images(task, train, stimuli, kept).items())
    if same:
        listed = ", ".join(f"{a!r} to {b!r}" for a, b in same[:_LISTED])
        drop = [a for a, _ in same[:_LISTED]]
        refuse(
            f"{len(same)} images of the task are byte-identical to validation or held-out stimuli: {listed}; leave "
            f"them out of the task with Task(stimuli.drop({drop})), or in each fit with {arg('overlap', 'drop')}"
        )
    trained, new = frozenset(train), frozenset(kept)
    rows = [
        row
        for row in similar_between(task, stimuli).itertuples(index=False)  # of all, so that folds share the search
        if row[0] in trained and row[1] in new and (row[0], row[1]) not in stimuli.seen.reported
    ]
    if rows:
        stimuli.seen.reported.update((row[0], row[1]) for row in rows)
        listed = ", ".join(f"{a!r} and {b!r} ({r:.2f})" for a, b, r in rows[:_LISTED])
        more = f", and {len(rows) - _LISTED} more" if len(rows) > _LISTED else ""
        warnings.warn(
            f"{len(rows)} images of the task are nearly the same as validation or held-out stimuli (similarity): "
            f"{listed}{more}. The student is trained on them or chosen by them, so these stimuli are not new "
            "to it; leave them out with "
            f"Task(stimuli.drop({[row[0] for row in rows[:_LISTED]]}))",
            stacklevel=2,
        )


def check_partitions(
    stimuli: Stimuli, partitions: Sequence[Mapping[str, str]], groups: Mapping[str, str] | None = None
) -> None:
    """Check as `check_no_leak` does for several partitions at once, for example the folds of several seeds.

    Parameters
    ----------
    stimuli : Stimuli
    partitions : sequence of mappings of name to part
    groups : mapping of name to group, optional

    Raises
    ------
    BrainrdlError
        As `check_no_leak`.

    Examples
    --------
    >>> import torch
    >>> stimuli = Stimuli.from_arrays(torch.zeros(2, 1, 4, 4), ["a", "b"])
    >>> check_partitions(stimuli, [{"a": "fold 0", "b": "fold 0"}])
    """
    placed = {name for part_of in partitions for name in part_of}
    if all(len(set(part_of.values())) < 2 for part_of in partitions):
        return
    chosen = stimuli.select(name for name in stimuli.names if name in placed)
    _check_groups(groups or {}, partitions)
    apart = partial(_apart, partitions)
    if identical := list(filter(apart, _equal_pairs(chosen.digests()))):
        copies = list(dict.fromkeys(pair[1] for pair in identical))
        drop = arg("drop", copies[:_LISTED], python=f"stimuli.drop({copies[:_LISTED]})")
        part_of = next(each for each in partitions if _apart([each], identical[0]))
        first = f"{identical[0][1]!r} of {part_of[identical[0][1]]} is byte-identical to {identical[0][0]!r} of "
        others = [f"{b!r} to {a!r}" for a, b in identical[1:_LISTED]]
        more = [f"{len(identical) - _LISTED} more"] if len(identical) > _LISTED else []
        listed = f"{first}{part_of[identical[0][0]]}" + "".join(f", {pair}" for pair in others + more)
        refuse(f"{listed}; drop one of them with {drop}, or keep them together with {arg('groups')}")
    _warn_of_similar(chosen, apart, groups or {})


def _apart(partitions: Sequence[Mapping[str, str]], pair: tuple[str, str]) -> bool:
    a, b = pair
    return any(a in part_of and b in part_of and part_of[a] != part_of[b] for part_of in partitions)


def _equal_pairs(digests: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each name with the first name that has the same digest."""
    first: dict[str, str] = {}
    for name, digest in digests.items():
        if (other := first.setdefault(digest, name)) != name:
            yield other, name


def _check_groups(groups: Mapping[str, str], partitions: Sequence[Mapping[str, str]]) -> None:
    split_up: dict[str, tuple[str, str]] = {}
    first: dict[str, str] = {}
    for name, group in groups.items():
        pair = first.setdefault(group, name), name
        if _apart(partitions, pair):
            split_up.setdefault(group, pair)
    if split_up:
        group, (a, b) = next(iter(split_up.items()))
        part_of = next(each for each in partitions if _apart([each], (a, b)))
        refuse(
            f"{len(split_up)} of the {arg('groups')} are in two parts, {quote(split_up)}: {a!r} of group {group!r} is "
            f"in {part_of[a]}, {b!r} in {part_of[b]}; put each group into one part"
        )


def _warn_of_similar(stimuli: Stimuli, apart: Callable[[tuple[str, str]], bool], groups: Mapping[str, str]) -> None:
    table = similar_images(stimuli)
    rows = [row for row in table.itertuples(index=False) if apart((row[0], row[1]))]
    new = [row for row in rows if (row[0], row[1]) not in stimuli.seen.reported]
    if not new:
        return
    stimuli.seen.reported.update((row[0], row[1]) for row in new)
    first: dict[str, str] = {}
    links = [(row[0], row[1]) for row in rows] + [(first.setdefault(g, name), name) for name, g in groups.items()]
    together: object = linked(links, stimuli.names) if len(links) <= _LISTED else None
    listed = ", ".join(f"{a!r} and {b!r} ({r:.2f})" for a, b, r in new[:_LISTED])
    more = f", and {len(new) - _LISTED} more" if len(new) > _LISTED else ""
    advice = f"groups={together}" if together else "groups=brainrdl.stimuli.groups_of_similar(stimuli)"
    warnings.warn(
        f"{len(new)} pairs of images in different parts are nearly the same (similarity): {listed}{more}. A student "
        f"that is trained on one and scored on the other can score above chance on noise. Keep them together with "
        f"{advice} (in a recipe: evaluation.groups), or drop one of each pair",
        stacklevel=2,
    )
