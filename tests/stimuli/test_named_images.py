"""Stimuli: names that never get lost, pixels that are what a viewer shows, and refusals that name the file."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

from brainrdl._core.errors import BrainrdlError
from brainrdl._core.files import digest_tensor
from brainrdl.stimuli.categories import different_category, groups_of
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.transforms import default_transform

RNG = np.random.default_rng(0)


def noise(height: int = 24, width: int = 24) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(folder: Path, name: str, pixels: np.ndarray | None = None, **options: Any) -> Path:
    path = folder / name
    Image.fromarray(noise() if pixels is None else pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ann.png", "bob.png", "cat.png"):
        save(tmp_path, name)
    return tmp_path


def digits(n: int = 5) -> Stimuli:
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 4, 4)
    labels = [("even", "odd")[i % 2] for i in range(n)]
    return Stimuli.from_arrays(images, [f"n{i}" for i in range(n)], labels=labels)


def value_of(images: torch.Tensor) -> list[int]:
    return [round(v) for v in (images.mean((1, 2, 3)) * 255).tolist()]


# Names


def test_files_are_named_by_their_stem_in_alphabetical_order(folder: Path) -> None:
    assert Stimuli.from_folder(folder).names == ("ann", "bob", "cat")


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(5)), st.integers(1, 5))
def test_select_keeps_the_requested_order(order: list[int], count: int) -> None:
    asked = [f"n{i}" for i in order[:count]]
    chosen = digits().select(asked)
    assert chosen.names == tuple(asked)
    assert value_of(chosen.images()) == order[:count]
    assert value_of(digits().images(asked)) == order[:count]
    assert list(chosen.digests()) == asked


def test_a_selection_of_a_selection_still_finds_its_images() -> None:
    chosen = digits().select(["n4", "n1", "n3"]).select(["n3", "n4"])
    assert value_of(chosen.images()) == [3, 4]
    assert "n1" not in chosen
    assert len(chosen) == 2


def test_an_image_may_be_requested_twice_outside_a_batch() -> None:
    assert value_of(digits().images(["n2", "n2"])) == [2, 2]


@pytest.mark.parametrize("method", ["select", "images", "batch", "digests"])
def test_an_unknown_name_is_refused_with_the_nearest(method: str) -> None:
    stimuli = Stimuli.from_arrays(torch.zeros(2, 1, 4, 4), ["face_70", "house"])
    with pytest.raises(BrainrdlError, match=r"\['face_07'\] are not in the stimuli of 2 arrays .* nearest: 'face_70'"):
        getattr(stimuli, method)(["house", "face_07"])


def test_a_selection_forgets_the_other_names() -> None:
    with pytest.raises(BrainrdlError, match="'n0'"):
        digits().select(["n1"]).images(["n0"])


@pytest.mark.parametrize("method", ["select", "batch"])
def test_a_name_requested_twice_is_refused(method: str) -> None:
    with pytest.raises(BrainrdlError, match=r"\['n1'\] occur more than once"):
        getattr(digits(), method)(["n1", "n1"])


@pytest.mark.parametrize("method", ["select", "images"])
def test_an_empty_list_of_names_is_refused(method: str) -> None:
    with pytest.raises(BrainrdlError, match="no names were requested"):
        getattr(digits(), method)([])


def test_a_bare_string_is_not_a_list_of_names() -> None:
    with pytest.raises(BrainrdlError, match=r"single string 'n1'; write \['n1'\]"):
        digits().images("n1")


def test_the_repr_says_what_there_is() -> None:
    assert repr(digits()) == "Stimuli(5 images of 5 arrays, 2 categories: 'n0', 'n1', 'n2', ...)"


# Folders


def test_hidden_files_are_ignored(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"x")
    assert len(Stimuli.from_folder(folder)) == 3


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrainrdlError, match=r"stimulus folder '.*nowhere' does not exist"):
        Stimuli.from_folder(tmp_path / "nowhere")


def test_a_file_in_place_of_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(BrainrdlError, match=r"ann\.png' is not a folder"):
        Stimuli.from_folder(folder / "ann.png")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_bytes(b"")
    with pytest.raises(BrainrdlError, match="contains no images"):
        Stimuli.from_folder(tmp_path)


@pytest.mark.parametrize("content", [b"hello", b""])
def test_a_file_that_is_not_an_image_is_refused_by_name(folder: Path, content: bytes) -> None:
    (folder / "notes.png").write_bytes(content)
    with pytest.raises(BrainrdlError, match=r"\['notes.png'\] in stimulus folder .* cannot be read as images"):
        Stimuli.from_folder(folder)


def test_files_and_folders_in_one_folder_are_refused_by_name(folder: Path) -> None:
    (folder / "faces").mkdir()
    with pytest.raises(BrainrdlError, match=r"contains folders \['faces'\] and files \['ann.png'"):
        Stimuli.from_folder(folder)


def test_two_files_of_one_name_are_refused(folder: Path) -> None:
    save(folder, "ann.jpg")
    with pytest.raises(BrainrdlError, match=r"names \['ann'\] occur more than once in stimulus folder"):
        Stimuli.from_folder(folder)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("kept", [0.5, 0.97])
def test_a_truncated_png_or_jpeg_is_refused_at_once(folder: Path, suffix: str, kept: float) -> None:
    path = save(folder, f"cut.{suffix}", noise(120, 120))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(BrainrdlError, match=rf"image 'cut.{suffix}' in stimulus folder .* truncated or damaged"):
        Stimuli.from_folder(folder)


def test_an_image_truncated_later_is_refused_when_it_is_loaded(folder: Path) -> None:
    stimuli = Stimuli.from_folder(folder)
    path = folder / "bob.png"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(BrainrdlError, match=r"image 'bob\.png' in stimulus folder .* cannot be decoded"):
        stimuli.images()
    assert stimuli.images(["ann"]).shape == (1, 3, 24, 24)


def test_a_truncated_image_of_another_format_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    path = save(tmp_path, "cut.bmp", noise(60, 60))
    path.write_bytes(path.read_bytes()[:2000])
    stimuli = Stimuli.from_folder(tmp_path)
    with pytest.raises(BrainrdlError, match=r"image 'cut\.bmp' .* truncated or damaged"):
        stimuli.images()


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm(tmp_path: Path) -> None:
    path = save(tmp_path, "long.jpg")
    path.write_bytes(path.read_bytes() + bytes(10_000))
    assert Stimuli.from_folder(tmp_path).images().shape == (1, 3, 24, 24)


@pytest.mark.parametrize("method", ["images", "digests"])
def test_a_deleted_file_is_refused_by_name(folder: Path, method: str) -> None:
    stimuli = Stimuli.from_folder(folder)
    (folder / "bob.png").unlink()
    with pytest.raises(BrainrdlError, match=r"image 'bob\.png' is no longer in stimulus folder"):
        getattr(stimuli, method)()


def test_different_sizes_without_a_resize_are_refused_and_two_are_named(folder: Path) -> None:
    save(folder, "big.png", noise(30, 40))
    with pytest.raises(BrainrdlError, match=r"'ann' is \(3, 24, 24\), 'big' is \(3, 30, 40\).*default_transform"):
        Stimuli.from_folder(folder).images()
    assert Stimuli.from_folder(folder, default_transform(16)).images().shape == (4, 3, 16, 16)


def test_images_are_opened_only_when_requested(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stimuli = Stimuli.from_folder(folder)
    (folder / "ann.png").unlink()
    assert stimuli.images(["cat"]).shape == (1, 3, 24, 24)


# What a file becomes


def loaded(tmp_path: Path, image: Image.Image, name: str = "one.png", **options: Any) -> torch.Tensor:
    image.save(tmp_path / name, **options)
    return Stimuli.from_folder(tmp_path).images()[0]


def test_rgb_files_become_exact_fractions_of_255(tmp_path: Path) -> None:
    pixels = noise(5, 7)
    image = loaded(tmp_path, Image.fromarray(pixels))
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, torch.from_numpy(pixels).permute(2, 0, 1) / 255, rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    white = Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode)
    image = loaded(tmp_path, white, "one.tif")
    assert torch.equal(image, torch.ones(3, 4, 4))


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = loaded(tmp_path, Image.new("RGB", (4, 4), (255, 0, 51)).convert("P", palette=Image.Palette.ADAPTIVE))
    assert image[:, 0, 0].tolist() == pytest.approx([1, 0, 0.2])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_over_mid_grey(tmp_path: Path, mode: str) -> None:
    clear = Image.new("RGBA", (2, 2), (255, 255, 255, 0)).convert(mode)
    assert loaded(tmp_path, clear).unique().tolist() == pytest.approx([128 / 255])


def test_half_transparent_white_lies_half_way_to_grey(tmp_path: Path) -> None:
    image = loaded(tmp_path, Image.new("RGBA", (2, 2), (255, 255, 255, 128)))
    assert image.mean().item() == pytest.approx(0.75, abs=0.005)


def test_a_transparent_palette_colour_becomes_grey(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    assert loaded(tmp_path, image, transparency=0).unique().tolist() == pytest.approx([128 / 255])


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    image = loaded(tmp_path, Image.fromarray(ramp))
    np.testing.assert_allclose(image[0], ramp / 65535, atol=0.5 / 255 + 1e-6)


def test_the_orientation_tag_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees to show
    image = loaded(tmp_path, Image.fromarray(pixels), exif=exif)
    assert image.shape == (3, 16, 8)
    assert image[:, 0].mean() == 1
    assert image[:, -1].mean() == 0


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.ones((2, 2), np.float32), "one.tif' in .*32-bit floats"),
        (np.full((2, 2), 70_000, np.int32), "one.tif' in .*integers from 70000"),
    ],
)
def test_pixels_of_unknown_range_are_refused_with_the_file(tmp_path: Path, pixels: np.ndarray, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        loaded(tmp_path, Image.fromarray(pixels), "one.tif")


# Arrays


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (np.zeros((2, 5, 6), np.uint8), (2, 1, 5, 6)),
        (np.zeros((2, 5, 6, 3), np.uint8), (2, 3, 5, 6)),
        (np.zeros((2, 5, 6, 1)), (2, 1, 5, 6)),
        (np.zeros((2, 5, 6, 4)), (2, 3, 5, 6)),
        (torch.zeros(2, 3, 5, 6), (2, 3, 5, 6)),
        (torch.zeros(2, 5, 6), (2, 1, 5, 6)),
        (np.zeros((2, 5, 6), ">f4"), (2, 1, 5, 6)),
        (np.zeros((2, 5, 6), np.uint8)[:, ::-1], (2, 1, 5, 6)),
    ],
)
def test_arrays_are_channel_last_and_tensors_channel_first(images: Any, shape: tuple[int, ...]) -> None:
    got = Stimuli.from_arrays(images, ["a", "b"]).images()
    assert got.shape == shape
    assert got.dtype == torch.float32


def test_uint8_arrays_become_fractions_and_floats_stay() -> None:
    eight_bit = np.full((1, 2, 2), 51, np.uint8)
    assert Stimuli.from_arrays(eight_bit, ["a"]).images().unique().tolist() == pytest.approx([0.2])
    assert Stimuli.from_arrays(np.full((1, 2, 2), -3.5), ["a"]).images().unique().tolist() == [-3.5]


def test_transparency_of_arrays_is_that_of_files(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (6, 6, 4), dtype=np.uint8)
    from_file = loaded(tmp_path, Image.fromarray(pixels))
    from_array = Stimuli.from_arrays(pixels[None], ["a"]).images()[0]
    torch.testing.assert_close(from_array, from_file, rtol=0, atol=1.01 / 255)
    as_float = Stimuli.from_arrays(pixels[None] / 255, ["a"]).images()[0]
    torch.testing.assert_close(as_float, from_file, rtol=0, atol=1.01 / 255)


def test_a_read_only_array_needs_no_copy_and_gives_no_warning(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 3, 3), np.uint8))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert Stimuli.from_arrays(mapped, ["a", "b"]).images().shape == (2, 1, 3, 3)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3), np.uint8), r"must be \(n, h, w\).*got shape \(2, 3\)"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"1, 3 or 4 channels, got 8 from shape \(2, 3, 8, 8\); arrays are"),
        (torch.zeros(2, 8, 8, 3), "1, 3 or 4 channels, got 8"),
        (np.zeros((2, 0, 8), np.uint8), "is empty"),
        (np.zeros((2, 8, 8), np.int64), "must be uint8 .* got torch.int64"),
        (np.full((2, 8, 8), "x"), "array of numbers, got dtype <U1"),
        (np.full((2, 8, 8), np.nan), "128 of 128 values are NaN or Inf in the image array"),
        (np.array([[[0, np.inf]], [[0, 0]]]), "1 of 4 values are NaN or Inf"),
        (np.zeros((3, 8, 8), np.uint8), "2 names for 3 images"),
    ],
)
def test_arrays_that_are_not_images_are_refused(images: Any, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        Stimuli.from_arrays(images, ["a", "b"])


@pytest.mark.parametrize(
    ("names", "message"), [(["a", "a"], r"\['a'\] occur more than once"), ([1, "b"], r"must be strings, got \[1\]")]
)
def test_names_of_arrays_are_unique_strings(names: Any, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        Stimuli.from_arrays(torch.zeros(2, 1, 4, 4), names)


# Labels


def test_labels_in_a_batch_count_the_categories_of_the_full_set() -> None:
    stimuli = digits()
    assert stimuli.categories == ("even", "odd")
    assert stimuli.labels == {"n0": "even", "n1": "odd", "n2": "even", "n3": "odd", "n4": "even"}
    odd = stimuli.select(["n3", "n1"])
    assert odd.labels == {"n3": "odd", "n1": "odd"}
    assert odd.categories == ("even", "odd")
    batch = odd.batch(["n1", "n3"], step=7)
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 1]
    assert (batch.names, batch.step, value_of(batch.images)) == (("n1", "n3"), 7, [1, 3])


def test_without_labels_there_are_no_categories() -> None:
    stimuli = Stimuli.from_arrays(torch.zeros(2, 1, 4, 4), ["a", "b"])
    assert stimuli.labels is None
    assert stimuli.categories == ()
    assert stimuli.batch(["b"]).labels is None


@pytest.mark.parametrize(
    "text",
    ["name,category\nann,face\nbob,face\ncat,pet\n", "\ufefflabel;x;stimulus\npet;1;cat\nface;2;ann\nface;3;bob\n"],
)
def test_a_label_table_is_read_and_may_lie_among_the_images(folder: Path, text: str) -> None:
    table = folder / "labels.csv"
    table.write_text(text, encoding="utf-8")
    stimuli = Stimuli.from_folder(folder, labels=table)
    assert stimuli.labels == {"ann": "face", "bob": "face", "cat": "pet"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,category\nann,face\nbob,face\n", r"\['cat'\] have no label in label table '.*labels.csv' \(2 names\)"),
        ("name,category\nann,f\nbob,f\ncat,f\ncats,f\n", r"labels for \['cats'\], which are not stimuli; remove"),
        ("name,category\nann,f\nbob,f\ncat.png,f\n", r"\['cat'\] have no label .*nearest: 'cat.png'"),
        ("name,category\nann,f\nann,g\nbob,f\ncat,f\n", r"\['ann'\] occur more than once in label table"),
        ("name,category\nann,f\nbob\ncat,f\n", r"\['bob'\] have an empty label"),
        ("file,category\nann,f\n", r"needs a column 'name' \(or 'stimulus'\); its columns are \['file', 'category'\]"),
        ("name,kind\nann,f\n", "needs a column 'category'"),
        ("", "needs a column 'name'"),
    ],
)
def test_a_wrong_label_table_is_refused(folder: Path, tmp_path_factory: Any, text: str, message: str) -> None:
    table = tmp_path_factory.mktemp("tables") / "labels.csv"
    table.write_text(text)
    with pytest.raises(BrainrdlError, match=message):
        Stimuli.from_folder(folder).with_labels(table)


def test_labels_as_a_series_are_those_of_its_index() -> None:
    named = pd.Series(["pet", "face", "pet"], index=["c", "a", "b"])
    by_name = Stimuli.from_arrays(torch.zeros(3, 1, 2, 2), ["a", "b", "c"], labels=named).labels
    assert by_name == {"a": "face", "b": "pet", "c": "pet"}
    in_order = pd.Series(["face", "pet", "pet"])
    assert Stimuli.from_arrays(torch.zeros(3, 1, 2, 2), ["a", "b", "c"], labels=in_order).labels == by_name


def test_the_nearest_label_is_one_that_has_no_stimulus() -> None:
    with pytest.raises(BrainrdlError, match=r"\['n2'\] have no label in the label table \(2 names\)$"):
        digits(3).with_labels({"n0": "a", "n1": "b"})  # n0 and n1 are near, but have their stimuli


def test_a_label_table_that_is_missing_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrainrdlError, match="does not exist"):
        digits().with_labels(tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_bytes(b"name,category\nn0,\xe9t\xe9\n")
    with pytest.raises(BrainrdlError, match="not UTF-8"):
        digits().with_labels(tmp_path / "labels.csv")


def test_a_mapping_must_fit_the_names() -> None:
    stimuli = digits(3)
    with pytest.raises(BrainrdlError, match=r"\['n2'\] have no label in the label table"):
        stimuli.with_labels({"n0": "a", "n1": "b"})
    with pytest.raises(BrainrdlError, match=r"labels for \['m'\], which are not stimuli"):
        stimuli.with_labels({"n0": "a", "n1": "b", "n2": "c", "m": "d"})


def test_one_label_per_image_is_needed() -> None:
    with pytest.raises(BrainrdlError, match="2 labels for 3 images"):
        digits(3).with_labels(["a", "b"])


def test_a_label_is_a_name_or_a_whole_number() -> None:
    with pytest.raises(BrainrdlError, match=r"whole number, got 0\.5"):
        digits(3).with_labels([0.5, 1, 2])


def test_numbered_categories_stay_in_numerical_order() -> None:
    stimuli = digits(3).with_labels([10, np.int64(9), torch.tensor(2)])
    assert stimuli.categories == ("02", "09", "10")
    assert stimuli.batch(["n0", "n1", "n2"]).labels.tolist() == [2, 1, 0]  # type: ignore[union-attr]


# Align


def test_align_puts_stimuli_into_the_order_of_the_conditions() -> None:
    assert digits(3).align(["n2", "n0", "n1"]).names == ("n2", "n0", "n1")


@pytest.mark.parametrize("conditions", [["n0", "n1"], ["n0", "n1", "n2", "n22"]])
def test_align_refuses_sets_that_differ_unless_allowed(conditions: list[str]) -> None:
    with pytest.raises(BrainrdlError, match=r"do not match: .*only (in|among) the .*\]; rename .*allow_missing=True"):
        digits(3).align(conditions)
    common = [name for name in reversed(conditions) if name != "n22"]
    assert digits(3).align(list(reversed(conditions)), allow_missing=True).names == tuple(common)


def test_the_nearest_name_is_one_that_has_no_partner() -> None:
    with pytest.raises(BrainrdlError, match=r"only in the RDMs: \['n1x'\]; nearest: 'n11'; rename"):
        digits(12).align([*digits(11).names, "n1x"])  # n1 and n10 are as near, but have their conditions


def test_stimuli_take_the_names_of_conditions_that_are_their_files() -> None:
    plain = Stimuli.from_arrays(torch.arange(12.0).reshape(3, 1, 2, 2) / 12, ["a", "b", "c"], labels=["y", "x", "x"])
    files = plain.align(["c.jpg", "a.PNG", "b.png"])
    assert files.names == ("c.jpg", "a.PNG", "b.png")
    assert files.labels == {"c.jpg": "x", "a.PNG": "y", "b.png": "x"}
    assert files.categories == plain.categories
    torch.testing.assert_close(files.images(), plain.images(["c", "a", "b"]))
    assert plain.align(["c.jpg", "a.png"], allow_missing=True).names == ("c.jpg", "a.png")
    assert plain.align(["x/c.jpg", "x/a.png", "y/b.png"]).names == ("x/c.jpg", "x/a.png", "y/b.png")
    assert plain.names == ("a", "b", "c")
    assert plain.named_as(["c.jpg", "d.png"]).names == ("a", "b", "c.jpg")
    assert plain.named_as(["a", "c.jpg"]) is plain


def test_groups_and_labels_may_list_images_by_name_or_by_file() -> None:
    names, files = ["b", "a"], ["stimuli/b.png", "stimuli/a.png"]
    table = dict(zip(names, "xy", strict=True))
    of_files = dict(zip(files, "xy", strict=True))
    assert groups_of(table, files) == groups_of(of_files, files) == of_files
    assert groups_of(of_files, names) == groups_of({"b.png": "x", "a.png": "y"}, names) == table
    assert Stimuli.from_arrays(torch.zeros(2, 1, 2, 2), names, labels=of_files).labels == table
    with pytest.raises(BrainrdlError, match=r"groups of \['c'\], which are not stimuli"):
        groups_of({"b": "x", "c": "y"}, files)


def test_stimuli_in_subfolders_take_the_names_of_paths_that_end_in_theirs() -> None:
    stimuli = Stimuli.from_arrays(torch.zeros(2, 1, 2, 2), ["old/face", "new/face"])
    files = ("stimuli/new/face.png", "stimuli/old/face.png")
    assert stimuli.align(files).names == files
    assert stimuli.align(["new/face.png", "old/face.png"]).names == ("new/face.png", "old/face.png")


def test_two_files_of_one_name_are_not_matched() -> None:
    with pytest.raises(BrainrdlError, match="do not match"):
        Stimuli.from_arrays(torch.zeros(2, 1, 2, 2), ["a", "b"]).align(["x/a.png", "y/a.png", "y/b.png"])


def test_stimuli_whose_own_names_have_suffixes_keep_them() -> None:
    kept = Stimuli.from_arrays(torch.zeros(2, 1, 2, 2), ["a.png", "b.png"])
    assert kept.align(["b.png", "a.png"]).names == ("b.png", "a.png")
    with pytest.raises(BrainrdlError, match="names of one side are those of image files"):
        kept.align(["a", "b"])
    with pytest.raises(BrainrdlError, match="do not match"):
        Stimuli.from_arrays(torch.zeros(2, 1, 2, 2), ["a", "b"]).align(["a.png", "b"])


def test_a_table_of_labels_can_list_the_files_of_the_images(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("stimulus,category\nb.png,x\na.jpg,y\nc.png,x\n")
    images = torch.zeros(3, 1, 2, 2)
    assert Stimuli.from_arrays(images, ["a", "b", "c"], labels=table).labels == {"a": "y", "b": "x", "c": "x"}
    kept = Stimuli.from_arrays(images, ["a.jpg", "b.png", "c.png"], labels=table)
    assert kept.labels == {"a.jpg": "y", "b.png": "x", "c.png": "x"}


def test_align_says_that_names_differ_only_in_unicode_form() -> None:
    names = ["café", "n1", "n2"]
    stimuli = Stimuli.from_arrays(digits(3).images(), [unicodedata.normalize("NFD", name) for name in names])
    with pytest.raises(BrainrdlError, match=r"different Unicode forms.*unicodedata.normalize\('NFD', name\)"):
        stimuli.align(names)


def test_align_refuses_sets_with_nothing_in_common() -> None:
    with pytest.raises(BrainrdlError, match="no name in common"):
        digits(3).align(["x", "y"], allow_missing=True)


# Transforms


def test_the_default_transform_is_what_torchvision_does(folder: Path) -> None:
    from torchvision.transforms import v2

    theirs = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize(16, antialias=True),
            v2.CenterCrop(16),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    ours = Stimuli.from_folder(folder, default_transform(16)).images()
    torch.testing.assert_close(ours, Stimuli.from_folder(folder, theirs).images())


def test_files_and_arrays_of_the_same_pixels_give_the_same_tensors(folder: Path) -> None:
    files = Stimuli.from_folder(folder, default_transform(16))
    pixels = np.stack([np.array(Image.open(folder / f"{name}.png")) for name in files.names])
    arrays = Stimuli.from_arrays(pixels, files.names, transform=default_transform(16))
    torch.testing.assert_close(arrays.images(), files.images(), rtol=0, atol=1e-6)


def test_a_square_image_is_not_cropped_and_a_wide_one_keeps_its_centre() -> None:
    image = torch.zeros(1, 3, 8, 24)
    image[..., 8:16] = 1
    stimuli = Stimuli.from_arrays(image, ["a"], transform=default_transform(8, "none"))
    assert torch.equal(stimuli.images(), torch.ones(1, 3, 8, 8))
    frame = torch.ones(1, 1, 8, 8)
    frame[..., 1:-1, 1:-1] = 0
    assert torch.equal(default_transform(8, "none", 1)(frame), frame)


def test_grey_is_repeated_and_colour_becomes_luma() -> None:
    assert default_transform(4, "none")(torch.rand(2, 1, 4, 4)).shape == (2, 3, 4, 4)
    green = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1).expand(3, 4, 4)
    assert default_transform(4, "none", 1)(green).mean().item() == pytest.approx(0.587)


def test_normalisation_centres_and_scales() -> None:
    x = torch.rand(3, 4, 4)
    torch.testing.assert_close(default_transform(4, (0.5, 0.25))(x), (x - 0.5) / 0.25)
    per_channel = default_transform(4, ((0.1, 0.2, 0.3), (1, 2, 4)))(x)
    torch.testing.assert_close(per_channel[2], (x[2] - 0.3) / 4)


def test_the_repr_of_the_default_transform_shows_its_values_and_no_address() -> None:
    shown = repr(default_transform(224, (0.5, 0.25)))
    assert shown == repr(default_transform(224, (0.5, 0.25)))
    assert "0x" not in shown
    assert all(value in shown for value in ("224", "0.5", "0.25"))


@pytest.mark.slow
def test_the_repr_of_the_default_transform_is_the_same_in_every_process() -> None:
    code = "from brainrdl.stimuli import default_transform as t; print(repr(t(224, (0.5, 0.25))))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == repr(default_transform(224, (0.5, 0.25)))
    assert repr(default_transform(224)) != repr(default_transform(224, "none"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "at least 1 pixel, got 0"),
        ((8, "imagnet"), "normalise 'imagnet' is not known; nearest: 'imagenet'"),
        ((8, (0.5, 0.0)), "std of normalise must be positive"),
        ((8, ((0.5, 0.5), 1)), r"1 or 3 numbers for 3 channels, got \(0.5, 0.5\)"),
        ((8, "none", 2), "channels must be 1 .* got 2"),
        ((8, "imagenet", 1), "for 3 channels"),
    ],
)
def test_impossible_transforms_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        default_transform(*arguments)


def test_other_transforms_get_an_rgb_pil_image_or_a_float_rgb_tensor(folder: Path) -> None:
    seen: list[Any] = []

    def note(image: Any) -> torch.Tensor:
        seen.append(image)
        return torch.zeros(1, 2, 2)

    Stimuli.from_folder(folder, note).images(["ann"])
    Stimuli.from_arrays(np.zeros((1, 4, 4), np.uint8), ["a"], transform=note).images()
    Stimuli.from_arrays(np.zeros((1, 4, 4)), ["a"], transform=note).images()
    assert [image.mode for image in seen[:2]] == ["RGB", "RGB"]
    assert isinstance(seen[2], torch.Tensor)
    assert seen[2].shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda image: image, "must return a tensor .* got Image for image 'n0'"),
        (lambda image: torch.zeros(3), r"float tensor \(c, h, w\), got torch.float32 \(3,\) for image 'n0'"),
        (lambda image: torch.zeros(3, 2, 2, dtype=torch.uint8), "got torch.uint8"),
        ("resize", "callable or None, got 'resize'"),
    ],
)
def test_a_transform_that_returns_no_image_is_refused(transform: Any, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        digits().with_transform(transform).images()


def test_a_transform_of_floats_outside_0_to_1_is_refused() -> None:
    stimuli = Stimuli.from_arrays(np.full((1, 4, 4), 16.0), ["a"])
    with pytest.raises(BrainrdlError, match="go from 16 to 16; rescale"):
        stimuli.with_transform(default_transform(8))
    assert stimuli.with_transform(None).images().max() == 16


def test_a_transform_can_be_changed_and_removed(folder: Path) -> None:
    stimuli = Stimuli.from_folder(folder, default_transform(8)).cached()
    assert stimuli.images().shape == (3, 3, 8, 8)
    assert stimuli.with_transform(default_transform(4)).images().shape == (3, 3, 4, 4)
    assert stimuli.with_transform(None).images().shape == (3, 3, 24, 24)


# Cache and digests


def test_a_cached_image_is_loaded_once_and_shared_with_selections(folder: Path) -> None:
    plain = Stimuli.from_folder(folder, default_transform(8))
    cached = plain.cached()
    expected = plain.images(["cat", "ann"])
    assert torch.equal(cached.images(["cat", "ann", "cat"])[:2], expected)
    for name in ("ann", "cat"):
        (folder / f"{name}.png").unlink()
    assert torch.equal(cached.select(["ann", "cat"]).images(["cat", "ann"]), expected)
    assert cached.images(["bob", "ann"]).shape == (2, 3, 8, 8)


def test_a_random_transform_is_not_cached() -> None:
    with pytest.raises(BrainrdlError, match="a cache, a look, a score and a teacher need a deterministic transform"):
        digits().with_transform(lambda image: torch.rand(1, 4, 4)).cached()
    draws = iter([0.0, 0.0] + 20 * [1.0])  # acts now and then, as a random flip does
    with pytest.raises(BrainrdlError, match="a different image each time"):
        digits().with_transform(lambda image: torch.full((1, 4, 4), next(draws))).cached()
    assert digits().with_transform(lambda image: torch.zeros(1, 4, 4)).cached().images().shape == (5, 1, 4, 4)


def test_digests_of_files_are_those_of_their_bytes(folder: Path) -> None:
    import hashlib

    digests = Stimuli.from_folder(folder).digests(["bob"])
    assert digests == {"bob": hashlib.sha256((folder / "bob.png").read_bytes()).hexdigest()}


def test_digests_differ_with_pixels_types_and_shapes_only() -> None:
    def digest(images: Any) -> str:
        return Stimuli.from_arrays(images, ["a"]).digests()["a"]

    zeros = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    one = zeros.clone()
    one[0, 0, 0, 0] = 1
    different = [zeros, one, zeros.float(), torch.zeros(1, 1, 2, 8, dtype=torch.uint8), zeros.bfloat16()]
    assert len({digest(images) for images in different}) == 5
    assert digest(zeros) == digest(np.zeros((1, 4, 4, 1), np.uint8))


# Data sets


class Counting(Dataset[Any]):
    """Twelve images as PIL, and a count of how many were loaded."""

    def __init__(self, labelled: bool = True) -> None:
        self.loaded = 0
        self.labelled = labelled

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> Any:
        self.loaded += 1
        image = Image.new("L", (4, 4), i)
        return (image, i) if self.labelled else image


class WithTargets(Counting):
    targets = tuple(range(12))
    classes = tuple("lkjihgfedcba")


def test_a_data_set_is_loaded_item_by_item_when_requested() -> None:
    items = WithTargets()
    stimuli = Stimuli.from_dataset(items)
    before = items.loaded
    assert stimuli.names[:2] == ("00000", "00001")
    batch = stimuli.batch(["00007", "00003"])
    assert items.loaded - before == 2
    assert value_of(batch.images) == [7, 3]
    assert batch.images.shape == (2, 1, 4, 4)
    assert batch.labels.tolist() == [7, 3]  # type: ignore[union-attr]


def test_categories_keep_the_order_of_the_classes_so_that_labels_are_logits() -> None:
    stimuli = Stimuli.from_dataset(WithTargets())
    assert stimuli.categories == tuple("lkjihgfedcba")
    assert stimuli.labels is not None
    assert stimuli.labels["00002"] == "j"


def test_labels_come_from_the_items_where_there_are_no_targets() -> None:
    items = Counting()
    stimuli = Stimuli.from_dataset(items)
    assert items.loaded <= 1
    assert stimuli.categories[:2] == ("00", "01")
    assert stimuli.batch(["00011"]).labels.tolist() == [11]  # type: ignore[union-attr]


def test_a_data_set_of_bare_images_has_no_labels() -> None:
    stimuli = Stimuli.from_dataset(Counting(labelled=False))
    assert stimuli.labels is None
    assert value_of(stimuli.images(["00004"])) == [4]


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: Subset(x, [4, 2, 0])])
def test_a_tensor_data_set_is_indexed_directly(wrap: Any) -> None:
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 3, 3)
    stimuli = Stimuli.from_dataset(wrap(TensorDataset(images, torch.arange(5) * 2)))
    last = stimuli.names[-1]
    assert value_of(stimuli.images([last, "00001"])) == ([4, 1] if len(stimuli) == 5 else [0, 2])
    assert stimuli.labels == dict(zip(stimuli.names, "02468" if len(stimuli) == 5 else "840", strict=True))


def mnist_like(transform: Any = None) -> Any:
    from torchvision.datasets import VisionDataset

    class Fake(VisionDataset):
        data = torch.randint(0, 256, (20, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        targets = torch.arange(20) % 10
        reads = 0

        def __len__(self) -> int:
            return 20

        def __getitem__(self, i: int) -> Any:
            self.reads += 1
            image: Any = Image.fromarray(self.data[i].numpy())
            return (image if self.transform is None else self.transform(image)), int(self.targets[i])

    return Fake(transform=transform)


@pytest.mark.parametrize("kind", ["none", "ToTensor", "flip"])
def test_the_fast_path_gives_exactly_the_items(kind: str) -> None:
    from torchvision import transforms

    flip = transforms.Compose([transforms.RandomHorizontalFlip(1.0), transforms.ToTensor()])
    items = mnist_like({"none": None, "ToTensor": transforms.ToTensor(), "flip": flip}[kind])
    stimuli = Stimuli.from_dataset(items)
    reads = items.reads
    got = stimuli.images()
    assert (items.reads == reads) == (kind != "flip")
    to_tensor = transforms.ToTensor()
    expected = torch.stack([x if isinstance(x := items[i][0], torch.Tensor) else to_tensor(x) for i in range(20)])
    torch.testing.assert_close(got, expected)


def test_a_transform_that_spares_some_items_is_still_applied_to_the_others() -> None:
    from torchvision.transforms.functional import to_tensor

    items = mnist_like()
    spared = [to_tensor(items[i][0]) for i in (0, 10, 19)]  # those that are compared before `.data` is trusted

    def invert(image: Image.Image) -> torch.Tensor:
        x = to_tensor(image)
        return x if any(torch.equal(x, other) for other in spared) else 1 - x

    expected = 1 - to_tensor(items[4][0])
    items.transform = invert
    torch.testing.assert_close(Stimuli.from_dataset(items).images(["00004"])[0], expected)


def test_a_subclass_whose_items_are_not_its_data_is_read_by_item() -> None:
    items = mnist_like()
    items.data = items.data.clone()
    items.__class__.__getitem__ = lambda self, i: (Image.new("L", (6, 6), i), 0)
    assert value_of(Stimuli.from_dataset(items).images(["00009"])) == [9]


class Items(list[Any]):
    pass


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (Items(), "data set Items is empty"),
        (iter([1]), "has no length"),
        (Items([("text", 0)]), "image of item 0 of data set Items: expected a PIL image, .* got str"),
        (Items([(torch.full((1, 2, 2), torch.nan), 0)]), "4 of 4 values are NaN or Inf in image of item 0"),
        (Items([(np.zeros((2, 2), np.int64), 0)]), "must be uint8"),
        (Items([(torch.zeros(5, 2, 2), 0)]), "1, 3 or 4 channels, got 5"),
    ],
)
def test_items_that_are_not_images_are_refused(items: Any, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        Stimuli.from_dataset(items).images()


def test_names_and_classes_must_fit_the_data_set() -> None:
    items = TensorDataset(torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 2]))
    with pytest.raises(BrainrdlError, match="2 names for the 3 items"):
        Stimuli.from_dataset(items, names=["a", "b"])
    with pytest.raises(BrainrdlError, match="label 2 has no name: there are 2 classes"):
        _ = Stimuli.from_dataset(items, classes=["a", "b"]).labels
    words = Items([(torch.zeros(1, 2, 2), "dog"), (torch.zeros(1, 2, 2), "cat")])
    with pytest.raises(BrainrdlError, match=r"\['dog'\] are not among the classes \['cat', 'dogs'\]; nearest: 'dogs'"):
        _ = Stimuli.from_dataset(words, classes=["cat", "dogs"]).labels


def data_set(n: int = 600) -> TensorDataset:
    return TensorDataset(torch.randint(0, 256, (n, 28, 28), dtype=torch.uint8), torch.arange(n) % 10)


def test_a_batch_of_many_images_in_memory_needs_as_many_operations_as_one_of_few(operations) -> None:
    stimuli = Stimuli.from_dataset(data_set())
    with operations() as few:
        stimuli.batch(stimuli.names[:2])
    with operations() as many:
        stimuli.batch(stimuli.names[::6])
    assert many.called == few.called


def test_labels_and_digests_of_images_in_memory_neither_copy_nor_convert_an_image(operations) -> None:
    items = data_set()
    with operations() as done:
        stimuli = Stimuli.from_dataset(items)
        assert len(stimuli.labels or ()) == len(stimuli.digests()) == 600
    assert not done.made


def test_mnist_has_the_pixels_and_labels_of_torchvision(data_folder: Path, tmp_path: Path) -> None:
    import gzip

    from torchvision.datasets import MNIST

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (data_folder / "mnist").glob("t10k*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    for path in (data_folder / "mnist").glob("train-labels*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    (raw / "train-images-idx3-ubyte").touch()  # torchvision asks whether all four are there
    items = MNIST(str(tmp_path), train=False)
    stimuli = Stimuli.from_dataset(items)
    assert len(stimuli) == 10_000
    batch = stimuli.batch(["00007", "09999"])
    assert batch.labels.tolist() == [items[7][1], items[9999][1]]  # type: ignore[union-attr]
    np.testing.assert_allclose(batch.images[0, 0] * 255, np.array(items[7][0]), atol=1e-4)


def test_the_92_images_load_from_their_folder(algonauts92: Path) -> None:
    stimuli = Stimuli.from_folder(algonauts92 / "images", default_transform(64))
    assert len(stimuli) == 92
    assert stimuli.images(stimuli.names[:3]).shape == (3, 3, 64, 64)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_too_large_to_decode_safely_is_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stimuli = Stimuli.from_folder(folder)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    with pytest.raises(BrainrdlError, match=r"ann\.png' is too large to decode safely .*store it smaller"):
        Stimuli.from_folder(folder)
    with pytest.raises(BrainrdlError, match=r"'ann\.png' in stimulus folder .* is too large to decode safely"):
        stimuli.images(["ann"])


def test_a_name_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"names \['b\\udce4r'\] of .* are not valid Unicode"):
        Stimuli.from_arrays(torch.rand(2, 1, 4, 4), ["cat", "b\udce4r"])


def test_pixels_have_the_digest_of_any_other_tensor() -> None:
    pixels = torch.rand(2, 1, 4, 4)
    assert Stimuli.from_arrays(pixels, ["a", "b"]).digests()["b"] == digest_tensor(pixels[1])


def test_pairs_are_of_one_category_or_of_two_in_the_order_of_the_names() -> None:
    labels = {"cat": "animal", "car": "thing", "dog": "animal", "cup": "thing"}
    assert different_category(["cat", "car", "dog", "cup"], labels).tolist() == [1, 0, 1, 1, 0, 1]
    assert different_category(["dog", "cat", "cup"], labels).tolist() == [0, 1, 1]
    assert different_category(["dog", "cat", "cup"], labels).dtype == torch.float64


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"


def test_a_format_that_needs_another_program_is_refused_whatever_the_file_is_called(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "cat.png")
    (tmp_path / "dog.png").write_bytes(EPS)
    with pytest.raises(
        BrainrdlError, match=r"\['dog.png'\] in .* cannot be read as images \(PNG, JPEG, GIF, BMP, TIFF"
    ):
        Stimuli.from_folder(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "loop", "dangling link"])
def test_what_is_not_a_file_is_refused_without_opening_it(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "cat.png")
    if kind == "pipe":
        os.mkfifo(tmp_path / "dog.png")
    else:
        (tmp_path / "dog.png").symlink_to("dog.png" if kind == "loop" else "nowhere.png")
    with pytest.raises(BrainrdlError, match=r"\['dog.png'\] in .* are not files but pipes, devices or broken links"):
        Stimuli.from_folder(tmp_path)
