"""Several sets of stimuli as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from brainrdl._core.errors import refuse
from brainrdl.stimuli.image_sources import Source
from brainrdl.stimuli.named_images import Stimuli


@dataclass(frozen=True, eq=False)
class _Joined:
    """Images of several sources: the source of each image, and its position there."""

    places: Sequence[tuple[Source, int]]
    where: str

    def pixels(self, position: int) -> Tensor:
        source, place = self.places[position]
        return source.pixels(place)

    def digest(self, position: int) -> str:
        source, place = self.places[position]
        return source.digest(place)


def join_stimuli(*sets: Stimuli) -> Stimuli:
    """Join sets of stimuli, in order, for example those of several brains; a name in two sets must be the same image.

    Parameters
    ----------
    *sets : Stimuli
        At least one, with the same transform and augmentation.

    Returns
    -------
    Stimuli
        With categories if all sets have them.

    Raises
    ------
    BrainrdlError
        If no set is given, transforms or augmentations differ, a name has different images or categories, or a set
        differs each time it is loaded.

    Examples
    --------
    >>> import torch
    >>> faces = Stimuli.from_arrays(torch.rand(2, 1, 4, 4), ["ann", "bob"])
    >>> join_stimuli(faces, Stimuli.from_arrays(torch.rand(2, 1, 4, 4), ["saw", "axe"])).names
    ('ann', 'bob', 'saw', 'axe')
    """
    if not sets:
        refuse("there are no stimuli to join; give at least one set")
    for one in sets:
        one.check_repeatable()
        for what in ("transform", "augmentation"):
            if repr(getattr(one, what)) != repr(getattr(sets[0], what)):
                both = f"{getattr(sets[0], what)!r} and {getattr(one, what)!r}"
                refuse(f"the sets of stimuli have different {what}s, {both}; give all the same with with_{what}(...)")
    owner: dict[str, Stimuli] = {}
    for one in sets:
        for name in one.names:
            _check_same(name, owner.setdefault(name, one), one)
    places = [(one._source, one._positions[name]) for name, one in owner.items()]
    where = " and ".join(dict.fromkeys(one._source.where for one in sets))
    labels = {name: one.labels[name] for name, one in owner.items() if one.labels is not None}
    joined = Stimuli._of(_Joined(places, where), list(owner), labels if len(labels) == len(owner) else None, None)
    return joined.with_transform(sets[0].transform).with_augmentation(sets[0].augmentation)


def _check_same(name: str, first: Stimuli, second: Stimuli) -> None:
    if first is second:
        return
    if first.digests([name]) != second.digests([name]):
        refuse(f"stimulus {name!r} is in two sets with different images; rename one of them")
    if first.labels and second.labels and first.labels[name] != second.labels[name]:
        refuse(f"stimulus {name!r} is in two sets with different categories; give both the same labels")
