"""Checksums: one changed bit in any file of results is refused by name, or changes no value that is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from brainrdl._core import files
from brainrdl._core.errors import BrainrdlError

CONTENT = {"lr": 0.1, "nan": float("nan"), "names": ["é", "b"], "nested": {"none": None, "seed": 7}}
TENSORS = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}


def flipped(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def write_json(path: Path) -> None:
    files.write_json(path, CONTENT)


def write_safetensors(path: Path) -> None:
    files.write_safetensors(path, TENSORS, {"step": 3})


def same(found: Any, expected: Any) -> bool:
    if isinstance(found, tuple):
        tensors, facts = found
        return facts == expected[1] and all(torch.equal(tensors[key], value) for key, value in expected[0].items())
    return json.dumps(found) == json.dumps(expected)  # NaN is not equal to itself


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "read"), [(write_json, files.read_json), (write_safetensors, files.read_safetensors)]
)
def test_any_flipped_bit_is_refused_by_name_or_changes_nothing(
    tmp_path: Path, write: Callable[[Path], None], read: Callable[[Path], Any]
) -> None:
    path = tmp_path / "it.x"
    write(path)
    whole, expected = path.read_bytes(), read(path)
    refused = []
    for bit in range(8 * len(whole)):
        path.write_bytes(whole)
        flipped(path, bit)
        try:
            assert same(read(path), expected)
        except BrainrdlError as error:
            refused.append(str(error))
    assert all("it.x'" in message for message in refused)
    assert len(refused) > 0.97 * 8 * len(whole)  # the rest: upper case in an escaped letter


def test_weights_that_cannot_be_are_found_by_the_checksum_whatever_they_are(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for value in (2e37, float("nan"), float("inf"), 0.5):
        write_safetensors(path)
        tensors = load_file(path)
        tensors["w"][0, 0] = value
        with files.safe_open(path, framework="pt") as file:
            header = file.metadata()
        save_file(tensors, path, metadata=header)
        with pytest.raises(BrainrdlError, match=r"w.safetensors' has changed since it was written"):
            files.read_safetensors(path)


def test_a_safetensors_file_of_another_program_has_no_facts(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.safetensors", metadata={"format": "pt"})
    tensors, facts = files.read_safetensors(tmp_path / "w.safetensors")
    assert torch.equal(tensors["w"], TENSORS["w"])
    assert facts == {}


def test_json_that_was_edited_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(text.replace("0.1", "0.2"))
    with pytest.raises(BrainrdlError, match=r"a.json' has changed since it was written"):
        files.read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(text.replace("\n", "\r\n"))  # as another system may write it
    assert same(files.read_json(tmp_path / "a.json"), CONTENT)


def test_files_are_known_by_digests_that_are_stored_elsewhere(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x\n1\n")
    known = files.digests_of(tmp_path, ["a.csv", "b.csv"])
    files.check_digests(tmp_path, known, "write it again")
    (tmp_path / "b.csv").write_text("x\n3\n")
    with pytest.raises(BrainrdlError, match=r"b.csv' has changed since it was written.*; write it again$"):
        files.check_digests(tmp_path, known, "write it again")
    (tmp_path / "a.csv").unlink()
    with pytest.raises(BrainrdlError, match=r"cannot read '.*a.csv'"):
        files.check_digests(tmp_path, known, "write it again")


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    done = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda opened: (done.append("sync"), sync(opened)))
    monkeypatch.setattr(Path, "replace", lambda part, path: (done.append("replace"), replace(part, path)))
    with files.atomic(tmp_path / "a.txt", durable) as part:
        part.write_text("a")
    assert done == (["sync", "replace", "sync"] if durable else ["replace"])


@pytest.mark.parametrize("name", ["a\rb", "a\nb", "a\r\nb", 'q"', "c,d", " e ", "NA", "\x1a", "\ufeff", "é\u2028"])
def test_names_of_any_kind_come_back_from_a_table(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame({"name": [name, "b"], "value": [1 / 3, np.nan]})
    files.write_csv(tmp_path / "a.csv", table)
    found = files.read_csv(tmp_path / "a.csv", keep_default_na=False, na_values={"value": [""]})
    pd.testing.assert_frame_equal(found, table)


def test_long_names_of_files_are_cut_and_stay_different() -> None:
    long = "é" * 300
    first, second = files.slug(long, "a"), files.slug(long, "b")
    assert first != second
    assert max(len(first.encode()), len(second.encode())) < 160
    assert files.slug("short", "seed0") == "short-seed0"
