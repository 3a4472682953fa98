"""The store of a frozen network's patterns: keys that differ with everything they depend on, and complete files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from brainrdl._core.errors import BrainrdlError
from brainrdl._core.files import digest_tensor
from brainrdl.models.feature_cache import FolderStore, MemoryStore, digest_network, key_of


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_store_returns_what_was_stored(tmp_path: Path) -> None:
    for store in (MemoryStore(), FolderStore(tmp_path / "new" / "folder")):
        pattern = torch.rand(5)
        store.put("abc", pattern)
        found = store.get("abc")
        assert found is not None
        assert torch.equal(found, pattern)
        assert store.get("abd") is None


def test_memory_keeps_a_copy() -> None:
    store, pattern = MemoryStore(), torch.zeros(2)
    store.put("k", pattern)
    pattern += 1
    found = store.get("k")
    assert found is not None
    assert found.sum() == 0


def test_a_folder_is_shared_between_stores(tmp_path: Path) -> None:
    FolderStore(tmp_path).put("abc", torch.ones(2))
    assert FolderStore(tmp_path).get("abc") is not None


def test_a_row_of_a_larger_tensor_is_stored_alone(tmp_path: Path) -> None:
    FolderStore(tmp_path).put("abc", torch.rand(1000, 10)[3])
    assert files(tmp_path)[0].stat().st_size < 1000


@pytest.mark.parametrize("content", [b"", b"not a safetensors file at all"])
def test_a_broken_file_counts_as_missing_and_is_written_again(tmp_path: Path, content: bytes) -> None:
    store = FolderStore(tmp_path)
    store.put("abc", torch.ones(2))
    files(tmp_path)[0].write_bytes(content)
    assert store.get("abc") is None
    store.put("abc", torch.ones(2))
    assert store.get("abc") is not None


def test_a_truncated_file_counts_as_missing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("abc", torch.ones(200))
    path = files(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-40])
    assert store.get("abc") is None


def test_a_write_that_fails_leaves_nothing_under_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(BrainrdlError, match=r"cannot write .*: disk full"):
        FolderStore(tmp_path).put("abc", torch.ones(2))
    assert FolderStore(tmp_path).get("abc") is None
    assert files(tmp_path) == []


def test_keys_differ_if_the_parts_differ() -> None:
    assert key_of(["a", "b"]) != key_of(["b", "a"])
    assert key_of(["a', 'b"]) != key_of(["a", "b"])


@pytest.mark.parametrize(
    "other",
    [torch.ones(4), torch.zeros(2, 2), torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.bfloat16)],
)
def test_digests_differ_with_value_shape_and_type(other: torch.Tensor) -> None:
    assert digest_tensor(other) != digest_tensor(torch.zeros(4))
    assert digest_tensor(torch.zeros(4)) == digest_tensor(torch.zeros(4))


def test_digests_do_not_depend_on_memory_layout() -> None:
    x = torch.rand(3, 4)
    assert digest_tensor(x.T.contiguous().T) == digest_tensor(x)


def test_a_networks_digest_follows_weights_buffers_and_structure() -> None:
    def make(stride: int = 1) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 2, 3, stride=stride), nn.BatchNorm2d(2))

    known = digest_network(make())
    assert digest_network(make()) == known
    assert digest_network(make(stride=2)) != known
    changed = make()
    with torch.no_grad():
        changed[0].weight[0, 0, 0, 0] += 1e-3
    assert digest_network(changed) != known
    moved = make()
    moved[1].running_mean += 1  # type: ignore[operator]
    assert digest_network(moved) != known
