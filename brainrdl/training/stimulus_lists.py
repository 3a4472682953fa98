"""Training and validation stimuli of a fit; held-out stimuli are refused in both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.errors import check_conditions, check_unique, quote, refuse
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.training.sampling import split

_CALIBRATION = 512  # training stimuli that set the z-scores; more would not change them noticeably


def training_names(
    stimuli: Stimuli,
    train: Sequence[str] | None = None,
    validation: Sequence[str] | float = (),
    held_out: Iterable[str] = (),
    seed: int = 0,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names for training and validation; refuse overlaps among training, validation and held-out names.

    Parameters
    ----------
    stimuli, train, validation, held_out, seed
        As in `fit`.

    Returns
    -------
    tuple of two tuples of str

    Raises
    ------
    BrainrdlError
        If a name is unknown, repeated or in two parts, an image of one part is byte-identical to one of another, or a
        part has fewer than 4 conditions.

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
        train, watched = split(train, validation, seed)
    parts = {"train": train, "validation": watched, "held_out": held_out}
    for part, names in parts.items():
        check_unique(names, f"the {part} list")
        check_conditions(names, stimuli.names, "the stimuli")
    if watched and len(watched) < MIN_CONDITIONS:
        refuse(f"validation needs at least {MIN_CONDITIONS} conditions, got {len(watched)}: {quote(watched)}")
    check_no_leak(stimuli, parts)
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


def check_no_leak(stimuli: Stimuli, parts: Mapping[str, Sequence[str]]) -> None:
    """Refuse a name, or a byte-identical image, that is in two parts.

    Parameters
    ----------
    stimuli : Stimuli
    parts : mapping of part to names

    Raises
    ------
    BrainrdlError
        If parts overlap; the message quotes the names.

    Examples
    --------
    >>> import torch
    >>> stimuli = Stimuli.from_arrays(torch.zeros(2, 1, 4, 4), ["a", "b"])
    >>> check_no_leak(stimuli, {"train": ["a"], "held_out": ["b"]})
    Traceback (most recent call last):
    brainrdl.BrainrdlError: 'b' of held_out is byte-identical to 'a' of train; drop one of them
    """
    if sum(bool(names) for names in parts.values()) < 2:
        return
    digests = stimuli.select(dict.fromkeys(name for names in parts.values() for name in names)).digests()
    first: dict[str, tuple[str, str]] = {}
    for part, names in parts.items():
        for name in names:
            other, other_name = first.setdefault(digests[name], (part, name))
            if other == part:
                continue
            if other_name == name:
                refuse(f"{name!r} is in {other} and in {part}; the parts must not share stimuli")
            refuse(f"{name!r} of {part} is byte-identical to {other_name!r} of {other}; drop one of them")
