"""The store of a frozen network's patterns: keys that differ with everything they depend on, and complete files."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from brainrdl._core.errors import BrainrdlError
from brainrdl._core.files import digest_tensor
from brainrdl.models.feature_cache import MemoryStore, ShardStore, digest_network, key_of

ROWS = torch.arange(12.0).reshape(3, 4)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def part(folder: Path, suffix: str) -> Path:
    return next(folder.glob(f"*{suffix}"))


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_store_returns_what_was_stored_as_it_returned_it_then(tmp_path: Path, precision: str) -> None:
    for store in (MemoryStore(precision), ShardStore(tmp_path / "new" / "folder", precision)):
        put = store.put("fc", ["a", "b", "c"], ROWS / 3)
        assert same(store.get("fc", ["c", "x", "a"]), {"c": put["c"], "a": put["a"]})
        assert put["c"].dtype == getattr(torch, precision)
        assert store.get("conv", ["a"]) == {}


def test_memory_keeps_a_copy() -> None:
    store, patterns = MemoryStore(), torch.zeros(1, 2)
    store.put("fc", ["k"], patterns)
    patterns += 1
    assert store.get("fc", ["k"])["k"].sum() == 0


def test_a_folder_is_shared_between_stores_of_one_precision(tmp_path: Path) -> None:
    first, second = ShardStore(tmp_path), ShardStore(tmp_path)
    first.put("fc", ["a"], ROWS[:1])
    assert second.get("fc", ["a", "b"]).keys() == {"a"}
    first.put("fc", ["b"], ROWS[1:2])
    assert same(second.get("fc", ["a", "b"]), {"a": ROWS[0], "b": ROWS[1]})
    assert ShardStore(tmp_path, "float16").get("fc", ["a"]) == {}


def test_a_group_has_two_files_however_many_patterns_there_are(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    for start in range(0, 1000, 100):
        store.put("fc", [str(start + i) for i in range(100)], torch.rand(100, 8))
    assert len(files(tmp_path)) == 2
    assert part(tmp_path, ".rows").stat().st_size == 1000 * 8 * 4


def test_patterns_of_other_sizes_can_share_a_group(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    store.put("fc", ["a"], ROWS[:1])
    store.put("fc", ["b"], ROWS[:1, :2])
    assert same(ShardStore(tmp_path).get("fc", ["a", "b"]), {"a": ROWS[0], "b": ROWS[0, :2]})


def test_a_pattern_is_added_once_by_two_stores(tmp_path: Path) -> None:
    first, second = ShardStore(tmp_path), ShardStore(tmp_path)
    assert second.get("fc", ["a"]) == {}
    first.put("fc", ["a", "b"], ROWS[:2])
    second.put("fc", ["b", "c"], ROWS[1:])
    assert part(tmp_path, ".rows").stat().st_size == 3 * 4 * 4
    assert same(first.get("fc", ["a", "b", "c"]), dict(zip("abc", ROWS, strict=True)))


@pytest.mark.parametrize("suffix", [".rows", ".index"])
def test_flipped_bits_are_found_and_the_pattern_is_added_again(tmp_path: Path, suffix: str) -> None:
    ShardStore(tmp_path).put("fc", ["a", "b", "c"], ROWS)
    path = part(tmp_path, suffix)
    content = bytearray(path.read_bytes())
    for place in range(len(content)):
        content[place] ^= 16
        path.write_bytes(content)
        found = ShardStore(tmp_path).get("fc", ["a", "b", "c"])
        lost = "abc"[place * 3 // len(content)]
        assert same(found, {key: row for key, row in zip("abc", ROWS, strict=True) if key != lost})
        content[place] ^= 16
    content[0] ^= 1
    path.write_bytes(content)
    store = ShardStore(tmp_path)
    assert store.get("fc", ["a"]) == {}
    store.put("fc", ["a"], ROWS[:1])
    for one in (store, ShardStore(tmp_path)):
        assert same(one.get("fc", ["a", "b", "c"]), dict(zip("abc", ROWS, strict=True)))


@pytest.mark.parametrize("suffix", [".rows", ".index"])
def test_files_that_were_cut_off_lose_only_the_patterns_at_the_end(tmp_path: Path, suffix: str) -> None:
    ShardStore(tmp_path).put("fc", ["a", "b", "c"], ROWS)
    path = part(tmp_path, suffix)
    path.write_bytes(path.read_bytes()[:-5])
    store = ShardStore(tmp_path)
    assert same(store.get("fc", ["a", "b", "c"]), {"a": ROWS[0], "b": ROWS[1]})
    store.put("fc", ["c"], ROWS[2:])
    for one in (store, ShardStore(tmp_path)):
        assert same(one.get("fc", ["a", "b", "c"]), dict(zip("abc", ROWS, strict=True)))


def test_rows_without_records_of_a_killed_process_are_written_over(tmp_path: Path) -> None:
    ShardStore(tmp_path).put("fc", ["a"], ROWS[:1])
    with part(tmp_path, ".rows").open("ab") as file:
        file.write(b"half a row")
    store = ShardStore(tmp_path)
    store.put("fc", ["b"], ROWS[1:2])
    assert same(ShardStore(tmp_path).get("fc", ["a", "b"]), {"a": ROWS[0], "b": ROWS[1]})


def _fill(folder: Path, start: int) -> None:
    store = ShardStore(folder)
    for n in range(start, start + 40):
        store.put("fc", [str(n)], torch.full((1, 16), float(n)))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12 and later
def test_processes_can_fill_a_folder_at_the_same_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fill, args=(tmp_path, start)) for start in (0, 20, 40)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = ShardStore(tmp_path).get("fc", [str(n) for n in range(80)])
    assert same(found, {str(n): torch.full((16,), float(n)) for n in range(80)})
    assert part(tmp_path, ".rows").stat().st_size == 80 * 16 * 4


def test_a_store_in_another_process_opens_the_files_itself(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    store.put("fc", ["a"], ROWS[:1])
    assert len(pickle.dumps(store)) < 500
    assert same(pickle.loads(pickle.dumps(store)).get("fc", ["a"]), {"a": ROWS[0]})


def test_patterns_without_room_are_refused_before_they_are_written(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    with pytest.raises(BrainrdlError, match=r"need 3725290.30 GiB, but the disk of cache folder .* GiB free"):
        store.check_room(10**15)
    with pytest.raises(BrainrdlError, match=r"need 3725290.30 GiB, but the memory of this computer has .* GiB free"):
        MemoryStore().check_room(10**15)
    assert files(tmp_path) == []


def test_values_too_large_for_half_precision_are_refused(tmp_path: Path) -> None:
    for store in (MemoryStore("float16"), ShardStore(tmp_path, "float16")):
        with pytest.raises(BrainrdlError, match=r"values up to 1e\+05 cannot be stored as float16 \(at most 65504\)"):
            store.put("fc", ["a"], torch.tensor([[1.0, 1e5]]))
    with pytest.raises(BrainrdlError, match="cache_precision 'half' is not known"):
        MemoryStore("half")


def test_folders_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrainrdlError, match="cannot make cache folder"):
        ShardStore(tmp_path / "file")


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
