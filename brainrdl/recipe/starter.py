"""The template: every key of every section with its explanation, allowed values and default."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from brainrdl._core.options import Names, Option, Spelling, words_for
from brainrdl.recipe.schema import Recipe, section_of

_WIDTH = 100

_HEAD = """\
# A brainrdl recipe. Try: brainrdl fit recipe.yaml --out runs/first
#
# All keys are listed. A line such as "#name: value" shows a key with its default value; to change it, remove the #.
# Paths are relative to the folder where the command is run, and may use ~ and $VARIABLES.
"""

_YAML = Spelling(
    {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", NoneType: "null"}
)

_STARTER: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "stimuli": {"folder": "images/"},
        "teacher": {"rdms": "it.h5"},
        "student": {
            "model": "resnet18",
            "weights": "DEFAULT",
            "layers": ["layer3"],
            "pool": "avgpool",
            "standardise": True,
            "projection": "square",
            "trainable": "projection",
        },
        "fit": {"steps": 60, "evaluate_every": 4},
        "evaluation": {"folds": 5, "seeds": [0, 1, 2], "inner_folds": 4},
    }
)

_LIMITS = (("ge", "at least {}"), ("gt", "above {}"), ("lt", "below {}"))  # attributes of pydantic's constraints


def template() -> str:
    """Return a commented template as YAML text; it explains every key.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> check(yaml.safe_load(template())).student.model
    'resnet18'
    """
    sections = Recipe.model_fields.items()
    return _HEAD + "".join(f"\n{_section(name, section_of(field.annotation))}" for name, field in sections)


def _section(name: str, section: Any) -> str:
    given = _STARTER.get(name, {})
    text = inspect.getdoc(section) or ""
    keys = (line for key, field in section.model_fields.items() for line in ("", *_key(key, field, given)))
    return "\n".join([f"{name}:", *_comment(text), *keys]) + "\n"


def _key(key: str, field: FieldInfo, given: Mapping[str, Any]) -> Iterator[str]:
    default = "required" if field.is_required() else f"default: {as_yaml(field.get_default(call_default_factory=True))}"
    yield from _comment(str(field.description).replace("``", "`"))
    yield from _comment(f"{allowed(field)} ({default})", "  #   ")
    if key in given:
        yield f"  {key}: {as_yaml(given[key])}"
    else:
        yield f"  #{key}: {as_yaml(field.get_default(call_default_factory=True))}"


def allowed(field: FieldInfo) -> str:
    """Describe the allowed values of a key in words."""
    for mark in field.metadata:
        if isinstance(mark, Option):
            return mark.allowed(_YAML)
        if isinstance(mark, Names):
            return "{" + ", ".join(mark.known()) + "}"
    limits = [
        words.format(getattr(mark, bound))
        for mark in field.metadata
        for bound, words in _LIMITS
        if hasattr(mark, bound)
    ]
    return words_for(field.annotation, _YAML, limits)


def _comment(text: str, margin: str = "  # ") -> list[str]:
    words = " ".join(text.split())
    return textwrap.wrap(words, _WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


def as_yaml(value: Any) -> str:
    """Write a value on one line of YAML."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
