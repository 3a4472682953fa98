"""Copies of images are found, also mirrored, compressed, resized or shifted; similar images are not copies."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from brainrdl.stimuli import Stimuli, groups_of_similar, similar_images
from brainrdl.stimuli.near_duplicates import _similar_pairs, fingerprints

DATA = Path(os.environ.get("BRAINRDL_DATA", "no data"))


def pictures(n: int, side: int = 96, seed: int = 0) -> Tensor:
    """Coloured noise with the spectrum of photographs, uint8 (n, 3, side, side)."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    frequency[0, 0] = np.inf
    noise = np.fft.rfft2(generator.normal(size=(n, 3, side, side)) + generator.normal(size=(n, 1, side, side)))
    found = np.fft.irfft2(noise / frequency, s=(side, side))
    found = (found - found.min((1, 2, 3), keepdims=True)) / np.ptp(found, axis=(1, 2, 3), keepdims=True)
    return torch.from_numpy((255 * found).astype(np.uint8))


def as_pil(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def as_pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def compressed(pixels: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    as_pil(pixels).save(file, "JPEG", quality=quality)
    return as_pixels(Image.open(file))


def resized(pixels: Tensor, factor: float) -> Tensor:
    size = tuple(round(factor * side) for side in (pixels.shape[2], pixels.shape[1]))
    return as_pixels(as_pil(pixels).resize(size, Image.Resampling.BICUBIC))


def shifted(pixels: Tensor, share: float) -> Tensor:
    """Move an image to the left; its last column fills the gap."""
    step = max(1, round(share * pixels.shape[2]))
    return torch.cat([pixels[..., step:], pixels[..., -1:].expand(-1, -1, step)], dim=-1)


COPIES: dict[str, Callable[[Tensor], Tensor]] = {
    "mirrored": lambda pixels: pixels.flip(-1),
    "compressed": lambda pixels: compressed(pixels, 30),
    "half": lambda pixels: resized(pixels, 0.5),
    "enlarged": lambda pixels: resized(pixels, 1.5),
    "shifted by 2 %": lambda pixels: shifted(pixels, 0.02),
    "shifted by 5 %": lambda pixels: shifted(pixels, 0.05),
    "darker": lambda pixels: (0.8 * pixels).to(torch.uint8),
    "mirrored, compressed and smaller": lambda pixels: resized(compressed(pixels.flip(-1), 50), 0.7),
}


def in_folder(folder: Path, images: dict[str, Tensor]) -> Stimuli:
    for name, pixels in images.items():
        as_pil(pixels).save(folder / f"{name}.png")
    return Stimuli.from_folder(folder)


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found_among_other_images(copy: str, tmp_path: Path) -> None:
    images = {f"image{k:02d}": pixels for k, pixels in enumerate(pictures(30))}
    images["copy"] = COPIES[copy](images["image07"])
    found = similar_images(in_folder(tmp_path, images))
    assert found[["first", "second"]].values.tolist() == [["copy", "image07"]]
    assert 0.85 < found.similarity.item() <= 1


def test_different_images_are_not_similar() -> None:
    stimuli = Stimuli.from_arrays(pictures(200, side=48), [f"i{k}" for k in range(200)])
    assert not len(similar_images(stimuli))
    assert groups_of_similar(stimuli) == {}


def test_all_pairs_are_found_and_linked_images_are_one_group() -> None:
    pixels = pictures(20)
    copies = torch.stack([pixels[3].flip(-1), compressed(pixels[3], 40), shifted(pixels[11], 0.03)])
    stimuli = Stimuli.from_arrays(torch.cat([pixels, copies]), [f"i{k:02d}" for k in range(23)])
    found = {tuple(pair) for pair in similar_images(stimuli)[["first", "second"]].values}
    assert found == {("i03", "i20"), ("i03", "i21"), ("i20", "i21"), ("i11", "i22")}
    assert groups_of_similar(stimuli) == {"i03": "i03", "i20": "i03", "i21": "i03", "i11": "i11", "i22": "i11"}


def test_uniform_and_tiny_images_are_no_copies() -> None:
    assert not fingerprints([torch.full((3, 40, 40), 7, dtype=torch.uint8), torch.rand(1, 15, 40)]).any()
    stimuli = Stimuli.from_arrays(torch.zeros(4, 1, 40, 40), list("abcd"))
    assert not len(similar_images(stimuli))


def test_fingerprints_are_computed_once_and_shared_by_selections(monkeypatch: pytest.MonkeyPatch) -> None:
    stimuli = Stimuli.from_arrays(pictures(8), list("abcdefgh"))
    first = stimuli.fingerprints()
    monkeypatch.setattr("brainrdl.stimuli.named_images.fingerprints", lambda images: pytest.fail("computed again"))
    torch.testing.assert_close(stimuli.select(["c", "a"]).fingerprints(), first[[2, 0]])


# Real images


def of_public_set(name: str) -> Tensor:
    """Read images, uint8 (n, c, h, w)."""
    if name == "mnist":
        packed = gzip.decompress((DATA / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
        return torch.from_numpy(np.frombuffer(packed, np.uint8, offset=16).reshape(-1, 1, 28, 28).copy())
    if name == "cifar10":
        return torch.from_numpy(np.load(DATA / "cifar10_test2000.npz")["x_test"]).permute(0, 3, 1, 2).contiguous()
    with tarfile.open(DATA / "algonauts92.tar.gz") as archive:
        files = sorted((one for one in archive if one.name.endswith(".jpg")), key=lambda one: one.name)
        return torch.stack([as_pixels(Image.open(archive.extractfile(one)).convert("RGB")) for one in files])


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "mnist").exists(), reason="BRAINRDL_DATA does not name a folder with the public images")
@pytest.mark.parametrize(
    ("name", "most_pairs", "least"), [("algonauts92", 0, 1.0), ("cifar10", 5, 0.97), ("mnist", 150, 0.95)]
)
def test_detection_and_false_alarm_rates_on_public_images(name: str, most_pairs: int, least: float) -> None:
    """The 5 pairs of CIFAR-10 are copies of one photograph each; the digits of MNIST resemble each other."""
    pixels = of_public_set(name)
    prints = fingerprints(pixels)
    assert len(_similar_pairs(prints)) <= most_pairs
    chosen = np.random.default_rng(0).choice(len(pixels), 92, replace=False)
    for what, copy in COPIES.items():
        copies = [copy(pixels[k].expand(3, -1, -1)) for k in chosen]
        if min(copies[0].shape[1:]) < 16:
            continue  # a digit of half the size
        pairs = {pair[:2] for pair in _similar_pairs(torch.cat([prints, fingerprints(copies)]))}
        found = np.mean([(k, len(pixels) + number) in pairs for number, k in enumerate(chosen)])
        assert found >= least, what


def test_images_of_two_sets_are_compared_with_each_other_only() -> None:
    from brainrdl.stimuli import similar_between

    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(6, 1, 40, 40, generator=generator)
    pixels[1] = pixels[0]  # equal within the first set, which is not asked
    first = Stimuli.from_arrays(pixels[:4], list("abcd"))
    second = Stimuli.from_arrays(torch.stack([pixels[4], pixels[2].flip(-1), pixels[5]]), list("aBc"))
    assert similar_between(first, second)[["first", "second"]].to_numpy().tolist() == [["c", "B"]]
    assert similar_between(second, first)[["first", "second"]].to_numpy().tolist() == [["B", "c"]]


def test_sets_above_a_number_of_images_are_only_searched_if_asked_for() -> None:
    images = torch.rand(12, 1, 24, 24)
    images[7] = images[2].flip(-1)
    stimuli = Stimuli.from_arrays(images, [f"i{k}" for k in range(12)])
    assert similar_images(stimuli, at_most=11).empty
    assert groups_of_similar(stimuli, at_most=11) == {}
    assert groups_of_similar(stimuli, at_most=12) == {"i2": "i2", "i7": "i2"}
