"""A front door gives the right data or a `BrainrdlError`, whatever it is given; docs/reliability.md has the counts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from brainrdl import BrainrdlError, rdms, recipe
from brainrdl._core.files import read_csv, read_json, read_rdms

_spec = importlib.util.spec_from_file_location("hostile_inputs", Path(__file__).with_name("hostile_inputs.py"))
hostile = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hostile)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sound")
    with hostile.quiet():
        hostile.write_files(place)
        hostile.write_folders(place)
    return place


def wrong(found) -> dict:
    return {outcome: count for outcome, count in found.items() if outcome.startswith("wrong")}


@pytest.mark.parametrize("name", hostile.PLAIN)
def test_a_sound_file_is_read_as_by_the_library_of_its_format(folder, name):
    door, expected = hostile.PLAIN[name]
    found = hostile.outcome(lambda: door(folder / name), expected and (lambda: expected(folder / name)))
    assert found == "read"


@pytest.mark.parametrize("name", hostile.DOORS)
def test_a_door_reads_rightly_or_refuses_what_is_damaged(folder, name):
    assert not wrong(hostile.tried(name, folder, 6))


@pytest.mark.slow
@pytest.mark.parametrize("name", hostile.DOORS)
def test_a_door_reads_rightly_or_refuses_hundreds_of_damaged_inputs(folder, name):
    assert not wrong(hostile.tried(name, folder, 300))


# Recipes


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{k}: &a{k} [{','.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12)
)
RECIPES = {
    BOMB: r"the aliases in line 5 .* repeat more than 200,000 letters",
    "a: &a [*a]": "or a value contains itself",
    "[" * 100_000: "is nested in more than 30 levels",
    "".join(" " * k + "a:\n" for k in range(400)): "line 30 .* is nested in more than 30 levels",
    "stimuli: " + "x" * 50_000_000: "has 50,000,009 bytes, but a recipe has at most 200,000; put long lists into files",
    "a:\n" + "- a\n" * 40_000: "there are more than 5,000 keys and values",
    "stimuli: " + "x" * 150_000: r"stimuli: should be a section of keys, got 'x+\.\.\. \(150,002 letters\)",
    "".join(f"key{k}: 1\n" for k in range(200)): "; and 183 more",
    "a: 2001-99-99": "is not what its tag or form says: ValueError: month must be in 1..12",
    "a: !!bool maybe": "is not what its tag or form says: KeyError: 'maybe'",
    "a: " + "9" * 10_000: "is not what its tag or form says: ValueError: Exceeds the limit",
    "!!python/object/apply:os.system ['ls']": "could not determine a constructor for the tag",
}


@pytest.mark.parametrize("text", RECIPES, ids=range(len(RECIPES)))
def test_a_hostile_recipe_is_refused_in_a_short_message(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(BrainrdlError, match=RECIPES[text]) as refusal:
        recipe.load(tmp_path / "recipe.yaml")
    assert len(str(refusal.value)) < 2000


def test_an_alias_of_a_few_values_is_allowed(tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        "stimuli: {folder: images}\nteacher: {rdms: &file it.h5}\nstudent: {model: *file, layers: [pool]}\n"
    )
    assert recipe.load(tmp_path / "recipe.yaml").student.model == "it.h5"


@pytest.mark.parametrize("path", [".", "a\0b", "/dev/null"])
def test_a_recipe_that_is_not_a_file_is_refused(path):
    with pytest.raises(BrainrdlError, match="is not a file"):
        recipe.load(path)


# Files of a run


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "{", "\0"])
def test_a_hostile_json_file_is_refused(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(BrainrdlError, match="is not JSON"):
        read_json(tmp_path / "settings.json")


def test_a_table_and_rdms_of_other_bytes_are_refused(tmp_path):
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 8)
    for door in (read_csv, read_rdms):
        with pytest.raises(BrainrdlError, match="cannot read"):
            door(tmp_path / "bytes")


@pytest.mark.parametrize("shape", [(0,), (0, 0), (2, 0), (2, 0, 0)])
def test_an_array_without_values_is_not_an_rdm(shape):
    with pytest.raises(BrainrdlError, match=r"array is empty: its shape is \("):
        rdms.from_array(np.empty(shape), None)


def test_rows_of_different_lengths_are_not_an_rdm():
    with pytest.raises(BrainrdlError, match="array is not an array of numbers"):
        rdms.from_array([[1.0, 2.0], [3.0]], None)
