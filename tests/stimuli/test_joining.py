"""Joining sets of stimuli."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from brainrdl._core.errors import BrainrdlError
from brainrdl.stimuli.joining import join_stimuli
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.transforms import default_transform

PIXELS = (torch.rand(5, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 255).byte()


def arrays(names: str, start: int = 0, **options: object) -> Stimuli:
    return Stimuli.from_arrays(PIXELS[start : start + len(names)], list(names), **options)  # type: ignore[arg-type]


def folder(path: Path, names: str) -> Stimuli:
    for i, name in enumerate(names):
        Image.fromarray(PIXELS[3 + i].permute(1, 2, 0).numpy()).save(path / f"{name}.png")
    return Stimuli.from_folder(path)


def test_images_of_all_sets_are_found_by_name(tmp_path: Path) -> None:
    one, two = arrays("abc").select(["c", "a"]), folder(tmp_path, "xy")
    joined = join_stimuli(one, two)
    assert joined.names == ("c", "a", "x", "y")
    assert torch.equal(joined.images(["x", "c"]), torch.cat([two.images(["x"]), one.images(["c"])]))
    assert joined.digests() == one.digests() | two.digests()
    assert joined.labels is None


def test_sets_of_one_transform_keep_it(tmp_path: Path) -> None:
    transform = default_transform(4, "none")
    one, two = arrays("abc", transform=transform), folder(tmp_path, "xy").with_transform(transform)
    joined = join_stimuli(one, two)
    assert torch.equal(joined.images(), torch.cat([one.images(), two.images()]))
    with pytest.raises(BrainrdlError, match=r"different transforms, .* give all the same with with_transform"):
        join_stimuli(one, arrays("xy"))


def test_categories_are_joined_if_all_sets_have_them() -> None:
    one, two = arrays("ab", labels=["face", "tool"]), arrays("xy", 2, labels=["face", "body"])
    assert join_stimuli(one, two).labels == {"a": "face", "b": "tool", "x": "face", "y": "body"}
    assert join_stimuli(one, arrays("xy", 2)).labels is None


def test_a_name_in_two_sets_must_be_the_same_image() -> None:
    assert join_stimuli(arrays("abc"), arrays("bc", 1)).names == ("a", "b", "c")
    with pytest.raises(BrainrdlError, match="stimulus 'b' is in two sets with different images"):
        join_stimuli(arrays("abc"), arrays("bc", 2))
    with pytest.raises(BrainrdlError, match="stimulus 'a' is in two sets with different categories"):
        join_stimuli(arrays("a", labels=["x"]), arrays("a", labels=["y"]))
    with pytest.raises(BrainrdlError, match="no stimuli to join"):
        join_stimuli()
