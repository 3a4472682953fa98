"""The template explains every key of every section, and is a recipe, with the keys switched off or on."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache

import pytest
import yaml

from brainrdl import recipe
from brainrdl.recipe.schema import Recipe, section_of

OFF = re.compile(r"^  #(?=\w+: )", re.MULTILINE)
SECTIONS = {name: section_of(field.annotation) for name, field in Recipe.model_fields.items()}
KEYS = [(section, key) for section, model in SECTIONS.items() for key in model.model_fields]


@cache
def template() -> str:
    return recipe.template()


@cache
def content() -> dict:
    return yaml.safe_load(template())


@cache
def switched_on() -> dict:
    return yaml.safe_load(OFF.sub("  ", template()))


def explained(section: str, key: str) -> str:
    """Give the comment above a key of the template."""
    (text,) = re.findall(rf"^{section}:\n((?:  .*\n|\n)+)", template(), re.MULTILINE)
    (comment,) = re.findall(rf"\n\n((?:  # .*\n)+)  #?{key}: ", "\n" + text)
    return " ".join(re.sub(r"^  # *", "", comment, flags=re.MULTILINE).split())


def test_the_template_is_a_recipe_with_every_section_that_survives_being_written_out() -> None:
    assert set(content()) == set(SECTIONS)
    made = recipe.check(content())
    assert recipe.check(yaml.safe_load(recipe.dump(made))) == made


def test_switching_every_key_of_the_template_on_changes_nothing() -> None:
    assert {(section, key) for section, keys in switched_on().items() for key in keys} == set(KEYS)
    optional = {name for name, field in Recipe.model_fields.items() if field.default is None}
    on = {section: keys for section, keys in switched_on().items() if section not in optional}
    assert recipe.check(on) == recipe.check(content())
    assert recipe.check(switched_on())


@pytest.mark.parametrize(("section", "key"), KEYS, ids=[".".join(place) for place in KEYS])
def test_a_key_is_in_the_template_with_its_help_what_it_may_be_and_its_default(section: str, key: str) -> None:
    field = SECTIONS[section].model_fields[key]
    *_, told = explained(section, key).partition(" ".join(str(field.description).replace("``", "`").split()) + " ")
    allowed, _, default = told.partition(" (")
    assert allowed
    if field.is_required():
        assert default == "required)"
        return
    value = field.get_default(call_default_factory=True)
    assert yaml.safe_load(default.removeprefix("default: ").removesuffix(")")) == value
    if key not in (content()[section] or {}):
        assert switched_on()[section][key] == value


@pytest.mark.parametrize(
    ("section", "key", "allowed"),
    [
        ("fit", "optimizer", "{adam, adamw, sgd, momentum, rmsprop} (default: adam)"),
        ("fit", "clip", "number, above 0, or null (default: null)"),
        ("evaluation", "folds", "whole number, at least 2, or null (default: null)"),
        ("evaluation", "comparators", "list of {cosine, corr, spearman, tau-a,"),
        ("evaluation", "controls", "list of {unfitted, reweighted, permuted, permuted_within_class,"),
        ("loss", "dissimilarity", "{euclidean, correlation, cosine,"),
        ("stimuli", "cached", "true or false (default: true)"),
        ("stimuli", "first", "whole number, above 0, or null"),
        ("teacher", "names", "path, list of text, or null"),
        ("student", "projection", "whole number, {square, diagonal}, or null"),
        ("student", "layers", "list of text, or mapping of text to text, or mapping of text to number (required)"),
    ],
)
def test_the_template_says_what_a_key_may_be(section: str, key: str, allowed: str) -> None:
    assert allowed in explained(section, key)


def test_the_template_is_printed_without_loading_torch() -> None:
    code = "import sys; from brainrdl.recipe import template; template(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert not {"torch", "numpy", "pandas", "torchvision", "rsatoolbox"} & set(done.stdout.split())
    assert "brainrdl.recipe.starter" in done.stdout.split(), done.stderr
