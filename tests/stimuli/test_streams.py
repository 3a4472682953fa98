"""Images that have an order but no names, and what lets them be compared with named ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from brainrdl._core.errors import BrainrdlError
from brainrdl._core.files import digest_tensor
from brainrdl.stimuli import ImageStream, Stimuli


def test_items_have_positions_pixels_and_the_numbers_of_their_classes() -> None:
    rows = [(np.full((2, 2, 3), value, np.uint8), name) for value, name in enumerate(["cat", "ant"])]
    items = list(ImageStream(rows, classes=["cat", "bee", "ant"]).items(epoch=0))
    assert [(item.position, item.label) for item in items] == [(0, 0), (1, 2)]
    assert torch.equal(items[1].pixels, torch.ones(3, 2, 2, dtype=torch.uint8))


def test_pixels_of_a_file_are_identified_as_those_of_the_same_picture_in_a_stream(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(255, size=(4, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (name, digest), *_ = Stimuli.from_folder(tmp_path).pixel_digests(Stimuli.from_folder(tmp_path).names).items()
    (item,) = ImageStream([Image.fromarray(pixels)]).items(epoch=0)
    assert digest == digest_tensor(item.pixels) != Stimuli.from_folder(tmp_path).digests()[name]


def test_categories_can_be_given_an_order_with_more_classes() -> None:
    stimuli = Stimuli.from_arrays(torch.zeros(3, 1, 4, 4), list("abc"), labels=["ant", "cat", "ant"])
    ordered = stimuli.with_classes(["cat", "bee", "ant"]).select(["c", "b"])
    assert ordered.batch(["c", "b"]).labels.tolist() == [2, 0]
    with pytest.raises(BrainrdlError, match=r"labels \['ant'\] are not among the classes"):
        stimuli.with_classes(["cat", "bee"]).batch(["a"])
    with pytest.raises(BrainrdlError, match="have no labels"):
        Stimuli.from_arrays(torch.zeros(1, 1, 4, 4), ["a"]).with_classes(["cat"])
