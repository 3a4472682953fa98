"""Recipes are checked before any work, and say what is wrong and where."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from brainrdl import BrainrdlError, recipe
from brainrdl._core.errors import Argument
from brainrdl.recipe.spelling import in_recipe


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("fit.stepps", 3, r"unknown key fit.stepps; nearest: 'steps'"),
        ("teachr", {}, r"unknown key teachr; nearest: 'teacher'"),
        ("fit.zzz", 3, r"unknown key fit.zzz \(known: rdm_weight, "),
        ("fit.steps", "many", r"recipe: fit.steps must be a whole number, at least 0, got 'many'"),
        ("fit.steps", "5", r"fit.steps must be a whole number, at least 0, got '5'"),
        ("fit.steps", True, r"fit.steps must be a whole number, at least 0, got True"),
        ("fit.steps", 2.5, r"fit.steps must be a whole number, at least 0, got 2.5"),
        ("fit.lr", True, r"fit.lr must be a finite number above 0, got True"),
        ("fit.lr", "fast", r"fit.lr must be a finite number above 0, got 'fast'"),
        ("fit.lr", float("inf"), r"fit.lr must be a finite number above 0, got inf"),
        ("fit.validation", "x", r"fit.validation: should be a number or a list, got 'x'"),
        (
            "student.projection",
            "x",
            r"student.projection: should be a whole number or 'square' or 'diagonal', got 'x'",
        ),
        ("stimuli.cached", 1, r"stimuli.cached: should be true or false, got 1"),
        ("fit", 3, r"fit: should be a section of keys, got 3"),
        ("stimuli", None, "stimuli is missing"),
        ("evaluation.seeds", [0, -1], r"each of evaluation.seeds must be a whole number, at least 0 .*, got -1"),
        ("evaluation.seeds", [2**32], r"each of evaluation.seeds must .* below 4294967296, got 4294967296"),
        (
            "evaluation.inner_folds",
            1,
            r"evaluation.inner_folds: one fold leaves no stimuli .* give 0 for no folds, or 2 or more",
        ),
        (
            "teacher.options",
            {"names": "x"},
            r"teacher.options: 'names' is not an option of a reader; write rdms, names and by",
        ),
        ("fit.lr", -1, r"fit.lr must be a finite number above 0, got -1"),
        ("fit.optimizer", "adan", r"recipe: fit.optimizer 'adan' is not known; nearest: 'adam'"),
        ("evaluation.folds", 1, r"evaluation.folds must be a whole number, at least 2, got 1"),
        ("evaluation.comparators", ["corrr"], r"evaluation.comparators: 'corrr' is not known; nearest: 'corr'"),
        ("evaluation.stratify", 1, r"evaluation.stratify must be True or False, got 1"),
        ("student.layers", None, r"student.layers"),
        ("teacher.combine", "median", r"teacher.combine: .*'mean'.*got 'median'"),
        (
            "teacher.network",
            "resnet18",
            r"teacher: give exactly one of rdms, features, network, several, got rdms, network",
        ),
        ("evaluation.held_out", 0.2, r"evaluation: give folds or held_out, not both"),
    ],
)
def test_wrong_recipe_is_refused_by_key_and_value(content: dict, place: str, value: object, message: str) -> None:
    *sections, key = place.split(".")
    section = content
    for name in sections:
        section = section[name]
    section[key] = value
    with pytest.raises(BrainrdlError, match=message):
        recipe.check(content)


@pytest.mark.parametrize("held_out", [[], 0, 0.0, 1, 1.5, -0.2, float("nan")])
def test_held_out_that_is_nothing_or_no_share_is_refused(content: dict, held_out: object) -> None:
    content["evaluation"] = {"held_out": held_out}
    with pytest.raises(
        BrainrdlError, match=r"evaluation.held_out: give names, or a fraction between 0 and 1, .*; got "
    ):
        recipe.check(content)


def test_set_changes_keys_in_yaml(content: dict, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    loaded = recipe.load(path, ["fit.lr=1.0e-4", "evaluation.seeds=[1, 2]", "loss.half_life=5"])
    assert (loaded.fit.lr, loaded.evaluation.seeds, loaded.loss.half_life) == (1e-4, [1, 2], 5)
    with pytest.raises(BrainrdlError, match=r"--set expects section\.key=value, got 'fit.lr'"):
        recipe.load(path, ["fit.lr"])
    with pytest.raises(BrainrdlError, match="'lr' is 1, not a section"):
        recipe.load(path, ["fit.lr=1", "fit.lr.x=1"])


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "is not YAML"), ("- a", "should contain sections"), (None, "cannot read recipe")]
)
def test_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BrainrdlError, match=message):
        recipe.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            b"fit: {}\nloss: {}\nfit: {steps: 3}",
            r"key 'fit' occurs twice, in line 1 \('fit: \{\}'\) and in line 3 \('fit: ",
        ),
        (b"fit:\n  lr: 1\n  lr: 2", r"recipe '.*': key 'lr' occurs twice, in line 2 \('lr: 1'\) and in line 3"),
        (b"fit:\n\tlr: 1", "is not YAML: .* at line 2, column 1.*; indent with spaces, not with tabs"),
        (b"\xff\xfe\x00", r"is not UTF-8 text \(invalid start byte at byte 0\); save it as UTF-8"),
    ],
)
def test_recipe_that_yaml_would_misread_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "recipe.yaml").write_bytes(text)
    with pytest.raises(BrainrdlError, match=message):
        recipe.load(tmp_path / "recipe.yaml")


def test_empty_section_takes_the_defaults_and_may_be_filled(content: dict, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content | {"fit": None, "loss": None}))
    assert recipe.load(path) == recipe.check({key: content[key] for key in content if key != "fit"})
    assert recipe.load(path, ["fit.steps=3"]).fit.steps == 3


def test_the_word_no_may_be_written_without_quotes(content: dict) -> None:
    assert recipe.check(content | yaml.safe_load("fit: {mixed_precision: no}")).fit.mixed_precision == "no"


def test_number_may_be_written_without_a_point(content: dict) -> None:
    assert recipe.check(content | yaml.safe_load("fit: {lr: 1e-4, weight_decay: 0}")).fit.lr == 1e-4


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"stimuli: !!python/object/apply:os.mkdir ['{tmp_path}/made']")
    with pytest.raises(BrainrdlError, match="is not YAML"):
        recipe.load(path)
    assert not (tmp_path / "made").exists()


def test_set_with_a_value_that_is_not_yaml_is_refused(content: dict, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(BrainrdlError, match=r"--set 'evaluation.seeds=\[1': '\[1' is not YAML"):
        recipe.load(path, ["evaluation.seeds=[1"])


@pytest.mark.parametrize(
    ("section", "argument", "spelled"),
    [
        ("", Argument("steps", "5"), "fit.steps: 5"),
        ("", Argument("names", of="read"), "teacher.names"),
        ("", Argument("by", of="read"), "teacher.by"),
        ("", Argument("reader", "'ephys'", of="read"), "teacher.options.reader: ephys"),
        ("", Argument("layers", of="read"), "teacher.options.layers"),
        ("", Argument("decimal", "','", of="read"), "teacher.options.decimal: ','"),
        ("", Argument("allow_missing", "True"), "stimuli.allow_missing: true"),
        ("", Argument("dissimilarity", "'euclidean'", of="teacher"), "teacher.dissimilarity: euclidean"),
        ("loss", Argument("dissimilarity", advised=False), "loss.dissimilarity"),
        ("", Argument("dissimilarity"), None),  # teacher and loss have one: neither is guessed
        ("", Argument("batch_size"), "fit.batch_size"),  # the task has one as well: without a section, that of the fit
        ("task", Argument("batch_size"), "task.batch_size"),
        ("", Argument("match"), "student.layers: {layer: target}"),
        ("", Argument("resume", "True"), None),
    ],
)
def test_arguments_in_messages_are_spelled_as_keys(section: str, argument: Argument, spelled: str | None) -> None:
    assert in_recipe(section)(argument) == spelled
