"""Random changes of training images: those of torchvision with the numbers that were drawn, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from brainrdl._core.errors import BrainrdlError
from brainrdl.recipe.building import make_stimuli
from brainrdl.recipe.files import check
from brainrdl.stimuli.augmentation import Augmentation
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.transforms import ImageTransform

NORMALISED = ImageTransform(10, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


def pixels(n: int = 7, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, channels, 10, 10), generator=generator, dtype=torch.uint8)


def stimuli(augmentation: Any, transform: Any = NORMALISED) -> Stimuli:
    return Stimuli.from_arrays(pixels(), list("abcdefg"), transform=transform).with_augmentation(augmentation)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crops_and_flips_are_those_of_torchvision_with_the_drawn_numbers(dtype: torch.dtype, channels: int) -> None:
    images, augment = functional.to_dtype(pixels(40, channels), dtype, scale=True), Augmentation(crop=3, flip=True)
    drawn = augment.draw(40, seed=5)
    expected = []
    for image, top, left, mirrored in zip(images, drawn.top.tolist(), drawn.left.tolist(), drawn.mirrored, strict=True):
        cut = functional.crop(functional.pad(image, [3]), top, left, 10, 10)
        expected.append(functional.horizontal_flip(cut) if mirrored else cut)
    found = augment(images, seed=5)
    assert found.dtype == dtype
    assert torch.equal(found, torch.stack(expected))


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_and_contrast_are_those_of_torchvision_with_the_drawn_numbers(channels: int) -> None:
    images, augment = pixels(40, channels) / 255, Augmentation(brightness=0.7, contrast=0.9)
    drawn = augment.draw(40, seed=5)
    expected = [
        functional.adjust_contrast(functional.adjust_brightness(image, float(brightness)), float(contrast))
        for image, brightness, contrast in zip(images, drawn.brightness, drawn.contrast, strict=True)
    ]
    torch.testing.assert_close(augment(images, seed=5), torch.stack(expected), atol=1e-6, rtol=0)


def test_numbers_are_drawn_from_all_values_and_differ_between_images_and_seeds() -> None:
    augment = Augmentation(crop=2, flip=True, brightness=0.5, contrast=0.25)
    drawn = augment.draw(4000, seed=1)
    for corner in (drawn.top, drawn.left):
        counts = corner.bincount()
        assert len(counts) == 5
        assert counts.min() > 700
    assert 0.45 < drawn.mirrored.float().mean() < 0.55
    assert (float(drawn.brightness.min()), float(drawn.brightness.max())) == pytest.approx((0.5, 1.5), abs=0.01)
    assert (float(drawn.contrast.min()), float(drawn.contrast.max())) == pytest.approx((0.75, 1.25), abs=0.01)
    assert abs(float(torch.corrcoef(torch.stack([drawn.brightness, drawn.contrast]))[0, 1])) < 0.05
    assert not torch.equal(drawn.top, augment.draw(4000, seed=2).top)


def test_one_change_alone_leaves_the_others_out() -> None:
    images = pixels()
    flipped = Augmentation(flip=True)(images, 0)
    assert all(
        torch.equal(new, old) or torch.equal(new, old.flip(-1)) for new, old in zip(flipped, images, strict=True)
    )
    assert not torch.equal(flipped, images)
    assert not Augmentation(crop=3).draw(50, 0).mirrored.any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "changes nothing"),
        ({"crop": -1}, "crop must be a whole number, at least 0"),
        ({"crop": 1.5}, "crop must be a whole number"),
        ({"flip": 1}, "flip must be True or False"),
        ({"brightness": -0.1}, "brightness must be a finite number of at least 0"),
        ({"contrast": 1.1}, "contrast must be at most 1"),
    ],
)
def test_impossible_augmentations_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        Augmentation(**values)


def test_images_are_changed_before_they_are_normalised() -> None:
    augment = Augmentation(crop=3, flip=True)
    found = stimuli(augment).batch(list("abcdefg"), step=2, augmented=True, seed=9).images
    padding = ((0 - torch.tensor(NORMALISED.mean)) / torch.tensor(NORMALISED.std))[:, None, None]
    black = (found == padding).all(1).flatten(1).any(1)
    assert black.sum() >= 5  # nearly every crop shows some of the padding
    colours = {tuple(colour) for colour in NORMALISED(pixels()).permute(0, 2, 3, 1).reshape(-1, 3).tolist()}
    shown = {tuple(colour) for colour in found.permute(0, 2, 3, 1).reshape(-1, 3).tolist()}
    assert shown - colours == {tuple(padding.flatten().tolist())}


def test_files_of_different_sizes_are_augmented_after_they_were_resized(tmp_path: Path) -> None:
    for name, size in (("a", (10, 10)), ("b", (30, 20))):
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    shown = Stimuli.from_folder(tmp_path, NORMALISED).with_augmentation(Augmentation(flip=True))
    plain, images = shown.images(), shown.batch([*"ab"], 1, augmented=True).images
    for one, other in zip(images, plain, strict=True):
        assert any(torch.allclose(one, same, atol=1e-6) for same in (other, other.flip(-1)))
    assert torch.equal(shown.cached().batch([*"ab"], 1, augmented=True).images, images)


@pytest.mark.parametrize("cached", [False, True])
def test_only_augmented_batches_are_changed(cached: bool) -> None:
    shown = stimuli(Augmentation(crop=3, flip=True))
    shown = shown.cached() if cached else shown
    for _ in range(2):
        assert torch.equal(shown.images(), NORMALISED(pixels()))
        assert torch.equal(shown.batch([*"abc"]).images, NORMALISED(pixels()[:3]))
        assert not torch.equal(shown.batch([*"abc"], augmented=True).images, NORMALISED(pixels()[:3]))


def test_the_result_of_an_own_transform_is_cropped_but_its_colours_are_not_changed() -> None:
    def own(image: Image.Image) -> torch.Tensor:
        return functional.pil_to_tensor(image).float() - 300

    found = stimuli(Augmentation(crop=2), own).batch([*"abc"], augmented=True).images
    assert (found == 0).any()  # the padding
    with pytest.raises(BrainrdlError, match="brightness and contrast of an Augmentation need pixels from 0 to 1"):
        stimuli(Augmentation(contrast=0.5), own)
    with pytest.raises(BrainrdlError, match="brightness and contrast of an Augmentation need pixels from 0 to 1"):
        stimuli(Augmentation(contrast=0.5)).with_transform(own)


def test_transforms_of_torchvision_get_pixels_as_tensors_and_the_evaluation_transform_follows() -> None:
    given: list[Any] = []

    class Remembers(v2.Transform):
        def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
            given.append(inpt)
            return functional.horizontal_flip(inpt)

    random = v2.Compose([v2.RandomApply([v2.Compose([Remembers()])], p=1.0), v2.ToImage()])
    found = stimuli(random).batch([*"ab"], augmented=True).images
    assert {(type(image).__name__, image.dtype, image.shape) for image in given} == {
        ("Tensor", torch.uint8, (3, 10, 10))
    }
    assert torch.equal(found, NORMALISED(pixels()[:2]).flip(-1))


def test_a_transform_of_torchvision_may_end_in_the_input_of_the_network() -> None:
    train = v2.Compose(
        [v2.RandomResizedCrop(6), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [2.0] * 3)]
    )
    found = stimuli(train).batch([*"ab"], augmented=True).images
    assert found.shape == (2, 3, 6, 6)
    assert found.min() >= -0.25
    assert found.max() <= 0.25


@pytest.mark.parametrize("convert", [v2.PILToTensor(), v2.Compose([v2.RandomHorizontalFlip(), v2.PILToTensor()])])
def test_a_transform_that_converts_pil_images_gets_them(convert: Any) -> None:
    found = stimuli(convert).batch([*"ab"], augmented=True).images
    plain = NORMALISED(pixels()[:2])
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(-1)) for a, b in zip(found, plain, strict=True))


def test_a_recipe_gives_an_augmentation(content: dict[str, Any]) -> None:
    content["stimuli"]["augmentation"] = {"crop": 2, "flip": True}
    assert make_stimuli(check(content)).augmentation == Augmentation(2, True)
    content["stimuli"]["augmentation"] = {"crop": -2}
    with pytest.raises(BrainrdlError, match=r"stimuli\.augmentation\.crop must be a whole number"):
        make_stimuli(check(content))
    content["stimuli"]["augmentation"] = {"crops": 2}
    with pytest.raises(BrainrdlError, match="crops"):
        check(content)
