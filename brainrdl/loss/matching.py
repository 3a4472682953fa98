"""Which layer of a student is compared with which target of a teacher."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from brainrdl._core.errors import arg, check_number, check_option, check_unique, nearest, quote, refuse

_ONLY = "rdm"  # the target of RDMs without names of regions


# Target of each layer; or several, with weights or without.
Match = Mapping[str, str | Sequence[str] | Mapping[str, float]]


def match_layers(
    layers: Iterable[str], targets: Iterable[str], match: Match | None = None
) -> dict[str, dict[str, float]]:
    """Give each student layer its teacher targets: as in `match`, by equal name, or the only target.

    Parameters
    ----------
    layers, targets : iterable of str
        Names of the student's layers and of the teacher's targets.
    match : mapping of layer to target, targets, or weights by target, optional
        Target of every layer, or several. Default: the teacher's only target, or the target with the name of the layer.

    Returns
    -------
    dict of layer to dict of target to weight
        Weights of a layer have the sum 1; they are equal unless `match` gives them.

    Raises
    ------
    BrainrdlError
        If a layer has no target, `match` contains an unknown layer or target, or weights are not positive.

    Examples
    --------
    >>> match_layers(["layer1", "layer4"], ["IT"])
    {'layer1': {'IT': 1.0}, 'layer4': {'IT': 1.0}}
    >>> match_layers(["fc"], ["human/IT", "monkey/IT"], {"fc": {"human/IT": 3, "monkey/IT": 1}})
    {'fc': {'human/IT': 0.75, 'monkey/IT': 0.25}}
    """
    layers, targets = tuple(layers), tuple(targets)
    if match is None:
        match = dict.fromkeys(layers, targets[0]) if len(targets) == 1 else {name: name for name in layers}
    for layer in layers:
        for target in targets_of(match.get(layer)):
            _check_target(layer, target, layers, targets)
    for layer in match:
        check_option(layer, layers, "matched layer")
    return {layer: _weights(layer, match[layer]) for layer in layers}


def targets_of(matched: str | Sequence[str] | Mapping[str, float] | None) -> tuple[Any, ...]:
    """List the targets of one layer.

    Examples
    --------
    >>> targets_of("IT"), targets_of(["V1", "IT"]), targets_of({"V1": 2.0})
    (('IT',), ('V1', 'IT'), ('V1',))
    """
    return (matched,) if isinstance(matched, str) or not matched else tuple(matched)


def _weights(layer: str, matched: str | Sequence[str] | Mapping[str, float]) -> dict[str, float]:
    names = targets_of(matched)
    check_unique(names, f"the targets of layer {layer!r}")
    given = matched if isinstance(matched, Mapping) else dict.fromkeys(names, 1.0)
    for target, weight in given.items():
        check_number(weight, f"the weight of target {target!r} of layer {layer!r}", above=0)
    total = sum(given.values())
    return {target: weight / total for target, weight in given.items()}


def _check_target(layer: str, target: object, layers: tuple[str, ...], targets: tuple[str, ...]) -> None:
    if target in targets:
        return
    if targets == (_ONLY,):
        refuse(
            f"layer {layer!r} is matched with target {target!r}, but the RDMs have no descriptor 'roi', so "
            f"their only target is 'rdm': match {dict.fromkeys(layers, _ONLY)}, or give the layers as a list"
        )
    refuse(
        f"layer {layer!r} is matched with target {target!r}, which is not among the teacher's targets "
        f"{quote(targets)}{nearest(target, targets)}; give {arg('match', python='match={layer: target}')}"
    )


def named_targets(value: Mapping[str, Tensor] | Tensor) -> Mapping[str, Tensor]:
    return {_ONLY: value} if isinstance(value, Tensor) else value
