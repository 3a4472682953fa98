"""What shell completion offers, without the seconds that importing torch would take at each press of a key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path


def complete(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Make a completion that offers those of `names()` that begin as the word does."""
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def comparators() -> Iterable[str]:
    from brainrdl.similarity.registry import SIMILARITIES

    return SIMILARITIES


def dissimilarities() -> Iterable[str]:
    from brainrdl.dissimilarity.registry import DISSIMILARITIES

    return DISSIMILARITIES


def noise_methods() -> Iterable[str]:
    from brainrdl._core.constants import NOISE

    return NOISE


def data_sets() -> Iterable[str]:
    from brainrdl.datasets.catalogue import names

    return names()


def networks() -> list[str]:
    """Names of `brainrdl.models.known_names`: torchvision lists its own, so they are asked for once and then kept."""
    import pooch

    kept = (
        Path(pooch.os_cache("brainrdl")) / f"networks-{version('brainrdl')}-torchvision-{version('torchvision')}.json"
    )
    with suppress(OSError, ValueError, KeyError, TypeError):
        return list(json.loads(kept.read_text(encoding="utf-8"))["names"])
    from brainrdl._core.errors import BrainrdlError
    from brainrdl._core.files import write_json
    from brainrdl.models.networks import known_names

    names = list(known_names())
    with suppress(BrainrdlError):  # without a cache, the next press of the key is as slow
        write_json(kept, {"names": names})
    return names
