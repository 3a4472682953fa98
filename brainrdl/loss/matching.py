"""Which layer of a student is compared with which target of a teacher."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from brainrdl._core.errors import arg, check_option, nearest, quote, refuse

_ONLY = "rdm"  # the target of RDMs without names of regions


def match_layers(
    layers: Iterable[str], targets: Iterable[str], match: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Pair each student layer with a teacher target: as given by `match`, by equal name, or with the only target.

    Parameters
    ----------
    layers, targets : iterable of str
        Names of the student's layers and of the teacher's targets.
    match : mapping of layer to target, optional
        Target of every layer. Default: the teacher's only target, or the target with the name of the layer.

    Returns
    -------
    dict of layer to target

    Raises
    ------
    BrainrdlError
        If a layer has no target, or `match` contains an unknown layer or target.

    Examples
    --------
    >>> match_layers(["layer1", "layer4"], ["IT"])
    {'layer1': 'IT', 'layer4': 'IT'}
    >>> match_layers(["V1", "IT"], ["IT", "V1"])
    {'V1': 'V1', 'IT': 'IT'}
    """
    layers, targets = tuple(layers), tuple(targets)
    if match is None:
        match = dict.fromkeys(layers, targets[0]) if len(targets) == 1 else {name: name for name in layers}
    for layer in layers:
        target = match.get(layer)
        if target not in targets:
            if targets == (_ONLY,):
                refuse(
                    f"layer {layer!r} is matched with target {target!r}, but the RDMs have no descriptor 'roi', so "
                    f"their only target is 'rdm': match {dict.fromkeys(layers, _ONLY)}, or give the layers as a list"
                )
            refuse(
                f"layer {layer!r} is matched with target {target!r}, which is not among the teacher's targets "
                f"{quote(targets)}{nearest(target, targets)}; give {arg('match', python='match={layer: target}')}"
            )
    for layer in match:
        check_option(layer, layers, "matched layer")
    return {layer: match[layer] for layer in layers}


def named_targets(value: Mapping[str, Tensor] | Tensor) -> Mapping[str, Tensor]:
    return {_ONLY: value} if isinstance(value, Tensor) else value
