"""Folders of categories, data sets with columns, and sets so large that not every image is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset
from torchvision.datasets import ImageFolder

from brainrdl._core.errors import BrainrdlError
from brainrdl.stimuli import image_sources
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.training.loading import Loader


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two categories with images that share names."""
    random = np.random.default_rng(0)
    for category in ("dog", "cat"):
        (tmp_path / category).mkdir()
        for name in ("a.png", "b.x.png", "c.bmp"):
            Image.fromarray(random.integers(0, 255, (6, 6, 3), dtype=np.uint8)).save(tmp_path / category / name)
    return tmp_path


def test_subfolders_are_categories_as_for_torchvision(tree: Path) -> None:
    stimuli, theirs = Stimuli.from_folder(tree), ImageFolder(str(tree))
    assert stimuli.names == ("cat/a", "cat/b.x", "cat/c", "dog/a", "dog/b.x", "dog/c")
    assert list(stimuli.categories) == theirs.classes
    batch = stimuli.batch(stimuli.names)
    assert batch.labels is not None
    assert batch.labels.tolist() == theirs.targets
    expected = [torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 for image, _ in theirs]
    assert torch.equal(batch.images, torch.stack(expected))
    assert Stimuli.from_dataset(theirs).categories == stimuli.categories
    assert torch.equal(Stimuli.from_dataset(theirs).images(), batch.images)


def test_given_labels_replace_the_subfolders(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    names = Stimuli.from_folder(tree).names
    assert Stimuli.from_folder(tree, labels=dict.fromkeys(names, "animal")).categories == ("animal",)


def test_an_empty_category_and_deeper_folders_are_refused(tree: Path) -> None:
    (tree / "owl").mkdir()
    with pytest.raises(BrainrdlError, match=r"folder 'owl' in stimulus folder .* contains no images"):
        Stimuli.from_folder(tree)
    (tree / "owl" / "white").mkdir()
    with pytest.raises(BrainrdlError, match=r"contains folders \['owl/white'\]; only one level is read"):
        Stimuli.from_folder(tree)


def test_a_file_without_suffix_keeps_its_name(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "bare", format="PNG")
    assert Stimuli.from_folder(tmp_path).names == ("bare",)
    assert Stimuli.from_folder(tmp_path).images().shape == (1, 3, 2, 2)


@pytest.fixture
def huge(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, as if it were too large to read all of it."""
    monkeypatch.setattr(image_sources, "MANY", 4)
    monkeypatch.setattr(image_sources, "_OPENED", 2)
    return tree


def test_of_many_files_some_are_opened_and_the_others_are_refused_when_loaded(huge: Path) -> None:
    (huge / "cat" / "b.x.png").write_bytes(b"no image")
    stimuli = Stimuli.from_folder(huge)
    with pytest.raises(BrainrdlError, match=r"'b\.x\.png' in stimulus folder .* cannot be decoded"):
        stimuli.images()
    (huge / "dog" / "a.png").write_bytes(b"no image")
    with pytest.raises(BrainrdlError, match=r"\['a.png'\] in stimulus folder .* cannot be read as images"):
        Stimuli.from_folder(huge)


def test_many_files_are_identified_by_name_size_and_time(huge: Path) -> None:
    before = Stimuli.from_folder(huge).digests()
    assert Stimuli.from_folder(huge).digests() == before
    assert len(set(before.values())) == 6
    times = (huge / "cat" / "a.png").stat()
    os.utime(huge / "cat" / "a.png", ns=(times.st_atime_ns, times.st_mtime_ns + 10**9))
    (huge / "dog" / "c.bmp").write_bytes((huge / "dog" / "c.bmp").read_bytes() + b"1")
    after = Stimuli.from_folder(huge).digests()
    assert {name for name in before if before[name] != after[name]} == {"cat/a", "dog/c"}
    for path in huge.glob("*/*"):  # the category is part of the name
        path.write_bytes(b"1")
        os.utime(path, ns=(0, 0))
    assert len({image_sources.Files(sorted(huge.glob("*/*")), "").digest(i) for i in range(6)}) == 6


def test_many_items_are_identified_by_position_and_some_pixels(huge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_sources, "_SAMPLED", 3)
    before = Stimuli.from_dataset(ImageFolder(str(huge))).digests()
    assert len(set(before.values())) == 6
    assert Stimuli.from_dataset(ImageFolder(str(huge))).digests() == before
    Image.new("RGB", (6, 6)).save(huge / "cat" / "a.png")
    assert not set(Stimuli.from_dataset(ImageFolder(str(huge))).digests().values()) & set(before.values())


class Mappings:
    """Items as HuggingFace's `datasets` gives them."""

    def __init__(self, **keys: str) -> None:
        self.keys = keys

    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> dict[str, Any]:
        if not 0 <= i < 3:
            raise IndexError(i)
        values = {"image": Image.new("RGB", (4, 4), (i, 0, 0)), "label": i % 2}
        return {self.keys.get(key, key): value for key, value in values.items()} | {"id": i}


def test_items_that_are_mappings_are_read_by_their_columns() -> None:
    stimuli = Stimuli.from_dataset(Mappings(), classes=["cat", "dog"])
    assert stimuli.labels == {"00000": "cat", "00001": "dog", "00002": "cat"}
    assert stimuli.images()[:, 0, 0, 0].mul(255).tolist() == [0, 1, 2]
    renamed = Mappings(image="photo", label="kind")
    assert torch.equal(Stimuli.from_dataset(renamed, columns=["photo"]).images(), stimuli.images())
    assert Stimuli.from_dataset(renamed, columns=["photo"]).labels is None
    assert Stimuli.from_dataset(renamed, columns=["photo", "kind"]).categories == ("0", "1")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (None, r"have the keys \['photo', 'label', 'id'\], none of which is .*columns="),
        (["photos"], "column 'photos' is not known; nearest: 'photo'"),
        (["photo", "kind"], "column 'kind' is not known"),
        ("photo", "columns must be the name of the images, or of the images and the labels"),
    ],
)
def test_wrong_columns_are_refused(columns: Any, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        Stimuli.from_dataset(Mappings(image="photo"), columns=columns)


def test_columns_of_items_that_are_not_mappings_are_refused(tree: Path) -> None:
    with pytest.raises(BrainrdlError, match="are not mappings"):
        Stimuli.from_dataset(ImageFolder(str(tree)), columns=["image"])


def test_a_stream_is_refused_with_other_ways() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield from Mappings()

    with pytest.raises(BrainrdlError, match=r"A stream .* no images by name.*load_dataset\('webdataset'"):
        Stimuli.from_dataset(Stream())


def test_a_data_set_of_huggingface_is_read_and_loaded_by_processes() -> None:
    datasets = pytest.importorskip("datasets", reason="HuggingFace datasets is not installed: pip install brainrdl[hf]")
    items = {"img": [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(6)], "label": [0, 1, 2] * 2}
    features = datasets.Features(img=datasets.Image(), label=datasets.ClassLabel(names=["owl", "cat", "dog"]))
    stimuli = Stimuli.from_dataset(datasets.Dataset.from_dict(items, features=features))
    assert stimuli.categories == ("owl", "cat", "dog")
    assert [stimuli.labels[name] for name in stimuli.names] == ["owl", "cat", "dog"] * 2
    assert stimuli.images()[:, 0, 0, 0].mul(255).round().tolist() == list(range(6))
    with Loader(stimuli, lambda step: stimuli.names[step:], seed=0, augmented=False, workers=1, device="cpu") as loader:
        assert torch.equal(loader.at(2).images, stimuli.images()[2:])
